// Per-channel moments of a map over a chunk of positions, as parts for batch_norm and batch_norm_grad.
//   forward:  m_0 = sum x / m,  drift = sum (x - m_0) / m,  mean = m_0 + drift,  spread = sum (x - m_0)^2 - m drift^2:
//             two passes over the chunk (no cancellation), the second mends the rounding of the first one's mean. So the mean
//             of a channel that is constant is that constant, and what the norm makes of it is zero: else it would be that
//             rounding times 1 / sqrt(epsilon), 316.
//   GRAD:     sum dy,  sum dy * (x - mean) * rstd
//   Lanes sum 16 positions apart before they add them up: rounding grows with the square root of the longest run.
//   one workgroup per block of four channels and chunk; lanes take positions in turn and are summed in lane order.
//   task row: (x, parts, positions, positions per chunk), (dy, coefficients, chunks, C4)
//   grid: C4 * chunks, folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<f32>>;
#if GRAD
@group(0) @binding(3) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> coefficients: array<vec4<f32>>;
#end

var<workgroup> lane_sums: array<vec4<f32>, ${2 * LANES}>;

fn total(first: u32) -> vec4<f32> {
    var sum = lane_sums[first];
    for (var l = 1u; l < ${LANES}u; l++) {
        sum += lane_sums[first + l];
    }
    return sum;
}

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 2u];
    let more = rows[group_id.z * 2u + 1u];
    let c4 = more.w;
    let group = linear_group(group_id, grid);
    let chunk = group / c4;
    let block = group - chunk * c4;
    if chunk >= more.z {
        return;
    }
    let first = chunk * head.w;
    let last = min(first + head.w, head.z);
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
#if GRAD
    let mean = coefficients[more.y + 2u * c4 + block];
    let rstd = coefficients[more.y + 3u * c4 + block];
    for (var run = first; run < last; run += ${16 * LANES}u) {
        var a_run = vec4<f32>(0.0);
        var b_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${16 * LANES}u, last); i += ${LANES}u) {
            let dy = dys[more.x + i * c4 + block];
            a_run += dy;
            b_run = fma(dy, (xs[head.x + i * c4 + block] - mean) * rstd, b_run);
        }
        a += a_run;
        b += b_run;
    }
    lane_sums[lane] = a;
    lane_sums[${LANES}u + lane] = b;
    workgroupBarrier();
    if lane == 0u {
        parts[head.y + (chunk * c4 + block) * 2u] = total(0u);
        parts[head.y + (chunk * c4 + block) * 2u + 1u] = total(${LANES}u);
    }
#else
    for (var run = first; run < last; run += ${16 * LANES}u) {
        var a_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${16 * LANES}u, last); i += ${LANES}u) {
            a_run += xs[head.x + i * c4 + block];
        }
        a += a_run;
    }
    lane_sums[lane] = a;
    workgroupBarrier();
    let count = f32(last - first);
    let rough = total(0u) / count;
    a = vec4<f32>(0.0);
    for (var run = first; run < last; run += ${16 * LANES}u) {
        var a_run = vec4<f32>(0.0);
        var b_run = vec4<f32>(0.0);
        for (var i = run + lane; i < min(run + ${16 * LANES}u, last); i += ${LANES}u) {
            let d = xs[head.x + i * c4 + block] - rough;
            a_run += d;
            b_run = fma(d, d, b_run);
        }
        a += a_run;
        b += b_run;
    }
    // All lanes have read the first sums.
    workgroupBarrier();
    lane_sums[lane] = a;
    lane_sums[${LANES}u + lane] = b;
    workgroupBarrier();
    if lane == 0u {
        let drift = total(0u) / count;
        parts[head.y + (chunk * c4 + block) * 2u] = rough + drift;
        parts[head.y + (chunk * c4 + block) * 2u + 1u] = max(fma(-drift * count, drift, total(${LANES}u)), vec4<f32>(0.0));
    }
#end
}
