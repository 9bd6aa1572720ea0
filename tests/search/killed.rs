//! Every method in every space, killed at any time, goes on to the same bits; and what it printed trains its network once more.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use altiplano::philox::Stream;
use serde_json::Value;

use crate::common::{example, long};

/// A space, and the program that has it.
struct Space {
    program: PathBuf,
    args: &'static [&'static str],
}

fn nas_bench_201() -> Space {
    Space { program: env!("CARGO_BIN_EXE_altiplano").into(), args: &["--space", "nas-bench-201", "--channels", "4"] }
}

fn own() -> Space {
    Space { program: example("own_space"), args: &["--space", "blocks", "--build", "width=4"] }
}

fn darts() -> Space {
    // Its networks at the end have no norms behind pools; candidates that inherit should.
    let args = &["--space", "darts", "--build", "form=search,channels=4,cells=3"];
    Space { program: env!("CARGO_BIN_EXE_altiplano").into(), args }
}

/// Of two resolutions.
fn elastic() -> Space {
    let args = &["--space", "mobilenet-v3", "--build", "width=0.1,smallest=8", "--image", "12x12"];
    Space { program: env!("CARGO_BIN_EXE_altiplano").into(), args }
}

/// Settings with which a search of a method takes seconds, and its arms.
const METHODS: [(&str, &str); 4] = [
    (
        "genas",
        "evaluations = 8\narms = [\"flatness\", \"random\"]\nsupernet.epochs = 2\n[strategy]\npopulation = 4\nparents = 2\nmutations = 2\ncrossovers = 1\n\
         [evaluator]\nimages = 64\nbatch = 32\nflatness.draws = 2\n",
    ),
    (
        "random",
        "evaluations = 8\nsupernet.epochs = 1\nsupernet.paths = 2\n[strategy]\nbatch = 5\n[evaluator]\nimages = 64\nbatch = 32\nflatness.draws = 2\n",
    ),
    ("croze", "evaluations = 9\nfinals.attacks = [\"fgsm:8/255\"]\n[strategy]\npool = 5\nmoves = 3\n"),
    (
        "flatnas",
        "evaluations = 12\narms = [\"flat\", \"baseline\"]\nsupernet.epochs = 3\nfinals.images = 128\n[strategy]\ninitial = 10\npicks = 2\n\
         [evaluator]\ntraining_images = 320\nimages = 100\ntraining.epochs = 1\ntraining.lr = 0.02\nnoise.draws = 2\nside_by_side = 3\n",
    ),
];

/// The program in a folder.
fn command(space: &Space, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&space.program);
    command.args(args).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("ALTIPLANO_CACHE", folder.join("cache"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn good(space: &Space, folder: &Path, args: &[&str]) {
    let output = command(space, folder, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a run leaves, as far as it must be the same.
fn left(folder: &Path, run: &str) -> (Vec<Vec<u8>>, Value) {
    let read = |file: &str| std::fs::read(folder.join(run).join(file)).unwrap_or_else(|e| panic!("{run}/{file}: {e}"));
    let files = ["history.jsonl", "best.safetensors", "table.csv", "table.svg", "mistakes.png", "train.toml"].map(read);
    let mut result: Value = serde_json::from_slice(&read("result.json")).unwrap();
    result["seconds"] = 0.into();
    result["arms"].as_array_mut().unwrap().iter_mut().for_each(|arm| arm["seconds"] = 0.into());
    (files[..5].to_vec(), result)
}

/// The one body of all of these tests.
fn killed(space: &Space, method: &str) {
    // Their networks have so many kernels that processors spend minutes on compiling them.
    let many = ["darts", "mobilenet-v3"].iter().any(|name| space.args.contains(name));
    if many && !long() {
        println!("in the long form alone");
        return;
    }
    let (_, settings) = METHODS.into_iter().find(|(name, _)| *name == method).unwrap();
    let settings = match space.args.contains(&"mobilenet-v3") {
        // Nor do its networks learn anything in so few steps.
        true => settings
            .replace("supernet.epochs = 3\n", "supernet.epochs = 1\n")
            .replace(
                "evaluations = 9\n",
                "evaluations = 9\nevaluator.proxy = \"croze\"\nobjectives.maximize = \"croze\"\n",
            )
            .replace("training_images = 320", "training_images = 800")
            .replace("training.epochs = 1\ntraining.lr = 0.02", "training.epochs = 3\ntraining.optimizer = \"sgd\""),
        false => settings.to_owned(),
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let finals = "[training]\nepochs = 2\n[finals.noise]\ndraws = 2\n";
    std::fs::write(folder.join("small.toml"), format!("finals.judged_images = 20\n{settings}{finals}")).unwrap();
    let search = [&["search", "--quiet", "--data", "digits", "--method", method, "--config", "small.toml"], space.args];
    let search = search.concat();
    let begin = Instant::now();
    good(space, folder, &[&search[..], &["--out", "whole"]].concat());
    let (took, whole) = (begin.elapsed(), left(folder, "whole"));
    let entries = whole.0[0].iter().filter(|byte| **byte == b'\n').count();
    let arms = whole.1["arms"].as_array().unwrap();
    assert_eq!(entries as u64, arms.iter().map(|arm| arm["evaluated"].as_u64().unwrap()).sum::<u64>());
    assert_eq!(whole.1["method"], method);
    // What is the same after kills is there: every epoch of every network, and of the supernet.
    let epochs = |curve: &Value| curve.as_array().map_or(0, Vec::len) as u64;
    let supernet = whole.1["config"]["supernet"]["epochs"].as_u64().filter(|_| method != "croze");
    assert_eq!(epochs(&whole.1["supernet_training"]), supernet.unwrap_or(0), "{method}");
    let finalists = whole.1["finalists"].as_array().unwrap();
    assert!(
        finalists.iter().all(|own| epochs(&own["curve"]) == 2 && own["under_noise"].as_array().unwrap().len() == 5)
    );
    assert!(!whole.1["mistakes"].as_array().unwrap().is_empty(), "{method}");

    let mut draw = Stream::new(u64::from(method.as_bytes()[0]), 0x4B49_4C4C, space.args.len() as u64);
    let (rounds, mut kills) = (if long() { 6 } else { 1 }, 0);
    for round in 0..rounds {
        let out = format!("killed-{round}");
        for attempt in 0.. {
            let begun = folder.join(&out).join("config.toml").exists();
            let resumed = ["search", "--quiet", "--resume", "--out", &out];
            let args = if begun { resumed.to_vec() } else { [&search[..], &["--force", "--out", &out]].concat() };
            if attempt == 3 {
                good(space, folder, &args);
                break;
            }
            let mut child = command(space, folder, &args).spawn().unwrap();
            std::thread::sleep(took.mul_f64(0.05 + 0.5 * draw.uniform()).max(Duration::from_millis(5)));
            let done = child.try_wait().unwrap().is_some_and(|status| status.success());
            kills += usize::from(!done);
            child.kill().unwrap();
            child.wait().unwrap();
            if done {
                break;
            }
        }
        let got = left(folder, &out);
        assert!(got.0 == whole.0, "{method}: files differ after {kills} kills");
        // Where the folder lies is written into its configuration alone.
        assert_eq!(got.1, whole.1, "{method}: result.json after {kills} kills");
    }
    assert!(kills >= rounds, "{method}: only {kills} kills");
    good(space, folder, &["train", "--quiet", "--config", "whole/train.toml", "--out", "again"]);
    let best = |run: &str| std::fs::read(folder.join(run).join("best.safetensors")).unwrap();
    assert!(best("whole") == best("again"), "{method}: trained again it is another network");
}

macro_rules! cells {
    ($($space:ident { $($method:ident),* })*) => {
        $(mod $space {
            $(#[test]
            fn $method() {
                super::killed(&super::$space(), stringify!($method));
            })*
        })*
    };
}

cells! {
    nas_bench_201 { genas, random, croze, flatnas }
    own { genas, random, croze, flatnas }
    darts { genas, random, croze, flatnas }
    elastic { croze, flatnas }
}
