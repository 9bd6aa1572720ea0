//! Pillow's BOX filter, to the bit: per axis whole pixels (no part of a pixel is ever taken), in 22-bit fixed
//! point, columns first, rounded to bytes between the passes.

use super::pixels::CHANNELS;
use image::RgbImage;

const BITS: u32 = 22;

/// Inputs of one output: the first, and their weights in fixed point.
type Taps = (usize, Vec<i32>);

/// The outputs along an axis of `from` pixels resized to `to`.
fn axis(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let filter = scale.max(1.0);
    let support = 0.5 * filter;
    let taps = (0..to).map(|i| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let covers = |t: usize| {
            let place = (t as f64 - centre + 0.5) / filter;
            if place > -0.5 && place <= 0.5 { 1.0 } else { 0.0 }
        };
        let sum: f64 = (first..end).map(covers).sum();
        let norm = if sum > 0.0 { 1.0 / sum } else { 0.0 };
        let fixed = |t| (covers(t) * norm * f64::from(1 << BITS) + 0.5) as i32;
        (first, (first..end).map(fixed).collect())
    });
    taps.collect()
}

fn fixed_to_byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// `image` at `width` x `height` pixels (both at least 1).
pub(super) fn resize(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let (from_width, from_height) = (image.width() as usize, image.height() as usize);
    let across = axis(from_width, width);
    let mut narrow = vec![0u8; width * from_height * CHANNELS];
    for (row, out) in image.as_raw().chunks_exact(from_width * CHANNELS).zip(narrow.chunks_exact_mut(width * CHANNELS))
    {
        for ((first, weights), out) in across.iter().zip(out.chunks_exact_mut(CHANNELS)) {
            let mut sum = [1 << (BITS - 1); CHANNELS];
            for (weight, pixel) in weights.iter().zip(row[first * CHANNELS..].chunks_exact(CHANNELS)) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            for (out, sum) in out.iter_mut().zip(sum) {
                *out = fixed_to_byte(sum);
            }
        }
    }
    let stride = width * CHANNELS;
    let mut out = RgbImage::new(width as u32, height as u32);
    let mut sums = vec![0; stride];
    for ((first, weights), out) in axis(from_height, height).iter().zip(out.chunks_exact_mut(stride)) {
        sums.fill(1 << (BITS - 1));
        for (weight, row) in weights.iter().zip(narrow[first * stride..].chunks_exact(stride)) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = fixed_to_byte(sum);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pixels_only() {
        // 32 to 30: most outputs are one pixel, some the mean of two; none a fraction.
        let taps = axis(32, 30);
        assert!(taps.iter().all(|(_, weights)| weights.iter().filter(|&&w| w > 0).count() <= 2));
        assert!(taps.iter().any(|(_, weights)| weights.contains(&(1 << BITS))));
    }

    #[test]
    fn halving_takes_the_mean_and_doubling_repeats() {
        let image = RgbImage::from_fn(4, 2, |x, y| image::Rgb([(x * 10 + y * 2) as u8; 3]));
        let half = resize(&image, 2, 1);
        // (0 + 10) / 2 = 5 and (2 + 12) / 2 = 7, mean 6; the same 20 further on.
        assert_eq!(half.as_raw()[..], [6, 6, 6, 26, 26, 26]);
        let back = resize(&half, 4, 2);
        assert_eq!(back.as_raw()[..12], [6, 6, 6, 6, 6, 6, 26, 26, 26, 26, 26, 26]);
        assert_eq!(back.as_raw()[..12], back.as_raw()[12..]);
    }
}
