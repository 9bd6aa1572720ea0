//! What an evaluation is compared with: the mean corruption error against a baseline.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::corrupt::{Kind, Severity};
use crate::data::{Identity, Reading};
use crate::error::{Error, Result};
use crate::measure::corruption::corruption_error;
use crate::measure::forward::Score;

/// What is read of the answer of `evaluate --json`. Older answers do not say how images were made.
#[derive(Deserialize)]
pub(super) struct Baseline {
    clean: Score,
    severities: Vec<u8>,
    corruptions: BTreeMap<String, Vec<f64>>,
    images: Option<usize>,
    constants: Option<String>,
    frost: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Identity>,
    #[serde(default)]
    reading: Reading,
}

/// How this run's images are made, as far as it is known.
pub(super) struct Own<'a> {
    pub images: usize,
    pub severities: &'a [Severity],
    pub constants: Option<&'a str>,
    pub frost: Option<&'a str>,
    pub data: Option<&'a Identity>,
    pub reading: &'a Reading,
}

/// The mean errors, or why there are none.
#[derive(Default)]
pub(super) struct Against {
    pub mce: Option<f64>,
    pub relative_mce: Option<f64>,
    pub note: Option<String>,
}

impl Baseline {
    /// Reads a file, and refuses one that is no sound baseline: all 15 main kinds, one share for each severity.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let base: Baseline = serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(path, None, format!("{e}; expected what `altiplano evaluate --json` prints")))?;
        let wrong = |why: String| Err(Error::file(path, None, why));
        let missing: Vec<&str> =
            Kind::MAIN.iter().map(|kind| kind.name()).filter(|name| !base.corruptions.contains_key(*name)).collect();
        if !missing.is_empty() {
            return wrong(format!("it lacks {}; mCE is over the 15 main corruptions", missing.join(", ")));
        }
        for (name, row) in &base.corruptions {
            if row.len() != base.severities.len() {
                return wrong(format!("{name}: {} values for {} severities", row.len(), base.severities.len()));
            }
        }
        let all = base.corruptions.iter().flat_map(|(name, row)| row.iter().map(move |value| (name.as_str(), *value)));
        let mut all = all.chain([("clean", base.clean.accuracy)]);
        if let Some((name, value)) = all.find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return wrong(format!("{name}: an accuracy of {value}; expected a share from 0 to 1"));
        }
        drop(all);
        Ok(base)
    }

    /// Refuses a baseline of other images or severities than those of this run.
    pub fn check(&self, path: &Path, own: &Own) -> Result<()> {
        let severities: Vec<u8> = own.severities.iter().map(|s| s.get()).collect();
        let differs = |what: &str, theirs: String, ours: String| {
            Err(Error::file(path, None, format!("its {what} are {theirs}, this run's {ours}; they must be the same")))
        };
        if self.severities != severities {
            return differs("severities", format!("{:?}", self.severities), format!("{severities:?}"));
        }
        if let Some(images) = self.images.filter(|images| *images != own.images) {
            return differs("test images", images.to_string(), own.images.to_string());
        }
        if let (Some(theirs), Some(ours)) = (self.inputs.get("data"), own.data)
            && !theirs.same_contents(ours)
        {
            return differs("data", theirs.to_string(), ours.to_string());
        }
        // Whoever does not say which data it were may have read them in any way.
        if self.inputs.contains_key("data") && !self.reading.does_as(own.reading) {
            return differs("pictures", self.reading.to_string(), own.reading.to_string());
        }
        for (what, theirs, ours) in
            [("constants", &self.constants, own.constants), ("pictures of frost", &self.frost, own.frost)]
        {
            if let (Some(theirs), Some(ours)) = (theirs, ours)
                // Older answers have no checksum behind it.
                && !ours.starts_with(theirs.as_str())
            {
                return differs(what, theirs.clone(), ours.to_owned());
            }
        }
        Ok(())
    }

    /// mCE and relative mCE over the 15 main kinds; `errors` gives this run's errors of a kind.
    pub fn against(&self, clean: Score, errors: impl Fn(&str) -> Option<Vec<f64>>) -> Against {
        let own: Vec<Option<Vec<f64>>> = Kind::MAIN.iter().map(|kind| errors(kind.name())).collect();
        let missing: Vec<&str> =
            Kind::MAIN.iter().zip(&own).filter(|(_, row)| row.is_none()).map(|(kind, _)| kind.name()).collect();
        if !missing.is_empty() {
            let note = format!("no mCE: it is over the 15 main corruptions, and this run lacks {}", missing.join(", "));
            return Against { note: Some(note), ..Against::default() };
        }
        let cleans = (1.0 - clean.accuracy, 1.0 - self.clean.accuracy);
        let ratios = |cleans| -> Vec<(&str, f64)> {
            let pairs = Kind::MAIN.iter().zip(own.iter().flatten());
            let ratio = |(kind, own): (&Kind, &Vec<f64>)| {
                let base: Vec<f64> = self.corruptions[kind.name()].iter().map(|accuracy| 1.0 - accuracy).collect();
                (kind.name(), corruption_error(own, &base, cleans))
            };
            pairs.map(ratio).collect()
        };
        let mut notes = vec![];
        let mut mean = |what: &str, why: &str, list: Vec<(&str, f64)>| match list.iter().find(|(_, r)| !r.is_finite()) {
            Some((kind, _)) => {
                notes.push(format!("no {what}: {why} under {kind}, so that there is nothing to divide by"));
                None
            }
            None => Some(list.iter().map(|(_, ratio)| ratio).sum::<f64>() / list.len() as f64),
        };
        let mce = mean("mCE", "the baseline makes no error", ratios(None));
        let relative_mce = mean("relative mCE", "the baseline makes no more errors", ratios(Some(cleans)));
        Against { mce, relative_mce, note: (!notes.is_empty()).then(|| notes.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(value: f64, clean: f64) -> Baseline {
        Baseline {
            clean: Score { loss: 1.0, accuracy: clean },
            severities: vec![3],
            corruptions: Kind::MAIN.iter().map(|kind| (kind.name().to_owned(), vec![value])).collect(),
            images: None,
            constants: None,
            frost: None,
            inputs: BTreeMap::new(),
            reading: Reading::default(),
        }
    }

    #[test]
    fn what_cannot_be_given_has_a_reason() {
        let clean = Score { loss: 1.0, accuracy: 0.9 };
        let whole = base(0.5, 0.8).against(clean, |_| Some(vec![0.4]));
        assert!((whole.mce.unwrap() - 0.8).abs() < 1e-12 && (whole.relative_mce.unwrap() - 1.0).abs() < 1e-12);
        assert!(whole.note.is_none());
        let some = base(0.5, 0.8).against(clean, |kind| (kind != "fog").then(|| vec![0.4]));
        assert!(some.mce.is_none() && some.note.unwrap().ends_with("this run lacks fog"));
        let perfect = base(1.0, 1.0).against(clean, |_| Some(vec![0.4]));
        let note = perfect.note.unwrap();
        assert!(perfect.mce.is_none() && note.contains("no mCE: ") && note.contains("no relative mCE: "), "{note}");
        let level = base(0.8, 0.8).against(clean, |_| Some(vec![0.4]));
        assert!(level.mce.is_some() && level.relative_mce.is_none());
        assert!(level.note.unwrap().starts_with("no relative mCE: the baseline makes no more errors under"));
    }

    #[test]
    fn what_is_no_baseline_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.json");
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let rows: BTreeMap<&str, Vec<f64>> = Kind::MAIN.iter().map(|kind| (kind.name(), vec![0.5, 0.25])).collect();
            let mut json = serde_json::json!({
                "clean": {"loss": 0.1, "accuracy": 0.9}, "severities": [1, 2], "corruptions": rows, "images": 7,
                "constants": "cifar",
            });
            change(&mut json);
            std::fs::write(&path, json.to_string()).unwrap();
            Baseline::read(&path)
        };
        let why = |change: &dyn Fn(&mut serde_json::Value)| read(change).err().unwrap().to_string();
        assert!(why(&|json| json["corruptions"]["fog"][0] = 50.0.into()).contains("fog: an accuracy of 50"));
        assert!(why(&|json| json["corruptions"]["fog"][0] = (-0.1).into()).contains("share from 0 to 1"));
        assert!(why(&|json| json["clean"]["accuracy"] = 2.0.into()).contains("clean: an accuracy of 2"));
        assert!(why(&|json| json["corruptions"]["snow"] = vec![0.5].into()).contains("snow: 1 values for 2"));
        assert!(
            why(&|json| drop(json["corruptions"].as_object_mut().unwrap().remove("snow"))).contains("it lacks snow")
        );
        let base = read(&|_| {}).unwrap();
        let severities = [Severity::ALL[0], Severity::ALL[1]];
        let (constants, frost) = (Some("cifar"), Some("procedural"));
        let own =
            Own { images: 7, severities: &severities, constants, frost, data: None, reading: &Reading::default() };
        base.check(&path, &own).unwrap();
        for (other, part) in [
            (Own { images: 8, ..own }, "test images are 7"),
            (Own { severities: &severities[..1], ..own }, "severities"),
            (Own { constants: Some("imagenet"), ..own }, "constants are cifar"),
        ] {
            let why = base.check(&path, &other).unwrap_err().to_string();
            assert!(why.contains("base.json") && why.contains(part), "{why}");
        }
    }
}
