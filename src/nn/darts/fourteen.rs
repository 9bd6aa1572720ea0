//! Networks of the cells that CRoZe searches ([`crate::space::darts::fourteen`]), between the stems and heads of DARTS's own.
//!
//! Nodes that no output reads have their weights and statistics, as in the authors' networks, so that files and numbers of parameters
//! are the same; but nothing is computed of them, so they count no multiply-adds and their gradients are zeros. A 1x7 convolution with a
//! stride is computed in full, and counts twice the authors' multiply-adds.

use super::{Node, Place, Sizes, check, defaults, module, recognise, skeleton};
use crate::error::{Error, Result};
use crate::graph::{Role, Shape, TensorId};
use crate::nn::space::{Build, ImageInfo, Networks, Purpose};
use crate::nn::tensors::Named;
use crate::nn::{Heads, Layers, Model};
use crate::space::Arch;
use crate::space::darts::fourteen::{Cell, Darts14, Genotype, NODES};

/// The forms of its authors.
const FORMS: [&str; 2] = ["cifar", "imagenet"];

/// One architecture.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its cells.
    pub genotype: Genotype,
    /// Sizes around them.
    pub sizes: Sizes,
}

impl Networks for Darts14 {
    fn forms(&self) -> &[&str] {
        &FORMS
    }

    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build {
        defaults(purpose, images)
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        check(build)
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network { genotype: arch.try_into()?, sizes: Sizes::of(build)? }))
    }

    fn module(&self, form: &str) -> Option<&'static str> {
        module(form)
    }

    fn recognise(&self, tensors: &Named, build: &mut Build) {
        recognise(tensors, build);
    }
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        self.sizes.input
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        skeleton(layers, x, &self.sizes, &mut |layers, place, inputs| {
            let cell = if place.is_reduction { &self.genotype.reduce } else { &self.genotype.normal };
            let [n, h, w, c] = layers.builder.shape(inputs[0]).nhwc();
            let halves = if place.is_reduction { 2 } else { 1 };
            let inner = Shape::map(n, h / halves, w / halves, c);
            // Nodes that are not computed stand among the states as the first input, and nobody reads them.
            let mut states = inputs.to_vec();
            for (number, (inputs, is_read)) in cell.nodes().iter().zip(read(cell)).enumerate() {
                let node = Node { number, inputs, norms_behind_pools: false };
                let state = match is_read {
                    true => node.append(layers, place, &states)?,
                    false => {
                        leave_idle(layers, place, &node, inner, &states[..2])?;
                        states[0]
                    }
                };
                states.push(state);
            }
            let joined = cell.joined.iter().map(|joined| states.get(*joined).copied());
            let none = || Error::shape(place.name.as_str(), "nodes 2 to 8 to join", format!("{:?}", cell.joined));
            joined.collect::<Option<_>>().ok_or_else(none)
        })
    }
}

/// Which nodes the output reads, directly or through others.
fn read(cell: &Cell) -> [bool; NODES] {
    let (mut read, nodes) = ([false; NODES], cell.nodes());
    for joined in cell.joined.iter().filter_map(|joined| joined.checked_sub(2)) {
        read.get_mut(joined).into_iter().for_each(|is_read| *is_read = true);
    }
    // Nodes read earlier ones alone.
    for node in (0..NODES).rev() {
        for (_, source) in nodes[node] {
            if read[node] && source >= 2 {
                read[source - 2] = true;
            }
        }
    }
    read
}

/// Appends what a node keeps, and none of what it would do: it is built in a graph of its own, whose weights and statistics are taken.
fn leave_idle(layers: &mut Layers, place: &Place, node: &Node, inner: Shape, inputs: &[TensorId]) -> Result<()> {
    let mut aside = Layers::new(layers.statistics)?;
    (aside.norms, aside.keeps_norms) = (layers.norms, layers.keeps_norms);
    let shapes = inputs.iter().map(|&input| layers.builder.shape(input)).chain([inner; NODES]);
    let states: Vec<TensorId> = shapes.map(|shape| aside.builder.temporary(shape)).collect();
    node.append(&mut aside, place, &states)?;
    let graph = aside.builder.finish();
    for (id, own) in graph.persistent(Role::Weights) {
        layers.weight(&own.name, graph.shape(id), own.init, &own.dims)?;
    }
    for (id, own) in graph.persistent(Role::Running) {
        layers.builder.persistent(Role::Running, &own.name, graph.shape(id), own.init, &own.dims)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "fourteen_tests.rs"]
mod tests;
