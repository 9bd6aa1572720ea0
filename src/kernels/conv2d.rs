//! Convolutions: `conv2d.wgsl`, `conv2d_filter.wgsl`, `grouped.wgsl`, `grouped_filter.wgsl`, `sum_parts.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::{Geometry, Op, Shape, TensorId, blocks};
use crate::shader::{Record, Variant};

rows! {
    /// A dense convolution, or its gradient with respect to the input: `lines` rows of `oh` by `ow` outputs. Weights are `w4` blocks for each
    /// input channel and `tap` for each tap, of which the first ones count.
    Conv of "conv2d", same bits for any [PX PG KB LANES NEED SPAN BROADCAST] {
        x: read, w: read, bias: maybe_read, y: write,
        lines: count, ih: count, iw: count, in4: count, oh: count, ow: count, out4: count, relu: flag,
        w4: count, tap: count,
    }
    /// A grouped convolution, or its gradient with respect to the input. Weights are `k4` blocks for each input channel of a group, of which the
    /// first ones count.
    Grouped of "grouped", same bits for any [LANES] {
        x: read, w: read, bias: maybe_read, y: write, images: count, k4: count,
    }
    /// Sum of equal parts, each of `count` `vec4`.
    SumParts of "sum_parts", same bits for any [LANES] {
        parts: read, y: write, count: count, terms: count,
    }
}

record! {
    /// A weight gradient, in parts: `total` positions or lines (of `p` by `q` outputs, `h` by `w` inputs), and what cuts them
    /// into splits.
    FilterRow as Record::ROW => {
        x: read, dy: read, parts: write, total: count,
        h: count, w: count, c4: count, relu: flag, p: count, q: count, out4: count, cut: count,
    }
}

/// Weight gradients, staged in workgroup memory: positions, and the number of splits.
const STAGED: Kernel = Kernel {
    shader: "conv2d_filter",
    records: &[FilterRow::RECORD],
    free: &["CT", "KT", "KB", "QX", "XP", "SKIP", "NEED", "STAGED"],
};
/// Weight gradients by subgroups: lines, and how many of them a split has.
const BY_SUBGROUPS: Kernel = Kernel { shader: "conv2d_filter_subgroup", records: &[FilterRow::RECORD], free: &[] };
/// Weight gradients of grouped convolutions: lines, and the number of splits.
const GROUPED_FILTER: Kernel =
    Kernel { shader: "grouped_filter", records: &[FilterRow::RECORD], free: &["RT", "ST", "QX", "NEED"] };

pub(super) const KERNELS: &[Kernel] =
    &[Conv::KERNEL, Grouped::KERNEL, SumParts::KERNEL, STAGED, BY_SUBGROUPS, GROUPED_FILTER];

/// Positions whose sums a lane keeps in registers while it goes through the taps of a row.
const POSITIONS_IN_REGISTERS: usize = 4;
/// Weight gradients by subgroups: image rows of one split of the reduction.
const LINES_PER_SPLIT: usize = 128;
/// And the most splits.
const MOST_SPLITS: usize = 64;
/// Other weight gradients: positions of one split,
const POSITIONS_PER_SPLIT: usize = 1024;
/// the most splits of so many,
const MOST_LONG_SPLITS: usize = 128;
/// and where that is less than so many waves of 32 lanes, which a GPU takes to be full,
const WAVES: usize = 512;
/// more splits, of so many positions at the least.
const FEWEST_POSITIONS: usize = 256;
/// Neighbouring positions of a dense weight gradient's segment.
const SEGMENT: usize = 8;
/// Lanes of its workgroup, if workgroup memory allows it.
const FILTER_LANES: usize = 128;
/// Positions that a lane of it sums apart, where there are registers for two sums of each tap: up to so many of a row.
const POSITIONS_APART: usize = 128;
const TAPS_APART: usize = 3;
/// Where all positions are alike, so many of them count as an image row.
const POINTWISE_LINE: usize = 64;
/// Most taps whose sums a lane of a grouped weight gradient keeps.
const TAPS_IN_REGISTERS: usize = 12;
/// Workgroup memory that every adapter has, in `vec4<f32>`.
const WORKGROUP_VEC4S: usize = (16 << 10) / 16;

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
            1 => filter(to, Filter { x, dy, dw, geometry, relu }),
            _ => grouped_filter(to, Filter { x, dy, dw, geometry, relu }),
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
    /// Arithmetic operations.
    fn flops(&self, to: &Lowering) -> usize {
        let Geometry { r, s, groups, .. } = self.geometry;
        let small = if self.input { self.from } else { self.to };
        let [n, h, w, k] = to.shape(small).nhwc();
        let c = to.shape(if self.input { self.to } else { self.from }).channels();
        2 * n * h * w * k * r * s * c / groups
    }
}

/// Constants of a window.
fn window(kernel: &Kernel, g: Geometry) -> Variant {
    kernel.with([("R", g.r), ("S", g.s), ("STRIDE", g.stride), ("PAD", g.padding), ("DIL", g.dilation)])
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
    let mut variant = window(&Conv::KERNEL, g).with("INPUT", conv.input).with("NEED", need as i64);
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
    let workgroups = (lines * ow.div_ceil(px)).div_ceil(preset.conv_lanes) * out4.div_ceil(kb);
    let work = Work { workgroups, flops: conv.flops(to), depth: g.r * in4 * g.s * 4 };
    let Dense { from: x, w, bias, to: y, relu, .. } = conv;
    let [.., rows, channels] = to.shape(w).nhwc();
    let (w4, tap) = (blocks(channels), rows * blocks(channels));
    to.call(variant, Conv { x, w, bias, y, lines, ih, iw, in4, oh, ow, out4, relu, w4, tap }, work);
}

fn grouped(to: &mut Lowering, conv: Dense) {
    let g = conv.geometry;
    let [images, ih, iw, inputs] = to.shape(conv.from).nhwc();
    let [_, oh, ow, outputs] = to.shape(conv.to).nhwc();
    let (groups, stored) = (g.groups, to.shape(conv.w).channels());
    let (cg, k) = if conv.input { (outputs / groups, inputs) } else { (inputs / groups, outputs) };
    let mut variant = window(&Grouped::KERNEL, g).with("RELU", conv.relu).with("INPUT", conv.input);
    for (name, value) in [
        ("IH", ih),
        ("IW", iw),
        ("IN4", blocks(inputs)),
        ("OH", oh),
        ("OW", ow),
        ("OUT4", blocks(outputs)),
        ("CG", cg),
        ("KG", k / groups),
        ("GROUPS", groups),
        ("LANES", to.preset.lanes),
    ] {
        variant = variant.with(name, value as i64);
    }
    let workgroups = (images * oh * ow * blocks(outputs)).div_ceil(to.preset.lanes);
    let depth = g.r * g.s * if conv.input { k / groups } else { cg };
    let work = Work { workgroups, flops: conv.flops(to), depth };
    let Dense { from: x, w, bias, to: y, .. } = conv;
    to.call(variant, Grouped { x, w, bias, y, images, k4: blocks(stored) }, work);
}

/// Weight gradient of a convolution.
struct Filter {
    x: TensorId,
    dy: TensorId,
    dw: TensorId,
    geometry: Geometry,
    relu: bool,
}

/// How a weight gradient is computed: sizes as its shader sees them, and workgroups of a split.
struct Reduction {
    variant: Variant,
    /// Positions or lines of the whole reduction.
    total: usize,
    /// Rows and columns of the input, and of the output.
    sizes: [usize; 4],
    workgroups: usize,
    splits: usize,
    /// Positions that a lane goes through.
    depth: usize,
    /// The row's last word.
    cut: usize,
}

impl Filter {
    /// The call that sums each split, and the one that adds the splits.
    fn call(&self, to: &mut Lowering, by: Reduction) {
        let &Filter { x, dy, dw, geometry: Geometry { r, s, groups, .. }, relu } = self;
        let (inputs, [images, p, q, outputs]) = (to.shape(x).channels(), to.shape(dy).nhwc());
        let Reduction { variant, total, sizes: [h, w, rows, columns], splits, cut, .. } = by;
        let vec4s = to.shape(dw).vec4s();
        let parts = if splits == 1 { dw } else { to.temporary(splits * vec4s) };
        let (c4, out4) = (blocks(inputs), blocks(outputs));
        let row = FilterRow { x, dy, parts, total, h, w, c4, relu, p: rows, q: columns, out4, cut };
        let flops = 2 * images * p * q * inputs * outputs * r * s / groups;
        to.call(variant, row, Work { workgroups: by.workgroups * splits, flops, depth: by.depth });
        if splits > 1 {
            sum_parts(to, parts, dw, splits);
        }
    }
}

/// Positions of a row's window that taps touch, for `qx` neighbouring outputs.
fn touched(g: Geometry, taps: usize, qx: usize) -> i64 {
    (0..qx).flat_map(|p| (0..taps).map(move |s| 1i64 << (p * g.stride + s * g.dilation))).fold(0, |a, b| a | b)
}

/// Splits of a reduction over `positions` in `lines`, each of so many waves: a function of the shape alone.
fn splits(positions: usize, lines: usize, waves: usize) -> usize {
    let filling = WAVES.div_ceil(waves).min(positions / FEWEST_POSITIONS);
    (positions / POSITIONS_PER_SPLIT).min(MOST_LONG_SPLITS).max(filling).clamp(1, lines.max(1))
}

fn filter(to: &mut Lowering, call: Filter) {
    let by_subgroups = to.preset.broadcast && to.preset.conv_lanes == 8;
    let by = if by_subgroups { by_subgroups_of_8(to, &call) } else { staged(to, &call) };
    call.call(to, by);
}

/// Lanes pass loaded values round.
fn by_subgroups_of_8(to: &Lowering, &Filter { x, dy, geometry: g, .. }: &Filter) -> Reduction {
    let [images, mut h, mut w, inputs] = to.shape(x).nhwc();
    let [_, mut p, mut q, outputs] = to.shape(dy).nhwc();
    let mut lines = images * p;
    if pointwise(g) {
        // Single positions, as a linear layer's, make one line.
        (h, w, p, q, lines) = if h * w == 1 { (1, images, 1, images, 1) } else { (1, h * w, 1, p * q, images) };
    }
    let splits = lines.div_ceil(LINES_PER_SPLIT).min(MOST_SPLITS);
    let qx = fitting(if g.s == 1 { 8 } else { 4 }, g);
    let variant = window(&BY_SUBGROUPS, g).with("QX", qx as i64).with("NEED", touched(g, g.s, qx));
    let workgroups = g.r * blocks(inputs).div_ceil(4) * blocks(outputs).div_ceil(4);
    let cut = lines.div_ceil(splits);
    Reduction { variant, total: lines, sizes: [h, w, p, q], workgroups, splits, depth: cut * q, cut }
}

/// Blocks of channels of a workgroup's tile: few kinds, because calls of one variant share dispatches.
fn side(blocks: usize) -> usize {
    match blocks {
        0..=1 => 1,
        2..=4 => 4,
        _ => 8,
    }
}

/// Workgroups bring segments of rows to workgroup memory.
fn staged(to: &Lowering, &Filter { x, dy, geometry: g, .. }: &Filter) -> Reduction {
    let [images, mut h, mut w, inputs] = to.shape(x).nhwc();
    let [_, mut p, mut q, outputs] = to.shape(dy).nhwc();
    let positions = images * p * q;
    if pointwise(g) {
        let line = positions.min(POINTWISE_LINE);
        (h, w, p, q) = (1, line, 1, line);
    }
    let (c4, out4) = (blocks(inputs), blocks(outputs));
    let (ct, kt) = (side(c4), side(out4));
    // A single tap's sums are few: it takes two blocks, so that each load serves more of them.
    let kb = if g.s == 1 { ct.min(kt).min(2) } else { 1 };
    let qx = fitting(SEGMENT, g).min(q.next_power_of_two().max(SEGMENT / 2));
    // Single taps touch but every STRIDE-th position.
    let skip = if g.s == 1 { g.stride } else { 1 };
    let mut xp = ((qx - 1) * g.stride + (g.s - 1) * g.dilation) / skip + 1;
    // Lanes stage so many positions at a time; a few more than are needed spare a condition.
    let whole = xp.next_multiple_of(kt / kb);
    if 4 * whole <= 5 * xp {
        xp = whole;
    }
    let (own, segment) = (ct * kt / kb, xp * ct + qx * kt);
    let most = (FILTER_LANES / own).min(WORKGROUP_VEC4S / segment.max(4 * ct * kt)).max(1);
    let parts = 1 << most.ilog2();
    let memory = parts * segment.max(4 * ct * kt);
    // Many groups have short chains by themselves.
    let short = parts * POSITIONS_APART >= POSITIONS_PER_SPLIT;
    let apart = if g.s <= TAPS_APART && !short { POSITIONS_APART } else { 0 };
    let mut variant = window(&STAGED, g).with("NEED", touched(g, g.s, qx)).with("APART", apart as i64);
    for (name, value) in
        [("CT", ct), ("KT", kt), ("KB", kb), ("G", parts), ("QX", qx), ("XP", xp), ("SKIP", skip), ("STAGED", memory)]
    {
        variant = variant.with(name, value as i64);
    }
    let workgroups = g.r * c4.div_ceil(ct) * out4.div_ceil(kt);
    let splits = splits(positions, positions.div_ceil(q), workgroups * (own * parts).div_ceil(32));
    let depth = positions.div_ceil(splits * parts);
    Reduction { variant, total: positions, sizes: [h, w, p, q], workgroups, splits, depth, cut: splits }
}

fn grouped_filter(to: &mut Lowering, call: Filter) {
    let Filter { x, dy, dw, geometry: g, .. } = call;
    let [_, h, w, _] = to.shape(x).nhwc();
    let [images, p, q, outputs] = to.shape(dy).nhwc();
    let Shape::Filter { c: cg, k, groups: channels, .. } = to.shape(dw) else { return };
    let (k4, lanes) = (blocks(outputs), to.preset.reduce_lanes);
    // A few lanes take one tap of one block; many take rows of taps and neighbouring blocks.
    let few = lanes < 32;
    let bt = if few { 1 } else { 4 };
    let (rt, st, qx) = if few {
        (1, 1, 1)
    } else {
        // As many taps as fit into registers, rows of them into workgroup memory; tiles of much the same size.
        let even = |all: usize, most: usize| all.div_ceil(all.div_ceil(most.max(1)));
        let st = even(g.s, TAPS_IN_REGISTERS.min(WORKGROUP_VEC4S / lanes));
        (even(g.r, TAPS_IN_REGISTERS / st), st, fitting(4, g))
    };
    let mut variant = window(&GROUPED_FILTER, g).with("NEED", touched(g, st, qx));
    for (name, value) in [
        ("CG", cg),
        ("KG", k / channels),
        // Depthwise, channels are no constants: layers of any width share a variant.
        ("GROUPS", if (cg, k) == (1, channels) { 0 } else { channels }),
        ("RT", rt),
        ("ST", st),
        ("QX", qx),
        ("BT", bt),
        ("LANES", lanes),
    ] {
        variant = variant.with(name, value as i64);
    }
    let workgroups = g.r.div_ceil(rt) * g.s.div_ceil(st) * cg * k4.div_ceil(bt);
    let lines = images * p;
    let splits = if few { 1 } else { splits(lines * q, lines, workgroups * lanes.div_ceil(32)) };
    let depth = lines.div_ceil(splits * lanes / bt) * q;
    call.call(to, Reduction { variant, total: lines, sizes: [h, w, p, q], workgroups, splits, depth, cut: splits });
}

/// Sums `terms` equal parts into `y`.
pub(super) fn sum_parts(to: &mut Lowering, parts: TensorId, y: TensorId, terms: usize) {
    let (count, lanes) = (to.shape(y).vec4s(), to.preset.lanes);
    let work = Work { workgroups: count.div_ceil(lanes), flops: 0, depth: terms };
    to.call(SumParts::KERNEL.with([("LANES", lanes)]), SumParts { parts, y, count, terms }, work);
}
