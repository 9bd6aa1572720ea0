//! The fast Fourier transform of squares whose side is a power of two.

/// A complex number.
pub(super) type Complex = (f64, f64);

/// Transforms a `side` x `side` square in place along both axes (positive exponent, not scaled). `side` must be a power
/// of two.
pub(super) fn transform(square: &mut [Complex], side: usize) {
    let turn = std::f64::consts::TAU / side as f64;
    let roots: Vec<Complex> = (0..side / 2).map(|i| (turn * i as f64).sin_cos()).map(|(sin, cos)| (cos, sin)).collect();
    for _ in 0..2 {
        square.chunks_exact_mut(side).for_each(|row| line(row, &roots));
        for y in 0..side {
            for x in 0..y {
                square.swap(y * side + x, x * side + y);
            }
        }
    }
}

/// One line: places in bit-reversed order, then butterflies of growing width (Cooley and Tukey 1965).
fn line(values: &mut [Complex], roots: &[Complex]) {
    let length = values.len();
    if length < 2 {
        return;
    }
    let unused = usize::BITS - length.trailing_zeros();
    for i in 0..length {
        let j = i.reverse_bits() >> unused;
        if i < j {
            values.swap(i, j);
        }
    }
    let mut half = 1;
    while half < length {
        let stride = length / (2 * half);
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), root) in low.iter_mut().zip(high).zip(roots.iter().step_by(stride)) {
                let turned = (b.0 * root.0 - b.1 * root.1, b.0 * root.1 + b.1 * root.0);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition() {
        for side in [1usize, 2, 8] {
            let input: Vec<Complex> = (0..side * side).map(|i| (((i * 7) % 5) as f64, ((i * 3) % 4) as f64)).collect();
            let mut got = input.clone();
            transform(&mut got, side);
            for (i, got) in got.iter().enumerate() {
                let mut sum = (0.0, 0.0);
                for (j, value) in input.iter().enumerate() {
                    let steps = (i / side) * (j / side) + (i % side) * (j % side);
                    let (sin, cos) = (std::f64::consts::TAU * steps as f64 / side as f64).sin_cos();
                    sum = (sum.0 + value.0 * cos - value.1 * sin, sum.1 + value.0 * sin + value.1 * cos);
                }
                assert!((got.0 - sum.0).abs() < 1e-9 && (got.1 - sum.1).abs() < 1e-9, "{side} {i}");
            }
        }
    }
}
