//! `altiplano search`

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Global;
use super::args::{Sizes, image_info, parse_time};
use super::configuration::{Configured, Source, to_toml};
use super::progress::duration;
use super::run::{Place, in_folder};
use super::train::{Training, keep_training};
use crate::data::Dataset;
use crate::error::{Error, Result, unknown};
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::report::folder::RunFolder;
use crate::search::config::{Method, Preset, SearchConfig};
use crate::search::finals::files;
use crate::search::run::{SearchResult, search};

#[derive(clap::Args)]
pub(super) struct Args {
    /// random, genas, croze or flatnas; with --truth random, nsga2, flatnas or all.
    #[arg(long, default_value = "genas")]
    pub method: String,
    #[command(flatten)]
    pub sizes: Sizes,
    /// `digits`, or a folder or archive (`altiplano data list`).
    #[arg(long, default_value = "digits")]
    pub data: String,
    /// Folder for results; must not exist.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// quick or paper.
    #[arg(long, default_value = "quick")]
    pub preset: String,
    /// Behave as the authors' released code where it differs from the sound form.
    #[arg(long)]
    pub compat: bool,
    /// Evaluate no further candidate after this time, such as 20m or 2h.
    #[arg(long, value_parser = parse_time)]
    pub time: Option<f64>,
    /// Candidates to evaluate; with --time fewer, if it ends before.
    #[arg(long)]
    pub evaluations: Option<usize>,
    /// Draws of weight noise per deviation.
    #[arg(long)]
    pub draws: Option<usize>,
    /// Deviations of weight noise, rising; found on the supernet if left out.
    #[arg(long, value_delimiter = ',')]
    pub sigmas: Option<Vec<f64>>,
    #[command(flatten)]
    pub proxy: super::search_proxy::Options,
    #[command(flatten)]
    pub flatnas: super::search_flatnas::Options,
    #[command(flatten)]
    pub truth: super::search_truth::Options,
    #[command(flatten)]
    pub training: Training,
    /// Epochs of the supernet; with flatnas, candidates inherit its weights, and without it they begin with fresh ones.
    #[arg(long)]
    pub supernet_epochs: Option<usize>,
    /// TOML file with any of the numbers of config.toml.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Print the numbers and the estimated work, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on with the run in the folder, as it was begun.
    #[arg(long, conflicts_with = "force", requires = "out")]
    pub resume: bool,
    /// With --resume: refuse another version, adapter, driver or tiles than the run began with.
    #[arg(long, requires = "resume")]
    pub strict: bool,
    /// Overwrite the run in the folder.
    #[arg(long)]
    pub force: bool,
}

/// Purpose word of the architectures whose mean cost a dry run takes, and their number.
const DRY_PURPOSE: u32 = 0x4452_5952;
const SAMPLE: u32 = 128;
/// What stands for searches in a table among the methods.
const TABLE: &str = "--truth";
/// Options that only some searches take, and who takes them.
const TAKEN: [(&[&str], &[&str]); 8] = [
    (&["--truth", "--maximize", "--minimize", "--plot"], &[TABLE]),
    (&["--surrogate", "--initial", "--population", "--seeds"], &["flatnas", TABLE]),
    (&["--alpha", "--sigma", "--generations", "--picks", "--candidate-epochs"], &["flatnas"]),
    (&["--minimize-macs", "--side-by-side"], &["flatnas"]),
    (&["--max-params", "--max-macs"], &["croze", "flatnas"]),
    (&["--proxy", "--strategy", "--pool", "--network", "--batch-size", "--attacks"], &["croze"]),
    (&["--sigmas"], &["genas", "random"]),
    (&["--draws", "--supernet-epochs"], &["genas", "random", "flatnas"]),
];
/// What searches in a table take of the options of all others.
const OF_TABLES: [&str; 16] = [
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
    "--verbose",
];

/// Fails if an option stands on the command line for which a search has no use.
fn refuse(global: &Global, method: &str) -> Result<()> {
    for option in &global.given {
        let known = TAKEN.iter().find(|(options, _)| options.contains(&option.as_str()));
        let why = match known {
            Some((_, takers)) if takers.contains(&method) => continue,
            Some((_, [TABLE])) => "is for searches in a table; give one with --truth".to_owned(),
            Some((_, takers)) => format!("is for {}, not for {}", listed(takers), listed(&[method])),
            None if method != TABLE || OF_TABLES.contains(&option.as_str()) => continue,
            None => "is for searches that train, not for those in a table (--truth)".to_owned(),
        };
        return Err(Error::invalid(option, why));
    }
    Ok(())
}

/// Methods in words.
fn listed(methods: &[&str]) -> String {
    let trained: Vec<&str> = methods.iter().copied().filter(|method| *method != TABLE).collect();
    let mut parts = vec![];
    if !trained.is_empty() {
        parts.push(format!("--method {}", trained.join(" and ")));
    }
    if methods.contains(&TABLE) {
        parts.push("searches in a table (--truth)".to_owned());
    }
    parts.join(", and for ")
}

impl Args {
    fn config(&self, global: &Global, data: &Dataset, name: &str, method: Method) -> Result<SearchConfig> {
        let source = self.source(global);
        let preset = self.preset.parse::<Preset>()?;
        let compat = source.switch("compat", self.compat)?;
        let space = self.sizes.space_of(&source)?;
        let images = (data.train.len(), &image_info(data));
        let mut config = SearchConfig::preset(method, preset, &**space, name, images, compat);
        config.seed = global.seed;
        config = source.merged(config)?;
        name.clone_into(&mut config.data);
        space.name().clone_into(&mut config.space);
        config.build = self.sizes.for_data(space, data, config.build)?.build;
        self.training.apply(&mut config.training)?;
        let Args { time, evaluations, draws, sigmas, supernet_epochs, .. } = self;
        time.iter().for_each(|v| config.time = *v);
        config.ask(evaluations.unwrap_or(config.evaluations));
        draws.iter().for_each(|v| config.evaluation.flatness.draws = *v);
        sigmas.iter().for_each(|v| config.evaluation.flatness.sigmas.clone_from(v));
        supernet_epochs.iter().for_each(|v| config.supernet.epochs = *v);
        config.validate(&**space, data.train.len())?;
        Ok(config)
    }
}

impl Args {
    /// Where the run's configuration comes from.
    pub(super) fn source<'a>(&'a self, global: &'a Global) -> Source<'a> {
        Source { global, out: self.out.as_deref(), resume: self.resume, file: self.config.as_deref(), from: None }
    }

    /// The run's configuration, see [`Source::configuration`].
    pub(super) fn configuration<C: Serialize + DeserializeOwned>(
        &self,
        global: &Global,
        make: &dyn Fn(&Dataset, &str) -> Result<C>,
    ) -> Result<Configured<C>> {
        self.source(global).configuration(Some(&self.data), make)
    }

    /// The run's folder.
    pub(super) fn place<'a>(&'a self, global: &'a Global) -> Result<Place<'a>> {
        let Args { out, resume, force, strict, .. } = self;
        let out = out.as_deref().ok_or_else(|| Error::invalid("--out", "is needed: a folder for the results"))?;
        Ok(Place { global, out, resume: *resume, force: *force, strict: *strict })
    }
}

/// The method of the run that is to be resumed, or else the one that was asked for.
fn method(global: &Global, args: &Args) -> Result<String> {
    let source = args.source(global);
    let asked = source.text("method", Some(&args.method))?.unwrap_or_default();
    let Some(stored) = source.begun_with("method")? else {
        let known = ["random", "genas", "croze", "flatnas"];
        return match (known.contains(&asked.as_str()), unknown("--method", &asked, &known), &args.config) {
            (true, ..) => Ok(asked),
            (_, why, Some(path)) if !global.was_given("--method") => Err(Error::file(path, None, why.to_string())),
            (_, why, _) => Err(why),
        };
    };
    let begun = stored.unwrap_or_else(|| asked.clone());
    if global.was_given("--method") && asked != begun {
        return Err(Error::invalid("--method", format!("is {asked}, but the run was begun with {begun}")));
    }
    Ok(begun)
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.truth.table().is_some() {
        refuse(global, TABLE)?;
        return super::search_truth::run(global, args);
    }
    let method = method(global, args)?;
    refuse(global, &method)?;
    if args.evaluations == Some(0) {
        return Err(Error::invalid("--evaluations", "0 candidates; at least 1 is needed"));
    }
    match method.as_str() {
        "croze" => super::search_proxy::run(global, args),
        "flatnas" => super::search_flatnas::run(global, args),
        other => run_on_supernet(global, args, other.parse()?),
    }
}

/// Searches by flatness and at random.
fn run_on_supernet(global: &Global, args: &Args, method: Method) -> Result<()> {
    let run = args.configuration(global, &|data, name| args.config(global, data, name, method))?;
    let Configured { config, data, .. } = &run;
    let space = global.registry.open(&config.space, config.build.clone())?;
    if args.dry_run {
        return dry_run(global, config, &space, data.train.len());
    }
    let (result, folder) = in_folder(&args.place(global)?, &run, &mut |gpu, preset, folder, observer| {
        search(gpu, preset, &space, data, config, folder, observer)
    })?;
    let again = keep_training(&run, &result.best.arch, None, &folder)?;
    global.print(&result, || text(&result, &folder, &again))
}

fn text(result: &SearchResult, folder: &RunFolder, again: &str) -> String {
    let best = &result.best;
    let measure = |name: &str| best.measures.get(name).copied().unwrap_or(f64::NAN);
    let baseline = match &result.baselines.best_of_random {
        Some(random) => format!(
            "best of as many random architectures: fitness {:.4} ({} parameters)\n",
            random.fitness, random.params
        ),
        None => String::new(),
    };
    let correlation = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let c = &result.correlations;
    let files: String = files(folder).iter().map(|f| format!("    {}\n", f.display())).collect();
    format!(
        "found {}\n    fitness {:.4}: loss {:.3} without noise, {:.3} at the largest (deviation {:.3}), accuracy {:.1} % with the supernet's weights\n    {} parameters, {} multiply-adds, best of {} candidates\n{baseline}rank correlation of fitness with loss {}, of slopes alone with loss {}, of fitness with parameters {}\ntrained {} epochs with {}: {:.2} % of {} test images right (loss {:.4})\n{}files:\n{files}train it again:\n    {again}\n{} in all",
        best.arch,
        best.fitness,
        measure("loss"),
        measure(&format!("loss_at_sigma_{}", result.sigmas.len())),
        result.sigmas.last().copied().unwrap_or_default(),
        100.0 * measure("accuracy"),
        best.params,
        best.macs,
        result.evaluated,
        correlation(c.fitness_loss),
        correlation(c.slope_loss),
        correlation(c.fitness_params),
        result.trained.epochs,
        result.trained.optimizer,
        100.0 * result.trained.clean_accuracy,
        result.trained.test_images,
        result.trained.clean_loss,
        result.trained.lines(),
        duration(result.seconds),
    )
}

#[derive(Serialize)]
struct Plan<'a> {
    config: &'a SearchConfig,
    supernet_steps: usize,
    candidates: usize,
    candidate_images: usize,
    training_steps: usize,
    /// Arithmetic operations of the whole search.
    gflop: f64,
    /// Estimated at a sustained rate.
    seconds_at_10_gflops: f64,
    seconds_at_1000_gflops: f64,
}

/// Prints the numbers and what they cost.
fn dry_run(global: &Global, config: &SearchConfig, space: &Family, images: usize) -> Result<()> {
    let training = (images as f64 * config.train_share) as usize;
    let validation = images - training;
    let mut draw = Stream::new(config.seed, DRY_PURPOSE, 0);
    let cost = |_| Ok(space.cost(&space.sample(&mut draw)?)?.macs as f64);
    let mean = (0..SAMPLE).map(cost).sum::<Result<f64>>()? / f64::from(SAMPLE);
    let steps = config.supernet.steps_per_epoch(training) * config.supernet.epochs;
    let each = if config.evaluation.images == 0 { validation } else { config.evaluation.images.min(validation) };
    let f = &config.evaluation.flatness;
    let levels = if f.sigmas.is_empty() { 3 } else { f.sigmas.len() };
    let passes = each * (1 + levels * f.draws) + config.evaluation.recalibration_batches * config.evaluation.batch;
    let candidates = config.candidates() * if config.searches_baseline() { 2 } else { 1 };
    let final_steps = config.training.steps_per_epoch(images) * config.training.epochs;
    let passes_final = if config.training.optimizer == crate::train::step::Optimizer::Sgd { 1.0 } else { 2.0 };
    let flop = 2.0
        * mean
        * (3.0 * (steps * config.supernet.batch) as f64
            + (candidates * passes) as f64
            + 3.0 * passes_final * (final_steps * config.training.batch) as f64);
    let plan = Plan {
        config,
        supernet_steps: steps,
        candidates,
        candidate_images: passes,
        training_steps: final_steps,
        gflop: flop / 1e9,
        seconds_at_10_gflops: flop / 1e10,
        seconds_at_1000_gflops: flop / 1e12,
    };
    let toml = to_toml(config)?;
    global.print(&plan, || {
        format!(
            "{toml}\n# {} supernet steps, {} candidates{} of {} forward images each, {} training steps\n# about {:.0} GFLOP: {} at 10 GFLOP/s (a software adapter), {} at 1 TFLOP/s",
            plan.supernet_steps,
            plan.candidates,
            if config.searches_baseline() { " (baseline included)" } else { "" },
            plan.candidate_images,
            plan.training_steps,
            plan.gflop,
            duration(plan.seconds_at_10_gflops),
            duration(plan.seconds_at_1000_gflops),
        )
    })
}
