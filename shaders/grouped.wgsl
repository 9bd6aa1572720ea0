// Grouped convolution (depthwise included) and its gradient with respect to the input, one output block per lane.
//   y[n,p,q,k] = sum_{r,s,c} w[r,s,c,k] * act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, g(k)*CG + c])
//   INPUT:  dx[n,h,w,g*CG + c] = sum_{r,s,k in g} w[r,s,c,k] * dy[n, (h + PAD - r*DIL)/STRIDE, (w + PAD - s*DIL)/STRIDE, k]
//   CG and KG are input and output channels per group; with one each, a block of four is one vector product.
//   task row: x, w, bias or NONE, y, images, blocks of an input channel's weights
//   grid: ceil(N*OH*OW*OUT4 / LANES), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> ys: array<vec4<f32>>;

fn activate(x: vec4<f32>) -> vec4<f32> {
#if RELU
    return rectify(x, NEGATIVE);
#else
    return x;
#end
}

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let item = linear_group(group_id, grid) * ${LANES}u + lane;
    if item >= row.images * ${OH * OW * OUT4}u {
        return;
    }
    let block = item % ${OUT4}u;
    let ox = i32((item / ${OUT4}u) % ${OW}u);
    let oy = i32((item / ${OUT4 * OW}u) % ${OH}u);
    let image = item / ${OUT4 * OW * OH}u;
    var total = vec4<f32>(0.0);
    for (var r = 0; r < ${R}; r++) {
#if INPUT
        let down = oy + ${PAD} - r * ${DIL};
        let y = down / ${STRIDE};
        if down < 0 || down % ${STRIDE} != 0 || y >= ${IH} {
            continue;
        }
#else
        let y = oy * ${STRIDE} - ${PAD} + r * ${DIL};
        if y < 0 || y >= ${IH} {
            continue;
        }
#end
        for (var s = 0; s < ${S}; s++) {
#if INPUT
            let right = ox + ${PAD} - s * ${DIL};
            let x = right / ${STRIDE};
            if right < 0 || right % ${STRIDE} != 0 || x >= ${IW} {
                continue;
            }
#else
            let x = ox * ${STRIDE} - ${PAD} + s * ${DIL};
            if x < 0 || x >= ${IW} {
                continue;
            }
#end
            let from_at = row.x + ((image * ${IH}u + u32(y)) * ${IW}u + u32(x)) * ${IN4}u;
            let tap = row.w + u32(r * ${S} + s) * ${CG}u * row.k4;
#if CG == 1 && KG == 1
            total = fma(activate(xs[from_at + block]), ws[tap + block], total);
#else
            for (var j = 0u; j < 4u; j++) {
                let channel = block * 4u + j;
#if INPUT
                if channel >= ${GROUPS * CG}u {
                    break;
                }
                let g = channel / ${CG}u;
                for (var i = 0u; i < ${KG}u; i++) {
                    let k = g * ${KG}u + i;
                    let weight = ws[tap + (channel % ${CG}u) * row.k4 + k / 4u][k % 4u];
                    total[j] = fma(xs[from_at + k / 4u][k % 4u], weight, total[j]);
                }
#else
                if channel >= ${GROUPS * KG}u {
                    break;
                }
                let g = channel / ${KG}u;
                for (var i = 0u; i < ${CG}u; i++) {
                    let c = g * ${CG}u + i;
                    let weight = ws[tap + i * row.k4 + block][j];
                    total[j] = fma(activate(xs[from_at + c / 4u])[c % 4u], weight, total[j]);
                }
#end
            }
#end
        }
    }
    if row.bias != NONE {
        total += bs[row.bias + block];
    }
    ys[row.y + item] = total;
}
