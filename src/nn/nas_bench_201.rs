//! Networks of NAS-Bench-201 (Dong and Yang 2020): one architecture, or the supernet of all.
//!
//! Tensor names are those of the authors' `TinyNetwork`. In the supernet each of the six edges is a choice among the five
//! operations, the same in every cell; the two convolutions of an edge share the output tensor and the batch norm, which
//! has no scale and shift, and their weights are called after the operation.

use super::{Layers, Model};
use crate::error::Result;
use crate::graph::{Geometry, Guard, Shape, TensorId, Term, TermKind, Value, View, Window};
use crate::space::nas_bench_201::{Arch, EDGES, Macro, Op};

/// The pooling operation of the cell.
const POOL: Window = Window { kernel: 3, stride: 1, padding: 1, count_include_pad: false };
/// The pooling of a reduction's shortcut.
const HALVE: Window = Window { kernel: 2, stride: 2, padding: 0, count_include_pad: false };

/// One architecture.
#[derive(Clone, Debug)]
pub struct Network {
    /// Operations of the cell.
    pub arch: Arch,
    /// Sizes around it.
    pub sizes: Macro,
}

/// All architectures at once, with shared weights.
#[derive(Clone, Debug)]
pub struct Supernet {
    /// Sizes around the cells.
    pub sizes: Macro,
}

impl Supernet {
    /// The path of an architecture: the code of each edge's operation.
    pub fn path(arch: &Arch) -> Vec<u8> {
        arch.0.iter().map(|op| op.code() as u8).collect()
    }
}

/// Name in a supernet of the weight that a network calls `name`, given the network's architecture: the edge's operation
/// is inserted before `.op.1`. `None` for weights that the supernet does not have (scales and shifts of cells).
pub fn inherited_name(name: &str, arch: &Arch) -> Option<String> {
    let Some((head, tail)) = name.split_once(".layers.") else { return Some(name.to_owned()) };
    let (edge, part) = tail.split_once('.')?;
    let op = arch.0.get(edge.parse::<usize>().ok()?)?;
    part.starts_with("op.1").then(|| format!("{head}.layers.{edge}.{}.{part}", op.name()))
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.in_channels]
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<TensorId> {
        skeleton(layers, x, &self.sizes, &mut |layers, name, x| cell(layers, name, x, &self.arch))
    }
}

impl Model for Supernet {
    fn input(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.in_channels]
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<TensorId> {
        let choices: Vec<u16> = EDGES.iter().map(|_| layers.builder.choice(Op::ALL.len() as u8)).collect();
        skeleton(layers, x, &self.sizes, &mut |layers, name, x| super_cell(layers, name, x, &choices))
    }
}

/// Stem, three stages of cells with reductions between them, head.
fn skeleton(
    layers: &mut Layers,
    x: TensorId,
    sizes: &Macro,
    cell: &mut dyn FnMut(&mut Layers, &str, TensorId) -> Result<TensorId>,
) -> Result<TensorId> {
    let stem = layers.conv("stem.0", x, sizes.channels, Geometry::square(3, 1, 1))?;
    let stem = layers.batch_norm("stem.1", stem, true)?;
    let mut x = layers.builder.materialise(stem);
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            x = reduction(layers, &format!("cells.{index}"), x)?;
            index += 1;
        }
        for _ in 0..sizes.cells {
            x = cell(layers, &format!("cells.{index}"), x)?;
            index += 1;
        }
    }
    let normalised = layers.batch_norm("lastact.0", x, true)?;
    let active = layers.builder.relu(normalised);
    let pooled = layers.builder.global_avg_pool(active);
    layers.builder.probe(pooled, "features");
    layers.linear("classifier", pooled, sizes.classes)
}

/// A ResNet block that halves the image and doubles the channels.
fn reduction(layers: &mut Layers, name: &str, x: TensorId) -> Result<TensorId> {
    let k = 2 * layers.builder.shape(x).channels();
    let a = layers.relu_conv_norm(&format!("{name}.conv_a"), x.into(), k, Geometry::square(3, 2, 1))?;
    let b = layers.relu_conv_norm(&format!("{name}.conv_b"), a, k, Geometry::square(3, 1, 1))?;
    let halved = layers.builder.avg_pool(name, x.into(), HALVE)?;
    let shortcut = layers.conv(&format!("{name}.downsample.1"), halved, k, Geometry::square(1, 1, 0))?;
    let shape = layers.builder.shape(shortcut);
    let terms = vec![layers.builder.term(shortcut.into()), layers.builder.term(b)];
    Ok(layers.builder.sum(shape, terms))
}

fn convolution(op: Op) -> Option<Geometry> {
    match op {
        Op::Conv1x1 => Some(Geometry::square(1, 1, 0)),
        Op::Conv3x3 => Some(Geometry::square(3, 1, 1)),
        Op::None | Op::SkipConnect | Op::AvgPool3x3 => None,
    }
}

fn cell(layers: &mut Layers, name: &str, x: TensorId, arch: &Arch) -> Result<TensorId> {
    let shape = layers.builder.shape(x);
    let mut nodes = vec![x];
    for node in 1..4 {
        let mut terms = vec![];
        for (edge, &(from, _)) in EDGES.iter().enumerate().filter(|(_, (_, to))| *to == node) {
            let source = Value::from(nodes[from]);
            let layer = format!("{name}.layers.{edge}");
            let value = match arch.0[edge] {
                Op::None => continue,
                Op::SkipConnect => source,
                Op::AvgPool3x3 => layers.builder.avg_pool(&layer, source, POOL)?,
                op => {
                    let geometry = convolution(op).unwrap_or(Geometry::square(1, 1, 0));
                    layers.relu_conv_norm(&layer, source, shape.channels(), geometry)?
                }
            };
            terms.push(layers.builder.term(value));
        }
        nodes.push(layers.builder.sum(shape, terms));
    }
    Ok(nodes[3])
}

fn super_cell(layers: &mut Layers, name: &str, x: TensorId, choices: &[u16]) -> Result<TensorId> {
    let shape = layers.builder.shape(x);
    let mut nodes = vec![x];
    for node in 1..4 {
        let mut terms = vec![];
        for (edge, &(from, _)) in EDGES.iter().enumerate().filter(|(_, (_, to))| *to == node) {
            let guard = |op: Op| Guard::new(choices[edge], 1 << op.code());
            let source = nodes[from];
            let layer = format!("{name}.layers.{edge}");
            let coefficients = mixed_convolution(layers, &layer, source, shape, choices[edge])?;
            let either = Guard::new(choices[edge], guard(Op::Conv1x1).options | guard(Op::Conv3x3).options);
            terms.push(Term { guard: guard(Op::SkipConnect), a: source, kind: TermKind::Plain });
            terms.push(Term { guard: either, ..layers.builder.term(coefficients) });
            terms.push(Term { guard: guard(Op::AvgPool3x3), a: source, kind: TermKind::AvgPool(POOL) });
        }
        nodes.push(layers.builder.sum(shape, terms));
    }
    Ok(nodes[3])
}

/// The convolutions of an edge, which write one tensor, and their batch norm.
fn mixed_convolution(layers: &mut Layers, name: &str, x: TensorId, shape: Shape, choice: u16) -> Result<Value> {
    let seen = Value { tensor: x, view: View::Relu };
    let y = layers.builder.temporary(shape);
    let mut both = 0;
    for op in Op::ALL {
        let Some(geometry) = convolution(op) else { continue };
        let option = 1 << op.code();
        both |= option;
        let w = layers.filter(&format!("{name}.{}.op.1", op.name()), shape.channels(), shape.channels(), geometry)?;
        layers.builder.guarded(Guard::new(choice, option), |b| b.conv_into(seen, w, None, geometry, y));
    }
    let outer = Guard::new(choice, both);
    layers.within(outer, |layers| layers.batch_norm(&format!("{name}.op.2"), y, false))
}
