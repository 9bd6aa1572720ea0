// Dot product of two maps per image and channel:  y[n,c] = sum over h, w of a[n,h,w,c] b[n,h,w,c].
//   task row: (a, b, y, N*C4), (H*W, C4, -, -)
//   grid: ceil(N*C4 / LANES), folded; z = task
// Short groups are summed apart, so that rounding grows with the number of groups and not of positions.
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> others: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> ys: array<vec4<f32>>;

const GROUP: u32 = 32u;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 2u];
    let sizes = rows[group_id.z * 2u + 1u];
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= head.w {
        return;
    }
    let first = i / sizes.y * sizes.x * sizes.y + i % sizes.y;
    var total = vec4<f32>(0.0);
    for (var start = 0u; start < sizes.x; start += GROUP) {
        var sum = vec4<f32>(0.0);
        for (var at = start; at < min(start + GROUP, sizes.x); at++) {
            let place = first + at * sizes.y;
            sum = fma(xs[head.x + place], others[head.y + place], sum);
        }
        total += sum;
    }
    ys[head.z + i] = total;
}
