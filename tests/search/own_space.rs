//! A space of one's own goes through every command: `examples/own_space.rs`, whose program is this one with another space.

use std::collections::BTreeMap;
use std::path::Path;

use altiplano::nn::tensors::{Named, Values, to_bytes};
use assert_cmd::Command;
use serde_json::Value;

use crate::common::example;

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(example("own_space"));
    command.args(args).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("ALTIPLANO_CACHE", folder.join("cache"));
    command
}

#[track_caller]
fn good(folder: &Path, args: &[&str]) -> String {
    let output = command(folder, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&good(folder, args)).unwrap()
}

#[track_caller]
fn bad(folder: &Path, args: &[&str], parts: &[&str]) {
    let output = command(folder, args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part} in {text}");
    }
}

#[test]
fn all_commands_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let list = json(folder, &["space", "list", "--json"]);
    let blocks = list.as_array().unwrap().iter().find(|own| own["space"] == "blocks");
    assert_eq!(blocks.unwrap()["architectures"], 36);
    let info = json(folder, &["space", "info", "--space", "blocks", "--arch", "3+,5", "--build", "width=4", "--json"]);
    // Stem, norms, both kernels, the way down, the classifier; of three channels and 32x32.
    let params = 3 * 9 * 4 + 8 + (9 * 16 + 8) + (4 * 9 * 8 + 16) + (25 * 64 + 16) + 8 * 10 + 10;
    assert_eq!((&info["params"], &info["build"]["width"]), (&Value::from(params), &Value::from(4)));

    let train = ["train", "--quiet", "--space", "blocks", "--arch", "3+,5", "--data", "digits", "--epochs", "1"];
    good(folder, &[&train[..], &["--build", "width=4", "--out", "one"]].concat());
    let evaluate = ["evaluate", "--quiet", "--model", "one/best.safetensors", "--data", "digits", "--images", "40"];
    let judged = json(folder, &[&evaluate[..], &["--corruptions", "fog", "--severities", "3", "--json"]].concat());
    assert!(judged["clean"]["accuracy"].as_f64().unwrap() > 0.3, "{judged}");
    let export = ["export", "one/best.safetensors", "--onnx", "one.onnx", "--card", "one.md", "--json"];
    let exported = json(folder, &export);
    assert_eq!((&exported["space"], &exported["arch"]), (&Value::from("blocks"), &Value::from("3+,5")));
    assert!(folder.join("one.onnx").is_file() && folder.join("one.md").is_file());
    let flatness = ["flatness", "--quiet", "--model", "one/best.safetensors", "--data", "digits", "--images", "40"];
    let levels = json(folder, &[&flatness[..], &["--draws", "2", "--json"]].concat());
    assert_eq!(levels["images"], 40);
    // A card says what a file is to those as well that take any file.
    let batch = Named::from([
        ("x".to_owned(), Values { dims: vec![2, 1, 8, 8], data: (0..128).map(|i| (i % 9) as f32 / 9.0).collect() }),
        ("y".to_owned(), Values { dims: vec![2], data: vec![3.0, 7.0] }),
    ]);
    std::fs::write(folder.join("batch.safetensors"), to_bytes(&batch, BTreeMap::new()).unwrap()).unwrap();
    let carded = ["step", "--arch", "3+,5", "--weights", "one/best.safetensors", "--batch", "batch.safetensors"];
    let carded = json(folder, &[&carded[..], &["--out", "carded.safetensors", "--json"]].concat());
    // Its weights without its card: a file that has to be described.
    let (named, _) = altiplano::nn::tensors::load(&folder.join("one/best.safetensors")).unwrap();
    std::fs::write(folder.join("bare.safetensors"), to_bytes(&named, BTreeMap::new()).unwrap()).unwrap();
    let own = ["--space", "blocks", "--arch", "3+,5", "--build", "width=4"];
    let model = ["evaluate", "--quiet", "--model", "bare.safetensors", "--data", "digits", "--images", "40"];
    let more = ["--corruptions", "fog", "--severities", "3", "--json"];
    assert_eq!(json(folder, &[&model[..], &own, &more].concat())["clean"], judged["clean"]);
    let step = ["step", "--weights", "bare.safetensors", "--batch", "batch.safetensors", "--out", "step.safetensors"];
    let plain = json(folder, &[&step[..], &own, &["--json"]].concat());
    assert_eq!(plain["loss"], carded["loss"]);
    let more = ["--mode", "train", "--optimizer", "sam", "--force", "--json"];
    let step = json(folder, &[&step[..], &own, &more].concat());
    assert!(step["loss"].as_f64().unwrap() > 0.0);

    let score = ["score", "--quiet", "--space", "blocks", "--data", "digits", "--sample", "3", "--build", "width=4"];
    good(folder, &[&score[..], &["--out", "scores.csv", "--explain", "layers.csv"]].concat());
    let scores = std::fs::read_to_string(folder.join("scores.csv")).unwrap();
    let numbers: Vec<f64> = scores
        .lines()
        .skip(1)
        .flat_map(|line| line.split("\",").last().unwrap().split(','))
        .map(|v| v.parse().unwrap())
        .collect();
    assert!(numbers.len() > 3 * 15 && numbers.iter().all(|v| v.is_finite()), "{scores}");
    good(
        folder,
        &[
            "correlate",
            "--space",
            "blocks",
            "--scores",
            "scores.csv",
            "--truth",
            "scores.csv",
            "--columns",
            "snip",
            "--bootstrap",
            "0",
        ],
    );
    let truth = ["search", "--space", "blocks", "--truth", "scores.csv", "--maximize", "snip", "--minimize", "params"];
    good(folder, &[&truth[..], &["--method", "random", "--evaluations", "3"]].concat());

    for (args, parts) in [
        (&["space", "info", "--space", "blocks", "--arch", "3+"][..], &["3+,5"][..]),
        (&["space", "info", "--space", "block", "--arch", "3+,5"], &["--space", "did you mean `blocks`"]),
        (
            &["space", "info", "--space", "blocks", "--arch", "3+,5", "--channels", "4"],
            &["--channels", "option of the space blocks", "width"],
        ),
        (
            &["space", "info", "--space", "blocks", "--arch", "3+,5", "--build", "widht=4"],
            &["--build", "did you mean `width`"],
        ),
        (
            &["space", "info", "--space", "blocks", "--arch", "3+,5", "--build", "width=0"],
            &["build.width", "expected 1 to 1024"],
        ),
        (
            &["space", "info", "--space", "blocks", "--arch", "3+,5", "--build", "width=x"],
            &["build.width", "whole number"],
        ),
        (
            &["search", "--space", "blocks", "--method", "genas", "--evaluations", "37", "--out", "x"],
            &["--evaluations", "36 architectures"],
        ),
    ] {
        bad(folder, args, parts);
    }
    std::fs::write(folder.join("other.toml"), "[build]\nchannels = 4\n").unwrap();
    bad(
        folder,
        &["search", "--space", "blocks", "--config", "other.toml", "--out", "x"],
        &["other.toml", "build.channels"],
    );
    assert!(!folder.join("x").exists());
}
