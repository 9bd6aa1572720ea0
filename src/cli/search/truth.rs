//! `altiplano search --truth`: searches whose evaluations are looked up in a table.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::super::Global;
use super::super::names::Names;
use super::super::place::{FORCE, Outputs};
use super::Args;
use crate::data::Identity;
use crate::error::{Error, Result, unknown};
use crate::nn::space::Family;
use crate::report::chart::bands;
use crate::report::folder::atomic_write;
use crate::report::paired::Paired;
use crate::report::score_table::Table;
use crate::report::statistics::quartiles;
use crate::report::svg::Place;
use crate::search::evaluate::table::Truth;
use crate::search::simulated::{Comparison, Contender, Curve, Known, compare, curve, front_of};
use crate::search::strategy::StrategyConfig;
use crate::search::strategy::evolution::Evolution;
use crate::search::strategy::moves::Moves;
use crate::search::strategy::random::Random;
use crate::search::strategy::surrogate::SurrogateSettings;
use crate::search::surrogate::Kind;
use crate::space::Arch;

/// Options that a search in a table takes.
const TAKEN: [&str; 25] = [
    "--verbose",
    "--max-submit-ms",
    "--truth",
    "--maximize",
    "--minimize",
    "--plot",
    "--surrogate",
    "--initial",
    "--population",
    "--seeds",
    "--method",
    "--evaluations",
    "--force",
    "--space",
    "--channels",
    "--cells",
    "--image",
    "--classes",
    "--in-channels",
    "--build",
    "--device",
    "--checked",
    "--seed",
    "--json",
    "--quiet",
];
/// The strategies that stand beside each other by `all`, and all that there are.
const ALL: [&str; 3] = ["random", "nsga2", "surrogate"];
const KNOWN: [&str; 9] = ["all", "random", "evolution", "genas", "moves", "croze", "nsga2", "surrogate", "flatnas"];

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
type Row = (Arch, f64, f64);

/// Rows of the table.
fn rows(space: &Family, path: &Path, maximize: &str, minimize: &str) -> Result<Vec<Row>> {
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

/// The strategies that are asked for, in a table.
fn contenders(global: &Global, args: &Args) -> Result<(Vec<Contender>, SurrogateSettings)> {
    let mut settings = SurrogateSettings { initial: 20, ..SurrogateSettings::default() };
    settings.plain.population = 20;
    args.initial.iter().for_each(|v| settings.initial = *v);
    args.population.iter().for_each(|v| settings.plain.population = *v);
    if let Some(kind) = &args.surrogate {
        settings.surrogate = kind.parse()?;
    }
    let plain = SurrogateSettings { surrogate: Kind::None, ..settings };
    let population = settings.plain.population;
    let named = |name: &str| {
        let (name, strategy) = match name {
            // All of the rest at once, after the sample with which the others begin.
            "random" => (
                "random",
                StrategyConfig::Random(Random { batch: 1 << 20, shared: settings.initial, ..Random::default() }),
            ),
            "nsga2" => ("nsga2", StrategyConfig::Surrogate(plain)),
            "surrogate" | "flatnas" if settings.surrogate == Kind::None => ("nsga2", StrategyConfig::Surrogate(plain)),
            "surrogate" | "flatnas" => ("surrogate", StrategyConfig::Surrogate(settings)),
            "evolution" | "genas" => {
                let (parents, each) = (population.div_ceil(4), population / 2);
                let evolution =
                    Evolution { population, parents, mutations: each, crossovers: each, ..Evolution::default() };
                ("evolution", StrategyConfig::Evolution(evolution))
            }
            "moves" | "warmup" | "croze" => {
                ("moves", StrategyConfig::Moves(Moves { pool: settings.initial, ..Moves::default() }))
            }
            _ => return Err(unknown("--method", name, &KNOWN)),
        };
        Ok(Contender { name: name.to_owned(), strategy })
    };
    // The default of --method is for searches that train.
    let asked = if global.was_given("--method") { args.method.as_str() } else { "surrogate" };
    let own = |name| if name == "all" { ALL.to_vec() } else { vec![name] };
    let names: Vec<&str> = asked.split(',').map(str::trim).flat_map(own).collect();
    settings.validate()?;
    let contenders = names.into_iter().map(named).collect::<Result<Vec<_>>>()?;
    for (place, own) in contenders.iter().enumerate() {
        own.strategy.validate()?;
        if contenders[..place].iter().any(|other| other.name == own.name) {
            let why = format!("{} is there twice; --surrogate none is plain NSGA-II", own.name);
            return Err(Error::invalid("--method", why));
        }
    }
    if args.plot.is_some() && contenders.len() < 2 {
        return Err(Error::invalid("--plot", "compares strategies; give several, or --method all"));
    }
    Ok((contenders, settings))
}

/// The seeds, if with so many evaluations there is something to do.
fn seeds(global: &Global, args: &Args, evaluations: usize) -> Result<std::ops::Range<u64>> {
    let (first, count) = (global.seed, args.seeds.unwrap_or(1));
    if count == 0 || count > 10_000 || evaluations < 2 {
        let why = format!("{count} seeds of {evaluations} evaluations; 1 to 10000 seeds of at least 2 are possible");
        return Err(Error::invalid("--seeds and --evaluations", why));
    }
    let beyond = || format!("{first} and {count} seeds from there are beyond the largest number");
    let end = first.checked_add(count).ok_or_else(|| Error::invalid("--seed", beyond()))?;
    Ok(first..end)
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if global.was_given("--strategy") {
        return Err(Error::invalid(
            "--strategy",
            "with --truth strategies stand in --method, with commas between them",
        ));
    }
    if let Some(option) = global.given.iter().find(|option| !TAKEN.contains(&option.as_str())) {
        return Err(Error::invalid(option, "is for searches that train, not for those in a table (--truth)"));
    }
    let start = Instant::now();
    let need = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| Error::invalid(name, "is needed with --truth: a column of the table"))
    };
    let path = args.truth.clone().unwrap_or_default();
    let (maximize, minimize) = (need(&args.maximize, "--maximize")?, need(&args.minimize, "--minimize")?);
    if maximize == minimize {
        return Err(Error::invalid(
            "--minimize",
            format!("is {minimize}, which --maximize is too; there is nothing to weigh"),
        ));
    }
    let mut outputs = Outputs::new(&[Some(&path)]);
    outputs.file("--plot", args.plot.as_deref(), &["svg"], (!args.force).then_some(FORCE))?;
    let (contenders, settings) = contenders(global, args)?;
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
    let seeds = seeds(global, args, evaluations)?;
    // Only a network needs one: other searches run where there is none.
    let needs_device = settings.surrogate == Kind::Mlp && contenders.iter().any(|own| own.name == "surrogate");
    let device = if needs_device { Some(global.gpu()?) } else { None };
    let device = device.as_ref();
    let (curves, comparisons) = match &contenders[..] {
        [one] => (vec![curve(&truth, one, evaluations, seeds.clone(), device)?], vec![]),
        several => compare(&truth, several, evaluations, seeds.clone(), device)?,
    };
    let done: usize = curves.iter().flat_map(|c| &c.shares).map(Vec::len).sum();
    let seconds = start.elapsed().as_secs_f64();
    let found = |(arch, point): &Known| {
        let (value, cost) = truth.values(point);
        Found { arch: space.show(arch), value, cost }
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
        front: curves.last().map_or(vec![], |curve| front_of(&curve.first).into_iter().map(found).collect()),
        curves,
        comparisons,
    };
    if let Some(path) = &args.plot {
        let count = seeds.end - seeds.start;
        let title = format!("{} against {}, {count} seeds", answer.maximize, answer.minimize);
        let lines: Vec<_> = answer.curves.iter().map(|c| (c.proposer.clone(), quartiles(&c.shares))).collect();
        let svg =
            bands(&title, "evaluations", "share of the table's hypervolume", &lines, settings.initial).svg(Place::File);
        atomic_write(path, svg.as_bytes())?;
    }
    global.print(&answer, || text(&answer))
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
        let [low, middle, high] = quartiles(&curve.shares).last().copied().unwrap_or([f64::NAN; 3]);
        text += &format!(
            "{:<10} {:.4} of the table's hypervolume (median of {} seeds; quartiles {low:.4} to {high:.4})\n",
            curve.proposer,
            middle,
            curve.shares.len(),
        );
    }
    for Comparison { proposer, against, gain } in &answer.comparisons {
        let Paired { pairs, wins, ties, mean, bounds } = gain;
        let bounds = bounds.map_or(String::new(), |[low, high]| format!(" ({low:.4} to {high:.4})"));
        text += &format!(
            "{proposer} against {against}: higher in {wins} of {pairs} seeds, equal in {ties}; mean difference {mean:.4}{bounds}\n"
        );
    }
    text += &format!("front of the first seed's search ({}, {}):\n", answer.maximize, answer.minimize);
    for found in &answer.front {
        text += &format!("    {:.4} {:>10} {}\n", found.value, found.cost, found.arch);
    }
    text
}
