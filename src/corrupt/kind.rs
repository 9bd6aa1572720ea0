//! Which corruption, how strong, and with which table of constants.

use crate::error::{Error, Result, unknown};
use std::fmt;
use std::str::FromStr;

/// The 19 corruptions of the benchmark (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
/// Common Corruptions and Perturbations", ICLR 2019, sections 3.1 and appendix B), in the authors' order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Normal noise on each value.
    GaussianNoise,
    /// Poisson noise on each value.
    ShotNoise,
    /// Single values replaced by black or white.
    ImpulseNoise,
    /// Out of focus: correlation with a disk.
    DefocusBlur,
    /// Frosted glass: pixels shifted at random between two slight blurs.
    GlassBlur,
    /// Camera movement along a random direction.
    MotionBlur,
    /// Mean over several magnifications.
    ZoomBlur,
    /// Streaks of snow in front of a whitened image.
    Snow,
    /// Ice crystals on the lens: a photo laid over the image.
    Frost,
    /// A fractal veil.
    Fog,
    /// Value added in HSV.
    Brightness,
    /// Values drawn towards the mean of their channel.
    Contrast,
    /// A random affine map, then a smooth random displacement.
    ElasticTransform,
    /// Fewer pixels.
    Pixelate,
    /// Loss of a JPEG file.
    JpegCompression,
    /// Normal noise in proportion to the value (extra).
    SpeckleNoise,
    /// A Gaussian filter (extra).
    GaussianBlur,
    /// Drops of water or mud on the lens (extra).
    Spatter,
    /// Saturation scaled in HSV (extra).
    Saturate,
}

impl Kind {
    /// All 19: the 15 of the benchmark, then the four that its authors set aside for validation.
    pub const ALL: [Kind; 19] = [
        Kind::GaussianNoise,
        Kind::ShotNoise,
        Kind::ImpulseNoise,
        Kind::DefocusBlur,
        Kind::GlassBlur,
        Kind::MotionBlur,
        Kind::ZoomBlur,
        Kind::Snow,
        Kind::Frost,
        Kind::Fog,
        Kind::Brightness,
        Kind::Contrast,
        Kind::ElasticTransform,
        Kind::Pixelate,
        Kind::JpegCompression,
        Kind::SpeckleNoise,
        Kind::GaussianBlur,
        Kind::Spatter,
        Kind::Saturate,
    ];

    /// The 15 over which corruption errors are averaged.
    pub const MAIN: [Kind; 15] = {
        let mut main = [Kind::GaussianNoise; 15];
        let mut i = 0;
        while i < main.len() {
            main[i] = Kind::ALL[i];
            i += 1;
        }
        main
    };

    /// The four that are meant for choosing by, none of which is among [`Kind::MAIN`].
    pub const VALIDATION: [Kind; 4] = [Kind::SpeckleNoise, Kind::GaussianBlur, Kind::Spatter, Kind::Saturate];

    /// The name as in the published files, such as `gaussian_noise`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::GaussianNoise => "gaussian_noise",
            Kind::ShotNoise => "shot_noise",
            Kind::ImpulseNoise => "impulse_noise",
            Kind::DefocusBlur => "defocus_blur",
            Kind::GlassBlur => "glass_blur",
            Kind::MotionBlur => "motion_blur",
            Kind::ZoomBlur => "zoom_blur",
            Kind::Snow => "snow",
            Kind::Frost => "frost",
            Kind::Fog => "fog",
            Kind::Brightness => "brightness",
            Kind::Contrast => "contrast",
            Kind::ElasticTransform => "elastic_transform",
            Kind::Pixelate => "pixelate",
            Kind::JpegCompression => "jpeg_compression",
            Kind::SpeckleNoise => "speckle_noise",
            Kind::GaussianBlur => "gaussian_blur",
            Kind::Spatter => "spatter",
            Kind::Saturate => "saturate",
        }
    }

    /// Whether the result depends on random draws.
    pub const fn is_random(self) -> bool {
        !matches!(
            self,
            Kind::DefocusBlur
                | Kind::ZoomBlur
                | Kind::Brightness
                | Kind::Contrast
                | Kind::Pixelate
                | Kind::JpegCompression
                | Kind::GaussianBlur
                | Kind::Saturate
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// Reads a [`name`](Kind::name). [`Error::Invalid`] for any other text, with the nearest name.
    fn from_str(text: &str) -> Result<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| unknown("corruption", text, &Kind::ALL.map(Kind::name)))
    }
}

/// How strong: 1 (slight) to 5 (heavy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

impl Severity {
    /// From slight to heavy.
    pub const ALL: [Severity; 5] = [Severity(1), Severity(2), Severity(3), Severity(4), Severity(5)];

    /// [`Error::Invalid`] unless `level` is 1 to 5.
    pub fn new(level: u8) -> Result<Severity> {
        match level {
            1..=5 => Ok(Severity(level)),
            _ => Err(Error::invalid("severity", format!("{level}; 1 (slight) to 5 (heavy) are defined"))),
        }
    }

    /// 1 to 5.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The row of this severity in a table of constants.
    pub(super) fn index(self) -> usize {
        usize::from(self.0 - 1)
    }

    /// This severity's row of a table of constants.
    pub(super) fn of<T: Copy>(self, table: &[T; 5]) -> T {
        table[self.index()]
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The two published tables. They differ in strength since many constants are lengths in pixels; either
/// works at any image size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constants {
    /// CIFAR-10-C and CIFAR-100-C, made for 32 x 32 pixels.
    Cifar,
    /// ImageNet-C, made for 224 x 224 pixels.
    ImageNet,
}

impl Constants {
    /// `cifar` or `imagenet`.
    pub const fn name(self) -> &'static str {
        match self {
            Constants::Cifar => "cifar",
            Constants::ImageNet => "imagenet",
        }
    }

    /// The table of these constants.
    pub(super) fn of<T>(self, cifar: T, image_net: T) -> T {
        match self {
            Constants::Cifar => cifar,
            Constants::ImageNet => image_net,
        }
    }
}

impl fmt::Display for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Constants {
    type Err = Error;

    /// Reads a [`name`](Constants::name). [`Error::Invalid`] for any other text.
    fn from_str(text: &str) -> Result<Constants> {
        [Constants::Cifar, Constants::ImageNet]
            .into_iter()
            .find(|constants| constants.name() == text)
            .ok_or_else(|| unknown("constants", text, &["cifar", "imagenet"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        assert_eq!(Kind::MAIN[..], Kind::ALL[..15]);
        assert_eq!(Kind::MAIN[14], Kind::JpegCompression);
        assert_eq!(Kind::VALIDATION[..], Kind::ALL[15..]);
        let message = "gausian_noise".parse::<Kind>().unwrap_err().to_string();
        assert!(message.contains("did you mean `gaussian_noise`?"), "{message}");
        let message = "imagnet".parse::<Constants>().unwrap_err().to_string();
        assert!(message.contains("did you mean `imagenet`?"), "{message}");
    }

    #[test]
    fn severities_end_at_1_and_5() {
        assert!(Severity::new(0).is_err() && Severity::new(6).is_err());
        assert_eq!(Severity::new(5).unwrap(), Severity::ALL[4]);
        assert_eq!(Severity::ALL[2].of(&[1, 2, 3, 4, 5]), 3);
    }
}
