//! What a supernet's candidates are compared by, and architectures ranked with a search's supernet.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use serde_json::Value;

use crate::program::Scratch;

/// A search of seconds by a sum of two measures, held against every other fitness.
const GENAS: [&str; 18] = [
    "search",
    "--quiet",
    "--method",
    "genas",
    "--config",
    "small.toml",
    "--channels",
    "4",
    "--supernet-epochs",
    "2",
    "--draws",
    "1",
    "--epochs",
    "1",
    "--evaluations",
    "4",
    "--fitness",
    "angle+flatness",
];
const ARMS: &str = "angle-flatness,angle,accuracy,flatness,accuracy-flatness,angle-accuracy,random";

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let settings = "strategy = { population = 3, parents = 2, mutations = 1, crossovers = 1 }\nevaluator.images = 50\n";
    let finals = "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.contestants = [\"angle-flatness\"]\n";
    scratch.write("small.toml", format!("{settings}{finals}"));
    scratch
}

fn lines(scratch: &Scratch, run: &str) -> Vec<Value> {
    let text = String::from_utf8(scratch.read(&format!("{run}/history.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_fitness_and_ranks_with_its_supernet() {
    let scratch = scratch();
    scratch.good(&[&GENAS[..], &["--arms", ARMS, "--keep-every", "1", "--out", "run"]].concat());
    let result: Value = serde_json::from_slice(&scratch.read("run/result.json")).unwrap();
    let least = result["sigmas"].as_array().unwrap()[0].as_f64().unwrap();
    let history = lines(&scratch, "run");
    scratch.good(&["search", "--quiet", "--resume", "--fitness", "angle+flatness", "--out", "run"]);
    assert_eq!(lines(&scratch, "run"), history);
    let measure = |entry: &Value, name: &str| entry["measures"][name].as_f64().unwrap();
    for entry in &history {
        let want = measure(entry, "flatness") / least;
        assert!((measure(entry, "scaled_flatness") / want - 1.0).abs() < 1e-12);
        assert!((0.0..PI).contains(&measure(entry, "angle")));
    }
    assert!(history.iter().any(|entry| measure(entry, "angle") > 0.1), "training turned nothing");
    let worth = |arm: &str, entry: &Value| {
        let (angle, accuracy) = (measure(entry, "angle") / PI, measure(entry, "accuracy"));
        let flatness = 16.0 * measure(entry, "scaled_flatness");
        match arm {
            "angle" => angle,
            "accuracy" => accuracy,
            "flatness" => flatness,
            "angle-flatness" | "random" => angle + flatness,
            "accuracy-flatness" => accuracy + flatness,
            _ => angle + accuracy,
        }
    };
    for (arm, found) in ARMS.split(',').zip(result["arms"].as_array().unwrap()) {
        assert_eq!(found["arm"], arm);
        let own: Vec<&Value> = history.iter().filter(|entry| entry["arm"] == arm).collect();
        assert_eq!(own.len(), 4, "{arm}");
        let best = own.iter().max_by(|a, b| worth(arm, a).total_cmp(&worth(arm, b))).unwrap();
        assert_eq!(found["best"]["arch"], best["arch"], "{arm}");
    }

    // What the search measured is measured again, to the bit; weights at another time have other measures.
    let archs: BTreeMap<String, &Value> =
        history.iter().map(|entry| (entry["arch"].as_str().unwrap().to_owned(), &entry["measures"])).collect();
    let names: Vec<&str> = archs.keys().map(String::as_str).collect();
    scratch.write("archs.txt", names.join("\n"));
    let rank = |more: &[&str]| -> Vec<Value> {
        let text = scratch.good(&[&["rank", "run", "--quiet", "--json", "--archs", "archs.txt"], more].concat());
        serde_json::from_str(&text).unwrap()
    };
    let same = |rows: &[Value]| {
        let is_same = |row: &&Value| {
            let measures = archs[row["arch"].as_str().unwrap()].as_object().unwrap();
            measures.iter().all(|(name, value)| row[name] == *value)
        };
        rows.iter().filter(is_same).count()
    };
    let (end, middle) = (rank(&["--out", "end.csv"]), rank(&["--supernet", "run/supernet-epoch-1.safetensors"]));
    assert_eq!((end.len(), same(&end), same(&middle)), (archs.len(), archs.len(), 0));
    let csv = String::from_utf8(scratch.read("end.csv")).unwrap();
    let columns = "arch,params,macs,accuracy,accuracy-flatness,angle,angle-accuracy,angle-flatness,flatness,loss,";
    assert!(csv.starts_with(columns) && csv.lines().count() == 1 + archs.len(), "{csv}");
    let sum = |row: &Value| row["angle"].as_f64().unwrap() / PI + 16.0 * row["scaled_flatness"].as_f64().unwrap();
    assert!(end.iter().all(|row| (row["angle-flatness"].as_f64().unwrap() - sum(row)).abs() < 1e-9));
    scratch.bad(2, &["rank", "run", "--archs", "archs.txt", "--out", "end.csv"], &["--force"]);

    // A file says with which weights its training began, or there is no angle.
    let given = |file: &'static str, out: &'static str| {
        let mut args: Vec<&str> = GENAS.to_vec();
        args.drain(8..10);
        [&args[..], &["--supernet", file, "--arms", "angle-flatness", "--out", out]].concat()
    };
    scratch.good(&given("run/supernet.safetensors", "again"));
    let own = |run: &str| {
        let all = lines(&scratch, run);
        all.into_iter().filter(|entry| entry["arm"] == "angle-flatness").collect::<Vec<_>>()
    };
    assert_eq!(own("again"), own("run"));
    let (named, _) = altiplano::nn::tensors::load(&scratch.path("run/supernet.safetensors")).unwrap();
    scratch.write("plain.safetensors", altiplano::nn::tensors::to_bytes(&named, BTreeMap::new()).unwrap());
    scratch.stops(2, &given("plain.safetensors", "none"), &["--supernet", "with which seed", "angle"]);
}

#[test]
fn bad_fitness_is_refused() {
    let scratch = scratch();
    let search = |more: &[&'static str]| [&["search", "--out", "run"], more].concat();
    scratch.bad(2, &search(&["--fitness", "flat"]), &["--fitness", "flatness"]);
    scratch.bad(2, &search(&["--fitness", "angle", "--gamma", "2"]), &["--gamma", "second measure"]);
    scratch.bad(2, &search(&["--fitness", "angle+flatness", "--gamma", "-1"]), &["--gamma", "above 0"]);
    scratch.bad(2, &search(&["--fitness", "angle", "--method", "croze"]), &["--fitness", "genas"]);
    scratch.bad(2, &search(&["--fitness", "angle", "--arms", "flatness,random"]), &["arms", "--fitness flatness"]);
    scratch.bad(2, &search(&["--arms", "flatness,angel"]), &["angel", "angle"]);
    scratch.bad(2, &search(&["--method", "croze", "--keep-every", "2"]), &["--keep-every", "croze"]);
    let tight = ["--space", "darts", "--max-params", "1990"];
    scratch.bad(2, &search(&tight), &["within the limits", "--max-params"]);
    scratch.bad(2, &["rank", "run", "--sample", "3"], &["run", "result.json"]);
}

/// A paper's search on DARTS cells: small cells share weights, large ones are trained, unless sizes are asked for.
#[test]
fn sizes_of_a_papers_search() {
    let scratch = Scratch::new();
    let plan = |more: &[&str]| -> Value {
        let paper = ["search", "--dry-run", "--json", "--preset", "paper", "--space", "darts"];
        let plan: Value = serde_json::from_str(&scratch.good(&[&paper, more].concat())).unwrap();
        // The time is that of the adapter, which was found out.
        let number = |value: &Value| value.as_f64().unwrap();
        let measured = &plan["measured"];
        let seconds = number(&plan["gflop"]) / number(&measured["gflops"]);
        assert!((number(&measured["seconds"]) / seconds - 1.0).abs() < 1e-9 && number(&measured["gflops"]) > 0.1);
        plan["config"].clone()
    };
    let sizes = |build: &Value| [&build["channels"], &build["cells"]].map(|size| size.as_u64().unwrap());
    let usual = plan(&[]);
    assert_eq!((sizes(&usual["build"]), sizes(&usual["finals"]["build"])), ([16, 8], [36, 20]));
    assert_eq!(usual["finals"]["build"]["image"], usual["build"]["image"]);
    let asked = plan(&["--cells", "5"]);
    assert!(sizes(&asked["build"]) == [16, 5] && asked["finals"]["build"].is_null(), "{asked}");
    // Limits are those of what is trained, whose smallest network is larger than this.
    let paper = ["search", "--preset", "paper", "--space", "darts", "--out", "run", "--max-params", "400000"];
    scratch.bad(2, &paper, &["--max-params", "is 400000; the smallest network, ", " parameters"]);
    plan(&["--max-params", "400000", "--cells", "8"]);
    scratch.write("a.toml", "supernet_file = 'x.safetensors'\n");
    let args = ["search", "--config", "a.toml", "--keep-every", "2", "--out", "run"];
    scratch.bad(2, &args, &["--keep-every", "not trained"]);
}

/// Several paths of a supernet in each step: counted as work, and no more than can be.
#[test]
fn paths_of_a_step() {
    let scratch = Scratch::new();
    for (args, says) in [
        (&["--paths", "0"][..], "0, expected 1 to 64"),
        (&["--paths", "65"], "65, expected 1 to 64"),
        (&["--method", "croze", "--paths", "2"], "is for --method genas"),
        (&["--method", "flatnas", "--paths", "2"], "no supernet is trained"),
    ] {
        scratch.bad(2, &[&["search", "--out", "run"], args].concat(), &["paths", says]);
        assert!(!scratch.path("run").exists());
    }
    scratch.write("a.toml", "training.paths = 2\n");
    scratch.bad(2, &["search", "--config", "a.toml", "--out", "run"], &["training.paths", "only a supernet"]);
    // What a supernet's training cannot be is told before it begins.
    scratch.write("holes.toml", "supernet.augmentation.cutout = 9\n");
    scratch.bad(2, &["search", "--config", "holes.toml", "--out", "run", "--dry-run"], &["--cutout", "8x8"]);
    let plan = |paths: &str, epochs: &str| -> Value {
        let args = ["search", "--paths", paths, "--supernet-epochs", epochs, "--out", "run", "--dry-run", "--json"];
        serde_json::from_str(&scratch.good(&args)).unwrap()
    };
    let (one, two) = (plan("1", "4"), plan("2", "4"));
    assert!(one["config"]["supernet"]["paths"].is_null() && two["config"]["supernet"]["paths"] == 2, "{two}");
    // Two paths for four epochs are as much work as one for eight, in half as many steps.
    let number = |plan: &Value, name: &str| plan[name].as_f64().unwrap();
    assert_eq!(number(&two, "gflop"), number(&plan("1", "8"), "gflop"));
    assert!(number(&two, "gflop") > number(&one, "gflop"));
    assert_eq!(number(&two, "supernet_steps"), number(&one, "supernet_steps"));
    // A radius is that of the optimiser which a file names.
    scratch.write("sam.toml", "supernet.optimizer = 'sam'\n[training]\noptimizer = 'asam'\nrho = 0.7\n");
    let args = ["search", "--space", "darts", "--config", "sam.toml", "--out", "run", "--dry-run", "--json"];
    let plan: Value = serde_json::from_str(&scratch.good(&args)).unwrap();
    assert_eq!(plan["config"]["supernet"]["rho"], 0.05);
    assert_eq!(plan["config"]["training"]["rho"], 0.7);
}

/// The released code takes a dilated convolution's scale for its shift: on the same supernet of DARTS cells angles are others, and
/// nothing else is.
#[test]
fn released_angles_are_others() {
    let scratch = Scratch::new();
    let settings = "finals = { contestants = [\"random\"], images = 64, judged_images = 10, kept_back = 0 }\n\
                    evaluator = { images = 32, batch = 16, recalibration_batches = 1 }\nsupernet.batch = 128\n";
    scratch.write("sound.toml", settings);
    scratch.write("released.toml", settings.replace("images = 32", "released_angle = true, images = 32"));
    let search = |settings, out, more: &[&'static str]| {
        let base = ["search", "--quiet", "--method", "random", "--space", "darts", "--channels", "4", "--cells", "3"];
        let short = ["--evaluations", "2", "--epochs", "1", "--draws", "1", "--sigmas", "0.01,0.02,0.04"];
        scratch.good(&[&base[..], &short, &["--config", settings, "--out", out], more].concat());
        lines(&scratch, out)
    };
    let sound = search("sound.toml", "one", &["--supernet-epochs", "1"]);
    let released = search("released.toml", "two", &["--supernet", "one/supernet.safetensors"]);
    assert_eq!((sound.len(), released.len()), (2, 2));
    for (sound, released) in sound.into_iter().zip(released) {
        let angle = |entry: &Value| entry["measures"]["angle"].as_f64().unwrap();
        assert_ne!(angle(&sound), angle(&released));
        let mut rest = released.clone();
        rest["measures"]["angle"] = sound["measures"]["angle"].clone();
        assert_eq!(rest, sound);
    }
}
