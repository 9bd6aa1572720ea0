//! Smooth random fields of the elastic transform.

use super::gaussian::{Border, Gaussian, Shape};

/// Where SciPy's filter ends in this corruption, in standard deviations.
const TRUNCATE: f64 = 3.0;

/// A Gaussian filter with half-sample reflection at the edges of a plane.
pub(super) struct Smoother {
    width: usize,
    height: usize,
    gaussian: Gaussian,
    /// The filter along columns and along rows as matrices, where that is cheaper.
    matrices: Option<[Vec<f64>; 2]>,
}

impl Smoother {
    /// For planes of this size; a deviation of 0 changes nothing.
    pub(super) fn new(width: usize, height: usize, sigma: f64) -> Self {
        let gaussian = Gaussian::new(sigma, TRUNCATE);
        // Pairs of taps cost radius operations per value, a matrix of folded weights as many as the side.
        let wide = gaussian.radius() >= width.max(height);
        let matrices = wide.then(|| [folded(&gaussian, height), folded(&gaussian, width)]);
        Smoother { width, height, gaussian, matrices }
    }

    /// The smoothed plane.
    pub(super) fn smooth(&self, noise: Vec<f64>) -> Vec<f64> {
        let (width, height) = (self.width, self.height);
        if self.gaussian.radius() == 0 {
            return noise;
        }
        let Some([down, across]) = &self.matrices else {
            return self.gaussian.filter(&noise, Shape { width, height, channels: 1 }, Border::Symmetric);
        };
        // The matrix is symmetric: the reflected filter weighs i for j as it weighs j for i.
        product(&product(down, &noise, height, height, width), across, height, width, width)
    }
}

/// The filter along an axis as a matrix: tap weights that reflection brings to the same sample are added up.
fn folded(gaussian: &Gaussian, length: usize) -> Vec<f64> {
    let radius = gaussian.radius() as isize;
    let mut matrix = vec![0.0; length * length];
    for (i, row) in matrix.chunks_exact_mut(length).enumerate() {
        for offset in -radius..=radius {
            row[super::pixels::symmetric(i as isize + offset, length)] += gaussian.weights()[offset.unsigned_abs()];
        }
    }
    matrix
}

/// The matrix product of `a` (rows x inner) and `b` (inner x columns), four rows by four columns at a time.
fn product(a: &[f64], b: &[f64], rows: usize, inner: usize, columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; rows * columns];
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            // Blocks at the ends lie over their neighbours, so that all are whole; small matrices are done one by one.
            if rows < SIDE || columns < SIDE {
                for row in top..rows.min(top + SIDE) {
                    for column in left..columns.min(left + SIDE) {
                        block::<1>(a, b, &mut out, row, column, inner, columns);
                    }
                }
            } else {
                block::<SIDE>(a, b, &mut out, top.min(rows - SIDE), left.min(columns - SIDE), inner, columns);
            }
        }
    }
    out
}

/// Rows and columns of a block of the product.
const SIDE: usize = 4;

/// `N` x `N` entries of the product, from (`top`, `left`) on, kept in registers.
fn block<const N: usize>(a: &[f64], b: &[f64], out: &mut [f64], top: usize, left: usize, inner: usize, columns: usize) {
    let rows: [&[f64]; N] = std::array::from_fn(|i| &a[(top + i) * inner..][..inner]);
    let mut sums = [[0.0; N]; N];
    for (k, b) in b.chunks_exact(columns).enumerate() {
        let b = &b[left..left + N];
        for (sums, a) in sums.iter_mut().zip(rows) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a[k] * b;
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        out[(top + i) * columns + left..][..N].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_equals_the_filter() {
        for (width, height, sigma) in [(7, 5, 3.0), (3, 11, 4.1), (1, 1, 2.0), (20, 17, 171.0)] {
            let noise: Vec<f64> = (0..width * height).map(|i| ((i * 31) % 17) as f64 - 8.0).collect();
            let shape = Shape { width, height, channels: 1 };
            let gaussian = Gaussian::new(sigma, TRUNCATE);
            assert!(gaussian.radius() >= width.max(height).min(7));
            let expected = gaussian.filter(&noise, shape, Border::Symmetric);
            let down = product(&folded(&gaussian, height), &noise, height, height, width);
            let got = product(&down, &folded(&gaussian, width), height, width, width);
            let close = |a: &[f64]| a.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(
                close(&got) && close(&Smoother::new(width, height, sigma).smooth(noise)),
                "{width}x{height} {sigma}"
            );
        }
    }
}
