//! How opaque the water of the spatter corruption is: lit from one side along the rims of its drops.

use super::canny;
use super::pixels::reflect_101;

/// Rims are sought between these gradients.
const LOW: i32 = 50;
const HIGH: i32 = 150;
/// Distances from a rim beyond this count as this, in pixels.
const FAR: f32 = 20.0;
/// Light from the upper left: a correlation kernel.
const LIGHT: [i32; 9] = [-2, -1, 0, -1, 1, 1, 0, 1, 2];

/// Opacity per pixel, at most `amount`, of a liquid layer (0 where it is dry). Where nothing is wet and lit, as happens
/// on very small images, nothing is opaque (the published code divides 0 by 0).
pub(super) fn opacity(liquid: &[f64], width: usize, height: usize, amount: f32) -> Vec<f32> {
    // NumPy's conversion of numbers above 255 keeps the lower eight bits.
    let liquid: Vec<u8> = liquid.iter().map(|x| (x * 255.0) as i32 as u8).collect();
    let rims = canny::edges(&liquid, width, height, LOW, HIGH);
    let distance = canny::distance(&rims, width, height).into_iter().map(|d| d.min(FAR)).collect::<Vec<_>>();
    let near =
        correlate(&distance, width, height, |taps| (taps.iter().map(|&d| f64::from(d)).sum::<f64>() / 9.0) as u8);
    let equal = equalize(&near);
    let lit = correlate(&equal, width, height, |taps| {
        taps.iter().zip(LIGHT).map(|(&v, weight)| i32::from(v) * weight).sum::<i32>().clamp(0, 255) as u8
    });
    // A sum over nine is never half-way between two integers.
    let lit =
        correlate(&lit, width, height, |taps| ((taps.iter().map(|&v| u32::from(v)).sum::<u32>() * 2 + 9) / 18) as u8);
    let mut opacity: Vec<f32> = liquid.iter().zip(lit).map(|(&a, b)| f32::from(a) * f32::from(b)).collect();
    let most = opacity.iter().copied().fold(0.0, f32::max);
    if most > 0.0 {
        opacity.iter_mut().for_each(|x| *x = *x / most * amount);
    }
    opacity
}

/// Passes the 3 x 3 neighbourhood of each place, row by row, through `f`; reflected at the outermost places.
fn correlate<T: Copy>(plane: &[T], width: usize, height: usize, f: impl Fn([T; 9]) -> u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(plane.len());
    for y in 0..height {
        let rows = [-1, 0, 1].map(|by| &plane[reflect_101(y as isize + by, height) * width..][..width]);
        for x in 0..width {
            let columns = match x {
                0 => [-1, 0, 1].map(|by| reflect_101(by, width)),
                _ if x + 1 == width => [x - 1, x, reflect_101(width as isize, width)],
                _ => [x - 1, x, x + 1],
            };
            out.push(f(std::array::from_fn(|i| rows[i / 3][columns[i % 3]])));
        }
    }
    out
}

/// OpenCV's histogram equalisation: the lowest level that occurs becomes 0, the highest 255. A plane of one level
/// stays.
fn equalize(plane: &[u8]) -> Vec<u8> {
    let mut histogram = [0usize; 256];
    for &value in plane {
        histogram[usize::from(value)] += 1;
    }
    let lowest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let above = plane.len() - histogram[lowest];
    if above == 0 {
        return plane.to_vec();
    }
    let scale = 255.0 / above as f32;
    let mut sum = 0;
    let mut table = [0u8; 256];
    for (entry, count) in table.iter_mut().zip(histogram).skip(lowest + 1) {
        sum += count;
        *entry = (sum as f32 * scale).round_ties_even() as u8;
    }
    plane.iter().map(|&value| table[usize::from(value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_spread() {
        assert_eq!(equalize(&[5, 5, 7, 7, 9, 20]), [0, 0, 128, 128, 191, 255]);
        assert_eq!(equalize(&[5, 5]), [5, 5]);
        assert!(equalize(&[]).is_empty());
    }

    #[test]
    fn neighbourhoods_reflect() {
        let sum = |taps: [u8; 9]| taps.iter().sum();
        assert_eq!(correlate(&[1u8], 1, 1, sum), [9]);
        // Row 1 2 3 on its own: each row of the neighbourhood is the same; ends see 2 1 2 and 2 3 2.
        assert_eq!(correlate(&[1u8, 2, 3], 3, 1, sum), [15, 18, 21]);
    }

    #[test]
    fn a_dry_layer_has_no_opacity() {
        assert!(opacity(&[0.0; 20], 5, 4, 0.5).iter().all(|&x| x == 0.0));
        // A single wet pixel has no rim: everything is equally far from one, and it is as opaque as can be.
        assert_eq!(opacity(&[0.9], 1, 1, 0.5), [0.5]);
    }
}
