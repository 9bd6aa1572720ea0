//! What measures are worth: the first objective of a search, and which candidate of a front is picked. FlatNAS's objectives put error and
//! sensitivity to weight noise into one number, with parameters as the other.
//!
//! `E` is the error and `R` the mean change of accuracy under weight noise, both in percent points. The
//! first objective is `alpha E + (1 - alpha) alpha_norm R`, where `alpha_norm` makes `R` as large as `E` on
//! average. It depends on what else was evaluated, and so values are only comparable under one of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::Entry;
use super::front::trade_off::{Pick, high_trade_off};
use crate::error::{Error, Result};
use crate::report::statistics::mean;

/// What was measured of a candidate, by name.
pub type Measures = BTreeMap<String, f64>;

/// Makes objectives of measures.
pub trait Objectives {
    /// A number that all candidates share, from those that were evaluated so far: FlatNAS's `alpha_norm`.
    fn scale(&self, _entries: &[&Entry]) -> f64 {
        1.0
    }

    /// What the history calls that number, if it is to hold it.
    fn scale_name(&self) -> Option<&'static str> {
        None
    }

    /// The first objective, which is minimised; not a number if the evaluation failed.
    fn first(&self, measures: &Measures, scale: f64) -> f64;

    /// Whether a candidate must not be chosen, whatever its objectives: because it learned nothing.
    fn is_barred(&self, _measures: &Measures) -> bool {
        false
    }

    /// Whether those may be chosen all the same where there is nothing else.
    fn lifts_bars(&self) -> bool {
        false
    }

    /// Which of a front's rows of objectives is picked: the first of the least in the first objective.
    fn pick(&self, front: &[&[f64]]) -> Option<usize> {
        (0..front.len()).min_by(|&a, &b| front[a][0].total_cmp(&front[b][0]))
    }
}

/// A measure, or a sum of several with their weights, which is maximised: what one measure misses another may see.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// Weights by the measures' names; below 0 of those of which less is better.
    pub weights: BTreeMap<String, f64>,
    /// Error in percent points from which on a network has learned nothing, where its accuracy is measured: such a network may be as
    /// flat as can be. On a supernet that has learned nothing itself all are so. Infinite without that rule.
    pub constant: f64,
}

impl Weighted {
    /// One measure, of which more is better.
    pub fn maximize(measure: &str) -> Self {
        Weighted { weights: BTreeMap::from([(measure.to_owned(), 1.0)]), constant: f64::INFINITY }
    }

    /// One measure, of which less is better.
    pub fn minimize(measure: &str) -> Self {
        Weighted { weights: BTreeMap::from([(measure.to_owned(), -1.0)]), constant: f64::INFINITY }
    }

    /// The same, with the rule on networks that learned nothing.
    pub fn above(self, constant: f64) -> Self {
        Weighted { constant, ..self }
    }
}

impl Objectives for Weighted {
    fn first(&self, measures: &Measures, _scale: f64) -> f64 {
        let term = |(name, weight): (&String, &f64)| weight * measures.get(name).copied().unwrap_or(f64::NAN);
        -self.weights.iter().map(term).sum::<f64>()
    }

    fn is_barred(&self, measures: &Measures) -> bool {
        measures.get("accuracy").is_some_and(|&accuracy| 100.0 * (1.0 - accuracy) >= self.constant)
    }

    fn lifts_bars(&self) -> bool {
        true
    }
}

/// FlatNAS's: `alpha E + (1 - alpha) alpha_norm R`, and of the front the network of highest trade-off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorAndRobustness {
    /// Weight of the error.
    pub alpha: f64,
    /// Error in percent points from which on a network has learned nothing; infinite without that rule.
    pub constant: f64,
}

impl Objectives for ErrorAndRobustness {
    fn scale(&self, entries: &[&Entry]) -> f64 {
        let learned = entries.iter().filter(|entry| !self.is_barred(&entry.measures));
        let (errors, robustness): (Vec<f64>, Vec<f64>) =
            learned.map(|entry| (entry.measure("error"), entry.measure("robustness"))).unzip();
        alpha_norm(&errors, &robustness)
    }

    fn scale_name(&self) -> Option<&'static str> {
        Some("alpha_norm")
    }

    fn first(&self, measures: &Measures, scale: f64) -> f64 {
        let measure = |name: &str| measures.get(name).copied().unwrap_or(f64::NAN);
        let (error, robustness) = (measure("error"), measure("robustness"));
        if self.is_barred(measures) { error } else { first(self.alpha, scale, error, robustness) }
    }

    fn is_barred(&self, measures: &Measures) -> bool {
        measures.get("error").is_some_and(|&error| error >= self.constant)
    }

    fn pick(&self, front: &[&[f64]]) -> Option<usize> {
        high_trade_off(front, Pick::Largest(1), true).last().copied()
    }
}

/// Which objectives, in a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ObjectivesConfig {
    /// One measure to maximise.
    Single {
        /// Its name.
        maximize: String,
    },
    /// A weighted sum of measures to maximise.
    Weighted {
        /// Weights by the measures' names.
        weights: BTreeMap<String, f64>,
    },
    /// FlatNAS's.
    ErrorAndRobustness {
        /// Weight of the error in the first objective, 0 to 1.
        alpha: f64,
    },
}

impl ObjectivesConfig {
    /// The measures that it is made of.
    pub fn measures(&self) -> Vec<&str> {
        match self {
            ObjectivesConfig::Single { maximize } => vec![maximize],
            ObjectivesConfig::Weighted { weights } => weights.keys().map(String::as_str).collect(),
            ObjectivesConfig::ErrorAndRobustness { .. } => vec!["error", "robustness"],
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        match self {
            ObjectivesConfig::ErrorAndRobustness { alpha } => check_alpha(*alpha),
            ObjectivesConfig::Single { .. } => Ok(()),
            ObjectivesConfig::Weighted { weights } => match weights.iter().find(|(_, weight)| !weight.is_finite()) {
                _ if weights.is_empty() => Err(Error::invalid("objectives.weights", "there is none")),
                Some((name, weight)) => Err(Error::invalid(format!("weight of {name}"), format!("is {weight}"))),
                None => Ok(()),
            },
        }
    }

    /// The objectives; `constant` is the error in percent points from which on a network has learned nothing.
    pub fn open(&self, constant: f64) -> Box<dyn Objectives> {
        match self {
            ObjectivesConfig::Single { maximize } => Box::new(Weighted::maximize(maximize).above(constant)),
            ObjectivesConfig::Weighted { weights } => Box::new(Weighted { weights: weights.clone(), constant }),
            ObjectivesConfig::ErrorAndRobustness { alpha } => Box::new(ErrorAndRobustness { alpha: *alpha, constant }),
        }
    }
}

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
#[path = "objectives_tests.rs"]
mod tests;
