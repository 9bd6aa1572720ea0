use std::collections::HashSet;

use super::*;
use crate::report::statistics::quartiles;
use crate::search::domain::Domain;
use crate::search::strategy::evolution::Evolution;
use crate::search::strategy::moves::Moves;
use crate::search::strategy::random::Random;
use crate::search::strategy::surrogate::SurrogateSettings;
use crate::search::surrogate::Kind;
use crate::space::Space;
use crate::space::nas_bench_201::{Cell, NasBench201, Op};

/// Every seventh class; more convolutions are better, and cost more.
fn rows() -> Vec<(Arch, f64, f64)> {
    let value = |arch: &Cell| {
        let live = arch.live_edges();
        let count = |op: Op| arch.0.iter().zip(live).filter(|(o, live)| **o == op && *live).count() as f64;
        let (three, one, pool) = (count(Op::Conv3x3), count(Op::Conv1x1), count(Op::AvgPool3x3));
        (5.0 + 3.0 * three.sqrt() + one - 0.5 * pool, 9.0 * three + one)
    };
    let one = |arch: Cell| {
        let (value, cost) = value(&arch);
        (arch.into(), value, cost)
    };
    Cell::all().filter(|a| a.representative() == *a).step_by(7).map(one).collect()
}

fn settings(surrogate: Kind) -> StrategyConfig {
    let mut settings = SurrogateSettings { initial: 20, surrogate, ..SurrogateSettings::default() };
    settings.plain.population = 20;
    StrategyConfig::Surrogate(settings)
}

/// Random search, NSGA-II, and by surrogate.
fn contenders() -> Vec<Contender> {
    let random = StrategyConfig::Random(Random { batch: 1 << 20, shared: 20, ..Random::default() });
    let all = [("random", random), ("nsga2", settings(Kind::None)), ("surrogate", settings(Kind::Adaptive))];
    all.map(|(name, strategy)| Contender { name: name.into(), strategy }).into()
}

#[test]
fn all_begin_alike_and_nothing_is_evaluated_twice() {
    let space = NasBench201;
    let truth = Truth::new(&space, &rows()).unwrap();
    let mut all = contenders();
    let runs: Vec<Vec<Known>> = all.iter().map(|own| run(&truth, &own.strategy, 60, 3, None).unwrap()).collect();
    for run in &runs {
        assert_eq!((run.len(), &run[..20]), (60, &runs[0][..20]));
    }
    // Others have a sample of their own.
    let evolution = Evolution { population: 20, mutations: 10, crossovers: 10, ..Evolution::default() };
    all.push(Contender { name: "evolution".into(), strategy: StrategyConfig::Evolution(evolution) });
    all.push(Contender { name: "moves".into(), strategy: StrategyConfig::Moves(Moves { pool: 20, moves: 5 }) });
    for own in &all {
        let run = run(&truth, &own.strategy, 60, 3, None).unwrap();
        assert_eq!(run.iter().map(|(arch, _)| truth.key(arch)).collect::<HashSet<_>>().len(), 60, "{}", own.name);
        assert!(run.iter().all(|(arch, _)| truth.list().unwrap().contains(arch)), "{}", own.name);
    }
    // The same seed, the same search; all of the table is its own front.
    assert_eq!(run(&truth, &all[2].strategy, 60, 3, None).unwrap(), runs[2]);
    let all = run(&truth, &all[0].strategy, 9_999, 3, None).unwrap();
    assert_eq!(all.len(), truth.len());
    let shares = truth.shares(&all.into_iter().map(|(_, point)| point).collect::<Vec<_>>()).unwrap();
    assert!((shares.last().unwrap() - 1.0).abs() < 1e-12 && shares.windows(2).all(|w| w[0] <= w[1] + 1e-12));
}

#[test]
fn what_can_be_learnt_is_found_sooner() {
    let space = NasBench201;
    let truth = Truth::new(&space, &rows()).unwrap();
    let (curves, comparisons) = compare(&truth, &contenders(), 60, 1..7, None).unwrap();
    assert_eq!(quartiles(&curves[2].shares).len(), 60);
    assert_eq!((comparisons[0].proposer.as_str(), comparisons[0].against.as_str()), ("surrogate", "random"));
    assert_eq!((comparisons[0].gain.wins, comparisons[0].gain.pairs), (6, 6), "{comparisons:?}");
    let [low, high] = comparisons[0].gain.bounds.unwrap();
    assert!(low > 0.0 && low <= comparisons[0].gain.mean && comparisons[0].gain.mean <= high);
}

#[test]
fn a_network_needs_a_device() {
    let space = NasBench201;
    let truth = Truth::new(&space, &rows()).unwrap();
    let error = run(&truth, &settings(Kind::Mlp), 60, 3, None).unwrap_err().to_string();
    assert!(error.contains("learns on a device"), "{error}");
}

#[test]
fn candidates_that_are_all_as_good_are_no_trouble() {
    let space = NasBench201;
    // All but one, without which there would be nothing to choose; and costs that differ or do not.
    for equal_costs in [false, true] {
        let level = |(n, (arch, _, cost)): (usize, (Arch, f64, f64))| {
            (arch, if n == 0 { 6.0 } else { 5.0 }, if equal_costs && n > 0 { 1.0 } else { cost })
        };
        let rows: Vec<(Arch, f64, f64)> = rows().into_iter().enumerate().map(level).collect();
        let truth = Truth::new(&space, &rows).unwrap();
        for own in contenders() {
            let run = run(&truth, &own.strategy, 40, 3, None).unwrap();
            assert_eq!(run.iter().map(|(arch, _)| truth.key(arch)).collect::<HashSet<_>>().len(), 40);
        }
    }
    let equal: Vec<(Arch, f64, f64)> = rows().into_iter().map(|(arch, _, cost)| (arch, 5.0, cost)).collect();
    assert!(Truth::new(&space, &equal).map(|_| ()).unwrap_err().to_string().contains("nothing to choose"));
}

#[test]
fn tables_without_a_choice_are_refused() {
    let space = NasBench201;
    let arch = NasBench201.parse("333333").unwrap();
    for rows in [
        vec![],
        vec![(arch.clone(), 1.0, 1.0)],
        vec![(arch, f64::NAN, 1.0), (NasBench201.parse("111111").unwrap(), 1.0, 2.0)],
    ] {
        assert!(Truth::new(&space, &rows).map(|_| ()).unwrap_err().to_string().contains("nothing to choose"));
    }
}
