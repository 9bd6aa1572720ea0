//! Attacks: against the authors' FGSM and PGD, a closed form, and what every sound attack keeps to.

use altiplano::data::{ChannelStatistics, Images, load};
use altiplano::error::Result;
use altiplano::graph::{Geometry, Role, Statistics, TensorId};
use altiplano::measure::attack::{Attack, Attacked, Attacker, Method, suspicions};
use altiplano::measure::forward::{Forward, Subject, graph};
use altiplano::nn::nas_bench_201::Network;
use altiplano::nn::tensors::{Named, fresh};
use altiplano::nn::{Heads, Layers, Model};
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::feed::Pick;
use altiplano::train::step::Optimizer;
use altiplano::train::stores::Stores;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

use crate::{case, common};

/// One network's weights and statistics on the device.
fn subject(model: &dyn Model, batch: usize, named: &Named) -> (Stores, Subject) {
    let pass = graph(model, batch, Statistics::Running).unwrap();
    let stores = Stores::new(common::gpu(), &pass, 1).unwrap();
    stores.load(0, named).unwrap();
    let weights = (stores.of(Role::Weights).unwrap().clone(), 0);
    let running = stores.of(Role::Running).map(|r| (r.clone(), 0)).unwrap_or_else(|_| weights.clone());
    (stores, Subject { weights, running, path: vec![] })
}

#[test]
fn authors_fgsm_and_pgd() {
    let cases = common::golden_cases("attacks");
    if cases.is_empty() {
        println!("skipped: there is no folder `attacks` with reference cases");
    }
    for case in cases {
        let info = case::json(&case.join("case.json"));
        let (batch, want) = (case::tensors(&case, "batch"), case::tensors(&case, "adv"));
        let dims = batch["x_pixel"].dims.clone();
        let [n, c, h, w] = dims[..] else { panic!("{dims:?}") };
        let (arch, sizes) = case::network(&info, &dims);
        let model = Network::new(arch, sizes);
        // Rows and columns first, channels last.
        let at = |i: usize| {
            let (image, rest) = (i / (h * w * c), i % (h * w * c));
            (image * c + rest % c) * h * w + rest / c
        };
        let pixels = (0..n * h * w * c).map(|i| (batch["x_pixel"].data[at(i)] * 255.0).round() as u8).collect();
        let labels = batch["y"].data.iter().map(|&y| y as u16).collect();
        let names = (0..sizes.classes).map(|k| k.to_string()).collect();
        let images = Images::new([h, w, c], names, pixels, labels).unwrap();
        let list = |name: &str| info[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        let statistics = ChannelStatistics { mean: list("mean"), std: list("std") };
        let supply = Supply::new(common::gpu(), &images).unwrap();
        let setting = Setting { gpu: common::gpu(), preset: common::preset(), data: &supply, statistics: &statistics };
        let (_stores, subject) = subject(&model, n, &case::tensors(&case, "weights"));
        let (eps, step) = (info["eps"].as_f64().unwrap(), info["alpha"].as_f64().unwrap());
        let pgd = Attack { step, random: false, ..Attack::pgd(eps, info["steps"].as_u64().unwrap() as usize) };
        let picks: Vec<Pick> = (0..n).map(Pick::plain).collect();
        for (attack, name, share) in [(Attack::fgsm(eps), "fgsm", 0.9999), (pgd, "pgd", 0.999)] {
            let attacker = Attacker::new(&setting, &model, n, std::slice::from_ref(&subject), attack, 1).unwrap();
            attacker.submit(&picks, 0, &mut || Ok(())).unwrap();
            let got = attacker.images_wait(0).unwrap();
            let pixel = |i: usize| f64::from(got[i]) * statistics.std[i % c] + statistics.mean[i % c];
            let want = &want[&format!("x_{name}")].data;
            let equal = (0..got.len()).filter(|&i| (pixel(i) - f64::from(want[at(i)])).abs() <= 1e-5).count();
            println!("{name}: {equal} of {} values within 1e-5", got.len());
            assert!(equal as f64 >= share * got.len() as f64, "{name}: only {equal} of {} values", got.len());
            let scalars: serde_json::Value =
                serde_json::from_slice(&std::fs::read(case.join("scalars.json")).unwrap()).unwrap();
            let result = attacker.run_wait(&(0..n).collect::<Vec<_>>(), &mut |_, _| Ok(())).unwrap()[0];
            let ce = scalars[format!("ce_{name}")].as_f64().unwrap();
            assert!((result.last.loss / ce - 1.0).abs() < 1e-3, "{name}: loss {} for {ce}", result.last.loss);
            let accuracy = scalars[format!("acc_{name}")].as_f64().unwrap() / 100.0;
            assert_eq!(result.last.accuracy, accuracy, "{name}");
        }
    }
}

/// Class scores linear in all pixels.
struct Linear;

const SIDE: usize = 6;
const CLASSES: usize = 4;

impl Model for Linear {
    fn input(&self) -> [usize; 3] {
        [SIDE, SIDE, 3]
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let all = Geometry { r: SIDE, s: SIDE, ..Geometry::square(1, 1, 0) };
        Ok(layers.conv("all", x, CLASSES, all)?.into())
    }
}

fn noise_images(n: usize, side: usize, classes: usize) -> Images {
    let mut stream = altiplano::philox::Stream::new(3, 4, 5);
    let pixels = (0..n * side * side * 3).map(|_| stream.below(256) as u8).collect();
    let labels = (0..n).map(|_| stream.below(classes as u64) as u16).collect();
    Images::new([side, side, 3], (0..classes).map(|k| k.to_string()).collect(), pixels, labels).unwrap()
}

/// The gradient of a linear model's loss is `W^T (softmax - target)`; FGSM takes its sign.
#[test]
fn fgsm_of_a_linear_model_is_its_closed_form() {
    let images = noise_images(5, SIDE, CLASSES);
    let statistics = images.channel_statistics().unwrap();
    let supply = Supply::new(common::gpu(), &images).unwrap();
    let setting = Setting { gpu: common::gpu(), preset: common::preset(), data: &supply, statistics: &statistics };
    let pass = graph(&Linear, 5, Statistics::Running).unwrap();
    let named = fresh(Stores::new(common::gpu(), &pass, 1).unwrap().of(Role::Weights).unwrap().contents(), 3);
    let (_stores, subject) = subject(&Linear, 5, &named);
    let eps = 6.0 / 255.0;
    let attacker = Attacker::new(&setting, &Linear, 5, &[subject], Attack::fgsm(eps), 1).unwrap();
    attacker.submit(&(0..5).map(Pick::plain).collect::<Vec<_>>(), 0, &mut || Ok(())).unwrap();
    let got = attacker.images_wait(0).unwrap();
    let (w, per_image) = (&named["all.weight"].data, SIDE * SIDE * 3);
    let pixel = |i: usize| f64::from(images.held().unwrap()[i]) / 255.0;
    let normal = |i: usize| (pixel(i) - statistics.mean[i % 3]) / statistics.std[i % 3];
    // PyTorch's order: class, channel, row, column.
    let weight = |k: usize, i: usize| f64::from(w[(k * 3 + i % 3) * SIDE * SIDE + i / 3]);
    for image in 0..5 {
        let z: Vec<f64> =
            (0..CLASSES).map(|k| (0..per_image).map(|i| weight(k, i) * normal(image * per_image + i)).sum()).collect();
        let total: f64 = z.iter().map(|z| z.exp()).sum();
        for i in 0..per_image {
            let slope: f64 = (0..CLASSES)
                .map(|k| {
                    let target = f64::from(u8::from(usize::from(images.labels[image]) == k));
                    (z[k].exp() / total - target) * weight(k, i)
                })
                .sum();
            let at = image * per_image + i;
            let want = (pixel(at) + eps * slope.signum()).clamp(0.0, 1.0);
            let have = f64::from(got[at]) * statistics.std[i % 3] + statistics.mean[i % 3];
            assert!(slope.abs() < 1e-7 || (have - want).abs() < 1e-6, "image {image}, value {i}: {have} for {want}");
        }
    }
}

/// What a sound attack keeps to, on a network that was trained for a moment.
#[test]
fn invariants() {
    let data = load("digits").unwrap();
    let images = &data.train;
    let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let model = Network::new("333132".parse().unwrap(), sizes);
    let statistics = images.channel_statistics().unwrap();
    let supply = Supply::new(common::gpu(), images).unwrap();
    let setting = Setting { gpu: common::gpu(), preset: common::preset(), data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 32, ..Recipe::usual(Optimizer::Sgd, 2, 8) };
    let all: Vec<usize> = (0..images.len()).collect();
    let mut trainer = Trainer::new(setting.clone(), &model, &recipe, &all, &[1], &[]).unwrap();
    while !trainer.is_done() {
        trainer.submit_step().unwrap();
    }
    let weights = trainer.stores(0).of(Role::Weights).unwrap().clone();
    let running = trainer.stores(0).of(Role::Running).unwrap().clone();
    let subject = Subject { weights: (weights.clone(), 0), running: (running.clone(), 0), path: vec![] };
    let kept = || (weights.read_wait(common::gpu(), 0).unwrap(), running.read_wait(common::gpu(), 0).unwrap());
    let before = kept();
    let some: Vec<usize> = (0..70).collect();
    let attacker =
        |attack: Attack| Attacker::new(&setting, &model, 32, std::slice::from_ref(&subject), attack, 1).unwrap();
    let run = |attack: Attack| -> Attacked { attacker(attack).run_wait(&some, &mut |_, _| Ok(())).unwrap()[0] };
    let pass = graph(&model, 32, Statistics::Running).unwrap();
    let forward = Forward::new(&setting, 32, &pass, std::slice::from_ref(&subject)).unwrap();
    let clean = forward.evaluate_wait(&some).unwrap()[0];
    assert!(clean.accuracy > 0.6, "{}", clean.accuracy);
    println!("clean: {clean:?}");

    // Without a radius nothing moves, to the bit.
    for attack in [Attack::fgsm(0.0), Attack::pgd(0.0, 3), Attack::apgd(0.0, 5)] {
        let result = run(attack);
        assert_eq!((result.accuracy, result.last.accuracy), (clean.accuracy, clean.accuracy), "{attack}");
        assert!((result.worst_loss - clean.loss).abs() < 1e-6 * clean.loss.max(1.0), "{attack}");
        let (with, start) = (attacker(attack), attacker(Attack { steps: 1, step: 0.0, random: false, ..attack }));
        let picks: Vec<Pick> = (0..32).map(Pick::plain).collect();
        with.submit(&picks, 0, &mut || Ok(())).unwrap();
        start.submit(&picks, 0, &mut || Ok(())).unwrap();
        assert_eq!(with.images_wait(0).unwrap(), start.images_wait(0).unwrap(), "{attack}");
    }

    // Inside the ball and the range of pixels.
    let eps = 0.1;
    for attack in [Attack::fgsm(eps), Attack::pgd(eps, 4), Attack::apgd(eps, 8)] {
        let attacker = attacker(attack);
        attacker.submit(&(0..32).map(Pick::plain).collect::<Vec<_>>(), 0, &mut || Ok(())).unwrap();
        let (mean, std) = (statistics.mean[0], statistics.std[0]);
        let mut moved = 0;
        for (i, value) in attacker.images_wait(0).unwrap().into_iter().enumerate() {
            let pixel = f64::from(value) * std + mean;
            let distance = (pixel - f64::from(images.held().unwrap()[i]) / 255.0).abs();
            assert!(distance <= eps + 1e-6, "{attack}: moved by {distance}");
            assert!((-1e-6..=1.0 + 1e-6).contains(&pixel), "{attack}: pixel {pixel}");
            moved += usize::from(distance > 0.01);
        }
        assert!(moved > 500, "{attack}: only {moved} values moved");
    }

    // Larger balls, more steps and more restarts never help the network; a step of the ball's length is FGSM.
    let falls = |list: &[Attack]| {
        let results: Vec<f64> = list.iter().map(|&attack| run(attack).accuracy).collect();
        println!("{results:?}");
        assert!(results.windows(2).all(|pair| pair[1] <= pair[0]), "{list:?}: {results:?}");
        results[results.len() - 1]
    };
    let fixed = |steps| Attack { random: false, step: 0.02, ..Attack::pgd(eps, steps) };
    falls(&[fixed(1), fixed(2), fixed(5), fixed(10)]);
    let restarts = |restarts| Attack { restarts, ..Attack::pgd(eps, 3) };
    falls(&[restarts(1), restarts(2), restarts(4)]);
    let fgsm = falls(&[Attack::fgsm(0.02), Attack::fgsm(0.05), Attack::fgsm(eps)]);
    let pgd = falls(&[Attack::pgd(0.02, 10), Attack::pgd(0.05, 10), Attack::pgd(eps, 10)]);
    assert!(pgd <= fgsm + 1.0 / 70.0, "PGD {pgd} is weaker than FGSM {fgsm}");
    // Steps as long as the ball jump from side to side: the worst point is not the last one.
    let jumping = run(Attack { step: eps, ..Attack::pgd(eps, 7) });
    assert!(jumping.worst_loss > jumping.last.loss && jumping.accuracy <= jumping.last.accuracy, "{jumping:?}");
    // An image that is wrong as it is never counts as robust, though noise may turn it right.
    let one_by_one =
        Forward::new(&setting, 1, &graph(&model, 1, Statistics::Running).unwrap(), std::slice::from_ref(&subject))
            .unwrap();
    let wrong: Vec<usize> = (0..400).filter(|&i| one_by_one.evaluate_wait(&[i]).unwrap()[0].accuracy == 0.0).collect();
    let noise = Attack { step: 0.0, ..Attack::pgd(0.5, 1) };
    let result = attacker(noise).run_wait(&wrong, &mut |_, _| Ok(())).unwrap()[0];
    assert!(wrong.len() > 20 && result.last.accuracy > 0.0, "{} images, {result:?}", wrong.len());
    assert_eq!(result.accuracy, 0.0);
    // A request to stop is heard between steps.
    let mut seen = 0;
    let stopped = attacker(Attack::pgd(eps, 100)).run_wait(&some, &mut |done, total| {
        (seen, _) = (done, assert_eq!(total, 300));
        if done == 3 { Err(altiplano::Error::Cancelled) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(altiplano::Error::Cancelled)) && seen == 3);
    // What does not look at the network must not find more than what does.
    let blind = run(Attack { step: 0.0, restarts: 5, ..Attack::pgd(eps, 1) });
    assert!(blind.accuracy >= pgd, "{blind:?}");
    let one = run(Attack { steps: 1, step: eps, random: false, ..Attack::pgd(eps, 1) });
    assert_eq!(one.last, run(Attack::fgsm(eps)).last);
    let (auto, plain) = (run(Attack::apgd(eps, 20)), run(Attack::pgd(eps, 20)));
    assert!(auto.worst_loss > 0.9 * plain.worst_loss, "{auto:?}, {plain:?}");
    let whole = run(Attack { restarts: 2, ..Attack::pgd(1.0, 20) });
    assert!(whole.accuracy <= 0.12, "with any image allowed: {whole:?}");
    assert!(whole.zero_gradients < 0.5);
    // Nothing of the network has changed.
    assert!(before == kept());
    // Networks side by side get the same as alone.
    let attack = Attack { restarts: 2, ..Attack::pgd(0.05, 3) };
    let pair = Attacker::new(&setting, &model, 32, &[subject.clone(), subject.clone()], attack, 1).unwrap();
    let pair = pair.run_wait(&some, &mut |_, _| Ok(())).unwrap();
    assert_eq!((pair[0], pair[1]), (run(attack), run(attack)));
}

/// A small network with fresh weights on the digits, and a change to its weights.
fn with_weights(change: impl Fn(&mut Named), test: impl Fn(&Setting, &dyn Model, &Subject)) {
    let data = load("digits").unwrap();
    let images = &data.train;
    let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let model = Network::new("333132".parse().unwrap(), sizes);
    let statistics = images.channel_statistics().unwrap();
    let supply = Supply::new(common::gpu(), images).unwrap();
    let setting = Setting { gpu: common::gpu(), preset: common::preset(), data: &supply, statistics: &statistics };
    let pass = graph(&model, 32, Statistics::Running).unwrap();
    let stores = Stores::new(common::gpu(), &pass, 1).unwrap();
    let mut named = fresh(stores.of(Role::Weights).unwrap().contents(), 5);
    named.extend(fresh(stores.of(Role::Running).unwrap().contents(), 5));
    change(&mut named);
    let (_stores, subject) = subject(&model, 32, &named);
    test(&setting, &model, &subject);
}

/// A network that computes no numbers is right nowhere, and its loss says so.
#[test]
fn what_is_no_number_is_neither_right_nor_hidden() {
    // Weights must be finite; their products need not be.
    let spoil = |named: &mut Named| named.get_mut("classifier.weight").unwrap().data.fill(f32::MAX);
    with_weights(spoil, |setting, model, subject| {
        let images: Vec<usize> = (0..40).collect();
        for attack in [Attack::fgsm(0.1), Attack::pgd(0.1, 3), Attack { restarts: 2, ..Attack::apgd(0.1, 5) }] {
            let attacker = Attacker::new(setting, model, 32, std::slice::from_ref(subject), attack, 1).unwrap();
            let result = attacker.run_wait(&images, &mut |_, _| Ok(())).unwrap()[0];
            assert_eq!(result.accuracy, 0.0, "{attack}");
            assert!(result.worst_loss.is_nan(), "{attack}: {}", result.worst_loss);
            let lines = suspicions(0.0, 10, &[(attack, result)]);
            assert!(lines.iter().any(|line| line.contains("not finite")), "{lines:?}");
        }
    });
}

#[test]
fn descriptions_of_attacks() {
    let read = |text: &str| text.parse::<Attack>();
    let pgd = read("pgd:8/255:10:2/255:3").unwrap();
    assert_eq!((pgd.method, pgd.steps, pgd.restarts), (Method::Pgd, 10, 3));
    assert!((pgd.eps - 8.0 / 255.0).abs() < 1e-12 && (pgd.step - 2.0 / 255.0).abs() < 1e-12);
    assert_eq!(read("fgsm:0.03").unwrap(), Attack::fgsm(0.03));
    assert_eq!(read("apgd:4/255:100:2").unwrap().restarts, 2);
    for bad in
        ["", "pgd", "pgd:8/255", "pgd:8/0:10", "pgd:-1:3", "pgd:2:3", "fgsm:nan", "pgd:0.1:0", "cw:0.1", "fgsm:0.1:3"]
    {
        assert!(read(bad).unwrap_err().to_string().contains("--attacks"), "{bad}");
    }
}
