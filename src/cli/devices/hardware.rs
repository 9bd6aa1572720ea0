//! Graphics cards, the kernel's drivers and devices of theirs, and what stands between: containers, virtual machines.

use super::loader::Vendor;
use super::system::System;

/// A graphics card on the bus.
pub(super) struct Card {
    /// Its place, such as `0000:01:00.0`.
    pub slot: String,
    /// Numbers of vendor and device, as `10de:2204`.
    pub id: String,
    pub vendor: Option<Vendor>,
    /// The kernel's driver, if one has taken it.
    pub driver: Option<String>,
}

/// A device by which programs reach a card.
pub(super) struct Node {
    /// Its file below `/dev`.
    pub path: String,
    pub vendor: Option<Vendor>,
    /// Why it cannot be opened, if so.
    pub refusal: Option<String>,
    /// The group that may open it, by name if it has one here.
    pub group: String,
}

/// Names of packages depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    Debian,
    Ubuntu,
    Fedora,
    Arch,
    Alpine,
    Suse,
    Nix,
    Other,
}

/// What is there.
pub(super) struct Hardware {
    pub cards: Vec<Card>,
    pub nodes: Vec<Node>,
    /// Version of NVIDIA's kernel driver, if it is loaded.
    pub nvidia: Option<String>,
    /// What kind of container this is, if it is one.
    pub container: Option<&'static str>,
    /// What of NVIDIA's driver a container was given, by `NVIDIA_DRIVER_CAPABILITIES`.
    pub capabilities: Option<String>,
    /// Whether this is Linux inside Windows.
    pub wsl: bool,
    /// Whether Windows hands its cards through.
    pub dxg: bool,
    pub distribution: Distribution,
}

impl Hardware {
    /// Looks for it.
    pub fn find(system: &System) -> Self {
        let version = system.text("/proc/version").unwrap_or_default().to_lowercase();
        Hardware {
            cards: cards(system),
            nodes: nodes(system),
            nvidia: nvidia_version(system),
            container: container(system),
            capabilities: system.word("NVIDIA_DRIVER_CAPABILITIES"),
            wsl: version.contains("microsoft"),
            dxg: system.exists("/dev/dxg"),
            distribution: distribution(&system.text("/etc/os-release").unwrap_or_default()),
        }
    }

    /// Vendors of cards, each once.
    pub fn vendors(&self) -> Vec<Vendor> {
        let mut all: Vec<Vendor> = self.cards.iter().filter_map(|card| card.vendor).collect();
        // A container may see devices of NVIDIA's without the bus.
        all.extend(self.nodes_of(Vendor::Nvidia).map(|_| Vendor::Nvidia));
        all.sort();
        all.dedup();
        all
    }

    /// Devices of a vendor's cards.
    pub fn nodes_of(&self, vendor: Vendor) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.vendor == Some(vendor))
    }

    /// Whether NVIDIA's driver was given to this container without what Vulkan needs.
    pub fn lacks_graphics(&self) -> bool {
        let given = self.capabilities.as_deref().unwrap_or_default().to_lowercase();
        let has = |word: &str| given.split(',').any(|own| own.trim() == word);
        self.container.is_some() && !has("all") && !has("graphics")
    }
}

fn vendor_of(id: &str) -> Option<Vendor> {
    match id.trim().trim_start_matches("0x") {
        "10de" => Some(Vendor::Nvidia),
        "1002" => Some(Vendor::Amd),
        "8086" => Some(Vendor::Intel),
        _ => None,
    }
}

fn cards(system: &System) -> Vec<Card> {
    let bus = "/sys/bus/pci/devices";
    let card = |slot: String| {
        let of = |file: &str| Some(system.text(format!("{bus}/{slot}/{file}"))?.trim().to_owned());
        // Display controllers of all kinds: 0x0300 for VGA, 0x0302 for cards without an output.
        of("class")?.starts_with("0x03").then_some(())?;
        let (vendor, device) = (of("vendor")?, of("device").unwrap_or_default());
        let id = [&vendor, &device].map(|id| id.trim_start_matches("0x")).join(":");
        Some(Card { id, vendor: vendor_of(&vendor), driver: system.link(format!("{bus}/{slot}/driver")), slot })
    };
    system.names(bus).into_iter().filter_map(card).collect()
}

fn nodes(system: &System) -> Vec<Node> {
    let render = system.names("/dev/dri").into_iter().filter(|name| name.starts_with("renderD"));
    let render = render.map(|name| {
        let id = system.text(format!("/sys/class/drm/{name}/device/vendor"));
        (format!("/dev/dri/{name}"), id.as_deref().and_then(vendor_of))
    });
    let number = |name: &str| name.strip_prefix("nvidia").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let nvidia = system.names("/dev").into_iter().filter(|name| number(name) || name == "nvidiactl");
    let nvidia = nvidia.map(|name| (format!("/dev/{name}"), Some(Vendor::Nvidia)));
    let groups = system.text("/etc/group").unwrap_or_default();
    let group = |path: &str| {
        let number = system.group(path)?.to_string();
        let line = groups.lines().find(|line| line.split(':').nth(2) == Some(number.as_str()));
        Some(line.and_then(|line| line.split(':').next()).map_or(number, str::to_owned))
    };
    let node = |(path, vendor): (String, Option<Vendor>)| Node {
        refusal: system.refusal(&path),
        group: group(&path).unwrap_or_default(),
        path,
        vendor,
    };
    render.chain(nvidia).map(node).collect()
}

/// The version that NVIDIA's kernel driver says of itself: a number with dots.
fn nvidia_version(system: &System) -> Option<String> {
    let text = system.text("/proc/driver/nvidia/version")?;
    let number = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    Some(text.lines().next()?.split_whitespace().find(number).unwrap_or("unknown").to_owned())
}

fn container(system: &System) -> Option<&'static str> {
    if system.exists("/.dockerenv") {
        return Some("Docker");
    }
    if system.exists("/run/.containerenv") {
        return Some("Podman");
    }
    if system.variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("Kubernetes");
    }
    let groups = system.text("/proc/1/cgroup").unwrap_or_default();
    let known = [("kubepods", "Kubernetes"), ("docker", "Docker"), ("libpod", "Podman"), ("lxc", "LXC")];
    let named = known.iter().find(|(word, _)| groups.contains(word)).map(|(_, name)| *name);
    // systemd-nspawn and LXC tell the first process so.
    named.or_else(|| system.variable("container").map(|_| "container"))
}

fn distribution(release: &str) -> Distribution {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_lowercase()
    };
    let (own, like) = (value("ID"), value("ID_LIKE"));
    let known = [
        (&["ubuntu"][..], Distribution::Ubuntu),
        (&["debian"], Distribution::Debian),
        (&["fedora", "rhel", "centos"], Distribution::Fedora),
        (&["arch"], Distribution::Arch),
        (&["alpine"], Distribution::Alpine),
        (&["opensuse", "suse", "opensuse-tumbleweed", "opensuse-leap"], Distribution::Suse),
        (&["nixos"], Distribution::Nix),
    ];
    let words = || std::iter::once(own.as_str()).chain(like.split_whitespace());
    let named = |word: &str| known.iter().find(|(names, _)| names.contains(&word)).map(|(_, found)| *found);
    words().find_map(named).unwrap_or(Distribution::Other)
}
