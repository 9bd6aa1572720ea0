//! Every backward operation against central differences of its forward operation.
//!
//! The loss is `L = sum u y` with given upstream gradients `u`; the gradient of value `i` of an input is compared with
//! `(L(x + h e_i) - L(x - h e_i)) / 2h`.

use super::tests::{Bench, close};
use super::{Memory, run};
use crate::graph::{Builder, Geometry, Guard, Init, Op, Role, Shape, Statistics, TensorId, Term, TermKind, Window};

/// Differences of `sum upstream * output` with respect to each value of `input`.
fn differences(bench: &Bench, input: TensorId, output: TensorId, upstream: &[f64]) -> Vec<f64> {
    let step = 1e-5;
    let loss = |memory: Memory| {
        let mut bench = Bench { memory, ..bench.clone() };
        bench.run().unwrap();
        bench.memory.get(output).iter().zip(upstream).map(|(y, u)| y * u).sum::<f64>()
    };
    let moved = |i: usize, by: f64| {
        let mut memory = bench.memory.clone();
        memory.values[input.0 as usize][i] += by;
        loss(memory)
    };
    (0..bench.memory.get(input).len()).map(|i| (moved(i, step) - moved(i, -step)) / (2.0 * step)).collect()
}

/// Runs the forward operations of `bench` and then `backward`, and compares each pair of input and gradient.
#[track_caller]
fn compare(bench: &Bench, backward: Vec<Op>, y: TensorId, dy: TensorId, pairs: &[(TensorId, TensorId)]) {
    let mut full = bench.clone();
    for op in backward {
        full.push(op);
    }
    full.run().unwrap();
    for &(input, gradient) in pairs {
        let expected = differences(bench, input, y, bench.memory.get(dy));
        assert!(expected.iter().any(|d| d.abs() > 1e-3), "the test would pass with zeros");
        close(full.memory.get(gradient), &expected, 1e-7);
    }
}

#[test]
fn convolutions() {
    let base = Geometry::square(3, 1, 1);
    let cases = [
        ((5, 4), (3, 5), base),
        ((7, 5), (2, 3), Geometry { stride: 2, ..base }),
        ((6, 7), (4, 4), Geometry { dilation: 2, padding: 2, groups: 2, ..base }),
        ((7, 6), (3, 6), Geometry { stride: 2, dilation: 2, padding: 1, groups: 3, ..base }),
        ((4, 5), (5, 5), Geometry { r: 1, s: 5, padding: 2, groups: 5, ..base }),
        ((6, 6), (3, 2), Geometry { r: 2, s: 3, stride: 3, padding: 0, ..base }),
        ((1, 1), (7, 3), Geometry::square(1, 1, 0)),
    ];
    for ((h, w), (c, k), geometry) in cases {
        for relu in [false, true] {
            let (rows, columns) = geometry.output(h, w).unwrap();
            let Geometry { r, s, groups, .. } = geometry;
            let mut b = Bench::new();
            let x = b.filled(Shape::map(2, h, w, c));
            let w = b.filled(Shape::Filter { r, s, c: c / groups, k, groups });
            let bias = b.filled(Shape::vector(k));
            let (y, dy) = (b.zeros(Shape::map(2, rows, columns, k)), b.filled(Shape::map(2, rows, columns, k)));
            let (above, dx) = (b.zeros(b.graph.shape(x)), b.zeros(b.graph.shape(x)));
            let (dw, dbias) = (b.zeros(b.graph.shape(w)), b.zeros(Shape::vector(k)));
            b.push(Op::Conv { x, w, bias: Some(bias), y, geometry, relu });
            let kind = if relu { TermKind::Masked { x } } else { TermKind::Plain };
            let backward = vec![
                Op::ConvInput { dy, w, dx: above, geometry },
                Op::Combine { terms: vec![Term::new(above, kind)], y: dx },
                Op::ConvFilter { x, dy, dw, geometry, relu },
                Op::ChannelSum { x: dy, y: dbias },
            ];
            compare(&b, backward, y, dy, &[(x, dx), (w, dw), (bias, dbias)]);
        }
    }
}

#[test]
fn batch_norms() {
    for statistics in [Statistics::Batch { update: false }, Statistics::Running] {
        for affine in [true, false] {
            let (map, vector) = (Shape::map(3, 3, 2, 5), Shape::vector(5));
            let mut b = Bench::new();
            let (x, y, dy, dx) = (b.filled(map), b.zeros(map), b.filled(map), b.zeros(map));
            let (gamma, beta, dgamma, dbeta) = (b.filled(vector), b.filled(vector), b.zeros(vector), b.zeros(vector));
            let (mean, variance) = (b.filled(vector), b.of(vector, &[0.5, 1.0, 1.5, 2.0, 0.7]));
            let rows = Shape::Vectors { rows: 4, c: 5 };
            let (coefficients, grad_coefficients) = (b.zeros(rows), b.zeros(rows));
            b.push(Op::BatchNorm {
                x,
                gamma: affine.then_some(gamma),
                beta: affine.then_some(beta),
                running: Some((mean, variance)),
                hyper: None,
                coefficients,
                epsilon: 0.01,
                statistics,
            });
            b.push(Op::Combine { terms: vec![Term::new(x, TermKind::Affine { coefficients })], y });
            let (scale, shift) = (affine.then_some(dgamma), affine.then_some(dbeta));
            let kind = TermKind::AffineGrad { x, coefficients: grad_coefficients };
            let backward = vec![
                Op::BatchNormGrad { dy, x, coefficients, dgamma: scale, dbeta: shift, grad_coefficients, statistics },
                Op::Combine { terms: vec![Term::new(dy, kind)], y: dx },
            ];
            let pairs = [(x, dx), (gamma, dgamma), (beta, dbeta)];
            compare(&b, backward, y, dy, if affine { &pairs } else { &pairs[..1] });
        }
    }
}

/// The gradient's gradient: of `sum v dx` with respect to the normalised tensor and to the gradient above.
#[test]
fn second_gradients_of_batch_norms() {
    for affine in [true, false] {
        let statistics = Statistics::Batch { update: false };
        let (map, vector, rows) = (Shape::map(3, 3, 2, 5), Shape::vector(5), Shape::Vectors { rows: 4, c: 5 });
        let mut b = Bench::new();
        let (x, dy, dx, v) = (b.filled(map), b.filled(map), b.zeros(map), b.filled(map));
        let gamma = affine.then(|| b.of(vector, &[0.5, -1.0, 0.0, 2.0, 0.7]));
        let [coefficients, first, second, by_v, by_dy] = [(); 5].map(|()| b.zeros(rows));
        let (products, dot) = (b.zeros(Shape::map(3, 1, 1, 5)), b.zeros(vector));
        let (to_x, to_dy) = (b.zeros(map), b.zeros(map));
        let norm_grad = |dy, grad_coefficients| Op::BatchNormGrad {
            dy,
            x,
            coefficients,
            dgamma: None,
            dbeta: None,
            grad_coefficients,
            statistics,
        };
        let view = |a, coefficients| Term::new(a, TermKind::AffineGrad { x, coefficients });
        let (beta, running, hyper, epsilon) = (None, None, None, 0.01);
        b.push(Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon, statistics });
        b.push(norm_grad(dy, first));
        b.push(Op::Combine { terms: vec![view(dy, first)], y: dx });
        let backward = vec![
            norm_grad(v, second),
            Op::ImageDot { a: v, b: dy, y: products },
            Op::ChannelSum { x: products, y: dot },
            Op::BatchNormDoubleGrad { x, coefficients, first, second, dot, by_v, by_dy },
            Op::Combine { terms: vec![view(v, by_v), view(dy, by_dy)], y: to_x },
            Op::Combine { terms: vec![view(v, second)], y: to_dy },
        ];
        compare(&b, backward, dx, v, &[(x, to_x), (dy, to_dy)]);
    }
}

#[test]
fn the_hessian_of_cross_entropy() {
    for smoothing in [0.0, 0.1] {
        let scores = Shape::map(3, 1, 1, 5);
        let mut b = Bench::new();
        let (logits, dlogits, v, y) = (b.filled(scores), b.zeros(scores), b.filled(scores), b.zeros(scores));
        let labels = b.of(Shape::map(3, 1, 1, 1), &[4.0, 0.0, 2.0]);
        let loss = b.zeros(Shape::map(3, 1, 1, 2));
        b.push(Op::CrossEntropy {
            logits,
            labels,
            scale: None,
            teacher: None,
            loss,
            dlogits: Some(dlogits),
            smoothing,
        });
        compare(&b, vec![Op::CrossEntropyHessian { logits, labels, v, y }], dlogits, v, &[(logits, y)]);
    }
}

fn windows() -> [(usize, usize, Window); 5] {
    let window = |kernel, stride, padding| Window { kernel, stride, padding, count_include_pad: false };
    [
        (5, 4, window(3, 1, 1)),
        (7, 5, window(3, 2, 1)),
        (5, 6, window(2, 2, 0)),
        (5, 7, window(2, 1, 1)),
        (8, 7, window(5, 3, 2)),
    ]
}

#[test]
fn pools() {
    for (h, w, window) in windows() {
        let (rows, columns) = window.geometry().output(h, w).unwrap();
        let (input, output) = (Shape::map(2, h, w, 3), Shape::map(2, rows, columns, 3));
        let mut b = Bench::new();
        let (x, y, dy, dx) = (b.filled(input), b.zeros(output), b.filled(output), b.zeros(input));
        let forward = b.clone();
        b.push(Op::MaxPool { x, y, window });
        compare(&b, vec![Op::MaxPoolGrad { x, dy, dx, window }], y, dy, &[(x, dx)]);
        let mut b = forward.clone();
        let (v, dv) = (b.filled(input), b.zeros(input));
        b.push(Op::MaxPoolPick { x, v, y, window });
        compare(&b, vec![Op::MaxPoolGrad { x, dy, dx: dv, window }], y, dy, &[(v, dv)]);
        let mut b = forward.clone();
        let (v, dv) = (b.filled(output), b.zeros(output));
        b.push(Op::MaxPoolGrad { x, dy: v, dx, window });
        let above = b.filled(input);
        compare(&b, vec![Op::MaxPoolPick { x, v: above, y: dv, window }], dx, above, &[(v, dv)]);
        for count_include_pad in [false, true] {
            let window = Window { count_include_pad, ..window };
            let mut b = forward.clone();
            b.push(Op::Combine { terms: vec![Term::new(x, TermKind::AvgPool(window))], y });
            let backward = Op::Combine { terms: vec![Term::new(dy, TermKind::AvgPoolGrad(window))], y: dx };
            compare(&b, vec![backward], y, dy, &[(x, dx)]);
        }
    }
}

#[test]
fn global_averages() {
    let (map, means) = (Shape::map(2, 2, 4, 3), Shape::map(2, 1, 1, 3));
    let mut b = Bench::new();
    let (x, y, dy, dx) = (b.filled(map), b.zeros(means), b.filled(means), b.zeros(map));
    b.push(Op::GlobalAvgPool { x, y });
    let backward = Op::Combine { terms: vec![Term::new(dy, TermKind::Spread { factor: 0.125 })], y: dx };
    compare(&b, vec![backward], y, dy, &[(x, dx)]);
}

#[test]
fn sums_and_rectifiers() {
    let map = Shape::map(2, 3, 3, 5);
    let mut b = Bench::new();
    let (x, z, y, dy) = (b.filled(map), b.filled(map), b.zeros(map), b.filled(map));
    let (dx, dz) = (b.zeros(map), b.zeros(map));
    b.push(Op::Combine { terms: vec![Term::new(x, TermKind::Relu), Term::new(z, TermKind::Plain)], y });
    let backward = vec![
        Op::Combine { terms: vec![Term::new(dy, TermKind::Masked { x })], y: dx },
        Op::Combine { terms: vec![Term::new(dy, TermKind::Plain)], y: dz },
    ];
    compare(&b, backward, y, dy, &[(x, dx), (z, dz)]);
}

#[test]
fn scaled_images() {
    let map = Shape::map(3, 2, 2, 5);
    let mut b = Bench::new();
    let (x, y, dy, dx) = (b.filled(map), b.zeros(map), b.filled(map), b.zeros(map));
    let factors = b.of(Shape::map(3, 1, 1, 1), &[1.25, 0.0, 1.25]);
    let scaled = |a, y| Op::Combine { terms: vec![Term::new(a, TermKind::Scaled { factors })], y };
    b.push(scaled(x, y));
    compare(&b, vec![scaled(dy, dx)], y, dy, &[(x, dx)]);
}

/// Values between the kinks and beyond both.
#[test]
fn hard_swishes_and_gates() {
    let (map, points) = (Shape::map(2, 2, 3, 5), Shape::map(2, 1, 1, 5));
    let between = |i: usize| [-4.1, -2.6, -0.7, 0.4, 2.3, 3.7][i % 6];
    let (mut b, values) = (Bench::new(), (0..map.len()).map(between).collect::<Vec<_>>());
    let (x, y, dy, dx) = (b.of(map, &values), b.zeros(map), b.filled(map), b.zeros(map));
    b.push(Op::Combine { terms: vec![Term::new(x, TermKind::HardSwish { coefficients: None })], y });
    let kind = TermKind::HardSwishGrad { x, coefficients: None };
    compare(&b, vec![Op::Combine { terms: vec![Term::new(dy, kind)], y: dx }], y, dy, &[(x, dx)]);
    let (mut b, values) = (Bench::new(), (0..points.len()).map(between).collect::<Vec<_>>());
    let (x, gates, y, dy) = (b.filled(map), b.of(points, &values), b.zeros(map), b.filled(map));
    let (dx, dot, dgates) = (b.zeros(map), b.zeros(points), b.zeros(points));
    b.push(Op::Combine { terms: vec![Term::new(x, TermKind::Gated { gates })], y });
    let backward = vec![
        Op::Combine { terms: vec![Term::new(dy, TermKind::Gated { gates })], y: dx },
        Op::ImageDot { a: dy, b: x, y: dot },
        Op::Combine { terms: vec![Term::new(dot, TermKind::GateGrad { gates })], y: dgates },
    ];
    compare(&b, backward, y, dy, &[(x, dx), (gates, dgates)]);
}

#[test]
fn moved_maps() {
    for (from, to, by) in [
        (Shape::map(2, 3, 3, 5), Shape::map(2, 3, 3, 9), [0, 0, -3]),
        (Shape::map(2, 3, 3, 9), Shape::map(2, 3, 3, 4), [0, 0, 3]),
        (Shape::map(1, 4, 5, 3), Shape::map(1, 4, 5, 3), [1, 1, 0]),
    ] {
        let mut b = Bench::new();
        let (x, y, dy, dx) = (b.filled(from), b.zeros(to), b.filled(to), b.zeros(from));
        b.push(Op::Combine { terms: vec![Term::new(x, TermKind::Moved { by })], y });
        let back = TermKind::Moved { by: by.map(|step: i32| -step) };
        compare(&b, vec![Op::Combine { terms: vec![Term::new(dy, back)], y: dx }], y, dy, &[(x, dx)]);
    }
}

#[test]
fn cross_entropies() {
    for (smoothing, taught) in [(0.0, false), (0.1, false), (0.0, true)] {
        let (scores, points) = (Shape::map(3, 1, 1, 5), Shape::map(3, 1, 1, 2));
        let mut b = Bench::new();
        let (logits, dlogits) = (b.filled(scores), b.zeros(scores));
        let (labels, loss) = (b.of(Shape::map(3, 1, 1, 1), &[4.0, 0.0, 2.0]), b.zeros(points));
        let teacher = taught.then(|| b.filled(scores));
        // The mean over three images of the loss alone.
        let upstream = b.of(points, &[1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0]);
        let forward = |dlogits| Op::CrossEntropy { logits, labels, scale: None, teacher, loss, dlogits, smoothing };
        b.push(forward(None));
        let backward = forward(Some(dlogits));
        compare(&b, vec![backward], loss, upstream, &[(logits, dlogits)]);
    }
}

/// One option's convolution sees a sum, whose gradient is that of both summands, and the other's one of these alone: its tensor may be
/// taken for neither.
#[test]
fn gradients_that_are_handed_on_stay_what_they_are() {
    let mut b = Builder::new();
    let (choice, shape, geometry) = (b.choice(2), Shape::map(2, 3, 3, 4), Geometry::square(1, 1, 0));
    let filter = Shape::Filter { r: 1, s: 1, c: 4, k: 4, groups: 1 };
    let mut stored = |name: &str, shape| b.persistent(Role::Batch, name, shape, Init::Constant(0.0), &[]).unwrap();
    let [p, q, seed] = ["p", "q", "seed"].map(|name| stored(name, shape));
    let filters = ["one", "other"].map(|name| stored(name, filter));
    let y = b.temporary(shape);
    b.guarded(Guard::new(choice, 0b01), |b| {
        let both = b.sum(shape, [p, q].map(|part| Term::new(part, TermKind::Plain)).to_vec());
        b.conv_into(both.into(), filters[0], None, geometry, y);
    });
    b.guarded(Guard::new(choice, 0b10), |b| b.conv_into(p.into(), filters[1], None, geometry, y));
    let gradients = b.backward(&[(y, seed)], &[p, q, filters[0], filters[1]]).unwrap();
    let graph = b.finish();
    let mut memory = Memory::new(&graph);
    for (number, id) in [p, q, seed, filters[0], filters[1]].into_iter().enumerate() {
        let value = |i: usize| ((i * 7 + number * 5) % 11) as f64 / 4.0 - 1.0;
        memory.set(id, (0..graph.shape(id).len()).map(value).collect()).unwrap();
    }
    for (path, wanted) in [(0, vec![p, q, filters[0]]), (1, vec![p, filters[1]])] {
        let after = |memory: &Memory| {
            let mut memory = memory.clone();
            run(&graph, &[path], &mut memory).unwrap();
            memory
        };
        let loss = |memory: &Memory| -> f64 {
            let after = after(memory);
            after.get(y).iter().zip(after.get(seed)).map(|(y, seed)| y * seed).sum()
        };
        for id in wanted {
            // The loss is linear in each.
            let slope = |i: usize| {
                let mut moved = memory.clone();
                moved.values[id.0 as usize][i] += 1.0;
                loss(&moved) - loss(&memory)
            };
            let want: Vec<f64> = (0..graph.shape(id).len()).map(slope).collect();
            close(after(&memory).get(gradients.get(id).unwrap()), &want, 1e-9);
        }
    }
}
