//! Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011).
//!
//! A block of four 32-bit words is a pure function of a 64-bit key and a 128-bit counter, so that the CPU and
//! a GPU shader compute the same numbers in any order. [`Stream`] walks the counter for sequential use.

mod normal;
mod table;

pub use normal::normal;
pub use table::TABLE as NORMAL_TABLE;

/// Round multipliers and key increments of the published generator.
const M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The block function under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator with this key, low word first.
    pub const fn new(key: [u32; 2]) -> Self {
        Philox { key }
    }

    /// The generator whose key is the two halves of `seed`, low word first.
    pub const fn from_seed(seed: u64) -> Self {
        Philox { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The four random words that belong to `counter`.
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let mut x = counter;
        let mut key = self.key;
        for _ in 0..ROUNDS {
            let a = u64::from(M[0]) * u64::from(x[0]);
            let b = u64::from(M[1]) * u64::from(x[2]);
            x = [(b >> 32) as u32 ^ x[1] ^ key[0], b as u32, (a >> 32) as u32 ^ x[3] ^ key[1], a as u32];
            key = [key[0].wrapping_add(W[0]), key[1].wrapping_add(W[1])];
        }
        x
    }
}

/// A random word as a number in `[0, 1)`: its upper 24 bits times 2^-24, exact in `f32`.
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A random 64-bit word as an integer in `0..n` by multiply and shift; the bias is below `n / 2^64`.
/// 0 when `n` is 0.
pub fn below(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// A sequence of random numbers, keyed by a seed, a purpose and an index: streams that differ in any of the
/// three are independent. The counter is `[position, purpose, index low, index high]`; it repeats after
/// 2^34 words.
#[derive(Debug, Clone)]
pub struct Stream {
    philox: Philox,
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream for one use: `purpose` separates kinds of use (shuffling, initialisation, ...), `index`
    /// the instances within it (class, epoch, candidate, ...).
    pub fn new(seed: u64, purpose: u32, index: u64) -> Self {
        Stream {
            philox: Philox::from_seed(seed),
            counter: [0, purpose, index as u32, (index >> 32) as u32],
            words: [0; 4],
            used: 4,
            spare_normal: None,
        }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.philox.block(self.counter);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// The next 64 random bits: two words, low first.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// An integer in `0..n`; see [`below`].
    pub fn below(&mut self, n: u64) -> u64 {
        below(self.next_u64(), n)
    }

    /// A standard normal number (Box-Muller; each pair of uniforms gives two).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Puts `items` into a uniformly random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

pub mod seed_text {
    //! Seeds in files, for `#[serde(with = "altiplano::philox::seed_text")]`: whole numbers, and as text those that are
    //! beyond the integers of TOML. Both are read.

    use std::fmt;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    /// Writes a seed.
    pub fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(*seed) {
            Ok(seed) => serializer.serialize_i64(seed),
            Err(_) => serializer.serialize_str(&seed.to_string()),
        }
    }

    /// Reads a seed.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Seed)
    }

    struct Seed;

    impl Visitor<'_> for Seed {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a seed from 0 to {}, in quotes above {}", u64::MAX, i64::MAX)
        }

        fn visit_u64<E: Error>(self, seed: u64) -> Result<u64, E> {
            Ok(seed)
        }

        fn visit_i64<E: Error>(self, seed: i64) -> Result<u64, E> {
            u64::try_from(seed).map_err(|_| E::invalid_value(Unexpected::Signed(seed), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let seed = text.parse::<u64>().ok().filter(|_| digits);
            seed.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Run {
        #[serde(with = "crate::philox::seed_text")]
        seed: u64,
    }

    #[test]
    fn every_seed_is_read_back() {
        let border = i64::MAX as u64;
        for (seed, written) in [
            (0, "seed = 0\n"),
            (1, "seed = 1\n"),
            (border, "seed = 9223372036854775807\n"),
            (border + 1, "seed = \"9223372036854775808\"\n"),
            (u64::MAX, "seed = \"18446744073709551615\"\n"),
        ] {
            let run = Run { seed };
            let text = toml::to_string(&run).unwrap();
            assert_eq!(text, written);
            assert_eq!(toml::from_str::<Run>(&text).unwrap(), run);
            let table = toml::Table::try_from(&run).unwrap();
            let back: Run = table.try_into().unwrap();
            assert_eq!(back, run);
            assert_eq!(serde_json::from_str::<Run>(&serde_json::to_string(&run).unwrap()).unwrap(), run);
            assert_eq!(serde_json::from_str::<Run>(&format!("{{\"seed\": {seed}}}")).unwrap(), run);
        }
        for wrong in ["-1", "\"-1\"", "\"+1\"", "\"\"", "\"18446744073709551616\"", "1.5", "true", "\"one\""] {
            let why = toml::from_str::<Run>(&format!("seed = {wrong}")).unwrap_err().to_string();
            assert!(why.contains("a seed from 0 to 18446744073709551615"), "{wrong}: {why}");
        }
    }

    /// The known-answer tests that Random123 publishes for `philox4x32 10`.
    #[test]
    fn known_answers() {
        let zeros = Philox::new([0, 0]).block([0; 4]);
        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox::new([u32::MAX; 2]).block([u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox::new([0xa409_3822, 0x299f_31d0]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(pi.block(counter), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn ranges_hold_at_the_ends() {
        assert_eq!(uniform(0), 0.0);
        assert!(uniform(u32::MAX) < 1.0);
        assert_eq!(below(0, 10), 0);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(u64::MAX, 0), 0);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut stream = Stream::new(7, 1, 0);
        let n = 40_000;
        let (mut u, mut z, mut zz) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            u += stream.uniform();
            let x = stream.normal();
            z += x;
            zz += x * x;
        }
        let n = f64::from(n);
        assert!((u / n - 0.5).abs() < 0.01, "{}", u / n);
        assert!((z / n).abs() < 0.02 && (zz / n - 1.0).abs() < 0.03, "{} {}", z / n, zz / n);
    }

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose, index| {
            let mut s = Stream::new(seed, purpose, index);
            [s.next_u64(), s.next_u64(), s.next_u64()]
        };
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(1, 2, 3 | 1 << 40), draw(1 | 1 << 40, 2, 3)] {
            assert_ne!(draw(1, 2, 3), other);
        }
        let mut items: Vec<u32> = (0..100).collect();
        Stream::new(0, 0, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
