//! Fog.

use super::draws::Draws;
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, UNIT, byte, rows_mut};
use super::plasma::plasma;
use crate::error::Result;
use image::RgbImage;

/// (x + c P) m / (m + c) with the image's largest value m and a plasma fractal P, whose side is the next power of two
/// from the image's longer side on.
///
/// Draws: those of the fractal, 3 (4^n - 1) / 3 uniform numbers for a side of 2^n, within at most 100.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let cifar = [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)];
    let image_net = [(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)];
    let (thickness, decay): (f64, f64) = severity.of(&constants.of(cifar, image_net));
    let side = (image.width().max(image.height()) as usize).next_power_of_two();
    let map = plasma(side, decay, draws)?;
    let brightest = UNIT[usize::from(image.iter().copied().max().unwrap_or(0))];
    let mut out = image.clone();
    for (row, fog) in rows_mut(&mut out).zip(map.chunks_exact(side)) {
        for (pixel, fog) in row.chunks_exact_mut(CHANNELS).zip(fog) {
            for value in pixel {
                let x = UNIT[usize::from(*value)] + thickness * fog;
                *value = byte(x * brightest / (brightest + thickness));
            }
        }
    }
    Ok(out)
}
