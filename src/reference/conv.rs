//! Convolutions and their gradients.
//!
//! With stride `s`, padding `p`, dilation `d` and `G` groups of `C/G` inputs and `K/G` outputs,
//!
//! ```text
//! y[n, i, j, k] = bias[k] + sum over u, v, c of  x[n, i s + u d - p, j s + v d - p, g(k) C/G + c]  w[u, v, c, k]
//! ```
//!
//! where `g(k) = floor(k / (K/G))` and `x` is zero outside of the map. The operation is linear in `x` and in `w`, so
//! each product `x w` that enters `y` gives one product of each gradient:
//!
//! ```text
//! dx[..] += dy[n, i, j, k] w[u, v, c, k]        dw[u, v, c, k] += x[..] dy[n, i, j, k]
//! ```

use super::combine::rectified;
use super::{View, agree, index, inside, outputs};
use crate::error::{Error, Result};
use crate::graph::Geometry;

/// Fails unless input, filter and output belong together.
fn check(x: [usize; 4], w: [usize; 4], y: [usize; 4], geometry: &Geometry) -> Result<()> {
    let Geometry { r, s, stride, padding, dilation, groups } = *geometry;
    if groups == 0 || !w[3].is_multiple_of(groups) {
        return Err(Error::shape("convolution", format!("outputs in {groups} groups"), w[3]));
    }
    let rows = outputs("convolution", x[1], r, stride, padding, dilation)?;
    let columns = outputs("convolution", x[2], s, stride, padding, dilation)?;
    agree("filter of a convolution", [r, s, x[3] / groups], [w[0], w[1], w[2]])?;
    agree("input channels of a convolution", w[2] * groups, x[3])?;
    agree("output of a convolution", [x[0], rows, columns, w[3]], y)
}

/// Calls `visit` with the indices (in `x`, in `w`, in `y`) of every product that the convolution sums.
fn for_each_product(
    x: [usize; 4],
    w: [usize; 4],
    y: [usize; 4],
    geometry: &Geometry,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let Geometry { stride, padding, dilation, groups, .. } = *geometry;
    let ([images, rows, columns, outputs], [kernel_rows, kernel_columns, inputs, _]) = (y, w);
    for n in 0..images {
        for i in 0..rows {
            for u in 0..kernel_rows {
                let Some(row) = inside(i * stride, u * dilation, padding, x[1]) else { continue };
                for j in 0..columns {
                    for v in 0..kernel_columns {
                        let Some(column) = inside(j * stride, v * dilation, padding, x[2]) else { continue };
                        // Outputs innermost: they lie side by side in the filter and in the output.
                        for channel in 0..groups * inputs {
                            let (group, c) = (channel / inputs, channel % inputs);
                            let at_x = index(x, [n, row, column, channel]);
                            for k in group * (outputs / groups)..(group + 1) * (outputs / groups) {
                                visit(at_x, index(w, [u, v, c, k]), index(y, [n, i, j, k]));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The weights that a convolution uses: the first of each axis.
pub(super) struct Part {
    axes: [usize; 4],
    values: Vec<f64>,
}

impl Part {
    pub fn view(&self) -> View<'_> {
        View { axes: self.axes, values: &self.values }
    }
}

/// The first weights of `w` for so many channels in and out; all, if these are not fewer. Kernels take blocks of four.
pub(super) fn part(w: View<'_>, geometry: &Geometry, inputs: usize, outputs: usize) -> Result<Part> {
    let [r, s, c, k] = w.axes;
    let own = inputs / geometry.groups.max(1);
    let whole = own >= c && outputs >= k;
    if !whole && (!outputs.is_multiple_of(4) || !(own == c || inputs.is_multiple_of(4))) {
        return Err(Error::shape("a larger filter", "channels in multiples of four", format!("{inputs} to {outputs}")));
    }
    let axes = [r, s, own.min(c), outputs.min(k)];
    let place = |i: usize| {
        let (k, c) = (i % axes[3], i / axes[3] % axes[2]);
        let tap = i / (axes[3] * axes[2]);
        index(w.axes, [tap / s, tap % s, c, k])
    };
    Ok(Part { axes, values: (0..axes.iter().product()).map(|i| w.values[place(i)]).collect() })
}

/// The rectified values if `relu`, else `x`.
fn activated(x: &[f64], relu: bool) -> Vec<f64> {
    x.iter().map(|&value| if relu { rectified(value) } else { value }).collect()
}

/// `y = conv(x, w) + bias`
pub(super) fn conv(
    x: View<'_>,
    w: View<'_>,
    bias: Option<View<'_>>,
    y: [usize; 4],
    geometry: &Geometry,
    relu: bool,
) -> Result<Vec<f64>> {
    check(x.axes, w.axes, y, geometry)?;
    let mut sums = vec![0.0; y.iter().product()];
    if let Some(bias) = bias {
        agree("bias of a convolution", y[3], bias.values.len())?;
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = bias.values[i % y[3]];
        }
    }
    let input = activated(x.values, relu);
    for_each_product(x.axes, w.axes, y, geometry, |at_x, at_w, at_y| sums[at_y] += input[at_x] * w.values[at_w]);
    Ok(sums)
}

/// Gradient with respect to what is convolved.
pub(super) fn conv_input(dy: View<'_>, w: View<'_>, x: [usize; 4], geometry: &Geometry) -> Result<Vec<f64>> {
    check(x, w.axes, dy.axes, geometry)?;
    let mut dx = vec![0.0; x.iter().product()];
    for_each_product(x, w.axes, dy.axes, geometry, |at_x, at_w, at_y| dx[at_x] += dy.values[at_y] * w.values[at_w]);
    Ok(dx)
}

/// Gradient with respect to the filter.
pub(super) fn conv_filter(
    x: View<'_>,
    dy: View<'_>,
    w: [usize; 4],
    geometry: &Geometry,
    relu: bool,
) -> Result<Vec<f64>> {
    check(x.axes, w, dy.axes, geometry)?;
    let input = activated(x.values, relu);
    let mut dw = vec![0.0; w.iter().product()];
    for_each_product(x.axes, w, dy.axes, geometry, |at_x, at_w, at_y| dw[at_w] += input[at_x] * dy.values[at_y]);
    Ok(dw)
}

/// `y[c] = sum over n, h, w of x[n, h, w, c]`
pub(super) fn channel_sum(x: View<'_>) -> Vec<f64> {
    let channels = x.axes[3];
    let mut sums = vec![0.0; channels];
    for (i, value) in x.values.iter().enumerate() {
        sums[i % channels] += value;
    }
    sums
}
