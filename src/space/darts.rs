//! DARTS cells (Liu, Simonyan and Yang, ICLR 2019), as GeNAS searches them: a normal and a reduction cell, each of two inputs and
//! four nodes, every node with two inputs of seven operations.
//!
//! An architecture is written as 28 operation codes, 14 of either cell: for each node, in order, those of its edges from all
//! earlier nodes, 0 where there is none (`3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7`). The published
//! notation (`Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=...)`) is read too. It says besides in
//! which order a node's two inputs are written, which names the tensors of networks and changes nothing else. Codes stand for
//! the usual order, by the inputs' numbers; another one is kept in genes of its own that no search touches.
//!
//! [`fourteen`] is the relative that CRoZe searches.

use std::fmt;
use std::str::FromStr;

use super::diagram::{self, Diagram, Edge, Node};
use super::{Arch, Draw, Gene, GeneKind, Space, shorten};
use crate::error::{Error, Result, unknown};

pub mod fourteen;
mod genotype;

use genotype::{Rules, Written};

/// What an edge computes. The discriminant is the code, in the order of the authors' `PRIMITIVES`; the operations behind the first
/// eight are those of relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// No connection.
    None = 0,
    /// 3x3 maximum.
    MaxPool3x3 = 1,
    /// 3x3 average; padding is not counted.
    AvgPool3x3 = 2,
    /// The identity; with stride 2 a factorised reduction.
    SkipConnect = 3,
    /// Twice: ReLU, depthwise 3x3, 1x1, batch norm.
    SepConv3x3 = 4,
    /// The same with 5x5.
    SepConv5x5 = 5,
    /// ReLU, depthwise 3x3 with dilation 2, 1x1, batch norm.
    DilConv3x3 = 6,
    /// The same with 5x5.
    DilConv5x5 = 7,
    /// Twice: ReLU, depthwise 7x7, 1x1, batch norm.
    SepConv7x7 = 8,
    /// ReLU, 1x7, 7x1, batch norm.
    Conv7x1And1x7 = 9,
}

impl Op {
    /// The operations of this space, by code.
    pub const ALL: [Op; 8] = [
        Op::None,
        Op::MaxPool3x3,
        Op::AvgPool3x3,
        Op::SkipConnect,
        Op::SepConv3x3,
        Op::SepConv5x5,
        Op::DilConv3x3,
        Op::DilConv5x5,
    ];
    /// The names of these, by code.
    pub const NAMES: [&'static str; 8] = [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ];

    /// 0 to 7, and beyond for operations of relatives.
    pub fn code(self) -> usize {
        self as usize
    }

    /// The authors' name.
    pub fn name(self) -> &'static str {
        match self {
            Op::SepConv7x7 => "sep_conv_7x7",
            Op::Conv7x1And1x7 => "conv_7x1_1x7",
            _ => Op::NAMES[self.code()],
        }
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let code = Op::NAMES.iter().position(|name| *name == text);
        code.map(|code| Op::ALL[code]).ok_or_else(|| unknown("operation", &shorten(text), &Op::NAMES))
    }
}

/// Nodes of a cell that compute something; their numbers begin with 2, after the two inputs.
pub const NODES: usize = 4;
/// Edges of a cell: from all earlier nodes to each.
pub const EDGES: usize = 14;
/// Numbers of an architecture's code.
pub const CODES: usize = 2 * EDGES;
/// How many cells there are: two inputs of each node, seven operations on each.
pub const CELLS: u64 = 1_037_664_180;

/// The first edge of a node, counted from 0.
pub(crate) const fn first_edge(node: usize) -> usize {
    node * (node + 3) / 2
}

/// A cell: of each node its two inputs, an operation and the number of an earlier node, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell(pub [[(Op, usize); 2]; NODES]);

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Genotype {
    /// The cell that keeps sides.
    pub normal: Cell,
    /// The cell that halves them.
    pub reduce: Cell,
}

impl Genotype {
    /// Both cells.
    pub fn cells(&self) -> [&Cell; 2] {
        [&self.normal, &self.reduce]
    }

    /// Whether each node's inputs are written by their numbers, so that codes say everything.
    pub fn is_usual(&self) -> bool {
        self.cells().iter().all(|cell| cell.0.iter().all(|inputs| inputs[0].1 < inputs[1].1))
    }
}

impl From<&Genotype> for Arch {
    fn from(genotype: &Genotype) -> Arch {
        let mut genes = [0u8; CODES + 2 * NODES];
        for (part, cell) in genotype.cells().into_iter().enumerate() {
            for (node, inputs) in cell.0.iter().enumerate() {
                for &(op, source) in inputs {
                    genes[part * EDGES + first_edge(node) + source] = op.code() as u8;
                }
                genes[CODES + part * NODES + node] = u8::from(inputs[0].1 > inputs[1].1);
            }
        }
        genes.into_iter().collect()
    }
}

impl TryFrom<&Arch> for Genotype {
    type Error = Error;

    /// Fails for genes of which a node has another number of inputs than two.
    fn try_from(arch: &Arch) -> Result<Self> {
        if arch.len() != CODES + 2 * NODES || arch.iter().any(|&gene| usize::from(gene) >= Op::ALL.len()) {
            return Err(wrong(format!("genes {:?} are no architecture", &arch[..])));
        }
        let cell = |part: usize| -> Result<Cell> {
            let mut cell = Cell([[(Op::None, 0); 2]; NODES]);
            for (node, own) in cell.0.iter_mut().enumerate() {
                let at = part * EDGES + first_edge(node);
                let codes = arch[at..at + node + 2].iter().map(|&code| Op::ALL[usize::from(code)]);
                let inputs: Vec<(Op, usize)> = codes.zip(0..).filter(|(op, _)| *op != Op::None).collect();
                let &[first, second] = &inputs[..] else {
                    let (name, count) = (["normal", "reduction"][part], inputs.len());
                    let why = format!(
                        "node {} of the {name} cell has {count} inputs, expected two operations other than none (0) among its {}; \
                         `altiplano space info --repair` makes an architecture of it",
                        node + 2,
                        node + 2
                    );
                    return Err(wrong(why));
                };
                let turned = arch[CODES + part * NODES + node] != 0;
                *own = if turned { [second, first] } else { [first, second] };
            }
            Ok(cell)
        };
        Ok(Genotype { normal: cell(0)?, reduce: cell(1)? })
    }
}

/// As published: `Genotype(normal=[('sep_conv_3x3', 0), ...`.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [normal, reduce] = self.cells().map(|cell| cell.0.as_flattened());
        genotype::write(f, [(normal, &JOINED), (reduce, &JOINED)])
    }
}

/// How genotypes of this space are written.
const RULES: Rules = Rules { space: "DARTS architecture", ops: &Op::ALL, inputs: 2 * NODES };
/// What a cell's output joins: all of its nodes, in their order.
const JOINED: [usize; NODES] = [2, 3, 4, 5];

/// A cell as it is written: two different inputs of each node, and all nodes joined.
fn cell_of(written: &Written, [name, key]: [&str; 2]) -> Result<Cell> {
    let mut cell = Cell([[(Op::None, 0); 2]; NODES]);
    for (node, (own, inputs)) in cell.0.iter_mut().zip(written.inputs.chunks_exact(2)).enumerate() {
        if inputs[0].1 == inputs[1].1 {
            let why = format!(
                "node {} of the {name} cell takes node {} twice; the space has two different inputs",
                node + 2,
                inputs[0].1
            );
            return Err(wrong(why));
        }
        *own = [inputs[0], inputs[1]];
    }
    match &written.joined {
        Some(nodes) if nodes[..] != JOINED => {
            Err(wrong(format!("{key}_concat is {nodes:?}; the cells of this space join nodes 2 to 5")))
        }
        _ => Ok(cell),
    }
}

/// A cell to look at: two inputs, nodes with two edges each, and an output that joins some of them. Nodes are counted from 0, and in
/// `joined` as they are written, after the inputs.
fn drawn(name: &str, nodes: &[[(Op, usize); 2]], joined: &[usize]) -> diagram::Cell {
    let output = nodes.len() + 2;
    let numbers = (0..nodes.len()).map(|node| node.to_string());
    let labels = ["c_{k-2}", "c_{k-1}"].map(String::from).into_iter().chain(numbers).chain(["output".to_owned()]);
    let into = |(node, inputs): (usize, &[(Op, usize); 2])| inputs.map(|(op, from)| Edge::new(from, node, op.name()));
    let mut edges: Vec<Edge> = (2..).zip(nodes).flat_map(into).collect();
    // Neither the order in which inputs are written nor that in which nodes are joined makes another network.
    edges.sort_by_key(|edge| (edge.to, edge.from));
    let mut joined = joined.to_vec();
    joined.sort_unstable();
    edges.extend(joined.into_iter().map(|node| Edge::new(node, output, "")));
    diagram::Cell { name: name.into(), nodes: labels.map(Node::plain).collect(), edges, places: output + 1 }
}

/// What both cells are called in drawings.
const DRAWN: [&str; 2] = ["normal cell", "reduction cell"];

fn wrong(why: String) -> Error {
    Error::invalid(RULES.space, why)
}

/// The genes of 28 codes, written with commas, spaces or brackets between them, or as 28 digits, with a hyphen between the cells or not.
fn parse_codes(text: &str) -> Result<Arch> {
    let is_mark = |c: char| c.is_ascii_whitespace() || "()[],;|".contains(c);
    let digits: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
    let is_compact = |digits: &[&str]| digits.iter().all(|c| c.as_bytes()[0].is_ascii_digit());
    let codes: Vec<&str> = match digits.len() {
        CODES if is_compact(&digits) => digits,
        29 if digits[EDGES] == "-" => [&digits[..EDGES], &digits[EDGES + 1..]].concat(),
        _ => text.split(is_mark).filter(|part| !part.is_empty()).collect(),
    };
    if codes.len() != CODES {
        let why = format!(
            "`{}` has {} numbers, expected 28: 14 operation codes of the normal cell and 14 of the reduction cell, or Genotype(...)",
            shorten(text),
            codes.len()
        );
        return Err(wrong(why));
    }
    let code = |(at, text): (usize, &&str)| -> Result<u8> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let code = text.parse::<u8>().ok().filter(|&code| plain && usize::from(code) < Op::ALL.len());
        code.ok_or_else(|| {
            let known = Op::NAMES.join(", ");
            wrong(format!("number {} is `{}`, expected an operation code 0 to 7 ({known})", at + 1, shorten(text)))
        })
    };
    let codes = codes.iter().enumerate().map(code).collect::<Result<Vec<u8>>>()?;
    Ok(codes.into_iter().chain([0; 2 * NODES]).collect())
}

/// The space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Darts;

/// Codes of both cells, then how their nodes are written.
const GENES: [Gene; CODES + 2 * NODES] = {
    let mut genes = [Gene::category(Op::ALL.len() as u8); CODES + 2 * NODES];
    let mut at = 0;
    while at < genes.len() {
        let reduce = if at < CODES { at >= EDGES } else { at - CODES >= NODES };
        genes[at].part = reduce as u8;
        if at >= CODES {
            (genes[at].options, genes[at].kind) = (2, GeneKind::Notation);
        }
        at += 1;
    }
    genes
};

impl Space for Darts {
    fn name(&self) -> &str {
        "darts"
    }

    fn genes(&self) -> &[Gene] {
        &GENES
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        let arch = self.read(text)?;
        Genotype::try_from(&arch).map(|_| arch)
    }

    fn read(&self, text: &str) -> Result<Arch> {
        let text = text.trim();
        if !text.contains("normal") {
            return parse_codes(text);
        }
        let [normal, reduce] = genotype::parse(text, &RULES)?;
        let (normal, reduce) = (cell_of(&normal, ["normal"; 2])?, cell_of(&reduce, ["reduction", "reduce"])?);
        Ok(Arch::from(&Genotype { normal, reduce }))
    }

    fn show(&self, arch: &Arch) -> String {
        match Genotype::try_from(arch) {
            Ok(genotype) if !genotype.is_usual() => genotype.to_string(),
            _ => arch.iter().take(CODES).map(u8::to_string).collect::<Vec<_>>().join(","),
        }
    }

    fn abbreviate(&self, arch: &Arch) -> String {
        let digits: String = arch.iter().take(CODES).map(|code| char::from(b'0' + code % 10)).collect();
        let (normal, reduce) = digits.split_at(EDGES.min(digits.len()));
        format!("{normal}-{reduce}")
    }

    fn notation(&self) -> &str {
        "3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7, or Genotype(normal=[('skip_connect', 0), ...], ...)"
    }

    /// As GeNAS's authors do (`check_cand`): of a node with too many inputs some are taken away, uniformly, and one with too few gets
    /// uniform operations on uniform edges. A uniform vector becomes a uniform architecture.
    fn repair(&self, arch: &mut Arch, draw: &mut dyn Draw) -> bool {
        for part in 0..2 {
            for node in 0..NODES {
                let at = part * EDGES + first_edge(node);
                let edges = at..at + node + 2;
                let mut count = arch[edges.clone()].iter().filter(|code| **code != 0).count();
                while count != 2 {
                    let taken = count > 2;
                    let free: Vec<usize> = edges.clone().filter(|&edge| (arch[edge] != 0) == taken).collect();
                    let edge = free[draw.below(free.len() as u32) as usize % free.len()];
                    arch[edge] = if taken { 0 } else { 1 + (draw.below(Op::ALL.len() as u32 - 1) % 7) as u8 };
                    count = if taken { count - 1 } else { count + 1 };
                }
                arch[CODES + part * NODES + node] = 0;
            }
        }
        true
    }

    fn canonical(&self, arch: &Arch) -> Arch {
        arch.iter().take(CODES).copied().chain([0; 2 * NODES]).collect()
    }

    fn expressed(&self, _arch: &Arch) -> Vec<bool> {
        [vec![true; CODES], vec![false; 2 * NODES]].concat()
    }

    /// Connections where they cost nothing; where they would have to halve the sides, pools, whose norms, if any, are smaller.
    fn smallest(&self) -> Arch {
        let (pool, skip) = (Op::MaxPool3x3, Op::SkipConnect);
        let late = [(skip, 2), (skip, 3)];
        Arch::from(&Genotype {
            normal: Cell([[(skip, 0), (skip, 1)]; NODES]),
            reduce: Cell([[(pool, 0), (pool, 1)], [(pool, 0), (skip, 2)], late, late]),
        })
    }

    fn diagram(&self, arch: &Arch) -> Diagram {
        let Ok(genotype) = Genotype::try_from(arch) else { return diagram::of_genes(self.name(), &GENES, arch) };
        let cells = DRAWN.into_iter().zip(genotype.cells()).map(|(name, cell)| drawn(name, &cell.0, &JOINED));
        Diagram { cells: cells.collect() }
    }

    fn count(&self) -> Option<u64> {
        CELLS.checked_mul(CELLS)
    }
}

#[cfg(test)]
mod tests;
