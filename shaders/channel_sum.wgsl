// Sum over all positions of a map:  y[c] = sum_{n,h,w} x[n,h,w,c].
//   one workgroup per block of four channels; lanes take positions in turn and are summed in lane order.
//   task row: (x, y, positions, C4)
//   grid: C4, folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

var<workgroup> lane_sums: array<vec4<f32>, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = rows[group_id.z];
    let block = linear_group(group_id, grid);
    if block >= head.w {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < head.z; i += ${LANES}u) {
        sum += xs[head.x + i * head.w + block];
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            sum += lane_sums[l];
        }
        ys[head.y + block] = sum;
    }
}
