//! What commands read: data sets, and the record of what a run depended on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Global;
use super::progress::note;
use crate::data::{Dataset, Handling, Identity, Origin, Reading, load_with};
use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::kernels::Preset;
use crate::nn::weights::differing_classes;

/// The table of config.toml that holds the record.
pub(super) const RECORD: &str = "record";
/// Inputs that may have been moved since a run began: they are known by their contents, and the option of the same name says
/// where they are now.
pub(super) const MOVABLE: [&str; 4] = ["data", "from", "supernet_file", "warm_start"];

/// Options that say how the pictures of a set are read.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ReadingArgs {
    /// Bring pictures of a folder to one size: a square of so many pixels from the middle of each. Networks see it, or what --image
    /// says.
    #[arg(long, value_name = "SIDE")]
    crop: Option<usize>,
    /// Length in pixels of a picture's shorter side before the square is cut out (default 8/7 of it, as 256 for 224); without
    /// --crop the square is as large.
    #[arg(long, value_name = "SIDE")]
    resize: Option<usize>,
    /// Share of each class that becomes the test part, where pictures have none (default 0.2).
    #[arg(long, value_name = "SHARE")]
    test_share: Option<f64>,
    /// Let training see a random part of each picture instead of the middle: at least this share of its area, sides between 3:4 and 4:3
    /// (torchvision's RandomResizedCrop; 0.08 is usual for ImageNet). Needs --crop.
    #[arg(long, value_name = "SHARE")]
    random_crop: Option<f64>,
    #[command(flatten)]
    handling: HandlingArgs,
}

/// Options that say how pictures are handled while they are read, and decide nothing else.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct HandlingArgs {
    /// Pixels that may be in memory, in MiB (default 1024). Larger sets of pictures are decoded from their files as they are needed.
    #[arg(long, value_name = "MIB")]
    data_memory: Option<u64>,
    /// Refuse data of which a picture cannot be read, instead of leaving it out.
    #[arg(long)]
    strict_data: bool,
}

impl HandlingArgs {
    /// What they say.
    pub fn handling(&self) -> Handling {
        let memory = self.data_memory.map(|mib| mib.saturating_mul(1 << 20));
        Handling { strict: self.strict_data, memory, ..Handling::default() }
    }
}

impl ReadingArgs {
    /// What they say.
    pub fn reading(&self) -> Reading {
        let mut reading = Reading::default();
        self.over(&mut reading);
        reading
    }

    /// Puts what they say over what a file or a run says.
    pub fn over(&self, reading: &mut Reading) {
        self.crop.iter().for_each(|side| reading.crop = Some(*side));
        self.resize.iter().for_each(|side| reading.resize = Some(*side));
        self.test_share.iter().for_each(|share| reading.test_share = Some(*share));
        self.random_crop.iter().for_each(|share| reading.random_crop = Some(*share));
        reading.handling = self.handling();
    }

    /// What of it decides nothing about the images.
    pub fn handling(&self) -> Handling {
        self.handling.handling()
    }
}

/// Loads a data set and tells what a user should know of it.
///
/// # Errors
/// Those of [`load_with`].
pub(super) fn load_data(global: &Global, spec: &str, reading: &Reading) -> Result<Dataset> {
    let data = load_with(spec, reading)?;
    // Of the bundled set all is known.
    if data.source != Origin::Bundled {
        data.notes.iter().for_each(|text| note(global, &format!("{spec}: {text}")));
    }
    if data.train.held().is_none() {
        let bytes = ((data.train.len() + data.test.len()) * data.train.image_len()) as f64;
        let why = match data.reading.random_crop {
            Some(_) => "random parts of pictures are decoded as they are needed".to_owned(),
            None => format!(
                "{:.0} MiB of pixels are more than is kept in memory (--data-memory), so pictures are decoded as they are needed",
                bytes / f64::from(1 << 20)
            ),
        };
        note(global, &format!("{spec}: {why}"));
    }
    Ok(data)
}

/// The option that says where an input lies.
pub(super) fn option(key: &str) -> String {
    format!("--{}", key.trim_end_matches("_file").replace('_', "-"))
}

/// What a run depended on, besides its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Name of the adapter.
    #[serde(default)]
    pub adapter: String,
    /// Its driver.
    #[serde(default)]
    pub driver: String,
    /// Tiles of its shaders.
    #[serde(default)]
    pub tiles: String,
    /// A checksum of the settings, so that a run does not go on with edited ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// Names of the classes, in the order of their labels.
    pub classes: Vec<String>,
    /// What differed, of the four above, when the run was gone on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Files and folders that were read, by what they are.
    pub inputs: BTreeMap<String, Identity>,
}

impl Record {
    /// Of data, and of other files by what they are.
    ///
    /// # Errors
    /// If one cannot be read any more.
    pub fn of(data: &Dataset, files: &[(&str, Option<&Path>)]) -> Result<Self> {
        let mut inputs = BTreeMap::from([("data".to_owned(), data.identity()?)]);
        for (what, path) in files {
            if let Some(path) = path {
                inputs.insert((*what).to_owned(), Identity::of_file(path)?);
            }
        }
        Ok(Record { classes: data.train.class_names.clone(), inputs, ..Record::default() })
    }

    /// Takes the record out of a configuration.
    ///
    /// # Errors
    /// If it is none.
    pub fn take(table: &mut toml::Table, path: &Path) -> Result<Option<Self>> {
        let record = table.remove(RECORD).map(|record| record.try_into::<Record>()).transpose();
        record.map_err(|e| Error::file(path, None, format!("{RECORD}: {e}")))
    }

    /// Refuses inputs that are not those of this record.
    ///
    /// # Errors
    /// Names the input, and how it differs.
    pub fn check(&self, now: &Record) -> Result<()> {
        if self.classes != now.classes {
            let why = format!("its classes are not those of the run: {}", differing(&self.classes, &now.classes));
            return Err(Error::invalid("--data", why));
        }
        for (what, there) in &self.inputs {
            let option = option(what);
            let Some(here) = now.inputs.get(what) else {
                return Err(Error::invalid(option, format!("was {there} when the run began, and is not given now")));
            };
            if !there.same_contents(here) {
                let why = format!(
                    "is not what the run began with: {there} then, {here} now; put it back, say where it lies now with \
                     {option}, or begin another run"
                );
                return Err(Error::invalid(option, why));
            }
        }
        if let Some((what, here)) = now.inputs.iter().find(|(what, _)| !self.inputs.contains_key(*what)) {
            return Err(Error::invalid(option(what), format!("is {here}, but the run began without")));
        }
        Ok(())
    }

    /// Adds what runs it.
    pub fn with_adapter(self, report: &AdapterReport, preset: Preset) -> Self {
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: report.name.clone(),
            driver: report.driver.clone(),
            tiles: format!("{}: windowed {}, pointwise {}", preset.name, preset.windowed, preset.pointwise),
            ..self
        }
    }

    /// Refuses settings that are not those that this record was written with. What another version wrote cannot be compared.
    ///
    /// # Errors
    /// If they were edited.
    pub fn check_settings(&self, settings: &str, path: &Path) -> Result<()> {
        if self.settings.is_empty() || self.settings == settings || self.version != env!("CARGO_PKG_VERSION") {
            return Ok(());
        }
        let why = "its settings were changed since the run began, and what was done already had others; put them back, or \
                   begin another run with it (--config)";
        Err(Error::file(path, None, why))
    }

    /// Whether it says all by which another program or adapter is known.
    pub fn is_complete(&self) -> bool {
        [&self.version, &self.adapter, &self.driver, &self.tiles].iter().all(|text| !text.is_empty())
    }

    /// What differs between this record and that of a run that goes on now: it may end with other bits.
    pub fn changes(&self, now: &Record) -> Vec<String> {
        let pairs = [
            ("version", &self.version, &now.version),
            ("adapter", &self.adapter, &now.adapter),
            ("driver", &self.driver, &now.driver),
            ("tiles", &self.tiles, &now.tiles),
        ];
        let differing = pairs.into_iter().filter(|(_, there, here)| !there.is_empty() && there != here);
        differing.map(|(what, there, here)| format!("{what}: {there} until then, {here} from there on")).collect()
    }
}

/// How class names differ, in words.
fn differing(there: &[String], here: &[String]) -> String {
    match there.iter().zip(here).position(|(a, b)| a != b) {
        Some(i) if there.len() == here.len() => format!("class {i} was `{}` and is `{}`", there[i], here[i]),
        _ => differing_classes(["the run", "the data"], there, here),
    }
}
