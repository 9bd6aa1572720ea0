//! What measures take from inner tensors: `image_dot.wgsl`, `sign_codes.wgsl`, `noisy_codes.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::{NOISE_PURPOSE, Op, blocks};

rows! {
    /// Dot products of two maps per image and channel; `count` is images times blocks.
    ImageDot of "image_dot", same bits for any [LANES UNROLL] {
        a: read, b: read, y: write, count: count, positions: count, c4: count,
    }
    /// Packed signs; `count` is images times `words` (in `vec4`), `vec4s` those of an image's values.
    SignCodes of "sign_codes", same bits for any [LANES] {
        x: read, y: write, count: count, vec4s: count, words: count,
    }
    /// The same after noise from the table of normal numbers, `share` times `norm` large, on all of the `channels`.
    NoisyCodes of "noisy_codes", same bits for any [LANES] {
        x: read, norm: read, hyper: read, table: read, y: write, count: count, vec4s: count, words: count, channels: count, stream: word, share: real,
    }
}

pub(super) const KERNELS: &[Kernel] = &[ImageDot::KERNEL, SignCodes::KERNEL, NoisyCodes::KERNEL];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.lanes;
    match *op {
        Op::ImageDot { a, b, y } => {
            let [n, h, w, c] = to.shape(a).nhwc();
            let (count, positions, c4) = (n * blocks(c), h * w, blocks(c));
            let (rows, unroll) = to.preset.shares(positions);
            let lanes = lanes.max(rows);
            let (workgroups, depth) = ((count * rows).div_ceil(lanes), positions.div_ceil(rows * unroll));
            let work = Work { workgroups, flops: 2 * n * positions * c, depth };
            let variant = ImageDot::KERNEL.with([("LANES", lanes), ("ROWS", rows), ("UNROLL", unroll)]);
            to.call(variant, ImageDot { a, b, y, count, positions, c4 }, work);
        }
        Op::SignCodes { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let words = blocks(to.shape(y).channels());
            let (count, vec4s) = (n * words, h * w * blocks(c));
            let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 1 };
            to.call(SignCodes::KERNEL.with([("LANES", lanes)]), SignCodes { x, y, count, vec4s, words }, work);
        }
        Op::NoisyCodes { x, norm, hyper, table, y, stream } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let words = blocks(to.shape(y).channels());
            let (count, vec4s) = (n * words, h * w * blocks(c));
            let share = 1.0 / (to.shape(x).len() as f32).sqrt();
            // A lane draws the numbers of 16 `vec4`, one after the other.
            let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: 16 };
            let row = NoisyCodes { x, norm, hyper, table, y, count, vec4s, words, channels: c, stream, share };
            let variant = NoisyCodes::KERNEL.with([("LANES", lanes)]);
            to.call(variant.with("PURPOSE", NOISE_PURPOSE), row, work);
        }
        _ => {}
    }
}
