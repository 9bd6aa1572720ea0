use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::philox::Stream;
use crate::search::front::hypervolume::hypervolume;
use crate::search::front::pareto::{front, ranks};
use crate::search::strategy::testing::Plain;
use crate::space::Space;

fn streams(seed: u64) -> impl Fn(u64, u64) -> Box<dyn Draw> {
    move |generation, slot| Box::new(Stream::new(seed, generation as u32, slot))
}

/// ZDT1 (Zitzler, Deb and Thiele, Evol. Comput. 8(2), 2000) on 12 genes of 32 values.
fn zdt1(genes: &Arch) -> Point {
    let x: Vec<f64> = genes.iter().map(|gene| f64::from(*gene) / 31.0).collect();
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64;
    Point::feasible([x[0], g * (1.0 - (x[0] / g).sqrt())])
}

fn evaluated(search: &Nsga2) -> Vec<Individual> {
    let mut all = Vec::new();
    search
        .run(&[], &mut |genes| {
            let points: Vec<Point> = genes.iter().map(zdt1).collect();
            all.extend(genes.iter().zip(&points).map(|(genes, point)| (genes.clone(), point.clone())));
            Ok(points)
        })
        .unwrap();
    all.into_iter().map(|(arch, point)| Individual { generation: 0, arch, point }).collect()
}

fn volume(all: &[Individual]) -> f64 {
    let rows: Vec<&[f64]> = all.iter().map(|individual| individual.point.objectives.as_slice()).collect();
    hypervolume(&rows, &[1.1, 11.0]).unwrap()
}

#[test]
fn better_than_random_on_zdt1() {
    let space = Plain::new(&[32; 12]);
    for seed in 0..10 {
        let streams = streams(seed);
        let search = Nsga2::new(&space, Nsga2Settings::default(), &streams).unwrap();
        let found = evaluated(&search);
        assert_eq!(found.len(), 800);
        assert_eq!(found.iter().map(|i| &i.arch).collect::<BTreeSet<_>>().len(), 800);
        let chance = Nsga2Settings { population: 800, generations: 1, ..Nsga2Settings::default() };
        let random = evaluated(&Nsga2::new(&space, chance, &streams).unwrap());
        assert_eq!(random.len(), 800);
        // The true front has 11.77; random search stays near 9.
        assert!(volume(&found) > volume(&random) + 1.0, "{seed}: {} {}", volume(&found), volume(&random));
    }
}

#[test]
fn the_same_seed_gives_the_same_search() {
    let space = Plain::new(&[32; 12]);
    let run = |seed| {
        let streams = streams(seed);
        evaluated(&Nsga2::new(&space, Nsga2Settings::default(), &streams).unwrap())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Asking generation by generation evaluates what a run evaluates.
#[test]
fn ask_and_run_are_the_same_search() {
    let space = Plain::new(&[5; 6]);
    let settings = Nsga2Settings { population: 10, generations: 8, ..Nsga2Settings::default() };
    let streams = streams(3);
    let search = Nsga2::new(&space, settings, &streams).unwrap();
    let judge = |genes: &Arch| {
        let sum: u32 = genes.iter().copied().map(u32::from).sum();
        let weighted: u32 = genes.iter().enumerate().map(|(i, gene)| u32::from(4 - gene) * i as u32).sum();
        if sum % 7 == 3 { Point::failed(2) } else { Point::feasible([f64::from(sum), f64::from(weighted)]) }
    };
    let mut whole: Vec<(u64, Arch)> = Vec::new();
    let mut generation = 0;
    let survivors = search
        .run(&[], &mut |archs| {
            whole.extend(archs.iter().map(|arch| (generation, arch.clone())));
            generation += 1;
            Ok(archs.iter().map(judge).collect())
        })
        .unwrap();
    assert_eq!((whole.len(), survivors.len()), (80, 10));
    let mut archive: Vec<Individual> = Vec::new();
    for generation in 0..settings.generations {
        let asked = search.ask(&archive, generation).unwrap();
        archive.extend(asked.into_iter().map(|arch| Individual { generation, point: judge(&arch), arch }));
    }
    assert_eq!(archive.iter().map(|i| (i.generation, i.arch.clone())).collect::<Vec<_>>(), whole);
    // Best first.
    let points: Vec<&Point> = survivors.iter().map(|individual| &individual.point).collect();
    assert!(ranks(&points).windows(2).all(|pair| pair[0] <= pair[1]));
    // What is given begins, each once.
    let given: Vec<Arch> = [0, 4, 0].map(|value| vec![value; 6].into()).into();
    let first = search.first(&given, &mut Met::of(search.domain, &[])).unwrap();
    assert_eq!((first.len(), &first[..2]), (10, &given[..2]));
}

#[test]
fn fewer_offspring_make_more_generations() {
    let space = Plain::new(&[32; 12]);
    let settings = Nsga2Settings { population: 10, offspring: Some(3), generations: 5, ..Nsga2Settings::default() };
    let streams = streams(4);
    let search = Nsga2::new(&space, settings, &streams).unwrap();
    let mut sizes = Vec::new();
    let survivors = search
        .run(&[], &mut |genes| {
            sizes.push(genes.len());
            Ok(genes.iter().map(zdt1).collect())
        })
        .unwrap();
    assert_eq!((sizes, survivors.len()), (vec![10, 3, 3, 3, 3], 10));
}

/// A space in which only the first two genes count, and the sum of those must be even.
struct Folded(Plain);

impl Domain for Folded {
    fn space(&self) -> &dyn Space {
        &self.0
    }

    fn key(&self, arch: &Arch) -> Arch {
        arch[..2].iter().copied().collect()
    }

    fn admit(&self, mut arch: Arch) -> Option<Arch> {
        arch[2..].fill(0);
        (arch[0] + arch[1]).is_multiple_of(2).then_some(arch)
    }
}

#[test]
fn ends_when_the_space_is_exhausted() {
    let settings = Nsga2Settings { population: 6, generations: 50, ..Nsga2Settings::default() };
    let streams = streams(1);
    let folded = Folded(Plain::new(&[4, 4, 9, 9]));
    for (domain, size) in [(&folded as &dyn Domain, 8), (&Plain::new(&[3, 3]), 9), (&Plain::new(&[1]), 1)] {
        let search = Nsga2::new(domain, settings, &streams).unwrap();
        let mut seen = BTreeSet::new();
        let survivors = search
            .run(&[], &mut |archs| {
                assert!(archs.iter().all(|arch| seen.insert(arch.clone())));
                Ok(archs.iter().map(|arch| Point::feasible([f64::from(arch[0]), -f64::from(arch[0])])).collect())
            })
            .unwrap();
        assert_eq!((seen.len(), survivors.len()), (size, size.min(6)));
    }
}

#[test]
fn survivors_of_limits_and_failures() {
    let (space, streams) = (Plain::new(&[9]), streams(1));
    let settings = Nsga2Settings { population: 3, ..Nsga2Settings::default() };
    let search = Nsga2::new(&space, settings, &streams).unwrap();
    let pool = |points: &[Point]| -> Vec<Individual> {
        let each = points.iter().enumerate();
        each.map(|(i, point)| Individual { generation: 0, arch: vec![i as u8].into(), point: point.clone() }).collect()
    };
    let kept = |points: &[Point]| -> Vec<u8> { search.survivors(pool(points)).iter().map(|i| i.arch[0]).collect() };
    let outside = |violation| Point { objectives: vec![0.0, 0.0], violation };
    assert_eq!(kept(&[Point::failed(2), outside(0.3), Point::feasible([5.0, 5.0]), outside(0.1)]), [1, 2, 3]);
    // Of one front the ends and the least crowded; the earliest of what is equal.
    let line = [(0.0, 4.0), (1.0, 3.0), (1.5, 2.5), (3.0, 1.0), (4.0, 0.0)];
    assert_eq!(kept(&line.map(|(a, b)| Point::feasible([a, b]))), [0, 3, 4]);
    assert_eq!(kept(&vec![Point::failed(2); 5]), [0, 1, 2]);
}

#[test]
fn bad_input_is_refused() {
    let (space, streams) = (Plain::new(&[3, 3]), streams(1));
    let new = |settings| Nsga2::new(&space, settings, &streams).map(|_| ()).unwrap_err().to_string();
    let good = Nsga2Settings::default();
    assert!(new(Nsga2Settings { population: 1, ..good }).contains("expected 2 to"));
    assert!(new(Nsga2Settings { generations: 0, ..good }).contains("at least 1"));
    assert!(new(Nsga2Settings { offspring: Some(0), ..good }).contains("offspring: is 0"));
    assert!(new(Nsga2Settings { crossover_probability: f64::NAN, ..good }).contains("crossover probability"));
    assert!(new(Nsga2Settings { mutation_eta: -1.0, ..good }).contains("mutation eta"));
    assert!(Nsga2::new(&Plain::new(&[]), good, &streams).is_err());
    assert!(serde_json::from_str::<Nsga2Settings>(r#"{"populaton": 3}"#).is_err());
    assert_eq!(serde_json::from_str::<Nsga2Settings>("{}").unwrap(), good);

    let search = Nsga2::new(&space, good, &streams).unwrap();
    let failing = |result: Result<Vec<Point>>| {
        let mut result = Some(result);
        search.run(&[], &mut |_| result.take().unwrap()).unwrap_err().to_string()
    };
    assert!(failing(Ok(vec![])).contains("returned 0 points for 9 genotypes"));
    assert!(failing(Err(Error::Cancelled)).contains("stopped"));
    let mut uneven = vec![Point::feasible([1.0]); 9];
    uneven[4] = Point::feasible([1.0, 2.0]);
    assert!(failing(Ok(uneven)).contains("number of objectives: 2 for"));
    let foreign = search.run(&[vec![3, 0].into()], &mut |_| Ok(vec![])).unwrap_err().to_string();
    assert!(foreign.contains("gene 0 is 3"), "{foreign}");
    let foreign = [Individual { generation: 0, arch: vec![0].into(), point: Point::feasible([1.0]) }];
    assert!(search.ask(&foreign, 1).unwrap_err().to_string().contains("1 genes, expected 2"));
}

proptest! {
    /// No survivor is beaten by one that was dropped, and the ends of the front stay.
    #[test]
    fn survivors_are_the_best(rows in prop::collection::vec((0u8..20, 0u8..20, 0u8..4), 1..40)) {
        let (space, streams) = (Plain::new(&[64]), streams(1));
        let settings = Nsga2Settings { population: 8, ..Nsga2Settings::default() };
        let search = Nsga2::new(&space, settings, &streams).unwrap();
        let pool: Vec<Individual> = rows.iter().enumerate().map(|(i, (a, b, violation))| Individual {
            generation: 0,
            arch: vec![i as u8].into(),
            point: Point {
                objectives: vec![f64::from(*a), f64::from(*b)],
                violation: f64::from(violation.saturating_sub(2)),
            },
        }).collect();
        let kept = search.survivors(pool.iter().collect::<Vec<_>>());
        prop_assert_eq!(kept.len(), pool.len().min(8));
        let dropped: Vec<&Individual> = pool.iter().filter(|i| !kept.contains(i)).collect();
        for a in &dropped {
            prop_assert!(!kept.iter().any(|b| a.point.dominates(&b.point)));
        }
        let points: Vec<&Point> = pool.iter().map(|individual| &individual.point).collect();
        for objective in 0..2 {
            let least = |i: &usize| points[*i].objectives[objective];
            let lowest = front(&points).iter().map(least).fold(f64::INFINITY, f64::min);
            let still = kept.iter().filter(|i| i.point.is_feasible()).map(|i| i.point.objectives[objective]);
            prop_assert_eq!(still.fold(f64::INFINITY, f64::min), lowest);
        }
    }
}
