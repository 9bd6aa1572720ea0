//! Many networks side by side against the same work one by one: noise draws, trainers, a generation of a search, proxies.
//! Results are compared bit by bit in the same run.

use std::time::Instant;

use super::Spread;
use super::suites::{Device, Line, Sink, Suites, paired};
use crate::data::{ChannelStatistics, Images, load};
use crate::error::{Error, Result};
use crate::graph::{Noise, Role, Statistics};
use crate::kernels::Cost;
use crate::measure::forward::{Forward, Score, Subject, graph, running_store};
use crate::measure::noise::Perturbation;
use crate::measure::zero_cost::Proxy;
use crate::measure::zero_cost::score::Scorer;
use crate::nn::Model;
use crate::nn::bank::Bank;
use crate::nn::darts;
use crate::nn::nas_bench_201::{Form, Network, Supernet, family};
use crate::nn::space;
use crate::nn::tensors::{Named, Values, fresh, upload};
use crate::philox::Stream;
use crate::space::darts::Darts;
use crate::space::nas_bench_201::{Cell, Macro, NasBench201, SIZE};
use crate::space::{Arch, Space};
use crate::train::feed::Pick;
use crate::train::step::Optimizer;
use crate::train::stores::Stores;
use crate::train::supply::Supply;
use crate::train::trainer::{Recipe, Setting, Trainer};

/// Purpose words of architectures and images.
const PROXIES_PURPOSE: u32 = 0x4250_5258;
const IMAGES_PURPOSE: u32 = 0x4250_494D;
const ARCH: &str = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|";
/// Noise draws, as FlatNAS and GeNAS take them.
const DRAWS: usize = 20;
/// Networks that train side by side.
const TRAINERS: usize = 8;
/// Candidates of a generation and noise levels of GeNAS.
const GENERATION: usize = 50;
const LEVELS: [f64; 3] = [0.01, 0.05, 0.1];

/// Data on the device, and networks for them.
pub(super) struct Scene {
    name: &'static str,
    supply: Supply,
    statistics: ChannelStatistics,
    /// One cell.
    sizes: Macro,
    batch: usize,
}

impl Scene {
    /// The bundled digits, and networks of 8 channels.
    fn digits(suites: &Suites) -> Result<Self> {
        let data = load("digits")?;
        let sizes = Macro { channels: 8, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
        Self::of(suites, "digits, 8 channels", &data.train, sizes, 16)
    }

    /// Random pictures of CIFAR's size, and networks of 16 channels.
    pub fn pictures(suites: &Suites) -> Result<Self> {
        let sizes = Macro { channels: 16, cells: 1, in_channels: 3, height: 32, width: 32, classes: 10 };
        let (count, mut draw) = (512, Stream::new(5, IMAGES_PURPOSE, 0));
        let pixels = (0..count * 3 * 32 * 32).map(|_| draw.below(256) as u8).collect();
        let labels = (0..count).map(|i| (i % 10) as u16).collect();
        let names = (0..10).map(|k| k.to_string()).collect();
        let images = Images::new([32, 32, 3], names, pixels, labels)?;
        Self::of(suites, "pictures of 32x32, 16 channels", &images, sizes, 128)
    }

    fn of(suites: &Suites, name: &'static str, images: &Images, sizes: Macro, batch: usize) -> Result<Self> {
        let statistics = images.channel_statistics()?;
        Ok(Scene { name, supply: Supply::new(suites.gpu, images)?, statistics, sizes, batch })
    }

    fn shape(&self) -> String {
        format!("{}, one cell a stage, batch {}", self.name, self.batch)
    }

    pub fn setting<'a>(&'a self, suites: &'a Suites) -> Setting<'a> {
        Setting { gpu: suites.gpu, preset: suites.preset, data: &self.supply, statistics: &self.statistics }
    }

    fn picks(&self) -> Vec<Pick> {
        (0..self.batch).map(Pick::plain).collect()
    }

    fn images(&self) -> Vec<usize> {
        (0..self.batch).collect()
    }
}

/// Two ways to the same result, in turns.
pub(super) struct Sides<'a> {
    pub scene: &'a Scene,
    pub names: [String; 2],
    /// Work and dispatches of each.
    pub work: [(Cost, usize); 2],
}

impl Suites<'_> {
    pub(super) fn differ(&self, what: &str) -> Error {
        Error::Gpu {
            doing: format!("comparing {what}"),
            adapter: self.gpu.report().name.clone(),
            why: "the results differ".into(),
        }
    }

    /// Lines of both sides; the second has the ratio of its time to the first's.
    pub(super) fn sides(&self, sides: &Sides, mut run: impl FnMut(usize) -> Result<()>) -> Result<[Line; 2]> {
        let times = self.turns(2, &mut run)?;
        let ratio = paired(&times[1], &times[0]);
        let mut lines = vec![];
        for (which, times) in times.into_iter().enumerate() {
            let time = Spread::of(times);
            let (cost, dispatches) = sides.work[which];
            let (encode_ms, writes) = self.encode(&mut || run(which))?;
            let device = Device::of(cost, time.median_ms, dispatches, &self.ceiling);
            lines.push(Line {
                suite: "population",
                name: sides.names[which].clone(),
                shape: sides.scene.shape(),
                time,
                device: Some(Device { encode_ms: Some(encode_ms), writes: Some(writes), ..device }),
                check: vec![],
                ratio: if which == 1 { ratio } else { None },
            });
        }
        lines.try_into().map_err(|_| self.differ("two sides"))
    }

    /// All populations; on GPUs of pictures as well as of the digits, the larger first.
    ///
    /// # Errors
    /// If the device fails, or results of a population differ from those of single networks.
    pub fn populations(&self, sink: &mut Sink) -> Result<bool> {
        let mut scenes = if self.wide() { vec![Scene::pictures(self)?] } else { vec![] };
        scenes.push(Scene::digits(self)?);
        let mut go = true;
        for scene in &scenes {
            for lines in [Self::draws, Self::training, Self::generation, Self::generation_of_darts] {
                if !go {
                    return Ok(false);
                }
                // What is measured is told, whatever the time.
                for line in lines(self, scene)? {
                    go = sink(line)?;
                }
            }
        }
        Ok(true)
    }

    /// Twenty noise draws as one population beside twenty evaluations of one network through the same kind of plan, all
    /// with submissions in flight; and beside one evaluation.
    fn draws(&self, scene: &Scene) -> Result<Vec<Line>> {
        let setting = scene.setting(self);
        let model = Network::new(ARCH.parse()?, scene.sizes);
        let pass = graph(&model, scene.batch, Statistics::Running)?;
        let stores = Stores::new(self.gpu, &pass, 1)?;
        let weights = stores.of(Role::Weights)?.clone();
        upload(self.gpu, &weights, 0, &fresh(weights.contents(), 5))?;
        let running = running_store(self.gpu, &pass, 1)?;
        upload(self.gpu, &running, 0, &fresh(running.contents(), 5))?;
        let maker = Perturbation::new(self.gpu, self.preset, &[(weights, 0)], DRAWS, Noise::Additive)?;
        maker.submit(3, 0, 0.05)?;
        let subject = |draw| Subject { weights: maker.copy(0, draw), running: (running.clone(), 0), path: vec![] };
        let all: Vec<Subject> = (0..DRAWS).map(subject).collect();
        let forward = |subjects: &[Subject]| Forward::new(&setting, scene.batch, &pass, subjects);
        let together = forward(&all)?;
        let alone: Vec<Forward> = all.chunks(1).map(forward).collect::<Result<_>>()?;
        let images = scene.images();
        let want = alone.iter().map(|f| Ok(f.evaluate_wait(&images)?[0])).collect::<Result<Vec<Score>>>()?;
        if together.evaluate_wait(&images)? != want {
            return Err(self.differ("a population with single runs"));
        }
        let picks = scene.picks();
        // One network evaluated again and again: the same plan.
        let one = &alone[0];
        let (cost, dispatches) = (one.plan().cost(), one.plan().dispatches());
        let times = |count: u64| Cost { flops: cost.flops * count, bytes: cost.bytes * count };
        let population = (together.plan().cost(), together.plan().dispatches());
        let twenty = Sides {
            scene,
            names: [
                format!("{DRAWS} evaluations of one network"),
                format!("{DRAWS} noise draws as one population / {DRAWS} evaluations"),
            ],
            work: [(times(DRAWS as u64), dispatches * DRAWS), population],
        };
        let run = |which, count: usize| match which {
            0 => (0..count).try_for_each(|_| one.submit(&picks)),
            _ => together.submit(&picks),
        };
        let mut lines = self.sides(&twenty, |which| run(which, DRAWS))?.to_vec();
        let single = Sides {
            scene,
            names: [
                "one evaluation of one network".into(),
                format!("{DRAWS} noise draws as one population / one evaluation"),
            ],
            work: [(cost, dispatches), population],
        };
        lines.extend(self.sides(&single, |which| run(which, 1))?);
        Ok(lines)
    }

    /// Steps of eight networks that train side by side beside steps of one.
    fn training(&self, scene: &Scene) -> Result<Vec<Line>> {
        let [mut one, mut many] = [self.trainer(scene, 1)?, self.trainer(scene, TRAINERS)?];
        one.submit_step()?;
        many.submit_step()?;
        if one.weights_wait(0)? != many.weights_wait(0)? {
            return Err(self.differ("a network that trains alone with the same one among others"));
        }
        let work = |trainer: &Trainer| (trainer.plan().cost(), trainer.plan().dispatches());
        let sides = Sides {
            scene,
            names: [
                "training step of one network".into(),
                format!("training step of {TRAINERS} networks side by side / of one"),
            ],
            work: [work(&one), work(&many)],
        };
        let run = |which| if which == 0 { one.submit_step() } else { many.submit_step() };
        Ok(self.sides(&sides, run)?.into())
    }

    fn trainer<'a>(&'a self, scene: &'a Scene, networks: usize) -> Result<Trainer<'a>> {
        let model = Network::new(ARCH.parse()?, scene.sizes);
        let recipe = Recipe { batch: scene.batch, ..Recipe::usual(Optimizer::Sgd, 10_000, scene.sizes.height) };
        let seeds: Vec<u64> = (1..=networks as u64).collect();
        let indices: Vec<usize> = (0..512).collect();
        Trainer::new(scene.setting(self), &model, &recipe, &indices, &seeds, &[])
    }

    /// Steps of trainers as a search takes them, batches drawn and rates written: what the host adds.
    pub(super) fn trainers(&self, sink: &mut Sink) -> Result<bool> {
        let scene = if self.wide() { Scene::pictures(self)? } else { Scene::digits(self)? };
        let mut go = true;
        for networks in [1, TRAINERS] {
            if !go {
                return Ok(false);
            }
            let mut trainer = self.trainer(&scene, networks)?;
            trainer.submit_step()?;
            let (encode_ms, writes) = self.encode(&mut || trainer.submit_step())?;
            let times = self.turns(1, &mut |_| trainer.submit_step())?;
            let time = Spread::of(times.into_iter().flatten().collect());
            let (cost, dispatches) = (trainer.plan().cost(), trainer.plan().dispatches());
            let device = Device::of(cost, time.median_ms, dispatches, &self.ceiling);
            let line = Line {
                suite: "step",
                name: format!("trainer_x{networks}"),
                shape: scene.shape(),
                time,
                device: Some(Device { encode_ms: Some(encode_ms), writes: Some(writes), ..device }),
                check: vec![],
                ratio: None,
            };
            go = sink(line)?;
        }
        Ok(true)
    }

    /// A generation of GeNAS's evolution: fifty paths of a supernet, each under noise of three levels, in three populations;
    /// beside the same passes one by one, for which a plan is compiled once and takes one path after the other.
    fn generation(&self, scene: &Scene) -> Result<Vec<Line>> {
        let mut order: Vec<usize> = (0..SIZE).collect();
        Stream::new(5, PROXIES_PURPOSE, 1).shuffle(&mut order);
        let archs = order.into_iter().take(GENERATION).filter_map(Cell::from_index);
        let paths: Vec<Vec<u8>> = archs.map(|arch| Supernet::path(&arch)).collect();
        self.generation_of(scene, &Supernet { sizes: scene.sizes }, &paths, "a supernet")
    }

    /// The same in the space that GeNAS was published on.
    fn generation_of_darts(&self, scene: &Scene) -> Result<Vec<Line>> {
        let Macro { height, width, in_channels, classes, .. } = scene.sizes;
        let (channels, cells) = if height < 16 { (4, 3) } else { (16, 8) };
        let input = [height, width, in_channels];
        let model = darts::Supernet { sizes: darts::Sizes::of_supernet([channels, cells], input, classes) };
        let (darts, mut draw): (&dyn Space, _) = (&Darts, Stream::new(5, PROXIES_PURPOSE, 2));
        let mut paths = vec![];
        for _ in 0..GENERATION {
            paths.extend(space::Supernet::path(&model, &darts.sample(&mut draw)?));
        }
        self.generation_of(scene, &model, &paths, &format!("a supernet of {cells} DARTS cells of {channels} channels"))
    }

    fn generation_of(&self, scene: &Scene, model: &dyn Model, paths: &[Vec<u8>], whose: &str) -> Result<Vec<Line>> {
        let setting = scene.setting(self);
        let pass = graph(model, scene.batch, Statistics::Running)?;
        let stores = Stores::new(self.gpu, &pass, 1)?;
        let weights = stores.of(Role::Weights)?.clone();
        upload(self.gpu, &weights, 0, &fresh(weights.contents(), 5))?;
        let running = running_store(self.gpu, &pass, 1)?;
        upload(self.gpu, &running, 0, &fresh(running.contents(), 5))?;
        let mut makers = vec![];
        for (level, sigma) in LEVELS.into_iter().enumerate() {
            let maker = Perturbation::new(self.gpu, self.preset, &[(weights.clone(), 0)], 1, Noise::Additive)?;
            maker.submit(3, level as u32, sigma)?;
            makers.push(maker);
        }
        let forward = |paths: &[Vec<u8>], maker: &Perturbation| {
            let subject = |path: &Vec<u8>| Subject {
                weights: maker.copy(0, 0),
                running: (running.clone(), 0),
                path: path.clone(),
            };
            let subjects: Vec<Subject> = paths.iter().map(subject).collect();
            Forward::new(&setting, scene.batch, &pass, &subjects)
        };
        let together = makers.iter().map(|maker| forward(paths, maker)).collect::<Result<Vec<_>>>()?;
        let mut alone = makers.iter().map(|maker| forward(&paths[..1], maker)).collect::<Result<Vec<_>>>()?;
        let (images, picks) = (scene.images(), scene.picks());
        let mut work = [(Cost::default(), 0), (Cost::default(), 0)];
        for (together, alone) in together.iter().zip(&mut alone) {
            work[1].0 += together.plan().cost();
            work[1].1 += together.plan().dispatches();
            let scores = together.evaluate_wait(&images)?;
            for (path, score) in paths.iter().zip(scores) {
                alone.choose(std::slice::from_ref(path))?;
                work[0].0 += alone.plan().cost();
                work[0].1 += alone.plan().dispatches();
                if alone.evaluate_wait(&images)? != [score] {
                    return Err(self.differ("a generation with single runs"));
                }
            }
        }
        let what = format!("{GENERATION} paths of {whose} under {} levels of noise", LEVELS.len());
        let names = [format!("{what}, one by one"), format!("{what} as populations / one by one")];
        let run = |which| match which {
            0 => paths.iter().try_for_each(|path| {
                alone.iter_mut().try_for_each(|forward| {
                    forward.choose(std::slice::from_ref(path))?;
                    forward.submit(&picks)
                })
            }),
            _ => together.iter().try_for_each(|forward| forward.submit(&picks)),
        };
        Ok(self.sides(&Sides { scene, names, work }, run)?.into())
    }

    /// Zero-cost proxies of eight networks as one population beside the same one by one, from building the networks to their
    /// scores; weights are drawn before. The scores are compared bit by bit.
    ///
    /// # Errors
    /// If the device fails, or the scores differ.
    pub fn proxies(&self, sink: &mut Sink) -> Result<bool> {
        const NETWORKS: usize = 8;
        let mut go = true;
        let mut draw = Stream::new(5, PROXIES_PURPOSE, 0);
        let mut archs: Vec<Arch> = vec![];
        let space: &dyn Space = &NasBench201;
        while archs.len() < NETWORKS {
            let arch = space.sample(&mut draw)?;
            // One that is not connected takes no time.
            if Cell::try_from(&arch)?.live_edges().iter().any(|live| *live) && !archs.contains(&arch) {
                archs.push(arch);
            }
        }
        for (proxy, images, cells) in
            [(Proxy::Synflow, 1, 5), (Proxy::SynflowBn, 1, 5), (Proxy::L2Norm, 1, 5), (Proxy::Snip, 16, 1)]
        {
            if !go {
                return Ok(false);
            }
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
                family: family(Form::ZeroCostNas, &sizes)?,
                seed: 5,
                batch,
                weights: Bank::fresh(5),
                range: vec![],
                draws: vec![],
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
            for _ in 0..self.samples {
                for (size, times) in [(NETWORKS, &mut population), (1, &mut single)] {
                    let (seconds, scores) = score(size)?;
                    if scores != want {
                        return Err(self.differ("the scores of a population with those of single networks"));
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
            let one_by_one = line(format!("{name} of {NETWORKS} networks one by one"), single, None);
            let together =
                line(format!("{name} of {NETWORKS} networks as one population / one by one"), population, ratio);
            sink(one_by_one)?;
            go = sink(together)?;
        }
        Ok(true)
    }
}
