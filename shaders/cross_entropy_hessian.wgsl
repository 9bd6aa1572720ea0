// The mean cross-entropy's Hessian with respect to the logits z, times v; one lane per image.
//   y = s (v - sum_c s v) / N,  s = softmax(z);  zero for an image whose label is no class
//   task row: logits, labels, v, y, images, classes
//   grid: ceil(N / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> vs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> ys: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    let image = linear_group(group_id, grid) * ${LANES}u + lane;
    if image >= row.images {
        return;
    }
    let classes = row.classes;
    let stride = (classes + 3u) / 4u;
    let z_at = row.logits + image * stride;
    let v_at = row.v + image * stride;
    let counts = u32(labels[row.labels + image].x) < classes;
    var top = logits[z_at].x;
    for (var c = 1u; c < classes; c++) {
        top = max(top, logits[z_at + c / 4u][c % 4u]);
    }
    var normaliser = 0.0;
    var weighted = 0.0;
    for (var c = 0u; c < classes; c++) {
        let e = exp(logits[z_at + c / 4u][c % 4u] - top);
        normaliser += e;
        weighted = fma(e, vs[v_at + c / 4u][c % 4u], weighted);
    }
    let mean = weighted / normaliser;
    for (var block = 0u; block < stride; block++) {
        let s = exp(logits[z_at + block] - top) / normaliser;
        let y = s * (vs[v_at + block] - mean) / f32(row.images);
        let c = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        ys[row.y + image * stride + block] = select(vec4<f32>(0.0), y, (c < vec4<u32>(classes)) & vec4<bool>(counts));
    }
}
