//! Everything that decides what a search does, as one value that is written into the run.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::domain::{Bounded, Dedupe, Limits, Quantity};
use super::evaluate::EvaluatorConfig;
use super::finals::{FinalsConfig, Who, contestant};
use super::methods::{Method, arms};
use super::objectives::ObjectivesConfig;
use super::strategy::StrategyConfig;
use crate::data::Reading;
use crate::error::{Error, Result};
use crate::measure::latency::Latencies;
use crate::nn::space::{Build, Family, Purpose};
use crate::philox::Stream;
use crate::space::Space;
use crate::train::supernet::extremes;
use crate::train::trainer::Recipe;

/// Purpose word of the network that is asked what it has.
const CHECK_PURPOSE: u32 = 0x4348_4543;

/// How large a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Minutes on any machine.
    Quick,
    /// The paper's sizes.
    Paper,
}

impl Preset {
    /// What networks of a search of this size are built for.
    pub fn purpose(self) -> Purpose {
        match self {
            Preset::Quick => Purpose::Quick,
            Preset::Paper => Purpose::Published,
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "quick" => Ok(Preset::Quick),
            "paper" => Ok(Preset::Paper),
            _ => Err(crate::error::unknown("--preset", text, &["quick", "paper"])),
        }
    }
}

/// A whole search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// The method whose sizes and protocol this began with.
    pub method: Method,
    /// Name of the space.
    pub space: String,
    /// The data set, as given to `--data`.
    pub data: String,
    /// How its pictures are read.
    #[serde(default, skip_serializing_if = "Reading::is_as_found")]
    pub reading: Reading,
    /// Seed of everything.
    #[serde(with = "crate::philox::seed_text")]
    pub seed: u64,
    /// Whether the released code's behaviour was asked for.
    pub compat: bool,
    /// Candidates that each arm evaluates.
    pub evaluations: usize,
    /// Seconds after which no further candidate is evaluated; 0 for no limit. Arms share them.
    pub time: f64,
    /// Most parameters of the networks that are trained at the end; 0 for no limit.
    pub max_params: u64,
    /// Most multiply-adds of these; 0 for no limit.
    pub max_macs: u64,
    /// Most milliseconds of these for one image on the adapter at hand; 0 for no limit.
    #[serde(default)]
    pub max_latency: f64,
    /// What is minimised beside what is maximised: the objectives from the second on.
    #[serde(default = "params")]
    pub minimize: Vec<Quantity>,
    /// Names of the arms: the search itself, and what it is held against.
    pub arms: Vec<String>,
    /// How networks are built.
    pub build: Build,
    /// What proposes candidates.
    pub strategy: StrategyConfig,
    /// What measures them.
    pub evaluator: EvaluatorConfig,
    /// What is made of the measures.
    pub objectives: ObjectivesConfig,
    /// Training of a supernet whose weights candidates have; with 0 epochs, or left out, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supernet: Option<Recipe>,
    /// After every so many epochs of its training the supernet's weights stay in the run's folder; 0 for its end alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub supernet_keep_every: usize,
    /// A file with the weights of a supernet, instead of training one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supernet_file: Option<String>,
    /// The history of another run, with whose candidates it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<String>,
    /// What is trained and judged at the end.
    pub finals: FinalsConfig,
    /// How it is trained.
    pub training: Recipe,
}

/// Names in their order, each once.
pub fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn params() -> Vec<Quantity> {
    vec![Quantity::Params]
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A search among those of a run: one of them is the run's own, the others are what it is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// What proposes candidates.
    pub strategy: StrategyConfig,
    /// What measures them.
    pub evaluator: EvaluatorConfig,
    /// What is made of the measures.
    pub objectives: ObjectivesConfig,
}

impl SearchConfig {
    /// The limits of networks.
    pub fn limits(&self) -> Limits {
        Limits { params: self.max_params, macs: self.max_macs, latency: self.max_latency }
    }

    /// Whether latencies decide anything.
    pub fn asks_latencies(&self) -> bool {
        self.max_latency > 0.0 || self.minimize.contains(&Quantity::Latency)
    }

    /// The contestants of the method, of whose arms `first` is its own, for the arms that the run has: its own under its name, and
    /// none of arms that are not there.
    pub fn contestants_of_arms(&self, first: &str) -> Vec<String> {
        let own = |text: &String| {
            let (name, optimizer) = text.split_at(text.find(':').unwrap_or(text.len()));
            let name = if name == first { self.arms.first().map_or(name, String::as_str) } else { name };
            let there = Who::named(name).is_some() || self.arms.iter().any(|arm| arm == name);
            there.then(|| format!("{name}{optimizer}"))
        };
        distinct(self.finals.contestants.iter().filter_map(own))
    }

    /// The recipe of the supernet, if there is one: trained by it, or read from a file.
    pub fn supernet(&self) -> Option<Recipe> {
        let recipe = self.supernet.clone()?;
        match &self.supernet_file {
            Some(_) => Some(Recipe { epochs: recipe.epochs.max(1), ..recipe }),
            None => Some(recipe).filter(|recipe| recipe.epochs > 0),
        }
    }

    /// What may be proposed by an arm; `latencies` are there if they decide anything.
    ///
    /// # Errors
    /// If networks cannot be built as they are to be at the end.
    pub fn domain<'a>(&self, family: &'a Family, arm: &Arm, latencies: Option<&'a Latencies>) -> Result<Bounded<'a>> {
        Ok(Bounded {
            family,
            trained: self.finals.family(family)?,
            dedupe: arm.strategy.dedupe(),
            limits: self.limits(),
            minimize: self.minimize.clone(),
            penalised: self.compat && self.method == Method::Flatnas,
            latencies,
            is_final: false,
        })
    }

    /// Checks all numbers, for so many training images.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, family: &Family, images: usize) -> Result<()> {
        if !self.time.is_finite() || self.time < 0.0 {
            return Err(Error::invalid("--time", format!("is {}, expected seconds from 0 (no limit) on", self.time)));
        }
        self.check_minimized()?;
        self.strategy.validate()?;
        self.objectives.validate()?;
        self.evaluator.validate(images)?;
        check_evaluations(&**family, self.evaluations, self.strategy.dedupe())?;
        if let EvaluatorConfig::Shared(_) = &self.evaluator {
            check_sides(family)?;
        }
        let arms = arms(self)?;
        arms.iter().try_for_each(|arm| self.check_measure(arm, family))?;
        if self.supernet_keep_every > 0 && self.supernet_file.is_some() {
            return Err(Error::invalid(
                "--keep-every",
                "the supernet is read from a file and not trained; leave it out",
            ));
        }
        if let Some(recipe) = self.supernet() {
            let share = match &self.evaluator {
                EvaluatorConfig::Shared(options) => options.train_share,
                EvaluatorConfig::Trained(options) => options.train_share,
                _ => return Err(Error::invalid("supernet", "this evaluator takes no weights from a supernet")),
            };
            recipe.validate_in("supernet", "--supernet-epochs", (images as f64 * share) as usize)?;
        } else if self.supernet_keep_every > 0 {
            return Err(Error::invalid("--keep-every", format!("--method {} trains no supernet", self.method)));
        } else if self.supernet.as_ref().is_some_and(|recipe| recipe.paths != 1) && !family.is_elastic() {
            return Err(Error::invalid("--paths", "no supernet is trained; ask for one with --supernet-epochs"));
        } else if self.supernet_file.is_some() {
            return Err(Error::invalid("--supernet", format!("--method {} has no use for a supernet", self.method)));
        } else if self.evaluator.needs_supernet() {
            return Err(Error::invalid("--supernet-epochs", "0; candidates share the weights of a supernet"));
        }
        self.finals.validate(images)?;
        if self.finals.build.is_some()
            && matches!(self.evaluator, EvaluatorConfig::Trained(_))
            && self.supernet().is_some()
        {
            let why = "networks at the end begin with the supernet's weights, and so are built as it is; leave it out";
            return Err(Error::invalid("finals.build", why));
        }
        if self.finals.contestants.first() != Some(&arms[0].name) {
            let why = format!("the first must be {}, the search itself", arms[0].name);
            return Err(Error::invalid("finals.contestants", why));
        }
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        self.finals.contestants.iter().try_for_each(|text| contestant(text, &names).map(|_| ()))?;
        let candidates = match &self.evaluator {
            EvaluatorConfig::Trained(options) => Some(("evaluator.training.paths", &options.training)),
            _ => None,
        };
        let several = |(_, recipe): &(&'static str, &Recipe)| recipe.paths != 1 || recipe.sandwich || recipe.shrinking;
        if let Some((key, _)) = [("training.paths", &self.training)].into_iter().chain(candidates).find(several) {
            return Err(Error::invalid(
                key,
                "only a supernet has several paths, a sandwich of them, or shrinks; leave these out",
            ));
        }
        self.training.validate(self.finals.training_images(images).unwrap_or(images))?;
        self.limits().check(&self.finals.family(family)?)
    }

    /// Fails if nothing is minimised, or something twice, or the limit of latencies is none.
    fn check_minimized(&self) -> Result<()> {
        let twice = (1..self.minimize.len()).any(|place| self.minimize[..place].contains(&self.minimize[place]));
        if self.minimize.is_empty() || twice {
            let why = if twice { "something is there twice" } else { "there is nothing" };
            return Err(Error::invalid("--minimize", format!("{why}; expected some of params, macs, latency")));
        }
        match self.max_latency.is_finite() && self.max_latency >= 0.0 {
            true => Ok(()),
            false => {
                let why = format!("is {}, expected milliseconds from 0 (no limit) on", self.max_latency);
                Err(Error::invalid("--max-latency", why))
            }
        }
    }

    /// Fails if trainings ask for what the space's networks, or images of so many rows and columns, do not have: of networks, one at
    /// random is asked.
    ///
    /// # Errors
    /// Names the option.
    pub fn check_training(&self, family: &Family, sides: [usize; 2]) -> Result<()> {
        if let Some(recipe) = self.supernet().filter(|_| self.supernet_file.is_none()) {
            let supernet = family.needs_supernet()?;
            if recipe.sandwich || recipe.shrinking {
                extremes(&*supernet)?;
            }
            recipe.check(&*supernet, sides)?;
        }
        let arch = family.sample(&mut Stream::new(self.seed, CHECK_PURPOSE, 0))?;
        if let EvaluatorConfig::Trained(options) = &self.evaluator {
            options.training.check(&*family.network(&arch)?, sides)?;
        }
        self.training.check(&*self.finals.family(family)?.network(&arch)?, sides)
    }

    /// Fails if what an arm maximises is no measure of its evaluator.
    fn check_measure(&self, arm: &Arm, family: &Family) -> Result<()> {
        let known: &[&str] = match (&arm.objectives, &arm.evaluator) {
            (ObjectivesConfig::ErrorAndRobustness { .. }, EvaluatorConfig::Trained(_)) => return Ok(()),
            (ObjectivesConfig::ErrorAndRobustness { .. }, _) => {
                return Err(Error::invalid(
                    "objectives",
                    "error and robustness are measured on trained candidates alone",
                ));
            }
            (_, EvaluatorConfig::Shared(_)) => &["flatness", "accuracy", "angle", "scaled_flatness"],
            (_, EvaluatorConfig::Cost) => &["params", "macs"],
            (_, EvaluatorConfig::Proxy(options)) => &[options.proxy.name()],
            (_, EvaluatorConfig::Trained(_)) => &["accuracy", "training_accuracy"],
        };
        let measures = arm.objectives.measures();
        if let Some(name) = measures.iter().find(|name| !known.contains(name)) {
            return Err(crate::error::unknown("objectives.maximize", name, known));
        }
        match measures.contains(&"angle") && !has_angle(family)? {
            true => {
                let why = format!("angle is not defined for the networks of the space {}", family.name());
                Err(Error::invalid("--fitness", why))
            }
            false => Ok(()),
        }
    }
}

/// Whether the space has a supernet for which the angle of an architecture is defined.
fn has_angle(family: &Family) -> Result<bool> {
    let any = family.smallest();
    Ok(family.supernet()?.is_some_and(|supernet| supernet.direction(&any, false).is_some()))
}

/// Fails if networks see images of other sizes than their supernet, as whose paths they are measured.
fn check_sides(family: &Family) -> Result<()> {
    let Some(supernet) = family.supernet()? else { return Ok(()) };
    let ([rows, columns, _], own) = (family.network(&family.smallest())?.input(), supernet.input());
    if [rows, columns] == own[..2] {
        return Ok(());
    }
    let why = format!(
        "some networks see images of {rows}x{columns}, and are measured as paths of a supernet that sees {}x{}; give all one size (--build), as \
         in: {}",
        own[0],
        own[1],
        family.of_one_size().words()
    );
    Err(Error::invalid("build", why))
}

/// Fails if no candidates are asked for, or more than the space has.
fn check_evaluations(space: &dyn Space, asked: usize, dedupe: Dedupe) -> Result<()> {
    if asked == 0 {
        return Err(Error::invalid("--evaluations", "0 candidates; at least 1 is needed"));
    }
    let vectors = space.vectors().unwrap_or(u64::MAX);
    let classes = match dedupe {
        Dedupe::Exact => None,
        Dedupe::Canonical => space.count_classes(),
    };
    if asked as u64 <= classes.unwrap_or(vectors) {
        return Ok(());
    }
    let different = classes.map_or(String::new(), |classes| format!(", of which {classes} differ"));
    let why = format!("{asked} candidates; the space has {vectors} architectures{different}");
    Err(Error::invalid("--evaluations", why))
}
