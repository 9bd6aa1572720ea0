//! The numbers that decide what training does.

use serde::{Deserialize, Serialize};

use super::adversarial::Adversarial;
use super::feed::Augmentation;
use super::schedule::Schedule;
use super::step::{Optimizer, Rates, StepOptions, Update, build};
use crate::error::{Error, Result};
use crate::graph::Statistics;
use crate::nn::Model;
use crate::nn::space::PublishedTraining;

/// Most paths of a supernet in one step.
const MOST_PATHS: usize = 64;

/// Everything that decides what training does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Learning rate at the start.
    pub lr: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Momentum.
    pub momentum: f64,
    /// Whether momentum looks ahead.
    pub nesterov: bool,
    /// Weight decay.
    pub weight_decay: f64,
    /// Radius of SAM or ASAM.
    pub rho: f64,
    /// Largest gradient norm, if it is limited.
    pub clip: Option<f64>,
    /// Label smoothing.
    pub smoothing: f64,
    /// Random crops, flips and holes.
    pub augmentation: Option<Augmentation>,
    /// Whether decay and momentum move weights off the path too (released GeNAS).
    pub touch_all: bool,
    /// PGD that moves the images of each step.
    #[serde(default)]
    pub adversarial: Option<Adversarial>,
    /// Probability of drop path (Larsson et al. 2017) that training comes to: in epoch `e` of `E`, from 0, a path is dropped for an image with
    /// `e / E` of it, as in released DARTS.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drop_path: f64,
    /// Paths of a supernet in each step, whose gradients for the same images are averaged.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub paths: usize,
    /// Whether the first two of these are a supernet's largest and smallest network, and all but the largest learn what it answers (sandwich
    /// rule with in-place distillation; Yu and Huang, ICCV 2019).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sandwich: bool,
    /// Whether layers may only become smaller as training goes on (progressive shrinking; Cai et al., ICLR 2020): see
    /// [`Supernet::shrunk`](crate::nn::space::Supernet::shrunk).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shrinking: bool,
}

fn one() -> usize {
    1
}

/// Whether steps have one path, as those of networks without choices.
fn is_one(paths: &usize) -> bool {
    *paths == 1
}

/// Whether no path is dropped: recipes without drop path are written as they were before there was any.
fn is_zero(probability: &f64) -> bool {
    *probability == 0.0
}

impl Recipe {
    /// A sound recipe for small networks on images of this side.
    pub fn usual(optimizer: Optimizer, epochs: usize, side: usize) -> Self {
        Recipe {
            epochs,
            batch: 64,
            optimizer,
            lr: 0.1,
            schedule: Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false },
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            rho: optimizer.default_rho(),
            clip: Some(5.0),
            smoothing: 0.0,
            augmentation: Some(Augmentation::usual(side)),
            touch_all: false,
            adversarial: None,
            drop_path: 0.0,
            paths: 1,
            sandwich: false,
            shrinking: false,
        }
    }

    /// What a space's authors train its networks with, for images of this side: where these are smaller than what is cut out, as much smaller a
    /// hole as they are than images of 32 pixels.
    pub fn published(own: &PublishedTraining, side: usize) -> Self {
        let PublishedTraining { epochs, batch, lr, weight_decay, clip, cutout, drop_path, .. } = *own;
        let cutout = if side < 32 { (usize::from(cutout) * side / 32) as u8 } else { cutout };
        let augmentation = Some(Augmentation { cutout, ..Augmentation::usual(side) });
        let usual = Recipe::usual(Optimizer::Sgd, epochs, side);
        Recipe { batch, lr, weight_decay, clip: Some(clip), nesterov: false, augmentation, drop_path, ..usual }
    }

    /// The same with another optimiser, whose radius is the usual one.
    pub fn with_optimizer(&self, optimizer: Optimizer) -> Self {
        let rho = if optimizer == self.optimizer { self.rho } else { optimizer.default_rho() };
        Recipe { optimizer, rho, ..self.clone() }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names the option that cannot be used.
    pub fn validate(&self, images: usize) -> Result<()> {
        let range = |what: &str, value: f64, low: f64, high: f64| {
            let good = value.is_finite() && (low..=high).contains(&value);
            if good { Ok(()) } else { Err(Error::invalid(what, format!("{value} is outside {low} to {high}"))) }
        };
        range("--lr", self.lr, 0.0, 1e3)?;
        range("--momentum", self.momentum, 0.0, 1.0)?;
        range("--weight-decay", self.weight_decay, 0.0, 10.0)?;
        range("--rho", self.rho, 0.0, 1e3)?;
        range("--smoothing", self.smoothing, 0.0, 1.0)?;
        range("--clip", self.clip.unwrap_or(1.0), 1e-12, 1e12)?;
        self.adversarial.map_or(Ok(()), |a| a.validate())?;
        if !(0.0..1.0).contains(&self.drop_path) {
            let why = format!("{}, expected 0 to less than 1: what is kept is divided by 1 less that", self.drop_path);
            return Err(Error::invalid("--drop-path", why));
        }
        if !(1..=MOST_PATHS).contains(&self.paths) {
            return Err(Error::invalid("--paths", format!("{}, expected 1 to {MOST_PATHS}", self.paths)));
        }
        if self.sandwich && self.paths < 2 {
            let why = "steps have one path, expected the largest network, the smallest, and perhaps others: --paths 2 or more, or --sandwich false";
            return Err(Error::invalid("--sandwich", why));
        }
        if self.paths > 1 && self.adversarial.is_some() {
            return Err(Error::invalid("--paths", "an attack moves images for one path; use 1"));
        }
        if self.epochs == 0 {
            return Err(Error::invalid("--epochs", "0; training needs at least one"));
        }
        if self.batch == 0 {
            return Err(Error::invalid("--batch", "0 images; a batch needs at least one"));
        }
        if self.batch > images {
            return Err(Error::invalid("--batch", format!("{} is more than the {images} training images", self.batch)));
        }
        if self.batch == 1 {
            return Err(Error::invalid("--batch", "1 image has no batch statistics; use at least 2"));
        }
        self.schedule.validate()
    }

    /// Fails if the recipe asks for what a network, or images of so many rows and columns, do not have.
    ///
    /// # Errors
    /// Names the option.
    pub fn check(&self, model: &dyn Model, sides: [usize; 2]) -> Result<()> {
        let [rows, columns, _] = model.input();
        self.augmentation.map_or(Ok(()), |augmentation| augmentation.check(sides, [rows, columns]))?;
        if self.drop_path == 0.0 && self.paths == 1 && !self.shrinking {
            return Ok(());
        }
        let step = build(model, &StepOptions { batch: 2, ..self.options() })?;
        match self.shrinking && step.graph.choices.is_empty() {
            true => Err(Error::invalid("--shrinking", "this network has no layers of several sizes; leave it out")),
            false => Ok(()),
        }
    }

    /// What its steps do.
    pub(super) fn options(&self) -> StepOptions {
        StepOptions {
            batch: self.batch,
            statistics: Statistics::Batch { update: true },
            smoothing: self.smoothing as f32,
            update: Some(Update {
                optimizer: self.optimizer,
                nesterov: self.nesterov,
                clip: self.clip.is_some(),
                touch_all: self.touch_all,
                adversarial: self.adversarial.map_or(0, |a| a.steps),
                drop_path: self.drop_path > 0.0,
                more_paths: self.paths.saturating_sub(1),
                distilled: self.sandwich,
            }),
            gradients: false,
        }
    }

    /// The same for the training that a configuration calls `section`. `epochs` is the option that sets its epochs.
    ///
    /// # Errors
    /// Names the key, or the option, that cannot be used.
    pub fn validate_in(&self, section: &str, epochs: &str, images: usize) -> Result<()> {
        self.validate(images).map_err(|error| match error {
            Error::Invalid { what, why } if what == "--epochs" => Error::invalid(epochs, why),
            Error::Invalid { what, why } => {
                Error::invalid(format!("{section}.{}", what.trim_start_matches('-').replace('-', "_")), why)
            }
            other => other,
        })
    }

    /// Steps of one epoch; an incomplete last batch is left out.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        images / self.batch
    }

    /// The numbers of step `step` of all.
    pub fn rates(&self, step: usize, steps_per_epoch: usize) -> Rates {
        let total = self.epochs * steps_per_epoch;
        let epoch = (step / steps_per_epoch.max(1)).min(self.epochs);
        Rates {
            rate: self.schedule.rate(self.lr, step as u64, total as u64, steps_per_epoch as u64),
            momentum: self.momentum,
            decay: self.weight_decay,
            statistics_momentum: 0.1,
            rho: self.rho,
            clip: self.clip.unwrap_or(f64::from(f32::MAX)),
            drop_path: self.drop_path * epoch as f64 / self.epochs.max(1) as f64,
            draw: step as u32,
            ..Rates::default()
        }
    }
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
