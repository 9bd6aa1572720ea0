//! `altiplano corrupt` and `evaluate` from outside: pictures, data sets that are read a few images at a time, and files
//! that cannot be used.

use std::path::Path;

use crate::program::{Scratch, train};
use altiplano::corrupt::{Constants, Corruption, Kind, Severity};
use altiplano::data::{NpyWriter, load};
use altiplano::measure::corruption::corrupt_pixels;
use assert_cmd::Command;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;

/// A picture as a PNG or JPEG file.
fn picture_as(format: ImageFormat, seed: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(40, 30, |x, y| Rgb([(6 * x) as u8, (8 * y) as u8, (seed * x) as u8]));
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn picture(seed: u32) -> Vec<u8> {
    picture_as(ImageFormat::Png, seed)
}

fn corrupt(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
        .arg("corrupt")
        .args(args)
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    (output.status.code().unwrap(), stderr)
}

fn idx_file(magic: u32, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let head = [magic].into_iter().chain(sizes.iter().copied());
    head.flat_map(u32::to_be_bytes).chain(values.iter().copied()).collect()
}

/// Bytes of a `.npy` file after its header.
fn values(path: &Path, length: usize) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY") && bytes.len() > length, "{}", path.display());
    bytes[bytes.len() - length..].to_vec()
}

/// What was made image by image is what the set read whole gives.
#[track_caller]
fn same_as_whole(folder: &Path, set: &str) {
    let out = format!("{set}-c");
    let args = ["--input", set, "--out", &out, "--kind", "gaussian_noise,fog", "--seed", "7"];
    assert_eq!(corrupt(folder, &args).0, 0, "{set}");
    let data = load(folder.join(set).to_str().unwrap()).unwrap();
    let test = data.test.reveal_for_final_evaluation();
    let shape = [test.height, test.width, test.channels];
    for kind in [Kind::GaussianNoise, Kind::Fog] {
        let mut want = vec![];
        for severity in Severity::ALL {
            let corruption = Corruption::new(kind, severity, Constants::Cifar);
            for i in 0..test.len() {
                want.extend(corrupt_pixels(&corruption, test.at_hand(i).unwrap(), shape, 7, i as u64).unwrap());
            }
        }
        assert_eq!(values(&folder.join(&out).join(format!("{kind}.npy")), want.len()), want, "{set} {kind}");
    }
    let labels: Vec<u8> = test.labels.iter().map(|&l| l as u8).collect();
    let all = labels.repeat(5);
    assert_eq!(values(&folder.join(&out).join("labels.npy"), all.len()), all);
    let rest: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(rest.iter().all(|name| !name.to_string_lossy().contains("partial")), "{rest:?}");
}

#[test]
fn data_sets_are_read_a_few_images_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let noise = |count: usize| -> Vec<u8> { (0..count).map(|i| (i * i * 31 + 7 * i) as u8).collect() };
    for (part, count) in [("train", 2), ("t10k", 5)] {
        std::fs::create_dir_all(folder.join("idx")).unwrap();
        let images = idx_file(0x803, &[count, 8, 12], &noise(count as usize * 96));
        let labels = idx_file(0x801, &[count], &noise(count as usize).iter().map(|v| v % 10).collect::<Vec<_>>());
        std::fs::write(folder.join(format!("idx/{part}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("idx/{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    same_as_whole(folder, "idx");
    std::fs::create_dir(folder.join("cifar")).unwrap();
    for (file, count) in [("data_batch_1.bin", 2), ("test_batch.bin", 3)] {
        let records = (0..count).flat_map(|i| [vec![i as u8 + 1], noise(3072)].concat());
        std::fs::write(folder.join("cifar").join(file), records.collect::<Vec<u8>>()).unwrap();
    }
    same_as_whole(folder, "cifar");
    // An archive is unpacked onto the disk.
    let mut archive = tar::Builder::new(std::fs::File::create(folder.join("set.tar")).unwrap());
    for file in ["data_batch_1.bin", "test_batch.bin"] {
        archive.append_path_with_name(folder.join("cifar").join(file), format!("cifar-10-batches-bin/{file}")).unwrap();
    }
    archive.finish().unwrap();
    same_as_whole(folder, "set.tar");
    std::fs::create_dir(folder.join("npy")).unwrap();
    for (part, count) in [("train", 2), ("test", 4)] {
        let write = |what: &str, shape: &[usize], bytes: &[u8]| {
            let mut file = NpyWriter::new(&folder.join(format!("npy/{part}_{what}.npy")), shape).unwrap();
            file.write(bytes).unwrap();
            file.finish().unwrap();
        };
        write("images", &[count, 9, 8, 3], &noise(count * 216));
        write("labels", &[count], &(0..count as u8).map(|l| l % 2).collect::<Vec<_>>());
    }
    same_as_whole(folder, "npy");
    // Damage is named, and nothing is left behind.
    let test = folder.join("cifar/test_batch.bin");
    let bytes = std::fs::read(&test).unwrap();
    for (bad, message) in [(&bytes[..5000], "record 1 is cut off"), (&[], "no images")] {
        std::fs::write(&test, bad).unwrap();
        let (code, why) = corrupt(folder, &["--input", "cifar", "--out", "bad"]);
        assert!(code != 0 && why.contains("test_batch.bin") && why.contains(message), "{why}");
    }
    let mut label = bytes.clone();
    label[3073] = 10;
    std::fs::write(&test, label).unwrap();
    let (_, why) = corrupt(folder, &["--input", "cifar", "--out", "bad"]);
    assert!(why.contains("at byte 3073") && why.contains("label 10 of record 1"), "{why}");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["cifar", "cifar-c", "idx", "idx-c", "npy", "npy-c", "set.tar", "set.tar-c"]);
}

#[test]
fn four_inks_become_three_colours() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/cmyk.jpg");
    let args = ["--input", picture.to_str().unwrap(), "--out", "bright.png", "--kind", "brightness", "--severity", "1"];
    assert_eq!(corrupt(folder.path(), &args).0, 0);
    let bright = image::open(folder.path().join("bright.png")).unwrap().to_rgb8();
    // The picture shows (200, 60, 30); brightness adds 0.05 to the largest and scales the others along.
    for (got, want) in bright.get_pixel(5, 9).0.into_iter().zip([212.75, 63.8, 31.9]) {
        assert!((f64::from(got) - want).abs() <= 3.0, "{bright:?}");
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
    assert_eq!(csv.lines().count(), 2 + 75 + 3);
    assert!(csv.lines().any(|line| line.starts_with("pgd:8/255:3,0,")), "{csv}");
    assert!(std::fs::read_to_string(scratch.path("a.svg")).unwrap().contains("gaussian_noise"));

    // Against itself a network has the error of its baseline.
    scratch.write("base.json", first.to_string());
    let again = scratch.json(&with(&["--images", "200", "--baseline", "base.json"]));
    assert!((again["mce"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(again["corruptions"], first["corruptions"]);
    assert!(again["mce_note"].is_null() && first["mce_note"].is_null());
    assert_eq!((&first["constants"], &first["frost"]), (&"cifar".into(), &"procedural".into()));
    let part = with(&["--images", "200", "--baseline", "base.json", "--corruptions", "fog"]);
    let part = scratch.json(&part);
    assert!(part["mce"].is_null() && part["mce_note"].as_str().unwrap().contains("lacks gaussian_noise"), "{part}");

    // A folder of corrupted images gives the same as images made on the fly.
    let made = scratch.json(&["corrupt", "--quiet", "--input", "digits", "--out", "c", "--kind", "fog,snow", "--json"]);
    assert_eq!((&made["files"], &made["results"]), (&3.into(), &3550.into()));
    let read = scratch.json(&with(&["--corrupted", "c", "--corruptions", "snow", "--severities", "2,5"]));
    let fresh = scratch.json(&with(&["--corruptions", "snow", "--severities", "2,5"]));
    assert_eq!(read["corruptions"], fresh["corruptions"]);
    assert!(fresh["corruption_accuracy"].is_null());

    for (options, parts) in [
        (&["--corruptions", "fogg"][..], &["--corruptions", "fogg", "did you mean `fog`?", "main, all, none"][..]),
        (&["--severities", "0-3"], &["--severities", "1 to 5"]),
        (&["--severities", "4-2"], &["--severities", "1 to 5"]),
        (&["--attacks", "pgd:8/255"], &["--attacks", "pgd:8/255", "pgd:EPS:STEPS"]),
        (&["--attacks", "fgsm:300"], &["--attacks", "between 0 and 1"]),
        (&["--images", "0"], &["--images"]),
        (&["--constants", "cifer"], &["cifer", "cifar"]),
        (&["--corrupted", "nowhere"], &["nowhere"]),
        (&["--baseline", "a.csv"], &["a.csv", "evaluate --json"]),
        (&["--baseline", "base.json", "--images", "200", "--severities", "3"], &["base.json", "severities"]),
        (&["--baseline", "base.json", "--images", "100"], &["base.json", "test images are 200", "100"]),
        (&["--baseline", "base.json", "--images", "200", "--constants", "imagenet"], &["base.json", "constants"]),
        (&["--frost", "nowhere", "--corruptions", "fog"], &["nowhere"]),
    ] {
        scratch.bad(2, &with(options), parts);
    }
    scratch.bad(
        2,
        &with(&["--corrupted", "c", "--corruptions", "fog,frost"]),
        &["frost.npy", "missing", "(1775, 8, 8, 1)"],
    );
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
    scratch.write("out.partial/mine.txt", "mine");
    scratch.good(&corrupt(&["in", "--out", "out", "--kind", "fog", "--severity", "2", "--force"]));
    assert!(scratch.path("out.partial/mine.txt").exists());
    scratch.bad(
        2,
        &corrupt(&["in", "--out", "new", "--kind", "fogs"]),
        &["--kind", "fogs", "did you mean `fog`?", "known: main, all"],
    );
    scratch.bad(2, &corrupt(&["in", "--out", "new", "--severity", "6"]), &["--severity", "1 to 5"]);
    scratch.bad(2, &corrupt(&["nothing", "--out", "new"]), &["nothing"]);
    scratch.bad(2, &corrupt(&["in", "--out", "new", "--kind", "fog", "--frost", "in/deep/none"]), &["none"]);
    // Strange images are read, or refused by name; a folder goes on past them.
    let save = |name: &str, image: DynamicImage| image.save(scratch.path(name)).unwrap();
    std::fs::create_dir_all(scratch.path("odd")).unwrap();
    save("odd/16bit.png", image::ImageBuffer::from_pixel(9, 4, Rgb([60000u16, 9, 900])).into());
    save("odd/alpha.png", image::RgbaImage::from_pixel(3, 8, image::Rgba([1, 2, 3, 4])).into());
    save("odd/grey.jpg", image::GrayImage::from_pixel(30, 20, image::Luma([77])).into());
    save("odd/one.png", RgbImage::from_pixel(1, 1, Rgb([1, 2, 3])).into());
    let all = scratch.json(&corrupt(&["odd", "--out", "fine", "--kind", "all", "--severity", "5", "--json"]));
    assert_eq!((&all["images"], &all["failed"]), (&4.into(), &Value::Array(vec![])));
    save("odd/wide.png", image::GrayImage::new(20_000, 20).into());
    scratch.write("odd/text.png", "not a picture");
    scratch.write("odd/cut.png", &picture(3)[..60]);
    let output = scratch.run(&corrupt(&["odd", "--out", "some", "--kind", "fog", "--severity", "5", "--json"]));
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("3 of 7 files"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("bad file: ")).count(), 3, "{}", output.stderr);
    let some: Value = serde_json::from_str(&output.stdout).unwrap();
    let failed = some["failed"].as_array().unwrap();
    for (bad, (name, why)) in
        failed.iter().zip([("cut.png", "cannot decode"), ("text.png", "no picture"), ("wide.png", "20000x20 pixels")])
    {
        assert!(bad["file"] == name && bad["why"].as_str().unwrap().contains(why), "{some}");
    }
    assert!(scratch.path("some/fog/5/one.png.png").exists());
    scratch.bad(2, &corrupt(&["odd/text.png", "--out", "new.png", "--kind", "fog", "--severity", "1"]), &["text.png"]);
    scratch.write("a.gif", "GIF89a");
    scratch.bad(
        2,
        &corrupt(&["a.gif", "--out", "new"]),
        &["a.gif", "is a GIF; PNG, JPEG, WebP, BMP and TIFF are read"],
    );
    scratch.write(
        "f4.npy",
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 2, 3), }         \n",
    );
    scratch.bad(2, &corrupt(&["f4.npy", "--out", "new"]), &["f4.npy", "uint8"]);
}

#[test]
fn files_that_cannot_be_used_are_listed_and_passed() {
    let scratch = Scratch::new();
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    scratch.write("in/a.png", picture(1));
    scratch.write("in/deep/half.jpg", half(picture_as(ImageFormat::Jpeg, 2)));
    scratch.write("in/moving.gif", "GIF89a");
    scratch.write("in/new.WEBP", "RIFF");
    scratch.write("in/old.bmp", "BM");
    scratch.write("in/scan.tiff", "II*");
    scratch.write("in/hidden.png", "GIF89a");
    // Not even looked at.
    scratch.write("in/.hidden.gif", "GIF89a");
    scratch.write("in/.cache/x.png", "nothing");
    scratch.write("in/notes.txt", "mine");
    scratch.write("in/labels.json", "{}");
    let mut bad = vec![
        ("deep/half.jpg", "cut off"),
        ("hidden.png", "is a GIF; PNG, JPEG, WebP, BMP and TIFF are read"),
        ("moving.gif", "is a GIF; PNG, JPEG, WebP, BMP and TIFF are read"),
        ("new.WEBP", "the contents are no picture"),
        ("old.bmp", "cannot decode"),
        ("scan.tiff", "the contents are no picture"),
    ];
    let (mut good, long) = (1, "x".repeat(250) + ".png");
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        // No file's name may have 254 letters and an ending.
        scratch.write(&format!("in/{long}"), picture(3));
        bad.push((&long, "cannot write"));
        scratch.write("elsewhere/b.png", picture(4));
        symlink(scratch.path("elsewhere/b.png"), scratch.path("in/to-file.png")).unwrap();
        symlink(scratch.path("elsewhere"), scratch.path("in/to-folder")).unwrap();
        symlink("nothing", scratch.path("in/to-nothing.png")).unwrap();
        bad.extend([("to-folder", "link to a folder"), ("to-nothing.png", "cannot read")]);
        good += 1;
    }
    bad.sort();
    let options = ["--kind", "fog,frost", "--severity", "1,5", "--quiet", "--json"];
    let run =
        |input: &str, out: &str| scratch.run(&[&["corrupt", "--input", input, "--out", out], &options[..]].concat());
    let output = run("in", "out");
    assert_eq!(output.code, 1, "{}", output.stderr);
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&answer["images"], &answer["files"]), (&good.into(), &(4 * good).into()), "{answer}");
    let failed = answer["failed"].as_array().unwrap();
    let lines: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("bad file: ")).collect();
    assert_eq!((failed.len(), lines.len()), (bad.len(), bad.len()), "{}", output.stderr);
    for ((name, why), (entry, line)) in bad.iter().zip(failed.iter().zip(lines)) {
        assert!(entry["file"] == *name && entry["why"].as_str().unwrap().contains(why), "{entry}, not {name}: {why}");
        assert!(line.starts_with(&format!("bad file: {name}: ")) && line.contains(why), "{line}");
    }
    assert!(
        output.stderr.contains(&format!("{} of {} files", bad.len(), bad.len() as i32 + good)),
        "{}",
        output.stderr
    );
    assert!(scratch.path("out/frost/5/a.png.png").exists());
    // If none can be used, it is the same but for the results.
    std::fs::remove_file(scratch.path("in/a.png")).unwrap();
    let _ = std::fs::remove_file(scratch.path("in/to-file.png"));
    std::fs::remove_file(scratch.path("in").join(&long)).unwrap_or_default();
    let output = run("in", "new/out");
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.code, &answer["images"], &answer["files"]), (1, &0.into(), &0.into()), "{}", output.stderr);
    assert!(output.stderr.contains("bad file: old.bmp: "), "{}", output.stderr);
    assert!(!scratch.path("new").exists());
    scratch.write("gifs/a.gif", "GIF89a");
    let output = run("gifs", "new/out");
    assert!(output.code == 1 && output.stderr.contains("1 of 1 files"), "{}", output.stderr);
}

#[test]
fn arrays_have_the_official_layout_or_none() {
    let scratch = Scratch::new();
    let corrupt = |input: &'static str, more: &[&'static str]| {
        [&["corrupt", "--quiet", "--input", input, "--out", "out/c", "--kind", "fog"], more].concat()
    };
    for severity in ["3", "1-4", "2,5"] {
        scratch.bad(2, &corrupt("digits", &["--severity", severity]), &["--severity", "CIFAR-10-C", "all five"]);
    }
    scratch.good(&corrupt("digits", &["--severity", "5,4,3,2,1"]));
    let bytes = std::fs::read(scratch.path("out/c/fog.npy")).unwrap();
    scratch.good(&corrupt("digits", &["--force"]));
    assert_eq!(std::fs::read(scratch.path("out/c/fog.npy")).unwrap(), bytes, "the order asked for does not matter");
    let npy = |shape: &str, descr: &str, bytes: usize| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let head = format!("{text:<117}\n");
        [b"\x93NUMPY\x01\x00\x76\x00", head.as_bytes(), &vec![9; bytes]].concat()
    };
    // Grey arrays of either shape are read; others are told what would be.
    scratch.write("grey.npy", npy("(2, 4, 6)", "|u1", 48));
    scratch.good(&["corrupt", "--quiet", "--input", "grey.npy", "--out", "grey", "--kind", "fog"]);
    assert!(std::fs::read(scratch.path("grey/fog.npy")).unwrap().len() > 5 * 48);
    scratch.write("flat.npy", npy("(2, 4)", "|u1", 8));
    scratch.bad(2, &corrupt("flat.npy", &["--force"]), &["flat.npy", "(N, H, W) or (N, H, W, C)"]);
    scratch.write("two.npy", npy("(2, 2, 2, 2)", "|u1", 16));
    scratch.bad(2, &corrupt("two.npy", &["--force"]), &["two.npy", "2 channels", "1 or 3"]);
    scratch.write("words.npy", npy("(2, 2, 2)", "<i8", 64));
    scratch.bad(2, &corrupt("words.npy", &["--force"]), &["words.npy", "expected dtype uint8, found int64"]);
}

/// Some systems have names that are no text.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_is_escaped() {
    use std::os::unix::ffi::OsStrExt;

    let scratch = Scratch::new();
    scratch.write("in/a.png", picture(1));
    let name = std::ffi::OsStr::from_bytes(b"\xc3\xa4\xff.png");
    std::fs::write(scratch.path("in").join(name), picture(2)).unwrap();
    std::fs::write(scratch.path("in").join(std::ffi::OsStr::from_bytes(b"\xfe.gif")), "GIF89a").unwrap();
    let args = ["corrupt", "--quiet", "--json", "--input", "in", "--out", "out", "--kind", "fog", "--severity", "1"];
    let output = scratch.run(&args);
    assert_eq!(output.code, 1, "{}", output.stderr);
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    let failed: Vec<&Value> = answer["failed"].as_array().unwrap().iter().map(|bad| &bad["file"]).collect();
    assert_eq!(failed, ["\u{e4}\\xFF.png", "\\xFE.gif"]);
    assert_eq!(answer["images"], 1);
    assert!(output.stderr.contains("bad file: \u{e4}\\xFF.png: "), "{}", output.stderr);
    assert!(scratch.path("out/fog/1/a.png.png").exists());
}

#[test]
fn a_name_says_whether_it_is_of_a_file_or_of_a_folder() {
    let scratch = Scratch::new();
    scratch.write("in/a.png", picture(1));
    let corrupt = |input: &'static str, out: &'static str, more: &[&'static str]| {
        [&["corrupt", "--quiet", "--kind", "fog", "--input", input, "--out", out], more].concat()
    };
    let one = ["--severity", "1"];
    for out in ["x.webp", "x.GIF"] {
        scratch.bad(2, &corrupt("in/a.png", out, &one), &["--out", out, ".png or .jpg or .jpeg"]);
    }
    for (input, out) in [("in/a.png", "x.png"), ("in", "x.webp"), ("in", "x.jpg"), ("digits", "x.npy")] {
        scratch.bad(2, &corrupt(input, out, &[]), &["--out", out, "need a folder"]);
    }
    let training = ["train", "--data", "digits", "--arch", crate::program::ARCH, "--out", "x.safetensors"];
    scratch.bad(2, &training, &["--out", "x.safetensors", "need a folder"]);
    scratch.good(&corrupt("in/a.png", "x.jpeg", &one));
    scratch.good(&corrupt("in/a.png", "x", &one));
    assert!(scratch.path("x.jpeg").is_file() && scratch.path("x/fog/1/a.png.png").is_file());
}
