//! ImageMagick's motion blur (`MotionBlurImage` of version 6.9, 16 bits per sample): a kernel of one side only,
//! laid along a line.

use super::gaussian::Shape;
use super::pixels::nearest;

/// The kernel: taps at whole pixels along a direction, the first at the pixel itself.
#[derive(Debug, Clone)]
pub(super) struct Streak {
    /// Rows down and columns to the right of each tap, and its weight.
    taps: Vec<(isize, isize, f64)>,
}

impl Streak {
    /// `radius` in pixels, `sigma` of the one-sided Gaussian weights in taps, `angle` in degrees (0 reads from
    /// the right, 90 from below).
    pub(super) fn new(radius: f64, sigma: f64, angle: f64) -> Self {
        let count = 2 * radius.ceil() as usize + 1;
        let weights: Vec<f64> = (0..count).map(|i| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let (sin, cos) = angle.to_radians().sin_cos();
        let offset = |i: usize, step: f64| (i as f64 * step - 0.5).ceil() as isize;
        let taps = weights.iter().enumerate().map(|(i, w)| (offset(i, sin), offset(i, cos), w / sum)).collect();
        Streak { taps }
    }

    /// The blurred bytes. Beyond the edge lies its nearest pixel.
    ///
    /// A byte v becomes 257 v, the sum is rounded to the nearest 16-bit level, and the way back cuts off.
    pub(super) fn blur(&self, samples: &[u8], shape: Shape) -> Vec<u8> {
        let Shape { width, height, channels } = shape;
        let reach =
            |side: fn(isize) -> isize| self.taps.iter().map(|tap| side(tap.1).max(0)).max().unwrap_or(0) as usize;
        let (left, right) = (reach(|x| -x), reach(|x| x));
        let stride = (left + width + right) * channels;
        let mut wide = vec![0.0; stride * height];
        for (row, wide) in samples.chunks_exact((width * channels).max(1)).zip(wide.chunks_exact_mut(stride.max(1))) {
            for (x, pixel) in wide.chunks_exact_mut(channels).enumerate() {
                let source = nearest(x as isize - left as isize, width) * channels;
                for (wide, &value) in pixel.iter_mut().zip(&row[source..source + channels]) {
                    *wide = 257.0 * f64::from(value);
                }
            }
        }
        let length = width * channels;
        let mut out = vec![0; length * height];
        let mut starts = vec![0; self.taps.len()];
        for (y, out) in out.chunks_exact_mut(length.max(1)).enumerate() {
            for (start, &(dy, dx, _)) in starts.iter_mut().zip(&self.taps) {
                let row = nearest(y as isize + dy, height);
                *start = row * stride + (left as isize + dx) as usize * channels;
            }
            const BLOCK: usize = 8;
            let whole = length / BLOCK * BLOCK;
            for at in (0..whole).step_by(BLOCK) {
                self.block::<BLOCK>(&wide, &starts, at, out);
            }
            for at in whole..length {
                self.block::<1>(&wide, &starts, at, out);
            }
        }
        out
    }

    /// `N` neighbouring values, which stay in registers over all taps.
    #[inline]
    fn block<const N: usize>(&self, wide: &[f64], starts: &[usize], at: usize, out: &mut [u8]) {
        let mut sum = [0.0; N];
        for (&start, &(_, _, weight)) in starts.iter().zip(&self.taps) {
            for (s, x) in sum.iter_mut().zip(&wide[start + at..start + at + N]) {
                *s += weight * x;
            }
        }
        for (out, s) in out[at..at + N].iter_mut().zip(sum) {
            *out = ((s + 0.5) as u32 / 257) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_lie_on_one_side() {
        let streak = Streak::new(6.0, 1.5, 0.0);
        assert_eq!(streak.taps.len(), 13);
        assert_eq!(streak.taps.iter().map(|tap| tap.1).collect::<Vec<_>>(), (0..13).collect::<Vec<_>>());
        assert!(streak.taps.iter().all(|tap| tap.0 == 0));
        assert!((streak.taps.iter().map(|tap| tap.2).sum::<f64>() - 1.0).abs() < 1e-15);
        let down = Streak::new(2.0, 1.0, 90.0);
        assert_eq!(
            down.taps.iter().map(|tap| (tap.0, tap.1)).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]
        );
    }

    #[test]
    fn flat_images_stay_and_tiny_ones_work() {
        for (width, height, channels) in [(1, 1, 3), (3, 5, 3), (50, 2, 1)] {
            let shape = Shape { width, height, channels };
            for value in [0, 1, 128, 255] {
                let flat = vec![value; width * height * channels];
                assert_eq!(Streak::new(20.0, 15.0, -37.0).blur(&flat, shape), flat);
            }
        }
    }
}
