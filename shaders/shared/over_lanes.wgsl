// Sums over the LANES of a workgroup, as a tree: in an order that their number alone decides.
var<workgroup> lane_sums: array<f32, ${LANES}>;

// On lane 0 the sum over all lanes.
fn over_lanes(lane: u32, own: f32) -> f32 {
    lane_sums[lane] = own;
    for (var reach = ${LANES / 2}u; reach > 0u; reach >>= 1u) {
        workgroupBarrier();
        if lane < reach {
            lane_sums[lane] += lane_sums[lane + reach];
        }
    }
    return lane_sums[lane];
}
