//! Parameters and multiply-adds of any network, counted from its graph.

use serde::{Deserialize, Serialize};

use super::{Layers, Model};
use crate::error::Result;
use crate::graph::{Op, Role, Shape, Statistics};

/// What a network costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
}

/// Values of all weight tensors, and the multiply-adds of convolutions and linear layers for one image; norms, pools, sums and
/// biases count nothing there.
///
/// # Errors
/// If the model's shapes do not fit.
pub fn cost(model: &dyn Model) -> Result<Cost> {
    let mut layers = Layers::new(Statistics::Running)?;
    let (x, _) = layers.batch(1, model.input())?;
    model.forward(&mut layers, x)?;
    let graph = layers.builder.finish();
    let macs = graph.nodes.iter().map(|node| match node.op {
        Op::Conv { w, y, .. } => match (graph.shape(w), graph.shape(y)) {
            (Shape::Filter { r, s, c, .. }, y) => {
                [r, s, c, y.len()].into_iter().fold(1, |product: u64, n| product.saturating_mul(n as u64))
            }
            _ => 0,
        },
        _ => 0,
    });
    let params = graph.persistent(Role::Weights).map(|(id, _)| graph.shape(id).len() as u64);
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    Ok(Cost { params: sum(&mut { params }), macs: sum(&mut { macs }) })
}
