//! Networks with an auxiliary head, from training to evaluation; networks of cells with 14 inputs.

use altiplano::nn::tensors::load;
use altiplano::nn::weights::Weights;

use crate::program::Scratch;

const CELLS: &str = "3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7";
const CLASSES: [&str; 3] = ["ant", "bee", "cat"];
const CELLS14: &str = "17872413758436.4534-15955967776974.3255";

/// Images of 32 pixels, 12 of each of three classes to train on.
fn images(scratch: &Scratch) {
    for (part, count) in [("train", 12), ("test", 4)] {
        for class in 0..3u32 {
            for number in 0..count {
                let value = |x: u32, y: u32| (60 * class + 5 * number + x * (y + class)) as u8;
                let image = image::GrayImage::from_fn(32, 32, |x, y| image::Luma([value(x, y)]));
                let path = scratch.path(&format!("data/{part}/{}/{number}.png", CLASSES[class as usize]));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image.save(path).unwrap();
            }
        }
    }
}

fn train<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let base =
        ["train", "--data", "data", "--channels", "4", "--cells", "3", "--batch", "8", "--epochs", "1", "--out", out];
    [&base, options].concat()
}

/// The head is trained and saved, and whatever looks at the network afterwards does without.
#[test]
fn auxiliary_heads_are_trained_and_saved() {
    let scratch = Scratch::new();
    images(&scratch);
    let cells = ["--space", "darts", "--arch", CELLS];
    let with_head = [&cells[..], &["--build", "auxiliary=0.4"]].concat();
    scratch.good(&train("plain", &cells));
    scratch.good(&train("out", &with_head));
    let tensors = |name: &str| load(&scratch.path(name)).unwrap().0;
    let (plain, own) = (tensors("plain/best.safetensors"), tensors("out/best.safetensors"));
    let head: Vec<&String> = own.keys().filter(|name| name.starts_with("auxiliary_head.")).collect();
    // Two convolutions, the classifier's two, and four of each norm.
    assert_eq!((head.len(), own.len()), (12, plain.len() + 12));
    assert_ne!(own["stem.0.weight"], plain["stem.0.weight"]);
    let card = &Weights::read(&scratch.path("out/best.safetensors")).unwrap().metadata["altiplano.card"];
    assert!(card.contains("\"auxiliary\":0.4"), "{card}");

    let judge = ["evaluate", "--json", "--data", "data", "--corruptions", "none", "--model"];
    let found = scratch.json(&[&judge[..], &["out/best.safetensors"]].concat());
    assert!(found["clean"]["loss"].as_f64().unwrap().is_finite());
    // The same weights as a network that never had one.
    let mut bare = own.clone();
    bare.retain(|name, _| !name.starts_with("auxiliary_head."));
    scratch.write("bare.safetensors", altiplano::nn::tensors::to_bytes(&bare, Default::default()).unwrap());
    let again = scratch.json(&[&judge[..], &["bare.safetensors"], &cells].concat());
    assert_eq!(again["clean"], found["clean"]);

    let output = scratch.run(&train("more", &[&with_head[..], &["--from", "out/best.safetensors"]].concat()));
    let all = format!("{0} of {0} tensors inherited", own.len());
    assert!(output.code == 0 && output.stderr.contains(&all), "{}", output.stderr);
    // Rows of all heads follow the classes.
    let mut metadata = Weights::read(&scratch.path("out/best.safetensors")).unwrap().metadata;
    metadata.insert("altiplano.class_names".into(), "cat\nbee\nant".into());
    scratch.write("turned.safetensors", altiplano::nn::tensors::to_bytes(&own, metadata).unwrap());
    scratch.good(&train("rows", &[&with_head[..], &["--from", "turned.safetensors", "--lr", "0"]].concat()));
    let turned = tensors("rows/best.safetensors");
    let heads: Vec<&String> = own.keys().filter(|name| name.contains("classifier.")).collect();
    assert_eq!(heads.len(), 4);
    for name in heads {
        let rows = |data: &[f32]| data.chunks(data.len() / 3).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let mut want = rows(&own[name].data);
        want.reverse();
        assert_eq!(rows(&turned[name].data), want, "{name}");
    }
    let small = [&with_head[..], &["--image", "16x16"]].concat();
    scratch.bad(2, &train("none", &small), &["build.auxiliary", "sides of 32 to 40 pixels", "16x16"]);
}

/// What is no architecture is refused, and made one where that is asked for.
#[test]
fn architectures_are_repaired_on_request() {
    let scratch = Scratch::new();
    let [three, one] = ["3,6,4,4,4", "3,0,0,4,4"].map(|head| format!("{head}{}", &CELLS[9..]));
    for (codes, says) in [(&three, "node"), (&one, "node")] {
        let info = ["space", "info", "--space", "darts", "--json", "--arch", codes];
        scratch.bad(2, &info, &[says, "--repair"]);
        let repaired = scratch.json(&[&info[..], &["--repair"]].concat());
        assert_eq!(repaired["repaired"], codes.as_str());
        let again = ["space", "info", "--space", "darts", "--json", "--arch", repaired["arch"].as_str().unwrap()];
        assert!(scratch.json(&again)["repaired"].is_null());
        assert_eq!(scratch.json(&[&info[..], &["--repair"]].concat()), repaired);
        assert!(
            scratch.good(&["space", "info", "--space", "darts", "--repair", "--arch", codes]).contains("repaired: ")
        );
    }
    // Nothing is made of what stands for no genes.
    scratch.bad(2, &["space", "info", "--space", "darts", "--repair", "--arch", "1,2,3"], &["28"]);
}

#[test]
fn cells_with_14_inputs_are_trained_and_scored() {
    let scratch = Scratch::new();
    images(&scratch);
    let cells = ["--space", "darts-14", "--arch", CELLS14];
    let with_head = [&cells[..], &["--build", "auxiliary=0.4", "--image", "32x32"]].concat();
    scratch.good(&train("out", &with_head));
    let judge = ["evaluate", "--json", "--data", "data", "--corruptions", "none", "--model", "out/best.safetensors"];
    assert!(scratch.json(&judge)["clean"]["loss"].as_f64().unwrap().is_finite());
    let info = scratch.json(&["space", "info", "--json", "--space", "darts-14", "--arch", CELLS14]);
    assert_eq!(info["params"], 5_524_894);
    let proxies = ["--proxies", "croze,synflow,snip,grad_norm,naswot,grasp", "--out", "scores.csv"];
    let few = ["score", "--data", "digits", "--space", "darts-14", "--channels", "4", "--cells", "3", "--sample", "2"];
    scratch.good(&[&few[..], &proxies].concat());
    let scores = String::from_utf8(scratch.read("scores.csv")).unwrap();
    assert!(scores.lines().count() == 3 && !scores.contains("NaN"), "{scores}");
}
