//! Attacks on images in the L-infinity ball: FGSM, PGD and APGD-CE, many networks and restarts side by side.
//!
//! *Units.* Radius and step are given for pixels in `0..1`, before normalisation, as the network sees them (after crops and
//! averaging). *Loss.* Cross-entropy, without smoothing, on running statistics; weights and statistics are not touched.
//! *Robust accuracy* is the share of images that are right as they are and at every point that was looked at, of all
//! restarts. So it can only fall with more steps or restarts, whatever the last point is.

use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::forward::{Score, Subject};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Part};
use crate::graph::plan::{Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Builder, Graph, Init, Op, Role, Shape, Statistics, TensorId, attack};
use crate::nn::{Layers, Model};
use crate::train::adversarial::{Ball, number};
use crate::train::feed::{Feed, Pick};
use crate::train::trainer::Setting;

/// Which attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// One step of the radius' length (Goodfellow et al. 2015, section 4).
    Fgsm,
    /// Projected gradient descent (Madry et al. 2018, section 2.1).
    Pgd,
    /// Auto-PGD on cross-entropy (Croce and Hein 2020, section 3).
    Apgd,
}

/// An attack with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Attack {
    /// Which one.
    pub method: Method,
    /// Radius of the ball, in pixels of `0..1`.
    pub eps: f64,
    /// Number of steps.
    pub steps: usize,
    /// Length of a step, in pixels of `0..1`; APGD's first one.
    pub step: f64,
    /// Number of starts; all but FGSM's are random if `random`.
    pub restarts: usize,
    /// Whether it starts at a random point of the ball.
    pub random: bool,
}

impl Attack {
    /// FGSM.
    pub fn fgsm(eps: f64) -> Self {
        Attack { method: Method::Fgsm, eps, steps: 1, step: eps, restarts: 1, random: false }
    }

    /// PGD with random start and steps of 2.5 times the radius over their number (Madry et al. 2018).
    pub fn pgd(eps: f64, steps: usize) -> Self {
        let step = 2.5 * eps / steps.max(1) as f64;
        Attack { method: Method::Pgd, eps, steps, step, restarts: 1, random: true }
    }

    /// APGD-CE with random start; its first step is twice the radius.
    pub fn apgd(eps: f64, steps: usize) -> Self {
        Attack { method: Method::Apgd, eps, steps, step: 2.0 * eps, restarts: 1, random: true }
    }

    /// Refuses what is no attack.
    ///
    /// # Errors
    /// Which number is out of range.
    pub fn check(&self) -> Result<()> {
        let bad = |why: String| Err(Error::invalid("--attacks", why));
        if !(0.0..=1.0).contains(&self.eps) {
            return bad(format!("the radius {} is not between 0 and 1, such as 8/255", self.eps));
        }
        if !(self.step >= 0.0 && self.step.is_finite()) {
            return bad(format!("the step {} is no length", self.step));
        }
        if self.steps == 0 || self.steps > 10_000 || self.restarts == 0 || self.restarts > 1_000 {
            let have = format!("{} steps and {} restarts", self.steps, self.restarts);
            return bad(format!("{have}; 1 to 10000 steps and 1 to 1000 restarts are possible"));
        }
        Ok(())
    }

    /// Whether APGD checks its progress after step `i` (counted from 0), and the number of steps since the last check.
    /// The checks lie at shares 0, 0.22, ... of the steps, each gap 0.03 shorter than the one before, but at least 0.06
    /// (Croce and Hein 2020, section 3; gaps rounded down as in the authors' code).
    fn window_after(&self, i: usize) -> Option<usize> {
        let share = |s: f64| ((s * self.steps as f64) as usize).max(1);
        let (mut gap, mut at) = (share(0.22), 0);
        while at + gap <= i {
            at += gap;
            gap = gap.saturating_sub(share(0.03)).max(share(0.06));
        }
        (at + gap == i + 1).then_some(gap)
    }
}

/// Steps that may wait on the device before the host waits for it.
const STEPS_IN_FLIGHT: usize = 8;

impl FromStr for Attack {
    type Err = Error;

    /// `fgsm:EPS`, `pgd:EPS:STEPS[:STEP[:RESTARTS]]`, `apgd:EPS:STEPS[:RESTARTS]`; lengths such as `8/255`.
    fn from_str(text: &str) -> Result<Self> {
        let fail = || {
            let why = format!(
                "`{text}` is none; expected fgsm:EPS, pgd:EPS:STEPS[:STEP[:RESTARTS]] or apgd:EPS:STEPS[:RESTARTS], such as pgd:8/255:10"
            );
            Error::invalid("--attacks", why)
        };
        let parts: Vec<&str> = text.trim().split(':').collect();
        let eps = parts.get(1).and_then(|t| number(t)).ok_or_else(fail)?;
        let count = |i: usize| parts.get(i).map_or(Ok(1), |t| t.parse::<usize>().map_err(|_| fail()));
        let attack = match (parts[0], parts.len()) {
            ("fgsm", 2) => Attack::fgsm(eps),
            ("pgd", 3..=5) => {
                let usual = Attack::pgd(eps, count(2)?);
                let step = parts.get(3).map_or(Ok(usual.step), |t| number(t).ok_or_else(fail))?;
                Attack { step, restarts: count(4)?, ..usual }
            }
            ("apgd", 3..=4) => Attack { restarts: count(3)?, ..Attack::apgd(eps, count(2)?) },
            _ => return Err(fail()),
        };
        attack.check()?;
        Ok(attack)
    }
}

impl std::fmt::Display for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let eps = self.eps * 255.0;
        match self.method {
            Method::Fgsm => write!(f, "FGSM {eps:.3}/255"),
            Method::Pgd => write!(f, "PGD-{} {eps:.3}/255, step {:.3}/255", self.steps, self.step * 255.0),
            Method::Apgd => write!(f, "APGD-CE-{} {eps:.3}/255", self.steps),
        }?;
        if self.restarts > 1 { write!(f, ", {} restarts", self.restarts) } else { Ok(()) }
    }
}

/// What an attack reached on one network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Attacked {
    /// Share of images that stayed right at every point looked at.
    pub accuracy: f64,
    /// Mean over images of the largest loss found.
    pub worst_loss: f64,
    /// Loss and accuracy at the last point of the last restart.
    pub last: Score,
    /// Share of values of the last gradient that are exactly zero: near 1 the network hides its gradients, and the attack
    /// says nothing.
    pub zero_gradients: f64,
}

/// What is suspicious about results, one line each: an attack that is weak, or a result that cannot be.
///
/// `clean` is the accuracy without attack. See Carlini et al. 2019 ("On evaluating adversarial robustness"), section 3.
pub fn suspicions(clean: f64, classes: usize, results: &[(Attack, Attacked)]) -> Vec<String> {
    let mut lines = vec![];
    for (attack, result) in results {
        if result.zero_gradients > 0.5 {
            let share = 100.0 * result.zero_gradients;
            lines.push(format!(
                "{attack}: {share:.0} % of the gradients are zero; the network hides them, and the attack says nothing"
            ));
        }
        if !result.worst_loss.is_finite() || !result.last.loss.is_finite() {
            lines.push(format!("{attack}: a loss is not finite"));
        }
        if result.accuracy > clean + 1e-9 && attack.eps > 0.0 {
            lines.push(format!("{attack}: more images are right than without attack"));
        }
        let chance = 1.0 / classes.max(1) as f64;
        if attack.eps >= 1.0 && attack.steps >= 10 && result.accuracy > chance + 0.02 {
            lines.push(format!("{attack}: better than chance although every image is allowed; the attack is too weak"));
        }
        let stronger = |other: &&(Attack, Attacked)| {
            other.0.method == Method::Fgsm && attack.method != Method::Fgsm && other.0.eps == attack.eps
        };
        if results.iter().find(stronger).is_some_and(|(_, fgsm)| result.accuracy > fgsm.accuracy + 0.02) {
            lines.push(format!("{attack}: weaker than FGSM of the same radius; take more or shorter steps"));
        }
    }
    lines
}

/// The compiled passes of an attack on a number of networks.
pub struct Attacker {
    gpu: Gpu,
    feed: Feed,
    attack: Attack,
    start: Plan,
    step: Plan,
    judge: Plan,
    /// A copy for each network and restart.
    store: Store,
    /// The host's numbers for each of them.
    words: Vec<Store>,
    graph: Tensors,
    subjects: usize,
    seed: u64,
    ball: Ball,
}

/// Tensors of the step's graph that are read back.
struct Tensors {
    gradient: TensorId,
    /// Loss and hit of each image, in the last pass.
    per_image: TensorId,
}

/// Tensors that an attack keeps.
struct Kept {
    x: TensorId,
    adv: TensorId,
    settings: TensorId,
    state: TensorId,
    memory: TensorId,
}

fn kept(b: &mut Builder, batch: usize, input: [usize; 3]) -> Result<Kept> {
    let ([h, w, c], zero) = (input, Init::Constant(0.0));
    let map = Shape::map(batch, h, w, c);
    Ok(Kept {
        x: b.persistent(Role::Batch, "x", map, zero, &[batch, c, h, w])?,
        adv: b.persistent(Role::Attack, "adv", map, zero, &[batch, c, h, w])?,
        settings: b.persistent(Role::Hyper, "settings", attack::shape(c), zero, &[])?,
        state: b.persistent(Role::Attack, "state", Shape::Vectors { rows: batch, c: 8 }, zero, &[batch, 8])?,
        memory: b.persistent(Role::Attack, "memory", Shape::map(3 * batch, h, w, c), zero, &[3 * batch, c, h, w])?,
    })
}

/// Loss at the attacked point, entered into the records; then with `step` the gradient and a step.
fn pass(model: &dyn Model, batch: usize, step: Option<Method>) -> Result<(Graph, Tensors)> {
    let mut layers = Layers::new(Statistics::Running)?;
    let (_, labels) = layers.batch(batch, model.input())?;
    let Kept { x, adv, settings, state, memory } = kept(&mut layers.builder, batch, model.input())?;
    let logits = model.forward(&mut layers, adv)?.logits;
    let b = &mut layers.builder;
    let loss = b.cross_entropy(logits, labels, 0.0, step.is_some(), false)?;
    b.probe(loss.per_image, "loss");
    b.push(Op::AttackJudge { loss: loss.per_image, settings, state });
    let mut gradient = adv;
    if let (Some(method), Some(seed)) = (step, loss.dlogits) {
        let gradients = b.backward(&[(logits, seed)], &[adv])?;
        gradient = gradients.get(adv).unwrap_or(adv);
        b.probe(gradient, "gradient");
        let memory = (method == Method::Apgd).then_some(memory);
        b.push(Op::AttackStep { x, adv, g: gradient, settings, state, memory });
    }
    Ok((layers.builder.finish(), Tensors { gradient, per_image: loss.per_image }))
}

/// What an attack left on a subject.
struct Last {
    /// The records of each restart.
    states: Vec<Vec<f32>>,
    /// Loss and hit of each image at the last point of the last restart.
    per_image: Vec<f32>,
    /// The gradient of its last step.
    gradient: Vec<f32>,
}

/// Worst loss and hits of a copy's images.
fn records(state: &[f32], count: usize) -> Vec<[f64; 2]> {
    state.chunks(8).take(count).map(|record| [record[0], record[1]].map(f64::from)).collect()
}

impl Attacker {
    /// Compiles the passes of `attack` on the subjects, for batches of `batch` images of the setting's data.
    ///
    /// # Errors
    /// If the attack's numbers are out of range, shapes do not fit, or the device has no room.
    pub fn new(
        setting: &Setting,
        model: &dyn Model,
        batch: usize,
        subjects: &[Subject],
        attack: Attack,
        seed: u64,
    ) -> Result<Self> {
        attack.check()?;
        if batch == 0 || subjects.is_empty() {
            let why = format!("batches of {batch} images, {} networks; at least one of each is needed", subjects.len());
            return Err(Error::invalid("attack", why));
        }
        let (gpu, input) = (setting.gpu, model.input());
        let mut b = Builder::new();
        let Kept { x, adv, settings, state, .. } = kept(&mut b, batch, input)?;
        b.push(Op::AttackStart { x, settings, adv, state });
        let start = Arc::new(b.finish());
        let (step, tensors) = pass(model, batch, Some(attack.method))?;
        let (judge, last) = pass(model, batch, None)?;
        let (step, judge) = (Arc::new(step), Arc::new(judge));
        // One task per network and restart.
        let copies = subjects.len() * attack.restarts;
        let store = Store::new(gpu, Contents::of(&step, &[Role::Attack])?, copies, "attack")?;
        let words = vec![Contents::of(&step, &[Role::Hyper])?; copies];
        let (feed, words) = Feed::beside(setting, &[vec![input]], batch, words)?;
        let images = feed.store(0)?;
        let plan = |graph: &Arc<Graph>| {
            let instance = |copy: usize| {
                let subject = &subjects[copy / attack.restarts];
                Instance {
                    graph: graph.clone(),
                    bindings: [
                        (Role::Weights, subject.weights.clone()),
                        (Role::Running, subject.running.clone()),
                        (Role::Batch, (images.clone(), 0)),
                        (Role::Hyper, (words[copy].clone(), 0)),
                        (Role::Attack, (store.clone(), copy)),
                    ]
                    .into(),
                    path: subject.path.clone(),
                }
            };
            Plan::compile(gpu, (0..copies).map(instance).collect(), setting.preset)
        };
        let mut start_instances = vec![];
        for (copy, words) in words.iter().enumerate() {
            let bindings = [
                (Role::Batch, (images.clone(), 0)),
                (Role::Hyper, (words.clone(), 0)),
                (Role::Attack, (store.clone(), copy)),
            ];
            start_instances.push(Instance { graph: start.clone(), bindings: bindings.into(), path: vec![] });
        }
        let (step, judge) = (plan(&step)?, plan(&judge)?);
        Ok(Attacker {
            gpu: gpu.clone(),
            feed,
            attack,
            start: Plan::compile(gpu, start_instances, setting.preset)?,
            step,
            judge,
            store,
            words,
            graph: Tensors { gradient: tensors.gradient, per_image: last.per_image },
            subjects: subjects.len(),
            seed,
            ball: Ball::new(setting.statistics),
        })
    }

    /// The attack's numbers for one copy and step.
    fn settings(&self, copy: usize, own: &Store, batch: usize, random: bool, step: Option<usize>) -> Result<()> {
        let restart = copy % self.attack.restarts;
        let draw = (batch * self.attack.restarts + restart) as u32;
        let Attack { eps, step: length, .. } = self.attack;
        let mut words = self.ball.words(eps, length, self.seed, random.then_some(draw));
        let stride = words.len() / 6;
        let mut set = |row: usize, column: usize, value: f64| words[row * stride + column] = (value as f32).to_bits();
        if let Some(step) = step {
            // After the last step there is no further one to weigh.
            set(attack::CONTROL, 0, if step == 0 { 1.0 } else { 0.75 });
            // The judge looks at the point that the step before made.
            let window = step.checked_sub(1).and_then(|before| self.attack.window_after(before));
            set(attack::CONTROL, 1, window.unwrap_or(0) as f64);
            set(attack::CONTROL, 2, f64::from(u8::from(step == 0)));
        }
        own.write_words(&self.gpu, 0, "settings", &words)
    }

    fn all_settings(&self, batch: usize, random: bool, step: Option<usize>) -> Result<()> {
        let mut copies = self.words.iter().enumerate();
        copies.try_for_each(|(copy, own)| self.settings(copy, own, batch, random, step))
    }

    /// Looks at one batch of images as they are; does not wait.
    fn submit_clean(&self, picks: &[Pick]) -> Result<()> {
        self.feed.set(0, picks)?;
        self.all_settings(0, false, None)?;
        let mut recorder = self.gpu.record();
        self.feed.record(&mut recorder);
        self.start.record(&mut recorder);
        self.judge.record(&mut recorder);
        recorder.submit();
        self.gpu.check("attacking")
    }

    /// Attacks one batch of images, number `batch` of a run. Calls `between` after each step; does not wait by itself.
    ///
    /// # Errors
    /// If an image does not exist or the device fails, and what `between` returns.
    pub fn submit(&self, picks: &[Pick], batch: usize, between: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.feed.set(0, picks)?;
        let random = self.attack.random && self.attack.method != Method::Fgsm;
        self.all_settings(batch, random, None)?;
        let mut recorder = self.gpu.record();
        self.feed.record(&mut recorder);
        self.start.record(&mut recorder);
        recorder.submit();
        let changes = self.attack.method == Method::Apgd;
        for step in 0..self.attack.steps {
            // Only APGD's numbers change between steps.
            if changes {
                self.all_settings(batch, random, Some(step))?;
            }
            self.step.submit();
            between()?;
        }
        if changes {
            self.all_settings(batch, random, Some(self.attack.steps))?;
        }
        self.judge.submit();
        self.gpu.check("attacking")
    }

    /// The attacked images of copy `subject * restarts + restart` after [`Attacker::submit`]: normalised, `N, H, W, C`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn images_wait(&self, copy: usize) -> Result<Vec<f32>> {
        let shape = self.store.contents().entries.get("adv").map_or(Shape::vector(0), |entry| entry.shape);
        let values = self.gpu.read_wait(&[self.store.part_of(copy, "adv")?])?.pop().unwrap_or_default();
        Ok(shape.storage_indices().map(|i| values[i]).collect())
    }

    /// Where the records of these copies lie.
    fn states(&self, copies: &[usize]) -> Result<Vec<Part>> {
        copies.iter().map(|&copy| self.store.part_of(copy, "state")).collect()
    }

    /// What the attack left on each subject, read together.
    fn last_wait(&self) -> Result<Vec<Last>> {
        let restarts = self.attack.restarts;
        let mut parts = vec![];
        for subject in 0..self.subjects {
            let copies: Vec<usize> = (subject * restarts..(subject + 1) * restarts).collect();
            parts.extend(self.states(&copies)?);
            let last = subject * restarts + restarts - 1;
            parts.push(self.judge.part(last, self.graph.per_image)?);
            parts.push(self.step.part(last, self.graph.gradient)?);
        }
        let mut values = self.gpu.read_wait(&parts)?.into_iter();
        let logical = |stored: Vec<f32>, shape: Shape| shape.storage_indices().map(|i| stored[i]).collect();
        let mut last = vec![];
        for subject in 0..self.subjects {
            let states = values.by_ref().take(restarts).collect();
            let (per_image, gradient) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
            last.push(Last {
                states,
                per_image: logical(per_image, self.judge.place(subject, self.graph.per_image)?.2),
                gradient: logical(gradient, self.step.place(subject, self.graph.gradient)?.2),
            });
        }
        Ok(last)
    }

    /// Attacks the listed images and waits; one result per subject. `report` is called now and then with the steps done
    /// and their number; an error that it returns ends the run.
    ///
    /// # Errors
    /// If the list is empty or the device fails, and what `report` returns.
    pub fn run_wait(
        &self,
        images: &[usize],
        report: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Attacked>> {
        if images.is_empty() {
            return Err(Error::invalid("images", "there are none to attack"));
        }
        let mut sums = vec![[0.0f64; 6]; self.subjects];
        let restarts = self.attack.restarts;
        let total = images.len().div_ceil(self.feed.batch()) * self.attack.steps;
        let mut done = 0;
        for (number, chunk) in images.chunks(self.feed.batch()).enumerate() {
            let picks: Vec<Pick> = chunk.iter().map(|&i| Pick::plain(i)).collect();
            self.submit_clean(&picks)?;
            let starts: Vec<usize> = (0..self.subjects).map(|subject| subject * restarts).collect();
            let clean: Vec<_> = self.gpu.read_wait(&self.states(&starts)?)?;
            self.submit(&picks, number, &mut || {
                done += 1;
                // The queue is kept short, so that a request to stop is heard.
                if done % STEPS_IN_FLIGHT == 0 {
                    self.gpu.wait()?;
                }
                report(done, total)
            })?;
            let last = self.last_wait()?;
            for (subject, (sum, last)) in sums.iter_mut().zip(last).enumerate() {
                let mut worst = records(&clean[subject], chunk.len());
                for state in &last.states {
                    for (worst, [loss, right]) in worst.iter_mut().zip(records(state, chunk.len())) {
                        // Not `max`, which would drop what is no number.
                        let larger = if loss.is_nan() || loss > worst[0] { loss } else { worst[0] };
                        *worst = [larger, worst[1].min(right)];
                    }
                }
                for (image, worst) in worst.iter().enumerate() {
                    sum[0] += worst[1];
                    sum[1] += worst[0];
                    sum[2] += f64::from(last.per_image[2 * image]);
                    sum[3] += f64::from(last.per_image[2 * image + 1]);
                }
                let own = last.gradient.len() / self.feed.batch() * chunk.len();
                sum[4] += last.gradient[..own].iter().filter(|g| **g == 0.0).count() as f64;
                sum[5] += own as f64;
            }
        }
        let count = images.len() as f64;
        let result = |s: [f64; 6]| Attacked {
            accuracy: s[0] / count,
            worst_loss: s[1] / count,
            last: Score { loss: s[2] / count, accuracy: s[3] / count },
            zero_gradients: s[4] / s[5].max(1.0),
        };
        Ok(sums.into_iter().map(result).collect())
    }
}
