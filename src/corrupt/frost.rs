//! Frost.

use super::draws::Draws;
use super::frost_texture;
use super::kind::{Constants, Severity};
use super::pixels::CHANNELS;
use crate::error::{Error, Result};
use image::RgbImage;
use std::borrow::Cow;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// What is laid over an image by the frost corruption.
#[derive(Debug, Clone)]
pub struct Frost {
    layers: Cow<'static, [RgbImage]>,
    source: FrostSource,
}

/// Where the frost comes from. Results of different sources are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrostSource {
    /// Photos of the user, such as the authors' own, with a checksum (XXH3) of their sizes and pixels: results of
    /// different photos are not comparable either.
    Photos(u64),
    /// Textures that are computed here, with the colours and the spectrum of the authors' photos.
    Procedural,
}

impl fmt::Display for FrostSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrostSource::Photos(checksum) => f.pad(&format!("photos {checksum:016x}")),
            FrostSource::Procedural => f.pad("procedural"),
        }
    }
}

impl Frost {
    /// Computed textures.
    pub fn procedural(constants: Constants) -> Frost {
        Frost { layers: Cow::Borrowed(frost_texture::procedural(constants)), source: FrostSource::Procedural }
    }

    /// The user's photos at full size, each chosen with equal chance. Under CIFAR's constants they are taken at a fifth
    /// of their size, every fifth pixel from the third on, as in CIFAR-10-C.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no photo, or if one has no pixels.
    pub fn photos(photos: Vec<RgbImage>, constants: Constants) -> Result<Frost> {
        if photos.is_empty() {
            return Err(Error::invalid("frost photos", "there are none; at least one is needed"));
        }
        if let Some(i) = photos.iter().position(|photo| photo.is_empty()) {
            return Err(Error::invalid("frost photos", format!("photo {i} has no pixels")));
        }
        let mut sum = Xxh3::new();
        for photo in &photos {
            sum.update(&photo.width().to_le_bytes());
            sum.update(&photo.height().to_le_bytes());
            sum.update(photo);
        }
        let layers = constants.of(photos.iter().map(fifth).collect(), photos);
        Ok(Frost { layers: Cow::Owned(layers), source: FrostSource::Photos(sum.digest()) })
    }

    /// Where the frost comes from.
    pub fn source(&self) -> FrostSource {
        self.source
    }

    /// How many photos or textures there are.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is none; never so.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

/// Every fifth pixel, from the third on: OpenCV's bilinear resizing by 0.2 comes to that.
fn fifth(photo: &RgbImage) -> RgbImage {
    let side = |full: u32| ((f64::from(full) * 0.2).round_ties_even() as u32).max(1);
    let place = |i: u32, full: u32| (5 * i + 2).min(full - 1);
    RgbImage::from_fn(side(photo.width()), side(photo.height()), |x, y| {
        *photo.get_pixel(place(x, photo.width()), place(y, photo.height()))
    })
}

/// a x + b F on bytes, with a random part F of a random photo.
///
/// Draws: one integer each for the photo, the first row and the first column. The last possible row and column are
/// never drawn, as in the published code. A photo that does not cover the image is enlarged until it exceeds it by a
/// tenth (as the package `imagecorruptions` does; here bilinearly).
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    frost: &Frost,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let cifar = [(1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)];
    let image_net = [(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)];
    let (a, b): (f64, f64) = severity.of(&constants.of(cifar, image_net));
    let mut choice = [0];
    draws.integer(0, frost.layers.len() as i32, &mut choice)?;
    let layer = &frost.layers[choice[0] as usize];
    let (width, height) = (image.width(), image.height());

    let needed = f64::max(f64::from(width) / f64::from(layer.width()), f64::from(height) / f64::from(layer.height()));
    let scale = if needed > 1.0 { 1.1 * needed } else { 1.0 };
    let room = |side: u32, full: u32| ((f64::from(full) * scale) as i32).saturating_sub_unsigned(side).max(1);
    let (mut row, mut column) = ([0], [0]);
    draws.integer(0, room(height, layer.height()), &mut row)?;
    draws.integer(0, room(width, layer.width()), &mut column)?;
    let (row, column) = (row[0] as usize, column[0] as usize);

    let kept: [f64; 256] = std::array::from_fn(|v| a * v as f64);
    let added: [f64; 256] = std::array::from_fn(|v| b * v as f64);
    let mix = |x: u8, frost: f64| (kept[usize::from(x)] + frost).clamp(0.0, 255.0) as u8;
    let mut out = image.clone();
    let stride = width as usize * CHANNELS;
    for (y, pixels) in out.chunks_exact_mut(stride).enumerate() {
        if scale == 1.0 {
            let start = ((row + y) * layer.width() as usize + column) * CHANNELS;
            for (x, &frost) in pixels.iter_mut().zip(&layer.as_raw()[start..start + stride]) {
                *x = mix(*x, added[usize::from(frost)]);
            }
        } else {
            for (x, pixel) in pixels.chunks_exact_mut(CHANNELS).enumerate() {
                let place = |i: usize| (i as f64 + 0.5) / scale - 0.5;
                let frost = bilinear(layer, place(column + x), place(row + y));
                for (x, frost) in pixel.iter_mut().zip(frost) {
                    *x = mix(*x, b * frost);
                }
            }
        }
    }
    Ok(out)
}

/// The colour at a place between pixels; the edge goes on beyond it.
fn bilinear(image: &RgbImage, x: f64, y: f64) -> [f64; CHANNELS] {
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let at = |dx: f64, dy: f64| {
        let column = (left + dx).clamp(0.0, f64::from(image.width() - 1));
        let row = (top + dy).clamp(0.0, f64::from(image.height() - 1));
        image.get_pixel(column as u32, row as u32).0.map(f64::from)
    };
    let (a, b, c, d) = (at(0.0, 0.0), at(1.0, 0.0), at(0.0, 1.0), at(1.0, 1.0));
    std::array::from_fn(|i| (1.0 - fy) * ((1.0 - fx) * a[i] + fx * b[i]) + fy * ((1.0 - fx) * c[i] + fx * d[i]))
}

#[cfg(test)]
mod tests {
    use super::super::draws::Recorded;
    use super::*;

    fn photo(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3 % 256) as u8, (y * 7 % 256) as u8, (x + y) as u8]))
    }

    /// The formula of the paper's code, value by value, on a made-up photo.
    #[test]
    fn follows_the_formula() {
        let image = photo(9, 6);
        let photos = vec![photo(40, 30), photo(25, 50)];
        let frost = Frost::photos(photos.clone(), Constants::ImageNet).unwrap();
        assert!(matches!(frost.source(), FrostSource::Photos(_)) && frost.len() == 2);
        for (level, (a, b)) in [(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)].into_iter().enumerate() {
            let mut draws = Recorded::new(vec![1.0, 43.0, 15.0]).unwrap();
            let got = apply(&image, Severity::ALL[level], Constants::ImageNet, &frost, &mut draws).unwrap();
            for (x, y, pixel) in got.enumerate_pixels() {
                for c in 0..3 {
                    let f = photos[1].get_pixel(15 + x, 43 + y).0[c];
                    let expected = (a * f64::from(image.get_pixel(x, y).0[c]) + b * f64::from(f)).min(255.0);
                    assert_eq!(pixel.0[c], expected as u8, "{level} {x} {y} {c}");
                }
            }
        }
        // 50 - 6 = 44 rows are possible, but not the last one.
        let mut draws = Recorded::new(vec![1.0, 44.0, 0.0]).unwrap();
        assert!(apply(&image, Severity::ALL[0], Constants::ImageNet, &frost, &mut draws).is_err());
    }

    #[test]
    fn cifar_takes_every_fifth_pixel() {
        let full = photo(527, 350);
        let small = fifth(&full);
        assert_eq!(small.dimensions(), (105, 70));
        assert_eq!(small.get_pixel(10, 3), full.get_pixel(52, 17));
        assert_eq!(fifth(&photo(1, 2)).dimensions(), (1, 1));
    }

    #[test]
    fn small_photos_are_enlarged() {
        let frost =
            Frost::photos(vec![RgbImage::from_pixel(3, 2, image::Rgb([100, 0, 255]))], Constants::ImageNet).unwrap();
        let image = RgbImage::from_pixel(20, 31, image::Rgb([50; 3]));
        let mut draws = Recorded::new(vec![0.0, 2.0, 20.0]).unwrap();
        let got = apply(&image, Severity::ALL[0], Constants::ImageNet, &frost, &mut draws).unwrap();
        assert!(got.pixels().all(|p| p.0 == [90, 50, 152]), "{:?}", got.get_pixel(0, 0));
    }

    #[test]
    fn photos_are_checked() {
        assert!(Frost::photos(vec![], Constants::Cifar).is_err());
        assert!(Frost::photos(vec![RgbImage::new(0, 3)], Constants::Cifar).is_err());
        assert_eq!(Frost::procedural(Constants::Cifar).source().to_string(), "procedural");
    }
}
