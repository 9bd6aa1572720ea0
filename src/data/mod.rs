//! Data sets: labelled 8-bit images, read from the layouts in which they are published.
//!
//! [`load`] takes the name of the bundled set (`digits`) or a path, and detects the layout: CIFAR-10 and
//! CIFAR-100 binary, MNIST-family IDX, NumPy arrays, or one folder of PNG and JPEG images per class
//! ([`known`] lists them). Files count as hostile until parsed: sizes are checked before memory is taken,
//! decompression is capped, and what does not fit becomes an [`Error::File`] with the
//! path and the byte.
//!
//! The test images sit behind [`TestImages`], so that searching and training cannot look at them by accident.

mod cifar;
mod detect;
mod digits;
mod folder;
mod idx;
mod images;
pub mod npy;
mod npy_stream;
mod picture;
mod source;
mod split;
mod verify;

pub use detect::{SpooledTest, load, spool_test};
pub use images::{ChannelStatistics, Images, TestImages};
pub use npy_stream::{NpyImages, NpyWriter, read_npy_labels};
pub use picture::{PictureTree, Unusable, is_other_picture, is_picture, open_picture, pictures_below};
pub use split::{SplitSize, permutation, split};
pub use verify::{Known, PartSummary, Summary, describe, known, summarize};

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
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
    /// What a user should know about how it was read, such as a test part that had to be held out.
    pub note: Option<String>,
}

impl Dataset {
    /// Puts the parts together. Errors when they differ in shape; `path` is the file to name then.
    fn assemble(
        name: String,
        format: Format,
        train: Images,
        test: Images,
        source: Origin,
        path: &Path,
    ) -> Result<Dataset> {
        let shape = |i: &Images| (i.height, i.width, i.channels, i.classes);
        if shape(&train) != shape(&test) {
            let (a, b) = (shape(&train), shape(&test));
            return Err(Error::file(
                path,
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
                    path,
                    None,
                    format!("the {part} part holds no images; at least one is needed"),
                ));
            }
        }
        Ok(Dataset { name, format, train, test: TestImages::new(test), source, note: None })
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
        })
    }
}

/// Errors with the byte of the first label that is not below `classes`.
fn check_labels(path: &Path, labels: &[u16], classes: usize, offset_of: impl Fn(usize) -> u64) -> Result<()> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(i) => Err(Error::file(
            path,
            Some(offset_of(i)),
            format!(
                "label {} of image {i} is outside the {classes} classes (0 to {})",
                labels[i],
                classes.saturating_sub(1)
            ),
        )),
    }
}
