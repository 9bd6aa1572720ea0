//! What people are told on stderr while something runs: progress as a bar where the terminal can show one, as plain lines
//! elsewhere, and notes; and the signals by which they stop it.
//!
//! All of it is advice. A line that cannot be written, because the disk is full or nobody reads any more, is dropped, and the
//! work goes on.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::Global;
use crate::error::{Error, Result};
use crate::progress::Event;

/// Seconds between plain lines.
const PLAIN_EVERY: f64 = 10.0;

/// Shows events and remembers whether to stop.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    quiet: bool,
    start: Instant,
    last: Instant,
    stage: String,
    units: u64,
    share: (f64, f64),
    stop: Arc<AtomicBool>,
}

impl Display {
    /// A display that suits the terminal; Ctrl-C and its like ask the job to stop at its next save.
    pub fn new(global: &Global) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        on_signals(&stop)?;
        let bar = (!global.quiet && can_draw()).then(|| {
            let style = ProgressStyle::with_template("{msg}\n{wide_bar} {percent}%");
            ProgressBar::new(1000).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now = Instant::now();
        Ok(Display {
            bar,
            quiet: global.quiet,
            start: now,
            last: now,
            stage: String::new(),
            units: 1,
            share: (0.0, 1.0),
            stop,
        })
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) -> ControlFlow<()> {
        match event {
            Event::Stage { name, units, from, to } => {
                self.stage = (*name).to_owned();
                self.units = (*units).max(1);
                self.share = (*from, *to);
                self.show(0, "", true);
            }
            Event::Evaluated { arm, arch, params, fitness, .. } => {
                log::info!("arm {arm}: {arch}, fitness {fitness:.4}, {params} parameters");
            }
            Event::Advance { done, note } => {
                let late = self.last.elapsed().as_secs_f64() > if self.bar.is_some() { 0.25 } else { PLAIN_EVERY };
                self.show(*done, note, late || *done >= self.units);
            }
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show(&mut self, done: u64, note: &str, now: bool) {
        if self.quiet || !now {
            return;
        }
        self.last = Instant::now();
        let part = done as f64 / self.units as f64;
        let all = self.share.0 + part.min(1.0) * (self.share.1 - self.share.0);
        let elapsed = self.start.elapsed().as_secs_f64();
        let left =
            if all > 0.02 { format!(", about {} left", duration(elapsed / all - elapsed)) } else { String::new() };
        let rate = if done > 0 { format!(" {done}/{}", self.units) } else { String::new() };
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        let line = format!("{}{rate}{note} ({}{left})", self.stage, duration(elapsed));
        match &self.bar {
            Some(bar) => {
                bar.set_position((1000.0 * all) as u64);
                bar.set_message(line);
            }
            None => say(&line),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to stderr, if that can be done.
pub(crate) fn say(line: &str) {
    // One write, so that lines of several processes do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Tells what a user should know of a result and need not act upon.
pub(crate) fn note(global: &Global, text: &str) {
    if !global.quiet {
        say(&format!("note: {text}"));
    }
}

/// Whether stderr is a terminal that can move its cursor.
fn can_draw() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| !term.is_empty() && term != "dumb")
}

/// Sets `stop` at the first signal that asks to end, and lets a second one end the process at once. Signals that were ignored
/// when the process began stay ignored: who started it, with `nohup` or in the background, said so.
pub(crate) fn on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    on_these_signals(&SIGNALS, stop)
}

/// The same for those signals that a terminal sends on request: when the terminal itself goes, the process does too.
#[cfg(feature = "watch")]
pub(crate) fn on_requests(stop: &Arc<AtomicBool>) -> Result<()> {
    on_these_signals(&SIGNALS[..2], stop)
}

fn on_these_signals(signals: &[i32], stop: &Arc<AtomicBool>) -> Result<()> {
    let ignored = ignored_signals();
    for signal in signals.iter().copied().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        let failed = |e: std::io::Error| Error::invalid("signals", e.to_string());
        // The second handler runs first and sees what the first has set.
        signal_hook::flag::register_conditional_default(signal, stop.clone()).map_err(failed)?;
        signal_hook::flag::register(signal, stop.clone()).map_err(failed)?;
    }
    Ok(())
}

/// Signals that ask to end.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// The signals that this process ignores, a bit for each, from signal 1. Linux says so in a file; elsewhere there is no way to
/// ask without handling them first, and none counts as ignored.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// `1:02:03` or `2:03`.
pub(crate) fn duration(seconds: f64) -> String {
    let total = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
