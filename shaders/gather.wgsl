// A batch from the resident data set: crop, flip, cut out, area mean or a larger picture, normalise; one lane per output position.
//   x[n,h,w,c] = (mean of byte / 255 over the source area of (h, w) - mean[c]) / std[c];  outside the image bytes are 0, and source
//   pixels in the hole count as mean[c]
//   descriptor of an image: (index in its slab, label | row << 16, (dx + 128) | (dy + 128) << 8 | flip << 16, slab | side << 8 | column << 16)
//   RESIZE: (h, w) is a position of the picture at the network's size, where crop, flip and hole are too; its bytes are those of
//   src/data/resize.rs, whose weights `taps` holds: TAPS vec4 for each row, then for each column: first, count, weights
//   hole: side rows from row - side / 2 on, columns alike, of the picture after crop and flip
//   task row: x, labels, batch, taps, statistics, images, height, width, channels
//   statistics: row 0 mean, row 1 1/std, C4 vec4 each.   source: SH x SW x C bytes, packed without gaps
//   grid: ceil(N*H*W / LANES), folded; z = task
#import task
#import Row
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> batch: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> statistics: array<vec4<f32>>;
#for i in 0..POOL
@group(0) @binding(${5 + i}) var<storage, read_write> data${i}: array<u32>;
#end

fn byte_at(slab: u32, index: u32) -> f32 {
    var word = data0[select(0u, index / 4u, slab == 0u)];
#for i in 1..POOL
    if slab == ${i}u {
        word = data${i}[index / 4u];
    }
#end
    return f32(word >> (index % 4u * 8u) & 255u);
}

#if RESIZE
// Of an entry its first source pixel and their number.
fn range_of(entry: u32) -> vec2<u32> {
    return batch[entry].xy;
}

fn weight_of(entry: u32, place: u32) -> i32 {
    let word = place + 2u;
    return bitcast<i32>(batch[entry + word / 4u][word % 4u]);
}

// A sum of bytes times weights as a byte.
fn rounded(sum: vec4<i32>) -> vec4<i32> {
    return clamp((sum + vec4<i32>(2097152)) >> vec4<u32>(22u), vec4<i32>(0), vec4<i32>(255));
}

// Four channels of the picture at its new size, by the entries of row and column.
fn resized(slab: u32, image: u32, down: u32, across: u32, block: u32) -> vec4<f32> {
    let rows = range_of(down);
    let columns = range_of(across);
    var sum = vec4<i32>(0);
    for (var y = 0u; y < rows.y; y++) {
        var line = vec4<i32>(0);
        for (var x = 0u; x < columns.y; x++) {
            let pixel = ((image * ${SH}u + rows.x + y) * ${SW}u + columns.x + x) * ${SC}u + block * 4u;
            let weight = weight_of(across, x);
            for (var c = 0u; c < min(4u, ${SC}u - block * 4u); c++) {
                line[c] += weight * i32(byte_at(slab, pixel + c));
            }
        }
        sum += weight_of(down, y) * rounded(line);
    }
    return vec4<f32>(rounded(sum));
}

#end
@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let sides = vec2<u32>(row.height, row.width);
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
    if i >= row.images * row.height * row.width {
        return;
    }
    let w = i % row.width;
    let h = i / row.width % row.height;
    let image = i / (row.width * row.height);
    let what = batch[row.batch + image];
    let shift = vec2<i32>(vec2<u32>(what.z & 255u, what.z >> 8u & 255u)) - 128;
    let flip = (what.z >> 16u & 1u) != 0u;
    let slab = what.w & 255u;
    let hole_side = i32(what.w >> 8u & 255u);
    let hole = vec2<i32>(vec2<u32>(what.y, what.w) >> vec2<u32>(16u)) - hole_side / 2;
    if h == 0u && w == 0u {
        labels[row.labels + image] = vec4<f32>(f32(what.y & 65535u), 0.0, 0.0, 0.0);
    }
#if RESIZE
    let place = vec2<i32>(i32(h), select(i32(w), i32(row.width) - 1 - i32(w), flip)) + shift.yx;
    let there = all(place >= vec2<i32>(0)) && all(place < vec2<i32>(sides));
    let at = vec2<u32>(select(vec2<i32>(0), place, there));
    let down = row.taps + at.x * ${TAPS}u;
    let across = row.taps + (row.height + at.y) * ${TAPS}u;
    let within = vec2<i32>(i32(h), i32(w)) - hole;
    let hidden = all(within >= vec2<i32>(0)) && all(within < vec2<i32>(hole_side));
    let blocks = (row.channels + 3u) / 4u;
    for (var block = 0u; block < blocks; block++) {
        var bytes = vec4<f32>(0.0);
        if there {
            bytes = resized(slab, what.x, down, across, block);
        }
        let mean = statistics[row.statistics + block];
        let factor = statistics[row.statistics + blocks + block];
        let c = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let seen = (c < vec4<u32>(row.channels)) & vec4<bool>(!hidden);
        xs[row.x + i * blocks + block] = select(vec4<f32>(0.0), (bytes / 255.0 - mean) * factor, seen);
    }
#else
    // The source area of this position, in source pixels.
    let scale = vec2<f32>(${SH}.0, ${SW}.0) / vec2<f32>(sides);
    let low = vec2<f32>(f32(h), f32(w)) * scale;
    let high = low + scale;
    let from_at = vec2<i32>(floor(low + 1e-4));
    let to = min(vec2<i32>(ceil(high - 1e-4)), vec2<i32>(${SH}, ${SW}));
    let blocks = (row.channels + 3u) / 4u;
    for (var block = 0u; block < blocks; block++) {
        var sum = vec4<f32>(0.0);
        var hidden = 0.0;
        for (var y = from_at.x; y < to.x; y++) {
            let height = min(f32(y + 1), high.x) - max(f32(y), low.x);
            for (var x = from_at.y; x < to.y; x++) {
                let area = height * (min(f32(x + 1), high.y) - max(f32(x), low.y));
                let within = vec2<i32>(y, x) - hole;
                if all(within >= vec2<i32>(0)) && all(within < vec2<i32>(hole_side)) {
                    hidden += area;
                    continue;
                }
                let sx = select(x, ${SW} - 1 - x, flip) + shift.x;
                let sy = y + shift.y;
                if sx < 0 || sx >= ${SW} || sy < 0 || sy >= ${SH} {
                    continue;
                }
                let pixel = ((what.x * ${SH}u + u32(sy)) * ${SW}u + u32(sx)) * ${SC}u + block * 4u;
                for (var c = 0u; c < min(4u, ${SC}u - block * 4u); c++) {
                    sum[c] += area * byte_at(slab, pixel + c);
                }
            }
        }
        let mean = statistics[row.statistics + block];
        let factor = statistics[row.statistics + blocks + block];
        let c = vec4<u32>(block * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        // Of a position that is not in the hole the whole mean is taken off, and 1 times it is the mean to the bit.
        let seen = 1.0 - hidden / (scale.x * scale.y);
        let value = (sum / (scale.x * scale.y * 255.0) - mean * seen) * factor;
        xs[row.x + i * blocks + block] = select(vec4<f32>(0.0), value, c < vec4<u32>(row.channels));
    }
#end
}
