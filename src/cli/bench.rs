//! `altiplano bench`: suites, single items, one's own kernel, and the shaders themselves.

mod kernel;
mod serve;
mod shaders;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Global;
use super::place::{FORCE, Outputs};
use crate::bench::ceiling::Ceiling;
use crate::bench::corruptions::corruptions;
use crate::bench::suites::{Device, Line, Suites};
use crate::bench::work::Work;
use crate::error::{Error, Result, unknown};
use crate::gpu::Gpu;
use crate::kernels::Preset;
use crate::report::folder::atomic_write;
use crate::report::roofline::roofline;

#[derive(clap::Args)]
pub(super) struct Args {
    /// machine (ceilings alone), kernels, step, resnet50, population, elastic, streaming, corruptions or all; several with commas.
    /// `all` leaves ResNet-50 and batches of 128 to GPUs.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    suite: Vec<String>,
    /// Time these items instead of a suite, such as train_conv3_n5_b128.
    #[arg(long, value_delimiter = ',', num_args = 1.., conflicts_with = "suite")]
    item: Vec<String>,
    /// Most samples of each time; what takes seconds has enough with three.
    #[arg(long, default_value_t = 9)]
    samples: usize,
    /// Begin nothing new after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    budget: Option<f64>,
    /// Tiles of this preset, cpu or gpu, instead of the adapter's.
    #[arg(long)]
    preset: Option<String>,
    /// Write the results into this file too, anew after each line.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Draw the results as a roofline.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// Time each shader of one item instead, by time stamps.
    #[arg(long, value_name = "ITEM", conflicts_with_all = ["suite", "item", "budget", "out", "plot", "force"])]
    profile: Option<String>,
    /// Answer `names`, `build ITEM`, `time ITEM REPS`, `drop ITEM` line by line, as peers/compare.py asks.
    #[arg(long, conflicts_with_all = ["suite", "item", "samples", "budget", "out", "plot", "force", "profile"])]
    serve: bool,
    /// Write WGSL and SPIR-V of every variant, and an index, into a new folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["suite", "item", "samples", "budget", "out", "plot", "force", "profile", "serve"])]
    shaders: Option<PathBuf>,
    #[command(flatten)]
    kernel: kernel::Options,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    adapter: String,
    driver: String,
    backend: String,
    preset: &'static str,
    /// Whether all that was asked for is there; false where --budget ended it.
    complete: bool,
    ceiling: Ceiling,
    lines: Vec<Line>,
}

impl Args {
    /// The preset of this name, if one is given.
    fn named_preset(&self) -> Result<Option<Preset>> {
        let all = [Preset::CPU, Preset::GPU];
        let find = |name: &String| {
            let known = all.iter().find(|preset| preset.name == name).copied();
            known.ok_or_else(|| unknown("--preset", name, &all.map(|preset| preset.name)))
        };
        self.preset.as_ref().map(find).transpose()
    }

    /// The adapter and the preset to use on it.
    fn gpu(&self, global: &Global) -> Result<(Gpu, Preset)> {
        let (gpu, own) = global.gpu()?;
        let preset = self.named_preset()?.map_or(own, |preset| preset.fit(gpu.report()));
        Ok((gpu, preset))
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let known = ["machine", "kernels", "step", "resnet50", "population", "elastic", "streaming", "corruptions", "all"];
    if let Some(other) = args.suite.iter().find(|suite| !known.contains(&suite.as_str())) {
        return Err(unknown("--suite", other, &known));
    }
    if args.budget.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 1e6)) {
        return Err(Error::invalid("--budget", "expected a number of seconds above 0, and at most a million"));
    }
    if let Some(folder) = &args.shaders {
        return shaders::run(global, folder, args.named_preset()?.unwrap_or(Preset::GPU));
    }
    if args.kernel.asked() {
        return kernel::run(global, args);
    }
    for item in args.item.iter().chain(&args.profile) {
        Work::named(item)?;
    }
    let refuse = if args.force { None } else { Some(FORCE) };
    let mut places = Outputs::new(&[]);
    places.file("--out", args.out.as_deref(), &["json"], refuse)?;
    places.file("--plot", args.plot.as_deref(), &["svg"], refuse)?;
    let (gpu, preset) = args.gpu(global)?;
    if args.serve {
        return serve::run(&gpu, preset);
    }
    let start = Instant::now();
    let suites = Suites::new(&gpu, preset, args.samples.max(1))?;
    if let Some(item) = &args.profile {
        let list = suites.profile(item)?;
        return global.print(&list, || {
            list.iter()
                .map(|t| {
                    let (shader, dispatches, ms) = (&t.shader, t.dispatches, t.ms);
                    format!(
                        "{shader:22} {dispatches:4} dispatches {ms:9.3} ms {:7.1} GFLOP/s {:7.1} GB/s\n",
                        t.gflops, t.gbs
                    )
                })
                .collect()
        });
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        adapter: gpu.report().name.clone(),
        driver: gpu.report().driver.clone(),
        backend: gpu.report().backend.clone(),
        preset: preset.name,
        complete: true,
        ceiling: suites.ceiling,
        lines: vec![],
    };
    measure(args, &suites, &mut report, start)?;
    write(args.out.as_deref(), &report)?;
    if let Some(path) = &args.plot {
        atomic_write(path, plot(&report).as_bytes())?;
    }
    global.print(&report, || text(&report))
}

/// Runs what is wanted, keeping the file of results up to date.
fn measure(args: &Args, suites: &Suites, report: &mut Report, start: Instant) -> Result<()> {
    let limit = args.budget.map(Duration::from_secs_f64);
    let goes_on = || limit.is_none_or(|limit| start.elapsed() < limit);
    let named = |suite: &str| args.suite.iter().any(|own| own == suite);
    let wanted = |suite: &str| args.item.is_empty() && (named(suite) || named("all"));
    // What a software adapter does in a minute or more is left to those who ask for it by name.
    let resnet = named("resnet50") || !suites.adapter().is_software();
    // What is not known to be all is not complete, also if this process is ended from outside.
    report.complete = false;
    write(args.out.as_deref(), report)?;
    let mut skipped = false;
    let mut sink = |line: Line| {
        log::info!("{} {}: {:.3} ms", line.suite, line.name, line.time.median_ms);
        report.lines.push(line);
        write(args.out.as_deref(), report)?;
        Ok(goes_on())
    };
    for name in &args.item {
        skipped |= !goes_on();
        if !skipped {
            sink(suites.item("items", name)?)?;
        }
    }
    for suite in ["step", "resnet50", "kernels", "population", "elastic", "streaming", "corruptions"] {
        if !wanted(suite) || (suite == "resnet50" && !resnet) {
            continue;
        }
        skipped |= !goes_on();
        if skipped {
            break;
        }
        let whole = match suite {
            "step" => suites.steps(&mut sink)?,
            "resnet50" => suites.resnet(&mut sink)?,
            "kernels" => suites.kernels(&mut sink)?,
            "population" => suites.populations(&mut sink)? && suites.proxies(&mut sink)?,
            "elastic" => suites.paths(&mut sink)?,
            "streaming" => suites.streaming(&mut sink)?,
            _ => corruptions(args.samples.max(1), &mut sink)?,
        };
        skipped |= !whole;
    }
    report.complete = !skipped;
    Ok(())
}

fn write(out: Option<&Path>, report: &Report) -> Result<()> {
    let Some(path) = out else { return Ok(()) };
    let json = serde_json::to_string_pretty(report).map_err(|e| Error::invalid("--out", e.to_string()))?;
    atomic_write(path, (json + "\n").as_bytes())
}

fn plot(report: &Report) -> String {
    let points = report.lines.iter().filter_map(|line| {
        let device = line.device?;
        Some((format!("{} ({})", line.name, line.shape), device.flops_per_byte, device.gflops))
    });
    let title = format!("{} ({}), preset {}", report.adapter, report.driver, report.preset);
    roofline(&title, report.ceiling.gflops, report.ceiling.gbs, &points.collect::<Vec<_>>())
}

fn text(report: &Report) -> String {
    let c = &report.ceiling;
    let mut text = format!(
        "{} ({}), preset {}\n\
         ceiling: {:.1} GFLOP/s of multiply-adds, {:.1} GB/s of copying {} MiB, {:.1} GB/s of copying {} MiB\n\
         an empty dispatch: {:.2} us behind another on one slab, {:.2} on two in turns, {:.2} only reading\n\
         the host: {:.2} us to record and submit a dispatch, {:.2} us to write a few words\n",
        report.adapter,
        report.driver,
        report.preset,
        c.gflops,
        c.gbs,
        c.copied_bytes >> 20,
        c.cached_gbs,
        c.cached_bytes >> 20,
        c.gap_us,
        c.gap_alternating_us,
        c.gap_reading_us,
        c.encode_us,
        c.write_us,
    );
    for l in &report.lines {
        let ratio = l.ratio.map(|r| format!("  ratio {r:.2}")).unwrap_or_default();
        let (median, min, max) = (l.time.median_ms, l.time.min_ms, l.time.max_ms);
        let time = format!("{median:9.3} ms ({min:.3} to {max:.3})");
        text += &match &l.device {
            None => format!("{:11} {:22} {time}  {}{ratio}\n", l.suite, l.name, l.shape),
            Some(Device { gflops, share, gbs, copy_share, dispatches, .. }) => format!(
                "{:10} {:50} {time} {gflops:7.1} GFLOP/s {:4.0} % {gbs:7.1} GB/s {:4.0} %  {dispatches:4} dispatches{ratio}\n",
                l.suite,
                l.name,
                100.0 * share,
                100.0 * copy_share,
            ),
        };
    }
    if !report.complete {
        text += "not complete: --budget was used up\n";
    }
    text
}
