//! Several searches at once, and beside each other.

use serde_json::Value;

use crate::SMALL_CROZE;
use crate::program::Scratch;

const MORE: [&str; 4] = ["--epochs", "1", "--arms", "proxy,random"];

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("small.toml", "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.kept_back = 100\n");
    scratch
}

#[test]
fn searches_of_several_seeds_are_compared() {
    let scratch = scratch();
    let several = [&SMALL_CROZE[..], &MORE, &["--search-seeds", "3", "--seed", "4", "--out", "all", "--json"]].concat();
    // But for the time that it took.
    let compared = |args: &[&str]| -> Value {
        let mut answer = scratch.json(args);
        let arms = answer["groups"][0]["arms"].as_array_mut().unwrap();
        arms.iter_mut().for_each(|arm| arm["seconds"] = 0.into());
        answer
    };
    let answer = compared(&several);
    let group = &answer["groups"][0];
    assert_eq!((answer["groups"].as_array().unwrap().len(), &group["seeds"]), (1, &serde_json::json!([4, 5, 6])));
    let result = |seed: u64| -> Value {
        serde_json::from_slice(&scratch.read(&format!("all/seed-{seed}/result.json"))).unwrap()
    };
    let results: Vec<Value> = [4, 5, 6].map(result).into();
    let networks = group["networks"].as_array().unwrap();
    let names: Vec<&str> = networks.iter().map(|row| row["network"].as_str().unwrap()).collect();
    let trained = ["proxy", "random", "largest", "any", "any-2", "any-3"];
    assert_eq!(names, [&["kept"], &trained[..], &["the best of any"]].concat());
    // The networks of a row, one a search.
    let finalists = |result: &Value| result["finalists"].as_array().unwrap().clone();
    let error = |finalist: &Value, name: &str| finalist[name]["mean"].as_f64().unwrap();
    let least = |finalists: Vec<Value>| {
        let by = |a: &Value, b: &Value| error(a, "validation_error").total_cmp(&error(b, "validation_error"));
        finalists.into_iter().min_by(by).unwrap()
    };
    let network = |result: &Value, name: &str| match name {
        "kept" => finalists(result).into_iter().find(|own| own["kept"] == true).unwrap(),
        "the best of any" => least(finalists(result).split_off(3)),
        name => finalists(result).into_iter().find(|own| own["role"] == name).unwrap(),
    };
    let mean = |value: &dyn Fn(&Value) -> f64| results.iter().map(value).sum::<f64>() / 3.0;
    for row in networks {
        let name = row["network"].as_str().unwrap();
        let clean = |result: &Value, name: &str| error(&network(result, name), "clean_error");
        assert!((row["clean_error"].as_f64().unwrap() - mean(&|result| clean(result, name))).abs() < 1e-9, "{row}");
        // By how much the search's own network, and the one that it kept, err less. Three pairs have no bounds.
        for (part, whose) in [("own", "proxy"), ("kept", "kept")] {
            let found = &row[part]["clean"];
            if name == whose {
                assert!(found.is_null(), "{row}");
                continue;
            }
            let gain = mean(&|result| clean(result, name) - clean(result, whose));
            assert!((found["mean"].as_f64().unwrap() - gain).abs() < 1e-9, "{row}");
            assert!(found["pairs"] == 3 && found["bounds"].is_null(), "{row}");
        }
    }
    // By how much one and the same network differs between trainings.
    let largest = networks.iter().find(|row| row["network"] == "largest").unwrap();
    let corrupted = |result: &Value| error(&network(result, "largest"), "mean_corrupted_error");
    let middle = mean(&corrupted);
    let deviation = (mean(&|result| (corrupted(result) - middle).powi(2)) * 3.0 / 2.0).sqrt();
    assert!((largest["corrupted_deviation"].as_f64().unwrap() - deviation).abs() < 1e-9, "{largest}");
    let known = group["goes_with_corrupted_error"].as_object().unwrap();
    assert_eq!(known.keys().collect::<Vec<_>>(), ["clean error", "error on images kept back", "parameters"]);
    assert!(known.values().all(|value| value.as_f64().unwrap().abs() <= 1.0), "{known:?}");
    for arm in group["arms"].as_array().unwrap() {
        let medians: Vec<f64> = arm["best"].as_array().unwrap().iter().map(|at| at[1].as_f64().unwrap()).collect();
        assert!(medians.len() == 6 && medians.windows(2).all(|pair| pair[0] <= pair[1]), "{arm}");
    }
    // What is there is not searched again; a killed search goes on.
    let before = scratch.read("all/seed-5/history.jsonl");
    std::fs::remove_file(scratch.path("all/seed-5/result.json")).unwrap();
    assert_eq!(compared(&several), answer);
    assert!(scratch.read("all/seed-5/history.jsonl") == before);
    // The seeds are those of searches by themselves.
    scratch.good(&[&SMALL_CROZE[..], &MORE, &["--seed", "5", "--out", "alone"]].concat());
    assert!(scratch.read("alone/best.safetensors") == scratch.read("all/seed-5/best.safetensors"));

    let two = ["compare", "all/seed-4", "all/seed-6", "--csv", "table.csv", "--plot", "curves.svg"];
    let text = scratch.good(&two);
    assert!(text.contains("croze on digits (nas-bench-201)") && text.contains("largest"), "{text}");
    let csv = String::from_utf8(scratch.read("table.csv")).unwrap();
    assert!(csv.lines().count() == 9 && csv.starts_with("search,searches,network"), "{csv}");
    assert!(String::from_utf8(scratch.read("curves.svg")).unwrap().contains("2 searches"));
    scratch.bad(2, &two, &["--csv", "--force replaces it"]);
    scratch.bad(2, &["compare", "all/seed-4", "alone", "all/seed-5"], &["all/seed-5", "seed 5 already"]);
    scratch.bad(2, &["compare", "all"], &["all", "no result.json"]);
    earlier_versions_are_compared(&scratch, result(4));
    scratch.write("broken/result.json", "{\"method\": 3}");
    scratch.bad(2, &["compare", "broken"], &["broken/result.json"]);
    scratch.bad(2, &[&SMALL_CROZE[..], &MORE, &["--search-seeds", "0", "--out", "x"]].concat(), &["--search-seeds"]);
    scratch.bad(2, &[&SMALL_CROZE[..], &MORE, &["--search-seeds", "2"]].concat(), &["--out"]);
    // Other settings are another group; over seeds that both have, they are a pair.
    scratch.good(&[&SMALL_CROZE[..], &MORE, &["--seed", "5", "--max-params", "9000", "--out", "small"]].concat());
    let answer = scratch.json(&["compare", "alone", "small", "--json"]);
    assert_eq!(
        (answer["groups"].as_array().unwrap().len(), &answer["pairs"][0]["gains"]["clean"]["pairs"]),
        (2, &1.into())
    );
    scratch.bad(2, &["compare", "alone", "small", "--plot", "x.svg"], &["--plot", "2 kinds"]);
}

/// Results of earlier versions say the same of what they say.
fn earlier_versions_are_compared(scratch: &Scratch, mut earlier: Value) {
    let compare = ["compare", "all/seed-4", "--json"];
    let now = scratch.json(&compare);
    for finalist in earlier["finalists"].as_array_mut().unwrap() {
        ["curve", "by_corruption", "under_noise"]
            .iter()
            .for_each(|name| drop(finalist.as_object_mut().unwrap().remove(*name)));
    }
    assert!(earlier.as_object_mut().unwrap().remove("mistakes").is_some());
    scratch.write("all/seed-4/result.json", earlier.to_string());
    assert_eq!(scratch.json(&compare), now);
}
