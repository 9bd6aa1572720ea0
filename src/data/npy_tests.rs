//! Tests of the NumPy reader and writers.

use super::*;
use crate::data::load as load_any;
use proptest::prelude::*;
use std::path::PathBuf;

/// A `.npy` file with the given header fields.
fn file(version: u8, descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'shape': {shape}, 'descr': '{descr}', 'fortran_order': {fortran}}}\n");
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Writes a small good set and returns its folder.
fn good_set(files: &[&str; 4]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_npy_u8(&dir.path().join(files[0]), &[3, 2, 2, 3], &(0..36).collect::<Vec<u8>>()).unwrap();
    let labels: Vec<u8> = [2i64, 0, 1].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(dir.path().join(files[1]), file(2, "<i8", "False", "(3,)", &labels)).unwrap();
    write_npy_u8(&dir.path().join(files[2]), &[1, 2, 2, 3], &[7; 12]).unwrap();
    let labels = 1i32.to_be_bytes();
    std::fs::write(dir.path().join(files[3]), file(1, ">i4", "False", "(1, 1)", &labels)).unwrap();
    dir
}

fn message(dir: &tempfile::TempDir) -> String {
    load_any(dir.path().to_str().unwrap()).unwrap_err().to_string()
}

#[test]
fn both_namings_and_label_types_read() {
    for files in &FILES {
        let dir = good_set(files);
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!((set.train.height, set.train.width, set.train.channels, set.train.classes), (2, 2, 3, 3));
        assert_eq!(set.train.labels, [2, 0, 1]);
        assert_eq!(set.train.at_hand(1).unwrap()[..2], [12, 13]);
        assert_eq!(set.test.reveal_for_final_evaluation().labels, [1]);
    }
}

#[test]
fn class_names_set_the_number_of_classes() {
    let dir = good_set(&FILES[0]);
    std::fs::write(dir.path().join("class_names.txt"), "a\nb\nc\nd\n").unwrap();
    assert_eq!(load_any(dir.path().to_str().unwrap()).unwrap().train.class_names, ["a", "b", "c", "d"]);
    std::fs::write(dir.path().join("class_names.txt"), "a\nb\n").unwrap();
    let error = message(&dir);
    assert!(error.contains("train_labels.npy at byte") && error.contains("label 2 of image 0"), "{error}");
    std::fs::write(dir.path().join("class_names.txt"), "\n").unwrap();
    assert!(message(&dir).contains("outside the 0 classes"));
}

#[test]
fn wrong_arrays_are_named() {
    let f32s = [0u8; 48];
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("train_images.npy", file(1, "<f4", "False", "(3, 2, 2)", &f32s), "expected dtype uint8, found float32"),
        ("train_images.npy", file(1, "<f2", "False", "(3, 2, 2)", &f32s), "dtype `<f2` is not read"),
        ("train_images.npy", file(1, "|u1", "False", "(3, 3, 8, 8)", &[0; 576]), "np.transpose(x, (0, 2, 3, 1))"),
        ("train_labels.npy", file(1, "<f8", "False", "(3,)", &[0; 24]), "found float64; convert with .astype('int64')"),
        ("train_images.npy", file(1, "|u1", "True", "(3, 2, 2)", &[0; 12]), "Fortran order"),
        ("train_images.npy", file(1, "|u1", "False", "(3, 4)", &[0; 12]), "expected shape (N, H, W)"),
        ("train_images.npy", file(1, "|u1", "False", "(99999999999, 4, 4)", &[]), "at most"),
        ("train_images.npy", file(3, "|u1", "False", "(3, 2, 2)", &[0; 12]), "version 1 or 2"),
        ("train_labels.npy", file(1, "|u1", "False", "(2,)", &[0; 2]), "expected shape (3,)"),
        ("train_labels.npy", file(1, "<i8", "False", "(3,)", &[0xff; 24]), "label -1 of image 0"),
        ("test_images.npy", file(1, "|u1", "False", "(1, 3, 2)", &[0; 6]), "test images are 3x2x1"),
    ];
    for (name, bytes, want) in cases {
        let dir = good_set(&FILES[0]);
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let error = message(&dir);
        assert!(error.contains(want) && error.contains(name), "{error}");
    }
    let dir = good_set(&FILES[0]);
    std::fs::remove_file(dir.path().join("test_labels.npy")).unwrap();
    assert!(message(&dir).contains("test_labels.npy: missing"));
}

#[test]
fn advice_fits_the_values() {
    let bytes = "convert with .round().astype('uint8')";
    let unit = "convert with (255 * x).round().astype('uint8')";
    for (values, want) in [
        ([0.0, 0.5, 1.0], unit),
        ([0.0, 0.0, 0.25], unit),
        ([0.0, 1.0, 1.0], bytes),
        ([0.0, 128.0, 255.0], bytes),
        ([0.0, 1.5, 254.9], bytes),
        ([-2.25, 0.0, 2.5], "with values from -2.25 to 2.5, which looks normalised"),
        ([0.0, 1.0, 256.0], "from 0 to 256, which looks normalised"),
        ([0.0, f64::NAN, 1.0], "not finite"),
        ([0.0, f64::INFINITY, 1.0], "not finite"),
    ] {
        for (descr, big) in [("<f8", false), (">f8", true), ("<f4", false), (">f4", true)] {
            let element = |value: f64| {
                let mut bytes = match descr.ends_with('8') {
                    true => value.to_le_bytes().to_vec(),
                    false => (value as f32).to_le_bytes().to_vec(),
                };
                if big {
                    bytes.reverse();
                }
                bytes
            };
            let data: Vec<u8> = values.into_iter().flat_map(element).collect();
            let bytes = file(1, descr, "False", "(3, 1, 1)", &data);
            let path = PathBuf::from("a.npy");
            let why = image_header(&mut Reader::of_bytes(&path, &bytes)).unwrap_err().to_string();
            assert!(why.contains("a.npy") && why.contains(want), "{descr} {values:?}: {why}");
        }
    }
    // A header that promises more than there is.
    let bytes = file(1, "<f4", "False", "(99999999999, 4, 4)", &0.5f32.to_le_bytes());
    let why = image_header(&mut Reader::of_bytes(&PathBuf::from("a.npy"), &bytes)).unwrap_err().to_string();
    assert!(why.contains(unit), "{why}");
    let bytes = file(1, "<i8", "False", "(1, 1, 1)", &200i64.to_le_bytes());
    let why = image_header(&mut Reader::of_bytes(&PathBuf::from("a.npy"), &bytes)).unwrap_err().to_string();
    assert!(why.contains("found int64 with values from 200 to 200; convert"), "{why}");
}

#[test]
fn files_read_and_left_out_are_told() {
    let dir = good_set(&FILES[1]);
    std::fs::copy(dir.path().join("x_test.npy"), dir.path().join("x_val.npy")).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(set.notes, ["left out: 1 .npy file (the layout has no such name; first x_val.npy)"]);
    assert_eq!((set.left_out, set.files.len()), (1, 4));
    assert!(set.files.is_sorted() && set.files[0].ends_with("x_test.npy"));
}

#[test]
fn written_files_have_the_published_layout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    for shape in [vec![4], vec![2, 2], vec![1, 4, 1]] {
        write_npy_f32(&path, &shape, &[1.0, -2.0, 0.5, f32::MAX]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() % 64, 16);
        assert_eq!(bytes[bytes.len() - 17], b'\n');
        let mut reader = Reader::of_bytes(&path, &bytes);
        assert_eq!(Header::read(&mut reader).unwrap(), Header { dtype: Dtype::F32 { big: false }, shape });
        assert_eq!(reader.exact(16, "x").unwrap()[..4], 1.0f32.to_le_bytes());
    }
    assert!(write_npy_u8(&path, &[3], &[0; 4]).is_err());
    assert!(write_npy_u8(&path, &[usize::MAX, 2], &[0; 4]).is_err());
    write_npy_u8(&path, &[], &[5]).unwrap();
}

proptest! {
    #[test]
    fn damaged_headers_never_panic(version in 1u8..4, at in 0usize..100, value: u8, keep in 0usize..120) {
        let mut bytes = file(version, "|u1", "False", "(3, 2, 2)", &[0; 12]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(keep);
        if let Err(e) = Header::read(&mut Reader::of_bytes(&PathBuf::from("a.npy"), &bytes)) {
            prop_assert!(e.to_string().starts_with("a.npy"), "{}", e);
        }
    }

    #[test]
    fn any_text_parses_or_fails(text in prop::collection::vec(prop::sample::select(b"{}()', :01shapedcrTFu|".to_vec()), 0..80)) {
        let _ = parse_header(&text);
    }
}
