//! The program from outside: what it answers, and what it says about bad input: one clear message, the exit code, and
//! nothing half-written.
#![cfg(feature = "cli")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use altiplano::nn::tensors::{Named, load, to_bytes};
use assert_cmd::Command;
use serde_json::Value;

const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

/// A folder to run in.
struct Scratch {
    folder: tempfile::TempDir,
}

/// What a run left behind.
struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Scratch {
    fn new() -> Self {
        Scratch { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
            .args(args)
            .current_dir(self.folder.path())
            // Drivers complain about a desktop's folder that is not there.
            .env("XDG_RUNTIME_DIR", self.folder.path())
            // Whatever has been tuned on this machine is not for tests.
            .env("ALTIPLANO_CACHE", self.path("cache"))
            .env_remove("RUST_LOG")
            .timeout(std::time::Duration::from_secs(120))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let output = Output {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!output.stderr.contains("panicked"), "{args:?} panicked: {}", output.stderr);
        output
    }

    /// Runs what must succeed; stdout.
    #[track_caller]
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
        output.stdout
    }

    /// Runs what must succeed and print one JSON document.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Runs what must fail with this code and one message that holds all of `parts`. Nothing may be written.
    #[track_caller]
    fn bad(&self, code: i32, args: &[&str], parts: &[&str]) {
        let before = self.files();
        self.stops(code, args, parts);
        assert_eq!(self.files(), before, "{args:?} left something behind");
    }

    /// The same, but files may be there afterwards.
    #[track_caller]
    fn stops(&self, code: i32, args: &[&str], parts: &[&str]) {
        let output = self.run(args);
        assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?} prints a result");
        let all: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("error: XDG_RUNTIME_DIR")).collect();
        let messages: Vec<usize> = (0..all.len()).filter(|&i| all[i].starts_with("error: ")).collect();
        assert_eq!(messages.len(), 1, "{args:?}: not one message: {}", output.stderr);
        let message = all[messages[0]..].join("\n");
        for part in parts {
            assert!(message.contains(part), "{args:?}: `{part}` is not in: {message}");
        }
    }

    /// All files and folders with their sizes.
    fn files(&self) -> BTreeMap<PathBuf, u64> {
        fn list(folder: &Path, into: &mut BTreeMap<PathBuf, u64>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let data = path.metadata().unwrap();
                into.insert(path.clone(), if data.is_dir() { 0 } else { data.len() });
                if data.is_dir() {
                    list(&path, into);
                }
            }
        }
        let mut files = BTreeMap::new();
        list(self.folder.path(), &mut files);
        files
    }
}

/// `altiplano train` on the digits with options.
fn train<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--quiet", "--data", "digits", "--arch", ARCH, "--channels", "4", "--out", "out"];
    args.extend(options);
    args
}

/// A golden case of the repository.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nb201/1_mixed").join(name)
}

/// `altiplano step` on the golden case with these weights.
fn step<'a>(weights: &'a str, options: &[&'a str]) -> Vec<String> {
    let info: Value = serde_json::from_slice(&std::fs::read(golden("case.json")).unwrap()).unwrap();
    let batch = golden("batch.safetensors").display().to_string();
    let mut args = vec!["step", "--arch", info["arch"].as_str().unwrap(), "--weights", weights, "--batch", &batch];
    args.extend(["--out", "step.safetensors"]);
    args.extend(options);
    args.into_iter().map(str::to_owned).collect()
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn devices_are_listed() {
    let list = Scratch::new().json(&["devices", "--json"]);
    let list = list.as_array().unwrap();
    assert!(!list.is_empty());
    for (i, device) in list.iter().enumerate() {
        assert_eq!(device["index"].as_u64(), Some(i as u64));
        for key in ["name", "backend", "type", "driver"] {
            assert!(device[key].is_string(), "{key} of {device}");
        }
        assert_eq!(device["tuned"], false, "{device}");
        assert!(device["limits"].is_object() && device["features"].is_array(), "{device}");
    }
    assert_eq!(list.iter().filter(|device| device["chosen"] == true).count(), 1);
}

#[test]
fn spaces_and_data_are_described() {
    let scratch = Scratch::new();
    let info = scratch.json(&["space", "info", "--arch", "333132", "--json"]);
    assert_eq!(info["params"], 1_073_466);
    assert!(scratch.good(&["space", "info", "--arch", "333132"]).contains("1073466 parameters"));
    assert!(scratch.good(&["space", "list"]).contains("nas-bench-201: 15625 architectures"));
    assert_eq!(scratch.json(&["space", "list", "--json"])[0]["unique"], 6_466);
    assert!(scratch.good(&["data", "list"]).contains("data_batch_"));
    assert!(scratch.json(&["data", "list", "--json"]).as_array().unwrap().len() >= 4);
    for command in ["info", "verify"] {
        let digits = scratch.json(&["data", command, "digits", "--json"]);
        assert_eq!((&digits["train"]["images"], &digits["test"]["images"]), (&1442.into(), &355.into()), "{digits}");
    }
    assert!(scratch.good(&["data", "verify", "digits"]).contains("whole: yes"));
    assert!(scratch.good(&["--version"]).starts_with("altiplano "));
    assert!(scratch.good(&["--help"]).contains("search"));
}

#[test]
fn a_dry_run_writes_nothing() {
    let scratch = Scratch::new();
    let text = scratch.good(&["search", "--dry-run", "--out", "out"]);
    assert!(text.contains("supernet steps") && text.contains("GFLOP"), "{text}");
    let plan = scratch.json(&["search", "--dry-run", "--method", "random", "--evaluations", "7", "--json"]);
    assert_eq!((&plan["config"]["method"], &plan["candidates"]), (&"random".into(), &14.into()), "{plan}");
    assert_eq!(scratch.files().len(), 0);
    // What it prints can be given back.
    scratch.write("all.toml", text);
    let again = scratch.json(&["search", "--dry-run", "--config", "all.toml", "--json"]);
    assert_eq!(again["config"], scratch.json(&["search", "--dry-run", "--json"])["config"]);
}

#[test]
fn a_step_writes_its_tensors() {
    let scratch = Scratch::new();
    let weights = golden("weights.safetensors").display().to_string();
    let args = step(&weights, &["--mode", "train", "--grads", "--optimizer", "sgd", "--json"]);
    let answer = scratch.json(&refs(&args));
    let (tensors, _) = load(&scratch.path("step.safetensors")).unwrap();
    assert_eq!(tensors["logits"].dims, [8, 10]);
    assert_eq!(f64::from(tensors["loss"].data[0]) as f32, answer["loss"].as_f64().unwrap() as f32);
    let (given, _) = load(Path::new(&weights)).unwrap();
    let count = |prefix: &str| tensors.keys().filter(|name| name.starts_with(prefix)).count();
    let state = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
    let states = given.keys().filter(|name| state(name)).count();
    assert_eq!(count("state."), states);
    assert!(states > 10 && count("grad.") > 10 && count("grad.") <= count("param."));
    assert!(tensors.values().all(|values| values.data.iter().all(|v| v.is_finite())));
    for (name, values) in tensors.iter().filter(|(name, _)| name.starts_with("param.")) {
        assert_eq!(values.dims, given[&name["param.".len()..]].dims, "{name}");
    }
}

#[test]
fn a_training_leaves_a_model_that_is_measured_and_refined() {
    let scratch = Scratch::new();
    let result = scratch.json(&train(&["--epochs", "1", "--json"]));
    let stored: Value = serde_json::from_slice(&std::fs::read(scratch.path("out/result.json")).unwrap()).unwrap();
    assert_eq!(stored, result);
    assert_eq!(result["final"]["test_images"], 355);
    let measured =
        scratch.json(&["flatness", "--model", "out/best.safetensors", "--data", "digits", "--draws", "2", "--json"]);
    assert_eq!(measured["clean"]["accuracy"], result["final"]["clean_accuracy"]);
    assert_eq!(measured["profile"].as_array().unwrap().len(), 4);

    // The folder is now somebody's.
    let before = scratch.files();
    scratch.bad(2, &train(&["--epochs", "1"]), &["out", "not empty", "--resume", "--force"]);
    assert_eq!(scratch.files(), before);
    scratch.bad(2, &["search", "--quiet", "--out", "out"], &["out", "not empty"]);
    scratch.bad(2, &train(&["--resume", "--force"]), &["--resume", "--force"]);
    scratch.write("out/notes.txt", "mine");
    scratch.good(&train(&["--epochs", "1", "--force"]));
    assert_eq!(std::fs::read(scratch.path("out/notes.txt")).unwrap(), b"mine");
    let again: Value = serde_json::from_slice(&std::fs::read(scratch.path("out/result.json")).unwrap()).unwrap();
    assert_eq!(again["final"], result["final"]);

    // Sigmas, draws and models that are none.
    for (sigmas, part) in [("0.1,0.05", "--sigmas"), ("0.1,0.1", "--sigmas"), ("0,1", "--sigmas"), ("nan", "--sigmas")]
    {
        let args = ["flatness", "--model", "out/best.safetensors", "--data", "digits", "--sigmas", sigmas];
        scratch.bad(2, &args, &[part, "rising"]);
    }
    let args = ["flatness", "--model", "out/best.safetensors", "--data", "digits", "--draws", "0"];
    scratch.bad(2, &args, &["--draws"]);
    let args = ["flatness", "--model", "out/best.safetensors", "--data", "digits", "--noise", "mull"];
    scratch.bad(2, &args, &["--noise", "did you mean `mul`?"]);
    let weights = golden("weights.safetensors").display().to_string();
    scratch.bad(2, &["flatness", "--model", &weights, "--data", "digits"], &["weights.safetensors", "metadata"]);

    // A checkpoint that the disk has spoiled.
    let path = scratch.path("out/checkpoint/training.ckpt");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    scratch.stops(2, &train(&["--resume"]), &["training.ckpt", "damaged"]);
    std::fs::write(&path, &bytes[..middle]).unwrap();
    scratch.stops(2, &train(&["--resume"]), &["training.ckpt", "cut or damaged"]);
}

/// One record of CIFAR-10.
fn record(label: u8) -> Vec<u8> {
    let mut bytes = vec![label];
    bytes.extend([128; 3072]);
    bytes
}

#[test]
fn damaged_data() {
    let scratch = Scratch::new();
    let two = [record(3), record(4)].concat();
    let good = |name: &str| scratch.write(&format!("cifar/{name}"), record(1));
    let load = |data: &str, parts: &[&str]| {
        scratch.bad(2, &["train", "--data", data, "--arch", ARCH, "--out", "out"], parts);
        scratch.bad(2, &["data", "verify", data], parts);
    };
    good("test_batch.bin");
    let batch = |bytes: &[u8]| scratch.write("cifar/data_batch_1.bin", bytes);
    batch(&two[..5000]);
    load("cifar", &["data_batch_1.bin", "at byte 5000", "cut off"]);
    batch(&[&two[..], &[0; 7]].concat());
    load("cifar", &["data_batch_1.bin", "at byte 6153", "cut off"]);
    batch(&[record(3), record(10)].concat());
    load("cifar", &["data_batch_1.bin", "at byte 3073", "label 10", "10 classes"]);
    batch(&[]);
    load("cifar", &["no images"]);
    std::fs::remove_file(scratch.path("cifar/test_batch.bin")).unwrap();
    load("cifar", &["test_batch.bin", "missing"]);

    let header = |magic: u32, sizes: &[u32]| -> Vec<u8> {
        std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes()).collect()
    };
    let images = |bytes: Vec<u8>| scratch.write("idx/train-images-idx3-ubyte", bytes);
    let labels = |bytes: Vec<u8>| scratch.write("idx/train-labels-idx1-ubyte", bytes);
    let two = [header(0x0803, &[2, 4, 4]), vec![7; 32]].concat();
    let right = [header(0x0801, &[2]), vec![1, 2]].concat();
    scratch.write("idx/t10k-images-idx3-ubyte", &two);
    scratch.write("idx/t10k-labels-idx1-ubyte", &right);
    labels(right.clone());
    images([header(0x0802, &[2, 4, 4]), vec![7; 32]].concat());
    load("idx", &["train-images-idx3-ubyte", "at byte 0", "magic"]);
    images(two[..40].to_vec());
    load("idx", &["train-images-idx3-ubyte"]);
    images([&two[..], &[0; 3]].concat());
    load("idx", &["train-images-idx3-ubyte"]);
    // A header that promises more than a disk holds takes no memory.
    images(header(0x0803, &[u32::MAX, 4096, 4096]));
    load("idx", &["train-images-idx3-ubyte", "at most"]);
    images(two);
    labels([header(0x0801, &[2]), vec![1, 200]].concat());
    load("idx", &["train-labels-idx1-ubyte", "label 200", "10 classes"]);
    labels([header(0x0801, &[3]), vec![1, 2, 3]].concat());
    load("idx", &["train-labels-idx1-ubyte", "3 labels for the 2 images"]);

    load("nowhere", &["`nowhere`", "digits"]);
    scratch.write("empty/readme.txt", "nothing");
    load("empty", &["empty", "no known layout"]);
}

#[test]
fn weights_that_cannot_be_used() {
    let scratch = Scratch::new();
    let (good, _) = load(&golden("weights.safetensors")).unwrap();
    let store = |name: &str, named: &Named| scratch.write(name, to_bytes(named, BTreeMap::new()).unwrap());
    let fails = |weights: &str, parts: &[&str]| scratch.bad(2, &refs(&step(weights, &[])), parts);

    let mut wild = good.clone();
    wild.get_mut("classifier.weight").unwrap().data[5] = f32::NAN;
    store("nan.safetensors", &wild);
    fails("nan.safetensors", &["classifier.weight", "value 5", "NaN", "finite"]);
    let mut infinite = good.clone();
    infinite.get_mut("lastact.0.running_var").unwrap().data[0] = f32::INFINITY;
    store("inf.safetensors", &infinite);
    fails("inf.safetensors", &["lastact.0.running_var", "inf", "finite"]);
    let mut less = good.clone();
    less.remove("cells.0.layers.0.op.1.weight").unwrap();
    store("less.safetensors", &less);
    fails("less.safetensors", &["cells.0.layers.0.op.1.weight", "missing"]);
    let mut bent = good.clone();
    bent.get_mut("classifier.bias").unwrap().dims = vec![2, 5];
    store("bent.safetensors", &bent);
    fails("bent.safetensors", &["classifier.bias", "[10]", "[2, 5]"]);

    scratch.write("text.safetensors", "these are not weights, and yet a file of some length");
    fails("text.safetensors", &["text.safetensors", "not a usable safetensors file"]);
    scratch.write("empty.safetensors", "");
    fails("empty.safetensors", &["empty.safetensors", "not a usable safetensors file"]);
    let whole = std::fs::read(golden("weights.safetensors")).unwrap();
    scratch.write("cut.safetensors", &whole[..whole.len() - 9]);
    fails("cut.safetensors", &["cut.safetensors", "not a usable safetensors file"]);
    fails("nowhere.safetensors", &["cannot read nowhere.safetensors"]);
    scratch.bad(2, &train(&["--from", "text.safetensors"]), &["text.safetensors"]);
    scratch.bad(2, &["flatness", "--model", "text.safetensors", "--data", "digits"], &["text.safetensors"]);

    let weights = golden("weights.safetensors").display().to_string();
    scratch.bad(2, &refs(&step(&weights, &["--mode", "trian"])), &["--mode", "did you mean `train`?"]);
    // The batch's place taken by something else.
    let mut args = step(&weights, &[]);
    let at = args.iter().position(|arg| arg == "--batch").unwrap();
    args[at + 1] = weights.clone();
    scratch.bad(2, &refs(&args), &["weights.safetensors", "`x`"]);
    let (mut batch, _) = load(&golden("batch.safetensors")).unwrap();
    batch.get_mut("y").unwrap().data[3] = 10.0;
    store("labels.safetensors", &batch);
    args[at + 1] = "labels.safetensors".into();
    scratch.bad(2, &refs(&args), &["label 10 of image 3", "10 classes"]);
}

#[test]
fn names_that_are_almost_right() {
    let scratch = Scratch::new();
    let info = |arch: &'static str| ["space", "info", "--arch", arch];
    scratch.bad(
        2,
        &["space", "info", "--arch", "333132", "--space", "nas-bench201"],
        &["--space", "did you mean `nas-bench-201`?"],
    );
    scratch.bad(2, &info("|conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"), &["did you mean `nor_conv_3x3`?"]);
    scratch.bad(2, &info("|none~0|+|none~0|none~1|+|none~0|none~1|"), &["edge 2->3", "missing"]);
    for arch in ["33313", "333135", "|none~0|", "", "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|"] {
        scratch.bad(2, &info(arch), &[]);
    }
    scratch.bad(2, &["search", "--out", "out", "--method", "genes"], &["--method", "did you mean `genas`?"]);
    scratch.bad(2, &["search", "--out", "out", "--preset", "quik"], &["--preset", "did you mean `quick`?"]);
    scratch.bad(2, &["search", "--out", "out", "--data", "digit"], &["`digit`", "digits"]);
    scratch.bad(2, &train(&["--optimizer", "saam"]), &["--optimizer", "did you mean `sam`?"]);
    scratch.bad(2, &["bench", "--suite", "kernel"], &["--suite", "did you mean `kernels`?"]);
    scratch.bad(2, &["serach"], &["search"]);
    scratch.bad(2, &train(&["--epoch", "2"]), &["--epoch"]);
    // Adapters.
    let none = "no such adapter";
    for args in [
        train(&["--device", none]),
        vec!["search", "--out", "out", "--device", none],
        vec!["devices", "--device", none],
    ] {
        scratch.bad(2, &args, &["--device", none, "there are: 0 "]);
    }
    let weights = golden("weights.safetensors").display().to_string();
    scratch.bad(2, &refs(&step(&weights, &["--device", none])), &["--device", none]);
}

#[test]
fn numbers_that_cannot_be() {
    let scratch = Scratch::new();
    for (options, parts) in [
        (["--batch", "0"], ["--batch", "at least one"]),
        (["--batch", "1"], ["--batch", "at least 2"]),
        (["--batch", "5000"], ["--batch", "1442"]),
        (["--image", "2x2"], ["image", "2"]),
        (["--image", "16x16"], ["--image", "8x8"]),
        (["--image", "8"], ["--image", "HxW"]),
        (["--classes", "7"], ["--classes", "10"]),
        (["--lr", "nan"], ["--lr", "NaN"]),
        (["--lr", "-1"], ["--lr", "-1"]),
        (["--rho", "inf"], ["--rho", "inf"]),
        (["--epochs", "-2"], ["--epochs", "-2"]),
        (["--channels", "0"], ["channels", "0"]),
    ] {
        // Negative numbers need the equals sign.
        let option = format!("{}={}", options[0], options[1]);
        let args = ["train", "--data", "digits", "--arch", ARCH, "--out", "out", &option];
        scratch.bad(2, &args, &parts);
    }
    scratch.bad(2, &["train", "--data", "digits", "--out", "out"], &["--arch", "needed"]);
    scratch.bad(2, &["train", "--arch", ARCH, "--out", "out"], &["--data", "needed"]);
    scratch.bad(2, &["search", "--quiet"], &["--out", "needed"]);
    let search = |options: &[&'static str]| [&["search", "--out", "out"], options].concat();
    scratch.bad(2, &search(&["--image", "2x2"]), &["image", "2"]);
    scratch.bad(2, &search(&["--batch", "0"]), &["--batch", "at least one"]);
    scratch.bad(2, &search(&["--batch", "2000"]), &["--batch", "1442"]);
    scratch.bad(2, &search(&["--sigmas", "0.2,0.1"]), &["--sigmas", "rising"]);
    scratch.bad(2, &search(&["--draws", "0"]), &["--draws"]);
    scratch.bad(2, &search(&["--time", "soon"]), &["--time", "20m"]);
}

#[test]
fn configurations_that_cannot_be_read() {
    let scratch = Scratch::new();
    let fails = |text: &str, parts: &[&str]| {
        scratch.write("my.toml", text);
        let all = [&["my.toml"], parts].concat();
        scratch.bad(2, &["search", "--out", "out", "--config", "my.toml"], &all);
    };
    fails("chanels = 4", &["did you mean `channels`?"]);
    fails("[evaluation.flatness]\ndraw = 4", &["evaluation.flatness.draw", "did you mean `draws`?"]);
    fails("[supernet\nepochs = 2", &["line 1"]);
    fails("channels = \"many\"", &["channels"]);
    fails("channels = -4", &["channels"]);
    fails("[supernet]\nepochs = 2.5", &["epochs"]);
    fails("method = \"best\"", &["best"]);
    fails("[supernet.schedule]\nkind = \"cosin\"", &["cosin"]);
    scratch.bad(2, &train(&["--config", "nowhere.toml"]), &["cannot read nowhere.toml"]);
    scratch.write("my.toml", "[training]\nepoch = 3");
    scratch.bad(2, &train(&["--config", "my.toml"]), &["my.toml", "training.epoch", "did you mean `epochs`?"]);
}

#[test]
fn places_that_cannot_be_written() {
    let scratch = Scratch::new();
    scratch.write("file", "in the way");
    let out = |out: &'static str| ["train", "--data", "digits", "--arch", ARCH, "--epochs", "1", "--out", out];
    scratch.bad(1, &out("file/out"), &["file/out", "cannot create"]);
    scratch.bad(2, &out("file"), &["file", "expected a folder"]);
    let weights = golden("weights.safetensors").display().to_string();
    let mut args = step(&weights, &[]);
    let at = args.iter().position(|arg| arg == "--out").unwrap();
    for place in ["file/step.safetensors", "no/such/folder/step.safetensors"] {
        args[at + 1] = place.into();
        scratch.bad(1, &refs(&args), &["cannot write", place]);
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_training() {
    let scratch = Scratch::new();
    // Decay alone multiplies the weights by -9999 in each step, until they leave the numbers.
    let args = train(&["--epochs", "3", "--lr", "1000", "--weight-decay", "10"]);
    scratch.stops(1, &args, &["loss", "NaN", "epoch 1", "step 45", "--lr"]);
    for file in ["result.json", "best.safetensors"] {
        assert!(!scratch.path("out").join(file).exists(), "{file} was written");
    }
}

#[test]
fn a_model_is_evaluated_on_corrupted_and_attacked_images() {
    let scratch = Scratch::new();
    let trained = scratch.json(&train(&["--epochs", "2", "--json"]));
    assert_eq!(trained["final"]["corruption_images"], 200);
    let base = ["evaluate", "--quiet", "--model", "out/best.safetensors", "--data", "digits", "--json"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let attacks = "fgsm:8/255,pgd:8/255:3,apgd:8/255:5";
    let first = scratch.json(&with(&["--images", "200", "--csv", "a.csv", "--heatmap", "a.svg", "--attacks", attacks]));
    // The run's own figure is this one; figures do not depend on who asks.
    assert_eq!(first["corruption_accuracy"], trained["final"]["corruption_accuracy"]);
    assert_eq!(first["corruptions"].as_object().unwrap().len(), 15);
    let clean = first["clean"]["accuracy"].as_f64().unwrap();
    assert_eq!(first["attacks"].as_object().unwrap().len(), 3);
    for (name, result) in first["attacks"].as_object().unwrap() {
        assert!(result["accuracy"].as_f64().unwrap() <= clean + 1e-9, "{name}");
    }
    let csv = std::fs::read_to_string(scratch.path("a.csv")).unwrap();
    assert_eq!(csv.lines().count(), 2 + 75);
    assert!(std::fs::read_to_string(scratch.path("a.svg")).unwrap().contains("gaussian_noise"));

    // Against itself a network has the error of its baseline.
    scratch.write("base.json", first.to_string());
    let again = scratch.json(&with(&["--images", "200", "--baseline", "base.json"]));
    assert!((again["mce"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(again["corruptions"], first["corruptions"]);

    // A folder of corrupted images gives the same as images made on the fly.
    let made = scratch.json(&["corrupt", "--quiet", "--input", "digits", "--out", "c", "--kind", "fog,snow", "--json"]);
    assert_eq!((&made["files"], &made["results"]), (&3.into(), &3550.into()));
    let read = scratch.json(&with(&["--corrupted", "c", "--corruptions", "snow", "--severities", "2,5"]));
    let fresh = scratch.json(&with(&["--corruptions", "snow", "--severities", "2,5"]));
    assert_eq!(read["corruptions"], fresh["corruptions"]);
    assert!(fresh["corruption_accuracy"].is_null());

    for (options, parts) in [
        (&["--corruptions", "fogg"][..], &["fogg", "did you mean `fog`?"][..]),
        (&["--severities", "0-3"], &["--severities", "1 to 5"]),
        (&["--severities", "4-2"], &["--severities", "1 to 5"]),
        (&["--attacks", "pgd:8/255"], &["--attacks", "pgd:8/255", "pgd:EPS:STEPS"]),
        (&["--attacks", "fgsm:300"], &["--attacks", "between 0 and 1"]),
        (&["--images", "0"], &["--images"]),
        (&["--constants", "cifer"], &["cifer", "cifar"]),
        (&["--corrupted", "nowhere"], &["nowhere"]),
        (&["--baseline", "a.csv"], &["a.csv", "evaluate --json"]),
        (&["--baseline", "base.json", "--severities", "3"], &["base.json", "severities"]),
    ] {
        scratch.bad(2, &with(options), parts);
    }
    scratch.bad(2, &with(&["--corrupted", "c", "--corruptions", "fog,frost"]), &["frost.npy"]);
    // Of a damaged array nothing is believed.
    let fog = std::fs::read(scratch.path("c/fog.npy")).unwrap();
    std::fs::write(scratch.path("c/fog.npy"), &fog[..fog.len() - 1]).unwrap();
    scratch.bad(2, &with(&["--corrupted", "c", "--corruptions", "fog"]), &["fog.npy", "does not go with"]);
    let labels = std::fs::read(scratch.path("c/labels.npy")).unwrap();
    let mut other = labels.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(scratch.path("c/labels.npy"), other).unwrap();
    scratch.bad(2, &with(&["--corrupted", "c"]), &["labels.npy", "five equal blocks"]);
}

#[test]
fn pictures_are_corrupted() {
    let scratch = Scratch::new();
    let picture = |seed: u32| {
        let image =
            image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(6 * x) as u8, (8 * y) as u8, (seed * x) as u8]));
        let mut bytes = std::io::Cursor::new(vec![]);
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    scratch.write("in/a.png", picture(1));
    scratch.write("in/deep/b.png", picture(2));
    let corrupt = |more: &[&'static str]| [&["corrupt", "--quiet", "--input"][..], more].concat();
    let made = scratch.json(&corrupt(&["in", "--out", "out", "--kind", "all", "--severity", "1,5", "--json"]));
    assert_eq!((&made["files"], &made["frost"]), (&76.into(), &"procedural".into()));
    let deep = image::open(scratch.path("out/glass_blur/5/deep/b.png.png")).unwrap();
    assert_eq!((deep.width(), deep.height()), (40, 30));
    // One image, one file; and the same bytes whatever the number of threads.
    scratch.good(&corrupt(&[
        "in/a.png",
        "--out",
        "one.png",
        "--kind",
        "snow",
        "--severity",
        "3",
        "--sheet",
        "sheet.png",
    ]));
    scratch.good(&corrupt(&["in/a.png", "--out", "many", "--kind", "all", "--severity", "3", "--jpeg85"]));
    let one = image::open(scratch.path("one.png")).unwrap();
    assert!(image::open(scratch.path("sheet.png")).unwrap().width() > 200);
    assert_ne!(one, image::open(scratch.path("many/snow/3/a.png.png")).unwrap(), "quality 85 must leave traces");

    scratch.bad(2, &corrupt(&["in", "--out", "out"]), &["--out", "exists", "--force"]);
    scratch.good(&corrupt(&["in", "--out", "out", "--kind", "fog", "--severity", "2", "--force"]));
    assert!(scratch.path("out/glass_blur").exists(), "what is not written again stays");
    // Folders with anything of somebody else's are never touched, forced or not.
    scratch.write("mine/notes.txt", "mine");
    scratch.write("mine/fog/2/a.png.png", "a result");
    let into = |out: &'static str| corrupt(&["in", "--out", out, "--kind", "fog", "--severity", "2", "--force"]);
    scratch.bad(2, &into("mine"), &["mine", "notes.txt", "did not write"]);
    scratch.write("nested/fog/2/deep/letter.txt", "mine");
    scratch.bad(2, &into("nested"), &["nested", "letter.txt"]);
    scratch.write("other/src/1/a.png", "mine");
    scratch.bad(2, &into("other"), &["other", "src"]);
    scratch.bad(2, &into("in"), &["in", "overlap"]);
    scratch.bad(2, &into("."), &["no name of its own"]);
    scratch.bad(2, &into("out/.."), &["no name of its own"]);
    scratch.bad(2, &into("in/deep/new"), &["overlap"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(scratch.path("out"), scratch.path("link")).unwrap();
        scratch.bad(2, &into("link"), &["link"]);
        std::fs::remove_file(scratch.path("link")).unwrap();
    }
    scratch.write("out.partial/mine.txt", "mine");
    scratch.good(&into("out"));
    assert!(scratch.path("out.partial/mine.txt").exists());
    scratch.bad(2, &corrupt(&["in", "--out", "new", "--kind", "fogs"]), &["fogs", "did you mean `fog`?"]);
    scratch.bad(2, &corrupt(&["in", "--out", "new", "--severity", "6"]), &["--severity", "1 to 5"]);
    scratch.bad(2, &corrupt(&["nothing", "--out", "new"]), &["nothing"]);
    scratch.bad(2, &corrupt(&["in", "--out", "new", "--frost", "in/deep/none"]), &["none"]);
    // Strange images are read, or refused by name; a folder goes on past them.
    let save = |name: &str, image: image::DynamicImage| image.save(scratch.path(name)).unwrap();
    std::fs::create_dir_all(scratch.path("odd")).unwrap();
    save("odd/16bit.png", image::ImageBuffer::from_pixel(9, 4, image::Rgb([60000u16, 9, 900])).into());
    save("odd/alpha.png", image::RgbaImage::from_pixel(3, 8, image::Rgba([1, 2, 3, 4])).into());
    save("odd/grey.jpg", image::GrayImage::from_pixel(30, 20, image::Luma([77])).into());
    save("odd/one.png", image::RgbImage::from_pixel(1, 1, image::Rgb([1, 2, 3])).into());
    let all = scratch.json(&corrupt(&["odd", "--out", "fine", "--kind", "all", "--severity", "5", "--json"]));
    assert_eq!((&all["images"], &all["failed"]), (&4.into(), &Value::Array(vec![])));
    save("odd/wide.png", image::GrayImage::new(20_000, 20).into());
    scratch.write("odd/text.png", "not a picture");
    scratch.write("odd/cut.png", &picture(3)[..60]);
    let output = scratch.run(&corrupt(&["odd", "--out", "some", "--kind", "fog", "--severity", "5", "--json"]));
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("3 of 7 files"), "{}", output.stderr);
    let some: Value = serde_json::from_str(&output.stdout).unwrap();
    let failed = some["failed"].as_array().unwrap();
    for (part, why) in [("cut.png", "PNG"), ("text.png", "PNG"), ("wide.png", "8192 pixels")] {
        assert!(
            failed.iter().any(|f| f.as_str().unwrap().contains(part) && f.as_str().unwrap().contains(why)),
            "{some}"
        );
    }
    assert!(scratch.path("some/fog/5/one.png.png").exists());
    scratch.bad(2, &corrupt(&["odd/text.png", "--out", "new.png", "--kind", "fog", "--severity", "1"]), &["text.png"]);
    scratch.write("a.gif", "GIF89a");
    scratch.bad(2, &corrupt(&["a.gif", "--out", "new"]), &["a.gif", "expected PNG"]);
    scratch.write(
        "f4.npy",
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 2, 3), }         \n",
    );
    scratch.bad(2, &corrupt(&["f4.npy", "--out", "new"]), &["f4.npy", "uint8"]);
}
