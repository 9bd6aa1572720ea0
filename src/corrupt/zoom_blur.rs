//! Zoom blur.

use super::clipped_zoom::clipped_zoom;
use super::kind::{Constants, Severity};
use super::pixels::{CHANNELS, byte_f32, units_f32};
use image::RgbImage;

/// The mean of the image and of its magnifications, in single precision.
///
/// The published code crops by the height on both axes, which works for squares only; here each axis has its own
/// length.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let cifar = [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)];
    let image_net = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)];
    let (end, step) = severity.of(&constants.of(cifar, image_net));
    let factors = range(1.0, end, step);
    let x = units_f32(image);
    let size = (image.width() as usize, image.height() as usize);
    let stride = size.0 * CHANNELS;
    let mut sum = vec![0f32; x.len()];
    for &factor in &factors {
        clipped_zoom::<CHANNELS, _>(&x, size, factor, |y, row| {
            for (sum, &x) in sum[y * stride..(y + 1) * stride].iter_mut().zip(row) {
                *sum += x as f32;
            }
        });
    }
    let count = (factors.len() + 1) as f32;
    let mut out = image.clone();
    for ((out, x), sum) in out.iter_mut().zip(&x).zip(&sum) {
        *out = byte_f32((x + sum) / count);
    }
    out
}

/// NumPy's `arange`: its length comes from a division that rounding may push past the end, which is why some
/// severities hold one factor more than their limits say.
fn range(start: f64, end: f64, step: f64) -> Vec<f64> {
    let count = ((end - start) / step).ceil() as usize;
    let delta = (start + step) - start;
    (0..count).map(|i| start + i as f64 * delta).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_factors() {
        let cifar = [1.06, 1.11, 1.16, 1.21, 1.26].map(|end| range(1.0, end, 0.01).len());
        assert_eq!(cifar, [7, 12, 16, 21, 26]);
        let image_net = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)];
        let counts = image_net.map(|(end, step)| range(1.0, end, step).len());
        assert_eq!(counts, [12, 16, 11, 13, 11]);
    }
}
