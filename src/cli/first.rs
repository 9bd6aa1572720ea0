//! `altiplano` without a command: what to do next on this machine, on one page.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::Global;
use super::configuration::FILE;
use super::run::quoted;
use crate::error::{Result, serialize_path};
use crate::gpu::adapters;
use crate::report::folder::{HISTORY, REPORT, RESULT};

/// Where runs go, by custom.
const RUNS: &str = "runs";
/// Most folders of runs that are looked at.
const MOST: usize = 4096;
/// More bytes than settings of a run have.
const LONGEST: u64 = 1 << 20;

/// The adapter that commands would run on.
#[derive(Serialize)]
struct Adapter {
    name: String,
    backend: String,
    driver: String,
    /// Whether the processor does its work, slowly.
    software: bool,
}

/// A run in a folder below [`RUNS`].
#[derive(Serialize)]
struct Run {
    #[serde(serialize_with = "serialize_path")]
    folder: PathBuf,
    /// Whether it has come to its end.
    finished: bool,
    /// Its page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_path")]
    page: Option<PathBuf>,
    /// What shows it, and what goes on with it.
    commands: Vec<String>,
    #[serde(skip)]
    changed: SystemTime,
}

fn optional_path<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(&path.as_deref().map(crate::error::path_text))
}

/// What is printed.
#[derive(Serialize)]
struct Page {
    version: &'static str,
    adapter: Option<Adapter>,
    /// Why this adapter, or why none.
    why: String,
    /// Whether the one that was asked for is not there.
    #[serde(skip)]
    refused: bool,
    demo: String,
    own_data: Vec<String>,
    /// The run that changed last.
    newest_run: Option<Run>,
    help: Vec<String>,
}

/// Prints it.
pub(super) fn run(global: &Global) -> Result<()> {
    let program = called();
    let (adapter, why, refused) = match pollster::block_on(adapters(global.device.as_deref())) {
        Err(error) => (None, error.to_string(), true),
        Ok(choice) => {
            let chosen = choice.adapters.into_iter().find(|adapter| adapter.chosen);
            let adapter = chosen.map(|adapter| Adapter {
                software: adapter.is_software(),
                name: adapter.name,
                backend: adapter.backend,
                driver: adapter.driver,
            });
            (adapter, choice.why, false)
        }
    };
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        adapter,
        why,
        refused,
        demo: format!("{program} search --method genas --data digits --preset quick --out {}", quoted(&free("demo"))),
        own_data: vec![
            format!("{program} data verify FOLDER"),
            format!("{program} search --data FOLDER --dry-run"),
            format!("{program} search --data FOLDER --out {}", quoted(&free("mine"))),
        ],
        newest_run: newest(Path::new(RUNS), &program),
        help: vec![format!("{program} --help"), format!("{program} search --help")],
    };
    global.print(&page, || text(&page, &program))
}

/// The program as it was called, so that commands can be copied.
fn called() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    called.filter(|path| !path.as_os_str().is_empty()).map_or_else(|| "altiplano".into(), |path| quoted(&path))
}

/// A folder below [`RUNS`] that is not there yet.
fn free(name: &str) -> PathBuf {
    let numbered = (2..MOST).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered).map(|name| Path::new(RUNS).join(name));
    names.find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| Path::new(RUNS).join("FOLDER"))
}

/// The run whose files changed last.
fn newest(runs: &Path, program: &str) -> Option<Run> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten().take(MOST);
    entries.filter_map(|entry| of(&entry.path(), program)).max_by_key(|run| run.changed)
}

/// A run, if the folder holds one.
fn of(folder: &Path, program: &str) -> Option<Run> {
    let changed = |file: &str| folder.join(file).metadata().ok().filter(|data| data.is_file())?.modified().ok();
    let finished = changed(RESULT).is_some();
    let last = [FILE, HISTORY, RESULT].into_iter().filter_map(changed).max()?;
    if !finished && changed(FILE).is_none() {
        return None;
    }
    let own = quoted(folder);
    let mut commands = vec![];
    if changed(FILE).is_some() {
        commands.push(format!("{program} report {own}"));
    }
    if let Some(command) = goes_on(folder).filter(|_| !finished) {
        commands.push(format!("{program} {command} --resume --out {own}"));
    }
    let page = folder.join(REPORT);
    Some(Run { folder: folder.to_owned(), finished, page: page.is_file().then_some(page), commands, changed: last })
}

/// The command that began a run, as its settings tell: a search has a method, and a training an architecture.
fn goes_on(folder: &Path) -> Option<&'static str> {
    let path = folder.join(FILE);
    if path.metadata().ok()?.len() > LONGEST {
        return None;
    }
    let settings: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    match (settings.contains_key("method"), settings.contains_key("arch")) {
        (true, _) => Some("search"),
        (_, true) => Some("train"),
        _ => None,
    }
}

fn text(page: &Page, program: &str) -> String {
    let explain = format!("`{program} devices --explain` ");
    let adapter = match &page.adapter {
        None => {
            let why = if page.refused { format!("\n    {}", page.why) } else { String::new() };
            format!("adapter: none, so nothing can be trained yet{why}\n    {explain}says what is missing here")
        }
        Some(Adapter { name, backend, driver, software }) => {
            let kind = match software {
                true => format!(
                    "\n    a software adapter: complete, but slow (the demo takes minutes); {explain}says why it is no graphics card"
                ),
                false => String::new(),
            };
            format!("adapter: {name} ({backend}, driver {driver}){kind}")
        }
    };
    let list = |commands: &[String]| commands.iter().map(|line| format!("    {line}\n")).collect::<String>();
    let run = page.newest_run.as_ref().map_or_else(String::new, |run| {
        let state = if run.finished { "finished" } else { "not finished: it goes on, or was stopped" };
        let shown = run.page.as_deref().map_or_else(String::new, |path| format!("; its page is {}", path.display()));
        format!("\nnewest run here: {} ({state}{shown})\n{}", run.folder.display(), list(&run.commands))
    });
    format!(
        "altiplano {}: robust neural-architecture search on any GPU\n\n{adapter}\n\n\
         a first search, on the bundled digits:\n    {}\n\
         with images of one's own (FOLDER/train/<class>/*.png and FOLDER/test/<class>/*.png, or as `{program} data list` has it):\n{}\
         results are in the folder of --out; its {REPORT} opens in any browser\n{run}\n\
         all commands, and the options of one:\n{}",
        page.version,
        page.demo,
        list(&page.own_data),
        list(&page.help),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_run_is_told_with_what_goes_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        assert!(newest(&runs, "a").is_none());
        let put = |run: &str, file: &str, text: &str, seconds: u64| {
            std::fs::create_dir_all(runs.join(run)).unwrap();
            std::fs::write(runs.join(run).join(file), text).unwrap();
            let file = std::fs::File::options().write(true).open(runs.join(run).join(file)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        put("notes", "text.txt", "", 9000);
        put("lines", HISTORY, "{}", 9000);
        assert!(newest(&runs, "a").is_none());
        put("one", FILE, "arch = \"x\"", 100);
        let run = newest(&runs, "a").unwrap();
        let own = quoted(&runs.join("one"));
        assert_eq!(run.commands, [format!("a report {own}"), format!("a train --resume --out {own}")]);
        assert!(!run.finished && run.page.is_none());
        // What is written while it goes on counts.
        put("two", FILE, "method = \"m\"\narch = 1", 50);
        put("two", HISTORY, "", 200);
        let run = newest(&runs, "a").unwrap();
        assert!(run.folder.ends_with("two") && run.commands[1].starts_with("a search --resume"), "{:?}", run.commands);
        put("one", RESULT, "{}", 300);
        put("one", REPORT, "", 300);
        let run = newest(&runs, "a").unwrap();
        assert!(run.finished && run.folder.ends_with("one") && run.page.is_some());
        assert_eq!(run.commands, [format!("a report {own}")]);
        // Settings that cannot be read, and results without settings.
        put("three", FILE, "[[[", 400);
        assert_eq!(newest(&runs, "a").unwrap().commands.len(), 1);
        put("four", RESULT, "", 500);
        assert!(newest(&runs, "a").unwrap().commands.is_empty());
    }
}
