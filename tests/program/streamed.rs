//! Sets of pictures that are decoded as they are needed, beside the same sets in memory.

use std::time::Duration;

use image::{Rgb, RgbImage};

use crate::program::{Scratch, short};

/// Pictures of many sizes in two classes, one of which cannot be read.
fn pictures(scratch: &Scratch) {
    for i in 0..60u32 {
        let path =
            scratch.path(&format!("set/{}/{i}.{}", ["cats", "dogs"][i as usize % 2], ["png", "jpg"][i as usize / 30]));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| Rgb([(20 * i + 3 * x) as u8, (90 * (i % 2) + 2 * y) as u8, (x * y) as u8]);
        RgbImage::from_fn(14 + i % 9, 12 + i % 7, pixel).save(path).unwrap();
    }
    scratch.write("set/cats/broken.png", b"\x89PNG\r\n\x1a\n");
}

const READ: [&str; 4] = ["--data", "set", "--crop", "11"];

fn trained<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let recipe = ["--batch", "7", "--epochs", "3", "--optimizer", "sam", "--in-channels", "3"];
    short(out, &[&READ[..], &recipe[..6], options].concat())
}

/// What a run found, without how long it took.
fn found(scratch: &Scratch, run: &str) -> serde_json::Value {
    let mut result: serde_json::Value = serde_json::from_slice(&scratch.read(&format!("{run}/result.json"))).unwrap();
    result.as_object_mut().unwrap().remove("seconds");
    result
}

#[test]
fn streamed_runs_are_those_in_memory_to_the_bit() {
    let scratch = Scratch::new();
    pictures(&scratch);
    scratch.good(&trained("held", &[]));
    // Nothing is kept, and half of the pictures are.
    for (out, memory) in [("none", "0"), ("verbose", "0")] {
        let output = scratch.run(&trained(out, &["--data-memory", memory, "-v"]));
        assert_eq!(output.code, 0, "{}", output.stderr);
        for part in ["images a second for each network", "pictures decoded", "handed to the device", "waited "] {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
        assert_eq!(found(&scratch, out), found(&scratch, "held"), "{out}");
        assert!(scratch.read(&format!("{out}/best.safetensors")) == scratch.read("held/best.safetensors"));
        assert!(scratch.read(&format!("{out}/config.toml")) == scratch.read("held/config.toml"));
    }
    let evaluate = [
        "evaluate",
        "--model",
        "held/best.safetensors",
        "--corruptions",
        "fog,jpeg_compression",
        "--attacks",
        "fgsm:8/255",
    ];
    let evaluate = [&evaluate[..], &["--severities", "2", "--json"], &READ].concat();
    let held = scratch.json(&evaluate);
    assert_eq!(scratch.json(&[&evaluate[..], &["--data-memory", "0"]].concat()), held);
    let info = ["data", "info", "set", "--crop", "11", "--json"];
    let info = |memory: &[&str]| scratch.json(&[&info[..], memory].concat());
    assert_eq!(info(&["--data-memory", "0"]), info(&[]));
    let strict = ["data", "verify", "set", "--crop", "11", "--data-memory", "0", "--strict-data"];
    scratch.bad(2, &strict, &["broken.png"]);
}

#[test]
fn streamed_searches_and_scores_are_those_in_memory() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let sizes = ["--channels", "4", "--cells", "1", "--quiet"];
    let search = [
        "search",
        "--method",
        "genas",
        "--preset",
        "quick",
        "--evaluations",
        "4",
        "--supernet-epochs",
        "1",
        "--epochs",
        "1",
    ];
    let score =
        ["score", "--sample", "2", "--proxies", "croze,synflow", "--batch-size", "5", "--image", "8x8", "--json"];
    for (out, memory) in [("held", "1024"), ("streamed", "0")] {
        let own = [&READ[..], &sizes, &["--data-memory", memory]].concat();
        scratch.good(&[&search[..], &own, &["--out", out, "--batch", "8"]].concat());
        scratch.write(&format!("{out}.json"), scratch.good(&[&score[..], &own].concat()));
    }
    for file in ["best.safetensors", "table.csv", "mistakes.png"] {
        assert!(scratch.read(&format!("held/{file}")) == scratch.read(&format!("streamed/{file}")), "{file}");
    }
    let scores = |run: &str| -> Vec<serde_json::Value> {
        let mut list: Vec<serde_json::Value> = serde_json::from_slice(&scratch.read(&format!("{run}.json"))).unwrap();
        list.iter_mut().for_each(|own| drop(own.as_object_mut().unwrap().remove("seconds")));
        list
    };
    assert_eq!(scores("held"), scores("streamed"));
}

#[test]
fn random_parts_are_seen_by_training_alone_and_again_after_a_kill() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let random = ["--random-crop", "0.3"];
    scratch.good(&trained("middle", &[]));
    scratch.good(&trained("whole", &random));
    assert!(scratch.read("whole/best.safetensors") != scratch.read("middle/best.safetensors"));
    let config = String::from_utf8(scratch.read("whole/config.toml")).unwrap();
    assert!(config.contains("[reading]\ncrop = 11\nrandom_crop = 0.3\n"), "{config}");
    // Killed at some time, it ends with the same bits, whatever stays in memory.
    let mut killed = 0;
    for (round, memory) in ["0", "1024"].into_iter().enumerate() {
        let out = format!("killed-{round}");
        let args = trained(&out, &["--random-crop", "0.3", "--data-memory", memory]);
        let mut child = scratch.command(&args).spawn().unwrap();
        while !scratch.path(&format!("{out}/checkpoint")).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100 * round as u64));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        scratch.good(&["train", "--quiet", "--resume", "--out", &out, "--data-memory", memory]);
        assert!(scratch.read(&format!("{out}/best.safetensors")) == scratch.read("whole/best.safetensors"), "{round}");
    }
    assert!(killed > 0, "no run was killed before its end");
    // A model is judged by middles, however it was trained.
    let evaluate = ["evaluate", "--model", "whole/best.safetensors", "--corruptions", "none", "--json"];
    let evaluate = [&evaluate[..], &READ].concat();
    let plain = scratch.json(&evaluate);
    assert_eq!(scratch.json(&[&evaluate[..], &random].concat())["clean"], plain["clean"]);
}

#[test]
fn what_cannot_be_streamed_or_cropped_is_refused() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let info = |options: &[&str], parts: &[&str]| scratch.bad(2, &[&["data", "info"], options].concat(), parts);
    info(&["digits", "--random-crop", "0.08"], &["--random-crop", "are for pictures in files; digits has"]);
    info(&["set", "--random-crop", "0.08"], &["pictures of", "sizes"]);
    for share in ["0", "1.5", "nan", "-1"] {
        info(&["set", "--crop", "8", &format!("--random-crop={share}")], &["--random-crop", "above 0 and at most 1"]);
    }
    info(&["set", "--crop", "8", "--data-memory=-1"], &["--data-memory"]);
    info(&["set", "--crop", "8", "--data-memory", "all"], &["--data-memory"]);
    // More than there is is no fault, nor is a number beyond all memories.
    scratch.good(&["data", "info", "set", "--crop", "8", "--data-memory", "18446744073709551615"]);
    scratch.good(&["data", "info", "digits", "--data-memory", "0"]);
}
