//! Norms, optimiser steps and weight noise: `global_norm.wgsl`, `optimizer.wgsl`, `perturb.wgsl`.

use super::{Call, Cost, Listed, Lowering, Word};
use crate::graph::{Guard, NOISE_PURPOSE, Noise, Op, TensorId};
use crate::shader::Variant;

/// Length in `vec4` of one chunk of a norm's sum.
const CHUNK: usize = 1024;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.lanes;
    let none = Word::Value(0);
    match op {
        Op::GlobalNorm { gradients, norm } => global_norm(to, gradients, *norm),
        &Op::Ascend { w, g, norm, hyper, y, adaptive } => {
            let variant = Variant::new("optimizer", [("LANES", lanes), ("ASCEND", 1), ("ADAPTIVE", adaptive.into())]);
            let count = to.shape(w).vec4s();
            let head = vec![w.into(), g.into(), y.into(), norm.into(), count.into(), hyper.into(), none, none];
            to.call(variant, vec![w, g, y, norm, hyper], &[y], head, count.div_ceil(lanes));
        }
        &Op::Sgd { w, g, m, norm, hyper, nesterov } => {
            let variant = Variant::new("optimizer", [("LANES", lanes), ("NESTEROV", nesterov.into())]);
            let count = to.shape(w).vec4s();
            let head = vec![w.into(), g.into(), m.into(), norm.into(), count.into(), hyper.into(), none, none];
            to.call(variant, vec![w, g, m, norm.unwrap_or(g), hyper], &[w, m], head, count.div_ceil(lanes));
            to.in_place(&[w, m]);
        }
        &Op::Perturb { w, y, hyper, stream, noise } => {
            let multiply = noise == Noise::Multiplicative;
            let variant = Variant::new("perturb", [("LANES", lanes), ("MULTIPLY", multiply.into())])
                .with("PURPOSE", NOISE_PURPOSE);
            let shape = to.shape(w);
            let [_, _, stored, k] = shape.nhwc();
            let real = match shape {
                crate::graph::Shape::Filter { c, .. } => c,
                _ => stored,
            };
            let count = shape.vec4s();
            let head = vec![
                w.into(),
                y.into(),
                count.into(),
                hyper.into(),
                Word::Value(stream),
                k.into(),
                real.into(),
                stored.into(),
            ];
            to.call(variant, vec![w, y, hyper], &[y], head, count.div_ceil(lanes));
        }
        _ => {}
    }
}

fn global_norm(to: &mut Lowering, gradients: &[(Guard, TensorId, Option<TensorId>)], norm: TensorId) {
    let lanes = to.preset.reduce_lanes;
    let none = Word::Value(0);
    let (outer, mut terms, mut pool) = (to.guard, vec![], vec![]);
    for &(guard, g, w) in gradients {
        let count = to.shape(g).vec4s();
        let chunks = count.div_ceil(CHUNK);
        let parts = to.temporary(chunks);
        to.guard = guard;
        let head = vec![g.into(), w.into(), parts.into(), count.into()];
        let variant = Variant::new("global_norm", [("LANES", lanes), ("CHUNK", CHUNK)]);
        to.call(variant, vec![g, w.unwrap_or(g), parts], &[parts], head, chunks);
        terms.push(Listed {
            guard,
            class: 0,
            words: vec![parts.into(), chunks.into(), Word::Slab(parts), none],
            cost: Cost { flops: 0, bytes: to.bytes_of(parts) },
        });
        pool.push(parts);
    }
    to.guard = outer;
    to.push(Call {
        variant: Variant::new("global_norm", [("LANES", lanes), ("FINAL", 1), ("FIRST", 2)]),
        slots: vec![norm],
        reads: pool.clone(),
        pool,
        head: vec![norm.into(), Word::FirstTerm, Word::Terms(0), none],
        terms,
        groups: 1,
        guard: outer,
        writes: vec![norm],
        cost: Cost { flops: 0, bytes: to.bytes_of(norm) },
    });
}
