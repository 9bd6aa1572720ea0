// Norm over several tensors from sums of squares of chunks:  norm = sqrt(sum).
//   Lanes take listed terms, a few chunks each, in turn, and are summed as a tree: in an order that lengths alone decide.
//   task row: norm, first term, terms
//   term: parts, first chunk, end, slab
//   grid: 1; z = task
#import task
#import Row
#import Term
#import over_lanes
@group(0) @binding(1) var<storage, read_write> norms: array<vec4<f32>>;
#import terms

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    var sum = 0.0;
    for (var t = lane; t < row.terms; t += ${LANES}u) {
        let term = term_at(row.first_term + t * TERM_VEC4S);
        var run = 0.0;
        for (var i = term.first; i < term.end; i++) {
            run += load(term.slab, term.parts + i).x;
        }
        sum += run;
    }
    let total = over_lanes(lane, sum);
    if lane == 0u {
        norms[row.norm] = vec4<f32>(sqrt(total), 0.0, 0.0, 0.0);
    }
}
