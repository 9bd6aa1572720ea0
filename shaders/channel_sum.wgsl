// Sum over all positions of a map:  y[c] = sum_{n,h,w} x[n,h,w,c].
//   TREE: sums over chunks of positions, each a row of y; a second call sums those. Lanes are rows of `columns` neighbouring
//         blocks, so that neighbours load from neighbouring places, RUN at once. Rows are summed in a tree.
//         one workgroup per `columns` blocks of four channels and chunk.
//   else: one workgroup per block of four channels; lanes take positions in turn and are summed in lane order.
//   task row: x, y, positions, C4, positions per chunk, chunks, columns
//   grid: ceil(C4 / columns) * chunks, folded; z = task
#import task
#import Row
#if TREE
#import fold
#else
var<workgroup> lane_sums: array<vec4<f32>, ${LANES}>;
#end
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let item = linear_group(group_id, grid);
    var sum = vec4<f32>(0.0);
#if TREE
    let columns = row.columns;
    let strips = (c4 + columns - 1u) / columns;
    let chunk = item / strips;
    if chunk >= row.chunks {
        return;
    }
    let rank = lane / columns;
    let own = (item - chunk * strips) * columns + lane - rank * columns;
    let height = ${LANES}u / columns;
    let last = min((chunk + 1u) * row.chunk, row.positions);
    // Lanes beyond the last block, behind the last position, or that make no whole row load what others do.
    let block = row.x + min(own, c4 - 1u);
    for (var i = select(last, chunk * row.chunk + rank, rank < height); i < last; i += ${RUN}u * height) {
#for j in 0..RUN
        let at${j} = i + ${j}u * height;
        let x${j} = xs[block + min(at${j}, last - 1u) * c4];
#end
        var run = x0;
#for j in 1..RUN
        run += select(vec4<f32>(0.0), x${j}, at${j} < last);
#end
        sum += run;
    }
    lane_sums[lane] = sum;
    fold(lane, columns, rank, height, false);
    if rank == 0u && own < c4 {
        ys[row.y + chunk * c4 + own] = lane_sums[lane];
    }
#else
    let block = item;
    if block >= c4 {
        return;
    }
    for (var i = lane; i < row.positions; i += ${LANES}u) {
        sum += xs[row.x + i * c4 + block];
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            sum += lane_sums[l];
        }
        ys[row.y + block] = sum;
    }
#end
}
