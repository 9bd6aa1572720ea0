//! What candidates are worth: the first objective under one `alpha_norm`, the front, its pick, and its hypervolume.

use super::super::archive::{Archive, Entry};
use super::super::genes;
use super::super::hypervolume::{normalised, reference_point};
use super::super::nsga2::Individual;
use super::super::objectives::{first, rescored};
use super::super::pareto::{Point, front};
use super::super::trade_off::{Pick, high_trade_off};
use super::coded::Coded;
use super::result::Found;
use crate::error::{Error, Result};
use crate::nn::space::Family;

/// How candidates are scored.
#[derive(Clone, Copy)]
pub(super) struct Scores<'a> {
    pub(super) space: &'a Family,
    pub(super) coded: &'a Coded<'a>,
    /// Weight of the error.
    pub(super) alpha: f64,
    /// Error in percent points from which on a network has learned nothing.
    pub(super) constant: f64,
}

/// The candidates that none dominates.
pub(super) struct Front {
    /// Mean error over mean robustness of all that learned something.
    pub(super) alpha_norm: f64,
    /// By parameters.
    pub(super) found: Vec<Found>,
    /// The one of highest trade-off.
    pub(super) best: Found,
}

impl Scores<'_> {
    pub(super) fn learned_nothing(&self, error: f64) -> bool {
        error >= self.constant
    }

    /// `alpha_norm` over the entries that learned something.
    pub(super) fn norm<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> Result<f64> {
        let learned = entries.filter(|e| !self.learned_nothing(e.measure("error")));
        let (errors, robustness): (Vec<f64>, Vec<f64>) =
            learned.map(|e| (e.measure("error"), e.measure("robustness"))).unzip();
        Ok(rescored(self.alpha, &errors, &robustness)?.0)
    }

    /// The first objective.
    pub(super) fn value(&self, norm: f64, error: f64, robustness: f64) -> f64 {
        if self.learned_nothing(error) { error } else { first(self.alpha, norm, error, robustness) }
    }

    /// All objectives of a candidate, the first one under `norm`.
    fn point(&self, entry: &Entry, norm: f64) -> Result<Point> {
        let mut point = self.coded.known(&self.space.parse(&entry.arch)?)?;
        let (error, robustness) = (entry.measure("error"), entry.measure("robustness"));
        if self.learned_nothing(error) {
            point.violation += 1.0;
        }
        point.objectives.insert(0, self.value(norm, error, robustness));
        Ok(point)
    }

    /// The archive with the first objective under the `alpha_norm` of the generations before `generation`.
    pub(super) fn individuals(&self, archive: &Archive, generation: u64) -> Result<Vec<Individual>> {
        let norm = self.norm(archive.entries().iter().filter(|e| e.generation < generation))?;
        let individual = |entry: &Entry| {
            let genes = genes::of(&self.space.parse(&entry.arch)?);
            Ok(Individual { generation: entry.generation, genes, point: self.point(entry, norm)? })
        };
        archive.entries().iter().map(individual).collect()
    }

    /// The front and the pick of it.
    pub(super) fn front(&self, archive: &Archive) -> Result<Front> {
        let entries = archive.entries();
        let alpha_norm = self.norm(entries.iter())?;
        let points = entries.iter().map(|entry| self.point(entry, alpha_norm)).collect::<Result<Vec<_>>>()?;
        let mut places: Vec<usize> = front(&points).into_iter().filter(|&i| points[i].is_feasible()).collect();
        places.sort_by_key(|&i| entries[i].params);
        let rows: Vec<&[f64]> = places.iter().map(|&i| points[i].objectives.as_slice()).collect();
        let found = |&i: &usize| Found {
            arch: entries[i].arch.clone(),
            params: entries[i].params,
            macs: entries[i].macs,
            error: entries[i].measure("error"),
            robustness: entries[i].measure("robustness"),
            f1: points[i].objectives[0],
        };
        let found: Vec<Found> = places.iter().map(found).collect();
        let pick = high_trade_off(&rows, Pick::Largest(1), true).last().and_then(|&pick| found.get(pick));
        let best = pick.cloned().ok_or_else(|| self.nobody(entries))?;
        Ok(Front { alpha_norm, found, best })
    }

    /// Why there is no front.
    fn nobody(&self, entries: &[Entry]) -> Error {
        let count = |which: &dyn Fn(f64) -> bool| entries.iter().filter(|e| which(e.measure("error"))).count();
        let failed = count(&|error| error.is_nan());
        let nothing = count(&|error| self.learned_nothing(error));
        let why = format!(
            "none of {} candidates can be chosen: {failed} could not be trained, {nothing} learned nothing (an error of \
             {:.1} % or more is that of a constant answer), {} are beyond the limits; train them for longer \
             (--candidate-epochs, --lr) or widen the limits",
            entries.len(),
            self.constant,
            entries.len() - failed - nothing
        );
        Error::invalid("search", why)
    }

    /// The hypervolume of the front of the first so many candidates, by their final scores.
    pub(super) fn hypervolume(&self, archive: &Archive, counts: &[usize]) -> Result<Vec<Option<f64>>> {
        let last = u64::MAX;
        let points = self.individuals(archive, last)?;
        let row = |i: &Individual| (i.point.violation <= 0.0).then(|| i.point.objectives.clone());
        let initial: Vec<Vec<f64>> = points.iter().filter(|i| i.generation == 0).filter_map(row).collect();
        let Ok(reference) = reference_point(&initial) else { return Ok(vec![None; counts.len()]) };
        let share = |&count: &usize| {
            let rows: Vec<Vec<f64>> = points.iter().take(count).filter_map(row).collect();
            normalised(&rows, &reference).ok()
        };
        Ok(counts.iter().map(share).collect())
    }
}
