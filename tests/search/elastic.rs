//! The elastic space from outside: searches over several resolutions, and networks that are cut out of a supernet's file.

use std::collections::BTreeMap;

use altiplano::graph::Role;
use altiplano::graph::store::Contents;
use altiplano::nn::space::{Build, Family, Options, Registry};
use altiplano::nn::tensors::{Named, Values, fresh, load, to_bytes};
use altiplano::nn::trained_graph;
use altiplano::space::Arch;
use serde_json::Value;

use crate::program::Scratch;

const WIDTH: f64 = 0.1;

fn family(side: i64, classes: usize) -> Family {
    let mut options = Options::new();
    options.insert("smallest".into(), side.into());
    options.insert("step".into(), 4.into());
    options.insert("width".into(), WIDTH.into());
    let build = Build { form: "ofa".into(), image: [side as usize; 2], in_channels: 1, classes, options };
    Registry::default().open("mobilenet-v3", build).unwrap()
}

/// Random weights under the names of the authors' supernet, whose elastic blocks wrap their layers once more.
fn supernet(classes: usize) -> Named {
    let family = family(8, classes);
    let largest: Arch = family.genes().iter().map(|gene| gene.options - 1).collect();
    let graph = trained_graph(&*family.network(&largest).unwrap()).unwrap();
    let contents = Contents::of(&graph, &[Role::Weights, Role::Running]).unwrap();
    let mut named = Named::new();
    for (name, values) in fresh(&contents, 3) {
        let is_elastic = name.starts_with("blocks.") && !name.starts_with("blocks.0.") && !name.contains(".se.");
        let wrapped = name.replace(".conv.weight", ".conv.conv.weight").replace(".bn.", ".bn.bn.");
        if let Some(conv) = name.strip_suffix(".depth_conv.conv.weight").filter(|_| is_elastic) {
            for (matrix, side) in [("7to5", 25usize), ("5to3", 9)] {
                let data = (0..side * side).map(|i| if i % (side + 1) == 0 { 1.0 } else { 0.001 }).collect();
                let name = format!("{conv}.depth_conv.conv.{matrix}_matrix");
                named.insert(name, Values { dims: vec![side; 2], data });
            }
        }
        named.insert(if is_elastic { wrapped } else { name }, values);
    }
    named
}

fn write(scratch: &Scratch, name: &str, named: &Named) {
    scratch.write(name, to_bytes(named, BTreeMap::new()).unwrap());
}

const SETTINGS: &str = r#"
finals.images = 160
finals.judged_images = 20
finals.contestants = ["flat", "largest"]
[evaluator]
training_images = 800
images = 100
training.epochs = 3
training.optimizer = "sgd"
[strategy]
initial = 10
picks = 2
"#;

fn search<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["search", "--quiet", "--method", "flatnas", "--space", "mobilenet-v3", "--config", "small.toml"];
    let sizes = ["--build", "width=0.1,smallest=8", "--image", "12x12", "--generations", "1", "--epochs", "1"];
    [&fixed[..], &sizes, &["--draws", "2", "--arms", "flat", "--out", out], more].concat()
}

fn history(scratch: &Scratch, run: &str) -> Vec<Value> {
    let text = String::from_utf8(scratch.read(&format!("{run}/history.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn candidates_of_several_resolutions_begin_with_a_supernet() {
    let scratch = Scratch::new();
    scratch.write("small.toml", SETTINGS);
    write(&scratch, "super.safetensors", &supernet(12));
    scratch.good(&search("inherited", &["--supernet", "super.safetensors"]));
    scratch.good(&search("fresh", &["--supernet-epochs", "0", "--resize-first", "false"]));
    let [inherited, fresh] = ["inherited", "fresh"].map(|run| history(&scratch, run));
    assert_eq!((inherited.len(), fresh.len()), (12, 12));
    for side in ["r=8;", "r=12;"] {
        assert!(inherited.iter().filter(|entry| entry["arch"].as_str().unwrap().starts_with(side)).count() > 2);
    }
    // The same candidates at first, with other weights.
    for (own, other) in inherited.iter().zip(&fresh).take(10) {
        assert_eq!(own["arch"], other["arch"]);
        assert_ne!(own["measures"]["training_loss"], other["measures"]["training_loss"]);
    }
    // The file has twelve classes, and the data ten.
    let result: Value = serde_json::from_slice(&scratch.read("inherited/result.json")).unwrap();
    assert!(result["final"]["clean_accuracy"].is_number());
    let best = load(&scratch.path("inherited/best.safetensors")).unwrap().0;
    assert_eq!(best["classifier.linear.bias"].dims, [10]);
    // So its classifier is drawn anew, and not the first rows of the file's.
    let start = load(&scratch.path("inherited/start.safetensors")).unwrap().0;
    let (rows, theirs) = (&start["classifier.linear.weight"], &supernet(12)["classifier.linear.weight"]);
    assert_eq!((rows.dims[0], theirs.dims[0], rows.dims[1]), (10, 12, theirs.dims[1]));
    assert!(rows.data[..] != theirs.data[..rows.data.len()]);
    let (name, theirs) = ("feature_mix_layer.conv.weight", supernet(12));
    assert!(start[name].data[..] == theirs[name].data[..start[name].data.len()]);
    protocols_have_names(&scratch, &result);
    scratch.good(&["search", "--quiet", "--resume", "--out", "inherited"]);
    assert_eq!(history(&scratch, "inherited"), inherited);

    for missing in ["blocks.20.conv.point_linear.bn.bn.running_mean", "blocks.3.conv.depth_conv.conv.7to5_matrix"] {
        let mut lacking = supernet(10);
        lacking.remove(missing).unwrap();
        write(&scratch, "lacking.safetensors", &lacking);
        scratch.bad(2, &search("none", &["--supernet", "lacking.safetensors"]), &["lacking.safetensors", missing]);
    }
    let genas = ["search", "--quiet", "--method", "genas", "--space", "mobilenet-v3", "--out", "none"];
    let shared = [&genas[..], &["--build", "width=0.1", "--supernet", "super.safetensors"]].concat();
    scratch.bad(2, &shared, &["super.safetensors", "classifier.linear"]);
    let own = [&search("none", &[])[..], &["--supernet", "inherited/best.safetensors"]].concat();
    scratch.bad(2, &own, &["inherited/best.safetensors", "no supernet"]);
    // What was measured of other weights is not what this search would measure.
    let warm = ["--warm-start", "fresh/history.jsonl", "--supernet", "super.safetensors"];
    scratch.bad(2, &search("none", &warm), &["fresh/history.jsonl", "another `supernet"]);
}

/// Images of 8x8 are corrupted so, and after they were made as large as networks of 12x12 see them.
fn protocols_have_names(scratch: &Scratch, result: &Value) {
    let finalists = result["finalists"].as_array().unwrap();
    for own in finalists {
        let errors = [&own["corrupted_error"], &own["resized_first_error"]].map(|list| list.as_array().unwrap().len());
        assert_eq!(errors, [5, 5], "{own}");
        let means = [&own["mean_corrupted_error"]["mean"], &own["mean_resized_first_error"]["mean"]];
        assert_eq!(means[0] == means[1], own["arch"].as_str().unwrap().starts_with("r=8;"), "{own}");
    }
    assert!(finalists.iter().any(|own| own["arch"].as_str().unwrap().starts_with("r=12;")));
    let header = |run: &str| {
        let table = String::from_utf8(scratch.read(&format!("{run}/table.csv"))).unwrap();
        table.lines().next().unwrap().to_owned()
    };
    assert!(header("inherited").contains("corrupted error, official (first 20)"), "{}", header("inherited"));
    assert!(header("inherited").contains("corrupted error, resize first (first 20)"));
    assert!(header("fresh").contains("corrupted error (first 20)") && !header("fresh").contains("resize first"));

    let model = "inherited/best.safetensors";
    let evaluate = |more: &[&'static str]| {
        [&["evaluate", "--model", model, "--data", "digits", "--images", "20"][..], more].concat()
    };
    let some = ["--corruptions", "gaussian_noise", "--severities", "5", "--resize-first"];
    if kept(finalists)["arch"].as_str().unwrap().starts_with("r=12;") {
        let text = scratch.good(&evaluate(&some));
        assert!(text.contains("of images made 12x12 before"), "{text}");
    } else {
        scratch.bad(2, &evaluate(&some), &["--resize-first", "8x8", "leave it out"]);
    }
}

fn kept(finalists: &[Value]) -> &Value {
    finalists.iter().find(|own| own["kept"] == true).unwrap()
}

/// The largest network, the smallest and one between learn side by side; what the search keeps of it is a supernet in its authors' names, which
/// other searches cut networks out of. Candidates say after which epoch they were best.
#[test]
fn a_supernet_is_trained_for_a_search() {
    let scratch = Scratch::new();
    scratch.write("small.toml", SETTINGS);
    let own = ["--supernet-epochs", "1", "--paths", "3", "--shrinking"];
    scratch.good(&search("own", &own));
    let epochs = history(&scratch, "own").into_iter().map(|entry| entry["measures"]["best_epoch"].as_f64().unwrap());
    let epochs: Vec<f64> = epochs.collect();
    assert!(epochs.len() == 12 && epochs.iter().all(|epoch| [1.0, 2.0, 3.0].contains(epoch)), "{epochs:?}");
    assert!(epochs.iter().any(|epoch| *epoch != epochs[0]), "{epochs:?}");
    let named = load(&scratch.path("own/supernet.safetensors")).unwrap().0;
    let unit =
        |side: usize| (0..side * side).map(|i| if i % (side + 1) == 0 { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    for (name, side) in [("7to5", 25), ("5to3", 9)] {
        // Kernels become smaller in the second quarter.
        let matrix = &named[&format!("blocks.1.conv.depth_conv.conv.{name}_matrix")];
        assert!(matrix.dims == [side, side] && matrix.data != unit(side), "{name}");
    }
    let theirs = supernet(10);
    assert!(named.keys().eq(theirs.keys()), "names");
    assert!(named.iter().all(|(name, values)| values.dims == theirs[name].dims), "shapes");
    let family = family(12, 10);
    for gene in [0u8, 2] {
        let arch: Arch = family.genes().iter().map(|own| gene.min(own.options - 1)).collect();
        let part = family.cut(&named, &arch).unwrap().unwrap();
        assert!(part.values().all(|values| values.data.iter().all(|value| value.is_finite())));
    }
    // Fresh weights want longer trainings.
    let fresh = ["search", "--method", "flatnas", "--space", "mobilenet-v3", "--dry-run", "--supernet-epochs", "0"];
    let told = scratch.run(&fresh).stderr;
    assert!(told.contains("2 epochs as candidates, 3 at the end (--candidate-epochs, --epochs)"), "{told}");
    let genas = ["--method", "genas", "--space", "mobilenet-v3", "--dry-run"];
    let plan = scratch.json(&[&["search", "--quiet", "--json"], &genas[..]].concat());
    assert_eq!(
        (&plan["config"]["supernet"]["paths"], &plan["config"]["supernet"]["sandwich"]),
        (&4.into(), &true.into())
    );
    assert_eq!(plan["config"]["build"]["smallest"], plan["config"]["build"]["image"][0]);

    let other = |more: &[&'static str]| [&["search", "--quiet", "--out", "none"][..], more].concat();
    scratch.bad(2, &search("none", &["--paths", "1"]), &["--sandwich", "--paths 2 or more"]);
    for option in ["--sandwich", "--shrinking"] {
        scratch.bad(2, &other(&["--paths", "2", option]), &["not parts of a largest one", "leave --sandwich"]);
        scratch.bad(2, &other(&["--method", "croze", option]), &[option, "--method croze"]);
        scratch.bad(2, &other(&["--method", "flatnas", option]), &[option, "no supernet is trained"]);
    }
    let sizes = [&genas[..3], &["mobilenet-v3", "--build", "smallest=4"]].concat();
    scratch.bad(2, &other(&sizes), &["4x4", "8x8", "smallest 8"]);
}

/// A candidate whose loss is no number has failed, whichever its best epoch was.
#[test]
fn candidates_that_are_lost_are_counted() {
    let scratch = Scratch::new();
    scratch.write("small.toml", SETTINGS);
    let lost = search("lost", &["--supernet-epochs", "0", "--lr", "1000", "--weight-decay", "1"]);
    scratch.stops(2, &lost, &["none of 12 candidates can be chosen", "12 could not be evaluated"]);
    let history = history(&scratch, "lost");
    for name in ["error", "accuracy", "robustness"] {
        assert!(history.iter().all(|entry| entry["measures"][name] == "NaN"), "{name}");
    }
}

/// Among networks of one size candidates are paths, also through a supernet that another search has trained.
#[test]
fn paths_of_one_size_share_a_supernet() {
    let scratch = Scratch::new();
    let small = "arms = [\"flatness\"]\nevaluations = 3\nfinals.contestants = [\"flatness\"]\nfinals.images = 64\nfinals.judged_images = 20\n\
                 [finals.noise]\ndraws = 1\n[strategy]\npopulation = 3\nparents = 1\nmutations = 1\ncrossovers = 1\n[evaluator]\nimages = 64\nbatch = 32\n\
                 flatness.draws = 1\nflatness.sigmas = [0.1]\n";
    scratch.write("small.toml", small);
    let fixed = [
        "search",
        "--quiet",
        "--method",
        "genas",
        "--space",
        "mobilenet-v3",
        "--config",
        "small.toml",
        "--epochs",
        "1",
    ];
    let own =
        [&fixed[..], &["--build", "width=0.1,smallest=8", "--supernet-epochs", "1", "--paths", "2", "--out", "own"]]
            .concat();
    scratch.good(&own);
    let found = history(&scratch, "own");
    let archs = found.iter().map(|entry| entry["arch"].as_str().unwrap()).collect::<Vec<_>>();
    let ranks = scratch.json(&[&["rank", "own", "--json", "--quiet"][..], &["--arch", archs[0], archs[1]]].concat());
    for (own, rank) in found.iter().zip(ranks.as_array().unwrap()) {
        assert_eq!((&own["arch"], &own["measures"]["loss"]), (&rank["arch"], &rank["loss"]));
    }
}

/// A candidate's proxy is that of its own size; and what `score` says of networks without a value, or of another size than the batch.
#[test]
fn proxies_are_those_of_each_resolution() {
    let scratch = Scratch::new();
    scratch.write(
        "small.toml",
        "finals.judged_images = 20\nfinals.contestants = [\"proxy\"]\n[finals.noise]\ndraws = 2\n",
    );
    let sizes = ["--space", "mobilenet-v3", "--data", "digits", "--build", "width=0.1,smallest=8"];
    let own = ["search", "--quiet", "--method", "croze", "--config", "small.toml", "--image", "12x12", "--epochs", "1"];
    let more = ["--evaluations", "6", "--arms", "proxy", "--proxy", "croze", "--attacks", "fgsm:8/255", "--out", "run"];
    scratch.good(&[&own[..], &sizes, &more].concat());
    let history = history(&scratch, "run");
    for (side, name) in [("8x8", "r=8;"), ("12x12", "r=12;")] {
        let found = history.iter().find(|entry| entry["arch"].as_str().unwrap().starts_with(name)).unwrap();
        let arch = found["arch"].as_str().unwrap();
        let score =
            ["score", "--json", "--quiet", "--proxies", "croze", "--image", side, "--batch-size", "16", "--arch", arch];
        let alone = scratch.json(&[&score[..], &sizes].concat());
        assert_eq!(alone[0]["croze"], found["measures"]["croze"], "{arch}");
        if side == "12x12" {
            let other = arch.replace("r=12", "r=8");
            scratch.bad(2, &[&score[..], &[&other], &sizes].concat(), &["8x8", "12x12", "--image 8x8"]);
        }
    }
    // Without norms these networks leave f32, and a search would be one by chance.
    let wide = ["--space", "mobilenet-v3", "--data", "digits", "--build", "width=1.0"];
    let lost = [&["search", "--quiet", "--method", "croze"][..], &wide, &["--out", "lost"]].concat();
    scratch.stops(2, &lost, &["--proxy", "croze_mean has no value of", "such as croze"]);
    // One position of one image has no variance, and a norm of it no gradient.
    let score = ["score", "--proxies", "synflow_bn", "--image", "8x8", "--sample", "2"];
    let output = scratch.run(&[&score[..], &sizes].concat());
    let said = "synflow_bn: 2 of 2 networks have the lowest score (-1e8)";
    assert!(output.code == 0 && output.stderr.contains(said), "{}", output.stderr);
}

/// Crops are in pixels of the images, and grow with what a network sees.
#[test]
fn a_papers_search_sees_images_of_imagenet_s_size() {
    let scratch = Scratch::new();
    let args = ["search", "--quiet", "--dry-run", "--json", "--method", "flatnas", "--space", "mobilenet-v3"];
    let plan = scratch.json(&[&args[..], &["--preset", "paper"]].concat());
    let config = &plan["config"];
    assert_eq!((&config["build"]["image"][0], &config["build"]["smallest"]), (&224.into(), &128.into()));
    for training in [&config["training"], &config["evaluator"]["training"]] {
        let augmentation = &training["augmentation"];
        assert_eq!((&augmentation["padding"], &augmentation["flip"]), (&1.into(), &false.into()));
    }
    let quick = scratch.json(&args);
    assert_eq!((&quick["config"]["build"]["image"][0], &quick["config"]["build"]["smallest"]), (&8.into(), &4.into()));
}

#[test]
fn a_training_begins_with_a_part_of_a_supernet() {
    let scratch = Scratch::new();
    let theirs = supernet(10);
    write(&scratch, "super.safetensors", &theirs);
    let name = "d=2,3,2,2,2;k=3,5,7,3,3,3,5,3,3,7,3;e=3,3,4,3,6,3,3,3,4,3,3";
    let train = |out: &'static str, from: &'static str| {
        let fixed = ["train", "--data", "digits", "--space", "mobilenet-v3", "--arch", name, "--images", "64"];
        let sizes = ["--build", "width=0.1", "--epochs", "1", "--lr", "0", "--from", from, "--out", out];
        scratch.run(&[&fixed[..], &sizes].concat())
    };
    let output = train("same", "super.safetensors");
    assert!(output.code == 0 && output.stderr.contains("the network's part is taken"), "{}", output.stderr);
    let family = family(8, 10);
    let own = family.cut(&theirs, &family.parse(name).unwrap()).unwrap().unwrap();
    let trained = load(&scratch.path("same/best.safetensors")).unwrap().0;
    let weights = own.iter().filter(|(name, _)| !name.contains("running_"));
    assert!(weights.clone().count() > 100);
    weights.for_each(|(name, values)| assert_eq!(&trained[name], values, "{name}"));
    // Of other classes, all but the classifier.
    write(&scratch, "more.safetensors", &supernet(12));
    let output = train("other", "more.safetensors");
    assert!(output.code == 0 && output.stderr.contains("12 classes, the data 10"), "{}", output.stderr);
    let trained = load(&scratch.path("other/best.safetensors")).unwrap().0;
    assert_eq!(trained["first_conv.conv.weight"], own["first_conv.conv.weight"]);
    assert_ne!(trained["classifier.linear.weight"], own["classifier.linear.weight"]);
}
