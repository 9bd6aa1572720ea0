// Adds a batch's losses and hits to the running sums (sum of losses, hits, images, batches that were not finite).
//   A loss counts as not finite by its exponent bits, which no compiler may reason away.
//   task row: loss, metrics, mean, images
//   grid: 1; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> losses: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> metrics: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> means: array<vec4<f32>>;

var<workgroup> lane_sums: array<vec2<f32>, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    var sum = vec2<f32>(0.0);
    for (var i = lane; i < row.images; i += ${LANES}u) {
        sum += losses[row.loss + i].xy;
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            sum += lane_sums[l];
        }
        let wild = (bitcast<u32>(sum.x) & 0x7f800000u) == 0x7f800000u;
        metrics[row.metrics] += vec4<f32>(sum, f32(row.images), select(0.0, 1.0, wild));
        means[row.mean] = vec4<f32>(sum / f32(row.images), 0.0, 0.0);
    }
}
