//! Commands of the pages of `docs/` that are one page a task, as somebody would type them one after the other; and of README.md what
//! a search would be. Whether they are commands at all is tested beside the command line.

use std::path::Path;

use assert_cmd::Command;

use crate::common::example;
use crate::documented::{Shown, commands};
use crate::program::Scratch;

/// What is done with a command.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// It is run.
    Run,
    /// It is run with `--dry-run`.
    Dry,
    /// It is only read: it takes long, or needs what is not here.
    Read,
}
use How::{Dry, Read, Run};

/// Every command of these pages, in their order.
const TABLE: &[(&str, &[(How, &str)])] = &[
    (
        "docs/search.md",
        &[
            (Run, "search --data digits --dry-run"),
            (Dry, "search --data digits --out runs/one"),
            (Read, "search --resume --out runs/one"),
            (Dry, "search --data digits --method random --out runs/random"),
            (Dry, "search --data digits --space darts --out runs/darts"),
            (Run, "search --data digits --preset paper --dry-run"),
            (Dry, "search --method croze --data digits --out runs/croze --evaluations 50"),
            (Dry, "search --method croze --data digits --out runs/small --proxy naswot --max-params 40000"),
            (Dry, "search --method croze --data digits --out runs/hard --adversarial pgd:8/255:7"),
            (Dry, "search --method flatnas --data digits --out runs/flat"),
            (Read, "search --extend --evaluations 200 --out runs/one"),
            (Read, "search --data digits --warm-start runs/one/history.jsonl --out runs/two"),
            (Read, "search --data digits --supernet runs/one/supernet.safetensors --out runs/three"),
            (Read, "search --data digits --search-seeds 10 --out runs/ten"),
            (Read, "compare runs/ten/seed-* runs/other/seed-* --csv table.csv"),
            (Run, "score --data digits --channels 4 --cells 1 --sample 40 --proxies snip,naswot --out scores.csv"),
            (Run, "search --truth scores.csv --maximize naswot --minimize params --method random --evaluations 20"),
            (
                Read,
                "search --truth accuracies.csv --maximize cifar10_corruption_mean --minimize cifar10_params --method all --seeds 20 --plot hypervolume.svg",
            ),
        ],
    ),
    (
        "docs/own-data.md",
        &[
            (Run, "data list"),
            (Run, "data info photos"),
            (Run, "data verify photos"),
            (Run, "data verify photos/animals.csv"),
            (Run, "data info photos --crop 8"),
            (Run, "search --data photos --crop 8 --resize 8 --dry-run"),
            (Run, "train --data photos --arch 333132 --epochs 2 --batch 16 --out runs/photos"),
            (Run, "evaluate --model runs/photos/best.safetensors --data photos"),
            (Run, "classify photos/test/dog/0.png --model runs/photos/best.safetensors"),
            (Dry, "search --data photos --batch 16 --out runs/search"),
            (Run, "report runs/photos"),
        ],
    ),
    (
        "docs/own-space.md",
        &[
            (Run, "space list"),
            (Run, "space info --space blocks --arch 3+,5"),
            (Run, "train --space blocks --arch 3+,5 --data digits --epochs 1 --out runs/one"),
            (Run, "score --space blocks --data digits --sample 3 --proxies snip,naswot"),
            (Dry, "search --space blocks --method genas --data digits --out runs/blocks"),
            (Run, "export runs/one/best.safetensors --onnx one.onnx"),
        ],
    ),
    (
        "docs/own-kernel.md",
        &[
            (Run, "bench --wgsl scale.wgsl --grid 16384 --buffer 4m 4m --flops 1048576 --bytes 8388608"),
            (Run, "bench --suite machine"),
            (Run, "bench --wgsl scale.wgsl --grid 16384 --buffer 4m 4m --bytes 8388608 --json"),
            (Run, "bench --shaders shaders-out"),
        ],
    ),
    (
        "docs/read-a-result.md",
        &[
            (Run, "train --data digits --arch 333132 --epochs 1 --out runs/one"),
            (Run, "report runs/one"),
            (
                Run,
                "evaluate --model runs/one/best.safetensors --data digits --images 100 --csv table.csv --heatmap table.svg",
            ),
            (
                Run,
                "landscape --model runs/one/best.safetensors --data digits --images 64 --size 5 --out runs/one/landscape",
            ),
            (Run, "report runs/one"),
            (Run, "export runs/one/best.safetensors --onnx one.onnx --card card.md"),
            (Read, "train --config runs/demo/train.toml --out runs/demo-again"),
            (Read, "report runs/a runs/b runs/c --out report.html"),
            (Read, "landscape --model runs/demo/best.safetensors --data digits --out runs/demo/landscape"),
            (Read, "landscape --model sam.safetensors --beside sgd.safetensors --data digits --out around"),
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A block of code of a page, by its language.
fn block(page: &str, language: &str) -> String {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("{page}: no {language}"));
    rest.split("```").next().unwrap().to_owned()
}

/// Runs a command in the folder.
#[track_caller]
fn run(scratch: &Scratch, shown: &Shown, how: How) {
    let mut args: Vec<&str> = shown.args.iter().map(String::as_str).collect();
    match how {
        Read => return,
        // No adapter is timed, which takes seconds.
        Dry => args.extend(["--dry-run", "--device", "none"]),
        Run => {}
    }
    args.push("--quiet");
    // The example with a space of one's own is another program.
    if shown.program < 2 {
        scratch.good(&args);
        return;
    }
    let mut command = Command::new(example("own_space"));
    command.args(&args).current_dir(scratch.path("")).env("XDG_RUNTIME_DIR", scratch.path(""));
    let output = command.env("ALTIPLANO_CACHE", scratch.path("cache")).output().unwrap();
    assert!(output.status.success(), "{}:{}: {}", shown.page, shown.line, String::from_utf8_lossy(&output.stderr));
}

/// Runs a page from its beginning to its end, in a folder that holds what it begins with.
fn page(name: &str, scratch: &Scratch) {
    let (_, table) = TABLE.iter().find(|(page, _)| *page == name).unwrap();
    let shown = commands(root(), name);
    let texts: Vec<String> = shown.iter().map(|shown| shown.args.join(" ")).collect();
    let known: Vec<&str> = table.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, known, "{name} and the table differ");
    shown.iter().zip(*table).for_each(|(shown, (how, _))| run(scratch, shown, *how));
}

#[test]
fn running_a_search() {
    let scratch = Scratch::new();
    page("docs/search.md", &scratch);
    assert!(scratch.path("scores.csv").is_file() && !scratch.path("runs").exists());
}

#[test]
fn images_of_ones_own() {
    let scratch = Scratch::new();
    scratch.image_folder("photos", &["cat", "dog"], 40);
    scratch.write("photos/animals.csv", block("docs/own-data.md", "csv"));
    page("docs/own-data.md", &scratch);
    assert!(scratch.path("runs/photos/report.html").is_file());
}

#[test]
fn a_space_of_ones_own() {
    let scratch = Scratch::new();
    page("docs/own-space.md", &scratch);
    assert!(scratch.path("one.onnx").is_file());
    // What the page shows of the example stands there.
    let example = std::fs::read_to_string(root().join("examples/own_space.rs")).unwrap();
    let text = std::fs::read_to_string(root().join("docs/own-space.md")).unwrap();
    let mut lines = 0;
    for part in text.split("```rust\n").skip(1).map(|part| part.split("```").next().unwrap()) {
        for line in part.lines().filter(|line| !line.trim().is_empty()) {
            assert!(example.lines().any(|own| own == line), "`{line}` is not in the example");
            lines += 1;
        }
    }
    assert!(lines > 20);
}

#[test]
fn a_kernel_of_ones_own() {
    let scratch = Scratch::new();
    scratch.write("scale.wgsl", block("docs/own-kernel.md", "wgsl"));
    page("docs/own-kernel.md", &scratch);
    assert!(scratch.path("shaders-out/index.json").is_file());
}

#[test]
fn reading_a_result() {
    let scratch = Scratch::new();
    page("docs/read-a-result.md", &scratch);
    let result: serde_json::Value = serde_json::from_slice(&scratch.read("runs/one/result.json")).unwrap();
    assert!(result["method"] == "train" && result["judged"]["clean_error"]["mean"].is_number(), "{result}");
    let report = String::from_utf8(scratch.read("runs/one/report.html")).unwrap();
    assert!(report.contains("Li et al. 2018"), "the landscape is not in the page");
}

/// Searches on the bundled digits that README.md shows, and that begin from nothing.
#[test]
fn searches_of_the_front_page_can_be_begun() {
    let scratch = Scratch::new();
    let from_nothing = |shown: &&Shown| {
        let has = |word: &str| shown.args.iter().any(|own| own == word);
        has("search") && has("digits") && !has("--resume") && !has("--extend")
    };
    let shown = commands(root(), "README.md");
    let searches: Vec<&Shown> = shown.iter().filter(from_nothing).collect();
    assert!(searches.len() > 3);
    for shown in searches {
        let args: Vec<String> = shown.args.iter().filter(|own| *own != "--dry-run").cloned().collect();
        run(&scratch, &Shown { args, ..shown.clone() }, Dry);
    }
    assert!(!scratch.path("runs").exists());
}
