//! Standard normal numbers in fixed point: the inverse distribution of one random word, the same to the bit on every
//! machine and adapter. Its twin is `shaders/shared/normal.wgsl`.
//!
//! The upper half of the words is positive, and `!word` has the opposite number: the mean is exactly 0. What is left of the
//! word, `x` of 31 bits, has the tail `p = y / 2^33` with `y = 2 x + 1`. Octaves of `y` have 16 parts each; in a part,
//! with `t` in `-1/2..1/2` across it, the quantile is `c0 - c1 t + c2 t^2 - c3 t^3` to 2^-20. Only shifts and products
//! of 32 bits are needed, and the result is a multiple of 2^-21 below 8: exact in `f32`.

use super::table::TABLE;

/// Units of the result: 2^-21.
const UNIT: f32 = 1.0 / 2_097_152.0;

/// Entry of the table, and place `t` in it in units of 2^-16.
fn place(word: u32) -> (usize, i32) {
    let magnitude = if word >> 31 == 1 { !word } else { word };
    let tail = magnitude << 1 | 1;
    let octave = 31 - tail.leading_zeros();
    let mantissa = tail << (31 - octave);
    ((octave * 16 + (mantissa >> 27) - 16) as usize, (mantissa << 5 ^ 0x8000_0000) as i32 >> 16)
}

/// The quantile in units, of the upper tail.
fn quantile([first, second]: [u32; 2], t: i32) -> i32 {
    let (c0, c1, c2, c3) = (first & 0x07ff_ffff, second & 0xffff, second >> 16, first >> 27);
    let square = (t * t) >> 14;
    let bend = square * (c2 as i32 - ((t * c3 as i32) >> 11));
    (c0 as i32 - ((t * c1 as i32 - (bend >> 6)) >> 12)) >> 3
}

/// The standard normal number of a random word: 2^-20 from the inverse distribution, growing with the word.
pub fn normal(word: u32) -> f32 {
    let (entry, t) = place(word);
    let units = quantile(TABLE[entry], t);
    (if word >> 31 == 1 { units } else { -units }) as f32 * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upper quantile of the normal distribution for `p` up to 1/2, to 1e-15 (Wichura, "Algorithm AS 241: The
    /// Percentage Points of the Normal Distribution", Applied Statistics 1988, PPND16).
    #[allow(clippy::excessive_precision, reason = "digits as published")]
    fn exact(p: f64) -> f64 {
        let ratio = |a: [f64; 8], b: [f64; 8], r: f64| {
            let sum = |c: [f64; 8]| c.iter().rev().fold(0.0, |s, c| s * r + c);
            sum(a) / sum(b)
        };
        let q = 0.5 - p;
        if q <= 0.425 {
            #[rustfmt::skip]
            let (a, b) = (
                [3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
                 45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727],
                [1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
                 21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610],
            );
            return q * ratio(a, b, 0.180625 - q * q);
        }
        let r = (-p.ln()).sqrt();
        if r <= 5.0 {
            #[rustfmt::skip]
            let (a, b) = (
                [1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
                 1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4],
                [1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
                 0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9],
            );
            return ratio(a, b, r - 1.6);
        }
        unreachable!("tails of words are above e^-25")
    }

    fn wanted(word: u32) -> f64 {
        let upper = word >> 31 == 1;
        let x = f64::from(if upper { !word } else { word });
        let z = exact((x + 0.5) / 4_294_967_296.0);
        if upper { z } else { -z }
    }

    /// Every cubic through the quantiles at Chebyshev's points, its coefficients rounded so that no two parts overlap.
    fn derived() -> Vec<[u32; 2]> {
        let mut table: Vec<[u32; 2]> = vec![];
        for entry in 0..512 {
            let (octave, part) = (entry / 16, entry % 16);
            // Where bits of the word are cut off, the middle of what they leave.
            let middle = if octave > 20 { 1024.0 } else { 0.0 };
            let at = |t: f64| {
                let mantissa = f64::from((1_u32 << 31) + (part << 27)) + (t + 0.5) * f64::from(1 << 27) + middle;
                exact(mantissa * 2.0_f64.powi(octave as i32 - 64))
            };
            let [a0, a1, a2, a3] = cubic(at);
            let c3 = (-a3 * f64::from(1 << 19)).round();
            let c2 = (a2 * f64::from(1 << 24)).round();
            let c0 = ((a0 + (a2 - c2 / f64::from(1 << 24)) / 8.0) * f64::from(1 << 24)).round() + 4.0;
            let slope = (-a1 + (-a3 - c3 / f64::from(1 << 19)) * 3.0 / 16.0) * f64::from(1 << 20);
            let packed = |c1: f64| [(c3 as u32) << 27 | c0 as u32, (c2 as u32) << 16 | c1 as u32];
            let near = packed(slope.round());
            let overlaps = table.last().is_some_and(|last| quantile(near, -32768) > quantile(*last, 32767));
            table.push(if overlaps { packed(slope.floor()) } else { near });
        }
        table
    }

    /// Coefficients of the cubic through `at` at Chebyshev's four points of -1/2..1/2.
    fn cubic(at: impl Fn(f64) -> f64) -> [f64; 4] {
        let x: [f64; 4] =
            std::array::from_fn(|i| 0.5 * (f64::from(2 * i as u32 + 1) * std::f64::consts::PI / 8.0).cos());
        let mut c = x.map(at);
        for k in 1..4 {
            for i in (k..4).rev() {
                c[i] = (c[i] - c[i - 1]) / (x[i] - x[i - k]);
            }
        }
        (0..4).rev().fold([0.0; 4], |p, i| std::array::from_fn(|d| if d == 0 { c[i] } else { p[d - 1] } - x[i] * p[d]))
    }

    #[test]
    fn the_table_is_the_derived_one() {
        for (entry, (got, want)) in TABLE.iter().zip(derived()).enumerate() {
            assert_eq!(*got, want, "entry {entry}");
            assert!(got.iter().all(|word| !f32::from_bits(*word).is_nan()), "entry {entry}");
        }
    }

    /// Both ends of every part, and words all over.
    #[test]
    fn numbers_are_those_of_the_inverse_distribution_and_grow() {
        let mut words: Vec<u32> = (0..1 << 19).map(|i: u32| i << 13 | (i.wrapping_mul(2_654_435_769) >> 19)).collect();
        let ends = (0..32).flat_map(|bit| (0..32_u64).map(move |part| (32 + part) << bit >> 6));
        words.extend(ends.flat_map(|x| [x.saturating_sub(1), x, x + 1]).map(|x| x.min(0xffff_ffff) as u32));
        words.extend([0, 1, 2, u32::MAX - 1, u32::MAX, i32::MAX as u32, 1 << 31]);
        words.extend(words.clone().iter().map(|word| !word));
        words.sort_unstable();
        let (mut before, mut worst) = (f32::NEG_INFINITY, 0.0_f64);
        for word in words {
            let z = normal(word);
            assert!(z >= before, "{word:#x}: {z} after {before}");
            assert_eq!(z, -normal(!word), "{word:#x}");
            worst = worst.max((f64::from(z) - wanted(word)).abs());
            before = z;
        }
        println!("largest error: 2^{:.2}", worst.log2());
        assert!(worst < 1.25 * 2.0_f64.powi(-20), "2^{:.2}", worst.log2());
        assert!(normal(u32::MAX) > 6.3 && normal(1 << 31) == 0.0);
    }

    /// Distance from the distribution, moments to the sixth, and shares beyond 3, 4 and 5 deviations.
    #[test]
    fn draws_are_normal() {
        let philox = super::super::Philox::from_seed(11);
        let mut draws: Vec<f64> =
            (0..250_000).flat_map(|i| philox.block([i, 0, 0, 0])).map(|word| f64::from(normal(word))).collect();
        let n = draws.len() as f64;
        for (power, mean, square) in
            [(1, 0.0, 1.0), (2, 1.0, 3.0), (3, 0.0, 15.0), (4, 3.0, 105.0), (5, 0.0, 945.0), (6, 15.0, 10395.0)]
        {
            let got = draws.iter().map(|z| z.powi(power)).sum::<f64>() / n;
            let deviation = ((square - mean * mean) / n).sqrt();
            assert!((got - mean).abs() < 4.5 * deviation, "moment {power}: {got}");
        }
        for (beyond, p) in [(3.0, 2.699_796e-3), (4.0, 6.334_248e-5), (5.0, 5.733_031e-7)] {
            let got = draws.iter().filter(|z| z.abs() > beyond).count() as f64;
            assert!((got - n * p).abs() < 4.5 * (n * p).sqrt() + 1.0, "{got} beyond {beyond}");
        }
        draws.sort_by(f64::total_cmp);
        // Quantiles at every hundredth: Kolmogorov's distance stays below 1.95 / sqrt(n) but once in a thousand.
        for percent in 1..50_u32 {
            let p = f64::from(percent) / 100.0;
            for z in [exact(p), -exact(p)] {
                let share = draws.partition_point(|d| *d <= z) as f64 / n;
                let want = if z > 0.0 { 1.0 - p } else { p };
                assert!((share - want).abs() < 1.95 / n.sqrt(), "{share} up to {z}");
            }
        }
    }
}
