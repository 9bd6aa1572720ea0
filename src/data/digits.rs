//! The bundled set: 1,797 handwritten digits of 8x8 pixels.
//!
//! E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
//! CC BY 4.0, as shipped with scikit-learn. `datasets/README.md` documents the file and its conversion.

use super::left_out::LeftOut;
use super::source::Reader;
use super::{Dataset, Format, Images, Origin, Parts, check_labels};
use crate::error::{Error, Result};
use std::path::Path;

const FILE: &[u8] = include_bytes!("../../datasets/digits.bin");
const MAGIC: &[u8; 4] = b"ADIG";
/// Of each class, in file order, the 5th, 10th, 15th, ... image is a test image.
const TEST_EVERY: usize = 5;

/// The digits, 1,442 to train and 355 to test.
pub(super) fn load() -> Result<Dataset> {
    let path = Path::new("digits.bin");
    let all = parse(path, FILE)?;
    let mut seen = vec![0usize; all.classes];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, &label) in all.labels.iter().enumerate() {
        let count = &mut seen[usize::from(label)];
        *count += 1;
        if count.is_multiple_of(TEST_EVERY) { test.push(i) } else { train.push(i) }
    }
    let (train, test) = (all.select(&train), all.select(&test));
    Dataset::assemble(Parts {
        name: "digits".into(),
        format: Format::Bundled,
        train,
        test,
        source: Origin::Bundled,
        files: Vec::new(),
        left_out: LeftOut::default(),
        notes: vec!["test part: every 5th image of each class in file order".into()],
        test_path: path.into(),
    })
}

/// Reads magic, count, classes (u16 little-endian each), height, width, channels, version (u8 each), pixels
/// (NHWC) and labels (u8).
fn parse(path: &Path, bytes: &[u8]) -> Result<Images> {
    let mut reader = Reader::of_bytes(path, bytes);
    let header = reader.exact(12, "the header")?;
    let version = header[11];
    if header[..4] != *MAGIC || version != 1 {
        return Err(Error::file(path, Some(0), "expected the magic `ADIG` and version 1"));
    }
    let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (count, classes) = (word(4), word(6));
    let shape = [header[8], header[9], header[10]].map(usize::from);
    let pixel_bytes = shape.iter().map(|&side| side as u64).product::<u64>() * count as u64;
    let pixels = reader.exact(pixel_bytes, "the pixels")?;
    let labels_at = reader.offset();
    let labels: Vec<u16> = reader.exact(count as u64, "the labels")?.into_iter().map(u16::from).collect();
    reader.end()?;
    check_labels(path, &labels, 0..classes, |i| labels_at + i as u64)?;
    Images::new(shape, (0..classes).map(|c| c.to_string()).collect(), pixels, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_values() {
        let set = load().unwrap();
        assert_eq!((set.train.len(), set.test.len()), (1442, 355));
        assert_eq!((set.train.height, set.train.width, set.train.channels, set.train.classes), (8, 8, 1, 10));
        // The first image of the published set is a zero whose first row is 0 0 5 13 9 1 0 0 of 16.
        assert_eq!(set.train.labels[0], 0);
        assert_eq!(set.train.at_hand(0).unwrap()[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
        let all = parse(Path::new("d"), FILE).unwrap();
        assert_eq!(all.per_class(), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let s = all.channel_statistics().unwrap();
        assert!((s.mean[0] - 0.305_309).abs() < 1e-5 && (s.std[0] - 0.375_886).abs() < 1e-5, "{s:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..12, value: u8, keep in 0usize..200_000) {
            let mut bytes = FILE.to_vec();
            bytes[at] = value;
            bytes.truncate(keep);
            let truncated = keep < FILE.len();
            let result = parse(Path::new("some.bin"), &bytes);
            if truncated && value == FILE[at] {
                prop_assert!(result.as_ref().is_err_and(|e| e.to_string().contains("some.bin")));
            }
        }
    }
}
