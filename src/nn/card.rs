//! What a model file says of itself: enough to build the network and to normalise images for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Model;
use super::space::{Build, Family, Options, Registry};
use super::weights::Weights;
use crate::data::{ChannelStatistics, Reading};
use crate::error::{Error, Result};
use crate::space::Arch;

/// The key of the metadata under which the card stands as JSON.
const KEY: &str = "altiplano.card";
/// Before everything of the metadata of files of earlier versions, which had a key for each number.
const EARLIER: &str = "altiplano.";

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The version that wrote it.
    pub version: String,
    /// Name of the space.
    pub space: String,
    /// The architecture's name in it.
    pub arch: String,
    /// How the network is built.
    pub build: Build,
    /// Class names.
    pub classes: Vec<String>,
    /// Mean of each channel of the images, which is subtracted.
    pub mean: Vec<f64>,
    /// Deviation of each channel, by which it is divided.
    pub std: Vec<f64>,
    /// How the pictures that it was trained on were read, which those that it is judged on should be too.
    #[serde(default, skip_serializing_if = "Reading::is_as_found")]
    pub reading: Reading,
}

impl ModelCard {
    /// The card of a network that was trained on images of these classes, normalised by `statistics`.
    pub fn of(family: &Family, arch: &Arch, classes: &[String], statistics: &ChannelStatistics) -> Self {
        ModelCard {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            space: family.name().to_owned(),
            arch: family.show(arch),
            build: family.build.clone(),
            classes: classes.to_vec(),
            mean: statistics.mean.clone(),
            std: statistics.std.clone(),
            reading: Reading::default(),
        }
    }

    /// The same of a network that was trained on pictures which were read so.
    pub fn with_reading(self, reading: &Reading) -> Self {
        ModelCard { reading: reading.clone(), ..self }
    }

    /// As safetensors metadata.
    ///
    /// # Errors
    /// If a number among the options is none that JSON has.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let card = serde_json::to_string(self).map_err(|e| Error::invalid("model card", e.to_string()))?;
        Ok([("format", "pt".to_owned()), (KEY, card)].map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// What a file says of itself.
    ///
    /// # Errors
    /// If it is no model of ours ([`ModelCard::is_in`]), or its metadata do not describe a network.
    pub fn read(weights: &Weights) -> Result<Self> {
        let fail = |why: String| Error::file(&weights.path, None, why);
        let card: ModelCard = match weights.metadata.get(KEY) {
            Some(text) => serde_json::from_str(text).map_err(|e| fail(format!("`{KEY}`: {e}")))?,
            None => Self::read_earlier(weights)?,
        };
        let ModelCard { mean, std, build, classes, .. } = &card;
        if mean.len() != build.in_channels || std.len() != build.in_channels {
            return Err(fail("mean and deviation do not fit the input channels".into()));
        }
        if mean.iter().chain(std).any(|value| !value.is_finite()) || std.iter().any(|std| *std <= 0.0) {
            return Err(fail("mean and deviation must be finite, the deviation above 0".into()));
        }
        if classes.len() != build.classes {
            return Err(fail(format!("it has names of {} classes, and {} classes", classes.len(), build.classes)));
        }
        Ok(card)
    }

    /// The card of a file of an earlier version: a key for each number, and cells between a stem and a head.
    fn read_earlier(weights: &Weights) -> Result<Self> {
        let Weights { path, metadata, .. } = weights;
        let fail = |why: String| Error::file(path, None, why);
        let text = |key: &str| {
            let full = format!("{EARLIER}{key}");
            metadata
                .get(&full)
                .cloned()
                .ok_or_else(|| fail(format!("the metadata lack `{full}`; is it a model saved by altiplano?")))
        };
        let number = |key: &str| {
            let value = text(key)?;
            value.parse::<u32>().map_err(|_| fail(format!("`{EARLIER}{key}` is `{value}`, expected a number")))
        };
        let list = |key: &str| {
            let value = text(key)?;
            let parsed: Option<Vec<f64>> =
                value.split(',').map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
            parsed.ok_or_else(|| fail(format!("`{EARLIER}{key}` is `{value}`, expected numbers with commas")))
        };
        let image = text("image")?;
        let sides = image.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        let image = sides.ok_or_else(|| fail(format!("`{EARLIER}image` is `{image}`, expected HxW")))?;
        let mut options = Options::new();
        for option in ["channels", "cells"] {
            options.insert(option.to_owned(), i64::from(number(option)?).into());
        }
        let [in_channels, classes] = [number("in_channels")?, number("classes")?].map(|n| n as usize);
        Ok(ModelCard {
            version: text("version").unwrap_or_default(),
            space: text("space")?,
            arch: text("arch")?,
            build: Build { form: "tiny".into(), image, in_channels, classes, options },
            classes: text("class_names")?.split('\n').map(str::to_owned).collect(),
            mean: list("mean")?,
            std: list("std")?,
            reading: Reading::default(),
        })
    }

    /// Whether a file has a card.
    pub fn is_in(weights: &Weights) -> bool {
        [KEY, "altiplano.space"].iter().any(|key| weights.metadata.contains_key(*key))
    }

    /// The names of the classes that a file was trained on, if it says so.
    pub fn classes_of(weights: &Weights) -> Option<Vec<String>> {
        match weights.metadata.get("altiplano.class_names") {
            Some(names) => Some(names.split('\n').map(str::to_owned).collect()),
            None => Self::read(weights).ok().map(|card| card.classes),
        }
    }

    /// The normalisation that the network expects.
    pub fn statistics(&self) -> ChannelStatistics {
        ChannelStatistics { mean: self.mean.clone(), std: self.std.clone() }
    }

    /// The space that the network is of, built as this one is, and its architecture.
    ///
    /// # Errors
    /// If the space or the architecture is unknown, or the sizes cannot be built.
    pub fn open(&self, registry: &Registry) -> Result<(Family, Arch)> {
        let family = registry.open(&self.space, self.build.clone())?;
        let arch = family.parse(&self.arch)?;
        Ok((family, arch))
    }

    /// The network.
    ///
    /// # Errors
    /// If the space or the architecture is unknown, or the sizes cannot be built.
    pub fn model(&self, registry: &Registry) -> Result<Box<dyn Model>> {
        let (family, arch) = self.open(registry)?;
        family.network(&arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::tensors::{Named, to_bytes};

    fn file(metadata: BTreeMap<String, String>) -> Weights {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        std::fs::write(&path, to_bytes(&Named::new(), metadata).unwrap()).unwrap();
        Weights::read(&path).unwrap()
    }

    fn earlier() -> BTreeMap<String, String> {
        let keys = [
            ("version", "0.1.0"),
            ("space", "nas-bench-201"),
            ("arch", "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|nor_conv_1x1~2|"),
            ("channels", "8"),
            ("cells", "1"),
            ("in_channels", "1"),
            ("image", "8x12"),
            ("classes", "2"),
            ("class_names", "cat\ndog"),
            ("mean", "0.5"),
            ("std", "0.25"),
        ];
        keys.map(|(key, value)| (format!("altiplano.{key}"), value.to_owned())).into()
    }

    #[test]
    fn earlier_cards_are_read_and_written_as_new_ones() {
        let weights = file(earlier());
        assert!(ModelCard::is_in(&weights));
        let card = ModelCard::read(&weights).unwrap();
        assert_eq!(ModelCard::classes_of(&weights).unwrap(), ["cat", "dog"]);
        let (family, arch) = card.open(&Registry::default()).unwrap();
        assert_eq!(card.model(&Registry::default()).unwrap().input(), [8, 12, 1]);
        let new = ModelCard::of(&family, &arch, &card.classes, &card.statistics());
        let weights = file(new.metadata().unwrap());
        assert!(ModelCard::is_in(&weights));
        assert_eq!(ModelCard::classes_of(&weights).unwrap(), ["cat", "dog"]);
        assert_eq!(ModelCard::read(&weights).unwrap(), ModelCard { version: new.version.clone(), ..card });
    }

    #[test]
    fn cards_that_describe_no_network_say_why() {
        let new = |edit: &dyn Fn(&mut ModelCard)| {
            let mut card = ModelCard::read(&file(earlier())).unwrap();
            edit(&mut card);
            let weights = file(card.metadata().unwrap());
            let model = ModelCard::read(&weights).and_then(|card| card.model(&Registry::default()));
            model.map(|_| ()).unwrap_err().to_string()
        };
        let option = |name: &str, value: i64| {
            let name = name.to_owned();
            move |card: &mut ModelCard| drop(card.build.options.insert(name.clone(), value.into()))
        };
        for (edit, why) in [
            (&option("chanels", 3) as &dyn Fn(&mut ModelCard), "did you mean `channels`?"),
            (&option("cells", -1), "expected a whole number"),
            (&option("cells", 0), "expected 1 to"),
            (&|card| card.build.form = "tyni".into(), "did you mean `tiny`?"),
            (&|card| card.space = "mobilenet".into(), "mobilenet"),
            (&|card| card.std = vec![0.0], "above 0"),
            (&|card| card.classes.push("cow".into()), "3 classes"),
            (&|card| card.build.in_channels = 3, "do not fit"),
            (&|card| card.build.image = [6, 6], "multiple of 4"),
        ] {
            let error = new(edit);
            assert!(error.contains(why), "{why}: {error}");
        }
        for key in earlier().keys().filter(|key| *key != "altiplano.version") {
            let mut metadata = earlier();
            metadata.remove(key);
            assert!(ModelCard::read(&file(metadata)).unwrap_err().to_string().contains(key.as_str()));
        }
        let broken = BTreeMap::from([(KEY.to_owned(), "{".to_owned())]);
        assert!(ModelCard::read(&file(broken)).unwrap_err().to_string().contains("altiplano.card"));
    }
}
