//! Networks of DARTS cells (Liu, Simonyan and Yang 2019; Jeong et al. 2023): the one for small images, and the supernet of all.
//!
//! Tensor names are those of the authors' `NetworkCIFAR`. A cell reads the two cells before it, brings both to its channels, and
//! joins its four nodes; two cells, a third and two thirds of the way down, halve the sides and double the channels.

use std::sync::Arc;

mod supernet;

pub use supernet::Supernet;

use super::space::{self, Build, Family, ImageInfo, Networks, Options, Purpose};
use super::tensors::Named;
use super::{Heads, Layers, Model};
use crate::error::{Error, Result};
use crate::graph::{Geometry, Shape, TensorId, Value, Window};
use crate::space::Arch;
use crate::space::darts::{Cell, Darts, Genotype, Op};

/// Channels of the stem's output, in those of the first cells' nodes.
const STEM: usize = 3;
/// The form of its authors, and that of the supernet's paths, which have norms behind pools.
const FORMS: [&str; 2] = ["cifar", "search"];

/// What brings channels together.
const POINTWISE: Geometry = Geometry::square(1, 1, 0);

/// The pools of a cell.
const fn pool(stride: usize) -> Window {
    Window { kernel: 3, stride, padding: 1, count_include_pad: false }
}

/// The sizes around the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Channels of the first cells' nodes.
    pub channels: usize,
    /// Cells.
    pub cells: usize,
    /// Whether a norm follows each pool.
    pub norms_behind_pools: bool,
    /// Rows, columns and channels of the images.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
}

impl Sizes {
    /// Those that a build comes to.
    ///
    /// # Errors
    /// If an option is missing.
    pub fn of(build: &Build) -> Result<Self> {
        let (channels, cells) = (build.count("channels")?, build.count("cells")?);
        let norms_behind_pools = build.form == FORMS[1];
        Ok(Sizes { channels, cells, norms_behind_pools, input: build.input(), classes: build.classes })
    }

    /// Whether a cell halves the sides.
    fn is_reduction(&self, cell: usize) -> bool {
        cell == self.cells / 3 || cell == 2 * self.cells / 3
    }
}

/// One architecture.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its cells.
    pub genotype: Genotype,
    /// Sizes around them.
    pub sizes: Sizes,
}

impl Networks for Darts {
    fn forms(&self) -> &[&str] {
        &FORMS
    }

    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build {
        let small = images.height.max(images.width) < 16;
        let (channels, cells) = match purpose {
            Purpose::Quick => (4, 3),
            Purpose::Training => (if small { 8 } else { 16 }, if small { 5 } else { 8 }),
            Purpose::Scoring => (16, 8),
            Purpose::Published => (36, 20),
        };
        // Pictures of more than 16 pixels are seen at 16 in a quick run; sides are multiples of four.
        let see = |side: usize| if purpose == Purpose::Quick && side > 16 { 16 } else { (side / 4 * 4).max(4) };
        let option = |name: &str, value: i64| (name.to_owned(), toml::Value::from(value));
        Build {
            form: FORMS[0].to_owned(),
            image: [see(images.height), see(images.width)],
            in_channels: images.channels,
            classes: images.classes,
            options: Options::from_iter([option("channels", channels), option("cells", cells)]),
        }
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        let Sizes { channels, cells, input: [height, width, _], .. } = Sizes::of(build)?;
        if channels == 0 || channels > 1 << 12 || !channels.is_multiple_of(2) {
            return Err(Error::invalid("build.channels", format!("is {channels}, expected an even number up to 4096")));
        }
        if !(3..=256).contains(&cells) {
            return Err(Error::invalid(
                "build.cells",
                format!("is {cells}, expected 3 (two of them reductions) to 256"),
            ));
        }
        if !height.is_multiple_of(4) || !width.is_multiple_of(4) {
            let why = format!("is {height}x{width}, expected multiples of 4: both reductions halve the sides");
            return Err(Error::invalid("image", why));
        }
        Ok(())
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network { genotype: arch.try_into()?, sizes: Sizes::of(build)? }))
    }

    fn supernet(&self, build: &Build) -> Result<Option<Box<dyn space::Supernet>>> {
        let sizes = Sizes { norms_behind_pools: true, ..Sizes::of(build)? };
        Ok(Some(Box::new(Supernet { sizes })))
    }

    fn recognise(&self, tensors: &Named, build: &mut Build) {
        let axis = |name: &str, axis: usize| tensors.get(name)?.dims.get(axis).copied();
        let number = |name: &String| name.strip_prefix("cells.")?.split('.').next()?.parse::<usize>().ok();
        let channels = axis("stem.0.weight", 0).map(|stem| stem / STEM);
        let cells = tensors.keys().filter_map(number).max().and_then(|last| last.checked_add(1));
        for (option, told) in [("channels", channels), ("cells", cells)] {
            build.options.extend(told.map(|told| (option.to_owned(), toml::Value::from(told as i64))));
        }
        build.in_channels = axis("stem.0.weight", 1).unwrap_or(build.in_channels);
        build.classes = axis("classifier.weight", 0).unwrap_or(build.classes);
        // Nothing else than a norm stands there.
        let behind_pools = |name: &String| name.contains("._ops.") && name.split('.').nth(4) == Some("1");
        let form = if tensors.keys().any(behind_pools) { FORMS[1] } else { FORMS[0] };
        form.clone_into(&mut build.form);
    }
}

/// The space with networks of these sizes.
///
/// # Errors
/// If they cannot be built.
pub fn family(build: Build) -> Result<Family> {
    Family::new(Arc::new(Darts), build)
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        self.sizes.input
    }

    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        skeleton(layers, x, &self.sizes, &mut |layers, place, states| self.nodes(layers, place, states))
    }
}

/// Appends a cell's nodes behind its two inputs.
type AppendNodes<'a> = dyn FnMut(&mut Layers, &Place, &mut Vec<TensorId>) -> Result<()> + 'a;

/// Stem, cells that read the two before them, average, classifier.
fn skeleton(layers: &mut Layers, x: TensorId, sizes: &Sizes, nodes: &mut AppendNodes) -> Result<Heads> {
    layers.stage = 0;
    let stem = layers.conv("stem.0", x, STEM * sizes.channels, Geometry::square(3, 1, 1))?;
    let stem = layers.batch_norm("stem.1", stem, true)?;
    let stem = layers.builder.materialise(stem);
    layers.feature(stem, false);
    let (mut before, mut last) = (stem, stem);
    let (mut channels, mut was_reduction) = (sizes.channels, false);
    for number in 0..sizes.cells {
        let is_reduction = sizes.is_reduction(number);
        if is_reduction {
            channels *= 2;
            layers.stage += 1;
        }
        let place = Place { name: format!("cells.{number}"), channels, is_reduction, was_reduction };
        (before, last) = (last, cell(layers, &place, before, last, nodes)?);
        if is_reduction {
            layers.feature(last, false);
        }
        was_reduction = is_reduction;
    }
    layers.feature(last, false);
    layers.anatomy.last_map = Some(last);
    layers.stage = 4;
    let pooled = layers.builder.global_avg_pool(last.into());
    layers.builder.probe(pooled, "features");
    layers.feature(pooled, false);
    Ok(layers.linear("classifier", pooled, sizes.classes)?.into())
}

/// Brings the two cells before to one's channels, and joins its nodes.
fn cell(
    layers: &mut Layers,
    place: &Place,
    before: TensorId,
    last: TensorId,
    nodes: &mut AppendNodes,
) -> Result<TensorId> {
    let Place { name, channels, was_reduction, .. } = place;
    let first = match was_reduction {
        true => factorised_reduction(layers, &format!("{name}.preprocess0"), before, *channels)?,
        false => layers.relu_conv_norm(&format!("{name}.preprocess0"), before.into(), *channels, POINTWISE)?,
    };
    let second = layers.relu_conv_norm(&format!("{name}.preprocess1"), last.into(), *channels, POINTWISE)?;
    let mut states: Vec<TensorId> = vec![];
    for input in [first, second] {
        states.push(layers.builder.materialise(input));
    }
    nodes(layers, place, &mut states)?;
    let joined: Vec<Value> = states[2..].iter().map(|&state| state.into()).collect();
    layers.builder.concatenate(name, &joined)
}

/// Where a cell stands.
struct Place {
    name: String,
    channels: usize,
    is_reduction: bool,
    /// Whether the cell before is one.
    was_reduction: bool,
}

impl Network {
    /// A cell's nodes.
    fn nodes(&self, layers: &mut Layers, place: &Place, states: &mut Vec<TensorId>) -> Result<()> {
        let Place { name, is_reduction, .. } = place;
        let Cell(nodes) = if *is_reduction { &self.genotype.reduce } else { &self.genotype.normal };
        for (node, inputs) in nodes.iter().enumerate() {
            let (mut terms, mut shape) = (vec![], None);
            for (input, &(op, source)) in inputs.iter().enumerate() {
                let stride = if *is_reduction && source < 2 { 2 } else { 1 };
                let layer = format!("{name}._ops.{}", 2 * node + input);
                let value = self.operation(layers, &layer, op, states[source], stride)?;
                shape = Some(layers.builder.seen_shape(value));
                terms.push(layers.builder.term(value));
            }
            let none = || Error::shape(name.as_str(), "a node with inputs", "none");
            states.push(layers.builder.sum(shape.ok_or_else(none)?, terms));
        }
        Ok(())
    }

    /// What an edge computes of `x`.
    fn operation(&self, layers: &mut Layers, name: &str, op: Op, x: TensorId, stride: usize) -> Result<Value> {
        let Shape::Map { c, .. } = layers.builder.shape(x) else {
            return Err(Error::shape(name, "a feature map", layers.builder.shape(x)));
        };
        let pooled = match op {
            Op::None => return Err(Error::invalid(name, "an input of a node has no operation")),
            Op::SkipConnect if stride == 1 => return Ok(x.into()),
            Op::SkipConnect => return factorised_reduction(layers, name, x, c),
            Op::SepConv3x3 => return separable(layers, name, x, 3, stride),
            Op::SepConv5x5 => return separable(layers, name, x, 5, stride),
            Op::DilConv3x3 => return dilated(layers, name, x, 3, stride),
            Op::DilConv5x5 => return dilated(layers, name, x, 5, stride),
            Op::MaxPool3x3 => Value::from(layers.builder.max_pool(name, x.into(), pool(stride))?),
            Op::AvgPool3x3 => layers.builder.avg_pool(name, x.into(), pool(stride))?,
        };
        match self.sizes.norms_behind_pools {
            true => {
                let pooled = layers.builder.materialise(pooled);
                layers.batch_norm(&format!("{name}.1"), pooled, true)
            }
            false => Ok(pooled),
        }
    }
}

/// ReLU, a depthwise and a 1x1 convolution, norm: parts `first` to `first + 3` of a sequence called `name.op`.
fn depthwise(layers: &mut Layers, name: &str, first: usize, x: Value, geometry: Geometry) -> Result<Value> {
    let c = layers.builder.seen_shape(x).channels();
    let x = layers.relu(x);
    let wide = layers.conv(&format!("{name}.op.{}", first + 1), x, c, Geometry { groups: c, ..geometry })?;
    let mixed = layers.conv(&format!("{name}.op.{}", first + 2), wide, c, Geometry::square(1, 1, 0))?;
    layers.batch_norm(&format!("{name}.op.{}", first + 3), mixed, true)
}

/// Two of these, the first with the stride.
fn separable(layers: &mut Layers, name: &str, x: TensorId, kernel: usize, stride: usize) -> Result<Value> {
    let inner = depthwise(layers, name, 0, x.into(), Geometry::square(kernel, stride, kernel / 2))?;
    depthwise(layers, name, 4, inner, Geometry::square(kernel, 1, kernel / 2))
}

/// One with dilation 2.
fn dilated(layers: &mut Layers, name: &str, x: TensorId, kernel: usize, stride: usize) -> Result<Value> {
    let geometry = Geometry { dilation: 2, ..Geometry::square(kernel, stride, kernel - 1) };
    depthwise(layers, name, 0, x.into(), geometry)
}

/// Halves sides without losing a position's neighbours: ReLU, half of the channels from even places, half from odd ones, norm.
fn factorised_reduction(layers: &mut Layers, name: &str, x: TensorId, channels: usize) -> Result<Value> {
    let [_, h, w, _] = layers.builder.shape(x).nhwc();
    if [h, w, channels].iter().any(|side| !side.is_multiple_of(2)) {
        return Err(Error::shape(name, "even sides and channels to halve", format!("{h}x{w}, {channels} channels")));
    }
    let halve = Geometry::square(1, 2, 0);
    let even = layers.relu(x.into());
    let shifted = layers.builder.shifted(x.into(), 1, 1);
    let odd = layers.builder.relu(shifted.into());
    let even = layers.conv(&format!("{name}.conv_1"), even, channels / 2, halve)?;
    let odd = layers.conv(&format!("{name}.conv_2"), odd, channels / 2, halve)?;
    let both = layers.builder.concatenate(name, &[even.into(), odd.into()])?;
    layers.batch_norm(&format!("{name}.bn"), both, true)
}

#[cfg(test)]
#[path = "darts_tests.rs"]
mod tests;
