//! Evaluators: what is measured of candidates, and on what.

use serde::{Deserialize, Serialize};

use super::objectives::{Measures, constant_error};
use super::study::Job;
use crate::data::{Dataset, SplitSize, split};
use crate::error::{Error, Result};
use crate::measure::side_by_side::limited;
use crate::nn::space::Family;
use crate::report::folder::RunFolder;
use crate::train::supernet::Heritage;
use crate::train::trainer::Setting;

pub mod proxy;
pub mod shared;
pub mod table;
pub mod trained;

use proxy::ProxyOptions;
use shared::SharedOptions;
use trained::TrainedOptions;

/// Measures candidates.
pub trait Evaluator {
    /// How many it measures side by side at most.
    fn width(&self) -> usize;

    /// Measures candidates, at most [`Evaluator::width`]. How many are measured side by side changes no bit. `between` is called now
    /// and then with the share of the work that is done; its error ends the work.
    ///
    /// # Errors
    /// What the device has to say. A candidate that cannot be measured is no error: its measures are not numbers.
    fn evaluate(&mut self, jobs: &[Job], between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>>;

    /// What it found out before it could begin, for the result.
    fn findings(&self) -> Option<(&'static str, serde_json::Value)> {
        None
    }
}

/// Which evaluator, and its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EvaluatorConfig {
    /// With a supernet's weights: loss, accuracy, flatness.
    Shared(SharedOptions),
    /// Each trained: error, robustness to weight noise.
    Trained(TrainedOptions),
    /// Untrained: a zero-cost proxy.
    Proxy(ProxyOptions),
    /// Not at all: what is known of it.
    Cost,
}

/// The images of candidates.
pub struct Parts {
    /// Those that train a supernet.
    pub all: Vec<usize>,
    /// Those that train candidates, or set their statistics: some of these.
    pub training: Vec<usize>,
    /// Those that measure.
    pub judging: Vec<usize>,
}

/// What evaluators stand on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Device, data, statistics.
    pub setting: &'a Setting<'a>,
    /// The space, and how its networks are built.
    pub family: &'a Family,
    /// The data set.
    pub data: &'a Dataset,
    /// Seed of everything.
    pub seed: u64,
    /// The supernet, if there is one.
    pub supernet: Option<&'a Heritage>,
}

impl EvaluatorConfig {
    /// The images that train candidates and those that measure them.
    ///
    /// # Errors
    /// If the data cannot be split so, or is too little to tell a network from one that always gives the same answer.
    pub fn parts(&self, data: &Dataset, seed: u64) -> Result<Parts> {
        let share = match self {
            EvaluatorConfig::Shared(options) => options.train_share,
            EvaluatorConfig::Trained(options) => options.train_share,
            _ => return Ok(Parts { all: (0..data.train.len()).collect(), training: vec![], judging: vec![] }),
        };
        let parts = split(&data.train, &SplitSize::Fractions(vec![share, 1.0 - share]), seed)?;
        let Ok([all, judging]) = <[Vec<usize>; 2]>::try_from(parts) else {
            return Err(Error::invalid("train_share", "the data cannot be split"));
        };
        Ok(match self {
            EvaluatorConfig::Trained(options) => options.limited(all, judging),
            _ => Parts { training: all.clone(), all, judging },
        })
    }

    /// The error in percent points from which on a network has learned nothing; infinite where that cannot be said.
    ///
    /// # Errors
    /// If there are too few images to say, and candidates' errors are compared.
    pub fn constant_error(&self, data: &Dataset, parts: &Parts) -> Result<f64> {
        let images = match self {
            EvaluatorConfig::Shared(options) => limited(parts.judging.len(), options.images),
            EvaluatorConfig::Trained(_) => parts.judging.len(),
            _ => return Ok(f64::INFINITY),
        };
        let labels = parts.judging[..images].iter().map(|&i| usize::from(data.train.labels[i]));
        let constant = constant_error(&labels.collect::<Vec<_>>());
        match self {
            EvaluatorConfig::Trained(_) if constant <= 0.0 => {
                let why = format!(
                    "{images} validation images are too few to tell a network from one that always gives the same answer; take \
                     more (evaluator.images, a smaller evaluator.train_share)"
                );
                Err(Error::invalid("validation", why))
            }
            _ => Ok(if constant > 0.0 { constant } else { f64::INFINITY }),
        }
    }

    /// Checks all numbers, for so many training images.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, images: usize) -> Result<()> {
        match self {
            EvaluatorConfig::Shared(options) => options.validate(images),
            EvaluatorConfig::Trained(options) => options.validate(images),
            EvaluatorConfig::Proxy(options) => options.validate(images),
            EvaluatorConfig::Cost => Ok(()),
        }
    }

    /// Whether it needs a supernet.
    pub fn needs_supernet(&self) -> bool {
        matches!(self, EvaluatorConfig::Shared(_))
    }

    /// The evaluator. What it finds out first is kept in the run's folder.
    ///
    /// # Errors
    /// If not even one candidate fits the device.
    pub fn open<'a>(
        &self,
        ground: Ground<'a>,
        parts: &'a Parts,
        folder: &'a RunFolder,
    ) -> Result<Box<dyn Evaluator + 'a>> {
        Ok(match self {
            EvaluatorConfig::Shared(options) => Box::new(shared::Shared::open(options, ground, parts, folder)?),
            EvaluatorConfig::Trained(options) => {
                Box::new(trained::Trained { options: options.clone(), ground, parts, folder })
            }
            EvaluatorConfig::Proxy(options) => Box::new(proxy::ByProxy::open(options, ground)?),
            EvaluatorConfig::Cost => Box::new(Costs(ground)),
        })
    }
}

/// Fails unless a share of the training images leaves some for either part.
fn check_share(share: f64) -> Result<()> {
    match (0.05..=0.95).contains(&share) {
        true => Ok(()),
        false => Err(Error::invalid("train_share", format!("{share} is outside 0.05 to 0.95"))),
    }
}

/// Measures nothing but what networks cost.
struct Costs<'a>(Ground<'a>);

impl Evaluator for Costs<'_> {
    fn width(&self) -> usize {
        64
    }

    fn evaluate(&mut self, jobs: &[Job], _between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let measures = |job: &Job| {
            let cost = self.0.family.cost(&job.arch)?;
            Ok(Measures::from([("params".to_owned(), cost.params as f64), ("macs".to_owned(), cost.macs as f64)]))
        };
        jobs.iter().map(measures).collect()
    }
}
