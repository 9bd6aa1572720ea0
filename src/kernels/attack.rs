//! Attacks on images: `attack_start.wgsl`, `attack_judge.wgsl`, `attack_step.wgsl`.

use super::{Lowering, Word};
use crate::graph::{ATTACK_PURPOSE, Op, blocks};
use crate::shader::Variant;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let none = Word::Value(0);
    let lanes = to.preset.lanes;
    match *op {
        Op::AttackStart { x, settings, adv, state } => {
            let shape = to.shape(x);
            let [n, _, _, c] = shape.nhwc();
            let variant = Variant::new("attack_start", [("LANES", lanes), ("PURPOSE", ATTACK_PURPOSE as usize)]);
            let mut head: Vec<Word> = [x, adv, settings, state].map(Word::from).into();
            head.extend([shape.vec4s(), blocks(c), c, n].map(Word::from));
            // A map has at least a vec4 per image, so there are lanes for the images' records too.
            to.call(variant, vec![x, adv, settings, state], &[adv, state], head, shape.vec4s().div_ceil(lanes));
        }
        Op::AttackJudge { loss, settings, state } => {
            let [n, ..] = to.shape(loss).nhwc();
            let c4 = to.shape(settings).channels() / 4;
            let variant = Variant::new("attack_judge", [("LANES", to.preset.reduce_lanes)]);
            let head = vec![loss.into(), state.into(), settings.into(), n.into(), c4.into(), none, none, none];
            to.call(variant, vec![loss, state, settings], &[state], head, n.div_ceil(to.preset.reduce_lanes));
        }
        Op::AttackStep { x, adv, g, settings, state, memory } => {
            let shape = to.shape(x);
            let [n, _, _, c] = shape.nhwc();
            let count = shape.vec4s();
            let variant = Variant::new("attack_step", [("LANES", lanes), ("APGD", memory.is_some().into())]);
            let mut slots = vec![x, adv, g, settings];
            let mut writes = vec![adv];
            if let Some(memory) = memory {
                slots.extend([state, memory]);
                writes.push(memory);
            }
            let mut head: Vec<Word> = [x, adv, g, settings].map(Word::from).into();
            head.extend([count, count / n.max(1), blocks(c), c].map(Word::from));
            head.extend([memory.map(|_| state).into(), memory.into(), none, none]);
            to.call(variant, slots, &writes, head, count.div_ceil(lanes));
            to.in_place(&writes);
        }
        _ => {}
    }
}
