//! Pooling windows and global averages.
//!
//! The window of output `(i, j)` holds the inputs `(i s + u - p, j s + v - p)` for `0 <= u, v < kernel`, as far as
//! they exist. The maximum is over those; the average is their sum divided by `kernel^2` if padding counts and by
//! their number if not. The gradient of a maximum goes to the first largest input of the window in row-major order;
//! that of an average goes to every input of the window in equal parts.

use super::{View, agree, index, inside, outputs};
use crate::error::Result;
use crate::graph::Window;

/// Fails unless `y` is the shape of a pool of `x`.
fn check(x: [usize; 4], y: [usize; 4], window: &Window) -> Result<()> {
    let side = |input| outputs("pool", input, window.kernel, window.stride, window.padding, 1);
    agree("output of a pool", [x[0], side(x[1])?, side(x[2])?, x[3]], y)
}

/// Calls `visit` with the index of each output and of each input in its window, windows in row-major order.
fn for_each_tap(x: [usize; 4], y: [usize; 4], window: &Window, mut visit: impl FnMut(usize, usize)) {
    let Window { kernel, stride, padding, .. } = *window;
    for n in 0..y[0] {
        for i in 0..y[1] {
            for j in 0..y[2] {
                for c in 0..y[3] {
                    for u in 0..kernel {
                        for v in 0..kernel {
                            let row = inside(i * stride, u, padding, x[1]);
                            let column = inside(j * stride, v, padding, x[2]);
                            if let (Some(row), Some(column)) = (row, column) {
                                visit(index(y, [n, i, j, c]), index(x, [n, row, column, c]));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The largest value of each window.
pub(super) fn max_pool(x: View<'_>, y: [usize; 4], window: &Window) -> Result<Vec<f64>> {
    check(x.axes, y, window)?;
    let mut maxima = vec![f64::NEG_INFINITY; y.iter().product()];
    for_each_tap(x.axes, y, window, |at_y, at_x| maxima[at_y] = larger(maxima[at_y], x.values[at_x]));
    Ok(maxima)
}

/// The larger value; what is no number is above all.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// The gradient of [`max_pool`] with respect to `x`.
pub(super) fn max_pool_grad(x: View<'_>, dy: View<'_>, window: &Window) -> Result<Vec<f64>> {
    let mut dx = vec![0.0; x.values.len()];
    for (winner, dy) in winners(x, dy.axes, window)?.into_iter().zip(dy.values) {
        if let Some(at_x) = winner {
            dx[at_x] += dy;
        }
    }
    Ok(dx)
}

/// What `v` has where `x` has the first maximum of each window.
pub(super) fn max_pool_pick(x: View<'_>, v: View<'_>, y: [usize; 4], window: &Window) -> Result<Vec<f64>> {
    agree("what a pool picks from", x.axes, v.axes)?;
    let picked = |winner: Option<usize>| winner.map_or(0.0, |at_x| v.values[at_x]);
    Ok(winners(x, y, window)?.into_iter().map(picked).collect())
}

/// Where each window has its first maximum.
fn winners(x: View<'_>, y: [usize; 4], window: &Window) -> Result<Vec<Option<usize>>> {
    check(x.axes, y, window)?;
    let mut winners: Vec<Option<usize>> = vec![None; y.iter().product()];
    for_each_tap(x.axes, y, window, |at_y, at_x| {
        let above =
            |best: usize| !x.values[best].is_nan() && (x.values[at_x] > x.values[best] || x.values[at_x].is_nan());
        if winners[at_y].is_none_or(above) {
            winners[at_y] = Some(at_x);
        }
    });
    Ok(winners)
}

/// What the sum over each window is divided by.
fn divisors(x: [usize; 4], y: [usize; 4], window: &Window) -> Vec<f64> {
    let len = y.iter().product();
    if window.count_include_pad {
        return vec![(window.kernel * window.kernel) as f64; len];
    }
    let mut counts = vec![0.0; len];
    for_each_tap(x, y, window, |at_y, _| counts[at_y] += 1.0);
    counts
}

/// The average of each window.
pub(super) fn average_pool(x: View<'_>, y: [usize; 4], window: &Window) -> Result<Vec<f64>> {
    check(x.axes, y, window)?;
    let divisors = divisors(x.axes, y, window);
    let mut averages = vec![0.0; divisors.len()];
    for_each_tap(x.axes, y, window, |at_y, at_x| averages[at_y] += x.values[at_x] / divisors[at_y]);
    Ok(averages)
}

/// The gradient of [`average_pool`] with respect to `x`.
pub(super) fn average_pool_grad(dy: View<'_>, x: [usize; 4], window: &Window) -> Result<Vec<f64>> {
    check(x, dy.axes, window)?;
    let divisors = divisors(x, dy.axes, window);
    let mut dx = vec![0.0; x.iter().product()];
    for_each_tap(x, dy.axes, window, |at_y, at_x| dx[at_x] += dy.values[at_y] / divisors[at_y]);
    Ok(dx)
}

/// `y[n, c] = mean over h, w of x[n, h, w, c]`
pub(super) fn global_average(x: View<'_>) -> Vec<f64> {
    let [images, rows, columns, channels] = x.axes;
    let mut averages = Vec::with_capacity(images * channels);
    for n in 0..images {
        for c in 0..channels {
            let positions = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
            let sum: f64 = positions.map(|(i, j)| x.values[index(x.axes, [n, i, j, c])]).sum();
            averages.push(sum / (rows * columns) as f64);
        }
    }
    averages
}
