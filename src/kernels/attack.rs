//! Attacks on images: `attack_start.wgsl`, `attack_judge.wgsl`, `attack_step.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::{ATTACK_PURPOSE, Op, blocks};

rows! {
    /// Starting points and clean records; `count` in `vec4`.
    Start of "attack_start", same bits for any [LANES] {
        x: read, adv: write, settings: read, state: write,
        count: count, c4: count, channels: count, images: count,
    }
    /// What an attack has reached.
    Judge of "attack_judge", same bits for any [LANES] {
        loss: read, state: update, settings: read, images: count, c4: count,
    }
    /// A step; `state` and `memory` are APGD's.
    Step of "attack_step", same bits for any [LANES] {
        x: read, adv: update, g: read, settings: read, state: when_read, memory: when_update,
        count: count, per_image: count, c4: count, channels: count,
    }
}

pub(super) const KERNELS: &[Kernel] = &[Start::KERNEL, Judge::KERNEL, Step::KERNEL];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.lanes;
    match *op {
        Op::AttackStart { x, settings, adv, state } => {
            let shape = to.shape(x);
            let [images, _, _, channels] = shape.nhwc();
            let (count, c4) = (shape.vec4s(), blocks(channels));
            let variant = Start::KERNEL.with([("LANES", lanes), ("PURPOSE", ATTACK_PURPOSE as usize)]);
            // A map has at least a vec4 per image, so there are lanes for the images' records too.
            let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 1 };
            to.call(variant, Start { x, adv, settings, state, count, c4, channels, images }, work);
        }
        Op::AttackJudge { loss, settings, state } => {
            let [images, ..] = to.shape(loss).nhwc();
            let c4 = to.shape(settings).channels() / 4;
            let lanes = to.preset.reduce_lanes;
            let work = Work { workgroups: images.div_ceil(lanes), flops: 0, depth: 1 };
            to.call(Judge::KERNEL.with([("LANES", lanes)]), Judge { loss, state, settings, images, c4 }, work);
        }
        Op::AttackStep { x, adv, g, settings, state, memory } => {
            let shape = to.shape(x);
            let [images, _, _, channels] = shape.nhwc();
            let count = shape.vec4s();
            let (per_image, c4) = (count / images.max(1), blocks(channels));
            let variant = Step::KERNEL.with([("LANES", lanes), ("APGD", memory.is_some().into())]);
            let state = memory.map(|_| state);
            let row = Step { x, adv, g, settings, state, memory, count, per_image, c4, channels };
            to.call(variant, row, Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 1 });
        }
        _ => {}
    }
}
