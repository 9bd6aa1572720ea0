//! The only place that names a `wgpu` type: adapters, buffers, pipelines, submissions, read-back.
//!
//! A [`Gpu`] is cheap to clone and holds no global state. It spawns no threads and blocks only in the functions called
//! `wait`; [`Gpu::from_wgpu`] takes a device that a program already has.

mod adapter;
mod cut;
mod memory;
mod mirror;
mod pace;
mod pipeline;
mod profiler;
mod read_back;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use adapter::{AdapterReport, Choice, Limits, adapters};
pub use cut::Load;
pub use pace::{MAX_SUBMIT, MOST_SUBMIT};
pub use pipeline::Pipeline;
pub use profiler::Timing;
pub use read_back::{Mapped, ReadBack};
pub use record::{Dispatch, Part, Recorder, Ticket};
/// The graphics library, for programs that share their device.
pub use wgpu;

use crate::error::{Error, Result};
use crate::shader::Variant;
use pace::{Mark, Pace};

/// Bytes of memory of an adapter that does not say how much it has.
const USUAL_MEMORY: u64 = 16 << 30;

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Index or part of the name of the adapter; otherwise `ALTIPLANO_DEVICE`, otherwise the most capable one.
    pub device: Option<String>,
    /// Whether shaders keep their bounds checks, loop bounds and zeroed workgroup memory.
    pub checked: bool,
    /// Most workgroups in a row of a dispatch, if fewer than the adapter takes: longer grids are folded, which tests want to see
    /// without grids of 65,536.
    pub most_workgroups: Option<u32>,
    /// Longest time that a submission may take, by estimate: [`MAX_SUBMIT`] if nothing is said, at most [`MOST_SUBMIT`]. Longer work
    /// is submitted in portions, which changes no result.
    pub max_submit: Option<Duration>,
    /// Bytes of device memory that may be taken: what is beyond them is refused before the driver is asked. All that the driver gives if nothing
    /// is said.
    pub memory: Option<u64>,
}

/// An open device with its pipelines.
#[derive(Clone)]
pub struct Gpu(Arc<Shared>);

struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    checked: bool,
    pipelines: Mutex<HashMap<Variant, Pipeline>>,
    /// First error that the driver or the validation reported and nobody has seen yet.
    fault: Arc<Mutex<Option<String>>>,
    /// Why the device was lost, if it was; it stays lost.
    lost: Arc<Mutex<Option<String>>>,
    pace: Pace,
    /// Bytes that slabs may have.
    memory: Option<u64>,
    /// Bytes of the slabs that are alive.
    allocated: Arc<std::sync::atomic::AtomicU64>,
    counts: Mutex<Counts>,
    /// Held while a recording is submitted: no write and no other submission comes between its portions.
    submitting: Mutex<()>,
    /// Slabs of which the device does not have all that the host has set.
    behind: Mutex<Vec<Weak<SlabInner>>>,
}

/// What the host has asked of the device so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes into slabs, as the queue gets them: what the host sets in memory of its own is one at the next submission.
    pub writes: u64,
    /// Bytes of them.
    pub written: u64,
    /// Submissions of recorded work.
    pub submissions: u64,
    /// Copies to the host.
    pub reads: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { writes, written, submissions, reads } = self;
        write!(f, "{writes} writes ({} KiB), {submissions} submissions, {reads} read-backs", written >> 10)
    }
}

/// A piece of device memory that one binding can hold.
#[derive(Clone)]
pub struct Slab(Arc<SlabInner>);

struct SlabInner {
    buffer: wgpu::Buffer,
    bytes: u64,
    allocated: Arc<std::sync::atomic::AtomicU64>,
    /// What it holds, if the host alone writes it.
    mirror: Option<Mutex<mirror::Mirror>>,
}

impl Drop for SlabInner {
    fn drop(&mut self) {
        self.allocated.fetch_sub(self.bytes, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Slab {
    /// Whether the host alone writes it.
    pub(super) fn is_the_hosts(&self) -> bool {
        self.0.mirror.is_some()
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// A number that tells slabs apart.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        &self.0.buffer
    }
}

/// Locks a mutex; a panic elsewhere while it was held does not matter, the data are valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens the chosen adapter with the limits that it really has.
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is none or none matches, [`Error::Gpu`] if it does not open, [`Error::Invalid`] if an option is
    /// out of range.
    pub async fn open(options: &Options) -> Result<Self> {
        let (adapter, mut report) = adapter::choose(options.device.as_deref()).await?;
        report.limits.workgroups = report.limits.workgroups.min(options.most_workgroups.unwrap_or(u32::MAX)).max(1);
        let pace = Pace::new(&report, options.max_submit.unwrap_or(MAX_SUBMIT))?;
        let (device, queue) = adapter::request(&adapter, &report).await?;
        Ok(Self::assemble((device, queue), report, options, pace))
    }

    /// [`Gpu::open`], blocking.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_wait(options: &Options) -> Result<Self> {
        pollster::block_on(Self::open(options))
    }

    /// Runs on a device that the program already has. Its limits must offer 8 storage buffers per stage and 8 bytes of immediates,
    /// and its features [`wgpu::Features::IMMEDIATES`], which every adapter with Vulkan, Metal or DX12 has.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device was opened without them.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue, checked: bool) -> Result<Self> {
        let report = adapter::report_of_device(&device);
        adapter::suffices(&device, &report)?;
        let pace = Pace::new(&report, MAX_SUBMIT)?;
        let options = Options { checked, ..Options::default() };
        Ok(Self::assemble((device, queue), report, &options, pace))
    }

    fn assemble(
        (device, queue): (wgpu::Device, wgpu::Queue),
        report: AdapterReport,
        options: &Options,
        pace: Pace,
    ) -> Self {
        let fault = Arc::new(Mutex::new(None));
        let first = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&first).get_or_insert_with(|| error.to_string());
        }));
        let lost = Arc::new(Mutex::new(None));
        let (first, max_submit) = (lost.clone(), pace.submission());
        device.set_device_lost_callback(move |reason, message| {
            let destroyed = reason == wgpu::DeviceLostReason::Destroyed;
            lock(&first).get_or_insert_with(|| pace::lost(&message, destroyed, max_submit));
        });
        Gpu(Arc::new(Shared {
            device,
            queue,
            report,
            checked: options.checked,
            pipelines: Mutex::default(),
            fault,
            lost,
            pace,
            memory: options.memory,
            allocated: Arc::default(),
            counts: Mutex::default(),
            submitting: Mutex::default(),
            behind: Mutex::default(),
        }))
    }

    /// The adapter and its limits.
    pub fn report(&self) -> &AdapterReport {
        &self.0.report
    }

    /// Whether shaders run with their checks.
    pub fn checked(&self) -> bool {
        self.0.checked
    }

    /// Bytes of device memory that are allocated now.
    pub fn allocated(&self) -> u64 {
        self.0.allocated.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Bytes that networks side by side may take beyond the first of them: a quarter of the device's memory, or of what may be taken of it. On
    /// adapters that are programs no more than a gibibyte, whatever they say they have, since what is wider finds no place in a processor's caches.
    pub fn population_bytes(&self) -> u64 {
        let (report, asked) = (self.report(), self.0.memory.unwrap_or(u64::MAX));
        match report.is_software() {
            true => (asked / 4).min(1 << 30),
            false => asked.min(report.memory.unwrap_or(USUAL_MEMORY)) / 4,
        }
    }

    /// Whether so many bytes more may be taken.
    ///
    /// # Errors
    /// [`Error::Memory`] if not, with how much would do for these.
    pub fn check_room(&self, bytes: u64, what: &str) -> Result<()> {
        let (taken, limit) = (self.allocated(), self.0.memory.unwrap_or(u64::MAX));
        if taken.saturating_add(bytes) <= limit {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let needed = mib(taken.saturating_add(bytes));
        let advice = format!("{} MiB of them are taken; --memory {needed} lets it have them", mib(taken));
        Err(Error::Memory { what: what.into(), needed, limit: limit >> 20, advice })
    }

    /// What the host has asked of the device so far.
    pub fn counts(&self) -> Counts {
        *lock(&self.0.counts)
    }

    fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut lock(&self.0.counts));
    }

    /// Reports a fault of the driver, once, or that the device was lost, every time.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the driver's words.
    pub fn check(&self, doing: &str) -> Result<()> {
        let fault = lock(&self.0.fault).take();
        let lost = lock(&self.0.lost).clone();
        match lost.or(fault) {
            Some(why) => Err(self.fault(doing, why)),
            None => Ok(()),
        }
    }

    /// That something failed: `why`, or because the device was lost, of which failures are but the consequence.
    fn fault(&self, doing: &str, why: String) -> Error {
        let why = lock(&self.0.lost).clone().unwrap_or(why);
        Error::Gpu { doing: doing.into(), adapter: self.0.report.name.clone(), why }
    }

    /// Zeroed memory of `bytes`, rounded up to 16.
    ///
    /// # Errors
    /// [`Error::Memory`] if a binding cannot be that large or the device has no room.
    pub fn slab(&self, bytes: u64, what: &str) -> Result<Slab> {
        self.allocate(bytes, what, wgpu::BufferUsages::STORAGE, false)
    }

    /// Zeroed memory that the host alone writes: all that it sets before a submission is one write.
    ///
    /// # Errors
    /// As [`Gpu::slab`].
    pub fn host_slab(&self, bytes: u64, what: &str) -> Result<Slab> {
        self.allocate(bytes, what, wgpu::BufferUsages::STORAGE, true)
    }

    /// Zeroed memory that is bound as a uniform.
    ///
    /// # Errors
    /// As [`Gpu::slab`].
    pub fn uniform(&self, bytes: u64, what: &str) -> Result<Slab> {
        self.allocate(bytes, what, wgpu::BufferUsages::UNIFORM, false)
    }

    fn allocate(&self, bytes: u64, what: &str, usage: wgpu::BufferUsages, host: bool) -> Result<Slab> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let limit = self.0.report.limits.slab_bytes;
        let memory = |advice: &str| Error::Memory {
            what: what.into(),
            needed: bytes.div_ceil(1 << 20),
            limit: limit >> 20,
            advice: advice.into(),
        };
        if bytes > limit {
            return Err(memory("use a smaller --batch, fewer channels, or an adapter with larger bindings"));
        }
        self.check_room(bytes, what)?;
        let scope = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes,
            usage: usage | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        if pollster::block_on(scope.pop()).is_some() {
            return Err(memory("the device has no room left; use a smaller --batch or close other programs"));
        }
        self.check("allocating memory")?;
        self.0.allocated.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let mirror = host.then(|| mirror::Mirror::new(bytes));
        Ok(Slab(Arc::new(SlabInner { buffer, bytes, allocated: self.0.allocated.clone(), mirror })))
    }

    /// Writes `data` (a multiple of four bytes) at byte `offset`, before the next submission.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn write(&self, slab: &Slab, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset + data.len() as u64;
        if end > slab.bytes() || !data.len().is_multiple_of(4) || !offset.is_multiple_of(4) {
            return Err(Error::shape("upload", format!("at most {} bytes", slab.bytes()), end));
        }
        match &slab.0.mirror {
            Some(mirror) => self.defer(slab, mirror, offset, data),
            None => self.send(slab, offset, data),
        }
        Ok(())
    }

    fn send(&self, slab: &Slab, offset: u64, data: &[u8]) {
        self.count(|counts| {
            counts.writes += 1;
            counts.written += data.len() as u64;
        });
        self.0.queue.write_buffer(slab.buffer(), offset, data);
    }

    /// Waits until one submission and all before it have run.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn wait_for(&self, ticket: Ticket) -> Result<()> {
        self.block(wgpu::PollType::Wait { submission_index: Some(ticket.index), timeout: None }, ticket.mark)
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn wait(&self) -> Result<()> {
        self.block(wgpu::PollType::wait_indefinitely(), self.0.pace.mark())
    }

    fn block(&self, wait: wgpu::PollType, mark: Mark) -> Result<()> {
        let start = Instant::now();
        self.poll(wait).map_err(|why| self.fault("waiting", why))?;
        self.0.pace.waited(start, mark);
        self.check("running")
    }

    /// Asks the device how far it is. The graphics library panics there if the device was lost, which is no fault of the program's.
    fn poll(&self, how: wgpu::PollType) -> std::result::Result<wgpu::PollStatus, String> {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.0.device.poll(how)));
        let words = |payload: Box<dyn std::any::Any + Send>| {
            payload.downcast::<String>().map_or_else(|_| "the driver failed".to_owned(), |text| *text)
        };
        polled.map_err(words)?.map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.0.report.name)
    }
}
