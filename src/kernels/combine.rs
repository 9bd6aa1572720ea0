//! Sums of element-wise terms: `combine.wgsl`.

use super::kernel::{Fields, kind, record, rows, words};
use super::{Cost, Kernel, Listed, Lowering, Word, Work};
use crate::graph::{Op, Shape, TensorId, Term, TermKind, Window, blocks};

record! {
    /// A term: operands and a factor, their slabs; of a moved operand by how many blocks; the sides and blocks of the first one, and
    /// the sum's channels.
    TermRecord as "Term" => {
        a: listed, b: maybe_listed, coefficients: maybe_listed, factor: real,
        a_slab: slab, b_slab: maybe_slab, coefficients_slab: maybe_slab, shift: word,
        height: count, width: count, c4: count, channels: count,
    }
}

rows! {
    /// A sum of terms, which are listed, sorted by class.
    Sum of "combine", same bits for any [LANES POSITIONS] with TermRecord {
        y: write, positions: count, first_term: first, c4: count,
        terms0: class, terms1: class, terms2: class, terms3: class,
        height: count, width: count,
    }
}

pub(super) const KERNELS: &[Kernel] = &[Sum::KERNEL];

/// Most classes of terms in one call; the row counts each in a word.
const MOST_CLASSES: usize = 4;

/// Neighbouring positions that a lane computes; fewer where pools make the code long, since it is repeated for each.
const POSITIONS: usize = 4;
const POSITIONS_OF_POOLS: usize = 2;

/// Names of a class's constants, by its number: of pools, and of what is moved.
const NAMES: [[&str; 5]; MOST_CLASSES] = [
    ["KIND0", "KERNEL0", "STRIDE0", "PAD0", "INCLUDE0"],
    ["KIND1", "KERNEL1", "STRIDE1", "PAD1", "INCLUDE1"],
    ["KIND2", "KERNEL2", "STRIDE2", "PAD2", "INCLUDE2"],
    ["KIND3", "KERNEL3", "STRIDE3", "PAD3", "INCLUDE3"],
];
const NAMES_MOVED: [[&str; 5]; MOST_CLASSES] = [
    ["KIND0", "TURN0", "DOWN0", "RIGHT0", "APART0"],
    ["KIND1", "TURN1", "DOWN1", "RIGHT1", "APART1"],
    ["KIND2", "TURN2", "DOWN2", "RIGHT2", "APART2"],
    ["KIND3", "TURN3", "DOWN3", "RIGHT3", "APART3"],
];
/// The kind of what is moved.
const MOVED: i64 = 8;
/// Kinds whose code asks for image, row or column of a position; of what is moved it depends on how far.
const PLACED: [i64; 6] = [5, 6, 7, 9, 14, 19];

/// Kinds of terms, and what is added to them: a pool's gradient meets gradients through rectifiers, and all meet plain terms.
const COMPANIONS: [(i64, i64); 4] = [(6, 4), (4, 0), (5, 0), (6, 0)];

/// Constants of a term's code: kind; for pools the window, for what is moved by how many channels of a
/// block, rows and columns, and whether its places are not those of the sum.
type Class = [i64; 5];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let Op::Combine { terms, y } = op else { return };
    let shape = to.shape(*y);
    let sides = |shape: Shape| [shape.nhwc()[1], shape.nhwc()[2]];
    let mut classes: Vec<Class> =
        terms.iter().map(|term| class(term, sides(to.shape(term.a)) == sides(shape))).collect();
    let of_term = classes.clone();
    classes.sort_unstable();
    classes.dedup();
    let [_, h, w, c] = shape.nhwc();
    let lanes = to.preset.lanes;
    // A sum of more classes than a row counts goes on with what the call before has written.
    let chunks: Vec<&[Class]> = if classes.is_empty() { vec![&[]] } else { classes.chunks(MOST_CLASSES - 1).collect() };
    for (number, chunk) in chunks.into_iter().enumerate() {
        let mut chunk = chunk.to_vec();
        let mut own: Vec<(Class, Term)> =
            of_term.iter().copied().zip(terms.iter().copied()).filter(|(class, _)| chunk.contains(class)).collect();
        if number > 0 {
            let before = Term::new(*y, TermKind::Plain);
            let plain = class(&before, true);
            own.push((plain, before));
            if !chunk.contains(&plain) {
                chunk.push(plain);
            }
        }
        widen(&mut chunk);
        let position = |class: &Class| chunk.iter().position(|c| c == class).unwrap_or(0);
        own.sort_by_key(|(class, _)| position(class));
        let places = chunk.iter().any(|class| match class[0] {
            MOVED => class[4] != 0,
            kind => PLACED.contains(&kind),
        });
        let per_lane = if places { POSITIONS_OF_POOLS } else { POSITIONS };
        let mut variant = Sum::KERNEL.with([
            ("LANES", lanes),
            ("FIRST", 2),
            ("CLASSES", chunk.len()),
            ("POSITIONS", per_lane),
            ("PLACES", places.into()),
        ]);
        for (j, class) in chunk.iter().enumerate() {
            let names = if class[0] == MOVED { &NAMES_MOVED[j][..] } else { &NAMES[j][..] };
            for (value, name) in class.iter().zip(names) {
                variant = variant.with(name, *value);
            }
        }
        let (y, positions, c4) = (*y, shape.vec4s() / blocks(c), blocks(c));
        let (terms0, terms1, terms2, terms3) = (0, 1, 2, 3);
        let row = Sum { y, positions, first_term: (), c4, terms0, terms1, terms2, terms3, height: h, width: w };
        let workgroups = (positions.div_ceil(per_lane) * c4).div_ceil(lanes);
        let mut call = to.prepare(variant, row, Work { workgroups, flops: 0, depth: own.len() });
        call.reads = own.iter().flat_map(|(_, term)| term.reads()).collect();
        call.pool = if call.reads.is_empty() { vec![y] } else { call.reads.clone() };
        call.terms = own.iter().map(|(class, term)| listed(to, term, position(class), shape)).collect();
        to.push(call);
    }
}

/// A term of a sum of this shape.
fn listed(to: &Lowering, term: &Term, class: usize, shape: Shape) -> Listed {
    let bytes = term.reads().into_iter().map(|t| to.bytes_of(t)).sum();
    Listed {
        guard: term.guard,
        class: class as u32,
        words: record_of(term, to.shape(term.a), shape.channels()),
        cost: Cost { flops: 2 * shape.len() as u64, bytes },
    }
}

/// Adds classes that often come beside those of a call, where there is room: calls of one variant share a dispatch, and a
/// class without terms costs less than a dispatch more.
fn widen(chunk: &mut Vec<Class>) {
    let has = |chunk: &[Class], kind: i64| chunk.iter().any(|class| class[0] == kind);
    for (kind, beside) in COMPANIONS {
        if has(chunk, kind) && !has(chunk, beside) && chunk.len() < MOST_CLASSES {
            chunk.push([beside, 0, 0, 0, 0]);
        }
    }
    chunk.sort_unstable();
}

/// The code of a term, whose first operand has the sum's sides or not.
fn class(term: &Term, same_sides: bool) -> Class {
    let pool = |kind, Window { kernel, stride, padding, count_include_pad }| {
        [kind, kernel as i64, stride as i64, padding as i64, i64::from(count_include_pad)]
    };
    match term.kind {
        TermKind::Plain => [0; 5],
        TermKind::Relu => [1, 0, 0, 0, 0],
        TermKind::Affine { .. } => [2, 0, 0, 0, 0],
        TermKind::AffineGrad { .. } => [3, 0, 0, 0, 0],
        TermKind::Masked { .. } => [4, 0, 0, 0, 0],
        TermKind::AvgPool(window) => pool(5, window),
        TermKind::AvgPoolGrad(window) => pool(6, window),
        TermKind::Spread { .. } => [7, 0, 0, 0, 0],
        TermKind::Scaled { .. } => [9, 0, 0, 0, 0],
        TermKind::HardSwish { coefficients } => [10 + i64::from(coefficients.is_some()), 0, 0, 0, 0],
        TermKind::HardSwishGrad { coefficients, .. } => [12 + i64::from(coefficients.is_some()), 0, 0, 0, 0],
        TermKind::Gated { .. } => [14, 0, 0, 0, 0],
        TermKind::GateGrad { .. } => [15, 0, 0, 0, 0],
        TermKind::Product { .. } => [16, 0, 0, 0, 0],
        TermKind::HardSwishBend { coefficients, .. } => [17 + i64::from(coefficients.is_some()), 0, 0, 0, 0],
        TermKind::Weighted { .. } => [19, 0, 0, 0, 0],
        TermKind::Moved { by: [rows, columns, channels] } => {
            let apart = !same_sides || rows != 0 || columns != 0;
            [MOVED, channels.rem_euclid(4).into(), rows.into(), columns.into(), apart.into()]
        }
    }
}

/// The words of a term whose first operand has this shape, in a sum of so many channels.
fn record_of(term: &Term, a: Shape, channels: usize) -> Vec<Word> {
    let (b, coefficients): (Option<TensorId>, Option<TensorId>) = match term.kind {
        TermKind::Affine { coefficients } => (None, Some(coefficients)),
        TermKind::AffineGrad { x, coefficients } => (Some(x), Some(coefficients)),
        TermKind::Masked { x } => (Some(x), None),
        TermKind::Scaled { factors } => (None, Some(factors)),
        TermKind::HardSwish { coefficients } => (None, coefficients),
        TermKind::HardSwishGrad { x, coefficients } | TermKind::HardSwishBend { x, coefficients } => {
            (Some(x), coefficients)
        }
        TermKind::Gated { gates } => (None, Some(gates)),
        TermKind::GateGrad { gates } => (Some(gates), None),
        TermKind::Product { b } => (Some(b), None),
        TermKind::Weighted { factors } => (None, Some(factors)),
        _ => (None, None),
    };
    let factor = if let TermKind::Spread { factor } = term.kind { factor } else { 1.0 };
    // Rounded down, as the rest is counted up from there.
    let shift = if let TermKind::Moved { by: [_, _, step] } = term.kind { step.div_euclid(4) as u32 } else { 0 };
    let ([_, height, width, _], c4) = (a.nhwc(), blocks(a.channels()));
    let (a, a_slab, b_slab, coefficients_slab) = (term.a, term.a, b, coefficients);
    let record = TermRecord {
        a,
        b,
        coefficients,
        factor,
        a_slab,
        b_slab,
        coefficients_slab,
        shift,
        height,
        width,
        c4,
        channels,
    };
    words(&record.values())
}
