//! `altiplano classify`: what a trained network takes pictures for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Global;
use super::model::described_by;
use super::progress::note;
use crate::data::{Identity, picture_for};
use crate::error::{Error, Result, path_text};
use crate::graph::Statistics;
use crate::nn::card::ModelCard;
use crate::nn::tensors::{Named, Values};
use crate::nn::weights::Weights;
use crate::train::single;
use crate::train::step::{Rates, StepOptions};

/// Pictures that are looked at side by side.
const BATCH: usize = 32;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Pictures: PNG, JPEG, WebP, BMP or TIFF. They are brought to the network's size as those were that it was trained on.
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// A model that altiplano saved, such as best.safetensors of a run.
    #[arg(long)]
    model: PathBuf,
    /// So many classes of each, the most likely ones.
    #[arg(long, default_value_t = 3)]
    top: usize,
}

/// A class, and how likely the network takes a picture to be of it.
#[derive(Serialize)]
struct Likely {
    class: String,
    probability: f64,
}

#[derive(Serialize)]
struct Answered {
    #[serde(serialize_with = "crate::error::serialize_path")]
    picture: PathBuf,
    answers: Vec<Likely>,
}

#[derive(Serialize)]
struct Answer {
    inputs: BTreeMap<&'static str, Identity>,
    arch: String,
    pictures: Vec<Answered>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.top == 0 {
        return Err(Error::invalid("--top", "0 classes; expected at least 1"));
    }
    let weights = Weights::read(&args.model)?;
    weights.notes.iter().for_each(|text| note(global, text));
    if !ModelCard::is_in(&weights) {
        let why = "does not say which network it is, nor what its classes are called: `altiplano train --from` makes a model that does";
        return Err(Error::file(&args.model, None, why));
    }
    let card = ModelCard::read(&weights)?;
    let (family, arch) = described_by(global, &args.model, &card)?;
    let network = family.network(&arch)?;
    let [height, width, channels] = network.input();
    // All of them are looked at before the device is asked anything.
    let read = |path: &PathBuf| picture_for(path, &card.reading, network.input());
    let images = args.pictures.iter().map(read).collect::<Result<Vec<Vec<u8>>>>()?;
    let statistics = card.statistics();
    let (gpu, preset) = global.gpu()?;
    let mut answers = vec![];
    for (images, paths) in images.chunks(BATCH).zip(args.pictures.chunks(BATCH)) {
        let count = images.len();
        let x = Values {
            dims: vec![count, channels, height, width],
            data: images.iter().flat_map(|own| statistics.normalised(own)).collect(),
        };
        // A step wants labels, which decide nothing about logits.
        let y = Values { dims: vec![count], data: vec![0.0; count] };
        let batch = Named::from([("x".to_owned(), x), ("y".to_owned(), y)]);
        let options = StepOptions {
            batch: count,
            statistics: Statistics::Running,
            smoothing: 0.0,
            update: None,
            gradients: false,
        };
        let outcome = single::run(&gpu, preset, &*network, &options, &Rates::default(), &weights.named, &batch)?;
        let logits = outcome.tensors.get("logits").ok_or_else(|| Error::invalid("model", "gives no logits"))?;
        if logits.data.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::file(&args.model, None, "answers with what is no number; the network is broken"));
        }
        for (path, logits) in paths.iter().zip(logits.data.chunks(card.classes.len().max(1))) {
            answers.push(Answered { picture: path.clone(), answers: likely(logits, &card.classes, args.top) });
        }
    }
    let inputs = BTreeMap::from([("model", Identity::of_file(&args.model)?)]);
    let answer = Answer { inputs, arch: card.arch, pictures: answers };
    global.print(&answer, || answer.pictures.iter().map(line).collect())
}

/// The most likely classes by the softmax of their logits.
fn likely(logits: &[f32], classes: &[String], top: usize) -> Vec<Likely> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    let own =
        classes.iter().zip(shares).map(|(class, share)| Likely { class: class.clone(), probability: share / sum });
    let mut all: Vec<Likely> = own.collect();
    all.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    all.truncate(top);
    all
}

fn line(own: &Answered) -> String {
    let answers: Vec<String> =
        own.answers.iter().map(|own| format!("{} ({:.1} %)", own.class, 100.0 * own.probability)).collect();
    format!("{}: {}\n", path_text(&own.picture), answers.join(", "))
}
