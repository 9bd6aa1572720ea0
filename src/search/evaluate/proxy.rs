//! Candidates scored untrained by a zero-cost proxy.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use super::{Evaluator, Ground};
use crate::error::{Error, Result};
use crate::measure::zero_cost::score::{DRAWS, Drawn, Scorer};
use crate::measure::zero_cost::{LOWEST, Proxy};
use crate::nn::bank::Bank;
use crate::nn::space::Build;
use crate::philox::Stream;
use crate::search::objectives::Measures;
use crate::search::study::Job;
use crate::space::Arch;

/// Architectures that are scored side by side.
const POPULATION: usize = 8;
/// Architectures at random of which half must have a score, and the purpose word of their draws.
const PROBES: u64 = 6;
const PROBE_PURPOSE: u32 = 0x5052_5042;

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
    /// The images of its batch, for networks that see them at another size.
    drawn: Drawn,
    /// Scorers for these, by size.
    others: BTreeMap<[usize; 3], Scorer>,
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
        let drawn = Drawn::new(&data.train, options.scored_batch, seed)?;
        let batch = drawn.batch_wait(setting.gpu, setting.preset, input)?;
        let scorer = Scorer {
            gpu: setting.gpu.clone(),
            preset: setting.preset,
            family: family.in_form(&options.network)?,
            seed,
            batch,
            weights: Bank::fresh(seed),
            range: drawn.range(),
            draws: (0..DRAWS).map(|draw| Bank::normal(seed, draw)).collect(),
            zen: None,
        };
        scorer.check(&[options.proxy])?;
        let mut own = ByProxy { scorer, drawn, others: BTreeMap::new(), proxy: options.proxy };
        // A proxy that few networks have would leave the search to chance.
        let drawn = (0..PROBES).map(|number| family.sample(&mut Stream::new(seed, PROBE_PURPOSE, number)));
        let archs = drawn.collect::<Result<Vec<Arch>>>()?;
        let lost = own.scores(&archs)?.iter().filter(|score| **score == LOWEST).count();
        if 2 * lost > archs.len() {
            let why = format!(
                "{} has no value of {lost} of {} networks of {} at random: gradients are zero, or numbers leave the range of \
                 f32; take another proxy, such as croze",
                options.proxy.name(),
                archs.len(),
                family.name()
            );
            return Err(Error::invalid("--proxy", why));
        }
        Ok(own)
    }

    /// Scores of architectures, each at its own size.
    fn scores(&mut self, archs: &[Arch]) -> Result<Vec<f64>> {
        let mut by_size: BTreeMap<[usize; 3], Vec<usize>> = BTreeMap::new();
        for (place, arch) in archs.iter().enumerate() {
            by_size.entry(self.scorer.family.network(arch)?.input()).or_default().push(place);
        }
        let (mut all, proxy) = (vec![LOWEST; archs.len()], self.proxy);
        for (input, places) in by_size {
            let names: Vec<String> = places.iter().map(|&place| self.scorer.family.show(&archs[place])).collect();
            let scorer = self.of_size(input)?;
            // Genes of a resolution count from the smallest of a family.
            let own = names.iter().map(|name| scorer.family.parse(name)).collect::<Result<Vec<Arch>>>()?;
            for (place, scores) in places.into_iter().zip(scorer.score(&own, &[proxy])?) {
                all[place] = scores.get(&proxy).copied().unwrap_or(LOWEST);
            }
        }
        Ok(all)
    }

    /// The scorer of networks that see images of a size.
    fn of_size(&mut self, input: [usize; 3]) -> Result<&Scorer> {
        if input == self.scorer.family.build.input() {
            return Ok(&self.scorer);
        }
        if let Entry::Vacant(free) = self.others.entry(input) {
            let Scorer { gpu, preset, family, .. } = &self.scorer;
            let [height, width, _] = input;
            let family = family.rebuilt(&Build { image: [height, width], ..family.build.clone() })?;
            let batch = self.drawn.batch_wait(gpu, *preset, input)?;
            free.insert(Scorer { family, batch, ..self.scorer.clone() });
        }
        Ok(&self.others[&input])
    }
}

impl Evaluator for ByProxy {
    fn width(&self) -> usize {
        POPULATION
    }

    fn evaluate(&mut self, jobs: &[Job], _between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let archs: Vec<Arch> = jobs.iter().map(|job| job.arch.clone()).collect();
        let scores = self.scores(&archs)?;
        Ok(scores.into_iter().map(|score| Measures::from([(self.proxy.name().to_owned(), score)])).collect())
    }
}
