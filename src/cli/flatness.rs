//! `altiplano flatness`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::Global;
use super::inputs::ReadingArgs;
use super::model::{ModelArgs, Trained, check_loss};
use crate::data::Identity;
use crate::error::{Error, Result, unknown};
use crate::graph::{Graph, Noise, Role, Statistics};
use crate::measure::flatness::{flatnas_robustness, genas_flatness};
use crate::measure::forward::{Forward, Score, Subject, graph};
use crate::measure::noise::Perturbation;
use crate::train::stores::Stores;
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// `digits`, or a folder or archive; its test images are used.
    #[arg(long)]
    data: String,
    #[command(flatten)]
    reading: ReadingArgs,
    /// add (w + sigma z) or mul (w + sigma w z).
    #[arg(long, default_value = "mul")]
    noise: String,
    /// Deviations, rising.
    #[arg(long, value_delimiter = ',', default_value = "0.01,0.02,0.05,0.1")]
    sigmas: Vec<f64>,
    /// Draws per deviation.
    #[arg(long, default_value_t = 20)]
    draws: usize,
    /// Images to use at most; all if left out.
    #[arg(long)]
    images: Option<usize>,
}

#[derive(Serialize)]
struct Level {
    sigma: f64,
    loss: f64,
    accuracy: f64,
    /// Standard deviation of the loss over draws.
    loss_deviation: f64,
    /// FlatNAS's robustness at this deviation, percent points.
    r: f64,
}

#[derive(Serialize)]
struct Answer {
    /// The model and the data.
    inputs: BTreeMap<&'static str, Identity>,
    noise: &'static str,
    draws: usize,
    images: usize,
    clean: Score,
    profile: Vec<Level>,
    /// FlatNAS's R at the last deviation, percent points.
    r: f64,
    /// GeNAS's measure with the true loss at zero.
    fbs: f64,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let (noise, name) = match args.noise.as_str() {
        "add" => (Noise::Additive, "add"),
        "mul" => (Noise::Multiplicative, "mul"),
        other => return Err(unknown("--noise", other, &["add", "mul"])),
    };
    let rising = args.sigmas.windows(2).all(|pair| pair[0] < pair[1]);
    if args.sigmas.is_empty() || !rising || args.sigmas.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(Error::invalid("--sigmas", "must be positive and rising, such as 0.01,0.05"));
    }
    if args.draws == 0 || args.images == Some(0) {
        return Err(Error::invalid("--draws and --images", "must be at least 1"));
    }
    let data = args.model.load_data(global, &args.data, &args.reading)?;
    let Trained { model, named, statistics } = args.model.open(global, &data)?;
    let test = data.test.reveal_for_final_evaluation();
    let (gpu, preset) = global.gpu()?;
    let supply = Supply::new(&gpu, test)?;
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };
    let count = args.images.unwrap_or(test.len()).min(test.len());
    let images: Vec<usize> = (0..count).collect();
    let batch = count.clamp(1, 64);
    let pass: Arc<Graph> = graph(&*model, batch, Statistics::Running)?;
    let stores = Stores::new(&gpu, &pass, 1)?;
    stores.load(0, &named)?;
    let running = (stores.of(Role::Running)?.clone(), 0);
    let weights = stores.of(Role::Weights)?.clone();
    let subject = |weights| Subject { weights, running: running.clone(), path: vec![] };
    let clean = Forward::new(&setting, batch, &pass, &[subject((weights.clone(), 0))])?;
    let clean = clean.evaluate_wait(&images)?[0];
    check_loss(clean, "the weights without noise")?;
    let maker = Perturbation::new(&gpu, preset, &[(weights, 0)], args.draws, noise)?;
    let subjects: Vec<Subject> = (0..args.draws).map(|draw| subject(maker.copy(0, draw))).collect();
    let noisy = Forward::new(&setting, batch, &pass, &subjects)?;
    let mut profile = vec![];
    for (level, &sigma) in args.sigmas.iter().enumerate() {
        maker.submit(global.seed, (level * args.draws) as u32, sigma)?;
        let scores = noisy.evaluate_wait(&images)?;
        let mean = |f: &dyn Fn(&Score) -> f64| scores.iter().map(f).sum::<f64>() / scores.len() as f64;
        let loss = mean(&|s| s.loss);
        profile.push(Level {
            sigma,
            loss,
            accuracy: mean(&|s| s.accuracy),
            loss_deviation: mean(&|s| (s.loss - loss).powi(2)).sqrt(),
            r: flatnas_robustness(clean, &scores),
        });
    }
    let losses: Vec<f64> = profile.iter().map(|l| l.loss).collect();
    let answer = Answer {
        inputs: BTreeMap::from([("data", data.identity()?), ("model", Identity::of_file(&args.model.model)?)]),
        noise: name,
        draws: args.draws,
        images: count,
        clean,
        r: profile.last().map_or(0.0, |l| l.r),
        fbs: genas_flatness(&args.sigmas, &losses, Some(clean.loss), 1.0),
        profile,
    };
    global.print(&answer, || {
        let mut text = format!(
            "{} test images, {} draws of {} noise\n  sigma      loss  (+-)      accuracy  R\n  0      {:>8.4}            {:>6.2} %\n",
            answer.images,
            answer.draws,
            if name == "mul" { "multiplicative" } else { "additive" },
            clean.loss,
            100.0 * clean.accuracy
        );
        for l in &answer.profile {
            text += &format!(
                "  {:<6} {:>8.4}  {:<8.4}  {:>6.2} %  {:.2} points\n",
                l.sigma,
                l.loss,
                l.loss_deviation,
                100.0 * l.accuracy,
                l.r
            );
        }
        text + &format!("GeNAS's flatness {:.5} (true loss at zero)", answer.fbs)
    })
}
