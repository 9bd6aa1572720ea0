//! Element-wise sums, pools and channel sums.

use altiplano::graph::{Guard, Op, Shape, Term, TermKind, Window};

use super::harness::{Bound, Case, Fill, itself};

const SHAPES: [Shape; 3] = [Shape::map(2, 5, 7, 3), Shape::map(1, 3, 41, 6), Shape::map(3, 1, 1, 13)];

const fn window(kernel: usize, stride: usize, padding: usize, count_include_pad: bool) -> Window {
    Window { kernel, stride, padding, count_include_pad }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in SHAPES.into_iter().enumerate() {
        cases.extend([
            plain(shape, i),
            relu(shape, i),
            affine(shape, i),
            affine_grad(shape, i),
            masked(shape, i),
            spread(shape, i),
            scaled(shape, i),
            hard_swish(shape, i),
            swished_norm(shape, i),
            hard_swish_grad(shape, i),
            swished_norm_grad(shape, i),
            gated(shape, i),
            gate_grad(shape, i),
            product(shape, i),
            bend(shape, i),
            bend_of_norm(shape, i),
            weighted(shape, i),
            channel_sum(shape, i),
            global(shape, i),
        ]);
    }
    // Powers of two are averaged without rounding.
    let maps = [Shape::map(2, 8, 10, 3), Shape::map(1, 7, 41, 5), Shape::map(2, 5, 5, 8)];
    for x in maps {
        for (window, exact) in [
            (window(2, 2, 0, false), true),
            (window(2, 2, 0, true), true),
            (window(3, 1, 1, false), false),
            (window(3, 1, 1, true), false),
            (window(3, 2, 1, false), false),
            (window(2, 1, 1, true), true),
            (window(5, 2, 2, false), false),
        ] {
            let pair = [average(x, window), average_grad(x, window)];
            cases.extend(pair.map(|case| if exact { case } else { case.inexact() }));
        }
        for window in [window(2, 2, 0, false), window(3, 1, 1, false), window(3, 2, 1, false), window(5, 3, 2, false)] {
            cases.extend([
                max_pool(x, window, Fill::Numbers),
                max_pool(x, window, Fill::Negative),
                max_pool_grad(x, window),
                max_pool_pick(x, window),
            ]);
        }
    }
    cases.extend([nothing(), everything(), guarded()]);
    for (i, channels) in [[46, 46, 41], [8, 16, 8], [5, 2, 12]].into_iter().enumerate() {
        cases.push(side_by_side(channels, i));
    }
    let map = |h, w, c| Shape::map(2, h, w, c);
    for (from, to, by) in [
        (map(5, 7, 138), map(5, 7, 41), [0, 0, 46]),
        (map(5, 7, 41), map(5, 7, 138), [0, 0, -46]),
        (map(8, 8, 5), map(8, 8, 5), [1, 1, 0]),
        (map(8, 8, 5), map(8, 8, 5), [-1, -1, 0]),
        (map(6, 41, 9), map(4, 43, 7), [-1, 2, -3]),
        (map(6, 3, 9), map(4, 4, 14), [1, -2, 5]),
        (map(5, 4, 9), map(6, 3, 7), [0, 0, 2]),
    ] {
        cases.push(part(from, to, by));
    }
    cases.push(global(Shape::map(2, 8, 4, 5), 9));
    cases.push(global(Shape::map(5, 7, 6, 41), 10).inexact());
    cases.push(global(Shape::map(3, 8, 8, 67), 11));
    cases.push(global(Shape::map(2, 41, 25, 18), 12).inexact());
    cases.push(channel_sum(Shape::map(7, 13, 11, 5), 9));
    // One chunk; several; with 16 lanes so many that their sums are summed in chunks as well.
    for (i, shape) in [(5, 5, 41, 67), (3, 25, 40, 11), (2, 41, 41, 67), (3, 41, 41, 18)].into_iter().enumerate() {
        let (n, h, w, c) = shape;
        cases.push(channel_sum(Shape::map(n, h, w, c), 10 + i));
    }
    cases
}

fn plain(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("plain terms {i}"));
    let terms: Vec<_> = [case.shared(shape, Fill::Numbers), case.input(shape, Fill::Positive)].into();
    let y = case.output(shape, Bound::Sum(2));
    case.push(Op::Combine { terms: terms.into_iter().map(|a| Term::new(a, TermKind::Plain)).collect(), y });
    case
}

fn relu(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("relu {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let y = case.output(shape, Bound::Exact);
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Relu)], y });
    case.dense(0.3)
}

/// The mean of four rows of coefficients counts against the value, so magnitudes need it negative.
fn negative_mean<const ROW: usize>(index: usize, channels: usize, value: f64) -> f64 {
    if index / channels == ROW { -value.abs() } else { value.abs() }
}

fn affine(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("affine {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let coefficients = case.input(Shape::Vectors { rows: 4, c: shape.channels() }, Fill::Numbers);
    case.sized(negative_mean::<2>);
    let y = case.output(shape, Bound::Sum(3));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Affine { coefficients })], y });
    case
}

fn affine_grad(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("affine gradient {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    let coefficients = case.input(Shape::Vectors { rows: 4, c: shape.channels() }, Fill::Numbers);
    case.sized(negative_mean::<3>);
    let y = case.output(shape, Bound::Sum(4));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::AffineGrad { x, coefficients })], y });
    case
}

fn masked(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("masked {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    let y = case.output(shape, Bound::Exact);
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Masked { x })], y });
    case.dense(0.3)
}

fn spread(shape: Shape, i: usize) -> Case {
    let [n, _, _, c] = shape.nhwc();
    let mut case = Case::new(format!("spread {i}"));
    let a = case.shared(Shape::map(n, 1, 1, c), Fill::Numbers);
    let y = case.output(shape, Bound::Sum(1));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Spread { factor: 0.125 })], y });
    case
}

/// Some images are dropped.
fn scaled(shape: Shape, i: usize) -> Case {
    let [n, ..] = shape.nhwc();
    let mut case = Case::new(format!("scaled {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let values = (0..n).map(|n| if n % 3 == 1 { 0.0 } else { 1.25 }).collect();
    let factors = case.input(Shape::map(n, 1, 1, 1), Fill::Values(values));
    let y = case.output(shape, Bound::Sum(1));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Scaled { factors })], y });
    case.dense(0.3)
}

/// Integers reach both kinks and beyond. A sixth rounds, so that nothing is exact.
fn hard_swish(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("hard swish {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let y = case.output(shape, Bound::Sum(4));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::HardSwish { coefficients: None })], y });
    case.inexact().dense(0.3)
}

fn swished_norm(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("hard swish of a norm {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let coefficients = case.input(Shape::Vectors { rows: 4, c: shape.channels() }, Fill::Numbers);
    case.sized(negative_mean::<2>);
    let y = case.output(shape, Bound::Sum(8));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::HardSwish { coefficients: Some(coefficients) })], y });
    case.inexact().dense(0.2)
}

fn hard_swish_grad(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("hard swish's gradient {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    let y = case.output(shape, Bound::Sum(4));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::HardSwishGrad { x, coefficients: None })], y });
    case.inexact().dense(0.3)
}

fn swished_norm_grad(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("gradient of a norm's hard swish {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    let coefficients = case.input(Shape::Vectors { rows: 4, c: shape.channels() }, Fill::Numbers);
    case.sized(negative_mean::<2>);
    let y = case.output(shape, Bound::Sum(8));
    let kind = TermKind::HardSwishGrad { x, coefficients: Some(coefficients) };
    case.push(Op::Combine { terms: vec![Term::new(a, kind)], y });
    case.inexact().dense(0.2)
}

fn gated(shape: Shape, i: usize) -> Case {
    let [n, _, _, c] = shape.nhwc();
    let mut case = Case::new(format!("gated {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let gates = case.input(Shape::map(n, 1, 1, c), Fill::Numbers);
    let y = case.output(shape, Bound::Sum(4));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Gated { gates })], y });
    case.inexact().dense(0.2)
}

fn gate_grad(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("gate's gradient {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let gates = case.input(shape, Fill::Numbers);
    case.sized(itself);
    let y = case.output(shape, Bound::Sum(2));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::GateGrad { gates })], y });
    case.inexact().dense(0.2)
}

fn product(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("product {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let b = case.input(shape, Fill::Numbers);
    let y = case.output(shape, Bound::Sum(1));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Product { b })], y });
    case
}

fn bend(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("hard swish's bend {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    case.sized(itself);
    let y = case.output(shape, Bound::Sum(2));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::HardSwishBend { x, coefficients: None })], y });
    case.inexact().dense(0.2)
}

fn bend_of_norm(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("bend of a norm's hard swish {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let x = case.input(shape, Fill::Numbers);
    case.sized(itself);
    let coefficients = case.input(Shape::Vectors { rows: 4, c: shape.channels() }, Fill::Numbers);
    case.sized(itself);
    let y = case.output(shape, Bound::Sum(2));
    let kind = TermKind::HardSwishBend { x, coefficients: Some(coefficients) };
    case.push(Op::Combine { terms: vec![Term::new(a, kind)], y });
    case.inexact().dense(0.1)
}

fn weighted(shape: Shape, i: usize) -> Case {
    let [n, _, _, c] = shape.nhwc();
    let mut case = Case::new(format!("weighted channels of images {i}"));
    let a = case.shared(shape, Fill::Numbers);
    let factors = case.input(Shape::map(n, 1, 1, c), Fill::Numbers);
    let y = case.output(shape, Bound::Sum(1));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Weighted { factors })], y });
    case
}

/// Maps side by side: channels that begin amid a block, in a sum of several classes, and beyond either end.
fn side_by_side(channels: [usize; 3], i: usize) -> Case {
    let mut case = Case::new(format!("maps side by side {i}"));
    let all = Shape::map(2, 5, 41, channels.iter().sum());
    let (mut terms, mut c) = (vec![], 0);
    for (place, own) in channels.into_iter().enumerate() {
        let shape = Shape::map(2, 5, 41, own);
        let a = if place == 0 { case.shared(shape, Fill::Numbers) } else { case.input(shape, Fill::Numbers) };
        terms.push(Term::new(a, TermKind::Moved { by: [0, 0, -c] }));
        c += own as i32;
    }
    let y = case.output(all, Bound::Exact);
    case.push(Op::Combine { terms, y });
    case
}

/// A part of a map: other channels, other places.
fn part(from: Shape, to: Shape, by: [i32; 3]) -> Case {
    let mut case = Case::new(format!("part of {from} by {by:?}"));
    let a = case.shared(from, Fill::Numbers);
    let y = case.output(to, Bound::Exact);
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Moved { by })], y });
    case.dense(0.0)
}

/// No term at all writes zeros.
fn nothing() -> Case {
    let mut case = Case::new("no terms");
    let y = case.output(Shape::map(2, 3, 41, 3), Bound::Exact);
    case.push(Op::Combine { terms: vec![], y });
    case.dense(0.0)
}

/// Every kind of term at once, from two slabs.
fn everything() -> Case {
    let shape = Shape::map(2, 6, 7, 5);
    let rows = Shape::Vectors { rows: 4, c: 5 };
    let mut case = Case::new("all terms");
    let a = case.shared(shape, Fill::Numbers);
    let b = case.input(shape, Fill::Numbers);
    let forward = case.input(rows, Fill::Numbers);
    case.sized(negative_mean::<2>);
    let backward = case.input(rows, Fill::Numbers);
    case.sized(negative_mean::<3>);
    let image = case.input(Shape::map(2, 1, 1, 5), Fill::Numbers);
    let pooled = case.input(Shape::map(2, 3, 3, 5), Fill::Numbers);
    let factors = case.input(Shape::map(2, 1, 1, 1), Fill::Numbers);
    let mask = case.input(shape, Fill::Numbers);
    case.sized(itself);
    let terms = [
        (a, TermKind::Plain),
        (b, TermKind::Relu),
        (a, TermKind::Affine { coefficients: forward }),
        (b, TermKind::AffineGrad { x: a, coefficients: backward }),
        (a, TermKind::Masked { x: mask }),
        (b, TermKind::AvgPool(window(3, 1, 1, false))),
        (pooled, TermKind::AvgPoolGrad(window(2, 2, 0, false))),
        (image, TermKind::Spread { factor: 1.0 / 42.0 }),
        (b, TermKind::Moved { by: [-1, 2, 3] }),
        (a, TermKind::Scaled { factors }),
        (b, TermKind::HardSwish { coefficients: None }),
        (b, TermKind::HardSwishGrad { x: a, coefficients: None }),
        (a, TermKind::Gated { gates: image }),
        (b, TermKind::GateGrad { gates: mask }),
    ];
    let y = case.output(shape, Bound::Sum(35));
    case.push(Op::Combine { terms: terms.map(|(a, kind)| Term::new(a, kind)).into(), y });
    case.inexact()
}

/// Three instances on three paths: terms drop out, and with the last option the op's only writer changes.
fn guarded() -> Case {
    let shape = Shape::map(2, 3, 5, 6);
    let mut case = Case::new("guarded terms").paths([&[0, 1], &[1, 0], &[2, 1]]);
    let choices = [case.builder().choice(3), case.builder().choice(2)];
    let inputs = [
        case.shared(shape, Fill::Positive),
        case.input(shape, Fill::Positive),
        case.input(shape, Fill::Positive),
        case.input(shape, Fill::Positive),
    ];
    let guards =
        [Guard::new(choices[0], 0b001), Guard::new(choices[0], 0b110), Guard::new(choices[1], 0b10), Guard::ALWAYS];
    let terms = guards.into_iter().zip(inputs).map(|(guard, a)| Term { guard, a, kind: TermKind::Plain }).collect();
    let y = case.output(shape, Bound::Sum(4));
    case.push(Op::Combine { terms, y });
    case
}

/// More workgroups than a row of a dispatch has. The terms are small, the output is not.
pub fn folded() -> Case {
    let mut case = Case::new("folded spread");
    let a = case.shared(Shape::map(1, 1, 1, 1), Fill::Numbers);
    let y = case.output(Shape::map(1, 2053, 2053, 1), Bound::Exact);
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::Spread { factor: 0.5 })], y });
    case
}

fn average(x: Shape, window: Window) -> Case {
    let [n, h, w, c] = x.nhwc();
    let (p, q) = window.geometry().output(h, w).unwrap();
    let mut case = Case::new(format!("average of {h}x{w}, {window:?}"));
    let a = case.shared(x, Fill::Numbers);
    let y = case.output(Shape::map(n, p, q, c), Bound::Sum(window.kernel * window.kernel));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::AvgPool(window))], y });
    case.dense(0.3)
}

fn average_grad(x: Shape, window: Window) -> Case {
    let [n, h, w, c] = x.nhwc();
    let (p, q) = window.geometry().output(h, w).unwrap();
    let mut case = Case::new(format!("average's gradient, {h}x{w}, {window:?}"));
    let a = case.shared(Shape::map(n, p, q, c), Fill::Numbers);
    let y = case.output(x, Bound::Sum(window.kernel * window.kernel));
    case.push(Op::Combine { terms: vec![Term::new(a, TermKind::AvgPoolGrad(window))], y });
    case.dense(0.3)
}

fn max_pool(x: Shape, window: Window, fill: Fill) -> Case {
    let [n, h, w, c] = x.nhwc();
    let (p, q) = window.geometry().output(h, w).unwrap();
    let mut case = Case::new(format!("maximum of {h}x{w}, {window:?}"));
    let x = case.shared(x, fill);
    let y = case.output(Shape::map(n, p, q, c), Bound::Exact);
    case.push(Op::MaxPool { x, y, window });
    case.dense(0.3)
}

/// Integers have many ties: the first maximum takes all.
fn max_pool_grad(x: Shape, window: Window) -> Case {
    let [n, h, w, c] = x.nhwc();
    let (p, q) = window.geometry().output(h, w).unwrap();
    let mut case = Case::new(format!("maximum's gradient, {h}x{w}, {window:?}"));
    let dy = case.shared(Shape::map(n, p, q, c), Fill::Positive);
    let source = case.input(x, Fill::Numbers);
    case.sized(itself);
    let dx = case.output(x, Bound::Sum(window.kernel * window.kernel));
    case.push(Op::MaxPoolGrad { x: source, dy, dx, window });
    // One value of each window at most.
    case.dense(if window.stride == 1 { 0.2 } else { 0.05 })
}

/// What another map has in the place of the first maximum.
fn max_pool_pick(x: Shape, window: Window) -> Case {
    let [n, h, w, c] = x.nhwc();
    let (p, q) = window.geometry().output(h, w).unwrap();
    let mut case = Case::new(format!("in a maximum's place, {h}x{w}, {window:?}"));
    let v = case.shared(x, Fill::Positive);
    let source = case.input(x, Fill::Numbers);
    case.sized(itself);
    let y = case.output(Shape::map(n, p, q, c), Bound::Exact);
    case.push(Op::MaxPoolPick { x: source, v, y, window });
    case.dense(0.3)
}

fn global(shape: Shape, i: usize) -> Case {
    let [n, h, w, c] = shape.nhwc();
    let mut case = Case::new(format!("global average {i}"));
    let x = case.shared(shape, Fill::Numbers);
    let y = case.output(Shape::map(n, 1, 1, c), Bound::Sum(h * w));
    case.push(Op::GlobalAvgPool { x, y });
    if (h * w).is_power_of_two() { case.dense(0.3) } else { case.dense(0.3).inexact() }
}

fn channel_sum(shape: Shape, i: usize) -> Case {
    let [n, h, w, c] = shape.nhwc();
    let mut case = Case::new(format!("channel sum {i}"));
    let x = case.shared(shape, Fill::Numbers);
    let y = case.output(Shape::vector(c), Bound::Sum(n * h * w));
    case.push(Op::ChannelSum { x, y });
    case
}
