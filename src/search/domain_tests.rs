use std::sync::Arc;

use super::*;
use crate::nn::Model;
use crate::nn::space::{Build, ImageInfo, Networks, Options, Purpose};
use crate::search::strategy::nsga2::{Nsga2, Nsga2Settings};
use crate::space::Gene;
use crate::space::testing::streams;

/// Architectures are vectors that do not fall; `never` finds none.
struct Rising {
    never: bool,
}

const GENES: [Gene; 4] = [Gene::category(5); 4];

impl Space for Rising {
    fn name(&self) -> &str {
        "rising"
    }

    fn genes(&self) -> &[Gene] {
        &GENES
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        Ok(text.bytes().map(|byte| byte.wrapping_sub(b'0')).collect())
    }

    fn show(&self, arch: &Arch) -> String {
        arch.iter().map(|value| char::from(b'0' + value)).collect()
    }

    fn repair(&self, arch: &mut Arch, draw: &mut dyn Draw) -> bool {
        if let Some(at) = (1..arch.len()).find(|&at| arch[at] < arch[at - 1]) {
            // Either of the two may give way.
            let (from, to) = if draw.below(2) == 0 { (at, at - 1) } else { (at - 1, at) };
            arch[to] = arch[from];
        }
        !self.never && arch.is_sorted()
    }
}

impl Networks for Rising {
    fn forms(&self) -> &[&str] {
        &["none"]
    }

    fn defaults(&self, _: Purpose, info: &ImageInfo) -> Build {
        let ImageInfo { height, width, channels, classes } = *info;
        let (image, in_channels) = ([height, width], channels);
        Build { form: "none".into(), image, in_channels, classes, options: Options::new() }
    }

    fn network(&self, _: &Arch, _: &Build) -> Result<Box<dyn Model>> {
        Err(Error::invalid("rising", "has no networks"))
    }

    fn cost(&self, arch: &Arch, build: &Build) -> Result<Cost> {
        assert!(arch.is_sorted(), "{arch:?} is no architecture");
        let params = build.in_channels as u64 * arch.iter().map(|v| u64::from(*v)).sum::<u64>();
        Ok(Cost { params, macs: 2 * params })
    }
}

fn family(never: bool) -> Family {
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let space = Rising { never };
    let build = space.defaults(Purpose::Quick, &info);
    Family::new(Arc::new(space), build).unwrap()
}

fn limits(params: u64, macs: u64) -> Limits {
    Limits { params, macs, ..Limits::default() }
}

fn bounded(family: &Family) -> Bounded<'_> {
    Bounded::unlimited(family)
}

#[test]
fn what_is_bred_is_repaired() {
    let family = family(false);
    let (domain, streams) = (bounded(&family), streams(3));
    let nsga2 = Nsga2::new(&domain, Nsga2Settings { generations: 4, ..Nsga2Settings::default() }, &streams).unwrap();
    let mut met = 0;
    nsga2
        .run(&[], &mut |all| {
            met += all.len();
            Ok(all.iter().map(|arch| domain.known(arch)).collect())
        })
        .unwrap();
    assert!(met > 50, "{met}");
    // The same vector is repaired to the same architecture.
    let bred = || vec![4, 0, 3, 1].into();
    assert_eq!(domain.admit(bred()), domain.admit(bred()));
}

#[test]
fn a_space_that_repairs_for_ever_is_named() {
    let family = family(true);
    let error = family.sample(streams(3)(0, 0).as_mut()).unwrap_err().to_string();
    assert!(error.contains("space rising") && error.contains("1000 times"), "{error}");
    assert_eq!(bounded(&family).admit(vec![0; 4].into()), None);
}

#[test]
fn the_largest_is_within_the_limits() {
    // Parameters are the sum of the genes, which must not fall; the space cannot be listed.
    let family = family(false);
    for (most, sum) in [(0, 16), (16, 16), (9, 9), (1, 1)] {
        let domain = Bounded { limits: limits(most, 0), ..bounded(&family) };
        let found = largest(&domain).unwrap();
        assert_eq!(domain.cost(&found).unwrap().params, sum, "{found:?} of at most {most}");
    }
    let error = limits(0, 0).check(&family);
    assert!(error.is_ok());
}

/// Limits are those of the networks that are trained at the end, objectives those of candidates.
#[test]
fn limits_are_of_what_is_trained() {
    let family = family(false);
    let trained = family.rebuilt(&Build { in_channels: 3, ..family.build.clone() }).unwrap();
    let domain = Bounded { trained, limits: limits(9, 0), ..bounded(&family) };
    let of = |arch: [u8; 4]| {
        let arch: Arch = arch.to_vec().into();
        let point = domain.known(&arch);
        (domain.is_within(&arch), point.objectives, point.violation)
    };
    assert_eq!(of([0, 1, 1, 1]), (true, vec![3.0], 0.0));
    assert_eq!(of([0, 1, 2, 3]), (false, vec![6.0], 1.0));
}

#[test]
fn limits_name_the_smallest() {
    let family = family(false);
    let why = |params, macs| limits(params, macs).check(&family).map_or(String::new(), |()| "none".into());
    assert_eq!(why(1, 1), "none");
    let cost = |params, macs| Cost { params, macs };
    let most = limits(10, 100);
    assert_eq!(
        [(10, 100), (15, 100), (15, 150)].map(|(params, macs)| most.violation(cost(params, macs), f64::NAN)),
        [0.0, 0.5, 1.0]
    );
}

#[test]
fn limits_that_exclude_nothing_are_told() {
    let family = family(false);
    let notes = |params, macs| limits(params, macs).idle(&family).unwrap();
    assert!(notes(0, 0).is_empty() && notes(15, 31).is_empty());
    let both = notes(16, 40);
    assert!(both[0].contains("--max-params 16") && both[0].contains("16 parameters"), "{both:?}");
    assert!(both[1].contains("--max-macs 40") && both[1].contains("32 multiply-adds"), "{both:?}");
}

/// What was measured counts, and what is minimised stands in the order in which it was asked for.
#[test]
fn measured_latencies_are_objectives_and_limited() {
    let family = family(false);
    let limits = Limits { latency: 4.0, ..Limits::default() };
    let minimize = vec![Quantity::Latency, Quantity::Macs];
    let domain = Bounded { limits, minimize, ..bounded(&family) };
    let arch: Arch = vec![0, 1, 2, 2].into();
    let told = |latency: f64| domain.told(&arch, &Measures::from([(LATENCY.to_owned(), latency)]));
    assert_eq!(told(3.0), Point::feasible([3.0, 10.0]));
    assert_eq!(told(5.0), Point { objectives: vec![5.0, 10.0], violation: 0.25 });
    assert!(told(f64::NAN).is_failed() && domain.known(&arch).is_failed());
    // Who does not limit them need not know them.
    assert_eq!(bounded(&family).told(&arch, &Measures::new()), Point::feasible([5.0]));
}

/// As released: hundredths of millions and a penalty; a limit of multiply-adds, which it does not know, stays a limit.
#[test]
fn released_objectives_heed_both_limits() {
    let family = family(false);
    let known = |params, macs| {
        let domain = Bounded { limits: limits(params, macs), penalised: true, ..bounded(&family) };
        domain.known(&vec![0, 1, 2, 2].into())
    };
    // Five parameters, ten multiply-adds; no hundredth of a million is beyond a limit of three.
    assert_eq!(known(3, 0), Point::feasible([0.0]));
    assert_eq!(known(3, 8), Point { objectives: vec![0.0], violation: 0.25 });
    // Without a limit of parameters there is nothing to penalise.
    assert_eq!(known(0, 8), Point { objectives: vec![5.0], violation: 0.25 });
}
