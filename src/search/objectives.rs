//! FlatNAS's objectives: error and sensitivity to weight noise in one number, parameters as the other.
//!
//! `E` is the error and `R` the mean change of accuracy under weight noise, both in percent points. The
//! first objective is `alpha E + (1 - alpha) alpha_norm R`, where `alpha_norm` makes `R` as large as `E` on
//! average. It depends on what else was evaluated, and so values are only comparable under one of it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::report::statistics::mean;

/// The penalty of the released code on each million parameters above the limit.
pub const RELEASED_PENALTY: f64 = 1e10;

/// Checks that `alpha`, the weight of the error, lies between 0 and 1.
pub fn check_alpha(alpha: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&alpha) {
        let why = format!("is {alpha}, expected 0 (robustness alone) to 1 (error alone)");
        return Err(Error::invalid("alpha", why));
    }
    Ok(())
}

/// `alpha_norm`: the mean of `E` divided by the mean of `R`, over the candidates for which both are finite.
///
/// 1 when there are none, and also when either mean is 0: no factor would make them equal, and each then
/// counts in its own points. In particular all `R` are 0 for a sigma of 0.
pub fn alpha_norm(errors: &[f64], robustness: &[f64]) -> f64 {
    let both = errors.iter().zip(robustness).filter(|(e, r)| e.is_finite() && r.is_finite());
    let (errors, robustness): (Vec<f64>, Vec<f64>) = both.map(|(e, r)| (*e, *r)).unzip();
    match mean(&errors).zip(mean(&robustness)) {
        Some((e, r)) if e > 0.0 && r > 0.0 && (e / r).is_finite() => e / r,
        _ => 1.0,
    }
}

/// The first objective of one candidate, in percent points. NaN when a part of it that has weight is.
pub fn first(alpha: f64, alpha_norm: f64, error: f64, robustness: f64) -> f64 {
    // An R that was not measured must not spoil an objective in which it has no weight, nor an E.
    let weighted = |weight: f64, value: f64| if weight == 0.0 { 0.0 } else { weight * value };
    weighted(alpha, error) + weighted((1.0 - alpha) * alpha_norm, robustness)
}

/// The first objective of all candidates under their common `alpha_norm`, which comes first.
///
/// # Errors
/// An `alpha` outside 0 to 1, or different numbers of the two.
pub fn rescored(alpha: f64, errors: &[f64], robustness: &[f64]) -> Result<(f64, Vec<f64>)> {
    check_alpha(alpha)?;
    if errors.len() != robustness.len() {
        let why = format!("{} errors and {} robustness values, expected as many", errors.len(), robustness.len());
        return Err(Error::invalid("objectives", why));
    }
    let norm = alpha_norm(errors, robustness);
    Ok((norm, errors.iter().zip(robustness).map(|(e, r)| first(alpha, norm, *e, *r)).collect()))
}

/// The error, in percent points, from which on a network cannot be told from one that always gives the most frequent of the
/// `labels`: three standard errors of the binomial distribution below the error of that answer.
///
/// Such a network has learned nothing, and an `R` of 0 then says nothing of its robustness.
pub fn constant_error(labels: &[usize]) -> f64 {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    labels.iter().for_each(|&label| *counts.entry(label).or_default() += 1);
    let n = labels.len().max(1) as f64;
    let share = counts.values().max().map_or(0.0, |&most| most as f64 / n);
    100.0 * (1.0 - share - 3.0 * (share * (1.0 - share) / n).sqrt())
}

/// By how much a quantity exceeds its limit, as a part of the limit: what constrained dominance compares.
/// 0 without a limit, NaN for NaN. Violations of several limits may be added.
pub fn violation(value: f64, limit: Option<f64>) -> f64 {
    match limit {
        None => 0.0,
        // Not by `max`, which would turn NaN into no violation.
        Some(limit) if value <= limit => 0.0,
        Some(limit) if limit > 0.0 => (value - limit) / limit,
        Some(limit) => value - limit,
    }
}

/// The second objective of the released code: the parameters in millions, and `penalty` for each million
/// above the limit.
pub fn penalised(millions: f64, limit: f64, penalty: f64) -> f64 {
    millions + penalty * (millions - limit).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Spec 7.8.
    #[test]
    fn first_objective_as_specified() {
        assert!((first(0.5, 1.0, 9.34, 2.11) - 5.725).abs() < 1e-12);
        assert_eq!(first(1.0, 3.0, 9.34, 2.11), 9.34);
        assert_eq!(first(1.0, 3.0, 9.34, f64::NAN), 9.34);
        assert_eq!(first(0.0, 3.0, f64::NAN, 2.0), 6.0);
        assert!(first(0.5, 1.0, f64::NAN, 2.0).is_nan());
    }

    /// Spec 7.10.
    #[test]
    fn penalty_as_released() {
        assert_eq!(penalised(4.34, 5.0, RELEASED_PENALTY), 4.34);
        let over = penalised(5.63, 5.0, RELEASED_PENALTY);
        assert!((over - (6.3e9 + 5.63)).abs() < 1e-3, "{over}");
    }

    #[test]
    fn no_noise_and_no_candidates() {
        assert_eq!(alpha_norm(&[10.0, 20.0], &[0.0, 0.0]), 1.0);
        assert_eq!(alpha_norm(&[0.0], &[2.0]), 1.0);
        assert_eq!(alpha_norm(&[], &[]), 1.0);
        // A failure is left out in both.
        assert_eq!(alpha_norm(&[10.0, f64::NAN, 90.0, 30.0], &[2.0, 9.0, f64::INFINITY, 6.0]), 5.0);
        let (norm, values) = rescored(0.5, &[10.0, f64::NAN, 30.0], &[2.0, 9.0, 6.0]).unwrap();
        assert!(norm == 5.0 && values[0] == 10.0 && values[1].is_nan() && values[2] == 30.0);
    }

    #[test]
    fn constant_answers() {
        let labels: Vec<usize> = (0..100).map(|i| i % 10).collect();
        assert!((constant_error(&labels) - 81.0).abs() < 1e-9);
        assert_eq!(constant_error(&[3; 20]), 0.0);
        assert!((constant_error(&[0, 0, 0, 1]) - (25.0 - 300.0 * (0.1875f64 / 4.0).sqrt())).abs() < 1e-9);
    }

    #[test]
    fn bad_input_is_refused() {
        for alpha in [-0.1, 1.1, f64::NAN] {
            assert!(check_alpha(alpha).unwrap_err().to_string().contains("expected 0"));
        }
        assert!(rescored(0.5, &[1.0], &[]).unwrap_err().to_string().contains("1 errors and 0"));
    }

    #[test]
    fn violations_are_parts_of_the_limit() {
        assert_eq!((violation(6.0, Some(5.0)), violation(5.0, Some(5.0)), violation(9.0, None)), (0.2, 0.0, 0.0));
        assert_eq!(violation(2.0, Some(0.0)), 2.0);
        assert!(violation(f64::INFINITY, Some(1.0)).is_infinite() && violation(f64::NAN, Some(1.0)).is_nan());
    }

    proptest! {
        /// Spec 7.8: the scale of R does not matter, and the mean of the objective is that of E for any alpha.
        #[test]
        fn scale_of_robustness_does_not_matter(
            pairs in prop::collection::vec((0.1f64..90.0, 0.01f64..30.0), 1..30),
            alpha in 0.0f64..=1.0,
            factor in 0.01f64..100.0,
        ) {
            let (errors, robustness): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let scaled: Vec<f64> = robustness.iter().map(|r| r * factor).collect();
            let (norm, values) = rescored(alpha, &errors, &robustness).unwrap();
            let (_, again) = rescored(alpha, &errors, &scaled).unwrap();
            for (a, b) in values.iter().zip(&again) {
                prop_assert!((a - b).abs() <= 1e-9 * a.abs());
            }
            let n = errors.len() as f64;
            let mean_error = errors.iter().sum::<f64>() / n;
            prop_assert!((robustness.iter().sum::<f64>() / n * norm - mean_error).abs() < 1e-9 * mean_error);
            prop_assert!((values.iter().sum::<f64>() / n - mean_error).abs() < 1e-9 * mean_error);
        }
    }
}
