//! Common corruptions of images: the 19 kinds at five severities of CIFAR-10-C and ImageNet-C (Hendrycks and
//! Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019), as the
//! authors' code computes them, its quirks included.
//!
//! A [`Corruption`] is a kind, a severity and a table of constants. It takes an 8-bit RGB image of any size up to
//! [`MAX_SIDE`] and gives one of the same size. The published sets are made with [`Constants::Cifar`] at 32 x 32 and
//! [`Constants::ImageNet`] at 224 x 224 pixels; ImageNet-C is then stored as JPEG of quality 85
//! ([`jpeg_round_trip`]).
//!
//! Randomness is an argument. [`Corruption::seeded`] keys it by a seed and the image's index, so that results depend
//! neither on threads nor on order; [`Corruption::apply`] takes any [`Draws`], such as numbers [`Recorded`] from
//! elsewhere; [`Corruption::each`] corrupts a whole data set on all cores. Both tables of constants share a seed's
//! draws.
//!
//! Compared with outputs of the authors' code at 32 x 32 and 224 x 224 pixels, the kinds for which
//! [`Kind::is_random`] is false are equal to the bit; only the defocus blur with a radius of 8 or 10 pixels is not on
//! every image. With the same draws the random kinds are equal to the bit too in all recorded cases. The photos of
//! frost are not part of this crate: it takes the user's, or textures like them ([`Frost`]). Exact equality leans on
//! the platform's `exp`, `sin` and `cos`; where these differ in the last bit, single values may differ.
//!
//! ```
//! use altiplano::corrupt::{Constants, Corruption, Severity};
//!
//! # fn main() -> altiplano::Result<()> {
//! let image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, 0]));
//! let fog = Corruption::new("fog".parse()?, Severity::new(3)?, Constants::Cifar);
//! assert_eq!(fog.seeded(&image, 0, 7)?, fog.seeded(&image, 0, 7)?);
//! assert_ne!(fog.seeded(&image, 0, 7)?, fog.seeded(&image, 0, 8)?);
//! # Ok(())
//! # }
//! ```
//!
//! Small images work down to one pixel, but not every kind finds something to do: the glass blur moves pixels only in
//! images of more than twice its reach, the elastic transform bends the middle only from 3 pixels on.

mod affine;
mod box_resample;
mod brightness;
mod canny;
mod clipped_zoom;
mod contrast;
mod defocus_blur;
mod disk;
mod draws;
mod elastic_transform;
mod fog;
mod fourier;
mod frost;
mod frost_texture;
mod gaussian;
mod gaussian_blur;
mod gaussian_noise;
mod glass_blur;
mod hsv;
mod impulse_noise;
mod jpeg;
mod jpeg_compression;
mod kind;
mod motion_blur;
mod normal;
mod pixelate;
mod pixels;
mod plasma;
mod poisson;
mod saturate;
mod shot_noise;
mod smooth;
mod snow;
mod spatter;
mod streak;
mod stream;
mod water;
mod zoom_blur;

#[cfg(test)]
mod tests;

pub use draws::{Draws, Recorded, Seeded};
pub use frost::{Frost, FrostSource};
pub use jpeg::round_trip as jpeg_round_trip;
pub use kind::{Constants, Kind, Severity};
pub use motion_blur::along as motion_blur;
pub use poisson::Rates;
pub use stream::in_order;

use crate::error::{Error, Result};
use image::RgbImage;
use std::sync::Arc;

/// The longest side of an image that is corrupted, in pixels. Some kinds need 60 bytes per pixel beside the image, fog
/// 8 bytes per pixel of the next square whose side is a power of two.
pub const MAX_SIDE: u32 = 8192;

/// A kind of corruption at a severity.
#[derive(Debug, Clone)]
pub struct Corruption {
    kind: Kind,
    severity: Severity,
    constants: Constants,
    frost: Option<Arc<Frost>>,
}

impl Corruption {
    /// A corruption; frost is procedural until [`with_frost`](Self::with_frost).
    pub fn new(kind: Kind, severity: Severity, constants: Constants) -> Self {
        Corruption { kind, severity, constants, frost: None }
    }

    /// Takes frost from `frost`. No effect on other kinds.
    pub fn with_frost(self, frost: Arc<Frost>) -> Self {
        Corruption { frost: Some(frost), ..self }
    }

    /// What is done.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How strongly.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// With which table.
    pub fn constants(&self) -> Constants {
        self.constants
    }

    /// Where frost comes from, if this is frost.
    pub fn frost_source(&self) -> Option<FrostSource> {
        let source = self.frost.as_ref().map_or(FrostSource::Procedural, |frost| frost.source());
        (self.kind == Kind::Frost).then_some(source)
    }

    /// The corrupted image, with draws that are a function of (seed, kind, severity, index).
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image with a side above [`MAX_SIDE`].
    pub fn seeded(&self, image: &RgbImage, seed: u64, index: u64) -> Result<RgbImage> {
        self.apply(image, &mut Seeded::new(seed, self.kind, self.severity, index))
    }

    /// The corrupted image. An image without pixels comes back as it is.
    ///
    /// The draws that each kind takes, in order:
    ///
    /// | kind | draws |
    /// |---|---|
    /// | gaussian, speckle noise | a normal number per value |
    /// | shot noise | a Poisson number per value |
    /// | impulse noise | a uniform number per value |
    /// | glass blur | per moved pixel two integers: columns, rows |
    /// | motion blur | a uniform angle in degrees |
    /// | snow | a normal number per pixel, a uniform angle |
    /// | frost | three integers: photo, row, column |
    /// | fog | the uniform numbers of a plasma fractal, from coarse to fine |
    /// | elastic transform | six uniform shifts, then two fields of a uniform number per pixel |
    /// | spatter | a normal number per pixel |
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image with a side above [`MAX_SIDE`], and what `draws` returns.
    pub fn apply(&self, image: &RgbImage, draws: &mut dyn Draws) -> Result<RgbImage> {
        if image.width().max(image.height()) > MAX_SIDE {
            let why = format!("{} x {} pixels; sides up to {MAX_SIDE} are possible", image.width(), image.height());
            return Err(Error::invalid("image", why));
        }
        if image.is_empty() {
            return Ok(image.clone());
        }
        let (s, c) = (self.severity, self.constants);
        match self.kind {
            Kind::GaussianNoise => gaussian_noise::additive(image, s, c, draws),
            Kind::ShotNoise => shot_noise::apply(image, s, c, draws),
            Kind::ImpulseNoise => impulse_noise::apply(image, s, c, draws),
            Kind::DefocusBlur => Ok(defocus_blur::apply(image, s, c)),
            Kind::GlassBlur => glass_blur::apply(image, s, c, draws),
            Kind::MotionBlur => motion_blur::apply(image, s, c, draws),
            Kind::ZoomBlur => Ok(zoom_blur::apply(image, s, c)),
            Kind::Snow => snow::apply(image, s, c, draws),
            Kind::Frost => match &self.frost {
                Some(frost) => frost::apply(image, s, c, frost, draws),
                None => frost::apply(image, s, c, &Frost::procedural(c), draws),
            },
            Kind::Fog => fog::apply(image, s, c, draws),
            Kind::Brightness => Ok(brightness::apply(image, s, c)),
            Kind::Contrast => Ok(contrast::apply(image, s, c)),
            Kind::ElasticTransform => elastic_transform::apply(image, s, c, draws),
            Kind::Pixelate => Ok(pixelate::apply(image, s, c)),
            Kind::JpegCompression => Ok(jpeg_compression::apply(image, s, c)),
            Kind::SpeckleNoise => gaussian_noise::speckle(image, s, c, draws),
            Kind::GaussianBlur => Ok(gaussian_blur::apply(image, s, c)),
            Kind::Spatter => spatter::apply(image, s, c, draws),
            Kind::Saturate => Ok(saturate::apply(image, s, c)),
        }
    }
}
