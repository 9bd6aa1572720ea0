//! Networks that train side by side and end with the weights of their best epochs.

use altiplano::data::load;
use altiplano::measure::best_epoch::BestEpochs;
use altiplano::measure::judge::{Network as Trained, noisy_scores_wait};
use altiplano::nn::Model;
use altiplano::nn::nas_bench_201::Network;
use altiplano::report::folder::{Existing, RunFolder};
use altiplano::space::nas_bench_201::{Cell, Macro};
use altiplano::train::schedule::Schedule;
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

const EPOCHS: usize = 5;

/// With so high a rate the best epoch is seldom the last one. Looked at twice, or again from what was saved, it is the same.
#[test]
fn networks_end_with_their_best_epochs() {
    let (gpu, data, folder) = (common::gpu(), load("digits").unwrap(), tempfile::tempdir().unwrap());
    let supply = Supply::new(gpu, &data.train).unwrap();
    let statistics = data.train.channel_statistics().unwrap();
    let setting = Setting { gpu, preset: common::preset(), data: &supply, statistics: &statistics };
    let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let networks = ["333333", "203031"].map(|cell| Network::new(cell.parse::<Cell>().unwrap(), sizes));
    let models: Vec<&dyn Model> = networks.iter().map(|network| network as &dyn Model).collect();
    let members: Vec<Member> = models.iter().map(|&model| Member { model, seed: 3, path: vec![] }).collect();
    let recipe =
        Recipe { batch: 32, lr: 0.9, schedule: Schedule::Constant, ..Recipe::usual(Optimizer::Sgd, EPOCHS, 8) };
    let (training, judging): (Vec<usize>, Vec<usize>) = ((0..320).collect(), (400..600).collect());
    let mut trainer = Trainer::of(setting.clone(), &members, &recipe, &training).unwrap();
    let folder = RunFolder::create(folder.path().join("run"), Existing::Refuse).unwrap();
    let open = || BestEpochs::open(&setting, &models, &judging, (&folder, "training")).unwrap();
    let mut best = open();
    let (mut accuracies, mut weights) = (vec![], vec![]);
    for _ in 0..EPOCHS {
        (0..trainer.steps_per_epoch()).for_each(|_| trainer.submit_step().unwrap());
        best.look(&trainer).unwrap();
        let stores = |network: usize| trainer.stores(network).clone();
        let now: Vec<Trained> =
            models.iter().enumerate().map(|(i, &model)| Trained { model, stores: stores(i) }).collect();
        let scores = noisy_scores_wait(&setting, None, &now, &judging, 0).unwrap();
        accuracies.push(scores.iter().map(|(score, _)| score.accuracy).collect::<Vec<_>>());
        weights.push([0, 1].map(|network| trainer.weights_wait(network).unwrap()));
    }
    best.look(&trainer).unwrap();
    let again = open();
    let want = [0, 1].map(|network| {
        let mut first = 0;
        (1..EPOCHS).for_each(|e| {
            if accuracies[e][network] > accuracies[first][network] {
                first = e
            }
        });
        first + 1
    });
    assert!(want.iter().any(|epoch| *epoch < EPOCHS) && want.iter().any(|epoch| *epoch > 1), "{accuracies:?}");
    for best in [best, again] {
        assert_eq!(best.restore(&trainer).unwrap(), want);
        for (network, epoch) in want.into_iter().enumerate() {
            assert_eq!(trainer.weights_wait(network).unwrap(), weights[epoch - 1][network], "{network}");
        }
        // What is restored stays until it is forgotten.
        (0..2).for_each(|_| trainer.submit_step().unwrap());
    }
    open().forget().unwrap();
    assert!(folder.read_checkpoint("training-best").unwrap().is_none());
}
