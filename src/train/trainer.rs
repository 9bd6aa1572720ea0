//! The training loop: one network, several side by side, or a supernet on random paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::adversarial::{Adversarial, Ball};
use super::feed::{Augmentation, Feed, Pick, epoch};
pub use super::recipe::Recipe;
use super::step::{Rates, StepOptions, build};
use super::stores::Stores;
use super::stream::Rates as Streaming;
use super::supply::Supply;
use crate::data::ChannelStatistics;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Ticket};
use crate::graph::plan::{Announced, Instance, Plan};
use crate::graph::store::Contents;
use crate::graph::{Graph, Role};
use crate::kernels::Preset;
use crate::nn::Model;
use crate::nn::tensors::{Named, fresh};
use crate::report::number;

/// Weights and statistics to start from instead of fresh ones, where names agree.
#[derive(Clone, Copy)]
pub struct Inheritance<'a> {
    /// Those of another network, such as a supernet.
    pub from: &'a Named,
    /// What the other calls a tensor, given this network's name for it; the same if it has no name of its own.
    pub name: &'a dyn Fn(&str) -> Option<String>,
}

/// Loss and accuracy of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Mean training loss of the last one; JSON has null for one that is no number.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// Training accuracy of the last one.
    pub accuracy: f64,
}

/// What training needs besides the model.
#[derive(Clone)]
pub struct Setting<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    /// Tile sizes.
    pub preset: Preset,
    /// The data set as batches draw from it.
    pub data: &'a Supply,
    /// Its channel statistics.
    pub statistics: &'a ChannelStatistics,
}

/// Bytes of a graph's tensors that outlive a run.
fn persistent_bytes(graph: &Graph) -> u64 {
    let outlive = graph.tensors.iter().filter(|tensor| tensor.persistent.is_some());
    outlive.map(|tensor| tensor.shape.vec4s() as u64 * 16).sum()
}

/// Names the largest batch that fits in an error about memory, found by halving.
fn with_largest_batch(error: Error, recipe: &Recipe, fits: &dyn Fn(usize) -> Result<Announced>) -> Error {
    let Error::Memory { what, needed, limit, .. } = error else { return error };
    let (mut good, mut bad) = (0, recipe.batch);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle).is_ok() { good = middle } else { bad = middle }
    }
    let advice = match good {
        0 => "no batch fits; use fewer --channels, a smaller --image, or an adapter with more memory".into(),
        _ => format!("the largest --batch that fits is {good}"),
    };
    let advice =
        if recipe.paths > 1 { format!("use fewer --paths than {}, or: {advice}", recipe.paths) } else { advice };
    Error::Memory { what, needed, limit, advice }
}

/// One of the networks that train side by side.
#[derive(Clone)]
pub struct Member<'m> {
    /// The network.
    pub model: &'m dyn Model,
    /// Seed of its first weights and of the order of its images. Networks of one seed see the same batches.
    pub seed: u64,
    /// The option of each choice; empty for the first of each.
    pub path: Vec<u8>,
}

/// Networks that train side by side, of one model or several; with a supernet, one network whose path changes every step.
pub struct Trainer<'a> {
    setting: Setting<'a>,
    recipe: Recipe,
    indices: Vec<usize>,
    /// Seeds of the batches, and rows, columns and channels of their images, at each size at which a network sees them; each once.
    views: Vec<View>,
    /// Which of these each network sees.
    batches: Vec<usize>,
    plan: Plan,
    feed: Feed,
    /// One for each network.
    stores: Vec<Stores>,
    /// Whether networks whose loss leaves the finite numbers go on, since others train beside them.
    forgiving: bool,
    ball: Ball,
    /// The images of an epoch, by its number: of this one, and of the next where its first were announced.
    orders: BTreeMap<usize, Order>,
    step: usize,
    /// The first step whose images were not announced.
    unannounced: usize,
    submitted: Vec<Ticket>,
}

/// Seed of a network's batches, and the sizes at which it sees their images.
type View = (u64, Vec<[usize; 3]>);

/// Images of an epoch for each view, at each of its sizes.
type Order = Vec<Vec<Vec<Pick>>>;

/// The graph of each network's step; those of one model share it.
fn graphs(members: &[Member], options: &StepOptions) -> Result<Vec<Arc<Graph>>> {
    let mut graphs: Vec<Arc<Graph>> = vec![];
    for (i, member) in members.iter().enumerate() {
        let same = |other: &Member| std::ptr::addr_eq(other.model, member.model);
        let graph = match members[..i].iter().position(same) {
            Some(earlier) => graphs[earlier].clone(),
            None => Arc::new(build(member.model, options)?.graph),
        };
        graphs.push(graph);
    }
    Ok(graphs)
}

/// The order of an epoch's images, which is found out where it is not known yet.
fn order_of<'o>(
    orders: &'o mut BTreeMap<usize, Order>,
    number: usize,
    (views, indices): (&[View], &[usize]),
    recipe: &Recipe,
    data: &Supply,
) -> &'o Order {
    orders.entry(number).or_insert_with(|| {
        let order = |seed: u64, [rows, columns, _]: [usize; 3]| {
            let augmentation = recipe.augmentation.map(|own| own.seen(data.sides(), [rows, columns]));
            let mut picks = epoch(indices, seed, number as u64, augmentation);
            data.choose_parts(&mut picks, seed, number as u64);
            picks
        };
        let of_view = |(seed, sizes): &(u64, Vec<[usize; 3]>)| sizes.iter().map(|size| order(*seed, *size)).collect();
        views.iter().map(of_view).collect()
    })
}

/// The images of a step, by its number within the epoch.
fn of_step(images: &[Pick], within: usize, batch: usize) -> &[Pick] {
    &images[within * batch..(within + 1) * batch]
}

impl<'a> Trainer<'a> {
    /// Fresh networks of `model`, one per seed; they train on the images listed in `indices`.
    ///
    /// # Errors
    /// If the recipe cannot be used or the device has no room.
    pub fn new(
        setting: Setting<'a>,
        model: &dyn Model,
        recipe: &Recipe,
        indices: &[usize],
        seeds: &[u64],
        paths: &[Vec<u8>],
    ) -> Result<Self> {
        let member = |(i, &seed)| Member { model, seed, path: paths.get(i).cloned().unwrap_or_default() };
        Self::of(setting, &seeds.iter().enumerate().map(member).collect::<Vec<_>>(), recipe, indices)
    }

    /// Fresh networks, which may differ, also in the size of the images that they see.
    ///
    /// # Errors
    /// If the recipe cannot be used or the device has no room.
    pub fn of(setting: Setting<'a>, members: &[Member], recipe: &Recipe, indices: &[usize]) -> Result<Self> {
        recipe.validate(indices.len())?;
        let options = recipe.options();
        for [rows, columns, _] in members.iter().map(|member| member.model.input()) {
            let check = |own: Augmentation| own.check(setting.data.sides(), [rows, columns]);
            recipe.augmentation.map_or(Ok(()), check)?;
        }
        let first = members.first().ok_or_else(|| Error::invalid("training", "there is no network to train"))?;
        let channels = first.model.input()[2];
        if let Some(other) = members.iter().map(|m| m.model.input()[2]).find(|other| *other != channels) {
            return Err(Error::shape("networks that train side by side", format!("{channels} channels"), other));
        }
        let graphs = graphs(members, &options)?;
        let Setting { gpu, preset, statistics, .. } = setting;
        // Weights, gradients and images too are there before the first step.
        let room = |graphs: &[Arc<Graph>]| {
            let announced = Plan::announce(gpu, graphs, preset)?;
            let stores: u64 = graphs.iter().map(|graph| persistent_bytes(graph)).sum();
            gpu.check_room(announced.bytes + stores, "training with what is taken already")?;
            Ok(announced)
        };
        if let Err(error) = room(&graphs) {
            return Err(with_largest_batch(error, recipe, &|batch| {
                room(&self::graphs(members, &StepOptions { batch, ..options })?)
            }));
        }
        // Networks of one seed and size see the same batches; a supernet's paths may see them at several sizes.
        let mut views: Vec<View> = vec![];
        let mut batches = vec![];
        for member in members {
            let mut sizes: Vec<[usize; 3]> = vec![];
            for size in member.model.sizes(recipe.paths) {
                sizes.extend((!sizes.contains(&size)).then_some(size));
            }
            let own = (member.seed, sizes);
            let known = views.iter().position(|view| *view == own);
            batches.push(known.unwrap_or(views.len()));
            views.extend(known.is_none().then_some(own));
        }
        let words = graphs.iter().map(|graph| Contents::of(graph, &[Role::Hyper])).collect::<Result<_>>()?;
        let inputs: Vec<Vec<[usize; 3]>> = views.iter().map(|(_, sizes)| sizes.clone()).collect();
        let (feed, words) = Feed::beside(&setting, &inputs, recipe.batch, words)?;
        let mut stores = vec![];
        let packed = Stores::packed(gpu, &graphs, &[Role::Batch, Role::Hyper])?;
        for ((own, words), &batch) in packed.into_iter().zip(words).zip(&batches) {
            stores.push(own.with(Role::Batch, feed.store(batch)?.clone()).with(Role::Hyper, words));
        }
        let instance = |(i, member): (usize, &Member)| Instance {
            graph: graphs[i].clone(),
            bindings: stores[i].bindings(0),
            path: if member.path.is_empty() { vec![0; graphs[i].choices.len()] } else { member.path.clone() },
        };
        let plan = Plan::compile(gpu, members.iter().enumerate().map(instance).collect(), preset)?;
        for (stores, member) in stores.iter().zip(members) {
            let mut named = fresh(stores.of(Role::Weights)?.contents(), member.seed);
            named.extend(fresh(stores.of(Role::Running)?.contents(), member.seed));
            stores.load(0, &named)?;
        }
        Ok(Trainer {
            setting,
            recipe: recipe.clone(),
            indices: indices.to_vec(),
            views,
            batches,
            plan,
            feed,
            stores,
            forgiving: false,
            ball: Ball::new(statistics),
            orders: BTreeMap::new(),
            step: 0,
            unannounced: 0,
            submitted: vec![],
        })
    }

    /// Lets networks whose loss leaves the finite numbers go on beside the others; their progress then says so by a loss
    /// that is not a number.
    pub fn forgiving(self) -> Self {
        Trainer { forgiving: true, ..self }
    }

    /// Steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.recipe.steps_per_epoch(self.indices.len())
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Steps of the whole training.
    pub fn total_steps(&self) -> usize {
        self.recipe.epochs * self.steps_per_epoch()
    }

    /// Waits until all submitted steps but the last have run, so that the queue stays short.
    ///
    /// # Errors
    /// If the device fails.
    pub fn wait_for_previous(&mut self) -> Result<()> {
        let last = self.submitted.split_off(self.submitted.len().saturating_sub(1));
        if let Some(ticket) = self.submitted.pop() {
            self.setting.gpu.wait_for(ticket)?;
        }
        self.submitted = last;
        Ok(())
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.total_steps()
    }

    /// A network's memory.
    ///
    /// # Panics
    /// If there is no such network.
    pub fn stores(&self, network: usize) -> &Stores {
        &self.stores[network]
    }

    /// Number of networks.
    pub fn networks(&self) -> usize {
        self.stores.len()
    }

    /// The compiled step.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes other paths from the next step on.
    ///
    /// # Errors
    /// If a path does not fit.
    pub fn choose(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        self.plan.choose(paths)
    }

    /// Submits one step of all networks; does not wait.
    ///
    /// # Errors
    /// If the device fails.
    pub fn submit_step(&mut self) -> Result<()> {
        let per_epoch = self.steps_per_epoch();
        let rates = self.recipe.rates(self.step, per_epoch);
        self.orders.retain(|epoch, _| *epoch >= self.step / per_epoch);
        let order = order_of(
            &mut self.orders,
            self.step / per_epoch,
            (&self.views, &self.indices),
            &self.recipe,
            self.setting.data,
        );
        for (copy, sizes) in order.iter().enumerate() {
            for (size, images) in sizes.iter().enumerate() {
                self.feed.set_at(copy, size, of_step(images, self.step % per_epoch, self.recipe.batch))?;
            }
        }
        for (stores, &batch) in self.stores.iter().zip(&self.batches) {
            let seed = self.views[batch].0;
            stores.set_rates(0, &Rates { seed, ..rates })?;
            if let Some(Adversarial { eps, step, .. }) = self.recipe.adversarial {
                let words = self.ball.words(eps, step, seed, Some(self.step as u32));
                stores.set_attack(0, &words)?;
            }
        }
        let mut recorder = self.setting.gpu.record();
        self.feed.record(&mut recorder);
        self.plan.record(&mut recorder);
        self.submitted.push(recorder.submit());
        self.step += 1;
        self.announce();
        self.setting.gpu.check("training")
    }

    /// Says which images the next steps will see.
    fn announce(&mut self) {
        let per_epoch = self.steps_per_epoch();
        if !self.setting.data.is_streamed() {
            return;
        }
        let steps = self.setting.data.window(self.recipe.batch).div_ceil(self.recipe.batch);
        let last = self.total_steps().min(self.step + steps);
        for step in self.unannounced.max(self.step)..last {
            let order = order_of(
                &mut self.orders,
                step / per_epoch,
                (&self.views, &self.indices),
                &self.recipe,
                self.setting.data,
            );
            let all = order.iter().flatten();
            let images = all.flat_map(|images| of_step(images, step % per_epoch, self.recipe.batch));
            if !self.setting.data.announce(images) {
                break;
            }
            self.unannounced = step + 1;
        }
    }

    /// What streaming of the images did since this was last asked, where they are streamed.
    pub fn take_streaming(&self) -> Option<Streaming> {
        self.setting.data.take_rates()
    }

    /// Images that each network sees in a step.
    pub fn batch(&self) -> usize {
        self.recipe.batch
    }

    /// Loss and accuracy of each network since this was last asked, waiting for them.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a loss was not, unless the trainer is forgiving.
    pub fn progress_wait(&self) -> Result<Vec<Progress>> {
        let epoch = self.step.div_ceil(self.steps_per_epoch().max(1));
        let metrics = Stores::take_all_metrics_wait(&self.stores)?;
        log::debug!("epoch {epoch}: the host has made {}", self.setting.gpu.counts());
        let progress = metrics.into_iter().enumerate().map(|(network, [loss, hits, images, wild])| {
            if wild > 0.0 && self.forgiving {
                return Ok(Progress { epoch, loss: f64::NAN, accuracy: 0.0 });
            }
            if wild > 0.0 {
                let which = if self.stores.len() > 1 { format!(" of network {network}") } else { String::new() };
                return Err(Error::NotFinite {
                    what: format!("the training loss{which}"),
                    value: loss,
                    at: format!("epoch {epoch}, step {}", self.step),
                });
            }
            let images = f64::from(images.max(1.0));
            Ok(Progress { epoch, loss: f64::from(loss) / images, accuracy: f64::from(hits) / images })
        });
        progress.collect()
    }

    /// The state from which [`Trainer::restore`] goes on to the same bits: weights, statistics, momentum, metrics.
    ///
    /// # Errors
    /// If the device fails.
    pub fn state_wait(&self) -> Result<Vec<u8>> {
        let mut parts = vec![];
        for role in [Role::Weights, Role::Running, Role::Momentum, Role::Metrics] {
            for stores in &self.stores {
                parts.push(stores.of(role)?.part(0)?);
            }
        }
        let mut bytes = (self.step as u64).to_le_bytes().to_vec();
        for values in self.setting.gpu.read_wait(&parts)? {
            bytes.extend_from_slice(bytemuck::cast_slice(&values));
        }
        Ok(bytes)
    }

    /// Goes on from a state of the same networks.
    ///
    /// # Errors
    /// If the state is of other networks.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let fail = || Error::invalid("checkpoint", "it belongs to other networks; start anew with --force");
        let (step, mut rest) = state.split_first_chunk::<8>().ok_or_else(fail)?;
        for role in [Role::Weights, Role::Running, Role::Momentum, Role::Metrics] {
            for stores in &self.stores {
                let store = stores.of(role)?;
                let length = store.contents().vec4s as usize * 16;
                let (values, more) = rest.split_at_checked(length).ok_or_else(fail)?;
                store.write(self.setting.gpu, 0, &bytemuck::pod_collect_to_vec::<u8, f32>(values))?;
                rest = more;
            }
        }
        if !rest.is_empty() {
            return Err(fail());
        }
        self.step = u64::from_le_bytes(*step) as usize;
        self.orders.clear();
        self.unannounced = self.step;
        Ok(())
    }

    /// Weights and statistics of a network, waiting for them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights_wait(&self, network: usize) -> Result<Named> {
        self.stores[network].save_wait(0)
    }

    /// Replaces weights and statistics of a network by those of another, where the names agree; the rest stays.
    ///
    /// # Errors
    /// If axes differ or values are not finite.
    pub fn inherit(&self, network: usize, inheritance: Inheritance) -> Result<()> {
        let mut all = self.weights_wait(network)?;
        let mut inherited_any = false;
        for (name, values) in &mut all {
            let theirs = (inheritance.name)(name).and_then(|name| inheritance.from.get(&name));
            if let Some(inherited) = theirs.or_else(|| inheritance.from.get(name)) {
                values.clone_from(inherited);
                inherited_any = true;
            }
        }
        if !inherited_any {
            return Err(Error::invalid("weights", "none of those to begin with is one of the network's"));
        }
        self.stores[network].load(0, &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::step::Optimizer;

    /// A network that is lost beside others is saved with them.
    #[test]
    fn losses_that_are_no_numbers_are_read_back() {
        let lost = Progress { epoch: 3, loss: f64::NAN, accuracy: 0.0 };
        let json = serde_json::to_string(&[lost, Progress { epoch: 3, loss: 0.5, accuracy: 0.9 }]).unwrap();
        let read: Vec<Progress> = serde_json::from_str(&json).unwrap();
        assert!(read[0].loss.is_nan() && read[1].loss == 0.5 && read[1].accuracy == 0.9, "{json}");
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let no_room = || Error::Memory { what: "maps".into(), needed: 9, limit: 2, advice: String::new() };
        let advice = |paths: usize, most: usize| {
            let recipe = Recipe { batch: 96, paths, ..Recipe::usual(Optimizer::Sgd, 1, 8) };
            let fits = |batch: usize| {
                if batch <= most { Ok(Announced { bytes: 1, dispatches: 1 }) } else { Err(no_room()) }
            };
            with_largest_batch(no_room(), &recipe, &fits).to_string()
        };
        assert!(advice(1, 37).contains("--batch that fits is 37") && !advice(1, 37).contains("--paths"));
        assert!(advice(4, 37).contains("fewer --paths than 4") && advice(4, 37).contains("fits is 37"));
        assert!(advice(1, 0).contains("no batch fits"));
    }
}
