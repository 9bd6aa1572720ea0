//! What a run depends on: it is written down, it is checked when the run goes on, and it makes the run repeatable.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{ARCH, Scratch, short};

/// A search at random of seconds.
fn search<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["search", "--method", "random", "--data", "digits", "--config", "small.toml", "--out", out];
    args.extend(["--channels", "4", "--cells", "1", "--epochs", "1", "--supernet-epochs", "1", "--draws", "1"]);
    args.extend(options);
    args
}

const SMALL: &str = "evaluator.images = 50
evaluator.recalibration_batches = 1
strategy.batch = 4
finals.judged_images = 20
";

fn config(scratch: &Scratch, run: &str) -> toml::Table {
    toml::from_str(&String::from_utf8(scratch.read(&format!("{run}/config.toml"))).unwrap()).unwrap()
}

#[test]
fn a_run_says_what_it_depends_on_and_refuses_other_inputs() {
    let scratch = Scratch::new();
    scratch.image_folder("first", &["a", "b"], 16);
    scratch.image_folder("second", &["a", "b"], 17);
    scratch.good(&short("start", &["--data", "first", "--batch", "8"]));
    let from = ["--data", "first", "--batch", "8", "--epochs", "2", "--from", "start/best.safetensors"];
    scratch.good(&short("run", &from));
    let record = config(&scratch, "run")["record"].clone();
    let text = |key: &str| record[key].as_str().unwrap().to_owned();
    assert_eq!(text("version"), env!("CARGO_PKG_VERSION"));
    assert!(!text("adapter").is_empty() && !text("driver").is_empty() && text("tiles").contains("pointwise"));
    assert_eq!(record["classes"].as_array().unwrap().len(), 2);
    for (what, path, files) in [("data", "first", 36), ("from", "start/best.safetensors", 1)] {
        let input = &record["inputs"][what];
        assert_eq!(input["path"].as_str().unwrap(), scratch.path(path).canonicalize().unwrap().to_str().unwrap());
        assert_eq!(input["files"].as_integer().unwrap(), files);
        assert_eq!(input["checksum"].as_str().unwrap().len(), 32);
        assert_eq!(input["hashed"].as_str().unwrap(), "all contents");
    }
    let before = scratch.read("run/best.safetensors");
    let resume = ["train", "--quiet", "--resume", "--out", "run"];
    scratch.good(&resume);

    // Other contents under the same name.
    let image = scratch.path("first/train/a/3.png");
    let own = std::fs::read(&image).unwrap();
    image::GrayImage::from_pixel(8, 8, image::Luma([9])).save(&image).unwrap();
    scratch.bad(2, &resume, &["--data", "is not what the run began with", "checksum"]);
    std::fs::write(&image, own).unwrap();
    for part in ["train", "test"] {
        std::fs::rename(scratch.path(&format!("first/{part}/a")), scratch.path(&format!("first/{part}/c"))).unwrap();
    }
    scratch.bad(2, &resume, &["--data", "class 0 was `a` and is `b`"]);
    for part in ["train", "test"] {
        std::fs::rename(scratch.path(&format!("first/{part}/c")), scratch.path(&format!("first/{part}/a"))).unwrap();
    }
    // The settings of another run belong to its data.
    scratch.good(&short("other", &["--quiet"]));
    scratch.bad(2, &[&resume[..], &["--config", "other/config.toml"]].concat(), &["other/config.toml", "--data"]);
    // Other data by the option, other weights, and the same elsewhere.
    scratch.bad(2, &[&resume[..], &["--data", "second"]].concat(), &["--data", "is not what the run began with"]);
    std::fs::rename(scratch.path("first"), scratch.path("moved")).unwrap();
    scratch.bad(2, &resume, &["--data", "the run began with it", "say where it lies now"]);
    scratch.good(&[&resume[..], &["--data", "moved"]].concat());
    scratch.good(&resume);
    std::fs::rename(scratch.path("start"), scratch.path("began")).unwrap();
    scratch.bad(2, &resume, &["start/best.safetensors"]);
    scratch.bad(2, &[&resume[..], &["--from", "run/best.safetensors"]].concat(), &["--from", "is not what the run"]);
    scratch.good(&[&resume[..], &["--from", "began/best.safetensors"]].concat());
    assert_eq!(scratch.read("run/best.safetensors"), before);
    // From another folder, where the relative names mean nothing.
    let run = scratch.path("run").display().to_string();
    let output = scratch.command(&["train", "--resume", "--out", &run]).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn another_version_or_driver_is_told_and_kept() {
    let scratch = Scratch::new();
    scratch.good(&short("run", &["--quiet"]));
    let text = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version));
    scratch.write("run/config.toml", text.replace(&version, "version = \"0.0.9\""));
    let resume = ["train", "--resume", "--out", "run"];
    let strict = [&resume[..], &["--strict"]].concat();
    scratch.bad(2, &strict, &["--strict", "version: 0.0.9 until then"]);
    let output = scratch.run(&resume);
    assert!(output.code == 0 && output.stderr.contains("warning: version: 0.0.9"), "{}", output.stderr);
    let result: Value = serde_json::from_slice(&scratch.read("run/result.json")).unwrap();
    assert!(result["changes"][0].as_str().unwrap().starts_with("version: 0.0.9"), "{}", result["changes"]);
    // It stays in the record, and is no difference any more.
    scratch.good(&strict);
    let result: Value = serde_json::from_slice(&scratch.read("run/result.json")).unwrap();
    assert_eq!(result["changes"].as_array().unwrap().len(), 1);
    scratch.bad(2, &short("other", &["--strict"]), &["--resume"]);
    // Edited settings are no settings of this run.
    let text = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    for (from, to) in [("seed = 1\n", "seed = 2\n"), ("momentum = 0.9\n", "momentum = 0.5\n")] {
        assert!(text.contains(from));
        scratch.write("run/config.toml", text.replace(from, to));
        scratch.bad(2, &resume, &["config.toml", "settings were changed since the run began"]);
    }
    // Without a record nothing is known of it.
    scratch.write("run/config.toml", text.split("[record]").next().unwrap());
    scratch.bad(2, &strict, &["--strict", "does not say with which version"]);
    let output = scratch.run(&resume);
    assert!(output.code == 0 && output.stderr.contains("its inputs cannot be checked"), "{}", output.stderr);
}

#[test]
fn what_is_printed_trains_the_same_network() {
    let scratch = Scratch::new();
    scratch.write("small.toml", SMALL);
    let command = |text: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("altiplano ")).unwrap();
        line.split(' ').map(str::to_owned).collect()
    };
    let repeat = |run: &str, text: &str| {
        let again = command(text);
        scratch.good(&again.iter().map(String::as_str).collect::<Vec<_>>());
        let other = format!("{run}-again/best.safetensors");
        assert_eq!(scratch.read(&other), scratch.read(&format!("{run}/best.safetensors")), "{run}");
    };
    let options = ["--epochs", "2", "--optimizer", "sam", "--rho", "0.1", "--lr", "0.03", "--weight-decay", "0.001"];
    let text = scratch.good(&short("run", &[&options[..], &["--seed", "18446744073709551615"]].concat()));
    repeat("run", &text);
    let text = scratch.good(&search("found", &["--evaluations", "2", "--lr", "0.02", "--momentum", "0.8"]));
    repeat("found", &text);
    // The settings of a search are for its own data.
    scratch.image_folder("other", &["a", "b"], 16);
    let text = String::from_utf8(scratch.read("found/train.toml")).unwrap();
    let other = scratch.path("other").display().to_string();
    scratch.write("other.toml", text.replace("data = \"digits\"", &format!("data = \"{other}\"")));
    scratch.bad(
        2,
        &["train", "--config", "other.toml", "--out", "x"],
        &["other.toml", "its classes are not those of the run"],
    );
}

#[test]
fn seeds_of_all_64_bits_go_on() {
    let scratch = Scratch::new();
    for seed in ["0", "9223372036854775808", "18446744073709551615"] {
        scratch.good(&short(seed, &["--quiet", "--seed", seed]));
        scratch.good(&["train", "--quiet", "--resume", "--seed", seed, "--out", seed]);
        let result: Value = serde_json::from_slice(&scratch.read(&format!("{seed}/result.json"))).unwrap();
        assert_eq!(result["seed"].to_string(), seed);
    }
    scratch.bad(2, &short("out", &["--seed", "-1"]), &["invalid value '-1' for '--seed"]);
}

#[test]
fn messages_name_what_was_given() {
    let scratch = Scratch::new();
    scratch.write("small.toml", SMALL);
    scratch.good(&search("run", &["--quiet", "--evaluations", "2"]));
    let resume = |options: &[&'static str]| [&["search", "--quiet", "--resume", "--out", "run"], options].concat();
    scratch.bad(2, &resume(&["--evaluations", "4"]), &["--resume", "evaluations is 2 in the run and 4 by the options"]);
    scratch.good(&resume(&["--evaluations", "2"]));
    scratch.bad(2, &resume(&["--lr", "0.5"]), &["training.lr is"]);
    let none = ["search", "--data", "digits", "--out", "x", "--supernet-epochs", "0"];
    scratch.bad(2, &none, &["--supernet-epochs: 0; candidates share the weights of a supernet"]);
    scratch.good(&short("train", &["--quiet", "--epochs", "2"]));
    scratch.good(&["train", "--quiet", "--resume", "--epochs", "2", "--out", "train"]);
    scratch.bad(
        2,
        &["train", "--resume", "--epochs", "3", "--out", "train"],
        &["training.epochs is 2 in the run and 3"],
    );
}

#[test]
fn every_method_reads_or_refuses_the_space() {
    let scratch = Scratch::new();
    scratch.write("space.toml", "space = \"cubes\"\n");
    let refused = ["--space", "`cubes` is unknown"];
    for method in ["genas", "random", "croze", "flatnas"] {
        let args = ["search", "--method", method, "--config", "space.toml", "--out", "out"];
        scratch.bad(2, &args, &refused);
    }
    scratch.bad(2, &short("out", &["--config", "space.toml"]), &refused);
    // The released behaviour, asked for in the file, is more than a word.
    scratch.write("compat.toml", "compat = true\n");
    for method in ["genas", "croze", "flatnas"] {
        let dry = |options: &[&str]| {
            let plan = scratch.json(&[&["search", "--json", "--dry-run", "--method", method], options].concat());
            [plan["config"].clone(), plan["arms"].clone(), plan["gflop"].clone()]
        };
        assert_eq!(dry(&["--config", "compat.toml"]), dry(&["--compat"]), "{method}");
    }
    // Keys of one method are no others'.
    for (method, key, owner) in [
        ("genas", "strategy.pool = 3", "croze"),
        ("croze", "evaluator.images = 3", "genas"),
        ("flatnas", "objectives.maximize = \"loss\"", "genas"),
    ] {
        scratch.write("key.toml", key);
        let name = format!("key {}", key.split(' ').next().unwrap());
        scratch.bad(
            2,
            &["search", "--method", method, "--config", "key.toml", "--out", "x"],
            &[&name, owner, "key.toml"],
        );
    }
    scratch.write("key.toml", "strategy.kind = \"evolve\"");
    scratch.bad(2, &["search", "--config", "key.toml", "--out", "x"], &["`evolve` is unknown"]);
    scratch.write("key.toml", "evaluation = 3");
    scratch.bad(2, &["search", "--config", "key.toml", "--out", "x"], &["key.toml", "evaluator"]);
}

/// As they were laid out before all methods had one configuration.
#[test]
fn files_of_earlier_versions_are_read() {
    let scratch = Scratch::new();
    let read = |method: &str, text: &str| -> Value {
        scratch.write("old.toml", text);
        scratch.json(&["search", "--dry-run", "--json", "--method", method, "--config", "old.toml"])["config"].clone()
    };
    let genas = read(
        "genas",
        "channels = 4\ntrain_share = 0.6\nevaluations = 0\nbaseline = false\n[evaluation]\nimages = 70\n[evaluation.flatness]\n\
         draws = 3\n[evolution]\npopulation = 6\ngenerations = 3\nparents = 2\nmutations = 3\ncrossovers = 3\n[protocol]\nsame_parents = true\n",
    );
    assert_eq!((&genas["build"]["channels"], &genas["evaluations"]), (&4.into(), &18.into()));
    assert_eq!(genas["arms"], serde_json::json!(["flatness"]));
    let evaluator = &genas["evaluator"];
    assert_eq!((&evaluator["images"], &evaluator["train_share"]), (&70.into(), &0.6.into()));
    assert_eq!((&evaluator["flatness"]["draws"], &genas["strategy"]["population"]), (&3.into(), &6.into()));
    assert_eq!(genas["strategy"]["protocol"]["same_parents"], true);
    let flatnas = read(
        "flatnas",
        "alpha = 0.3\nseeds = 2\nfinal_images = 99\ngenerations = 2\nevaluations = 0\n[search]\ninitial = 12\npicks = 3\n\
         [candidates]\nimages = 50\nsigma = 0.1\n",
    );
    assert_eq!((&flatnas["objectives"]["alpha"], &flatnas["evaluations"]), (&0.3.into(), &18.into()));
    assert_eq!((&flatnas["finals"]["seeds"], &flatnas["finals"]["images"]), (&2.into(), &99.into()));
    assert_eq!((&flatnas["evaluator"]["noise"]["sigma"], &flatnas["evaluator"]["images"]), (&0.1.into(), &50.into()));
    let minimized = |text: &str| read("flatnas", text)["minimize"].clone();
    let both = serde_json::json!(["params", "macs"]);
    assert_eq!([&flatnas["minimize"], &minimized("minimize_macs = true\n")], [&both, &both]);
    for text in ["minimize_macs = false\n", "[objectives]\nminimize_macs = false\nalpha = 0.5\n"] {
        assert_eq!(minimized(text), serde_json::json!(["params"]), "{text}");
    }
    let croze = read("croze", "proxy = \"synflow\"\nbatch = 4\nstrategy = \"mutate\"\nmoves = 2\nattacks = []\n");
    assert_eq!(
        (&croze["objectives"]["maximize"], &croze["evaluator"]["proxy"]),
        (&"synflow".into(), &"synflow".into())
    );
    assert_eq!(croze["strategy"], serde_json::json!({"kind": "moves", "pool": 1, "moves": 2}));
    assert_eq!(
        (&croze["evaluator"]["scored_batch"], croze["finals"]["attacks"].as_array().unwrap().len()),
        (&4.into(), 0)
    );
    let random = read("random", "[evolution]\npopulation = 7\nparents = 3\n");
    assert_eq!(random["strategy"]["batch"], 7);
}

/// A script in the folder, with the environment of the program.
fn in_bash(scratch: &Scratch, script: &str) -> std::process::Command {
    let plain = scratch.command(&[]);
    let mut command = std::process::Command::new("bash");
    command.arg("-c").arg(script).current_dir(scratch.path(""));
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn progress_is_advice() {
    let scratch = Scratch::new();
    let program = env!("CARGO_BIN_EXE_altiplano");
    image::GrayImage::from_pixel(9, 9, image::Luma([90])).save(scratch.path("a.png")).unwrap();
    let train = short("out", &[]).iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    let jobs = [
        train,
        format!("score --arch '{ARCH}' --channels 4 --cells 1 --data digits --proxies params,l2_norm"),
        "corrupt --input a.png --out b --kind fog".to_owned(),
    ];
    for job in &jobs {
        for end in ["2>/dev/full", "2>&1 >result | head -0"] {
            let script = format!("set -o pipefail; '{program}' {job} --force {end}");
            let output = in_bash(&scratch, &script).output().unwrap();
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Waits until the run in a folder has begun.
fn begun(scratch: &Scratch, out: &str) {
    let start = Instant::now();
    while !scratch.path(out).join("config.toml").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{out} does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    use std::io::{BufRead, Read};
    let scratch = Scratch::new();
    // What is to be stopped has far too much to do to end by itself before the signal comes.
    // Whoever runs the tests under nohup has made all of them deaf to the first.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let deaf = u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1;
    let stops = if deaf { "TERM" } else { "HUP" };
    for (signal, trap, epochs) in [("HUP", "trap '' HUP;", "3"), ("INT", "trap '' INT;", "3"), (stops, "", "20000")] {
        let args: Vec<String> = short("out", &["--epochs", epochs]).iter().map(|arg| format!("'{arg}'")).collect();
        let script = format!("{trap} exec '{}' {} --force", env!("CARGO_BIN_EXE_altiplano"), args.join(" "));
        let _ = std::fs::remove_dir_all(scratch.path("out"));
        let mut command = in_bash(&scratch, &script);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        // Handlers are set before the first word of progress.
        let mut error = String::new();
        while !error.contains("training") {
            assert!(stderr.read_line(&mut error).unwrap() > 0, "no training: {error}");
        }
        let kill = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(kill.unwrap().success(), "the training had ended before");
        stderr.read_to_string(&mut error).unwrap();
        let ignored = !trap.is_empty();
        assert_eq!(child.wait().unwrap().success(), ignored, "{signal} {trap}: {error}");
        assert!(ignored || error.contains("stopped on request"), "{error}");
    }
}

/// However often it is killed: weights that were given are part of the run.
#[test]
fn training_killed_at_random_times_with_given_weights() {
    let scratch = Scratch::new();
    let runs = if crate::common::long() { 20 } else { 3 };
    scratch.good(&short("start", &["--quiet", "--seed", "5"]));
    fn args(out: &str) -> Vec<&str> {
        short(out, &["--quiet", "--epochs", "3", "--from", "start/best.safetensors"])
    }
    let start = Instant::now();
    scratch.good(&args("whole"));
    let whole = start.elapsed();
    let mut draw = altiplano::philox::Stream::new(3, 1, 4);
    let mut kills = 0;
    for number in 0..runs {
        let out = format!("run{number}");
        let mut child = scratch.command(&args(&out)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        begun(&scratch, &out);
        std::thread::sleep(whole.mul_f64(0.6 * draw.uniform()));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        scratch.good(&["train", "--quiet", "--resume", "--out", &out]);
        let same = scratch.read(&format!("{out}/best.safetensors")) == scratch.read("whole/best.safetensors");
        assert!(same, "{out} ended with other bits");
        assert!(scratch.read(&format!("{out}/mistakes.png")) == scratch.read("whole/mistakes.png"), "{out}");
        let told = |run: &str| -> serde_json::Value {
            let mut result: serde_json::Value =
                serde_json::from_slice(&scratch.read(&format!("{run}/result.json"))).unwrap();
            result["seconds"] = 0.into();
            result
        };
        assert_eq!(told(&out), told("whole"));
        assert_eq!(told("whole")["judged"]["curve"].as_array().unwrap().len(), 3);
    }
    println!("{kills} of {runs} trainings were killed before their end");
    assert!(kills > 0);
}
