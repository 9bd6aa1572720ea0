//! A kernel of the user's own, timed as the crate's are.

use serde::Serialize;

use super::Spread;
use super::ceiling::{Ceiling, device_seconds};
use super::suites::Device;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Limits, Slab};
use crate::kernels::Cost;
use crate::philox::Stream;
use crate::shader::{BEGIN_BYTES, Interface, Kind, validate_text};

/// Purpose word of what fills the buffers.
const PURPOSE: u32 = 0x4B45_524E;
/// Bytes of a buffer that is read back to be looked at.
const LOOKED_AT: u64 = 64 << 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its name, for errors.
    pub name: String,
    /// WGSL with one entry point for compute.
    pub text: String,
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// Bytes of the buffers at bindings 0, 1, ... of group 0.
    pub buffers: Vec<u64>,
    /// Arithmetic operations and bytes of one run, as the user counts them.
    pub cost: Cost,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// The kernel's name.
    pub name: String,
    /// Workgroups.
    pub grid: [u32; 3],
    /// What it asks of an adapter.
    pub interface: Interface,
    /// Times of one run.
    #[serde(flatten)]
    pub time: Spread,
    /// Rates, from the cost that was given.
    #[serde(flatten)]
    pub device: Device,
    /// Mean magnitude, as `f32`, of each buffer that it may write, unless that is too long to read.
    pub written: Vec<Option<f64>>,
}

impl Kernel {
    /// Parses and validates the text, and holds what it asks against an adapter's limits.
    ///
    /// # Errors
    /// naga's report with line and column, or the limit that does not suffice.
    pub fn check(&self, limits: &Limits) -> Result<Interface> {
        // A text that somebody wrote is input like any other.
        let input = |error: Error| Error::invalid("--wgsl", error.reason());
        let (module, _) = validate_text(&self.name, &self.text).map_err(input)?;
        let interface = Interface::of(&self.name, &module).map_err(input)?;
        let refuse = |why: String| Err(Error::invalid(&self.name, why));
        for (place, binding) in interface.bindings.iter().enumerate() {
            if binding.group != 0 || binding.binding != place as u32 || binding.kind == Kind::Other {
                let why = format!(
                    "binding {} of group {} cannot be filled; buffers at @group(0) @binding(0), (1), ... without gaps can",
                    binding.binding, binding.group
                );
                return refuse(why);
            }
        }
        if ![0, BEGIN_BYTES].contains(&interface.immediates) {
            let bytes = interface.immediates;
            return refuse(format!("it declares {bytes} bytes of immediates; {BEGIN_BYTES} can be filled, with zeros"));
        }
        let (have, want) = (self.buffers.len(), interface.bindings.len());
        if have != want {
            return refuse(format!("it declares {want} buffers, and --buffer gives the sizes of {have}"));
        }
        if interface.storage() > limits.storage_buffers as usize {
            let (storage, most) = (interface.storage(), limits.storage_buffers);
            return refuse(format!("it has {storage} storage buffers; the adapter offers {most} to a shader"));
        }
        let uniforms = interface.bindings.len() - interface.storage();
        if uniforms > limits.uniform_buffers as usize {
            let most = limits.uniform_buffers;
            return refuse(format!("it has {uniforms} uniform buffers; the adapter offers {most} to a shader"));
        }
        if interface.workgroup_bytes > limits.workgroup_bytes {
            let (bytes, most) = (interface.workgroup_bytes, limits.workgroup_bytes);
            return refuse(format!("it takes {bytes} bytes of workgroup memory; the adapter has {most}"));
        }
        if interface.lanes() > limits.invocations {
            let (lanes, most) = (interface.lanes(), limits.invocations);
            return refuse(format!("its workgroups have {lanes} lanes; the adapter allows {most}"));
        }
        let sides = interface.workgroup.iter().zip(limits.workgroup_sides);
        if sides.into_iter().any(|(side, most)| *side > most) {
            let (have, most) = (interface.workgroup, limits.workgroup_sides);
            return refuse(format!("its workgroups are {have:?} lanes; the adapter allows {most:?}"));
        }
        if let Some(side) = self.grid.iter().find(|side| **side == 0 || **side > limits.workgroups) {
            let most = limits.workgroups;
            return Err(Error::invalid("--grid", format!("{side}; the adapter takes 1 to {most} workgroups a side")));
        }
        for (binding, &bytes) in interface.bindings.iter().zip(&self.buffers) {
            let least = u64::from(binding.bytes);
            let most = if binding.kind == Kind::Uniform { limits.uniform_bytes } else { limits.slab_bytes };
            if bytes < least.max(4) || bytes > most {
                let why = format!(
                    "{bytes} bytes for binding {}; it needs at least {}, and the adapter binds at most {}",
                    binding.binding,
                    least.max(4),
                    most
                );
                return Err(Error::invalid("--buffer", why));
            }
        }
        Ok(interface)
    }

    /// Runs it: with all checks of bounds and loops, over buffers of values between -1 and 1 that are the same every time.
    /// A kernel that never ends keeps the device for ever; run it in a process that can be ended.
    ///
    /// # Errors
    /// As [`Kernel::check`], or if the device fails.
    pub fn time(&self, gpu: &Gpu, ceiling: &Ceiling, samples: usize) -> Result<Timed> {
        let interface = self.check(&gpu.report().limits)?;
        let pipeline = gpu.untrusted_pipeline(&self.name, &self.text)?;
        let slabs = self.slabs(gpu, &interface)?;
        let dispatch = gpu.dispatch_slabs("kernel", &pipeline, &slabs)?;
        let once = |count: usize| {
            device_seconds(gpu, &mut |recorder| {
                (0..count).for_each(|_| recorder.dispatch_grid(&dispatch, self.grid));
            })
        };
        // The first run may compile; from the second one on it tells how many fill a sample.
        once(1)?;
        let written = interface.bindings.iter().zip(&slabs).filter(|(binding, _)| binding.kind == Kind::ReadWrite);
        let written = written.map(|(_, slab)| magnitude(gpu, slab)).collect::<Result<_>>()?;
        let count = (0.02 / once(1)?.0.max(1e-7)).clamp(1.0, 1000.0) as usize;
        let (mut times, mut stamps) = (vec![], false);
        // A kernel of seconds has enough with three.
        let samples = if count > 1 { samples.max(3) } else { 3 };
        for _ in 0..samples {
            let (seconds, stamped) = once(count)?;
            times.push(seconds / count as f64);
            stamps = stamped;
        }
        let time = Spread::of(times);
        let device = Device::of(self.cost, time.median_ms, 1, ceiling);
        let device_ms = stamps.then_some(time.median_ms);
        Ok(Timed {
            name: self.name.clone(),
            grid: self.grid,
            interface,
            time,
            device: Device { device_ms, ..device },
            written,
        })
    }

    fn slabs(&self, gpu: &Gpu, interface: &Interface) -> Result<Vec<Slab>> {
        let slab = |(number, (binding, &bytes)): (usize, (&crate::shader::Binding, &u64))| {
            let slab = match binding.kind {
                Kind::Uniform => gpu.uniform(bytes, "uniform")?,
                _ => gpu.slab(bytes, "buffer")?,
            };
            // A pattern, repeated: drawing gigabytes takes longer than the kernel.
            let mut draw = Stream::new(1, PURPOSE, number as u64);
            let pattern: Vec<f32> = (0..1 << 16).map(|_| (2.0 * draw.uniform() - 1.0) as f32).collect();
            let pattern: &[u8] = bytemuck::cast_slice(&pattern);
            let mut at = 0;
            while at < slab.bytes() {
                let length = (slab.bytes() - at).min(pattern.len() as u64);
                gpu.write(&slab, at, &pattern[..length as usize])?;
                at += length;
            }
            Ok(slab)
        };
        interface.bindings.iter().zip(&self.buffers).enumerate().map(slab).collect()
    }
}

fn magnitude(gpu: &Gpu, slab: &Slab) -> Result<Option<f64>> {
    if slab.bytes() > LOOKED_AT {
        return Ok(None);
    }
    let mut recorder = gpu.record();
    let read = recorder.read(slab, 0, slab.bytes())?;
    recorder.submit();
    let values = read.wait_f32()?;
    Ok(Some(values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len().max(1) as f64))
}
