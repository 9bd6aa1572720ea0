//! Training a supernet on random paths, one or several in every step.

use std::collections::BTreeMap;

use super::job::{self, Saving};
use super::stores::Stores;
use super::trainer::{Recipe, Setting, Trainer};
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::graph::store::Store;
use crate::nn::classifier;
use crate::nn::space::{Family, Supernet};
use crate::nn::tensors::{Named, fresh, to_bytes};
use crate::philox::Stream;
use crate::progress::{Observer, Share};
use crate::report::folder::{RunFolder, SUPERNET, kept_supernet};
use crate::space::Arch;

/// Purpose word of the paths that train.
const PATH_PURPOSE: u32 = 0x5041_5448;
/// What a file's metadata calls the seed of its training.
const SEED: &str = "altiplano.seed";

/// A trained supernet: what candidates inherit from.
pub struct Heritage {
    /// The supernet and its weights on the device, if its networks are paths.
    paths: Option<(Box<dyn Supernet>, Stores)>,
    /// The weights on the host.
    named: Named,
    /// Those with which training began, if they are known.
    before: Option<Named>,
}

impl Heritage {
    /// The supernet and its weights on the device.
    ///
    /// # Errors
    /// If its networks are no paths, but cut out of it.
    pub fn paths(&self) -> Result<(&dyn Supernet, &Store)> {
        let none =
            || Error::invalid("--supernet", "its networks are cut out of it, so that they cannot share its weights");
        let (model, stores) = self.paths.as_ref().ok_or_else(none)?;
        Ok((&**model, stores.of(Role::Weights)?))
    }

    /// Its weights and statistics.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The weights with which its training began; `None` of a file that does not say from which seed they were drawn.
    pub fn before(&self) -> Option<&Named> {
        self.before.as_ref()
    }

    /// What it calls a weight of an architecture's network.
    pub fn source(&self, name: &str, arch: &Arch) -> Option<String> {
        self.paths.as_ref().and_then(|(model, _)| model.source(name, arch))
    }

    /// The weights of an architecture's network, where they are cut out of the supernet's; without the classifier if it is one of
    /// other classes.
    ///
    /// # Errors
    /// If the network cannot be built, or the supernet lacks a part of it.
    pub fn cut(&self, family: &Family, arch: &Arch) -> Result<Option<Named>> {
        let Some(mut own) = family.cut(&self.named, arch)? else { return Ok(None) };
        let model = family.network(arch)?;
        let layer = classifier(&*model)?.unwrap_or_default();
        let classes = self.named.get(&format!("{layer}.weight")).and_then(|rows| rows.dims.first());
        if classes != Some(&model.classes()) {
            own.retain(|name, _| name.rsplit_once('.').is_none_or(|(of, _)| of != layer));
        }
        Ok(Some(own))
    }
}

/// A trained supernet's tensors, and the seed of those with which its training began, if it is known.
pub struct Given {
    /// Weights and statistics.
    pub named: Named,
    /// The seed.
    pub seed: Option<u64>,
}

impl Given {
    /// Of a file's tensors and its metadata.
    pub fn new(named: Named, metadata: &BTreeMap<String, String>) -> Self {
        Given { named, seed: metadata.get(SEED).and_then(|seed| seed.parse().ok()) }
    }
}

/// How a supernet is had.
pub struct SupernetJob<'a> {
    /// How it is trained.
    pub recipe: &'a Recipe,
    /// Images that train it.
    pub images: &'a [usize],
    /// Seed of weights, batches and paths.
    pub seed: u64,
    /// Its weights, instead of training it.
    pub given: Option<&'a Given>,
    /// After every so many epochs its weights stay in the run's folder; 0 for never.
    pub keep_every: usize,
}

/// Trains a supernet on random paths, as many in every step as the recipe says, or goes on from the run's checkpoint; or takes the weights that are given.
/// It stays in the run's folder, from where other searches may take it.
///
/// # Errors
/// What training and the disk have to say, or that given weights are another supernet's.
pub fn train(
    setting: &Setting,
    family: &Family,
    job: &SupernetJob,
    folder: &RunFolder,
    stage: Share,
    observer: &mut Observer,
) -> Result<Heritage> {
    let &SupernetJob { recipe, images, seed, given, keep_every } = job;
    if let Some(given) = given.filter(|given| family.is_cut_from(&given.named)) {
        return Ok(Heritage { paths: None, named: given.named.clone(), before: None });
    }
    let model = family.needs_supernet()?;
    // Weights that are given take no step.
    let recipe = &Recipe { paths: if given.is_some() { 1 } else { recipe.paths }, ..recipe.clone() };
    let mut trainer = Trainer::new(setting.clone(), &*model, recipe, images, &[seed], &[])?;
    match given {
        Some(given) => {
            trainer.stores(0).load(0, &given.named).map_err(|e| Error::invalid("--supernet", e.to_string()))?
        }
        None => {
            let saving = Saving { folder, name: "supernet" };
            let mut choose = |trainer: &mut Trainer| {
                let (epochs, within) =
                    (trainer.step() / trainer.steps_per_epoch(), trainer.step() % trainer.steps_per_epoch());
                if within == 0 && epochs > 0 && keep_every > 0 && epochs.is_multiple_of(keep_every) {
                    folder.write(&kept_supernet(epochs), &file_of(&trainer.weights_wait(0)?, seed)?)?;
                }
                trainer.choose(&[drawn(&*model, family, seed, trainer.step(), recipe.paths)?])
            };
            let stage = ("training the supernet", stage.from, stage.to);
            job::run(&mut trainer, Some(saving), stage, observer, &mut choose)?;
        }
    }
    let (stores, named) = (trainer.stores(0).clone(), trainer.weights_wait(0)?);
    if given.is_none() {
        folder.write(SUPERNET, &file_of(&named, seed)?)?;
    }
    let begun = given.map_or(Some(seed), |given| given.seed);
    let contents = stores.of(Role::Weights)?.contents();
    let before = begun.map(|seed| fresh(contents, seed));
    Ok(Heritage { paths: Some((model, stores.only(&[Role::Weights]))), named, before })
}

/// The random paths of a step, one behind the other: each is a function of the seed and its number among all.
fn drawn(model: &dyn Supernet, family: &Family, seed: u64, step: usize, paths: usize) -> Result<Vec<u8>> {
    let mut chosen = vec![];
    for route in 0..paths {
        let mut draw = Stream::new(seed, PATH_PURPOSE, (step * paths + route) as u64);
        chosen.extend(path(model, &family.sample(&mut draw)?)?);
    }
    Ok(chosen)
}

/// A supernet's file.
fn file_of(named: &Named, seed: u64) -> Result<Vec<u8>> {
    let metadata = [("format", "pt".to_owned()), (SEED, seed.to_string())];
    to_bytes(named, BTreeMap::from(metadata.map(|(key, value)| (key.to_owned(), value))))
}

/// The path of an architecture.
///
/// # Errors
/// If its network is no path of the supernet.
pub fn path(supernet: &dyn Supernet, arch: &Arch) -> Result<Vec<u8>> {
    let none = || Error::invalid("--space", "its networks are no paths of its supernet, which this needs");
    supernet.path(arch).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::nas_bench_201::{Form, family};
    use crate::space::nas_bench_201::Macro;

    /// As many steps as there are paths in one see the same paths, and none of them twice in a row.
    #[test]
    fn paths_are_counted_on_from_step_to_step() {
        let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
        let family = family(Form::Tiny, &sizes).unwrap();
        let model = family.needs_supernet().unwrap();
        let of = |step, paths| drawn(&*model, &family, 7, step, paths).unwrap();
        let single: Vec<Vec<u8>> = (0..12).map(|step| of(step, 1)).collect();
        assert!(single.windows(2).all(|pair| pair[0] != pair[1]));
        for (paths, steps) in [(2, 6), (4, 3)] {
            let together: Vec<u8> = (0..steps).flat_map(|step| of(step, paths)).collect();
            assert_eq!(together, single.concat(), "{paths}");
        }
    }
}
