//! Weight noise: perturbed copies of all weights, made on the device.
//!
//! A draw is a copy of the store. Its numbers are keyed by seed, tensor and draw, so every candidate of a search sees the
//! same noise, and a draw can be made again.

use std::sync::Arc;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::plan::{Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Builder, Graph, Group, Init, Noise, Op, hyper};
use crate::kernels::Preset;
use crate::train::step::Rates;

/// Makes perturbed copies of one network's weights.
pub struct Perturbation {
    gpu: Gpu,
    graph: Arc<Graph>,
    plan: Plan,
    copies: Store,
    hyper: Store,
}

impl Perturbation {
    /// Room for `draws` perturbed copies of copy `source.1` of `source.0`.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(gpu: &Gpu, preset: Preset, source: (Store, usize), draws: usize, noise: Noise) -> Result<Self> {
        let mut b = Builder::new();
        let rates = b.persistent(Group::Hyper, "hyper", hyper::SHAPE, Init::Constant(0.0), &[12])?;
        for (number, (name, entry)) in source.0.contents().entries.iter().enumerate() {
            let dims = &entry.info.dims;
            let w = b.persistent(Group::Source, name, entry.shape, entry.info.init, dims)?;
            let y = b.persistent(Group::Weights, name, entry.shape, entry.info.init, dims)?;
            b.push(Op::Perturb { w, y, hyper: rates, stream: number as u32, noise });
        }
        let graph = Arc::new(b.finish());
        let copies = Store::new(gpu, Contents::of(&graph, &[Group::Weights])?, draws, "perturbed weights")?;
        Self::between(gpu, preset, &graph, &|_| source.clone(), copies)
    }

    /// The same, but each copy gets noise on top of what it has.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn onto_itself(&self, preset: Preset) -> Result<Self> {
        let copies = self.copies.clone();
        Self::between(&self.gpu, preset, &self.graph, &|draw| (copies.clone(), draw), self.copies.clone())
    }

    fn between(
        gpu: &Gpu,
        preset: Preset,
        graph: &Arc<Graph>,
        source: &dyn Fn(usize) -> (Store, usize),
        copies: Store,
    ) -> Result<Self> {
        let draws = copies.copies();
        let hyper = Store::new(gpu, Contents::of(graph, &[Group::Hyper])?, draws, "rates")?;
        let instance = |draw: usize| Instance {
            graph: graph.clone(),
            bindings: [
                (Group::Source, source(draw)),
                (Group::Weights, (copies.clone(), draw)),
                (Group::Hyper, (hyper.clone(), draw)),
            ]
            .into(),
            path: vec![],
        };
        let plan = Plan::compile(gpu, (0..draws).map(instance).collect(), preset)?;
        Ok(Perturbation { gpu: gpu.clone(), graph: graph.clone(), plan, copies, hyper })
    }

    /// The perturbed copies.
    pub fn store(&self) -> &Store {
        &self.copies
    }

    /// Makes all draws anew with deviation `sigma`; does not wait. Draw `k` uses number `first + k` of `seed`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn submit(&self, seed: u64, first: u32, sigma: f64) -> Result<()> {
        for draw in 0..self.copies.copies() {
            let rates = Rates { sigma, seed, draw: first + draw as u32, ..Rates::default() };
            self.hyper.write_words(&self.gpu, draw, "hyper", &rates.words())?;
        }
        self.plan.submit();
        self.gpu.check("perturbing weights")
    }
}
