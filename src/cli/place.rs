//! Places of results: what may be written and replaced, and folders that vanish unless all is done.
//!
//! A folder for results is made with its parents. A single file's folder must be there: a slip in a path should not make
//! folders.

use std::path::{Component, Path, PathBuf};

use crate::data::{is_other_picture, is_picture};
use crate::error::{Error, Result};

/// What refuses a file that is there, for commands with `--force`; the advice that is given then.
pub(super) const FORCE: &str = "--force replaces it";

/// Endings of files that are read or written, pictures aside.
const OF_FILES: [&str; 10] = ["csv", "json", "jsonl", "md", "npy", "onnx", "safetensors", "svg", "toml", "txt"];

/// The outputs of a command, checked one by one before any work is done for them.
///
/// `refuse` is the advice to give where something is there already, or `None` if it may be replaced.
pub(super) struct Outputs {
    /// Files and folders that the command reads.
    inputs: Vec<PathBuf>,
    /// A folder for results.
    folder: Option<PathBuf>,
    /// Files so far, with the option that named them.
    files: Vec<(String, PathBuf)>,
}

impl Outputs {
    /// Of a command that reads these.
    pub fn new(inputs: &[Option<&Path>]) -> Self {
        let inputs = inputs.iter().flatten().map(|path| resolved(path)).collect();
        Outputs { inputs, folder: None, files: vec![] }
    }

    /// Takes a place for a folder; there may be a folder already. A new one has no name like a file's, which would be a slip.
    pub fn folder(&mut self, option: &str, path: &Path, refuse: Option<&str>) -> Result<()> {
        let wrong = |why: &str| Err(Error::invalid(option, format!("{} {why}", path.display())));
        if path.file_name().is_none() {
            return wrong("has no name of its own; give a folder by name");
        }
        let own = resolved(path);
        if let Some(input) = self.inputs.iter().find(|input| own.starts_with(input) || input.starts_with(&own)) {
            return wrong(&format!("and the input {} overlap; choose a place beside it", input.display()));
        }
        if path.is_symlink() {
            return wrong("is a link; give the place itself");
        }
        if path.exists() {
            if let Some(advice) = refuse {
                return wrong(&format!("exists; {advice}, or choose another place"));
            }
            if !path.is_dir() {
                return wrong("is a file; the results need a folder, so give another name");
            }
        } else if is_named_as_file(path) {
            return wrong("ends as a file does, but the results need a folder; give a name without such an ending");
        }
        self.folder = Some(own);
        Ok(())
    }

    /// Takes a place for a file, if there is one, whose name must end as `endings` say (any, if there are none).
    pub fn file(&mut self, option: &str, path: Option<&Path>, endings: &[&str], refuse: Option<&str>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let wrong = |why: &str| Err(Error::invalid(option, format!("{} {why}", path.display())));
        if path.file_name().is_none() {
            return wrong("has no name of its own; give a file by name");
        }
        let ending = path.extension().unwrap_or_default();
        if !endings.is_empty() && !endings.iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            let list: Vec<String> = endings.iter().map(|known| format!(".{known}")).collect();
            return wrong(&format!("does not end in {}, which is what is written", list.join(" or ")));
        }
        let own = resolved(path);
        if self.folder.as_ref().is_some_and(|folder| own.starts_with(folder)) {
            return wrong("is in the folder for results; choose a place beside it");
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return wrong(&format!("cannot be made: the folder {} does not exist", parent.display()));
        }
        let there = std::fs::symlink_metadata(path).ok();
        match &there {
            Some(data) if data.is_dir() => return wrong("is a folder; expected the name of a file"),
            Some(data) if data.is_symlink() => return wrong("is a link; give the place itself"),
            Some(data) if !data.is_file() => return wrong("is no regular file, and only such are replaced"),
            _ => {}
        }
        if let Some(input) = self.inputs.iter().find(|input| own.starts_with(input)) {
            let input = input.display();
            return wrong(&format!("is or lies in the input {input}; the two overlap, choose another place"));
        }
        if let Some((other, _)) = self.files.iter().find(|(_, place)| *place == own) {
            return wrong(&format!("is the place for {other} too; give each its own"));
        }
        if let (Some(_), Some(advice)) = (there, refuse) {
            return wrong(&format!("exists; {advice}, or choose another place"));
        }
        self.files.push((option.to_owned(), own));
        Ok(())
    }
}

fn is_named_as_file(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    is_picture(path)
        || is_other_picture(path).is_some()
        || OF_FILES.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// The place of a data set on the disk; the bundled one has none.
pub(super) fn data_place(spec: &str) -> Option<&Path> {
    (spec != "digits").then_some(Path::new(spec))
}

/// The path without links and detours, as far as it exists; what does not exist yet is appended.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let parent = || match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => resolved(parent),
        _ => resolved(Path::new(".")),
    };
    match path.components().next_back() {
        Some(Component::Normal(name)) => parent().join(name),
        // Out of a folder that is not there.
        Some(Component::ParentDir) => {
            let mut place = parent();
            place.pop();
            place
        }
        _ => path.to_path_buf(),
    }
}

/// Folders that were made for something; those that are empty go with this.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a folder and its parents.
    fn new(folder: &Path) -> Result<Self> {
        let missing = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let made = Made(missing.map(Path::to_path_buf).collect());
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Those that hold something stay.
        self.0.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

/// A new folder beside `out`, whose entries go there when all is done, and which vanishes if that never happens.
pub(super) struct Scratch {
    /// The folder.
    pub at: PathBuf,
    _parents: Made,
}

impl Scratch {
    /// Makes the folder, and the parents of `out` where they are missing.
    pub fn new(out: &Path) -> Result<Self> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let at = out.with_file_name(name);
        let parents = Made::new(at.parent().unwrap_or(Path::new("")))?;
        // Not `create_dir_all`: what is there already is somebody's.
        std::fs::create_dir(&at).map_err(Error::io("create", &at))?;
        Ok(Scratch { at, _parents: parents })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_resolved_as_far_as_they_exist() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("in")).unwrap();
        assert_eq!(resolved(&root.join("in/new/deep")), root.join("in/new/deep"));
        assert_eq!(resolved(&root.join("new/../in/x")), root.join("in/x"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("in", root.join("link")).unwrap();
            assert_eq!(resolved(&root.join("link/new")), root.join("in/new"));
        }
        assert!(resolved(Path::new("nowhere/x")).is_absolute());
    }

    #[test]
    fn a_folder_is_not_called_like_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let take = |name: &str| Outputs::new(&[]).folder("--out", &folder.path().join(name), None);
        for name in ["x.webp", "x.PNG", "deep/x.jpg", "x.heic", "x.npy", "x.safetensors"] {
            let why = take(name).unwrap_err().to_string();
            assert!(why.contains(name) && why.contains("need a folder"), "{why}");
        }
        for name in ["x", "x.png-c", "run.1", "set.tar-c"] {
            take(name).unwrap();
        }
        // Somebody meant what is there.
        std::fs::create_dir(folder.path().join("x.npy")).unwrap();
        take("x.npy").unwrap();
    }

    #[test]
    fn parents_that_stay_empty_are_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b/out");
        drop(Scratch::new(&out).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let scratch = Scratch::new(&out).unwrap();
        std::fs::rename(&scratch.at, &out).unwrap();
        drop(scratch);
        assert!(out.is_dir());
    }
}
