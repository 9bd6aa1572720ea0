//! Batch norm and channel sums: `moments.wgsl`, `batch_norm.wgsl`, `batch_norm_grad.wgsl`,
//! `batch_norm_double_grad.wgsl`, `channel_sum.wgsl`.

use super::{Lowering, Word};
use crate::graph::{Op, Statistics, TensorId, blocks};
use crate::shader::Variant;

/// Positions of one chunk of a reduction over positions.
const CHUNK: usize = 1024;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    match *op {
        Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon, statistics } => {
            let channels = to.shape(coefficients).channels();
            let c4 = blocks(channels);
            let lanes = to.preset.reduce_lanes;
            let running_only = statistics == Statistics::Running;
            let variant = Variant::new("batch_norm", [("RUNNING", running_only.into()), ("LANES", lanes)]);
            let (parts, chunks, positions) =
                if running_only { (coefficients, 0, 0) } else { moments(to, x, coefficients, None) };
            let update = statistics == (Statistics::Batch { update: true }) && running.is_some() && hyper.is_some();
            let (mean, var) = (running.map(|r| r.0), running.map(|r| r.1));
            let or = |t: Option<TensorId>| t.unwrap_or(coefficients);
            let slots = vec![parts, coefficients, or(gamma), or(beta), or(mean), or(hyper)];
            let mut writes = vec![coefficients];
            if update {
                writes.extend([or(mean), or(var)]);
            }
            let head = vec![
                parts.into(),
                chunks.into(),
                positions.into(),
                CHUNK.into(),
                coefficients.into(),
                gamma.into(),
                beta.into(),
                hyper.into(),
                mean.into(),
                var.into(),
                epsilon.into(),
                usize::from(update).into(),
                channels.into(),
                c4.into(),
                Word::Value(0),
                Word::Value(0),
            ];
            to.call(variant, slots, &writes, head, c4.div_ceil(lanes));
            to.in_place(&writes[1..]);
        }
        Op::BatchNormGrad { dy, x, coefficients, dgamma, dbeta, grad_coefficients, statistics } => {
            let c4 = blocks(to.shape(x).channels());
            let lanes = to.preset.reduce_lanes;
            let running = statistics == Statistics::Running;
            let (parts, chunks, positions) = moments(to, x, coefficients, Some(dy));
            let variant = Variant::new("batch_norm_grad", [("RUNNING", running.into()), ("LANES", lanes)]);
            let or = |t: Option<TensorId>| t.unwrap_or(grad_coefficients);
            let slots = vec![parts, coefficients, or(dgamma), or(dbeta), grad_coefficients];
            let mut writes = vec![grad_coefficients];
            writes.extend(dgamma.iter().chain(&dbeta));
            let head = vec![
                parts.into(),
                chunks.into(),
                positions.into(),
                coefficients.into(),
                dgamma.into(),
                dbeta.into(),
                grad_coefficients.into(),
                c4.into(),
            ];
            to.call(variant, slots, &writes, head, c4.div_ceil(lanes));
        }
        Op::BatchNormDoubleGrad { x, coefficients, first, second, dot, by_v, by_dy } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let lanes = to.preset.reduce_lanes;
            let variant = Variant::new("batch_norm_double_grad", [("LANES", lanes)]);
            let slots = vec![coefficients, first, second, dot, by_v, by_dy];
            let mut head: Vec<Word> = slots.iter().map(|&t| t.into()).collect();
            head.extend([n * h * w, blocks(c)].map(Word::from));
            to.call(variant, slots, &[by_v, by_dy], head, blocks(c).div_ceil(lanes));
        }
        Op::ChannelSum { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let variant = Variant::new("channel_sum", [("LANES", to.preset.reduce_lanes)]);
            let head = vec![x.into(), y.into(), (n * h * w).into(), blocks(c).into()];
            to.call(variant, vec![x, y], &[y], head, blocks(c));
        }
        _ => {}
    }
}

/// Moments of `x` (with `dy`: the gradient's) chunk by chunk; returns the parts, their number, and the positions.
fn moments(to: &mut Lowering, x: TensorId, coefficients: TensorId, dy: Option<TensorId>) -> (TensorId, usize, usize) {
    let [n, h, w, c] = to.shape(x).nhwc();
    let (c4, positions) = (blocks(c), n * h * w);
    let chunks = positions.div_ceil(CHUNK);
    let parts = to.temporary(2 * chunks * c4);
    let variant = Variant::new("moments", [("LANES", to.preset.reduce_lanes), ("GRAD", dy.is_some().into())]);
    let mut slots = vec![x, parts];
    slots.extend(dy.iter().flat_map(|&dy| [dy, coefficients]));
    let coefficients = dy.map(|_| coefficients);
    let head = vec![
        x.into(),
        parts.into(),
        positions.into(),
        CHUNK.into(),
        dy.into(),
        coefficients.into(),
        chunks.into(),
        c4.into(),
    ];
    to.call(variant, slots, &[parts], head, c4 * chunks);
    (parts, chunks, positions)
}
