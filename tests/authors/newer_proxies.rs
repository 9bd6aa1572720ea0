//! SWAP, SNAP, ConJS and the number of layers, and CRoZe on networks of DARTS cells: against the authors' formulas in PyTorch in
//! f64 (`peers/newer_proxies_torch.py`), and against f64 on the reference interpreter.

use altiplano::graph::{Role, hyper};
use altiplano::measure::zero_cost::passes::{Look, Wanted};
use altiplano::measure::zero_cost::score::Scorer;
use altiplano::measure::zero_cost::swap::distinct_columns;
use altiplano::measure::zero_cost::{Proxy, croze};
use altiplano::nn::bank::Bank;
use altiplano::nn::nas_bench_201::{Form, family};
use altiplano::nn::space::{Build, Family, Options};
use altiplano::nn::tensors::{Named, load};
use altiplano::nn::{darts, nas_bench_201};
use altiplano::reference;
use altiplano::space::{Arch, Space, darts::Darts};
use serde_json::Value;

use crate::case::{json, network, tensors};
use crate::common;

/// A network with given weights and the images of both golden cases.
struct Case {
    scorer: Scorer,
    arch: Arch,
    weights: Named,
    /// What PyTorch finds in f64.
    want: Value,
}

fn darts_family(channels: usize, cells: usize, batch: &Named, classes: usize) -> Family {
    let [_, in_channels, height, width] = batch["x"].dims[..] else { panic!("images have four axes") };
    let option = |name: &str, value: usize| (name.to_owned(), toml::Value::from(value as i64));
    let options = Options::from_iter([option("channels", channels), option("cells", cells)]);
    darts::family(Build { form: "cifar".into(), image: [height, width], in_channels, classes, options }).unwrap()
}

fn cases() -> [Case; 2] {
    let golden = common::root().join("tests/golden");
    let all = json(&golden.join("newer_proxies.json"));
    ["proxies_tiny/1_mixed", "darts/0_genas_flat_c10"].map(|name| {
        let folder = golden.join(name);
        let info = json(&folder.join("case.json"));
        let batch = tensors(&golden.join("proxies_tiny/1_mixed"), "batch");
        let weights = load(&folder.join(info["weights"].as_str().unwrap_or("weights.safetensors"))).unwrap().0;
        let size = |name: &str| info[name].as_u64().unwrap() as usize;
        let (family, arch) = match info.get("genotype") {
            Some(genotype) => {
                let family = darts_family(size("C"), size("layers"), &batch, size("num_classes"));
                (family, Darts.parse(&genotype.to_string()).unwrap())
            }
            None => {
                let (cell, sizes) = network(&info, &batch["x"].dims);
                (nas_bench_201::family(Form::Tiny, &sizes).unwrap(), cell.into())
            }
        };
        let scorer = Scorer {
            gpu: common::gpu().clone(),
            preset: common::preset(),
            family,
            seed: 1,
            batch,
            weights: Bank::given(weights.clone()),
            range: vec![],
            draws: vec![Bank::given(weights.clone())],
            zen: None,
        };
        Case { scorer, arch, weights, want: all[name].clone() }
    })
}

const NEWER: [Proxy; 5] = [Proxy::Layers, Proxy::Swap, Proxy::Snap, Proxy::SnapReleased, Proxy::Conjs];

#[track_caller]
fn near(what: &str, got: f64, want: f64, tolerance: f64) {
    let error = (got / want - 1.0).abs();
    println!("{what}: {got} {want} ({error:.1e})");
    assert!(error <= tolerance, "{what}: {got} instead of {want}");
}

/// With the weights and images of PyTorch, a count may differ by the units that are within rounding of zero.
#[test]
fn as_in_pytorch() {
    for Case { scorer, arch, want, .. } in cases() {
        let name = scorer.family.name().to_owned();
        let archs = [arch];
        let scores = scorer.score(&archs, &[Proxy::Layers, Proxy::Swap, Proxy::SnapReleased]).unwrap().remove(0);
        let number = |key: &str| want[key].as_f64().unwrap();
        assert_eq!(scores[&Proxy::Layers], number("layers"), "{name}");
        println!("{name} swap: {} {}, {} near zero", scores[&Proxy::Swap], number("swap"), number("near"));
        assert!((scores[&Proxy::Swap] - number("swap")).abs() <= number("near"), "{name}: {scores:?}");
        assert_eq!(scores[&Proxy::SnapReleased], scores[&Proxy::Swap]);
        let wanted = [Proxy::CrozeCompat, Proxy::CrozeMean, Proxy::Conjs];
        for (proxy, lists) in croze::terms(&scorer, &archs, &wanted).unwrap() {
            let layers = want["terms"].as_object().unwrap();
            assert_eq!(lists[0].len(), layers.len(), "{name} {proxy:?}");
            for term in &lists[0] {
                let of = |form: &str| -> Vec<f64> {
                    layers[&term.layer][form].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
                };
                let (want, got) = match proxy {
                    Proxy::Conjs => (of("conjs"), vec![term.parameters, term.features]),
                    Proxy::CrozeMean => (of("mean"), vec![term.parameters, term.gradients, term.features]),
                    _ => (of("compat"), vec![term.parameters, term.gradients, term.features]),
                };
                for (got, want) in got.into_iter().zip(want) {
                    let error = (got - want).abs() / want.abs().max(1e-2);
                    assert!(error < 1e-3, "{name} {proxy:?} {}: {got} instead of {want}", term.layer);
                }
            }
            let key = proxy.name();
            near(&format!("{name} {key}"), lists[0].iter().map(|t| t.term).sum(), number(key), 1e-3);
        }
    }
}

/// Gradients of gradients, through maximum pools too: the sum of `-w (H g)` over the weights of layers.
#[test]
fn grasp_is_pytorchs_in_f64() {
    for Case { scorer, arch, weights, want } in cases() {
        let images = scorer.batch["y"].data.len();
        let wanted = Wanted { batch: images, hessian_products: true, ..Wanted::default() };
        let look = Look::new(&*scorer.family.network(&arch).unwrap(), wanted).unwrap();
        let mut memory = look.memory(&weights, &scorer.batch).unwrap();
        reference::run(look.graph(), &[], &mut memory).unwrap();
        let own: std::collections::BTreeMap<_, _> =
            look.graph().persistent(Role::Weights).map(|(id, info)| (info.name.clone(), id)).collect();
        let mut sum = 0.0;
        for layer in &look.layers {
            let Some(product) = look.graph().probe(&format!("hessian.{layer}")) else { continue };
            let values = memory.get(own[&format!("{layer}.weight")]).iter();
            sum -= values.zip(memory.get(product)).map(|(w, h)| w * h).sum::<f64>();
        }
        near(&format!("{} grasp", scorer.family.name()), sum, want["grasp"].as_f64().unwrap(), 1e-8);
        assert!(scorer.score(&[arch], &[Proxy::Grasp]).unwrap()[0][&Proxy::Grasp].is_finite());
    }
}

/// Noise in front of the rectifiers: the same numbers in f64.
#[test]
fn snap_is_its_formula_in_f64() {
    for Case { scorer, arch, weights, want } in cases() {
        let name = scorer.family.name().to_owned();
        let images = scorer.batch["y"].data.len();
        let scores = scorer.score(std::slice::from_ref(&arch), &[Proxy::Swap, Proxy::Snap]).unwrap().remove(0);
        let wanted = Wanted { batch: images, noisy_codes: true, ..Wanted::default() };
        let look = Look::new(&*scorer.family.network(&arch).unwrap(), wanted).unwrap();
        let mut memory = look.memory(&weights, &scorer.batch).unwrap();
        let rates = look.graph().persistent(Role::Hyper).find(|(_, info)| info.name == "hyper").unwrap().0;
        let mut words = vec![0.0; 12];
        words[hyper::SIGMA] = 0.05;
        words[hyper::SEED_LOW] = scorer.seed as f64;
        memory.set(rates, words).unwrap();
        reference::run(look.graph(), &[], &mut memory).unwrap();
        let codes = |(number, units): (usize, &altiplano::measure::zero_cost::passes::Units)| {
            let tensor = look.graph().probe(&format!("noisy.{number}")).unwrap();
            let shape = look.graph().shape(tensor);
            let mut stored = vec![0.0; shape.vec4s() * 4];
            shape.storage_indices().zip(memory.get(tensor)).for_each(|(to, &code)| stored[to] = code as f32);
            (stored, units.count)
        };
        let codes: Vec<(Vec<f32>, usize)> = look.units.iter().enumerate().map(codes).collect();
        let lists: Vec<(&[f32], usize)> = codes.iter().map(|(codes, units)| (&codes[..], *units)).collect();
        let exact = distinct_columns(&lists, images) as f64;
        let (swap, snap) = (scores[&Proxy::Swap], scores[&Proxy::Snap]);
        println!("{name}: swap {swap}, snap {snap}, in f64 {exact}");
        // As many units are near zero as without noise.
        assert!((snap - exact).abs() <= want["near"].as_f64().unwrap(), "{name}: {snap} instead of {exact}");
        assert!(snap != swap, "{name}: noise changes signs");
    }
}

/// Draws and neighbours in a population change nothing, and nothing is out of range.
#[test]
fn populations_of_draws() {
    let [nas_bench_201, darts] = cases();
    let sizes = nas_bench_201::sizes(&nas_bench_201.scorer.family.build).unwrap();
    let small = family(Form::ZeroCostNas, &altiplano::space::nas_bench_201::Macro { channels: 4, ..sizes }).unwrap();
    let names = ["000000", "111111", "421302"];
    let first: Vec<Arch> = names.iter().map(|name| small.parse(name).unwrap()).collect();
    let mut stream = altiplano::philox::Stream::new(3, 1, 0);
    let space: &dyn Space = &Darts;
    let second: Vec<Arch> = (0..3).map(|_| space.sample(&mut stream).unwrap()).collect();
    let tiny = darts_family(4, 3, &darts.scorer.batch, 10);
    for (family, archs) in [(small, first), (tiny, second)] {
        let draws = (0..3).map(|draw| Bank::normal(7, draw)).collect();
        let weights = Bank::fresh(7);
        let scorer = Scorer { family, weights, draws, ..darts.scorer.clone() };
        let together = scorer.score(&archs, &NEWER).unwrap();
        for (arch, together) in archs.iter().zip(&together) {
            println!("{}: {together:?}", scorer.family.show(arch));
            assert!(together.len() == NEWER.len() && together.values().all(|v| v.is_finite()));
            let alone = scorer.score(std::slice::from_ref(arch), &NEWER).unwrap().remove(0);
            assert_eq!(*together, alone, "alone and in a population");
            // The mean over draws is that of single draws.
            let single = |draw: usize| {
                let one = Scorer { draws: vec![scorer.draws[draw].clone()], ..scorer.clone() };
                one.score(std::slice::from_ref(arch), &[Proxy::Swap]).unwrap()[0][&Proxy::Swap]
            };
            let mean = (0..3).map(single).sum::<f64>() / 3.0;
            assert!((mean - together[&Proxy::Swap]).abs() < 1e-9, "{mean} {together:?}");
        }
    }
}
