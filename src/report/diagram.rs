//! Architectures drawn as graphs, in SVG that stands within a page.
//!
//! A cell's nodes stand in a row, and edges are arcs above it, the higher the further they reach; edges that pass things on as they
//! are run below. Small drawings ([`Sheet::small`]) are for tables of very many: each shape is written once, in the page's
//! [`Sheet::definitions`], and drawings name it. A large one ([`Sheet::large`]) has names at everything.
//!
//! Drawings have no colours, but classes, for which [`STYLE`] has rules; the page says what the colours are.

use std::collections::HashMap;
use std::fmt::Write;

use super::svg::escape;
use crate::space::diagram::{ABSENT, Cell, Diagram, Edge, Node};

mod large;
mod layout;

use layout::{Row, joins, number, sound};

/// Colours there are; words beyond them have the same ones again, with dashes.
pub const COLOURS: usize = 8;

/// Rules for the classes of drawings: `s0` to `s7` draw lines and `f0` to `f7` fill dots and boxes in a colour, `dash` is for words
/// beyond these, `l` for what has no operation, `faint` for what is not there, `n` for nodes without a kind, `t` for text. The page
/// sets the variables `--c0` to `--c7`, `--ink` and `--ground`.
pub const STYLE: &str = "\
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}\
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}\
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}\
.f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}\
.s0,.s1,.s2,.s3,.s4,.s5,.s6,.s7,.l,.faint{fill:none;stroke-width:var(--line,1.7px);stroke-linecap:round}\
.l{stroke:var(--ink);stroke-opacity:.4;stroke-width:1px}\
.faint{stroke:var(--ink);stroke-opacity:.22;stroke-width:1px}\
.dash{stroke-dasharray:4 3;stroke-linecap:butt}circle.dash,rect.dash{stroke:var(--ink)}\
.n{fill:var(--ground);stroke:var(--ink);stroke-width:1px}\
.large{--line:2.5px;font:13px sans-serif}.large .l{stroke-width:1.5px}\
.large text{text-anchor:middle}.large .name{text-anchor:start;font-weight:bold}\
.t{fill:var(--ink)}.dim{fill-opacity:.6}\
.halo{stroke:var(--ground);stroke-width:10px;stroke-linejoin:round;paint-order:stroke}\
.shapes{position:absolute}
";

/// Height of small drawings, in pixels.
const HEIGHT: f64 = 44.0;
/// How wide small drawings are, unless their nodes are few.
const WIDTH: f64 = 200.0;
/// Most pixels from a node to the next one.
const WIDEST: f64 = 34.0;
/// Room at the sides.
const MARGIN: f64 = 7.0;
/// Room between cells, besides that of a node.
const BETWEEN: f64 = 6.0;
/// Heights of arcs grow as this power of how far they reach, so that short ones are seen too.
const BEND: f64 = 0.75;
/// With more edges than this, those that lead into a node are one shape: names of shapes would be most of a drawing.
const CROWDED: usize = 20;
/// A small drawing has its words as a title if it stays below as many bytes.
const TITLED: usize = 420;

/// The drawings of one page.
#[derive(Debug, Default)]
pub struct Sheet {
    words: Vec<String>,
    shapes: Vec<String>,
    known: HashMap<String, usize>,
}

/// Names of a class for an operation or a kind, of lines (`s`) or areas (`f`), by its place in the legend. Those from
/// [`COLOURS`] on have dashes.
pub fn class(letter: char, place: usize) -> String {
    let dash = if place < COLOURS { "" } else { " dash" };
    format!("{letter}{}{dash}", place % COLOURS)
}

impl Sheet {
    /// A drawing for a table. Its shapes are in [`Sheet::definitions`], which a page has once, and after all drawings were made.
    pub fn small(&mut self, diagram: &Diagram) -> String {
        let rows = rows(diagram);
        let crowded = diagram.cells.iter().map(|cell| operations(cell).count()).sum::<usize>() > CROWDED;
        let mut body = String::new();
        for (cell, mut row) in diagram.cells.iter().zip(rows) {
            // Where shapes are many, cells share theirs, and are moved.
            let moved = if crowded { row.x - MARGIN } else { 0.0 };
            row.x -= moved;
            if moved > 0.0 {
                let _ = write!(body, "<g transform=\"translate({})\">", number(moved));
            }
            let shapes = self.cell(cell, &row, crowded);
            shapes.into_iter().for_each(|shape| body += &used(shape));
            body += if moved > 0.0 { "</g>" } else { "" };
        }
        let width = number(width(diagram));
        let open = format!("<svg viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\">");
        let title = format!("<title>{}</title>", escape(&sentence(diagram)));
        let titled = open.len() + title.len() + body.len() + "</svg>".len() <= TITLED;
        format!("{open}{}{body}</svg>", if titled { &title } else { "" })
    }

    /// A drawing that has names at its nodes and edges, and says in words what the pointer is at.
    pub fn large(&mut self, diagram: &Diagram) -> String {
        large::draw(self, diagram)
    }

    /// What small drawings are made of, as a picture that is not seen.
    pub fn definitions(&self) -> String {
        format!(
            "<svg class=\"shapes\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>{}</defs></svg>\n",
            self.shapes.concat()
        )
    }

    /// The words of all drawings until now, each with its number, in the order of their first use; [`class`] says how it looks.
    pub fn legend(&self) -> Vec<(String, usize)> {
        self.words.iter().cloned().zip(0..).collect()
    }

    /// The numbers of a cell's shapes, from the lowest one.
    fn cell(&mut self, cell: &Cell, row: &Row, crowded: bool) -> Vec<usize> {
        let mut list = vec![];
        let lines: String = joins(cell).map(|(edge, copy)| row.path(edge, copy)).collect();
        if !lines.is_empty() {
            list.push(self.shape("path", &format!(" class=\"l\" d=\"{lines}\"/>")));
        }
        let mut arcs: Vec<(usize, usize)> = vec![];
        for (edge, copy) in operations(cell) {
            let rest = format!(" class=\"{}\" d=\"{}\"/>", self.line(edge), row.path(edge, copy));
            arcs.push((edge.to, self.shape("path", &rest)));
        }
        if crowded {
            arcs.sort_by_key(|(to, _)| *to);
            for into in arcs.chunk_by(|a, b| a.0 == b.0) {
                let uses: String = into.iter().map(|(_, shape)| used(*shape)).collect();
                list.push(self.shape("g", &format!(">{uses}</g>")));
            }
        } else {
            list.extend(arcs.into_iter().map(|(_, shape)| shape));
        }
        let (plain, others): (Vec<_>, Vec<_>) = cell.nodes.iter().enumerate().partition(|(_, node)| is_plain(node));
        if !plain.is_empty() {
            let dots: String = plain.into_iter().map(|(at, _)| row.dot(at, "t", 2.4)).collect();
            list.push(self.shape("g", &format!(">{dots}</g>")));
        }
        for (at, node) in others {
            let class = self.area(node);
            let mark = row.mark(at, node, &class);
            let (tag, rest) = mark.split_at(mark.find(' ').unwrap_or(0));
            list.push(self.shape(tag.trim_start_matches('<'), rest));
        }
        list
    }

    /// The number of a shape, which is defined if it is new.
    fn shape(&mut self, tag: &str, rest: &str) -> usize {
        let next = self.shapes.len();
        let number = *self.known.entry(format!("{tag}{rest}")).or_insert(next);
        if number == next {
            self.shapes.push(format!("<{tag} id=\"d{number}\"{rest}"));
        }
        number
    }

    /// The place of a word in the legend.
    fn place(&mut self, word: &str) -> usize {
        self.words.iter().position(|own| own == word).unwrap_or_else(|| {
            self.words.push(word.to_owned());
            self.words.len() - 1
        })
    }

    /// The class of an edge.
    fn line(&mut self, edge: &Edge) -> String {
        match &edge.operation[..] {
            "" => "l".into(),
            ABSENT => "faint".into(),
            word => class('s', self.place(word)),
        }
    }

    /// The class of a node.
    fn area(&mut self, node: &Node) -> String {
        match node.kind.as_deref() {
            None => "n".into(),
            Some(ABSENT) => "faint".into(),
            Some(word) => class('f', self.place(word)),
        }
    }
}

/// A shape where it is defined to be.
fn used(shape: usize) -> String {
    format!("<use href=\"#d{shape}\"/>")
}

/// Whether a node is a dot as any other.
fn is_plain(node: &Node) -> bool {
    node.kind.is_none() && node.height.is_none()
}

/// Edges that do something, or nothing at all.
fn operations(cell: &Cell) -> impl Iterator<Item = (&Edge, usize)> {
    sound(cell).filter(|(edge, _)| !edge.operation.is_empty())
}

/// How many nodes a cell has room for.
fn places(cell: &Cell) -> usize {
    cell.places.max(cell.nodes.len()).max(1)
}

/// Pixels from a node to the next one in a small drawing.
fn pitch(diagram: &Diagram) -> f64 {
    let steps = diagram.cells.iter().map(places).sum::<usize>().max(2) - 1;
    let gaps = diagram.cells.len().saturating_sub(1) as f64 * BETWEEN;
    let pitch = ((WIDTH - 2.0 * MARGIN - gaps) / steps as f64).min(WIDEST);
    // Numbers with few digits.
    ((4.0 * pitch).floor() / 4.0).max(1.0)
}

fn width(diagram: &Diagram) -> f64 {
    let steps = diagram.cells.iter().map(places).sum::<usize>().max(1) - 1;
    2.0 * MARGIN + steps as f64 * pitch(diagram) + diagram.cells.len().saturating_sub(1) as f64 * BETWEEN
}

/// Where the cells of a small drawing lie, side by side.
fn rows(diagram: &Diagram) -> Vec<Row> {
    let arcs = diagram.cells.iter().any(|cell| operations(cell).any(|(edge, copy)| layout::is_arc(edge, copy)));
    let below = diagram.cells.iter().any(|cell| joins(cell).any(|(edge, copy)| layout::is_arc(edge, copy)));
    let (y, tallest) = match (arcs, below) {
        (false, false) => (HEIGHT / 2.0, HEIGHT - 8.0),
        (true, false) => (HEIGHT - 6.0, 10.0),
        (false, true) => (8.0, 10.0),
        (true, true) => (HEIGHT - 12.0, 10.0),
    };
    let (pitch, mut x) = (pitch(diagram), MARGIN);
    let row = |cell: &Cell| {
        let steps = (places(cell).max(3) - 1) as f64;
        // What leads to a last node that joins others reaches furthest, and runs below.
        let reach = if below { (steps - 1.0).max(2.0) } else { steps };
        let (rise, sink) = ((y - 3.0) / reach.powf(BEND), (HEIGHT - y - 3.0) / steps.powf(BEND));
        let row = Row { x, y, pitch, rise, sink, bend: BEND, tallest, wide: (0.7 * pitch).min(2.0 * MARGIN - 2.0) };
        x += places(cell) as f64 * pitch + BETWEEN;
        row
    };
    diagram.cells.iter().map(row).collect()
}

/// A name as it is read out: without underscores and the marks of an index.
fn words(name: &str) -> String {
    name.replace("_{", " ").replace('}', "").replace('_', " ")
}

/// What there is, and how often.
fn sentence(diagram: &Diagram) -> String {
    let cell = |cell: &Cell| {
        let kinds = cell.nodes.iter().filter_map(|node| node.kind.as_deref());
        let mut counts: Vec<(&str, usize)> = vec![];
        for word in operations(cell).map(|(edge, _)| &edge.operation[..]).chain(kinds) {
            match counts.iter_mut().find(|(own, _)| *own == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        let mut list: Vec<String> = counts.iter().map(|(word, count)| format!("{count} x {}", words(word))).collect();
        if list.is_empty() {
            list.extend(cell.nodes.iter().map(|node| words(&node.label)));
        }
        format!("{}: {}", words(&cell.name), list.join(", "))
    };
    diagram.cells.iter().map(cell).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
