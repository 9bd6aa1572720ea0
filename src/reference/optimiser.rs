//! What happens to weights: norms of gradients, the ascent of SAM, steps of SGD, noise; and which paths are dropped.
//!
//! ```text
//! norm     |g| = sqrt(sum g^2), adaptive | |w| g | = sqrt(sum (|w| g)^2)
//! ascent   y = w + rho g / (norm + 1e-12), adaptive y = w + rho w^2 g / (norm + 1e-12)
//! SGD      g <- g min(1, clip / (norm + 1e-6)) + decay w;  m <- momentum m + g
//!          w <- w - rate m, with Nesterov's momentum w <- w - rate (g + momentum m)
//! noise    y = w + sigma z, multiplicative y = w + sigma w z
//! path     y[n] = 0 if word n is below the threshold, else the scale
//! ```

use super::philox::philox;
use super::{Context, View, agree};
use crate::error::Result;
use crate::graph::{DROP_PURPOSE, Guard, NOISE_PURPOSE, Noise, Shape, TensorId};
use crate::philox::normal;

/// The norm over the gradients whose guard is active, each scaled by the size of its weights if they are given.
pub(super) fn global_norm(cx: &Context<'_>, gradients: &[(Guard, TensorId, Option<TensorId>)]) -> Result<f64> {
    let mut squares = 0.0;
    for (_, gradient, weights) in gradients.iter().filter(|(guard, ..)| guard.active(cx.path)) {
        let g = cx.view(*gradient);
        let sizes = match weights.map(|weights| cx.view(weights)) {
            Some(w) => {
                agree("gradient of weights", w.axes, g.axes)?;
                w.values.iter().map(|w| w.abs()).collect()
            }
            None => vec![1.0; g.values.len()],
        };
        squares += g.values.iter().zip(sizes).map(|(g, size)| (size * g).powi(2)).sum::<f64>();
    }
    Ok(squares.sqrt())
}

/// The weights that SAM takes its gradient at.
pub(super) fn ascend(w: View<'_>, g: View<'_>, norm: f64, rho: f64, adaptive: bool) -> Result<Vec<f64>> {
    agree("gradient of weights", w.axes, g.axes)?;
    let ascent = |(w, g): (&f64, &f64)| {
        let direction = if adaptive { w * w * g } else { *g };
        w + rho * direction / (norm + 1e-12)
    };
    Ok(w.values.iter().zip(g.values).map(ascent).collect())
}

/// The numbers of one step of SGD.
pub(super) struct Sgd {
    /// Learning rate.
    pub rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Largest norm of the gradient, and its norm.
    pub clip: Option<(f64, f64)>,
    /// Whether to look ahead.
    pub nesterov: bool,
}

impl Sgd {
    /// The new weights and momenta.
    pub fn step(&self, w: View<'_>, g: View<'_>, m: View<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
        agree("gradient of weights", w.axes, g.axes)?;
        agree("momentum of weights", w.axes, m.axes)?;
        let scale = self.clip.map_or(1.0, |(clip, norm)| (clip / (norm + 1e-6)).min(1.0));
        let one = |((w, g), m): ((&f64, &f64), &f64)| {
            let g = scale * g + self.decay * w;
            let m = self.momentum * m + g;
            let direction = if self.nesterov { g + self.momentum * m } else { m };
            (w - self.rate * direction, m)
        };
        Ok(w.values.iter().zip(g.values).zip(m.values).map(one).unzip())
    }
}

/// Where the random numbers of one tensor come from.
pub(super) struct NoiseSource {
    /// Low and high half of the seed.
    pub key: [u32; 2],
    /// Number of the tensor, or of the path.
    pub stream: u32,
    /// Number of the draw.
    pub draw: u32,
}

impl NoiseSource {
    /// The normal number of the value that lies at `place` in memory, counted in values.
    fn normal(&self, place: usize) -> f64 {
        let counter = [(place / 4) as u32, self.stream, self.draw, NOISE_PURPOSE];
        f64::from(normal(philox(counter, self.key)[place % 4]))
    }
}

/// The factors of so many images; `source` has the path's number for its stream.
pub(super) fn drop_path(images: usize, source: &NoiseSource, below: u32, scale: f64) -> Vec<f64> {
    let word = |n: usize| philox([n as u32, source.stream, source.draw, DROP_PURPOSE], source.key)[0];
    (0..images).map(|n| if word(n) < below { 0.0 } else { scale }).collect()
}

/// Where logical value `i` of a tensor lies in memory, counted in values: its last axis is padded to a multiple of
/// four, and so are the input channels of an ungrouped filter.
fn place(shape: Shape, i: usize) -> usize {
    let padded = |side: usize| side.div_ceil(4) * 4;
    match shape {
        Shape::Map { c, .. } | Shape::Vectors { c, .. } => i / c * padded(c) + i % c,
        Shape::Filter { c, k, groups, .. } => {
            let (tap, input, output) = (i / k / c, i / k % c, i % k);
            let inputs = if groups == 1 { padded(c) } else { c };
            (tap * inputs + input) * padded(k) + output
        }
    }
}

/// The disturbed weights.
pub(super) fn perturb(w: &[f64], shape: Shape, source: &NoiseSource, sigma: f64, noise: Noise) -> Vec<f64> {
    let disturbed = |(i, w): (usize, &f64)| {
        let z = source.normal(place(shape, i));
        match noise {
            Noise::Additive => w + sigma * z,
            Noise::Multiplicative => w + sigma * w * z,
        }
    };
    w.iter().enumerate().map(disturbed).collect()
}
