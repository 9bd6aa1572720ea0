//! RADV on null hardware: Mesa's driver compiles for AMD GPUs that are not there, and says what came of it.

use std::ffi::CStr;
use std::path::PathBuf;
use std::time::Instant;

use altiplano::shader::{Interface, Kind};
use ash::vk;

use super::assembly::{maxima, multiply_adds_in_hundred};

/// The driver's description on this machine.
pub fn description() -> Option<PathBuf> {
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let radv = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("radeon_icd"));
    files.map(|entry| entry.path()).find(radv)
}

/// What the compiler reports of one pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lanes of a hardware wave.
    pub subgroup: u32,
    /// Vector registers of a lane.
    pub vgprs: u64,
    /// Vector registers that live in memory.
    pub spilled: u64,
    /// Waves that a SIMD holds at once.
    pub waves: u64,
    /// Of a hundred instructions of the hottest loop so many are multiply-adds.
    pub adds: u32,
    /// Instructions that take the larger of two numbers.
    pub maxima: usize,
    pub milliseconds: u128,
}

/// A device of the family that `RADV_FORCE_FAMILY` names. It makes pipelines and can run nothing.
pub struct Compiler {
    _entry: ash::Entry,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    /// The driver's name and version.
    pub driver: String,
    pub name: String,
}

fn text(chars: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Compiler {
    pub fn open() -> Result<Self, String> {
        let wrong = |what: &'static str| move |why: vk::Result| format!("{what}: {why}");
        // SAFETY: plain Vulkan calls with valid structures; all objects live until the process ends.
        unsafe {
            let entry = ash::Entry::load().map_err(|why| format!("no Vulkan loader: {why}"))?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&app);
            let instance = entry.create_instance(&create, None).map_err(wrong("instance"))?;
            let all = instance.enumerate_physical_devices().map_err(wrong("devices"))?;
            let physical = *all.first().ok_or("the driver offers no device")?;
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let name = text(&properties.properties.device_name);
            let driver = format!("{} {}", text(&driver.driver_name), text(&driver.driver_info));
            let queue = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
            let mut info =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut model = vk::PhysicalDeviceVulkan12Features::default().vulkan_memory_model(true);
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&extensions)
                .push_next(&mut info)
                .push_next(&mut model);
            let device = instance.create_device(physical, &create, None).map_err(wrong("device"))?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Compiler { _entry: entry, device, executables, driver, name })
        }
    }

    pub fn compile(&self, words: &[u32], interface: &Interface) -> Result<Report, String> {
        let wrong = |what: &'static str| move |why: vk::Result| format!("{what}: {why}");
        let bindings: Vec<_> = interface
            .bindings
            .iter()
            .map(|binding| {
                let uniform = binding.kind == Kind::Uniform;
                let kind =
                    if uniform { vk::DescriptorType::UNIFORM_BUFFER } else { vk::DescriptorType::STORAGE_BUFFER };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        // SAFETY: as in `open`; what is made here is destroyed here, but for layouts, which are few and small.
        unsafe {
            let layout = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = [self.device.create_descriptor_set_layout(&layout, None).map_err(wrong("layout"))?];
            let range =
                vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(interface.immediates);
            let ranges: &[_] = if interface.immediates > 0 { &[range] } else { &[] };
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&set).push_constant_ranges(ranges);
            let layout = self.device.create_pipeline_layout(&layout, None).map_err(wrong("layout"))?;
            let module = vk::ShaderModuleCreateInfo::default().code(words);
            let module = self.device.create_shader_module(&module, None).map_err(wrong("module"))?;
            let entry = std::ffi::CString::new(interface.entry.as_str()).map_err(|why| why.to_string())?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let create = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(
                vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                    | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
            );
            let start = Instant::now();
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = *made.map_err(|(_, why)| format!("pipeline: {why}"))?.first().ok_or("no pipeline")?;
            let milliseconds = start.elapsed().as_millis();
            let query = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let properties =
                self.executables.get_pipeline_executable_properties(&query).map_err(wrong("properties"))?;
            let subgroup = properties.first().map_or(0, |own| own.subgroup_size);
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let statistics = self.executables.get_pipeline_executable_statistics(&info).map_err(wrong("statistics"))?;
            let value = |name: &str| {
                let own = statistics.iter().find(|s| CStr::from_ptr(s.name.as_ptr()).to_string_lossy() == name);
                own.map(|s| s.value.u64).ok_or_else(|| format!("the driver does not report `{name}`"))
            };
            let (vgprs, spilled) = (value("VGPRs")?, value("Spilled VGPRs")?);
            let waves = value("Subgroups per SIMD")?;
            let assembly = self.assembly(&info).map_err(wrong("machine code"))?;
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(module, None);
            let (adds, maxima) = (multiply_adds_in_hundred(&assembly), maxima(&assembly));
            Ok(Report { subgroup, vgprs, spilled, waves, adds, maxima, milliseconds })
        }
    }

    /// The machine code of a pipeline, as text.
    ///
    /// # Safety
    /// The pipeline must live and have been made with internal representations.
    unsafe fn assembly(&self, info: &vk::PipelineExecutableInfoKHR) -> Result<String, vk::Result> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: as the caller says; the lists are as long as the driver said, and the texts as long as it said after that.
        unsafe {
            let mut count = 0;
            get(self.device.handle(), info, &mut count, std::ptr::null_mut()).result()?;
            let mut list = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(self.device.handle(), info, &mut count, list.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = list.iter().map(|own| vec![0; own.data_size]).collect();
            for (own, text) in list.iter_mut().zip(&mut texts) {
                own.p_data = text.as_mut_ptr().cast();
            }
            get(self.device.handle(), info, &mut count, list.as_mut_ptr()).result()?;
            let name = |own: &vk::PipelineExecutableInternalRepresentationKHR| {
                CStr::from_ptr(own.name.as_ptr()).to_string_lossy().contains("Assembly")
            };
            let found = list.iter().zip(texts).find(|(own, _)| name(own));
            Ok(found.map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default())
        }
    }
}
