//! What is known of some architectures of a space, as a table: evaluations that are looked up, thousands a second.
//!
//! A search is restricted to the architectures of the table: what it breeds is replaced by the member of its isomorphism
//! class that the table has, drawn again if there is none, and never evaluated twice.
//!
//! The first objective is how far the column that is maximised stays below the table's best, the second the one that is
//! minimised. Hypervolumes refer to the worst of the table in both, as a share of what the table's own front has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Evaluator;
use crate::error::{Error, Result};
use crate::search::domain::Domain;
use crate::search::front::hypervolume::hypervolume;
use crate::search::front::pareto::Point;
use crate::search::objectives::Measures;
use crate::search::study::Job;
use crate::space::{Arch, Draw, Space};

/// What the distance to the table's best is called among measures.
pub const MISSING: &str = "missing";

/// A table of what is known of some architectures of a space.
pub struct Truth<'a> {
    space: &'a dyn Space,
    /// Place in the lists by canonical form.
    places: HashMap<Arch, usize>,
    archs: Vec<Arch>,
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
                known.push(arch.clone());
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
        Ok(Truth { space, places, archs: known, points, most, reference, whole })
    }

    /// How many different architectures there are.
    pub fn len(&self) -> usize {
        self.archs.len()
    }

    /// Whether there are none; never.
    pub fn is_empty(&self) -> bool {
        self.archs.is_empty()
    }

    /// The value of what is maximised and of what is minimised, of objectives.
    pub fn values(&self, point: &Point) -> (f64, f64) {
        (self.most - point.objectives[0], point.objectives[1])
    }

    /// The share of the table's hypervolume that the first so many of some candidates have, for each number of them.
    ///
    /// # Errors
    /// If a candidate has other objectives than the table.
    pub fn shares(&self, evaluated: &[Point]) -> Result<Vec<f64>> {
        let rows: Vec<&[f64]> = evaluated.iter().map(|point| point.objectives.as_slice()).collect();
        (1..=rows.len()).map(|n| Ok(hypervolume(&rows[..n], &self.reference)? / self.whole)).collect()
    }

    fn place(&self, arch: &Arch) -> Option<usize> {
        self.places.get(&self.space.canonical(arch)).copied()
    }
}

impl Domain for Truth<'_> {
    fn space(&self) -> &dyn Space {
        self.space
    }

    fn admit(&self, arch: Arch) -> Option<Arch> {
        self.place(&arch).map(|place| self.archs[place].clone())
    }

    fn sample(&self, draw: &mut dyn Draw) -> Result<Arch> {
        Ok(self.archs[draw.below(self.archs.len() as u32) as usize].clone())
    }

    fn list(&self) -> Option<&[Arch]> {
        Some(&self.archs)
    }

    fn size(&self) -> Option<u64> {
        Some(self.archs.len() as u64)
    }

    fn known(&self, arch: &Arch) -> Point {
        match self.place(arch) {
            Some(place) => Point::feasible(&self.points[place].objectives[1..]),
            None => Point::failed(1),
        }
    }
}

/// Looks candidates up.
pub struct LookUp<'a>(pub &'a Truth<'a>);

impl Evaluator for LookUp<'_> {
    fn width(&self) -> usize {
        usize::MAX
    }

    fn evaluate(&mut self, jobs: &[Job], _between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measures>> {
        let value = |job: &Job| self.0.place(&job.arch).map_or(f64::NAN, |place| self.0.points[place].objectives[0]);
        Ok(jobs.iter().map(|job| Measures::from([(MISSING.to_owned(), value(job))])).collect())
    }
}
