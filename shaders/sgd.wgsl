// A step of stochastic gradient descent on weights that lie side by side (as what belongs to them does), element by element.
//   g = min(1, clip / (norm + 1e-6)) g + decay w;  m = momentum m + g;  w -= rate m   (NESTEROV: rate (g + momentum m))
//   task row: w, g, m, norm or NONE, hyper, count in vec4
//   hyper: (rate, momentum, decay, -), (-, clip, -, -)
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> ms: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> norms: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> hyper: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= row.count {
        return;
    }
    let w = ws[row.w + i];
    var g = gs[row.g + i];
    let rates = hyper[row.hyper];
    let limits = hyper[row.hyper + 1u];
    if row.norm != NONE {
        g *= min(1.0, limits.y / (norms[row.norm].x + 1e-6));
    }
    g = fma(w, vec4<f32>(rates.z), g);
    let m = fma(ms[row.m + i], vec4<f32>(rates.y), g);
    ms[row.m + i] = m;
#if NESTEROV
    ws[row.w + i] = fma(fma(m, vec4<f32>(rates.y), g), vec4<f32>(-rates.x), w);
#else
    ws[row.w + i] = fma(m, vec4<f32>(-rates.x), w);
#end
}
