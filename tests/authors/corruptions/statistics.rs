//! The random kinds against the statistics of the authors' code over many seeds.

use super::files::Reference;
use altiplano::corrupt::{Constants, Corruption, Kind, Severity};
use image::RgbImage;

/// What is compared: peak signal-to-noise ratio in dB, mean, and mean difference of neighbours, in levels; and what is
/// allowed beside chance, for the rounding of the reference's own statistics.
const MEASURES: [(&str, f64); 3] = [("psnr", 0.02), ("mean", 0.05), ("grad", 0.05)];

fn measures(clean: &RgbImage, got: &RgbImage) -> [f64; 3] {
    let n = clean.as_raw().len() as f64;
    let pairs = clean.as_raw().iter().zip(got.as_raw());
    let squares: f64 = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let sum: f64 = got.as_raw().iter().map(|&b| f64::from(b)).sum();
    [10.0 * (65_025.0 * n / squares).log10(), sum / n, gradient(got)]
}

/// Mean absolute difference of neighbours along rows and along columns.
fn gradient(image: &RgbImage) -> f64 {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let bytes = image.as_raw();
    let difference = |i: usize, j: usize| f64::from(bytes[i].abs_diff(bytes[j]));
    let across: f64 =
        (0..height).flat_map(|y| y * width * 3..(y + 1) * width * 3 - 3).map(|i| difference(i, i + 3)).sum();
    let down: f64 = (0..bytes.len() - width * 3).map(|i| difference(i, i + width * 3)).sum();
    0.5 * (across / ((width - 1) * height * 3) as f64 + down / ((height - 1) * width * 3) as f64)
}

/// Means over all images and `seeds` seeds, kind by kind, within four standard errors of the difference of two means.
/// Procedural frost is another picture than the photos: only its PSNR is compared, to 1.5 dB.
fn compare(set: &str, constants: Constants, seeds: u64) {
    let Some(reference) = Reference::large() else { return };
    let images = reference.clean(set);
    let statistics = reference.json(&format!("stats_{set}.json"));
    let clean = images.iter().map(gradient).sum::<f64>() / images.len() as f64;
    let expected = statistics["_clean"]["grad"].as_f64().unwrap();
    assert!((clean - expected).abs() < 1e-6, "the gradient is measured otherwise: {clean}, {expected}");
    let mut failures = vec![];
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_random()) {
        for severity in Severity::ALL {
            let corruption = Corruption::new(kind, severity, constants);
            let mut sums = [0.0; 3];
            for seed in 0..seeds {
                for (i, image) in images.iter().enumerate() {
                    let got = corruption.seeded(image, seed, i as u64).unwrap();
                    sums.iter_mut().zip(measures(image, &got)).for_each(|(sum, x)| *sum += x);
                }
            }
            let n = (seeds as usize * images.len()) as f64;
            let entry = &statistics[kind.name()][severity.to_string()];
            let number = |key: &str| entry[key].as_f64().unwrap();
            let error = 4.0 * (1.0 / seeds as f64 + 1.0 / number("seeds")).sqrt();
            let mut line = format!("{set} {kind} {severity}:");
            let mut fails = false;
            for ((name, slack), sum) in MEASURES.into_iter().zip(sums) {
                let bound = match (kind, name) {
                    (Kind::Frost, "psnr") => 1.5,
                    (Kind::Frost, _) => f64::INFINITY,
                    _ => error * entry["seed_sd"][name].as_f64().unwrap() + slack,
                };
                let off = sum / n - number(name);
                line += &format!(" {name} {:.3}, off by {off:+.3} of {bound:.3};", sum / n);
                fails |= off.abs() > bound;
            }
            println!("{line}");
            if fails {
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn statistics_of_cifar() {
    compare("cifar32", Constants::Cifar, 12);
}

#[test]
fn statistics_of_imagenet() {
    compare("hendrycks224", Constants::ImageNet, 2);
}
