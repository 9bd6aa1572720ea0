// What the adapter can do at best: independent chains of multiply-adds (FMA), or a copy.
//   FMA:  16 accumulators of 4 lanes, ROUNDS times a = a / 2 + 1: ROUNDS * 16 * 8 operations per invocation
//   COPY: y[i] = x[i]
//   task row: (x, y, count in vec4, -)
//   grid: ceil(count / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
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
#if COPY
    ys[head.y + i] = xs[head.x + i];
#else
    let x = xs[head.x + i];
#for a in 0..16
    var a${a} = x + ${a}.0;
#end
    for (var round = 0; round < ${ROUNDS}; round++) {
#for a in 0..16
        a${a} = fma(a${a}, vec4<f32>(0.5), vec4<f32>(1.0));
#end
    }
#for a in 1..16
    a0 += a${a};
#end
    ys[head.y + i] = a0;
#end
}
