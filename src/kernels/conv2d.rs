//! Convolutions: `conv2d.wgsl`, `conv2d_filter.wgsl`, `grouped.wgsl`, `grouped_filter.wgsl`, `sum_parts.wgsl`.

use super::{Lowering, Word};
use crate::graph::{Geometry, Op, Shape, TensorId, blocks};
use crate::shader::Variant;

/// Positions whose sums a lane keeps in registers while it goes through the taps of a row.
const POSITIONS_IN_REGISTERS: usize = 4;
/// Image rows of one split of a weight gradient's reduction.
const LINES_PER_SPLIT: usize = 128;
/// Blocks of four output channels per lane in a weight gradient.
const FILTER_BLOCKS: usize = 4;
/// Workgroup memory that every adapter has.
const WORKGROUP_BYTES: usize = 16 << 10;
/// Most splits.
const MOST_SPLITS: usize = 64;

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    match *op {
        Op::Conv { x, w, bias, y, geometry, relu } => match geometry.groups {
            1 => dense(to, Dense { from: x, w, bias, to: y, geometry, relu, input: false }),
            _ => grouped(to, Dense { from: x, w, bias, to: y, geometry, relu, input: false }),
        },
        Op::ConvInput { dy, w, dx, geometry } => match geometry.groups {
            1 => dense(to, Dense { from: dy, w, bias: None, to: dx, geometry, relu: false, input: true }),
            _ => grouped(to, Dense { from: dy, w, bias: None, to: dx, geometry, relu: false, input: true }),
        },
        Op::ConvFilter { x, dy, dw, geometry, relu } => match geometry.groups {
            1 => filter(to, x, dy, dw, geometry, relu),
            _ => grouped_filter(to, x, dy, dw, geometry, relu),
        },
        _ => {}
    }
}

/// A convolution or its gradient with respect to the input (`input`).
struct Dense {
    from: TensorId,
    w: TensorId,
    bias: Option<TensorId>,
    to: TensorId,
    geometry: Geometry,
    relu: bool,
    input: bool,
}

impl Dense {
    /// The call, with the rows that its shader wants.
    fn call(&self, lowering: &mut Lowering, variant: Variant, sizes: Vec<Word>, groups: usize) {
        let slots = vec![self.from, self.w, self.bias.unwrap_or(self.w), self.to];
        let mut head = vec![self.from.into(), self.w.into(), self.bias.into(), self.to.into()];
        head.extend(sizes);
        lowering.call(variant, slots, &[self.to], head, groups);
        let Geometry { r, s, groups, .. } = self.geometry;
        let small = if self.input { self.from } else { self.to };
        let [n, h, w, k] = lowering.shape(small).nhwc();
        let c = lowering.shape(if self.input { self.to } else { self.from }).channels();
        lowering.flops(2 * n * h * w * k * r * s * c / groups);
    }
}

/// Constants of a window.
fn window(shader: &'static str, g: Geometry) -> Variant {
    Variant::new(shader, [("R", g.r), ("S", g.s), ("STRIDE", g.stride), ("PAD", g.padding), ("DIL", g.dilation)])
}

/// Whether a kernel sees no neighbours, so that any shape of the same positions will do.
fn pointwise(g: Geometry) -> bool {
    (g.r, g.s, g.stride, g.padding) == (1, 1, 1, 0)
}

/// As many positions, at most `most`, as leave a window that a mask of 63 bits can tell.
fn fitting(most: usize, g: Geometry) -> usize {
    let room = 63usize.saturating_sub((g.s - 1) * g.dilation + 1);
    most.min(room / g.stride.max(1) + 1).max(1)
}

fn dense(to: &mut Lowering, conv: Dense) {
    let g = conv.geometry;
    let [images, mut ih, mut iw, inputs] = to.shape(conv.from).nhwc();
    let [_, mut oh, mut ow, outputs] = to.shape(conv.to).nhwc();
    let mut lines = images * oh;
    if pointwise(g) {
        (ih, iw, oh, ow, lines) = (1, lines * iw, 1, lines * ow, 1);
    }
    let (in4, out4) = (blocks(inputs), blocks(outputs));
    let preset = to.preset;
    let tile = if g.s == 1 { preset.pointwise } else { preset.windowed };
    // A tile no wider than the row, and of few loads; for the input's gradient a multiple of the stride, so that taps fall
    // evenly.
    let mut px = fitting(tile.positions, g).min(ow.next_power_of_two());
    px = if conv.input { px.div_ceil(g.stride) * g.stride } else { px.div_ceil(g.stride) };
    let kb = tile.blocks.min(out4.next_power_of_two());
    // Positions of the window that some tap of some output touches.
    let (pad, reach) = (g.padding as i64, ((g.s - 1) * g.dilation) as i64);
    let mut need = 0u64;
    for p in 0..px as i64 {
        for s in 0..g.s {
            let tap = (s * g.dilation) as i64;
            if !conv.input {
                need |= 1 << (p * g.stride as i64 + tap);
            } else if (p + pad - tap).rem_euclid(g.stride as i64) == 0 {
                let stride = g.stride as i64;
                need |= 1 << ((p + pad - tap).div_euclid(stride) - (pad - reach).div_euclid(stride));
            }
        }
    }
    let span = 64 - need.leading_zeros() as usize;
    let broadcast = preset.broadcast && g.s * 4 * kb >= preset.conv_lanes;
    let mut variant = window("conv2d", g).with("INPUT", conv.input).with("NEED", need as i64);
    for (name, value) in [
        ("PX", px),
        ("PG", POSITIONS_IN_REGISTERS),
        ("KB", kb),
        ("SPAN", span),
        ("LANES", preset.conv_lanes),
        ("BROADCAST", broadcast.into()),
    ] {
        variant = variant.with(name, value as i64);
    }
    let groups = (lines * ow.div_ceil(px)).div_ceil(preset.conv_lanes) * out4.div_ceil(kb);
    let sizes = [lines, ih, iw, in4, oh, ow, out4, conv.relu.into()];
    conv.call(to, variant, sizes.map(Word::from).to_vec(), groups);
}

fn grouped(to: &mut Lowering, conv: Dense) {
    let g = conv.geometry;
    let [images, ih, iw, inputs] = to.shape(conv.from).nhwc();
    let [_, oh, ow, outputs] = to.shape(conv.to).nhwc();
    let Shape::Filter { c: cg, k, groups, .. } = to.shape(conv.w) else { return };
    let mut variant = window("grouped", g).with("RELU", conv.relu).with("INPUT", conv.input);
    for (name, value) in [
        ("IH", ih),
        ("IW", iw),
        ("IN4", blocks(inputs)),
        ("OH", oh),
        ("OW", ow),
        ("OUT4", blocks(outputs)),
        ("K4", blocks(k)),
        ("CG", cg),
        ("KG", k / groups),
        ("GROUPS", groups),
        ("LANES", to.preset.lanes),
    ] {
        variant = variant.with(name, value as i64);
    }
    let groups = (images * oh * ow * blocks(outputs)).div_ceil(to.preset.lanes);
    let none = Word::Value(0);
    conv.call(to, variant, vec![images.into(), none, none, none], groups);
}

fn filter(to: &mut Lowering, x: TensorId, dy: TensorId, dw: TensorId, g: Geometry, relu: bool) {
    let [images, mut h, mut w, inputs] = to.shape(x).nhwc();
    let [_, mut p, mut q, outputs] = to.shape(dy).nhwc();
    let positions = images * p * q;
    let mut lines = images * p;
    if pointwise(g) {
        // Single positions, as a linear layer's, make one line.
        (h, w, p, q, lines) = if h * w == 1 { (1, images, 1, images, 1) } else { (1, h * w, 1, p * q, images) };
    }
    let (c4, out4) = (blocks(inputs), blocks(outputs));
    let splits = lines.div_ceil(LINES_PER_SPLIT).min(MOST_SPLITS);
    let per_split = lines.div_ceil(splits);
    let tile = to.preset;
    let need = |qx: usize| {
        (0..qx).flat_map(|p| (0..g.s).map(move |s| 1i64 << (p * g.stride + s * g.dilation))).fold(0, |a, b| a | b)
    };
    let (variant, groups) = if tile.broadcast && tile.conv_lanes == 8 {
        let qx = fitting(if g.s == 1 { 8 } else { 4 }, g);
        let variant = window("conv2d_filter_subgroup", g).with("QX", qx as i64).with("NEED", need(qx));
        (variant, c4.div_ceil(4) * out4.div_ceil(4))
    } else {
        let kb = FILTER_BLOCKS.min(out4);
        let qx = fitting(4, g).min(q.next_power_of_two());
        // The lanes' sums must fit into the workgroup memory that every adapter has.
        let most_lanes = WORKGROUP_BYTES / (g.s * 4 * kb * 16);
        let lanes = tile.conv_lanes.min(32).min(if most_lanes < 2 { 1 } else { 1 << most_lanes.ilog2() });
        let mut variant = window("conv2d_filter", g).with("NEED", need(qx));
        for (name, value) in [("KB", kb), ("QX", qx), ("LANES", lanes)] {
            variant = variant.with(name, value as i64);
        }
        (variant, c4 * out4.div_ceil(kb))
    };
    let vec4s = to.shape(dw).vec4s();
    let parts = if splits == 1 { dw } else { to.temporary(splits * vec4s) };
    let mut head = vec![x.into(), dy.into(), parts.into()];
    head.extend([lines, h, w, c4, relu.into(), p, q, out4, per_split].map(Word::from));
    to.call(variant, vec![x, dy, parts], &[parts], head, groups * g.r * splits);
    to.flops(2 * positions * inputs * outputs * g.r * g.s);
    if splits > 1 {
        let head = vec![parts.into(), dw.into(), vec4s.into(), splits.into()];
        let lanes = to.preset.lanes;
        let variant = Variant::new("sum_parts", [("LANES", lanes)]);
        to.call(variant, vec![parts, dw], &[dw], head, vec4s.div_ceil(lanes));
    }
}

fn grouped_filter(to: &mut Lowering, x: TensorId, dy: TensorId, dw: TensorId, g: Geometry, relu: bool) {
    let [images, h, w, inputs] = to.shape(x).nhwc();
    let [_, p, q, outputs] = to.shape(dy).nhwc();
    let Shape::Filter { c: cg, k, groups, .. } = to.shape(dw) else { return };
    let mut variant = window("grouped_filter", g).with("RELU", relu);
    for (name, value) in [
        ("H", h),
        ("W", w),
        ("C4", blocks(inputs)),
        ("P", p),
        ("Q", q),
        ("K4", blocks(k)),
        ("CG", cg),
        ("KG", k / groups),
        ("GROUPS", groups),
        ("LANES", to.preset.reduce_lanes),
    ] {
        variant = variant.with(name, value as i64);
    }
    let head = vec![x.into(), dy.into(), dw.into(), (images * p).into()];
    to.call(variant, vec![x, dy, dw], &[dw], head, g.r * g.s * cg * blocks(k));
    to.flops(2 * images * p * q * outputs * g.r * g.s * cg);
}
