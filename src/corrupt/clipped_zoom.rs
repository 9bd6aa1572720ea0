//! A centred cut-out, magnified back to the size of the image: SciPy's `zoom` of order 1, whose corner samples
//! stay at the corners.

/// Where the outputs along one axis come from.
struct Axis {
    /// First and second input and the weight of the second.
    taps: Vec<(usize, usize, f64)>,
}

impl Axis {
    /// An axis of `length` samples, magnified by `factor` (at least 1).
    fn new(length: usize, factor: f64) -> Self {
        let cut = ((length as f64 / factor).ceil() as usize).clamp(1, length);
        let first = (length - cut) / 2;
        // Python's rounding, half to even. It can't fall below `length` but by rounding of the product.
        let zoomed = ((cut as f64 * factor).round_ties_even() as usize).max(length);
        let trim = (zoomed - length) / 2;
        let step = if zoomed > 1 { (cut - 1) as f64 / (zoomed - 1) as f64 } else { 0.0 };
        let taps = (trim..trim + length).map(|i| {
            let place = i as f64 * step;
            let low = (place.floor() as usize).min(cut - 1);
            (first + low, first + (low + 1).min(cut - 1), place - low as f64)
        });
        Axis { taps: taps.collect() }
    }
}

/// Magnifies `samples` about their centre by `factor` (at least 1) and hands each row to `row(y, values)`, in double
/// precision. `C` is the number of channels.
pub(super) fn clipped_zoom<const C: usize, T: Copy + Into<f64>>(
    samples: &[T],
    (width, height): (usize, usize),
    factor: f64,
    mut row: impl FnMut(usize, &[f64]),
) {
    if samples.is_empty() {
        return;
    }
    let stride = width * C;
    let (down, across) = (Axis::new(height, factor), Axis::new(width, factor));
    let stretch = |y: usize, out: &mut [f64]| {
        let source = &samples[y * stride..(y + 1) * stride];
        for (pixel, &(low, high, weight)) in out.chunks_exact_mut(C).zip(&across.taps) {
            let (low, high) = (&source[low * C..][..C], &source[high * C..][..C]);
            for c in 0..C {
                pixel[c] = low[c].into() * (1.0 - weight) + high[c].into() * weight;
            }
        }
    };
    // Two stretched rows are enough, since the inputs only ever move down.
    let mut above = (usize::MAX, vec![0.0; stride]);
    let mut below = (usize::MAX, vec![0.0; stride]);
    let mut out = vec![0.0; stride];
    for (y, &(low, high, weight)) in down.taps.iter().enumerate() {
        if above.0 != low && below.0 == low {
            std::mem::swap(&mut above, &mut below);
        }
        for (kept, wanted) in [(&mut above, low), (&mut below, high)] {
            if kept.0 != wanted {
                stretch(wanted, &mut kept.1);
                kept.0 = wanted;
            }
        }
        for ((out, a), b) in out.iter_mut().zip(&above.1).zip(&below.1) {
            *out = a * (1.0 - weight) + b * weight;
        }
        row(y, &out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoom<const C: usize>(samples: &[f64], size: (usize, usize), factor: f64) -> Vec<f64> {
        let mut out = vec![];
        clipped_zoom::<C, _>(samples, size, factor, |_, row| out.extend_from_slice(row));
        out
    }

    #[test]
    fn one_is_the_identity() {
        let x: Vec<f64> = (0..5 * 7 * 3).map(f64::from).collect();
        assert_eq!(zoom::<3>(&x, (7, 5), 1.0), x);
    }

    #[test]
    fn corners_stay_at_corners() {
        // 4 samples at factor 2: the middle two, stretched over 4 places at 0, 1/3, 2/3 and 1.
        let got = zoom::<1>(&[9.0, 1.0, 4.0, 9.0], (4, 1), 2.0);
        for (got, expected) in got.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        }
    }

    #[test]
    fn any_size_and_factor_keeps_flat_samples() {
        for (width, height) in [(1, 1), (3, 5), (2, 31), (17, 1)] {
            for factor in [1.0, 1.01, 1.3, 2.5, 4.5] {
                let flat = vec![0.25; width * height];
                let got = zoom::<1>(&flat, (width, height), factor);
                assert_eq!(got.len(), flat.len());
                assert!(got.iter().all(|x| (x - 0.25).abs() < 1e-15));
            }
        }
    }
}
