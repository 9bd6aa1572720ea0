//! Numbers as results hold them: JSON has null for one that is none and for infinities, and null is read as NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A number.
///
/// # Errors
/// If it is neither a number nor null.
pub fn one<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A list of them.
///
/// # Errors
/// If one is neither a number nor null.
pub fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let all = Vec::<Option<f64>>::deserialize(from)?;
    Ok(all.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Numbers with names.
///
/// # Errors
/// If one is neither a number nor null.
pub fn named<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let all = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    Ok(all.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}
