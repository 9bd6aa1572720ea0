//! Passes through untrained networks: what they leave is read back once and becomes scores on the host.
//!
//! A [`Look`] is the graph of one kind of pass through one network, with the tensors that are wanted from it. [`Compiled`] compiles
//! the looks of many networks into one plan: their kernels run as tasks of the same dispatches. All networks' weights lie
//! in common slabs and all see one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::left::{Block, Left, OUTPUT, Parts};
use super::range::Scaling;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::plan::{Bindings, Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Builder, Compared, Graph, Init, NORMALS, Role, Shape, Statistics, TensorId};
use crate::kernels::Preset;
use crate::nn::bank::Weights;
use crate::nn::tensors::{Named, Values, to_logical, upload, upload_by};
use crate::nn::{Layers, Model, Norms, Rectified};
use crate::philox::NORMAL_TABLE;
use crate::reference::{self, Memory};
use crate::train::step::Rates;

/// The seed of the summed logits' gradient, and the scale of logits in the loss.
const ONES: &str = "ones";
pub(super) const SCALE: &str = "scale";
/// The table of normal numbers.
const NORMAL: &str = "normals";

/// What a pass is to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Images in the batch.
    pub batch: usize,
    /// Batch norms of the network.
    pub norms: Norms,
    /// Gradients of the mean cross-entropy by the weights of layers: `grad.<layer>`.
    pub loss_gradients: bool,
    /// Gradient of the mean cross-entropy by the images: `input`. Not together with that of the summed logits.
    pub loss_input_gradient: bool,
    /// Whether the cross-entropy is that of the logits times the batch's value `scale`, 1 if it has none.
    pub scaled_logits: bool,
    /// The stages' feature maps: `feature.<number>`.
    pub features: bool,
    /// Each layer's output: `output.<layer>`; image by image, but channels last, as it lies on the device.
    pub outputs: bool,
    /// For each layer, image and channel, the sum over positions of output times its gradient: `fisher.<layer>`.
    pub products: bool,
    /// Products of the mean cross-entropy's Hessian by the weights of layers with its gradient by these weights:
    /// `hessian.<layer>`.
    pub hessian_products: bool,
    /// Gradients of the summed logits by the weights of layers: `grad.<layer>`. Not together with those of the loss.
    pub sum_gradients: bool,
    /// Gradient of the summed logits by the images: `input`.
    pub input_gradient: bool,
    /// For each rectifier, the signs of its inputs as words of 16 bits, image by image: `codes.<number>`.
    pub codes: bool,
    /// The same after noise, for [`Compiled::with_noise`]: `noisy.<number>`.
    pub noisy_codes: bool,
    /// The last feature map before its rectifier: `map`.
    pub last_map: bool,
    /// Whether running statistics move.
    pub moving: bool,
}

/// Inputs of rectifiers: one tensor, which several may read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Units {
    /// Values per image.
    pub count: usize,
    /// Rectifiers that read it.
    pub rectifiers: f64,
    /// How often the authors' measures count it.
    pub counted: f64,
}

/// The graph of a pass and what is wanted from it.
pub struct Look {
    graph: Arc<Graph>,
    reads: Vec<(String, TensorId)>,
    /// Names of layers, in order.
    pub layers: Vec<String>,
    /// Names of batch norms, in order.
    pub norms: Vec<String>,
    /// The stage of each layer, as the model counts them.
    pub stages: Vec<usize>,
    /// Values of the map behind the first layer, of all images.
    pub first_map: usize,
    /// What rectifiers see, if codes were asked for.
    pub units: Vec<Units>,
    /// Whether measures see each feature map rectified.
    pub rectified: Vec<bool>,
    /// The feature maps.
    pub(super) features: Vec<TensorId>,
    /// What may be divided by powers of two.
    pub(super) scaling: Scaling,
}

/// Weights that a network can be given.
pub trait Given: Sync {
    /// Writes them to the network's store.
    ///
    /// # Errors
    /// If one is missing or not as the store has it, or the device fails.
    fn write(&self, gpu: &Gpu, store: &Store) -> Result<()>;
}

impl Given for &Named {
    fn write(&self, gpu: &Gpu, store: &Store) -> Result<()> {
        upload(gpu, store, 0, self)
    }
}

impl Given for &Weights {
    fn write(&self, gpu: &Gpu, store: &Store) -> Result<()> {
        changed(gpu, store, self, |_| None)
    }
}

/// Writes weights of a bank, those for which `factor` has one as their magnitudes times it.
pub(super) fn changed(gpu: &Gpu, store: &Store, weights: &Weights, factor: impl Fn(&str) -> Option<f64>) -> Result<()> {
    upload_by(gpu, store, 0, |name, _, stored| {
        let laid = weights.get(name).ok_or_else(|| Error::invalid(name, "is missing from the weights"))?;
        match factor(name) {
            None => stored.copy_from_slice(&laid.stored),
            // A power of two is exact in f32 as well, unless it, or what it makes, is beyond its range.
            Some(factor) => {
                let pairs = stored.iter_mut().zip(&laid.stored);
                pairs.for_each(|(to, &from)| *to = (f64::from(from.abs()) * factor) as f32);
            }
        }
        Ok(())
    })
}

/// Tensors that are rectified, each once, in the order in which they come; none if no codes are wanted.
fn rectified(b: &Builder, all: &[Rectified], wanted: Wanted) -> Vec<(TensorId, Units)> {
    let mut tensors: Vec<(TensorId, Units)> = vec![];
    for &Rectified { tensor, counted } in all.iter().filter(|_| wanted.codes || wanted.noisy_codes) {
        match tensors.iter_mut().find(|(known, _)| *known == tensor) {
            Some((_, units)) => {
                units.rectifiers += 1.0;
                units.counted += counted;
            }
            None => {
                let count = b.shape(tensor).len() / wanted.batch;
                tensors.push((tensor, Units { count, rectifiers: 1.0, counted }));
            }
        }
    }
    tensors
}

impl Look {
    /// Builds the pass through `model`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn new(model: &dyn Model, wanted: Wanted) -> Result<Self> {
        let mut layers = Layers::new(Statistics::Batch { update: wanted.moving })?;
        layers.norms = wanted.norms;
        let (x, y) = layers.batch(wanted.batch, model.input())?;
        let logits = model.forward(&mut layers, x)?.logits;
        let scaling = Scaling::of(layers.builder.graph(), x, logits);
        let (anatomy, hyper) = (layers.anatomy.clone(), layers.hyper());
        let b = &mut layers.builder;
        let (mut reads, mut units) = (vec![], vec![]);
        let weights: Vec<TensorId> = anatomy.layers.iter().map(|l| l.weight).collect();
        let mut loss_gradients = None;
        let noise = match wanted.noisy_codes {
            true => Some(b.persistent(Role::Hyper, NORMAL, NORMALS, Init::Constant(0.0), &[NORMALS.len()])?),
            false => None,
        };
        for (number, (tensor, of_tensor)) in rectified(b, &anatomy.rectified, wanted).into_iter().enumerate() {
            units.push(of_tensor);
            if wanted.codes {
                reads.push((format!("codes.{number}"), b.sign_codes(tensor)));
            }
            if let Some(table) = noise {
                reads.push((format!("noisy.{number}"), b.noisy_codes(tensor, hyper, table, number as u32)));
            }
        }
        if wanted.features {
            reads.extend(anatomy.features.iter().enumerate().map(|(i, f)| (format!("feature.{i}"), f.tensor)));
        }
        if wanted.outputs {
            reads.extend(anatomy.layers.iter().map(|l| (format!("{OUTPUT}{}", l.name), l.output)));
        }
        if wanted.loss_gradients || wanted.products || wanted.loss_input_gradient || wanted.hessian_products {
            let one = Init::Constant(1.0);
            let scale = match wanted.scaled_logits {
                true => Some(b.persistent(Role::Batch, SCALE, Shape::vector(1), one, &[1])?),
                false => None,
            };
            let loss = b.cross_entropy_of(logits, y, Compared { scale, ..Compared::default() }, true, false)?;
            let seed = loss.dlogits.ok_or_else(|| Error::invalid("backward", "the loss has no gradient"))?;
            let mut sources = weights.clone();
            sources.extend(wanted.loss_input_gradient.then_some(x));
            let gradients = b.backward(&[(logits, seed)], &sources)?;
            loss_gradients = Some(gradients.clone());
            if let Some(gradient) = gradients.get(x).filter(|_| wanted.loss_input_gradient) {
                reads.push(("input".into(), gradient));
            }
            for layer in &anatomy.layers {
                if let Some(gradient) = gradients.get(layer.weight).filter(|_| wanted.loss_gradients) {
                    reads.push((format!("grad.{}", layer.name), gradient));
                }
                // A layer whose output reaches nothing has no gradient, and counts nothing.
                if let Some(gradient) = gradients.get(layer.output).filter(|_| wanted.products) {
                    let product = b.image_dot(&layer.name, layer.output, gradient)?;
                    reads.push((format!("fisher.{}", layer.name), product));
                }
            }
        }
        if let Some(gradients) = loss_gradients.filter(|_| wanted.hessian_products) {
            let outputs: Vec<_> = weights.iter().filter_map(|&w| gradients.get(w)).map(|g| (g, g)).collect();
            let second = b.backward(&outputs, &weights).map_err(|error| {
                let why =
                    format!("needs second derivatives, and there is none of this network ({error}); leave it out");
                Error::invalid("grasp", why)
            })?;
            for layer in &anatomy.layers {
                if let Some(product) = second.get(layer.weight) {
                    reads.push((format!("hessian.{}", layer.name), product));
                }
            }
        }
        if wanted.sum_gradients || wanted.input_gradient {
            let shape = b.shape(logits);
            let ones = b.persistent(Role::Batch, ONES, shape, Init::Constant(1.0), &[wanted.batch, model.classes()])?;
            let mut sources = if wanted.sum_gradients { weights } else { vec![] };
            sources.extend(wanted.input_gradient.then_some(x));
            let gradients = b.backward(&[(logits, ones)], &sources)?;
            for layer in anatomy.layers.iter().filter(|_| wanted.sum_gradients) {
                if let Some(gradient) = gradients.get(layer.weight) {
                    reads.push((format!("grad.{}", layer.name), gradient));
                }
            }
            if let Some(gradient) = gradients.get(x).filter(|_| wanted.input_gradient) {
                reads.push(("input".into(), gradient));
            }
        }
        if let Some(map) = anatomy.last_map.filter(|_| wanted.last_map) {
            reads.push(("map".into(), map));
        }
        let first_map = anatomy.layers.first().map_or(0, |l| layers.builder.shape(l.output).len());
        for (name, tensor) in &reads {
            layers.builder.probe(*tensor, name);
        }
        Ok(Look {
            graph: Arc::new(layers.builder.finish()),
            reads,
            first_map,
            stages: anatomy.layers.iter().map(|l| l.stage).collect(),
            layers: anatomy.layers.into_iter().map(|l| l.name).collect(),
            norms: anatomy.norms,
            units,
            rectified: anatomy.features.iter().map(|feature| feature.rectified).collect(),
            features: anatomy.features.iter().map(|feature| feature.tensor).collect(),
            scaling,
        })
    }

    /// Fresh weights: PyTorch's default, each tensor from the seed and its name.
    ///
    /// # Errors
    /// If the graph contradicts itself.
    pub fn fresh(&self, seed: u64) -> Result<Named> {
        Ok(crate::nn::tensors::fresh(&self.weights()?, seed))
    }

    /// Names and shapes of the weights.
    ///
    /// # Errors
    /// If the graph contradicts itself.
    pub fn weights(&self) -> Result<Contents> {
        Contents::of(&self.graph, &[Role::Weights])
    }

    /// Layers whose weights have a gradient in this pass.
    pub fn with_gradient(&self) -> usize {
        self.reads.iter().filter(|(name, _)| name.starts_with("grad.")).count()
    }

    /// The graph; what the pass leaves are its probes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the interpreter begins with: weights and batch.
    ///
    /// # Errors
    /// If a weight or the batch is missing or of another size.
    pub fn memory(&self, weights: &Named, batch: &Named) -> Result<Memory> {
        let mut memory = Memory::new(&self.graph);
        for (group, named) in [(Role::Weights, weights), (Role::Batch, batch)] {
            for (id, info) in self.graph.persistent(group) {
                let shape = self.graph.shape(id);
                let values = match named.get(&info.name) {
                    Some(values) if values.data.len() == shape.len() => to_logical(shape, &values.data),
                    Some(values) => return Err(Error::shape(&info.name, shape, format!("{:?}", values.dims))),
                    None if [ONES, SCALE].contains(&info.name.as_str()) => vec![1.0; shape.len()],
                    None => return Err(Error::invalid(&info.name, "is missing")),
                };
                memory.set(id, values.into_iter().map(f64::from).collect())?;
            }
        }
        Ok(memory)
    }

    /// Runs the pass in `f64` on the host, for what `f32` cannot hold. The network must not move running statistics.
    ///
    /// # Errors
    /// If a weight or the batch is missing or of another size.
    pub fn run_exact(&self, weights: &Named, batch: &Named) -> Result<Left> {
        let mut memory = self.memory(weights, batch)?;
        reference::run(&self.graph, &[], &mut memory)?;
        let (mut block, mut parts) = (vec![], Parts::default());
        for (name, tensor) in &self.reads {
            let (shape, first) = (self.graph.shape(*tensor), block.len());
            block.resize(first + shape.vec4s() * 4, 0.0);
            let values = shape.storage_indices().zip(memory.get(*tensor));
            values.for_each(|(to, &value)| block[first + to] = value as f32);
            parts.add(name, shape, 0, first);
        }
        Ok(Left::new(Arc::new(vec![Box::new(block)]), parts))
    }
}

/// A population's passes, compiled.
pub struct Compiled<'a> {
    gpu: Gpu,
    looks: &'a [&'a Look],
    plan: Plan,
    weights: Vec<Store>,
    batch: Store,
    hyper: Store,
    running: Option<Vec<Store>>,
}

impl<'a> Compiled<'a> {
    /// Compiles the looks of a population with their weights; all see one batch.
    ///
    /// # Errors
    /// If a weight is missing or the device has no room.
    pub fn new(gpu: &Gpu, preset: Preset, looks: &'a [&'a Look], weights: &[impl Given]) -> Result<Self> {
        Self::with_batches(gpu, preset, looks, weights, 1)
    }

    /// The same with as many batches: one for all, or one for each network.
    ///
    /// # Errors
    /// If a weight is missing or the device has no room.
    pub fn with_batches(
        gpu: &Gpu,
        preset: Preset,
        looks: &'a [&'a Look],
        weights: &[impl Given],
        batches: usize,
    ) -> Result<Self> {
        Self::compile(gpu, preset, looks, weights, [batches, 1])
    }

    /// The same with one batch and noise of each network's own, which [`Compiled::set_noise`] sets.
    ///
    /// # Errors
    /// If a weight is missing or the device has no room.
    pub fn with_noise(gpu: &Gpu, preset: Preset, looks: &'a [&'a Look], weights: &[impl Given]) -> Result<Self> {
        Self::compile(gpu, preset, looks, weights, [1, looks.len()])
    }

    /// With as many batches and settings of noise.
    fn compile(
        gpu: &Gpu,
        preset: Preset,
        looks: &'a [&'a Look],
        weights: &[impl Given],
        [batches, noises]: [usize; 2],
    ) -> Result<Self> {
        let first = looks.first().ok_or_else(|| Error::invalid("population", "there is no network"))?;
        let contents = |group: Role| -> Result<Vec<Contents>> {
            looks.par_iter().map(|look| Contents::of(&look.graph, &[group])).collect()
        };
        let stores = Store::packed(gpu, contents(Role::Weights)?, "weights")?;
        stores.par_iter().zip(weights).try_for_each(|(store, weights)| weights.write(gpu, store))?;
        let running = contents(Role::Running)?;
        let running = match running.iter().all(|c| !c.entries.is_empty()) {
            true => Some(Store::packed(gpu, running, "running statistics")?),
            false => None,
        };
        let hyper = Store::new(gpu, Contents::of(&first.graph, &[Role::Hyper])?, noises, "rates")?;
        let rates = Rates { statistics_momentum: 0.1, ..Rates::default() };
        for copy in 0..noises {
            hyper.write_words(gpu, copy, "hyper", &rates.words())?;
            if hyper.contents().entries.contains_key(NORMAL) {
                hyper.write_words(gpu, copy, NORMAL, NORMAL_TABLE.as_flattened())?;
            }
        }
        let batch = Store::new(gpu, Contents::of(&first.graph, &[Role::Batch])?, batches, "batch")?;
        let instance = |(i, look): (usize, &&Look)| {
            let mut bindings: Bindings = BTreeMap::from([
                (Role::Weights, (stores[i].clone(), 0)),
                (Role::Hyper, (hyper.clone(), i.min(noises - 1))),
                (Role::Batch, (batch.clone(), i.min(batches - 1))),
            ]);
            if let Some(running) = &running {
                bindings.insert(Role::Running, (running[i].clone(), 0));
            }
            Instance { graph: look.graph.clone(), bindings, path: vec![] }
        };
        let plan = Plan::compile(gpu, looks.iter().enumerate().map(instance).collect(), preset)?;
        Ok(Compiled { gpu: gpu.clone(), looks, plan, weights: stores, batch, hyper, running })
    }

    /// Replaces the networks' weights.
    ///
    /// # Errors
    /// If one is missing or the device fails.
    pub fn set_weights(&self, weights: &[impl Given]) -> Result<()> {
        self.weights.par_iter().zip(weights).try_for_each(|(store, weights)| weights.write(&self.gpu, store))
    }

    /// Sets the noise of rectifiers' inputs: its deviation in their root mean square, its seed, and the number of each network's draw.
    ///
    /// # Errors
    /// If the device fails.
    pub fn set_noise(&self, sigma: f64, seed: u64, draws: &[u32]) -> Result<()> {
        for (copy, &draw) in draws.iter().enumerate() {
            let rates = Rates { sigma, seed, draw, ..Rates::default() };
            self.hyper.write_words(&self.gpu, copy, "hyper", &rates.words())?;
        }
        Ok(())
    }

    /// Sets running statistics to mean 0 and variance 1.
    ///
    /// # Errors
    /// If the device fails.
    pub fn reset_statistics(&self) -> Result<()> {
        for store in self.running.iter().flatten() {
            upload(&self.gpu, store, 0, &crate::nn::tensors::fresh(store.contents(), 0))?;
        }
        Ok(())
    }

    /// Running statistics of all networks.
    ///
    /// # Errors
    /// If the device fails, or none move.
    pub fn statistics_wait(&self) -> Result<Vec<Named>> {
        let stores = self.running.as_ref().ok_or_else(|| Error::invalid("statistics", "this pass moves none"))?;
        let copies: Vec<_> = stores.iter().map(|store| (store, 0)).collect();
        crate::nn::tensors::download_all_wait(&self.gpu, &copies)
    }

    /// Runs a batch (`x`: `N, C, H, W`; `y`) through all networks and returns what each left.
    ///
    /// # Errors
    /// If the batch does not fit or the device fails.
    pub fn run_wait(&self, batch: &Named) -> Result<Vec<Left>> {
        self.run_each_wait(std::slice::from_ref(batch))
    }

    /// The same with as many batches as there is room for.
    ///
    /// # Errors
    /// If a batch does not fit or the device fails.
    pub fn run_each_wait(&self, batches: &[Named]) -> Result<Vec<Left>> {
        for (copy, batch) in batches.iter().enumerate() {
            let mut named = batch.clone();
            for name in [ONES, SCALE] {
                if let Some(entry) = self.batch.contents().entries.get(name) {
                    let ones = || Values { dims: entry.info.dims.clone(), data: vec![1.0; entry.shape.len()] };
                    named.entry(name.into()).or_insert_with(ones);
                }
            }
            upload(&self.gpu, &self.batch, copy, &named)?;
        }
        let mut recorder = self.gpu.record();
        self.plan.record(&mut recorder);
        // As few pieces as may be, since each costs a buffer.
        let limit = self.gpu.report().limits.slab_bytes as usize / 4;
        let (mut pieces, mut length, mut all) = (vec![vec![]], 0, vec![]);
        for (network, look) in self.looks.iter().enumerate() {
            let mut parts = Parts::default();
            for (name, tensor) in &look.reads {
                let (slab, offset, shape) = self.plan.place(network, *tensor)?;
                let values = shape.vec4s() * 4;
                if length > 0 && length + values > limit {
                    pieces.push(vec![]);
                    length = 0;
                }
                let block = pieces.len() - 1;
                pieces[block].push((slab, offset * 16, values as u64 * 4));
                parts.add(name, shape, block, length);
                length += values;
            }
            all.push(parts);
        }
        let blocks = pieces.iter().map(|piece| recorder.read_all(piece)).collect::<Result<Vec<_>>>()?;
        recorder.submit();
        self.gpu.check("scoring")?;
        let blocks = blocks.into_iter().map(|block| Ok(Box::new(block.wait_mapped()?) as Block));
        let blocks = Arc::new(blocks.collect::<Result<Vec<_>>>()?);
        Ok(all.into_iter().map(|parts| Left::new(blocks.clone(), parts)).collect())
    }
}
