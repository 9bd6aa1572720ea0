//! Recording dispatches and submitting them.

use super::profiler::Profile;
use super::{Gpu, Pipeline, ReadBack, Slab, Timing, read_back};
use crate::error::{Error, Result};

/// A pipeline with its operands bound.
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    /// For the profiler.
    pub label: &'static str,
}

impl Gpu {
    /// Binds `rows` (slab, first byte, bytes) and one slab per operand.
    ///
    /// # Errors
    /// If the number of operands is not the pipeline's.
    pub fn dispatch(
        &self,
        label: &'static str,
        pipeline: &Pipeline,
        rows: (&Slab, u64, u64),
        operands: &[Slab],
    ) -> Result<Dispatch> {
        let (slab, offset, size) = rows;
        let table = wgpu::BufferBinding { buffer: slab.buffer(), offset, size: std::num::NonZeroU64::new(size) };
        let operands = operands.iter().map(|slab| slab.buffer().as_entire_binding());
        self.bind(label, pipeline, [wgpu::BindingResource::Buffer(table)].into_iter().chain(operands))
    }

    /// Binds one slab per binding, without a task table.
    ///
    /// # Errors
    /// If the number of slabs is not the pipeline's.
    pub fn dispatch_slabs(&self, label: &'static str, pipeline: &Pipeline, slabs: &[Slab]) -> Result<Dispatch> {
        self.bind(label, pipeline, slabs.iter().map(|slab| slab.buffer().as_entire_binding()))
    }

    fn bind<'a>(
        &self,
        label: &'static str,
        pipeline: &Pipeline,
        resources: impl Iterator<Item = wgpu::BindingResource<'a>>,
    ) -> Result<Dispatch> {
        let entry = |(i, resource)| wgpu::BindGroupEntry { binding: i, resource };
        let entries: Vec<_> = (0..).zip(resources).map(entry).collect();
        if entries.len() != pipeline.bindings {
            return Err(Error::shape(label, format!("{} bindings", pipeline.bindings), entries.len()));
        }
        let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout: &pipeline.layout, entries: &entries };
        let group = self.0.device.create_bind_group(&descriptor);
        Ok(Dispatch { pipeline: pipeline.pipeline.clone(), group, label })
    }

    /// Starts recording.
    pub fn record(&self) -> Recorder {
        let encoder = self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        Recorder {
            gpu: self.clone(),
            encoder: Work { pass: None, encoder },
            profile: None,
            each: false,
            copies: vec![],
            dispatches: 0,
        }
    }
}

/// An encoder and the pass that is open on it; the pass must end first.
struct Work {
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: wgpu::CommandEncoder,
}

/// A part of a slab: its first byte, and how many there are.
pub type Part = (Slab, u64, u64);

/// Whether all parts lie inside their slabs.
fn inside(what: &str, parts: &[Part]) -> Result<()> {
    match parts.iter().find(|(slab, offset, bytes)| offset + bytes > slab.bytes()) {
        Some((slab, offset, bytes)) => {
            Err(Error::shape(what, format!("at most {} bytes", slab.bytes()), offset + bytes))
        }
        None => Ok(()),
    }
}

/// The same parts, those that follow each other in a slab as one, the empty ones left out.
fn joined(parts: &[Part]) -> Vec<Part> {
    let mut joined: Vec<Part> = vec![];
    for (slab, offset, bytes) in parts.iter().filter(|part| part.2 > 0) {
        match joined.last_mut() {
            Some(last) if last.0.id() == slab.id() && last.1 + last.2 == *offset => last.2 += bytes,
            _ => joined.push((slab.clone(), *offset, *bytes)),
        }
    }
    joined
}

/// A submission, to wait for.
#[derive(Clone, Debug)]
pub struct Ticket(pub(super) wgpu::SubmissionIndex);

/// Commands on their way to one submission.
pub struct Recorder {
    gpu: Gpu,
    encoder: Work,
    profile: Option<Profile>,
    /// Whether each dispatch is timed, and not all together.
    each: bool,
    copies: Vec<ReadBack>,
    dispatches: usize,
}

impl Recorder {
    /// Times every dispatch from here on, each in a pass of its own.
    pub fn profile(&mut self) {
        self.profile = Profile::new(&self.gpu.0.device);
        self.each = true;
    }

    /// Times all dispatches together, in the one pass in which they run anyway.
    pub fn stamp(&mut self) {
        self.profile = Profile::new(&self.gpu.0.device);
        self.each = false;
    }

    /// Adds a dispatch of `groups` workgroups for each of `tasks` tasks.
    pub fn dispatch(&mut self, dispatch: &Dispatch, groups: u32, tasks: u32) {
        let most = self.gpu.0.report.limits.workgroups;
        let (x, y) = if groups <= most { (groups, 1) } else { (most, groups.div_ceil(most)) };
        self.dispatch_grid(dispatch, [x, y, tasks]);
    }

    /// Adds a dispatch of a grid of workgroups; an empty one adds nothing.
    pub fn dispatch_grid(&mut self, dispatch: &Dispatch, grid: [u32; 3]) {
        if grid.contains(&0) {
            return;
        }
        let [x, y, z] = grid;
        self.dispatches += 1;
        let Work { pass, encoder } = &mut self.encoder;
        if self.each {
            *pass = None;
        }
        let profile = &mut self.profile;
        let pass = pass.get_or_insert_with(|| {
            let timestamp_writes = profile.as_mut().map(|profile| profile.next(dispatch.label));
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            encoder.begin_compute_pass(&descriptor).forget_lifetime()
        });
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, &dispatch.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }

    /// Copies part of a slab out; the result can be awaited once the recording is submitted.
    ///
    /// # Errors
    /// If the slab is not that long.
    pub fn read(&mut self, slab: &Slab, offset: u64, bytes: u64) -> Result<ReadBack> {
        self.read_all(&[(slab.clone(), offset, bytes)])
    }

    /// The same for many parts (slab, first byte, bytes), which come back one after the other in one piece: every piece costs
    /// a buffer and a call of the driver's.
    ///
    /// # Errors
    /// If a slab is not that long.
    pub fn read_all(&mut self, parts: &[Part]) -> Result<ReadBack> {
        inside("read-back", parts)?;
        self.encoder.pass = None;
        let copy = read_back::staging(&self.gpu, parts.iter().map(|(_, _, bytes)| bytes).sum::<u64>().max(16));
        let mut at = 0;
        for (slab, offset, bytes) in joined(parts) {
            self.encoder.encoder.copy_buffer_to_buffer(slab.buffer(), offset, copy.buffer(), at, bytes);
            at += bytes;
        }
        self.gpu.count(|counts| counts.reads += 1);
        self.copies.push(copy.clone());
        Ok(copy)
    }

    /// Fills parts (slab, first byte, bytes) with zeros.
    ///
    /// # Errors
    /// If a slab is not that long.
    pub fn clear(&mut self, parts: &[Part]) -> Result<()> {
        inside("clear", parts)?;
        self.encoder.pass = None;
        for (slab, offset, bytes) in joined(parts) {
            self.encoder.encoder.clear_buffer(slab.buffer(), offset, Some(bytes));
        }
        Ok(())
    }

    /// Number of dispatches so far.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Submits; returns at once.
    pub fn submit(self) -> Ticket {
        let Recorder { gpu, encoder: Work { pass, encoder }, copies, .. } = self;
        drop(pass);
        gpu.flush();
        gpu.count(|counts| counts.submissions += 1);
        let index = gpu.0.queue.submit([encoder.finish()]);
        copies.into_iter().for_each(|copy| copy.map());
        Ticket(index)
    }

    /// Submits, waits, and returns the time of each profiled dispatch, or of all together; nothing if the device has no time
    /// stamps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn submit_profiled(mut self) -> Result<Vec<Timing>> {
        let profile = self.profile.take();
        self.encoder.pass = None;
        let resolved = profile.map(|p| p.resolve(&self.gpu, &mut self.encoder.encoder));
        let gpu = self.gpu.clone();
        self.submit();
        match resolved {
            Some(resolved) => resolved.read(&gpu),
            None => Ok(vec![]),
        }
    }
}
