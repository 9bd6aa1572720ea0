// Gradient of a convolution with respect to its weights, for adapters on which a workgroup of 8 lanes is one subgroup.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c]) * dy[n,p,q,k]
//   matrix view: rows R*S*C taps, columns K channels, reduction N*P*Q positions
//   tile: a workgroup computes all taps s of one r, 4 blocks of input channels and 4 of output channels. A lane owns 2 by 1
//   of them. Each step covers QX positions: lanes load them once for all, two positions at a time, and pass them round by
//   shuffles. The reduction is cut into splits that depend on the shape alone; sum_parts adds them in order.
//   task row: x, dy, parts, total N*P, H, W, C4, relu, P, Q, OUT4, cut: lines per split
//   grid: splits * R * ceil(C4/4) * ceil(OUT4/4), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = task_row(group_id);
    let h = i32(row.h);
    let w = i32(row.w);
    let c4 = row.c4;
    let below = select(NOTHING, NEGATIVE, row.relu);
    let out4 = row.out4;
    let tiles_c = (c4 + 3u) / 4u;
    let tiles_k = (out4 + 3u) / 4u;
    let item = linear_group(group_id, grid);
    let tile = item % (tiles_c * tiles_k);
    let r = item / (tiles_c * tiles_k) % ${R}u;
    let split = item / (tiles_c * tiles_k * ${R}u);
    let first = split * row.cut;
    // Tasks of one dispatch differ in size.
    if first >= row.total {
        return;
    }
    let last = min(first + row.cut, row.total);
    let c_tile = tile / tiles_k * 4u;
    let k_tile = tile % tiles_k * 4u;
    let own = lane % 4u;
    let side = lane / 4u;
    let c_load = row.x + min(c_tile + own, c4 - 1u);
    let k_load = row.dy + min(k_tile + own, out4 - 1u);
#for s in 0..S
#for b in 0..2
#for i in 0..4
    var a${s}_${b}_${i} = vec4<f32>(0.0);
#end
#end
#end
    for (var line = first; line < last; line++) {
        let image = line / row.p;
        let y = i32(line - image * row.p) * ${STRIDE} - ${PAD} + i32(r) * ${DIL};
        if y < 0 || y >= h {
            continue;
        }
        let x_row = c_load + (image * row.h + u32(y)) * row.w * c4;
        let dy_row = k_load + line * row.q * out4;
        for (var q = 0; q < i32(row.q); q += ${QX}) {
            let left = q * ${STRIDE} - ${PAD};
#for t in 0..(QX + 1) / 2
            let q${t} = q + ${2 * t} + i32(side);
            let g${t} = select(vec4<f32>(0.0), dys[dy_row + u32(min(q${t}, i32(row.q) - 1)) * out4], q${t} < i32(row.q));
#end
#for t in 0..(QX - 1) * STRIDE / 2 + (S - 1) * DIL / 2 + 2
#if NEED >> (2 * t) & 3
            let p${t} = left + ${2 * t} + i32(side);
            let has${t} = p${t} >= 0 && p${t} < w;
            let v${t} = select(vec4<f32>(0.0), xs[x_row + u32(select(0, p${t}, has${t})) * c4], has${t});
            let x${t} = rectify(v${t}, below);
#end
#end
#for p in 0..QX
            let d${p} = subgroupShuffle(g${p / 2}, ${p % 2 * 4}u + own);
#end
#for b in 0..2
#for j in 0..(QX - 1) * STRIDE + (S - 1) * DIL + 1
#if NEED >> j & 1
            let e${b}_${j} = subgroupShuffle(x${j / 2}, ${j % 2 * 4 + b}u + side * 2u);
#end
#end
#for s in 0..S
#for i in 0..4
            // A step's products are summed apart: rounding grows with the number of steps.
            var t${s}_${b}_${i} = vec4<f32>(e${b}_${s * DIL}[${i}]) * d0;
#for p in 1..QX
            t${s}_${b}_${i} = fma(vec4<f32>(e${b}_${p * STRIDE + s * DIL}[${i}]), d${p}, t${s}_${b}_${i});
#end
            a${s}_${b}_${i} += t${s}_${b}_${i};
#end
#end
#end
        }
    }
    let k = k_tile + own;
    if k < out4 {
#for b in 0..2
        let c${b} = c_tile + side * 2u + ${b}u;
        if c${b} < c4 {
#for s in 0..S
#for i in 0..4
            parts[row.parts + (((split * ${R}u + r) * ${S}u + ${s}u) * c4 * 4u + c${b} * 4u + ${i}u) * out4 + k] = a${s}_${b}_${i};
#end
#end
        }
#end
    }
}
