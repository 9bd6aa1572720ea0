//! Pictures at other sizes, as Pillow makes them (`Image.resize`, 8 bits a channel): separable filters that widen where a picture gets
//! smaller, so that nothing is left out, in integers.
//!
//! ```text
//! h[y, x] = clip((2^21 + sum over i of weights_x[i] s[y, first_x + i]) >> 22)        along rows first
//! p[y, x] = clip((2^21 + sum over j of weights_y[j] h[first_y + j, x]) >> 22)        then along columns
//! ```
//!
//! Pillow's later versions go along columns first where that is less work, which is nowhere where pictures get larger both ways.
//!
//! Weights are filter values at the distances of source pixels from the centre of a target pixel, over their sum, times 2^22.
//! `gather.wgsl` does the same with the same weights, to the bit.

use std::ops::Range;

use crate::error::{Error, Result};

/// Bits behind the point of a weight: 32 but for those of a pixel, a sign and one to be safe.
const BITS: u32 = 22;

/// How pixels between pixels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// A triangle over two pixels.
    #[default]
    Bilinear,
    /// Cubic pieces over four pixels, with the slope -1/2 of Keys (1981).
    Bicubic,
}

impl Filter {
    /// How far it reaches, in pixels of the larger picture's distance.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn value(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Bicubic => 0.0,
        }
    }
}

/// What each target pixel along one axis takes of which source pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    /// Weights of each target pixel, filled up with zeros.
    width: usize,
    /// First source pixel and number of weights, by target pixel.
    ranges: Vec<[usize; 2]>,
    weights: Vec<i32>,
}

impl Taps {
    /// Those from `source` pixels to `target`.
    pub fn of(filter: Filter, source: usize, target: usize) -> Self {
        Self::within(filter, source, target, 0..target)
    }

    /// Those of some of the target pixels.
    fn within(filter: Filter, source: usize, target: usize, places: Range<usize>) -> Self {
        let scale = source as f64 / target.max(1) as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let width = 2 * support.ceil() as usize + 1;
        let (mut ranges, mut weights) = (vec![], vec![]);
        for place in places {
            let centre = (place as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let own: Vec<f64> =
                (first..end).map(|pixel| filter.value((pixel as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = own.iter().sum();
            let fixed = |value: &f64| {
                let value = if sum == 0.0 { *value } else { value / sum } * f64::from(1 << BITS);
                // Half away from zero.
                (value + 0.5f64.copysign(value)) as i32
            };
            ranges.push([first, own.len()]);
            weights.extend(own.iter().map(fixed).chain(std::iter::repeat(0)).take(width));
        }
        Taps { width, ranges, weights }
    }

    /// Most weights of a target pixel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// For each target pixel its first source pixel, the number of weights, and these, filled up with zeros to `stride` words.
    pub fn words(&self, stride: usize) -> Vec<u32> {
        let mut words = Vec::with_capacity(stride * self.ranges.len());
        for (range, weights) in self.ranges.iter().zip(self.weights.chunks_exact(self.width)) {
            let own = range.iter().map(|&number| number as u32).chain(weights.iter().map(|&weight| weight as u32));
            words.extend(own.chain(std::iter::repeat(0)).take(stride));
        }
        words
    }

    /// The source pixels that some target pixel takes something of.
    fn reach(&self) -> Range<usize> {
        let first = self.ranges.iter().map(|range| range[0]).min().unwrap_or(0);
        first..self.ranges.iter().map(|range| range[0] + range[1]).max().unwrap_or(first)
    }

    /// A target pixel of the source pixels that `of` tells.
    fn pixel(&self, place: usize, of: impl Fn(usize) -> u8) -> u8 {
        let [first, count] = self.ranges[place];
        let weights = &self.weights[place * self.width..][..count];
        let sum: i32 = weights.iter().zip(first..).map(|(weight, source)| weight * i32::from(of(source))).sum();
        ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
    }
}

/// Whether what is seen has more rows or columns than a picture, which then is made larger.
pub fn is_larger(seen: [usize; 2], sides: [usize; 2]) -> bool {
    seen[0] > sides[0] || seen[1] > sides[1]
}

/// A picture of rows, columns and channels at other rows and columns.
///
/// # Errors
/// If there are not as many bytes, or a side is 0.
pub fn resize(picture: &[u8], shape: [usize; 3], sides: [usize; 2], filter: Filter) -> Result<Vec<u8>> {
    resize_window(picture, shape, sides, Window { at: [0, 0], sides }, filter)
}

/// A part of a picture: its first row and column, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// First row and column.
    pub at: [usize; 2],
    /// Rows and columns.
    pub sides: [usize; 2],
}

/// What [`resize`] makes, but only a part of it: nothing else is computed, or takes memory.
///
/// # Errors
/// Those of [`resize`], or if the part lies outside.
pub fn resize_window(
    picture: &[u8],
    [height, width, channels]: [usize; 3],
    [rows, columns]: [usize; 2],
    window: Window,
    filter: Filter,
) -> Result<Vec<u8>> {
    if picture.len() != height * width * channels {
        return Err(Error::shape("picture", format!("{} bytes", height * width * channels), picture.len()));
    }
    if [height, width, rows, columns].contains(&0) {
        let why = format!("{height}x{width} to {rows}x{columns}: a side is 0");
        return Err(Error::invalid("resize", why));
    }
    let Window { at: [top, left], sides: [tall, broad] } = window;
    if rows.checked_sub(tall).is_none_or(|most| top > most) || columns.checked_sub(broad).is_none_or(|most| left > most)
    {
        let why = format!("{tall}x{broad} from row {top} and column {left} is not within {rows}x{columns}");
        return Err(Error::invalid("resize", why));
    }
    let across = Taps::within(filter, width, columns, left..left + broad);
    let down = Taps::within(filter, height, rows, top..top + tall);
    let (reach, line) = (down.reach(), broad * channels);
    let mut wide = Vec::with_capacity(reach.len() * line);
    for row in picture.chunks_exact(width * channels).skip(reach.start).take(reach.len()) {
        for column in 0..broad {
            wide.extend((0..channels).map(|c| across.pixel(column, |source| row[source * channels + c])));
        }
    }
    let mut resized = Vec::with_capacity(tall * line);
    for row in 0..tall {
        resized.extend((0..line).map(|at| down.pixel(row, |source| wide[(source - reach.start) * line + at])));
    }
    Ok(resized)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes of a picture by a hash of their places, as `peers/resize_pillow.py` has them.
    pub fn picture([height, width, channels]: [usize; 3]) -> Vec<u8> {
        let byte = |place: usize| {
            let mut z = (place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (z >> 56) as u8
        };
        (0..height * width * channels).map(byte).collect()
    }

    /// A sum that places and values decide.
    pub fn digest(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    #[test]
    fn pictures_are_pillow_s() {
        let cases: serde_json::Value = serde_json::from_str(include_str!("../../tests/golden/resize.json")).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let source = [0, 1, 2].map(|axis| number(&case["source"][axis]));
            let target = [0, 1].map(|axis| number(&case["target"][axis]));
            let filter = if case["filter"] == "bicubic" { Filter::Bicubic } else { Filter::Bilinear };
            let resized = resize(&picture(source), source, target, filter).unwrap();
            let first: Vec<usize> = resized.iter().take(12).map(|&byte| byte.into()).collect();
            let want: Vec<usize> = case["first"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(first, want, "{case}");
            assert_eq!(format!("{:016x}", digest(&resized)), case["digest"].as_str().unwrap(), "{case}");
        }
    }

    #[test]
    fn a_part_is_cut_out_of_the_whole() {
        let source = [23, 31, 3];
        for sides in [[11, 17], [40, 50], [23, 31], [9, 60]] {
            let whole = resize(&picture(source), source, sides, Filter::Bilinear).unwrap();
            for window in [
                Window { at: [0, 0], sides: [1, 1] },
                Window { at: [3, 5], sides: [4, 9] },
                Window { at: [sides[0] - 2, sides[1] - 7], sides: [2, 7] },
            ] {
                let part = resize_window(&picture(source), source, sides, window, Filter::Bilinear).unwrap();
                let row =
                    |row: usize| &whole[((window.at[0] + row) * sides[1] + window.at[1]) * 3..][..3 * window.sides[1]];
                let want: Vec<u8> = (0..window.sides[0]).flat_map(|r| row(r).to_vec()).collect();
                assert_eq!(part, want, "{sides:?} {window:?}");
            }
            for (at, own) in [([0, 0], [99, 1]), ([0, sides[1]], [1, 1]), ([usize::MAX, 0], [1, 1])] {
                let window = Window { at, sides: own };
                assert!(resize_window(&picture(source), source, sides, window, Filter::Bilinear).is_err());
            }
        }
    }

    #[test]
    fn pictures_of_the_same_size_stay() {
        let source = [7, 5, 3];
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            assert_eq!(resize(&picture(source), source, [7, 5], filter).unwrap(), picture(source));
            let even = vec![201; 9 * 8];
            assert_eq!(resize(&even, [9, 8, 1], [31, 3], filter).unwrap(), vec![201; 31 * 3]);
        }
        assert!(resize(&[1, 2], [1, 1, 3], [2, 2], Filter::Bilinear).is_err());
        assert!(resize(&[1, 2, 3], [1, 1, 3], [0, 2], Filter::Bilinear).is_err());
    }
}
