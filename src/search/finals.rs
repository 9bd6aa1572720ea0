//! Training one network and judging it on images that nothing has seen.

use std::path::PathBuf;

use serde::Serialize;

use crate::corrupt::{Constants, Kind, Severity};
use crate::data::{Dataset, TestImages};
use crate::error::{Error, Result};
use crate::graph::{Role, Statistics};
use crate::measure::attack::{Attack, Attacked, Attacker, suspicions};
use crate::measure::corruption::{Origin, evaluate_wait, grid};
use crate::measure::forward::{Forward, Score, Subject, graph};
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::tensors::to_bytes;
use crate::philox::Stream;
use crate::progress::Observer;
use crate::report::folder::RunFolder;
use crate::train::feed::Resident;
use crate::train::job::{self, Saving};
use crate::train::step::Optimizer;
use crate::train::trainer::{Inheritance, Progress, Recipe, Setting, Trainer};

/// Most test images that are corrupted or attacked at the end of a run; `altiplano evaluate` takes all.
pub const JUDGED_IMAGES: usize = 200;

/// Purpose word of the shuffle that picks the images.
const IMAGES_PURPOSE: u32 = 0x4649_4E41;

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
    /// Accuracy under attacks, on the first test images.
    pub attacks: Vec<UnderAttack>,
    /// What is suspicious about it: an attack that is weak, or a result that cannot be.
    pub suspicions: Vec<String>,
    /// Rise of the test loss under weight noise, where it was measured.
    pub flatness: Option<f64>,
}

/// Accuracy under one attack.
#[derive(Clone, Debug, Serialize)]
pub struct UnderAttack {
    /// The attack.
    pub attack: String,
    /// Share of images that stay right at every point that it looked at.
    pub accuracy: f64,
    /// Images that were attacked.
    pub images: usize,
}

/// What is trained and how.
pub struct Job<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// How it is trained.
    pub recipe: &'a Recipe,
    /// Training images, by their numbers.
    pub images: &'a [usize],
    /// What the model file says about it.
    pub card: &'a ModelCard,
    /// Weights to start from instead of fresh ones.
    pub inherit: Option<Inheritance<'a>>,
    /// Attacks that it is tested under.
    pub attacks: &'a [Attack],
    /// Name of the stage, and the shares of the whole job's work at its begin and end.
    pub stage: (&'a str, f64, f64),
}

impl Final {
    /// What else than clean test images it was tested on, in lines that are set in.
    pub fn lines(&self) -> String {
        let corrupted = self.corruption_accuracy.map(|accuracy| {
            let count = self.corruption_images;
            format!("{:.2} % on {count} of them under 15 corruptions at 5 severities", 100.0 * accuracy)
        });
        let attacked =
            |a: &UnderAttack| format!("{:.2} % on {} of them under {}", 100.0 * a.accuracy, a.images, a.attack);
        let lines = corrupted.into_iter().chain(self.attacks.iter().map(attacked));
        let lines = lines.chain(self.suspicions.iter().map(|suspicion| format!("note: {suspicion}")));
        lines.map(|line| format!("    {line}\n")).collect()
    }
}

/// The images that train a network at the end, of `all`: the first `some` of a shuffle, or all in their order.
///
/// # Errors
/// If there are not so many.
pub fn final_images(all: usize, some: Option<usize>, seed: u64) -> Result<Vec<usize>> {
    let mut list: Vec<usize> = (0..all).collect();
    let Some(some) = some else { return Ok(list) };
    if some == 0 || some > all {
        return Err(Error::invalid("--images", format!("{some} of {all} training images")));
    }
    Stream::new(seed, IMAGES_PURPOSE, 0).shuffle(&mut list);
    list.truncate(some);
    Ok(list)
}

/// Trains a fresh network on training images of `data` (or goes on from a checkpoint), saves it as
/// `best.safetensors`, and tests it.
///
/// # Errors
/// What training, testing and saving have to say.
pub fn train_and_test(
    setting: &Setting,
    job: &Job,
    data: &Dataset,
    seed: u64,
    folder: &RunFolder,
    observer: &mut Observer,
) -> Result<Final> {
    let Job { model, recipe, images, card, inherit, attacks, stage } = *job;
    let mut trainer = Trainer::new(setting.clone(), model, recipe, images, &[seed], &[])?;
    if let Some(inheritance) = inherit {
        trainer.inherit(0, inheritance)?;
    }
    let saving = Saving { folder, name: "training", every: 0 };
    let progress = job::run(&mut trainer, Some(saving), stage, observer, &mut |_| Ok(()))?;
    let named = trainer.weights_wait(0)?;
    if let Some((name, _)) = named.iter().find(|(_, v)| v.data.iter().any(|x| !x.is_finite())) {
        let at = format!("the end of training, tensor {name}");
        return Err(Error::NotFinite { what: "a weight".into(), value: f32::NAN, at });
    }
    folder.write("best.safetensors", &to_bytes(&named, card.metadata()?)?)?;
    let weights = trainer.stores(0).of(Role::Weights)?.clone();
    let running = trainer.stores(0).of(Role::Running)?.clone();
    let subject = Subject { weights: (weights, 0), running: (running, 0), path: vec![] };
    let score = test_wait(setting, model, &data.test, subject.clone())?;
    let corrupted = corruption_wait(setting, model, &data.test, subject.clone(), seed)?;
    let attacked = attack_wait(setting, model, &data.test, &subject, attacks, seed)?;
    Ok(Final {
        optimizer: recipe.optimizer,
        epochs: recipe.epochs,
        training_images: images.len(),
        training: progress.first().copied().unwrap_or_default(),
        test_images: data.test.len(),
        clean_loss: score.loss,
        clean_accuracy: score.accuracy,
        corruption_accuracy: corrupted.map(|(accuracy, _)| accuracy),
        corruption_images: corrupted.map_or(0, |(_, images)| images),
        suspicions: suspicions(score.accuracy, model.classes(), &attacked),
        attacks: attacked
            .iter()
            .map(|(attack, result)| UnderAttack {
                attack: attack.to_string(),
                accuracy: result.accuracy,
                images: data.test.len().min(JUDGED_IMAGES),
            })
            .collect(),
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
/// most [`JUDGED_IMAGES`]. None for images that cannot be corrupted.
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
    let count = test.len().min(JUDGED_IMAGES);
    let images = test.reveal_for_final_evaluation().select(&(0..count).collect::<Vec<_>>());
    let side = images.height.max(images.width);
    let constants = if side <= 64 { Constants::Cifar } else { Constants::ImageNet };
    let corruptions = grid(&Kind::MAIN, &Severity::ALL, constants, None);
    let origin = Origin::Made { seed };
    let scores = evaluate_wait(setting, &[(model, subject)], &images, &corruptions, &origin, &mut |_, _| Ok(()))?;
    let all: Vec<f64> = scores.corrupted.iter().flatten().map(|score| score.accuracy).collect();
    Ok(Some((all.iter().sum::<f64>() / all.len().max(1) as f64, count)))
}

/// What attacks reach on the first test images, at most [`JUDGED_IMAGES`].
fn attack_wait(
    setting: &Setting,
    model: &dyn Model,
    test: &TestImages,
    subject: &Subject,
    attacks: &[Attack],
    seed: u64,
) -> Result<Vec<(Attack, Attacked)>> {
    if attacks.is_empty() || test.is_empty() {
        return Ok(vec![]);
    }
    let count = test.len().min(JUDGED_IMAGES);
    let numbers: Vec<usize> = (0..count).collect();
    let resident = Resident::new(setting.gpu, &test.reveal_for_final_evaluation().select(&numbers))?;
    let setting = Setting { data: &resident, ..setting.clone() };
    let run = |&attack: &Attack| {
        let attacker = Attacker::new(&setting, model, count.min(100), std::slice::from_ref(subject), attack, seed)?;
        let result = attacker.run_wait(&numbers, &mut |_, _| Ok(()))?.into_iter().next();
        Ok((attack, result.ok_or_else(|| Error::invalid("attack", "nothing was attacked"))?))
    };
    attacks.iter().map(run).collect()
}

/// Names of the files that a run leaves for its user.
pub fn files(folder: &RunFolder) -> Vec<PathBuf> {
    ["result.json", "best.safetensors", "history.jsonl", "config.toml"].map(|name| folder.path().join(name)).into()
}
