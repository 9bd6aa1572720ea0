// Softmax cross-entropy with label smoothing a, its gradient, and whether the top class is right; one lane per image.
//   loss = lse(z) - (1 - a) z[label] - a mean(z);   dz = (softmax(z) - target) / N,  target = (1 - a) [label] + a / C
//   An image whose label is no class fills up a batch: it has no loss, no hit and no gradient.
//   With a teacher's logits u the target is softmax(u), and what the label says counts for the hit alone.
//   z are the logits times a scale, if there is one: only gaps to the largest are scaled, so a scale may be beyond f32's range.
//   task row: logits, labels, loss, dlogits or NONE, scale or NONE, teacher or NONE, images, classes, a
//   grid: ceil(N / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> losses: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> grads: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> scales: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> teachers: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = task_row(group_id);
    let image = linear_group(group_id, grid) * ${LANES}u + lane;
    if image >= row.images {
        return;
    }
    let classes = row.classes;
    let stride = (classes + 3u) / 4u;
    let z_at = row.logits + image * stride;
    let label = u32(labels[row.labels + image].x);
    var scale = 1.0;
    if row.scale != NONE {
        scale = scales[row.scale].x;
    }
    var top = logits[z_at].x;
    var top_class = 0u;
    var sum = 0.0;
    var own = 0.0;
    for (var c = 0u; c < classes; c++) {
        let z = logits[z_at + c / 4u][c % 4u];
        if z > top {
            top = z;
            top_class = c;
        }
        sum += z;
        own = select(own, z, c == label);
    }
    var normaliser = 0.0;
    for (var c = 0u; c < classes; c++) {
        normaliser += exp(scale * (logits[z_at + c / 4u][c % 4u] - top));
    }
    let smoothing = row.smoothing;
    let mean_gap = sum / f32(classes) - top;
    // How far the classes that it should be lie below the top one.
    var gap = (1.0 - smoothing) * (own - top) + smoothing * mean_gap;
    var taught_top = 0.0;
    var taught_sum = 1.0;
    let u_at = row.teacher + image * stride;
    if row.teacher != NONE {
        taught_top = teachers[u_at].x;
        for (var c = 1u; c < classes; c++) {
            taught_top = max(taught_top, teachers[u_at + c / 4u][c % 4u]);
        }
        taught_sum = 0.0;
        gap = 0.0;
        for (var c = 0u; c < classes; c++) {
            let e = exp(teachers[u_at + c / 4u][c % 4u] - taught_top);
            taught_sum += e;
            gap = fma(e, logits[z_at + c / 4u][c % 4u] - top, gap);
        }
        gap /= taught_sum;
    }
    let loss = log(normaliser) - scale * gap;
    let counts = label < classes;
    // Among scores that are no numbers no class is the top one. Their bits say so; comparisons need not.
    let number = (bitcast<u32>(loss) & 0x7fffffffu) <= 0x7f800000u;
    let hit = select(0.0, 1.0, top_class == label && number);
    losses[row.loss + image] = select(vec4<f32>(0.0), vec4<f32>(loss, hit, 0.0, 0.0), counts);
    if row.dlogits == NONE {
        return;
    }
    for (var block = 0u; block < stride; block++) {
        let z = logits[z_at + block];
        let c = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        var aim = select(vec4<f32>(0.0), vec4<f32>(1.0 - smoothing), c == vec4<u32>(label)) + smoothing / f32(classes);
        if row.teacher != NONE {
            aim = exp(teachers[u_at + block] - taught_top) / taught_sum;
        }
        let grad = (exp(scale * (z - top)) / normaliser - aim) / f32(row.images);
        grads[row.dlogits + image * stride + block] = select(vec4<f32>(0.0), grad, (c < vec4<u32>(classes)) & vec4<bool>(counts));
    }
}
