//! Contrast.

use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, UNIT, byte, look_up};
use image::RgbImage;

/// Draws each value towards the mean of its channel over the image: c (x - mean) + mean.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let factor: f64 = severity.of(&constants.of([0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]));
    let mut sums = [0.0; CHANNELS];
    for pixel in image.as_raw().chunks_exact(CHANNELS) {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            *sum += UNIT[usize::from(value)];
        }
    }
    let pixels = f64::from(image.width()) * f64::from(image.height());
    let tables = sums.map(|sum| {
        let mean = sum / pixels;
        UNIT.map(|x| byte((x - mean) * factor + mean))
    });
    look_up(image, &tables)
}
