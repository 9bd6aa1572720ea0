//! Brightness.

use super::hsv;
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, UNIT, byte};
use image::RgbImage;

/// Adds a constant to the value of HSV, clipped to 1.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let added: f64 = severity.of(&constants.of([0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]));
    map_hsv(image, |[hue, saturation, value]| [hue, saturation, (value + added).clamp(0.0, 1.0)])
}

/// Passes each colour through `map` in HSV.
pub(super) fn map_hsv(image: &RgbImage, map: impl Fn([f64; 3]) -> [f64; 3]) -> RgbImage {
    let mut out = image.clone();
    // Neighbours are often equal: the last colour and its image are kept.
    let mut last = ([0; 3], hsv::to_rgb(map(hsv::from_rgb([0.0; 3]))).map(byte));
    for pixel in out.chunks_exact_mut(CHANNELS) {
        let colour = [pixel[0], pixel[1], pixel[2]];
        if colour != last.0 {
            last = (colour, hsv::to_rgb(map(hsv::from_rgb(colour.map(|v| UNIT[usize::from(v)])))).map(byte));
        }
        pixel.copy_from_slice(&last.1);
    }
    out
}
