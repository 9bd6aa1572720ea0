//! `altiplano corrupt` from outside: data sets that are read a few images at a time, and pictures of four inks.
#![cfg(feature = "cli")]

use std::path::Path;

use altiplano::corrupt::{Constants, Corruption, Kind, Severity};
use altiplano::data::load;
use altiplano::measure::corruption::corrupt_pixels;
use assert_cmd::Command;

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
    let args = ["--input", set, "--out", &out, "--kind", "gaussian_noise,fog", "--severity", "2,5", "--seed", "7"];
    assert_eq!(corrupt(folder, &args).0, 0, "{set}");
    let data = load(folder.join(set).to_str().unwrap()).unwrap();
    let test = data.test.reveal_for_final_evaluation();
    let shape = [test.height, test.width, test.channels];
    for kind in [Kind::GaussianNoise, Kind::Fog] {
        let mut want = vec![];
        for severity in [2, 5] {
            let corruption = Corruption::new(kind, Severity::new(severity).unwrap(), Constants::Cifar);
            for i in 0..test.len() {
                want.extend(corrupt_pixels(&corruption, test.image(i), shape, 7, i as u64).unwrap());
            }
        }
        assert_eq!(values(&folder.join(&out).join(format!("{kind}.npy")), want.len()), want, "{set} {kind}");
    }
    let labels: Vec<u8> = test.labels.iter().map(|&l| l as u8).collect();
    let twice = [labels.clone(), labels].concat();
    assert_eq!(values(&folder.join(&out).join("labels.npy"), twice.len()), twice);
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
    assert_eq!(names, ["cifar", "cifar-c", "idx", "idx-c"]);
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
