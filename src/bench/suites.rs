//! Suites of measurements: kernels, steps, ResNet-50; what stands side by side is in `populations`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ceiling::{Ceiling, device_seconds};
use super::items::{Item, RESNET, SUPERNET, names};
use super::{Spread, timed};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::kernels::{Cost, Preset};
use crate::report::statistics::median;

/// Seconds of samples after which there are enough, if there are three.
const ENOUGH: Duration = Duration::from_secs(10);
/// Samples below which no time is too long.
const LEAST: usize = 3;
/// Seconds of a run that is not made more often than it has to be.
const SLOW: f64 = 2.0;

/// One line of a suite.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `kernels`, `step`, `resnet50`, `population`, `elastic`, `streaming` or `corruptions`.
    pub suite: &'static str,
    /// What was timed.
    pub name: String,
    /// Sizes.
    pub shape: String,
    /// Times of one run.
    #[serde(flatten)]
    pub time: Spread,
    /// What the adapter did; absent where the host alone works.
    #[serde(flatten)]
    pub device: Option<Device>,
    /// Values that other frameworks must agree with.
    pub check: Vec<f64>,
    /// Against the baseline named in `name`, where there is one: the median of ratios of adjacent samples.
    pub ratio: Option<f64>,
}

/// One run on the adapter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Device {
    /// Billions of arithmetic operations a second. This and the other rates are of `device_ms` where it was measured, as the
    /// ceilings are, else of the median.
    pub gflops: f64,
    /// Share of the adapter's ceiling of arithmetic.
    pub share: f64,
    /// Bytes that must cross memory, in GB, channels padded to four; what tiles read again is not counted.
    pub gigabytes: f64,
    /// These bytes a second, in GB/s.
    pub gbs: f64,
    /// Share of the adapter's copy between slabs that no cache holds; work that caches hold can be above 1.
    pub copy_share: f64,
    /// Arithmetic operations for each of these bytes.
    pub flops_per_byte: f64,
    /// Dispatches.
    pub dispatches: usize,
    /// Milliseconds on the device by its time stamps, where it has some.
    pub device_ms: Option<f64>,
    /// Milliseconds of the host to record and submit, where that was measured.
    pub encode_ms: Option<f64>,
    /// Milliseconds to plan and compile, where that was measured: shaders that an earlier item has compiled are there already,
    /// and some drivers leave work to the first run.
    pub compile_ms: Option<f64>,
    /// Writes of the host into device memory, where that was counted.
    pub writes: Option<u64>,
}

impl Device {
    /// Rates of a cost in so many milliseconds.
    pub(super) fn of(cost: Cost, median_ms: f64, dispatches: usize, ceiling: &Ceiling) -> Self {
        let per_second = |value: u64| value as f64 / median_ms / 1e6;
        let (gflops, gbs) = (per_second(cost.flops), per_second(cost.bytes));
        Device {
            gflops,
            share: gflops / ceiling.gflops,
            gigabytes: cost.bytes as f64 / 1e9,
            gbs,
            copy_share: gbs / ceiling.gbs,
            flops_per_byte: cost.flops as f64 / cost.bytes.max(1) as f64,
            dispatches,
            device_ms: None,
            encode_ms: None,
            compile_ms: None,
            writes: None,
        }
    }
}

/// Time of one shader in a run.
#[derive(Clone, Debug, Serialize)]
pub struct ShaderTime {
    /// Its name.
    pub shader: String,
    /// Dispatches.
    pub dispatches: usize,
    /// Milliseconds by time stamps.
    pub ms: f64,
    /// Billions of operations a second.
    pub gflops: f64,
    /// Billions of bytes a second.
    pub gbs: f64,
}

/// Told of each line as soon as it is there; says whether there is time to go on. A suite returns whether it has measured all.
pub type Sink<'a> = dyn FnMut(Line) -> Result<bool> + 'a;

/// Runs the measurements of one adapter.
pub struct Suites<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) preset: Preset,
    pub(super) samples: usize,
    /// The adapter's ceiling, measured at the start.
    pub ceiling: Ceiling,
}

impl<'a> Suites<'a> {
    /// Measures the ceiling.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(gpu: &'a Gpu, preset: Preset, samples: usize) -> Result<Self> {
        Ok(Suites { gpu, preset, samples, ceiling: Ceiling::measure(gpu, samples)? })
    }

    /// The adapter.
    pub fn adapter(&self) -> &crate::gpu::AdapterReport {
        self.gpu.report()
    }

    /// Whether batches that fill a GPU are worth their time.
    pub(super) fn wide(&self) -> bool {
        !self.gpu.report().is_software()
    }

    /// Seconds of one run of each of several works, sample by sample in turns, so that whatever else the machine does hits
    /// all alike. A sample repeats its work until it lasts about 60 ms; works of seconds have enough with three samples.
    pub(super) fn turns(&self, works: usize, run: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<Vec<f64>>> {
        let mut repetitions = vec![];
        for work in 0..works {
            let first = timed(self.gpu, 1, &mut || run(work))?;
            let warm = if first > SLOW { first } else { first.min(timed(self.gpu, 1, &mut || run(work))?) };
            repetitions.push((0.06 / warm.max(1e-6)).clamp(1.0, 100.0) as usize);
        }
        let (mut times, start) = (vec![vec![]; works], Instant::now());
        for sample in 0..self.samples {
            if sample >= LEAST && start.elapsed() > ENOUGH {
                break;
            }
            for (work, times) in times.iter_mut().enumerate() {
                times.push(timed(self.gpu, repetitions[work], &mut || run(work))? / repetitions[work] as f64);
            }
        }
        Ok(times)
    }

    fn line(&self, suite: &'static str, name: &str, item: &Item, times: &[f64]) -> Result<Line> {
        let (encode_ms, writes) = self.encode(&mut || {
            item.plan().submit();
            Ok(())
        })?;
        let time = Spread::of(times.to_vec());
        let mut device_ms = None;
        if time.median_ms <= SLOW * 1e3 {
            // As many runs as fill a sample: a single one tells little.
            let count = (60.0 / time.median_ms.max(1e-3)).clamp(1.0, 100.0) as usize;
            let mut all = |recorder: &mut Recorder| (0..count).for_each(|_| item.plan().record(recorder));
            let (seconds, stamps) = device_seconds(self.gpu, &mut all)?;
            device_ms = stamps.then_some(seconds * 1e3 / count as f64);
        }
        let rates_ms = device_ms.unwrap_or(time.median_ms);
        let device = Device {
            encode_ms: Some(encode_ms),
            writes: Some(writes),
            device_ms,
            compile_ms: Some(item.compile_ms),
            ..Device::of(item.plan().cost(), rates_ms, item.plan().dispatches(), &self.ceiling)
        };
        let shape = format!("batch {}", item.batch);
        Ok(Line { suite, name: name.into(), shape, time, device: Some(device), check: item.check.clone(), ratio: None })
    }

    /// Milliseconds of the host for a submission, the least of three, and its writes.
    pub(super) fn encode(&self, submit: &mut dyn FnMut() -> Result<()>) -> Result<(f64, u64)> {
        let (mut best, mut writes) = (f64::INFINITY, 0);
        let begin = Instant::now();
        for turn in 0..3 {
            self.gpu.wait()?;
            if turn > 0 && begin.elapsed().as_secs_f64() > SLOW {
                break;
            }
            let (before, start) = (self.gpu.counts(), Instant::now());
            submit()?;
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
            writes = self.gpu.counts().writes - before.writes;
        }
        self.gpu.wait()?;
        Ok((best, writes))
    }

    /// One item by its name.
    ///
    /// # Errors
    /// If there is none of this name, or the device fails.
    pub fn item(&self, suite: &'static str, name: &str) -> Result<Line> {
        let item = Item::build(self.gpu, self.preset, name)?;
        let times = self.turns(1, &mut |_| item.run())?;
        self.line(suite, name, &item, &times[0])
    }

    /// One item beside another, in turns; the line of the first has the ratio of its time to the second's.
    fn beside(&self, suite: &'static str, name: &str, other: &str) -> Result<Line> {
        let items = [Item::build(self.gpu, self.preset, name)?, Item::build(self.gpu, self.preset, other)?];
        let times = self.turns(2, &mut |which| items[which].run())?;
        let line = self.line(suite, &format!("{name} / {other}"), &items[0], &times[0])?;
        Ok(Line { ratio: paired(&times[0], &times[1]), ..line })
    }

    /// Single convolutions and a matrix product; on GPUs also with 128 images.
    ///
    /// # Errors
    /// If the device fails.
    pub fn kernels(&self, sink: &mut Sink) -> Result<bool> {
        let names = names().into_iter().filter(|name| name.starts_with("matmul") || name.contains("_k"));
        let names: Vec<String> = names.filter(|name| self.wide() || !name.ends_with("_b128")).collect();
        self.items("kernels", &names, sink)
    }

    /// One item after the other; whether there was time for all.
    fn items(&self, suite: &'static str, names: &[String], sink: &mut Sink) -> Result<bool> {
        let mut go = true;
        for name in names {
            if !go {
                return Ok(false);
            }
            go = sink(self.item(suite, name)?)?;
        }
        Ok(true)
    }

    /// Forward passes and training steps of whole networks, a step of SAM beside one of SGD, and steps of a trainer that
    /// draws its batches; on GPUs also with 128 images and five cells, these first.
    ///
    /// # Errors
    /// If the device fails.
    pub fn steps(&self, sink: &mut Sink) -> Result<bool> {
        let all = names();
        let own = |end: &str| all.iter().filter(|name| name.ends_with(end)).cloned().collect::<Vec<_>>();
        let mut list = if self.wide() { [own("_n5_b128"), own("_n1_b128"), own("_n5")].concat() } else { vec![] };
        list.extend(own("_n1"));
        list.push(SUPERNET.into());
        let mut go = true;
        let whole = self.items("step", &list, &mut |line| {
            go = sink(line)?;
            Ok(go)
        })?;
        if !whole || !go {
            return Ok(false);
        }
        let wide = if self.wide() { "_b128" } else { "" };
        let beside = self.beside("step", &format!("sam_conv3_n1{wide}"), &format!("train_conv3_n1{wide}"))?;
        Ok(sink(beside)? && self.trainers(sink)?)
    }

    /// ResNet-50 as the public tables of Inferena time it: four images of 224 pixels forward, forward and backward, and
    /// one image waited for by itself.
    ///
    /// # Errors
    /// If the device fails.
    pub fn resnet(&self, sink: &mut Sink) -> Result<bool> {
        self.items("resnet50", &RESNET.map(String::from), sink)
    }

    /// Seconds of each shader in one run of an item, by time stamps.
    ///
    /// # Errors
    /// If the device has no time stamps, or fails.
    pub fn profile(&self, name: &str) -> Result<Vec<ShaderTime>> {
        if !self.ceiling.stamps {
            let adapter = &self.gpu.report().name;
            return Err(Error::invalid(
                "--profile",
                format!("{adapter} has no time stamps; time whole items with --item"),
            ));
        }
        let item = Item::build(self.gpu, self.preset, name)?;
        item.time(2)?;
        let mut recorder = self.gpu.record();
        recorder.profile();
        item.plan().record(&mut recorder);
        let mut sums: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for timing in recorder.submit_profiled()? {
            let sum = sums.entry(timing.label).or_default();
            sum.0 += 1;
            sum.1 += timing.seconds;
        }
        let costs = item.plan().cost_by_shader();
        let time = |(label, (dispatches, seconds)): (&str, (usize, f64))| {
            let cost = costs.get(label).copied().unwrap_or_default();
            let rate = |work: u64| work as f64 / f64::max(seconds, 1e-12) / 1e9;
            ShaderTime {
                shader: label.to_owned(),
                dispatches,
                ms: seconds * 1e3,
                gflops: rate(cost.flops),
                gbs: rate(cost.bytes),
            }
        };
        let mut list: Vec<_> = sums.into_iter().map(time).collect();
        list.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Ok(list)
    }
}

/// Median of the ratios of samples that were taken one after the other: what slows the machine down for a while slows both.
pub(super) fn paired(a: &[f64], b: &[f64]) -> Option<f64> {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}
