//! FlatNAS (Gambella et al. 2024): a search for accurate, flat and small networks. Candidates are trained and disturbed by
//! weight noise; surrogates and NSGA-II propose the next ones; the pick of the front is trained anew.
//!
//! It is held against its baseline, the same search with candidates trained by SGD and the error alone as the first objective, and
//! against random candidates. At the end the networks of search and baseline are each trained by both optimisers, so that what the
//! network does and what the optimiser does can be told apart.
//!
//! The error `E` and the robustness `R`, in percent points, make the first objective `alpha E + (1 - alpha) alpha_norm R`;
//! parameters (and multiply-adds, if asked for) are the others. Before any comparison all candidates are scored again
//! with one `alpha_norm`.
//!
//! A network that answers always the same is as robust to noise as can be. So one whose error cannot be told from that of a
//! constant answer counts as beyond a limit: it is on no front, its `R` is in no mean, and its first objective is its
//! error. (The released code, whose networks were trained before, has no such rule; nor has `--compat`.)
//!
//! Candidates begin from fresh weights, or inherit those of a supernet that the run trains first, as the paper's do.

use super::{Situation, Sizes};
use crate::search::config::Arm;
use crate::search::domain::Quantity;
use crate::search::evaluate::EvaluatorConfig;
use crate::search::evaluate::trained::TrainedOptions;
use crate::search::finals::FinalsConfig;
use crate::search::objectives::ObjectivesConfig;
use crate::search::strategy::StrategyConfig;
use crate::search::strategy::surrogate::SurrogateSettings;
use crate::train::schedule::Schedule;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// The same search with candidates trained by SGD and the error alone as the first objective.
pub(super) fn baseline(mut arm: Arm) -> Arm {
    if let EvaluatorConfig::Trained(options) = &mut arm.evaluator {
        options.training = Recipe { optimizer: Optimizer::Sgd, rho: 0.0, ..options.training.clone() };
    }
    if let ObjectivesConfig::ErrorAndRobustness { alpha } = &mut arm.objectives {
        *alpha = 1.0;
    }
    arm
}

/// The sizes of a preset.
pub(super) fn preset(situation: &Situation, side: usize) -> Sizes {
    let &Situation { compat, .. } = situation;
    let (quick, small) = (situation.is_quick(), situation.is_small());
    let optimizer = if quick { Optimizer::Sam } else { Optimizer::Asam };
    // Networks that begin with a supernet's weights are trained for a short time, also at the end (FlatNAS: 6 epochs both times).
    let elastic = situation.space.is_elastic();
    let (epochs, final_epochs, generations) = match (quick, small) {
        (true, _) if elastic => (2, 3, 2),
        (true, true) => (5, 10, 2),
        (true, false) => (4, 8, 3),
        (false, _) => (6, if elastic { 6 } else { 200 }, 30),
    };
    // The paper's networks begin with weights that were trained on another data set, and which a file may hold.
    let supernet_epochs = match (elastic, quick) {
        (false, _) => 0,
        (true, true) => 4,
        (true, false) => 120,
    };
    let schedule = match compat {
        true => Schedule::Constant,
        false => Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false },
    };
    let recipe = |epochs: usize| Recipe {
        batch: if quick { 32 } else { 128 },
        nesterov: !compat,
        smoothing: if quick && !compat { 0.0 } else { 0.1 },
        schedule,
        ..Recipe::usual(optimizer, epochs, side)
    };
    let mut strategy = SurrogateSettings::default();
    if quick {
        (strategy.initial, strategy.picks) = (if elastic { 12 } else { 16 }, 4);
        // Smaller than the initial sample, so that there is a selection from the beginning.
        strategy.plain.population = 8;
    }
    let finals = FinalsConfig::usual(situation);
    let contestants = ["flat", "flat:sgd", "baseline", "baseline:sgd", "random", "random-by-accuracy", "largest"];
    Sizes {
        evaluations: strategy.initial + strategy.picks * generations,
        arms: &["flat", "baseline", "random", "random-by-accuracy"],
        strategy: StrategyConfig::Surrogate(strategy),
        evaluator: EvaluatorConfig::Trained(TrainedOptions {
            train_share: 0.8,
            judges_on_training: compat,
            side_by_side: 8,
            training_images: match (quick, elastic) {
                (true, true) => 1_000,
                (true, false) => 2_000,
                (false, _) => 0,
            },
            images: if quick { 500 } else { 0 },
            noise: finals.noise,
            recalibration_batches: if quick { 10 } else { 20 },
            best_epoch: elastic,
            training: recipe(epochs),
        }),
        objectives: ObjectivesConfig::ErrorAndRobustness { alpha: 0.5 },
        // Many small networks have the same number of parameters: in NAS-Bench-201 one in twenty has the least.
        minimize: if quick { vec![Quantity::Params, Quantity::Macs] } else { vec![Quantity::Params] },
        // With 0 epochs there is none. On one path at a time it learns more slowly.
        supernet: Some(Recipe { optimizer: Optimizer::Sgd, rho: 0.0, lr: 0.05, ..recipe(supernet_epochs) }),
        finals: FinalsConfig {
            contestants: contestants.map(str::to_owned).into(),
            images: match (quick, elastic) {
                (true, true) => 2_000,
                (true, false) => 4_000,
                (false, _) => 0,
            },
            ..finals
        },
        training: recipe(final_epochs),
    }
}
