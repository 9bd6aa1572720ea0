//! Random search: distinct architectures, drawn uniformly.
//!
//! The sequence depends on the streams alone: place `k` draws from stream `(0, k)` until it meets something
//! new. So a run that stopped goes on with the same architectures.

use std::collections::HashSet;

use super::archive::Archive;
use super::evolution::{Dedupe, Streams, visited_key};
use crate::error::Result;
use crate::space::{Arch, Draw, Space};

/// How often one place is drawn anew before all genotypes are looked through.
pub const TRIES: u32 = 1_000;
/// Most genotypes that are looked through.
const MAX_SCAN: u32 = 1 << 20;

/// What chance has missed for long: the architecture of the first genotype, from a random one on, that was not seen. `None` if
/// all were, or there are too many to look through.
pub(super) fn missed(space: &dyn Space, dedupe: Dedupe, seen: &mut HashSet<Arch>, draw: &mut dyn Draw) -> Option<Arch> {
    let all = space.vectors().and_then(|all| u32::try_from(all).ok()).filter(|all| (1..=MAX_SCAN).contains(all))?;
    let start = draw.below(all) % all;
    (0..all).find_map(|step| {
        let mut rest = (start + step) % all;
        let mut arch: Arch = space.genes().iter().map(|gene| next_digit(&mut rest, gene.options)).collect();
        // Of vectors that are no architectures those count that the space makes one of at once.
        let is_one = space.repair(&mut arch, draw);
        (is_one && seen.insert(visited_key(space, &arch, dedupe))).then_some(arch)
    })
}

/// Takes the lowest digit to some base off a number.
fn next_digit(rest: &mut u32, base: u8) -> u8 {
    let digit = *rest % u32::from(base);
    *rest /= u32::from(base);
    digit as u8
}

/// The first `count` distinct architectures of the sequence, fewer when the space has no more (or is too large to look
/// through, and [`TRIES`] draws miss what is left).
///
/// # Errors
/// If the space does not manage to draw one.
pub fn distinct(space: &dyn Space, dedupe: Dedupe, count: usize, streams: &Streams) -> Result<Vec<Arch>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    'places: for place in 0..count as u64 {
        let mut draw = streams(0, place);
        for _ in 0..TRIES {
            let arch = space.sample(draw.as_mut())?;
            if seen.insert(visited_key(space, &arch, dedupe)) {
                found.push(arch);
                continue 'places;
            }
            if space.vectors().is_some_and(|size| seen.len() as u64 >= size) {
                return Ok(found);
            }
        }
        match missed(space, dedupe, &mut seen, draw.as_mut()) {
            Some(arch) => found.push(arch),
            None => break,
        }
    }
    Ok(found)
}

/// Those of the first `count` distinct architectures that the archive does not hold yet.
///
/// # Errors
/// If the archive holds something else than architectures of the space.
pub fn ask(space: &dyn Space, dedupe: Dedupe, count: usize, archive: &Archive, streams: &Streams) -> Result<Vec<Arch>> {
    let mut done = HashSet::new();
    for entry in archive.entries() {
        done.insert(visited_key(space, &space.parse(&entry.arch)?, dedupe));
    }
    let mut rest = distinct(space, dedupe, count, streams)?;
    rest.retain(|arch| !done.contains(&visited_key(space, arch, dedupe)));
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::search::archive::Entry;
    use crate::space::nas_bench_201::{CLASSES, NasBench201};
    use crate::space::testing::streams;

    fn classes(archs: &[Arch]) -> usize {
        archs.iter().map(|arch| NasBench201.canonical(arch)).collect::<HashSet<_>>().len()
    }

    #[test]
    fn distinct_and_a_prefix_of_more() {
        let streams = streams(1);
        let few = distinct(&NasBench201, Dedupe::Exact, 100, &streams).unwrap();
        let many = distinct(&NasBench201, Dedupe::Exact, 1_000, &streams).unwrap();
        assert_eq!(many[..100], few);
        assert_eq!(many.iter().collect::<HashSet<_>>().len(), 1_000);
        assert_eq!(classes(&distinct(&NasBench201, Dedupe::Canonical, 1_000, &streams).unwrap()), 1_000);
    }

    #[test]
    fn every_last_one_is_found() {
        let all = distinct(&NasBench201, Dedupe::Canonical, CLASSES + 1, &streams(3)).unwrap();
        assert_eq!((all.len(), classes(&all)), (CLASSES, CLASSES));
    }

    #[test]
    fn goes_on_where_it_stopped() {
        let streams = streams(2);
        let all = distinct(&NasBench201, Dedupe::Exact, 20, &streams).unwrap();
        let mut archive = Archive::new();
        for arch in &all[..7] {
            let arch = NasBench201.show(arch);
            let entry = Entry {
                arch,
                generation: 0,
                baseline: false,
                fitness: 0.0,
                params: 1,
                macs: 1,
                measures: BTreeMap::new(),
            };
            archive.insert(entry).unwrap();
        }
        assert_eq!(ask(&NasBench201, Dedupe::Exact, 20, &archive, &streams).unwrap(), all[7..]);
    }
}
