//! The planner: merging, paths, memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use altiplano::Error;
use altiplano::gpu::{Gpu, Options};
use altiplano::graph::plan::{Bindings, Instance, Plan};
use altiplano::graph::store::Store;
use altiplano::graph::{Graph, Role, Statistics};
use altiplano::kernels::Preset;
use altiplano::measure::zero_cost::passes::{Look, Wanted};
use altiplano::nn::nas_bench_201::{Network, Supernet};
use altiplano::nn::space::{ImageInfo, Networks, Purpose};
use altiplano::nn::tensors::{Named, Values, fresh};
use altiplano::nn::{Norms, darts};
use altiplano::philox::Stream;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::{Cell, Macro, SIZE};
use altiplano::train::step::{Rates, Step, StepOptions, Update, build};
use altiplano::train::stores::Stores;

use crate::common;

const SIZES: Macro = Macro { channels: 8, cells: 1, in_channels: 3, height: 8, width: 8, classes: 10 };
const BATCH: usize = 4;

/// One step of SGD of the supernet; with `probes` everything worth seeing is kept, and no memory is used twice.
fn step(probes: bool) -> Step {
    let options = StepOptions {
        batch: BATCH,
        statistics: Statistics::Batch { update: true },
        smoothing: 0.0,
        update: Some(Update::default()),
        gradients: true,
    };
    let mut step = build(&Supernet { sizes: SIZES }, &options).unwrap();
    if probes {
        step.probe_all();
    }
    step
}

/// Different architectures, as paths.
fn paths(count: usize) -> Vec<Vec<u8>> {
    let mut order: Vec<usize> = (0..SIZE).collect();
    Stream::new(8, 8, 8).shuffle(&mut order);
    order[..count].iter().map(|i| Supernet::path(&Cell::from_index(*i).unwrap())).collect()
}

/// A plan of one instance per path, each with stores of its own, and those stores.
fn plan(gpu: &Gpu, preset: Preset, graph: &Arc<Graph>, paths: &[Vec<u8>]) -> (Plan, Stores) {
    let stores = Stores::new(gpu, graph, paths.len()).unwrap();
    let instance = |(copy, path): (usize, &Vec<u8>)| Instance {
        graph: graph.clone(),
        bindings: stores.bindings(copy),
        path: path.clone(),
    };
    let plan = Plan::compile(gpu, paths.iter().enumerate().map(instance).collect(), preset).unwrap();
    (plan, stores)
}

/// Weights, images and labels of network `number`.
fn load(stores: &Stores, copy: usize, number: u64) {
    let mut named = Named::new();
    for group in [Role::Weights, Role::Running] {
        named.extend(fresh(stores.of(group).unwrap().contents(), number));
    }
    stores.load(copy, &named).unwrap();
    stores.clear_momentum(copy).unwrap();
    let mut stream = Stream::new(number, 1, 2);
    let images = (0..BATCH * 3 * 8 * 8).map(|_| stream.normal() as f32).collect();
    let labels = (0..BATCH).map(|_| stream.below(10) as f32).collect();
    let images = Values { dims: vec![BATCH, 3, 8, 8], data: images };
    stores.set_batch(copy, &images, &Values { dims: vec![BATCH], data: labels }, 10).unwrap();
    let rates = Rates { rate: 0.1, momentum: 0.9, decay: 5e-4, statistics_momentum: 0.1, ..Rates::default() };
    // An evaluation has neither rates nor momenta.
    if stores.of(Role::Hyper).is_ok() {
        stores.set_rates(copy, &rates).unwrap();
    }
}

/// Bits of logits and losses (if they are kept), new weights, running statistics, momenta and metrics of a network.
fn outcome(gpu: &Gpu, plan: &Plan, stores: &Stores, step: &Step, instance: usize) -> Vec<Vec<u32>> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let mut all: Vec<Vec<u32>> = vec![];
    for tensor in [step.logits, step.per_image, step.mean] {
        if step.graph.tensor(tensor).probe.is_some() {
            all.push(bits(plan.read_wait(instance, tensor).unwrap()));
        }
    }
    let groups = [Role::Weights, Role::Running, Role::Momentum, Role::Metrics];
    for store in groups.into_iter().filter_map(|group| stores.of(group).ok()) {
        all.push(bits(store.read_wait(gpu, instance).unwrap()));
    }
    all
}

#[test]
fn a_population_needs_hardly_more_dispatches_than_the_union_of_its_paths() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let graph = Arc::new(step(false).graph);
    let population = plan(gpu, preset, &graph, &paths(8)).0;
    // Five instances that take option 0, 1, ... everywhere run every operation there is.
    let every_option: Vec<Vec<u8>> = (0..5).map(|option| vec![option; graph.choices.len()]).collect();
    let union = plan(gpu, preset, &graph, &every_option).0;
    let single: Vec<usize> =
        paths(8).iter().map(|path| plan(gpu, preset, &graph, std::slice::from_ref(path)).0.dispatches()).collect();
    println!("8 paths: {} dispatches; union: {}; alone: {single:?}", population.dispatches(), union.dispatches());
    assert!(population.dispatches() as f64 <= 1.5 * union.dispatches() as f64);
    assert!(population.dispatches() as f64 <= 1.5 * *single.iter().max().unwrap() as f64, "{single:?}");
    assert!(population.dispatches() * 4 <= single.iter().sum::<usize>(), "merging saves nothing: {single:?}");
}

/// Eight networks of DARTS cells, of which no two are alike, look inside themselves for measures as one of them does.
#[test]
fn looking_into_eight_networks_needs_few_dispatches() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let images = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    let mut build = Darts.defaults(Purpose::Scoring, &images);
    build.options.extend([("channels", 16), ("cells", 8)].map(|(name, value)| (name.to_owned(), value.into())));
    let family = darts::family(build).unwrap();
    let mut draw = Stream::new(7, 1, 6);
    for (what, wanted) in [
        ("synflow", Wanted { batch: 1, norms: Norms::Bare, sum_gradients: true, ..Wanted::default() }),
        ("naswot and swap", Wanted { batch: 16, codes: true, ..Wanted::default() }),
        ("croze", Wanted { batch: 16, loss_gradients: true, features: true, ..Wanted::default() }),
    ] {
        for round in 0..2 {
            let graph = |_| {
                let network = family.network(&family.sample(&mut draw).unwrap()).unwrap();
                Arc::new(Look::new(&*network, wanted).unwrap().graph().clone())
            };
            let graphs: Vec<Arc<Graph>> = (0..8).map(graph).collect();
            let dispatches = |graphs: &[Arc<Graph>]| Plan::announce(gpu, graphs, preset).unwrap().dispatches;
            let single: Vec<usize> = graphs.iter().map(|graph| dispatches(std::slice::from_ref(graph))).collect();
            let (all, most) = (dispatches(&graphs), *single.iter().max().unwrap());
            println!("{what}, round {round}: {all} dispatches of eight networks, {single:?} alone");
            assert!(all as f64 <= 2.5 * most as f64, "{what}: {all} and {most}");
        }
    }
}

/// Steps of SGD with clipping of whole networks, and their dispatches and bytes of temporaries when calls ran by their mean
/// depth instead of by the longest chain behind them.
#[test]
fn the_longest_chain_first_needs_few_dispatches() {
    let gpu = common::gpu();
    let options = StepOptions {
        batch: 32,
        statistics: Statistics::Batch { update: true },
        smoothing: 0.0,
        update: Some(Update { clip: true, ..Update::default() }),
        gradients: false,
    };
    let graph = |arch: Cell, cells: usize| {
        let sizes = Macro { channels: 16, cells, in_channels: 3, height: 32, width: 32, classes: 10 };
        Arc::new(build(&Network::new(arch, sizes), &options).unwrap().graph)
    };
    let named = |arch: &str, cells| vec![graph(arch.parse().unwrap(), cells)];
    let mut order: Vec<usize> = (0..SIZE).collect();
    Stream::new(5, 0, 5).shuffle(&mut order);
    let fifty = order[..50].iter().map(|&i| graph(Cell::from_index(i).unwrap(), 1)).collect();
    // Of the preset `cpu` there are dispatches and bytes, of `gpu` dispatches; this one's weight gradients have more parts now.
    for (name, graphs, [cpu, gpu_preset], bytes, most) in [
        ("all 3x3, one cell", named("333333", 1), [192, 192], 46_489_456, [0.80, 0.83]),
        ("all 3x3, five cells", named("333333", 5), [618, 618], 178_653_136, [0.80, 0.80]),
        ("mixed, one cell", named("321430", 1), [173, 172], 27_567_440, [0.76, 0.79]),
        ("mixed, five cells", named("321430", 5), [509, 508], 86_392_208, [0.76, 0.76]),
        ("fifty of one cell", fifty, [289, 294], 1_378_648_976, [0.75, 0.77]),
    ] {
        for (preset, before, most) in [(Preset::CPU, cpu, most[0]), (Preset::GPU, gpu_preset, most[1])] {
            let start = Instant::now();
            let now = Plan::announce(gpu, &graphs, preset).unwrap();
            let share = (now.dispatches as f64 / f64::from(before), now.bytes as f64 / f64::from(bytes));
            println!(
                "{name}, {}: {} dispatches ({before} before), {} bytes ({bytes} before), {share:.3?}, planned in {:?}",
                preset.name,
                now.dispatches,
                now.bytes,
                start.elapsed()
            );
            assert!(share.0 <= most, "{name}: {share:?}");
            assert!(share.1 <= 1.15 || preset == Preset::GPU, "{name}: {share:?}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_population() {
    population_is_single(&step(true));
}

/// The same where temporaries share memory.
#[test]
fn results_do_not_depend_on_the_population_nor_on_reused_memory() {
    population_is_single(&step(false));
}

fn population_is_single(step: &Step) {
    let (gpu, preset) = (common::gpu(), common::preset());
    let graph = Arc::new(step.graph.clone());
    let paths = paths(8);
    let mut single = vec![];
    for (number, path) in paths.iter().enumerate() {
        let (plan, stores) = plan(gpu, preset, &graph, std::slice::from_ref(path));
        load(&stores, 0, number as u64);
        plan.submit();
        single.push(outcome(gpu, &plan, &stores, step, 0));
        let metrics = stores.take_metrics_wait().unwrap()[0];
        assert!(metrics[0] > 0.0 && metrics[0].is_finite() && metrics[2..] == [BATCH as f32, 0.0], "{metrics:?}");
    }
    assert!(single[1..].iter().all(|other| other != &single[0]), "different networks give different results");
    for size in [2, 3, 8] {
        let (plan, stores) = plan(gpu, preset, &graph, &paths[..size]);
        (0..size).for_each(|number| load(&stores, number, number as u64));
        plan.submit();
        for (number, single) in single.iter().enumerate().take(size) {
            let together = outcome(gpu, &plan, &stores, step, number);
            assert!(&together == single, "network {number} of {size} differs from a run of its own");
        }
    }
}

/// What is cut in time has the bits of the whole, and is cut: into many submissions, between tasks and inside them.
#[test]
fn a_cut_plan_is_the_whole() {
    let (whole, preset) = (common::gpu(), common::preset());
    // Short rows of workgroups make folded grids of what is cut, too.
    let short = Options { max_submit: Some(Duration::from_micros(20)), most_workgroups: Some(3), ..Options::default() };
    let cut = common::open(short);
    let evaluation =
        StepOptions { batch: BATCH, statistics: Statistics::Running, smoothing: 0.0, update: None, gradients: false };
    let mut forward = build(&Supernet { sizes: SIZES }, &evaluation).unwrap();
    forward.probe_all();
    for step in [step(true), forward] {
        let graph = Arc::new(step.graph.clone());
        for size in [1, 3] {
            let run = |gpu: &Gpu| {
                let (plan, stores) = plan(gpu, preset, &graph, &paths(size));
                (0..size).for_each(|number| load(&stores, number, number as u64));
                let before = gpu.counts().submissions;
                let mut recorder = gpu.record();
                plan.record(&mut recorder);
                let parts = recorder.dispatches();
                gpu.wait_for(recorder.submit()).unwrap();
                let submissions = gpu.counts().submissions - before;
                let outcomes: Vec<_> = (0..size).map(|i| outcome(gpu, &plan, &stores, &step, i)).collect();
                (outcomes, plan.dispatches(), parts, submissions)
            };
            let (expected, dispatches, ..) = run(whole);
            let (outcomes, _, parts, submissions) = run(&cut);
            println!("{size} networks: {dispatches} dispatches, {parts} parts in {submissions} submissions");
            assert!(parts > 2 * dispatches && submissions as usize > dispatches / 2, "hardly cut");
            assert!(outcomes == expected, "{size} networks");
        }
    }
}

#[test]
fn submissions_of_no_time_or_too_long_are_refused() {
    for max_submit in [Duration::ZERO, Duration::from_millis(2_001)] {
        let opened = Gpu::open_wait(&Options { max_submit: Some(max_submit), ..Options::default() });
        let error = opened.expect_err("refused");
        assert!(error.exit_code() == 2 && error.to_string().contains("--max-submit-ms"), "{error}");
    }
}

/// One plan walks all paths: the same bits as plans compiled for them.
#[test]
fn choosing_a_path_is_compiling_for_it() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let step = step(true);
    let graph = Arc::new(step.graph.clone());
    let paths = paths(4);
    let (mut walker, walked) = plan(gpu, preset, &graph, &paths[..1]);
    for (number, path) in paths.iter().enumerate() {
        walker.choose(std::slice::from_ref(path)).unwrap();
        load(&walked, 0, number as u64);
        walked.take_metrics_wait().unwrap();
        walker.submit();
        let (own, stores) = plan(gpu, preset, &graph, std::slice::from_ref(path));
        load(&stores, 0, number as u64);
        own.submit();
        let same = outcome(gpu, &walker, &walked, &step, 0) == outcome(gpu, &own, &stores, &step, 0);
        assert!(same, "path {path:?}");
        assert_eq!(walker.dispatches(), own.dispatches());
    }
    assert!(walker.choose(&[]).is_err());
    assert!(walker.choose(&[vec![0; 5]]).is_err());
    assert!(walker.choose(&[vec![5; 6]]).is_err());
}

#[test]
fn choosing_takes_at_most_two_milliseconds() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let graph = Arc::new(step(false).graph);
    let (mut plan, _stores) = plan(gpu, preset, &graph, &paths(1));
    let mut times: Vec<Duration> = vec![];
    for path in paths(20) {
        let start = Instant::now();
        plan.choose(&[path]).unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!("choosing a path: {:?} (median of {}), {:?} at worst", times[10], times.len(), times[19]);
    assert!(times[10] <= Duration::from_millis(2), "{:?}", times[10]);
}

#[test]
fn announced_memory_is_what_is_taken() {
    // A device of its own: other tests allocate at the same time.
    let gpu = Gpu::open_wait(&Options::default()).unwrap();
    let preset = Preset::for_adapter(gpu.report());
    let graph = Arc::new(step(false).graph);
    let start = gpu.allocated();
    for count in [1, 8] {
        let stores = Stores::new(&gpu, &graph, count).unwrap();
        let before = gpu.allocated();
        assert!(before > start);
        let instance = |(copy, path)| Instance { graph: graph.clone(), bindings: stores.bindings(copy), path };
        let plan = Plan::compile(&gpu, paths(count).into_iter().enumerate().map(instance).collect(), preset).unwrap();
        let (announced, taken) = (plan.bytes() as f64, (gpu.allocated() - before) as f64);
        println!("{count} networks: {announced} bytes announced, {taken} taken");
        assert!(announced < 1.5 * taken && taken < 1.5 * announced, "{announced} announced, {taken} taken");
    }
    assert_eq!(gpu.allocated(), start, "memory of dropped plans and stores is free again");
}

#[test]
fn too_large_a_batch_is_refused() {
    let gpu = common::gpu();
    // The stem's output alone, 8 channels of 8x8, is larger than a binding.
    let batch = gpu.report().limits.slab_bytes as usize / (8 * 8 * 8 * 4) + 1;
    let options =
        StepOptions { batch, statistics: Statistics::Running, smoothing: 0.0, update: None, gradients: false };
    let graph = Arc::new(build(&Supernet { sizes: SIZES }, &options).unwrap().graph);
    let instance = Instance { graph, bindings: Bindings::new(), path: vec![1; 6] };
    match Plan::compile(gpu, vec![instance], common::preset()).map(|_| ()) {
        Err(Error::Memory { needed, limit, advice, .. }) => {
            assert!(needed >= limit && limit > 0);
            assert!(advice.contains("--batch"), "{advice}");
        }
        other => panic!("{other:?}"),
    }
}

/// A step of an optimiser takes weights that lie side by side for one: a store with another order must not go through.
#[test]
fn weights_in_another_order_are_refused() {
    let (gpu, graph) = (common::gpu(), Arc::new(step(false).graph));
    let stores = Stores::new(gpu, &graph, 1).unwrap();
    let mut contents = stores.of(Role::Weights).unwrap().contents().clone();
    let end = contents.vec4s;
    contents.entries.values_mut().for_each(|entry| entry.offset = end - entry.offset - entry.shape.vec4s() as u64);
    let stores = stores.with(Role::Weights, Store::new(gpu, contents, 1, "weights").unwrap());
    let instance = Instance { graph, bindings: stores.bindings(0), path: vec![1; 6] };
    let refused = Plan::compile(gpu, vec![instance], common::preset()).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("another order"), "{refused}");
}
