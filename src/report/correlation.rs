//! How well a score ranks architectures: what a zero-cost proxy is judged by.
//!
//! A higher score predicts a better architecture, and a higher truth is one; nothing here takes an absolute value. A score
//! that is NaN or infinite is the worst ([`worst_last`]): all such scores tie with each other, below every number. Truths are
//! finite numbers; what lacks one is for the caller to leave out.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::statistics::{kendall, kendall_error, mean, quantile, ranks, spearman};
use crate::error::{Error, Result};
use crate::philox::Stream;

/// Purpose words of the streams: resamples, and the random score.
const RESAMPLE_PURPOSE: u32 = 0x424F_4F54;
const SCORE_PURPOSE: u32 = 0x5253_434F;

/// How many architectures one may choose by score; see [`regret`].
pub const CHOICES: [usize; 3] = [1, 10, 100];

/// What is left of a variable's variation below this share counts as nothing: it is rounding.
const NOTHING: f64 = 1e-10;

/// What a score says of a truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Architectures that took part.
    pub n: usize,
    /// Scores among them that are NaN or infinite; they took part as the worst.
    pub invalid: usize,
    /// Spearman's rank correlation; `None` if the score or the truth is constant.
    pub spearman: Option<f64>,
    /// Lower end of the interval of the difference to the baseline's correlation, see [`bootstrap`].
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Kendall's tau-b; `None` if the score or the truth is constant.
    pub kendall: Option<f64>,
    /// Its standard error, see [`kendall_error`].
    pub kendall_error: Option<f64>,
    /// See [`partial`].
    pub partial: Option<f64>,
    /// See [`top_fifth`].
    pub top: Option<f64>,
    /// See [`regret`]; for those of [`CHOICES`] that are at most `n`.
    pub regret: BTreeMap<usize, f64>,
}

/// All figures of one score but the interval.
pub fn figures(scores: &[f64], truth: &[f64], controls: &[Vec<f64>]) -> Result<Figures> {
    same_length(scores, truth)?;
    let (scores, invalid) = worst_last(scores);
    let choices = CHOICES.iter().filter_map(|k| regret(&scores, truth, *k).map(|value| (*k, value)));
    Ok(Figures {
        n: truth.len(),
        invalid,
        spearman: spearman(&scores, truth)?.value,
        low: None,
        high: None,
        kendall: kendall(&scores, truth)?.value,
        kendall_error: kendall_error(&scores, truth)?,
        partial: partial(&scores, truth, controls)?,
        top: top_fifth(&scores, truth)?,
        regret: choices.collect(),
    })
}

/// The scores with everything that is no finite number turned into minus infinity, and how many that were.
pub fn worst_last(scores: &[f64]) -> (Vec<f64>, usize) {
    let invalid = scores.iter().filter(|score| !score.is_finite()).count();
    (scores.iter().map(|s| if s.is_finite() { *s } else { f64::NEG_INFINITY }).collect(), invalid)
}

/// Partial rank correlation of `x` and `y` given `controls`: all are replaced by their ranks, `x` and `y` by their residuals
/// of the linear regression (with intercept) on the controls, and these are correlated (Pearson).
///
/// A control that is constant, or a linear combination of the ones before it, changes nothing. `None` if the controls leave
/// nothing of `x` or of `y`, as when `x` is one of them.
pub fn partial(x: &[f64], y: &[f64], controls: &[Vec<f64>]) -> Result<Option<f64>> {
    same_length(x, y)?;
    let mut basis: Vec<Vec<f64>> = vec![];
    for control in controls {
        same_length(control, y)?;
        basis.extend(residual(&worst_last(control).0, &basis).map(|mut rest| {
            let length = dot(&rest, &rest).sqrt();
            rest.iter_mut().for_each(|value| *value /= length);
            rest
        }));
    }
    let (Some(x), Some(y)) = (residual(x, &basis), residual(y, &basis)) else { return Ok(None) };
    let value = dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
    Ok(value.is_finite().then(|| value.clamp(-1.0, 1.0)))
}

/// The ranks of `values` less their mean and less their parts along `basis`, whose members have length 1 and are at right
/// angles to each other; `None` if only rounding is left.
fn residual(values: &[f64], basis: &[Vec<f64>]) -> Option<Vec<f64>> {
    let mut rest = ranks(values);
    let middle = mean(&rest)?;
    rest.iter_mut().for_each(|value| *value -= middle);
    let whole = dot(&rest, &rest);
    // A second round removes what rounding left of the first.
    for direction in basis.iter().chain(basis) {
        let part = dot(&rest, direction);
        rest.iter_mut().zip(direction).for_each(|(value, d)| *value -= part * d);
    }
    (whole > 0.0 && dot(&rest, &rest) > NOTHING * whole).then_some(rest)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Spearman's correlation within the best fifth by truth, `ceil(n / 5)` architectures. Of equal truths at its edge those
/// that stand first are taken. `None` if the score or the truth is constant there.
pub fn top_fifth(scores: &[f64], truth: &[f64]) -> Result<Option<f64>> {
    same_length(scores, truth)?;
    let mut order: Vec<usize> = (0..truth.len()).collect();
    order.sort_by(|a, b| truth[*b].total_cmp(&truth[*a]));
    order.truncate(truth.len().div_ceil(5));
    let pick = |values: &[f64]| order.iter().map(|i| values[*i]).collect::<Vec<f64>>();
    Ok(spearman(&pick(scores), &pick(truth))?.value)
}

/// What is lost by looking only at the `k` architectures with the highest score: the best truth of all less the best among
/// these. If equal scores straddle the edge it is the mean over all ways to fill the places, so that no order of rows matters.
/// `None` if `k` is 0 or more than there are.
pub fn regret(scores: &[f64], truth: &[f64], k: usize) -> Option<f64> {
    let n = scores.len();
    if k == 0 || k > n || truth.len() != n {
        return None;
    }
    let best = |list: &[usize]| list.iter().map(|i| truth[*i]).fold(f64::NEG_INFINITY, f64::max);
    let mut order: Vec<usize> = (0..n).collect();
    let descending = |a: &usize, b: &usize| scores[*b].partial_cmp(&scores[*a]).unwrap_or(std::cmp::Ordering::Equal);
    order.sort_by(descending);
    let edge = scores[order[k - 1]];
    let start = order.iter().position(|i| scores[*i] == edge)?;
    let end = start + order[start..].iter().take_while(|i| scores[**i] == edge).count();
    let sure = best(&order[..start]);
    let mut tied: Vec<f64> = order[start..end].iter().map(|i| truth[*i]).collect();
    tied.sort_by(|a, b| b.total_cmp(a));
    // Of m equal scores r are drawn. The best drawn is the j-th of them with probability C(m - 1 - j, r - 1) / C(m, r).
    let (m, r) = (tied.len(), k - start);
    let (mut none_before, mut expected) = (1.0, 0.0);
    for (j, value) in tied.iter().enumerate().take(m - r + 1) {
        // That the j-th is drawn if none before it was.
        let now = r as f64 / (m - j) as f64;
        expected += none_before * now * value.max(sure);
        none_before *= 1.0 - now;
    }
    Some((best(&order) - expected).max(0.0))
}

/// A score that knows nothing: a uniform number of the seed and the architecture's number.
pub fn random_score(seed: u64, architecture: u64) -> f64 {
    Stream::new(seed, SCORE_PURPOSE, architecture).uniform()
}

/// Intervals that hold 95 % of the paired bootstrap's differences `rho(score) - rho(baseline)` (Spearman), one for each of
/// `scores`: percentiles 2.5 and 97.5 over `resamples` draws of `n` architectures with replacement (Efron and Tibshirani
/// 1993, chapter 13). All scores see the same draws.
///
/// Draws in which something is constant are left out; `None` if that is more than half of them, or none was asked for. A
/// draw is a function of the seed and its number, so that the result does not depend on threads.
pub fn bootstrap(
    scores: &[Vec<f64>],
    baseline: &[f64],
    truth: &[f64],
    resamples: usize,
    seed: u64,
) -> Result<Vec<Option<(f64, f64)>>> {
    let n = truth.len();
    scores.iter().map(Vec::as_slice).chain([baseline]).try_for_each(|list| same_length(list, truth))?;
    let targets = Levels::new(truth);
    let sides: Vec<Levels> =
        [baseline].into_iter().chain(scores.iter().map(Vec::as_slice)).map(|s| Levels::new(&worst_last(s).0)).collect();
    let draws: Vec<Vec<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map_init(Buffers::default, |buffers, number| {
            let mut draw = Stream::new(seed, RESAMPLE_PURPOSE, number);
            buffers.times.clear();
            buffers.times.resize(n, 0);
            for _ in 0..n {
                buffers.times[draw.below(n as u64) as usize] += 1;
            }
            let whole = targets.deviations(&buffers.times, &mut buffers.deviations);
            buffers.weighted.clear();
            let weighted = targets.of.iter().zip(&buffers.times);
            buffers.weighted.extend(weighted.map(|(level, times)| f64::from(*times) * buffers.deviations[*level]));
            let mut values = sides.iter().map(|side| {
                let own = side.deviations(&buffers.times, &mut buffers.deviations);
                let both: f64 = side.of.iter().zip(&buffers.weighted).map(|(l, w)| w * buffers.deviations[*l]).sum();
                // NaN if a side is constant.
                if own * whole > 0.0 { both / (own * whole).sqrt() } else { f64::NAN }
            });
            let base = values.next().unwrap_or(f64::NAN);
            values.map(|value| value - base).collect()
        })
        .collect();
    let interval = |score: usize| {
        let differences: Vec<f64> = draws.iter().map(|draw| draw[score]).filter(|d| !d.is_nan()).collect();
        let enough = 2 * differences.len() > resamples;
        quantile(&differences, 0.025).zip(quantile(&differences, 0.975)).filter(|_| enough)
    };
    Ok((0..scores.len()).map(interval).collect())
}

/// What a thread reuses between resamples.
#[derive(Default)]
struct Buffers {
    times: Vec<u32>,
    deviations: Vec<f64>,
    weighted: Vec<f64>,
}

/// Values by their place among the different values, from which ranks in a resample follow without sorting.
struct Levels {
    of: Vec<usize>,
    count: usize,
}

impl Levels {
    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].partial_cmp(&values[*b]).unwrap_or(std::cmp::Ordering::Equal));
        let mut levels = Levels { of: vec![0; values.len()], count: 0 };
        for run in order.chunk_by(|a, b| values[*a] == values[*b]) {
            run.iter().for_each(|i| levels.of[*i] = levels.count);
            levels.count += 1;
        }
        levels
    }

    /// Each level's mean rank less the mean of all ranks, if the i-th value is there `times[i]` times; the sum of squares over
    /// all values. Every term is a multiple of 1/4, so that the sums are exact in any order up to 100,000 values.
    fn deviations(&self, times: &[u32], into: &mut Vec<f64>) -> f64 {
        into.clear();
        into.resize(self.count, 0.0);
        self.of.iter().zip(times).for_each(|(level, times)| into[*level] += f64::from(*times));
        let middle = (times.len() + 1) as f64 / 2.0;
        let (mut below, mut squares) = (0.0, 0.0);
        for slot in into {
            let here = *slot;
            *slot = below + (here + 1.0) / 2.0 - middle;
            squares += here * *slot * *slot;
            below += here;
        }
        squares
    }
}

fn same_length(a: &[f64], b: &[f64]) -> Result<()> {
    if a.len() == b.len() {
        return Ok(());
    }
    let why = format!("{} values on one side and {} on the other, expected as many", a.len(), b.len());
    Err(Error::invalid("correlation", why))
}

#[cfg(test)]
#[path = "correlation_tests.rs"]
mod tests;
