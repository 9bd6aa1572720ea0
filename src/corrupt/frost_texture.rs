//! A stand-in for the frost photos, which are of unknown origin and not shipped: textures with their colours and their
//! spectrum, but without crystals.

use super::fourier::{Complex, transform};
use super::kind::Constants;
use super::normal;
use crate::philox::Stream;
use image::RgbImage;
use std::sync::LazyLock;

/// Mean and deviation of the colours of a photo (red, green, blue; 0 to 255).
type Style = ([f64; 3], [f64; 3]);

/// The authors' five photos; the second and the third are the same picture.
const STYLES: [Style; 5] = [
    ([77.7, 149.1, 165.7], [26.9, 16.5, 15.3]),
    ([200.8, 205.4, 214.5], [21.4, 22.1, 22.6]),
    ([200.8, 205.4, 214.5], [21.4, 22.1, 22.6]),
    ([137.6, 152.8, 165.2], [28.5, 28.5, 29.9]),
    ([112.4, 123.4, 134.8], [44.4, 43.3, 41.7]),
];
/// Power falls with frequency to this power, as in the photos on average.
const SLOPE: f64 = -1.6;
/// The textures belong to the benchmark, as the photos do: they are the same for every seed of a user.
const SEED: u64 = 0;
const PURPOSE: u32 = 0x4652_5354;
/// Fields per style, so that a run sees more than one of each.
const VARIANTS: usize = 2;

static CIFAR: LazyLock<Vec<RgbImage>> = LazyLock::new(|| textures(128));
static IMAGE_NET: LazyLock<Vec<RgbImage>> = LazyLock::new(|| textures(512));

/// Squares of 128 pixels for CIFAR's constants, where the photos are used at a fifth of their size, and of 512 pixels
/// for ImageNet's. Made once.
pub(super) fn procedural(constants: Constants) -> &'static [RgbImage] {
    constants.of(&CIFAR, &IMAGE_NET)
}

fn textures(side: usize) -> Vec<RgbImage> {
    let styles = STYLES.iter().enumerate();
    let texture = |(i, style)| fields(side, i as u64).map(|field| paint(side, &field, style));
    styles.flat_map(texture).collect()
}

/// Two independent fields of mean 0 and variance 1: the real and the imaginary part of one transform.
fn fields(side: usize, index: u64) -> [Vec<f64>; VARIANTS] {
    let mut noise = vec![0.0; 2 * side * side];
    normal::fill(&mut Stream::new(SEED, PURPOSE, index), 0.0, 1.0, &mut noise);
    let frequency = |i: usize| i.min(side - i) as f64;
    let mut spectrum: Vec<Complex> = noise
        .chunks_exact(2)
        .enumerate()
        .map(|(i, pair)| {
            let (fy, fx) = (frequency(i / side), frequency(i % side));
            // Half the exponent on the squared frequency, and half again for amplitude.
            let amplitude = if i == 0 { 0.0 } else { (fx * fx + fy * fy).powf(SLOPE / 4.0) };
            (amplitude * pair[0], amplitude * pair[1])
        })
        .collect();
    transform(&mut spectrum, side);
    [spectrum.iter().map(|z| z.0).collect(), spectrum.iter().map(|z| z.1).collect()].map(|mut field: Vec<f64>| {
        // Without its zero frequency a field has mean 0.
        let variance = field.iter().map(|x| x * x).sum::<f64>() / field.len() as f64;
        field.iter_mut().for_each(|x| *x /= variance.sqrt());
        field
    })
}

fn paint(side: usize, field: &[f64], (mean, deviation): &Style) -> RgbImage {
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let g = field[y as usize * side + x as usize];
        image::Rgb(std::array::from_fn(|c| (mean[c] + deviation[c] * g).round().clamp(0.0, 255.0) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_the_photos() {
        let list = procedural(Constants::Cifar);
        assert_eq!(list.len(), VARIANTS * STYLES.len());
        for (i, texture) in list.iter().enumerate() {
            let (mean, deviation) = STYLES[i / VARIANTS];
            for c in 0..3 {
                let values = texture.pixels().map(|p| f64::from(p.0[c]));
                let got = values.clone().sum::<f64>() / 16384.0;
                let spread = (values.map(|v| (v - got) * (v - got)).sum::<f64>() / 16384.0).sqrt();
                // Clipping to bytes takes a little from the brightest.
                assert!((got - mean[c]).abs() < 2.0 && (spread - deviation[c]).abs() < 3.0, "{i} {c}: {got} {spread}");
            }
        }
        assert_ne!(list[0], list[1]);
    }

    #[test]
    fn power_falls_with_frequency() {
        let side = 64;
        let [field, _] = fields(side, 7);
        let mut square: Vec<Complex> = field.iter().map(|&x| (x, 0.0)).collect();
        transform(&mut square, side);
        // Mean power over two rings, an octave apart: 2^-1.6 = 0.33.
        let ring = |low: f64, high: f64| {
            let inside = square.iter().enumerate().filter(|(i, _)| {
                let f = |i: usize| i.min(side - i) as f64;
                (low..high).contains(&f(i / side).hypot(f(i % side)))
            });
            let (sum, count) = inside.fold((0.0, 0.0), |(s, n), (_, z)| (s + z.0 * z.0 + z.1 * z.1, n + 1.0));
            sum / count
        };
        let ratio = ring(16.0, 24.0) / ring(8.0, 12.0);
        assert!((ratio - 0.33).abs() < 0.06, "{ratio}");
    }
}
