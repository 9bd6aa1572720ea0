// Where an attack starts: at the image, or at a random point of the ball around it; and a clean record for each image.
//   adv = clamp(x + eps u, max(x - eps, low), min(x + eps, high)),  u uniform in -1..1, or 0
//   u comes from Philox with key (seed) and counter (index of the vec4, C, draw, purpose).
//   settings: C4 blocks each of eps, step, low, high; then (seed low, seed high, draw, random) as words, C4 blocks apart
//   task row: x, adv, settings, state, count in vec4, C4, channels, images
//   grid: ceil(count / LANES), folded; z = task
#import task
#import Row
#import philox
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> advs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> settings: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> states: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i < row.images {
        // Worst loss, whether right so far, loss before, rises; scale of the step, reduced, worst loss at the check, flags.
        states[row.state + i * 2u] = vec4<f32>(-1.0, 1.0, 0.0, 0.0);
        states[row.state + i * 2u + 1u] = vec4<f32>(1.0, 1.0, 0.0, 0.0);
    }
    if i >= row.count {
        return;
    }
    let c4 = row.c4;
    let block = i % c4;
    let words = bitcast<vec4<u32>>(settings[row.settings + 4u * c4]);
    let random = vec4<f32>(philox(vec4<u32>(i, row.channels, words.z, ${PURPOSE}u), words.xy) >> vec4<u32>(8u)) / 16777216.0;
    let u = select(vec4<f32>(0.0), 2.0 * random - 1.0, words.w == 1u);
    let eps = settings[row.settings + block];
    let x = xs[row.x + i];
    let low = max(x - eps, settings[row.settings + 2u * c4 + block]);
    let high = min(x + eps, settings[row.settings + 3u * c4 + block]);
    let real = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(row.channels);
    advs[row.adv + i] = select(x, clamp(fma(eps, u, x), low, high), real);
}
