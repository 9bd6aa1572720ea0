//! Searches that limit or minimise latencies, which are measured and then stand in the history.

use altiplano::report::folder::{Existing, RunFolder};
use serde_json::{Value, json};

use crate::program::Scratch;

/// A search of eleven candidates, of which NSGA-II on predictions proposes the last.
const SEARCH: [&str; 21] = [
    "search",
    "--quiet",
    "--method",
    "croze",
    "--data",
    "digits",
    "--channels",
    "4",
    "--proxy",
    "synflow",
    "--strategy",
    "surrogate",
    "--surrogate",
    "trees",
    "--evaluations",
    "11",
    "--epochs",
    "1",
    "--attacks",
    "",
    "--arms",
];

fn search(more: &[&str]) -> Vec<String> {
    [&SEARCH[..], &["proxy,random", "--minimize", "latency,params", "--max-latency", "10s"], more]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn run(scratch: &Scratch, args: &[String]) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = scratch.command(&args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(scratch: &Scratch, name: &str) -> String {
    String::from_utf8(scratch.read(name)).unwrap()
}

fn lines(scratch: &Scratch) -> Vec<Value> {
    text(scratch, "run/history.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn result(scratch: &Scratch) -> Value {
    serde_json::from_str(&text(scratch, "run/result.json")).unwrap()
}

/// What the folder keeps of latencies, changed.
fn change(scratch: &Scratch, key: &str, value: Value) {
    let folder = RunFolder::create(scratch.path("run"), Existing::Resume).unwrap();
    let mut table: Value = serde_json::from_slice(&folder.read_checkpoint("latency").unwrap().unwrap()).unwrap();
    table[key] = value;
    folder.checkpoint("latency", &serde_json::to_vec(&table).unwrap()).unwrap();
}

#[test]
fn what_was_measured_stands_in_the_history_and_is_read_from_there() {
    let scratch = Scratch::new();
    run(&scratch, &search(&["--out", "run"]));
    let (found, history) = (result(&scratch), lines(&scratch));
    assert_eq!(history.len(), 22);
    for line in &history {
        let latency = line["measures"]["latency"].as_f64().unwrap();
        assert!(latency > 0.0 && latency < 1e4, "{line}");
        // A network that both arms evaluated has one latency.
        let twin = history.iter().find(|other| other["arch"] == line["arch"]).unwrap();
        assert_eq!(twin["measures"]["latency"], line["measures"]["latency"]);
    }
    for own in found["front"].as_array().unwrap() {
        let objectives = own["objectives"].as_array().unwrap();
        assert_eq!((&objectives[1], objectives.len()), (&own["measures"]["latency"], 3));
        assert_eq!(objectives[2].as_f64(), own["params"].as_f64());
    }
    assert_eq!(found["reproducible"], false);
    assert!(found["varies"][0].as_str().unwrap().contains("latencies were measured"), "{found}");
    let summary = &found["latency"];
    assert!(summary["adapter"].is_string() && summary["dispatches"].as_u64().unwrap() > 10, "{summary}");
    assert!(found["finalists"].as_array().unwrap().iter().all(|own| own["latency"].as_f64().unwrap() > 0.0));
    assert!(text(&scratch, "run/table.csv").lines().next().unwrap().contains("latency (ms)"));

    // Had the adapter been another one, the front would be too: what the history says counts.
    let mut changed: Vec<Value> = history.clone();
    for (place, line) in changed.iter_mut().enumerate() {
        let first = history.iter().position(|other| other["arch"] == line["arch"]).unwrap_or(place);
        line["measures"]["latency"] = json!(100.0 + first as f64);
    }
    let all: String = changed.iter().map(|line| format!("{line}\n")).collect();
    scratch.write("run/history.jsonl", &all);
    // Other searches begin with these candidates, and not with latencies of who knows where.
    let mut warm = search(&["--warm-start", "run/history.jsonl", "--out", "warm"]);
    let evaluations = warm.iter().position(|arg| arg == "--evaluations").unwrap() + 1;
    warm[evaluations] = "1".to_owned();
    run(&scratch, &warm);
    let given = text(&scratch, "warm/history.jsonl");
    let given: Vec<Value> = given.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(given.iter().filter(|line| line["given"] == true).count(), 11);
    assert!(given.iter().all(|line| line["measures"]["latency"].as_f64().unwrap() < 100.0));
    run(&scratch, &search(&["--out", "run", "--resume"]));
    assert_eq!(lines(&scratch), changed);
    for own in result(&scratch)["front"].as_array().unwrap() {
        let line = changed.iter().find(|line| line["arch"] == own["arch"]).unwrap();
        assert_eq!(own["objectives"][1], line["measures"]["latency"]);
    }
}

/// What is trained at the end is within the limit as it counts, which is measured where the table is far off; where the table counts and was
/// wrong, the user is told.
#[test]
fn finalists_are_held_against_the_limit() {
    let scratch = Scratch::new();
    run(&scratch, &search(&["--out", "run"]));
    let measured: Vec<f64> = lines(&scratch).iter().map(|line| line["measures"]["latency"].as_f64().unwrap()).collect();
    let middle = {
        let mut sorted = measured.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    // Where other work has made the machine slower since, a wider limit does.
    let within = |limit: &f64| {
        let limit = format!("{limit}ms");
        scratch.run(&[&SEARCH[..], &["proxy,random", "--out", "limited", "--force", "--max-latency", &limit]].concat())
    };
    let limit = [1.0, 3.0, 9.0].map(|times| times * middle).into_iter().find(|limit| within(limit).code == 0).unwrap();
    let result: Value = serde_json::from_slice(&scratch.read("limited/result.json")).unwrap();
    let folder = RunFolder::create(scratch.path("limited"), Existing::Resume).unwrap();
    let table: Value = serde_json::from_slice(&folder.read_checkpoint("latency").unwrap().unwrap()).unwrap();
    drop(folder);
    let counts = result["latency"]["by"] == "a table of dispatches";
    for own in result["finalists"].as_array().unwrap() {
        let latency = own["latency"].as_f64().unwrap();
        assert_eq!(Some(latency), table["measured"][own["arch"].as_str().unwrap()].as_f64(), "measured once");
        assert!(counts || latency <= limit, "{latency} of {limit}: {own}");
    }
    for own in result["front"].as_array().unwrap() {
        assert!(own["measures"]["latency"].as_f64().unwrap() <= limit);
    }
}

/// A table that predicts well is believed; one of another adapter is not.
#[test]
fn a_table_counts_where_it_predicts_well_and_where_it_was_measured() {
    let scratch = Scratch::new();
    run(&scratch, &search(&["--out", "run"]));
    let begun: Vec<Value> = lines(&scratch).into_iter().take(9).collect();
    let text: String = begun.iter().map(|line| format!("{line}\n")).collect();
    scratch.write("run/history.jsonl", &text);
    change(&scratch, "deviation", json!([0.05, 4]));
    change(&scratch, "line", json!({"overhead": 5000.0, "slope": 0.0}));
    run(&scratch, &search(&["--out", "run", "--resume"]));
    let history = lines(&scratch);
    assert_eq!(history[..9], begun);
    let new = history[9..].iter().filter(|line| begun.iter().all(|old| old["arch"] != line["arch"]));
    let new: Vec<&Value> = new.collect();
    assert!(!new.is_empty() && new.iter().all(|line| line["measures"]["latency"] == 5000.0), "{new:?}");
    assert_eq!(result(&scratch)["latency"]["by"], "a table of dispatches");
    // Finalists are measured all the same.
    let finalists = result(&scratch)["finalists"].as_array().unwrap().clone();
    assert!(finalists.iter().all(|own| own["latency"].as_f64().unwrap() < 5000.0), "{finalists:?}");

    change(&scratch, "made_on", json!(["Radeon of elsewhere", "RADV", "0.1.0", "without checks"]));
    let args = search(&["--out", "run", "--resume"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // The run is as it was, and says for those who watch it why it did not go on.
    let before = scratch.files();
    scratch.stops(2, &args, &["latencies", "Radeon of elsewhere, RADV", "--device", "--force"]);
    let said: Value = serde_json::from_slice(&scratch.read("run/progress.json")).unwrap();
    assert!(said["state"] == "failed" && said["why"].as_str().unwrap().contains("Radeon of elsewhere"), "{said}");
    std::fs::remove_file(scratch.path("run/progress.json")).unwrap();
    assert_eq!(scratch.files(), before);
}

#[test]
fn limits_that_no_network_keeps_and_other_wrong_inputs_are_named() {
    let scratch = Scratch::new();
    for (args, message) in [
        (&["--max-latency", "1us"][..], "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, takes"),
        (&["--max-latency", "5"], "with its unit"),
        (&["--max-latency", "0ms"], "with its unit"),
        (&["--minimize", "speed"], "params, macs, latency"),
        (&["--minimize", ""], "params, macs, latency"),
        (&["--minimize", "latency,latency"], "there twice"),
    ] {
        let args = [&["search", "--method", "croze", "--data", "digits", "--channels", "4", "--out", "run"], args];
        scratch.bad(2, &args.concat(), &[message]);
        assert!(!scratch.path("run").exists(), "{args:?} left a folder");
    }
    scratch.write("wrong.toml", "max_latency = -3.0\n");
    scratch.bad(2, &["search", "--config", "wrong.toml", "--out", "run"], &["--max-latency", "-3"]);
    scratch.write("wrong.toml", "minimize = []\n");
    scratch.bad(2, &["search", "--config", "wrong.toml", "--out", "run"], &["--minimize", "nothing"]);
}
