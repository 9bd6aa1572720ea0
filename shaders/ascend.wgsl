// The ascent of sharpness-aware minimisation from weights that lie side by side (as what belongs to them does), element by element.
//   y = w + rho / (norm + 1e-12) * g, ADAPTIVE w^2 g in place of g
//   task row: w, g, y, norm, hyper, count in vec4
//   hyper: (-), (rho, -, -, -)
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> ys: array<vec4<f32>>;
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
#if ADAPTIVE
    g *= w * w;
#end
    let rho = hyper[row.hyper + 1u].x;
    ys[row.y + i] = fma(g, vec4<f32>(rho / (norms[row.norm].x + 1e-12)), w);
}
