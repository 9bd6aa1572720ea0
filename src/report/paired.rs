//! Differences of pairs: their mean, and bounds for it that no distribution has to be assumed for.

use serde::Serialize;

use super::statistics::{mean, quantile};
use crate::philox::Stream;

/// From so many pairs on bounds are those of resamples; below they are exact.
const RESAMPLED_FROM: usize = 20;
const RESAMPLES: usize = 10_000;
/// Purpose word of resamples.
const PURPOSE: u32 = 0x5041_4952;
/// The share of cases that may lie outside of the bounds.
const OUTSIDE: f64 = 0.05;

/// What pairs say of a difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Pairs with both numbers.
    pub pairs: usize,
    /// Pairs with a difference above 0, and with none.
    pub wins: usize,
    /// Pairs without a difference.
    pub ties: usize,
    /// Mean difference.
    pub mean: f64,
    /// Bounds of it at 95 %; none from fewer than six pairs, of which no bounds are that sure.
    pub bounds: Option<[f64; 2]>,
}

impl Paired {
    /// Of differences; those that are no numbers are left out. `None` if there are no others.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let known: Vec<f64> = differences.iter().copied().filter(|d| d.is_finite()).collect();
        let bounds = if known.len() < RESAMPLED_FROM { sign_flips(&known) } else { resamples(&known) };
        Some(Paired {
            pairs: known.len(),
            wins: known.iter().filter(|d| **d > 0.0).count(),
            ties: known.iter().filter(|d| **d == 0.0).count(),
            mean: mean(&known)?,
            bounds,
        })
    }
}

impl std::fmt::Display for Paired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bounds {
            Some([low, high]) => write!(f, "{:+.2} ({low:+.2} to {high:+.2})", self.mean),
            None => write!(f, "{:+.2}", self.mean),
        }
    }
}

/// Exact bounds by flips of signs: of differences that lie evenly about their middle, this falls with equal probability into each of the
/// intervals between the sorted means of all subsets (Hartigan, JASA 64, 1969, theorem 1).
fn sign_flips(differences: &[f64]) -> Option<[f64; 2]> {
    let subsets = 1usize << differences.len();
    let outside = (OUTSIDE / 2.0 * subsets as f64).floor() as usize;
    if outside == 0 {
        return None;
    }
    let mut means = Vec::with_capacity(subsets - 1);
    for subset in 1..subsets {
        let own = differences.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
        let (sum, count) = own.fold((0.0, 0.0), |(sum, count), (_, d)| (sum + d, count + 1.0));
        means.push(sum / count);
    }
    means.sort_by(f64::total_cmp);
    Some([means[outside - 1], means[means.len() - outside]])
}

/// Bounds by resampling the pairs.
fn resamples(differences: &[f64]) -> Option<[f64; 2]> {
    let mut draw = Stream::new(differences.len() as u64, PURPOSE, 0);
    let n = differences.len();
    let resample = |_| (0..n).map(|_| differences[draw.below(n as u64) as usize]).sum::<f64>() / n as f64;
    let means: Vec<f64> = (0..RESAMPLES).map(resample).collect();
    Some([quantile(&means, OUTSIDE / 2.0)?, quantile(&means, 1.0 - OUTSIDE / 2.0)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(Paired::of(&[f64::NAN]), None);
        // Of five pairs 32 intervals, of which each has more than 2.5 %.
        let five = Paired::of(&[1.0, 2.0, 0.0, -1.0, 3.0]).unwrap();
        assert_eq!((five.pairs, five.wins, five.ties, five.mean, five.bounds), (5, 3, 1, 1.0, None));
        // Of six 64: one of them may lie outside on either side, so the bounds are the least and the largest.
        let six = Paired::of(&[4.0, 1.0, 2.0, 6.0, 3.0, 5.0, f64::INFINITY]).unwrap();
        assert_eq!((six.pairs, six.mean, six.bounds), (6, 3.5, Some([1.0, 6.0])));
        assert_eq!(six.to_string(), "+3.50 (+1.00 to +6.00)");
        // Of seven 128: three outside. The least means of subsets are 1, (1 + 2) / 2, and 2 or (1 + 3) / 2.
        assert_eq!(Paired::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).unwrap().bounds, Some([2.0, 6.0]));
    }

    /// Bounds hold the truth as often as they say, few pairs or many.
    #[test]
    fn bounds_are_as_sure_as_they_say() {
        let mut draw = Stream::new(7, 1, 0);
        // Even about 0.3, with long ends.
        let mut value = || 0.3 + (draw.uniform() - 0.5) / (1.05 - draw.uniform());
        for (pairs, low, high) in [(6, 0.94, 1.0), (9, 0.93, 0.97), (25, 0.9, 0.97)] {
            let trials = if pairs < RESAMPLED_FROM { 1_000 } else { 150 };
            let held = (0..trials).filter(|_| {
                let sample: Vec<f64> = (0..pairs).map(|_| value()).collect();
                let [low, high] = Paired::of(&sample).unwrap().bounds.unwrap();
                (low..=high).contains(&0.3)
            });
            let share = held.count() as f64 / f64::from(trials);
            assert!((low..=high).contains(&share), "{pairs} pairs: {share}");
        }
    }
}
