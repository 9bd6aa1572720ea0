// Sum of terms, each a function of one or two tensors:  y[i] = sum_t term_t(i).
//   kind 0 a   1 max(a,0)   2 scale*(a - mean) + beta   3 p*a + q*(b - mean) + t   4 a where b > 0
//        5 average over a window of a   6 its gradient (a: gradient of the pool's output)   7 factor * a[n, c]
//        8 a, DOWN rows down, RIGHT columns to the right, 4*shift + TURN channels on; zero beyond its edges
//        9 coefficients[n] * a
//        10 h(a)   11 h(z)   12 h'(b) * a   13 h'(z of b) * a      h the hard swish, z = scale*(a - mean) + beta
//        14 s(coefficients[n, c]) * a   15 s'(b) * a               s the hard sigmoid
//        16 b * a   17 h''(b) * a   18 h''(z of b) * a   19 coefficients[n, c] * a
//   Terms are sorted into CLASSES of one kind (and window), whose code is fixed; the task says how many of each there are.
//   Branches on data would cost a software adapter all their sides. Sides and channels are data.
//   A lane computes POSITIONS neighbouring positions of one block of four channels, so that coefficients are loaded once.
//   task row: y, positions, first term, C4, terms of class 0, 1, 2, 3, height, width
//   term: a, b, coefficients, factor, slabs of a, b, coefficients, shift, height, width and C4 of a, channels of y
//   grid: ceil(ceil(positions / POSITIONS) * C4 / LANES), folded; z = task
#import task
#import Row
#import rectify
#import hard
@group(0) @binding(1) var<storage, read_write> ys: array<vec4<f32>>;
#import Term
#import terms

// Positions along one side that count for the average over the window that starts at `start`.
fn counted(start: i32, kernel: i32, padding: i32, side: i32, include: bool) -> i32 {
    if include {
        return min(start + kernel, side + padding) - start;
    }
    return min(start + kernel, side) - max(start, 0);
}

#for j in 0..CLASSES
#if KIND@j == 5
// Average over the window that makes position `own` of an image with these sides.
fn average${j}(slab: u32, image: u32, sides: vec2<i32>, own: vec2<i32>, c4: u32) -> vec4<f32> {
    let start = own * ${STRIDE@j} - ${PAD@j};
    var sum = vec4<f32>(0.0);
    for (var y = 0; y < ${KERNEL@j}; y++) {
        for (var x = 0; x < ${KERNEL@j}; x++) {
            let at = start + vec2<i32>(y, x);
            let inside = all(at >= vec2<i32>(0)) && all(at < sides);
            sum += select(vec4<f32>(0.0), load(slab, image + select(0u, u32(at.x * sides.y + at.y), inside) * c4), inside);
        }
    }
    let size = counted(start.x, ${KERNEL@j}, ${PAD@j}, sides.x, ${INCLUDE@j} == 1)
        * counted(start.y, ${KERNEL@j}, ${PAD@j}, sides.y, ${INCLUDE@j} == 1);
    return sum / f32(max(size, 1));
}

#end
#if KIND@j == 6
// What position `own` of an input with sides `full` gets from the gradients of the windows that cover it: those that start at its own place less an offset
// that leaves a multiple of the stride.
fn average_grad${j}(slab: u32, image: u32, sides: vec2<i32>, full: vec2<i32>, own: vec2<i32>, c4: u32) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var y = 0; y < ${KERNEL@j}; y++) {
        for (var x = 0; x < ${KERNEL@j}; x++) {
            let start = own + ${PAD@j} - vec2<i32>(y, x);
            let window = start / ${STRIDE@j};
            let there = all(start >= vec2<i32>(0)) && all(window * ${STRIDE@j} == start)
                && all(window < sides);
            let index = image + select(0u, u32(window.x * sides.y + window.y), there) * c4;
            let size = counted(start.x - ${PAD@j}, ${KERNEL@j}, ${PAD@j}, full.x, ${INCLUDE@j} == 1)
                * counted(start.y - ${PAD@j}, ${KERNEL@j}, ${PAD@j}, full.y, ${INCLUDE@j} == 1);
            sum += select(vec4<f32>(0.0), load(slab, index) / f32(max(size, 1)), there);
        }
    }
    return sum;
}

#end
#if KIND@j == 8
// Block `from` of the position that starts at `place`; zero if it is beyond the channels.
fn block_of${j}(term: Term, place: u32, from_block: i32) -> vec4<f32> {
    let there = from_block >= 0 && from_block < i32(term.c4);
    return select(vec4<f32>(0.0), load(term.a_slab, term.a + place * term.c4 + u32(select(0, from_block, there))), there);
}

// What is seen of position `place` in block `block` of the output. Its channels may begin amid a block; padding stays zero.
fn moved${j}(term: Term, place: u32, block: u32) -> vec4<f32> {
    let from_block = i32(block) + bitcast<i32>(term.shift);
    let low = block_of${j}(term, place, from_block);
#if TURN@j > 0
    let high = block_of${j}(term, place, from_block + 1);
#end
#if TURN@j == 0
    let value = low;
#end
#if TURN@j == 1
    let value = vec4<f32>(low.yzw, high.x);
#end
#if TURN@j == 2
    let value = vec4<f32>(low.zw, high.xy);
#end
#if TURN@j == 3
    let value = vec4<f32>(low.w, high.xyz);
#end
    let channel = vec4<u32>(4u * block) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), value, channel < vec4<u32>(term.channels));
}

#end
#end
@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = task_row(group_id);
    let c4 = row.c4;
    let item = linear_group(group_id, grid) * ${LANES}u + lane;
    let run = item / c4;
    let block = item - run * c4;
    let first = run * ${POSITIONS}u;
    if first >= row.positions {
        return;
    }
#for p in 0..POSITIONS
    let position${p} = min(first + ${p}u, row.positions - 1u);
    let i${p} = position${p} * c4 + block;
    var total${p} = vec4<f32>(0.0);
#end
#if PLACES
    // Image, row and column of the positions: neighbours follow from the first.
    let sides = vec2<u32>(row.height, row.width);
    let full = vec2<i32>(sides);
    let line = first / sides.y;
    let image0 = line / sides.x;
    let own0 = vec2<i32>(vec2<u32>(line - image0 * sides.x, first - line * sides.y));
#for p in 1..POSITIONS
    let turn${p} = own${p - 1}.y + 1 == full.y;
    let next${p} = turn${p} && own${p - 1}.x + 1 == full.x;
    let last${p} = first + ${p}u >= row.positions;
    let image${p} = select(image${p - 1} + u32(next${p}), image${p - 1}, last${p});
    let own${p} = select(
        vec2<i32>(select(own${p - 1}.x + i32(turn${p}), 0, next${p}), select(own${p - 1}.y + 1, 0, turn${p})),
        own${p - 1},
        last${p});
#end
#end
    var at = row.first_term;
#for j in 0..CLASSES
    for (var t = 0u; t < row.terms${j}; t++) {
        let term = term_at(at);
        at += TERM_VEC4S;
#if KIND@j == 2 || KIND@j == 11 || KIND@j == 13 || KIND@j == 18
        let scale = load(term.coefficients_slab, term.coefficients + block);
        let beta = load(term.coefficients_slab, term.coefficients + c4 + block);
        let mean = load(term.coefficients_slab, term.coefficients + 2u * c4 + block);
#end
#if KIND@j == 3
        let p = load(term.coefficients_slab, term.coefficients + block);
        let q = load(term.coefficients_slab, term.coefficients + c4 + block);
        let s = load(term.coefficients_slab, term.coefficients + 2u * c4 + block);
        let mean = load(term.coefficients_slab, term.coefficients + 3u * c4 + block);
#end
#if KIND@j == 5 || KIND@j == 6
        let inner = vec2<u32>(term.height, term.width);
        let step = inner.x * inner.y * c4;
#end
#for p in 0..POSITIONS
#if KIND@j == 0
        total${p} += load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 1
        total${p} += rectify(load(term.a_slab, term.a + i${p}), NEGATIVE);
#end
#if KIND@j == 2
        total${p} += fma(load(term.a_slab, term.a + i${p}) - mean, scale, beta);
#end
#if KIND@j == 3
        total${p} += fma(p, load(term.a_slab, term.a + i${p}), fma(q, load(term.b_slab, term.b + i${p}) - mean, s));
#end
#if KIND@j == 4
        total${p} += select(vec4<f32>(0.0), load(term.a_slab, term.a + i${p}), passes(load(term.b_slab, term.b + i${p})));
#end
#if KIND@j == 5
        total${p} += average${j}(term.a_slab, term.a + image${p} * step + block, vec2<i32>(inner), own${p}, c4);
#end
#if KIND@j == 6
        total${p} += average_grad${j}(term.a_slab, term.a + image${p} * step + block, vec2<i32>(inner), full, own${p}, c4);
#end
#if KIND@j == 8
#if APART@j == 0
        total${p} += moved${j}(term, position${p}, block);
#else
        let seen${p} = own${p} + vec2<i32>(${DOWN@j}, ${RIGHT@j});
        let inside${p} = all(seen${p} >= vec2<i32>(0)) && all(seen${p} < vec2<i32>(i32(term.height), i32(term.width)));
        let place${p} = (image${p} * term.height + u32(select(0, seen${p}.x, inside${p}))) * term.width + u32(select(0, seen${p}.y, inside${p}));
        total${p} += select(vec4<f32>(0.0), moved${j}(term, place${p}, block), inside${p});
#end
#end
#if KIND@j == 9
        total${p} += load(term.coefficients_slab, term.coefficients + image${p}).x * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 10
        total${p} += hard_swish(load(term.a_slab, term.a + i${p}));
#end
#if KIND@j == 11
        total${p} += hard_swish(fma(load(term.a_slab, term.a + i${p}) - mean, scale, beta));
#end
#if KIND@j == 12
        total${p} += hard_swish_slope(load(term.b_slab, term.b + i${p})) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 13
        total${p} += hard_swish_slope(fma(load(term.b_slab, term.b + i${p}) - mean, scale, beta)) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 14
        total${p} += hard_sigmoid(load(term.coefficients_slab, term.coefficients + image${p} * c4 + block)) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 15
        total${p} += hard_sigmoid_slope(load(term.b_slab, term.b + i${p})) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 16
        total${p} += load(term.b_slab, term.b + i${p}) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 17
        total${p} += 2.0 * hard_sigmoid_slope(load(term.b_slab, term.b + i${p})) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 18
        total${p} += 2.0 * hard_sigmoid_slope(fma(load(term.b_slab, term.b + i${p}) - mean, scale, beta)) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 19
        total${p} += load(term.coefficients_slab, term.coefficients + image${p} * c4 + block) * load(term.a_slab, term.a + i${p});
#end
#if KIND@j == 7
        total${p} += term.factor * load(term.a_slab, term.a + image${p} * c4 + block);
#end
#end
    }
#end
#for p in 0..POSITIONS
    if first + ${p}u < row.positions {
        ys[row.y + i${p}] = total${p};
    }
#end
}
