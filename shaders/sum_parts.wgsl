// Sum of equal parts in fixed order:  y[i] = sum_p parts[p * count + i].
//   task row: (parts, y, count in vec4, parts)
//   grid: ceil(count / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z];
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= head.z {
        return;
    }
    var total = vec4<f32>(0.0);
    for (var p = 0u; p < head.w; p++) {
        total += parts[head.x + p * head.z + i];
    }
    ys[head.y + i] = total;
}
