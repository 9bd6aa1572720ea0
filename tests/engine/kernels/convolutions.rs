//! Convolutions and their gradients.

use altiplano::graph::{Geometry, Op, Shape};

use super::harness::{Bound, Case, Fill};

/// A convolution: images, rows, columns, inputs, outputs, and the rest.
type Row = (&'static str, [usize; 5], Geometry, bool);

const fn square(kernel: usize, stride: usize, padding: usize) -> Geometry {
    Geometry::square(kernel, stride, padding)
}

const fn kernel(r: usize, s: usize, padding: usize) -> Geometry {
    Geometry { r, s, ..square(1, 1, padding) }
}

const fn dilated(g: Geometry, dilation: usize) -> Geometry {
    Geometry { dilation, ..g }
}

const fn grouped(g: Geometry, groups: usize) -> Geometry {
    Geometry { groups, ..g }
}

/// Name, `[n, h, w, c, k]`, geometry, whether the input is rectified.
const ROWS: &[Row] = &[
    ("3x3 odd", [2, 5, 7, 3, 5], square(3, 1, 1), false),
    ("3x3 width 41", [1, 3, 41, 4, 8], square(3, 1, 1), true),
    ("3x3 width 41, 7 to 9 channels", [2, 2, 41, 7, 9], square(3, 1, 1), false),
    ("3x3 without padding", [2, 6, 5, 5, 4], square(3, 1, 0), false),
    ("3x3 one value", [1, 4, 4, 1, 1], square(3, 1, 1), true),
    ("3x3 one column", [2, 9, 1, 3, 6], square(3, 1, 1), false),
    ("3x3 one row", [2, 1, 9, 3, 6], square(3, 1, 1), false),
    ("3x3 larger than the image", [3, 2, 2, 5, 7], square(3, 1, 1), true),
    ("3x3 33 to 35 channels", [1, 4, 5, 33, 35], square(3, 1, 1), false),
    ("3x3 17 to 5 blocks", [1, 5, 9, 66, 19], square(3, 1, 1), true),
    ("3x3 5 to 17 blocks, one column", [2, 5, 1, 20, 67], square(3, 1, 1), false),
    ("3x3 stride 2, 1 to 17 blocks", [1, 6, 41, 3, 65], square(3, 2, 1), false),
    ("3x3 dilation 2, 3 to 1 blocks", [1, 9, 41, 11, 4], dilated(square(3, 1, 2), 2), true),
    ("3x3 stride 2, dilation 2, 5 blocks", [1, 7, 41, 18, 17], dilated(square(3, 2, 2), 2), false),
    ("3x3 some splits", [9, 17, 16, 9, 17], square(3, 1, 1), false),
    ("5x5 5 to 3 blocks", [1, 9, 41, 19, 10], square(5, 1, 2), false),
    ("7x7 stride 2, 1 to 5 blocks", [1, 13, 41, 3, 17], square(7, 2, 3), true),
    ("1x1 17 to 5 blocks", [2, 9, 41, 65, 18], square(1, 1, 0), true),
    ("1x1 1 to 3 blocks", [3, 7, 13, 2, 11], square(1, 1, 0), false),
    ("1x1 stride 3, 5 blocks", [2, 8, 41, 18, 17], square(1, 3, 0), false),
    ("1x1 prime", [3, 7, 11, 5, 7], square(1, 1, 0), false),
    ("1x1 padded", [2, 3, 5, 5, 3], square(1, 1, 1), false),
    ("1x1 stride 2", [2, 7, 9, 6, 5], square(1, 2, 0), true),
    ("linear", [37, 1, 1, 41, 10], square(1, 1, 0), false),
    ("5x5", [1, 9, 9, 6, 6], square(5, 1, 2), true),
    ("5x5 stride 2", [2, 11, 13, 3, 5], square(5, 2, 2), false),
    ("7x7 stride 2", [1, 14, 15, 3, 6], square(7, 2, 3), false),
    ("3x3 stride 2", [2, 9, 11, 4, 6], square(3, 2, 1), true),
    ("3x3 stride 2, even", [1, 8, 8, 3, 8], square(3, 2, 1), false),
    ("3x3 stride 2, rest unused", [2, 8, 12, 5, 3], square(3, 2, 0), false),
    ("3x3 stride 2, width 41", [1, 5, 41, 5, 4], square(3, 2, 1), false),
    ("3x3 stride 3", [2, 10, 11, 3, 5], square(3, 3, 1), false),
    ("3x3 dilation 2", [1, 11, 13, 5, 3], dilated(square(3, 1, 2), 2), true),
    ("5x5 dilation 2", [1, 12, 10, 3, 4], dilated(square(5, 1, 4), 2), false),
    ("3x3 dilation 2, stride 2", [2, 11, 13, 4, 5], dilated(square(3, 2, 2), 2), false),
    ("1x3", [2, 5, 11, 5, 6], kernel(1, 3, 0), false),
    ("3x1", [2, 11, 5, 6, 5], kernel(3, 1, 0), true),
    ("1x7 padded", [1, 3, 17, 4, 4], kernel(1, 7, 3), false),
    ("7x1 stride 2", [2, 17, 6, 5, 6], Geometry { stride: 2, ..kernel(7, 1, 0) }, false),
    ("2x3", [2, 6, 9, 5, 3], kernel(2, 3, 1), false),
    ("3x3 many rows", [5, 37, 3, 2, 3], square(3, 1, 1), false),
    ("1x1 most splits", [1100, 8, 2, 1, 1], square(1, 1, 0), false),
    ("depthwise 3x3", [2, 7, 9, 8, 8], grouped(square(3, 1, 1), 8), true),
    ("depthwise 5x5 stride 2", [2, 9, 41, 18, 18], grouped(square(5, 2, 2), 18), true),
    ("depthwise 7x7", [1, 8, 11, 20, 20], grouped(square(7, 1, 3), 20), false),
    ("depthwise 3x3, some splits", [9, 17, 16, 10, 10], grouped(square(3, 1, 1), 10), false),
    ("depthwise 1x15", [1, 3, 19, 4, 4], grouped(kernel(1, 15, 7), 4), false),
    ("depthwise 3x3, 6 channels", [1, 5, 41, 6, 6], grouped(square(3, 1, 1), 6), false),
    ("depthwise 3x3 stride 2", [2, 9, 11, 5, 5], grouped(square(3, 2, 1), 5), false),
    ("depthwise 5x5 dilation 2", [1, 13, 11, 7, 7], grouped(dilated(square(5, 1, 4), 2), 7), true),
    ("depthwise 1x3", [2, 5, 7, 4, 4], grouped(kernel(1, 3, 0), 4), false),
    ("depthwise, two outputs each", [2, 6, 5, 3, 6], grouped(square(3, 1, 1), 3), false),
    ("2 groups", [2, 5, 7, 8, 6], grouped(square(3, 1, 1), 2), true),
    ("2 groups stride 2", [1, 9, 8, 10, 6], grouped(square(3, 2, 1), 2), false),
    ("3 groups", [2, 4, 5, 9, 6], grouped(square(3, 1, 1), 3), false),
    ("3 groups, some splits", [5, 16, 16, 9, 6], grouped(square(3, 1, 1), 3), true),
    ("3 groups, 1x1", [1, 5, 41, 6, 12], grouped(square(1, 1, 0), 3), false),
    ("3 groups, 5x5", [1, 7, 6, 6, 9], grouped(square(5, 1, 2), 3), false),
];

/// Filters of more channels than are used, and how many go in and out of these.
const LARGER: &[(Row, [usize; 2])] = &[
    (("1x1, first outputs", [2, 7, 9, 8, 12], square(1, 1, 0), true), [8, 41]),
    (("1x1, first inputs", [2, 7, 41, 12, 8], square(1, 1, 0), false), [33, 8]),
    (("1x1, first of both", [3, 5, 7, 20, 68], square(1, 1, 0), false), [28, 70]),
    (("1x1 of vectors, first of both", [37, 1, 1, 44, 12], square(1, 1, 0), false), [96, 24]),
    (("3x3 stride 2, first of both", [2, 9, 11, 8, 4], square(3, 2, 1), true), [10, 21]),
    (("depthwise 3x3, first", [2, 7, 9, 8, 8], grouped(square(3, 1, 1), 8), true), [13, 13]),
    (("depthwise 5x5 stride 2, first", [1, 9, 41, 16, 16], grouped(square(5, 2, 2), 16), false), [24, 24]),
    (("depthwise 7x7, first", [2, 8, 11, 12, 12], grouped(square(7, 1, 3), 12), true), [30, 30]),
];

/// More workgroups than one dimension of a dispatch can have: for which of the three ops.
const FOLDED: &[(Row, [bool; 3])] = &[
    (("folded 1x1", [524_299, 1, 1, 1, 2], square(1, 1, 0), false), [true, true, false]),
    (("folded filter", [1, 65_537, 1, 1, 1], kernel(65_537, 1, 0), false), [false, false, true]),
    (
        ("folded depthwise filter", [1, 5, 5, 10_492, 10_492], grouped(square(5, 1, 2), 10_492), false),
        [false, false, true],
    ),
];

pub fn cases() -> Vec<Case> {
    let mut cases = of(ROWS.iter().map(|row| (row, [true; 3])));
    cases.extend(LARGER.iter().flat_map(|(row, whole)| [conv_of(row, *whole), conv_input_of(row, *whole)]));
    cases
}

/// With more workgroups than a row of a dispatch has.
pub fn folded() -> Vec<Case> {
    of(FOLDED.iter().map(|(row, ops)| (row, *ops)))
}

fn of<'a>(rows: impl Iterator<Item = (&'a Row, [bool; 3])>) -> Vec<Case> {
    rows.flat_map(|(row, [forward, input, filter])| {
        let mut cases = vec![];
        if forward {
            cases.push(conv(row));
        }
        if input {
            cases.push(conv_input(row));
        }
        if filter {
            cases.push(conv_filter(row));
        }
        cases
    })
    .collect()
}

struct Shapes {
    x: Shape,
    w: Shape,
    y: Shape,
    k: usize,
}

fn shapes(&(_, [n, h, w, c, k], g, _): &Row) -> Shapes {
    let (p, q) = g.output(h, w).unwrap();
    Shapes {
        x: Shape::map(n, h, w, c),
        w: Shape::Filter { r: g.r, s: g.s, c: c / g.groups, k, groups: g.groups },
        y: Shape::map(n, p, q, k),
        k,
    }
}

/// A filter of so many channels in and out; a depthwise one of more channels has more groups.
fn filter([c, k]: [usize; 2], Geometry { r, s, groups, .. }: Geometry) -> Shape {
    match groups {
        1 => Shape::Filter { r, s, c, k, groups },
        _ => Shape::Filter { r, s, c: 1, k, groups: k },
    }
}

fn conv(row: &Row) -> Case {
    let &(_, [.., c, k], ..) = row;
    conv_of(row, [c, k])
}

/// By the first places of a filter of so many channels in and out.
fn conv_of(row: &Row, whole: [usize; 2]) -> Case {
    let &(name, [.., c, _], geometry, relu) = row;
    let shapes = shapes(row);
    let mut case = Case::new(format!("conv {name}"));
    let x = case.shared(shapes.x, Fill::Numbers);
    let own = if whole == [c, shapes.k] { shapes.w } else { filter(whole, geometry) };
    let w = case.input(own, Fill::Numbers);
    // Every other case has a bias.
    let bias = (name.len() % 2 == 0).then(|| case.input(Shape::vector(whole[1]), Fill::Numbers));
    let length = geometry.r * geometry.s * c / geometry.groups + 1;
    let y = case.output(shapes.y, Bound::Sum(length));
    case.push(Op::Conv { x, w, bias, y, geometry, relu });
    case.dense(if relu || geometry.padding >= geometry.r { 0.3 } else { 0.5 })
}

fn conv_input(row: &Row) -> Case {
    let &(_, [.., c, k], ..) = row;
    conv_input_of(row, [c, k])
}

/// By the first places of a filter of so many channels in and out.
fn conv_input_of(row: &Row, whole: [usize; 2]) -> Case {
    let &(name, [.., c, k], geometry, _) = row;
    let shapes = shapes(row);
    let mut case = Case::new(format!("conv input {name}"));
    let dy = case.shared(shapes.y, Fill::Numbers);
    let own = if whole == [c, k] { shapes.w } else { filter(whole, geometry) };
    let w = case.input(own, Fill::Numbers);
    let dx = case.output(shapes.x, Bound::Sum(geometry.r * geometry.s * k / geometry.groups));
    case.push(Op::ConvInput { dy, w, dx, geometry });
    // A kernel no wider than the stride does not reach all of the input, nor does one with gaps.
    let reached = |side: usize| (side as f64 / geometry.stride as f64).min(1.0);
    let (narrow, gaps) = (geometry.r.min(geometry.s) < geometry.stride, geometry.dilation == geometry.stride);
    case.dense(if narrow || gaps && geometry.stride > 1 {
        0.2f64.min(0.8 * reached(geometry.r) * reached(geometry.s))
    } else {
        0.5
    })
}

fn conv_filter(row: &Row) -> Case {
    let &(name, [n, h, w, ..], geometry, relu) = row;
    let shapes = shapes(row);
    let [_, p, q, _] = shapes.y.nhwc();
    let mut case = Case::new(format!("conv filter {name}"));
    let x = case.shared(shapes.x, Fill::Numbers);
    let dy = case.input(shapes.y, Fill::Numbers);
    let dw = case.output(shapes.w, Bound::Sum(n * p * q));
    case.push(Op::ConvFilter { x, dy, dw, geometry, relu });
    // Taps of a thin image lie in the padding, but for the middle ones.
    case.dense(if relu || h.min(w) < geometry.r { 0.3 } else { 0.5 })
}
