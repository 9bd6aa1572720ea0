// Sums over the rows of a workgroup whose lanes are rows of columns, lane = row * columns + column: what lane_sums holds of a
// column is added up in its row 0, in a tree whose shape depends on the number of rows alone. With `pairs`, so are the second
// sums, which lie LANES behind the first ones. All lanes call it once they have written theirs, then row 0 may be read.
var<workgroup> lane_sums: array<vec4<f32>, ${2 * LANES}>;

fn fold(lane: u32, columns: u32, row: u32, rows: u32, pairs: bool) {
    workgroupBarrier();
#for level in 1..9
#if LANES >> level
    if row < ${LANES >> level}u && row + ${LANES >> level}u < rows {
        let other = lane + ${LANES >> level}u * columns;
        lane_sums[lane] += lane_sums[other];
        if pairs {
            lane_sums[${LANES}u + lane] += lane_sums[${LANES}u + other];
        }
    }
    workgroupBarrier();
#end
#end
}
