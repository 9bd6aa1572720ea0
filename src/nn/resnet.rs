//! ResNet-50 (He et al. 2016, Deep Residual Learning for Image Recognition, table 1), with the stride in the 3x3 convolution
//! as torchvision has it, and its tensor names. No search space: what public benchmarks time, and an example of how a network is
//! put together from [`Layers`].

use super::{Heads, Layers, Model};
use crate::error::Result;
use crate::graph::{Geometry, TensorId, Value, Window};

/// Blocks of each stage, and the channels between their 1x1 convolutions.
const STAGES: [(usize, usize); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// Channels that leave a block, as a multiple of those within.
const EXPANSION: usize = 4;
const POOL: Window = Window { kernel: 3, stride: 2, padding: 1, count_include_pad: false };

/// The network; 25,557,032 weights with 1,000 classes.
#[derive(Clone, Copy, Debug)]
pub struct ResNet50 {
    /// Rows and columns of the images, which have three channels.
    pub side: usize,
    /// Number of classes.
    pub classes: usize,
}

impl Model for ResNet50 {
    fn input(&self) -> [usize; 3] {
        [self.side, self.side, 3]
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let x = conv_norm(layers, ["conv1", "bn1"], x.into(), 64, Geometry::square(7, 2, 3))?;
        let x = layers.relu(x);
        let mut x: Value = layers.builder.max_pool("maxpool", x, POOL)?.into();
        for (stage, (blocks, width)) in STAGES.into_iter().enumerate() {
            layers.stage = stage;
            for number in 0..blocks {
                let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                x = bottleneck(layers, &format!("layer{}.{number}", stage + 1), x, width, stride)?;
            }
            layers.feature(x.tensor, true);
        }
        layers.anatomy.last_map = Some(x.tensor);
        let pooled = layers.builder.global_avg_pool(x);
        layers.feature(pooled, false);
        layers.stage = STAGES.len();
        Ok(layers.linear("fc", pooled, self.classes)?.into())
    }
}

/// A convolution without bias and its batch norm, which the next layer applies while it loads.
fn conv_norm(layers: &mut Layers, [conv, norm]: [&str; 2], x: Value, k: usize, geometry: Geometry) -> Result<Value> {
    let y = layers.conv(conv, x, k, geometry)?;
    layers.batch_norm(norm, y, true)
}

/// `relu(branch(x) + shortcut(x))`, figure 5 of the paper. The sum is written once; its rectifier is a view.
fn bottleneck(layers: &mut Layers, name: &str, x: Value, width: usize, stride: usize) -> Result<Value> {
    let geometries = [Geometry::square(1, 1, 0), Geometry::square(3, stride, 1), Geometry::square(1, 1, 0)];
    let mut branch = x;
    for (i, (geometry, k)) in geometries.into_iter().zip([width, width, EXPANSION * width]).enumerate() {
        if i > 0 {
            branch = layers.relu(branch);
        }
        let names = [format!("{name}.conv{}", i + 1), format!("{name}.bn{}", i + 1)];
        branch = conv_norm(layers, [&names[0], &names[1]], branch, k, geometry)?;
    }
    let mut shortcut = x;
    if layers.builder.seen_shape(x) != layers.builder.seen_shape(branch) {
        let names = [format!("{name}.downsample.0"), format!("{name}.downsample.1")];
        let geometry = Geometry::square(1, stride, 0);
        shortcut = conv_norm(layers, [&names[0], &names[1]], x, EXPANSION * width, geometry)?;
    }
    let terms = vec![layers.builder.term(branch), layers.builder.term(shortcut)];
    let sum = layers.builder.sum(layers.builder.seen_shape(branch), terms);
    Ok(layers.relu(sum.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Role, Statistics};

    /// The counts that torchvision gives for its `resnet50`.
    #[test]
    fn has_as_many_weights_as_torchvisions() {
        let model = ResNet50 { side: 64, classes: 1000 };
        let mut layers = Layers::new(Statistics::Running).unwrap();
        let (x, _) = layers.batch(1, model.input()).unwrap();
        let logits = model.forward(&mut layers, x).unwrap().logits;
        let graph = layers.builder.finish();
        assert_eq!(graph.shape(logits).channels(), 1000);
        let (mut weights, mut tensors) = (0, 0);
        for (id, _) in graph.persistent(Role::Weights) {
            weights += graph.shape(id).len();
            tensors += 1;
        }
        assert_eq!((weights, tensors), (25_557_032, 161));
        assert!(graph.persistent(Role::Weights).any(|(_, info)| info.name == "layer3.0.downsample.0.weight"));
    }
}
