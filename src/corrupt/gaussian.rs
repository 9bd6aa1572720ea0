//! The separable Gaussian filter of SciPy and scikit-image, in its order of operations.

use super::pixels::{nearest, symmetric};

/// What lies beyond the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Border {
    /// The edge goes on: `a a | a b c | c c`.
    Nearest,
    /// Half-sample reflection: `b a | a b c | c b`.
    Symmetric,
}

/// Shape of interleaved samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
}

/// A normalised kernel exp(-i^2 / 2 sigma^2).
#[derive(Debug, Clone)]
pub(super) struct Gaussian {
    /// Weights at distance 0, 1, ... to the radius.
    half: Vec<f64>,
    /// Whether the numbers between the two passes, and the result, are rounded to single precision.
    single: bool,
}

impl Shape {
    /// The shape of an RGB image.
    pub(super) fn of(image: &image::RgbImage) -> Self {
        Shape { width: image.width() as usize, height: image.height() as usize, channels: 3 }
    }
}

impl Gaussian {
    /// Cut off at `truncate` standard deviations: radius int(truncate sigma + 0.5). A deviation of 0 is the
    /// identity.
    pub(super) fn new(sigma: f64, truncate: f64) -> Self {
        let radius = (truncate * sigma + 0.5) as usize;
        if radius == 0 {
            return Gaussian { half: vec![1.0], single: false };
        }
        let factor = -0.5 / (sigma * sigma);
        let phi: Vec<f64> =
            (0..=2 * radius).map(|i| i as f64 - radius as f64).map(|i| (factor * (i * i)).exp()).collect();
        let sum = pairwise_sum(&phi);
        Gaussian { half: phi[radius..].iter().map(|x| x / sum).collect(), single: false }
    }

    /// scikit-image's filter of images, which ends at 4 standard deviations.
    pub(super) fn image(sigma: f64) -> Self {
        Gaussian::new(sigma, 4.0)
    }

    /// As for images that are held in single precision.
    pub(super) fn single(self) -> Self {
        Gaussian { single: true, ..self }
    }

    /// Samples on each side of the centre.
    pub(super) fn radius(&self) -> usize {
        self.half.len() - 1
    }

    /// Weights at distance 0, 1, ... to the radius.
    pub(super) fn weights(&self) -> &[f64] {
        &self.half
    }

    /// Filters over rows, then over columns, and hands each row of the result to `row(y, values)`.
    pub(super) fn rows(&self, samples: &[f64], shape: Shape, border: Border, mut row: impl FnMut(usize, &[f64])) {
        let Shape { width, height, channels } = shape;
        let stride = width * channels;
        let radius = self.radius();
        if radius == 0 {
            samples.chunks_exact(stride.max(1)).enumerate().for_each(|(y, values)| row(y, values));
            return;
        }
        let place = match border {
            Border::Nearest => nearest,
            Border::Symmetric => symmetric,
        };
        let mut wide = vec![0.0; stride + 2 * radius * channels];
        let mut out = vec![0.0; stride];
        // Where row y + k is, at k + radius.
        let mut starts = vec![0; 2 * radius + 1];
        for y in 0..height {
            for (k, start) in starts.iter_mut().enumerate() {
                *start = place((y + k) as isize - radius as isize, height) * stride;
            }
            let middle = &mut wide[radius * channels..][..stride];
            self.fold(middle, |k| &samples[starts[k]..][..stride]);
            if self.single {
                middle.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            }
            for k in 0..radius {
                for (x, target) in [(k as isize - radius as isize, k), ((width + k) as isize, width + radius + k)] {
                    let source = (place(x, width) + radius) * channels;
                    wide.copy_within(source..source + channels, target * channels);
                }
            }
            self.fold(&mut out, |k| &wide[k * channels..][..stride]);
            if self.single {
                out.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            }
            row(y, &out);
        }
    }

    /// The filtered samples.
    pub(super) fn filter(&self, samples: &[f64], shape: Shape, border: Border) -> Vec<f64> {
        let mut out = Vec::with_capacity(samples.len());
        self.rows(samples, shape, border, |_, row| out.extend_from_slice(row));
        out
    }

    /// `out` = the weighted sum of the slices `tap(0)` to `tap(2 radius)`, all as long as `out`: the centre
    /// first, then pairs of equal weight from the outermost inward. That is SciPy's order; another one differs
    /// in the last bits, which truncation to bytes makes visible on flat areas.
    fn fold<'a>(&self, out: &mut [f64], tap: impl Fn(usize) -> &'a [f64]) {
        const BLOCK: usize = 16;
        let whole = out.len() / BLOCK * BLOCK;
        for at in (0..whole).step_by(BLOCK) {
            self.block::<BLOCK>(&mut out[at..], at, &tap);
        }
        for at in whole..out.len() {
            self.block::<1>(&mut out[at..], at, &tap);
        }
    }

    /// The same for `N` neighbouring values, which stay in registers over all taps.
    #[inline]
    fn block<'a, const N: usize>(&self, out: &mut [f64], at: usize, tap: &impl Fn(usize) -> &'a [f64]) {
        let radius = self.radius();
        let mut sum = [0.0; N];
        for (s, x) in sum.iter_mut().zip(&tap(radius)[at..at + N]) {
            *s = x * self.half[0];
        }
        for (distance, &weight) in self.half.iter().enumerate().skip(1).rev() {
            let before = &tap(radius - distance)[at..at + N];
            let after = &tap(radius + distance)[at..at + N];
            for ((s, a), b) in sum.iter_mut().zip(before).zip(after) {
                *s += (a + b) * weight;
            }
        }
        out[..N].copy_from_slice(&sum);
    }
}

/// NumPy's sum: eight running sums, added in pairs; halves from 129 numbers on.
fn pairwise_sum(x: &[f64]) -> f64 {
    if x.len() < 8 {
        return x.iter().sum();
    }
    if x.len() > 128 {
        let half = x.len() / 2;
        let (low, high) = x.split_at(half - half % 8);
        return pairwise_sum(low) + pairwise_sum(high);
    }
    let mut r = [0.0; 8];
    let mut blocks = x.chunks_exact(8);
    for block in &mut blocks {
        for (r, x) in r.iter_mut().zip(block) {
            *r += x;
        }
    }
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    blocks.remainder().iter().fold(sum, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radii_are_those_of_the_benchmark() {
        let radii = [0.05, 0.25, 0.4, 0.6, 0.7, 0.8, 1.0, 6.0].map(|sigma| Gaussian::image(sigma).radius());
        assert_eq!(radii, [0, 1, 2, 2, 3, 3, 4, 24]);
        assert_eq!(Gaussian::new(0.0, 3.0).radius(), 0);
        let weights = Gaussian::image(6.0).half;
        let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
        assert!((sum - 1.0).abs() < 1e-15);
        assert!((weights[3] / weights[0] - (-9.0f64 / 72.0).exp()).abs() < 1e-15);
    }

    #[test]
    fn sums_of_numbers() {
        for n in [0usize, 3, 8, 9, 31, 128, 129, 1000] {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            assert_eq!(pairwise_sum(&x), (n * n.saturating_sub(1) / 2) as f64);
        }
    }

    /// The two passes against the double sum of the definition, at odd sizes and radii beyond the image.
    #[test]
    fn passes_equal_the_double_sum() {
        let gaussian = Gaussian::image(1.3);
        let weight = |i: isize| gaussian.half[i.unsigned_abs()];
        for (width, height, channels) in [(1, 1, 3), (5, 3, 1), (7, 2, 3), (11, 13, 2)] {
            let shape = Shape { width, height, channels };
            let x: Vec<f64> = (0..width * height * channels).map(|i| ((i * 37) % 11) as f64).collect();
            for (border, place) in [(Border::Nearest, nearest as fn(_, _) -> _), (Border::Symmetric, symmetric)] {
                let got = gaussian.filter(&x, shape, border);
                let radius = gaussian.radius() as isize;
                for (i, got) in got.iter().enumerate() {
                    let (y, rest) = (i / (width * channels), i % (width * channels));
                    let (column, c) = ((rest / channels) as isize, rest % channels);
                    let mut sum = 0.0;
                    for a in -radius..=radius {
                        for b in -radius..=radius {
                            let from = place(y as isize + a, height) * width + place(column + b, width);
                            sum += weight(a) * weight(b) * x[from * channels + c];
                        }
                    }
                    assert!((got - sum).abs() < 1e-12, "{width}x{height}x{channels} {border:?}: {got} {sum}");
                }
            }
        }
    }
}
