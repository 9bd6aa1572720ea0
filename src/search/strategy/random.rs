//! Random search: distinct architectures, drawn uniformly.
//!
//! The sequence depends on the streams alone: place `k` draws from stream `(0, k)` until it meets something
//! new. So a run that stopped goes on with the same architectures.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Proposal, Strategy, Streams, View, check_sizes, evolution, surrogate};
use crate::error::Result;
use crate::philox::Stream;
use crate::search::domain::{Dedupe, Domain};
use crate::space::{Arch, Draw, GeneKind};

/// How often one place is drawn anew before all genotypes are looked through.
pub const TRIES: u32 = 1_000;
/// Most genotypes that are looked through.
const MAX_SCAN: u32 = 1 << 20;
/// Purpose word of the order of what can be listed.
const LIST_PURPOSE: u32 = 0x5349_4D52;

/// Random search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// Candidates in a generation.
    pub batch: usize,
    /// What counts as the same architecture.
    pub dedupe: Dedupe,
    /// Which of the sequences of a seed: one beside another search needs its own.
    #[serde(skip)]
    pub sequence: u64,
    /// Begins with the same so many candidates as a search by NSGA-II does; 0 for its own.
    #[serde(skip)]
    pub shared: usize,
}

impl Default for Random {
    fn default() -> Self {
        Random { batch: 10, dedupe: Dedupe::Canonical, sequence: 0, shared: 0 }
    }
}

impl Random {
    /// Checks its size.
    ///
    /// # Errors
    /// If it is 0 or beyond all reason.
    pub fn validate(&self) -> Result<()> {
        check_sizes(&[("batch", self.batch)])
    }
}

impl Strategy for Random {
    fn ask(&self, view: &View) -> Result<Proposal> {
        let &View { domain, seed, generation, earlier } = view;
        if generation == 0 && self.shared > 0 {
            return Ok(Proposal { archs: surrogate::first_sample(view, self.shared)?, ..Proposal::default() });
        }
        let known: HashSet<Arch> = earlier.iter().map(|individual| domain.key(&individual.arch)).collect();
        let mut archs = match domain.list() {
            Some(list) => list.to_vec(),
            None => {
                let streams = |generation: u64, slot: u64| -> Box<dyn Draw> {
                    Box::new(Stream::new(seed, evolution::PURPOSE, (self.sequence + generation) << 20 ^ slot))
                };
                distinct(domain, known.len() + self.batch, &streams)?
            }
        };
        archs.retain(|arch| !known.contains(&domain.key(arch)));
        if domain.list().is_some() {
            Stream::new(seed, LIST_PURPOSE, 0).shuffle(&mut archs);
        }
        archs.truncate(self.batch);
        Ok(Proposal { archs, ..Proposal::default() })
    }

    fn begins_with(&self) -> usize {
        if self.shared > 0 { self.shared } else { self.batch }
    }
}

/// What chance has missed for long: the architecture of the first genotype, from a random one on, that was not seen. `None` if
/// all were, or there are too many to look through.
pub(super) fn missed(domain: &dyn Domain, seen: &mut HashSet<Arch>, draw: &mut dyn Draw) -> Option<Arch> {
    let space = domain.space();
    let all = space.vectors().and_then(|all| u32::try_from(all).ok()).filter(|all| (1..=MAX_SCAN).contains(all))?;
    let start = draw.below(all) % all;
    (0..all).find_map(|step| {
        let mut rest = (start + step) % all;
        let mut arch: Arch = space
            .genes()
            .iter()
            .map(|gene| if gene.kind == GeneKind::Notation { 0 } else { next_digit(&mut rest, gene.options) })
            .collect();
        // Of vectors that are no architectures those count that the space makes one of at once.
        let is_one = space.repair(&mut arch, draw);
        let arch = is_one.then(|| domain.admit(arch)).flatten().filter(|arch| domain.is_within(arch))?;
        seen.insert(domain.key(&arch)).then_some(arch)
    })
}

/// Takes the lowest digit to some base off a number.
fn next_digit(rest: &mut u32, base: u8) -> u8 {
    let digit = *rest % u32::from(base);
    *rest /= u32::from(base);
    digit as u8
}

/// The first `count` distinct architectures of the sequence within the limits, fewer when there are no more (or there are too many
/// to look through, and [`TRIES`] draws miss what is left).
///
/// # Errors
/// If the space does not manage to draw one.
pub fn distinct(domain: &dyn Domain, count: usize, streams: &Streams) -> Result<Vec<Arch>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    'places: for place in 0..count as u64 {
        let mut draw = streams(0, place);
        for _ in 0..TRIES {
            let arch = domain.admit(domain.sample(draw.as_mut())?).filter(|arch| domain.is_within(arch));
            if let Some(arch) = arch
                && seen.insert(domain.key(&arch))
            {
                found.push(arch);
                continue 'places;
            }
            if domain.size().is_some_and(|size| seen.len() as u64 >= size) {
                return Ok(found);
            }
        }
        match missed(domain, &mut seen, draw.as_mut()) {
            Some(arch) => found.push(arch),
            None => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
