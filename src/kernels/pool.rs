//! Pooling and gathering: `max_pool.wgsl`, `global_pool.wgsl`, `gather.wgsl`.

use super::{Call, Cost, Lowering, Word};
use crate::graph::{Op, TensorId, Window, blocks};
use crate::shader::Variant;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let lanes = to.preset.lanes;
    let none = Word::Value(0);
    match *op {
        Op::MaxPool { x, y, window } => max_pool(to, x, y, None, window),
        Op::MaxPoolGrad { x, dy, dx, window } => max_pool(to, x, dx, Some(dy), window),
        Op::GlobalAvgPool { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let variant = Variant::new("global_pool", [("LANES", lanes)]);
            let count = n * blocks(c);
            let head = vec![x.into(), y.into(), count.into(), (h * w).into(), blocks(c).into(), none, none, none];
            to.call(variant, vec![x, y], &[y], head, count.div_ceil(lanes));
        }
        Op::Gather { data, batch, statistics, x, labels, source: [sh, sw, sc] } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let variant = Variant::new("gather", [("LANES", lanes), ("SH", sh), ("SW", sw), ("SC", sc)]);
            to.push(Call {
                variant,
                slots: vec![x, labels, batch, statistics],
                pool: vec![data],
                head: vec![
                    x.into(),
                    labels.into(),
                    batch.into(),
                    n.into(),
                    h.into(),
                    w.into(),
                    c.into(),
                    statistics.into(),
                ],
                terms: vec![],
                groups: (n * h * w).div_ceil(lanes),
                guard: to.guard,
                reads: vec![data, batch, statistics],
                writes: vec![x, labels],
                // Of the data set, the batch's images of one byte a value.
                cost: Cost { flops: 0, bytes: (n * sh * sw * sc) as u64 + to.bytes_of(x) + to.bytes_of(labels) },
            });
        }
        _ => {}
    }
}

fn max_pool(to: &mut Lowering, x: TensorId, y: TensorId, dy: Option<TensorId>, window: Window) {
    let [n, h, w, c] = to.shape(x).nhwc();
    let [_, p, q, _] = to.shape(dy.unwrap_or(y)).nhwc();
    let lanes = to.preset.lanes;
    let variant = Variant::new(
        "max_pool",
        [
            ("H", h),
            ("W", w),
            ("P", p),
            ("Q", q),
            ("C4", blocks(c)),
            ("KERNEL", window.kernel),
            ("STRIDE", window.stride),
            ("PAD", window.padding),
            ("GRAD", dy.is_some().into()),
            ("LANES", lanes),
        ],
    );
    let mut slots = vec![x, y];
    slots.extend(dy);
    let head = vec![x.into(), y.into(), dy.into(), n.into()];
    let items = to.shape(y).vec4s();
    to.call(variant, slots, &[y], head, items.div_ceil(lanes));
}
