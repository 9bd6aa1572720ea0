//! Philox 4x32-10 (Salmon et al. 2011): ten rounds that turn a counter and a key into four random words.
//!
//! ```text
//! (x0, x1, x2, x3) <- (hi(B x2) ^ x1 ^ k0, lo(B x2), hi(A x0) ^ x3 ^ k1, lo(A x0)),   A = D2511F53, B = CD9E8D57
//! (k0, k1) <- (k0 + 9E3779B9, k1 + BB67AE85)
//! ```

/// The four words that belong to `counter` under `key`.
pub(super) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut x0, mut x1, mut x2, mut x3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let a = 0xD251_1F53_u64 * u64::from(x0);
        let b = 0xCD9E_8D57_u64 * u64::from(x2);
        let (high_a, low_a) = ((a >> 32) as u32, a as u32);
        let (high_b, low_b) = ((b >> 32) as u32, b as u32);
        (x0, x1, x2, x3) = (high_b ^ x1 ^ k0, low_b, high_a ^ x3 ^ k1, low_a);
        (k0, k1) = (k0.wrapping_add(0x9E37_79B9), k1.wrapping_add(0xBB67_AE85));
    }
    [x0, x1, x2, x3]
}
