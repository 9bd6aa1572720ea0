//! FlatNAS (Gambella et al. 2024): a search for accurate, flat and small networks. Candidates are trained and disturbed by
//! weight noise; surrogates and NSGA-II propose the next ones; the pick of the front is trained anew beside a baseline and
//! a control, and judged out of distribution.
//!
//! The error `E` and the robustness `R`, in percent points, make the first objective `alpha E + (1 - alpha) alpha_norm R`;
//! parameters (and multiply-adds, if asked for) are the others. Before any comparison the whole archive is scored again
//! with one `alpha_norm`.
//!
//! A network that answers always the same is as robust to noise as can be. So one whose error cannot be told from that of a
//! constant answer counts as beyond a limit: it is on no front, its `R` is in no mean, and its first objective is its
//! error. (The released code, whose networks were trained before, has no such rule; nor has `--compat`.)
//!
//! What is asked for in a generation depends on earlier generations alone, and what is measured of a candidate on nothing
//! else: a run that was killed goes on to the same result.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::archive::{Archive, Entry};
use super::cohort::{Cohort, Measured};
use super::genes::Genotypes;
use super::hypervolume::{normalised, reference_point};
use super::nsga2::Individual;
use super::objectives::{RELEASED_PENALTY, constant_error, first, penalised, rescored, violation};
use super::ood::{Contestant, Trial, table};
use super::pareto::{Point, front};
use super::run::read_history;
use super::surrogate_search::SurrogateSearch;
use super::trade_off::{Pick, high_trade_off};
use crate::data::{Dataset, SplitSize, split};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels;
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::space::NetworkSpace;
use crate::nn::tensors::to_bytes;
use crate::philox::Stream;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::RunFolder;
use crate::space::{Draw, Space};
use crate::train::feed::Resident;
use crate::train::step::Optimizer;
use crate::train::trainer::Setting;

use config::limited;

pub use config::FlatnasConfig;
pub use result::{FlatnasResult, Found, Step};

pub mod config;
pub mod result;

/// How often a random candidate is drawn anew when it is beyond a limit, before one beyond it is taken.
const TRIES: usize = 1_000;

/// Genotypes of a space within limits.
struct Coded<'a, S: Space> {
    space: &'a S,
    options: Vec<u32>,
    config: &'a FlatnasConfig,
}

impl<S: Space> Coded<'_, S> {
    fn violation(&self, arch: &S::Arch) -> f64 {
        let limit = |most: u64| (most > 0).then_some(most as f64);
        violation(self.space.params(arch) as f64, limit(self.config.max_params))
            + violation(self.space.macs(arch) as f64, limit(self.config.max_macs))
    }

    /// Objectives that need no evaluation.
    fn known(&self, arch: &S::Arch) -> Point {
        let (params, macs) = (self.space.params(arch) as f64, self.space.macs(arch) as f64);
        let limit = self.config.max_params as f64 / 1e6;
        let mut point = match self.config.compat && self.config.max_params > 0 {
            // Hundredths of millions, and a penalty in place of a constraint, as released.
            true => Point::feasible([penalised((params / 1e4).round() / 1e2, limit, RELEASED_PENALTY)]),
            false => Point { objectives: vec![params], violation: self.violation(arch) },
        };
        point.objectives.extend(self.config.minimize_macs.then_some(macs));
        point
    }
}

impl<S: Space> Genotypes for Coded<'_, S> {
    fn options(&self) -> &[u32] {
        &self.options
    }

    fn key(&self, genes: &[u32]) -> String {
        self.space.decode(genes).map_or_else(|_| format!("{genes:?}"), |arch| self.space.canonical(&arch))
    }

    fn sample(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let mut arch = self.space.sample(draw);
        for _ in 0..TRIES {
            if self.violation(&arch) <= 0.0 {
                break;
            }
            arch = self.space.sample(draw);
        }
        self.space.encode(&arch)
    }
}

/// What a search must remember besides its history.
#[derive(Default, Serialize, Deserialize)]
struct State {
    seconds: f64,
}

/// A search under way.
struct Search<'a, S: NetworkSpace> {
    space: &'a S,
    config: &'a FlatnasConfig,
    coded: Coded<'a, S>,
    /// Error in percent points from which on a network has learned nothing.
    constant: f64,
}

impl<S: NetworkSpace> Search<'_, S> {
    fn learned_nothing(&self, error: f64) -> bool {
        error >= self.constant
    }

    /// `alpha_norm` over the entries that learned something.
    fn norm(&self, alpha: f64, entries: &[&Entry]) -> Result<f64> {
        let learned = entries.iter().filter(|e| !self.learned_nothing(e.measure("error")));
        let (errors, robustness): (Vec<f64>, Vec<f64>) =
            learned.map(|e| (e.measure("error"), e.measure("robustness"))).unzip();
        Ok(rescored(alpha, &errors, &robustness)?.0)
    }

    /// All objectives of a candidate, the first one under `norm`.
    fn point(&self, entry: &Entry, alpha: f64, norm: f64) -> Result<Point> {
        let mut point = self.coded.known(&self.space.parse(&entry.arch)?);
        let (error, robustness) = (entry.measure("error"), entry.measure("robustness"));
        if self.learned_nothing(error) {
            point.violation += 1.0;
        }
        point.objectives.insert(0, self.value(alpha, norm, error, robustness));
        Ok(point)
    }

    /// The first objective.
    fn value(&self, alpha: f64, norm: f64, error: f64, robustness: f64) -> f64 {
        if self.learned_nothing(error) { error } else { first(alpha, norm, error, robustness) }
    }

    /// The archive with the first objective under the `alpha_norm` of the generations before `generation`.
    fn individuals(&self, archive: &Archive, generation: u64) -> Result<Vec<Individual>> {
        let earlier: Vec<&Entry> = archive.entries().iter().filter(|e| e.generation < generation).collect();
        let norm = self.norm(self.config.alpha, &earlier)?;
        let individual = |entry: &Entry| {
            let genes = self.space.encode(&self.space.parse(&entry.arch)?);
            let point = self.point(entry, self.config.alpha, norm)?;
            Ok(Individual { generation: entry.generation, genes, point })
        };
        archive.entries().iter().map(individual).collect()
    }

    /// The front under some weight of the error, and the pick of it as a place in the front.
    fn front(&self, archive: &Archive, alpha: f64) -> Result<(f64, Vec<Found>, usize)> {
        let entries: Vec<&Entry> = archive.entries().iter().collect();
        let norm = self.norm(alpha, &entries)?;
        let points = entries.iter().map(|entry| self.point(entry, alpha, norm)).collect::<Result<Vec<_>>>()?;
        let mut places: Vec<usize> = front(&points).into_iter().filter(|&i| points[i].is_feasible()).collect();
        places.sort_by_key(|&i| entries[i].params);
        let rows: Vec<&[f64]> = places.iter().map(|&i| points[i].objectives.as_slice()).collect();
        let pick = high_trade_off(&rows, Pick::Largest(1), true).last().copied();
        let found = |&i: &usize| Found {
            arch: entries[i].arch.clone(),
            params: entries[i].params,
            macs: entries[i].macs,
            error: entries[i].measure("error"),
            robustness: entries[i].measure("robustness"),
            f1: points[i].objectives[0],
        };
        match pick {
            Some(pick) => Ok((norm, places.iter().map(found).collect(), pick)),
            None => {
                let count = |which: &dyn Fn(f64) -> bool| entries.iter().filter(|e| which(e.measure("error"))).count();
                let failed = count(&|error| error.is_nan());
                let nothing = count(&|error| self.learned_nothing(error));
                let why = format!(
                    "none of {} candidates can be chosen: {failed} could not be trained, {nothing} learned nothing (an error \
                     of {:.1} % or more is that of a constant answer), {} are beyond the limits; train them for longer \
                     (--candidate-epochs, --lr) or widen the limits",
                    entries.len(),
                    self.constant,
                    entries.len() - failed - nothing
                );
                Err(Error::invalid("search", why))
            }
        }
    }

    /// The hypervolume of the front of the first so many candidates, by their final scores.
    fn hypervolume(&self, archive: &Archive, counts: &[usize]) -> Result<Vec<Option<f64>>> {
        let last = u64::MAX;
        let points = self.individuals(archive, last)?;
        let row = |i: &Individual| (i.point.violation <= 0.0).then(|| i.point.objectives.clone());
        let initial: Vec<Vec<f64>> = points.iter().filter(|i| i.generation == 0).filter_map(row).collect();
        let Ok(reference) = reference_point(&initial) else { return Ok(vec![None; counts.len()]) };
        let share = |&count: &usize| {
            let rows: Vec<Vec<f64>> = points.iter().take(count).filter_map(row).collect();
            normalised(&rows, &reference).ok()
        };
        Ok(counts.iter().map(share).collect())
    }

    fn entry(&self, arch: &S::Arch, generation: u64, norm: f64, measured: &Measured) -> Entry {
        let round = |v: f64| if self.config.compat { (100.0 * v).round() / 100.0 } else { v };
        let robustness = round(measured.robustness);
        let f1 = self.value(self.config.alpha, norm, measured.error, robustness);
        Entry {
            arch: arch.to_string(),
            generation,
            // Larger is better there.
            fitness: -f1,
            params: self.space.params(arch),
            macs: self.space.macs(arch),
            measures: BTreeMap::from([
                ("error".to_owned(), measured.error),
                ("robustness".to_owned(), robustness),
                ("alpha_norm".to_owned(), norm),
                ("loss".to_owned(), measured.clean.loss),
                ("training_loss".to_owned(), measured.training.loss),
                ("training_accuracy".to_owned(), measured.training.accuracy),
            ]),
        }
    }
}

/// Checks the limits against the smallest network of the space.
fn check_limits<S: Space>(space: &S, config: &FlatnasConfig) -> Result<()> {
    let smallest = space.smallest();
    for (what, most, least) in [
        ("--max-params", config.max_params, space.params(&smallest)),
        ("--max-macs", config.max_macs, space.macs(&smallest)),
    ] {
        if most > 0 && most < least {
            return Err(Error::invalid(what, format!("is {most}; the smallest network has {least}")));
        }
    }
    Ok(())
}

/// Runs a search, or goes on with one whose folder is there.
///
/// # Errors
/// What the device, the disk or the data have to say; [`Error::Cancelled`] if the observer asks to stop.
pub fn search<S: NetworkSpace>(
    gpu: &Gpu,
    preset: kernels::Preset,
    space: &S,
    data: &Dataset,
    config: &FlatnasConfig,
    folder: &mut RunFolder,
    observer: &mut Observer,
) -> Result<FlatnasResult> {
    let start = Instant::now();
    config.validate(data.train.len())?;
    check_limits(space, config)?;
    let state: State = match folder.read_checkpoint("flatnas")? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(folder.path().join("checkpoint"), None, format!("search state: {e}")))?,
        None => State::default(),
    };
    let shares = SplitSize::Fractions(vec![config.train_share, 1.0 - config.train_share]);
    let parts = split(&data.train, &shares, config.seed)?;
    let [training, validation] = &parts[..] else {
        return Err(Error::invalid("train_share", "the data cannot be split"));
    };
    let training = &training[..limited(training.len(), config.candidates.training_images)];
    // Released: R and E on images that trained.
    let judging = if config.compat { training } else { validation };
    let statistics = data.train.channel_statistics();
    let resident = Resident::new(gpu, &data.train)?;
    let setting = Setting { gpu, preset, data: &resident, statistics: &statistics };
    let cohort = Cohort {
        setting: setting.clone(),
        options: &config.candidates,
        training,
        images: &judging[..limited(judging.len(), config.candidates.images)],
        seed: config.seed,
    };
    let labels: Vec<usize> = cohort.images.iter().map(|&i| usize::from(data.train.labels[i])).collect();
    let constant = if config.compat { f64::INFINITY } else { constant_error(&labels) };
    let run = Search { space, config, coded: Coded { space, options: space.options(), config }, constant };
    let decode = |genes: &[u32]| space.decode(genes);
    let features = |genes: &[u32]| decode(genes).map_or_else(|_| vec![], |arch| space.features(&arch));
    let width = 1 + usize::from(config.minimize_macs);
    let known = |genes: &[u32]| decode(genes).map_or_else(|_| Point::failed(width), |arch| run.coded.known(&arch));
    let searcher = SurrogateSearch::new(&run.coded, &features, &known, config.search, config.seed)?
        .with_device(Some((gpu.clone(), preset)));

    let (mut archive, _) = read_history(folder)?;
    let limit = config.planned();
    let stage = Event::Stage { name: "training candidates", units: limit as u64, from: 0.0, to: 0.6 };
    tell(observer, stage)?;
    let is_late = || config.time > 0.0 && state.seconds + start.elapsed().as_secs_f64() > config.time;
    let mut steps: Vec<Step> = vec![];
    let mut counts = vec![];
    for generation in 0..=config.generations {
        let before = archive.entries().iter().filter(|e| e.generation < generation).count();
        if before >= limit || is_late() {
            break;
        }
        let proposal = searcher.ask(&run.individuals(&archive, generation)?, generation)?;
        proposal.notes.iter().for_each(|note| log::warn!("generation {generation}: {note}"));
        let earlier: Vec<&Entry> = archive.entries().iter().filter(|e| e.generation < generation).collect();
        let norm = run.norm(config.alpha, &earlier)?;
        let mut asked = proposal.genes.iter().map(|genes| space.decode(genes)).collect::<Result<Vec<_>>>()?;
        asked.truncate(limit.saturating_sub(archive.len()));
        for some in asked.chunks(config.candidates.side_by_side) {
            if is_late() {
                break;
            }
            let networks: Vec<Box<dyn Model>> = some.iter().map(|arch| space.network(arch)).collect();
            let models: Vec<&dyn Model> = networks.iter().map(|network| &**network).collect();
            let done = archive.len() as f64;
            let measured = cohort.measure_wait(&models, &mut |share| {
                let done = (done + share * some.len() as f64) as u64;
                tell(observer, Event::Advance { done, note: format!("generation {generation}") })
            })?;
            for (arch, measured) in some.iter().zip(&measured) {
                let entry = run.entry(arch, generation, norm, measured);
                let line = serde_json::to_string(&entry).map_err(|e| Error::invalid("history", e.to_string()))?;
                folder.append_history(&line)?;
                archive.insert(entry)?;
            }
            save(folder, state.seconds + start.elapsed().as_secs_f64())?;
            let best = archive.best().map(|e| format!("error {:.1} %", e.measure("error")));
            tell(observer, Event::Advance { done: archive.len() as u64, note: best.unwrap_or_default() })?;
        }
        counts.push(archive.entries().iter().filter(|e| e.generation <= generation).count());
        let evaluated = counts.last().copied().unwrap_or(0);
        let (surrogate, notes) = (proposal.surrogate, proposal.notes);
        steps.push(Step { generation, surrogate, notes, evaluated, hypervolume: None });
    }
    for (step, share) in steps.iter_mut().zip(run.hypervolume(&archive, &counts)?) {
        step.hypervolume = share;
    }

    let (norm, found, pick) = run.front(&archive, config.alpha)?;
    let (_, by_error, plain) = run.front(&archive, 1.0)?;
    let (best, baseline) = (&found[pick], &by_error[plain]);
    let networks = [&best.arch, &baseline.arch].map(|arch| space.parse(arch).map(|arch| space.network(&arch)));
    let [chosen_network, baseline_network] = networks;
    let (chosen_network, baseline_network) = (chosen_network?, baseline_network?);
    let contestant = |role: &str, found: &Found, model, optimizer| Contestant {
        role: role.into(),
        arch: found.arch.clone(),
        model,
        params: found.params,
        macs: found.macs,
        optimizer,
    };
    let contestants = [
        contestant("chosen", best, &*chosen_network, config.training.optimizer),
        contestant("baseline", baseline, &*baseline_network, Optimizer::Sgd),
        contestant("control", baseline, &*baseline_network, config.training.optimizer),
    ];
    let mut all: Vec<usize> = (0..data.train.len()).collect();
    Stream::new(config.seed, FINAL_PURPOSE, 0).shuffle(&mut all);
    let trial = Trial {
        setting: setting.clone(),
        data,
        recipe: &config.training,
        training: &all[..limited(all.len(), config.final_images)],
        noise: &config.candidates,
        seeds: &(0..config.seeds).map(|i| config.seed.wrapping_add(i)).collect::<Vec<_>>(),
        rho: config.training.rho,
    };
    let (trained, weights) = trial.run(&contestants, folder, (0.6, 1.0), observer)?;
    let [height, width, in_channels] = chosen_network.input();
    let card = ModelCard {
        space: config.space.clone(),
        arch: best.arch.clone(),
        sizes: [config.channels, config.cells, in_channels, height, width, chosen_network.classes()],
        classes: data.train.class_names.clone(),
    };
    folder.write("best.safetensors", &to_bytes(&weights, card.metadata(&statistics))?)?;
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
        seconds: state.seconds + start.elapsed().as_secs_f64(),
        evaluated: archive.len(),
        failed: archive.entries().iter().filter(|e| e.measure("error").is_nan()).count(),
        learned_nothing: archive.entries().iter().filter(|e| run.learned_nothing(e.measure("error"))).count(),
        constant_error: constant.is_finite().then_some(constant),
        alpha_norm: norm,
        steps,
        best: best.clone(),
        front: found.clone(),
        trained,
    };
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid("result.json", e.to_string()))?;
    folder.write("result.json", &json)?;
    Ok(result)
}

/// Purpose word of the shuffle that picks the images of the last training.
const FINAL_PURPOSE: u32 = 0x4649_4E41;

fn save(folder: &RunFolder, seconds: f64) -> Result<()> {
    let bytes = serde_json::to_vec(&State { seconds }).map_err(|e| Error::invalid("search state", e.to_string()))?;
    folder.checkpoint("flatnas", &bytes)
}
