//! `altiplano search --method flatnas`

use serde::Serialize;

use super::Global;
use super::args::image_info;
use super::configuration::{Configured, to_toml};
use super::progress::duration;
use super::run::in_folder;
use super::search::Args;
use super::train::keep_training;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::report::folder::RunFolder;
use crate::search::config::Preset;
use crate::search::flatnas::config::limited;
use crate::search::flatnas::{Explored, FlatnasConfig, FlatnasResult, Found, check_limits, search};
use crate::search::ood::{Judged, table};
use crate::search::surrogate::Kind;

/// Options of FlatNAS's search.
#[derive(clap::Args)]
pub(super) struct Options {
    /// With flatnas: weight of the error in the first objective; the rest is that of robustness (default 0.5).
    #[arg(long, allow_negative_numbers = true)]
    alpha: Option<f64>,
    /// With flatnas: deviation of the weight noise, as a part of each weight (default 0.05).
    #[arg(long, allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// With flatnas: generations after the initial sample.
    #[arg(long)]
    generations: Option<u64>,
    /// With flatnas: candidates of each generation after the initial sample.
    #[arg(long)]
    picks: Option<usize>,
    /// With flatnas: epochs of each candidate's training.
    #[arg(long)]
    candidate_epochs: Option<usize>,
    /// With flatnas: whether multiply-adds are a third objective (true in the quick preset).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    minimize_macs: Option<bool>,
    /// With flatnas: candidates that train side by side at most.
    #[arg(long)]
    side_by_side: Option<usize>,
}

impl Options {
    fn apply(&self, config: &mut FlatnasConfig) {
        self.alpha.iter().for_each(|v| config.alpha = *v);
        self.sigma.iter().for_each(|v| config.candidates.sigma = *v);
        self.generations.iter().for_each(|v| config.generations = *v);
        self.picks.iter().for_each(|v| config.search.picks = *v);
        self.candidate_epochs.iter().for_each(|v| config.candidates.training.epochs = *v);
        self.side_by_side.iter().for_each(|v| config.candidates.side_by_side = *v);
        self.minimize_macs.iter().for_each(|v| config.minimize_macs = *v);
    }
}

fn configured(global: &Global, args: &Args, data: &Dataset, name: &str) -> Result<FlatnasConfig> {
    let source = args.source(global);
    let preset = args.preset.parse::<Preset>()?;
    let space = args.sizes.space_of(&source)?;
    let compat = source.switch("compat", args.compat)?;
    let mut config = FlatnasConfig::preset(preset, &**space, name, &image_info(data), compat);
    config.seed = global.seed;
    config = source.merged(config)?;
    name.clone_into(&mut config.data);
    space.name().clone_into(&mut config.space);
    args.flatnas.apply(&mut config);
    let (max_params, max_macs) = args.proxy.limits();
    max_params.iter().for_each(|v| config.max_params = *v);
    max_macs.iter().for_each(|v| config.max_macs = *v);
    args.truth.apply(&mut config.search)?;
    args.truth.seeds.iter().for_each(|v| config.seeds = *v);
    args.draws.iter().for_each(|v| config.candidates.draws = *v);
    args.time.iter().for_each(|v| config.time = *v);
    args.supernet_epochs.iter().for_each(|v| config.supernet.epochs = *v);
    // The options of training hold for candidates too, but the epochs, which are few there.
    let epochs = config.candidates.training.epochs;
    args.training.apply(&mut config.candidates.training)?;
    config.candidates.training.epochs = epochs;
    args.training.apply(&mut config.training)?;
    // After the sizes of generations. Who gives their number means it.
    let evaluations = args.evaluations.unwrap_or(config.evaluations);
    if global.was_given("--generations") {
        config.evaluations = evaluations
    } else {
        config.ask(evaluations)
    };
    let space = args.sizes.for_data(space, data, config.build)?;
    config.build = space.build.clone();
    // A model of fewer samples than it has coefficients would fall back to another in every generation.
    let features = space.features(&space.smallest()).len();
    if config.generations > 0 {
        config.search.surrogate.check_samples(config.search.initial, features)?;
    }
    if config.search.surrogate == Kind::None && global.was_given("--picks") {
        let why = "is for surrogates; without one a generation is a population (--population)";
        return Err(Error::invalid("--picks", why));
    }
    config.validate(&*space, data.train.len())?;
    check_limits(&space, &config)?;
    Ok(config)
}

#[derive(Serialize)]
struct Plan<'a> {
    config: &'a FlatnasConfig,
    supernet_steps: usize,
    candidates: usize,
    baseline_candidates: usize,
    steps_per_candidate: usize,
    final_steps: usize,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let run = args.configuration(global, &|data, name| configured(global, args, data, name))?;
    let Configured { config, data, .. } = &run;
    let space = global.registry.open(&config.space, config.build.clone())?;
    if args.dry_run {
        let share = (data.train.len() as f64 * config.train_share) as usize;
        let images = limited(share, config.candidates.training_images);
        let all = limited(data.train.len(), config.final_images);
        let plan = Plan {
            config,
            supernet_steps: config.supernet.steps_per_epoch(share) * config.supernet.epochs,
            candidates: config.planned(),
            baseline_candidates: if config.searches_baseline() { config.planned() } else { 0 },
            steps_per_candidate: config.candidates.training.steps_per_epoch(images) * config.candidates.training.epochs,
            final_steps: config.training.steps_per_epoch(all) * config.training.epochs,
        };
        let toml = to_toml(config)?;
        return global.print(&plan, || {
            format!(
                "{toml}\n# {} supernet steps; {} candidates, and {} of the baseline, of {} training steps each; three networks of {} \
                 steps and {} seeds at the end",
                plan.supernet_steps,
                plan.candidates,
                plan.baseline_candidates,
                plan.steps_per_candidate,
                plan.final_steps,
                config.seeds
            )
        });
    }
    let (result, folder) = in_folder(&args.place(global)?, &run, &mut |gpu, preset, folder, observer| {
        search(gpu, preset, &space, data, config, folder, observer)
    })?;
    let images = limited(data.train.len(), config.final_images);
    let again = keep_training(&run, &result.found.best.arch, Some(images), &folder)?;
    global.print(&result, || text(&result, config, &folder, &again))
}

/// A search in lines: candidates, surrogates, hypervolume, front.
fn explored(found: &Explored) -> String {
    let line = |found: &Found| {
        format!(
            "    {:>10}  {:>12}  {:>7.2}  {:>6.2}  {:>7.2}  {}\n",
            found.params, found.macs, found.error, found.robustness, found.f1, found.arch
        )
    };
    let front: String = found.front.iter().map(line).collect();
    let surrogates: Vec<&str> =
        found.steps.iter().map(|s| s.surrogate.as_str()).filter(|name| !name.is_empty()).collect();
    let by = if surrogates.is_empty() { String::new() } else { format!(", proposed by {}", surrogates.join(", ")) };
    let left_out = [(found.failed, "could not be trained"), (found.learned_nothing, "learned nothing")];
    let failed: String = left_out.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!(" ({n} {why})")).collect();
    let volumes: Vec<f64> = found.steps.iter().filter_map(|s| s.hypervolume).collect();
    let volume = match (volumes.first(), volumes.last()) {
        (Some(first), Some(last)) => format!("hypervolume of the front from {first:.4} to {last:.4}\n"),
        _ => String::new(),
    };
    format!(
        "{} candidates trained with {}{failed}{by}\n{volume}front (parameters, multiply-adds, error %, R, objective):\n{front}found {}\n",
        found.evaluated, found.optimizer, found.best.arch,
    )
}

fn text(result: &FlatnasResult, config: &FlatnasConfig, folder: &RunFolder, again: &str) -> String {
    let epochs = config.training.epochs;
    let files = ["result.json", "best.safetensors", "table.csv", "table.svg", "history.jsonl", "config.toml"];
    let files: String = files.iter().map(|f| format!("    {}\n", folder.path().join(f).display())).collect();
    let (baseline, origin) = match &result.baseline {
        Some(found) => (
            format!("\nbaseline, the same search with the error as its objective: {}", explored(found)),
            "that search's network",
        ),
        None => (String::new(), "the network that the error alone picks"),
    };
    let constant = |j: &&Judged| result.constant_error.is_some_and(|least| j.clean_error.mean >= least);
    let warning = |j: &Judged| {
        format!("note: {} errs as often as a network that always gives the same answer; its R says nothing\n", j.role)
    };
    let warnings: String = result.trained.iter().filter(constant).map(warning).collect();
    format!(
        "{}{baseline}\ntrained {epochs} epochs, tested on images that the search never saw (errors and R in percent points):\n{}chosen and control are trained alike, the baseline with plain SGD; baseline and control have {origin}\n{warnings}files:\n{files}train the chosen network again:\n    {again}\n{} in all",
        explored(&result.found),
        table("", &result.trained).text(),
        duration(result.seconds),
    )
}
