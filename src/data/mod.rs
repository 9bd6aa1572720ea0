//! Data sets: labelled 8-bit images, read from the layouts in which they are published.
//!
//! [`load`] takes the name of the bundled set (`digits`) or a path, and detects the layout: CIFAR-10 and
//! CIFAR-100 binary, MNIST-family IDX, NumPy arrays, one folder of pictures per class,
//! or a table of pictures and classes ([`known`] lists them). Files count as hostile until parsed: sizes are checked before memory is taken,
//! decompression is capped, and what does not fit becomes an [`Error::File`] with the
//! path and the byte.
//!
//! The test images sit behind [`TestImages`], so that searching and training cannot look at them by accident.

mod annotations;
mod archive;
mod cifar;
mod decode;
mod detect;
mod digits;
mod folder;
mod histogram;
mod identity;
mod idx;
mod images;
mod label_table;
mod left_out;
mod listed;
pub mod npy;
mod npy_stream;
mod packed_arrays;
mod packed_pictures;
mod picture;
mod pictures;
mod pixels;
mod published;
mod random_crop;
mod reading;
pub mod resize;
mod source;
mod split;
mod temporary;
mod verify;
mod zip_archive;

pub use decode::picture_for;
pub use detect::{SpooledTest, load, load_with, spool_test};
pub use histogram::ChannelStatistics;
pub use identity::{Hashed, Identity, absolute, checksum};
pub use images::{Images, TestImages};
pub use npy_stream::{NpyImages, NpyWriter, read_npy_labels};
pub use packed_arrays::unpack_arrays;
pub use picture::{PictureTree, Unusable, is_other_picture, is_picture, open_picture, pictures_below};
pub use published::{Published, PublishedFile, published};
pub use reading::{Assumed, Handling, Reading};
pub use split::{SplitSize, permutation, split};
pub use temporary::TemporaryFolder;
pub use verify::{Known, PartSummary, Summary, describe, describe_with, known, summarize};

use crate::error::{Error, Result};
use left_out::LeftOut;
use random_crop::RandomCrop;
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A train part and a test part of the same image shape and classes.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// A short name: `digits`, `cifar-10`, `fashion-mnist`, or that of the folder.
    pub name: String,
    /// The layout that it was read from.
    pub format: Format,
    /// What searching, training and validation may use.
    pub train: Images,
    /// What only the final evaluation may open.
    pub test: TestImages,
    /// Where it came from.
    pub source: Origin,
    /// The files that were read, sorted: an archive itself, none for the bundled set.
    pub files: Vec<PathBuf>,
    /// How its pictures were read; nothing is said for arrays.
    pub reading: Reading,
    /// How many files look like a part of it and were not read; a note says which.
    pub left_out: usize,
    /// Those of them that are pictures and cannot be read, each with its reason.
    pub unreadable: Vec<Unusable>,
    /// What a user should know: how it was read, such as a test part that had to be held out, and what looks wrong.
    pub notes: Vec<String>,
}

/// What the reader of a layout found.
struct Parts {
    name: String,
    format: Format,
    train: Images,
    test: Images,
    source: Origin,
    files: Vec<PathBuf>,
    left_out: LeftOut,
    notes: Vec<String>,
    /// The file to name when the test part does not fit.
    test_path: PathBuf,
}

impl Dataset {
    /// Puts the parts together, and notes what looks wrong. Errors when they differ in shape.
    fn assemble(parts: Parts) -> Result<Dataset> {
        let Parts { name, format, train, test, source, mut files, left_out, mut notes, test_path } = parts;
        let shape = |i: &Images| (i.height, i.width, i.channels, i.classes);
        if shape(&train) != shape(&test) {
            let (a, b) = (shape(&train), shape(&test));
            return Err(Error::file(
                test_path,
                None,
                format!(
                    "test images are {}x{}x{} of {} classes, but train images are {}x{}x{} of {} classes",
                    b.0, b.1, b.2, b.3, a.0, a.1, a.2, a.3
                ),
            ));
        }
        for (part, images) in [("train", &train), ("test", &test)] {
            if images.is_empty() {
                return Err(Error::file(
                    test_path,
                    None,
                    format!(
                        "the {part} part holds no images; at least one is needed: give a part of that name, or more images, of which a \
                         part is held out"
                    ),
                ));
            }
        }
        if !left_out.is_empty() {
            notes.push(left_out.to_string());
        }
        notes.extend(doubled_names(&train.class_names));
        notes.extend(empty_classes(&train));
        notes.extend(dull_pixels(&train.some_values()));
        files.sort();
        let mut unreadable = left_out.unreadable().to_vec();
        unreadable.sort();
        let (left_out, test) = (left_out.len(), TestImages::new(test));
        let reading = Reading::default();
        Ok(Dataset { name, format, train, test, source, files, reading, left_out, unreadable, notes })
    }
}

/// Names that several classes have.
fn doubled_names(names: &[String]) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    let double: std::collections::BTreeSet<&str> =
        names.iter().filter(|name| !seen.insert(*name)).map(String::as_str).collect();
    let list: Vec<&str> = double.into_iter().take(3).collect();
    (!list.is_empty()).then(|| format!("several classes have the same name (`{}`)", list.join("`, `")))
}

/// Names classes that no training image has.
fn empty_classes(train: &Images) -> Option<String> {
    const NAMED: usize = 5;
    let counts = train.per_class();
    let empty: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] == 0).collect();
    let named = |class: &usize| format!("{class} (`{}`)", train.class_names[*class]);
    let numbered = || train.class_names.iter().enumerate().all(|(i, name)| *name == i.to_string());
    match empty.as_slice() {
        [] => None,
        [0] if numbered() => Some(format!("no training image in class {}; labels count from 0", named(&0))),
        [one] => Some(format!("no training image in class {}", named(one))),
        _ => {
            let first: Vec<String> = empty.iter().take(NAMED).map(named).collect();
            let more = if empty.len() > NAMED { ", ..." } else { "" };
            let (some, all) = (empty.len(), counts.len());
            Some(format!("no training image in {some} of {all} classes: {}{more}", first.join(", ")))
        }
    }
}

/// Says if pixels of these values look lost.
fn dull_pixels(values: &[u8]) -> Option<String> {
    match values {
        [one] => {
            Some(format!("all pixels of the training images have the value {one}: there is nothing to learn from"))
        }
        [0, 1] => Some(
            "no pixel of the training images is above 1 of 255; values in 0..1 become bytes by \
             (255 * x).round().astype('uint8')"
                .into(),
        ),
        _ => None,
    }
}

/// Where a data set came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is part of this crate.
    Bundled,
    /// A folder or an archive.
    Path(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Bundled => f.write_str("bundled"),
            Origin::Path(path) => path.display().fmt(f),
        }
    }
}

/// The layouts that [`load`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Format {
    /// The digits inside this crate.
    #[serde(rename = "bundled")]
    Bundled,
    /// CIFAR-10 binary version.
    #[serde(rename = "cifar-10-binary")]
    Cifar10,
    /// CIFAR-100 binary version (fine labels).
    #[serde(rename = "cifar-100-binary")]
    Cifar100,
    /// MNIST-family IDX files.
    #[serde(rename = "idx")]
    Idx,
    /// NumPy arrays.
    #[serde(rename = "npy")]
    Npy,
    /// One folder of images per class.
    #[serde(rename = "image-folder")]
    ImageFolder,
    /// A table of pictures and their classes.
    #[serde(rename = "label-table")]
    LabelTable,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Bundled => "bundled",
            Format::Cifar10 => "cifar-10-binary",
            Format::Cifar100 => "cifar-100-binary",
            Format::Idx => "idx",
            Format::Npy => "npy",
            Format::ImageFolder => "image-folder",
            Format::LabelTable => "label-table",
        })
    }
}

/// Errors with the byte of the first label that is none of `classes`.
fn check_labels(path: &Path, labels: &[u16], classes: Range<usize>, offset_of: impl Fn(usize) -> u64) -> Result<()> {
    match labels.iter().position(|&label| !classes.contains(&usize::from(label))) {
        None => Ok(()),
        Some(i) => Err(Error::file(
            path,
            Some(offset_of(i)),
            format!(
                "label {} of image {i} is outside the {} classes ({} to {})",
                labels[i],
                classes.len(),
                classes.start,
                classes.end.saturating_sub(1)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(labels: &[u16], names: &[&str], pixels: &[u8]) -> Images {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Images::new([1, 1, pixels.len() / labels.len()], names, pixels.to_vec(), labels.to_vec()).unwrap()
    }

    #[test]
    fn classes_without_training_images_are_named() {
        let note = |labels: &[u16], names: &[&str]| empty_classes(&images(labels, names, &vec![9; labels.len()]));
        assert_eq!(note(&[0, 1], &["0", "1"]), None);
        let from_one = "no training image in class 0 (`0`); labels count from 0";
        assert_eq!(note(&[1, 2], &["0", "1", "2"]).unwrap(), from_one);
        assert_eq!(note(&[1, 2], &["a", "b", "c"]).unwrap(), "no training image in class 0 (`a`)");
        assert_eq!(note(&[0, 2], &["0", "1", "2"]).unwrap(), "no training image in class 1 (`1`)");
        let many = note(&[1], &["a", "b", "c", "d", "e", "f", "g"]).unwrap();
        let want = "no training image in 6 of 7 classes: 0 (`a`), 2 (`c`), 3 (`d`), 4 (`e`), 5 (`f`), ...";
        assert_eq!(many, want);
    }

    #[test]
    fn pixels_without_contents_are_noted() {
        let note = |pixels: &[u8]| dull_pixels(&images(&[0, 0], &["a"], pixels).some_values());
        assert!(note(&[0; 4]).unwrap().contains("the value 0"));
        assert!(note(&[7; 4]).unwrap().contains("the value 7"));
        assert!(note(&[0, 1, 1, 0]).unwrap().contains("(255 * x)"));
        assert_eq!(note(&[0, 1, 2, 0]), None);
    }
}
