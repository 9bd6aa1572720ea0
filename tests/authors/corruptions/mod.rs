//! The corruptions against outputs of the authors' own code.
//!
//! `tests/golden/corruptions` holds a part of them that may be copied; with `ALTIPLANO_REFERENCE` set, the same tests
//! run on `$ALTIPLANO_REFERENCE/corruptions` too, which has more images and the statistics of the random kinds.

mod files;
mod statistics;

use altiplano::corrupt::{Constants, Corruption, Kind, Recorded, Severity, motion_blur};
use files::{Bytes, Reference, sha1};
use image::RgbImage;

/// How far one picture is from another.
#[derive(Debug, Default)]
struct Difference {
    values: usize,
    differing: usize,
    largest: u8,
}

impl Difference {
    fn add(&mut self, got: &[u8], expected: &[u8]) {
        assert_eq!(got.len(), expected.len());
        self.values += got.len();
        for (a, b) in got.iter().zip(expected) {
            self.differing += usize::from(a != b);
            self.largest = self.largest.max(a.abs_diff(*b));
        }
    }

    fn share(&self) -> f64 {
        self.differing as f64 / self.values as f64
    }

    #[track_caller]
    fn check(&self, what: &str, largest: u8, share: f64) {
        println!("{what}: {:.4} % of values differ, by at most {}", 100.0 * self.share(), self.largest);
        assert!(self.values > 0, "{what}: nothing was compared");
        assert!(
            self.largest <= largest && self.share() <= share,
            "{what}: {self:?}, {:.4} %; allowed are {largest} on {:.4} %",
            100.0 * self.share(),
            100.0 * share
        );
    }
}

const EXACT: [Kind; 7] = [
    Kind::Brightness,
    Kind::Contrast,
    Kind::Saturate,
    Kind::GaussianBlur,
    Kind::ZoomBlur,
    Kind::Pixelate,
    Kind::JpegCompression,
];

fn corrupt(kind: Kind, severity: Severity, constants: Constants, image: &RgbImage) -> RgbImage {
    let mut draws = Recorded::new(vec![]).unwrap();
    Corruption::new(kind, severity, constants).apply(image, &mut draws).unwrap()
}

/// Seven kinds equal the authors' to the bit, on every image and severity, by the hashes of the outputs.
#[test]
fn deterministic_kinds_are_equal_to_the_bit() {
    for reference in Reference::all() {
        for (set, constants) in [("cifar32", Constants::Cifar), ("hendrycks224", Constants::ImageNet)] {
            let images = reference.clean(set);
            let hashes = reference.json(&format!("stats_{set}.json"));
            for kind in EXACT {
                let mut wrong = vec![];
                for severity in Severity::ALL {
                    let expected = hashes[kind.name()][severity.to_string()]["sha1"].as_array().unwrap();
                    for (i, image) in images.iter().enumerate() {
                        let hash = sha1(corrupt(kind, severity, constants, image).as_raw());
                        if hash[..12] != *expected[i].as_str().unwrap() {
                            wrong.push((severity.get(), i));
                        }
                    }
                }
                println!("{set} {kind}: {} of {} equal", 5 * images.len() - wrong.len(), 5 * images.len());
                assert!(wrong.is_empty(), "{set} {kind}: (severity, image) {wrong:?} differ");
            }
        }
    }
}

/// The same kinds value by value, where the values are there, and the defocus blur within one level on 5 %.
#[test]
fn deterministic_kinds_value_by_value() {
    for reference in Reference::all() {
        for kind in EXACT.into_iter().chain([Kind::DefocusBlur]) {
            let (largest, share) = if kind == Kind::DefocusBlur { (1, 0.05) } else { (0, 0.0) };
            if let Some(expected) = reference.bytes(&format!("cifar32_{kind}.npy")) {
                let images = reference.clean("cifar32");
                assert_eq!(expected.shape, [5, images.len(), 32, 32, 3]);
                for severity in Severity::ALL {
                    let mut difference = Difference::default();
                    for (i, image) in images.iter().enumerate() {
                        let got = corrupt(kind, severity, Constants::Cifar, image);
                        let at = usize::from(severity.get() - 1) * images.len() + i;
                        difference.add(&got, &expected.values[at * 3072..(at + 1) * 3072]);
                    }
                    difference.check(&format!("cifar32 {kind} {severity}"), largest, share);
                }
            }
            if let Some(expected) = reference.bytes(&format!("hendrycks224_{kind}.npy")) {
                let image = &reference.clean("hendrycks224")[0];
                for (level, expected) in [1, 3, 5].into_iter().zip(expected.values.chunks_exact(224 * 224 * 3)) {
                    let mut difference = Difference::default();
                    let severity = Severity::new(level).unwrap();
                    difference.add(&corrupt(kind, severity, Constants::ImageNet, image), expected);
                    difference.check(&format!("hendrycks224 {kind} {level}"), largest, share);
                }
            }
        }
    }
}

/// The random kinds with the draws of the authors' run. The bounds are what an independent derivation reached.
#[test]
fn random_kinds_with_recorded_draws() {
    let kinds = [
        (Kind::GaussianNoise, 0, 0.0),
        (Kind::ShotNoise, 0, 0.0),
        (Kind::SpeckleNoise, 0, 0.0),
        (Kind::GlassBlur, 0, 0.0),
        (Kind::MotionBlur, 0, 0.0),
        (Kind::Fog, 0, 0.0),
        (Kind::Snow, 1, 0.0004),
        (Kind::Spatter, 1, 0.0004),
        (Kind::ElasticTransform, 4, 0.027),
    ];
    for reference in Reference::all() {
        let images = reference.clean("cifar32");
        for (kind, largest, share) in kinds {
            let mut compared = 0;
            for severity in Severity::ALL {
                let Some(draws) = reference.numbers(&format!("inject32/{kind}_{severity}_draws.npy")) else { continue };
                let expected = reference.bytes(&format!("inject32/{kind}_{severity}_out.npy")).unwrap();
                // The authors' run took image number (severity).
                let image = &images[usize::from(severity.get())];
                let mut draws = Recorded::new(draws).unwrap();
                let got = Corruption::new(kind, severity, Constants::Cifar).apply(image, &mut draws).unwrap();
                assert_eq!(draws.remaining(), 0, "{kind} {severity}");
                let mut difference = Difference::default();
                difference.add(&got, &expected.values);
                difference.check(&format!("{kind} {severity} with recorded draws"), largest, share);
                compared += 1;
            }
            assert!(compared >= 4, "{kind}: {compared} cases");
        }
    }
}

/// ImageMagick's own motion blur, to the bit.
#[test]
fn motion_blur_equals_imagemagick() {
    for reference in Reference::all() {
        let Some(Bytes { values, shape }) = reference.bytes("magick_motion_in.npy") else { continue };
        let image = RgbImage::from_raw(shape[1] as u32, shape[0] as u32, values).unwrap();
        let parameters = reference.numbers("magick_motion_params.npy").unwrap();
        let expected = reference.bytes("magick_motion_out.npy").unwrap();
        let mut difference = Difference::default();
        for (p, expected) in parameters.chunks_exact(3).zip(expected.values.chunks_exact(image.as_raw().len())) {
            difference.add(&motion_blur(&image, p[0], p[1], p[2]).unwrap(), expected);
        }
        difference.check(&format!("ImageMagick, {} parameter sets", parameters.len() / 3), 0, 0.0);
    }
}
