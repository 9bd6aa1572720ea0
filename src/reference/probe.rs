//! What measures take from inner tensors.

use super::{View, agree};
use crate::error::Result;

/// `y[n, c] = sum over positions of a * b`.
pub(super) fn image_dot(a: View<'_>, b: View<'_>) -> Result<Vec<f64>> {
    agree("image dot", a.axes, b.axes)?;
    let [n, h, w, c] = a.axes;
    let mut sums = vec![0.0; n * c];
    for (at, (a, b)) in a.values.iter().zip(b.values).enumerate() {
        sums[at / (h * w * c) * c + at % c] += a * b;
    }
    Ok(sums)
}

/// Words of 16 signs; `words` per image.
pub(super) fn sign_codes(x: View<'_>, words: usize) -> Vec<f64> {
    let [n, h, w, c] = x.axes;
    let mut codes = vec![0u32; n * words];
    for (at, value) in x.values.iter().enumerate() {
        let (image, position, channel) = (at / (h * w * c), at / c % (h * w), at % c);
        let vector = position * c.div_ceil(4) + channel / 4;
        if *value > 0.0 {
            codes[image * words + vector / 4] |= 1 << (4 * (vector % 4) + channel % 4);
        }
    }
    codes.into_iter().map(f64::from).collect()
}
