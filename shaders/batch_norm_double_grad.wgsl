// Second gradient of batch norm: of sum v dx with respect to x, dx the gradient of dy. With m means over the count of positions:
//   B = m(v xh),  C = m(dy xh),  A = m(v dy) - m(v) m(dy),  xh = (x - mean) rstd
//   -scale rstd (C (v - m(v)) + B (dy - m(dy)) + xh (A - 3 B C)) = (p v + q (x - mean) + t) + p' dy
//   The gradients' own coefficients hold the means: q1 = -scale rstd C, t1 = -scale m(dy); q2, t2 those of v.
//     p = q1,  p' = q2,  t = (q1 t2 + q2 t1) / scale,
//     q = -scale rstd^2 m(v dy) + (rstd^2 t1 t2 + 3 q1 q2) / scale;  zero where scale is
//   task row: (coefficients, first, second, sum v dy), (by v, by dy, positions, C4); coefficients are p, q, t, mean
//   grid: ceil(C4 / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> norms: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> firsts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> seconds: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dots: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> by_v: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> by_dy: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = rows[group_id.z * 2u];
    let to = rows[group_id.z * 2u + 1u];
    let c4 = to.w;
    let block = linear_group(group_id, grid) * ${LANES}u + lane;
    if block >= c4 {
        return;
    }
    let scale = norms[head.x + block];
    let mean = norms[head.x + 2u * c4 + block];
    let rstd = norms[head.x + 3u * c4 + block];
    let q1 = firsts[head.y + c4 + block];
    let t1 = firsts[head.y + 2u * c4 + block];
    let q2 = seconds[head.z + c4 + block];
    let t2 = seconds[head.z + 2u * c4 + block];
    let dot = dots[head.w + block] / f32(to.z);
    let none = vec4<f32>(0.0);
    let dead = scale == none;
    let divisor = select(scale, vec4<f32>(1.0), dead);
    // The two parts of A cancel where means are large, so they meet first.
    let a = fma(scale, dot, -(t1 / divisor) * t2);
    let q = fma(-rstd * rstd, a, 3.0 * (q1 / divisor) * q2);
    let t = fma(q1, t2 / divisor, q2 * (t1 / divisor));
    by_v[to.x + block] = q1;
    by_v[to.x + c4 + block] = select(q, none, dead);
    by_v[to.x + 2u * c4 + block] = select(t, none, dead);
    by_v[to.x + 3u * c4 + block] = mean;
    by_dy[to.y + block] = q2;
    by_dy[to.y + c4 + block] = none;
    by_dy[to.y + 2u * c4 + block] = none;
    by_dy[to.y + 3u * c4 + block] = mean;
}
