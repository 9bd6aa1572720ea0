//! Evaluating candidates by training them: several architectures side by side in one plan, then their error and their
//! sensitivity to weight noise.
//!
//! All candidates begin from weights of one seed or of one supernet, see the same batches, and are disturbed by the same
//! noise, so that their differences are their own. How many train side by side changes no bit.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Evaluator, Ground, Parts, check_share};
use crate::error::Result;
use crate::graph::Role;
use crate::measure::best_epoch::BestEpochs;
use crate::measure::flatness::flatnas_robustness;
use crate::measure::forward::Score;
use crate::measure::inheritance::{inherit, recalibration};
use crate::measure::judge::{Network, WeightNoise, noisy_scores_wait};
use crate::measure::side_by_side::{halving, limited};
use crate::nn::Model;
use crate::progress::Event;
use crate::report::folder::RunFolder;
use crate::search::objectives::Measures;
use crate::search::strategy::check_sizes;
use crate::search::study::Job;
use crate::train::feed::Pick;
use crate::train::job::{self, Saving};
use crate::train::supernet::Heritage;
use crate::train::trainer::{Inheritance, Member, Progress, Recipe, Trainer};

/// How a candidate is trained and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOptions {
    /// Share of the training images that trains candidates; the rest measures.
    pub train_share: f64,
    /// Whether they are measured on images that trained them, and `R` in whole hundredths, as the released code has it.
    pub judges_on_training: bool,
    /// Candidates that train side by side at most.
    pub side_by_side: usize,
    /// Images that train a candidate, the first of the training part; 0 for all.
    pub training_images: usize,
    /// Images that measure it, the first of the validation part; 0 for all.
    pub images: usize,
    /// Weight noise that they are measured under.
    pub noise: WeightNoise,
    /// Batches of training images, as large as those of the measurement, that set the batch norms' statistics of a
    /// candidate with a supernet's weights, before it is trained.
    pub recalibration_batches: usize,
    /// Whether it ends with the weights of the epoch after which it erred least on the images that measure it, in place of the last one's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_epoch: bool,
    /// How it is trained.
    pub training: Recipe,
}

impl TrainedOptions {
    /// The batches that set the statistics of a network with inherited weights.
    pub fn recalibration(&self, training: &[usize], seed: u64) -> Vec<Vec<Pick>> {
        recalibration(training, seed, self.noise.batch.min(training.len()), self.recalibration_batches)
    }

    /// The images that train, and those that measure, of both parts of the data.
    pub(super) fn limited(&self, all: Vec<usize>, validation: Vec<usize>) -> Parts {
        let training = all[..limited(all.len(), self.training_images)].to_vec();
        let mut judging = if self.judges_on_training { training.clone() } else { validation };
        judging.truncate(limited(judging.len(), self.images));
        Parts { all, training, judging }
    }

    /// Checks all numbers, for so many training images.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, images: usize) -> Result<()> {
        check_share(self.train_share)?;
        let sizes = [("side_by_side", self.side_by_side), ("recalibration_batches", self.recalibration_batches)];
        check_sizes(&sizes)?;
        self.noise.validate()?;
        let own = limited((images as f64 * self.train_share) as usize, self.training_images);
        self.training.validate_in("evaluator.training", "--candidate-epochs", own)
    }
}

/// Trains and measures candidates.
pub struct Trained<'a> {
    /// How.
    pub options: TrainedOptions,
    /// What on.
    pub ground: Ground<'a>,
    /// With which images.
    pub parts: &'a Parts,
    /// Where trainings are saved that take long.
    pub folder: &'a RunFolder,
}

impl Evaluator for Trained<'_> {
    fn width(&self) -> usize {
        self.options.side_by_side
    }

    fn evaluate(&mut self, jobs: &[Job], between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let all = jobs.len().max(1) as f64;
        halving(0..jobs.len(), &mut |range| {
            let (done, share) = (range.start as f64 / all, range.len() as f64 / all);
            self.train_and_measure(&jobs[range], &mut |part| between(done + share * part))
        })
    }
}

impl Trained<'_> {
    /// Trains networks from fresh or inherited weights and measures them.
    fn train_and_measure(&self, jobs: &[Job], between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let Ground { setting, family, seed, supernet, .. } = self.ground;
        let networks = jobs.iter().map(|job| family.network(&job.arch)).collect::<Result<Vec<Box<dyn Model>>>>()?;
        let models: Vec<&dyn Model> = networks.iter().map(|network| &**network).collect();
        let members: Vec<Member> = models.iter().map(|&model| Member { model, seed, path: vec![] }).collect();
        let training = &self.parts.training;
        let mut trainer = Trainer::of(setting.clone(), &members, &self.options.training, training)?.forgiving();
        let name = |arch| move |own: &str| supernet.and_then(|heritage: &Heritage| heritage.source(own, arch));
        let names: Vec<_> = jobs.iter().map(|job| name(&job.arch)).collect();
        let cut = |job: &Job| supernet.map_or(Ok(None), |heritage| heritage.cut(family, &job.arch));
        let cuts = jobs.iter().map(cut).collect::<Result<Vec<_>>>()?;
        let from = |network: usize| Some(cuts[network].as_ref().unwrap_or(supernet?.named()));
        let heirs = names
            .iter()
            .enumerate()
            .filter_map(|(network, name)| Some((network, Inheritance { from: from(network)?, name })));
        let recalibration = self.options.recalibration(training, seed);
        inherit(setting, &trainer, &models, &heirs.collect::<Vec<_>>(), &recalibration)?;
        // What is saved belongs to these candidates alone, until they are measured.
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        let of = format!("{} {}", self.options.training.optimizer, names.join("\n"));
        let checkpoint = format!("candidates-{:016x}", xxhash_rust::xxh3::xxh3_64(of.as_bytes()));
        let saving = Saving { folder: self.folder, name: &checkpoint };
        let total = trainer.total_steps() as f64;
        let mut observer = |event: &Event| match event {
            Event::Advance { done, .. } if between(0.9 * *done as f64 / total).is_err() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let stage = ("training candidates", 0.0, 1.0);
        let judging = &self.parts.judging;
        let open = |_| BestEpochs::open(setting, &models, judging, (self.folder, &checkpoint));
        let mut best = self.options.best_epoch.then_some(()).map(open).transpose()?;
        let mut before_step = |trainer: &mut Trainer| match &mut best {
            Some(best) if trainer.step() > 0 && trainer.step().is_multiple_of(trainer.steps_per_epoch()) => {
                best.look(trainer)
            }
            _ => Ok(()),
        };
        let curves = job::run(&mut trainer, Some(saving), stage, &mut observer, &mut before_step)?;
        let epochs = match &mut best {
            Some(best) => best.look(&trainer).and_then(|()| best.restore(&trainer))?,
            None => vec![],
        };
        let stores = |i| trainer.stores(i).clone().only(&[Role::Weights, Role::Running]);
        let trained = models.iter().enumerate().map(|(i, &model)| Network { model, stores: stores(i) });
        let trained: Vec<Network> = trained.collect();
        drop(trainer);
        let noise = Some(self.options.noise);
        let scores = noisy_scores_wait(setting, noise, &trained, &self.parts.judging, seed)?;
        self.folder.forget(&checkpoint)?;
        best.map_or(Ok(()), BestEpochs::forget)?;
        let mut all: Vec<Measures> =
            scores.into_iter().zip(&curves).map(|(scores, own)| self.measures(scores, job::last(own))).collect();
        for (measures, epoch) in all.iter_mut().zip(epochs) {
            measures.insert("best_epoch".to_owned(), epoch as f64);
        }
        Ok(all)
    }

    /// Error and `R` in percent points; not numbers if the training failed.
    fn measures(&self, (clean, noisy): (Score, Vec<Score>), training: Progress) -> Measures {
        // With the best epoch's weights the last one may have failed.
        let failed = !clean.loss.is_finite() || (!self.options.best_epoch && !training.loss.is_finite());
        let value = |value: f64| if failed { f64::NAN } else { value };
        let robustness = flatnas_robustness(clean, &noisy);
        let robustness =
            if self.options.judges_on_training { (100.0 * robustness).round() / 100.0 } else { robustness };
        Measures::from([
            ("error".to_owned(), value(100.0 * (1.0 - clean.accuracy))),
            ("accuracy".to_owned(), value(clean.accuracy)),
            ("robustness".to_owned(), value(robustness)),
            ("loss".to_owned(), clean.loss),
            ("training_loss".to_owned(), training.loss),
            ("training_accuracy".to_owned(), training.accuracy),
        ])
    }
}
