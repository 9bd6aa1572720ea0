//! What a search has met so far of its domain: how strategies come to something new.

use std::collections::HashSet;

use super::Individual;
use crate::error::Result;
use crate::search::domain::Domain;
use crate::space::{Arch, Draw, GeneKind};

/// Most genotypes that are looked through.
const MAX_SCAN: u32 = 1 << 20;

/// The architectures that are not proposed again, by their keys.
pub struct Met<'a> {
    domain: &'a dyn Domain,
    keys: HashSet<Arch>,
}

impl<'a> Met<'a> {
    /// Those that were evaluated.
    pub fn of(domain: &'a dyn Domain, earlier: &[Individual]) -> Self {
        Met { domain, keys: earlier.iter().map(|individual| domain.key(&individual.arch)).collect() }
    }

    /// Whether nothing new is left.
    pub fn is_all(&self) -> bool {
        self.domain.size().is_some_and(|size| self.keys.len() as u64 >= size)
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether an architecture is one of them.
    pub fn has(&self, arch: &Arch) -> bool {
        self.keys.contains(&self.domain.key(arch))
    }

    /// The architecture in the form in which it is evaluated, if it may be and is new, within the limits or not; from then on it is met.
    pub fn meet(&mut self, arch: Arch) -> Option<Arch> {
        let arch = self.domain.admit(arch)?;
        self.keys.insert(self.domain.key(&arch)).then_some(arch)
    }

    /// The same within the limits alone.
    pub fn meet_within(&mut self, arch: Arch) -> Option<Arch> {
        let arch = self.domain.admit(arch)?;
        // Limits may cost more to look at.
        let is_new = !self.has(&arch) && self.domain.is_within(&arch);
        (is_new && self.keys.insert(self.domain.key(&arch))).then_some(arch)
    }

    /// The first of so many that `make` makes that is new and within the limits; `make` is told how many it has made.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn first_new(&mut self, tries: usize, make: &mut dyn FnMut(usize) -> Result<Arch>) -> Result<Option<Arch>> {
        for made in 0..tries {
            if self.is_all() {
                break;
            }
            if let Some(arch) = self.meet_within(make(made)?) {
                return Ok(Some(arch));
            }
        }
        Ok(None)
    }

    /// What chance has missed for long: the architecture of the first genotype, from a random one on, that is new and within the limits.
    /// `None` if there is none, or there are too many to look through.
    pub fn missed(&mut self, draw: &mut dyn Draw) -> Option<Arch> {
        if self.is_all() {
            return None;
        }
        let space = self.domain.space();
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
            is_one.then(|| self.meet_within(arch)).flatten()
        })
    }
}

/// Takes the lowest digit to some base off a number.
fn next_digit(rest: &mut u32, base: u8) -> u8 {
    let digit = *rest % u32::from(base);
    *rest /= u32::from(base);
    digit as u8
}
