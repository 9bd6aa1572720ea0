//! Norms, optimiser steps and weight noise: `square_sum.wgsl`, `global_norm.wgsl`, `sgd.wgsl`, `ascend.wgsl`, `perturb.wgsl`.

use super::kernel::{Fields, kind, record, rows, words};
use super::{Call, Cost, Kernel, Listed, Lowering, Work};
use crate::graph::{Guard, NOISE_PURPOSE, Node, Noise, Op, Shape, TensorId};

record! {
    /// Chunks `first` to `end` of a sum of squares.
    Chunks as "Term" => { parts: listed, first: count, end: count, slab: slab }
}

rows! {
    /// Sums of squares of `count` `vec4`, chunk by chunk.
    SquareSum of "square_sum", same bits for any [] {
        g: read, w: maybe_read, parts: write, count: count,
    }
    /// The norm of all that is listed.
    GlobalNorm of "global_norm", same bits for any [] with Chunks {
        norm: write, first_term: first, terms: class,
    }
    /// A step of SGD on `count` `vec4`.
    Descent of "sgd", same bits for any [LANES] {
        w: update, g: read, m: update, norm: maybe_read, hyper: read, count: count,
    }
    /// SAM's ascent from `count` `vec4`.
    Ascent of "ascend", same bits for any [LANES] {
        w: read, g: read, y: write, norm: read, hyper: read, count: count,
    }
    /// Noise from the table of normal numbers on a tensor of `count` `vec4` whose last axes have `inputs` (of `stored`) and `outputs` channels.
    Perturb of "perturb", same bits for any [LANES] {
        w: read, y: write, hyper: read, table: read, count: count, stream: word, outputs: count, inputs: count, stored: count,
    }
}

pub(super) const KERNELS: &[Kernel] =
    &[SquareSum::KERNEL, GlobalNorm::KERNEL, Descent::KERNEL, Ascent::KERNEL, Perturb::KERNEL];

/// Length in `vec4` of one chunk of a norm's sum.
const CHUNK: usize = 1024;
/// Most chunks that a lane of the second pass sums one after the other before it turns to the next ones.
const RUN: usize = 8;

/// A gradient, when it counts, and its weights if their size scales it.
type Gradient = (Guard, TensorId, Option<TensorId>);

/// What a step of an optimiser does, whichever tensors it moves.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Ascend { norm: TensorId, hyper: TensorId, adaptive: bool },
    Descend { norm: Option<TensorId>, hyper: TensorId, nesterov: bool },
}

/// The rule of a step, and its weights, their gradients, and their momenta or what the ascent writes.
fn step(op: &Op) -> Option<(Rule, [TensorId; 3])> {
    match *op {
        Op::Ascend { w, g, norm, hyper, y, adaptive } => Some((Rule::Ascend { norm, hyper, adaptive }, [w, g, y])),
        Op::Sgd { w, g, m, norm, hyper, nesterov } => Some((Rule::Descend { norm, hyper, nesterov }, [w, g, m])),
        _ => None,
    }
}

/// Whether `b` is the same step as `a` on the tensors directly behind, so that one call can do both.
pub(super) fn goes_on(to: &Lowering, a: &Node, b: &Node) -> bool {
    let (Some((rule, tensors)), Some((other, next))) = (step(&a.op), step(&b.op)) else { return false };
    a.guard == b.guard && rule == other && tensors.into_iter().zip(next).all(|(a, b)| to.is_behind(a, b))
}

pub(super) fn lower(to: &mut Lowering, nodes: &[Node]) {
    let lanes = to.preset.lanes;
    let Some(Node { op, .. }) = nodes.first() else { return };
    match op {
        Op::GlobalNorm { gradients, norm } => global_norm(to, gradients, *norm),
        Op::Ascend { .. } | Op::Sgd { .. } => {
            let (rules, tensors): (Vec<_>, Vec<_>) = nodes.iter().filter_map(|node| step(&node.op)).unzip();
            rules.first().into_iter().for_each(|rule| steps(to, *rule, &tensors));
        }
        &Op::Perturb { w, y, hyper, table, stream, noise } => {
            let multiply = noise == Noise::Multiplicative;
            let variant = Perturb::KERNEL.with([("LANES", lanes), ("MULTIPLY", multiply.into())]);
            let shape = to.shape(w);
            let [_, _, stored, outputs] = shape.nhwc();
            let inputs = if let Shape::Filter { c, .. } = shape { c } else { stored };
            let count = shape.vec4s();
            let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 1 };
            let row = Perturb { w, y, hyper, table, count, stream, outputs, inputs, stored };
            to.call(variant.with("PURPOSE", NOISE_PURPOSE), row, work);
        }
        _ => {}
    }
}

/// One step on tensors that lie side by side.
fn steps(to: &mut Lowering, rule: Rule, tensors: &[[TensorId; 3]]) {
    let lanes = to.preset.lanes;
    let Some(&[w, g, moved]) = tensors.first() else { return };
    let spans = [0, 1, 2].map(|i| tensors.iter().map(|own| own[i]).collect::<Vec<_>>());
    let count = length(to, &spans[0]);
    let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 1 };
    let mut call = match rule {
        Rule::Ascend { norm, hyper, adaptive } => {
            let variant = Ascent::KERNEL.with([("LANES", lanes), ("ADAPTIVE", adaptive.into())]);
            to.prepare(variant, Ascent { w, g, y: moved, norm, hyper, count }, work)
        }
        Rule::Descend { norm, hyper, nesterov } => {
            let variant = Descent::KERNEL.with([("LANES", lanes), ("NESTEROV", nesterov.into())]);
            to.prepare(variant, Descent { w, g, m: moved, norm, hyper, count }, work)
        }
    };
    to.span(&mut call, spans.into());
    to.push(call);
}

/// Length of several tensors together in `vec4`.
fn length(to: &Lowering, tensors: &[TensorId]) -> usize {
    tensors.iter().map(|&t| to.shape(t).vec4s()).sum()
}

fn global_norm(to: &mut Lowering, gradients: &[Gradient], norm: TensorId) {
    let lanes = to.preset.reduce_lanes;
    let (outer, mut terms, mut pool) = (to.guard, vec![], vec![]);
    // Gradients of one guard that lie side by side, as their weights do if they take part, are summed as one.
    let goes_on = |a: &Gradient, b: &Gradient| {
        let weights = match (a.2, b.2) {
            (Some(a), Some(b)) => to.is_behind(a, b),
            (a, b) => a == b,
        };
        a.0 == b.0 && to.is_behind(a.1, b.1) && weights
    };
    let runs: Vec<_> = gradients.chunk_by(goes_on).collect();
    for run in runs {
        let Some(&(guard, g, w)) = run.first() else { continue };
        let own: Vec<_> = run.iter().map(|&(_, g, _)| g).collect();
        let count = length(to, &own);
        let chunks = count.div_ceil(CHUNK);
        let parts = to.temporary(chunks);
        to.guard = guard;
        let variant = SquareSum::KERNEL.with([("LANES", lanes), ("CHUNK", CHUNK)]);
        let depth = CHUNK / lanes + lanes.ilog2() as usize;
        let work = Work { workgroups: chunks, flops: 8 * count, depth };
        let mut call = to.prepare(variant, SquareSum { g, w, parts, count }, work);
        to.span(&mut call, vec![own, run.iter().filter_map(|&(.., w)| w).collect()]);
        to.push(call);
        terms.extend((0..chunks).step_by(RUN).map(|first| {
            let end = chunks.min(first + RUN);
            Listed {
                guard,
                class: 0,
                words: words(&Chunks { parts, first, end, slab: parts }.values()),
                cost: Cost { flops: 0, bytes: (end - first) as u64 * 16 },
            }
        }));
        pool.push(parts);
    }
    to.guard = outer;
    let variant = GlobalNorm::KERNEL.with([("LANES", lanes), ("FIRST", 2)]);
    let depth = RUN * terms.len().div_ceil(lanes) + lanes.ilog2() as usize;
    let work = Work { workgroups: 1, flops: 0, depth };
    let call = to.prepare(variant, GlobalNorm { norm, first_term: (), terms: 0 }, work);
    to.push(Call { reads: pool.clone(), pool, terms, ..call });
}
