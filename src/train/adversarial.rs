//! Adversarial training: a step learns from images that PGD has moved (Madry et al. 2018, eq. 2.1).
//!
//! The moved images are made inside the step's own graph: a random start in the L-infinity ball, then so many passes forward
//! and back through the network as it stands, with the batch's statistics, which move in the last pass only. So a step is
//! still one submission. Radius and step are lengths of pixels in `0..1`, before normalisation, whatever that is.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::ChannelStatistics;
use crate::error::{Error, Result};
use crate::graph::{Init, Op, Role, Shape, TensorId, attack, blocks};
use crate::nn::{Layers, Model};

/// PGD in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// Radius of the ball.
    pub eps: f64,
    /// Length of a step.
    pub step: f64,
    /// Number of steps.
    pub steps: usize,
}

impl Adversarial {
    /// Refuses what is no attack.
    ///
    /// # Errors
    /// Which number is out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::invalid("--adversarial", why));
        if !(0.0..=1.0).contains(&self.eps) {
            return bad(format!("the radius {} is not between 0 and 1, such as 8/255", self.eps));
        }
        if !(self.step >= 0.0 && self.step.is_finite()) {
            return bad(format!("the step {} is no length", self.step));
        }
        if !(1..=50).contains(&self.steps) {
            return bad(format!("{} steps; 1 to 50 are possible", self.steps));
        }
        Ok(())
    }
}

/// A number or a fraction such as `8/255`.
pub fn number(text: &str) -> Option<f64> {
    let value = match text.split_once('/') {
        Some((a, b)) => a.trim().parse::<f64>().ok()? / b.trim().parse::<f64>().ok()?,
        None => text.trim().parse().ok()?,
    };
    value.is_finite().then_some(value)
}

impl FromStr for Adversarial {
    type Err = Error;

    /// `pgd:EPS:STEPS[:STEP]`; the step is a quarter of the radius if it is not given (2/255 of 8/255).
    fn from_str(text: &str) -> Result<Self> {
        let fail = || {
            let why = format!("`{text}` is none; expected pgd:EPS:STEPS[:STEP], such as pgd:8/255:7:2/255");
            Error::invalid("--adversarial", why)
        };
        let parts: Vec<&str> = text.trim().split(':').collect();
        if parts[0] != "pgd" || !(3..=4).contains(&parts.len()) {
            return Err(fail());
        }
        let eps = number(parts[1]).ok_or_else(fail)?;
        let steps = parts[2].parse().map_err(|_| fail())?;
        let step = parts.get(3).map_or(Some(eps / 4.0), |t| number(t)).ok_or_else(fail)?;
        let adversarial = Adversarial { eps, step, steps };
        adversarial.validate()?;
        Ok(adversarial)
    }
}

/// The ball around normalised images: turns lengths of pixels into those of each channel.
#[derive(Clone, Debug)]
pub struct Ball {
    means: Vec<f64>,
    scales: Vec<f64>,
}

impl Ball {
    /// The ball for images that are normalised by these statistics.
    pub fn new(statistics: &ChannelStatistics) -> Self {
        Ball { means: statistics.mean.clone(), scales: statistics.std.iter().map(|s| s.max(1e-8)).collect() }
    }

    /// The words of the tensor of an attack's numbers ([`attack`]), its control row left at zero. Random starts depend on
    /// seed and draw; without a draw attacks start at the images.
    pub fn words(&self, eps: f64, step: f64, seed: u64, draw: Option<u32>) -> Vec<u32> {
        let stride = 4 * blocks(self.scales.len());
        let mut words = vec![0u32; 6 * stride];
        for (c, (mean, scale)) in self.means.iter().zip(&self.scales).enumerate() {
            for (row, value) in [
                (attack::EPS, eps / scale),
                (attack::STEP, step / scale),
                (attack::LOW, -mean / scale),
                (attack::HIGH, (1.0 - mean) / scale),
            ] {
                words[row * stride + c] = (value as f32).to_bits();
            }
        }
        let start = [seed as u32, (seed >> 32) as u32, draw.unwrap_or(0), draw.is_some().into()];
        words[attack::WORDS * stride..][..4].copy_from_slice(&start);
        words
    }
}

/// Appends `steps` steps of PGD from a random start around the batch's images `x`; returns the moved images.
pub(super) fn moved(
    layers: &mut Layers,
    model: &dyn Model,
    (x, y): (TensorId, TensorId),
    steps: usize,
    smoothing: f32,
) -> Result<TensorId> {
    let shape = layers.builder.shape(x);
    let [n, _, _, c] = shape.nhwc();
    let b = &mut layers.builder;
    let settings = b.persistent(Role::Hyper, "settings", attack::shape(c), Init::Constant(0.0), &[])?;
    let (adv, state) = (b.temporary(shape), b.temporary(Shape::Vectors { rows: n, c: 8 }));
    b.push(Op::AttackStart { x, settings, adv, state });
    for _ in 0..steps {
        let logits = model.forward(layers, adv)?.logits;
        let b = &mut layers.builder;
        let loss = b.cross_entropy(logits, y, smoothing, true, false)?;
        let Some(seed) = loss.dlogits else { continue };
        if let Some(g) = b.backward(&[(logits, seed)], &[adv])?.get(adv) {
            b.push(Op::AttackStep { x, adv, g, settings, state, memory: None });
        }
    }
    Ok(adv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let seven: Adversarial = "pgd:8/255:7".parse().unwrap();
        assert_eq!(seven, Adversarial { eps: 8.0 / 255.0, step: 2.0 / 255.0, steps: 7 });
        assert_eq!("pgd:0.1:3:0.05".parse::<Adversarial>().unwrap().step, 0.05);
        for (text, says) in [
            ("fgsm:8/255", "expected pgd:EPS:STEPS"),
            ("pgd:8/255", "expected pgd:EPS:STEPS"),
            ("pgd:2:7", "between 0 and 1"),
            ("pgd:0.1:0", "1 to 50"),
            ("pgd:0.1:7:-1", "no length"),
            ("pgd:1/0:7", "expected"),
        ] {
            let error = text.parse::<Adversarial>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn lengths_are_those_of_pixels() {
        let statistics = ChannelStatistics { mean: vec![0.5, 0.25], std: vec![0.5, 0.0] };
        let words = Ball::new(&statistics).words(0.1, 0.025, 7 | 9 << 32, Some(3));
        let value = |row: usize, c: usize| f32::from_bits(words[row * 4 + c]);
        assert_eq!((value(attack::EPS, 0), value(attack::STEP, 0)), (0.2, 0.05));
        assert_eq!((value(attack::LOW, 0), value(attack::HIGH, 0)), (-1.0, 1.0));
        assert!(value(attack::EPS, 1).is_finite());
        assert_eq!(words[attack::WORDS * 4..][..4], [7, 9, 3, 1]);
    }
}
