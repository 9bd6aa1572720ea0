//! Checks for a user's own adapter: kernels and gradients against the f64 reference, determinism, populations.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::plan::{Instance, Plan};
use crate::graph::{Graph, Role, Statistics, TensorId, hyper};
use crate::kernels::Preset;
use crate::nn::Model;
use crate::nn::nas_bench_201::{Network, Supernet};
use crate::nn::tensors::{Named, fresh, to_logical};
use crate::philox::Stream;
use crate::reference;
use crate::space::nas_bench_201::{Cell, Macro};
use crate::train::step::{Optimizer, Rates, StepOptions, Update, build};
use crate::train::stores::Stores;

/// One check and how it went.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// The figure that decided, or the error.
    pub detail: String,
}

/// A network with weights and a batch, ready to run.
struct Case {
    graph: Arc<Graph>,
    outputs: Vec<(String, TensorId)>,
    stores: Stores,
    weights: Named,
    batch: Named,
    rates: Rates,
}

const SIZES: Macro = Macro { channels: 5, cells: 1, in_channels: 3, height: 8, width: 12, classes: 7 };
const BATCH: usize = 6;
const ARCHS: [&str; 3] = [
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|",
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
];

impl Case {
    fn new(
        gpu: &Gpu,
        model: &dyn Model,
        update: Option<Update>,
        statistics: Statistics,
        copies: usize,
    ) -> Result<Self> {
        let gradients = statistics != Statistics::Running;
        let options = StepOptions { batch: BATCH, statistics, smoothing: 0.1, update, gradients };
        let mut step = build(model, &options)?;
        step.probe_all();
        let mut outputs = vec![("logits".to_owned(), step.logits), ("loss".to_owned(), step.mean)];
        outputs.extend(step.gradients.iter().map(|(n, t)| (format!("gradient of {n}"), *t)));
        let graph = Arc::new(step.graph);
        outputs.extend(graph.persistent(Role::Running).map(|(id, p)| (p.name.clone(), id)));
        if update.is_some() {
            outputs.extend(graph.persistent(Role::Weights).map(|(id, p)| (p.name.clone(), id)));
        }
        let stores = Stores::new(gpu, &graph, copies)?;
        let mut weights = Named::new();
        for group in [Role::Weights, Role::Running] {
            weights.extend(fresh(stores.of(group)?.contents(), 7));
        }
        // Scales, shifts and statistics away from their neutral values, so that mistakes show.
        let mut draw = Stream::new(11, 1, 0);
        for (name, values) in weights.iter_mut().filter(|(_, v)| v.dims.len() == 1) {
            let around = if name.ends_with("var") || name.ends_with("weight") { 1.0 } else { 0.0 };
            values.data.iter_mut().for_each(|v| *v = (around + 0.4 * (draw.uniform() - 0.5)) as f32);
        }
        let mut batch = fresh(stores.of(Role::Batch)?.contents(), 7);
        for (name, values) in &mut batch {
            let classes = model.classes() as u64;
            let mut value = || if name == "y" { draw.below(classes) as f32 } else { draw.normal() as f32 };
            values.data.iter_mut().for_each(|v| *v = value());
        }
        let rates = Rates {
            rate: 0.1,
            momentum: 0.9,
            decay: 5e-4,
            statistics_momentum: 0.1,
            rho: 0.05,
            clip: 1.0,
            ..Rates::default()
        };
        for copy in 0..copies {
            stores.load(copy, &weights)?;
            stores.set_batch(copy, &batch["x"], &batch["y"], model.classes())?;
            stores.set_rates(copy, &rates)?;
        }
        Ok(Case { graph, outputs, stores, weights, batch, rates })
    }

    /// Outputs of every instance after one run.
    fn run(&self, gpu: &Gpu, preset: Preset, paths: &[Vec<u8>]) -> Result<Vec<Vec<Vec<f32>>>> {
        let instance = |(copy, path): (usize, &Vec<u8>)| Instance {
            graph: self.graph.clone(),
            bindings: self.stores.bindings(copy),
            path: path.clone(),
        };
        let plan = Plan::compile(gpu, paths.iter().enumerate().map(instance).collect(), preset)?;
        plan.submit();
        gpu.wait()?;
        let wanted = |copy: usize| self.outputs.iter().map(|(_, t)| (copy, *t)).collect::<Vec<_>>();
        (0..paths.len()).map(|copy| plan.read_all_wait(&wanted(copy))).collect()
    }

    /// The same in f64 on the processor.
    fn reference(&self, path: &[u8]) -> Result<Vec<Vec<f64>>> {
        let mut memory = reference::Memory::new(&self.graph);
        for id in self.graph.ids() {
            let tensor = self.graph.tensor(id);
            let Some(info) = &tensor.persistent else { continue };
            let given = match info.role {
                Role::Weights | Role::Running => self.weights.get(&info.name),
                Role::Batch => self.batch.get(&info.name),
                _ => None,
            };
            let values: Vec<f64> = match (given, info.role) {
                (Some(values), _) => to_logical(tensor.shape, &values.data).into_iter().map(f64::from).collect(),
                (None, Role::Hyper) => {
                    let words = self.rates.words();
                    let value = |i: usize| {
                        if i >= hyper::SEED_LOW { f64::from(words[i]) } else { f64::from(f32::from_bits(words[i])) }
                    };
                    (0..words.len()).map(value).collect()
                }
                _ => continue,
            };
            memory.set(id, values)?;
        }
        reference::run(&self.graph, path, &mut memory)?;
        Ok(self.outputs.iter().map(|(_, t)| memory.get(*t).to_vec()).collect())
    }
}

/// Largest distance of a tensor from the reference, relative to its norm (or, for tensors that are next to nothing, to
/// the largest norm).
fn worst(got: &[Vec<f32>], want: &[Vec<f64>]) -> f64 {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let floor = want.iter().map(|v| norm(v)).fold(0.0, f64::max) * 1e-4;
    let distance = |(g, w): (&Vec<f32>, &Vec<f64>)| {
        let sum: f64 = g.iter().zip(w).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
        sum.sqrt() / norm(w).max(floor).max(1e-30)
    };
    got.iter().zip(want).map(distance).fold(0.0, f64::max)
}

/// Runs all checks. Rounding at a rectifier's kink may move single gradients by 1e-4, so the bound is 1e-3.
pub fn run(gpu: &Gpu, preset: Preset) -> Vec<Check> {
    let mut checks = vec![];
    let mut note = |name: String, result: Result<(bool, String)>| {
        let (passed, detail) = result.unwrap_or_else(|error| (false, error.to_string()));
        checks.push(Check { name, passed, detail });
    };
    let batch = Statistics::Batch { update: true };
    let with = |optimizer| Some(Update { optimizer, nesterov: true, clip: true, ..Update::default() });
    let compare = |model: &dyn Model, update, statistics, path: &[u8]| -> Result<(bool, String)> {
        let case = Case::new(gpu, model, update, statistics, 1)?;
        let got = case.run(gpu, preset, &[path.to_vec()])?;
        let error = worst(&got[0], &case.reference(path)?);
        Ok((error < 1e-3, format!("relative distance from f64 {error:.1e}")))
    };
    for (number, text) in ARCHS.iter().enumerate() {
        let Ok(arch) = text.parse::<Cell>() else { continue };
        let model = Network::new(arch, SIZES);
        note(format!("network {number}, evaluation"), compare(&model, None, Statistics::Running, &[]));
        note(format!("network {number}, gradients"), compare(&model, None, batch, &[]));
        for optimizer in [Optimizer::Sgd, Optimizer::Sam, Optimizer::Asam] {
            note(format!("network {number}, {optimizer:?} step"), compare(&model, with(optimizer), batch, &[]));
        }
        let supernet = Supernet { sizes: SIZES };
        note(
            format!("supernet on path {number}"),
            compare(&supernet, with(Optimizer::Sgd), batch, &Supernet::path(&arch)),
        );
    }
    let paths: Vec<Vec<u8>> = ARCHS.iter().filter_map(|a| a.parse::<Cell>().ok()).map(|a| Supernet::path(&a)).collect();
    let supernet = Supernet { sizes: SIZES };
    let alike = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.iter().flatten().map(|v| v.to_bits()).eq(b.iter().flatten().map(|v| v.to_bits()))
    };
    note(
        "two runs give the same bits".into(),
        (|| {
            let once = Case::new(gpu, &supernet, with(Optimizer::Sam), batch, 1)?.run(gpu, preset, &paths[..1])?;
            let again = Case::new(gpu, &supernet, with(Optimizer::Sam), batch, 1)?.run(gpu, preset, &paths[..1])?;
            Ok((alike(&once[0], &again[0]), String::new()))
        })(),
    );
    note(
        "a population gives the bits of single runs".into(),
        (|| {
            let all = Case::new(gpu, &supernet, with(Optimizer::Sgd), batch, paths.len())?.run(gpu, preset, &paths)?;
            let mut same = 0;
            for (path, together) in paths.iter().zip(&all) {
                let alone = Case::new(gpu, &supernet, with(Optimizer::Sgd), batch, 1)?.run(
                    gpu,
                    preset,
                    std::slice::from_ref(path),
                )?;
                same += usize::from(alike(&alone[0], together));
            }
            Ok((same == paths.len(), format!("{same} of {} networks", paths.len())))
        })(),
    );
    checks
}
