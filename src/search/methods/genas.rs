//! GeNAS (Jeong et al., IJCAI 2023): evolution by the flatness of the validation loss, on a supernet; held against the same evolution
//! by accuracy, and against as many random candidates.

use super::{Method, Situation, Sizes};
use crate::measure::flatness::FlatnessProtocol;
use crate::measure::forward::Averaging;
use crate::search::domain::Quantity;
use crate::search::evaluate::EvaluatorConfig;
use crate::search::evaluate::shared::SharedOptions;
use crate::search::finals::FinalsConfig;
use crate::search::objectives::ObjectivesConfig;
use crate::search::strategy::StrategyConfig;
use crate::search::strategy::evolution::{Evolution, EvolutionProtocol};
use crate::search::strategy::random::Random;
use crate::train::schedule::Schedule;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// The sequence of random candidates beside a search lies above all of its generations.
pub(super) const BESIDE: u64 = 1 << 40;

/// The sizes of a preset; of chance, the same with random candidates.
pub(super) fn preset(method: Method, situation: &Situation, side: usize) -> Sizes {
    let &Situation { images, compat, .. } = situation;
    let quick = situation.is_quick();
    let batch = if quick && images < 4_000 { 32 } else { 64 };
    let published = situation.space.published_training();
    // Networks for which there is such a training are of many small layers, and take a device longer than their arithmetic says: to
    // end as soon as others, a quick search has fewer of them, for fewer epochs, and SGD as their authors.
    let is_slow = quick && published.is_some();
    let (supernet_epochs, training_epochs) = match (quick, situation.is_small()) {
        (true, true) => (22, 16),
        (true, false) => (15, 8),
        (false, _) => (250, 200),
    };
    let protocol = if compat { EvolutionProtocol::released() } else { EvolutionProtocol::sound() };
    let evolution = match quick {
        true => Evolution { population: 10, parents: 5, mutations: 5, crossovers: 5, protocol, ..Evolution::default() },
        false => Evolution { protocol, ..Evolution::default() },
    };
    let is_random = method == Method::Random;
    Sizes {
        evaluations: match (quick, is_slow) {
            (true, true) => 40,
            (true, false) => 50,
            (false, _) => 1_000,
        },
        arms: if is_random { &["random"] } else { &["flatness", "accuracy", "random", "random-by-accuracy"] },
        strategy: match is_random {
            true => StrategyConfig::Random(Random {
                batch: evolution.population,
                dedupe: protocol.dedupe,
                ..Random::default()
            }),
            false => StrategyConfig::Evolution(evolution),
        },
        evaluator: EvaluatorConfig::Shared(SharedOptions {
            train_share: if quick { 0.75 } else { 0.5 },
            side_by_side: if quick { 10 } else { 50 },
            recalibration_batches: if quick && !compat { 6 } else { 14 },
            averaging: if compat { Averaging::Moving } else { Averaging::Exact },
            images: if quick { 500 } else { 0 },
            batch,
            flatness: if compat { FlatnessProtocol::released() } else { FlatnessProtocol::sound() },
            released_angle: compat,
        }),
        objectives: ObjectivesConfig::Single { maximize: "flatness".into() },
        minimize: vec![Quantity::Params],
        supernet: Some(Recipe {
            batch,
            lr: if quick { 0.05 } else { 0.025 },
            schedule: Schedule::Cosine { minimum: 0.001, per_epoch_ahead: compat },
            nesterov: !compat,
            weight_decay: 3e-4,
            touch_all: compat,
            ..Recipe::usual(Optimizer::Sgd, supernet_epochs, side)
        }),
        finals: FinalsConfig {
            contestants: match is_random {
                true => ["random", "largest", "any"].map(str::to_owned).into(),
                false => {
                    ["flatness", "accuracy", "random", "random-by-accuracy", "largest", "any"].map(str::to_owned).into()
                }
            },
            ..FinalsConfig::usual(situation)
        },
        training: match published {
            Some(own) if !quick => Recipe::published(&own, side),
            Some(_) => Recipe { batch, ..Recipe::usual(Optimizer::Sgd, training_epochs / 2, side) },
            None => Recipe { batch, ..Recipe::usual(Optimizer::Sam, training_epochs, side) },
        },
    }
}

#[cfg(test)]
#[path = "genas_tests.rs"]
mod tests;
