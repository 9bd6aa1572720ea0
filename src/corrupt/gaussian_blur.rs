//! Gaussian blur.

use super::gaussian::{Border, Gaussian, Shape};
use super::kind::{Constants, Severity};
use super::pixels::{byte, units};
use image::RgbImage;

/// scikit-image's Gaussian filter.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let sigma = severity.of(&constants.of([0.4, 0.6, 0.7, 0.8, 1.0], [1.0, 2.0, 3.0, 4.0, 6.0]));
    let mut out = image.clone();
    blur(&mut out, &Gaussian::image(sigma));
    out
}

/// Filters an image in place.
pub(super) fn blur(image: &mut RgbImage, gaussian: &Gaussian) {
    let shape = Shape::of(image);
    let samples = units(image);
    let stride = shape.width * shape.channels;
    let bytes: &mut [u8] = image;
    gaussian.rows(&samples, shape, Border::Nearest, |y, row| {
        for (out, &x) in bytes[y * stride..(y + 1) * stride].iter_mut().zip(row) {
            *out = byte(x);
        }
    });
}
