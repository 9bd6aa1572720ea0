//! Networks of DARTS cells (Liu, Simonyan and Yang 2019; Jeong et al. 2023): those for small images and for ImageNet, and the supernet
//! of all.
//!
//! Tensor names are those of the authors' `NetworkCIFAR` and `NetworkImageNet`. A cell reads the two cells before it, brings both to
//! its channels, and joins its four nodes; two cells, a third and two thirds of the way down, halve the sides and double the channels.
//! An auxiliary head may read the second of these while the network trains; a build's option `auxiliary` is the weight of its loss.

use std::sync::Arc;

mod count;
mod ends;
pub mod fourteen;
mod supernet;

pub use supernet::Supernet;

use super::count::Cost;
use super::space::{self, Build, Family, ImageInfo, Networks, Options, PublishedTraining, Purpose};
use super::tensors::Named;
use super::{Heads, Layers, Model};
use crate::error::{Error, Result};
use crate::graph::{Geometry, Shape, TensorId, Term, TermKind, Value, Window};
use crate::space::Arch;
use crate::space::darts::{Cell, Darts, Genotype, Op};

/// The forms of its authors, for small images and for ImageNet, and that of the supernet's paths, which have norms behind pools.
const FORMS: [&str; 3] = ["cifar", "search", "imagenet"];
const SEARCH: &str = FORMS[1];
const IMAGENET: &str = FORMS[2];

/// What brings channels together.
const POINTWISE: Geometry = Geometry::square(1, 1, 0);

/// The pools of a cell.
const fn pool(stride: usize) -> Window {
    Window { kernel: 3, stride, padding: 1, count_include_pad: false }
}

/// The sizes around the cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Channels of the first cells' nodes.
    pub channels: usize,
    /// Cells.
    pub cells: usize,
    /// Whether a norm follows each pool.
    pub norms_behind_pools: bool,
    /// Whether stem and auxiliary head are those for ImageNet.
    pub imagenet: bool,
    /// Weight of the auxiliary head's loss in training; there is no head at 0.
    pub auxiliary: f64,
    /// Rows, columns and channels of the images.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
}

impl Sizes {
    /// Those that a build comes to.
    ///
    /// # Errors
    /// If an option is missing, or is no number.
    pub fn of(build: &Build) -> Result<Self> {
        Ok(Sizes {
            channels: build.count("channels")?,
            cells: build.count("cells")?,
            norms_behind_pools: build.form == SEARCH,
            imagenet: build.form == IMAGENET,
            // Builds of earlier versions have none.
            auxiliary: build.number_or("auxiliary", 0.0)?,
            input: build.input(),
            classes: build.classes,
        })
    }

    /// Those of a supernet.
    pub fn of_supernet([channels, cells]: [usize; 2], input: [usize; 3], classes: usize) -> Self {
        Sizes { channels, cells, norms_behind_pools: true, imagenet: false, auxiliary: 0.0, input, classes }
    }

    /// Whether a cell halves the sides.
    fn is_reduction(&self, cell: usize) -> bool {
        cell == self.cells / 3 || cell == self.second_reduction()
    }

    /// The cell that an auxiliary head reads.
    fn second_reduction(&self) -> usize {
        2 * self.cells / 3
    }

    /// Whether a cell's first input has twice the sides of its second.
    fn follows_reduction(&self, cell: usize) -> bool {
        cell.checked_sub(1).map_or(self.imagenet, |before| self.is_reduction(before))
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
        defaults(purpose, images)
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        check(build)
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network { genotype: arch.try_into()?, sizes: Sizes::of(build)? }))
    }

    fn supernet(&self, build: &Build) -> Result<Option<Box<dyn space::Supernet>>> {
        // Paths change with every step, and the head is none of theirs.
        let sizes = Sizes { norms_behind_pools: true, auxiliary: 0.0, ..Sizes::of(build)? };
        Ok(Some(Box::new(Supernet { sizes })))
    }

    fn cost(&self, arch: &Arch, build: &Build) -> Result<Cost> {
        Ok(count::cost(&arch.try_into()?, &Sizes::of(build)?))
    }

    /// Liu, Simonyan and Yang (2019), appendix A.2.1; batch and clipping as released.
    fn published_training(&self) -> Option<PublishedTraining> {
        let (lr, weight_decay, clip, cutout, drop_path) = (0.025, 3e-4, 5.0, 16, 0.2);
        Some(PublishedTraining {
            epochs: 600,
            batch: 96,
            lr,
            weight_decay,
            clip,
            cutout,
            drop_path,
            options: &[("auxiliary", 0.4)],
        })
    }

    fn module(&self, form: &str) -> Option<&'static str> {
        module(form)
    }

    fn recognise(&self, tensors: &Named, build: &mut Build) {
        recognise(tensors, build);
        // Nothing else than a norm stands there.
        let behind_pools = |name: &String| name.contains("._ops.") && name.split('.').nth(4) == Some("1");
        if build.form != IMAGENET && tensors.keys().any(behind_pools) {
            SEARCH.clone_into(&mut build.form);
        }
    }
}

/// The authors' module of a form.
fn module(form: &str) -> Option<&'static str> {
    match form {
        "cifar" => Some("`NetworkCIFAR` of the cells' authors"),
        IMAGENET => Some("`NetworkImageNet` of the cells' authors"),
        _ => None,
    }
}

/// A build for networks of cells.
fn defaults(purpose: Purpose, images: &ImageInfo) -> Build {
    let small = images.height.max(images.width) < 16;
    let (channels, cells) = match purpose {
        Purpose::Quick => (4, 3),
        Purpose::Training => (if small { 8 } else { 16 }, if small { 5 } else { 8 }),
        Purpose::Scoring | Purpose::Supernet => (16, 8),
        Purpose::Published => (36, 20),
    };
    // Pictures of more than 16 pixels are seen at 16 in a quick run; sides are multiples of four.
    let see = |side: usize| if purpose == Purpose::Quick && side > 16 { 16 } else { (side / 4 * 4).max(4) };
    let option = |name: &str, value: i64| (name.to_owned(), toml::Value::from(value));
    let mut options = Options::from_iter([option("channels", channels), option("cells", cells)]);
    options.insert("auxiliary".to_owned(), 0.0.into());
    Build {
        form: FORMS[0].to_owned(),
        image: [see(images.height), see(images.width)],
        in_channels: images.channels,
        classes: images.classes,
        options,
    }
}

/// Checks the sizes of a build.
fn check(build: &Build) -> Result<()> {
    let sizes = Sizes::of(build)?;
    let Sizes { channels, cells, input: [height, width, _], .. } = sizes;
    if channels == 0 || channels > 1 << 12 || !channels.is_multiple_of(2) {
        return Err(Error::invalid("build.channels", format!("is {channels}, expected an even number up to 4096")));
    }
    if !(3..=256).contains(&cells) {
        return Err(Error::invalid("build.cells", format!("is {cells}, expected 3 (two of them reductions) to 256")));
    }
    let (multiple, who) = match sizes.imagenet {
        true => (ends::IMAGENET_SHRINKS, "stem and reductions divide the sides by 32"),
        false => (ends::CIFAR_SHRINKS, "both reductions halve the sides"),
    };
    if !height.is_multiple_of(multiple) || !width.is_multiple_of(multiple) {
        let why = format!("is {height}x{width}, expected multiples of {multiple}: {who}");
        return Err(Error::invalid("image", why));
    }
    ends::check_auxiliary(&sizes)
}

/// What tensors of a network tell of its build.
fn recognise(tensors: &Named, build: &mut Build) {
    let axis = |name: &str, axis: usize| tensors.get(name)?.dims.get(axis).copied();
    let number = |name: &String| name.strip_prefix("cells.")?.split('.').next()?.parse::<usize>().ok();
    let imagenet = axis("stem0.0.weight", 1);
    let channels = match imagenet {
        Some(_) => axis("stem1.1.weight", 0),
        None => axis("stem.0.weight", 0).map(|stem| stem / ends::STEM),
    };
    let cells = tensors.keys().filter_map(number).max().and_then(|last| last.checked_add(1));
    for (option, told) in [("channels", channels), ("cells", cells)] {
        build.options.extend(told.map(|told| (option.to_owned(), toml::Value::from(told as i64))));
    }
    build.in_channels = imagenet.or(axis("stem.0.weight", 1)).unwrap_or(build.in_channels);
    build.classes = axis("classifier.weight", 0).unwrap_or(build.classes);
    let form = if imagenet.is_some() { IMAGENET } else { FORMS[0] };
    form.clone_into(&mut build.form);
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
        skeleton(layers, x, &self.sizes, &mut |layers, place, inputs| {
            let Cell(nodes) = if place.is_reduction { &self.genotype.reduce } else { &self.genotype.normal };
            let mut states = inputs.to_vec();
            for (number, inputs) in nodes.iter().enumerate() {
                let node = Node { number, inputs, norms_behind_pools: self.sizes.norms_behind_pools };
                let state = node.append(layers, place, &states)?;
                states.push(state);
            }
            Ok(states.split_off(2))
        })
    }
}

/// Appends a cell's nodes behind its two inputs, and says what its output joins.
type AppendNodes<'a> = dyn FnMut(&mut Layers, &Place, [TensorId; 2]) -> Result<Vec<TensorId>> + 'a;

/// Stem, cells that read the two before them, average, classifier; and what helps training. The released measures compare what the
/// stem, each cell and the average leave, and a layer by what its cell does.
fn skeleton(layers: &mut Layers, x: TensorId, sizes: &Sizes, nodes: &mut AppendNodes) -> Result<Heads> {
    layers.stage = 0;
    let [mut before, mut last] = ends::stem(layers, x, sizes)?;
    layers.feature(last, false);
    let (mut channels, mut auxiliary) = (sizes.channels, vec![]);
    for number in 0..sizes.cells {
        let is_reduction = sizes.is_reduction(number);
        if is_reduction {
            channels *= 2;
        }
        layers.stage = number + 1;
        let name = format!("cells.{number}");
        let place = Place { name, channels, is_reduction, was_reduction: sizes.follows_reduction(number) };
        (before, last) = (last, cell(layers, &place, before, last, nodes)?);
        layers.feature(last, false);
        if number == sizes.second_reduction() && layers.auxiliary && sizes.auxiliary > 0.0 {
            auxiliary.push((ends::auxiliary(layers, last, sizes)?, sizes.auxiliary as f32));
        }
    }
    layers.anatomy.last_map = Some(last);
    layers.stage = sizes.cells + 1;
    let pooled = layers.builder.global_avg_pool(last.into());
    layers.builder.probe(pooled, "features");
    layers.feature(pooled, false);
    Ok(Heads { logits: layers.linear("classifier", pooled, sizes.classes)?, auxiliary })
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
    let inputs = [first, second].map(|input| layers.builder.materialise(input));
    let joined: Vec<Value> = nodes(layers, place, inputs)?.into_iter().map(Value::from).collect();
    layers.builder.concatenate(name, &joined)
}

/// Where a cell stands.
struct Place {
    name: String,
    channels: usize,
    is_reduction: bool,
    /// Whether the cell before is one, or the stem halves sides there.
    was_reduction: bool,
}

/// A node of a cell, counted from 0, with the operations and states that it sums.
struct Node<'a> {
    number: usize,
    inputs: &'a [(Op, usize); 2],
    norms_behind_pools: bool,
}

impl Node<'_> {
    /// Appends the node behind the `states` before it.
    fn append(&self, layers: &mut Layers, place: &Place, states: &[TensorId]) -> Result<TensorId> {
        let Place { name, is_reduction, .. } = place;
        let (mut terms, mut shape) = (vec![], None);
        for (input, &(op, source)) in self.inputs.iter().enumerate() {
            let stride = if *is_reduction && source < 2 { 2 } else { 1 };
            let layer = format!("{name}._ops.{}", 2 * self.number + input);
            let value = self.operation(layers, &layer, op, states[source], stride)?;
            // A connection that does nothing is never dropped, so that something of the input is left (as released).
            let does_nothing = op == Op::SkipConnect && stride == 1;
            let value = if does_nothing { value } else { layers.path(value) };
            shape = Some(layers.builder.seen_shape(value));
            terms.push(layers.builder.term(value));
        }
        let none = || Error::shape(name.as_str(), "a node with inputs", "none");
        Ok(layers.builder.sum(shape.ok_or_else(none)?, terms))
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
            Op::SepConv7x7 => return separable(layers, name, x, 7, stride),
            Op::DilConv3x3 => return dilated(layers, name, x, 3, stride),
            Op::DilConv5x5 => return dilated(layers, name, x, 5, stride),
            Op::Conv7x1And1x7 => return crossed(layers, name, x, stride),
            Op::MaxPool3x3 => Value::from(layers.builder.max_pool(name, x.into(), pool(stride))?),
            Op::AvgPool3x3 => layers.builder.avg_pool(name, x.into(), pool(stride))?,
        };
        match self.norms_behind_pools {
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

/// ReLU, a convolution along rows and one along columns, norm. A geometry has one padding and one stride for both axes: so zeros are put
/// around maps first, and the first convolution computes the columns too that the second's stride passes over.
fn crossed(layers: &mut Layers, name: &str, x: TensorId, stride: usize) -> Result<Value> {
    const REACH: usize = 3;
    let [n, h, w, c] = layers.builder.shape(x).nhwc();
    let bordered = |layers: &mut Layers, x: TensorId, [rows, columns]: [usize; 2]| {
        let moved = TermKind::Moved { by: [-(rows as i32), -(columns as i32), 0] };
        layers.builder.sum(Shape::map(n, h + 2 * rows, w + 2 * columns, c), vec![Term::new(x, moved)])
    };
    // What is rectified is noted without the zeros around it.
    layers.relu(x.into());
    let wide = bordered(layers, x, [0, REACH]);
    let wide = layers.builder.relu(wide.into());
    let along_rows = Geometry { s: 2 * REACH + 1, ..Geometry::square(1, 1, 0) };
    let first = layers.conv(&format!("{name}.1"), wide, c, along_rows)?;
    let high = bordered(layers, first, [REACH, 0]);
    let along_columns = Geometry { r: 2 * REACH + 1, ..Geometry::square(1, stride, 0) };
    let second = layers.conv(&format!("{name}.2"), high, c, along_columns)?;
    layers.batch_norm(&format!("{name}.3"), second, true)
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
