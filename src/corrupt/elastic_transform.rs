//! Elastic transform.

use super::affine::{Affine, warp};
use super::draws::Draws;
use super::gaussian::Shape;
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, byte_f32, floor, symmetric, units_f32};
use super::smooth::Smoother;
use crate::error::Result;
use image::RgbImage;

/// Strength of the displacement, its smoothness and the reach of the affine map, all in pixels.
type Tuple = (f64, f64, f64);

/// The authors take these as shares of the side: 32 for CIFAR, and 244 (not 224) for ImageNet. They stay the same
/// lengths at any image size.
const CIFAR: [Tuple; 5] = {
    let s = 32.0;
    [
        (0.0, 0.0, s * 0.08),
        (s * 0.05, s * 0.2, s * 0.07),
        (s * 0.08, s * 0.06, s * 0.06),
        (s * 0.1, s * 0.04, s * 0.05),
        (s * 0.1, s * 0.03, s * 0.03),
    ]
};
const IMAGE_NET: [Tuple; 5] = {
    let s = 244.0;
    [
        (s * 2.0, s * 0.7, s * 0.1),
        (s * 2.0, s * 0.08, s * 0.2),
        (s * 0.05, s * 0.01, s * 0.02),
        (s * 0.07, s * 0.01, s * 0.02),
        (s * 0.12, s * 0.01, s * 0.02),
    ]
};

/// A random affine map of the middle of the image, then a smooth random displacement of each pixel (after Simard,
/// Steinkraus and Platt, "Best Practices for Convolutional Neural Networks", ICDAR 2003).
///
/// Draws: three points' shifts (columns, then rows), uniform within the reach; then one uniform number from -1 to 1 per
/// pixel for the columns' displacement, and as many for the rows'.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let (strength, sigma, reach) = severity.of(&constants.of(CIFAR, IMAGE_NET));
    let shape = Shape::of(image);
    let (width, height) = (shape.width, shape.height);
    let mut shifts = [0.0; 6];
    draws.uniform(-reach, reach, &mut shifts)?;
    let mut across = vec![0.0; width * height];
    draws.uniform(-1.0, 1.0, &mut across)?;
    let mut down = vec![0.0; width * height];
    draws.uniform(-1.0, 1.0, &mut down)?;

    let warped = warp(&units_f32(image), shape, &Affine::moved(width, height, &shifts));
    let smoother = Smoother::new(width, height, sigma);
    // Displacements are held in single precision.
    let field = |noise: Vec<f64>| smoother.smooth(noise).into_iter().map(|x| f64::from((x * strength) as f32));
    let mut out = image.clone();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (y as f64, x as f64)));
    let pixels = out.chunks_exact_mut(CHANNELS).zip(places);
    for ((pixel, (y, x)), (dx, dy)) in pixels.zip(field(across).zip(field(down))) {
        let (row, column) = (y + dy, x + dx);
        let ((top, fy), (left, fx)) = (floor(row), floor(column));
        let rows = [top, top + 1].map(|y| symmetric(y, height) * width);
        let columns = [left, left + 1].map(|x| symmetric(x, width));
        let at = |y: usize, x: usize| &warped[(rows[y] + columns[x]) * CHANNELS..][..CHANNELS];
        let taps = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
        let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
        for (c, out) in pixel.iter_mut().enumerate() {
            let value: f64 = taps.iter().zip(weights).map(|(tap, weight)| f64::from(tap[c]) * weight).sum();
            *out = byte_f32(value as f32);
        }
    }
    Ok(out)
}
