//! Signs of life of a run: `progress.json`, by which others see how far it is, and whether its folder is locked.
//!
//! The file is advice. It is replaced as a whole every few seconds, nothing is read back from it by the run itself but what it would say
//! again, and it goes when the run ends well. So results are the same with it and without.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::folder::PROGRESS;
use crate::error::{Error, Result};

/// Most bytes of such a file, and of the system's list of locks.
const LARGEST: u64 = 1 << 20;
const LARGEST_LOCKS: u64 = 16 << 20;

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does, or was killed.
    #[default]
    Running,
    /// It was asked to stop, and can be gone on with.
    Stopped,
    /// It ended with an error.
    Failed,
}

/// So many units of a stage were done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds since 1970.
    pub time: f64,
    /// Units.
    pub done: u64,
}

/// How far a run is. What a later version adds is passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sign {
    /// Version of the program that runs.
    pub version: String,
    /// Whether it goes on.
    pub state: State,
    /// Why it does not, if that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it does.
    pub stage: String,
    /// Units of work in the stage; 0 if there is none yet.
    pub units: u64,
    /// Units that are done.
    pub done: u64,
    /// A figure worth showing.
    pub note: String,
    /// Share of the whole run's work that stages before this one had, from 0 to 1.
    pub from: f64,
    /// Share that is done when it ends.
    pub to: f64,
    /// An earlier mark in the same stage, some minutes ago where it has lasted as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Mark>,
    /// Seconds that the run has taken.
    pub seconds: f64,
    /// When this was written, in seconds since 1970.
    pub time: f64,
    /// The architecture that each arm of a search would pick so far.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub best: BTreeMap<String, String>,
    /// Where the run's process and its lock can be seen, see [`place`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl Sign {
    /// The one in a run's folder; `None` if there is none, or no whole one.
    ///
    /// # Errors
    /// If it cannot be read, or is too large to be one.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(PROGRESS);
        let Some(data) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else { return Ok(None) };
        if data.len() > LARGEST {
            return Err(Error::file(&path, None, format!("has {} bytes, expected {LARGEST} at most", data.len())));
        }
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)) {
            // The run may have ended in between.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", &path))?,
        };
        Ok(serde_json::from_slice::<Sign>(&bytes).ok().map(Sign::sound))
    }

    /// With numbers that can be computed with.
    fn sound(mut self) -> Self {
        let share = |value: f64| if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
        let seconds = |value: f64| if value.is_finite() && value > 0.0 { value } else { 0.0 };
        (self.from, self.to) = (share(self.from), share(self.to));
        (self.seconds, self.time) = (seconds(self.seconds), seconds(self.time));
        self.since = self.since.filter(|mark| mark.time.is_finite());
        self
    }

    /// Share of the whole run's work that is done.
    pub fn share(&self) -> f64 {
        let part = self.done as f64 / self.units.max(1) as f64;
        self.from + part.min(1.0) * (self.to - self.from)
    }

    /// Units a minute over the last minutes; `None` as long as that cannot be told.
    pub fn per_minute(&self) -> Option<f64> {
        let since = self.since?;
        let (units, seconds) = (self.done.checked_sub(since.done)?, self.time - since.time);
        (units > 0 && seconds > 0.5).then(|| 60.0 * units as f64 / seconds)
    }
}

/// Seconds since 1970, by the system's clock.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Names the system, as long as it is up, and the part of it in which processes see each other's locks: who reads the same there may
/// take a lock that cannot be seen for one that is not held. `None` where that cannot be known.
pub fn place() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    let both = format!("{} {}", boot.trim(), processes.display());
    Some(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(both.as_bytes())))
}

/// Whether some process holds the lock of a folder, as far as the system's list of locks tells. The lock is not tried: whoever would begin
/// a run in that moment would find it taken.
pub fn is_locked(folder: &Path) -> bool {
    let mut list = String::new();
    let read = File::open("/proc/locks").and_then(|file| file.take(LARGEST_LOCKS).read_to_string(&mut list));
    read.is_ok() && identity(folder).is_some_and(|own| list.lines().any(|line| locked(line) == Some(own)))
}

/// Device, in its two parts, and number of a folder.
#[cfg(unix)]
fn identity(folder: &Path) -> Option<[u64; 3]> {
    use std::os::unix::fs::MetadataExt;
    let data = fs::metadata(folder).ok()?;
    let device = data.dev();
    // As the C library of Linux packs them.
    let major = device >> 8 & 0xfff | device >> 32 & !0xfff;
    let minor = device & 0xff | device >> 12 & !0xff;
    Some([major & 0xffff_ffff, minor & 0xffff_ffff, data.ino()])
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<[u64; 3]> {
    None
}

/// What a line of the list is about, if it is a lock on a whole file that is held: `1: FLOCK  ADVISORY  WRITE 5662 fe:00:835608 0 EOF`.
fn locked(line: &str) -> Option<[u64; 3]> {
    let mut words = line.split_ascii_whitespace().skip(1);
    // Whoever waits has an arrow there.
    if words.next() != Some("FLOCK") {
        return None;
    }
    let mut parts = words.nth(3)?.split(':');
    let mut number = |radix| parts.next().and_then(|part| u64::from_str_radix(part, radix).ok());
    Some([number(16)?, number(16)?, number(10)?])
}

#[cfg(test)]
mod tests {
    use super::super::folder::{Existing, RunFolder};
    use super::*;

    #[test]
    fn locks_are_read_off_the_list() {
        assert_eq!(locked("1: FLOCK  ADVISORY  WRITE 5662 fe:0a:835608 0 EOF"), Some([0xfe, 10, 835_608]));
        for other in
            ["1: -> FLOCK  ADVISORY  WRITE 1 fe:00:8 0 EOF", "2: POSIX  ADVISORY  READ 1 fe:00:8 0 EOF", "", "1: FLOCK"]
        {
            assert_eq!(locked(other), None, "{other}");
        }
    }

    /// Where the system has a list of locks that shows ours.
    #[test]
    fn a_run_is_seen_as_long_as_it_holds_its_folder() {
        let temp = tempfile::tempdir().unwrap();
        let run = RunFolder::create(temp.path().join("run"), Existing::Refuse).unwrap();
        let path = run.path().to_owned();
        if is_locked(&path) {
            assert_eq!(place(), place());
            assert!(!is_locked(temp.path()));
            drop(run);
        }
        assert!(!is_locked(&path));
    }

    #[test]
    fn what_is_no_sign_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, path) = (temp.path(), temp.path().join(PROGRESS));
        assert!(Sign::read(folder).unwrap().is_none());
        for text in ["", "{", "[-1]", "3", "{\"done\": -1}"] {
            fs::write(&path, text).unwrap();
            assert!(Sign::read(folder).unwrap().is_none(), "{text}");
        }
        // Of a later version, and forged.
        fs::write(&path, r#"{"stage":"s","units":0,"done":7,"from":-3e300,"to":1e300,"seconds":-1,"more":[1]}"#)
            .unwrap();
        let sign = Sign::read(folder).unwrap().unwrap();
        assert_eq!((sign.share(), sign.seconds, sign.per_minute()), (1.0, 0.0, None));
        fs::write(&path, vec![b' '; LARGEST as usize + 1]).unwrap();
        assert!(Sign::read(folder).unwrap_err().to_string().contains("bytes"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Sign::read(folder).unwrap().is_none());
    }

    #[test]
    fn rates_are_those_of_the_last_minutes() {
        let mark = |time: f64, done: u64| Some(Mark { time, done });
        let sign = |since| Sign { done: 30, time: 160.0, units: 40, from: 0.2, to: 0.6, since, ..Sign::default() };
        assert_eq!(sign(mark(100.0, 10)).per_minute(), Some(20.0));
        // Nothing done, another clock, or a stage that was begun anew.
        for since in [None, mark(100.0, 30), mark(160.0, 10), mark(170.0, 10), mark(100.0, 31)] {
            assert_eq!(sign(since).per_minute(), None, "{since:?}");
        }
        assert!((sign(None).share() - 0.5).abs() < 1e-12);
    }
}
