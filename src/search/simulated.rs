//! Strategies against each other on a table, over many seeds: how much of its hypervolume each has after how many evaluations.
//! All begin with the same sample.

use rayon::prelude::*;
use serde::Serialize;

use super::evaluate::Evaluator;
use super::evaluate::table::{LookUp, MISSING, Truth};
use super::front::pareto::{Point, front};
use super::objectives::Single;
use super::strategy::StrategyConfig;
use super::study::Study;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::philox::Stream;
use crate::report::statistics::{median, quantile};
use crate::space::Arch;

/// Purpose word of resamples.
const RESAMPLE_PURPOSE: u32 = 0x5349_4D42;
const RESAMPLES: usize = 2_000;

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
    let objectives = Single { measure: MISSING.to_owned(), maximize: false, constant: f64::INFINITY };
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
    /// Median and quartiles over seeds after each evaluation.
    pub fn quartiles(&self) -> Vec<[f64; 3]> {
        let longest = self.shares.iter().map(Vec::len).max().unwrap_or(0);
        let at = |n: usize| -> Vec<f64> { self.shares.iter().filter_map(|s| s.get(n).or(s.last()).copied()).collect() };
        let of = |values: &[f64], q: f64| quantile(values, q).unwrap_or(f64::NAN);
        (0..longest).map(at).map(|v| [of(&v, 0.25), of(&v, 0.5), of(&v, 0.75)]).collect()
    }

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
    /// Seeds with which the one ends higher.
    pub wins: usize,
    /// Seeds with which both end equal.
    pub ties: usize,
    /// Seeds.
    pub seeds: usize,
    /// Median over seeds of the difference.
    pub median_difference: f64,
    /// Its 95 % bootstrap interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
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
        comparisons.extend(curves[..place].iter().map(|other| against(own, other, seeds.start)));
    }
    Ok((curves, comparisons))
}

fn against(a: &Curve, b: &Curve, seed: u64) -> Comparison {
    let differences: Vec<f64> = a.finals().iter().zip(b.finals()).map(|(a, b)| a - b).collect();
    let n = differences.len();
    let mut draw = Stream::new(seed, RESAMPLE_PURPOSE, 0);
    let mut medians: Vec<f64> = vec![];
    for _ in 0..RESAMPLES {
        let sample: Vec<f64> = (0..n).map(|_| differences[draw.below(n as u64) as usize]).collect();
        medians.extend(median(&sample));
    }
    Comparison {
        proposer: a.proposer.clone(),
        against: b.proposer.clone(),
        wins: differences.iter().filter(|d| **d > 1e-12).count(),
        ties: differences.iter().filter(|d| d.abs() <= 1e-12).count(),
        seeds: n,
        median_difference: median(&differences).unwrap_or(f64::NAN),
        low: quantile(&medians, 0.025).unwrap_or(f64::NAN),
        high: quantile(&medians, 0.975).unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
#[path = "simulated_tests.rs"]
mod tests;
