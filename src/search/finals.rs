//! What a search ends with: which networks are trained and judged, with how many seeds, and which of them is kept.

use serde::{Deserialize, Serialize};

use super::methods::Situation;
use crate::error::{Error, Result, unknown};
use crate::measure::attack::Attack;
use crate::measure::judge::{JUDGED_IMAGES, WeightNoise};
use crate::measure::side_by_side::limited;
use crate::nn::space::{Build, Family};
use crate::train::step::Optimizer;

/// What networks are trained and judged at the end of a search, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalsConfig {
    /// The networks: winners of arms by their names, `largest` (of all within the limits), `any` (at random; `any-2` and so on for
    /// more of them); an optimiser other than that of the training behind a colon. The first is the search's own.
    pub contestants: Vec<String>,
    /// Seeds of each.
    pub seeds: u64,
    /// Training images, the first of a shuffle; 0 for all: in their order, or shuffled where some are kept back.
    pub images: usize,
    /// Training images kept back: the network is kept that errs least on these, under corruptions that are for validation (as they are, if they cannot be corrupted); `largest`
    /// unless another one errs less by more than a standard error. With 0 the search's own is kept, whatever it is held against.
    #[serde(default)]
    pub kept_back: usize,
    /// Test images, the first ones, that are corrupted, attacked, and seen by disturbed networks; 0 for all.
    pub judged_images: usize,
    /// Whether images are also corrupted at the size of networks that see them larger, as FlatNAS's authors did.
    #[serde(default)]
    pub resized_first: bool,
    /// Attacks, as `altiplano evaluate` takes them.
    pub attacks: Vec<String>,
    /// Weight noise.
    pub noise: WeightNoise,
    /// How these networks are built, if otherwise than the candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
}

impl FinalsConfig {
    /// The attacks.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn attacks(&self) -> Result<Vec<Attack>> {
        self.attacks.iter().map(|text| text.parse()).collect()
    }

    /// The networks of a search's space as they are built at its end.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn family(&self, searched: &Family) -> Result<Family> {
        let Some(build) = &self.build else { return Ok(searched.clone()) };
        let (own, theirs) = ((build.in_channels, build.classes), (searched.build.in_channels, searched.build.classes));
        if own != theirs {
            let why =
                format!("has {} channels and {} classes, and the data {} and {}", own.0, own.1, theirs.0, theirs.1);
            return Err(Error::invalid("finals.build", why));
        }
        searched.rebuilt(build).map_err(|e| Error::invalid("finals.build", e.to_string()))
    }

    /// How many training images there are, of `all`: `None` for all in their order.
    pub fn training_images(&self, all: usize) -> Option<usize> {
        let most = all.saturating_sub(self.kept_back);
        (self.images > 0 || self.kept_back > 0).then(|| limited(most, self.images))
    }

    /// Checks all numbers, for so many training images.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, images: usize) -> Result<()> {
        if self.kept_back > images / 2 {
            let why = format!("keeps {} of {images} training images back, expected at most half", self.kept_back);
            return Err(Error::invalid("finals.kept_back", why));
        }
        if self.seeds == 0 || self.seeds > 1_000 {
            return Err(Error::invalid("--seeds", format!("{}, expected 1 to 1000", self.seeds)));
        }
        if self.contestants.is_empty() {
            return Err(Error::invalid("finals.contestants", "there is none; the first is the search's own"));
        }
        self.noise.validate()?;
        self.attacks().map(|_| ())
    }
}

impl FinalsConfig {
    /// One seed, and as many images as suit a preset. A quick search keeps what serves its user best, of a paper's sizes it keeps what
    /// the paper's would.
    pub(super) fn usual(situation: &Situation) -> Self {
        let quick = situation.is_quick();
        FinalsConfig {
            contestants: vec![],
            seeds: 1,
            images: 0,
            // Of few images too few would be left on either side.
            kept_back: match quick && !situation.compat && situation.images >= 200 {
                true => (situation.images / 5).min(500),
                false => 0,
            },
            judged_images: if quick { JUDGED_IMAGES } else { 0 },
            resized_first: situation.space.is_elastic(),
            attacks: vec![],
            noise: match quick {
                true => WeightNoise { sigma: 0.05, draws: 8, batch: 50 },
                false => WeightNoise { sigma: 0.05, draws: 20, batch: 100 },
            },
            build: None,
        }
    }
}

/// Who a contestant is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Who {
    /// The winner of an arm, by its place.
    Winner(usize),
    /// The largest network within the limits.
    Largest,
    /// One at random, by its number.
    Random(u64),
}

impl Who {
    /// Those that are no arm's winners, by name.
    pub fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("any-").map(str::parse::<u64>) {
            Some(Ok(number)) if number > 1 && name == format!("any-{number}") => Some(Who::Random(number - 1)),
            _ if name == "any" => Some(Who::Random(0)),
            _ if name == "largest" => Some(Who::Largest),
            _ => None,
        }
    }
}

/// The name of a contestant, who it is, and its optimiser; `None` for that of the training.
///
/// # Errors
/// If there is no such arm or optimiser.
pub(super) fn contestant<'a>(text: &'a str, arms: &[&str]) -> Result<(&'a str, Who, Option<Optimizer>)> {
    let (name, optimizer) = match text.split_once(':') {
        Some((name, optimizer)) => {
            let named = |error: Error| Error::invalid("finals.contestants", format!("{text}: {error}"));
            (name, Some(optimizer.parse().map_err(named)?))
        }
        None => (text, None),
    };
    let arm = arms.iter().position(|arm| *arm == name).map(Who::Winner);
    match arm.or_else(|| Who::named(name)) {
        Some(who) => Ok((name, who, optimizer)),
        None => Err(unknown("finals.contestants", name, &[arms, &["largest", "any"]].concat())),
    }
}
