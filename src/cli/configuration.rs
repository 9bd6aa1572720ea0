//! What decides a run: its preset, the file of `--config` over it, options over both; or, for a run that is gone on with,
//! what its folder says. With it goes the record of what the run depends on ([`Record`]).

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inputs::{MOVABLE, ReadingArgs, Record, load_data, option};
use super::progress::note;
use super::{Global, earlier};
use crate::data::{Dataset, Reading, absolute, checksum};
use crate::error::{Error, Result, unknown};
use crate::train::step::Optimizer;

/// The file in a run's folder.
pub(super) const FILE: &str = "config.toml";
/// Options that decide nothing about a run.
const INDIFFERENT: [&str; 12] = [
    "--resume",
    "--extend",
    "--strict",
    "--strict-data",
    "--data-memory",
    "--dry-run",
    "--out",
    "--device",
    "--checked",
    "--json",
    "--verbose",
    "--quiet",
];
/// Options from which the defaults of all others follow.
const DECISIVE: [&str; 3] = ["--preset", "--compat", "--method"];
/// Keys that need not stand in a recipe, and in a configuration.
const OF_RECIPES: [&str; 7] = ["adversarial", "augmentation", "clip", "drop_path", "paths", "sandwich", "shrinking"];
const OPTIONAL: [&str; 6] = ["from", "images", "reading", "supernet_file", "supernet_keep_every", "warm_start"];
/// Keys whose values are of one of several kinds: another kind has other keys, and so replaces the whole.
const KINDS: [&str; 4] = ["schedule", "strategy", "evaluator", "objectives"];

/// Where a run's configuration comes from.
pub(super) struct Source<'a> {
    pub global: &'a Global,
    /// The run's folder.
    pub out: Option<&'a Path>,
    /// Whether the run in it is gone on with.
    pub resume: bool,
    /// The file of `--config`.
    pub file: Option<&'a Path>,
    /// Files that it depends on besides, by their keys, as options say where they lie now.
    pub inputs: Vec<(&'static str, Option<&'a Path>)>,
    /// How options say that data are read.
    pub reading: &'a ReadingArgs,
    /// How the run in the folder is extended, if it is.
    pub extension: Option<Extension>,
}

/// New values of settings that say how far a run goes.
pub(super) struct Extension {
    pub keys: toml::Table,
}

/// Who has a key that the configuration does not, for what else is said of it.
pub(super) type Owner<'a> = dyn Fn(&str) -> Option<String> + 'a;

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
    /// A text that stands in the configuration, such as `data` or `method`, or the kind of a part of it: what the command line says, else the file, else the
    /// option's default, which `value` is then.
    pub fn text(&self, key: &str, value: Option<&str>) -> Result<Option<String>> {
        let file = self.in_file(key)?;
        let kind = |value: &toml::Value| value.get("kind").and_then(|kind| kind.as_str()).map(str::to_owned);
        let text = file.as_ref().and_then(|value| value.as_str().map(str::to_owned).or_else(|| kind(value)));
        Ok(text.or(value.map(str::to_owned)))
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

    /// The option that goes on with a run.
    fn going_on(&self) -> &'static str {
        if self.extension.is_some() { "--extend" } else { "--resume" }
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
            return Err(Error::invalid(self.going_on(), why));
        }
        let mut table = read(&path)?;
        if earlier::is_earlier(&table) {
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
        let reading = read_as(stored.table.get("reading").cloned(), &path)?;
        let reading = Reading { handling: self.reading.handling(), ..reading };
        let data = load_data(self.global, &name, &reading).map_err(|error| match (error, begun) {
            (Error::Invalid { what, why }, Some(begun)) if begun == name && what == "data set" => {
                let why = format!("the run began with it: {why}\nif it was moved, say where it lies now with --data");
                Error::invalid("--data", why)
            }
            (error, _) => error,
        })?;
        let mut moved = stored.table;
        moved.insert("data".into(), name.clone().into());
        for (key, path) in &self.inputs {
            if let Some(path) = path {
                moved.insert((*key).into(), absolute(path)?.into());
            }
        }
        let record = record(&data, &moved).map_err(|error| match error {
            Error::Io { .. } => {
                let options: Vec<String> = self.inputs.iter().map(|(key, _)| option(key)).collect();
                let options = options.join(" or ");
                let why = format!("{error}; the run began with it, so say where it lies now with {options}");
                Error::invalid(options, why)
            }
            other => other,
        })?;
        match &stored.record {
            Some(begun) => begun.check(&record)?,
            None => note(self.global, "the run does not say what it began with; its inputs cannot be checked"),
        }
        self.check_file(&record)?;
        let parse = |table: toml::Table| -> Result<C> {
            table.try_into().map_err(|e: toml::de::Error| Error::file(&path, None, e.to_string()))
        };
        let mut config: C = parse(moved.clone())?;
        if let Some(begun) = &stored.record {
            begun.check_settings(&settings(&config)?, &path)?;
        }
        if let Some(extension) = &self.extension {
            for (key, new) in &extension.keys {
                let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|value| value as f64));
                let old = moved.get(key).and_then(number).unwrap_or_default();
                if number(new).is_some_and(|new| new < old) {
                    return Err(Error::invalid(
                        "--extend",
                        format!("{key} is {old} in the run already, and {new} is less"),
                    ));
                }
            }
            moved.extend(extension.keys.clone());
            config = parse(moved)?;
        }
        let record = Record { settings: settings(&config)?, ..record };
        let decides = |given: &str| {
            let moves = MOVABLE.iter().any(|key| given == option(key));
            !INDIFFERENT.contains(&given) && !moves
        };
        if self.global.given.iter().any(|option| decides(option))
            && let Some((key, there, here)) = difference(&table(&config)?, &table(&make(&data, &name)?)?, "")
        {
            let why = format!(
                "{key} is {there} in the run and {here} by the options; a run goes on as it began, so leave the option out, \
                 or begin another run"
            );
            return Err(Error::invalid(self.going_on(), why));
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
        let said = self.in_file("reading")?;
        let mut reading = read_as(said, self.file.unwrap_or(Path::new("")))?;
        self.reading.over(&mut reading);
        let data = load_data(self.global, &name, &reading)?;
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
        if !MOVABLE.iter().any(|key| self.global.was_given(&option(key))) {
            return Err(Error::file(path, None, error.to_string()));
        }
        note(self.global, &format!("{} was written for other inputs; those of the options are taken", path.display()));
        Ok(())
    }

    /// `default` with the values of the file put over it; an unknown key is an error that names the nearest. Where a run is gone
    /// on with, its own values stand in place of the default ones.
    pub fn merged<T: Serialize + DeserializeOwned>(&self, default: T, owner: &Owner) -> Result<T> {
        let mut all = table(&default)?;
        // What the command line says stands above files, and is in `default` already.
        let said: Vec<&str> =
            MOVABLE.into_iter().chain(["seed"]).filter(|key| self.global.was_given(&option(key))).collect();
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
            if earlier::moved(&mut given, &all) {
                note(
                    self.global,
                    &format!("{}: its keys are those of an earlier version; taken for today's", file.display()),
                );
            }
            merge(&mut all, without(given), "", owner).map_err(|e| Error::file(file, None, e.to_string()))?;
            path = file.to_owned();
        }
        all.try_into().map_err(|e: toml::de::Error| Error::file(&path, None, e.to_string()))
    }
}

/// The name of a data set, as it can be written down: the bundled one's, or an absolute path.
fn place(name: &str) -> Result<String> {
    if super::place::data_place(name).is_some() && Path::new(name).exists() {
        return absolute(Path::new(name));
    }
    Ok(name.to_owned())
}

/// How a file says that data are read.
fn read_as(said: Option<toml::Value>, path: &Path) -> Result<Reading> {
    let reading = said.map(toml::Value::try_into::<Reading>).transpose();
    Ok(reading.map_err(|e| Error::file(path, None, format!("reading: {e}")))?.unwrap_or_default())
}

/// What a configuration depends on.
fn record(data: &Dataset, config: &toml::Table) -> Result<Record> {
    let path = |key: &&'static str| (*key, config.get(*key).and_then(|path| path.as_str()).map(Path::new));
    // The data are known by more than one file.
    Record::of(data, &MOVABLE.iter().filter(|key| **key != "data").map(path).collect::<Vec<_>>())
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

fn merge(into: &mut toml::Table, given: toml::Table, prefix: &str, owner: &Owner) -> Result<()> {
    usual_radius(into, &given);
    for (key, value) in given {
        let name = format!("{prefix}{key}");
        let known: Vec<String> = into.keys().cloned().collect();
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(given)) if !is_another_kind(&key, inner, &given) => {
                merge(inner, given, &format!("{name}."), owner)?;
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
            (None, value) if may_be_missing(&key, &known, prefix) => drop(into.insert(key, value)),
            (None, _) => {
                if let Some(owner) = owner(&name) {
                    let why =
                        format!("is for --method {owner}; with what this search consists of there is no such key");
                    return Err(Error::invalid(format!("key {name}"), why));
                }
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return Err(unknown(&format!("key {name}"), &key, &known));
            }
        }
    }
    Ok(())
}

/// Where another optimiser is named without a radius, it has its usual one: SGD's would make it SGD.
fn usual_radius(into: &mut toml::Table, given: &toml::Table) {
    let other = given.get("optimizer").filter(|other| into.get("optimizer").is_some_and(|own| own != *other));
    let optimizer = other.and_then(|name| name.as_str()).and_then(|name| name.parse::<Optimizer>().ok());
    if let (Some(optimizer), Some(radius), false) = (optimizer, into.get_mut("rho"), given.contains_key("rho")) {
        *radius = optimizer.default_rho().into();
    }
}

fn may_be_missing(key: &str, known: &[String], prefix: &str) -> bool {
    let stands_beside = |other: &str| known.iter().any(|key| key == other);
    (OF_RECIPES.contains(&key) && stands_beside("epochs"))
        || (key == "cutout" && stands_beside("padding"))
        || (key == "build" && prefix == "finals.")
        || (key == "best_epoch" && prefix == "evaluator." && stands_beside("recalibration_batches"))
        || (key == "released_angle" && prefix == "evaluator." && stands_beside("flatness"))
        || (OPTIONAL.contains(&key) && prefix.is_empty())
        || (["crop", "random_crop", "resize", "test_share"].contains(&key) && prefix == "reading.")
}

/// Whether a table is of another kind than the one that it is put over.
fn is_another_kind(key: &str, there: &toml::Table, given: &toml::Table) -> bool {
    KINDS.contains(&key) && given.get("kind").is_some_and(|kind| there.get("kind") != Some(kind))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::step::Optimizer;
    use crate::train::trainer::Recipe;

    /// What is left out of a file where it is nothing may stand in another.
    #[test]
    fn keys_that_are_left_out_may_be_given() {
        let plain = || {
            toml::Table::from_iter([
                ("training".to_owned(), table(&Recipe::usual(Optimizer::Sgd, 3, 32)).unwrap().into()),
                ("finals".to_owned(), toml::Table::from_iter([("seeds".to_owned(), 1.into())]).into()),
            ])
        };
        let merged = |given: &str| {
            let mut into = plain();
            merge(&mut into, toml::from_str(given).unwrap(), "", &|_| None).map(|()| into)
        };
        let given = "supernet_keep_every = 5\n[training]\ndrop_path = 0.2\n[training.augmentation]\ncutout = 16\n[finals.build]\nform = 'a'";
        let all = merged(given).unwrap();
        assert_eq!(all["training"]["drop_path"], 0.2.into());
        assert_eq!(all["training"]["augmentation"]["cutout"], 16.into());
        assert_eq!((all["training"]["epochs"].clone(), all["finals"]["build"]["form"].clone()), (3.into(), "a".into()));
        for wrong in ["drop_path = 0.2", "cutout = 16", "[training]\ncutout = 16", "[finals]\ndrop_path = 0.1"] {
            assert!(merged(wrong).is_err(), "{wrong}");
        }
    }
}
