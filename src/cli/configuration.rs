//! What decides a run: its preset, the file of `--config` over it, options over both; or, for a run that is gone on with,
//! what its folder says. With it goes the record of what the run depends on ([`Record`]).

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Global;
use super::inputs::{MOVABLE, Record, load_data};
use super::progress::note;
use crate::data::{Dataset, absolute, checksum};
use crate::error::{Error, Result, unknown};

/// The file in a run's folder.
pub(super) const FILE: &str = "config.toml";
/// Options that decide nothing about a run.
const INDIFFERENT: [&str; 9] =
    ["--resume", "--strict", "--dry-run", "--out", "--device", "--checked", "--json", "--verbose", "--quiet"];
/// Options from which the defaults of all others follow.
const DECISIVE: [&str; 3] = ["--preset", "--compat", "--method"];
/// Keys of networks' sizes in files of earlier versions.
const EARLIER: [&str; 3] = ["channels", "cells", "image"];
/// Keys that need not stand in a configuration.
const OPTIONAL: [&str; 5] = ["adversarial", "augmentation", "clip", "from", "images"];

/// Where a run's configuration comes from.
pub(super) struct Source<'a> {
    pub global: &'a Global,
    /// The run's folder.
    pub out: Option<&'a Path>,
    /// Whether the run in it is gone on with.
    pub resume: bool,
    /// The file of `--config`.
    pub file: Option<&'a Path>,
    /// The file of `--from`, for commands that have it.
    pub from: Option<&'a Path>,
}

/// A run that may begin or go on.
pub(super) struct Configured<C> {
    /// Its settings.
    pub config: C,
    /// Its data.
    pub data: Dataset,
    /// What it depends on.
    pub record: Record,
    /// What it depended on when it began, if it is gone on with.
    pub begun: Option<Record>,
}

/// What a run's folder says of it.
struct Stored {
    table: toml::Table,
    record: Option<Record>,
}

/// A value as TOML text.
pub(super) fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|e| Error::invalid(FILE, e.to_string()))
}

/// Settings and record as the text of a configuration.
pub(super) fn with_record<T: Serialize>(config: &T, record: &Record) -> Result<String> {
    #[derive(Serialize)]
    struct Recorded<'a> {
        record: &'a Record,
    }
    Ok(format!("{}\n{}", to_toml(config)?, to_toml(&Recorded { record })?))
}

impl Source<'_> {
    /// A text that stands in the configuration, `data` or `method`: what the command line says, else the file, else the
    /// option's default, which `value` is then.
    pub fn text(&self, key: &str, value: Option<&str>) -> Result<Option<String>> {
        let file = self.in_file(key)?;
        let text = file.as_ref().and_then(|value| value.as_str());
        Ok(text.or(value).map(str::to_owned))
    }

    /// A switch that stands in the configuration: what the command line says, else the file.
    pub fn switch(&self, key: &str, value: bool) -> Result<bool> {
        Ok(value || self.in_file(key)?.and_then(|value| value.as_bool()).unwrap_or(false))
    }

    /// What the file says, unless the command line says something else.
    fn in_file(&self, key: &str) -> Result<Option<toml::Value>> {
        let (false, Some(path)) = (self.global.was_given(&format!("--{key}")), self.file) else { return Ok(None) };
        Ok(read(path)?.remove(key))
    }

    /// A text that the folder of a run that is gone on with has under `key`.
    ///
    /// # Errors
    /// If there is no run.
    pub fn begun_with(&self, key: &str) -> Result<Option<Option<String>>> {
        let stored = self.stored()?;
        Ok(stored.map(|stored| stored.table.get(key).and_then(|value| value.as_str()).map(str::to_owned)))
    }

    /// What the folder of a run that is gone on with says of it; `None` of a new run.
    ///
    /// # Errors
    /// If there is no run.
    fn stored(&self) -> Result<Option<Stored>> {
        let (true, Some(out)) = (self.resume, self.out) else { return Ok(None) };
        let path = out.join(FILE);
        if !path.exists() {
            let why = format!("there is no run in {}: it has no {FILE}", out.display());
            return Err(Error::invalid("--resume", why));
        }
        let mut table = read(&path)?;
        if EARLIER.iter().any(|key| table.contains_key(*key)) {
            let why = "the run was begun by an earlier version, whose settings were laid out otherwise; go on with that \
                       version, or begin another run (--config takes the file)";
            return Err(Error::file(&path, None, why));
        }
        let record = Record::take(&mut table, &path)?;
        Ok(Some(Stored { table, record }))
    }

    /// The configuration and its data. `make` is given the data and their name. A run that is gone on with keeps what its
    /// folder says; options must be those that it was begun with, or none. Inputs must be those that it began with, but may
    /// lie elsewhere.
    ///
    /// # Errors
    /// What `make` has to say, what is wrong with a file, or how options, inputs and the run differ.
    pub fn configuration<C: Serialize + DeserializeOwned>(
        &self,
        data: Option<&str>,
        make: &dyn Fn(&Dataset, &str) -> Result<C>,
    ) -> Result<Configured<C>> {
        let Some(stored) = self.stored()? else { return self.begin(data, make) };
        let path = self.out.unwrap_or(Path::new("")).join(FILE);
        let begun = stored.table.get("data").and_then(|name| name.as_str());
        let name = match data.filter(|_| self.global.was_given("--data")) {
            Some(name) => place(name)?,
            None => begun.ok_or_else(|| Error::file(&path, None, "there is no key data"))?.to_owned(),
        };
        let data = load_data(self.global, &name).map_err(|error| match (error, begun) {
            (Error::Invalid { why, .. }, Some(begun)) if begun == name => {
                let why = format!("the run began with it: {why}\nif it was moved, say where it lies now with --data");
                Error::invalid("--data", why)
            }
            (error, _) => error,
        })?;
        let mut moved = stored.table;
        moved.insert("data".into(), name.clone().into());
        if let Some(from) = self.from {
            moved.insert("from".into(), absolute(from)?.into());
        }
        let record = record(&data, &moved).map_err(|error| match error {
            Error::Io { .. } if self.from.is_none() => Error::invalid(
                "--from",
                format!("{error}; the run began with it, so say where it lies now with --from"),
            ),
            other => other,
        })?;
        match &stored.record {
            Some(begun) => begun.check(&record)?,
            None => note(self.global, "the run does not say what it began with; its inputs cannot be checked"),
        }
        self.check_file(&record)?;
        let config: C = moved.try_into().map_err(|e: toml::de::Error| Error::file(&path, None, e.to_string()))?;
        let record = Record { settings: settings(&config)?, ..record };
        if let Some(begun) = &stored.record {
            begun.check_settings(&record.settings, &path)?;
        }
        let decides = |option: &str| {
            let moves = MOVABLE.iter().any(|name| option == format!("--{name}"));
            !INDIFFERENT.contains(&option) && !moves
        };
        if self.global.given.iter().any(|option| decides(option))
            && let Some((key, there, here)) = difference(&table(&config)?, &table(&make(&data, &name)?)?, "")
        {
            let why = format!(
                "{key} is {there} in the run and {here} by the options; a run goes on as it began, so leave the option out, \
                 or begin another run"
            );
            return Err(Error::invalid("--resume", why));
        }
        Ok(Configured { config, data, record, begun: stored.record })
    }

    /// The configuration of a new run.
    fn begin<C: Serialize>(
        &self,
        data: Option<&str>,
        make: &dyn Fn(&Dataset, &str) -> Result<C>,
    ) -> Result<Configured<C>> {
        let name = self.text("data", data)?.ok_or_else(|| Error::invalid("--data", "is needed"))?;
        let name = place(&name)?;
        let data = load_data(self.global, &name)?;
        let config = make(&data, &name)?;
        let record = record(&data, &table(&config)?)?;
        self.check_file(&record)?;
        let record = Record { settings: settings(&config)?, ..record };
        Ok(Configured { config, data, record, begun: None })
    }

    /// Refuses a file of `--config` that a run with other inputs has written, unless options name these.
    fn check_file(&self, record: &Record) -> Result<()> {
        let Some(path) = self.file else { return Ok(()) };
        let Some(Err(error)) = Record::take(&mut read(path)?, path)?.map(|meant| meant.check(record)) else {
            return Ok(());
        };
        if !MOVABLE.iter().any(|name| self.global.was_given(&format!("--{name}"))) {
            return Err(Error::file(path, None, error.to_string()));
        }
        note(self.global, &format!("{} was written for other inputs; those of the options are taken", path.display()));
        Ok(())
    }

    /// `default` with the values of the file put over it; an unknown key is an error that names the nearest. Where a run is gone
    /// on with, its own values stand in place of the default ones.
    pub fn merged<T: Serialize + DeserializeOwned>(&self, default: T) -> Result<T> {
        let mut all = table(&default)?;
        // What the command line says stands above files, and is in `default` already.
        let said: Vec<&str> =
            ["seed", "data", "from"].into_iter().filter(|key| self.global.was_given(&format!("--{key}"))).collect();
        let without = |mut given: toml::Table| {
            said.iter().for_each(|key| drop(given.remove(*key)));
            given
        };
        let anew = DECISIVE.iter().any(|option| self.global.was_given(option));
        if let Some(stored) = self.stored()?.filter(|_| !anew) {
            let spoken = said.iter().filter_map(|key| Some(((*key).to_owned(), all.get(*key)?.clone())));
            let spoken: Vec<(String, toml::Value)> = spoken.collect();
            all = stored.table;
            all.extend(spoken);
        }
        let mut path = self.out.unwrap_or(Path::new("")).join(FILE);
        if let Some(file) = self.file {
            let mut given = read(file)?;
            Record::take(&mut given, file)?;
            into_build(&mut given);
            merge(&mut all, without(given), "").map_err(|e| Error::file(file, None, e.to_string()))?;
            path = file.to_owned();
        }
        all.try_into().map_err(|e: toml::de::Error| Error::file(&path, None, e.to_string()))
    }
}

/// Moves what earlier versions wrote outside of `build` into it.
fn into_build(given: &mut toml::Table) {
    let moved: Vec<_> = EARLIER.iter().filter_map(|key| Some(((*key).to_owned(), given.remove(*key)?))).collect();
    if !moved.is_empty()
        && let toml::Value::Table(build) = given.entry("build").or_insert_with(|| toml::Table::new().into())
    {
        build.extend(moved);
    }
}

/// The name of a data set, as it can be written down: the bundled one's, or an absolute path.
fn place(name: &str) -> Result<String> {
    if super::place::data_place(name).is_some() && Path::new(name).exists() {
        return absolute(Path::new(name));
    }
    Ok(name.to_owned())
}

/// What a configuration depends on.
fn record(data: &Dataset, config: &toml::Table) -> Result<Record> {
    let from = config.get("from").and_then(|path| path.as_str()).map(Path::new);
    Record::of(data, &[("from", from)])
}

/// A checksum of the settings, but for where inputs lie.
fn settings<C: Serialize>(config: &C) -> Result<String> {
    let mut table = table(config)?;
    MOVABLE.iter().for_each(|key| drop(table.remove(*key)));
    Ok(checksum(to_toml(&table)?.as_bytes()))
}

fn read(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|e| Error::file(path, None, e.to_string()))
}

/// A value as a TOML table.
pub(super) fn table<T: Serialize>(value: &T) -> Result<toml::Table> {
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
            // What is free of form for serde still has a kind: that of the default.
            (Some(slot), value) if prefix == "build." && !is_like(slot, &value) => {
                let kind = if slot.is_integer() { "a whole number" } else { slot.type_str() };
                return Err(Error::invalid(
                    format!("key {name}"),
                    format!("is {value}, expected {kind}, such as {slot}"),
                ));
            }
            (Some(slot), value) => *slot = value,
            (None, value) if OPTIONAL.contains(&key.as_str()) => drop(into.insert(key, value)),
            (None, _) => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return Err(unknown(&format!("key {name}"), &key, &known));
            }
        }
    }
    Ok(())
}

/// Whether a value is of a default's kind; whole numbers are no less than 0 where that is not.
fn is_like(default: &toml::Value, value: &toml::Value) -> bool {
    match (default.as_integer(), value.as_integer()) {
        (Some(default), Some(value)) => value >= 0 || default < 0,
        (None, Some(_)) if default.is_float() => true,
        _ => default.same_type(value),
    }
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
