//! What decides a run: its preset, the file of `--config` over it, options over both; or, for a run that is gone on with,
//! what its folder says.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Global;
use crate::data::{Dataset, load};
use crate::error::{Error, Result, unknown};

/// The file in a run's folder.
const FILE: &str = "config.toml";
/// Options that decide nothing about a run.
const INDIFFERENT: [&str; 8] =
    ["--resume", "--dry-run", "--out", "--device", "--checked", "--json", "--verbose", "--quiet"];

/// Where a run's configuration comes from.
pub(super) struct Source<'a> {
    pub global: &'a Global,
    /// The run's folder.
    pub out: Option<&'a Path>,
    /// Whether the run in it is gone on with.
    pub resume: bool,
    /// The file of `--config`.
    pub file: Option<&'a Path>,
}

/// A value as TOML text.
pub(super) fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|e| Error::invalid(FILE, e.to_string()))
}

impl Source<'_> {
    /// A text that stands in the configuration, `data` or `method`: what the command line says, else the file, else the
    /// option's default, which `value` is then.
    pub fn text(&self, key: &str, value: Option<&str>) -> Result<Option<String>> {
        let file = match self.global.was_given(&format!("--{key}")) {
            true => None,
            false => self.file.map(read).transpose()?,
        };
        let text = file.as_ref().and_then(|table| table.get(key)?.as_str());
        Ok(text.or(value).map(str::to_owned))
    }

    /// What the folder of a run that is gone on with says of it; `None` of a new run.
    ///
    /// # Errors
    /// If there is no run.
    pub fn stored(&self) -> Result<Option<toml::Table>> {
        let (true, Some(out)) = (self.resume, self.out) else { return Ok(None) };
        let path = out.join(FILE);
        if !path.exists() {
            let why = format!("there is no run in {}: it has no {FILE}", out.display());
            return Err(Error::invalid("--resume", why));
        }
        read(&path).map(Some)
    }

    /// The configuration and its data. `make` is given the data and their name. A run that is gone on with keeps what its
    /// folder says; options must be those that it was begun with, or none.
    ///
    /// # Errors
    /// What `make` has to say, what is wrong with a file, or how options and the run differ.
    pub fn configuration<C: Serialize + DeserializeOwned>(
        &self,
        data: Option<&str>,
        make: &dyn Fn(&Dataset, &str) -> Result<C>,
    ) -> Result<(C, Dataset)> {
        let asked = |name: Option<String>| -> Result<(C, Dataset)> {
            let name = name.ok_or_else(|| Error::invalid("--data", "is needed"))?;
            let data = load(&name)?;
            Ok((make(&data, &name)?, data))
        };
        let Some(stored) = self.stored()? else { return asked(self.text("data", data)?) };
        let begun = stored.get("data").and_then(|name| name.as_str()).map(str::to_owned);
        let path = self.out.unwrap_or(Path::new("")).join(FILE);
        let config = |table: toml::Table| -> Result<C> {
            table.try_into().map_err(|e: toml::de::Error| Error::file(&path, None, e.to_string()))
        };
        if self.global.given.iter().all(|option| INDIFFERENT.contains(&option.as_str())) {
            let data = load(&begun.ok_or_else(|| Error::file(&path, None, "there is no key data"))?)?;
            return Ok((config(stored)?, data));
        }
        let (other, data) = asked(self.text("data", data)?)?;
        if let Some((key, there, here)) = difference(&stored, &table(&other)?, "") {
            let why = format!(
                "options differ from what the run was begun with: {key} is {there} there and {here} here; it goes on as \
                 it began, so leave out all but --out, or begin another one"
            );
            return Err(Error::invalid("--resume", why));
        }
        Ok((config(stored)?, data))
    }

    /// `default` with the values of the file put over it; an unknown key is an error that names the nearest.
    pub fn merged<T: Serialize + DeserializeOwned>(&self, default: T) -> Result<T> {
        let Some(path) = self.file else { return Ok(default) };
        let mut given = read(path)?;
        // These are in `default` already, and what the command line says stands above the file.
        for key in ["seed", "data"] {
            if self.global.was_given(&format!("--{key}")) {
                given.remove(key);
            }
        }
        let mut all = table(&default)?;
        merge(&mut all, given, "").map_err(|e| Error::file(path, None, e.to_string()))?;
        all.try_into().map_err(|e: toml::de::Error| Error::file(path, None, e.to_string()))
    }
}

fn read(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|e| Error::file(path, None, e.to_string()))
}

fn table<T: Serialize>(value: &T) -> Result<toml::Table> {
    toml::Table::try_from(value).map_err(|e| Error::invalid("config", e.to_string()))
}

fn merge(into: &mut toml::Table, given: toml::Table, prefix: &str) -> Result<()> {
    for (key, value) in given {
        let name = format!("{prefix}{key}");
        let known: Vec<String> = into.keys().cloned().collect();
        match (into.get_mut(&key), value) {
            // A schedule is one of several kinds, so it is replaced as a whole.
            (Some(toml::Value::Table(inner)), toml::Value::Table(given)) if key != "schedule" => {
                merge(inner, given, &format!("{name}."))?;
            }
            (Some(slot), value) => *slot = value,
            (None, _) => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return Err(unknown(&format!("key {name}"), &key, &known));
            }
        }
    }
    Ok(())
}

/// The first key whose values differ, with both.
fn difference(there: &toml::Table, here: &toml::Table, prefix: &str) -> Option<(String, String, String)> {
    let keys: std::collections::BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    keys.into_iter().find_map(|key| match (there.get(key), here.get(key)) {
        (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => difference(a, b, &format!("{prefix}{key}.")),
        (a, b) if a == b => None,
        (a, b) => {
            let text = |value: Option<&toml::Value>| value.map_or("nothing".into(), ToString::to_string);
            Some((format!("{prefix}{key}"), text(a), text(b)))
        }
    })
}
