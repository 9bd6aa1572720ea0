//! `altiplano step`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Global;
use super::args::Sizes;
use super::place::{FORCE, Outputs};
use super::progress::note;
use crate::error::{Error, Result};
use crate::graph::Statistics;
use crate::nn::tensors::{load, to_bytes};
use crate::nn::weights::Weights;
use crate::report::folder::atomic_write;
use crate::train::single;
use crate::train::step::{Optimizer, Rates, StepOptions, Update};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sizes: Sizes,
    /// The architecture's name in its space.
    #[arg(long)]
    arch: String,
    /// Weights and running statistics (safetensors, the authors' names).
    #[arg(long)]
    weights: PathBuf,
    /// Batch: `x` f32 N,C,H,W, normalised; `y` i64.
    #[arg(long)]
    batch: PathBuf,
    /// train (statistics of the batch) or eval (running statistics).
    #[arg(long, default_value = "eval")]
    mode: String,
    /// Also gradients.
    #[arg(long)]
    grads: bool,
    /// Also an update: sgd, sam or asam.
    #[arg(long)]
    optimizer: Option<String>,
    /// Learning rate.
    #[arg(long, default_value_t = 0.1)]
    lr: f64,
    /// Momentum (the first step has none to go by).
    #[arg(long, default_value_t = 0.9)]
    momentum: f64,
    /// Weight decay.
    #[arg(long, default_value_t = 0.0)]
    weight_decay: f64,
    /// Radius of SAM or ASAM.
    #[arg(long)]
    rho: Option<f64>,
    /// Label smoothing.
    #[arg(long, default_value_t = 0.0)]
    smoothing: f64,
    /// Nesterov momentum.
    #[arg(long)]
    nesterov: bool,
    /// Where the tensors go (safetensors).
    #[arg(long)]
    out: PathBuf,
    /// Replace the file of --out.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    loss: f32,
    accuracy: f32,
    seconds: f64,
    #[serde(serialize_with = "crate::error::serialize_path")]
    file: PathBuf,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.sizes.space.is_some() {
        args.sizes.space(global)?;
    }
    let mut outputs = Outputs::new(&[Some(&args.weights), Some(&args.batch)]);
    outputs.file("--out", Some(&args.out), &["safetensors"], (!args.force).then_some(FORCE))?;
    let weights = Weights::read(&args.weights)?;
    weights.notes.iter().for_each(|text| note(global, &format!("--weights: {text}")));
    let (batch, _) = load(&args.batch)?;
    let x = batch.get("x").ok_or_else(|| Error::file(&args.batch, None, "there is no tensor `x`"))?;
    let [n, c, h, w] = x.dims[..] else {
        return Err(Error::file(&args.batch, None, format!("`x` has axes {:?}, expected N, C, H, W", x.dims)));
    };
    // What the weights and the batch say goes before the benchmark's own sizes.
    let family = args.sizes.for_weights(global, Some(&weights), None, Some([h, w, c]))?;
    let arch = family.parse(&args.arch)?;
    let statistics = match args.mode.as_str() {
        "train" => Statistics::Batch { update: true },
        "eval" => Statistics::Running,
        other => return Err(crate::error::unknown("--mode", other, &["train", "eval"])),
    };
    let optimizer = args.optimizer.as_deref().map(str::parse::<Optimizer>).transpose()?;
    let update = optimizer.map(|optimizer| Update { optimizer, nesterov: args.nesterov, ..Update::default() });
    let options = StepOptions { batch: n, statistics, smoothing: args.smoothing as f32, update, gradients: args.grads };
    let rates = Rates {
        rate: args.lr,
        momentum: args.momentum,
        decay: args.weight_decay,
        statistics_momentum: 0.1,
        rho: args.rho.unwrap_or_else(|| optimizer.unwrap_or_default().default_rho()),
        ..Rates::default()
    };
    let (gpu, preset) = global.gpu()?;
    let model = family.network(&arch)?;
    let cut = family.cut(&weights.named, &arch);
    let cut = cut.map_err(|error| Error::file(&args.weights, None, error.to_string()))?;
    let outcome = single::run(&gpu, preset, &*model, &options, &rates, &cut.unwrap_or(weights.named), &batch)?;
    if !outcome.loss.is_finite() {
        let at = "this step".into();
        return Err(Error::NotFinite { what: "the loss".into(), value: outcome.loss, at });
    }
    atomic_write(&args.out, &to_bytes(&outcome.tensors, BTreeMap::new())?)?;
    let answer =
        Answer { loss: outcome.loss, accuracy: outcome.accuracy, seconds: outcome.seconds, file: args.out.clone() };
    global.print(&answer, || {
        format!(
            "loss {}, accuracy {:.2} %, {:.1} ms\ntensors: {}",
            answer.loss,
            100.0 * answer.accuracy,
            1e3 * answer.seconds,
            answer.file.display()
        )
    })
}
