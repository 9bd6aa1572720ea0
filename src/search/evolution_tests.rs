//! Tests of the evolution on NAS-Bench-201 with a made-up fitness.

use super::*;
use crate::space::nas_bench_201::{Arch, Macro, NasBench201, Op};
use crate::space::testing::streams;

fn space() -> NasBench201 {
    NasBench201::new(Macro::benchmark(32, 32, 10).unwrap()).unwrap()
}

/// Best for all 3x3, with a slope everywhere.
fn fitness(arch: &Arch) -> f64 {
    (0..6).map(|edge| if arch.0[edge] == Op::Conv3x3 { 1.0 + 0.1 * edge as f64 } else { 0.0 }).sum()
}

fn evaluate(_: u64, arch: &Arch) -> Result<(f64, BTreeMap<String, f64>)> {
    Ok((fitness(arch), BTreeMap::from([("n3".into(), arch.count(Op::Conv3x3) as f64)])))
}

#[test]
fn a_thousand_distinct_and_the_best_found() {
    let (space, streams) = (space(), streams(3));
    for protocol in [EvolutionProtocol::sound(), EvolutionProtocol::released()] {
        let evolution = Evolution::new(&space, EvolutionSettings::default(), protocol, &streams).unwrap();
        let mut archive = Archive::new();
        evolution.run(&mut archive, evaluate).unwrap();
        assert_eq!(archive.len(), 1_000);
        assert_eq!(archive.best().unwrap().arch, "333333".parse::<Arch>().unwrap().to_string());
        assert!((0..20).all(|g| archive.entries().iter().filter(|e| e.generation == g).count() == 50));
        let classes: HashSet<usize> =
            archive.entries().iter().map(|e| e.arch.parse::<Arch>().unwrap().class()).collect();
        assert_eq!(classes.len() == 1_000, protocol.dedupe == Dedupe::Canonical);
        assert!(evolution.ask(&archive, 19).unwrap().is_empty());
    }
}

#[test]
fn stops_after_every_candidate_and_goes_on() {
    let (space, streams) = (space(), streams(4));
    let settings = EvolutionSettings {
        population: 8,
        generations: 4,
        parents: 3,
        mutations: 4,
        crossovers: 3,
        ..EvolutionSettings::default()
    };
    let evolution = Evolution::new(&space, settings, EvolutionProtocol::sound(), &streams).unwrap();
    let mut whole = Archive::new();
    evolution.run(&mut whole, evaluate).unwrap();
    for stop in 0..32 {
        let mut archive = Archive::new();
        let mut left = stop;
        let stopped = evolution.run(&mut archive, |generation, arch| {
            if left == 0 {
                return Err(Error::Cancelled);
            }
            left -= 1;
            evaluate(generation, arch)
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        let mut archive: Archive = serde_json::from_str(&serde_json::to_string(&archive).unwrap()).unwrap();
        assert_eq!(archive.len(), stop);
        evolution.run(&mut archive, evaluate).unwrap();
        assert_eq!(archive, whole, "stopped after {stop}");
    }
}

#[test]
fn asks_are_pure_and_differ_by_generation() {
    let (space, one, two) = (space(), streams(5), streams(6));
    let evolution = |s| Evolution::new(&space, EvolutionSettings::default(), EvolutionProtocol::sound(), s).unwrap();
    let empty = Archive::new();
    let first = evolution(&one as &Streams).ask(&empty, 0).unwrap();
    assert_eq!(first, evolution(&one as &Streams).ask(&empty, 0).unwrap());
    assert_ne!(first, evolution(&two as &Streams).ask(&empty, 0).unwrap());
    assert_ne!(first, evolution(&one as &Streams).ask(&empty, 1).unwrap());
}

#[test]
fn failures_are_no_parents_and_never_repeated() {
    let (space, streams) = (space(), streams(7));
    let settings = EvolutionSettings { generations: 5, ..EvolutionSettings::default() };
    let evolution = Evolution::new(&space, settings, EvolutionProtocol::sound(), &streams).unwrap();
    let mut archive = Archive::new();
    evolution.run(&mut archive, |_, _| Ok((f64::NAN, BTreeMap::new()))).unwrap();
    assert_eq!((archive.len(), archive.best()), (250, None));
}

#[test]
fn an_exhausted_space_gives_fewer() {
    let (space, streams) = (space(), streams(8));
    let settings = EvolutionSettings { generations: 3, ..EvolutionSettings::default() };
    let protocol = EvolutionProtocol { dedupe: Dedupe::Exact, ..EvolutionProtocol::sound() };
    let evolution = Evolution::new(&space, settings, protocol, &streams).unwrap();
    let mut archive = Archive::new();
    for arch in Arch::all().skip(3) {
        evolution.tell(&mut archive, 0, &arch, 0.0, BTreeMap::new()).unwrap();
    }
    let rest = evolution.ask(&archive, 1).unwrap();
    assert!(rest.len() == 3 && rest.iter().all(|a| a.index() < 3), "{rest:?}");
    for arch in Arch::all().take(3) {
        evolution.tell(&mut archive, 0, &arch, 0.0, BTreeMap::new()).unwrap();
    }
    assert!(evolution.ask(&archive, 1).unwrap().is_empty());
}

#[test]
fn settings_are_checked() {
    let why = |settings: EvolutionSettings| settings.validate().unwrap_err().to_string();
    let base = EvolutionSettings::default();
    assert!(base.validate().is_ok());
    assert!(why(EvolutionSettings { population: 0, ..base }).contains("population: is 0"));
    assert!(why(EvolutionSettings { parents: 0, ..base }).contains("parents"));
    assert!(why(EvolutionSettings { generations: 0, ..base }).contains("generations"));
    assert!(why(EvolutionSettings { mutations: 26, ..base }).contains("more than the population of 50"));
    assert!(why(EvolutionSettings { mutations: usize::MAX, ..base }).contains("population"));
    assert!(why(EvolutionSettings { mutation_probability: f64::NAN, ..base }).contains("expected 0 to 1"));
    let foreign = Entry {
        arch: "x".into(),
        generation: 0,
        baseline: false,
        fitness: 1.0,
        params: 1,
        macs: 1,
        measures: BTreeMap::new(),
    };
    let (space, streams) = (space(), streams(9));
    let evolution = Evolution::new(&space, base, EvolutionProtocol::default(), &streams).unwrap();
    assert!(evolution.ask(&Archive::try_from(vec![foreign]).unwrap(), 1).is_err());
}

#[test]
fn distinct_parents_unless_allowed() {
    let (space, streams) = (space(), streams(10));
    for same_parents in [false, true] {
        let protocol = EvolutionProtocol { same_parents, ..EvolutionProtocol::sound() };
        let evolution = Evolution::new(&space, EvolutionSettings::default(), protocol, &streams).unwrap();
        let mut draw = streams(0, 0);
        let mut seen = HashSet::new();
        for _ in 0..2_000 {
            seen.insert(evolution.pair(draw.as_mut(), 4));
        }
        assert_eq!(seen.len(), if same_parents { 16 } else { 12 });
        assert_eq!(evolution.pair(draw.as_mut(), 1), (0, 0));
    }
}
