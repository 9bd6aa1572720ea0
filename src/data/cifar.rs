//! CIFAR-10 and CIFAR-100, binary version.
//!
//! A record is one label byte (CIFAR-100: a coarse and a fine label byte, of which the fine one is used) and
//! 3,072 bytes of pixels: 32x32 red, then green, then blue. CIFAR-10 has `data_batch_<number>.bin` (any number
//! of them, of any length), `test_batch.bin` and `batches.meta.txt`; CIFAR-100 has `train.bin`, `test.bin` and
//! `fine_label_names.txt`. Without the text file the classes go by their published names or numbers.

use std::path::Path;

use super::images::MAX_PIXEL_BYTES;
use super::source::{Reader, Source};
use super::{Dataset, Format, Images, NpyWriter, Origin, Parts};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CIFAR10_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The two layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Ten,
    Hundred,
}

impl Variant {
    fn classes(self) -> usize {
        match self {
            Variant::Ten => 10,
            Variant::Hundred => 100,
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Variant::Ten => 1,
            Variant::Hundred => 2,
        }
    }

    fn test_file(self) -> &'static str {
        match self {
            Variant::Ten => "test_batch.bin",
            Variant::Hundred => "test.bin",
        }
    }

    /// Bytes of a record.
    fn record(self) -> usize {
        self.label_bytes() + 3 * PLANE
    }

    fn names_file(self) -> &'static str {
        match self {
            Variant::Ten => "batches.meta.txt",
            Variant::Hundred => "fine_label_names.txt",
        }
    }
}

/// The number of a training batch file of CIFAR-10.
fn batch_number(name: &str) -> Option<u32> {
    name.strip_prefix("data_batch_")?.strip_suffix(".bin")?.parse().ok()
}

/// Whether a file belongs to one of the layouts.
pub(super) fn wanted(name: &str) -> bool {
    batch_number(name).is_some()
        || ["test_batch.bin", "train.bin", "test.bin", "batches.meta.txt", "fine_label_names.txt"].contains(&name)
}

/// Which layout the files are in, if any.
pub(super) fn detect(source: &Source) -> Option<Variant> {
    if source.names().any(|name| batch_number(name).is_some()) {
        Some(Variant::Ten)
    } else if source.has("train.bin") && source.has("test.bin") {
        Some(Variant::Hundred)
    } else {
        None
    }
}

/// Reads the set.
pub(super) fn load(source: &Source, variant: Variant) -> Result<Dataset> {
    let (train, test) = match variant {
        Variant::Ten => {
            let mut batches: Vec<&str> = source.names().filter(|name| batch_number(name).is_some()).collect();
            batches.sort_by_key(|name| batch_number(name));
            (batches, variant.test_file())
        }
        Variant::Hundred => (vec!["train.bin"], variant.test_file()),
    };
    check_test(source, test)?;
    let names = class_names(source, variant)?;
    let train = read_all(source, &train, variant, &names)?;
    let test_images = read_all(source, &[test], variant, &names)?;
    let (name, format) = match variant {
        Variant::Ten => ("cifar-10", Format::Cifar10),
        Variant::Hundred => ("cifar-100", Format::Cifar100),
    };
    Dataset::assemble(Parts {
        name: name.into(),
        format,
        train,
        test: test_images,
        source: Origin::Path(source.root().to_path_buf()),
        files: source.files_read(),
        left_out: source.left_out().clone(),
        notes: Vec::new(),
        test_path: source.path(test),
    })
}

fn check_test(source: &Source, test: &str) -> Result<()> {
    let why = "missing; the official archive has it beside the training batches";
    if source.has(test) { Ok(()) } else { Err(Error::file(source.path(test), None, why)) }
}

/// Copies the test images to the `.npy` file `at`, one by one, and returns their labels.
pub(super) fn spool_test(source: &Source, variant: Variant, at: &Path) -> Result<Vec<u16>> {
    let file = variant.test_file();
    check_test(source, file)?;
    let mut reader = source.open(file)?;
    let length = reader.len().unwrap_or(0);
    check_whole(&reader, length, variant)?;
    let count = length as usize / variant.record();
    if count == 0 {
        return Err(Error::file(reader.path(), None, "no images"));
    }
    let mut writer = NpyWriter::new(at, &[count, SIDE, SIDE, 3])?;
    let mut labels = Vec::with_capacity(count);
    for i in 0..count {
        let bytes = reader.exact(variant.record() as u64, "a record")?;
        let mut pixels = Vec::with_capacity(3 * PLANE);
        labels.push(decode(&bytes, i, variant, reader.path(), &mut pixels)?);
        writer.write(&pixels)?;
    }
    writer.finish()?;
    Ok(labels)
}

/// Refuses a file whose last record is cut off.
fn check_whole(reader: &Reader<'_>, length: u64, variant: Variant) -> Result<()> {
    let record = variant.record() as u64;
    let (whole, left) = (length / record, length % record);
    let why = format!("record {whole} is cut off: expected {record} bytes, found {left}");
    if left == 0 { Ok(()) } else { Err(Error::file(reader.path(), Some(length), why)) }
}

/// The label of record `i`; its pixels are appended, colours together.
fn decode(record: &[u8], i: usize, variant: Variant, path: &Path, pixels: &mut Vec<u8>) -> Result<u16> {
    let label_bytes = variant.label_bytes();
    let (label, planes) = record.split_at(label_bytes);
    let label = u16::from(label[label_bytes - 1]);
    if usize::from(label) >= variant.classes() {
        let offset = (i * variant.record() + label_bytes - 1) as u64;
        let why = format!("label {label} of record {i} is outside the {} classes", variant.classes());
        return Err(Error::file(path, Some(offset), why));
    }
    for p in 0..PLANE {
        pixels.extend([planes[p], planes[PLANE + p], planes[2 * PLANE + p]]);
    }
    Ok(label)
}

fn class_names(source: &Source, variant: Variant) -> Result<Vec<String>> {
    let (file, classes) = (variant.names_file(), variant.classes());
    if !source.has(file) {
        return Ok(match variant {
            Variant::Ten => CIFAR10_NAMES.map(String::from).to_vec(),
            Variant::Hundred => (0..classes).map(|i| i.to_string()).collect(),
        });
    }
    let names = source.lines(file)?;
    if names.len() != classes {
        let why = format!("expected {classes} class names, one per line, found {}", names.len());
        return Err(Error::file(source.path(file), None, why));
    }
    Ok(names)
}

fn read_all(source: &Source, files: &[&str], variant: Variant, names: &[String]) -> Result<Images> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        append(source.open(file)?, variant, &mut pixels, &mut labels)?;
    }
    Images::new([SIDE, SIDE, 3], names.to_vec(), pixels, labels)
}

/// Appends the records of one file.
fn append(mut reader: Reader<'_>, variant: Variant, pixels: &mut Vec<u8>, labels: &mut Vec<u16>) -> Result<()> {
    if let Some(length) = reader.len() {
        check_whole(&reader, length, variant)?;
    }
    let bytes = reader.rest()?;
    check_whole(&reader, bytes.len() as u64, variant)?;
    if (pixels.len() + bytes.len()) as u64 > MAX_PIXEL_BYTES {
        return Err(reader.error(format!("more than {MAX_PIXEL_BYTES} bytes of pixels in all, the most that is read")));
    }
    pixels.reserve(bytes.len());
    for (i, record) in bytes.chunks_exact(variant.record()).enumerate() {
        labels.push(decode(record, i, variant, reader.path(), pixels)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load as load_any;
    use crate::data::source::tests::{gz, tar_of};
    use proptest::prelude::*;

    fn records(label_bytes: &[u8], count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0..count {
            bytes.extend(label_bytes);
            bytes.extend([10 + i as u8; PLANE]);
            bytes.extend([20; PLANE]);
            bytes.extend([30; PLANE]);
        }
        bytes
    }

    fn write(dir: &Path, files: &[(&str, &[u8])]) {
        std::fs::create_dir_all(dir).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn planes_become_pixels_and_batches_go_by_number() {
        let (one, two, ten, test) = (records(&[3], 1), records(&[4], 2), records(&[5], 1), records(&[9], 1));
        let files: [(&str, &[u8]); 4] = [
            ("data_batch_10.bin", &ten),
            ("data_batch_2.bin", &two),
            ("data_batch_1.bin", &one),
            ("test_batch.bin", &test),
        ];
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("cifar-10-batches-bin"), &files);
        let archive = dir.path().join("c.tgz");
        std::fs::write(&archive, gz(&tar_of(&files))).unwrap();
        for path in [dir.path(), &dir.path().join("cifar-10-batches-bin"), &archive] {
            let set = load_any(path.to_str().unwrap()).unwrap();
            assert_eq!((set.name.as_str(), set.train.labels.as_slice()), ("cifar-10", [3, 4, 4, 5].as_slice()));
            assert_eq!(set.train.at_hand(2).unwrap()[..6], [11, 20, 30, 11, 20, 30]);
            assert_eq!(set.test.len(), 1);
            assert_eq!(set.train.class_names[9], "truck");
        }
    }

    #[test]
    fn hundred_uses_the_fine_label() {
        let dir = tempfile::tempdir().unwrap();
        let names: String = (0..100).map(|i| format!("class {i}\n")).collect();
        let (train, test) = (records(&[19, 99], 2), records(&[0, 42], 1));
        write(dir.path(), &[("train.bin", &train), ("test.bin", &test), ("fine_label_names.txt", names.as_bytes())]);
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!((set.train.labels.as_slice(), set.train.classes), ([99, 99].as_slice(), 100));
        assert_eq!(set.train.class_names[99], "class 99");
        write(dir.path(), &[("fine_label_names.txt", b"one\ntwo\n")]);
        let error = load_any(dir.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("expected 100 class names") && error.contains("fine_label_names"), "{error}");
    }

    #[test]
    fn wrong_files_are_named_with_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let mut bad = records(&[3], 2);
        bad[3073] = 10;
        let test = records(&[9], 1);
        write(dir.path(), &[("data_batch_1.bin", &bad), ("test_batch.bin", &test)]);
        let load_dir = || load_any(dir.path().to_str().unwrap()).unwrap_err().to_string();
        let error = load_dir();
        assert!(error.contains("data_batch_1.bin at byte 3073: label 10 of record 1"), "{error}");
        write(dir.path(), &[("data_batch_1.bin", &bad[..4000])]);
        let error = load_dir();
        assert!(error.contains("data_batch_1.bin at byte 4000: record 1 is cut off"), "{error}");
        write(dir.path(), &[("data_batch_1.bin", &[])]);
        assert!(load_dir().contains("no images"));
        std::fs::remove_file(dir.path().join("test_batch.bin")).unwrap();
        assert!(load_dir().contains("test_batch.bin: missing"));
    }

    #[test]
    fn the_real_set_when_at_hand() {
        let Ok(root) = std::env::var("ALTIPLANO_TEST_DATA") else {
            eprintln!("skipped: ALTIPLANO_TEST_DATA is not set");
            return;
        };
        let set = load_any(&format!("{root}/cifar10")).unwrap();
        assert!(set.train.len() >= 10_000 && set.test.len() >= 2_000);
        let s = set.train.channel_statistics().unwrap();
        for (got, want) in s.mean.iter().chain(&s.std).zip([0.4914, 0.4822, 0.4465, 0.2470, 0.2435, 0.2616]) {
            assert!((got - want).abs() < 0.01, "{s:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_never_panic(keep in 0usize..6200, at in 0usize..6146, value: u8) {
            let mut bytes = records(&[3], 2);
            bytes[at] = value;
            bytes.truncate(keep);
            let mut out = (Vec::new(), Vec::new());
            let reader = Reader::of_bytes(Path::new("d.bin"), &bytes);
            if let Err(e) = append(reader, Variant::Ten, &mut out.0, &mut out.1) {
                prop_assert!(e.to_string().contains("d.bin at byte"));
            } else {
                prop_assert_eq!(bytes.len() % 3073, 0);
            }
        }
    }
}
