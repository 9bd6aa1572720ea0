//! `altiplano train`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Global;
use super::args::Sizes;
use super::configuration::{Source, to_toml};
use super::place::{Outputs, data_place};
use super::progress::Display;
use super::tiles::{gpu_for_run, record};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::card::ModelCard;
use crate::nn::space::NetworkSpace;
use crate::nn::tensors;
use crate::report::folder::{Existing, RunFolder, TILES};
use crate::search::finals::{Final, Job, train_and_test};
use crate::space::Space;
use crate::train::feed::Resident;
use crate::train::step::Optimizer;
use crate::train::trainer::{Inheritance, Recipe, Setting};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sizes: Sizes,
    /// The architecture's name in its space.
    #[arg(long)]
    arch: Option<String>,
    /// `digits`, or a folder or archive (`altiplano data list`).
    #[arg(long)]
    data: Option<String>,
    #[command(flatten)]
    training: Training,
    /// Folder for results; must not exist.
    #[arg(long)]
    out: PathBuf,
    /// Weights to start from: a model, or a supernet's.
    #[arg(long)]
    from: Option<PathBuf>,
    /// TOML file with any of the numbers of config.toml.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Go on with the run in the folder, as it was begun.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Overwrite the run in the folder.
    #[arg(long)]
    force: bool,
}

/// Options of every command that trains.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Training {
    /// Passes over the training images.
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Images per step.
    #[arg(long)]
    pub batch: Option<usize>,
    /// sgd, sam or asam.
    #[arg(long)]
    pub optimizer: Option<String>,
    /// Learning rate.
    #[arg(long)]
    pub lr: Option<f64>,
    /// Momentum.
    #[arg(long)]
    pub momentum: Option<f64>,
    /// Weight decay.
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Learn from images that PGD has moved: pgd:EPS:STEPS[:STEP], such as pgd:8/255:7:2/255; lengths of pixels in 0..1.
    #[arg(long)]
    pub adversarial: Option<String>,
    /// Radius of SAM (default 0.05) or ASAM (default 2).
    #[arg(long)]
    pub rho: Option<f64>,
}

impl Training {
    /// Puts the given options into a recipe.
    pub fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if let Some(text) = &self.optimizer {
            recipe.optimizer = text.parse()?;
            recipe.rho = recipe.optimizer.default_rho();
        }
        let Training { epochs, batch, lr, momentum, weight_decay, rho, .. } = self;
        epochs.iter().for_each(|v| recipe.epochs = *v);
        batch.iter().for_each(|v| recipe.batch = *v);
        lr.iter().for_each(|v| recipe.lr = *v);
        momentum.iter().for_each(|v| recipe.momentum = *v);
        weight_decay.iter().for_each(|v| recipe.weight_decay = *v);
        rho.iter().for_each(|v| recipe.rho = *v);
        if let Some(text) = &self.adversarial {
            recipe.adversarial = Some(text.parse()?);
        }
        Ok(())
    }
}

/// Everything that decides a training; written as `config.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainConfig {
    space: String,
    arch: String,
    data: String,
    seed: u64,
    channels: usize,
    cells: usize,
    image: [usize; 2],
    training: Recipe,
}

#[derive(Serialize)]
struct TrainResult {
    method: &'static str,
    space: String,
    arch: String,
    params: u64,
    macs: u64,
    dataset: String,
    seed: u64,
    device: String,
    seconds: f64,
    #[serde(rename = "final")]
    trained: Final,
}

impl Args {
    fn config(&self, source: &Source, data: &Dataset, name: &str) -> Result<TrainConfig> {
        let side = (data.train.height, data.train.width);
        let small = side.0.max(side.1) < 16;
        let mut training = Recipe::usual(Optimizer::Sgd, if small { 40 } else { 30 }, side.0);
        if data.train.len() < 4_000 {
            training.batch = 32;
        }
        let image = (side.0 / 4 * 4, side.1 / 4 * 4);
        let default = TrainConfig {
            space: self.sizes.space.clone(),
            arch: String::new(),
            data: name.to_owned(),
            seed: source.global.seed,
            channels: if small { 8 } else { 16 },
            cells: 1,
            image: [image.0, image.1],
            training,
        };
        let mut config = source.merged(default)?;
        self.arch.iter().for_each(|v| config.arch.clone_from(v));
        self.training.apply(&mut config.training)?;
        let sizes = self.sizes.for_data(data, config.channels, config.cells, (config.image[0], config.image[1]))?.sizes;
        (config.channels, config.cells, config.image) = (sizes.channels, sizes.cells, [sizes.height, sizes.width]);
        Ok(config)
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let source = Source { global, out: Some(&args.out), resume: args.resume, file: args.config.as_deref() };
    let (config, data) = source.configuration(args.data.as_deref(), &|data, name| args.config(&source, data, name))?;
    if config.arch.is_empty() {
        return Err(Error::invalid("--arch", "is needed: the architecture's name in its space"));
    }
    let sizes = Sizes { image: Some((config.image[0], config.image[1])), ..args.sizes.clone() };
    let space = sizes.for_data(&data, config.channels, config.cells, (config.image[0], config.image[1]))?;
    let arch = space.parse(&config.arch)?;
    config.training.validate(data.train.len())?;
    let inherited = args.from.as_deref().map(tensors::load).transpose()?;
    // A supernet names weights by operation; other files have the network's names.
    let name = |own: &str| space.inherited(own, &arch);
    Outputs::new(&[data_place(&config.data), args.from.as_deref()]).folder("--out", &args.out, None)?;
    let (gpu, preset) = gpu_for_run(global, &args.out, args.resume)?;
    let existing = match (args.resume, args.force) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Force,
        _ => Existing::Refuse,
    };
    let folder = RunFolder::create(&args.out, existing)?;
    folder.write(TILES, &record(preset)?)?;
    folder.write("config.toml", to_toml(&config)?.as_bytes())?;
    let statistics = data.train.channel_statistics();
    let resident = Resident::new(&gpu, &data.train)?;
    let setting = Setting { gpu: &gpu, preset, data: &resident, statistics: &statistics };
    let model = space.network(&arch);
    let sizes = [space.sizes.channels, space.sizes.cells];
    let card = ModelCard::of(&config.space, &arch.to_string(), sizes, &*model, &data.train.class_names);
    let mut display = Display::new(global)?;
    let job = Job {
        model: &*model,
        recipe: &config.training,
        card: &card,
        inherit: inherited.as_ref().map(|(from, _)| Inheritance { from, name: &name }),
        attacks: &[],
        stage: ("training", 0.0, 1.0),
    };
    let trained = train_and_test(&setting, &job, &data, config.seed, &folder, &mut |event| display.event(event));
    display.finish();
    let trained = match trained {
        Ok(trained) => trained,
        Err(error) => {
            folder.abandon();
            return Err(error);
        }
    };
    let result = TrainResult {
        method: "train",
        space: config.space.clone(),
        arch: arch.to_string(),
        params: space.params(&arch),
        macs: space.macs(&arch),
        dataset: data.name.clone(),
        seed: config.seed,
        device: format!("{} ({})", gpu.report().name, gpu.report().driver),
        seconds: folder.seconds(),
        trained,
    };
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid("result.json", e.to_string()))?;
    folder.write("result.json", &json)?;
    global.print(&result, || {
        let t = &result.trained;
        format!(
            "{}\n{} parameters, trained {} epochs with {} on {} images\naccuracy {:.2} % on {} test images (loss {:.4}), {:.2} % on the last training epoch\n{}model: {}",
            result.arch,
            result.params,
            t.epochs,
            t.optimizer,
            t.training_images,
            100.0 * t.clean_accuracy,
            t.test_images,
            t.clean_loss,
            100.0 * t.training.accuracy,
            t.lines(),
            args.out.join("best.safetensors").display(),
        )
    })
}
