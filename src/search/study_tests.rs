//! Tests of asking and telling, for all strategies: nothing twice, and after any stop the same again.

use std::collections::HashSet;

use super::*;
use crate::search::front::pareto::Point;
use crate::search::objectives::{ErrorAndRobustness, Weighted};
use crate::search::strategy::evolution::Evolution;
use crate::search::strategy::moves::Moves;
use crate::search::strategy::random::Random;
use crate::search::strategy::surrogate::SurrogateSettings;
use crate::search::strategy::testing::Plain;
use crate::search::strategy::{StrategyConfig, View};
use crate::search::surrogate::Kind;

/// Vectors of four genes that cost what they add up to.
struct Priced(Plain);

impl Domain for Priced {
    fn space(&self) -> &dyn crate::space::Space {
        &self.0
    }

    fn cost(&self, arch: &Arch) -> Result<Cost> {
        Ok(Cost { params: arch.iter().map(|value| u64::from(*value)).sum(), macs: 1 })
    }

    fn known(&self, arch: &Arch) -> Point {
        Point::feasible([arch.iter().map(|value| f64::from(*value)).sum::<f64>()])
    }
}

fn domain() -> Priced {
    Priced(Plain::new(&[5, 5, 5, 5]))
}

fn strategies() -> Vec<StrategyConfig> {
    let evolution = Evolution { population: 8, parents: 3, mutations: 4, crossovers: 3, ..Evolution::default() };
    let surrogate = SurrogateSettings { initial: 12, picks: 3, surrogate: Kind::Trees, ..SurrogateSettings::default() };
    let mut plain = SurrogateSettings { surrogate: Kind::None, ..surrogate };
    plain.plain.population = 6;
    vec![
        StrategyConfig::Random(Random { batch: 7, ..Random::default() }),
        StrategyConfig::Evolution(evolution),
        StrategyConfig::Moves(Moves { pool: 6, moves: 4 }),
        StrategyConfig::Surrogate(plain),
        StrategyConfig::Surrogate(surrogate),
    ]
}

/// Dearer is better, with a bump; some fail.
fn value(job: &Job) -> Measures {
    let sum: f64 = job.arch.iter().map(|value| f64::from(*value)).sum();
    let value = if job.arch[0] == 4 && job.arch[3] == 0 { f64::NAN } else { sum.sqrt() + f64::from(job.arch[1] % 3) };
    Measures::from([("value".to_owned(), value)])
}

fn study<'a>(domain: &'a Priced, strategy: &StrategyConfig) -> Study<'a> {
    let objective = Weighted::maximize("value");
    Study::new(domain, strategy.open(None), Box::new(objective), 5)
}

/// Asks for so many at a time until there are `evaluations`.
fn go_on(study: &mut Study, evaluations: usize, width: usize) {
    while study.entries().len() < evaluations {
        let jobs = study.ask(width.min(evaluations - study.entries().len())).unwrap();
        assert!(!jobs.is_empty());
        for job in &jobs {
            study.tell(job, value(job)).unwrap();
        }
    }
}

/// One body for all strategies: stopped after any number of evaluations, written down, read back, it ends alike; and whether few
/// are asked for at a time or many.
#[test]
fn stopped_anywhere_it_ends_alike() {
    let domain = domain();
    for strategy in strategies() {
        let mut whole = study(&domain, &strategy);
        go_on(&mut whole, 40, 40);
        let names: HashSet<&str> = whole.entries().iter().map(|entry| entry.arch.as_str()).collect();
        assert_eq!(names.len(), 40, "{}", strategy.name());
        for stop in (0..40).step_by(3) {
            let mut first = study(&domain, &strategy);
            go_on(&mut first, stop, 2);
            // Asked for and never told.
            first.ask(1).unwrap();
            let mut second = study(&domain, &strategy);
            second.restore_json(&first.to_json().unwrap()).unwrap();
            go_on(&mut second, 40, 5);
            let text = |study: &Study| study.to_json().unwrap();
            assert_eq!(text(&second), text(&whole), "{} stopped after {stop}", strategy.name());
            // Without what was proposed, it is proposed again.
            let mut third = study(&domain, &strategy);
            third.restore(first.entries().to_vec(), vec![]).unwrap();
            go_on(&mut third, 40, 5);
            let entries = |study: &Study| serde_json::to_string(study.entries()).unwrap();
            assert_eq!(entries(&third), entries(&whole), "{} stopped after {stop}, by its history", strategy.name());
        }
    }
}

#[test]
fn generations_wait_for_their_outcomes() {
    let domain = domain();
    let mut study = study(&domain, &strategies()[1]);
    let first = study.ask(100).unwrap();
    assert_eq!(first.len(), 8);
    assert!(study.ask(1).unwrap().is_empty());
    for job in first.iter().rev() {
        study.tell(job, value(job)).unwrap();
    }
    assert!(study.tell(&first[0], Measures::new()).unwrap_err().to_string().contains("told already"));
    assert_eq!(study.ask(3).unwrap().len(), 3);
}

#[test]
fn failures_are_written_down_and_the_search_goes_on() {
    let domain = domain();
    let mut study = study(&domain, &strategies()[1]);
    for job in study.ask(8).unwrap() {
        study.tell(&job, Measures::new()).unwrap();
    }
    assert!(study.best().is_none() && study.entries()[0].fitness.is_nan());
    go_on(&mut study, 20, 4);
    assert!(study.best().unwrap().fitness > 0.0 && !study.top(1)[0].fitness.is_nan());
    assert!(study.top(99)[19].fitness.is_nan());
}

#[test]
fn what_others_found_begins() {
    let domain = domain();
    let mut other = study(&domain, &strategies()[0]);
    go_on(&mut other, 20, 5);
    let found = other.entries().to_vec();
    // Few of them: the first generation is filled up. More than it has: the next one begins.
    for (given, generation) in [(5, 0), (20, 1)] {
        let mut study = study(&domain, &strategies()[1]);
        study.warm_start(found[..given].iter().chain(&found[..2]).cloned()).unwrap();
        assert_eq!(study.entries().len(), given);
        let jobs = study.ask(99).unwrap();
        assert_eq!((jobs.len(), jobs[0].generation), (if generation == 0 { 3 } else { 8 }, generation));
        assert!(jobs.iter().all(|job| found[..given].iter().all(|entry| entry.arch != job.name)));
        assert!(study.warm_start(found.clone()).is_err());
    }
    let mut study = study(&domain, &strategies()[1]);
    let foreign = Entry { arch: "9-9".into(), ..found[0].clone() };
    assert!(study.warm_start([foreign]).unwrap_err().to_string().contains("2 genes, expected 4"));
}

#[test]
fn the_space_ends_the_search() {
    let domain = Priced(Plain::new(&[2, 2, 1]));
    for strategy in strategies() {
        let mut study = study(&domain, &strategy);
        let mut all = 0;
        loop {
            let jobs = study.ask(9).unwrap();
            if jobs.is_empty() {
                break;
            }
            all += jobs.len();
            for job in &jobs {
                study.tell(job, Measures::from([("value".to_owned(), 1.0)])).unwrap();
            }
        }
        assert_eq!(all, 4, "{}", strategy.name());
        assert!(study.ask(1).unwrap().is_empty());
    }
    // An empty view is the beginning.
    let view = View { domain: &domain, seed: 1, generation: 0, earlier: &[] };
    assert_eq!(strategies()[0].open(None).ask(&view).unwrap().archs.len(), 4);
}

/// A dead network answers always the same and is as flat as can be: it is neither winner nor parent while others have learned.
#[test]
fn what_learned_nothing_is_not_chosen_while_others_have() {
    let domain = domain();
    // Those that begin with 4 are dead and flattest; a constant answer errs in 90 of 100 cases.
    let run = |dead: fn(&Job) -> bool| {
        let objective = Weighted::maximize("flatness").above(85.0);
        let evolution = Evolution { population: 20, parents: 5, mutations: 20, crossovers: 0, ..Evolution::default() };
        let mut study = Study::new(&domain, StrategyConfig::Evolution(evolution).open(None), Box::new(objective), 3);
        for job in study.ask(20).unwrap() {
            let (accuracy, flatness) = if dead(&job) { (0.1, 1.0) } else { (0.9, 0.01 * f64::from(job.arch[1])) };
            let measures = [("accuracy".to_owned(), accuracy), ("flatness".to_owned(), flatness)];
            study.tell(&job, Measures::from(measures)).unwrap();
        }
        let children = study.ask(20).unwrap();
        (study.barred(), study.best().unwrap().measure("accuracy"), children)
    };
    let (barred, accuracy, children) = run(|job| job.arch[0] == 4);
    assert!(barred > 0 && accuracy == 0.9, "{barred}");
    // A gene is drawn anew with probability .1, so children of living parents seldom begin with 4, and those of dead ones nearly always.
    let dead = children.iter().filter(|job| job.arch[0] == 4).count();
    assert!(dead < 8, "{dead} of {} children begin like the dead", children.len());
    // On a supernet that has learned nothing all are dead, and one is chosen all the same.
    let (barred, accuracy, _) = run(|_| true);
    assert_eq!((barred, accuracy), (20, 0.1));
}

/// A first candidate that fails is no place to climb from for ever.
#[test]
fn moves_leave_what_failed() {
    let domain = domain();
    let strategy = StrategyConfig::Moves(Moves { pool: 1, moves: 4 });
    let objective = Weighted::maximize("value");
    let mut study = Study::new(&domain, strategy.open(None), Box::new(objective), 5);
    while study.entries().len() < 60 {
        for job in study.ask(4.min(60 - study.entries().len())).unwrap() {
            let sum = job.arch.iter().map(|value| f64::from(*value)).sum();
            let value = if job.number == 0 { f64::NAN } else { sum };
            study.tell(&job, Measures::from([("value".to_owned(), value)])).unwrap();
        }
    }
    // The dearest of all vectors, many moves from any other.
    assert_eq!(study.best().unwrap().arch, "4-4-4-4");
}

/// FlatNAS's `alpha_norm` of a generation is that of all before it: mean error over mean robustness.
#[test]
fn each_generation_has_the_scale_of_those_before_it() {
    let domain = domain();
    let objectives = ErrorAndRobustness { alpha: 0.5, constant: f64::INFINITY };
    let mut study = Study::new(&domain, strategies()[1].open(None), Box::new(objectives), 2);
    for _ in 0..2 {
        for job in study.ask(8).unwrap() {
            let (error, robustness) = (10.0 + job.number as f64, 1.0 + f64::from(job.arch[0]));
            let measures = [("error".to_owned(), error), ("robustness".to_owned(), robustness)];
            study.tell(&job, Measures::from(measures)).unwrap();
        }
    }
    let (first, second) = study.entries().split_at(8);
    let sum = |name: &str| first.iter().map(|entry| entry.measure(name)).sum::<f64>();
    let norm = sum("error") / sum("robustness");
    assert!(first.iter().all(|entry| entry.measure("alpha_norm") == 1.0));
    for entry in second {
        assert!((entry.measure("alpha_norm") / norm - 1.0).abs() < 1e-12 && norm != 1.0);
        let value = 0.5 * entry.measure("error") + 0.5 * norm * entry.measure("robustness");
        assert!((entry.fitness + value).abs() < 1e-9);
    }
}
