//! Everything that decides what a search does, as one value that is written into the run.

use serde::{Deserialize, Serialize};

use super::evolution::{Dedupe, EvolutionProtocol, EvolutionSettings};
use crate::error::{Error, Result};
use crate::measure::flatness::FlatnessProtocol;
use crate::measure::forward::Averaging;
use crate::nn::space::{Build, ImageInfo, Networks, Purpose};
use crate::space::Space;
use crate::train::schedule::Schedule;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// How candidates are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Distinct random architectures.
    Random,
    /// Evolution by flatness (Jeong et al. 2023).
    Genas,
}

impl std::str::FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "random" => Ok(Method::Random),
            "genas" => Ok(Method::Genas),
            _ => Err(crate::error::unknown("--method", text, &["random", "genas", "croze", "flatnas"])),
        }
    }
}

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

/// How a candidate inherits from the supernet and what is measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Batches that set a candidate's batch-norm statistics.
    pub recalibration_batches: usize,
    /// How these batches are weighed.
    pub averaging: Averaging,
    /// Validation images, the first of the validation part; 0 for all.
    pub images: usize,
    /// Images per batch.
    pub batch: usize,
    /// The flatness measure, which is the fitness.
    pub flatness: FlatnessProtocol,
}

/// A whole search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// How candidates are proposed.
    pub method: Method,
    /// Name of the space.
    pub space: String,
    /// The data set, as given to `--data`.
    pub data: String,
    /// Seed of everything.
    #[serde(with = "crate::philox::seed_text")]
    pub seed: u64,
    /// Whether the released code's behaviour was asked for.
    pub compat: bool,
    /// How networks are built.
    pub build: Build,
    /// Share of the training images that trains; the rest validates.
    pub train_share: f64,
    /// Candidates to evaluate, no more than all generations have; 0 for all of these.
    pub evaluations: usize,
    /// Seconds after which no further candidate is evaluated; 0 for no limit.
    pub time: f64,
    /// Whether as many random architectures are evaluated beside the search, as a baseline.
    pub baseline: bool,
    /// Training of the supernet.
    pub supernet: Recipe,
    /// What is measured on a candidate.
    pub evaluation: Evaluation,
    /// Sizes of the evolution.
    pub evolution: EvolutionSettings,
    /// How the evolution behaves.
    pub protocol: EvolutionProtocol,
    /// Training of the network that was found.
    pub training: Recipe,
}

impl SearchConfig {
    /// The sizes of a preset in a space, for data of so many images of this kind.
    pub fn preset(
        method: Method,
        preset: Preset,
        space: &dyn Networks,
        data: &str,
        (images, info): (usize, &ImageInfo),
        compat: bool,
    ) -> Self {
        let small = info.height.max(info.width) < 16;
        let quick = preset == Preset::Quick;
        let build = space.defaults(preset.purpose(), info);
        let image = build.image;
        let batch = if quick && images < 4_000 { 32 } else { 64 };
        let (supernet_epochs, training_epochs) = match (quick, small) {
            (true, true) => (22, 16),
            (true, false) => (15, 8),
            (false, _) => (250, 200),
        };
        let supernet = Recipe {
            epochs: supernet_epochs,
            batch,
            lr: if quick { 0.05 } else { 0.025 },
            schedule: Schedule::Cosine { minimum: 0.001, per_epoch_ahead: compat },
            nesterov: !compat,
            weight_decay: 3e-4,
            touch_all: compat,
            ..Recipe::usual(Optimizer::Sgd, supernet_epochs, image[0])
        };
        let training = Recipe { batch, ..Recipe::usual(Optimizer::Sam, training_epochs, image[0]) };
        let evolution = match (quick, method) {
            (true, _) => EvolutionSettings {
                population: 10,
                generations: 5,
                parents: 5,
                mutations: 5,
                crossovers: 5,
                mutation_probability: 0.1,
            },
            (false, _) => EvolutionSettings::default(),
        };
        SearchConfig {
            method,
            space: space.name().to_owned(),
            data: data.into(),
            seed: 1,
            compat,
            build,
            train_share: if quick { 0.75 } else { 0.5 },
            evaluations: 0,
            time: 0.0,
            baseline: true,
            supernet,
            evaluation: Evaluation {
                recalibration_batches: if quick && !compat { 6 } else { 14 },
                averaging: if compat { Averaging::Moving } else { Averaging::Exact },
                images: if quick { 500 } else { 0 },
                batch,
                flatness: if compat { FlatnessProtocol::released() } else { FlatnessProtocol::sound() },
            },
            evolution,
            protocol: if compat { EvolutionProtocol::released() } else { EvolutionProtocol::sound() },
            training,
        }
    }

    /// Makes it a search of so many candidates, with more generations if it takes more.
    pub fn ask(&mut self, evaluations: usize) {
        self.evaluations = evaluations;
        let needed = evaluations.div_ceil(self.evolution.population.max(1)) as u64;
        self.evolution.generations = self.evolution.generations.max(needed);
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, space: &dyn Space, images: usize) -> Result<()> {
        if !(0.05..=0.95).contains(&self.train_share) {
            return Err(Error::invalid("train_share", format!("{} is outside 0.05 to 0.95", self.train_share)));
        }
        if self.evaluation.recalibration_batches == 0 || self.evaluation.batch < 2 {
            return Err(Error::invalid("evaluation", "needs at least one recalibration batch of two images"));
        }
        if !self.time.is_finite() || self.time < 0.0 {
            return Err(Error::invalid("--time", "must be positive"));
        }
        let training = (images as f64 * self.train_share) as usize;
        if self.evaluation.batch > training {
            let why = format!("{} is more than the {training} images that train", self.evaluation.batch);
            return Err(Error::invalid("evaluation.batch", why));
        }
        self.evaluation.flatness.validate()?;
        self.evolution.validate()?;
        check_evaluations(space, self.evaluations, self.most(), self.protocol.dedupe)?;
        self.supernet.validate_in("supernet", "--supernet-epochs", training)?;
        self.training.validate(images)
    }

    /// Whether random architectures are evaluated beside; beside a search at random they would be more of the same.
    pub fn searches_baseline(&self) -> bool {
        self.baseline && self.method != Method::Random
    }

    /// Candidates of all generations.
    fn most(&self) -> usize {
        let generations = usize::try_from(self.evolution.generations).unwrap_or(usize::MAX);
        self.evolution.population.saturating_mul(generations)
    }

    /// Candidates that will be evaluated by the method.
    pub fn candidates(&self) -> usize {
        if self.evaluations == 0 { self.most() } else { self.evaluations.min(self.most()) }
    }
}

/// Fails if more candidates are asked for than the generations or the space have.
pub(super) fn check_evaluations(space: &dyn Space, asked: usize, of_generations: usize, dedupe: Dedupe) -> Result<()> {
    let vectors = space.vectors().unwrap_or(u64::MAX);
    let classes = match dedupe {
        Dedupe::Exact => None,
        Dedupe::Canonical => space.count_classes(),
    };
    let why = if asked as u64 > classes.unwrap_or(vectors) {
        let different = classes.map_or(String::new(), |classes| format!(", of which {classes} differ"));
        format!("{asked} candidates; the space has {vectors} architectures{different}")
    } else if asked > of_generations {
        format!("{asked} candidates, but the generations have {of_generations}; take more generations")
    } else {
        return Ok(());
    };
    Err(Error::invalid("--evaluations", why))
}

/// Fails if a search without a limit of `time` ended with fewer candidates than were asked for.
pub(super) fn check_reached(asked: usize, found: usize, time: f64) -> Result<()> {
    if found >= asked || time > 0.0 {
        return Ok(());
    }
    let why =
        format!("{asked} candidates; after {found} no new one was found in many draws, so take no more than these");
    Err(Error::invalid("--evaluations", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::nas_bench_201::NasBench201;

    #[test]
    fn as_many_as_are_asked_for_or_a_reason() {
        let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
        let space = NasBench201;
        let images = (1_442, &info);
        let new = |compat| SearchConfig::preset(Method::Random, Preset::Quick, &space, "digits", images, compat);
        let mut config = new(false);
        for (asked, generations) in [(7, 5), (50, 5), (60, 6), (61, 7), (6_466, 647)] {
            config.evolution.generations = 5;
            config.ask(asked);
            assert_eq!((config.candidates(), config.evolution.generations), (asked, generations));
            config.validate(&space, 1_442).unwrap();
        }
        config.ask(6_467);
        let why = config.validate(&space, 1_442).unwrap_err().to_string();
        assert!(why.contains("--evaluations: 6467") && why.contains("15625") && why.contains("6466 differ"), "{why}");
        let mut released = new(true);
        released.ask(15_625);
        released.validate(&space, 1_442).unwrap();
        released.ask(15_626);
        assert!(released.validate(&space, 1_442).is_err());
        // A file may say what does not go together.
        config.evaluations = 60;
        config.evolution.generations = 5;
        let why = config.validate(&space, 1_442).unwrap_err().to_string();
        assert!(why.contains("60") && why.contains("have 50"), "{why}");
        config.evaluations = 0;
        assert_eq!(config.candidates(), 50);
        config.evolution.generations = u64::MAX;
        assert_eq!(config.candidates(), usize::MAX);
    }

    #[test]
    fn fewer_are_a_failure_but_for_the_clock() {
        assert!(check_reached(60, 60, 0.0).is_ok() && check_reached(0, 3, 0.0).is_ok());
        assert!(check_reached(60, 3, 9.0).is_ok());
        assert!(check_reached(60, 59, 0.0).unwrap_err().to_string().contains("after 59"));
    }
}
