//! `altiplano compare`: finished searches beside each other, seed by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Global;
use super::place::{FORCE, Outputs};
use super::run::finished;
use crate::error::{Error, Result};
use crate::measure::judged::{Judged, Spread};
use crate::report::chart::bands;
use crate::report::folder::atomic_write;

use crate::report::paired::Paired;
use crate::report::statistics::{mean, quartiles, spearman, std};
use crate::report::svg::Place;
use crate::report::table::Table;
use crate::search::archive::{self, Entry};
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of finished searches. Those that differ in nothing but their seed are taken together.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Also write the comparison of the networks as a table (CSV).
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Draw the best so far over evaluations (SVG), of the arms of searches that differ in their seed alone.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// The name of the network that a search kept.
const KEPT: &str = "kept";
/// The name of that network at random, of several, which errs least on images kept back.
const BEST_AT_RANDOM: &str = "the best of any";

/// A finished search.
struct Run {
    read: SearchResult,
    history: Vec<Entry>,
}

/// Searches that differ in their seed alone.
#[derive(Serialize)]
pub(super) struct Group {
    /// What they have in common.
    name: String,
    seeds: Vec<u64>,
    /// The network that each search kept, where it had a choice; those that it trained at the end, its own first.
    networks: Vec<Row>,
    /// The best so far of each arm.
    arms: Vec<Curve>,
    /// What goes with the corrupted error among the networks of a search: rank correlations, means over the searches.
    goes_with_corrupted_error: BTreeMap<&'static str, f64>,
}

/// A network of each search, over the searches.
#[derive(Serialize)]
pub(super) struct Row {
    network: String,
    params: f64,
    /// Mean errors, percent points.
    clean_error: f64,
    corrupted_error: Option<f64>,
    /// Deviation of the corrupted error over searches: of a network that is the same in all of them that of a training.
    corrupted_deviation: Option<f64>,
    /// By how many points the search's own network errs less, seed by seed; and the one that was kept, where there was a choice.
    own: Gains,
    kept: Option<Gains>,
}

/// By how many points a network errs less than another, seed by seed.
#[derive(Default, Serialize)]
pub(super) struct Gains {
    clean: Option<Paired>,
    corrupted: Option<Paired>,
}

#[derive(Serialize)]
pub(super) struct Curve {
    arm: String,
    seconds: f64,
    /// Lower quartile, median and upper quartile of the best so far after each evaluation, by the objective of the search itself.
    best: Vec<[f64; 3]>,
}

/// The networks that one group kept against another's, seed by seed.
#[derive(Serialize)]
pub(super) struct Pair {
    group: String,
    against: String,
    gains: Gains,
}

#[derive(Serialize)]
pub(super) struct Answer {
    pub groups: Vec<Group>,
    pairs: Vec<Pair>,
}

/// Reads a run.
fn read(folder: &Path) -> Result<Run> {
    let read: SearchResult = finished(folder)?;
    let path = folder.join("history.jsonl");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let history = archive::entries(&path, text.lines()).map(|line| Ok(line?.1)).collect::<Result<_>>()?;
    Ok(Run { history, read })
}

/// Runs by what they have in common, each group by seed.
fn grouped(folders: &[PathBuf]) -> Result<Vec<(String, Vec<Run>)>> {
    let mut groups: Vec<(SearchConfig, String, Vec<Run>)> = vec![];
    for folder in folders {
        let run = read(folder)?;
        let own = &run.read;
        // Where data lie does not matter, nor do inputs that belong to a seed.
        let common = SearchConfig {
            seed: 0,
            data: own.dataset.clone(),
            supernet_file: None,
            warm_start: None,
            ..own.config.clone()
        };
        match groups.iter_mut().find(|(config, ..)| *config == common) {
            Some((.., runs)) => {
                if runs.iter().any(|other| other.read.seed == own.seed) {
                    let why = format!("there is a run with these settings and seed {} already", own.seed);
                    return Err(Error::file(folder, None, why));
                }
                runs.push(run);
            }
            None => groups.push((common, format!("{} on {} ({})", own.method, own.dataset, own.space), vec![run])),
        }
    }
    let names: Vec<String> = groups.iter().map(|(_, name, _)| name.clone()).collect();
    let mut all = vec![];
    for (place, (_, name, mut runs)) in groups.into_iter().enumerate() {
        runs.sort_by_key(|run| run.read.seed);
        // Settings that differ elsewhere are told by a number.
        let same = names.iter().filter(|other| **other == name).count();
        let number = 1 + names[..place].iter().filter(|other| **other == name).count();
        all.push((if same > 1 { format!("{name}, settings {number}") } else { name }, runs));
    }
    Ok(all)
}

fn is_at_random(finalist: &Judged) -> bool {
    finalist.role == "any" || finalist.role.starts_with("any-")
}

/// The mean of an error, if it is known.
fn mean_of(error: Option<&Spread>) -> f64 {
    error.map_or(f64::NAN, |error| error.mean)
}

fn corrupted(finalist: &Judged) -> f64 {
    mean_of(finalist.mean_corrupted_error.as_ref())
}

impl Run {
    fn labels(&self) -> Vec<String> {
        self.read.finalists.iter().map(|finalist| self.read.label(finalist)).collect()
    }

    /// A network of the search by its name in the comparison.
    fn network(&self, label: &str) -> Option<&Judged> {
        let finalists = &self.read.finalists;
        match label {
            KEPT => self.kept(),
            BEST_AT_RANDOM => {
                let error = |finalist: &Judged| mean_of(finalist.validation_error.as_ref());
                let random = finalists.iter().filter(|finalist| is_at_random(finalist));
                random.min_by(|a, b| error(a).total_cmp(&error(b)))
            }
            label => self.labels().iter().position(|own| own == label).and_then(|place| finalists.get(place)),
        }
    }

    /// The network that was kept: of a search that had no choice its own.
    fn kept(&self) -> Option<&Judged> {
        let finalists = &self.read.finalists;
        finalists.iter().find(|finalist| finalist.kept).or(finalists.first())
    }

    fn had_a_choice(&self) -> bool {
        self.read.config.finals.kept_back > 0
    }

    /// The best so far of an arm, by the objective of the search itself.
    fn best_so_far(&self, arm: &str) -> Vec<f64> {
        let scale = self.read.arms.first().map_or(1.0, |arm| arm.scale);
        let objectives = self.read.config.objectives.open(f64::INFINITY);
        let mut best = f64::NAN;
        let own = self.history.iter().filter(|entry| entry.arm == arm && !entry.given);
        // The maximum with NaN is the other.
        own.map(|entry| {
            best = best.max(-objectives.first(&entry.measures, scale));
            best
        })
        .collect()
    }
}

/// Gains of one network over another, a pair a seed.
fn gains(pairs: &[(&Judged, &Judged)]) -> Gains {
    let of = |error: &dyn Fn(&Judged) -> f64| {
        Paired::of(&pairs.iter().map(|(own, other)| error(other) - error(own)).collect::<Vec<_>>())
    };
    Gains { clean: of(&|finalist| finalist.clean_error.mean), corrupted: of(&corrupted) }
}

/// Names of the networks of searches.
fn labels(runs: &[Run]) -> Vec<String> {
    let choice = runs.iter().any(Run::had_a_choice);
    let mut labels: Vec<String> = if choice { vec![KEPT.to_owned()] } else { vec![] };
    for label in runs.iter().flat_map(Run::labels) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let several =
        runs.iter().any(|run| run.read.finalists.iter().filter(|finalist| is_at_random(finalist)).count() > 1);
    labels.extend((choice && several).then(|| BEST_AT_RANDOM.to_owned()));
    labels
}

fn group(name: String, runs: &[Run]) -> Group {
    let row = |label: String| {
        let all: Vec<&Judged> = runs.iter().filter_map(|run| run.network(&label)).collect();
        let column = |value: &dyn Fn(&Judged) -> f64| mean(&all.iter().map(|own| value(own)).collect::<Vec<_>>());
        let over = |own: &dyn Fn(&Run) -> Option<&Judged>| {
            gains(&runs.iter().filter_map(|run| Some((own(run)?, run.network(&label)?))).collect::<Vec<_>>())
        };
        let is_own = runs.iter().flat_map(|run| run.labels().into_iter().next()).any(|own| own == label);
        Row {
            params: column(&|own| own.params as f64).unwrap_or(f64::NAN),
            clean_error: column(&|own| own.clean_error.mean).unwrap_or(f64::NAN),
            corrupted_error: column(&corrupted).filter(|error| error.is_finite()),
            corrupted_deviation: std(&all.iter().map(|own| corrupted(own)).collect::<Vec<_>>())
                .filter(|deviation| all.len() > 1 && deviation.is_finite()),
            own: if is_own { Gains::default() } else { over(&|run| run.read.finalists.first()) },
            kept: (label != KEPT && runs.iter().any(Run::had_a_choice)).then(|| over(&Run::kept)),
            network: label,
        }
    };
    let networks = labels(runs).into_iter().map(row).collect();
    let names: BTreeSet<&str> = runs.iter().flat_map(|run| &run.read.arms).map(|arm| arm.arm.as_str()).collect();
    let measures_own = |arm: &&str| runs.iter().all(|run| run.best_so_far(arm).iter().any(|value| value.is_finite()));
    let curve = |arm: &str| {
        let curves: Vec<Vec<f64>> = runs.iter().map(|run| run.best_so_far(arm)).collect();
        let seconds = runs.iter().flat_map(|run| &run.read.arms).filter(|own| own.arm == arm).map(|own| own.seconds);
        let seconds = mean(&seconds.collect::<Vec<_>>()).unwrap_or(f64::NAN);
        Curve { arm: arm.to_owned(), seconds, best: quartiles(&curves) }
    };
    let arms = names.into_iter().filter(measures_own).map(curve).collect();
    let seeds = runs.iter().map(|run| run.read.seed).collect();
    Group { name, seeds, networks, arms, goes_with_corrupted_error: going_with_it(runs) }
}

/// What is known of a network, with its name.
type Column<'a> = (&'static str, &'a dyn Fn(&Judged) -> f64);

/// Rank correlations with the corrupted error among the networks of each search, those that are the same once; means over searches.
fn going_with_it(runs: &[Run]) -> BTreeMap<&'static str, f64> {
    let columns: [Column; 3] = [
        ("clean error", &|own| own.clean_error.mean),
        ("parameters", &|own| own.params as f64),
        ("error on images kept back", &|own| mean_of(own.validation_error.as_ref())),
    ];
    let correlation = |run: &Run, column: &dyn Fn(&Judged) -> f64| {
        let mut different: Vec<&Judged> = vec![];
        for own in &run.read.finalists {
            if different.iter().all(|other| (&other.arch, &other.optimizer) != (&own.arch, &own.optimizer)) {
                different.push(own);
            }
        }
        let values = |of: &dyn Fn(&Judged) -> f64| different.iter().map(|own| of(own)).collect::<Vec<_>>();
        spearman(&values(&corrupted), &values(column)).ok()?.value.filter(|value| value.is_finite())
    };
    let over_runs = |(name, column): &Column| {
        let known: Vec<f64> = runs.iter().filter_map(|run| correlation(run, column)).collect();
        Some((*name, mean(&known)?))
    };
    columns.iter().filter_map(over_runs).collect()
}

/// The networks that two groups kept against each other, over the seeds that both have.
fn pair(one: &(String, Vec<Run>), other: &(String, Vec<Run>)) -> Pair {
    let by_seed: BTreeMap<u64, &Run> = other.1.iter().map(|run| (run.read.seed, run)).collect();
    let pairs = one.1.iter().filter_map(|run| Some((run.kept()?, by_seed.get(&run.read.seed)?.kept()?)));
    Pair { group: one.0.clone(), against: other.0.clone(), gains: gains(&pairs.collect::<Vec<_>>()) }
}

/// The networks of all groups as a table.
pub(super) fn table(groups: &[Group]) -> Table {
    let choice = groups.iter().flat_map(|group| &group.networks).any(|row| row.kept.is_some());
    let mut header = vec!["search", "searches", "network", "parameters", "clean error", "corrupted error", "deviation"];
    header.extend(["gain of the search's own, clean", "gain of the search's own, corrupted"]);
    header.extend(choice.then_some(["gain of the kept, clean", "gain of the kept, corrupted"]).into_iter().flatten());
    let shown = |gain: &Option<Paired>| gain.as_ref().map_or("-".to_owned(), Paired::to_string);
    let row = |group: &Group, row: &Row| {
        let mut cells = vec![
            group.name.clone(),
            group.seeds.len().to_string(),
            row.network.clone(),
            format!("{:.0}", row.params),
            format!("{:.2}", row.clean_error),
            row.corrupted_error.map_or("-".to_owned(), |error| format!("{error:.2}")),
            row.corrupted_deviation.map_or("-".to_owned(), |deviation| format!("{deviation:.2}")),
        ];
        cells.extend([&row.own.clean, &row.own.corrupted].map(shown));
        let none = Gains::default();
        let kept = row.kept.as_ref().unwrap_or(&none);
        cells.extend(choice.then(|| [&kept.clean, &kept.corrupted].map(shown)).into_iter().flatten());
        cells
    };
    let rows = groups.iter().flat_map(|group| group.networks.iter().map(|own| row(group, own)).collect::<Vec<_>>());
    Table { title: String::new(), header: header.into_iter().map(str::to_owned).collect(), rows: rows.collect() }
}

fn text(answer: &Answer) -> String {
    table(&answer.groups).text() + &remarks(answer)
}

/// What else is to be said of the table, in lines.
pub(super) fn remarks(answer: &Answer) -> String {
    let mut text = String::new();
    for group in answer.groups.iter().filter(|group| !group.goes_with_corrupted_error.is_empty()) {
        let known: Vec<String> =
            group.goes_with_corrupted_error.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        text += &format!(
            "{}: rank correlation with the corrupted error among the networks of a search: {}\n",
            group.name,
            known.join(", ")
        );
    }
    text += "errors in percent points, means over searches; a gain is by how many points the search's own network, or the one that it \
             kept, errs less than this one, seed by seed (bounds at 95 %: exact below 20 searches, and none below six)\n";
    for Pair { group, against, gains } in &answer.pairs {
        let gain = |gain: &Option<Paired>| match gain {
            Some(gain) => format!("{gain} points over {} seeds", gain.pairs),
            None => "no seed in common".to_owned(),
        };
        text += &format!(
            "{group} against {against}, what each kept: clean {}, corrupted {}\n",
            gain(&gains.clean),
            gain(&gains.corrupted)
        );
    }
    text
}

/// Finished searches beside each other.
///
/// # Errors
/// If a folder holds none.
pub(super) fn answer(folders: &[PathBuf]) -> Result<Answer> {
    let runs = grouped(folders)?;
    let mut pairs = vec![];
    for (place, own) in runs.iter().enumerate() {
        pairs.extend(runs[..place].iter().map(|other| pair(own, other)));
    }
    let groups = runs.into_iter().map(|(name, runs)| group(name, &runs)).collect();
    Ok(Answer { groups, pairs })
}

/// Compares the searches of some folders.
///
/// # Errors
/// If one is no finished search.
pub(super) fn of(global: &Global, folders: &[PathBuf]) -> Result<()> {
    run(global, &Args { runs: folders.to_vec(), csv: None, plot: None, force: false })
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let inputs: Vec<Option<&Path>> = args.runs.iter().map(|path| Some(path.as_path())).collect();
    let mut outputs = Outputs::new(&inputs);
    let replace = (!args.force).then_some(FORCE);
    outputs.file("--csv", args.csv.as_deref(), &["csv"], replace)?;
    outputs.file("--plot", args.plot.as_deref(), &["svg"], replace)?;
    let answer = answer(&args.runs)?;
    if args.plot.is_some() && answer.groups.len() > 1 {
        let why = format!("draws searches that differ in their seed alone; these are of {} kinds", answer.groups.len());
        return Err(Error::invalid("--plot", why));
    }
    if let Some(path) = &args.csv {
        atomic_write(path, &table(&answer.groups).csv()?)?;
    }
    if let (Some(path), Some(group)) = (&args.plot, answer.groups.first()) {
        let lines: Vec<_> = group.arms.iter().map(|arm| (arm.arm.clone(), arm.best.clone())).collect();
        let title = format!("{}, {} searches", group.name, group.seeds.len());
        atomic_write(path, bands(&title, "evaluations", "best so far", &lines, 1).svg(Place::File).as_bytes())?;
    }
    global.print(&answer, || text(&answer))
}
