//! A Gaussian process: kriging as in DACE (Lophaven, Nielsen and Søndergaard, "DACE: a Matlab kriging
//! toolbox", IMM-TR-2002-12), with a linear trend and the Gaussian correlation `exp(-theta |a - b|^2)`.
//!
//! Features and targets are scaled to mean 0 and deviation 1. The one `theta` is the maximum of the
//! likelihood between 1e-5 and 100: the least of `ln sigma^2 + ln(det R) / m`, where `sigma^2` is the mean
//! square of the whitened residuals of the trend fitted by generalised least squares, and `R` the
//! correlations of the `m` samples.

use nalgebra::{Cholesky, DMatrix, DVector};

use super::{Kind, Samples, Surrogate, independent};
use crate::error::{Error, Result};

/// Bounds and start of `theta`.
const THETA: (f64, f64, f64) = (1e-5, 100.0, 1.0);
/// Points of the coarse search on either side of the start.
const COARSE: i32 = 5;
/// Steps of the golden section search, each of which leaves .618 of the interval: it ends within .5 %.
const GOLDEN_STEPS: usize = 14;

/// A fitted process.
#[derive(Clone, Debug)]
pub struct Gp {
    features: usize,
    /// The features that vary over the samples: only these count.
    varying: Vec<Scale>,
    /// The columns of `(1, scaled features)` in the trend.
    trend: Vec<usize>,
    beta: Vec<f64>,
    centres: Vec<Vec<f64>>,
    gamma: Vec<f64>,
    theta: f64,
    target: Scale,
}

/// Takes a column to mean 0 and deviation 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    column: usize,
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

impl Scale {
    /// With deviation 0 for a column in which all are equal.
    pub(super) fn of(column: usize, values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let constant = values.iter().all(|value| *value == values[0]);
        let deviation = if constant { 0.0 } else { (squares / (values.len() as f64 - 1.0)).sqrt() };
        Scale { column, mean, deviation }
    }

    pub(super) fn to(self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }
}

/// The fit at one `theta`.
struct Fitted {
    /// What the likelihood is the greater for, the less it is.
    loss: f64,
    beta: DVector<f64>,
    gamma: DVector<f64>,
}

impl Gp {
    /// Fits it. It needs two samples more than there are features; the same input several times counts once,
    /// with the mean of its targets.
    ///
    /// # Errors
    /// Too few samples or different inputs, or correlations that are singular for every `theta`.
    pub fn fit(x: &[Vec<f64>], y: &[f64]) -> Result<Self> {
        let samples = Samples::new(Kind::Gp, x, y)?;
        let (rows, targets) = merged(&samples);
        let m = rows.len();
        let column = |feature: usize| rows.iter().map(|row| row[feature]).collect::<Vec<f64>>();
        let all = (0..samples.features).map(|feature| Scale::of(feature, &column(feature)));
        let varying: Vec<Scale> = all.filter(|scale| scale.deviation > 0.0).collect();
        let mut target = Scale::of(0, &targets);
        if target.deviation == 0.0 {
            target.deviation = 1.0;
        }
        let centres: Vec<Vec<f64>> = rows.iter().map(|row| scaled(&varying, row)).collect();
        let columns: Vec<Vec<f64>> = std::iter::once(vec![1.0; m])
            .chain((0..varying.len()).map(|place| centres.iter().map(|row| row[place]).collect()))
            .collect();
        let trend = independent(&columns);
        if m <= trend.len() {
            let why =
                format!("needs at least {} different samples for its linear trend, there are {m}", trend.len() + 1);
            return Err(Error::invalid("surrogate gp", why));
        }
        let f = DMatrix::from_fn(m, trend.len(), |row, place| columns[trend[place]][row]);
        let y = DVector::from_iterator(m, targets.iter().map(|value| target.to(*value)));
        let squares = DMatrix::from_fn(m, m, |a, b| squared_distance(&centres[a], &centres[b]));
        let theta = most_likely(|theta| fitted(theta, &squares, &f, &y).map_or(f64::INFINITY, |fit| fit.loss));
        let Some(fit) = fitted(theta, &squares, &f, &y) else {
            return Err(Error::invalid("surrogate gp", format!("the correlations of {m} samples are singular")));
        };
        Ok(Gp {
            features: samples.features,
            varying,
            trend,
            beta: fit.beta.iter().copied().collect(),
            centres,
            gamma: fit.gamma.iter().copied().collect(),
            theta,
            target,
        })
    }

    /// The inverse squared length of correlation, in scaled features.
    pub fn theta(&self) -> f64 {
        self.theta
    }

    fn value(&self, row: &[f64]) -> f64 {
        if row.len() != self.features {
            return f64::NAN;
        }
        let row = scaled(&self.varying, row);
        let column = |place: usize| if place == 0 { 1.0 } else { row[place - 1] };
        let trend: f64 = self.trend.iter().zip(&self.beta).map(|(place, beta)| column(*place) * beta).sum();
        let near = self.centres.iter().zip(&self.gamma);
        let near: f64 = near.map(|(centre, g)| g * (-self.theta * squared_distance(&row, centre)).exp()).sum();
        self.target.mean + self.target.deviation * (trend + near)
    }
}

impl Surrogate for Gp {
    fn name(&self) -> &'static str {
        Kind::Gp.name()
    }

    fn predict(&self, x: &[Vec<f64>]) -> Vec<f64> {
        x.iter().map(|row| self.value(row)).collect()
    }
}

pub(super) fn scaled(varying: &[Scale], row: &[f64]) -> Vec<f64> {
    varying.iter().map(|scale| scale.to(row[scale.column])).collect()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Different rows in the order of their first occurrence, with the mean of their targets.
fn merged<'a>(samples: &Samples<'a>) -> (Vec<&'a [f64]>, Vec<f64>) {
    let mut rows: Vec<&[f64]> = Vec::new();
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for (row, target) in samples.x.iter().zip(&samples.y) {
        match rows.iter().position(|other| other == row) {
            Some(place) => sums[place] = (sums[place].0 + target, sums[place].1 + 1.0),
            None => {
                rows.push(row);
                sums.push((*target, 1.0));
            }
        }
    }
    (rows, sums.iter().map(|(sum, count)| sum / count).collect())
}

/// Trend and correlations at one `theta`; `None` when they are singular. `f` holds the trend's columns.
fn fitted(theta: f64, squares: &DMatrix<f64>, f: &DMatrix<f64>, y: &DVector<f64>) -> Option<Fitted> {
    let m = y.len();
    let mut correlations = squares.map(|square| (-theta * square).exp());
    // DACE's nugget, against rounding.
    let nugget = (10 + m) as f64 * f64::EPSILON;
    for i in 0..m {
        correlations[(i, i)] += nugget;
    }
    let lower = Cholesky::new(correlations)?.unpack();
    // Residuals lose all their digits before the factor itself breaks down.
    let diagonal = lower.diagonal();
    if diagonal.min() < 1e-7 {
        return None;
    }
    let white_f = lower.solve_lower_triangular(f)?;
    let white_y = lower.solve_lower_triangular(y)?;
    let qr = white_f.clone().qr();
    let right = qr.q().transpose() * &white_y;
    let r = qr.r();
    if r.diagonal().amin() < 1e-10 * r.diagonal().amax() {
        return None;
    }
    let beta = r.solve_upper_triangular(&right)?;
    let residual = white_y - white_f * &beta;
    // A trend without a residual would have a likelihood without bound.
    let variance = (residual.norm_squared() / m as f64).max(1e-24);
    let loss = variance.ln() + 2.0 * diagonal.iter().map(|d| d.ln()).sum::<f64>() / m as f64;
    let gamma = lower.tr_solve_lower_triangular(&residual)?;
    let finite = loss.is_finite() && gamma.iter().chain(beta.iter()).all(|value| value.is_finite());
    finite.then_some(Fitted { loss, beta, gamma })
}

/// The `theta` of least loss: the best of a coarse grid of logarithms around the start, refined between its
/// neighbours by golden section search (Kiefer 1953).
fn most_likely(loss: impl Fn(f64) -> f64) -> f64 {
    let (low, high, start) = (THETA.0.ln(), THETA.1.ln(), THETA.2.ln());
    let place = |i: i32| {
        let part = f64::from(i) / f64::from(COARSE);
        if i < 0 { start + part * (start - low) } else { start + part * (high - start) }
    };
    let loss = |logarithm: f64| loss(logarithm.exp());
    let mut best = (0, loss(start));
    // From the start outwards, and only a smaller loss leads further away.
    for i in (1..=COARSE).flat_map(|i| [i, -i]) {
        let found = loss(place(i));
        if found < best.1 {
            best = (i, found);
        }
    }
    let (mut a, mut b) = (place((best.0 - 1).max(-COARSE)), place((best.0 + 1).min(COARSE)));
    let mut best = (place(best.0), best.1);
    let part = (5f64.sqrt() - 1.0) / 2.0;
    let inner = |a: f64, b: f64| (b - part * (b - a), a + part * (b - a));
    let (mut c, mut d) = inner(a, b);
    let (mut at_c, mut at_d) = (loss(c), loss(d));
    for step in 0..GOLDEN_STEPS {
        for (place, found) in [(c, at_c), (d, at_d)] {
            if found < best.1 {
                best = (place, found);
            }
        }
        if step + 1 == GOLDEN_STEPS {
            break;
        }
        if at_c <= at_d {
            b = d;
            (d, at_d) = (c, at_c);
            c = inner(a, b).0;
            at_c = loss(c);
        } else {
            a = c;
            (c, at_c) = (d, at_d);
            d = inner(a, b).1;
            at_d = loss(d);
        }
    }
    best.0.exp()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rows, target, targets};
    use super::*;
    use crate::philox::Stream;

    #[test]
    fn goes_through_the_samples_and_generalises() {
        let x = rows(60, 5, 1);
        let y = targets(&x);
        let fitted = Gp::fit(&x, &y).unwrap();
        for (got, want) in fitted.predict(&x).iter().zip(&y) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
        let test = rows(50, 5, 2);
        let error = fitted.predict(&test).iter().zip(&test).map(|(got, row)| (got - target(row)).abs()).sum::<f64>();
        assert!(error / 50.0 < 0.1, "{}", error / 50.0);
        assert!(fitted.predict(&[vec![0.0; 4]])[0].is_nan());
    }

    /// Samples of a process with a known length: it is found again to within the spread of the estimate.
    #[test]
    fn finds_the_length_of_correlation() {
        let mut draw = Stream::new(5, 0, 0);
        let x: Vec<Vec<f64>> = (0..80).map(|_| vec![4.0 * draw.uniform(), 4.0 * draw.uniform()]).collect();
        let covariance = DMatrix::from_fn(80, 80, |a, b| {
            (-1.5 * squared_distance(&x[a], &x[b])).exp() + if a == b { 1e-9 } else { 0.0 }
        });
        let lower = Cholesky::new(covariance).unwrap().unpack();
        let y = lower * DVector::from_fn(80, |_, _| draw.normal());
        let fitted = Gp::fit(&x, y.as_slice()).unwrap();
        // In units of the features before they were scaled.
        let theta = fitted.theta() / (fitted.varying[0].deviation * fitted.varying[1].deviation);
        assert!((1.0..2.2).contains(&theta), "{theta}");
    }

    /// Against a search of every thousandth of the logarithm.
    #[test]
    fn the_likelihood_is_at_its_maximum() {
        for shift in [-11.0, -3.3, 0.0, 0.7, 4.0] {
            let loss = |theta: f64| (theta.ln() - shift).powi(2);
            let found = most_likely(loss).ln();
            assert!((found - shift).abs() < 0.02, "{found} {shift}");
        }
        assert_eq!(most_likely(|_| f64::INFINITY), 1.0);
        assert!((most_likely(|theta| theta).ln() - THETA.0.ln()).abs() < 0.02);
        assert!((most_likely(|theta| -theta).ln() - THETA.1.ln()).abs() < 0.02);
    }

    #[test]
    fn constant_dependent_and_repeated_columns_and_rows() {
        let mut x = rows(40, 5, 3);
        let y = targets(&x);
        x.iter_mut().for_each(|row| (row[3], row[4]) = (7.0, 2.0 - row[0]));
        x.extend_from_within(..5);
        let mut more = y.clone();
        more.extend(y[..5].iter().map(|value| value + 0.2));
        let fitted = Gp::fit(&x, &more).unwrap();
        assert_eq!(fitted.centres.len(), merged(&Samples::new(Kind::Gp, &x, &more).unwrap()).0.len());
        assert!(fitted.predict(&x).iter().all(|value| value.is_finite() && value.abs() < 100.0));
        // What a feature that never varied does is unknown: nothing.
        let (a, mut b) = (x[0].clone(), x[0].clone());
        b[3] = 0.0;
        assert_eq!(fitted.predict(&[a]), fitted.predict(&[b]));
    }

    #[test]
    fn lines_and_constants() {
        let (x, test) = (rows(30, 3, 4), rows(10, 3, 5));
        let line = |row: &Vec<f64>| 1.0 + 2.0 * row[0] - row[2];
        let fitted = Gp::fit(&x, &x.iter().map(line).collect::<Vec<_>>()).unwrap();
        for (got, row) in fitted.predict(&test).iter().zip(&test) {
            assert!((got - line(row)).abs() < 1e-6, "{got}");
        }
        let fitted = Gp::fit(&x, &[4.5; 30]).unwrap();
        assert!(fitted.predict(&test).iter().all(|value| (value - 4.5).abs() < 1e-9));
    }

    #[test]
    fn too_few_samples_are_refused() {
        let x = rows(30, 4, 1);
        let y = targets(&x);
        assert!(Gp::fit(&x[..5], &y[..5]).unwrap_err().to_string().contains("needs at least 6 evaluated samples"));
        let same = vec![x[0].clone(); 9];
        assert!(Gp::fit(&same, &y[..9]).unwrap_err().to_string().contains("needs at least 2 different samples"));
    }
}
