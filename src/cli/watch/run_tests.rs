//! Tests of what is read of runs, from folders that are made here.

use std::fs::File;

use super::super::super::configuration::with_record;
use super::super::super::inputs::Record;
use super::super::plain;
use super::super::state::{Stage, What};
use super::*;
use crate::nn::space::{ImageInfo, Registry};
use crate::report::sign::Mark;
use crate::search::config::{Preset, SearchConfig};
use crate::search::methods::{Method, Situation};

struct Scratch {
    temp: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Scratch { temp: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn sign(&self, run: &str, sign: &Sign) {
        self.write(&format!("{run}/{PROGRESS}"), serde_json::to_vec(sign).unwrap());
    }

    /// Everything in a run's folder was written so long ago.
    fn age(&self, run: &str, seconds: u64) {
        let past = SystemTime::now() - Duration::from_secs(seconds);
        for entry in fs::read_dir(self.path(run)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                File::options().append(true).open(entry).unwrap().set_modified(past).unwrap();
            }
        }
    }

    fn open(&self, names: &[&str], wait: bool) -> Result<Watched> {
        Watched::open(&names.iter().map(|name| self.path(name)).collect::<Vec<_>>(), wait)
    }

    /// The only run that a path names.
    fn look(&self, name: &str) -> View {
        let watched = self.open(&[name], false).unwrap();
        assert_eq!(watched.views().len(), 1);
        watched.views()[0].clone()
    }
}

fn config(seed: u64) -> SearchConfig {
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let registry = Registry::default();
    let space = &**registry.get("nas-bench-201").unwrap();
    let situation =
        Situation { preset: Preset::Quick, space, data: "digits", images: 1442, info: &info, compat: false };
    SearchConfig { seed, evaluations: 40, ..Method::Genas.preset(&situation) }
}

fn settings(seed: u64) -> String {
    with_record(&config(seed), &Record::default()).unwrap()
}

/// A line of a history.
fn entry(arm: &str, arch: &str, flatness: f64, params: u64) -> String {
    let measures = serde_json::json!({"flatness": flatness, "accuracy": 0.5});
    let entry = serde_json::json!({
        "arm": arm, "arch": arch, "generation": 0, "fitness": flatness, "params": params, "macs": 9, "measures": measures
    });
    format!("{entry}\n")
}

fn sign() -> Sign {
    let time = now();
    Sign {
        stage: "evaluating".to_owned(),
        units: 40,
        done: 4,
        from: 0.4,
        to: 0.6,
        since: Some(Mark { time: time - 60.0, done: 1 }),
        note: "generation\u{1b}[2J 1".to_owned(),
        seconds: 84.0,
        time,
        best: BTreeMap::from([("flatness".to_owned(), "b".to_owned())]),
        ..Sign::default()
    }
}

#[test]
fn a_search_that_goes_on_is_shown_as_far_as_it_has_come() {
    let scratch = Scratch::new();
    scratch.write("run/config.toml", settings(7));
    let name = scratch.look("run");
    // It has begun, and nothing is known of it yet.
    assert_eq!((name.status, name.best.is_none(), name.stage.is_none()), (Status::Running, true, true));
    let arms = config(7).arms;
    assert!(arms.len() > 1 && arms[0] == "flatness", "{arms:?}");
    let lines = [
        entry("flatness", "a", 0.1, 100),
        entry("flatness", "b", 0.2, 200),
        entry("flatness", "c\u{202e}\u{7}", 0.9, 300),
        entry("flatness", "d", 0.05, 400),
        entry(&arms[1], "e", 0.9, 50),
        // What is being written.
        entry("flatness", "f", 1.0, 1)[..30].to_owned(),
    ];
    scratch.write("run/history.jsonl", lines.concat());
    scratch.sign("run", &sign());
    let view = scratch.look("run");
    assert_eq!(view.status, Status::Running);
    let what =
        What { method: "genas".into(), space: "nas-bench-201".into(), data: "digits".into(), seed: 7, arch: None };
    assert_eq!(view.what, Some(what));
    let Stage { name, done, units, per_minute, note } = view.stage.clone().unwrap();
    assert_eq!((name.as_str(), done, units, note.as_str()), ("evaluating", 4, 40, "generation\\u{001b}[2J 1"));
    assert!((per_minute.unwrap() - 3.0).abs() < 0.1);
    assert_eq!(view.arms.iter().map(|arm| arm.evaluated).take(2).collect::<Vec<_>>(), [4, 1]);
    assert!((view.share.unwrap() - 0.42).abs() < 1e-9 && (view.seconds_left.unwrap() - 116.0).abs() < 5.0, "{view:?}");
    // The run knows which candidate it would pick: here the one of the largest measure learned nothing.
    let best = view.best.clone().unwrap();
    assert_eq!((best.arch.as_str(), best.value, best.params, best.measure.as_str()), ("b", 0.2, 200, "flatness"));
    let front: Vec<&str> = view.front.iter().map(|found| found.arch.as_str()).collect();
    assert_eq!(front, ["a", "b", "c\\u{202e}\\u{0007}"]);
    assert_eq!((view.scatter.front.len(), &view.scatter.beaten[..]), (3, &[[400.0, 0.05]][..]));
    assert_eq!(view.faults, ["line 6 of history.jsonl is not whole yet, and is left out"]);
    let line = plain::line(&view);
    assert!(line.contains("evaluating 4/40, 3") && !line.contains(char::is_control), "{line}");

    // Without a word of its own it is the best of what is there.
    fs::remove_file(scratch.path("run/progress.json")).unwrap();
    assert!(scratch.look("run").best.unwrap().value == 0.9);
}

#[test]
fn what_is_added_is_seen_and_a_run_that_begins_anew_too() {
    let scratch = Scratch::new();
    scratch.write("run/config.toml", settings(1));
    scratch.write("run/history.jsonl", entry("flatness", "a", 0.1, 100));
    let mut watched = scratch.open(&["run"], false).unwrap();
    let best = |watched: &Watched| watched.views()[0].best.clone().unwrap().arch;
    assert_eq!(best(&watched), "a");
    let more = [entry("flatness", "a", 0.1, 100), entry("flatness", "b", 0.2, 90)].concat();
    scratch.write("run/history.jsonl", &more);
    watched.look();
    assert_eq!((best(&watched), watched.views()[0].arms[0].evaluated), ("b".to_owned(), 2));
    // The curves of a training that goes on: the head of a checkpoint, of which the rest may be anything.
    let curves = serde_json::to_vec(&serde_json::json!([[{"epoch": 1, "loss": 2.5, "accuracy": 0.1}], [{"epoch": 1, "loss": null, "accuracy": 0.1}]])).unwrap();
    let payload = [&(curves.len() as u64).to_le_bytes()[..], &curves, b"state"].concat();
    let folder =
        crate::report::folder::RunFolder::create(scratch.path("run"), crate::report::folder::Existing::Resume).unwrap();
    folder.checkpoint("finals-0123", &payload).unwrap();
    folder.checkpoint("supernet", b"\xff\xff\xff\xff\xff\xff\xff\xff no curves").unwrap();
    watched.look();
    let losses = &watched.views()[0].losses;
    assert_eq!((losses.len(), losses[0].of.as_str(), losses[0].losses[0]), (2, "network 1", [1.0, 2.5]));
    drop(folder);
    scratch.write("run/config.toml", settings(2));
    fs::remove_file(scratch.path("run/history.jsonl")).unwrap();
    watched.look();
    assert_eq!((watched.views()[0].what.as_ref().unwrap().seed, watched.views()[0].best.is_none()), (2, true));
    fs::remove_dir_all(scratch.path("run")).unwrap();
    watched.look();
    assert!(watched.views()[0].status == Status::Gone && watched.is_over());
}

#[test]
fn ends_are_told_apart() {
    let scratch = Scratch::new();
    scratch.write("run/config.toml", settings(1));
    scratch.sign("run", &Sign { state: State::Failed, why: "no\nspace".to_owned(), ..sign() });
    let view = scratch.look("run");
    assert_eq!((view.status, view.why.as_deref()), (Status::Failed, Some("no space")));
    assert!(plain::line(&view).contains("failed after 1:24; last: evaluating 4/40"), "{}", plain::line(&view));
    scratch.sign("run", &Sign { state: State::Stopped, ..sign() });
    assert_eq!(scratch.look("run").status, Status::Stopped);
    // Where its lock would be seen, its process is gone.
    if place().is_some() {
        scratch.sign("run", &Sign { place: place(), ..sign() });
        let view = scratch.look("run");
        assert_eq!((view.status, view.seconds), (Status::Killed, Some(84.0)));
        let run =
            crate::report::folder::RunFolder::create(scratch.path("run"), crate::report::folder::Existing::Resume)
                .unwrap();
        if is_locked(run.path()) {
            assert_eq!(scratch.look("run").status, Status::Running);
            scratch.age("run", 200);
            assert_eq!(scratch.look("run").status, Status::Silent);
        }
    }
    // Of a run elsewhere only silence tells something.
    scratch.sign("run", &Sign { place: Some("elsewhere".to_owned()), ..sign() });
    assert_eq!(scratch.look("run").status, Status::Running);
    scratch.age("run", 200);
    let view = scratch.look("run");
    let silent = view.silent.unwrap();
    assert!(view.status == Status::Silent && (200.0..260.0).contains(&silent), "{view:?}");
    assert!(plain::line(&view).contains("no sign of life for 3:2"), "{}", plain::line(&view));
    scratch.age("run", 4_000);
    assert_eq!(scratch.look("run").status, Status::Lost);
}

/// The result of a training by this version, but for what a test changes.
const TRAINED: &str = r#"{"method":"train","space":"s","arch":"a","params":77,"macs":2,"dataset":"digits","seed":3,"device":"d",
    "seconds":61.0,"final":{"optimizer":"sam","epochs":1,"training_images":9,"training":{"epoch":1,"loss":null,"accuracy":0.5},
    "test_images":3,"clean_loss":null,"clean_accuracy":0.875,"corruption_accuracy":0.5,"corruption_images":3,"attacks":[],
    "suspicions":[],"flatness":null}}"#;

fn training() -> String {
    #[derive(serde::Serialize)]
    struct Parts {
        build: crate::nn::space::Build,
        training: crate::train::trainer::Recipe,
    }
    let SearchConfig { build, training, .. } = config(3);
    let parts = toml::to_string(&Parts { build, training }).unwrap();
    format!("space = \"s\"\narch = \"|a\\u001B~0|\"\ndata = \"digits\"\nseed = \"3\"\n{parts}")
}

#[test]
fn a_training_that_is_done_says_how_good_it_is() {
    let scratch = Scratch::new();
    scratch.write("run/config.toml", training());
    let view = scratch.look("run");
    assert_eq!((view.status, view.faults.len(), view.what.unwrap().method.as_str()), (Status::Running, 0, "train"));
    scratch.write("run/result.json", TRAINED);
    scratch.age("run", 100_000);
    let view = scratch.look("run");
    let line = plain::line(&view);
    assert!(line.ends_with("run: train on digits, seed 3; done in 1:01; trained |a\\u{001b}~0|, 77 parameters, 87.5 % of test images right, 50.0 % under corruption"), "{line}");
    assert_eq!((view.share, view.silent.unwrap() > 90_000.0), (Some(1.0), true));
    // It is gone on with, and has its old result for a while.
    scratch.sign("run", &sign());
    assert_eq!(scratch.look("run").status, Status::Running);
}

#[test]
fn later_versions_and_damage_are_told() {
    let scratch = Scratch::new();
    let later = settings(1).replacen("seed", "fidelity = 3\nseed", 1) + "\n";
    let later = later.replace("[record]\nversion = \"\"", "[record]\nversion = \"99.0.0\"");
    scratch.write("later/config.toml", later);
    scratch.sign("later", &sign());
    let view = scratch.look("later");
    assert!(view.status == Status::Running && view.stage.is_some(), "{view:?}");
    assert!(view.faults[0].contains("version 99.0.0 wrote it, and this is "), "{:?}", view.faults);
    scratch.write("result/config.toml", settings(1));
    scratch.write("result/result.json", "{\"method\": \"genas\", \"more\": 1}");
    let view = scratch.look("result");
    assert!(view.status == Status::Done && view.faults[0].contains("expected this version's"), "{view:?}");
    for (name, text) in [("torn", "a ="), ("bytes", "\u{0}"), ("empty", "")] {
        scratch.write(&format!("{name}/config.toml"), text);
        let view = scratch.look(name);
        assert!(view.status == Status::Running && view.faults.len() == 1, "{name}: {view:?}");
        assert!(!plain::line(&view).contains(char::is_control));
    }
}

#[test]
fn seeds_are_watched_as_they_come() {
    let scratch = Scratch::new();
    for seed in [1, 2, 10] {
        scratch.write(&format!("out/seed-{seed}/config.toml"), training().replace("\"3\"", &format!("\"{seed}\"")));
    }
    scratch.write("out/seed-1/result.json", TRAINED);
    scratch.write("out/seed-x/other", "");
    fs::create_dir(scratch.path("out/seed-11")).unwrap();
    let mut watched = scratch.open(&["out", "out"], false).unwrap();
    let states = |watched: &Watched| watched.views().iter().map(|view| view.status).collect::<Vec<_>>();
    assert_eq!(states(&watched), [Status::Done, Status::Running, Status::Running, Status::Waiting]);
    assert!(watched.views()[2].folder.ends_with("seed-10"));
    fs::remove_dir(scratch.path("out/seed-11")).unwrap();
    for seed in [2, 10] {
        scratch.write(&format!("out/seed-{seed}/result.json"), TRAINED);
    }
    watched.look();
    // Another may begin, unless all were laid over each other, or nothing has happened for long.
    assert!(states(&watched) == [Status::Done; 3] && !watched.is_over());
    scratch.write("out/report.html", "");
    assert!(watched.is_over());
    fs::remove_file(scratch.path("out/report.html")).unwrap();
    assert!(!watched.is_over());
    [1, 2, 10].iter().for_each(|seed| scratch.age(&format!("out/seed-{seed}"), 100));
    assert!(scratch.open(&["out"], false).unwrap().is_over());
}

#[test]
fn paths_that_are_no_runs_are_told_or_waited_for() {
    let scratch = Scratch::new();
    let why = |names: &[&str], wait| scratch.open(names, wait).err().unwrap().to_string();
    assert!(why(&["none"], false).contains("none: is not there") && why(&["none"], false).contains("--wait"));
    scratch.write("foreign/notes.txt", "");
    for wait in [false, true] {
        assert!(why(&["foreign"], wait).contains("holds neither a config.toml nor folders of seeds"));
        assert!(why(&["foreign/notes.txt"], wait).contains("cannot read"));
    }
    // It is not there yet, is made, begins, with files that are written first.
    let mut watched = scratch.open(&["none"], true).unwrap();
    for step in 0..3 {
        watched.look();
        assert!(watched.views()[0].status == Status::Waiting && !watched.is_over(), "{step}");
        match step {
            0 => fs::create_dir(scratch.path("none")).unwrap(),
            _ => scratch.write("none/tiles.json", "{}"),
        }
    }
    assert_eq!(scratch.look("none").status, Status::Waiting);
    scratch.write("none/config.toml", settings(1));
    watched.look();
    assert_eq!(watched.views()[0].status, Status::Running);
}
