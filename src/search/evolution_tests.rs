//! Tests of the evolution on NAS-Bench-201 with a made-up fitness.

use std::collections::BTreeMap;

use super::*;
use crate::space::nas_bench_201::NasBench201;
use crate::space::testing::streams;

/// The code of a 3x3 convolution.
const CONV3: u8 = 3;

fn arch(index: u64) -> Arch {
    (0..6).rev().map(|edge| (index / 5u64.pow(edge) % 5) as u8).collect()
}

/// Best for all 3x3, with a slope everywhere.
fn fitness(arch: &Arch) -> f64 {
    arch.iter().enumerate().map(|(edge, op)| if *op == CONV3 { 1.0 + 0.1 * edge as f64 } else { 0.0 }).sum()
}

fn tell(archive: &mut Archive, generation: u64, arch: &Arch, fitness: f64) {
    let arch = NasBench201.show(arch);
    let (params, macs, measures) = (1, 1, BTreeMap::new());
    archive.insert(Entry { arch, generation, baseline: false, fitness, params, macs, measures }).unwrap();
}

/// Asks, evaluates and tells until the last generation, from wherever the archive stands.
fn run(evolution: &Evolution, archive: &mut Archive, mut evaluate: impl FnMut(&Arch) -> Result<f64>) -> Result<()> {
    for generation in 0..evolution.settings().generations {
        for arch in evolution.ask(archive, generation)? {
            tell(archive, generation, &arch, evaluate(&arch)?);
        }
    }
    Ok(())
}

#[test]
fn a_thousand_distinct_and_the_best_found() {
    let streams = streams(3);
    for protocol in [EvolutionProtocol::sound(), EvolutionProtocol::released()] {
        let evolution = Evolution::new(&NasBench201, EvolutionSettings::default(), protocol, &streams).unwrap();
        let mut archive = Archive::new();
        run(&evolution, &mut archive, |arch| Ok(fitness(arch))).unwrap();
        assert_eq!(archive.len(), 1_000);
        assert_eq!(NasBench201.parse(&archive.best().unwrap().arch).unwrap()[..], [CONV3; 6]);
        assert!((0..20).all(|g| archive.entries().iter().filter(|e| e.generation == g).count() == 50));
        let class = |entry: &Entry| NasBench201.canonical(&NasBench201.parse(&entry.arch).unwrap());
        let classes: HashSet<Arch> = archive.entries().iter().map(class).collect();
        assert_eq!(classes.len() == 1_000, protocol.dedupe == Dedupe::Canonical);
        assert!(evolution.ask(&archive, 19).unwrap().is_empty());
    }
}

#[test]
fn stops_after_every_candidate_and_goes_on() {
    let streams = streams(4);
    let settings = EvolutionSettings {
        population: 8,
        generations: 4,
        parents: 3,
        mutations: 4,
        crossovers: 3,
        ..EvolutionSettings::default()
    };
    let evolution = Evolution::new(&NasBench201, settings, EvolutionProtocol::sound(), &streams).unwrap();
    let mut whole = Archive::new();
    run(&evolution, &mut whole, |arch| Ok(fitness(arch))).unwrap();
    for stop in 0..32 {
        let mut archive = Archive::new();
        let mut left = stop;
        let stopped = run(&evolution, &mut archive, |arch| {
            if left == 0 {
                return Err(Error::Cancelled);
            }
            left -= 1;
            Ok(fitness(arch))
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        let mut archive: Archive = serde_json::from_str(&serde_json::to_string(&archive).unwrap()).unwrap();
        assert_eq!(archive.len(), stop);
        run(&evolution, &mut archive, |arch| Ok(fitness(arch))).unwrap();
        assert_eq!(archive, whole, "stopped after {stop}");
    }
}

#[test]
fn asks_are_pure_and_differ_by_generation() {
    let (one, two) = (streams(5), streams(6));
    let evolution =
        |s| Evolution::new(&NasBench201, EvolutionSettings::default(), EvolutionProtocol::sound(), s).unwrap();
    let empty = Archive::new();
    let first = evolution(&one as &Streams).ask(&empty, 0).unwrap();
    assert_eq!(first, evolution(&one as &Streams).ask(&empty, 0).unwrap());
    assert_ne!(first, evolution(&two as &Streams).ask(&empty, 0).unwrap());
    assert_ne!(first, evolution(&one as &Streams).ask(&empty, 1).unwrap());
}

#[test]
fn failures_are_no_parents_and_never_repeated() {
    let streams = streams(7);
    let settings = EvolutionSettings { generations: 5, ..EvolutionSettings::default() };
    let evolution = Evolution::new(&NasBench201, settings, EvolutionProtocol::sound(), &streams).unwrap();
    let mut archive = Archive::new();
    run(&evolution, &mut archive, |_| Ok(f64::NAN)).unwrap();
    assert_eq!((archive.len(), archive.best()), (250, None));
}

#[test]
fn an_exhausted_space_gives_fewer() {
    let streams = streams(8);
    let settings = EvolutionSettings { generations: 3, ..EvolutionSettings::default() };
    let protocol = EvolutionProtocol { dedupe: Dedupe::Exact, ..EvolutionProtocol::sound() };
    let evolution = Evolution::new(&NasBench201, settings, protocol, &streams).unwrap();
    let mut archive = Archive::new();
    (3..15_625).for_each(|index| tell(&mut archive, 0, &arch(index), 0.0));
    let rest = evolution.ask(&archive, 1).unwrap();
    assert!(rest.len() == 3 && rest.iter().all(|a| (0..3).any(|index| *a == arch(index))), "{rest:?}");
    (0..3).for_each(|index| tell(&mut archive, 0, &arch(index), 0.0));
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
    let streams = streams(9);
    let evolution = Evolution::new(&NasBench201, base, EvolutionProtocol::default(), &streams).unwrap();
    assert!(evolution.ask(&Archive::try_from(vec![foreign]).unwrap(), 1).is_err());
}

#[test]
fn distinct_parents_unless_allowed() {
    let streams = streams(10);
    for same_parents in [false, true] {
        let protocol = EvolutionProtocol { same_parents, ..EvolutionProtocol::sound() };
        let evolution = Evolution::new(&NasBench201, EvolutionSettings::default(), protocol, &streams).unwrap();
        let mut draw = streams(0, 0);
        let mut seen = HashSet::new();
        for _ in 0..2_000 {
            seen.insert(evolution.pair(draw.as_mut(), 4));
        }
        assert_eq!(seen.len(), if same_parents { 16 } else { 12 });
        assert_eq!(evolution.pair(draw.as_mut(), 1), (0, 0));
    }
}
