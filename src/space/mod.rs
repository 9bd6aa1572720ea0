//! Search spaces: what an architecture is, how to draw, change and count one.
//!
//! A search algorithm is written against [`Space`] and takes its random numbers from a [`Draw`]; it
//! knows neither what an architecture holds nor where the numbers come from.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use crate::error::Result;

pub mod nas_bench_201;

/// A source of random numbers, usually one stream of a counter-based generator.
pub trait Draw {
    /// Uniform over `0..n`; 0 when `n` is 0.
    fn below(&mut self, n: u32) -> u32;
    /// Uniform over `[0, 1)`.
    fn uniform(&mut self) -> f64;
}

/// Which genes a mutation may touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MutationScope {
    /// All of them.
    #[default]
    Whole,
    /// Those of the first cell: what the released GeNAS code does in a space of two cells (its loop ends
    /// after the normal cell). In a space with one kind of cell the same as [`MutationScope::Whole`].
    FirstCell,
}

/// A search space.
pub trait Space {
    /// One architecture. Its `Display` is the name that [`Space::parse`] reads back.
    type Arch: Clone + Eq + Hash + Ord + Display + Debug + Send + Sync;

    /// The name of the space, as on the command line.
    fn name(&self) -> &'static str;
    /// How many different architectures there are; `None` when there are more than can be enumerated.
    fn size(&self) -> Option<u64>;
    /// Reads an architecture's name.
    fn parse(&self, text: &str) -> Result<Self::Arch>;
    /// Draws uniformly.
    fn sample(&self, draw: &mut dyn Draw) -> Self::Arch;
    /// A copy in which every gene in `scope` was, with `probability`, drawn anew (and may repeat).
    fn mutate(&self, parent: &Self::Arch, probability: f64, scope: MutationScope, draw: &mut dyn Draw) -> Self::Arch;
    /// A child that takes every gene from one of the two parents by a fair coin.
    fn cross(&self, a: &Self::Arch, b: &Self::Arch, draw: &mut dyn Draw) -> Self::Arch;
    /// Values of each gene of the integer vectors that stand for architectures.
    fn options(&self) -> Vec<u32>;
    /// The genes of an architecture.
    fn encode(&self, arch: &Self::Arch) -> Vec<u32>;
    /// The architecture of some genes. Several may stand for the same one.
    ///
    /// # Errors
    /// If there are more or fewer genes, or one is beyond its values.
    fn decode(&self, genes: &[u32]) -> Result<Self::Arch>;
    /// Numbers that describe an architecture to a surrogate: equal for those of one canonical form, categories as dummies.
    fn features(&self, arch: &Self::Arch) -> Vec<f64>;
    /// A key that is equal exactly for architectures that compute the same family of functions.
    fn canonical(&self, arch: &Self::Arch) -> String;
    /// An architecture that none has fewer parameters or multiply-adds than.
    fn smallest(&self) -> Self::Arch;
    /// Trainable parameters.
    fn params(&self, arch: &Self::Arch) -> u64;
    /// Multiply-adds for one image, as the space's authors count them.
    fn macs(&self, arch: &Self::Arch) -> u64;
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
