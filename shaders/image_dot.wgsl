// Dot product of two maps per image and channel:  y[n,c] = sum over h, w of a[n,h,w,c] b[n,h,w,c].
//   ROWS lanes share the positions of an output, each loads UNROLL at once, and they are summed in a tree; neighbouring lanes
//   have neighbouring outputs.
//   task row: a, b, y, count N*C4, positions H*W, C4
//   grid: ceil(N*C4 * ROWS / LANES), folded; z = task
// Short groups of a lane are summed apart, so that rounding grows with the number of groups and not of positions.
#import task
#import Row
#if ROWS > 1
#import fold
#end
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
    let row = task_row(group_id);
    let outputs = ${LANES / ROWS}u;
    let item = linear_group(group_id, grid);
    if item * outputs >= row.count {
        return;
    }
    let share = lane / outputs;
    let i = item * outputs + lane - share * outputs;
    // Lanes beyond the last output do as the one before, and write nothing.
    let own = min(i, row.count - 1u);
    let first = own / row.c4 * row.positions * row.c4 + own % row.c4;
    var total = vec4<f32>(0.0);
    for (var start = share; start < row.positions; start += GROUP * ${ROWS}u) {
        var sum = vec4<f32>(0.0);
        for (var at = start; at < min(start + GROUP * ${ROWS}u, row.positions); at += ${ROWS * UNROLL}u) {
#for j in 0..UNROLL
            let place${j} = first + min(at + ${j * ROWS}u, row.positions - 1u) * row.c4;
            let x${j} = xs[row.a + place${j}];
            let other${j} = others[row.b + place${j}];
#end
            sum = fma(x0, other0, sum);
#for j in 1..UNROLL
            sum = fma(select(vec4<f32>(0.0), x${j}, at + ${j * ROWS}u < row.positions), other${j}, sum);
#end
        }
        total += sum;
    }
#if ROWS > 1
    lane_sums[lane] = total;
    fold(lane, outputs, share, ${ROWS}u, false);
    total = lane_sums[lane - share * outputs];
#end
    if share == 0u && i < row.count {
        ys[row.y + i] = total;
    }
}
