//! What has come of a file so far: it lies beside the file's place as `FILE.part`, and goes there when it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::error::{Error, Result};
use crate::progress::{Event, Observer, tell};

/// Bytes that are read at a time.
pub(super) const CHUNK: usize = 1 << 16;

/// A part of a file, open and locked, with the checksum of what it holds.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Md5,
}

impl Part {
    /// Opens the part of `file`, or begins one. What is there already is read for the checksum, unless it is longer than `most`.
    pub fn open(file: &Path, most: u64, observer: &mut Observer) -> Result<Self> {
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        // A pipe would be waited for.
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(Error::file(path, None, "expected a regular file; move it away"));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(path, None, "another process is downloading to it"));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let mut part = Part { path, file, length: 0, hash: Md5::new() };
        let there = part.file.metadata().map_err(Error::io("read", &part.path))?.len();
        if there > most {
            part.clear()?;
        } else {
            part.length = hash_on(&part.path, &mut part.file, &mut part.hash, observer)?;
        }
        Ok(part)
    }

    /// Bytes that it holds.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Begins anew.
    pub fn clear(&mut self) -> Result<()> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
        cleared.map_err(Error::io("write", &self.path))?;
        (self.length, self.hash) = (0, Md5::new());
        Ok(())
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The checksum of what it holds.
    pub fn md5(&self) -> String {
        digits(self.hash.clone())
    }

    /// Makes it the file itself.
    pub fn put(self, to: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        // Some systems rename no file that is open.
        drop(self.file);
        fs::rename(&self.path, to).map_err(Error::io("rename", &self.path))
    }

    /// Leaves it for another time, or removes it if there is nothing in it.
    pub fn leave(self) {
        drop(self.file);
        if self.length == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The MD5 of a file, and its length.
pub(super) fn md5_of(path: &Path, observer: &mut Observer) -> Result<(String, u64)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Md5::new();
    let length = hash_on(path, &mut file, &mut hash, observer)?;
    Ok((digits(hash), length))
}

/// Reads to the end; returns how much that was.
fn hash_on(path: &Path, file: &mut File, hash: &mut Md5, observer: &mut Observer) -> Result<u64> {
    let (mut chunk, mut length) = (vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut chunk).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(length);
        }
        hash.update(&chunk[..read]);
        length += read as u64;
        tell(observer, Event::Advance { done: length >> 10, note: "checking what is there".into() })?;
    }
}

fn digits(hash: Md5) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Folders that were made for a file, the outermost first.
pub(super) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes a folder, and those around it that are missing.
    pub fn make(folder: &Path) -> Result<Self> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let mut made: Vec<PathBuf> = folder.ancestors().take_while(missing).map(Path::to_path_buf).collect();
        made.reverse();
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Folders(made))
    }

    /// Removes those again in which nothing is.
    pub fn remove_empty(self) {
        for folder in self.0.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}
