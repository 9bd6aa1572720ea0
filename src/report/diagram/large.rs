//! One architecture with all its names.

use std::fmt::Write;

use super::layout::{Row, is_arc, joins, number, sound};
use super::{Sheet, is_plain, operations, sentence, words};
use crate::report::svg::escape;
use crate::space::diagram::{ABSENT, Cell, Diagram, Node};

/// Pixels of a letter's width: 0.6 of the size of the writing.
const LETTER: f64 = 7.8;
/// Half the height of a node that has its label inside.
const HALF: f64 = 12.0;
/// Cells stand side by side up to this width.
const WIDTH: f64 = 980.0;
/// Room around everything.
const MARGIN: f64 = 12.0;
/// Room between cells that stand side by side.
const BETWEEN: f64 = 34.0;
/// Height of a cell's name, and of a label below a node.
const LINE: f64 = 20.0;
/// Least height of an arc for each node that it reaches, so that names of arcs stand one above the other, and the most.
const RISE: (f64, f64) = (28.0, 46.0);
/// The same of arcs below the row, which have no names.
const SINK: f64 = 12.0;

/// A label without the marks of an index, and the index.
fn parts(label: &str) -> (&str, &str) {
    label.strip_suffix('}').and_then(|label| label.split_once("_{")).unwrap_or((label, ""))
}

/// How wide a text is, if letters are as wide as they usually are at most.
fn extent(text: &str) -> f64 {
    let (base, index) = parts(text);
    LETTER * (base.chars().count() + index.chars().count()) as f64
}

/// Width of a node, its label inside or below.
fn node_width(node: &Node) -> f64 {
    if is_plain(node) { (extent(&node.label) + 14.0).max(2.0 * HALF) } else { extent(&node.label) }
}

/// The room that a cell takes.
struct Frame {
    row: Row,
    /// From its left edge to the middle of its first node.
    left: f64,
    /// Above and below its nodes' middles.
    above: f64,
    below: f64,
    width: f64,
}

impl Frame {
    /// Of a cell whose left upper edge is where everything begins.
    fn new(cell: &Cell) -> Self {
        let widest = cell.nodes.iter().map(node_width).fold(24.0, f64::max);
        // A name stands in the middle between two nodes, so the wider one decides.
        let wider = |from: usize, to: usize| f64::max(node_width(&cell.nodes[from]), node_width(&cell.nodes[to]));
        let straight = operations(cell).filter(|(edge, copy)| !is_arc(edge, *copy));
        let straight = straight.map(|(edge, _)| wider(edge.from, edge.to) + extent(&edge.operation) + 12.0);
        let arcs = operations(cell).map(|(edge, _)| extent(&edge.operation) + 14.0);
        let pitch = straight.chain(arcs).fold(widest + 14.0, f64::max).ceil();
        let steps = cell.nodes.len().saturating_sub(1);
        let rise = (200.0 / steps.max(1) as f64).clamp(RISE.0, RISE.1);
        let boxes = cell.nodes.iter().any(|node| node.height.is_some());
        let tallest = if boxes { 44.0 } else { 0.0 };
        let row = Row { x: 0.0, y: 0.0, pitch, rise, sink: SINK, bend: 1.0, tallest, wide: (0.7 * pitch).min(40.0) };
        let heights = || sound(cell).map(|(edge, copy)| row.middle(edge, copy).1);
        let half = HALF.max(tallest / 2.0);
        let labels = cell.nodes.iter().any(|node| !is_plain(node));
        let foot = half + if labels { LINE } else { 4.0 };
        let left = widest / 2.0 + 2.0;
        let name = extent(&cell.name) * 1.1;
        Frame {
            left,
            above: LINE + heights().fold(half + 4.0, |most, y| f64::max(most, 12.0 - y)),
            below: heights().fold(foot, |most, y| f64::max(most, y + 6.0)),
            width: f64::max(2.0 * left + steps as f64 * pitch, name),
            row,
        }
    }

    fn height(&self) -> f64 {
        self.above + self.below
    }
}

/// The whole of it.
pub(super) fn draw(sheet: &mut Sheet, diagram: &Diagram) -> String {
    let frames: Vec<Frame> = diagram.cells.iter().map(Frame::new).collect();
    let several = frames.len() > 1;
    let (mut x, mut y, mut line, mut widest) = (MARGIN, MARGIN, 0.0, 0.0);
    let mut body = String::new();
    for (cell, mut frame) in diagram.cells.iter().zip(frames) {
        if x > MARGIN && x + frame.width > WIDTH {
            (x, y, line) = (MARGIN, y + line + LINE, 0.0);
        }
        (frame.row.x, frame.row.y) = (x + frame.left, y + frame.above);
        if several {
            let _ = write!(
                body,
                "<text class=\"t name\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(y + 12.0),
                escape(&cell.name)
            );
        }
        body += &edges(sheet, cell, &frame.row);
        body += &nodes(sheet, cell, &frame.row);
        widest = f64::max(widest, x + frame.width);
        line = f64::max(line, frame.height());
        x += frame.width + BETWEEN;
    }
    let (width, height) = (number(widest + MARGIN), number(y + line + MARGIN));
    format!(
        "<svg class=\"large\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\
         <title>{}</title>{body}</svg>\n",
        escape(&sentence(diagram))
    )
}

/// All edges, and over them their names.
fn edges(sheet: &mut Sheet, cell: &Cell, row: &Row) -> String {
    let (mut lines, mut names) = (String::new(), String::new());
    // What is not there lies lowest.
    let rank = |operation: &str| match operation {
        ABSENT => 0,
        "" => 1,
        _ => 2,
    };
    let mut all: Vec<_> = joins(cell).chain(operations(cell)).collect();
    all.sort_by_key(|(edge, _)| rank(&edge.operation));
    for (edge, copy) in all {
        let what = if edge.operation.is_empty() { "passed on" } else { &edge.operation };
        let ends = [edge.from, edge.to].map(|at| words(&cell.nodes[at].label));
        let title = format!("{}: {} from {} to {}", words(&cell.name), words(what), ends[0], ends[1]);
        let (class, path) = (sheet.line(edge), row.path(edge, copy));
        let _ = write!(lines, "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path>", escape(&title));
        let (x, y) = row.middle(edge, copy);
        let class = if edge.operation == ABSENT { "t halo dim" } else { "t halo" };
        names += &text(class, x, y + 4.0, &edge.operation);
    }
    lines + &names
}

/// All nodes, with their labels.
fn nodes(sheet: &mut Sheet, cell: &Cell, row: &Row) -> String {
    let mut drawn = String::new();
    for (at, node) in cell.nodes.iter().enumerate() {
        let (x, class) = (row.at(at), sheet.area(node));
        if is_plain(node) {
            let width = node_width(node);
            let [left, top, wide, tall] = [x - width / 2.0, row.y - HALF, width, 2.0 * HALF].map(number);
            let _ = write!(
                drawn,
                "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{tall}\" rx=\"{HALF}\"/>"
            );
            drawn += &text("t", x, row.y + 4.0, &node.label);
        } else {
            drawn += &row.mark(at, node, &class);
            drawn += &text("t halo", x, row.y + row.tallest.max(2.0 * 9.0) / 2.0 + 15.0, &node.label);
        }
    }
    drawn
}

/// A text around a place, with its index a little lower; nothing for none.
fn text(class: &str, x: f64, y: f64, what: &str) -> String {
    if what.is_empty() {
        return String::new();
    }
    let (base, index) = parts(what);
    let index = match index {
        "" => String::new(),
        index => format!("<tspan dy=\"3\" font-size=\"10\">{}</tspan>", escape(index)),
    };
    format!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}{index}</text>", number(x), number(y), escape(base))
}
