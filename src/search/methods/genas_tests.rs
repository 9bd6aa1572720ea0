use super::*;
use crate::nn::space::{ImageInfo, Networks};
use crate::search::config::Preset;
use crate::space::darts::Darts;
use crate::space::nas_bench_201::NasBench201;

#[test]
fn networks_are_trained_at_the_end_as_their_authors_do() {
    let training = |space: &dyn Networks, preset, side: usize| {
        let info = ImageInfo { height: side, width: side, channels: 3, classes: 10 };
        let (data, images, compat) = ("cifar10", 50_000, false);
        let situation = Situation { preset, space, data, images, info: &info, compat };
        Method::Genas.preset(&situation).training
    };
    let paper = training(&Darts, Preset::Paper, 32);
    assert_eq!((paper.epochs, paper.batch, paper.lr, paper.weight_decay), (600, 96, 0.025, 3e-4));
    assert_eq!((paper.optimizer, paper.momentum, paper.nesterov), (Optimizer::Sgd, 0.9, false));
    assert_eq!(paper.schedule, Schedule::Cosine { minimum: 0.0, per_epoch_ahead: false });
    let cut = paper.augmentation.unwrap();
    assert_eq!((cut.padding, cut.flip, cut.cutout, paper.drop_path, paper.clip), (4, true, 16, 0.2, Some(5.0)));
    assert_eq!(training(&Darts, Preset::Paper, 8).augmentation.unwrap().cutout, 4);
    let search = |side: usize| {
        let info = ImageInfo { height: side, width: side, channels: 3, classes: 10 };
        let (preset, space, data, images, compat) = (Preset::Paper, &Darts, "cifar10", 50_000, false);
        Method::Genas.preset(&Situation { preset, space, data, images, info: &info, compat })
    };
    let (config, options) = (search(32), |build: &crate::nn::space::Build| build.words());
    assert_eq!(options(&config.build), "auxiliary 0.0, cells 8, channels 16");
    assert_eq!(options(config.finals.build.as_ref().unwrap()), "auxiliary 0.4, cells 20, channels 36");
    assert_eq!(options(search(8).finals.build.as_ref().unwrap()), "auxiliary 0.0, cells 20, channels 36");
    let evaluations = |space: &dyn Networks, preset| {
        let info = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
        let (data, images, compat) = ("cifar10", 50_000, false);
        Method::Genas.preset(&Situation { preset, space, data, images, info: &info, compat }).evaluations
    };
    assert_eq!([Preset::Quick, Preset::Paper].map(|preset| evaluations(&Darts, preset)), [40, 1_000]);
    assert_eq!([Preset::Quick, Preset::Paper].map(|preset| evaluations(&NasBench201, preset)), [50, 1_000]);
    let others = [
        (training(&Darts, Preset::Quick, 32), Optimizer::Sgd, 4),
        (training(&NasBench201, Preset::Quick, 32), Optimizer::Sam, 8),
        (training(&NasBench201, Preset::Paper, 32), Optimizer::Sam, 200),
    ];
    for (other, optimizer, epochs) in others {
        assert_eq!((other.optimizer, other.epochs, other.drop_path), (optimizer, epochs, 0.0));
    }
}
