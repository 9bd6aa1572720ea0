//! Pooling and gathering: `max_pool.wgsl`, `global_pool.wgsl`, `gather.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::{Op, Window, blocks};

rows! {
    /// Maxima over windows; with `other` their gradient, which `y` then is, or what `other` has where they are.
    MaxPool of "max_pool", same bits for any [LANES] {
        x: read, y: write, other: when_read, images: count,
    }
    /// Means over all positions; `count` is images times blocks.
    GlobalPool of "global_pool", same bits for any [LANES UNROLL] {
        x: read, y: write, count: count, positions: count, c4: count,
    }
    /// A batch from the data set, which is the call's pool.
    Gather of "gather", same bits for any [LANES] {
        x: write, labels: write, batch: read, taps: beside, statistics: read,
        images: count, height: count, width: count, channels: count,
    }
}

pub(super) const KERNELS: &[Kernel] = &[MaxPool::KERNEL, GlobalPool::KERNEL, Gather::KERNEL];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.lanes;
    match *op {
        Op::MaxPool { x, y, window } => max_pool(to, MaxPool { x, y, other: None, images: 0 }, window, 0),
        Op::MaxPoolGrad { x, dy, dx, window } => {
            max_pool(to, MaxPool { x, y: dx, other: Some(dy), images: 0 }, window, 1);
        }
        Op::MaxPoolPick { x, v, y, window } => {
            max_pool(to, MaxPool { x, y, other: Some(v), images: 0 }, window, 2);
        }
        Op::GlobalAvgPool { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let (count, positions, c4) = (n * blocks(c), h * w, blocks(c));
            let (rows, unroll) = to.preset.shares(positions);
            let lanes = lanes.max(rows);
            let depth = positions.div_ceil(rows * unroll);
            let work = Work { workgroups: (count * rows).div_ceil(lanes), flops: 0, depth };
            let variant = GlobalPool::KERNEL.with([("LANES", lanes), ("ROWS", rows), ("UNROLL", unroll)]);
            to.call(variant, GlobalPool { x, y, count, positions, c4 }, work);
        }
        Op::Gather { data, batch, taps, statistics, x, labels, source: [sh, sw, sc] } => {
            let [images, height, width, channels] = to.shape(x).nhwc();
            let stride = taps.map_or(0, |taps| to.shape(taps).vec4s() / (height + width));
            let mut variant =
                Gather::KERNEL.with([("LANES", lanes), ("SH", sh), ("SW", sw), ("SC", sc), ("RESIZE", 0)]);
            if taps.is_some() {
                variant = variant.with("RESIZE", 1).with("TAPS", stride as i64);
            }
            let row = Gather { x, labels, batch, taps, statistics, images, height, width, channels };
            let work = Work { workgroups: (images * height * width).div_ceil(lanes), flops: 0, depth: 1 };
            let mut call = to.prepare(variant, row, work);
            call.pool.push(data);
            call.reads.push(data);
            // Of the data set, the batch's images of one byte a value.
            call.cost.bytes += (images * sh * sw * sc) as u64;
            to.push(call);
        }
        _ => {}
    }
}

/// The maxima, or a derivative of this order.
fn max_pool(to: &mut Lowering, row: MaxPool, window: Window, order: usize) {
    let pooled = row.other.filter(|_| order == 1).unwrap_or(row.y);
    let ([images, h, w, c], [_, p, q, _]) = (to.shape(row.x).nhwc(), to.shape(pooled).nhwc());
    let lanes = to.preset.lanes;
    let variant = MaxPool::KERNEL.with([
        ("H", h),
        ("W", w),
        ("P", p),
        ("Q", q),
        ("C4", blocks(c)),
        ("KERNEL", window.kernel),
        ("STRIDE", window.stride),
        ("PAD", window.padding),
        ("GRAD", order),
        ("LANES", lanes),
    ]);
    let workgroups = to.shape(row.y).vec4s().div_ceil(lanes);
    let depth = window.kernel.pow(if order == 1 { 4 } else { 2 });
    to.call(variant, MaxPool { images, ..row }, Work { workgroups, flops: 0, depth });
}
