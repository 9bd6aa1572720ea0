use super::*;
use crate::data::load;
use crate::nn::space::{ImageInfo, Registry};
use crate::search::config::Preset;
use crate::search::methods::{Method, Situation};

/// Networks that begin with a supernet's weights are chosen by images that it has not seen.
#[test]
fn images_kept_back_train_no_supernet_that_is_inherited() {
    let data = load("digits").unwrap();
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let registry = Registry::default();
    let space = registry.get("nas-bench-201").unwrap();
    let (images, preset, compat) = (data.train.len(), Preset::Quick, false);
    let situation = Situation { preset, space: &**space, data: "digits", images, info: &info, compat };
    for (method, inherits) in [(Method::Flatnas, true), (Method::Genas, false)] {
        let config = method.preset(&situation);
        let parts = config.evaluator.parts(&data, config.seed).unwrap();
        let trains = supernet_images(&config, &data, &parts).unwrap();
        let count = config.finals.training_images(images).unwrap();
        let back = images_kept_back(images, count, config.finals.kept_back, config.seed);
        let both = trains.iter().filter(|image| back.contains(image)).count();
        assert_eq!(both == 0, inherits, "{method}: {both}");
        let all = parts.all.iter().filter(|image| !inherits || !back.contains(image)).count();
        assert!(back.len() == 288 && trains.len() == all && all > 700, "{method}: {all}");
    }
}
