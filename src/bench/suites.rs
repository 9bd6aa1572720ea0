//! Suites of measurements: kernels, steps, populations.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::items::{Item, SUPERNET, names};
use super::{Spread, timed};
use crate::data::load;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{Group, Noise, Statistics};
use crate::kernels::Preset;
use crate::measure::forward::{Forward, Subject, graph, running_store};
use crate::measure::noise::Perturbation;
use crate::measure::zero_cost::Proxy;
use crate::measure::zero_cost::score::Scorer;
use crate::nn::bank::Bank;
use crate::nn::nas_bench_201::{Form, Network};
use crate::nn::tensors::{Named, Values, fresh, upload};
use crate::philox::Stream;
use crate::report::statistics::median;
use crate::shader::Variant;
use crate::space::nas_bench_201::{Arch, Macro};
use crate::train::feed::{Pick, Resident};
use crate::train::stores::Stores;
use crate::train::trainer::Setting;

/// Purpose word of architectures and images whose scores are timed.
const PROXIES_PURPOSE: u32 = 0x4250_5258;

/// One line of a suite.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `kernels`, `step`, `population` or `corruptions`.
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
    /// Against the baseline named in `name`, where there is one.
    pub ratio: Option<f64>,
}

/// One run on the adapter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Device {
    /// Billions of arithmetic operations a second.
    pub gflops: f64,
    /// Share of the adapter's measured ceiling.
    pub share: f64,
    /// Dispatches.
    pub dispatches: usize,
    /// Time to record and submit, on the host, where that was measured.
    pub encode_ms: Option<f64>,
}

/// What the adapter can do at best.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Multiply-adds, in GFLOP/s.
    pub gflops: f64,
    /// Copying, in GB/s read and written.
    pub gbs: f64,
}

/// Runs the measurements of one adapter.
pub struct Suites<'a> {
    gpu: &'a Gpu,
    preset: Preset,
    samples: usize,
    /// The adapter's ceiling, measured at the start.
    pub ceiling: Ceiling,
}

impl<'a> Suites<'a> {
    /// Measures the ceiling.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(gpu: &'a Gpu, preset: Preset, samples: usize) -> Result<Self> {
        let software = gpu.report().is_software();
        let invocations = if software { 1 << 14 } else { 1 << 20 };
        let rounds = 256;
        let samples_of_ceiling = samples.max(9);
        let fma = Variant::new("ceiling", [("LANES", 64), ("ROUNDS", rounds)]);
        let seconds = probe(gpu, &fma, invocations, samples_of_ceiling)?;
        let gflops = (invocations * rounds * 16 * 8) as f64 / seconds / 1e9;
        let count = if software { 1 << 20 } else { 1 << 22 };
        let copy = Variant::new("ceiling", [("LANES", 64), ("COPY", 1)]);
        let gbs = (count * 32) as f64 / probe(gpu, &copy, count, samples_of_ceiling)? / 1e9;
        Ok(Suites { gpu, preset, samples, ceiling: Ceiling { gflops, gbs } })
    }

    fn item(&self, suite: &'static str, name: &str) -> Result<Line> {
        let item = Item::build(self.gpu, self.preset, name)?;
        let warm = item.time(1)?.min(item.time(1)?);
        let repetitions = (0.06 / warm.max(1e-6)).clamp(1.0, 100.0) as usize;
        let mut times = vec![];
        for _ in 0..self.samples {
            times.push(item.time(repetitions)? / repetitions as f64);
        }
        let encode = Instant::now();
        item.plan().submit();
        let encode_ms = encode.elapsed().as_secs_f64() * 1e3;
        self.gpu.wait()?;
        let time = Spread::of(times);
        let gflops = item.plan().flops() as f64 / time.median_ms / 1e6;
        Ok(Line {
            suite,
            name: name.into(),
            shape: if name == SUPERNET { "batch 64" } else { "batch 32" }.into(),
            time,
            device: Some(Device {
                gflops,
                share: gflops / self.ceiling.gflops,
                dispatches: item.plan().dispatches(),
                encode_ms: Some(encode_ms),
            }),
            check: item.check,
            ratio: None,
        })
    }

    /// Single convolutions and a matrix product.
    ///
    /// # Errors
    /// If the device fails.
    pub fn kernels(&self) -> Result<Vec<Line>> {
        let own = |name: &String| !name.ends_with("_n1") && !name.ends_with("_n5");
        names().iter().filter(|name| own(name)).map(|name| self.item("kernels", name)).collect()
    }

    /// Forward passes and training steps of whole networks.
    ///
    /// # Errors
    /// If the device fails.
    pub fn steps(&self) -> Result<Vec<Line>> {
        let own = names().into_iter().filter(|name| name.ends_with("_n1")).chain([SUPERNET.to_owned()]);
        own.map(|name| self.item("step", &name)).collect()
    }

    /// Twenty noise draws as one population beside twenty evaluations of one network through the same kind of plan, both
    /// with submissions in flight; the results are compared bit by bit.
    ///
    /// # Errors
    /// If the device fails, or the results differ.
    pub fn populations(&self) -> Result<Vec<Line>> {
        const DRAWS: usize = 20;
        const CHANNELS: usize = 8;
        const IMAGES: usize = 16;
        let data = load("digits")?;
        let statistics = data.train.channel_statistics();
        let resident = Resident::new(self.gpu, &data.train)?;
        let setting = Setting { gpu: self.gpu, preset: self.preset, data: &resident, statistics: &statistics };
        let sizes = Macro { channels: CHANNELS, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
        let arch: Arch =
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|".parse()?;
        let model = Network::new(arch, sizes);
        let pass = graph(&model, IMAGES, Statistics::Running)?;
        let stores = Stores::new(self.gpu, &pass, 1)?;
        let weights = stores.group(Group::Weights)?.clone();
        upload(self.gpu, &weights, 0, &fresh(weights.contents(), 5))?;
        let running = running_store(self.gpu, &pass, 1)?;
        upload(self.gpu, &running, 0, &fresh(running.contents(), 5))?;
        let maker = Perturbation::new(self.gpu, self.preset, &[(weights, 0)], DRAWS, Noise::Additive)?;
        maker.submit(3, 0, 0.05)?;
        let subject = |draw| Subject { weights: maker.copy(0, draw), running: (running.clone(), 0), path: vec![] };
        let input = [8, 8, 1];
        let all: Vec<Subject> = (0..DRAWS).map(subject).collect();
        let together = Forward::new(&setting, input, IMAGES, &pass, &all)?;
        let alone: Vec<Forward> = (0..DRAWS)
            .map(|draw| Forward::new(&setting, input, IMAGES, &pass, &[subject(draw)]))
            .collect::<Result<_>>()?;
        let images: Vec<usize> = (0..IMAGES).collect();
        let want = alone.iter().map(|f| Ok(f.evaluate_wait(&images)?[0])).collect::<Result<Vec<_>>>()?;
        if together.evaluate_wait(&images)? != want {
            return Err(Error::Gpu {
                doing: "comparing a population with single runs".into(),
                adapter: self.gpu.report().name.clone(),
                why: "the results differ".into(),
            });
        }
        let picks: Vec<Pick> = images.iter().map(|&i| Pick::plain(i)).collect();
        let (mut population, mut single) = (vec![], vec![]);
        let repetitions = 5;
        for _ in 0..self.samples.max(5) {
            population.push(timed(self.gpu, repetitions, &mut || together.submit(&picks))? / repetitions as f64);
            // One network evaluated twenty times: the same plan, submissions in flight.
            let one = &alone[0];
            single.push(timed(self.gpu, repetitions * DRAWS, &mut || one.submit(&picks))? / repetitions as f64);
        }
        let ratio = paired(&population, &single);
        let (population, single) = (Spread::of(population), Spread::of(single));
        let line = |name: &str, time: Spread, forward: &Forward, count: usize, ratio| {
            let gflops = (forward.plan().flops() * count as u64) as f64 / time.median_ms / 1e6;
            let dispatches = forward.plan().dispatches() * count;
            let share = gflops / self.ceiling.gflops;
            Line {
                suite: "population",
                name: name.into(),
                shape: format!("digits network, {CHANNELS} channels, batch {IMAGES}"),
                time,
                device: Some(Device { gflops, share, dispatches, encode_ms: None }),
                check: vec![],
                ratio,
            }
        };
        Ok(vec![
            line("20 evaluations of one network", single, &alone[0], DRAWS, None),
            line("20 noise draws as one population / 20 evaluations", population, &together, 1, ratio),
        ])
    }

    /// Zero-cost proxies of eight networks as one population beside the same one by one, from building the networks to their
    /// scores; weights are drawn before. The scores are compared bit by bit.
    ///
    /// # Errors
    /// If the device fails, or the scores differ.
    pub fn proxies(&self) -> Result<Vec<Line>> {
        const NETWORKS: usize = 8;
        let mut draw = Stream::new(5, PROXIES_PURPOSE, 0);
        let mut archs: Vec<Arch> = vec![];
        while archs.len() < NETWORKS {
            let arch = Arch::sample(&mut draw);
            // One that is not connected takes no time.
            if arch.live_edges().iter().any(|live| *live) && !archs.contains(&arch) {
                archs.push(arch);
            }
        }
        let mut lines = vec![];
        for (proxy, images, cells) in
            [(Proxy::Synflow, 1, 5), (Proxy::SynflowBn, 1, 5), (Proxy::L2Norm, 1, 5), (Proxy::Snip, 16, 1)]
        {
            let sizes = Macro { cells, ..Macro::benchmark(32, 32, 10)? };
            let x = (0..images * 3 * 32 * 32).map(|_| draw.normal() as f32).collect();
            let y = (0..images).map(|image| (image % 10) as f32).collect();
            let batch = Named::from([
                ("x".to_owned(), Values { dims: vec![images, 3, 32, 32], data: x }),
                ("y".to_owned(), Values { dims: vec![images], data: y }),
            ]);
            let scorer = Scorer {
                gpu: self.gpu.clone(),
                preset: self.preset,
                sizes,
                form: Form::ZeroCostNas,
                seed: 5,
                batch,
                weights: Bank::fresh(5),
                range: vec![],
                zen: None,
            };
            let score = |size: usize| -> Result<(f64, Vec<f64>)> {
                let start = Instant::now();
                let groups = archs.chunks(size).map(|some| scorer.score(some, &[proxy])).collect::<Result<Vec<_>>>()?;
                let seconds = start.elapsed().as_secs_f64();
                Ok((seconds, groups.iter().flatten().flat_map(|scores| scores.values().copied()).collect()))
            };
            // Shaders are compiled first.
            let want = score(1)?.1;
            let (mut population, mut single) = (vec![], vec![]);
            for _ in 0..self.samples.max(5) {
                for (size, times) in [(NETWORKS, &mut population), (1, &mut single)] {
                    let (seconds, scores) = score(size)?;
                    if scores != want {
                        return Err(Error::Gpu {
                            doing: "comparing the scores of a population with those of single networks".into(),
                            adapter: self.gpu.report().name.clone(),
                            why: "they differ".into(),
                        });
                    }
                    times.push(seconds);
                }
            }
            let ratio = paired(&population, &single);
            let (population, single) = (Spread::of(population), Spread::of(single));
            let line = |name: String, time: Spread, ratio| Line {
                suite: "population",
                name,
                shape: format!("NAS-Bench-201, 16 channels, {cells} cells a stage, batch {images}"),
                time,
                device: None,
                check: want.clone(),
                ratio,
            };
            let name = proxy.name();
            lines.push(line(format!("{name} of {NETWORKS} networks one by one"), single, None));
            lines.push(line(
                format!("{name} of {NETWORKS} networks as one population / one by one"),
                population,
                ratio,
            ));
        }
        Ok(lines)
    }

    /// Seconds of each shader in one run of an item, by time stamps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn profile(&self, name: &str) -> Result<Vec<(String, usize, f64, f64)>> {
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
        let flops = item.plan().flops_by_shader();
        let mut list: Vec<_> = sums
            .into_iter()
            .map(|(label, (count, seconds))| {
                let work = flops.get(label).copied().unwrap_or(0) as f64;
                (label.to_owned(), count, seconds * 1e3, work / seconds.max(1e-12) / 1e9)
            })
            .collect();
        list.sort_by(|a, b| b.2.total_cmp(&a.2));
        Ok(list)
    }
}

/// Median of the ratios of samples that were taken one after the other: what slows the machine down for a while slows both.
fn paired(a: &[f64], b: &[f64]) -> Option<f64> {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// Seconds of one dispatch of a ceiling shader.
fn probe(gpu: &Gpu, variant: &Variant, count: usize, samples: usize) -> Result<f64> {
    let pipeline = gpu.pipelines(&[(variant.clone(), 2)])?;
    let (x, y) = (gpu.slab(count as u64 * 16, "ceiling")?, gpu.slab(count as u64 * 16, "ceiling")?);
    let rows = gpu.slab(16, "task rows")?;
    gpu.write(&rows, 0, bytemuck::cast_slice(&[0u32, 0, count as u32, 0]))?;
    let dispatch = gpu.dispatch("ceiling", &pipeline[0], (&rows, 0, 16), &[x, y])?;
    let mut times = vec![];
    for _ in 0..samples.max(3) + 1 {
        let mut once = || {
            let mut recorder = gpu.record();
            recorder.dispatch(&dispatch, count.div_ceil(64) as u32, 1);
            recorder.submit();
            Ok(())
        };
        times.push(timed(gpu, 4, &mut once)? / 4.0);
    }
    Ok(Spread::of(times.split_off(1)).min_ms / 1e3)
}
