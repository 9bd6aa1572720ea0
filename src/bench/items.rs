//! Work that every peer runs: training steps and forward passes of NAS-Bench-201 networks, convolutions, a product.
//!
//! Batch 32, f32. Weights and inputs come from a hash of their index, the same in every peer; check values are the losses
//! of the first three steps, or the mean magnitude of each result.

use std::sync::Arc;
use std::time::Instant;

use super::timed;
use crate::error::{Error, Result, unknown};
use crate::gpu::Gpu;
use crate::graph::plan::{Instance, Plan};
use crate::graph::{Builder, Geometry, Graph, Group, Op, Shape, Statistics, TensorId};
use crate::kernels::Preset;
use crate::nn::Model;
use crate::nn::nas_bench_201::{Network, Supernet};
use crate::nn::tensors::{Named, Values, fresh, to_logical, upload};
use crate::space::nas_bench_201::{Arch, Macro};
use crate::train::step::{Optimizer, Rates, StepOptions, Update, build as build_step};
use crate::train::stores::Stores;

/// Images per step.
pub const BATCH: usize = 32;
const WIDTH: usize = 16;
const CONV3: &str = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|";
const MIXED: &str = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|";
/// Single convolutions: name, channels, image side, kernel side, groups.
const CONVS: [(&str, usize, usize, usize, usize); 5] = [
    ("c16_s32_k3", 16, 32, 3, 1),
    ("c32_s16_k3", 32, 16, 3, 1),
    ("c64_s8_k3", 64, 8, 3, 1),
    ("dw64_s16_k3", 64, 16, 3, 64),
    ("c64_s16_k1", 64, 16, 1, 1),
];

/// A training step of the supernet of a quick search on 32x32 pictures; no peer has it.
pub const SUPERNET: &str = "train_supernet_c8_s16";

/// Names of all items that peers have too.
pub fn names() -> Vec<String> {
    let mut names = vec![];
    for arch in ["conv3", "mixed"] {
        names.extend(["train", "fwd_train", "fwd_eval"].map(|kind| format!("{kind}_{arch}_n1")));
    }
    for pass in ["fwd", "bwd"] {
        names.extend(CONVS.iter().map(|conv| format!("{pass}_{}", conv.0)));
    }
    names.extend(["matmul_512", "train_conv3_n5", "train_mixed_n5"].map(String::from));
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

/// A compiled item.
pub struct Item {
    gpu: Gpu,
    plan: Plan,
    /// Values that every peer must agree on.
    pub check: Vec<f64>,
    /// When the first run was done; check values may take more.
    pub first_run: Instant,
}

impl Item {
    /// Compiles an item and computes its check values.
    ///
    /// # Errors
    /// If there is none of this name, or the device fails.
    pub fn build(gpu: &Gpu, preset: Preset, name: &str) -> Result<Self> {
        let (head, tail) = name.split_once('_').unwrap_or((name, ""));
        if let Some(conv) = CONVS.iter().find(|conv| conv.0 == tail) {
            return convolution(gpu, preset, *conv, head == "bwd");
        }
        if name == "matmul_512" {
            return product(gpu, preset);
        }
        if name == SUPERNET {
            return supernet(gpu, preset);
        }
        let parts: Vec<&str> = name.rsplitn(3, '_').collect();
        let (kind, arch, cells) = match parts[..] {
            [cells, arch @ ("conv3" | "mixed"), kind @ ("train" | "fwd_train" | "fwd_eval")] => (kind, arch, cells),
            _ => return Err(unknown("item", name, &names().iter().map(String::as_str).collect::<Vec<_>>())),
        };
        let cells = cells.trim_start_matches('n').parse().map_err(|_| Error::invalid("item", name))?;
        network(gpu, preset, kind, if arch == "conv3" { CONV3 } else { MIXED }, cells)
    }

    /// Seconds of `repetitions` runs.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&self, repetitions: usize) -> Result<f64> {
        timed(&self.gpu, repetitions, &mut || {
            self.plan.submit();
            Ok(())
        })
    }

    /// The compiled work.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The network's weights as all peers have them: convolutions numbered in the order of their making.
fn weights(arch: &Arch, cells: usize, named: &mut Named) {
    let mut number = 0;
    let mut conv = |name: String| {
        number += 1;
        if let Some(values) = named.get_mut(&name) {
            let fan_in = values.dims[1..].iter().product::<usize>() as f32;
            *values = hashed(number, &values.dims.clone(), (6.0 / fan_in).sqrt());
        }
    };
    conv("stem.0.weight".into());
    let mut index = 0;
    for stage in 0..3 {
        if stage > 0 {
            for part in ["conv_a.op.1", "conv_b.op.1", "downsample.1"] {
                conv(format!("cells.{index}.{part}.weight"));
            }
            index += 1;
        }
        for _ in 0..cells {
            for (edge, op) in arch.0.iter().enumerate() {
                if op.name().starts_with("nor_conv") {
                    conv(format!("cells.{index}.layers.{edge}.op.1.weight"));
                }
            }
            index += 1;
        }
    }
    // The peers fill the classifier as inputs x classes and transpose it.
    if let Some(values) = named.get_mut("classifier.weight") {
        let (k, c) = (values.dims[0], values.dims[1]);
        let transposed = hashed(number + 1, &[c, k], 0.2);
        values.data = (0..k * c).map(|i| transposed.data[i % c * k + i / c]).collect();
    }
    if let Some(values) = named.get_mut("classifier.bias") {
        values.data.fill(0.0);
    }
}

fn network(gpu: &Gpu, preset: Preset, kind: &str, arch: &str, cells: usize) -> Result<Item> {
    let arch: Arch = arch.parse()?;
    let sizes = Macro { channels: WIDTH, cells, in_channels: 3, height: 32, width: 32, classes: 10 };
    let model = Network::new(arch, sizes);
    let statistics = if kind == "fwd_eval" { Statistics::Running } else { Statistics::Batch { update: true } };
    let update = (kind == "train").then(|| Update { optimizer: Optimizer::Sgd, ..Update::default() });
    let options = StepOptions { batch: BATCH, statistics, smoothing: 0.0, update, gradients: false };
    let mut step = build_step(&model, &options)?;
    let seen = if update.is_some() { step.mean } else { step.logits };
    step.graph.tensors[seen.0 as usize].probe = Some("check".into());
    let graph = Arc::new(step.graph);
    let stores = Stores::new(gpu, &graph, 1)?;
    let mut named = Named::new();
    for group in [Group::Weights, Group::Running] {
        named.extend(fresh(stores.group(group)?.contents(), 0));
    }
    weights(&arch, cells, &mut named);
    stores.load(0, &named)?;
    let labels = Values { dims: vec![BATCH], data: (0..BATCH).map(|i| (i * 7 % 10) as f32).collect() };
    stores.set_batch(0, &hashed(4001, &[BATCH, 3, 32, 32], 1.7), &labels, model.classes())?;
    let rates = Rates { rate: 0.02, momentum: 0.9, statistics_momentum: 0.1, ..Rates::default() };
    stores.set_rates(0, &rates)?;
    let instance = Instance { graph, bindings: stores.bindings(0), path: vec![] };
    let plan = Plan::compile(gpu, vec![instance], preset)?;
    let mut check = vec![];
    let mut first_run = None;
    for _ in 0..if update.is_some() { 3 } else { 1 } {
        plan.submit();
        let values = plan.read_wait(0, seen)?;
        first_run.get_or_insert_with(Instant::now);
        check.push(if update.is_some() { f64::from(values[0]) } else { mean_abs(&values) });
    }
    Ok(Item { gpu: gpu.clone(), plan, check, first_run: first_run.unwrap_or_else(Instant::now) })
}

/// One step of the supernet on the path of the mixed architecture: 8 channels, 16x16, batch 64.
fn supernet(gpu: &Gpu, preset: Preset) -> Result<Item> {
    let sizes = Macro { channels: 8, cells: 1, in_channels: 3, height: 16, width: 16, classes: 10 };
    let model = Supernet { sizes };
    let update = Some(Update { clip: true, ..Update::default() });
    let statistics = Statistics::Batch { update: true };
    let options = StepOptions { batch: 64, statistics, smoothing: 0.0, update, gradients: false };
    let step = build_step(&model, &options)?;
    let (graph, mean) = (Arc::new(step.graph), step.mean);
    let stores = Stores::new(gpu, &graph, 1)?;
    for group in [Group::Weights, Group::Running] {
        let store = stores.group(group)?;
        upload(gpu, store, 0, &fresh(store.contents(), 0))?;
    }
    let labels = Values { dims: vec![64], data: (0..64).map(|i| (i * 7 % 10) as f32).collect() };
    stores.set_batch(0, &hashed(4001, &[64, 3, 16, 16], 1.7), &labels, 10)?;
    let rates = Rates { rate: 0.02, momentum: 0.9, statistics_momentum: 0.1, clip: 5.0, ..Rates::default() };
    stores.set_rates(0, &rates)?;
    let path = Supernet::path(&MIXED.parse()?);
    let plan = Plan::compile(gpu, vec![Instance { graph, bindings: stores.bindings(0), path }], preset)?;
    plan.submit();
    let check = vec![f64::from(plan.read_wait(0, mean)?[0])];
    Ok(Item { gpu: gpu.clone(), plan, check, first_run: Instant::now() })
}

fn mean_abs(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len() as f64
}

/// A tensor that the caller fills or reads.
fn open(b: &mut Builder, shape: Shape, name: &str) -> TensorId {
    let tensor = b.temporary(shape);
    b.probe(tensor, name);
    tensor
}

/// Compiles a graph, fills its inputs (values in PyTorch's order), runs it once, and checks its outputs.
fn single(
    gpu: &Gpu,
    preset: Preset,
    graph: Graph,
    inputs: &[(TensorId, Values)],
    outputs: &[TensorId],
) -> Result<Item> {
    let graph = Arc::new(graph);
    let instance = Instance { graph: graph.clone(), bindings: Default::default(), path: vec![] };
    let plan = Plan::compile(gpu, vec![instance], preset)?;
    for (tensor, values) in inputs {
        plan.write(0, *tensor, &to_logical(graph.shape(*tensor), &values.data))?;
    }
    plan.submit();
    let check = outputs.iter().map(|t| Ok(mean_abs(&plan.read_wait(0, *t)?))).collect::<Result<_>>()?;
    Ok(Item { gpu: gpu.clone(), plan, check, first_run: Instant::now() })
}

fn convolution(gpu: &Gpu, preset: Preset, conv: (&str, usize, usize, usize, usize), backward: bool) -> Result<Item> {
    let (_, c, side, kernel, groups) = conv;
    let mut b = Builder::new();
    let geometry = Geometry { groups, ..Geometry::square(kernel, 1, kernel / 2) };
    let shape = Shape::map(BATCH, side, side, c);
    let filter = Shape::Filter { r: kernel, s: kernel, c: c / groups, k: c, groups };
    let (x, w, y) = (open(&mut b, shape, "x"), open(&mut b, filter, "w"), open(&mut b, shape, "y"));
    let mut inputs =
        vec![(x, hashed(1, &[BATCH, c, side, side], 1.0)), (w, hashed(2, &[c, c / groups, kernel, kernel], 0.1))];
    if !backward {
        b.push(Op::Conv { x, w, bias: None, y, geometry, relu: false });
        return single(gpu, preset, b.finish(), &inputs, &[y]);
    }
    let (dx, dw) = (open(&mut b, shape, "dx"), open(&mut b, filter, "dw"));
    inputs.push((y, Values { dims: vec![], data: vec![1.0; shape.len()] }));
    b.push(Op::ConvInput { dy: y, w, dx, geometry });
    b.push(Op::ConvFilter { x, dy: y, dw, geometry, relu: false });
    single(gpu, preset, b.finish(), &inputs, &[dx, dw])
}

fn product(gpu: &Gpu, preset: Preset) -> Result<Item> {
    const N: usize = 512;
    let mut b = Builder::new();
    let rows = Shape::map(1, N, 1, N);
    let filter = Shape::Filter { r: 1, s: 1, c: N, k: N, groups: 1 };
    let (x, w, y) = (open(&mut b, rows, "x"), open(&mut b, filter, "w"), open(&mut b, rows, "y"));
    b.push(Op::Conv { x, w, bias: None, y, geometry: Geometry::square(1, 1, 0), relu: false });
    // Both matrices are given row by row: positions x channels, and inputs x outputs, which is our own order.
    let (a, m) = (hashed(1, &[N, N], 1.0), hashed(2, &[N, N], 1.0));
    let graph = Arc::new(b.finish());
    let instance = Instance { graph, bindings: Default::default(), path: vec![] };
    let plan = Plan::compile(gpu, vec![instance], preset)?;
    plan.write(0, x, &a.data)?;
    plan.write(0, w, &m.data)?;
    plan.submit();
    let check = vec![mean_abs(&plan.read_wait(0, y)?)];
    Ok(Item { gpu: gpu.clone(), plan, check, first_run: Instant::now() })
}
