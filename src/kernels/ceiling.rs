//! What an adapter can do at best: `ceiling.wgsl`, which no operation is lowered to.

use super::kernel::{Fields, kind, record, rows};
use super::{Kernel, Word};

rows! {
    /// Places of both operands, and their length in `vec4`.
    Ceiling of "ceiling", same bits for any [LANES UNROLL] { x: word, y: word, count: word }
}

pub(super) const KERNELS: &[Kernel] = &[Ceiling::KERNEL];

/// The kernel that measures ceilings.
pub const CEILING: Kernel = Ceiling::KERNEL;

/// The words of its row for two slabs of `count` `vec4`.
pub fn ceiling_row(count: u32) -> Vec<u32> {
    let words = super::words(&Ceiling { x: 0, y: 0, count }.values());
    words.into_iter().map(|word| if let Word::Value(value) = word { value } else { 0 }).collect()
}
