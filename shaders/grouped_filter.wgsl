// Gradient of a grouped convolution with respect to its weights.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, g(k)*CG + c]) * dy[n,p,q,k]
//   tile: a workgroup computes RT by ST taps of one c and of BT blocks of four k. Neighbouring lanes have neighbouring
//   blocks; LANES/BT slots of them take image rows in turn, slide over them QX positions at a time, and are summed in
//   order at the end. The rows are cut into splits whose number depends on the shape alone; sum_parts adds them in order.
//   task row: x, dy, parts, total N*P, H, W, C4, relu, P, Q, OUT4 (K4), cut: the number of splits
//   grid: splits * ceil(R/RT) * ceil(S/ST) * CG * ceil(K4/BT), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

// Of one row of taps.
var<workgroup> lane_sums: array<vec4<f32>, ${ST * LANES}>;

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let k4 = row.out4;
    let tiles = (k4 + ${BT - 1}u) / ${BT}u;
    let item = linear_group(group_id, grid);
    let tile = item % tiles * ${BT}u;
    let c = item / tiles % ${CG}u;
    let tap = item / (tiles * ${CG}u);
    let s_tile = tap % ${(S + ST - 1) / ST}u * ${ST}u;
    let r_tile = tap / ${(S + ST - 1) / ST}u % ${(R + RT - 1) / RT}u * ${RT}u;
    let split = tap / ${((S + ST - 1) / ST) * ((R + RT - 1) / RT)}u;
    // Tasks of one dispatch differ in size.
    if split >= row.cut {
        return;
    }
    let whole = row.total / row.cut;
    let rest = row.total % row.cut;
    let first = split * whole + min(split, rest);
    let last = first + whole + select(0u, 1u, split < rest);
    let block = min(tile + lane % ${BT}u, k4 - 1u);
#if CG == 1 && KG == 1
    let x_block = row.x + block;
#else
    let x_block = row.x;
#for j in 0..4
    // The channel of x that belongs to output channel ${j} of the block. What pads the last block has none, and no gradient.
    let channel${j} = min(block * 4u + ${j}u, ${GROUPS * KG - 1}u) / ${KG}u * ${CG}u + c;
#end
#end
    let dy_block = row.dy + block;
    let below = select(NOTHING, NEGATIVE, row.relu);
#for r in 0..RT
#for s in 0..ST
    var a${r}_${s} = vec4<f32>(0.0);
#end
#end
    for (var line = first + lane / ${BT}u; line < last; line += ${LANES / BT}u) {
        let image = line / row.p;
        let top = i32((line - image * row.p) * ${STRIDE}u + r_tile * ${DIL}u) - ${PAD};
        let dy_row = line * row.q;
        let left = i32(s_tile * ${DIL}u) - ${PAD};
#for r in 0..RT
        let in${r} = u32(top + ${r * DIL}) < row.h;
        let row${r} = (image * row.h + u32(top + ${r * DIL})) * row.w;
#end
        for (var q = 0u; q < row.q; q += ${QX}u) {
            let x_at = i32(q * ${STRIDE}u) + left;
            let dy_from = (dy_row + q) * k4;
#for p in 0..QX
            let there${p} = q + ${p}u < row.q;
            let d${p} = select(vec4<f32>(0.0), dys[dy_block + select(0u, dy_from + ${p}u * k4, there${p})], there${p});
#end
#for j in 0..(QX - 1) * STRIDE + (ST - 1) * DIL + 1
#if NEED >> j & 1
            let in_row${j} = u32(x_at + ${j}) < row.w;
#end
#end
#for r in 0..RT
            let from${r} = (row${r} + u32(x_at)) * c4;
#for j in 0..(QX - 1) * STRIDE + (ST - 1) * DIL + 1
#if NEED >> j & 1
            let has${r}_${j} = in${r} && in_row${j};
            let at${r}_${j} = x_block + select(0u, from${r} + ${j}u * c4, has${r}_${j});
#if CG == 1 && KG == 1
            let v${r}_${j} = xs[at${r}_${j}];
#else
#for i in 0..4
            // Neighbouring channels of dy often belong to the same one of x.
#if (i == 0 || KG % 4) && (i % 2 == 0 || KG % 2)
            let v${r}_${j}_${i} = xs[at${r}_${j} + channel${i} / 4u][channel${i} % 4u];
#else
            let v${r}_${j}_${i} = v${r}_${j}_${i - 1};
#end
#end
            let v${r}_${j} = vec4<f32>(v${r}_${j}_0, v${r}_${j}_1, v${r}_${j}_2, v${r}_${j}_3);
#end
            let x${r}_${j} = select(vec4<f32>(0.0), rectify(v${r}_${j}, below), has${r}_${j});
#end
#end
#for p in 0..QX
#for s in 0..ST
            a${r}_${s} = fma(x${r}_${p * STRIDE + s * DIL}, d${p}, a${r}_${s});
#end
#end
#end
        }
    }
#for r in 0..RT
    // Sums of row ${r} of the tile's taps: slots in order.
    workgroupBarrier();
#for s in 0..ST
    lane_sums[${s * LANES}u + lane] = a${r}_${s};
#end
    workgroupBarrier();
    for (var t = lane; t < ${ST * BT}u; t += ${LANES}u) {
        let r = r_tile + ${r}u;
        let s = s_tile + t / ${BT}u;
        let k = tile + t % ${BT}u;
        if r < ${R}u && s < ${S}u && k < k4 {
            let at = t / ${BT}u * ${LANES}u + t % ${BT}u;
            var total = lane_sums[at];
            for (var slot = 1u; slot < ${LANES / BT}u; slot++) {
                total += lane_sums[at + slot * ${BT}u];
            }
            parts[row.parts + (((split * ${R}u + r) * ${S}u + s) * ${CG}u + c) * k4 + k] = total;
        }
    }
#end
}
