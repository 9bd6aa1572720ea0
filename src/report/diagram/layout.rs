//! Where nodes and edges of a cell lie.

use crate::space::diagram::{Cell, Edge, Node};

/// A cell's nodes in a row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Of the first node.
    pub x: f64,
    /// Of all nodes.
    pub y: f64,
    /// From a node to the next one.
    pub pitch: f64,
    /// Height of an arc for each node that it reaches.
    pub rise: f64,
    /// The same of arcs below the row.
    pub sink: f64,
    /// The power of reaches that both are for.
    pub bend: f64,
    /// Height of the tallest box.
    pub tallest: f64,
    /// Width of boxes.
    pub wide: f64,
}

/// In few characters, with at most one digit after the point.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// The edges between nodes that there are, each with how many there were between the same ones before.
pub(super) fn sound(cell: &Cell) -> impl Iterator<Item = (&Edge, usize)> {
    let exists = |edge: &Edge| edge.from != edge.to && edge.from.max(edge.to) < cell.nodes.len();
    let ends = |edge: &Edge| (edge.from.min(edge.to), edge.from.max(edge.to));
    let copies =
        move |at: usize, edge: &Edge| cell.edges[..at].iter().filter(|other| ends(other) == ends(edge)).count();
    cell.edges.iter().enumerate().filter(move |(_, edge)| exists(edge)).map(move |(at, edge)| (edge, copies(at, edge)))
}

/// Those of these that pass on what they get.
pub(super) fn joins(cell: &Cell) -> impl Iterator<Item = (&Edge, usize)> {
    sound(cell).filter(|(edge, _)| edge.operation.is_empty())
}

/// Whether an edge leaves the row: all but the first one between neighbours.
pub(super) fn is_arc(edge: &Edge, copy: usize) -> bool {
    edge.from.abs_diff(edge.to) > 1 || copy > 0
}

impl Row {
    /// Where a node is.
    pub fn at(&self, node: usize) -> f64 {
        self.x + node as f64 * self.pitch
    }

    /// By how much the middle of an edge lies above the row.
    fn height(&self, edge: &Edge, copy: usize) -> f64 {
        if !is_arc(edge, copy) {
            return 0.0;
        }
        let reach = (edge.from.abs_diff(edge.to) as f64 + 0.35 * copy as f64).powf(self.bend);
        if edge.operation.is_empty() { -self.sink * reach } else { self.rise * reach }
    }

    /// The middle of an edge.
    pub fn middle(&self, edge: &Edge, copy: usize) -> (f64, f64) {
        ((self.at(edge.from) + self.at(edge.to)) / 2.0, self.y - self.height(edge, copy))
    }

    /// An edge as the data of a path. Of arcs that begin at a node, those that reach further begin steeper, and so lie above the others.
    pub fn path(&self, edge: &Edge, copy: usize) -> String {
        let (from, to) = (self.at(edge.from.min(edge.to)), self.at(edge.from.max(edge.to)));
        let y = number(self.y);
        if !is_arc(edge, copy) {
            return format!("M{} {y}H{}", number(from), number(to));
        }
        // The middle of such a curve lies three quarters of the way to the points that pull it.
        let pull = number(self.y - self.height(edge, copy) * 4.0 / 3.0);
        let side = 0.4 * self.pitch;
        let [a, b, from, to] = [from + side, to - side, from, to].map(number);
        format!("M{from} {y}C{a} {pull} {b} {pull} {to} {y}")
    }

    /// A node as a dot.
    pub fn dot(&self, node: usize, class: &str, radius: f64) -> String {
        let [x, y, radius] = [self.at(node), self.y, radius].map(number);
        format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>")
    }

    /// Width and height of a node's box; `None` for a dot.
    pub fn size(&self, node: &Node) -> Option<(f64, f64)> {
        Some((self.wide, self.tallest * f64::from(node.height?.min(100)) / 100.0))
    }

    /// A node as a box, if it has a height, or a dot.
    pub fn mark(&self, at: usize, node: &Node, class: &str) -> String {
        let Some((width, height)) = self.size(node) else {
            return self.dot(at, class, (0.35 * self.wide).clamp(1.0, 9.0));
        };
        let [x, y, width, height] = [self.at(at) - width / 2.0, self.y - height / 2.0, width, height].map(number);
        format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"1.5\"/>")
    }
}
