//! Strategies against each other on a table, over many seeds: how much of its hypervolume each has after how many evaluations.
//! All begin with the same sample.

use rayon::prelude::*;
use serde::Serialize;

use super::evaluate::Evaluator;
use super::evaluate::table::{LookUp, MISSING, Truth};
use super::front::pareto::{Point, front};
use super::objectives::Weighted;
use super::strategy::StrategyConfig;
use super::study::Study;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::report::paired::Paired;
use crate::space::Arch;

/// A strategy in the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// What it is called.
    pub name: String,
    /// Itself.
    pub strategy: StrategyConfig,
}

/// An evaluated architecture and its objectives.
pub type Known = (Arch, Point);

/// Runs one search until so many evaluations, in their order. Without a device there is no surrogate that is a network.
///
/// # Errors
/// If sizes cannot be used or no surrogate can be fitted.
pub fn run(
    truth: &Truth,
    strategy: &StrategyConfig,
    evaluations: usize,
    seed: u64,
    device: Option<&(Gpu, Preset)>,
) -> Result<Vec<Known>> {
    let mut strategy = *strategy;
    if let StrategyConfig::Surrogate(settings) = &mut strategy {
        settings.initial = settings.initial.min(evaluations);
    }
    strategy.validate()?;
    let objectives = Weighted::minimize(MISSING);
    let mut study = Study::new(truth, strategy.open(device.cloned()), Box::new(objectives), seed);
    let limit = evaluations.min(truth.len());
    let mut table = LookUp(truth);
    while study.entries().len() < limit {
        let jobs = study.ask(limit - study.entries().len())?;
        if jobs.is_empty() {
            break;
        }
        for (job, measures) in jobs.iter().zip(table.evaluate(&jobs, &mut |_| Ok(()))?) {
            study.tell(job, measures)?;
        }
    }
    Ok(study.archs().iter().cloned().zip(study.points()).collect())
}

/// The front of some candidates, by the second objective.
pub fn front_of(evaluated: &[Known]) -> Vec<&Known> {
    let points: Vec<&Point> = evaluated.iter().map(|(_, point)| point).collect();
    let mut best: Vec<&Known> = front(&points).into_iter().map(|i| &evaluated[i]).collect();
    best.sort_by(|a, b| a.1.objectives[1].total_cmp(&b.1.objectives[1]));
    best
}

/// Shares of the table's hypervolume, by number of evaluations, of several searches of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// Who proposed.
    pub proposer: String,
    /// One per seed; the share after each evaluation.
    pub shares: Vec<Vec<f64>>,
    /// What the first seed's search evaluated.
    #[serde(skip)]
    pub first: Vec<Known>,
}

impl Curve {
    fn finals(&self) -> Vec<f64> {
        self.shares.iter().map(|s| s.last().copied().unwrap_or(0.0)).collect()
    }
}

/// One kind of search against another, seed by seed.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The one.
    pub proposer: String,
    /// The other.
    pub against: String,
    /// By how much of the table's hypervolume the one ends higher, seed by seed.
    #[serde(flatten)]
    pub gain: Paired,
}

/// The curve of one strategy over some seeds, which run on all cores.
///
/// # Errors
/// As [`run`].
pub fn curve(
    truth: &Truth,
    contender: &Contender,
    evaluations: usize,
    seeds: std::ops::Range<u64>,
    device: Option<&(Gpu, Preset)>,
) -> Result<Curve> {
    let one = |seed: u64| run(truth, &contender.strategy, evaluations, seed, device);
    let runs: Vec<Vec<Known>> = seeds.into_par_iter().map(one).collect::<Result<_>>()?;
    let points = |run: &[Known]| run.iter().map(|(_, point)| point.clone()).collect::<Vec<Point>>();
    let shares = runs.par_iter().map(|run| truth.shares(&points(run))).collect::<Result<_>>()?;
    Ok(Curve { proposer: contender.name.clone(), shares, first: runs.into_iter().next().unwrap_or_default() })
}

/// Curves of some strategies over the same seeds, and each against those before it, the last first.
///
/// # Errors
/// As [`run`].
pub fn compare(
    truth: &Truth,
    contenders: &[Contender],
    evaluations: usize,
    seeds: std::ops::Range<u64>,
    device: Option<&(Gpu, Preset)>,
) -> Result<(Vec<Curve>, Vec<Comparison>)> {
    let curves = contenders.iter().map(|contender| curve(truth, contender, evaluations, seeds.clone(), device));
    let curves: Vec<Curve> = curves.collect::<Result<_>>()?;
    let mut comparisons = vec![];
    for (place, own) in curves.iter().enumerate().rev() {
        comparisons.extend(curves[..place].iter().filter_map(|other| against(own, other)));
    }
    Ok((curves, comparisons))
}

fn against(a: &Curve, b: &Curve) -> Option<Comparison> {
    // Sums of the same volumes in another order are no difference.
    let difference = |(a, b): (f64, f64)| if (a - b).abs() <= 1e-12 { 0.0 } else { a - b };
    let gain = Paired::of(&a.finals().into_iter().zip(b.finals()).map(difference).collect::<Vec<_>>())?;
    Some(Comparison { proposer: a.proposer.clone(), against: b.proposer.clone(), gain })
}

#[cfg(test)]
#[path = "simulated_tests.rs"]
mod tests;
