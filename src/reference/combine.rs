//! Sums of terms: everything that is computed position by position, and average pools.
//!
//! ```text
//! y = sum of the terms whose guard is active, zero if there is none
//! ```
//!
//! | term | value at position `i` of channel `c` |
//! |---|---|
//! | plain, relu | `a[i]`, `max(a[i], 0)` |
//! | affine | `scale[c] (a[i] - mean[c]) + beta[c]` |
//! | affine gradient | `p[c] a[i] + q[c] (x[i] - mean[c]) + t[c]` |
//! | masked | `a[i]` if `x[i] > 0`, else zero |
//! | spread | `factor a[n, c]` |
//! | scaled | `factors[n] a[i]` |
//! | hard swish | `z s(z)` of `z = a[i]`, or of the affine of it; `s(z) = min(max(z + 3, 0), 6) / 6` |
//! | hard swish's gradient | `(s(z) + z s'(z)) a[i]` of `z = x[i]`, or of the affine of it; `s'` is `1/6` between -3 and 3, else zero |
//! | gated | `s(gates[n, c]) a[i]` |
//! | gate's gradient | `s'(gates[i]) a[i]` |
//! | hard swish's bend | `2 s'(z) a[i]` of `z = x[i]`, or of the affine of it |
//! | product | `b[i] a[i]` |
//! | weighted | `factors[n, c] a[i]` |
//! | moved by `r, s, t` | `a` at row `h + r`, column `w + s`, channel `c + t`; zero beyond its edges |

use super::{Context, View, agree, pool};
use crate::error::Result;
use crate::graph::{TensorId, Term, TermKind};

/// `y = sum of terms`
pub(super) fn combine(cx: &Context<'_>, terms: &[Term], y: [usize; 4]) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; y.iter().product()];
    for term in terms.iter().filter(|term| term.guard.active(cx.path)) {
        for (sum, value) in sums.iter_mut().zip(values(cx, term, y)?) {
            *sum += value;
        }
    }
    Ok(sums)
}

/// The value of one term at every position of `y`.
fn values(cx: &Context<'_>, term: &Term, y: [usize; 4]) -> Result<Vec<f64>> {
    let a = cx.view(term.a);
    match term.kind {
        // Values may be seen under another shape.
        TermKind::Plain => {
            agree("plain term", y.iter().product::<usize>(), a.values.len())?;
            Ok(a.values.to_vec())
        }
        TermKind::Relu => map(a, y, |_, a| rectified(a)),
        TermKind::Affine { coefficients } => {
            let rows = rows(cx.view(coefficients), y[3])?;
            map(a, y, |i, a| rows(0, i) * (a - rows(2, i)) + rows(1, i))
        }
        TermKind::AffineGrad { x, coefficients } => {
            let (x, rows) = (same(cx.view(x), y)?, rows(cx.view(coefficients), y[3])?);
            map(a, y, |i, a| rows(0, i) * a + rows(1, i) * (x[i] - rows(3, i)) + rows(2, i))
        }
        TermKind::Masked { x } => {
            let x = same(cx.view(x), y)?;
            map(a, y, |i, a| if rectified(x[i]) == 0.0 { 0.0 } else { a })
        }
        TermKind::AvgPool(window) => pool::average_pool(a, y, &window),
        TermKind::AvgPoolGrad(window) => pool::average_pool_grad(a, y, &window),
        TermKind::Spread { factor } => {
            let [images, rows, columns, channels] = y;
            agree("spread term", [images, 1, 1, channels], a.axes)?;
            let of_image = |n: usize| &a.values[n * channels..(n + 1) * channels];
            let copies = (0..images).flat_map(|n| (0..rows * columns).flat_map(move |_| of_image(n)));
            Ok(copies.map(|a| f64::from(factor) * a).collect())
        }
        TermKind::Scaled { factors } => {
            let (factors, [images, rows, columns, channels]) = (cx.view(factors), y);
            agree("factors of images", [images, 1, 1, 1], factors.axes)?;
            map(a, y, |i, a| factors.values[i / (rows * columns * channels)] * a)
        }
        TermKind::HardSwish { coefficients } => {
            let seen = seen(cx, coefficients, y[3])?;
            map(a, y, |i, a| seen(i, a) * hard_sigmoid(seen(i, a)))
        }
        TermKind::HardSwishGrad { x, coefficients } => {
            let (x, seen) = (same(cx.view(x), y)?, seen(cx, coefficients, y[3])?);
            let slope = |z: f64| hard_sigmoid(z) + z * hard_sigmoid_slope(z);
            map(a, y, |i, a| slope(seen(i, x[i])) * a)
        }
        TermKind::HardSwishBend { x, coefficients } => {
            let (x, seen) = (same(cx.view(x), y)?, seen(cx, coefficients, y[3])?);
            map(a, y, |i, a| 2.0 * hard_sigmoid_slope(seen(i, x[i])) * a)
        }
        TermKind::Product { b } => {
            let b = same(cx.view(b), y)?;
            map(a, y, |i, a| b[i] * a)
        }
        TermKind::Weighted { factors } => {
            let factors = of_images(cx, factors, y)?;
            map(a, y, |i, a| factors(i) * a)
        }
        TermKind::Gated { gates } => {
            let gates = of_images(cx, gates, y)?;
            map(a, y, |i, a| hard_sigmoid(gates(i)) * a)
        }
        TermKind::GateGrad { gates } => {
            let gates = same(cx.view(gates), y)?;
            map(a, y, |i, a| hard_sigmoid_slope(gates[i]) * a)
        }
        TermKind::Moved { by } => moved(a, y, by),
    }
}

/// Value `i` of a tensor as a norm of these coefficients sees it, or as it is.
fn seen(cx: &Context<'_>, coefficients: Option<TensorId>, channels: usize) -> Result<impl Fn(usize, f64) -> f64> {
    let rows = coefficients.map(|coefficients| rows(cx.view(coefficients), channels)).transpose()?;
    Ok(move |i: usize, a: f64| rows.as_ref().map_or(a, |rows| rows(0, i) * (a - rows(2, i)) + rows(1, i)))
}

/// The number of the image and channel of a value.
fn of_images(cx: &Context<'_>, numbers: TensorId, y: [usize; 4]) -> Result<impl Fn(usize) -> f64> {
    let (numbers, [images, rows, columns, channels]) = (cx.view(numbers), y);
    agree("numbers of images and channels", [images, 1, 1, channels], numbers.axes)?;
    Ok(move |i: usize| numbers.values[i / (rows * columns * channels) * channels + i % channels])
}

fn hard_sigmoid(z: f64) -> f64 {
    (z + 3.0).clamp(0.0, 6.0) / 6.0
}

fn hard_sigmoid_slope(z: f64) -> f64 {
    if z.abs() < 3.0 { 1.0 / 6.0 } else { 0.0 }
}

/// `a` as it is seen from `by` away.
fn moved(a: View<'_>, y: [usize; 4], by: [i32; 3]) -> Result<Vec<f64>> {
    let ([images, rows, columns, channels], [_, h, w, c]) = (y, a.axes);
    agree("moved term", [images, h, w, c], a.axes)?;
    let at =
        |place: usize, step: i32, side: usize| place.checked_add_signed(step as isize).filter(|&place| place < side);
    let mut values = Vec::with_capacity(y.iter().product());
    for place in 0..images * rows * columns * channels {
        let (n, row) = (place / (rows * columns * channels), place / (columns * channels) % rows);
        let (column, channel) = (place / channels % columns, place % channels);
        let source = at(row, by[0], h).zip(at(column, by[1], w)).zip(at(channel, by[2], c));
        values.push(source.map_or(0.0, |((i, j), k)| a.values[((n * h + i) * w + j) * c + k]));
    }
    Ok(values)
}

/// `max(x, 0)`, and what is no number if `x` is none, as in PyTorch.
pub(super) fn rectified(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

/// The tensor's values, if it has the output's shape.
fn same<'a>(tensor: View<'a>, y: [usize; 4]) -> Result<&'a [f64]> {
    agree("term", y, tensor.axes)?;
    Ok(tensor.values)
}

/// A function of each index and value of `a`.
fn map(a: View<'_>, y: [usize; 4], f: impl Fn(usize, f64) -> f64) -> Result<Vec<f64>> {
    Ok(same(a, y)?.iter().enumerate().map(|(i, &a)| f(i, a)).collect())
}

/// Reads row `row` of four rows of coefficients, in the channel of value `i`.
fn rows(coefficients: View<'_>, channels: usize) -> Result<impl Fn(usize, usize) -> f64> {
    agree("coefficients of a term", [4, channels], [coefficients.axes[0], coefficients.axes[3]])?;
    Ok(move |row: usize, i: usize| coefficients.values[row * channels + i % channels])
}
