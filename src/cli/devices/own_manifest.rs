//! Manifests of one's own, where a driver's library is there and nothing but the file is missing by which Vulkan's loader
//! would know of it: as in containers that were given a driver, or where a package was taken apart.
//!
//! The loader learns of manifests by a variable, and a variable of this very process cannot be set safely. So the program
//! begins anew, once, in the same process, with the variable set. Only libraries in the system's own folders are taken, and only
//! where nobody has said by a variable which drivers are to be used.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::hardware::Hardware;
use super::loader::{Driver, FILTERS, INSTEAD, Loader, MORE, Vendor};
use super::system::System;
use crate::cli::Global;
use crate::cli::progress::note;
use crate::cli::tiles::cache_folder;
use crate::error::{Error, Result};
use crate::gpu::adapters;
use crate::report::folder::atomic_write;

/// Set in the process that began anew.
pub(super) const MARKER: &str = "ALTIPLANO_OWN_MANIFEST";
/// The variable by which it names manifests: the one that old loaders know as well.
pub(super) const VARIABLE: &str = INSTEAD[1];

/// What a manifest says. The version is the least that drivers of these libraries have; the loader asks the driver itself.
fn manifest(library: &Path) -> String {
    let icd = json!({ "library_path": library.display().to_string(), "api_version": "1.1.0" });
    json!({ "file_format_version": "1.0.0", "ICD": icd }).to_string()
}

/// Commands that write one for good.
pub(super) fn by_hand(library: &Path, file: &str) -> Vec<String> {
    let folder = "~/.local/share/vulkan/icd.d";
    vec![format!("mkdir -p {folder}"), format!("echo '{}' > {folder}/{file}", manifest(library))]
}

/// What the loader would need to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Manifests that it uses already.
    pub known: Vec<PathBuf>,
    /// Libraries that lack one.
    pub libraries: Vec<(&'static str, PathBuf)>,
}

/// Which libraries could be used with manifests of one's own, if there are any; whether an adapter is missing at all is not
/// looked at here.
pub(super) fn plan(system: &System) -> Option<Plan> {
    let said = [&INSTEAD[..], &[MORE, MARKER], &FILTERS].concat();
    if said.iter().any(|name| system.variable(name).is_some()) {
        return None;
    }
    let loader = Loader::find(system);
    loader.library.as_ref().ok()?;
    let unknown = candidates(&loader, &Hardware::find(system)).into_iter().filter(|driver| driver.trusted);
    let mut libraries: Vec<_> = unknown.map(|driver| (driver.name, driver.path.clone())).collect();
    // One of NVIDIA's is enough: the one for X11, or where its libraries are missing the other.
    let nvidia: Vec<&str> = libraries.iter().map(|(name, _)| *name).filter(|name| is_nvidia(name)).collect();
    if let [first, second] = nvidia[..] {
        let rest = if loader.missing_x11.is_empty() { second } else { first };
        libraries.retain(|(name, _)| *name != rest);
    }
    let known = loader.manifests.iter().filter(|own| own.is_usable()).map(|own| own.path.clone()).collect();
    (!libraries.is_empty()).then_some(Plan { known, libraries })
}

/// Drivers that the loader does not know of, and that could serve what is here: a card of their vendor, or none.
pub(super) fn candidates<'a>(loader: &'a Loader, hardware: &Hardware) -> Vec<&'a Driver> {
    let vendors = hardware.vendors();
    // A container may have devices and not see the bus.
    let unseen = hardware.cards.is_empty() && hardware.nodes.iter().any(|node| node.vendor.is_none());
    let serves = |driver: &&Driver| match driver.vendor {
        Some(Vendor::Software) => true,
        Some(Vendor::Windows) => hardware.dxg,
        Some(vendor) => unseen || vendors.contains(&vendor),
        None => false,
    };
    loader.drivers.iter().filter(|driver| !loader.knows(driver)).filter(serves).collect()
}

fn is_nvidia(library: &str) -> bool {
    Vendor::of_library(library) == Some(Vendor::Nvidia)
}

/// Begins anew with manifests of one's own, if there is no adapter and they could help; else, or if that fails, goes on as if
/// nothing had been.
pub(in crate::cli) fn begin_anew_if_needed(global: &Global) {
    if cfg!(target_os = "linux")
        && let Some(plan) = plan(&System::here())
        && pollster::block_on(adapters(None)).is_ok_and(|choice| choice.adapters.is_empty())
        && let Err(error) = begin_anew(global, &plan)
    {
        log::warn!("no manifest of altiplano's own can be used: {error}");
    }
}

/// Replaces this process by one with the variable set; returns only with an error.
fn begin_anew(global: &Global, plan: &Plan) -> Result<()> {
    let folder = cache_folder().ok_or_else(|| Error::invalid("HOME", "is not set, and so there is no cache"))?;
    let folder = std::path::absolute(folder.join("icd.d")).map_err(Error::io("find", &folder))?;
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut files = plan.known.clone();
    for (name, library) in &plan.libraries {
        let file = folder.join(format!("{name}.json"));
        atomic_write(&file, (manifest(library) + "\n").as_bytes())?;
        files.push(file);
    }
    let files = std::env::join_paths(&files).map_err(|error| Error::invalid(VARIABLE, error.to_string()))?;
    let own = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let names: Vec<&str> = plan.libraries.iter().map(|(name, _)| *name).collect();
    let (names, place) = (names.join(", "), folder.display());
    note(global, &format!("Vulkan's loader has no manifest of {names}; going on with one in {place}"));
    let mut command = Command::new(&own);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, files).env(MARKER, "1");
    Err(Error::io("start", &own)(replace_by(command)))
}

/// Puts another program in this one's place, under the name that this one was called by; why it could not be done.
#[cfg(unix)]
fn replace_by(mut command: Command) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    std::env::args_os().next().iter().for_each(|called| {
        command.arg0(called);
    });
    command.exec()
}

#[cfg(not(unix))]
fn replace_by(_: Command) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}
