//! Gradients of whole networks: against the f64 reference, and against finite differences of its loss.

use std::sync::Arc;

use altiplano::error::Result;
use altiplano::gpu::Gpu;
use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::{Geometry, Graph, Role, Statistics, TensorId, View, Window};
use altiplano::kernels::Preset;
use altiplano::nn::tensors::{Named, Values, fresh, to_logical};
use altiplano::nn::{Heads, Layers, Model};
use altiplano::philox::Stream;
use altiplano::reference::{Memory, run};
use altiplano::train::step::{Rates, Step, StepOptions, Update, build};
use altiplano::train::stores::Stores;

/// Every differentiable operation in mid-graph.
pub struct Mixed;

impl Model for Mixed {
    fn input(&self) -> [usize; 3] {
        [9, 11, 3]
    }

    fn classes(&self) -> usize {
        5
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let y = layers.conv("stem", x, 6, Geometry::square(3, 1, 1))?;
        let y = layers.batch_norm("stem_norm", y, true)?;
        let y = layers.builder.relu(y);
        let depthwise = Geometry { groups: 6, ..Geometry::square(3, 2, 1) };
        let a = layers.conv("depthwise", y, 6, depthwise)?;
        let a = layers.batch_norm("depthwise_norm", a, false)?;
        let window = |stride, count_include_pad| Window { kernel: 3, stride, padding: 1, count_include_pad };
        let b = layers.builder.avg_pool("average", y, window(2, false))?;
        let c = layers.builder.max_pool("maximum", y, window(2, false))?;
        let shape = layers.builder.shape(c);
        let terms = [a, b, c.into()].map(|value| layers.path(value)).map(|value| layers.builder.term(value)).into();
        let sum = layers.builder.sum(shape, terms);
        let grouped = Geometry { groups: 3, ..Geometry { dilation: 2, ..Geometry::square(3, 1, 2) } };
        let y = layers.relu_conv_norm("block", sum.into(), 9, grouped)?;
        let y = layers.builder.materialise(y);
        let y = layers.builder.global_avg_pool(altiplano::graph::Value { tensor: y, view: View::Relu });
        Ok(layers.linear("head", y, 5)?.into())
    }
}

/// Hard swishes, behind norms and not, and squeeze and excitation.
pub struct Bent;

impl Model for Bent {
    fn input(&self) -> [usize; 3] {
        [7, 8, 3]
    }

    fn classes(&self) -> usize {
        5
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let one = Geometry::square(1, 1, 0);
        let y = layers.conv("stem", x, 6, Geometry::square(3, 1, 1))?;
        let y = layers.batch_norm("stem_norm", y, true)?;
        let y = layers.builder.hard_swish(y);
        let y = layers.conv("depthwise", y, 6, Geometry { groups: 6, ..Geometry::square(5, 2, 2) })?;
        let y = layers.batch_norm("depthwise_norm", y, false)?;
        let y = layers.builder.hard_swish(y);
        let y = layers.builder.materialise(y);
        let means = layers.builder.global_avg_pool(y.into());
        let gates = layers.conv_with("gates", means.into(), 6, one, true)?;
        let gated = layers.builder.gated_by("gates", y.into(), gates)?;
        let y = layers.conv("mix", gated, 10, one)?;
        let y = layers.builder.hard_swish(y.into());
        let y = layers.builder.global_avg_pool(y);
        Ok(layers.linear("head", y, 5)?.into())
    }
}

/// Fills the reference's memory with everything that lives in stores.
fn memory(graph: &Graph, named: &Named, rates: &Rates) -> Memory {
    let mut memory = Memory::new(graph);
    for group in [Role::Weights, Role::Running, Role::Batch] {
        for (id, info) in graph.persistent(group) {
            let values = to_logical(graph.shape(id), &named[&info.name].data);
            memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
        }
    }
    for (id, _) in graph.persistent(Role::Hyper) {
        let value = |(i, word): (usize, u32)| if i < 8 { f64::from(f32::from_bits(word)) } else { f64::from(word) };
        memory.set(id, rates.words().into_iter().enumerate().map(value).collect()).unwrap();
    }
    memory
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Gradients of `model` on the GPU: each tensor within 1e-4 of the reference in norm, and some of its values within
/// 1e-3 of central differences of the reference's loss.
pub fn check(gpu: &Gpu, preset: Preset, model: &dyn Model, path: &[u8], statistics: Statistics) {
    check_step(gpu, preset, model, path, statistics, 0.0);
}

/// The same where paths are dropped, in a step that moves no weight.
pub fn check_dropped(gpu: &Gpu, preset: Preset, model: &dyn Model, statistics: Statistics, probability: f64) {
    check_step(gpu, preset, model, &[], statistics, probability);
}

fn check_step(gpu: &Gpu, preset: Preset, model: &dyn Model, path: &[u8], statistics: Statistics, drop_path: f64) {
    let batch = 6;
    let update = (drop_path > 0.0).then(|| Update { drop_path: true, ..Update::default() });
    let options = StepOptions { batch, statistics, smoothing: 0.1, update, gradients: true };
    let mut step: Step = build(model, &options).unwrap();
    step.probe_all();
    let graph = Arc::new(step.graph.clone());
    let stores = Stores::new(gpu, &graph, 1).unwrap();
    let rates = Rates { statistics_momentum: 0.1, ..Rates::default() };
    let rates = Rates { drop_path, seed: 1 << 40 | 9, draw: 2, ..rates };
    let mut named = fresh(stores.of(Role::Weights).unwrap().contents(), 11);
    let mut stream = Stream::new(5, 6, 7);
    // Scales and shifts of a fresh network are all alike, and so hide mistakes.
    for values in named.values_mut().filter(|v| v.dims.len() == 1) {
        values.data.iter_mut().for_each(|v| *v += 0.3 * stream.normal() as f32);
    }
    if let Ok(running) = stores.of(Role::Running) {
        named.extend(fresh(running.contents(), 11));
    }
    let [h, w, c] = model.input();
    let x = (0..batch * h * w * c).map(|_| stream.normal() as f32).collect();
    let y = (0..batch).map(|_| stream.below(model.classes() as u64) as f32).collect();
    named.insert("x".into(), Values { dims: vec![batch, c, h, w], data: x });
    named.insert("y".into(), Values { dims: vec![batch], data: y });
    stores.load(0, &named).unwrap();
    stores.set_batch(0, &named["x"], &named["y"], model.classes()).unwrap();
    stores.set_rates(0, &rates).unwrap();
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: path.to_vec() };
    let plan = Plan::compile(gpu, vec![instance], preset).unwrap();
    plan.submit();
    gpu.wait().unwrap();

    let start = memory(&graph, &named, &rates);
    let mut after = start.clone();
    run(&graph, path, &mut after).unwrap();
    let gradients: Vec<_> =
        step.gradients.iter().filter(|(_, g)| graph_runs(&graph, path, *g)).map(|(n, g)| (n.as_str(), *g)).collect();
    assert!(gradients.len() > 5);
    let whole = norm(gradients.iter().flat_map(|(_, g)| after.get(*g).iter().copied()));
    let loss = f64::from(plan.read_wait(0, step.mean).unwrap()[0]);
    assert!((loss / after.get(step.mean)[0] - 1.0).abs() < 1e-5, "loss {loss}, not {}", after.get(step.mean)[0]);
    let mut differences = 0;
    for (name, gradient) in gradients {
        let got: Vec<f64> = plan.read_wait(0, gradient).unwrap().into_iter().map(f64::from).collect();
        let want = after.get(gradient);
        let (error, size) = (norm(got.iter().zip(want).map(|(a, b)| a - b)), norm(want.iter().copied()));
        assert!(error <= 1e-4 * size + 1e-6 * whole, "{name}: relative distance {:.1e}", error / size);
        // Three values per tensor.
        let weights = graph.persistent(Role::Weights).find(|(_, info)| info.name == name).unwrap().0;
        for _ in 0..3 {
            let at = stream.below(want.len() as u64) as usize;
            let shifted = |delta: f64| {
                let mut memory = start.clone();
                let mut values = memory.get(weights).to_vec();
                values[at] += delta;
                memory.set(weights, values).unwrap();
                run(&graph, path, &mut memory).unwrap();
                memory.get(step.mean)[0]
            };
            // Where a rectifier or a maximum switches in between, the slopes on both sides differ: take a smaller step.
            let middle = shifted(0.0);
            let sides = |delta: f64| ((shifted(delta) - middle) / delta, (middle - shifted(-delta)) / delta);
            let smooth = |(right, left): (f64, f64)| (right - left).abs() <= 1e-4 * size / (want.len() as f64).sqrt();
            let delta = [1e-5, 1e-6, 1e-7].into_iter().find(|delta| smooth(sides(*delta))).unwrap_or(1e-7);
            let slope = (shifted(delta) - shifted(-delta)) / (2.0 * delta);
            let allowed = 1e-3 * (slope.abs() + size / (want.len() as f64).sqrt()) + 1e-6 * whole;
            assert!((got[at] - slope).abs() <= allowed, "{name}[{at}]: {:e}, but the loss rises by {slope:e}", got[at]);
            differences += 1;
        }
    }
    println!("{differences} finite differences agree");
}

/// Whether something on the path writes the tensor.
fn graph_runs(graph: &Graph, path: &[u8], tensor: TensorId) -> bool {
    graph.nodes.iter().any(|node| node.guard.active(path) && node.op.operands().1.contains(&tensor))
}

/// Products of `model`'s Hessian with its own gradient on the GPU: each tensor near the f64 reference in norm, and the
/// reference near central differences of the gradient. All of it is at least so long.
pub fn check_hessian(gpu: &Gpu, preset: Preset, model: &dyn Model, statistics: Statistics, least: f64) {
    let batch = 6;
    let mut layers = Layers::new(statistics).unwrap();
    let (x, y) = layers.batch(batch, model.input()).unwrap();
    let logits = model.forward(&mut layers, x).unwrap().logits;
    let weights: Vec<TensorId> = layers.anatomy.layers.iter().map(|l| l.weight).collect();
    let b = &mut layers.builder;
    let loss = b.cross_entropy(logits, y, 0.1, true, false).unwrap();
    let gradients = b.backward(&[(logits, loss.dlogits.unwrap())], &weights).unwrap();
    let first: Vec<TensorId> = weights.iter().map(|&w| gradients.get(w).unwrap()).collect();
    let outputs: Vec<_> = first.iter().map(|&g| (g, g)).collect();
    let gradients = b.backward(&outputs, &weights).unwrap();
    let second: Vec<TensorId> = weights.iter().map(|&w| gradients.get(w).unwrap()).collect();
    for tensor in b.graph().ids() {
        b.probe(tensor, &format!("{}", tensor.0));
    }
    let graph = Arc::new(layers.builder.finish());

    let stores = Stores::new(gpu, &graph, 1).unwrap();
    let rates = Rates::default();
    let mut named = fresh(stores.of(Role::Weights).unwrap().contents(), 11);
    let mut stream = Stream::new(5, 6, 8);
    for values in named.values_mut().filter(|v| v.dims.len() == 1) {
        values.data.iter_mut().for_each(|v| *v += 0.3 * stream.normal() as f32);
    }
    if let Ok(running) = stores.of(Role::Running) {
        named.extend(fresh(running.contents(), 11));
    }
    let [h, w, c] = model.input();
    let images = (0..batch * h * w * c).map(|_| stream.normal() as f32).collect();
    let labels = (0..batch).map(|_| stream.below(model.classes() as u64) as f32).collect();
    named.insert("x".into(), Values { dims: vec![batch, c, h, w], data: images });
    named.insert("y".into(), Values { dims: vec![batch], data: labels });
    stores.load(0, &named).unwrap();
    stores.set_batch(0, &named["x"], &named["y"], model.classes()).unwrap();
    stores.set_rates(0, &rates).unwrap();
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
    let plan = Plan::compile(gpu, vec![instance], preset).unwrap();
    plan.submit();
    gpu.wait().unwrap();

    let start = memory(&graph, &named, &rates);
    let mut middle = start.clone();
    run(&graph, &[], &mut middle).unwrap();
    // Gradients of the reference at weights moved along the gradient.
    let moved = |by: f64| {
        let mut memory = start.clone();
        for (&w, &g) in weights.iter().zip(&first) {
            let values = start.get(w).iter().zip(middle.get(g)).map(|(w, g)| w + by * g).collect();
            memory.set(w, values).unwrap();
        }
        run(&graph, &[], &mut memory).unwrap();
        memory
    };
    // Where a rectifier switches in between, the slopes on both sides differ: take a smaller step.
    let values = |memory: &Memory| -> Vec<f64> { first.iter().flat_map(|&g| memory.get(g).to_vec()).collect() };
    let centre = values(&middle);
    let slopes = |step: f64| {
        let (above, below) = (values(&moved(step)), values(&moved(-step)));
        let right: Vec<f64> = above.iter().zip(&centre).map(|(a, b)| (a - b) / step).collect();
        let left: Vec<f64> = centre.iter().zip(&below).map(|(a, b)| (a - b) / step).collect();
        let gap = norm(right.iter().zip(&left).map(|(a, b)| a - b)) / norm(right.iter().copied());
        (gap < 1e-3).then(|| right.iter().zip(&left).map(|(a, b)| (a + b) / 2.0).collect::<Vec<f64>>())
    };
    let slopes = [1e-6, 1e-7, 1e-8, 1e-9].into_iter().find_map(slopes).expect("a step without a kink");
    let mut slopes = slopes.into_iter();
    let whole = norm(second.iter().flat_map(|&h| middle.get(h).iter().copied()));
    assert!(whole > least, "{whole:e}");
    for (layer, &h) in layers.anatomy.layers.iter().zip(&second) {
        let want = middle.get(h);
        let size = norm(want.iter().copied());
        let off = norm(want.iter().map(|h| slopes.next().unwrap() - h));
        assert!(off <= 1e-4 * size + 1e-6 * whole, "{}: {off:.1e} of {size:.1e} from differences", layer.name);
        let got = plan.read_wait(0, h).unwrap();
        let error = norm(got.iter().zip(want).map(|(got, want)| f64::from(*got) - want));
        assert!(error <= 1e-4 * size + 1e-6 * whole, "{}: {error:.1e} of {size:.1e} from f64", layer.name);
    }
}

/// One weight of each layer in turn is no number: the loss is none either, and counts as wild.
pub fn check_lost_weights(gpu: &Gpu, preset: Preset, model: &dyn Model, statistics: Statistics) {
    let batch = 6;
    let options = StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients: false };
    let step: Step = build(model, &options).unwrap();
    let graph = Arc::new(step.graph.clone());
    let stores = Stores::new(gpu, &graph, 1).unwrap();
    let contents = stores.of(Role::Weights).unwrap().contents().clone();
    let mut named = fresh(&contents, 11);
    if let Ok(running) = stores.of(Role::Running) {
        named.extend(fresh(running.contents(), 11));
    }
    let mut stream = Stream::new(5, 6, 9);
    let [h, w, c] = model.input();
    let images = (0..batch * h * w * c).map(|_| stream.normal() as f32).collect();
    let labels = (0..batch).map(|_| stream.below(model.classes() as u64) as f32).collect();
    stores.set_rates(0, &Rates::default()).unwrap();
    let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
    let plan = Plan::compile(gpu, vec![instance], preset).unwrap();
    let (images, labels) =
        (Values { dims: vec![batch, c, h, w], data: images }, Values { dims: vec![batch], data: labels });
    stores.set_batch(0, &images, &labels, model.classes()).unwrap();
    let weights = stores.of(Role::Weights).unwrap();
    // Files with such weights are refused, so they are written past the checks.
    let run = |lost: Option<(&str, u32)>| {
        stores.load(0, &named).unwrap();
        if let Some((name, bits)) = lost {
            let (slab, offset) = weights.place(0, name).unwrap();
            let shape = contents.entries[name].shape;
            let word = shape.storage_indices().nth(shape.len() / 2).unwrap() as u64;
            gpu.write(&slab, offset * 16 + word * 4, bytemuck::bytes_of(&bits)).unwrap();
        }
        plan.submit();
        stores.take_metrics_wait().unwrap()[0]
    };
    let sound = run(None);
    assert!(sound[0].is_finite() && sound[3] == 0.0, "{sound:?}");
    for name in contents.entries.keys() {
        // With and without a sign: what adds infinities gives NaNs with one on some processors, and without on others.
        for bits in [0x7fc0_0000, 0xffc0_0000] {
            let metrics = run(Some((name, bits)));
            assert!(metrics[0].is_nan() && metrics[3] == 1.0, "{name}: {metrics:?}");
        }
    }
}
