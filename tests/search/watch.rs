//! Runs as they are watched from outside, while they go on, when they are killed, and at their end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::SMALL_CROZE;
use crate::program::{Scratch, short};

/// Starts the program, whose lines are kept.
fn start(scratch: &Scratch, args: &[&str]) -> std::process::Child {
    scratch.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it has printed, when it ends by itself.
#[track_caller]
fn lines(child: std::process::Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout).lines().map(str::to_owned).collect()
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(200), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_training_is_watched_to_its_end_and_leaves_no_sign() {
    let scratch = Scratch::new();
    let watch = start(&scratch, &["watch", "out", "--wait", "--every", "1"]);
    scratch.good(&short("out", &["--quiet"]));
    let lines = lines(watch);
    assert!(lines.last().unwrap().starts_with("out: train on digits, seed 1; done in 0:"), "{lines:?}");
    assert!(lines.last().unwrap().contains(" % under corruption"), "{lines:?}");
    assert!(!scratch.path("out/progress.json").exists());
    let once = scratch.good(&["watch", "out", "--once"]);
    assert_eq!(once.trim_end(), lines.last().unwrap());
    let json = scratch.json(&["watch", "out", "--once", "--json"]);
    let run = &json["runs"][0];
    assert_eq!((&json["over"], &run["status"], &run["method"]), (&true.into(), &"done".into(), &"train".into()));
    let result: Value = serde_json::from_slice(&scratch.read("out/result.json")).unwrap();
    assert_eq!(run["kept"]["params"], result["params"]);
    let right = result["final"]["clean_accuracy"].as_f64().unwrap();
    assert!((run["kept"]["accuracy"].as_f64().unwrap() - 100.0 * right).abs() < 1e-9);
    assert_eq!(run["losses"][0]["losses"].as_array().unwrap().len(), 1);
    // Without --once the document comes at the end, and lines go elsewhere.
    let output = scratch.run(&["watch", "out", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap()["over"], true);
    assert!(output.stderr.contains("done in"), "{}", output.stderr);
}

#[test]
fn a_training_that_is_killed_is_told_and_one_that_fails_too() {
    let scratch = Scratch::new();
    let mut child = start(&scratch, &short("out", &["--quiet", "--epochs", "100000"]));
    wait_for("no sign", || scratch.path("out/progress.json").exists());
    let sign = || serde_json::from_slice::<Value>(&scratch.read("out/progress.json")).unwrap();
    wait_for("no step", || sign()["done"].as_u64() > Some(0));
    let now = scratch.json(&["watch", "out", "--once", "--json"]);
    let run = &now["runs"][0];
    assert_eq!(
        (&now["over"], &run["status"], &run["stage"]["units"]),
        (&false.into(), &"running".into(), &200_000.into())
    );
    assert!(
        run["seconds"].as_f64() > Some(0.0) && run["stage"]["name"].as_str().unwrap().starts_with("training"),
        "{run}"
    );
    let is_seen = sign()["place"].is_string();
    let watch = is_seen.then(|| start(&scratch, &["watch", "out"]));
    child.kill().unwrap();
    child.wait().unwrap();
    // Where locks can be seen, it is known at once, and there is nothing more to watch.
    if let Some(watch) = watch {
        let lines = lines(watch);
        assert!(lines.last().unwrap().contains("killed after 0:"), "{lines:?}");
    }
    let once = scratch.good(&["watch", "out", "--once"]);
    assert!(once.contains("training") && once.contains(if is_seen { "killed" } else { "running" }), "{once}");

    // Asked to stop, it says so; what goes on takes the sign away at its end.
    #[cfg(unix)]
    {
        let before = sign()["time"].clone();
        let mut child = start(&scratch, &["train", "--quiet", "--resume", "--out", "out"]);
        wait_for("no other step", || sign()["time"] != before && sign()["stage"] != "beginning");
        let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(kill.success() && !child.wait().unwrap().success());
        let once = scratch.good(&["watch", "out", "--once"]);
        assert!(once.contains("stopped on request after 0:"), "{once}");
    }
}

#[test]
fn searches_of_several_seeds_are_watched_as_they_begin_and_end() {
    let scratch = Scratch::new();
    scratch.write("small.toml", "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.kept_back = 100\n");
    let watch = start(&scratch, &["watch", "out", "--wait", "--every", "1"]);
    let search =
        [&SMALL_CROZE[..], &["--epochs", "1", "--arms", "proxy,random", "--search-seeds", "2", "--out", "out"]];
    scratch.good(&search.concat());
    let lines = lines(watch);
    for seed in [1, 2] {
        let own: Vec<&String> = lines.iter().filter(|line| line.starts_with(&format!("out/seed-{seed}: "))).collect();
        let last = own.last().unwrap();
        assert!(last.contains(&format!("croze on digits, seed {seed}; done in 0:")), "{own:?}");
        assert!(last.contains(" % of test images right, ") && last.contains(" % under corruption"), "{own:?}");
    }
    let json = scratch.json(&["watch", "out", "out/seed-1", "--once", "--json"]);
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for (run, seed) in runs.iter().zip([1, 2, 1]) {
        let result: Value = serde_json::from_slice(&scratch.read(&format!("out/seed-{seed}/result.json"))).unwrap();
        assert_eq!(run["best"]["arch"], result["best"]["arch"]);
        assert_eq!(run["front"].as_array().unwrap().len(), result["front"].as_array().unwrap().len());
        assert_eq!(run["arms"][0]["evaluated"], 6);
        assert!(run["losses"].as_array().unwrap().len() >= 2 && run["faults"].as_array().unwrap().is_empty(), "{run}");
    }
}

#[test]
fn what_is_no_run_is_told() {
    let scratch = Scratch::new();
    scratch.bad(2, &["watch"], &["<RUNS>"]);
    scratch.bad(2, &["watch", "none"], &["none: is not there", "--wait"]);
    scratch.write("foreign/a.txt", "");
    scratch.bad(2, &["watch", "--wait", "foreign"], &["foreign: holds neither a config.toml"]);
    scratch.bad(2, &["watch", "foreign/a.txt"], &["cannot read foreign/a.txt"]);
    scratch.bad(2, &["watch", "--every", "0", "none"], &["--every"]);
    // What is waited for may be looked at.
    assert_eq!(scratch.good(&["watch", "none", "--wait", "--once"]), "none: run; has not begun\n");
}
