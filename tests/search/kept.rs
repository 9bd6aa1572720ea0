//! Which of the networks that a search trains at its end is kept.

use altiplano::data;
use altiplano::measure::trial::{images_kept_back, training_images};
use altiplano::search::result::SearchResult;
use serde_json::Value;

use crate::SMALL_CROZE;
use crate::program::Scratch;

const MORE: [&str; 4] = ["--epochs", "3", "--arms", "proxy"];

fn mean(finalist: &Value, name: &str) -> f64 {
    finalist[name]["mean"].as_f64().unwrap()
}

#[test]
fn the_network_is_kept_that_errs_least_on_images_kept_back() {
    let scratch = Scratch::new();
    let settings = |kept_back: usize| {
        let finals = "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.contestants = [\"proxy\", \"largest\", \"any\", \"any-2:sam\"]\n";
        format!("{finals}finals.kept_back = {kept_back}\n")
    };
    scratch.write("small.toml", settings(160));
    let read = |run: &str| -> Value { serde_json::from_slice(&scratch.read(&format!("{run}/result.json"))).unwrap() };
    // Of the first seeds at least one keeps another network than the search's own, or this would show nothing.
    let mut others = 0;
    for seed in ["1", "2"] {
        let run = format!("run-{seed}");
        let text = scratch.good(&[&SMALL_CROZE[..], &MORE, &["--out", &run, "--seed", seed]].concat());
        let result = read(&run);
        let finalists = result["finalists"].as_array().unwrap();
        assert_eq!(finalists.len(), 4);
        let kept: Vec<&Value> = finalists.iter().filter(|own| own["kept"] == true).collect();
        let [kept] = kept[..] else { panic!("{} are kept", kept.len()) };
        let error = |own: &Value| mean(own, "validation_error");
        let least = finalists.iter().min_by(|a, b| error(a).total_cmp(&error(b))).unwrap();
        let doubt = least["validation_error"]["standard_error"].as_f64().unwrap();
        let largest = finalists.iter().find(|own| own["role"] == "largest").unwrap();
        let want = if error(largest) <= error(least) + doubt { largest } else { least };
        assert_eq!(kept["role"], want["role"], "seed {seed}");
        // The test images have no say.
        assert_eq!(result["final"]["training_images"], 1442 - 160);
        let accuracy = result["final"]["clean_accuracy"].as_f64().unwrap();
        assert!((100.0 * (1.0 - accuracy) - mean(kept, "clean_error")).abs() < 1e-9);
        assert_eq!(result["final"]["optimizer"], kept["optimizer"]);
        holds_together(&scratch, &run);
        assert!(text.contains(&format!("kept {}:", kept["role"].as_str().unwrap())), "{text}");
        // What is written down is this network, and what is printed trains it again.
        scratch.good(&[
            "train",
            "--quiet",
            "--config",
            &format!("{run}/train.toml"),
            "--out",
            &format!("again-{seed}"),
        ]);
        let best = |run: &str| scratch.read(&format!("{run}/best.safetensors"));
        assert!(best(&run) == best(&format!("again-{seed}")), "seed {seed}");
        others += usize::from(kept["role"] != "proxy");
    }
    assert!(others > 0, "each search kept its own network");

    // Those images as test images of their own, under the corruptions for validation; their order, and so their noise, is another.
    let digits = data::load("digits").unwrap().train;
    let training = training_images(digits.len(), Some(digits.len() - 160), 1).unwrap();
    let back = images_kept_back(digits.len(), training.len(), 160, 1);
    assert!(back.len() == 160 && back.iter().all(|image| !training.contains(image)));
    for (number, &image) in back.iter().enumerate() {
        let pixels = image::GrayImage::from_raw(8, 8, digits.at_hand(image).unwrap().to_vec()).unwrap();
        for split in ["train", "test"] {
            let folder = scratch.path(&format!("back/{split}/{}", digits.labels[image]));
            std::fs::create_dir_all(&folder).unwrap();
            pixels.save(folder.join(format!("{number:03}.png"))).unwrap();
        }
    }
    let kinds = "speckle_noise,gaussian_blur,spatter,saturate";
    let evaluate = ["evaluate", "--quiet", "--model", "run-1/best.safetensors", "--data", "back", "--json"];
    let found = scratch.json(&[&evaluate[..], &["--corruptions", kinds]].concat());
    let rows = found["corruptions"].as_object().unwrap().values();
    let accuracies: Vec<f64> =
        rows.flat_map(|row| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap())).collect();
    assert_eq!(accuracies.len(), 20);
    let error = 100.0 * (1.0 - accuracies.iter().sum::<f64>() / 20.0);
    let result = read("run-1");
    let kept = result["finalists"].as_array().unwrap().iter().find(|own| own["kept"] == true).unwrap();
    assert!((error - mean(kept, "validation_error")).abs() < 3.0, "{error} against {kept}");

    // Without such images the search's own network is kept.
    scratch.write("small.toml", settings(0));
    scratch.good(&[&SMALL_CROZE[..], &MORE, &["--out", "own"]].concat());
    let result = read("own");
    let finalists = result["finalists"].as_array().unwrap();
    assert!(finalists.iter().enumerate().all(|(place, own)| own["kept"] == (place == 0)));
    assert!(finalists.iter().all(|own| own.get("validation_error").is_none()));
    assert_eq!(result["final"]["training_images"], 1442);
    scratch.write("small.toml", settings(900));
    scratch.bad(2, &[&SMALL_CROZE[..], &MORE, &["--out", "x"]].concat(), &["finals.kept_back", "900 of 1442"]);
}

/// What a result says twice it says alike, in full and in parts; as one type it is read as it was written.
fn holds_together(scratch: &Scratch, run: &str) {
    let bytes = scratch.read(&format!("{run}/result.json"));
    let result: SearchResult = serde_json::from_slice(&bytes).unwrap();
    assert!(serde_json::to_vec_pretty(&result).unwrap() == bytes, "{run}");
    for own in &result.finalists {
        assert_eq!((own.by_corruption.len(), own.corrupted_error.len()), (15, 5));
        for (level, whole) in own.corrupted_error.iter().enumerate() {
            let mean = own.by_corruption.values().map(|errors| errors[level]).sum::<f64>() / 15.0;
            assert!((mean - whole.mean).abs() < 1e-9, "{}: {mean} {}", own.role, whole.mean);
        }
        let sigma = result.config.finals.noise.sigma;
        let sigmas: Vec<f64> = own.under_noise.iter().map(|own| own.sigma).collect();
        assert_eq!(sigmas, [0.0, 0.5, 1.0, 2.0, 4.0].map(|times| times * sigma));
        assert!((own.under_noise[0].error - own.uncorrupted_error.mean).abs() < 1e-9);
        assert_eq!(own.curve.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [1, 2, 3]);
        // Accuracy may rise under one draw and fall under another.
        let change = (own.under_noise[2].error - own.under_noise[0].error).abs();
        assert!(change <= own.robustness.mean + 1e-9, "{change} {:?}", own.robustness);
    }
    let kept = result.kept().unwrap();
    let rise = kept.under_noise[2].loss - kept.under_noise[0].loss;
    assert!((rise - result.trained.flatness.unwrap()).abs() < 1e-12, "{rise}");
    assert_eq!(kept.curve.last(), Some(&result.trained.training));
    // One seed of the same network and optimiser is one training.
    for (a, b) in result.finalists.iter().zip(result.finalists.iter().skip(1)) {
        assert_eq!(a.curve == b.curve, (&a.arch, a.optimizer) == (&b.arch, b.optimizer), "{} {}", a.role, b.role);
    }
    // The sheet has the pictures that are told of: the clean ones are those of the data set.
    let test = data::load("digits").unwrap().test;
    let test = test.reveal_for_final_evaluation();
    let sheet = image::load_from_memory(&scratch.read(&format!("{run}/mistakes.png"))).unwrap().into_luma8();
    assert!(!result.mistakes.is_empty() && result.mistakes.len() <= 15);
    assert_eq!(sheet.dimensions(), (8 * result.mistakes.len() as u32, 16));
    for (column, own) in result.mistakes.iter().enumerate() {
        assert!(own.image < 20 && own.severity == 3 && own.probability > 0.1 && own.probability <= 1.0, "{own:?}");
        assert_eq!(own.label, test.class_names[usize::from(test.labels[own.image])]);
        assert!(own.answer != own.label && test.class_names.contains(&own.answer), "{own:?}");
        let part = |row: u32| image::imageops::crop_imm(&sheet, 8 * column as u32, row, 8, 8).to_image().into_raw();
        assert!(part(0) == test.at_hand(own.image).unwrap() && part(8) != part(0), "{own:?}");
        // Where it errs, the table counts it.
        assert!(kept.by_corruption[&own.kind][2] > 0.0, "{own:?}");
    }
    for (kind, errors) in &kept.by_corruption {
        let shown = result.mistakes.iter().any(|own| own.kind == *kind);
        assert!(shown || errors[2] <= kept.uncorrupted_error.mean, "{kind}: {errors:?}");
    }
}

/// Candidates may be smaller than what is trained of them, as GeNAS's are.
#[test]
fn networks_at_the_end_may_be_built_otherwise() {
    let scratch = Scratch::new();
    let build = "{ form = 'tiny', image = [8, 8], in_channels = 1, classes = 10, channels = 8, cells = 1 }";
    let finals =
        "finals.contestants = ['proxy']\nfinals.judged_images = 20\nfinals.noise.draws = 2\nfinals.kept_back = 0\n";
    scratch.write("small.toml", format!("{finals}finals.build = {build}\n"));
    scratch.good(&[&SMALL_CROZE[..], &["--epochs", "1", "--arms", "proxy", "--out", "run"]].concat());
    let result: Value = serde_json::from_slice(&scratch.read("run/result.json")).unwrap();
    let params = |value: &Value| value["params"].as_u64().unwrap();
    let (own, found) = (&result["finalists"][0], &result["arms"][0]["best"]);
    assert!(own["arch"] == found["arch"] && params(own) > 2 * params(found), "{own} {found}");
    scratch.good(&["train", "--quiet", "--config", "run/train.toml", "--out", "again"]);
    assert!(scratch.read("run/best.safetensors") == scratch.read("again/best.safetensors"));
    scratch.good(&["search", "--quiet", "--resume", "--out", "run"]);
    scratch.write(
        "small.toml",
        format!("{finals}finals.build = {{ form = 'tiny', image = [8, 8], in_channels = 1, classes = 10 }}\n"),
    );
    scratch.bad(2, &[&SMALL_CROZE[..], &["--out", "other"]].concat(), &["finals.build", "channels"]);
}
