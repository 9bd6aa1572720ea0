//! Networks of NAS-Bench-201 against the authors' own PyTorch code: logits, loss, running statistics, gradients, and one
//! step of SGD, SAM and ASAM.

mod common;

use std::path::Path;
use std::sync::Arc;

use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::{Group, Op, Statistics, TensorId, TermKind};
use altiplano::nn::nas_bench_201::Network;
use altiplano::nn::tensors::{Named, Values, load, to_logical, to_torch};
use altiplano::reference::{self, Memory};
use altiplano::space::nas_bench_201::{Arch, Macro};
use altiplano::train::single::{Outcome, run};
use altiplano::train::step::{Optimizer, Rates, StepOptions, Update, build};
use altiplano::train::stores::Stores;
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// Relative distance of two tensors by their norms.
fn relative(got: &[f32], want: &[f32]) -> f64 {
    distance(got, want) / norm(want).max(1e-30)
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    let error = relative(got, want);
    assert!(error <= tolerance, "{what}: relative distance {error:.2e} > {tolerance:.0e}");
}

/// A case as our own network, with its step and its numbers.
struct Case {
    model: Network,
    options: StepOptions,
    rates: Rates,
    weights: Named,
    batch: Named,
}

fn read(case: &Path, statistics: Statistics, optimizer: Option<Optimizer>) -> Case {
    let info = json(&case.join("case.json"));
    let arch: Arch = info["arch"].as_str().unwrap().parse().unwrap();
    let (weights, _) = load(&case.join("weights.safetensors")).unwrap();
    let (batch, _) = load(&case.join("batch.safetensors")).unwrap();
    let dims = &batch["x"].dims;
    let size = |name: &str| info[name].as_u64().unwrap() as usize;
    let sizes = Macro {
        channels: size("C"),
        cells: size("N"),
        in_channels: dims[1],
        height: dims[2],
        width: dims[3],
        classes: size("num_classes"),
    };
    let options = StepOptions {
        batch: dims[0],
        statistics,
        smoothing: 0.0,
        update: optimizer.map(|optimizer| Update { optimizer, ..Update::default() }),
        gradients: statistics != Statistics::Running,
    };
    let o = &info["optimiser"];
    let rho = match optimizer {
        Some(Optimizer::Sam) => o["sam_rho"].as_f64().unwrap(),
        Some(Optimizer::Asam) => o["asam_rho"].as_f64().unwrap(),
        _ => 0.0,
    };
    let rates = Rates {
        rate: o["lr"].as_f64().unwrap(),
        momentum: o["momentum"].as_f64().unwrap(),
        decay: o["weight_decay"].as_f64().unwrap(),
        statistics_momentum: 0.1,
        rho,
        ..Rates::default()
    };
    Case { model: Network::new(arch, sizes), options, rates, weights, batch }
}

fn step(case: &Path, statistics: Statistics, optimizer: Option<Optimizer>) -> Outcome {
    let Case { model, options, rates, weights, batch } = read(case, statistics, optimizer);
    run(common::gpu(), common::preset(), &model, &options, &rates, &weights, &batch).unwrap()
}

/// Values that a rectifier saw on the other side of zero than in f64, and the parameters after the step in f64.
///
/// A value within rounding of a kink may fall on either side in any f32 run; one such value moves gradients by 1e-4 and
/// more. Each one found must be as small as rounding: that is what the caller's wider bound rests on.
fn kinks(case: &Path, optimizer: Optimizer) -> (usize, Named) {
    let Case { model, options, rates, weights, batch } = read(case, BATCH, Some(optimizer));
    let mut step = build(&model, &options).unwrap();
    for (number, tensor) in step.graph.tensors.iter_mut().enumerate().filter(|(_, t)| t.persistent.is_none()) {
        tensor.probe = Some(format!("tensor {number}"));
    }
    let graph = Arc::new(step.graph);
    let stores = Stores::new(common::gpu(), &graph, 1).unwrap();
    stores.load(0, &weights).unwrap();
    stores.set_batch(0, &batch["x"], &batch["y"], 10).unwrap();
    stores.set_rates(0, &rates).unwrap();
    let mut memory = Memory::new(&graph);
    for id in graph.ids() {
        let tensor = graph.tensor(id);
        let Some(info) = &tensor.persistent else { continue };
        let values = match info.group {
            Group::Weights | Group::Running => to_logical(tensor.shape, &weights[&info.name].data),
            Group::Batch => to_logical(tensor.shape, &batch[&info.name].data),
            Group::Hyper => rates.words().map(f32::from_bits).to_vec(),
            _ => continue,
        };
        memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
    }
    reference::run(&graph, &[], &mut memory).unwrap();
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
    let plan = Plan::compile(common::gpu(), vec![instance], common::preset()).unwrap();
    plan.submit();
    let mut rectified: Vec<TensorId> = vec![];
    for node in &graph.nodes {
        match &node.op {
            Op::Conv { x, relu: true, .. } => rectified.push(*x),
            Op::Combine { terms, .. } => rectified.extend(terms.iter().filter_map(|term| match term.kind {
                TermKind::Relu => Some(term.a),
                TermKind::Masked { x } => Some(x),
                _ => None,
            })),
            _ => {}
        }
    }
    rectified.sort();
    rectified.dedup();
    let mut found = 0;
    for tensor in rectified {
        let (got, want) = (plan.read_wait(0, tensor).unwrap(), memory.get(tensor));
        let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len() as f64).sqrt();
        for (got, want) in got.iter().zip(want).filter(|(got, want)| (**got > 0.0) != (**want > 0.0)) {
            assert!(want.abs() < 1e-5 * rms, "{want} of deviation {rms} became {got}: that is no rounding");
            found += 1;
        }
    }
    let exact = graph.persistent(Group::Weights).map(|(id, info)| {
        let values: Vec<f32> = memory.get(id).iter().map(|v| *v as f32).collect();
        (info.name.clone(), Values { dims: vec![], data: to_torch(graph.shape(id), &values) })
    });
    (found, exact.collect())
}

const BATCH: Statistics = Statistics::Batch { update: true };

fn tolerance(case: &Path) -> f64 {
    // Five cells per stage amplify rounding at the rectifiers' kinks.
    if json(&case.join("case.json"))["N"].as_u64().unwrap() > 1 { 2e-3 } else { 1e-4 }
}

fn for_each_case(test: impl Fn(&Path)) {
    let cases = common::golden_cases("nb201");
    assert!(cases.len() >= 3);
    for case in cases {
        println!("{}", case.display());
        test(&case);
    }
}

#[test]
fn evaluation() {
    for_each_case(|case| {
        let (forward, _) = load(&case.join("forward.safetensors")).unwrap();
        let outcome = step(case, Statistics::Running, None);
        close("logits", &outcome.tensors["logits"].data, &forward["logits_eval"].data, 1e-4);
        let want = json(&case.join("scalars.json"))["ce_loss_eval"].as_f64().unwrap();
        assert!((f64::from(outcome.loss) / want - 1.0).abs() < 1e-4, "loss {} {want}", outcome.loss);
    });
}

#[test]
fn gradients_and_statistics() {
    for_each_case(|case| {
        let tolerance = tolerance(case);
        let scalars = json(&case.join("scalars.json"));
        let outcome = step(case, BATCH, None);
        let (forward, _) = load(&case.join("forward.safetensors")).unwrap();
        close("logits", &outcome.tensors["logits"].data, &forward["logits_train"].data, 1e-4);
        let want = scalars["ce_loss_train"].as_f64().unwrap();
        assert!((f64::from(outcome.loss) / want - 1.0).abs() < 1e-4, "loss {} {want}", outcome.loss);
        let (states, _) = load(&case.join("bn_after_train_forward.safetensors")).unwrap();
        for (name, want) in states.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
            close(name, &outcome.tensors[&format!("state.{name}")].data, &want.data, 1e-4);
        }
        let (grads, _) = load(&case.join("grads.safetensors")).unwrap();
        let global = grads.values().map(|g| norm(&g.data).powi(2)).sum::<f64>().sqrt();
        let zero = scalars["f64"]["mathematically_zero_grads(f64 norm < 1e-12)"].as_array().unwrap();
        let mut zeros = 0;
        for (name, want) in &grads {
            let got = &outcome.tensors[&format!("grad.{name}")].data;
            if zero.iter().any(|z| z.as_str() == Some(name)) || norm(&want.data) == 0.0 {
                assert!(norm(got) <= 1e-6 * global, "{name}: {:.2e} of {global:.2e}", norm(got));
                zeros += 1;
            } else {
                close(name, got, &want.data, tolerance);
            }
        }
        assert!(zeros < grads.len() / 2);
        let expected = grads.len();
        assert_eq!(outcome.tensors.keys().filter(|name| name.starts_with("grad.")).count(), expected);
    });
}

/// Expected parameters after a step: whole, or sampled.
fn expected(case: &Path, what: &str) -> Named {
    let whole = case.join(format!("{what}.safetensors"));
    let path = if whole.exists() { whole } else { case.join(format!("{what}_sampled.safetensors")) };
    load(&path).unwrap().0
}

/// Every n-th value, as the reference samples them.
fn sampled(values: &Values, length: usize) -> Vec<f32> {
    let n = values.data.len();
    if n == length {
        return values.data.clone();
    }
    let samples = values.data.iter().step_by(4 * n.div_ceil(512)).copied().collect::<Vec<_>>();
    assert_eq!(samples.len(), length);
    samples
}

fn optimizer_step(optimizer: Optimizer, name: &str) {
    for_each_case(|case| {
        let tolerance = tolerance(case);
        let outcome = step(case, BATCH, Some(optimizer));
        let (mut compared, mut at_kinks) = (0, None);
        for (prefix, what) in [("param", "after"), ("ascended", "perturbed")] {
            if prefix == "ascended" && optimizer == Optimizer::Sgd {
                continue;
            }
            for (tensor, want) in expected(case, &format!("{what}_{name}")) {
                let Some(got) = outcome.tensors.get(&format!("{prefix}.{tensor}")) else { continue };
                let (got, want) = (sampled(got, want.data.len()), want.data);
                compared += 1;
                if relative(&got, &want) <= tolerance {
                    continue;
                }
                // Wider only if a value at a kink explains it, and f64 sides with the reference.
                let (found, exact) = at_kinks.get_or_insert_with(|| kinks(case, optimizer));
                println!("{prefix} {tensor}: {:.1e}, {found} values at kinks", relative(&got, &want));
                assert!(*found > 0, "{prefix} {tensor}: {:.1e} without a value at a kink", relative(&got, &want));
                if prefix == "param" {
                    close(&format!("{tensor} in f64"), &sampled(&exact[&tensor], want.len()), &want, 1e-5);
                }
                close(&format!("{prefix} {tensor}"), &got, &want, 2e-3);
            }
        }
        assert!(compared > 20, "only {compared} tensors were compared");
        let scalars = json(&case.join("scalars.json"));
        // Norms of whole tensors.
        for (tensor, stats) in scalars[format!("after_{name}_stats")].as_object().unwrap() {
            let got = &outcome.tensors[&format!("param.{tensor}")].data;
            let l2 = stats["l2"].as_f64().unwrap();
            assert!((norm(got) / l2 - 1.0).abs() < tolerance, "{tensor}: norm {} {l2}", norm(got));
        }
    });
}

#[test]
fn sgd_step() {
    optimizer_step(Optimizer::Sgd, "sgd");
}

#[test]
fn sam_step() {
    optimizer_step(Optimizer::Sam, "sam");
}

#[test]
fn asam_step() {
    optimizer_step(Optimizer::Asam, "asam");
}
