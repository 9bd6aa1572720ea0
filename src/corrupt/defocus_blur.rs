//! Defocus blur.

use super::disk::Disk;
use super::kind::{Constants, Severity};
use image::RgbImage;

/// Correlation with a disk whose rim is softened.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let cifar = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)];
    let image_net = [(3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)];
    let (radius, softness) = severity.of(&constants.of(cifar, image_net));
    Disk::new(radius, softness).correlate(image)
}
