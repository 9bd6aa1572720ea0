//! What passes left, by name: in PyTorch's order, or as it lay on the device.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::graph::Shape;
use crate::nn::tensors::to_torch;

/// Values of many tensors, one after the other, as they lie on the device.
pub(super) type Block = Box<dyn AsRef<[f32]> + Send + Sync>;

/// What names of layers' outputs begin with. They are large, and are left channels last.
pub(super) const OUTPUT: &str = "output.";

/// Values without padding, in the order that their name promises.
fn in_order(name: &str, shape: Shape, stored: &[f32]) -> Vec<f32> {
    let logical = |stored: &[f32]| -> Vec<f32> {
        let mut values = Vec::with_capacity(shape.len());
        shape.storage_indices().for_each(|i| values.push(stored[i]));
        values
    };
    match name.starts_with(OUTPUT) {
        // Without padding they lie as they should.
        true if shape.len() == stored.len() => stored.to_vec(),
        true => logical(stored),
        false => to_torch(shape, &logical(stored)),
    }
}

/// What a pass left of one network.
pub struct Left {
    /// Those of all networks of the population.
    blocks: Arc<Vec<Block>>,
    parts: Parts,
}

/// Where one network's tensors lie in the blocks.
#[derive(Default)]
pub(super) struct Parts(HashMap<String, Part>);

struct Part {
    shape: Shape,
    block: usize,
    /// Its first value there.
    first: usize,
    ordered: OnceLock<Vec<f32>>,
}

impl Parts {
    pub fn add(&mut self, name: &str, shape: Shape, block: usize, first: usize) {
        self.0.insert(name.to_owned(), Part { shape, block, first, ordered: OnceLock::new() });
    }
}

impl Left {
    pub(super) fn new(blocks: Arc<Vec<Block>>, parts: Parts) -> Self {
        Left { blocks, parts }
    }

    /// A tensor in PyTorch's order: filters `O, I, H, W`, maps `N, C, H, W`.
    pub fn get(&self, name: &str) -> Option<&Vec<f32>> {
        let part = self.parts.0.get(name)?;
        Some(part.ordered.get_or_init(|| in_order(name, part.shape, self.stored_part(part))))
    }

    /// A tensor as it lies on the device, with zeros as padding: for sums, whose order does not matter.
    pub fn stored(&self, name: &str) -> Option<&[f32]> {
        self.parts.0.get(name).map(|part| self.stored_part(part))
    }

    fn stored_part(&self, part: &Part) -> &[f32] {
        let block = (*self.blocks[part.block]).as_ref();
        &block[part.first..part.first + part.shape.vec4s() * 4]
    }

    /// Brings all tensors into PyTorch's order, on all cores.
    pub fn order(&self) {
        self.parts.0.par_iter().for_each(|(name, _)| {
            self.get(name);
        });
    }
}
