// Batch norm's coefficients: scale = gamma / sqrt(var + epsilon), beta, mean, 1 / sqrt(var + epsilon).
//   Chunks' moments are merged around the first chunk's mean m_0, so that only small differences are summed:
//     mean = m_0 + sum n_i (m_i - m_0) / n,  spread = sum spread_i + sum n_i (m_i - mean)^2.
//   The running statistics move by momentum towards the mean and the unbiased variance. RUNNING: they are used as they are.
//   MERGE lanes share the chunks of a block, 1 or all LANES; these load eight chunks at once and are summed in a tree.
//   task row: parts, coefficients, gamma, beta, running mean, running var, hyper (absent ones NONE), chunks, positions, positions
//             per chunk, epsilon, update, channels, C4
//   grid: ceil(C4 * MERGE / LANES), folded; z = task
#import task
#import Row
#if MERGE > 1
#import fold
#end
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gammas: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> betas: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> running: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> hyper: array<vec4<f32>>;

#if !RUNNING
fn positions_of(chunk: u32, row: Row) -> f32 {
    return f32(min(row.chunk, row.positions - min(row.positions, chunk * row.chunk)));
}

#end
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
    var gamma = vec4<f32>(1.0);
    var beta = vec4<f32>(0.0);
    if row.gamma != NONE {
        gamma = gammas[row.gamma + block];
    }
    if row.beta != NONE {
        beta = betas[row.beta + block];
    }
#if RUNNING
    let mean = running[row.running_mean + block];
    let variance = running[row.running_var + block];
#else
    var old_mean = vec4<f32>(0.0);
    var old_variance = vec4<f32>(0.0);
    var momentum = 0.0;
    if row.update {
        momentum = hyper[row.hyper].w;
        old_mean = running[row.running_mean + block];
        old_variance = running[row.running_var + block];
    }
    let count = f32(row.positions);
    let base = parts[row.parts + block * 2u];
    var drift = vec4<f32>(0.0);
    // Chunks behind the last one have no positions.
    for (var chunk = 1u + rank; chunk < row.chunks; chunk += ${MERGE * UNROLL}u) {
#for j in 0..UNROLL
        let chunk${j} = min(chunk + ${j * MERGE}u, row.chunks - 1u);
        let mean${j} = parts[row.parts + (chunk${j} * c4 + block) * 2u];
#end
#for j in 0..UNROLL
        let size${j} = positions_of(chunk + ${j * MERGE}u, row);
        drift = fma(mean${j} - base, vec4<f32>(size${j}), drift);
#end
    }
#if MERGE > 1
    lane_sums[lane] = drift;
    fold(lane, 1u, lane, ${MERGE}u, false);
    drift = lane_sums[0];
#end
    let mean = base + drift / count;
    var spread = vec4<f32>(0.0);
    for (var chunk = rank; chunk < row.chunks; chunk += ${MERGE * UNROLL}u) {
#for j in 0..UNROLL
        let at${j} = row.parts + (min(chunk + ${j * MERGE}u, row.chunks - 1u) * c4 + block) * 2u;
        let mean${j} = parts[at${j}];
        let spread${j} = parts[at${j} + 1u];
#end
#for j in 0..UNROLL
        let size${j} = positions_of(chunk + ${j * MERGE}u, row);
        let d${j} = mean${j} - mean;
        spread += select(vec4<f32>(0.0), fma(d${j} * d${j}, vec4<f32>(size${j}), spread${j}), size${j} > 0.0);
#end
    }
#if MERGE > 1
    // All lanes have read the first sums.
    workgroupBarrier();
    lane_sums[lane] = spread;
    fold(lane, 1u, lane, ${MERGE}u, false);
    if rank > 0u {
        return;
    }
    spread = lane_sums[lane];
#end
    let variance = spread / count;
    if row.update {
        let unbiased = spread / max(count - 1.0, 1.0);
        running[row.running_mean + block] = mix(old_mean, mean, momentum);
        running[row.running_var + block] = mix(old_variance, unbiased, momentum);
    }
#end
    let rstd = 1.0 / sqrt(variance + row.epsilon);
    // Padded channels must stay zero, whatever the statistics say.
    let real = vec4<f32>(vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(row.channels));
    coefficients[row.coefficients + block] = rstd * real * gamma;
    coefficients[row.coefficients + c4 + block] = beta * real;
    coefficients[row.coefficients + 2u * c4 + block] = mean;
    coefficients[row.coefficients + 3u * c4 + block] = rstd;
}
