//! `altiplano report`: a run, or several, as one page that opens everywhere.

mod candidates;
mod checks;
mod corrupted;
mod found;
mod overlay;
mod page;
pub(super) mod plots;
mod training;

use std::path::{Path, PathBuf};

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use self::page::{Section, figure};
use self::plots::Worth;
use super::Global;
use super::landscape::{self, Landscape};
use super::place::{FORCE, Outputs};
use super::progress::say;
use super::told::{Job, Told, text};
use super::train::program;
use crate::data::Identity;
use crate::error::{Error, Result};
use crate::measure::judged::Judged;
use crate::measure::mistakes::Mistake;
use crate::nn::space::{Family, Registry};
use crate::report::diagram::Sheet;
use crate::report::folder::{MISTAKES, REPORT, RunFolder, atomic_write};
use crate::report::svg::Place;
use crate::search::archive::Entry;
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of runs, finished or still going on.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where the page goes; of one run, into its folder as report.html.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace a file that is there, other than a run's own report.
    #[arg(long)]
    force: bool,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    report: PathBuf,
    bytes: usize,
    /// What of the runs could not be read.
    faults: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let inputs: Vec<Option<&Path>> = args.runs.iter().map(|path| Some(path.as_path())).collect();
    let mut outputs = Outputs::new(&inputs);
    outputs.file("--out", args.out.as_deref(), &["html"], (!args.force).then_some(FORCE))?;
    let told = args.runs.iter().map(|folder| Told::read(folder)).collect::<Result<Vec<_>>>()?;
    let page = match &told[..] {
        [one] => of_one(&global.registry, one)?,
        several => overlay::of(several)?,
    };
    let path = match (&args.out, &told[..]) {
        (Some(path), _) => path.clone(),
        (None, [one]) => one.folder.join(REPORT),
        (None, _) => return Err(Error::invalid("--out", "is needed for several runs: a file such as report.html")),
    };
    atomic_write(&path, page.as_bytes())?;
    let faults = told.into_iter().flat_map(|told| told.faults()).collect();
    let written = Written { report: path, bytes: page.len(), faults };
    global.print(&written, || {
        let faults: String = written.faults.iter().map(|fault| format!("note: {fault}\n")).collect();
        format!("{faults}{}", written.report.display())
    })
}

/// Writes the report of a run that has just ended; what is in the way of it is told, since the run itself has its results.
pub(super) fn write(global: &Global, folder: &RunFolder) {
    let page = Told::read(folder.path()).and_then(|told| of_one(&global.registry, &told));
    if let Err(error) = page.and_then(|page| folder.write(REPORT, page.as_bytes())) {
        say(&format!("warning: {REPORT} was not written: {error}"));
    }
}

/// The same of several runs that belong together.
pub(super) fn write_several(folders: &[PathBuf], path: &Path) {
    let told = folders.iter().map(|folder| Told::read(folder)).collect::<Result<Vec<_>>>();
    let page = told.and_then(|told| overlay::of(&told));
    if let Err(error) = page.and_then(|page| atomic_write(path, page.as_bytes())) {
        say(&format!("warning: {} was not written: {error}", path.display()));
    }
}

/// The page of one run.
fn of_one(registry: &Registry, told: &Told) -> Result<String> {
    match &told.job {
        Job::Search { config, history, result } => {
            let family = registry.open(&config.space, config.build.clone())?;
            let entries = &history.entries;
            Search { told, config, entries, result: result.as_deref(), family: &family }.page()
        }
        Job::Training { config, result } => training::of(registry, told, config, result.as_deref()),
    }
}

/// What is wrong with a folder, where a reader sees it first.
fn faults(told: &Told) -> Markup {
    html! { @for fault in told.faults() { p.fault { (fault) } } }
}

/// The settings of a run, and what it read and ran on.
fn settings(told: &Told) -> Markup {
    html! {
        @if let Some(record) = &told.record {
            div.wide { table { tbody {
                tr { td.l { "version" } td.l { "altiplano " (record.version) } }
                tr { td.l { "adapter" } td.l { (record.adapter) " (" (record.driver) ")" } }
                tr { td.l { "tiles" } td.l { (record.tiles) } }
                tr { td.l { "classes" } td.arch { (record.classes.join(", ")) } }
                @for (what, input) in &record.inputs {
                    tr { td.l { (what) } td.arch { (input) } }
                }
            } } }
        }
        details { summary { "config.toml: every number that decided the run" } pre { (told.settings) } }
    }
}

/// Most bytes of a sheet of pictures that a page takes in.
const LARGEST_SHEET: u64 = 1 << 20;

/// Most places of a landscape that a page shows, each with its loss.
const MOST_CELLS: usize = 6_000;

/// What is said below charts of candidates.
const FRONT: &str = "A point is a candidate; rest on it to read what it is, or follow it to its row. Strong ones are the front of the \
                     search itself: no other is better in all that it looks at. If the network that is kept is among them, it is large.";

/// A search that is to be shown.
struct Search<'a> {
    told: &'a Told,
    config: &'a SearchConfig,
    entries: &'a [Entry],
    result: Option<&'a SearchResult>,
    family: &'a Family,
}

impl Search<'_> {
    fn page(&self) -> Result<String> {
        let Search { told, config, entries, result, family } = *self;
        let worth = Worth::of(config, entries, result);
        let candidates = plots::candidates(config, entries, &worth, result);
        // Results of earlier versions do not say it.
        let kept = result.and_then(|result| result.kept().ok().or(result.finalists.first()));
        let arch = kept.map(|kept| kept.arch.as_str());
        let mut sheet = Sheet::default();
        let mut sections = vec![];
        let mut add = |id, title, body| sections.push(Section { id, title, body });
        if let (Some(result), Some(kept)) = (result, kept) {
            let network = candidates::drawn(family, &kept.arch, &mut sheet);
            let key = candidates::key(&sheet);
            add(
                "found",
                "What was found",
                html! { (found::figures(result, kept)) (found::story(result, kept)) (opt(network)) (key) },
            );
            add("sure", "How sure that is", found::sure(result, kept));
            if told.folder.join("best.safetensors").exists() {
                add("use", "Use it", found::usage(&told.folder, &config.data));
            }
        }
        let checks = checks::of_search(told, config, entries, result);
        add("checks", "What was done, and what was not", checks::markup(&checks));
        add("front", "The candidates", self.charts(&candidates, &worth, arch));
        if let (Some(result), Some(kept)) = (result, kept) {
            add(
                "networks",
                "The networks at the end",
                html! {
                    (found::networks(result, kept, family, &mut sheet)) (candidates::key(&sheet)) (self.trainings(result))
                },
            );
            add("corrupted", "Under corruption", corruption(told, kept, &result.mistakes));
        }
        if let Some(around) = landscape(told) {
            add("landscape", "The loss around it", around);
        }
        let table = candidates::table(family, &candidates, &mut sheet, arch);
        add("candidates", "Every candidate", html! { (candidates::key(&sheet)) (table) });
        add("again", "Do it again", found::commands(&told.folder, result.is_some()));
        add("words", "Words", found::words());
        add("settings", "Settings, data and machine", settings(told));
        let head = html! { (PreEscaped(sheet.definitions())) (self.heading()) (faults(told)) (self.unfinished()) };
        Ok(page::page(&self.title(), &head, &sections))
    }

    fn title(&self) -> String {
        let config = self.config;
        let data = self.result.map_or(config.data.as_str(), |result| result.dataset.as_str());
        format!("{} on {data}", config.method)
    }

    fn heading(&self) -> Markup {
        let config = self.config;
        let device = self.result.map(|result| result.device.as_str());
        let device = device.or(self.told.record.as_ref().map(|record| record.adapter.as_str()));
        html! {
            h1 { (self.title()) }
            p.soft {
                "Space " (config.space) ", seed " (config.seed) @if let Some(device) = device { ", on " (device) }
                @if config.compat { ", as the authors' released code behaves (--compat)" } "."
            }
        }
    }

    /// What a run that has not come to its end lacks.
    fn unfinished(&self) -> Markup {
        let own = self.entries.iter().filter(|entry| Some(&entry.arm) == self.config.arms.first()).count();
        html! {
            @if self.result.is_none() {
                p.fault {
                    "This run has not ended, or its result cannot be read: " (own) " of " (self.config.evaluations)
                    " candidates of the search itself are evaluated, " (self.entries.len())
                    " with all arms. No network is chosen, trained or tested yet; everything below is as far as it has come, and the rule on networks \
                     that learned nothing is not applied to the front yet."
                }
            }
        }
    }

    fn charts(&self, candidates: &[plots::Candidate], worth: &Worth, kept: Option<&str>) -> Markup {
        let fronts = plots::fronts(self.config, candidates, worth, kept);
        let unmeasured = self.unmeasured(candidates);
        html! {
            @if candidates.is_empty() {
                p { "None is evaluated yet." }
            } @else {
                div.front {
                    label { input.toggle type="checkbox" checked; "show candidates that others beat, and those of other arms" }
                    @if !unmeasured.is_empty() {
                        p.soft { "Not in the charts, since this was not measured of their candidates: " (unmeasured.join(", ")) "." }
                    }
                    div.figures {
                        @for chart in &fronts {
                            (figure(chart, FRONT))
                        }
                        (figure(&plots::anytime(self.config, candidates, worth),
                                "The best so far of each arm, over candidates evaluated: an arm whose curve is better early needs a smaller budget."))
                    }
                }
            }
        }
    }

    fn trainings(&self, result: &SearchResult) -> Markup {
        let named = |judged| (result.label(judged), judged);
        let judged: Vec<_> = result.finalists.iter().map(named).collect();
        let trained = judged.iter().filter(|(_, own)| !own.curve.is_empty());
        let curves: Vec<_> = trained.map(|(name, own)| (name.clone(), &own.curve[..])).collect();
        let supernet = [("supernet".to_owned(), &result.supernet_training[..])];
        let corrupted: Vec<_> = judged.iter().filter(|(_, own)| !own.corrupted_error.is_empty()).cloned().collect();
        let noisy: Vec<_> = judged.iter().filter(|(_, own)| own.under_noise.len() > 1).cloned().collect();
        html! {
            div.figures {
                @if !curves.is_empty() { (figure(&plots::training(&curves), "Training loss of the networks at the end.")) }
                @if !corrupted.is_empty() {
                    (figure(&plots::severities(&corrupted), "Mean error over the 15 corruptions at each severity."))
                }
                @if !noisy.is_empty() {
                    (figure(&plots::noise(&noisy), "Loss on test images when all weights are disturbed: the flatter, the less it minds."))
                }
                @if !supernet[0].1.is_empty() {
                    (figure(&plots::training(&supernet), "Training loss of the supernet, whose weights candidates share or begin with."))
                }
            }
        }
    }

    /// What the charts of this search lack.
    fn unmeasured(&self, candidates: &[plots::Candidate]) -> Vec<&str> {
        let lacks = |arm: &&String| {
            let mut own =
                candidates.iter().filter(|own| own.entry.arm == **arm && !own.entry.fitness.is_nan()).peekable();
            own.peek().is_some() && own.all(|own| !own.worth.is_finite())
        };
        self.config.arms.iter().filter(lacks).map(String::as_str).collect()
    }
}

fn opt(markup: Option<Markup>) -> Markup {
    markup.unwrap_or_default()
}

/// The loss around the model that the run left, if `altiplano landscape` has put it into the folder; what does not fit is told.
fn landscape(told: &Told) -> Option<Markup> {
    let path = told.folder.join("landscape").join(landscape::FILE);
    if !path.exists() {
        return None;
    }
    let read = text(&path).and_then(|text| {
        serde_json::from_str::<Landscape>(&text)
            .map_err(|e| Error::file(&path, None, format!("{e}; expected this version's")))
    });
    let around = match read {
        Ok(around) => around,
        Err(error) => return Some(html! { p.fault { (error) } }),
    };
    let own = Identity::of_file(&told.folder.join("best.safetensors"));
    let is_own = own.is_ok_and(|own| around.models.first().is_some_and(|first| first.model.same_contents(&own)));
    let cells = around.models.iter().map(|model| model.losses.iter().map(Vec::len).sum::<usize>()).sum::<usize>();
    let surfaces = if cells <= MOST_CELLS { around.surfaces(Place::Page) } else { None };
    Some(html! {
        @if !is_own { p.fault { "The landscape in this folder is that of another model: the run has been changed since." } }
        p {
            "The loss along random directions, each filter of which is as long as the network's own (Li et al. 2018); on "
            (around.images) " " (around.on) " images. A wide valley minds changes of the weights less than a narrow one."
        }
        div.figures {
            @if let Some(surfaces) = surfaces { figure { (PreEscaped(surfaces)) } }
            @if cells > MOST_CELLS { p.soft { "The surface has " (cells) " places, too many for a page; it is in landscape/landscape.svg." } }
            (figure(&around.curve(), "The loss along the first direction; 0 is the network itself."))
        }
    })
}

/// The network under each corruption, and what it mistakes.
fn corruption(told: &Told, judged: &Judged, mistakes: &[Mistake]) -> Markup {
    html! {
        @match corrupted::map(judged) {
            Some(map) => (map),
            None => p { "Nothing of it was measured." },
        }
        @match pictures(told, mistakes) {
            Ok(Some(pictures)) => { h3 { "What it mistakes" } (pictures) }
            Ok(None) => {}
            Err(error) => p.fault { (error) }
        }
    }
}

/// The pictures of mistakes, if there are some.
///
/// # Errors
/// If the sheet is no picture, or not of this many.
fn pictures(told: &Told, mistakes: &[Mistake]) -> Result<Option<Markup>> {
    let path = told.folder.join(MISTAKES);
    let count = u32::try_from(mistakes.len()).unwrap_or(0);
    if count == 0 || !path.exists() {
        return Ok(None);
    }
    let fail = |why: String| Error::file(&path, None, why);
    let bytes = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
    if bytes > LARGEST_SHEET {
        return Ok(Some(
            html! { p.soft { (MISTAKES) " in the run's folder has " (bytes) " bytes, too many for a page." } },
        ));
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let reader = image::ImageReader::with_format(std::io::Cursor::new(&bytes), image::ImageFormat::Png);
    let (width, height) = reader.into_dimensions().map_err(|error| fail(error.to_string()))?;
    match width % count == 0 && height % 2 == 0 && width > 0 {
        true => Ok(Some(corrupted::mistakes(mistakes, &bytes, [width / count, height / 2]))),
        false => Err(fail(format!("is {width} x {height}, no sheet of {count} pairs of pictures"))),
    }
}
