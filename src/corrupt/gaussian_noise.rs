//! Gaussian noise and speckle noise: normal noise added, as it is or in proportion to the value.

use super::draws::Draws;
use super::kind::{Constants, Severity};
use super::pixels::{UNIT, byte, rows_mut};
use crate::error::Result;
use image::RgbImage;

/// x + N(0, c) on each value. Draws: one normal number per value, in the order of the image.
pub(super) fn additive(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let c = severity.of(&constants.of([0.04, 0.06, 0.08, 0.09, 0.1], [0.08, 0.12, 0.18, 0.26, 0.38]));
    noise(image, c, draws, |x, noise| x + noise)
}

/// x + x N(0, c) on each value. Draws as for [`additive`].
pub(super) fn speckle(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let c = severity.of(&constants.of([0.06, 0.1, 0.12, 0.16, 0.2], [0.15, 0.2, 0.35, 0.45, 0.6]));
    noise(image, c, draws, |x, noise| x + x * noise)
}

fn noise(image: &RgbImage, c: f64, draws: &mut dyn Draws, mix: impl Fn(f64, f64) -> f64) -> Result<RgbImage> {
    let mut out = image.clone();
    let mut numbers = vec![];
    for row in rows_mut(&mut out) {
        numbers.resize(row.len(), 0.0);
        draws.normal(0.0, c, &mut numbers)?;
        for (value, &noise) in row.iter_mut().zip(&numbers) {
            *value = byte(mix(UNIT[usize::from(*value)], noise));
        }
    }
    Ok(out)
}
