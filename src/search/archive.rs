//! An evaluated architecture: a line of a run's history.
//!
//! These lines, in the order of their evaluation, are the whole state of a search: every strategy derives its next candidates
//! from them and the seed. They are written as JSON, where NaN and infinities stand as strings. To come back with the same
//! bits `serde_json` needs its feature `float_roundtrip`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::count::Cost;
use crate::report::number;

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
    #[serde(with = "number::text")]
    pub fitness: f64,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Whatever was measured, by name.
    #[serde(default, with = "number::texts")]
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

/// The entries of a history's lines, each with the number of its line; empty ones are passed over.
///
/// # Errors
/// Each for itself: names the file and the line.
pub fn entries<'a>(
    path: &'a Path,
    lines: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = Result<(usize, Entry)>> {
    let filled = lines.enumerate().filter(|(_, line)| !line.trim().is_empty());
    filled.map(move |(place, line)| match serde_json::from_str(line) {
        Ok(entry) => Ok((place + 1, entry)),
        Err(error) => Err(at(path, place + 1, &error.to_string())),
    })
}

/// What is wrong with a line of a history.
pub fn at(path: &Path, number: usize, why: &str) -> Error {
    Error::file(path, None, format!("line {number}: {why}"))
}

impl Entry {
    /// Its parameters and multiply-adds.
    pub fn cost(&self) -> Cost {
        Cost { params: self.params, macs: self.macs }
    }

    /// What was measured under a name; not a number if nothing was, as a history that someone edited may have it.
    pub fn measure(&self, name: &str) -> f64 {
        self.measures.get(name).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
