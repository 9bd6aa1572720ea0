//! Spatter: drops of water or mud on the lens.

use super::draws::Draws;
use super::gaussian::{Border, Gaussian, Shape};
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, byte_f32, units_f32};
use super::water;
use crate::error::Result;
use image::RgbImage;

/// Constants of a severity.
#[derive(Clone, Copy)]
struct Drops {
    /// Mean and deviation of the noise, and of the filter that makes drops of it.
    mean: f64,
    deviation: f64,
    sigma: f64,
    /// What is below is dry.
    threshold: f64,
    /// Water: opacity. Mud: deviation of the filter that softens its rim.
    amount: f64,
    mud: bool,
}

const fn drops(mean: f64, deviation: f64, sigma: f64, threshold: f64, amount: f64, mud: bool) -> Drops {
    Drops { mean, deviation, sigma, threshold, amount, mud }
}

const CIFAR: [Drops; 5] = [
    drops(0.62, 0.1, 0.7, 0.7, 0.5, false),
    drops(0.65, 0.1, 0.8, 0.7, 0.5, false),
    drops(0.65, 0.3, 1.0, 0.69, 0.5, false),
    drops(0.65, 0.1, 0.7, 0.69, 0.6, true),
    drops(0.65, 0.1, 0.5, 0.68, 0.6, true),
];
const IMAGE_NET: [Drops; 5] = [
    drops(0.65, 0.3, 4.0, 0.69, 0.6, false),
    drops(0.65, 0.3, 3.0, 0.68, 0.6, false),
    drops(0.65, 0.3, 2.0, 0.68, 0.5, false),
    drops(0.65, 0.3, 1.0, 0.65, 1.5, true),
    drops(0.67, 0.4, 1.0, 0.65, 1.5, true),
];

const WATER: [f64; CHANNELS] = [175.0, 238.0, 238.0];
const MUD: [f64; CHANNELS] = [63.0, 42.0, 20.0];
/// Mud thinner than this is not seen.
const THIN: f32 = 0.8;

/// Water (severities 1 to 3) brightens what its drops cover, mud (4 and 5) covers it.
///
/// Draws: one normal number per pixel.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let c = severity.of(&constants.of(CIFAR, IMAGE_NET));
    let shape = Shape { channels: 1, ..Shape::of(image) };
    let mut liquid = vec![0.0; shape.width * shape.height];
    draws.normal(c.mean, c.deviation, &mut liquid)?;
    let mut liquid = Gaussian::image(c.sigma).filter(&liquid, shape, Border::Nearest);
    liquid.iter_mut().for_each(|x| *x = if *x < c.threshold { 0.0 } else { *x });

    let cover: Vec<f32> = if c.mud {
        let wet: Vec<f64> = liquid.iter().map(|&x| if x > c.threshold { 1.0 } else { 0.0 }).collect();
        let soft = Gaussian::image(c.amount).single().filter(&wet, shape, Border::Nearest);
        soft.into_iter().map(|x| x as f32).map(|x| if x < THIN { 0.0 } else { x }).collect()
    } else {
        water::opacity(&liquid, shape.width, shape.height, c.amount as f32)
    };
    let colour = if c.mud { MUD } else { WATER }.map(|x| (x / 255.0) as f32);
    let x = units_f32(image);
    let mut out = image.clone();
    for ((out, x), cover) in out.chunks_exact_mut(CHANNELS).zip(x.chunks_exact(CHANNELS)).zip(cover) {
        let kept = if c.mud { 1.0 - cover } else { 1.0 };
        for ((out, x), colour) in out.iter_mut().zip(x).zip(colour) {
            *out = byte_f32(x * kept + cover * colour);
        }
    }
    Ok(out)
}
