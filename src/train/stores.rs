//! The device memory of networks that train or are evaluated side by side.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::plan::Bindings;
use crate::graph::store::{Contents, Store};
use crate::graph::{Graph, Group};
use crate::nn::tensors::{Named, Values, download_wait, upload};

use super::step::Rates;

/// One store per group that a graph uses, each with as many copies as there are networks.
#[derive(Clone)]
pub struct Stores {
    gpu: Gpu,
    stores: BTreeMap<Group, Store>,
}

impl Stores {
    /// Memory for `copies` networks of this graph.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn new(gpu: &Gpu, graph: &Graph, copies: usize) -> Result<Self> {
        let groups = [
            Group::Weights,
            Group::Running,
            Group::Momentum,
            Group::Batch,
            Group::Hyper,
            Group::Metrics,
            Group::Attack,
        ];
        let mut stores = BTreeMap::new();
        for group in groups {
            let contents = Contents::of(graph, &[group])?;
            if !contents.entries.is_empty() {
                stores.insert(group, Store::new(gpu, contents, copies, &format!("{group:?}").to_lowercase())?);
            }
        }
        Ok(Stores { gpu: gpu.clone(), stores })
    }

    /// The same stores, with that of one group replaced.
    pub fn with(mut self, group: Group, store: Store) -> Self {
        self.stores.insert(group, store);
        self
    }

    /// The store of a group.
    ///
    /// # Errors
    /// If the graph does not use the group.
    pub fn group(&self, group: Group) -> Result<&Store> {
        self.stores.get(&group).ok_or_else(|| Error::invalid("plan", format!("the network has no {group:?} tensors")))
    }

    /// Bindings of network `copy`; a store with a single copy serves all.
    pub fn bindings(&self, copy: usize) -> Bindings {
        let bind = |(group, store): (&Group, &Store)| (*group, (store.clone(), copy.min(store.copies() - 1)));
        self.stores.iter().map(bind).collect()
    }

    /// Writes the host's numbers for the next step of network `copy`.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn set_rates(&self, copy: usize, rates: &Rates) -> Result<()> {
        self.group(Group::Hyper)?.write_words(&self.gpu, copy, "hyper", &rates.words())
    }

    /// Writes the numbers of the attack that is part of the next step of network `copy`; see
    /// [`Ball::words`](super::adversarial::Ball::words).
    ///
    /// # Errors
    /// If there is no such network, or no attack in its step.
    pub fn set_attack(&self, copy: usize, words: &[u32]) -> Result<()> {
        self.group(Group::Attack)?.write_words(&self.gpu, copy, "settings", words)
    }

    /// Writes weights and running statistics of network `copy`; `named` may hold other tensors besides.
    ///
    /// # Errors
    /// If one is missing, has other axes, or is not finite.
    pub fn load(&self, copy: usize, named: &Named) -> Result<()> {
        for group in [Group::Weights, Group::Running] {
            if let Some(store) = self.stores.get(&group) {
                upload(&self.gpu, store, copy, named)?;
            }
        }
        Ok(())
    }

    /// Fills the momentum of network `copy` with zeros.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn clear_momentum(&self, copy: usize) -> Result<()> {
        match self.stores.get(&Group::Momentum) {
            Some(store) => store.write(&self.gpu, copy, &vec![0.0; store.contents().vec4s as usize * 4]),
            None => Ok(()),
        }
    }

    /// Reads weights and running statistics of network `copy`, waiting for them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn save_wait(&self, copy: usize) -> Result<Named> {
        let mut named = Named::new();
        for group in [Group::Weights, Group::Running] {
            if let Some(store) = self.stores.get(&group) {
                named.extend(download_wait(&self.gpu, store, copy)?);
            }
        }
        Ok(named)
    }

    /// Writes images (PyTorch's order, normalised) and labels of the batch of network `copy`.
    ///
    /// # Errors
    /// If shapes do not fit or a label is outside the classes.
    pub fn set_batch(&self, copy: usize, images: &Values, labels: &Values, classes: usize) -> Result<()> {
        if let Some(i) = labels.data.iter().position(|&l| !(0.0..classes as f32).contains(&l) || l.fract() != 0.0) {
            return Err(Error::invalid(
                "y",
                format!("label {} of image {i} is not one of the {classes} classes", labels.data[i]),
            ));
        }
        let named = Named::from([("x".to_owned(), images.clone()), ("y".to_owned(), labels.clone())]);
        upload(&self.gpu, self.group(Group::Batch)?, copy, &named)
    }

    /// Reads and clears the metrics of all networks, waiting for them: sum of losses, hits, images, wild batches.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take_metrics_wait(&self) -> Result<Vec<[f32; 4]>> {
        let store = self.group(Group::Metrics)?;
        let mut recorder = self.gpu.record();
        let mut reads = vec![];
        for copy in 0..store.copies() {
            let (slab, offset) = store.place(copy, "metrics")?;
            reads.push(recorder.read(&slab, offset * 16, 16)?);
        }
        recorder.submit();
        let mut all = vec![];
        for (copy, read) in reads.into_iter().enumerate() {
            let values = read.wait_f32()?;
            all.push([values[0], values[1], values[2], values[3]]);
            store.write(&self.gpu, copy, &[0.0; 4])?;
        }
        Ok(all)
    }
}
