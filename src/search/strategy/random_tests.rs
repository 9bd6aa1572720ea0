use std::collections::HashSet;

use super::*;
use crate::search::domain::Whole;
use crate::space::Space;
use crate::space::nas_bench_201::{CLASSES, NasBench201};
use crate::space::testing::streams;

/// All architectures, of which each stands for itself.
struct Named;

impl Domain for Named {
    fn space(&self) -> &dyn Space {
        &NasBench201
    }

    fn key(&self, arch: &Arch) -> Arch {
        arch.clone()
    }
}

fn classes(archs: &[Arch]) -> usize {
    archs.iter().map(|arch| NasBench201.canonical(arch)).collect::<HashSet<_>>().len()
}

#[test]
fn distinct_and_a_prefix_of_more() {
    let streams = streams(1);
    let few = distinct(&Named, 100, &streams).unwrap();
    let many = distinct(&Named, 1_000, &streams).unwrap();
    assert_eq!(many[..100], few);
    assert_eq!(many.iter().collect::<HashSet<_>>().len(), 1_000);
    assert_eq!(classes(&distinct(&Whole(&NasBench201), 1_000, &streams).unwrap()), 1_000);
}

#[test]
fn every_last_one_is_found() {
    let all = distinct(&Whole(&NasBench201), CLASSES + 1, &streams(3)).unwrap();
    assert_eq!((all.len(), classes(&all)), (CLASSES, CLASSES));
}
