//! Snow.

use super::clipped_zoom::clipped_zoom;
use super::draws::Draws;
use super::gaussian::Shape;
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, UNIT, byte, units_f32};
use super::streak::Streak;
use crate::error::Result;
use image::RgbImage;

/// Constants of a severity.
#[derive(Clone, Copy)]
struct Flakes {
    /// Mean and deviation of the layer's noise.
    mean: f64,
    deviation: f64,
    /// Magnification of the layer.
    zoom: f64,
    /// Flakes fainter than this are dropped.
    threshold: f64,
    /// Length of the streaks: radius and deviation of the motion blur.
    radius: f64,
    sigma: f64,
    /// Share of the image that is not whitened.
    keep: f32,
}

const fn flakes(mean: f64, deviation: f64, zoom: f64, threshold: f64, radius: f64, sigma: f64, keep: f32) -> Flakes {
    Flakes { mean, deviation, zoom, threshold, radius, sigma, keep }
}

const CIFAR: [Flakes; 5] = [
    flakes(0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95),
    flakes(0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9),
    flakes(0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9),
    flakes(0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85),
    flakes(0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8),
];
const IMAGE_NET: [Flakes; 5] = [
    flakes(0.1, 0.3, 3.0, 0.5, 10.0, 4.0, 0.8),
    flakes(0.2, 0.3, 2.0, 0.5, 12.0, 4.0, 0.7),
    flakes(0.55, 0.3, 4.0, 0.9, 12.0, 8.0, 0.7),
    flakes(0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65),
    flakes(0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55),
];

/// Streaks of magnified noise, added upright and upside down to a whitened image.
///
/// Draws: one normal number per pixel, then one uniform angle from -135 to -45 degrees.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let c = severity.of(&constants.of(CIFAR, IMAGE_NET));
    let shape = Shape { channels: 1, ..Shape::of(image) };
    let mut noise = vec![0.0; shape.width * shape.height];
    draws.normal(c.mean, c.deviation, &mut noise)?;
    let mut angle = [0.0];
    draws.uniform(-135.0, -45.0, &mut angle)?;

    let mut layer = Vec::with_capacity(noise.len());
    clipped_zoom::<1, _>(&noise, (shape.width, shape.height), c.zoom, |_, row| {
        layer.extend(row.iter().map(|&x| if x < c.threshold { 0 } else { byte(x) }));
    });
    let layer = Streak::new(c.radius, c.sigma, angle[0]).blur(&layer, shape);

    let x = units_f32(image);
    let mut out = image.clone();
    let snow = layer.iter().zip(layer.iter().rev());
    for ((out, x), (&up, &down)) in out.chunks_exact_mut(CHANNELS).zip(x.chunks_exact(CHANNELS)).zip(snow) {
        let grey = (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]) * 1.5 + 0.5;
        let (up, down) = (UNIT[usize::from(up)], UNIT[usize::from(down)]);
        for (out, &x) in out.iter_mut().zip(x) {
            let whitened = c.keep * x + (1.0 - c.keep) * x.max(grey);
            *out = byte(f64::from(whitened) + up + down);
        }
    }
    Ok(out)
}
