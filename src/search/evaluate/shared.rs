//! Candidates with a supernet's weights: loss, accuracy, flatness, angle.

use serde::{Deserialize, Serialize};

use super::{Evaluator, Ground, Parts, check_share};
use crate::error::{Error, Result};
use crate::measure::angle::Angle;
use crate::measure::flatness::FlatnessProtocol;
use crate::measure::forward::Averaging;
use crate::measure::inheritance::recalibration;
use crate::measure::population::{Measured, Population, PopulationOptions};
use crate::measure::side_by_side::limited;
use crate::nn::space::Supernet;
use crate::philox::Stream;
use crate::report::folder::RunFolder;
use crate::search::domain::Whole;
use crate::search::objectives::Measures;
use crate::search::strategy::random;
use crate::search::study::Job;
use crate::space::Draw;
use crate::train::supernet;

/// Architectures on which deviations of the noise are sought, and the key of the random numbers that draw them.
const PROBES: usize = 8;
const PROBE_PURPOSE: u32 = 0x5052_4F50;
const PROBE_STREAM: u64 = (1 << 40) - 1;
/// The checkpoint that holds the deviations.
const FOUND: &str = "deviations";

/// How a candidate inherits from the supernet and what is measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedOptions {
    /// Share of the training images that trains the supernet; the rest measures.
    pub train_share: f64,
    /// Candidates that are measured side by side at most.
    pub side_by_side: usize,
    /// Batches that set a candidate's batch-norm statistics.
    pub recalibration_batches: usize,
    /// How these batches are weighed.
    pub averaging: Averaging,
    /// Validation images, the first of the validation part; 0 for all.
    pub images: usize,
    /// Images per batch.
    pub batch: usize,
    /// The flatness measure.
    pub flatness: FlatnessProtocol,
    /// Whether the angle is that of the released code, which takes some norms' scales for their shifts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released_angle: bool,
}

impl SharedOptions {
    /// Checks the numbers, for so many training images.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, images: usize) -> Result<()> {
        check_share(self.train_share)?;
        if self.recalibration_batches == 0 || self.batch < 2 || self.side_by_side == 0 {
            return Err(Error::invalid("evaluator", "needs at least one recalibration batch of two images"));
        }
        let training = (images as f64 * self.train_share) as usize;
        if self.batch > training {
            let why = format!("{} is more than the {training} images that train", self.batch);
            return Err(Error::invalid("evaluator.batch", why));
        }
        self.flatness.validate()
    }
}

/// Measures candidates.
pub struct Shared<'a> {
    population: Population<'a>,
    supernet: &'a dyn Supernet,
    /// Of a supernet whose first weights are known.
    angle: Option<Angle>,
    released_angle: bool,
}

impl<'a> Shared<'a> {
    /// Compiles the evaluation, and finds the deviations of the noise where none are given.
    ///
    /// # Errors
    /// If there is no supernet, or not even one candidate fits.
    pub fn open(options: &SharedOptions, ground: Ground<'a>, parts: &Parts, folder: &RunFolder) -> Result<Self> {
        let Ground { setting, family, seed, .. } = ground;
        let none = || Error::invalid("evaluator", "candidates that share weights need a supernet");
        let heritage = ground.supernet.ok_or_else(none)?;
        let population = PopulationOptions {
            side_by_side: options.side_by_side,
            batch: options.batch,
            recalibration: recalibration(&parts.training, seed, options.batch, options.recalibration_batches),
            averaging: options.averaging,
            images: parts.judging[..limited(parts.judging.len(), options.images)].to_vec(),
            flatness: options.flatness.clone(),
            seed,
        };
        let (supernet, store) = heritage.paths()?;
        let mut population = Population::new(setting, supernet, store, population)?;
        if let Some(sigmas) = folder.read_checkpoint_json(FOUND)? {
            population.set_sigmas(sigmas);
        } else if population.sigmas().is_empty() {
            let streams =
                |_, slot| -> Box<dyn Draw> { Box::new(Stream::new(seed, PROBE_PURPOSE, PROBE_STREAM << 20 ^ slot)) };
            let probes = random::distinct(&Whole(&**family), PROBES, &streams)?;
            let paths = probes.iter().map(|arch| supernet::path(supernet, arch)).collect::<Result<Vec<_>>>()?;
            population.find_sigmas_wait(&paths)?;
            folder.checkpoint_json(FOUND, &population.sigmas())?;
        }
        let angle = heritage.before().map(|before| Angle::new(before, heritage.named())).transpose()?;
        Ok(Shared { population, supernet, angle, released_angle: options.released_angle })
    }
}

impl Evaluator for Shared<'_> {
    fn width(&self) -> usize {
        self.population.width()
    }

    fn evaluate(&mut self, jobs: &[Job], _between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let paths = jobs.iter().map(|job| supernet::path(self.supernet, &job.arch)).collect::<Result<Vec<_>>>()?;
        let number = jobs.first().map_or(0, |job| job.number);
        let least = self.population.sigmas().first().copied().unwrap_or(f64::NAN);
        let measures = |(job, measured): (&Job, Measured)| {
            let mut measures = Measures::from([
                ("loss".to_owned(), measured.clean.loss),
                ("accuracy".to_owned(), measured.clean.accuracy),
                ("flatness".to_owned(), measured.flatness),
                ("scaled_flatness".to_owned(), measured.flatness / least),
                ("slope".to_owned(), measured.slope),
            ]);
            if let Some(angle) = self.angle.as_ref() {
                let angle = angle.of(self.supernet, &job.arch, self.released_angle)?;
                measures.extend(angle.map(|(angle, _)| ("angle".to_owned(), angle)));
            }
            let levels = measured.noisy_losses.iter().enumerate();
            measures.extend(levels.map(|(level, loss)| (format!("loss_at_sigma_{}", level + 1), *loss)));
            Ok(measures)
        };
        jobs.iter().zip(self.population.measure_wait(&paths, number)?).map(measures).collect()
    }

    fn findings(&self) -> Option<(&'static str, serde_json::Value)> {
        Some(("sigmas", self.population.sigmas().into()))
    }
}
