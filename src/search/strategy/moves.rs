//! Moves: a random pool, then neighbours of the best so far, as CRoZe's authors search (Ha, Kim and Hwang 2023, section 4.3). With a
//! pool of one it climbs from a single random architecture.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Proposal, Strategy, View, check_sizes};
use crate::error::Result;
use crate::philox::Stream;
use crate::space::Arch;

/// Purpose word of proposals.
const PURPOSE: u32 = 0x5052_4F58;
/// How often a candidate is drawn anew when it is known or beyond a limit.
const TRIES: usize = 10_000;
/// How many of these are moves; what no move reaches any more, chance may.
const MOVES: usize = 200;

/// A search by moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moves {
    /// Random candidates before the moves.
    pub pool: usize,
    /// Moves between two looks at the best so far.
    pub moves: usize,
}

impl Default for Moves {
    fn default() -> Self {
        Moves { pool: 50, moves: 5 }
    }
}

impl Moves {
    /// Checks the sizes.
    ///
    /// # Errors
    /// If one is 0 or beyond all reason.
    pub fn validate(&self) -> Result<()> {
        check_sizes(&[("pool", self.pool), ("moves", self.moves)])
    }
}

impl Strategy for Moves {
    fn ask(&self, view: &View) -> Result<Proposal> {
        let &View { domain, seed, generation, earlier } = view;
        let space = domain.space();
        let mut seen: HashSet<Arch> = earlier.iter().map(|individual| domain.key(&individual.arch)).collect();
        let mut parent: Option<((bool, f64), &Arch)> = None;
        for individual in earlier {
            let value = individual.point.objectives.first().copied().unwrap_or(f64::NAN);
            let own = (individual.point.violation > 0.0, value);
            if !value.is_nan() && parent.is_none_or(|(best, _)| own < best) {
                parent = Some((own, &individual.arch));
            }
        }
        let mut archs = vec![];
        for slot in 0..if generation == 0 { self.pool } else { self.moves } as u64 {
            let mut draw = Stream::new(seed, PURPOSE, generation << 20 | slot);
            let moves = parent.iter().flat_map(|(_, parent)| std::iter::repeat_n(Some(*parent), MOVES));
            let mut found = None;
            for parent in moves.chain(std::iter::repeat(None)).take(TRIES) {
                let arch = match parent {
                    Some(parent) => space.neighbour(parent, &mut draw)?,
                    None => domain.sample(&mut draw)?,
                };
                let Some(arch) = domain.admit(arch) else { continue };
                if !seen.contains(&domain.key(&arch)) && domain.is_within(&arch) {
                    found = Some(arch);
                    break;
                }
                if domain.size().is_some_and(|size| seen.len() as u64 >= size) {
                    break;
                }
            }
            let Some(arch) = found else { break };
            seen.insert(domain.key(&arch));
            archs.push(arch);
        }
        Ok(Proposal { archs, ..Proposal::default() })
    }

    fn begins_with(&self) -> usize {
        self.pool
    }
}
