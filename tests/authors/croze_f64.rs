//! CRoZe's forms in f32 against their formulas written out again in f64, on gradients and features of the reference
//! interpreter: small networks of both kinds, with nodes that nothing reads and convolutions that read nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use altiplano::graph::{Op, Role, Shape, TensorId};
use altiplano::measure::zero_cost::croze;
use altiplano::measure::zero_cost::passes::{Look, Wanted};
use altiplano::measure::zero_cost::score::Scorer;
use altiplano::nn::Norms;
use altiplano::nn::bank::Bank;
use altiplano::nn::nas_bench_201::{Form, Network, family};
use altiplano::nn::tensors::{Named, Values};
use altiplano::philox::Stream;
use altiplano::reference::{self, Memory};
use altiplano::space::nas_bench_201::{Cell, Macro};

use crate::common;

const SIZES: Macro = Macro { channels: 6, cells: 2, in_channels: 3, height: 8, width: 8, classes: 7 };
const IMAGES: usize = 6;
/// What normalised pixels can be; many of the images' are at an end.
const RANGE: [[f32; 2]; 3] = [[-1.5, 1.25], [-1.0, 1.75], [-0.5, 2.0]];
/// Of the paper: length of the step away from the weights, of the one away from the images, and rate of the step of eq. 7.
const GAMMA: f64 = 2.0;
const EPSILON: f64 = 0.01;
const RATE: f64 = 1e-3;

/// What f32 may differ by from f64 in `P`, `G` and `Z`, each relative to the most that it can be, and in scores. Seen are 3e-7,
/// 3e-6, 8e-7 and 2e-6.
const ROUNDING: f64 = 1e-5;
/// A rectifier that f32 finds on its other side shows as 1e-3, and so does a pixel that moves to its other side. So networks
/// are taken whose inputs of rectifiers and whose pixels' gradients in f64 all keep away from zero by this share of their
/// deviation, several times what rounding comes to in networks as deep as these.
const APART: f64 = 3e-6;

/// What all passes leave.
fn wanted() -> Wanted {
    Wanted { batch: IMAGES, loss_gradients: true, loss_input_gradient: true, codes: true, ..Wanted::default() }
}

/// A layer's `P`, `G`, `Z` and the most that each can be.
struct Expected {
    values: [f64; 3],
    most: [f64; 3],
    term: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// With PyTorch's lower bound on norms.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (norm(a).max(1e-8) * norm(b).max(1e-8))
}

/// One network in the interpreter; tensors by name.
struct Exact {
    look: Rc<Look>,
    memory: Memory,
}

impl Exact {
    fn new(network: &Network, wanted: Wanted, weights: &Named, batch: &Named) -> Self {
        let look = Look::new(network, wanted).unwrap();
        let memory = look.memory(weights, batch).unwrap();
        Exact { look: Rc::new(look), memory }
    }

    fn persistent(&self, group: Role) -> BTreeMap<String, TensorId> {
        self.look.graph().persistent(group).map(|(id, info)| (info.name.clone(), id)).collect()
    }

    fn weight(&self, layer: &str) -> TensorId {
        self.persistent(Role::Weights)[&format!("{layer}.weight")]
    }

    fn images(&self) -> TensorId {
        self.persistent(Role::Batch)["x"]
    }

    /// What stands under this name after a pass; none if nothing flows there.
    fn left(&self, name: &str) -> Option<&[f64]> {
        Some(self.memory.get(self.look.graph().probe(name)?))
    }

    fn set(&mut self, tensor: TensorId, change: impl Fn(usize, f64) -> f64) {
        let changed = self.memory.get(tensor).iter().enumerate().map(|(i, &v)| change(i, v)).collect();
        self.memory.set(tensor, changed).unwrap();
    }

    /// The same network after a pass.
    fn run(&self, prepare: impl Fn(&mut Exact)) -> Exact {
        let mut next = Exact { look: self.look.clone(), memory: self.memory.clone() };
        prepare(&mut next);
        reference::run(next.look.graph(), &[], &mut next.memory).unwrap();
        next
    }

    /// Eq. 3: each layer's weights moved along their gradient by `GAMMA` times their norm.
    fn ascend(&mut self) {
        for layer in self.look.layers.clone() {
            let Some(g) = self.left(&format!("grad.{layer}")).map(<[f64]>::to_vec) else { continue };
            let weight = self.weight(&layer);
            let length = GAMMA * norm(self.memory.get(weight));
            if norm(&g) > 0.0 {
                self.set(weight, |i, w| w + length * g[i] / norm(&g));
            }
        }
    }

    /// Eq. 4: images moved by the sign of their gradient, `towards` more loss or less.
    fn move_images(&mut self, towards: f64, range: impl Fn(usize) -> [f64; 2]) {
        let g = self.left("input").unwrap().to_vec();
        let sign = |g: f64| if g == 0.0 { 0.0 } else { g.signum() };
        let x = self.images();
        self.set(x, |i, x| {
            let [low, high] = range(i % SIZES.in_channels);
            (x + towards * EPSILON * sign(g[i])).clamp(low, high)
        });
    }
}

/// The smallest value that is not zero, in shares of the deviation.
fn nearest(values: &[f64]) -> f64 {
    let deviation = norm(values) / (values.len() as f64).sqrt();
    // What is constant comes out of norms as zero but for the last places.
    values.iter().map(|v| v.abs()).filter(|v| *v > 1e-12).fold(f64::INFINITY, f64::min) / deviation
}

/// Whether rounding decides nothing: neither on which side a rectifier is nor where a pixel moves.
fn decided(clean: &Exact, between: &Exact, moved: &Exact) -> bool {
    let rectifiers = |e: &Exact| -> bool {
        let inputs =
            e.look.graph().nodes.iter().filter_map(|n| if let Op::SignCodes { x, .. } = n.op { Some(x) } else { None });
        inputs.map(|x| nearest(e.memory.get(x))).all(|n| n.is_nan() || n > APART)
    };
    [clean, between, moved].into_iter().all(rectifiers) && nearest(between.left("input").unwrap()) > APART
}

/// The reconstruction of the paper's equations, by layer; none if rounding decides something.
fn paper(clean: &Exact) -> Option<BTreeMap<String, Expected>> {
    let clean = clean.run(|_| {});
    let between = clean.run(Exact::ascend);
    let moved = between.run(|e| e.move_images(1.0, |channel| RANGE[channel].map(f64::from)));
    let layer = |layer: &String| -> Option<(String, Expected)> {
        let (gradient, output) = (format!("grad.{layer}"), format!("output.{layer}"));
        let [g, g_r] = [clean.left(&gradient)?, moved.left(&gradient)?];
        let stepped = |e: &Exact, g: &[f64]| -> Vec<f64> {
            e.memory.get(e.weight(layer)).iter().zip(g).map(|(w, g)| w - RATE * g).collect()
        };
        let p = cosine(&stepped(&clean, g), &stepped(&moved, g_r));
        let q = cosine(g, g_r).abs();
        let [a, b] = [clean.left(&output)?, moved.left(&output)?];
        let each = a.len() / IMAGES;
        let z = a.chunks(each).zip(b.chunks(each)).map(|(a, b)| cosine(a, b)).sum::<f64>() / IMAGES as f64;
        Some((layer.clone(), Expected { values: [p, q, z], most: [1.0; 3], term: (1.0 + z) * (1.0 + p) * q }))
    };
    decided(&clean, &between, &moved).then(|| clean.look.layers.iter().filter_map(layer).collect())
}

/// The released code's passes: the network, its copy, and the copy on moved images; none if rounding decides something.
fn released_passes(start: &Exact) -> Option<[Exact; 3]> {
    let clean = start.run(|e| {
        for id in e.persistent(Role::Weights).into_values() {
            e.set(id, |_, w| w.abs());
        }
    });
    let between = clean.run(Exact::ascend);
    let moved = between.run(|e| e.move_images(-1.0, |_| [0.0, 1.0]));
    decided(&clean, &between, &moved).then_some([clean, between, moved])
}

/// Sums of cosines along the first axis of PyTorch's tensors; `mean` divides by their number.
fn released([clean, between, moved]: &[Exact; 3], form: Form, mean: bool) -> BTreeMap<String, Expected> {
    let count = |number: usize| if mean { number as f64 } else { 1.0 };
    let feature = |e: &Exact, stage: usize| -> Vec<f64> {
        // The head's rectifier overwrites the fourth.
        let rectified = |v: &f64| if stage == 3 { v.max(0.0) } else { *v };
        e.left(&format!("feature.{stage}")).unwrap().iter().map(rectified).collect()
    };
    // Features have images first.
    let alike = |stage: usize| -> (f64, f64) {
        let [a, b] = [feature(moved, stage), feature(clean, stage)];
        let each = a.len() / IMAGES;
        let along = |v: &[f64], at: usize| -> Vec<f64> { (0..IMAGES).map(|image| v[image * each + at]).collect() };
        let sum: f64 = (0..each).map(|at| 1.0 + cosine(&along(&a, at), &along(&b, at))).sum();
        (sum / count(each), 2.0 * each as f64 / count(each))
    };
    let layer = |layer: &String| -> Option<(String, Expected)> {
        let gradient = format!("grad.{layer}");
        let g = clean.left(&gradient)?;
        let weight = clean.weight(layer);
        // PyTorch's first axis, output channels, is the last one here.
        let Shape::Filter { r, s, c, k, .. } = clean.look.graph().shape(weight) else { panic!("{layer} has a filter") };
        let each = r * s * c;
        let g_r: Vec<f64> = between
            .left(&gradient)?
            .iter()
            .zip(moved.left(&gradient)?)
            .map(|(at_x, at_moved)| at_x + at_moved)
            .collect();
        let pairs = |a: &[f64], b: &[f64], of: fn(f64) -> f64| -> f64 {
            a.chunks(k).zip(b.chunks(k)).map(|(a, b)| of(cosine(a, b))).sum::<f64>() / count(each)
        };
        let p = pairs(moved.memory.get(weight), clean.memory.get(weight), |cos| 1.0 + cos);
        let q = pairs(&g_r, g, f64::abs);
        let (z, most_z) = alike(stage(form, layer));
        let size = each as f64 / count(each);
        let expected = Expected { values: [p, q, z], most: [2.0 * size, size, most_z], term: (p * q * z).abs() };
        Some((layer.clone(), expected))
    };
    clean.look.layers.iter().filter_map(layer).collect()
}

/// How many cells have begun, in units of a stage, and the fifth feature for the classifier.
fn stage(form: Form, layer: &str) -> usize {
    let number = |text: &str| text.parse::<usize>().unwrap();
    let parts: Vec<&str> = layer.split('.').collect();
    let begun = match (form, parts[0]) {
        (_, "stem") => 0,
        (_, "classifier" | "top") => return 4,
        // Each stage's cells and the reduction behind them are counted through.
        (Form::Tiny, _) => match (number(parts[1]) / (SIZES.cells + 1), number(parts[1]) % (SIZES.cells + 1)) {
            (stage, place) if place == SIZES.cells => (stage + 1) * SIZES.cells,
            (stage, place) => stage * SIZES.cells + place + 1,
        },
        (_, name) => match name.strip_prefix("stack_cell") {
            Some(stage) => (number(stage) - 1) * SIZES.cells + number(parts[1]) + 1,
            None => number(name.strip_prefix("reduction").unwrap()) * SIZES.cells,
        },
    };
    begun / SIZES.cells
}

fn batch() -> Named {
    let mut stream = Stream::new(17, 1, 0);
    let area = SIZES.height * SIZES.width;
    let pixel = |i: usize| -> f32 {
        let [low, high] = RANGE[i / area % 3];
        (1.2 * stream.normal() as f32).clamp(low, high)
    };
    let x = (0..IMAGES * 3 * area).map(pixel).collect();
    Named::from([
        ("x".to_owned(), Values { dims: vec![IMAGES, 3, SIZES.height, SIZES.width], data: x }),
        (
            "y".to_owned(),
            Values { dims: vec![IMAGES], data: (0..IMAGES).map(|i| (i * 3 % SIZES.classes) as f32).collect() },
        ),
    ])
}

/// Weights whose biases and norms do something.
fn weights(look: &Look, seed: u64) -> Named {
    let mut named = look.fresh(seed).unwrap();
    for (number, (name, values)) in named.iter_mut().enumerate().filter(|(_, (_, values))| values.dims.len() == 1) {
        let mut stream = Stream::new(seed, 2, number as u64);
        let around = if name.ends_with(".weight") { 1.0 } else { 0.0 };
        values.data.iter_mut().for_each(|v| *v = around + 0.2 * stream.normal() as f32);
    }
    named
}

/// What the three forms should be for these weights; none if rounding decides something.
fn expected(network: &Network, weights: &Named, batch: &Named) -> Option<[BTreeMap<String, Expected>; 3]> {
    let form = network.form;
    let exact = |wanted| Exact::new(network, wanted, weights, batch);
    let outputs = paper(&exact(Wanted { outputs: true, ..wanted() }))?;
    let passes = released_passes(&exact(Wanted { features: true, norms: Norms::Bare, ..wanted() }))?;
    let [sums, means] = [false, true].map(|mean| released(&passes, form, mean));
    Some([outputs, sums, means])
}

/// All operations; only 3x3; a node that nothing reads; convolutions of nothing. For both forms, seeds of weights of which
/// rounding decides nothing.
const CASES: [(&str, [u64; 2]); 4] =
    [("421302", [1, 27]), ("333333", [0, 37]), ("330103", [0, 28]), ("003331", [0, 4])];

#[test]
fn every_form_is_its_formulas_in_f64() {
    let batch = batch();
    let mut worst = [0.0f64; 4];
    for form in [Form::Tiny, Form::ZeroCostNas] {
        for (arch, seeds) in CASES {
            let cell: Cell = arch.parse().unwrap();
            let network = Network { cell, sizes: SIZES, form };
            let weights = weights(&Look::new(&network, wanted()).unwrap(), seeds[usize::from(form != Form::Tiny)]);
            let expected = expected(&network, &weights, &batch);
            let expected = expected.unwrap_or_else(|| panic!("{form:?} {arch}: a value near zero; take another seed"));
            let scorer = Scorer {
                gpu: common::gpu().clone(),
                preset: common::preset(),
                family: family(form, &SIZES).unwrap(),
                seed: 0,
                batch: batch.clone(),
                weights: Bank::given(weights),
                range: RANGE.to_vec(),
                draws: vec![],
                zen: None,
            };
            let scores = scorer.score(&[cell.into()], &croze::FORMS).unwrap().remove(0);
            let terms = croze::terms(&scorer, &[cell.into()], &croze::FORMS).unwrap();
            assert_eq!(terms.len(), 3);
            for ((proxy, terms), want) in terms.iter().zip(&expected) {
                let case = format!("{form:?} {arch} {}", proxy.name());
                assert_eq!(terms[0].len(), want.len(), "{case}: {:?}", want.keys());
                for term in &terms[0] {
                    let expected = &want[&term.layer];
                    for (i, got) in [term.parameters, term.gradients, term.features].into_iter().enumerate() {
                        let (value, most, what) = (expected.values[i], expected.most[i], ["P", "G", "Z"][i]);
                        let error = (got - value).abs() / most;
                        worst[i] = worst[i].max(error);
                        assert!(error <= ROUNDING, "{case} {} {what}: {got} instead of {value}, of {most}", term.layer);
                    }
                }
                let score: f64 = want.values().map(|e| e.term).sum();
                let error = (scores[proxy] / score - 1.0).abs();
                println!("{case}: {} instead of {score} ({error:.1e})", scores[proxy]);
                worst[3] = worst[3].max(error);
                assert!(score > 0.0 && error <= ROUNDING, "{case}: {} instead of {score}", scores[proxy]);
            }
        }
    }
    println!("largest errors of P, G, Z and the score: {:?}", worst.map(|e| format!("{e:.1e}")));
}
