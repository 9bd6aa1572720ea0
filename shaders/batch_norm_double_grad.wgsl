// Second gradient of batch norm: of sum v dx with respect to x, dx the gradient of dy. With m means over the count of positions:
//   B = m(v xh),  C = m(dy xh),  A = m(v dy) - m(v) m(dy),  xh = (x - mean) rstd
//   -scale rstd (C (v - m(v)) + B (dy - m(dy)) + xh (A - 3 B C)) = (p v + q (x - mean) + t) + p' dy
//   The gradients' own coefficients hold the means: q1 = -scale rstd C, t1 = -scale m(dy); q2, t2 those of v.
//     p = q1,  p' = q2,  t = (q1 t2 + q2 t1) / scale,
//     q = -scale rstd^2 m(v dy) + (rstd^2 t1 t2 + 3 q1 q2) / scale;  zero where scale is
//   task row: coefficients, first, second, dot (sum v dy), by v, by dy, positions, C4; coefficients are p, q, t, mean
//   grid: ceil(C4 / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> norms: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> firsts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> seconds: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dots: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> by_v: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> by_dy: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let block = linear_group(group_id, grid) * ${LANES}u + lane;
    if block >= c4 {
        return;
    }
    let scale = norms[row.coefficients + block];
    let mean = norms[row.coefficients + 2u * c4 + block];
    let rstd = norms[row.coefficients + 3u * c4 + block];
    let q1 = firsts[row.first + c4 + block];
    let t1 = firsts[row.first + 2u * c4 + block];
    let q2 = seconds[row.second + c4 + block];
    let t2 = seconds[row.second + 2u * c4 + block];
    let dot = dots[row.dot + block] / f32(row.positions);
    let none = vec4<f32>(0.0);
    let dead = scale == none;
    let divisor = select(scale, vec4<f32>(1.0), dead);
    // The two parts of A cancel where means are large, so they meet first.
    let a = fma(scale, dot, -(t1 / divisor) * t2);
    let q = fma(-rstd * rstd, a, 3.0 * (q1 / divisor) * q2);
    let t = fma(q1, t2 / divisor, q2 * (t1 / divisor));
    by_v[row.by_v + block] = q1;
    by_v[row.by_v + c4 + block] = select(q, none, dead);
    by_v[row.by_v + 2u * c4 + block] = select(t, none, dead);
    by_v[row.by_v + 3u * c4 + block] = mean;
    by_dy[row.by_dy + block] = q2;
    by_dy[row.by_dy + c4 + block] = none;
    by_dy[row.by_dy + 2u * c4 + block] = none;
    by_dy[row.by_dy + 3u * c4 + block] = mean;
}
