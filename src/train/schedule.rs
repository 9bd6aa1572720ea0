//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The base rate throughout.
    Constant,
    /// Half a cosine from the base rate down to `minimum` (Loshchilov and Hutter, ICLR 2017, without
    /// restarts): `minimum + (base - minimum) / 2 * (1 + cos(pi * t))`, where `t` is `step / total_steps`.
    Cosine {
        /// The rate at the end.
        #[serde(default)]
        minimum: f64,
        /// Change once per epoch, one epoch ahead: `t` is `(epoch + 1) / epochs`. So does released code
        /// that advances its scheduler at an epoch's start, GeNAS's supernet training among it.
        #[serde(default)]
        per_epoch_ahead: bool,
    },
    /// Multiplied by `gamma` after every so many epochs.
    Step {
        /// Epochs between two changes.
        every: u64,
        /// The factor.
        gamma: f64,
    },
    /// Down to zero by a line, once per epoch, as the DARTS family trains on ImageNet: `base * (1 - epoch /
    /// (epochs - tail))`, over the last `tail` epochs `base * (epochs - epoch) / ((epochs - tail) * tail)`,
    /// and in the first `warmup` epochs that times `(epoch + 1) / warmup`.
    Linear {
        /// Epochs of warm-up, 5 in the published recipe.
        warmup: u64,
        /// Epochs of the flat end, 5 in the published recipe.
        tail: u64,
    },
}

impl Schedule {
    /// Checks the schedule's own numbers.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Schedule::Constant | Schedule::Linear { .. } => Ok(()),
            Schedule::Cosine { minimum, .. } if minimum.is_finite() && minimum >= 0.0 => Ok(()),
            Schedule::Cosine { minimum, .. } => {
                Err(Error::invalid("schedule minimum", format!("is {minimum}, expected a rate of 0 or more")))
            }
            Schedule::Step { every: 0, .. } => {
                Err(Error::invalid("schedule step", "is every 0 epochs, expected at least 1"))
            }
            Schedule::Step { gamma, .. } if gamma.is_finite() && gamma >= 0.0 => Ok(()),
            Schedule::Step { gamma, .. } => {
                Err(Error::invalid("schedule gamma", format!("is {gamma}, expected a factor of 0 or more")))
            }
        }
    }

    /// The rate of `step` (from 0) of `total_steps`, with `steps_per_epoch` steps in an epoch.
    ///
    /// Later steps keep the last rate. A part of an epoch at the end counts as one.
    pub fn rate(&self, base: f64, step: u64, total_steps: u64, steps_per_epoch: u64) -> f64 {
        let total_steps = total_steps.max(1);
        let steps_per_epoch = steps_per_epoch.max(1);
        let step = step.min(total_steps);
        let epochs = total_steps.div_ceil(steps_per_epoch);
        let epoch = (step / steps_per_epoch).min(epochs - 1);
        match *self {
            Schedule::Constant => base,
            Schedule::Cosine { minimum, per_epoch_ahead } => {
                let done =
                    if per_epoch_ahead { (epoch + 1) as f64 / epochs as f64 } else { step as f64 / total_steps as f64 };
                minimum + (base - minimum) / 2.0 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Schedule::Step { every, gamma } => base * gamma.powf((epoch / every.max(1)) as f64),
            Schedule::Linear { warmup, tail } => {
                // A run no longer than its tail is all tail.
                let slope = epochs.saturating_sub(tail).max(1) as f64;
                let left = epochs - epoch;
                let rate = if left > tail {
                    base * (1.0 - epoch as f64 / slope)
                } else {
                    base * left as f64 / (slope * tail as f64)
                };
                if epoch < warmup { rate * (epoch + 1) as f64 / warmup as f64 } else { rate }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(got: f64, expected: f64, digits: f64) {
        assert!((got - expected).abs() <= digits, "{got} instead of {expected}");
    }

    #[test]
    fn genas_supernet() {
        let schedule = Schedule::Cosine { minimum: 0.001, per_epoch_ahead: true };
        // 391 steps per epoch, 250 epochs; rates as published to eight decimals.
        for (epoch, rate) in [(0, 0.02499905), (1, 0.02499621), (124, 0.013), (248, 0.00100095), (249, 0.001)] {
            for step in [epoch * 391, epoch * 391 + 390] {
                close(schedule.rate(0.025, step, 97_750, 391), rate, 5.1e-9);
            }
        }
    }

    #[test]
    fn genas_retraining() {
        let schedule = Schedule::Linear { warmup: 5, tail: 5 };
        let rates = [
            (0, 0.1),
            (1, 0.1991837),
            (2, 0.2975510),
            (3, 0.3951020),
            (4, 0.4918367),
            (5, 0.4897959),
            (100, 0.2959184),
            (244, 0.0020408),
            (245, 0.0020408),
            (246, 0.0016327),
            (249, 0.00040816),
        ];
        for (epoch, rate) in rates {
            close(schedule.rate(0.5, epoch * 10 + 3, 2_500, 10), rate, 5.1e-8);
        }
    }

    #[test]
    fn cosine_per_step() {
        let schedule = Schedule::Cosine { minimum: 0.02, per_epoch_ahead: false };
        // Half of .1 - .02 is .04; cos(pi / 3) is .5.
        for (step, rate) in [(0, 0.1), (100, 0.08), (150, 0.06), (200, 0.04), (300, 0.02), (999, 0.02)] {
            close(schedule.rate(0.1, step, 300, 7), rate, 1e-15);
        }
    }

    #[test]
    fn step_and_constant() {
        let schedule = Schedule::Step { every: 30, gamma: 0.1 };
        for (epoch, rate) in [(0, 0.4), (29, 0.4), (30, 0.04), (60, 0.004), (89, 0.004)] {
            close(schedule.rate(0.4, epoch * 5 + 4, 450, 5), rate, 1e-15);
        }
        assert_eq!(Schedule::Constant.rate(0.3, 12, 10, 1), 0.3);
    }

    #[test]
    fn nothing_degenerate_gives_nan() {
        let all = [
            Schedule::Constant,
            Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false },
            Schedule::Cosine { minimum: 0.0, per_epoch_ahead: true },
            Schedule::Step { every: 0, gamma: 0.5 },
            Schedule::Linear { warmup: 0, tail: 0 },
            Schedule::Linear { warmup: 5, tail: 5 },
            Schedule::Linear { warmup: u64::MAX, tail: u64::MAX },
        ];
        for schedule in all {
            for (step, total, per_epoch) in [(0, 0, 0), (5, 3, 2), (0, 1, 9), (u64::MAX, u64::MAX, 1), (7, 7, 0)] {
                let rate = schedule.rate(0.1, step, total, per_epoch);
                assert!((0.0..=0.1).contains(&rate), "{schedule:?} {step} {total} {per_epoch}: {rate}");
            }
        }
    }

    #[test]
    fn checked_and_readable() {
        assert!(Schedule::Cosine { minimum: -1.0, per_epoch_ahead: false }.validate().is_err());
        assert!(Schedule::Step { every: 0, gamma: 0.1 }.validate().is_err());
        assert!(Schedule::Step { every: 1, gamma: f64::NAN }.validate().is_err());
        let read: Schedule = toml::from_str("kind = \"cosine\"\nminimum = 0.001").unwrap();
        assert_eq!(read, Schedule::Cosine { minimum: 0.001, per_epoch_ahead: false });
        assert!(read.validate().is_ok());
        assert!(toml::from_str::<Schedule>("kind = \"cosine\"\nminimun = 0.001").is_err());
    }
}
