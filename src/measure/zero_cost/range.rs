//! Networks of positive weights, and such moved from them, in the range of `f32`.
//!
//! Without batch norms values grow by some powers of ten in each cell, past `1e38` in deep networks. But they are
//! homogeneous: if a layer's weights and all biases behind it are divided by a power of two, all values behind it are, to
//! the bit, and so are products of weights and their gradients of every layer.
//!
//! [`Scaling`] reads off a graph which tensors must be divided alike, because they are summed, pooled or rectified into each other.
//! Such a class of tensors may be divided by any power of two, if the layers that lead into it make up for the difference; mean
//! gains say by which. A class in front of a batch norm is divided so that the norm's epsilon counts as little as before.

use std::collections::{BTreeMap, HashMap};

use crate::graph::{Graph, Op, TensorId, TermKind};
use crate::nn::bank::Size;
use crate::nn::tensors::Named;

/// Means in front of a norm are left at two to this: their squares are far from the limits of `f32`, their
/// variance far from the norm's epsilon.
const KEPT_BITS: i32 = 14;
/// Nothing is divided below two to minus this: it is nothing beside the rest already, but its gradient is not zero.
const MOST_BITS: i32 = 120;

/// Values are left where they are up to two to this from 1: their squares are in the range of `f32`.
const REACH: f64 = 60.0;
/// No value is larger than about two to this, whatever becomes of the smallest of its class: beyond two to 128 it is lost, and with it the
/// network.
const CEILING: f64 = 100.0;

/// By which powers of two a network is divided.
#[derive(Clone, Debug, Default)]
pub(super) struct Divided {
    /// Its logits.
    pub logits: i32,
    /// Its tensors; those that are not listed stay as they are.
    tensors: BTreeMap<String, i32>,
    /// What flows through it, by number of the tensor.
    maps: Vec<i32>,
}

impl Divided {
    /// The power for a tensor.
    pub fn of(&self, name: &str) -> i32 {
        self.tensors.get(name).copied().unwrap_or(0)
    }

    /// The power for what flows through the network.
    pub fn of_map(&self, map: TensorId) -> i32 {
        self.maps.get(map.0 as usize).copied().unwrap_or(0)
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

/// Where a class of tensors gets its values from, in the order of the graph.
#[derive(Clone, Debug)]
enum Link {
    /// A layer's output: its class, that of its input, its weights and its bias.
    Layer { from: usize, to: usize, weight: String, bias: Option<String>, output: usize, input: usize },
    /// What a norm makes, about 1 before scale and shift.
    Norm { to: usize, output: usize, parts: Vec<String> },
    /// Values that are summed into another.
    Sum { terms: Vec<usize>, output: usize },
}

/// Which tensors of a network are divided alike, and what makes up for it. A norm's coefficients stand for what it makes.
#[derive(Clone, Debug)]
pub(super) struct Scaling {
    links: Vec<Link>,
    /// The class of each tensor.
    class: Vec<usize>,
    /// Classes that stay as they are: images, and what is no multiple of its input.
    fixed: Vec<bool>,
    /// Classes in front of a norm.
    normed: Vec<bool>,
    /// Where classes begin anew, with values near 1: the first layer on images, or the first sum of what a norm makes.
    begins: Vec<Option<usize>>,
    images: usize,
    logits: usize,
}

/// The smallest member of a tensor's class.
fn root(class: &[usize], mut tensor: usize) -> usize {
    while class[tensor] != tensor {
        tensor = class[tensor];
    }
    tensor
}

fn join(class: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(class, a), root(class, b));
    class[a.max(b)] = a.min(b);
}

impl Scaling {
    /// Of a graph that holds nothing but the way from images to logits.
    pub fn of(graph: &Graph, images: TensorId, logits: TensorId) -> Self {
        let at = |id: TensorId| id.0 as usize;
        let count = graph.tensors.len();
        let mut class: Vec<usize> = (0..count).collect();
        for node in &graph.nodes {
            match &node.op {
                Op::Combine { terms, y } => {
                    for term in terms {
                        let from = match term.kind {
                            TermKind::Affine { coefficients } => coefficients,
                            TermKind::HardSwish { coefficients } => coefficients.unwrap_or(term.a),
                            _ => term.a,
                        };
                        join(&mut class, at(from), at(*y));
                    }
                }
                Op::MaxPool { x, y, .. } | Op::GlobalAvgPool { x, y } => join(&mut class, at(*x), at(*y)),
                _ => {}
            }
        }
        let class: Vec<usize> = (0..count).map(|tensor| root(&class, tensor)).collect();
        // A hard swish and a gate's sigmoid are no multiples of multiples of what they see.
        let bent = |term: &crate::graph::Term| match term.kind {
            TermKind::HardSwish { coefficients } => Some(coefficients.unwrap_or(term.a)),
            TermKind::Gated { gates } => Some(gates),
            _ => None,
        };
        let name = |id: TensorId| graph.tensor(id).persistent.as_ref().map(|own| own.name.clone()).unwrap_or_default();
        let (mut links, mut fixed, mut normed) = (vec![], vec![false; count], vec![false; count]);
        let mut begins = vec![None; count];
        fixed[class[at(images)]] = true;
        let mut known: HashMap<String, [usize; 2]> = HashMap::new();
        for node in &graph.nodes {
            match &node.op {
                Op::Conv { x, w, bias, y, .. } => {
                    let (from, to) = (class[at(*x)], class[at(*y)]);
                    // Weights that serve twice cannot make up for two differences.
                    if let Some(other) = known.insert(name(*w), [from, to]) {
                        other.into_iter().chain([from, to]).for_each(|class| fixed[class] = true);
                    }
                    let (input, output) = (at(*x), at(*y));
                    if from == class[at(images)] {
                        begins[to].get_or_insert(output);
                    }
                    links.push(Link::Layer { from, to, weight: name(*w), bias: bias.map(name), output, input });
                }
                Op::BatchNorm { x, gamma, beta, coefficients, .. } => {
                    let output = at(*coefficients);
                    normed[class[at(*x)]] = true;
                    // Without a scale nothing makes up for a difference.
                    fixed[class[output]] |= gamma.is_none();
                    for part in [*gamma, *beta].into_iter().flatten() {
                        if let Some(other) = known.insert(name(part), [class[output]; 2]) {
                            other.into_iter().chain([class[output]]).for_each(|class| fixed[class] = true);
                        }
                    }
                    let parts = [*gamma, *beta].into_iter().flatten().map(name).collect();
                    links.push(Link::Norm { to: class[output], output, parts });
                }
                Op::Combine { terms, y } => {
                    let source = |term: &crate::graph::Term| match term.kind {
                        TermKind::Affine { coefficients } => at(coefficients),
                        TermKind::HardSwish { coefficients: Some(coefficients) } => at(coefficients),
                        _ => at(term.a),
                    };
                    terms.iter().filter_map(bent).for_each(|tensor| fixed[class[at(tensor)]] = true);
                    if terms.iter().any(|term| matches!(term.kind, TermKind::Affine { .. })) {
                        begins[class[at(*y)]].get_or_insert(at(*y));
                    }
                    links.push(Link::Sum { terms: terms.iter().map(source).collect(), output: at(*y) });
                }
                Op::MaxPool { x, y, .. } | Op::GlobalAvgPool { x, y } => {
                    links.push(Link::Sum { terms: vec![at(*x)], output: at(*y) });
                }
                other => {
                    let (reads, writes) = other.operands();
                    reads.into_iter().chain(writes).for_each(|tensor| fixed[class[at(tensor)]] = true);
                }
            }
        }
        Scaling { links, class, fixed, normed, begins, images: at(images), logits: at(logits) }
    }

    /// How to bring the network, with positive weights of these sizes, into the range of `f32`.
    pub fn settle(&self, sizes: &dyn Fn(&str) -> Option<Size>) -> Divided {
        let magnitudes = self.magnitudes(sizes);
        let powers = self.powers(&magnitudes);
        let maps: Vec<i32> = self.class.iter().map(|&class| powers[class]).collect();
        let mut divided = Divided { logits: maps[self.logits], tensors: BTreeMap::new(), maps };
        // What is added at a place without coming from before must be as small as the rest there.
        let follow = |divided: &mut Divided, name: &str, power: i32| {
            let Some(Size { largest, .. }) = sizes(name) else { return };
            let room = if largest > 0.0 { largest.log2() as i32 + MOST_BITS } else { 0 };
            divided.divide(name, power.min(room.max(0)));
        };
        for link in &self.links {
            match link {
                Link::Layer { from, to, weight, bias, .. } => {
                    divided.divide(weight, powers[*to] - powers[*from]);
                    bias.iter().for_each(|name| follow(&mut divided, name, powers[*to]));
                }
                Link::Norm { to, parts, .. } => {
                    parts.iter().for_each(|name| follow(&mut divided, name, powers[*to]));
                }
                Link::Sum { .. } => {}
            }
        }
        divided
    }

    /// Binary logarithms of estimated means of all tensors, for positive images near 1; minus infinity for zeros.
    fn magnitudes(&self, sizes: &dyn Fn(&str) -> Option<Size>) -> Vec<f64> {
        let mut magnitudes = vec![f64::NEG_INFINITY; self.class.len()];
        magnitudes[self.images] = 0.0;
        for link in &self.links {
            match link {
                Link::Layer { weight, input, output, .. } => {
                    let gain = sizes(weight).map_or(0.0, |size| size.gain);
                    magnitudes[*output] = magnitudes[*input] + gain.log2();
                }
                Link::Norm { output, .. } => magnitudes[*output] = 0.0,
                Link::Sum { terms, output } => {
                    let most = terms.iter().map(|&term| magnitudes[term]).fold(f64::NEG_INFINITY, f64::max);
                    if most.is_finite() {
                        let sum: f64 = terms.iter().map(|&term| (magnitudes[term] - most).exp2()).sum();
                        magnitudes[*output] = most + sum.log2();
                    }
                }
            }
        }
        magnitudes
    }

    /// By which powers of two classes are divided. What comes from images or from a norm begins at 1; other classes are divided
    /// as what they come from, so that layers stay as they are while values are in reach.
    fn powers(&self, magnitudes: &[f64]) -> Vec<i32> {
        let mut powers: Vec<Option<i32>> = self.fixed.iter().map(|&fixed| fixed.then_some(0)).collect();
        // The power of the class that the first layer into a class reads from; none of a class that begins anew.
        let mut before: Vec<Option<i32>> = vec![None; self.class.len()];
        let near_one = |magnitude: f64| if magnitude.is_finite() { magnitude.round() as i32 } else { 0 };
        // A class holds what its first layer reads and what later ones add, which may be larger by far.
        let mut largest = vec![f64::NEG_INFINITY; self.class.len()];
        for (&class, &magnitude) in self.class.iter().zip(magnitudes) {
            largest[class] = largest[class].max(magnitude);
        }
        let at_least = |class: usize| near_one(largest[class] - CEILING);
        for link in &self.links {
            let Link::Layer { from, to, input, output, .. } = link else { continue };
            let (seen, made) = (magnitudes[*input], magnitudes[*output]);
            let power = *powers[*from].get_or_insert_with(|| {
                let usual = match (self.begins[*from], before[*from]) {
                    (Some(first), _) => near_one(magnitudes[first]),
                    (None, Some(before)) if !seen.is_finite() || (seen - f64::from(before)).abs() <= REACH => before,
                    (None, _) => near_one(seen),
                };
                if largest[*from] - f64::from(usual) > CEILING { at_least(*from) } else { usual }
            });
            if self.normed[*to] && powers[*to].is_none() {
                let above = (made - f64::from(power)).max(0.0) as i32;
                powers[*to] = Some(power + (above - KEPT_BITS).clamp(0, MOST_BITS));
            }
            before[*to].get_or_insert(power);
        }
        // What no layer reads: logits.
        for (&class, &magnitude) in self.class.iter().zip(magnitudes) {
            powers[class].get_or_insert(near_one(magnitude));
        }
        powers.into_iter().map(Option::unwrap_or_default).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Geometry, Init, Role, Shape, Statistics, Value, Window};
    use crate::nn::{Layers, Norms};
    use crate::reference::{self, Memory};

    /// A network with a skip, two ways that are summed, pools, biases and a norm that stays; its weights are huge.
    fn network(layers: &mut Layers, x: TensorId) -> TensorId {
        let three = Geometry::square(3, 1, 1);
        let one = Geometry::square(1, 1, 0);
        layers.norms = Norms::Bare;
        let stem = layers.conv("stem", x, 4, three).unwrap();
        let a = layers.conv_with("a", Value::from(stem), 4, three, true).unwrap();
        let relu = layers.relu(Value::from(a));
        let b = layers.conv_with("b", relu, 4, one, true).unwrap();
        let shape = layers.builder.shape(stem);
        let terms = [stem, b].map(|tensor| layers.builder.term(tensor.into())).to_vec();
        let node = layers.builder.sum(shape, terms);
        layers.keeps_norms = true;
        let reduced = layers.relu_conv_norm("kept", node.into(), 8, Geometry::square(3, 2, 1)).unwrap();
        layers.keeps_norms = false;
        let window = Window { kernel: 2, stride: 2, padding: 0, count_include_pad: false };
        let halved = layers.builder.max_pool("pool", Value::from(node), window).unwrap();
        let short = layers.conv("short", halved, 8, one).unwrap();
        let shape = layers.builder.shape(short);
        let terms = vec![layers.builder.term(short.into()), layers.builder.term(reduced)];
        let last = layers.builder.sum(shape, terms);
        let pooled = layers.builder.global_avg_pool(last.into());
        layers.linear("top", pooled, 3).unwrap()
    }

    /// The network's values in f64, on images near 1.
    fn run(graph: &Graph, x: TensorId, weights: &Named) -> Memory {
        let mut memory = Memory::new(graph);
        for (id, info) in graph.persistent(Role::Weights) {
            let values = crate::nn::tensors::to_logical(graph.shape(id), &weights[&info.name].data);
            memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
        }
        memory.set(x, (0..graph.shape(x).len()).map(|i| 0.1 + (i % 7) as f64 / 7.0).collect()).unwrap();
        reference::run(graph, &[], &mut memory).unwrap();
        memory
    }

    #[test]
    fn division_keeps_logits_and_brings_values_into_range() {
        let mut layers = Layers::new(Statistics::Batch { update: false }).unwrap();
        let (x, _) = layers.batch(2, [6, 6, 3]).unwrap();
        let logits = network(&mut layers, x);
        let graph = layers.builder.finish();
        let scaling = Scaling::of(&graph, x, logits);
        let contents = crate::graph::store::Contents::of(&graph, &[Role::Weights]).unwrap();
        let mut weights = crate::nn::tensors::fresh(&contents, 3);
        for (name, values) in &mut weights {
            // The norm's scale and shift stay as small as they are beside the rest.
            let grown = if name.starts_with("kept.op.2") { 1.0 } else { 1e9 };
            values.data.iter_mut().for_each(|w| *w = w.abs() * grown);
        }
        let divided = scaling.settle(&|name| weights.get(name).map(Size::of));
        let before = run(&graph, x, &weights);
        divided.apply(&mut weights);
        let after = run(&graph, x, &weights);
        let whole = before.get(logits).iter().zip(after.get(logits));
        let factor = 2f64.powi(divided.logits);
        assert!(divided.logits > 60, "{divided:?}");
        for (before, after) in whole {
            // The norm's epsilon and its scale are what they were, or nothing beside the rest.
            assert!((factor * after / before - 1.0).abs() < 1e-6, "{before} {after}");
        }
        for id in graph.ids().filter(|id| graph.tensor(*id).persistent.is_none()) {
            let largest = after.get(id).iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            // A skip beside two layers of such gains: the class spans more than a hundred bits without.
            assert!(largest < 2f64.powi(64), "{id:?}: {largest}");
        }
    }

    /// A cell's two inputs are of one class, since its nodes sum what comes of both; the one before last may be smaller by more powers of two
    /// than f32 has. What the cell reads of it first must not decide alone.
    #[test]
    fn nothing_of_a_class_is_too_large() {
        let mut layers = Layers::new(Statistics::Batch { update: false }).unwrap();
        layers.norms = Norms::Bare;
        let one = Geometry::square(1, 1, 0);
        let (x, _) = layers.batch(2, [2, 2, 3]).unwrap();
        let stem = layers.conv("stem", x, 4, one).unwrap();
        let mut far = stem;
        for number in 0..4 {
            far = layers.conv(&format!("far.{number}"), far, 4, one).unwrap();
        }
        let near = layers.conv("near", stem, 4, one).unwrap();
        let first = layers.conv("first", near, 4, one).unwrap();
        let terms = [first, near, far].map(|tensor| layers.builder.term(tensor.into())).to_vec();
        let node = layers.builder.sum(layers.builder.shape(near), terms);
        let logits = layers.conv("last", node, 3, one).unwrap();
        let graph = layers.builder.finish();
        let contents = crate::graph::store::Contents::of(&graph, &[Role::Weights]).unwrap();
        let mut weights = crate::nn::tensors::fresh(&contents, 3);
        for (name, values) in &mut weights {
            let grown = if name.starts_with("far") { 1e12 } else { 1.0 };
            values.data.iter_mut().for_each(|w| *w = w.abs() * grown);
        }
        let before = run(&graph, x, &weights);
        assert!(before.get(node)[0] > 2f64.powi(150) * before.get(near)[0]);
        let divided = Scaling::of(&graph, x, logits).settle(&|name| weights.get(name).map(Size::of));
        divided.apply(&mut weights);
        assert!(
            weights.values().flat_map(|values| &values.data).all(|w| w.is_finite() && w.is_normal()),
            "{divided:?}"
        );
        let after = run(&graph, x, &weights);
        for (before, after) in before.get(logits).iter().zip(after.get(logits)) {
            assert!((2f64.powi(divided.logits) * after / before - 1.0).abs() < 1e-6, "{before} {after}");
        }
        for id in graph.ids().filter(|id| graph.tensor(*id).persistent.is_none()) {
            let values = after.get(id).iter().filter(|value| **value != 0.0);
            assert!(values.clone().count() > 0 && values.clone().all(|v| (-120.0..120.0).contains(&v.abs().log2())));
        }
    }

    #[test]
    fn what_is_no_multiple_of_its_input_stays() {
        let mut b = Builder::new();
        let zero = Init::Constant(0.0);
        let x = b.persistent(Role::Batch, "x", Shape::map(1, 4, 4, 4), zero, &[1, 4, 4, 4]).unwrap();
        let w =
            b.persistent(Role::Weights, "w", Shape::Filter { r: 1, s: 1, c: 4, k: 4, groups: 1 }, zero, &[4, 4, 1, 1]);
        let (w, one) = (w.unwrap(), Geometry::square(1, 1, 0));
        // The same weights twice, behind a layer of its own that nothing can make up for.
        let stem = b.persistent(Role::Weights, "stem", b.shape(w), zero, &[4, 4, 1, 1]).unwrap();
        let begin = b.conv("stem", Value::from(x), stem, None, one).unwrap();
        let first = b.conv("one", Value::from(begin), w, None, one).unwrap();
        let second = b.conv("two", Value::from(first), w, None, one).unwrap();
        let scaling = Scaling::of(&b.finish(), x, second);
        let divided = scaling.settle(&|_| Some(Size { gain: 1e20, largest: 1e20, norm: 1e20 }));
        assert_eq!((divided.logits, divided.of("w"), divided.of("stem")), (0, 0, 0));
    }
}
