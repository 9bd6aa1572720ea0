//! Sums of element-wise terms: `combine.wgsl`.

use super::{Call, Lowering, Word};
use crate::graph::{Op, Shape, Term, TermKind, Window, blocks};
use crate::shader::Variant;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let Op::Combine { terms, y } = op else { return };
    let shape = to.shape(*y);
    let [_, h, w, c] = shape.nhwc();
    let lanes = to.preset.lanes;
    let none = Word::Value(0);
    let mut pool: Vec<_> = terms.iter().flat_map(Term::reads).collect();
    let reads = pool.clone();
    if pool.is_empty() {
        pool.push(*y);
    }
    to.push(Call {
        variant: Variant::new("combine", [("LANES", lanes), ("FIRST", 2)]),
        slots: vec![*y],
        pool,
        head: vec![
            (*y).into(),
            shape.vec4s().into(),
            Word::FirstTerm,
            Word::Terms,
            h.into(),
            w.into(),
            blocks(c).into(),
            none,
        ],
        terms: terms.iter().map(|term| (term.guard, words(term, to.shape(term.a)))).collect(),
        groups: shape.vec4s().div_ceil(lanes),
        guard: to.guard,
        reads,
        writes: vec![*y],
        flops: (2 * terms.len() * shape.len()) as u64,
    });
}

/// Three rows: kind and operands, pool and factor, slabs.
fn words(term: &Term, a: Shape) -> Vec<Word> {
    let none = Word::Value(0);
    let [_, h, w, _] = a.nhwc();
    let (kind, b, coefficients, window, factor) = match term.kind {
        TermKind::Plain => (0, None, None, None, 0.0),
        TermKind::Relu => (1, None, None, None, 0.0),
        TermKind::Affine { coefficients } => (2, None, Some(coefficients), None, 0.0),
        TermKind::AffineGrad { x, coefficients } => (3, Some(x), Some(coefficients), None, 0.0),
        TermKind::Masked { x } => (4, Some(x), None, None, 0.0),
        TermKind::AvgPool(window) => (5, None, None, Some(window), 0.0),
        TermKind::AvgPoolGrad(window) => (6, None, None, Some(window), 0.0),
        TermKind::Spread { factor } => (7, None, None, None, factor),
    };
    let slab = |t: Option<_>| t.map_or(none, Word::Slab);
    let packed = window.map_or(0, |Window { kernel, stride, padding, count_include_pad }| {
        kernel | stride << 8 | padding << 16 | usize::from(count_include_pad) << 24
    });
    vec![
        Word::Value(kind),
        term.a.into(),
        b.into(),
        coefficients.into(),
        packed.into(),
        h.into(),
        w.into(),
        factor.into(),
        Word::Slab(term.a),
        slab(b),
        slab(coefficients),
        none,
    ]
}
