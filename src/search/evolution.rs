//! Evolution as in GeNAS (Jeong et al., IJCAI 2023; the hyper-parameters are those of RLNAS).
//!
//! Generation 0 is random. Each later one mutates and crosses the best of all that was evaluated before,
//! and fills up with random architectures; nothing is evaluated twice.
//!
//! [`Evolution::ask`] is a pure function of the archive's earlier generations, the settings
//! and the streams. A run that stopped amid a generation asks for it again and gets what is left of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::archive::{Archive, Entry, by_fitness};
use super::random::missed;
use crate::error::{Error, Result};
use crate::space::{Arch, Draw, MutationScope, Space};

/// Random numbers for a slot of a generation: always the same ones for the same two numbers.
pub type Streams<'a> = dyn Fn(u64, u64) -> Box<dyn Draw> + 'a;

/// What counts as the same architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dedupe {
    /// The same name.
    Exact,
    /// The same canonical form: isomorphic architectures are evaluated once.
    #[default]
    Canonical,
}

/// What `dedupe` compares.
pub(crate) fn visited_key(space: &dyn Space, arch: &Arch, dedupe: Dedupe) -> Arch {
    match dedupe {
        Dedupe::Exact => arch.clone(),
        Dedupe::Canonical => space.canonical(arch),
    }
}

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

/// Sizes and rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvolutionSettings {
    /// Candidates in a generation.
    pub population: usize,
    /// Generations, the first random one included.
    pub generations: u64,
    /// How many of the best become parents.
    pub parents: usize,
    /// Candidates by mutation in each generation after the first.
    pub mutations: usize,
    /// Candidates by crossover in each generation after the first.
    pub crossovers: usize,
    /// Probability with which mutation draws a gene anew.
    pub mutation_probability: f64,
}

impl Default for EvolutionSettings {
    /// 20 generations of 50: 10 parents, 25 mutations with probability .1, 25 crossovers.
    fn default() -> Self {
        Self { population: 50, generations: 20, parents: 10, mutations: 25, crossovers: 25, mutation_probability: 0.1 }
    }
}

impl EvolutionSettings {
    /// Checks sizes and rates.
    pub fn validate(&self) -> Result<()> {
        for (what, value) in [("population", self.population), ("parents", self.parents)] {
            if value == 0 || value > 1 << 20 {
                return Err(Error::invalid(what, format!("is {value}, expected 1 to {}", 1 << 20)));
            }
        }
        if self.generations == 0 {
            return Err(Error::invalid("generations", "is 0, expected at least 1"));
        }
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

/// An evolution over a space.
pub struct Evolution<'a> {
    space: &'a dyn Space,
    settings: EvolutionSettings,
    protocol: EvolutionProtocol,
    streams: &'a Streams<'a>,
}

impl<'a> Evolution<'a> {
    /// `streams(generation, slot)` gives the random numbers of a candidate: first the mutations' slots, then
    /// the crossovers', then the random ones'.
    pub fn new(
        space: &'a dyn Space,
        settings: EvolutionSettings,
        protocol: EvolutionProtocol,
        streams: &'a Streams<'a>,
    ) -> Result<Self> {
        settings.validate()?;
        Ok(Self { space, settings, protocol, streams })
    }

    /// The sizes and rates.
    pub fn settings(&self) -> &EvolutionSettings {
        &self.settings
    }

    /// The candidates of a generation that the archive does not hold yet, in a fixed order.
    ///
    /// It looks at the entries of earlier generations alone to find them. There are fewer than the
    /// population when the space is exhausted, or is too large to look through and the tries run out. Fails if the archive holds
    /// architectures of another space.
    pub fn ask(&self, archive: &Archive, generation: u64) -> Result<Vec<Arch>> {
        let earlier: Vec<&Entry> = archive.entries().iter().filter(|entry| entry.generation < generation).collect();
        let mut visited = HashSet::new();
        for entry in &earlier {
            visited.insert(self.key(&self.space.parse(&entry.arch)?));
        }
        let mut parents = by_fitness(earlier.into_iter().filter(|entry| !entry.fitness.is_nan()))
            .into_iter()
            .take(self.settings.parents)
            .map(|entry| self.space.parse(&entry.arch))
            .collect::<Result<Vec<Arch>>>()?;
        if generation == 0 {
            parents.clear();
        }
        let mut proposals = self.breed(generation, &parents, &mut visited)?;
        let mut done = HashSet::new();
        for entry in archive.entries().iter().filter(|entry| entry.generation >= generation) {
            done.insert(self.key(&self.space.parse(&entry.arch)?));
        }
        proposals.retain(|arch| !done.contains(&self.key(arch)));
        Ok(proposals)
    }

    /// All candidates of a generation.
    fn breed(&self, generation: u64, parents: &[Arch], visited: &mut HashSet<Arch>) -> Result<Vec<Arch>> {
        let EvolutionSettings { population, mutations, crossovers, mutation_probability, .. } = self.settings;
        let EvolutionProtocol { mutation_scope, mutation_tries, crossover_tries, random_tries, .. } = self.protocol;
        let mut proposals = Vec::new();
        if !parents.is_empty() {
            for slot in 0..mutations {
                proposals.extend(self.fresh(generation, slot, mutation_tries, visited, &mut |draw| {
                    let parent = &parents[pick(draw, parents.len())];
                    self.space.mutate(parent, mutation_probability, mutation_scope, draw)
                })?);
            }
            for slot in mutations..mutations + crossovers {
                proposals.extend(self.fresh(generation, slot, crossover_tries, visited, &mut |draw| {
                    let (a, b) = self.pair(draw, parents.len());
                    self.space.cross(&parents[a], &parents[b], draw)
                })?);
            }
        }
        let mut slot = mutations + crossovers;
        while proposals.len() < population {
            let random = &mut |draw: &mut dyn Draw| self.space.sample(draw);
            let found = self.fresh(generation, slot, random_tries, visited, random)?.or_else(|| {
                let mut draw = (self.streams)(generation, slot as u64);
                missed(self.space, self.protocol.dedupe, visited, draw.as_mut())
            });
            match found {
                Some(arch) => proposals.push(arch),
                None => break,
            }
            slot += 1;
        }
        Ok(proposals)
    }

    /// Two parents' places.
    fn pair(&self, draw: &mut dyn Draw, parents: usize) -> (usize, usize) {
        let a = pick(draw, parents);
        if self.protocol.same_parents || parents < 2 {
            return (a, pick(draw, parents));
        }
        let b = pick(draw, parents - 1);
        (a, b + usize::from(b >= a))
    }

    /// Draws from one slot's stream until it meets something new.
    fn fresh(
        &self,
        generation: u64,
        slot: usize,
        tries: u32,
        visited: &mut HashSet<Arch>,
        make: &mut dyn FnMut(&mut dyn Draw) -> Result<Arch>,
    ) -> Result<Option<Arch>> {
        let mut draw = (self.streams)(generation, slot as u64);
        for _ in 0..tries {
            if self.space.vectors().is_some_and(|size| visited.len() as u64 >= size) {
                return Ok(None);
            }
            let arch = make(draw.as_mut())?;
            if visited.insert(self.key(&arch)) {
                return Ok(Some(arch));
            }
        }
        Ok(None)
    }

    fn key(&self, arch: &Arch) -> Arch {
        visited_key(self.space, arch, self.protocol.dedupe)
    }
}

/// Below `n`, also if the source breaks its contract.
fn pick(draw: &mut dyn Draw, n: usize) -> usize {
    draw.below(n as u32) as usize % n.max(1)
}

#[cfg(test)]
#[path = "evolution_tests.rs"]
mod tests;
