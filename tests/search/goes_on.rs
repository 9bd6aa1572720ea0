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
fn extended_by_moves_it_is_as_if_begun_so() {
    extended("croze", &CROZE);
}

#[test]
fn extended_by_evolution_it_is_as_if_begun_so() {
    extended("genas", &GENAS);
}

fn extended(method: &str, own: &[&str]) {
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
    scratch.bad(2, &["search", "--resume", "--evaluations", "5", "--out", "run"], &["evaluations is 11 in the run"]);
    scratch.bad(2, &["search", "--extend", "--out", "run"], &["--extend", "--evaluations or --time"]);
    let other = ["search", "--extend", "--evaluations", "12", "--lr", "0.3", "--out", "run"];
    scratch.bad(2, &other, &["--extend", "training.lr", "a run goes on as it began"]);
    let less = ["search", "--extend", "--evaluations", "10", "--out", "run"];
    scratch.bad(2, &less, &["--extend", "evaluations is 11 in the run already"]);
    let other = ["search", "--resume", "--strategy", "nsga2", "--out", "run"];
    scratch.bad(2, &other, &["--resume", "strategy."]);
    // A line that is missing amid the others is no stop.
    let text = String::from_utf8(scratch.read("run/history.jsonl")).unwrap();
    scratch.write("run/history.jsonl", text.split_once('\n').unwrap().1);
    scratch.stops(
        2,
        &["search", "--quiet", "--resume", "--out", "run"],
        &["history", "generation 0", "put the line back"],
    );
    scratch.bad(2, &["search", "--extend", "--evaluations", "12", "--out", "none"], &["there is no run in none"]);
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
fn what_another_measured_otherwise_is_refused() {
    let scratch = scratch("croze");
    scratch.good(&search("first", &CROZE, &["--evaluations", "5", "--arms", "proxy"]));
    let warm = |out: &'static str, more: &[&'static str]| {
        search(out, &CROZE, &[&["--warm-start", "first/history.jsonl", "--arms", "proxy"], more].concat())
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let bad = |more: &[&'static str], parts: &[&str]| {
        let args = warm("x", more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        scratch.bad(2, &args, &[&["first/history.jsonl"], parts].concat());
    };
    bad(&["--cells", "2"], &["another `build`"]);
    bad(&["--proxy", "synflow"], &["another `evaluator`"]);
    // Without what was decided there, lines speak for themselves.
    let text = String::from_utf8(scratch.read("first/history.jsonl")).unwrap();
    std::fs::remove_file(scratch.path("first/config.toml")).unwrap();
    bad(&["--cells", "2"], &["line 1", "its networks are built otherwise"]);
    bad(&["--proxy", "synflow"], &["line 1", "`synflow` was not measured"]);
    let lines: Vec<&str> = text.lines().collect();
    scratch.write("first/history.jsonl", format!("{}\n\n{}\n", lines[0], &lines[1][..20]));
    bad(&[], &["line 3"]);
    assert!(!scratch.path("x").exists());
}

#[test]
fn a_supernet_serves_other_searches() {
    let scratch = scratch("genas");
    let more = ["--evaluations", "5", "--arms", "flatness"];
    let own = ["--method", "genas", "--draws", "1", "--epochs", "1"];
    let sizes = ["--channels", "4"];
    let given = ["--supernet", "first/supernet.safetensors"];
    scratch.good(&search("first", &own, &[&more[..], &sizes, &["--supernet-epochs", "1"]].concat()));
    scratch.good(&search("second", &own, &[&more[..], &sizes, &given].concat()));
    assert_eq!(history(&scratch, "second"), history(&scratch, "first"));
    assert!(!scratch.path("second/checkpoint/supernet.ckpt").exists());
    // Only who trained it can tell of its training.
    assert_eq!(result(&scratch, "first")["supernet_training"].as_array().unwrap().len(), 1);
    assert!(result(&scratch, "second").get("supernet_training").is_none());
    scratch.good(&["search", "--quiet", "--resume", "--out", "second"]);
    let both = [&more[..], &sizes, &given, &["--supernet-epochs", "1"]].concat();
    scratch.bad(2, &search("x", &own, &both), &["--supernet"]);
    let other = [&more[..], &sizes, &["--supernet", "first/best.safetensors"]].concat();
    scratch.bad(2, &search("x", &own, &other), &["best.safetensors"]);
    // Nor does what it would replace go.
    let wider = [&more[..], &["--channels", "8"], &given].concat();
    scratch.bad(2, &search("x", &own, &wider), &["supernet.safetensors", "of another build"]);
    scratch.bad(2, &search("second", &own, &[&wider[..], &["--force"]].concat()), &["of another build"]);
    assert!(scratch.path("second/result.json").exists());
    // Candidates that were measured on it are a beginning here, and nowhere else.
    let warm = [&more[..], &sizes, &given, &["--seed", "3", "--warm-start", "first/history.jsonl"]].concat();
    scratch.good(&search("third", &own, &warm));
    let apart = [&more[..], &sizes, &["--seed", "3", "--warm-start", "first/history.jsonl"]].concat();
    scratch.bad(2, &search("x", &own, &apart), &["another `seed`"]);
    scratch.write("small.toml", "");
    scratch.bad(2, &search("x", &CROZE, &given), &["--supernet", "croze has no use"]);
    assert!(!scratch.path("x").exists());
}

#[test]
fn arms_are_what_their_names_say() {
    let scratch = scratch("croze");
    for (arms, part) in [
        ("random", "is another arm's"),
        ("params,random", "is another arm's"),
        ("a b", "no name"),
        ("proxy,", "no name"),
        ("proxy,proxy", "twice"),
        ("proxy,accuracy", "arm of --method croze"),
    ] {
        scratch.bad(2, &search("x", &CROZE, &["--arms", arms]), &["arm", part]);
    }
    scratch.write("small.toml", "finals.contestants = [\"largest\", \"proxy\"]");
    scratch.bad(2, &search("x", &CROZE, &[]), &["finals.contestants", "the first must be proxy"]);
    scratch.write("small.toml", "finals.contestants = [\"proxy\", \"proxy:sdg\"]");
    scratch.bad(2, &search("x", &CROZE, &[]), &["finals.contestants", "proxy:sdg"]);
    // Another name is the search's own in the finals too.
    scratch.write("small.toml", "finals.judged_images = 20\nfinals.noise.draws = 2\n");
    scratch.good(&search("mine", &CROZE, &["--arms", "mine", "--evaluations", "4"]));
    let result = result(&scratch, "mine");
    assert_eq!(
        (&result["finalists"][0]["role"], &result["finalists"][0]["arch"]),
        (&"mine".into(), &result["best"]["arch"])
    );
    // A strategy's sizes are those of so many evaluations, and its protocol what was asked for.
    let dry = |more: &[&str]| -> Value {
        let args = [&["search", "--dry-run", "--json", "--quiet", "--method"], more].concat();
        scratch.json(&args)["config"]["strategy"].clone()
    };
    assert_eq!(dry(&["genas", "--strategy", "evolution"]), dry(&["genas"]));
    assert_eq!(dry(&["genas", "--compat", "--strategy", "evolution"])["protocol"]["same_parents"], true);
    let surrogate = dry(&["genas", "--strategy", "surrogate"]);
    assert_eq!((&surrogate["initial"], &surrogate["picks"]), (&33.into(), &4.into()));
    assert_eq!(dry(&["flatnas", "--strategy", "evolution"])["population"], 4);
}
