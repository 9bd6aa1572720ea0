// Sums of squares of tensors that lie side by side, chunk by chunk:  sum g^2, or with weights sum (|w| g)^2.
//   one workgroup per chunk of CHUNK vec4, of which lanes take every LANES-th
//   task row: g, w or NONE, parts, count in vec4
//   grid: ceil(count / CHUNK), folded; z = task
#import task
#import Row
#import over_lanes
@group(0) @binding(1) var<storage, read_write> gs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let first = linear_group(group_id, grid) * ${CHUNK}u;
    if first >= row.count {
        return;
    }
    let last = min(first + ${CHUNK}u, row.count);
    var sum = vec4<f32>(0.0);
    for (var i = first + lane; i < last; i += ${LANES}u) {
        var g = gs[row.g + i];
        if row.w != NONE {
            g *= ws[row.w + i];
        }
        sum = fma(g, g, sum);
    }
    let total = over_lanes(lane, sum.x + sum.y + sum.z + sum.w);
    if lane == 0u {
        parts[row.parts + first / ${CHUNK}u] = vec4<f32>(total, 0.0, 0.0, 0.0);
    }
}
