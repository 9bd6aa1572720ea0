//! `altiplano train`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Global;
use super::args::{Sizes, image_info};
use super::configuration::{Configured, FILE, Source, table, with_record};
use super::inputs::{ReadingArgs, Record};
use super::model::UNNAMED;
use super::progress::note;
use super::report;
use super::run::{Place, in_folder, quoted};
use crate::data::{Dataset, Identity, Reading, absolute};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::measure::judge::{Final, JUDGED_IMAGES, Judging};
use crate::measure::judged::Judged;
use crate::measure::mistakes::Mistake;
use crate::measure::trial::{Contestant, Outcome, Trial, training_images};
use crate::nn::card::ModelCard;
use crate::nn::space::{Build, Family, Purpose};
use crate::nn::tensors::Named;
use crate::nn::weights::{Classes, Weights, differing_classes};
use crate::nn::{auxiliary_classifiers, classifier, trained_graph};
use crate::progress::Share;
use crate::report::folder::{AGAIN, MISTAKES, REPORT, RESULT, RunFolder, START};
use crate::report::number;
use crate::space::Arch;
use crate::train::feed::Augmentation;
use crate::train::step::Optimizer;
use crate::train::supply::Supply;
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
    reading: ReadingArgs,
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
    /// Train on so many images, chosen by the seed, instead of all.
    #[arg(long)]
    images: Option<usize>,
    /// Go on with the run in the folder, as it was begun.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// With --resume: refuse another version, adapter, driver or tiles than the run began with.
    #[arg(long, requires = "resume")]
    strict: bool,
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
    /// Whether momentum looks ahead (DARTS: false).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub nesterov: Option<bool>,
    /// Weight decay.
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Learn from images that PGD has moved: pgd:EPS:STEPS[:STEP], such as pgd:8/255:7:2/255; lengths of pixels in 0..1.
    #[arg(long)]
    pub adversarial: Option<String>,
    /// Radius of SAM (default 0.05) or ASAM (default 2).
    #[arg(long)]
    pub rho: Option<f64>,
    /// Side in pixels of a square that is cut out of each image (DARTS: 16); 0 for none.
    #[arg(long, value_name = "SIDE")]
    pub cutout: Option<u8>,
    /// Drop paths of cells with a probability that rises to this one (DARTS: 0.2); 0 for none.
    #[arg(long, value_name = "PROBABILITY", allow_negative_numbers = true)]
    pub drop_path: Option<f64>,
}

impl Training {
    /// Puts the given options into a recipe.
    pub fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if let Some(text) = &self.optimizer {
            recipe.optimizer = text.parse()?;
            recipe.rho = recipe.optimizer.default_rho();
        }
        let Training { epochs, batch, lr, momentum, weight_decay, rho, drop_path, .. } = self;
        epochs.iter().for_each(|v| recipe.epochs = *v);
        batch.iter().for_each(|v| recipe.batch = *v);
        lr.iter().for_each(|v| recipe.lr = *v);
        momentum.iter().for_each(|v| recipe.momentum = *v);
        self.nesterov.iter().for_each(|v| recipe.nesterov = *v);
        weight_decay.iter().for_each(|v| recipe.weight_decay = *v);
        rho.iter().for_each(|v| recipe.rho = *v);
        drop_path.iter().for_each(|v| recipe.drop_path = *v);
        if let Some(cutout) = self.cutout {
            let nothing = Augmentation { padding: 0, flip: false, cutout: 0 };
            let augmentation = Augmentation { cutout, ..recipe.augmentation.unwrap_or(nothing) };
            recipe.augmentation = Some(augmentation).filter(|other| *other != nothing || recipe.augmentation.is_some());
        }
        if let Some(text) = &self.adversarial {
            recipe.adversarial = Some(text.parse()?);
        }
        Ok(())
    }
}

/// Everything that decides a training; written as `config.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainConfig {
    pub space: String,
    pub arch: String,
    pub data: String,
    /// How its pictures are read.
    #[serde(default, skip_serializing_if = "Reading::is_as_found")]
    reading: Reading,
    #[serde(with = "crate::philox::seed_text")]
    pub seed: u64,
    pub build: Build,
    /// Weights to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Images that train, the first of a shuffle; all in their order if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<usize>,
    pub training: Recipe,
}

/// What a search's settings say of the training at its end, under the same keys.
const SHARED: [&str; 6] = ["space", "data", "reading", "seed", "build", "training"];

/// Writes down how the network that a search kept is trained once more, on so many images (`None` for all in their order);
/// the command that does it, to the same bits.
///
/// # Errors
/// If it cannot be written.
pub(super) fn keep_training<C: Serialize>(
    run: &Configured<C>,
    (arch, build, training): (&str, &Build, &Recipe),
    images: Option<usize>,
    folder: &RunFolder,
) -> Result<String> {
    let mut settings = table(&run.config)?;
    settings.retain(|key, _| SHARED.contains(&key));
    settings.insert("build".into(), table(build)?.into());
    settings.insert("arch".into(), arch.into());
    let settings = settings.try_into().map_err(|e: toml::de::Error| Error::invalid(AGAIN, e.to_string()))?;
    let mut config = TrainConfig { images, training: training.clone(), ..settings };
    let Record { inputs, classes, .. } = run.record.clone();
    let mut record = Record { inputs, classes, ..Record::default() };
    let start = folder.path().join(START);
    if start.exists() {
        config.from = Some(absolute(&start)?);
        record.inputs.insert("from".into(), Identity::of_file(&start)?);
    }
    folder.write(AGAIN, with_record(&config, &record)?.as_bytes())?;
    Ok(again(folder, AGAIN))
}

/// The name by which this program was called: one with spaces of its own has another.
pub(super) fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_ref().and_then(|path| path.file_stem()).and_then(|name| name.to_str());
    name.unwrap_or("altiplano").to_owned()
}

/// The command that repeats what a file of settings in a folder says.
fn again(folder: &RunFolder, file: &str) -> String {
    let path = folder.path();
    let mut other = path.as_os_str().to_owned();
    other.push("-again");
    let (config, out) = (quoted(&path.join(file)), quoted(&PathBuf::from(other)));
    format!("{} train --config {config} --out {out}", program())
}

/// What a training ends with, written as `result.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TrainResult {
    /// `train`, as other results name the method of a search.
    pub method: String,
    pub space: String,
    pub arch: String,
    pub params: u64,
    pub macs: u64,
    pub dataset: String,
    pub seed: u64,
    /// Adapter and driver.
    pub device: String,
    #[serde(deserialize_with = "number::one")]
    pub seconds: f64,
    /// What differed when the training was gone on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    #[serde(rename = "final")]
    pub trained: Final,
    /// The same network as searches have their finalists; results of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Where corruptions lead it astray, in the order of `mistakes.png`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

impl TrainResult {
    fn of(
        (config, data): (&TrainConfig, &Dataset),
        contestant: &Contestant,
        Outcome { finalists, trained, mistakes }: Outcome,
        (gpu, folder): (&Gpu, &RunFolder),
    ) -> Self {
        TrainResult {
            method: "train".to_owned(),
            space: config.space.clone(),
            arch: contestant.arch.clone(),
            params: contestant.params,
            macs: contestant.macs,
            dataset: data.name.clone(),
            seed: config.seed,
            device: format!("{} ({})", gpu.report().name, gpu.report().driver),
            seconds: folder.seconds(),
            changes: folder.changes(),
            trained,
            judged: finalists.into_iter().next(),
            mistakes,
        }
    }
}

impl Args {
    fn config(&self, source: &Source, data: &Dataset, name: &str) -> Result<TrainConfig> {
        let side = (data.train.height, data.train.width);
        let small = side.0.max(side.1) < 16;
        let mut training = Recipe::usual(Optimizer::Sgd, if small { 40 } else { 30 }, side.0);
        if data.train.len() < 4_000 {
            training.batch = 32;
        }
        let space = self.sizes.space_of(source)?;
        let default = TrainConfig {
            space: space.name().to_owned(),
            arch: String::new(),
            data: name.to_owned(),
            reading: Reading::default(),
            seed: source.global.seed,
            build: space.defaults(Purpose::Training, &image_info(data)),
            from: None,
            images: None,
            training,
        };
        let mut config = source.merged(default, &|_| None)?;
        name.clone_into(&mut config.data);
        self.reading.over(&mut config.reading);
        space.name().clone_into(&mut config.space);
        self.arch.iter().for_each(|v| config.arch.clone_from(v));
        self.images.iter().for_each(|v| config.images = Some(*v));
        if let Some(from) = &self.from {
            config.from = Some(absolute(from)?);
        }
        self.training.apply(&mut config.training)?;
        config.build = self.sizes.for_data(space, data, config.build)?.build;
        Ok(config)
    }
}

/// Weights to start from, under the network's own names, of those that fit; tells how many these are.
fn inherited(
    global: &Global,
    path: &str,
    (family, arch): (&Family, &Arch),
    classes: &[String],
    name: &dyn Fn(&str) -> Option<String>,
) -> Result<Named> {
    let (mut weights, model) = (Weights::read(path.as_ref())?, &*family.network(arch)?);
    let cut = family.cut(&weights.named, arch);
    if let Some(own) = cut.map_err(|error| Error::file(std::path::Path::new(path), None, error.to_string()))? {
        note(global, "--from: it is a supernet, of which the network's part is taken");
        let layer = classifier(model)?.unwrap_or_default();
        let theirs = weights.named.get(&format!("{layer}.weight")).and_then(|rows| rows.dims.first().copied());
        weights.named = own;
        if let Some(theirs) = theirs.filter(|theirs| *theirs != classes.len()) {
            let have = classes.len();
            note(global, &format!("--from: its classifier is not inherited: it has {theirs} classes, the data {have}"));
            weights.drop_layer(&layer);
        }
    }
    if let Some(theirs) = ModelCard::classes_of(&weights) {
        let layer = classifier(model)?.unwrap_or_default();
        match weights.align(&layer, &theirs, classes) {
            Classes::Same => {}
            Classes::Unnamed => note(global, &format!("--from: {UNNAMED}")),
            Classes::Reordered => note(global, "--from: its classes were put into the order of the data's"),
            Classes::Different => {
                let why = differing_classes(["the model", "the data"], &theirs, classes);
                note(global, &format!("--from: its classifier is not inherited, since {why}"));
                weights.drop_layer(&layer);
            }
        }
        for layer in auxiliary_classifiers(model)? {
            if weights.align(&layer, &theirs, classes) == Classes::Different {
                weights.drop_layer(&layer);
            }
        }
    }
    weights.notes.iter().for_each(|text| note(global, &format!("--from: {text}")));
    let (named, fit) = weights.fit(&trained_graph(model)?, name)?;
    note(global, &format!("--from: {fit}"));
    Ok(named)
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let source = Source {
        global,
        out: Some(&args.out),
        resume: args.resume,
        file: args.config.as_deref(),
        inputs: vec![("from", args.from.as_deref())],
        reading: &args.reading,
        extension: None,
    };
    let run = source.configuration(args.data.as_deref(), &|data, name| args.config(&source, data, name))?;
    let (config, data) = (&run.config, &run.data);
    if config.arch.is_empty() {
        return Err(Error::invalid("--arch", "is needed: the architecture's name in its space"));
    }
    let space = global.registry.open(&config.space, config.build.clone())?;
    let arch = space.parse(&config.arch)?;
    let indices = training_images(data.train.len(), config.images, config.seed)?;
    config.training.validate(indices.len())?;
    let model = space.network(&arch)?;
    config.training.check(&*model, [data.train.height, data.train.width])?;
    // A supernet has names of its own for weights; other files have the network's names.
    let supernet = space.supernet()?;
    let name = |own: &str| supernet.as_ref().and_then(|supernet| supernet.source(own, &arch));
    let classes = &data.train.class_names;
    let start =
        config.from.as_deref().map(|path| inherited(global, path, (&space, &arch), classes, &name)).transpose()?;
    let statistics = data.train.channel_statistics()?;
    let cost = space.cost(&arch)?;
    let own = |own: &str| Some(own.to_owned());
    let contestant = Contestant {
        role: "trained".to_owned(),
        arch: space.show(&arch),
        model: &*model,
        params: cost.params,
        macs: cost.macs,
        latency: None,
        optimizer: config.training.optimizer,
        inherit: start.as_ref().map(|from| Inheritance { from, name: &own }),
        card: ModelCard::of(&space, &arch, classes, &statistics).with_reading(&data.reading),
        costs_no_search: true,
    };
    let place = Place { global, out: &args.out, resume: args.resume, force: args.force, strict: args.strict };
    let (result, folder) = in_folder(&place, &run, &mut |gpu, preset, folder, observer| {
        // What an earlier end of the training found is not what it will have found.
        [RESULT, REPORT, MISTAKES].iter().try_for_each(|file| folder.remove(file))?;
        let supply = Supply::new(gpu, &data.train)?;
        let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
        let (images, seed) = (JUDGED_IMAGES, config.seed);
        let judging = Judging { noise: None, attacks: &[], images, resized_first: false, seed };
        let trial = Trial {
            setting: &setting,
            data,
            recipe: &config.training,
            training: &indices,
            kept_back: &[],
            recalibration: &[],
            seeds: &[config.seed],
            judging,
        };
        let whole = Share { from: 0.0, to: 1.0 };
        let outcome = trial.run(std::slice::from_ref(&contestant), folder, whole, observer)?;
        let result = TrainResult::of((config, data), &contestant, outcome, (gpu, folder));
        let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid(RESULT, e.to_string()))?;
        folder.write(RESULT, &json)?;
        Ok(result)
    })?;
    report::write(global, &folder);
    let model = args.out.join("best.safetensors");
    global.print(&result, || text(&result, &model, &again(&folder, FILE)))
}

/// What the user reads at the end.
fn text(result: &TrainResult, model: &Path, again: &str) -> String {
    let t = &result.trained;
    format!(
        "{}\n{} parameters, trained {} epochs with {} on {} images\naccuracy {:.2} % on {} test images (loss {:.4}), {:.2} % on the last training epoch\n{}model: {}\nreport: {}\ntrain it again:\n    {again}",
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
        model.display(),
        model.with_file_name(REPORT).display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With numbers that are none, and as earlier versions wrote it.
    #[test]
    fn results_are_read_back() {
        let text = r#"{"method":"train","space":"s","arch":"a","params":1,"macs":2,"dataset":"digits","seed":18446744073709551615,"device":"d",
            "seconds":0.5,"final":{"optimizer":"sam","epochs":1,"training_images":9,"training":{"epoch":1,"loss":null,"accuracy":0.5},
            "test_images":3,"clean_loss":null,"clean_accuracy":0.1,"corruption_accuracy":null,"corruption_images":0,"attacks":[],
            "suspicions":[],"flatness":null}}"#;
        let earlier: TrainResult = serde_json::from_str(text).unwrap();
        assert!(earlier.trained.clean_loss.is_nan() && earlier.trained.training.loss.is_nan());
        assert!(earlier.judged.is_none() && earlier.mistakes.is_empty() && earlier.seed == u64::MAX);
        let (kind, label, answer) = ("fog".to_owned(), "1".to_owned(), "7".to_owned());
        let mistake = Mistake { kind, severity: 3, image: 4, label, answer, probability: 1.0 / 3.0 };
        let result = TrainResult { mistakes: vec![mistake], ..earlier };
        let written = serde_json::to_string(&result).unwrap();
        let read: TrainResult = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }
}
