//! `altiplano search --method flatnas` from outside: arms, inherited weights, limits, and options that do not fit.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn altiplano(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_altiplano"));
    command.args(args).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("ALTIPLANO_CACHE", folder.join("cache"));
    command
}

/// A search of eleven candidates of 480 images.
const SETTINGS: &str = "finals.images = 320\n[evaluator]\ntraining_images = 480\nimages = 100\ntraining.epochs = 2\n[strategy]\ninitial = 10\n";
const SEARCH: [&str; 21] = [
    "search",
    "--method",
    "flatnas",
    "--data",
    "digits",
    "--config",
    "small.toml",
    "--channels",
    "4",
    "--generations",
    "1",
    "--picks",
    "1",
    "--epochs",
    "1",
    "--draws",
    "2",
    "--max-params",
    "9000",
    "--minimize",
    "params,macs",
];

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_pick_stands_beside_the_baseline_under_both_optimisers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("small.toml"), SETTINGS).unwrap();
    let run = |args: &[&str]| {
        let output = altiplano(folder, args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[&SEARCH[..], &["--out", "whole", "--seeds", "2"]].concat());
    for word in ["front", "arm flat", "arm baseline", "arm random", "severity 5", "±", "hypervolume"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    let result: Value = serde_json::from_slice(&read(&folder.join("whole/result.json"))).unwrap();
    assert_eq!(result["evaluated"], 11);
    let arms = result["arms"].as_array().unwrap();
    assert!(arms.len() == 4 && arms.iter().all(|arm| arm["evaluated"] == 11));
    assert_eq!(arms[0]["steps"].as_array().unwrap().len(), 2);
    let front = result["front"].as_array().unwrap();
    assert!(!front.is_empty() && front.iter().all(|e| e["params"].as_u64().unwrap() <= 9000));
    // The whole of network and optimiser.
    let trained = result["finalists"].as_array().unwrap();
    let part = |row: &Value| (row["role"].as_str().unwrap().to_owned(), row["optimizer"].as_str().unwrap().to_owned());
    let parts: Vec<(String, String)> = trained.iter().map(part).collect();
    let want = [
        ("flat", "sam"),
        ("flat", "sgd"),
        ("baseline", "sam"),
        ("baseline", "sgd"),
        ("random", "sam"),
        ("random-by-accuracy", "sam"),
        ("largest", "sam"),
    ];
    assert_eq!(parts, want.map(|(role, optimizer)| (role.to_owned(), optimizer.to_owned())));
    for (row, arm) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 3)] {
        assert_eq!(trained[row]["arch"], arms[arm]["best"]["arch"], "row {row}");
    }
    for row in trained {
        let errors = row["corrupted_error"].as_array().unwrap();
        let mean = errors.iter().map(|e| e["mean"].as_f64().unwrap()).sum::<f64>() / errors.len() as f64;
        assert!(errors.len() == 5 && (mean - row["mean_corrupted_error"]["mean"].as_f64().unwrap()).abs() < 1e-9);
        assert!(row["clean_error"]["deviation"].as_f64().is_some() && row["params"].as_u64().unwrap() <= 9000);
    }
    assert!(result["final"]["flatness"].is_number() && result["final"]["corruption_accuracy"].is_number());
    objectives_follow_from_the_history(folder, &result);
}

/// And from it alone.
fn objectives_follow_from_the_history(folder: &Path, result: &Value) {
    let history = String::from_utf8(read(&folder.join("whole/history.jsonl"))).unwrap();
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    let of = |arm: &str| -> Vec<&Value> { lines.iter().filter(|entry| entry["arm"] == arm).collect() };
    let (entries, others, random) = (of("flat"), of("baseline"), of("random"));
    let column = |name: &str| -> Vec<f64> { entries.iter().map(|e| e["measures"][name].as_f64().unwrap()).collect() };
    let (errors, robustness) = (column("error"), column("robustness"));
    let names: std::collections::BTreeSet<&str> = entries.iter().map(|e| e["arch"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 11);
    // What always gives one answer is in no mean and on no front.
    let constant = result["constant_error"].as_f64().unwrap();
    let learned = |values: &[f64]| -> f64 { values.iter().zip(&errors).filter(|v| *v.1 < constant).map(|v| v.0).sum() };
    let norm = learned(&errors) / learned(&robustness);
    let arm = &result["arms"][0];
    let front = result["front"].as_array().unwrap();
    assert_eq!(arm["learned_nothing"], errors.iter().filter(|e| **e >= constant).count());
    assert!(constant > 50.0 && front.iter().all(|e| e["measures"]["error"].as_f64().unwrap() < constant));
    assert!((arm["scale"].as_f64().unwrap() / norm - 1.0).abs() < 1e-9);
    for found in front {
        let place = entries.iter().position(|e| e["arch"] == found["arch"]).unwrap();
        let f1 = 0.5 * errors[place] + 0.5 * norm * robustness[place];
        assert!((found["objectives"][0].as_f64().unwrap() - f1).abs() < 1e-9);
    }
    // The baseline begins with the same networks, trains them with SGD, and minimises the error alone.
    for (own, other) in entries.iter().zip(&others).take(10) {
        assert!(own["arch"] == other["arch"] && own["measures"]["training_loss"] != other["measures"]["training_loss"]);
    }
    for entry in &others {
        assert_eq!(entry["fitness"].as_f64().unwrap(), -entry["measures"]["error"].as_f64().unwrap());
    }
    // Random candidates are the same, whatever one is chosen by.
    let by_accuracy = of("random-by-accuracy");
    assert!(random.iter().zip(&by_accuracy).all(|(own, other)| own["measures"]["error"] == other["measures"]["error"]));
    let best = by_accuracy.iter().map(|e| e["measures"]["accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(result["arms"][3]["best"]["fitness"], best);
    // What both arms measure alike is measured once.
    for (own, other) in entries.iter().zip(&random).take(10) {
        assert_eq!((&own["arch"], &own["measures"]), (&other["arch"], &other["measures"]));
    }
}

/// Candidates that inherit: the supernet is trained once, and its weights are where all begin.
#[test]
fn inherited_weights_help_and_change_no_bit_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The first sample is all that is trained.
    let settings = [
        ("training.epochs = 2", "training.epochs = 1"),
        ("training_images = 480", "training_images = 640"),
        ("initial = 10", "initial = 6"),
    ];
    let settings = settings.iter().fold(SETTINGS.to_owned(), |text, (from, to)| text.replace(from, to));
    std::fs::write(folder.join("small.toml"), format!("arms = [\"flat\"]\n{settings}")).unwrap();
    let search = |out: &str, args: &[&str]| {
        let mut args = [&SEARCH[..], &["--lr", "0.02", "--out", out], args].concat();
        let generations = args.iter().position(|arg| *arg == "--generations").unwrap();
        args[generations + 1] = "0";
        altiplano(folder, &args).output().unwrap()
    };
    // So little training may teach fresh candidates nothing, which ends the search; their history is there all the same.
    search("fresh", &[]);
    // That candidates side by side change no bit is tested above from fresh weights, and here in the long form.
    let runs = [("inherited", &[][..]), ("alone", &["--side-by-side", "1"])];
    let runs = &runs[..if crate::common::long() { 2 } else { 1 }];
    for (out, more) in runs.iter().copied() {
        let output = search(out, &[&["--supernet-epochs", "10"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let result: Value = serde_json::from_slice(&read(&folder.join("inherited/result.json"))).unwrap();
    for file in ["history.jsonl", "best.safetensors", "table.csv"] {
        let whole = read(&folder.join("inherited").join(file));
        assert!(runs.iter().all(|(run, _)| read(&folder.join(run).join(file)) == whole), "{file} differs");
    }
    // What the search printed trains the chosen network once more, from the weights that it inherited.
    let again = altiplano(folder, &["train", "--quiet", "--config", "inherited/train.toml", "--out", "again"]);
    let again = { again }.output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(read(&folder.join("again/best.safetensors")) == read(&folder.join("inherited/best.safetensors")));
    // The networks at the end inherit too: ten steps from fresh weights would leave them at 90 %.
    let trained = result["finalists"].as_array().unwrap();
    assert_eq!(trained.len(), 3);
    let tested = trained.iter().map(|row| row["clean_error"]["mean"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!(tested < 75.0, "{tested}");
    let error = |run: &str| -> f64 {
        let history = String::from_utf8(read(&folder.join(run).join("history.jsonl"))).unwrap();
        let entries: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.iter().map(|e| e["measures"]["error"].as_f64().unwrap()).sum::<f64>() / entries.len() as f64
    };
    let (fresh, inherited) = (error("fresh"), error("inherited"));
    assert!(inherited < fresh - 15.0, "{inherited} against {fresh}");
}

#[test]
fn networks_that_learned_nothing_are_not_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("small.toml"), SETTINGS).unwrap();
    let output = altiplano(folder, &[&SEARCH[..], &["--lr", "1e-9", "--out", "run"]].concat()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("none of 11 candidates can be chosen") && error.contains("11 learned nothing"), "{error}");
    assert!(!folder.join("run/result.json").exists() && !folder.join("run/best.safetensors").exists());
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (args, message) in [
        (&["--method", "flatnas", "--alpha", "1.5"][..], "expected 0 (robustness alone) to 1 (error alone)"),
        (&["--method", "flatnas", "--alpha", "nan"], "expected 0 (robustness alone)"),
        (
            &["--method", "flatnas", "--max-params", "10"],
            "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, has",
        ),
        (
            &["--method", "flatnas", "--max-macs", "10"],
            "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, has",
        ),
        (&["--method", "flatnas", "--initial", "4"], "needs at least 10 evaluated samples"),
        (&["--method", "flatnas", "--initial", "8", "--surrogate", "rbf"], "needs at least"),
        (&["--method", "flatnas", "--initial", "1", "--surrogate", "none"], "at least 2"),
        (&["--method", "flatnas", "--surrogate", "forest"], "unknown"),
        (&["--method", "flatnas", "--generations", "9999999999999999999"], "expected at most"),
        (&["--method", "flatnas", "--evaluations", "7000"], "6466 differ"),
        (&["--method", "flatnas", "--sigma=-1"], "expected 0 to 10"),
        (&["--method", "flatnas", "--draws", "0"], "expected at least 1"),
        (&["--method", "flatnas", "--seeds", "0"], "expected 1 to 1000"),
        (&["--method", "flatnas", "--sigmas", "0.1"], "--sigmas: is for --method genas and random"),
        (&["--method", "flatnas", "--surrogate", "none", "--picks", "3"], "--population"),
        (&["--method", "flatnas", "--maximize", "accuracy"], "--truth"),
        (&["--method", "flatnas", "--proxy", "croze"], "is for --method croze"),
        (&["--method", "genas", "--alpha", "0.5"], "is for --method flatnas"),
        (&["--method", "genas", "--surrogate", "gp"], "is for --method flatnas"),
        (&["--method", "genas", "--arms", "flatness,acuracy"], "did you mean `accuracy`"),
        (&["--method", "genas", "--strategy", "evolve"], "known: random"),
        (&["--method", "croze", "--arms", "proxy,baseline"], "arm of --method croze"),
        (&["--method", "flatnoz"], "flatnas"),
        (
            &["--method", "flatnas", "--dry-run", "--max-params", "10"],
            "the smallest network, |none~0|+|none~0|none~1|+|none~0|none~1|none~2|, has",
        ),
        (&["--resume"], "there is no run in run"),
        (&["--resume", "--method", "flatnas"], "there is no run in run"),
    ] {
        let args = [&["search", "--data", "digits", "--out", "run"][..], args].concat();
        let output = altiplano(folder, &args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(message) && !folder.join("run").exists(), "{args:?}: {error}");
    }
}

#[test]
fn a_file_says_what_options_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("small.toml"), SETTINGS).unwrap();
    for class in ["a", "b"] {
        for part in ["train", "test"] {
            let place = folder.join("images").join(part).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for n in 0..40u8 {
                image::RgbImage::from_pixel(8, 8, image::Rgb([n, 2 * n, if class == "a" { 0 } else { 200 }]))
                    .save(place.join(format!("{n}.png")))
                    .unwrap();
            }
        }
    }
    let text = format!("method = \"flatnas\"\ndata = \"images\"\nseed = 3\n{SETTINGS}");
    std::fs::write(folder.join("whole.toml"), text).unwrap();
    let config = |args: &[&str]| -> Value {
        let output = altiplano(folder, &[&["search", "--dry-run", "--json"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["config"].clone()
    };
    let file = config(&["--config", "whole.toml"]);
    assert_eq!((&file["method"], &file["seed"]), (&"flatnas".into(), &3.into()));
    assert_eq!(file["data"].as_str().unwrap(), folder.join("images").to_str().unwrap());
    let both = config(&["--config", "whole.toml", "--data", "digits", "--seed", "5", "--alpha", "0.25"]);
    assert_eq!(
        (&both["data"], &both["seed"], &both["objectives"]["alpha"]),
        (&"digits".into(), &5.into(), &0.25.into())
    );
    let bad = |args: &[&str], message: &str| {
        let output = altiplano(folder, &[&["search"], args].concat()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(message), "{args:?}: {error}");
    };
    bad(&["--config", "whole.toml", "--out", "images/train/run"], "overlap");
    assert!(!folder.join("images/train/run").exists());
    // What a run was begun with stays; the same command goes on with it.
    std::fs::create_dir(folder.join("run")).unwrap();
    let begun = altiplano(folder, &["search", "--dry-run", "--config", "whole.toml"]).output().unwrap();
    std::fs::write(folder.join("run/config.toml"), begun.stdout).unwrap();
    let resumed = ["--resume", "--out", "run"];
    assert_eq!(config(&resumed), file);
    assert_eq!(config(&[&resumed[..], &["--config", "whole.toml"]].concat()), file);
    bad(
        &[&resumed[..], &["--config", "whole.toml", "--alpha", "0.9"]].concat(),
        "objectives.alpha is 0.5 in the run and 0.9 by the options",
    );
    bad(&[&resumed[..], &["--method", "genas"]].concat(), "begun with flatnas");
    bad(&[&resumed[..], &["--method", "flatnas"]].concat(), " in the run and ");
}
