//! `altiplano search --method croze` from outside: an interrupted search, limits, and options that do not fit.

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;

fn altiplano(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_altiplano"));
    command.args(args).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("ALTIPLANO_CACHE", folder.join("cache"));
    command
}

const SEARCH: [&str; 17] = [
    "search",
    "--method",
    "croze",
    "--data",
    "digits",
    "--channels",
    "4",
    "--evaluations",
    "14",
    "--pool",
    "9",
    "--epochs",
    "1",
    "--max-params",
    "9000",
    "--attacks",
    "fgsm:8/255",
];

#[test]
fn a_killed_search_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = |more: &[&str]| {
        let output = altiplano(folder, &[&SEARCH[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    run(&["--out", "whole"]);
    for seconds in [0.4, 0.9, 1.4] {
        let mut command = altiplano(folder, &[&SEARCH[..], &["--out", "killed", "--force"]].concat());
        // The time-out kills.
        let _ = command.timeout(Duration::from_secs_f64(seconds)).output();
        if folder.join("killed/config.toml").exists() {
            let output = altiplano(folder, &["search", "--resume", "--out", "killed"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for file in ["history.jsonl", "best.safetensors"] {
                let read = |run: &str| std::fs::read(folder.join(run).join(file)).unwrap();
                assert!(read("whole") == read("killed"), "{file} differs after {seconds} s");
            }
        }
    }
    let result: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("whole/result.json")).unwrap()).unwrap();
    assert_eq!(result["evaluated"], 14);
    assert_eq!(result["final"]["attacks"].as_array().unwrap().len(), 1);
    assert!(result["best"]["params"].as_u64().unwrap() <= 9000);
    assert!(result["front"].as_array().unwrap().iter().all(|e| e["params"].as_u64().unwrap() <= 9000));
    assert!(result["correlations"]["params"].is_number());
    // What the search printed trains its network once more.
    let again =
        altiplano(folder, &["train", "--quiet", "--config", "whole/train.toml", "--out", "again"]).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let read = |run: &str| std::fs::read(folder.join(run).join("best.safetensors")).unwrap();
    assert!(read("whole") == read("again"), "trained again it is another network");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (args, message) in [
        (&["--method", "croze", "--max-params", "10"][..], "the smallest has"),
        (&["--method", "croze", "--proxy", "crose"], "did you mean `croze`"),
        (&["--method", "croze", "--strategy", "wormup"], "did you mean `warmup`"),
        (&["--method", "croze", "--attacks", "pgd:9"], "pgd:EPS:STEPS"),
        (&["--method", "croze", "--adversarial", "fgsm:8/255"], "pgd:EPS:STEPS"),
        (&["--method", "croze", "--evaluations", "0"], "evaluations"),
        (&["--method", "croze", "--evaluations", "7000"], "6466 differ"),
        (&["--method", "croze", "--batch-size", "1"], "at least 2"),
        (&["--method", "genas", "--max-params", "9000"], "is for --method croze"),
        (&["--method", "croze", "--draws", "3"], "not for --method croze"),
        (&["--method", "croze", "--supernet-epochs", "3"], "not for --method croze"),
    ] {
        let args = [&["search", "--data", "digits", "--out", "run"], args].concat();
        let output = altiplano(folder, &args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
        assert!(!folder.join("run").exists(), "{args:?} left a folder");
    }
}
