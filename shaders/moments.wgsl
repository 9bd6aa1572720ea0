// Per-channel moments of a map over a chunk of positions, as parts for batch_norm and batch_norm_grad.
//   forward:  m_0 = sum x / m,  drift = sum (x - m_0) / m,  mean = m_0 + drift,  spread = sum (x - m_0)^2 - m drift^2:
//             two passes over the chunk (no cancellation), the second mends the rounding of the first one's mean. So the mean
//             of a channel that is constant is that constant, and what the norm makes of it is zero: else it would be that
//             rounding times 1 / sqrt(epsilon), 316.
//   GRAD:     sum dy,  sum dy * (x - mean) * rstd
//   Lanes sum RUN positions apart before they add them up: rounding grows with the square root of the longest run.
//   TREE: lanes are rows of `columns` neighbouring blocks, so that neighbours load from neighbouring places. A chunk is one run
//         of each row: all its loads are on their way at once, and the second pass reads registers. Rows are summed in a tree.
//   else: one block; lanes take positions in turn and are summed in lane order.
//   one workgroup per `columns` blocks of four channels and chunk.
//   task row: x, parts, dy, coefficients (GRAD's, else NONE), positions, positions per chunk, chunks, C4, columns
//   grid: ceil(C4 / columns) * chunks, folded; z = task
#import task
#import Row
#if TREE
#import fold
#else
var<workgroup> lane_sums: array<vec4<f32>, ${2 * LANES}>;

fn total(first: u32) -> vec4<f32> {
    var sum = lane_sums[first];
    for (var l = 1u; l < ${LANES}u; l++) {
        sum += lane_sums[first + l];
    }
    return sum;
}
#end
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<f32>>;
#if GRAD
@group(0) @binding(3) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> coefficients: array<vec4<f32>>;
#end

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let item = linear_group(group_id, grid);
#if TREE
    let columns = row.columns;
    let strips = (c4 + columns - 1u) / columns;
    let chunk = item / strips;
    let rank = lane / columns;
    let own = (item - chunk * strips) * columns + lane - rank * columns;
    // The last strip may be narrower: lanes beyond it load what others do, and write nothing.
    let block = min(own, c4 - 1u);
    let height = ${LANES}u / columns;
#else
    let chunk = item / c4;
    let block = item - chunk * c4;
#end
    if chunk >= row.chunks {
        return;
    }
    let first = chunk * row.chunk;
    let last = min(first + row.chunk, row.positions);
    let count = f32(last - first);
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
#if GRAD
    let mean = coefficients[row.coefficients + 2u * c4 + block];
    let rstd = coefficients[row.coefficients + 3u * c4 + block];
#end
#if TREE
    // Positions behind the last one are loaded from there and count nothing; so are all of the lanes that make no whole row.
    let start = select(last, first + rank, rank < height);
#for j in 0..RUN
    let at${j} = start + ${j}u * height;
    let place${j} = min(at${j}, last - 1u) * c4 + block;
#end
    let none = vec4<f32>(0.0);
#if GRAD
#for part in 0..4
#for j in part * RUN / 4..(part + 1) * RUN / 4
    let x${j} = xs[row.x + place${j}];
    let dy${j} = dys[row.dy + place${j}];
#end
#for j in part * RUN / 4..(part + 1) * RUN / 4
    let own_dy${j} = select(none, dy${j}, at${j} < last);
    a += own_dy${j};
    b = fma(own_dy${j}, (x${j} - mean) * rstd, b);
#end
#end
#else
#for j in 0..RUN
    let x${j} = xs[row.x + place${j}];
#end
#for j in 0..RUN
    a += select(none, x${j}, at${j} < last);
#end
    lane_sums[lane] = a;
    fold(lane, columns, rank, height, false);
    let rough = lane_sums[lane - rank * columns] / count;
    a = none;
#for j in 0..RUN
    let d${j} = select(none, x${j} - rough, at${j} < last);
    a += d${j};
    b = fma(d${j}, d${j}, b);
#end
    // All lanes have read the first sums.
    workgroupBarrier();
#end
    lane_sums[lane] = a;
    lane_sums[${LANES}u + lane] = b;
    fold(lane, columns, rank, height, true);
    if rank > 0u || own >= c4 {
        return;
    }
    let a_sum = lane_sums[lane];
    let b_sum = lane_sums[${LANES}u + lane];
#else
#if GRAD
    for (var run = first; run < last; run += ${RUN * LANES}u) {
        var a_run = vec4<f32>(0.0);
        var b_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${RUN * LANES}u, last); i += ${LANES}u) {
            let dy = dys[row.dy + i * c4 + block];
            a_run += dy;
            b_run = fma(dy, (xs[row.x + i * c4 + block] - mean) * rstd, b_run);
        }
        a += a_run;
        b += b_run;
    }
#else
    for (var run = first; run < last; run += ${RUN * LANES}u) {
        var a_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${RUN * LANES}u, last); i += ${LANES}u) {
            a_run += xs[row.x + i * c4 + block];
        }
        a += a_run;
    }
    lane_sums[lane] = a;
    workgroupBarrier();
    let rough = total(0u) / count;
    a = vec4<f32>(0.0);
    for (var run = first; run < last; run += ${RUN * LANES}u) {
        var a_run = vec4<f32>(0.0);
        var b_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${RUN * LANES}u, last); i += ${LANES}u) {
            let d = xs[row.x + i * c4 + block] - rough;
            a_run += d;
            b_run = fma(d, d, b_run);
        }
        a += a_run;
        b += b_run;
    }
    // All lanes have read the first sums.
    workgroupBarrier();
#end
    lane_sums[lane] = a;
    lane_sums[${LANES}u + lane] = b;
    workgroupBarrier();
    if lane > 0u {
        return;
    }
    let a_sum = total(0u);
    let b_sum = total(${LANES}u);
#end
    let to = row.parts + (chunk * c4 + block) * 2u;
#if GRAD
    parts[to] = a_sum;
    parts[to + 1u] = b_sum;
#else
    let drift = a_sum / count;
    parts[to] = rough + drift;
    parts[to + 1u] = max(fma(-drift * count, drift, b_sum), vec4<f32>(0.0));
#end
}
