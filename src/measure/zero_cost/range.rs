//! Networks of positive weights, and such moved from them, in the range of `f32`.
//!
//! Without batch norms values grow by some powers of ten in each cell, past `1e38` in deep networks. But they are
//! homogeneous: if a layer's weights and all biases behind it are divided by a power of two, all values behind it are, to
//! the bit, and so are products of weights and their gradients of every layer. [`settle`] does so at the stem, at reductions
//! and at the classifier, as mean gains say. A convolution in front of a batch norm may be divided freely.

use super::score::Scorer;
use crate::nn::nas_bench_201::Norms;
use crate::nn::tensors::Named;
use crate::space::nas_bench_201::{Arch, EDGES, Op};

/// Means in front of a reduction's norm are left at two to this: their squares are far from the limits of `f32`, their
/// variance far from the norm's epsilon.
const KEPT_BITS: i32 = 14;
/// Nothing is divided below two to minus this: it is nothing beside the rest already, but its gradient is not zero.
const MOST_BITS: i32 = 120;

/// A walk through the network: how large values are there, and by what they were divided.
struct Walk<'a> {
    weights: &'a mut Named,
    /// Estimated mean of the values as they are now.
    magnitude: f64,
    /// Values were divided by two to this.
    power: i32,
}

impl Walk<'_> {
    fn divide(&mut self, name: &str, power: i32) {
        if let Some(values) = self.weights.get_mut(name) {
            values.data.iter_mut().for_each(|w| *w *= 2f32.powi(-power));
        }
    }

    /// Divides these layers so that the values behind them are near 1.
    fn cut(&mut self, layers: &[&str]) {
        let power = match self.magnitude > 0.0 && self.magnitude.is_finite() {
            true => self.magnitude.log2().round().clamp(-100.0, 100.0) as i32,
            false => 0,
        };
        for layer in layers {
            self.divide(&format!("{layer}.weight"), power);
        }
        self.magnitude *= 2f64.powi(-power);
        self.power += power;
    }

    /// What is added at this place without coming from before must be as small as the rest.
    fn follow(&mut self, name: &str) {
        let Some(values) = self.weights.get(name) else { return };
        let largest = values.data.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
        let room = if largest > 0.0 { largest.log2() as i32 + MOST_BITS } else { 0 };
        self.divide(name, self.power.min(room.max(0)));
    }
}

/// Brings a network with the batch norms of [`Norms::without`] into the range of `f32`; returns by which power of two its logits
/// were divided.
pub(super) fn settle(scorer: &Scorer, arch: &Arch, weights: &mut Named) -> i32 {
    let form = scorer.form;
    let ([stem, _], [_, classifier]) = (form.stem(), form.head());
    let magnitude = gain(weights, stem);
    let mut walk = Walk { weights, magnitude, power: 0 };
    walk.cut(&[stem]);
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            let [name, shortcut] = form.reduction(stage, index);
            let [a, b] = ["conv_a", "conv_b"].map(|part| format!("{name}.{part}.op.1"));
            let through = walk.magnitude * gain(walk.weights, &a);
            let beside = walk.magnitude * gain(walk.weights, &shortcut);
            if Norms::without(form) == Norms::None {
                walk.magnitude = through * gain(walk.weights, &b) + beside;
                walk.cut(&[&b, &shortcut]);
            } else {
                let spare = through.max(1.0).log2() as i32 - KEPT_BITS;
                walk.divide(&format!("{a}.weight"), spare.clamp(0, MOST_BITS));
                // The norm's output is about 1, whatever comes in.
                walk.magnitude = beside + 2f64.powi(-walk.power);
                walk.cut(&[&shortcut]);
                for part in ["weight", "bias"] {
                    walk.follow(&format!("{name}.conv_b.op.2.{part}"));
                }
            }
            index += 1;
        }
        for cell in 0..scorer.sizes.cells {
            let cell = form.cell(stage, cell, index);
            for (edge, op) in arch.0.iter().enumerate() {
                walk.follow(&format!("{}.op.1.bias", form.edge(&cell, edge, *op)));
            }
            walk.magnitude *= cell_gain(scorer, arch, walk.weights, &cell);
            index += 1;
        }
    }
    walk.magnitude *= gain(walk.weights, classifier);
    walk.cut(&[classifier]);
    walk.follow(&format!("{classifier}.bias"));
    walk.power
}

/// What a layer does at most to the mean of its input, if that is positive.
fn gain(weights: &Named, layer: &str) -> f64 {
    let Some(values) = weights.get(&format!("{layer}.weight")) else { return 0.0 };
    values.data.iter().map(|&w| f64::from(w.abs())).sum::<f64>() / values.dims[0].max(1) as f64
}

/// What a cell does to it.
fn cell_gain(scorer: &Scorer, arch: &Arch, weights: &Named, cell: &str) -> f64 {
    let mut nodes = [1.0, 0.0, 0.0, 0.0];
    for (edge, &(from, to)) in EDGES.iter().enumerate() {
        let factor = match arch.0[edge] {
            Op::None => 0.0,
            Op::SkipConnect | Op::AvgPool3x3 => 1.0,
            op => gain(weights, &format!("{}.op.1", scorer.form.edge(cell, edge, op))),
        };
        nodes[to] += factor * nodes[from];
    }
    nodes[3]
}
