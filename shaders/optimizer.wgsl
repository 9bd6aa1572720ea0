// One optimiser step on one weight tensor, element by element.
//   SGD:     g = min(1, clip / (norm + 1e-6)) g + decay w;  m = momentum m + g;  w -= rate m   (NESTEROV: rate (g + momentum m))
//   ASCEND:  y = w + rho / (norm + 1e-12) * g, ADAPTIVE w^2 g in place of g
//   task row: (w, g, m or y, norm or NONE), (count in vec4, hyper, -, -)
//   hyper: (rate, momentum, decay, -), (rho, clip, -, -)
//   grid: ceil(count / LANES), folded; z = task
#import task
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
    let head = rows[group_id.z * 2u];
    let size = rows[group_id.z * 2u + 1u];
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= size.x {
        return;
    }
    let w = ws[head.x + i];
    var g = gs[head.y + i];
    let rates = hyper[size.y];
    let limits = hyper[size.y + 1u];
#if ASCEND
#if ADAPTIVE
    g *= w * w;
#end
    ms[head.z + i] = fma(g, vec4<f32>(limits.x / (norms[head.w].x + 1e-12)), w);
#else
    if head.w != NONE {
        g *= min(1.0, limits.y / (norms[head.w].x + 1e-6));
    }
    g = fma(w, vec4<f32>(rates.z), g);
    let m = fma(ms[head.z + i], vec4<f32>(rates.y), g);
    ms[head.z + i] = m;
#if NESTEROV
    ws[head.x + i] = fma(fma(m, vec4<f32>(rates.y), g), vec4<f32>(-rates.x), w);
#else
    ws[head.x + i] = fma(m, vec4<f32>(-rates.x), w);
#end
#end
}
