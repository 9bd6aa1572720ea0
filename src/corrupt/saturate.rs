//! Saturation.

use super::brightness::map_hsv;
use super::kind::{Constants, Severity};
use image::RgbImage;

/// S = clip(a S + b) in HSV.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let cifar = [(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)];
    let image_net = [(0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)];
    let (factor, added): (f64, f64) = severity.of(&constants.of(cifar, image_net));
    map_hsv(image, |[hue, saturation, value]| [hue, (saturation * factor + added).clamp(0.0, 1.0), value])
}
