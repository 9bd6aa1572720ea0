//! FlatNAS's outer loop (specification of MSuNAS, Lu et al. 2020, algorithm 1): an initial sample, then again and again a
//! surrogate of the first objective, NSGA-II on its predictions and the other objectives, which are known, and a few
//! candidates that spread along the second objective.
//!
//! [`SurrogateSearch::ask`] is a pure function of the earlier generations, the settings and the seed, like the other
//! searches'. Without a surrogate it is plain NSGA-II, which evaluates what it breeds. Both begin with the same sample.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::genes::Genotypes;
use super::nsga2::{Individual, Nsga2, Nsga2Settings};
use super::pareto::{Point, front, fronts};
use super::subset::spread;
use super::surrogate::adaptive::choose;
use super::surrogate::gp::Gp;
use super::surrogate::mlp::Mlp;
use super::surrogate::rbf::Rbf;
use super::surrogate::trees::Trees;
use super::surrogate::{Fit, Kind, Surrogate};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::philox::Stream;
use crate::space::Draw;

/// Purpose words: proposals, matings on predictions, trees, folds, choice of a subset, weights of a network.
const PURPOSES: [u32; 6] = [0x4E53_4741, 0x4E53_5052, 0x5452_4545, 0x464F_4C44, 0x5355_4253, 0x4D4C_5053];
/// Trees of an ensemble. The released code has 5,000, which rank no better in a tenth of the time.
const TREES: usize = 500;

/// Sizes of a search by surrogate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurrogateSettings {
    /// Candidates of the first generation, drawn at random.
    pub initial: usize,
    /// Candidates of each later one.
    pub picks: usize,
    /// Which surrogate; none for plain NSGA-II.
    pub surrogate: Kind,
    /// Plain NSGA-II.
    pub plain: Nsga2Settings,
    /// NSGA-II on predictions.
    pub inner: Nsga2Settings,
}

impl Default for SurrogateSettings {
    /// 100 and 8 a generation, as FlatNAS's authors have it.
    fn default() -> Self {
        SurrogateSettings {
            initial: 100,
            picks: 8,
            surrogate: Kind::Adaptive,
            plain: Nsga2Settings::default(),
            inner: Nsga2Settings::default(),
        }
    }
}

/// What a search proposes.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// Genes of the candidates.
    pub genes: Vec<Vec<u32>>,
    /// The surrogate that was used.
    pub surrogate: String,
    /// What failed on the way, and what took its place.
    pub notes: Vec<String>,
}

/// A search over some genotypes.
pub struct SurrogateSearch<'a> {
    genotypes: &'a dyn Genotypes,
    /// What a surrogate learns from.
    features: &'a dyn Fn(&[u32]) -> Vec<f64>,
    /// All objectives but the first, and the violation of limits: known without evaluation.
    known: &'a dyn Fn(&[u32]) -> Point,
    settings: SurrogateSettings,
    seed: u64,
    /// What a network learns on.
    device: Option<(Gpu, Preset)>,
}

impl<'a> SurrogateSearch<'a> {
    /// A search with these sizes.
    ///
    /// # Errors
    /// If a size cannot be used.
    pub fn new(
        genotypes: &'a dyn Genotypes,
        features: &'a dyn Fn(&[u32]) -> Vec<f64>,
        known: &'a dyn Fn(&[u32]) -> Point,
        settings: SurrogateSettings,
        seed: u64,
    ) -> Result<Self> {
        for (what, value) in [("initial", settings.initial), ("picks", settings.picks)] {
            if value < 2 && what == "initial" || value == 0 {
                return Err(Error::invalid(what, format!("is {value}; a search begins with at least 2, and picks 1")));
            }
        }
        settings.plain.validate()?;
        settings.inner.validate()?;
        Ok(SurrogateSearch { genotypes, features, known, settings, seed, device: None })
    }

    /// The same with a device, which [`Kind::Mlp`] needs.
    pub fn with_device(mut self, device: Option<(Gpu, Preset)>) -> Self {
        self.device = device;
        self
    }

    /// The candidates of a generation that the archive does not hold yet, fewer when there are no more.
    ///
    /// # Errors
    /// If the archive is of another space, no surrogate can be fitted, or there is no device for the one that needs it.
    pub fn ask(&self, archive: &[Individual], generation: u64) -> Result<Proposal> {
        if self.settings.surrogate == Kind::Mlp && self.device.is_none() {
            return Err(Error::invalid("surrogate mlp", "learns on a device, and this search has none"));
        }
        let seed = self.seed;
        let streams =
            move |generation: u64, slot: u64| -> Box<dyn Draw> { Box::new(stream(seed, 0, generation << 20 | slot)) };
        let first = Nsga2Settings { population: self.settings.initial, ..self.settings.plain };
        if generation == 0 {
            let genes = Nsga2::new(self.genotypes, first, &streams)?.ask(&[], archive, 0)?;
            return Ok(Proposal { genes, ..Proposal::default() });
        }
        if self.settings.surrogate == Kind::None {
            let nsga2 = Nsga2::new(self.genotypes, self.settings.plain, &streams)?;
            return Ok(Proposal { genes: nsga2.ask(&[], archive, generation)?, ..Proposal::default() });
        }
        let earlier: Vec<&Individual> = archive.iter().filter(|i| i.generation < generation).collect();
        let mut proposal = self.predicted(&earlier, generation)?;
        let done: HashSet<String> =
            archive.iter().filter(|i| i.generation >= generation).map(|i| self.genotypes.key(&i.genes)).collect();
        proposal.genes.retain(|genes| !done.contains(&self.genotypes.key(genes)));
        Ok(proposal)
    }

    /// The best that a surrogate of what was evaluated earlier promises.
    fn predicted(&self, earlier: &[&Individual], generation: u64) -> Result<Proposal> {
        let mut proposal = Proposal::default();
        let x: Vec<Vec<f64>> = earlier.iter().map(|i| (self.features)(&i.genes)).collect();
        let y: Vec<f64> = earlier.iter().map(|i| i.point.objectives.first().copied().unwrap_or(f64::NAN)).collect();
        let model = self.fit(&x, &y, generation, &mut proposal)?;
        let points: Vec<&Point> = earlier.iter().map(|i| &i.point).collect();
        let best: Vec<Vec<u32>> = front(&points).into_iter().map(|i| earlier[i].genes.clone()).collect();
        let seed = self.seed;
        let streams = move |inner: u64, slot: u64| -> Box<dyn Draw> {
            Box::new(stream(seed, 1, generation << 40 | inner << 20 | slot))
        };
        let mut met: Vec<(Vec<u32>, Point)> = vec![];
        let inner = Nsga2::new(self.genotypes, self.settings.inner, &streams)?;
        inner.run(&best, &mut |genes| {
            let rows: Vec<Vec<f64>> = genes.iter().map(|genes| (self.features)(genes)).collect();
            let judge = |(genes, predicted): (&Vec<u32>, f64)| {
                let mut point = (self.known)(genes);
                point.objectives.insert(0, predicted);
                point
            };
            let points: Vec<Point> = genes.iter().zip(model.predict(&rows)).map(judge).collect();
            met.extend(genes.iter().cloned().zip(points.iter().cloned()));
            Ok(points)
        })?;
        let seen: HashSet<String> = earlier.iter().map(|i| self.genotypes.key(&i.genes)).collect();
        // Of all that was met on the way and is unknown, what is not dominated by predictions, and then front by front: a
        // choice that spreads over dominated ones too would waste evaluations on them.
        met.retain(|(genes, _)| !seen.contains(&self.genotypes.key(genes)));
        let points: Vec<&Point> = met.iter().map(|(_, point)| point).collect();
        let mut pool: Vec<&Vec<u32>> = vec![];
        for front in fronts(&points) {
            if pool.len() >= self.settings.picks {
                break;
            }
            pool.extend(front.iter().map(|i| &met[*i].0));
        }
        let second = |genes: &[u32]| (self.known)(genes).objectives.first().copied().unwrap_or(0.0);
        let along: Vec<f64> = best.iter().map(|genes| second(genes)).collect();
        let candidates: Vec<f64> = pool.iter().map(|genes| second(genes)).collect();
        let mut draw = stream(self.seed, 4, generation);
        let picks = spread(&along, &candidates, self.settings.picks, &mut draw);
        proposal.genes = picks.into_iter().map(|i| pool[i].clone()).collect();
        Ok(proposal)
    }

    /// The surrogate that was asked for, or the next that can be fitted.
    fn fit(&self, x: &[Vec<f64>], y: &[f64], generation: u64, proposal: &mut Proposal) -> Result<Box<dyn Surrogate>> {
        let rbf = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Rbf::fit(x, y)?)) };
        let gp = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Gp::fit(x, y)?)) };
        let seed = self.seed;
        let trees = move |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            Ok(Box::new(Trees::fit(x, y, TREES, &mut stream(seed, 2, generation))?))
        };
        let mut pool: Vec<(&str, &Fit)> = vec![("rbf", &rbf), ("gp", &gp), ("trees", &trees)];
        // The choice is among these, device or not: ten folds of training would make every generation wait tens of seconds
        // on a software adapter, and the network ranks no better than the best of them.
        if self.settings.surrogate == Kind::Adaptive {
            let choice = choose(&pool, x, y, &mut stream(self.seed, 3, generation))?;
            proposal.surrogate = choice.name;
            proposal.notes = choice.notes;
            return Ok(choice.surrogate);
        }
        let network = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            let (gpu, preset) = self.device.as_ref().ok_or_else(|| Error::invalid("surrogate mlp", "has no device"))?;
            Ok(Box::new(Mlp::fit(gpu, *preset, x, y, stream(self.seed, 5, generation).next_u64())?))
        };
        if self.settings.surrogate == Kind::Mlp {
            pool.push(("mlp", &network));
        }
        let name = self.settings.surrogate.name();
        let asked = pool.iter().filter(|(own, _)| *own == name);
        for (own, fit) in asked.chain(pool.iter().rev().filter(|(own, _)| *own != name)) {
            match fit(x, y) {
                Ok(model) => {
                    proposal.surrogate = (*own).into();
                    return Ok(model);
                }
                Err(error) => proposal.notes.push(format!("{own} cannot be fitted: {error}")),
            }
        }
        Err(Error::invalid("surrogate", proposal.notes.join("; ")))
    }
}

fn stream(seed: u64, which: usize, index: u64) -> Stream {
    Stream::new(seed, PURPOSES[which], index)
}
