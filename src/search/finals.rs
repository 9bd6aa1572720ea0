//! Training one network and judging it on images that nothing has seen.

use std::path::PathBuf;

use serde::Serialize;

use crate::corrupt::{Constants, Kind, Severity};
use crate::data::{Dataset, TestImages};
use crate::error::{Error, Result};
use crate::graph::{Group, Statistics};
use crate::measure::corruption::{Origin, evaluate_wait, grid};
use crate::measure::forward::{Forward, Score, Subject, graph};
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::tensors::{Named, to_bytes};
use crate::progress::Observer;
use crate::report::folder::RunFolder;
use crate::train::feed::Resident;
use crate::train::job::{self, Saving};
use crate::train::step::Optimizer;
use crate::train::trainer::{Progress, Recipe, Setting, Trainer};

/// Most test images that are corrupted at the end of a run; `altiplano evaluate` takes all.
pub const CORRUPTED_IMAGES: usize = 200;

/// What became of a trained network.
#[derive(Clone, Debug, Serialize)]
pub struct Final {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images that it was trained on.
    pub training_images: usize,
    /// Training loss and accuracy of the last epoch.
    pub training: Progress,
    /// Images that it was tested on.
    pub test_images: usize,
    /// Loss on test images.
    pub clean_loss: f64,
    /// Accuracy on test images.
    pub clean_accuracy: f64,
    /// Mean accuracy over the 15 main corruptions at five severities; none for images that are neither grey nor RGB.
    pub corruption_accuracy: Option<f64>,
    /// Test images that were corrupted.
    pub corruption_images: usize,
    /// Rise of the test loss under weight noise, where it was measured.
    pub flatness: Option<f64>,
}

impl Final {
    /// A line on corrupted images, empty if there are none.
    pub fn on_corrupted(&self) -> String {
        let line = |accuracy| {
            let count = self.corruption_images;
            format!("{:.2} % on {count} of them under 15 corruptions at 5 severities\n", 100.0 * accuracy)
        };
        self.corruption_accuracy.map_or(String::new(), line)
    }
}

/// Trains a fresh network on all training images of `data` (or goes on from a checkpoint), saves it as
/// `best.safetensors`, and tests it.
///
/// # Errors
/// What training, testing and saving have to say.
#[allow(clippy::too_many_arguments, reason = "each is one part of the run, none groups with another")]
pub fn train_and_test(
    setting: &Setting,
    model: &dyn Model,
    recipe: &Recipe,
    data: &Dataset,
    seed: u64,
    path: Option<Vec<u8>>,
    inherit: Option<&Named>,
    folder: &RunFolder,
    card: &ModelCard,
    stage: (&str, f64, f64),
    observer: &mut Observer,
) -> Result<Final> {
    let indices: Vec<usize> = (0..data.train.len()).collect();
    let paths: Vec<Vec<u8>> = path.into_iter().collect();
    let mut trainer = Trainer::new(setting.clone(), model, recipe, &indices, &[seed], &paths)?;
    if let Some(named) = inherit {
        trainer.inherit(0, named)?;
    }
    let saving = Saving { folder, name: "training", every: 0 };
    let progress = job::run(&mut trainer, Some(saving), stage, observer, &mut |_| Ok(()))?;
    let named = trainer.weights_wait(0)?;
    if let Some((name, _)) = named.iter().find(|(_, v)| v.data.iter().any(|x| !x.is_finite())) {
        let at = format!("the end of training, tensor {name}");
        return Err(Error::NotFinite { what: "a weight".into(), value: f32::NAN, at });
    }
    folder.write("best.safetensors", &to_bytes(&named, card.metadata(setting.statistics))?)?;
    let weights = trainer.stores().group(Group::Weights)?.clone();
    let running = trainer.stores().group(Group::Running)?.clone();
    let subject =
        Subject { weights: (weights, 0), running: (running, 0), path: paths.first().cloned().unwrap_or_default() };
    let score = test_wait(setting, model, &data.test, subject.clone())?;
    let corrupted = corruption_wait(setting, model, &data.test, subject, seed)?;
    Ok(Final {
        optimizer: recipe.optimizer,
        epochs: recipe.epochs,
        training_images: indices.len(),
        training: progress.first().copied().unwrap_or_default(),
        test_images: data.test.len(),
        clean_loss: score.loss,
        clean_accuracy: score.accuracy,
        corruption_accuracy: corrupted.map(|(accuracy, _)| accuracy),
        corruption_images: corrupted.map_or(0, |(_, images)| images),
        flatness: None,
    })
}

/// Loss and accuracy on test images, waiting for them.
///
/// # Errors
/// If the device has no room.
pub fn test_wait(setting: &Setting, model: &dyn Model, test: &TestImages, subject: Subject) -> Result<Score> {
    let images = test.reveal_for_final_evaluation();
    let resident = Resident::new(setting.gpu, images)?;
    let setting = Setting { data: &resident, ..setting.clone() };
    let batch = images.len().clamp(1, 128);
    let forward_graph = graph(model, batch, Statistics::Running)?;
    let forward = Forward::new(&setting, model.input(), batch, &forward_graph, &[subject])?;
    let scores = forward.evaluate_wait(&(0..images.len()).collect::<Vec<_>>())?;
    scores.first().copied().ok_or_else(|| Error::invalid("test", "nothing was evaluated"))
}

/// Mean accuracy over the 15 main corruptions at five severities, and the number of images: the first test images, at
/// most [`CORRUPTED_IMAGES`]. None for images that cannot be corrupted.
///
/// # Errors
/// If the device has no room.
pub fn corruption_wait(
    setting: &Setting,
    model: &dyn Model,
    test: &TestImages,
    subject: Subject,
    seed: u64,
) -> Result<Option<(f64, usize)>> {
    if !matches!(test.channels(), 1 | 3) || test.is_empty() {
        return Ok(None);
    }
    let count = test.len().min(CORRUPTED_IMAGES);
    let images = test.reveal_for_final_evaluation().select(&(0..count).collect::<Vec<_>>());
    let side = images.height.max(images.width);
    let constants = if side <= 64 { Constants::Cifar } else { Constants::ImageNet };
    let corruptions = grid(&Kind::MAIN, &Severity::ALL, constants, None);
    let origin = Origin::Made { seed };
    let scores = evaluate_wait(setting, model, &[subject], &images, &corruptions, &origin, &mut |_, _| Ok(()))?;
    let all: Vec<f64> = scores.corrupted.iter().flatten().map(|score| score.accuracy).collect();
    Ok(Some((all.iter().sum::<f64>() / all.len().max(1) as f64, count)))
}

/// Names of the files that a run leaves for its user.
pub fn files(folder: &RunFolder) -> Vec<PathBuf> {
    ["result.json", "best.safetensors", "history.jsonl", "config.toml"].map(|name| folder.path().join(name)).into()
}
