//! Losses and their sums: `cross_entropy.wgsl`, `cross_entropy_hessian.wgsl`, `tally.wgsl`.

use super::{Lowering, Word};
use crate::graph::Op;
use crate::shader::Variant;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let none = Word::Value(0);
    let lanes = to.preset.reduce_lanes;
    match *op {
        Op::CrossEntropy { logits, labels, scale, loss, dlogits, smoothing } => {
            let [n, _, _, classes] = to.shape(logits).nhwc();
            let variant = Variant::new("cross_entropy", [("LANES", lanes)]);
            let slots = vec![logits, labels, loss, dlogits.unwrap_or(loss), scale.unwrap_or(logits)];
            let mut writes = vec![loss];
            writes.extend(dlogits);
            let head = vec![
                logits.into(),
                labels.into(),
                loss.into(),
                dlogits.into(),
                n.into(),
                classes.into(),
                smoothing.into(),
                scale.into(),
            ];
            to.call(variant, slots, &writes, head, n.div_ceil(lanes));
        }
        Op::CrossEntropyHessian { logits, labels, v, y } => {
            let [n, _, _, classes] = to.shape(logits).nhwc();
            let variant = Variant::new("cross_entropy_hessian", [("LANES", lanes)]);
            let head = vec![logits.into(), labels.into(), v.into(), y.into(), n.into(), classes.into(), none, none];
            to.call(variant, vec![logits, labels, v, y], &[y], head, n.div_ceil(lanes));
        }
        Op::Tally { loss, metrics, mean } => {
            let [n, ..] = to.shape(loss).nhwc();
            let variant = Variant::new("tally", [("LANES", lanes)]);
            let head = vec![loss.into(), n.into(), metrics.into(), mean.into()];
            to.call(variant, vec![loss, metrics, mean], &[metrics, mean], head, 1);
            to.in_place(&[metrics]);
        }
        _ => {}
    }
}
