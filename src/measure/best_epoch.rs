//! Networks that train side by side and end with the weights of the epoch after which each erred least.

use serde::{Deserialize, Serialize};

use super::judge::{Network, noisy_scores_wait};
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::nn::Model;
use crate::report::folder::RunFolder;
use crate::train::trainer::{Setting, Trainer};

/// What has been best of a network so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Share of right answers; of equal ones the first is kept.
    accuracy: f64,
    /// After how many epochs; 0 before there was one.
    epoch: usize,
    /// Weights and statistics, as they lie in memory.
    #[serde(skip)]
    values: Vec<f32>,
}

/// The best epochs of networks that train side by side.
pub struct BestEpochs<'a> {
    setting: &'a Setting<'a>,
    models: &'a [&'a dyn Model],
    /// Images that they are held against.
    images: &'a [usize],
    folder: &'a RunFolder,
    checkpoint: String,
    kept: Vec<Kept>,
}

impl<'a> BestEpochs<'a> {
    /// Before the first epoch, or where a run that was killed had come to. `name` is that of the training's checkpoint.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub fn open(
        setting: &'a Setting<'a>,
        models: &'a [&'a dyn Model],
        images: &'a [usize],
        (folder, name): (&'a RunFolder, &str),
    ) -> Result<Self> {
        let checkpoint = format!("{name}-best");
        let kept = match folder.read_checkpoint(&checkpoint)? {
            Some(bytes) => decode(&bytes)?,
            None => vec![Kept::default(); models.len()],
        };
        if kept.len() != models.len() {
            return Err(Error::invalid("checkpoint", "it belongs to other networks; start anew with --force"));
        }
        Ok(BestEpochs { setting, models, images, folder, checkpoint, kept })
    }

    /// Looks at the networks, whose last step ended an epoch. To look twice at the same changes nothing, so that a run may be killed
    /// before or after.
    ///
    /// # Errors
    /// What the device and the disk have to say.
    pub fn look(&mut self, trainer: &Trainer) -> Result<()> {
        let epoch = trainer.step() / trainer.steps_per_epoch().max(1);
        let networks: Vec<Network> = self
            .models
            .iter()
            .enumerate()
            .map(|(i, &model)| Network {
                model,
                stores: trainer.stores(i).clone().only(&[Role::Weights, Role::Running]),
            })
            .collect();
        let scores = noisy_scores_wait(self.setting, None, &networks, self.images, 0)?;
        let mut moved = false;
        for ((kept, (score, _)), network) in self.kept.iter_mut().zip(scores).zip(&networks) {
            if kept.epoch == 0 || score.accuracy > kept.accuracy {
                *kept = Kept { accuracy: score.accuracy, epoch, values: network.stores.values_wait()? };
                moved = true;
            }
        }
        if moved { self.folder.checkpoint(&self.checkpoint, &encode(&self.kept)?) } else { Ok(()) }
    }

    /// Gives each network its best weights, and says after which epoch it had them.
    ///
    /// # Errors
    /// If they are another network's.
    pub fn restore(&self, trainer: &Trainer) -> Result<Vec<usize>> {
        for (network, kept) in self.kept.iter().enumerate() {
            trainer.stores(network).put_values(&kept.values)?;
        }
        Ok(self.kept.iter().map(|kept| kept.epoch).collect())
    }

    /// Removes what was saved.
    ///
    /// # Errors
    /// What the disk has to say.
    pub fn forget(self) -> Result<()> {
        self.folder.forget(&self.checkpoint)
    }
}

/// Lengths and JSON, then the values of one network behind the other's.
fn encode(kept: &[Kept]) -> Result<Vec<u8>> {
    let told: Vec<(&Kept, usize)> = kept.iter().map(|kept| (kept, kept.values.len())).collect();
    let json = serde_json::to_vec(&told).map_err(|e| Error::invalid("checkpoint", e.to_string()))?;
    let mut bytes = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    kept.iter().for_each(|kept| bytes.extend_from_slice(bytemuck::cast_slice(&kept.values)));
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Vec<Kept>> {
    let fail = || Error::invalid("checkpoint", "it is of another version; start anew with --force");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(fail)?;
    let (json, mut rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(fail)?;
    let told: Vec<(Kept, usize)> = serde_json::from_slice(json).map_err(|_| fail())?;
    let mut all = vec![];
    for (mut kept, values) in told {
        let (own, more) = values.checked_mul(4).and_then(|length| rest.split_at_checked(length)).ok_or_else(fail)?;
        kept.values = bytemuck::pod_collect_to_vec(own);
        all.push(kept);
        rest = more;
    }
    if rest.is_empty() { Ok(all) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_and_nothing_else() {
        let kept = [
            Kept { accuracy: 0.5, epoch: 2, values: vec![1.0, -2.5, 3.0] },
            Kept { accuracy: 0.25, epoch: 1, values: vec![] },
        ];
        let bytes = encode(&kept).unwrap();
        let read = decode(&bytes).unwrap();
        let told = |kept: &[Kept]| kept.iter().map(|k| (k.accuracy, k.epoch, k.values.clone())).collect::<Vec<_>>();
        assert_eq!(told(&read), told(&kept));
        for wrong in [&bytes[..7], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()] {
            assert!(decode(wrong).is_err());
        }
    }
}
