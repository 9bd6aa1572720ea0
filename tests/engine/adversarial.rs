//! Adversarial training: a ball without radius changes nothing, and a network that learnt from moved images withstands them.

use altiplano::data::load;
use altiplano::graph::Role;
use altiplano::measure::attack::{Attack, Attacker};
use altiplano::measure::forward::Subject;
use altiplano::nn::Model;
use altiplano::nn::nas_bench_201::Network;
use altiplano::progress::silent;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::adversarial::Adversarial;
use altiplano::train::job;
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

use crate::common;

const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|";
const RADIUS: f64 = 0.15;

/// Weights and statistics after training, and the accuracy of the first 200 test images under PGD.
fn train(optimizer: Optimizer, epochs: usize, images: usize, adversarial: Option<Adversarial>) -> (Vec<u8>, f64) {
    let (gpu, preset) = (common::gpu(), common::preset());
    let data = load("digits").unwrap();
    let statistics = data.train.channel_statistics().unwrap();
    let sizes = Macro { channels: 8, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let model = Network::new(ARCH.parse().unwrap(), sizes);
    let supply = Supply::new(gpu, &data.train).unwrap();
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 32, adversarial, ..Recipe::usual(optimizer, epochs, 8) };
    let indices: Vec<usize> = (0..images).collect();
    let mut trainer = Trainer::new(setting.clone(), &model, &recipe, &indices, &[1], &[]).unwrap();
    job::run(&mut trainer, None, ("training", 0.0, 1.0), &mut silent(), &mut |_| Ok(())).unwrap();
    let stores = trainer.stores(0);
    let test: Vec<usize> = (0..200).collect();
    let supply = Supply::new(gpu, &data.test.reveal_for_final_evaluation().select(&test)).unwrap();
    let setting = Setting { data: &supply, ..setting };
    let group = |group| (stores.of(group).unwrap().clone(), 0);
    let subject = Subject { weights: group(Role::Weights), running: group(Role::Running), path: vec![] };
    let attacker = Attacker::new(&setting, &model as &dyn Model, 100, &[subject], Attack::pgd(RADIUS, 10), 3).unwrap();
    let accuracy = attacker.run_wait(&test, &mut |_, _| Ok(())).unwrap()[0].accuracy;
    (trainer.state_wait().unwrap(), accuracy)
}

#[test]
fn a_ball_without_radius_changes_no_bit() {
    for optimizer in [Optimizer::Sgd, Optimizer::Sam] {
        let plain = train(optimizer, 1, 160, None).0;
        let nothing = Adversarial { eps: 0.0, step: 0.0, steps: 2 };
        assert!(plain == train(optimizer, 1, 160, Some(nothing)).0, "{optimizer}");
        let something = Adversarial { eps: RADIUS, step: 0.05, steps: 2 };
        assert!(plain != train(optimizer, 1, 160, Some(something)).0, "{optimizer}");
    }
}

#[test]
fn who_learnt_from_moved_images_withstands_them() {
    let adversarial = Adversarial { eps: RADIUS, step: RADIUS / 3.0, steps: 4 };
    let (epochs, images) = if common::long() { (6, 1_400) } else { (5, 800) };
    let [(_, plain), (_, hardened)] = [None, Some(adversarial)].map(|a| train(Optimizer::Sgd, epochs, images, a));
    println!("under PGD-10 of radius {RADIUS}: {plain:.3} without, {hardened:.3} with adversarial training");
    assert!(hardened > plain + 0.1, "{hardened} after adversarial training, {plain} without");
}
