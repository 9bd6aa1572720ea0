//! The 8 x 8 cosine transform in integers (Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms
//! with 11 multiplications", ICASSP 1989), with libjpeg's 13-bit constants and roundings ("islow").

use super::{BLOCK, Plane};

/// Fraction bits of the constants, and extra bits kept between the two passes.
const BITS: u32 = 13;
const EXTRA: u32 = 2;

// round(c * 2^13) of the rotations' constants; their names say c.
const C0_298: i32 = 2446;
const C0_390: i32 = 3196;
const C0_541: i32 = 4433;
const C0_765: i32 = 6270;
const C0_899: i32 = 7373;
const C1_175: i32 = 9633;
const C1_501: i32 = 12299;
const C1_847: i32 = 15137;
const C1_961: i32 = 16069;
const C2_053: i32 = 16819;
const C2_562: i32 = 20995;
const C3_072: i32 = 25172;

type Block = [[i32; BLOCK]; BLOCK];

/// v / 2^n, rounded to the nearest.
fn descale(v: i32, n: u32) -> i32 {
    (v + (1 << (n - 1))) >> n
}

/// Rotation of the even half, shared by both directions.
fn even([a, b]: [i32; 2]) -> [i32; 2] {
    let z = (a + b) * C0_541;
    [z + a * C0_765, z - b * C1_847]
}

/// The odd half, shared by both directions.
fn odd([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    let z5 = (a + b + c + d) * C1_175;
    let (z1, z2) = (-(a + d) * C0_899, -(b + c) * C2_562);
    let (z3, z4) = (z5 - (a + c) * C1_961, z5 - (b + d) * C0_390);
    [a * C0_298 + z1 + z3, b * C2_053 + z2 + z4, c * C3_072 + z2 + z3, d * C1_501 + z1 + z4]
}

/// Eight samples to eight coefficients; the even half is scaled by 2^(13 - bits), the odd by 2^13, as `finish`
/// gets to know.
fn forward(x: [i32; BLOCK], plain: impl Fn(i32) -> i32, scaled: impl Fn(i32) -> i32) -> [i32; BLOCK] {
    let (s0, s1, s2, s3) = (x[0] + x[7], x[1] + x[6], x[2] + x[5], x[3] + x[4]);
    let (e0, e1) = (s0 + s3, s1 + s2);
    let [y2, y6] = even([s0 - s3, s1 - s2]);
    let [y7, y5, y3, y1] = odd([x[3] - x[4], x[2] - x[5], x[1] - x[6], x[0] - x[7]]);
    [plain(e0 + e1), scaled(y1), scaled(y2), scaled(y3), plain(e0 - e1), scaled(y5), scaled(y6), scaled(y7)]
}

/// Eight coefficients to eight samples, rounded off by `bits`.
fn inverse(y: [i32; BLOCK], bits: u32) -> [i32; BLOCK] {
    let [t3, t2] = even([y[2], y[6]]);
    let (t0, t1) = ((y[0] + y[4]) << BITS, (y[0] - y[4]) << BITS);
    let e = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let [o3, o2, o1, o0] = odd([y[7], y[5], y[3], y[1]]);
    let o = [o0, o1, o2, o3];
    std::array::from_fn(|i| if i < 4 { descale(e[i] + o[i], bits) } else { descale(e[7 - i] - o[7 - i], bits) })
}

fn transpose(block: &Block) -> Block {
    std::array::from_fn(|i| std::array::from_fn(|j| block[j][i]))
}

/// Rows, then columns; the result is 8 times the orthonormal transform, transposed.
fn forward_block(block: &Block) -> Block {
    let rows = block.map(|row| forward(row, |v| v << EXTRA, |v| descale(v, BITS - EXTRA)));
    transpose(&rows).map(|column| forward(column, |v| descale(v, EXTRA), |v| descale(v, BITS + EXTRA)))
}

/// Columns, then rows, from coefficients given transposed.
fn inverse_block(columns: &Block) -> Block {
    let columns = columns.map(|column| inverse(column, BITS - EXTRA));
    transpose(&columns).map(|row| inverse(row, BITS + EXTRA + 3))
}

/// Divides a coefficient that is 8 times too large by the step, rounds half away from zero, and multiplies back.
///
/// `reciprocal` is 2^32 / (8 step), rounded up: the product's upper half is the exact quotient for all
/// numerators below 2^16, which 8 x 8 transforms of bytes do not reach.
fn requantise(coefficient: i32, step: i32, reciprocal: u64) -> i32 {
    let numerator = coefficient.unsigned_abs() + 4 * step as u32;
    let quotient = ((u64::from(numerator) * reciprocal) >> 32) as i32;
    if coefficient < 0 { -quotient * step } else { quotient * step }
}

/// Takes every block of a plane to quantised coefficients and back. `steps` is row by row.
pub(super) fn quantise(plane: &mut Plane, steps: &[i32; 64]) {
    // Blocks are kept transposed between the transforms.
    let steps: Block = std::array::from_fn(|i| std::array::from_fn(|j| steps[j * BLOCK + i]));
    let reciprocals = steps.map(|row| row.map(|step| (1u64 << 32).div_ceil(8 * step as u64)));
    let stride = plane.stride;
    for rows in plane.samples.chunks_exact_mut(stride * BLOCK) {
        for x in (0..stride).step_by(BLOCK) {
            let mut block: Block = [[0; BLOCK]; BLOCK];
            for (out, row) in block.iter_mut().zip(rows.chunks_exact(stride)) {
                for (out, &value) in out.iter_mut().zip(&row[x..x + BLOCK]) {
                    *out = i32::from(value) - 128;
                }
            }
            let mut coefficients = forward_block(&block);
            for ((values, steps), reciprocals) in coefficients.iter_mut().zip(&steps).zip(&reciprocals) {
                for ((value, &step), &reciprocal) in values.iter_mut().zip(steps).zip(reciprocals) {
                    *value = requantise(*value, step, reciprocal);
                }
            }
            let block = inverse_block(&coefficients);
            for (values, row) in block.iter().zip(rows.chunks_exact_mut(stride)) {
                for (out, value) in row[x..x + BLOCK].iter_mut().zip(values) {
                    *out = (value + 128).clamp(0, 255) as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of the transform (T.81, A.3.3), transposed and times 8.
    fn definition(block: &Block, u: usize, v: usize) -> f64 {
        let c = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let wave = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        let mut sum = 0.0;
        for (y, row) in block.iter().enumerate() {
            for (x, &value) in row.iter().enumerate() {
                sum += f64::from(value) * wave(x, u) * wave(y, v);
            }
        }
        8.0 * 0.25 * c(u) * c(v) * sum
    }

    #[test]
    fn transform_follows_the_definition_and_returns() {
        let block: Block =
            std::array::from_fn(|i| std::array::from_fn(|j| ((i * 71 + j * 37 + i * j * 13) % 256) as i32 - 128));
        let got = forward_block(&block);
        for (u, column) in got.iter().enumerate() {
            for (v, &value) in column.iter().enumerate() {
                assert!((f64::from(value) - definition(&block, u, v)).abs() < 3.0, "{u} {v}");
            }
        }
        let back = inverse_block(&got.map(|column| column.map(|v| descale(v, 3))));
        for (a, b) in block.iter().flatten().zip(back.iter().flatten()) {
            assert!((a - b).abs() <= 2, "{a} {b}");
        }
    }

    #[test]
    fn reciprocals_divide_exactly() {
        for step in 1..=255 {
            let reciprocal = (1u64 << 32).div_ceil(8 * step as u64);
            for f in (-16_384i32..=16_384).step_by(if step < 9 { 1 } else { 7 }) {
                let expected = f.signum() * ((f.abs() + 4 * step) / (8 * step)) * step;
                assert_eq!(requantise(f, step, reciprocal), expected, "{f} by {step}");
            }
        }
    }
}
