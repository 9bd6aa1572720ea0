//! How long work may keep the device, and how fast the device is.
//!
//! Drivers take a device for hung that works on one submission for too long, and reset it: Windows after two seconds, others
//! later. So work is submitted in portions by estimate. The estimate is the work's arithmetic and bytes over rates of the kind of
//! adapter, which begin far below what such adapters do, times a factor that is learnt while running: where a wait for the device
//! blocks, its end is the end of the work, and the time since the device had nothing to do, or since the last such end, is compared
//! with the estimate. The factor changes from run to run and with it where work is cut, but never a result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::AdapterReport;
use super::cut::Load;
use super::lock;
use crate::error::{Error, Result};

/// Longest submission, unless the caller says otherwise. Estimates are wrong by small factors, drivers wait four times as long.
pub const MAX_SUBMIT: Duration = Duration::from_millis(500);
/// Longest submission that may be asked for: what Windows gives a device (`TdrDelay`) before it resets it.
pub const MOST_SUBMIT: Duration = Duration::from_secs(2);

/// Seconds of a dispatch beside its work, before the factor.
const DISPATCH: f64 = 1e-5;
/// A wait that takes this many seconds ends with the work, and not after it.
const BLOCKED: f64 = 1e-3;
/// Fewer seconds of work say little.
const ENOUGH: f64 = 5e-3;
/// How far one observation moves the factor: up at once, since work may be cut too rarely, but not as far as one run in which a
/// driver compiled would have it; down slowly, since kernels differ in how near to their estimate they come, and the slow ones
/// must not be too long.
const STEP: (f64, f64) = (0.9, 4.0);
/// Bounds of the factor.
const FACTOR: (f64, f64) = (1e-3, 1e4);

/// Seconds of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    flop: f64,
    byte: f64,
    /// Time over the first guess.
    factor: f64,
}

impl Rate {
    /// A rate from operations and bytes a second.
    pub const fn new(flops: f64, bytes: f64) -> Self {
        Rate { flop: 1.0 / flops, byte: 1.0 / bytes, factor: 1.0 }
    }

    /// Rates that nearly every adapter of a kind exceeds, with kernels that do not suit it too.
    fn guess(report: &AdapterReport) -> Self {
        match report.kind.as_str() {
            _ if report.is_software() => Rate::new(2e9, 2e9),
            "discrete" => Rate::new(5e10, 2e10),
            _ => Rate::new(1e10, 5e9),
        }
    }

    /// Of a task, without the dispatch.
    pub fn seconds(self, load: &Load) -> f64 {
        (self.flop * load.flops as f64 + self.byte * load.bytes as f64) * self.factor
    }

    /// Of a dispatch beside its tasks.
    pub const fn dispatch(self) -> f64 {
        DISPATCH * self.factor
    }
}

/// How much was submitted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// Estimate by the first guess.
    seconds: f64,
    /// Submissions without estimate.
    unknown: u64,
}

struct State {
    factor: f64,
    /// Everything submitted so far.
    submitted: Mark,
    /// A moment at which the device had done just so much.
    anchor: (Instant, Mark),
}

/// The device's pace.
pub(super) struct Pace {
    guess: Rate,
    submit: f64,
    state: Mutex<State>,
    said: AtomicBool,
}

impl Pace {
    /// Of an adapter, with the longest submission.
    ///
    /// # Errors
    /// If that is nothing, or more than drivers allow.
    pub fn new(report: &AdapterReport, max_submit: Duration) -> Result<Self> {
        if max_submit.is_zero() || max_submit > MOST_SUBMIT {
            let why = format!(
                "{} ms; a submission may take more than 0 and at most {} ms, after which Windows resets the device",
                max_submit.as_secs_f64() * 1e3,
                MOST_SUBMIT.as_millis()
            );
            return Err(Error::invalid("--max-submit-ms", why));
        }
        let anchor = (Instant::now(), Mark::default());
        let state = Mutex::new(State { factor: 1.0, submitted: Mark::default(), anchor });
        Ok(Pace { guess: Rate::guess(report), submit: max_submit.as_secs_f64(), state, said: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The rate as far as it is known.
    pub fn rate(&self) -> Rate {
        Rate { factor: self.state().factor, ..self.guess }
    }

    /// Most seconds of a submission.
    pub fn submission(&self) -> f64 {
        self.submit
    }

    /// Most seconds of a dispatch: two fit into a submission, so that one that does not fit any more begins the next without
    /// leaving this one nearly empty.
    pub fn dispatch(&self) -> f64 {
        self.submit / 2.0
    }

    /// Notes a submission of so many seconds at `rate`, and whether the device has nothing else to do.
    pub fn submitted(&self, seconds: Option<f64>, rate: Rate, idle: bool) -> Mark {
        let mut state = self.state();
        if idle {
            state.anchor = (Instant::now(), state.submitted);
        }
        match seconds {
            Some(seconds) => state.submitted.seconds += seconds / rate.factor,
            None => state.submitted.unknown += 1,
        }
        state.submitted
    }

    /// Everything submitted so far.
    pub fn mark(&self) -> Mark {
        self.state().submitted
    }

    /// Notes that a wait from `start` until now was for the work up to `mark`.
    pub fn waited(&self, start: Instant, mark: Mark) {
        let now = Instant::now();
        if now.duration_since(start).as_secs_f64() >= BLOCKED {
            self.state().reached(now, mark);
        }
    }

    /// Says once that a part cannot be made shorter.
    pub fn too_long(&self, label: &str, groups: u32, seconds: f64, adapter: &str) {
        let most = self.dispatch() * 1e3;
        if !self.said.swap(true, Ordering::Relaxed) {
            let what = if groups == 1 { "one workgroup".into() } else { format!("{groups} workgroups") };
            log::warn!(
                "{what} of {label}, which cannot be cut, may take about {:.1} ms on {adapter}, and a dispatch should take \
                 {most:.1} ms; should the driver reset the device, take fewer channels or smaller images",
                seconds * 1e3
            );
        }
    }
}

impl State {
    /// The device had done the work up to `mark` at `now`.
    fn reached(&mut self, now: Instant, mark: Mark) {
        let (from, done) = self.anchor;
        let (took, estimate) = (now.duration_since(from).as_secs_f64(), mark.seconds - done.seconds);
        if mark.unknown < done.unknown || estimate < 0.0 {
            return;
        }
        self.anchor = (now, mark);
        if mark.unknown == done.unknown && estimate > 0.0 && took >= ENOUGH {
            let moved = (took / estimate).clamp(self.factor * STEP.0, self.factor * STEP.1);
            self.factor = moved.clamp(FACTOR.0, FACTOR.1);
        }
    }
}

/// What to say of a device that was lost while it ran, or destroyed by the program that it belongs to.
pub(super) fn lost(message: &str, destroyed: bool, max_submit: f64) -> String {
    let (whole, half) = (max_submit * 1e3, max_submit * 500.0);
    let smaller = match half >= 1.0 && !destroyed {
        true => {
            format!("if the driver took it for hung, a smaller --max-submit-ms than {whole:.0} helps, {half:.0} say; ")
        }
        false => String::new(),
    };
    let message = message.trim();
    format!(
        "the device was lost ({message}); {smaller}a search or training keeps what it has saved, and --resume goes on from there"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State { factor: 1.0, submitted: Mark::default(), anchor: (Instant::now(), Mark::default()) }
    }

    fn mark(seconds: f64, unknown: u64) -> Mark {
        Mark { seconds, unknown }
    }

    #[test]
    fn the_factor_is_learnt_from_waits() {
        let mut state = state();
        let start = state.anchor.0;
        let at = |ms| start + Duration::from_millis(ms);
        state.reached(at(200), mark(0.1, 0));
        assert!((state.factor - 2.0).abs() < 1e-9, "{}", state.factor);
        // A compiler ran: one observation counts for little.
        state.reached(at(5_200), mark(0.2, 0));
        assert!((state.factor - 8.0).abs() < 1e-9, "{}", state.factor);
        state.reached(at(5_250), mark(0.3, 0));
        assert!((state.factor - 7.2).abs() < 1e-9, "{}", state.factor);
        for i in 1..=40 {
            state.reached(at(5_250 + 50 * i), mark(0.3 + 0.1 * i as f64, 0));
        }
        assert!((state.factor - 0.5).abs() < 1e-9, "{}", state.factor);
        // Older marks, short times and work without estimate say nothing.
        state.reached(at(7_300), mark(4.0, 0));
        state.reached(at(7_252), mark(4.4, 0));
        state.reached(at(9_000), mark(4.5, 1));
        assert!((state.factor - 0.5).abs() < 1e-9, "{}", state.factor);
        state.reached(at(9_100), mark(4.6, 1));
        assert!((state.factor - 1.0).abs() < 1e-9, "{}", state.factor);
    }

    #[test]
    fn loss_comes_with_advice() {
        let text = lost("Device is lost ", false, 0.5);
        for part in ["(Device is lost)", "--max-submit-ms than 500", "250 say", "--resume"] {
            assert!(text.contains(part), "{text}");
        }
        for text in [lost("Device is lost ", false, 0.001), lost("Device was destroyed ", true, 0.5)] {
            assert!(!text.contains("max-submit-ms") && text.contains("--resume"), "{text}");
        }
    }
}
