//! Batch norm, losses, norms and optimisers.

use altiplano::graph::{Guard, NORMALS, Noise, Op, Shape, Statistics, TensorId, hyper};
use altiplano::kernels::Preset;
use altiplano::philox::NORMAL_TABLE;
use altiplano::reference::Memory;

use super::harness::{Bound, Case, Fill, HALF_ULP, itself};

const BATCH: Statistics = Statistics::Batch { update: false };
const MOVING: Statistics = Statistics::Batch { update: true };

/// With more workgroups than a row of a dispatch has.
pub fn folded() -> [Case; 2] {
    let shape = Shape::map(2, 1, 1, 262_150);
    [batch_norm("folded", shape, Fill::Numbers, BATCH, false), batch_norm_grad("folded", shape, BATCH, true)]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in [
        Shape::map(2, 5, 7, 3),
        Shape::map(1, 3, 41, 6),
        Shape::map(3, 21, 37, 5),
        Shape::map(1, 1, 2, 13),
        Shape::map(9, 16, 16, 4),
    ]
    .into_iter()
    .enumerate()
    {
        for (statistics, affine) in [(BATCH, true), (MOVING, true), (MOVING, false), (Statistics::Running, true)] {
            cases.push(batch_norm(&format!("{i} {statistics:?} {affine}"), shape, Fill::Numbers, statistics, affine));
        }
        for (statistics, affine) in [(BATCH, true), (BATCH, false), (Statistics::Running, true)] {
            cases.push(batch_norm_grad(&format!("{i} {statistics:?} {affine}"), shape, statistics, affine));
        }
    }
    // Positions and blocks that cut rows, strips, runs and chunks of lanes.
    for (n, h, w) in [(1, 1, 1), (1, 1, 41), (5, 5, 41), (3, 25, 40)] {
        for c in [3, 11, 18, 67] {
            let (name, shape) = (format!("cut {n}x{h}x{w}x{c}"), Shape::map(n, h, w, c));
            cases.push(batch_norm(&name, shape, Fill::Numbers, MOVING, true));
            cases.push(batch_norm_grad(&name, shape, BATCH, true));
        }
    }
    // With 16 lanes, more chunks than those that merge them load at once.
    let many = Shape::map(2, 41, 41, 67);
    cases.push(batch_norm("many chunks", many, Fill::Around(3.0), MOVING, true));
    cases.push(batch_norm_grad("many chunks", many, BATCH, true));
    for (shape, middle) in [((2, 9, 11, 5), 1e3), ((5, 5, 41, 18), 2e3), ((3, 25, 40, 67), -1e3)] {
        let (n, h, w, c) = shape;
        let name = format!("around {middle} {n}x{h}x{w}");
        cases.push(batch_norm(&name, Shape::map(n, h, w, c), Fill::Around(middle), MOVING, true));
    }
    let constant = [(1, 7, 9, 5), (5, 21, 23, 6), (1, 1, 41, 18), (5, 5, 41, 11), (3, 25, 40, 67)];
    cases.extend(constant.map(|(n, h, w, c)| constant_channels(Shape::map(n, h, w, c))));
    cases.push(batch_norm("a single position", Shape::map(1, 1, 1, 6), Fill::Numbers, BATCH, true));
    for (images, classes) in [(1, 3), (13, 10), (41, 7), (5, 101)] {
        for (smoothing, gradient) in [(0.0, true), (0.1, true), (0.1, false)] {
            cases.push(cross_entropy(images, classes, smoothing, gradient, false));
        }
        cases.push(cross_entropy(images, classes, 0.0, true, true));
    }
    cases.extend([(2, 5, 7, 3), (1, 3, 41, 6), (1, 1, 2, 13), (9, 16, 16, 4)].map(batch_norm_double_grad));
    cases.extend([(1, 3), (13, 10), (41, 7), (5, 101)].map(cross_entropy_hessian));
    cases.push(scaled_cross_entropy());
    cases.extend([1, 8, 41].map(tally));
    cases.push(wild_tally());
    for adaptive in [false, true] {
        cases.push(global_norm("small", &[Shape::vector(5)], adaptive));
        let filter = Shape::Filter { r: 3, s: 3, c: 13, k: 41, groups: 1 };
        cases.push(global_norm("several", &[filter, Shape::vector(7), Shape::map(1, 41, 41, 6)], adaptive));
        cases.extend([Shape::vector(3), filter].map(|shape| ascend(shape, adaptive)));
    }
    cases.push(guarded_norm());
    cases.push(global_norm("long", &[Shape::map(1, 271, 283, 3)], false));
    for yes in [false, true] {
        cases.push(norm_side_by_side(yes));
        cases.push(ascend_side_by_side(yes));
        cases.extend([None, Some(1e6)].map(|norm| sgd_side_by_side(yes, norm)));
    }
    for shape in [Shape::vector(7), Shape::Filter { r: 3, s: 3, c: 5, k: 6, groups: 1 }] {
        for nesterov in [false, true] {
            cases.extend([None, Some(1.0), Some(1e6)].map(|clip| sgd(shape, nesterov, clip)));
        }
    }
    for shape in [
        Shape::Filter { r: 3, s: 3, c: 5, k: 6, groups: 1 },
        Shape::Filter { r: 3, s: 3, c: 1, k: 7, groups: 7 },
        Shape::vector(41),
        Shape::map(2, 3, 5, 3),
    ] {
        cases.extend([Noise::Additive, Noise::Multiplicative].map(|noise| perturb(shape, noise)));
    }
    cases.extend([1, 41, 96, 130].map(drop_path));
    cases
}

/// The host's numbers; rates that integers multiply are powers of two.
fn host(case: &mut Case) -> TensorId {
    let mut words = vec![0; 12];
    let mut meaning = vec![0.0; 12];
    for (at, value) in [
        (hyper::RATE, 0.5f32),
        (hyper::MOMENTUM, 0.25),
        (hyper::DECAY, 0.125),
        (hyper::STATISTICS_MOMENTUM, 0.25),
        (hyper::RHO, 0.5),
        (hyper::CLIP, 3.0),
        (hyper::SIGMA, 0.25),
        (hyper::DROP_SCALE, 1.25),
    ] {
        words[at] = value.to_bits();
        meaning[at] = f64::from(value);
    }
    for (at, value) in [
        (hyper::SEED_LOW, 0x1234_5678),
        (hyper::SEED_HIGH, 0x9ABC_DEF0),
        (hyper::DRAW, 3),
        (hyper::DROP_BELOW, 0x3333_3333),
    ] {
        words[at] = value;
        meaning[at] = f64::from(value);
    }
    let tensor = case.input(hyper::SHAPE, Fill::Words(words, meaning));
    case.sized(|index, _, value| if index == hyper::RATE { -value } else { value });
    tensor
}

/// Mean, variance and what follows from them are sums over `positions`: `8 + 4 sqrt(positions)` half ulps of the result,
/// of the values' mean magnitude for the mean, and of the old statistics. The variance has squares of small differences
/// only, whatever the mean, and a square root halves its error.
fn batch_norm(name: &str, shape: Shape, fill: Fill, statistics: Statistics, affine: bool) -> Case {
    let [n, h, w, c] = shape.nhwc();
    let positions = n * h * w;
    let factor = (8.0 + 4.0 * (positions as f64).sqrt()) * HALF_ULP;
    let mut case = Case::new(format!("batch norm {name}"));
    let x = case.shared(shape, fill);
    let gamma = affine.then(|| case.input(Shape::vector(c), Fill::Numbers));
    let beta = affine.then(|| case.input(Shape::vector(c), Fill::Numbers));
    let level = move |sizes: &Memory, channel: usize| {
        let values = sizes.get(x).iter().skip(channel).step_by(c);
        values.sum::<f64>() / positions as f64
    };
    let running = if statistics == MOVING {
        let bound = move |of: fn(&Memory, TensorId) -> f64, own: TensorId| {
            move |want: &Memory, sizes: &Memory| -> Vec<f64> {
                let old = of(sizes, own);
                let one = |(channel, want): (usize, &f64)| factor * (want.abs() + old + level(sizes, channel));
                want.get(own).iter().enumerate().map(one).collect()
            }
        };
        // Old values are at most about 5 in size.
        let next = |case: &mut Case, fill| {
            let tensor = TensorId(case.builder().graph().tensors.len() as u32 + 1);
            case.moved(Shape::vector(c), fill, Bound::Of(Box::new(bound(|_, _| 5.0, tensor))))
        };
        Some((next(&mut case, Fill::Numbers), next(&mut case, Fill::Positive)))
    } else if statistics == Statistics::Running {
        Some((case.input(Shape::vector(c), Fill::Numbers), case.input(Shape::vector(c), Fill::Positive)))
    } else {
        None
    };
    let hyper = (statistics == MOVING).then(|| host(&mut case));
    let own = TensorId(case.builder().graph().tensors.len() as u32 + 1);
    let bound = move |want: &Memory, sizes: &Memory| -> Vec<f64> {
        let mean = |i: usize| if i / c == 2 { level(sizes, i % c) } else { 0.0 };
        want.get(own).iter().enumerate().map(|(i, v)| factor * (v.abs() + mean(i))).collect()
    };
    let coefficients = case.output(Shape::Vectors { rows: 4, c }, Bound::Of(Box::new(bound)));
    assert_eq!(coefficients, own);
    case.unpadded();
    case.push(Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon: 1e-5, statistics });
    case.inexact()
}

/// Channels that are constant, as behind a convolution of nothing: the mean is that constant to the bit, though no sum of its
/// copies is exact. Norms magnify what is left of it by 1 / sqrt(epsilon).
fn constant_channels(shape: Shape) -> Case {
    let [n, h, w, c] = shape.nhwc();
    let mut case = Case::new(format!("batch norm constant {n}x{h}x{w}"));
    let values = (0..n * h * w * c).map(|i| 0.1 + (i % c) as f32 * 0.7).collect();
    let x = case.shared(shape, Fill::Values(values));
    let bound = move |want: &Memory, _: &Memory| -> Vec<f64> {
        let own = want.get(TensorId(x.0 + 2));
        own.iter().enumerate().map(|(i, v)| if i / c == 2 { 1e-9 } else { 8.0 * HALF_ULP * v.abs() }).collect()
    };
    let coefficients = case.output(Shape::Vectors { rows: 4, c }, Bound::Of(Box::new(bound)));
    assert_eq!(coefficients, TensorId(x.0 + 2));
    case.unpadded();
    case.push(Op::BatchNorm {
        x,
        gamma: None,
        beta: None,
        running: None,
        hyper: None,
        coefficients,
        epsilon: 1e-5,
        statistics: BATCH,
    });
    case.inexact()
}

/// Sums over all positions; every factor of a product is counted with its magnitude.
fn batch_norm_grad(name: &str, shape: Shape, statistics: Statistics, affine: bool) -> Case {
    let [n, h, w, c] = shape.nhwc();
    let length = n * h * w + 8;
    let mut case = Case::new(format!("batch norm's gradient {name}"));
    let dy = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    let coefficients = case.input(Shape::Vectors { rows: 4, c }, Fill::Numbers);
    case.sized(|index, channels, value| if index / channels == 2 { -value.abs() } else { value.abs() });
    let dgamma = affine.then(|| case.output(Shape::vector(c), Bound::Sum(length)));
    let dbeta = affine.then(|| case.output(Shape::vector(c), Bound::Sum(length)));
    let grad_coefficients = case.output(Shape::Vectors { rows: 4, c }, Bound::Sum(length));
    case.unpadded();
    case.push(Op::BatchNormGrad { dy, x, coefficients, dgamma, dbeta, grad_coefficients, statistics });
    case.inexact().dense(if statistics == Statistics::Running { 0.49 } else { 0.5 })
}

/// `exp` may err by `3 + 2 |x|` ulps, its sum by a few more; the loss carries that of the sum's logarithm and the
/// rounding of the logits. Gradients are quotients of `exp` over images. What a teacher says is such a quotient too.
fn cross_entropy(images: usize, classes: usize, smoothing: f32, gradient: bool, taught: bool) -> Case {
    let shape = Shape::map(images, 1, 1, classes);
    let mut case = Case::new(format!("cross-entropy of {images} x {classes}, {smoothing}, {gradient}, {taught}"));
    let logits = case.shared(shape, Fill::Numbers);
    let labels = case.input(Shape::map(images, 1, 1, 1), Fill::Labels(classes));
    case.sized(itself);
    let teacher = taught.then(|| case.input(shape, Fill::Numbers));
    // Logits of normal numbers span less than 10.
    let quotients = if taught { 2.0 } else { 1.0 };
    let unit = quotients * 2.0 * HALF_ULP * (8.0 + 2.0 * 10.0 + (classes as f64).sqrt());
    let loss_bound = move |want: &Memory, _: &Memory| vec![10.0 * unit; want.get(logits).len() / classes * 2];
    let loss = case.output(Shape::map(images, 1, 1, 2), Bound::Of(Box::new(loss_bound)));
    let dlogits = gradient.then(|| {
        let bound = move |want: &Memory, _: &Memory| vec![unit / images as f64; want.get(logits).len()];
        case.output(shape, Bound::Of(Box::new(bound)))
    });
    case.push(Op::CrossEntropy { logits, labels, scale: None, teacher, loss, dlogits, smoothing });
    case.inexact()
}

/// Logits that were divided by 2^70: the scale takes it back.
fn scaled_cross_entropy() -> Case {
    let (images, classes) = (13, 10);
    let mut case = Case::new("scaled cross-entropy");
    let logits = case.shared(Shape::map(images, 1, 1, classes), Fill::Tiny);
    let labels = case.input(Shape::map(images, 1, 1, 1), Fill::Labels(classes));
    let scale = Some(case.input(Shape::vector(1), Fill::Values(vec![2f32.powi(70)])));
    let unit = 2.0 * HALF_ULP * (8.0 + 2.0 * 10.0 + (classes as f64).sqrt());
    let loss = case.output(Shape::map(images, 1, 1, 2), Bound::Of(Box::new(move |_, _| vec![10.0 * unit; images * 2])));
    let bound = move |_: &Memory, _: &Memory| vec![unit / images as f64; images * classes];
    let dlogits = Some(case.output(Shape::map(images, 1, 1, classes), Bound::Of(Box::new(bound))));
    case.push(Op::CrossEntropy { logits, labels, scale, teacher: None, loss, dlogits, smoothing: 0.1 });
    case.inexact()
}

/// Sums of at most three products of at most six factors; coefficients count with the sign that makes all parts of a sum add
/// up: scale and sums positive, `q` and `t` of one sign.
fn batch_norm_double_grad((n, h, w, c): (usize, usize, usize, usize)) -> Case {
    let (shape, rows) = (Shape::map(n, h, w, c), Shape::Vectors { rows: 4, c });
    let mut case = Case::new(format!("batch norm's second gradient {shape}"));
    let x = case.shared(shape, Fill::Numbers);
    let coefficients = case.input(rows, Fill::Positive);
    let first = case.input(rows, Fill::Numbers);
    let second = case.input(rows, Fill::Numbers);
    let dot = case.input(Shape::vector(c), Fill::Numbers);
    // With scale s, rstd r, dot d, positions m: r^2 (s |d| / m + |t1 t2| / s) + 3 |q1 q2| / s, and (|q1 t2| + |q2 t1|) / s.
    let own = TensorId(case.builder().graph().tensors.len() as u32 + 1);
    let bound = move |want: &Memory, sizes: &Memory| -> Vec<f64> {
        let at = |tensor: TensorId, row: usize, channel: usize| sizes.get(tensor)[row * c + channel].abs();
        let factor = 16.0 * HALF_ULP;
        let one = |i: usize| {
            let k = i % c;
            let (s, r) = (at(coefficients, 0, k), at(coefficients, 3, k));
            let [q1, t1, q2, t2] = [at(first, 1, k), at(first, 2, k), at(second, 1, k), at(second, 2, k)];
            match i / c {
                1 => r * r * (s * at(dot, 0, k) / (n * h * w) as f64 + t1 * t2 / s) + 3.0 * q1 * q2 / s,
                2 => (q1 * t2 + q2 * t1) / s,
                _ => 0.0,
            }
        };
        (0..want.get(own).len()).map(|i| factor * one(i)).collect()
    };
    let by_v = case.output(rows, Bound::Of(Box::new(bound)));
    case.unpadded();
    let by_dy = case.output(rows, Bound::Exact);
    case.unpadded();
    case.push(Op::BatchNormDoubleGrad { x, coefficients, first, second, dot, by_v, by_dy });
    case.inexact().dense(0.49)
}

/// As for the gradient, with a weighted mean of `v` (of size up to 5) taken from it.
fn cross_entropy_hessian((images, classes): (usize, usize)) -> Case {
    let shape = Shape::map(images, 1, 1, classes);
    let mut case = Case::new(format!("cross-entropy's Hessian of {images} x {classes}"));
    let logits = case.shared(shape, Fill::Numbers);
    let labels = case.input(Shape::map(images, 1, 1, 1), Fill::Labels(classes));
    case.sized(itself);
    let v = case.input(shape, Fill::Numbers);
    let unit = 2.0 * HALF_ULP * (8.0 + 2.0 * 10.0 + (classes as f64).sqrt());
    let bound = move |want: &Memory, _: &Memory| vec![10.0 * unit / images as f64; want.get(logits).len()];
    let y = case.output(shape, Bound::Of(Box::new(bound)));
    case.push(Op::CrossEntropyHessian { logits, labels, v, y });
    case.inexact()
}

fn tally(images: usize) -> Case {
    let mut case = Case::new(format!("tally of {images}"));
    let loss = case.shared(Shape::map(images, 1, 1, 2), Fill::Positive);
    let metrics = case.moved(Shape::vector(4), Fill::Positive, Bound::Sum(images + 1));
    let mean = case.output(Shape::vector(2), Bound::Sum(images + 1));
    case.push(Op::Tally { loss, metrics, mean });
    if images.is_power_of_two() { case } else { case.inexact() }
}

/// An infinite loss is counted as a wild batch.
fn wild_tally() -> Case {
    let mut case = Case::new("wild tally");
    let mut values = vec![1.0; 18];
    values[8] = f32::INFINITY;
    let loss = case.shared(Shape::map(9, 1, 1, 2), Fill::Values(values));
    let metrics = case.moved(Shape::vector(4), Fill::Values(vec![0.5, 2.0, 16.0, 1.0]), Bound::Exact);
    let mean = case.output(Shape::vector(2), Bound::Exact);
    case.push(Op::Tally { loss, metrics, mean });
    case
}

/// A root of a sum of squares: half the sum's relative error, and a few ulps.
fn norm_bound(own: TensorId, length: usize) -> Bound {
    let factor = (4.0 + 2.0 * (length as f64).sqrt()) * HALF_ULP;
    Bound::Of(Box::new(move |want, _| want.get(own).iter().map(|v| factor * v).collect()))
}

fn norm_output(case: &mut Case, length: usize) -> TensorId {
    let own = TensorId(case.builder().graph().tensors.len() as u32 + 1);
    case.output(Shape::vector(1), norm_bound(own, length))
}

fn global_norm(name: &str, shapes: &[Shape], adaptive: bool) -> Case {
    let mut case = Case::new(format!("global norm {name} {adaptive}"));
    let mut gradients = vec![];
    for (i, &shape) in shapes.iter().enumerate() {
        let g = if i == 0 { case.shared(shape, Fill::Numbers) } else { case.input(shape, Fill::Numbers) };
        let w = adaptive.then(|| case.input(shape, Fill::Numbers));
        gradients.push((Guard::ALWAYS, g, w));
    }
    let norm = norm_output(&mut case, shapes.iter().map(Shape::len).sum());
    case.push(Op::GlobalNorm { gradients, norm });
    case.inexact()
}

/// Three instances on three paths: a norm of two tensors, of one, of the other.
fn guarded_norm() -> Case {
    let mut case = Case::new("guarded norm").paths([&[0, 0], &[0, 1], &[1, 0]]);
    let choices = [case.builder().choice(2), case.builder().choice(2)];
    let gradients = [
        (Guard::new(choices[0], 0b01), case.shared(Shape::vector(9), Fill::Numbers), None),
        (Guard::new(choices[1], 0b01), case.input(Shape::map(1, 3, 5, 7), Fill::Numbers), None),
    ];
    let norm = norm_output(&mut case, 114);
    case.push(Op::GlobalNorm { gradients: gradients.into(), norm });
    case.inexact()
}

fn ascend(shape: Shape, adaptive: bool) -> Case {
    let mut case = Case::new(format!("ascend {shape}, {adaptive}"));
    let g = case.shared(shape, Fill::Numbers);
    let w = case.input(shape, Fill::Numbers);
    let norm = case.input(Shape::vector(1), Fill::Values(vec![4.0]));
    let hyper = host(&mut case);
    let y = case.output(shape, Bound::Sum(5));
    case.push(Op::Ascend { w, g, norm, hyper, y, adaptive });
    case
}

/// With `clip` the gradient's norm is this: below the limit of 3 or far above.
fn sgd(shape: Shape, nesterov: bool, norm: Option<f32>) -> Case {
    let mut case = Case::new(format!("sgd {shape}, {nesterov}, {norm:?}"));
    let g = case.shared(shape, Fill::Numbers);
    let w = case.moved(shape, Fill::Numbers, Bound::Sum(8));
    let m = case.moved(shape, Fill::Numbers, Bound::Sum(6));
    let clipped = norm.map(|norm| case.input(Shape::vector(1), Fill::Values(vec![norm])));
    let hyper = host(&mut case);
    case.push(Op::Sgd { w, g, m, norm: clipped, hyper, nesterov });
    if norm.is_none_or(|norm| norm < 3.0) { case } else { case.inexact() }
}

/// Tensors of odd lengths, and on which options of one choice they matter; those on the first two are guarded.
const TOGETHER: [(Shape, u32); 7] = [
    (Shape::vector(5), !0),
    (Shape::Filter { r: 3, s: 3, c: 13, k: 41, groups: 1 }, !0),
    (Shape::vector(1), !0),
    (Shape::map(1, 31, 37, 7), 0b01),
    (Shape::vector(9), 0b01),
    (Shape::vector(6), 0b10),
    (Shape::Filter { r: 1, s: 3, c: 1, k: 7, groups: 7 }, !0),
];

/// A case on the paths of [`TOGETHER`], its shapes and their guards.
fn together(name: String) -> (Case, [Shape; 7], [Guard; 7]) {
    let mut case = Case::new(name).paths([&[0], &[1], &[2]]);
    let choice = case.builder().choice(3);
    let guard = |options| if options == !0 { Guard::ALWAYS } else { Guard::new(choice, options) };
    (case, TOGETHER.map(|(shape, _)| shape), TOGETHER.map(|(_, options)| guard(options)))
}

/// Calls for the ranges of [`TOGETHER`]: neighbours of one guard are one.
const RANGES: usize = 4;

fn norm_side_by_side(adaptive: bool) -> Case {
    let (mut case, shapes, guards) = together(format!("global norm side by side {adaptive}"));
    let gradients = case.inputs_together(&shapes);
    let weights = adaptive.then(|| case.inputs_together(&shapes));
    let weight = |i: usize| weights.as_ref().map(|weights| weights[i]);
    let gradients = gradients.into_iter().enumerate().map(|(i, g)| (guards[i], g, weight(i))).collect();
    let norm = norm_output(&mut case, shapes.iter().map(Shape::len).sum());
    case.push(Op::GlobalNorm { gradients, norm });
    assert_eq!(case.calls(Preset::CPU).len(), RANGES + 1);
    case.inexact()
}

fn ascend_side_by_side(adaptive: bool) -> Case {
    let (mut case, shapes, _) = together(format!("ascend side by side {adaptive}"));
    let (weights, gradients) = (case.inputs_together(&shapes), case.inputs_together(&shapes));
    let norm = case.input(Shape::vector(1), Fill::Values(vec![4.0]));
    let hyper = host(&mut case);
    let ascended = case.outputs_together(&shapes, 5, false);
    for ((w, g), y) in weights.into_iter().zip(gradients).zip(ascended) {
        case.push(Op::Ascend { w, g, norm, hyper, y, adaptive });
    }
    assert_eq!(case.calls(Preset::CPU).len(), 1);
    case
}

/// What the path does not use stays as it is.
fn sgd_side_by_side(nesterov: bool, norm: Option<f32>) -> Case {
    let (mut case, shapes, guards) = together(format!("sgd side by side, {nesterov}, {norm:?}"));
    let gradients = case.inputs_together(&shapes);
    let [weights, momenta] = [8, 6].map(|products| case.outputs_together(&shapes, products, true));
    let norm = norm.map(|norm| case.input(Shape::vector(1), Fill::Values(vec![norm])));
    let hyper = host(&mut case);
    for (i, guard) in guards.into_iter().enumerate() {
        let op = Op::Sgd { w: weights[i], g: gradients[i], m: momenta[i], norm, hyper, nesterov };
        case.builder().guarded(guard, |b| b.push(op));
    }
    assert_eq!(case.calls(Preset::CPU).len(), RANGES);
    if norm.is_none() { case } else { case.inexact() }
}

/// Philox and the normal numbers are exact: only the products with the deviation and the weight, and the sum, round.
fn perturb(shape: Shape, noise: Noise) -> Case {
    let mut case = Case::new(format!("perturb {shape}, {noise:?}"));
    let w = case.shared(shape, Fill::Numbers);
    let hyper = host(&mut case);
    let words: Vec<u32> = NORMAL_TABLE.as_flattened().to_vec();
    let table = case.input(NORMALS, Fill::Words(words, vec![0.0; 1024]));
    let bound = move |want: &Memory, _: &Memory| -> Vec<f64> {
        let size = |w: &f64| if noise == Noise::Multiplicative { w.abs() } else { 1.0 };
        want.get(w).iter().map(|w| 4.0 * HALF_ULP * (w.abs() + 2.0 * size(w))).collect()
    };
    let y = case.output(shape, Bound::Of(Box::new(bound)));
    case.push(Op::Perturb { w, y, hyper, table, stream: 5, noise });
    case.inexact()
}

/// Whole numbers decide, so that no image is dropped on one adapter and kept on another.
fn drop_path(images: usize) -> Case {
    let mut case = Case::new(format!("drop path of {images}"));
    let hyper = host(&mut case);
    let factors = case.output(Shape::map(images, 1, 1, 1), Bound::Exact);
    case.push(Op::DropPath { hyper, factors, path: 5 });
    case.inexact().dense(if images == 1 { 0.0 } else { 0.5 })
}

/// Signs after noise are bits: a value that comes as near to zero as rounding is not among these.
pub fn noisy_codes(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("noisy codes {i}"));
    let x = case.input(shape, Fill::Numbers);
    let size = 0.75 * (shape.len() as f32).sqrt();
    let norm = case.input(Shape::vector(1), Fill::Values(vec![size]));
    let hyper = host(&mut case);
    let words: Vec<u32> = NORMAL_TABLE.as_flattened().to_vec();
    let table = case.input(NORMALS, Fill::Words(words, vec![0.0; 1024]));
    let [n, h, w, c] = shape.nhwc();
    let y = case.output(Shape::Vectors { rows: n, c: (h * w * c.div_ceil(4)).div_ceil(4) }, Bound::Exact);
    case.push(Op::NoisyCodes { x, norm, hyper, table, y, stream: 7 });
    case
}
