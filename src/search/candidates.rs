//! Evaluating candidates of a supernet: recalibration, loss, flatness; many candidates and draws side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::Evaluation;
use super::supernet::recalibration;
use crate::error::{Error, Result};
use crate::graph::store::Store;
use crate::graph::{Graph, Noise, Statistics};
use crate::measure::flatness::{SIGMA_RATIOS, genas_flatness, slope_sum};
use crate::measure::forward::{Forward, Score, Subject, graph, running_store};
use crate::measure::noise::Perturbation;
use crate::nn::Model;
use crate::train::feed::Pick;
use crate::train::trainer::Setting;

/// Bytes of activations that one population may take on adapters that share the processor's memory, and on others.
const BUDGETS: (u64, u64) = (256 << 20, 1 << 30);

/// What was measured on a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Without noise.
    pub clean: Score,
    /// Mean loss over draws at each deviation.
    pub noisy_losses: Vec<f64>,
    /// GeNAS's measure.
    pub flatness: f64,
    /// Sum of slopes alone; smaller is flatter.
    pub slope: f64,
}

impl Measured {
    /// As named figures for the archive.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::from([
            ("loss".to_owned(), self.clean.loss),
            ("accuracy".to_owned(), self.clean.accuracy),
            ("flatness".to_owned(), self.flatness),
            ("slope".to_owned(), self.slope),
        ]);
        for (level, loss) in self.noisy_losses.iter().enumerate() {
            figures.insert(format!("loss_at_sigma_{}", level + 1), *loss);
        }
        figures
    }
}

/// Compiled evaluation of up to `width` candidates at a time.
pub struct Evaluator<'a> {
    setting: Setting<'a>,
    options: Evaluation,
    width: usize,
    recalibration: Forward,
    clean: Forward,
    noisy: Forward,
    /// One maker of perturbed weights, or a chain of them, one per deviation, for cumulative noise.
    makers: Vec<Perturbation>,
    recalibration_batches: Vec<Vec<Pick>>,
    images: Vec<usize>,
    sigmas: Vec<f64>,
    seed: u64,
}

/// Where the weights of candidates come from.
pub struct Parent<'a> {
    /// The supernet.
    pub model: &'a dyn Model,
    /// Its weights.
    pub weights: Store,
    /// Images that trained it, for recalibration.
    pub training_images: &'a [usize],
    /// Images that score candidates.
    pub validation_images: &'a [usize],
}

impl<'a> Evaluator<'a> {
    /// Compiles the evaluation of candidates of `parent`, `wanted` at a time if memory allows.
    ///
    /// # Errors
    /// If not even one candidate fits.
    pub fn new(setting: Setting<'a>, parent: &Parent, options: &Evaluation, wanted: usize, seed: u64) -> Result<Self> {
        let mut options = options.clone();
        if options.flatness.cumulative && options.flatness.draws > 1 {
            return Err(Error::invalid("flatness.draws", "cumulative noise (--compat) has one draw per candidate"));
        }
        if options.images == 0 || options.images > parent.validation_images.len() {
            options.images = parent.validation_images.len();
        }
        let input = parent.model.input();
        let forward = |statistics| graph(parent.model, options.batch, statistics);
        let (training, running) = (forward(Statistics::Batch { update: true })?, forward(Statistics::Running)?);
        let draws = options.flatness.draws;
        // Candidates with noise of their own are evaluated one by one.
        let mut width = if options.flatness.shared_noise { wanted.max(1) } else { 1 };
        let budget = if setting.gpu.report().is_software() { BUDGETS.0 } else { BUDGETS.1 };
        let makers = makers(&setting, &parent.weights, &options)?;
        loop {
            let subjects = Subjects { setting: &setting, weights: &parent.weights, width, input, batch: options.batch };
            let built = subjects.forwards(&training, &running, &makers, draws);
            let fits = match &built {
                Ok([_, _, noisy]) => noisy.plan().bytes() <= budget || width == 1,
                Err(Error::Memory { .. }) if width > 1 => false,
                Err(_) => true,
            };
            if !fits {
                width = width.div_ceil(2);
                continue;
            }
            let [recalibrating, clean, noisy] = built?;
            let batches = options.recalibration_batches;
            return Ok(Evaluator {
                recalibration_batches: recalibration(parent.training_images, seed, options.batch, batches),
                images: parent.validation_images[..options.images].to_vec(),
                sigmas: options.flatness.sigmas.clone(),
                setting,
                options,
                width,
                recalibration: recalibrating,
                clean,
                noisy,
                makers,
                seed,
            });
        }
    }

    /// Deviations in use.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// Sets the deviations, found before a search was interrupted.
    pub fn set_sigmas(&mut self, sigmas: Vec<f64>) {
        self.sigmas = sigmas;
    }

    /// Candidates that are evaluated side by side.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Finds deviations on the supernet: the largest is the first of a doubling row that raises the mean loss of `paths`
    /// by the wanted factor; the others stand to it as GeNAS's do.
    ///
    /// # Errors
    /// If the device fails, or no noise raises the loss.
    pub fn find_sigmas_wait(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        if !self.sigmas.is_empty() {
            return Ok(());
        }
        let paths = &paths[..paths.len().min(self.width)];
        self.prepare(paths)?;
        let mean = |scores: &[Score]| scores.iter().map(|s| s.loss).sum::<f64>() / scores.len() as f64;
        let zero = mean(&self.clean.evaluate_wait(&self.images)?[..paths.len()]);
        let mut sigma = 0.005;
        while sigma < 10.0 {
            self.perturb(0, 0, sigma)?;
            let scores = self.noisy.evaluate_wait(&self.images)?;
            let loss = mean(&scores[..paths.len() * self.options.flatness.draws]);
            if loss.is_finite() && loss >= self.options.flatness.rise * zero {
                self.sigmas = SIGMA_RATIOS.iter().map(|ratio| ratio * sigma).collect();
                log::info!("weight noise of {sigma} raises the loss from {zero:.3} to {loss:.3}");
                return Ok(());
            }
            sigma *= 2.0_f64.sqrt();
        }
        Err(Error::invalid(
            "flatness.rise",
            format!(
                "no weight noise raises the supernet's loss of {zero:.3} by {}; train it longer",
                self.options.flatness.rise
            ),
        ))
    }

    /// Measures candidates given by their paths, at most [`Evaluator::width`], waiting for the results. `first` is the
    /// number of the first candidate in the search, which keys noise that is not shared.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure_wait(&mut self, paths: &[Vec<u8>], first: u64) -> Result<Vec<Measured>> {
        self.prepare(paths)?;
        let protocol = self.options.flatness.clone();
        let clean = self.clean.evaluate_wait(&self.images)?;
        let key = if protocol.shared_noise { 0 } else { first + 1 };
        let mut losses = vec![vec![]; paths.len()];
        for level in 0..self.sigmas.len() {
            let before = if protocol.cumulative && level > 0 { self.sigmas[level - 1] } else { 0.0 };
            self.perturb(level, key, self.sigmas[level] - before)?;
            let scores = self.noisy.evaluate_wait(&self.images)?;
            for (candidate, list) in losses.iter_mut().enumerate() {
                let own = &scores[candidate * protocol.draws..(candidate + 1) * protocol.draws];
                list.push(own.iter().map(|s| s.loss).sum::<f64>() / own.len() as f64);
            }
        }
        let measured = clean.into_iter().zip(losses).map(|(clean, noisy_losses)| {
            let zero = protocol.loss_at_zero.then_some(clean.loss);
            Measured {
                clean,
                flatness: genas_flatness(&self.sigmas, &noisy_losses, zero, protocol.alpha),
                slope: slope_sum(&self.sigmas, &noisy_losses, clean.loss),
                noisy_losses,
            }
        });
        Ok(measured.collect())
    }

    /// Paths and statistics of all candidates.
    fn prepare(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        if paths.is_empty() || paths.len() > self.width {
            return Err(Error::shape("population", format!("1 to {}", self.width), paths.len()));
        }
        // A short population is filled up with its last candidate.
        let full: Vec<Vec<u8>> = (0..self.width).map(|i| paths[i.min(paths.len() - 1)].clone()).collect();
        self.recalibration.choose(&full)?;
        self.clean.choose(&full)?;
        let draws = self.options.flatness.draws;
        let each = full.iter().flat_map(|path| std::iter::repeat_n(path.clone(), draws));
        self.noisy.choose(&each.collect::<Vec<_>>())?;
        self.recalibration.recalibrate(&self.recalibration_batches, self.options.averaging)
    }

    fn perturb(&self, level: usize, key: u64, sigma: f64) -> Result<()> {
        // Cumulative noise starts from the weights and then adds to its own copy.
        let maker = &self.makers[level.min(self.makers.len() - 1)];
        // A draw of one deviation says nothing about another's: numbers of draws go on from level to level.
        let first = (level * self.options.flatness.draws) as u32;
        maker.submit(self.seed ^ key << 32, first, sigma)?;
        self.setting.gpu.check("perturbing weights")
    }
}

/// What makes perturbed weights: one maker, or for cumulative noise one that adds to its own copy.
fn makers(setting: &Setting, weights: &Store, options: &Evaluation) -> Result<Vec<Perturbation>> {
    let make =
        |source| Perturbation::new(setting.gpu, setting.preset, &[source], options.flatness.draws, Noise::Additive);
    let first = make((weights.clone(), 0))?;
    if !options.flatness.cumulative {
        return Ok(vec![first]);
    }
    let again = first.onto_itself(setting.preset)?;
    Ok(vec![first, again])
}

/// What the passes of a population share.
struct Subjects<'a, 'b> {
    setting: &'a Setting<'b>,
    weights: &'a Store,
    width: usize,
    input: [usize; 3],
    batch: usize,
}

impl Subjects<'_, '_> {
    /// Recalibration, clean and noisy passes.
    fn forwards(
        &self,
        training: &Arc<Graph>,
        running: &Arc<Graph>,
        makers: &[Perturbation],
        draws: usize,
    ) -> Result<[Forward; 3]> {
        let statistics = running_store(self.setting.gpu, running, self.width)?;
        let path = vec![0; running.choices.len()];
        let subject = |weights: (Store, usize), candidate: usize| Subject {
            weights,
            running: (statistics.clone(), candidate),
            path: path.clone(),
        };
        let plain: Vec<_> = (0..self.width).map(|i| subject((self.weights.clone(), 0), i)).collect();
        let noisy = (0..self.width)
            .flat_map(|i| (0..draws).map(move |draw| (i, draw)))
            .map(|(i, draw)| subject(makers[0].copy(0, draw), i));
        let forward = |graph, subjects: &[Subject]| Forward::new(self.setting, self.input, self.batch, graph, subjects);
        Ok([forward(training, &plain)?, forward(running, &plain)?, forward(running, &noisy.collect::<Vec<_>>())?])
    }
}
