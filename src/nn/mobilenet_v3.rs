//! Networks of the elastic MobileNetV3 (Howard et al., ICCV 2019; Cai et al., ICLR 2020): inverted bottlenecks, some with squeeze and
//! excitation, and hard swishes in the later stages.
//!
//! Tensor names are those of a subnet that the authors' `get_active_subnet` makes: `first_conv`, `blocks.0` (which is in all), the
//! blocks of five stages in order, `final_expand_layer`, `feature_mix_layer`, `classifier.linear`. Strides are those for ImageNet: sides
//! are divided by 32, rounded up.

use std::sync::Arc;

mod cut;
mod supernet;

use super::count::Cost;
use super::space::{Build, ImageInfo, Networks, Options, Purpose};
use super::tensors::Named;
use super::{Heads, Layers, Model};
use crate::error::{Error, Result};
use crate::graph::{Geometry, TensorId, Value};
use crate::space::Arch;
use crate::space::mobilenet_v3::{DEPTH, DEPTHS, MobileNetV3, RESOLUTION_STEP, STAGES, Subnet};

/// Layers get their own genes, or, as released with CNAS and FlatNAS, those of others; see [`Subnet::misassigned`].
const FORMS: [&str; 2] = ["ofa", "unpadded"];
/// Channels of the stem, the first block and the stages, before they are multiplied.
const STAGE_WIDTHS: [usize; 7] = [16, 16, 24, 40, 80, 112, 160];
/// The same of what is behind the stages: before and behind the average.
const LAST_WIDTHS: [usize; 2] = [960, 1280];
/// The side that networks of ImageNet see.
const IMAGENET: usize = 224;
/// What channels are multiples of.
const DIVISOR: usize = 8;
const POINTWISE: Geometry = Geometry::square(1, 1, 0);

/// The nearest multiple of eight, unless that is less than nine tenths (`make_divisible`).
fn divisible(channels: f64) -> usize {
    let eighth = DIVISOR as f64;
    let near = (((channels + eighth / 2.0) / eighth).floor() * eighth).max(eighth);
    (if near < 0.9 * channels { near + eighth } else { near }) as usize
}

/// Channels that squeeze and excitation comes down to.
fn squeezed(channels: usize) -> usize {
    divisible((channels / 4) as f64)
}

/// Channels by the multiplier of the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Widths {
    stages: [usize; 7],
    last: [usize; 2],
}

impl Widths {
    fn of(width: f64) -> Self {
        let times = |channels: usize| divisible(channels as f64 * width);
        Widths { stages: STAGE_WIDTHS.map(times), last: LAST_WIDTHS.map(times) }
    }
}

/// An inverted bottleneck.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// `blocks.3.conv`
    name: String,
    /// What the supernet calls it; the first block, which is in all networks, is called the same there.
    source: Option<String>,
    /// 0 for the first block, and the number of the stage from 1 on.
    stage: usize,
    inputs: usize,
    /// As many as inputs: nothing widens them.
    middle: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    /// Hard swish in place of the rectifier.
    swishes: bool,
    /// Squeeze and excitation.
    excites: bool,
    /// Its number in its stage.
    place: usize,
    /// Whether it ends the stage.
    is_last: bool,
}

impl Block {
    fn widens(&self) -> bool {
        self.middle != self.inputs
    }

    /// Whether there are networks without it: of a stage the first layers are in all.
    fn may_be_absent(&self) -> bool {
        self.place >= DEPTHS[0]
    }

    fn is_residual(&self) -> bool {
        self.stride == 1 && self.inputs == self.outputs
    }

    fn squeezed(&self) -> usize {
        squeezed(self.middle)
    }
}

/// The blocks of a subnet.
fn blocks(widths: &Widths, subnet: &Subnet) -> Vec<Block> {
    /// Strides of a stage's first block, hard swishes, excitations.
    const STAGE: [(usize, bool, bool); STAGES] =
        [(2, false, false), (2, false, true), (2, true, false), (1, true, true), (2, true, true)];
    let [stem, first, ..] = widths.stages;
    let mut blocks = vec![Block {
        name: "blocks.0.conv".into(),
        source: None,
        stage: 0,
        inputs: stem,
        middle: stem,
        outputs: first,
        kernel: 3,
        stride: 1,
        swishes: false,
        excites: false,
        place: 0,
        is_last: true,
    }];
    let mut inputs = first;
    for (number, (layers, (first_stride, swishes, excites))) in subnet.stages.iter().zip(STAGE).enumerate() {
        let outputs = widths.stages[2 + number];
        for (place, layer) in layers.iter().enumerate() {
            blocks.push(Block {
                name: format!("blocks.{}.conv", blocks.len()),
                source: Some(format!("blocks.{}.conv", 1 + number * DEPTH + place)),
                stage: 1 + number,
                inputs,
                middle: divisible((inputs * layer.expansion) as f64),
                outputs,
                kernel: layer.kernel,
                stride: if place == 0 { first_stride } else { 1 },
                swishes,
                excites,
                place,
                is_last: place + 1 == layers.len(),
            });
            inputs = outputs;
        }
    }
    blocks
}

/// One architecture.
#[derive(Clone, Debug)]
pub struct Network {
    subnet: Subnet,
    widths: Widths,
    in_channels: usize,
    classes: usize,
}

impl Network {
    fn new(subnet: Subnet, build: &Build) -> Result<Self> {
        let subnet = if build.form == FORMS[1] { subnet.misassigned() } else { subnet };
        let widths = Widths::of(width(build)?);
        Ok(Network { subnet, widths, in_channels: build.in_channels, classes: build.classes })
    }

    /// Parameters and multiply-adds by their arithmetic: a search within limits asks for those of thousands of architectures.
    fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        let halved = |side: usize| side.div_ceil(2);
        let mut side = halved(self.subnet.resolution);
        // Weights that each of so many positions is multiplied with, and what is added behind.
        let mut add = |weights: usize, positions: usize, behind: usize| {
            cost.params += (weights + behind) as u64;
            cost.macs += weights as u64 * positions as u64;
        };
        let norm = |channels: usize| 2 * channels;
        let stem = self.widths.stages[0];
        add(9 * self.in_channels * stem, side * side, norm(stem));
        for block in blocks(&self.widths, &self.subnet) {
            let Block { inputs, middle, outputs, kernel, .. } = block;
            if block.widens() {
                add(inputs * middle, side * side, norm(middle));
            }
            side = if block.stride == 2 { halved(side) } else { side };
            add(kernel * kernel * middle, side * side, norm(middle));
            if block.excites {
                let squeezed = block.squeezed();
                add(2 * middle * squeezed, 1, middle + squeezed);
            }
            add(middle * outputs, side * side, norm(outputs));
        }
        let ([wide, mixed], last) = (self.widths.last, self.widths.stages[6]);
        add(last * wide, side * side, norm(wide));
        add(wide * mixed, 1, 0);
        add(mixed * self.classes, 1, self.classes);
        cost
    }
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        [self.subnet.resolution, self.subnet.resolution, self.in_channels]
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        self.around(layers, x, &mut |layers, block, x| block.append(layers, x))
    }
}

/// Appends a block, and says what it yields.
type Append<'a> = dyn FnMut(&mut Layers, &Block, TensorId) -> Result<TensorId> + 'a;

impl Network {
    /// The stem, the blocks, of which each is appended by `append`, and what is behind them.
    fn around(&self, layers: &mut Layers, x: TensorId, append: &mut Append) -> Result<Heads> {
        let [wide, mixed] = self.widths.last;
        layers.stage = 0;
        let stem = layers.conv("first_conv.conv", x, self.widths.stages[0], Geometry::square(3, 2, 1))?;
        let stem = layers.batch_norm("first_conv.bn", stem, true)?;
        let stem = layers.builder.hard_swish(stem);
        let mut x = layers.builder.materialise(stem);
        for block in blocks(&self.widths, &self.subnet) {
            layers.stage = block.stage;
            x = append(layers, &block, x)?;
            if block.is_last {
                layers.feature(x, false);
            }
        }
        layers.anatomy.last_map = Some(x);
        layers.stage = STAGES + 1;
        let last = layers.conv("final_expand_layer.conv", x, wide, POINTWISE)?;
        let last = layers.batch_norm("final_expand_layer.bn", last, true)?;
        let last = layers.builder.hard_swish(last);
        let pooled = layers.builder.global_avg_pool(last);
        layers.builder.probe(pooled, "features");
        layers.feature(pooled, false);
        let features = layers.conv("feature_mix_layer.conv", pooled, mixed, POINTWISE)?;
        let features = layers.builder.hard_swish(features.into());
        Ok(layers.linear("classifier.linear", features, self.classes)?.into())
    }
}

impl Block {
    fn append(&self, layers: &mut Layers, x: TensorId) -> Result<TensorId> {
        let name = &self.name;
        let mut seen = Value::from(x);
        if self.widens() {
            let wide = layers.conv(&format!("{name}.inverted_bottleneck.conv"), seen, self.middle, POINTWISE)?;
            let wide = layers.batch_norm(&format!("{name}.inverted_bottleneck.bn"), wide, true)?;
            seen = self.activated(layers, wide);
        }
        let square = Geometry::square(self.kernel, self.stride, self.kernel / 2);
        let depthwise = Geometry { groups: self.middle, ..square };
        let filtered = layers.conv(&format!("{name}.depth_conv.conv"), seen, self.middle, depthwise)?;
        let filtered = layers.batch_norm(&format!("{name}.depth_conv.bn"), filtered, true)?;
        seen = self.activated(layers, filtered);
        if self.excites {
            seen = self.excited(layers, seen, self.middle)?;
        }
        let y = layers.conv(&format!("{name}.point_linear.conv"), seen, self.outputs, POINTWISE)?;
        let y = layers.batch_norm(&format!("{name}.point_linear.bn"), y, true)?;
        if !self.is_residual() {
            return Ok(layers.builder.materialise(y));
        }
        let terms = vec![layers.builder.term(y), layers.builder.term(x.into())];
        Ok(layers.builder.sum(layers.builder.shape(x), terms))
    }

    fn activated(&self, layers: &mut Layers, x: Value) -> Value {
        if self.swishes { layers.builder.hard_swish(x) } else { layers.relu(x) }
    }

    /// Squeeze and excitation (Hu et al., CVPR 2018): each channel times a number between 0 and 1 that the means of all decide. It may
    /// be the first places of one of `whole` channels.
    fn excited(&self, layers: &mut Layers, x: Value, whole: usize) -> Result<Value> {
        let name = format!("{}.depth_conv.se.fc", self.name);
        let map = layers.builder.materialise(x);
        let means = layers.builder.global_avg_pool(map.into());
        let own = [self.middle, self.squeezed()];
        let all = [whole, squeezed(whole)];
        let reduced = layers.part_of_conv(&format!("{name}.reduce"), means.into(), [own, all], true)?;
        let reduced = layers.relu(reduced.into());
        let turned = [own, all].map(|[from, to]| [to, from]);
        let gates = layers.part_of_conv(&format!("{name}.expand"), reduced, turned, true)?;
        layers.builder.gated_by(&name, map.into(), gates)
    }
}

/// The multiplier of the width.
fn width(build: &Build) -> Result<f64> {
    let width = build.number_or("width", 1.0)?;
    match (0.05..=4.0).contains(&width) {
        true => Ok(width),
        false => Err(Error::invalid(
            "build.width",
            format!("is {width}, expected 0.05 to 4, by which channels are multiplied"),
        )),
    }
}

impl Networks for MobileNetV3 {
    fn forms(&self) -> &[&str] {
        &FORMS
    }

    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build {
        let own = (images.height.min(images.width) / RESOLUTION_STEP).max(1) * RESOLUTION_STEP;
        let (side, smallest) = match purpose {
            Purpose::Published | Purpose::Supernet => (IMAGENET, 128),
            // Up to the images' own size, or to 32 where that is large.
            Purpose::Quick => (own.min(32), (own.min(32) * 3 / 4 / RESOLUTION_STEP).max(1) * RESOLUTION_STEP),
            Purpose::Training | Purpose::Scoring => (own, own),
        };
        let width = if purpose == Purpose::Quick { 0.25 } else { 1.0 };
        let count = |name: &str, value: usize| (name.to_owned(), toml::Value::from(value as i64));
        let mut options = Options::from_iter([count("smallest", smallest), count("step", RESOLUTION_STEP)]);
        options.insert("width".into(), width.into());
        Build {
            form: FORMS[0].into(),
            image: [side; 2],
            in_channels: images.channels,
            classes: images.classes,
            options,
        }
    }

    fn configured(&self, build: &Build) -> Result<Option<Arc<dyn Networks>>> {
        let [height, columns] = build.image;
        if height != columns {
            let side = (height.min(columns) / RESOLUTION_STEP).max(1) * RESOLUTION_STEP;
            let why = format!("is {height}x{columns}, and networks of this space see squares, such as {side}x{side}");
            return Err(Error::invalid("image (--image HxW)", why));
        }
        let space = MobileNetV3::with_resolutions(height, build.count("smallest")?, build.count("step")?)?;
        Ok(Some(Arc::new(space)))
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        width(build).map(|_| ())
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network::new(self.decode(arch)?, build)?))
    }

    fn cost(&self, arch: &Arch, build: &Build) -> Result<Cost> {
        Ok(Network::new(self.decode(arch)?, build)?.cost())
    }

    fn is_elastic(&self) -> bool {
        true
    }

    fn of_one_size(&self, build: &Build) -> Build {
        let mut own = build.clone();
        own.options.insert("smallest".into(), (build.image[0] as i64).into());
        own
    }

    fn supernet(&self, build: &Build) -> Result<Option<Box<dyn super::space::Supernet>>> {
        Ok(Some(Box::new(supernet::Supernet::new(self.clone(), build)?)))
    }

    fn cut(&self, theirs: &Named, arch: &Arch, build: &Build) -> Result<Option<Named>> {
        match cut::is_supernet(theirs) {
            true => cut::cut(theirs, &Network::new(self.decode(arch)?, build)?).map(Some),
            false => Ok(None),
        }
    }

    fn module(&self, form: &str) -> Option<&'static str> {
        (form == FORMS[0]).then_some("what `get_active_subnet` of Once-for-All's `OFAMobileNetV3` makes")
    }

    fn recognise(&self, tensors: &Named, build: &mut Build) {
        let axis = |name: &str, axis: usize| tensors.get(name)?.dims.get(axis).copied();
        build.in_channels = axis("first_conv.conv.weight", 1).unwrap_or(build.in_channels);
        build.classes = axis("classifier.linear.weight", 0).unwrap_or(build.classes);
        if let Some(mixed) = axis("feature_mix_layer.conv.weight", 0) {
            build.options.insert("width".into(), (mixed as f64 / LAST_WIDTHS[1] as f64).into());
        }
    }
}

#[cfg(test)]
#[path = "mobilenet_v3_tests.rs"]
mod tests;
