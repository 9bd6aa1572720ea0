//! The examples that show the library to other programs, run as programs.

use std::collections::BTreeMap;

use altiplano::nn::card::ModelCard;
use altiplano::nn::tensors::{Named, Values, load, to_bytes};
use altiplano::nn::weights::Weights;
use assert_cmd::Command;

use crate::common::example;
use crate::program::{ARCH, Scratch};

fn run(scratch: &Scratch, name: &str, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(example(name));
    command.args(args).current_dir(scratch.path("")).env("XDG_RUNTIME_DIR", scratch.path(""));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout) + &text(output.stderr))
}

#[test]
fn a_model_is_asked_about_one_picture() {
    let scratch = Scratch::new();
    scratch.image_folder("abc", &["a", "b", "c"], 16);
    let train =
        ["train", "--quiet", "--data", "abc", "--arch", ARCH, "--channels", "4", "--epochs", "2", "--out", "model"];
    scratch.good(&[&train[..], &["--batch", "16"]].concat());
    let (good, text) = run(&scratch, "classify", &["model/best.safetensors", "abc/test/b/1.png"]);
    assert!(good, "{text}");
    let answers: Vec<(&str, f64)> =
        text.lines().map(|line| line.split_once(' ').unwrap()).map(|(class, p)| (class, p.parse().unwrap())).collect();
    assert_eq!(answers.len(), 3);
    assert!((answers.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 2e-4, "{text}");

    // The same by `step` on tensors that are normalised here.
    let card = ModelCard::read(&Weights::read(&scratch.path("model/best.safetensors")).unwrap()).unwrap();
    let bytes = image::open(scratch.path("abc/test/b/1.png")).unwrap().to_luma8().into_raw();
    let normal = |byte: &u8| ((f64::from(*byte) / 255.0 - card.mean[0]) / card.std[0]) as f32;
    let x = Values { dims: vec![1, 1, 8, 8], data: bytes.iter().map(normal).collect() };
    let batch = Named::from([("x".to_owned(), x), ("y".to_owned(), Values { dims: vec![1], data: vec![1.0] })]);
    scratch.write("batch.safetensors", to_bytes(&batch, BTreeMap::new()).unwrap());
    let step = ["step", "--arch", ARCH, "--weights", "model/best.safetensors", "--batch", "batch.safetensors"];
    scratch.good(&[&step[..], &["--out", "step.safetensors"]].concat());
    let logits = load(&scratch.path("step.safetensors")).unwrap().0["logits"].data.clone();
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    for (class, probability) in answers {
        let place = card.classes.iter().position(|own| own == class).unwrap();
        let want = f64::from(logits[place]).exp() / sum;
        assert!((probability - want).abs() < 1e-4, "{class}: {probability} instead of {want}");
    }

    let (good, text) = run(&scratch, "classify", &["abc/test/b/1.png", "abc/test/b/1.png"]);
    assert!(!good && text.contains("1.png"), "{text}");
}

/// The command says what the model is to say of pictures, whatever their size and colour; those of its size are what it was trained on.
#[test]
fn pictures_of_any_size_are_classified() {
    let scratch = Scratch::new();
    scratch.image_folder("abc", &["a", "b", "c"], 16);
    let train =
        ["train", "--quiet", "--data", "abc", "--arch", ARCH, "--channels", "4", "--epochs", "2", "--out", "model"];
    scratch.good(&[&train[..], &["--batch", "16"]].concat());
    fn classify<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["classify"], more, &["--model", "model/best.safetensors"]].concat()
    }
    let (_, text) = run(&scratch, "classify", &["model/best.safetensors", "abc/test/b/1.png"]);
    // Twice as large, and larger on one side, of which the middle counts.
    let own = image::open(scratch.path("abc/test/b/1.png")).unwrap().to_luma8();
    let large = image::RgbImage::from_fn(20, 16, |x, y| {
        let grey = if (2..18).contains(&x) { own.get_pixel((x - 2) / 2, y / 2).0[0] } else { 255 };
        image::Rgb([grey; 3])
    });
    large.save(scratch.path("large.png")).unwrap();
    let many: Vec<&str> = std::iter::once("large.png").chain(std::iter::repeat_n("abc/test/b/1.png", 40)).collect();
    let answer = scratch.json(&classify(&[&many[..], &["--json"]].concat()));
    let pictures = answer["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), 41);
    for picture in &pictures[1..] {
        assert_eq!(picture["picture"], "abc/test/b/1.png");
        for (line, likely) in text.lines().zip(picture["answers"].as_array().unwrap()) {
            let (class, probability) = line.split_once(' ').unwrap();
            let probability: f64 = probability.parse().unwrap();
            assert_eq!(likely["class"], class);
            assert!((likely["probability"].as_f64().unwrap() - probability).abs() < 1e-4, "{line}");
        }
    }
    let probability = |picture: &serde_json::Value, class: &str| {
        let all = picture["answers"].as_array().unwrap().iter();
        all.filter(|own| own["class"] == class).map(|own| own["probability"].as_f64().unwrap()).sum::<f64>()
    };
    for class in ["a", "b", "c"] {
        let (large, own) = (probability(&pictures[0], class), probability(&pictures[1], class));
        assert!((large - own).abs() < 0.1, "{class}: {large} {own}");
    }
    let line = scratch.good(&classify(&["abc/test/b/1.png", "--top", "1"]));
    let first = &pictures[1]["answers"][0];
    let want = format!(
        "abc/test/b/1.png: {} ({:.1} %)\n",
        first["class"].as_str().unwrap(),
        100.0 * first["probability"].as_f64().unwrap()
    );
    assert_eq!(line, want);
    scratch.write("text.png", "text");
    scratch.bad(2, &classify(&["abc/test/b/1.png", "text.png"]), &["text.png", "no picture"]);
    scratch.bad(2, &classify(&["nowhere.png"]), &["nowhere.png"]);
    scratch.bad(2, &classify(&["abc/test/b/1.png", "--top", "0"]), &["--top"]);
    scratch.bad(2, &["classify", "abc/test/b/1.png", "--model", "model"], &["model", "best.safetensors"]);
    let bare = Named::from([("a".to_owned(), Values { dims: vec![1], data: vec![1.0] })]);
    scratch.write("bare.safetensors", to_bytes(&bare, BTreeMap::new()).unwrap());
    scratch.bad(
        2,
        &["classify", "abc/test/b/1.png", "--model", "bare.safetensors"],
        &["bare.safetensors", "which network"],
    );
}

#[test]
fn the_engine_shares_a_programs_device() {
    let scratch = Scratch::new();
    let (good, text) = run(&scratch, "share_device", &[]);
    assert!(good && text.contains("all right") && text.contains("accuracy"), "{text}");
}

#[test]
fn a_search_is_asked_and_told_without_disk_or_device() {
    let scratch = Scratch::new();
    let (good, text) = run(&scratch, "ask_tell", &[]);
    assert!(good && text.contains("resumed and whole agree: true"), "{text}");
    assert!(!text.contains("\n0 of 60 evaluations failed") && text.contains(" of 60 evaluations failed"), "{text}");
    // The front rises in both, within the limit.
    let front = text.lines().filter(|line| line.starts_with("    "));
    let front: Vec<(u64, f64)> = front
        .map(|line| {
            let mut parts = line.split_whitespace();
            (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
        })
        .collect();
    assert!(front.len() > 3 && front.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1), "{text}");
    assert!(front.iter().all(|(params, _)| *params <= 500_000));
    assert_eq!(scratch.files().len(), 0);
}
