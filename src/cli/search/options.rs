//! Options of `altiplano search`: raw arguments, and which key of the configuration each of them sets.
//!
//! An option holds for every method whose configuration has its key, so that no list says twice who takes what.

use std::path::PathBuf;

use super::super::args::{Sizes, parse_latency, parse_time};
use super::super::configuration::table;
use super::super::inputs::ReadingArgs;
use super::super::train::Training;
use crate::error::{Error, Result};
use crate::measure::zero_cost::Proxy;
use crate::search::config::{SearchConfig, distinct};
use crate::search::domain::Quantity;
use crate::search::evaluate::EvaluatorConfig;
use crate::search::methods::fitness::Fitness;
use crate::search::methods::{Method, Situation};
use crate::search::surrogate::Kind;

const PARTS: &str = "Parts of a search (any method)";
const SUPERNET: &str = "Supernets (genas, random; flatnas where candidates inherit weights)";
const FLATNAS: &str = "flatnas: trained candidates, surrogates";
const CROZE: &str = "croze: scored candidates";
const TABLE: &str = "Searches in a table (--truth)";
const RUN: &str = "The run's folder";

#[derive(clap::Args, Clone)]
pub(in crate::cli) struct Args {
    /// genas, flatnas, croze or random; with --truth strategies, with commas between them, or all.
    #[arg(long, default_value = "genas")]
    pub method: String,
    /// `digits`, or a folder or archive (`altiplano data list`).
    #[arg(long, default_value = "digits")]
    pub data: String,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Folder for results; must not exist.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// quick or paper.
    #[arg(long, default_value = "quick")]
    pub preset: String,
    /// Candidates that each arm evaluates; with --time fewer, if it ends before.
    #[arg(long)]
    pub evaluations: Option<usize>,
    /// Evaluate no further candidate after this time, such as 20m or 2h; arms share it.
    #[arg(long, value_parser = parse_time)]
    pub time: Option<f64>,
    /// Most parameters of a network.
    #[arg(long)]
    max_params: Option<u64>,
    /// Most multiply-adds of a network for one image.
    #[arg(long)]
    max_macs: Option<u64>,
    /// Longest latency of a network for one image on this adapter, such as 5ms: it is measured, or foretold from what its parts take.
    #[arg(long, value_parser = parse_latency)]
    max_latency: Option<f64>,
    /// What is minimised besides: params, macs, latency, or some of these with commas between them (default params; quick flatnas params,macs).
    /// With --truth: a column, or params or macs.
    #[arg(long, value_name = "QUANTITIES")]
    pub minimize: Option<String>,
    /// Behave as the authors' released code where it differs from the sound form.
    #[arg(long)]
    pub compat: bool,
    /// TOML file with any of the numbers of config.toml.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Print the numbers and the estimated work, and do nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Go on with the run in the folder, as it was begun.
    #[arg(long, conflicts_with = "force", requires = "out", help_heading = RUN)]
    pub resume: bool,
    /// Go on with the run in the folder beyond its end, to more --evaluations (as if it had been begun with these) or --time.
    #[arg(long, conflicts_with_all = ["force", "resume"], requires = "out", help_heading = RUN)]
    pub extend: bool,
    /// With --resume: refuse another version, adapter, driver or tiles than the run began with.
    #[arg(long, requires = "resume", help_heading = RUN)]
    pub strict: bool,
    /// Overwrite the run in the folder.
    #[arg(long, help_heading = RUN)]
    pub force: bool,

    /// random, evolution, moves (or warmup; mutate from a single candidate), nsga2 or surrogate, in place of the method's own.
    #[arg(long, help_heading = PARTS)]
    pub strategy: Option<String>,
    /// The search and what it is held against, by names as config.toml has them; the first is the search itself.
    #[arg(long, value_delimiter = ',', help_heading = PARTS)]
    arms: Option<Vec<String>>,
    /// Search so many times, with this seed and those that follow it, each in a folder of its own below --out, and compare what was
    /// found. The same command goes on where it stopped.
    #[arg(long, value_name = "N", requires = "out", conflicts_with_all = ["resume", "extend", "dry_run", "truth"],
        help_heading = PARTS, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub search_seeds: Option<u64>,
    /// Seeds of each network that is trained at the end. With --truth: searches of each strategy.
    #[arg(long, help_heading = PARTS)]
    pub seeds: Option<u64>,
    /// Attacks that these networks are tested under, such as fgsm:8/255,pgd:8/255:10; an empty text for none.
    #[arg(long, help_heading = PARTS)]
    attacks: Option<String>,
    /// Whether test images are also corrupted after they were made as large as networks see them, as FlatNAS's authors did (true in elastic spaces).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = PARTS)]
    resize_first: Option<bool>,
    /// Begin with the candidates of another run's history.jsonl; networks and measures must be made as here.
    #[arg(long, value_name = "HISTORY", help_heading = PARTS)]
    pub warm_start: Option<PathBuf>,

    /// Epochs of the supernet; with flatnas, candidates inherit its weights, and without it they begin with fresh ones.
    #[arg(long, help_heading = SUPERNET)]
    supernet_epochs: Option<usize>,
    /// Paths of the supernet in each of its steps, side by side, whose gradients for the same images are averaged (default 1, as
    /// published; 4 in elastic spaces).
    #[arg(long, conflicts_with = "supernet", help_heading = SUPERNET)]
    paths: Option<usize>,
    /// Whether these are the largest network, the smallest, and others between, which all learn what the largest answers (sandwich rule with
    /// in-place distillation; true in elastic spaces).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", conflicts_with = "supernet", help_heading = SUPERNET)]
    sandwich: Option<bool>,
    /// Whether layers of an elastic supernet become smaller as its training goes on, a quarter each: the largest alone, kernels, depths, widths
    /// (progressive shrinking; default false).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", conflicts_with = "supernet", help_heading = SUPERNET)]
    shrinking: Option<bool>,
    /// Keep the supernet's weights after every so many epochs, as supernet-epoch-N.safetensors: `altiplano rank` takes them.
    #[arg(long, value_name = "EPOCHS", conflicts_with = "supernet", help_heading = SUPERNET)]
    keep_every: Option<usize>,
    /// Take a supernet's weights from a file, such as another run's supernet.safetensors, instead of training one.
    #[arg(long, value_name = "FILE", conflicts_with = "supernet_epochs", help_heading = SUPERNET)]
    pub supernet: Option<PathBuf>,
    /// What evolution maximises: angle, accuracy, flatness (default), angle+flatness, accuracy+flatness or angle+accuracy.
    #[arg(long, help_heading = SUPERNET)]
    fitness: Option<String>,
    /// Weight of the second measure of such a sum (default 16 for flatness, 1 for accuracy).
    #[arg(long, requires = "fitness", allow_negative_numbers = true, help_heading = SUPERNET)]
    gamma: Option<f64>,
    /// Draws of weight noise (per deviation); with flatnas too.
    #[arg(long, help_heading = SUPERNET)]
    draws: Option<usize>,
    /// Deviations of weight noise, rising; found on the supernet if left out.
    #[arg(long, value_delimiter = ',', help_heading = SUPERNET)]
    sigmas: Option<Vec<f64>>,

    /// Weight of the error in the first objective; the rest is that of robustness (default 0.5).
    #[arg(long, allow_negative_numbers = true, help_heading = FLATNAS)]
    alpha: Option<f64>,
    /// Deviation of the weight noise, as a part of each weight (default 0.05).
    #[arg(long, allow_negative_numbers = true, help_heading = FLATNAS)]
    sigma: Option<f64>,
    /// none, rbf, gp, trees, mlp (a network, trained on the device) or adaptive (the best in cross-validation of rbf, gp and
    /// trees); also with --truth.
    #[arg(long, help_heading = FLATNAS)]
    pub surrogate: Option<String>,
    /// Random candidates to begin with; also with --truth (default 20 there).
    #[arg(long, help_heading = FLATNAS)]
    pub initial: Option<usize>,
    /// Candidates of each generation after the initial sample.
    #[arg(long, help_heading = FLATNAS)]
    pub picks: Option<usize>,
    /// Generations after the initial sample, in place of --evaluations.
    #[arg(long, help_heading = FLATNAS)]
    pub generations: Option<u64>,
    /// Population of plain NSGA-II; also with --truth (default 20 there).
    #[arg(long, help_heading = FLATNAS)]
    pub population: Option<usize>,
    /// Epochs of each candidate's training.
    #[arg(long, help_heading = FLATNAS)]
    candidate_epochs: Option<usize>,
    /// Whether candidates end with the weights of their best epoch (true in elastic spaces).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = FLATNAS)]
    best_epoch: Option<bool>,
    /// Candidates that train side by side at most; with genas, that are measured so.
    #[arg(long, help_heading = FLATNAS)]
    side_by_side: Option<usize>,

    /// The proxy to maximise (default croze_mean; with --compat croze_compat).
    #[arg(long, help_heading = CROZE)]
    proxy: Option<String>,
    /// Random candidates before the moves.
    #[arg(long, help_heading = CROZE)]
    pool: Option<usize>,
    /// Form of the network that is scored, tiny or zero-cost-nas.
    #[arg(long, help_heading = CROZE)]
    network: Option<String>,
    /// Images in the batch that proxies see.
    #[arg(long, help_heading = CROZE)]
    batch_size: Option<usize>,

    /// Search in a table instead of training: a CSV with a column `arch` and what is known of each architecture.
    #[arg(long, value_name = "TABLE", help_heading = TABLE)]
    pub truth: Option<PathBuf>,
    /// The column to maximise.
    #[arg(long, value_name = "COLUMN", help_heading = TABLE)]
    pub maximize: Option<String>,
    /// Draw the hypervolume of several strategies over evaluations (SVG).
    #[arg(long, help_heading = TABLE)]
    pub plot: Option<PathBuf>,

    #[command(flatten, next_help_heading = "The space")]
    pub sizes: Sizes,
    #[command(flatten, next_help_heading = "Training at the end")]
    pub training: Training,
}

/// An option that was given, the keys that it sets, and its value. Several keys stand with `+` between them, and alternatives, of
/// which the first counts that is there, with `|`.
type Assignment = (&'static str, &'static str, toml::Value);

impl Args {
    /// What options set.
    fn assignments(&self) -> Result<Vec<Assignment>> {
        let size = |value: Option<usize>| value.map(|value| value as u64);
        let numbers = [
            ("--evaluations", "evaluations", size(self.evaluations)),
            ("--max-params", "max_params", self.max_params),
            ("--max-macs", "max_macs", self.max_macs),
            ("--seeds", "finals.seeds", self.seeds),
            ("--supernet-epochs", "supernet.epochs", size(self.supernet_epochs)),
            ("--draws", "evaluator.flatness.draws|evaluator.noise.draws+finals.noise.draws", size(self.draws)),
            ("--initial", "strategy.initial", size(self.initial)),
            ("--picks", "strategy.picks", size(self.picks)),
            ("--population", "strategy.plain.population|strategy.population", size(self.population)),
            ("--candidate-epochs", "evaluator.training.epochs", size(self.candidate_epochs)),
            ("--side-by-side", "evaluator.side_by_side", size(self.side_by_side)),
            ("--pool", "strategy.pool", size(self.pool)),
            ("--batch-size", "evaluator.scored_batch", size(self.batch_size)),
        ];
        let mut all: Vec<Assignment> = vec![];
        for (option, keys, value) in numbers {
            let Some(value) = value else { continue };
            let value = i64::try_from(value);
            let value = value.map_err(|_| Error::invalid(option, "is beyond all reason"))?;
            all.push((option, keys, value.into()));
        }
        let list = |values: &[String]| toml::Value::from(values.to_vec());
        let attacks = self.attacks.as_ref().map(|text| {
            let attacks = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            list(&attacks.map(str::to_owned).collect::<Vec<_>>())
        });
        let minimize = self.minimize.as_ref().map(|text| {
            let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
            // For an error of their own.
            names.iter().try_for_each(|name| name.parse::<Quantity>().map(|_| ()))?;
            Ok(names)
        });
        let minimize: Option<Vec<String>> = minimize.transpose()?;
        let others = [
            ("--time", "time", self.time.map(toml::Value::from)),
            ("--arms", "arms", self.arms.as_deref().map(list)),
            ("--sigmas", "evaluator.flatness.sigmas", self.sigmas.clone().map(toml::Value::from)),
            ("--alpha", "objectives.alpha", self.alpha.map(toml::Value::from)),
            ("--sigma", "evaluator.noise.sigma+finals.noise.sigma", self.sigma.map(toml::Value::from)),
            ("--max-latency", "max_latency", self.max_latency.map(toml::Value::from)),
            ("--resize-first", "finals.resized_first", self.resize_first.map(toml::Value::from)),
            ("--minimize", "minimize", minimize.map(|quantities| list(&quantities))),
            ("--surrogate", "strategy.surrogate", self.surrogate.clone().map(toml::Value::from)),
            ("--proxy", "evaluator.proxy+objectives.maximize", self.proxy.clone().map(toml::Value::from)),
            ("--network", "evaluator.network", self.network.clone().map(toml::Value::from)),
            ("--attacks", "finals.attacks", attacks),
        ];
        all.extend(others.into_iter().filter_map(|(option, keys, value)| Some((option, keys, value?))));
        Ok(all)
    }

    /// Puts the options into a configuration. `situation` is asked which methods take what this one does not.
    ///
    /// # Errors
    /// Names an option for which it has no use, or whose value is none.
    pub fn apply(&self, config: SearchConfig, situation: &Situation) -> Result<SearchConfig> {
        let (method, mut values) = (config.method, table(&config)?);
        if self.generations.is_some() && !has(&values, "strategy.picks") {
            return Err(not_for("--generations", "strategy.picks", method, situation));
        }
        // Names are read by those who know them, for their own errors.
        self.proxy.as_ref().map_or(Ok(()), |name| name.parse::<Proxy>().map(|_| ()))?;
        self.surrogate.as_ref().map_or(Ok(()), |name| name.parse::<Kind>().map(|_| ()))?;
        for (option, keys, value) in self.assignments()? {
            let there = alternatives(keys).find(|keys| keys.iter().all(|key| has(&values, key)));
            let keys = there.ok_or_else(|| not_for(option, keys, method, situation))?;
            for key in keys {
                set(&mut values, key, value.clone());
            }
        }
        let fitness = self.fitness.as_ref().map(|text| text.parse::<Fitness>()).transpose()?;
        if fitness.is_some() && !has(&values, "evaluator.flatness") {
            return Err(not_for("--fitness", "evaluator.flatness", method, situation));
        }
        let mut config: SearchConfig =
            values.try_into().map_err(|e: toml::de::Error| Error::invalid("options", e.to_string()))?;
        config.supernet_keep_every = self.keep_every.unwrap_or(config.supernet_keep_every);
        let given = [
            ("--paths", self.paths.is_some()),
            ("--sandwich", self.sandwich.is_some()),
            ("--shrinking", self.shrinking.is_some()),
        ];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            let recipe = config.supernet.as_mut().ok_or_else(|| not_for(option, "supernet", method, situation))?;
            recipe.paths = self.paths.unwrap_or(recipe.paths);
            recipe.sandwich = self.sandwich.unwrap_or(recipe.sandwich);
            recipe.shrinking = self.shrinking.unwrap_or(recipe.shrinking);
            if config.supernet().is_none() {
                return Err(Error::invalid(option, "no supernet is trained; ask for one with --supernet-epochs"));
            }
        }
        if let Some(best) = self.best_epoch {
            match &mut config.evaluator {
                EvaluatorConfig::Trained(options) => options.best_epoch = best,
                _ => return Err(not_for("--best-epoch", "evaluator.noise", method, situation)),
            }
        }
        let Some(fitness) = fitness else { return Ok(config) };
        let objectives = fitness.objectives(self.gamma)?;
        // The search itself is called by what it maximises.
        let mut arms = config.arms;
        if self.arms.is_none() && method == Method::Genas {
            arms.splice(..1, [fitness.arm()]);
            arms = distinct(arms.into_iter());
        }
        Ok(SearchConfig { objectives, arms, ..config })
    }
}

/// Lists of keys of which one counts.
fn alternatives(keys: &str) -> impl Iterator<Item = Vec<&str>> {
    keys.split('|').map(|keys| keys.split('+').collect())
}

/// Whether there is such a key; what is left out of a file is none.
fn has(values: &toml::Table, key: &str) -> bool {
    let mut parts = key.split('.');
    let first = parts.next().and_then(|first| values.get(first));
    parts.fold(first, |value, part| value.and_then(|value| value.get(part))).is_some()
}

fn set(values: &mut toml::Table, key: &str, new: toml::Value) {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut inner = values;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let Some(next) = inner.get_mut(part).and_then(|value| value.as_table_mut()) else { return };
        inner = next;
    }
    inner.insert(last.to_owned(), new);
}

/// Why an option has no place in a search.
fn not_for(option: &str, keys: &str, method: Method, situation: &Situation) -> Error {
    let takes = |other: &Method| {
        let Ok(table) = table(&other.preset(situation)) else { return false };
        alternatives(keys).any(|keys| keys.iter().all(|key| has(&table, key)))
    };
    let takers: Vec<&str> = Method::ALL.into_iter().filter(takes).map(Method::name).collect();
    let why = match takers.contains(&method.name()) {
        true => "is not for the strategy of this search".to_owned(),
        false => format!("is for --method {}, not for --method {method}", takers.join(" and ")),
    };
    Error::invalid(option, why)
}

/// The method that has a key of a configuration, for one that does not.
pub(super) fn owner(key: &str, situation: &Situation) -> Option<Method> {
    Method::ALL.into_iter().find(|method| table(&method.preset(situation)).is_ok_and(|table| has(&table, key)))
}
