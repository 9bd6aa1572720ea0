//! What trained networks are worth on test images that nothing has seen: clean, corrupted, attacked, and under weight noise.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::attack::{Attack, Attacked, Attacker, suspicions};
use super::corruption::{Origin, constants_for, evaluate_wait, grid};
use super::flatness::{MOST_DRAWS, flatnas_robustness};
use super::forward::{Forward, Score, Subject, by_chunk, graph, graphs};
use super::noise::Perturbation;
use super::side_by_side::{halving, limited};
use crate::corrupt::{Kind, Severity};
use crate::data::{Images, TestImages};
use crate::error::{Error, Result};
use crate::graph::{Noise, Role, Statistics};
use crate::nn::Model;
use crate::report::number;
use crate::train::step::Optimizer;
use crate::train::stores::Stores;
use crate::train::supply::Supply;
use crate::train::trainer::{Progress, Recipe, Setting};

/// Test images that are corrupted or attacked at the end of a training; `altiplano evaluate` takes all.
pub const JUDGED_IMAGES: usize = 200;
/// Images per batch of clean test images.
const BATCH: usize = 128;
/// Deviations of weight noise besides the one asked for under which networks are seen, as multiples of it.
const OTHER_SIGMAS: [f64; 3] = [0.5, 2.0, 4.0];

/// Weight noise, as FlatNAS's `R` has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightNoise {
    /// Deviation, as a part of each weight.
    pub sigma: f64,
    /// Draws.
    pub draws: usize,
    /// Images per batch.
    pub batch: usize,
}

impl WeightNoise {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the one that cannot be used.
    pub fn validate(&self) -> Result<()> {
        for (what, value, most) in [("noise.batch", self.batch, 1 << 20), ("--draws", self.draws, MOST_DRAWS)] {
            if value == 0 || value > most {
                return Err(Error::invalid(what, format!("is {value}, expected at least 1 and at most {most}")));
            }
        }
        if !(0.0..=10.0).contains(&self.sigma) {
            return Err(Error::invalid("--sigma", format!("is {}, expected 0 to 10", self.sigma)));
        }
        Ok(())
    }
}

/// A trained network.
#[derive(Clone)]
pub struct Network<'m> {
    /// What it computes.
    pub model: &'m dyn Model,
    /// Its weights and statistics.
    pub stores: Stores,
}

impl Network<'_> {
    /// As the subject of an evaluation.
    ///
    /// # Errors
    /// If it has no weights.
    pub fn subject(&self) -> Result<Subject> {
        let weights = self.stores.of(Role::Weights)?.clone();
        // A network without batch norms has no statistics, and nothing asks for them.
        let running = self.stores.of(Role::Running).unwrap_or(&weights).clone();
        Ok(Subject { weights: (weights, 0), running: (running, 0), path: vec![] })
    }
}

/// How networks are judged.
#[derive(Clone, Copy)]
pub struct Judging<'a> {
    /// Weight noise, if they are to be disturbed.
    pub noise: Option<WeightNoise>,
    /// Attacks.
    pub attacks: &'a [Attack],
    /// Test images, the first ones, that are corrupted, attacked, and seen by disturbed networks; 0 for all.
    pub images: usize,
    /// Whether images are corrupted at the size of networks that see them larger too: [`Origin::Resized`].
    pub resized_first: bool,
    /// Seed of corruptions, attacks and noise.
    pub seed: u64,
}

/// What was found of a network.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// On all test images.
    pub clean: Score,
    /// On those that all that follows was measured on.
    pub uncorrupted: Score,
    /// How many these are.
    pub images: usize,
    /// FlatNAS's `R`, in percent points.
    pub robustness: Option<f64>,
    /// Mean rise of the loss under weight noise.
    pub rise: Option<f64>,
    /// Deviations of weight noise, from 0 on, with the mean score over the draws of each; empty without noise.
    pub under_noise: Vec<(f64, Score)>,
    /// Accuracy over the 15 main corruptions at each severity; empty for images that cannot be corrupted.
    pub corrupted: Vec<f64>,
    /// The same where images were made larger before they were corrupted; empty where that was not asked for, or no network sees larger images.
    pub resized_first: Vec<f64>,
    /// Mean over all of the first.
    pub corruption_accuracy: Option<f64>,
    /// Accuracy under each of those corruptions, at each severity.
    pub by_corruption: Vec<(Kind, Vec<f64>)>,
    /// What attacks reached.
    pub attacks: Vec<(Attack, Attacked)>,
    /// What is suspicious about it.
    pub suspicions: Vec<String>,
}

/// Judges networks, as many side by side as fit; waits for the results. `report` is called with the share of the work that is done.
///
/// # Errors
/// If the device has no room for a single one, and what `report` returns.
pub fn judge_wait(
    setting: &Setting,
    test: &TestImages,
    networks: &[Network],
    judging: &Judging,
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Tested>> {
    if test.is_empty() {
        return Err(Error::invalid("test", "there are no test images"));
    }
    let images = test.reveal_for_final_evaluation();
    let supply = Supply::new(setting.gpu, images)?;
    let setting = Setting { data: &supply, ..setting.clone() };
    let all: Vec<usize> = (0..images.len()).collect();
    let some = &all[..limited(all.len(), judging.images)];
    let clean = noisy_scores_wait(&setting, None, networks, &all, judging.seed)?;
    let disturbed = disturbed_wait(&setting, (judging.noise, &OTHER_SIGMAS), networks, some, judging.seed)?;
    report(0.1)?;
    let first = images.select(some);
    let (made, resized) = (Origin::Made { seed: judging.seed }, Origin::Resized { seed: judging.seed });
    let larger = |place: &usize| resized.corrupted_at(images, networks[*place].model.input()).is_some();
    let larger: Vec<usize> = (0..networks.len()).filter(larger).collect();
    let both = judging.resized_first && !larger.is_empty();
    let share = if both { 0.3 } else { 0.6 };
    let mut part = |done: f64| report(0.1 + share * done);
    let corrupted = corrupted_wait(&setting, &first, &Kind::MAIN, networks, &made, &mut part)?;
    let resized_first = match both {
        true => {
            let mut part = |done: f64| report(0.4 + 0.3 * done);
            let own: Vec<Network> = larger.iter().map(|&place| networks[place].clone()).collect();
            let scores = corrupted_wait(&setting, &first, &Kind::MAIN, &own, &resized, &mut part)?;
            // Others see what they saw.
            let mut all = corrupted.clone();
            larger.iter().zip(scores).for_each(|(&place, own)| all[place] = own);
            all
        }
        false => vec![],
    };
    let mut tested = vec![];
    for (place, (network, disturbed)) in networks.iter().zip(disturbed).enumerate() {
        let (clean, own) = (clean[place].0, corrupted.get(place).cloned());
        let (uncorrupted, noise) = (disturbed.calm, judging.noise);
        let attacks = attack_wait(&setting, network, some, judging)?;
        report(0.7 + 0.3 * (place + 1) as f64 / networks.len() as f64)?;
        tested.push(Tested {
            clean,
            uncorrupted,
            images: some.len(),
            robustness: noise.map(|_| flatnas_robustness(uncorrupted, &disturbed.draws)),
            rise: noise.map(|_| mean_of(&disturbed.draws).loss - uncorrupted.loss),
            under_noise: noise.map_or(vec![], |noise| disturbed.curve(noise.sigma)),
            corruption_accuracy: own.as_ref().map(|own| own.mean),
            resized_first: resized_first.get(place).map_or(vec![], |own| own.by_severity.clone()),
            corrupted: own.as_ref().map_or(vec![], |own| own.by_severity.clone()),
            by_corruption: own.map_or(vec![], |own| own.by_kind),
            suspicions: suspicions(clean.accuracy, network.model.classes(), &attacks),
            attacks,
        });
    }
    Ok(tested)
}

/// The scores of trained networks on the listed images, without noise and under each of its draws; as many networks at a
/// time as memory allows.
///
/// # Errors
/// If not even one network fits.
pub fn noisy_scores_wait(
    setting: &Setting,
    noise: Option<WeightNoise>,
    networks: &[Network],
    images: &[usize],
    seed: u64,
) -> Result<Vec<(Score, Vec<Score>)>> {
    let all = disturbed_wait(setting, (noise, &[]), networks, images, seed)?;
    Ok(all.into_iter().map(|own| (own.calm, own.draws)).collect())
}

/// Scores of a network whose weights are disturbed.
#[derive(Clone, Debug, Default)]
struct Disturbed {
    /// Without noise.
    calm: Score,
    /// Under each draw of it.
    draws: Vec<Score>,
    /// At other deviations, under the same draws.
    others: Vec<(f64, Vec<Score>)>,
}

impl Disturbed {
    /// Means over draws, by deviation, 0 and that of `draws` among them; each once.
    fn curve(&self, sigma: f64) -> Vec<(f64, Score)> {
        let mut all = vec![(0.0, self.calm)];
        if sigma > 0.0 {
            all.push((sigma, mean_of(&self.draws)));
            all.extend(self.others.iter().map(|(sigma, draws)| (*sigma, mean_of(draws))));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }
}

fn mean_of(scores: &[Score]) -> Score {
    let mean = |value: fn(&Score) -> f64| scores.iter().map(value).sum::<f64>() / scores.len().max(1) as f64;
    Score { loss: mean(|score| score.loss), accuracy: mean(|score| score.accuracy) }
}

/// The same, and under the same draws at other deviations: multiples of the noise's.
fn disturbed_wait(
    setting: &Setting,
    (noise, others): (Option<WeightNoise>, &[f64]),
    networks: &[Network],
    images: &[usize],
    seed: u64,
) -> Result<Vec<Disturbed>> {
    let models: Vec<&dyn Model> = networks.iter().map(|network| network.model).collect();
    let mut all = vec![Disturbed::default(); networks.len()];
    for (batch, places) in by_chunk(noise.map_or(BATCH, |noise| noise.batch), &models) {
        let own: Vec<Network> = places.iter().map(|&place| networks[place].clone()).collect();
        let batch = batch.min(images.len()).max(1);
        let scores = disturbed_group_wait(setting, (noise, others, seed), &own, images, batch)?;
        places.into_iter().zip(scores).for_each(|(place, scores)| all[place] = scores);
    }
    Ok(all)
}

/// The same of networks that are evaluated on as many images at once.
fn disturbed_group_wait(
    setting: &Setting,
    (noise, others, seed): (Option<WeightNoise>, &[f64], u64),
    networks: &[Network],
    images: &[usize],
    batch: usize,
) -> Result<Vec<Disturbed>> {
    let budget = setting.gpu.population_bytes() / 2;
    let draws = noise.map_or(0, |noise| noise.draws);
    let scores = |range: Range<usize>| {
        let some = &networks[range];
        let models: Vec<&dyn Model> = some.iter().flat_map(|network| vec![network.model; draws + 1]).collect();
        let passes = graphs(&models, batch, Statistics::Running)?;
        let subjects = some.iter().map(Network::subject).collect::<Result<Vec<_>>>()?;
        let mut all = vec![];
        let sources: Vec<_> = subjects.iter().map(|subject| subject.weights.clone()).collect();
        let maker = match noise {
            Some(noise) => {
                let (gpu, preset) = (setting.gpu, setting.preset);
                let maker = Perturbation::new(gpu, preset, &sources, draws, Noise::Multiplicative)?;
                maker.submit(seed, 0, noise.sigma)?;
                Some(maker)
            }
            None => None,
        };
        for (place, subject) in subjects.into_iter().enumerate() {
            all.push(subject.clone());
            let disturbed = |draw| Some(Subject { weights: maker.as_ref()?.copy(place, draw), ..subject.clone() });
            all.extend((0..draws).filter_map(disturbed));
        }
        let forward = Forward::of(setting, batch, &passes, &all)?;
        if forward.plan().bytes() > budget && some.len() > 1 {
            let (what, needed) = ("activations of networks side by side".to_owned(), forward.plan().bytes() >> 20);
            return Err(Error::Memory { what, needed, limit: budget >> 20, advice: String::new() });
        }
        let scores = forward.evaluate_wait(images)?;
        let own = scores.chunks(draws + 1);
        let mut all: Vec<Disturbed> =
            own.map(|own| Disturbed { calm: own[0], draws: own[1..].to_vec(), others: vec![] }).collect();
        let Some((maker, noise)) = maker.as_ref().zip(noise.filter(|noise| noise.sigma > 0.0)) else { return Ok(all) };
        // The same plan sees other numbers where the draws lie; those without noise in it are passed over.
        for sigma in others.iter().map(|times| times * noise.sigma) {
            maker.submit(seed, 0, sigma)?;
            let scores = forward.evaluate_wait(images)?;
            all.iter_mut()
                .zip(scores.chunks(draws + 1))
                .for_each(|(all, own)| all.others.push((sigma, own[1..].to_vec())));
        }
        Ok(all)
    };
    halving(0..networks.len(), &mut { scores })
}

/// Errors by which one of several networks is chosen, in percent points, on images that trained none of them here: means over the corruptions
/// that are meant for validation, none of which is among the 15 (Hendrycks and Dietterich 2019, appendix B), at five severities;
/// without corruption for images that cannot be corrupted.
///
/// # Errors
/// If the device has no room for a single one, and what `report` returns.
pub fn validation_errors_wait(
    setting: &Setting,
    images: &Images,
    networks: &[Network],
    seed: u64,
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<f64>> {
    let corrupted = corrupted_wait(setting, images, &Kind::VALIDATION, networks, &Origin::Made { seed }, report)?;
    let accuracies = match corrupted.is_empty() {
        false => corrupted.into_iter().map(|own| own.mean).collect(),
        true => {
            let supply = Supply::new(setting.gpu, images)?;
            let setting = Setting { data: &supply, ..setting.clone() };
            let all: Vec<usize> = (0..images.len()).collect();
            let scores = noisy_scores_wait(&setting, None, networks, &all, seed)?;
            scores.into_iter().map(|(clean, _)| clean.accuracy).collect::<Vec<_>>()
        }
    };
    Ok(accuracies.into_iter().map(|accuracy| 100.0 * (1.0 - accuracy)).collect())
}

/// Accuracies of a network on corrupted images.
#[derive(Clone, Debug)]
struct Corrupted {
    /// Means over kinds, at each severity.
    by_severity: Vec<f64>,
    /// Of each kind, at each severity.
    by_kind: Vec<(Kind, Vec<f64>)>,
    /// Over all.
    mean: f64,
}

/// Accuracies of each network under corruptions; none for images that cannot be corrupted.
fn corrupted_wait(
    setting: &Setting,
    images: &Images,
    kinds: &[Kind],
    networks: &[Network],
    origin: &Origin,
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Corrupted>> {
    if !matches!(images.channels, 1 | 3) {
        return Ok(vec![]);
    }
    let corruptions = grid(kinds, &Severity::ALL, constants_for(images), None);
    halving(0..networks.len(), &mut |range| {
        let subjects = networks[range.clone()].iter().map(|network| Ok((network.model, network.subject()?)));
        let subjects = subjects.collect::<Result<Vec<_>>>()?;
        let (begun, part) = (range.start as f64, range.len() as f64);
        let mut report = |done: usize, total: usize| {
            report((begun + part * done as f64 / total.max(1) as f64) / networks.len() as f64)
        };
        let scores = evaluate_wait(setting, &subjects, images, &corruptions, origin, &mut report)?.corrupted;
        let mean = |network: usize, severity: Option<Severity>| {
            let counts = |own: Severity| severity.is_none_or(|severity| own == severity);
            let own = corruptions.iter().zip(&scores).filter(|(corruption, _)| counts(corruption.severity()));
            let own: Vec<f64> = own.map(|(_, scores)| scores[network].accuracy).collect();
            own.iter().sum::<f64>() / own.len().max(1) as f64
        };
        let of_kind = |network: usize, place: usize| {
            let own = scores[place * Severity::ALL.len()..].iter().take(Severity::ALL.len());
            (kinds[place], own.map(|scores| scores[network].accuracy).collect())
        };
        let all = |network| Corrupted {
            by_severity: Severity::ALL.iter().map(|s| mean(network, Some(*s))).collect(),
            by_kind: (0..kinds.len()).map(|place| of_kind(network, place)).collect(),
            mean: mean(network, None),
        };
        Ok((0..range.len()).map(all).collect())
    })
}

/// What attacks reach on the images.
fn attack_wait(
    setting: &Setting,
    network: &Network,
    images: &[usize],
    judging: &Judging,
) -> Result<Vec<(Attack, Attacked)>> {
    let run = |&attack: &Attack| {
        let most = by_chunk(100, &[network.model]).into_keys().next().unwrap_or(1);
        let (batch, subjects) = (images.len().min(most), [network.subject()?]);
        let attacker = Attacker::new(setting, network.model, batch, &subjects, attack, judging.seed)?;
        let result = attacker.run_wait(images, &mut |_, _| Ok(()))?.into_iter().next();
        Ok((attack, result.ok_or_else(|| Error::invalid("attack", "nothing was attacked"))?))
    };
    judging.attacks.iter().map(run).collect()
}

/// Loss and accuracy on test images, waiting for them.
///
/// # Errors
/// If the device has no room.
pub fn test_wait(setting: &Setting, model: &dyn Model, test: &TestImages, subject: Subject) -> Result<Score> {
    let images = test.reveal_for_final_evaluation();
    let supply = Supply::new(setting.gpu, images)?;
    let setting = Setting { data: &supply, ..setting.clone() };
    let most = by_chunk(BATCH, &[model]).into_keys().next().unwrap_or(1);
    let batch = images.len().clamp(1, most);
    let forward_graph = graph(model, batch, Statistics::Running)?;
    let forward = Forward::new(&setting, batch, &forward_graph, &[subject])?;
    let scores = forward.evaluate_wait(&(0..images.len()).collect::<Vec<_>>())?;
    scores.first().copied().ok_or_else(|| Error::invalid("test", "nothing was evaluated"))
}

/// What became of a trained network.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    #[serde(deserialize_with = "number::one")]
    pub clean_loss: f64,
    /// Accuracy on test images.
    #[serde(deserialize_with = "number::one")]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnderAttack {
    /// The attack.
    pub attack: String,
    /// Share of images that stay right at every point that it looked at.
    #[serde(deserialize_with = "number::one")]
    pub accuracy: f64,
    /// Images that were attacked.
    pub images: usize,
}

impl Final {
    /// Of a network that was trained by a recipe on so many images.
    pub fn new(recipe: &Recipe, training: (usize, Progress), test_images: usize, tested: &Tested) -> Self {
        let attacked = |(attack, result): &(Attack, Attacked)| UnderAttack {
            attack: attack.to_string(),
            accuracy: result.accuracy,
            images: tested.images,
        };
        Final {
            optimizer: recipe.optimizer,
            epochs: recipe.epochs,
            training_images: training.0,
            training: training.1,
            test_images,
            clean_loss: tested.clean.loss,
            clean_accuracy: tested.clean.accuracy,
            corruption_accuracy: tested.corruption_accuracy,
            corruption_images: if tested.corrupted.is_empty() { 0 } else { tested.images },
            attacks: tested.attacks.iter().map(attacked).collect(),
            suspicions: tested.suspicions.clone(),
            flatness: tested.rise,
        }
    }

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
