//! The kernel of the defocus blur, and correlation with it.
//!
//! Few different weights occur in it: a plateau, and a rim with some values, each at several places. So bytes are
//! summed in integers per weight (the plateau by differences of running sums along the rows), and every sum is
//! multiplied once.

use super::pixels::{CHANNELS, UNIT, byte, reflect_101};
use image::RgbImage;

/// The places of one weight, as rows and columns from the upper left corner of the kernel.
#[derive(Debug, Clone)]
struct Ring {
    weight: f64,
    places: Vec<(usize, usize)>,
    /// Longer stretches of a row: row, first column, column after the last.
    runs: Vec<(usize, usize, usize)>,
}

/// A disk of ones over their number, softened by a Gaussian filter.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// Centre of the square grid, that has twice as many rows and columns and one.
    reach: usize,
    rings: Vec<Ring>,
}

/// From this length on a stretch of equal weights is summed by differences.
const RUN: usize = 4;
/// The most single places per ring: a 16-bit sum of bytes can't overflow.
const MAX_PLACES: usize = 256;

impl Disk {
    /// `radius` in pixels; `softness` is the deviation of the Gaussian filter (3 x 3, above a radius of 8 pixels
    /// 5 x 5), which reflects at the edge of the grid. Where the disk touches that edge (radius 8 and 10) the weights
    /// sum to 1.01, as in the published sets.
    pub(super) fn new(radius: f64, softness: f64) -> Self {
        let reach = if radius <= 8.0 { 8 } else { radius as usize };
        let weights = weights(radius, softness, reach);
        let mut rings: Vec<Ring> = vec![];
        let mut add = |weight: f32, row: usize, from: usize, to: usize| {
            let weight = f64::from(weight);
            let short = to - from < RUN;
            let room = |ring: &Ring| ring.weight == weight && (!short || ring.places.len() + RUN < MAX_PLACES);
            let index = rings.iter().position(room).unwrap_or_else(|| {
                rings.push(Ring { weight, places: vec![], runs: vec![] });
                rings.len() - 1
            });
            if short {
                rings[index].places.extend((from..to).map(|column| (row, column)));
            } else {
                rings[index].runs.push((row, from, to));
            }
        };
        for (y, row) in weights.chunks_exact(2 * reach + 1).enumerate() {
            let mut from = 0;
            for stretch in row.chunk_by(|a, b| a == b) {
                if stretch[0] != 0.0 {
                    add(stretch[0], y, from, from + stretch.len());
                }
                from += stretch.len();
            }
        }
        Disk { reach, rings }
    }

    /// Correlates each channel; beyond the edge the image is reflected at its outermost pixels.
    pub(super) fn correlate(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut out = image.clone();
        if width == 0 || height == 0 {
            return out;
        }
        let length = width * CHANNELS;
        let stride = (width + 2 * self.reach) * CHANNELS;
        // Reflected rows, and their running sums per channel, with a first pixel of zeros.
        let mut wide = vec![0u16; stride * height];
        let mut running = vec![0u32; (stride + CHANNELS) * height];
        for (y, row) in image.as_raw().chunks_exact(length).enumerate() {
            let wide = &mut wide[y * stride..][..stride];
            let running = &mut running[y * (stride + CHANNELS)..][..stride + CHANNELS];
            for (x, pixel) in wide.chunks_exact_mut(CHANNELS).enumerate() {
                let source = reflect_101(x as isize - self.reach as isize, width) * CHANNELS;
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = u16::from(row[source + c]);
                }
            }
            for (i, &value) in wide.iter().enumerate() {
                running[i + CHANNELS] = running[i] + u32::from(value);
            }
        }
        let row_of = |y: usize, k: usize| reflect_101((y + k) as isize - self.reach as isize, height);
        let (mut places, mut runs) = (vec![], vec![]);
        for (y, out) in out.chunks_exact_mut(length).enumerate() {
            let (wide_row, running_row) = (|k| row_of(y, k) * stride, |k| row_of(y, k) * (stride + CHANNELS));
            places.clear();
            runs.clear();
            for ring in &self.rings {
                places.extend(ring.places.iter().map(|&(row, x)| wide_row(row) + x * CHANNELS));
                runs.extend(
                    ring.runs
                        .iter()
                        .map(|&(row, from, to)| [running_row(row) + from * CHANNELS, running_row(row) + to * CHANNELS]),
                );
            }
            let image = Reflected { wide: &wide, running: &running, places: &places, runs: &runs };
            const BLOCK: usize = 16;
            let whole = length / BLOCK * BLOCK;
            for at in (0..whole).step_by(BLOCK) {
                self.block::<BLOCK>(&image, at, &mut out[at..]);
            }
            for at in whole..length {
                self.block::<1>(&image, at, &mut out[at..]);
            }
        }
        out
    }

    /// `N` neighbouring values, which stay in registers over all rings.
    fn block<const N: usize>(&self, image: &Reflected, at: usize, out: &mut [u8]) {
        let mut sum = [0.0; N];
        let (mut places, mut runs) = (image.places, image.runs);
        for ring in &self.rings {
            let mut small = [0u16; N];
            let (these, others) = places.split_at(ring.places.len());
            for &place in these {
                small.iter_mut().zip(&image.wide[place + at..][..N]).for_each(|(s, x)| *s += x);
            }
            let mut large = small.map(i32::from);
            places = others;
            let (these, others) = runs.split_at(ring.runs.len());
            runs = others;
            for &[before, after] in these {
                let before = &image.running[before + at..][..N];
                let after = &image.running[after + at..][..N];
                for ((large, before), after) in large.iter_mut().zip(before).zip(after) {
                    *large += (after - before) as i32;
                }
            }
            sum.iter_mut().zip(large).for_each(|(sum, s)| *sum += ring.weight * f64::from(s));
        }
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = byte(sum * UNIT[1]);
        }
    }
}

/// An image with reflected margins, as one row of the result sees it.
struct Reflected<'a> {
    /// Bytes, and their running sums per channel with a first pixel of zeros.
    wide: &'a [u16],
    running: &'a [u32],
    /// Where the places and the ends of the runs of all rings are for the first value of the result's row.
    places: &'a [usize],
    runs: &'a [[usize; 2]],
}

/// The square of weights, row by row, in single precision as OpenCV computes it.
fn weights(radius: f64, softness: f64, reach: usize) -> Vec<f32> {
    let side = 2 * reach + 1;
    let place = |i: usize| i as f64 - reach as f64;
    let inside = |y: usize, x: usize| place(x) * place(x) + place(y) * place(y) <= radius * radius;
    let count = (0..side * side).filter(|&i| inside(i / side, i % side)).count();
    let one = 1.0 / count as f32;
    let disk: Vec<f32> = (0..side * side).map(|i| if inside(i / side, i % side) { one } else { 0.0 }).collect();

    let taps: usize = if radius <= 8.0 { 1 } else { 2 };
    let phi: Vec<f64> = (0..=taps).map(|i| (-((i * i) as f64) / (2.0 * softness * softness)).exp()).collect();
    let total = phi[0] + 2.0 * phi[1..].iter().sum::<f64>();
    let half: Vec<f32> = phi.iter().map(|x| (x / total) as f32).collect();
    let filter = |at: &dyn Fn(isize) -> f32| {
        (1..=taps).fold(half[0] * at(0), |sum, i| sum + half[i] * (at(-(i as isize)) + at(i as isize)))
    };
    let reflect = |i: usize, by: isize| reflect_101(i as isize + by, side);
    let across: Vec<f32> =
        (0..side * side).map(|i| filter(&|by| disk[i / side * side + reflect(i % side, by)])).collect();
    (0..side * side).map(|i| filter(&|by| across[reflect(i / side, by) * side + i % side])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_the_weights() {
        // The disk touches the edge of the grid, and reflection counts it twice there.
        for (radius, softness, sum) in [(0.5, 0.6, 1.0), (3.0, 0.1, 1.0), (8.0, 0.5, 1.01298), (10.0, 0.5, 1.01079)] {
            let reach = if radius <= 8.0 { 8 } else { 10 };
            let got: f64 = weights(radius, softness, reach).into_iter().map(f64::from).sum();
            assert!((got - sum).abs() < 1e-5, "{radius}: {got}");
        }
        let centre = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6)].map(|(r, s)| weights(r, s, 8)[8 * 17 + 8]);
        for (got, expected) in centre.into_iter().zip([0.845, 0.619, 0.445]) {
            assert!((got - expected).abs() < 1e-3, "{got}");
        }
    }

    /// Rings and running sums against the double sum over the kernel, where the kernel is larger than the image too.
    #[test]
    fn rings_equal_the_double_sum() {
        for (radius, softness) in [(0.5, 0.6), (4.0, 0.5), (8.0, 0.5), (10.0, 0.5)] {
            let reach = if radius <= 8.0 { 8 } else { 10 };
            let side = 2 * reach + 1;
            let kernel = weights(radius, softness, reach);
            for (width, height) in [(1, 1), (3, 5), (29, 13)] {
                let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 9) as u8, (y * 17) as u8, 255]));
                let got = Disk::new(radius, softness).correlate(&image);
                for (x, y, pixel) in got.enumerate_pixels() {
                    for c in 0..3 {
                        let mut sum = 0.0;
                        for (i, &weight) in kernel.iter().enumerate() {
                            let row = reflect_101((y as usize + i / side) as isize - reach as isize, height as usize);
                            let column = reflect_101((x as usize + i % side) as isize - reach as isize, width as usize);
                            sum += f64::from(weight) * f64::from(image.get_pixel(column as u32, row as u32).0[c]);
                        }
                        let off = f64::from(pixel.0[c]) - sum.min(255.0);
                        assert!(
                            (-1.0 - 1e-9..1e-9).contains(&off),
                            "{radius} {width}x{height} {x} {y}: {sum} {}",
                            pixel.0[c]
                        );
                    }
                }
            }
        }
    }
}
