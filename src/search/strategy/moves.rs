//! Moves: a random pool, then neighbours of the best so far, as CRoZe's authors search (Ha, Kim and Hwang 2023, section 4.3). With a
//! pool of one it climbs from a single random architecture.

use serde::{Deserialize, Serialize};

use super::evolution::best;
use super::met::Met;
use super::{Proposal, Strategy, View, check_sizes};
use crate::error::Result;
use crate::philox::Stream;

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
        let mut met = Met::of(domain, earlier);
        let parent = best(earlier, 1).first().copied();
        let mut archs = vec![];
        for slot in 0..if generation == 0 { self.pool } else { self.moves } as u64 {
            let mut draw = Stream::new(seed, PURPOSE, generation << 20 | slot);
            let found = met.first_new(TRIES, &mut |made| match parent {
                Some(parent) if made < MOVES => space.neighbour(parent, &mut draw),
                _ => domain.sample(&mut draw),
            })?;
            let Some(arch) = found else { break };
            archs.push(arch);
        }
        Ok(Proposal { archs, ..Proposal::default() })
    }

    fn begins_with(&self) -> usize {
        self.pool
    }
}
