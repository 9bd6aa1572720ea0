//! What a search found: one result for all methods, written as `result.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::Entry;
use super::config::SearchConfig;
use super::front::hypervolume::{normalised, reference_point};
use super::front::pareto::Point;
use super::objectives::Measures;
use super::study::{Step, Study};
use crate::error::{Error, Result};
use crate::measure::judge::Final;
use crate::measure::judged::Judged;
use crate::measure::mistakes::Mistake;
use crate::report::number;
use crate::report::statistics::spearman;
use crate::train::trainer::Progress;

/// A candidate with what was found of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Its architecture.
    pub arch: String,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// What the search maximised: the first objective turned round.
    #[serde(deserialize_with = "number::one")]
    pub fitness: f64,
    /// All objectives, which are minimised, under the scale of all candidates.
    #[serde(deserialize_with = "number::list")]
    pub objectives: Vec<f64>,
    /// Everything that was measured of it.
    #[serde(deserialize_with = "number::named")]
    pub measures: Measures,
}

impl Found {
    fn of(entry: &Entry, point: &Point) -> Self {
        Found {
            arch: entry.arch.clone(),
            params: entry.params,
            macs: entry.macs,
            fitness: -point.objectives[0],
            objectives: point.objectives.clone(),
            measures: entry.measures.clone(),
        }
    }
}

/// A generation of a search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// Its number; 0 is the first sample.
    pub generation: u64,
    /// The surrogate that proposed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub surrogate: String,
    /// What failed on the way, and what took its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Candidates evaluated so far.
    pub evaluated: usize,
    /// Normalised hypervolume of the front so far, under the last scale; the reference is 1.01 times the worst of the first sample.
    pub hypervolume: Option<f64>,
}

/// What one arm found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explored {
    /// Its name.
    pub arm: String,
    /// What proposed.
    pub strategy: String,
    /// Candidates that were evaluated.
    pub evaluated: usize,
    /// Candidates that another run had evaluated, with which it began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub given: usize,
    /// Those of all that could not be evaluated.
    pub failed: usize,
    /// Those that learned nothing, and so are on no front.
    pub learned_nothing: usize,
    /// The number that all candidates share in their first objective: FlatNAS's `alpha_norm`.
    #[serde(deserialize_with = "number::one")]
    pub scale: f64,
    /// Seconds of evaluation.
    #[serde(deserialize_with = "number::one")]
    pub seconds: f64,
    /// Generation by generation.
    pub steps: Vec<Generation>,
    /// Candidates within the limits that none beats in all objectives, by parameters.
    pub front: Vec<Found>,
    /// The one that is picked.
    pub best: Option<Found>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Explored {
    /// What a study found; `begun` are the names of the strategy and the seconds of evaluation.
    pub(super) fn of(arm: &str, study: &Study, strategy: &str, seconds: f64) -> Self {
        let entries = study.entries();
        let front = study.front();
        let found = |(entry, point): &(&Entry, Point)| Found::of(entry, point);
        let best = study.best().and_then(|best| front.iter().find(|(entry, _)| entry.arch == best.arch));
        let points = study.points();
        Explored {
            arm: arm.to_owned(),
            strategy: strategy.to_owned(),
            evaluated: entries.iter().filter(|entry| !entry.given).count(),
            given: entries.iter().filter(|entry| entry.given).count(),
            failed: points.iter().filter(|point| point.is_failed()).count(),
            learned_nothing: study.barred(),
            scale: study.scale(),
            seconds,
            steps: generations(study.steps(), entries, &points),
            front: front.iter().map(found).collect(),
            best: best.map(found),
        }
    }
}

/// Generations with the hypervolumes of their fronts.
fn generations(steps: &[Step], entries: &[Entry], points: &[Point]) -> Vec<Generation> {
    let row = |point: &Point| (point.violation <= 0.0).then(|| point.objectives.clone());
    let initial = entries.iter().zip(points).filter(|(entry, _)| entry.generation == 0);
    let initial: Vec<Vec<f64>> = initial.filter_map(|(_, point)| row(point)).collect();
    let reference = reference_point(&initial).ok();
    let generation = |step: &Step| {
        let until = entries.iter().filter(|entry| entry.generation <= step.generation).count();
        let rows: Vec<Vec<f64>> = points.iter().take(until).filter_map(row).collect();
        Generation {
            generation: step.generation,
            surrogate: step.surrogate.clone(),
            notes: step.notes.clone(),
            evaluated: until,
            hypervolume: reference.as_ref().and_then(|reference| normalised(&rows, reference).ok()),
        }
    };
    steps.iter().filter(|step| !step.archs.is_empty()).map(generation).collect()
}

/// What a run found. What earlier versions did not write is empty when their results are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchResult {
    /// The method.
    pub method: String,
    /// Name of the space.
    pub space: String,
    /// Name of the data set.
    pub dataset: String,
    /// Seed of everything.
    pub seed: u64,
    /// Whether the released code's behaviour was asked for.
    pub compat: bool,
    /// Adapter and driver.
    pub device: String,
    /// Whether the same seed gives the same bits on this adapter.
    pub reproducible: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub varies: Vec<String>,
    /// Seconds since the start, those before an interruption included.
    #[serde(deserialize_with = "number::one")]
    pub seconds: f64,
    /// What differed when the run was gone on with, such as the driver; then it may have ended with other bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Candidates that the search evaluated.
    pub evaluated: usize,
    /// Why these are fewer than were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// The candidate that the search picked; which network is kept, the finalists say.
    pub best: Found,
    /// Candidates within the limits that none beats in all objectives, by parameters.
    pub front: Vec<Found>,
    /// What evaluators found out before they could begin, such as deviations of noise.
    #[serde(flatten)]
    pub findings: BTreeMap<String, serde_json::Value>,
    /// The error from which on a network has learned nothing, percent points; not there if the rule does not hold.
    pub constant_error: Option<f64>,
    /// Spearman's rank correlation of the fitness with parameters, multiply-adds and each measure, over all candidates.
    pub correlations: BTreeMap<String, Option<f64>>,
    /// The search itself, and what it is held against.
    pub arms: Vec<Explored>,
    /// The supernet's training, epoch by epoch; empty if there is none, or it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supernet_training: Vec<Progress>,
    /// The network that is kept, trained: of the finalists the one that says so.
    #[serde(rename = "final")]
    pub trained: Final,
    /// This network and the others that were trained, judged on images that nothing has seen.
    pub finalists: Vec<Judged>,
    /// Where corruptions lead the kept network astray, in the order of `mistakes.png`; empty for images that cannot be corrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
    /// Every number that decided the run.
    pub config: SearchConfig,
}

impl SearchResult {
    /// The finalist that is kept.
    ///
    /// # Errors
    /// If there is none.
    pub fn kept(&self) -> Result<&Judged> {
        let kept = self.finalists.iter().find(|finalist| finalist.kept);
        kept.ok_or_else(|| Error::invalid("finals", "no network is kept"))
    }

    /// A finalist's name: its role, with its optimiser behind a colon where that is not the usual one.
    pub fn label(&self, finalist: &Judged) -> String {
        match finalist.optimizer == self.config.training.optimizer {
            true => finalist.role.clone(),
            false => format!("{}:{}", finalist.role, finalist.optimizer.to_string().to_lowercase()),
        }
    }
}

/// Rank correlations of the first objective, turned round so that more is better and under one scale, with whatever else is known of
/// the candidates that were evaluated here and did not fail.
pub(super) fn correlations(study: &Study) -> Result<BTreeMap<String, Option<f64>>> {
    let all = study.entries().iter().zip(study.points());
    let known = all.filter(|(entry, point)| !entry.given && !point.is_failed());
    let (entries, fitness): (Vec<&Entry>, Vec<f64>) = known.map(|(entry, point)| (entry, -point.objectives[0])).unzip();
    let column = |value: &dyn Fn(&Entry) -> f64| -> Result<Option<f64>> {
        Ok(spearman(&fitness, &entries.iter().map(|entry| value(entry)).collect::<Vec<_>>())?.value)
    };
    let mut all = BTreeMap::from([
        ("params".to_owned(), column(&|entry| entry.params as f64)?),
        ("macs".to_owned(), column(&|entry| entry.macs as f64)?),
    ]);
    let names =
        entries.iter().flat_map(|entry| entry.measures.keys()).filter(|name| Some(name.as_str()) != study.scale_name());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        all.insert(name.clone(), column(&|entry| entry.measure(name))?);
    }
    Ok(all)
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
