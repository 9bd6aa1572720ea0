//! The device memory of networks that train or are evaluated side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::plan::Bindings;
use crate::graph::store::{Contents, Store};
use crate::graph::{Graph, Role};
use crate::nn::tensors::{Named, Values, download_all_wait, upload};

use super::step::Rates;

/// What a network keeps in memory.
const ROLES: [Role; 6] = [Role::Weights, Role::Running, Role::Momentum, Role::Batch, Role::Hyper, Role::Metrics];

/// One store per role that a graph uses, each with as many copies as there are networks.
#[derive(Clone)]
pub struct Stores {
    gpu: Gpu,
    stores: BTreeMap<Role, Store>,
}

impl Stores {
    /// Memory for `copies` networks of this graph.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn new(gpu: &Gpu, graph: &Graph, copies: usize) -> Result<Self> {
        let mut stores = BTreeMap::new();
        for role in ROLES {
            let contents = Contents::of(graph, &[role])?;
            if !contents.entries.is_empty() {
                stores.insert(role, Store::new(gpu, contents, copies, &format!("{role:?}").to_lowercase())?);
            }
        }
        Ok(Stores { gpu: gpu.clone(), stores })
    }

    /// Memory for one network of each graph, side by side, so that different networks share dispatches; none for the roles
    /// `given`, which the caller has stores for.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn packed(gpu: &Gpu, graphs: &[Arc<Graph>], given: &[Role]) -> Result<Vec<Self>> {
        let mut all = vec![Stores { gpu: gpu.clone(), stores: BTreeMap::new() }; graphs.len()];
        for role in ROLES.into_iter().filter(|role| !given.contains(role)) {
            let contents = graphs.iter().map(|graph| Contents::of(graph, &[role])).collect::<Result<Vec<_>>>()?;
            let empty: Vec<bool> = contents.iter().map(|c| c.entries.is_empty()).collect();
            if empty.iter().all(|&empty| empty) {
                continue;
            }
            let packed = Store::packed(gpu, contents, &format!("{role:?}").to_lowercase())?;
            for ((own, store), _) in all.iter_mut().zip(packed).zip(empty).filter(|(_, empty)| !empty) {
                own.stores.insert(role, store);
            }
        }
        Ok(all)
    }

    /// The same stores, with that of one role added or replaced.
    pub fn with(mut self, role: Role, store: Store) -> Self {
        self.stores.insert(role, store);
        self
    }

    /// The stores of some roles alone; the memory of the others is given back when nothing else holds them.
    pub fn only(mut self, roles: &[Role]) -> Self {
        self.stores.retain(|role, _| roles.contains(role));
        self
    }

    /// The store of a role.
    ///
    /// # Errors
    /// If the graph does not use the role.
    pub fn of(&self, role: Role) -> Result<&Store> {
        self.stores.get(&role).ok_or_else(|| Error::invalid("plan", format!("the network has no {role:?} tensors")))
    }

    /// Bindings of network `copy`; a store with a single copy serves all.
    pub fn bindings(&self, copy: usize) -> Bindings {
        let bind = |(role, store): (&Role, &Store)| (*role, (store.clone(), copy.min(store.copies() - 1)));
        self.stores.iter().map(bind).collect()
    }

    /// Writes the host's numbers for the next step of network `copy`.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn set_rates(&self, copy: usize, rates: &Rates) -> Result<()> {
        self.of(Role::Hyper)?.write_words(&self.gpu, copy, "hyper", &rates.words())
    }

    /// Writes the numbers of the attack that is part of the next step of network `copy`; see
    /// [`Ball::words`](super::adversarial::Ball::words).
    ///
    /// # Errors
    /// If there is no such network, or no attack in its step.
    pub fn set_attack(&self, copy: usize, words: &[u32]) -> Result<()> {
        self.of(Role::Hyper)?.write_words(&self.gpu, copy, "settings", words)
    }

    /// Writes weights and running statistics of network `copy`; `named` may hold other tensors besides.
    ///
    /// # Errors
    /// If one is missing, has other axes, or is not finite.
    pub fn load(&self, copy: usize, named: &Named) -> Result<()> {
        for role in [Role::Weights, Role::Running] {
            if let Some(store) = self.stores.get(&role) {
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
        match self.stores.get(&Role::Momentum) {
            Some(store) => store.write(&self.gpu, copy, &vec![0.0; store.contents().vec4s as usize * 4]),
            None => Ok(()),
        }
    }

    /// Reads weights and running statistics of network `copy`, waiting for them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn save_wait(&self, copy: usize) -> Result<Named> {
        let stores = [Role::Weights, Role::Running].into_iter().filter_map(|role| self.stores.get(&role));
        let parts: Vec<_> = stores.map(|store| (store, copy)).collect();
        Ok(download_all_wait(&self.gpu, &parts)?.into_iter().flatten().collect())
    }

    /// Weights and running statistics of the first network as they lie in memory, waiting for them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn values_wait(&self) -> Result<Vec<f32>> {
        let parts = self.learned().map(|store| store.part(0)).collect::<Result<Vec<_>>>()?;
        Ok(self.gpu.read_wait(&parts)?.concat())
    }

    /// Puts such values back.
    ///
    /// # Errors
    /// If they are not as many.
    pub fn put_values(&self, values: &[f32]) -> Result<()> {
        let mut rest = values;
        for store in self.learned() {
            let length = store.contents().vec4s as usize * 4;
            let own = rest.split_at_checked(length);
            let (own, more) = own.ok_or_else(|| Error::shape("values of a network", length, rest.len()))?;
            store.write(&self.gpu, 0, own)?;
            rest = more;
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::shape("values of a network", "no more", rest.len())) }
    }

    fn learned(&self) -> impl Iterator<Item = &Store> {
        [Role::Weights, Role::Running].into_iter().filter_map(|role| self.stores.get(&role))
    }

    /// Writes images (PyTorch's order, normalised) and labels of the batch of network `copy`.
    ///
    /// # Errors
    /// If shapes do not fit or a label is outside the classes.
    pub fn set_batch(&self, copy: usize, images: &Values, labels: &Values, classes: usize) -> Result<()> {
        let named = Named::from([("x".to_owned(), images.clone()), ("y".to_owned(), labels.clone())]);
        self.set_batch_of(copy, &named, classes)
    }

    /// The same by name, where paths see images at several sizes; `named` may hold other tensors besides.
    ///
    /// # Errors
    /// As [`Stores::set_batch`], or if one is missing.
    pub fn set_batch_of(&self, copy: usize, named: &Named, classes: usize) -> Result<()> {
        let labels = named.get("y").ok_or_else(|| Error::invalid("batch tensor y", "is missing"))?;
        if let Some(i) = labels.data.iter().position(|&l| !(0.0..classes as f32).contains(&l) || l.fract() != 0.0) {
            return Err(Error::invalid(
                "y",
                format!("label {} of image {i} is not one of the {classes} classes", labels.data[i]),
            ));
        }
        upload(&self.gpu, self.of(Role::Batch)?, copy, named)
    }

    /// Reads and clears the metrics of all networks, waiting for them: sum of losses, hits, images, wild batches.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take_metrics_wait(&self) -> Result<Vec<[f32; 4]>> {
        Self::take_all_metrics_wait(std::slice::from_ref(self))
    }

    /// The same of several stores, read together.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take_all_metrics_wait(all: &[Stores]) -> Result<Vec<[f32; 4]>> {
        let Some(first) = all.first() else { return Ok(vec![]) };
        let stores = all.iter().map(|stores| stores.of(Role::Metrics)).collect::<Result<Vec<_>>>()?;
        let parts: Vec<_> = stores.into_iter().flat_map(Store::parts).collect();
        let mut recorder = first.gpu.record();
        let read = recorder.read_all(&parts)?;
        recorder.clear(&parts)?;
        recorder.submit();
        Ok(read.wait_f32()?.as_chunks().0.to_vec())
    }
}
