// Maximum over windows (GRAD 0); its gradient (1): each window gives to its first maximum in row-major order; and the gradient of
// that (2): of each window what another map has in the maximum's place.
//   y[n,p,q,c] = max_{i,j} x[n, p*STRIDE - PAD + i, q*STRIDE - PAD + j, c]
//   task row: x, y or dx, dy or the other map or NONE, images
//   grid: ceil(N*P*Q*C4 / LANES), GRAD 1 ceil(N*H*W*C4 / LANES), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;
#if GRAD
@group(0) @binding(3) var<storage, read_write> others: array<vec4<f32>>;
#end

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let item = linear_group(group_id, grid) * ${LANES}u + lane;
#if GRAD == 1
    if item >= row.images * ${H * W * C4}u {
        return;
    }
    let block = item % ${C4}u;
    let w = i32(item / ${C4}u % ${W}u);
    let h = i32(item / ${C4 * W}u % ${H}u);
    let image = item / ${C4 * W * H}u;
    let own = h * ${W} + w;
    var total = vec4<f32>(0.0);
    for (var p = max((h + ${PAD} - ${KERNEL} + ${STRIDE}) / ${STRIDE}, 0); p < min((h + ${PAD}) / ${STRIDE} + 1, ${P}); p++) {
        for (var q = max((w + ${PAD} - ${KERNEL} + ${STRIDE}) / ${STRIDE}, 0); q < min((w + ${PAD}) / ${STRIDE} + 1, ${Q}); q++) {
            var best = vec4<i32>(NOTHING);
            var first = vec4<i32>(-1);
            for (var y = max(p * ${STRIDE} - ${PAD}, 0); y < min(p * ${STRIDE} - ${PAD} + ${KERNEL}, ${H}); y++) {
                for (var x = max(q * ${STRIDE} - ${PAD}, 0); x < min(q * ${STRIDE} - ${PAD} + ${KERNEL}, ${W}); x++) {
                    let value = rank(xs[row.x + ((image * ${H}u + u32(y)) * ${W}u + u32(x)) * ${C4}u + block]);
                    let wins = (value > best) | (first < vec4<i32>(0));
                    best = select(best, value, wins);
                    first = select(first, vec4<i32>(y * ${W} + x), wins);
                }
            }
            let dy = others[row.other + ((image * ${P}u + u32(p)) * ${Q}u + u32(q)) * ${C4}u + block];
            total += select(vec4<f32>(0.0), dy, first == vec4<i32>(own));
        }
    }
    ys[row.y + item] = total;
#else
    if item >= row.images * ${P * Q * C4}u {
        return;
    }
    let block = item % ${C4}u;
    let q = i32(item / ${C4}u % ${Q}u);
    let p = i32(item / ${C4 * Q}u % ${P}u);
    let image = item / ${C4 * Q * P}u;
    var best = vec4<f32>(-3.40282346e38);
    var highest = vec4<i32>(NOTHING);
    for (var y = max(p * ${STRIDE} - ${PAD}, 0); y < min(p * ${STRIDE} - ${PAD} + ${KERNEL}, ${H}); y++) {
        for (var x = max(q * ${STRIDE} - ${PAD}, 0); x < min(q * ${STRIDE} - ${PAD} + ${KERNEL}, ${W}); x++) {
            let place = ((image * ${H}u + u32(y)) * ${W}u + u32(x)) * ${C4}u + block;
            let value = xs[row.x + place];
            let wins = rank(value) > highest;
#if GRAD == 2
            best = select(best, others[row.other + place], wins);
#else
            best = select(best, value, wins);
#end
            highest = select(highest, rank(value), wins);
        }
    }
    ys[row.y + item] = best;
#end
}
