//! Runs that are watched: which folders there are, and what is read of each, again and again, without locks.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::configuration::FILE;
use super::super::told::{Stamp, Told};
use super::super::visible::line;
use super::state::{Evidence, Losses, Status, View, curve};
use crate::error::{Error, Result, path_text};
use crate::report::folder::{CHECKPOINTS, HISTORY, PROGRESS, REPORT, RESULT, TILES};
use crate::report::sign::{Sign, State, is_locked, now, place};
use crate::train::job::curves_of;

/// Most seeds of a search, and most files of checkpoints, that are looked at.
const MOST_SEEDS: usize = 1_000;
const MOST_CHECKPOINTS: usize = 4_096;
/// Most trainings at the end of a search, and most networks of one, whose curves are read.
const MOST_CURVES: usize = 8;
/// Seconds after which no further seed of a search is expected, if nothing else says that it was the last.
const NO_MORE: f64 = 60.0;

/// What a path is.
#[derive(Debug, PartialEq)]
enum Place {
    Missing,
    /// A run may begin in it.
    Empty,
    Run,
    /// It holds a run for each seed.
    Seeds(Vec<PathBuf>),
    Foreign,
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Missing),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        if path.join(FILE).is_file() {
            return Ok(Place::Run);
        }
        let mut seeds: Vec<(u64, PathBuf)> = vec![];
        let mut is_empty = true;
        for entry in entries {
            let name = entry.map_err(Error::io("read", path))?.file_name();
            let name = name.to_string_lossy();
            // What a run writes first, and what it renames then.
            is_empty &= name.starts_with('.') || name == TILES;
            let seed = name.strip_prefix("seed-").and_then(|seed| seed.parse().ok());
            let folder = path.join(&*name);
            if let Some(seed) = seed.filter(|_| seeds.len() < MOST_SEEDS && folder.is_dir()) {
                seeds.push((seed, folder));
            }
        }
        seeds.sort();
        Ok(match (seeds.is_empty(), is_empty) {
            (false, _) => Place::Seeds(seeds.into_iter().map(|(_, folder)| folder).collect()),
            (true, true) => Place::Empty,
            (true, false) => Place::Foreign,
        })
    }
}

/// What was asked for by one path: a run, or one for each seed.
struct Group {
    path: PathBuf,
    runs: Vec<Run>,
    is_of_seeds: bool,
}

/// All that is watched.
pub(super) struct Watched {
    groups: Vec<Group>,
    /// Whether folders that are missing are waited for.
    wait: bool,
}

impl Watched {
    /// Looks at paths for the first time.
    ///
    /// # Errors
    /// If one cannot be a run's, or is missing and nobody wants to wait.
    pub fn open(paths: &[PathBuf], wait: bool) -> Result<Self> {
        let mut groups: Vec<Group> = vec![];
        for path in paths {
            let fail = |why: &str| Err(Error::file(path, None, why));
            match Place::of(path)? {
                Place::Missing if !wait => {
                    return fail(
                        "is not there; expected the folder of a run, or of several seeds (--wait waits for it)",
                    );
                }
                Place::Foreign => {
                    return fail(
                        "holds neither a config.toml nor folders of seeds: it is no folder of a search or a training",
                    );
                }
                _ if groups.iter().any(|group| group.path == *path) => {}
                _ => groups.push(Group { path: path.clone(), runs: vec![], is_of_seeds: false }),
            }
        }
        let mut watched = Watched { groups, wait };
        watched.look();
        Ok(watched)
    }

    /// Looks again.
    pub fn look(&mut self) {
        for Group { path, runs, is_of_seeds } in &mut self.groups {
            let place = Place::of(path).unwrap_or(Place::Foreign);
            let paths = match place {
                Place::Seeds(folders) => {
                    *is_of_seeds = true;
                    folders
                }
                _ => vec![path.clone()],
            };
            runs.retain(|run| paths.contains(&run.path));
            for (number, path) in paths.into_iter().enumerate() {
                if runs.get(number).is_none_or(|run| run.path != path) {
                    runs.insert(number, Run::new(path));
                }
                runs[number].look(self.wait);
            }
        }
    }

    /// All runs as they were seen last.
    pub fn views(&self) -> Vec<&View> {
        self.groups.iter().flat_map(|group| &group.runs).map(|run| &run.view).collect()
    }

    /// Whether nothing more is to be expected of any.
    pub fn is_over(&self) -> bool {
        self.groups.iter().all(Group::is_over)
    }
}

impl Group {
    fn is_over(&self) -> bool {
        if !self.runs.iter().all(|run| run.view.status.is_over()) {
            return false;
        }
        // After the last seed there is a page of all; before, another seed may begin at any time.
        let page = Stamp::of(&self.path.join(REPORT)).map(|stamp| stamp.modified);
        let last = self.runs.iter().filter_map(|run| run.told.as_ref()?.ended()).max();
        let is_quiet = || self.runs.iter().all(|run| run.view.silent.is_some_and(|seconds| seconds > NO_MORE));
        !self.is_of_seeds || page.is_some_and(|page| Some(page) >= last) || is_quiet()
    }
}

/// A run, with what was read of it.
struct Run {
    path: PathBuf,
    told: Option<Told>,
    /// Why its settings could not be read, and which these were.
    fault: Option<(Option<Stamp>, String)>,
    /// Curves of trainings that go on, by the files that hold them.
    curves: BTreeMap<PathBuf, (Option<Stamp>, Vec<Losses>)>,
    /// The last change of any of its files, and when it was seen, unless it was there before.
    last: Option<(SystemTime, Option<Instant>)>,
    best: Option<BTreeMap<String, String>>,
    view: View,
}

impl Run {
    fn new(path: PathBuf) -> Self {
        let view = View { folder: line(&path_text(&path)), ..View::default() };
        Run { path, told: None, fault: None, curves: BTreeMap::new(), last: None, best: None, view }
    }

    /// Looks again; whatever cannot be read is said in the view.
    fn look(&mut self, wait: bool) {
        if !self.path.join(FILE).is_file() {
            let is_gone = !wait && self.path.try_exists().is_ok_and(|is_there| !is_there);
            *self = Run::new(std::mem::take(&mut self.path));
            self.view.status = if is_gone { Status::Gone } else { Status::Waiting };
            return;
        }
        let before = self.look_once();
        // Between two files that are read the run may have ended well.
        if before && self.view.status == Status::Killed {
            self.look_once();
        }
    }

    /// Reads everything once; whether it seems to go on by what it says.
    fn look_once(&mut self) -> bool {
        let sign = Sign::read(&self.path).unwrap_or_default();
        let (curves, of_curves) = self.read_curves();
        let of_settings = self.read();
        let age = self.age();
        let ended =
            self.told.as_ref().map_or_else(|| Stamp::of(&self.path.join(RESULT)).map(|s| s.modified), Told::ended);
        let said = Stamp::of(&self.path.join(PROGRESS)).map(|stamp| stamp.modified).filter(|_| sign.is_some());
        let place_of_run = sign.as_ref().and_then(|sign| sign.place.clone());
        // A run that is gone on with has its old result until it is about to have another.
        let is_done = ended.is_some_and(|ended| said.is_none_or(|said| said <= ended));
        let evidence = Evidence {
            is_done,
            said: sign.as_ref().map(|sign| sign.state),
            is_locked: !is_done && is_locked(&self.path),
            is_seen: place_of_run.is_some() && place_of_run == place(),
            age,
        };
        let view = &mut self.view;
        view.status = evidence.status();
        view.silent = Some(age);
        (view.stage, view.share, view.seconds_left, view.why) = (None, None, None, None);
        if let Some(sign) = &sign {
            view.take(sign, now());
        }
        let best = sign.as_ref().map(|sign| sign.best.clone());
        if let Some(told) = self.told.as_ref().filter(|_| of_curves || of_settings || best != self.best) {
            view.fill(told, sign.as_ref(), curves);
        }
        self.best = best;
        if view.status == Status::Done {
            (view.stage, view.share, view.why) = (None, Some(1.0), None);
        }
        if let Some((_, fault)) = &self.fault {
            view.faults = vec![line(fault)];
        }
        sign.is_some_and(|sign| sign.state == State::Running)
    }

    /// Reads settings, history and result; whether any has changed.
    fn read(&mut self) -> bool {
        let stamp = Stamp::of(&self.path.join(FILE));
        if self.fault.as_ref().is_some_and(|(of, _)| *of == stamp) {
            return false;
        }
        let read = match &mut self.told {
            Some(told) => told.again(),
            none => Told::read(&self.path).map(|told| *none = Some(told)).map(|()| true),
        };
        match read {
            Ok(changed) => {
                self.fault = None;
                changed
            }
            Err(error) => {
                (self.told, self.fault) = (None, Some((stamp, error.to_string())));
                true
            }
        }
    }

    /// Curves of trainings that have a checkpoint; and whether one has changed.
    fn read_curves(&mut self) -> (Vec<Losses>, bool) {
        let folder = self.path.join(CHECKPOINTS);
        let mut files = vec![folder.join("supernet.ckpt")];
        let own = |name: &str| name.starts_with("finals-") && name.ends_with(".ckpt");
        let mut finals: Vec<PathBuf> =
            names(&folder).into_iter().filter(|name| own(name)).map(|name| folder.join(name)).collect();
        finals.sort();
        files.extend(finals.into_iter().take(MOST_CURVES));
        let mut changed = self.curves.keys().any(|file| !files.contains(file));
        self.curves.retain(|file, _| files.contains(file));
        for file in files {
            let stamp = Stamp::of(&file);
            if self.curves.get(&file).map(|(stamp, _)| stamp) == Some(&stamp) {
                continue;
            }
            changed = true;
            let is_supernet = file.ends_with("supernet.ckpt");
            let all = if stamp.is_some() { curves_of(&file).unwrap_or_default() } else { vec![] };
            let several = all.len() > 1;
            let name = |number: usize| match (is_supernet, several) {
                (true, _) => "supernet".to_owned(),
                (_, false) => "training".to_owned(),
                (_, true) => format!("network {}", number + 1),
            };
            let curves = all.iter().enumerate().take(MOST_CURVES);
            let losses = curves.filter_map(|(number, epochs)| curve(&name(number), epochs)).collect();
            self.curves.insert(file, (stamp, losses));
        }
        // The supernet's comes first.
        let (first, rest): (Vec<_>, Vec<_>) = self.curves.iter().partition(|(file, _)| file.ends_with("supernet.ckpt"));
        let losses = first.into_iter().chain(rest).flat_map(|(_, (_, losses))| losses.clone());
        (losses.take(2 * MOST_CURVES).collect(), changed)
    }

    /// Seconds since the last change of a file of the run. The clock of a disk elsewhere may be another, so that changes that were seen
    /// count from then.
    fn age(&mut self) -> f64 {
        let modified = |path: PathBuf| Stamp::of(&path).map(|stamp| stamp.modified);
        let own = [FILE, HISTORY, PROGRESS, RESULT].into_iter().filter_map(|name| modified(self.path.join(name)));
        let folder = self.path.join(CHECKPOINTS);
        let checkpoints = names(&folder).into_iter().filter_map(|name| modified(folder.join(name)));
        let Some(newest) = own.chain(checkpoints).max() else { return f64::MAX };
        match &mut self.last {
            Some((last, _)) if *last == newest => {}
            Some(last) => *last = (newest, Some(Instant::now())),
            none => *none = Some((newest, None)),
        }
        let by_clock = SystemTime::now().duration_since(newest).unwrap_or_default();
        let seen = self.last.and_then(|(_, seen)| seen).map_or(Duration::MAX, |seen| seen.elapsed());
        by_clock.min(seen).as_secs_f64()
    }
}

/// The names in a folder; none of one that cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_CHECKPOINTS);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
