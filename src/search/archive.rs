//! The evaluated architectures of a run, in the order of their evaluation.
//!
//! The archive is the whole state of a search: every algorithm here derives its next candidates from it and
//! the seed. It is written as JSON, where NaN and infinities stand as strings. To come back with the same
//! bits `serde_json` needs its feature `float_roundtrip`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One evaluated architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in its space.
    pub arch: String,
    /// The generation that proposed it.
    #[serde(default)]
    pub generation: u64,
    /// Whether it was evaluated for the baseline that the search is held against, not for the search.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub baseline: bool,
    /// What the search maximises. NaN means that the evaluation failed, and is worse than everything.
    #[serde(with = "real")]
    pub fitness: f64,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Whatever else was measured, by name.
    #[serde(default, with = "reals")]
    pub measures: BTreeMap<String, f64>,
}

impl Entry {
    /// What was measured under a name; not a number if nothing was, as a history that someone edited may have it.
    pub fn measure(&self, name: &str) -> f64 {
        self.measures.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// Evaluated architectures without duplicates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Archive {
    entries: Vec<Entry>,
    places: HashMap<String, usize>,
}

impl PartialEq for Archive {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; an architecture that is there already is an error.
    pub fn insert(&mut self, entry: Entry) -> Result<()> {
        if self.contains(&entry.arch) {
            return Err(Error::invalid("archive", format!("`{}` was evaluated already", entry.arch)));
        }
        self.places.insert(entry.arch.clone(), self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// All entries in the order of their insertion.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this name was evaluated.
    pub fn contains(&self, arch: &str) -> bool {
        self.places.contains_key(arch)
    }

    /// The entry of a name.
    pub fn get(&self, arch: &str) -> Option<&Entry> {
        self.places.get(arch).and_then(|place| self.entries.get(*place))
    }

    /// The entry of highest fitness, the earliest of equals; `None` when there is none but failures.
    pub fn best(&self) -> Option<&Entry> {
        self.top(1).first().copied().filter(|entry| !entry.fitness.is_nan())
    }

    /// The `k` entries of highest fitness, best first, equals in the order of insertion, NaN last.
    pub fn top(&self, k: usize) -> Vec<&Entry> {
        let mut sorted = by_fitness(self.entries.iter());
        sorted.truncate(k);
        sorted
    }

    /// The entries that no other one beats in both fitness (higher) and parameters (lower) while being at
    /// least equal in each, by increasing parameters. Failures are left out; of entries that are equal in
    /// both all stay.
    pub fn front(&self) -> Vec<&Entry> {
        let mut sorted: Vec<&Entry> = self.entries.iter().filter(|entry| !entry.fitness.is_nan()).collect();
        sorted.sort_by(|a, b| a.params.cmp(&b.params).then(descending(a.fitness, b.fitness)));
        let mut front: Vec<&Entry> = Vec::new();
        for entry in sorted {
            let keep = front.last().is_none_or(|last| {
                entry.fitness > last.fitness || (entry.fitness == last.fitness && entry.params == last.params)
            });
            if keep {
                front.push(entry);
            }
        }
        front
    }
}

/// Best first, stable, NaN last.
pub(crate) fn by_fitness<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a Entry> {
    let mut sorted: Vec<&Entry> = entries.collect();
    sorted.sort_by(|a, b| descending(a.fitness, b.fitness));
    sorted
}

/// A total order in which NaN is the least and both zeros are equal.
fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl From<Archive> for Vec<Entry> {
    fn from(archive: Archive) -> Self {
        archive.entries
    }
}

impl TryFrom<Vec<Entry>> for Archive {
    type Error = Error;

    fn try_from(entries: Vec<Entry>) -> Result<Self> {
        let mut archive = Archive::new();
        for entry in entries {
            archive.insert(entry)?;
        }
        Ok(archive)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(arch: &str, fitness: f64, params: u64) -> Entry {
        Entry {
            arch: arch.into(),
            generation: 0,
            baseline: false,
            fitness,
            params,
            macs: 2 * params,
            measures: BTreeMap::new(),
        }
    }

    fn archive(entries: &[(&str, f64, u64)]) -> Archive {
        let entries: Vec<Entry> = entries.iter().map(|(a, f, p)| entry(a, *f, *p)).collect();
        Archive::try_from(entries).unwrap()
    }

    fn names(entries: &[&Entry]) -> String {
        entries.iter().map(|e| e.arch.as_str()).collect()
    }

    #[test]
    fn order_is_stable_and_nan_is_worst() {
        let a = archive(&[
            ("a", f64::NAN, 1),
            ("b", 0.5, 2),
            ("c", f64::NEG_INFINITY, 1),
            ("d", 0.7, 9),
            ("e", 0.5, 1),
            ("f", f64::NAN, 0),
        ]);
        assert_eq!(names(&a.top(9)), "dbecaf");
        assert_eq!(names(&a.top(2)), "db");
        assert_eq!(a.best().unwrap().arch, "d");
        assert_eq!(archive(&[("a", f64::NAN, 1)]).best(), None);
        assert_eq!(Archive::new().best(), None);
    }

    #[test]
    fn duplicates_are_refused() {
        let mut a = archive(&[("a", 1.0, 1)]);
        assert!(a.insert(entry("a", 2.0, 1)).unwrap_err().to_string().contains("evaluated already"));
        assert_eq!((a.len(), a.get("a").unwrap().fitness), (1, 1.0));
        assert!(a.get("b").is_none() && a.contains("a") && !a.is_empty());
        let twice = r#"[{"arch":"a","fitness":1,"params":1,"macs":1},{"arch":"a","fitness":1,"params":1,"macs":1}]"#;
        assert!(serde_json::from_str::<Archive>(twice).unwrap_err().to_string().contains("evaluated already"));
    }

    #[test]
    fn special_numbers_survive_json() {
        let mut a = archive(&[("a", f64::NAN, 1), ("b", f64::INFINITY, 1), ("c", f64::NEG_INFINITY, 1)]);
        let mut full = entry("d", -0.0, 7);
        full.measures = BTreeMap::from([("fbs".into(), 4.347_826_068_052_9e-4), ("loss".into(), f64::NAN)]);
        a.insert(full).unwrap();
        let text = serde_json::to_string(&a).unwrap();
        let back: Archive = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(back.entries()[0].fitness.is_nan() && back.entries()[3].fitness.is_sign_negative());
        assert!(back.get("d").unwrap().measures["loss"].is_nan());
        assert!(serde_json::from_str::<Archive>(&text.replace("-inf", "lots")).is_err());
    }

    proptest! {
        #[test]
        fn json_keeps_every_bit(fitness in any::<f64>()) {
            let back: Archive = serde_json::from_str(&serde_json::to_string(&archive(&[("a", fitness, 1)])).unwrap()).unwrap();
            let got = back.entries()[0].fitness;
            prop_assert!(got.to_bits() == fitness.to_bits() || (got.is_nan() && fitness.is_nan()),
                "{} became {}: is serde_json's feature float_roundtrip on?", fitness, got);
        }

        #[test]
        fn front_is_what_brute_force_finds(points in prop::collection::vec((0u8..6, 0u64..6), 0..30)) {
            let mut a = Archive::new();
            for (i, (fitness, params)) in points.iter().enumerate() {
                let fitness = if *fitness == 5 { f64::NAN } else { f64::from(*fitness) };
                a.insert(entry(&i.to_string(), fitness, *params)).unwrap();
            }
            let beats = |x: &Entry, y: &Entry| x.fitness >= y.fitness && x.params <= y.params
                && (x.fitness > y.fitness || x.params < y.params);
            let mut expected: Vec<&str> = a.entries().iter()
                .filter(|e| !e.fitness.is_nan() && !a.entries().iter().any(|o| beats(o, e)))
                .map(|e| e.arch.as_str()).collect();
            let mut got: Vec<&str> = a.front().iter().map(|e| e.arch.as_str()).collect();
            expected.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(got, expected);
        }
    }
}
