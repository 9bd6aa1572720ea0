//! The methods: for each a file with its sizes, its protocols (sound, and as its authors' released code behaves), and the arms that
//! it is held against.

use serde::{Deserialize, Serialize};

use super::config::{Arm, Preset, SearchConfig, distinct};
use super::domain::Quantity;
use super::evaluate::EvaluatorConfig;
use super::finals::{FinalsConfig, Who};
use super::objectives::ObjectivesConfig;
use super::strategy::StrategyConfig;
use super::strategy::random::Random;
use crate::data::Reading;
use crate::error::{Error, Result, unknown};
use crate::nn::space::{Build, ImageInfo, Networks, Purpose};
use crate::space::Space;
use crate::train::trainer::Recipe;

pub mod croze;
pub mod fitness;
pub mod flatnas;
pub mod genas;

use fitness::Fitness;

/// A published method, or chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Distinct random architectures, measured as GeNAS does.
    Random,
    /// Evolution by flatness on a supernet (Jeong et al. 2023).
    Genas,
    /// Search by a zero-cost proxy (Ha, Kim and Hwang 2023).
    Croze,
    /// NSGA-II and surrogates by error and robustness (Gambella et al. 2024).
    Flatnas,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 4] = [Method::Genas, Method::Random, Method::Croze, Method::Flatnas];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Method::Random => "random",
            Method::Genas => "genas",
            Method::Croze => "croze",
            Method::Flatnas => "flatnas",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Method::ALL.into_iter().find(|method| method.name() == text);
        found.ok_or_else(|| unknown("--method", text, &Method::ALL.map(Method::name)))
    }
}

/// What the sizes of a preset depend on.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// How large the search is.
    pub preset: Preset,
    /// The space.
    pub space: &'a dyn Networks,
    /// The data set, as given to `--data`.
    pub data: &'a str,
    /// Training images.
    pub images: usize,
    /// What they are like.
    pub info: &'a ImageInfo,
    /// Whether the released code's behaviour is asked for.
    pub compat: bool,
}

impl Situation<'_> {
    pub(super) fn is_quick(&self) -> bool {
        self.preset == Preset::Quick
    }

    /// Whether images are as small as the bundled digits.
    fn is_small(&self) -> bool {
        self.info.height.max(self.info.width) < 16
    }

    /// A build with what its authors have in training besides, where the images leave place for it.
    fn trained_as(&self, build: Build) -> Build {
        let mut own = build.clone();
        for &(name, value) in self.space.published_training().map_or(&[][..], |training| training.options) {
            own.options.insert(name.to_owned(), value.into());
        }
        if self.space.check_build(&own).is_ok() { own } else { build }
    }

    /// So many evaluations, or all that the space has.
    fn at_most(&self, evaluations: usize) -> usize {
        let space: &dyn Space = self.space;
        let size = space.count_classes().or(space.count()).or(space.vectors()).map_or(usize::MAX, |size| size as usize);
        evaluations.min(size)
    }
}

/// What a method says of a search; the rest is the same for all.
struct Sizes {
    evaluations: usize,
    /// Names of its arms, its own first.
    arms: &'static [&'static str],
    strategy: StrategyConfig,
    evaluator: EvaluatorConfig,
    objectives: ObjectivesConfig,
    /// What is minimised besides.
    minimize: Vec<Quantity>,
    supernet: Option<Recipe>,
    finals: FinalsConfig,
    training: Recipe,
}

impl Method {
    /// The sizes of a preset.
    pub fn preset(self, situation: &Situation) -> SearchConfig {
        let published = situation.space.defaults(situation.preset.purpose(), situation.info);
        // Crops are in pixels of the images, whatever networks see of them.
        let side = published.image[0].min(situation.info.height);
        // What shares a supernet's weights may be smaller than what is published of it.
        let build = match (self, situation.preset) {
            (Method::Genas | Method::Random, Preset::Paper) => {
                situation.space.defaults(Purpose::Supernet, situation.info)
            }
            _ => published.clone(),
        };
        let mut sizes = match self {
            Method::Random | Method::Genas => genas::preset(self, situation, side),
            Method::Croze => croze::preset(situation, side),
            Method::Flatnas => flatnas::preset(situation, side),
        };
        let shares = matches!(sizes.evaluator, EvaluatorConfig::Shared(_));
        let one_size = |build: Build| if shares { situation.space.of_one_size(&build) } else { build };
        let (build, trained) = (one_size(build), one_size(situation.trained_as(published)));
        sizes.finals.build =
            (build != trained && situation.preset == Preset::Paper && self != Method::Flatnas).then_some(trained);
        if let Some(recipe) = sizes.supernet.as_mut().filter(|_| situation.space.is_elastic()) {
            // The largest and the smallest network and two between.
            (recipe.paths, recipe.sandwich) = (4, true);
        }
        SearchConfig {
            method: self,
            space: situation.space.name().to_owned(),
            data: situation.data.into(),
            reading: Reading::default(),
            seed: 1,
            compat: situation.compat,
            evaluations: situation.at_most(sizes.evaluations),
            time: 0.0,
            max_params: 0,
            max_macs: 0,
            max_latency: 0.0,
            minimize: sizes.minimize,
            arms: sizes.arms.iter().map(|arm| (*arm).to_owned()).collect(),
            build,
            strategy: sizes.strategy,
            evaluator: sizes.evaluator,
            objectives: sizes.objectives,
            supernet: sizes.supernet,
            supernet_keep_every: 0,
            supernet_file: None,
            warm_start: None,
            finals: sizes.finals,
            training: sizes.training,
        }
    }
}

/// The arms of a search: its own first, then those that it is held against, each with as many evaluations.
///
/// # Errors
/// If the configuration names an arm that the method does not have.
pub fn arms(config: &SearchConfig) -> Result<Vec<Arm>> {
    let Some((first, others)) = config.arms.split_first() else {
        return Err(Error::invalid("arms", "there is none; the first is the search itself"));
    };
    let shared = matches!(config.evaluator, EvaluatorConfig::Shared(_));
    let fitness = Fitness::of_arm(first).filter(|_| shared);
    if let Some(fitness) = fitness.filter(|fitness| !fitness.has(&config.objectives)) {
        let why = format!(
            "{first}, the first, is the search itself, which maximises {}; give it another name (--arms), or take --fitness {}",
            config.objectives.measures().join(" and "),
            fitness.name()
        );
        return Err(Error::invalid("arms", why));
    }
    // These names say what an arm does.
    let taken =
        ARMS.contains(&first.as_str()) || first == "kept" || Who::named(first).is_some() || first.starts_with("any-");
    if taken && fitness.is_none() && first != config.method.name() {
        return Err(Error::invalid(
            "arms",
            format!("{first}, the first, is the search itself; that name is another arm's"),
        ));
    }
    let is_plain = |name: &&String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !name.is_empty() && name.len() <= 80 && name.chars().all(plain)
    };
    if let Some(name) = config.arms.iter().find(|name| !is_plain(name)) {
        let why = format!("`{name}` is no name of up to 80 letters, digits, `-` and `_`");
        return Err(Error::invalid("arms", why));
    }
    let mut arms = vec![own(config, first)];
    for name in others {
        if arms.iter().any(|arm| arm.name == *name) {
            return Err(Error::invalid("arms", format!("{name} is there twice")));
        }
        arms.push(held_against(config, name)?.ok_or_else(|| no_arm(name, config))?);
    }
    Ok(arms)
}

/// Names of arms that a search is held against, besides those of a fitness.
const ARMS: [&str; 5] = ["random", "params", "accuracy", "random-by-accuracy", "baseline"];

/// The search itself, under a name.
fn own(config: &SearchConfig, name: &str) -> Arm {
    Arm {
        name: name.to_owned(),
        strategy: config.strategy,
        evaluator: config.evaluator.clone(),
        objectives: config.objectives.clone(),
    }
}

/// The arm of a name that the search is held against; none if this search can have no such arm.
fn held_against(config: &SearchConfig, name: &str) -> Result<Option<Arm>> {
    let own = own(config, name);
    let shared = matches!(config.evaluator, EvaluatorConfig::Shared(_));
    let trained = matches!(config.evaluator, EvaluatorConfig::Trained(_));
    let by = |measure: &str| ObjectivesConfig::Single { maximize: measure.to_owned() };
    let by_chance = || StrategyConfig::Random(beside(config));
    Ok(Some(match name {
        "random" => Arm { strategy: by_chance(), ..own },
        "params" => Arm { evaluator: EvaluatorConfig::Cost, objectives: by("params"), ..own },
        "accuracy" if shared || trained => Arm { objectives: by("accuracy"), ..own },
        // The same candidates as `random`, whose measures it shares.
        "random-by-accuracy" if shared || trained => Arm { strategy: by_chance(), objectives: by("accuracy"), ..own },
        "baseline" if trained => flatnas::baseline(own),
        name => match Fitness::of_arm(name).filter(|_| shared) {
            Some(fitness) => Arm { objectives: fitness.objectives(None)?, ..own },
            None => return Ok(None),
        },
    }))
}

/// For each arm the earlier one that evaluates the same candidates in the same way, if there is one: it measures nothing anew.
pub fn twins(arms: &[Arm]) -> Vec<Option<usize>> {
    let same = |a: &Arm, b: &Arm| a.strategy == b.strategy && a.evaluator == b.evaluator;
    let random = |arm: &Arm| matches!(arm.strategy, StrategyConfig::Random(_));
    let twin = |place: usize| arms[..place].iter().position(|other| random(other) && same(other, &arms[place]));
    (0..arms.len()).map(twin).collect()
}

/// Random candidates beside a search: its own sequence, or the sample with which NSGA-II begins and what follows.
fn beside(config: &SearchConfig) -> Random {
    let dedupe = config.strategy.dedupe();
    match &config.strategy {
        StrategyConfig::Surrogate(own) => {
            Random { batch: own.each(), dedupe, sequence: genas::BESIDE, shared: own.initial }
        }
        own => Random { batch: own.begins_with(), dedupe, sequence: genas::BESIDE, shared: 0 },
    }
}

fn no_arm(name: &str, config: &SearchConfig) -> Error {
    let names = ARMS.map(str::to_owned).into_iter().chain(Fitness::ALL.map(Fitness::arm));
    let has = |name: &String| matches!(held_against(config, name), Ok(Some(_)));
    let known: Vec<String> = distinct(names).into_iter().filter(has).collect();
    unknown(&format!("arm of --method {}", config.method), name, &known.iter().map(String::as_str).collect::<Vec<_>>())
}
