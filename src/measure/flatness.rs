//! Flatness of the validation loss under weight noise: GeNAS's measure, FlatNAS's robustness, and profiles.

use serde::{Deserialize, Serialize};

use super::forward::Score;
use crate::error::{Error, Result};

/// Most draws of weight noise; each takes a copy of the weights.
pub const MOST_DRAWS: usize = 4_096;

/// What GeNAS's measure is made of; the released form differs in each part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatnessProtocol {
    /// Deviations of the noise, rising; empty: found on the supernet so that the largest raises the loss by `rise`.
    pub sigmas: Vec<f64>,
    /// By which factor the largest deviation raises the loss, if deviations are found.
    pub rise: f64,
    /// Draws per deviation, averaged.
    pub draws: usize,
    /// Weight of the loss's own height.
    pub alpha: f64,
    /// Whether the loss without noise is measured; otherwise it counts as zero, as released.
    pub loss_at_zero: bool,
    /// Whether noise is added on top of that of the deviation before, as released.
    pub cumulative: bool,
    /// Whether all candidates see the same noise.
    pub shared_noise: bool,
}

impl FlatnessProtocol {
    /// The sound form: direct noise, the true loss at zero, several draws, the same noise for every candidate.
    pub fn sound() -> Self {
        FlatnessProtocol {
            sigmas: vec![],
            rise: 1.3,
            draws: 4,
            alpha: 1.0,
            loss_at_zero: true,
            cumulative: false,
            shared_noise: true,
        }
    }

    /// The released form (GeNAS, `tester_wlm.py`).
    pub fn released() -> Self {
        FlatnessProtocol {
            sigmas: vec![0.001, 0.003, 0.006],
            rise: 1.0,
            draws: 1,
            alpha: 1.0,
            loss_at_zero: false,
            cumulative: true,
            shared_noise: false,
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the one that cannot be used.
    pub fn validate(&self) -> Result<()> {
        let rising = self.sigmas.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.sigmas.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Error::invalid("--sigmas", format!("{:?} must be positive and rising", self.sigmas)));
        }
        if self.draws == 0 {
            return Err(Error::invalid("--draws", "0; at least one draw is needed"));
        }
        if self.draws > MOST_DRAWS {
            return Err(Error::invalid("--draws", format!("{}, expected at most {MOST_DRAWS}", self.draws)));
        }
        Ok(())
    }
}

/// Ratios of the deviations of GeNAS's DARTS search (.001, .003, .006), used when they are found.
pub const SIGMA_RATIOS: [f64; 3] = [1.0 / 6.0, 0.5, 1.0];

/// Deviation that a cumulative schedule really reaches at each level: `sqrt(sum of squared increments)`.
pub fn effective_sigmas(sigmas: &[f64]) -> Vec<f64> {
    let mut last = 0.0;
    let mut variance = 0.0;
    let step = |&sigma: &f64| {
        variance += (sigma - last) * (sigma - last);
        last = sigma;
        f64::sqrt(variance)
    };
    sigmas.iter().map(step).collect()
}

/// GeNAS's flatness from the losses at rising deviations (Jeong et al. 2023; released code `tester_wlm.py`):
///
/// `1 / (V + 1e-5)`, larger is better. Without a loss at zero `V = |L_1 / s_1| + sum |L_{i+1} - L_i| / (s_{i+1} - s_i)`,
/// as released. With the true loss `L_0` the first term is split into height and slope:
/// `alpha L_0 / s_1 + |L_1 - L_0| / s_1`. A loss that is not finite gives 0.
pub fn genas_flatness(sigmas: &[f64], losses: &[f64], loss_at_zero: Option<f64>, alpha: f64) -> f64 {
    let (Some(&first_sigma), Some(&first)) = (sigmas.first(), losses.first()) else { return 0.0 };
    let mut sharpness = match loss_at_zero {
        None => alpha * (first / first_sigma).abs(),
        Some(zero) => (alpha * zero.abs() + (first - zero).abs()) / first_sigma,
    };
    sharpness += slopes(sigmas, losses);
    if sharpness.is_finite() { 1.0 / (sharpness + 1e-5) } else { 0.0 }
}

/// Slopes between deviations alone: flatness without the loss's height. Smaller is flatter.
pub fn slope_sum(sigmas: &[f64], losses: &[f64], loss_at_zero: f64) -> f64 {
    match (sigmas.first(), losses.first()) {
        (Some(&sigma), Some(&loss)) => (loss - loss_at_zero).abs() / sigma + slopes(sigmas, losses),
        _ => 0.0,
    }
}

fn slopes(sigmas: &[f64], losses: &[f64]) -> f64 {
    let pairs = sigmas.windows(2).zip(losses.windows(2));
    pairs.map(|(s, l)| ((l[1] - l[0]) / (s[1] - s[0])).abs()).sum()
}

/// FlatNAS's robustness to weight noise (spec of the paper's R): mean over draws of `|A - A_m|` in percent points.
pub fn flatnas_robustness(clean: Score, draws: &[Score]) -> f64 {
    let sum: f64 = draws.iter().map(|draw| 100.0 * (clean.accuracy - draw.accuracy).abs()).sum();
    sum / draws.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
    }

    /// V by hand: 2.0/.001 + .2/.002 + .6/.003 = 2000 + 100 + 200 = 2300.
    #[test]
    fn released_values() {
        let sigmas = [0.001, 0.003, 0.006];
        for (losses, want) in [
            ([2.0, 2.2, 2.8], 4.347_826_068_052_9e-4),
            ([2.0, 2.0, 2.0], 4.999_999_975e-4),
            ([2.5, 2.4, 3.0], 3.636_363_623_1e-4),
            ([1.0, 1.5, 3.0], 5.714_285_681_6e-4),
        ] {
            close(genas_flatness(&sigmas, &losses, None, 1.0), want);
        }
        close(genas_flatness(&[0.002, 0.01, 0.02], &[2.0, 2.2, 2.8], None, 1.0), 9.216_589_776_8e-4);
    }

    #[test]
    fn height_and_slope_are_apart() {
        let sigmas = [0.1, 0.3];
        // A loss that noise does not change has no slope; only its height counts.
        close(genas_flatness(&sigmas, &[2.0, 2.0], Some(2.0), 1.0), 1.0 / (20.0 + 1e-5));
        close(genas_flatness(&sigmas, &[2.0, 2.0], Some(2.0), 0.0), 1e5);
        close(slope_sum(&sigmas, &[2.5, 3.5], 2.0), 5.0 + 5.0);
        assert_eq!(genas_flatness(&sigmas, &[f64::NAN, 1.0], Some(1.0), 1.0), 0.0);
    }

    #[test]
    fn cumulative_noise_is_weaker() {
        let effective = effective_sigmas(&[0.001, 0.003, 0.006]);
        for (got, want) in effective.iter().zip([0.001, 0.002_236_068, 0.003_741_657]) {
            assert!((got - want).abs() < 1e-8);
        }
    }

    #[test]
    fn robustness_counts_both_directions() {
        let score = |accuracy| Score { loss: 0.0, accuracy };
        close(flatnas_robustness(score(0.5), &[score(0.4), score(0.6)]), 10.0);
    }
}
