// Philox 4x32-10 (Salmon et al. 2011): a counter-based random generator. Its Rust twin is src/philox.rs.
fn mul_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 16u);
    let carry = a0 * b1 + (mid & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (mid >> 16u) + (carry >> 16u));
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let p = mul_wide(0xD2511F53u, c.x);
        let q = mul_wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(q.y ^ c.y ^ k.x, q.x, p.y ^ c.w ^ k.y, p.x);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}
