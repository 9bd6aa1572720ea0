//! Looks for tiles of dense convolutions that make whole training steps faster on one adapter.
//!
//! A kernel's own time says little of the step it stands in, so steps are timed. Samples are taken in turns, so that
//! whatever else the machine does hits all candidates alike; and who wins is measured a second time, since the best of
//! several noisy figures looks better than it is.

use super::Spread;
use super::items::Item;
use super::tuning::{Kind, Trial, Tuning, Verdict};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::{Preset, Tile};
use crate::progress::{Event, Observer, tell};
use crate::report::statistics::median;

/// What is timed unless other items are asked for: a training step of each.
pub const ITEMS: [&str; 2] = ["train_conv3_n1", "train_mixed_n1"];
/// A candidate must need less than this share of the present tile's time.
const MARGIN: f64 = 0.95;
/// How far losses may differ, relatively.
const TOLERANCE: f64 = 1e-5;
/// Seconds of one sample, about: long enough that waiting for the device does not count.
const SAMPLE_SECONDS: f64 = 0.1;
/// Most steps of one sample.
const MOST_STEPS: usize = 100;

/// The steps compiled with one preset.
struct Steps(Vec<Item>);

impl Steps {
    /// The steps whose losses are checked come before all samples, so that none is the first after compiling.
    fn build(gpu: &Gpu, preset: Preset, items: &[&str]) -> Result<Self> {
        items.iter().map(|name| Item::build(gpu, preset, name)).collect::<Result<_>>().map(Steps)
    }

    fn check(&self) -> Vec<f64> {
        self.0.iter().flat_map(|item| item.check.iter().copied()).collect()
    }

    /// Seconds of one step of each item, over so many steps.
    fn time(&self, steps: usize) -> Result<f64> {
        self.0.iter().map(|item| Ok(item.time(steps)? / steps as f64)).sum()
    }
}

/// A candidate that computes what it should.
struct Candidate {
    /// Its number among the trials.
    trial: usize,
    steps: Steps,
}

/// Tries the neighbours of the preset's tiles, those of windowed convolutions first, and keeps what makes whole steps more
/// than 5 % faster. Steps are those of `items`, usually [`ITEMS`].
///
/// # Errors
/// If there is no such item, if the steps fail with the preset as it is, if the device is lost, or [`crate::Error::Cancelled`] if the observer asks to stop.
pub fn tune(gpu: &Gpu, preset: Preset, items: &[&str], samples: usize, observer: &mut Observer) -> Result<Tuning> {
    let (mut best, mut trials) = (preset, vec![]);
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        let share = (i as f64 / Kind::ALL.len() as f64, (i + 1) as f64 / Kind::ALL.len() as f64);
        let measure = Measure { gpu, items, samples: samples.max(1) };
        best = measure.kind(best, kind, share, &mut trials, observer)?;
    }
    let items = items.iter().map(|item| (*item).to_owned()).collect();
    Ok(Tuning::new(gpu.report(), best, items, trials))
}

/// How candidates are measured.
struct Measure<'a> {
    gpu: &'a Gpu,
    items: &'a [&'a str],
    samples: usize,
}

impl Measure<'_> {
    /// Tries the tiles for one kind of convolution; returns the preset with the best one.
    fn kind(
        &self,
        preset: Preset,
        kind: Kind,
        share: (f64, f64),
        trials: &mut Vec<Trial>,
        observer: &mut Observer,
    ) -> Result<Preset> {
        let tiles = kind.tile(preset).candidates();
        let name = format!("trying tiles of {kind} convolutions");
        let units = (tiles.len() + 2 * self.samples) as u64;
        tell(observer, Event::Stage { name: &name, units, from: share.0, to: share.1 })?;
        let sound = self.compile(preset, kind, &tiles, trials, observer)?;
        let Some(present) = sound.first() else { return Ok(preset) };
        let steps = steps_per_sample(present.steps.time(1)?);
        let all: Vec<&Steps> = sound.iter().map(|candidate| &candidate.steps).collect();
        let mut done = tiles.len() as u64;
        let timings = in_turns(&all, self.samples, steps, &mut || {
            done += 1;
            tell(observer, Event::Advance { done, note: String::new() })
        })?;
        let mut faster = vec![];
        for (candidate, timing) in sound.iter().zip(&timings) {
            trials[candidate.trial].time(timing.median_ms, timing.ratio);
            if timing.faster {
                faster.push((timing.ratio, candidate));
            }
        }
        faster.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, candidate) in faster {
            let again = in_turns(&[&present.steps, &candidate.steps], self.samples, steps, &mut || {
                done = (done + 1).min(units);
                tell(observer, Event::Advance { done, note: "the fastest again".into() })
            })?;
            let trial = &mut trials[candidate.trial];
            trial.time(again[1].median_ms, again[1].ratio);
            if again[1].faster {
                trial.verdict = Verdict::Taken;
                return Ok(kind.with(preset, trial.tile));
            }
            trial.verdict = Verdict::Unconfirmed;
        }
        Ok(preset)
    }

    /// Compiles all candidates and writes down their trials; returns those whose losses are right, the present one first.
    fn compile(
        &self,
        preset: Preset,
        kind: Kind,
        tiles: &[Tile],
        trials: &mut Vec<Trial>,
        observer: &mut Observer,
    ) -> Result<Vec<Candidate>> {
        let mut sound: Vec<Candidate> = vec![];
        for (i, &tile) in tiles.iter().enumerate() {
            let built = Steps::build(self.gpu, kind.with(preset, tile), self.items);
            let (steps, verdict) = match (built, sound.first()) {
                (Ok(steps), None) => (Some(steps), Verdict::Present),
                (Err(error), None) => return Err(error),
                (Ok(steps), Some(present)) => match disagreement(&present.steps.check(), &steps.check()) {
                    None => (Some(steps), Verdict::Left),
                    Some(why) => (None, Verdict::Wrong(why)),
                },
                (Err(error), Some(_)) => (None, Verdict::Failed(error.to_string())),
            };
            let trial = trials.len();
            trials.push(Trial { kind, tile, median_ms: None, ratio: None, verdict });
            sound.extend(steps.map(|steps| Candidate { trial, steps }));
            tell(observer, Event::Advance { done: i as u64 + 1, note: format!("tile {tile} compiled") })?;
        }
        Ok(sound)
    }
}

/// How one of several was timed.
struct Timing {
    median_ms: f64,
    /// Median over turns of its time over the first one's in the same turn: what slows a turn slows both.
    ratio: f64,
    /// Whether that is below [`MARGIN`], and it won three turns of four.
    faster: bool,
}

/// Times in turns: one sample of each, then the next of each, every turn beginning with another one.
fn in_turns(
    all: &[&Steps],
    samples: usize,
    steps: usize,
    sampled: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Timing>> {
    let mut seconds = vec![Vec::with_capacity(samples); all.len()];
    for turn in 0..samples {
        for place in 0..all.len() {
            let one = (turn + place) % all.len();
            seconds[one].push(all[one].time(steps)?);
        }
        sampled()?;
    }
    Ok(timings(&seconds))
}

fn timings(seconds: &[Vec<f64>]) -> Vec<Timing> {
    let timing = |own: &Vec<f64>| {
        let ratios: Vec<f64> = own.iter().zip(&seconds[0]).map(|(own, first)| own / first).collect();
        let wins = ratios.iter().filter(|ratio| **ratio < 1.0).count();
        let ratio = median(&ratios).unwrap_or(1.0);
        let median_ms = Spread::of(own.clone()).median_ms;
        Timing { median_ms, ratio, faster: ratio < MARGIN && 4 * wins >= 3 * ratios.len() }
    };
    seconds.iter().map(timing).collect()
}

fn steps_per_sample(seconds: f64) -> usize {
    // Casts of what is not finite or too large end at the bounds.
    ((SAMPLE_SECONDS / seconds).ceil() as usize).clamp(1, MOST_STEPS)
}

/// How losses differ, if they do by more than roundings.
fn disagreement(want: &[f64], got: &[f64]) -> Option<String> {
    if want.len() != got.len() {
        return Some(format!("{} losses instead of {}", got.len(), want.len()));
    }
    let off = |(want, got): &(&f64, &f64)| {
        // A NaN agrees with nothing.
        let near = (*want - *got).abs() <= TOLERANCE * want.abs();
        !near
    };
    want.iter().zip(got).find(off).map(|(want, got)| format!("a loss is {got}, the present tile's is {want}"))
}

/// Tiles that [`tune`] may try for a preset, those of both kinds at once: for tests of the kernels.
pub fn candidates(preset: Preset) -> Vec<Preset> {
    // The second kind's candidates do not depend on what the first one's became.
    let (windowed, pointwise) = (preset.windowed.candidates(), preset.pointwise.candidates());
    let at = |list: &[Tile], i: usize| list[i % list.len()];
    let count = windowed.len().max(pointwise.len());
    let pair = |i| Preset { windowed: at(&windowed, i), pointwise: at(&pointwise, i), ..preset };
    (0..count).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_must_agree() {
        assert_eq!(disagreement(&[2.0, 0.5], &[2.000_01, 0.5]), None);
        for wrong in [vec![2.000_1, 0.5], vec![2.0, f64::NAN], vec![2.0, f64::INFINITY], vec![2.0], vec![2.0, 0.0]] {
            assert!(disagreement(&[2.0, 0.5], &wrong).is_some(), "{wrong:?}");
        }
        assert!(disagreement(&[f64::NAN], &[f64::NAN]).is_some());
    }

    #[test]
    fn slow_turns_do_not_decide() {
        // The second turn was disturbed; the candidate is a tenth faster in each, the third one only in the median.
        let list = timings(&[vec![1.0, 5.0, 1.0, 1.0], vec![0.9, 4.5, 0.9, 0.9], vec![0.9, 6.0, 0.9, 1.1]]);
        assert!((list[1].ratio - 0.9).abs() < 1e-12 && list[1].faster);
        assert!(!list[0].faster && !list[2].faster);
    }

    #[test]
    fn samples_are_neither_endless_nor_empty() {
        let steps = [0.0, 1e-9, 0.02, 0.5, f64::NAN, f64::INFINITY].map(steps_per_sample);
        assert_eq!(steps, [MOST_STEPS, MOST_STEPS, 5, 1, 1, 1]);
    }

    #[test]
    fn all_tiles_stand_in_the_list() {
        for preset in [Preset::CPU, Preset::GPU] {
            let list = candidates(preset);
            assert!(list[0] == preset && list.len() <= 6);
            for kind in Kind::ALL {
                for tile in kind.tile(preset).candidates() {
                    assert!(list.iter().any(|p| kind.tile(*p) == tile), "{kind} {tile}");
                }
            }
        }
    }
}
