//! Training to the end: epochs, saves, progress.

use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::progress::{Event, Observer, tell};
use crate::report::folder::{RunFolder, checkpoint_head};

use super::trainer::{Progress, Trainer};

/// Where and how often a job saves.
pub struct Saving<'a> {
    /// The run's folder.
    pub folder: &'a RunFolder,
    /// Name of the checkpoint.
    pub name: &'a str,
}

/// Seconds between saves, besides those at the end of epochs. Where a save takes long there are fewer, so that they cost a twentieth of
/// the time at most.
const EVERY: f64 = 10.0;

/// Trains until all steps are done. With `saving`, goes on from a checkpoint if there is one, to the same bits.
/// `before_step` may choose paths. Returns the training curve of every network: its progress after each epoch.
///
/// # Errors
/// [`crate::Error::NotFinite`] if a loss is not finite, [`crate::Error::Cancelled`] if the observer asks to stop (the
/// last finished step is saved), or what the device and the disk have to say.
pub fn run(
    trainer: &mut Trainer,
    saving: Option<Saving>,
    stage: (&str, f64, f64),
    observer: &mut Observer,
    before_step: &mut dyn FnMut(&mut Trainer) -> Result<()>,
) -> Result<Vec<Vec<Progress>>> {
    let mut curves = vec![];
    if let Some(saving) = &saving
        && let Some(state) = saving.folder.read_checkpoint(saving.name)?
    {
        let (kept, state) = decode(&state)?;
        trainer.restore(state)?;
        curves = kept;
    }
    curves.resize(trainer.networks(), vec![]);
    let per_epoch = trainer.steps_per_epoch();
    let (name, from, to) = stage;
    let total = trainer.total_steps() as u64;
    tell(observer, Event::Stage { name, units: total, from, to })?;
    // Steps are queued ahead of the device, but not by more than it can hold.
    let mut queued = 0;
    let mut note = String::new();
    let (mut saved, mut cost) = (Instant::now(), 0.0f64);
    let (mut since, mut seen) = (Instant::now(), 0);
    while !trainer.is_done() {
        before_step(trainer)?;
        trainer.submit_step()?;
        queued += 1;
        seen += trainer.batch();
        if queued >= 4 {
            trainer.wait_for_previous()?;
        }
        let epoch_ends = trainer.step().is_multiple_of(per_epoch);
        if epoch_ends {
            let progress = trainer.progress_wait()?;
            let streaming = trainer.take_streaming().map_or_else(String::new, |rates| format!("; {rates}"));
            let rate = seen as f64 / since.elapsed().as_secs_f64().max(1e-9);
            log::info!("{name}: {rate:.1} images a second for each network{streaming}");
            (since, seen) = (Instant::now(), 0);
            note = progress
                .first()
                .map(|p| format!("loss {:.3}, accuracy {:.1} %", p.loss, 100.0 * p.accuracy))
                .unwrap_or_default();
            curves.iter_mut().zip(progress).for_each(|(curve, epoch)| curve.push(epoch));
        }
        let asked = tell(observer, Event::Advance { done: trainer.step() as u64, note: note.clone() });
        let elapsed = saved.elapsed().as_secs_f64();
        let is_due = elapsed > 20.0 * cost && (epoch_ends || elapsed > EVERY);
        if let Some(saving) = &saving
            && (is_due || trainer.is_done() || asked.is_err())
        {
            let begin = Instant::now();
            saving.folder.checkpoint(saving.name, &encode(&curves, &trainer.state_wait()?)?)?;
            (saved, cost) = (Instant::now(), begin.elapsed().as_secs_f64());
        }
        asked?;
    }
    Ok(curves)
}

/// The last epoch of a training curve; without any a loss that is no number.
pub fn last(curve: &[Progress]) -> Progress {
    curve.last().copied().unwrap_or(Progress { epoch: 0, loss: f64::NAN, accuracy: 0.0 })
}

/// Training curves as a checkpoint holds them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Curves(Vec<Vec<Progress>>),
    /// Earlier versions kept the last epoch alone.
    Last(Vec<Progress>),
}

/// Most bytes of training curves that are read from a checkpoint of others.
const LARGEST_CURVES: u64 = 1 << 20;

/// The training curves in the checkpoint of a training that may be going on, one for each network; none if there is no such file, or it
/// is no training's of this version.
///
/// # Errors
/// If it cannot be read.
pub fn curves_of(checkpoint: &Path) -> Result<Vec<Vec<Progress>>> {
    let head = checkpoint_head(checkpoint, LARGEST_CURVES)?;
    Ok(head.as_deref().and_then(|head| decode(head).ok()).map(|(curves, _)| curves).unwrap_or_default())
}

/// A checkpoint: the training curves (length and JSON), then the networks' state. One file holds both, so that no kill can
/// part them.
fn encode(curves: &[Vec<Progress>], state: &[u8]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(curves).map_err(|e| Error::invalid("checkpoint", e.to_string()))?;
    Ok([&(json.len() as u64).to_le_bytes()[..], &json, state].concat())
}

fn decode(bytes: &[u8]) -> Result<(Vec<Vec<Progress>>, &[u8])> {
    let fail = || Error::invalid("checkpoint", "it is of another version; start anew with --force");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(fail)?;
    let (json, state) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(fail)?;
    let curves = match serde_json::from_slice(json).map_err(|_| fail())? {
        Kept::Curves(curves) => curves,
        Kept::Last(epochs) => epochs.into_iter().map(|epoch| vec![epoch]).collect(),
    };
    Ok((curves, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole curves come back, lost networks among them; what earlier versions wrote is a curve of one epoch, anything else is told.
    #[test]
    fn checkpoints_hold_curves() {
        let epoch = |epoch: usize, loss: f64| Progress { epoch, loss, accuracy: 0.5 };
        let curves = [vec![epoch(1, 0.75), epoch(2, f64::NAN)], vec![epoch(1, 0.1), epoch(2, 0.2)]];
        let bytes = encode(&curves, b"state").unwrap();
        let (read, state) = decode(&bytes).unwrap();
        assert_eq!((format!("{read:?}"), state), (format!("{curves:?}"), &b"state"[..]));
        assert!(last(&read[0]).loss.is_nan() && last(&read[1]) == epoch(2, 0.2) && last(&[]).loss.is_nan());

        let sealed = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), b"state"].concat();
        let earlier = sealed(&serde_json::to_string(&[epoch(3, 0.25), epoch(3, 0.5)]).unwrap());
        let (read, state) = decode(&earlier).unwrap();
        assert_eq!((read, state), (vec![vec![epoch(3, 0.25)], vec![epoch(3, 0.5)]], &b"state"[..]));
        assert_eq!(decode(&sealed("[]")).unwrap().0, Vec::<Vec<Progress>>::new());
        for wrong in [sealed("{\"epoch\": 1}"), sealed("[[1]]"), b"\xff\xff\xff\xff\xff\xff\xff\xffno".to_vec(), vec![]]
        {
            assert!(decode(&wrong).unwrap_err().to_string().contains("another version; start anew with --force"));
        }
    }
}
