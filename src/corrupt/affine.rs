//! Affine warps as OpenCV computes them: bilinear, at source places rounded to 1/32 of a pixel.

use super::gaussian::Shape;
use super::pixels::reflect_101;

/// x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine([f64; 6]);

impl Affine {
    /// From the warped image back to its source, for the map that moves three corners of the middle square of a `width`
    /// x `height` image by `shifts` (columns, then rows, of each). Images below 3 pixels have no such square and stay.
    pub(super) fn moved(width: usize, height: usize, shifts: &[f64; 6]) -> Affine {
        let arm = (width.min(height) / 3) as f64;
        if arm == 0.0 {
            return Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        }
        let (x, y) = ((width / 2) as f64, (height / 2) as f64);
        // The corners: p to the lower right, q above it, r to the left of q. The points are held in single precision.
        let moved = |x: f64, y: f64, i: usize| {
            (f64::from(x as f32 + shifts[2 * i] as f32), f64::from(y as f32 + shifts[2 * i + 1] as f32))
        };
        let p = moved(x + arm, y + arm, 0);
        let q = moved(x + arm, y - arm, 1);
        let r = moved(x - arm, y - arm, 2);
        // p - q is the image of (0, 2 arm), q - r that of (2 arm, 0).
        let (xx, yx) = ((q.0 - r.0) / (2.0 * arm), (q.1 - r.1) / (2.0 * arm));
        let (xy, yy) = ((p.0 - q.0) / (2.0 * arm), (p.1 - q.1) / (2.0 * arm));
        let x0 = r.0 - xx * (x - arm) - xy * (y - arm);
        let y0 = r.1 - yx * (x - arm) - yy * (y - arm);
        Affine([xx, xy, x0, yx, yy, y0]).inverse()
    }

    /// The inverse; all zeros where there is none, as in OpenCV.
    fn inverse(self) -> Affine {
        let [a, b, c, d, e, f] = self.0;
        let determinant = a * e - b * d;
        let scale = if determinant == 0.0 { 0.0 } else { 1.0 / determinant };
        let (a, b, d, e) = (e * scale, -b * scale, -d * scale, a * scale);
        Affine([a, b, -a * c - b * f, d, e, -d * c - e * f])
    }
}

/// Fraction bits of a place while it is computed, and of the places at which the image is read.
const BITS: u32 = 10;
const READ_BITS: u32 = 5;
const READ: i64 = 1 << READ_BITS;
const FARTHEST: f64 = 1e12;

/// Reads `samples` at the places to which `back` leads; beyond the edge they are reflected at the outermost pixels.
pub(super) fn warp(samples: &[f32], shape: Shape, back: &Affine) -> Vec<f32> {
    let Shape { width, height, channels } = shape;
    let m = &back.0;
    // Maps that nearly collapse have inverses without bounds; places this far out are far outside in any case.
    let fixed = |x: f64| (x * f64::from(1 << BITS)).round_ties_even().clamp(-FARTHEST, FARTHEST) as i64;
    let across: Vec<(i64, i64)> = (0..width).map(|x| (fixed(m[0] * x as f64), fixed(m[3] * x as f64))).collect();
    let mut out = vec![0.0; samples.len()];
    let rounding = 1 << (BITS - READ_BITS - 1);
    for (y, row) in out.chunks_exact_mut((width * channels).max(1)).enumerate() {
        let x0 = fixed(m[1] * y as f64 + m[2]) + rounding;
        let y0 = fixed(m[4] * y as f64 + m[5]) + rounding;
        for (pixel, &(dx, dy)) in row.chunks_exact_mut(channels).zip(&across) {
            let (px, py) = ((x0 + dx) >> (BITS - READ_BITS), (y0 + dy) >> (BITS - READ_BITS));
            let part = |p: i64| (p & (READ - 1)) as f32 / READ as f32;
            let (fx, fy) = (part(px), part(py));
            let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
            let (left, top) = ((px >> READ_BITS) as isize, (py >> READ_BITS) as isize);
            let rows = [top, top + 1].map(|y| reflect_101(y, height) * width);
            let columns = [left, left + 1].map(|x| reflect_101(x, width));
            let taps = [rows[0] + columns[0], rows[0] + columns[1], rows[1] + columns[0], rows[1] + columns[1]]
                .map(|i| &samples[i * channels..(i + 1) * channels]);
            for (c, out) in pixel.iter_mut().enumerate() {
                *out = taps.iter().zip(weights).fold(0.0, |sum, (tap, weight)| sum + tap[c] * weight);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shift_is_the_identity() {
        for (width, height) in [(1, 1), (2, 7), (9, 4), (32, 32)] {
            let back = Affine::moved(width, height, &[0.0; 6]);
            assert_eq!(back, Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), "{width}x{height}");
            let samples: Vec<f32> = (0..width * height * 3).map(|i| i as f32).collect();
            assert_eq!(warp(&samples, Shape { width, height, channels: 3 }, &back), samples);
        }
    }

    #[test]
    fn equal_shifts_move_the_image() {
        let back = Affine::moved(8, 8, &[1.5, 0.0, 1.5, 0.0, 1.5, 0.0]);
        let samples: Vec<f32> = (0..64).map(|i| (i % 8) as f32).collect();
        let got = warp(&samples, Shape { width: 8, height: 8, channels: 1 }, &back);
        // Places -1.5, -0.5, 0.5, ...: reflected at pixel 0.
        assert_eq!(got[..8], [1.5, 0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]);
    }

    #[test]
    fn the_corners_are_moved_by_their_shifts() {
        let shifts = [1.0, -2.0, 0.5, 3.0, -1.0, 0.25];
        let Affine(m) = Affine::moved(30, 30, &shifts).inverse();
        for ((x, y), shift) in [(25.0, 25.0), (25.0, 5.0), (5.0, 5.0)].into_iter().zip(shifts.chunks_exact(2)) {
            let (to_x, to_y) = (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
            assert!((to_x - x - shift[0]).abs() < 1e-9 && (to_y - y - shift[1]).abs() < 1e-9, "{x} {y}");
        }
        assert_eq!(Affine([1.0, 2.0, 3.0, 2.0, 4.0, 5.0]).inverse().0[..2], [0.0, 0.0]);
    }
}
