//! Forward passes of many networks over the same images: evaluation, and recalibration of batch-norm statistics.
//!
//! Each [`Subject`] has its own path, weights and statistics; all see the same batch, which is made once. Images come in
//! chunks of fixed size, whatever the memory, and sums are taken in order, so a result does not depend on how many
//! subjects run side by side.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder, Ticket};
use crate::graph::plan::{Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Graph, Role, Statistics};
use crate::nn::Model;
use crate::train::feed::{Ahead, Feed, Pick};
use crate::train::step::{Rates, StepOptions, build};
use crate::train::trainer::Setting;

/// A network among others: where its weights and statistics are, and its path.
#[derive(Clone)]
pub struct Subject {
    /// Weights: store and number of the copy.
    pub weights: (Store, usize),
    /// Running statistics: store and number of the copy.
    pub running: (Store, usize),
    /// Option of each choice.
    pub path: Vec<u8>,
}

/// Loss and accuracy over some images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

/// How recalibration weighs batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// All alike: the exact mean over batches.
    #[default]
    Exact,
    /// A moving average with momentum 0.1 that starts from mean 0 and variance 1, as released code has it.
    Moving,
}

/// Compiled forward passes of a number of subjects.
pub struct Forward {
    gpu: Gpu,
    plan: Plan,
    feed: Feed,
    metrics: Store,
    hyper: Store,
    running: Vec<(Store, usize)>,
}

/// The graph of a forward pass of `model`.
///
/// # Errors
/// If shapes do not fit.
pub fn graph(model: &dyn Model, batch: usize, statistics: Statistics) -> Result<Arc<Graph>> {
    let options = StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients: false };
    Ok(Arc::new(build(model, &options)?.graph))
}

/// The graphs of forward passes of several networks; a network that comes again shares its graph.
///
/// # Errors
/// If shapes do not fit.
pub fn graphs(models: &[&dyn Model], batch: usize, statistics: Statistics) -> Result<Vec<Arc<Graph>>> {
    let mut graphs: Vec<Arc<Graph>> = vec![];
    for (i, model) in models.iter().enumerate() {
        let known = models[..i].iter().position(|other| std::ptr::addr_eq(*other, *model));
        graphs.push(match known {
            Some(earlier) => graphs[earlier].clone(),
            None => graph(*model, batch, statistics)?,
        });
    }
    Ok(graphs)
}

/// Submissions that wait for the device at most where each has images of its own brought there.
const MOST_QUEUED: usize = 3;

/// Rows times columns of images up to which as many are evaluated at once as anywhere.
const SMALL: usize = 64 * 64;

/// Numbers of the networks that are evaluated on so many images at once: `most`, and fewer where they see larger images than 64x64. Their own
/// size alone decides, so that sums do not depend on who is evaluated beside.
pub fn by_chunk(most: usize, models: &[&dyn Model]) -> BTreeMap<usize, Vec<usize>> {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, model) in models.iter().enumerate() {
        let [height, width, _] = model.input();
        let chunk = most.saturating_mul(SMALL) / (height * width).max(1);
        groups.entry(chunk.clamp(1, most.max(1))).or_default().push(number);
    }
    groups
}

/// Rows, columns and channels of the images that a graph sees.
fn images_of(graph: &Graph) -> Result<[usize; 3]> {
    let images = graph.persistent(Role::Batch).find(|(_, own)| own.name == "x");
    let shape = images.map(|(id, _)| graph.shape(id).nhwc());
    shape.map(|[_, h, w, c]| [h, w, c]).ok_or_else(|| Error::invalid("evaluation", "a network sees no images"))
}

/// The store of running statistics that `graph` wants, with `copies` copies.
///
/// # Errors
/// If the device has no room.
pub fn running_store(gpu: &Gpu, graph: &Graph, copies: usize) -> Result<Store> {
    Store::new(gpu, Contents::of(graph, &[Role::Running])?, copies, "running statistics")
}

impl Forward {
    /// Compiles passes of `graph` for the subjects.
    ///
    /// # Errors
    /// If the device has no room, or a store lacks a tensor.
    pub fn new(setting: &Setting, batch: usize, graph: &Arc<Graph>, subjects: &[Subject]) -> Result<Self> {
        Self::of(setting, batch, &vec![graph.clone(); subjects.len()], subjects)
    }

    /// The same with a graph for each subject; those of one network share its `Arc`.
    ///
    /// # Errors
    /// If the device has no room, or a store lacks a tensor.
    pub fn of(setting: &Setting, batch: usize, graphs: &[Arc<Graph>], subjects: &[Subject]) -> Result<Self> {
        let gpu = setting.gpu;
        let graph = graphs.first().ok_or_else(|| Error::invalid("evaluation", "there is no network"))?;
        // Images are made once for all that see them at one size.
        let mut inputs = vec![];
        let mut views = vec![];
        for own in graphs.iter().map(|graph| images_of(graph)) {
            let own = own?;
            let known = inputs.iter().position(|input| *input == [own]);
            views.push(known.unwrap_or(inputs.len()));
            inputs.extend(known.is_none().then(|| vec![own]));
        }
        // One tensor of rates for all subjects.
        let rates = vec![Contents::of(graph, &[Role::Hyper])?];
        let (feed, mut words) = Feed::beside(setting, &inputs, batch, rates)?;
        let hyper = words.pop().ok_or_else(|| Error::invalid("evaluation", "there is no memory for rates"))?;
        let metrics = Store::new(gpu, Contents::of(graph, &[Role::Metrics])?, subjects.len(), "metrics")?;
        let instance = |(number, subject): (usize, &Subject)| {
            let bindings = [
                (Role::Weights, subject.weights.clone()),
                (Role::Running, subject.running.clone()),
                (Role::Batch, (feed.store(views[number])?.clone(), 0)),
                (Role::Hyper, (hyper.clone(), 0)),
                (Role::Metrics, (metrics.clone(), number)),
            ];
            Ok(Instance { graph: graphs[number].clone(), bindings: bindings.into(), path: subject.path.clone() })
        };
        let instances = subjects.iter().enumerate().map(instance).collect::<Result<_>>()?;
        let plan = Plan::compile(gpu, instances, setting.preset)?;
        let running = subjects.iter().map(|s| s.running.clone()).collect();
        Ok(Forward { gpu: gpu.clone(), plan, feed, metrics, hyper, running })
    }

    /// Takes other paths.
    ///
    /// # Errors
    /// If one does not fit.
    pub fn choose(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        self.plan.choose(paths)
    }

    /// The compiled pass.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Submits one batch of images; does not wait.
    ///
    /// # Errors
    /// If an image does not exist.
    pub fn submit(&self, picks: &[Pick]) -> Result<()> {
        self.submit_after(self.gpu.record(), picks).map(drop)
    }

    /// The same behind what is recorded already.
    fn submit_after(&self, mut recorder: Recorder, picks: &[Pick]) -> Result<Ticket> {
        (0..self.feed.copies()).try_for_each(|copy| self.feed.set(copy, picks))?;
        self.feed.record(&mut recorder);
        self.plan.record(&mut recorder);
        let ticket = recorder.submit();
        self.gpu.check("evaluating")?;
        Ok(ticket)
    }

    /// Waits where batches are brought to the device one by one, so that those that have not run yet do not fill the memory.
    fn hold_back(&self, queue: &mut VecDeque<Ticket>, ticket: Ticket) -> Result<()> {
        queue.push_back(ticket);
        match queue.len() > MOST_QUEUED && self.feed.is_streamed() {
            true => queue.pop_front().map_or(Ok(()), |oldest| self.gpu.wait_for(oldest)),
            false => Ok(()),
        }
    }

    /// Mean loss and accuracy of all subjects over the listed images, waiting for them.
    ///
    /// # Errors
    /// If the list is empty or the device fails. A loss that is not finite is returned as it is.
    pub fn evaluate_wait(&self, images: &[usize]) -> Result<Vec<Score>> {
        if images.is_empty() {
            return Err(Error::invalid("images", "there are none to evaluate on"));
        }
        let sums = self.metrics.parts();
        let picks: Vec<Pick> = images.iter().map(|&image| Pick::plain(image)).collect();
        let (mut ahead, mut queue) = (Ahead::default(), VecDeque::new());
        for (number, chunk) in picks.chunks(self.feed.batch()).enumerate() {
            let mut recorder = self.gpu.record();
            if number == 0 {
                recorder.clear(&sums)?;
            }
            self.feed.announce(&picks, number * self.feed.batch(), &mut ahead);
            let ticket = self.submit_after(recorder, chunk)?;
            self.hold_back(&mut queue, ticket)?;
        }
        let count = images.len() as f64;
        let score =
            |values: Vec<f32>| Score { loss: f64::from(values[0]) / count, accuracy: f64::from(values[1]) / count };
        Ok(self.gpu.read_wait(&sums)?.into_iter().map(score).collect())
    }

    /// Sets the running statistics of all subjects from batches of images; does not wait. The pass must have been built
    /// with `Statistics::Batch { update: true }`.
    ///
    /// # Errors
    /// If an image does not exist.
    pub fn recalibrate(&self, batches: &[Vec<Pick>], averaging: Averaging) -> Result<()> {
        for (store, copy) in &self.running {
            let mut values = vec![0.0f32; store.contents().vec4s as usize * 4];
            for (name, entry) in &store.contents().entries {
                if name.ends_with("running_var") {
                    let base = entry.offset as usize * 4;
                    entry.shape.storage_indices().for_each(|i| values[base + i] = 1.0);
                }
            }
            store.write(&self.gpu, *copy, &values)?;
        }
        let (all, mut ahead, mut queue) = (batches.concat(), Ahead::default(), VecDeque::new());
        let mut first = 0;
        for (number, picks) in batches.iter().enumerate() {
            self.feed.announce(&all, first, &mut ahead);
            first += picks.len();
            let momentum = match averaging {
                Averaging::Exact => 1.0 / (number + 1) as f64,
                Averaging::Moving => 0.1,
            };
            let rates = Rates { statistics_momentum: momentum, ..Rates::default() };
            self.hyper.write_words(&self.gpu, 0, "hyper", &rates.words())?;
            let ticket = self.submit_after(self.gpu.record(), picks)?;
            self.hold_back(&mut queue, ticket)?;
        }
        Ok(())
    }
}
