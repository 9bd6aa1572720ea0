//! Everything that decides what a search by FlatNAS does, as one value that is written into the run.

use serde::{Deserialize, Serialize};

use super::super::cohort::CohortOptions;
use super::super::config::{Preset, check_evaluations};
use super::super::evolution::Dedupe;
use super::super::objectives::check_alpha;
use super::super::surrogate::Kind;
use super::super::surrogate_search::SurrogateSettings;
use crate::error::{Error, Result};
use crate::nn::space::{Build, ImageInfo, Networks};
use crate::space::Space;
use crate::train::schedule::Schedule;
use crate::train::step::Optimizer;
use crate::train::trainer::Recipe;

/// A whole search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatnasConfig {
    /// Always `flatnas`.
    pub method: String,
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
    /// Share of the training images that trains candidates; the rest validates.
    pub train_share: f64,
    /// Generations after the initial sample. Each has `search.picks` candidates, or, without a surrogate, those of a
    /// population (`search.plain.population`).
    pub generations: u64,
    /// Candidates to evaluate, no more than all generations have; 0 for all of these.
    pub evaluations: usize,
    /// Seconds after which no further candidate is evaluated; 0 for no limit.
    pub time: f64,
    /// Weight of the error in the first objective, 0 to 1.
    pub alpha: f64,
    /// Most parameters; 0 for no limit.
    pub max_params: u64,
    /// Most multiply-adds; 0 for no limit.
    pub max_macs: u64,
    /// Whether multiply-adds are a third objective.
    pub minimize_macs: bool,
    /// Whether the baseline is searched: the same search, but with SGD and the error as the first objective. Otherwise it is
    /// the pick of the search's own candidates by their error.
    pub baseline: bool,
    /// Seeds of each network that is trained at the end.
    pub seeds: u64,
    /// Images that train these, the first of a shuffle; 0 for all.
    pub final_images: usize,
    /// Sizes of the search.
    pub search: SurrogateSettings,
    /// Training and measurement of candidates.
    pub candidates: CohortOptions,
    /// Training of a supernet whose weights candidates inherit, and the networks at the end too. With 0 epochs there is
    /// none, and they begin with fresh weights.
    pub supernet: Recipe,
    /// Training at the end.
    pub training: Recipe,
}

/// Shares of a run's work after which a part of it ends.
pub(super) struct Shares {
    pub(super) supernet: f64,
    pub(super) candidates: f64,
    pub(super) baseline: f64,
}

impl FlatnasConfig {
    /// The sizes of a preset in a space, for data of images of this kind.
    pub fn preset(preset: Preset, space: &dyn Networks, data: &str, info: &ImageInfo, compat: bool) -> Self {
        let quick = preset == Preset::Quick;
        let small = info.height.max(info.width) < 16;
        let build = space.defaults(preset.purpose(), info);
        let image = build.image;
        let batch = if quick { 32 } else { 128 };
        let optimizer = if quick { Optimizer::Sam } else { Optimizer::Asam };
        let (epochs, final_epochs) = match (quick, small) {
            (true, true) => (5, 10),
            (true, false) => (4, 8),
            (false, _) => (6, 200),
        };
        let recipe = |epochs: usize| Recipe {
            batch,
            nesterov: !compat,
            smoothing: if quick && !compat { 0.0 } else { 0.1 },
            schedule: if compat {
                Schedule::Constant
            } else {
                Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false }
            },
            ..Recipe::usual(optimizer, epochs, image[0])
        };
        let picks = if quick { 4 } else { 8 };
        let mut search = SurrogateSettings {
            initial: if quick { 16 } else { 100 },
            picks,
            surrogate: Kind::Adaptive,
            ..SurrogateSettings::default()
        };
        if quick {
            // Smaller than the initial sample, so that there is a selection from the beginning.
            search.plain.population = 8;
        }
        FlatnasConfig {
            method: "flatnas".into(),
            space: space.name().to_owned(),
            data: data.into(),
            seed: 1,
            compat,
            build,
            train_share: 0.8,
            generations: match (quick, small) {
                (true, true) => 2,
                (true, false) => 3,
                (false, _) => 30,
            },
            evaluations: 0,
            time: 0.0,
            alpha: 0.5,
            max_params: 0,
            max_macs: 0,
            // Many small networks have the same number of parameters: in NAS-Bench-201 one in twenty has the least.
            minimize_macs: quick,
            baseline: true,
            seeds: 1,
            final_images: if quick { 4_000 } else { 0 },
            search,
            candidates: CohortOptions {
                side_by_side: 8,
                training_images: if quick { 2_000 } else { 0 },
                images: if quick { 500 } else { 0 },
                batch: if quick { 50 } else { 100 },
                sigma: 0.05,
                draws: if quick { 8 } else { 20 },
                recalibration_batches: if quick { 10 } else { 20 },
                training: recipe(epochs),
            },
            // It learns on one path at a time, and so more slowly.
            supernet: Recipe { optimizer: Optimizer::Sgd, rho: 0.0, lr: 0.05, ..recipe(0) },
            training: recipe(final_epochs),
        }
    }

    /// Candidates of a generation after the first.
    fn each(&self) -> usize {
        let plain = &self.search.plain;
        match self.search.surrogate {
            Kind::None => plain.offspring.unwrap_or(plain.population),
            _ => self.search.picks,
        }
    }

    /// Candidates of all generations.
    fn most(&self) -> usize {
        let generations = usize::try_from(self.generations).unwrap_or(usize::MAX);
        self.search.initial.saturating_add(self.each().saturating_mul(generations))
    }

    /// Makes it a search of so many candidates, with more generations if it takes more.
    pub fn ask(&mut self, evaluations: usize) {
        self.evaluations = evaluations;
        let rest = evaluations.saturating_sub(self.search.initial);
        self.generations = self.generations.max(rest.div_ceil(self.each().max(1)) as u64);
    }

    /// Candidates that will be evaluated.
    pub fn planned(&self) -> usize {
        limited(self.most(), self.evaluations)
    }

    /// Whether there is a second search, for the baseline; one that would be the same as the first is not made.
    pub fn searches_baseline(&self) -> bool {
        let same = self.alpha == 1.0 && self.candidates.training.optimizer == Optimizer::Sgd;
        self.baseline && !same
    }

    /// Shares of the work, with a training step as the unit.
    pub(super) fn shares(&self) -> Shares {
        // Two passes of sharpness-aware minimisation against one.
        let cost = |recipe: &Recipe| recipe.epochs as f64 * if recipe.optimizer == Optimizer::Sgd { 1.0 } else { 2.0 };
        let images = |most: usize| if most == 0 { 10_000.0 } else { most as f64 };
        let plain = |recipe: &Recipe| recipe.epochs as f64;
        let candidates = self.planned() as f64 * images(self.candidates.training_images);
        let finals = self.seeds as f64 * images(self.final_images);
        let baseline = if self.searches_baseline() { candidates * plain(&self.candidates.training) } else { 0.0 };
        let parts = [
            cost(&self.supernet) * images(0),
            candidates * cost(&self.candidates.training),
            baseline,
            // Tests on corrupted images take about as long as a few epochs.
            finals * (2.0 * cost(&self.training) + plain(&self.training) + 4.0),
        ];
        let all: f64 = parts.iter().sum();
        let until = |n: usize| parts[..n].iter().sum::<f64>() / all;
        Shares { supernet: until(1), candidates: until(2), baseline: until(3) }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, space: &dyn Space, images: usize) -> Result<()> {
        if self.method != "flatnas" {
            return Err(Error::invalid("method", format!("is {}, expected flatnas", self.method)));
        }
        check_alpha(self.alpha)?;
        if !(0.05..=0.95).contains(&self.train_share) {
            return Err(Error::invalid("train_share", format!("{} is outside 0.05 to 0.95", self.train_share)));
        }
        if !self.time.is_finite() || self.time < 0.0 {
            return Err(Error::invalid("--time", "must be positive"));
        }
        if self.seeds == 0 || self.seeds > 1_000 {
            return Err(Error::invalid("--seeds", format!("{}, expected 1 to 1000", self.seeds)));
        }
        if self.search.initial < 2 || self.search.picks == 0 {
            let why = format!(
                "{} and {}; a search begins with at least 2, and picks 1",
                self.search.initial, self.search.picks
            );
            return Err(Error::invalid("--initial and --picks", why));
        }
        let most = 1 << 20;
        if self.generations > most || self.search.picks as u64 > most || self.search.initial as u64 > most {
            return Err(Error::invalid(
                "--generations, --initial and --picks",
                format!("expected at most {most} each"),
            ));
        }
        self.search.plain.validate()?;
        self.search.inner.validate()?;
        // Isomorphic architectures count as one.
        check_evaluations(space, self.evaluations, self.most(), Dedupe::Canonical)?;
        self.candidates.validate()?;
        let share = (images as f64 * self.train_share) as usize;
        if self.supernet.epochs > 0 {
            self.supernet.validate_in("supernet", "--supernet-epochs", share)?;
        }
        let own = limited(share, self.candidates.training_images);
        self.candidates.training.validate_in("candidates.training", "--candidate-epochs", own)?;
        self.training.validate(limited(images, self.final_images))
    }
}

/// So many of `all`; 0 stands for all.
pub(crate) fn limited(all: usize, most: usize) -> usize {
    if most == 0 { all } else { all.min(most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::nas_bench_201::NasBench201;

    #[test]
    fn as_many_as_are_asked_for_or_a_reason() {
        let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
        let mut config = FlatnasConfig::preset(Preset::Quick, &NasBench201, "digits", &info, false);
        // 16, and 4 in each of 2 generations.
        assert_eq!(config.planned(), 24);
        for (surrogate, asked, generations) in
            [(Kind::Adaptive, 10, 2), (Kind::Adaptive, 24, 2), (Kind::Adaptive, 25, 3), (Kind::None, 200, 23)]
        {
            config.search.surrogate = surrogate;
            config.generations = 2;
            config.ask(asked);
            assert_eq!((config.planned(), config.generations), (asked, generations));
            config.validate(&NasBench201, 1_442).unwrap();
        }
        config.search.plain.offspring = Some(2);
        config.ask(200);
        assert_eq!(config.generations, 92);
        config.ask(7_000);
        assert!(config.validate(&NasBench201, 1_442).unwrap_err().to_string().contains("6466 differ"));
        config.evaluations = 201;
        config.generations = 1;
        assert!(config.validate(&NasBench201, 1_442).unwrap_err().to_string().contains("have 18"));
    }
}
