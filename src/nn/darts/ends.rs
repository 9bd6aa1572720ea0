//! What stands before and behind the cells: stems, and the auxiliary heads that read the second reduction while a network trains
//! (`AuxiliaryHeadCIFAR` and `AuxiliaryHeadImageNet` of DARTS's authors).
//!
//! The authors' heads rectify their input in place. Whatever reads it besides rectifies it too, so nothing else sees that, but for the
//! average of a network whose second reduction is its last cell: here it is of what the cell gave, as it is without a head.

use super::{POINTWISE, Sizes};
use crate::error::{Error, Result};
use crate::graph::{Geometry, TensorId, Value, Window};
use crate::nn::Layers;

/// Channels of the stem for small images, in those of the first cells' nodes.
pub(super) const STEM: usize = 3;
/// By how much the sides of the last map are less than those of small images.
pub(super) const CIFAR_SHRINKS: usize = 4;
/// The same with the stem for ImageNet.
pub(super) const IMAGENET_SHRINKS: usize = 32;

/// Channels between the convolutions of an auxiliary head, and behind them.
const HEAD: [usize; 2] = [128, 768];

/// What the first cell reads: two maps, of which the first has twice the sides for ImageNet.
pub(super) fn stem(layers: &mut Layers, x: TensorId, sizes: &Sizes) -> Result<[TensorId; 2]> {
    let c = sizes.channels;
    if !sizes.imagenet {
        let stem = conv_norm(layers, ["stem.0", "stem.1"], x.into(), STEM * c, 1)?;
        return Ok([layers.builder.materialise(stem); 2]);
    }
    let half = conv_norm(layers, ["stem0.0", "stem0.1"], x.into(), c / 2, 2)?;
    let half = layers.relu(half);
    let first = conv_norm(layers, ["stem0.3", "stem0.4"], half, c, 2)?;
    let first = layers.builder.materialise(first);
    let seen = layers.relu(first.into());
    let second = conv_norm(layers, ["stem1.1", "stem1.2"], seen, c, 2)?;
    Ok([first, layers.builder.materialise(second)])
}

fn conv_norm(layers: &mut Layers, [conv, norm]: [&str; 2], x: Value, k: usize, stride: usize) -> Result<Value> {
    let y = layers.conv(conv, x, k, Geometry::square(3, stride, 1))?;
    layers.batch_norm(norm, y, true)
}

/// The pool of an auxiliary head.
fn head_pool(imagenet: bool) -> Window {
    Window { kernel: 5, stride: if imagenet { 2 } else { 3 }, padding: 0, count_include_pad: false }
}

/// Fails if an auxiliary head is wanted that these images leave no place for: behind its pool there must be 2x2 positions, of which
/// its second convolution makes one.
pub(super) fn check_auxiliary(sizes: &Sizes) -> Result<()> {
    let Sizes { auxiliary, imagenet, input: [height, width, _], .. } = *sizes;
    if !(0.0..=10.0).contains(&auxiliary) {
        return Err(Error::invalid(
            "build.auxiliary",
            format!("is {auxiliary}, expected a weight of 0 (no head) to 10"),
        ));
    }
    let (shrinks, sides) = match imagenet {
        true => (IMAGENET_SHRINKS, "of 224 or 256 pixels"),
        false => (CIFAR_SHRINKS, "of 32 to 40 pixels"),
    };
    let pooled = head_pool(imagenet).geometry().output(height / shrinks, width / shrinks);
    if auxiliary > 0.0 && pooled != Some((2, 2)) {
        let why =
            format!("asks for the auxiliary head, which needs images with sides {sides}; these have {height}x{width}");
        return Err(Error::invalid("build.auxiliary", why));
    }
    Ok(())
}

/// The logits of the auxiliary head: ReLU, average, 1x1 convolution, norm, ReLU, 2x2 convolution, norm but for ImageNet (the authors
/// keep to the networks that they published without it), ReLU, classifier.
pub(super) fn auxiliary(layers: &mut Layers, x: TensorId, sizes: &Sizes) -> Result<TensorId> {
    let part = |number: usize| format!("auxiliary_head.features.{number}");
    let seen = layers.relu(x.into());
    let pooled = layers.builder.avg_pool(&part(1), seen, head_pool(sizes.imagenet))?;
    let y = layers.conv(&part(2), pooled, HEAD[0], POINTWISE)?;
    let y = layers.batch_norm(&part(3), y, true)?;
    let y = layers.relu(y);
    let y = layers.conv(&part(5), y, HEAD[1], Geometry::square(2, 1, 0))?;
    let y = match sizes.imagenet {
        true => y.into(),
        false => layers.batch_norm(&part(6), y, true)?,
    };
    let y = layers.relu(y);
    layers.linear("auxiliary_head.classifier", y, sizes.classes)
}
