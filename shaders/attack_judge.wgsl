// What an attack has reached, image by image: worst loss, and whether the network was right at every point so far.
//   APGD (Croce and Hein 2020, section 3) also counts rises of the loss since the last check, and at a check halves the
//   step and goes back to the best point if at most three quarters of the steps rose, or if neither the step nor the best
//   loss has changed since the check before.
//   state: (worst loss, right so far, loss before, rises), (scale of the step, reduced, worst loss at the check, flags)
//   flags: 1 this point is the best so far, 2 go back to the best
//   control: (a, steps since the last check or 0, first, -), one vec4 after the settings' words
//   task row: loss, state, settings, images, C4
//   grid: ceil(N / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> losses: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> states: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> settings: array<vec4<f32>>;

// Whether a value is a number; its bits say so, comparisons need not.
fn number(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) <= 0x7f800000u;
}

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let image = linear_group(group_id, grid) * ${LANES}u + lane;
    if image >= row.images {
        return;
    }
    let control = settings[row.settings + 5u * row.c4];
    let first = control.z != 0.0;
    let seen = losses[row.loss + image];
    let at = row.state + image * 2u;
    var reach = states[at];
    var step = states[at + 1u];
    let better = first || seen.x > reach.x;
    let rises = reach.w + select(0.0, 1.0, !first && seen.x > reach.z);
    // A loss that is no number is the worst of all, and stays.
    let worst = select(select(reach.x, seen.x, better || !number(seen.x)), reach.x, !number(reach.x));
    step.z = select(step.z, worst, first);
    let check = control.y > 0.0;
    let back = check && (rises <= 0.75 * control.y || (step.y == 0.0 && step.z >= worst));
    states[at] = vec4<f32>(worst, min(reach.y, seen.y), seen.x, select(rises, 0.0, check));
    states[at + 1u] = vec4<f32>(
        select(step.x, 0.5 * step.x, back),
        select(step.y, select(0.0, 1.0, back), check),
        select(step.z, worst, check),
        select(0.0, 1.0, better) + select(0.0, 2.0, back));
}
