// Which values are positive, 16 to a whole number:  bit 4 q + l of word k of image n is set if component l of the
// image's vec4 number 4 k + q is above zero.
//   task row: x, y, count N*W4, vec4s per image, words per image in vec4 (W4)
//   grid: ceil(N*W4 / LANES), folded; z = task
#import task
#import Row
#import pack
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
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
    let image = row.x + i / row.words * row.vec4s;
    let first = i % row.words * 16u;
    var codes = vec4<u32>(0u);
    for (var word = 0u; word < 4u; word++) {
        var code = 0u;
        for (var q = 0u; q < 4u; q++) {
            let at = first + word * 4u + q;
            if at < row.vec4s {
                code |= packed(xs[image + at] > vec4<f32>(0.0)) << (4u * q);
            }
        }
        codes[word] = code;
    }
    ys[row.y + i] = vec4<f32>(codes);
}
