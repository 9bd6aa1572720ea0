//! What a JPEG file does to an image, without the file: the round trip of Pillow over libjpeg(-turbo) with its
//! default settings, to the bit. Entropy coding loses nothing and is left out.
//!
//! Colours become luma and two chroma planes of half the size (4:2:0); each plane is transformed in blocks of
//! 8 x 8, quantised (ITU-T T.81, annex K.1), and brought back; the chroma planes are interpolated.

mod colour;
mod dct;
mod sampling;

use image::RgbImage;

/// Side of a block.
const BLOCK: usize = 8;

/// A plane of samples whose sides are filled up to whole blocks.
#[derive(Debug, Clone)]
struct Plane {
    /// Real columns and rows.
    width: usize,
    height: usize,
    /// Columns and rows with what fills the last blocks up.
    stride: usize,
    rows: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn new(width: usize, height: usize) -> Self {
        let (stride, rows) = (width.next_multiple_of(BLOCK), height.next_multiple_of(BLOCK));
        Plane { width, height, stride, rows, samples: vec![0; stride * rows] }
    }

    /// A real row with its filling.
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.stride]
    }

    /// A real row with its filling.
    fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.samples[y * self.stride..][..self.stride]
    }

    /// Repeats the last real row to the end of its blocks.
    fn fill_down(&mut self) {
        let last = (self.height - 1) * self.stride;
        for y in self.height..self.rows {
            self.samples.copy_within(last..last + self.stride, y * self.stride);
        }
    }
}

/// T.81, table K.1 and K.2, row by row.
#[rustfmt::skip]
const LUMA: [u16; 64] = [
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
];
#[rustfmt::skip]
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// A table at a quality of 1 to 100, as libjpeg scales it.
fn steps(base: &[u16; 64], quality: u8) -> [i32; 64] {
    let quality = i32::from(quality.clamp(1, 100));
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    base.map(|entry| ((i32::from(entry) * scale + 50) / 100).clamp(1, 255))
}

/// `image` after being written as a JPEG of `quality` (1 to 100; others are clamped) and read again.
pub fn round_trip(image: &RgbImage, quality: u8) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return image.clone();
    }
    let (mut luma, blue, red) = colour::split(image);
    let (mut blue, mut red) = (sampling::halve(&blue, width, height), sampling::halve(&red, width, height));
    let (luma_steps, chroma_steps) = (steps(&LUMA, quality), steps(&CHROMA, quality));
    dct::quantise(&mut luma, &luma_steps);
    dct::quantise(&mut blue, &chroma_steps);
    dct::quantise(&mut red, &chroma_steps);
    colour::join(&luma, &blue, &red)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_scales_the_tables() {
        assert_eq!(steps(&LUMA, 50), LUMA.map(i32::from));
        assert_eq!(steps(&LUMA, 100), [1; 64]);
        // 5000 / 10 = 500: (16 * 500 + 50) / 100 = 80, and 121 * 5 is clamped.
        assert_eq!((steps(&LUMA, 10)[0], steps(&LUMA, 10)[53]), (80, 255));
        assert_eq!(steps(&CHROMA, 0), steps(&CHROMA, 1));
    }

    #[test]
    fn flat_grey_survives_at_any_size() {
        for (width, height) in [(1, 1), (3, 5), (8, 8), (17, 2), (33, 16)] {
            let image = RgbImage::from_pixel(width, height, image::Rgb([128; 3]));
            assert_eq!(round_trip(&image, 40), image, "{width}x{height}");
        }
        assert_eq!(round_trip(&RgbImage::new(0, 4), 40).dimensions(), (0, 4));
    }
}
