//! Normal numbers by the ziggurat method (Marsaglia and Tsang, "The Ziggurat Method for Generating Random
//! Variables", JSS 2000), with the choice of layer and of place kept independent (Doornik, "An Improved
//! Ziggurat Method to Generate Normal Random Samples", 2005).
//!
//! The density exp(-x^2 / 2) is covered by layers of equal area, stacked from the tail upward. A point is drawn
//! in a random layer; it is almost always certain to lie below the density. What is not certain is tested
//! against the density itself, so that the distribution is exact.

use crate::philox::Stream;
use std::sync::LazyLock;

const LAYERS: usize = 256;
/// Where the tail begins, and the area of each layer, for 256 layers (Marsaglia and Tsang, section 3).
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_974_656;

struct Table {
    /// Right ends of the layers, from the widest (whose area includes the tail) to 0.
    x: [f64; LAYERS + 1],
    /// The density at those ends.
    y: [f64; LAYERS + 1],
    /// Below this share of its width a layer lies wholly under the density.
    inside: [f64; LAYERS],
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut x = [0.0; LAYERS + 1];
    x[0] = AREA / density(TAIL);
    x[1] = TAIL;
    for i in 2..LAYERS {
        x[i] = (-2.0 * (AREA / x[i - 1] + density(x[i - 1])).ln()).sqrt();
    }
    Table { x, y: x.map(density), inside: std::array::from_fn(|i| x[i + 1] / x[i]) }
});

/// Fills `out` with normal numbers.
pub(super) fn fill(stream: &mut Stream, mean: f64, deviation: f64, out: &mut [f64]) {
    let table = &*TABLE;
    for x in out {
        *x = mean + deviation * standard(stream, table);
    }
}

fn standard(stream: &mut Stream, table: &Table) -> f64 {
    loop {
        let word = stream.next_u64();
        let layer = (word & 0xFF) as usize;
        // The upper 53 bits as a number in [-1, 1); the layer's bits are not among them.
        let u = (word >> 11) as f64 * (1.0 / 4_503_599_627_370_496.0) - 1.0;
        if u.abs() < table.inside[layer] {
            return u * table.x[layer];
        }
        if layer == 0 {
            return tail(stream).copysign(u);
        }
        let x = u * table.x[layer];
        let (low, high) = (table.y[layer], table.y[layer + 1]);
        if low + (high - low) * stream.uniform() < density(x) {
            return x;
        }
    }
}

/// A normal number beyond [`TAIL`] (Marsaglia, "Generating a Variable from the Tail of the Normal
/// Distribution", Technometrics 1964).
fn tail(stream: &mut Stream) -> f64 {
    loop {
        // 1 - u lies in (0, 1], so that the logarithms are finite.
        let x = -(1.0 - stream.uniform()).ln() / TAIL;
        let y = -(1.0 - stream.uniform()).ln();
        if 2.0 * y > x * x {
            return TAIL + x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_close_at_the_top() {
        let table = &*TABLE;
        // The topmost layer must end at density 1: its area is what is left.
        let top = table.x[LAYERS - 1] * (1.0 - table.y[LAYERS - 1]);
        assert!((top - AREA).abs() < 1e-9, "{top}");
        assert_eq!((table.x[LAYERS], table.y[LAYERS]), (0.0, 1.0));
    }

    /// Shares beyond chosen points against the normal distribution, and the moments.
    #[test]
    fn shares_are_those_of_the_distribution() {
        let n = 1_000_000;
        let mut out = vec![0.0; n];
        fill(&mut Stream::new(11, 5, 0), 0.0, 1.0, &mut out);
        // P(X > x) from tables of the normal distribution.
        let expected = [
            (0.0, 0.5),
            (0.5, 0.308_537_5),
            (1.0, 0.158_655_3),
            (2.0, 0.022_750_1),
            (3.0, 1.349_9e-3),
            (4.0, 3.167e-5),
        ];
        for (x, p) in expected {
            for sign in [1.0, -1.0] {
                let share = out.iter().filter(|&&z| sign * z > x).count() as f64 / n as f64;
                let deviation = (p * (1.0 - p) / n as f64).sqrt();
                assert!((share - p).abs() < 4.5 * deviation, "beyond {}: {share}, expected {p}", sign * x);
            }
        }
        let moment = |k: i32| out.iter().map(|z| z.powi(k)).sum::<f64>() / n as f64;
        assert!(moment(1).abs() < 0.0045 && (moment(2) - 1.0).abs() < 0.0064 && (moment(4) - 3.0).abs() < 0.045);
    }

    #[test]
    fn mean_and_deviation_are_applied() {
        let mut out = vec![0.0; 20_000];
        fill(&mut Stream::new(3, 5, 0), 2.0, 0.5, &mut out);
        let mean = out.iter().sum::<f64>() / 20_000.0;
        let variance = out.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
        assert!((mean - 2.0).abs() < 0.02 && (variance - 0.25).abs() < 0.02, "{mean} {variance}");
    }
}
