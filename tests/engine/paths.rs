//! Steps of several paths through one supernet: the average of what each would teach, at few dispatches more than one of them.

use std::sync::Arc;

use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::store::Contents;
use altiplano::graph::{Geometry, Role, Statistics, TensorId};
use altiplano::nn::darts;
use altiplano::nn::nas_bench_201::Supernet;
use altiplano::nn::space::Supernet as _;
use altiplano::nn::tensors::{Named, Values, fresh};
use altiplano::nn::{Heads, Layers, Model, trained_graph};
use altiplano::philox::Stream;
use altiplano::space::Space;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::{Cell, Macro, NasBench201};
use altiplano::train::single::{Outcome, run_path};
use altiplano::train::step::{Optimizer, Rates, StepOptions, Update, build};
use altiplano::train::stores::Stores;

use crate::common;

const BATCH: usize = 4;
const RATE: f64 = 0.1;
const DECAY: f64 = 0.01;
const RHO: f64 = 0.05;

fn small() -> Supernet {
    Supernet { sizes: Macro { channels: 8, cells: 1, in_channels: 3, height: 8, width: 8, classes: 10 } }
}

/// The paths of a few architectures at random.
fn paths(count: usize) -> Vec<Vec<u8>> {
    let (space, mut draw): (&dyn Space, _) = (&NasBench201, Stream::new(3, 1, 4));
    (0..count).map(|_| small().path(&space.sample(&mut draw).unwrap()).unwrap()).collect()
}

fn options(update: Option<Update>) -> StepOptions {
    let statistics = Statistics::Batch { update: true };
    StepOptions { batch: BATCH, statistics, smoothing: 0.1, update, gradients: true }
}

fn weights(model: &dyn Model) -> Named {
    let contents = Contents::of(&trained_graph(model).unwrap(), &[Role::Weights, Role::Running]).unwrap();
    fresh(&contents, 6)
}

fn batch() -> Named {
    let mut stream = Stream::new(2, 1, 2);
    let images = (0..BATCH * 3 * 8 * 8).map(|_| stream.normal() as f32).collect();
    let labels = (0..BATCH).map(|_| stream.below(10) as f32).collect();
    Named::from([
        ("x".to_owned(), Values { dims: vec![BATCH, 3, 8, 8], data: images }),
        ("y".to_owned(), Values { dims: vec![BATCH], data: labels }),
    ])
}

fn taken(path: &[u8], update: Update, weights: &Named) -> Outcome {
    let rates = Rates { rate: RATE, decay: DECAY, rho: RHO, clip: 1e9, statistics_momentum: 0.1, ..Rates::default() };
    let (gpu, preset) = (common::gpu(), common::preset());
    run_path(gpu, preset, (&small(), path), &options(Some(update)), &rates, weights, &batch()).unwrap()
}

/// The gradient of each weight that any of the paths uses, averaged in f64 over all of them.
fn averaged(paths: &[Vec<u8>], weights: &Named) -> std::collections::BTreeMap<String, Vec<f64>> {
    let mut sums = std::collections::BTreeMap::new();
    for path in paths {
        let single = taken(path, Update::default(), weights);
        for (name, gradient) in &single.tensors {
            let Some(name) = name.strip_prefix("grad.") else { continue };
            // Decay moves whatever the path uses, and nothing else.
            if single.tensors[&format!("param.{name}")].data == weights[name].data {
                continue;
            }
            let sum = sums.entry(name.to_owned()).or_insert_with(|| vec![0.0; gradient.data.len()]);
            sum.iter_mut().zip(&gradient.data).for_each(|(sum, g)| *sum += f64::from(*g) / paths.len() as f64);
        }
    }
    sums
}

#[track_caller]
fn near(what: &str, got: &[f32], want: impl Iterator<Item = f64>, scale: f64) {
    let most = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
    assert!(most <= 1e-5 * scale, "{what}: {most} of {scale}");
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(1e-3, |most, value| most.max(value.abs()))
}

#[test]
fn gradients_of_paths_are_averaged() {
    let (paths, start) = (paths(3), weights(&small()));
    let together = taken(&paths.concat(), Update { more_paths: 2, ..Update::default() }, &start);
    let want = averaged(&paths, &start);
    let used = |name: &String| want.contains_key(name);
    assert!(want.len() > 20 && start.keys().any(|name| name.starts_with("cells") && !used(name)), "{}", want.len());
    for (name, values) in &start {
        let Some(after) = together.tensors.get(&format!("param.{name}")) else { continue };
        match want.get(name) {
            Some(gradient) => {
                let scale = largest(gradient);
                near(name, &together.tensors[&format!("grad.{name}")].data, gradient.iter().copied(), scale);
                let moved = values.data.iter().zip(gradient).map(|(w, g)| {
                    let w = f64::from(*w);
                    w - RATE * (g + DECAY * w)
                });
                near(name, &after.data, moved, scale.max(1.0));
            }
            None => assert_eq!(after.data, values.data, "{name}"),
        }
    }
    // Answers and statistics are the first path's.
    let first = taken(&paths[0], Update::default(), &start);
    assert_eq!((together.loss, together.accuracy), (first.loss, first.accuracy));
    let state = |outcome: &Outcome| {
        let own = outcome.tensors.iter().filter(|(name, _)| name.starts_with("state."));
        own.map(|(name, values)| (name.clone(), values.data.clone())).collect::<Vec<_>>()
    };
    assert_eq!(state(&together), state(&first));
    // In any order the average is the same but for rounding.
    let turned: Vec<u8> = paths.iter().rev().flatten().copied().collect();
    let turned = taken(&turned, Update { more_paths: 2, ..Update::default() }, &start);
    for (name, gradient) in &want {
        let values = turned.tensors[&format!("grad.{name}")].data.iter().map(|g| f64::from(*g));
        near(name, &together.tensors[&format!("grad.{name}")].data, values, largest(gradient));
    }
}

/// What training tells of a step counts all of its paths.
#[test]
fn losses_of_all_paths_are_summed() {
    let (gpu, preset, paths) = (common::gpu(), common::preset(), paths(3));
    let metrics = |paths: &[Vec<u8>]| {
        let update = Update { more_paths: paths.len() - 1, ..Update::default() };
        let graph = Arc::new(build(&small(), &options(Some(update))).unwrap().graph);
        let stores = Stores::new(gpu, &graph, 1).unwrap();
        stores.load(0, &weights(&small())).unwrap();
        let batch = batch();
        stores.set_batch(0, &batch["x"], &batch["y"], 10).unwrap();
        stores.set_rates(0, &Rates::default()).unwrap();
        let instance = Instance { graph, bindings: stores.bindings(0), path: paths.concat() };
        Plan::compile(gpu, vec![instance], preset).unwrap().submit();
        stores.take_metrics_wait().unwrap()[0]
    };
    let single: Vec<[f32; 4]> = paths.iter().map(|path| metrics(std::slice::from_ref(path))).collect();
    let sum = |i: usize| single.iter().map(|own| own[i]).sum::<f32>();
    let all = metrics(&paths);
    assert_eq!(all[1..], [sum(1), (3 * BATCH) as f32, 0.0]);
    assert!((all[0] / sum(0) - 1.0).abs() < 1e-6, "{all:?} {single:?}");
}

/// SAM climbs along the average, and learns from what all paths say up there.
#[test]
fn sam_climbs_along_the_average() {
    let (paths, start) = (paths(3), weights(&small()));
    let sam = Update { optimizer: Optimizer::Sam, more_paths: 2, ..Update::default() };
    let together = taken(&paths.concat(), sam, &start);
    let below = averaged(&paths, &start);
    let norm = below.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let mut above = start.clone();
    for (name, gradient) in &below {
        let climbed: Vec<f64> =
            start[name].data.iter().zip(gradient).map(|(w, g)| f64::from(*w) + RHO * g / norm).collect();
        near(name, &together.tensors[&format!("ascended.{name}")].data, climbed.iter().copied(), 1.0);
        above.get_mut(name).unwrap().data = together.tensors[&format!("ascended.{name}")].data.clone();
    }
    let up = averaged(&paths, &above);
    for (name, gradient) in &up {
        near(name, &together.tensors[&format!("grad.{name}")].data, gradient.iter().copied(), largest(gradient));
    }
}

/// Where weights off the path move too, those that no path uses decay.
#[test]
fn all_weights_move_where_that_is_asked_for() {
    let (paths, start) = (paths(2), weights(&small()));
    let update = Update { more_paths: 1, touch_all: true, ..Update::default() };
    let together = taken(&paths.concat(), update, &start);
    let used = averaged(&paths, &start);
    let idle = start.iter().filter(|(name, _)| !used.contains_key(*name));
    let mut seen = 0;
    for (name, values) in idle {
        let Some(after) = together.tensors.get(&format!("param.{name}")) else { continue };
        near(name, &after.data, values.data.iter().map(|w| f64::from(*w) * (1.0 - RATE * DECAY)), 1.0);
        seen += usize::from(name.ends_with("weight"));
    }
    assert!(seen > 0);
}

/// Paths of a step run side by side.
#[test]
fn several_paths_need_hardly_more_dispatches_than_one() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let dispatches = |model: &dyn Model, paths: &[Vec<u8>]| {
        let update = Update { clip: true, more_paths: paths.len() - 1, ..Update::default() };
        let options = StepOptions { gradients: false, ..options(Some(update)) };
        let graph = Arc::new(build(model, &options).unwrap().graph);
        let stores = Stores::new(gpu, &graph, 1).unwrap();
        let instance = Instance { graph, bindings: stores.bindings(0), path: paths.concat() };
        Plan::compile(gpu, vec![instance], preset).unwrap().dispatches()
    };
    let cells = darts::Supernet { sizes: darts::Sizes::of_supernet([4, 3], [8, 8, 3], 10) };
    let (space, mut draw): (&dyn Space, _) = (&Darts, Stream::new(3, 1, 5));
    let of_darts: Vec<_> = (0..4).map(|_| cells.path(&space.sample(&mut draw).unwrap()).unwrap()).collect();
    let both: [(&str, &dyn Model, Vec<Vec<u8>>); 2] =
        [("NAS-Bench-201", &small(), paths(4)), ("DARTS", &cells, of_darts)];
    for (name, model, paths) in both {
        let single: Vec<usize> = paths.iter().map(|path| dispatches(model, std::slice::from_ref(path))).collect();
        let all = dispatches(model, &paths);
        println!("{name}: {all} dispatches for four paths, {single:?} alone");
        assert!(all as f64 <= 1.55 * *single.iter().max().unwrap() as f64, "{name}: {all}, {single:?}");
    }
}

/// Options that exclude each other lie at one place, so a plan runs one of each choice.
#[test]
fn a_plan_takes_one_option_of_each_choice() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let graph = Arc::new(build(&small(), &options(None)).unwrap().graph);
    let stores = Stores::new(gpu, &graph, 1).unwrap();
    for path in [vec![], vec![0; graph.choices.len() - 1], vec![9; graph.choices.len()]] {
        let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path };
        let why = Plan::compile(gpu, vec![instance], preset).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("path"), "{why}");
    }
}

#[test]
fn what_has_no_choices_has_one_path() {
    let sizes = small().sizes;
    let network = altiplano::nn::nas_bench_201::Network::new(Cell::from_index(77).unwrap(), sizes);
    let update = Update { more_paths: 1, ..Update::default() };
    let error = build(&network, &options(Some(update))).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("paths") && error.contains("no choices"), "{error}");
}

/// A supernet whose second choice, or whose weights, are others on each path.
struct Fickle {
    names_choices: bool,
    passes: std::sync::atomic::AtomicUsize,
}

impl Model for Fickle {
    fn input(&self) -> [usize; 3] {
        [8, 8, 3]
    }

    fn classes(&self) -> usize {
        10
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
        let pass = self.passes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        layers.choice("first", 2);
        let name = if self.names_choices { format!("stem{pass}") } else { "stem".into() };
        if !self.names_choices {
            layers.builder.choice(2);
        }
        let map = layers.conv(&name, x, 4, Geometry::square(3, 1, 1))?;
        let pooled = layers.builder.global_avg_pool(map.into());
        Ok(layers.linear("classifier", pooled, 10)?.into())
    }
}

#[test]
fn supernets_are_the_same_on_all_paths() {
    for names_choices in [false, true] {
        let model = Fickle { names_choices, passes: 0.into() };
        let update = Update { more_paths: 1, ..Update::default() };
        let error = build(&model, &options(Some(update))).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("on another path"), "{error}");
    }
}
