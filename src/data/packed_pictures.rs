//! Archives of pictures: they are unpacked into a folder of their own, which goes when nobody needs the pictures any more.
//!
//! Pictures keep their folders, which are classes. A name that leads out of the archive is refused, with all of it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::label_table::USUAL;
use super::picture::other_ending;
use super::source::{Limits, Source};
use super::{TemporaryFolder, annotations, is_picture};
use crate::error::{Error, Result};

/// What is unpacked of an archive at most.
const LIMITS: Limits = Limits { file: 256 << 20, archive: 16 << 30 };

/// The pictures of an archive, in a folder for a while.
pub(super) struct Unpacked {
    /// Where the set begins: the folder, or the only one in it.
    pub root: PathBuf,
    /// What was unpacked.
    pub archive: PathBuf,
    _folder: TemporaryFolder,
}

impl fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} unpacked", self.archive.display())
    }
}

impl Unpacked {
    /// Unpacks the pictures of an archive, and what says which classes they are of; none if it has no picture.
    ///
    /// # Errors
    /// If it is damaged, too large, or a name leads out of it, and what the disk says.
    pub fn pictures_of(archive: &Path) -> Result<Option<Self>> {
        let folder = TemporaryFolder::new("pictures")?;
        let source = Source::members_by(archive, &place, LIMITS, Some(folder.path()))?;
        if !source.names().any(|name| is_picture(Path::new(name))) {
            return Ok(None);
        }
        let mut root = folder.path().to_owned();
        while let Some(only) = only_folder(&root)? {
            root = only;
        }
        Ok(Some(Unpacked { root, archive: archive.to_owned(), _folder: folder }))
    }

    /// What an error says of files that lie in the archive.
    pub fn named(&self, error: Error) -> Error {
        match error {
            Error::File { path, offset, why } => {
                let below = path.strip_prefix(&self.root).map(|below| self.archive.join(below));
                let path =
                    below.map(|path| if path.ends_with("") { self.archive.clone() } else { path }).unwrap_or(path);
                Error::File { path, offset, why }
            }
            other => other,
        }
    }

    /// What the set is called.
    pub fn name(&self) -> String {
        let name = self.archive.file_name().unwrap_or_default().to_string_lossy();
        let endings = [".tar.gz", ".tgz", ".tar", ".zip"];
        endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
    }
}

/// Where a member is put: pictures, also those that are only told of, and lists of labels at their own places.
fn place(full: &str) -> std::result::Result<Option<String>, String> {
    let path = Path::new(full);
    let is_list = path.ends_with(USUAL) || annotations::is_named_so(path);
    if !is_list && !is_picture(path) && other_ending(path).is_none() {
        return Ok(None);
    }
    let parts: Vec<&str> = full.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // Windows has drives and streams behind a colon.
    if full.starts_with('/') || parts.iter().any(|part| *part == ".." || part.contains([':', '\0', '\\'])) {
        return Err(format!("`{full}` leads out of the archive, of which nothing is used"));
    }
    // What is hidden, and what macOS puts beside.
    let passed_over = parts.iter().any(|part| part.starts_with('.') || *part == "__MACOSX");
    Ok((!passed_over).then(|| parts.join("/")))
}

/// The folder in a folder that holds nothing else and is no part or class itself, since others are in it.
fn only_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let inside = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("read", folder))).collect()
    };
    let all = inside(folder)?;
    let [only] = &all[..] else { return Ok(None) };
    // `train` alone is a part of a set whose other parts are missing.
    let goes_down = only.is_dir() && !only.ends_with("train") && inside(only)?.iter().any(|entry| entry.is_dir());
    Ok(goes_down.then(|| only.clone()))
}
