//! Folders for a while, in the system's place for temporary files.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Names that are tried: others may have been left by programs that were killed and had the same number.
const TRIES: u64 = 10_000;

/// A new folder of this process that nobody else reads, which goes with all that is in it when it is dropped.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// One whose name says what it is for.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(what: &str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self::below(&std::env::temp_dir(), what, &COUNT)
    }

    fn below(root: &Path, what: &str, count: &AtomicU64) -> Result<Self> {
        let process = std::process::id();
        let mut tries = 0..TRIES;
        loop {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("altiplano-{what}-{process}-{number}"));
            // What is there already is somebody's.
            match private().create(&path) {
                Ok(()) => return Ok(TemporaryFolder(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries.next().is_some() => {}
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes folders that others cannot look into, where the system knows of others.
fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_new_and_go() {
        let root = tempfile::tempdir().unwrap();
        let count = AtomicU64::new(0);
        // Left by another program that had this number.
        let left = root.path().join(format!("altiplano-x-{}-0", std::process::id()));
        std::fs::create_dir(&left).unwrap();
        let folders = [0, 1].map(|_| TemporaryFolder::below(root.path(), "x", &count).unwrap());
        assert!(folders[0].path() != left && folders[0].path() != folders[1].path());
        std::fs::write(folders[0].path().join("file"), "x").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(folders[0].path().metadata().unwrap().permissions().mode() & 0o077, 0);
        }
        drop(folders);
        let there: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(there, [left]);
        let error = TemporaryFolder::below(&root.path().join("nowhere"), "x", &count).err().unwrap().to_string();
        assert!(error.contains("cannot create") && error.contains("nowhere"), "{error}");
    }
}
