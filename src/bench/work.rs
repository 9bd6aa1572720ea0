//! What is timed, before it meets a device: graphs of training steps and forward passes, of single convolutions and a product,
//! and what fills their inputs.
//!
//! Weights and inputs come from a hash of their index, the same in every peer.

use std::sync::Arc;

use crate::error::{Result, unknown};
use crate::graph::{Builder, Geometry, Graph, Op, Role, Shape, Statistics, TensorId};
use crate::nn::darts;
use crate::nn::nas_bench_201::{Network, Supernet};
use crate::nn::resnet::ResNet50;
use crate::nn::space::{self, Family, ImageInfo, Networks, Purpose};
use crate::nn::tensors::{Values, to_logical};
use crate::nn::{Model, trained_graph};
use crate::space::Space;
use crate::space::darts::Darts;
use crate::space::mobilenet_v3::MobileNetV3;
use crate::space::nas_bench_201::{Cell, Macro};
use crate::train::step::{Optimizer, Rates, StepOptions, Update, build};

/// Images per step, where a name does not say otherwise.
const BATCH: usize = 32;
/// Behind a name: images per step that fill a GPU.
const WIDE: (&str, usize) = ("_b128", 128);
const WIDTH: usize = 16;
/// Cells: all edges 3x3; one with every operation, whose second node nothing reads; and one where every edge counts and most
/// are 1x1, so that weight gradients of 1x1 convolutions run in cells.
const ARCHS: [(&str, &str); 3] = [
    ("conv3", "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
    ("mixed", "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|"),
    ("conv31", "|nor_conv_1x1~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_1x1~2|"),
];
/// Single convolutions that peers have too: name, channels, image side, kernel side, groups, stride, dilation.
const CONVS: [Layer; 5] = [
    ("c16_s32_k3", 16, 32, 3, 1, 1, 1),
    ("c32_s16_k3", 32, 16, 3, 1, 1, 1),
    ("c64_s8_k3", 64, 8, 3, 1, 1, 1),
    ("dw64_s16_k3", 64, 16, 3, 64, 1, 1),
    ("c64_s16_k1", 64, 16, 1, 1, 1, 1),
];
/// Convolutions of other spaces, which no peer has: wide, dilated, depthwise, strided.
const LAYERS: [Layer; 12] = [
    ("c32_s16_k5", 32, 16, 5, 1, 1, 1),
    ("c32_s16_k7", 32, 16, 7, 1, 1, 1),
    ("c32_s16_k3_d2", 32, 16, 3, 1, 1, 2),
    ("c32_s16_k5_d2", 32, 16, 5, 1, 1, 2),
    ("c32_s32_k3_x2", 32, 32, 3, 1, 2, 1),
    ("c32_s32_k1_x2", 32, 32, 1, 1, 2, 1),
    ("dw32_s16_k5", 32, 16, 5, 32, 1, 1),
    ("dw32_s16_k7", 32, 16, 7, 32, 1, 1),
    ("dw32_s16_k3_d2", 32, 16, 3, 32, 1, 2),
    ("dw32_s16_k5_d2", 32, 16, 5, 32, 1, 2),
    ("dw32_s32_k3_x2", 32, 32, 3, 32, 2, 1),
    ("dw32_s32_k5_x2", 32, 32, 5, 32, 2, 1),
];
type Layer = (&'static str, usize, usize, usize, usize, usize, usize);
const PRODUCT: &str = "matmul_512";
/// ResNet-50 on four images, forward and backward, and forward on one image.
pub const RESNET: [&str; 3] = ["resnet50_train", "resnet50_eval", "resnet50_latency"];
/// A training step of the supernet of a quick search on 32x32 pictures; no peer has it.
pub const SUPERNET: &str = "train_supernet_c8_s16";
/// The same of DARTS cells, eight cells of 16 channels on the pictures as they are; and the cells of its path, the published
/// `GENAS_FLATNESS_CIFAR10`.
const DARTS_SUPERNET: &str = "train_darts_supernet_c16_s32";
const CELLS: &str = "3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7";

/// The same of a network of the elastic space, with kernels of each side at either stride.
const ELASTIC: &str = "train_mobilenet_v3_s64";
const SUBNET: &str = "r=64;d=2,2,2,2,3;k=3,5,7,3,5,7,3,5,7,3,5;e=3,4,6,3,4,6,3,4,6,3,4";

/// Names of all items that peers have too.
pub fn names() -> Vec<String> {
    let mut names = vec![];
    for arch in ["conv3", "mixed"] {
        names.extend(["train", "fwd_train", "fwd_eval"].map(|kind| format!("{kind}_{arch}_n1")));
    }
    let convolutions = |end: &'static str| {
        ["fwd", "bwd"].into_iter().flat_map(move |pass| CONVS.map(|conv| format!("{pass}_{}{end}", conv.0)))
    };
    names.extend(convolutions(""));
    names.extend([PRODUCT, "train_conv3_n5", "train_mixed_n5", "train_conv31_n1"].map(String::from));
    for cells in [1, 5] {
        names.extend(["conv3", "mixed", "conv31"].map(|arch| format!("train_{arch}_n{cells}{}", WIDE.0)));
    }
    names.extend(convolutions(WIDE.0));
    names.extend(RESNET.map(String::from));
    names
}

/// Names of works that together use every variant that networks and layers of the spaces need.
pub fn representative() -> Vec<String> {
    let layers = CONVS.iter().chain(&LAYERS);
    let mut names: Vec<String> = ARCHS
        .iter()
        .flat_map(|arch| ["train", "fwd_eval"].map(|kind| format!("{kind}_{}_n1{}", arch.0, WIDE.0)))
        .collect();
    names.push(format!("sam_conv3_n1{}", WIDE.0));
    names.extend([SUPERNET, DARTS_SUPERNET, ELASTIC, PRODUCT, RESNET[0], RESNET[1]].map(String::from));
    names.extend(layers.flat_map(|layer| ["fwd", "bwd"].map(|pass| format!("{pass}_{}{}", layer.0, WIDE.0))));
    names
}

/// A tensor whose values are a hash (lowbias32) of their index and the tensor's number, within `-scale..scale`.
fn hashed(number: u32, dims: &[usize], scale: f32) -> Values {
    let value = |i: u32| {
        let mut x = i.wrapping_add(number << 20);
        x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        ((x >> 8) as f32 / 8_388_608.0 - 1.0) * scale
    };
    let length: usize = dims.iter().product();
    Values { dims: dims.to_vec(), data: (0..length as u32).map(value).collect() }
}

/// What fills the inputs of a graph.
pub(super) enum Inputs {
    /// Stores of a network's weights, statistics, batch and rates.
    Network(Box<NetworkInputs>),
    /// Values of temporary tensors, in logical order.
    Tensors(Vec<(TensorId, Vec<f32>)>),
}

pub(super) struct NetworkInputs {
    /// Weights that are not left as a fresh network has them.
    pub weights: Vec<(String, Values)>,
    pub images: Values,
    pub labels: Values,
    pub classes: usize,
    pub rates: Rates,
}

/// How check values come from the tensors that are seen after a run.
pub(super) enum Check {
    /// The first value after each of so many runs: a loss.
    Losses(usize),
    /// Mean magnitude of each tensor after one run.
    Magnitudes,
}

/// A piece of work.
pub struct Work {
    /// What runs.
    pub graph: Arc<Graph>,
    /// Option of each choice.
    pub path: Vec<u8>,
    /// Images per run.
    pub batch: usize,
    /// Whether each run is waited for by itself: a latency.
    pub alone: bool,
    pub(super) inputs: Inputs,
    pub(super) seen: Vec<TensorId>,
    pub(super) check: Check,
}

impl Work {
    /// The work of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            PRODUCT => return Ok(product()),
            SUPERNET => {
                let sizes = Macro { channels: 8, cells: 1, in_channels: 3, height: 16, width: 16, classes: 10 };
                return supernet(&Supernet { sizes }, Supernet::path(&ARCHS[1].1.parse()?));
            }
            DARTS_SUPERNET => {
                let model = darts::Supernet { sizes: darts::Sizes::of_supernet([16, 8], [32, 32, 3], 10) };
                let path = space::Supernet::path(&model, &Darts.parse(CELLS)?);
                return supernet(&model, path.unwrap_or_default());
            }
            ELASTIC => return elastic(),
            _ => {}
        }
        if let Some(which) = RESNET.iter().position(|known| *known == name) {
            return resnet(which);
        }
        let (short, batch) = match name.strip_suffix(WIDE.0) {
            Some(short) => (short, WIDE.1),
            None => (name, BATCH),
        };
        let (head, tail) = short.split_once('_').unwrap_or((short, ""));
        let mut layers = CONVS.iter().chain(&LAYERS);
        if let Some(conv) = layers.find(|conv| conv.0 == tail && ["fwd", "bwd"].contains(&head)) {
            return Ok(convolution(*conv, batch, head == "bwd"));
        }
        let parts: Vec<&str> = short.rsplitn(3, '_').collect();
        let network = match parts[..] {
            [cells, arch, kind @ ("train" | "sam" | "fwd_train" | "fwd_eval")] => {
                let cells = cells.strip_prefix('n').and_then(|n| n.parse().ok()).filter(|n| (1..=32).contains(n));
                let arch = ARCHS.iter().find(|known| known.0 == arch);
                cells.zip(arch).map(|(cells, (_, arch))| (kind, *arch, cells))
            }
            _ => None,
        };
        let (kind, arch, cells) =
            network.ok_or_else(|| unknown("item", name, &names().iter().map(String::as_str).collect::<Vec<_>>()))?;
        cell_network(kind, arch, cells, batch)
    }
}

/// A training step of SGD (`train`) or SAM (`sam`), or a forward pass with statistics of the batch (`fwd_train`) or running ones (`fwd_eval`).
struct Pass<'a> {
    model: &'a dyn Model,
    kind: &'a str,
    batch: usize,
    rate: f64,
    /// Convolutions in the order of their numbers.
    convolutions: Vec<String>,
    classifier: &'a str,
    /// Largest of the classifier's weights.
    scale: f32,
}

impl Pass<'_> {
    fn work(self) -> Result<Work> {
        let optimizer = match self.kind {
            "train" => Some(Optimizer::Sgd),
            "sam" => Some(Optimizer::Sam),
            _ => None,
        };
        let (training, batch) = (optimizer.is_some(), self.batch);
        let statistics = if self.kind == "fwd_eval" { Statistics::Running } else { Statistics::Batch { update: true } };
        let update = optimizer.map(|optimizer| Update { optimizer, ..Update::default() });
        let options = StepOptions { batch, statistics, smoothing: 0.0, update, gradients: false };
        let mut step = build(self.model, &options)?;
        let seen = if training { step.mean } else { step.logits };
        step.graph.tensors[seen.0 as usize].probe = Some("check".into());
        let dims: std::collections::BTreeMap<&str, &[usize]> =
            step.graph.persistent(Role::Weights).map(|(_, info)| (info.name.as_str(), &info.dims[..])).collect();
        let mut weights = vec![];
        for (number, name) in (1..).zip(&self.convolutions) {
            let name = format!("{name}.weight");
            if let Some(dims) = dims.get(name.as_str()) {
                let fan_in = dims[1..].iter().product::<usize>() as f32;
                weights.push((name, hashed(number, dims, (6.0 / fan_in).sqrt())));
            }
        }
        // The peers fill the classifier as inputs x classes and transpose it.
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{}.{part}", self.classifier));
        let (k, c) = dims.get(weight.as_str()).map_or((0, 0), |dims| (dims[0], dims[1]));
        let transposed = hashed(self.convolutions.len() as u32 + 1, &[c, k], self.scale);
        let data = (0..k * c).map(|i| transposed.data[i % c * k + i / c]).collect();
        weights.push((weight, Values { dims: vec![k, c], data }));
        weights.push((bias, Values { dims: vec![k], data: vec![0.0; k] }));
        let rates = Rates { rate: self.rate, momentum: 0.9, statistics_momentum: 0.1, rho: 0.05, ..Rates::default() };
        let inputs = network_inputs(self.model, batch, weights, rates);
        let check = if training { Check::Losses(3) } else { Check::Magnitudes };
        let graph = Arc::new(step.graph);
        Ok(Work { graph, path: vec![], batch, alone: false, inputs, seen: vec![seen], check })
    }
}

fn network_inputs(model: &dyn Model, batch: usize, weights: Vec<(String, Values)>, rates: Rates) -> Inputs {
    let ([h, w, c], classes) = (model.input(), model.classes());
    let labels = (0..batch).map(|i| (i * 7 % classes) as f32).collect();
    Inputs::Network(Box::new(NetworkInputs {
        weights,
        images: hashed(4001, &[batch, c, h, w], 1.7),
        labels: Values { dims: vec![batch], data: labels },
        classes,
        rates,
    }))
}

/// A network of NAS-Bench-201 on 32x32 pictures.
fn cell_network(kind: &str, arch: &str, cells: usize, batch: usize) -> Result<Work> {
    let cell: Cell = arch.parse()?;
    let sizes = Macro { channels: WIDTH, cells, in_channels: 3, height: 32, width: 32, classes: 10 };
    let mut convolutions = vec!["stem.0".to_owned()];
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            convolutions.extend(["conv_a.op.1", "conv_b.op.1", "downsample.1"].map(|p| format!("cells.{index}.{p}")));
            index += 1;
        }
        for _ in 0..cells {
            let own = cell.0.iter().enumerate().filter(|(_, op)| op.name().starts_with("nor_conv"));
            convolutions.extend(own.map(|(edge, _)| format!("cells.{index}.layers.{edge}.op.1")));
            index += 1;
        }
    }
    let model = Network::new(cell, sizes);
    Pass { model: &model, kind, batch, rate: 0.02, convolutions, classifier: "classifier", scale: 0.2 }.work()
}

/// ResNet-50; convolutions are numbered as they come in the network.
fn resnet(which: usize) -> Result<Work> {
    let model = ResNet50 { side: 224, classes: 1000 };
    let (kind, batch) = [("train", 4), ("fwd_eval", 4), ("fwd_eval", 1)][which];
    let statistics = Statistics::Running;
    let graph =
        build(&model, &StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients: false })?.graph;
    let filters = graph.persistent(Role::Weights).filter(|(_, info)| info.dims.len() == 4);
    let convolutions = filters.map(|(_, info)| info.name.trim_end_matches(".weight").to_owned()).collect();
    let pass = Pass { model: &model, kind, batch, rate: 0.001, convolutions, classifier: "fc", scale: 0.02 };
    Ok(Work { alone: which == 2, ..pass.work()? })
}

/// A training step of a network of the elastic space.
fn elastic() -> Result<Work> {
    let info = ImageInfo { height: 64, width: 64, channels: 3, classes: 10 };
    let build = MobileNetV3::default().defaults(Purpose::Training, &info);
    let family = Family::new(Arc::new(MobileNetV3::default()), build)?;
    let model = family.network(&family.parse(SUBNET)?)?;
    let graph = trained_graph(&*model)?;
    let filters = graph.persistent(Role::Weights).filter(|(_, info)| info.dims.len() == 4);
    let convolutions = filters.map(|(_, info)| info.name.trim_end_matches(".weight").to_owned()).collect();
    let classifier = "classifier.linear";
    Pass { model: &*model, kind: "train", batch: BATCH, rate: 0.02, convolutions, classifier, scale: 0.02 }.work()
}

/// A training step of a path of a supernet.
fn supernet(model: &dyn Model, path: Vec<u8>) -> Result<Work> {
    let batch = 64;
    let update = Some(Update { clip: true, ..Update::default() });
    let statistics = Statistics::Batch { update: true };
    let step = build(model, &StepOptions { batch, statistics, smoothing: 0.0, update, gradients: false })?;
    let rates = Rates { rate: 0.02, momentum: 0.9, statistics_momentum: 0.1, clip: 5.0, ..Rates::default() };
    Ok(Work {
        inputs: network_inputs(model, batch, vec![], rates),
        graph: Arc::new(step.graph),
        path,
        batch,
        alone: false,
        seen: vec![step.mean],
        check: Check::Losses(1),
    })
}

/// A tensor that the caller fills or reads.
fn open(b: &mut Builder, shape: Shape, name: &str) -> TensorId {
    let tensor = b.temporary(shape);
    b.probe(tensor, name);
    tensor
}

/// A graph whose inputs are temporary tensors.
fn single(graph: Graph, batch: usize, inputs: Vec<(TensorId, Vec<f32>)>, seen: Vec<TensorId>) -> Work {
    let inputs = Inputs::Tensors(inputs);
    Work { graph: Arc::new(graph), path: vec![], batch, alone: false, inputs, seen, check: Check::Magnitudes }
}

/// One convolution, or its gradients with respect to images and weights for a gradient of ones.
fn convolution(layer: Layer, batch: usize, backward: bool) -> Work {
    let (_, c, side, kernel, groups, stride, dilation) = layer;
    let mut b = Builder::new();
    let geometry = Geometry { groups, dilation, ..Geometry::square(kernel, stride, dilation * (kernel / 2)) };
    let shape = Shape::map(batch, side, side, c);
    let output = Shape::map(batch, side.div_ceil(stride), side.div_ceil(stride), c);
    let filter = Shape::Filter { r: kernel, s: kernel, c: c / groups, k: c, groups };
    let (x, w, y) = (open(&mut b, shape, "x"), open(&mut b, filter, "w"), open(&mut b, output, "y"));
    let mut inputs = vec![
        (x, to_logical(shape, &hashed(1, &[batch, c, side, side], 1.0).data)),
        (w, to_logical(filter, &hashed(2, &[c, c / groups, kernel, kernel], 0.1).data)),
    ];
    if !backward {
        b.push(Op::Conv { x, w, bias: None, y, geometry, relu: false });
        return single(b.finish(), batch, inputs, vec![y]);
    }
    let (dx, dw) = (open(&mut b, shape, "dx"), open(&mut b, filter, "dw"));
    inputs.push((y, vec![1.0; output.len()]));
    b.push(Op::ConvInput { dy: y, w, dx, geometry });
    b.push(Op::ConvFilter { x, dy: y, dw, geometry, relu: false });
    single(b.finish(), batch, inputs, vec![dx, dw])
}

fn product() -> Work {
    const N: usize = 512;
    let mut b = Builder::new();
    let rows = Shape::map(1, N, 1, N);
    let filter = Shape::Filter { r: 1, s: 1, c: N, k: N, groups: 1 };
    let (x, w, y) = (open(&mut b, rows, "x"), open(&mut b, filter, "w"), open(&mut b, rows, "y"));
    b.push(Op::Conv { x, w, bias: None, y, geometry: Geometry::square(1, 1, 0), relu: false });
    // Both matrices are given row by row: positions x channels, and inputs x outputs, which is our own order.
    let (a, m) = (hashed(1, &[N, N], 1.0), hashed(2, &[N, N], 1.0));
    single(b.finish(), N, vec![(x, a.data), (w, m.data)], vec![y])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_work() {
        let names = names();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        for name in names.iter().chain(&representative()) {
            let work = Work::named(name).unwrap();
            let batch = match () {
                () if name.starts_with("resnet50") => {
                    if name.ends_with("latency") {
                        1
                    } else {
                        4
                    }
                }
                () if name == PRODUCT => 512,
                () if name == SUPERNET || name == DARTS_SUPERNET => 64,
                () if name.ends_with("_b128") => 128,
                () => 32,
            };
            assert_eq!(work.batch, batch, "{name}");
            assert_eq!(work.alone, name.ends_with("latency"), "{name}");
        }
        for wrong in ["", "train", "train_conv3_n0", "train_conv3_n1_b64", "bwd_c16", "x_c16_s32_k3", "train_conv4_n1"]
        {
            let why = Work::named(wrong).map(|_| ()).unwrap_err().to_string();
            assert!(why.contains("train_conv3_n1"), "{wrong}: {why}");
        }
    }

    /// The first values of `Init` in peers/torch_bench.py.
    #[test]
    fn hashes_are_those_of_the_peers() {
        assert_eq!(hashed(1, &[2, 2], 1.0).data, [-0.627_037_5, 0.897_799_73, -0.637_285_23, -0.681_794_64]);
    }
}
