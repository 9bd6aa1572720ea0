//! Forward operations, losses and optimisers against numbers found by hand.

use super::philox::philox;
use super::{Memory, run};
use crate::error::Result;
use crate::graph::hyper as word;
use crate::graph::{
    DROP_PURPOSE, Geometry, Graph, Guard, NOISE_PURPOSE, NORMALS, Node, Noise, Op, Shape, Statistics, Tensor, TensorId,
    Term, TermKind, Window,
};
use crate::philox::normal;

/// A graph and its values, grown tensor by tensor.
#[derive(Clone)]
pub(super) struct Bench {
    pub graph: Graph,
    pub memory: Memory,
    /// Tensors filled so far, so that no two get the same values.
    pub filled: u64,
}

impl Bench {
    pub fn new() -> Self {
        let graph = Graph::default();
        Bench { memory: Memory::new(&graph), graph, filled: 0 }
    }

    /// A tensor of zeros.
    pub fn zeros(&mut self, shape: Shape) -> TensorId {
        self.graph.tensors.push(Tensor { shape, persistent: None, probe: None });
        self.memory.values.push(vec![0.0; shape.len()]);
        TensorId(self.graph.tensors.len() as u32 - 1)
    }

    /// A tensor of these values.
    pub fn of(&mut self, shape: Shape, values: &[f64]) -> TensorId {
        let id = self.zeros(shape);
        self.memory.set(id, values.to_vec()).unwrap();
        id
    }

    /// One vector.
    pub fn vector(&mut self, values: &[f64]) -> TensorId {
        self.of(Shape::vector(values.len()), values)
    }

    /// A tensor of shuffled values between -1 and 1, all different and none near zero.
    pub fn filled(&mut self, shape: Shape) -> TensorId {
        let len = shape.len();
        let mut values: Vec<f64> = (0..len).map(|i| (2 * i + 1) as f64 / len as f64 - 1.0 + 0.1 / len as f64).collect();
        self.filled += 1;
        let mut state = self.filled.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for i in (1..len).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            values.swap(i, (state >> 33) as usize % (i + 1));
        }
        self.of(shape, &values)
    }

    pub fn push(&mut self, op: Op) {
        self.guarded(Guard::ALWAYS, op);
    }

    pub fn guarded(&mut self, guard: Guard, op: Op) {
        self.graph.nodes.push(Node { op, guard });
    }

    pub fn run(&mut self) -> Result<()> {
        run(&self.graph, &[], &mut self.memory)
    }

    #[track_caller]
    pub fn holds(&self, id: TensorId, expected: &[f64], tolerance: f64) {
        close(self.memory.get(id), expected, tolerance);
    }
}

#[track_caller]
pub(super) fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * b.abs().max(1.0);
    assert!(got.len() == expected.len() && got.iter().zip(expected).all(near), "{got:?} is not {expected:?}");
}

/// Values for the tensor of the host's numbers.
fn hyper(bench: &mut Bench, words: &[(usize, f64)]) -> TensorId {
    let mut values = vec![0.0; 12];
    for &(word, value) in words {
        values[word] = value;
    }
    bench.of(word::SHAPE, &values)
}

#[track_caller]
fn convolve(x: (Shape, &[f64]), w: (Shape, &[f64]), bias: &[f64], geometry: Geometry, relu: bool, y: (Shape, &[f64])) {
    let mut b = Bench::new();
    let (x, w, bias, out) = (b.of(x.0, x.1), b.of(w.0, w.1), b.vector(bias), b.zeros(y.0));
    b.push(Op::Conv { x, w, bias: Some(bias), y: out, geometry, relu });
    b.run().unwrap();
    b.holds(out, y.1, 1e-12);
}

#[test]
fn convolutions_by_hand() {
    let x: Vec<f64> = (1..10).map(f64::from).collect();
    let x = (Shape::map(1, 3, 3, 1), &x[..]);
    let w = (Shape::Filter { r: 2, s: 2, c: 1, k: 1, groups: 1 }, &[1.0, 2.0, 3.0, 4.0][..]);
    let two = Shape::map(1, 2, 2, 1);
    let plain = Geometry::square(2, 1, 0);
    convolve(x, w, &[0.5], plain, false, (two, &[37.5, 47.5, 67.5, 77.5]));
    convolve(x, w, &[0.0], Geometry { stride: 2, padding: 1, ..plain }, false, (two, &[4.0, 18.0, 36.0, 77.0]));
    convolve(x, w, &[0.0], Geometry { dilation: 2, ..plain }, false, (Shape::map(1, 1, 1, 1), &[64.0]));
    let row = (Shape::Filter { r: 1, s: 3, c: 1, k: 1, groups: 1 }, &[1.0, 10.0, 100.0][..]);
    let flat = Geometry { r: 1, s: 3, ..plain };
    convolve(x, row, &[0.0], flat, false, (Shape::map(1, 3, 1, 1), &[321.0, 654.0, 987.0]));
    let x = (Shape::map(1, 1, 1, 4), &[1.0, 2.0, 3.0, 4.0][..]);
    let w = (Shape::Filter { r: 1, s: 1, c: 2, k: 4, groups: 2 }, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0][..]);
    let grouped = Geometry { groups: 2, ..Geometry::square(1, 1, 0) };
    convolve(x, w, &[0.0; 4], grouped, false, (Shape::map(1, 1, 1, 4), &[11.0, 14.0, 37.0, 44.0]));
    let x = (x.0, &[-1.0, 2.0, 3.0, -4.0][..]);
    convolve(x, w, &[0.0; 4], grouped, true, (Shape::map(1, 1, 1, 4), &[10.0, 12.0, 9.0, 12.0]));
}

#[test]
fn unequal_shapes_are_refused() {
    let mut b = Bench::new();
    let (x, w) = (b.zeros(Shape::map(1, 3, 3, 2)), b.zeros(Shape::Filter { r: 1, s: 1, c: 3, k: 1, groups: 1 }));
    let y = b.zeros(Shape::map(1, 3, 3, 1));
    b.push(Op::Conv { x, w, bias: None, y, geometry: Geometry::square(1, 1, 0), relu: false });
    assert!(b.run().is_err());
    b.graph.nodes.clear();
    b.push(Op::ChannelSum { x, y: TensorId(99) });
    assert!(b.run().is_err());
    b.graph.nodes.clear();
    b.push(Op::Gather { data: x, batch: x, taps: None, statistics: x, x, labels: y, source: [1; 3] });
    assert!(b.run().unwrap_err().to_string().starts_with("gather"));
    assert!(b.memory.set(x, vec![0.0]).is_err() && b.memory.set(TensorId(99), vec![]).is_err());
    assert!(b.memory.get(TensorId(99)).is_empty());
}

/// Channel 0 has 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14. Channel 1 is constant.
#[test]
fn batch_norm_by_hand() {
    let mut b = Bench::new();
    let x = b.of(Shape::map(2, 1, 2, 2), &[1.0, 5.0, 2.0, 5.0, 3.0, 5.0, 6.0, 5.0]);
    let (gamma, beta) = (b.vector(&[2.0, 3.0]), b.vector(&[0.5, -1.0]));
    let running = (b.vector(&[1.0, 0.0]), b.vector(&[2.0, 1.0]));
    let hyper = hyper(&mut b, &[(word::STATISTICS_MOMENTUM, 0.25)]);
    let shape = Shape::Vectors { rows: 4, c: 2 };
    let (batch, fixed) = (b.zeros(shape), b.zeros(shape));
    let norm = |gamma, beta, coefficients, statistics| Op::BatchNorm {
        x,
        gamma,
        beta,
        running: Some(running),
        hyper: Some(hyper),
        coefficients,
        epsilon: 0.5,
        statistics,
    };
    b.push(norm(Some(gamma), Some(beta), batch, Statistics::Batch { update: true }));
    b.push(norm(None, None, fixed, Statistics::Running));
    b.run().unwrap();
    // Biased variances 3.5 and 0, so deviations 2 and sqrt(0.5).
    let root = 2.0_f64.sqrt();
    b.holds(batch, &[1.0, 3.0 * root, 0.5, -1.0, 3.0, 5.0, 0.5, root], 1e-12);
    // Unbiased variances 14/3 and 0.
    b.holds(running.0, &[1.5, 1.25], 1e-12);
    let variance = [0.75 * 2.0 + 0.25 * 14.0 / 3.0, 0.75];
    b.holds(running.1, &variance, 1e-12);
    let rstd = variance.map(|v| 1.0 / (v + 0.5).sqrt());
    b.holds(fixed, &[rstd[0], rstd[1], 0.0, 0.0, 1.5, 1.25, rstd[0], rstd[1]], 1e-12);
}

#[test]
fn one_value_keeps_its_biased_variance() {
    let mut b = Bench::new();
    let (x, hyper) = (b.of(Shape::map(1, 1, 1, 1), &[3.0]), hyper(&mut b, &[(word::STATISTICS_MOMENTUM, 0.5)]));
    let (mean, variance, coefficients) =
        (b.vector(&[1.0]), b.vector(&[1.0]), b.zeros(Shape::Vectors { rows: 4, c: 1 }));
    let (running, statistics) = (Some((mean, variance)), Statistics::Batch { update: true });
    let (gamma, beta, hyper) = (None, None, Some(hyper));
    b.push(Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon: 1.0, statistics });
    b.run().unwrap();
    b.holds(mean, &[2.0], 0.0);
    b.holds(variance, &[0.5], 0.0);
}

#[test]
fn pools_by_hand() {
    let mut b = Bench::new();
    let x = b.of(Shape::map(1, 3, 3, 1), &[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0]);
    let two = Shape::map(1, 2, 2, 1);
    let window = Window { kernel: 3, stride: 2, padding: 1, count_include_pad: false };
    let (max, inner, all, global) = (b.zeros(two), b.zeros(two), b.zeros(two), b.zeros(Shape::map(1, 1, 1, 1)));
    b.push(Op::MaxPool { x, y: max, window });
    b.push(Op::Combine { terms: vec![Term::new(x, TermKind::AvgPool(window))], y: inner });
    let window = Window { count_include_pad: true, ..window };
    b.push(Op::Combine { terms: vec![Term::new(x, TermKind::AvgPool(window))], y: all });
    b.push(Op::GlobalAvgPool { x, y: global });
    b.run().unwrap();
    b.holds(max, &[-1.0, -2.0, -4.0, -5.0], 0.0);
    b.holds(inner, &[-3.0, -4.0, -6.0, -7.0], 1e-12);
    b.holds(all, &[-12.0 / 9.0, -16.0 / 9.0, -24.0 / 9.0, -28.0 / 9.0], 1e-12);
    b.holds(global, &[-5.0], 1e-12);
}

#[test]
fn the_first_of_equal_maxima_gets_the_gradient() {
    let mut b = Bench::new();
    let (x, dy) = (b.of(Shape::map(1, 2, 2, 1), &[1.0, 2.0, 2.0, 2.0]), b.of(Shape::map(1, 1, 1, 1), &[5.0]));
    let dx = b.zeros(Shape::map(1, 2, 2, 1));
    b.push(Op::MaxPoolGrad {
        x,
        dy,
        dx,
        window: Window { kernel: 2, stride: 2, padding: 0, count_include_pad: false },
    });
    b.run().unwrap();
    b.holds(dx, &[0.0, 5.0, 0.0, 0.0], 0.0);
}

#[test]
fn cross_entropy_and_tally_by_hand() {
    let mut b = Bench::new();
    let logits = b.of(Shape::map(2, 1, 1, 3), &[1.0, 2.0, 3.0, 7.0, 7.0, 7.0]);
    let labels = b.of(Shape::map(2, 1, 1, 1), &[2.0, 1.0]);
    let (sharp, smooth) = (b.zeros(Shape::map(2, 1, 1, 2)), b.zeros(Shape::map(2, 1, 1, 2)));
    let dlogits = b.zeros(Shape::map(2, 1, 1, 3));
    let (metrics, mean) = (b.vector(&[1.0, 2.0, 3.0, 4.0]), b.zeros(Shape::vector(2)));
    b.push(Op::CrossEntropy {
        logits,
        labels,
        scale: None,
        teacher: None,
        loss: sharp,
        dlogits: Some(dlogits),
        smoothing: 0.0,
    });
    b.push(Op::CrossEntropy {
        logits,
        labels,
        scale: None,
        teacher: None,
        loss: smooth,
        dlogits: None,
        smoothing: 0.125,
    });
    b.push(Op::Tally { loss: sharp, metrics, mean });
    b.run().unwrap();
    // ln(e^-2 + e^-1 + 1) = 0.40760596...; three equal logits: ln 3, and the first maximum is class 0, not 1.
    let (first, second) = (0.407_605_964_444_380_1, 3.0_f64.ln());
    b.holds(sharp, &[first, 1.0, second, 0.0], 1e-12);
    // Smoothing a adds a (z_label - mean z) = 0.125 (3 - 2).
    b.holds(smooth, &[first + 0.125, 1.0, second, 0.0], 1e-12);
    let soft = [0.090_030_573_170_380_46, 0.244_728_471_054_797_65, 0.665_240_955_774_821_9];
    let thirds = [1.0 / 6.0, -1.0 / 3.0, 1.0 / 6.0];
    b.holds(dlogits, &[soft[0] / 2.0, soft[1] / 2.0, (soft[2] - 1.0) / 2.0, thirds[0], thirds[1], thirds[2]], 1e-12);
    b.holds(metrics, &[1.0 + first + second, 3.0, 5.0, 4.0], 1e-12);
    b.holds(mean, &[(first + second) / 2.0, 0.5], 1e-12);
    b.memory.set(labels, vec![0.0, 3.0]).unwrap();
    assert!(b.run().is_err());
}

#[test]
fn a_loss_that_is_not_finite_is_counted() {
    let mut b = Bench::new();
    let (loss, metrics) = (b.of(Shape::map(1, 1, 1, 2), &[f64::NAN, 1.0]), b.vector(&[0.0; 4]));
    let mean = b.zeros(Shape::vector(2));
    b.push(Op::Tally { loss, metrics, mean });
    b.run().unwrap();
    assert_eq!(b.memory.get(metrics)[1..], [1.0, 1.0, 1.0]);
}

/// `L = (3 w1^2 + w2^2) / 2` at `w = (1, 2)` has the gradient `(3, 2)`.
#[test]
fn ascents_of_sam_and_asam_by_hand() {
    for (adaptive, rho, size, ascent) in
        [(false, 0.05, 13.0_f64.sqrt(), [0.041_602_514_716_892, 0.027_735_009_811_261]), (true, 2.0, 5.0, [1.2, 3.2])]
    {
        let mut b = Bench::new();
        let (w, g, norm) = (b.vector(&[1.0, 2.0]), b.vector(&[3.0, 2.0]), b.zeros(Shape::vector(1)));
        let (y, hyper) = (b.zeros(Shape::vector(2)), hyper(&mut b, &[(word::RHO, rho)]));
        b.push(Op::GlobalNorm { gradients: vec![(Guard::ALWAYS, g, adaptive.then_some(w))], norm });
        b.push(Op::Ascend { w, g, norm, hyper, y, adaptive });
        b.run().unwrap();
        b.holds(norm, &[size], 1e-12);
        b.holds(y, &[1.0 + ascent[0], 2.0 + ascent[1]], 1e-11);
    }
}

#[test]
fn two_steps_of_sgd_by_hand() {
    // g + decay w = 1 + 0.5 * 2 = 2; the second step has w = 1.8, g = 1.9, m = 0.5 * 2 + 1.9 = 2.9.
    let plain = [(1.8, 2.0), (1.8 - 0.29, 2.9)];
    // Nesterov: w = 2 - 0.1 (2 + 0.5 * 2) = 1.7, then g = 1.85, m = 2.85, w = 1.7 - 0.1 (1.85 + 0.5 * 2.85).
    let ahead = [(1.7, 2.0), (1.7 - 0.3275, 2.85)];
    // Norm 4 and clip 2 halve the gradient: g = 0.5 + 1 = 1.5, w = 1.85; g = 0.5 + 0.925, m = 0.75 + 1.425.
    let clipped = [(1.85, 1.5), (1.85 - 0.2175, 2.175)];
    for (steps, nesterov, clip) in
        [(plain, false, None), (ahead, true, None), (clipped, false, Some(4.0)), (plain, false, Some(1.0))]
    {
        let mut b = Bench::new();
        let (w, g, m) = (b.vector(&[2.0]), b.vector(&[1.0]), b.vector(&[0.0]));
        let norm = clip.map(|norm| b.vector(&[norm]));
        let words = [(word::RATE, 0.1), (word::MOMENTUM, 0.5), (word::DECAY, 0.5), (word::CLIP, 2.0)];
        let hyper = hyper(&mut b, &words);
        b.push(Op::Sgd { w, g, m, norm, hyper, nesterov });
        for (weight, momentum) in steps {
            b.run().unwrap();
            b.holds(w, &[weight], 1e-6);
            b.holds(m, &[momentum], 1e-6);
        }
    }
}

#[test]
fn philox_gives_the_published_words() {
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let words = philox(counter, [0xa409_3822, 0x299f_31d0]);
    assert_eq!(words, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
}

/// The last value of each tensor, whose place in memory follows from the padding of the axes before it.
#[test]
fn noise_is_numbered_by_place_in_memory() {
    let filter = |groups| Shape::Filter { r: 1, s: 2, c: 3, k: 6, groups };
    let cases = [
        // Second tap, third of four stored inputs, second of two blocks: (1 * 4 + 2) * 2 + 1.
        (filter(1), 13),
        // Three stored inputs: (1 * 3 + 2) * 2 + 1.
        (filter(2), 11),
        (Shape::Vectors { rows: 3, c: 6 }, 5),
        (Shape::map(1, 2, 2, 2), 3),
    ];
    for (shape, block) in cases {
        for noise in [Noise::Additive, Noise::Multiplicative] {
            let mut b = Bench::new();
            let (w, y) = (b.filled(shape), b.zeros(shape));
            let words = [(word::SIGMA, 0.5), (word::SEED_LOW, 4e9), (word::SEED_HIGH, 7.0), (word::DRAW, 9.0)];
            let hyper = hyper(&mut b, &words);
            let table = b.zeros(NORMALS);
            b.push(Op::Perturb { w, y, hyper, table, stream: 3, noise });
            b.run().unwrap();
            let z = f64::from(normal(philox([block, 3, 9, NOISE_PURPOSE], [4_000_000_000, 7])[1]));
            let last = *b.memory.get(w).last().unwrap();
            let expected = if noise == Noise::Additive { last + 0.5 * z } else { last * (1.0 + 0.5 * z) };
            close(&[*b.memory.get(y).last().unwrap()], &[expected], 1e-12);
        }
    }
}

/// Images that are dropped are those whose word is below the threshold; and what is made of the factors.
#[test]
fn paths_are_dropped_by_the_words_of_philox() {
    let (images, below) = (9, 0x6000_0000u32);
    let word = |n: u32| philox([n, 4, 9, DROP_PURPOSE], [4_000_000_000, 7])[0];
    let want: Vec<f64> = (0..images).map(|n| if word(n) < below { 0.0 } else { 1.6 }).collect();
    assert!(want.contains(&0.0) && want.contains(&1.6));
    let mut b = Bench::new();
    let words = [
        (word::SEED_LOW, 4e9),
        (word::SEED_HIGH, 7.0),
        (word::DRAW, 9.0),
        (word::DROP_SCALE, 1.6),
        (word::DROP_BELOW, f64::from(below)),
    ];
    let hyper = hyper(&mut b, &words);
    let (map, point) = (Shape::map(images as usize, 1, 2, 3), Shape::map(images as usize, 1, 1, 1));
    let (factors, a, y) = (b.zeros(point), b.filled(map), b.zeros(map));
    b.push(Op::DropPath { hyper, factors, path: 4 });
    b.push(Op::Combine { terms: vec![Term::new(a, TermKind::Scaled { factors })], y });
    b.run().unwrap();
    b.holds(factors, &want, 0.0);
    let scaled: Vec<f64> = b.memory.get(a).iter().enumerate().map(|(i, a)| want[i / 6] * a).collect();
    b.holds(y, &scaled, 0.0);
}

#[test]
fn guards_choose_among_writers_terms_and_gradients() {
    let mut b = Bench::new();
    let one = Shape::Filter { r: 1, s: 1, c: 1, k: 1, groups: 1 };
    let point = Shape::map(1, 1, 1, 1);
    let (x, two, three) = (b.of(point, &[1.0]), b.of(one, &[2.0]), b.of(one, &[3.0]));
    let (y, sum, norm) = (b.zeros(point), b.zeros(point), b.zeros(Shape::vector(1)));
    let geometry = Geometry::square(1, 1, 0);
    b.graph.choices = vec![3];
    b.guarded(Guard::new(0, 0b001), Op::Conv { x, w: two, bias: None, y, geometry, relu: false });
    b.guarded(Guard::new(0, 0b010), Op::Conv { x, w: three, bias: None, y, geometry, relu: false });
    let terms = vec![
        Term { guard: Guard::new(0, 0b011), a: y, kind: TermKind::Plain },
        Term { guard: Guard::new(0, 0b010), a: x, kind: TermKind::Relu },
    ];
    b.push(Op::Combine { terms, y: sum });
    let gradients = vec![(Guard::new(0, 0b001), two, None), (Guard::new(0, 0b010), three, Some(three))];
    b.push(Op::GlobalNorm { gradients, norm });
    for (path, values) in [(0, [2.0, 2.0, 2.0]), (1, [3.0, 4.0, 9.0]), (2, [0.0, 0.0, 0.0])] {
        let mut memory = b.memory.clone();
        run(&b.graph, &[path], &mut memory).unwrap();
        assert_eq!([memory.get(y)[0], memory.get(sum)[0], memory.get(norm)[0]], values);
    }
    assert!(run(&b.graph, &[32], &mut b.memory).is_err());
}
