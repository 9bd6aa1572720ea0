//! From gradients and activations to scores, in `f64`.

use nalgebra::DMatrix;

use super::LOWEST;

/// Sums beside each other.
const LANES: usize = 8;

/// Weights and gradient of a layer, in the same order; zeros that pad both change nothing.
pub struct LayerGradient<'a> {
    /// Weights.
    pub w: &'a [f32],
    /// Gradient.
    pub g: &'a [f32],
}

/// Sum over pairs, in [`LANES`] sums beside each other, which a processor adds at once.
fn sum(a: &[f32], b: &[f32], of: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_whole, b_whole) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_whole.remainder().iter().zip(b_whole.remainder());
    let rest = rest.map(|(&a, &b)| of(a.into(), b.into())).sum::<f64>();
    for (a, b) in a_whole.zip(b_whole) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += of(a.into(), b.into());
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| a * b)
}

/// Euclidean norm.
pub fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// Sum of norms of the gradients.
pub fn grad_norm(layers: &[LayerGradient]) -> f64 {
    layers.iter().map(|l| norm(l.g)).sum()
}

/// Sum of `|w g|`.
pub fn snip(layers: &[LayerGradient]) -> f64 {
    layers.iter().map(|l| sum(l.w, l.g, |w, g| (w * g).abs())).sum()
}

/// Sum of `w g`; of products with the Hessian instead of gradients, grasp without its sign.
pub fn plain(layers: &[LayerGradient]) -> f64 {
    layers.iter().map(|l| dot(l.w, l.g)).sum()
}

/// One layer of Fisher: `products` has for each of `images` images the channels' sums over positions of `y dL/dy`;
/// `weights` is the number of weights of one channel.
pub fn fisher(products: &[f32], images: usize, weights: usize) -> f64 {
    let squares: f64 = products.iter().map(|&p| f64::from(p) * f64::from(p)).sum();
    0.5 * squares / images as f64 * weights as f64
}

/// Correlation coefficients between rows; a row that is constant gives NaN, as in NumPy.
fn correlations(rows: &[&[f32]]) -> DMatrix<f64> {
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len() as f64;
            row.iter().map(|&v| f64::from(v) - mean).collect()
        })
        .collect();
    let product = |i: usize, j: usize| -> f64 { centred[i].iter().zip(&centred[j]).map(|(a, b)| a * b).sum() };
    let own: Vec<f64> = (0..rows.len()).map(|i| product(i, i).sqrt()).collect();
    DMatrix::from_fn(rows.len(), rows.len(), |i, j| {
        let (low, high) = (i.min(j), i.max(j));
        if i == j && own[i] > 0.0 { 1.0 } else { (product(low, high) / (own[i] * own[j])).clamp(-1.0, 1.0) }
    })
}

/// See [`Proxy::JacobCov`](super::Proxy::JacobCov); `jacobian` has a row per image.
pub fn jacob_cov(jacobian: &[&[f32]]) -> f64 {
    let matrix = correlations(jacobian);
    if matrix.iter().any(|v| !v.is_finite()) {
        return LOWEST;
    }
    let k = 1e-5;
    -matrix.symmetric_eigenvalues().iter().map(|e| (e + k).ln() + 1.0 / (e + k)).sum::<f64>()
}

/// See [`Proxy::EpeNas`](super::Proxy::EpeNas). Classes without an image count nothing. With more than 100 classes: the mean
/// over classes of the summed differences between classes' sums, each divided by the class' images.
pub fn epe_nas(jacobian: &[&[f32]], labels: &[usize], classes: usize) -> f64 {
    let mut sums = vec![];
    for class in 0..classes {
        let rows: Vec<&[f32]> = jacobian.iter().zip(labels).filter(|(_, l)| **l == class).map(|(r, _)| *r).collect();
        if rows.is_empty() {
            continue;
        }
        let matrix = correlations(&rows);
        if matrix.iter().any(|v| !v.is_finite()) {
            return LOWEST;
        }
        let sum: f64 = matrix.iter().map(|v| (v.abs() + 1e-5).ln()).sum();
        sums.push(if classes > 100 { sum / rows.len() as f64 } else { sum });
    }
    if classes <= 100 {
        return sums.iter().map(|s| s.abs()).sum();
    }
    let pairs: f64 = sums.iter().map(|a| sums.iter().map(|b| (a - b).abs()).sum::<f64>()).sum();
    pairs / sums.len().max(1) as f64
}

/// For each pair of images, on how many of `units` units their signs agree; `codes` are those of
/// [`Op::SignCodes`](crate::graph::Op::SignCodes).
pub fn agreement(codes: &[f32], images: usize, units: usize) -> Vec<f64> {
    let words = codes.len() / images.max(1);
    let codes: Vec<u32> = codes.iter().map(|&code| code as u32).collect();
    let image = |i: usize| &codes[i * words..(i + 1) * words];
    let differ = |i: usize, j: usize| image(i).iter().zip(image(j)).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    (0..images * images).map(|at| units as f64 - f64::from(differ(at / images, at % images))).collect()
}

/// `log |det K|` of a matrix of `images` rows.
pub fn log_determinant(kernel: &[f64], images: usize) -> f64 {
    let factors = DMatrix::from_row_slice(images, images, kernel).lu();
    let sum: f64 = factors.u().diagonal().iter().map(|v| v.abs().ln()).sum();
    if sum.is_finite() { sum } else { LOWEST }
}

/// One layer of ZiCo: `log` of the sum over weights of `mean |g| / std g` over batches, with the deviation of the
/// population; weights with deviation 0 are left out. `None` if none is left.
pub fn zico(gradients: &[&[f32]]) -> Option<f64> {
    let count = gradients.len() as f64;
    let weight = |i: usize| {
        let values = || gradients.iter().map(|g| f64::from(g[i]));
        let mean = values().sum::<f64>() / count;
        let deviation = (values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
        if deviation > 0.0 { values().map(f64::abs).sum::<f64>() / count / deviation } else { 0.0 }
    };
    let sum: f64 = (0..gradients.first().map_or(0, |g| g.len())).map(weight).sum();
    (sum > 0.0 && sum.is_finite()).then(|| sum.ln())
}

/// `log` of a sum that was taken on a network scaled by `2^-exponent`.
pub fn log_score(scaled: f64, exponent: i32) -> f64 {
    let log = scaled.ln() + f64::from(exponent) * std::f64::consts::LN_2;
    if log.is_finite() { log } else { LOWEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let layers = [LayerGradient { w: &[1.0, -2.0], g: &[3.0, 4.0] }, LayerGradient { w: &[0.5], g: &[-2.0] }];
        assert_eq!(grad_norm(&layers), 7.0);
        assert_eq!(snip(&layers), 3.0 + 8.0 + 1.0);
        assert_eq!(plain(&layers), 3.0 - 8.0 - 1.0);
        // Two images, two channels of three weights: 1/2 (1 + 9 + 4 + 16) / 2 * 3.
        assert_eq!(fisher(&[1.0, 2.0, 3.0, 4.0], 2, 3), 0.5 * 30.0 / 2.0 * 3.0);
        assert!((log_determinant(&[2.0, 1.0, 1.0, 3.0], 2) - 5f64.ln()).abs() < 1e-12);
        // Three units; signs 101 and 011 agree on one.
        assert_eq!(agreement(&[5.0, 3.0], 2, 3), [3.0, 1.0, 1.0, 3.0]);
        assert_eq!(log_determinant(&[1.0, 1.0, 1.0, 1.0], 2), LOWEST);
        // Gradients 1 and 3: mean 2, deviation 1; the second weight does not vary.
        assert_eq!(zico(&[&[1.0, 5.0], &[3.0, 5.0]]), Some(2f64.ln()));
        assert_eq!(zico(&[&[1.0], &[1.0]]), None);
        assert_eq!(log_score(0.0, 3), LOWEST);
        assert!((log_score(1.0, 10) - 1024f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn correlated_images() {
        // Correlation -1 between two rows: eigenvalues 0 and 2.
        let (a, b) = ([1.0f32, 2.0, 3.0], [3.0f32, 2.0, 1.0]);
        let k = 1e-5f64;
        let want = -(k.ln() + 1.0 / k + (2.0 + k).ln() + 1.0 / (2.0 + k));
        assert!((jacob_cov(&[&a, &b]) / want - 1.0).abs() < 1e-6);
        assert_eq!(jacob_cov(&[&a, &[1.0, 1.0, 1.0]]), LOWEST);
        // Four entries of magnitude 1 in one class; a class of one image has one entry; the third class is empty.
        let one = (1.0f64 + 1e-5).ln();
        assert!((epe_nas(&[&a, &b, &a], &[0, 0, 1], 3) - 5.0 * one).abs() < 1e-12);
    }
}
