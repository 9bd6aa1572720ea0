//! Training to the end: epochs, saves, progress.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::progress::{Event, Observer, tell};
use crate::report::folder::RunFolder;

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
/// `before_step` may choose paths. Returns the progress of every network after the last epoch.
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
) -> Result<Vec<Progress>> {
    let mut progress = vec![];
    if let Some(saving) = &saving
        && let Some(state) = saving.folder.read_checkpoint(saving.name)?
    {
        let (last, state) = decode(&state)?;
        trainer.restore(state)?;
        progress = last;
    }
    let per_epoch = trainer.steps_per_epoch();
    let (name, from, to) = stage;
    let total = trainer.total_steps() as u64;
    tell(observer, Event::Stage { name, units: total, from, to })?;
    // Steps are queued ahead of the device, but not by more than it can hold.
    let mut queued = 0;
    let mut note = String::new();
    let (mut saved, mut cost) = (Instant::now(), 0.0f64);
    while !trainer.is_done() {
        before_step(trainer)?;
        trainer.submit_step()?;
        queued += 1;
        if queued >= 4 {
            trainer.wait_for_previous()?;
        }
        let epoch_ends = trainer.step().is_multiple_of(per_epoch);
        if epoch_ends {
            progress = trainer.progress_wait()?;
            note = progress
                .first()
                .map(|p| format!("loss {:.3}, accuracy {:.1} %", p.loss, 100.0 * p.accuracy))
                .unwrap_or_default();
        }
        let asked = tell(observer, Event::Advance { done: trainer.step() as u64, note: note.clone() });
        let elapsed = saved.elapsed().as_secs_f64();
        let is_due = elapsed > 20.0 * cost && (epoch_ends || elapsed > EVERY);
        if let Some(saving) = &saving
            && (is_due || trainer.is_done() || asked.is_err())
        {
            let begin = Instant::now();
            saving.folder.checkpoint(saving.name, &encode(&progress, &trainer.state_wait()?)?)?;
            (saved, cost) = (Instant::now(), begin.elapsed().as_secs_f64());
        }
        asked?;
    }
    Ok(progress)
}

/// A checkpoint: the last progress (length and JSON), then the networks' state. One file holds both, so that no kill can
/// part them.
fn encode(progress: &[Progress], state: &[u8]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(progress).map_err(|e| Error::invalid("checkpoint", e.to_string()))?;
    Ok([&(json.len() as u64).to_le_bytes()[..], &json, state].concat())
}

fn decode(bytes: &[u8]) -> Result<(Vec<Progress>, &[u8])> {
    let fail = || Error::invalid("checkpoint", "it is of another version; start anew with --force");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(fail)?;
    let (json, state) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(fail)?;
    Ok((serde_json::from_slice(json).map_err(|_| fail())?, state))
}
