//! Networks of DARTS cells against PyTorch (`peers/darts_torch.py`): the auxiliary heads, the network for ImageNet, and cells of 14 inputs.

use std::path::Path;

use altiplano::graph::Statistics;
use altiplano::nn::Model;
use altiplano::nn::space::{Build, Options, Registry};
use serde_json::Value;

use crate::case::json;
use crate::common;
use crate::hashed::{number, prepared, same_head, same_training};

/// The network of a case, with its auxiliary head.
fn network(info: &Value) -> Box<dyn Model> {
    let arch = info["genotype"].as_str().unwrap();
    let space = if arch.contains('.') { "darts-14" } else { "darts" };
    let mut options = Options::new();
    options.insert("channels".into(), (number(info, "C") as i64).into());
    options.insert("cells".into(), (number(info, "layers") as i64).into());
    options.insert("auxiliary".into(), info["auxiliary"].as_f64().unwrap().into());
    let (side, form) = (number(info, "side"), info["form"].as_str().unwrap().to_owned());
    let build = Build { form, image: [side; 2], in_channels: 3, classes: number(info, "classes"), options };
    let family = Registry::default().open(space, build).unwrap();
    family.network(&family.parse(arch).unwrap()).unwrap()
}

fn for_each_case(test: impl Fn(&Value)) {
    let cases: Vec<_> = common::golden_cases("darts_heads");
    assert!(cases.len() >= 5);
    for case in cases {
        println!("{}", case.display());
        let info = json(&Path::join(&case, "case.json"));
        test(&info);
    }
}

#[test]
fn training_with_auxiliary_heads() {
    for_each_case(|info| {
        let prepared = prepared(&*network(info), info, Statistics::Batch { update: true });
        // The factor of an average over other than a power of two positions is rounded to f32.
        let exact = number(info, "side") == 32;
        same_training(&prepared.in_f64(), info, [1e-9, if exact { 1e-8 } else { 1e-7 }]);
        same_training(&prepared.on_device(), info, [1e-4, 1e-3]);
    });
}

#[test]
fn evaluation_without_auxiliary_heads() {
    for_each_case(|info| {
        let prepared = prepared(&*network(info), info, Statistics::Running);
        assert!(prepared.named.keys().all(|name| !name.starts_with("auxiliary")));
        for (found, tolerance) in [(prepared.in_f64(), 1e-9), (prepared.on_device(), 1e-4)] {
            let [own] = &found.heads[..] else { panic!("{} heads", found.heads.len()) };
            same_head(own, &info["eval"], "", tolerance);
        }
    });
}
