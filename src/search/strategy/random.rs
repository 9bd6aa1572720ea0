//! Random search: distinct architectures, drawn uniformly.
//!
//! The sequence depends on the streams alone: place `k` draws from stream `(0, k)` until it meets something
//! new. So a run that stopped goes on with the same architectures.

use serde::{Deserialize, Serialize};

use super::met::Met;
use super::{Proposal, Strategy, Streams, View, check_sizes, evolution, surrogate};
use crate::error::Result;
use crate::philox::Stream;
use crate::search::domain::{Dedupe, Domain};
use crate::space::{Arch, Draw};

/// How often one place is drawn anew before all genotypes are looked through.
pub const TRIES: usize = 1_000;
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
        let met = Met::of(domain, earlier);
        let mut archs = match domain.list() {
            Some(list) => list.to_vec(),
            None => {
                let streams = |generation: u64, slot: u64| -> Box<dyn Draw> {
                    Box::new(Stream::new(seed, evolution::PURPOSE, (self.sequence + generation) << 20 ^ slot))
                };
                distinct(domain, met.count() + self.batch, &streams)?
            }
        };
        archs.retain(|arch| !met.has(arch));
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

/// The first `count` distinct architectures of the sequence within the limits, fewer when there are no more (or there are too many
/// to look through, and [`TRIES`] draws miss what is left).
///
/// # Errors
/// If the space does not manage to draw one.
pub fn distinct(domain: &dyn Domain, count: usize, streams: &Streams) -> Result<Vec<Arch>> {
    let mut met = Met::of(domain, &[]);
    let mut found = Vec::new();
    for place in 0..count as u64 {
        let mut draw = streams(0, place);
        let new = met.first_new(TRIES, &mut |_| domain.sample(draw.as_mut()))?;
        match new.or_else(|| met.missed(draw.as_mut())) {
            Some(arch) => found.push(arch),
            None => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
