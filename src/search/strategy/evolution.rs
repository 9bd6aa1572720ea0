//! Evolution as in GeNAS (Jeong et al., IJCAI 2023; the hyper-parameters are those of RLNAS).
//!
//! Generation 0 is random. Each later one mutates and crosses the best of all that was evaluated before,
//! and fills up with random architectures; nothing is evaluated twice.

use serde::{Deserialize, Serialize};

use super::genes::below;
use super::met::Met;
use super::{Individual, Proposal, Strategy, Streams, View, check_sizes};
use crate::error::{Error, Result};
use crate::philox::Stream;
use crate::search::domain::Dedupe;
use crate::space::{Arch, Draw, MutationScope};

/// Purpose word of proposals.
pub(super) const PURPOSE: u32 = 0x5052_4F50;

/// In what the sound form and the released code differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvolutionProtocol {
    /// What counts as the same architecture.
    pub dedupe: Dedupe,
    /// Which genes mutation touches; the released loop ends after the first cell.
    pub mutation_scope: MutationScope,
    /// Whether both parents of a crossover may be the same one.
    pub same_parents: bool,
    /// How often a mutation is drawn anew when its child is known. The released code has no bound in
    /// effect; 100,000 stands for that.
    pub mutation_tries: u32,
    /// How often a crossover is drawn anew when its child is known. The released code stops after
    /// 26 rounds of 10 tries for all children; 10 tries for each stand for that.
    pub crossover_tries: u32,
    /// How often a random architecture is drawn anew when it is known.
    pub random_tries: u32,
}

impl EvolutionProtocol {
    /// The default.
    pub fn sound() -> Self {
        Self {
            dedupe: Dedupe::Canonical,
            mutation_scope: MutationScope::Whole,
            same_parents: false,
            mutation_tries: 1_000,
            crossover_tries: 1_000,
            random_tries: 1_000,
        }
    }

    /// As the authors' released code behaves.
    pub fn released() -> Self {
        Self {
            dedupe: Dedupe::Exact,
            mutation_scope: MutationScope::FirstCell,
            same_parents: true,
            mutation_tries: 100_000,
            crossover_tries: 10,
            random_tries: 100_000,
        }
    }
}

impl Default for EvolutionProtocol {
    fn default() -> Self {
        Self::sound()
    }
}

/// Sizes, rates and behaviour of an evolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evolution {
    /// Candidates in a generation.
    pub population: usize,
    /// How many of the best become parents.
    pub parents: usize,
    /// Candidates by mutation in each generation after the first.
    pub mutations: usize,
    /// Candidates by crossover in each generation after the first.
    pub crossovers: usize,
    /// Probability with which mutation draws a gene anew.
    pub mutation_probability: f64,
    /// How it behaves.
    pub protocol: EvolutionProtocol,
}

impl Default for Evolution {
    /// Generations of 50: 10 parents, 25 mutations with probability .1, 25 crossovers.
    fn default() -> Self {
        let protocol = EvolutionProtocol::sound();
        Self { population: 50, parents: 10, mutations: 25, crossovers: 25, mutation_probability: 0.1, protocol }
    }
}

impl Evolution {
    /// Checks sizes and rates.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        check_sizes(&[("population", self.population), ("parents", self.parents)])?;
        if self.mutations.checked_add(self.crossovers).is_none_or(|children| children > self.population) {
            let why = format!(
                "{} mutations and {} crossovers are more than the population of {}",
                self.mutations, self.crossovers, self.population
            );
            return Err(Error::invalid("mutations and crossovers", why));
        }
        if !(0.0..=1.0).contains(&self.mutation_probability) {
            let why = format!("is {}, expected 0 to 1", self.mutation_probability);
            return Err(Error::invalid("mutation probability", why));
        }
        Ok(())
    }
}

impl Strategy for Evolution {
    fn ask(&self, view: &View) -> Result<Proposal> {
        let seed = view.seed;
        let streams = move |generation: u64, slot: u64| -> Box<dyn Draw> {
            Box::new(Stream::new(seed, PURPOSE, generation << 20 ^ slot))
        };
        let parents = if view.generation == 0 { vec![] } else { best(view.earlier, self.parents) };
        let mut nursery = Nursery { own: self, view, streams: &streams, met: Met::of(view.domain, view.earlier) };
        Ok(Proposal { archs: nursery.breed(&parents)?, ..Proposal::default() })
    }

    fn begins_with(&self) -> usize {
        self.population
    }
}

/// The first so many by the first objective, those beyond limits last, failures left out, equals in the order of their evaluation.
pub(super) fn best(all: &[Individual], count: usize) -> Vec<&Arch> {
    let mut sorted: Vec<&Individual> = all.iter().filter(|individual| !individual.first().is_nan()).collect();
    // Both zeros are equal, which `total_cmp` would not say.
    sorted.sort_by(|a, b| {
        let order = a.first().partial_cmp(&b.first()).unwrap_or(std::cmp::Ordering::Equal);
        (a.point.violation > 0.0).cmp(&(b.point.violation > 0.0)).then(order)
    });
    sorted.into_iter().take(count).map(|individual| &individual.arch).collect()
}

/// A generation in the making.
struct Nursery<'a> {
    own: &'a Evolution,
    view: &'a View<'a>,
    /// Random numbers of a slot: first the mutations', then the crossovers', then the random ones'.
    streams: &'a Streams<'a>,
    met: Met<'a>,
}

impl Nursery<'_> {
    /// All candidates of the generation. There are fewer than the population when the space is exhausted, or is too large to look
    /// through and the tries run out.
    fn breed(&mut self, parents: &[&Arch]) -> Result<Vec<Arch>> {
        let Evolution { population, mutations, crossovers, mutation_probability, protocol, .. } = *self.own;
        let space = self.view.domain.space();
        let mut proposals = Vec::new();
        if !parents.is_empty() {
            for slot in 0..mutations {
                proposals.extend(self.fresh(slot, protocol.mutation_tries, &mut |draw| {
                    let parent = parents[below(draw, parents.len() as u32) as usize];
                    space.mutate(parent, mutation_probability, protocol.mutation_scope, draw)
                })?);
            }
            for slot in mutations..mutations + crossovers {
                proposals.extend(self.fresh(slot, protocol.crossover_tries, &mut |draw| {
                    let (a, b) = pair(draw, parents.len(), protocol.same_parents);
                    space.cross(parents[a], parents[b], draw)
                })?);
            }
        }
        let domain = self.view.domain;
        let mut slot = mutations + crossovers;
        while proposals.len() < population {
            let random = &mut |draw: &mut dyn Draw| domain.sample(draw);
            let found = self.fresh(slot, protocol.random_tries, random)?.or_else(|| {
                let mut draw = (self.streams)(self.view.generation, slot as u64);
                self.met.missed(draw.as_mut())
            });
            match found {
                Some(arch) => proposals.push(arch),
                None => break,
            }
            slot += 1;
        }
        Ok(proposals)
    }

    /// Draws from one slot's stream until it meets something new that may be evaluated.
    fn fresh(
        &mut self,
        slot: usize,
        tries: u32,
        make: &mut dyn FnMut(&mut dyn Draw) -> Result<Arch>,
    ) -> Result<Option<Arch>> {
        let mut draw = (self.streams)(self.view.generation, slot as u64);
        self.met.first_new(tries as usize, &mut |_| make(draw.as_mut()))
    }
}

/// Two parents' places, of so many.
fn pair(draw: &mut dyn Draw, parents: usize, same: bool) -> (usize, usize) {
    let mut pick = |n: usize| below(draw, n as u32) as usize;
    let a = pick(parents);
    if same || parents < 2 {
        return (a, pick(parents));
    }
    let b = pick(parents - 1);
    (a, b + usize::from(b >= a))
}

#[cfg(test)]
#[path = "evolution_tests.rs"]
mod tests;
