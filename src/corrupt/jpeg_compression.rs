//! JPEG compression.

use super::kind::{Constants, Severity};
use image::RgbImage;

/// A JPEG round trip at the severity's quality (Pillow's defaults: 4:2:0, integer transform).
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let quality = severity.of(&constants.of([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]));
    super::jpeg::round_trip(image, quality)
}
