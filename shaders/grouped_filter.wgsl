// Gradient of a grouped convolution with respect to its weights.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, g(k)*CG + c]) * dy[n,p,q,k]
//   one workgroup per tap (r,s), c and block of four k; its lanes take image rows in turn and are summed in lane order.
//   task row: (x, dy, dw, N*P)
//   grid: R*S*CG*K4, folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dws: array<vec4<f32>>;

var<workgroup> lane_sums: array<vec4<f32>, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z];
    let item = linear_group(group_id, grid);
    if item >= ${R * S * CG * K4}u {
        return;
    }
    let block = item % ${K4}u;
    let c = (item / ${K4}u) % ${CG}u;
    let tap = item / ${K4 * CG}u;
    let r = i32(tap / ${S}u);
    let s = i32(tap % ${S}u);
    var total = vec4<f32>(0.0);
    for (var line = lane; line < head.w; line += ${LANES}u) {
        let image = line / ${P}u;
        let y = i32(line % ${P}u) * ${STRIDE} - ${PAD} + r * ${DIL};
        if y < 0 || y >= ${H} {
            continue;
        }
        for (var q = 0; q < ${Q}; q++) {
            let x = q * ${STRIDE} - ${PAD} + s * ${DIL};
            if x < 0 || x >= ${W} {
                continue;
            }
            let from_at = head.x + ((image * ${H}u + u32(y)) * ${W}u + u32(x)) * ${C4}u;
#if CG == 1 && KG == 1
            var value = xs[from_at + block];
#else
            var value = vec4<f32>(0.0);
            for (var j = 0u; j < 4u; j++) {
                let k = block * 4u + j;
                if k < ${GROUPS * KG}u {
                    let channel = (k / ${KG}u) * ${CG}u + c;
                    value[j] = xs[from_at + channel / 4u][channel % 4u];
                }
            }
#end
#if RELU
            value = max(value, vec4<f32>(0.0));
#end
            total = fma(value, dys[head.y + (line * ${Q}u + u32(q)) * ${K4}u + block], total);
        }
    }
    lane_sums[lane] = total;
    workgroupBarrier();
    if lane == 0u {
        for (var l = 1u; l < ${LANES}u; l++) {
            total += lane_sums[l];
        }
        dws[head.z + item] = total;
    }
}
