//! What Vulkan's loader would find: itself, manifests of drivers, and the libraries that they name. Nothing is loaded, so a
//! driver that cannot be found can be told from one that fails.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::system::System;

/// Libraries of drivers by which vendors are known, as packages install them.
pub(super) const LIBRARIES: [&str; 7] = [
    "libGLX_nvidia.so.0",
    "libEGL_nvidia.so.0",
    "libvulkan_radeon.so",
    "libvulkan_intel.so",
    "libvulkan_intel_hasvk.so",
    "libvulkan_lvp.so",
    "libvulkan_dzn.so",
];
/// What NVIDIA's library loads besides its own.
const X11: [&str; 2] = ["libX11.so.6", "libXext.so.6"];
/// The loader's library.
pub(super) const LOADER: &str = "libvulkan.so.1";
/// Variables that name manifests instead of the usual folders, the one first that counts.
pub(super) const INSTEAD: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
/// The variable that names more of them.
pub(super) const MORE: &str = "VK_ADD_DRIVER_FILES";
/// Variables by which the loader leaves drivers out.
pub(super) const FILTERS: [&str; 2] = ["VK_LOADER_DRIVERS_SELECT", "VK_LOADER_DRIVERS_DISABLE"];
/// The folder of manifests below each of those that are searched.
const FOLDER: &str = "vulkan/icd.d";
/// Most manifests that are read, and folders of libraries that are looked into.
const MOST: usize = 256;

/// Who made a card, or a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vendor {
    Nvidia,
    Amd,
    Intel,
    /// The processor does the work.
    Software,
    /// Mesa's driver for Windows' graphics inside WSL.
    Windows,
}

impl Vendor {
    /// Of a driver's library.
    pub fn of_library(library: &str) -> Option<Self> {
        let name = library.rsplit('/').next().unwrap_or_default().to_lowercase();
        let of = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match () {
            // Mesa's driver for NVIDIA's cards needs another kernel driver, and stands for itself.
            () if of(&["nvidia"]) => Some(Vendor::Nvidia),
            () if of(&["radeon", "amdvlk"]) => Some(Vendor::Amd),
            () if of(&["intel"]) => Some(Vendor::Intel),
            () if of(&["lvp", "swiftshader"]) => Some(Vendor::Software),
            () if of(&["dzn"]) => Some(Vendor::Windows),
            () => None,
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Nvidia => "NVIDIA",
            Vendor::Amd => "AMD",
            Vendor::Intel => "Intel",
            Vendor::Software => "software",
            Vendor::Windows => "Windows (dzn)",
        }
    }
}

/// A file that names a driver.
pub(super) struct Manifest {
    pub path: PathBuf,
    /// The library as it stands there; empty if it cannot be read.
    pub library: String,
    /// The library's file, or why the loader cannot use it.
    pub found: Result<PathBuf, String>,
    /// Whether the loader reads it at all.
    pub read: bool,
}

impl Manifest {
    /// Whether the loader gets a driver by it.
    pub fn is_usable(&self) -> bool {
        self.read && self.found.is_ok()
    }

    pub fn vendor(&self) -> Option<Vendor> {
        Vendor::of_library(&self.library)
    }
}

/// A driver's library in a folder of libraries.
pub(super) struct Driver {
    /// As in [`LIBRARIES`].
    pub name: &'static str,
    pub vendor: Option<Vendor>,
    pub path: PathBuf,
    /// Whether it lies in a folder of the system, and nobody but its owner can replace it.
    pub trusted: bool,
}

/// What there is.
pub(super) struct Loader {
    /// The loader's library, or why there is none.
    pub library: Result<PathBuf, String>,
    /// The variable that names manifests, with its value, if there is one.
    pub instead: Option<(&'static str, String)>,
    pub manifests: Vec<Manifest>,
    pub drivers: Vec<Driver>,
    /// Libraries of X11 that NVIDIA's load, as far as they are missing.
    pub missing_x11: Vec<&'static str>,
}

impl Loader {
    /// Looks for it.
    pub fn find(system: &System) -> Self {
        let (own, usual) = (system.paths("LD_LIBRARY_PATH"), library_folders(system));
        let all: Vec<PathBuf> = own.iter().chain(&usual).cloned().collect();
        let driver = |name: &'static str| {
            let path = library(system, &all, name).ok()?;
            let in_system = path.parent().is_some_and(|folder| usual.iter().any(|usual| usual == folder));
            let trusted = in_system && system.is_trusted(&path);
            Some(Driver { name, vendor: Vendor::of_library(name), path, trusted })
        };
        let instead = INSTEAD.into_iter().find_map(|name| Some((name, system.word(name)?)));
        Loader {
            library: library(system, &all, LOADER),
            manifests: manifests(system, &all, instead.as_ref().map(|(name, _)| *name)),
            instead,
            drivers: LIBRARIES.into_iter().filter_map(driver).collect(),
            missing_x11: X11.into_iter().filter(|name| library(system, &all, name).is_err()).collect(),
        }
    }

    /// Manifests of a vendor that the loader can use.
    pub fn usable(&self, vendor: Vendor) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter().filter(move |own| own.is_usable() && own.vendor() == Some(vendor))
    }

    /// Whether the loader knows of a driver by a manifest.
    pub fn knows(&self, driver: &Driver) -> bool {
        let same = |library: &str| library.rsplit('/').next().unwrap_or_default().starts_with(driver.name);
        let nvidia = |own: &Manifest| driver.vendor == Some(Vendor::Nvidia) && own.vendor() == driver.vendor;
        self.manifests.iter().any(|own| own.is_usable() && (same(&own.library) || nvidia(own)))
    }

    /// A vendor's library.
    pub fn driver(&self, vendor: Vendor) -> Option<&Driver> {
        self.drivers.iter().find(|own| own.vendor == Some(vendor))
    }
}

/// A library by its name in the first folder that has it for this processor.
fn library(system: &System, folders: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    let mut why = "not found".to_owned();
    for folder in folders {
        let path = folder.join(name);
        if system.exists(&path) {
            match fits(system, &path) {
                Ok(()) => return Ok(path),
                Err(wrong) => why = format!("{} {wrong}", path.display()),
            }
        }
    }
    Err(why)
}

/// Whether this program could load a library, by the first bytes of it.
fn fits(system: &System, path: &Path) -> Result<(), String> {
    let head = system.bytes(path, 20).map_err(|error| format!("cannot be read: {error}"))?;
    if head.is_empty() {
        return Err("is empty".into());
    }
    if head.len() < 20 || !head.starts_with(b"\x7fELF") {
        return Err("is no library".into());
    }
    let class = if usize::BITS == 64 { 2 } else { 1 };
    let machine = match head[5] {
        2 => u16::from_be_bytes([head[18], head[19]]),
        _ => u16::from_le_bytes([head[18], head[19]]),
    };
    let own = machine_of(std::env::consts::ARCH);
    match head[4] == class && own.is_none_or(|own| own == machine) {
        true => Ok(()),
        false => Err("is for another processor".into()),
    }
}

/// How ELF calls a processor.
pub(super) fn machine_of(arch: &str) -> Option<u16> {
    let known = [("x86_64", 62), ("aarch64", 183), ("x86", 3), ("arm", 40), ("riscv64", 243), ("powerpc64", 21)];
    known.iter().find(|(name, _)| *name == arch).map(|&(_, machine)| machine)
}

/// Folders that the dynamic linker looks into: what `/etc/ld.so.conf` names, and those that are built in.
fn library_folders(system: &System) -> Vec<PathBuf> {
    let mut folders = vec![];
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let mut at = 0;
    while at < files.len() && at < MOST {
        let text = system.text(&files[at]).unwrap_or_default();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            match line.strip_prefix("include ") {
                Some(pattern) => files.extend(included(system, pattern.trim())),
                None if line.starts_with('/') => folders.push(PathBuf::from(line)),
                None => {}
            }
        }
        at += 1;
    }
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    for folder in ["/lib", "/usr/lib"] {
        folders.extend([format!("{folder}/{triple}"), format!("{folder}64"), folder.to_owned()].map(PathBuf::from));
    }
    folders.push("/usr/local/lib".into());
    distinct(folders)
}

/// The files of a pattern such as `/etc/ld.so.conf.d/*.conf`; one star in the last part is understood.
fn included(system: &System, pattern: &str) -> Vec<PathBuf> {
    let (folder, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let folder = if folder.starts_with('/') { PathBuf::from(folder) } else { Path::new("/etc").join(folder) };
    let Some((before, after)) = last.split_once('*') else { return vec![folder.join(last)] };
    let fits =
        |name: &String| name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after);
    system.names(&folder).into_iter().filter(fits).take(MOST).map(|name| folder.join(name)).collect()
}

fn distinct(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = vec![];
    paths.into_iter().for_each(|path| {
        if !seen.contains(&path) && seen.len() < MOST {
            seen.push(path);
        }
    });
    seen
}

/// Folders in which the loader looks for manifests, in its order.
fn manifest_folders(system: &System) -> Vec<PathBuf> {
    let home = |variable: &str, usual: &str| {
        let home = || Some(PathBuf::from(system.variable("HOME")?).join(usual));
        system.variable(variable).map(PathBuf::from).or_else(home)
    };
    let list = |variable: &str, usual: &[&str]| match system.variable(variable) {
        Some(_) => system.paths(variable),
        None => usual.iter().map(PathBuf::from).collect(),
    };
    let mut all: Vec<PathBuf> = home("XDG_CONFIG_HOME", ".config").into_iter().collect();
    all.extend(list("XDG_CONFIG_DIRS", &["/etc/xdg"]));
    all.extend(["/usr/local/etc", "/etc"].map(PathBuf::from));
    all.extend(home("XDG_DATA_HOME", ".local/share"));
    all.extend(list("XDG_DATA_DIRS", &["/usr/local/share", "/usr/share"]));
    distinct(all.into_iter().map(|folder| folder.join(FOLDER)).collect())
}

/// All manifests, those of folders that are not searched included.
fn manifests(system: &System, libraries: &[PathBuf], instead: Option<&str>) -> Vec<Manifest> {
    let in_folder = |folder: &Path| {
        let names = system.names(folder).into_iter().filter(|name| name.ends_with(".json"));
        names.map(|name| folder.join(name)).collect::<Vec<_>>()
    };
    // A variable may name files and folders.
    let named = |variable: &str| {
        let each = |path: PathBuf| if system.is_folder(&path) { in_folder(&path) } else { vec![path] };
        system.paths(variable).into_iter().flat_map(each).collect::<Vec<_>>()
    };
    let searched = manifest_folders(system);
    let usual = ["/usr/local/share", "/usr/share"].map(|folder| Path::new(folder).join(FOLDER));
    let hidden = usual.iter().filter(|folder| !searched.contains(folder)).flat_map(|folder| in_folder(folder));
    let in_folders = searched.iter().flat_map(|folder| in_folder(folder));
    let mut paths: Vec<(PathBuf, bool)> = vec![];
    match instead {
        Some(variable) => {
            paths.extend(named(variable).into_iter().map(|path| (path, true)));
            paths.extend(in_folders.map(|path| (path, false)));
        }
        None => {
            paths.extend(named(MORE).into_iter().map(|path| (path, true)));
            paths.extend(in_folders.map(|path| (path, true)));
        }
    }
    paths.extend(hidden.map(|path| (path, false)));
    let mut all: Vec<Manifest> = vec![];
    for (path, read) in paths {
        if all.len() < MOST && !all.iter().any(|own| own.path == path) {
            let (library, found) = read_manifest(system, libraries, &path);
            all.push(Manifest { path, library, found, read });
        }
    }
    all
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "ICD")]
    icd: Icd,
}

#[derive(Deserialize)]
struct Icd {
    library_path: String,
}

/// What a manifest says, and where its library is.
fn read_manifest(system: &System, libraries: &[PathBuf], path: &Path) -> (String, Result<PathBuf, String>) {
    let none = |why: String| (String::new(), Err(why));
    let Some(text) = system.text(path) else {
        return none("the file cannot be read, or is not there".into());
    };
    if text.trim().is_empty() {
        return none("the file is empty".into());
    }
    let File { icd: Icd { library_path: own } } = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => return none(format!("the file is no manifest: {error}")),
    };
    // A name alone is looked for as the linker does, and a path begins at the manifest.
    let found = match own.contains('/') {
        false => library(system, libraries, &own).map_err(|why| format!("its library {own}: {why}")),
        true => {
            let whole = path.parent().unwrap_or(Path::new("/")).join(&own);
            match (system.exists(&whole), fits(system, &whole)) {
                (false, _) => Err(format!("its library {} is not there", whole.display())),
                (true, Err(why)) => Err(format!("its library {} {why}", whole.display())),
                (true, Ok(())) => Ok(whole),
            }
        }
    };
    (own, found)
}
