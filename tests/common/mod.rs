//! What several test files share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;
use std::sync::OnceLock;

use altiplano::gpu::{Gpu, Options};
use altiplano::kernels::Preset;

/// The adapter, opened once per process; `ALTIPLANO_CHECKED=1` runs everything with shader checks.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let checked = std::env::var("ALTIPLANO_CHECKED").is_ok_and(|v| v == "1");
        let gpu = Gpu::open_wait(&Options { device: None, checked }).expect("an adapter to test on");
        println!("adapter: {} ({}), checked: {checked}", gpu.report().name, gpu.report().driver);
        gpu
    })
}

pub fn preset() -> Preset {
    Preset::for_adapter(gpu().report())
}

/// Folders of golden cases of a kind: those of the repository and, if `ALTIPLANO_REFERENCE` names them, the others.
pub fn golden_cases(kind: &str) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)];
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
