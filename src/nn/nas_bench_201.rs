//! Networks of NAS-Bench-201 (Dong and Yang 2020): one architecture, or the supernet of all.
//!
//! Tensor names are those of the authors' `TinyNetwork`. In the supernet each of the six edges is a choice among the five
//! operations, the same in every cell; the two convolutions of an edge share the output tensor and the batch norm, which
//! has no scale and shift, and their weights are called after the operation.
//!
//! Authors of zero-cost proxies measure another network ([`Form::ZeroCostNas`]): its cells' convolutions have biases, their
//! batch norms no scale and shift, and the names are those of its over-complete cells.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::count::{Cost, cost};
use super::space::{self, Build, Family, ImageInfo, Networks, Options, Piece, Purpose};
use super::tensors::Named;
use super::{Heads, Layers, Model};
use crate::error::Result;
use crate::graph::{Geometry, Guard, Shape, TensorId, Term, TermKind, Value, View, Window};
use crate::space::Arch;
use crate::space::nas_bench_201::{Cell, EDGES, Macro, NasBench201, Op, macs, params};

/// The pooling operation of the cell.
const POOL: Window = Window { kernel: 3, stride: 1, padding: 1, count_include_pad: false };
/// The pooling of a reduction's shortcut.
const HALVE: Window = Window { kernel: 2, stride: 2, padding: 0, count_include_pad: false };

/// Names that the classifier has, by form.
pub(super) const CLASSIFIERS: [&str; 2] = ["classifier", "top.classifier"];

/// Whose network it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `TinyNetwork` of the benchmark's authors.
    #[default]
    Tiny,
    /// `NAS201Model` of SamsungLabs/zero-cost-nas, which CRoZe uses too. Options off the path are left out.
    ZeroCostNas,
}

impl Form {
    /// Its names.
    pub const NAMES: [&'static str; 2] = ["tiny", "zero-cost-nas"];

    /// Its name.
    pub fn name(self) -> &'static str {
        Form::NAMES[self as usize]
    }

    /// Names of the stem's convolution and norm.
    pub(crate) fn stem(self) -> [&'static str; 2] {
        match self {
            Form::Tiny => ["stem.0", "stem.1"],
            Form::ZeroCostNas => ["stem.net.0", "stem.net.1"],
        }
    }

    /// Names of the last norm and the classifier.
    pub(crate) fn head(self) -> [&'static str; 2] {
        match self {
            Form::Tiny => ["lastact.0", CLASSIFIERS[0]],
            Form::ZeroCostNas => ["top.lastact.0", CLASSIFIERS[1]],
        }
    }

    /// The reduction before a stage, and the convolution of its shortcut; `index` counts cells and reductions.
    pub(crate) fn reduction(self, stage: usize, index: usize) -> [String; 2] {
        match self {
            Form::Tiny => [format!("cells.{index}"), format!("cells.{index}.downsample.1")],
            Form::ZeroCostNas => [format!("reduction{stage}"), format!("reduction{stage}.residual.1")],
        }
    }

    /// A cell of a stage; `index` counts cells and reductions.
    pub(crate) fn cell(self, stage: usize, cell: usize, index: usize) -> String {
        match self {
            Form::Tiny => format!("cells.{index}"),
            Form::ZeroCostNas => format!("stack_cell{}.{cell}", stage + 1),
        }
    }

    /// An edge with a convolution.
    pub(crate) fn edge(self, cell: &str, edge: usize, op: Op) -> String {
        match self {
            Form::Tiny => format!("{cell}.layers.{edge}"),
            // Five options per edge; of those with weights the 3x3 convolution is the third, the 1x1 the fourth.
            Form::ZeroCostNas => format!("{cell}.options.{}", 5 * edge + if op == Op::Conv3x3 { 2 } else { 3 }),
        }
    }
}

impl std::str::FromStr for Form {
    type Err = crate::error::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tiny" => Ok(Form::Tiny),
            "zero-cost-nas" => Ok(Form::ZeroCostNas),
            _ => Err(crate::error::unknown("--network", text, &Form::NAMES)),
        }
    }
}

/// One architecture.
#[derive(Clone, Debug)]
pub struct Network {
    /// Operations of the cell.
    pub cell: Cell,
    /// Sizes around it.
    pub sizes: Macro,
    /// Biases, norms and names.
    pub form: Form,
}

impl Network {
    /// The benchmark's own network.
    pub fn new(cell: Cell, sizes: Macro) -> Self {
        Network { cell, sizes, form: Form::Tiny }
    }
}

/// All architectures at once, with shared weights.
#[derive(Clone, Debug)]
pub struct Supernet {
    /// Sizes around the cells.
    pub sizes: Macro,
}

impl Supernet {
    /// The path of an architecture: the code of each edge's operation.
    pub fn path(cell: &Cell) -> Vec<u8> {
        cell.0.iter().map(|op| op.code() as u8).collect()
    }
}

/// Name in a supernet of the weight that a network calls `name`, given the network's architecture: the edge's operation
/// is inserted before `.op.1`. `None` for weights that the supernet does not have (scales and shifts of cells).
pub fn inherited_name(name: &str, cell: &Cell) -> Option<String> {
    let Some((head, tail)) = name.split_once(".layers.") else { return Some(name.to_owned()) };
    let (edge, part) = tail.split_once('.')?;
    let op = cell.0.get(edge.parse::<usize>().ok()?)?;
    part.starts_with("op.1").then(|| format!("{head}.layers.{edge}.{}.{part}", op.name()))
}

/// The sizes that a build comes to.
///
/// # Errors
/// If an option is missing.
pub fn sizes(build: &Build) -> Result<Macro> {
    let [height, width] = build.image;
    let (channels, cells) = (build.count("channels")?, build.count("cells")?);
    Ok(Macro { channels, cells, in_channels: build.in_channels, height, width, classes: build.classes })
}

/// The build of a form and sizes.
pub fn build(form: Form, sizes: &Macro) -> Build {
    let option = |name: &str, value: usize| (name.to_owned(), toml::Value::from(value as i64));
    Build {
        form: form.name().to_owned(),
        image: [sizes.height, sizes.width],
        in_channels: sizes.in_channels,
        classes: sizes.classes,
        options: Options::from_iter([option("channels", sizes.channels), option("cells", sizes.cells)]),
    }
}

/// The space with networks of a form and sizes.
///
/// # Errors
/// If they cannot be built.
pub fn family(form: Form, sizes: &Macro) -> Result<Family> {
    Family::new(Arc::new(NasBench201), build(form, sizes))
}

impl Networks for NasBench201 {
    fn forms(&self) -> &[&str] {
        &Form::NAMES
    }

    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build {
        let small = images.height.max(images.width) < 16;
        let (channels, cells) = match purpose {
            Purpose::Quick => (8, 1),
            Purpose::Published | Purpose::Supernet | Purpose::Scoring => (16, 5),
            Purpose::Training => (if small { 8 } else { 16 }, 1),
        };
        // Pictures of more than 16 pixels are seen at half their size in a quick run; sides are multiples of four.
        let see = |side: usize| if purpose == Purpose::Quick && side > 16 { 16 } else { (side / 4 * 4).max(4) };
        let (height, width) = (see(images.height), see(images.width));
        let ImageInfo { channels: in_channels, classes, .. } = *images;
        let form = if purpose == Purpose::Scoring { Form::ZeroCostNas } else { Form::Tiny };
        build(form, &Macro { channels, cells, in_channels, height, width, classes })
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        sizes(build)?.validate()
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network { cell: arch.try_into()?, sizes: sizes(build)?, form: build.form.parse()? }))
    }

    fn supernet(&self, build: &Build) -> Result<Option<Box<dyn space::Supernet>>> {
        // The other form's cells have weights of their own for each option.
        match build.form.parse()? {
            Form::Tiny => Ok(Some(Box::new(Supernet { sizes: sizes(build)? }))),
            Form::ZeroCostNas => Ok(None),
        }
    }

    fn cost(&self, arch: &Arch, build: &Build) -> Result<Cost> {
        let (cell, sizes) = (Cell::try_from(arch)?, sizes(build)?);
        let params = match build.form.parse()? {
            Form::Tiny => params(&cell, &sizes),
            // Biases in place of scales and shifts. Of its operations nobody has published a count; they are the benchmark's.
            Form::ZeroCostNas => cost(&*self.network(arch, build)?)?.params,
        };
        Ok(Cost { params, macs: macs(&cell, &sizes) })
    }

    fn module(&self, form: &str) -> Option<&'static str> {
        match form.parse().ok()? {
            Form::Tiny => Some("`TinyNetwork` of the benchmark's authors (AutoDL-Projects)"),
            Form::ZeroCostNas => Some("`NAS201Model` of SamsungLabs/zero-cost-nas"),
        }
    }

    fn recognise(&self, tensors: &Named, build: &mut Build) {
        let axis = |names: &[&str], axis: usize| {
            names.iter().find_map(|name| tensors.get(&format!("{name}.weight"))?.dims.get(axis).copied())
        };
        let stems = [Form::Tiny, Form::ZeroCostNas].map(|form| form.stem()[0]);
        let number = |name: &String, prefix: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        // The first reduction stands behind as many cells; the other form numbers the cells of a stage.
        let reductions = tensors.keys().filter(|name| name.ends_with("conv_a.op.1.weight"));
        let before = reductions.filter_map(|name| number(name, "cells.")).min();
        let last = || tensors.keys().filter_map(|name| number(name, "stack_cell1.")).max();
        for (option, told) in [("channels", axis(&stems, 0)), ("cells", before.or_else(|| last()?.checked_add(1)))] {
            let told = told.map(|told| (option.to_owned(), toml::Value::from(told as i64)));
            build.options.extend(told);
        }
        build.in_channels = axis(&stems, 1).unwrap_or(build.in_channels);
        build.classes = axis(&CLASSIFIERS, 0).unwrap_or(build.classes);
        let form =
            if tensors.keys().any(|name| name.starts_with("stem.net.")) { Form::ZeroCostNas } else { Form::Tiny };
        form.name().clone_into(&mut build.form);
    }
}

impl space::Supernet for Supernet {
    fn path(&self, arch: &Arch) -> Option<Vec<u8>> {
        Some(arch.to_vec())
    }

    fn source(&self, name: &str, arch: &Arch) -> Option<String> {
        inherited_name(name, &arch.try_into().ok()?)
    }

    /// As the authors of RLNAS put it together for this space (Zhang et al. 2021, `nas_bench_201` of their code), whom GeNAS's follow: the
    /// filters on the ways from a cell's input to its output, as often as there are ways through them, pools as constants, and what all
    /// architectures have. Connections add nothing. A cell without a way has no vector.
    fn direction(&self, arch: &Arch, _released: bool) -> Option<Vec<(Piece, usize)>> {
        let Cell(ops) = Cell::try_from(arch).ok()?;
        let ways = ways(&ops);
        if ways.iter().all(|ways| *ways == 0) {
            return Some(vec![]);
        }
        let tensor = |name: &str, part: &str| (Piece::Tensor(format!("{name}.{part}")), 1);
        let ([stem, _], [norm, classifier]) = (Form::Tiny.stem(), Form::Tiny.head());
        let mut pieces = vec![tensor(stem, "weight")];
        for (name, part) in [(norm, "weight"), (norm, "bias"), (classifier, "weight"), (classifier, "bias")] {
            pieces.push(tensor(name, part));
        }
        let (mut index, mut channels) = (0, self.sizes.channels);
        for stage in 0..3 {
            if stage > 0 {
                let [name, shortcut] = Form::Tiny.reduction(stage, index);
                let filters = [format!("{name}.conv_a.op.1"), format!("{name}.conv_b.op.1"), shortcut];
                pieces.extend(filters.iter().map(|filter| tensor(filter, "weight")));
                (index, channels) = (index + 1, 2 * channels);
            }
            for number in 0..self.sizes.cells {
                let name = Form::Tiny.cell(stage, number, index);
                for (edge, &op) in ops.iter().enumerate().filter(|(edge, _)| ways[*edge] > 0) {
                    let piece = match op {
                        Op::None | Op::SkipConnect => continue,
                        Op::AvgPool3x3 => Piece::Constant { value: 1.0 / 9.0, count: 9 * channels },
                        op => Piece::Tensor(format!("{name}.layers.{edge}.{}.op.1.weight", op.name())),
                    };
                    pieces.push((piece, ways[edge]));
                }
                index += 1;
            }
        }
        Some(pieces)
    }
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.in_channels]
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        skeleton(layers, x, &self.sizes, self.form, &mut |layers, name, x| cell(layers, name, x, self))
    }
}

impl Model for Supernet {
    fn input(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.in_channels]
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let choices: Vec<u16> = (0..EDGES.len()).map(|i| layers.choice(&i.to_string(), Op::ALL.len())).collect();
        let mut cell = |layers: &mut Layers, name: &str, x| super_cell(layers, name, x, &choices);
        skeleton(layers, x, &self.sizes, Form::Tiny, &mut cell)
    }
}

/// How many ways from a cell's input to its output go through each edge.
fn ways(ops: &[Op; 6]) -> [usize; 6] {
    let is_live = |edge: usize| usize::from(ops[edge] != Op::None);
    let (mut to, mut from) = ([1usize, 0, 0, 0], [0usize, 0, 0, 1]);
    // Edges stand in the order of the nodes that they lead to.
    for (edge, &(source, node)) in EDGES.iter().enumerate() {
        to[node] += to[source] * is_live(edge);
    }
    for (edge, &(source, node)) in EDGES.iter().enumerate().rev() {
        from[source] += from[node] * is_live(edge);
    }
    std::array::from_fn(|edge| to[EDGES[edge].0] * from[EDGES[edge].1] * is_live(edge))
}

/// Appends one cell, given its name and input.
type AppendCell<'a> = dyn FnMut(&mut Layers, &str, TensorId) -> Result<TensorId> + 'a;

/// Stem, three stages of cells with reductions between them, head. The released measures count a stage's features from its
/// reduction on, and hold a cell for one of the next stage when it is the last of its own.
fn skeleton(layers: &mut Layers, x: TensorId, sizes: &Macro, form: Form, cell: &mut AppendCell) -> Result<Heads> {
    let [conv, norm] = form.stem();
    layers.stage = 0;
    let stem = layers.conv(conv, x, sizes.channels, Geometry::square(3, 1, 1))?;
    let stem = layers.batch_norm(norm, stem, true)?;
    let mut x = layers.builder.materialise(stem);
    layers.feature(x, false);
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            // A network that the released proxies ask to have no norms keeps those of its reductions.
            layers.keeps_norms = form == Form::ZeroCostNas;
            layers.stage = stage;
            let [name, shortcut] = form.reduction(stage, index);
            x = reduction(layers, &name, &shortcut, x)?;
            layers.keeps_norms = false;
            layers.feature(x, false);
            index += 1;
        }
        for number in 0..sizes.cells {
            layers.stage = (stage * sizes.cells + number + 1) / sizes.cells;
            x = cell(layers, &form.cell(stage, number, index), x)?;
            index += 1;
        }
    }
    // The head's rectifier works in place.
    layers.feature(x, true);
    layers.stage = 4;
    let [norm, classifier] = form.head();
    let normalised = layers.batch_norm(norm, x, true)?;
    let active = layers.relu(normalised);
    layers.anatomy.last_map = Some(active.tensor);
    let pooled = layers.builder.global_avg_pool(active);
    layers.builder.probe(pooled, "features");
    layers.feature(pooled, false);
    Ok(layers.linear(classifier, pooled, sizes.classes)?.into())
}

/// A ResNet block that halves the image and doubles the channels.
fn reduction(layers: &mut Layers, name: &str, shortcut: &str, x: TensorId) -> Result<TensorId> {
    let k = 2 * layers.builder.shape(x).channels();
    let a = layers.relu_conv_norm(&format!("{name}.conv_a"), x.into(), k, Geometry::square(3, 2, 1))?;
    let b = layers.relu_conv_norm(&format!("{name}.conv_b"), a, k, Geometry::square(3, 1, 1))?;
    let halved = layers.builder.avg_pool(name, x.into(), HALVE)?;
    let shortcut = layers.conv(shortcut, halved, k, Geometry::square(1, 1, 0))?;
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

fn cell(layers: &mut Layers, name: &str, x: TensorId, network: &Network) -> Result<TensorId> {
    let Network { cell: Cell(ops), form, .. } = network;
    let shape = layers.builder.shape(x);
    let mut nodes = vec![x];
    for node in 1..4 {
        let mut terms = vec![];
        for (edge, &(from, _)) in EDGES.iter().enumerate().filter(|(_, (_, to))| *to == node) {
            let source = Value::from(nodes[from]);
            let layer = form.edge(name, edge, ops[edge]);
            let value = match ops[edge] {
                Op::None => continue,
                Op::SkipConnect => source,
                Op::AvgPool3x3 => layers.builder.avg_pool(&layer, source, POOL)?,
                op => {
                    let geometry = convolution(op).unwrap_or(Geometry::square(1, 1, 0));
                    layers.relu_conv_norm_with(&layer, source, shape.channels(), geometry, *form == Form::Tiny)?
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

#[cfg(test)]
mod tests {
    use super::space::Supernet as _;
    use super::*;
    use crate::graph::store::Contents;
    use crate::graph::{Role, Statistics};
    use crate::measure::angle::Angle;
    use crate::nn::tensors::fresh;
    use crate::train::step::{StepOptions, build};

    /// The cosine of vectors that are put together way by way, as the authors of RLNAS do.
    fn by_ways(weights: [&Named; 2], cell: &Cell, sizes: &Macro) -> Option<f64> {
        let ways: [&[usize]; 4] = [&[3], &[1, 5], &[0, 2, 5], &[0, 4]];
        let live = ways.iter().filter(|way| way.iter().all(|&edge| cell.0[edge] != Op::None));
        let live: Vec<_> = live.collect();
        if live.is_empty() {
            return None;
        }
        let vector = |named: &Named| {
            let mut all: Vec<f64> = vec![];
            let mut names: Vec<String> =
                ["stem.0.weight", "lastact.0.weight", "lastact.0.bias"].map(str::to_owned).into();
            names.extend(["classifier.weight", "classifier.bias"].map(str::to_owned));
            for index in [sizes.cells, 2 * sizes.cells + 1] {
                let parts = ["conv_a.op.1", "conv_b.op.1", "downsample.1"];
                names.extend(parts.map(|part| format!("cells.{index}.{part}.weight")));
            }
            for way in &live {
                for index in (0..3 * sizes.cells + 2).filter(|index| (index + 1) % (sizes.cells + 1) > 0) {
                    let channels = sizes.channels << (index / (sizes.cells + 1));
                    for &edge in **way {
                        match cell.0[edge] {
                            Op::AvgPool3x3 => all.extend(vec![1.0 / 9.0; 9 * channels]),
                            Op::None | Op::SkipConnect => {}
                            op => names.push(format!("cells.{index}.layers.{edge}.{}.op.1.weight", op.name())),
                        }
                    }
                }
            }
            names.iter().for_each(|name| all.extend(named[name].data.iter().map(|&w| f64::from(w))));
            all
        };
        let [a, b] = weights.map(vector);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        Some(product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt())
    }

    #[test]
    fn angle_is_that_of_all_ways() {
        let sizes = Macro { channels: 4, cells: 2, in_channels: 3, height: 8, width: 8, classes: 5 };
        let model = Supernet { sizes };
        let statistics = Statistics::Running;
        let options = StepOptions { batch: 2, statistics, smoothing: 0.0, update: None, gradients: false };
        let contents = Contents::of(&build(&model, &options).unwrap().graph, &[Role::Weights]).unwrap();
        let (before, mut after) = (fresh(&contents, 1), fresh(&contents, 2));
        after.insert("lastact.0.bias".to_owned(), crate::nn::tensors::Values { dims: vec![16], data: vec![0.3; 16] });
        let angle = Angle::new(&before, &after).unwrap();
        let mut dead = 0;
        for number in (0..15_625).step_by(97) {
            let codes: Arch = (0..6).map(|edge| (number / 5usize.pow(edge) % 5) as u8).collect();
            let cell = Cell::try_from(&codes).unwrap();
            let (got, _) = angle.of(&model, &codes, false).unwrap().unwrap();
            match by_ways([&before, &after], &cell, &sizes) {
                Some(cosine) => assert!((got.cos() - cosine).abs() < 1e-9, "{codes:?}: {got} {cosine}"),
                None => dead += usize::from(got == 0.0 && model.direction(&codes, true) == Some(vec![])),
            }
        }
        assert!(dead > 0);
    }
}
