//! FlatNAS's outer loop (specification of MSuNAS, Lu et al. 2020, algorithm 1): an initial sample, then again and again a
//! surrogate of the first objective, NSGA-II on its predictions and the other objectives, which are known, and a few
//! candidates that spread along the second objective.
//!
//! Without a surrogate it is plain NSGA-II, which evaluates what it breeds. Both begin with the same sample.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::nsga2::{Nsga2, Nsga2Settings};
use super::subset::spread;
use super::{Proposal, Strategy, View, check_sizes};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::philox::Stream;
use crate::search::front::pareto::{Point, front, fronts};
use crate::search::surrogate::adaptive::choose;
use crate::search::surrogate::gp::Gp;
use crate::search::surrogate::mlp::Mlp;
use crate::search::surrogate::rbf::Rbf;
use crate::search::surrogate::trees::Trees;
use crate::search::surrogate::{Fit, Kind, Surrogate};
use crate::space::{Arch, Draw};

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

impl SurrogateSettings {
    /// Checks all sizes and rates.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        if self.initial < 2 || self.picks == 0 {
            let why = format!("{} and {}; a search begins with at least 2, and picks 1", self.initial, self.picks);
            return Err(Error::invalid("--initial and --picks", why));
        }
        check_sizes(&[("--initial", self.initial), ("--picks", self.picks)])?;
        self.plain.validate()?;
        self.inner.validate()
    }

    /// Candidates of a generation after the first.
    pub fn each(&self) -> usize {
        match self.surrogate {
            Kind::None => self.plain.offspring.unwrap_or(self.plain.population),
            _ => self.picks,
        }
    }
}

/// The random sample of so many candidates with which NSGA-II begins.
///
/// # Errors
/// If nothing can be drawn.
pub(super) fn first_sample(view: &View, count: usize) -> Result<Vec<Arch>> {
    let settings = Nsga2Settings { population: count, ..Nsga2Settings::default() };
    Nsga2::new(view.domain, settings, &proposals(view.seed))?.ask(&[], 0)
}

/// Random numbers of proposals.
fn proposals(seed: u64) -> impl Fn(u64, u64) -> Box<dyn Draw> {
    move |generation, slot| Box::new(stream(seed, 0, generation << 20 | slot))
}

/// A search by surrogate.
pub struct Search {
    /// Its sizes.
    pub settings: SurrogateSettings,
    /// What a network learns on.
    pub device: Option<(Gpu, Preset)>,
}

impl Strategy for Search {
    fn ask(&self, view: &View) -> Result<Proposal> {
        if self.settings.surrogate == Kind::Mlp && self.device.is_none() {
            return Err(Error::invalid("surrogate mlp", "learns on a device, and this search has none"));
        }
        let archs = match (view.generation, self.settings.surrogate) {
            (0, _) => first_sample(view, self.settings.initial)?,
            (generation, Kind::None) => {
                let streams = proposals(view.seed);
                Nsga2::new(view.domain, self.settings.plain, &streams)?.ask(view.earlier, generation)?
            }
            _ => return self.predicted(view),
        };
        Ok(Proposal { archs, ..Proposal::default() })
    }

    fn begins_with(&self) -> usize {
        self.settings.initial
    }
}

impl Search {
    /// The best that a surrogate of what was evaluated earlier promises.
    fn predicted(&self, view: &View) -> Result<Proposal> {
        let &View { domain, seed, generation, earlier } = view;
        let mut proposal = Proposal::default();
        let x: Vec<Vec<f64>> = earlier.iter().map(|i| domain.features(&i.arch)).collect();
        let y: Vec<f64> = earlier.iter().map(|i| i.first()).collect();
        let model = match self.fit(&x, &y, (seed, generation), &mut proposal) {
            Ok(model) => model,
            Err(why) => {
                // Where nearly all evaluations failed there is nothing to learn, and still something to try.
                proposal.notes.push(format!("candidates are bred without a surrogate: {why}"));
                let (settings, streams) =
                    (Nsga2Settings { offspring: Some(self.settings.picks), ..self.settings.plain }, proposals(seed));
                proposal.archs = Nsga2::new(domain, settings, &streams)?.ask(earlier, generation)?;
                return Ok(proposal);
            }
        };
        let points: Vec<&Point> = earlier.iter().map(|i| &i.point).collect();
        let best: Vec<Arch> = front(&points).into_iter().map(|i| earlier[i].arch.clone()).collect();
        let streams = move |inner: u64, slot: u64| -> Box<dyn Draw> {
            Box::new(stream(seed, 1, generation << 40 | inner << 20 | slot))
        };
        let mut met: Vec<(Arch, Point)> = vec![];
        Nsga2::new(domain, self.settings.inner, &streams)?.run(&best, &mut |archs| {
            let rows: Vec<Vec<f64>> = archs.iter().map(|arch| domain.features(arch)).collect();
            let judge = |(arch, predicted): (&Arch, f64)| {
                let mut point = domain.known(arch);
                point.objectives.insert(0, predicted);
                point
            };
            let points: Vec<Point> = archs.iter().zip(model.predict(&rows)).map(judge).collect();
            met.extend(archs.iter().cloned().zip(points.iter().cloned()));
            Ok(points)
        })?;
        let seen: HashSet<Arch> = earlier.iter().map(|i| domain.key(&i.arch)).collect();
        // Of all that was met on the way and is unknown, what is not dominated by predictions, and then front by front: a
        // choice that spreads over dominated ones too would waste evaluations on them.
        met.retain(|(arch, _)| !seen.contains(&domain.key(arch)));
        let points: Vec<&Point> = met.iter().map(|(_, point)| point).collect();
        let mut pool: Vec<&Arch> = vec![];
        for front in fronts(&points) {
            if pool.len() >= self.settings.picks {
                break;
            }
            pool.extend(front.iter().map(|i| &met[*i].0));
        }
        let second = |arch: &Arch| domain.known(arch).objectives.first().copied().unwrap_or(0.0);
        let along: Vec<f64> = best.iter().map(second).collect();
        let candidates: Vec<f64> = pool.iter().map(|arch| second(arch)).collect();
        let mut draw = stream(seed, 4, generation);
        let picks = spread(&along, &candidates, self.settings.picks, &mut draw);
        proposal.archs = picks.into_iter().map(|i| pool[i].clone()).collect();
        Ok(proposal)
    }

    /// The surrogate that was asked for, or the next that can be fitted.
    fn fit(
        &self,
        x: &[Vec<f64>],
        y: &[f64],
        (seed, generation): (u64, u64),
        proposal: &mut Proposal,
    ) -> Result<Box<dyn Surrogate>> {
        let rbf = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Rbf::fit(x, y)?)) };
        let gp = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Gp::fit(x, y)?)) };
        let trees = move |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            Ok(Box::new(Trees::fit(x, y, TREES, &mut stream(seed, 2, generation))?))
        };
        let mut pool: Vec<(&str, &Fit)> = vec![("rbf", &rbf), ("gp", &gp), ("trees", &trees)];
        // The choice is among these, device or not: ten folds of training would make every generation wait tens of seconds
        // on a software adapter, and the network ranks no better than the best of them.
        if self.settings.surrogate == Kind::Adaptive {
            let choice = choose(&pool, x, y, &mut stream(seed, 3, generation))?;
            proposal.surrogate = choice.name;
            proposal.notes = choice.notes;
            return Ok(choice.surrogate);
        }
        let network = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            let (gpu, preset) = self.device.as_ref().ok_or_else(|| Error::invalid("surrogate mlp", "has no device"))?;
            Ok(Box::new(Mlp::fit(gpu, *preset, x, y, stream(seed, 5, generation).next_u64())?))
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
