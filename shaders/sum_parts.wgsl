// Sum of equal parts in fixed order:  y[i] = sum_p parts[p * count + i].
//   task row: parts, y, count in vec4, terms
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

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
    var total = vec4<f32>(0.0);
    // Loads of several parts at a time do not wait for each other.
    var p = 0u;
    for (; p + 8u <= row.terms; p += 8u) {
#for j in 0..8
        let part${j} = parts[row.parts + (p + ${j}u) * row.count + i];
#end
#for j in 0..8
        total += part${j};
#end
    }
    for (; p < row.terms; p++) {
        total += parts[row.parts + p * row.count + i];
    }
    ys[row.y + i] = total;
}
