//! Search spaces: what an architecture is, and how to draw, change, compare and name one.
//!
//! An architecture is a short vector of small integers, its genes, whatever the space. A [`Space`] says how many values each gene
//! has and what the vectors mean; drawing, mutating, crossing, comparing and describing them is written once, here, for all spaces.
//! Random numbers come from a [`Draw`], so that a search decides where they come from.

use std::ops::{Deref, DerefMut};

use diagram::Diagram;

use crate::error::{Error, Result};
use crate::philox::Stream;

pub mod darts;
pub mod diagram;
pub mod mobilenet_v3;
pub mod nas_bench_201;

/// How often a vector is repaired before a space counts as broken.
const REPAIRS: usize = 1_000;

/// A source of random numbers, usually one stream of a counter-based generator.
pub trait Draw {
    /// Uniform over `0..n`; 0 when `n` is 0.
    fn below(&mut self, n: u32) -> u32;
    /// Uniform over `[0, 1)`.
    fn uniform(&mut self) -> f64;
}

impl Draw for Stream {
    fn below(&mut self, n: u32) -> u32 {
        Stream::below(self, u64::from(n)) as u32
    }

    fn uniform(&mut self) -> f64 {
        Stream::uniform(self)
    }
}

/// Which genes a mutation may touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MutationScope {
    /// All of them.
    #[default]
    Whole,
    /// Those of the first part ([`Gene::part`]): what the released GeNAS code does in a space of two cells (its loop ends
    /// after the normal cell). In a space with one kind of cell the same as [`MutationScope::Whole`].
    FirstCell,
}

/// An architecture: the values of its genes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch(Box<[u8]>);

impl From<Vec<u8>> for Arch {
    fn from(genes: Vec<u8>) -> Self {
        Arch(genes.into())
    }
}

impl FromIterator<u8> for Arch {
    fn from_iter<I: IntoIterator<Item = u8>>(genes: I) -> Self {
        Arch(genes.into_iter().collect())
    }
}

impl Deref for Arch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Arch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What a gene's values are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneKind {
    /// Different things: a surrogate gets a dummy for each.
    Category,
    /// Steps of one quantity: a surrogate gets one number.
    Level,
    /// How one and the same network is written down. Parsing sets it; nothing is drawn for it, and a surrogate gets nothing.
    Notation,
}

/// One place of the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gene {
    /// Its values are `0..options`.
    pub options: u8,
    /// What they are to each other.
    pub kind: GeneKind,
    /// The part of the architecture that it belongs to: a cell, a stage, the resolution.
    pub part: u8,
}

impl Gene {
    /// A gene of the first part whose values are different things.
    pub const fn category(options: u8) -> Self {
        Gene { options, kind: GeneKind::Category, part: 0 }
    }
}

/// A search space.
///
/// What is not given has the plainest meaning: every vector within its ranges is an architecture, each stands for itself, all genes
/// count, and there are too many to list.
pub trait Space: Send + Sync {
    /// Its name, as on the command line.
    fn name(&self) -> &str;

    /// The genes, at least one.
    fn genes(&self) -> &[Gene];

    /// Reads an architecture's name.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    fn parse(&self, text: &str) -> Result<Arch>;

    /// The genes that a text stands for, be they an architecture or not: what [`Space::repair`] may make one of.
    ///
    /// # Errors
    /// If it stands for no genes.
    fn read(&self, text: &str) -> Result<Arch> {
        self.parse(text)
    }

    /// An architecture's name, which [`Space::parse`] reads back.
    fn show(&self, arch: &Arch) -> String;

    /// The same in few characters, for tables.
    fn abbreviate(&self, arch: &Arch) -> String {
        self.show(arch)
    }

    /// How names are written, for those who list the spaces.
    fn notation(&self) -> &str {
        ""
    }

    /// Changes a vector within its ranges towards an architecture. Whether it is one now; if not, this is called again, many times
    /// but not for ever.
    fn repair(&self, _arch: &mut Arch, _draw: &mut dyn Draw) -> bool {
        true
    }

    /// The one that stands for all that are one and the same network as this one; it stands for itself.
    fn canonical(&self, arch: &Arch) -> Arch {
        arch.clone()
    }

    /// Which genes count: changing one of the others changes no network.
    fn expressed(&self, arch: &Arch) -> Vec<bool> {
        vec![true; arch.len()]
    }

    /// An architecture that none has fewer parameters or multiply-adds than.
    fn smallest(&self) -> Arch {
        self.genes().iter().map(|_| 0).collect()
    }

    /// How many architectures there are, if not all vectors are.
    fn count(&self) -> Option<u64> {
        None
    }

    /// All canonical architectures, if they can be listed.
    fn classes(&self) -> Option<Box<dyn Iterator<Item = Arch> + '_>> {
        None
    }

    /// Numbers that describe an architecture to a surrogate, equal for those of one canonical form.
    fn features(&self, arch: &Arch) -> Vec<f64> {
        described(self.genes(), &self.canonical(arch), &self.expressed(&self.canonical(arch)))
    }

    /// An architecture as a graph to look at. Those that are different networks have different ones.
    fn diagram(&self, arch: &Arch) -> Diagram {
        diagram::of_genes(self.name(), self.genes(), arch)
    }

    /// What a user should know of an architecture.
    fn remark(&self, _arch: &Arch) -> Option<&str> {
        None
    }
}

/// At most 60 characters of something that a user gave.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// A dummy for each value of a category, one number between 0 and 1 for a level; zeros for genes that do not count.
fn described(genes: &[Gene], arch: &Arch, expressed: &[bool]) -> Vec<f64> {
    let mut row = vec![];
    for ((gene, &value), counts) in genes.iter().zip(arch.iter()).zip(expressed) {
        let of = |value: f64| if *counts { value } else { 0.0 };
        match gene.kind {
            GeneKind::Category => row.extend((0..gene.options).map(|other| of(f64::from(u8::from(other == value))))),
            GeneKind::Notation => {}
            GeneKind::Level => row.push(of(f64::from(value) / f64::from(gene.options.max(2) - 1))),
        }
    }
    row
}

/// What every space can do.
impl dyn Space + '_ {
    /// How many vectors there are, however they are written, and so at most architectures; `None` beyond 64 bits.
    pub fn vectors(&self) -> Option<u64> {
        self.genes()
            .iter()
            .filter(|gene| gene.kind != GeneKind::Notation)
            .try_fold(1u64, |all, gene| all.checked_mul(gene.options.into()))
    }

    /// Checks a vector.
    ///
    /// # Errors
    /// If it has more or fewer genes, or one is beyond its values.
    pub fn check_vector(&self, arch: &Arch) -> Result<()> {
        let genes = self.genes();
        let what = || format!("architecture of {}", self.name());
        if arch.len() != genes.len() {
            return Err(Error::invalid(what(), format!("{} genes, expected {}", arch.len(), genes.len())));
        }
        match arch.iter().zip(genes).position(|(value, gene)| *value >= gene.options) {
            Some(at) => {
                let why = format!("gene {at} is {}, expected less than {}", arch[at], genes[at].options);
                Err(Error::invalid(what(), why))
            }
            None => Ok(()),
        }
    }

    /// Draws uniformly over the vectors, and repairs what is no architecture.
    ///
    /// # Errors
    /// If the space does not manage to repair it.
    pub fn sample(&self, draw: &mut dyn Draw) -> Result<Arch> {
        let arch = self.genes().iter().map(|gene| value(gene, draw)).collect();
        self.repaired(arch, draw)
    }

    /// A copy in which every gene in `scope` was, with `probability`, drawn anew (and may repeat).
    ///
    /// # Errors
    /// If the space does not manage to repair it.
    pub fn mutate(&self, parent: &Arch, probability: f64, scope: MutationScope, draw: &mut dyn Draw) -> Result<Arch> {
        let genes = self.genes();
        let first = genes.first().map_or(0, |gene| gene.part);
        let mut child = parent.clone();
        for (slot, gene) in child.iter_mut().zip(genes) {
            let may = scope == MutationScope::Whole || gene.part == first;
            if may && gene.kind != GeneKind::Notation && draw.uniform() < probability {
                *slot = value(gene, draw);
            }
        }
        self.repaired(child, draw)
    }

    /// A child that takes every gene from one of the two parents by a fair coin.
    ///
    /// # Errors
    /// If the space does not manage to repair it.
    pub fn cross(&self, a: &Arch, b: &Arch, draw: &mut dyn Draw) -> Result<Arch> {
        let mut child = a.clone();
        for ((mine, theirs), gene) in child.iter_mut().zip(b.iter()).zip(self.genes()) {
            if gene.kind != GeneKind::Notation && draw.below(2) == 1 {
                *mine = *theirs;
            }
        }
        self.repaired(child, draw)
    }

    /// A copy with another value of one gene, and of what a repair changes; not the same one, if that can be helped.
    ///
    /// # Errors
    /// If the space does not manage to repair it.
    pub fn neighbour(&self, arch: &Arch, draw: &mut dyn Draw) -> Result<Arch> {
        let counts = |at: &usize| self.genes()[*at].kind != GeneKind::Notation;
        let free: Vec<usize> = (0..arch.len()).filter(|at| counts(at) && self.genes()[*at].options > 1).collect();
        let mut next = arch.clone();
        // A repair may take back what was changed.
        for _ in 0..REPAIRS {
            next.clone_from(arch);
            if let Some(&at) = free.get(draw.below(free.len() as u32) as usize) {
                let options = u32::from(self.genes()[at].options);
                let shift = 1 + draw.below(options - 1) % (options - 1);
                next[at] = ((u32::from(next[at]) + shift) % options) as u8;
            }
            next = self.repaired(next, draw)?;
            if (0..arch.len()).filter(counts).any(|at| next[at] != arch[at]) {
                break;
            }
        }
        Ok(next)
    }

    /// In how many genes that count for either the canonical forms of two differ.
    pub fn distance(&self, a: &Arch, b: &Arch) -> usize {
        let [a, b] = [a, b].map(|arch| self.canonical(arch));
        let counts = self.expressed(&a).into_iter().zip(self.expressed(&b)).map(|(a, b)| a || b);
        a.iter().zip(b.iter()).zip(counts).filter(|((a, b), counts)| *counts && a != b).count()
    }

    /// A number that tells architectures apart: their place among all vectors, or where these are beyond 64 bits a hash.
    pub fn number(&self, arch: &Arch) -> u64 {
        match self.vectors() {
            Some(_) => arch
                .iter()
                .zip(self.genes())
                .filter(|(_, gene)| gene.kind != GeneKind::Notation)
                .fold(0, |number, (value, gene)| number * u64::from(gene.options) + u64::from(*value)),
            None => xxhash_rust::xxh3::xxh3_64(arch),
        }
    }

    /// How many canonical architectures there are, if they can be listed.
    pub fn count_classes(&self) -> Option<u64> {
        Some(self.classes()?.count() as u64)
    }

    /// The architecture that repairs make of a vector within its ranges; itself, if it is one.
    ///
    /// # Errors
    /// If the space does not manage to.
    pub fn repaired(&self, mut arch: Arch, draw: &mut dyn Draw) -> Result<Arch> {
        if (0..REPAIRS).any(|_| self.repair(&mut arch, draw)) {
            return Ok(arch);
        }
        let why = format!("a vector was repaired {REPAIRS} times and is no architecture still: {:?}", &arch[..]);
        Err(Error::invalid(format!("space {}", self.name()), why))
    }
}

/// Uniform over a gene's values, also if the source breaks its contract.
fn value(gene: &Gene, draw: &mut dyn Draw) -> u8 {
    if gene.kind == GeneKind::Notation {
        return 0;
    }
    let options = u32::from(gene.options);
    (draw.below(options) % options.max(1)) as u8
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small counter-based source for tests.

    use super::Draw;

    /// Philox 4x32-10 (Salmon et al., SC 2011), a block of four words per counter value.
    pub(crate) struct Philox {
        key: [u32; 2],
        counter: [u32; 4],
        block: [u32; 4],
        used: usize,
    }

    /// One block.
    pub(crate) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
        for _ in 0..10 {
            let a = u64::from(counter[0]) * 0xD251_1F53;
            let b = u64::from(counter[2]) * 0xCD9E_8D57;
            counter =
                [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        counter
    }

    impl Philox {
        /// The stream of a seed, a generation and a slot.
        pub(crate) fn new(seed: u64, generation: u64, slot: u64) -> Self {
            let key = [seed as u32, (seed >> 32) as u32];
            Self { key, counter: [0, 0, slot as u32, generation as u32], block: [0; 4], used: 4 }
        }

        fn word(&mut self) -> u32 {
            if self.used == 4 {
                self.block = philox(self.counter, self.key);
                self.counter[0] += 1;
                self.used = 0;
            }
            self.used += 1;
            self.block[self.used - 1]
        }
    }

    impl Draw for Philox {
        fn below(&mut self, n: u32) -> u32 {
            ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
        }

        fn uniform(&mut self) -> f64 {
            f64::from(self.word()) / 4_294_967_296.0
        }
    }

    /// Streams of a seed, boxed as search algorithms want them.
    pub(crate) fn streams(seed: u64) -> impl Fn(u64, u64) -> Box<dyn Draw> {
        move |generation, slot| Box::new(Philox::new(seed, generation, slot))
    }

    #[test]
    fn philox_gives_the_published_vectors() {
        // Random123's known answers for zeros and for all ones.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }
}
