//! By what an input is known again: where it lies, how large it is, and a checksum of what is in it.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::{Dataset, Format, Origin, is_picture};
use crate::error::{Error, Result};

/// Most bytes that are hashed whole; of larger inputs [`SAMPLE`] files are.
const MOST_BYTES: u64 = 4 << 30;
const SAMPLE: usize = 1_000;
/// Bytes that are read at a time.
const PART: usize = 1 << 18;

/// What an input was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The absolute path of the file or folder; of the bundled data their name.
    pub path: String,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// XXH3, 128 bits, over names, sizes and contents, as hexadecimal digits. Names are relative to the folder, and a single
    /// file's name does not count, so that what was moved has the same.
    pub checksum: String,
    /// What of the contents the checksum is over.
    pub hashed: Hashed,
}

/// What of the contents a checksum is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hashed {
    /// All of them.
    #[serde(rename = "all contents")]
    All,
    /// Names and sizes of all files, and the contents of 1,000 of them, chosen by a hash of their names: the input is larger
    /// than 4 GiB.
    #[serde(rename = "names, sizes and the contents of 1000 files")]
    Sample,
}

impl Identity {
    /// Of a single file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::of(path, &[path.to_owned()], MOST_BYTES)
    }

    /// Of files that lie at or below `root`; contents of at most `most` bytes are hashed whole.
    fn of(root: &Path, files: &[PathBuf], most: u64) -> Result<Self> {
        let mut list = Vec::with_capacity(files.len());
        for file in files {
            let size = std::fs::metadata(file).map_err(Error::io("read", file))?.len();
            let name = file.strip_prefix(root).unwrap_or(file);
            // The same on every system.
            let parts: Vec<&[u8]> = name.iter().map(|part| part.as_encoded_bytes()).collect();
            list.push((parts.join(&b'/'), size, file));
        }
        list.sort();
        let bytes: u64 = list.iter().map(|(_, size, _)| size).sum();
        let hashed = if bytes <= most { Hashed::All } else { Hashed::Sample };
        let mut chosen: Vec<usize> = (0..list.len()).collect();
        if hashed == Hashed::Sample {
            // What says which pictures are what decides more than a picture does.
            let is_other = |i: usize| !is_picture(list[i].2);
            let others = chosen.iter().filter(|&&i| is_other(i)).count();
            chosen.sort_by_cached_key(|&i| (!is_other(i), xxh3_64(&list[i].0), i));
            chosen.truncate(SAMPLE.max(others));
            chosen.sort_unstable();
        }
        let contents: Vec<Result<u128>> = chosen.par_iter().map(|&i| contents(list[i].2)).collect();
        let mut sum = Xxh3::new();
        for (name, size, _) in &list {
            sum.update(&(name.len() as u64).to_le_bytes());
            sum.update(name);
            sum.update(&size.to_le_bytes());
        }
        for (i, contents) in chosen.into_iter().zip(contents) {
            sum.update(&(i as u64).to_le_bytes());
            sum.update(&contents?.to_le_bytes());
        }
        let path = absolute(root)?;
        let checksum = format!("{:032x}", sum.digest128());
        Ok(Identity { path, files: list.len() as u64, bytes, checksum, hashed })
    }

    /// Whether the contents are the same, wherever they lie.
    pub fn same_contents(&self, other: &Self) -> bool {
        (self.files, self.bytes, &self.checksum, self.hashed)
            == (other.files, other.bytes, &other.checksum, other.hashed)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} files of {} bytes, checksum {})", self.path, self.files, self.bytes, self.checksum)
    }
}

impl Dataset {
    /// What the set was when its files were read; of the bundled set, what it is.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read any more.
    pub fn identity(&self) -> Result<Identity> {
        let Origin::Path(root) = &self.source else {
            let mut sum = Xxh3::new();
            let mut bytes = 0;
            for part in [&self.train, self.test.for_checking_files()] {
                part.walk(&mut |pixels| {
                    sum.update(pixels);
                    bytes += pixels.len() as u64;
                })?;
                part.labels.iter().for_each(|label| sum.update(&label.to_le_bytes()));
            }
            let checksum = format!("{:032x}", sum.digest128());
            return Ok(Identity { path: self.name.clone(), files: 0, bytes, checksum, hashed: Hashed::All });
        };
        // A table of labels lies beside its pictures.
        let table = self.format == Format::LabelTable && root.is_file() && self.files != [root.as_path()];
        let folder = root.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let below = if table { folder } else { root };
        let identity = Identity::of(below, &self.files, MOST_BYTES)?;
        Ok(if table { Identity { path: absolute(root)?, ..identity } } else { identity })
    }
}

/// XXH3, 128 bits, as hexadecimal digits.
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The absolute path, as text.
///
/// # Errors
/// If the current folder is gone, or the path is not UTF-8 and could not be read back.
pub fn absolute(path: &Path) -> Result<String> {
    // A detour over a folder that goes later would lead nowhere.
    let detour = path.components().any(|part| part == Component::ParentDir);
    let whole = if detour { std::fs::canonicalize(path) } else { std::path::absolute(path) };
    let whole = whole.map_err(Error::io("find", path))?;
    whole.into_os_string().into_string().map_err(|whole| {
        Error::file(whole, None, "is a path that is not UTF-8, which cannot be written down; move what it names")
    })
}

fn contents(path: &Path) -> Result<u128> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut part, mut sum) = (vec![0; PART], Xxh3::new());
    loop {
        let read = file.read(&mut part).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(sum.digest128());
        }
        sum.update(&part[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, bytes)| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        (dir, paths)
    }

    fn of(files: &[(&str, &[u8])], most: u64) -> Identity {
        let (dir, paths) = folder(files);
        Identity::of(dir.path(), &paths, most).unwrap()
    }

    #[test]
    fn contents_names_and_sizes_decide_and_places_do_not() {
        let first = of(&[("a/1", b"one"), ("b/2", b"two")], 100);
        let same = of(&[("b/2", b"two"), ("a/1", b"one")], 100);
        assert!(first.same_contents(&same) && first.path != same.path);
        assert_eq!((first.files, first.bytes, first.hashed), (2, 6, Hashed::All));
        for other in [
            of(&[("a/1", b"one"), ("b/2", b"twO")], 100),
            of(&[("a/1", b"one"), ("b/3", b"two")], 100),
            of(&[("a/1", b"onet"), ("b/2", b"wo")], 100),
            of(&[("a/1", b"one")], 100),
        ] {
            assert!(!first.same_contents(&other), "{other}");
        }
        let (dir, files) = folder(&[("x.tar", b"one"), ("y.tar", b"one")]);
        let one = |i: usize| Identity::of_file(&files[i]).unwrap();
        assert!(one(0).same_contents(&one(1)));
        assert_eq!(one(0).path, dir.path().join("x.tar").to_str().unwrap());
    }

    #[test]
    fn of_large_inputs_a_sample_is_hashed() {
        let mut names: Vec<String> = (0..SAMPLE + 50).map(|i| format!("{i}.png")).collect();
        names.push("labels.csv".into());
        let files = |changed: Option<usize>| -> Vec<(&str, &[u8])> {
            let bytes = |i| if changed == Some(i) { &b"y"[..] } else { b"x" };
            names.iter().enumerate().map(|(i, name)| (name.as_str(), bytes(i))).collect()
        };
        let whole = of(&files(None), 10);
        assert_eq!(whole.hashed, Hashed::Sample);
        assert!(whole.same_contents(&of(&files(None), 10)) && !whole.same_contents(&of(&files(None), 1 << 20)));
        // A change is seen where it is in the sample, and most files are.
        let seen = (0..20).filter(|&i| !whole.same_contents(&of(&files(Some(50 * i)), 10))).count();
        assert!((15..=20).contains(&seen), "{seen}");
        // What says which pictures are what is always in it.
        assert!(!whole.same_contents(&of(&files(Some(SAMPLE + 50)), 10)));
    }

    #[test]
    fn the_bundled_set_has_no_files() {
        let digits = crate::data::load("digits").unwrap().identity().unwrap();
        assert_eq!((digits.path.as_str(), digits.files), ("digits", 0));
        assert_eq!(digits, crate::data::load("digits").unwrap().identity().unwrap());
    }
}
