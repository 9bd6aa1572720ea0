// Drop path (Larsson et al. 2017), a factor for each image:  y[n] = 0 with probability p, else 1 / (1 - p).
//   An image is dropped if its first word of Philox with key (seed) and counter (image, path, draw, purpose) is below p 2^32: whole
//   numbers, the same on every adapter. A factor is the first value of its vec4, the others are zero.
//   task row: y, hyper, images, path
//   hyper: (-), (-, -, -, 1 / (1 - p)), (seed low, seed high, draw, p 2^32) as words
//   grid: ceil(images / LANES), folded; z = task
#import task
#import Row
#import philox
@group(0) @binding(1) var<storage, read_write> ys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> hyper: array<vec4<u32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let image = linear_group(group_id, grid) * ${LANES}u + lane;
    if image >= row.images {
        return;
    }
    let scale = bitcast<f32>(hyper[row.hyper + 1u].w);
    let seed = hyper[row.hyper + 2u];
    let word = philox(vec4<u32>(image, row.path, seed.z, ${PURPOSE}u), seed.xy).x;
    ys[row.y + image] = vec4<f32>(select(scale, 0.0, word < seed.w), 0.0, 0.0, 0.0);
}
