//! Zero-cost proxies against the authors' own code, on the same weights and images.

use std::collections::BTreeMap;
use std::path::Path;

use altiplano::graph::{Graph, Op, Role, Shape, TensorId};
use altiplano::measure::zero_cost::passes::{Compiled, Look, Wanted};
use altiplano::measure::zero_cost::score::{Scorer, Scores};
use altiplano::measure::zero_cost::{Proxy, croze};
use altiplano::nn::Norms;
use altiplano::nn::bank::Bank;
use altiplano::nn::nas_bench_201::{Form, Network, family, sizes};
use altiplano::nn::space::Networks;
use altiplano::nn::tensors::{Named, Values, load};
use altiplano::reference::{self, Memory};
use altiplano::space::nas_bench_201::{Cell, Macro, NasBench201};
use serde_json::Value;

use crate::case::{json, network, tensors};
use crate::common;

struct Case {
    name: String,
    arch: Cell,
    scorer: Scorer,
    weights: Named,
    /// The file with the authors' scores.
    published: Value,
    zen: Option<f64>,
}

fn case(path: &Path, form: Form) -> Case {
    let info = json(&path.join("case.json"));
    let batch = tensors(path, "batch");
    let (arch, sizes) = network(&info, &batch["x"].dims);
    let weights = info["weights"].as_str().unwrap_or("weights.safetensors");
    let weights: Named = load(&path.join(weights)).unwrap().0;
    // Form, channels, cells and classes are what the tensors tell.
    let mut build = family(Form::Tiny, &Macro { channels: 1, cells: 1, classes: 1, ..sizes }).unwrap().build;
    NasBench201.recognise(&weights, &mut build);
    assert_eq!(build, family(form, &sizes).unwrap().build, "what the tensors tell");
    let file = if form == Form::Tiny { "proxies.json" } else { "zerocost.json" };
    let zen = path.join("zen.json");
    let scorer = Scorer {
        gpu: common::gpu().clone(),
        preset: common::preset(),
        family: family(form, &sizes).unwrap(),
        seed: 1,
        batch,
        weights: Bank::given(weights.clone()),
        range: vec![],
        draws: (0..2).map(|draw| Bank::normal(1, draw)).collect(),
        zen: zen.exists().then(|| load(&path.join("zen.safetensors")).unwrap().0),
    };
    Case {
        name: path.display().to_string(),
        arch,
        scorer,
        weights,
        published: json(&path.join(file)),
        zen: zen.exists().then(|| json(&zen)["score"].as_f64().unwrap()),
    }
}

#[track_caller]
fn near(case: &Case, what: &str, got: f64, want: f64, tolerance: f64) {
    let error = (got - want).abs() / want.abs().max(1e-30);
    println!("{} {what}: {got:.9e} {want:.9e} ({error:.1e})", case.name);
    assert!(error <= tolerance, "{} {what}: {got} instead of {want}, {error:.2e} > {tolerance:.0e}", case.name);
}

fn check(case: &Case) -> Scores {
    let mut proxies = Proxy::ALL.to_vec();
    proxies.retain(|p| *p != Proxy::Zen || case.zen.is_some());
    let scores: Scores = case.scorer.score(&[case.arch.into()], &proxies).unwrap().remove(0);
    let published = &case.published["measures"];
    for proxy in [Proxy::GradNorm, Proxy::Snip, Proxy::Fisher, Proxy::JacobCov] {
        near(case, proxy.name(), scores[&proxy], published[proxy.name()]["score"].as_f64().unwrap(), 1e-3);
    }
    // Terms of both signs whose magnitudes sum to snip: gradients that agree to 1e-4, as the golden gradients must, leave
    // their sum uncertain by that share of snip.
    let want = published["plain"]["score"].as_f64().unwrap();
    let room = (1e-4 * scores[&Proxy::Snip] / want.abs()).max(1e-3);
    near(case, "plain", scores[&Proxy::Plain], want, room);
    if let Some(want) = published["grasp"]["score"].as_f64() {
        grasp(case, scores[&Proxy::Grasp], want);
    }
    let l2 = &published["l2_norm"];
    // The authors also sum options that the network does not use; these have no weights here.
    let l2 = l2["score_used_layers_only"].as_f64().or(l2["score"].as_f64()).unwrap();
    near(case, "l2_norm", scores[&Proxy::L2Norm], l2, 1e-3);
    for proxy in [Proxy::Synflow, Proxy::SynflowBn] {
        let want = published[proxy.name()]["score"].as_f64().unwrap();
        near(case, proxy.name(), (scores[&proxy] - want.ln()).exp(), 1.0, 1e-3);
    }
    if let Some(naswot) = case.published.get("naswot") {
        near(case, "naswot", scores[&Proxy::Naswot], naswot["hook_logdet_relu_only"].as_f64().unwrap(), 1e-3);
        near(case, "naswot_compat", scores[&Proxy::NaswotCompat], naswot["hook_logdet"].as_f64().unwrap(), 1e-3);
    }
    if let Some(want) = case.zen {
        near(case, "zen", scores[&Proxy::Zen], want, 1e-3);
    }
    scores
}

/// grasp is a sum of both signs of products with the Hessian, and it moves in steps: a rectifier whose input is within
/// rounding of zero may be open in one run and shut in another, and a single one that differs moves the gradient by one part
/// in a square root of its layer's units, some thousandths. So f64 is what all is measured by:
///
/// - In f64 the passes here and PyTorch's agree. Both round their epsilons and sums in the last places of f64 alone.
/// - In f32 the score is the one of f64 with those rectifiers open that f32 found open. Left is rounding: the terms come out
///   of four passes, forward and backward and both again for the second derivative. One rounding of all terms in each, all to
///   the same side, is more than roundings that are independent add up to, and is little where terms do not cancel.
/// - The authors' score, f32 as well, is 1e-3 from the one here. Only where f64 says that a rectifier is switched, here or
///   there, is the step that it makes allowed beside that.
fn grasp(case: &Case, got: f64, want: f64) {
    let images = case.scorer.batch["y"].data.len();
    let wanted = Wanted { batch: images, hessian_products: true, codes: true, ..Wanted::default() };
    let look = Look::new(&*case.scorer.family.network(&case.arch.into()).unwrap(), wanted).unwrap();
    let weights = &case.weights;
    let (looks, named) = ([&look], [weights]);
    let compiled = Compiled::new(&case.scorer.gpu, case.scorer.preset, &looks, &named).unwrap();
    let single = compiled.run_wait(&case.scorer.batch).unwrap().remove(0);
    // Signs are taken between the forward pass and all others.
    let mut forward = look.graph().clone();
    let last = forward.nodes.iter().rposition(|n| matches!(n.op, Op::SignCodes { .. })).unwrap();
    let mut backward = Graph { nodes: forward.nodes.split_off(last + 1), ..forward.clone() };
    backward.nodes.retain(|n| !matches!(n.op, Op::SignCodes { .. }));
    let mut memory = look.memory(weights, &case.scorer.batch).unwrap();
    reference::run(&forward, &[], &mut memory).unwrap();
    let sums = |mut memory: Memory| -> [f64; 2] {
        reference::run(&backward, &[], &mut memory).unwrap();
        let weights: BTreeMap<&str, TensorId> =
            backward.persistent(Role::Weights).map(|(id, info)| (info.name.as_str(), id)).collect();
        let mut sums = [0.0; 2];
        for layer in &look.layers {
            let Some(product) = backward.probe(&format!("hessian.{layer}")) else { continue };
            let weights = weights[format!("{layer}.weight").as_str()];
            for (h, w) in memory.get(product).iter().zip(memory.get(weights)) {
                sums[0] -= h * w;
                sums[1] += (h * w).abs();
            }
        }
        sums
    };
    let [exact, _] = sums(memory.clone());
    let mut switched = vec![];
    let rectified =
        forward.nodes.iter().filter_map(|n| if let Op::SignCodes { x, .. } = n.op { Some(x) } else { None });
    for (number, x) in rectified.enumerate() {
        let codes = single.get(&format!("codes.{number}")).unwrap();
        let Shape::Map { h, w, c, .. } = forward.shape(x) else { panic!("rectifiers see maps") };
        let mut values = memory.get(x).to_vec();
        for (at, value) in values.iter_mut().enumerate() {
            let (image, position, channel) = (at / (h * w * c), at / c % (h * w), at % c);
            // The image's `vec4`, four of which share a word.
            let vector = position * c.div_ceil(4) + channel / 4;
            let word = codes[image * (codes.len() / images) + vector / 4] as u32;
            let open = word >> (4 * (vector % 4) + channel % 4) & 1 == 1;
            if open != (*value > 0.0) {
                switched.push(value.abs());
                *value = if open { f64::MIN_POSITIVE } else { 0.0 };
            }
        }
        memory.set(x, values).unwrap();
    }
    let [same, magnitude] = sums(memory);
    let most = switched.iter().fold(0.0, |a: f64, b| a.max(*b));
    let digits = (magnitude / same.abs()).log10();
    println!(
        "{}: f32 switched {} rectifiers, inputs to {most:.1e}; {digits:.1} digits cancel",
        case.name,
        switched.len()
    );
    let path = Path::new(&case.name);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let key = format!("{}/{}", name(path.parent().unwrap()), name(path));
    let table = json(&common::root().join("tests/golden/grasp_f64.json"));
    let torch = table["grasp"][&key].as_f64().unwrap();
    let share = |a: f64, b: f64| (a / b - 1.0).abs();
    near(case, "grasp in f64", exact, torch, 1e-9);
    near(case, "grasp with f32's rectifiers", got, same, 4.0 * 2f64.powi(-24) * magnitude / same.abs());
    near(case, "grasp", got, want, 1e-3 + share(same, exact) + share(want, torch));
}

/// Most cases agree, but not all can: ZiCo divides by the difference of two batches' gradients. Where one of a layer's weights
/// has nearly equal ones, that weight decides the layer's sum, in the authors' f32 as here.
fn mostly(cases: &[(Case, Scores)], proxy: Proxy, published: &str, tolerance: f64) {
    let agrees = |(case, scores): &(Case, Scores)| {
        let published = [&case.published[published], &case.published["measures"][published]];
        let want = published.iter().find_map(|p| p["score"].as_f64()).unwrap();
        println!("{} {}: {} {want}", case.name, proxy.name(), scores[&proxy]);
        (scores[&proxy] / want - 1.0).abs() < tolerance
    };
    let agreeing = cases.iter().filter(|c| agrees(c)).count();
    assert!(3 * agreeing >= 2 * cases.len(), "{} agrees in {agreeing} of {} cases", proxy.name(), cases.len());
}

#[test]
fn the_benchmark_networks_scores() {
    let cases = common::golden_cases("proxies_tiny");
    assert!(cases.len() >= 2, "the repository holds two cases");
    let scored = |path: &std::path::PathBuf| {
        let case = case(path, Form::Tiny);
        let scores = check(&case);
        (case, scores)
    };
    let scored: Vec<(Case, Scores)> = cases.iter().map(scored).collect();
    mostly(&scored, Proxy::Zico, "zico", 1e-2);
}

#[test]
fn the_authors_networks_scores() {
    let cases = common::golden_cases("proxies");
    if cases.is_empty() {
        println!("skipped: there is no folder `proxies` with reference cases");
    }
    for path in &cases {
        check(&case(path, Form::ZeroCostNas));
    }
}

/// The released CRoZe with its intermediates. The authors work in f64, the passes here in f32.
#[test]
fn the_authors_croze() {
    let tiny = common::golden_cases("proxies_tiny").into_iter().map(|p| (p, Form::Tiny));
    let cost = common::golden_cases("proxies").into_iter().map(|p| (p, Form::ZeroCostNas));
    for (path, form) in tiny.chain(cost) {
        let case = case(&path, form);
        let published = json(&path.join("croze.json"));
        let (_, mut lists) = croze::terms(&case.scorer, &[case.arch.into()], &[Proxy::CrozeCompat]).unwrap().remove(0);
        let terms = lists.remove(0);
        let layers = published["layers"].as_array().unwrap();
        let names: Vec<&str> = layers.iter().map(|l| l["layer"].as_str().unwrap()).collect();
        for term in &terms {
            let layer = layers.iter().find(|l| l["layer"] == term.layer.as_str());
            let layer = layer.unwrap_or_else(|| panic!("{}: {} is not in {names:?}", case.name, term.layer));
            assert_eq!(term.feature.map(|f| f as u64), layer["feat_index"].as_u64(), "{} {}", case.name, term.layer);
            let of = |name: &str| layer[name].as_f64().unwrap();
            for (what, got, tolerance) in [
                ("w_sim", term.parameters, 1e-3),
                ("grad_sim", term.gradients, 1e-3),
                ("feat_sim", term.features, 1e-3),
            ] {
                near(&case, &format!("{} {what}", term.layer), got, of(what), tolerance);
            }
        }
        let sum = terms.iter().map(|t| t.term).sum();
        near(&case, "croze_compat", sum, published["score"].as_f64().unwrap(), 1e-3);
    }
}

/// The forms that the authors did not release, against the same formulas written in PyTorch and run in f64. Cosines are
/// compared by their difference: those of gradients are near zero, where a share says nothing.
#[test]
fn croze_by_the_paper_and_by_means() {
    let cases: Vec<_> =
        common::golden_cases("proxies_tiny").into_iter().filter(|p| p.join("croze_forms.json").exists()).collect();
    assert!(cases.len() >= 2, "the repository holds two cases");
    for path in &cases {
        let mut case = case(path, Form::Tiny);
        let want = json(&path.join("croze_forms.json"));
        let end = |v: &Value| v.as_f64().unwrap() as f32;
        case.scorer.range = want["range"].as_array().unwrap().iter().map(|r| [end(&r[0]), end(&r[1])]).collect();
        for (proxy, terms) in
            croze::terms(&case.scorer, &[case.arch.into()], &[Proxy::Croze, Proxy::CrozeMean]).unwrap()
        {
            let (terms, want) = (&terms[0], &want[proxy.name()]);
            let layers = want["layers"].as_array().unwrap();
            assert_eq!(terms.len(), layers.len(), "{} {}", case.name, proxy.name());
            for term in terms {
                let layer = layers.iter().find(|l| l["layer"] == term.layer.as_str()).unwrap();
                for (what, got) in [("P", term.parameters), ("G", term.gradients), ("Z", term.features)] {
                    let want = layer[what].as_f64().unwrap();
                    let error = (got - want).abs();
                    println!("{} {} {} {what}: {got:.6} {want:.6} ({error:.1e})", case.name, proxy.name(), term.layer);
                    assert!(error <= 1e-4, "{} {} {what}: {got} instead of {want}", case.name, term.layer);
                }
            }
            let sum = terms.iter().map(|t| t.term).sum();
            near(&case, proxy.name(), sum, want["score"].as_f64().unwrap(), 1e-3);
        }
    }
}

#[test]
fn populations_and_dead_networks() {
    let path = &common::golden_cases("proxies_tiny")[0];
    let base = case(path, Form::Tiny);
    let sizes = Macro { channels: 4, cells: 2, ..sizes(&base.scorer.family.build).unwrap() };
    for form in [Form::Tiny, Form::ZeroCostNas] {
        let family = family(form, &sizes).unwrap();
        let scorer = Scorer { family, weights: Bank::fresh(1), zen: None, ..base.scorer.clone() };
        // Without a path, all skips, all of 3x3, mixed.
        let names = ["000000", "111111", "333333", "421302"];
        let archs = names.map(|name| scorer.family.parse(name).unwrap());
        let together = scorer.score(&archs, &Proxy::ALL).unwrap();
        for (arch, together) in archs.iter().zip(&together) {
            assert_eq!(together.len(), Proxy::ALL.len());
            assert!(together.values().all(|v| v.is_finite()), "{arch:?} {together:?}");
            let alone = scorer.score(std::slice::from_ref(arch), &Proxy::ALL).unwrap().remove(0);
            assert_eq!(*together, alone, "{arch:?}: alone and in a population");
        }
        for proxy in [Proxy::Synflow, Proxy::GradNorm, Proxy::Zen, Proxy::L2Norm] {
            assert!(together[2][&proxy] > together[0][&proxy], "{proxy:?} {together:?}");
        }
    }
}

/// Without norms values pass the range of f32 in deep networks: what is scored there agrees with f64 as long as that can be
/// read, and is finite beyond.
#[test]
fn deep_networks_stay_in_range() {
    let base = case(&common::golden_cases("proxies_tiny")[0], Form::Tiny).scorer;
    let cell: Cell = "333333".parse().unwrap();
    for form in [Form::Tiny, Form::ZeroCostNas] {
        let sizes = |cells| Macro { channels: 16, cells, in_channels: 3, height: 8, width: 8, classes: 10 };
        let batch: Named = [("x", vec![6, 3, 8, 8]), ("y", vec![6])]
            .into_iter()
            .map(|(name, dims): (&str, Vec<usize>)| {
                let length: usize = dims.iter().product();
                let value = |i: usize| if name == "x" { ((i * 37 % 101) as f32 - 50.0) / 30.0 } else { i as f32 };
                (name.to_owned(), Values { dims, data: (0..length).map(value).collect() })
            })
            .collect();
        let scorer = |cells| Scorer {
            family: family(form, &sizes(cells)).unwrap(),
            weights: Bank::fresh(base.seed),
            zen: None,
            batch: batch.clone(),
            ..base.clone()
        };
        let proxies = [Proxy::Synflow, Proxy::CrozeCompat, Proxy::CrozeMean];
        let deep = scorer(5).score(&[cell.into()], &proxies).unwrap().remove(0);
        println!("{form:?}: {deep:?}");
        // Gains alone make a network of five cells a stage exceed f32, whose logarithm's limit is 88.
        assert!(deep[&Proxy::Synflow] > 88.0 && deep[&Proxy::CrozeCompat] > 1e9 && deep[&Proxy::CrozeMean] > 1.0);
        let shallow = scorer(2);
        let network = Network { cell, sizes: sizes(2), form };
        let wanted = Wanted { batch: 1, norms: Norms::Bare, sum_gradients: true, ..Wanted::default() };
        let look = Look::new(&network, wanted).unwrap();
        let mut weights = look.fresh(shallow.seed).unwrap();
        weights.values_mut().flat_map(|v| &mut v.data).for_each(|w| *w = w.abs());
        let ones = Values { dims: vec![1, 3, 8, 8], data: vec![1.0; 192] };
        let label = Values { dims: vec![1], data: vec![0.0] };
        let left = look.run_exact(&weights, &Named::from([("x".into(), ones), ("y".into(), label)])).unwrap();
        let layer = |name: &String| -> f64 {
            let pairs = weights[&format!("{name}.weight")].data.iter().zip(left.get(&format!("grad.{name}")).unwrap());
            pairs.map(|(w, g)| (f64::from(*w) * f64::from(*g)).abs()).sum()
        };
        let want = look.layers.iter().map(layer).sum::<f64>().ln();
        let got = shallow.score(&[cell.into()], &[Proxy::Synflow]).unwrap()[0][&Proxy::Synflow];
        assert!((got - want).abs() < 1e-4, "{form:?}: {got} instead of {want}");
    }
}

/// Sums run over tensors as they lie on the device. With channels and classes that are no multiples of four these hold
/// padding, which must not count.
#[test]
fn padding_adds_nothing() {
    let base = case(&common::golden_cases("proxies_tiny")[0], Form::Tiny).scorer;
    let images = base.batch["y"].data.len();
    let sizes = Macro { channels: 6, cells: 1, ..sizes(&base.family.build).unwrap() };
    let cell: Cell = "342312".parse().unwrap();
    for form in [Form::Tiny, Form::ZeroCostNas] {
        let family = family(form, &sizes).unwrap();
        let scorer = Scorer { family, weights: Bank::fresh(3), zen: None, ..base.clone() };
        let network = Network { form, ..Network::new(cell, sizes) };
        let wanted = Wanted { batch: images, loss_gradients: true, ..Wanted::default() };
        let look = Look::new(&network, wanted).unwrap();
        let weights = look.fresh(3).unwrap();
        let exact = look.run_exact(&weights, &scorer.batch).unwrap();
        let (mut snip, mut norms) = (0.0, 0.0);
        for layer in &look.layers {
            let gradient = exact.get(&format!("grad.{layer}")).unwrap();
            let weights = &weights[&format!("{layer}.weight")].data;
            let products = weights.iter().zip(gradient).map(|(w, g)| f64::from(*w) * f64::from(*g));
            snip += products.map(f64::abs).sum::<f64>();
            norms += gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        }
        let scores = scorer.score(&[cell.into()], &[Proxy::Snip, Proxy::GradNorm]).unwrap().remove(0);
        for (proxy, want) in [(Proxy::Snip, snip), (Proxy::GradNorm, norms)] {
            let got = scores[&proxy];
            assert!((got / want - 1.0).abs() < 1e-4, "{form:?} {proxy:?}: {got} instead of {want}");
        }
    }
}

#[test]
fn bad_batches_are_refused() {
    let path = &common::golden_cases("proxies_tiny")[0];
    let Case { scorer, arch, .. } = case(path, Form::Tiny);
    let with = |change: &dyn Fn(&mut Named)| {
        let mut batch = scorer.batch.clone();
        change(&mut batch);
        Scorer { batch, ..scorer.clone() }.score(&[arch.into()], &[Proxy::JacobCov]).unwrap_err().to_string()
    };
    let one = with(&|batch| {
        let x = batch.get_mut("x").unwrap();
        x.data.truncate(x.data.len() / x.dims[0]);
        x.dims[0] = 1;
        let y = batch.get_mut("y").unwrap();
        (y.dims, y.data) = (vec![1], vec![0.0]);
    });
    assert!(one.contains("jacob_cov needs at least 2"), "{one}");
    let label = with(&|batch| batch.get_mut("y").unwrap().data[3] = 10.0);
    assert!(label.contains("label 10 of image 3"), "{label}");
    let missing = with(&|batch| {
        batch.remove("y");
    });
    assert!(missing.contains("no tensor `y`"), "{missing}");
}
