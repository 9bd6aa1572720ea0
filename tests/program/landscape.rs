//! The loss around a model.

use altiplano::measure::landscape::{OneAxis, direction};
use altiplano::nn::tensors::{Named, load, to_bytes};
use serde_json::Value;

use crate::program::{Scratch, train};

const SMALL: [&str; 8] = ["landscape", "--quiet", "--data", "digits", "--images", "60", "--size", "3"];

fn losses(answer: &Value, model: usize) -> Vec<Vec<f64>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
    answer["models"][model]["losses"].as_array().unwrap().iter().map(row).collect()
}

/// The loss of a model on the first 60 test images, by another command.
fn loss(scratch: &Scratch, model: &str) -> f64 {
    let options = ["--quiet", "--data", "digits", "--images", "60", "--draws", "1", "--sigmas", "0.01", "--json"];
    scratch.json(&[&["flatness", "--model", model][..], &options].concat())["clean"]["loss"].as_f64().unwrap()
}

#[test]
fn places_around_a_model_are_its_weights_moved() {
    let scratch = Scratch::new();
    scratch.good(&train(&["--epochs", "2", "--images", "200"]));
    let model = "out/best.safetensors";
    let all = |more: &[&str]| -> Value {
        scratch.json(&[&SMALL[..], &["--model", model, "--json", "--force"], more].concat())
    };
    let answer = all(&["--out", "around", "--one-axis", "weights", "--range", "0.5"]);
    assert_eq!(answer["places"], serde_json::json!([-0.5, 0.0, 0.5]));
    let found = losses(&answer, 0);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
    assert!(close(found[1][1], loss(&scratch, model)), "{found:?}");
    // A corner, with weights that this test has moved.
    let (named, metadata) = load(&scratch.path(model)).unwrap();
    let trained: Vec<&str> = named
        .keys()
        .map(String::as_str)
        .filter(|name| !name.contains("running_") && !name.contains("num_batches"))
        .collect();
    let of = |number| direction(&named, trained.iter().copied(), 1, number, OneAxis::Weights).unwrap();
    let directions = [of(0), of(1)];
    let moved = |at: [f64; 2]| -> Named {
        let mut moved = named.clone();
        for name in &trained {
            let values = &mut moved.get_mut(*name).unwrap().data;
            for (i, value) in values.iter_mut().enumerate() {
                let steps = [0, 1].map(|d| at[d] * f64::from(directions[d][*name].data[i]));
                *value = (f64::from(*value) + steps[0] + steps[1]) as f32;
            }
        }
        moved
    };
    for (at, want) in [([0.5, -0.5], found[0][2]), ([-0.5, 0.5], found[2][0])] {
        std::fs::write(scratch.path("moved.safetensors"), to_bytes(&moved(at), metadata.clone()).unwrap()).unwrap();
        let own = loss(&scratch, "moved.safetensors");
        assert!(close(want, own), "{want} and {own} at {at:?}");
    }
    // Along one direction alone it is the middle row; a second model is on the same scale, and with itself the same.
    let row = all(&["--out", "row", "--one-axis", "weights", "--range", "0.5", "--dimensions", "1", "--beside", model]);
    assert!(losses(&row, 0) == [found[1].clone()] && losses(&row, 1) == losses(&row, 0));
    let extremes = found.iter().flatten().fold([f64::INFINITY, 0.0], |[l, h]: [f64; 2], v| [l.min(*v), h.max(*v)]);
    assert_eq!([&answer["min"], &answer["max"]].map(|v| v.as_f64().unwrap()), extremes);
    // More places than are evaluated beside each other, the last ones fewer.
    let many =
        ["landscape", "--quiet", "--data", "digits", "--images", "60", "--size", "9", "--model", model, "--json"];
    let many =
        losses(&scratch.json(&[&many[..], &["--out", "many", "--one-axis", "weights", "--range", "0.5"]].concat()), 0);
    assert!(many.len() == 9 && many.iter().all(|row| row.len() == 9));
    for (y, row) in found.iter().enumerate() {
        row.iter().enumerate().for_each(|(x, loss)| assert!(many[4 * y][4 * x] == *loss, "{x}, {y}"));
    }
    // Still norms are another landscape with the same middle; another seed another one again.
    let still = losses(&all(&["--out", "still", "--range", "0.5"]), 0);
    let seeded = losses(&all(&["--out", "seeded", "--range", "0.5", "--seed", "2"]), 0);
    assert!(still[1][1] == found[1][1] && still[0][0] != found[0][0] && seeded[0][0] != still[0][0]);

    for name in ["landscape.json", "landscape.svg", "landscape.png", "landscape.npy", "curve.svg"] {
        assert!(!scratch.read(&format!("around/{name}")).is_empty(), "{name}");
    }
    let picture = image::load_from_memory(&scratch.read("around/landscape.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (48, 48));
    assert!(!scratch.path("row/landscape.svg").exists() && scratch.path("row/curve.svg").exists());
    // In the folder of the run it is part of the run's page.
    scratch.good(&[&SMALL[..], &["--model", model, "--out", "out/landscape"]].concat());
    scratch.good(&["report", "out"]);
    let page = String::from_utf8(scratch.read("out/report.html")).unwrap();
    assert!(page.contains("The loss around it") && page.contains(" at 0, 0</title>"));
}

#[test]
fn wrong_options_of_landscapes_are_named() {
    let scratch = Scratch::new();
    scratch.good(&train(&["--epochs", "1", "--images", "100"]));
    let model = ["--model", "out/best.safetensors"];
    let bad = |more: &[&str], parts: &[&str]| {
        scratch.bad(2, &[&["landscape", "--data", "digits"][..], &model, more].concat(), parts);
    };
    bad(&["--out", "x", "--size", "4"], &["--size", "odd"]);
    bad(&["--out", "x", "--size", "1001"], &["--size", "201"]);
    bad(&["--out", "x", "--range", "0"], &["--range"]);
    bad(&["--out", "x", "--range", "NaN"], &["--range"]);
    bad(&["--out", "x", "--on", "validation"], &["--on", "test", "train"]);
    bad(&["--out", "x", "--one-axis", "none"], &["--one-axis", "still"]);
    bad(&["--out", "out"], &["--out", "overlap"]);
    bad(&["--out", "x", "--beside", "nowhere.safetensors"], &["nowhere.safetensors"]);
    scratch.write("mine/a.txt", "mine");
    bad(&["--out", "mine"], &["--out", "something else"]);
    scratch.good(&[&SMALL[..], &model, &["--out", "there", "--dimensions", "1"]].concat());
    bad(&["--out", "there"], &["--out", "--force replaces it"]);
}
