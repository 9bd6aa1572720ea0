//! Signs of life that a run leaves in its folder, for `altiplano watch` (see [`Sign`]). What cannot be written is left out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::progress::Event;
use crate::report::folder::{PROGRESS, RunFolder};
use crate::report::sign::{Mark, Sign, State, is_locked, now, place};

/// Time between two signs of a stage.
const EVERY: Duration = Duration::from_secs(5);
/// Seconds over which rates are.
const WINDOW: f64 = 180.0;
/// Most characters of an error that are kept.
const LONGEST: usize = 2_000;

/// What a run says of itself.
pub(super) struct Signs<'a> {
    folder: &'a RunFolder,
    sign: Sign,
    last: Option<Instant>,
    /// Marks of this stage in the window, one for each time that something was written.
    marks: VecDeque<Mark>,
}

impl<'a> Signs<'a> {
    /// Of a run that begins, or goes on.
    pub fn new(folder: &'a RunFolder) -> Self {
        // What an arm would pick is told again only when it has evaluated something.
        let best = Sign::read(folder.path()).ok().flatten().map(|sign| sign.best).unwrap_or_default();
        let sign = Sign {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage: "beginning".to_owned(),
            best,
            // Where the lock of this process is not among those that can be seen, that of no other would be.
            place: place().filter(|_| is_locked(folder.path())),
            ..Sign::default()
        };
        let mut signs = Signs { folder, sign, last: None, marks: VecDeque::new() };
        signs.write();
        signs
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { name, units, from, to } => {
                let (stage, note) = ((*name).to_owned(), String::new());
                let (units, from, to) = (*units, *from, *to);
                self.sign =
                    Sign { stage, note, units, done: 0, from, to, since: None, ..std::mem::take(&mut self.sign) };
                self.marks.clear();
                self.write();
            }
            Event::Evaluated { arm, best: Some(best), .. } => {
                self.sign.best.insert((*arm).to_owned(), (*best).to_owned());
            }
            Event::Evaluated { .. } => {}
            Event::Advance { done, note } => {
                self.sign.done = *done;
                // The first one says where a stage began that is gone on with.
                if self.marks.is_empty() {
                    self.mark();
                }
                if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
                    self.sign.note.clone_from(note);
                    self.mark();
                    self.sign.since = self.marks.front().copied();
                    self.write();
                }
            }
        }
    }

    /// Keeps where the stage is now, and forgets what is older than the window, but for one.
    fn mark(&mut self) {
        let time = now();
        self.marks.push_back(Mark { time, done: self.sign.done });
        while self.marks.get(1).is_some_and(|second| second.time < time - WINDOW) {
            self.marks.pop_front();
        }
    }

    /// The end of the run: nothing stays of one that ended well, and another one says why it did not.
    pub fn end(mut self, error: Option<&Error>) {
        let Some(error) = error else {
            let _ = self.folder.remove(PROGRESS);
            return;
        };
        self.sign.state = if matches!(error, Error::Cancelled) { State::Stopped } else { State::Failed };
        self.sign.why = error.to_string().chars().take(LONGEST).collect();
        self.write();
    }

    fn write(&mut self) {
        self.last = Some(Instant::now());
        (self.sign.seconds, self.sign.time) = (self.folder.seconds(), now());
        if let Ok(json) = serde_json::to_vec(&self.sign) {
            let _ = self.folder.write_lightly(PROGRESS, &json);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::folder::Existing;

    #[test]
    fn a_run_says_how_far_it_is_and_why_it_ended() {
        let temp = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(temp.path().join("run"), Existing::Refuse).unwrap();
        let read = || Sign::read(folder.path()).unwrap();
        let mut signs = Signs::new(&folder);
        assert_eq!((read().unwrap().stage.as_str(), read().unwrap().state), ("beginning", State::Running));
        let stage = Event::Stage { name: "evaluating", units: 40, from: 0.25, to: 0.75 };
        signs.event(&stage);
        let advance = |done: u64| Event::Advance { done, note: format!("best {done}") };
        // Another sign so soon would be one too many.
        signs.event(&advance(10));
        assert_eq!((read().unwrap().units, read().unwrap().done, read().unwrap().share()), (40, 0, 0.25));
        let measures = std::collections::BTreeMap::new();
        let best = Some("b");
        signs.event(&Event::Evaluated { arm: "own", arch: "a", params: 1, fitness: 0.5, measures: &measures, best });
        let earlier = |signs: &mut Signs, seconds: u64| {
            signs.last = None;
            signs.marks.iter_mut().for_each(|mark| mark.time -= seconds as f64);
        };
        earlier(&mut signs, 60);
        signs.event(&advance(20));
        let sign = read().unwrap();
        assert_eq!((sign.done, sign.note.as_str(), sign.best["own"].as_str()), (20, "best 20", "b"));
        assert!((sign.per_minute().unwrap() - 10.0).abs() < 0.5 && sign.share() == 0.5, "{sign:?}");
        // Marks that are older than the window go, but for the last of them.
        earlier(&mut signs, 200);
        signs.event(&advance(21));
        assert!(signs.marks.len() == 2 && read().unwrap().since.unwrap().done == 20, "{:?}", signs.marks);
        // Another stage has a rate of its own.
        signs.event(&stage);
        assert!(read().unwrap().since.is_none() && read().unwrap().note.is_empty());
        signs.end(Some(&Error::invalid("data", "is gone")));
        let failed = read().unwrap();
        assert_eq!((failed.state, failed.why.as_str()), (State::Failed, "data: is gone"));

        // Going on takes over what was best; a good end leaves nothing.
        let signs = Signs::new(&folder);
        assert_eq!((read().unwrap().state, read().unwrap().best["own"].as_str()), (State::Running, "b"));
        signs.end(Some(&Error::Cancelled));
        assert_eq!(read().unwrap().state, State::Stopped);
        Signs::new(&folder).end(None);
        assert!(read().is_none() && std::fs::read_dir(folder.path()).unwrap().count() == 0);
    }
}
