//! A run as its folder tells of it, whether it has ended or not: read without a lock, so that it may still be going on.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::configuration::FILE;
use super::super::inputs::Record;
use super::super::train::{TrainConfig, TrainResult};
use crate::error::{Error, Result};
use crate::report::folder::{HISTORY, RESULT};
use crate::search::archive::Entry;
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;

/// Largest file that is read as a whole; a history of a million candidates is smaller.
const LARGEST: u64 = 1 << 30;

/// What the run is.
pub(super) enum Job {
    Search { config: Box<SearchConfig>, entries: Vec<Entry>, result: Option<Box<SearchResult>> },
    Training { config: Box<TrainConfig>, result: Option<Box<TrainResult>> },
}

/// What a folder tells.
pub(super) struct Told {
    pub folder: PathBuf,
    /// What decides the run, as its file has it.
    pub settings: String,
    pub record: Option<Record>,
    pub job: Job,
    /// What of the folder could not be read, in sentences.
    pub faults: Vec<String>,
}

impl Told {
    /// Reads a folder.
    ///
    /// # Errors
    /// If it is no run's, or its settings cannot be read; anything else that cannot be read is among the faults.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            let why = format!("holds no {FILE}: it is no folder of a search or a training");
            return Err(Error::file(folder, None, why));
        }
        let settings = text(&path)?;
        let mut table: toml::Table = toml::from_str(&settings).map_err(|e| Error::file(&path, None, e.to_string()))?;
        let version = table.get("record").and_then(|record| record.get("version")).and_then(toml::Value::as_str);
        let version = version.unwrap_or_default().to_owned();
        let other = |why: String| {
            let own = env!("CARGO_PKG_VERSION");
            let advice = match version.as_str() {
                "" => "; it is of another version".to_owned(),
                version if version == own => "; it was edited, or written before this version was as it is".to_owned(),
                version => format!("; version {version} wrote it, and this is {own}"),
            };
            Error::file(&path, None, why.trim_end().to_owned() + &advice)
        };
        let record = Record::take(&mut table, &path).map_err(|error| other(error.to_string()))?;
        let mut faults = vec![];
        let job = match table.contains_key("method") {
            true => {
                let config = table.try_into().map_err(|e| other(e.to_string()))?;
                let entries = history(&folder.join(HISTORY), &mut faults)?;
                Job::Search { config, entries, result: result(folder, &mut faults) }
            }
            false => {
                let config = table.try_into().map_err(|e| other(e.to_string()))?;
                Job::Training { config, result: result(folder, &mut faults) }
            }
        };
        Ok(Told { folder: folder.to_owned(), settings, record, job, faults })
    }
}

/// A file's text, if it is not too large to be one of a run's.
pub(super) fn text(path: &Path) -> Result<String> {
    let size = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size > LARGEST {
        return Err(Error::file(path, None, format!("has {size} bytes, expected {LARGEST} at most")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|e| Error::file(path, Some(e.utf8_error().valid_up_to() as u64), "is not UTF-8"))
}

/// The candidates of a history; a line that cannot be read is a fault, and the others count.
fn history(path: &Path, faults: &mut Vec<String>) -> Result<Vec<Entry>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let all = text(path)?;
    let mut entries = vec![];
    let mut more = 0;
    for (number, line) in all.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(entry) if line.ends_with('\n') => entries.push(entry),
            // The run may be writing it.
            _ if !line.ends_with('\n') => {
                faults.push(format!("line {} of {HISTORY} is not whole yet, and is left out", number + 1));
            }
            Ok(_) => {}
            Err(error) if faults.len() < 3 => {
                faults.push(format!("line {} of {HISTORY} is left out: {error}", number + 1))
            }
            Err(_) => more += 1,
        }
    }
    if more > 0 {
        faults.push(format!("{more} more lines of {HISTORY} are left out"));
    }
    Ok(entries)
}

/// What a run says of itself at its end, if it has come to it.
fn result<T: for<'a> Deserialize<'a>>(folder: &Path, faults: &mut Vec<String>) -> Option<T> {
    let path = folder.join(RESULT);
    if !path.exists() {
        return None;
    }
    let read = text(&path).and_then(|text| {
        serde_json::from_str(&text).map_err(|e| Error::file(&path, None, format!("{e}; expected this version's")))
    });
    read.map_err(|error| faults.push(error.to_string())).ok()
}
