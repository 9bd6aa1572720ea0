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
    let output = scratch.run(&trained("none", &["--data-memory", "0", "-v"]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let parts =
        ["images a second for each network", "pictures decoded", "handed to the device", "waited ", "(--data-memory)"];
    for part in parts {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert_eq!(found(&scratch, "none"), found(&scratch, "held"));
    for file in ["best.safetensors", "config.toml"] {
        assert!(scratch.read(&format!("none/{file}")) == scratch.read(&format!("held/{file}")), "{file}");
    }
    scratch.good(&["train", "--quiet", "--resume", "--out", "none", "--data-memory", "7"]);
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

/// Packs the folder `set` as people do, below a folder or not.
fn packed(scratch: &Scratch, below: &str) -> Vec<(String, Vec<u8>)> {
    let root = scratch.path("set");
    let files = scratch.files().into_keys().filter(|path| path.starts_with(&root) && path.is_file());
    let name = |path: &std::path::Path| format!("{below}{}", path.strip_prefix(&root).unwrap().to_str().unwrap());
    files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        // Names that lead out are refused by the crate's own writer.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn zip_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        archive.start_file(name.as_str(), stored).unwrap();
        std::io::Write::write_all(&mut archive, bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn archives_of_pictures_are_those_pictures() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let temporary = scratch.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let files = packed(&scratch, "pets/");
    let beside = |mut files: Vec<(String, Vec<u8>)>| {
        files.push(("pets/readme.txt".into(), b"hello".to_vec()));
        files.push(("__MACOSX/pets/cats/._0.png".into(), b"resources".to_vec()));
        files.push(("pets/.hidden/0.png".into(), b"hidden".to_vec()));
        files
    };
    scratch.write("pets.tar", tar_of(&beside(files.clone())));
    scratch.write("plain.zip", zip_of(&packed(&scratch, "")));
    scratch.write("pets.zip", zip_of(&beside(files.clone())));
    let run = |args: &[&str]| {
        let mut command = scratch.command(args);
        let output = command.env("TMPDIR", &temporary).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let info = |data: &str, memory: &str| -> serde_json::Value {
        let (code, out, errors) = run(&["data", "info", data, "--crop", "11", "--data-memory", memory, "--json"]);
        assert_eq!(code, 0, "{data}: {errors}");
        serde_json::from_str(&out).unwrap()
    };
    let folder = info("set", "1024");
    for data in ["pets.tar", "plain.zip", "pets.zip"] {
        for memory in ["1024", "0"] {
            let archive = info(data, memory);
            for key in ["crc32", "train", "test", "mean", "class_names", "unreadable", "notes"] {
                assert_eq!(archive[key], folder[key], "{data} {key}");
            }
            assert_eq!((&archive["source"], archive["name"].as_str()), (&data.into(), data.split('.').next()));
        }
    }
    // A run on an archive knows it again, also under another name, and not when it is another one.
    let out = ["--out", "run", "--data", "pets.zip", "--crop", "11", "--data-memory", "0", "--quiet"];
    let sizes = [
        "train",
        "--arch",
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
        "--channels",
        "4",
        "--cells",
        "1",
    ];
    let (code, _, errors) = run(&[&sizes[..], &["--epochs", "1", "--batch", "8"], &out].concat());
    assert_eq!(code, 0, "{errors}");
    std::fs::rename(scratch.path("pets.zip"), scratch.path("moved.zip")).unwrap();
    assert_eq!(run(&["train", "--quiet", "--resume", "--out", "run", "--data", "moved.zip"]).0, 0);
    let (code, _, errors) = run(&["train", "--quiet", "--resume", "--out", "run", "--data", "plain.zip"]);
    assert!(code == 2 && errors.contains("is not what the run began with"), "{errors}");
    // What leads out, is damaged, in no layout, or not there.
    for name in ["../../outside.png", "/outside.png", "pets/../../outside.png", "c:/outside.png"] {
        for (archive, bytes) in
            [("bad.tar", tar_of(&[(name.into(), vec![1])])), ("bad.zip", zip_of(&[(name.into(), vec![1])]))]
        {
            scratch.write(archive, bytes);
            let (code, _, errors) = run(&["data", "info", archive, "--crop", "11"]);
            assert!(code == 2 && errors.contains("leads out of the archive"), "{name}: {errors}");
        }
    }
    let whole = scratch.read("pets.tar");
    // Ten bytes of the first picture.
    scratch.write("cut.tar", &whole[..512 + 10]);
    let (code, _, errors) = run(&["data", "info", "cut.tar", "--crop", "11"]);
    assert!(code == 2 && errors.contains("cut.tar"), "{errors}");
    scratch.write("loose.zip", zip_of(&[("a.png".into(), files[0].1.clone())]));
    let (code, _, errors) = run(&["data", "info", "loose.zip", "--crop", "11"]);
    assert!(code == 2 && errors.contains("loose.zip: its pictures lie in no known layout"), "{errors}");
    let (code, _, errors) = run(&["data", "info", "plain.zip"]);
    assert!(code == 2 && errors.contains("plain.zip: pictures of") && !errors.contains("temporary"), "{errors}");
    // Nothing stays behind.
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    assert!(!scratch.path("outside.png").exists());
}
