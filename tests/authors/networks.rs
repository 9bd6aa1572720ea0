//! Networks against their authors' own PyTorch code: logits, loss, running statistics, gradients, and of NAS-Bench-201 one step of SGD,
//! SAM and ASAM.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::{Graph, Op, Role, Statistics, TensorId, TermKind};
use altiplano::nn::Model;
use altiplano::nn::tensors::{Named, Values, load, to_logical, to_torch};
use altiplano::reference::{self, Memory};
use altiplano::train::single::{Outcome, run};
use altiplano::train::step::{Optimizer, Rates, StepOptions, Update, build};
use altiplano::train::stores::Stores;

use crate::case::{json, model, norm, tensors};
use crate::common;

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
    model: Box<dyn Model>,
    options: StepOptions,
    rates: Rates,
    weights: Named,
    batch: Named,
}

fn read(case: &Path, statistics: Statistics, optimizer: Option<Optimizer>) -> Case {
    let info = json(&case.join("case.json"));
    let (weights, batch) = (tensors(case, "weights"), tensors(case, "batch"));
    let dims = &batch["x"].dims;
    let options = StepOptions {
        batch: dims[0],
        statistics,
        smoothing: 0.0,
        update: optimizer.map(|optimizer| Update { optimizer, ..Update::default() }),
        gradients: statistics != Statistics::Running,
    };
    // Cases without an optimiser have no step.
    let number = |name: &str| match optimizer {
        Some(_) => info["optimiser"][name].as_f64().unwrap(),
        None => 0.0,
    };
    let rho = match optimizer {
        Some(Optimizer::Sam) => number("sam_rho"),
        Some(Optimizer::Asam) => number("asam_rho"),
        _ => 0.0,
    };
    let rates = Rates {
        rate: number("lr"),
        momentum: number("momentum"),
        decay: number("weight_decay"),
        statistics_momentum: 0.1,
        rho,
        ..Rates::default()
    };
    Case { model: model(&info, dims), options, rates, weights, batch }
}

fn step(case: &Path, statistics: Statistics, optimizer: Option<Optimizer>) -> Outcome {
    let Case { model, options, rates, weights, batch } = read(case, statistics, optimizer);
    run(common::gpu(), common::preset(), &*model, &options, &rates, &weights, &batch).unwrap()
}

/// A step in f64, of which f32 sees some rectifiers otherwise.
struct Exact {
    /// Values that a rectifier saw on the other side of zero in f32.
    kinks: usize,
    /// Gradients, ascended weights and parameters after the step, as they are called in an [`Outcome`].
    own: Named,
    /// The same with all rectifiers as f32 saw them.
    switched: Named,
}

/// A value within rounding of a kink may fall on either side in any f32 run; one such value moves gradients by 1e-4 and
/// more. Each one found must be as small as rounding, and f64 says what it moves.
fn in_f64(case: &Path, optimizer: Option<Optimizer>) -> Exact {
    let Case { model, options, rates, weights, batch } = read(case, BATCH, optimizer);
    let mut step = build(&*model, &options).unwrap();
    for (number, tensor) in step.graph.tensors.iter_mut().enumerate().filter(|(_, t)| t.persistent.is_none()) {
        tensor.probe = Some(format!("tensor {number}"));
    }
    let graph = Arc::new(step.graph);
    let stores = Stores::new(common::gpu(), &graph, 1).unwrap();
    stores.load(0, &weights).unwrap();
    stores.set_batch(0, &batch["x"], &batch["y"], 10).unwrap();
    stores.set_rates(0, &rates).unwrap();
    let mut own = Memory::new(&graph);
    for id in graph.ids() {
        let tensor = graph.tensor(id);
        let Some(info) = &tensor.persistent else { continue };
        let values = match info.role {
            Role::Weights | Role::Running => to_logical(tensor.shape, &weights[&info.name].data),
            Role::Batch => to_logical(tensor.shape, &batch[&info.name].data),
            Role::Hyper => rates.words().map(f32::from_bits).to_vec(),
            _ => continue,
        };
        own.set(id, values.into_iter().map(f64::from).collect()).unwrap();
    }
    let mut switched = own.clone();
    reference::run(&graph, &[], &mut own).unwrap();
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
    let plan = Plan::compile(common::gpu(), vec![instance], common::preset()).unwrap();
    plan.submit();
    let mut rectified = BTreeSet::new();
    for node in &graph.nodes {
        match &node.op {
            Op::Conv { x, relu: true, .. } => rectified.extend([*x]),
            Op::Combine { terms, .. } => rectified.extend(terms.iter().filter_map(|term| match term.kind {
                TermKind::Relu => Some(term.a),
                TermKind::Masked { x } => Some(x),
                _ => None,
            })),
            _ => {}
        }
    }
    let (mut kinks, mut one) = (0, Graph::clone(&graph));
    for node in &graph.nodes {
        one.nodes = vec![node.clone()];
        reference::run(&one, &[], &mut switched).unwrap();
        for tensor in node.op.operands().1.into_iter().filter(|t| rectified.contains(t)) {
            let single = plan.read_wait(0, tensor).unwrap();
            let mut values = switched.get(tensor).to_vec();
            let rms = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
            for (value, got) in values.iter_mut().zip(single).filter(|(value, got)| (**value > 0.0) != (*got > 0.0)) {
                assert!(value.abs() < 1e-5 * rms, "{value} of deviation {rms} became {got}: that is no rounding");
                *value = f64::from(got);
                kinks += 1;
            }
            switched.set(tensor, values).unwrap();
        }
    }
    let params = graph.persistent(Role::Weights).map(|(id, info)| (format!("param.{}", info.name), id));
    let of = |prefix: &str, list: Vec<(String, TensorId)>| -> Vec<(String, TensorId)> {
        list.into_iter().map(|(name, id)| (format!("{prefix}.{name}"), id)).collect()
    };
    let ids: Vec<_> = params.chain(of("grad", step.gradients)).chain(of("ascended", step.ascended)).collect();
    let named = |memory: &Memory| -> Named {
        let values = |id: TensorId| -> Vec<f32> { memory.get(id).iter().map(|v| *v as f32).collect() };
        let torch = |id: TensorId| Values { dims: vec![], data: to_torch(graph.shape(id), &values(id)) };
        ids.iter().map(|(name, id)| (name.clone(), torch(*id))).collect()
    };
    Exact { kinks, own: named(&own), switched: named(&switched) }
}

/// Further from the reference than that only where a value at a kink explains it: f64 sides with the reference, and with
/// rectifiers as f32 saw them with what is here.
fn close_but_for_kinks<F: FnOnce() -> Exact>(
    name: &str,
    got: &Values,
    want: &[f32],
    tolerance: f64,
    exact: &LazyCell<Exact, F>,
) {
    let samples = sampled(got, want.len());
    let error = relative(&samples, want);
    if error <= tolerance {
        return;
    }
    println!("{name}: {error:.1e}, {} values at kinks", exact.kinks);
    assert!(exact.kinks > 0, "{name}: {error:.1e} without a value at a kink");
    close(&format!("{name} in f64"), &sampled(&exact.own[name], want.len()), want, 1e-5);
    close(&format!("{name} with these rectifiers"), &got.data, &exact.switched[name].data, 1e-4);
}

const BATCH: Statistics = Statistics::Batch { update: true };

fn tolerance(case: &Path) -> f64 {
    // Five cells per stage amplify rounding at the rectifiers' kinks.
    if json(&case.join("case.json"))["N"].as_u64().unwrap_or(1) > 1 { 2e-3 } else { 1e-4 }
}

fn for_each_case(kind: &str, test: impl Fn(&Path)) {
    let cases = common::golden_cases(kind);
    assert!(!cases.is_empty());
    for case in cases {
        println!("{}", case.display());
        test(&case);
    }
}

fn evaluation(kind: &str) {
    for_each_case(kind, |case| {
        let (forward, _) = load(&case.join("forward.safetensors")).unwrap();
        let outcome = step(case, Statistics::Running, None);
        close("logits", &outcome.tensors["logits"].data, &forward["logits_eval"].data, 1e-4);
        let want = json(&case.join("scalars.json"))["ce_loss_eval"].as_f64().unwrap();
        assert!((f64::from(outcome.loss) / want - 1.0).abs() < 1e-4, "loss {} {want}", outcome.loss);
    });
}

fn gradients_and_statistics(kind: &str) {
    for_each_case(kind, |case| {
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
        let exact = LazyCell::new(|| in_f64(case, None));
        let mut zeros = 0;
        for (name, want) in &grads {
            let key = format!("grad.{name}");
            let got = &outcome.tensors[&key];
            if zero.iter().any(|z| z.as_str() == Some(name)) || norm(&want.data) == 0.0 {
                let got = norm(&got.data);
                assert!(got <= 1e-6 * global, "{name}: {got:.2e} of {global:.2e}");
                zeros += 1;
            } else {
                close_but_for_kinks(&key, got, &want.data, tolerance, &exact);
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
    for_each_case("nb201", |case| {
        let tolerance = tolerance(case);
        let outcome = step(case, BATCH, Some(optimizer));
        let exact = LazyCell::new(|| in_f64(case, Some(optimizer)));
        let mut compared = 0;
        for (prefix, what) in [("param", "after"), ("ascended", "perturbed")] {
            if prefix == "ascended" && optimizer == Optimizer::Sgd {
                continue;
            }
            for (tensor, want) in expected(case, &format!("{what}_{name}")) {
                let name = format!("{prefix}.{tensor}");
                let Some(got) = outcome.tensors.get(&name) else { continue };
                close_but_for_kinks(&name, got, &want.data, tolerance, &exact);
                compared += 1;
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

mod nas_bench_201 {
    use super::Optimizer;

    #[test]
    fn evaluation() {
        super::evaluation("nb201");
    }

    #[test]
    fn gradients_and_statistics() {
        super::gradients_and_statistics("nb201");
    }

    #[test]
    fn sgd_step() {
        super::optimizer_step(Optimizer::Sgd, "sgd");
    }

    #[test]
    fn sam_step() {
        super::optimizer_step(Optimizer::Sam, "sam");
    }

    #[test]
    fn asam_step() {
        super::optimizer_step(Optimizer::Asam, "asam");
    }
}

mod darts {
    use super::*;
    use altiplano::graph::store::Contents;
    use altiplano::measure::angle::Angle;
    use altiplano::measure::flatness::genas_flatness;
    use altiplano::nn::darts::{Network, Sizes, Supernet};
    use altiplano::nn::space::Supernet as _;
    use altiplano::nn::tensors::fresh;
    use altiplano::philox::Stream;
    use altiplano::space::darts::Darts;
    use altiplano::space::{Arch, Space};
    use altiplano::train::single::run_path;
    use serde_json::Value;

    fn rates() -> Rates {
        Rates { statistics_momentum: 0.1, ..Rates::default() }
    }

    fn options(batch: usize, statistics: Statistics) -> StepOptions {
        let gradients = statistics != Statistics::Running;
        StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients }
    }

    /// A supernet of the authors', and the path that they looked at.
    fn supernet(info: &Value) -> (Supernet, Vec<u8>) {
        let size = |name: &str| info[name].as_u64().unwrap() as usize;
        let (channels, cells, classes) = (size("C"), size("layers"), size("num_classes"));
        let sizes = Sizes {
            channels,
            cells,
            norms_behind_pools: true,
            imagenet: false,
            auxiliary: 0.0,
            input: [32, 32, 3],
            classes,
        };
        let path = info["path"].as_array().unwrap().iter().map(|code| code.as_u64().unwrap() as u8).collect();
        (Supernet { sizes }, path)
    }

    /// Images and labels of a batch, some of those of a tensor.
    fn some(batch: &Named, name: &str, range: std::ops::Range<usize>) -> Named {
        let cut = |name: String| {
            let values = &batch[&name];
            let each = values.data.len() / values.dims[0];
            let dims = [&[range.len()], &values.dims[1..]].concat();
            Values { dims, data: values.data[range.start * each..range.end * each].to_vec() }
        };
        let prefix = name.trim_end_matches('x');
        Named::from([("x".to_owned(), cut(format!("{prefix}x"))), ("y".to_owned(), cut(format!("{prefix}y")))])
    }

    fn for_each_supernet(test: impl Fn(&Path, &Value, &dyn Fn(&Named, &Named, Statistics) -> Outcome)) {
        for case in common::golden_cases("darts_supernet") {
            let info = json(&case.join("case.json"));
            let (model, path) = supernet(&info);
            test(&case, &info, &|weights, batch, statistics| {
                let (gpu, options) = (common::gpu(), options(batch["x"].dims[0], statistics));
                run_path(gpu, common::preset(), (&model, &path), &options, &rates(), weights, batch).unwrap()
            });
        }
    }

    #[test]
    fn supernets_logits_gradients_and_statistics() {
        for_each_supernet(|case, _, step| {
            let (weights, batch, forward) =
                (tensors(case, "weights"), tensors(case, "batch"), tensors(case, "forward"));
            let (scalars, own) = (json(&case.join("scalars.json")), some(&batch, "x", 0..4));
            for (statistics, mode) in [(Statistics::Running, "eval"), (BATCH, "train")] {
                let outcome = step(&weights, &own, statistics);
                close(mode, &outcome.tensors["logits"].data, &forward[&format!("logits_{mode}")].data, 1e-4);
                let want = scalars[format!("ce_loss_{mode}")].as_f64().unwrap();
                assert!((f64::from(outcome.loss) / want - 1.0).abs() < 1e-4, "loss {} {want}", outcome.loss);
                if mode == "eval" {
                    continue;
                }
                for (name, want) in tensors(case, "bn_after_train_forward") {
                    if !name.ends_with("num_batches_tracked") {
                        close(&name, &outcome.tensors[&format!("state.{name}")].data, &want.data, 1e-4);
                    }
                }
                let gradients = tensors(case, "grads");
                for (name, want) in &gradients {
                    close(name, &outcome.tensors[&format!("grad.{name}")].data, &want.data, 1e-3);
                }
                // What is off the path has none.
                let own = outcome.tensors.iter().filter_map(|(name, own)| Some((name.strip_prefix("grad.")?, own)));
                let others: Vec<_> = own.filter(|(name, _)| !gradients.contains_key(*name)).collect();
                assert!(others.len() > 500 && others.iter().all(|(_, own)| norm(&own.data) == 0.0));
            }
        });
    }

    /// The released measure: statistics anew from two batches, losses under noise on top of noise.
    #[test]
    fn supernets_flatness_with_given_noise() {
        for_each_supernet(|case, _, step| {
            let (mut weights, batch) = (tensors(case, "weights"), tensors(case, "batch"));
            for (name, values) in &mut weights {
                let reset = if name.ends_with("running_mean") { Some(0.0) } else { None };
                let reset = if name.ends_with("running_var") { Some(1.0) } else { reset };
                reset.iter().for_each(|value| values.data.fill(*value));
            }
            for range in [0..8, 8..16] {
                let outcome = step(&weights, &some(&batch, "bn_x", range), BATCH);
                let states = outcome.tensors.into_iter();
                let states = states.filter_map(|(name, own)| Some((name.strip_prefix("state.")?.to_owned(), own)));
                weights.extend(states);
            }
            for (name, want) in tensors(case, "bn_recalibrated") {
                if !name.ends_with("num_batches_tracked") {
                    close(&name, &weights[&name].data, &want.data, 1e-4);
                }
            }
            let loss = |weights: &Named| {
                let of = |range| f64::from(step(weights, &some(&batch, "val_x", range), Statistics::Running).loss);
                (of(0..8) + of(8..16)) / 2.0
            };
            let (noise, scalars) = (tensors(case, "noise"), json(&case.join("scalars.json")));
            let clean = scalars["val_loss_sigma0"].as_f64().unwrap();
            assert!((loss(&weights) / clean - 1.0).abs() < 1e-5);
            for want in scalars["fbs"].as_array().unwrap() {
                let numbers =
                    |name: &str| want[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
                let (sigmas, mut noisy, mut before, mut losses) = (numbers("stds"), weights.clone(), 0.0, vec![]);
                for (level, &sigma) in sigmas.iter().enumerate() {
                    for (name, z) in
                        noise.iter().filter_map(|(name, z)| Some((name.strip_prefix(&format!("z{level}."))?, z)))
                    {
                        let moved = noisy.get_mut(name).unwrap().data.iter_mut().zip(&z.data);
                        moved.for_each(|(w, z)| *w += ((sigma - before) * f64::from(*z)) as f32);
                    }
                    before = sigma;
                    losses.push(loss(&noisy));
                }
                for (got, want) in losses.iter().zip(numbers("losses")) {
                    assert!((got / want - 1.0).abs() < 1e-5, "{got} {want}");
                }
                let (got, want) = (genas_flatness(&sigmas, &losses, None, 1.0), want["FBS"].as_f64().unwrap());
                assert!((got / want - 1.0).abs() < 1e-4, "{got} {want}");
            }
        });
    }

    #[test]
    fn supernets_angle() {
        for_each_supernet(|case, info, _| {
            let (model, path) = supernet(info);
            let arch: Arch = path.iter().copied().chain([0; 8]).collect();
            let before = tensors(case, "weights");
            let (mut after, scalars) = (before.clone(), json(&case.join("scalars.json")));
            after.extend(tensors(case, "weights2_params"));
            let angle = Angle::new(&before, &after).unwrap();
            let (theta, length) = angle.of(&model, &arch, true).unwrap().unwrap();
            assert_eq!(length as u64, scalars["arch_vector_len"].as_u64().unwrap());
            let want = scalars["angle_f64"].as_f64().unwrap();
            assert!((theta - want).abs() < 1e-9, "{theta} {want}");
            // The shift of a dilated convolution's norm in place of its scale once more is another vector of the same length.
            let (sound, other) = angle.of(&model, &arch, false).unwrap().unwrap();
            assert!(other == length && sound != theta && (sound - theta).abs() < 0.1, "{sound} {theta}");
            let none = Angle::new(&before, &before).unwrap();
            assert!(none.of(&model, &arch, true).unwrap().unwrap().0 < 1e-6);
        });
    }

    /// The authors' genotypes: ways through their cells that no missing edge cuts, and how long their vectors are with 16 channels,
    /// 8 cells and 100 classes.
    #[test]
    fn lengths_of_vectors_are_the_authors() {
        let sizes = Sizes {
            channels: 16,
            cells: 8,
            norms_behind_pools: true,
            imagenet: false,
            auxiliary: 0.0,
            input: [32, 32, 3],
            classes: 100,
        };
        let model = Supernet { sizes };
        let graph = build(&model, &options(2, Statistics::Running)).unwrap().graph;
        let weights = fresh(&Contents::of(&graph, &[Role::Weights]).unwrap(), 3);
        let angle = Angle::new(&weights, &weights).unwrap();
        for (code, length) in [
            ("3,6,0,4,4,0,6,6,0,0,0,0,4,3, 5,2,0,6,4,0,3,0,6,0,0,5,0,7", 877_456),
            ("5,4,4,4,0,4,5,0,0,4,0,0,0,4, 7,7,2,3,0,4,1,0,0,0,0,0,5,6", 534_192),
            ("3,5,0,4,4,0,0,4,5,0,4,0,0,7, 6,3,2,0,5,0,5,0,7,0,1,1,0,0", 1_197_008),
            ("3,5,1,4,0,0,4,0,4,0,4,0,0,5, 6,4,0,7,2,1,3,0,0,0,4,0,0,7", 628_016),
            ("5,5,2,5,0,4,4,0,0,0,4,0,0,4, 3,3,0,3,2,3,7,0,0,3,0,0,0,4", 496_784),
            ("5,4,6,0,5,4,0,0,7,0,7,6,0,0, 5,6,4,0,5,0,6,0,4,0,1,5,0,0", 892_720),
        ] {
            assert_eq!(angle.of(&model, &Darts.parse(code).unwrap(), true).unwrap().unwrap().1, length, "{code}");
        }
        assert_eq!(graph.persistent(Role::Weights).map(|(id, _)| graph.shape(id).len()).sum::<usize>(), 2_028_244);
    }

    /// Each path computes what its network does, with the weights that the supernet has for it.
    #[test]
    fn a_path_is_its_network() {
        let sizes = Sizes {
            channels: 6,
            cells: 4,
            norms_behind_pools: true,
            imagenet: false,
            auxiliary: 0.0,
            input: [8, 8, 3],
            classes: 5,
        };
        let supernet = Supernet { sizes };
        let graph = build(&supernet, &options(6, BATCH)).unwrap().graph;
        let shared = fresh(&Contents::of(&graph, &[Role::Weights, Role::Running]).unwrap(), 3);
        let mut draw = Stream::new(5, 1, 0);
        let mut number = || (draw.uniform() * 2.0 - 1.0) as f32;
        let x = Values { dims: vec![6, 3, 8, 8], data: (0..6 * 3 * 64).map(|_| number()).collect() };
        let y = Values { dims: vec![6], data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 0.0] };
        let batch = Named::from([("x".to_owned(), x), ("y".to_owned(), y)]);
        let (gpu, preset) = (common::gpu(), common::preset());
        let space: &dyn Space = &Darts;
        for round in 0..4 {
            let arch = space.sample(&mut Stream::new(11, 1, round)).unwrap();
            let network = Network { genotype: (&arch).try_into().unwrap(), sizes };
            let graph = build(&network, &options(6, BATCH)).unwrap().graph;
            let contents = Contents::of(&graph, &[Role::Weights, Role::Running]).unwrap();
            let theirs = |name: &String| supernet.source(name, &arch).unwrap();
            let weights: Named =
                contents.entries.keys().map(|name| (name.clone(), shared[&theirs(name)].clone())).collect();
            let options = options(6, BATCH);
            let alone = run(gpu, preset, &network, &options, &rates(), &weights, &batch).unwrap();
            let path = supernet.path(&arch).unwrap();
            let along = run_path(gpu, preset, (&supernet, &path), &options, &rates(), &shared, &batch).unwrap();
            close("logits", &along.tensors["logits"].data, &alone.tensors["logits"].data, 1e-5);
            for (key, values) in &alone.tensors {
                if let Some((kind, name)) = key.split_once('.').filter(|(kind, _)| ["grad", "state"].contains(kind)) {
                    let other = &along.tensors[&format!("{kind}.{}", theirs(&name.to_owned()))];
                    close(key, &other.data, &values.data, 1e-4);
                }
            }
        }
    }

    #[test]
    fn evaluation() {
        super::evaluation("darts");
    }

    #[test]
    fn gradients_and_statistics() {
        super::gradients_and_statistics("darts");
    }
}
