//! Pixelation.

use super::box_resample::resize;
use super::kind::{Constants, Severity};
use image::RgbImage;

/// Down to a share of the size and up again, both with Pillow's BOX filter. The small sides are
/// `int(share * side)`, at least 1.
pub(super) fn apply(image: &RgbImage, severity: Severity, constants: Constants) -> RgbImage {
    let share: f64 = severity.of(&constants.of([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]));
    let small = |side: u32| ((f64::from(side) * share) as usize).max(1);
    let reduced = resize(image, small(image.width()), small(image.height()));
    resize(&reduced, image.width() as usize, image.height() as usize)
}
