//! `altiplano export`

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::Global;
use super::model::described_by;
use super::place::{FORCE, Outputs};
use super::progress::note;
use crate::error::{Error, Result};
use crate::export::card::{Facts, markdown, tells_of};
use crate::export::{OPSET, onnx};
use crate::graph::Statistics;
use crate::measure::forward::graph;
use crate::nn::card::ModelCard;
use crate::nn::weights::Weights;
use crate::report::folder::atomic_write;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A model that altiplano saved (safetensors).
    model: PathBuf,
    /// Write the network as ONNX, with its weights. It takes `images` (N, C, H, W, any N), normalised as the file's metadata say, and
    /// gives `logits`.
    #[arg(long, value_name = "FILE.onnx")]
    onnx: Option<PathBuf>,
    /// Put batch norms into the convolutions before them.
    #[arg(long, requires = "onnx")]
    fold: bool,
    /// Write a card that tells people what the network is (Markdown), with what a result.json beside the model says.
    #[arg(long, value_name = "FILE.md")]
    card: Option<PathBuf>,
    /// Replace the files of --onnx and --card.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    #[serde(serialize_with = "paths")]
    file: Option<PathBuf>,
    #[serde(serialize_with = "paths")]
    card: Option<PathBuf>,
    opset: i64,
    space: String,
    arch: String,
    classes: usize,
    /// Channels, rows and columns.
    input: [usize; 3],
    /// Operators of the file, if there is one, and how many of these are batch norms.
    operators: Option<usize>,
    norms: Option<usize>,
}

fn paths<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => crate::error::serialize_path(path, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.onnx.is_none() && args.card.is_none() {
        return Err(Error::invalid(
            "export",
            "nothing is to be written; give --onnx FILE.onnx, --card FILE.md, or both",
        ));
    }
    let mut outputs = Outputs::new(&[Some(&args.model)]);
    let refuse = (!args.force).then_some(FORCE);
    outputs.file("--onnx", args.onnx.as_deref(), &["onnx"], refuse)?;
    outputs.file("--card", args.card.as_deref(), &["md"], refuse)?;
    let weights = Weights::read(&args.model)?;
    weights.notes.iter().for_each(|text| note(global, text));
    if !ModelCard::is_in(&weights) {
        let why = "it does not say which network it is, as models that `altiplano train` and `search` write do";
        return Err(Error::file(&args.model, None, why));
    }
    let card = ModelCard::read(&weights)?;
    let (family, arch) = described_by(global, &args.model, &card)?;
    let model = family.network(&arch)?;
    let graph = graph(&*model, 1, Statistics::Running)?;
    let named = weights.whole(&graph)?;
    let exported = args.onnx.as_ref().map(|_| onnx(&*model, &named, &card, args.fold)).transpose()?;
    let result = args.card.as_ref().and_then(|_| result_beside(&args.model, &card));
    let [own_name, onnx_name] = [name(Some(&args.model)), name(args.onnx.as_deref())];
    let facts = Facts {
        card: &card,
        input: model.input(),
        cost: family.cost(&arch)?,
        module: family.module(),
        weights: &own_name,
        has_more: weights.named.len() > named.len(),
        onnx: args.onnx.is_some().then_some(&onnx_name),
        result: result.as_ref(),
    };
    let text = markdown(&facts);
    // All is there before the first file is.
    if let (Some(path), Some(exported)) = (&args.onnx, &exported) {
        atomic_write(path, &exported.bytes)?;
    }
    if let Some(path) = &args.card {
        atomic_write(path, text.as_bytes())?;
    }
    let [height, width, channels] = model.input();
    let answer = Answer {
        file: args.onnx.clone(),
        card: args.card.clone(),
        opset: OPSET,
        space: card.space.clone(),
        arch: card.arch.clone(),
        classes: model.classes(),
        input: [channels, height, width],
        operators: exported.as_ref().map(|exported| exported.operators),
        norms: exported.as_ref().map(|exported| exported.norms),
    };
    global.print(&answer, || words(&answer))
}

/// What a run's `result.json` beside a model says, if it is of this network.
fn result_beside(model: &Path, card: &ModelCard) -> Option<Value> {
    // Another file in a run's folder may be of the same architecture, and of another training.
    model.file_name().filter(|name| *name == "best.safetensors")?;
    let text = std::fs::read_to_string(model.with_file_name("result.json")).ok()?;
    let result: Value = serde_json::from_str(&text).ok()?;
    tells_of(&result, &card.space, &card.arch).then_some(result)
}

/// The last part of a path.
fn name(path: Option<&Path>) -> String {
    path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

fn words(answer: &Answer) -> String {
    let Answer { file, card, opset, classes, input: [channels, height, width], operators, norms, .. } = answer;
    let mut lines = vec![];
    if let (Some(file), Some(operators), Some(norms)) = (file, operators, norms) {
        lines.push(format!(
            "{}: opset {opset}, {operators} operators ({norms} batch norms), images N,{channels},{height},{width}, {classes} classes",
            file.display()
        ));
    }
    lines.extend(card.as_ref().map(|card| format!("{}: the card", card.display())));
    lines.join("\n")
}
