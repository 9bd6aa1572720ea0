//! `altiplano rank`

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Global;
use super::architectures::Choice;
use super::inputs::{HandlingArgs, load_data};
use super::place::{FORCE, Outputs};
use super::progress::say;
use super::run::finished;
use crate::data::Reading;
use crate::error::{Error, Result};
use crate::nn::space::Family;
use crate::progress::{Event, Share};
use crate::report::folder::{Existing, RunFolder, SUPERNET, atomic_write};
use crate::search::config::SearchConfig;
use crate::search::evaluate::Ground;
use crate::search::methods::fitness::Fitness;
use crate::search::objectives::{Measures, Objectives};
use crate::search::study::Job;
use crate::train::supernet::{self, SupernetJob};
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder of a search that trained a supernet; its data and settings hold here too.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Weights of that supernet at another time (`search --keep-every`), instead of those at the end of its training.
    #[arg(long, value_name = "FILE")]
    supernet: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    handling: HandlingArgs,
    /// Where the measures go, as CSV.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replaces the file of --out.
    #[arg(long)]
    force: bool,
}

/// What a finished search says of itself.
#[derive(Deserialize)]
struct Finished {
    config: SearchConfig,
}

#[derive(Serialize)]
struct Row {
    arch: String,
    params: u64,
    macs: u64,
    #[serde(flatten)]
    measures: Measures,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let refuse = (!args.force).then_some(FORCE);
    let mut outputs = Outputs::new(&[args.choice.archs.as_deref(), args.supernet.as_deref()]);
    outputs.file("--out", args.out.as_deref(), &["csv"], refuse)?;
    let Finished { config } = finished(&args.run)?;
    let recipe = config.supernet().filter(|_| config.evaluator.needs_supernet());
    let none =
        || Error::invalid("RUN", "its candidates do not share a supernet's weights; a search by genas is what ranks");
    let recipe = recipe.ok_or_else(none)?;
    let family = global.registry.open(&config.space, config.build.clone())?;
    let archs = args.choice.architectures(&*family, global.seed)?;
    let data =
        load_data(global, &config.data, &Reading { handling: args.handling.handling(), ..config.reading.clone() })?;
    // A run that did not train it says where it lies.
    let read = config.supernet_file.as_ref().map(PathBuf::from);
    let file = args.supernet.clone().or(read).unwrap_or_else(|| args.run.join(SUPERNET));
    let given = supernet::Given::read(&file, &family, true)?;
    let (gpu, preset) = global.gpu()?;
    let folder = RunFolder::create(&args.run, Existing::Resume)?;
    let (statistics, supply) = (data.train.channel_statistics()?, Supply::new(&gpu, &data.train)?);
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };
    let parts = config.evaluator.parts(&data, config.seed)?;
    let job = SupernetJob {
        recipe: &recipe,
        images: &parts.all,
        seed: config.seed,
        given: Some(&given),
        shared: true,
        keep_every: 0,
    };
    let (whole, mut silent) = (Share { from: 0.0, to: 1.0 }, |_: &Event| ControlFlow::Continue(()));
    let heritage = supernet::train(&setting, &family, &job, &folder, whole, &mut silent)?;
    let ground =
        Ground { setting: &setting, family: &family, data: &data, seed: config.seed, supernet: Some(&heritage) };
    let mut evaluator = config.evaluator.open(ground, &parts, &folder)?;
    let mut sums = vec![];
    for fitness in Fitness::ALL.into_iter().filter(|fitness| fitness.name().contains('+')) {
        sums.push((fitness.arm(), fitness.objectives(None)?.open(f64::INFINITY)));
    }
    let jobs = |(number, arch)| Job { number, name: family.show(&arch), generation: 0, arch };
    let jobs: Vec<Job> = (0..).zip(archs).map(jobs).collect();
    let (mut rows, start) = (vec![], Instant::now());
    for some in jobs.chunks(evaluator.width().max(1)) {
        for (job, mut measures) in some.iter().zip(evaluator.evaluate(some, &mut |_| Ok(()))?) {
            // Objectives are minimised.
            let of = |(name, sum): &(String, Box<dyn Objectives>)| (name.clone(), -sum.first(&measures, 1.0));
            let all: Vec<(String, f64)> = sums.iter().map(of).collect();
            measures.extend(all);
            let cost = family.cost(&job.arch)?;
            rows.push(Row { arch: family.show(&job.arch), params: cost.params, macs: cost.macs, measures });
        }
        if !global.quiet {
            let rate = rows.len() as f64 / start.elapsed().as_secs_f64();
            let left = (jobs.len() - rows.len()) as f64 / rate;
            say(&format!("{} of {} architectures, {rate:.2} per second, {left:.0} s left", rows.len(), jobs.len()));
        }
    }
    if let Some(path) = &args.out {
        atomic_write(path, &csv(path, &rows)?)?;
    }
    global.print(&rows, || match &args.out {
        Some(path) => format!("{} architectures measured: {}", rows.len(), path.display()),
        None => text(&family, &rows),
    })
}

/// Names of the measures, which are the same for all.
fn names(rows: &[Row]) -> Vec<&str> {
    rows.first().map(|row| row.measures.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn csv(path: &Path, rows: &[Row]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(vec![]);
    let bad = |e: csv::Error| Error::file(path, None, e.to_string());
    table.write_record(["arch", "params", "macs"].iter().chain(&names(rows))).map_err(bad)?;
    for row in rows {
        let figures = [row.params.to_string(), row.macs.to_string()];
        let measures = row.measures.values().map(f64::to_string);
        table.write_record([row.arch.clone()].into_iter().chain(figures).chain(measures)).map_err(bad)?;
    }
    table.into_inner().map_err(|e| Error::file(path, None, e.to_string()))
}

fn text(family: &Family, rows: &[Row]) -> String {
    let shown: Vec<&str> = names(rows).into_iter().filter(|name| !name.starts_with("loss_at")).collect();
    let mut text = format!("{:>10}", "params");
    shown.iter().for_each(|name| {
        let _ = write!(text, " {name:>15}");
    });
    text.push_str("  arch\n");
    for row in rows {
        let arch = family.parse(&row.arch).map_or_else(|_| row.arch.clone(), |arch| family.abbreviate(&arch));
        let _ = write!(text, "{:>10}", row.params);
        for name in &shown {
            let _ = write!(text, " {:>15.6}", row.measures[*name]);
        }
        let _ = writeln!(text, "  {arch}");
    }
    text
}
