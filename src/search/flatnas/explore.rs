//! The loop of a search: proposals, training and measurement, generation by generation. A run has two, its own and the
//! baseline's, which differ in what trains candidates and in the weight of the error.

use std::collections::BTreeMap;

use super::super::archive::{Archive, Entry};
use super::super::cohort::{Candidate, Cohort, Measured};
use super::super::config::check_reached;
use super::super::genes;
use super::super::surrogate::Kind;
use super::super::surrogate_search::SurrogateSearch;
use super::config::FlatnasConfig;
use super::result::{Explored, Step};
use super::scores::Scores;
use crate::error::{Error, Result};
use crate::nn::Model;
use crate::nn::count::Cost;
use crate::nn::space::Supernet;
use crate::nn::tensors::Named;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::RunFolder;
use crate::space::Arch;
use crate::train::trainer::Inheritance;

/// A search under way.
pub(super) struct Exploration<'a> {
    pub(super) config: &'a FlatnasConfig,
    pub(super) scores: Scores<'a>,
    pub(super) searcher: &'a SurrogateSearch<'a>,
    pub(super) cohort: Cohort<'a>,
    /// The supernet's weights, if candidates inherit them.
    pub(super) supernet: Option<(&'a dyn Supernet, &'a Named)>,
    /// Whether it is the baseline's.
    pub(super) baseline: bool,
    /// Seconds of the run after which nothing more is proposed; 0 for no limit.
    pub(super) time: f64,
}

impl Exploration<'_> {
    /// Goes on from the candidates in `archive` to the end. `stage` are the shares of the run's work at begin and end.
    pub(super) fn run(
        &self,
        archive: &mut Archive,
        folder: &mut RunFolder,
        (from, to): (f64, f64),
        observer: &mut Observer,
    ) -> Result<Explored> {
        let limit = self.config.planned();
        let name = if self.baseline { "training candidates of the baseline" } else { "training candidates" };
        tell(observer, Event::Stage { name, units: limit as u64, from, to })?;
        let mut steps: Vec<Step> = vec![];
        let mut counts = vec![];
        // However little time there is, some candidates are needed.
        let late = |archive: &Archive, seconds: f64| self.time > 0.0 && seconds > self.time && !archive.is_empty();
        for generation in 0.. {
            let before = archive.entries().iter().filter(|e| e.generation < generation).count();
            // Generations may come out short; further ones make up for them where a number was asked for.
            let further = generation > self.config.generations;
            if before >= limit || late(archive, folder.seconds()) || (further && self.config.evaluations == 0) {
                break;
            }
            let proposal = self.searcher.ask(&self.scores.individuals(archive, generation)?, generation)?;
            // Who leaves the choice to the program need not hear each time what could not be chosen; results hold it.
            let level = match self.config.search.surrogate {
                Kind::Adaptive => log::Level::Info,
                _ => log::Level::Warn,
            };
            proposal.notes.iter().for_each(|note| log::log!(level, "generation {generation}: {note}"));
            let norm = self.scores.norm(archive.entries().iter().filter(|e| e.generation < generation))?;
            let space = self.scores.space;
            let decode = |genes: &Vec<u32>| genes::arch(&**space, genes);
            let mut asked = proposal.genes.iter().map(decode).collect::<Result<Vec<_>>>()?;
            // What an earlier attempt has measured is not asked for again.
            if further && asked.is_empty() && archive.len() == before {
                break;
            }
            asked.truncate(limit.saturating_sub(archive.len()));
            for some in asked.chunks(self.config.candidates.side_by_side) {
                if late(archive, folder.seconds()) {
                    break;
                }
                let done = archive.len() as f64;
                let measured = self.measure_wait(some, &mut |share| {
                    let done = (done + share * some.len() as f64) as u64;
                    tell(observer, Event::Advance { done, note: format!("generation {generation}") })
                })?;
                for (arch, measured) in some.iter().zip(&measured) {
                    let entry = self.entry(arch, generation, norm, measured)?;
                    let line = serde_json::to_string(&entry).map_err(|e| Error::invalid("history", e.to_string()))?;
                    folder.append_history(&line)?;
                    archive.insert(entry)?;
                }
                let best = archive.best().map(|e| format!("error {:.1} %", e.measure("error")));
                tell(observer, Event::Advance { done: archive.len() as u64, note: best.unwrap_or_default() })?;
            }
            counts.push(archive.entries().iter().filter(|e| e.generation <= generation).count());
            let evaluated = counts.last().copied().unwrap_or(0);
            let (surrogate, notes) = (proposal.surrogate, proposal.notes);
            steps.push(Step { generation, surrogate, notes, evaluated, hypervolume: None });
        }
        check_reached(self.config.evaluations, archive.len(), self.config.time)?;
        for (step, share) in steps.iter_mut().zip(self.scores.hypervolume(archive, &counts)?) {
            step.hypervolume = share;
        }
        let front = self.scores.front(archive)?;
        let errors = || archive.entries().iter().map(|entry| entry.measure("error"));
        Ok(Explored {
            optimizer: self.cohort.options.training.optimizer,
            alpha: self.scores.alpha,
            evaluated: archive.len(),
            failed: errors().filter(|error| error.is_nan()).count(),
            learned_nothing: errors().filter(|&error| self.scores.learned_nothing(error)).count(),
            alpha_norm: front.alpha_norm,
            steps,
            front: front.found,
            best: front.best,
        })
    }

    fn measure_wait(&self, some: &[Arch], between: &mut dyn FnMut(f64) -> Result<()>) -> Result<Vec<Measured>> {
        let space = self.scores.space;
        let networks = some.iter().map(|arch| space.network(arch)).collect::<Result<Vec<Box<dyn Model>>>>()?;
        let name = |arch| move |own: &str| self.supernet.and_then(|(supernet, _)| supernet.source(own, arch));
        let names: Vec<_> = some.iter().map(name).collect();
        let mut candidates = vec![];
        for (network, name) in networks.iter().zip(&names) {
            let inherit = self.supernet.map(|(_, from)| Inheritance { from, name });
            candidates.push(Candidate { model: &**network, inherit });
        }
        self.cohort.measure_wait(&candidates, between)
    }

    fn entry(&self, arch: &Arch, generation: u64, norm: f64, measured: &Measured) -> Result<Entry> {
        let round = |v: f64| if self.config.compat { (100.0 * v).round() / 100.0 } else { v };
        let robustness = round(measured.robustness);
        let Cost { params, macs } = self.scores.space.cost(arch)?;
        Ok(Entry {
            arch: self.scores.space.show(arch),
            generation,
            baseline: self.baseline,
            // Larger is better there.
            fitness: -self.scores.value(norm, measured.error, robustness),
            params,
            macs,
            measures: BTreeMap::from([
                ("error".to_owned(), measured.error),
                ("robustness".to_owned(), robustness),
                ("alpha_norm".to_owned(), norm),
                ("loss".to_owned(), measured.clean.loss),
                ("training_loss".to_owned(), measured.training.loss),
                ("training_accuracy".to_owned(), measured.training.accuracy),
            ]),
        })
    }
}
