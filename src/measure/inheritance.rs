//! Networks that begin with the weights of another, such as a supernet.

use super::forward::{Averaging, Forward, Subject, graphs};
use crate::error::Result;
use crate::graph::{Role, Statistics};
use crate::nn::Model;
use crate::train::feed::{Pick, epoch};
use crate::train::trainer::{Inheritance, Setting, Trainer};

/// Epoch number that keys the order of recalibration images apart from training's.
const RECALIBRATION_EPOCH: u64 = 1 << 30;

/// Gives networks of `trainer`, by their numbers, inherited weights, and, if there are batches, their batch norms the statistics that
/// these have on them; does not wait. A supernet's own statistics are those of all paths together.
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
    for (network, inheritance) in heirs {
        trainer.inherit(*network, *inheritance)?;
    }
    let Some(batch) = batches.first().map(Vec::len).filter(|_| !heirs.is_empty()) else { return Ok(()) };
    let mut subjects = vec![];
    for (network, _) in heirs {
        let store = |role| Ok((trainer.stores(*network).of(role)?.clone(), 0));
        subjects.push(Subject { weights: store(Role::Weights)?, running: store(Role::Running)?, path: vec![] });
    }
    let own: Vec<&dyn Model> = heirs.iter().map(|(network, _)| models[*network]).collect();
    let passes = graphs(&own, batch, Statistics::Batch { update: true })?;
    let forward = Forward::of(setting, batch, &passes, &subjects)?;
    forward.recalibrate(batches, Averaging::Exact)
}

/// So many batches of images that set the batch norms' statistics of a network with inherited weights.
pub fn recalibration(images: &[usize], seed: u64, batch: usize, batches: usize) -> Vec<Vec<Pick>> {
    let order = epoch(images, seed, RECALIBRATION_EPOCH, None);
    (0..batches).map(|i| order.iter().cycle().skip(i * batch).take(batch).copied().collect()).collect()
}
