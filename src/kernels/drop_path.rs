//! Which images a path is dropped for: `drop_path.wgsl`.

use super::kernel::{kind, record, rows};
use super::{Kernel, Lowering, Work};
use crate::graph::{DROP_PURPOSE, Op};

rows! {
    /// A factor for each image, of the path of a number.
    DropPath of "drop_path", same bits for any [LANES] { y: write, hyper: read, images: count, path: word }
}

pub(super) const KERNELS: &[Kernel] = &[DropPath::KERNEL];

pub(super) fn lower(to: &mut Lowering, op: &Op) {
    let &Op::DropPath { hyper, factors, path } = op else { return };
    let (lanes, [images, ..]) = (to.preset.lanes, to.shape(factors).nhwc());
    let variant = DropPath::KERNEL.with([("LANES", lanes)]).with("PURPOSE", DROP_PURPOSE);
    let work = Work { workgroups: images.div_ceil(lanes), flops: 0, depth: 1 };
    to.call(variant, DropPath { y: factors, hyper, images, path }, work);
}
