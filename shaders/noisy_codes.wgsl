// Which values are positive after noise, 16 to a whole number as in sign_codes.wgsl:  x + sigma share norm z > 0,
//   share norm the root of the mean square of all x, z standard normal.
//   z comes from Philox with key (seed) and counter (index of the vec4 in x, stream, draw, purpose); padding is never positive.
//   task row: x, norm, hyper, table of normals, y, count N*W4, vec4s per image, words per image in vec4 (W4), channels, stream, share
//   hyper: (-), (-, -, sigma, -), (seed low, seed high, draw, -) as words
//   grid: ceil(N*W4 / LANES), folded; z = task
#import task
#import Row
#import philox
#import normal
#import pack
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> norms: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> hyper: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> normals: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> ys: array<vec4<f32>>;

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
    let size = bitcast<f32>(hyper[row.hyper + 1u].z) * (row.share * norms[row.norm].x);
    let seed = hyper[row.hyper + 2u];
    let blocks = (row.channels + 3u) / 4u;
    let image = i / row.words * row.vec4s;
    let first = i % row.words * 16u;
    var codes = vec4<u32>(0u);
    for (var word = 0u; word < 4u; word++) {
        var code = 0u;
        for (var q = 0u; q < 4u; q++) {
            let at = first + word * 4u + q;
            if at < row.vec4s {
                let v = philox(vec4<u32>(image + at, row.stream, seed.z, ${PURPOSE}u), seed.xy);
                let z = normal_of_each(row.table, v);
                let x = fma(z, vec4<f32>(size), xs[row.x + image + at]);
                let channel = vec4<u32>(at % blocks * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                code |= packed((x > vec4<f32>(0.0)) & (channel < vec4<u32>(row.channels))) << (4u * q);
            }
        }
        codes[word] = code;
    }
    ys[row.y + i] = vec4<f32>(codes);
}
