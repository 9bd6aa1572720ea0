//! Networks trained to the end and judged on images that nothing has seen: one of a user's choice, or those of a search beside what
//! they are to be held against, each over several seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::corrupt::Severity;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::measure::attack::Attack;
use crate::measure::inheritance::inherit;
use crate::measure::judge::{Final, Judging, Network, Tested, WeightNoise, judge_wait};
use crate::measure::side_by_side::{halving, limited};
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::tensors::{Named, to_bytes};
use crate::philox::Stream;
use crate::progress::{Event, Observer, Share, tell};
use crate::report::folder::{RunFolder, START};
use crate::report::statistics::{mean, std};
use crate::report::table::Table;
use crate::train::feed::Pick;
use crate::train::job::{self, Saving};
use crate::train::step::Optimizer;
use crate::train::trainer::{Inheritance, Member, Progress, Recipe, Setting, Trainer};

/// Purpose word of the shuffle that picks the images.
const IMAGES_PURPOSE: u32 = 0x4649_4E41;

/// The images that train a network at the end, of `all`: the first `some` of a shuffle, or all in their order.
///
/// # Errors
/// If there are not so many.
pub fn final_images(all: usize, some: Option<usize>, seed: u64) -> Result<Vec<usize>> {
    let mut list: Vec<usize> = (0..all).collect();
    let Some(some) = some else { return Ok(list) };
    if some == 0 || some > all {
        return Err(Error::invalid("--images", format!("{some} of {all} training images")));
    }
    Stream::new(seed, IMAGES_PURPOSE, 0).shuffle(&mut list);
    list.truncate(some);
    Ok(list)
}

/// Writes a network as the run's best, unless it is broken.
fn save_best(folder: &RunFolder, named: &Named, card: &ModelCard) -> Result<()> {
    if let Some((name, _)) = named.iter().find(|(_, v)| v.data.iter().any(|x| !x.is_finite())) {
        let at = format!("the end of training, tensor {name}");
        return Err(Error::NotFinite { what: "a weight".into(), value: f32::NAN, at });
    }
    folder.write("best.safetensors", &to_bytes(named, card.metadata()?)?)
}

/// What networks are trained and judged at the end of a search, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalsConfig {
    /// The networks: winners of arms by their names, `largest` (of all within the limits), `any` (one at random); an optimiser
    /// other than that of the training behind a colon. The first is the search's result.
    pub contestants: Vec<String>,
    /// Seeds of each.
    pub seeds: u64,
    /// Training images, the first of a shuffle; 0 for all in their order.
    pub images: usize,
    /// Test images, the first ones, that are corrupted, attacked, and seen by disturbed networks; 0 for all.
    pub judged_images: usize,
    /// Attacks, as `altiplano evaluate` takes them.
    pub attacks: Vec<String>,
    /// Weight noise.
    pub noise: WeightNoise,
}

impl FinalsConfig {
    /// The attacks.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn attacks(&self) -> Result<Vec<Attack>> {
        self.attacks.iter().map(|text| text.parse()).collect()
    }

    /// How many training images there are, of `all`: `None` for all in their order.
    pub fn training_images(&self, all: usize) -> Option<usize> {
        (self.images > 0).then(|| limited(all, self.images))
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn validate(&self) -> Result<()> {
        if self.seeds == 0 || self.seeds > 1_000 {
            return Err(Error::invalid("--seeds", format!("{}, expected 1 to 1000", self.seeds)));
        }
        if self.contestants.is_empty() {
            return Err(Error::invalid("finals.contestants", "there is none; the first is the search's result"));
        }
        self.noise.validate()?;
        self.attacks().map(|_| ())
    }
}

/// A network to train and judge.
pub struct Contestant<'a> {
    /// What it is in the comparison.
    pub role: String,
    /// Its architecture's name.
    pub arch: String,
    /// The network.
    pub model: &'a dyn Model,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// What trains it; everything else is common.
    pub optimizer: Optimizer,
    /// Weights to start from instead of each seed's fresh ones.
    pub inherit: Option<Inheritance<'a>>,
}

/// Mean and sample deviation over seeds; the deviation of one seed is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Deviation.
    pub deviation: Option<f64>,
    /// Standard error of the mean: over seeds, or with one seed, for errors, that of so many images by the binomial distribution.
    pub standard_error: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let deviation = std(values).filter(|_| values.len() > 1);
        let standard_error = deviation.map(|deviation| deviation / (values.len() as f64).sqrt());
        Spread { mean: mean(values).unwrap_or(f64::NAN), deviation, standard_error }
    }

    /// Of errors in percent points on so many images.
    fn of_errors(values: &[f64], images: usize) -> Self {
        let spread = Spread::of(values);
        let share = spread.mean / 100.0;
        let binomial = 100.0 * (share * (1.0 - share) / images.max(1) as f64).sqrt();
        Spread { standard_error: spread.standard_error.or(Some(binomial)), ..spread }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.deviation {
            Some(deviation) => write!(f, "{:.2} ± {deviation:.2}", self.mean),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

/// What was found of one contestant; errors and `R` in percent points.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// What it is in the comparison.
    pub role: String,
    /// Its architecture.
    pub arch: String,
    /// What trained it.
    pub optimizer: Optimizer,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Seeds.
    pub seeds: usize,
    /// Test images, all of them.
    pub test_images: usize,
    /// Error on all of them.
    pub clean_error: Spread,
    /// How many of them, the first ones, all that follows was measured on.
    pub judged_images: usize,
    /// Error on these without corruption: what corrupted errors are to be compared with.
    pub uncorrupted_error: Spread,
    /// Mean change of accuracy under weight noise.
    pub robustness: Spread,
    /// Mean error over the 15 main corruptions at each severity; empty for images that cannot be corrupted.
    pub corrupted_error: Vec<Spread>,
    /// Mean over severities.
    pub mean_corrupted_error: Option<Spread>,
    /// Error under each attack.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attacked_error: BTreeMap<String, Spread>,
}

impl Judged {
    fn of(contestant: &Contestant, test_images: usize, tested: &[Tested]) -> Self {
        let error = |accuracy: f64| 100.0 * (1.0 - accuracy);
        let values = |value: &dyn Fn(&Tested) -> f64| tested.iter().map(value).collect::<Vec<_>>();
        let images = tested.first().map_or(0, |tested| tested.images);
        let column = |value: &dyn Fn(&Tested) -> f64| Spread::of_errors(&values(value), images);
        let severities = tested.first().map_or(0, |tested| tested.corrupted.len());
        let attacks = tested.first().map_or(0, |tested| tested.attacks.len());
        let attacked = |i: usize| (tested[0].attacks[i].0.to_string(), column(&|t| error(t.attacks[i].1.accuracy)));
        Judged {
            role: contestant.role.clone(),
            arch: contestant.arch.clone(),
            optimizer: contestant.optimizer,
            params: contestant.params,
            macs: contestant.macs,
            seeds: tested.len(),
            test_images,
            clean_error: Spread::of_errors(&values(&|t| error(t.clean.accuracy)), test_images),
            judged_images: images,
            uncorrupted_error: column(&|t| error(t.uncorrupted.accuracy)),
            robustness: Spread::of(&values(&|t| t.robustness.unwrap_or(f64::NAN))),
            corrupted_error: (0..severities).map(|s| column(&|t| error(t.corrupted[s]))).collect(),
            mean_corrupted_error: (severities > 0).then(|| column(&|t| mean(&t.corrupted).map_or(f64::NAN, error))),
            attacked_error: (0..attacks).map(attacked).collect(),
        }
    }
}

/// How they are trained and judged.
pub struct Trial<'a> {
    /// Device, training data and statistics.
    pub setting: &'a Setting<'a>,
    /// The data set.
    pub data: &'a Dataset,
    /// Training of all; the optimiser is the contestant's.
    pub recipe: &'a Recipe,
    /// Training images.
    pub training: &'a [usize],
    /// Batches that set the statistics of those that inherit weights.
    pub recalibration: &'a [Vec<Pick>],
    /// Seeds of each contestant.
    pub seeds: &'a [u64],
    /// How they are judged.
    pub judging: Judging<'a>,
    /// Of the first contestant.
    pub card: &'a ModelCard,
}

/// One contestant with one seed, trained.
struct Trained<'a> {
    network: Network<'a>,
    progress: Progress,
}

impl<'a> Trial<'a> {
    /// Trains and judges all, as many side by side as fit, and writes down the first one's weights with its first seed. Contestants
    /// with the same network and optimiser are trained once. Also returns more of the first one.
    ///
    /// # Errors
    /// What training, testing and saving have to say.
    pub fn run(
        &self,
        contestants: &[Contestant<'a>],
        folder: &RunFolder,
        share: Share,
        observer: &mut Observer,
    ) -> Result<(Vec<Judged>, Final)> {
        let same = |a: &Contestant, b: &Contestant| a.arch == b.arch && a.optimizer == b.optimizer;
        let first = |i: usize| contestants.iter().position(|other| same(other, &contestants[i])).unwrap_or(i);
        let unique: Vec<usize> = (0..contestants.len()).filter(|&i| first(i) == i).collect();
        let mut kinds: Vec<Optimizer> = vec![];
        for &i in &unique {
            kinds.extend((!kinds.contains(&contestants[i].optimizer)).then_some(contestants[i].optimizer));
        }
        let middle = share.from + 0.7 * (share.to - share.from);
        let mut trained: Vec<(usize, Trained)> = vec![];
        for (number, &kind) in kinds.iter().enumerate() {
            let here: Vec<usize> = unique.iter().copied().filter(|&i| contestants[i].optimizer == kind).collect();
            let members: Vec<(usize, u64)> =
                here.iter().flat_map(|&i| self.seeds.iter().map(move |&seed| (i, seed))).collect();
            let at = |n: usize| share.from + (middle - share.from) * n as f64 / kinds.len() as f64;
            let stage = Share { from: at(number), to: at(number + 1) };
            let own = halving(0..members.len(), &mut |range| {
                self.train(contestants, &members[range], folder, (stage, observer))
            })?;
            trained.extend(members.iter().map(|(i, _)| *i).zip(own));
        }
        trained.sort_by_key(|(i, _)| *i);
        let networks: Vec<Network> = trained.iter().map(|(_, trained)| trained.network.clone()).collect();
        tell(observer, Event::Stage { name: "testing", units: 100, from: middle, to: share.to })?;
        let mut report =
            |share: f64| tell(observer, Event::Advance { done: (100.0 * share) as u64, note: String::new() });
        let tested = judge_wait(self.setting, &self.data.test, &networks, &self.judging, &mut report)?;
        let of = |i: usize| -> Vec<Tested> {
            let own = trained.iter().zip(&tested).filter(|((place, _), _)| *place == first(i));
            own.map(|(_, tested)| tested.clone()).collect()
        };
        let test_images = self.data.test.len();
        let rows = contestants.iter().enumerate().map(|(i, own)| Judged::of(own, test_images, &of(i))).collect();
        let (Some((_, winner)), Some(tested)) = (trained.first(), tested.first()) else {
            return Err(Error::invalid("finals", "there is no contestant"));
        };
        let recipe = self.recipe_of(contestants[0].optimizer);
        Ok((rows, Final::new(&recipe, (self.training.len(), winner.progress), test_images, tested)))
    }

    fn recipe_of(&self, optimizer: Optimizer) -> Recipe {
        let rho = match optimizer {
            Optimizer::Sgd => 0.0,
            own if own == self.recipe.optimizer => self.recipe.rho,
            other => other.default_rho(),
        };
        Recipe { optimizer, rho, ..self.recipe.clone() }
    }

    /// Trains contestants of one optimiser side by side.
    fn train(
        &self,
        contestants: &[Contestant<'a>],
        members: &[(usize, u64)],
        folder: &RunFolder,
        (share, observer): (Share, &mut Observer),
    ) -> Result<Vec<Trained<'a>>> {
        let Some(&(any, _)) = members.first() else { return Ok(vec![]) };
        let recipe = self.recipe_of(contestants[any].optimizer);
        let models: Vec<&'a dyn Model> = members.iter().map(|(i, _)| contestants[*i].model).collect();
        let own = members.iter().zip(&models);
        let own: Vec<Member> = own.map(|(&(_, seed), &model)| Member { model, seed, path: vec![] }).collect();
        let mut trainer = Trainer::of(self.setting.clone(), &own, &recipe, self.training)?;
        let heirs = members.iter().enumerate();
        let heirs: Vec<_> = heirs.filter_map(|(network, (i, _))| Some((network, contestants[*i].inherit?))).collect();
        inherit(self.setting, &trainer, &models, &heirs, self.recalibration)?;
        let winner = members.iter().position(|&(i, seed)| i == 0 && seed == self.seeds[0]);
        // Who trains the chosen network again needs what it began with.
        if let Some(winner) = winner.filter(|_| contestants[0].inherit.is_some() && !self.recalibration.is_empty()) {
            let start = trainer.weights_wait(winner)?;
            folder.write(START, &to_bytes(&start, BTreeMap::from([("format".to_owned(), "pt".to_owned())]))?)?;
        }
        let name = match members.len() {
            1 => format!("training a network with {}", recipe.optimizer),
            many => format!("training {many} networks with {}", recipe.optimizer),
        };
        // What is in it belongs to these networks alone: a search that goes on further may end with others.
        let of = |(i, seed): &(usize, u64)| format!("{} {} {seed}", contestants[*i].arch, recipe.optimizer);
        let of = members.iter().map(of).collect::<Vec<_>>().join("\n");
        let checkpoint = format!("finals-{:016x}", xxhash_rust::xxh3::xxh3_64(of.as_bytes()));
        let saving = Saving { folder, name: &checkpoint };
        let stage = (name.as_str(), share.from, share.to);
        let progress = job::run(&mut trainer, Some(saving), stage, observer, &mut |_| Ok(()))?;
        if let Some(winner) = winner {
            save_best(folder, &trainer.weights_wait(winner)?, self.card)?;
        }
        let stores = |network| trainer.stores(network).clone().only(&[Role::Weights, Role::Running]);
        let networks = models.into_iter().enumerate().map(|(i, model)| Network { model, stores: stores(i) });
        Ok(networks.zip(progress).map(|(network, progress)| Trained { network, progress }).collect())
    }
}

/// The comparison as a table: errors and `R` in percent points. What was measured on the first test images alone says so in
/// its column's name.
pub fn table(title: &str, judged: &[Judged]) -> Table {
    let images = judged.first().map_or((0, 0), |j| (j.test_images, j.judged_images));
    let first = if images.0 == images.1 { String::new() } else { format!(" (first {})", images.1) };
    let mut header: Vec<String> = ["network", "optimizer", "parameters", "MACs"].map(str::to_owned).to_vec();
    header.push("clean error".to_owned());
    header.extend((!first.is_empty()).then(|| format!("clean error{first}")));
    header.push(format!("R{first}"));
    let severities = judged.iter().map(|j| j.corrupted_error.len()).max().unwrap_or(0);
    header.extend(Severity::ALL[..severities].iter().map(|severity| format!("severity {}", severity.get())));
    header.extend((severities > 0).then(|| format!("corrupted error{first}")));
    let attacks = judged.first().into_iter().flat_map(|judged| judged.attacked_error.keys());
    header.extend(attacks.map(|attack| format!("error under {attack}")));
    header.push("architecture".into());
    let row = |j: &Judged| {
        let mut row = vec![j.role.clone(), j.optimizer.to_string(), j.params.to_string(), j.macs.to_string()];
        row.push(j.clean_error.to_string());
        row.extend((!first.is_empty()).then(|| j.uncorrupted_error.to_string()));
        row.push(j.robustness.to_string());
        row.extend(j.corrupted_error.iter().chain(&j.mean_corrupted_error).map(Spread::to_string));
        row.extend(j.attacked_error.values().map(Spread::to_string));
        row.push(j.arch.clone());
        row
    };
    Table { title: title.to_owned(), header, rows: judged.iter().map(row).collect() }
}

/// Names of the files that a run leaves for its user.
pub fn files(folder: &RunFolder) -> Vec<PathBuf> {
    let names = ["result.json", "best.safetensors", "table.csv", "table.svg", "history.jsonl", "config.toml"];
    names.map(|name| folder.path().join(name)).into_iter().filter(|path| path.exists()).collect()
}
