//! Strategies: what to evaluate next, given what was evaluated before.

use serde::{Deserialize, Serialize};

use super::domain::{Dedupe, Domain};
use super::front::pareto::Point;
use super::surrogate::Kind;
use crate::error::{Error, Result, unknown};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::space::{Arch, Draw};

pub mod evolution;
pub mod genes;
pub mod met;
pub mod moves;
pub mod nsga2;
pub mod random;
pub mod subset;
pub mod surrogate;

use evolution::{Evolution, EvolutionProtocol};
use moves::Moves;
use random::Random;
use surrogate::SurrogateSettings;

/// Random numbers for a slot of a generation: always the same ones for the same two numbers.
pub type Streams<'a> = dyn Fn(u64, u64) -> Box<dyn Draw> + 'a;

/// An evaluated architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Individual {
    /// The generation that proposed it.
    pub generation: u64,
    /// Itself.
    pub arch: Arch,
    /// What was found of it.
    pub point: Point,
}

impl Individual {
    /// What the search looks for first, which is minimised; not a number if the evaluation failed.
    pub fn first(&self) -> f64 {
        self.point.objectives.first().copied().unwrap_or(f64::NAN)
    }
}

/// What a strategy sees.
pub struct View<'a> {
    /// What may be proposed.
    pub domain: &'a dyn Domain,
    /// Seed of everything.
    pub seed: u64,
    /// The generation that is asked for, from 0 on.
    pub generation: u64,
    /// All of the generations before it, in their order.
    pub earlier: &'a [Individual],
}

/// What a strategy proposes.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// The candidates of the generation, none of which was evaluated earlier; none if there are no more.
    pub archs: Vec<Arch>,
    /// The surrogate that was used.
    pub surrogate: String,
    /// What failed on the way, and what took its place.
    pub notes: Vec<String>,
}

/// Proposes candidates, generation by generation.
pub trait Strategy {
    /// The candidates of a generation: a pure function of the earlier ones and the seed, so that a search that stopped goes on as if
    /// it had not.
    ///
    /// # Errors
    /// If nothing can be proposed with these settings.
    fn ask(&self, view: &View) -> Result<Proposal>;

    /// Candidates of the first generation.
    fn begins_with(&self) -> usize;
}

/// Which strategy, and its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StrategyConfig {
    /// Distinct random candidates.
    Random(Random),
    /// Evolution of the best by one objective.
    Evolution(Evolution),
    /// A random pool, then moves from the best so far.
    Moves(Moves),
    /// NSGA-II, with a surrogate or plain.
    Surrogate(SurrogateSettings),
}

impl StrategyConfig {
    /// Names, as on the command line: plain NSGA-II is a surrogate of kind none, and moves from a single candidate have a pool of one.
    pub const NAMES: [&'static str; 7] = ["random", "evolution", "moves", "warmup", "mutate", "nsga2", "surrogate"];

    /// One with sizes for so many evaluations, of which the first generation is a part; `compat` for the protocol of released code.
    ///
    /// # Errors
    /// If there is none of the name.
    pub fn named(name: &str, evaluations: usize, compat: bool) -> Result<Self> {
        let protocol = if compat { EvolutionProtocol::released() } else { EvolutionProtocol::sound() };
        let population = (evaluations / 5).clamp(2, 50);
        let mut surrogate = SurrogateSettings::default();
        surrogate.initial = (2 * evaluations / 3).clamp(2, surrogate.initial);
        surrogate.picks = if evaluations < 100 { 4 } else { surrogate.picks };
        surrogate.plain.population = (surrogate.initial / 2).clamp(2, surrogate.plain.population);
        let moves = Moves { pool: (2 * evaluations / 5).clamp(1, 50), ..Moves::default() };
        Ok(match name {
            "random" => {
                StrategyConfig::Random(Random { batch: population, dedupe: protocol.dedupe, ..Random::default() })
            }
            "evolution" => {
                let (parents, each) = (population.div_ceil(2).min(10), population / 2);
                let usual = Evolution::default();
                let evolution = Evolution { population, parents, mutations: each, crossovers: each, protocol, ..usual };
                StrategyConfig::Evolution(evolution)
            }
            "moves" | "warmup" => StrategyConfig::Moves(moves),
            "mutate" => StrategyConfig::Moves(Moves { pool: 1, ..moves }),
            "nsga2" => StrategyConfig::Surrogate(SurrogateSettings { surrogate: Kind::None, ..surrogate }),
            "surrogate" => StrategyConfig::Surrogate(surrogate),
            _ => return Err(unknown("--strategy", name, &Self::NAMES)),
        })
    }

    /// Whether a name is this strategy's.
    pub fn is_called(&self, name: &str) -> bool {
        match (self, name) {
            (StrategyConfig::Moves(moves), "mutate") => moves.pool == 1,
            (StrategyConfig::Moves(moves), "warmup") => moves.pool > 1,
            _ => self.name() == name,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            StrategyConfig::Random(_) => "random",
            StrategyConfig::Evolution(_) => "evolution",
            StrategyConfig::Moves(_) => "moves",
            StrategyConfig::Surrogate(settings) if settings.surrogate == Kind::None => "nsga2",
            StrategyConfig::Surrogate(_) => "surrogate",
        }
    }

    /// What counts as the same architecture.
    pub fn dedupe(&self) -> Dedupe {
        match self {
            StrategyConfig::Evolution(evolution) => evolution.protocol.dedupe,
            StrategyConfig::Random(random) => random.dedupe,
            _ => Dedupe::Canonical,
        }
    }

    /// Candidates of the first generation.
    pub fn begins_with(&self) -> usize {
        match self {
            StrategyConfig::Random(random) => random.begins_with(),
            StrategyConfig::Evolution(evolution) => evolution.begins_with(),
            StrategyConfig::Moves(moves) => moves.begins_with(),
            StrategyConfig::Surrogate(settings) => settings.initial,
        }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        match self {
            StrategyConfig::Random(random) => random.validate(),
            StrategyConfig::Evolution(evolution) => evolution.validate(),
            StrategyConfig::Moves(moves) => moves.validate(),
            StrategyConfig::Surrogate(settings) => settings.validate(),
        }
    }

    /// The strategy. Only a surrogate that is a network needs a device.
    pub fn open(&self, device: Option<(Gpu, Preset)>) -> Box<dyn Strategy> {
        match *self {
            StrategyConfig::Random(random) => Box::new(random),
            StrategyConfig::Evolution(evolution) => Box::new(evolution),
            StrategyConfig::Moves(moves) => Box::new(moves),
            StrategyConfig::Surrogate(settings) => Box::new(surrogate::Search { settings, device }),
        }
    }
}

/// Fails if one of some sizes is 0 or beyond all reason.
pub(super) fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=1 << 20).contains(size)) {
        Some((what, size)) => Err(Error::invalid(*what, format!("is {size}, expected 1 to {}", 1 << 20))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "plain_tests.rs"]
pub(in crate::search) mod testing;
