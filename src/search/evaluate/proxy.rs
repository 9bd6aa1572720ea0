//! Candidates scored untrained by a zero-cost proxy.

use serde::{Deserialize, Serialize};

use super::{Evaluator, Ground};
use crate::error::{Error, Result};
use crate::measure::zero_cost::score::{DRAWS, Scorer, batch_of};
use crate::measure::zero_cost::{LOWEST, Proxy};
use crate::nn::bank::Bank;
use crate::search::objectives::Measures;
use crate::search::study::Job;
use crate::space::Arch;

/// Architectures that are scored side by side.
const POPULATION: usize = 8;

/// How candidates are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyOptions {
    /// The proxy.
    pub proxy: Proxy,
    /// Form of the network that is scored.
    pub network: String,
    /// Images in the batch that proxies see.
    pub scored_batch: usize,
}

impl ProxyOptions {
    /// Checks the numbers.
    ///
    /// # Errors
    /// If the batch is larger than the data.
    pub fn validate(&self, images: usize) -> Result<()> {
        if self.scored_batch == 0 || self.scored_batch > images {
            return Err(Error::invalid("--batch-size", format!("{} of {images} training images", self.scored_batch)));
        }
        Ok(())
    }
}

/// Scores candidates.
pub struct ByProxy {
    scorer: Scorer,
    proxy: Proxy,
}

impl ByProxy {
    /// Draws the batch and checks the proxy.
    ///
    /// # Errors
    /// If the proxy cannot be had of such networks.
    pub fn open(options: &ProxyOptions, ground: Ground) -> Result<Self> {
        let Ground { setting, family, data, seed, .. } = ground;
        let input = family.build.input();
        let (batch, range) = batch_of(setting.gpu, setting.preset, &data.train, input, options.scored_batch, seed)?;
        let scorer = Scorer {
            gpu: setting.gpu.clone(),
            preset: setting.preset,
            family: family.in_form(&options.network)?,
            seed,
            batch,
            weights: Bank::fresh(seed),
            range,
            draws: (0..DRAWS).map(|draw| Bank::normal(seed, draw)).collect(),
            zen: None,
        };
        scorer.check(&[options.proxy])?;
        Ok(ByProxy { scorer, proxy: options.proxy })
    }
}

impl Evaluator for ByProxy {
    fn width(&self) -> usize {
        POPULATION
    }

    fn evaluate(&mut self, jobs: &[Job], _between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let archs: Vec<Arch> = jobs.iter().map(|job| job.arch.clone()).collect();
        let scores = self.scorer.score(&archs, &[self.proxy])?;
        let score = |scores: crate::measure::zero_cost::score::Scores| {
            let score = scores.get(&self.proxy).copied().unwrap_or(LOWEST);
            Measures::from([(self.proxy.name().to_owned(), score)])
        };
        Ok(scores.into_iter().map(score).collect())
    }
}
