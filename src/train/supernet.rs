//! Training a supernet on random paths, one or several in every step, or on its largest and smallest network and others between.

use std::collections::BTreeMap;
use std::path::Path;

use super::job::{self, Saving};
use super::step::{StepOptions, build};
use super::stores::Stores;
use super::trainer::{Progress, Recipe, Setting, Trainer};
use crate::error::{Error, Result};
use crate::graph::store::{Contents, Store};
use crate::graph::{Role, Statistics};
use crate::nn::classifier;
use crate::nn::space::{Family, Supernet};
use crate::nn::tensors::{Named, fresh, to_bytes};
use crate::nn::weights::Weights;
use crate::philox::Stream;
use crate::progress::{Observer, Share};
use crate::report::folder::{RunFolder, SUPERNET, kept_supernet};
use crate::space::Arch;

/// Purpose word of the paths that train.
const PATH_PURPOSE: u32 = 0x5041_5448;
/// What a file's metadata calls the seed of its training.
const SEED: &str = "altiplano.seed";

/// A trained supernet: what candidates inherit from.
pub struct Heritage {
    /// The supernet and its weights on the device, if its networks are paths.
    paths: Option<(Box<dyn Supernet>, Stores)>,
    /// The weights on the host.
    named: Named,
    /// Those with which training began, if they are known.
    before: Option<Named>,
    /// How it was trained here, epoch by epoch.
    curve: Vec<Progress>,
}

impl Heritage {
    /// The supernet and its weights on the device.
    ///
    /// # Errors
    /// If its networks are no paths, but cut out of it.
    pub fn paths(&self) -> Result<(&dyn Supernet, &Store)> {
        let none =
            || Error::invalid("--supernet", "its networks are cut out of it, so that they cannot share its weights");
        let (model, stores) = self.paths.as_ref().ok_or_else(none)?;
        Ok((&**model, stores.of(Role::Weights)?))
    }

    /// Its weights and statistics.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The weights with which its training began; `None` of a file that does not say from which seed they were drawn.
    pub fn before(&self) -> Option<&Named> {
        self.before.as_ref()
    }

    /// Its training here, epoch by epoch; empty if its weights were given.
    pub fn curve(&self) -> &[Progress] {
        &self.curve
    }

    /// What it calls a weight of an architecture's network.
    pub fn source(&self, name: &str, arch: &Arch) -> Option<String> {
        self.paths.as_ref().and_then(|(model, _)| model.source(name, arch))
    }

    /// The weights of an architecture's network, where they are cut out of the supernet's; without the classifier if it is one of
    /// other classes.
    ///
    /// # Errors
    /// If the network cannot be built, or the supernet lacks a part of it.
    pub fn cut(&self, family: &Family, arch: &Arch) -> Result<Option<Named>> {
        let Some(mut own) = family.cut(&self.named, arch)? else { return Ok(None) };
        let model = family.network(arch)?;
        let layer = classifier(&*model)?.unwrap_or_default();
        let classes = self.named.get(&format!("{layer}.weight")).and_then(|rows| rows.dims.first());
        if classes != Some(&model.classes()) {
            own.retain(|name, _| name.rsplit_once('.').is_none_or(|(of, _)| of != layer));
        }
        Ok(Some(own))
    }
}

/// A trained supernet's tensors, and the seed of those with which its training began, if it is known.
pub struct Given {
    /// Weights and statistics.
    pub named: Named,
    /// The seed.
    pub seed: Option<u64>,
}

impl Given {
    /// Of a file's tensors and its metadata.
    pub fn new(named: Named, metadata: &BTreeMap<String, String>) -> Self {
        Given { named, seed: metadata.get(SEED).and_then(|seed| seed.parse().ok()) }
    }

    /// Of a file, whose tensors must be those of the space's supernet, or, unless candidates share them, ones that its networks can be
    /// cut out of.
    ///
    /// # Errors
    /// If it cannot be read, or is no such file: names what is missing, or the tensor of other axes.
    pub fn read(path: &Path, family: &Family, shared: bool) -> Result<Self> {
        let weights = Weights::read(path)?;
        if !shared && family.is_cut_from(&weights.named) {
            // With each gene at its least once, all that any network takes is looked at.
            let largest: Arch = family.genes().iter().map(|gene| gene.options - 1).collect();
            let mut less = vec![largest.clone(); largest.len()];
            less.iter_mut().enumerate().for_each(|(gene, arch)| arch[gene] = 0);
            for arch in less.iter().chain([&largest]) {
                family.cut(&weights.named, arch).map_err(|error| Error::file(path, None, error.to_string()))?;
            }
            return Ok(Given::new(weights.named, &weights.metadata));
        }
        let Some(model) = family.supernet()?.filter(|_| shared || !family.is_elastic()) else {
            let why = format!("it is no supernet that networks of {} are cut out of", family.name());
            return Err(Error::file(path, None, why));
        };
        let passes =
            StepOptions { batch: 1, statistics: Statistics::Running, smoothing: 0.0, update: None, gradients: false };
        let graph = build(&*model, &passes)?.graph;
        let named = weights.whole(&graph)?;
        let wanted = Contents::of(&graph, &[Role::Weights, Role::Running])?.entries;
        if let Some((name, entry)) = wanted.iter().find(|(name, entry)| named[*name].dims != entry.info.dims) {
            let (own, theirs) = (&entry.info.dims, &named[name].dims);
            let why = format!(
                "tensor {name} is {theirs:?}, and {own:?} in this supernet; it is of another build or other classes"
            );
            return Err(Error::file(path, None, why));
        }
        Ok(Given::new(named, &weights.metadata))
    }
}

/// How a supernet is had.
pub struct SupernetJob<'a> {
    /// How it is trained.
    pub recipe: &'a Recipe,
    /// Images that train it.
    pub images: &'a [usize],
    /// Seed of weights, batches and paths.
    pub seed: u64,
    /// Its weights, instead of training it.
    pub given: Option<&'a Given>,
    /// Whether candidates share its weights, as paths through it; if not, and if they can, they are cut out of what is given.
    pub shared: bool,
    /// After every so many epochs its weights stay in the run's folder; 0 for never.
    pub keep_every: usize,
}

/// Trains a supernet on random paths, as many in every step as the recipe says, or goes on from the run's checkpoint; or takes the weights that are given.
/// It stays in the run's folder, from where other searches may take it.
///
/// # Errors
/// What training and the disk have to say, or that given weights are another supernet's.
pub fn train(
    setting: &Setting,
    family: &Family,
    job: &SupernetJob,
    folder: &RunFolder,
    stage: Share,
    observer: &mut Observer,
) -> Result<Heritage> {
    let &SupernetJob { recipe, images, seed, given, shared, keep_every } = job;
    if let Some(given) = given.filter(|given| !shared && family.is_cut_from(&given.named)) {
        return Ok(Heritage { paths: None, named: given.named.clone(), before: None, curve: vec![] });
    }
    let model = family.needs_supernet()?;
    // Weights that are given take no step.
    let recipe = &match given {
        Some(_) => Recipe { paths: 1, sandwich: false, shrinking: false, ..recipe.clone() },
        None => recipe.clone(),
    };
    let mut trainer = Trainer::new(setting.clone(), &*model, recipe, images, &[seed], &[])?;
    let curve = match given {
        Some(given) => {
            trainer.stores(0).load(0, &given.named).map_err(|e| Error::invalid("--supernet", e.to_string()))?;
            vec![]
        }
        None => {
            let saving = Saving { folder, name: "supernet" };
            let mut choose = |trainer: &mut Trainer| {
                let (epochs, within) =
                    (trainer.step() / trainer.steps_per_epoch(), trainer.step() % trainer.steps_per_epoch());
                if within == 0 && epochs > 0 && keep_every > 0 && epochs.is_multiple_of(keep_every) {
                    folder.write(&kept_supernet(epochs), &file_of(&trainer.weights_wait(0)?, seed)?)?;
                }
                trainer.choose(&[drawn(&*model, family, seed, (trainer.step(), trainer.total_steps()), recipe)?])
            };
            let stage = ("training the supernet", stage.from, stage.to);
            job::run(&mut trainer, Some(saving), stage, observer, &mut choose)?.into_iter().next().unwrap_or_default()
        }
    };
    let (stores, named) = (trainer.stores(0).clone(), trainer.weights_wait(0)?);
    if given.is_none() {
        folder.write(SUPERNET, &file_of(&named, seed)?)?;
    }
    let begun = given.map_or(Some(seed), |given| given.seed);
    let contents = stores.of(Role::Weights)?.contents();
    let before = begun.map(|seed| fresh(contents, seed));
    Ok(Heritage { paths: Some((model, stores.only(&[Role::Weights]))), named, before, curve })
}

/// The paths of step `step` of so many, one behind the other: the largest and the smallest network if the recipe says so, and random ones,
/// each a function of the seed and its number among all.
fn drawn(
    model: &dyn Supernet,
    family: &Family,
    seed: u64,
    (step, steps): (usize, usize),
    recipe: &Recipe,
) -> Result<Vec<u8>> {
    let mut chosen = vec![];
    let fixed = if recipe.sandwich { extremes(model)?.to_vec() } else { vec![] };
    let quarter = (4 * step).checked_div(steps).unwrap_or(3).min(3);
    for route in 0..recipe.paths {
        let mut draw = Stream::new(seed, PATH_PURPOSE, (step * recipe.paths + route) as u64);
        let arch = fixed.get(route).cloned().map_or_else(|| family.sample(&mut draw), Ok)?;
        let arch = if recipe.shrinking { model.shrunk(&arch, quarter) } else { arch };
        chosen.extend(path(model, &arch)?);
    }
    Ok(chosen)
}

/// The largest and the smallest network.
///
/// # Errors
/// If a supernet's networks are not parts of one another.
pub fn extremes(model: &dyn Supernet) -> Result<[Arch; 2]> {
    let none = "networks of this space are not parts of a largest one; leave --sandwich and --shrinking out";
    model.extremes().ok_or_else(|| Error::invalid("supernet", none))
}

/// A supernet's file.
fn file_of(named: &Named, seed: u64) -> Result<Vec<u8>> {
    let metadata = [("format", "pt".to_owned()), (SEED, seed.to_string())];
    to_bytes(named, BTreeMap::from(metadata.map(|(key, value)| (key.to_owned(), value))))
}

/// The path of an architecture.
///
/// # Errors
/// If its network is no path of the supernet.
pub fn path(supernet: &dyn Supernet, arch: &Arch) -> Result<Vec<u8>> {
    let none = || Error::invalid("--space", "its networks are no paths of its supernet, which this needs");
    supernet.path(arch).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::nas_bench_201::{Form, family};
    use crate::nn::space::{Build, Registry};
    use crate::space::nas_bench_201::Macro;
    use crate::train::step::Optimizer;

    /// The largest and the smallest in every step; a quarter of the training for each way to become smaller.
    #[test]
    fn sandwiches_have_two_ends_and_shrink() {
        let mut options = crate::nn::space::Options::new();
        for (name, value) in [("smallest", 8), ("step", 4)] {
            options.insert(name.into(), value.into());
        }
        options.insert("width".into(), 0.1.into());
        let build = Build { form: "ofa".into(), image: [12; 2], in_channels: 1, classes: 10, options };
        let family = Registry::default().open("mobilenet-v3", build).unwrap();
        let model = family.needs_supernet().unwrap();
        let [most, least] = extremes(&*model).unwrap();
        let recipe = Recipe { paths: 3, sandwich: true, ..Recipe::usual(Optimizer::Sgd, 1, 8) };
        let of = |step, recipe: &Recipe| drawn(&*model, &family, 7, (step, 40), recipe).unwrap();
        let ends = [&most, &least].map(|arch| model.path(arch).unwrap()).concat();
        let (one, other) = (of(0, &recipe), of(1, &recipe));
        assert!(one.starts_with(&ends) && other.starts_with(&ends) && one != other);
        let shrinking = Recipe { shrinking: true, ..recipe.clone() };
        let largest = model.path(&most).unwrap();
        assert_eq!(of(9, &shrinking), [&largest[..]; 3].concat());
        // Of options that are numbered by expansion, then kernel, the last is none.
        let smallest = |step: usize| of(step, &shrinking)[20..40].to_vec();
        assert_eq!(smallest(10), vec![6; 20]);
        assert_eq!(smallest(20), [6, 6, 9, 9].repeat(5));
        assert_eq!(smallest(30), [0, 0, 9, 9].repeat(5));
        assert_eq!(of(30, &shrinking), of(30, &recipe));
        let cells = crate::nn::nas_bench_201::Supernet {
            sizes: Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 },
        };
        assert!(extremes(&cells).unwrap_err().to_string().contains("not parts of a largest one"));
    }

    /// As many steps as there are paths in one see the same paths, and none of them twice in a row.
    #[test]
    fn paths_are_counted_on_from_step_to_step() {
        let sizes = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
        let family = family(Form::Tiny, &sizes).unwrap();
        let model = family.needs_supernet().unwrap();
        let recipe = |paths: usize| Recipe { paths, ..Recipe::usual(Optimizer::Sgd, 1, 8) };
        let of = |step, paths| drawn(&*model, &family, 7, (step, 12), &recipe(paths)).unwrap();
        let single: Vec<Vec<u8>> = (0..12).map(|step| of(step, 1)).collect();
        assert!(single.windows(2).all(|pair| pair[0] != pair[1]));
        for (paths, steps) in [(2, 6), (4, 3)] {
            let together: Vec<u8> = (0..steps).flat_map(|step| of(step, paths)).collect();
            assert_eq!(together, single.concat(), "{paths}");
        }
    }
}
