//! What measures take from inner tensors: `image_dot.wgsl`, `sign_codes.wgsl`.

use super::{Lowering, Word};
use crate::graph::{Op, blocks};
use crate::shader::Variant;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let (lanes, none) = (to.preset.lanes, Word::Value(0));
    match *op {
        Op::ImageDot { a, b, y } => {
            let [n, h, w, c] = to.shape(a).nhwc();
            let count = n * blocks(c);
            let head = vec![a.into(), b.into(), y.into(), count.into(), (h * w).into(), blocks(c).into(), none, none];
            to.call(Variant::new("image_dot", [("LANES", lanes)]), vec![a, b, y], &[y], head, count.div_ceil(lanes));
            to.flops(2 * n * h * w * c);
        }
        Op::SignCodes { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let words = blocks(to.shape(y).channels());
            let count = n * words;
            let vec4s = h * w * blocks(c);
            let head = vec![x.into(), y.into(), count.into(), vec4s.into(), words.into(), none, none, none];
            to.call(Variant::new("sign_codes", [("LANES", lanes)]), vec![x, y], &[y], head, count.div_ceil(lanes));
        }
        _ => {}
    }
}
