//! Networks of positive weights, and such moved from them, in the range of `f32`.
//!
//! Without batch norms values grow by some powers of ten in each cell, past `1e38` in deep networks. But they are
//! homogeneous: if a layer's weights and all biases behind it are divided by a power of two, all values behind it are, to
//! the bit, and so are products of weights and their gradients of every layer. [`settle`] does so at the stem, at reductions
//! and at the classifier, as mean gains say. A convolution in front of a batch norm may be divided freely.

use std::collections::BTreeMap;

use super::score::Scorer;
use crate::nn::bank::Size;
use crate::nn::nas_bench_201::Norms;
use crate::nn::tensors::Named;
use crate::space::nas_bench_201::{Arch, EDGES, Op};

/// Means in front of a reduction's norm are left at two to this: their squares are far from the limits of `f32`, their
/// variance far from the norm's epsilon.
const KEPT_BITS: i32 = 14;
/// Nothing is divided below two to minus this: it is nothing beside the rest already, but its gradient is not zero.
const MOST_BITS: i32 = 120;

/// By which powers of two a network is divided.
#[derive(Clone, Debug, Default)]
pub(super) struct Divided {
    /// Its logits.
    pub logits: i32,
    /// Its tensors; those that are not listed stay as they are.
    tensors: BTreeMap<String, i32>,
}

impl Divided {
    /// The power for a tensor.
    pub fn of(&self, name: &str) -> i32 {
        self.tensors.get(name).copied().unwrap_or(0)
    }

    /// Divides a tensor by two to `power` more.
    pub fn divide(&mut self, name: &str, power: i32) {
        *self.tensors.entry(name.to_owned()).or_default() += power;
    }

    /// Divides the tensors.
    pub fn apply(&self, weights: &mut Named) {
        for (name, power) in &self.tensors {
            let factor = 2f64.powi(-power);
            let values = weights.get_mut(name).into_iter().flat_map(|values| &mut values.data);
            values.for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
    }
}

/// A walk through the network: how large values are there, and by what they were divided.
struct Walk<'a> {
    sizes: &'a dyn Fn(&str) -> Option<Size>,
    divided: Divided,
    /// Estimated mean of the values as they are now.
    magnitude: f64,
    /// Values were divided by two to this.
    power: i32,
}

impl Walk<'_> {
    /// What a layer, not divided yet, does at most to the mean of its input, if that is positive.
    fn gain(&self, layer: &str) -> f64 {
        (self.sizes)(&format!("{layer}.weight")).map_or(0.0, |size| size.gain)
    }

    /// Divides these layers so that the values behind them are near 1.
    fn cut(&mut self, layers: &[&str]) {
        let power = match self.magnitude > 0.0 && self.magnitude.is_finite() {
            true => self.magnitude.log2().round().clamp(-100.0, 100.0) as i32,
            false => 0,
        };
        for layer in layers {
            self.divided.divide(&format!("{layer}.weight"), power);
        }
        self.magnitude *= 2f64.powi(-power);
        self.power += power;
    }

    /// What is added at this place without coming from before must be as small as the rest.
    fn follow(&mut self, name: &str) {
        let Some(Size { largest, .. }) = (self.sizes)(name) else { return };
        let room = if largest > 0.0 { largest.log2() as i32 + MOST_BITS } else { 0 };
        self.divided.divide(name, self.power.min(room.max(0)));
    }
}

/// How to bring a network of positive weights of these sizes, with the batch norms of [`Norms::without`], into the range of
/// `f32`.
pub(super) fn settle(scorer: &Scorer, arch: &Arch, sizes: &dyn Fn(&str) -> Option<Size>) -> Divided {
    let form = scorer.form;
    let ([stem, _], [_, classifier]) = (form.stem(), form.head());
    let mut walk = Walk { sizes, divided: Divided::default(), magnitude: 0.0, power: 0 };
    walk.magnitude = walk.gain(stem);
    walk.cut(&[stem]);
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            let [name, shortcut] = form.reduction(stage, index);
            let [a, b] = ["conv_a", "conv_b"].map(|part| format!("{name}.{part}.op.1"));
            let through = walk.magnitude * walk.gain(&a);
            let beside = walk.magnitude * walk.gain(&shortcut);
            if Norms::without(form) == Norms::None {
                walk.magnitude = through * walk.gain(&b) + beside;
                walk.cut(&[&b, &shortcut]);
            } else {
                let spare = through.max(1.0).log2() as i32 - KEPT_BITS;
                walk.divided.divide(&format!("{a}.weight"), spare.clamp(0, MOST_BITS));
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
            walk.magnitude *= cell_gain(scorer, arch, &walk, &cell);
            index += 1;
        }
    }
    walk.magnitude *= walk.gain(classifier);
    walk.cut(&[classifier]);
    walk.follow(&format!("{classifier}.bias"));
    walk.divided.logits = walk.power;
    walk.divided
}

/// What a cell does to the mean of its input.
fn cell_gain(scorer: &Scorer, arch: &Arch, walk: &Walk, cell: &str) -> f64 {
    let mut nodes = [1.0, 0.0, 0.0, 0.0];
    for (edge, &(from, to)) in EDGES.iter().enumerate() {
        let factor = match arch.0[edge] {
            Op::None => 0.0,
            Op::SkipConnect | Op::AvgPool3x3 => 1.0,
            op => walk.gain(&format!("{}.op.1", scorer.form.edge(cell, edge, op))),
        };
        nodes[to] += factor * nodes[from];
    }
    nodes[3]
}
