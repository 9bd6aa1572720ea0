//! Machines made of files, and what is said of them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::advice::Advice;
use super::explain::{Explained, Facts, Seen};
use super::loader::machine_of;
use super::own_manifest::{MARKER, Plan, plan};
use super::system::System;

const LIBRARIES: &str = "/usr/lib";
const ICD: &str = "/usr/share/vulkan/icd.d";

/// A machine below a folder.
struct Machine {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    opens: fn(&Path) -> io::Result<()>,
}

impl Machine {
    /// One with Debian and the loader.
    fn new() -> Self {
        let machine = Self::bare();
        machine.library("/usr/lib/libvulkan.so.1");
        machine
    }

    fn bare() -> Self {
        let machine = Machine { folder: tempfile::tempdir().unwrap(), environment: vec![], opens: |_| Ok(()) };
        machine.file("/etc/os-release", "NAME=\"x\"\nID=debian\n");
        machine
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Its devices belong to others.
    fn closed(mut self) -> Self {
        self.opens = |_| Err(io::ErrorKind::PermissionDenied.into());
        self
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        let whole = self.at(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(&whole, contents).unwrap();
        // Whatever the mask of the user who runs the tests.
        self.mode(path, 0o644);
        let above = whole.ancestors().skip(1).take_while(|part| part.starts_with(self.folder.path()));
        above.for_each(|part| fs::set_permissions(part, fs::Permissions::from_mode(0o755)).unwrap());
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    fn library(&self, path: &str) {
        self.file(path, elf(machine_of(std::env::consts::ARCH).unwrap_or(62)));
    }

    fn manifest(&self, path: &str, library: &str) {
        self.file(path, format!("{{\"ICD\": {{\"library_path\": \"{library}\", \"api_version\": \"1.3.0\"}}}}"));
    }

    /// Mesa's driver with its manifest.
    fn mesa(&self, name: &str) {
        self.library(&format!("{LIBRARIES}/libvulkan_{name}.so"));
        self.manifest(&format!("{ICD}/{name}_icd.json"), &format!("{LIBRARIES}/libvulkan_{name}.so"));
    }

    fn card(&self, vendor: &str, driver: Option<&str>) {
        let slot = "/sys/bus/pci/devices/0000:01:00.0";
        self.file(&format!("{slot}/class"), "0x030000\n");
        self.file(&format!("{slot}/vendor"), format!("{vendor}\n"));
        self.file(&format!("{slot}/device"), "0x2204\n");
        if let Some(driver) = driver {
            self.link(&format!("{slot}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
        }
    }

    fn render_node(&self, vendor: &str) {
        self.file("/dev/dri/renderD128", "");
        self.file("/sys/class/drm/renderD128/device/vendor", format!("{vendor}\n"));
        let group = fs::metadata(self.at("/dev/dri/renderD128")).unwrap().gid();
        self.file("/etc/group", format!("other:x:{}:\nseers:x:{group}:me\n", group + 1));
    }

    fn nvidia_nodes(&self) {
        ["/dev/nvidiactl", "/dev/nvidia0"].iter().for_each(|node| self.file(node, ""));
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\nGCC version:\n";
        self.file("/proc/driver/nvidia/version", version);
    }

    fn system(&self) -> System {
        let owner = fs::metadata(self.folder.path()).unwrap().uid();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        System::below(self.folder.path(), &environment, owner, self.opens)
    }

    fn explained(&self, adapters: Vec<Seen>) -> Explained {
        Explained::of(&Facts::gather(self.system(), adapters, "as it was said".into()))
    }

    fn advice(&self, adapters: Vec<Seen>) -> Vec<Advice> {
        self.explained(adapters).advice
    }

    /// The first advice holds all of this, its steps included.
    #[track_caller]
    fn says(&self, adapters: Vec<Seen>, parts: &[&str]) {
        let all = self.advice(adapters);
        let first = all.first().map(|own| format!("{}\n{}", own.why, own.steps.join("\n"))).unwrap_or_default();
        for part in parts {
            assert!(first.contains(part), "`{part}` is not in: {first}\nof {all:#?}");
        }
    }
}

/// The beginning of a library for a processor.
fn elf(machine: u16) -> Vec<u8> {
    let mut head = vec![0; 64];
    head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if usize::BITS == 64 { 2 } else { 1 }, 1]);
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head
}

fn adapter(name: &str, software: bool, chosen: bool) -> Seen {
    Seen { index: 0, name: name.into(), backend: "vulkan".into(), driver: String::new(), software, chosen }
}

fn llvmpipe() -> Vec<Seen> {
    vec![adapter("llvmpipe", true, true)]
}

#[test]
fn a_missing_loader_is_the_first_thing_to_install() {
    let machine = Machine::bare();
    machine.says(vec![], &["libvulkan.so.1", "missing", "apt-get install libvulkan1"]);
    for (release, command) in [
        ("ID=\"fedora\"", "dnf install vulkan-loader"),
        ("ID=arch", "pacman -S vulkan-icd-loader"),
        ("ID=alpine", "apk add vulkan-loader"),
        ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"", "zypper install libvulkan1"),
        ("ID=rocky\nID_LIKE='rhel centos fedora'", "dnf install vulkan-loader"),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", "apt-get install libvulkan1"),
        ("ID=nixos", "hardware.graphics.enable"),
        ("ID=other", "vulkan-loader"),
        ("", "vulkan-loader"),
    ] {
        machine.file("/etc/os-release", release);
        machine.says(vec![], &[command]);
    }
    // One for another processor, or an empty file, is none.
    machine.file("/usr/lib/libvulkan.so.1", elf(8));
    machine.says(vec![], &["/usr/lib/libvulkan.so.1", "another processor"]);
    machine.file("/usr/lib/libvulkan.so.1", "");
    machine.says(vec![], &["is empty"]);
}

#[test]
fn the_loader_is_found_where_the_linker_looks() {
    let found = |machine: &Machine| machine.explained(vec![]).text();
    let machine = Machine::bare().with("LD_LIBRARY_PATH", "relative:/mine");
    machine.library("/mine/libvulkan.so.1");
    assert!(found(&machine).contains("ok       /mine/libvulkan.so.1"), "{}", found(&machine));
    let machine = Machine::bare();
    machine.file("/etc/ld.so.conf", "# folders\ninclude ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n");
    machine.file("/etc/ld.so.conf.d/a.conf", "/strange/lib\n");
    machine.file("/etc/ld.so.conf.d/b.txt", "/other/lib\n");
    machine.library("/other/lib/libvulkan.so.1");
    assert!(found(&machine).contains("libvulkan.so.1: not found"), "{}", found(&machine));
    machine.library("/strange/lib/libvulkan.so.1");
    assert!(found(&machine).contains("ok       /strange/lib/libvulkan.so.1"), "{}", found(&machine));
}

#[test]
fn a_machine_without_a_card_is_told_of_software_adapters() {
    let machine = Machine::new();
    machine.says(vec![], &["no graphics card here", "apt-get install mesa-vulkan-drivers"]);
    machine.mesa("lvp");
    machine.says(llvmpipe(), &["no graphics card here", "slow"]);
    // All is there and fails.
    machine.says(vec![], &["installed, and does not work", "VK_LOADER_DEBUG"]);
    // A card without a driver of its own counts as none.
    machine.card("0x1234", Some("bochs-drm"));
    machine.says(llvmpipe(), &["no graphics card here"]);
    assert!(machine.explained(llvmpipe()).text().contains("other 1234:2204"));
}

#[test]
fn manifests_that_cannot_be_used_are_told_with_their_reason() {
    let machine = Machine::new();
    let path = format!("{ICD}/lvp_icd.json");
    let why = |contents: &str, parts: &[&str]| {
        machine.file(&path, contents);
        machine.says(vec![], &[&["lvp_icd.json", "cannot be used", "mesa-vulkan-drivers"], parts].concat());
    };
    why("", &["is empty"]);
    why("{\"ICD\": 3}", &["no manifest"]);
    why("[", &["no manifest"]);
    why(&" ".repeat(1 << 20), &["is empty"]);
    machine.manifest(&path, "/usr/lib/libvulkan_lvp.so");
    machine.says(vec![], &["/usr/lib/libvulkan_lvp.so is not there", "again"]);
    machine.manifest(&path, "libvulkan_lvp.so");
    machine.says(vec![], &["libvulkan_lvp.so: not found"]);
    machine.file("/usr/lib/libvulkan_lvp.so", "not a library, but some longer text than its head");
    machine.says(vec![], &["is no library"]);
    machine.manifest(&path, "../../../../usr/lib/libvulkan_lvp.so");
    machine.says(vec![], &["is no library"]);
    fs::remove_file(machine.at(&path)).unwrap();
    fs::create_dir(machine.at(&path)).unwrap();
    machine.says(vec![], &["cannot be read"]);
}

#[test]
fn variables_that_keep_drivers_away_are_told() {
    fn set(name: &'static str, value: &str) -> Machine {
        let machine = Machine::new().with(name, value);
        machine.mesa("lvp");
        machine.mesa("radeon");
        machine
    }
    let machine = set("VK_ICD_FILENAMES", "/nonexistent");
    machine.says(vec![], &["VK_ICD_FILENAMES is set", "no driver that can be used", "/nonexistent", "unset"]);
    assert_eq!(machine.advice(vec![]).len(), 1, "a choice is explained, and nothing else");
    set("VK_DRIVER_FILES", "relative.json").says(vec![], &["VK_DRIVER_FILES", "relative.json"]);
    // A card that the variable hides.
    let machine = set("VK_ICD_FILENAMES", &format!("{ICD}/lvp_icd.json"));
    machine.says(llvmpipe(), &["no graphics card here"]);
    machine.card("0x1002", Some("amdgpu"));
    machine.render_node("0x1002");
    machine.says(llvmpipe(), &["VK_ICD_FILENAMES is set", "unset"]);
    // Folders count as all that is in them; the older variable is not looked at beside the newer one.
    let machine = set("VK_DRIVER_FILES", ICD).with("VK_ICD_FILENAMES", "/nonexistent");
    assert!(machine.advice(vec![adapter("AMD Radeon", false, true)]).is_empty());
    set("VK_LOADER_DRIVERS_DISABLE", "*").says(vec![], &["VK_LOADER_DRIVERS_DISABLE is set to `*`", "unset"]);
    let machine = set("XDG_DATA_DIRS", "/opt/share");
    machine.says(vec![], &["XDG_DATA_DIRS", "lvp_icd.json", "export XDG_DATA_DIRS"]);
}

#[test]
fn a_choice_that_passes_over_a_card_is_told() {
    let machine = Machine::new();
    machine.mesa("lvp");
    machine.mesa("radeon");
    machine.card("0x1002", Some("amdgpu"));
    machine.render_node("0x1002");
    let both = |software, hardware| vec![adapter("llvmpipe", true, software), adapter("AMD Radeon", false, hardware)];
    machine.says(both(true, false), &["AMD Radeon is there", "as it was said", "--device"]);
    machine.says(both(false, false), &["AMD Radeon is there"]);
    assert!(machine.advice(both(false, true)).is_empty());
    let text = machine.explained(both(false, true)).text();
    assert!(text.contains("nothing is missing") && text.contains("AMD Radeon: vulkan"), "{text}");
    machine.says(vec![adapter("llvmpipe", true, false)], &["llvmpipe is there"]);
}

#[test]
fn the_way_to_a_card_of_mesa_is_followed() {
    let machine = Machine::new();
    machine.card("0x1002", None);
    machine
        .says(llvmpipe(), &["no kernel driver has taken the AMD card 1002:2204 at 0000:01:00.0", "amdgpu", "firmware"]);
    let machine = Machine::new();
    machine.card("0x1002", Some("radeon"));
    machine.says(llvmpipe(), &["kernel driver radeon", "amdgpu.si_support=1"]);
    let machine = Machine::new();
    machine.card("0x1002", Some("vfio-pci"));
    machine.says(llvmpipe(), &["virtual machine"]);

    for (vendor, driver, name) in [("0x1002", "amdgpu", "radeon"), ("0x8086", "i915", "intel")] {
        let machine = Machine::new();
        machine.card(vendor, Some(driver));
        machine.says(vec![], &["no device in /dev/dri", "dmesg"]);
        machine.file("/run/.containerenv", "");
        machine.says(vec![], &["this container was not given it", "--device /dev/dri"]);
        machine.render_node(vendor);
        machine.says(vec![], &["Mesa's Vulkan driver is missing", "mesa-vulkan-drivers"]);
        // A driver by itself is not known to the loader.
        machine.library(&format!("{LIBRARIES}/libvulkan_{name}.so"));
        machine.says(vec![], &["no manifest", "mesa-vulkan-drivers", &format!("{name}_icd.json"), "library_path"]);
        machine.mesa(name);
        machine.says(vec![], &["offers no adapter", "VK_LOADER_DEBUG"]);
        // Another card's adapter does not stand for it, unless it is the better one by all likelihood.
        let other = machine.advice(vec![adapter("NVIDIA T4", false, true)]);
        assert_eq!(other.len(), usize::from(name == "radeon"), "{other:?}");
    }

    let machine = Machine::new().closed();
    machine.card("0x1002", Some("amdgpu"));
    machine.render_node("0x1002");
    machine.mesa("radeon");
    machine.says(vec![], &["cannot be opened", "/dev/dri/renderD128", "permission denied", "usermod -aG seers"]);
    machine.file("/.dockerenv", "");
    machine.says(vec![], &["docker run --device /dev/dri/renderD128 --group-add seers"]);
}

#[test]
fn the_way_to_a_card_of_nvidia_is_followed() {
    let machine = Machine::new();
    machine.card("0x10de", None);
    machine.says(llvmpipe(), &["no driver of NVIDIA's loaded", "no kernel driver", "apt-get install nvidia-driver"]);
    machine.file("/etc/os-release", "ID=ubuntu");
    machine.says(llvmpipe(), &["ubuntu-drivers install", "restart"]);
    let machine = Machine::new();
    machine.card("0x10de", Some("nouveau"));
    machine.says(llvmpipe(), &["nouveau", "NVK", "nvidia-driver"]);

    // The driver without the part that programs load.
    let machine = Machine::new();
    machine.card("0x10de", Some("nvidia"));
    machine.nvidia_nodes();
    machine.says(llvmpipe(), &["libGLX_nvidia.so.0 is missing", "nvidia-vulkan-icd"]);
    machine.file("/etc/os-release", "ID=ubuntu");
    machine.says(llvmpipe(), &["libnvidia-gl-535"]);
    // Mesa's own driver for such cards does not stand for it.
    machine.mesa("nouveau");
    machine.says(llvmpipe(), &["libnvidia-gl-535"]);
    machine.library("/usr/lib/libGLX_nvidia.so.0");
    machine.says(llvmpipe(), &["/usr/lib/libGLX_nvidia.so.0 is there, and no manifest", "nvidia_icd.json", "mkdir -p"]);
    machine.manifest(&format!("{ICD}/nvidia_icd.json"), "libGLX_nvidia.so.0");
    machine.says(llvmpipe(), &["libX11.so.6 and libXext.so.6", "apt-get install libx11-6 libxext6"]);
    ["X11", "Xext"].iter().for_each(|name| machine.library(&format!("/usr/lib/lib{name}.so.6")));
    machine.says(llvmpipe(), &["offers no adapter", "535.183.01"]);
    assert!(machine.advice(vec![adapter("NVIDIA GeForce RTX 3090", false, true)]).is_empty());
}

#[test]
fn containers_say_what_they_were_not_given() {
    let machine = Machine::new();
    machine.file("/.dockerenv", "");
    machine.card("0x10de", Some("nvidia"));
    machine.says(llvmpipe(), &["not given it", "/dev/nvidia0", "--gpus all", "nvidia-container-toolkit"]);
    machine.nvidia_nodes();
    machine.says(llvmpipe(), &["without its graphics part", "not set", "NVIDIA_DRIVER_CAPABILITIES=all"]);
    let given = |capabilities| {
        let machine = Machine::new().with("NVIDIA_DRIVER_CAPABILITIES", capabilities);
        machine.file("/proc/1/cgroup", "0::/kubepods/pod1\n");
        // The bus need not be there.
        machine.nvidia_nodes();
        machine
    };
    given("compute,utility").says(llvmpipe(), &["compute,utility", "graphics part"]);
    let machine = given("compute, graphics");
    machine.says(llvmpipe(), &["libGLX_nvidia.so.0 is missing"]);
    // Files that an image kept of another machine's driver are empty.
    machine.file("/usr/lib/libGLX_nvidia.so.0", "");
    machine.says(llvmpipe(), &["libGLX_nvidia.so.0 is missing"]);
    machine.library("/usr/lib/libGLX_nvidia.so.0");
    machine.says(llvmpipe(), &["no manifest names it", "docker run -v"]);
    let text = machine.explained(llvmpipe()).text();
    assert!(
        text.contains("inside a container (Kubernetes)") && text.contains("no manifest of /usr/lib/libGLX_nvidia.so.0"),
        "{text}"
    );
}

#[test]
fn linux_inside_windows_needs_a_driver_of_its_own() {
    let machine = Machine::new();
    machine.mesa("lvp");
    machine.file("/proc/version", "Linux version 5.15.90.1-microsoft-standard-WSL2");
    machine.says(llvmpipe(), &["/dev/dxg", "wsl --update"]);
    machine.file("/dev/dxg", "");
    machine.says(llvmpipe(), &["dzn", "microsoft-experimental", "for Windows"]);
    machine.file("/etc/os-release", "ID=arch");
    machine.says(llvmpipe(), &["pacman -S vulkan-dzn"]);
    machine.mesa("dzn");
    machine.says(llvmpipe(), &["dzn is there, and offers no adapter"]);
    assert!(machine.advice(vec![adapter("Microsoft Direct3D12 (NVIDIA T4)", false, true)]).is_empty());
}

#[test]
fn a_library_without_a_manifest_gets_one() {
    let machine = Machine::new();
    let lvp = "/usr/lib/libvulkan_lvp.so";
    assert_eq!(plan(&machine.system()), None);
    machine.library(lvp);
    let wanted = |known: &[&str], libraries: &[(&'static str, &str)]| {
        let libraries = libraries.iter().map(|&(name, path)| (name, path.into())).collect();
        Some(Plan { known: known.iter().map(|path| path.into()).collect(), libraries })
    };
    assert_eq!(plan(&machine.system()), wanted(&[], &[("libvulkan_lvp.so", lvp)]));
    // What the loader knows already stays known.
    machine.mesa("radeon");
    let radeon = format!("{ICD}/radeon_icd.json");
    assert_eq!(plan(&machine.system()), wanted(&[&radeon], &[("libvulkan_lvp.so", lvp)]));
    // A manifest that cannot be used does not count, and one that can does.
    machine.manifest(&format!("{ICD}/lvp_icd.json"), "/usr/lib/gone/libvulkan_lvp.so");
    assert!(plan(&machine.system()).is_some());
    machine.mesa("lvp");
    assert_eq!(plan(&machine.system()), None);
    // Drivers for cards that are not here stay out.
    machine.library("/usr/lib/libvulkan_intel.so");
    machine.library("/usr/lib/libvulkan_dzn.so");
    assert_eq!(plan(&machine.system()), None);
    machine.card("0x8086", Some("i915"));
    assert_eq!(plan(&machine.system()).unwrap().libraries[0].0, "libvulkan_intel.so");
    // Devices whose bus is not seen may be anybody's.
    fs::remove_dir_all(machine.at("/sys")).unwrap();
    machine.file("/dev/dri/renderD129", "");
    assert_eq!(plan(&machine.system()).unwrap().libraries.len(), 1);
    machine.mesa("intel");
    machine.card("0x10de", Some("nvidia"));
    // Of NVIDIA's, the one whose own libraries are there.
    for name in ["libGLX_nvidia.so.0", "libEGL_nvidia.so.0"] {
        machine.library(&format!("/usr/lib/{name}"));
    }
    assert_eq!(plan(&machine.system()).unwrap().libraries[0].0, "libEGL_nvidia.so.0");
    ["X11", "Xext"].iter().for_each(|name| machine.library(&format!("/usr/lib/lib{name}.so.6")));
    let libraries = plan(&machine.system()).unwrap().libraries;
    assert_eq!((libraries.len(), libraries[0].0), (1, "libGLX_nvidia.so.0"));
}

#[test]
fn libraries_and_choices_of_others_are_left_alone() {
    let there = |machine: Machine| {
        machine.library("/usr/lib/libvulkan_lvp.so");
        machine
    };
    for name in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "VK_LOADER_DRIVERS_SELECT", MARKER] {
        assert_eq!(plan(&there(Machine::new().with(name, "/nonexistent")).system()), None, "{name}");
        assert!(plan(&there(Machine::new().with(name, "")).system()).is_some(), "an empty {name}");
    }
    // Without the loader a manifest helps nobody.
    assert_eq!(plan(&there(Machine::bare()).system()), None);
    // A folder of the user's, also where it is named in between.
    let machine = Machine::new().with("LD_LIBRARY_PATH", "/home/me");
    machine.library("/home/me/libvulkan_lvp.so");
    assert_eq!(plan(&machine.system()), None);
    let machine = there(Machine::new().with("LD_LIBRARY_PATH", "/home/me"));
    machine.library("/home/me/libvulkan_lvp.so");
    assert_eq!(plan(&machine.system()), None, "the linker would take the user's");
    // Files and folders that others may write, and links that lead to such.
    let machine = there(Machine::new());
    machine.mode("/usr/lib/libvulkan_lvp.so", 0o666);
    assert_eq!(plan(&machine.system()), None);
    machine.mode("/usr/lib/libvulkan_lvp.so", 0o644);
    machine.mode("/usr", 0o777);
    assert_eq!(plan(&machine.system()), None);
    machine.mode("/usr", 0o755);
    assert!(plan(&machine.system()).is_some());
    fs::rename(machine.at("/usr/lib/libvulkan_lvp.so"), machine.at("/usr/lib/lvp")).unwrap();
    machine.link("/usr/lib/libvulkan_lvp.so", "lvp");
    assert!(plan(&machine.system()).is_some());
    machine.mode("/usr/lib/lvp", 0o664);
    assert_eq!(plan(&machine.system()), None);
    // Another's files.
    let owner = fs::metadata(machine.folder.path()).unwrap().uid();
    machine.mode("/usr/lib/lvp", 0o644);
    let other = System::below(machine.folder.path(), &[], owner + 1, |_| Ok(()));
    assert_eq!(plan(&other), None);
}

#[test]
fn a_manifest_of_its_own_is_explained() {
    let machine = Machine::new().with(MARKER, "1").with("VK_ICD_FILENAMES", "/home/me/.cache/altiplano/icd.d/lvp.json");
    machine.library("/usr/lib/libvulkan_lvp.so");
    let explained = machine.explained(llvmpipe());
    let text = explained.text();
    assert!(text.contains("goes on with its own of libvulkan_lvp.so"), "{text}");
    assert!(!text.contains("VK_ICD_FILENAMES is set"), "{text}");
    machine.says(llvmpipe(), &["no manifest names libvulkan_lvp.so", "apt-get install mesa-vulkan-drivers"]);
}
