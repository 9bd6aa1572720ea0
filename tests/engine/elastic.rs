//! The supernet of the elastic space: each of its paths is the network that is cut out of its weights, forward and backward.

use std::collections::BTreeMap;

use altiplano::graph::store::Contents;
use altiplano::graph::{Builder, Geometry, Graph, Op, Role, Shape, Statistics, TensorId};
use altiplano::nn::space::{Build, Family, Options, Registry};
use altiplano::nn::tensors::{Named, Values, fresh, to_logical};
use altiplano::nn::{Model, trained_graph};
use altiplano::philox::Stream;
use altiplano::reference::{Memory, run};
use altiplano::space::Arch;
use altiplano::train::single::run_path;
use altiplano::train::step::{Optimizer, Rates, Step, StepOptions, Update, build};

use crate::common;

const SIDE: usize = 64;
const BATCH: usize = 4;
const CLASSES: usize = 5;

fn family() -> Family {
    family_of(SIDE, SIDE)
}

/// Networks of two sides and of those between, in steps of eight.
fn family_of(smallest: usize, side: usize) -> Family {
    let mut options = Options::new();
    options.insert("smallest".into(), (smallest as i64).into());
    options.insert("step".into(), 8.into());
    options.insert("width".into(), 0.1.into());
    let build = Build { form: "ofa".into(), image: [side; 2], in_channels: 2, classes: CLASSES, options };
    Registry::default().open("mobilenet-v3", build).unwrap()
}

/// Weights in which nothing is special: norms of all scales and shifts, matrices that mix.
fn weights(model: &dyn Model) -> Named {
    let contents = Contents::of(&trained_graph(model).unwrap(), &[Role::Weights, Role::Running]).unwrap();
    let (mut named, mut stream) = (fresh(&contents, 4), Stream::new(8, 1, 0));
    for (name, values) in &mut named {
        let (spread, positive) = match name {
            name if name.ends_with("_matrix") => (0.2, false),
            name if name.ends_with("running_var") => (0.5, true),
            name if name.contains("bn.") => (0.3, false),
            _ => continue,
        };
        for value in &mut values.data {
            let moved = *value + spread * stream.normal() as f32;
            *value = if positive { moved.abs() + 0.1 } else { moved };
        }
    }
    named
}

fn batch() -> Named {
    let mut stream = Stream::new(2, 1, 2);
    let mut images = |side: usize| {
        let data = (0..BATCH * 2 * side * side).map(|_| stream.normal() as f32).collect();
        Values { dims: vec![BATCH, 2, side, side], data }
    };
    let own = [("x", SIDE), ("x.48x48", 48), ("x.56x56", 56)].map(|(name, side)| (name.to_owned(), images(side)));
    let labels = (0..BATCH).map(|_| stream.below(CLASSES as u64) as f32).collect();
    own.into_iter().chain([("y".to_owned(), Values { dims: vec![BATCH], data: labels })]).collect()
}

fn options(statistics: Statistics, update: Option<Update>) -> StepOptions {
    StepOptions { batch: BATCH, statistics, smoothing: 0.1, update, gradients: true }
}

/// The architectures of both ends and some between, the first one with a layer fewer in each stage than the second.
fn architectures(family: &Family) -> Vec<Arch> {
    let all = |gene: u8| -> Arch { family.genes().iter().map(|own| gene.min(own.options - 1)).collect() };
    let mut draw = Stream::new(3, 1, 4);
    let drawn = (0..3).map(|_| family.sample(&mut draw).unwrap());
    [all(2), all(0), all(1)].into_iter().chain(drawn).collect()
}

/// A step in f64.
struct Double {
    step: Step,
    memory: Memory,
}

impl Double {
    fn new(model: &dyn Model, options: &StepOptions, named: &Named) -> Self {
        Double::on(model, options, named, &batch())
    }

    fn on(model: &dyn Model, options: &StepOptions, named: &Named, batch: &Named) -> Self {
        let step = build(model, options).unwrap();
        let mut memory = Memory::new(&step.graph);
        for role in [Role::Weights, Role::Running, Role::Batch] {
            for (id, info) in step.graph.persistent(role) {
                let torch = &named.get(&info.name).or_else(|| batch.get(&info.name)).unwrap().data;
                let values = to_logical(step.graph.shape(id), torch);
                memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
            }
        }
        let hyper = step.graph.persistent(Role::Hyper).next().unwrap().0;
        let mut words = vec![0.0; 12];
        words[altiplano::graph::hyper::STATISTICS_MOMENTUM] = 0.25;
        words[altiplano::graph::hyper::RHO] = 0.05;
        memory.set(hyper, words).unwrap();
        Double { step, memory }
    }

    fn run(mut self, path: &[u8]) -> Self {
        run(&self.step.graph, path, &mut self.memory).unwrap();
        self
    }

    fn get(&self, tensor: TensorId) -> &[f64] {
        self.memory.get(tensor)
    }
}

fn persistent(graph: &Graph, role: Role, name: &str) -> TensorId {
    graph.persistent(role).find(|(_, info)| info.name == name).unwrap_or_else(|| panic!("{name}")).0
}

#[track_caller]
fn near(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3, |most: f64, value| most.max(value.abs()));
    let most = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
    assert!(most <= tolerance * scale, "{what}: {most} of {scale}");
}

/// In f64, with the batch's own statistics and with running ones; what is cut is rounded to f32.
#[test]
fn paths_are_the_networks_that_are_cut_out() {
    let family = family();
    let supernet = family.supernet().unwrap().unwrap();
    let named = weights(&*supernet);
    for arch in architectures(&family) {
        let path = supernet.path(&arch).unwrap();
        let network = family.network(&arch).unwrap();
        let own = family.cut(&named, &arch).unwrap().unwrap();
        for statistics in [Statistics::Batch { update: true }, Statistics::Running] {
            let options = options(statistics, None);
            let whole = Double::new(&*supernet, &options, &named).run(&path);
            let part = Double::new(&*network, &options, &own).run(&[]);
            let name = family.show(&arch);
            near(&name, whole.get(whole.step.logits), part.get(part.step.logits), 1e-5);
            near(&name, whole.get(whole.step.mean), part.get(part.step.mean), 1e-5);
            // What is not elastic has the same gradients, and the same statistics.
            for layer in
                ["first_conv.conv", "blocks.0.conv.depth_conv.conv", "feature_mix_layer.conv", "classifier.linear"]
            {
                let gradient = |step: &Double| {
                    let of = |(own, tensor): &(String, TensorId)| {
                        (*own == format!("{layer}.weight")).then(|| step.get(*tensor).to_vec())
                    };
                    step.step.gradients.iter().find_map(of).unwrap()
                };
                near(&format!("{name} {layer}"), &gradient(&whole), &gradient(&part), 1e-5);
            }
            let last = "final_expand_layer.bn.running_var";
            let state = |step: &Double| step.get(persistent(&step.step.graph, Role::Running, last)).to_vec();
            near(last, &state(&whole), &state(&part), 1e-5);
        }
    }
}

/// A part of a filter is some of its first inputs and outputs, in multiples of four.
#[test]
fn parts_that_a_filter_does_not_have_are_refused() {
    let part = |channels: usize, (c, outputs): (usize, usize), k: usize, size: usize| {
        let mut builder = Builder::new();
        let x = builder.temporary(Shape::map(1, 6, 6, channels));
        let w = builder.temporary(Shape::Filter { r: 3, s: 3, c, k: outputs, groups: 1 });
        builder.part_of_conv("layer", x.into(), w, None, (k, Geometry::square(size, 1, size / 2)))
    };
    assert!(part(8, (12, 16), 4, 3).is_ok() && part(5, (5, 7), 7, 3).is_ok());
    for (channels, filter, k, size, expected) in [
        (16, (12, 16), 4, 3, "a filter of 16 to 4 channels or more"),
        (8, (12, 16), 20, 3, "a filter of 8 to 20 channels or more"),
        (8, (12, 16), 6, 3, "multiples of four channels"),
        (6, (12, 16), 8, 3, "multiples of four channels"),
        (8, (12, 16), 4, 5, "a filter for"),
    ] {
        let error = part(channels, filter, k, size).unwrap_err().to_string();
        assert!(error.contains("layer") && error.contains(expected), "{error}");
    }
}

/// The statistics of the first channels move, and those of the others stay.
#[test]
fn statistics_of_what_is_not_there_stay() {
    let family = family();
    let supernet = family.supernet().unwrap().unwrap();
    let named = weights(&*supernet);
    let arch = &architectures(&family)[1];
    let options = options(Statistics::Batch { update: true }, None);
    let whole = Double::new(&*supernet, &options, &named).run(&supernet.path(arch).unwrap());
    let own = family.cut(&named, arch).unwrap().unwrap();
    let part = Double::new(&*family.network(arch).unwrap(), &options, &own).run(&[]);
    let state = |step: &Double, name: &str| step.get(persistent(&step.step.graph, Role::Running, name)).to_vec();
    let name = |inner: &str| format!("blocks.1.conv.depth_conv.{inner}running_mean");
    let (moved, narrow) = (state(&whole, &name("bn.bn.")), state(&part, &name("bn.")));
    let before: Vec<f64> = named[&name("bn.bn.")].data.iter().map(|v| f64::from(*v)).collect();
    let channels = narrow.len();
    assert!(channels < moved.len(), "{channels} of {}", moved.len());
    near("of the first", &moved[..channels], &narrow, 1e-5);
    assert!(moved[..channels] != before[..channels] && moved[channels..] == before[channels..]);
    // Layers that are not there have none.
    let absent = "blocks.4.conv.depth_conv.bn.bn.running_mean";
    let values: Vec<f64> = named[absent].data.iter().map(|v| f64::from(*v)).collect();
    assert_eq!(state(&whole, absent), values);
}

/// Gradients of all kinds of weights, by differences in f64: matrices, wide layers, excitations, norms.
#[test]
fn gradients_are_those_of_the_loss() {
    let family = family();
    let supernet = family.supernet().unwrap().unwrap();
    let named = weights(&*supernet);
    let options = options(Statistics::Batch { update: false }, None);
    let double = Double::new(&*supernet, &options, &named);
    // Smaller kernels and narrower layers, and one that is as large as can be.
    let mut path = supernet.path(&architectures(&family)[1]).unwrap();
    (path[1], path[4], path[5]) = (8, 4, 3);
    let after = Double { step: build(&*supernet, &options).unwrap(), memory: double.memory.clone() }.run(&path);
    let loss = |memory: Memory| {
        let moved = Double { step: build(&*supernet, &options).unwrap(), memory }.run(&path);
        moved.get(moved.step.mean)[0]
    };
    let mut stream = Stream::new(5, 1, 0);
    for name in [
        "blocks.1.conv.depth_conv.conv.7to5_matrix",
        "blocks.1.conv.depth_conv.conv.5to3_matrix",
        "blocks.1.conv.depth_conv.conv.conv.weight",
        "blocks.1.conv.inverted_bottleneck.conv.conv.weight",
        "blocks.1.conv.inverted_bottleneck.bn.bn.weight",
        "blocks.1.conv.point_linear.conv.conv.weight",
        "blocks.2.conv.depth_conv.conv.conv.weight",
        "blocks.5.conv.depth_conv.conv.7to5_matrix",
        "blocks.5.conv.depth_conv.se.fc.reduce.weight",
        "blocks.5.conv.depth_conv.se.fc.reduce.bias",
        "blocks.5.conv.depth_conv.se.fc.expand.weight",
        "blocks.5.conv.depth_conv.bn.bn.bias",
        "blocks.18.conv.depth_conv.conv.5to3_matrix",
        "blocks.18.conv.depth_conv.se.fc.expand.bias",
    ] {
        let weight = persistent(&after.step.graph, Role::Weights, name);
        let gradient = after.step.gradients.iter().find(|(own, _)| own == name).unwrap().1;
        let gradient = after.get(gradient);
        let direction: Vec<f64> = gradient.iter().map(|_| stream.normal()).collect();
        let along = |step: f64| {
            let mut memory = double.memory.clone();
            let moved = memory.get(weight).iter().zip(&direction).map(|(w, d)| w + step * d).collect();
            memory.set(weight, moved).unwrap();
            loss(memory)
        };
        const STEP: f64 = 1e-8;
        let want = (along(STEP) - along(-STEP)) / (2.0 * STEP);
        let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-3), "{name}: {got}, by differences {want}");
        assert!(got.abs() > 1e-9, "{name}: {got}");
    }
}

/// Paths that see images of several sizes: their gradients are averaged, each as if it were the only path, and saw the only size.
#[test]
fn paths_may_see_images_of_several_sizes() {
    let family = family_of(48, SIDE);
    let supernet = family.supernet().unwrap().unwrap();
    assert_eq!(supernet.sizes(1), [[64, 64, 2]]);
    let sides = |paths: usize| supernet.sizes(paths).iter().map(|size| size[0]).collect::<Vec<_>>();
    assert_eq!((sides(2), sides(3), sides(5)), (vec![64, 48], vec![64, 48, 56], vec![64, 48, 48, 56, 56]));
    let (named, archs, batch) = (weights(&*supernet), architectures(&family), batch());
    let options = |more_paths: usize, optimizer: Optimizer| {
        options(Statistics::Batch { update: true }, Some(Update { optimizer, more_paths, ..Update::default() }))
    };
    let paths = [3, 1, 4, 2, 5].map(|own| supernet.path(&archs[own]).unwrap());
    // With SAM at the weights to which the average of all first gradients leads.
    for optimizer in [Optimizer::Sgd, Optimizer::Sam] {
        let whole = Double::on(&*supernet, &options(4, optimizer), &named, &batch).run(&paths.concat());
        let single = |(path, side): (&Vec<u8>, usize)| {
            let own = family_of(side, side).supernet().unwrap().unwrap();
            let name = if side == SIDE { "x".to_owned() } else { format!("x.{side}x{side}") };
            let images = Named::from([("x".to_owned(), batch[&name].clone()), ("y".to_owned(), batch["y"].clone())]);
            let mut single = Double::on(&*own, &options(0, Optimizer::Sgd), &named, &images);
            for (name, tensor) in &whole.step.ascended {
                let id = persistent(&single.step.graph, Role::Weights, name);
                single.memory.set(id, whole.get(*tensor).to_vec()).unwrap();
            }
            single.run(path)
        };
        let singles: Vec<Double> = paths.iter().zip([64, 48, 48, 56, 56]).map(single).collect();
        let mut compared = 0;
        for (name, tensor) in &whole.step.gradients {
            let of = |own: &Double| {
                let found = own.step.gradients.iter().find(|(other, _)| other == name).unwrap().1;
                own.get(found).to_vec()
            };
            let all: Vec<Vec<f64>> = singles.iter().map(of).collect();
            let mean: Vec<f64> = (0..all[0].len()).map(|i| all.iter().map(|own| own[i]).sum::<f64>() / 5.0).collect();
            // A fifth is a factor in f32.
            near(&format!("{optimizer} {name}"), whole.get(*tensor), &mean, 1e-7);
            compared += usize::from(mean.iter().any(|g| g.abs() > 1e-6));
        }
        assert!(compared > 200, "{compared}");
    }
    let moved = Some(Update { more_paths: 1, adversarial: 1, ..Update::default() });
    let moved = StepOptions { update: moved, ..options(1, Optimizer::Sgd) };
    assert!(build(&*supernet, &moved).is_err_and(|error| error.to_string().contains("--adversarial")));
}

/// A step of the largest, the smallest and another path, of which the first teaches the others, with and without an ascent, at one size and at
/// several: device against f64.
#[test]
fn a_sandwich_step_is_that_of_the_reference() {
    // Where an ascent has come to differs by roundings, and some rectifiers are on its other side.
    sandwich_step(&family(), &[(Optimizer::Sgd, 1e-3), (Optimizer::Sam, 5e-3)]);
    sandwich_step(&family_of(48, SIDE), &[(Optimizer::Sgd, 1e-3)]);
}

fn sandwich_step(family: &Family, optimizers: &[(Optimizer, f64)]) {
    let supernet = family.supernet().unwrap().unwrap();
    let named = weights(&*supernet);
    let archs = architectures(family);
    assert_eq!(supernet.extremes().unwrap(), [archs[0].clone(), archs[1].clone()]);
    let path = [0, 1, 3].map(|own| supernet.path(&archs[own]).unwrap()).concat();
    for &(optimizer, tolerance) in optimizers {
        let update = Update { optimizer, more_paths: 2, distilled: true, ..Update::default() };
        let options = options(Statistics::Batch { update: true }, Some(update));
        let want = Double::new(&*supernet, &options, &named).run(&path);
        let teachers = |node: &altiplano::graph::Node| match node.op {
            Op::CrossEntropy { teacher, .. } => Some(teacher),
            _ => None,
        };
        // In each pass the first network learns from labels, and what it answers is what the two others learn.
        let teachers: Vec<Option<TensorId>> = want.step.graph.nodes.iter().filter_map(teachers).collect();
        let passes = if optimizer == Optimizer::Sam { 2 } else { 1 };
        assert_eq!(teachers.len(), 3 * passes);
        assert!(teachers.chunks(3).all(|own| own[0].is_none() && own[1].is_some() && own[1] == own[2]), "{teachers:?}");
        assert_eq!(teachers[1], Some(want.step.logits));
        let rates = Rates { rho: 0.05, statistics_momentum: 0.25, clip: 1e9, ..Rates::default() };
        let (gpu, preset) = (common::gpu(), common::preset());
        let got = run_path(gpu, preset, (&*supernet, &path), &options, &rates, &named, &batch()).unwrap();
        let double = |values: &Values| values.data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        near("loss", &[f64::from(got.loss)], &want.get(want.step.mean)[..1], 1e-5);
        let mut seen = BTreeMap::new();
        for (name, tensor) in &want.step.gradients {
            let shape = want.step.graph.shape(*tensor);
            let gradient = altiplano::nn::tensors::to_torch(
                shape,
                &want.get(*tensor).iter().map(|g| *g as f32).collect::<Vec<_>>(),
            );
            let gradient: Vec<f64> = gradient.into_iter().map(f64::from).collect();
            near(&format!("{optimizer} {name}"), &double(&got.tensors[&format!("grad.{name}")]), &gradient, tolerance);
            *seen.entry(gradient.iter().any(|g| g.abs() > 1e-6)).or_insert(0) += 1;
        }
        assert!(seen[&true] > 200, "{seen:?}");
    }
}
