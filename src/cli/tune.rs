//! `altiplano tune`

use std::path::PathBuf;

use serde::Serialize;

use super::Global;
use super::progress::Display;
use super::tiles::cache_folder;
use crate::bench::tune::{ITEMS, tune};
use crate::bench::tuning::Tuning;
use crate::error::{Error, Result};
use crate::gpu::adapters;
use crate::kernels::Preset;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Samples of each tile's time.
    #[arg(long, default_value_t = 9)]
    samples: usize,
    /// Benchmark items to time, such as train_mixed_n5.
    #[arg(long, value_delimiter = ',', default_values_t = ITEMS.map(String::from))]
    items: Vec<String>,
    /// Forget the tiles of this adapter instead.
    #[arg(long)]
    reset: bool,
}

#[derive(Serialize)]
struct Report {
    /// Where the tiles are kept.
    #[serde(serialize_with = "crate::error::serialize_path")]
    file: PathBuf,
    #[serde(flatten)]
    tuning: Tuning,
}

#[derive(Serialize)]
struct Reset {
    #[serde(serialize_with = "crate::error::serialize_path")]
    file: PathBuf,
    removed: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let folder = cache_folder().ok_or_else(|| {
        Error::invalid("ALTIPLANO_CACHE", "is needed: a folder for the tiles, as no home folder is known")
    })?;
    if args.reset {
        let choice = pollster::block_on(adapters(global.device.as_deref()))?;
        let chosen = choice.adapters.iter().find(|adapter| adapter.chosen);
        let chosen = chosen.ok_or_else(|| Error::Adapter(choice.why.clone()))?;
        let reset = Reset { file: Tuning::path(&folder, chosen), removed: Tuning::remove(&folder, chosen)? };
        return global.print(&reset, || match reset.removed {
            true => format!("removed {}", reset.file.display()),
            false => format!("there are no tuned tiles of {} ({})", chosen.name, chosen.driver),
        });
    }
    if global.checked {
        return Err(Error::invalid("--checked", "checks cost time of their own; tune without"));
    }
    let gpu = global.open()?;
    let mut display = Display::new(global)?;
    let items: Vec<&str> = args.items.iter().map(String::as_str).collect();
    let preset = Preset::for_adapter(gpu.report());
    let tuning = tune(&gpu, preset, &items, args.samples.max(1), &mut |event| display.event(event));
    display.finish();
    let tuning = tuning?;
    let report = Report { file: tuning.save(&folder)?, tuning };
    global.print(&report, || text(&report))
}

fn text(report: &Report) -> String {
    let t = &report.tuning;
    let mut text = format!("{} ({}, {})\n", t.adapter, t.driver, t.backend);
    text += &format!("one step of {}; tiles as positions x blocks of four channels\n", t.items.join(" and "));
    for trial in &t.trials {
        let time = match (trial.median_ms, trial.ratio) {
            (Some(ms), Some(ratio)) => format!("{ms:10.3} ms  ratio {ratio:.3}"),
            _ => format!("{:>10} ms  ratio {:>5}", "-", "-"),
        };
        text += &format!("{:9}  {:>4}  {time}  {}\n", trial.kind.to_string(), trial.tile.to_string(), trial.verdict);
    }
    let (windowed, pointwise) = (t.preset.windowed, t.preset.pointwise);
    text + &format!("from now on: windowed {windowed}, pointwise {pointwise}\nkept in {}", report.file.display())
}
