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
mod tests {
    use super::*;
    use crate::nn::space::{ImageInfo, Networks};
    use crate::search::config::Preset;
    use crate::space::darts::Darts;
    use crate::space::nas_bench_201::NasBench201;

    #[test]
    fn networks_are_trained_at_the_end_as_their_authors_do() {
        let training = |space: &dyn Networks, preset, side: usize| {
            let info = ImageInfo { height: side, width: side, channels: 3, classes: 10 };
            let (data, images, compat) = ("cifar10", 50_000, false);
            let situation = Situation { preset, space, data, images, info: &info, compat };
            Method::Genas.preset(&situation).training
        };
        let paper = training(&Darts, Preset::Paper, 32);
        assert_eq!((paper.epochs, paper.batch, paper.lr, paper.weight_decay), (600, 96, 0.025, 3e-4));
        assert_eq!((paper.optimizer, paper.momentum, paper.nesterov), (Optimizer::Sgd, 0.9, false));
        assert_eq!(paper.schedule, Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false });
        let cut = paper.augmentation.unwrap();
        assert_eq!((cut.padding, cut.flip, cut.cutout, paper.drop_path, paper.clip), (4, true, 16, 0.2, Some(5.0)));
        assert_eq!(training(&Darts, Preset::Paper, 8).augmentation.unwrap().cutout, 4);
        let search = |side: usize| {
            let info = ImageInfo { height: side, width: side, channels: 3, classes: 10 };
            let (preset, space, data, images, compat) = (Preset::Paper, &Darts, "cifar10", 50_000, false);
            Method::Genas.preset(&Situation { preset, space, data, images, info: &info, compat })
        };
        let (config, options) = (search(32), |build: &crate::nn::space::Build| build.words());
        assert_eq!(options(&config.build), "auxiliary 0.0, cells 8, channels 16");
        assert_eq!(options(config.finals.build.as_ref().unwrap()), "auxiliary 0.4, cells 20, channels 36");
        assert_eq!(options(search(8).finals.build.as_ref().unwrap()), "auxiliary 0.0, cells 20, channels 36");
        let evaluations = |space: &dyn Networks, preset| {
            let info = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
            let (data, images, compat) = ("cifar10", 50_000, false);
            Method::Genas.preset(&Situation { preset, space, data, images, info: &info, compat }).evaluations
        };
        assert_eq!([Preset::Quick, Preset::Paper].map(|preset| evaluations(&Darts, preset)), [40, 1_000]);
        assert_eq!([Preset::Quick, Preset::Paper].map(|preset| evaluations(&NasBench201, preset)), [50, 1_000]);
        let others = [
            (training(&Darts, Preset::Quick, 32), Optimizer::Sgd, 4),
            (training(&NasBench201, Preset::Quick, 32), Optimizer::Sam, 8),
            (training(&NasBench201, Preset::Paper, 32), Optimizer::Sam, 200),
        ];
        for (other, optimizer, epochs) in others {
            assert_eq!((other.optimizer, other.epochs, other.drop_path), (optimizer, epochs, 0.0));
        }
    }
}
