//! Batch normalisation (Ioffe and Szegedy 2015), per channel over the `M = n h w` values of a batch.
//!
//! ```text
//! mean = sum x / M      var = sum (x - mean)^2 / M      rstd = 1 / sqrt(var + epsilon)
//! y = gamma rstd (x - mean) + beta = scale (x - mean) + beta,   scale = gamma rstd
//! running = (1 - m) running + m new,                    new variance = var M / (M - 1)
//! ```
//!
//! Gradient, `dbeta = sum dy` and `dgamma = sum dy (x - mean) rstd`:
//!
//! ```text
//! dx = scale (dy - dbeta / M - (x - mean) rstd dgamma / M) = p dy + q (x - mean) + t
//! ```
//!
//! Second gradient, of `f = sum v dx` with respect to `x`; `xh = (x - mean) rstd`, `m` means over the `M` values:
//!
//! ```text
//! A = m(v dy) - m(v) m(dy)      B = m(v xh)      C = m(dy xh)
//! f = M scale (A - B C)
//! df = - scale rstd (C (v - m(v)) + B (dy - m(dy)) + xh (A - 3 B C))
//! ```
//!
//! With running statistics mean and variance do not depend on `x`, and `dx = scale dy`.

use super::{View, agree};
use crate::error::{Error, Result};

/// The operands of a batch norm but for what it normalises.
pub(super) struct BatchNorm<'a> {
    /// Scale, or ones.
    pub gamma: Option<View<'a>>,
    /// Shift, or zeros.
    pub beta: Option<View<'a>>,
    /// Running mean and variance.
    pub running: Option<(View<'a>, View<'a>)>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// The channel's values.
fn channel(x: View<'_>, c: usize) -> impl Iterator<Item = f64> + Clone {
    x.values.iter().skip(c).step_by(x.axes[3]).copied()
}

/// Values per channel.
fn count(x: View<'_>) -> f64 {
    (x.axes[0] * x.axes[1] * x.axes[2]) as f64
}

/// Mean and biased variance of each channel.
fn batch_statistics(x: View<'_>) -> (Vec<f64>, Vec<f64>) {
    let count = count(x);
    let moments = |c| {
        let mean = channel(x, c).sum::<f64>() / count;
        (mean, channel(x, c).map(|value| (value - mean).powi(2)).sum::<f64>() / count)
    };
    (0..x.axes[3]).map(moments).unzip()
}

impl BatchNorm<'_> {
    /// Coefficients from the batch's own statistics.
    pub fn of_batch(&self, x: View<'_>) -> Result<Vec<f64>> {
        let (mean, variance) = batch_statistics(x);
        self.coefficients(&mean, &variance)
    }

    /// Coefficients from the running statistics.
    pub fn of_running(&self) -> Result<Vec<f64>> {
        let Some((mean, variance)) = self.running else {
            return Err(Error::invalid("batch norm", "there are no running statistics to use"));
        };
        self.coefficients(mean.values, variance.values)
    }

    /// Rows `scale, beta, mean, rstd`.
    fn coefficients(&self, mean: &[f64], variance: &[f64]) -> Result<Vec<f64>> {
        let channels = mean.len();
        agree("variance of a batch norm", channels, variance.len())?;
        let gamma = self.gamma.map_or(vec![1.0; channels], |gamma| gamma.values.to_vec());
        let beta = self.beta.map_or(vec![0.0; channels], |beta| beta.values.to_vec());
        agree("scale of a batch norm", channels, gamma.len())?;
        agree("shift of a batch norm", channels, beta.len())?;
        let rstd: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + self.epsilon).sqrt()).collect();
        let scale: Vec<f64> = (0..channels).map(|c| gamma[c] * rstd[c]).collect();
        Ok([scale, beta, mean.to_vec(), rstd].concat())
    }

    /// The running mean and variance, moved by `momentum` towards the batch's; a single value has no unbiased
    /// variance, so its biased one (zero) is taken.
    pub fn moved(&self, x: View<'_>, momentum: f64) -> Result<(Vec<f64>, Vec<f64>)> {
        let Some((running_mean, running_variance)) = self.running else {
            return Err(Error::invalid("batch norm", "there are no running statistics to move"));
        };
        let (mean, variance) = batch_statistics(x);
        agree("running mean", mean.len(), running_mean.values.len())?;
        agree("running variance", variance.len(), running_variance.values.len())?;
        let count = count(x);
        let correction = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        let toward = |(old, new): (&f64, f64)| (1.0 - momentum) * old + momentum * new;
        let unbiased = variance.into_iter().map(|variance| variance * correction);
        Ok((
            running_mean.values.iter().zip(mean).map(toward).collect(),
            running_variance.values.iter().zip(unbiased).map(toward).collect(),
        ))
    }
}

/// What [`batch_norm_grad`] finds.
pub(super) struct BatchNormGrad {
    /// Rows `p, q, t, mean`.
    pub coefficients: Vec<f64>,
    /// Gradient of the scale.
    pub dgamma: Vec<f64>,
    /// Gradient of the shift.
    pub dbeta: Vec<f64>,
}

/// Gradients of scale and shift, and the coefficients of the gradient of `x`; `through_statistics` if mean and
/// variance were those of `x`.
pub(super) fn batch_norm_grad(
    dy: View<'_>,
    x: View<'_>,
    coefficients: View<'_>,
    through_statistics: bool,
) -> Result<BatchNormGrad> {
    let channels = x.axes[3];
    agree("gradient above a batch norm", x.axes, dy.axes)?;
    agree("coefficients of a batch norm", [4, channels], [coefficients.axes[0], coefficients.axes[3]])?;
    let row = |row: usize, c: usize| coefficients.values[row * channels + c];
    let (scale, mean, rstd) = (|c| row(0, c), |c| row(2, c), |c| row(3, c));

    let dbeta: Vec<f64> = (0..channels).map(|c| channel(dy, c).sum()).collect();
    let dgamma: Vec<f64> = (0..channels)
        .map(|c| channel(dy, c).zip(channel(x, c)).map(|(dy, x)| dy * (x - mean(c)) * rstd(c)).sum())
        .collect();
    let share = if through_statistics { 1.0 / count(x) } else { 0.0 };
    let rows = [
        (0..channels).map(scale).collect::<Vec<f64>>(),
        (0..channels).map(|c| -scale(c) * rstd(c) * dgamma[c] * share).collect(),
        (0..channels).map(|c| -scale(c) * dbeta[c] * share).collect(),
        (0..channels).map(mean).collect(),
    ];
    Ok(BatchNormGrad { coefficients: rows.concat(), dgamma, dbeta })
}

/// Coefficients (rows `p, q, t, mean`) of the terms of `v` and of `dy` that add up to the second gradient, from those of the
/// norm and of the gradients of `dy` and `v`, the channels' sums of `v dy`, and the number of positions.
pub(super) fn batch_norm_double_grad(
    [norm, first, second]: [View<'_>; 3],
    dot: View<'_>,
    count: f64,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let channels = norm.axes[3];
    for (what, view) in [("first", first), ("second", second)] {
        agree(&format!("coefficients of the {what} gradient"), [4, channels], [view.axes[0], view.axes[3]])?;
    }
    agree("sums of products", channels, dot.values.len())?;
    let (mut by_v, mut by_dy) = (vec![0.0; 4 * channels], vec![0.0; 4 * channels]);
    for c in 0..channels {
        let row = |of: View<'_>, row: usize| of.values[row * channels + c];
        let (scale, mean, rstd) = (row(norm, 0), row(norm, 2), row(norm, 3));
        by_v[3 * channels + c] = mean;
        by_dy[3 * channels + c] = mean;
        // Without scale there is no gradient, and no second one.
        if scale == 0.0 {
            continue;
        }
        // q = - scale rstd m(. xh) and t = - scale m(.) hold the means.
        let [c_, b] = [first, second].map(|of| -row(of, 1) / (scale * rstd));
        let [mean_dy, mean_v] = [first, second].map(|of| -row(of, 2) / scale);
        let a = dot.values[c] / count - mean_v * mean_dy;
        by_v[c] = -scale * rstd * c_;
        by_v[channels + c] = -scale * rstd * rstd * (a - 3.0 * b * c_);
        by_v[2 * channels + c] = scale * rstd * (c_ * mean_v + b * mean_dy);
        by_dy[c] = -scale * rstd * b;
    }
    Ok((by_v, by_dy))
}
