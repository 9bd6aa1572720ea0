//! Runs that go on beyond their end, that begin with what others found, and that take another run's supernet.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::program::Scratch;

/// Settings of seconds: of croze with its three arms, and of genas with one beside it.
const CROZE: [&str; 10] = ["--method", "croze", "--channels", "4", "--pool", "4", "--epochs", "1", "--attacks", ""];
const GENAS: [&str; 12] = [
    "--method",
    "genas",
    "--channels",
    "4",
    "--supernet-epochs",
    "1",
    "--draws",
    "1",
    "--epochs",
    "1",
    "--arms",
    "flatness,random",
];

fn search<'a>(out: &'a str, own: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["search", "--quiet", "--data", "digits", "--config", "small.toml", "--out", out], own, more].concat()
}

fn scratch(method: &str) -> Scratch {
    let scratch = Scratch::new();
    let own = match method {
        "genas" => "strategy = { population = 3, parents = 2, mutations = 1, crossovers = 1 }\nevaluator.images = 50\n",
        _ => "strategy.moves = 3\n",
    };
    scratch.write("small.toml", format!("finals.judged_images = 20\nfinals.noise.draws = 2\n{own}"));
    scratch
}

fn result(scratch: &Scratch, run: &str) -> Value {
    let mut result: Value = serde_json::from_slice(&scratch.read(&format!("{run}/result.json"))).unwrap();
    result["seconds"] = 0.into();
    result["arms"].as_array_mut().unwrap().iter_mut().for_each(|arm| arm["seconds"] = 0.into());
    result
}

/// Lines of a history, in their order, by arm.
fn history(scratch: &Scratch, run: &str) -> BTreeMap<String, Vec<String>> {
    let text = String::from_utf8(scratch.read(&format!("{run}/history.jsonl"))).unwrap();
    let mut arms = BTreeMap::<String, Vec<String>>::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        arms.entry(entry["arm"].as_str().unwrap().to_owned()).or_default().push(line.to_owned());
    }
    arms
}

#[test]
fn extended_it_is_as_if_begun_so() {
    for (method, own) in [("croze", &CROZE[..]), ("genas", &GENAS)] {
        let scratch = scratch(method);
        scratch.good(&search("run", own, &["--evaluations", "5"]));
        let few = history(&scratch, "run");
        scratch.good(&["search", "--quiet", "--extend", "--evaluations", "11", "--out", "run"]);
        scratch.good(&search("whole", own, &["--evaluations", "11"]));
        let (got, want) = (history(&scratch, "run"), history(&scratch, "whole"));
        assert_eq!(got, want, "{method}");
        assert!(few.iter().all(|(arm, lines)| lines[..] == got[arm][..5] && got[arm].len() == 11), "{method}");
        assert!(scratch.read("run/best.safetensors") == scratch.read("whole/best.safetensors"), "{method}");
        assert_eq!(result(&scratch, "run"), result(&scratch, "whole"), "{method}");
        // What was extended goes on as it is now.
        scratch.good(&["search", "--quiet", "--resume", "--out", "run"]);
        scratch.bad(
            2,
            &["search", "--resume", "--evaluations", "5", "--out", "run"],
            &["evaluations is 11 in the run"],
        );
        scratch.bad(2, &["search", "--extend", "--out", "run"], &["--extend", "--evaluations or --time"]);
        let other = ["search", "--extend", "--evaluations", "12", "--lr", "0.3", "--out", "run"];
        scratch.bad(2, &other, &["training.lr", "a run goes on as it began"]);
        scratch.bad(2, &["search", "--extend", "--evaluations", "12", "--out", "none"], &["there is no run in none"]);
    }
}

#[test]
fn it_begins_with_what_another_found() {
    let scratch = scratch("croze");
    scratch.good(&search("first", &CROZE, &["--evaluations", "6", "--seed", "9"]));
    scratch.good(&search(
        "second",
        &CROZE,
        &["--evaluations", "7", "--arms", "proxy", "--warm-start", "first/history.jsonl"],
    ));
    let (first, second) = (history(&scratch, "first"), history(&scratch, "second"));
    let value = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let entries: Vec<Value> = second["proxy"].iter().map(value).collect();
    let given: Vec<&Value> = entries.iter().filter(|entry| entry["given"] == true).collect();
    let fresh: Vec<&Value> = entries.iter().filter(|entry| entry["given"] != true).collect();
    assert_eq!((given.len(), fresh.len(), first["proxy"].len()), (6, 7, 6));
    for (own, theirs) in given.iter().zip(first["proxy"].iter().map(value)) {
        assert_eq!((&own["arch"], &own["measures"]), (&theirs["arch"], &theirs["measures"]));
        assert!(fresh.iter().all(|entry| entry["arch"] != own["arch"]));
    }
    // Six are more than the pool of four: moves begin at once.
    assert!(fresh.iter().all(|entry| entry["generation"].as_u64().unwrap() >= 1));
    let result = result(&scratch, "second");
    assert_eq!((&result["evaluated"], &result["arms"][0]["given"]), (&7.into(), &6.into()));
    let best =
        |entries: &[Value]| entries.iter().map(|entry| entry["fitness"].as_f64().unwrap()).fold(f64::MIN, f64::max);
    assert_eq!(result["best"]["fitness"].as_f64().unwrap(), best(&entries));
    // It is an input: what was changed is refused, what was moved is followed.
    scratch.good(&["search", "--quiet", "--resume", "--out", "second"]);
    let text = String::from_utf8(scratch.read("first/history.jsonl")).unwrap();
    scratch.write("moved.jsonl", &text);
    scratch.write("first/history.jsonl", text.lines().next().unwrap());
    scratch.bad(2, &["search", "--resume", "--out", "second"], &["--warm-start", "is not what the run began with"]);
    scratch.good(&["search", "--quiet", "--resume", "--warm-start", "moved.jsonl", "--out", "second"]);
    for (text, parts) in [
        ("", &["holds no candidate"][..]),
        ("{\"arch\": 3}\n", &["line 1"]),
        ("{\"arch\":\"x\",\"fitness\":1,\"params\":1,\"macs\":1}\n", &["line 1", "x"]),
    ] {
        scratch.write("bad.jsonl", text);
        scratch.bad(2, &search("x", &CROZE, &["--warm-start", "bad.jsonl"]), &[&["bad.jsonl"], parts].concat());
    }
    assert!(!Path::exists(&scratch.path("x")));
}

#[test]
fn a_supernet_serves_other_searches() {
    let scratch = scratch("genas");
    let more = ["--evaluations", "5", "--arms", "flatness"];
    let own = &GENAS[..10];
    scratch.good(&search("first", own, &more));
    scratch.good(&search("second", own, &[&more[..], &["--supernet", "first/supernet.safetensors"]].concat()));
    assert_eq!(history(&scratch, "second"), history(&scratch, "first"));
    assert!(!scratch.path("second/checkpoint/supernet.ckpt").exists());
    scratch.good(&["search", "--quiet", "--resume", "--out", "second"]);
    let other = [&more[..], &["--supernet", "first/best.safetensors"]].concat();
    scratch.bad(2, &search("x", own, &other), &["--supernet"]);
    let wider = [&GENAS[..3], &["8"], &GENAS[4..10], &more, &["--supernet", "first/supernet.safetensors"]].concat();
    scratch.bad(2, &search("x", &wider, &[]), &["--supernet"]);
    scratch.write("small.toml", "");
    scratch.bad(
        2,
        &search("x", &CROZE, &["--supernet", "first/supernet.safetensors"]),
        &["--supernet", "croze has no use"],
    );
    assert!(!scratch.path("x").exists());
}
