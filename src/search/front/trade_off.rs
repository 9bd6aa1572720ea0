//! Which points of a front to take: those where a little gain in one objective costs most in the others.
//!
//! The measure is that of Rachmawati and Srinivasan, "Multiobjective evolutionary algorithm with
//! controllable focus on the knees of the Pareto front", IEEE Trans. Evol. Comput. 13(4), 2009, within a
//! neighbourhood, as MSuNAS and CNAS take it for the networks that they report.

use super::pareto::front_of_rows;
use crate::report::statistics::mean;

/// Radius of a neighbourhood, in the units of the (normalised) objectives.
pub const EPSILON: f64 = 0.125;

/// How many points are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Those at least two standard deviations above the mean trade-off, and else the one of highest.
    Outliers,
    /// This many of the highest trade-off, as CNAS does.
    Largest(usize),
}

/// Picks from the non-dominated ones of `rows` (all minimised, rows that are not finite never picked).
///
/// Indices into `rows`. By [`Pick::Largest`] they come with rising trade-off, so that the last one is the
/// most pronounced knee; this is the order in which CNAS numbers its networks. `normalise` puts each
/// objective of the front between 0 (ideal) and 1 (nadir) first.
pub fn high_trade_off<R: AsRef<[f64]>>(rows: &[R], pick: Pick, normalise: bool) -> Vec<usize> {
    let front = front_of_rows(rows);
    let kept: Vec<&[f64]> = front.iter().map(|i| rows[*i].as_ref()).collect();
    let mu = trade_offs(&kept, normalise);
    let places = match pick {
        Pick::Outliers => outliers(&mu),
        Pick::Largest(count) => largest(&mu, count),
    };
    places.into_iter().map(|place| front[place]).collect()
}

/// The trade-off of each row of a front: the least, over its neighbours, of what a move to the neighbour
/// loses, summed over the objectives, divided by what it gains.
///
/// Neighbours are all rows within [`EPSILON`], or, if these are fewer, the nearest two for each objective.
/// Minus infinity for a row without a neighbour that differs from it.
pub fn trade_offs<R: AsRef<[f64]>>(front: &[R], normalise: bool) -> Vec<f64> {
    let rows = if normalise { normalised(front) } else { front.iter().map(|row| row.as_ref().to_vec()).collect() };
    let objectives = rows.first().map_or(0, Vec::len);
    let least = (2 * objectives).min(rows.len().saturating_sub(1));
    (0..rows.len())
        .map(|own| {
            let ratios = neighbours(&rows, own, least).into_iter().filter_map(|other| {
                let change = rows[own].iter().zip(&rows[other]).map(|(own, other)| other - own);
                let (loss, gain) =
                    change.fold((0.0, 0.0), |(loss, gain), d| (loss + f64::max(d, 0.0), gain + f64::max(-d, 0.0)));
                // 0 by 0, of a copy, says nothing.
                (loss > 0.0 || gain > 0.0).then(|| loss / gain)
            });
            ratios.reduce(f64::min).unwrap_or(f64::NEG_INFINITY)
        })
        .collect()
}

/// The places of the neighbours of row `own`, itself left out.
fn neighbours(rows: &[Vec<f64>], own: usize, least: usize) -> Vec<usize> {
    let squares = |other: usize| rows[own].iter().zip(&rows[other]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let mut near: Vec<(f64, usize)> =
        (0..rows.len()).filter(|other| *other != own).map(|other| (squares(other).sqrt(), other)).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let within = near.iter().take_while(|(distance, _)| *distance <= EPSILON).count();
    near.iter().take(within.max(least)).map(|(_, other)| *other).collect()
}

/// Each objective from 0 to 1 over the rows; one in which all are equal becomes 0.
fn normalised<R: AsRef<[f64]>>(rows: &[R]) -> Vec<Vec<f64>> {
    let mut scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.as_ref().to_vec()).collect();
    let objectives = scaled.iter().map(Vec::len).min().unwrap_or(0);
    for objective in 0..objectives {
        let column = scaled.iter().map(|row| row[objective]);
        let (low, high) = column.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        for row in &mut scaled {
            row[objective] = if high > low { (row[objective] - low) / (high - low) } else { 0.0 };
        }
    }
    scaled
}

/// The places of values at least two (population) standard deviations above the mean, increasing; if there
/// are none, the first of the largest.
fn outliers(mu: &[f64]) -> Vec<usize> {
    let finite: Vec<f64> = mu.iter().copied().filter(|value| value.is_finite()).collect();
    let centre = mean(&finite).unwrap_or(0.0);
    let variance = finite.iter().map(|value| (value - centre) * (value - centre)).sum::<f64>() / finite.len() as f64;
    let found: Vec<usize> = (0..mu.len())
        .filter(|place| variance > 0.0 && mu[*place].is_finite() && mu[*place] - centre >= 2.0 * variance.sqrt())
        .collect();
    if found.is_empty() { largest(mu, 1) } else { found }
}

/// The places of the largest values, rising; of equals the earlier is the larger.
fn largest(mu: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..mu.len()).collect();
    order.sort_by(|a, b| mu[*b].total_cmp(&mu[*a]));
    order.truncate(count);
    order.reverse();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A front with one sharp knee at (1, 1).
    const KNEE: [[f64; 2]; 5] = [[0.0, 10.0], [0.5, 5.5], [1.0, 1.0], [5.5, 0.5], [10.0, 0.0]];

    #[test]
    fn finds_the_knee() {
        assert_eq!(high_trade_off(&KNEE, Pick::Outliers, true), [2]);
        assert_eq!(high_trade_off(&KNEE, Pick::Largest(1), true), [2]);
        let three = high_trade_off(&KNEE, Pick::Largest(3), true);
        assert_eq!((three.len(), three[2]), (3, 2));
        // From the knee the cheapest move gains .1 of 1 for .9: loses 4.5, gains .5.
        assert!((trade_offs(&KNEE, true)[2] - 9.0).abs() < 1e-12);
    }

    #[test]
    fn units_do_not_matter_once_normalised() {
        let scaled = KNEE.map(|[a, b]| [a * 1e6, b + 7.0]);
        for (a, b) in trade_offs(&KNEE, true).iter().zip(trade_offs(&scaled, true)) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn small_and_odd_fronts() {
        assert!(high_trade_off::<[f64; 2]>(&[], Pick::Outliers, true).is_empty());
        assert_eq!(high_trade_off(&[[1.0, 2.0]], Pick::Outliers, true), [0]);
        assert_eq!(high_trade_off(&[[1.0, 2.0]], Pick::Largest(3), false), [0]);
        assert_eq!(high_trade_off(&[[1.0, 2.0], [1.0, 2.0]], Pick::Outliers, true), [0]);
        // Dominated and failed rows are no candidates.
        let rows = [[f64::NAN, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
        let mut all = high_trade_off(&rows, Pick::Largest(9), true);
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    }
}
