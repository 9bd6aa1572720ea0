//! Networks trained beside each other to the end, each over several seeds; one of them is kept, and all are judged on images that nothing
//! has seen: one network of a user's choice, or those that a search found beside what they are to be held against.
//!
//! Which one is kept is decided on training images that were kept back, and under corruptions other than those that networks are judged
//! by at the end, so that the judgement stays one of images and corruptions that no choice has seen.

use std::collections::BTreeMap;

use super::inheritance::inherit;
use super::judge::{Final, Judging, Network, Tested, judge_wait, validation_errors_wait};
use super::judged::{Judged, Spread};
use super::mistakes::{Mistake, keep_sheet, mistakes_wait};
use super::side_by_side::halving;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::tensors::{Named, to_bytes};
use crate::philox::Stream;
use crate::progress::{Event, Observer, Share, tell};
use crate::report::folder::{RunFolder, START};
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
pub fn training_images(all: usize, some: Option<usize>, seed: u64) -> Result<Vec<usize>> {
    let Some(some) = some else { return Ok((0..all).collect()) };
    if some == 0 || some > all {
        return Err(Error::invalid("--images", format!("{some} of {all} training images")));
    }
    let mut list = shuffled(all, seed);
    list.truncate(some);
    Ok(list)
}

/// So many images that do not train, where `training` of `all` do: those that come next in the shuffle.
pub fn images_kept_back(all: usize, training: usize, some: usize, seed: u64) -> Vec<usize> {
    shuffled(all, seed).into_iter().skip(training).take(some).collect()
}

fn shuffled(all: usize, seed: u64) -> Vec<usize> {
    let mut list: Vec<usize> = (0..all).collect();
    Stream::new(seed, IMAGES_PURPOSE, 0).shuffle(&mut list);
    list
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
    /// Milliseconds for one image on the adapter at hand, where that was asked for.
    pub latency: Option<f64>,
    /// What trains it; everything else is common.
    pub optimizer: Optimizer,
    /// Weights to start from instead of each seed's fresh ones.
    pub inherit: Option<Inheritance<'a>>,
    /// What is written down with its weights.
    pub card: ModelCard,
    /// Whether it is known without a search, and so is kept unless another one is better beyond doubt.
    pub costs_no_search: bool,
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
    /// Training images kept back, on which the network is chosen that is kept; without any it is the first contestant's.
    pub kept_back: &'a [usize],
    /// Batches that set the statistics of those that inherit weights.
    pub recalibration: &'a [Vec<Pick>],
    /// Seeds of each contestant.
    pub seeds: &'a [u64],
    /// How they are judged.
    pub judging: Judging<'a>,
}

/// The contestant that is kept: without images kept back the first. With them the one of least error, but one that costs no search
/// stays where it errs no more than a standard error above that (the rule of Breiman et al. 1984, section 3.4.3, for the choice
/// among models that the data cannot tell apart).
fn chosen(errors: &[Option<Spread>], costs_no_search: &[bool]) -> Option<usize> {
    let all = || errors.iter().zip(costs_no_search).enumerate();
    let Some(known) = all().map(|(place, (error, free))| Some((place, (*error)?, *free))).collect::<Option<Vec<_>>>()
    else {
        return (!errors.is_empty()).then_some(0);
    };
    let least = |only_free: bool| {
        let some = known.iter().filter(|(_, _, free)| *free || !only_free);
        some.min_by(|a, b| a.1.mean.total_cmp(&b.1.mean))
    };
    let (best, free) = (least(false)?, least(true));
    let doubt = best.1.standard_error.unwrap_or(0.0);
    Some(free.filter(|free| free.1.mean <= best.1.mean + doubt).unwrap_or(best).0)
}

/// What became of the contestants.
pub struct Outcome {
    /// All of them, in their order.
    pub finalists: Vec<Judged>,
    /// More of the one that is kept.
    pub trained: Final,
    /// Where corruptions lead it astray.
    pub mistakes: Vec<Mistake>,
}

/// One contestant with one seed, trained.
struct Trained<'a> {
    /// The contestant, the first of those that are the same.
    contestant: usize,
    network: Network<'a>,
    /// Its training, epoch by epoch.
    curve: Vec<Progress>,
    /// Of the first seed, which may be kept: the weights, and those that it began with if they were inherited.
    weights: Option<(Named, Option<Named>)>,
}

impl<'a> Trial<'a> {
    /// Trains and judges all, as many side by side as fit, and writes down the weights, with the first seed, of the one that is kept, and
    /// the sheet of its mistakes. Contestants with the same network and optimiser are trained once.
    ///
    /// # Errors
    /// What training, testing and saving have to say.
    pub fn run(
        &self,
        contestants: &[Contestant<'a>],
        folder: &RunFolder,
        share: Share,
        observer: &mut Observer,
    ) -> Result<Outcome> {
        let same = |a: &Contestant, b: &Contestant| a.arch == b.arch && a.optimizer == b.optimizer;
        let first = |i: usize| contestants.iter().position(|other| same(other, &contestants[i])).unwrap_or(i);
        let unique: Vec<usize> = (0..contestants.len()).filter(|&i| first(i) == i).collect();
        let middle = share.from + 0.7 * (share.to - share.from);
        let trained = self.train_all(contestants, &unique, folder, Share { from: share.from, to: middle }, observer)?;
        let networks: Vec<Network> = trained.iter().map(|trained| trained.network.clone()).collect();
        tell(observer, Event::Stage { name: "testing", units: 100, from: middle, to: share.to })?;
        let mut report =
            |share: f64| tell(observer, Event::Advance { done: (100.0 * share) as u64, note: String::new() });
        let errors = match self.kept_back {
            [] => vec![],
            some => {
                let images = self.data.train.select(some);
                let mut report = |share: f64| report(0.2 * share);
                validation_errors_wait(self.setting, &images, &networks, self.judging.seed, &mut report)?
            }
        };
        let begun = if errors.is_empty() { 0.0 } else { 0.2 };
        // The mistakes of one network under a few corruptions are little beside this.
        let mut judging = |share: f64| report(begun + (0.97 - begun) * share);
        let tested = judge_wait(self.setting, &self.data.test, &networks, &self.judging, &mut judging)?;
        let own = |i: usize| -> Vec<usize> {
            let is_own = |n: &usize| trained[*n].contestant == first(i);
            (0..trained.len()).filter(is_own).collect()
        };
        let judged = |(i, contestant): (usize, &Contestant)| {
            let tested: Vec<Tested> = own(i).iter().map(|&n| tested[n].clone()).collect();
            let errors: Vec<f64> = own(i).iter().filter_map(|&n| errors.get(n).copied()).collect();
            let curve = own(i).first().map_or(&[][..], |&n| &trained[n].curve);
            Judged::of(contestant, self.data.test.len(), &tested, (&errors, self.kept_back.len()), curve)
        };
        let mut judged: Vec<Judged> = contestants.iter().enumerate().map(judged).collect();
        let errors: Vec<_> = judged.iter().map(|judged| judged.validation_error).collect();
        let free: Vec<bool> = contestants.iter().map(|contestant| contestant.costs_no_search).collect();
        let kept = chosen(&errors, &free).map(first);
        let Some((kept, place)) = kept.and_then(|kept| Some((kept, *own(kept).first()?))) else {
            return Err(Error::invalid("finals", "there is no contestant"));
        };
        judged[kept].kept = true;
        self.keep(&contestants[kept], &trained[place], folder)?;
        let (test, network) = (&self.data.test, &trained[place].network);
        let mut report = |share: f64| report(0.97 + 0.03 * share);
        let mistakes = mistakes_wait(self.setting, test, network, &self.judging, &mut report)?;
        keep_sheet(folder, test, &mistakes, self.judging.seed)?;
        let recipe = self.recipe.with_optimizer(contestants[kept].optimizer);
        let training = (self.training.len(), job::last(&trained[place].curve));
        let trained = Final::new(&recipe, training, test.len(), &tested[place]);
        Ok(Outcome { finalists: judged, trained, mistakes })
    }

    /// Writes down the network that is kept, unless it is broken, and what it began with if it has inherited that.
    fn keep(&self, contestant: &Contestant, trained: &Trained, folder: &RunFolder) -> Result<()> {
        let Some((weights, start)) = &trained.weights else { return Ok(()) };
        if let Some((name, _)) = weights.iter().find(|(_, v)| v.data.iter().any(|x| !x.is_finite())) {
            let at = format!("the end of training, tensor {name}");
            return Err(Error::NotFinite { what: "a weight".into(), value: f32::NAN, at });
        }
        // Who trains it again needs what it began with.
        match start {
            Some(start) => {
                let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
                folder.write(START, &to_bytes(start, metadata)?)?;
            }
            None => folder.remove(START)?,
        }
        folder.write("best.safetensors", &to_bytes(weights, contestant.card.metadata()?)?)
    }

    /// Trains all that differ with all seeds, one optimiser after the other; in the order of contestants.
    fn train_all(
        &self,
        contestants: &[Contestant<'a>],
        unique: &[usize],
        folder: &RunFolder,
        share: Share,
        observer: &mut Observer,
    ) -> Result<Vec<Trained<'a>>> {
        let mut kinds: Vec<Optimizer> = vec![];
        for &i in unique {
            kinds.extend((!kinds.contains(&contestants[i].optimizer)).then_some(contestants[i].optimizer));
        }
        let mut trained: Vec<Trained> = vec![];
        for (number, &kind) in kinds.iter().enumerate() {
            let here = unique.iter().filter(|&&i| contestants[i].optimizer == kind);
            let members: Vec<(usize, u64)> =
                here.flat_map(|&i| self.seeds.iter().map(move |&seed| (i, seed))).collect();
            let at = |n: usize| share.from + (share.to - share.from) * n as f64 / kinds.len() as f64;
            let stage = Share { from: at(number), to: at(number + 1) };
            trained.extend(halving(0..members.len(), &mut |range| {
                self.train(contestants, &members[range], folder, (stage, observer))
            })?);
        }
        trained.sort_by_key(|trained| trained.contestant);
        Ok(trained)
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
        let recipe = self.recipe.with_optimizer(contestants[any].optimizer);
        let models: Vec<&'a dyn Model> = members.iter().map(|(i, _)| contestants[*i].model).collect();
        let own = members.iter().zip(&models);
        let own: Vec<Member> = own.map(|(&(_, seed), &model)| Member { model, seed, path: vec![] }).collect();
        let mut trainer = Trainer::of(self.setting.clone(), &own, &recipe, self.training)?;
        let heirs = members.iter().enumerate();
        let heirs: Vec<_> = heirs.filter_map(|(network, (i, _))| Some((network, contestants[*i].inherit?))).collect();
        inherit(self.setting, &trainer, &models, &heirs, self.recalibration)?;
        let may_be_kept = |network: &usize| members[*network].1 == self.seeds[0];
        let mut starts: BTreeMap<usize, Named> = BTreeMap::new();
        for network in (0..members.len()).filter(may_be_kept) {
            if contestants[members[network].0].inherit.is_some() && !self.recalibration.is_empty() {
                starts.insert(network, trainer.weights_wait(network)?);
            }
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
        let curves = job::run(&mut trainer, Some(saving), stage, observer, &mut |_| Ok(()))?;
        let mut trained = vec![];
        for (network, curve) in curves.into_iter().enumerate() {
            let weights = match may_be_kept(&network) {
                true => Some((trainer.weights_wait(network)?, starts.remove(&network))),
                false => None,
            };
            let stores = trainer.stores(network).clone().only(&[Role::Weights, Role::Running]);
            let (contestant, model) = (members[network].0, models[network]);
            trained.push(Trained { contestant, network: Network { model, stores }, curve, weights });
        }
        Ok(trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_no_search_is_kept_unless_another_is_better_beyond_doubt() {
        let spread = |mean: f64| Some(Spread { mean, deviation: None, standard_error: Some(1.5) });
        let kept = |errors: [f64; 4], free: [bool; 4]| chosen(&errors.map(spread), &free).unwrap();
        let free = [false, false, true, false];
        // Nobody is better by more than 1.5 points, or somebody is; what is best itself; nobody is known without a search.
        assert_eq!(kept([9.0, 8.0, 9.4, 12.0], free), 2);
        assert_eq!(kept([9.0, 8.0, 9.6, 12.0], free), 1);
        assert_eq!(kept([9.0, 8.0, 7.0, 12.0], free), 2);
        assert_eq!(kept([9.0, 9.0, 9.0, 9.0], [false; 4]), 0);
        assert_eq!(kept([f64::NAN, 8.0, f64::NAN, 9.0], free), 1);
        // Without images kept back the search's own is kept.
        assert_eq!(chosen(&[None, None], &[false, true]), Some(0));
        assert_eq!(chosen(&[], &[]), None);
    }
}
