// A step of an attack in the L-infinity ball; P keeps to the ball and to the range of pixels.
//   PGD (Madry et al. 2018, section 2.1):  adv = P(adv + step sign(g))
//   APGD (Croce and Hein 2020, eqs. 1 and 2):  z = P(v + scale step sign(h)),  adv = P(v + a (z - v) + (1 - a)(v - v_before)),
//     where v, h are this point and its gradient, or the best ones so far if the judge sent the image back to them
//   sign(0) = 0. Settings, state and control as in attack_start and attack_judge.
//   memory: best point, its gradient, point before, each `count` long
//   task row: x, adv, g, settings, state, memory (APGD's, else NONE), count in vec4, vec4 per image, C4, channels
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> advs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grads: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> settings: array<vec4<f32>>;
#if APGD
@group(0) @binding(5) var<storage, read_write> states: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> memory: array<vec4<f32>>;
#end

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= row.count {
        return;
    }
    let c4 = row.c4;
    let block = i % c4;
    let x = xs[row.x + i];
    let eps = settings[row.settings + block];
    let step = settings[row.settings + c4 + block];
    let low = max(x - eps, settings[row.settings + 2u * c4 + block]);
    let high = min(x + eps, settings[row.settings + 3u * c4 + block]);
    let here = advs[row.adv + i];
    let g = grads[row.g + i];
#if APGD
    let control = settings[row.settings + 5u * c4];
    let state = states[row.state + i / row.per_image * 2u + 1u];
    let flags = u32(state.w);
    let better = (flags & 1u) != 0u;
    let back = (flags & 2u) != 0u;
    let best = select(memory[row.memory + i], here, better);
    let best_g = select(memory[row.memory + row.count + i], g, better);
    let v = select(here, best, back);
    let h = select(g, best_g, back);
    let before = select(memory[row.memory + 2u * row.count + i], v, control.z != 0.0);
    let z = clamp(fma(state.x * step, sign(h), v), low, high);
    let next = clamp(v + control.x * (z - v) + (1.0 - control.x) * (v - before), low, high);
    memory[row.memory + i] = best;
    memory[row.memory + row.count + i] = best_g;
    memory[row.memory + 2u * row.count + i] = v;
#else
    let next = clamp(fma(step, sign(g), here), low, high);
#end
    let real = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(row.channels);
    advs[row.adv + i] = select(x, next, real);
}
