//! Compute pipelines, made once per variant.

use rayon::prelude::*;

use super::{Gpu, lock};
use crate::error::{Error, Result};
use crate::shader::Variant;

/// A compiled variant.
#[derive(Clone)]
pub struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Storage buffers after the task table.
    pub(super) operands: usize,
}

impl Gpu {
    /// Compiles the variants that are not there yet, side by side where the host can, and returns all.
    ///
    /// `operands` is the number of storage buffers after the task table.
    ///
    /// # Errors
    /// [`Error::Shader`] if a variant does not validate, [`Error::Gpu`] if the driver refuses it.
    pub fn pipelines(&self, variants: &[(Variant, usize)]) -> Result<Vec<Pipeline>> {
        let missing: Vec<&(Variant, usize)> = {
            let known = lock(&self.0.pipelines);
            let mut missing: Vec<_> = variants.iter().filter(|(variant, _)| !known.contains_key(variant)).collect();
            missing.sort();
            missing.dedup();
            missing
        };
        let made: Vec<(Variant, Pipeline)> = missing
            .par_iter()
            .map(|(variant, operands)| Ok((variant.clone(), self.compile(variant, *operands)?)))
            .collect::<Result<_>>()?;
        let mut known = lock(&self.0.pipelines);
        known.extend(made);
        let all = variants.iter().map(|(variant, _)| known.get(variant).cloned()).collect::<Option<Vec<_>>>();
        all.ok_or_else(|| Error::Shader { shader: "pipelines".into(), why: "a variant vanished".into() })
    }

    /// Number of compiled pipelines.
    pub fn pipeline_count(&self) -> usize {
        lock(&self.0.pipelines).len()
    }

    fn compile(&self, variant: &Variant, operands: usize) -> Result<Pipeline> {
        let device = &self.0.device;
        let text = variant.wgsl()?;
        let label = variant.to_string();
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // Shaders from outside are not trusted.
        let checks = match self.0.checked || variant.text.is_some() {
            true => wgpu::ShaderRuntimeChecks::checked(),
            false => wgpu::ShaderRuntimeChecks::unchecked(),
        };
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(&label), source: wgpu::ShaderSource::Wgsl(text.into()) };
        // SAFETY: unchecked shaders are our own; their indices come from task rows that are checked against their slabs when a
        // plan is bound, their loops end, and their divisors are constants or checked sizes. `checked` keeps all checks.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let entry = |binding: usize| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding == 0 },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..=operands).map(entry).collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.0.checked,
                ..Default::default()
            },
            cache: None,
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(Error::Shader { shader: label, why: error.to_string() }),
            None => Ok(Pipeline { pipeline, layout, operands }),
        }
    }
}
