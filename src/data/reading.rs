//! How the pictures of a set are read: what a user may say about it, and how pictures of any size become images of one.
//!
//! It is what torchvision does before an evaluation, `Resize(R)` and `CenterCrop(S)`: the shorter side becomes R pixels, the longer
//! one as many as keep the proportion, cut to a whole number, and a square of S pixels is cut out of the middle. Training may see random
//! parts instead (`random_crop.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RandomCrop;
use super::images::MAX_PIXEL_BYTES;
use super::resize::Window;
use crate::error::{Error, Result};

/// The share of each class that is held out when there is no test part.
const TEST_SHARE: f64 = 0.2;
/// Longest side of the images of a set.
const MOST_CROP: usize = 4096;
/// Longest shorter side on the way there.
const MOST_RESIZE: usize = 16_384;
/// Bytes of pixels that a set of pictures has in memory at most.
const MEMORY: u64 = 1 << 30;

/// How pictures in files become the images of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Pixels of the shorter side before the middle is cut out; by default 8/7 of `crop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Side in pixels of the square that is cut out of the middle; by default `resize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    /// Share of each class that becomes the test part where pictures have none; by default a fifth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_share: Option<f64>,
    /// Least share of a picture's area that training sees, of a random part instead of the middle (torchvision's `RandomResizedCrop`;
    /// 0.08 for ImageNet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_crop: Option<f64>,
    /// What decides nothing about the images, and so is not written down.
    #[serde(skip)]
    pub handling: Handling,
}

/// How pictures are handled while they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Handling {
    /// Whether a picture that cannot be read is an error. Otherwise it is left out, and the set says so.
    pub strict: bool,
    /// Bytes of pixels that may be in memory; a larger set is decoded from its files again and again, and so is one of more than 4 GiB. By
    /// default 1 GiB.
    pub memory: Option<u64>,
    /// What of the reading nobody asked for: it is how another set was read, and is left alone where it does not apply to this one.
    pub assumed: Assumed,
}

/// Parts of a reading that are taken from how another set was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Assumed {
    /// How pictures are brought to one size.
    pub sides: bool,
    /// How much is held out.
    pub share: bool,
}

impl Reading {
    /// Whether images are as large as the pictures that they are read from, and nothing else decides which there are.
    pub fn is_as_found(&self) -> bool {
        self.resize.is_none() && self.crop.is_none() && self.test_share.is_none() && self.random_crop.is_none()
    }

    /// Whether it makes the same of pictures that are judged, however it is written down.
    pub fn does_as(&self, other: &Self) -> bool {
        let made = |reading: &Self| (reading.fit().ok(), reading.test_share().ok());
        made(self) == made(other)
    }

    /// How pictures are brought to one size, in words.
    pub fn sides(&self) -> String {
        match self.fit() {
            Ok(Some(Fit { shorter, crop })) => format!("shorter side {shorter}, of that the middle {crop}x{crop}"),
            _ => "as large as they are".to_owned(),
        }
    }

    /// How pictures are read for a network that was trained on pictures which were read as `trained` says: so too, as far as this asks for
    /// nothing else. Random parts are for training alone.
    pub fn or_as(&self, trained: &Reading) -> Reading {
        let assumed = Assumed {
            sides: !self.has_sides() && trained.has_sides(),
            share: self.test_share.is_none() && trained.test_share.is_some(),
        };
        let (resize, crop) = if assumed.sides { (trained.resize, trained.crop) } else { (self.resize, self.crop) };
        let test_share = self.test_share.or(trained.test_share);
        Reading { resize, crop, test_share, random_crop: None, handling: Handling { assumed, ..self.handling } }
    }

    /// Whether it says how large images become.
    pub fn has_sides(&self) -> bool {
        self.resize.is_some() || self.crop.is_some()
    }

    /// The share of each class that becomes a test part.
    ///
    /// # Errors
    /// If it is none, or nothing would be left.
    pub(super) fn test_share(&self) -> Result<f64> {
        let share = self.test_share.unwrap_or(TEST_SHARE);
        // Written so that NaN fails too.
        if share > 0.0 && share < 1.0 {
            return Ok(share);
        }
        Err(Error::invalid("--test-share", format!("{share}; expected a share between 0 and 1, such as 0.2")))
    }

    /// Bytes of pixels that may be in memory.
    pub(super) fn memory(&self) -> u64 {
        self.handling.memory.unwrap_or(MEMORY)
    }

    /// Whether a set of so many bytes of pixels is kept in memory whole.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        bytes <= self.memory().min(MAX_PIXEL_BYTES)
    }

    /// Which parts of pictures training sees, if not the middle.
    ///
    /// # Errors
    /// If the share is none, or nothing says how large images are.
    pub(super) fn random(&self) -> Result<Option<RandomCrop>> {
        let Some(least) = self.random_crop else { return Ok(None) };
        // Written so that NaN fails too.
        if !(least > 0.0 && least <= 1.0) {
            let why = format!("{least}; expected the least share of the area, above 0 and at most 1, such as 0.08");
            return Err(Error::invalid("--random-crop", why));
        }
        match self.fit()? {
            Some(_) => Ok(Some(RandomCrop { least })),
            None => Err(Error::invalid("--random-crop", "needs --crop SIDE, which says how large the parts become")),
        }
    }

    /// How pictures are brought to one size, if they are.
    ///
    /// # Errors
    /// If the sides are none, too long, or do not fit into each other.
    pub(super) fn fit(&self) -> Result<Option<Fit>> {
        let (crop, shorter) = match (self.crop, self.resize) {
            (None, None) => return Ok(None),
            (Some(crop), None) => (crop, usual_resize(crop)),
            (None, Some(shorter)) => (shorter, shorter),
            (Some(crop), Some(shorter)) => (crop, shorter),
        };
        if crop == 0 || crop > MOST_CROP {
            let why = format!("a square of {crop} pixels; expected 1 to {MOST_CROP}");
            return Err(Error::invalid(if self.crop.is_some() { "--crop" } else { "--resize" }, why));
        }
        if shorter < crop || shorter > MOST_RESIZE {
            let why =
                format!("a shorter side of {shorter} pixels; expected {crop}, the side of --crop, to {MOST_RESIZE}");
            return Err(Error::invalid("--resize", why));
        }
        Ok(Some(Fit { shorter, crop }))
    }

    /// Refuses what is for pictures where `what` has arrays, of one size and in parts.
    pub(super) fn refuse_arrays(&self, what: &str) -> Result<()> {
        let Assumed { sides, share } = self.handling.assumed;
        let asked = (self.has_sides() && !sides) || (self.test_share.is_some() && !share) || self.random_crop.is_some();
        match !asked {
            true => Ok(()),
            false => {
                let why = format!(
                    "are for pictures in files; {what} has images of one size, in parts (--image is what networks see)"
                );
                Err(Error::invalid("--crop, --resize, --random-crop and --test-share", why))
            }
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sides())?;
        self.random_crop
            .map_or(Ok(()), |least| write!(f, ", training on random parts of at least {least} of the area"))?;
        self.test_share.map_or(Ok(()), |share| write!(f, ", {share} of them for tests"))
    }
}

/// The shorter side for a crop: ImageNet's 256 for 224, and in that proportion otherwise.
fn usual_resize(crop: usize) -> usize {
    (crop.saturating_mul(16).saturating_add(7)) / 14
}

/// A shorter side, and a square in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    shorter: usize,
    pub crop: usize,
}

impl Fit {
    /// The middle square of a picture whose shorter side is as long.
    pub fn square(side: usize) -> Self {
        Fit { shorter: side, crop: side }
    }

    /// Rows and columns to which a picture of some is brought, and what is kept of it.
    pub fn of(&self, [height, width]: [usize; 2]) -> ([usize; 2], Window) {
        let (short, long) = (height.min(width).max(1), height.max(width));
        let longer = (self.shorter as u128 * long as u128 / short as u128) as usize;
        let sides = if height <= width { [self.shorter, longer] } else { [longer, self.shorter] };
        let at = sides.map(|side| half_to_even(side.saturating_sub(self.crop)));
        (sides, Window { at, sides: [self.crop; 2] })
    }
}

/// Half of a number, to the even one of two that are as near.
fn half_to_even(number: usize) -> usize {
    number / 2 + usize::from(number % 4 == 3)
}

#[cfg(test)]
mod tests {
    use super::super::resize::tests::{digest, picture};
    use super::super::resize::{Filter, resize_window};
    use super::*;

    fn reading(resize: Option<usize>, crop: Option<usize>) -> Reading {
        Reading { resize, crop, ..Reading::default() }
    }

    #[test]
    fn what_is_written_otherwise_may_do_the_same() {
        let usual = reading(Some(usual_resize(56)), Some(56));
        assert!(usual != reading(None, Some(56)) && usual.does_as(&reading(None, Some(56))));
        assert!(!usual.does_as(&reading(Some(70), Some(56))) && !usual.does_as(&Reading::default()));
        let share = |share| Reading { test_share: share, ..Reading::default() };
        assert!(share(Some(TEST_SHARE)).does_as(&share(None)) && !share(Some(0.5)).does_as(&share(None)));
    }

    #[test]
    fn sides_follow_from_each_other_or_are_refused() {
        let fit = |resize, crop| reading(resize, crop).fit();
        for (resize, crop, want) in [
            (None, Some(224), (256, 224)),
            (None, Some(32), (37, 32)),
            (None, Some(7), (8, 7)),
            (None, Some(1), (1, 1)),
            (None, Some(299), (342, 299)),
            (Some(64), None, (64, 64)),
            (Some(232), Some(224), (232, 224)),
            (Some(9), Some(9), (9, 9)),
        ] {
            let Fit { shorter, crop } = fit(resize, crop).unwrap().unwrap();
            assert_eq!((shorter, crop), want);
        }
        assert_eq!(fit(None, None).unwrap(), None);
        for (resize, crop, option) in [
            (None, Some(0), "--crop: a square of 0"),
            (None, Some(usize::MAX), "--crop"),
            (Some(0), None, "--resize"),
            (Some(31), Some(32), "--resize: a shorter side of 31 pixels; expected 32"),
            (Some(usize::MAX), Some(32), "--resize"),
        ] {
            let why = fit(resize, crop).unwrap_err().to_string();
            assert!(why.starts_with(option), "{why}");
        }
        // Far from square, and nothing that overflows.
        let fit = fit(Some(256), Some(224)).unwrap().unwrap();
        assert_eq!(fit.of([1, 16_384]), ([256, 4_194_304], Window { at: [16, 2_097_040], sides: [224, 224] }));
    }

    #[test]
    fn what_is_not_asked_for_is_as_the_model_s() {
        let trained = Reading {
            crop: Some(32),
            resize: Some(40),
            test_share: Some(0.05),
            random_crop: Some(0.3),
            ..Reading::default()
        };
        let of = |reading: Reading| {
            let Reading { resize, crop, test_share, random_crop, handling } = reading.or_as(&trained);
            (resize, crop, test_share, random_crop, handling.assumed)
        };
        let assumed = |sides: bool, share: bool| Assumed { sides, share };
        assert_eq!(of(Reading::default()), (Some(40), Some(32), Some(0.05), None, assumed(true, true)));
        assert_eq!(of(reading(None, Some(48))), (None, Some(48), Some(0.05), None, assumed(false, true)));
        let share = Reading { test_share: Some(0.5), ..Reading::default() };
        assert_eq!(of(share), (Some(40), Some(32), Some(0.5), None, assumed(true, false)));
        // Arrays refuse what was asked for alone.
        assert!(Reading::default().or_as(&trained).refuse_arrays("digits").is_ok());
        assert!(reading(None, Some(48)).or_as(&trained).refuse_arrays("digits").is_err());
        assert_eq!(share_of(&trained), Some(0.05));
    }

    fn share_of(reading: &Reading) -> Option<f64> {
        reading.clone().or_as(&Reading::default()).test_share
    }

    #[test]
    fn random_parts_need_a_size_and_a_share() {
        let of =
            |least: f64, crop: Option<usize>| Reading { random_crop: Some(least), crop, ..Reading::default() }.random();
        assert_eq!(of(0.08, Some(32)).unwrap(), Some(RandomCrop { least: 0.08 }));
        assert!(of(1.0, Some(32)).is_ok() && Reading::default().random().unwrap().is_none());
        assert!(of(0.08, None).unwrap_err().to_string().contains("needs --crop"));
        for least in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(of(least, Some(32)).unwrap_err().to_string().starts_with("--random-crop"), "{least}");
        }
    }

    #[test]
    fn middles_are_torchvision_s() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/pictures/pictures.json")).unwrap();
        let cases = golden["crops"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let pair = |key: &str| [0, 1].map(|axis| number(&case[key][axis]));
            let source = [0, 1, 2].map(|axis| number(&case["source"][axis]));
            let fit = reading(Some(number(&case["shorter"])), Some(number(&case["crop"]))).fit().unwrap().unwrap();
            let (sides, window) = fit.of([source[0], source[1]]);
            assert_eq!((sides, window.at), (pair("resized"), pair("at")), "{case}");
            let made = resize_window(&picture(source), source, sides, window, Filter::Bilinear).unwrap();
            let first: Vec<usize> = made.iter().take(12).map(|&byte| byte.into()).collect();
            let want: Vec<usize> = case["first"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(first, want, "{case}");
            assert_eq!(format!("{:016x}", digest(&made)), case["digest"].as_str().unwrap(), "{case}");
        }
    }
}
