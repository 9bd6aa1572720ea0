//! NAS-Bench-201 (Dong and Yang, ICLR 2020): a cell of four nodes and six edges, five operations each.
//!
//! An architecture is written `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`: the nodes 1 to 3, each with its
//! incoming edges and their source nodes. Six operation codes in the same order (`303101`) are read too.
//! The [index](Cell::index) here is lexicographic in these codes; the benchmark's own numbering is a fixed
//! shuffled order, which only its tables know.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::diagram::{self, Diagram, Edge, Node};
use super::{Arch, Gene, Space, shorten};
use crate::error::{Error, Result, unknown};

mod count;
pub use count::{Macro, conv_macs, macs, params};

/// What an edge computes. The discriminant is the code, in the benchmark's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Zeros: no connection.
    None = 0,
    /// The identity.
    SkipConnect = 1,
    /// ReLU, 1x1 convolution, batch norm.
    Conv1x1 = 2,
    /// ReLU, 3x3 convolution, batch norm.
    Conv3x3 = 3,
    /// 3x3 average with stride 1; padding is not counted.
    AvgPool3x3 = 4,
}

impl Op {
    /// All operations, by code.
    pub const ALL: [Op; 5] = [Op::None, Op::SkipConnect, Op::Conv1x1, Op::Conv3x3, Op::AvgPool3x3];
    /// Their names, by code.
    pub const NAMES: [&'static str; 5] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];

    /// 0 to 4.
    pub fn code(self) -> usize {
        self as usize
    }

    /// The operation of a code below 5.
    pub fn from_code(code: usize) -> Option<Op> {
        Op::ALL.get(code).copied()
    }

    /// The benchmark's name.
    pub fn name(self) -> &'static str {
        Op::NAMES[self.code()]
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let code = Op::NAMES.iter().position(|name| *name == text);
        code.and_then(Op::from_code).ok_or_else(|| unknown("operation", &shorten(text), &Op::NAMES))
    }
}

/// Source and target node of each edge, in the order of the string.
pub const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];

/// How many architectures there are: five to the sixth.
pub const SIZE: usize = 15_625;

/// How many of them differ, see [`Cell::canonical`].
pub const CLASSES: usize = 6_466;

/// An architecture: the operation on each of [`EDGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cell(pub [Op; 6]);

impl Cell {
    /// The lexicographic index, 0 (all `none`) to 15,624 (all `avg_pool_3x3`).
    pub fn index(&self) -> usize {
        self.0.iter().fold(0, |index, op| index * 5 + op.code())
    }

    /// The architecture of an index below [`SIZE`].
    pub fn from_index(index: usize) -> Option<Cell> {
        let mut rest = index;
        let mut ops = [Op::None; 6];
        for op in ops.iter_mut().rev() {
            *op = Op::ALL[rest % 5];
            rest /= 5;
        }
        (rest == 0).then_some(Cell(ops))
    }

    /// All 15,625, by index.
    pub fn all() -> impl Iterator<Item = Cell> {
        (0..SIZE).filter_map(Cell::from_index)
    }

    /// The six operation codes as digits, such as `303101`.
    pub fn codes(&self) -> String {
        self.0.iter().map(|op| char::from(b'0' + op.code() as u8)).collect()
    }

    /// How many edges carry `op`.
    pub fn count(&self, op: Op) -> usize {
        self.0.iter().filter(|o| **o == op).count()
    }

    /// The benchmark's isomorphism key: equal for architectures that it holds for the same.
    ///
    /// The input is `0`. An edge is `#` if its operation is `none` or its source is exactly `#`, its source
    /// if it is a skip, else `(source)@op`. A node is its sorted edges joined by `+`, every `#` kept. The
    /// key is that of the last node (the unique string of the benchmark's API).
    pub fn canonical(&self) -> String {
        let mut nodes: [String; 4] = ["0".into(), String::new(), String::new(), String::new()];
        for target in 1..4 {
            let mut terms: Vec<String> = Vec::with_capacity(target);
            for ((from, to), op) in EDGES.iter().zip(self.0) {
                if *to == target {
                    let source = &nodes[*from];
                    terms.push(match op {
                        Op::None => "#".into(),
                        _ if source == "#" => "#".into(),
                        Op::SkipConnect => source.clone(),
                        _ => format!("({source})@{op}"),
                    });
                }
            }
            terms.sort();
            nodes[target] = terms.join("+");
        }
        let [.., last] = nodes;
        last
    }

    /// The number of its isomorphism class, 0 to 6,465, in the order of the classes' lowest indices.
    pub fn class(&self) -> usize {
        classes().class[self.index()]
    }

    /// The member of its class with the lowest index.
    pub fn representative(&self) -> Cell {
        Cell::from_index(classes().first[self.class()]).unwrap_or(*self)
    }

    /// Whether the input reaches the output over edges that are not `none`. 341 architectures have no such
    /// path, and are at chance in the benchmark.
    pub fn has_path(&self) -> bool {
        self.live_edges().contains(&true)
    }

    /// Which edges lie on a path from input to output without `none`. The others change no output.
    pub fn live_edges(&self) -> [bool; 6] {
        let mut reached = [true, false, false, false];
        for ((from, to), op) in EDGES.iter().zip(self.0) {
            reached[*to] |= reached[*from] && op != Op::None;
        }
        let mut needed = [false, false, false, true];
        for ((from, to), op) in EDGES.iter().zip(self.0).rev() {
            needed[*from] |= needed[*to] && op != Op::None;
        }
        let mut live = [false; 6];
        for (edge, (from, to)) in EDGES.iter().enumerate() {
            live[edge] = self.0[edge] != Op::None && reached[*from] && needed[*to];
        }
        live
    }
}

/// Class of each index, and lowest index of each class.
struct Classes {
    class: Vec<usize>,
    first: Vec<usize>,
}

/// Computed once, in some 20 ms.
fn classes() -> &'static Classes {
    static CLASSES: OnceLock<Classes> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut first = Vec::new();
        let class = Cell::all()
            .map(|arch| {
                *known.entry(arch.canonical()).or_insert_with(|| {
                    first.push(arch.index());
                    first.len() - 1
                })
            })
            .collect();
        Classes { class, first }
    })
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (edge, ((from, _), op)) in EDGES.iter().zip(self.0).enumerate() {
            if *from == 0 {
                f.write_str(if edge == 0 { "|" } else { "+|" })?;
            }
            write!(f, "{op}~{from}|")?;
        }
        Ok(())
    }
}

impl From<Cell> for String {
    fn from(arch: Cell) -> String {
        arch.to_string()
    }
}

impl TryFrom<String> for Cell {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Cell {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return parse_codes(text);
        }
        let nodes: Vec<&str> = text.split('+').collect();
        if nodes.len() != 3 {
            return Err(wrong(format!(
                "`{}` has {} node(s) joined by `+`, expected 3: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` or six digits 0 to 4",
                shorten(text),
                if text.is_empty() { 0 } else { nodes.len() }
            )));
        }
        let mut ops = [Op::None; 6];
        let mut edge = 0;
        for (target, node) in (1..).zip(nodes) {
            let inner = node.strip_prefix('|').and_then(|n| n.strip_suffix('|')).ok_or_else(|| {
                wrong(format!("node {target} is `{}`, expected it to begin and end with `|`", shorten(node)))
            })?;
            let terms: Vec<&str> = inner.split('|').collect();
            if terms.len() < target {
                return Err(wrong(format!(
                    "node {target} has {} of {target} edges: edge {}->{target} is missing",
                    terms.len(),
                    terms.len()
                )));
            }
            if terms.len() > target {
                return Err(wrong(format!("node {target} has {} edges, expected {target}", terms.len())));
            }
            for (from, term) in terms.iter().enumerate() {
                let place = format!("edge {from}->{target}");
                let (name, source) = term.split_once('~').ok_or_else(|| {
                    wrong(format!("{place} is `{}`, expected `op~{from}` with its source node", shorten(term)))
                })?;
                if source != from.to_string() {
                    let source = shorten(source);
                    return Err(wrong(format!("{place} names source node `{source}`, expected {from}")));
                }
                let code = Op::NAMES.iter().position(|n| *n == name);
                let op = code.and_then(Op::from_code).ok_or_else(|| unknown(&place, &shorten(name), &Op::NAMES))?;
                ops[edge] = op;
                edge += 1;
            }
        }
        Ok(Cell(ops))
    }
}

fn parse_codes(text: &str) -> Result<Cell> {
    if text.len() != 6 {
        return Err(wrong(format!("`{}` has {} digits, expected 6 operation codes", shorten(text), text.len())));
    }
    let mut ops = [Op::None; 6];
    for (at, (op, byte)) in ops.iter_mut().zip(text.bytes()).enumerate() {
        let code = usize::from(byte.wrapping_sub(b'0'));
        *op = Op::from_code(code).ok_or_else(|| {
            let known = Op::NAMES.join(", ");
            wrong(format!("digit {} of `{text}` is {code}, expected an operation code 0 to 4 ({known})", at + 1))
        })?;
    }
    Ok(Cell(ops))
}

fn wrong(why: String) -> Error {
    Error::invalid("NAS-Bench-201 architecture", why)
}

impl From<Cell> for Arch {
    fn from(cell: Cell) -> Arch {
        cell.0.iter().map(|op| op.code() as u8).collect()
    }
}

impl TryFrom<&Arch> for Cell {
    type Error = Error;

    fn try_from(arch: &Arch) -> Result<Self> {
        let ops: Option<Vec<Op>> = arch.iter().map(|&gene| Op::from_code(usize::from(gene))).collect();
        let ops = ops.and_then(|ops| ops.try_into().ok());
        ops.map(Cell).ok_or_else(|| wrong(format!("genes {:?} are not six codes from 0 to 4", &arch[..])))
    }
}

/// The space.
#[derive(Clone, Copy, Debug, Default)]
pub struct NasBench201;

/// Its genes are the codes of the operations on [`EDGES`].
const GENES: [Gene; 6] = [Gene::category(Op::ALL.len() as u8); 6];

impl NasBench201 {
    /// The cell of genes that a search may have made up; one of `none` if they are none.
    fn cell(arch: &Arch) -> Cell {
        Cell::try_from(arch).unwrap_or(Cell([Op::None; 6]))
    }
}

impl Space for NasBench201 {
    fn name(&self) -> &str {
        "nas-bench-201"
    }

    fn genes(&self) -> &[Gene] {
        &GENES
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        Ok(text.parse::<Cell>()?.into())
    }

    fn show(&self, arch: &Arch) -> String {
        Self::cell(arch).to_string()
    }

    fn abbreviate(&self, arch: &Arch) -> String {
        Self::cell(arch).codes()
    }

    fn notation(&self) -> &str {
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|, or six digits"
    }

    fn canonical(&self, arch: &Arch) -> Arch {
        Self::cell(arch).representative().into()
    }

    fn expressed(&self, arch: &Arch) -> Vec<bool> {
        // An edge of `none` counts as well, as far as another operation there would.
        let with = |edge: usize| {
            let mut other = Self::cell(arch);
            other.0[edge] = Op::SkipConnect;
            other.live_edges()[edge]
        };
        (0..EDGES.len()).map(with).collect()
    }

    fn classes(&self) -> Option<Box<dyn Iterator<Item = Arch> + '_>> {
        Some(Box::new(Cell::all().filter(|cell| cell.representative() == *cell).map(Arch::from)))
    }

    /// Of the class's representative: a dummy for each operation but `none` on each live edge, how many there are of each
    /// operation, the most convolutions in a row, and the number of paths.
    fn features(&self, arch: &Arch) -> Vec<f64> {
        let cell = Self::cell(arch).representative();
        let live = cell.live_edges();
        let ops: Vec<Op> = cell.0.iter().zip(live).map(|(op, live)| if live { *op } else { Op::None }).collect();
        let is = |op: &Op, other: &Op| f64::from(u8::from(op == other));
        let mut row: Vec<f64> = ops.iter().flat_map(|op| Op::ALL[1..].iter().map(move |other| is(op, other))).collect();
        row.extend(Op::ALL[1..].iter().map(|other| ops.iter().map(|op| is(op, other)).sum::<f64>()));
        // Convolutions on the deepest way to each node, and ways to it.
        let (mut depth, mut ways) = ([0.0, -1.0, -1.0, -1.0], [1.0, 0.0, 0.0, 0.0]);
        for ((from, to), op) in EDGES.iter().zip(&ops).filter(|(_, op)| **op != Op::None) {
            let own = if matches!(op, Op::Conv1x1 | Op::Conv3x3) { 1.0 } else { 0.0 };
            depth[*to] = f64::max(depth[*to], depth[*from] + own);
            ways[*to] += ways[*from];
        }
        row.extend([depth[3], ways[3]]);
        row
    }

    /// The cell, with edges of `none` too.
    fn diagram(&self, arch: &Arch) -> Diagram {
        let nodes: Vec<Node> = ["input", "1", "2", "output"].map(Node::plain).into();
        let edge = |((from, to), op): (&(usize, usize), Op)| Edge::new(*from, *to, op.name());
        let edges = EDGES.iter().zip(Self::cell(arch).0).map(edge).collect();
        Diagram { cells: vec![diagram::Cell { name: "cell".into(), places: nodes.len(), nodes, edges }] }
    }

    fn remark(&self, arch: &Arch) -> Option<&str> {
        (!Self::cell(arch).has_path()).then_some("no path leads from its input to its output")
    }
}

#[cfg(test)]
mod tests;
