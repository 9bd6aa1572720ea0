//! Finding an adapter, asking for what it really has, and saying why it was chosen.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::memory;
use crate::error::{Error, Result};

/// Limits that the engine plans with.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Largest binding and largest buffer, whichever is smaller, in bytes.
    pub slab_bytes: u64,
    /// Storage buffers per shader.
    pub storage_buffers: u32,
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Largest uniform binding in bytes.
    pub uniform_bytes: u64,
    /// Uniform buffers per shader.
    pub uniform_buffers: u32,
    /// Invocations per workgroup.
    pub invocations: u32,
    /// Invocations per workgroup in x, y and z.
    pub workgroup_sides: [u32; 3],
    /// Workgroups per dimension of a dispatch.
    pub workgroups: u32,
    /// Alignment of a binding's offset in bytes.
    pub alignment: u32,
    /// Smallest and largest subgroup.
    pub subgroup: (u32, u32),
}

/// What is known of an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    /// Position in the list of adapters.
    pub index: usize,
    /// Name that the driver gives it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// Bytes of its own memory, or of that of the machine where it has none, if its backend tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// What can be planned with.
    pub limits: Limits,
    /// Optional features that are used if they are there.
    pub features: Vec<String>,
    /// Whether this one is chosen.
    pub chosen: bool,
}

/// An adapter list and what was made of it.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// All adapters.
    pub adapters: Vec<AdapterReport>,
    /// Why the chosen one was chosen, or what to do if there is none.
    pub why: String,
}

/// Optional features, with the names used in reports.
const WANTED: [(wgpu::Features, &str); 2] =
    [(wgpu::Features::SUBGROUP, "subgroups"), (wgpu::Features::TIMESTAMP_QUERY, "timestamps")];

/// What every adapter with one of our backends has: shaders are told by immediates where a dispatch begins.
const NEEDED: wgpu::Features = wgpu::Features::IMMEDIATES;

/// What to do without an adapter.
const NONE_FOUND: &str = "no graphics adapter with Vulkan, Metal or DX12 was found; on Debian or Ubuntu \
    `apt-get install mesa-vulkan-drivers` installs drivers for AMD and Intel and a software adapter (lavapipe), \
    `apt-get install nvidia-driver` NVIDIA's; on Fedora `dnf install mesa-vulkan-drivers`; `altiplano devices --explain` says \
    what is missing here";

/// Names of adapters that are programs. A virtual machine's, or a translation to another interface, has the name of what does the
/// work in its own and does not say that it is one.
const SOFTWARE: [&str; 5] = ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "microsoft basic render"];

/// Largest slab, unless one tensor needs more: larger ones find no place on a card whose memory is in pieces, and Windows pages them
/// out as a whole.
const USUAL_SLAB: u64 = 1 << 30;

impl Limits {
    /// Largest slab that is taken where nothing needs a larger one, in bytes.
    pub fn usual_slab(&self) -> u64 {
        self.slab_bytes.min(USUAL_SLAB)
    }
}

impl AdapterReport {
    /// Whether the processor does the work.
    pub fn is_software(&self) -> bool {
        let named = |text: &str| SOFTWARE.iter().any(|name| text.to_lowercase().contains(name));
        self.kind == "software" || named(&self.name) || named(&self.driver)
    }

    /// Why no shader of ours would compile on it, and what to do: DX12's old compiler (FXC), which is what there is without
    /// `dxcompiler.dll`, knows no shader model 6, and then the adapter has no subgroups either.
    fn refusal(&self) -> Option<String> {
        let old = self.backend == "dx12" && !self.features.iter().any(|feature| feature == "subgroups");
        old.then(|| {
            format!(
                "{} offers no shader model 6 through DX12: put dxcompiler.dll (1.8.2502 or later, from \
                 https://github.com/microsoft/DirectXShaderCompiler/releases) beside the program or into a folder of PATH, or \
                 install the vendor's driver with Vulkan",
                self.name
            )
        })
    }

    fn new(index: usize, info: &wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        AdapterReport {
            index,
            name: info.name.clone(),
            backend: info.backend.to_string(),
            kind: kind.into(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            memory: None,
            limits: Limits {
                // Offsets are counted in vec4 and in u32, so 32 GiB could be addressed; drivers offer less.
                slab_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) & !15,
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
                workgroup_bytes: limits.max_compute_workgroup_storage_size,
                uniform_bytes: limits.max_uniform_buffer_binding_size,
                uniform_buffers: limits.max_uniform_buffers_per_shader_stage,
                invocations: limits.max_compute_invocations_per_workgroup,
                workgroup_sides: [
                    limits.max_compute_workgroup_size_x,
                    limits.max_compute_workgroup_size_y,
                    limits.max_compute_workgroup_size_z,
                ],
                workgroups: limits.max_compute_workgroups_per_dimension,
                alignment: limits.min_storage_buffer_offset_alignment,
                subgroup: (info.subgroup_min_size, info.subgroup_max_size),
            },
            features: WANTED.iter().filter(|(f, _)| features.contains(*f)).map(|(_, n)| (*n).to_owned()).collect(),
            chosen: false,
        }
    }
}

/// Where Mesa's layer that orders adapters is listed for Vulkan's loader.
const LAYER: [&str; 3] = ["/usr/share", "/usr/local/share", "/etc"];
const LAYER_FILE: &str = "vulkan/implicit_layer.d/VkLayer_MESA_device_select.json";

/// What to say beforehand of a driver's chatter. Mesa's layer looks for a Wayland display wherever an instance has that
/// extension, which the graphics library always asks for, and libwayland prints a line that begins with `error:` unless
/// `runtime`, the desktop's folder, is an absolute path.
fn chatter(runtime: Option<&Path>, layer: bool) -> Option<&'static str> {
    (layer && !runtime.is_some_and(Path::is_absolute)).then_some(
        "a line about XDG_RUNTIME_DIR may follow; it is the driver's, which looks for a desktop, and does not matter here (with \
         XDG_RUNTIME_DIR=/tmp it keeps still)",
    )
}

async fn list() -> Vec<(wgpu::Adapter, AdapterReport)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let layer = std::env::var_os("NODEVICE_SELECT").is_none()
        && LAYER.iter().any(|root| Path::new(root).join(LAYER_FILE).is_file());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    if let Some(note) = chatter(runtime.as_deref(), layer) {
        log::warn!("{note}");
    }
    let instance = wgpu::Instance::new(descriptor);
    let found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let describe = |(index, adapter): (usize, wgpu::Adapter)| {
        let report = AdapterReport::new(index, &adapter.get_info(), &adapter.limits(), adapter.features());
        let report = AdapterReport { memory: memory::of(&adapter), ..report };
        (adapter, report)
    };
    found.into_iter().enumerate().map(describe).collect()
}

/// Index of the adapter that `wish` names, or of the most capable one, and why.
fn pick(reports: &[AdapterReport], wish: Option<&str>) -> Result<(usize, String)> {
    if reports.is_empty() {
        return Err(Error::Adapter(NONE_FOUND.into()));
    }
    if let Some(wish) = wish {
        let by_index = wish.parse::<usize>().ok().filter(|&i| i < reports.len());
        let by_name = || reports.iter().position(|r| r.name.to_lowercase().contains(&wish.to_lowercase()));
        let found = by_index.or_else(by_name);
        let names: Vec<String> = reports.iter().map(|r| format!("{} {}", r.index, r.name)).collect();
        return found.map(|i| (i, format!("asked for as `{wish}`"))).ok_or_else(|| {
            Error::Adapter(format!("no adapter matches --device `{wish}`; there are: {}", names.join(", ")))
        });
    }
    let rank =
        |r: &AdapterReport| match ["discrete", "integrated", "virtual", "other"].iter().position(|k| *k == r.kind) {
            Some(rank) if !r.is_software() => rank,
            _ => 9,
        };
    let best = reports.iter().min_by_key(|r| (r.refusal().is_some(), rank(r), r.index)).map_or(0, |r| r.index);
    let why = match reports[best].is_software() {
        true => "the only kind found: a software adapter, slow but complete",
        false => "the most capable kind found",
    };
    Ok((best, why.into()))
}

fn wish(device: Option<&str>) -> Option<String> {
    device.map(str::to_owned).or_else(|| std::env::var("ALTIPLANO_DEVICE").ok().filter(|d| !d.is_empty()))
}

/// All adapters and the choice among them.
///
/// # Errors
/// [`Error::Adapter`] if `device` matches none. Having no adapter is no error here: the list is empty then.
pub async fn adapters(device: Option<&str>) -> Result<Choice> {
    let mut reports: Vec<AdapterReport> = list().await.into_iter().map(|(_, report)| report).collect();
    if reports.is_empty() {
        return Ok(Choice { adapters: reports, why: NONE_FOUND.into() });
    }
    let (index, why) = pick(&reports, wish(device).as_deref())?;
    reports[index].chosen = true;
    let why = reports[index].refusal().unwrap_or(why);
    Ok(Choice { adapters: reports, why })
}

pub(super) async fn choose(device: Option<&str>) -> Result<(wgpu::Adapter, AdapterReport)> {
    let mut found = list().await;
    let reports: Vec<AdapterReport> = found.iter().map(|(_, report)| report.clone()).collect();
    let (index, why) = pick(&reports, wish(device).as_deref())?;
    let (adapter, mut report) = found.swap_remove(index);
    if let Some(why) = report.refusal() {
        return Err(Error::Adapter(why));
    }
    report.chosen = true;
    log::info!("adapter {}: {} ({}), {why}", report.index, report.name, report.driver);
    Ok((adapter, report))
}

pub(super) async fn request(adapter: &wgpu::Adapter, report: &AdapterReport) -> Result<(wgpu::Device, wgpu::Queue)> {
    let wanted = WANTED.iter().fold(NEEDED, |all, (f, _)| all | *f);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("altiplano"),
        required_features: adapter.features() & wanted,
        required_limits: adapter.limits(),
        experimental_features: wgpu::ExperimentalFeatures::disabled(),
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    };
    adapter.request_device(&descriptor).await.map_err(|error| Error::Gpu {
        doing: "opening the device".into(),
        adapter: report.name.clone(),
        why: error.to_string(),
    })
}

/// Whether a device was opened with what shaders need.
pub(super) fn suffices(device: &wgpu::Device, report: &AdapterReport) -> Result<()> {
    let (bytes, least) = (device.limits().max_immediate_size, crate::shader::BEGIN_BYTES);
    match device.features().contains(NEEDED) && bytes >= least {
        true => Ok(()),
        false => Err(Error::Gpu {
            doing: "taking the device".into(),
            adapter: report.name.clone(),
            why: format!(
                "it was opened with {bytes} bytes of immediates; shaders need Features::IMMEDIATES and {least} bytes"
            ),
        }),
    }
}

pub(super) fn report_of_device(device: &wgpu::Device) -> AdapterReport {
    let mut report = AdapterReport::new(0, &device.adapter_info(), &device.limits(), device.features());
    report.chosen = true;
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: usize, name: &str, kind: wgpu::DeviceType) -> AdapterReport {
        let mut info = wgpu::AdapterInfo::new(kind, wgpu::Backend::Vulkan);
        info.name = name.into();
        AdapterReport::new(index, &info, &wgpu::Limits::default(), wgpu::Features::empty())
    }

    #[cfg(unix)]
    #[test]
    fn chatter_is_named_where_it_comes() {
        assert_eq!(chatter(Some(Path::new("/run/user/1")), true), None);
        assert_eq!(chatter(None, false), None);
        for runtime in [None, Some(Path::new("")), Some(Path::new("run"))] {
            assert!(chatter(runtime, true).unwrap().contains("XDG_RUNTIME_DIR"));
        }
    }

    #[test]
    fn programs_are_known_by_name() {
        use wgpu::DeviceType::{Cpu, IntegratedGpu, Other, VirtualGpu};
        for (name, kind) in [
            ("anything", Cpu),
            ("Virtio-GPU Venus (llvmpipe (LLVM 19.1.7, 256 bits))", VirtualGpu),
            ("SwiftShader Device (Subzero)", Other),
            ("Microsoft Basic Render Driver", Other),
        ] {
            let software = report(0, name, kind);
            assert!(software.is_software(), "{name}");
            assert_eq!(crate::kernels::Preset::for_adapter(&software).name, "cpu");
        }
        let driver = AdapterReport { driver: "lavapipe Mesa 25".into(), ..report(0, "virtual", VirtualGpu) };
        assert!(driver.is_software());
        let list =
            [report(0, "llvmpipe", VirtualGpu), report(1, "GRID T4", VirtualGpu), report(2, "Iris", IntegratedGpu)];
        assert!(!list[1].is_software() && !list[2].is_software());
        assert_eq!(pick(&list[..2], None).unwrap().0, 1);
        assert!(pick(&list[..1], None).unwrap().1.contains("software"));
    }

    #[test]
    fn old_compilers_of_dx12_are_the_last_choice() {
        let dx12 = |features: &[&str]| AdapterReport {
            backend: wgpu::Backend::Dx12.to_string(),
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            ..report(0, "Radeon", wgpu::DeviceType::DiscreteGpu)
        };
        assert_eq!(dx12(&["timestamps", "subgroups"]).refusal(), None);
        let why = dx12(&["timestamps"]).refusal().unwrap();
        assert!(why.contains("dxcompiler.dll") && why.contains("Vulkan"), "{why}");
        assert_eq!(pick(&[dx12(&[]), report(1, "llvmpipe", wgpu::DeviceType::Cpu)], None).unwrap().0, 1);
        assert_eq!(report(0, "Iris", wgpu::DeviceType::IntegratedGpu).refusal(), None);
    }

    #[test]
    fn picks_by_kind_index_and_name() {
        let list = [report(0, "llvmpipe", wgpu::DeviceType::Cpu), report(1, "Radeon", wgpu::DeviceType::IntegratedGpu)];
        let index = |wish| pick(&list, wish).map(|(i, _)| i).ok();
        assert_eq!(index(None), Some(1));
        assert_eq!(index(Some("0")), Some(0));
        assert_eq!(index(Some("radeon")), Some(1));
        let message = pick(&list, Some("geforce")).map_err(|e| e.to_string());
        assert_eq!(message, Err("no adapter matches --device `geforce`; there are: 0 llvmpipe, 1 Radeon".into()));
        let none = pick(&[], None).map_err(|e| (e.exit_code(), e.to_string().contains("mesa-vulkan-drivers")));
        assert_eq!(none, Err((2, true)));
    }
}
