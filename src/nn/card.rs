//! What a model file says of itself: enough to build the network and to normalise images for it.

use std::collections::BTreeMap;

use super::Model;
use super::nas_bench_201::Network;
use super::weights::Weights;
use crate::data::ChannelStatistics;
use crate::error::{Error, Result};
use crate::space::nas_bench_201::Macro;

/// What a model file says of itself.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// Name of the space.
    pub space: String,
    /// The architecture's name in it.
    pub arch: String,
    /// Channels, cells, input channels, rows, columns, classes.
    pub sizes: [usize; 6],
    /// Class names.
    pub classes: Vec<String>,
}

impl ModelCard {
    /// The card of a network that was trained on images of these classes.
    pub fn of(space: &str, arch: &str, [channels, cells]: [usize; 2], model: &dyn Model, classes: &[String]) -> Self {
        let [height, width, in_channels] = model.input();
        ModelCard {
            space: space.to_owned(),
            arch: arch.to_owned(),
            sizes: [channels, cells, in_channels, height, width, model.classes()],
            classes: classes.to_vec(),
        }
    }

    /// As safetensors metadata, with the normalisation that the weights expect.
    pub fn metadata(&self, statistics: &ChannelStatistics) -> BTreeMap<String, String> {
        let list = |values: &[f64]| values.iter().map(|v| format!("{v}")).collect::<Vec<_>>().join(",");
        let [channels, cells, in_channels, height, width, classes] = self.sizes;
        [
            ("format", "pt".to_owned()),
            ("altiplano.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("altiplano.space", self.space.clone()),
            ("altiplano.arch", self.arch.clone()),
            ("altiplano.channels", channels.to_string()),
            ("altiplano.cells", cells.to_string()),
            ("altiplano.in_channels", in_channels.to_string()),
            ("altiplano.image", format!("{height}x{width}")),
            ("altiplano.classes", classes.to_string()),
            ("altiplano.class_names", self.classes.join("\n")),
            ("altiplano.mean", list(&statistics.mean)),
            ("altiplano.std", list(&statistics.std)),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }

    /// What a file says of itself, and the normalisation that its weights expect.
    ///
    /// # Errors
    /// If it is no model of ours ([`ModelCard::is_in`]), or its metadata do not describe a network.
    pub fn read(weights: &Weights) -> Result<(Self, ChannelStatistics)> {
        let Weights { path, metadata, .. } = weights;
        let fail = |why: String| Error::file(path, None, why);
        let text = |key: &str| {
            let full = format!("altiplano.{key}");
            metadata
                .get(&full)
                .cloned()
                .ok_or_else(|| fail(format!("the metadata lack `{full}`; is it a model saved by altiplano?")))
        };
        let number = |key: &str| {
            let value = text(key)?;
            value.parse::<usize>().map_err(|_| fail(format!("`altiplano.{key}` is `{value}`, expected a number")))
        };
        let list = |key: &str| {
            let value = text(key)?;
            let parsed: Option<Vec<f64>> =
                value.split(',').map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
            parsed.ok_or_else(|| fail(format!("`altiplano.{key}` is `{value}`, expected numbers with commas")))
        };
        let image = text("image")?;
        let sides = image.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
        let (height, width) = sides.ok_or_else(|| fail(format!("`altiplano.image` is `{image}`, expected HxW")))?;
        let card = ModelCard {
            space: text("space")?,
            arch: text("arch")?,
            sizes: [number("channels")?, number("cells")?, number("in_channels")?, height, width, number("classes")?],
            classes: text("class_names")?.split('\n').map(str::to_owned).collect(),
        };
        let statistics = ChannelStatistics { mean: list("mean")?, std: list("std")? };
        if statistics.mean.len() != card.sizes[2] || statistics.std.len() != card.sizes[2] {
            return Err(fail("mean and deviation do not fit the input channels".into()));
        }
        Ok((card, statistics))
    }

    /// Whether a file has a card.
    pub fn is_in(weights: &Weights) -> bool {
        weights.metadata.contains_key("altiplano.space")
    }

    /// The names of the classes that a file was trained on, if it says so.
    pub fn classes_of(weights: &Weights) -> Option<Vec<String>> {
        Some(weights.metadata.get("altiplano.class_names")?.split('\n').map(str::to_owned).collect())
    }

    /// The network.
    ///
    /// # Errors
    /// If the space or the architecture is unknown, or the sizes cannot be built.
    pub fn model(&self) -> Result<Box<dyn Model>> {
        if self.space != "nas-bench-201" {
            return Err(crate::error::unknown("space", &self.space, &["nas-bench-201"]));
        }
        let [channels, cells, in_channels, height, width, classes] = self.sizes;
        let sizes = Macro { channels, cells, in_channels, height, width, classes };
        sizes.validate()?;
        Ok(Box::new(Network::new(self.arch.parse()?, sizes)))
    }
}
