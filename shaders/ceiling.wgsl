// What the adapter can do at best: independent chains of multiply-adds (FMA), a copy, or nothing at all (EMPTY): what a dispatch
// costs by itself, over a slab that it may write, or only read (READ).
//   FMA:   16 accumulators of 4 lanes, ROUNDS times a = a / 2 + 1: ROUNDS * 16 * 8 operations per invocation
//   COPY:  y[i] = x[i], UNROLL values of 16 bytes per invocation, LANES apart
//   task row: x, y, count in vec4
//   grid: ceil(count / LANES / UNROLL), folded; z = task
#import task
#import Row
#if READ
@group(0) @binding(1) var<storage, read> xs: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
#end
#if !EMPTY
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;
#end

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
#if EMPTY
    // Never, but no compiler knows.
    if task_row(group_id).x == NONE {
#if READ
        _ = xs[lane];
#else
        xs[lane] = vec4<f32>(0.0);
#end
    }
#else
    let row = task_row(group_id);
#if COPY
    let first = linear_group(group_id, grid) * ${LANES * UNROLL}u + lane;
#for u in 0..UNROLL
    if first + ${u * LANES}u < row.count {
        ys[row.y + first + ${u * LANES}u] = xs[row.x + first + ${u * LANES}u];
    }
#end
#else
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= row.count {
        return;
    }
    let x = xs[row.x + i];
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
    ys[row.y + i] = a0;
#end
#end
}
