//! A trained model, asked about one picture: `altiplano classify` as a program of one's own.
//!
//! ```text
//! altiplano train --arch 303101 --data digits --out runs/digits
//! cargo run --release --example classify -- runs/digits/best.safetensors picture.png
//! ```

use std::path::Path;

use altiplano::data::picture_for;
use altiplano::error::{Error, Result};
use altiplano::gpu::{Gpu, Options};
use altiplano::graph::Statistics;
use altiplano::kernels::Preset;
use altiplano::nn::card::ModelCard;
use altiplano::nn::space::Registry;
use altiplano::nn::tensors::{Named, Values};
use altiplano::nn::weights::Weights;
use altiplano::train::single;
use altiplano::train::step::{Rates, StepOptions};

/// Probabilities of the classes, most likely first.
fn classify(model: &Path, picture: &Path) -> Result<Vec<(String, f64)>> {
    // The file says which network it is, how its images were normalised, and what its classes are called.
    let weights = Weights::read(model)?;
    let card = ModelCard::read(&weights)?;
    let network = card.model(&Registry::default())?;
    let [height, width, channels] = network.input();
    // Brought to the network's size, as the pictures were that it was trained on.
    let pixels = picture_for(picture, &card.reading, network.input())?;
    let x = Values { dims: vec![1, channels, height, width], data: card.statistics().normalised(&pixels) };
    // The step wants a label, which decides nothing about logits.
    let y = Values { dims: vec![1], data: vec![0.0] };
    let batch = Named::from([("x".to_owned(), x), ("y".to_owned(), y)]);

    let gpu = Gpu::open_wait(&Options::default())?;
    let statistics = Statistics::Running;
    let options = StepOptions { batch: 1, statistics, smoothing: 0.0, update: None, gradients: false };
    let preset = Preset::for_adapter(gpu.report());
    let outcome = single::run(&gpu, preset, &*network, &options, &Rates::default(), &weights.named, &batch)?;
    let logits = &outcome.tensors["logits"].data;
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    let mut answers: Vec<(String, f64)> =
        card.classes.into_iter().zip(shares.iter().map(|share| share / sum)).collect();
    answers.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(answers)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, picture] = &arguments[..] else {
        return Err(Error::invalid("arguments", "expected MODEL.safetensors PICTURE"));
    };
    for (class, probability) in classify(Path::new(model), Path::new(picture))?.into_iter().take(3) {
        println!("{class} {probability:.4}");
    }
    Ok(())
}
