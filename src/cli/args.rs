//! Arguments that several commands share.

use std::sync::Arc;

use super::Global;
use super::configuration::Source;
use crate::data::Dataset;
use crate::error::{Error, Result, unknown};
use crate::nn::card::ModelCard;
use crate::nn::space::{Build, Family, ImageInfo, Networks, Purpose};
use crate::nn::weights::Weights;

/// What the benchmark's networks see, where nothing else is said.
const CIFAR: ImageInfo = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };

/// The space, and the network around an architecture.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Sizes {
    /// Search space (`altiplano space list`).
    #[arg(long)]
    pub space: Option<String>,
    /// Channels after the stem.
    #[arg(long)]
    pub channels: Option<usize>,
    /// Cells per stage.
    #[arg(long)]
    pub cells: Option<usize>,
    /// Any option of the space's networks, such as channels=16, or their form; commas between several.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_option)]
    pub build: Vec<(String, toml::Value)>,
    /// Classes.
    #[arg(long)]
    pub classes: Option<usize>,
    /// Rows and columns that the network sees, as HxW.
    #[arg(long, value_parser = parse_image)]
    pub image: Option<(usize, usize)>,
    /// Channels of the images.
    #[arg(long)]
    pub in_channels: Option<usize>,
}

/// `HxW`.
pub(crate) fn parse_image(text: &str) -> std::result::Result<(usize, usize), String> {
    let parsed = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    parsed.filter(|&(h, w): &(usize, usize)| h > 0 && w > 0).ok_or_else(|| "expected HxW, such as 32x32".into())
}

/// `name=value`, where a value is a number, true or false, or a word.
fn parse_option(text: &str) -> std::result::Result<(String, toml::Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as channels=16")?;
    let plain = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    let plain = plain.filter(|value| !value.is_array() && !value.is_table());
    Ok((name.trim().to_owned(), plain.unwrap_or_else(|| value.trim().into())))
}

/// What is known of a data set's images.
pub(crate) fn image_info(data: &Dataset) -> ImageInfo {
    let images = &data.train;
    ImageInfo { height: images.height, width: images.width, channels: images.channels, classes: images.classes }
}

impl Sizes {
    /// The space that the option names, or the usual one.
    ///
    /// # Errors
    /// If there is none of the name.
    pub fn space<'a>(&self, global: &'a Global) -> Result<&'a Arc<dyn Networks>> {
        self.named(global, self.space.as_deref())
    }

    /// The space of a run: the one that it began with, or else what the command line or the file says.
    ///
    /// # Errors
    /// If there is none of the name, or a run was begun with another.
    pub fn space_of<'a>(&self, source: &Source<'a>) -> Result<&'a Arc<dyn Networks>> {
        let begun = source.begun_with("space")?.flatten();
        if let (Some(begun), Some(asked)) = (&begun, &self.space)
            && begun != asked
        {
            return Err(Error::invalid("--space", format!("is {asked}, but the run was begun with {begun}")));
        }
        let name = match begun {
            Some(begun) => Some(begun),
            None => source.text("space", self.space.as_deref())?,
        };
        self.named(source.global, name.as_deref())
    }

    fn named<'a>(&self, global: &'a Global, name: Option<&str>) -> Result<&'a Arc<dyn Networks>> {
        let known = &global.registry;
        let found = match name {
            Some(name) => known.spaces().find(|space| space.name() == name),
            None => known.spaces().next(),
        };
        found.ok_or_else(|| unknown("--space", name.unwrap_or_default(), &known.names()))
    }

    /// Puts options into a build.
    ///
    /// # Errors
    /// If the space has no such option.
    pub fn apply(&self, space: &dyn Networks, build: &mut Build) -> Result<()> {
        let count = |name: &str, value: Option<usize>| {
            value.map(|value| (format!("--{name}"), name.to_owned(), toml::Value::from(value as i64)))
        };
        let named = [count("channels", self.channels), count("cells", self.cells)].into_iter().flatten();
        let free = self.build.iter().map(|(name, value)| ("--build".to_owned(), name.clone(), value.clone()));
        for (option, name, value) in named.chain(free) {
            if let ("form", Some(form)) = (name.as_str(), value.as_str()) {
                form.clone_into(&mut build.form);
                continue;
            }
            if !build.options.contains_key(&name) {
                let known: Vec<&str> = build.options.keys().map(String::as_str).collect();
                let why = unknown(&format!("option of the space {}", space.name()), &name, &known);
                return Err(Error::invalid(option, why.to_string()));
            }
            build.options.insert(name, value);
        }
        self.image.iter().for_each(|&(height, width)| build.image = [height, width]);
        self.in_channels.iter().for_each(|channels| build.in_channels = *channels);
        self.classes.iter().for_each(|classes| build.classes = *classes);
        Ok(())
    }

    /// The space with networks that are described by the options alone, with the benchmark's own sizes as default.
    ///
    /// # Errors
    /// If they cannot be built.
    pub fn stand_alone(&self, global: &Global) -> Result<Family> {
        self.for_weights(global, None, None, None)
    }

    /// The space that the option names, or the one of a file's card, or the usual one.
    ///
    /// # Errors
    /// If there is none of the name.
    pub fn space_for<'a>(&self, global: &'a Global, weights: Option<&Weights>) -> Result<&'a Arc<dyn Networks>> {
        match weights.filter(|weights| self.space.is_none() && ModelCard::is_in(weights)) {
            Some(weights) => {
                let known = global.registry.get(&ModelCard::read(weights)?.space);
                known.map_err(|error| Error::file(&weights.path, None, error.to_string()))
            }
            None => self.space(global),
        }
    }

    /// The space with networks that weights and options describe, in a form and for images of a size, if these are known.
    ///
    /// # Errors
    /// If they cannot be built.
    pub fn for_weights(
        &self,
        global: &Global,
        weights: Option<&Weights>,
        form: Option<&str>,
        input: Option<[usize; 3]>,
    ) -> Result<Family> {
        let space = self.space_for(global, weights)?;
        let mut build = self.described(&**space, &CIFAR, weights, form)?;
        if let Some([height, width, channels]) = input {
            (build.image, build.in_channels) = ([height, width], channels);
        }
        Family::new(space.clone(), build)
    }

    /// What the space, then a file's card or its tensors, then options say of a build.
    ///
    /// # Errors
    /// If the space has no such option.
    pub fn described(
        &self,
        space: &dyn Networks,
        info: &ImageInfo,
        weights: Option<&Weights>,
        form: Option<&str>,
    ) -> Result<Build> {
        let mut build = space.defaults(Purpose::Published, info);
        if let Some(weights) = weights {
            let card = if ModelCard::is_in(weights) { Some(ModelCard::read(weights)?) } else { None };
            match card.filter(|card| card.space == space.name()) {
                Some(card) => build = card.build,
                None => space.recognise(&weights.named, &mut build),
            }
        }
        form.iter().for_each(|form| (*form).clone_into(&mut build.form));
        self.apply(space, &mut build)?;
        Ok(build)
    }

    /// The space with networks of a build for a data set, which decides channels and classes.
    ///
    /// # Errors
    /// If they cannot be built, or options contradict the data.
    pub fn for_data(&self, space: &Arc<dyn Networks>, data: &Dataset, mut build: Build) -> Result<Family> {
        let images = &data.train;
        for (what, given, own) in
            [("--classes", self.classes, images.classes), ("--in-channels", self.in_channels, images.channels)]
        {
            if given.is_some_and(|given| given != own) {
                return Err(Error::invalid(what, format!("the data has {own}; leave the option out")));
            }
        }
        self.apply(&**space, &mut build)?;
        (build.in_channels, build.classes) = (images.channels, images.classes);
        Family::new(space.clone(), build)
    }
}

/// `800us`, `5ms`, `0.1s`: milliseconds.
pub(crate) fn parse_latency(text: &str) -> std::result::Result<f64, String> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let unit = units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let value = unit.and_then(|(number, factor)| Some(number.trim().parse::<f64>().ok()? * factor));
    let value = value.filter(|v| v.is_finite() && *v > 0.0);
    value.ok_or_else(|| "expected a time with its unit, such as 800us, 5ms or 0.1s".into())
}

/// `90`, `30s`, `20m`, `2h`: seconds.
pub(crate) fn parse_time(text: &str) -> std::result::Result<f64, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let value = number.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
    value.map(|v| v * factor).ok_or_else(|| "expected a time such as 90s, 20m or 2h".into())
}
