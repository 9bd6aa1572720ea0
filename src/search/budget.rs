//! What a search will take: steps, candidates, arithmetic; and which share of the whole each of its stages is.

use serde::Serialize;

use super::config::{Arm, SearchConfig};
use super::evaluate::EvaluatorConfig;
use super::methods::{arms, twins};
use crate::error::Result;
use crate::measure::side_by_side::limited;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::progress::Share;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// Purpose word of the architectures whose mean cost is taken, and their number.
const SAMPLE_PURPOSE: u32 = 0x4452_5952;
const SAMPLE: u32 = 128;
/// Forward passes that a proxy is worth: networks with and without perturbation, their gradients, a few measures of each.
const PROXY_PASSES: f64 = 12.0;
/// Sets of test images, clean and corrupted: 15 kinds at five severities are most of them.
const JUDGING_PASSES: f64 = 76.0;
/// Deviations of weight noise under which they are seen, by all its draws and the network itself.
const NOISE_LEVELS: f64 = 4.0;
/// Sets of images that are corrupted after they were made larger.
const RESIZED_PASSES: f64 = 75.0;
/// Sets of images kept back: four kinds at five severities.
const VALIDATION_PASSES: f64 = 20.0;

/// The work of an arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmWork {
    /// Its name.
    pub arm: String,
    /// Candidates.
    pub candidates: usize,
    /// Images that go forward for each; a training pass counts as three, and one of sharpness-aware minimisation as six.
    pub images_per_candidate: f64,
}

/// The work of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Steps of the supernet.
    pub supernet_steps: usize,
    /// Candidates of each arm.
    pub arms: Vec<ArmWork>,
    /// Networks that are trained at the end.
    pub networks: usize,
    /// Steps of each.
    pub training_steps: usize,
    /// Arithmetic operations of the whole search, in units of 10^9.
    pub gflop: f64,
    /// What that takes at a sustained rate.
    pub seconds_at_10_gflops: f64,
    /// The same of a small GPU.
    pub seconds_at_1000_gflops: f64,
    /// Shares of supernet, arms and finals.
    #[serde(skip)]
    shares: Vec<f64>,
}

/// Images that go forward in a training, on so many images.
fn passes(recipe: &Recipe, images: usize) -> f64 {
    let each = if recipe.optimizer == Optimizer::Sgd { 3.0 } else { 6.0 };
    each * (recipe.epochs * recipe.steps_per_epoch(images) * recipe.batch * recipe.paths) as f64
}

/// Images that go forward for a candidate of an arm, of so many training images.
fn per_candidate(arm: &Arm, images: usize) -> f64 {
    let parts = |share: f64| {
        let training = (images as f64 * share) as usize;
        (training, images - training)
    };
    match &arm.evaluator {
        EvaluatorConfig::Shared(options) => {
            let flatness = &options.flatness;
            let levels = if flatness.sigmas.is_empty() { 3 } else { flatness.sigmas.len() };
            let each = limited(parts(options.train_share).1, options.images);
            (each * (1 + levels * flatness.draws) + options.recalibration_batches * options.batch) as f64
        }
        EvaluatorConfig::Trained(options) => {
            let (training, judging) = parts(options.train_share);
            let judged = limited(judging, options.images) * (1 + options.noise.draws);
            passes(&options.training, limited(training, options.training_images)) + judged as f64
        }
        EvaluatorConfig::Proxy(options) => PROXY_PASSES * options.scored_batch as f64,
        EvaluatorConfig::Cost => 0.0,
    }
}

impl Work {
    /// Of a search on so many training and test images.
    ///
    /// # Errors
    /// If the space's networks cannot be built.
    pub fn of(config: &SearchConfig, family: &Family, images: usize, test_images: usize) -> Result<Self> {
        let mut draw = Stream::new(config.seed, SAMPLE_PURPOSE, 0);
        let built = config.finals.family(family)?;
        let mut macs = [0.0; 2];
        for _ in 0..SAMPLE {
            let arch = family.sample(&mut draw)?;
            for (sum, family) in macs.iter_mut().zip([family, &built]) {
                *sum += family.cost(&arch)?.macs as f64 / f64::from(SAMPLE);
            }
        }
        // Networks at the end may be larger than candidates: their images count for more.
        let [macs, larger] = [macs[0], macs[1] / macs[0].max(1.0)];
        let share = match &config.evaluator {
            EvaluatorConfig::Shared(options) => options.train_share,
            EvaluatorConfig::Trained(options) => options.train_share,
            _ => 1.0,
        };
        let own = (images as f64 * share) as usize;
        let all = arms(config)?;
        let twins = twins(&all);
        let work = |(arm, twin): (&Arm, &Option<usize>)| ArmWork {
            arm: arm.name.clone(),
            candidates: config.evaluations,
            images_per_candidate: if twin.is_some() { 0.0 } else { per_candidate(arm, images) },
        };
        let arms: Vec<ArmWork> = all.iter().zip(&twins).map(work).collect();
        let finals = config.finals.training_images(images).unwrap_or(images);
        let networks = config.finals.contestants.len() * config.finals.seeds as usize;
        let larger_images = config.finals.resized_first && family.is_elastic();
        let disturbed = NOISE_LEVELS * (1 + config.finals.noise.draws) as f64;
        let sets = JUDGING_PASSES + disturbed + if larger_images { RESIZED_PASSES } else { 0.0 };
        let judged = limited(test_images, config.finals.judged_images) as f64 * sets + test_images as f64;
        let judged = judged + config.finals.kept_back as f64 * VALIDATION_PASSES;
        let trained = config.supernet().filter(|_| config.supernet_file.is_none());
        let mut parts = vec![trained.as_ref().map_or(0.0, |recipe| passes(recipe, own))];
        parts.extend(arms.iter().map(|arm| arm.candidates as f64 * arm.images_per_candidate));
        parts.push(larger * networks as f64 * (passes(&config.training, finals) + judged));
        let all: f64 = parts.iter().sum();
        let flop = 2.0 * macs * all;
        Ok(Work {
            supernet_steps: trained.map_or(0, |recipe| recipe.epochs * recipe.steps_per_epoch(own)),
            arms,
            networks,
            training_steps: config.training.epochs * config.training.steps_per_epoch(finals),
            gflop: flop / 1e9,
            seconds_at_10_gflops: flop / 1e10,
            seconds_at_1000_gflops: flop / 1e12,
            shares: parts.iter().map(|part| part / all).collect(),
        })
    }

    /// The place of a part: 0 the supernet, then the arms, then the finals.
    pub fn share(&self, part: usize) -> Share {
        let until = |part: usize| self.shares.iter().take(part).sum::<f64>().min(1.0);
        Share { from: until(part), to: until(part + 1) }
    }
}
