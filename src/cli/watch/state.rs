//! What is known of a run at a moment, in words and numbers that may be shown: all text of files is one line without controls.

use serde::Serialize;

use super::super::report::plots::{self, Candidate, Worth};
use super::super::told::{Job, Told};
use super::super::train::{TrainConfig, TrainResult};
use super::super::visible::line;
use crate::report::sign::Sign;
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;
use crate::train::trainer::Progress;

/// Most candidates that are looked at: those after them do not change the front that is shown.
const MOST_CANDIDATES: usize = 20_000;
/// Seconds without a sign of life after which that is said.
const SILENT: f64 = 60.0;
/// Seconds after which nobody expects one any more.
const LOST: f64 = 1800.0;

/// What becomes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It has not begun.
    #[default]
    Waiting,
    /// It goes on.
    Running,
    /// It may go on; nothing was heard of it for long.
    Silent,
    /// It has its result.
    Done,
    /// It ended with an error.
    Failed,
    /// It was asked to stop.
    Stopped,
    /// Its process is gone.
    Killed,
    /// Nothing was heard of it for so long that its process is likely gone.
    Lost,
    /// Its folder is gone.
    Gone,
}

impl Status {
    /// Whether nothing more is to be expected, unless somebody goes on with it.
    pub fn is_over(self) -> bool {
        !matches!(self, Status::Waiting | Status::Running | Status::Silent)
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Status::Waiting => "has not begun",
            Status::Running => "running",
            Status::Silent | Status::Lost => "no sign of life",
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Stopped => "stopped on request",
            Status::Killed => "killed",
            Status::Gone => "its folder is gone",
        }
    }
}

/// What speaks for a run's going on, or against it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// Whether there is a result that the run has not begun to replace.
    pub is_done: bool,
    /// What it says of itself.
    pub said: Option<crate::report::sign::State>,
    /// Whether its folder is locked.
    pub is_locked: bool,
    /// Whether a lock would be seen.
    pub is_seen: bool,
    /// Seconds since its last sign of life.
    pub age: f64,
}

impl Evidence {
    /// What follows of it for a run that has begun.
    pub fn status(&self) -> Status {
        use crate::report::sign::State;
        match self.said {
            _ if self.is_done => Status::Done,
            Some(State::Failed) => Status::Failed,
            Some(State::Stopped) => Status::Stopped,
            _ if self.age <= SILENT && (self.is_locked || !self.is_seen) => Status::Running,
            _ if self.is_locked => Status::Silent,
            _ if self.is_seen => Status::Killed,
            _ if self.age <= LOST => Status::Silent,
            _ => Status::Lost,
        }
    }
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct What {
    pub method: String,
    pub space: String,
    pub data: String,
    pub seed: u64,
    /// Of a training: its architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Stage {
    pub name: String,
    pub done: u64,
    pub units: u64,
    /// Units a minute, over the last minutes.
    pub per_minute: Option<f64>,
    pub note: String,
}

/// How far an arm of a search is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Arm {
    pub name: String,
    pub evaluated: usize,
    pub evaluations: usize,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Found {
    pub arch: String,
    /// What the search looks for.
    pub measure: String,
    pub value: f64,
    pub params: u64,
    pub macs: u64,
}

/// Candidates over what they cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scatter {
    /// Names of the axes.
    pub axes: [String; 2],
    /// Of the search itself, those that others beat.
    pub beaten: Vec<[f64; 2]>,
    pub front: Vec<[f64; 2]>,
}

/// A curve of losses over epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Losses {
    pub of: String,
    pub losses: Vec<[f64; 2]>,
}

/// The network at the end; accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Kept {
    /// What it is among those that were trained.
    pub role: String,
    pub arch: String,
    pub params: u64,
    pub accuracy: f64,
    /// Under corruptions, where images can be corrupted.
    pub corrupted_accuracy: Option<f64>,
}

/// A run at a moment.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct View {
    pub folder: String,
    pub status: Status,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(flatten)]
    pub what: Option<What>,
    /// What it does, or did at last.
    pub stage: Option<Stage>,
    /// Share of its whole work that is done, from 0 to 1.
    pub share: Option<f64>,
    /// Seconds that it has taken.
    pub seconds: Option<f64>,
    pub seconds_left: Option<f64>,
    /// Seconds since its last sign of life.
    pub silent: Option<f64>,
    pub arms: Vec<Arm>,
    pub best: Option<Found>,
    pub front: Vec<Found>,
    #[serde(skip)]
    pub scatter: Scatter,
    pub losses: Vec<Losses>,
    pub kept: Option<Kept>,
    /// What could not be read.
    pub faults: Vec<String>,
}

impl View {
    /// Takes over what the files tell that grow or are replaced; `curves` are those of trainings that have not ended.
    pub fn fill(&mut self, told: &Told, sign: Option<&Sign>, curves: Vec<Losses>) {
        self.faults = told.faults().iter().map(|fault| line(fault)).collect();
        (self.losses, self.kept) = (curves, None);
        match &told.job {
            Job::Search { config, history, result } => {
                let (all, most) = (&history.entries[..], MOST_CANDIDATES.min(history.entries.len()));
                if most < all.len() {
                    self.faults.push(format!("of {} candidates the first {most} are shown", all.len()));
                }
                let result = result.as_deref();
                self.what = Some(What {
                    method: line(&config.method.to_string()),
                    space: line(&config.space),
                    data: line(result.map_or(&config.data, |result| &result.dataset)),
                    seed: config.seed,
                    arch: None,
                });
                let count = |name: &String| all.iter().filter(|entry| entry.arm == *name && !entry.given).count();
                let arm =
                    |name: &String| Arm { name: line(name), evaluated: count(name), evaluations: config.evaluations };
                self.arms = config.arms.iter().map(arm).collect();
                let worth = Worth::of(config, &all[..most], result);
                let candidates = plots::candidates(config, &all[..most], &worth, result);
                self.candidates(config, &candidates, &worth, sign, result);
                if let Some(result) = result {
                    self.end_of_search(result);
                }
            }
            Job::Training { config, result } => self.training(config, result.as_deref()),
        }
    }

    /// The best, the front, and all others of the search itself.
    fn candidates(
        &mut self,
        config: &SearchConfig,
        candidates: &[Candidate],
        worth: &Worth,
        sign: Option<&Sign>,
        result: Option<&SearchResult>,
    ) {
        let own = config.arms.first();
        let found = |candidate: &Candidate| Found {
            arch: line(&candidate.entry.arch),
            measure: line(worth.label()),
            value: candidate.worth,
            params: candidate.entry.params,
            macs: candidate.entry.macs,
        };
        // The run knows more of its candidates than its history says: which of them learned nothing, and limits of latency.
        let said = result.map(|result| &result.best.arch);
        let said = said.or_else(|| sign.zip(own).and_then(|(sign, own)| sign.best.get(own)));
        let is_said = |own: &&Candidate| said.is_some_and(|said| own.entry.arch == *said);
        let mine = || candidates.iter().filter(|candidate| Some(&candidate.entry.arm) == own);
        self.best = mine().find(is_said).or_else(|| worth.pick(config, candidates)).map(found);
        let mut front: Vec<&Candidate> = mine().filter(|candidate| candidate.is_on_front).collect();
        front.sort_by_key(|candidate| candidate.entry.params);
        self.front = front.into_iter().map(found).collect();
        let Some(quantity) = plots::quantities(config).into_iter().next() else { return };
        let (x, y) = plots::axes(config, quantity, worth);
        let points = |is_on_front: bool| {
            let some = mine().filter(|candidate| candidate.is_on_front == is_on_front);
            let at = some.map(|candidate| [plots::costs(candidate.entry, quantity), candidate.worth]);
            at.filter(|at| at.iter().all(|value| value.is_finite())).collect()
        };
        let axes = [line(&x.label), line(&y.label)];
        self.scatter = Scatter { axes, beaten: points(false), front: points(true) };
    }

    fn end_of_search(&mut self, result: &SearchResult) {
        self.seconds = Some(result.seconds);
        let mut losses: Vec<Losses> = vec![];
        losses.extend(curve("supernet", &result.supernet_training));
        losses.extend(result.finalists.iter().filter_map(|judged| curve(&result.label(judged), &judged.curve)));
        self.losses = losses;
        // Results of earlier versions do not say it.
        let kept = result.kept().ok().or(result.finalists.first());
        self.kept = kept.map(|kept| Kept {
            role: line(&result.label(kept)),
            arch: line(&kept.arch),
            params: kept.params,
            accuracy: 100.0 - kept.clean_error.mean,
            corrupted_accuracy: kept.mean_corrupted_error.map(|error| 100.0 - error.mean),
        });
    }

    fn training(&mut self, config: &TrainConfig, result: Option<&TrainResult>) {
        let (arch, data) = (line(&config.arch), line(result.map_or(&config.data, |result| &result.dataset)));
        let (method, space) = ("train".to_owned(), line(&config.space));
        self.what = Some(What { method, space, data, seed: config.seed, arch: Some(arch.clone()) });
        if let Some(result) = result {
            self.seconds = Some(result.seconds);
            let judged = result.judged.as_ref();
            self.losses = judged.and_then(|judged| curve("training", &judged.curve)).into_iter().collect();
            self.kept = Some(Kept {
                role: "trained".to_owned(),
                arch,
                params: result.params,
                accuracy: 100.0 * result.trained.clean_accuracy,
                corrupted_accuracy: result.trained.corruption_accuracy.map(|share| 100.0 * share),
            });
        }
    }

    /// Takes over what a run says of itself, in files that say nothing else; `now` is the time by the clock that wrote it.
    pub fn take(&mut self, sign: &Sign, now: f64) {
        let is_on = matches!(self.status, Status::Running | Status::Silent);
        let note = line(&sign.note);
        let (name, done, units) = (line(&sign.stage), sign.done, sign.units);
        self.stage = Some(Stage { name, done, units, per_minute: sign.per_minute().filter(|_| is_on), note });
        let since = if is_on { (now - sign.time).clamp(0.0, LOST) } else { 0.0 };
        let (seconds, share) = (sign.seconds + since, sign.share());
        self.seconds = Some(seconds);
        self.share = Some(share);
        // Nothing can be told of so little.
        self.seconds_left = (is_on && share > 0.02).then(|| seconds / share - seconds);
        self.why = (!sign.why.is_empty()).then(|| line(&sign.why));
    }
}

/// A curve, if there is anything of it.
pub(super) fn curve(of: &str, epochs: &[Progress]) -> Option<Losses> {
    let losses = epochs.iter().map(|epoch| [epoch.epoch as f64, epoch.loss]).collect();
    (!epochs.is_empty()).then(|| Losses { of: line(of), losses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sign::State;

    #[test]
    fn what_becomes_of_a_run_follows_from_its_signs() {
        let seen = Evidence { is_locked: true, is_seen: true, ..Evidence::default() };
        let (held, gone) = (seen, Evidence { is_locked: false, ..seen });
        let elsewhere = Evidence { is_seen: false, ..gone };
        let aged = |evidence: Evidence, age: f64| Evidence { age, ..evidence }.status();
        assert_eq!(
            [aged(held, 1.0), aged(held, 61.0), aged(held, 1e6)],
            [Status::Running, Status::Silent, Status::Silent]
        );
        // A lock that would be seen and is not there is let go of at once; elsewhere nobody can tell.
        assert_eq!([aged(gone, 0.0), aged(gone, 1e6)], [Status::Killed; 2]);
        assert_eq!(
            [aged(elsewhere, 1.0), aged(elsewhere, 61.0), aged(elsewhere, 1801.0)],
            [Status::Running, Status::Silent, Status::Lost]
        );
        for (said, want) in
            [(State::Running, Status::Killed), (State::Failed, Status::Failed), (State::Stopped, Status::Stopped)]
        {
            assert_eq!(Evidence { said: Some(said), ..gone }.status(), want);
            assert_eq!(Evidence { said: Some(said), is_done: true, ..gone }.status(), Status::Done);
        }
    }

    #[test]
    fn time_that_is_left_follows_from_the_share_that_is_done() {
        let sign = Sign { from: 0.2, to: 0.6, done: 5, units: 10, seconds: 40.0, time: 100.0, ..Sign::default() };
        let mut view = View { status: Status::Running, ..View::default() };
        view.take(&sign, 110.0);
        assert_eq!((view.seconds, view.share), (Some(50.0), Some(0.4)));
        assert!((view.seconds_left.unwrap() - 75.0).abs() < 1e-9, "{view:?}");
        // Clocks that differ, and a run that does not go on.
        view.take(&sign, 90.0);
        assert_eq!(view.seconds, Some(40.0));
        view.status = Status::Killed;
        view.take(&sign, 1e6);
        assert_eq!((view.seconds, view.seconds_left), (Some(40.0), None));
    }
}
