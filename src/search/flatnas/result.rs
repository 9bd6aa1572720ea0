//! What a search by FlatNAS found.

use serde::Serialize;

use super::config::FlatnasConfig;

use super::super::ood::Judged;
use crate::train::step::Optimizer;

/// A candidate with what was found of it.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its architecture.
    pub arch: String,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Error on validation images, percent points.
    pub error: f64,
    /// Mean change of accuracy under weight noise, percent points.
    pub robustness: f64,
    /// The first objective under the `alpha_norm` of the whole archive.
    pub f1: f64,
}

/// A generation of the search.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its number; 0 is the initial sample.
    pub generation: u64,
    /// The surrogate that proposed it.
    pub surrogate: String,
    /// What failed on the way, and what took its place.
    pub notes: Vec<String>,
    /// Candidates evaluated so far.
    pub evaluated: usize,
    /// Normalised hypervolume of the front so far, under the last `alpha_norm`; the reference is 1.01 times the worst of
    /// the initial sample.
    pub hypervolume: Option<f64>,
}

/// What one search found: the run's own, or the baseline's.
#[derive(Clone, Debug, Serialize)]
pub struct Explored {
    /// What trained candidates.
    pub optimizer: Optimizer,
    /// Weight of the error in the first objective.
    pub alpha: f64,
    /// Candidates that were evaluated.
    pub evaluated: usize,
    /// Those of them that could not be trained.
    pub failed: usize,
    /// Those that learned nothing, and so are on no front.
    pub learned_nothing: usize,
    /// Mean error over mean robustness of all candidates that learned something.
    pub alpha_norm: f64,
    /// Generation by generation.
    pub steps: Vec<Step>,
    /// Candidates within the limits that none dominates, by parameters.
    pub front: Vec<Found>,
    /// The pick of the front: highest trade-off.
    pub best: Found,
}

/// What a run found; written as `result.json`.
#[derive(Debug, Serialize)]
pub struct FlatnasResult {
    /// `flatnas`.
    pub method: String,
    /// Name of the space.
    pub space: String,
    /// Name of the data set.
    pub dataset: String,
    /// Seed of everything.
    pub seed: u64,
    /// Adapter and driver.
    pub device: String,
    /// Whether the same seed gives the same bits on this adapter.
    pub reproducible: bool,
    /// Seconds since the start, those before an interruption included.
    pub seconds: f64,
    /// What differed when the run was gone on with, such as the driver; then it may have ended with other bits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The error from which on a network has learned nothing, percent points; not there if the rule does not hold.
    pub constant_error: Option<f64>,
    /// Every number that decided the run.
    pub config: FlatnasConfig,
    /// The search.
    #[serde(flatten)]
    pub found: Explored,
    /// The same search with candidates trained by SGD and the error as the first objective; not there if the baseline was
    /// picked from the search's own candidates, by their error.
    pub baseline: Option<Explored>,
    /// Networks trained at the end.
    #[serde(rename = "final")]
    pub trained: Vec<Judged>,
}
