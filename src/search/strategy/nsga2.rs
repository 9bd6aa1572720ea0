//! NSGA-II on vectors of integers (Deb, Pratap, Agarwal and Meyarivan, IEEE Trans. Evol. Comput. 6(2), 2002).
//!
//! Each generation is bred from the survivors of all before by tournament, crossover and mutation, and nothing
//! is evaluated twice. It runs in two ways on the same breeding: [`Nsga2::run`] evaluates whole generations
//! at once, such as by a surrogate; [`Nsga2::ask`] proposes them one after the other for evaluations that take
//! long, as a pure function of the earlier generations, the settings and the streams.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::genes::{below, polynomial_mutation, two_point_crossover};
use super::met::Met;
use super::{Individual, Streams};
use crate::error::{Error, Result};
use crate::search::domain::{Domain, draw_within};
use crate::search::front::pareto::{Merit, Point, crowding, fronts, merits};
use crate::space::{Arch, Draw, GeneKind};

/// How often one pair of children is bred anew when neither can be used, before a random candidate stands in.
const MATING_TRIES: usize = 100;
/// How often a random candidate is drawn anew before the generation ends short.
const RANDOM_TRIES: usize = 1_000;

/// Sizes and rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nsga2Settings {
    /// Candidates in the first generation, and survivors of each.
    pub population: usize,
    /// Candidates in each later generation; without it as many as the population. With fewer, more
    /// generations learn from as many evaluations.
    pub offspring: Option<usize>,
    /// Generations, the first one included.
    pub generations: u64,
    /// Probability with which two parents are crossed, and not copied.
    pub crossover_probability: f64,
    /// Distribution index of the mutation, 0 or more: the larger, the smaller its steps. Each gene is mutated
    /// with probability 1 / number of genes.
    pub mutation_eta: f64,
}

impl Default for Nsga2Settings {
    /// 20 generations of 40, crossover with probability .9, eta 1: as MSuNAS and CNAS set it.
    fn default() -> Self {
        Self { population: 40, offspring: None, generations: 20, crossover_probability: 0.9, mutation_eta: 1.0 }
    }
}

impl Nsga2Settings {
    /// Checks sizes and rates.
    pub fn validate(&self) -> Result<()> {
        if self.population < 2 || self.population > 1 << 20 {
            return Err(Error::invalid("population", format!("is {}, expected 2 to {}", self.population, 1 << 20)));
        }
        if let Some(offspring) = self.offspring.filter(|offspring| !(1..=1 << 20).contains(offspring)) {
            return Err(Error::invalid("offspring", format!("is {offspring}, expected 1 to {}", 1 << 20)));
        }
        if self.generations == 0 {
            return Err(Error::invalid("generations", "is 0, expected at least 1"));
        }
        if !(0.0..=1.0).contains(&self.crossover_probability) {
            let why = format!("is {}, expected 0 to 1", self.crossover_probability);
            return Err(Error::invalid("crossover probability", why));
        }
        if !(0.0..=1e6).contains(&self.mutation_eta) {
            return Err(Error::invalid("mutation eta", format!("is {}, expected 0 to 1e6", self.mutation_eta)));
        }
        Ok(())
    }
}

/// Finds the points of some genotypes, in their order.
pub type Evaluate<'a> = dyn FnMut(&[Arch]) -> Result<Vec<Point>> + 'a;

/// NSGA-II over some genotypes.
pub struct Nsga2<'a> {
    domain: &'a dyn Domain,
    settings: Nsga2Settings,
    streams: &'a Streams<'a>,
}

impl<'a> Nsga2<'a> {
    /// `streams(generation, slot)` gives the random numbers of one mating, or of one random candidate of the
    /// first generation.
    pub fn new(domain: &'a dyn Domain, settings: Nsga2Settings, streams: &'a Streams<'a>) -> Result<Self> {
        settings.validate()?;
        if domain.space().genes().is_empty() {
            return Err(Error::invalid("genes", "there are none to search over"));
        }
        Ok(Self { domain, settings, streams })
    }

    /// The candidates of the first generation: the given ones that may be evaluated, each once, and random
    /// ones up to the population. `met` holds the keys that are not to be proposed and receives theirs.
    ///
    /// # Errors
    /// A given genotype that is none.
    pub fn first(&self, given: &[Arch], met: &mut Met) -> Result<Vec<Arch>> {
        let mut candidates = Vec::new();
        for arch in given {
            self.domain.space().check_vector(arch)?;
            candidates.extend(met.meet(arch.clone()));
        }
        let mut slot = 0;
        while candidates.len() < self.settings.population {
            match self.random((self.streams)(0, slot).as_mut(), met) {
                Some(genes) => candidates.push(genes),
                None => break,
            }
            slot += 1;
        }
        Ok(candidates)
    }

    /// The children of some parents: as many as the settings' offspring, fewer only when nothing unseen is left or
    /// found. `met` holds the keys that are not to be proposed and receives the children's.
    ///
    /// Each slot draws two parents by binary tournaments, which the lower rank wins, then the larger crowding
    /// distance, then a coin. It keeps those of the two children that are new. When a hundred matings bring
    /// nothing new, a random candidate takes the place, so that a population that has closed in on one
    /// region goes on.
    pub fn breed<T: Borrow<Individual>>(&self, generation: u64, parents: &[T], met: &mut Met) -> Vec<Arch> {
        let points: Vec<&Point> = parents.iter().map(|parent| &parent.borrow().point).collect();
        let merits = merits(&points);
        let count = self.settings.offspring.unwrap_or(self.settings.population);
        let mut children: Vec<Arch> = Vec::new();
        let mut slot = 0;
        while children.len() < count && !met.is_all() {
            let mut draw = (self.streams)(generation, slot);
            let mut born = Vec::new();
            for _ in 0..if parents.is_empty() { 0 } else { MATING_TRIES } {
                let pair = self.mate(parents, &merits, draw.as_mut());
                let room = count - children.len();
                born.extend(pair.into_iter().filter_map(|child| met.meet(child)).take(room));
                if !born.is_empty() || met.is_all() {
                    break;
                }
            }
            if born.is_empty() {
                born.extend(self.random(draw.as_mut(), met));
            }
            if born.is_empty() {
                break;
            }
            children.append(&mut born);
            slot += 1;
        }
        children
    }

    /// The survivors of a pool, as many as the population: whole fronts from the best on, and of the last one
    /// those with the largest crowding distance, the earlier of equals. In the order of the pool.
    pub fn survivors<T: Borrow<Individual>>(&self, pool: Vec<T>) -> Vec<T> {
        if pool.len() <= self.settings.population {
            return pool;
        }
        let points: Vec<&Point> = pool.iter().map(|individual| &individual.borrow().point).collect();
        let mut kept = vec![false; pool.len()];
        let mut room = self.settings.population;
        for mut front in fronts(&points) {
            if front.len() > room {
                let rows: Vec<&[f64]> = front.iter().map(|i| points[*i].objectives.as_slice()).collect();
                let mut distances: Vec<(f64, usize)> = crowding(&rows).into_iter().zip(front).collect();
                distances.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                front = distances.into_iter().take(room).map(|(_, individual)| individual).collect();
            }
            room -= front.len();
            for individual in front {
                kept[individual] = true;
            }
            if room == 0 {
                break;
            }
        }
        pool.into_iter().zip(kept).filter_map(|(individual, kept)| kept.then_some(individual)).collect()
    }

    /// The candidates of a generation, in a fixed order, given all that was evaluated before it. There are fewer than the settings
    /// say when the space is exhausted.
    ///
    /// # Errors
    /// Genotypes of another space, or with different numbers of objectives.
    pub fn ask(&self, earlier: &[Individual], generation: u64) -> Result<Vec<Arch>> {
        self.check_all(earlier)?;
        let mut met = Met::of(self.domain, if generation == 0 { &[] } else { earlier });
        match generation {
            0 => self.first(&[], &mut met),
            _ => Ok(self.breed(generation, &self.replay(earlier), &mut met)),
        }
    }

    /// Evaluates generation after generation and returns the last one's survivors, the best first. `given`
    /// begins the first generation, and all of it are parents even if there are more than the population.
    ///
    /// # Errors
    /// Those of `evaluate`, or that it returned another number of points than it was given genotypes, or
    /// points with different numbers of objectives; a given genotype that is none.
    pub fn run(&self, given: &[Arch], evaluate: &mut Evaluate) -> Result<Vec<Individual>> {
        let mut met = Met::of(self.domain, &[]);
        let mut population: Vec<Individual> = Vec::new();
        for generation in 0..self.settings.generations {
            let candidates = match generation {
                0 => self.first(given, &mut met)?,
                _ => self.breed(generation, &population, &mut met),
            };
            if candidates.is_empty() {
                break;
            }
            let points = evaluate(&candidates)?;
            if points.len() != candidates.len() {
                let why = format!("returned {} points for {} genotypes", points.len(), candidates.len());
                return Err(Error::invalid("evaluation", why));
            }
            let born = candidates.into_iter().zip(points);
            population.extend(born.map(|(arch, point)| Individual { generation, arch, point }));
            self.check_all(&population)?;
            if generation > 0 {
                population = self.survivors(population);
            }
        }
        population = self.survivors(population);
        let points: Vec<&Point> = population.iter().map(|individual| &individual.point).collect();
        let merits = merits(&points);
        let mut sorted: Vec<(Merit, Individual)> = merits.into_iter().zip(population).collect();
        sorted.sort_by(|a, b| a.0.compare(&b.0));
        Ok(sorted.into_iter().map(|(_, individual)| individual).collect())
    }

    /// The survivors of all generations.
    fn replay<'p>(&self, earlier: &'p [Individual]) -> Vec<&'p Individual> {
        let mut earlier: Vec<&Individual> = earlier.iter().collect();
        // Stable: within a generation in the order of the archive.
        earlier.sort_by_key(|individual| individual.generation);
        let mut population: Vec<&Individual> = Vec::new();
        for born in earlier.chunk_by(|a, b| a.generation == b.generation) {
            let later = !population.is_empty();
            population.extend(born);
            if later {
                population = self.survivors(population);
            }
        }
        population
    }

    /// Two children.
    fn mate<T: Borrow<Individual>>(&self, parents: &[T], merits: &[Merit], draw: &mut dyn Draw) -> [Arch; 2] {
        let genes = self.domain.space().genes();
        let mut a = parents[tournament(merits, draw)].borrow().arch.clone();
        let mut b = parents[tournament(merits, draw)].borrow().arch.clone();
        if draw.uniform() < self.settings.crossover_probability {
            two_point_crossover(&mut a, &mut b, draw);
        }
        let count = genes.iter().filter(|gene| gene.kind != GeneKind::Notation).count();
        let probability = 1.0 / count.max(1) as f64;
        for child in [&mut a, &mut b] {
            polynomial_mutation(child, genes, probability, self.settings.mutation_eta, draw);
        }
        [a, b]
    }

    /// A random candidate that was not met.
    fn random(&self, draw: &mut dyn Draw, met: &mut Met) -> Option<Arch> {
        (0..RANDOM_TRIES)
            .map_while(|_| (!met.is_all()).then(|| met.meet(draw_within(self.domain, draw))))
            .find_map(|found| found)
    }

    /// Genotypes of this space, all with as many objectives.
    fn check_all(&self, individuals: &[Individual]) -> Result<()> {
        let objectives = individuals.first().map_or(0, |first| first.point.objectives.len());
        for individual in individuals {
            self.domain.space().check_vector(&individual.arch)?;
            let found = individual.point.objectives.len();
            if found != objectives {
                let why = format!("{found} for {:?}, {objectives} for others", &individual.arch[..]);
                return Err(Error::invalid("number of objectives", why));
            }
        }
        Ok(())
    }
}

/// The better of two different contestants.
fn tournament(merits: &[Merit], draw: &mut dyn Draw) -> usize {
    let n = merits.len() as u32;
    let a = below(draw, n);
    let b = below(draw, n.saturating_sub(1));
    let b = if n > 1 { b + u32::from(b >= a) } else { a };
    let (a, b) = (a as usize, b as usize);
    let coin = below(draw, 2) == 0;
    match merits[a].compare(&merits[b]) {
        std::cmp::Ordering::Less => a,
        std::cmp::Ordering::Greater => b,
        std::cmp::Ordering::Equal => [a, b][usize::from(coin)],
    }
}

#[cfg(test)]
#[path = "nsga2_tests.rs"]
mod tests;
