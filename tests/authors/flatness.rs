//! Weight noise and loss profiles: against networks that PyTorch disturbed, and the noise of the device
//! against the reference interpreter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::store::{Contents, Store};
use altiplano::graph::{Builder, Init, NORMALS, Noise, Op, Role, Shape, Statistics, TensorId, hyper};
use altiplano::measure::flatness::flatnas_robustness;
use altiplano::measure::forward::Score;
use altiplano::measure::noise::{Perturbation, stream_of};
use altiplano::nn::nas_bench_201::Network;
use altiplano::nn::tensors::{Named, Values, to_torch};
use altiplano::philox::Stream;
use altiplano::reference::{self, Memory};
use altiplano::train::step::{StepOptions, build};
use altiplano::train::stores::Stores;
use serde_json::Value;

use crate::case::{json, network, norm, tensors};
use crate::common;

/// Relative distance of two tensors by their norms.
#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let difference: Vec<f32> = got.iter().zip(want).map(|(a, b)| a - b).collect();
    let error = norm(&difference) / norm(want).max(1e-30);
    assert!(error <= tolerance, "{what}: relative distance {error:.2e} > {tolerance:.0e}");
}

/// What `peers/flatness_torch.py` wrote, and the reference's cases where they are at hand.
fn cases() -> Vec<PathBuf> {
    let cases = common::golden_cases("flatness");
    assert!(!cases.is_empty(), "the repository's case is gone");
    cases
}

/// Logits, mean loss and accuracy of the case's network with each of the given weights, evaluated side by side.
fn evaluate(case: &Path, all: &[Named]) -> Vec<(Vec<f32>, Score)> {
    let (gpu, preset) = (common::gpu(), common::preset());
    let info = json(&case.join("case.json"));
    let batch = tensors(case, "batch");
    let dims = &batch["x"].dims;
    let (arch, sizes) = network(&info, dims);
    let model = Network::new(arch, sizes);
    let statistics = Statistics::Running;
    let options = StepOptions { batch: dims[0], statistics, smoothing: 0.0, update: None, gradients: false };
    let mut step = build(&model, &options).unwrap();
    step.probe_all();
    let graph = Arc::new(step.graph.clone());
    let mut results = vec![];
    for some in all.chunks(8) {
        // One batch for all, weights and statistics of each one's own.
        let shared = Store::new(gpu, Contents::of(&graph, &[Role::Batch]).unwrap(), 1, "batch").unwrap();
        let stores = Stores::new(gpu, &graph, some.len()).unwrap().with(Role::Batch, shared);
        stores.set_batch(0, &batch["x"], &batch["y"], sizes.classes).unwrap();
        let instance = |(copy, named): (usize, &Named)| {
            stores.load(copy, named).unwrap();
            Instance { graph: graph.clone(), bindings: stores.bindings(copy), path: vec![] }
        };
        let plan = Plan::compile(gpu, some.iter().enumerate().map(instance).collect(), preset).unwrap();
        plan.submit();
        for copy in 0..some.len() {
            let logits = to_torch(graph.shape(step.logits), &plan.read_wait(copy, step.logits).unwrap());
            let mean = plan.read_wait(copy, step.mean).unwrap();
            results.push((logits, Score { loss: f64::from(mean[0]), accuracy: f64::from(mean[1]) }));
        }
    }
    results
}

#[track_caller]
fn same_score(what: &str, got: Score, ce: &Value, percent: &Value) {
    let want = ce.as_f64().unwrap();
    assert!((got.loss / want - 1.0).abs() < 1e-4, "{what}: loss {} {want}", got.loss);
    assert_eq!(100.0 * got.accuracy, percent.as_f64().unwrap(), "{what}: accuracy");
}

/// `p + sigma (p z)` for every parameter of a draw, in `f32`; statistics stay.
fn disturbed(weights: &Named, noise: &Named, draw: usize, sigma: f32) -> Named {
    let mut copy = weights.clone();
    let mut count = 0;
    for (name, values) in &mut copy {
        let Some(z) = noise.get(&format!("z{draw}.{name}")) else { continue };
        assert_eq!(z.dims, values.dims, "{name}");
        values.data.iter_mut().zip(&z.data).for_each(|(p, z)| *p += sigma * (*p * z));
        count += 1;
    }
    assert_eq!(count, noise.keys().filter(|name| name.starts_with(&format!("z{draw}."))).count());
    assert!(count > 20);
    copy
}

#[test]
fn robustness_under_the_reference_s_noise() {
    for case in cases() {
        println!("{}", case.display());
        let (info, scalars) = (json(&case.join("case.json")), json(&case.join("scalars.json")));
        let (weights, noise, want) = (tensors(&case, "weights"), tensors(&case, "noise"), tensors(&case, "flatness"));
        let sigmas: Vec<f64> = info["sigmas"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        let draws = info["M"].as_u64().unwrap() as usize;
        let mut all = vec![weights.clone()];
        for sigma in &sigmas {
            all.extend((0..draws).map(|draw| disturbed(&weights, &noise, draw, *sigma as f32)));
        }
        let results = evaluate(&case, &all);
        let (base, clean) = &results[0];
        close("logits", base, &want["logits_base"].data, 1e-4);
        same_score("no noise", *clean, &scalars["base_ce"], &scalars["base_acc"]);
        for (sigma, own) in sigmas.iter().zip(results[1..].chunks(draws)) {
            let level = &scalars["R"][sigma.to_string()];
            for (draw, (logits, score)) in own.iter().enumerate() {
                let what = format!("sigma {sigma}, draw {draw}");
                close(&what, logits, &want[&format!("logits_sigma{sigma}_draw{draw}")].data, 1e-4);
                same_score(&what, *score, &level["ce_draws"][draw], &level["acc_draws"][draw]);
            }
            let scores: Vec<Score> = own.iter().map(|(_, score)| *score).collect();
            let (r, want) = (flatnas_robustness(*clean, &scores), level["R"].as_f64().unwrap());
            // Accuracies are multiples of 1/64; only the division by the number of draws rounds.
            assert!((r - want).abs() <= 1e-12 * want, "sigma {sigma}: R is {r}, the reference has {want}");
        }
    }
}

/// A direction with the norms of the weights' filters; vectors stay where they are.
fn normalised(weights: &Named, raw: &Named, prefix: &str) -> Named {
    let mut directions = Named::new();
    for (key, values) in raw {
        let Some(name) = key.strip_prefix(prefix) else { continue };
        let w = &weights[name];
        let mut data = vec![0.0; values.data.len()];
        if values.dims.len() > 1 {
            let length = values.data.len() / values.dims[0];
            for ((out, d), w) in data.chunks_mut(length).zip(values.data.chunks(length)).zip(w.data.chunks(length)) {
                let factor = norm(w) / (norm(d) + 1e-10);
                out.iter_mut().zip(d).for_each(|(out, d)| *out = (f64::from(*d) * factor) as f32);
            }
        }
        directions.insert(name.to_owned(), Values { dims: values.dims.clone(), data });
    }
    directions
}

#[test]
fn loss_along_normalised_directions() {
    for case in cases() {
        println!("{}", case.display());
        let scalars = json(&case.join("scalars.json"));
        let (weights, raw, want) =
            (tensors(&case, "weights"), tensors(&case, "directions_raw"), tensors(&case, "flatness"));
        let [dx, dy] = ["dx.", "dy."].map(|prefix| normalised(&weights, &raw, prefix));
        for (prefix, direction) in [("dx", &dx), ("dy", &dy)] {
            for (name, values) in direction {
                let samples = &want[&format!("sampled.norm_{prefix}.{name}")].data;
                let step = if samples.len() < values.data.len() { 4 * values.data.len().div_ceil(512) } else { 1 };
                let got: Vec<f32> = values.data.iter().step_by(step).copied().collect();
                close(&format!("{prefix} {name}"), &got, samples, 1e-5);
            }
        }
        let at = |alpha: f64, beta: f64| {
            let mut moved = weights.clone();
            for (name, values) in &mut moved {
                let (Some(dx), Some(dy)) = (dx.get(name), dy.get(name)) else { continue };
                for ((p, dx), dy) in values.data.iter_mut().zip(&dx.data).zip(&dy.data) {
                    *p += alpha as f32 * dx + beta as f32 * dy;
                }
            }
            moved
        };
        let mut points = vec![];
        for point in scalars["profile_1d_along_dx"].as_array().unwrap() {
            points.push((point["alpha"].as_f64().unwrap(), 0.0, point));
        }
        assert!(points.len() >= 5);
        let info = json(&case.join("case.json"));
        let grid = info["grid"].as_array().unwrap();
        for (i, row) in scalars["grid_2d[alpha_index(dx)][beta_index(dy)]"].as_array().unwrap().iter().enumerate() {
            for (j, point) in row.as_array().unwrap().iter().enumerate() {
                points.push((grid[i].as_f64().unwrap(), grid[j].as_f64().unwrap(), point));
            }
        }
        let moved: Vec<Named> = points.iter().map(|(alpha, beta, _)| at(*alpha, *beta)).collect();
        for ((alpha, beta, point), (_, score)) in points.iter().zip(evaluate(&case, &moved)) {
            same_score(&format!("alpha {alpha}, beta {beta}"), score, &point["ce"], &point["acc"]);
        }
    }
}

/// Weights of several shapes: last axes that need padding, input channels that need it, groups, and a large one.
const SHAPES: [(&str, Shape); 5] = [
    ("bias", Shape::vector(10)),
    ("depthwise", Shape::Filter { r: 3, s: 3, c: 1, k: 6, groups: 6 }),
    ("large", Shape::Filter { r: 3, s: 3, c: 64, k: 64, groups: 1 }),
    ("scalar", Shape::vector(1)),
    ("stem", Shape::Filter { r: 3, s: 3, c: 3, k: 10, groups: 1 }),
];
const DRAWS: usize = 4;
const SEED: u64 = 0x1234_5678_9ABC_DEF1;
/// Units in the last place of 1 by which a noise may differ: the numbers are equal to the bit, and a product of up to
/// 6.4 with the deviation or the weight may be rounded before the sum.
const ULPS: f64 = 4.0;

/// A store of weights, and its logical values by name.
fn source(value: impl Fn(&mut Stream) -> f32) -> (Store, Vec<Vec<f32>>) {
    let mut b = Builder::new();
    for (name, shape) in SHAPES {
        b.persistent(Role::Weights, name, shape, Init::Constant(0.0), &[shape.len()]).unwrap();
    }
    let contents = Contents::of(&b.finish(), &[Role::Weights]).unwrap();
    let mut stored = vec![0.0f32; contents.vec4s as usize * 4];
    let mut all = vec![];
    for (number, (name, shape)) in SHAPES.iter().enumerate() {
        let mut stream = Stream::new(5, 0x574E, number as u64);
        let values: Vec<f32> = (0..shape.len()).map(|_| value(&mut stream)).collect();
        let base = contents.entries[*name].offset as usize * 4;
        shape.storage_indices().zip(&values).for_each(|(i, v)| stored[base + i] = *v);
        all.push(values);
    }
    let store = Store::new(common::gpu(), contents, 1, "weights").unwrap();
    store.write(common::gpu(), 0, &stored).unwrap();
    (store, all)
}

/// The copies of a maker as they lie in memory.
fn copies(maker: &Perturbation) -> Vec<Vec<f32>> {
    (0..maker.draws()).map(|draw| maker.copy(0, draw).0.read_wait(common::gpu(), 0).unwrap()).collect()
}

/// The logical values of a tensor among a whole copy; fails if what pads them is not zero.
fn logical(store: &Store, copy: &[f32], name: &str) -> Vec<f32> {
    let entry = &store.contents().entries[name];
    let own = &copy[entry.offset as usize * 4..][..entry.shape.vec4s() * 4];
    let mut padding = vec![true; own.len()];
    entry.shape.storage_indices().for_each(|i| padding[i] = false);
    assert!(own.iter().zip(&padding).all(|(v, pad)| !pad || v.to_bits() == 0), "{name}: padding is not zero");
    entry.shape.storage_indices().map(|i| own[i]).collect()
}

/// What the reference interpreter makes of the same weights.
fn expected(weights: &[Vec<f32>], noise: Noise, seed: u64, draw: u32, sigma: f32) -> Vec<Vec<f64>> {
    let mut b = Builder::new();
    let rates = b.temporary(hyper::SHAPE);
    // The interpreter has the table itself.
    let table = b.temporary(NORMALS);
    let mut pairs: Vec<(TensorId, TensorId)> = vec![];
    for (name, shape) in &SHAPES {
        let (w, y) = (b.temporary(*shape), b.temporary(*shape));
        b.push(Op::Perturb { w, y, hyper: rates, table, stream: stream_of(name), noise });
        pairs.push((w, y));
    }
    let graph = b.finish();
    let mut memory = Memory::new(&graph);
    let mut words = vec![0.0; hyper::SHAPE.len()];
    words[hyper::SIGMA] = f64::from(sigma);
    words[hyper::SEED_LOW] = f64::from(seed as u32);
    words[hyper::SEED_HIGH] = f64::from((seed >> 32) as u32);
    words[hyper::DRAW] = f64::from(draw);
    memory.set(rates, words).unwrap();
    for ((w, _), values) in pairs.iter().zip(weights) {
        memory.set(*w, values.iter().map(|v| f64::from(*v)).collect()).unwrap();
    }
    reference::run(&graph, &[], &mut memory).unwrap();
    pairs.iter().map(|(_, y)| memory.get(*y).to_vec()).collect()
}

fn maker(source: &Store, noise: Noise) -> Perturbation {
    Perturbation::new(common::gpu(), common::preset(), &[(source.clone(), 0)], DRAWS, noise).unwrap()
}

#[test]
fn noise_is_that_of_the_reference() {
    let (store, weights) = source(|stream| stream.normal() as f32);
    let mut worst = 0.0f64;
    for (noise, sigma, first) in
        [(Noise::Additive, 1.0f32, 0), (Noise::Additive, 0.01, 40), (Noise::Multiplicative, 0.3, 0)]
    {
        let maker = maker(&store, noise);
        maker.submit(SEED, first, f64::from(sigma)).unwrap();
        for (draw, copy) in copies(&maker).iter().enumerate() {
            let want = expected(&weights, noise, SEED, first + draw as u32, sigma);
            for (number, (name, _)) in SHAPES.iter().enumerate() {
                let got = logical(&maker.copy(0, 0).0, copy, name);
                for (i, (got, want)) in got.iter().zip(&want[number]).enumerate() {
                    let w = f64::from(weights[number][i]).abs();
                    let size = f64::from(sigma) * if noise == Noise::Multiplicative { w } else { 1.0 };
                    // The result is rounded, and so is the product with the weight.
                    let rounding = 0.5 * (want.abs() + w);
                    let ulps = ((f64::from(*got) - want).abs() / f64::from(f32::EPSILON) - rounding).max(0.0) / size;
                    assert!(ulps <= ULPS, "{noise:?} {name} {i}: {got} {want}, {ulps:.1} units of the noise");
                    worst = worst.max(ulps);
                }
            }
        }
    }
    println!("largest difference: {worst:.1} units in the last place of a normal number of 1");
}

#[test]
fn noise_is_normal() {
    // Zero weights show the noise itself.
    let (store, _) = source(|_| 0.0);
    let maker = maker(&store, Noise::Additive);
    maker.submit(SEED, 0, 1.0).unwrap();
    let zeros: Vec<Vec<f32>> = SHAPES.iter().map(|(_, shape)| vec![0.0; shape.len()]).collect();
    for (draw, copy) in copies(&maker).iter().enumerate() {
        // The same to the bit on host and device.
        let want = expected(&zeros, Noise::Additive, SEED, draw as u32, 1.0);
        for ((name, _), want) in SHAPES.iter().zip(want) {
            let got = logical(&maker.copy(0, 0).0, copy, name);
            assert!(got.iter().zip(want).all(|(got, want)| got.to_bits() == (want as f32).to_bits()), "{name}");
        }
        let z = logical(&maker.copy(0, 0).0, copy, "large");
        let n = z.len() as f64;
        let moment = |power: i32| z.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / n;
        let bound = |variance: f64| 5.0 * (variance / n).sqrt();
        let (mean, square, fourth) = (moment(1), moment(2), moment(4));
        println!("draw {draw}: mean {mean:.4}, mean square {square:.4}, fourth moment {fourth:.3}");
        assert!(mean.abs() < bound(1.0), "mean {mean}");
        assert!((square - 1.0).abs() < bound(2.0), "mean square {square}");
        assert!((fourth - 3.0).abs() < bound(96.0), "fourth moment {fourth}");
        // Neighbours, which share a block of random words, and blocks that follow each other.
        for distance in [1, 2, 3, 4, 64] {
            let sum: f64 = z.iter().zip(&z[distance..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((sum / n).abs() < bound(1.0), "correlation {} at distance {distance}", sum / n);
        }
    }
}

#[test]
fn draws_seeds_and_tensors_have_noise_of_their_own() {
    let (store, weights) = source(|_| 1.0);
    for noise in [Noise::Additive, Noise::Multiplicative] {
        let maker = maker(&store, noise);
        let made = |seed: u64, first: u32, sigma: f64| {
            maker.submit(seed, first, sigma).unwrap();
            copies(&maker)
        };
        let base = made(SEED, 0, 0.5);
        assert!(made(SEED, 0, 0.5) == base, "{noise:?}: the same seed gives other bits");
        let other = self::maker(&store, noise);
        other.submit(SEED, 0, 0.5).unwrap();
        assert!(copies(&other) == base, "{noise:?}: another maker gives other bits");
        // Draws go by their number, wherever they are.
        assert!(made(SEED, 2, 0.5)[..2] == base[2..], "{noise:?}: draw 2 depends on its place");
        let large = |copy: &Vec<f32>| logical(&maker.copy(0, 0).0, copy, "large");
        let differ = |what: &str, a: &[f32], b: &[f32]| {
            let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
            assert!(same * 1000 < a.len(), "{noise:?}: {what} share {same} of {} numbers", a.len());
        };
        for (i, a) in base.iter().enumerate() {
            base[..i].iter().for_each(|b| differ("draws", &large(a), &large(b)));
        }
        for other in [SEED + 1, SEED ^ 1 << 40] {
            differ("seeds", &large(&made(other, 0, 0.5)[0]), &large(&base[0]));
        }
        // All tensors start from the same values, so only their noise tells them apart.
        let stem = logical(&maker.copy(0, 0).0, &base[0], "stem");
        differ("tensors", &stem[..9], &large(&base[0])[..9]);
        // No deviation, no noise.
        for copy in made(SEED, 0, 0.0) {
            for ((name, _), values) in SHAPES.iter().zip(&weights) {
                assert_eq!(&logical(&maker.copy(0, 0).0, &copy, name), values, "{noise:?} {name}");
            }
        }
    }
}
