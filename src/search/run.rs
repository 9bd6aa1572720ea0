//! A search from end to end: supernet, candidates, baselines, the final network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::{Archive, Entry};
use super::candidates::{Evaluator, Parent};
use super::config::{Method, SearchConfig, check_reached};
use super::evolution::Evolution;
use super::finals::{Final, Job, final_images, train_and_test};
use super::random;
use super::supernet::{self, SupernetJob};
use crate::data::{Dataset, SplitSize, split};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::Role;
use crate::kernels::Preset;
use crate::nn::card::ModelCard;
use crate::nn::count::Cost;
use crate::nn::space::{Family, Supernet};
use crate::philox::Stream;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::RunFolder;
use crate::report::statistics::spearman;
use crate::space::{Arch, Draw};
use crate::train::feed::Resident;
use crate::train::trainer::Setting;

/// Purpose word of the search's random numbers.
const PROPOSE_PURPOSE: u32 = 0x5052_4F50;
/// Generation numbers that key the random numbers of the baseline's candidates lie above all of the search's.
const BASELINE_STREAM: u64 = 1 << 40;

/// What a search by flatness or at random found; written as `result.json`.
#[derive(Debug, Serialize)]
pub struct SearchResult {
    /// `random` or `genas`.
    pub method: Method,
    /// Name of the space.
    pub space: String,
    /// Name of the data set.
    pub dataset: String,
    /// Seed of everything.
    pub seed: u64,
    /// Whether the released code's behaviour was asked for.
    pub compat: bool,
    /// Adapter and driver.
    pub device: String,
    /// Whether the same seed gives the same bits on this adapter.
    pub reproducible: bool,
    /// Seconds since the start, those before an interruption included.
    pub seconds: f64,
    /// What differed when the run was gone on with, such as the driver; then it may have ended with other bits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Candidates that the method evaluated.
    pub evaluated: usize,
    /// Deviations of the weight noise.
    pub sigmas: Vec<f64>,
    /// The best candidate.
    pub best: Best,
    /// Candidates that none beats in both fitness and parameters.
    pub front: Vec<Entry>,
    /// What to hold the result against.
    pub baselines: Baselines,
    /// How far flatness is more than loss.
    pub correlations: Correlations,
    /// The trained network.
    #[serde(rename = "final")]
    pub trained: Final,
}

/// An architecture with its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Best {
    /// Its name.
    pub arch: String,
    /// Parameters of the network.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// The search's fitness.
    pub fitness: f64,
    /// Everything measured on it.
    pub measures: BTreeMap<String, f64>,
}

/// What the best is held against.
#[derive(Debug, Serialize)]
pub struct Baselines {
    /// Best of as many random architectures, by the same fitness.
    pub best_of_random: Option<Best>,
    /// The candidate with the most parameters.
    pub most_params: Option<Best>,
}

/// Spearman rank correlations over all candidates.
#[derive(Debug, Serialize)]
pub struct Correlations {
    /// Of the fitness with the loss without noise.
    pub fitness_loss: Option<f64>,
    /// Of the slope alone with the loss without noise.
    pub slope_loss: Option<f64>,
    /// Of the fitness with parameters.
    pub fitness_params: Option<f64>,
    /// Candidates that they are taken over.
    pub n: usize,
}

/// What a search must remember besides its history.
#[derive(Default, Serialize, Deserialize)]
struct State {
    sigmas: Vec<f64>,
}

impl Best {
    pub(super) fn of(entry: &Entry) -> Self {
        Best {
            arch: entry.arch.clone(),
            params: entry.params,
            macs: entry.macs,
            fitness: entry.fitness,
            measures: entry.measures.clone(),
        }
    }
}

/// Runs a search, or goes on with one whose folder is there.
///
/// # Errors
/// What the device, the disk or the data have to say; [`Error::Cancelled`] if the observer asks to stop.
pub fn search(
    gpu: &Gpu,
    preset: Preset,
    space: &Family,
    data: &Dataset,
    config: &SearchConfig,
    folder: &mut RunFolder,
    observer: &mut Observer,
) -> Result<SearchResult> {
    config.validate(&**space, data.train.len())?;
    let mut state: State = match folder.read_checkpoint("search")? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(folder.path().join("checkpoint"), None, format!("search state: {e}")))?,
        None => State::default(),
    };
    let shares = SplitSize::Fractions(vec![config.train_share, 1.0 - config.train_share]);
    let parts = split(&data.train, &shares, config.seed)?;
    let [training, validation] = &parts[..] else {
        return Err(Error::invalid("train_share", "the data cannot be split"));
    };
    let statistics = data.train.channel_statistics();
    let resident = Resident::new(gpu, &data.train)?;
    let setting = Setting { gpu, preset, data: &resident, statistics: &statistics };

    let supernet = space.needs_supernet()?;
    let baseline = config.searches_baseline();
    let job = SupernetJob { recipe: &config.supernet, images: training, seed: config.seed, share: 0.35 };
    let trainer = supernet::train(&setting, space, &*supernet, &job, folder, observer)?;
    let weights = trainer.stores(0).of(Role::Weights)?.clone();
    drop(trainer);

    let parent = Parent { model: &*supernet, weights, training_images: training, validation_images: validation };
    let mut evaluator =
        Evaluator::new(setting.clone(), &parent, &config.evaluation, config.evolution.population, config.seed)?;
    let streams = |generation: u64, slot: u64| -> Box<dyn Draw> {
        Box::new(Stream::new(config.seed, PROPOSE_PURPOSE, generation << 20 ^ slot))
    };
    if state.sigmas.is_empty() {
        let probes =
            random::distinct(&**space, config.protocol.dedupe, 8, &|_, slot| streams(BASELINE_STREAM - 1, slot))?;
        let paths = probes.iter().map(|arch| supernet::path(&*supernet, arch)).collect::<Result<Vec<_>>>()?;
        evaluator.find_sigmas_wait(&paths)?;
        state.sigmas = evaluator.sigmas().to_vec();
        save(folder, &state)?;
    }
    evaluator.set_sigmas(state.sigmas.clone());

    // Candidates, generation by generation; what an interrupted run has measured stands in its history.
    let (mut archive, mut others) = read_history(folder)?;
    let mut judge = Judge { space, supernet: &*supernet, config, evaluator: &mut evaluator, folder };
    let units = config.candidates() as u64;
    let middle = if baseline { 0.55 } else { 0.7 };
    tell(observer, Event::Stage { name: "evaluating candidates", units, from: 0.35, to: middle })?;
    let evolution = Evolution::new(&**space, config.evolution, config.protocol, &streams)?;
    for generation in 0.. {
        let left = config.candidates().saturating_sub(archive.len());
        // Generations may come out short; further ones make up for them where a number was asked for.
        let further = generation >= config.evolution.generations;
        if left == 0 || judge.is_late() || (further && config.evaluations == 0) {
            break;
        }
        let mut asked = match config.method {
            Method::Genas => evolution.ask(&archive, generation)?,
            Method::Random => {
                let wanted = (generation as usize + 1) * config.evolution.population;
                random::ask(&**space, config.protocol.dedupe, wanted, &archive, &streams)?
            }
        };
        // What an earlier attempt has measured is not asked for again.
        if further && asked.is_empty() && archive.entries().iter().all(|entry| entry.generation < generation) {
            break;
        }
        asked.truncate(left);
        judge.measure(&asked, (generation, false), &mut archive, observer)?;
    }
    check_reached(config.evaluations, archive.len(), config.time)?;
    if baseline {
        tell(observer, Event::Stage { name: "evaluating as many random ones", units, from: middle, to: 0.7 })?;
        let wanted =
            random::distinct(&**space, config.protocol.dedupe, archive.len(), &|g, s| streams(BASELINE_STREAM + g, s))?;
        // What the search has measured already need not be measured again.
        let mut unknown = vec![];
        for arch in wanted {
            match archive.get(&space.show(&arch)) {
                Some(entry) if !others.contains(&entry.arch) => {
                    others.insert(Entry { generation: 0, baseline: true, ..entry.clone() })?;
                }
                Some(_) => {}
                None => unknown.push(arch),
            }
        }
        unknown.retain(|arch| !others.contains(&space.show(arch)));
        judge.measure(&unknown, (0, true), &mut others, observer)?;
    }
    let sigmas = evaluator.sigmas().to_vec();
    drop(evaluator);

    let best = archive.best().cloned().ok_or_else(|| {
        Error::invalid("search", "no candidate could be measured: all losses left the finite numbers")
    })?;
    let arch = space.parse(&best.arch)?;
    let model = space.network(&arch)?;
    let card = ModelCard::of(space, &arch, &data.train.class_names, &statistics);
    let job = Job {
        model: &*model,
        recipe: &config.training,
        images: &final_images(data.train.len(), None, config.seed)?,
        card: &card,
        inherit: None,
        attacks: &[],
        stage: ("training the network found", 0.7, 1.0),
    };
    let trained = train_and_test(&setting, &job, data, config.seed, folder, observer)?;
    let result = SearchResult {
        method: config.method,
        space: config.space.clone(),
        dataset: data.name.clone(),
        seed: config.seed,
        compat: config.compat,
        device: format!("{} ({})", gpu.report().name, gpu.report().driver),
        // A clock that ends a search is the one thing that does not repeat.
        reproducible: config.time == 0.0,
        seconds: folder.seconds(),
        changes: folder.changes(),
        evaluated: archive.len(),
        sigmas,
        baselines: Baselines {
            best_of_random: others.best().map(Best::of),
            most_params: archive.entries().iter().max_by_key(|e| e.params).map(Best::of),
        },
        correlations: correlations(&archive)?,
        front: archive.front().into_iter().cloned().collect(),
        best: Best::of(&best),
        trained,
    };
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid("result.json", e.to_string()))?;
    folder.write("result.json", &json)?;
    Ok(result)
}

fn save(folder: &RunFolder, state: &State) -> Result<()> {
    let bytes = serde_json::to_vec(state).map_err(|e| Error::invalid("search state", e.to_string()))?;
    folder.checkpoint("search", &bytes)
}

/// Entries of the search and of the baseline that the history holds.
pub(super) fn read_history(folder: &RunFolder) -> Result<(Archive, Archive)> {
    let (mut archive, mut others) = (Archive::new(), Archive::new());
    for (number, line) in folder.history()?.iter().enumerate() {
        let entry: Entry = serde_json::from_str(line)
            .map_err(|e| Error::file(folder.path().join("history.jsonl"), None, format!("line {}: {e}", number + 1)))?;
        let to = if entry.baseline { &mut others } else { &mut archive };
        to.insert(entry)?;
    }
    Ok((archive, others))
}

/// Measures candidates and writes them down.
struct Judge<'a, 'b> {
    space: &'a Family,
    supernet: &'a dyn Supernet,
    config: &'a SearchConfig,
    evaluator: &'a mut Evaluator<'b>,
    folder: &'a mut RunFolder,
}

impl Judge<'_, '_> {
    fn is_late(&self) -> bool {
        self.config.time > 0.0 && self.folder.seconds() > self.config.time
    }

    fn measure(
        &mut self,
        asked: &[Arch],
        (generation, baseline): (u64, bool),
        archive: &mut Archive,
        observer: &mut Observer,
    ) -> Result<()> {
        for group in asked.chunks(self.evaluator.width()) {
            if self.is_late() {
                return Ok(());
            }
            let path = |arch: &Arch| supernet::path(self.supernet, arch);
            let paths = group.iter().map(path).collect::<Result<Vec<_>>>()?;
            let measured = self.evaluator.measure_wait(&paths, archive.len() as u64)?;
            for (arch, measured) in group.iter().zip(measured) {
                let Cost { params, macs } = self.space.cost(arch)?;
                let entry = Entry {
                    arch: self.space.show(arch),
                    generation,
                    baseline,
                    fitness: measured.flatness,
                    params,
                    macs,
                    measures: measured.figures(),
                };
                let line = serde_json::to_string(&entry).map_err(|e| Error::invalid("history", e.to_string()))?;
                self.folder.append_history(&line)?;
                archive.insert(entry)?;
            }
            let best = archive.best().map(|e| format!("best {:.4}, loss {:.3}", e.fitness, e.measure("loss")));
            let done = archive.len() as u64;
            tell(observer, Event::Advance { done, note: best.unwrap_or_default() })?;
        }
        Ok(())
    }
}

fn correlations(archive: &Archive) -> Result<Correlations> {
    let column = |name: &str| -> Vec<f64> { archive.entries().iter().map(|e| e.measure(name)).collect() };
    let (loss, slope) = (column("loss"), column("slope"));
    let fitness: Vec<f64> = archive.entries().iter().map(|e| e.fitness).collect();
    let params: Vec<f64> = archive.entries().iter().map(|e| e.params as f64).collect();
    Ok(Correlations {
        fitness_loss: spearman(&fitness, &loss)?.value,
        slope_loss: spearman(&slope, &loss)?.value,
        fitness_params: spearman(&fitness, &params)?.value,
        n: archive.len(),
    })
}
