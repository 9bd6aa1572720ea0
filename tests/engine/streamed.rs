//! Networks that are fed with pictures which are decoded as they are needed, beside the same with all images on the device.

use altiplano::data::{Dataset, Handling, Reading, load_with};
use altiplano::graph::{Role, Statistics};
use altiplano::measure::forward::{Averaging, Forward, Subject, graphs};
use altiplano::nn::Model;
use altiplano::nn::nas_bench_201::Network;
use altiplano::nn::tensors::Named;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::feed::Pick;
use altiplano::train::step::Optimizer;
use altiplano::train::stores::Stores;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

/// Grey pictures of mixed sizes as images of 7x7, which are no multiple of four bytes.
fn set(folder: &std::path::Path, memory: Option<u64>) -> Dataset {
    let handling = Handling { strict: true, memory, ..Handling::default() };
    let reading = Reading { crop: Some(7), handling, ..Reading::default() };
    load_with(folder.to_str().unwrap(), &reading).unwrap()
}

#[test]
fn several_networks_of_several_sizes_learn_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..60u32 {
        let path = folder.path().join(format!("{}/{i}.png", i % 3));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let value = |x: u32, y: u32| image::Luma([(11 * i + 9 * x + 4 * y * (i % 3)) as u8]);
        image::GrayImage::from_fn(9 + i % 5, 8 + i % 4, value).save(path).unwrap();
    }
    let gpu = common::gpu();
    // Whole, from files alone, and a third of it kept.
    let sets = [None, Some(0), Some(2 * 20 * 49)].map(|memory| set(folder.path(), memory));
    assert!(sets[0].train.held().is_some() && sets[1].train.held().is_none());
    let kept = (0..sets[2].train.len()).filter(|&image| sets[2].train.at_hand(image).is_some()).count();
    assert_eq!(kept, 20 - sets[2].test.len());
    let statistics = sets[0].train.channel_statistics().unwrap();
    let network = |side: usize| {
        let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: side, width: side, classes: 3 };
        Network::new(ARCH.parse().unwrap(), sizes)
    };
    let models = [network(8), network(4), network(12)];
    let recipe = Recipe { batch: 5, ..Recipe::usual(Optimizer::Sam, 2, 7) };
    let indices: Vec<usize> = (0..sets[0].train.len()).filter(|image| image % 7 != 3).collect();
    let learnt = |set: &Dataset| -> (Vec<Named>, Vec<f64>) {
        let supply = Supply::new(gpu, &set.train).unwrap();
        assert_eq!(supply.is_streamed(), set.train.held().is_none());
        let setting = Setting { gpu, preset: common::preset(), data: &supply, statistics: &statistics };
        let member = |(model, seed): (usize, u64)| Member { model: &models[model], seed, path: vec![] };
        let members: Vec<Member> = [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2)].map(member).into();
        let mut trainer = Trainer::of(setting.clone(), &members, &recipe, &indices).unwrap();
        while !trainer.is_done() {
            trainer.submit_step().unwrap();
        }
        let learnt: Vec<Named> = (0..members.len()).map(|number| trainer.weights_wait(number).unwrap()).collect();
        // Judged side by side, on images that fill no batch, twice; then statistics from batches.
        let judged: Vec<&dyn Model> = models.iter().map(|model| model as &dyn Model).collect();
        let mut scores = vec![];
        for statistics in [Statistics::Running, Statistics::Batch { update: true }] {
            let passes = graphs(&judged, 4, statistics).unwrap();
            let subject = |number: usize| {
                let stores = Stores::new(gpu, &passes[number], 1).unwrap();
                stores.load(0, &learnt[number]).unwrap();
                let role = |role: Role| (stores.of(role).unwrap().clone(), 0);
                Subject { weights: role(Role::Weights), running: role(Role::Running), path: vec![] }
            };
            let subjects: Vec<Subject> = (0..3).map(subject).collect();
            let forward = Forward::of(&setting, 4, &passes, &subjects).unwrap();
            if statistics == Statistics::Running {
                for images in [&indices[..11], &indices[..3], &indices[..3], &indices[5..]] {
                    let own = forward.evaluate_wait(images).unwrap();
                    scores.extend(own.iter().flat_map(|own| [own.loss, own.accuracy]));
                }
                continue;
            }
            let plain = |batch: &[usize]| batch.iter().map(|&image| Pick::plain(image)).collect::<Vec<_>>();
            let batches: Vec<_> = indices.chunks_exact(4).map(plain).collect();
            forward.recalibrate(&batches, Averaging::Exact).unwrap();
            let parts: Vec<_> = subjects.iter().flat_map(|subject| subject.running.0.parts()).collect();
            scores.extend(gpu.read_wait(&parts).unwrap().concat().into_iter().map(f64::from));
        }
        (learnt, scores)
    };
    let want = learnt(&sets[0]);
    assert!(want.1.iter().all(|score| score.is_finite()) && want.1.len() > 30);
    assert!(learnt(&sets[1]) == want && learnt(&sets[2]) == want);
}
