//! `altiplano search --dry-run`: what a search would take, by its arithmetic and by how fast the adapter at hand is.

use serde::Serialize;

use crate::bench::items::Item;
use crate::bench::work;
use crate::cli::Global;
use crate::cli::configuration::to_toml;
use crate::cli::progress::duration;
use crate::error::Result;
use crate::kernels::Lowering;
use crate::search::budget::{ArmWork, Work};
use crate::search::config::SearchConfig;

/// The training step by which the adapter is timed: of NAS-Bench-201 cells of 16 channels, 32 pictures of 32x32.
const ITEM: &str = "train_conv3_n1";
/// Steps of which the fastest counts.
const STEPS: usize = 3;

/// How fast the adapter is.
#[derive(Serialize)]
struct Measured {
    device: String,
    /// A training step as `altiplano bench` has it.
    item: &'static str,
    gflops: f64,
    /// What the search takes at that rate.
    seconds: f64,
}

#[derive(Serialize)]
struct Plan<'a> {
    config: &'a SearchConfig,
    #[serde(flatten)]
    work: &'a Work,
    /// None without an adapter.
    measured: Option<Measured>,
}

/// Times a training step. Networks with fewer channels, or with depthwise convolutions, reach less.
fn measure(global: &Global, work: &Work) -> Result<Measured> {
    let (gpu, preset) = global.gpu()?;
    let step = work::Work::named(ITEM)?;
    let flops: u64 = Lowering::of(&step.graph, preset).calls.iter().map(|call| call.cost_on(&step.path).flops).sum();
    let item = Item::build(&gpu, preset, ITEM)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..STEPS {
        fastest = fastest.min(item.time(1)?);
    }
    let gflops = flops as f64 / fastest.max(1e-9) / 1e9;
    Ok(Measured { device: gpu.report().name.clone(), item: ITEM, gflops, seconds: work.gflop / gflops })
}

/// Prints the numbers of a search and what they cost.
///
/// # Errors
/// If the configuration cannot be written down.
pub(super) fn print(global: &Global, config: &SearchConfig, work: &Work) -> Result<()> {
    let toml = to_toml(config)?;
    // What a search would take can be asked where it cannot run.
    let measured = measure(global, work);
    if let Err(error) = &measured {
        log::warn!("the adapter was not timed: {error}");
    }
    let plan = Plan { config, work, measured: measured.ok() };
    global.print(&plan, || {
        let arm = |arm: &ArmWork| {
            format!("# arm {}: {} candidates of {:.0} forward images each\n", arm.arm, arm.candidates, arm.images_per_candidate)
        };
        let here = plan.measured.as_ref().map_or_else(String::new, |measured| {
            let Measured { device, gflops, seconds, .. } = measured;
            format!("\n# {} here: {device} takes a training step at {gflops:.1} GFLOP/s", duration(*seconds))
        });
        format!(
            "{toml}\n# {} supernet steps\n{}# {} networks of {} training steps at the end\n# about {:.0} GFLOP: {} at 10 GFLOP/s (a \
             software adapter), {} at 1 TFLOP/s{here}",
            work.supernet_steps,
            work.arms.iter().map(arm).collect::<String>(),
            work.networks,
            work.training_steps,
            work.gflop,
            duration(work.seconds_at_10_gflops),
            duration(work.seconds_at_1000_gflops),
        )
    })
}
