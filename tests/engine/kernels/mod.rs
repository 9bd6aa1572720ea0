//! Every operation on the GPU against the f64 reference: a table of shapes generates the tests.
//!
//! `ALTIPLANO_CASES=text` runs only the cases whose name contains the text, `ALTIPLANO_WITHOUT=text` only the others.

mod attacks;
mod convolutions;
mod custom;
mod gather;
mod harness;
mod networks;
mod probe;
mod statistics;
mod sums;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use altiplano::bench::tune::candidates;
use altiplano::gpu::{Gpu, Options};
use altiplano::graph::Statistics;
use altiplano::kernels::{Call, Preset, kernel};
use altiplano::nn::darts;
use altiplano::nn::nas_bench_201::{Network, Supernet};
use altiplano::nn::space::{self, Build};
use altiplano::space::Space;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::step::{StepOptions, build};

use crate::common;

/// All cases but the largest: those that `ALTIPLANO_CASES` names, without those that `ALTIPLANO_WITHOUT` does.
fn cases() -> Vec<harness::Case> {
    let wanted = std::env::var("ALTIPLANO_CASES").unwrap_or_default();
    let all = [convolutions::cases(), sums::cases(), probe::cases(), statistics::cases(), attacks::cases()];
    let unwanted = std::env::var("ALTIPLANO_WITHOUT").ok().filter(|text| !text.is_empty());
    let keep = |name: &str| name.contains(&wanted) && !unwanted.as_ref().is_some_and(|text| name.contains(text));
    all.into_iter().flatten().filter(|case| keep(&case.name)).collect()
}

/// Cases of convolutions, or the others: either half of the table takes less than a minute.
fn run_half(preset: Preset, convolutions: bool) {
    let half: Vec<_> = cases().into_iter().filter(|case| case.name.starts_with("conv") == convolutions).collect();
    // The cases that were asked for may all be in the other half.
    if !half.is_empty() || std::env::var("ALTIPLANO_CASES").is_err() {
        run_table(common::gpu(), preset, &half);
    }
}

/// Both presets run on any adapter; tiles of the other one are as right, if slower.
#[test]
fn table_with_the_cpu_preset_of_convolutions() {
    run_half(Preset::CPU, true);
}

#[test]
fn table_with_the_cpu_preset_of_other_kernels() {
    run_half(Preset::CPU, false);
}

#[test]
fn table_with_the_gpu_preset_of_convolutions() {
    run_half(Preset::GPU, true);
}

#[test]
fn table_with_the_gpu_preset_of_other_kernels() {
    run_half(Preset::GPU, false);
}

/// Grids that are longer than a row of a dispatch: on a device whose rows are short, some of each family; in the long form also
/// grids of more than 65,535 workgroups.
#[test]
fn folded_grids() {
    const MOST: u32 = 3;
    let gpu = common::open(Options { most_workgroups: Some(MOST), ..Options::default() });
    let mut cases: Vec<_> = cases().into_iter().filter(|c| c.workgroups(Preset::CPU) > MOST as usize).collect();
    let mut kept = std::collections::BTreeMap::new();
    // Names begin with the family.
    cases.retain(|case| {
        let family: String = case.name.chars().take_while(|c| !c.is_ascii_digit()).collect();
        let seen: &mut usize = kept.entry(family).or_default();
        *seen += 1;
        *seen <= 3
    });
    // The cases that were asked for may all be small.
    if !cases.is_empty() || std::env::var("ALTIPLANO_CASES").is_err() {
        run_table(&gpu, Preset::CPU, &cases);
    }
    if common::long() {
        let large = convolutions::folded().into_iter().chain([sums::folded()]).chain(statistics::folded());
        let large: Vec<_> = large.collect();
        for preset in [Preset::CPU, Preset::GPU] {
            assert!(large.iter().any(|case| case.workgroups(preset) > 65_535));
            run_table(common::gpu(), preset, &large);
        }
    }
}

/// Tiles that tuning may choose, on shapes that they do not fit; with a filter's gradient they have nothing to do.
#[test]
fn tiles_to_choose_from() {
    let tiled = ["3x3 width 41, 7 to 9 channels", "3x3 33 to 35 channels", "1x1 prime", "3x3 stride 2, width 41"];
    for preset in [Preset::CPU, Preset::GPU] {
        for candidate in candidates(preset).into_iter().skip(1) {
            let mut cases = convolutions::cases();
            cases.retain(|case| {
                let name = case.name.trim_start_matches("conv ");
                tiled.contains(&name.trim_start_matches("input "))
            });
            assert_eq!(cases.len(), 2 * tiled.len());
            println!("tiles {} and {}", candidate.windowed, candidate.pointwise);
            run_table(common::gpu(), candidate, &cases);
        }
    }
}

/// Reductions with few lanes in a tree, and with the most that there may be.
#[test]
fn lanes_of_reductions() {
    // Far from zero, means of many short chunks are rounded more than the bounds of the table expect.
    let far = |name: &str| name.contains("around");
    let reduces = |name: &str| (name.starts_with("batch norm") || name.starts_with("channel sum")) && !far(name);
    let cases: Vec<_> = cases().into_iter().filter(|case| reduces(&case.name)).collect();
    for reduce_lanes in [16, 256] {
        run_table(common::gpu(), Preset { reduce_lanes, ..Preset::GPU }, &cases);
    }
}

/// What a kernel says leaves bits alone does: tiles of convolutions, and lanes of all kernels whose lanes are free.
#[test]
fn free_constants_leave_bits_alone() {
    let gpu = common::gpu();
    let reduces = |preset| {
        let fixed = |call: &Call| kernel(call.variant.shader).is_none_or(|kernel| !kernel.free.contains(&"LANES"));
        move |case: &harness::Case| case.calls(preset).iter().any(fixed)
    };
    let mut compared = BTreeSet::new();
    for preset in [Preset::CPU, Preset::GPU].map(|preset| preset.fit(gpu.report())) {
        let mut others = candidates(preset);
        others.push(Preset { lanes: 32, conv_lanes: 16, broadcast: false, ..preset });
        for case in cases().into_iter().filter(|case| !reduces(preset)(case)) {
            let calls = case.calls(preset);
            // Few of each kind are enough: a case has a pipeline per preset.
            let mut shaders = calls.iter().map(|call| call.variant.shader.to_owned() + preset.name);
            if shaders.all(|shader| compared.contains(&shader)) && !case.name.contains("width 41") {
                continue;
            }
            compared.extend(calls.iter().map(|call| call.variant.shader.to_owned() + preset.name));
            let own = harness::bits(gpu, preset, &case);
            for &other in others.iter().filter(|&&other| case.calls(other) != calls) {
                assert!(harness::bits(gpu, other, &case) == own, "{}: {other:?}", case.name);
            }
        }
    }
    println!("compared: {compared:?}");
    assert!(compared.len() >= 20 || std::env::var("ALTIPLANO_CASES").is_ok());
}

fn run_table(gpu: &Gpu, preset: Preset, cases: &[harness::Case]) {
    let preset = preset.fit(gpu.report());
    let (next, executed, runs) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failed: Mutex<Vec<String>> = Mutex::default();
    let worst: Mutex<(f64, String)> = Mutex::default();
    let times: Mutex<Vec<(f64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = std::time::Instant::now();
                match catch_unwind(AssertUnwindSafe(|| harness::check(gpu, preset, case))) {
                    Ok((count, share)) => {
                        executed.fetch_add(1, Ordering::Relaxed);
                        runs.fetch_add(count, Ordering::Relaxed);
                        let mut worst = worst.lock().unwrap();
                        if share > worst.0 {
                            *worst = (share, case.name.clone());
                        }
                    }
                    Err(_) => failed.lock().unwrap().push(case.name.clone()),
                }
                times.lock().unwrap().push((start.elapsed().as_secs_f64(), case.name.clone()));
            }
        };
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let (failed, worst) = (failed.into_inner().unwrap(), worst.into_inner().unwrap());
    let executed = executed.into_inner();
    println!(
        "{executed} of {} cases in {} runs on {} ({}); largest error {:.2} of its bound, in {}",
        cases.len(),
        runs.into_inner(),
        gpu.report().name,
        preset.name,
        worst.0,
        worst.1,
    );
    let mut times = times.into_inner().unwrap();
    times.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slowest: Vec<String> = times.iter().take(5).map(|(s, name)| format!("{name} {s:.1} s")).collect();
    println!("slowest: {}", slowest.join(", "));
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    assert!(executed > 0 && executed >= cases.len(), "only {executed} of {} cases ran", cases.len());
}

/// Slab, image, label, shift right, shift down, mirrored.
const PICKS: [[i32; 6]; 7] = [
    [0, 0, 3, 0, 0, 0],
    [0, 4, 0, 2, -3, 0],
    [1, 2, 9, 0, 0, 1],
    [1, 0, 1, -4, 1, 1],
    [0, 2, 255, 7, 7, 1],
    [1, 1, 2, -1, 0, 0],
    [0, 3, 5, 0, 5, 1],
];

#[test]
fn gather_crops_mirrors_averages_and_normalises() {
    let (gpu, preset) = (common::gpu(), common::preset());
    let picks = PICKS.map(|[_, index, rest @ ..]| ([0, index, rest[0], rest[1], rest[2], rest[3]], [0; 3]));
    for (source, target) in [
        ([8, 8, 1], [8, 8]),
        ([32, 32, 3], [16, 16]),
        ([32, 32, 3], [32, 32]),
        ([10, 13, 3], [7, 6]),
        ([11, 9, 5], [4, 8]),
        ([5, 41, 4], [5, 41]),
    ] {
        gather::check(gpu, preset, source, target, &picks);
    }
}

/// Holes in the middle, over each edge, of odd and even sides, over all of the image, and beyond it.
#[test]
fn gather_cuts_holes() {
    let holes = [[4, 5, 4], [0, 0, 5], [7, 8, 3], [0, 7, 255], [2, 3, 1], [3, 0, 6], [40_000, 65_535, 16]];
    for (source, target) in [([8, 9, 3], [8, 9]), ([32, 32, 3], [16, 16]), ([10, 13, 3], [7, 6]), ([5, 41, 4], [5, 41])]
    {
        let picks: Vec<_> = PICKS.into_iter().zip(holes).collect();
        gather::check(common::gpu(), common::preset(), source, target, &picks);
    }
}

/// A descriptor names a slab by its number in the store, wherever the slab was allocated.
#[test]
fn gather_takes_slabs_in_any_order() {
    gather::check(common::gpu(), common::preset(), [8, 8, 3], [8, 8], &PICKS.map(|pick| (pick, [0; 3])));
}

const BATCH: Statistics = Statistics::Batch { update: true };

#[test]
fn gradients_of_a_mixed_network() {
    networks::check(common::gpu(), common::preset(), &networks::Mixed, &[], BATCH);
    networks::check(common::gpu(), common::preset(), &networks::Mixed, &[], Statistics::Running);
}

#[test]
fn gradients_and_products_of_swishes_and_gates() {
    for statistics in [BATCH, Statistics::Running] {
        networks::check(common::gpu(), common::preset(), &networks::Bent, &[], statistics);
        networks::check_hessian(common::gpu(), common::preset(), &networks::Bent, statistics, 1e-5);
        networks::check_lost_weights(common::gpu(), common::preset(), &networks::Bent, statistics);
    }
}

#[test]
fn gradients_where_paths_are_dropped() {
    for statistics in [BATCH, Statistics::Running] {
        networks::check_dropped(common::gpu(), common::preset(), &networks::Mixed, statistics, 0.4);
    }
}

#[test]
fn weights_that_are_no_numbers_give_a_loss_that_is_none() {
    let gpu = common::gpu();
    for preset in [Preset::CPU, Preset::GPU].map(|preset| preset.fit(gpu.report())) {
        networks::check_lost_weights(gpu, preset, &networks::Mixed, BATCH);
        networks::check_lost_weights(gpu, preset, &networks::Mixed, Statistics::Running);
    }
}

#[test]
fn gradients_through_an_operation_from_outside() {
    for both in [true, false] {
        let model = custom::Outside { both, flaw: custom::Flaw::None };
        networks::check(common::gpu(), common::preset(), &model, &[], BATCH);
    }
}

#[test]
fn flawed_operations_from_outside_are_refused() {
    use custom::Flaw;
    let options = StepOptions { batch: 2, statistics: BATCH, smoothing: 0.0, update: None, gradients: true };
    for (flaw, says) in [
        (Flaw::Syntax, "pair"),
        (Flaw::TooManyInputs, "at most 7 inputs and outputs"),
        (Flaw::MissingGradient, "2 gradients, one per input"),
        (Flaw::ShapeOfGradient, "pair"),
    ] {
        let refused = build(&custom::Outside { both: true, flaw }, &options).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(says), "{flaw:?}: {refused}");
    }
}

const SMALL: Macro = Macro { channels: 4, cells: 1, in_channels: 3, height: 8, width: 8, classes: 5 };

#[test]
fn gradients_of_nas_bench_201() {
    for arch in ["303141", "234321", "412103"] {
        let model = Network::new(arch.parse().unwrap(), SMALL);
        networks::check(common::gpu(), common::preset(), &model, &[], BATCH);
    }
}

#[test]
fn products_with_the_hessian() {
    for arch in ["303141", "234321", "412103"] {
        let model = Network::new(arch.parse().unwrap(), SMALL);
        networks::check_hessian(common::gpu(), common::preset(), &model, BATCH, 1e-3);
        networks::check_hessian(common::gpu(), common::preset(), &model, Statistics::Running, 1e-3);
    }
}

/// The same through maximum pools of either stride, depthwise and dilated convolutions, and maps side by side.
#[test]
fn products_with_the_hessian_of_darts_cells() {
    let cells = "Genotype(normal=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 2), ('skip_connect', 0), \
                 ('dil_conv_3x3', 1), ('max_pool_3x3', 3), ('avg_pool_3x3', 0), ('sep_conv_5x5', 4)], \
                 reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 2), ('skip_connect', 1), \
                 ('dil_conv_5x5', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 3), ('max_pool_3x3', 2)])";
    let options = [("channels", 4), ("cells", 3)].map(|(name, value)| (name.to_owned(), value.into()));
    let build = Build {
        form: "cifar".into(),
        image: [8, 8],
        in_channels: 3,
        classes: 5,
        options: space::Options::from_iter(options),
    };
    let model = darts::family(build).unwrap().network(&Darts.parse(cells).unwrap()).unwrap();
    for statistics in [BATCH, Statistics::Running] {
        networks::check_hessian(common::gpu(), common::preset(), &*model, statistics, 1e-3);
    }
}

#[test]
fn gradients_of_a_path_of_the_supernet() {
    let path = Supernet::path(&"324113".parse().unwrap());
    networks::check(common::gpu(), common::preset(), &Supernet { sizes: SMALL }, &path, BATCH);
}
