//! `altiplano bench`

use std::io::{BufRead, Write};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::Global;
use crate::bench::corruptions::corruptions;
use crate::bench::items::{Item, names};
use crate::bench::suites::{Ceiling, Device, Line, Suites};
use crate::error::{Error, Result, unknown};

#[derive(clap::Args)]
pub(super) struct Args {
    /// kernels, step, population, corruptions or all.
    #[arg(long, default_value = "all")]
    suite: String,
    /// Samples of each time.
    #[arg(long, default_value_t = 9)]
    samples: usize,
    /// Time each shader of one item instead, by time stamps.
    #[arg(long)]
    profile: Option<String>,
    /// Answer `names`, `build ITEM`, `time ITEM REPS`, `drop ITEM` line by line, as peers/compare.py asks.
    #[arg(long)]
    serve: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    adapter: String,
    driver: String,
    preset: &'static str,
    ceiling: Ceiling,
    lines: Vec<Line>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.serve {
        return serve(global);
    }
    let known = ["kernels", "step", "population", "corruptions", "all"];
    if !known.contains(&args.suite.as_str()) {
        return Err(unknown("--suite", &args.suite, &known));
    }
    let (gpu, preset) = global.gpu()?;
    let suites = Suites::new(&gpu, preset, args.samples.max(1))?;
    if let Some(item) = &args.profile {
        let list = suites.profile(item)?;
        return global.print(&list, || {
            list.iter()
                .map(|(label, count, ms, gflops)| {
                    format!("{label:16} {count:4} dispatches {ms:9.3} ms {gflops:7.1} GFLOP/s\n")
                })
                .collect()
        });
    }
    let wanted = |suite: &str| args.suite == suite || args.suite == "all";
    let mut lines = vec![];
    if wanted("kernels") {
        lines.extend(suites.kernels()?);
    }
    if wanted("step") {
        lines.extend(suites.steps()?);
    }
    if wanted("population") {
        lines.extend(suites.populations()?);
        lines.extend(suites.proxies()?);
    }
    if wanted("corruptions") {
        lines.extend(corruptions(args.samples.max(1))?);
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        adapter: gpu.report().name.clone(),
        driver: gpu.report().driver.clone(),
        preset: preset.name,
        ceiling: suites.ceiling,
        lines,
    };
    global.print(&report, || {
        let mut text = format!(
            "{} ({}), preset {}\nceiling: {:.1} GFLOP/s of multiply-adds, {:.1} GB/s of copying\n",
            report.adapter, report.driver, report.preset, report.ceiling.gflops, report.ceiling.gbs
        );
        for l in &report.lines {
            let ratio = l.ratio.map(|r| format!("  ratio {r:.2}")).unwrap_or_default();
            let (median, min, max) = (l.time.median_ms, l.time.min_ms, l.time.max_ms);
            let time = format!("{median:9.3} ms ({min:.3} to {max:.3})");
            text += &match l.device {
                None => format!("{:11} {:22} {time}  {}{ratio}\n", l.suite, l.name, l.shape),
                Some(Device { gflops, share, dispatches, .. }) => format!(
                    "{:10} {:50} {time} {gflops:7.1} GFLOP/s {:4.0} %  {dispatches:4} dispatches{ratio}\n",
                    l.suite,
                    l.name,
                    100.0 * share,
                ),
            };
        }
        text
    })
}

/// One JSON answer per line.
fn serve(global: &Global) -> Result<()> {
    let start = Instant::now();
    let (gpu, preset) = global.gpu()?;
    let mut opening = start.elapsed().as_secs_f64();
    let mut built: Vec<(String, Item)> = vec![];
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io("read", "stdin"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["names"] => json!(names()),
            ["build", name] => {
                let start = Instant::now();
                match Item::build(&gpu, preset, name) {
                    Ok(item) => {
                        let opening = std::mem::take(&mut opening);
                        let first_s = start.elapsed().as_secs_f64() + opening;
                        let first_run_s = (item.first_run - start).as_secs_f64() + opening;
                        let answer = json!({ "check": item.check, "first_s": first_s, "first_run_s": first_run_s });
                        built.push((name.to_owned(), item));
                        answer
                    }
                    Err(error) => json!({ "error": error.to_string() }),
                }
            }
            ["time", name, reps] => {
                let item = built.iter().find(|(n, _)| n == name);
                match (item, reps.parse::<usize>()) {
                    (Some((_, item)), Ok(reps)) if reps > 0 => json!(item.time(reps)? * 1e3 / reps as f64),
                    _ => json!({ "error": "unknown item or number" }),
                }
            }
            ["drop", name] => {
                let before = built.len();
                built.retain(|(n, _)| n != name);
                Value::Bool(built.len() < before)
            }
            _ => json!({ "error": "expected names, build ITEM, time ITEM REPS or drop ITEM" }),
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(Error::io("write", "stdout"))?;
    }
    Ok(())
}
