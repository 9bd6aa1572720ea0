//! DARTS cells as CRoZe searches them (Ha et al., NeurIPS 2023, and the code released with it): 14 inputs in place of 8, nine
//! operations, and an output that joins some nodes, more than once if it says so.
//!
//! The authors draw an operation for each edge of a DARTS cell, 2 + 3 + 4 + 5 of them in their usual order, and their networks read
//! these, two by two, as the inputs of nodes. So a cell has seven nodes, and of which nodes these are inputs is the same in all
//! architectures ([`SOURCES`]). The output joins one to four of the nodes 2 to 5, so nodes 6 to 8 reach it never, and others may not;
//! their weights count all the same, as the authors count them.
//!
//! Architectures are written in the published notation with 14 inputs and the nodes that the output joins, as Python prints a named
//! tuple, or as the dictionaries of the authors' `train.py`. Short names are operation codes of both cells, each with its joined nodes:
//! `17872413758436.4534-...`. The order of joined nodes changes that of channels alone, so the sorted list stands for all orders.

use std::fmt;

use super::genotype::{self, Rules, Written};
use super::{Arch, DRAWN, Draw, Gene, GeneKind, Op, Space, diagram, drawn, shorten};
use crate::error::{Error, Result};

/// Inputs of a cell.
pub const INPUTS: usize = 14;
/// Nodes of a cell that compute something; their numbers begin with 2, after the two inputs.
pub const NODES: usize = INPUTS / 2;
/// The node that each input is of.
pub const SOURCES: [usize; INPUTS] = [0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4];
/// Most nodes that an output joins.
pub const MOST_JOINED: usize = 4;
/// The first and the last node that an output may join.
const JOINED: [usize; 2] = [2, 5];
/// Values of a place among the joined nodes: empty, or one of these.
const PLACE: usize = JOINED[1] - JOINED[0] + 2;

/// The operations by code, in the order of the authors' table.
pub const OPS: [Op; 10] = [
    Op::None,
    Op::AvgPool3x3,
    Op::MaxPool3x3,
    Op::SkipConnect,
    Op::SepConv3x3,
    Op::SepConv5x5,
    Op::SepConv7x7,
    Op::DilConv3x3,
    Op::DilConv5x5,
    Op::Conv7x1And1x7,
];

/// Genes of a cell: operations, how many nodes are joined, and which.
const CELL: usize = INPUTS + 1 + MOST_JOINED;
const RULES: Rules = Rules { space: "DARTS architecture of 14 inputs", ops: &OPS, inputs: INPUTS };

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Operations of the inputs, none of them [`Op::None`].
    pub ops: [Op; INPUTS],
    /// The nodes that the output joins, one to four of 2 to 5, in their order.
    pub joined: Vec<usize>,
}

impl Cell {
    /// Of each node its two inputs, an operation and the number of an earlier node.
    pub fn nodes(&self) -> [[(Op, usize); 2]; NODES] {
        let input = |at: usize| (self.ops[at], SOURCES[at]);
        std::array::from_fn(|node| [input(2 * node), input(2 * node + 1)])
    }

    fn of(written: &Written, [name, key]: [&str; 2]) -> Result<Self> {
        let (mut ops, sources) = ([Op::None; INPUTS], written.inputs.iter().map(|input| input.1));
        if let Some(at) = sources.zip(SOURCES).position(|(have, usual)| have != usual) {
            let (have, usual) = (written.inputs[at].1, SOURCES[at]);
            let why =
                format!("input {} of the {name} cell is of node {have}, and of node {usual} in this space", at + 1);
            return Err(wrong(why));
        }
        ops.iter_mut().zip(&written.inputs).for_each(|(own, (op, _))| *own = *op);
        let joined = written.joined.clone().ok_or_else(|| wrong(format!("the genotype has no `{key}_concat`")))?;
        let known = joined.iter().all(|node| (JOINED[0]..=JOINED[1]).contains(node));
        if !known || !(1..=MOST_JOINED).contains(&joined.len()) {
            return Err(wrong(format!("{key}_concat is {joined:?}, expected one to four of the nodes 2 to 5")));
        }
        Ok(Cell { ops, joined })
    }

    fn genes(&self) -> [u8; CELL] {
        let mut genes = [0; CELL];
        let code = |op: Op| OPS.iter().position(|own| *own == op).unwrap_or(1).max(1) - 1;
        genes.iter_mut().zip(self.ops).for_each(|(gene, op)| *gene = code(op) as u8);
        genes[INPUTS] = (self.joined.len().clamp(1, MOST_JOINED) - 1) as u8;
        let places = self.joined.iter().map(|node| (node.clamp(&JOINED[0], &JOINED[1]) - JOINED[0] + 1) as u8);
        genes[INPUTS + 1..].iter_mut().zip(places).for_each(|(gene, place)| *gene = place);
        genes
    }
}

/// An architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genotype {
    /// The cell that keeps sides.
    pub normal: Cell,
    /// The cell that halves them.
    pub reduce: Cell,
}

impl From<&Genotype> for Arch {
    fn from(genotype: &Genotype) -> Arch {
        [&genotype.normal, &genotype.reduce].into_iter().flat_map(Cell::genes).collect()
    }
}

impl TryFrom<&Arch> for Genotype {
    type Error = Error;

    /// Fails for genes that are none of the space's, and where a place of a joined node is empty.
    fn try_from(arch: &Arch) -> Result<Self> {
        let space: &dyn Space = &Darts14;
        space.check_vector(arch)?;
        let cell = |genes: &[u8]| {
            let places = &genes[INPUTS + 1..][..usize::from(genes[INPUTS]) + 1];
            if places.contains(&0) {
                return Err(wrong(format!("genes {genes:?} of a cell leave a place of the joined nodes empty")));
            }
            let joined = places.iter().map(|place| usize::from(*place) - 1 + JOINED[0]).collect();
            Ok(Cell { ops: std::array::from_fn(|input| OPS[usize::from(genes[input]) + 1]), joined })
        };
        Ok(Genotype { normal: cell(&arch[..CELL])?, reduce: cell(&arch[CELL..])? })
    }
}

/// As published: `Genotype(normal=[('avg_pool_3x3', 0), ...`.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [normal, reduce] = [&self.normal, &self.reduce].map(Cell::nodes);
        let cells = [(normal.as_flattened(), &self.normal.joined[..]), (reduce.as_flattened(), &self.reduce.joined)];
        genotype::write(f, cells)
    }
}

fn wrong(why: String) -> Error {
    Error::invalid(RULES.space, why)
}

/// The genes of a short name: of each cell 14 codes, a dot, and the joined nodes.
fn parse_short(text: &str) -> Result<Arch> {
    let fail = || {
        let why = format!(
            "`{}` is none; expected Genotype(...), or of each cell 14 operation codes 1 to 9, a dot, and one to four nodes 2 to 5, \
             with a hyphen between the cells",
            shorten(text)
        );
        wrong(why)
    };
    let digit = |c: char, low: u32, many: usize| {
        let value = c.to_digit(10)?.checked_sub(low)?;
        (value < many as u32).then_some(value as u8)
    };
    let cell = |text: &str| -> Option<Vec<u8>> {
        let (codes, joined) = text.split_once('.')?;
        let mut genes = codes.chars().map(|c| digit(c, 1, OPS.len() - 1)).collect::<Option<Vec<u8>>>()?;
        let place = |c: char| Some(1 + digit(c, JOINED[0] as u32, PLACE - 1)?);
        let nodes = joined.chars().map(place).collect::<Option<Vec<u8>>>()?;
        if genes.len() != INPUTS || !(1..=MOST_JOINED).contains(&nodes.len()) {
            return None;
        }
        genes.push(nodes.len() as u8 - 1);
        genes.extend(nodes);
        genes.resize(CELL, 0);
        Some(genes)
    };
    let (normal, reduce) = text.split_once('-').ok_or_else(fail)?;
    let genes = cell(normal).zip(cell(reduce)).ok_or_else(fail)?;
    Ok([genes.0, genes.1].concat().into())
}

/// The space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Darts14;

/// Of either cell: operations, how many nodes its output joins, and which.
const GENES: [Gene; 2 * CELL] = {
    let mut genes = [Gene::category(OPS.len() as u8 - 1); 2 * CELL];
    let mut at = 0;
    while at < genes.len() {
        genes[at].part = (at >= CELL) as u8;
        if at % CELL == INPUTS {
            (genes[at].options, genes[at].kind) = (MOST_JOINED as u8, GeneKind::Level);
        }
        if at % CELL > INPUTS {
            genes[at].options = PLACE as u8;
        }
        at += 1;
    }
    genes
};

impl Space for Darts14 {
    fn name(&self) -> &str {
        "darts-14"
    }

    fn genes(&self) -> &[Gene] {
        &GENES
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        let text = text.trim();
        if !text.contains("normal") {
            return parse_short(text);
        }
        let [normal, reduce] = genotype::parse(text, &RULES)?;
        let (normal, reduce) = (Cell::of(&normal, ["normal"; 2])?, Cell::of(&reduce, ["reduction", "reduce"])?);
        Ok(Arch::from(&Genotype { normal, reduce }))
    }

    fn show(&self, arch: &Arch) -> String {
        Genotype::try_from(arch).map_or_else(|_| self.abbreviate(arch), |genotype| genotype.to_string())
    }

    fn abbreviate(&self, arch: &Arch) -> String {
        let digit = |value: u8| char::from(b'0' + value % 10);
        let cell = |genes: &[u8]| {
            let (codes, rest) = genes.split_at(INPUTS.min(genes.len()));
            let count = rest.first().map_or(0, |count| usize::from(*count) + 1);
            let codes: String = codes.iter().map(|code| digit(code + 1)).collect();
            let joined: String =
                rest.iter().skip(1).take(count).map(|place| digit(place + JOINED[0] as u8 - 1)).collect();
            format!("{codes}.{joined}")
        };
        arch.chunks(CELL).map(cell).collect::<Vec<_>>().join("-")
    }

    fn notation(&self) -> &str {
        "Genotype(normal=[('avg_pool_3x3', 0), ...], normal_concat=[4, 5, 3, 4], ...) with 14 inputs of each cell, or short as \
         17872413758436.4534-15955967776974.3255"
    }

    /// Uniform nodes in places that are empty, and none beyond as many as are joined. A uniform vector becomes what the authors draw:
    /// a uniform number of joined nodes, each of them uniform.
    fn repair(&self, arch: &mut Arch, draw: &mut dyn Draw) -> bool {
        for genes in arch.chunks_exact_mut(CELL) {
            let count = (usize::from(genes[INPUTS]) + 1).min(MOST_JOINED);
            let (places, beyond) = genes[INPUTS + 1..].split_at_mut(count);
            for place in places.iter_mut().filter(|place| **place == 0) {
                *place = 1 + (draw.below(PLACE as u32 - 1) % (PLACE as u32 - 1)) as u8;
            }
            beyond.fill(0);
        }
        true
    }

    /// With joined nodes by their numbers: another order moves channels, and nothing else.
    fn canonical(&self, arch: &Arch) -> Arch {
        let mut canonical = arch.clone();
        for genes in canonical.chunks_exact_mut(CELL) {
            let count = (usize::from(genes[INPUTS]) + 1).min(MOST_JOINED);
            genes[INPUTS + 1..][..count].sort_unstable();
        }
        canonical
    }

    /// All but places beyond as many nodes as are joined.
    fn expressed(&self, arch: &Arch) -> Vec<bool> {
        let count = |at: usize| arch.get(at / CELL * CELL + INPUTS).map_or(0, |count| usize::from(*count));
        (0..arch.len()).map(|at| at % CELL <= INPUTS || at % CELL - INPUTS - 1 <= count(at)).collect()
    }

    fn diagram(&self, arch: &Arch) -> diagram::Diagram {
        let Ok(genotype) = Genotype::try_from(arch) else { return diagram::of_genes(self.name(), &GENES, arch) };
        let cells = DRAWN.into_iter().zip([&genotype.normal, &genotype.reduce]);
        diagram::Diagram { cells: cells.map(|(name, cell)| drawn(name, &cell.nodes(), &cell.joined)).collect() }
    }

    /// One node joined; connections where they cost nothing, and pools where they would have to halve the sides.
    fn smallest(&self) -> Arch {
        let halves = |at: usize| if SOURCES[at] < 2 { Op::AvgPool3x3 } else { Op::SkipConnect };
        let joined = vec![JOINED[0]];
        Arch::from(&Genotype {
            normal: Cell { ops: [Op::SkipConnect; INPUTS], joined: joined.clone() },
            reduce: Cell { ops: std::array::from_fn(halves), joined },
        })
    }
}

#[cfg(test)]
#[path = "fourteen_tests.rs"]
mod tests;
