// Global average pooling:  y[n,c] = mean over h, w of x[n,h,w,c].
//   task row: (x, y, N*C4, H*W), (C4, -, -, -)
//   grid: ceil(N*C4 / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 2u];
    let channels = rows[group_id.z * 2u + 1u].x;
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= head.z {
        return;
    }
    let first = head.x + i / channels * head.w * channels + i % channels;
    var sum = vec4<f32>(0.0);
    for (var at = 0u; at < head.w; at++) {
        sum += xs[first + at * channels];
    }
    ys[head.y + i] = sum / f32(head.w);
}
