//! Items: works on a device, compiled, with check values that every peer must agree on.

use std::time::Instant;

use super::timed;
use super::work::{Check, Inputs, Work};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::Role;
use crate::graph::plan::{Bindings, Instance, Plan};
use crate::kernels::Preset;
use crate::nn::tensors::{Named, fresh};
use crate::train::stores::Stores;

pub use super::work::{RESNET, SUPERNET, names};

/// A compiled item.
pub struct Item {
    gpu: Gpu,
    plan: Plan,
    alone: bool,
    /// Images per run.
    pub batch: usize,
    /// Values that every peer must agree on.
    pub check: Vec<f64>,
    /// Milliseconds to plan and compile, without what drivers leave to the first run.
    pub compile_ms: f64,
    /// When the first run was done; check values may take more.
    pub first_run: Instant,
}

impl Item {
    /// Compiles an item and computes its check values.
    ///
    /// # Errors
    /// If there is none of this name, or the device fails.
    pub fn build(gpu: &Gpu, preset: Preset, name: &str) -> Result<Self> {
        let Work { graph, path, batch, alone, inputs, seen, check } = Work::named(name)?;
        let bindings = match &inputs {
            Inputs::Network(_) => Some(Stores::new(gpu, &graph, 1)?),
            Inputs::Tensors(_) => None,
        };
        if let (Inputs::Network(inputs), Some(stores)) = (&inputs, &bindings) {
            let mut named = Named::new();
            for group in [Role::Weights, Role::Running] {
                named.extend(fresh(stores.of(group)?.contents(), 0));
            }
            named.extend(inputs.weights.iter().cloned());
            stores.load(0, &named)?;
            stores.set_batch(0, &inputs.images, &inputs.labels, inputs.classes)?;
            stores.set_rates(0, &inputs.rates)?;
        }
        let bindings = bindings.map_or_else(Bindings::default, |stores| stores.bindings(0));
        let start = Instant::now();
        let plan = Plan::compile(gpu, vec![Instance { graph, bindings, path }], preset)?;
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        if let Inputs::Tensors(tensors) = &inputs {
            for (tensor, values) in tensors {
                plan.write(0, *tensor, values)?;
            }
        }
        let (runs, losses) = match check {
            Check::Losses(runs) => (runs, true),
            Check::Magnitudes => (1, false),
        };
        let mut values = vec![];
        let mut first_run = None;
        for _ in 0..runs {
            plan.submit();
            for &tensor in &seen {
                let read = plan.read_wait(0, tensor)?;
                first_run.get_or_insert_with(Instant::now);
                values.push(if losses { read.first().map_or(f64::NAN, |v| f64::from(*v)) } else { mean_abs(&read) });
            }
        }
        let first_run = first_run.unwrap_or_else(Instant::now);
        Ok(Item { gpu: gpu.clone(), plan, alone, batch, check: values, compile_ms, first_run })
    }

    /// Submits one run; waits for it only if the item is a latency.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&self) -> Result<()> {
        self.plan.submit();
        if self.alone { self.gpu.wait() } else { Ok(()) }
    }

    /// Seconds of `repetitions` runs.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&self, repetitions: usize) -> Result<f64> {
        timed(&self.gpu, repetitions, &mut || self.run())
    }

    /// The compiled work.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn mean_abs(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len() as f64
}
