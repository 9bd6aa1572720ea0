// 2-D convolution as a direct product, channel-last, and its gradient with respect to the input.
//   y[n,p,q,k] = bias[k] + sum_{r,s,c} w[r,s,c,k] * act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c])
//   INPUT:  dx[n,h,w,c] = sum_{r,s,k} w[r,s,c,k] * dy[n, (h + PAD - r*DIL)/STRIDE, (w + PAD - s*DIL)/STRIDE, k]
//   matrix view: rows N*OH*OW positions, columns OUT4 blocks of 4 channels, reduction R*S*IN4*4
//   tile: one lane computes PX neighbouring positions of a row and KB blocks; it slides over the row, so that a loaded
//   position serves every tap that touches it. BROADCAST: the lanes of a subgroup load the taps' weights together.
//   task row: (x, w, bias or NONE, y), (N, -, -, -)
//   grid: ceil(N*OH*ceil(OW/PX) / LANES) * ceil(OUT4/KB), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> ys: array<vec4<f32>>;

const SEGMENTS: u32 = ${(OW + PX - 1) / PX}u;
const COLUMN_GROUPS: u32 = ${(OUT4 + KB - 1) / KB}u;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
#if BROADCAST
    @builtin(subgroup_invocation_id) lane: u32,
#else
    @builtin(local_invocation_index) lane: u32,
#end
) {
    let head = rows[group_id.z * 2u];
    let images = rows[group_id.z * 2u + 1u].x;
    let group = linear_group(group_id, grid);
    let column = (group % COLUMN_GROUPS) * ${KB}u;
    let segment = (group / COLUMN_GROUPS) * ${LANES}u + lane;
    let inside = segment < images * ${OH}u * SEGMENTS;
    let line = select(0u, segment / SEGMENTS, inside);
    let image = line / ${OH}u;
    let oy = i32(line % ${OH}u);
    let ox = i32(select(0u, segment % SEGMENTS, inside) * ${PX}u);
    let x_image = head.x + image * ${IH * IW * IN4}u;
#for p in 0..PX
#for k in 0..KB
    var a${p}_${k} = vec4<f32>(0.0);
#end
#end
    // Leftmost input position of the window, and the first row of the window.
#if INPUT
    let left = ox / ${STRIDE} + (${(PAD - (S - 1) * DIL) / STRIDE});
#else
    let left = ox * ${STRIDE} - ${PAD};
#end
#if BROADCAST
    // Vectors of weights that this lane loads for all: tap s, row i of its 4x4 block, column block k.
#for t in 0..(S * 4 * KB + LANES - 1) / LANES
    let t${t} = min(lane + ${t * LANES}u, ${S * 4 * KB - 1}u);
    let k${t} = min(column + t${t} % ${KB}u, ${OUT4 - 1}u);
    let i${t} = (t${t} / ${KB}u) % 4u;
#if INPUT
    let o${t} = head.y + ((t${t} / ${4 * KB}u) * ${OUT4 * 4}u + k${t} * 4u + i${t}) * ${IN4}u;
#else
    let o${t} = head.y + ((t${t} / ${4 * KB}u) * ${IN4 * 4}u + i${t}) * ${OUT4}u + k${t};
#end
#end
#else
#for k in 0..KB
    let c${k} = min(column + ${k}u, ${OUT4 - 1}u);
#end
#end
    for (var r = 0; r < ${R}; r++) {
#if INPUT
        let down = oy + ${PAD} - r * ${DIL};
#if STRIDE > 1
        let y = down / ${STRIDE};
        let row_inside = down >= 0 && down % ${STRIDE} == 0 && y < ${IH};
#else
        let y = down;
        let row_inside = y >= 0 && y < ${IH};
#end
#else
        let y = oy * ${STRIDE} - ${PAD} + r * ${DIL};
        let row_inside = y >= 0 && y < ${IH};
#end
        let x_row = x_image + u32(select(0, y, row_inside)) * ${IW * IN4}u;
#for j in 0..SPAN
#if NEED >> j & 1
        let in${j} = row_inside && left + ${j} >= 0 && left + ${j} < ${IW};
        let at${j} = x_row + u32(select(0, left + ${j}, in${j})) * ${IN4}u;
#end
#end
        for (var c = 0u; c < ${IN4}u; c++) {
#for j in 0..SPAN
#if NEED >> j & 1
#if RELU
            let x${j} = select(vec4<f32>(0.0), max(xs[at${j} + c], vec4<f32>(0.0)), in${j});
#else
            let x${j} = select(vec4<f32>(0.0), xs[at${j} + c], in${j});
#end
#end
#end
#if BROADCAST
#for t in 0..(S * 4 * KB + LANES - 1) / LANES
#if INPUT
            let v${t} = ws[o${t} + u32(r) * ${S * OUT4 * 4 * IN4}u + c];
#else
            let v${t} = ws[o${t} + (u32(r) * ${S * IN4 * 4}u + c * 4u) * ${OUT4}u];
#end
#end
#end
        // Products of one row of taps and one input block are summed apart: rounding then grows with the square root of
        // the number of such groups, not of the whole reduction.
#for p in 0..PX
#for k in 0..KB
            var t${p}_${k} = vec4<f32>(0.0);
#end
#end
#for s in 0..S
#for k in 0..KB
#for i in 0..4
#if BROADCAST
            let m${s}_${k}_${i} = subgroupBroadcast(v${((s * 4 + i) * KB + k) / LANES}, ${((s * 4 + i) * KB + k) % LANES}u);
#else
#if INPUT
            let m${s}_${k}_${i} = ws[head.y + ((u32(r) * ${S}u + ${s}u) * ${OUT4 * 4}u + c${k} * 4u + ${i}u) * ${IN4}u + c];
#else
            let m${s}_${k}_${i} = ws[head.y + ((u32(r) * ${S}u + ${s}u) * ${IN4 * 4}u + c * 4u + ${i}u) * ${OUT4}u + c${k}];
#end
#end
#end
#for i in 0..4
            // Row i of the block as seen from the reduction.
#if INPUT
            let w${s}_${k}_${i} = vec4<f32>(m${s}_${k}_0[${i}], m${s}_${k}_1[${i}], m${s}_${k}_2[${i}], m${s}_${k}_3[${i}]);
#else
            let w${s}_${k}_${i} = m${s}_${k}_${i};
#end
#for p in 0..PX
#if INPUT
#if (p + PAD - s * DIL) % STRIDE == 0
            t${p}_${k} = fma(vec4<f32>(x${(p + PAD - s * DIL) / STRIDE - (PAD - (S - 1) * DIL) / STRIDE}[${i}]), w${s}_${k}_${i}, t${p}_${k});
#end
#else
            t${p}_${k} = fma(vec4<f32>(x${p * STRIDE + s * DIL}[${i}]), w${s}_${k}_${i}, t${p}_${k});
#end
#end
#end
#end
#end
#for p in 0..PX
#for k in 0..KB
            a${p}_${k} += t${p}_${k};
#end
#end
        }
    }
#for k in 0..KB
    if inside && column + ${k}u < ${OUT4}u {
        let y_at = head.w + (line * ${OW}u + u32(ox)) * ${OUT4}u + column + ${k}u;
        var bias = vec4<f32>(0.0);
        if head.z != NONE {
            bias = bs[head.z + column + ${k}u];
        }
#for p in 0..PX
#if OW % PX == 0
        ys[y_at + ${p}u * ${OUT4}u] = a${p}_${k} + bias;
#else
        if ox + ${p} < ${OW} {
            ys[y_at + ${p}u * ${OUT4}u] = a${p}_${k} + bias;
        }
#end
#end
    }
#end
}
