//! Search by a zero-cost proxy, as CRoZe's authors do (Ha, Kim and Hwang 2023, section 4.3): candidates are scored untrained,
//! and only the winner is trained and tested.
//!
//! Candidates beyond the limits of parameters and multiply-adds are drawn again. Isomorphic architectures count as one.
//! Every result stands beside the number of parameters, which many proxies follow.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::archive::{Archive, Entry};
use super::config::{Preset, check_evaluations};
use super::evolution::Dedupe;
use super::finals::{Final, Job, final_images, train_and_test};
use super::run::{Best, read_history};
use crate::data::Dataset;
use crate::error::{Error, Result, unknown};
use crate::gpu::Gpu;
use crate::kernels;
use crate::measure::attack::Attack;
use crate::measure::zero_cost::score::{Scorer, batch_of};
use crate::measure::zero_cost::{LOWEST, Proxy};
use crate::nn::bank::Bank;
use crate::nn::card::ModelCard;
use crate::nn::count::Cost;
use crate::nn::space::{Build, Family, ImageInfo, Networks, Purpose};
use crate::philox::Stream;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::RunFolder;
use crate::report::statistics::spearman;
use crate::space::{Arch, Space};
use crate::train::feed::Resident;
use crate::train::step::Optimizer;
use crate::train::trainer::{Recipe, Setting};

/// Purpose word of the random numbers of proposals.
const PROPOSE_PURPOSE: u32 = 0x5052_4F58;
/// How often a candidate is drawn anew when it is known or beyond a limit.
const TRIES: u32 = 10_000;
/// Architectures that are scored side by side.
const POPULATION: usize = 8;

/// How candidates are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Distinct random architectures.
    Random,
    /// A pool of random ones, then moves from the best so far.
    Warmup,
    /// Moves from a single random one.
    Mutate,
}

impl Strategy {
    /// Their names.
    pub const NAMES: [&'static str; 3] = ["random", "warmup", "mutate"];
}

impl std::str::FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "random" => Ok(Strategy::Random),
            "warmup" => Ok(Strategy::Warmup),
            "mutate" => Ok(Strategy::Mutate),
            _ => Err(unknown("--strategy", text, &Strategy::NAMES)),
        }
    }
}

/// A whole search by proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Always `croze`.
    pub method: String,
    /// Name of the space.
    pub space: String,
    /// The data set, as given to `--data`.
    pub data: String,
    /// Seed of everything.
    #[serde(with = "crate::philox::seed_text")]
    pub seed: u64,
    /// How the network that is found is built.
    pub build: Build,
    /// What is maximised.
    pub proxy: Proxy,
    /// Form of the network that is scored.
    pub network: String,
    /// Images in the batch that proxies see.
    pub batch: usize,
    /// How candidates are proposed.
    pub strategy: Strategy,
    /// Random candidates before the moves of a warm-up.
    pub pool: usize,
    /// Moves between two looks at the best so far.
    pub moves: usize,
    /// Candidates to score.
    pub evaluations: usize,
    /// Most parameters; 0 for no limit.
    pub max_params: u64,
    /// Most multiply-adds; 0 for no limit.
    pub max_macs: u64,
    /// Seconds after which no further candidate is scored; 0 for no limit.
    pub time: f64,
    /// Training of the network that was found.
    pub training: Recipe,
    /// Attacks that it is tested under, as `altiplano evaluate` takes them.
    pub attacks: Vec<String>,
}

impl ProxyConfig {
    /// The sizes of a preset in a space, for data of so many images of this kind; with `compat` the released proxy.
    pub fn preset(
        preset: Preset,
        space: &dyn Networks,
        data: &str,
        (images, info): (usize, &ImageInfo),
        compat: bool,
    ) -> Self {
        let quick = preset == Preset::Quick;
        let plain: &dyn Space = space;
        let size = plain.count_classes().or(plain.vectors()).map_or(usize::MAX, |size| size as usize);
        let build = space.defaults(preset.purpose(), info);
        let epochs = match (quick, info.height.max(info.width) < 16) {
            (true, true) => 16,
            (true, false) => 8,
            (false, _) => 200,
        };
        let batch = if quick && images < 4_000 { 32 } else { 64 };
        ProxyConfig {
            method: "croze".into(),
            space: space.name().to_owned(),
            data: data.into(),
            seed: 1,
            proxy: if compat { Proxy::CrozeCompat } else { Proxy::CrozeMean },
            network: space.defaults(Purpose::Scoring, info).form,
            batch: if quick { 16 } else { 8 },
            strategy: Strategy::Warmup,
            pool: if quick { 20 } else { 50 },
            moves: 5,
            evaluations: (if quick { 50 } else { 1_000 }).min(size),
            max_params: 0,
            max_macs: 0,
            time: 0.0,
            training: Recipe { batch, ..Recipe::usual(Optimizer::Sgd, epochs, build.image[0]) },
            build,
            attacks: ["fgsm:8/255", "pgd:8/255:10"].map(str::to_owned).into(),
        }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self, space: &dyn Space, images: usize) -> Result<()> {
        if self.method != "croze" {
            return Err(Error::invalid("method", format!("is {}, expected croze", self.method)));
        }
        for (what, value) in [("pool", self.pool), ("moves", self.moves), ("evaluations", self.evaluations)] {
            if value == 0 {
                return Err(Error::invalid(what, "is 0, expected at least 1"));
            }
        }
        // Isomorphic architectures count as one, and generations follow one another without end.
        check_evaluations(space, self.evaluations, usize::MAX, Dedupe::Canonical)?;
        if self.batch == 0 || self.batch > images {
            return Err(Error::invalid("batch", format!("{} of {images} training images", self.batch)));
        }
        if !self.time.is_finite() || self.time < 0.0 {
            return Err(Error::invalid("--time", "must be positive"));
        }
        self.attacks()?;
        self.training.validate(images)
    }

    fn attacks(&self) -> Result<Vec<Attack>> {
        self.attacks.iter().map(|text| text.parse()).collect()
    }
}

/// What a search by proxy found; written as `result.json`.
#[derive(Debug, Serialize)]
pub struct ProxyResult {
    /// `croze`.
    pub method: String,
    /// What was maximised.
    pub proxy: Proxy,
    /// How candidates were proposed.
    pub strategy: Strategy,
    /// Name of the space.
    pub space: String,
    /// Name of the data set.
    pub dataset: String,
    /// Seed of everything.
    pub seed: u64,
    /// Adapter and driver.
    pub device: String,
    /// Whether the same seed gives the same bits on this adapter.
    pub reproducible: bool,
    /// Seconds since the start, those before an interruption included.
    pub seconds: f64,
    /// What differed when the run was gone on with, such as the driver; then it may have ended with other bits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Candidates that were scored.
    pub evaluated: usize,
    /// The best candidate.
    pub best: Best,
    /// Candidates that none beats in both score and parameters.
    pub front: Vec<Entry>,
    /// The candidate with the most parameters: what a count alone would have chosen.
    pub most_params: Option<Best>,
    /// Rank correlation of the score with parameters and with multiply-adds, over all candidates.
    pub correlations: BTreeMap<String, Option<f64>>,
    /// The trained network.
    #[serde(rename = "final")]
    pub trained: Final,
}

/// Proposes candidates; a pure function of the archive's earlier generations.
struct Proposer<'a> {
    space: &'a Family,
    config: &'a ProxyConfig,
}

impl Proposer<'_> {
    /// Number of candidates of a generation.
    fn size(&self, generation: u64) -> usize {
        match (self.config.strategy, generation) {
            (Strategy::Mutate, 0) => 1,
            (_, 0) => self.config.pool,
            _ => self.config.moves,
        }
    }

    fn admits(&self, arch: &Arch) -> Result<bool> {
        let ProxyConfig { max_params, max_macs, .. } = *self.config;
        if max_params == 0 && max_macs == 0 {
            return Ok(true);
        }
        let Cost { params, macs } = self.space.cost(arch)?;
        Ok((max_params == 0 || params <= max_params) && (max_macs == 0 || macs <= max_macs))
    }

    /// The candidates of a generation, in a fixed order; fewer if no more are found in many draws.
    ///
    /// # Errors
    /// If the archive holds something else than architectures of the space, or nothing is within the limits.
    fn ask(&self, archive: &Archive, generation: u64) -> Result<Vec<Arch>> {
        let mut seen = HashSet::new();
        let mut best: Option<(f64, Arch)> = None;
        for entry in archive.entries().iter().filter(|entry| entry.generation < generation) {
            let arch = self.space.parse(&entry.arch)?;
            seen.insert(self.space.canonical(&arch));
            if best.as_ref().is_none_or(|(score, _)| entry.fitness > *score) {
                best = Some((entry.fitness, arch));
            }
        }
        let parent = best.map(|(_, arch)| arch).filter(|_| self.config.strategy != Strategy::Random);
        let mut proposals = vec![];
        for slot in 0..self.size(generation) as u64 {
            let mut draw = Stream::new(self.config.seed, PROPOSE_PURPOSE, generation << 20 | slot);
            // What no move reaches any more, chance may.
            let moves = parent.iter().flat_map(|parent| std::iter::repeat_n(Some(parent), 200));
            let mut found = None;
            for parent in moves.chain(std::iter::repeat(None)).take(TRIES as usize) {
                let arch = match parent {
                    Some(parent) => self.space.neighbour(parent, &mut draw)?,
                    None => self.space.sample(&mut draw)?,
                };
                if !seen.contains(&self.space.canonical(&arch)) && self.admits(&arch)? {
                    found = Some(arch);
                    break;
                }
            }
            let Some(arch) = found else { break };
            seen.insert(self.space.canonical(&arch));
            proposals.push(arch);
        }
        if proposals.is_empty() && archive.is_empty() {
            let smallest = self.space.smallest();
            let Cost { params, macs } = self.space.cost(&smallest)?;
            let why = format!("nothing is within them; the smallest has {params} parameters and {macs} multiply-adds");
            return Err(Error::invalid("--max-params and --max-macs", why));
        }
        Ok(proposals)
    }
}

/// Runs a search by proxy, or goes on with one whose folder is there.
///
/// # Errors
/// What the device, the disk or the data have to say; [`Error::Cancelled`] if the observer asks to stop.
pub fn search(
    gpu: &Gpu,
    preset: kernels::Preset,
    space: &Family,
    data: &Dataset,
    config: &ProxyConfig,
    folder: &mut RunFolder,
    observer: &mut Observer,
) -> Result<ProxyResult> {
    config.validate(&**space, data.train.len())?;
    let attacks = config.attacks()?;
    let (batch, range) = batch_of(gpu, preset, &data.train, space.build.input(), config.batch, config.seed)?;
    let scorer = Scorer {
        gpu: gpu.clone(),
        preset,
        family: space.in_form(&config.network)?,
        seed: config.seed,
        batch,
        weights: Bank::fresh(config.seed),
        range,
        zen: None,
    };
    scorer.check(&[config.proxy])?;
    let (mut archive, _) = read_history(folder)?;
    tell(observer, Event::Stage { name: "scoring", units: config.evaluations as u64, from: 0.0, to: 0.5 })?;
    let proposer = Proposer { space, config };
    let late = |seconds: f64| config.time > 0.0 && seconds > config.time;
    for generation in 0.. {
        let mut asked = proposer.ask(&archive, generation)?;
        if asked.is_empty() {
            break;
        }
        // A run that stopped amid a generation asks for it again and gets what is left of it.
        asked.truncate(config.evaluations.saturating_sub(in_generations_before(&archive, generation)));
        asked.retain(|arch| !archive.contains(&space.show(arch)));
        for some in asked.chunks(POPULATION) {
            if late(folder.seconds()) {
                break;
            }
            for (arch, scores) in some.iter().zip(scorer.score(some, &[config.proxy])?) {
                let fitness = scores.get(&config.proxy).copied().unwrap_or(LOWEST);
                let Cost { params, macs } = space.cost(arch)?;
                let entry = Entry {
                    arch: space.show(arch),
                    generation,
                    baseline: false,
                    fitness,
                    params,
                    macs,
                    measures: BTreeMap::from([(config.proxy.name().to_owned(), fitness)]),
                };
                let line = serde_json::to_string(&entry).map_err(|e| Error::invalid("history", e.to_string()))?;
                folder.append_history(&line)?;
                archive.insert(entry)?;
            }
            let note = archive.best().map(|e| format!("best {:.6}, {} parameters", e.fitness, e.params));
            tell(observer, Event::Advance { done: archive.len() as u64, note: note.unwrap_or_default() })?;
        }
        if late(folder.seconds()) || archive.len() >= config.evaluations {
            break;
        }
    }
    let best = archive.best().cloned().ok_or_else(|| Error::invalid("search", "no candidate was scored in time"))?;
    let arch = space.parse(&best.arch)?;
    let model = space.network(&arch)?;
    let statistics = data.train.channel_statistics();
    let card = ModelCard::of(space, &arch, &data.train.class_names, &statistics);
    let resident = Resident::new(gpu, &data.train)?;
    let setting = Setting { gpu, preset, data: &resident, statistics: &statistics };
    let job = Job {
        model: &*model,
        recipe: &config.training,
        images: &final_images(data.train.len(), None, config.seed)?,
        card: &card,
        inherit: None,
        attacks: &attacks,
        stage: ("training the network found", 0.5, 1.0),
    };
    let trained = train_and_test(&setting, &job, data, config.seed, folder, observer)?;
    let column = |value: &dyn Fn(&Entry) -> f64| -> Vec<f64> { archive.entries().iter().map(value).collect() };
    let scores = column(&|e| e.fitness);
    let correlations = BTreeMap::from([
        ("params".to_owned(), spearman(&scores, &column(&|e| e.params as f64))?.value),
        ("macs".to_owned(), spearman(&scores, &column(&|e| e.macs as f64))?.value),
    ]);
    let result = ProxyResult {
        method: config.method.clone(),
        proxy: config.proxy,
        strategy: config.strategy,
        space: config.space.clone(),
        dataset: data.name.clone(),
        seed: config.seed,
        device: format!("{} ({})", gpu.report().name, gpu.report().driver),
        reproducible: config.time == 0.0,
        seconds: folder.seconds(),
        changes: folder.changes(),
        evaluated: archive.len(),
        most_params: archive.entries().iter().max_by_key(|e| e.params).map(Best::of),
        correlations,
        front: archive.front().into_iter().cloned().collect(),
        best: Best::of(&best),
        trained,
    };
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid("result.json", e.to_string()))?;
    folder.write("result.json", &json)?;
    Ok(result)
}

/// Candidates of earlier generations.
fn in_generations_before(archive: &Archive, generation: u64) -> usize {
    archive.entries().iter().filter(|entry| entry.generation < generation).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::space::Registry;

    const INFO: ImageInfo = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    /// The codes of convolutions.
    const CONV: [u8; 2] = [2, 3];

    fn space() -> Family {
        let registry = Registry::default();
        let space = registry.get("nas-bench-201").unwrap();
        Family::new(space.clone(), space.defaults(Purpose::Published, &INFO)).unwrap()
    }

    fn config(strategy: Strategy) -> ProxyConfig {
        let registry = Registry::default();
        let space = registry.get("nas-bench-201").unwrap();
        ProxyConfig { strategy, ..ProxyConfig::preset(Preset::Quick, &**space, "digits", (1000, &INFO), false) }
    }

    fn count(arch: &Arch, op: u8) -> f64 {
        arch.iter().filter(|own| **own == op).count() as f64
    }

    /// Scores by a function, generation by generation.
    fn run(config: &ProxyConfig, generations: u64, score: impl Fn(&Arch) -> f64) -> Archive {
        let (space, mut archive) = (space(), Archive::new());
        for generation in 0..generations {
            for arch in (Proposer { space: &space, config }).ask(&archive, generation).unwrap() {
                let Cost { params, macs } = space.cost(&arch).unwrap();
                let (arch, fitness, measures) = (space.show(&arch), score(&arch), BTreeMap::new());
                let entry = Entry { arch, generation, baseline: false, fitness, params, macs, measures };
                archive.insert(entry).unwrap();
            }
        }
        archive
    }

    #[test]
    fn moves_climb_where_chance_does_not() {
        let score = |arch: &Arch| count(arch, CONV[0]);
        let best = |strategy| run(&config(strategy), 30, score).best().unwrap().fitness;
        assert_eq!(best(Strategy::Warmup), 6.0);
        assert_eq!(best(Strategy::Mutate), 6.0);
        assert!(best(Strategy::Random) < 6.0);
        let warm = run(&config(Strategy::Warmup), 9, score);
        assert_eq!(warm.len(), 20 + 8 * 5);
        let space = space();
        let class = |entry: &Entry| space.canonical(&space.parse(&entry.arch).unwrap());
        let classes: HashSet<Arch> = warm.entries().iter().map(class).collect();
        assert_eq!(classes.len(), warm.len(), "isomorphic architectures were scored twice");
    }

    #[test]
    fn limits_hold_and_impossible_ones_name_the_smallest() {
        let limited = ProxyConfig { max_params: 400_000, ..config(Strategy::Warmup) };
        let archive = run(&limited, 5, |arch| count(arch, CONV[1]));
        assert!(archive.len() >= 20 && archive.entries().iter().all(|e| e.params <= 400_000));
        let none = ProxyConfig { max_params: 1000, ..config(Strategy::Warmup) };
        let space = space();
        let error = (Proposer { space: &space, config: &none }).ask(&Archive::new(), 0).unwrap_err().to_string();
        assert!(error.contains("the smallest has 73306 parameters"), "{error}");
    }
}
