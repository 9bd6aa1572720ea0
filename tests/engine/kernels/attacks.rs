//! Cases of attacks: starts, records, steps.

use altiplano::graph::{Op, Shape, TensorId, attack, blocks};

use super::harness::{Bound, Case, Fill, HALF_ULP};

/// A few roundings of values up to 4.
fn near(length: usize) -> Bound {
    Bound::Of(Box::new(move |_, _| vec![8.0 * HALF_ULP * 4.0; length]))
}

/// Numbers of an attack: radius 0.5, steps of 0.25, values in -1..1.5; a random start or not; APGD's control.
fn settings(case: &mut Case, channels: usize, random: bool, control: [f32; 3]) -> TensorId {
    let stride = 4 * blocks(channels);
    let mut words = vec![0u32; 6 * stride];
    let mut meaning = vec![0.0; 6 * stride];
    let mut set = |row: usize, column: usize, value: f32| {
        words[row * stride + column] = value.to_bits();
        meaning[row * stride + column] = f64::from(value);
    };
    for c in 0..channels {
        set(attack::EPS, c, 0.5 + 0.125 * c as f32);
        set(attack::STEP, c, 0.25);
        set(attack::LOW, c, -1.0);
        set(attack::HIGH, c, 1.5);
    }
    control.iter().enumerate().for_each(|(i, &value)| set(attack::CONTROL, i, value));
    for (i, word) in [11u32, 7, 5, random.into()].into_iter().enumerate() {
        words[attack::WORDS * stride + i] = word;
        meaning[attack::WORDS * stride + i] = f64::from(word);
    }
    case.shared(attack::shape(channels), Fill::Words(words, meaning))
}

fn start([n, h, w, c]: [usize; 4], random: bool) -> Case {
    let mut case = Case::new(format!("attack start {n}x{h}x{w}x{c}, random {random}"));
    let shape = Shape::map(n, h, w, c);
    let x = case.input(shape, Fill::Around(0.2));
    let settings = settings(&mut case, c, random, [0.0; 3]);
    let adv = case.output(shape, near(shape.len()));
    let state = case.output(Shape::Vectors { rows: n, c: 8 }, Bound::Exact);
    case.push(Op::AttackStart { x, settings, adv, state });
    case.inexact().dense(0.3)
}

/// Records of every kind: better or worse losses, many rises or few, a step already reduced or not.
fn records(n: usize) -> Vec<f32> {
    let one = |i: usize| {
        let bit = |b: usize| (i >> b & 1) as f32;
        [1.0 + bit(0), bit(1), 0.5 + bit(2), 3.0 * bit(3), 0.5, bit(4), 1.0 + 0.5 * bit(0), 0.0]
    };
    (0..n).flat_map(one).collect()
}

fn judge(n: usize, window: f32, first: f32) -> Case {
    let mut case = Case::new(format!("attack judge {n}, window {window}, first {first}"));
    let losses = (0..n).flat_map(|i| [0.25 * (i % 11) as f32, (i % 3 % 2) as f32]).collect();
    let loss = case.input(Shape::map(n, 1, 1, 2), Fill::Values(losses));
    let settings = settings(&mut case, 3, false, [0.75, window, first]);
    let state = case.moved(Shape::Vectors { rows: n, c: 8 }, Fill::Values(records(n)), Bound::Exact);
    case.push(Op::AttackJudge { loss, settings, state });
    case.inexact().dense(0.3)
}

fn step([n, h, w, c]: [usize; 4], apgd: Option<f32>) -> Case {
    let mut case = Case::new(format!("attack step {n}x{h}x{w}x{c}, APGD {apgd:?}"));
    let shape = Shape::map(n, h, w, c);
    let x = case.input(shape, Fill::Around(0.2));
    let g = case.input(shape, Fill::Numbers);
    let settings = settings(&mut case, c, false, [0.75, 4.0, apgd.unwrap_or(0.0)]);
    // The last value says whether this point is the best one and whether to go back.
    let flags = (0..n).flat_map(|i| [2.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, (i % 4) as f32]).collect();
    let state = case.input(Shape::Vectors { rows: n, c: 8 }, Fill::Values(flags));
    let adv = case.moved(shape, Fill::Around(0.2), near(shape.len()));
    let memory = apgd.map(|_| {
        let shape = Shape::map(3 * n, h, w, c);
        case.moved(shape, Fill::Around(0.2), near(shape.len()))
    });
    case.push(Op::AttackStep { x, adv, g, settings, state, memory });
    case.inexact().dense(0.3)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for shape in [[3, 5, 7, 3], [2, 3, 41, 6], [67, 1, 1, 1]] {
        cases.extend([start(shape, false), start(shape, true)]);
        cases.extend([step(shape, None), step(shape, Some(0.0)), step(shape, Some(1.0))]);
    }
    cases.extend([judge(64, 0.0, 0.0), judge(64, 4.0, 0.0), judge(37, 0.0, 1.0)]);
    cases
}
