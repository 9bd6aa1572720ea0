//! Many candidates with shared weights side by side: recalibration, loss, and flatness under many draws of weight noise.

use std::sync::Arc;

use super::flatness::{FlatnessProtocol, SIGMA_RATIOS, genas_flatness, slope_sum};
use super::forward::{Averaging, Forward, Score, Subject, graph, running_store};
use super::noise::Perturbation;
use crate::error::{Error, Result};
use crate::graph::store::Store;
use crate::graph::{Graph, Noise, Statistics};
use crate::nn::Model;
use crate::train::feed::Pick;
use crate::train::trainer::Setting;

/// What is measured, and on what.
#[derive(Clone, Debug)]
pub struct PopulationOptions {
    /// Candidates side by side at most.
    pub side_by_side: usize,
    /// Images per batch.
    pub batch: usize,
    /// Batches that set a candidate's batch-norm statistics.
    pub recalibration: Vec<Vec<Pick>>,
    /// How these are weighed.
    pub averaging: Averaging,
    /// Images that measure.
    pub images: Vec<usize>,
    /// The flatness measure.
    pub flatness: FlatnessProtocol,
    /// Seed of the noise.
    pub seed: u64,
}

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

/// Compiled evaluation of up to `width` candidates at a time.
pub struct Population<'a> {
    setting: &'a Setting<'a>,
    options: PopulationOptions,
    width: usize,
    recalibration: Forward,
    clean: Forward,
    noisy: Forward,
    /// One maker of perturbed weights, or a chain of them, one per deviation, for cumulative noise.
    makers: Vec<Perturbation>,
    sigmas: Vec<f64>,
}

impl<'a> Population<'a> {
    /// Compiles the evaluation of candidates, paths of `model` with its weights, as many at a time as memory allows.
    ///
    /// # Errors
    /// If not even one candidate fits.
    pub fn new(
        setting: &'a Setting<'a>,
        model: &dyn Model,
        weights: &Store,
        options: PopulationOptions,
    ) -> Result<Self> {
        if options.flatness.cumulative && options.flatness.draws > 1 {
            return Err(Error::invalid("flatness.draws", "cumulative noise (--compat) has one draw per candidate"));
        }
        let forward = |statistics| graph(model, options.batch, statistics);
        let (training, running) = (forward(Statistics::Batch { update: true })?, forward(Statistics::Running)?);
        let draws = options.flatness.draws;
        // Candidates with noise of their own are evaluated one by one.
        let mut width = if options.flatness.shared_noise { options.side_by_side } else { 1 };
        // Passes for statistics and without noise lie beside it.
        let budget = setting.gpu.population_bytes() / 4;
        let makers = makers(setting, weights, &options)?;
        loop {
            let subjects = Subjects { setting, weights, width, batch: options.batch };
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
            let sigmas = options.flatness.sigmas.clone();
            return Ok(Population {
                sigmas,
                setting,
                options,
                width,
                recalibration: recalibrating,
                clean,
                noisy,
                makers,
            });
        }
    }

    /// Candidates that are measured side by side.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Deviations of the noise; none if they are still to be found.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// Sets the deviations, found before a job was interrupted.
    pub fn set_sigmas(&mut self, sigmas: Vec<f64>) {
        self.sigmas = sigmas;
    }

    /// Finds deviations: the largest is the first of a doubling row that raises the mean loss of `paths`
    /// by the wanted factor; the others stand to it as GeNAS's do.
    ///
    /// # Errors
    /// If the device fails, or no noise raises the loss.
    pub fn find_sigmas_wait(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        let zero = self.mean_loss(paths, None)?;
        let mut sigma = 0.005;
        while sigma < 10.0 {
            let loss = self.mean_loss(paths, Some(sigma))?;
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

    /// The mean loss of some paths, without noise or with one of a deviation.
    fn mean_loss(&mut self, paths: &[Vec<u8>], sigma: Option<f64>) -> Result<f64> {
        let mut losses = vec![];
        for some in paths.chunks(self.width) {
            self.prepare(some)?;
            let (scores, each) = match sigma {
                None => (self.clean.evaluate_wait(&self.options.images)?, 1),
                Some(sigma) => {
                    self.perturb(0, 0, sigma)?;
                    (self.noisy.evaluate_wait(&self.options.images)?, self.options.flatness.draws)
                }
            };
            losses.extend(scores[..some.len() * each].iter().map(|score| score.loss));
        }
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    }

    /// Measures candidates given by their paths, at most [`Population::width`], waiting for the results. `number` is that of the first
    /// candidate in the search, which keys noise that is not shared.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure_wait(&mut self, paths: &[Vec<u8>], number: u64) -> Result<Vec<Measured>> {
        self.prepare(paths)?;
        let protocol = self.options.flatness.clone();
        let clean = self.clean.evaluate_wait(&self.options.images)?;
        let key = if protocol.shared_noise { 0 } else { number + 1 };
        let mut losses = vec![vec![]; paths.len()];
        for level in 0..self.sigmas.len() {
            let before = if protocol.cumulative && level > 0 { self.sigmas[level - 1] } else { 0.0 };
            self.perturb(level, key, self.sigmas[level] - before)?;
            let scores = self.noisy.evaluate_wait(&self.options.images)?;
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
        self.recalibration.recalibrate(&self.options.recalibration, self.options.averaging)
    }

    fn perturb(&self, level: usize, key: u64, sigma: f64) -> Result<()> {
        // Cumulative noise starts from the weights and then adds to its own copy.
        let maker = &self.makers[level.min(self.makers.len() - 1)];
        // A draw of one deviation says nothing about another's: numbers of draws go on from level to level.
        let first = (level * self.options.flatness.draws) as u32;
        maker.submit(self.options.seed ^ key << 32, first, sigma)?;
        self.setting.gpu.check("perturbing weights")
    }
}

/// What makes perturbed weights: one maker, or for cumulative noise one that adds to its own copy.
fn makers(setting: &Setting, weights: &Store, options: &PopulationOptions) -> Result<Vec<Perturbation>> {
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
        let forward = |graph, subjects: &[Subject]| Forward::new(self.setting, self.batch, graph, subjects);
        Ok([forward(training, &plain)?, forward(running, &plain)?, forward(running, &noisy.collect::<Vec<_>>())?])
    }
}
