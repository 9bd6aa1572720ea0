//! A run as its folder tells of it, whether it has ended or not: read without a lock, so that it may still be going on, and read again
//! as far as something has changed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::configuration::FILE;
use super::inputs::Record;
use super::train::{TrainConfig, TrainResult};
use crate::error::{Error, Result};
use crate::report::folder::{HISTORY, RESULT};
use crate::search::archive::Entry;
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;

/// Largest file that is read as a whole; a history of a million candidates is smaller.
const LARGEST: u64 = 1 << 30;
/// Bytes before its end by which a history is known again.
const KNOWN: usize = 512;
/// Most faults of a history that are told one by one.
const MOST_FAULTS: usize = 3;

/// What the run is.
pub(super) enum Job {
    Search { config: Box<SearchConfig>, history: History, result: Option<Box<SearchResult>> },
    Training { config: Box<TrainConfig>, result: Option<Box<TrainResult>> },
}

/// What a folder tells.
pub(super) struct Told {
    pub folder: PathBuf,
    /// What decides the run, as its file has it.
    pub settings: String,
    pub record: Option<Record>,
    pub job: Job,
    /// Why the result that is there cannot be read.
    result_fault: Option<String>,
    /// The settings and the result that were read.
    read: [Option<Stamp>; 2],
}

impl Told {
    /// Reads a folder.
    ///
    /// # Errors
    /// If it is no run's, or its settings cannot be read; anything else that cannot be read is among the faults.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            let why = match folder.exists() {
                true => format!("holds no {FILE}: it is no folder of a search or a training"),
                false => "there is no such folder".to_owned(),
            };
            return Err(Error::file(folder, None, why));
        }
        let stamp = Stamp::of(&path);
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
        let job = match table.contains_key("method") {
            true => {
                let config = table.try_into().map_err(|e| other(e.to_string()))?;
                Job::Search { config, history: History::default(), result: None }
            }
            false => Job::Training { config: table.try_into().map_err(|e| other(e.to_string()))?, result: None },
        };
        let mut told =
            Told { folder: folder.to_owned(), settings, record, job, result_fault: None, read: [stamp, None] };
        told.follow()?;
        Ok(told)
    }

    /// Reads what has changed since; whether anything has.
    ///
    /// # Errors
    /// Those of [`Told::read`].
    pub fn again(&mut self) -> Result<bool> {
        if Stamp::of(&self.folder.join(FILE)) != self.read[0] {
            *self = Told::read(&self.folder)?;
            return Ok(true);
        }
        self.follow()
    }

    /// Reads what a run adds as it goes on.
    fn follow(&mut self) -> Result<bool> {
        let mut changed = match &mut self.job {
            Job::Search { history, .. } => history.follow(&self.folder.join(HISTORY))?,
            Job::Training { .. } => false,
        };
        let stamp = Stamp::of(&self.folder.join(RESULT));
        if stamp != self.read[1] {
            (self.read[1], self.result_fault, changed) = (stamp, None, true);
            match &mut self.job {
                Job::Search { result, .. } => *result = read_result(&self.folder, &mut self.result_fault),
                Job::Training { result, .. } => *result = read_result(&self.folder, &mut self.result_fault),
            }
        }
        Ok(changed)
    }

    /// When the result was written, if there is one.
    pub fn ended(&self) -> Option<SystemTime> {
        self.read[1].map(|stamp| stamp.modified)
    }

    /// What of the folder could not be read, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = match &self.job {
            Job::Search { history, .. } => history.faults(),
            Job::Training { .. } => vec![],
        };
        faults.extend(self.result_fault.clone());
        faults
    }
}

/// By what it is seen that a file was changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    pub modified: SystemTime,
    /// Its number on its disk, where there is such a thing: a file that takes another's place has another.
    number: u64,
}

impl Stamp {
    /// Of a file; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&data);
        #[cfg(not(unix))]
        let number = 0;
        Some(Stamp { length: data.len(), modified: data.modified().unwrap_or(SystemTime::UNIX_EPOCH), number })
    }
}

/// The candidates of a history as far as it is written: a line that cannot be read is a fault, and the others count.
#[derive(Default)]
pub(super) struct History {
    pub entries: Vec<Entry>,
    faults: Vec<String>,
    /// Faults that are not told one by one.
    more: usize,
    /// Whether the run may be writing a line.
    is_torn: bool,
    /// Bytes and lines that were read.
    offset: u64,
    lines: usize,
    /// The last bytes of these.
    known: Vec<u8>,
    stamp: Option<Stamp>,
}

impl History {
    /// Reads what was added since; all of it if it is not the same history any more. Whether anything has changed.
    fn follow(&mut self, path: &Path) -> Result<bool> {
        let stamp = Stamp::of(path);
        if stamp == self.stamp {
            return Ok(false);
        }
        let Some(now) = stamp else {
            *self = History::default();
            return Ok(true);
        };
        within(path, now.length)?;
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("read", path))?,
        };
        let mut from = |start: u64| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let read =
                file.seek(SeekFrom::Start(start)).and_then(|_| (&mut file).take(LARGEST).read_to_end(&mut bytes));
            read.map_err(Error::io("read", path)).map(|_| bytes)
        };
        let mut bytes = from(self.offset - self.known.len() as u64)?;
        if bytes.starts_with(&self.known) {
            bytes.drain(..self.known.len());
        } else {
            *self = History::default();
            bytes = from(0)?;
        }
        self.stamp = stamp;
        let rest = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let whole: usize = rest.map(|line| self.take(line).len()).sum();
        self.is_torn = whole < bytes.len();
        self.offset += whole as u64;
        self.known.extend_from_slice(&bytes[whole.saturating_sub(KNOWN)..whole]);
        self.known.drain(..self.known.len().saturating_sub(KNOWN));
        Ok(true)
    }

    /// Takes a whole line.
    fn take<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        self.lines += 1;
        match serde_json::from_slice(line) {
            Ok(entry) => self.entries.push(entry),
            Err(error) if self.faults.len() < MOST_FAULTS => {
                self.faults.push(format!("line {} of {HISTORY} is left out: {error}", self.lines));
            }
            Err(_) => self.more += 1,
        }
        line
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        if self.is_torn {
            faults.push(format!("line {} of {HISTORY} is not whole yet, and is left out", self.lines + 1));
        }
        if self.more > 0 {
            faults.push(format!("{} more lines of {HISTORY} are left out", self.more));
        }
        faults
    }
}

/// Fails if a file is too large to be one of a run's.
fn within(path: &Path, size: u64) -> Result<()> {
    match size > LARGEST {
        true => Err(Error::file(path, None, format!("has {size} bytes, expected {LARGEST} at most"))),
        false => Ok(()),
    }
}

/// A file's text, if it is not too large to be one of a run's.
pub(super) fn text(path: &Path) -> Result<String> {
    let data = fs::metadata(path).map_err(Error::io("read", path))?;
    if !data.is_file() {
        return Err(Error::file(path, None, "is no regular file"));
    }
    within(path, data.len())?;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|e| Error::file(path, Some(e.utf8_error().valid_up_to() as u64), "is not UTF-8"))
}

/// What a run says of itself at its end, if it has come to it.
fn read_result<T: for<'a> Deserialize<'a>>(folder: &Path, fault: &mut Option<String>) -> Option<T> {
    let path = folder.join(RESULT);
    if !path.exists() {
        return None;
    }
    let read = text(&path).and_then(|text| {
        serde_json::from_str(&text).map_err(|e| Error::file(&path, None, format!("{e}; expected this version's")))
    });
    read.map_err(|error| *fault = Some(error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(arch: &str) -> String {
        format!("{{\"arch\":\"{arch}\",\"fitness\":0.5,\"params\":1,\"macs\":2}}\n")
    }

    fn add(path: &Path, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn archs(history: &History) -> Vec<&str> {
        history.entries.iter().map(|entry| entry.arch.as_str()).collect()
    }

    /// Whole lines are read once, whatever is written, and in whatever pieces.
    #[test]
    fn a_history_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(HISTORY);
        let mut history = History::default();
        assert!(!history.follow(&path).unwrap() && history.entries.is_empty());
        add(&path, line("a").as_bytes());
        assert!(history.follow(&path).unwrap() && !history.follow(&path).unwrap());
        let (first, last) = (line("b"), line("c"));
        let (begin, end) = first.as_bytes().split_at(20);
        add(&path, begin);
        assert!(history.follow(&path).unwrap() && history.is_torn && archs(&history) == ["a"]);
        assert_eq!(history.faults(), ["line 2 of history.jsonl is not whole yet, and is left out"]);
        add(&path, end);
        add(&path, b"no JSON \xff\n");
        add(&path, last.as_bytes());
        assert!(history.follow(&path).unwrap() && !history.is_torn);
        assert_eq!(archs(&history), ["a", "b", "c"]);
        assert!(history.faults().len() == 1 && history.faults()[0].starts_with("line 3 "), "{:?}", history.faults());

        // Another history in its place is read anew: a shorter one, and a longer one.
        fs::write(&path, line("d")).unwrap();
        assert!(history.follow(&path).unwrap() && archs(&history) == ["d"] && history.faults().is_empty());
        let other: String = (0..50).map(|i| line(&format!("e{i}"))).collect();
        fs::write(&path, other).unwrap();
        assert!(history.follow(&path).unwrap() && history.entries.len() == 50);
        assert_eq!(history.known.len(), KNOWN);
        fs::remove_file(&path).unwrap();
        assert!(history.follow(&path).unwrap() && history.entries.is_empty());
        add(&path, "x\n".repeat(8).as_bytes());
        assert!(history.follow(&path).unwrap());
        assert_eq!(history.faults().len(), MOST_FAULTS + 1);
        assert_eq!(history.faults()[MOST_FAULTS], "5 more lines of history.jsonl are left out");
    }
}
