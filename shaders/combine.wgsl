// Sum of terms, each a function of one or two tensors:  y[i] = sum_t term_t(i), in the order listed.
//   kind 0 a   1 max(a,0)   2 scale*(a - mean) + beta   3 p*a + q*(b - mean) + t   4 a where b > 0
//        5 average over a window of a   6 its gradient (a: gradient of the pool's output)   7 factor * a[n, c]
//   task row: (y, count in vec4, first term, terms), (H, W, C4, -) of y
//   term: (kind, a, b, coefficients), (kernel | stride << 8 | padding << 16 | include << 24, HA, WA, factor), (slabs of a, b, coefficients, -)
//   grid: ceil(count / LANES), folded; z = task
#import task
@group(0) @binding(1) var<storage, read_write> ys: array<vec4<f32>>;
#import terms

// Positions along one side that count for the average whose window starts at `from`.
fn counted(start: i32, kernel: i32, padding: i32, side: i32, include: bool) -> i32 {
    if include {
        return min(start + kernel, side + padding) - start;
    }
    return min(start + kernel, side) - max(start, 0);
}

// Average over the window of `a` (HA x WA) that makes position (h, w).
fn average(slab: u32, a: u32, pool: vec4<u32>, image: u32, h: i32, w: i32, channels: u32, block: u32) -> vec4<f32> {
    let kernel = i32(pool.x & 255u);
    let stride = i32(pool.x >> 8u & 255u);
    let padding = i32(pool.x >> 16u & 255u);
    let include = (pool.x >> 24u) != 0u;
    let size = vec2<i32>(pool.yz);
    let start = vec2<i32>(h, w) * stride - padding;
    let low = max(start, vec2<i32>(0));
    let high = min(start + kernel, size);
    var sum = vec4<f32>(0.0);
    for (var y = low.x; y < high.x; y++) {
        for (var x = low.y; x < high.y; x++) {
            sum += load(slab, a + ((image * pool.y + u32(y)) * pool.z + u32(x)) * channels + block);
        }
    }
    let count = counted(start.x, kernel, padding, size.x, include) * counted(start.y, kernel, padding, size.y, include);
    return sum / f32(max(count, 1));
}

// What position (h, w) of an H x W map gets from the gradients `a` (HA x WA) of the windows that cover it.
fn average_grad(slab: u32, a: u32, pool: vec4<u32>, size: vec2<i32>, image: u32, h: i32, w: i32, channels: u32, block: u32) -> vec4<f32> {
    let kernel = i32(pool.x & 255u);
    let stride = i32(pool.x >> 8u & 255u);
    let padding = i32(pool.x >> 16u & 255u);
    let include = (pool.x >> 24u) != 0u;
    let at = vec2<i32>(h, w) + padding;
    let low = max((at - kernel + stride) / stride, vec2<i32>(0));
    let high = min(at / stride + 1, vec2<i32>(pool.yz));
    var sum = vec4<f32>(0.0);
    for (var y = low.x; y < high.x; y++) {
        let rows_counted = counted(y * stride - padding, kernel, padding, size.x, include);
        for (var x = low.y; x < high.y; x++) {
            let count = rows_counted * counted(x * stride - padding, kernel, padding, size.y, include);
            sum += load(slab, a + ((image * pool.y + u32(y)) * pool.z + u32(x)) * channels + block) / f32(count);
        }
    }
    return sum;
}

@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = rows[group_id.z * 2u];
    let shape = rows[group_id.z * 2u + 1u];
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= head.y {
        return;
    }
    let channels = shape.z;
    let block = i % channels;
    let position = i / channels;
    var total = vec4<f32>(0.0);
    for (var t = 0u; t < head.w; t++) {
        let term = rows[head.z + t * 3u];
        let pool = rows[head.z + t * 3u + 1u];
        let slabs = rows[head.z + t * 3u + 2u];
        switch term.x {
            case 1u: {
                total += max(load(slabs.x, term.y + i), vec4<f32>(0.0));
            }
            case 2u: {
                let scale = load(slabs.z, term.w + block);
                let beta = load(slabs.z, term.w + channels + block);
                let mean = load(slabs.z, term.w + 2u * channels + block);
                total += fma(load(slabs.x, term.y + i) - mean, scale, beta);
            }
            case 3u: {
                let p = load(slabs.z, term.w + block);
                let q = load(slabs.z, term.w + channels + block);
                let s = load(slabs.z, term.w + 2u * channels + block);
                let mean = load(slabs.z, term.w + 3u * channels + block);
                total += fma(p, load(slabs.x, term.y + i), fma(q, load(slabs.y, term.z + i) - mean, s));
            }
            case 4u: {
                total += select(vec4<f32>(0.0), load(slabs.x, term.y + i), load(slabs.y, term.z + i) > vec4<f32>(0.0));
            }
            case 5u: {
                let w = i32(position % shape.y);
                let h = i32(position / shape.y % shape.x);
                total += average(slabs.x, term.y, pool, position / (shape.x * shape.y), h, w, channels, block);
            }
            case 6u: {
                let w = i32(position % shape.y);
                let h = i32(position / shape.y % shape.x);
                let size = vec2<i32>(shape.xy);
                total += average_grad(slabs.x, term.y, pool, size, position / (shape.x * shape.y), h, w, channels, block);
            }
            case 7u: {
                total += bitcast<f32>(pool.w) * load(slabs.x, term.y + position / (shape.x * shape.y) * channels + block);
            }
            default: {
                total += load(slabs.x, term.y + i);
            }
        }
    }
    ys[head.x + i] = total;
}
