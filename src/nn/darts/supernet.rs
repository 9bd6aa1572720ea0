//! All pairs of cells at once, with shared weights: what GeNAS trains (Jeong et al. 2023; the authors' `Network` of its supernet).
//!
//! Each of a cell's 14 edges is a choice among the eight operations, the same in all cells of a kind. Operations of an edge write the
//! same tensors, stage by stage, since one of them runs at most: so a supernet needs the memory of one path per edge.

use super::{POINTWISE, Place, Sizes, factorised_reduction, pool, skeleton};
use crate::error::Result;
use crate::graph::{Geometry, Guard, Op as Node, Shape, TensorId, Term, TermKind, Value, View};
use crate::nn::space::{self, Piece};
use crate::nn::{Heads, Layers, Model};
use crate::space::Arch;
use crate::space::darts::{CODES, Cell, EDGES, Genotype, NODES, Op, first_edge};

/// All architectures at once.
#[derive(Clone, Debug)]
pub struct Supernet {
    /// Sizes around the cells.
    pub sizes: Sizes,
}

impl space::Supernet for Supernet {
    fn path(&self, arch: &Arch) -> Option<Vec<u8>> {
        arch.get(..CODES).map(<[u8]>::to_vec)
    }

    /// A network counts a node's inputs, the supernet its edges and their operations.
    fn source(&self, name: &str, arch: &Arch) -> Option<String> {
        let Some((cell, rest)) = name.split_once("._ops.") else { return Some(name.to_owned()) };
        let (input, part) = rest.split_once('.')?;
        let (input, number) = (input.parse::<usize>().ok()?, cell.strip_prefix("cells.")?.parse::<usize>().ok()?);
        let genotype = Genotype::try_from(arch).ok()?;
        let kind = if self.sizes.is_reduction(number) { &genotype.reduce } else { &genotype.normal };
        let (op, source) = kind.0.get(input / 2)?[input % 2];
        Some(format!("{cell}._ops.{}._ops.{}.{part}", first_edge(input / 2) + source, op.code()))
    }

    /// As GeNAS's authors put it together (`get_arch_vector`): of each cell the operations on all ways from its inputs to any node, as
    /// often as there are ways through them; and what all architectures have.
    fn direction(&self, arch: &Arch, released: bool) -> Option<Vec<(Piece, usize)>> {
        let genotype = Genotype::try_from(arch).ok()?;
        let tensor = |name: String| (Piece::Tensor(name), 1);
        let around: &[&str] = match self.sizes.imagenet {
            false => &["stem.0.weight", "stem.1.weight", "stem.1.bias"],
            true => &[
                "stem0.0.weight",
                "stem0.1.weight",
                "stem0.1.bias",
                "stem0.3.weight",
                "stem0.4.weight",
                "stem0.4.bias",
                "stem1.1.weight",
                "stem1.2.weight",
                "stem1.2.bias",
            ],
        };
        let mut pieces: Vec<(Piece, usize)> =
            around.iter().chain(&["classifier.weight"]).map(|name| tensor((*name).into())).collect();
        let mut channels = self.sizes.channels;
        for number in 0..self.sizes.cells {
            let is_reduction = self.sizes.is_reduction(number);
            channels *= if is_reduction { 2 } else { 1 };
            let name = format!("cells.{number}");
            let halves = self.sizes.follows_reduction(number);
            let parts = match halves {
                true => &["conv_1.weight", "conv_2.weight", "bn.weight", "bn.bias"][..],
                false => &["op.1.weight", "op.2.weight", "op.2.bias"],
            };
            pieces.extend(parts.iter().map(|part| tensor(format!("{name}.preprocess0.{part}"))));
            let parts = ["op.1.weight", "op.2.weight", "op.2.bias"];
            pieces.extend(parts.map(|part| tensor(format!("{name}.preprocess1.{part}"))));
            let cell = if is_reduction { &genotype.reduce } else { &genotype.normal };
            for (node, source, ways) in Self::ways(cell) {
                let op = cell.0[node].iter().find(|input| input.1 == source)?.0;
                let layer = format!("{name}._ops.{}._ops.{}", first_edge(node) + source, op.code());
                let stride = if is_reduction && source < 2 { 2 } else { 1 };
                let own = Self::vector_of(&layer, op, (channels, stride), released);
                pieces.extend(own.into_iter().map(|piece| (piece, ways)));
            }
        }
        Some(pieces)
    }
}

impl Supernet {
    /// What operation `op` of an edge adds to the angle's vector; `c` are its channels.
    fn vector_of(layer: &str, op: Op, (c, stride): (usize, usize), released: bool) -> Vec<Piece> {
        let weight = |part: &str| Piece::Tensor(format!("{layer}.{part}.weight"));
        let norm = |part: &str, twice: bool| {
            let shift = if twice { "weight" } else { "bias" };
            [weight(part), Piece::Tensor(format!("{layer}.{part}.{shift}"))]
        };
        match (op, stride) {
            (Op::None, _) => vec![],
            (Op::SkipConnect, 1) => vec![Piece::Ones(c)],
            (Op::SkipConnect, _) => [vec![weight("conv_1"), weight("conv_2")], norm("bn", false).into()].concat(),
            (Op::MaxPool3x3 | Op::AvgPool3x3, _) => {
                [vec![Piece::Constant { value: 1.0 / 9.0, count: 9 * c }], norm("1", false).into()].concat()
            }
            (Op::SepConv3x3 | Op::SepConv5x5 | Op::SepConv7x7, _) => {
                let weights = ["op.1", "op.2", "op.5", "op.6"].map(weight);
                [&weights[..], &norm("op.3", false), &norm("op.7", false)].concat()
            }
            // The released code takes the norm's scale for its shift.
            (Op::DilConv3x3 | Op::DilConv5x5, _) => {
                [vec![weight("op.1"), weight("op.2")], norm("op.3", released).into()].concat()
            }
            (Op::Conv7x1And1x7, _) => [vec![weight("1"), weight("2")], norm("3", false).into()].concat(),
        }
    }

    /// Ways through a cell that contain an edge: those from an input to where it begins times those from where it ends to any node,
    /// of which each is an output.
    fn ways(cell: &Cell) -> Vec<(usize, usize, usize)> {
        let (mut to, mut from) = ([1usize, 1, 0, 0, 0, 0], [1usize; NODES + 2]);
        for (node, inputs) in cell.0.iter().enumerate() {
            to[node + 2] = inputs.iter().map(|&(_, source)| to[source]).sum();
        }
        for (node, inputs) in cell.0.iter().enumerate().rev() {
            inputs.iter().for_each(|&(_, source)| from[source] += from[node + 2]);
        }
        let edges = cell.0.iter().enumerate().flat_map(|(node, inputs)| inputs.map(|(_, source)| (node, source)));
        edges.map(|(node, source)| (node, source, to[source] * from[node + 2])).collect()
    }
}

impl Model for Supernet {
    fn input(&self) -> [usize; 3] {
        self.sizes.input
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let choices: Vec<u16> = (0..CODES).map(|i| layers.choice(&i.to_string(), Op::ALL.len())).collect();
        skeleton(layers, x, &self.sizes, &mut |layers, place, inputs| {
            let mut states = inputs.to_vec();
            let choices = if place.is_reduction { &choices[EDGES..] } else { &choices[..EDGES] };
            for node in 0..NODES {
                let (mut terms, mut shape) = (vec![], layers.builder.shape(states[0]));
                for (source, &state) in states.iter().enumerate() {
                    let edge = first_edge(node) + source;
                    let mixed = Edge::new(layers, place, edge, choices[edge], (state, source))?;
                    shape = mixed.shape;
                    terms.extend(mixed.terms(layers)?);
                }
                let sum = layers.builder.sum(shape, terms);
                states.push(sum);
            }
            Ok(states.split_off(2))
        })
    }
}

/// An edge with all of its operations.
struct Edge {
    name: String,
    choice: u16,
    x: TensorId,
    stride: usize,
    /// Of what it yields.
    shape: Shape,
}

impl Edge {
    fn new(layers: &Layers, place: &Place, edge: usize, choice: u16, (x, source): (TensorId, usize)) -> Result<Self> {
        let stride = if place.is_reduction && source < 2 { 2 } else { 1 };
        let [n, h, w, c] = layers.builder.shape(x).nhwc();
        let shape = Shape::map(n, h / stride, w / stride, c);
        Ok(Edge { name: format!("{}._ops.{edge}", place.name), choice, x, stride, shape })
    }

    fn guard(&self, ops: &[Op]) -> Guard {
        Guard::new(self.choice, ops.iter().fold(0, |options, op| options | 1 << op.code()))
    }

    /// What each operation adds to the node.
    fn terms(&self, layers: &mut Layers) -> Result<Vec<Term>> {
        let mut terms = self.separable(layers)?;
        terms.extend(self.pools(layers)?);
        let guard = self.guard(&[Op::SkipConnect]);
        terms.push(match self.stride {
            1 => Term { guard, a: self.x, kind: TermKind::Plain },
            _ => {
                let name = self.layer(Op::SkipConnect);
                let c = self.shape.channels();
                let skip = layers.within(guard, |layers| factorised_reduction(layers, &name, self.x, c))?;
                Term { guard, ..layers.builder.term(skip) }
            }
        });
        Ok(terms)
    }

    fn layer(&self, op: Op) -> String {
        format!("{}._ops.{}", self.name, op.code())
    }

    /// Depthwise and 1x1 convolutions: all operations write one tensor before any reads it, and so on with the next.
    fn separable(&self, layers: &mut Layers) -> Result<Vec<Term>> {
        let all = [
            (Op::SepConv3x3, Geometry::square(3, self.stride, 1)),
            (Op::SepConv5x5, Geometry::square(5, self.stride, 2)),
            (Op::DilConv3x3, Geometry { dilation: 2, ..Geometry::square(3, self.stride, 2) }),
            (Op::DilConv5x5, Geometry { dilation: 2, ..Geometry::square(5, self.stride, 4) }),
        ];
        let mut terms = vec![];
        let outputs = self.depthwise(layers, self.x, &all, 0)?;
        let (twice, once) = outputs.split_at(2);
        terms.extend_from_slice(once);
        let inner = layers
            .builder
            .guarded(self.guard(&[Op::SepConv3x3, Op::SepConv5x5]), |builder| builder.sum(self.shape, twice.to_vec()));
        let again = [(Op::SepConv3x3, Geometry::square(3, 1, 1)), (Op::SepConv5x5, Geometry::square(5, 1, 2))];
        terms.extend(self.depthwise(layers, inner, &again, 4)?);
        Ok(terms)
    }

    /// ReLU, depthwise, 1x1, norm of some operations, whose parts are counted from `first` on.
    fn depthwise(&self, layers: &mut Layers, x: TensorId, ops: &[(Op, Geometry)], first: usize) -> Result<Vec<Term>> {
        let c = self.shape.channels();
        let seen = Value { tensor: x, view: View::Relu };
        let (wide, mixed) = (layers.builder.temporary(self.shape), layers.builder.temporary(self.shape));
        for &(op, geometry) in ops {
            let geometry = Geometry { groups: c, ..geometry };
            let w = layers.filter(&format!("{}.op.{}", self.layer(op), first + 1), c, c, geometry)?;
            layers.builder.guarded(self.guard(&[op]), |builder| builder.conv_into(seen, w, None, geometry, wide));
        }
        for &(op, _) in ops {
            let w = layers.filter(&format!("{}.op.{}", self.layer(op), first + 2), c, c, POINTWISE)?;
            let wide = Value::from(wide);
            layers.builder.guarded(self.guard(&[op]), |builder| builder.conv_into(wide, w, None, POINTWISE, mixed));
        }
        let norm = |&(op, _): &(Op, Geometry)| self.normed(layers, op, &format!("op.{}", first + 3), mixed);
        ops.iter().map(norm).collect()
    }

    /// Pools, and the norms behind them.
    fn pools(&self, layers: &mut Layers) -> Result<Vec<Term>> {
        let (window, y) = (pool(self.stride), layers.builder.temporary(self.shape));
        layers.builder.guarded(self.guard(&[Op::MaxPool3x3]), |builder| {
            builder.push(Node::MaxPool { x: self.x, y, window });
        });
        layers.builder.guarded(self.guard(&[Op::AvgPool3x3]), |builder| {
            builder.push(Node::Combine { terms: vec![Term::new(self.x, TermKind::AvgPool(window))], y });
        });
        [Op::MaxPool3x3, Op::AvgPool3x3].map(|op| self.normed(layers, op, "1", y)).into_iter().collect()
    }

    /// What an operation yields behind its norm.
    fn normed(&self, layers: &mut Layers, op: Op, part: &str, x: TensorId) -> Result<Term> {
        let (guard, name) = (self.guard(&[op]), format!("{}.{part}", self.layer(op)));
        let value = layers.within(guard, |layers| layers.batch_norm(&name, x, true))?;
        Ok(Term { guard, ..layers.builder.term(value) })
    }
}
