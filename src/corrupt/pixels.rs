//! Bytes to numbers and back.

use image::RgbImage;

/// Channels of an RGB image.
pub(super) const CHANNELS: usize = 3;

/// `UNIT[v]` is the byte v as a number in [0, 1].
pub(super) const UNIT: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = i as f64 / 255.0;
        i += 1;
    }
    table
};

/// A number as a byte: clipped to [0, 1], times 255, and cut off, not rounded, as in all published sets.
pub(super) fn byte(x: f64) -> u8 {
    (x.clamp(0.0, 1.0) * 255.0) as u8
}

/// [`byte`] where the published code computes in single precision.
pub(super) fn byte_f32(x: f32) -> u8 {
    (x.clamp(0.0, 1.0) * 255.0) as u8
}

/// The rows of an image; none if it has no pixels.
pub(super) fn rows_mut(image: &mut RgbImage) -> std::slice::ChunksExactMut<'_, u8> {
    let stride = image.width() as usize * CHANNELS;
    let bytes: &mut [u8] = image;
    bytes.chunks_exact_mut(stride.max(1))
}

/// The next integer downward and what is above it. Unlike `f64::floor` this needs no call on processors of the x86-64
/// baseline. Numbers beyond the integers' range saturate.
pub(super) fn floor(x: f64) -> (isize, f64) {
    let cut = x as isize;
    let whole = if (cut as f64) > x { cut - 1 } else { cut };
    (whole, x - whole as f64)
}

/// All values of an image as numbers in [0, 1].
pub(super) fn units(image: &RgbImage) -> Vec<f64> {
    image.as_raw().iter().map(|&v| UNIT[usize::from(v)]).collect()
}

/// The same in single precision: each value is the nearest to v / 255.
pub(super) fn units_f32(image: &RgbImage) -> Vec<f32> {
    let table = UNIT.map(|x| x as f32);
    image.as_raw().iter().map(|&v| table[usize::from(v)]).collect()
}

/// Replaces each value by an entry of the table of its channel.
pub(super) fn look_up(image: &RgbImage, tables: &[[u8; 256]; CHANNELS]) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(CHANNELS) {
        for (value, table) in pixel.iter_mut().zip(tables) {
            *value = table[usize::from(*value)];
        }
    }
    out
}

/// Reflection at the centres of the outermost samples: `c b | a b c | b a`. Any index is allowed.
pub(super) fn reflect_101(index: isize, length: usize) -> usize {
    // Nearly all indices are inside; the division is slow.
    if (0..length as isize).contains(&index) {
        return index as usize;
    }
    if length < 2 {
        return 0;
    }
    let period = 2 * (length - 1);
    let place = index.rem_euclid(period as isize) as usize;
    place.min(period - place)
}

/// Reflection at the edges of the outermost samples: `b a | a b c | c b`. Any index is allowed.
pub(super) fn symmetric(index: isize, length: usize) -> usize {
    // Nearly all indices are inside; the division is slow.
    if (0..length as isize).contains(&index) {
        return index as usize;
    }
    if length < 2 {
        return 0;
    }
    let period = 2 * length;
    let place = index.rem_euclid(period as isize) as usize;
    place.min(period - 1 - place)
}

/// The nearest index within the samples.
pub(super) fn nearest(index: isize, length: usize) -> usize {
    index.clamp(0, length as isize - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_off() {
        assert_eq!(byte(0.999_999), 254);
        assert_eq!([byte(1.0), byte(7.0), byte(-1.0), byte(f64::NAN)], [255, 255, 0, 0]);
        assert_eq!([byte_f32(1.0), byte_f32(-0.5), byte_f32(0.5)], [255, 0, 127]);
    }

    #[test]
    fn floors() {
        assert_eq!([floor(2.5), floor(-2.5), floor(-3.0), floor(0.0)], [(2, 0.5), (-3, 0.5), (-3, 0.0), (0, 0.0)]);
    }

    #[test]
    fn borders_reflect() {
        let walk = |f: fn(isize, usize) -> usize| (-4..8).map(|i| f(i, 3)).collect::<Vec<_>>();
        assert_eq!(walk(reflect_101), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(walk(symmetric), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]);
        assert_eq!(walk(nearest), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!([reflect_101(9, 1), symmetric(-9, 1), nearest(9, 1)], [0, 0, 0]);
    }
}
