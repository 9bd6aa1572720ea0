//! What trained networks are worth out of distribution: several networks, each over several seeds, trained side by side
//! and judged on test images that nothing has seen, without and with corruptions, and under weight noise.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cohort::{CohortOptions, noisy_scores_wait};
use super::finals::JUDGED_IMAGES;
use super::supernet;
use crate::corrupt::{Constants, Kind, Severity};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::measure::corruption::{Origin, evaluate_wait, grid};
use crate::measure::flatness::flatnas_robustness;
use crate::measure::forward::Subject;
use crate::nn::Model;
use crate::nn::tensors::to_bytes;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::{RunFolder, START};
use crate::report::statistics::{mean, std};
use crate::report::table::Table;
use crate::train::feed::Resident;
use crate::train::job::{self, Saving};
use crate::train::step::Optimizer;
use crate::train::stores::Stores;
use crate::train::trainer::{Inheritance, Member, Recipe, Setting, Trainer};

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
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Spread { mean: mean(values).unwrap_or(f64::NAN), deviation: std(values).filter(|_| values.len() > 1) }
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
}

/// How they are trained and judged.
pub struct Trial<'a> {
    /// Device, training data and statistics.
    pub setting: Setting<'a>,
    /// The data set.
    pub data: &'a Dataset,
    /// Training of all; the optimiser is the contestant's.
    pub recipe: &'a Recipe,
    /// Training images.
    pub training: &'a [usize],
    /// Weight noise.
    pub noise: &'a CohortOptions,
    /// Seeds of each contestant.
    pub seeds: &'a [u64],
    /// Radius of sharpness-aware contestants.
    pub rho: f64,
}

impl Trial<'_> {
    /// Trains and judges all. Contestants with the same network and optimiser are trained once. Also returns the first
    /// contestant's weights of the first seed.
    ///
    /// # Errors
    /// What training, testing and saving have to say.
    pub fn run(
        &self,
        contestants: &[Contestant],
        folder: &RunFolder,
        (from, to): (f64, f64),
        observer: &mut Observer,
    ) -> Result<(Vec<Judged>, crate::nn::tensors::Named)> {
        let same = |a: &Contestant, b: &Contestant| a.arch == b.arch && a.optimizer == b.optimizer;
        let first = |i: usize| contestants.iter().position(|other| same(other, &contestants[i])).unwrap_or(i);
        let unique: Vec<usize> = (0..contestants.len()).filter(|&i| first(i) == i).collect();
        let mut kinds: Vec<Optimizer> = vec![];
        for &i in &unique {
            kinds.extend((!kinds.contains(&contestants[i].optimizer)).then_some(contestants[i].optimizer));
        }
        let middle = from + 0.7 * (to - from);
        let mut trained: Vec<(usize, Vec<Stores>)> = vec![];
        let mut chosen = None;
        for (number, &kind) in kinds.iter().enumerate() {
            let here: Vec<usize> = unique.iter().copied().filter(|&i| contestants[i].optimizer == kind).collect();
            let of = |&i: &usize| {
                let model = contestants[i].model;
                self.seeds.iter().map(move |&seed| Member { model, seed, path: vec![] })
            };
            let members: Vec<Member> = here.iter().flat_map(of).collect();
            let rho = if kind == Optimizer::Sgd { 0.0 } else { self.rho };
            let recipe = Recipe { optimizer: kind, rho, ..self.recipe.clone() };
            let mut trainer = Trainer::of(self.setting.clone(), &members, &recipe, self.training)?;
            let heirs: Vec<_> = here
                .iter()
                .flat_map(|&i| vec![contestants[i].inherit; self.seeds.len()])
                .enumerate()
                .filter_map(|(network, inherit)| Some((network, inherit?)))
                .collect();
            let models: Vec<&dyn Model> = members.iter().map(|member| member.model).collect();
            let recalibration = self.noise.recalibration(self.training, self.seeds[0]);
            supernet::inherit(&self.setting, &trainer, &models, &heirs, &recalibration)?;
            // Who trains the chosen network again needs what it began with.
            if let Some(place) = here.iter().position(|&i| i == 0).filter(|_| contestants[0].inherit.is_some()) {
                let start = trainer.weights_wait(place * self.seeds.len())?;
                folder.write(START, &to_bytes(&start, BTreeMap::from([("format".to_owned(), "pt".to_owned())]))?)?;
            }
            let at = |n: usize| from + (middle - from) * n as f64 / kinds.len() as f64;
            let name = format!("training {} networks with {kind}", members.len());
            let saving = Saving { folder, name: &format!("finals-{kind}"), every: 0 };
            let stage = (name.as_str(), at(number), at(number + 1));
            job::run(&mut trainer, Some(saving), stage, observer, &mut |_| Ok(()))?;
            for (place, &i) in here.iter().enumerate() {
                let own = place * self.seeds.len()..(place + 1) * self.seeds.len();
                if i == 0 {
                    chosen = Some(trainer.weights_wait(own.start)?);
                }
                trained.push((i, own.map(|network| trainer.stores(network).clone()).collect()));
            }
        }
        let judged = self.judge(contestants, &trained, (middle, to), observer)?;
        let row = |(i, contestant): (usize, &Contestant)| {
            let found = judged.iter().find(|(place, _)| *place == first(i));
            let found = found.ok_or_else(|| Error::invalid("finals", "a network was not judged"))?;
            Ok(Judged { role: contestant.role.clone(), ..found.1.clone() })
        };
        let rows = contestants.iter().enumerate().map(row).collect::<Result<_>>()?;
        Ok((rows, chosen.ok_or_else(|| Error::invalid("finals", "there is no contestant"))?))
    }

    /// Tests networks whose numbers among the contestants and stores are given.
    fn judge(
        &self,
        contestants: &[Contestant],
        trained: &[(usize, Vec<Stores>)],
        (from, to): (f64, f64),
        observer: &mut Observer,
    ) -> Result<Vec<(usize, Judged)>> {
        let test = &self.data.test;
        if test.is_empty() {
            return Err(Error::invalid("test", "there are no test images"));
        }
        let images = test.reveal_for_final_evaluation();
        let resident = Resident::new(self.setting.gpu, images)?;
        let setting = Setting { data: &resident, ..self.setting.clone() };
        let stores: Vec<Stores> = trained.iter().flat_map(|(_, stores)| stores.clone()).collect();
        let models: Vec<&dyn Model> =
            trained.iter().flat_map(|(i, stores)| vec![contestants[*i].model; stores.len()]).collect();
        let all: Vec<usize> = (0..images.len()).collect();
        let quiet = CohortOptions { draws: 1, sigma: 0.0, batch: 128, ..self.noise.clone() };
        let clean = noisy_scores_wait(&setting, &quiet, &models, &stores, &all, self.seeds[0])?;
        let some = &all[..all.len().min(JUDGED_IMAGES)];
        let uncorrupted = noisy_scores_wait(&setting, &quiet, &models, &stores, some, self.seeds[0])?;
        let noisy = noisy_scores_wait(&setting, self.noise, &models, &stores, some, self.seeds[0])?;
        let mut corrupted = vec![];
        if matches!(test.channels(), 1 | 3) {
            let mut networks = vec![];
            for (model, stores) in models.iter().zip(&stores) {
                let weights = (stores.of(Role::Weights)?.clone(), 0);
                let running = stores.of(Role::Running).cloned().unwrap_or_else(|_| weights.0.clone());
                networks.push((*model, Subject { weights, running: (running, 0), path: vec![] }));
            }
            let constants = if images.height.max(images.width) <= 64 { Constants::Cifar } else { Constants::ImageNet };
            let corruptions = grid(&Kind::MAIN, &Severity::ALL, constants, None);
            tell(observer, Event::Stage { name: "testing", units: corruptions.len() as u64 + 1, from, to })?;
            let origin = Origin::Made { seed: self.seeds[0] };
            let images = images.select(some);
            let mut report =
                |done: usize, _: usize| tell(observer, Event::Advance { done: done as u64, note: String::new() });
            let scores = evaluate_wait(&setting, &networks, &images, &corruptions, &origin, &mut report)?;
            for network in 0..networks.len() {
                let at = |severity: &Severity| {
                    let own = corruptions.iter().zip(&scores.corrupted).filter(|(c, _)| c.severity() == *severity);
                    let errors: Vec<f64> = own.map(|(_, s)| 100.0 * (1.0 - s[network].accuracy)).collect();
                    mean(&errors).unwrap_or(f64::NAN)
                };
                corrupted.push(Severity::ALL.iter().map(at).collect::<Vec<f64>>());
            }
        }
        let mut judged = vec![];
        let mut start = 0;
        for (i, own) in trained {
            let networks = start..start + own.len();
            start = networks.end;
            let contestant = &contestants[*i];
            let column = |value: &dyn Fn(usize) -> f64| Spread::of(&networks.clone().map(value).collect::<Vec<_>>());
            let severities = if corrupted.is_empty() { 0 } else { Severity::ALL.len() };
            judged.push((
                *i,
                Judged {
                    role: contestant.role.clone(),
                    arch: contestant.arch.clone(),
                    optimizer: contestant.optimizer,
                    params: contestant.params,
                    macs: contestant.macs,
                    seeds: own.len(),
                    test_images: all.len(),
                    clean_error: column(&|n| 100.0 * (1.0 - clean[n].0.accuracy)),
                    judged_images: some.len(),
                    uncorrupted_error: column(&|n| 100.0 * (1.0 - uncorrupted[n].0.accuracy)),
                    robustness: column(&|n| flatnas_robustness(noisy[n].0, &noisy[n].1)),
                    corrupted_error: (0..severities).map(|s| column(&|n| corrupted[n][s])).collect(),
                    mean_corrupted_error: (severities > 0)
                        .then(|| column(&|n| mean(&corrupted[n]).unwrap_or(f64::NAN))),
                },
            ));
        }
        Ok(judged)
    }
}

/// The comparison as a table: errors and `R` in percent points. What was measured on the first test images alone says so in
/// its column's name.
pub fn table(title: &str, judged: &[Judged]) -> Table {
    let images = judged.first().map_or((0, 0), |j| (j.test_images, j.judged_images));
    let first = if images.0 == images.1 { String::new() } else { format!(" (first {})", images.1) };
    let mut header: Vec<String> = ["network", "optimizer", "parameters", "MACs"].map(str::to_owned).to_vec();
    header.extend(["clean error".to_owned(), format!("clean error{first}"), format!("R{first}")]);
    let severities = judged.iter().map(|j| j.corrupted_error.len()).max().unwrap_or(0);
    header.extend((1..=severities).map(|severity| format!("severity {severity}")));
    header.extend((severities > 0).then(|| format!("corrupted error{first}")));
    header.push("architecture".into());
    let row = |j: &Judged| {
        let mut row = vec![j.role.clone(), j.optimizer.to_string(), j.params.to_string(), j.macs.to_string()];
        row.extend([j.clean_error, j.uncorrupted_error, j.robustness].map(|spread| spread.to_string()));
        row.extend(j.corrupted_error.iter().map(Spread::to_string));
        row.extend(j.mean_corrupted_error.iter().map(Spread::to_string));
        row.push(j.arch.clone());
        row
    };
    let mut table = Table { title: title.to_owned(), header, rows: judged.iter().map(row).collect() };
    if first.is_empty() {
        // Both are the same.
        table.header.remove(5);
        table.rows.iter_mut().for_each(|row| drop(row.remove(5)));
    }
    table
}
