//! What an adapter can do at best, and what it charges for asking: the figures that all others are held against.

use std::time::Instant;

use serde::Serialize;

use super::Spread;
use crate::error::{Error, Result};
use crate::gpu::{Dispatch, Gpu, Recorder, Slab};
use crate::kernels::{CEILING, ceiling_row};
use crate::shader::Variant;

/// Bytes of each side of the copy that no cache holds, and of the one that a GPU's does.
const LARGE: u64 = 1 << 30;
const SMALL: u64 = 8 << 20;
/// The same on software adapters, where a copy of gigabytes takes seconds.
const LARGE_SOFTWARE: u64 = 64 << 20;
/// Values that a lane of a GPU copies; a software adapter does not gain by more than one.
const UNROLL: u64 = 4;
/// Lanes of all ceilings.
const LANES: u64 = 64;
/// Empty dispatches of one sample.
const EMPTY: usize = 256;

/// Ceilings of one adapter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Multiply-adds in registers, in GFLOP/s.
    pub gflops: f64,
    /// Copying from one slab to another, in GB/s read and written.
    pub gbs: f64,
    /// Bytes of each of these two slabs.
    pub copied_bytes: u64,
    /// The same between slabs that caches hold.
    pub cached_gbs: f64,
    /// Bytes of each of these.
    pub cached_bytes: u64,
    /// Microseconds of an empty dispatch that is ordered behind another one, since both may write the same slab.
    pub gap_us: f64,
    /// Of one among dispatches that write two slabs in turns.
    pub gap_alternating_us: f64,
    /// Of one among dispatches that only read.
    pub gap_reading_us: f64,
    /// Microseconds of the host to record and submit a dispatch, among many.
    pub encode_us: f64,
    /// Microseconds of the host to write a few words into a slab.
    pub write_us: f64,
    /// Whether times of work on the adapter come from its own time stamps.
    pub stamps: bool,
}

impl Ceiling {
    /// Measures them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(gpu: &Gpu, samples: usize) -> Result<Self> {
        let software = gpu.report().is_software();
        let samples = samples.clamp(3, 15);
        let lanes = if software { 1 << 14 } else { 1 << 20 };
        let rounds = 256;
        let seconds = fma(gpu, lanes, rounds, samples)?;
        let mut large = if software { LARGE_SOFTWARE } else { LARGE }.min(gpu.report().limits.slab_bytes);
        let small = SMALL.min(large);
        let (copied_seconds, stamps) = loop {
            match copy(gpu, large, samples) {
                // A card that is nearly full still has its caches passed by less.
                Err(Error::Memory { .. }) if large > 2 * small => large /= 2,
                other => break other?,
            }
        };
        let (cached_seconds, _) = copy(gpu, small, samples)?;
        let [gap, alternating, reading, encode] = empty(gpu, samples)?;
        Ok(Ceiling {
            gflops: (lanes * rounds * 16 * 8) as f64 / seconds / 1e9,
            gbs: 2.0 * large as f64 / copied_seconds / 1e9,
            copied_bytes: large,
            cached_gbs: 2.0 * small as f64 / cached_seconds / 1e9,
            cached_bytes: small,
            gap_us: gap * 1e6,
            gap_alternating_us: alternating * 1e6,
            gap_reading_us: reading * 1e6,
            encode_us: encode * 1e6,
            write_us: write(gpu, samples)? * 1e6,
            stamps,
        })
    }
}

/// Seconds that one recording takes on the device, by its time stamps if there are any, else as the host sees it. `true` if by
/// stamps.
///
/// # Errors
/// If the device fails.
pub fn device_seconds(gpu: &Gpu, record: &mut dyn FnMut(&mut Recorder)) -> Result<(f64, bool)> {
    gpu.wait()?;
    let start = Instant::now();
    let mut recorder = gpu.record();
    recorder.stamp();
    record(&mut recorder);
    let timings = recorder.submit_profiled()?;
    gpu.wait()?;
    let host = start.elapsed().as_secs_f64();
    let stamped: f64 = timings.iter().map(|timing| timing.seconds).sum();
    // A driver that offers stamps and writes none, or wild ones, is not believed.
    Ok(if stamped > 0.0 && stamped < 1.5 * host { (stamped, true) } else { (host, false) })
}

/// Least seconds over samples of recordings of `count` dispatches, per dispatch, after one that warms up.
fn least(
    gpu: &Gpu,
    samples: usize,
    count: usize,
    dispatch: &mut dyn FnMut(&mut Recorder, usize),
) -> Result<(f64, bool)> {
    let mut best = (f64::INFINITY, false);
    for sample in 0..=samples {
        let (seconds, stamps) = device_seconds(gpu, &mut |recorder| (0..count).for_each(|i| dispatch(recorder, i)))?;
        if sample > 0 && seconds < best.0 {
            best = (seconds, stamps);
        }
    }
    Ok((best.0 / count as f64, best.1))
}

/// A ceiling's shader over slabs; its one row says how many `vec4` they have.
fn bind(gpu: &Gpu, variant: Variant, count: u64, slabs: &[Slab]) -> Result<Dispatch> {
    let pipelines = gpu.pipelines(&[variant])?;
    let rows = gpu.slab(16, "task rows")?;
    gpu.write(&rows, 0, bytemuck::cast_slice(&ceiling_row(count as u32)))?;
    gpu.dispatch("ceiling", &pipelines[0], (&rows, 0, 16), slabs)
}

fn fma(gpu: &Gpu, lanes: usize, rounds: usize, samples: usize) -> Result<f64> {
    let slab = || gpu.slab(lanes as u64 * 16, "ceiling");
    let variant = CEILING.with([("LANES", LANES as usize), ("ROUNDS", rounds)]);
    let dispatch = bind(gpu, variant, lanes as u64, &[slab()?, slab()?])?;
    let groups = lanes.div_ceil(LANES as usize) as u32;
    Ok(least(gpu, samples, 4, &mut |recorder, _| recorder.dispatch(&dispatch, groups, 1))?.0)
}

/// Seconds of a copy of so many bytes.
fn copy(gpu: &Gpu, bytes: u64, samples: usize) -> Result<(f64, bool)> {
    let slabs = [gpu.slab(bytes, "ceiling")?, gpu.slab(bytes, "ceiling")?];
    let count = bytes / 16;
    let unroll = if gpu.report().is_software() { 1 } else { UNROLL };
    let variant = CEILING.with([("LANES", LANES as usize), ("COPY", 1), ("UNROLL", unroll as usize)]);
    let dispatch = bind(gpu, variant, count, &slabs)?;
    let groups = count.div_ceil(LANES * unroll) as u32;
    let repeated = ((256 << 20) / bytes.max(1)).clamp(2, 32) as usize;
    least(gpu, samples, repeated, &mut |recorder, _| recorder.dispatch(&dispatch, groups, 1))
}

/// Seconds of empty dispatches: on one slab, on two in turns, reading only; and of the host to record and submit one.
fn empty(gpu: &Gpu, samples: usize) -> Result<[f64; 4]> {
    let slabs = [gpu.slab(1 << 16, "ceiling")?, gpu.slab(1 << 16, "ceiling")?];
    let variant = CEILING.with([("LANES", LANES as usize), ("EMPTY", 1)]);
    let writing = [bind(gpu, variant.clone(), 0, &slabs[..1])?, bind(gpu, variant.clone(), 0, &slabs[1..])?];
    let reading = bind(gpu, variant.with("READ", 1), 0, &slabs[..1])?;
    let one = least(gpu, samples, EMPTY, &mut |recorder, _| recorder.dispatch(&writing[0], 1, 1))?.0;
    let two = least(gpu, samples, EMPTY, &mut |recorder, i| recorder.dispatch(&writing[i % 2], 1, 1))?.0;
    let read = least(gpu, samples, EMPTY, &mut |recorder, _| recorder.dispatch(&reading, 1, 1))?.0;
    let mut encode = vec![];
    for _ in 0..samples {
        gpu.wait()?;
        let start = Instant::now();
        let mut recorder = gpu.record();
        (0..EMPTY).for_each(|i| recorder.dispatch(&writing[i % 2], 1, 1));
        recorder.submit();
        encode.push(start.elapsed().as_secs_f64() / EMPTY as f64);
    }
    gpu.wait()?;
    Ok([one, two, read, Spread::of(encode).median_ms / 1e3])
}

/// Seconds of the host for one small write.
fn write(gpu: &Gpu, samples: usize) -> Result<f64> {
    const WRITES: usize = 64;
    let slab = gpu.slab(1 << 16, "ceiling")?;
    let mut times = vec![];
    for _ in 0..samples {
        let start = Instant::now();
        for i in 0..WRITES {
            gpu.write(&slab, 256 * i as u64, &[0; 192])?;
        }
        times.push(start.elapsed().as_secs_f64() / WRITES as f64);
        gpu.record().submit();
        gpu.wait()?;
    }
    Ok(Spread::of(times).median_ms / 1e3)
}
