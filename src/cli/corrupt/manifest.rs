//! What `corrupt` has written into a folder, kept in the folder itself: `--force` replaces that, and nothing else.
//!
//! Results come in groups, which are made and replaced as a whole: a folder such as `fog/3`, or a file such as `fog.npy`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::place::Scratch;
use crate::error::{Error, Result};
use crate::report::folder::atomic_write;

/// The list's name in a folder of results.
pub(crate) const NAME: &str = ".altiplano-corrupt.json";

/// What must be the same for all results in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub seed: u64,
    pub constants: String,
    pub jpeg85: bool,
    /// Number, size and a checksum of the images, where results of all kinds stand beside one list of labels.
    pub images: Option<String>,
}

/// Files of one run, as far as no later run has replaced them: each name in each group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub settings: Settings,
    /// Where frost came from, if there was any.
    pub frost: Option<String>,
    pub groups: Vec<String>,
    /// Paths below a group; the empty one is the group itself.
    pub names: Vec<String>,
}

/// The whole list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    program: String,
    pub runs: Vec<Run>,
}

impl Manifest {
    /// The list in a folder, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let advice = "; without it nothing here can be replaced: choose another folder";
        let list: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(&path, None, format!("is not the list that `corrupt` writes: {e}{advice}")))?;
        // Files are removed by this list, so it may not lead elsewhere.
        let inside =
            |path: &str| !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
        let all = list.runs.iter().flat_map(|run| {
            let names = run.names.iter().filter(|name| !name.is_empty());
            run.groups.iter().chain(names)
        });
        match all.into_iter().find(|path| !inside(path)) {
            Some(path) => {
                Err(Error::file(folder.join(NAME), None, format!("`{path}` leads out of the folder{advice}")))
            }
            None => Ok(Some(list)),
        }
    }

    fn write(folder: &Path, runs: &[&Run]) -> Result<()> {
        let path = folder.join(NAME);
        let runs = runs.iter().map(|run| (*run).clone()).collect();
        let list = Manifest { program: format!("altiplano {}", env!("CARGO_PKG_VERSION")), runs };
        let json = serde_json::to_vec_pretty(&list).map_err(|e| Error::file(&path, None, e.to_string()))?;
        atomic_write(path, &json)
    }
}

/// A folder that is to take the results of a run.
pub(super) struct Target {
    out: PathBuf,
    before: Vec<Run>,
    new: Run,
}

fn below(group: &str, name: &str) -> PathBuf {
    if name.is_empty() { group.into() } else { Path::new(group).join(name) }
}

impl Target {
    /// Looks whether the results of `new` can go to `out`, replacing those of the same groups.
    pub fn new(out: &Path, new: Run) -> Result<Self> {
        let refuse = |why: String| Err(Error::file(out, None, why));
        let mut target = Target { out: out.into(), before: vec![], new };
        if !out.exists() {
            return Ok(target);
        }
        match Manifest::read(out)? {
            Some(list) => target.before = list.runs,
            None => {
                let entries = std::fs::read_dir(out).map_err(Error::io("read", out))?;
                if let Some(name) = entries.flatten().map(|entry| entry.file_name()).min() {
                    let name = name.to_string_lossy();
                    return refuse(format!(
                        "holds {name} and no {NAME}: this command did not write it; choose another folder"
                    ));
                }
            }
        }
        let settings = &target.new.settings;
        if let Some(other) = target.kept().iter().find(|run| run.settings != *settings) {
            return refuse(format!(
                "keeps {}, made with {}, beside which results with {} cannot stand; make all anew, or choose another folder",
                other.groups.join(", "),
                other.settings.difference(settings),
                settings.difference(&other.settings)
            ));
        }
        target.check_way()?;
        Ok(target)
    }

    /// What stays of earlier runs.
    fn kept(&self) -> Vec<Run> {
        let mut runs = self.before.clone();
        for run in &mut runs {
            run.groups.retain(|group| !self.new.groups.contains(group));
        }
        runs.retain(|run| !run.groups.is_empty() && !run.names.is_empty());
        runs
    }

    /// Names that earlier runs have written in a group.
    fn written(&self, group: &str) -> HashSet<&str> {
        let runs = self.before.iter().filter(|run| run.groups.iter().any(|own| own == group));
        runs.flat_map(|run| run.names.iter().map(String::as_str)).collect()
    }

    /// Refuses what lies where results go, or on the way there, unless an earlier run has written it.
    fn check_way(&self) -> Result<()> {
        let mut folders = HashMap::new();
        for group in &self.new.groups {
            let written = self.written(group);
            let new = self.new.names.iter().map(String::as_str);
            for name in new.chain(written.iter().copied()) {
                let path = below(group, name);
                if !is_way(&self.out, path.parent().unwrap_or(Path::new("")), &mut folders)? {
                    continue;
                }
                let Ok(data) = std::fs::symlink_metadata(self.out.join(&path)) else { continue };
                if !data.is_file() || !written.contains(name) {
                    return Err(in_the_way(&self.out, &path));
                }
            }
        }
        Ok(())
    }

    /// Moves what has been made to its place, in place of what an earlier run has written. `names` are those that were
    /// made of the ones announced.
    pub fn fill(mut self, scratch: &Scratch, names: Vec<String>) -> Result<()> {
        self.new.names = names;
        if !self.out.exists() {
            Manifest::write(&scratch.at, &[&self.new])?;
            return std::fs::rename(&scratch.at, &self.out).map_err(Error::io("write", &self.out));
        }
        // Time has gone by since this was looked at.
        self.check_way()?;
        // If this is cut short, the list has what may be there.
        let all: Vec<&Run> = self.before.iter().chain([&self.new]).collect();
        Manifest::write(&self.out, &all)?;
        for group in &self.new.groups {
            let mut folders = BTreeSet::new();
            for name in self.written(group) {
                let path = below(group, name);
                let file = self.out.join(&path);
                match std::fs::remove_file(&file) {
                    Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                        return Err(Error::io("remove", &file)(e));
                    }
                    _ => {
                        folders.extend(path.ancestors().skip(1).filter(|p| p.starts_with(group)).map(Path::to_path_buf))
                    }
                }
            }
            // Folders within folders come last in order; those that hold something stay.
            folders.iter().rev().for_each(|folder| drop(std::fs::remove_dir(self.out.join(folder))));
        }
        merge(&self.out, &scratch.at, Path::new(""))?;
        let kept = self.kept();
        let runs: Vec<&Run> = kept.iter().chain([&self.new]).collect();
        Manifest::write(&self.out, &runs)
    }
}

impl Settings {
    /// What of this is otherwise in `other`.
    fn difference(&self, other: &Settings) -> String {
        let images = self.images.as_deref().unwrap_or("pictures in folders");
        let parts = [
            (self.seed != other.seed, format!("seed {}", self.seed)),
            (self.constants != other.constants, format!("the constants {}", self.constants)),
            (
                self.jpeg85 != other.jpeg85,
                format!("{} --jpeg85", if self.jpeg85 { "" } else { "no" }).trim().to_owned(),
            ),
            (self.images != other.images, images.to_owned()),
        ];
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, part)| part).collect::<Vec<_>>().join(", ")
    }
}

fn in_the_way(out: &Path, path: &Path) -> Error {
    let why = format!(
        "{} is in the way, which this command did not write; move it, or choose another folder",
        path.display()
    );
    Error::file(out, None, why)
}

/// Whether a folder below `out` is there. A link or a file in its place is refused: results would go elsewhere.
fn is_way(out: &Path, folder: &Path, known: &mut HashMap<PathBuf, bool>) -> Result<bool> {
    if folder.as_os_str().is_empty() {
        return Ok(true);
    }
    if let Some(there) = known.get(folder) {
        return Ok(*there);
    }
    let mut there = is_way(out, folder.parent().unwrap_or(Path::new("")), known)?;
    if there {
        match std::fs::symlink_metadata(out.join(folder)) {
            Ok(data) if !data.is_dir() => return Err(in_the_way(out, folder)),
            Ok(_) => {}
            Err(_) => there = false,
        }
    }
    known.insert(folder.into(), there);
    Ok(there)
}

/// Moves `path` below `from` to the same place below `out`. Folders that are there take what comes; a file that is there
/// has appeared since it was looked for, and stays.
fn merge(out: &Path, from: &Path, path: &Path) -> Result<()> {
    let (source, place) = (from.join(path), out.join(path));
    match std::fs::symlink_metadata(&place) {
        Err(_) => std::fs::rename(&source, &place).map_err(Error::io("write", &place)),
        Ok(data) if data.is_dir() && source.is_dir() => {
            for entry in std::fs::read_dir(&source).map_err(Error::io("read", &source))? {
                merge(out, from, &path.join(entry.map_err(Error::io("read", &source))?.file_name()))?;
            }
            Ok(())
        }
        Ok(_) => Err(in_the_way(out, path)),
    }
}
