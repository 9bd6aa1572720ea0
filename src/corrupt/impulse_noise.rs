//! Impulse noise (salt and pepper).

use super::draws::Draws;
use super::kind::{Constants, Severity};
use super::pixels::rows_mut;
use crate::error::Result;
use image::RgbImage;

/// Replaces each value (not each pixel) with probability c, by 255 or 0 with equal chances.
///
/// Draws: one uniform number in [0, 1] per value, in the order of the image: below c / 2 salt, below c pepper.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let c = severity.of(&constants.of([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]));
    let mut out = image.clone();
    let mut numbers = vec![];
    for row in rows_mut(&mut out) {
        numbers.resize(row.len(), 0.0);
        draws.uniform(0.0, 1.0, &mut numbers)?;
        for (value, &u) in row.iter_mut().zip(&numbers) {
            if u < c {
                *value = if u < 0.5 * c { 255 } else { 0 };
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::draws::Recorded;
    use super::*;

    #[test]
    fn single_values_are_replaced() {
        let image = RgbImage::from_pixel(2, 1, image::Rgb([100; 3]));
        let mut draws = Recorded::new(vec![0.9, 0.001, 0.009, 0.0101, 0.0, 0.5]).unwrap();
        let out = apply(&image, Severity::ALL[0], Constants::Cifar, &mut draws).unwrap();
        assert_eq!(out.as_raw()[..], [100, 255, 0, 100, 255, 100]);
    }
}
