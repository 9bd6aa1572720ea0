//! Shot noise.

use super::draws::Draws;
use super::kind::{Constants, Severity};
use super::pixels::{byte, rows_mut};
use super::poisson::Rates;
use crate::error::Result;
use image::RgbImage;

/// Photons that make white, per severity. Statics, so that the distributions are tabulated once.
static CIFAR: [Rates; 5] =
    [Rates::new(500.0), Rates::new(250.0), Rates::new(100.0), Rates::new(75.0), Rates::new(50.0)];
static IMAGE_NET: [Rates; 5] = [Rates::new(60.0), Rates::new(25.0), Rates::new(12.0), Rates::new(5.0), Rates::new(3.0)];

/// Poisson(x c) / c on each value. Draws: one Poisson number per value, in the order of the image.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let rates = &constants.of(&CIFAR, &IMAGE_NET)[severity.index()];
    let mut out = image.clone();
    let mut counts = vec![];
    for row in rows_mut(&mut out) {
        counts.resize(row.len(), 0.0);
        draws.poisson(rates, row, &mut counts)?;
        for (value, &count) in row.iter_mut().zip(&counts) {
            *value = byte(count / rates.scale());
        }
    }
    Ok(out)
}
