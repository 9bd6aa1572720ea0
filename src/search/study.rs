//! A search that somebody else evaluates: ask for candidates, tell what was measured, look at the front.
//!
//! A [`Study`] needs neither disk nor device. All that it proposes follows from what it was told and the seed, so one that was
//! written down as JSON and read back goes on as if nothing had happened.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::archive::Entry;
use super::domain::Domain;
use super::front::pareto::{Point, front};
use super::objectives::{Measures, Objectives};
use super::strategy::{Individual, Strategy, View};
use crate::error::{Error, Result};
use crate::nn::count::Cost;
use crate::space::Arch;

/// A candidate to evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Itself.
    pub arch: Arch,
    /// Its name in its space.
    pub name: String,
    /// The generation that proposed it.
    pub generation: u64,
    /// How many were asked for before it.
    pub number: u64,
}

/// A generation that was proposed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its number; 0 is the first sample.
    pub generation: u64,
    /// Its candidates, by name.
    pub archs: Vec<String>,
    /// The surrogate that proposed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub surrogate: String,
    /// What failed on the way, and what took its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a study is, as JSON has it.
#[derive(Serialize, Deserialize)]
struct Written {
    entries: Vec<Entry>,
    steps: Vec<Step>,
}

/// A search under way.
pub struct Study<'a> {
    domain: &'a dyn Domain,
    strategy: Box<dyn Strategy + 'a>,
    objectives: Box<dyn Objectives + 'a>,
    seed: u64,
    /// What the history calls it.
    arm: String,
    /// In the order of their evaluation.
    entries: Vec<Entry>,
    /// Their names.
    names: HashSet<String>,
    /// Of each entry.
    archs: Vec<Arch>,
    /// All objectives of these but the first.
    known: Vec<Point>,
    steps: Vec<Step>,
    /// Proposed and not asked for yet.
    queue: VecDeque<Arch>,
    /// Asked for and not told yet.
    open: Vec<Job>,
    /// The scale under which the last generation was proposed.
    scale: f64,
}

impl<'a> Study<'a> {
    /// A study that has seen nothing.
    pub fn new(
        domain: &'a dyn Domain,
        strategy: Box<dyn Strategy + 'a>,
        objectives: Box<dyn Objectives + 'a>,
        seed: u64,
    ) -> Self {
        let scale = objectives.scale(&[]);
        Study {
            domain,
            strategy,
            objectives,
            seed,
            arm: String::new(),
            entries: vec![],
            names: HashSet::new(),
            archs: vec![],
            known: vec![],
            steps: vec![],
            queue: VecDeque::new(),
            open: vec![],
            scale,
        }
    }

    /// The same under a name, which its entries carry.
    pub fn named(mut self, arm: &str) -> Self {
        arm.clone_into(&mut self.arm);
        self
    }

    /// All evaluated candidates, in the order of their evaluation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The architectures of these, in their order.
    pub fn archs(&self) -> &[Arch] {
        &self.archs
    }

    /// The generations that were proposed so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The next candidates, at most `most`; fewer, or none, where the next generation waits for outcomes that were not told yet, and
    /// none when no more are found.
    ///
    /// # Errors
    /// If the strategy cannot propose anything with its settings.
    pub fn ask(&mut self, most: usize) -> Result<Vec<Job>> {
        // After a stop there may be generations that were measured already.
        while self.queue.is_empty() && self.open.is_empty() && self.propose()? {}
        let generation = self.steps.last().map_or(0, |step| step.generation);
        let mut jobs = vec![];
        while jobs.len() < most
            && let Some(arch) = self.queue.pop_front()
        {
            let number = (self.entries.len() + self.open.len()) as u64;
            let job = Job { name: self.domain.space().show(&arch), arch, generation, number };
            self.open.push(job.clone());
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Says what was measured of a candidate. A measure that the objectives need and that is not a number, or not there, is a
    /// failure: it is written down, and the search goes on.
    ///
    /// # Errors
    /// If it was not asked for, or was told already.
    pub fn tell(&mut self, job: &Job, mut measures: Measures) -> Result<&Entry> {
        let place =
            self.open.iter().position(|open| open == job).ok_or_else(|| {
                Error::invalid("study", format!("`{}` was not asked for, or was told already", job.name))
            })?;
        if let Some(name) = self.objectives.scale_name() {
            measures.insert(name.to_owned(), self.scale);
        }
        let Cost { params, macs } = self.domain.cost(&job.arch)?;
        let entry = Entry {
            arch: job.name.clone(),
            generation: job.generation,
            arm: self.arm.clone(),
            given: false,
            fitness: -self.objectives.first(&measures, self.scale),
            params,
            macs,
            measures,
        };
        self.open.remove(place);
        self.insert(job.arch.clone(), entry)
    }

    /// Begins with what other searches measured in the same way: it counts as a part of the first generation, which is filled up with
    /// fresh candidates only as far as it takes. What is there twice is taken once, and what is beyond the limits is not.
    ///
    /// # Errors
    /// If the study has begun, or an entry is no architecture of the space.
    pub fn warm_start(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        if !self.entries.is_empty() || !self.steps.is_empty() {
            return Err(Error::invalid("warm start", "the search has begun already"));
        }
        let mut seen = HashSet::new();
        for entry in entries {
            let arch = self.parse(&entry.arch)?;
            if let Some(arch) = self.domain.admit(arch).filter(|arch| self.domain.is_within(arch))
                && seen.insert(self.domain.key(&arch))
            {
                let name = self.domain.space().show(&arch);
                let fitness = -self.objectives.first(&entry.measures, self.scale);
                let Cost { params, macs } = self.domain.cost(&arch)?;
                let own = Entry { arch: name, generation: 0, arm: self.arm.clone(), given: true, ..entry };
                let entry = Entry { fitness, params, macs, ..own };
                self.insert(arch, entry)?;
            }
        }
        Ok(())
    }

    /// Goes on from entries in the order of their evaluation, and from the generations that were proposed as far as they are known;
    /// others are proposed again, to the same.
    ///
    /// # Errors
    /// If the study has begun, or an entry is no architecture of the space.
    pub fn restore(&mut self, entries: Vec<Entry>, steps: Vec<Step>) -> Result<()> {
        if !self.entries.is_empty() || !self.steps.is_empty() {
            return Err(Error::invalid("study", "it has begun already"));
        }
        for entry in entries {
            let arch = self.parse(&entry.arch)?;
            self.insert(arch, entry)?;
        }
        for step in steps {
            let archs = step.archs.iter().map(|name| self.parse(name)).collect::<Result<Vec<_>>>()?;
            let missing = step.archs.iter().zip(archs).filter(|(name, _)| !self.names.contains(*name));
            self.queue = missing.map(|(_, arch)| arch).collect();
            let generation = step.generation;
            self.scale = self.scale_before(generation);
            self.steps.push(step);
            // What was proposed after it depended on these.
            if let (Some(missing), true) = (self.queue.front(), self.entries.iter().any(|e| e.generation > generation))
            {
                let missing = self.domain.space().show(missing);
                let why = format!(
                    "lacks `{missing}` of generation {generation}, though it has later ones; put the line back"
                );
                return Err(Error::invalid("history", why));
            }
            if !self.queue.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// All that there is to know of it, as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        let written = Written { entries: self.entries.clone(), steps: self.steps.clone() };
        serde_json::to_string(&written).map_err(|e| Error::invalid("study", e.to_string()))
    }

    /// Goes on from what [`Study::to_json`] gave. Candidates that had been asked for and not told are asked for again.
    ///
    /// # Errors
    /// If it is something else.
    pub fn restore_json(&mut self, text: &str) -> Result<()> {
        let written: Written = serde_json::from_str(text).map_err(|e| Error::invalid("study", e.to_string()))?;
        self.restore(written.entries, written.steps)
    }

    /// The best so far, best first, by the first objective under the scale of the whole archive; failures last.
    pub fn top(&self, count: usize) -> Vec<&Entry> {
        let points = self.points();
        let value = |i: usize| points[i].objectives[0];
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| {
            value(a).partial_cmp(&value(b)).unwrap_or_else(|| value(a).is_nan().cmp(&value(b).is_nan()))
        });
        order.into_iter().take(count).map(|i| &self.entries[i]).collect()
    }

    /// The candidates that no other one beats in all objectives, with these, by parameters.
    pub fn front(&self) -> Vec<(&Entry, Point)> {
        let mut points = self.points();
        let mut places = front(&points);
        if places.is_empty() && self.objectives.lifts_bars() {
            points.iter_mut().zip(&self.known).for_each(|(point, known)| point.violation = known.violation);
            places = front(&points);
        }
        places.sort_by_key(|&i| self.entries[i].params);
        places.into_iter().map(|i| (&self.entries[i], points[i].clone())).collect()
    }

    /// The candidate that the objectives pick from the front, if there is one.
    pub fn best(&self) -> Option<&Entry> {
        let front = self.front();
        let rows: Vec<&[f64]> = front.iter().map(|(_, point)| &point.objectives[..]).collect();
        self.objectives.pick(&rows).and_then(|place| front.get(place)).map(|(entry, _)| *entry)
    }

    /// The scale of the whole archive.
    pub fn scale(&self) -> f64 {
        self.scale_before(u64::MAX)
    }

    /// What measures call the number that all share, if they hold it.
    pub fn scale_name(&self) -> Option<&'static str> {
        self.objectives.scale_name()
    }

    /// How many candidates must not be chosen because they learned nothing.
    pub fn barred(&self) -> usize {
        self.entries.iter().filter(|entry| self.objectives.is_barred(&entry.measures)).count()
    }

    /// All objectives of each entry, under the scale of the whole archive.
    pub fn points(&self) -> Vec<Point> {
        let scale = self.scale();
        (0..self.entries.len()).map(|i| self.point(i, scale)).collect()
    }

    fn scale_before(&self, generation: u64) -> f64 {
        let earlier = |entry: &&Entry| entry.generation < generation;
        self.objectives.scale(&self.entries.iter().filter(earlier).collect::<Vec<_>>())
    }

    fn point(&self, place: usize, scale: f64) -> Point {
        let measures = &self.entries[place].measures;
        let mut point = self.known[place].clone();
        point.violation += f64::from(u8::from(self.objectives.is_barred(measures)));
        point.objectives.insert(0, self.objectives.first(measures, scale));
        point
    }

    fn parse(&self, name: &str) -> Result<Arch> {
        let arch = self.domain.space().parse(name)?;
        self.domain.space().check_vector(&arch)?;
        Ok(arch)
    }

    fn insert(&mut self, arch: Arch, entry: Entry) -> Result<&Entry> {
        if !self.names.insert(entry.arch.clone()) {
            return Err(Error::invalid("history", format!("`{}` was evaluated already", entry.arch)));
        }
        self.entries.push(entry);
        let place = self.entries.len() - 1;
        self.known.push(self.domain.told(&arch, &self.entries[place].measures));
        self.archs.push(arch);
        Ok(&self.entries[place])
    }

    /// Fills the queue with the next generation; whether there is one.
    fn propose(&mut self) -> Result<bool> {
        // An empty generation is the end.
        let given = self.entries.iter().filter(|entry| entry.given).count();
        let generation = match self.steps.last() {
            Some(last) if last.archs.is_empty() => return Ok(false),
            Some(last) => last.generation + 1,
            None if given > 0 && given >= self.strategy.begins_with() => 1,
            None => 0,
        };
        self.scale = self.scale_before(generation);
        let entries = self.entries.iter().enumerate();
        let earlier = entries.filter(|(_, entry)| entry.generation < generation);
        let individual = |(i, entry): (usize, &Entry)| Individual {
            generation: entry.generation,
            arch: self.archs[i].clone(),
            point: self.point(i, self.scale),
        };
        let earlier: Vec<Individual> = earlier.map(individual).collect();
        let view = View { domain: self.domain, seed: self.seed, generation, earlier: &earlier };
        let mut proposal = self.strategy.ask(&view)?;
        if generation == 0 && given > 0 {
            let known: HashSet<Arch> = self.archs.iter().map(|arch| self.domain.key(arch)).collect();
            proposal.archs.retain(|arch| !known.contains(&self.domain.key(arch)));
            proposal.archs.truncate(self.strategy.begins_with() - given);
        }
        let archs = proposal.archs.iter().map(|arch| self.domain.space().show(arch)).collect();
        self.steps.push(Step { generation, archs, surrogate: proposal.surrogate, notes: proposal.notes });
        // What is in the archive already was measured before a stop.
        let is_new = |arch: &Arch| !self.names.contains(&self.domain.space().show(arch));
        self.queue = proposal.archs.into_iter().filter(is_new).collect();
        Ok(self.steps.last().is_some_and(|step| !step.archs.is_empty()))
    }
}

#[cfg(test)]
#[path = "study_tests.rs"]
mod tests;
