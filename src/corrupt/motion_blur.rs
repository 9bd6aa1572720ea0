//! Motion blur.

use super::draws::Draws;
use super::gaussian::Shape;
use super::kind::{Constants, Severity};
use super::streak::Streak;
use crate::error::{Error, Result};
use image::RgbImage;

/// ImageMagick's motion blur along a random direction. Draws: one uniform angle from -45 to 45 degrees.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let cifar = [(6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5)];
    let image_net = [(10.0, 3.0), (15.0, 5.0), (15.0, 8.0), (15.0, 12.0), (20.0, 15.0)];
    let (radius, sigma) = severity.of(&constants.of(cifar, image_net));
    let mut angle = [0.0];
    draws.uniform(-45.0, 45.0, &mut angle)?;
    along(image, radius, sigma, angle[0])
}

/// ImageMagick's `-motion-blur radius x sigma + angle` on an 8-bit image, to the bit (version 6.9, 16 bits per
/// sample): a Gaussian of one side only, read from the direction `angle` (degrees; 0 from the right, 90 from below).
///
/// # Errors
/// [`Error::Invalid`] unless `radius` is 0 to 1000 pixels, `sigma` is above 0 and `angle` finite.
pub fn along(image: &RgbImage, radius: f64, sigma: f64, angle: f64) -> Result<RgbImage> {
    if !(0.0..=1000.0).contains(&radius) || sigma.is_nan() || sigma <= 0.0 || !angle.is_finite() {
        let why = format!("radius {radius}, sigma {sigma}, angle {angle}; 0 to 1000, above 0 and finite are possible");
        return Err(Error::invalid("motion blur", why));
    }
    let mut out = image.clone();
    let blurred = Streak::new(radius, sigma, angle).blur(image.as_raw(), Shape::of(image));
    out.copy_from_slice(&blurred);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let image = RgbImage::new(4, 4);
        assert!(along(&image, 6.0, 1.0, 700.0).is_ok());
        let wrong =
            [(-1.0, 1.0, 0.0), (f64::NAN, 1.0, 0.0), (1e9, 1.0, 0.0), (6.0, 0.0, 0.0), (6.0, 1.0, f64::INFINITY)];
        for (radius, sigma, angle) in wrong {
            assert!(along(&image, radius, sigma, angle).is_err(), "{radius} {sigma} {angle}");
        }
    }
}
