//! A small font for labels in pictures.

use image::{Rgb, RgbImage};

/// Columns and rows of a letter.
const WIDTH: u32 = 5;
const HEIGHT: u32 = 7;
/// Letters that hang below the line, and by how many rows.
const HANGING: &str = "gpqy";
const HANG: u32 = 2;

/// Letters by their rows from the top; the lowest five bits of a row are its columns, the highest of them on the left.
const LETTERS: [(char, [u8; 7]); 38] = [
    ('a', [0b00000, 0b00000, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111]),
    ('b', [0b10000, 0b10000, 0b11110, 0b10001, 0b10001, 0b10001, 0b11110]),
    ('c', [0b00000, 0b00000, 0b01111, 0b10000, 0b10000, 0b10000, 0b01111]),
    ('d', [0b00001, 0b00001, 0b01111, 0b10001, 0b10001, 0b10001, 0b01111]),
    ('e', [0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110]),
    ('f', [0b00011, 0b00100, 0b01110, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('g', [0b01111, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110]),
    ('h', [0b10000, 0b10000, 0b11110, 0b10001, 0b10001, 0b10001, 0b10001]),
    ('i', [0b00100, 0b00000, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('j', [0b00010, 0b00000, 0b00110, 0b00010, 0b00010, 0b10010, 0b01100]),
    ('k', [0b10000, 0b10000, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010]),
    ('l', [0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('m', [0b00000, 0b00000, 0b11010, 0b10101, 0b10101, 0b10101, 0b10101]),
    ('n', [0b00000, 0b00000, 0b11110, 0b10001, 0b10001, 0b10001, 0b10001]),
    ('o', [0b00000, 0b00000, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('p', [0b11110, 0b10001, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000]),
    ('q', [0b01111, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b00001]),
    ('r', [0b00000, 0b00000, 0b10111, 0b11000, 0b10000, 0b10000, 0b10000]),
    ('s', [0b00000, 0b00000, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    ('t', [0b00100, 0b00100, 0b01110, 0b00100, 0b00100, 0b00100, 0b00011]),
    ('u', [0b00000, 0b00000, 0b10001, 0b10001, 0b10001, 0b10001, 0b01111]),
    ('v', [0b00000, 0b00000, 0b10001, 0b10001, 0b10001, 0b01010, 0b00100]),
    ('w', [0b00000, 0b00000, 0b10101, 0b10101, 0b10101, 0b10101, 0b01010]),
    ('x', [0b00000, 0b00000, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001]),
    ('y', [0b10001, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110]),
    ('z', [0b00000, 0b00000, 0b11111, 0b00010, 0b00100, 0b01000, 0b11111]),
    ('0', [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111]),
    ('3', [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b01110, 0b10000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b00100, 0b01000, 0b01000]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00001, 0b01110]),
    ('_', [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b11111]),
    ('-', [0b00000, 0b00000, 0b00000, 0b01110, 0b00000, 0b00000, 0b00000]),
];

/// Width and height of a text whose points are `scale` pixels wide.
pub(super) fn size(text: &str, scale: u32) -> (u32, u32) {
    let letters = text.chars().count() as u32;
    ((letters * (WIDTH + 1)).saturating_sub(1) * scale, (HEIGHT + HANG) * scale)
}

/// Draws a text with its upper left corner at `left`, `top`. Letters without a shape, such as the space, stay blank.
pub(super) fn draw(picture: &mut RgbImage, text: &str, left: u32, top: u32, scale: u32) {
    for (number, letter) in text.chars().enumerate() {
        let Some((_, rows)) = LETTERS.iter().find(|(known, _)| *known == letter) else { continue };
        let left = left + number as u32 * (WIDTH + 1) * scale;
        let top = if HANGING.contains(letter) { top + HANG * scale } else { top };
        for y in 0..HEIGHT * scale {
            for x in 0..WIDTH * scale {
                let inked = rows[(y / scale) as usize] >> (WIDTH - 1 - x / scale) & 1 == 1;
                if let Some(pixel) = picture.get_pixel_mut_checked(left + x, top + y).filter(|_| inked) {
                    *pixel = Rgb([40; 3]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::Kind;

    #[test]
    fn every_kind_can_be_written() {
        let text = Kind::ALL.map(Kind::name).concat() + "severity clean 0123456789-";
        for letter in text.chars().filter(|letter| *letter != ' ') {
            let mut picture = RgbImage::from_pixel(10, 18, Rgb([255; 3]));
            draw(&mut picture, &letter.to_string(), 0, 0, 2);
            let inked = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
            assert!(inked >= 4 * 3 && inked % 4 == 0, "{letter}: {inked}");
        }
        assert_eq!(size("ab", 2), (22, 18));
        // What does not fit is left out.
        draw(&mut RgbImage::new(3, 3), "fog", 1, 1, 2);
    }
}
