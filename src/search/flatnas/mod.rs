//! FlatNAS (Gambella et al. 2024): a search for accurate, flat and small networks. Candidates are trained and disturbed by
//! weight noise; surrogates and NSGA-II propose the next ones; the pick of the front is trained anew beside a baseline and
//! a control, and judged out of distribution. The baseline is what the same search finds with candidates trained by SGD
//! and the error as the first objective; the control is the baseline's network, trained as the chosen one is.
//!
//! The error `E` and the robustness `R`, in percent points, make the first objective `alpha E + (1 - alpha) alpha_norm R`;
//! parameters (and multiply-adds, if asked for) are the others. Before any comparison the whole archive is scored again
//! with one `alpha_norm`.
//!
//! A network that answers always the same is as robust to noise as can be. So one whose error cannot be told from that of a
//! constant answer counts as beyond a limit: it is on no front, its `R` is in no mean, and its first objective is its
//! error. (The released code, whose networks were trained before, has no such rule; nor has `--compat`.)
//!
//! Candidates begin from fresh weights, or inherit those of a supernet that the run trains first, as the paper's do.
//!
//! What is asked for in a generation depends on earlier generations alone, and what is measured of a candidate on nothing
//! else: a run that was killed goes on to the same result.

use super::archive::Archive;
use super::cohort::{Cohort, CohortOptions};
use super::finals::final_images;
use super::genes;
use super::objectives::constant_error;
use super::ood::{Contestant, Judged, Trial, table};
use super::pareto::Point;
use super::run::read_history;
use super::supernet::{self, SupernetJob};
use super::surrogate_search::SurrogateSearch;
use crate::data::{Dataset, SplitSize, split};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels;
use crate::nn::card::ModelCard;
use crate::nn::space::{Family, Supernet};
use crate::nn::tensors::{Named, to_bytes};
use crate::progress::Observer;
use crate::report::folder::RunFolder;
use crate::space::Arch;
use crate::train::feed::Resident;
use crate::train::step::Optimizer;
use crate::train::trainer::{Inheritance, Recipe, Setting};

use coded::Coded;
use config::limited;
use explore::Exploration;
use scores::Scores;

pub use coded::check_limits;
pub use config::FlatnasConfig;
pub use result::{Explored, FlatnasResult, Found, Step};

mod coded;
pub mod config;
mod explore;
pub mod result;
mod scores;

/// Runs a search, or goes on with one whose folder is there.
///
/// # Errors
/// What the device, the disk or the data have to say; [`Error::Cancelled`] if the observer asks to stop.
pub fn search(
    gpu: &Gpu,
    preset: kernels::Preset,
    space: &Family,
    data: &Dataset,
    config: &FlatnasConfig,
    folder: &mut RunFolder,
    observer: &mut Observer,
) -> Result<FlatnasResult> {
    config.validate(&**space, data.train.len())?;
    check_limits(space, config)?;
    let parts = SplitSize::Fractions(vec![config.train_share, 1.0 - config.train_share]);
    let parts = split(&data.train, &parts, config.seed)?;
    let [training, validation] = &parts[..] else {
        return Err(Error::invalid("train_share", "the data cannot be split"));
    };
    let statistics = data.train.channel_statistics();
    let resident = Resident::new(gpu, &data.train)?;
    let setting = Setting { gpu, preset, data: &resident, statistics: &statistics };
    let shares = config.shares();
    let supernet = if config.supernet.epochs > 0 {
        let (recipe, net) = (&config.supernet, space.needs_supernet()?);
        let job = SupernetJob { recipe, images: training, seed: config.seed, share: shares.supernet };
        let weights = supernet::train(&setting, space, &*net, &job, folder, observer)?.weights_wait(0)?;
        Some((net, weights))
    } else {
        None
    };
    let supernet = supernet.as_ref().map(|(net, weights)| (&**net, weights));

    let training = &training[..limited(training.len(), config.candidates.training_images)];
    // Released: R and E on images that trained.
    let judging = if config.compat { training } else { validation };
    let judging = &judging[..limited(judging.len(), config.candidates.images)];
    let labels: Vec<usize> = judging.iter().map(|&i| usize::from(data.train.labels[i])).collect();
    let constant = if config.compat { f64::INFINITY } else { constant_error(&labels) };
    if constant <= 0.0 {
        let why = format!(
            "{} validation images are too few to tell a network from one that always gives the same answer; take more              (candidates.images, a smaller train_share)",
            judging.len()
        );
        return Err(Error::invalid("validation", why));
    }
    let coded = Coded::new(space, config);
    let decode = |genes: &[u32]| genes::arch(&**space, genes);
    let features = |genes: &[u32]| decode(genes).map_or_else(|_| vec![], |arch| space.features(&arch));
    let width = 1 + usize::from(config.minimize_macs);
    let known =
        |genes: &[u32]| decode(genes).and_then(|arch| coded.known(&arch)).unwrap_or_else(|_| Point::failed(width));
    let searcher = SurrogateSearch::new(&coded, &features, &known, config.search, config.seed)?
        .with_device(Some((gpu.clone(), preset)));
    let plain = CohortOptions {
        training: Recipe { optimizer: Optimizer::Sgd, rho: 0.0, ..config.candidates.training.clone() },
        ..config.candidates.clone()
    };
    let (mut archive, mut others) = read_history(folder)?;
    let scores = |alpha| Scores { space, coded: &coded, alpha, constant };
    let explore = |baseline: bool, archive: &mut Archive, folder: &mut RunFolder, observer: &mut Observer| {
        // The search leaves the baseline a third of the time.
        let time = config.time * if config.searches_baseline() && !baseline { 2.0 / 3.0 } else { 1.0 };
        let exploration = Exploration {
            config,
            scores: scores(if baseline { 1.0 } else { config.alpha }),
            searcher: &searcher,
            cohort: Cohort {
                setting: setting.clone(),
                options: if baseline { &plain } else { &config.candidates },
                training,
                images: judging,
                seed: config.seed,
            },
            supernet,
            baseline,
            time,
        };
        let stage = if baseline { (shares.candidates, shares.baseline) } else { (shares.supernet, shares.candidates) };
        exploration.run(archive, folder, stage, observer)
    };
    let found = explore(false, &mut archive, folder, observer)?;
    let baseline = match config.searches_baseline() {
        true => Some(explore(true, &mut others, folder, observer)?),
        false => None,
    };
    let plain = match &baseline {
        Some(baseline) => baseline.best.clone(),
        None => scores(1.0).front(&archive)?.best,
    };

    let ending = Ending { setting: &setting, space, data, config, supernet };
    let (trained, weights, card) = ending.run(&found.best, &plain, shares.baseline, folder, observer)?;
    folder.write("best.safetensors", &to_bytes(&weights, card.metadata()?)?)?;
    let comparison = table("out of distribution: errors and R in percent points", &trained);
    folder.write("table.csv", &comparison.csv()?)?;
    folder.write("table.svg", comparison.svg().as_bytes())?;
    let result = FlatnasResult {
        method: config.method.clone(),
        space: config.space.clone(),
        dataset: data.name.clone(),
        seed: config.seed,
        device: format!("{} ({})", gpu.report().name, gpu.report().driver),
        // A clock that ends a search is the one thing that does not repeat.
        reproducible: config.time == 0.0,
        seconds: folder.seconds(),
        changes: folder.changes(),
        constant_error: constant.is_finite().then_some(constant),
        config: config.clone(),
        found,
        baseline,
        trained,
    };
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid("result.json", e.to_string()))?;
    folder.write("result.json", &json)?;
    Ok(result)
}

/// What the networks at the end are trained and judged on.
struct Ending<'a, 's> {
    setting: &'a Setting<'s>,
    space: &'a Family,
    data: &'a Dataset,
    config: &'a FlatnasConfig,
    supernet: Option<(&'a dyn Supernet, &'a Named)>,
}

impl Ending<'_, '_> {
    /// Trains and judges the chosen network, the baseline and the control; the weights and the card of the first.
    fn run(
        &self,
        best: &Found,
        plain: &Found,
        from: f64,
        folder: &RunFolder,
        observer: &mut Observer,
    ) -> Result<(Vec<Judged>, Named, ModelCard)> {
        let Ending { setting, space, data, config, supernet } = *self;
        let (best_arch, plain_arch) = (space.parse(&best.arch)?, space.parse(&plain.arch)?);
        let (best_network, plain_network) = (space.network(&best_arch)?, space.network(&plain_arch)?);
        let source = |own: &str, arch: &Arch| supernet.and_then(|(supernet, _)| supernet.source(own, arch));
        let best_name = |own: &str| source(own, &best_arch);
        let plain_name = |own: &str| source(own, &plain_arch);
        let contestant = |role: &str, found: &Found, model, name, optimizer| Contestant {
            role: role.into(),
            arch: found.arch.clone(),
            model,
            params: found.params,
            macs: found.macs,
            optimizer,
            inherit: supernet.map(|(_, from)| Inheritance { from, name }),
        };
        let contestants = [
            contestant("chosen", best, &*best_network, &best_name, config.training.optimizer),
            contestant("baseline", plain, &*plain_network, &plain_name, Optimizer::Sgd),
            contestant("control", plain, &*plain_network, &plain_name, config.training.optimizer),
        ];
        let images = final_images(data.train.len(), Some(limited(data.train.len(), config.final_images)), config.seed)?;
        let trial = Trial {
            setting: setting.clone(),
            data,
            recipe: &config.training,
            training: &images,
            noise: &config.candidates,
            seeds: &(0..config.seeds).map(|i| config.seed.wrapping_add(i)).collect::<Vec<_>>(),
            rho: config.training.rho,
        };
        let (trained, weights) = trial.run(&contestants, folder, (from, 1.0), observer)?;
        let card = ModelCard::of(space, &best_arch, &data.train.class_names, setting.statistics);
        Ok((trained, weights, card))
    }
}
