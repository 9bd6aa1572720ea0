//! All networks of the space at once, with shared weights (Once-for-All; Cai et al., ICLR 2020).
//!
//! Each layer is a choice: whether it is there, by how much it widens, and its kernel. What a narrower one has are the first places of
//! the widest, read where they are, and smaller kernels are made of the largest (section 3.2): the middle of 7x7, as a vector of 25,
//! times a matrix is 5x5, and the middle of that times another one 3x3, for all channels of a layer the same. These are small
//! tensors, made once a pass. Maps of another width are tensors of their own, and lie at the same place.
//!
//! Its first path sees images of the largest size, the second of the smallest, and others of sizes between. Names are the authors'.

use super::{Block, Network, POINTWISE, divisible};
use crate::error::Result;
use crate::graph::{Geometry, Guard, Init, Shape, TensorId, Term, TermKind, Value};
use crate::nn::space::{self, Build};
use crate::nn::{Heads, Layers, Model};
use crate::space::mobilenet_v3::{DEPTHS, EXPANSIONS, KERNELS, Layer, MobileNetV3, Part, Subnet};
use crate::space::{Arch, Space};

/// Kernels and expansions of a layer; one more choice is that it is not there.
const OPTIONS: usize = KERNELS.len() * EXPANSIONS.len();

/// All networks of a build.
#[derive(Clone, Debug)]
pub(super) struct Supernet {
    space: MobileNetV3,
    build: Build,
    largest: Network,
}

impl Supernet {
    pub fn new(space: MobileNetV3, build: &Build) -> Result<Self> {
        let largest = Network::new(space.decode(&largest(&space))?, build)?;
        Ok(Supernet { space, build: build.clone(), largest })
    }
}

/// The genes of the largest.
fn largest(space: &MobileNetV3) -> Arch {
    space.genes().iter().map(|gene| gene.options - 1).collect()
}

/// The number of a layer among the options of its place.
fn option(layer: &Layer) -> Option<u8> {
    let expansion = EXPANSIONS.iter().position(|own| *own == layer.expansion)?;
    let kernel = KERNELS.iter().position(|own| *own == layer.kernel)?;
    Some((expansion * KERNELS.len() + kernel) as u8)
}

/// The option of each layer's place.
fn path(subnet: &Subnet) -> Option<Vec<u8>> {
    let deepest = DEPTHS.into_iter().max()?;
    let places = subnet.stages.iter().flat_map(|layers| (0..deepest).map(move |place| layers.get(place)));
    places.map(|layer| layer.map_or(Some(OPTIONS as u8), option)).collect()
}

impl space::Supernet for Supernet {
    /// Whatever the size of the images that the architecture sees.
    fn path(&self, arch: &Arch) -> Option<Vec<u8>> {
        let network = Network::new(self.space.decode(arch).ok()?, &self.build).ok()?;
        path(&network.subnet)
    }

    /// Networks are cut out of it.
    fn source(&self, _name: &str, _arch: &Arch) -> Option<String> {
        None
    }

    fn extremes(&self) -> Option<[Arch; 2]> {
        Some([largest(&self.space), self.space.smallest()])
    }

    /// First there is the largest alone, then kernels may be smaller, then stages may lack layers, and at last all.
    fn shrunk(&self, arch: &Arch, quarter: usize) -> Arch {
        let may = |gene: usize| match Part::of(gene) {
            Part::Kernel => quarter >= 1,
            Part::Depth => quarter >= 2,
            Part::Expansion => quarter >= 3,
            Part::Resolution => true,
        };
        let most = largest(&self.space);
        arch.iter()
            .zip(most.iter())
            .enumerate()
            .map(|(gene, (&own, &most))| if may(gene) { own } else { most })
            .collect()
    }
}

impl Model for Supernet {
    fn input(&self) -> [usize; 3] {
        self.largest.input()
    }

    fn classes(&self) -> usize {
        self.largest.classes()
    }

    fn sizes(&self, paths: usize) -> Vec<[usize; 3]> {
        let (sides, [_, _, channels]) = (self.space.resolutions(), self.input());
        let most = sides.len() - 1;
        // The first is the largest; the others divide what is below it evenly, from the smallest on.
        let place = |path: usize| if path == 0 { most } else { (path - 1) * most / (paths - 1).max(1) };
        (0..paths).map(|path| [sides[place(path)], sides[place(path)], channels]).collect()
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        self.largest.around(layers, x, &mut |layers, block, x| match block.source {
            Some(_) => Elastic::new(layers, block).append(layers, x),
            None => block.append(layers, x),
        })
    }
}

/// A layer of any width and kernel, or none.
struct Elastic<'a> {
    /// The widest, with the largest kernel.
    block: &'a Block,
    choice: u16,
}

impl<'a> Elastic<'a> {
    fn new(layers: &mut Layers, block: &'a Block) -> Self {
        let options = OPTIONS + usize::from(block.may_be_absent());
        Elastic { block, choice: layers.choice(&block.name, options) }
    }

    /// When it has one of these kernels and expansions, by their numbers.
    fn guard(&self, kernels: &[usize], expansions: &[usize]) -> Guard {
        let options = expansions.iter().flat_map(|e| kernels.iter().map(move |k| e * KERNELS.len() + k));
        Guard::new(self.choice, options.fold(0, |all, option| all | 1 << option))
    }

    fn append(&self, layers: &mut Layers, x: TensorId) -> Result<TensorId> {
        let block = self.block;
        let there = match block.may_be_absent() {
            true => self.guard(&[0, 1, 2], &[0, 1, 2]),
            false => Guard::ALWAYS,
        };
        let [n, h, w, _] = layers.builder.shape(x).nhwc();
        let [h, w] = [h, w].map(|side| side.div_ceil(block.stride));
        let filters = self.filters(layers)?;
        let y = layers.builder.temporary(Shape::map(n, h, w, block.outputs));
        for number in 0..EXPANSIONS.len() {
            layers.within(self.guard(&[0, 1, 2], &[number]), |layers| self.branch(layers, x, number, &filters, y))?;
        }
        let normed = |layers: &mut Layers| -> Result<Term> {
            let value = layers.batch_norm(&format!("{}.point_linear.bn.bn", block.name), y, true)?;
            Ok(layers.builder.term(value))
        };
        let mut terms = vec![layers.within(there, normed)?];
        if block.is_residual() {
            terms.push(Term::new(x, TermKind::Plain));
        }
        Ok(layers.builder.sum(layers.builder.shape(y), terms))
    }

    /// The layer of an expansion, by its number, with any kernel: its narrow maps, and `y`.
    fn branch(
        &self,
        layers: &mut Layers,
        x: TensorId,
        number: usize,
        filters: &[TensorId; 3],
        y: TensorId,
    ) -> Result<()> {
        let widest = self.block;
        let middle = divisible((widest.inputs * EXPANSIONS[number]) as f64);
        let block = Block { middle, ..widest.clone() };
        let (name, inputs, outputs) = (&block.name, block.inputs, block.outputs);
        let widening = [[inputs, middle], [inputs, widest.middle]];
        let wide = layers.part_of_conv(&format!("{name}.inverted_bottleneck.conv.conv"), x.into(), widening, false)?;
        let wide = layers.batch_norm_of(&format!("{name}.inverted_bottleneck.bn.bn"), wide, true, widest.middle)?;
        let mut seen = block.activated(layers, wide);
        if block.swishes {
            seen = layers.builder.materialise(seen).into();
        }
        let [n, h, w, _] = layers.builder.shape(y).nhwc();
        let filtered = layers.builder.temporary(Shape::map(n, h, w, middle));
        for (at, (&kernel, &filter)) in KERNELS.iter().zip(filters).enumerate() {
            layers.within(self.guard(&[at], &[number]), |layers| {
                let geometry = Geometry { groups: middle, ..Geometry::square(kernel, block.stride, kernel / 2) };
                layers.builder.conv_into(seen, filter, None, geometry, filtered);
            });
        }
        let filtered = layers.batch_norm_of(&format!("{name}.depth_conv.bn.bn"), filtered, true, widest.middle)?;
        seen = block.activated(layers, filtered);
        if block.excites {
            seen = block.excited(layers, seen, widest.middle)?;
        }
        let w = layers.filter(&format!("{name}.point_linear.conv.conv"), widest.middle, outputs, POINTWISE)?;
        layers.builder.conv_into(seen, w, None, POINTWISE, y);
        Ok(())
    }

    /// Depthwise filters of all channels, from the smallest kernel to the largest, which is the one that is there.
    fn filters(&self, layers: &mut Layers) -> Result<[TensorId; 3]> {
        let [three, five, seven] = KERNELS;
        let (name, channels) = (format!("{}.depth_conv.conv", self.block.name), self.block.middle);
        let geometry = Geometry { groups: channels, ..Geometry::square(seven, 1, 0) };
        let largest = layers.filter(&format!("{name}.conv"), channels, channels, geometry)?;
        let all = [0, 1, 2];
        let middle = layers
            .within(self.guard(&[0, 1], &all), |layers| transformed(layers, &name, largest, (seven, five), channels))?;
        let smallest = layers
            .within(self.guard(&[0], &all), |layers| transformed(layers, &name, middle, (five, three), channels))?;
        Ok([smallest, middle, largest])
    }
}

/// The shape of a depthwise filter.
const fn depthwise(kernel: usize, channels: usize) -> Shape {
    Shape::Filter { r: kernel, s: kernel, c: 1, k: channels, groups: channels }
}

/// A smaller kernel of a larger one: its middle, as a vector, times a matrix.
fn transformed(
    layers: &mut Layers,
    name: &str,
    filter: TensorId,
    (from, to): (usize, usize),
    channels: usize,
) -> Result<TensorId> {
    let (area, edge) = (to * to, ((from - to) / 2) as i32);
    let shape = Shape::map(area, 1, 1, area);
    let matrix = layers.weight(&format!("{name}.{from}to{to}_matrix"), shape, Init::Identity, &[area, area])?;
    let builder = &mut layers.builder;
    let map = builder.reshaped(name, filter, Shape::map(1, from, from, channels))?;
    let moved = vec![Term::new(map, TermKind::Moved { by: [edge, edge, 0] })];
    let middle = builder.sum(Shape::map(1, to, to, channels), moved);
    // A place of the kernel is an input of a product for all channels, whose other factor is the matrix's rows as images.
    let column = builder.reshaped(name, middle, Shape::map(1, 1, area, channels))?;
    let column = builder.first(column, Shape::Filter { r: 1, s: 1, c: area, k: channels, groups: 1 });
    let product = builder.conv(name, Value::from(matrix), column, None, POINTWISE)?;
    builder.reshaped(name, product, depthwise(to, channels))
}
