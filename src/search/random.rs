//! Random search: distinct architectures, drawn uniformly.
//!
//! The sequence depends on the streams alone: place `k` draws from stream `(0, k)` until it meets something
//! new. So a run that stopped goes on with the same architectures.

use std::collections::HashSet;

use super::archive::Archive;
use super::evolution::{Dedupe, Streams, visited_key};
use crate::error::Result;
use crate::space::{Draw, Space};

/// How often one place is drawn anew before all genotypes are looked through.
pub const TRIES: u32 = 1_000;
/// Most genotypes that are looked through.
const MAX_SCAN: u32 = 1 << 20;

/// What chance has missed for long: the architecture of the first genotype, from a random one on, that was not seen. `None` if
/// all were, or there are too many to look through.
pub(super) fn missed<S: Space>(
    space: &S,
    dedupe: Dedupe,
    seen: &mut HashSet<String>,
    draw: &mut dyn Draw,
) -> Option<S::Arch> {
    let options = space.options();
    let all = options.iter().try_fold(1u32, |all, own| all.checked_mul(*own))?;
    if !(1..=MAX_SCAN).contains(&all) {
        return None;
    }
    let start = draw.below(all) % all;
    (0..all).find_map(|step| {
        let mut rest = (start + step) % all;
        let mut genes = vec![];
        for own in &options {
            genes.push(rest % own);
            rest /= own;
        }
        let arch = space.decode(&genes).ok()?;
        seen.insert(visited_key(space, &arch, dedupe)).then_some(arch)
    })
}

/// The first `count` distinct architectures of the sequence, fewer when the space has no more (or is too large to look
/// through, and [`TRIES`] draws miss what is left).
pub fn distinct<S: Space>(space: &S, dedupe: Dedupe, count: usize, streams: &Streams) -> Vec<S::Arch> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    'places: for place in 0..count as u64 {
        let mut draw = streams(0, place);
        for _ in 0..TRIES {
            let arch = space.sample(draw.as_mut());
            if seen.insert(visited_key(space, &arch, dedupe)) {
                found.push(arch);
                continue 'places;
            }
            if space.size().is_some_and(|size| seen.len() as u64 >= size) {
                return found;
            }
        }
        match missed(space, dedupe, &mut seen, draw.as_mut()) {
            Some(arch) => found.push(arch),
            None => break,
        }
    }
    found
}

/// Those of the first `count` distinct architectures that the archive does not hold yet.
pub fn ask<S: Space>(
    space: &S,
    dedupe: Dedupe,
    count: usize,
    archive: &Archive,
    streams: &Streams,
) -> Result<Vec<S::Arch>> {
    let mut done = HashSet::new();
    for entry in archive.entries() {
        done.insert(visited_key(space, &space.parse(&entry.arch)?, dedupe));
    }
    let mut rest = distinct(space, dedupe, count, streams);
    rest.retain(|arch| !done.contains(&visited_key(space, arch, dedupe)));
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::search::archive::Entry;
    use crate::space::nas_bench_201::{CLASSES, Macro, NasBench201};
    use crate::space::testing::streams;

    fn space() -> NasBench201 {
        NasBench201::new(Macro::benchmark(32, 32, 10).unwrap()).unwrap()
    }

    #[test]
    fn distinct_and_a_prefix_of_more() {
        let (space, streams) = (space(), streams(1));
        let few = distinct(&space, Dedupe::Exact, 100, &streams);
        let many = distinct(&space, Dedupe::Exact, 1_000, &streams);
        assert_eq!(many[..100], few);
        assert_eq!(many.iter().collect::<HashSet<_>>().len(), 1_000);
        let classes = distinct(&space, Dedupe::Canonical, 1_000, &streams);
        assert_eq!(classes.iter().map(|a| a.class()).collect::<HashSet<_>>().len(), 1_000);
    }

    #[test]
    fn every_last_one_is_found() {
        let (space, streams) = (space(), streams(3));
        let all = distinct(&space, Dedupe::Canonical, CLASSES + 1, &streams);
        assert_eq!(all.len(), CLASSES);
        assert_eq!(all.iter().map(|a| a.class()).collect::<HashSet<_>>().len(), CLASSES);
    }

    #[test]
    fn goes_on_where_it_stopped() {
        let (space, streams) = (space(), streams(2));
        let all = distinct(&space, Dedupe::Exact, 20, &streams);
        let mut archive = Archive::new();
        for arch in &all[..7] {
            let arch = arch.to_string();
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
        assert_eq!(ask(&space, Dedupe::Exact, 20, &archive, &streams).unwrap(), all[7..]);
    }
}
