// Gradient of a convolution with respect to its weights.
//   dw[r,s,c,k] = sum_{n,p,q} act(x[n, p*STRIDE - PAD + r*DIL, q*STRIDE - PAD + s*DIL, c]) * dy[n,p,q,k]
//   matrix view: rows R*S*C taps, columns K channels, reduction N*P*Q positions
//   tile: a workgroup computes all taps s of one r, CT blocks of 4 input channels and KT of 4 output channels; a lane owns 1
//   by KB of them. QX neighbouring positions of an image row at a time, neighbouring lanes bring x, rectified and padded, and
//   dy to workgroup memory. G groups of CT*KT/KB lanes take image rows in turn and are summed in order at the end. Rows of
//   which tap r sees nothing but padding are left out. The others are cut into splits whose number depends on the shape
//   alone; sum_parts adds them in order.
//   task row: x, dy, parts, total N*P*Q, H, W, C4, relu, P, Q, OUT4, cut: the number of splits
//   grid: splits * R * ceil(C4/CT) * ceil(OUT4/KT), folded; z = task
#import task
#import Row
#import rectify
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

// Of a segment of x, positions SKIP apart are staged: a single tap touches no others.
// For each group XP positions of x, SKIP apart, and QX of dy; at the end, sums of lanes.
var<workgroup> staged: array<vec4<f32>, ${STAGED}>;

@compute @workgroup_size(${CT * KT / KB * G})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let out4 = row.out4;
    let tiles_c = (c4 + ${CT - 1}u) / ${CT}u;
    let tiles_k = (out4 + ${KT - 1}u) / ${KT}u;
    let item = linear_group(group_id, grid);
    let k_tile = item % tiles_k * ${KT}u;
    let c_tile = item / tiles_k % tiles_c * ${CT}u;
    let r = item / (tiles_k * tiles_c) % ${R}u;
    let split = item / (tiles_k * tiles_c * ${R}u);
    // Tasks of one dispatch differ in size.
    if split >= row.cut {
        return;
    }
    // Rows from `low` on are those of an image's output whose tap r lies in the input.
    let reach = i32(r) * ${DIL} - ${PAD};
    let low = max((${STRIDE - 1} - reach) / ${STRIDE}, 0);
    let height = u32(max(min((i32(row.h) - reach + ${STRIDE - 1}) / ${STRIDE}, i32(row.p)) - low, 0));
    let images = (row.total + row.p * row.q - 1u) / (row.p * row.q);
    let lines = images * height;
    let whole = lines / row.cut;
    let rest = lines % row.cut;
    let first = split * whole + min(split, rest);
    let last = first + whole + select(0u, 1u, split < rest);

    let own = lane % ${CT * KT / KB}u;
    let part = lane / ${CT * KT / KB}u;
    let k = own % ${KT / KB}u;
    let c = own / ${KT / KB}u;
    let x_block = row.x + min(c_tile + own % ${CT}u, c4 - 1u);
    let dy_block = row.dy + min(k_tile + own % ${KT}u, out4 - 1u);
    let x_first = i32(own / ${CT}u * ${SKIP}u) - ${PAD};
    let dy_first = own / ${KT}u;
    let base = part * ${XP * CT + QX * KT}u;
    let below = select(NOTHING, NEGATIVE, row.relu);
#for s in 0..S
#for i in 0..4
#for b in 0..KB
    var a${s}_${i}_${b} = vec4<f32>(0.0);
#if APART
    var t${s}_${i}_${b} = vec4<f32>(0.0);
#end
#end
#end
#end
#if APART
    var apart = 0u;
#end
    // All groups go along their lines side by side: barriers are for the whole workgroup.
    for (var next = first; next < last; next += ${G}u) {
        let image = (next + part) / height;
        let line = low + i32(next + part - image * height);
        let x_line = (image * row.h + u32(line * ${STRIDE} + reach)) * row.w;
        let dy_line = (image * row.p + u32(line)) * row.q;
        let there = next + part < last;
        // One long line of single positions ends where the positions do.
        let dy_end = select(0u, min(row.q, row.total - dy_line), there);
#if R * S * STRIDE == 1 && PAD == 0
        let x_end = dy_end;
#else
        let x_end = select(0u, row.w, there);
#end
        var x_from = (x_line + u32(x_first)) * c4;
        var dy_from = (dy_line + dy_first) * out4;
        for (var q = 0u; q < row.q; q += ${QX}u) {
            let dy_at = q + dy_first;
            let x_at = i32(q * ${STRIDE}u) + x_first;
#for m in 0..(QX * KB + CT - 1) / CT
            let dy_has${m} = dy_at + ${m * CT / KB}u < dy_end;
            let dy${m} = dys[dy_block + select(0u, dy_from + ${m * CT / KB}u * out4, dy_has${m})];
#end
#for m in 0..(XP * KB + KT - 1) / KT
            let x_has${m} = u32(x_at + ${m * KT / KB * SKIP}) < x_end;
            let x${m} = xs[x_block + select(0u, x_from + ${m * KT / KB * SKIP}u * c4, x_has${m})];
#end
            x_from += ${QX * STRIDE}u * c4;
            dy_from += ${QX}u * out4;
            // All have read what the last step staged.
            workgroupBarrier();
#for m in 0..(QX * KB + CT - 1) / CT
#if (m + 1) * CT / KB > QX
            if dy_first + ${m * CT / KB}u < ${QX}u {
#else
            {
#end
                staged[base + own + ${XP * CT}u + ${m * CT * KT / KB}u] = select(vec4<f32>(0.0), dy${m}, dy_has${m});
            }
#end
#for m in 0..(XP * KB + KT - 1) / KT
#if (m + 1) * KT / KB > XP
            if own / ${CT}u + ${m * KT / KB}u < ${XP}u {
#else
            {
#end
                staged[base + own + ${m * CT * KT / KB}u] = select(vec4<f32>(0.0), rectify(x${m}, below), x_has${m});
            }
#end
            workgroupBarrier();
#for p in 0..QX
#for j in (p > 0) * ((p - 1) * STRIDE + (S - 1) * DIL + 1)..p * STRIDE + (S - 1) * DIL + 1
#if NEED >> j & 1
            let v${j} = staged[base + c + ${j / SKIP * CT}u];
#end
#end
#for b in 0..KB
            let d${p}_${b} = staged[base + k + ${XP * CT + p * KT + b * (KT / KB)}u];
#end
#for s in 0..S
#for i in 0..4
#for b in 0..KB
            a${s}_${i}_${b} = fma(vec4<f32>(v${p * STRIDE + s * DIL}[${i}]), d${p}_${b}, a${s}_${i}_${b});
#end
#end
#end
#end
        }
#if APART
        // Rounding grows with the square root of the longest chain, so rows of at least APART positions are summed apart.
        apart += row.q;
        if apart >= ${APART}u || next + ${G}u >= last {
            apart = 0u;
#for s in 0..S
#for i in 0..4
#for b in 0..KB
            t${s}_${i}_${b} += a${s}_${i}_${b};
            a${s}_${i}_${b} = vec4<f32>(0.0);
#end
#end
#end
        }
#end
    }
#for s in 0..S
    // Sums of tap ${s}: groups in order.
    workgroupBarrier();
#for i in 0..4
#for b in 0..KB
#if APART
    staged[part * ${CT * KT * 4}u + (c * 4u + ${i}u) * ${KT}u + ${b * (KT / KB)}u + k] = t${s}_${i}_${b};
#else
    staged[part * ${CT * KT * 4}u + (c * 4u + ${i}u) * ${KT}u + ${b * (KT / KB)}u + k] = a${s}_${i}_${b};
#end
#end
#end
    workgroupBarrier();
    for (var t = lane; t < ${CT * KT * 4}u; t += ${CT * KT / KB * G}u) {
        let channel = c_tile * 4u + t / ${KT}u;
        let column = k_tile + t % ${KT}u;
        if channel < c4 * 4u && column < out4 {
            var total = staged[t];
#for g in 1..G
            total += staged[t + ${g * CT * KT * 4}u];
#end
            parts[row.parts + (((split * ${R}u + r) * ${S}u + ${s}u) * c4 * 4u + channel) * out4 + column] = total;
        }
    }
#end
}
