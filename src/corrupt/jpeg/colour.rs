//! RGB to luma and chroma and back (JFIF 1.02), in 16-bit fixed point.

use super::Plane;
use super::sampling::Doubled;
use image::RgbImage;

const HALF: i32 = 1 << 15;
/// 128 in fixed point, rounded down at ties as libjpeg's tables are.
const CENTRE: i32 = (128 << 16) + HALF - 1;

/// Luma in whole blocks, and both chroma planes at full size without filling (`width` x `height`).
pub(super) fn split(image: &RgbImage) -> (Plane, Vec<u8>, Vec<u8>) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut luma = Plane::new(width, height);
    let mut blue = vec![0; width * height];
    let mut red = vec![0; width * height];
    let rows = image.as_raw().chunks_exact(width * 3);
    let chroma = blue.chunks_exact_mut(width).zip(red.chunks_exact_mut(width));
    for ((y, pixels), (blue, red)) in rows.enumerate().zip(chroma) {
        let row = luma.row_mut(y);
        let outs = row.iter_mut().zip(blue.iter_mut().zip(red.iter_mut()));
        for (pixel, (luma, (blue, red))) in pixels.chunks_exact(3).zip(outs) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
            *luma = ((19595 * r + 38470 * g + 7471 * b + HALF) >> 16) as u8;
            *blue = ((-11059 * r - 21709 * g + 32768 * b + CENTRE) >> 16) as u8;
            *red = ((32768 * r - 27439 * g - 5329 * b + CENTRE) >> 16) as u8;
        }
        let last = row[width - 1];
        row[width..].fill(last);
    }
    luma.fill_down();
    (luma, blue, red)
}

/// The image of a luma plane and two chroma planes of half its size.
pub(super) fn join(luma: &Plane, blue: &Plane, red: &Plane) -> RgbImage {
    let mut out = RgbImage::new(luma.width as u32, luma.height as u32);
    let (mut blue, mut red) = (Doubled::new(blue), Doubled::new(red));
    for (y, pixels) in out.chunks_exact_mut(luma.width * 3).enumerate() {
        let chroma = blue.row(y).iter().zip(red.row(y));
        for ((pixel, &luma), (&blue, &red)) in pixels.chunks_exact_mut(3).zip(luma.row(y)).zip(chroma) {
            let (y, b, r) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
            let values = [
                y + ((91881 * r + HALF) >> 16),
                y + ((-22554 * b - 46802 * r + HALF) >> 16),
                y + ((116_130 * b + HALF) >> 16),
            ];
            for (out, value) in pixel.iter_mut().zip(values) {
                *out = value.clamp(0, 255) as u8;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries() {
        let image = RgbImage::from_raw(3, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 255]).unwrap();
        let (luma, blue, red) = split(&image);
        assert_eq!(luma.samples[..8], [76, 150, 29, 29, 29, 29, 29, 29]);
        assert_eq!(luma.row(0), luma.row(7));
        assert_eq!((blue, red), (vec![85, 44, 255], vec![255, 21, 107]));
    }
}
