//! `altiplano devices --explain`: why there is no adapter, or why the graphics card is not the one chosen. It lists what was
//! found on the way from the card to the adapter, and ends with what to do.

use serde::Serialize;

use super::advice::{Advice, advise};
use super::hardware::Hardware;
use super::loader::{FILTERS, INSTEAD, LOADER, Loader, MORE, Vendor};
use super::own_manifest;
use super::system::System;
use crate::cli::Global;
use crate::error::Result;
use crate::gpu::{AdapterReport, adapters};

/// An adapter, as far as it matters here.
pub(super) struct Seen {
    pub index: usize,
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub software: bool,
    pub chosen: bool,
}

impl Seen {
    fn of(report: &AdapterReport) -> Self {
        Seen {
            index: report.index,
            name: report.name.clone(),
            backend: report.backend.clone(),
            driver: report.driver.clone(),
            software: report.is_software(),
            chosen: report.chosen,
        }
    }

    /// Whether it is a card of the vendor's.
    fn is_of(&self, vendor: Vendor) -> bool {
        let words: &[&str] = match vendor {
            Vendor::Nvidia => &["nvidia", "geforce", "quadro", "tesla", "nvk"],
            Vendor::Amd => &["amd", "radeon", "radv"],
            Vendor::Intel => &["intel", "iris"],
            Vendor::Software | Vendor::Windows => &[],
        };
        let text = format!("{} {}", self.name, self.driver).to_lowercase();
        !self.software && words.iter().any(|word| text.contains(word))
    }
}

/// All that advice is drawn from.
pub(super) struct Facts {
    pub adapters: Vec<Seen>,
    /// Why the chosen adapter was chosen, or none.
    pub why: String,
    pub loader: Loader,
    pub hardware: Hardware,
    /// Variables by which the loader leaves drivers out, with their values.
    pub filters: Vec<(&'static str, String)>,
    /// Libraries of drivers for which this program goes on with manifests of its own.
    pub own: Vec<&'static str>,
}

impl Facts {
    /// Gathers them, beside the adapters that were found.
    pub fn gather(system: System, adapters: Vec<Seen>, why: String) -> Self {
        // What this program set for itself nobody has to know of.
        let own = system.variable(own_manifest::MARKER).is_some();
        let system = if own { system.without(own_manifest::VARIABLE) } else { system };
        let (loader, hardware) = (Loader::find(&system), Hardware::find(&system));
        let unknown = if own { own_manifest::candidates(&loader, &hardware) } else { vec![] };
        Facts {
            own: unknown.into_iter().map(|driver| driver.name).collect(),
            filters: FILTERS.into_iter().filter_map(|name| Some((name, system.word(name)?))).collect(),
            hardware,
            loader,
            adapters,
            why,
        }
    }

    /// Vendors whose cards are here and have no adapter. Beside another card that is chosen, nobody misses one of Intel's, which
    /// most processors have.
    pub fn unserved(&self) -> Vec<Vendor> {
        let served = |vendor: &Vendor| self.adapters.iter().any(|adapter| adapter.is_of(*vendor));
        let chosen = self.adapters.iter().any(|adapter| adapter.chosen && !adapter.software);
        let beside = |vendor: &Vendor| chosen && *vendor == Vendor::Intel;
        let mut vendors = self.hardware.vendors();
        vendors.retain(|vendor| !served(vendor) && !beside(vendor));
        vendors
    }
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
    /// Neither good nor bad.
    Note,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    about: &'static str,
    state: State,
    what: String,
}

/// What is printed.
#[derive(Serialize)]
pub(super) struct Explained {
    /// The adapter that commands run on.
    chosen: Option<String>,
    why: String,
    findings: Vec<Finding>,
    pub(super) advice: Vec<Advice>,
}

impl Explained {
    /// What follows from the facts.
    pub fn of(facts: &Facts) -> Self {
        let mut list = List(vec![]);
        list.adapters(facts);
        if cfg!(target_os = "linux") {
            list.loader(facts);
            list.hardware(facts);
        }
        let advice = if cfg!(target_os = "linux") { advise(facts) } else { elsewhere(facts) };
        let chosen = facts.adapters.iter().find(|adapter| adapter.chosen).map(|adapter| adapter.name.clone());
        Explained { chosen, why: facts.why.clone(), findings: list.0, advice }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut about = "";
        for finding in &self.findings {
            if finding.about != about {
                about = finding.about;
                text += &format!("{about}\n");
            }
            let mark = match finding.state {
                State::Ok => "ok",
                State::Missing => "missing",
                State::Note => "note",
            };
            text += &format!("  {mark:9}{}\n", finding.what);
        }
        match &self.advice[..] {
            [] => text + "nothing is missing\n",
            all => {
                text += "what to do\n";
                for (number, Advice { why, steps }) in all.iter().enumerate() {
                    text += &format!("  {}. {why}\n", number + 1);
                    steps.iter().for_each(|step| text += &format!("       {step}\n"));
                }
                text
            }
        }
    }
}

/// Findings, in the order in which they are told.
struct List(Vec<Finding>);

impl List {
    fn add(&mut self, about: &'static str, state: State, what: impl Into<String>) {
        self.0.push(Finding { about, state, what: what.into() });
    }

    fn adapters(&mut self, facts: &Facts) {
        let about = "adapters";
        for Seen { index, name, backend, driver, software, chosen } in &facts.adapters {
            let kind = if *software { ", software" } else { "" };
            let chosen = if *chosen { "; chosen" } else { "" };
            self.add(about, State::Ok, format!("{index} {name}: {backend}, driver {driver}{kind}{chosen}"));
        }
        if facts.adapters.is_empty() {
            self.add(about, State::Missing, "no adapter was found");
        }
    }

    fn loader(&mut self, facts: &Facts) {
        let (about, loader) = ("Vulkan's loader", &facts.loader);
        match &loader.library {
            Ok(path) => self.add(about, State::Ok, path.display().to_string()),
            Err(why) => self.add(about, State::Missing, format!("{LOADER}: {why}")),
        }
        let about = "manifests of drivers";
        if let Some((variable, value)) = &loader.instead {
            self.add(about, State::Note, format!("{variable} is set, and counts instead of folders: {value}"));
        }
        for (variable, value) in &facts.filters {
            self.add(about, State::Note, format!("{variable} is set: {value}"));
        }
        for own in &loader.manifests {
            let path = own.path.display();
            match (&own.found, own.read) {
                (Ok(library), true) => self.add(about, State::Ok, format!("{path}: {}", library.display())),
                (Ok(_), false) => self.add(about, State::Note, format!("{path}: the loader does not look here")),
                (Err(why), true) => self.add(about, State::Missing, format!("{path}: {why}")),
                (Err(_), false) => {}
            }
        }
        if loader.manifests.iter().all(|own| !own.read) {
            let named = INSTEAD.map(|name| format!("{name}, ")).concat() + MORE;
            self.add(about, State::Missing, format!("no manifest in the loader's folders, nor by {named}"));
        }
        // What a variable leaves out is not missed.
        let all = loader.instead.is_none();
        for driver in loader.drivers.iter().filter(|driver| all && !loader.knows(driver)) {
            // Nor is the second of a pair.
            if driver.vendor != Some(Vendor::Nvidia)
                || loader.driver(Vendor::Nvidia).is_some_and(|own| own.name == driver.name)
            {
                self.add(about, State::Missing, format!("no manifest of {}, which is there", driver.path.display()));
            }
        }
        if !facts.own.is_empty() {
            self.add(about, State::Note, format!("altiplano goes on with its own of {}", facts.own.join(", ")));
        }
        if loader.driver(Vendor::Nvidia).is_some() {
            for name in &loader.missing_x11 {
                self.add(about, State::Missing, format!("{name}, which NVIDIA's libraries load"));
            }
        }
    }

    fn hardware(&mut self, facts: &Facts) {
        let (about, hardware) = ("graphics cards", &facts.hardware);
        for card in &hardware.cards {
            let vendor = card.vendor.map_or("other", Vendor::name);
            let (state, driver) = match &card.driver {
                Some(driver) => (State::Ok, format!("kernel driver {driver}")),
                None => (State::Missing, "no kernel driver".to_owned()),
            };
            self.add(about, state, format!("{vendor} {} at {}: {driver}", card.id, card.slot));
        }
        if hardware.cards.is_empty() {
            self.add(about, State::Missing, "no card on the PCI bus");
        }
        if let Some(version) = &hardware.nvidia {
            self.add(about, State::Ok, format!("NVIDIA's kernel driver, version {version}"));
        }
        for node in &hardware.nodes {
            match &node.refusal {
                None => self.add(about, State::Ok, format!("{}: can be opened", node.path)),
                Some(why) => self.add(about, State::Missing, format!("{}: {why} (group {})", node.path, node.group)),
            }
        }
        if hardware.nodes.is_empty() {
            self.add(about, State::Missing, "no /dev/dri/renderD* and no /dev/nvidia*");
        }
        let about = "surroundings";
        if let Some(kind) = hardware.container {
            self.add(about, State::Note, format!("inside a container ({kind})"));
            if let Some(given) = &hardware.capabilities {
                let state = if hardware.lacks_graphics() { State::Missing } else { State::Ok };
                self.add(about, state, format!("NVIDIA_DRIVER_CAPABILITIES is {given}"));
            }
        }
        if hardware.wsl {
            let state = if hardware.dxg { State::Ok } else { State::Missing };
            self.add(about, state, "WSL: Linux inside Windows, with cards by /dev/dxg");
        }
    }
}

/// Where there is no Vulkan loader to ask.
fn elsewhere(facts: &Facts) -> Vec<Advice> {
    if facts.adapters.iter().any(|adapter| adapter.chosen && !adapter.software) {
        return vec![];
    }
    let (why, step) = match std::env::consts::OS {
        "macos" => (
            "Metal is part of macOS, and serves every card of a Mac since 2012; a virtual machine may have none",
            "run altiplano on the machine itself, in a session that may use the card",
        ),
        "windows" => (
            "DX12 is part of Windows, and needs dxcompiler.dll (1.8.2502 or later) beside altiplano.exe or in PATH; Vulkan comes with \
             the vendor's driver",
            "put dxcompiler.dll from https://github.com/microsoft/DirectXShaderCompiler/releases beside the program, or install the \
             vendor's driver",
        ),
        _ => ("altiplano runs on Vulkan, Metal or DX12", "install the Vulkan driver of the card"),
    };
    vec![Advice { why: format!("{}: {why}", facts.why), steps: vec![step.to_owned()] }]
}

/// Explains this machine.
pub(super) fn run(global: &Global) -> Result<()> {
    let listed = match pollster::block_on(adapters(global.device.as_deref())) {
        Ok(choice) => choice,
        // The adapter that was asked for is not there: the first stands for all, and none is chosen.
        Err(error) => {
            let mut choice = pollster::block_on(adapters(Some("0")))?;
            choice.adapters.iter_mut().for_each(|adapter| adapter.chosen = false);
            choice.why = error.to_string();
            choice
        }
    };
    let seen = listed.adapters.iter().map(Seen::of).collect();
    let explained = Explained::of(&Facts::gather(System::here(), seen, listed.why));
    global.print(&explained, || explained.text())
}
