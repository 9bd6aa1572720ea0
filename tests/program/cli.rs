//! The program from outside: what it answers, and what it says about bad input: one clear message, the exit code, and
//! nothing half-written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::program::{ARCH, Scratch, golden, refs, step, train};
use altiplano::nn::tensors::{Named, load, to_bytes};
use serde_json::Value;

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

/// As `altiplano search --help | head -1` has it: nobody reads to the end.
#[test]
fn what_nobody_reads_is_no_failure() {
    let run = |args: &[&str]| {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_altiplano"));
        command.args(args).stdout(closed()).stderr(closed()).status().unwrap().code()
    };
    for args in
        [&["--help"][..], &["search", "--help"], &["help", "score"], &["--version"], &[], &["completions", "zsh"]]
    {
        assert_eq!(run(args), Some(0), "{args:?}");
    }
    for args in [&["serach"][..], &["search", "--evaluation", "many"], &["completions"]] {
        assert_eq!(run(args), Some(2), "{args:?}");
    }
}

#[test]
fn a_number_of_candidates_is_met_or_refused() {
    let scratch = Scratch::new();
    for (method, asked) in [("random", 60), ("genas", 61), ("flatnas", 200)] {
        let (own, asked) = (["--method", method, "--evaluations"], asked.to_string());
        let plan = [&["search", "--dry-run", "--json"][..], &own, &[asked.as_str()]].concat();
        let plan = scratch.json(&plan);
        assert_eq!(plan["config"]["evaluations"].to_string(), asked, "{plan}");
        let arms = plan["arms"].as_array().unwrap();
        assert!(arms.len() == if method == "random" { 1 } else { 4 });
        // An arm of the same candidates measures nothing anew; images kept back train nobody.
        let work: Vec<f64> = arms.iter().map(|arm| arm["images_per_candidate"].as_f64().unwrap()).collect();
        assert!(work.iter().enumerate().all(|(place, work)| (*work == 0.0) == (place == 3)), "{work:?}");
        let training = &plan["config"]["training"];
        let (epochs, batch) = (training["epochs"].as_u64().unwrap(), training["batch"].as_u64().unwrap());
        let steps = plan["training_steps"].as_u64().unwrap() / epochs;
        assert!((steps * batch).abs_diff(1442 - 288) < batch, "{steps} steps of {batch}");
        assert!(arms.iter().all(|arm| arm["candidates"] == asked.parse::<u64>().unwrap()), "{plan}");
        scratch.bad(2, &[&["search", "--out", "out"][..], &own, &["15626"]].concat(), &["--evaluations", "15625"]);
    }
}

#[test]
fn all_seeds_are_read_back() {
    let scratch = Scratch::new();
    for (method, seed) in
        [("random", "9223372036854775807"), ("croze", "9223372036854775808"), ("flatnas", "18446744073709551615")]
    {
        let begun = scratch.good(&["search", "--dry-run", "--method", method, "--seed", seed]);
        scratch.write("run/config.toml", begun);
        let again = scratch.good(&["search", "--dry-run", "--resume", "--out", "run"]);
        assert!(again.contains(seed), "{again}");
    }
    scratch.write("my.toml", "seed = \"-1\"");
    scratch.bad(2, &["search", "--out", "out", "--config", "my.toml"], &["my.toml", "seed", "18446744073709551615"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let scratch = Scratch::new();
    let text = scratch.good(&["search", "--dry-run", "--out", "out"]);
    assert!(text.contains("supernet steps") && text.contains("GFLOP"), "{text}");
    let plan = scratch.json(&["search", "--dry-run", "--method", "random", "--evaluations", "7", "--json"]);
    assert_eq!((&plan["config"]["method"], &plan["arms"][0]["candidates"]), (&"random".into(), &7.into()), "{plan}");
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
    let own = &result["judged"];
    assert_eq!((&own["arch"], &own["curve"][0]), (&result["arch"], &result["final"]["training"]));
    assert!(own.get("under_noise").is_none() && own["by_corruption"].as_object().unwrap().len() == 15);
    let mistakes = result["mistakes"].as_array().unwrap().len() as u32;
    let sheet = image::open(scratch.path("out/mistakes.png")).unwrap();
    assert!(mistakes > 0 && (sheet.width(), sheet.height()) == (8 * mistakes, 16));
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
    scratch.bad(2, &["flatness", "--model", &weights, "--data", "digits"], &["weights.safetensors", "give --arch"]);

    // A checkpoint that the disk has spoiled.
    let checkpoints = std::fs::read_dir(scratch.path("out/checkpoint")).unwrap().map(|entry| entry.unwrap().path());
    let is_training = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("finals-");
    let path = checkpoints.into_iter().find(is_training).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    scratch.stops(2, &train(&["--resume", "--epochs", "40"]), &["training.epochs is 1 in the run and 40 by"]);
    scratch.stops(2, &["train", "--resume", "--out", "out"], &["checkpoint/finals-", "damaged"]);
    std::fs::write(&path, &bytes[..middle]).unwrap();
    scratch.stops(2, &train(&["--epochs", "1", "--resume"]), &["checkpoint/finals-", "cut or damaged"]);
    scratch.bad(2, &["train", "--resume", "--out", "nowhere"], &["there is no run in nowhere"]);
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
    for length in ["0", "2001", "soon"] {
        scratch.bad(2, &["devices", "--max-submit-ms", length], &["--max-submit-ms", length]);
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
        (["--image", "8"], ["--image", "HxW"]),
        (["--classes", "7"], ["--classes", "10"]),
        (["--lr", "nan"], ["--lr", "NaN"]),
        (["--lr", "-1"], ["--lr", "-1"]),
        (["--rho", "inf"], ["--rho", "inf"]),
        (["--epochs", "-2"], ["--epochs", "-2"]),
        (["--channels", "0"], ["channels", "0"]),
        (["--drop-path", "1"], ["--drop-path", "less than 1"]),
        (["--drop-path", "-0.1"], ["--drop-path", "-0.1"]),
        (["--drop-path", "0.2"], ["--drop-path", "no paths"]),
        (["--cutout", "9"], ["--cutout", "8x8"]),
        (["--cutout", "300"], ["--cutout", "300"]),
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
    scratch.bad(2, &search(&["--batch", "2000"]), &["--batch", "1154"]);
    scratch.bad(2, &search(&["--sigmas", "0.2,0.1"]), &["--sigmas", "rising"]);
    scratch.bad(2, &search(&["--draws", "0"]), &["--draws"]);
    scratch.bad(2, &search(&["--drop-path", "0.2"]), &["--drop-path", "no paths"]);
    scratch.bad(2, &search(&["--cutout", "9"]), &["--cutout", "8x8"]);
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
    fails("[build]\nchanels = 4", &["build.chanels", "did you mean `channels`?"]);
    fails("sede = 4", &["did you mean `seed`?"]);
    fails("[evaluator.flatness]\ndraw = 4", &["evaluator.flatness.draw", "did you mean `draws`?"]);
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
    scratch.bad(2, &out("file"), &["file", "is a file", "need a folder"]);
    let weights = golden("weights.safetensors").display().to_string();
    let mut args = step(&weights, &[]);
    let at = args.iter().position(|arg| arg == "--out").unwrap();
    for place in ["file/step.safetensors", "no/such/folder/step.safetensors"] {
        args[at + 1] = place.into();
        scratch.bad(2, &refs(&args), &["--out", place, "does not exist"]);
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
