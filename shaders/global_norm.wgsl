// Norm over several tensors:  norm = sqrt(sum g^2), or with weights sqrt(sum (|w| g)^2).
//   first pass: one workgroup per chunk of CHUNK vec4 of one tensor; FINAL: the chunks' sums in order.
//   task row: (g, w or NONE, parts, count in vec4);  FINAL (norm, first term, terms, -), term: (parts, chunks, slab, -)
//   grid: ceil(count / CHUNK), folded; FINAL 1; z = task
#import task
#if FINAL
@group(0) @binding(1) var<storage, read_write> norms: array<vec4<f32>>;
#import terms

var<workgroup> lane_sums: array<f32, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = rows[group_id.z];
    var sum = 0.0;
    for (var t = 0u; t < head.z; t++) {
        let term = rows[head.y + t];
        for (var i = lane; i < term.y; i += ${LANES}u) {
            sum += load(term.z, term.x + i).x;
        }
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            sum += lane_sums[l];
        }
        norms[head.x] = vec4<f32>(sqrt(sum), 0.0, 0.0, 0.0);
    }
}
#else
@group(0) @binding(1) var<storage, read_write> gs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

var<workgroup> lane_sums: array<vec4<f32>, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z];
    let first = linear_group(group_id, grid) * ${CHUNK}u;
    if first >= head.w {
        return;
    }
    let last = min(first + ${CHUNK}u, head.w);
    var sum = vec4<f32>(0.0);
    for (var i = first + lane; i < last; i += ${LANES}u) {
        var g = gs[head.x + i];
        if head.y != NONE {
            g *= ws[head.y + i];
        }
        sum = fma(g, g, sum);
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            sum += lane_sums[l];
        }
        parts[head.z + first / ${CHUNK}u] = vec4<f32>(sum.x + sum.y + sum.z + sum.w, 0.0, 0.0, 0.0);
    }
}
#end
