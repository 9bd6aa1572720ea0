//! One step on given tensors: what `altiplano step` does, to compare with another framework.

use std::sync::Arc;

use super::step::{Rates, StepOptions, build};
use super::stores::Stores;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::Role;
use crate::graph::plan::{Instance, Plan};
use crate::kernels::Preset;
use crate::nn::Model;
use crate::nn::tensors::{Named, Values, download_wait, to_torch};

/// What a step gave.
#[derive(Debug)]
pub struct Outcome {
    /// `logits`, `loss`, `grad.<name>`, `state.<name>`, `param.<name>`, and with SAM `ascended.<name>`.
    pub tensors: Named,
    /// Mean loss of the batch.
    pub loss: f32,
    /// Share of right answers.
    pub accuracy: f32,
    /// Seconds from submission to the end, a second run after the pipelines are warm not being taken.
    pub seconds: f64,
}

/// Runs one step of `model` on `weights` (with running statistics) and `batch` (`x` normalised `N, C, H, W`; `y`).
///
/// # Errors
/// If tensors are missing, do not fit, or are not finite, or the device fails.
pub fn run(
    gpu: &Gpu,
    preset: Preset,
    model: &dyn Model,
    options: &StepOptions,
    rates: &Rates,
    weights: &Named,
    batch: &Named,
) -> Result<Outcome> {
    run_path(gpu, preset, (model, &[]), options, rates, weights, batch)
}

/// The same of a supernet's path; the first option of each choice if it is empty.
///
/// # Errors
/// As [`run`].
pub fn run_path(
    gpu: &Gpu,
    preset: Preset,
    (model, path): (&dyn Model, &[u8]),
    options: &StepOptions,
    rates: &Rates,
    weights: &Named,
    batch: &Named,
) -> Result<Outcome> {
    if let Some(missing) = ["x", "y"].into_iter().find(|name| !batch.contains_key(*name)) {
        return Err(Error::invalid(format!("batch tensor {missing}"), "is missing"));
    }
    let mut step = build(model, options)?;
    step.probe_all();
    let graph = Arc::new(step.graph.clone());
    let stores = Stores::new(gpu, &graph, 1)?;
    stores.load(0, weights)?;
    stores.set_batch_of(0, batch, model.classes())?;
    stores.set_rates(0, rates)?;
    let path = if path.is_empty() { vec![0; graph.choices.len()] } else { path.to_vec() };
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path };
    let plan = Plan::compile(gpu, vec![instance], preset)?;
    let start = std::time::Instant::now();
    plan.submit();
    gpu.wait()?;
    let seconds = start.elapsed().as_secs_f64();

    let gradients = step.gradients.iter().map(|(name, tensor)| ("grad", name, *tensor));
    let ascended = step.ascended.iter().map(|(name, tensor)| ("ascended", name, *tensor));
    let wanted: Vec<_> = gradients.chain(ascended).collect();
    let all = [step.mean, step.logits].into_iter().chain(wanted.iter().map(|(.., tensor)| *tensor));
    let mut values = plan.read_all_wait(&all.map(|tensor| (0, tensor)).collect::<Vec<_>>())?.into_iter();
    let mut next = |tensor| to_torch(graph.shape(tensor), &values.next().unwrap_or_default());
    let mean = next(step.mean);
    let mut tensors = Named::new();
    let logits = Values { dims: vec![options.batch, model.classes()], data: next(step.logits) };
    tensors.insert("logits".into(), logits);
    tensors.insert("loss".into(), Values { dims: vec![], data: vec![mean[0]] });
    for (prefix, name, tensor) in wanted {
        let data = next(tensor);
        let dims = weights.get(name).map_or_else(|| vec![data.len()], |weight| weight.dims.clone());
        tensors.insert(format!("{prefix}.{name}"), Values { dims, data });
    }
    let mut after = |role: Role, prefix: &str| -> Result<()> {
        for (name, values) in download_wait(gpu, stores.of(role)?, 0)? {
            tensors.insert(format!("{prefix}.{name}"), values);
        }
        Ok(())
    };
    after(Role::Running, "state")?;
    if options.update.is_some() {
        after(Role::Weights, "param")?;
    }
    Ok(Outcome { tensors, loss: mean[0], accuracy: mean[1], seconds })
}
