//! Poisson numbers by inversion: a uniform number is looked up in the distribution function.
//!
//! The rates are as many as there are bytes, so that their distributions are tabulated once.

use std::sync::OnceLock;

/// Rates of Poisson numbers per byte: `scale * v / 255` for the byte v.
#[derive(Debug)]
pub struct Rates {
    scale: f64,
    tables: OnceLock<Vec<Table>>,
}

/// Entry points per distribution.
const GUIDES: usize = 256;
/// Probabilities below this share of the largest are left out. All of them together are far below the 2^-53 to which a
/// uniform number is known.
const NEGLIGIBLE: f64 = 1e-24;

/// A distribution function.
#[derive(Debug)]
struct Table {
    /// The number whose probability is the first entry.
    first: u32,
    /// P(X <= first + i). The last is 1.
    cumulative: Vec<f64>,
    /// Where to start the search for a uniform number in [i / 256, (i + 1) / 256).
    guides: [u16; GUIDES],
}

impl Rates {
    /// `scale` is the rate of the byte 255: above 0 and at most 10000.
    pub(super) const fn new(scale: f64) -> Self {
        Rates { scale, tables: OnceLock::new() }
    }

    /// The rate of the byte 255.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The mean of the numbers for `byte`.
    pub fn mean(&self, byte: u8) -> f64 {
        f64::from(byte) / 255.0 * self.scale
    }

    /// The Poisson number for `byte` that belongs to `u` in [0, 1): the smallest one whose distribution function
    /// exceeds `u`.
    pub fn number(&self, byte: u8, u: f64) -> f64 {
        let tables = self.tables.get_or_init(|| (0..=255).map(|byte| Table::new(self.mean(byte))).collect());
        tables[usize::from(byte)].number(u)
    }
}

impl Table {
    fn new(rate: f64) -> Table {
        // Shares of the largest probability, from the mode downward and upward.
        let mode = rate.floor();
        let mut shares = vec![1.0];
        let (mut share, mut k) = (1.0, mode);
        while k > 0.0 && share > NEGLIGIBLE {
            share *= k / rate;
            k -= 1.0;
            shares.push(share);
        }
        let first = k as u32;
        shares.reverse();
        (share, k) = (1.0, mode);
        loop {
            k += 1.0;
            share *= rate / k;
            if share <= NEGLIGIBLE {
                break;
            }
            shares.push(share);
        }
        let sum: f64 = shares.iter().sum();
        let mut below = 0.0;
        let mut cumulative: Vec<f64> = shares
            .iter()
            .map(|share| {
                below += share / sum;
                below
            })
            .collect();
        if let Some(last) = cumulative.last_mut() {
            *last = 1.0;
        }
        let guide = |i: usize| cumulative.partition_point(|&p| p <= i as f64 / GUIDES as f64) as u16;
        Table { first, guides: std::array::from_fn(guide), cumulative }
    }

    fn number(&self, u: f64) -> f64 {
        let start = usize::from(self.guides[((u * GUIDES as f64) as usize).min(GUIDES - 1)]);
        let steps = self.cumulative[start..].iter().take_while(|&&p| p <= u).count();
        f64::from(self.first) + (start + steps) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    /// ln P(X = k) by the definition.
    fn ln_probability(rate: f64, k: usize) -> f64 {
        (1..=k).map(|i| (rate / i as f64).ln()).sum::<f64>() - rate
    }

    #[test]
    fn tables_hold_the_distribution_function() {
        for scale in [3.0, 60.0, 500.0] {
            let rates = Rates::new(scale);
            for byte in [1, 2, 100, 255] {
                rates.number(byte, 0.0);
                let table = &rates.tables.get().unwrap()[usize::from(byte)];
                let mut sum = 0.0;
                for k in 0..table.first as usize + table.cumulative.len() {
                    sum += ln_probability(rates.mean(byte), k).exp();
                    if k >= table.first as usize {
                        let got = table.cumulative[k - table.first as usize];
                        assert!((got - sum).abs() < 1e-11, "{scale} {byte} {k}: {got} {sum}");
                    }
                }
                assert!((sum - 1.0).abs() < 1e-11);
            }
        }
    }

    #[test]
    fn numbers_invert_the_function() {
        let rates = Rates::new(2.55);
        // Byte 100 has rate 1: P(0) = 0.3679, P(<= 1) = 0.7358, P(<= 2) = 0.9197.
        let got = [0.0, 0.367, 0.368, 0.735, 0.736, 0.919, 0.92].map(|u| rates.number(100, u));
        assert_eq!(got, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0]);
        assert_eq!([rates.number(0, 0.0), rates.number(0, 1.0 - f64::EPSILON / 2.0)], [0.0, 0.0]);
        assert!(rates.number(255, 1.0 - f64::EPSILON / 2.0) < 40.0);
    }

    /// Chi-square of the counts against the probabilities.
    #[test]
    fn counts_follow_the_distribution() {
        for scale in [0.5, 3.0, 75.0, 500.0] {
            let (draws, rates) = (100_000, Rates::new(scale));
            let mut stream = Stream::new(5, 9, scale as u64);
            let mut counts = vec![0.0; 1000];
            for _ in 0..draws {
                counts[rates.number(200, stream.uniform()) as usize] += 1.0;
            }
            let (mut chi, mut bins, mut expected, mut seen) = (0.0, 0.0, 0.0, 0.0);
            for (k, &count) in counts.iter().enumerate() {
                expected += f64::from(draws) * ln_probability(rates.mean(200), k).exp();
                seen += count;
                if expected > 20.0 {
                    chi += (seen - expected) * (seen - expected) / expected;
                    bins += 1.0;
                    (expected, seen) = (0.0, 0.0);
                }
            }
            let freedom: f64 = f64::max(bins - 1.0, 1.0);
            assert!(chi < freedom + 4.5 * (2.0 * freedom).sqrt() + 3.0, "scale {scale}: {chi} for {freedom}");
        }
    }
}
