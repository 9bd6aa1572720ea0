//! Cases of networks whose weights, statistics and images follow from a hash, the same here and in `peers/`: a case holds results
//! alone. A step on the device and one in f64 are compared with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::{Graph, Op, Role, Shape, Statistics, TensorId};
use altiplano::nn::Model;
use altiplano::nn::tensors::{Named, Values, to_logical, to_torch};
use altiplano::reference::{self, Memory};
use altiplano::train::step::{Rates, Step, StepOptions, build};
use altiplano::train::stores::Stores;
use serde_json::Value;

use crate::common;

/// Numbers of 24 bits between -1 and 1: the name by FNV-1a, its places by SplitMix64.
fn hashed(name: &str, count: usize) -> Vec<f64> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    let number = |place: u64| {
        let mut z = seed.wrapping_add((place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / 8_388_608.0 - 1.0
    };
    (0..count as u64).map(number).collect()
}

/// A weight, statistic or image of a case.
fn filled(name: &str, dims: &[usize], seed: u64) -> Values {
    let fan_in = dims[1..].iter().product::<usize>() as f64;
    let value = |u: f64| match name {
        "x" => 1.5 * u,
        _ if dims.len() > 1 => (6.0 / fan_in).sqrt() * u,
        _ if name.ends_with("running_var") => 1.0 + 0.5 * u,
        _ if name.ends_with("bias") || name.ends_with("running_mean") => 0.2 * u,
        _ => 1.0 + 0.3 * u,
    };
    let numbers = hashed(&format!("{seed}:{name}"), dims.iter().product());
    Values { dims: dims.to_vec(), data: numbers.into_iter().map(|u| value(u) as f32).collect() }
}

pub fn number(info: &Value, name: &str) -> usize {
    info[name].as_u64().unwrap() as usize
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// What a step computed of a case, on the device or in f64.
pub struct Found {
    /// Of the network and of its auxiliary head: logits, and the mean loss.
    pub heads: Vec<(Vec<f64>, f64)>,
    /// By weights' names, in PyTorch's order.
    gradients: Vec<(String, Vec<f64>)>,
    /// Running statistics.
    statistics: Vec<(String, Vec<f64>)>,
}

/// A step of a case as a graph, with the tensors that its losses read and write.
pub struct Prepared {
    step: Step,
    losses: Vec<[TensorId; 2]>,
    pub named: Named,
    batch: [Values; 2],
}

pub fn prepared(model: &dyn Model, info: &Value, statistics: Statistics) -> Prepared {
    let (batch, classes, side) = (number(info, "batch"), number(info, "classes"), number(info, "side"));
    let gradients = statistics != Statistics::Running;
    let options = StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients };
    let mut step = build(model, &options).unwrap();
    step.probe_all();
    let mut losses = vec![];
    for node in &step.graph.nodes {
        if let Op::CrossEntropy { logits, loss, .. } = node.op {
            losses.push([logits, loss]);
        }
    }
    for tensor in losses.iter().flatten() {
        step.graph.tensors[tensor.0 as usize].probe = Some(format!("tensor {}", tensor.0));
    }
    let seed = info["seed"].as_u64().unwrap();
    let own = [Role::Weights, Role::Running].map(|role| step.graph.persistent(role).collect::<Vec<_>>()).concat();
    let named = own.iter().map(|(_, own)| (own.name.clone(), filled(&own.name, &own.dims, seed))).collect();
    let labels = (0..batch).map(|image| ((image * 3 + 1) % classes) as f32).collect();
    let batch = [filled("x", &[batch, 3, side, side], seed), Values { dims: vec![batch], data: labels }];
    Prepared { step, losses, named, batch }
}

/// Our order of a tensor's values to PyTorch's.
fn torch(shape: Shape, values: &[f64]) -> Vec<f64> {
    let places: Vec<f32> = (0..values.len()).map(|place| place as f32).collect();
    to_torch(shape, &places).into_iter().map(|place| values[place as usize]).collect()
}

impl Prepared {
    fn found(&self, statistics: Vec<(String, Vec<f64>)>, read: &dyn Fn(TensorId) -> Vec<f64>) -> Found {
        let graph = &self.step.graph;
        let mean = |values: Vec<f64>| values.iter().step_by(2).sum::<f64>() / (values.len() / 2) as f64;
        let heads = self.losses.iter().map(|&[logits, loss]| (read(logits), mean(read(loss)))).collect();
        let of = |(name, id): &(String, TensorId)| (name.clone(), torch(graph.shape(*id), &read(*id)));
        Found { heads, gradients: self.step.gradients.iter().map(of).collect(), statistics }
    }

    pub fn on_device(&self) -> Found {
        let (graph, gpu) = (Arc::new(self.step.graph.clone()), common::gpu());
        let stores = Stores::new(gpu, &graph, 1).unwrap();
        stores.load(0, &self.named).unwrap();
        stores.set_batch(0, &self.batch[0], &self.batch[1], 5).unwrap();
        stores.set_rates(0, &rates()).unwrap();
        let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
        let plan = Plan::compile(gpu, vec![instance], common::preset()).unwrap();
        plan.submit();
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let saved = stores.save_wait(0).unwrap().into_iter().filter(|(name, _)| name.contains("running_"));
        let statistics = saved.map(|(name, values)| (name, wide(values.data))).collect();
        self.found(statistics, &|id| wide(plan.read_wait(0, id).unwrap()))
    }

    pub fn in_f64(&self) -> Found {
        let graph: &Graph = &self.step.graph;
        let mut memory = Memory::new(graph);
        for id in graph.ids() {
            let tensor = graph.tensor(id);
            let Some(own) = &tensor.persistent else { continue };
            let values = match own.role {
                Role::Weights | Role::Running => to_logical(tensor.shape, &self.named[&own.name].data),
                Role::Batch => to_logical(tensor.shape, &self.batch[usize::from(own.name == "y")].data),
                Role::Hyper => rates().words().map(f32::from_bits).to_vec(),
                _ => continue,
            };
            memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
        }
        reference::run(graph, &[], &mut memory).unwrap();
        let running = graph.persistent(Role::Running).map(|(id, own)| (own.name.clone(), memory.get(id).to_vec()));
        self.found(running.collect(), &|id| memory.get(id).to_vec())
    }
}

fn rates() -> Rates {
    Rates { statistics_momentum: 0.1, ..Rates::default() }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[track_caller]
fn close(what: &str, got: f64, want: f64, scale: f64, tolerance: f64) {
    let error = (got - want).abs() / scale;
    assert!(error <= tolerance, "{what}: {got} is not {want}, by {error:.1e} of {scale:.3e}");
}

/// What a head says against logits and a loss of the case.
pub fn same_head((logits, loss): &(Vec<f64>, f64), info: &Value, prefix: &str, tolerance: f64) {
    let want = numbers(&info[format!("{prefix}logits")]);
    assert_eq!(logits.len(), want.len());
    for (got, want_one) in logits.iter().zip(&want) {
        close(&format!("{prefix}logits"), *got, *want_one, norm(&want), tolerance);
    }
    let want = info[format!("{prefix}loss")].as_f64().unwrap();
    close(&format!("{prefix}loss"), *loss, want, want, tolerance);
}

/// Tolerances are those of outputs and of gradients.
pub fn same_training(found: &Found, info: &Value, [tolerance, of_gradients]: [f64; 2]) {
    let train = &info["train"];
    let (own, auxiliary) = found.heads.split_first().unwrap();
    same_head(own, train, "", tolerance);
    let mut total = own.1;
    assert_eq!(auxiliary.len(), usize::from(info["auxiliary"].is_number()));
    for head in auxiliary {
        same_head(head, train, "auxiliary_", tolerance);
        total += info["auxiliary"].as_f64().unwrap() * head.1;
    }
    let want = train["total_loss"].as_f64().unwrap();
    close("total loss", total, want, want, tolerance);
    let expected = info["gradients"].as_object().unwrap();
    // What nothing reads has none in PyTorch, and zeros here.
    let none: BTreeSet<&str> = info["without_gradient"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let (idle, gradients): (Vec<_>, Vec<_>) =
        found.gradients.iter().partition(|(name, _)| none.contains(name.as_str()));
    assert_eq!((idle.len(), gradients.len()), (none.len(), expected.len()));
    assert!(idle.iter().all(|(_, values)| norm(values) == 0.0));
    let largest = expected.values().map(|want| want[0].as_f64().unwrap()).fold(0.0, f64::max);
    for (name, values) in gradients {
        let want = numbers(&expected[name]);
        // Shifts that nothing but other norms see have gradients of zero by mathematics, and of rounding alone.
        if want[0] < 1e-12 * largest {
            assert!(norm(values) <= 1e-6 * largest, "{name}: {} is not zero beside {largest}", norm(values));
            continue;
        }
        let (scale, length) = (want[0].max(1e-6 * largest), values.len());
        close(name, norm(values), want[0], scale, of_gradients);
        let probe = hashed(&format!("probe:{name}"), length);
        close(name, values.iter().zip(probe).map(|(g, p)| g * p).sum(), want[1], scale, of_gradients);
        for (place, want) in [0, length / 3, 2 * length / 3].into_iter().zip(&want[2..]) {
            close(&format!("{name}[{place}]"), values[place], *want, scale, of_gradients);
        }
    }
    let is_used = |name: &str| expected.contains_key(&format!("{}.weight", name.rsplit_once('.').unwrap().0));
    let squares = found.statistics.iter().filter(|(name, _)| is_used(name)).map(|(_, values)| norm(values).powi(2));
    let want = info["statistics_norm"].as_f64().unwrap();
    close("statistics", squares.sum::<f64>().sqrt(), want, want, tolerance);
}
