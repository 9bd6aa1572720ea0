//! Searches whose evaluations are looked up in a table, thousands a second: to compare methods with each other.
//!
//! The search is restricted to the architectures of the table. What it breeds is replaced by the member of its isomorphism
//! class that the table has, drawn again if there is none, and never evaluated twice. All methods begin with the same sample.
//!
//! The first objective is how far the column that is maximised stays below the table's best, the second the one that is
//! minimised. Hypervolumes refer to the worst of the table in both, as a share of what the table's own front has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rayon::prelude::*;
use serde::Serialize;

use super::genes::{self, Genotypes};
use super::hypervolume::hypervolume;
use super::nsga2::Individual;
use super::pareto::{Point, front};
use super::surrogate::Kind;
use super::surrogate_search::{SurrogateSearch, SurrogateSettings};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::philox::Stream;
use crate::report::statistics::{median, quantile};
use crate::space::{Arch, Draw, Space};

/// Purpose words: random search, resamples.
const RANDOM_PURPOSE: u32 = 0x5349_4D52;
const RESAMPLE_PURPOSE: u32 = 0x5349_4D42;
const RESAMPLES: usize = 2_000;

/// A table of what is known of some architectures of a space.
pub struct Truth<'a> {
    space: &'a dyn Space,
    options: Vec<u32>,
    /// Place in the lists by canonical form.
    places: HashMap<Arch, usize>,
    genes: Vec<Vec<u32>>,
    points: Vec<Point>,
    /// The largest value of what is maximised.
    most: f64,
    reference: Vec<f64>,
    /// Hypervolume of the whole table.
    whole: f64,
}

impl<'a> Truth<'a> {
    /// Of rows of an architecture, what is maximised, and what is minimised. Rows with a number that is not finite are left
    /// out; of isomorphic architectures the first counts.
    ///
    /// # Errors
    /// If fewer than two different architectures are left, or all are equal in one objective.
    pub fn new(space: &'a dyn Space, rows: &[(Arch, f64, f64)]) -> Result<Self> {
        let rows: Vec<_> = rows.iter().filter(|(_, a, b)| a.is_finite() && b.is_finite()).collect();
        let most = rows.iter().map(|(_, value, _)| *value).fold(f64::NEG_INFINITY, f64::max);
        let (mut places, mut known, mut points) = (HashMap::new(), vec![], vec![]);
        for (arch, value, cost) in rows {
            let key = space.canonical(arch);
            if let Entry::Vacant(place) = places.entry(key) {
                place.insert(known.len());
                known.push(genes::of(arch));
                points.push(Point::feasible([most - value, *cost]));
            }
        }
        let worst = |objective: usize| points.iter().map(|p| p.objectives[objective]).fold(f64::NEG_INFINITY, f64::max);
        let reference = vec![worst(0), worst(1)];
        let rows: Vec<&[f64]> = points.iter().map(|p| p.objectives.as_slice()).collect();
        let whole = if rows.len() < 2 { 0.0 } else { hypervolume(&rows, &reference)? };
        if !whole.is_finite() {
            return Err(Error::invalid("--truth", "its numbers are too large: the hypervolume is beyond f64"));
        }
        if whole <= 0.0 {
            let why = format!("{} architectures, and nothing to choose between them", rows.len());
            return Err(Error::invalid("--truth", why));
        }
        Ok(Truth { space, options: genes::options(space), places, genes: known, points, most, reference, whole })
    }

    /// How many different architectures there are.
    pub fn len(&self) -> usize {
        self.genes.len()
    }

    /// The largest value of what is maximised; the first objective is what is missing to it.
    pub fn most(&self) -> f64 {
        self.most
    }

    /// Whether there are none; never.
    pub fn is_empty(&self) -> bool {
        self.genes.is_empty()
    }

    fn place(&self, genes: &[u32]) -> Option<usize> {
        let arch = genes::arch(self.space, genes).ok()?;
        self.places.get(&self.space.canonical(&arch)).copied()
    }

    fn point(&self, genes: &[u32]) -> Point {
        self.place(genes).map_or_else(|| Point::failed(2), |place| self.points[place].clone())
    }

    fn features(&self, genes: &[u32]) -> Vec<f64> {
        genes::arch(self.space, genes).map_or_else(|_| vec![], |arch| self.space.features(&arch))
    }

    /// The front of some candidates: architectures and their objectives, by the second one.
    ///
    /// # Errors
    /// If a candidate is none of the space.
    pub fn front(&self, evaluated: &[Individual]) -> Result<Vec<(Arch, Vec<f64>)>> {
        let points: Vec<&Point> = evaluated.iter().map(|i| &i.point).collect();
        let mut best: Vec<&Individual> = front(&points).into_iter().map(|i| &evaluated[i]).collect();
        best.sort_by(|a, b| a.point.objectives[1].total_cmp(&b.point.objectives[1]));
        best.into_iter().map(|i| Ok((genes::arch(self.space, &i.genes)?, i.point.objectives.clone()))).collect()
    }

    /// The share of the table's hypervolume that the first so many of some candidates have, for each number of them.
    ///
    /// # Errors
    /// If a candidate has other objectives than the table.
    pub fn shares(&self, evaluated: &[Individual]) -> Result<Vec<f64>> {
        let rows: Vec<&[f64]> = evaluated.iter().map(|i| i.point.objectives.as_slice()).collect();
        (1..=rows.len()).map(|n| Ok(hypervolume(&rows[..n], &self.reference)? / self.whole)).collect()
    }
}

impl Genotypes for Truth<'_> {
    fn options(&self) -> &[u32] {
        &self.options
    }

    fn key(&self, genes: &[u32]) -> String {
        self.place(genes).map_or_else(|| format!("{genes:?}"), |place| place.to_string())
    }

    fn admit(&self, genes: Vec<u32>) -> Option<Vec<u32>> {
        self.place(&genes).map(|place| self.genes[place].clone())
    }

    fn sample(&self, draw: &mut dyn Draw) -> Vec<u32> {
        self.genes[draw.below(self.genes.len() as u32) as usize].clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.genes.len() as u64)
    }
}

/// How candidates are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proposer {
    /// Distinct random ones.
    Random,
    /// Plain NSGA-II.
    Nsga2,
    /// By surrogate.
    Surrogate,
}

/// Runs one search until so many evaluations, in their order. Without a device there is no [`Kind::Mlp`].
///
/// # Errors
/// If sizes cannot be used or no surrogate can be fitted.
pub fn run(
    truth: &Truth,
    proposer: Proposer,
    settings: &SurrogateSettings,
    evaluations: usize,
    seed: u64,
    device: Option<&(Gpu, Preset)>,
) -> Result<Vec<Individual>> {
    let mut settings = *settings;
    if proposer == Proposer::Nsga2 {
        settings.surrogate = Kind::None;
    }
    settings.initial = settings.initial.min(evaluations);
    let features = |genes: &[u32]| truth.features(genes);
    let known = |genes: &[u32]| {
        let Point { objectives, violation } = truth.point(genes);
        Point { objectives: objectives[1..].to_vec(), violation }
    };
    let search = SurrogateSearch::new(truth, &features, &known, settings, seed)?.with_device(device.cloned());
    let mut archive: Vec<Individual> = vec![];
    let limit = evaluations.min(truth.len());
    let mut generation = 0;
    while archive.len() < limit {
        let genes = match (proposer, generation) {
            (Proposer::Random, 1..) => {
                let mut draw = Stream::new(seed, RANDOM_PURPOSE, 0);
                let mut rest: Vec<Vec<u32>> = truth.genes.clone();
                rest.retain(|genes| archive.iter().all(|i| i.genes != *genes));
                draw.shuffle(&mut rest);
                rest
            }
            _ => search.ask(&archive, generation)?.genes,
        };
        if genes.is_empty() {
            break;
        }
        let left = limit - archive.len();
        archive.extend(genes.into_iter().take(left).map(|genes| {
            let point = truth.point(&genes);
            Individual { generation, genes, point }
        }));
        generation += 1;
    }
    Ok(archive)
}

/// Shares of the table's hypervolume, by number of evaluations, of several searches of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// How they proposed.
    pub proposer: Proposer,
    /// One per seed; the share after each evaluation.
    pub shares: Vec<Vec<f64>>,
    /// What the first seed's search evaluated.
    #[serde(skip)]
    pub first: Vec<Individual>,
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
    pub proposer: Proposer,
    /// The other.
    pub against: Proposer,
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

/// The curve of one kind over some seeds, which run on all cores.
///
/// # Errors
/// As [`run`].
pub fn curve(
    truth: &Truth,
    proposer: Proposer,
    settings: &SurrogateSettings,
    evaluations: usize,
    seeds: std::ops::Range<u64>,
    device: Option<&(Gpu, Preset)>,
) -> Result<Curve> {
    let one = |seed: u64| run(truth, proposer, settings, evaluations, seed, device);
    let runs: Vec<Vec<Individual>> = seeds.into_par_iter().map(one).collect::<Result<_>>()?;
    let shares = runs.par_iter().map(|run| truth.shares(run)).collect::<Result<_>>()?;
    Ok(Curve { proposer, shares, first: runs.into_iter().next().unwrap_or_default() })
}

/// Curves of all three kinds over `seeds` seeds from `seed` on, and the surrogate's against the others.
///
/// # Errors
/// As [`run`].
pub fn compare(
    truth: &Truth,
    settings: &SurrogateSettings,
    evaluations: usize,
    seeds: std::ops::Range<u64>,
    device: Option<&(Gpu, Preset)>,
) -> Result<(Vec<Curve>, Vec<Comparison>)> {
    let curves = [Proposer::Random, Proposer::Nsga2, Proposer::Surrogate]
        .map(|proposer| curve(truth, proposer, settings, evaluations, seeds.clone(), device));
    let curves: Vec<Curve> = curves.into_iter().collect::<Result<_>>()?;
    let against = |a: &Curve, b: &Curve| {
        let differences: Vec<f64> = a.finals().iter().zip(b.finals()).map(|(a, b)| a - b).collect();
        let n = differences.len();
        let mut draw = Stream::new(seeds.start, RESAMPLE_PURPOSE, 0);
        let mut medians: Vec<f64> = vec![];
        for _ in 0..RESAMPLES {
            let sample: Vec<f64> = (0..n).map(|_| differences[draw.below(n as u64) as usize]).collect();
            medians.extend(median(&sample));
        }
        Comparison {
            proposer: a.proposer,
            against: b.proposer,
            wins: differences.iter().filter(|d| **d > 1e-12).count(),
            ties: differences.iter().filter(|d| d.abs() <= 1e-12).count(),
            seeds: n,
            median_difference: median(&differences).unwrap_or(f64::NAN),
            low: quantile(&medians, 0.025).unwrap_or(f64::NAN),
            high: quantile(&medians, 0.975).unwrap_or(f64::NAN),
        }
    };
    let comparisons =
        vec![against(&curves[2], &curves[0]), against(&curves[2], &curves[1]), against(&curves[1], &curves[0])];
    Ok((curves, comparisons))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::space::nas_bench_201::{Cell, NasBench201, Op};

    /// Every seventh class; more convolutions are better, and cost more.
    fn rows() -> Vec<(Arch, f64, f64)> {
        let value = |arch: &Cell| {
            let live = arch.live_edges();
            let count = |op: Op| arch.0.iter().zip(live).filter(|(o, live)| **o == op && *live).count() as f64;
            let (three, one, pool) = (count(Op::Conv3x3), count(Op::Conv1x1), count(Op::AvgPool3x3));
            (5.0 + 3.0 * three.sqrt() + one - 0.5 * pool, 9.0 * three + one)
        };
        let one = |arch: Cell| {
            let (value, cost) = value(&arch);
            (arch.into(), value, cost)
        };
        Cell::all().filter(|a| a.representative() == *a).step_by(7).map(one).collect()
    }

    fn settings() -> SurrogateSettings {
        let mut settings = SurrogateSettings { initial: 20, ..SurrogateSettings::default() };
        settings.plain.population = 20;
        settings
    }

    #[test]
    fn all_begin_alike_and_nothing_is_evaluated_twice() {
        let space = NasBench201;
        let truth = Truth::new(&space, &rows()).unwrap();
        let runs = [Proposer::Random, Proposer::Nsga2, Proposer::Surrogate]
            .map(|proposer| run(&truth, proposer, &settings(), 60, 3, None).unwrap());
        for run in &runs {
            assert_eq!(run.len(), 60);
            assert_eq!(run[..20], runs[0][..20]);
            assert_eq!(run.iter().map(|i| truth.key(&i.genes)).collect::<HashSet<_>>().len(), 60);
            assert!(run.iter().all(|i| truth.place(&i.genes).is_some_and(|p| truth.genes[p] == i.genes)));
        }
        // The same seed, the same search; all of the table is its own front.
        assert_eq!(run(&truth, Proposer::Surrogate, &settings(), 60, 3, None).unwrap(), runs[2]);
        let all = run(&truth, Proposer::Random, &settings(), 9_999, 3, None).unwrap();
        assert_eq!(all.len(), truth.len());
        let shares = truth.shares(&all).unwrap();
        assert!((shares.last().unwrap() - 1.0).abs() < 1e-12 && shares.windows(2).all(|w| w[0] <= w[1] + 1e-12));
    }

    #[test]
    fn what_can_be_learnt_is_found_sooner() {
        let space = NasBench201;
        let truth = Truth::new(&space, &rows()).unwrap();
        let (curves, comparisons) = compare(&truth, &settings(), 60, 1..7, None).unwrap();
        assert_eq!(curves[2].quartiles().len(), 60);
        assert_eq!((comparisons[0].wins, comparisons[0].seeds), (6, 6), "{comparisons:?}");
        assert!(comparisons[0].low > 0.0 && comparisons[0].low <= comparisons[0].median_difference);
    }

    #[test]
    fn a_network_needs_a_device() {
        let space = NasBench201;
        let truth = Truth::new(&space, &rows()).unwrap();
        let settings = SurrogateSettings { surrogate: Kind::Mlp, ..settings() };
        let error = run(&truth, Proposer::Surrogate, &settings, 60, 3, None).unwrap_err().to_string();
        assert!(error.contains("learns on a device"), "{error}");
        // Plain NSGA-II takes no surrogate, and so no device.
        run(&truth, Proposer::Nsga2, &settings, 60, 3, None).unwrap();
    }

    #[test]
    fn candidates_that_are_all_as_good_are_no_trouble() {
        let space = NasBench201;
        // All but one, without which there would be nothing to choose; and costs that differ or do not.
        for equal_costs in [false, true] {
            let level = |(n, (arch, _, cost)): (usize, (Arch, f64, f64))| {
                (arch, if n == 0 { 6.0 } else { 5.0 }, if equal_costs && n > 0 { 1.0 } else { cost })
            };
            let rows: Vec<(Arch, f64, f64)> = rows().into_iter().enumerate().map(level).collect();
            let truth = Truth::new(&space, &rows).unwrap();
            for proposer in [Proposer::Random, Proposer::Nsga2, Proposer::Surrogate] {
                let run = run(&truth, proposer, &settings(), 40, 3, None).unwrap();
                assert_eq!(run.iter().map(|i| truth.key(&i.genes)).collect::<HashSet<_>>().len(), 40);
            }
        }
        let equal: Vec<(Arch, f64, f64)> = rows().into_iter().map(|(arch, _, cost)| (arch, 5.0, cost)).collect();
        assert!(Truth::new(&space, &equal).map(|_| ()).unwrap_err().to_string().contains("nothing to choose"));
    }

    #[test]
    fn tables_without_a_choice_are_refused() {
        let space = NasBench201;
        let arch = NasBench201.parse("333333").unwrap();
        for rows in [
            vec![],
            vec![(arch.clone(), 1.0, 1.0)],
            vec![(arch, f64::NAN, 1.0), (NasBench201.parse("111111").unwrap(), 1.0, 2.0)],
        ] {
            assert!(Truth::new(&space, &rows).map(|_| ()).unwrap_err().to_string().contains("nothing to choose"));
        }
    }
}
