// Weight noise:  y = w + sigma z, or MULTIPLY y = w + sigma w z, z standard normal.
//   z comes from Philox with key (seed) and counter (index of the vec4, stream, draw, purpose); padding stays zero.
//   task row: w, y, hyper, table of normals, count in vec4, stream, outputs, inputs, stored inputs: the last axis, the one before it, and how
//             many channels that is stored with
//   hyper: (-), (-, -, sigma, -), (seed low, seed high, draw, -) as words
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
#import philox
#import normal
@group(0) @binding(1) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> hyper: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> normals: array<vec2<u32>>;

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
    let sigma = bitcast<f32>(hyper[row.hyper + 1u].z);
    let seed = hyper[row.hyper + 2u];
    let x = philox(vec4<u32>(i, row.stream, seed.z, ${PURPOSE}u), seed.xy);
    var z = normal_of_each(row.table, x);
    let w = ws[row.w + i];
#if MULTIPLY
    z *= w;
#end
    let blocks = (row.outputs + 3u) / 4u;
    let k = vec4<u32>(i % blocks * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let real = (k < vec4<u32>(row.outputs)) & vec4<bool>(i / blocks % row.stored < row.inputs);
    ys[row.y + i] = select(w, fma(z, vec4<f32>(sigma), w), real);
}
