//! Training a supernet, from which candidates inherit.

use crate::error::{Error, Result};
use crate::graph::{Role, Statistics};
use crate::measure::forward::{Averaging, Forward, Subject, graphs};
use crate::nn::Model;
use crate::nn::space::{Family, Supernet};
use crate::philox::Stream;
use crate::progress::Observer;
use crate::report::folder::RunFolder;
use crate::space::{Arch, Draw};
use crate::train::feed::{Pick, epoch};
use crate::train::job::{self, Saving};
use crate::train::trainer::{Inheritance, Recipe, Setting, Trainer};

/// Purpose word of the paths that train.
const PATH_PURPOSE: u32 = 0x5041_5448;
/// Epoch number that keys the order of recalibration images apart from training's.
const RECALIBRATION_EPOCH: u64 = 1 << 30;

impl Draw for Stream {
    fn below(&mut self, n: u32) -> u32 {
        Stream::below(self, u64::from(n)) as u32
    }

    fn uniform(&mut self) -> f64 {
        Stream::uniform(self)
    }
}

/// How a supernet is trained.
pub struct SupernetJob<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Images that train it.
    pub images: &'a [usize],
    /// Seed of weights, batches and paths.
    pub seed: u64,
    /// Its share of the whole run's work, with which the run begins.
    pub share: f64,
}

/// Trains a supernet on one random path in every step, or goes on from the run's checkpoint.
///
/// # Errors
/// What training and the disk have to say.
pub fn train<'a>(
    setting: &Setting<'a>,
    space: &Family,
    supernet: &dyn Supernet,
    job: &SupernetJob,
    folder: &RunFolder,
    observer: &mut Observer,
) -> Result<Trainer<'a>> {
    let mut trainer = Trainer::new(setting.clone(), supernet, job.recipe, job.images, &[job.seed], &[])?;
    let saving = Saving { folder, name: "supernet", every: 50 };
    let mut choose = |trainer: &mut Trainer| {
        let mut draw = Stream::new(job.seed, PATH_PURPOSE, trainer.step() as u64);
        trainer.choose(&[path(supernet, &space.sample(&mut draw)?)?])
    };
    job::run(&mut trainer, Some(saving), ("training the supernet", 0.0, job.share), observer, &mut choose)?;
    Ok(trainer)
}

/// The path of an architecture.
///
/// # Errors
/// If its network is no path of the supernet.
pub fn path(supernet: &dyn Supernet, arch: &Arch) -> Result<Vec<u8>> {
    let none = || Error::invalid("--space", "its networks are no paths of its supernet, which this needs");
    supernet.path(arch).ok_or_else(none)
}

/// Gives networks of `trainer`, by their numbers, inherited weights, and their batch norms the statistics that these have on
/// the batches; does not wait. A supernet's own statistics are those of all paths together.
///
/// # Errors
/// If axes differ, values are not finite, or the device has no room.
pub fn inherit(
    setting: &Setting,
    trainer: &Trainer,
    models: &[&dyn Model],
    heirs: &[(usize, Inheritance)],
    batches: &[Vec<Pick>],
) -> Result<()> {
    let (Some((first, _)), Some(batch)) = (heirs.first(), batches.first().map(Vec::len)) else { return Ok(()) };
    let mut subjects = vec![];
    for (network, inheritance) in heirs {
        trainer.inherit(*network, *inheritance)?;
        let store = |role| Ok((trainer.stores(*network).of(role)?.clone(), 0));
        subjects.push(Subject { weights: store(Role::Weights)?, running: store(Role::Running)?, path: vec![] });
    }
    let own: Vec<&dyn Model> = heirs.iter().map(|(network, _)| models[*network]).collect();
    let passes = graphs(&own, batch, Statistics::Batch { update: true })?;
    let forward = Forward::of(setting, models[*first].input(), batch, &passes, &subjects)?;
    forward.recalibrate(batches, Averaging::Exact)
}

/// So many batches of images that set the batch norms' statistics of a network with inherited weights.
pub fn recalibration(images: &[usize], seed: u64, batch: usize, batches: usize) -> Vec<Vec<Pick>> {
    let order = epoch(images, seed, RECALIBRATION_EPOCH, None);
    (0..batches).map(|i| order.iter().cycle().skip(i * batch).take(batch).copied().collect()).collect()
}
