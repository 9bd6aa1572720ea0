// Gradient of a convolution with respect to its weights.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c]) * dy[n,p,q,k]
//   matrix view: rows R*S*C taps, columns K channels, reduction N*P*Q positions
//   tile: a workgroup computes all taps s of one r, 4 input channels and KB blocks of 4 output channels over ROWS image
//   rows; its lanes take rows in turn, slide over them QX positions at a time, and are summed in lane order at the end.
//   The reduction is cut into splits that depend on the shape alone; sum_parts adds them in order.
//   task row: (x, dy, parts, N*P), (H, W, C4, relu), (P, Q, OUT4, lines per split)
//   grid: splits * R * C4 * ceil(OUT4/KB), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

const SUMS: u32 = ${S * 4 * KB}u;

var<workgroup> lane_sums: array<vec4<f32>, ${S * 4 * KB * LANES}>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 3u];
    let input = rows[group_id.z * 3u + 1u];
    let result = rows[group_id.z * 3u + 2u];
    let h = i32(input.x);
    let w = i32(input.y);
    let c4 = input.z;
    let relu = input.w == 1u;
    let outputs = i32(result.y);
    let out4 = result.z;
    let columns = (out4 + ${KB - 1}u) / ${KB}u;
    let group = linear_group(group_id, grid);
    let column = group % columns * ${KB}u;
    let c = group / columns % c4;
    let r = group / (columns * c4) % ${R}u;
    let split = group / (columns * c4 * ${R}u);
    let first = split * result.w;
    // Tasks of one dispatch differ in size.
    if first >= head.w {
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
    let c${k} = min(column + ${k}u, out4 - 1u);
#end
    let last = min(first + result.w, head.w);
    for (var line = first + lane; line < last; line += ${LANES}u) {
        let image = line / result.x;
        let y = i32(line - image * result.x) * ${STRIDE} - ${PAD} + i32(r) * ${DIL};
        if y < 0 || y >= h {
            continue;
        }
        let x_row = head.x + (image * input.x + u32(y)) * input.y * c4 + c;
        let dy_row = head.y + line * result.y * out4;
        for (var q = 0; q < outputs; q += ${QX}) {
            let left = q * ${STRIDE} - ${PAD};
#for j in 0..(QX - 1) * STRIDE + (S - 1) * DIL + 1
#if NEED >> j & 1
            let has${j} = left + ${j} >= 0 && left + ${j} < w;
            let v${j} = select(vec4<f32>(0.0), xs[x_row + u32(select(0, left + ${j}, has${j})) * c4], has${j});
            let x${j} = select(v${j}, max(v${j}, vec4<f32>(0.0)), relu);
#end
#end
#for p in 0..QX
#for k in 0..KB
            let d${p}_${k} = select(vec4<f32>(0.0), dys[dy_row + u32(min(q + ${p}, outputs - 1)) * out4 + c${k}], q + ${p} < outputs);
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
        if k < out4 {
            var total = lane_sums[t];
            for (var l = 1u; l < ${LANES}u; l++) {
                total += lane_sums[l * SUMS + t];
            }
            let tap = r * ${S}u + t / ${4 * KB}u;
            let row = ((split * ${R * S}u + tap) * c4 + c) * 4u + (t / ${KB}u) % 4u;
            parts[head.z + row * out4 + k] = total;
        }
    }
}
