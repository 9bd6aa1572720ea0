//! Rank correlation and summaries.
//!
//! A pair with a NaN in it, or a NaN in a summary, is left out and counted: what to make of failures is
//! for the caller to decide and to report. Infinities take part, at the ends of the ranking.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};

/// A correlation and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// -1 to 1; `None` with fewer than two pairs, or when one side is constant.
    pub value: Option<f64>,
    /// Pairs that took part.
    pub n: usize,
    /// Pairs left out for a NaN.
    pub rejected: usize,
}

/// Spearman's rank correlation: Pearson's of the ranks, equals sharing their mean rank.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Correlation> {
    let (x, y, rejected) = pairs(x, y)?;
    Ok(Correlation { value: pearson_of(&ranks(&x), &ranks(&y)), n: x.len(), rejected })
}

/// Pearson's correlation. `None` also when an infinity takes part.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Correlation> {
    let (x, y, rejected) = pairs(x, y)?;
    Ok(Correlation { value: pearson_of(&x, &y), n: x.len(), rejected })
}

/// Kendall's tau-b (Kendall 1945): `(concordant - discordant) / sqrt((n0 - n1) (n0 - n2))`, where `n0` is
/// the number of pairs of pairs and `n1`, `n2` those tied in x and in y. Sorting makes it `O(n log n)`
/// (Knight, JASA 1966).
pub fn kendall(x: &[f64], y: &[f64]) -> Result<Correlation> {
    let (x, y, rejected) = pairs(x, y)?;
    let n = x.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| compare(x[*a], x[*b]).then(compare(y[*a], y[*b])));
    let tied_x = ties(&order, |a, b| x[a] == x[b]);
    let tied_both = ties(&order, |a, b| x[a] == x[b] && y[a] == y[b]);
    let mut sorted: Vec<f64> = order.iter().map(|i| y[*i]).collect();
    let discordant = exchanges(&mut sorted);
    let places: Vec<usize> = (0..n).collect();
    let tied_y = ties(&places, |a, b| sorted[a] == sorted[b]);
    let all = choose_two(n);
    let score = all as f64 - tied_x as f64 - tied_y as f64 + tied_both as f64 - 2.0 * discordant as f64;
    // Below 2^53, and so exact before the root, up to 13,000 values; and no rounding for a perfect order.
    let scale = ((all - tied_x) as f64 * (all - tied_y) as f64).sqrt();
    let value = (scale > 0.0).then(|| (score / scale).clamp(-1.0, 1.0));
    Ok(Correlation { value, n, rejected })
}

/// The standard error of Kendall's tau-b by the jackknife (Efron and Tibshirani 1993, chapter 11): from its values where each pair of
/// values in turn is left out. `None` where one of these does not exist, and for less than three pairs. Looks at all pairs of pairs.
pub fn kendall_error(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    let (x, y, _) = pairs(x, y)?;
    let (x, y, n) = (levels(&x), levels(&y), x.len());
    // Of each: those above or below it alike, less those unlike; those tied with it in x, and in y.
    let against_all = |i: usize| {
        let mut sums = [0i32; 3];
        for (a, b) in x.iter().zip(&y) {
            let (a, b) = ((x[i] - a).signum(), (y[i] - b).signum());
            sums[0] += a * b;
            sums[1] += 1 - a * a;
            sums[2] += 1 - b * b;
        }
        // Not with itself.
        [sums[0], sums[1] - 1, sums[2] - 1].map(i64::from)
    };
    let own: Vec<[i64; 3]> = (0..n).into_par_iter().map(against_all).collect();
    let total = |part: usize| own.iter().map(|sums| sums[part]).sum::<i64>() / 2;
    let (totals, all) = ([0, 1, 2].map(total), choose_two(n.saturating_sub(1)) as f64);
    let left_out = |sums: &[i64; 3]| {
        let [score, tied_x, tied_y] = [0, 1, 2].map(|part| (totals[part] - sums[part]) as f64);
        let scale = ((all - tied_x) * (all - tied_y)).sqrt();
        (scale > 0.0).then(|| score / scale)
    };
    let Some(values) = own.iter().map(left_out).collect::<Option<Vec<f64>>>().filter(|_| n >= 3) else {
        return Ok(None);
    };
    let middle = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    Ok(Some((squares * (n - 1) as f64 / n as f64).sqrt()))
}

/// Values by their place among the different values.
fn levels(values: &[f64]) -> Vec<i32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| compare(values[*a], values[*b]));
    let mut levels = vec![0; values.len()];
    for (level, run) in order.chunk_by(|a, b| values[*a] == values[*b]).enumerate() {
        run.iter().for_each(|i| levels[*i] = level as i32);
    }
    levels
}

/// Ranks from 1, equals share their mean rank. Without NaN.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| compare(values[*a], values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|a, b| values[*a] == values[*b]) {
        // Ranks start + 1 to start + len.
        let mean = start as f64 + (run.len() + 1) as f64 / 2.0;
        for place in run {
            ranks[*place] = mean;
        }
        start += run.len();
    }
    ranks
}

/// NaN does not occur; both zeros are equal.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

fn pairs(x: &[f64], y: &[f64]) -> Result<(Vec<f64>, Vec<f64>, usize)> {
    if x.len() != y.len() {
        let why = format!("{} values on one side and {} on the other, expected as many", x.len(), y.len());
        return Err(Error::invalid("correlation", why));
    }
    let whole = x.iter().zip(y).filter(|(a, b)| !a.is_nan() && !b.is_nan());
    let (a, b): (Vec<f64>, Vec<f64>) = whole.map(|(a, b)| (*a, *b)).unzip();
    let rejected = x.len() - a.len();
    Ok((a, b, rejected))
}

fn pearson_of(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mx, my) = (mean(x)?, mean(y)?);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - mx, b - my);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    let value = xy / (xx * yy).sqrt();
    (xx > 0.0 && yy > 0.0 && !value.is_nan()).then(|| value.clamp(-1.0, 1.0))
}

fn choose_two(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

/// Pairs within runs of equals.
fn ties(order: &[usize], equal: impl Fn(usize, usize) -> bool) -> u64 {
    order.chunk_by(|a, b| equal(*a, *b)).map(|run| choose_two(run.len())).sum()
}

/// Sorts by merging and counts the pairs that stood in the wrong order.
fn exchanges(values: &mut [f64]) -> u64 {
    let n = values.len();
    let mut other = vec![0.0; n];
    let mut count = 0;
    let mut width = 1;
    while width < n {
        for start in (0..n).step_by(2 * width) {
            let (middle, end) = ((start + width).min(n), (start + 2 * width).min(n));
            let (mut left, mut right) = (start, middle);
            for slot in &mut other[start..end] {
                if right == end || (left < middle && values[left] <= values[right]) {
                    *slot = values[left];
                    left += 1;
                } else {
                    *slot = values[right];
                    count += (middle - left) as u64;
                    right += 1;
                }
            }
        }
        values.copy_from_slice(&other);
        width *= 2;
    }
    count
}

/// What remains without NaN, sorted.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut kept: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    kept.sort_by(f64::total_cmp);
    kept
}

/// The mean without NaN; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    let (sum, n) = values.iter().filter(|v| !v.is_nan()).fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// The standard deviation of a sample, with `n - 1`, without NaN; `None` of fewer than two.
pub fn std(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let kept = values.iter().filter(|v| !v.is_nan());
    let (squares, n) = kept.fold((0.0, 0usize), |(sum, n), v| (sum + (v - mean) * (v - mean), n + 1));
    (n > 1).then(|| (squares / (n - 1) as f64).sqrt())
}

/// The median without NaN: of an even number the mean of the middle two; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The `q`-quantile, `q` from 0 to 1, without NaN: linear between the order statistics (type 7 of Hyndman
/// and Fan 1996, the default of R and NumPy). `None` of nothing, or for another `q`.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    let kept = sorted(values);
    let place = q * kept.len().checked_sub(1)? as f64;
    let low = *kept.get(place.floor() as usize)?;
    let high = *kept.get(place.ceil() as usize)?;
    let part = place.fract();
    // Also right between equal infinities.
    Some(if part == 0.0 || low == high { low } else { low + part * (high - low) })
}

/// Quartiles, median in the middle, of some curves at each place; a curve that has ended stays at its last value.
pub fn quartiles(curves: &[Vec<f64>]) -> Vec<[f64; 3]> {
    let longest = curves.iter().map(Vec::len).max().unwrap_or(0);
    let at = |place: usize| -> Vec<f64> {
        curves.iter().filter_map(|curve| curve.get(place).or(curve.last()).copied()).collect()
    };
    (0..longest).map(at).map(|values| [0.25, 0.5, 0.75].map(|q| quantile(&values, q).unwrap_or(f64::NAN))).collect()
}

/// A sample in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Values that took part.
    pub n: usize,
    /// Values left out as NaN.
    pub rejected: usize,
    /// See [`mean`].
    pub mean: Option<f64>,
    /// See [`std()`].
    pub std: Option<f64>,
    /// See [`median`].
    pub median: Option<f64>,
    /// The first and third quartile.
    pub quartiles: Option<(f64, f64)>,
}

/// All of these at once.
pub fn summary(values: &[f64]) -> Summary {
    let rejected = values.iter().filter(|v| v.is_nan()).count();
    Summary {
        n: values.len() - rejected,
        rejected,
        mean: mean(values),
        std: std(values),
        median: median(values),
        quartiles: quantile(values, 0.25).zip(quantile(values, 0.75)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn close(got: Option<f64>, expected: f64) {
        assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?} instead of {expected}");
    }

    #[test]
    fn by_hand() {
        // Ranks 1 2.5 2.5 4 against 1 2 4 3: deviations -1.5 0 0 1.5 and -1.5 -.5 1.5 .5, products 3, squares 4.5 and 5.
        let (x, y) = ([1.0, 5.0, 5.0, 9.0], [0.1, 0.2, 0.9, 0.3]);
        close(spearman(&x, &y).unwrap().value, 3.0 / 22.5f64.sqrt());
        // Of six pairs one tied in x, one discordant (3rd and 4th), four concordant.
        close(kendall(&x, &y).unwrap().value, 3.0 / 30f64.sqrt());
        assert_eq!(ranks(&[3.0, -0.0, 0.0, 3.0, 3.0]), [4.0, 1.5, 1.5, 4.0, 4.0]);
    }

    #[test]
    fn as_scipy() {
        let (x, y) = ([1.0, 1.0, 2.0, 2.0, 3.0], [5.0, 5.0, 5.0, 4.0, 4.0]);
        close(kendall(&x, &y).unwrap().value, -0.7216878364870322);
        close(spearman(&x, &y).unwrap().value, -0.7607257743127307);
        close(pearson(&x, &y).unwrap().value, -0.763762615825973);
        let x = [
            3, 4, 1, 1, 4, 4, 0, 1, 3, 2, 4, 1, 4, 3, 4, 2, 0, 1, 3, 3, 0, 0, 3, 4, 0, 1, 5, 2, 4, 0, 0, 2, 0, 5, 2, 3,
            5, 1, 4, 5,
        ];
        let y = [
            5, 3, 2, 0, 6, 2, 0, 3, 1, 3, 3, 2, 3, 4, 5, 3, 0, 1, 3, 4, 0, 1, 5, 2, 0, 3, 6, 2, 4, 0, 0, 2, 0, 6, 2, 4,
            6, 0, 3, 3,
        ];
        let (x, y) = (x.map(f64::from), y.map(f64::from));
        close(kendall(&x, &y).unwrap().value, 0.6767837837531153);
        close(spearman(&x, &y).unwrap().value, 0.7914588769578023);
        close(pearson(&x, &y).unwrap().value, 0.8018884059081215);
        let up: Vec<f64> = (0..10).map(f64::from).collect();
        let down: Vec<f64> = up.iter().map(|v| -v).collect();
        close(kendall(&up, &down).unwrap().value, -1.0);
        close(spearman(&up, &down).unwrap().value, -1.0);
    }

    #[test]
    fn nan_is_counted_and_nothing_is_undefined() {
        let (x, y) = ([1.0, f64::NAN, 2.0, 3.0, 9.0], [1.0, 0.0, 2.0, f64::INFINITY, f64::NAN]);
        for correlation in [kendall(&x, &y), spearman(&x, &y)] {
            assert_eq!(correlation.unwrap(), Correlation { value: Some(1.0), n: 3, rejected: 2 });
        }
        assert_eq!(pearson(&x, &y).unwrap().value, None);
        for correlation in [kendall, spearman, pearson] {
            assert_eq!(correlation(&[], &[]).unwrap().value, None);
            assert_eq!(correlation(&[1.0], &[1.0]).unwrap().value, None);
            assert_eq!(correlation(&[1.0, 2.0], &[4.0, 4.0]).unwrap().value, None);
            assert!(correlation(&[1.0], &[]).unwrap_err().to_string().contains("1 values on one side and 0"));
        }
    }

    #[test]
    fn summaries_by_hand() {
        let values = [4.0, f64::NAN, 1.0, 2.0, 3.0];
        assert_eq!((mean(&values), median(&values)), (Some(2.5), Some(2.5)));
        // Squares 2.25 .25 .25 2.25 over three.
        close(std(&values), (5.0f64 / 3.0).sqrt());
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0)), (Some(1.0), Some(4.0)));
        close(quantile(&values, 0.25), 1.75);
        close(quantile(&values, 0.9), 3.7);
        assert_eq!((quantile(&values, 1.1), quantile(&values, f64::NAN)), (None, None));
        assert_eq!((mean(&[]), std(&[1.0]), median(&[f64::NAN])), (None, None, None));
        assert_eq!(median(&[f64::INFINITY, f64::INFINITY]), Some(f64::INFINITY));
        let all = summary(&values);
        assert_eq!((all.n, all.rejected, all.quartiles), (4, 1, Some((1.75, 3.25))));
    }

    proptest! {
        #[test]
        fn kendall_is_what_counting_pairs_gives(points in prop::collection::vec((0u8..7, 0u8..7), 0..40)) {
            let x: Vec<f64> = points.iter().map(|p| f64::from(p.0)).collect();
            let y: Vec<f64> = points.iter().map(|p| f64::from(p.1)).collect();
            let (mut score, mut untied_x, mut untied_y) = (0.0, 0.0f64, 0.0f64);
            for i in 0..x.len() {
                for j in 0..i {
                    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
                    let (a, b) = (sign(x[i] - x[j]), sign(y[i] - y[j]));
                    score += a * b;
                    untied_x += a * a;
                    untied_y += b * b;
                }
            }
            let expected = score / (untied_x * untied_y).sqrt();
            match kendall(&x, &y).unwrap().value {
                Some(value) => prop_assert!((value - expected).abs() < 1e-12),
                None => prop_assert!(expected.is_nan()),
            }
        }
    }
}
