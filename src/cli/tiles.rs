//! Which tiles a command runs with: tuned ones where there are some, and in a run that goes on those that it began with.

use std::path::{Path, PathBuf};

use super::Global;
use crate::bench::tuning::Tuning;
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu};
use crate::kernels::Preset;
use crate::report::folder::TILES;

/// Where tuned tiles are kept, if the environment says so; empty variables count as missing ones.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification has relative paths ignored.
    let caches = || given("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let home = || std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".cache"));
    given("ALTIPLANO_CACHE").or_else(|| Some(caches().or_else(home)?.join("altiplano")))
}

/// Tuned tiles of an adapter. A file that cannot be used is as good as none, but somebody should know of it.
pub(super) fn tuned(report: &AdapterReport) -> Option<Preset> {
    match Tuning::load(&cache_folder()?, report) {
        Ok(tuning) => Some(tuning?.preset),
        Err(error) => {
            log::warn!("{error}; the file is ignored, `altiplano tune` writes a new one");
            None
        }
    }
}

/// The preset of an adapter: tuned, or its own.
pub(super) fn preset(report: &AdapterReport) -> Preset {
    let Some(preset) = tuned(report) else { return Preset::for_adapter(report) };
    log::info!("tuned tiles: windowed {}, pointwise {}", preset.windowed, preset.pointwise);
    preset
}

/// Opens the adapter for a run in `folder`. One that goes on keeps the tiles that it began with, whatever has been tuned
/// since, so that it ends with the same bits.
pub(super) fn gpu_for_run(global: &Global, folder: &Path, resume: bool) -> Result<(Gpu, Preset)> {
    let recorded = if resume { read(folder)? } else { None };
    let gpu = global.open()?;
    let own = Preset::for_adapter(gpu.report());
    let preset = match recorded {
        Some(recorded) if recorded.name == own.name => {
            log::info!("the run's tiles: windowed {}, pointwise {}", recorded.windowed, recorded.pointwise);
            own.with_tiles_of(recorded)
        }
        Some(recorded) => {
            log::warn!("the run began on an adapter of preset {}: on this one it gets other bits", recorded.name);
            own
        }
        // Begun before tiles were recorded, and so with the adapter's own.
        None if resume && folder.join("config.toml").exists() => own,
        None => preset(gpu.report()),
    };
    Ok((gpu, preset))
}

/// What [`gpu_for_run`] reads when the run goes on.
pub(super) fn record(preset: Preset) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(&preset).map_err(|e| Error::invalid(TILES, e.to_string()))
}

fn read(folder: &Path) -> Result<Option<Preset>> {
    let path = folder.join(TILES);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // A file in the folder's place gets its message where the folder is opened.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        let advice = "remove the file to go on with the adapter's own tiles, perhaps to other bits";
        Error::file(&path, None, format!("the run's tiles cannot be used: {e}; {advice}"))
    })
}
