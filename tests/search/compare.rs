//! Several searches at once, and beside each other.

use serde_json::Value;

use crate::program::Scratch;

const SEARCH: [&str; 20] = [
    "search",
    "--quiet",
    "--data",
    "digits",
    "--config",
    "small.toml",
    "--method",
    "croze",
    "--channels",
    "4",
    "--pool",
    "4",
    "--epochs",
    "1",
    "--attacks",
    "",
    "--evaluations",
    "6",
    "--arms",
    "proxy,random",
];

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("small.toml", "finals.judged_images = 20\nfinals.noise.draws = 2\n");
    scratch
}

#[test]
fn searches_of_several_seeds_are_compared() {
    let scratch = scratch();
    let several = [&SEARCH[..], &["--search-seeds", "3", "--seed", "4", "--out", "all", "--json"]].concat();
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
    assert_eq!(names, ["proxy", "random", "largest", "any"]);
    for (place, row) in networks.iter().enumerate() {
        let error = |result: &Value, place: usize| result["finalists"][place]["clean_error"]["mean"].as_f64().unwrap();
        let mean = results.iter().map(|result| error(result, place)).sum::<f64>() / 3.0;
        assert!((row["clean_error"].as_f64().unwrap() - mean).abs() < 1e-9, "{row}");
        // By how much the search's own network errs less. Three pairs have no bounds.
        if place > 0 {
            let gain = results.iter().map(|result| error(result, place) - error(result, 0)).sum::<f64>() / 3.0;
            let own = &row["clean_gain"];
            assert!(
                (own["mean"].as_f64().unwrap() - gain).abs() < 1e-9 && own["pairs"] == 3 && own["bounds"].is_null()
            );
        }
    }
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
    scratch.good(&[&SEARCH[..], &["--seed", "5", "--out", "alone"]].concat());
    assert!(scratch.read("alone/best.safetensors") == scratch.read("all/seed-5/best.safetensors"));

    let two = ["compare", "all/seed-4", "all/seed-6", "--csv", "table.csv", "--plot", "curves.svg"];
    let text = scratch.good(&two);
    assert!(text.contains("croze on digits (nas-bench-201)") && text.contains("largest"), "{text}");
    let csv = String::from_utf8(scratch.read("table.csv")).unwrap();
    assert!(csv.lines().count() == 5 && csv.starts_with("search,searches,network"), "{csv}");
    assert!(String::from_utf8(scratch.read("curves.svg")).unwrap().contains("2 searches"));
    scratch.bad(2, &two, &["--csv", "--force replaces it"]);
    scratch.bad(2, &["compare", "all/seed-4", "alone", "all/seed-5"], &["all/seed-5", "seed 5 already"]);
    scratch.bad(2, &["compare", "all"], &["all", "no result.json"]);
    scratch.write("broken/result.json", "{\"method\": 3}");
    scratch.bad(2, &["compare", "broken"], &["broken/result.json"]);
    scratch.bad(2, &[&SEARCH[..], &["--search-seeds", "0", "--out", "x"]].concat(), &["--search-seeds"]);
    scratch.bad(2, &[&SEARCH[..], &["--search-seeds", "2"]].concat(), &["--out"]);
    // Other settings are another group; over seeds that both have, they are a pair.
    scratch.good(&[&SEARCH[..], &["--seed", "5", "--max-params", "9000", "--out", "small"]].concat());
    let answer = scratch.json(&["compare", "alone", "small", "--json"]);
    assert_eq!(
        (answer["groups"].as_array().unwrap().len(), &answer["pairs"][0]["clean_gain"]["pairs"]),
        (2, &1.into())
    );
    scratch.bad(2, &["compare", "alone", "small", "--plot", "x.svg"], &["--plot", "2 kinds"]);
}
