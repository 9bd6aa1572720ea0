//! The machine as far as files and variables tell of it, below a folder that tests put in place of `/`. All that is read is
//! bounded: these files are others'.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Most bytes of a file that are read.
const MOST_BYTES: u64 = 64 << 10;
/// Most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 4096;

/// Files below a folder, and variables.
pub(super) struct System {
    root: PathBuf,
    environment: BTreeMap<String, OsString>,
    /// The user whose libraries are trusted.
    owner: u32,
    /// Opens a device for reading and writing.
    opens: fn(&Path) -> io::Result<()>,
}

impl System {
    /// This machine.
    pub fn here() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        let opens = |path: &Path| OpenOptions::new().read(true).write(true).open(path).map(drop);
        System { root: "/".into(), environment: std::env::vars_os().filter_map(text).collect(), owner: 0, opens }
    }

    /// A machine of files below `root`, whose libraries belong to `owner` and whose devices `opens` opens.
    #[cfg(all(test, target_os = "linux"))]
    pub fn below(root: &Path, environment: &[(&str, &str)], owner: u32, opens: fn(&Path) -> io::Result<()>) -> Self {
        let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        System { root: root.to_owned(), environment, owner, opens }
    }

    /// Takes a variable away, as if nobody had set it.
    pub fn without(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    /// Where a path of the machine lies.
    fn at(&self, path: &Path) -> PathBuf {
        let plain = |part: &Component| matches!(part, Component::Normal(_) | Component::ParentDir);
        path.components().filter(plain).fold(self.root.clone(), |whole, part| whole.join(part))
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The same as text, bytes that are none replaced.
    pub fn word(&self, name: &str) -> Option<String> {
        self.variable(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// A variable's list of absolute paths; others mean something else in each folder and are passed over.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        let all = self.variable(name).map(|value| std::env::split_paths(value).collect::<Vec<_>>());
        all.into_iter().flatten().filter(|path| path.is_absolute()).take(MOST_ENTRIES).collect()
    }

    /// Whether something is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path.as_ref()).exists()
    }

    /// Whether it is a folder.
    pub fn is_folder(&self, path: &Path) -> bool {
        self.at(path).is_dir()
    }

    /// The beginning of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn bytes(&self, path: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        File::open(self.at(path.as_ref()))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A file's text, if it can be read; bytes that are none replaced.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = self.bytes(path, MOST_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a folder, in their order; none if it cannot be read.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder.as_ref())).into_iter().flatten().flatten().take(MOST_ENTRIES);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The name of what a link leads to.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.at(path.as_ref())).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Why a device cannot be opened for reading and writing, if so.
    pub fn refusal(&self, path: impl AsRef<Path>) -> Option<String> {
        (self.opens)(&self.at(path.as_ref())).err().map(|error| error.to_string())
    }

    /// The number of the group that a file belongs to.
    #[cfg(unix)]
    pub fn group(&self, path: impl AsRef<Path>) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.at(path.as_ref())).ok().map(|data| data.gid())
    }

    #[cfg(not(unix))]
    pub fn group(&self, _: impl AsRef<Path>) -> Option<u32> {
        None
    }

    /// Whether nobody but the trusted owner can put something else in a file's place: neither it nor a folder above it may be
    /// written by others.
    #[cfg(unix)]
    pub fn is_trusted(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (Ok(root), Ok(file)) = (self.root.canonicalize(), self.at(path).canonicalize()) else { return false };
        let kept = |part: &Path| {
            fs::symlink_metadata(part).is_ok_and(|data| data.uid() == self.owner && data.mode() & 0o022 == 0)
        };
        file.starts_with(&root) && file.ancestors().take_while(|part| part.starts_with(&root)).all(kept)
    }

    #[cfg(not(unix))]
    pub fn is_trusted(&self, _: &Path) -> bool {
        false
    }
}
