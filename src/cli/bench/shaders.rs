//! `altiplano bench --shaders FOLDER`: every variant as text and as what the device gets. Needs no adapter.

use std::path::Path;

use serde::Serialize;

use crate::bench::catalogue::{Entry, catalogue};
use crate::cli::Global;
use crate::cli::place::{Outputs, Scratch};
use crate::error::{Error, Result};
use crate::kernels::Preset;
use crate::shader::spirv;

#[derive(Serialize)]
struct Index {
    version: &'static str,
    preset: Preset,
    /// Of `FILE.wgsl` and `FILE.spv`.
    variants: Vec<Entry>,
}

#[derive(Serialize)]
struct Done<'a> {
    folder: &'a Path,
    variants: usize,
}

pub(super) fn run(global: &Global, folder: &Path, preset: Preset) -> Result<()> {
    Outputs::new(&[]).folder("--shaders", folder, Some("remove it"))?;
    let index = Index { version: env!("CARGO_PKG_VERSION"), preset, variants: catalogue(preset)? };
    let scratch = Scratch::new(folder)?;
    let put = |name: &str, bytes: &[u8]| {
        let path = scratch.at.join(name);
        std::fs::write(&path, bytes).map_err(Error::io("write", path))
    };
    for entry in &index.variants {
        put(&format!("{}.wgsl", entry.file), entry.variant.wgsl()?.as_bytes())?;
        let words: Vec<u8> = spirv(&entry.variant)?.into_iter().flat_map(u32::to_le_bytes).collect();
        put(&format!("{}.spv", entry.file), &words)?;
    }
    let json = serde_json::to_string_pretty(&index).map_err(|e| Error::invalid("--shaders", e.to_string()))?;
    put("index.json", (json + "\n").as_bytes())?;
    std::fs::rename(&scratch.at, folder).map_err(Error::io("create", folder))?;
    let done = Done { folder, variants: index.variants.len() };
    global.print(&done, || {
        format!(
            "{} variants of preset {} in {}; index.json says what each is for",
            done.variants,
            preset.name,
            folder.display()
        )
    })
}
