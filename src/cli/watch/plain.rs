//! Runs as lines: one a run, whenever something has changed.

use std::time::{Duration, Instant};

use super::super::progress::duration;
use super::super::visible::short;
use super::state::{Found, Kept, Stage, Status, View};
use crate::report::svg::short as number;

/// Most characters of an architecture, and of the reason of an end.
const ARCH: usize = 40;
const WHY: usize = 200;

/// A run as one line.
pub(super) fn line(view: &View) -> String {
    parts(view, true)
}

/// What is said of a run; without what passes by itself, such as time, to see whether anything has changed.
fn parts(view: &View, with_time: bool) -> String {
    let mut parts = vec![heading(view)];
    if view.status == Status::Running {
        parts.extend(stage(view, with_time));
    } else {
        parts.push(status(view, with_time));
        parts.extend(stage(view, false).map(|stage| format!("last: {stage}")));
    }
    if with_time && view.status == Status::Running {
        parts.extend(times(view));
    }
    if view.kept.is_none() || view.status != Status::Done {
        parts.extend(view.best.as_ref().map(|best| self::best(best, ARCH)));
    }
    parts.extend(view.kept.as_ref().filter(|_| view.status == Status::Done).map(|kept| self::kept(kept, ARCH)));
    parts.extend(view.why.as_ref().map(|why| short(why, WHY)));
    parts.extend(view.faults.iter().take(2).map(|fault| format!("note: {}", short(fault, WHY))));
    format!("{}: {}", view.folder, parts.join("; "))
}

/// What runs.
pub(super) fn heading(view: &View) -> String {
    match &view.what {
        Some(what) => format!("{} on {}, seed {}", what.method, what.data, what.seed),
        None => "run".to_owned(),
    }
}

/// What becomes of it.
pub(super) fn status(view: &View, with_time: bool) -> String {
    let words = view.status.words();
    let said = |before: &str, seconds: Option<f64>| match seconds.filter(|_| with_time) {
        Some(seconds) => format!("{words} {before} {}", duration(seconds)),
        None => words.to_owned(),
    };
    match view.status {
        Status::Silent => said("for", view.silent),
        Status::Lost => said("for", view.silent) + ", likely killed",
        Status::Done => said("in", view.seconds),
        Status::Failed | Status::Stopped | Status::Killed => said("after", view.seconds),
        Status::Waiting | Status::Running | Status::Gone => words.to_owned(),
    }
}

/// What it does, or did at last, and how far that is.
pub(super) fn stage(view: &View, with_rate: bool) -> Option<String> {
    let Stage { name, done, units, per_minute, note } = view.stage.as_ref()?;
    let count = if *units > 0 { format!(" {done}/{units}") } else { String::new() };
    let rate = per_minute.filter(|_| with_rate).map(|rate| match rate < 10.0 {
        true => format!(", {rate:.1} a minute"),
        false => format!(", {rate:.0} a minute"),
    });
    // The best of the search itself is told besides.
    let is_own =
        view.best.is_some() && view.arms.first().is_some_and(|arm| name.ends_with(&format!("arm {}", arm.name)));
    let is_told = note.is_empty() || is_own && note.starts_with("best ");
    let note = if is_told { String::new() } else { format!(", {note}") };
    Some(format!("{name}{count}{}{note}", rate.unwrap_or_default()))
}

/// How long it has taken, and will take.
pub(super) fn times(view: &View) -> Option<String> {
    let left = view.seconds_left.map_or(String::new(), |left| format!(", about {} left", duration(left)));
    Some(format!("{}{left}", duration(view.seconds?)))
}

/// The best so far.
pub(super) fn best(best: &Found, arch: usize) -> String {
    let (value, params) = (number(best.value), number(best.params as f64));
    format!("best so far {} with {} {value}, {params} parameters", short(&best.arch, arch), best.measure)
}

/// The network at the end.
pub(super) fn kept(kept: &Kept, arch: usize) -> String {
    let corrupted = kept.corrupted_accuracy.map(|right| format!(", {right:.1} % under corruption"));
    format!(
        "{} {}, {} parameters, {:.1} % of test images right{}",
        kept.role,
        short(&kept.arch, arch),
        number(kept.params as f64),
        kept.accuracy,
        corrupted.unwrap_or_default()
    )
}

/// Which runs there is something new to say of.
pub(super) struct News {
    /// Least time between two lines about a run that goes on as before.
    every: Duration,
    /// By folder: what was said without times, what the run was then, and when.
    said: Vec<(String, String, Status, Instant)>,
}

impl News {
    pub fn new(every: Duration) -> Self {
        News { every, said: vec![] }
    }

    /// The lines that are due.
    pub fn of(&mut self, views: &[&View]) -> Vec<String> {
        views.iter().filter(|view| self.is_new(view)).map(|view| line(view)).collect()
    }

    fn is_new(&mut self, view: &View) -> bool {
        let now = (view.folder.clone(), parts(view, false), view.status, Instant::now());
        let Some(said) = self.said.iter_mut().find(|said| said.0 == view.folder) else {
            self.said.push(now);
            return true;
        };
        let is_due = said.2 != view.status || said.3.elapsed() >= self.every;
        let is_new = is_due && (said.1 != now.1 || said.2 != now.2);
        if is_new {
            *said = now;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Arm, What};
    use super::*;

    fn running() -> View {
        let arms = ["own", "other"].map(|name| Arm { name: name.into(), evaluated: 12, evaluations: 40 });
        let what = What { method: "m".into(), space: "s".into(), data: "digits".into(), seed: 7, arch: None };
        let stage =
            Stage { name: "arm own".into(), done: 12, units: 40, per_minute: Some(31.26), note: "best 1".into() };
        let best = Found { arch: "a".repeat(100), measure: "accuracy".into(), value: 0.8756, params: 30_802, macs: 1 };
        View {
            folder: "runs/a".into(),
            status: Status::Running,
            what: Some(what),
            stage: Some(stage),
            seconds: Some(100.0),
            seconds_left: Some(3_700.0),
            arms: arms.to_vec(),
            best: Some(best),
            silent: Some(200.0),
            ..View::default()
        }
    }

    #[test]
    fn a_line_says_how_a_run_stands() {
        let mut view = running();
        let arch = format!("{}…{}", "a".repeat(20), "a".repeat(19));
        let best = format!("best so far {arch} with accuracy 0.876, 30.8k parameters");
        assert_eq!(
            line(&view),
            format!("runs/a: m on digits, seed 7; arm own 12/40, 31 a minute; 1:40, about 1:01:40 left; {best}")
        );
        for (status, words) in [
            (Status::Silent, "no sign of life for 3:20; last: arm own 12/40"),
            (Status::Lost, "no sign of life for 3:20, likely killed; last: arm own 12/40"),
            (Status::Killed, "killed after 1:40; last: arm own 12/40"),
            (Status::Failed, "failed after 1:40; last: arm own 12/40"),
            (Status::Gone, "its folder is gone"),
        ] {
            view.status = status;
            assert!(line(&view).starts_with(&format!("runs/a: m on digits, seed 7; {words}; ")), "{}", line(&view));
        }
        view = running();
        view.stage.as_mut().unwrap().name = "arm other".into();
        assert!(line(&view).contains("arm other 12/40, 31 a minute, best 1; 1:40"), "{}", line(&view));
        view = View { folder: "b".into(), ..View::default() };
        assert_eq!(line(&view), "b: run; has not begun");
        let kept = Kept {
            role: "largest".into(),
            arch: "x".into(),
            params: 91_842,
            accuracy: 98.87,
            corrupted_accuracy: Some(76.85),
        };
        view = View { status: Status::Done, kept: Some(kept), stage: None, ..running() };
        assert_eq!(
            line(&view),
            "runs/a: m on digits, seed 7; done in 1:40; largest x, 91.84k parameters, 98.9 % of test images right, 76.8 % under corruption"
        );
        view.faults = vec!["a".into(), "b".into(), "c".into()];
        assert!(line(&view).ends_with("; note: a; note: b"));
    }

    #[test]
    fn only_changes_are_told_and_not_too_many() {
        let mut news = News::new(Duration::from_secs(3_600));
        let mut view = running();
        assert_eq!(news.of(&[&view]).len(), 1);
        // Time passes, and little happens.
        (view.seconds, view.silent, view.seconds_left) = (Some(101.0), Some(0.0), None);
        assert!(news.of(&[&view]).is_empty());
        view.stage.as_mut().unwrap().done = 13;
        assert!(news.of(&[&view]).is_empty());
        // What a run becomes is told at once.
        view.status = Status::Done;
        assert_eq!(news.of(&[&view]).len(), 1);
        let mut news = News::new(Duration::ZERO);
        assert_eq!((news.of(&[&view]).len(), news.of(&[&view]).len()), (1, 0));
        view.faults.push("f".into());
        assert_eq!(news.of(&[&view]).len(), 1);
    }
}
