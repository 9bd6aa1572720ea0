//! Architectures as graphs to look at: plain data that says nothing of places and colours, which whoever draws decides.

use super::{Arch, Gene, GeneKind};

/// The operation of an edge that passes nothing on.
pub const ABSENT: &str = "none";

/// An architecture to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagram {
    /// Its parts, in the order in which data passes through them.
    pub cells: Vec<Cell>,
}

/// A part of an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// What it is called.
    pub name: String,
    /// In topological order.
    pub nodes: Vec<Node>,
    /// From earlier nodes to later ones.
    pub edges: Vec<Edge>,
    /// Most nodes that this part has in any architecture, so that drawings of one space line up.
    pub places: usize,
}

/// What edges begin and end at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// What is written at it. `c_{k}` has an index.
    pub label: String,
    /// The word of the legend that colours it.
    pub kind: Option<String>,
    /// How tall a box it is, in percent of the tallest; no box but a dot, if there is no such quantity.
    pub height: Option<u8>,
}

/// What passes from a node to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The place of the node that it begins at among [`Cell::nodes`].
    pub from: usize,
    /// The place of a later one.
    pub to: usize,
    /// The word of the legend that colours it; [`ABSENT`] for none, nothing for what passes as it is.
    pub operation: String,
}

impl Node {
    /// A dot without a colour.
    pub fn plain(label: impl Into<String>) -> Self {
        Node { label: label.into(), ..Node::default() }
    }
}

impl Edge {
    /// Of an operation.
    pub fn new(from: usize, to: usize, operation: impl Into<String>) -> Self {
        Edge { from, to, operation: operation.into() }
    }
}

/// What can be said of any space: a node for each gene, coloured by its value, and a box where values are steps of a quantity.
pub(super) fn of_genes(space: &str, genes: &[Gene], arch: &Arch) -> Diagram {
    let counts = |(gene, _): &(&Gene, &u8)| gene.kind != GeneKind::Notation;
    let node = |(gene, &value): (&Gene, &u8)| {
        // The least of them is a box still.
        let percent = |value: u8| 100 * (u32::from(value) + 1) / u32::from(gene.options.max(1));
        Node {
            label: value.to_string(),
            kind: Some(value.to_string()),
            height: (gene.kind == GeneKind::Level).then(|| percent(value).min(100) as u8),
        }
    };
    let nodes: Vec<Node> = genes.iter().zip(arch.iter()).filter(counts).map(node).collect();
    Diagram { cells: vec![Cell { name: space.to_owned(), places: nodes.len(), nodes, edges: vec![] }] }
}

#[cfg(test)]
mod tests;
