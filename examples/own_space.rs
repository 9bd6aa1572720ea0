//! A search space of one's own, in one file: the whole program takes it.
//!
//! Two blocks, and for each the side of its kernel and whether a skip stands beside it: four genes, 36 networks.
//!
//! ```text
//! cargo run --release --example own_space -- space list
//! cargo run --release --example own_space -- search --space blocks --method genas --out runs/blocks
//! cargo run --release --example own_space -- train --space blocks --arch 3+,5 --out runs/one
//! ```

use std::process::ExitCode;

use altiplano::error::{Error, Result};
use altiplano::graph::{Geometry, Guard, TensorId, Term, TermKind, Value, View};
use altiplano::nn::space::{Build, ImageInfo, Networks, Options, Purpose, Registry, Supernet};
use altiplano::nn::{Heads, Layers, Model};
use altiplano::space::diagram::{Cell, Diagram, Edge, Node};
use altiplano::space::{Arch, Gene, GeneKind, Space};

/// Sides of kernels, by the value of a gene.
const SIDES: [usize; 3] = [1, 3, 5];
const SIDE: Gene = Gene { options: 3, kind: GeneKind::Level, part: 0 };
const SKIP: Gene = Gene::category(2);
const GENES: [Gene; 4] = [SIDE, SKIP, SIDE, SKIP];

/// The space. What [`Space`] says of itself by default is right for it: each vector is an architecture, and no two are the same.
struct Blocks;

impl Space for Blocks {
    fn name(&self) -> &str {
        "blocks"
    }

    fn genes(&self) -> &[Gene] {
        &GENES
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        let block = |text: &str| {
            let (side, skip) = text.strip_suffix('+').map_or((text, 0), |side| (side, 1));
            let side = SIDES.iter().position(|own| own.to_string() == side);
            Some([side? as u8, skip])
        };
        let blocks: Option<Vec<[u8; 2]>> = text.trim().split(',').map(block).collect();
        let genes = blocks.filter(|blocks| blocks.len() == 2).map(|blocks| blocks.concat());
        genes
            .map(Arch::from)
            .ok_or_else(|| Error::invalid("architecture of blocks", format!("`{text}`, expected 3+,5")))
    }

    fn show(&self, arch: &Arch) -> String {
        let block = |genes: &[u8]| {
            let skip = if genes[1] == 1 { "+" } else { "" };
            format!("{}{skip}", SIDES[usize::from(genes[0])])
        };
        arch.chunks(2).map(block).collect::<Vec<_>>().join(",")
    }

    fn notation(&self) -> &str {
        "3+,5: the kernels of two blocks, and a + where a skip stands beside one"
    }

    /// Blocks are edges between maps, which makes a skip an edge beside another one.
    fn diagram(&self, arch: &Arch) -> Diagram {
        let nodes: Vec<Node> = ["stem", "middle", "output"].map(Node::plain).into();
        let block = |(at, genes): (usize, &[u8])| {
            let conv = format!("conv {0}x{0}", SIDES[usize::from(genes[0])]);
            let skip = (genes[1] == 1).then(|| Edge::new(at, at + 1, "skip"));
            std::iter::once(Edge::new(at, at + 1, conv)).chain(skip)
        };
        let edges = arch.chunks(2).enumerate().flat_map(block).collect();
        Diagram { cells: vec![Cell { name: "blocks".into(), places: nodes.len(), nodes, edges }] }
    }

    fn classes(&self) -> Option<Box<dyn Iterator<Item = Arch> + '_>> {
        Some(Box::new((0..36u8).map(|n| Arch::from(vec![n / 12, n / 6 % 2, n / 2 % 3, n % 2]))))
    }
}

/// One network, or all at once: the supernet has a choice for each gene.
struct Network {
    arch: Option<Arch>,
    build: Build,
    width: usize,
}

impl Network {
    fn new(arch: Option<&Arch>, build: &Build) -> Result<Self> {
        Ok(Network { arch: arch.cloned(), build: build.clone(), width: build.count("width")? })
    }

    /// Rectifier, convolution and norm, and the input beside it or not.
    fn block(&self, layers: &mut Layers, number: usize, x: TensorId) -> Result<TensorId> {
        let shape = layers.builder.shape(x);
        let name = format!("block{number}");
        let seen = layers.relu(Value { tensor: x, view: View::Plain });
        let square = |side: usize| Geometry::square(side, 1, side / 2);
        let conv = |side: usize| format!("{name}.conv{side}");
        let (y, skip) = match &self.arch {
            Some(arch) => {
                let side = SIDES[usize::from(arch[2 * number])];
                let y = layers.conv(&conv(side), seen, shape.channels(), square(side))?;
                (y, (arch[2 * number + 1] == 1).then_some(Guard::ALWAYS))
            }
            // A choice for each gene: of the convolutions, which write one tensor, one runs, and the skip counts or not.
            None => {
                let [side, skip] = [("side", SIDES.len()), ("skip", 2)]
                    .map(|(what, options)| layers.choice(&format!("{name}.{what}"), options));
                let y = layers.builder.temporary(shape);
                for (option, own) in SIDES.into_iter().enumerate() {
                    let w = layers.filter(&conv(own), shape.channels(), shape.channels(), square(own))?;
                    let guard = Guard::new(side, 1 << option);
                    layers.builder.guarded(guard, |b| b.conv_into(seen, w, None, square(own), y));
                }
                (y, Some(Guard::new(skip, 1 << 1)))
            }
        };
        let normed = layers.batch_norm(&format!("{name}.norm"), y, true)?;
        let mut terms = vec![layers.builder.term(normed)];
        terms.extend(skip.map(|guard| Term { guard, a: x, kind: TermKind::Plain }));
        Ok(layers.builder.sum(shape, terms))
    }
}

impl Model for Network {
    fn input(&self) -> [usize; 3] {
        self.build.input()
    }

    fn classes(&self) -> usize {
        self.build.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let stem = layers.conv("stem", x, self.width, Geometry::square(3, 1, 1))?;
        let stem = layers.batch_norm("stem.norm", stem, true)?;
        let x = layers.builder.materialise(stem);
        layers.feature(x, false);
        let x = self.block(layers, 0, x)?;
        // Proxies that ask for a network without norms may leave this one as well.
        layers.stage = 1;
        let down = layers.relu_conv_norm("down", x.into(), 2 * self.width, Geometry::square(3, 2, 1))?;
        let x = layers.builder.materialise(down);
        layers.feature(x, false);
        let x = self.block(layers, 1, x)?;
        layers.stage = 2;
        let active = layers.relu(x.into());
        layers.anatomy.last_map = Some(active.tensor);
        let pooled = layers.builder.global_avg_pool(active);
        layers.feature(pooled, false);
        Ok(layers.linear("classifier", pooled, self.build.classes)?.into())
    }
}

impl Supernet for Network {
    fn path(&self, arch: &Arch) -> Option<Vec<u8>> {
        // The choices are made in the order of the genes.
        Some(arch.to_vec())
    }

    fn source(&self, name: &str, _arch: &Arch) -> Option<String> {
        // Filters are called after their sides here as there.
        Some(name.to_owned())
    }
}

impl Networks for Blocks {
    fn forms(&self) -> &[&str] {
        &["plain"]
    }

    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build {
        let width: i64 = if purpose == Purpose::Published { 32 } else { 8 };
        let ImageInfo { height, width: columns, channels, classes } = *images;
        Build {
            form: "plain".into(),
            image: [height, columns],
            in_channels: channels,
            classes,
            options: Options::from_iter([("width".to_owned(), width.into())]),
        }
    }

    fn check_build(&self, build: &Build) -> Result<()> {
        match build.count("width")? {
            1..=1024 => Ok(()),
            width => Err(Error::invalid("build.width", format!("is {width}, expected 1 to 1024"))),
        }
    }

    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>> {
        Ok(Box::new(Network::new(Some(arch), build)?))
    }

    fn supernet(&self, build: &Build) -> Result<Option<Box<dyn Supernet>>> {
        Ok(Some(Box::new(Network::new(None, build)?)))
    }
}

fn main() -> ExitCode {
    altiplano::cli::main_with(Registry::default().with(Blocks))
}
