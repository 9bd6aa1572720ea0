//! `altiplano search --truth`: searches whose evaluations are looked up in a table.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::Global;
use super::names::Names;
use super::place::{FORCE, Outputs};
use super::search::Args;
use crate::data::Identity;
use crate::error::{Error, Result, unknown};
use crate::nn::space::Family;
use crate::report::folder::atomic_write;
use crate::report::line_plot::line_plot;
use crate::report::score_table::Table;
use crate::search::simulated::{Comparison, Curve, Proposer, Truth, compare, curve};
use crate::search::surrogate::Kind;
use crate::search::surrogate_search::SurrogateSettings;
use crate::space::Arch;

/// Options of simulated searches.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Search in a table instead of training: a CSV with a column `arch` and what is known of each architecture.
    #[arg(long, value_name = "TABLE")]
    truth: Option<PathBuf>,
    /// With --truth: the column to maximise.
    #[arg(long, value_name = "COLUMN")]
    maximize: Option<String>,
    /// With --truth: the column to minimise, or params or macs.
    #[arg(long, value_name = "COLUMN")]
    minimize: Option<String>,
    /// With --truth or flatnas: none, rbf, gp, trees, mlp (a network, trained on the device) or adaptive (the
    /// best in cross-validation of rbf, gp and trees).
    #[arg(long)]
    surrogate: Option<String>,
    /// With --truth or flatnas: random candidates to begin with (default 20 in a table).
    #[arg(long)]
    initial: Option<usize>,
    /// With --truth or flatnas: population of plain NSGA-II (default 20 in a table).
    #[arg(long)]
    population: Option<usize>,
    /// With --truth: repeat with so many seeds. With flatnas: seeds of the networks trained at the end.
    #[arg(long)]
    pub(super) seeds: Option<u64>,
    /// With --truth and --method all: draw the hypervolume over evaluations (SVG).
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl Options {
    pub(super) fn table(&self) -> Option<&Path> {
        self.truth.as_deref()
    }

    /// Puts the given sizes into those of a search.
    pub(super) fn apply(&self, settings: &mut SurrogateSettings) -> Result<()> {
        self.initial.iter().for_each(|v| settings.initial = *v);
        self.population.iter().for_each(|v| settings.plain.population = *v);
        if let Some(kind) = &self.surrogate {
            settings.surrogate = kind.parse()?;
        }
        Ok(())
    }
}

/// A candidate of a search.
#[derive(Serialize)]
struct Found {
    arch: String,
    /// The column that was maximised.
    value: f64,
    /// What was minimised.
    cost: f64,
}

#[derive(Serialize)]
struct Answer {
    #[serde(serialize_with = "crate::error::serialize_path")]
    truth: PathBuf,
    /// What the table was.
    table: Identity,
    maximize: String,
    minimize: String,
    /// Different architectures in the table.
    architectures: usize,
    /// Rows without a finite number in both columns, or of a class that is there already.
    rows_left_out: usize,
    evaluations: usize,
    settings: SurrogateSettings,
    seconds: f64,
    evaluations_per_second: f64,
    /// The front of the first seed's search.
    front: Vec<Found>,
    curves: Vec<Curve>,
    comparisons: Vec<Comparison>,
}

/// A row of the table: architecture, what is maximised, what is minimised.
type Known = (Arch, f64, f64);

/// Rows of the table.
fn rows(space: &Family, path: &Path, maximize: &str, minimize: &str) -> Result<Vec<Known>> {
    let table = Table::read(path)?;
    let value = table.require("--maximize", maximize)?;
    let cost = match minimize {
        "params" | "macs" if table.find(minimize).is_none() => None,
        _ => Some(table.require("--minimize", minimize)?),
    };
    let columns: Vec<usize> = [Some(value), cost].into_iter().flatten().collect();
    let names = Names::new(&**space);
    let picked = table.pick(&columns, &[], None, &|name: &str| names.identify(name))?;
    let mut rows = vec![];
    for row in &picked.rows {
        let Some(arch) = names.arch(row.arch.own) else { continue };
        let cost = space.cost(&arch)?;
        let counted = if minimize == "macs" { cost.macs } else { cost.params };
        rows.push((arch, row.values[0], row.values.get(1).copied().unwrap_or(counted as f64)));
    }
    Ok(rows)
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let start = Instant::now();
    let options = &args.truth;
    let need = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| Error::invalid(name, "is needed with --truth: a column of the table"))
    };
    let path = options.truth.clone().unwrap_or_default();
    let (maximize, minimize) = (need(&options.maximize, "--maximize")?, need(&options.minimize, "--minimize")?);
    let mut outputs = Outputs::new(&[Some(&path)]);
    outputs.file("--plot", options.plot.as_deref(), &["svg"], (!args.force).then_some(FORCE))?;
    let mut settings = SurrogateSettings { initial: 20, ..SurrogateSettings::default() };
    settings.plain.population = 20;
    options.apply(&mut settings)?;
    let proposers: &[Proposer] = match args.method.as_str() {
        "random" => &[Proposer::Random],
        "nsga2" => &[Proposer::Nsga2],
        // The default of --method is for searches that train.
        "flatnas" | "genas" if settings.surrogate == Kind::None => &[Proposer::Nsga2],
        "flatnas" | "genas" => &[Proposer::Surrogate],
        "all" => &[Proposer::Random, Proposer::Nsga2, Proposer::Surrogate],
        other => return Err(unknown("--method", other, &["random", "nsga2", "flatnas", "all"])),
    };
    if options.plot.is_some() && proposers.len() < 3 {
        return Err(Error::invalid("--plot", "compares all methods; give --method all"));
    }
    if settings.surrogate == Kind::None && proposers.len() > 1 {
        return Err(Error::invalid(
            "--surrogate",
            "none is plain NSGA-II, which --method all has beside the surrogate",
        ));
    }
    let space = args.sizes.stand_alone(global)?;
    let rows = rows(&space, &path, &maximize, &minimize)?;
    let truth = Truth::new(&*space, &rows)?;
    let evaluations = match args.evaluations {
        Some(asked) if asked > truth.len() => {
            let why = format!("{asked}, but the table has {} different architectures", truth.len());
            return Err(Error::invalid("--evaluations", why));
        }
        asked => asked.unwrap_or(truth.len().min(100)),
    };
    let (first, count) = (global.seed, options.seeds.unwrap_or(1));
    if count == 0 || count > 10_000 || evaluations < 2 {
        let why = format!("{count} seeds of {evaluations} evaluations; 1 to 10000 seeds of at least 2 are possible");
        return Err(Error::invalid("--seeds and --evaluations", why));
    }
    let Some(end) = first.checked_add(count) else {
        return Err(Error::invalid(
            "--seed",
            format!("{first} and {count} seeds from there are beyond the largest number"),
        ));
    };
    let seeds = first..end;
    // Only a network needs one: other searches run where there is none.
    let device = match settings.surrogate {
        Kind::Mlp if proposers.contains(&Proposer::Surrogate) => Some(global.gpu()?),
        _ => None,
    };
    let device = device.as_ref();
    let (curves, comparisons) = match proposers {
        [one] => (vec![curve(&truth, *one, &settings, evaluations, seeds, device)?], vec![]),
        _ => compare(&truth, &settings, evaluations, seeds, device)?,
    };
    let done: usize = curves.iter().flat_map(|c| &c.shares).map(Vec::len).sum();
    let seconds = start.elapsed().as_secs_f64();
    let front = truth.front(curves.last().map_or(&[], |curve| &curve.first[..]))?;
    let found = |(arch, objectives): (Arch, Vec<f64>)| Found {
        arch: space.show(&arch),
        value: truth.most() - objectives[0],
        cost: objectives[1],
    };
    let answer = Answer {
        table: Identity::of_file(&path)?,
        truth: path,
        maximize,
        minimize,
        architectures: truth.len(),
        rows_left_out: rows.len() - truth.len(),
        evaluations,
        settings,
        seconds,
        evaluations_per_second: done as f64 / seconds,
        front: front.into_iter().map(found).collect(),
        curves,
        comparisons,
    };
    if let Some(path) = &options.plot {
        let title = format!("{} against {}, {count} seeds", answer.maximize, answer.minimize);
        let lines: Vec<_> = answer.curves.iter().map(|c| (name(c.proposer).to_owned(), c.quartiles())).collect();
        let svg = line_plot(&title, "evaluations", "share of the table's hypervolume", &lines, settings.initial);
        atomic_write(path, svg.as_bytes())?;
    }
    global.print(&answer, || text(&answer))
}

fn name(proposer: Proposer) -> &'static str {
    match proposer {
        Proposer::Random => "random",
        Proposer::Nsga2 => "NSGA-II",
        Proposer::Surrogate => "surrogate",
    }
}

fn text(answer: &Answer) -> String {
    let left_out = match answer.rows_left_out {
        0 => String::new(),
        n => format!(" ({n} rows left out: no finite numbers, or isomorphic to another)"),
    };
    let mut text = format!(
        "{} architectures{left_out}, {} evaluations, {:.0} evaluations per second\n",
        answer.architectures, answer.evaluations, answer.evaluations_per_second
    );
    for curve in &answer.curves {
        let [low, middle, high] = curve.quartiles().last().copied().unwrap_or([f64::NAN; 3]);
        text += &format!(
            "{:<10} {:.4} of the table's hypervolume (median of {} seeds; quartiles {low:.4} to {high:.4})\n",
            name(curve.proposer),
            middle,
            curve.shares.len(),
        );
    }
    for c in &answer.comparisons {
        text += &format!(
            "{} against {}: higher in {} of {} seeds, equal in {}; median difference {:.4} ({:.4} to {:.4})\n",
            name(c.proposer),
            name(c.against),
            c.wins,
            c.seeds,
            c.ties,
            c.median_difference,
            c.low,
            c.high
        );
    }
    text += &format!("front of the first seed's search ({}, {}):\n", answer.maximize, answer.minimize);
    for found in &answer.front {
        text += &format!("    {:.4} {:>10} {}\n", found.value, found.cost, found.arch);
    }
    text
}
