// Standard normals by the inverse distribution, in integers: src/philox/normal.rs says how and is equal to the bit.
// The table of its cubics, `[c3 << 27 | c0, c2 << 16 | c1]` each, is what the importing shader binds as `normals`: an array of
// constants would be copied for every invocation by some compilers.

// The word's tail, shifted until its highest bit is set, and the number of that bit.
fn normal_tail(word: u32) -> vec2<u32> {
    let tail = select(word, ~word, word >> 31u == 1u) << 1u | 1u;
    let octave = firstLeadingBit(tail);
    return vec2<u32>(tail << (31u - octave), octave);
}

// Entry of the table.
fn normal_entry(tail: vec2<u32>) -> u32 {
    return tail.y * 16u + (tail.x >> 27u) - 16u;
}

fn normal(word: u32, tail: vec2<u32>, entry: vec2<u32>) -> f32 {
    let t = bitcast<i32>(tail.x << 5u ^ 0x80000000u) >> 16u;
    let square = (t * t) >> 14u;
    let bend = square * (i32(entry.y >> 16u) - ((t * i32(entry.x >> 27u)) >> 11u));
    let units = (i32(entry.x & 0x7ffffffu) - ((t * i32(entry.y & 0xffffu) - (bend >> 6u)) >> 12u)) >> 3u;
    // At most 24 bits: the conversion is exact, and so is the scaling.
    return f32(select(-units, units, word >> 31u == 1u)) * 4.76837158203125e-7;
}

fn normal_of(table: u32, word: u32) -> f32 {
    let tail = normal_tail(word);
    return normal(word, tail, normals[table * 2u + normal_entry(tail)]);
}

// A number of each word; `table` is the table's offset in vec4.
fn normal_of_each(table: u32, words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        normal_of(table, words.x), normal_of(table, words.y), normal_of(table, words.z), normal_of(table, words.w),
    );
}
