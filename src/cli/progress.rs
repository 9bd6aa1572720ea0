//! Progress on the terminal: a bar where there is one, plain lines elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    /// A display that suits the terminal; Ctrl-C asks the job to stop at its next save.
    pub fn new(global: &Global) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
            .map_err(|e| Error::invalid("signals", e.to_string()))?;
        let bar = (!global.quiet && std::io::stderr().is_terminal()).then(|| {
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
            None => eprintln!("{line}"),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `1:02:03` or `2:03`.
pub(crate) fn duration(seconds: f64) -> String {
    let total = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
