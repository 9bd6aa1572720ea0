//! Compute pipelines, made once per variant.

use rayon::prelude::*;

use super::cut::Cuts;
use super::{Gpu, lock};
use crate::error::{Error, Result};
use crate::shader::{BEGIN_BYTES, Interface, Kind, Variant, begins, parse, validate_text};

/// A compiled variant.
#[derive(Clone)]
pub struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Where its dispatches may be cut; `None` if they take no beginning.
    pub(super) cuts: Option<Cuts>,
    /// Number of bindings.
    pub(super) bindings: usize,
}

impl Gpu {
    /// Compiles the variants that are not there yet, side by side where the host can, and returns all.
    ///
    /// # Errors
    /// [`Error::Shader`] if a variant does not validate, [`Error::Gpu`] if the driver refuses it.
    pub fn pipelines(&self, variants: &[Variant]) -> Result<Vec<Pipeline>> {
        let missing: Vec<&Variant> = {
            let known = lock(&self.0.pipelines);
            let mut missing: Vec<_> = variants.iter().filter(|variant| !known.contains_key(variant)).collect();
            missing.sort();
            missing.dedup();
            missing
        };
        let made: Vec<(Variant, Pipeline)> =
            missing.par_iter().map(|&variant| Ok((variant.clone(), self.compile(variant)?))).collect::<Result<_>>()?;
        let mut known = lock(&self.0.pipelines);
        known.extend(made);
        let all = variants.iter().map(|variant| known.get(variant).cloned()).collect::<Option<Vec<_>>>();
        all.ok_or_else(|| Error::Shader { shader: "pipelines".into(), why: "a variant vanished".into() })
    }

    /// Number of compiled pipelines.
    pub fn pipeline_count(&self) -> usize {
        lock(&self.0.pipelines).len()
    }

    fn compile(&self, variant: &Variant) -> Result<Pipeline> {
        // Shaders from outside are not trusted.
        let trusted = !self.0.checked && variant.text.is_none();
        self.pipeline(&variant.to_string(), &variant.wgsl()?, trusted)
    }

    /// A pipeline of a text from outside, with all checks.
    ///
    /// # Errors
    /// As [`Gpu::pipelines`].
    pub fn untrusted_pipeline(&self, label: &str, text: &str) -> Result<Pipeline> {
        self.pipeline(label, text, false)
    }

    fn pipeline(&self, label: &str, text: &str, trusted: bool) -> Result<Pipeline> {
        let device = &self.0.device;
        let module = parse(label, text)?;
        let interface = Interface::of(label, &module)?;
        let cuts = match interface.immediates {
            0 => None,
            BEGIN_BYTES => Some(begins(label, &module)?).map(|[workgroups, tasks]| Cuts { workgroups, tasks }),
            other => {
                let why =
                    format!("{other} bytes of immediates; there are {BEGIN_BYTES}, which `#import task` declares");
                return Err(Error::Shader { shader: label.into(), why });
            }
        };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let checks = match trusted {
            true => wgpu::ShaderRuntimeChecks::unchecked(),
            false => wgpu::ShaderRuntimeChecks::checked(),
        };
        let source = wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module));
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source };
        // SAFETY: unchecked shaders are our own; their indices come from task rows that are checked against their slabs when a
        // plan is bound, their loops end, and their divisors are constants or checked sizes. `checked` keeps all checks.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let entry = |binding: &crate::shader::Binding| wgpu::BindGroupLayoutEntry {
            binding: binding.binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match binding.kind {
                    Kind::Uniform => wgpu::BufferBindingType::Uniform,
                    kind => wgpu::BufferBindingType::Storage { read_only: kind == Kind::Read },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = interface.bindings.iter().map(entry).collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: interface.immediates,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: !trusted,
                ..Default::default()
            },
            cache: None,
        });
        match pollster::block_on(scope.pop()) {
            // The library's report knows no text; ours does.
            Some(error) => Err(validate_text(label, text)
                .err()
                .unwrap_or_else(|| Error::Shader { shader: label.into(), why: error.to_string() })),
            None => Ok(Pipeline { pipeline, layout, cuts, bindings: entries.len() }),
        }
    }
}
