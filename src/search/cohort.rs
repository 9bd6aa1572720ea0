//! Evaluating candidates by training them: several architectures side by side in one plan, then their error and their
//! sensitivity to weight noise.
//!
//! All candidates begin from weights of one seed or of one supernet, see the same batches, and are disturbed by the same
//! noise, so that their differences are their own. How many train side by side changes no bit.

use serde::{Deserialize, Serialize};

use super::supernet::{self, recalibration};
use crate::error::{Error, Result};
use crate::graph::{Noise, Role, Statistics};
use crate::measure::flatness::flatnas_robustness;
use crate::measure::forward::{Forward, Score, Subject, graphs};
use crate::measure::noise::Perturbation;
use crate::nn::Model;
use crate::train::feed::Pick;
use crate::train::stores::Stores;
use crate::train::trainer::{Inheritance, Member, Progress, Recipe, Setting, Trainer};

/// Bytes of activations that one population may take on adapters that share the processor's memory, and on others.
const BUDGETS: (u64, u64) = (512 << 20, 2 << 30);

/// How a candidate is trained and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortOptions {
    /// Candidates that train side by side at most.
    pub side_by_side: usize,
    /// Images that train a candidate, the first of the training part; 0 for all.
    pub training_images: usize,
    /// Images that measure it, the first of the validation part; 0 for all.
    pub images: usize,
    /// Images per batch of the measurement.
    pub batch: usize,
    /// Deviation of the weight noise, as a part of each weight.
    pub sigma: f64,
    /// Draws of weight noise.
    pub draws: usize,
    /// Batches of training images, as large as those of the measurement, that set the batch norms' statistics of a
    /// candidate with a supernet's weights, before it is trained.
    pub recalibration_batches: usize,
    /// How it is trained.
    pub training: Recipe,
}

impl CohortOptions {
    /// The batches that set the statistics of a network with inherited weights.
    pub fn recalibration(&self, training: &[usize], seed: u64) -> Vec<Vec<Pick>> {
        recalibration(training, seed, self.batch.min(training.len()), self.recalibration_batches)
    }

    /// Checks all numbers but those of the recipe.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        for (what, value) in [
            ("side_by_side", self.side_by_side),
            ("batch", self.batch),
            ("--draws", self.draws),
            ("recalibration_batches", self.recalibration_batches),
        ] {
            if value == 0 {
                return Err(Error::invalid(what, "is 0, expected at least 1"));
            }
        }
        if !(0.0..=10.0).contains(&self.sigma) {
            return Err(Error::invalid("--sigma", format!("is {}, expected 0 to 10", self.sigma)));
        }
        Ok(())
    }
}

/// What was measured on a trained network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Error `E` on the images that measure, percent points; not a number if the training failed.
    pub error: f64,
    /// FlatNAS's `R`: mean change of accuracy under weight noise, percent points.
    pub robustness: f64,
    /// Without noise.
    pub clean: Score,
    /// The last epoch of the training.
    pub training: Progress,
}

/// A network to train and measure.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// A supernet's weights, to start from instead of fresh ones.
    pub inherit: Option<Inheritance<'a>>,
}

/// Trains and measures candidates.
pub struct Cohort<'a> {
    /// Device, data and statistics.
    pub setting: Setting<'a>,
    /// Sizes.
    pub options: &'a CohortOptions,
    /// Images that train.
    pub training: &'a [usize],
    /// Images that measure.
    pub images: &'a [usize],
    /// Seed of weights, batches and noise.
    pub seed: u64,
}

impl Cohort<'_> {
    /// Trains the networks from fresh or inherited weights and measures them. `between` is called after each step with the share of the
    /// work that is done; its error ends the work.
    ///
    /// # Errors
    /// If the recipe cannot be used, or not even one network fits.
    pub fn measure_wait(
        &self,
        candidates: &[Candidate],
        between: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Measured>> {
        let models: Vec<&dyn Model> = candidates.iter().map(|candidate| candidate.model).collect();
        let members: Vec<Member> =
            models.iter().map(|&model| Member { model, seed: self.seed, path: vec![] }).collect();
        let trainer = Trainer::of(self.setting.clone(), &members, &self.options.training, self.training);
        let mut trainer = match trainer {
            Ok(trainer) => trainer.forgiving(),
            Err(Error::Memory { .. }) if candidates.len() > 1 => {
                let (left, right) = candidates.split_at(candidates.len() / 2);
                let mut all = self.measure_wait(left, &mut |share| between(share / 2.0))?;
                all.extend(self.measure_wait(right, &mut |share| between(0.5 + share / 2.0))?);
                return Ok(all);
            }
            Err(error) => return Err(error),
        };
        let inherited = candidates.iter().map(|candidate| candidate.inherit).enumerate();
        let heirs: Vec<_> = inherited.filter_map(|(network, inherit)| Some((network, inherit?))).collect();
        let recalibration = self.options.recalibration(self.training, self.seed);
        supernet::inherit(&self.setting, &trainer, &models, &heirs, &recalibration)?;
        let (total, per_epoch) = (trainer.total_steps(), trainer.steps_per_epoch());
        let mut progress = vec![];
        while !trainer.is_done() {
            trainer.submit_step()?;
            trainer.wait_for_previous()?;
            if trainer.step().is_multiple_of(per_epoch) {
                progress = trainer.progress_wait()?;
            }
            between(0.9 * trainer.step() as f64 / total as f64)?;
        }
        let stores: Vec<Stores> = (0..models.len()).map(|i| trainer.stores(i).clone()).collect();
        drop(trainer);
        let scores = noisy_scores_wait(&self.setting, self.options, &models, &stores, self.images, self.seed)?;
        let measured = scores.into_iter().zip(progress).map(|((clean, noisy), training)| {
            let failed = !training.loss.is_finite() || !clean.loss.is_finite();
            Measured {
                error: if failed { f64::NAN } else { 100.0 * (1.0 - clean.accuracy) },
                robustness: if failed { f64::NAN } else { flatnas_robustness(clean, &noisy) },
                clean,
                training,
            }
        });
        Ok(measured.collect())
    }
}

/// The scores of trained networks on the listed images, without noise and under each of its draws; as many networks at a
/// time as memory allows.
///
/// # Errors
/// If not even one network fits.
pub fn noisy_scores_wait(
    setting: &Setting,
    options: &CohortOptions,
    models: &[&dyn Model],
    stores: &[Stores],
    images: &[usize],
    seed: u64,
) -> Result<Vec<(Score, Vec<Score>)>> {
    let budget = if setting.gpu.report().is_software() { BUDGETS.0 } else { BUDGETS.1 };
    let Some(first) = models.first() else { return Ok(vec![]) };
    let each = options.draws + 1;
    let batch = options.batch.min(images.len()).max(1);
    let passes: Vec<&dyn Model> = models.iter().flat_map(|model| vec![*model; each]).collect();
    let passes = graphs(&passes, batch, Statistics::Running)?;
    let weights = |stores: &Stores| Ok((stores.of(Role::Weights)?.clone(), 0));
    let sources = stores.iter().map(weights).collect::<Result<Vec<_>>>()?;
    let maker = Perturbation::new(setting.gpu, setting.preset, &sources, options.draws, Noise::Multiplicative)?;
    let mut subjects = vec![];
    for (network, stores) in stores.iter().enumerate() {
        // A network without batch norms has no statistics, and nothing asks for them.
        let running = stores.of(Role::Running).or_else(|_| stores.of(Role::Weights))?.clone();
        let subject = |weights| Subject { weights, running: (running.clone(), 0), path: vec![] };
        subjects.push(subject(sources[network].clone()));
        subjects.extend((0..options.draws).map(|draw| subject(maker.copy(network, draw))));
    }
    maker.submit(seed, 0, options.sigma)?;
    let mut scores: Vec<Score> = vec![];
    let mut width = models.len();
    while scores.len() < subjects.len() {
        let here = scores.len()..subjects.len().min(scores.len() + width * each);
        let forward = Forward::of(setting, first.input(), batch, &passes[here.clone()], &subjects[here]);
        match forward {
            Ok(forward) if forward.plan().bytes() <= budget || width == 1 => {
                scores.extend(forward.evaluate_wait(images)?);
            }
            Ok(_) => width = width.div_ceil(2),
            Err(Error::Memory { .. }) if width > 1 => width = width.div_ceil(2),
            Err(error) => return Err(error),
        }
    }
    Ok(scores.chunks(each).map(|own| (own[0], own[1..].to_vec())).collect())
}
