//! Glass blur.

use super::draws::Draws;
use super::gaussian::Gaussian;
use super::gaussian_blur::blur;
use super::kind::{Constants, Severity};
use super::pixels::CHANNELS;
use crate::error::Result;
use image::RgbImage;

/// A slight blur, pixels moved at random from nearby, and the blur again.
///
/// Draws: for each pass over the pixels from the lower right to the upper left, without a margin, two integers in
/// `-reach..reach`: columns, then rows, to the source. The upper end is never drawn, so that pixels come from above
/// and from the left more often. The published code means to swap the two pixels, but swaps views of the array, which
/// copies the source over the target and leaves the source as it is. So does this.
pub(super) fn apply(
    image: &RgbImage,
    severity: Severity,
    constants: Constants,
    draws: &mut dyn Draws,
) -> Result<RgbImage> {
    let cifar = [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)];
    let image_net = [(0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)];
    let (sigma, reach, passes): (f64, usize, usize) = severity.of(&constants.of(cifar, image_net));
    let gaussian = Gaussian::image(sigma);
    let mut out = image.clone();
    blur(&mut out, &gaussian);
    for _ in 0..passes {
        shuffle(&mut out, reach, draws)?;
    }
    blur(&mut out, &gaussian);
    Ok(out)
}

/// One pass. Images of at most 2 `reach` pixels along a side have no place that moves.
fn shuffle(image: &mut RgbImage, reach: usize, draws: &mut dyn Draws) -> Result<()> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width.min(height) <= 2 * reach {
        return Ok(());
    }
    let pixels: &mut [u8] = image;
    let mut shifts = vec![0; 2 * (width - 2 * reach)];
    for y in (reach + 1..=height - reach).rev() {
        draws.integer(-(reach as i32), reach as i32, &mut shifts)?;
        for (x, shift) in (reach + 1..=width - reach).rev().zip(shifts.chunks_exact(2)) {
            // Both stay inside: the places keep `reach` from the ends, and the largest shift is `reach - 1`.
            let source_x = (x as isize + shift[0] as isize) as usize;
            let source_y = (y as isize + shift[1] as isize) as usize;
            let source = (source_y * width + source_x) * CHANNELS;
            let pixel = [pixels[source], pixels[source + 1], pixels[source + 2]];
            let target = (y * width + x) * CHANNELS;
            pixels[target..target + CHANNELS].copy_from_slice(&pixel);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::draws::Recorded;
    use super::*;

    #[test]
    fn the_source_is_left_as_it_is() {
        // 4 x 4 pixels, reach 1: rows 3 and 2, columns 3 and 2. Only the first place moves: from (2, 2).
        let mut image = RgbImage::from_fn(4, 4, |x, y| image::Rgb([(10 * y + x) as u8; 3]));
        let before = image.clone();
        let mut draws = Recorded::new(vec![-1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        shuffle(&mut image, 1, &mut draws).unwrap();
        assert_eq!(draws.remaining(), 0);
        for (x, y, pixel) in image.enumerate_pixels() {
            let expected = if (x, y) == (3, 3) { 22 } else { before.get_pixel(x, y).0[0] };
            assert_eq!(pixel.0[0], expected, "{x} {y}");
        }
    }

    #[test]
    fn small_images_have_no_place_that_moves() {
        for (width, height) in [(1, 1), (2, 9), (9, 2), (1, 5)] {
            let mut image = RgbImage::new(width, height);
            shuffle(&mut image, 1, &mut Recorded::new(vec![]).unwrap()).unwrap();
        }
        // Three columns have one that moves.
        shuffle(&mut RgbImage::new(3, 3), 1, &mut Recorded::new(vec![0.0, 0.0]).unwrap()).unwrap();
    }
}
