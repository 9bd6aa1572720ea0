//! `altiplano search --method croze` from outside: limits, and options that do not fit.

use std::path::Path;

use assert_cmd::Command;

fn altiplano(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_altiplano"));
    command.args(args).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("ALTIPLANO_CACHE", folder.join("cache"));
    command
}

#[test]
fn limits_hold_in_all_arms() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let args = ["search", "--quiet", "--method", "croze", "--data", "digits", "--channels", "4", "--evaluations", "14"];
    let more = ["--pool", "9", "--epochs", "1", "--max-params", "9000", "--attacks", "fgsm:8/255", "--out", "run"];
    let output = altiplano(folder, &[&args[..], &more].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("run/result.json")).unwrap()).unwrap();
    assert_eq!((&result["evaluated"], result["arms"].as_array().unwrap().len()), (&14.into(), 3));
    assert_eq!(result["final"]["attacks"].as_array().unwrap().len(), 1);
    let small = |row: &serde_json::Value| row["params"].as_u64().unwrap() <= 9000;
    assert!(small(&result["best"]) && result["front"].as_array().unwrap().iter().all(small));
    assert!(result["correlations"]["params"].is_number());
    let finalists = result["finalists"].as_array().unwrap();
    let roles: Vec<&str> = finalists.iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["proxy", "random", "largest", "any", "any-2", "any-3"]);
    assert!(finalists.iter().all(|row| small(row) && row["attacked_error"].as_object().unwrap().len() == 1));
    // What a count alone chooses is the largest of what it saw, and no larger than the largest of all.
    let params = |row: &serde_json::Value| row["params"].as_u64().unwrap();
    assert!(params(&result["arms"][1]["best"]) <= params(&finalists[2]));
    let history = std::fs::read_to_string(folder.join("run/history.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 3 * 14 && lines.iter().all(small));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (args, message) in [
        (
            &["--method", "croze", "--max-params", "10"][..],
            "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, has",
        ),
        (&["--method", "croze", "--proxy", "crose"], "did you mean `croze`"),
        (&["--method", "croze", "--strategy", "wormup"], "did you mean `warmup`"),
        (&["--method", "croze", "--attacks", "pgd:9"], "pgd:EPS:STEPS"),
        (&["--method", "croze", "--adversarial", "fgsm:8/255"], "pgd:EPS:STEPS"),
        (&["--method", "croze", "--evaluations", "0"], "evaluations"),
        (&["--method", "croze", "--evaluations", "7000"], "6466 differ"),
        (&["--method", "croze", "--batch-size", "1"], "at least 2"),
        (
            &["--method", "genas", "--max-params", "10"],
            "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, has",
        ),
        (&["--method", "genas", "--pool", "3"], "is for --method croze"),
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
