//! The IDX files of MNIST and the sets that took over its layout (Fashion-MNIST, KMNIST, EMNIST).
//!
//! Images: magic 00 00 08 03, then count, rows and columns as 32-bit big-endian numbers, then one byte per
//! pixel. Labels: magic 00 00 08 01, count, one byte per label. Each file may be gzipped (`.gz`), and a dot may stand
//! before `idx`. There are 10 classes, unless a file `class_names.txt` beside them has another number of lines.
//!
//! EMNIST's files have the split in their names, from which the classes follow. Its images are published with rows and
//! columns swapped, and are turned upright.

use std::collections::BTreeSet;
use std::path::Path;

use super::images::MAX_PIXEL_BYTES;
use super::source::{Reader, Source};
use super::{Dataset, Format, Images, NpyWriter, Origin, Parts, check_labels};
use crate::error::{Error, Result};

const FASHION_NAMES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const DIGITS: &str = "0123456789";
const CAPITALS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The small letters that EMNIST's balanced and bymerge splits tell from the capitals.
const DISTINCT: &str = "abdefghnqrt";
const MAX_SIDE: u32 = 4096;

/// What a file is by its name: `<prefix>train-images-idx3-ubyte` and its like.
struct Name<'a> {
    /// Empty, or a set's name with a dash behind it.
    prefix: &'a str,
    test: bool,
    images: bool,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let plain = name.strip_suffix(".gz").unwrap_or(name);
        let plain = plain.strip_suffix("-ubyte")?;
        let images = plain.ends_with("idx3");
        let rest = plain.strip_suffix(if images { "idx3" } else { "idx1" })?.strip_suffix(['-', '.'])?;
        let part = rest.strip_suffix(if images { "-images" } else { "-labels" })?;
        let ends = |(end, test): (&str, bool)| part.strip_suffix(end).map(|prefix| Name { prefix, test, images });
        let found = [("train", false), ("t10k", true), ("test", true)].into_iter().find_map(ends)?;
        // The name becomes one of a file when an archive is unpacked.
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let whole = found.prefix.is_empty() || found.prefix.ends_with('-');
        (whole && found.prefix.bytes().all(harmless)).then_some(found)
    }
}

/// Whether a file belongs to the layout.
pub(super) fn wanted(name: &str) -> bool {
    Name::parse(name).is_some() || name == "class_names.txt"
}

/// The file of a part: plain if there is one, else gzipped.
fn find<'a>(source: &'a Source, prefix: &str, test: bool, images: bool) -> Option<&'a str> {
    // Sorted by name, so that `.gz` comes behind.
    source.names().find(|name| {
        Name::parse(name).is_some_and(|found| (found.prefix, found.test, found.images) == (prefix, test, images))
    })
}

/// The sets whose training images are there, by what their names begin with.
fn prefixes(source: &Source) -> BTreeSet<&str> {
    let training = |name| Name::parse(name).filter(|found| found.images && !found.test);
    source.names().filter_map(training).map(|found| found.prefix).collect()
}

/// Whether the training images are there.
pub(super) fn detect(source: &Source) -> bool {
    !prefixes(source).is_empty()
}

/// What is known of a set by its name.
struct Kind {
    prefix: String,
    name: String,
    class_names: Vec<String>,
    /// The label of the first class in the files.
    first: u16,
    /// Whether the files hold columns as rows.
    swapped: bool,
}

impl Kind {
    fn of(source: &Source) -> Result<Self> {
        let mut found = prefixes(source).into_iter();
        let (prefix, more): (&str, Vec<&str>) = (found.next().unwrap_or_default(), found.collect());
        if !more.is_empty() {
            let mut all = vec![prefix];
            all.extend(more);
            let named: Vec<String> = all.iter().map(|prefix| format!("{prefix}train-images-idx3-ubyte")).collect();
            let why = format!(
                "holds {} sets: {}; move the files of one into a folder of their own",
                all.len(),
                named.join(", ")
            );
            return Err(Error::file(source.root(), None, why));
        }
        let split = prefix.strip_prefix("emnist-").map(|split| split.trim_end_matches('-'));
        let fashion = prefix.is_empty() && is_fashion(source);
        let letters = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        let mut class_names = match split {
            Some("letters") => letters(CAPITALS),
            Some("balanced" | "bymerge") => letters(&[DIGITS, CAPITALS, DISTINCT].concat()),
            Some("byclass") => letters(&[DIGITS, CAPITALS, &CAPITALS.to_ascii_lowercase()].concat()),
            _ if fashion => FASHION_NAMES.map(String::from).to_vec(),
            _ => letters(DIGITS),
        };
        if source.has("class_names.txt") {
            class_names = source.lines("class_names.txt")?;
        }
        let name = match prefix.trim_end_matches('-') {
            "" if fashion => "fashion-mnist",
            "" => "mnist",
            name => name,
        };
        Ok(Kind {
            prefix: prefix.into(),
            name: name.into(),
            class_names,
            first: u16::from(split == Some("letters")),
            swapped: split.is_some(),
        })
    }

    /// The image and the label file of a part, open.
    fn open<'a>(&self, source: &'a Source, test: bool) -> Result<[Reader<'a>; 2]> {
        let open = |images: bool| match find(source, &self.prefix, test, images) {
            Some(name) => source.open(name),
            None => {
                let part = match (test, self.prefix.is_empty()) {
                    (false, _) => "train",
                    (true, true) => "t10k",
                    (true, false) => "test",
                };
                let what = if images { "images-idx3" } else { "labels-idx1" };
                let missing = source.path(&format!("{}{part}-{what}-ubyte", self.prefix));
                Err(Error::file(missing, None, "missing, plain and as .gz"))
            }
        };
        Ok([open(true)?, open(false)?])
    }

    /// Height and width of images of so many rows and columns in the file.
    fn sides(&self, rows: usize, columns: usize) -> [usize; 2] {
        if self.swapped { [columns, rows] } else { [rows, columns] }
    }

    /// Turns images upright.
    fn upright(&self, pixels: Vec<u8>, rows: usize, columns: usize) -> Vec<u8> {
        if !self.swapped {
            return pixels;
        }
        let turned =
            |image: &[u8]| -> Vec<u8> { (0..rows * columns).map(|i| image[i % rows * columns + i / rows]).collect() };
        pixels.chunks_exact(rows * columns).flat_map(turned).collect()
    }

    /// The labels after the header, each of them a class.
    fn labels(&self, labels: &mut Reader<'_>, count: usize) -> Result<Vec<u16>> {
        let labels_at = labels.offset();
        let values: Vec<u16> = labels.exact(count as u64, "the labels")?.into_iter().map(u16::from).collect();
        labels.end()?;
        let first = usize::from(self.first);
        check_labels(labels.path(), &values, first..first + self.class_names.len(), |i| labels_at + i as u64)?;
        Ok(values.into_iter().map(|label| label - self.first).collect())
    }

    /// Reads one image file and its label file.
    fn part(&self, [mut images, mut labels]: [Reader<'_>; 2]) -> Result<Images> {
        let [count, rows, columns] = sizes(&mut images, &mut labels)?;
        let pixels = images.exact((count * rows * columns) as u64, "the pixels")?;
        images.end()?;
        let values = self.labels(&mut labels, count)?;
        let [height, width] = self.sides(rows, columns);
        let pixels = self.upright(pixels, rows, columns);
        Images::new([height, width, 1], self.class_names.clone(), pixels, values)
    }
}

fn is_fashion(source: &Source) -> bool {
    let mut parts = source.root().components();
    parts.any(|part| part.as_os_str().to_string_lossy().to_ascii_lowercase().contains("fashion"))
}

/// Copies the test images to the `.npy` file `at`, one by one, and returns their labels.
pub(super) fn spool_test(source: &Source, at: &Path) -> Result<Vec<u16>> {
    let kind = Kind::of(source)?;
    let [mut images, mut labels] = kind.open(source, true)?;
    let [count, rows, columns] = sizes(&mut images, &mut labels)?;
    let labels = kind.labels(&mut labels, count)?;
    if count == 0 {
        return Err(Error::file(images.path(), Some(4), "no images"));
    }
    let [height, width] = kind.sides(rows, columns);
    let mut writer = NpyWriter::new(at, &[count, height, width, 1])?;
    for _ in 0..count {
        let pixels = images.exact((rows * columns) as u64, "the pixels")?;
        writer.write(&kind.upright(pixels, rows, columns))?;
    }
    images.end()?;
    writer.finish()?;
    Ok(labels)
}

/// Reads the set.
pub(super) fn load(source: &Source) -> Result<Dataset> {
    let kind = Kind::of(source)?;
    let train = kind.part(kind.open(source, false)?)?;
    let test = kind.part(kind.open(source, true)?)?;
    let upright = "the images were turned upright: the files hold them with rows and columns swapped";
    let test_path =
        find(source, &kind.prefix, true, true).map_or_else(|| source.root().to_path_buf(), |name| source.path(name));
    Dataset::assemble(Parts {
        name: kind.name,
        format: Format::Idx,
        train,
        test,
        source: Origin::Path(source.root().to_path_buf()),
        files: source.files_read(),
        left_out: source.left_out().clone(),
        notes: kind.swapped.then(|| upright.into()).into_iter().collect(),
        test_path,
    })
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
        let names =
            ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
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
            assert_eq!(set.train.at_hand(1).unwrap(), [8, 9, 10, 11, 12, 13, 14, 15]);
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
        let class_names = (0..10).map(|i| i.to_string()).collect();
        let kind = Kind { prefix: String::new(), name: "mnist".into(), class_names, first: 0, swapped: false };
        kind.part([Reader::of_bytes(Path::new("img"), images), Reader::of_bytes(Path::new("lab"), labels)])
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
    fn names_of_mirrors_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("train-images.idx3-ubyte", image_file(3, 2, 4)),
            ("train-labels.idx1-ubyte", label_file(&[1, 0, 9])),
            ("t10k-images.idx3-ubyte.gz", gz(&image_file(1, 2, 4))),
            ("t10k-labels.idx1-ubyte", label_file(&[5])),
        ] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(
            (set.name.as_str(), set.train.labels.as_slice(), set.test.len()),
            ("mnist", [1, 0, 9].as_slice(), 1)
        );
        assert_eq!((set.files.len(), set.left_out), (4, 0));
        for name in
            ["train-images-idx1-ubyte", "a/b-train-images-idx3-ubyte", "atrain-images-idx3-ubyte", "train-idx3-ubyte"]
        {
            assert!(!wanted(name), "{name}");
        }
    }

    #[test]
    fn emnist_is_upright_and_knows_its_classes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |split: &str| dir.path().join(split);
        let write = |split: &str, to: &Path, labels: &[u8]| {
            std::fs::create_dir_all(to).unwrap();
            for part in ["train", "test"] {
                let at = |what: &str| to.join(format!("emnist-{split}-{part}-{what}-ubyte"));
                std::fs::write(at("images-idx3"), image_file(labels.len() as u32, 2, 3)).unwrap();
                std::fs::write(at("labels-idx1"), label_file(labels)).unwrap();
            }
        };
        for (split, labels, classes, last) in [
            ("letters", [1, 26], 26, "Z"),
            ("digits", [0, 9], 10, "9"),
            ("mnist", [0, 9], 10, "9"),
            ("balanced", [0, 46], 47, "t"),
            ("bymerge", [36, 46], 47, "t"),
            ("byclass", [0, 61], 62, "z"),
        ] {
            write(split, &folder(split), &labels);
            let set = load_any(folder(split).to_str().unwrap()).unwrap();
            assert_eq!((set.name.clone(), set.train.classes), (format!("emnist-{split}"), classes));
            assert_eq!(set.train.class_names.last().unwrap(), last);
            let shift = u16::from(split == "letters");
            assert_eq!(set.train.labels, labels.map(|label| u16::from(label) - shift));
            // Two rows of three in the file: 0 1 2 and 3 4 5.
            assert_eq!((set.train.height, set.train.width), (3, 2));
            assert_eq!(set.train.at_hand(0).unwrap(), [0, 3, 1, 4, 2, 5]);
            assert!(set.notes[0].contains("turned upright"), "{:?}", set.notes);
            let spooled =
                spool_test(&Source::folder(&folder(split), wanted).unwrap(), &dir.path().join("t.npy")).unwrap();
            assert_eq!(spooled, set.test.reveal_for_final_evaluation().labels);
            let images = crate::data::NpyImages::open(&dir.path().join("t.npy")).unwrap();
            assert_eq!(images.read(0, 2).unwrap(), set.test.reveal_for_final_evaluation().held().unwrap());
        }
        assert_eq!(DISTINCT.len(), 11);
        // Letters count from 1, and splits do not mix.
        write("letters", &folder("letters"), &[0, 26]);
        let why = load_any(folder("letters").to_str().unwrap()).unwrap_err().to_string();
        assert!(why.contains("label 0 of image 0 is outside the 26 classes (1 to 26)"), "{why}");
        write("digits", &folder("letters"), &[0, 9]);
        let why = load_any(folder("letters").to_str().unwrap()).unwrap_err().to_string();
        assert!(why.contains("2 sets: emnist-digits-train-images") && why.contains("emnist-letters-train"), "{why}");
        // Other sets of the layout have ten classes, or those that are listed.
        let other = dir.path().join("other");
        write("odd", &other, &[0, 10]);
        assert!(load_any(other.to_str().unwrap()).is_err());
        std::fs::write(other.join("class_names.txt"), (0..11).map(|i| format!("c{i}\n")).collect::<String>()).unwrap();
        assert_eq!(load_any(other.to_str().unwrap()).unwrap().train.class_names[10], "c10");
    }

    #[test]
    fn the_real_set_when_at_hand() {
        let Ok(root) = std::env::var("ALTIPLANO_TEST_DATA") else {
            eprintln!("skipped: ALTIPLANO_TEST_DATA is not set");
            return;
        };
        let set = load_any(&format!("{root}/fashion-mnist")).unwrap();
        assert!(set.name == "fashion-mnist" && set.train.len() >= 10_000 && set.test.len() >= 2_000);
        let s = set.train.channel_statistics().unwrap();
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
