//! Weight noise: perturbed copies of all weights, made on the device.
//!
//! A draw is a copy of the store. Its numbers are keyed by seed, tensor and draw, so every candidate of a search sees the
//! same noise, and a draw can be made again.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::plan::{Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Builder, Graph, Init, NORMALS, Noise, Op, Role, hyper};
use crate::kernels::Preset;
use crate::nn::tensors::name_key;
use crate::philox::NORMAL_TABLE;
use crate::train::step::Rates;

/// Makes perturbed copies of the weights of one network or several.
pub struct Perturbation {
    gpu: Gpu,
    graphs: Vec<Arc<Graph>>,
    plan: Plan,
    /// Network by network, draw by draw.
    copies: Vec<Store>,
    draws: usize,
    hyper: Store,
}

/// Number of the stream that a tensor's noise comes from.
pub fn stream_of(name: &str) -> u32 {
    let key = name_key(name);
    (key ^ key >> 32) as u32
}

impl Perturbation {
    /// Room for `draws` perturbed copies of each source, a store and the number of a copy in it. A tensor that several
    /// networks have gets the same noise in all of them.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(gpu: &Gpu, preset: Preset, sources: &[(Store, usize)], draws: usize, noise: Noise) -> Result<Self> {
        let mut graphs = vec![];
        for source in sources {
            let mut b = Builder::new();
            let rates = b.persistent(Role::Hyper, "hyper", hyper::SHAPE, Init::Constant(0.0), &[12])?;
            let table = b.persistent(Role::Hyper, "normals", NORMALS, Init::Constant(0.0), &[NORMALS.len()])?;
            for (name, entry) in &source.0.contents().entries {
                let dims = &entry.info.dims;
                let w = b.persistent(Role::Source, name, entry.shape, entry.info.init, dims)?;
                let y = b.persistent(Role::Weights, name, entry.shape, entry.info.init, dims)?;
                b.push(Op::Perturb { w, y, hyper: rates, table, stream: stream_of(name), noise });
            }
            graphs.push(Arc::new(b.finish()));
        }
        let mut contents = vec![];
        for graph in &graphs {
            contents.extend(vec![Contents::of(graph, &[Role::Weights])?; draws]);
        }
        let copies = Store::packed(gpu, contents, "perturbed weights")?;
        let each: Vec<_> = sources.iter().flat_map(|source| vec![source.clone(); draws]).collect();
        Self::between(gpu, preset, graphs, &each, copies)
    }

    /// The same, but each copy gets noise on top of what it has.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn onto_itself(&self, preset: Preset) -> Result<Self> {
        let sources: Vec<_> = self.copies.iter().map(|copy| (copy.clone(), 0)).collect();
        Self::between(&self.gpu, preset, self.graphs.clone(), &sources, self.copies.clone())
    }

    fn between(
        gpu: &Gpu,
        preset: Preset,
        graphs: Vec<Arc<Graph>>,
        sources: &[(Store, usize)],
        copies: Vec<Store>,
    ) -> Result<Self> {
        let draws = copies.len() / graphs.len().max(1);
        let first = graphs.first().ok_or_else(|| Error::invalid("weight noise", "there is no network"))?;
        let hyper = Store::new(gpu, Contents::of(first, &[Role::Hyper])?, draws, "rates")?;
        for draw in 0..draws {
            hyper.write_words(gpu, draw, "normals", NORMAL_TABLE.as_flattened())?;
        }
        let instance = |(number, (copy, source)): (usize, (&Store, &(Store, usize)))| Instance {
            graph: graphs[number / draws].clone(),
            bindings: [
                (Role::Source, source.clone()),
                (Role::Weights, (copy.clone(), 0)),
                (Role::Hyper, (hyper.clone(), number % draws)),
            ]
            .into(),
            path: vec![],
        };
        let plan = Plan::compile(gpu, copies.iter().zip(sources).enumerate().map(instance).collect(), preset)?;
        Ok(Perturbation { gpu: gpu.clone(), graphs, plan, copies, draws, hyper })
    }

    /// Draws of each network.
    pub fn draws(&self) -> usize {
        self.draws
    }

    /// A perturbed copy: the store, and its number in it.
    pub fn copy(&self, network: usize, draw: usize) -> (Store, usize) {
        (self.copies[network * self.draws + draw].clone(), 0)
    }

    /// Makes all draws anew with deviation `sigma`; does not wait. Draw `k` uses number `first + k` of `seed`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn submit(&self, seed: u64, first: u32, sigma: f64) -> Result<()> {
        for draw in 0..self.draws {
            let rates = Rates { sigma, seed, draw: first + draw as u32, ..Rates::default() };
            self.hyper.write_words(&self.gpu, draw, "hyper", &rates.words())?;
        }
        self.plan.submit();
        self.gpu.check("perturbing weights")
    }
}
