//! What distributions call the packages of drivers.

use super::hardware::Distribution;
use super::loader::Vendor;

/// What may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Package<'a> {
    /// Vulkan's loader.
    Loader,
    /// Mesa's driver for a vendor's cards, or the one that needs none.
    Mesa(Vendor),
    /// NVIDIA's whole driver.
    Nvidia,
    /// The part of it that programs load, of the version that the kernel runs.
    NvidiaLibraries(&'a str),
    /// Libraries of X11 that NVIDIA's load.
    X11,
}

/// How it is installed, as a command where there is one.
pub(super) fn install(distribution: Distribution, package: Package) -> String {
    let (tool, names) = match distribution {
        Distribution::Debian | Distribution::Ubuntu => ("apt-get install", debian(distribution, package)),
        Distribution::Fedora => ("dnf install", fedora(package)),
        Distribution::Arch => ("pacman -S", arch(package)),
        Distribution::Alpine => ("apk add", alpine(package)),
        Distribution::Suse => ("zypper install", suse(package)),
        Distribution::Nix => return "set `hardware.graphics.enable = true;` in configuration.nix".into(),
        Distribution::Other => return in_words(package),
    };
    match names {
        Some(names) => format!("{tool} {names}"),
        None => in_words(package),
    }
}

fn debian(distribution: Distribution, package: Package) -> Option<String> {
    let ubuntu = distribution == Distribution::Ubuntu;
    Some(match package {
        Package::Loader => "libvulkan1".into(),
        // Packages are built without it.
        Package::Mesa(Vendor::Windows) => return None,
        Package::Mesa(_) => "mesa-vulkan-drivers libvulkan1".into(),
        // Ubuntu has a package for each major version.
        Package::Nvidia if ubuntu => return None,
        Package::Nvidia => "nvidia-driver nvidia-vulkan-icd".into(),
        Package::NvidiaLibraries(version) if ubuntu => format!("libnvidia-gl-{}", major(version)?),
        Package::NvidiaLibraries(_) => "nvidia-vulkan-icd".into(),
        Package::X11 => "libx11-6 libxext6".into(),
    })
}

fn fedora(package: Package) -> Option<String> {
    Some(match package {
        Package::Loader => "vulkan-loader".into(),
        Package::Mesa(Vendor::Windows) => return None,
        Package::Mesa(_) => "mesa-vulkan-drivers vulkan-loader".into(),
        Package::Nvidia => "akmod-nvidia xorg-x11-drv-nvidia-libs    (from RPM Fusion)".into(),
        Package::NvidiaLibraries(_) => "xorg-x11-drv-nvidia-libs    (from RPM Fusion)".into(),
        Package::X11 => "libX11 libXext".into(),
    })
}

fn arch(package: Package) -> Option<String> {
    Some(match package {
        Package::Loader => "vulkan-icd-loader".into(),
        Package::Mesa(Vendor::Amd) => "vulkan-radeon vulkan-icd-loader".into(),
        Package::Mesa(Vendor::Intel) => "vulkan-intel vulkan-icd-loader".into(),
        Package::Mesa(Vendor::Nvidia) => "vulkan-nouveau vulkan-icd-loader".into(),
        Package::Mesa(Vendor::Windows) => "vulkan-dzn vulkan-icd-loader".into(),
        Package::Mesa(Vendor::Software) => "vulkan-swrast vulkan-icd-loader".into(),
        Package::Nvidia => "nvidia-open nvidia-utils".into(),
        Package::NvidiaLibraries(_) => "nvidia-utils".into(),
        Package::X11 => "libx11 libxext".into(),
    })
}

fn alpine(package: Package) -> Option<String> {
    Some(match package {
        Package::Loader => "vulkan-loader".into(),
        Package::Mesa(Vendor::Amd) => "mesa-vulkan-ati vulkan-loader".into(),
        Package::Mesa(Vendor::Intel) => "mesa-vulkan-intel vulkan-loader".into(),
        Package::Mesa(Vendor::Software) => "mesa-vulkan-swrast vulkan-loader".into(),
        // NVIDIA's driver is for glibc alone.
        Package::Mesa(_) | Package::Nvidia | Package::NvidiaLibraries(_) => return None,
        Package::X11 => "libx11 libxext".into(),
    })
}

fn suse(package: Package) -> Option<String> {
    Some(match package {
        Package::Loader => "libvulkan1".into(),
        Package::Mesa(Vendor::Amd) => "libvulkan_radeon libvulkan1".into(),
        Package::Mesa(Vendor::Intel) => "libvulkan_intel libvulkan1".into(),
        Package::Mesa(Vendor::Software) => "libvulkan_lvp libvulkan1".into(),
        Package::Mesa(_) | Package::Nvidia | Package::NvidiaLibraries(_) => return None,
        Package::X11 => "libX11-6 libXext6".into(),
    })
}

/// Where no name is known.
fn in_words(package: Package) -> String {
    match package {
        Package::Loader => "install Vulkan's loader (libvulkan.so.1; the package is often called vulkan-loader)".into(),
        Package::Mesa(Vendor::Software) => {
            "install Mesa's Vulkan drivers with lavapipe, the one that needs no graphics card".into()
        }
        Package::Mesa(Vendor::Windows) => {
            "install a build of Mesa with its driver dzn (Mesa's option -Dvulkan-drivers=microsoft-experimental)".into()
        }
        Package::Mesa(vendor) => format!("install Mesa's Vulkan driver for {} cards", vendor.name()),
        Package::Nvidia => {
            "install NVIDIA's driver (on Ubuntu `ubuntu-drivers install`; elsewhere as the distribution has it)".into()
        }
        Package::NvidiaLibraries(version) => {
            format!("install the libraries of NVIDIA's driver {version}, which the kernel runs")
        }
        Package::X11 => "install libX11.so.6 and libXext.so.6".into(),
    }
}

fn major(version: &str) -> Option<&str> {
    version.split('.').next().filter(|number| number.parse::<u32>().is_ok())
}
