//! Numbers that may be none in JSON. Results have null for NaN and for infinities, and null is read as NaN; histories, which have to come back
//! with the same bits, have the strings `NaN`, `inf` and `-inf`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// A number as JSON has it, or one of the strings.
#[derive(Deserialize, Serialize)]
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
    fn value<E: serde::de::Error>(self) -> Result<f64, E> {
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

/// A number, or a string for one that JSON does not have: for `#[serde(with)]`.
pub mod text {
    use super::{Deserialize, Deserializer, Real, Serialize, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// Those of what it is written to.
    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        Real::from(*value).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is neither a number nor such a string.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Real::deserialize(from)?.value()
    }
}

/// The same of numbers with names.
pub mod texts {
    use super::{BTreeMap, Deserialize, Deserializer, Real, Serializer};

    /// Writes them.
    ///
    /// # Errors
    /// Those of what they are written to.
    pub fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(values.iter().map(|(name, value)| (name, Real::from(*value))))
    }

    /// Reads them.
    ///
    /// # Errors
    /// If one is neither a number nor such a string.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map: BTreeMap<String, Real> = BTreeMap::deserialize(from)?;
        map.into_iter().map(|(name, value)| Ok((name, value.value()?))).collect()
    }
}
