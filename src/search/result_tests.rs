use serde_json::{Value, json};

use super::*;
use crate::measure::judge::UnderAttack;
use crate::measure::judged::{Spread, UnderNoise};
use crate::nn::space::{ImageInfo, Registry};
use crate::search::config::Preset;
use crate::search::methods::{Method, Situation};
use crate::train::step::Optimizer;

fn epoch(loss: f64) -> Progress {
    Progress { epoch: 1, loss, accuracy: 0.5 }
}

/// A network that is lost.
fn finalist() -> Judged {
    let (nan, name) = (f64::NAN, String::from);
    let spread = Spread { mean: nan, deviation: Some(nan), standard_error: None };
    Judged {
        role: name("any"),
        arch: name("a"),
        optimizer: Optimizer::Asam,
        params: 7,
        macs: 9,
        latency: None,
        seeds: 1,
        test_images: 355,
        clean_error: spread,
        judged_images: 20,
        uncorrupted_error: spread,
        robustness: spread,
        corrupted_error: vec![spread],
        mean_corrupted_error: Some(spread),
        by_corruption: BTreeMap::from([(name("fog"), vec![10.0, 20.0])]),
        under_noise: vec![UnderNoise { sigma: 0.0, loss: nan, error: 90.0 }],
        resized_first_error: vec![],
        mean_resized_first_error: None,
        validation_error: None,
        kept: true,
        attacked_error: BTreeMap::from([(name("fgsm"), spread)]),
        curve: vec![epoch(2.5), epoch(nan)],
    }
}

/// A result in which every number that may be none is none.
fn lost() -> SearchResult {
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let registry = Registry::default();
    let space = &**registry.get("nas-bench-201").unwrap();
    let situation =
        Situation { preset: Preset::Quick, space, data: "digits", images: 1442, info: &info, compat: false };
    let nan = f64::NAN;
    let name = String::from;
    let found = Found {
        arch: name("a"),
        params: 7,
        macs: 9,
        fitness: nan,
        objectives: vec![f64::INFINITY, 0.1 + 0.2],
        measures: Measures::from([(name("error"), nan), (name("loss"), 1.0 / 3.0)]),
    };
    let generation =
        Generation { generation: 0, surrogate: name("gp"), notes: vec![], evaluated: 3, hypervolume: Some(nan) };
    let arm = Explored {
        arm: name("flatness"),
        strategy: name("evolution"),
        evaluated: 3,
        given: 2,
        failed: 1,
        learned_nothing: 1,
        scale: nan,
        seconds: 0.5,
        steps: vec![generation],
        front: vec![found.clone()],
        best: None,
    };
    SearchResult {
        method: name("genas"),
        space: name("nas-bench-201"),
        dataset: name("digits"),
        seed: u64::MAX,
        compat: false,
        device: name("none"),
        reproducible: true,
        varies: vec![],
        seconds: 1.5,
        changes: vec![name("driver")],
        evaluated: 3,
        short: None,
        best: found.clone(),
        front: vec![found],
        findings: BTreeMap::from([(name("sigmas"), json!([0.5, null]))]),
        constant_error: None,
        correlations: BTreeMap::from([(name("params"), None), (name("macs"), Some(nan))]),
        arms: vec![arm],
        supernet_training: vec![epoch(nan)],
        trained: Final {
            optimizer: Optimizer::Asam,
            epochs: 2,
            training_images: 1154,
            training: epoch(nan),
            test_images: 355,
            clean_loss: nan,
            clean_accuracy: 0.1,
            corruption_accuracy: None,
            corruption_images: 0,
            attacks: vec![UnderAttack { attack: name("fgsm"), accuracy: nan, images: 20 }],
            suspicions: vec![],
            flatness: Some(nan),
        },
        finalists: vec![finalist()],
        mistakes: vec![Mistake {
            kind: name("fog"),
            severity: 3,
            image: 4,
            label: name("1"),
            answer: name("7"),
            probability: 2.0 / 3.0,
        }],
        config: Method::Genas.preset(&situation),
    }
}

#[test]
fn results_are_read_back() {
    let result = lost();
    let written = serde_json::to_string(&result).unwrap();
    let read: SearchResult = serde_json::from_str(&written).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
    assert_eq!((read.seed, &read.config), (u64::MAX, &result.config));
    let best = &read.best;
    assert!(best.fitness.is_nan() && best.objectives[0].is_nan() && best.measures["error"].is_nan());
    assert!(best.objectives[1] == 0.1 + 0.2 && read.arms[0].scale.is_nan() && read.arms[0].best.is_none());
    assert!(read.finalists[0].under_noise[0].loss.is_nan() && read.trained.attacks[0].accuracy.is_nan());
    // The findings are what no field has taken.
    assert_eq!(read.findings.keys().collect::<Vec<_>>(), ["sigmas"]);
}

/// Results of earlier versions lack what came later, and may have what there is no more.
#[test]
fn results_of_earlier_versions_are_read() {
    let mut value = serde_json::to_value(lost()).unwrap();
    let later = ["by_corruption", "under_noise", "curve", "kept", "attacked_error"];
    later.iter().for_each(|name| drop(value["finalists"][0].as_object_mut().unwrap().remove(*name)));
    let all = value.as_object_mut().unwrap();
    ["supernet_training", "mistakes", "changes"].iter().for_each(|name| drop(all.remove(*name)));
    ["given"].iter().for_each(|name| drop(value["arms"][0].as_object_mut().unwrap().remove(*name)));
    value["finalists"][0]["rank"] = 3.into();
    let read: SearchResult = serde_json::from_value(value).unwrap();
    let own = &read.finalists[0];
    assert!(own.by_corruption.is_empty() && own.under_noise.is_empty() && own.curve.is_empty() && !own.kept);
    assert!(read.supernet_training.is_empty() && read.mistakes.is_empty() && read.arms[0].given == 0);
    assert!(read.kept().is_err());
    assert!(serde_json::from_value::<SearchResult>(Value::Null).is_err());
}

/// With the optimiser where it is not that of the others.
#[test]
fn finalists_have_names() {
    let mut result = lost();
    let mut finalist = result.finalists.remove(0);
    assert_eq!(result.label(&finalist), "any:asam");
    finalist.optimizer = result.config.training.optimizer;
    assert_eq!(result.label(&finalist), "any");
}
