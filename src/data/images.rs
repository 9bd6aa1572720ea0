//! A set of labelled images of one size.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::histogram::{ChannelStatistics, Histograms};
use super::packed_pictures::Unpacked;
use super::pictures::Pictures;
use super::pixels::Pixels;
use super::resize::Window;
use crate::error::{Error, Result};

/// The most pixel bytes of one part of a data set in memory: 4 GiB.
pub(super) const MAX_PIXEL_BYTES: u64 = 4 << 30;
/// The most classes: labels are 16 bits wide.
pub(super) const MAX_CLASSES: usize = 1 << 16;

/// N labelled images of one size, in memory or as pictures in files, which are decoded when they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// 1 (grey) or 3 (RGB) for the readers of this crate.
    pub channels: usize,
    /// Number of classes; every label is below it.
    pub classes: usize,
    /// One name per class.
    pub class_names: Vec<String>,
    /// N labels.
    pub labels: Vec<u16>,
    pixels: Pixels,
}

impl Images {
    /// Checks that the parts belong together: `shape` is `[height, width, channels]`, and `pixels` holds one
    /// image of that shape per label, N x height x width x channels values in that order (NHWC).
    ///
    /// # Errors
    /// [`Error::Shape`] when the pixels do not fit the labels and the shape, [`Error::Invalid`] for a zero
    /// side, no or too many classes, or a label that is not below the number of class names.
    pub fn new(shape: [usize; 3], class_names: Vec<String>, pixels: Vec<u8>, labels: Vec<u16>) -> Result<Images> {
        let [height, width, channels] = shape;
        let expected =
            height.checked_mul(width).and_then(|x| x.checked_mul(channels)).and_then(|x| x.checked_mul(labels.len()));
        if expected != Some(pixels.len()) && !shape.contains(&0) {
            return Err(Error::shape(
                "images",
                format!("{} labels x {height} x {width} x {channels} bytes", labels.len()),
                format!("{} bytes", pixels.len()),
            ));
        }
        Self::of(shape, class_names, Pixels::Held(pixels), labels)
    }

    /// The same of pictures in files, one per label.
    pub(super) fn filed(
        shape: [usize; 3],
        class_names: Vec<String>,
        pictures: Pictures,
        labels: Vec<u16>,
    ) -> Result<Images> {
        if pictures.len() != labels.len() {
            return Err(Error::shape("images", format!("{} pictures", labels.len()), pictures.len()));
        }
        Self::of(shape, class_names, Pixels::filed(pictures), labels)
    }

    /// The same, which keep a folder as long as they need it.
    pub(super) fn keeping(self, unpacked: &Arc<Unpacked>) -> Images {
        Images { pixels: self.pixels.keeping(unpacked), ..self }
    }

    fn of(shape: [usize; 3], class_names: Vec<String>, pixels: Pixels, labels: Vec<u16>) -> Result<Images> {
        let [height, width, channels] = shape;
        let classes = class_names.len();
        if shape.contains(&0) {
            return Err(Error::invalid("images", format!("{height}x{width}x{channels} is empty; no side may be 0")));
        }
        if classes == 0 || classes > MAX_CLASSES {
            return Err(Error::invalid("classes", format!("{classes} classes; 1 to {MAX_CLASSES} are possible")));
        }
        if let Some(i) = labels.iter().position(|&label| usize::from(label) >= classes) {
            let why = format!("label {} of image {i} is outside the {classes} classes", labels[i]);
            return Err(Error::invalid("labels", why));
        }
        Ok(Images { height, width, channels, classes, class_names, labels, pixels })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image: height x width x channels.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// All pixels, N x height x width x channels, where they are in memory.
    pub fn held(&self) -> Option<&[u8]> {
        match &self.pixels {
            Pixels::Held(bytes) => Some(bytes),
            Pixels::Filed(_) => None,
        }
    }

    /// The same images with all pixels in memory.
    ///
    /// # Errors
    /// If a picture cannot be decoded any more.
    pub fn into_held(self) -> Result<Images> {
        if self.held().is_some() {
            return Ok(self);
        }
        let mut bytes = Vec::with_capacity(self.len() * self.image_len());
        self.walk(&mut |pixels| bytes.extend_from_slice(pixels))?;
        Ok(Images { pixels: Pixels::Held(bytes), ..self })
    }

    /// The pixels of one image, HWC; a picture in a file is decoded. As with a slice, `index` must be below [`len`](Self::len).
    ///
    /// # Errors
    /// If a picture cannot be decoded any more, or was changed.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.pixels.one(index, self.image_len())
    }

    /// The same if nothing must be decoded for it.
    pub fn at_hand(&self, index: usize) -> Option<&[u8]> {
        self.pixels.at_hand(index, self.image_len())
    }

    /// A part of the picture that an image is made of, at the size of all images; only of pictures in files.
    ///
    /// # Errors
    /// As [`Images::image`], or if there is no such picture or part.
    pub fn part(&self, index: usize, part: Window) -> Result<Vec<u8>> {
        let none = || Err(Error::invalid("images", "are no pictures in files, of which another part could be seen"));
        self.pixels.part(index, part).unwrap_or_else(none)
    }

    /// The part of a picture that training sees in place of the middle, where the set was read so: a function of the seed, the key and
    /// the picture's sides.
    pub fn random_part(&self, index: usize, seed: u64, key: u64) -> Option<Window> {
        self.pixels.random_part(index, seed, key)
    }

    /// Hands all pixels to `f`, some images at a time, in their order.
    ///
    /// # Errors
    /// As [`Images::image`].
    pub fn walk(&self, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.pixels.walk(self.image_len(), f)
    }

    /// The images at `indices`, in that order; an index may repeat. As with a slice, each must be
    /// below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Images {
        Images {
            pixels: self.pixels.select(indices, self.image_len()),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            class_names: self.class_names.clone(),
            ..*self
        }
    }

    /// Number of images of each class.
    pub fn per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// Mean and standard deviation of each channel over all images; zeros when there are none.
    ///
    /// # Errors
    /// As [`Images::image`].
    pub fn channel_statistics(&self) -> Result<ChannelStatistics> {
        Ok(self.histograms()?.statistics())
    }

    /// What values all pixels have.
    fn histograms(&self) -> Result<Histograms> {
        self.pixels.histograms(self.channels, self.image_len())
    }

    /// Some of the values of pixels, ascending: all if there are fewer than three.
    pub(super) fn some_values(&self) -> Vec<u8> {
        self.pixels.some_values()
    }
}

/// Images that searching and training must not see. Only their number and shape are open; the rest takes a
/// call whose name says what it is for. `Debug` shows no more than that either.
#[derive(Clone)]
pub struct TestImages(Images);

impl fmt::Debug for TestImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Images { height, width, channels, .. } = self.0;
        write!(f, "TestImages({} of {height}x{width}x{channels})", self.len())
    }
}

impl TestImages {
    /// Puts images away for the final evaluation.
    pub fn new(images: Images) -> Self {
        TestImages(images)
    }

    /// Opens the test images. Nothing that influences a choice (of architecture, hyperparameter or epoch) may
    /// call this.
    pub fn reveal_for_final_evaluation(&self) -> &Images {
        &self.0
    }

    /// The same, which keep a folder as long as they need it.
    pub(super) fn keeping(self, unpacked: &Arc<Unpacked>) -> Self {
        TestImages(self.0.keeping(unpacked))
    }

    /// The images, for checking and summing up files.
    pub(super) fn for_checking_files(&self) -> &Images {
        &self.0
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows of each image.
    pub fn height(&self) -> usize {
        self.0.height
    }

    /// Columns of each image.
    pub fn width(&self) -> usize {
        self.0.width
    }

    /// Channels of each image.
    pub fn channels(&self) -> usize {
        self.0.channels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.0.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn statistics_are_per_channel_and_population() {
        let images = Images::new([1, 2, 2], names(2), vec![0, 255, 255, 255], vec![1]).unwrap();
        let s = images.channel_statistics().unwrap();
        assert_eq!(s.mean, [0.5, 1.0]);
        assert_eq!(s.std, [0.5, 0.0]);
        let empty = images.select(&[]);
        assert!(empty.is_empty());
        assert_eq!(empty.channel_statistics().unwrap().mean, [0.0, 0.0]);
    }

    #[test]
    fn select_keeps_images_and_labels_together() {
        let images = Images::new([1, 1, 2], names(3), (0..6).collect(), vec![2, 0, 1]).unwrap();
        let picked = images.select(&[2, 0, 2]);
        assert_eq!(picked.held().unwrap(), [4, 5, 0, 1, 4, 5]);
        assert_eq!(picked.labels, [1, 2, 1]);
        assert_eq!(picked.per_class(), [0, 2, 1]);
    }

    #[test]
    fn test_images_do_not_show_their_contents() {
        let images = Images::new([1, 1, 2], names(3), vec![7; 4], vec![2, 0]).unwrap();
        assert_eq!(format!("{:?}", TestImages::new(images)), "TestImages(2 of 1x1x2)");
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        assert!(Images::new([1, 1, 2], names(3), vec![0; 5], vec![0, 0]).is_err());
        assert!(Images::new([1, 0, 2], names(3), vec![], vec![]).is_err());
        assert!(Images::new([1, 1, 1], names(0), vec![], vec![]).is_err());
        let error = Images::new([1, 1, 1], names(3), vec![0, 0], vec![0, 3]).unwrap_err();
        assert!(error.to_string().contains("label 3 of image 1"), "{error}");
        assert!(Images::new([usize::MAX, 2, 2], names(3), vec![0, 0], vec![0, 0]).is_err());
    }
}
