//! Places of results: what may be written and replaced, and folders that vanish unless all is done.

use std::path::{Path, PathBuf};

use crate::corrupt::Kind;
use crate::error::{Error, Result};

/// Refuses a file's place that cannot be written, before work is done for it.
pub(super) fn check_place(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Error::file(path, None, format!("the folder {} does not exist", parent.display())));
    }
    if path.is_dir() {
        return Err(Error::file(path, None, "is a folder; expected the name of a file"));
    }
    Ok(())
}

/// A new folder beside `out`, whose entries go to `out` when all are there, and vanish if that never happens.
pub(super) struct Scratch {
    /// The folder.
    pub at: PathBuf,
}

impl Scratch {
    pub fn new(out: &Path) -> Result<Self> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let at = out.with_file_name(name);
        if let Some(parent) = at.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        // Not `create_dir_all`: what is there already is somebody's.
        std::fs::create_dir(&at).map_err(Error::io("create", &at))?;
        Ok(Scratch { at })
    }

    /// Moves the results to `out`, where [`replaceable`] has been asked before; results of the same name are replaced, and
    /// nothing else is touched.
    pub fn finish(self, out: &Path) -> Result<()> {
        if !out.exists() {
            return std::fs::rename(&self.at, out).map_err(Error::io("write", out));
        }
        for entry in std::fs::read_dir(&self.at).map_err(Error::io("read", &self.at))? {
            let entry = entry.map_err(Error::io("read", &self.at))?;
            let target = out.join(entry.file_name());
            if target.is_dir() {
                std::fs::remove_dir_all(&target).map_err(Error::io("remove", &target))?;
            }
            std::fs::rename(entry.path(), &target).map_err(Error::io("write", &target))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.at);
    }
}

/// Refuses a place that has no name of its own, or that is, holds or lies in the input.
pub(super) fn apart(out: &Path, input: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid("--out", format!("{} {why}", out.display())));
    let Some(name) = out.file_name() else { return refuse("has no name of its own; give a file or folder by name") };
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(parent), Ok(input)) = (parent.canonicalize(), Path::new(input).canonicalize()) else { return Ok(()) };
    let own = parent.join(name);
    let own = own.canonicalize().unwrap_or(own);
    if own.starts_with(&input) || input.starts_with(&own) {
        return refuse("and the input overlap; choose a place beside it");
    }
    Ok(())
}

/// Whether `--force` may replace what is in a folder: nothing but results of this command lies in it. A folder of a kind
/// holds folders of severities, and these hold PNG files and folders of such.
pub(super) fn replaceable(out: &Path) -> Result<()> {
    let refuse = |what: &Path| {
        let why = format!(
            "holds {}, which this command did not write; --force replaces only its own results",
            what.display()
        );
        Err(Error::file(out, None, why))
    };
    let mut folders = vec![(out.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = |name: &str| Kind::ALL.iter().any(|kind| kind.name() == name);
            let own = match depth {
                0 if kind.is_file() => name == "labels.npy" || name.strip_suffix(".npy").is_some_and(known),
                0 => known(&name),
                1 => kind.is_dir() && matches!(name.as_str(), "1" | "2" | "3" | "4" | "5"),
                _ => kind.is_dir() || name.ends_with(".png"),
            };
            if !own || kind.is_symlink() {
                return refuse(&entry.path());
            }
            if kind.is_dir() {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
}
