//! Interpolation by cubic radial basis functions with a linear tail.
//!
//! `s(x) = sum_i c_i |x - x_i|^3 + l_0 + l . x`, where `c` and `l` solve
//! `[[0, P^T], [P, Phi + eta I]] [l; c] = [0; f]` with `Phi_ij = |x_i - x_j|^3` and `P` the rows `(1, x_i)`
//! (Powell, "The theory of radial basis function approximation in 1990", 1992). Inputs are not scaled. The
//! small `eta` lets the same input occur twice.

use nalgebra::{DMatrix, DVector};

use super::{Kind, Samples, Surrogate, independent};
use crate::error::{Error, Result};

/// What is added to the diagonal, as in MSuNAS.
const ETA: f64 = 1e-6;

/// A fitted interpolant.
#[derive(Clone, Debug)]
pub struct Rbf {
    centres: Vec<Vec<f64>>,
    weights: Vec<f64>,
    tail: Vec<f64>,
}

impl Rbf {
    /// Fits it. It needs one sample more than there are features.
    ///
    /// # Errors
    /// Too few samples, or a system that is singular, as when targets or features are too large.
    pub fn fit(x: &[Vec<f64>], y: &[f64]) -> Result<Self> {
        let samples = Samples::new(Kind::Rbf, x, y)?;
        let n = samples.y.len();
        let columns: Vec<Vec<f64>> =
            std::iter::once(vec![1.0; n]).chain((0..samples.features).map(|i| samples.column(i))).collect();
        // Without what the samples do not determine: features that are constant over them, or a combination of
        // others. On all points that are like the samples in this the interpolant is the same.
        let kept = independent(&columns);
        let tail = kept.len();
        let system = DMatrix::from_fn(tail + n, tail + n, |row, column| match (row < tail, column < tail) {
            (true, true) => 0.0,
            (false, true) => columns[kept[column]][row - tail],
            (true, false) => columns[kept[row]][column - tail],
            (false, false) => {
                let (row, column) = (row - tail, column - tail);
                cubed_distance(samples.x[row], samples.x[column]) + if row == column { ETA } else { 0.0 }
            }
        });
        let right = DVector::from_iterator(tail + n, std::iter::repeat_n(0.0, tail).chain(samples.y.iter().copied()));
        let solution = system.lu().solve(&right).filter(|solution| solution.iter().all(|value| value.is_finite()));
        let Some(solution) = solution else {
            return Err(Error::invalid("surrogate rbf", format!("the system of {n} samples is singular")));
        };
        let mut coefficients = vec![0.0; samples.features + 1];
        for (column, value) in kept.iter().zip(solution.iter()) {
            coefficients[*column] = *value;
        }
        Ok(Rbf {
            centres: samples.x.iter().map(|row| row.to_vec()).collect(),
            weights: solution.iter().skip(tail).copied().collect(),
            tail: coefficients,
        })
    }

    /// The coefficients of the linear tail, the constant first; 0 for a feature that is not in it.
    pub fn tail(&self) -> &[f64] {
        &self.tail
    }

    fn value(&self, row: &[f64]) -> f64 {
        if row.len() + 1 != self.tail.len() {
            return f64::NAN;
        }
        let tail = self.tail[0] + self.tail[1..].iter().zip(row).map(|(weight, value)| weight * value).sum::<f64>();
        let bumps = self.centres.iter().zip(&self.weights);
        tail + bumps.map(|(centre, weight)| weight * cubed_distance(row, centre)).sum::<f64>()
    }
}

impl Surrogate for Rbf {
    fn name(&self) -> &'static str {
        Kind::Rbf.name()
    }

    fn predict(&self, x: &[Vec<f64>]) -> Vec<f64> {
        x.iter().map(|row| self.value(row)).collect()
    }
}

/// The cube of the Euclidean distance.
fn cubed_distance(a: &[f64], b: &[f64]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    squares * squares.sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rows, targets};
    use super::*;

    #[test]
    fn goes_through_the_samples_and_is_exact_for_lines() {
        let x = rows(40, 5, 1);
        let y = targets(&x);
        let fitted = Rbf::fit(&x, &y).unwrap();
        for (got, want) in fitted.predict(&x).iter().zip(&y) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
        let line = |row: &Vec<f64>| 2.0 - row[0] + 3.0 * row[4];
        let fitted = Rbf::fit(&x, &x.iter().map(line).collect::<Vec<_>>()).unwrap();
        let test = rows(20, 5, 2);
        for (got, row) in fitted.predict(&test).iter().zip(&test) {
            assert!((got - line(row)).abs() < 1e-9);
        }
        for (got, want) in fitted.tail().iter().zip([2.0, -1.0, 0.0, 0.0, 0.0, 3.0]) {
            assert!((got - want).abs() < 1e-9);
        }
        assert!(fitted.predict(&[vec![0.0; 4]])[0].is_nan());
    }

    #[test]
    fn repeated_points_are_no_trouble() {
        let mut x = rows(20, 6, 1);
        let mut y = targets(&x);
        x.extend_from_within(..10);
        y.extend(y[..10].iter().map(|value| value + 0.1).collect::<Vec<_>>());
        let fitted = Rbf::fit(&x, &y).unwrap();
        for (got, want) in fitted.predict(&x[..10]).iter().zip(&y) {
            assert!((got - want - 0.05).abs() < 1e-3, "{got} {want}");
        }
    }

    #[test]
    fn constant_and_dependent_features_are_no_trouble() {
        let mut x = rows(30, 3, 1);
        let y = targets(&x);
        let (plain, test) = (Rbf::fit(&x, &y).unwrap(), rows(10, 3, 2));
        let widened = |row: &Vec<f64>| vec![row[0], row[1], 1.0, row[2]];
        let wide = Rbf::fit(&x.iter().map(widened).collect::<Vec<_>>(), &y).unwrap();
        assert_eq!(wide.tail()[3], 0.0);
        let got = wide.predict(&test.iter().map(widened).collect::<Vec<_>>());
        for (got, want) in got.iter().zip(plain.predict(&test)) {
            assert!((got - want).abs() < 1e-9, "{got} {want}");
        }
        // A copy of a column changes distances, but not that it goes through the samples.
        x.iter_mut().for_each(|row| row.push(3.0 - row[1]));
        let copied = Rbf::fit(&x, &y).unwrap();
        for (got, want) in copied.predict(&x).iter().zip(&y) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
    }

    #[test]
    fn bad_systems_are_refused() {
        let mut x = rows(20, 4, 1);
        let y = targets(&x);
        assert!(Rbf::fit(&x[..4], &y[..4]).unwrap_err().to_string().contains("needs at least 5"));
        x.iter_mut().flatten().for_each(|value| *value *= 1e200);
        assert!(Rbf::fit(&x, &y).unwrap_err().to_string().contains("20 samples is singular"));
    }
}
