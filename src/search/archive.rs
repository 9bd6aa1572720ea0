//! An evaluated architecture: a line of a run's history.
//!
//! These lines, in the order of their evaluation, are the whole state of a search: every strategy derives its next candidates
//! from them and the seed. They are written as JSON, where NaN and infinities stand as strings. To come back with the same
//! bits `serde_json` needs its feature `float_roundtrip`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One evaluated architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in its space.
    pub arch: String,
    /// The generation that proposed it.
    #[serde(default)]
    pub generation: u64,
    /// The arm that evaluated it. (Earlier versions said only whether it was the baseline's.)
    #[serde(default, alias = "baseline", deserialize_with = "arm", skip_serializing_if = "String::is_empty")]
    pub arm: String,
    /// Whether another run had evaluated it, and this one began with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
    /// What the arm maximises, as it was seen then. NaN means that the evaluation failed, and is worse than everything.
    #[serde(with = "real")]
    pub fitness: f64,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Whatever was measured, by name.
    #[serde(default, with = "reals")]
    pub measures: BTreeMap<String, f64>,
}

/// An arm's name, or what earlier versions wrote.
fn arm<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Arm {
        Name(String),
        Baseline(bool),
    }
    Ok(match Arm::deserialize(from)? {
        Arm::Name(name) => name,
        Arm::Baseline(true) => "baseline".to_owned(),
        Arm::Baseline(false) => String::new(),
    })
}

impl Entry {
    /// What was measured under a name; not a number if nothing was, as a history that someone edited may have it.
    pub fn measure(&self, name: &str) -> f64 {
        self.measures.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// A number as JSON has it, or one of the strings `NaN`, `inf`, `-inf`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Real {
    Number(f64),
    Text(String),
}

impl From<f64> for Real {
    fn from(value: f64) -> Self {
        if value.is_finite() { Real::Number(value) } else { Real::Text(value.to_string()) }
    }
}

impl Real {
    fn value<E: serde::de::Error>(self) -> std::result::Result<f64, E> {
        match self {
            Real::Number(value) => Ok(value),
            Real::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(E::custom(format!("`{text}` is no number, expected one or NaN, inf, -inf"))),
            },
        }
    }
}

/// One number.
mod real {
    use super::{Deserialize, Real, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        Real::from(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Real::deserialize(from)?.value()
    }
}

/// Numbers by name.
mod reals {
    use super::{BTreeMap, Deserialize, Real};

    pub(super) fn serialize<S: serde::Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(values.iter().map(|(name, value)| (name, Real::from(*value))))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map: BTreeMap<String, Real> = BTreeMap::deserialize(from)?;
        map.into_iter().map(|(name, value)| Ok((name, value.value()?))).collect()
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
