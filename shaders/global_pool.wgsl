// Global average pooling:  y[n,c] = mean over h, w of x[n,h,w,c].
//   ROWS lanes share the positions of an output, each loads UNROLL at once, and they are summed in a tree; neighbouring lanes
//   have neighbouring outputs.
//   task row: x, y, count N*C4, positions H*W, C4
//   grid: ceil(N*C4 * ROWS / LANES), folded; z = task
#import task
#import Row
#if ROWS > 1
#import fold
#end
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

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
    let first = row.x + own / row.c4 * row.positions * row.c4 + own % row.c4;
    var sum = vec4<f32>(0.0);
    for (var at = share; at < row.positions; at += ${ROWS * UNROLL}u) {
#for j in 0..UNROLL
        let x${j} = xs[first + min(at + ${j * ROWS}u, row.positions - 1u) * row.c4];
#end
        sum += x0;
#for j in 1..UNROLL
        sum += select(vec4<f32>(0.0), x${j}, at + ${j * ROWS}u < row.positions);
#end
    }
#if ROWS > 1
    lane_sums[lane] = sum;
    fold(lane, outputs, share, ${ROWS}u, false);
    sum = lane_sums[lane - share * outputs];
#end
    if share == 0u && i < row.count {
        ys[row.y + i] = sum / f32(row.positions);
    }
}
