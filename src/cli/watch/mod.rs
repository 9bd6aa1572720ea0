//! `altiplano watch`: runs as they are now, read from their folders without locks, as lines or as a view that fills the terminal.

#[cfg(feature = "watch")]
mod draw;
mod plain;
mod run;
#[cfg(feature = "watch")]
mod screen;
mod state;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use self::plain::News;
use self::run::Watched;
use self::state::View;
use super::Global;
use super::progress::say;
use crate::error::{Error, Result};

/// Time between two looks at the folders.
const LOOK: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of searches and trainings, or of several seeds of one (--out of `search --search-seeds`); empty ones are waited for.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Wait for folders that are not there yet, too.
    #[arg(long)]
    wait: bool,
    /// Say how things are now, and end.
    #[arg(long)]
    once: bool,
    /// Lines, even where a view that fills the terminal could be shown.
    #[arg(long)]
    plain: bool,
    /// Least number of seconds between two lines about a run that goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Now<'a> {
    /// Whether nothing more is to be expected of any.
    over: bool,
    runs: Vec<&'a View>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let mut watched = Watched::open(&args.runs, args.wait)?;
    let is_terminal = !global.json && std::io::stdout().is_terminal() && can_move();
    if !args.once && !args.plain && is_terminal {
        #[cfg(feature = "watch")]
        {
            screen::run(&mut watched)?;
            return print(&watched.views().into_iter().map(plain::line).collect::<Vec<_>>()).map(|_| ());
        }
        #[cfg(not(feature = "watch"))]
        super::progress::note(
            global,
            "a view that fills the terminal is in programs built with: cargo build --release --features watch",
        );
    }
    if !args.once {
        follow(global, args, &mut watched)?;
    }
    if args.once || global.json {
        let runs = watched.views();
        let now = Now { over: watched.is_over(), runs };
        global.print(&now, || now.runs.iter().map(|view| plain::line(view) + "\n").collect())?;
    }
    Ok(())
}

/// Prints lines until nothing more is to be expected, or nobody reads them; those that come before a document go to stderr.
fn follow(global: &Global, args: &Args, watched: &mut Watched) -> Result<()> {
    let mut news = News::new(Duration::from_secs(args.every));
    loop {
        let lines = news.of(&watched.views());
        let is_read = match global.json {
            true => {
                lines.iter().filter(|_| !global.quiet).for_each(|line| say(line));
                true
            }
            false => print(&lines)?,
        };
        if watched.is_over() || !is_read {
            return Ok(());
        }
        std::thread::sleep(LOOK);
        watched.look();
    }
}

/// Prints lines as soon as they are known; whether anybody reads them.
fn print(lines: &[String]) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(Error::io("write", "stdout")),
    }
}

/// Whether the terminal can move its cursor.
fn can_move() -> bool {
    std::env::var_os("TERM").is_none_or(|term| !term.is_empty() && term != "dumb")
}
