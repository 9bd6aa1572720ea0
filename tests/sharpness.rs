//! What SAM is for: on the digits its minima are flatter than those of SGD, at the same accuracy.

mod common;

use altiplano::data::load;
use altiplano::graph::{Group, Noise, Statistics};
use altiplano::measure::forward::{Forward, Subject, graph};
use altiplano::measure::noise::Perturbation;
use altiplano::nn::Model;
use altiplano::nn::nas_bench_201::Network;
use altiplano::progress::silent;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::feed::Resident;
use altiplano::train::job;
use altiplano::train::step::Optimizer;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
/// With a quarter as many SAM is still far from a minimum, and the comparison says nothing.
const EPOCHS: usize = 16;
const RHO: f64 = 0.1;
/// Deviation of the noise, relative to each weight.
const SIGMA: f64 = 0.05;
const DRAWS: usize = 20;
/// Images of a pass; the 355 test images are five of them.
const BATCH: usize = 71;

/// What was measured on one network, on test images.
#[derive(Clone, Copy, Debug)]
struct Measured {
    accuracy: f64,
    loss: f64,
    /// Mean loss under noise less the loss without.
    rise: f64,
}

/// Networks of all seeds, trained side by side and measured with the same noise.
fn measure(optimizer: Optimizer) -> Vec<Measured> {
    let (gpu, preset) = (common::gpu(), common::preset());
    let data = load("digits").unwrap();
    let statistics = data.train.channel_statistics();
    let sizes = Macro { channels: 8, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let model = Network::new(ARCH.parse().unwrap(), sizes);
    let resident = Resident::new(gpu, &data.train).unwrap();
    let setting = Setting { gpu, preset, data: &resident, statistics: &statistics };
    let usual = Recipe::usual(optimizer, EPOCHS, 8);
    let rho = if optimizer == Optimizer::Sgd { 0.0 } else { RHO };
    let recipe = Recipe { batch: 32, rho, ..usual };
    let indices: Vec<usize> = (0..data.train.len()).collect();
    let mut trainer = Trainer::new(setting.clone(), &model, &recipe, &indices, &SEEDS, &[]).unwrap();
    job::run(&mut trainer, None, ("training", 0.0, 1.0), &mut silent(), &mut |_| Ok(())).unwrap();

    let test = data.test.reveal_for_final_evaluation();
    let images: Vec<usize> = (0..test.len()).collect();
    let resident = Resident::new(gpu, test).unwrap();
    let setting = Setting { data: &resident, ..setting };
    let pass = graph(&model, BATCH, Statistics::Running).unwrap();
    let part = |i: usize, group| (trainer.stores(i).group(group).unwrap().clone(), 0);
    let score = |subjects: &[Subject]| {
        let forward = Forward::new(&setting, model.input(), BATCH, &pass, subjects).unwrap();
        forward.evaluate_wait(&images).unwrap()
    };
    let subject = |weights, seed| Subject { weights, running: part(seed, Group::Running), path: vec![] };
    let clean = score(&(0..SEEDS.len()).map(|i| subject(part(i, Group::Weights), i)).collect::<Vec<_>>());
    let measured = |(i, clean): (usize, &altiplano::measure::forward::Score)| {
        let maker = Perturbation::new(gpu, preset, &[part(i, Group::Weights)], DRAWS, Noise::Multiplicative).unwrap();
        maker.submit(7, 0, SIGMA).unwrap();
        let noisy = score(&(0..DRAWS).map(|draw| subject(maker.copy(0, draw), i)).collect::<Vec<_>>());
        let loss = noisy.iter().map(|s| s.loss).sum::<f64>() / DRAWS as f64;
        Measured { accuracy: clean.accuracy, loss: clean.loss, rise: loss - clean.loss }
    };
    clean.iter().enumerate().map(measured).collect()
}

fn mean(measured: &[Measured], f: impl Fn(&Measured) -> f64) -> f64 {
    measured.iter().map(f).sum::<f64>() / measured.len() as f64
}

#[test]
fn sam_finds_flatter_minima_than_sgd() {
    let both = [Optimizer::Sgd, Optimizer::Sam].map(|optimizer| {
        let measured = measure(optimizer);
        measured.iter().for_each(|m| println!("{optimizer:?}: {m:?}"));
        let loss = mean(&measured, |m| m.loss);
        println!("{optimizer:?}: mean test loss {loss:.4}");
        (mean(&measured, |m| m.accuracy), mean(&measured, |m| m.rise))
    });
    let [(sgd_accuracy, sgd_rise), (sam_accuracy, sam_rise)] = both;
    println!("accuracy {sgd_accuracy:.4} and {sam_accuracy:.4}, rise {sgd_rise:.5} and {sam_rise:.5}");
    assert!(sgd_accuracy >= 0.95 && sam_accuracy >= 0.95, "accuracies {sgd_accuracy:.4} and {sam_accuracy:.4}");
    assert!((sgd_accuracy - sam_accuracy).abs() <= 0.01, "accuracies {sgd_accuracy:.4} and {sam_accuracy:.4}");
    assert!(sgd_rise > 0.0, "noise lowers the loss of the nets that SGD trained");
    assert!(sam_rise < sgd_rise, "the loss rises by {sam_rise:.5} with SAM, by {sgd_rise:.5} with SGD");
}
