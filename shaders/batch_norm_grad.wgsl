// Batch norm's backward coefficients from the sums of moments (GRAD), with m positions:
//   dbeta = sum dy,  dgamma = sum dy * (x - mean) * rstd
//   dx = p * dy + q * (x - mean) + t;  p = scale,  q = -scale * rstd * dgamma / m,  t = -scale * dbeta / m
//   MERGE lanes share the chunks of a block, 1 or all LANES; these load eight chunks at once and are summed in a tree.
//   RUNNING statistics do not depend on x: q = t = 0.
//   task row: parts, coefficients, dgamma, dbeta (absent ones NONE), by x, chunks, positions, C4
//   grid: ceil(C4 * MERGE / LANES), folded; z = task
#import task
#import Row
#if MERGE > 1
#import fold
#end
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dgammas: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dbetas: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> grads: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    let c4 = row.c4;
#if MERGE > 1
    // The same for all lanes, as a compiler must see: there are barriers below.
    let block = linear_group(group_id, grid);
    let rank = lane;
#else
    let block = linear_group(group_id, grid) * ${LANES}u + lane;
    let rank = 0u;
#end
    if block >= c4 {
        return;
    }
    // What comes last is on its way first.
    let scale = coefficients[row.coefficients + block];
    let mean = coefficients[row.coefficients + 2u * c4 + block];
    let rstd = coefficients[row.coefficients + 3u * c4 + block];
    var dbeta = vec4<f32>(0.0);
    var dgamma = vec4<f32>(0.0);
    let none = vec4<f32>(0.0);
    for (var chunk = rank; chunk < row.chunks; chunk += ${MERGE * UNROLL}u) {
#for j in 0..UNROLL
        let at${j} = row.parts + (min(chunk + ${j * MERGE}u, row.chunks - 1u) * c4 + block) * 2u;
        let dbeta${j} = parts[at${j}];
        let dgamma${j} = parts[at${j} + 1u];
#end
#for j in 0..UNROLL
        dbeta += select(none, dbeta${j}, chunk + ${j * MERGE}u < row.chunks);
        dgamma += select(none, dgamma${j}, chunk + ${j * MERGE}u < row.chunks);
#end
    }
#if MERGE > 1
    lane_sums[lane] = dbeta;
    lane_sums[${LANES}u + lane] = dgamma;
    fold(lane, 1u, lane, ${MERGE}u, true);
    if rank > 0u {
        return;
    }
    dbeta = lane_sums[lane];
    dgamma = lane_sums[${LANES}u + lane];
#end
    if row.dgamma != NONE {
        dgammas[row.dgamma + block] = dgamma;
    }
    if row.dbeta != NONE {
        dbetas[row.dbeta + block] = dbeta;
    }
    let share = 1.0 / f32(row.positions);
    grads[row.by_x + block] = scale;
#if RUNNING
    grads[row.by_x + c4 + block] = vec4<f32>(0.0);
    grads[row.by_x + 2u * c4 + block] = vec4<f32>(0.0);
#else
    grads[row.by_x + c4 + block] = -scale * rstd * dgamma * share;
    grads[row.by_x + 2u * c4 + block] = -scale * dbeta * share;
#end
    grads[row.by_x + 3u * c4 + block] = mean;
}
