//! What the host asks of the device: one write and one submission a step, one read-back for what is read at a time.

use std::ops::ControlFlow;

use altiplano::data::{ChannelStatistics, load};
use altiplano::gpu::{Counts, Gpu, Options, wgpu};
use altiplano::graph::store::{Contents, Store};
use altiplano::graph::{Builder, Init, Op, Role, Shape, Statistics};
use altiplano::kernels::Preset;
use altiplano::measure::attack::{Attack, Attacker};
use altiplano::measure::forward::{Averaging, Forward, Score, Subject, graph};
use altiplano::nn::Model;
use altiplano::nn::nas_bench_201::Network;
use altiplano::progress::{Event, Observer, silent};
use altiplano::report::folder::{Existing, RunFolder};
use altiplano::space::nas_bench_201::{Cell, Macro};
use altiplano::train::adversarial::Adversarial;
use altiplano::train::feed::Pick;
use altiplano::train::job::{self, Saving};
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

const SIZES: Macro = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
const BATCH: usize = 16;
const NETWORKS: usize = 8;

/// A device of its own, on which no other test counts, and the digits there.
struct Scene {
    gpu: Gpu,
    supply: Supply,
    statistics: ChannelStatistics,
}

impl Scene {
    fn new() -> Self {
        Scene::on(common::open(Options::default()))
    }

    fn on(gpu: Gpu) -> Self {
        let data = load("digits").unwrap();
        let (supply, statistics) = (Supply::new(&gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
        Scene { gpu, supply, statistics }
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            gpu: &self.gpu,
            preset: Preset::for_adapter(self.gpu.report()),
            data: &self.supply,
            statistics: &self.statistics,
        }
    }

    /// Writes, submissions and read-backs of some work; what was set before it is sent before.
    fn count<T>(&self, work: impl FnOnce() -> T) -> (T, [u64; 3]) {
        self.gpu.record().submit();
        let Counts { writes, submissions, reads, .. } = self.gpu.counts();
        let result = work();
        let after = self.gpu.counts();
        (result, [after.writes - writes, after.submissions - submissions, after.reads - reads])
    }

    /// Networks that differ, those of `numbers`, which train with attacks inside their steps.
    fn trainer<'a>(&'a self, models: &[Network], numbers: std::ops::Range<usize>) -> Trainer<'a> {
        let adversarial = Some(Adversarial { eps: 0.1, step: 0.1, steps: 1 });
        let recipe = Recipe { batch: BATCH, adversarial, ..Recipe::usual(Optimizer::Sgd, 2, 8) };
        let member = |i: usize| Member { model: &models[i], seed: i as u64, path: vec![] };
        let indices: Vec<usize> = (0..3 * BATCH).collect();
        Trainer::of(self.setting(), &numbers.map(member).collect::<Vec<_>>(), &recipe, &indices).unwrap()
    }
}

fn models() -> Vec<Network> {
    (0..NETWORKS).map(|i| Network::new(Cell::from_index(15_000 + 7 * i).unwrap(), SIZES)).collect()
}

#[test]
fn a_training_step_of_a_population_is_one_write_and_one_submission() {
    let scene = Scene::new();
    let models = models();
    let mut trainer = scene.trainer(&models, 0..NETWORKS);
    for step in 0..3 {
        assert_eq!(scene.count(|| trainer.submit_step().unwrap()).1, [1, 1, 0], "step {step}");
    }
    let (progress, counts) = scene.count(|| trainer.progress_wait().unwrap());
    assert_eq!((progress.len(), counts), (NETWORKS, [0, 1, 1]));
    assert!(progress.iter().all(|p| p.loss > 0.0 && p.loss.is_finite()), "{progress:?}");
    assert!(trainer.progress_wait().unwrap().iter().all(|p| p.loss == 0.0), "sums begin anew");
    let (state, counts) = scene.count(|| trainer.state_wait().unwrap());
    assert_eq!(counts, [0, 1, 1]);
    assert_eq!(scene.count(|| trainer.weights_wait(5).unwrap()).1, [0, 1, 1]);
    // What each network is told is its own: alone it learns the same to the bit.
    for number in [0, 5] {
        let mut alone = scene.trainer(&models, number..number + 1);
        (0..3).for_each(|_| alone.submit_step().unwrap());
        assert!(alone.progress_wait().unwrap()[0] == progress[number], "network {number}");
        assert!(alone.weights_wait(0).unwrap() == trainer.weights_wait(number).unwrap(), "network {number}");
    }
    trainer.submit_step().unwrap();
    let further = trainer.state_wait().unwrap();
    trainer.restore(&state).unwrap();
    assert!(trainer.state_wait().unwrap() == state);
    trainer.submit_step().unwrap();
    assert!(trainer.state_wait().unwrap() == further && further != state);
}

#[test]
fn a_batch_of_an_evaluation_is_one_write_and_all_scores_one_read_back() {
    let scene = Scene::new();
    let (models, setting) = (models(), scene.setting());
    let trainer = scene.trainer(&models, 0..NETWORKS);
    let subject = |i: usize| {
        let group = |group| (trainer.stores(i).of(group).unwrap().clone(), 0);
        Subject { weights: group(Role::Weights), running: group(Role::Running), path: vec![] }
    };
    let subjects: Vec<Subject> = (0..NETWORKS).map(subject).collect();
    let pass = |update| {
        let graphs: Vec<_> = models.iter().map(|model| graph(model, BATCH, update).unwrap()).collect();
        Forward::of(&setting, BATCH, &graphs, &subjects).unwrap()
    };
    let recalibration = pass(Statistics::Batch { update: true });
    let batches: Vec<Vec<Pick>> = (0..3).map(|i| (BATCH * i..BATCH * (i + 1)).map(Pick::plain).collect()).collect();
    let whole = scene.count(|| recalibration.recalibrate(&batches, Averaging::Exact).unwrap()).1;
    let none = scene.count(|| recalibration.recalibrate(&[], Averaging::Exact).unwrap()).1;
    assert_eq!([whole[0] - none[0], whole[1], whole[2]], [3, 3, 0]);

    let (evaluation, images) = (pass(Statistics::Running), (0..2 * BATCH + 5).collect::<Vec<_>>());
    let (first, counts) = scene.count(|| evaluation.evaluate_wait(&images).unwrap());
    assert_eq!(counts, [3, 4, 1], "three batches and the reading");
    assert!(first.iter().all(|Score { loss, .. }| *loss > 0.0 && loss.is_finite()), "{first:?}");
    let (again, counts) = scene.count(|| evaluation.evaluate_wait(&images).unwrap());
    assert_eq!((again == first, counts), (true, [3, 4, 1]), "sums begin anew");

    let attack = Attack { restarts: 2, ..Attack::pgd(0.1, 3) };
    let attacker = Attacker::new(&setting, &models[0] as &dyn Model, BATCH, &subjects[..1], attack, 3).unwrap();
    let (_, counts) = scene.count(|| attacker.run_wait(&images[..2 * BATCH], &mut |_, _| Ok(())).unwrap());
    // For each of two batches a look at the images as they are, a start, three steps, and a last look; what was found is read
    // after the first look and at the end.
    assert_eq!(counts, [2 * 2, 2 * (6 + 2), 2 * 2]);
}

#[test]
fn what_the_host_sets_is_there_at_the_next_submission() {
    let gpu = common::open(Options::default());
    let [one, two] = ["one", "two"].map(|what| gpu.host_slab(64, what).unwrap());
    let words = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let read = |parts: &[_]| -> Vec<Vec<u32>> {
        gpu.read_wait(parts).unwrap().iter().map(|part| part.iter().map(|v| v.to_bits()).collect()).collect()
    };
    let before = gpu.counts();
    gpu.write(&one, 48, &words(&[4, 5])).unwrap();
    gpu.write(&one, 4, &words(&[1, 2, 3])).unwrap();
    gpu.write(&one, 8, &words(&[7])).unwrap();
    gpu.write(&two, 0, &words(&[9])).unwrap();
    assert!(gpu.write(&two, 60, &words(&[1, 2])).is_err());
    assert_eq!(gpu.counts(), before, "nothing is sent before a submission");
    let parts = [(two.clone(), 0, 8), (one.clone(), 0, 16), (one.clone(), 16, 0), (one.clone(), 16, 48)];
    let want = vec![vec![9, 0], vec![0, 1, 7, 3], vec![], vec![0, 0, 0, 0, 0, 0, 0, 0, 4, 5, 0, 0]];
    assert_eq!(read(&parts), want);
    let after = gpu.counts();
    assert_eq!((after.writes - before.writes, after.written - before.written), (2, 52 + 4));
    assert_eq!((after.submissions - before.submissions, after.reads - before.reads), (1, 1));

    // The same again, or into memory that is gone, is nothing to send.
    gpu.write(&one, 48, &words(&[4, 5])).unwrap();
    gpu.write(&two, 4, &words(&[1])).unwrap();
    drop((two, parts));
    assert_eq!(read(&[(one.clone(), 48, 8)]), [[4, 5]]);
    assert_eq!(gpu.counts().writes, after.writes);

    // Each submission sees what was set before it and not what is set behind it.
    let mut first = gpu.record();
    let earlier = first.read(&one, 0, 16).unwrap();
    gpu.write(&one, 0, &words(&[6])).unwrap();
    first.submit();
    gpu.write(&one, 0, &words(&[8])).unwrap();
    assert_eq!(read(&[(one.clone(), 0, 4)]), [[8]]);
    assert_eq!(earlier.wait().unwrap(), words(&[6, 1, 7, 3]));

    let mut recorder = gpu.record();
    let slab = gpu.slab(64, "cleared").unwrap();
    gpu.write(&slab, 0, &words(&[1; 16])).unwrap();
    recorder.clear(&[(slab.clone(), 4, 8), (slab.clone(), 12, 4), (slab.clone(), 60, 4)]).unwrap();
    assert!(recorder.clear(&[(slab.clone(), 48, 32)]).is_err());
    recorder.submit();
    let mut want = vec![1; 16];
    [1, 2, 3, 15].into_iter().for_each(|i: usize| want[i] = 0);
    assert_eq!(read(&[(slab, 0, 64)]), [want]);
}

#[test]
fn a_device_lost_in_the_middle_costs_what_was_not_saved() {
    // A device of the caller's, which the caller can take away.
    let own = || {
        let descriptor = wgpu::DeviceDescriptor {
            required_features: wgpu::Features::IMMEDIATES,
            required_limits: wgpu::Limits { max_immediate_size: 8, ..wgpu::Limits::default() },
            ..wgpu::DeviceDescriptor::default()
        };
        let name = common::gpu().report().name.clone();
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap();
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let gpu = Gpu::from_wgpu(device.clone(), queue, false).unwrap();
        (Scene::on(gpu), device)
    };
    let models = models();
    let train = |scene: &Scene, folder: &RunFolder, observer: &mut Observer| {
        let mut trainer = scene.trainer(&models, 0..2);
        let saving = Saving { folder, name: "training" };
        job::run(&mut trainer, Some(saving), ("training", 0.0, 1.0), observer, &mut |_| Ok(()))?;
        trainer.state_wait()
    };
    let directory = tempfile::tempdir().unwrap();
    let folder = |name: &str| RunFolder::create(directory.path().join(name), Existing::default()).unwrap();
    let again = |name: &str| RunFolder::create(directory.path().join(name), Existing::Resume).unwrap();
    let (scene, device) = own();
    let whole = train(&scene, &folder("whole"), &mut silent()).unwrap();

    let mut lose = |event: &Event| {
        // In the second epoch; the first was saved.
        if matches!(event, Event::Advance { done: 4, .. }) {
            device.destroy();
        }
        ControlFlow::Continue(())
    };
    let error = train(&scene, &folder("parts"), &mut lose).unwrap_err().to_string();
    assert!(error.contains("lost") && error.contains("--resume"), "{error}");
    let later = scene.gpu.slab(64, "more").map(|_| ()).unwrap_err().to_string();
    assert!(later.contains("lost"), "it stays lost: {later}");
    let mut began = 0;
    let mut watch = |event: &Event| {
        if let Event::Advance { done, .. } = event
            && began == 0
        {
            began = *done;
        }
        ControlFlow::Continue(())
    };
    let resumed = train(&own().0, &again("parts"), &mut watch).unwrap();
    assert_eq!((began, resumed == whole), (4, true), "gone on with from the end of the first epoch, to the same bits");
}

#[test]
fn no_operation_writes_what_is_the_hosts() {
    let mut b = Builder::new();
    let (map, zero) = (Shape::map(1, 2, 2, 4), Init::Constant(0.0));
    let x = b.persistent(Role::Batch, "x", map, zero, &[1, 4, 2, 2]).unwrap();
    let words = b.persistent(Role::Hyper, "words", Shape::map(1, 1, 1, 4), zero, &[4]).unwrap();
    b.push(Op::GlobalAvgPool { x, y: words });
    let graph = b.finish();
    let error = Contents::of(&graph, &[Role::Hyper]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("words") && error.contains("the host's"), "{error}");
    assert!(Store::new(common::gpu(), Contents::of(&graph, &[Role::Batch]).unwrap(), 1, "x").is_ok());
}
