//! CRoZe: how alike a network and a perturbed copy of it stay in parameters, gradients and features, in one step
//! (Ha, Kim and Hwang 2023).
//!
//! The copy's weights are `w + gamma |w| g/|g|` per weight tensor, `g` the gradient of the loss (eq. 3), its images are
//! moved by the sign of their gradient in the copy (eq. 4). For each convolution and linear layer, `P` compares parameters,
//! `G` gradients and `Z` features.
//!
//! | | [`Proxy::Croze`] | [`Proxy::CrozeCompat`] | [`Proxy::CrozeMean`] |
//! |---|---|---|---|
//! | weights | as they are | absolute values | absolute values |
//! | batch norms | all | those of reductions alone | as compat |
//! | images | `x + eps sign g`, in the range of pixels | `x - eps sign g`, in 0 to 1 after normalisation | as compat |
//! | the copy's gradients | at the moved images | at both, added | as compat |
//! | cosines | of whole tensors; of features per image, then the mean | along the first axis, then summed | then averaged |
//! | features | each layer's output | five stages' | as compat |
//! | a layer's term | `(1+Z)(1+P)|G|` | `|P G Z|`, `P` and `Z` sums of `1 + cos` | as compat |
//!
//! The score is the sum of the terms. A layer without gradient counts 0. So does a whole network of positive weights whose largest
//! logit is that of every image's class: such logits are far apart, its softmax leaves no gradient, in `f64` as little as here. A
//! batch of two images easily has but one class; a larger one hardly.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::left::Left;
use super::passes::{Compiled, Look, SCALE, Wanted};
use super::score::Scorer;
use super::{Proxy, conjs};
use crate::error::{Error, Result};
use crate::nn::Norms;
use crate::nn::bank::{self, Size};
use crate::nn::tensors::{Named, Values};
use crate::space::Arch;

/// Size of the step away from the weights, in their norm.
const GAMMA: f64 = 2.0;
/// Size of the step away from the images, on the network's inputs.
const EPSILON: f32 = 0.01;
/// Logits are left larger by two to this: gradients, which start there, then stay above the smallest numbers of `f32` where
/// they pass what is nearly nothing beside the rest.
const LIFT_BITS: i32 = 40;
/// Logits are scaled by two to this at most.
const MOST_BITS: i32 = 100;
/// Rate of the one step of eq. 7.
const RATE: f64 = 1e-3;

/// What one layer adds.
#[derive(Clone, Debug, Serialize)]
pub struct Term {
    /// The layer's name.
    pub layer: String,
    /// The stage whose features are compared, or none if it is the layer's own output.
    pub feature: Option<usize>,
    /// `P`: parameters.
    pub parameters: f64,
    /// `G`: gradients.
    pub gradients: f64,
    /// `Z`: features.
    pub features: f64,
    /// What it adds to the score.
    pub term: f64,
}

/// Which of the three there are.
pub const FORMS: [Proxy; 3] = [Proxy::Croze, Proxy::CrozeCompat, Proxy::CrozeMean];
/// All proxies that are sums of such terms: ConJS takes the copy of the released form, and no gradients.
pub const SUMS: [Proxy; 4] = [Proxy::Croze, Proxy::CrozeCompat, Proxy::CrozeMean, Proxy::Conjs];

/// Terms of each architecture under each of [`SUMS`] that is listed; other proxies are passed over. The released form, its
/// means and ConJS share their passes.
///
/// # Errors
/// If the batch does not fit, or the device fails.
pub fn terms(scorer: &Scorer, archs: &[Arch], proxies: &[Proxy]) -> Result<Vec<(Proxy, Vec<Vec<Term>>)>> {
    scorer.check_sizes(archs)?;
    let mut all = vec![];
    if proxies.contains(&Proxy::Croze) {
        all.push((Proxy::Croze, reconstructed(scorer, archs)?));
    }
    let released = [Proxy::CrozeCompat, Proxy::CrozeMean, Proxy::Conjs];
    if proxies.iter().any(|p| released.contains(p)) {
        let pair = released_passes(scorer, archs)?;
        for proxy in released.into_iter().filter(|p| proxies.contains(p)) {
            let mut terms = match proxy {
                Proxy::Conjs => conjs::terms(&pair),
                _ => released_terms(scorer, &pair, proxy == Proxy::CrozeMean),
            };
            let lost = terms.iter_mut().zip(&pair.lost).filter(|(_, lost)| **lost);
            lost.flat_map(|(terms, _)| terms).for_each(|term| term.term = f64::NAN);
            all.push((proxy, terms));
        }
    }
    Ok(all)
}

/// Networks, weights and what two passes left: the clean network on the images, the copy on the moved ones.
pub(super) struct Pair {
    pub looks: Vec<Look>,
    /// Weights of the network.
    pub clean: Vec<Named>,
    /// Those of the copy.
    pub moved: Vec<Named>,
    /// Whether these are beyond `f32`: such a network has no score.
    lost: Vec<bool>,
    /// Of the network and of the copy.
    pub scales: [Vec<Scale>; 2],
    /// The clean network's.
    pub at_clean: Vec<Left>,
    /// The copy's on the clean images.
    between: Vec<Left>,
    /// The copy's on the moved images.
    pub at_moved: Vec<Left>,
}

/// Runs the three passes; all networks side by side.
fn passes(
    scorer: &Scorer,
    archs: &[Arch],
    wanted: Wanted,
    absolute: bool,
    step: impl Fn(usize, f32, f32) -> f32,
) -> Result<Pair> {
    let looks = scorer.looks(archs, wanted)?;
    let mut clean: Vec<Named> = scorer.weights(&looks)?.par_iter().map(bank::named).collect();
    let mut scales = vec![Scale::default(); archs.len()];
    if absolute {
        clean.par_iter_mut().for_each(|named| {
            named.values_mut().flat_map(|v| &mut v.data).for_each(|w| *w = w.abs());
        });
        settle_all(&looks, &mut clean, &mut scales);
    }
    let clean_scales = scales.clone();
    let (refs, named): (Vec<&Look>, Vec<&Named>) = (looks.iter().collect(), clean.iter().collect());
    let compiled = Compiled::with_batches(&scorer.gpu, scorer.preset, &refs, &named, archs.len())?;
    let mut batches = vec![scorer.batch.clone(); archs.len()];
    clean_scales.iter().zip(&mut batches).for_each(|(scale, batch)| scale.enter(batch));
    let run = |batches: &[Named]| -> Result<Vec<Left>> {
        let left = compiled.run_each_wait(batches)?;
        left.iter().for_each(Left::order);
        Ok(left)
    };
    let at_clean = run(&batches)?;
    let ascended = |((look, named), left): ((&Look, &Named), &Left)| ascent(look, named, left);
    let mut moved: Vec<Named> = looks.par_iter().zip(&clean).zip(&at_clean).map(ascended).collect();
    if absolute {
        // Weights up to three times as large in each of many layers.
        settle_all(&looks, &mut moved, &mut scales);
    }
    // Weights of which one is beyond f32 leave no score; they must not keep the networks beside from theirs.
    let is_lost = |named: &Named| named.values().any(|values| values.data.iter().any(|w| !w.is_finite()));
    let lost: Vec<bool> = moved.par_iter().map(is_lost).collect();
    let placed = lost.iter().zip(&moved).zip(&clean).map(|((&lost, moved), clean)| if lost { clean } else { moved });
    compiled.set_weights(&placed.collect::<Vec<_>>())?;
    scales.iter().zip(&mut batches).for_each(|(scale, batch)| scale.enter(batch));
    let between = run(&batches)?;
    for (batch, left) in batches.iter_mut().zip(&between) {
        let (Some(x), Some(gradient)) = (batch.get_mut("x"), left.get("input")) else { continue };
        let (channels, area) = (x.dims[1], x.dims[2..].iter().product::<usize>());
        for (i, (x, &g)) in x.data.iter_mut().zip(gradient).enumerate() {
            // A gradient beyond f32 leaves no score; it must not spoil the images meanwhile.
            *x = step(i / area % channels, *x, if g == 0.0 || g.is_nan() { 0.0 } else { g.signum() });
        }
    }
    let at_moved = run(&batches)?;
    drop(compiled);
    Ok(Pair { looks, clean, moved, lost, scales: [clean_scales, scales], at_clean, between, at_moved })
}

/// Brings networks into the range of `f32`.
fn settle_all(looks: &[Look], weights: &mut [Named], scales: &mut [Scale]) {
    let networks = looks.par_iter().zip(weights).zip(scales);
    networks.for_each(|((look, named), scale)| scale.settle(look, named));
}

/// By which powers of two a network was divided.
#[derive(Clone, Default)]
pub(super) struct Scale {
    logits: i32,
    /// Features, by stage.
    features: Vec<i32>,
    /// Weights of layers; those that are not listed are as they were.
    layers: HashMap<String, i32>,
}

impl Scale {
    /// The power of a stage's feature.
    pub fn of_feature(&self, stage: usize) -> i32 {
        self.features.get(stage).copied().unwrap_or(0)
    }

    /// The power of a layer's weights.
    pub fn of_layer(&self, layer: &str) -> i32 {
        self.layers.get(layer).copied().unwrap_or(0)
    }

    /// Weights as they would be.
    fn weights(&self, layer: &str, values: &[f32]) -> Vec<f64> {
        let factor = 2f64.powi(self.of_layer(layer));
        values.iter().map(|&v| factor * f64::from(v)).collect()
    }

    /// Puts the scale of the logits beside a batch, so that their softmax is what it would be. Larger scales are as
    /// saturated.
    fn enter(&self, batch: &mut Named) {
        let data = vec![2f32.powi(self.logits.min(MOST_BITS))];
        batch.insert(SCALE.into(), Values { dims: vec![1], data });
    }

    /// Gradients as they would be.
    fn gradient(&self, layer: &str, values: &[f32]) -> Vec<f64> {
        let factor = 2f64.powi(self.logits - self.of_layer(layer));
        values.iter().map(|&v| factor * f64::from(v)).collect()
    }

    /// Brings the network into the range of `f32`.
    fn settle(&mut self, look: &Look, weights: &mut Named) {
        let mut divided = look.scaling.settle(&|name: &str| weights.get(name).map(Size::of));
        // The layer that gives the logits comes last.
        let Some(classifier) = look.layers.last() else { return };
        for part in ["weight", "bias"] {
            divided.divide(&format!("{classifier}.{part}"), -LIFT_BITS);
        }
        divided.apply(weights);
        self.logits += divided.logits - LIFT_BITS;
        self.features.resize(look.features.len(), 0);
        for (power, &feature) in self.features.iter_mut().zip(&look.features) {
            *power += divided.of_map(feature);
        }
        for layer in &look.layers {
            *self.layers.entry(layer.clone()).or_default() += divided.of(&format!("{layer}.weight"));
        }
    }
}

/// Each layer's weights moved by `GAMMA` times their norm along the gradient.
fn ascent(look: &Look, weights: &Named, left: &Left) -> Named {
    let mut moved = weights.clone();
    for layer in &look.layers {
        let (Some(w), Some(g)) = (moved.get_mut(&format!("{layer}.weight")), left.get(&format!("grad.{layer}"))) else {
            continue;
        };
        let norm = super::formulas::norm(g);
        if norm > 0.0 && norm.is_finite() {
            let factor = GAMMA * super::formulas::norm(&w.data) / norm;
            w.data.iter_mut().zip(g).for_each(|(w, &g)| *w = (f64::from(*w) + factor * f64::from(g)) as f32);
        }
    }
    moved
}

/// `a.b / (|a| |b|)`, 0 if one is 0.
fn cosine(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let [ab, aa, bb] = pairs.fold([0.0; 3], |[ab, aa, bb], (a, b)| [ab + a * b, aa + a * a, bb + b * b]);
    // PyTorch's bound on norms.
    ab / (aa.sqrt().max(1e-8) * bb.sqrt().max(1e-8))
}

/// Pairs of values.
fn both<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)))
}

/// Cosines along the first axis, each changed by `map`, then added or averaged.
fn columns(a: &[f64], b: &[f64], rows: usize, mean: bool, map: impl Fn(f64) -> f64) -> f64 {
    let width = a.len() / rows.max(1);
    let along = |v: &'_ [f64], column: usize| v.iter().skip(column).step_by(width.max(1)).copied().collect::<Vec<_>>();
    let sum: f64 = (0..width).map(|c| map(cosine(along(a, c).into_iter().zip(along(b, c))))).sum();
    if mean { sum / width.max(1) as f64 } else { sum }
}

/// The released code's passes.
fn released_passes(scorer: &Scorer, archs: &[Arch]) -> Result<Pair> {
    let images = scorer.batch["y"].data.len();
    let wanted = Wanted {
        batch: images,
        loss_gradients: true,
        loss_input_gradient: true,
        features: true,
        scaled_logits: true,
        norms: Norms::Bare,
        ..Wanted::default()
    };
    let step = |_: usize, x: f32, sign: f32| (x - EPSILON * sign).clamp(0.0, 1.0);
    let pair = passes(scorer, archs, wanted, true, step)?;
    for look in &pair.looks {
        if let Some((layer, stage)) =
            look.layers.iter().zip(&look.stages).find(|(_, stage)| **stage >= look.rectified.len())
        {
            let why =
                format!("layer {layer} is of stage {stage}, of which the model leaves no feature (Layers::feature)");
            return Err(Error::invalid("croze", why));
        }
    }
    Ok(pair)
}

/// Its terms, or their size-free form.
fn released_terms(scorer: &Scorer, pair: &Pair, mean: bool) -> Vec<Vec<Term>> {
    let images = scorer.batch["y"].data.len();
    let of_network = |(n, look): (usize, &Look)| {
        let feature = |left: &Left, stage: usize| -> Vec<f64> {
            let map = left.get(&format!("feature.{stage}")).map(Vec::as_slice).unwrap_or_default();
            map.iter().map(|&v| f64::from(if look.rectified[stage] { v.max(0.0) } else { v })).collect()
        };
        let alike: Vec<f64> = (0..look.rectified.len())
            .map(|stage| {
                let (a, b) = (feature(&pair.at_moved[n], stage), feature(&pair.at_clean[n], stage));
                columns(&a, &b, images, mean, |c| 1.0 + c)
            })
            .collect();
        let mut terms = vec![];
        for (layer, &stage) in look.layers.iter().zip(&look.stages) {
            let (weight, gradient) = (format!("{layer}.weight"), format!("grad.{layer}"));
            let Some(clean) = pair.at_clean[n].get(&gradient) else { continue };
            let rows = pair.clean[n][&weight].dims[0];
            let [of_clean, of_moved] = [0, 1].map(|which| &pair.scales[which][n]);
            let copies = [&pair.at_moved[n], &pair.between[n]];
            let [Some(moved), Some(at_x)] = copies.map(|left| left.get(&gradient)) else { continue };
            let [moved, at_x] = [moved, at_x].map(|values| of_moved.gradient(layer, values));
            // The pass that moves the images leaves its gradients, to which the last pass adds.
            let sum: Vec<f64> = moved.iter().zip(&at_x).map(|(a, b)| a + b).collect();
            let w = of_clean.weights(layer, &pair.clean[n][&weight].data);
            let w_moved = of_moved.weights(layer, &pair.moved[n][&weight].data);
            let parameters = columns(&w_moved, &w, rows, mean, |c| 1.0 + c);
            let gradients = columns(&sum, &of_clean.gradient(layer, clean), rows, mean, f64::abs);
            let features = alike[stage];
            let term = (parameters * gradients * features).abs();
            terms.push(Term { layer: layer.clone(), feature: Some(stage), parameters, gradients, features, term });
        }
        terms
    };
    pair.looks.par_iter().enumerate().map(of_network).collect()
}

/// The reconstruction's terms.
fn reconstructed(scorer: &Scorer, archs: &[Arch]) -> Result<Vec<Vec<Term>>> {
    let images = scorer.batch["y"].data.len();
    let wanted =
        Wanted { batch: images, loss_gradients: true, loss_input_gradient: true, outputs: true, ..Wanted::default() };
    let step = |channel: usize, x: f32, sign: f32| {
        let [low, high] = scorer.range.get(channel).copied().unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        (x + EPSILON * sign).max(low).min(high)
    };
    let pair = passes(scorer, archs, wanted, false, step)?;
    let of_network = |(n, look): (usize, &Look)| {
        let (clean, moved) = (&pair.at_clean[n], &pair.at_moved[n]);
        let mut terms = vec![];
        for layer in &look.layers {
            let (gradient, output) = (format!("grad.{layer}"), format!("output.{layer}"));
            let (Some(g), Some(g_moved)) = (clean.get(&gradient), moved.get(&gradient)) else { continue };
            let weight = format!("{layer}.weight");
            let stepped = |w: &[f32], g: &[f32]| -> Vec<f64> {
                w.iter().zip(g).map(|(&w, &g)| f64::from(w) - RATE * f64::from(g)).collect()
            };
            let a = stepped(&pair.clean[n][&weight].data, g);
            let b = stepped(&pair.moved[n][&weight].data, g_moved);
            let parameters = cosine(a.into_iter().zip(b));
            let gradients = cosine(both(g, g_moved)).abs();
            let (Some(a), Some(b)) = (clean.get(&output), moved.get(&output)) else { continue };
            let each = (a.len() / images.max(1)).max(1);
            let alike: f64 = a.chunks(each).zip(b.chunks(each)).map(|(a, b)| cosine(both(a, b))).sum();
            let features = alike / images.max(1) as f64;
            let term = (1.0 + features) * (1.0 + parameters) * gradients;
            terms.push(Term { layer: layer.clone(), feature: None, parameters, gradients, features, term });
        }
        terms
    };
    Ok(pair.looks.par_iter().enumerate().map(of_network).collect())
}
