//! The IDX files of MNIST and the sets that took over its layout (Fashion-MNIST, KMNIST).
//!
//! Images: magic 00 00 08 03, then count, rows and columns as 32-bit big-endian numbers, then one byte per
//! pixel. Labels: magic 00 00 08 01, count, one byte per label. Each file may be gzipped (`.gz`). There are 10
//! classes, unless a file `class_names.txt` beside them has another number of lines.

use std::path::Path;

use super::images::MAX_PIXEL_BYTES;
use super::source::{Reader, Source};
use super::{Dataset, Format, Images, NpyWriter, Origin, check_labels};
use crate::error::{Error, Result};

const FILES: [[&str; 2]; 2] =
    [["train-images-idx3-ubyte", "train-labels-idx1-ubyte"], ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]];
const FASHION_NAMES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const MAX_SIDE: u32 = 4096;

/// Whether a file belongs to the layout.
pub(super) fn wanted(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    FILES.iter().flatten().any(|file| *file == plain) || name == "class_names.txt"
}

/// The plain file if there is one, else the gzipped one.
fn find(source: &Source, file: &str) -> Option<String> {
    [file.to_string(), format!("{file}.gz")].into_iter().find(|name| source.has(name))
}

/// Whether the training images are there.
pub(super) fn detect(source: &Source) -> bool {
    find(source, FILES[0][0]).is_some()
}

fn is_fashion(source: &Source) -> bool {
    let mut parts = source.root().components();
    parts.any(|part| part.as_os_str().to_string_lossy().to_ascii_lowercase().contains("fashion"))
}

fn class_names(source: &Source, fashion: bool) -> Result<Vec<String>> {
    if source.has("class_names.txt") {
        return source.lines("class_names.txt");
    }
    Ok(if fashion { FASHION_NAMES.map(String::from).to_vec() } else { (0..10).map(|i| i.to_string()).collect() })
}

/// The image and the label file of a part.
fn pair(source: &Source, [images, labels]: [&str; 2]) -> Result<[String; 2]> {
    match (find(source, images), find(source, labels)) {
        (Some(images), Some(labels)) => Ok([images, labels]),
        (images_found, _) => {
            let missing = if images_found.is_none() { images } else { labels };
            Err(Error::file(source.path(missing), None, "missing, plain and as .gz"))
        }
    }
}

/// Copies the test images to the `.npy` file `at`, one by one, and returns their labels.
pub(super) fn spool_test(source: &Source, at: &Path) -> Result<Vec<u16>> {
    let names = class_names(source, is_fashion(source))?;
    let [images, labels] = pair(source, FILES[1])?;
    let (mut images, mut labels) = (source.open(&images)?, source.open(&labels)?);
    let [count, rows, columns] = sizes(&mut images, &mut labels)?;
    let labels = label_values(&mut labels, count, &names)?;
    if count == 0 {
        return Err(Error::file(images.path(), Some(4), "no images"));
    }
    let mut writer = NpyWriter::new(at, &[count, rows, columns, 1])?;
    for _ in 0..count {
        writer.write(&images.exact((rows * columns) as u64, "the pixels")?)?;
    }
    images.end()?;
    writer.finish()?;
    Ok(labels)
}

/// Reads the set.
pub(super) fn load(source: &Source) -> Result<Dataset> {
    let fashion = is_fashion(source);
    let names = class_names(source, fashion)?;
    let mut parts = Vec::with_capacity(2);
    for files in FILES {
        let [images, labels] = pair(source, files)?;
        parts.push(part(source.open(&images)?, source.open(&labels)?, &names)?);
    }
    let (Some(test), Some(train)) = (parts.pop(), parts.pop()) else {
        return Err(Error::file(source.root(), None, "expected a train and a test part"));
    };
    let name = if fashion { "fashion-mnist" } else { "mnist" };
    let path = find(source, FILES[1][0]).map_or_else(|| source.root().to_path_buf(), |name| source.path(&name));
    Dataset::assemble(name.into(), Format::Idx, train, test, Origin::Path(source.root().to_path_buf()), &path)
}

/// Reads the magic number and the big-endian header words after it.
fn header<const N: usize>(reader: &mut Reader<'_>, magic: u32, what: &str) -> Result<[u32; N]> {
    let word = |bytes: &[u8]| bytes.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
    let found = word(&reader.exact(4, "the magic number")?);
    if found != magic {
        let why = format!("expected the magic number {magic:#010x} of IDX {what}, found {found:#010x}");
        return Err(Error::file(reader.path(), Some(0), why));
    }
    let bytes = reader.exact(4 * N as u64, "the header")?;
    Ok(std::array::from_fn(|i| word(&bytes[4 * i..4 * i + 4])))
}

/// Count, rows and columns, from the headers of both files.
fn sizes(images: &mut Reader<'_>, labels: &mut Reader<'_>) -> Result<[usize; 3]> {
    let [count, rows, columns] = header(images, 0x0803, "images")?;
    if rows == 0 || columns == 0 || rows > MAX_SIDE || columns > MAX_SIDE {
        let why = format!("images of {rows}x{columns} pixels; 1 to {MAX_SIDE} per side are possible");
        return Err(Error::file(images.path(), Some(8), why));
    }
    // At most 2^32 x 2^24.
    let size = u64::from(count) * u64::from(rows) * u64::from(columns);
    if size > MAX_PIXEL_BYTES {
        let why = format!("{count} images of {rows}x{columns} take {size} bytes; at most {MAX_PIXEL_BYTES} are read");
        return Err(Error::file(images.path(), Some(4), why));
    }
    let [label_count] = header(labels, 0x0801, "labels")?;
    if label_count != count {
        let why = format!("{label_count} labels for the {count} images of {}", images.path().display());
        return Err(Error::file(labels.path(), Some(4), why));
    }
    Ok([count, rows, columns].map(|n| n as usize))
}

/// The labels after the header, each of them a class.
fn label_values(labels: &mut Reader<'_>, count: usize, names: &[String]) -> Result<Vec<u16>> {
    let labels_at = labels.offset();
    let values: Vec<u16> = labels.exact(count as u64, "the labels")?.into_iter().map(u16::from).collect();
    labels.end()?;
    check_labels(labels.path(), &values, names.len(), |i| labels_at + i as u64)?;
    Ok(values)
}

/// Reads one image file and its label file.
fn part(mut images: Reader<'_>, mut labels: Reader<'_>, names: &[String]) -> Result<Images> {
    let [count, rows, columns] = sizes(&mut images, &mut labels)?;
    let pixels = images.exact((count * rows * columns) as u64, "the pixels")?;
    images.end()?;
    let values = label_values(&mut labels, count, names)?;
    Images::new([rows, columns, 1], names.to_vec(), pixels, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load as load_any;
    use crate::data::source::tests::{gz, tar_of};
    use proptest::prelude::*;

    fn image_file(count: u32, rows: u32, columns: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = [0x0803, count, rows, columns].iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.extend((0..count * rows * columns).map(|i| i as u8));
        bytes
    }

    fn label_file(labels: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [0x0801, labels.len() as u32].iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.extend(labels);
        bytes
    }

    #[test]
    fn plain_gzipped_and_archived_read_alike() {
        let contents = [image_file(3, 2, 4), label_file(&[1, 0, 9]), image_file(1, 2, 4), label_file(&[5])];
        let names: Vec<&str> = FILES.concat();
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("fashion/MNIST/raw"));
        std::fs::create_dir_all(&plain).unwrap();
        std::fs::create_dir_all(&packed).unwrap();
        for (name, bytes) in names.iter().zip(&contents) {
            std::fs::write(plain.join(name), bytes).unwrap();
            std::fs::write(packed.join(format!("{name}.gz")), gz(bytes)).unwrap();
        }
        let files: Vec<(&str, &[u8])> = names.iter().copied().zip(contents.iter().map(Vec::as_slice)).collect();
        let archive = dir.path().join("m.tar.gz");
        std::fs::write(&archive, gz(&tar_of(&files))).unwrap();
        for (path, name) in
            [(plain.clone(), "mnist"), (dir.path().join("fashion"), "fashion-mnist"), (archive, "mnist")]
        {
            let set = load_any(path.to_str().unwrap()).unwrap();
            assert_eq!((set.name.as_str(), set.format), (name, Format::Idx));
            assert_eq!((set.train.height, set.train.width, set.train.channels), (2, 4, 1));
            assert_eq!(set.train.labels, [1, 0, 9]);
            assert_eq!(set.train.image(1), [8, 9, 10, 11, 12, 13, 14, 15]);
            assert_eq!(set.test.len(), 1);
        }
        // The label file under the name of the image file, a missing file, and a plain file called .gz.
        std::fs::copy(plain.join(names[1]), plain.join(names[0])).unwrap();
        let error = load_any(plain.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("train-images") && error.contains("0x00000803"), "{error}");
        std::fs::remove_file(plain.join(names[1])).unwrap();
        let error = load_any(plain.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("train-labels-idx1-ubyte: missing"), "{error}");
        std::fs::write(packed.join("train-images-idx3-ubyte.gz"), &contents[0]).unwrap();
        let error = load_any(packed.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("cannot decompress"), "{error}");
    }

    fn read(images: &[u8], labels: &[u8]) -> Result<Images> {
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        part(Reader::of_bytes(Path::new("img"), images), Reader::of_bytes(Path::new("lab"), labels), &names)
    }

    #[test]
    fn inconsistent_files_are_named_with_the_byte() {
        let message = |images: &[u8], labels: &[u8]| read(images, labels).unwrap_err().to_string();
        let good = image_file(2, 2, 2);
        assert!(message(&good, &label_file(&[1, 10])).contains("lab at byte 9: label 10 of image 1"));
        assert!(message(&good, &label_file(&[1])).contains("lab at byte 4: 1 labels for the 2 images"));
        assert!(message(&good[..20], &label_file(&[1, 2])).contains("img at byte 20: the file ends within"));
        let longer = [good.as_slice(), &[0]].concat();
        assert!(message(&longer, &label_file(&[1, 2])).contains("img at byte 24: expected the end"));
        let mut huge = good.clone();
        huge[4..16].fill(0xff);
        assert!(message(&huge, &label_file(&[1, 2])).contains("img at byte 8"));
        huge[8..16].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0x10, 0]);
        assert!(message(&huge, &label_file(&[1, 2])).contains("at most"));
    }

    #[test]
    fn the_real_set_when_at_hand() {
        let Ok(root) = std::env::var("ALTIPLANO_TEST_DATA") else {
            eprintln!("skipped: ALTIPLANO_TEST_DATA is not set");
            return;
        };
        let set = load_any(&format!("{root}/fashion-mnist")).unwrap();
        assert!(set.name == "fashion-mnist" && set.train.len() >= 10_000 && set.test.len() >= 2_000);
        let s = set.train.channel_statistics();
        assert!((s.mean[0] - 0.2860).abs() < 0.01 && (s.std[0] - 0.3530).abs() < 0.01, "{s:?}");
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0usize..40, value: u8, keep in 0usize..50, in_labels: bool) {
            let (mut images, mut labels) = (image_file(3, 2, 4), label_file(&[1, 0, 9]));
            let damaged = if in_labels { &mut labels } else { &mut images };
            let whole = damaged.len();
            if let Some(byte) = damaged.get_mut(at) {
                *byte = value;
            }
            damaged.truncate(keep);
            match read(&images, &labels) {
                Ok(_) => prop_assert!(keep >= whole),
                Err(e) => prop_assert!(e.to_string().starts_with("img") || e.to_string().starts_with("lab")),
            }
        }
    }
}
