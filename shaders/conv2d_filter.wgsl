// Gradient of a convolution with respect to its weights.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c]) * dy[n,p,q,k]
//   matrix view: rows R*S*C taps, columns K channels, reduction N*P*Q positions
//   tile: a workgroup computes all taps s of one r, 4 input channels and KB blocks of 4 output channels over ROWS image
//   rows; its lanes take rows in turn, slide over them QX positions at a time, and are summed in lane order at the end.
//   The reduction is cut into splits that depend on the shape alone; sum_parts adds them in order.
//   task row: (x, dy, parts, N*P), (rows per split, splits, -, -)
//   grid: R * C4 * ceil(OUT4/KB) * splits, folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

const COLUMN_GROUPS: u32 = ${(OUT4 + KB - 1) / KB}u;
const SUMS: u32 = ${S * 4 * KB}u;

var<workgroup> lane_sums: array<vec4<f32>, ${S * 4 * KB * LANES}>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 2u];
    let cut = rows[group_id.z * 2u + 1u];
    let group = linear_group(group_id, grid);
    let column = (group % COLUMN_GROUPS) * ${KB}u;
    let c = (group / COLUMN_GROUPS) % ${C4}u;
    let r = (group / (COLUMN_GROUPS * ${C4}u)) % ${R}u;
    let split = group / (COLUMN_GROUPS * ${C4 * R}u);
    if split >= cut.y {
        return;
    }
#for s in 0..S
#for i in 0..4
#for k in 0..KB
    var a${s}_${i}_${k} = vec4<f32>(0.0);
#end
#end
#end
#for k in 0..KB
    let c${k} = min(column + ${k}u, ${OUT4 - 1}u);
#end
    let last = min((split + 1u) * cut.x, head.w);
    for (var line = split * cut.x + lane; line < last; line += ${LANES}u) {
        let image = line / ${P}u;
        let y = i32(line % ${P}u) * ${STRIDE} - ${PAD} + i32(r) * ${DIL};
        if y < 0 || y >= ${H} {
            continue;
        }
        let x_row = head.x + (image * ${H}u + u32(y)) * ${W * C4}u + c;
        let dy_row = head.y + line * ${Q * OUT4}u;
        for (var q = 0; q < ${Q}; q += ${QX}) {
            let left = q * ${STRIDE} - ${PAD};
#for j in 0..(QX - 1) * STRIDE + (S - 1) * DIL + 1
#if NEED >> j & 1
            let in${j} = left + ${j} >= 0 && left + ${j} < ${W};
#if RELU
            let x${j} = select(vec4<f32>(0.0), max(xs[x_row + u32(select(0, left + ${j}, in${j})) * ${C4}u], vec4<f32>(0.0)), in${j});
#else
            let x${j} = select(vec4<f32>(0.0), xs[x_row + u32(select(0, left + ${j}, in${j})) * ${C4}u], in${j});
#end
#end
#end
#for p in 0..QX
#for k in 0..KB
#if Q % QX == 0
            let d${p}_${k} = dys[dy_row + u32(q + ${p}) * ${OUT4}u + c${k}];
#else
            let d${p}_${k} = select(vec4<f32>(0.0), dys[dy_row + u32(min(q + ${p}, ${Q - 1})) * ${OUT4}u + c${k}], q + ${p} < ${Q});
#end
#end
#end
#for p in 0..QX
#for s in 0..S
#for i in 0..4
#for k in 0..KB
            a${s}_${i}_${k} = fma(vec4<f32>(x${p * STRIDE + s * DIL}[${i}]), d${p}_${k}, a${s}_${i}_${k});
#end
#end
#end
#end
        }
    }
#for s in 0..S
#for i in 0..4
#for k in 0..KB
    lane_sums[lane * SUMS + ${(s * 4 + i) * KB + k}u] = a${s}_${i}_${k};
#end
#end
#end
    workgroupBarrier();
    for (var t = lane; t < SUMS; t += ${LANES}u) {
        let k = column + t % ${KB}u;
        if k < ${OUT4}u {
            var total = lane_sums[t];
            for (var l = 1u; l < ${LANES}u; l++) {
                total += lane_sums[l * SUMS + t];
            }
            let tap = r * ${S}u + t / ${4 * KB}u;
            let row = tap * ${C4 * 4}u + c * 4u + (t / ${KB}u) % 4u;
            parts[head.z + (split * ${R * S * C4 * 4}u + row) * ${OUT4}u + k] = total;
        }
    }
}
