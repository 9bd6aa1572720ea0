//! Search by a zero-cost proxy, as CRoZe's authors do (Ha, Kim and Hwang 2023, section 4.3): candidates are scored untrained. Held
//! against random candidates, and against what a count of parameters alone would have chosen, which many proxies follow.

use super::{Situation, Sizes};
use crate::measure::zero_cost::Proxy;
use crate::nn::space::Purpose;
use crate::search::domain::Quantity;
use crate::search::evaluate::EvaluatorConfig;
use crate::search::evaluate::proxy::ProxyOptions;
use crate::search::finals::FinalsConfig;
use crate::search::objectives::ObjectivesConfig;
use crate::search::strategy::StrategyConfig;
use crate::search::strategy::moves::Moves;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// The sizes of a preset; with `compat` the released proxy.
pub(super) fn preset(situation: &Situation, side: usize) -> Sizes {
    let &Situation { space, images, info, compat, .. } = situation;
    let quick = situation.is_quick();
    let epochs = match (quick, situation.is_small()) {
        (true, true) => 16,
        (true, false) => 8,
        (false, _) => 200,
    };
    let batch = if quick && images < 4_000 { 32 } else { 64 };
    let proxy = if compat { Proxy::CrozeCompat } else { Proxy::CrozeMean };
    Sizes {
        evaluations: if quick { 50 } else { 1_000 },
        arms: &["proxy", "params", "random"],
        training: Recipe { batch, ..Recipe::usual(Optimizer::Sgd, epochs, side) },
        strategy: StrategyConfig::Moves(Moves { pool: if quick { 20 } else { 50 }, moves: 5 }),
        evaluator: EvaluatorConfig::Proxy(ProxyOptions {
            proxy,
            network: space.defaults(Purpose::Scoring, info).form,
            scored_batch: if quick { 16 } else { 8 },
        }),
        objectives: ObjectivesConfig::Single { maximize: proxy.name().to_owned() },
        minimize: vec![Quantity::Params],
        supernet: None,
        finals: FinalsConfig {
            contestants: ["proxy", "random", "largest", "any", "any-2", "any-3"].map(str::to_owned).into(),
            attacks: ["fgsm:8/255", "pgd:8/255:10"].map(str::to_owned).into(),
            ..FinalsConfig::usual(situation)
        },
    }
}
