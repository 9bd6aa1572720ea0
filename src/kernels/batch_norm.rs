//! Batch norm and channel sums: `moments.wgsl`, `batch_norm.wgsl`, `batch_norm_grad.wgsl`,
//! `batch_norm_double_grad.wgsl`, `channel_sum.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Preset, Work};
use crate::graph::{Op, Statistics, TensorId, blocks};

rows! {
    /// Moments of chunks of `chunk` positions; with `dy` the sums of a gradient.
    Moments of "moments", same bits for any [] {
        x: read, parts: write, dy: when_read, coefficients: when_read,
        positions: count, chunk: count, chunks: count, c4: count, columns: count,
    }
    /// Coefficients of a norm from `chunks` chunks, or from running statistics; `update` moves these.
    BatchNorm of "batch_norm", same bits for any [] {
        parts: read, coefficients: write, gamma: maybe_read, beta: maybe_read,
        running_mean: maybe_read, running_var: beside, hyper: maybe_read,
        chunks: count, positions: count, chunk: count, epsilon: real, update: flag, channels: count, c4: count,
    }
    /// Coefficients of a norm's gradient.
    BatchNormGrad of "batch_norm_grad", same bits for any [] {
        parts: read, coefficients: read, dgamma: maybe_write, dbeta: maybe_write, by_x: write,
        chunks: count, positions: count, c4: count,
    }
    /// Coefficients of the gradient of that.
    BatchNormDoubleGrad of "batch_norm_double_grad", same bits for any [LANES] {
        coefficients: read, first: read, second: read, dot: read, by_v: write, by_dy: write,
        positions: count, c4: count,
    }
    /// Sums over all positions, or over chunks of them.
    ChannelSum of "channel_sum", same bits for any [] {
        x: read, y: write, positions: count, c4: count, chunk: count, chunks: count, columns: count,
    }
}

pub(super) const KERNELS: &[Kernel] =
    &[Moments::KERNEL, BatchNorm::KERNEL, BatchNormGrad::KERNEL, BatchNormDoubleGrad::KERNEL, ChannelSum::KERNEL];

/// Positions of one chunk of a reduction over positions, where lanes are summed in turn.
const CHUNK: usize = 1024;
/// Positions that a lane sums by themselves; where lanes are summed in a tree it loads them all at once.
const RUN: usize = 16;
/// Runs of a lane in a sum over channels that is not worth a second pass.
const RUNS: usize = 4;
/// Most blocks of four channels side by side in a workgroup: 256 bytes.
const MOST_COLUMNS: usize = 16;
/// Chunks that a lane loads at once where lanes share those of a block.
const CHUNKS_AT_ONCE: usize = 8;

/// How the lanes of a workgroup lie over a map of positions by blocks of four channels.
struct Layout {
    /// Neighbouring blocks of a workgroup.
    columns: usize,
    /// Workgroups side by side.
    strips: usize,
    /// Positions side by side; lanes that make no whole row idle.
    rows: usize,
}

impl Layout {
    /// As many whole rows of blocks as there are lanes for, so that neighbouring lanes load neighbouring places; one block where
    /// lanes are few.
    fn of(preset: Preset, c4: usize) -> Self {
        let lanes = preset.reduce_lanes;
        let most = if preset.sums_in_trees() { MOST_COLUMNS } else { 1 };
        let columns = c4.div_ceil(c4.div_ceil(most).max(1)).max(1);
        Layout { columns, strips: c4.div_ceil(columns), rows: lanes / columns }
    }

    /// Positions of a run of all rows.
    fn run(&self) -> usize {
        self.rows * RUN
    }
}

/// Moments of chunks of positions.
struct Parts {
    tensor: TensorId,
    chunks: usize,
    positions: usize,
    /// Positions of a chunk.
    chunk: usize,
}

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    match *op {
        Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon, statistics } => {
            let channels = to.shape(coefficients).channels();
            let c4 = blocks(channels);
            let running_only = statistics == Statistics::Running;
            let parts = match running_only {
                true => Parts { tensor: coefficients, chunks: 0, positions: 0, chunk: 0 },
                false => moments(to, x, coefficients, None),
            };
            let merge = Merge::of(to.preset, running_only, c4, parts.chunks);
            let update = statistics == (Statistics::Batch { update: true }) && running.is_some() && hyper.is_some();
            let (running_mean, running_var) = (running.map(|r| r.0), running.map(|r| r.1));
            let Parts { tensor: parts, chunks, positions, chunk } = parts;
            let row = BatchNorm {
                parts,
                coefficients,
                gamma,
                beta,
                running_mean,
                running_var,
                hyper,
                chunks,
                positions,
                chunk,
                epsilon,
                update,
                channels,
                c4,
            };
            let mut call = to.prepare(BatchNorm::KERNEL.with(merge.defs), row, merge.work);
            if update {
                let moved: Vec<TensorId> = running_mean.into_iter().chain(running_var).collect();
                call.reads.retain(|t| !moved.contains(t));
                call.cost.bytes += moved.iter().map(|&t| to.bytes_of(t)).sum::<u64>();
                call.writes.extend(moved);
            }
            to.push(call);
        }
        Op::BatchNormGrad { dy, x, coefficients, dgamma, dbeta, grad_coefficients, statistics } => {
            let c4 = blocks(to.shape(x).channels());
            let parts = moments(to, x, coefficients, Some(dy));
            let running = statistics == Statistics::Running;
            let Parts { tensor: parts, chunks, positions, .. } = parts;
            let merge = Merge::of(to.preset, running, c4, chunks);
            let by_x = grad_coefficients;
            let row = BatchNormGrad { parts, coefficients, dgamma, dbeta, by_x, chunks, positions, c4 };
            to.call(BatchNormGrad::KERNEL.with(merge.defs), row, merge.work);
        }
        Op::BatchNormDoubleGrad { x, coefficients, first, second, dot, by_v, by_dy } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            let (lanes, positions, c4) = (to.preset.reduce_lanes, n * h * w, blocks(c));
            let row = BatchNormDoubleGrad { coefficients, first, second, dot, by_v, by_dy, positions, c4 };
            let work = Work { workgroups: c4.div_ceil(lanes), flops: 0, depth: 1 };
            to.call(BatchNormDoubleGrad::KERNEL.with([("LANES", lanes)]), row, work);
        }
        Op::ChannelSum { x, y } => {
            let [n, h, w, c] = to.shape(x).nhwc();
            channel_sum(to, x, y, n * h * w, blocks(c));
        }
        _ => {}
    }
}

/// Moments of `x` (with `dy`: the gradient's) chunk by chunk.
fn moments(to: &mut Lowering, x: TensorId, coefficients: TensorId, dy: Option<TensorId>) -> Parts {
    let [n, h, w, c] = to.shape(x).nhwc();
    let (c4, positions, tree) = (blocks(c), n * h * w, to.preset.sums_in_trees());
    let layout = Layout::of(to.preset, c4);
    let chunk = if tree { layout.run() } else { CHUNK };
    let chunks = positions.div_ceil(chunk);
    let parts = to.temporary(2 * chunks * c4);
    let lanes = to.preset.reduce_lanes;
    let defs = [("LANES", lanes), ("GRAD", dy.is_some().into()), ("TREE", tree.into()), ("RUN", RUN)];
    let (workgroups, columns) = (layout.strips * chunks, layout.columns);
    let depth = if tree { RUN + layout.rows.ilog2() as usize } else { 2 * (chunk / lanes + lanes) };
    let coefficients = dy.map(|_| coefficients);
    let row = Moments { x, parts, dy, coefficients, positions, chunk, chunks, c4, columns };
    to.call(Moments::KERNEL.with(defs), row, Work { workgroups, flops: 0, depth });
    Parts { tensor: parts, chunks, positions, chunk }
}

/// How chunks are merged: all lanes of a workgroup share the chunks of one block, unless lanes are few or there are no chunks;
/// then each has a block of its own.
struct Merge {
    defs: [(&'static str, usize); 4],
    work: Work,
}

impl Merge {
    fn of(preset: Preset, running: bool, c4: usize, chunks: usize) -> Self {
        let lanes = preset.reduce_lanes;
        let shared = preset.sums_in_trees() && chunks > 0;
        let (merge, unroll) = if shared { (lanes, CHUNKS_AT_ONCE) } else { (1, 1) };
        let defs = [("RUNNING", running.into()), ("LANES", lanes), ("MERGE", merge), ("UNROLL", unroll)];
        let depth = chunks.div_ceil(merge * unroll) + merge.ilog2() as usize;
        Merge { defs, work: Work { workgroups: (c4 * merge).div_ceil(lanes), flops: 0, depth } }
    }
}

/// Sums of all positions; where they are many, of chunks of them, and then of these sums.
fn channel_sum(to: &mut Lowering, x: TensorId, y: TensorId, positions: usize, c4: usize) {
    let tree = to.preset.sums_in_trees();
    let layout = Layout::of(to.preset, c4);
    let chunk = if tree && positions > RUNS * layout.run() { layout.run() } else { positions.max(1) };
    let chunks = positions.div_ceil(chunk);
    let sums = if chunks > 1 { to.temporary(chunks * c4) } else { y };
    let defs = [("LANES", to.preset.reduce_lanes), ("TREE", tree.into()), ("RUN", RUN)];
    let row = ChannelSum { x, y: sums, positions, c4, chunk, chunks, columns: layout.columns };
    let lanes = to.preset.reduce_lanes;
    let depth = if tree { chunk.div_ceil(layout.run()) + layout.rows.ilog2() as usize } else { chunk / lanes + lanes };
    let work = Work { workgroups: layout.strips * chunks, flops: 0, depth };
    to.call(ChannelSum::KERNEL.with(defs), row, work);
    if chunks > 1 {
        channel_sum(to, sums, y, chunks, c4);
    }
}
