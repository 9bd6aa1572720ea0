//! Sums of element-wise terms: `combine.wgsl`.

use super::{Call, Cost, Listed, Lowering, Word};
use crate::graph::{Op, Shape, Term, TermKind, Window, blocks};
use crate::shader::Variant;

/// Most classes of terms in one call; the row counts each in a word.
const MOST_CLASSES: usize = 4;

/// Neighbouring positions that a lane computes; fewer where pools make the code long, since it is repeated for each.
const POSITIONS: usize = 4;
const POSITIONS_OF_POOLS: usize = 2;

/// Names of a class's constants, by its number.
const NAMES: [[&str; 5]; MOST_CLASSES] = [
    ["KIND0", "KERNEL0", "STRIDE0", "PAD0", "INCLUDE0"],
    ["KIND1", "KERNEL1", "STRIDE1", "PAD1", "INCLUDE1"],
    ["KIND2", "KERNEL2", "STRIDE2", "PAD2", "INCLUDE2"],
    ["KIND3", "KERNEL3", "STRIDE3", "PAD3", "INCLUDE3"],
];

/// Kinds of terms, and what is added to them: a pool's gradient meets gradients through rectifiers, and all meet plain terms.
const COMPANIONS: [(usize, usize); 4] = [(6, 4), (4, 0), (5, 0), (6, 0)];

/// Constants of a term's code: kind, and for pools the window.
type Class = [usize; 5];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let Op::Combine { terms, y } = op else { return };
    let mut classes: Vec<Class> = terms.iter().map(class).collect();
    let of_term = classes.clone();
    classes.sort_unstable();
    classes.dedup();
    let shape = to.shape(*y);
    let [_, h, w, c] = shape.nhwc();
    let lanes = to.preset.lanes;
    let none = Word::Value(0);
    // A sum of more classes than a row counts goes on with what the call before has written.
    let chunks: Vec<&[Class]> = if classes.is_empty() { vec![&[]] } else { classes.chunks(MOST_CLASSES - 1).collect() };
    for (number, chunk) in chunks.into_iter().enumerate() {
        let mut chunk = chunk.to_vec();
        let mut own: Vec<(Class, Term)> =
            of_term.iter().copied().zip(terms.iter().copied()).filter(|(class, _)| chunk.contains(class)).collect();
        if number > 0 {
            let before = Term::new(*y, TermKind::Plain);
            let plain = class(&before);
            own.push((plain, before));
            if !chunk.contains(&plain) {
                chunk.push(plain);
            }
        }
        widen(&mut chunk);
        let position = |class: &Class| chunk.iter().position(|c| c == class).unwrap_or(0);
        own.sort_by_key(|(class, _)| position(class));
        let places = chunk.iter().any(|class| class[0] >= 5);
        let per_lane = if places { POSITIONS_OF_POOLS } else { POSITIONS };
        let mut variant = Variant::new(
            "combine",
            [
                ("LANES", lanes),
                ("FIRST", 2),
                ("CLASSES", chunk.len()),
                ("POSITIONS", per_lane),
                ("PLACES", places.into()),
            ],
        );
        for (class, names) in chunk.iter().zip(NAMES) {
            for (value, name) in class.iter().zip(names) {
                variant = variant.with(name, *value as i64);
            }
        }
        let mut pool: Vec<_> = own.iter().flat_map(|(_, term)| term.reads()).collect();
        let reads = pool.clone();
        if pool.is_empty() {
            pool.push(*y);
        }
        let positions = shape.vec4s() / blocks(c);
        let mut head = vec![(*y).into(), positions.into(), Word::FirstTerm, blocks(c).into()];
        head.extend((0..MOST_CLASSES as u32).map(Word::Terms));
        head.extend([h.into(), w.into(), none, none]);
        to.push(Call {
            variant,
            slots: vec![*y],
            pool,
            head,
            terms: own
                .iter()
                .map(|(class, term)| Listed {
                    guard: term.guard,
                    class: position(class) as u32,
                    words: words(term, to.shape(term.a)),
                    cost: Cost {
                        flops: 2 * shape.len() as u64,
                        bytes: term.reads().into_iter().map(|t| to.bytes_of(t)).sum(),
                    },
                })
                .collect(),
            groups: (positions.div_ceil(per_lane) * blocks(c)).div_ceil(lanes),
            guard: to.guard,
            reads,
            writes: vec![*y],
            cost: Cost { flops: 0, bytes: to.bytes_of(*y) },
        });
    }
}

/// Adds classes that often come beside those of a call, where there is room: calls of one variant share a dispatch, and a
/// class without terms costs less than a dispatch more.
fn widen(chunk: &mut Vec<Class>) {
    let has = |chunk: &[Class], kind: usize| chunk.iter().any(|class| class[0] == kind);
    for (kind, beside) in COMPANIONS {
        if has(chunk, kind) && !has(chunk, beside) && chunk.len() < MOST_CLASSES {
            chunk.push([beside, 0, 0, 0, 0]);
        }
    }
    chunk.sort_unstable();
}

fn class(term: &Term) -> Class {
    let pool = |kind, Window { kernel, stride, padding, count_include_pad }| {
        [kind, kernel, stride, padding, usize::from(count_include_pad)]
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
    }
}

/// Two rows: operands, slabs. Pools have their operand's sides where others have a second operand and a factor.
fn words(term: &Term, a: Shape) -> Vec<Word> {
    let none = Word::Value(0);
    let (b, coefficients) = match term.kind {
        TermKind::Affine { coefficients } => (None, Some(coefficients)),
        TermKind::AffineGrad { x, coefficients } => (Some(x), Some(coefficients)),
        TermKind::Masked { x } => (Some(x), None),
        _ => (None, None),
    };
    let (second, last) = match term.kind {
        TermKind::Spread { factor } => (none, factor.into()),
        TermKind::AvgPool(_) | TermKind::AvgPoolGrad(_) => {
            let [_, h, w, _] = a.nhwc();
            (h.into(), w.into())
        }
        _ => (b.into(), none),
    };
    let slab = |t: Option<_>| t.map_or(none, Word::Slab);
    vec![term.a.into(), second, coefficients.into(), last, Word::Slab(term.a), slab(b), slab(coefficients), none]
}
