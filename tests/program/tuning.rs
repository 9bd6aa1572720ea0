//! Tuned tiles: kept apart from the library, used by the program, and never changed under a run that has begun.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use altiplano::bench::items::SUPERNET;
use altiplano::bench::tune::tune;
use altiplano::bench::tuning::{Kind, Tuning, Verdict};
use altiplano::kernels::{Preset, Tile};
use serde_json::Value;

use crate::common;

const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

/// A folder with a cache of its own.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_altiplano"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("ALTIPLANO_CACHE", self.path("cache"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs what must succeed: stdout and stderr.
    #[track_caller]
    fn good(&self, args: &[&str]) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let [out, err] = texts(output.clone());
        assert!(output.status.success() && !err.contains("panicked"), "{args:?}: {err}");
        (out, err)
    }

    /// Stores tiles as if they had been tuned.
    fn tuned(&self, windowed: Tile, pointwise: Tile) -> PathBuf {
        let preset = Preset { windowed, pointwise, ..common::preset() };
        Tuning::new(common::gpu().report(), preset, vec![], vec![]).save(&self.path("cache")).unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn texts(output: Output) -> [String; 2] {
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
}

fn train<'a>(out: &'a str, epochs: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "-v", "--data", "digits", "--arch", ARCH, "--channels", "4", "--epochs", epochs];
    args.extend(["--image", "4x4", "--out", out]);
    args.extend(options);
    args
}

fn recorded(folder: &Path) -> Preset {
    serde_json::from_slice(&std::fs::read(folder.join("tiles.json")).unwrap()).unwrap()
}

#[test]
fn tiles_are_tuned_kept_and_forgotten() {
    let scratch = Scratch::new();
    let args = ["tune", "--quiet", "--samples", "1", "--items", SUPERNET, "--json"];
    let report: Value = serde_json::from_str(&scratch.good(&args).0).unwrap();
    let trials = report["trials"].as_array().unwrap();
    assert!(trials.len() > 4 && trials.len() <= 12, "{report}");
    assert_eq!(trials.iter().filter(|trial| trial["verdict"] == "present").count(), 2, "{report}");
    let file = PathBuf::from(report["file"].as_str().unwrap());
    assert!(file.starts_with(scratch.path("cache")) && file.is_file());
    let stored = Tuning::load(&scratch.path("cache"), common::gpu().report()).unwrap().unwrap();
    assert_eq!(serde_json::to_value(stored.preset).unwrap(), report["preset"]);
    for trial in &stored.trials {
        let sound = matches!(trial.verdict, Verdict::Present | Verdict::Taken | Verdict::Left | Verdict::Unconfirmed);
        assert!(sound && trial.median_ms.unwrap() > 0.0 && trial.ratio.unwrap() > 0.0, "{trial:?}");
        if trial.verdict == Verdict::Taken {
            assert_eq!(trial.kind.tile(stored.preset), trial.tile);
        }
    }

    let tuned = || {
        let list: Value = serde_json::from_str(&scratch.good(&["devices", "--json"]).0).unwrap();
        list.as_array().unwrap().iter().any(|device| device["chosen"] == true && device["tuned"] == true)
    };
    assert!(tuned());
    for (bad, part) in [(&["--checked"][..], "--checked"), (&["--items", "train_mixt_n1"], "train_mixed_n1")] {
        let output = scratch.command(&[&["tune"], bad].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(texts(output)[1].contains(part));
    }
    std::fs::write(scratch.path("cache/notes"), "mine").unwrap();
    assert!(scratch.good(&["tune", "--reset"]).0.contains("removed"));
    assert!(!tuned() && !file.exists() && scratch.path("cache/notes").exists());
    assert!(scratch.good(&["tune", "--reset"]).0.contains("no tuned tiles"));
}

#[test]
fn a_damaged_file_is_ignored_with_one_warning() {
    let scratch = Scratch::new();
    let file = scratch.tuned(Tile::new(4, 4), Tile::new(8, 2));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (_, log) = scratch.good(&train("out", "1", &[]));
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN") && line.contains("tiles-")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains(file.to_str().unwrap()) && warnings[0].contains("altiplano tune"), "{log}");
    assert_eq!(recorded(&scratch.path("out")), common::preset());
}

/// A run that is killed, and goes on under another tuning or under none, ends as one that was left alone.
#[test]
fn a_run_keeps_the_tiles_that_it_began_with() {
    const EPOCHS: &str = "4";
    let scratch = Scratch::new();
    let first = (Tile::new(4, 4), Tile::new(8, 2));
    let file = scratch.tuned(first.0, first.1);
    let (_, log) = scratch.good(&train("alone", EPOCHS, &[]));
    assert!(log.contains("tuned tiles: windowed 4x4, pointwise 8x2"), "{log}");
    let want = std::fs::read(scratch.path("alone/best.safetensors")).unwrap();
    type Change = fn(&Scratch, &Path);
    let changes: [(&str, Change); 2] = [
        ("other tiles", |scratch, _| drop(scratch.tuned(Tile::new(16, 2), Tile::new(2, 4)))),
        ("no tiles", |_, file| std::fs::remove_file(file).unwrap()),
    ];
    for (what, change) in changes {
        scratch.tuned(first.0, first.1);
        let folder = scratch.path(what);
        let mut child = scratch.start(&train(what, EPOCHS, &[]));
        let begin = Instant::now();
        let is_training = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.starts_with("finals-") && name.ends_with(".ckpt")
        };
        while !std::fs::read_dir(folder.join("checkpoint")).is_ok_and(|mut all| all.any(is_training)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}: no checkpoint");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.join("result.json").exists(), "{what}: it was done before it was killed");
        change(&scratch, &file);
        let (_, log) = scratch.good(&train(what, EPOCHS, &["--resume"]));
        assert!(log.contains("the run's tiles: windowed 4x4, pointwise 8x2"), "{what}: {log}");
        let kept = recorded(&folder);
        assert_eq!((kept.windowed, kept.pointwise), first, "{what}");
        assert!(std::fs::read(folder.join("best.safetensors")).unwrap() == want, "{what}: other bits");
    }

    // A run from before tiles were recorded had the adapter's own.
    scratch.tuned(first.0, first.1);
    std::fs::remove_file(scratch.path("alone/tiles.json")).unwrap();
    scratch.good(&train("alone", EPOCHS, &["--resume"]));
    assert_eq!(recorded(&scratch.path("alone")), common::preset());
    // What was recorded and cannot be read is no reason to guess.
    for bad in ["{", "{}", &std::fs::read_to_string(scratch.path("no tiles/tiles.json")).unwrap().replace("16", "99")] {
        let bad = bad.replace("\"positions\": 8", "\"positions\": 4000000000");
        std::fs::write(scratch.path("alone/tiles.json"), bad).unwrap();
        let output = scratch.command(&train("alone", EPOCHS, &["--resume"])).output().unwrap();
        let code = output.status.code();
        let [_, log] = texts(output);
        assert!(code == Some(2) && log.contains("tiles.json") && log.contains("remove the file"), "{code:?} {log}");
    }
}

/// A search records its tiles, and goes on with them.
#[test]
fn a_search_keeps_its_tiles() {
    let scratch = Scratch::new();
    scratch.tuned(Tile::new(4, 4), Tile::new(8, 2));
    let search = |out, options: &[&'static str]| {
        let mut args = vec!["search", "-v", "--quiet", "--data", "digits", "--channels", "4", "--evaluations", "2"];
        args.extend(["--supernet-epochs", "1", "--draws", "1", "--epochs", "1", "--sigmas", "0.01,0.02"]);
        args.extend(["--method", "random", "--out", out]);
        args.extend(options);
        scratch.good(&args);
        recorded(&scratch.path(out))
    };
    assert_eq!(search("out", &[]).windowed, Tile::new(4, 4));
    let want = std::fs::read(scratch.path("out/best.safetensors")).unwrap();
    for file in ["result.json", "best.safetensors", "history.jsonl", "checkpoint/supernet.ckpt"] {
        std::fs::remove_file(scratch.path("out").join(file)).unwrap();
    }
    scratch.tuned(Tile::new(16, 2), Tile::new(2, 4));
    assert_eq!(search("out", &["--resume"]).windowed, Tile::new(4, 4));
    assert!(std::fs::read(scratch.path("out/best.safetensors")).unwrap() == want);
    assert_eq!(search("out", &["--force"]).windowed, Tile::new(16, 2));
}

/// The library itself, stopped at once.
#[test]
fn tuning_can_be_stopped() {
    let mut events = 0;
    let stopped = tune(common::gpu(), common::preset(), &[SUPERNET], 1, &mut |_| {
        events += 1;
        if events > 1 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(altiplano::Error::Cancelled)) && events == 2);
    // Tiles of a preset are replaced one kind at a time.
    let tile = Tile::new(1, 1);
    for kind in Kind::ALL {
        let changed = kind.with(Preset::CPU, tile);
        assert_eq!(Kind::ALL.map(|k| k.tile(changed) == tile), Kind::ALL.map(|k| k == kind));
    }
}
