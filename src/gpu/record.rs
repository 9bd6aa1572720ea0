//! Recording dispatches and submitting them.

use std::time::Instant;

use super::cut::{Cuts, Load, cut, fold};
use super::pace::{Mark, Rate};
use super::profiler::Profile;
use super::{Gpu, Pipeline, ReadBack, Slab, Timing, lock, read_back};
use crate::error::{Error, Result};

/// A pipeline with its operands bound.
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    /// Where it may be cut; `None` if its shader does not ask where a dispatch begins.
    cuts: Option<Cuts>,
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
        let bindings = self.0.device.create_bind_group(&descriptor);
        Ok(Dispatch { pipeline: pipeline.pipeline.clone(), bindings, cuts: pipeline.cuts, label })
    }

    /// Starts recording.
    pub fn record(&self) -> Recorder {
        Recorder {
            gpu: self.clone(),
            rate: self.0.pace.rate(),
            portion: Portion::default(),
            portions: vec![],
            profile: None,
            each: false,
            copies: vec![],
            dispatches: 0,
        }
    }

    fn commit(&self, commands: Option<wgpu::CommandBuffer>, seconds: Option<f64>, rate: Rate) -> Ticket {
        // A failure is reported by whoever waits.
        let idle = self.poll(wgpu::PollType::Poll).is_ok_and(|status| status.is_queue_empty());
        self.count(|counts| counts.submissions += 1);
        let mark = self.0.pace.submitted(seconds, rate, idle);
        let start = Instant::now();
        let index = self.0.queue.submit(commands);
        // Some software adapters do the work before they return: then this was a wait.
        self.0.pace.waited(start, mark);
        log::debug!(
            "a submission of about {:.1} ms; the driver kept it for {:.1} ms before it returned",
            seconds.unwrap_or(f64::NAN) * 1e3,
            start.elapsed().as_secs_f64() * 1e3
        );
        Ticket { index, mark }
    }
}

/// What becomes one submission: an encoder, and the pass that is open on it, which must end first.
#[derive(Default)]
struct Portion {
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    /// Estimated time.
    seconds: f64,
    /// Whether something without estimate is in it.
    unknown: bool,
}

impl Portion {
    fn encoder(&mut self, gpu: &Gpu) -> &mut wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: None };
        self.encoder.get_or_insert_with(|| gpu.0.device.create_command_encoder(&descriptor))
    }

    /// The commands, and their estimated time.
    fn finish(mut self) -> Option<(wgpu::CommandBuffer, Option<f64>)> {
        self.pass = None;
        let encoder = self.encoder.take()?;
        Some((encoder.finish(), (!self.unknown).then_some(self.seconds)))
    }
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
pub struct Ticket {
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) mark: Mark,
}

/// Commands on their way to the device: in one submission, or in several where one would keep the device too long. Nothing is
/// submitted before the end, so what is written meanwhile is there for all of it.
pub struct Recorder {
    gpu: Gpu,
    rate: Rate,
    portion: Portion,
    portions: Vec<(wgpu::CommandBuffer, Option<f64>)>,
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

    /// Adds a dispatch of tasks, in as many parts as its estimated time asks for.
    pub fn tasks(&mut self, dispatch: &Dispatch, tasks: &[Load]) {
        let pace = &self.gpu.0.pace;
        let (most, submission) = (pace.dispatch(), pace.submission());
        let none = Cuts { workgroups: false, tasks: false };
        for piece in cut(tasks, self.rate, most, dispatch.cuts.unwrap_or(none)) {
            if piece.seconds > most {
                let report = &self.gpu.0.report;
                self.gpu.0.pace.too_long(
                    dispatch.label,
                    piece.workgroups.saturating_mul(piece.tasks),
                    piece.seconds,
                    &report.name,
                );
            }
            if self.portion.seconds > 0.0 && self.portion.seconds + piece.seconds > submission {
                self.next_portion();
            }
            self.portion.seconds += piece.seconds;
            let [x, y] = fold(piece.workgroups, self.gpu.0.report.limits.workgroups);
            self.add(dispatch, [x, y, piece.tasks], [piece.workgroup, piece.task]);
        }
    }

    /// Adds a dispatch of `workgroups` workgroups for each of `tasks` tasks, of which nobody knows how long it takes.
    pub fn dispatch(&mut self, dispatch: &Dispatch, workgroups: u32, tasks: u32) {
        let [x, y] = fold(workgroups, self.gpu.0.report.limits.workgroups);
        self.dispatch_grid(dispatch, [x, y, tasks]);
    }

    /// Adds a dispatch of a grid of workgroups, of which nobody knows how long it takes.
    pub fn dispatch_grid(&mut self, dispatch: &Dispatch, grid: [u32; 3]) {
        self.portion.unknown = true;
        self.add(dispatch, grid, [0, 0]);
    }

    /// Adds a dispatch that begins at a workgroup and a task; an empty one adds nothing.
    fn add(&mut self, dispatch: &Dispatch, grid: [u32; 3], begin: [u32; 2]) {
        if grid.contains(&0) {
            return;
        }
        let [x, y, z] = grid;
        self.dispatches += 1;
        if self.each {
            self.portion.pass = None;
        }
        if self.portion.pass.is_none() {
            let timestamp_writes = self.profile.as_mut().map(|profile| profile.next(dispatch.label));
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            let pass = self.portion.encoder(&self.gpu).begin_compute_pass(&descriptor).forget_lifetime();
            self.portion.pass = Some(pass);
        }
        let Some(pass) = &mut self.portion.pass else { return };
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, &dispatch.bindings, &[]);
        if dispatch.cuts.is_some() {
            pass.set_immediates(0, bytemuck::cast_slice(&begin));
        }
        pass.dispatch_workgroups(x, y, z);
    }

    /// What follows belongs to another submission.
    fn next_portion(&mut self) {
        self.portions.extend(std::mem::take(&mut self.portion).finish());
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
        self.portion.pass = None;
        let copy = read_back::staging(&self.gpu, parts.iter().map(|(_, _, bytes)| bytes).sum::<u64>().max(16));
        let mut at = 0;
        for (slab, offset, bytes) in joined(parts) {
            let encoder = self.portion.encoder(&self.gpu);
            encoder.copy_buffer_to_buffer(slab.buffer(), offset, copy.buffer(), at, bytes);
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
        if parts.iter().any(|(slab, ..)| slab.is_the_hosts()) {
            return Err(Error::invalid("clear", "memory that the host alone writes is cleared by writing zeros"));
        }
        self.portion.pass = None;
        for (slab, offset, bytes) in joined(parts) {
            self.portion.encoder(&self.gpu).clear_buffer(slab.buffer(), offset, Some(bytes));
        }
        Ok(())
    }

    /// Number of dispatches so far; each part of one that was cut counts.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Submits; returns at once. The ticket is for the last submission, which ends after the others.
    pub fn submit(mut self) -> Ticket {
        self.next_portion();
        let gpu = self.gpu.clone();
        let _submitting = lock(&gpu.0.submitting);
        gpu.flush();
        // What was written waits for a submission, be it an empty one.
        let last = self.portions.pop();
        let (commands, seconds) = last.map_or((None, Some(0.0)), |(last, seconds)| (Some(last), seconds));
        for (commands, seconds) in self.portions {
            self.gpu.commit(Some(commands), seconds, self.rate);
        }
        let ticket = self.gpu.commit(commands, seconds, self.rate);
        self.copies.into_iter().for_each(|copy| copy.map());
        ticket
    }

    /// Submits, waits, and returns the time of each profiled dispatch, or of all together; nothing if the device has no time
    /// stamps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn submit_profiled(mut self) -> Result<Vec<Timing>> {
        let profile = self.profile.take();
        self.portion.pass = None;
        let resolved = profile.map(|p| p.resolve(&self.gpu, self.portion.encoder(&self.gpu)));
        let gpu = self.gpu.clone();
        self.submit();
        match resolved {
            Some(resolved) => resolved.read(&gpu),
            None => Ok(vec![]),
        }
    }
}
