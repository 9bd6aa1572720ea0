//! A run's folder: `config.toml`, `tiles.json`, `result.json`, `history.jsonl`, `checkpoint/`, `best.safetensors`,
//! `report.html`, `table.csv`, `table.svg`, `mistakes.png`, `train.toml`, `start.safetensors`, `supernet.safetensors`, and
//! `progress.json` while it has not ended.
//!
//! Files are replaced whole: written under a scratch name beside the target, flushed to the disk, renamed
//! over it, and on Unix the folder is flushed too. So after a crash or a loss of power the old contents or
//! the new ones are there, never a mixture; on Windows a loss of power may cost the last save. Checkpoints
//! carry a checksum over everything, since a disk can lie.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What to do with a folder that holds something already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    #[default]
    Refuse,
    /// Go on with the run in it.
    Resume,
    /// Remove the files of the run in it, and nothing else.
    Force,
}

/// The files of a run outside of [`CHECKPOINTS`].
const FILES: [&str; 13] = [
    CONFIG,
    TILES,
    RESULT,
    HISTORY,
    "best.safetensors",
    REPORT,
    "table.csv",
    "table.svg",
    MISTAKES,
    AGAIN,
    START,
    SUPERNET,
    PROGRESS,
];
const CONFIG: &str = "config.toml";
/// The tiles that a run began with, which it keeps.
pub const TILES: &str = "tiles.json";
/// What a run found; written at its end.
pub const RESULT: &str = "result.json";
/// The run as a page.
pub const REPORT: &str = "report.html";
/// A line for each candidate that was evaluated.
pub const HISTORY: &str = "history.jsonl";
/// Settings by which `altiplano train` trains the network that a search found once more.
pub const AGAIN: &str = "train.toml";
/// The weights that this training begins with, where they are not fresh.
pub const START: &str = "start.safetensors";
/// A supernet's weights, which other searches may take.
pub const SUPERNET: &str = "supernet.safetensors";
/// Pictures that corruptions make the kept network mistake, a column each: as they are, and corrupted.
pub const MISTAKES: &str = "mistakes.png";
/// How far a run is that has not ended, see [`Sign`](super::sign::Sign).
pub const PROGRESS: &str = "progress.json";
/// The folder of checkpoints in a run's.
pub const CHECKPOINTS: &str = "checkpoint";
/// The checkpoint that holds the seconds that a run has taken so far.
const SECONDS: &str = "seconds";
/// How scratch files end; they begin with a dot.
const SCRATCH: &str = ".altiplano-tmp";
const EXTENSION: &str = ".ckpt";
/// First bytes of a checkpoint; the last one is the version.
const MAGIC: [u8; 8] = *b"ALTIPCK\x01";
/// Magic, length of the payload (u64), CRC-32 of length and payload (u32), little-endian.
const HEADER: usize = 20;

/// A run's folder. It belongs to one process at a time, where the system can lock folders.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    torn: u64,
    /// Folders that were made for it, the deepest first.
    made: Vec<PathBuf>,
    /// Seconds of the run before it was opened this time.
    before: f64,
    opened: Instant,
    /// Seconds that the disk knows of.
    kept: Cell<f64>,
    /// What differed when the run was gone on with: another version, adapter, driver, tiles.
    changes: Vec<String>,
    /// Holds the lock.
    _lock: Option<File>,
}

impl RunFolder {
    /// Opens a folder for a run, and makes it with its parents where it is missing.
    ///
    /// Left-over scratch files are removed, and a torn last line of the history is cut off, see
    /// [`RunFolder::torn_bytes`]. Fails if the folder holds anything and `existing` is
    /// [`Existing::Refuse`], if a line amid the history is damaged, or if another process works in it.
    pub fn create(path: impl AsRef<Path>, existing: Existing) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        if path.exists() && !path.is_dir() {
            return Err(Error::file(&path, None, "is a file, expected a folder for the run or nothing"));
        }
        let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let made = missing.map(Path::to_path_buf).collect();
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        let lock = lock(&path)?;
        let (before, opened, kept) = (0.0, Instant::now(), Cell::new(0.0));
        let mut folder = Self { path, torn: 0, made, before, opened, kept, changes: vec![], _lock: lock };
        match existing {
            Existing::Refuse => {
                if !names(&folder.path)?.is_empty() {
                    let why = "is not empty: --resume goes on with the run in it, --force removes that run's files, \
                               or give another folder with --out";
                    return Err(Error::file(&folder.path, None, why));
                }
            }
            Existing::Resume => {
                remove_scratch(&folder.path)?;
                if folder.path.join(CHECKPOINTS).is_dir() {
                    remove_scratch(&folder.path.join(CHECKPOINTS))?;
                }
                folder.torn = folder.mend_history()?;
                let seconds = folder.read_checkpoint(SECONDS)?.and_then(|bytes| bytes.try_into().ok());
                // Whoever may write the file must not make a run endless.
                folder.before = seconds.map(f64::from_le_bytes).filter(|s| s.is_finite() && *s >= 0.0).unwrap_or(0.0);
            }
            Existing::Force => folder.remove_run()?,
        }
        Ok(folder)
    }

    /// Takes the folder back if nothing but its configuration and tiles were written: a run that never began leaves
    /// nothing behind.
    pub fn abandon(self) {
        let first = |name: std::ffi::OsString| name == CONFIG || name == TILES || name == PROGRESS;
        let only_first =
            fs::read_dir(&self.path).is_ok_and(|entries| entries.flatten().all(|entry| first(entry.file_name())));
        // What cannot be removed may stay: there is an error on its way already.
        if only_first {
            let _ = fs::remove_file(self.path.join(CONFIG));
            let _ = fs::remove_file(self.path.join(TILES));
            let _ = fs::remove_file(self.path.join(PROGRESS));
            let _ = fs::remove_dir(&self.path);
            self.made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of an unfinished last line that were cut from the history when the folder was opened.
    pub fn torn_bytes(&self) -> u64 {
        self.torn
    }

    /// Remembers what differed when the run was gone on with, for its result.
    pub fn set_changes(&mut self, changes: Vec<String>) {
        self.changes = changes;
    }

    /// What differed when the run was gone on with; a run that has such may end with other bits.
    pub fn changes(&self) -> Vec<String> {
        self.changes.clone()
    }

    /// Seconds that the run has taken, those before an interruption included but for what came after the last save.
    pub fn seconds(&self) -> f64 {
        self.before + self.opened.elapsed().as_secs_f64()
    }

    /// Replaces a file of the folder, see [`atomic_write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic_write(self.path.join(name), bytes)
    }

    /// The same for a file on which nothing depends: it is not waited for the disk, so that after a loss of power the file may hold anything.
    pub fn write_lightly(&self, name: &str, bytes: &[u8]) -> Result<()> {
        replace(&self.path.join(name), bytes, false)
    }

    /// Removes a file of the folder, if it is there: a result that a run which goes on is about to replace.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove_file(&self.path.join(name))
    }

    /// Stores a checkpoint under a name of letters, digits, `-` and `_`. The one before stays until the new
    /// one is durable.
    pub fn checkpoint(&self, name: &str, payload: &[u8]) -> Result<()> {
        self.save(name, payload)?;
        self.keep_seconds()
    }

    /// Stores the time, once a second at most.
    fn keep_seconds(&self) -> Result<()> {
        let seconds = self.seconds();
        if seconds - self.kept.get() < 1.0 {
            return Ok(());
        }
        self.kept.set(seconds);
        self.save(SECONDS, &seconds.to_le_bytes())
    }

    fn save(&self, name: &str, payload: &[u8]) -> Result<()> {
        let target = self.checkpoint_path(name)?;
        let folder = self.path.join(CHECKPOINTS);
        if !folder.is_dir() {
            fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
            flush_folder(&self.path)?;
        }
        atomic_write(target, &seal(payload))
    }

    /// Removes a checkpoint that nothing needs any more.
    pub fn forget(&self, name: &str) -> Result<()> {
        remove_file(&self.checkpoint_path(name)?)
    }

    /// The payload of a checkpoint; `None` if there is none. Fails if it is damaged, and says how.
    pub fn read_checkpoint(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.checkpoint_path(name)?;
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        unseal(&bytes).map_err(|(offset, why)| {
            let advice = "; remove the file to start anew, or put a copy in its place";
            Error::file(&path, Some(offset), why + advice)
        })?;
        Ok(Some(bytes.split_off(HEADER)))
    }

    /// Stores a value as a checkpoint in JSON.
    pub fn checkpoint_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(value).map_err(|e| Error::invalid("checkpoint", format!("{name}: {e}")))?;
        self.checkpoint(name, &json)
    }

    /// The value of a checkpoint in JSON; `None` if there is none. Fails if it is damaged, or another value's.
    pub fn read_checkpoint_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read_checkpoint(name)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).map_err(|e| Error::invalid("checkpoint", format!("{name}: {e}")))
    }

    fn checkpoint_path(&self, name: &str) -> Result<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
            let why = format!("`{name}`, expected up to 100 letters, digits, `-` and `_`");
            return Err(Error::invalid("checkpoint name", why));
        }
        Ok(self.path.join(CHECKPOINTS).join(format!("{name}{EXTENSION}")))
    }

    /// Adds a line of JSON to the history, and waits until it is on the disk. If that fails, the history is
    /// left as it was.
    pub fn append_history(&self, line: &str) -> Result<()> {
        if line.contains('\n') || !is_json(line.as_bytes()) {
            return Err(Error::invalid("history line", "is not one line of JSON"));
        }
        let path = self.path.join(HISTORY);
        let fresh = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        let before = file.metadata().map_err(Error::io("read", &path))?.len();
        let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What this cannot undo, the next opening cuts off.
            let _ = file.set_len(before);
            return Err(Error::io("write", &path)(error));
        }
        if fresh {
            flush_folder(&self.path)?;
        }
        self.keep_seconds()
    }

    /// The lines of the history; none if there is no file.
    pub fn history(&self) -> Result<Vec<String>> {
        let path = self.path.join(HISTORY);
        let bytes = read_or_nothing(&path)?;
        let whole = whole_lines(&path, &bytes)?;
        let text = std::str::from_utf8(&bytes[..whole])
            .map_err(|e| Error::file(&path, Some(e.valid_up_to() as u64), "is not UTF-8"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Cuts off a torn last line; how many bytes that were.
    fn mend_history(&self) -> Result<u64> {
        let path = self.path.join(HISTORY);
        let bytes = read_or_nothing(&path)?;
        let whole = whole_lines(&path, &bytes)?;
        if whole < bytes.len() {
            let file = OpenOptions::new().write(true).open(&path).map_err(Error::io("write", &path))?;
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
        }
        Ok((bytes.len() - whole) as u64)
    }

    /// Removes what a run writes. A folder `checkpoint` goes only if nothing foreign is in it.
    fn remove_run(&self) -> Result<()> {
        for name in FILES {
            remove_file(&self.path.join(name))?;
        }
        for name in names(&self.path)?.iter().filter(|name| is_kept_supernet(name)) {
            remove_file(&self.path.join(name))?;
        }
        remove_scratch(&self.path)?;
        let folder = self.path.join(CHECKPOINTS);
        // A link to a folder elsewhere is not ours to empty.
        if fs::symlink_metadata(&folder).is_ok_and(|data| data.is_dir()) {
            for name in names(&folder)? {
                if name.ends_with(EXTENSION) {
                    remove_file(&folder.join(name))?;
                }
            }
            remove_scratch(&folder)?;
            if names(&folder)?.is_empty() {
                fs::remove_dir(&folder).map_err(Error::io("remove", &folder))?;
            }
        }
        flush_folder(&self.path)
    }
}

/// A supernet's weights after so many epochs of its training.
pub fn kept_supernet(epochs: usize) -> String {
    format!("supernet-epoch-{epochs}.safetensors")
}

fn is_kept_supernet(name: &str) -> bool {
    let epochs = name.strip_prefix("supernet-epoch-").and_then(|rest| rest.strip_suffix(".safetensors"));
    epochs.and_then(|epochs| epochs.parse().ok()).is_some_and(|epochs| name == kept_supernet(epochs))
}

/// Locks a folder until the file is dropped. Where a system cannot lock folders, nothing is locked.
fn lock(path: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::file(path, None, "another process works in this folder; wait for it, or choose another --out"))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Replaces a file as a whole: after an error or a crash the old contents or the new ones are there, and
/// nothing half-written. Two processes must not write the same file at once.
///
/// # Errors
/// [`Error::Io`] if the system refuses, or if something other than a regular file has the name: a link or a device is
/// never replaced.
pub fn atomic_write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace(path.as_ref(), bytes, true)
}

/// Replaces a file as a whole, and waits until that is on the disk if it is to be durable.
fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::invalid("file to write", format!("`{}` has no name", path.display())));
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let scratch = folder.join(format!(".{}{SCRATCH}", name.to_string_lossy()));
    if fs::symlink_metadata(path).is_ok_and(|data| !data.is_file()) {
        let why = std::io::Error::new(ErrorKind::AlreadyExists, "is no regular file, and only such are replaced");
        return Err(Error::io("write", path)(why));
    }
    let written = write_new(&scratch, bytes, durable).and_then(|()| fs::rename(&scratch, path));
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&scratch);
        return Err(Error::io("write", path)(error));
    }
    if durable { flush_folder(folder) } else { Ok(()) }
}

fn write_new(path: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
    // What a crash left here goes; if it is a link, the link and not what it leads to.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Makes new and changed names durable. Windows has no such call.
fn flush_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("write", folder))?;
    }
    Ok(())
}

/// The first bytes, `most` at most, of the payload of a checkpoint in the folder of a run that may be going on: `None` if there is no such
/// file, or it is no checkpoint of this version. Its checksum, which is over everything, is not looked at.
///
/// # Errors
/// If it cannot be read.
pub fn checkpoint_head(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(HEADER as u64 + most).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("read", path))?,
    };
    let is_one = bytes.len() >= HEADER && bytes.starts_with(&MAGIC);
    Ok(is_one.then(|| bytes.split_off(HEADER)))
}

/// Header and payload.
fn seal(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&length, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Checks header and payload; else where and what is wrong.
fn unseal(bytes: &[u8]) -> std::result::Result<(), (u64, String)> {
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
        let why = format!("the checkpoint ends in its header: {} bytes, expected at least {HEADER}", bytes.len());
        return Err((bytes.len() as u64, why));
    };
    let (magic, rest) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err((0, "is no checkpoint of this version (its first 8 bytes are wrong)".into()));
    }
    let (length, crc) = rest.split_at(8);
    let expected = length.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if expected != payload.len() as u64 {
        let why = format!("the checkpoint is cut or damaged: {} bytes of payload, expected {expected}", payload.len());
        return Err((bytes.len() as u64, why));
    }
    if checksum(length, payload).to_le_bytes() != crc {
        return Err((HEADER as u64, "the checkpoint is damaged: its checksum differs".into()));
    }
    Ok(())
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(length);
    crc.update(payload);
    crc.sum()
}

/// How many bytes of a history are whole lines. A last line that is not finished or not JSON is torn; such
/// a line before the last is damage, and an error.
fn whole_lines(path: &Path, bytes: &[u8]) -> Result<usize> {
    let mut start = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let end = start + line.len();
        let whole = line.strip_suffix(b"\n").is_some_and(is_json);
        if !whole && end < bytes.len() {
            return Err(Error::file(path, Some(start as u64), "this line is not JSON, though others follow it"));
        }
        if !whole {
            break;
        }
        start = end;
    }
    Ok(start)
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

fn read_or_nothing(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a folder; those that are not Unicode, and so not ours, inexactly.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(Error::io("read", folder))
}

fn remove_scratch(folder: &Path) -> Result<()> {
    for name in names(folder)? {
        if name.starts_with('.') && name.ends_with(SCRATCH) {
            remove_file(&folder.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
