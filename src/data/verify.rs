//! Sums up data sets, and lists the known ones.

use super::{Dataset, Format, Images, Reading, Unusable, load_with, published};
use crate::error::Result;
use flate2::Crc;
use serde::Serialize;

/// What a data set holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its short name.
    pub name: String,
    /// The layout that it was read from.
    pub format: Format,
    /// `bundled`, or the path.
    pub source: String,
    /// The training part.
    pub train: PartSummary,
    /// The test part; counts only.
    pub test: PartSummary,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// Channels of each image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// One name per class.
    pub class_names: Vec<String>,
    /// CRC-32 over train pixels, train labels, test pixels, test labels (pixels NHWC, labels 16-bit
    /// little-endian), as 8 hexadecimal digits. Equal for the same images in whatever layout.
    pub crc32: String,
    /// Mean of each channel over the training part, in units of pixel / 255.
    pub mean: Vec<f64>,
    /// Population standard deviation of each channel over the training part, in units of pixel / 255.
    pub std: Vec<f64>,
    /// How many files look like a part of it and were not read.
    pub left_out: usize,
    /// Those of them that are pictures and cannot be read, each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unusable>,
    /// What a user should know about how it was read, and what looks wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Sizes of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// Number of images.
    pub images: usize,
    /// Number of images of each class.
    pub per_class: Vec<usize>,
}

impl PartSummary {
    fn of(images: &Images) -> Self {
        PartSummary { images: images.len(), per_class: images.per_class() }
    }
}

/// Loads a data set, which checks every byte of it, and sums it up.
///
/// # Errors
/// Those of [`load`](super::load).
pub fn describe(spec: &str) -> Result<Summary> {
    describe_with(spec, &Reading::default())
}

/// [`describe`], with pictures read as `reading` says.
///
/// # Errors
/// Those of [`load_with`].
pub fn describe_with(spec: &str, reading: &Reading) -> Result<Summary> {
    summarize(&load_with(spec, reading)?)
}

/// Sums up a loaded data set. Of the test part only counts and the checksum are taken.
///
/// # Errors
/// If a picture cannot be decoded any more.
pub fn summarize(set: &Dataset) -> Result<Summary> {
    let (train, test) = (&set.train, set.test.for_checking_files());
    let mut crc = Crc::new();
    for part in [train, test] {
        part.walk(&mut |pixels| crc.update(pixels))?;
        for labels in part.labels.chunks(4096) {
            let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            crc.update(&bytes);
        }
    }
    let statistics = train.channel_statistics()?;
    Ok(Summary {
        name: set.name.clone(),
        format: set.format,
        source: set.source.to_string(),
        train: PartSummary::of(train),
        test: PartSummary::of(test),
        height: train.height,
        width: train.width,
        channels: train.channels,
        classes: train.classes,
        class_names: train.class_names.clone(),
        crc32: format!("{:08x}", crc.sum()),
        mean: statistics.mean,
        std: statistics.std,
        left_out: set.left_out,
        unreadable: set.unreadable.clone(),
        notes: set.notes.clone(),
    })
}

/// A data set or layout that can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The layout's name.
    pub format: Format,
    /// Which files are expected.
    pub layout: &'static str,
    /// Where to get it.
    pub get: &'static str,
    /// The name by which `data download` fetches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<&'static str>,
}

/// The bundled set and all layouts, with where to get the data.
pub fn known() -> Vec<Known> {
    let download = |name| published().iter().find(|set| set.layout == Some(name)).map(|set| set.name);
    let entry = |name, format, layout, get| Known { name, format, layout, get, download: download(name) };
    vec![
        entry(
            "digits",
            Format::Bundled,
            "bundled; load it by the name `digits`",
            "part of this program (UCI Optical Recognition of Handwritten Digits, CC BY 4.0)",
        ),
        entry(
            "cifar-10",
            Format::Cifar10,
            "data_batch_<n>.bin (any number), test_batch.bin, batches.meta.txt, in a folder, in \
             cifar-10-batches-bin/ below it, or in a .tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        ),
        entry(
            "cifar-100",
            Format::Cifar100,
            "train.bin, test.bin, fine_label_names.txt, in a folder, in cifar-100-binary/ below it, or in a .tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        ),
        entry(
            "mnist",
            Format::Idx,
            "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or with \
             a dot, as in train-images.idx3-ubyte), plain or .gz, in a folder, in MNIST/raw/ below it, or in a .tar.gz",
            "https://ossci-datasets.s3.amazonaws.com/mnist/ (mirror of http://yann.lecun.com/exdb/mnist/)",
        ),
        entry(
            "fashion-mnist",
            Format::Idx,
            "as mnist; the class names are used when the path contains `fashion`",
            "https://github.com/zalandoresearch/fashion-mnist",
        ),
        entry(
            "emnist",
            Format::Idx,
            "emnist-<split>-train-images-idx3-ubyte, emnist-<split>-train-labels-idx1-ubyte, and the same with test, \
             of one split, as mnist; the images are turned upright",
            "https://www.nist.gov/itl/products-and-services/emnist-dataset",
        ),
        entry(
            "npy",
            Format::Npy,
            "train_images.npy, train_labels.npy, test_images.npy, test_labels.npy (or x_train, y_train, x_test, \
             y_test): uint8 (N, H, W[, C]) and uint8/int32/int64 (N,), and optionally class_names.txt; in a folder, or in one .npz \
             file, as Keras has them",
            "your own arrays, saved with numpy.save or numpy.savez",
        ),
        entry(
            "image folder",
            Format::ImageFolder,
            "train/<class>/*.png (or .jpg, .jpeg, .webp, .bmp, .tif, .tiff) and test/<class>/ or val/<class>/, all of one \
             size or brought to one by --crop; without test/ and val/ a fixed 20% is held out",
            "your own images",
        ),
        entry(
            "folder of classes",
            Format::ImageFolder,
            "<class>/*.png and so on; a share of each class is held out, chosen by a hash of the names (--test-share)",
            "your own images",
        ),
        entry(
            "table of labels",
            Format::LabelTable,
            "a .csv file, or a folder with labels.csv: columns path (relative to the table), class, and optionally split \
             (train, val, test)",
            "your own images",
        ),
        entry(
            "tiny-imagenet",
            Format::ImageFolder,
            "train/<class>/images/*, val/images/* and val/val_annotations.txt; test/ has no labels, so val/ is the \
             test part",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip, unpacked",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_summed_up() {
        let summary = describe("digits").unwrap();
        assert_eq!((summary.train.images, summary.test.images, summary.classes), (1442, 355, 10));
        assert_eq!(summary.test.per_class.iter().sum::<usize>(), 355);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["format"], "bundled");
        assert_eq!(json["crc32"].as_str().unwrap().len(), 8);
        assert_eq!(json["left_out"], 0);
        assert_eq!(json["notes"].as_array().unwrap().len(), 1);
        assert_eq!(summary, describe("digits").unwrap());
    }

    #[test]
    fn every_format_is_listed_under_its_serialized_name() {
        for format in [
            Format::Bundled,
            Format::Cifar10,
            Format::Cifar100,
            Format::Idx,
            Format::Npy,
            Format::ImageFolder,
            Format::LabelTable,
        ] {
            assert!(known().iter().any(|k| k.format == format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.to_string());
        }
    }
}
