//! One step as a graph: forward, backward, the optimiser's ascent, update.
//!
//! A step with SAM holds two passes; everything between (norm, perturbation, clipping, update) are operations too, so a
//! step is one submission and nothing is read back inside it.

use serde::{Deserialize, Serialize};

use super::adversarial::moved;
use crate::error::{Error, Result};
use crate::graph::{
    Compared, Gradients, Graph, Guard, Init, Op, Role, Shape, Statistics, TensorId, Term, TermKind, hyper,
};
use crate::nn::{Heads, Layers, Model};

/// Which optimiser takes the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    #[default]
    Sgd,
    /// Sharpness-aware minimisation (Foret et al. 2021).
    Sam,
    /// Adaptive SAM, element-wise (Kwon et al. 2021); biases and batch norms take part.
    Asam,
}

impl std::fmt::Display for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Optimizer::Sgd => "SGD",
            Optimizer::Sam => "SAM",
            Optimizer::Asam => "ASAM",
        })
    }
}

impl std::str::FromStr for Optimizer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sgd" => Ok(Optimizer::Sgd),
            "sam" => Ok(Optimizer::Sam),
            "asam" => Ok(Optimizer::Asam),
            _ => Err(crate::error::unknown("--optimizer", text, &["sgd", "sam", "asam"])),
        }
    }
}

impl Optimizer {
    /// The radius used if none is given: 0.05 for SAM, 2 for ASAM.
    pub fn default_rho(self) -> f64 {
        match self {
            Optimizer::Sgd => 0.0,
            Optimizer::Sam => 0.05,
            Optimizer::Asam => 2.0,
        }
    }
}

/// The numbers of a step, which the host may change between steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Weight of the batch's statistics in the running ones.
    pub statistics_momentum: f64,
    /// Radius of the ascent.
    pub rho: f64,
    /// Largest gradient norm.
    pub clip: f64,
    /// Deviation of weight noise.
    pub sigma: f64,
    /// Seed of weight noise, and of dropped paths.
    pub seed: u64,
    /// Number of the noise draw, or of the step whose paths are dropped.
    pub draw: u32,
    /// Probability with which a path is dropped for an image.
    pub drop_path: f64,
}

impl Rates {
    /// The words of the [`Role::Hyper`] tensor.
    pub fn words(&self) -> [u32; 12] {
        let mut words = [0; 12];
        for (at, value) in [
            (hyper::RATE, self.rate),
            (hyper::MOMENTUM, self.momentum),
            (hyper::DECAY, self.decay),
            (hyper::STATISTICS_MOMENTUM, self.statistics_momentum),
            (hyper::RHO, self.rho),
            (hyper::CLIP, self.clip),
            (hyper::SIGMA, self.sigma),
            (hyper::DROP_SCALE, 1.0 / (1.0 - self.drop_path)),
        ] {
            words[at] = (value as f32).to_bits();
        }
        words[hyper::SEED_LOW] = self.seed as u32;
        words[hyper::SEED_HIGH] = (self.seed >> 32) as u32;
        words[hyper::DRAW] = self.draw;
        words[hyper::DROP_BELOW] = (self.drop_path * 2f64.powi(32)) as u32;
        words
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Images in the batch.
    pub batch: usize,
    /// Whose statistics normalise; an evaluation uses the running ones.
    pub statistics: Statistics,
    /// Label smoothing of the loss.
    pub smoothing: f32,
    /// The optimiser, or none for a forward pass.
    pub update: Option<Update>,
    /// Whether gradients are computed and kept, update or not.
    pub gradients: bool,
}

/// How weights are updated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Whether momentum looks ahead.
    pub nesterov: bool,
    /// Whether the gradient's norm is limited.
    pub clip: bool,
    /// Whether decay and momentum also move weights that the path does not use (released GeNAS).
    pub touch_all: bool,
    /// Steps of PGD that move the images before the network learns from them; 0 for none.
    pub adversarial: usize,
    /// Whether paths are dropped for some images ([`Layers::path`]), with the probability of [`Rates::drop_path`]; in both passes of SAM for
    /// the same ones.
    pub drop_path: bool,
    /// Paths of a supernet beside the first, whose gradients for the same images are averaged with its own; weights that none of them uses
    /// stay. Each has choices of its own, one path's behind the other's. Running statistics and [`Step`]'s answers are those of the
    /// first, and the sums of losses and hits are of all.
    pub more_paths: usize,
    /// Whether the others learn what the first one answers, in place of labels (in-place distillation; Yu and Huang, ICCV 2019).
    pub distilled: bool,
}

/// A step's graph and the tensors that one may want to see.
pub struct Step {
    /// The graph.
    pub graph: Graph,
    /// The logits of the first pass.
    pub logits: TensorId,
    /// Mean loss and accuracy of the first pass.
    pub mean: TensorId,
    /// Loss and hit of each image.
    pub per_image: TensorId,
    /// Gradients by weight name; with SAM those of the second pass.
    pub gradients: Vec<(String, TensorId)>,
    /// Perturbed weights by name, with SAM.
    pub ascended: Vec<(String, TensorId)>,
}

/// A weight tensor and its gradient, and on which paths they matter.
#[derive(Clone)]
struct Learned {
    name: String,
    w: TensorId,
    g: TensorId,
    guard: Guard,
}

/// The norm of all gradients, each scaled by its weights if `adaptive`.
fn norm(layers: &mut Layers, learned: &[Learned], adaptive: bool) -> TensorId {
    let norm = layers.builder.temporary(Shape::vector(1));
    let gradients = learned.iter().map(|l| (l.guard, l.g, adaptive.then_some(l.w))).collect();
    layers.builder.push(Op::GlobalNorm { gradients, norm });
    norm
}

/// Has gradients lie side by side as their weights do.
fn side_by_side(layers: &mut Layers, learned: &[Learned]) {
    layers.builder.side_by_side(&learned.iter().map(|l| l.g).collect::<Vec<_>>());
}

/// What a pass is for.
#[derive(Clone, Copy, Default)]
struct Purpose {
    /// Whether losses and hits are added up.
    tally: bool,
    /// Whether gradients are wanted.
    gradients: bool,
    /// Logits that it learns in place of labels.
    teacher: Option<TensorId>,
}

/// Forward pass and loss, and the gradients if they are wanted.
struct Pass {
    logits: TensorId,
    mean: TensorId,
    per_image: TensorId,
    learned: Vec<Learned>,
}

/// Passes on all paths of a step: the first one's answers, and gradients averaged over all.
fn passes(
    layers: &mut Layers,
    model: &dyn Model,
    options: &StepOptions,
    (images, labels): (&[TensorId], TensorId),
    purpose: Purpose,
) -> Result<Pass> {
    let mut first = pass(layers, model, options, (images[0], labels), purpose)?;
    let more = options.update.map_or(0, |update| update.more_paths);
    if more == 0 {
        return Ok(first);
    }
    let stride = layers.choices_per_route();
    if stride == 0 {
        return Err(Error::invalid(
            "paths",
            "this network has no choices of paths (`Layers::choice`), and so one; leave it out",
        ));
    }
    let statistics = layers.statistics;
    if let Statistics::Batch { .. } = statistics {
        layers.statistics = Statistics::Batch { update: false };
    }
    let teacher = options.update.filter(|update| update.distilled).map(|_| first.logits);
    let mut others = vec![];
    for (route, &own) in images.iter().enumerate().skip(1) {
        layers.begin_route(route);
        others.push(pass(layers, model, options, (own, labels), Purpose { teacher, ..purpose })?.learned);
    }
    layers.begin_route(0);
    layers.statistics = statistics;
    let names = |learned: &[Learned]| learned.iter().map(|own| own.name.clone()).collect::<Vec<_>>();
    let choices = layers.builder.graph().choices.len();
    if choices != stride * (1 + more)
        || choices > usize::from(u16::MAX)
        || others.iter().any(|own| names(own) != names(&first.learned))
    {
        let why = "the supernet's choices or weights are others on another path; it should name all by `Layers`, and be the same whenever \
                   it is appended";
        return Err(Error::invalid("paths", why));
    }
    for (i, learned) in first.learned.iter_mut().enumerate() {
        let own = [(learned.guard, learned.g)].into_iter();
        let all = own.chain(others.iter().filter_map(|other| other.get(i)).map(|other| (other.guard, other.g)));
        let terms = all.map(|(guard, a)| Term { guard, a, kind: TermKind::Plain }).collect();
        learned.guard = learned.guard.of_any(1 + more, stride);
        learned.g = layers.builder.guarded(learned.guard, |b| b.sum(b.shape(learned.w), terms));
    }
    Ok(first)
}

fn pass(
    layers: &mut Layers,
    model: &dyn Model,
    options: &StepOptions,
    (x, y): (TensorId, TensorId),
    Purpose { tally, gradients, teacher }: Purpose,
) -> Result<Pass> {
    layers.weights.clear();
    // Branches that help training have no part in a pass that does not train.
    layers.auxiliary = gradients;
    layers.drop_path = gradients && options.update.is_some_and(|update| update.drop_path);
    layers.paths = 0;
    let Heads { logits, auxiliary } = model.forward(layers, x)?;
    if layers.drop_path && layers.paths == 0 {
        return Err(Error::invalid(
            "--drop-path",
            "this network has no paths that could be dropped; leave the option out",
        ));
    }
    let weights = layers.weights.clone();
    let compared = Compared { teacher, smoothing: options.smoothing, ..Compared::default() };
    let loss = layers.builder.cross_entropy_of(logits, y, compared, gradients, tally)?;
    let share = 1.0 / (1 + options.update.map_or(0, |update| update.more_paths)) as f32;
    let mut seeds: Vec<(TensorId, TensorId)> = vec![];
    seeds.extend(loss.dlogits.map(|seed| (logits, weighed(layers, seed, share))));
    for (logits, factor) in auxiliary.into_iter().filter(|_| gradients) {
        let seed = layers.builder.cross_entropy(logits, y, options.smoothing, true, false)?.dlogits;
        seeds.extend(seed.map(|seed| (logits, weighed(layers, seed, factor * share))));
    }
    let wanted: Vec<TensorId> = weights.iter().map(|(_, tensor)| *tensor).collect();
    let gradients = match seeds.is_empty() {
        false => layers.builder.backward(&seeds, &wanted)?,
        true => Gradients::default(),
    };
    // What is appended from here on may read weights on all paths, so it is asked now on which they matter.
    let learned = |(name, w): (String, TensorId)| {
        let (g, guard) = (gradients.get(w)?, layers.builder.scope_of(w));
        Some(Learned { name, w, g, guard })
    };
    let learned = weights.into_iter().filter_map(learned).collect();
    Ok(Pass { logits, mean: loss.mean, per_image: loss.per_image, learned })
}

/// A loss's gradient with respect to logits, times a factor.
fn weighed(layers: &mut Layers, seed: TensorId, factor: f32) -> TensorId {
    match factor == 1.0 {
        true => seed,
        false => {
            let shape = layers.builder.shape(seed);
            layers.builder.sum(shape, vec![Term::new(seed, TermKind::Spread { factor })])
        }
    }
}

/// The graph of a step of `model`.
///
/// # Errors
/// If the model's shapes do not fit, or the batch is empty.
pub fn build(model: &dyn Model, options: &StepOptions) -> Result<Step> {
    if options.batch == 0 {
        return Err(Error::invalid("--batch", "0 images; a batch needs at least one"));
    }
    let mut layers = Layers::new(options.statistics)?;
    let want = options.gradients || options.update.is_some();
    let (mut x, y) = layers.batch(options.batch, model.input())?;
    let steps = options.update.map_or(0, |update| update.adversarial);
    if steps > 0 {
        if let Statistics::Batch { .. } = options.statistics {
            layers.statistics = Statistics::Batch { update: false };
        }
        x = moved(&mut layers, model, (x, y), steps, options.smoothing)?;
        layers.statistics = options.statistics;
    }
    let paths = 1 + options.update.map_or(0, |update| update.more_paths);
    let sizes = model.sizes(paths);
    if sizes.len() != paths || sizes[0] != model.input() {
        return Err(Error::shape(
            "Model::sizes",
            format!("{paths}, from {:?} on", model.input()),
            format!("{sizes:?}"),
        ));
    }
    let mut images = vec![];
    for &size in &sizes {
        if steps > 0 && size != model.input() {
            return Err(Error::invalid(
                "--adversarial",
                "paths that see images of several sizes do not see moved ones",
            ));
        }
        images.push(if size == model.input() { x } else { layers.batch_at(options.batch, model.input(), size)? });
    }
    let purpose = Purpose { tally: true, gradients: want, teacher: None };
    let first = passes(&mut layers, model, options, (&images, y), purpose)?;
    let hyper = layers.hyper();
    let Pass { logits, mean, per_image, mut learned } = first;
    let mut ascended = vec![];
    if let Some(update) = options.update.filter(|update| update.optimizer != Optimizer::Sgd) {
        let adaptive = update.optimizer == Optimizer::Asam;
        side_by_side(&mut layers, &learned);
        let norm = norm(&mut layers, &learned, adaptive);
        for &Learned { ref name, w, g, guard } in &learned {
            let y = layers.builder.temporary(layers.builder.shape(w));
            layers.builder.guarded(guard, |b| b.push(Op::Ascend { w, g, norm, hyper, y, adaptive }));
            ascended.push((name.clone(), y));
        }
        layers.builder.side_by_side(&ascended.iter().map(|(_, y)| *y).collect::<Vec<_>>());
        layers.substitutes = ascended.iter().cloned().collect();
        // Running statistics move in the first pass only.
        if let Statistics::Batch { .. } = options.statistics {
            layers.statistics = Statistics::Batch { update: false };
        }
        let again = Purpose { tally: false, gradients: true, teacher: None };
        let second = passes(&mut layers, model, options, (&images, y), again)?.learned;
        learned.iter_mut().zip(second).for_each(|(first, second)| first.g = second.g);
    }
    let gradients: Vec<(String, TensorId)> = learned.iter().map(|l| (l.name.clone(), l.g)).collect();
    if let Some(update) = options.update {
        if update.touch_all {
            // Off the path the gradient is zero, and decay and momentum still act.
            for l in learned.iter_mut().filter(|l| l.guard != Guard::ALWAYS) {
                l.g = layers.builder.gated(l.g, l.guard);
                l.guard = Guard::ALWAYS;
            }
        }
        side_by_side(&mut layers, &learned);
        let norm = update.clip.then(|| norm(&mut layers, &learned, false));
        for Learned { name, w, g, guard } in learned {
            let shape = layers.builder.shape(w);
            let m = layers.builder.persistent(Role::Momentum, &name, shape, Init::Constant(0.0), &[])?;
            let op = Op::Sgd { w, g, m, norm, hyper, nesterov: update.nesterov };
            layers.builder.guarded(guard, |b| b.push(op));
        }
    }
    Ok(Step { graph: layers.builder.finish(), logits, mean, per_image, gradients, ascended })
}

impl Step {
    /// Marks logits, loss, gradients and perturbed weights, so that they can be read after a run.
    pub fn probe_all(&mut self) {
        let marks = [("logits", self.logits), ("mean", self.mean), ("per_image", self.per_image)];
        let named = self.gradients.iter().map(|(n, t)| (format!("grad.{n}"), *t));
        let named = named.chain(self.ascended.iter().map(|(n, t)| (format!("ascended.{n}"), *t)));
        for (name, tensor) in named.chain(marks.map(|(n, t)| (n.to_owned(), t))) {
            self.graph.tensors[tensor.0 as usize].probe = Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::nas_bench_201::Supernet;
    use crate::space::nas_bench_201::Macro;

    /// What the path does not use is left alone, whichever optimiser moves the rest; the released form moves it too.
    #[test]
    fn weights_of_options_are_guarded() {
        let sizes = Macro { channels: 4, cells: 1, in_channels: 3, height: 8, width: 8, classes: 5 };
        let guards = |optimizer, touch_all| {
            let update = Some(Update { optimizer, clip: true, touch_all, ..Update::default() });
            let statistics = Statistics::Batch { update: true };
            let options = StepOptions { batch: 2, statistics, smoothing: 0.0, update, gradients: true };
            let nodes = build(&Supernet { sizes }, &options).unwrap().graph.nodes;
            let mut lists = vec![vec![]; 2];
            for node in nodes {
                match node.op {
                    Op::Sgd { .. } => lists[0].push(node.guard),
                    Op::Ascend { .. } => lists[1].push(node.guard),
                    Op::GlobalNorm { gradients, .. } => {
                        lists.push(gradients.into_iter().map(|(own, ..)| own).collect())
                    }
                    _ => {}
                }
            }
            lists
        };
        let sgd = guards(Optimizer::Sgd, false);
        let free = sgd[0].iter().filter(|guard| **guard == Guard::ALWAYS).count();
        assert!(free > 0 && free < sgd[0].len() / 2, "{free} of {}", sgd[0].len());
        assert_eq!(sgd, [sgd[0].clone(), vec![], sgd[0].clone()]);
        for optimizer in [Optimizer::Sam, Optimizer::Asam] {
            assert_eq!(guards(optimizer, false), vec![sgd[0].clone(); 4], "{optimizer}");
        }
        let all = vec![Guard::ALWAYS; sgd[0].len()];
        assert_eq!(guards(Optimizer::Asam, true), [all.clone(), sgd[0].clone(), sgd[0].clone(), all]);
    }

    /// A network with a second head in the middle, or one whose only answer is that head.
    struct TwoHeads {
        factor: f32,
        only_auxiliary: bool,
    }

    impl Model for TwoHeads {
        fn input(&self) -> [usize; 3] {
            [4, 4, 3]
        }

        fn classes(&self) -> usize {
            5
        }

        fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
            let square = crate::graph::Geometry::square;
            let middle = layers.conv("stem", x, 6, square(3, 1, 1))?;
            let mut auxiliary = vec![];
            if layers.auxiliary || self.only_auxiliary {
                let pooled = layers.builder.global_avg_pool(middle.into());
                auxiliary.push((layers.linear("auxiliary", pooled, 5)?, self.factor));
            }
            if let (true, Some((logits, _))) = (self.only_auxiliary, auxiliary.first()) {
                return Ok((*logits).into());
            }
            let seen = layers.relu(middle.into());
            let last = layers.conv("last", seen, 6, square(3, 1, 1))?;
            let pooled = layers.builder.global_avg_pool(last.into());
            Ok(Heads { logits: layers.linear("classifier", pooled, 5)?, auxiliary })
        }
    }

    /// Numbers of the paths that are dropped, in the order of the nodes.
    fn dropped(model: &dyn Model, options: &StepOptions) -> Result<Vec<u32>> {
        let of = |node: &crate::graph::Node| if let Op::DropPath { path, .. } = node.op { Some(path) } else { None };
        Ok(build(model, options)?.graph.nodes.iter().filter_map(of).collect())
    }

    /// A pass that does not train drops nothing, and both passes of SAM drop the same paths.
    #[test]
    fn paths_are_dropped_where_training_asks_for_it() {
        struct TwoPaths;
        impl Model for TwoPaths {
            fn input(&self) -> [usize; 3] {
                [4, 4, 3]
            }

            fn classes(&self) -> usize {
                5
            }

            fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
                let geometry = crate::graph::Geometry::square(3, 1, 1);
                let mut terms = vec![];
                for name in ["one", "two"] {
                    let path = layers.relu_conv_norm(name, x.into(), 4, geometry)?;
                    let path = layers.path(path);
                    terms.push(layers.builder.term(path));
                }
                let sum = layers.builder.sum(Shape::map(layers.builder.shape(x).nhwc()[0], 4, 4, 4), terms);
                let pooled = layers.builder.global_avg_pool(sum.into());
                Ok(layers.linear("classifier", pooled, 5)?.into())
            }
        }
        let options = |optimizer, drop_path, adversarial| StepOptions {
            batch: 2,
            statistics: Statistics::Batch { update: true },
            smoothing: 0.0,
            update: Some(Update { optimizer, drop_path, adversarial, ..Update::default() }),
            gradients: false,
        };
        for (optimizer, adversarial, want) in
            [(Optimizer::Sgd, 0, vec![0, 1]), (Optimizer::Sgd, 2, vec![0, 1]), (Optimizer::Sam, 0, vec![0, 1, 0, 1])]
        {
            assert_eq!(dropped(&TwoPaths, &options(optimizer, true, adversarial)).unwrap(), want);
            assert_eq!(dropped(&TwoPaths, &options(optimizer, false, adversarial)).unwrap(), [0; 0]);
        }
        let looking = StepOptions { update: None, gradients: true, ..options(Optimizer::Sgd, true, 0) };
        assert_eq!(dropped(&TwoPaths, &looking).unwrap(), [0; 0]);
        let none = TwoHeads { factor: 0.4, only_auxiliary: false };
        let refused = dropped(&none, &options(Optimizer::Sgd, true, 0)).unwrap_err().to_string();
        assert!(refused.contains("--drop-path") && refused.contains("no paths"), "{refused}");
    }

    #[test]
    fn auxiliary_heads_weigh_what_they_should() {
        use crate::nn::tensors::{fresh, to_logical};
        use crate::reference::{Memory, run};
        let gradients = |factor: f32, only_auxiliary: bool| {
            let options = StepOptions {
                batch: 3,
                statistics: Statistics::Batch { update: false },
                smoothing: 0.1,
                update: None,
                gradients: true,
            };
            let step = build(&TwoHeads { factor, only_auxiliary }, &options).unwrap();
            let contents = crate::graph::store::Contents::of(&step.graph, &[Role::Weights]).unwrap();
            let (named, mut memory) = (fresh(&contents, 5), Memory::new(&step.graph));
            for (id, info) in step.graph.persistent(Role::Weights) {
                let values = to_logical(step.graph.shape(id), &named[&info.name].data);
                memory.set(id, values.into_iter().map(f64::from).collect()).unwrap();
            }
            for (id, info) in step.graph.persistent(Role::Batch) {
                let value = |i: usize| if info.name == "y" { i as f64 } else { ((i * 7) % 11) as f64 / 5.0 - 1.0 };
                memory.set(id, (0..step.graph.shape(id).len()).map(value).collect()).unwrap();
            }
            run(&step.graph, &[], &mut memory).unwrap();
            let of =
                |name: &str| step.gradients.iter().find(|(own, _)| own == name).map(|(_, g)| memory.get(*g).to_vec());
            (["stem.weight", "last.weight", "auxiliary.weight"].map(of), memory.get(step.mean).to_vec())
        };
        let ([stem, last, auxiliary], mean) = gradients(0.4, false);
        let ([stem_alone, last_alone, none], mean_alone) = gradients(0.0, false);
        let ([stem_there, _, there], _) = gradients(0.0, true);
        assert_eq!((last, mean), (last_alone, mean_alone), "what the head cannot reach, and the loss that is told");
        assert!(none.unwrap().iter().all(|g| *g == 0.0));
        let near = |got: &[f64], want: &mut dyn Iterator<Item = f64>| {
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-7), "{got:?}");
            assert!(got.iter().any(|g| g.abs() > 1e-3));
        };
        let (alone, there_too) = (stem_alone.unwrap(), stem_there.unwrap());
        near(&stem.unwrap(), &mut alone.iter().zip(&there_too).map(|(a, b)| a + 0.4 * b));
        near(&auxiliary.unwrap(), &mut there.unwrap().iter().map(|g| 0.4 * g));
        // Who only looks does not build it.
        let looking =
            StepOptions { batch: 3, statistics: Statistics::Running, smoothing: 0.0, update: None, gradients: false };
        let graph = build(&TwoHeads { factor: 0.4, only_auxiliary: false }, &looking).unwrap().graph;
        assert!(graph.persistent(Role::Weights).all(|(_, info)| !info.name.starts_with("auxiliary")));
    }
}
