//! The elastic MobileNetV3 of Once-for-All (Cai et al., ICLR 2020), which FlatNAS and MSuNAS search: five stages of two to four
//! inverted bottlenecks, each with a kernel of 3, 5 or 7 and an expansion by 3, 4 or 6, and the resolution of the images.
//!
//! Genes are nine of each stage, its depth, four kernels, four expansions, and the resolution as the last one. Those of layers that a
//! stage does not have count for nothing. Names list what is there alone:
//! `r=192;d=2,2,2,3,4;k=3,5,3,...;e=4,3,6,...`; the authors' JSON, `{"ks": [...], "e": [...], "d": [...], "r": 192}`, is read too.

use std::fmt;

use super::diagram::{self, Cell, Diagram, Edge, Node};
use super::{Arch, Draw, Gene, GeneKind, Space, shorten};
use crate::error::{Error, Result};

/// Stages.
pub const STAGES: usize = 5;
/// Most layers of a stage.
pub const DEPTH: usize = 4;
/// Layers of the deepest architecture.
pub const LAYERS: usize = STAGES * DEPTH;
/// Layers of a stage, by gene.
pub const DEPTHS: [usize; 3] = [2, 3, 4];
/// Sides of kernels, by gene.
pub const KERNELS: [usize; 3] = [3, 5, 7];
/// By how much a layer widens what it gets, by gene.
pub const EXPANSIONS: [usize; 3] = [3, 4, 6];
/// Sides of images are multiples of this.
pub const RESOLUTION_STEP: usize = 4;

/// Most resolutions.
const MOST_RESOLUTIONS: usize = 100;
/// Genes of a stage.
const PER_STAGE: usize = 1 + 2 * DEPTH;
/// What an error calls an architecture.
const WHAT: &str = "MobileNetV3 architecture";

/// What a gene decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How many layers a stage has.
    Depth,
    /// The kernel of a layer.
    Kernel,
    /// The expansion of a layer.
    Expansion,
    /// The side of images.
    Resolution,
}

impl Part {
    /// What gene number `gene` decides.
    pub fn of(gene: usize) -> Self {
        match (gene / PER_STAGE, gene % PER_STAGE) {
            (STAGES.., _) => Part::Resolution,
            (_, 0) => Part::Depth,
            (_, place) if place <= DEPTH => Part::Kernel,
            _ => Part::Expansion,
        }
    }
}

/// A layer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Side of its kernel.
    pub kernel: usize,
    /// By how much it widens what it gets.
    pub expansion: usize,
}

/// An architecture, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// Side of its images.
    pub resolution: usize,
    /// The layers of each stage.
    pub stages: [Vec<Layer>; STAGES],
}

impl Subnet {
    /// The network that the code released with CNAS and FlatNAS makes of this one: the supernet takes four entries of a stage from its
    /// lists of kernels and expansions, and gets lists of the layers that are there. So layers get those of others, and the
    /// last ones, for which nothing is left, stay at 7 and 6, as in a supernet that was just made.
    pub fn misassigned(&self) -> Self {
        let mut given = self.stages.iter().flatten().copied();
        let mut taken = || given.next().unwrap_or(Layer { kernel: KERNELS[2], expansion: EXPANSIONS[2] });
        let stages = self.stages.each_ref().map(|own| {
            let four: [Layer; DEPTH] = std::array::from_fn(|_| taken());
            four[..own.len()].to_vec()
        });
        Subnet { resolution: self.resolution, stages }
    }
}

/// `r=192;d=2,2,2,3,4;k=...;e=...`
impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &mut dyn Iterator<Item = usize>| {
            values.map(|value| value.to_string()).collect::<Vec<_>>().join(",")
        };
        let layers = || self.stages.iter().flatten();
        write!(
            f,
            "r={};d={};k={};e={}",
            self.resolution,
            list(&mut self.stages.iter().map(Vec::len)),
            list(&mut layers().map(|layer| layer.kernel)),
            list(&mut layers().map(|layer| layer.expansion))
        )
    }
}

/// The space, with resolutions from the smallest to the largest in steps.
#[derive(Clone, Debug)]
pub struct MobileNetV3 {
    resolutions: Vec<usize>,
    genes: Vec<Gene>,
}

impl Default for MobileNetV3 {
    /// The resolutions of FlatNAS: 128 to 224 in steps of 4.
    fn default() -> Self {
        MobileNetV3::of((128..=224).step_by(RESOLUTION_STEP).collect())
    }
}

impl MobileNetV3 {
    /// With resolutions from `most` down to `least` in steps; with `most` alone where that is less.
    ///
    /// # Errors
    /// If there are too many, or one is not a multiple of [`RESOLUTION_STEP`].
    pub fn with_resolutions(most: usize, least: usize, step: usize) -> Result<Self> {
        for (what, value) in [("image (--image HxW)", most), ("build.step", step)] {
            if value == 0 || !value.is_multiple_of(RESOLUTION_STEP) {
                let near = (value / RESOLUTION_STEP).max(1) * RESOLUTION_STEP;
                let why =
                    format!("is {value}, and sides in this space are multiples of {RESOLUTION_STEP}, such as {near}");
                return Err(Error::invalid(what, why));
            }
        }
        let count = most.saturating_sub(least) / step + 1;
        if least == 0 || count > MOST_RESOLUTIONS {
            let why = format!(
                "is {least}, expected a side from which at most {MOST_RESOLUTIONS} steps of {step} lead to {most}"
            );
            return Err(Error::invalid("build.smallest", why));
        }
        Ok(MobileNetV3::of((0..count).rev().map(|back| most - back * step).collect()))
    }

    fn of(resolutions: Vec<usize>) -> Self {
        let level =
            |options: usize, part: usize| Gene { options: options as u8, kind: GeneKind::Level, part: part as u8 };
        let mut genes: Vec<Gene> = (0..STAGES * PER_STAGE).map(|gene| level(DEPTHS.len(), gene / PER_STAGE)).collect();
        genes.push(level(resolutions.len(), STAGES));
        MobileNetV3 { resolutions, genes }
    }

    /// Sides of images, from the smallest, by gene.
    pub fn resolutions(&self) -> &[usize] {
        &self.resolutions
    }

    /// How many networks there are, whatever their resolution, to all resolutions.
    pub fn networks(&self) -> u128 {
        let of_depth = |depth: usize| ((KERNELS.len() * EXPANSIONS.len()) as u128).pow(depth as u32);
        let of_stage: u128 = DEPTHS.into_iter().map(of_depth).sum();
        of_stage.pow(STAGES as u32) * self.resolutions.len() as u128
    }

    /// What genes stand for.
    ///
    /// # Errors
    /// If they are none of this space.
    pub fn decode(&self, arch: &Arch) -> Result<Subnet> {
        (self as &dyn Space).check_vector(arch)?;
        let mut stages: [Vec<Layer>; STAGES] = Default::default();
        for (own, genes) in stages.iter_mut().zip(arch.chunks_exact(PER_STAGE)) {
            let gene = |at: usize| usize::from(genes[at]);
            let layer = |number: usize| Layer {
                kernel: KERNELS[gene(1 + number)],
                expansion: EXPANSIONS[gene(1 + DEPTH + number)],
            };
            own.extend((0..DEPTHS[gene(0)]).map(layer));
        }
        Ok(Subnet { resolution: self.resolutions[usize::from(arch[STAGES * PER_STAGE])], stages })
    }

    /// The genes of these depths, and of kernels and expansions of the layers that are there, or of four in each stage.
    fn encode(&self, resolution: usize, depths: &[usize], kernels: &[usize], expansions: &[usize]) -> Result<Arch> {
        if depths.len() != STAGES {
            return Err(wrong(format!("d has {} numbers, expected {STAGES}", depths.len())));
        }
        let position = |what: &str, options: &[usize], value: usize| {
            let place = options.iter().position(|option| *option == value);
            place.ok_or_else(|| wrong(format!("{what} has {value}, expected one of {}", listed(options))))
        };
        let depth_genes = depths.iter().map(|&depth| position("d", &DEPTHS, depth)).collect::<Result<Vec<_>>>()?;
        let layers = depths.iter().sum::<usize>();
        // Lists for all layers, of which those beyond a stage's depth count for nothing, are the authors' own.
        let whole = kernels.len() == LAYERS && expansions.len() == LAYERS;
        for (what, list) in [("k", kernels), ("e", expansions)] {
            if list.len() != layers && !whole {
                let why =
                    format!("{what} has {} numbers, expected {layers}: one for each layer that d says", list.len());
                return Err(wrong(why));
            }
        }
        let (mut genes, mut first) = (vec![], 0);
        for (stage, (&depth, gene)) in depths.iter().zip(depth_genes).enumerate() {
            genes.push(gene as u8);
            if whole {
                first = stage * DEPTH;
            }
            for (what, options, list) in [("k", &KERNELS, kernels), ("e", &EXPANSIONS, expansions)] {
                for layer in 0..DEPTH {
                    let place = list.get(first + layer).filter(|_| layer < depth);
                    genes.push(place.map_or(Ok(0), |&value| position(what, options, value))? as u8);
                }
            }
            first += depth;
        }
        let place = self.resolutions.iter().position(|own| *own == resolution);
        let place = place.ok_or_else(|| {
            wrong(format!("r is {resolution}, expected one of {} (--image, --build)", listed(&self.resolutions)))
        })?;
        genes.push(place as u8);
        Ok(Arch::from(genes))
    }
}

/// Some numbers as text, in short if they are many.
fn listed(numbers: &[usize]) -> String {
    match numbers {
        [first, second, .., last] if numbers.len() > 6 => format!("{first}, {second}, ... {last}"),
        _ => numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn wrong(why: String) -> Error {
    Error::invalid(WHAT, why)
}

/// The authors' JSON.
#[derive(serde::Deserialize)]
struct Written {
    ks: Vec<usize>,
    e: Vec<usize>,
    d: Vec<usize>,
    r: Option<serde_json::Value>,
}

/// The numbers of a part like `k=3,5,7`.
fn numbers(name: &str, text: &str) -> Result<Vec<usize>> {
    let number = |text: &str| {
        let text = text.trim();
        let plain = !text.is_empty() && text.len() < 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { text.parse().ok() } else { None };
        number.ok_or_else(|| wrong(format!("{name} has `{}`, expected a number", shorten(text))))
    };
    text.split(',').map(number).collect()
}

/// A stage to look at: a box for each layer, coloured by its kernel and as tall as it widens what it gets.
fn drawn(stage: usize, layers: &[Layer]) -> Cell {
    let node = |layer: &Layer| Node {
        label: format!("{0}x{0} e{1}", layer.kernel, layer.expansion),
        kind: Some(format!("{0}x{0}", layer.kernel)),
        height: Some((100 * layer.expansion / EXPANSIONS[2]) as u8),
    };
    Cell {
        name: format!("stage {}", stage + 1),
        nodes: layers.iter().map(node).collect(),
        edges: (1..layers.len()).map(|layer| Edge::new(layer - 1, layer, "")).collect(),
        places: DEPTH,
    }
}

impl Space for MobileNetV3 {
    fn name(&self) -> &str {
        "mobilenet-v3"
    }

    fn genes(&self) -> &[Gene] {
        &self.genes
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        let text = text.trim();
        // Where there is one resolution it need not be said.
        let only = if let [only] = self.resolutions[..] { Some(only) } else { None };
        let no_resolution = || wrong("it says no resolution (r=192, for example)".to_owned());
        if text.starts_with('{') {
            let written: Written = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
            // The authors write a number, or a list with one.
            let told = written.r.as_ref().map(|r| r.as_array().and_then(|list| list.first()).unwrap_or(r));
            let told = told.map(|r| r.as_u64().ok_or_else(|| wrong(format!("r is {r}, expected a number"))));
            let told = told.transpose()?.map(|r| r as usize);
            let resolution = told.or(only).ok_or_else(no_resolution)?;
            return self.encode(resolution, &written.d, &written.ks, &written.e);
        }
        let mut parts: [Option<Vec<usize>>; 4] = Default::default();
        const NAMES: [&str; 4] = ["r", "d", "k", "e"];
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let (name, values) = part.split_once('=').unwrap_or((part, ""));
            let name = name.trim();
            let Some(place) = NAMES.iter().position(|own| *own == name) else {
                let why = format!("`{}`, expected r=..;d=..;k=..;e=..", shorten(part.trim()));
                return Err(wrong(why));
            };
            if parts[place].replace(numbers(name, values)?).is_some() {
                return Err(wrong(format!("{name} is there twice")));
            }
        }
        let [resolution, depths, kernels, expansions] = parts;
        let resolution = match resolution.as_deref() {
            None => only.ok_or_else(no_resolution)?,
            Some(&[resolution]) => resolution,
            Some(several) => return Err(wrong(format!("r has {} numbers, expected one", several.len()))),
        };
        let missing = |name: &str| wrong(format!("there is no {name}=, expected r=..;d=..;k=..;e=.."));
        let depths = depths.ok_or_else(|| missing("d"))?;
        let kernels = kernels.ok_or_else(|| missing("k"))?;
        let expansions = expansions.ok_or_else(|| missing("e"))?;
        self.encode(resolution, &depths, &kernels, &expansions)
    }

    fn show(&self, arch: &Arch) -> String {
        self.decode(arch).map_or_else(|_| format!("{:?}", &arch[..]), |subnet| subnet.to_string())
    }

    /// `192:33-57-333-...`: the resolution, and of each stage kernel and expansion of its layers.
    fn abbreviate(&self, arch: &Arch) -> String {
        let Ok(subnet) = self.decode(arch) else { return self.show(arch) };
        let stage = |layers: &Vec<Layer>| {
            layers.iter().map(|layer| format!("{}{}", layer.kernel, layer.expansion)).collect::<Vec<_>>().join(".")
        };
        let stages: Vec<String> = subnet.stages.iter().map(stage).collect();
        format!("{}:{}", subnet.resolution, stages.join("-"))
    }

    fn notation(&self) -> &str {
        "r=192;d=2,2,2,2,2;k=3,3,5,7,3,3,3,3,3,3;e=3,4,6,3,3,3,3,3,3,3, or {\"ks\": [...], \"e\": [...], \"d\": [...], \"r\": 192}"
    }

    /// Genes of layers that are not there do not lie dormant: a name does not tell them, and a search that goes on knows names.
    fn repair(&self, arch: &mut Arch, _draw: &mut dyn Draw) -> bool {
        *arch = self.canonical(arch);
        true
    }

    fn canonical(&self, arch: &Arch) -> Arch {
        arch.iter().zip(self.expressed(arch)).map(|(&gene, counts)| if counts { gene } else { 0 }).collect()
    }

    fn expressed(&self, arch: &Arch) -> Vec<bool> {
        let of_stage = |genes: &[u8]| -> Vec<bool> {
            let Some((&depth, layers)) = genes.split_first().filter(|(_, layers)| !layers.is_empty()) else {
                return vec![true; genes.len()];
            };
            let depth = DEPTHS[usize::from(depth).min(DEPTHS.len() - 1)];
            let layers = (0..layers.len()).map(|gene| gene % DEPTH < depth);
            std::iter::once(true).chain(layers).collect()
        };
        arch.chunks(PER_STAGE).flat_map(of_stage).collect()
    }

    /// The image, as tall as its side is to the largest one, and the stages.
    fn diagram(&self, arch: &Arch) -> Diagram {
        let Ok(subnet) = self.decode(arch) else { return diagram::of_genes(self.name(), &self.genes, arch) };
        let most = self.resolutions.last().copied().unwrap_or(1).max(1);
        let height = Some((100 * subnet.resolution / most) as u8);
        let image = Node { label: format!("r={}", subnet.resolution), kind: None, height };
        let image = Cell { name: "image".into(), nodes: vec![image], edges: vec![], places: 1 };
        let stages = subnet.stages.iter().enumerate().map(|(stage, layers)| drawn(stage, layers));
        Diagram { cells: std::iter::once(image).chain(stages).collect() }
    }

    fn count(&self) -> Option<u64> {
        u64::try_from(self.networks()).ok()
    }
}

#[cfg(test)]
mod tests;
