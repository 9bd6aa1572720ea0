//! What to do, from what was found: one cause each, the most likely first.

use serde::Serialize;

use super::explain::Facts;
use super::hardware::{Card, Node};
use super::loader::{LOADER, Manifest, Vendor};
use super::own_manifest;
use super::packages::{Package, install};

/// A cause, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    /// What is wrong.
    pub why: String,
    /// Commands, or sentences where there is none.
    #[serde(rename = "do")]
    pub steps: Vec<String>,
}

impl Advice {
    fn new(why: impl Into<String>, steps: impl IntoIterator<Item = String>) -> Self {
        Advice { why: why.into(), steps: steps.into_iter().collect() }
    }
}

/// What the loader itself says of drivers that it cannot use.
const ASK_LOADER: &str = "VK_LOADER_DEBUG=error,warn,driver altiplano devices    (what the loader says of each driver)";

/// All that can be advised.
pub(super) fn advise(facts: &Facts) -> Vec<Advice> {
    let mut all = vec![];
    all.extend(refused(facts));
    all.extend(variables(facts));
    if let Err(why) = &facts.loader.library {
        let steps = [install(facts.hardware.distribution, Package::Loader)];
        all.push(Advice::new(format!("Vulkan's loader, {LOADER}, is missing ({why})"), steps));
    }
    // A variable that names drivers is a choice: what other drivers lack does not matter as long as it holds.
    if facts.loader.instead.is_none() {
        all.extend(facts.unserved().into_iter().filter_map(|vendor| card(facts, vendor)));
        all.extend(windows(facts));
        all.extend(dangling(facts));
        all.extend(own(facts));
    }
    if all.is_empty() || facts.adapters.is_empty() && facts.loader.instead.is_none() {
        all.extend(without_card(facts));
    }
    all
}

/// A choice of adapter that leads elsewhere.
fn refused(facts: &Facts) -> Option<Advice> {
    let chosen = facts.adapters.iter().find(|adapter| adapter.chosen);
    let best = facts.adapters.iter().find(|adapter| !adapter.software).or(facts.adapters.first())?;
    if chosen.is_some_and(|chosen| !chosen.software || best.software) {
        return None;
    }
    let why = format!("{} is there, and is not the one chosen: {}", best.name, facts.why);
    let steps = [format!("leave out --device and unset ALTIPLANO_DEVICE, or give --device {}", best.index)];
    Some(Advice::new(why, steps))
}

/// Variables that keep drivers from the loader.
fn variables(facts: &Facts) -> Vec<Advice> {
    let mut all = vec![];
    let manifests = &facts.loader.manifests;
    let hidden = manifests.iter().find(|own| !own.read && own.found.is_ok());
    let usable = manifests.iter().any(|own| own.is_usable());
    let lacking = facts.adapters.is_empty() || !facts.unserved().is_empty();
    match &facts.loader.instead {
        Some((variable, value)) if lacking && !usable => {
            let wrong = |own: &Manifest| Some(format!("{}: {}", own.path.display(), own.found.as_ref().err()?));
            let wrong: Vec<String> = manifests.iter().filter(|own| own.read).filter_map(wrong).collect();
            let wrong = if wrong.is_empty() { format!("`{value}`") } else { wrong.join("; ") };
            all.push(Advice::new(
                format!("{variable} is set, and names no driver that can be used ({wrong})"),
                [format!("unset {variable}, or let it name the manifest of a driver that is there")],
            ));
        }
        Some((variable, value)) if lacking && (hidden.is_some() || facts.adapters.is_empty()) => {
            all.push(Advice::new(
                format!("{variable} is set, so that only the drivers that it names are there: {value}"),
                [format!("unset {variable}, if that is not what you want")],
            ));
        }
        None if lacking && !usable => all.extend(hidden.map(|own| {
            Advice::new(
                format!("XDG_DATA_DIRS is set, and leaves out the folder of {}", own.path.display()),
                ["export XDG_DATA_DIRS=\"$XDG_DATA_DIRS:/usr/local/share:/usr/share\"".to_owned()],
            )
        })),
        _ => {}
    }
    for (variable, value) in facts.filters.iter().filter(|_| lacking) {
        all.push(Advice::new(
            format!("{variable} is set to `{value}`, by which the loader leaves drivers out"),
            [format!("unset {variable}, if that is not what you want")],
        ));
    }
    all
}

/// Why a vendor's card has no adapter: the first link of the chain from the bus to the manifest that is missing.
fn card(facts: &Facts, vendor: Vendor) -> Option<Advice> {
    let mut cards = facts.hardware.cards.iter().filter(|card| card.vendor == Some(vendor));
    let first = cards.next();
    let name = first.map_or_else(|| format!("the {} card", vendor.name()), told);
    if let Some(card) = first.filter(|card| card.driver.as_deref() == Some("vfio-pci")) {
        let why = format!("{} is given to a virtual machine (kernel driver vfio-pci)", told(card));
        return Some(Advice::new(why, ["run altiplano in that virtual machine, or give the card back".to_owned()]));
    }
    match vendor {
        Vendor::Nvidia => Some(nvidia(facts, first, &name)),
        Vendor::Amd | Vendor::Intel => Some(mesa(facts, vendor, first, &name)),
        Vendor::Software | Vendor::Windows => None,
    }
}

/// A card as a sentence begins with it.
fn told(card: &Card) -> String {
    let vendor = card.vendor.map_or("other", Vendor::name);
    format!("the {vendor} card {} at {}", card.id, card.slot)
}

fn nvidia(facts: &Facts, card: Option<&Card>, name: &str) -> Advice {
    let hardware = &facts.hardware;
    let distribution = hardware.distribution;
    let nodes = || hardware.nodes_of(Vendor::Nvidia).filter(|node| node.path.starts_with("/dev/nvidia"));
    let run = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ...";
    let driver = card.and_then(|card| card.driver.as_deref());
    let loaded = hardware.nvidia.is_some() || nodes().next().is_some();
    if driver == Some("nouveau") {
        return Advice::new(
            format!("{name} runs with the kernel driver nouveau, and no Vulkan driver serves it"),
            [
                install(distribution, Package::Nvidia) + "    (NVIDIA's own driver)",
                install(distribution, Package::Mesa(Vendor::Nvidia))
                    + "    (Mesa's NVK, from Mesa 24.1 on, for cards from Turing on)",
            ],
        );
    }
    if hardware.container.is_none() && !loaded {
        let state =
            driver.map_or("no kernel driver has taken it".to_owned(), |driver| format!("kernel driver {driver}"));
        let steps = [install(distribution, Package::Nvidia), "then restart the machine".to_owned()];
        return Advice::new(format!("{name} has no driver of NVIDIA's loaded ({state})"), steps);
    }
    if hardware.container.is_some() && nodes().next().is_none() {
        let why = format!("{name} is on the bus, and this container was not given it: there is no /dev/nvidia0");
        return Advice::new(why, [run.to_owned(), "the host needs the package nvidia-container-toolkit".to_owned()]);
    }
    if let Some(advice) = closed(facts, nodes(), name) {
        return advice;
    }
    if facts.loader.usable(Vendor::Nvidia).next().is_some() {
        return after_all(facts, name, Vendor::Nvidia);
    }
    let Some(library) = facts.loader.driver(Vendor::Nvidia) else {
        if hardware.lacks_graphics() {
            let given = hardware.capabilities.as_deref().unwrap_or("not set");
            let why = format!(
                "this container has NVIDIA's driver without its graphics part, and Vulkan is in that \
                 (NVIDIA_DRIVER_CAPABILITIES is {given})"
            );
            return Advice::new(why, [run.to_owned()]);
        }
        let version = hardware.nvidia.as_deref().unwrap_or("unknown");
        let steps = [install(distribution, Package::NvidiaLibraries(version))];
        return Advice::new(format!("{name} has its kernel driver, and libGLX_nvidia.so.0 is missing"), steps);
    };
    let why = format!(
        "{} is there, and no manifest names it, so that the loader does not know of it",
        library.path.display()
    );
    let mut steps = own_manifest::by_hand(&library.path, "nvidia_icd.json");
    if hardware.container.is_some() {
        let file = "vulkan/icd.d/nvidia_icd.json";
        steps.push(format!("or give the container the host's: docker run -v /usr/share/{file}:/etc/{file}:ro ..."));
    }
    Advice::new(why, steps)
}

fn mesa(facts: &Facts, vendor: Vendor, card: Option<&Card>, name: &str) -> Advice {
    let hardware = &facts.hardware;
    let distribution = hardware.distribution;
    let own = if vendor == Vendor::Amd { "amdgpu" } else { "i915 or xe" };
    let driver = card.and_then(|card| card.driver.as_deref());
    if driver == Some("radeon") {
        let why = format!("{name} runs with the kernel driver radeon, which has no Vulkan");
        let steps = ["boot with radeon.si_support=0 radeon.cik_support=0 amdgpu.si_support=1 amdgpu.cik_support=1, if the card is of \
                      the generations Southern or Sea Islands; older ones have no Vulkan"
            .to_owned()];
        return Advice::new(why, steps);
    }
    if driver.is_none() && hardware.container.is_none() {
        let why = format!("no kernel driver has taken {name}; {own} would");
        let steps = ["look at `dmesg`: firmware may be missing (on Debian the packages firmware-amd-graphics and \
                      firmware-misc-nonfree, elsewhere linux-firmware), or the kernel older than the card"
            .to_owned()];
        return Advice::new(why, steps);
    }
    let nodes = || hardware.nodes_of(vendor);
    if nodes().next().is_none() {
        return match hardware.container {
            Some(_) => Advice::new(
                format!("{name} is on the bus, and this container was not given it: no /dev/dri/renderD* is its"),
                ["docker run --device /dev/dri ...".to_owned()],
            ),
            None => Advice::new(
                format!("{name} has no device in /dev/dri, by which programs would reach it"),
                ["look at `dmesg` for what the kernel driver says".to_owned()],
            ),
        };
    }
    if let Some(advice) = closed(facts, nodes(), name) {
        return advice;
    }
    if facts.loader.usable(vendor).next().is_some() {
        return after_all(facts, name, vendor);
    }
    let steps = vec![install(distribution, Package::Mesa(vendor))];
    match facts.loader.driver(vendor) {
        None => Advice::new(format!("{name} has its kernel driver, and Mesa's Vulkan driver is missing"), steps),
        Some(driver) => {
            let file = driver.name.trim_start_matches("libvulkan_").trim_end_matches(".so").to_owned() + "_icd.json";
            let why = format!("{} is there, and no manifest that can be used names it", driver.path.display());
            Advice::new(why, [steps, own_manifest::by_hand(&driver.path, &file)].concat())
        }
    }
}

/// Devices that the user may not open.
fn closed<'a>(facts: &Facts, nodes: impl Iterator<Item = &'a Node>, name: &str) -> Option<Advice> {
    let (open, closed): (Vec<&Node>, Vec<&Node>) = nodes.partition(|node| node.refusal.is_none());
    // NVIDIA's drivers need all of theirs; of render devices one is enough.
    let needed = |node: &&&Node| open.is_empty() || node.path == "/dev/nvidiactl";
    let node = closed.iter().find(needed)?;
    let why = node.refusal.as_deref().unwrap_or_default();
    let group = match node.group.as_str() {
        // A device of root's own group is for root alone; systems have these groups for others.
        "" | "root" | "0" => "render",
        group => group,
    };
    let steps = match facts.hardware.container {
        Some(_) => vec![format!("docker run --device {} --group-add {group} ...", node.path)],
        None => vec![format!("sudo usermod -aG {group} \"$USER\"    (then log in again)")],
    };
    Some(Advice::new(format!("{name} cannot be opened by this user: {}: {why}", node.path), steps))
}

/// All is there, and the driver does not work.
fn after_all(facts: &Facts, name: &str, vendor: Vendor) -> Advice {
    let manifest = facts.loader.usable(vendor).next().map(|own| own.path.display().to_string()).unwrap_or_default();
    if vendor == Vendor::Nvidia && !facts.loader.missing_x11.is_empty() {
        return Advice::new(
            format!("NVIDIA's libraries load {}, which is missing", facts.loader.missing_x11.join(" and ")),
            [install(facts.hardware.distribution, Package::X11)],
        );
    }
    let mut steps = vec![ASK_LOADER.to_owned()];
    if let (Vendor::Nvidia, Some(version)) = (vendor, &facts.hardware.nvidia) {
        steps.push(format!(
            "the libraries must be of version {version}, as the kernel driver is; restart after an update"
        ));
    }
    Advice::new(format!("{name} has a driver that {manifest} names, and the driver offers no adapter"), steps)
}

/// Inside Windows.
fn windows(facts: &Facts) -> Option<Advice> {
    let hardware = &facts.hardware;
    if !hardware.wsl || facts.adapters.iter().any(|adapter| !adapter.software) {
        return None;
    }
    if !hardware.dxg {
        let steps = ["in Windows: `wsl --update`, and a current driver of the card's vendor".to_owned()];
        return Some(Advice::new("Windows hands no card through to WSL: there is no /dev/dxg", steps));
    }
    let native = "or build altiplano for Windows, where it runs on the vendor's own driver";
    match facts.loader.usable(Vendor::Windows).next() {
        Some(_) => Some(Advice::new(
            "Mesa's driver dzn is there, and offers no adapter",
            [ASK_LOADER.to_owned(), native.to_owned()],
        )),
        None => Some(Advice::new(
            "inside WSL a card is reached by Mesa's driver dzn alone, which is missing (packages of Debian and Ubuntu are built without it)",
            [install(hardware.distribution, Package::Mesa(Vendor::Windows)), native.to_owned()],
        )),
    }
}

/// Manifests without their library, where nothing else was to be had.
fn dangling(facts: &Facts) -> Option<Advice> {
    let usable = facts.loader.manifests.iter().any(|own| own.is_usable());
    if usable || !facts.adapters.is_empty() || !facts.unserved().is_empty() {
        return None;
    }
    let (own, why) = facts.loader.manifests.iter().find_map(|own| Some((own, own.found.as_ref().err()?)))?;
    let package = package(facts, own.vendor());
    let why = format!("{} cannot be used: {why}", own.path.display());
    Some(Advice::new(why, [install(facts.hardware.distribution, package) + "    (or install it again)"]))
}

/// The package of a vendor's driver.
fn package(facts: &Facts, vendor: Option<Vendor>) -> Package<'_> {
    match vendor.unwrap_or(Vendor::Software) {
        Vendor::Nvidia => Package::NvidiaLibraries(facts.hardware.nvidia.as_deref().unwrap_or("unknown")),
        vendor => Package::Mesa(vendor),
    }
}

/// This very program goes on with a manifest of its own.
fn own(facts: &Facts) -> Option<Advice> {
    let names = (!facts.own.is_empty()).then(|| facts.own.join(", "))?;
    let why =
        format!("no manifest names {names}; altiplano goes on with one of its own, other programs find no driver");
    let package = package(facts, facts.own.first().and_then(|own| Vendor::of_library(own)));
    Some(Advice::new(why, [install(facts.hardware.distribution, package) + "    (again: it has the manifest)"]))
}

/// No card, or nothing that is wrong.
fn without_card(facts: &Facts) -> Option<Advice> {
    let distribution = facts.hardware.distribution;
    if facts.adapters.is_empty() {
        // Whatever keeps the card away, tests and small data can run meanwhile.
        let there = facts.loader.usable(Vendor::Software).next().is_some();
        let steps = match there {
            true => ASK_LOADER.to_owned(),
            false => install(distribution, Package::Mesa(Vendor::Software)),
        };
        let why = match (there, facts.hardware.vendors().is_empty()) {
            (true, _) => "a software adapter is installed, and does not work",
            (false, true) => "there is no graphics card here; a software adapter does all the same, slowly",
            (false, false) => "meanwhile, a software adapter does all the same, slowly",
        };
        return Some(Advice::new(why, [steps]));
    }
    match facts.adapters.iter().all(|adapter| adapter.software) {
        true => Some(Advice::new(
            "there is no graphics card here that altiplano could use; the software adapter is complete, and slow",
            ["nothing, or run on a machine with a graphics card".to_owned()],
        )),
        false => None,
    }
}
