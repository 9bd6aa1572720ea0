// 2-D convolution as a direct product, channel-last, and its gradient with respect to the input.
//   y[n,p,q,k] = bias[k] + sum_{r,s,c} w[r,s,c,k] * act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c])
//   INPUT:  dx[n,h,w,c] = sum_{r,s,k} w[r,s,c,k] * dy[n, (h + PAD - r*DIL)/STRIDE, (w + PAD - s*DIL)/STRIDE, k]
//   matrix view: rows N*OH*OW positions, columns OUT4 blocks of 4 channels, reduction R*S*IN4*4
//   tile: one lane computes PX neighbouring positions of a row and KB blocks; it slides over the row, so that a loaded
//   position serves every tap that touches it. BROADCAST: the lanes of a subgroup load the taps' weights together.
//   Sides and channels are data, the window is constant: layers of any size share a pipeline, and dispatches.
//   task row: x, w, bias or NONE, y, lines N*OH, IH, IW, IN4, OH, OW, OUT4, relu, blocks of an input channel's weights and of a tap's
//   grid: ceil(N*OH*ceil(OW/PX) / LANES) * ceil(OUT4/KB), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ws: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> ys: array<vec4<f32>>;

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
    let row = task_row(group_id);
    let lines = row.lines;
    let ih = i32(row.ih);
    let iw = i32(row.iw);
    let in4 = row.in4;
    let out4 = row.out4;
    let below = select(NOTHING, NEGATIVE, row.relu);
    let columns = (out4 + ${KB - 1}u) / ${KB}u;
    let segments = (row.ow + ${PX - 1}u) / ${PX}u;
    let item = linear_group(group_id, grid);
    let rank = item / columns;
    // Tasks of one dispatch differ in size.
    if rank * ${LANES}u >= lines * segments {
        return;
    }
    let column = (item - rank * columns) * ${KB}u;
    // Lanes beyond the last segment compute it again and store nothing.
    let segment = min(rank * ${LANES}u + lane, lines * segments - 1u);
    let line = segment / segments;
    let image = line / row.oh;
    let oy = i32(line - image * row.oh);
    let ox = i32((segment - line * segments) * ${PX}u);
    let x_image = row.x + image * row.ih * row.iw * in4;
#for k in 0..KB
#for p in 0..PX
    var a${p}_${k} = vec4<f32>(0.0);
#end
#end
    // Leftmost input position of the window.
#if INPUT
    let left = ox / ${STRIDE} + (${(PAD - (S - 1) * DIL) / STRIDE});
#else
    let left = ox * ${STRIDE} - ${PAD};
#end
#if BROADCAST
    // Vectors of weights that this lane loads for all: tap s, row i of its 4x4 block, column block k.
#for t in 0..(S * 4 * KB + LANES - 1) / LANES
    let t${t} = min(lane + ${t * LANES}u, ${S * 4 * KB - 1}u);
    let k${t} = min(column + t${t} % ${KB}u, out4 - 1u);
    let i${t} = (t${t} / ${KB}u) % 4u;
#if INPUT
    let o${t} = row.w + (t${t} / ${4 * KB}u) * row.tap + (k${t} * 4u + i${t}) * row.w4;
#else
    let o${t} = row.w + (t${t} / ${4 * KB}u) * row.tap + i${t} * row.w4 + k${t};
#end
#end
#else
#for k in 0..KB
    let c${k} = min(column + ${k}u, out4 - 1u);
#end
#end
    for (var r = 0; r < ${R}; r++) {
#if INPUT
        let down = oy + ${PAD} - r * ${DIL};
#if STRIDE > 1
        let y = down / ${STRIDE};
        let row_inside = down >= 0 && down % ${STRIDE} == 0 && y < ih;
#else
        let y = down;
        let row_inside = y >= 0 && y < ih;
#end
#else
        let y = oy * ${STRIDE} - ${PAD} + r * ${DIL};
        let row_inside = y >= 0 && y < ih;
#end
        let x_row = x_image + u32(select(0, y * iw, row_inside)) * in4;
#for j in 0..SPAN
#if NEED >> j & 1
        let has${j} = row_inside && left + ${j} >= 0 && left + ${j} < iw;
        let at${j} = x_row + u32(select(0, left + ${j}, has${j})) * in4;
#end
#end
        let w_row = u32(r) * ${S}u * row.tap;
        for (var c = 0u; c < in4; c++) {
#for j in 0..SPAN
#if NEED >> j & 1
            let v${j} = select(vec4<f32>(0.0), xs[at${j} + c], has${j});
            let x${j} = rectify(v${j}, below);
#end
#end
#if BROADCAST
#for t in 0..(S * 4 * KB + LANES - 1) / LANES
#if INPUT
            let u${t} = ws[o${t} + w_row + c];
#else
            let u${t} = ws[o${t} + w_row + c * 4u * row.w4];
#end
#end
#end
        // Products of one row of taps and one input block are summed apart: rounding then grows with the square root of
        // the number of such groups, not of the whole reduction. Few positions at a time: their sums stay in registers.
#for k in 0..KB
#for s in 0..S
#for i in 0..4
#if BROADCAST
            let m${s}_${k}_${i} = subgroupBroadcast(u${((s * 4 + i) * KB + k) / LANES}, ${((s * 4 + i) * KB + k) % LANES}u);
#else
#if INPUT
            let m${s}_${k}_${i} = ws[row.w + w_row + ${s}u * row.tap + (c${k} * 4u + ${i}u) * row.w4 + c];
#else
            let m${s}_${k}_${i} = ws[row.w + w_row + ${s}u * row.tap + (c * 4u + ${i}u) * row.w4 + c${k}];
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
#end
#end
#for g in 0..(PX + PG - 1) / PG
#for p in g * PG..PX
#if p < g * PG + PG
            var t${p}_${k} = vec4<f32>(0.0);
#end
#end
#for s in 0..S
#for i in 0..4
#for p in g * PG..PX
#if p < g * PG + PG
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
#for p in g * PG..PX
#if p < g * PG + PG
            a${p}_${k} += t${p}_${k};
#end
#end
#end
#end
        }
    }
    if rank * ${LANES}u + lane < lines * segments {
        let y_at = row.y + (line * row.ow + u32(ox)) * out4 + column;
#for k in 0..KB
        if column + ${k}u < out4 {
            var bias = vec4<f32>(0.0);
            if row.bias != NONE {
                bias = bs[row.bias + column + ${k}u];
            }
#for p in 0..PX
            if ox + ${p} < i32(row.ow) {
                ys[y_at + ${p}u * out4 + ${k}u] = a${p}_${k} + bias;
            }
#end
        }
#end
    }
}
