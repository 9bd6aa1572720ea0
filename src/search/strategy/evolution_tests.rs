//! Tests of the evolution on NAS-Bench-201 with a made-up fitness.

use std::collections::HashSet;

use super::*;
use crate::search::domain::{Dedupe, Domain, Whole};
use crate::search::objectives::{Measures, Weighted};
use crate::search::study::Study;
use crate::space::Space;
use crate::space::nas_bench_201::NasBench201;
use crate::space::testing::streams;

/// The code of a 3x3 convolution.
const CONV3: u8 = 3;

/// Best for all 3x3, with a slope everywhere.
fn fitness(arch: &Arch) -> f64 {
    arch.iter().enumerate().map(|(edge, op)| if *op == CONV3 { 1.0 + 0.1 * edge as f64 } else { 0.0 }).sum()
}

/// All architectures, of which each stands for itself or for its class.
struct All(Dedupe);

impl Domain for All {
    fn space(&self) -> &dyn Space {
        &NasBench201
    }

    fn key(&self, arch: &Arch) -> Arch {
        if self.0 == Dedupe::Exact { arch.clone() } else { NasBench201.canonical(arch) }
    }
}

/// A study after so many evaluations.
fn run<'a>(domain: &'a All, evolution: Evolution, seed: u64, evaluations: usize, value: fn(&Arch) -> f64) -> Study<'a> {
    let objective = Weighted::maximize("fitness");
    let mut study = Study::new(domain, Box::new(evolution), Box::new(objective), seed);
    while study.entries().len() < evaluations {
        let jobs = study.ask(evaluations - study.entries().len()).unwrap();
        assert!(!jobs.is_empty(), "only {} of {evaluations}", study.entries().len());
        for job in jobs {
            let value = value(&job.arch);
            study.tell(&job, Measures::from([("fitness".to_owned(), value)])).unwrap();
        }
    }
    study
}

fn individual(index: u64, generation: u64) -> Individual {
    let arch = (0..6).rev().map(|edge| (index / 5u64.pow(edge) % 5) as u8).collect();
    Individual { generation, arch, point: crate::search::front::pareto::Point::feasible([0.0]) }
}

#[test]
fn a_thousand_distinct_and_the_best_found() {
    for protocol in [EvolutionProtocol::sound(), EvolutionProtocol::released()] {
        let domain = All(protocol.dedupe);
        let study = run(&domain, Evolution { protocol, ..Evolution::default() }, 3, 1_000, fitness);
        assert_eq!(NasBench201.parse(&study.best().unwrap().arch).unwrap()[..], [CONV3; 6]);
        let entries = study.entries();
        assert!((0..20).all(|g| entries.iter().filter(|e| e.generation == g).count() == 50));
        let classes: HashSet<Arch> = study.archs().iter().map(|arch| NasBench201.canonical(arch)).collect();
        assert_eq!(classes.len() == 1_000, protocol.dedupe == Dedupe::Canonical);
    }
}

#[test]
fn asks_are_pure_and_differ_by_generation() {
    let ask = |seed, generation| {
        let view = View { domain: &Whole(&NasBench201), seed, generation, earlier: &[] };
        Evolution::default().ask(&view).unwrap().archs
    };
    assert_eq!(ask(5, 0), ask(5, 0));
    assert_ne!(ask(5, 0), ask(6, 0));
    assert_ne!(ask(5, 0), ask(5, 1));
}

#[test]
fn failures_are_no_parents_and_never_repeated() {
    let domain = All(Dedupe::Canonical);
    let study = run(&domain, Evolution::default(), 7, 250, |_| f64::NAN);
    assert!(study.best().is_none() && study.front().is_empty());
}

#[test]
fn an_exhausted_space_gives_fewer() {
    let mut earlier: Vec<Individual> = (3..15_625).map(|index| individual(index, 0)).collect();
    let ask = |earlier: &[Individual]| {
        let view = View { domain: &All(Dedupe::Exact), seed: 8, generation: 1, earlier };
        Evolution::default().ask(&view).unwrap().archs
    };
    let rest = ask(&earlier);
    assert!(
        rest.len() == 3 && rest.iter().all(|arch| (0..3).any(|index| *arch == individual(index, 0).arch)),
        "{rest:?}"
    );
    earlier.extend((0..3).map(|index| individual(index, 0)));
    assert!(ask(&earlier).is_empty());
}

#[test]
fn settings_are_checked() {
    let why = |evolution: Evolution| evolution.validate().unwrap_err().to_string();
    let base = Evolution::default();
    assert!(base.validate().is_ok());
    assert!(why(Evolution { population: 0, ..base }).contains("population: is 0"));
    assert!(why(Evolution { parents: 0, ..base }).contains("parents"));
    assert!(why(Evolution { mutations: 26, ..base }).contains("more than the population of 50"));
    assert!(why(Evolution { mutations: usize::MAX, ..base }).contains("population"));
    assert!(why(Evolution { mutation_probability: f64::NAN, ..base }).contains("expected 0 to 1"));
}

#[test]
fn distinct_parents_unless_allowed() {
    for same in [false, true] {
        let mut draw = streams(10)(0, 0);
        let mut seen = HashSet::new();
        for _ in 0..2_000 {
            seen.insert(pair(draw.as_mut(), 4, same));
        }
        assert_eq!(seen.len(), if same { 16 } else { 12 });
        assert_eq!(pair(draw.as_mut(), 1, same), (0, 0));
    }
}
