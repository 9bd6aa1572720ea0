//! What several test files share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use altiplano::gpu::{Gpu, Options};
use altiplano::kernels::Preset;

fn set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|v| v == "1")
}

/// Whether tests that take minutes run in their long form: `ALTIPLANO_LONG=1`, which `make test-long` sets.
pub fn long() -> bool {
    set("ALTIPLANO_LONG")
}

/// The adapter, opened once per process; `ALTIPLANO_CHECKED=1` runs everything with shader checks.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = open(Options::default());
        println!("adapter: {} ({}), checked: {}", gpu.report().name, gpu.report().driver, gpu.checked());
        gpu
    })
}

/// Another device on the same adapter.
pub fn open(options: Options) -> Gpu {
    Gpu::open_wait(&Options { checked: set("ALTIPLANO_CHECKED"), ..options }).expect("an adapter to test on")
}

pub fn preset() -> Preset {
    Preset::for_adapter(gpu().report())
}

/// Folder that holds `tests/golden`: the repository, or the one that `ALTIPLANO_ROOT` names where tests run without it.
pub fn root() -> PathBuf {
    std::env::var_os("ALTIPLANO_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// An example's program, which lies beside the folder of a test's program.
pub fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not there; cargo build --release --examples makes it", path.display());
    path
}

/// Folders of golden cases of a kind: those of the repository and, if `ALTIPLANO_REFERENCE` names them, the others.
pub fn golden_cases(kind: &str) -> Vec<PathBuf> {
    let mut roots = vec![root().join("tests/golden").join(kind)];
    match std::env::var_os("ALTIPLANO_REFERENCE") {
        Some(root) => roots.push(PathBuf::from(root).join(kind)),
        None => println!("ALTIPLANO_REFERENCE is not set: only the {kind} cases of the repository are tested"),
    }
    let mut cases: Vec<PathBuf> = vec![];
    for root in roots.iter().filter(|root| root.is_dir()) {
        cases.extend(std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()));
    }
    cases.sort();
    cases
}
