// Batch norm's backward coefficients from the sums of moments (GRAD), with m positions:
//   dbeta = sum dy,  dgamma = sum dy * (x - mean) * rstd
//   dx = p * dy + q * (x - mean) + t;  p = scale,  q = -scale * rstd * dgamma / m,  t = -scale * dbeta / m
//   RUNNING statistics do not depend on x: q = t = 0.
//   task row: (parts, chunks, positions, coefficients), (dgamma, dbeta, grad coefficients, C4)     absent ones NONE
//   grid: ceil(C4 / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dgammas: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dbetas: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> grads: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = rows[group_id.z * 2u];
    let to = rows[group_id.z * 2u + 1u];
    let c4 = to.w;
    let block = linear_group(group_id, grid) * ${LANES}u + lane;
    if block >= c4 {
        return;
    }
    var dbeta = vec4<f32>(0.0);
    var dgamma = vec4<f32>(0.0);
    for (var chunk = 0u; chunk < head.y; chunk++) {
        let at = head.x + (chunk * c4 + block) * 2u;
        dbeta += parts[at];
        dgamma += parts[at + 1u];
    }
    let scale = coefficients[head.w + block];
    let mean = coefficients[head.w + 2u * c4 + block];
    let rstd = coefficients[head.w + 3u * c4 + block];
    if to.x != NONE {
        dgammas[to.x + block] = dgamma;
    }
    if to.y != NONE {
        dbetas[to.y + block] = dbeta;
    }
    let share = 1.0 / f32(head.z);
    grads[to.z + block] = scale;
#if RUNNING
    grads[to.z + c4 + block] = vec4<f32>(0.0);
    grads[to.z + 2u * c4 + block] = vec4<f32>(0.0);
#else
    grads[to.z + c4 + block] = -scale * rstd * dgamma * share;
    grads[to.z + 2u * c4 + block] = -scale * dbeta * share;
#end
    grads[to.z + 3u * c4 + block] = mean;
}
