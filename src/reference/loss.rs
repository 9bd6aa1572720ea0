//! Cross-entropy and its sums.
//!
//! For logits `z` of `C` classes, label `l` and smoothing `a`, with targets `t[l] = 1 - a + a/C`, elsewhere `a/C`:
//!
//! ```text
//! loss = - sum over c of t[c] log softmax(z)[c],     log softmax(z)[c] = z[c] - max - log sum exp(z - max)
//! d (mean of loss over N images) / dz[c] = (softmax(z)[c] - t[c]) / N
//! ```
//!
//! With a teacher's logits `u` the targets are `t = softmax(u)`.

use super::{View, agree};
use crate::error::{Error, Result};

/// What [`cross_entropy`] finds.
pub(super) struct CrossEntropy {
    /// `loss, 1 if the first largest logit is the label's` per image.
    pub loss: Vec<f64>,
    /// Gradient of the mean loss.
    pub dlogits: Vec<f64>,
}

/// Softmax cross-entropy per image.
pub(super) fn cross_entropy(
    logits: View<'_>,
    labels: &[f64],
    teacher: Option<View<'_>>,
    smoothing: f64,
) -> Result<CrossEntropy> {
    let [images, rows, columns, classes] = logits.axes;
    agree("positions of logits", [1, 1], [rows, columns])?;
    agree("labels", images, labels.len())?;
    teacher.map_or(Ok(()), |teacher| agree("a teacher's logits", logits.axes, teacher.axes))?;
    let mut result = CrossEntropy { loss: Vec::new(), dlogits: Vec::new() };
    for (n, &label) in labels.iter().enumerate() {
        let Some(label) = (0..classes).find(|&class| class as f64 == label) else {
            return Err(Error::invalid("labels", format!("{label} (image {n}) is none of the {classes} classes")));
        };
        let z = &logits.values[n * classes..(n + 1) * classes];
        let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + z.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        let taught = teacher.map(|teacher| softmax(&teacher.values[n * classes..(n + 1) * classes]));
        let target = |class: usize| match &taught {
            Some(taught) => taught[class],
            None => smoothing / classes as f64 + if class == label { 1.0 - smoothing } else { 0.0 },
        };
        let loss: f64 = (0..classes).map(|class| -target(class) * (z[class] - log_sum)).sum();
        let right = z.iter().position(|&z| z == largest) == Some(label);
        result.loss.extend([loss, f64::from(u8::from(right))]);
        let gradient = |class: usize| ((z[class] - log_sum).exp() - target(class)) / images as f64;
        result.dlogits.extend((0..classes).map(gradient));
    }
    Ok(result)
}

fn softmax(z: &[f64]) -> Vec<f64> {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - largest).exp()).sum();
    z.iter().map(|z| (z - largest).exp() / sum).collect()
}

/// The Hessian of the mean loss with respect to the logits, times `v`: `s (v - sum s v) / N` with the softmax `s`.
pub(super) fn cross_entropy_hessian(logits: View<'_>, labels: &[f64], v: View<'_>) -> Result<Vec<f64>> {
    agree("vector of a Hessian", logits.axes, v.axes)?;
    let classes = logits.axes[3];
    // Without smoothing the gradient is `(s - target) / N`, so it holds the softmax but for the label's own.
    let images = labels.len() as f64;
    let mut softmax = cross_entropy(logits, labels, None, 0.0)?.dlogits;
    for (row, &label) in softmax.chunks_mut(classes).zip(labels) {
        row.iter_mut().for_each(|s| *s *= images);
        row[label as usize] += 1.0;
    }
    let products = softmax.chunks(classes).zip(v.values.chunks(classes)).flat_map(|(s, v)| {
        let mean: f64 = s.iter().zip(v).map(|(s, v)| s * v).sum();
        s.iter().zip(v).map(move |(s, v)| s * (v - mean) / images)
    });
    Ok(products.collect())
}

/// The moved `metrics` (`sum of losses, right answers, images, batches that were not finite`) and this batch's mean
/// loss and accuracy.
pub(super) fn tally(loss: View<'_>, metrics: &[f64]) -> Result<(Vec<f64>, Vec<f64>)> {
    let images = loss.axes[0];
    agree("loss", [images, 1, 1, 2], loss.axes)?;
    agree("metrics", 4, metrics.len())?;
    let sum: f64 = loss.values.iter().step_by(2).sum();
    let right: f64 = loss.values.iter().skip(1).step_by(2).sum();
    let broken = f64::from(u8::from(!sum.is_finite()));
    let added = [sum, right, images as f64, broken];
    let moved = metrics.iter().zip(added).map(|(old, new)| old + new).collect();
    Ok((moved, vec![sum / images as f64, right / images as f64]))
}
