// Batch norm's coefficients: scale = gamma / sqrt(var + epsilon), beta, mean, 1 / sqrt(var + epsilon).
//   Chunks' moments are merged around the first chunk's mean m_0, so that only small differences are summed:
//     mean = m_0 + sum n_i (m_i - m_0) / n,  spread = sum spread_i + sum n_i (m_i - mean)^2.
//   The running statistics move by momentum towards the mean and the unbiased variance. RUNNING: they are used as they are.
//   task row: (parts, chunks, positions, positions per chunk), (coefficients, gamma, beta, hyper),
//             (running mean, running var, epsilon, update), (C, C4, -, -)          absent ones NONE
//   grid: ceil(C4 / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gammas: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> betas: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> running: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> hyper: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = rows[group_id.z * 4u];
    let operands = rows[group_id.z * 4u + 1u];
    let state = rows[group_id.z * 4u + 2u];
    let channels = rows[group_id.z * 4u + 3u].x;
    let c4 = rows[group_id.z * 4u + 3u].y;
    let block = linear_group(group_id, grid) * ${LANES}u + lane;
    if block >= c4 {
        return;
    }
#if RUNNING
    let mean = running[state.x + block];
    let variance = running[state.y + block];
#else
    let count = f32(head.z);
    let base = parts[head.x + block * 2u];
    var drift = vec4<f32>(0.0);
    for (var chunk = 1u; chunk < head.y; chunk++) {
        let size = f32(min(head.w, head.z - chunk * head.w));
        drift = fma(parts[head.x + (chunk * c4 + block) * 2u] - base, vec4<f32>(size), drift);
    }
    let mean = base + drift / count;
    var spread = vec4<f32>(0.0);
    for (var chunk = 0u; chunk < head.y; chunk++) {
        let at = head.x + (chunk * c4 + block) * 2u;
        let d = parts[at] - mean;
        spread += fma(d * d, vec4<f32>(f32(min(head.w, head.z - chunk * head.w))), parts[at + 1u]);
    }
    let variance = spread / count;
    if state.w != 0u {
        let momentum = hyper[operands.w].w;
        let unbiased = spread / max(count - 1.0, 1.0);
        running[state.x + block] = mix(running[state.x + block], mean, momentum);
        running[state.y + block] = mix(running[state.y + block], unbiased, momentum);
    }
#end
    let rstd = 1.0 / sqrt(variance + bitcast<f32>(state.z));
    // Padded channels must stay zero, whatever the statistics say.
    let real = vec4<f32>(vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(channels));
    var scale = rstd * real;
    var beta = vec4<f32>(0.0);
    if operands.y != NONE {
        scale *= gammas[operands.y + block];
    }
    if operands.z != NONE {
        beta = betas[operands.z + block];
    }
    coefficients[operands.x + block] = scale;
    coefficients[operands.x + c4 + block] = beta * real;
    coefficients[operands.x + 2u * c4 + block] = mean;
    coefficients[operands.x + 3u * c4 + block] = rstd;
}
