//! `altiplano bench --wgsl FILE`: a kernel of the user's own. It runs in a process of its own, since a kernel may never end,
//! and may take its driver along.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::Args;
use crate::bench::ceiling::Ceiling;
use crate::bench::kernel::{Kernel, Timed};
use crate::cli::Global;
use crate::cli::progress::say;
use crate::error::{Error, Result};
use crate::kernels::Cost;

/// What the process that runs a kernel says on stderr before it does.
const STARTS: &str = "the kernel starts";
/// Seconds that all before may take.
const PREPARATION: u64 = 120;
/// More bytes than any shader has.
const MOST_BYTES: u64 = 4 << 20;

#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Time a kernel of your own instead: WGSL with one @compute entry point and buffers at @group(0) @binding(0), (1), ...
    #[arg(long, value_name = "FILE", requires = "grid", conflicts_with_all = ["suite", "item", "budget", "preset", "out", "plot", "force", "profile", "serve", "shaders"])]
    wgsl: Option<PathBuf>,
    /// Its workgroups.
    #[arg(long, value_name = "X,Y,Z", value_delimiter = ',', num_args = 1..=3, requires = "wgsl")]
    grid: Vec<u32>,
    /// Bytes of each of its buffers, in the order of the bindings; k, m and g stand for KiB, MiB and GiB.
    #[arg(long, value_name = "BYTES", num_args = 1.., requires = "wgsl")]
    buffer: Vec<String>,
    /// Arithmetic operations of one run, for its rate.
    #[arg(long, value_name = "N", requires = "wgsl", default_value_t = 0)]
    flops: u64,
    /// Bytes that one run must move, for its rate.
    #[arg(long, value_name = "N", requires = "wgsl", default_value_t = 0)]
    bytes: u64,
    /// Seconds after which a kernel counts as one that never ends.
    #[arg(long, value_name = "SECONDS", requires = "wgsl", default_value_t = 60)]
    limit: u64,
    /// Run in this process.
    #[arg(long, hide = true, requires = "wgsl")]
    alone: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    adapter: String,
    driver: String,
    ceiling: Ceiling,
    kernel: Timed,
}

impl Options {
    pub fn asked(&self) -> bool {
        self.wgsl.is_some()
    }
}

/// Bytes, with or without a unit.
fn bytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << unit)).filter(|n| *n > 0);
    value.ok_or_else(|| Error::invalid("--buffer", format!("`{text}` is no number of bytes such as 4096, 64k or 16m")))
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let options = &args.kernel;
    let Some(path) = &options.wgsl else { return Ok(()) };
    if !path.is_file() {
        return Err(Error::invalid("--wgsl", format!("{} is no file", path.display())));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Error::file(path, None, format!("is longer than {} MiB; no kernel is", MOST_BYTES >> 20)));
    }
    if options.grid.len() > 3 {
        return Err(Error::invalid("--grid", format!("{} numbers; expected X, X,Y or X,Y,Z", options.grid.len())));
    }
    let mut grid = [1; 3];
    options.grid.iter().zip(&mut grid).for_each(|(given, side)| *side = *given);
    let kernel = Kernel {
        name: path.display().to_string(),
        text,
        grid,
        buffers: options.buffer.iter().map(|text| bytes(text)).collect::<Result<_>>()?,
        cost: Cost { flops: options.flops, bytes: options.bytes },
    };
    let gpu = global.open()?;
    kernel.check(&gpu.report().limits)?;
    if !options.alone {
        drop(gpu);
        return in_another_process(global, options.limit, &kernel);
    }
    // Who started this holds the other end of stdin: without them nobody would end a kernel that does not end.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let ceiling = Ceiling::measure(&gpu, args.samples)?;
    // From here on the other process counts.
    say(STARTS);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        adapter: gpu.report().name.clone(),
        driver: gpu.report().driver.clone(),
        ceiling,
        kernel: kernel.time(&gpu, &ceiling, args.samples)?,
    };
    global.print(&report, String::new)
}

/// The same command once more, ended when its time is over; its JSON is printed as it is wanted here.
fn in_another_process(global: &Global, limit: u64, kernel: &Kernel) -> Result<()> {
    let own = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let mut child = Command::new(&own)
        .args(std::env::args_os().skip(1))
        .args(["--alone", "--json"].iter().filter(|option| !global.json || **option != "--json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("start", &own))?;
    // Pipes are emptied while the child runs, so that it never waits for that.
    let started = Arc::new(OnceLock::new());
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        let started = started.clone();
        std::thread::spawn(move || {
            let mut text = String::new();
            for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(|line| line.ok()) {
                if line == STARTS {
                    started.get_or_init(Instant::now);
                }
                text += &line;
                text.push('\n');
            }
            text
        })
    };
    let out = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let limit = limit.max(1);
    let begin = Instant::now();
    let over = || match started.get() {
        Some(start) => start.elapsed() > Duration::from_secs(limit),
        None => begin.elapsed() > Duration::from_secs(PREPARATION),
    };
    let status = loop {
        match child.try_wait().map_err(Error::io("wait for", &own))? {
            Some(status) => break Some(status),
            None if over() => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let [out, err] = [out, err].map(|thread| thread.join().unwrap_or_default());
    let fail =
        |why: String| Err(Error::Gpu { doing: format!("running {}", kernel.name), adapter: "the adapter".into(), why });
    match status {
        None => fail(format!("it did not end within {limit} s (--limit), and its process was ended")),
        Some(status) if !status.success() => {
            let message = err.lines().find_map(|line| line.strip_prefix("error: "));
            fail(message.map_or_else(|| format!("its process ended with {status}"), str::to_owned))
        }
        Some(_) => {
            let report: Value = serde_json::from_str(&out).map_err(|e| Error::invalid("--wgsl", e.to_string()))?;
            global.print(&report, || text_of(&report))
        }
    }
}

fn text_of(report: &Value) -> String {
    let kernel = &report["kernel"];
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let percent = |name: &str| 100.0 * number(&kernel[name]);
    format!(
        "{} ({})\nceiling: {:.1} GFLOP/s of multiply-adds, {:.1} GB/s of copying\n\
         {}: {:.4} ms ({:.4} to {:.4}), workgroups of {} lanes, grid {}\n\
         {:.1} GFLOP/s, {:.1} % of the ceiling; {:.1} GB/s, {:.1} % of copying\n\
         mean magnitude of what it may write: {}",
        report["adapter"].as_str().unwrap_or_default(),
        report["driver"].as_str().unwrap_or_default(),
        number(&report["ceiling"]["gflops"]),
        number(&report["ceiling"]["gbs"]),
        kernel["name"].as_str().unwrap_or_default(),
        number(&kernel["median_ms"]),
        number(&kernel["min_ms"]),
        number(&kernel["max_ms"]),
        kernel["interface"]["workgroup"],
        kernel["grid"],
        number(&kernel["gflops"]),
        percent("share"),
        number(&kernel["gbs"]),
        percent("copy_share"),
        kernel["written"],
    )
}
