//! Losses and their sums: `cross_entropy.wgsl`, `cross_entropy_hessian.wgsl`, `tally.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::Op;

rows! {
    /// Losses of a batch, and their gradient.
    CrossEntropy of "cross_entropy", same bits for any [LANES] {
        logits: read, labels: read, loss: write, dlogits: maybe_write, scale: maybe_read, teacher: maybe_read,
        images: count, classes: count, smoothing: real,
    }
    /// The Hessian of the mean loss times `v`.
    Hessian of "cross_entropy_hessian", same bits for any [LANES] {
        logits: read, labels: read, v: read, y: write, images: count, classes: count,
    }
    /// A batch's losses and hits, added to the running sums.
    Tally of "tally", same bits for any [] {
        loss: read, metrics: update, mean: write, images: count,
    }
}

pub(super) const KERNELS: &[Kernel] = &[CrossEntropy::KERNEL, Hessian::KERNEL, Tally::KERNEL];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.reduce_lanes;
    match *op {
        Op::CrossEntropy { logits, labels, scale, teacher, loss, dlogits, smoothing } => {
            let [images, _, _, classes] = to.shape(logits).nhwc();
            let row = CrossEntropy { logits, labels, loss, dlogits, scale, teacher, images, classes, smoothing };
            let work = Work { workgroups: images.div_ceil(lanes), flops: 0, depth: 2 * classes };
            to.call(CrossEntropy::KERNEL.with([("LANES", lanes)]), row, work);
        }
        Op::CrossEntropyHessian { logits, labels, v, y } => {
            let [images, _, _, classes] = to.shape(logits).nhwc();
            let work = Work { workgroups: images.div_ceil(lanes), flops: 0, depth: 2 * classes };
            to.call(Hessian::KERNEL.with([("LANES", lanes)]), Hessian { logits, labels, v, y, images, classes }, work);
        }
        Op::Tally { loss, metrics, mean } => {
            let [images, ..] = to.shape(loss).nhwc();
            let work = Work { workgroups: 1, flops: 0, depth: images.div_ceil(lanes) + lanes };
            to.call(Tally::KERNEL.with([("LANES", lanes)]), Tally { loss, metrics, mean, images }, work);
        }
        _ => {}
    }
}
