//! Networks, built as graphs from blocks.
//!
//! [`Layers`] is a [`Builder`] that names weights as PyTorch does; a [`Model`] says how layers follow each other;
//! [`space`] says which networks the architectures of a search space are, and has the registry of all spaces; [`tensors`] moves
//! weights between files, host and device; [`weights`] says what of a file fits a network; a [`bank`] keeps those that many
//! networks share.

pub mod bank;
pub mod card;
pub mod count;
pub mod darts;
pub mod mobilenet_v3;
pub mod nas_bench_201;
pub mod resnet;
pub mod space;
pub mod tensors;
pub mod weights;

use std::collections::HashMap;

use crate::error::Result;
use crate::graph::{
    BatchNorm, Builder, Geometry, Graph, Guard, Init, Op, Role, Shape, Statistics, TensorId, Value, hyper,
};

/// Added to variances, as PyTorch does.
pub const EPSILON: f32 = 1e-5;

/// Something that turns images into logits.
pub trait Model: Send + Sync {
    /// Rows, columns and channels of the images.
    fn input(&self) -> [usize; 3];
    /// Number of classes.
    fn classes(&self) -> usize;
    /// What each of so many paths of a training step sees; the first one is [`Model::input`].
    fn sizes(&self, paths: usize) -> Vec<[usize; 3]> {
        vec![self.input(); paths]
    }
    /// Appends the network to `layers` and returns what it says of the images `x`.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads>;
}

/// What a network says of its images.
#[derive(Clone, Debug, PartialEq)]
pub struct Heads {
    /// The answer.
    pub logits: TensorId,
    /// Answers of branches that help training, where [`Layers::auxiliary`] asks for them, and the weights of their losses.
    pub auxiliary: Vec<(TensorId, f32)>,
}

/// What a tensor of images is called at the size `own`, where the step's first path sees `input`.
pub fn at_size(name: &str, input: [usize; 3], own: [usize; 3]) -> String {
    match own == input {
        true => name.to_owned(),
        false => format!("{name}.{}x{}", own[0], own[1]),
    }
}

impl From<TensorId> for Heads {
    fn from(logits: TensorId) -> Self {
        Heads { logits, auxiliary: vec![] }
    }
}

/// Name of the layer that gives a network's logits, whose rows are the classes.
///
/// # Errors
/// If the model's shapes do not fit.
pub fn classifier(model: &dyn Model) -> Result<Option<String>> {
    let mut layers = Layers::new(Statistics::Running)?;
    let (x, _) = layers.batch(1, model.input())?;
    let logits = model.forward(&mut layers, x)?.logits;
    Ok(layers.anatomy.layers.into_iter().find(|layer| layer.output == logits).map(|layer| layer.name))
}

/// The network with the branches that help training, and what it says: all that a training keeps.
fn whole(model: &dyn Model) -> Result<(Layers, Heads)> {
    let mut layers = Layers::new(Statistics::Running)?;
    layers.auxiliary = true;
    let (x, _) = layers.batch(1, model.input())?;
    let heads = model.forward(&mut layers, x)?;
    Ok((layers, heads))
}

/// A graph that has all tensors which a training of the network keeps, those of branches that help training among them.
///
/// # Errors
/// If the model's shapes do not fit.
pub fn trained_graph(model: &dyn Model) -> Result<Graph> {
    Ok(whole(model)?.0.builder.finish())
}

/// Names of the layers that give the logits of branches that help training, whose rows are the classes too.
///
/// # Errors
/// If the model's shapes do not fit.
pub fn auxiliary_classifiers(model: &dyn Model) -> Result<Vec<String>> {
    let (layers, heads) = whole(model)?;
    let is_one = |layer: &LayerInfo| heads.auxiliary.iter().any(|(logits, _)| *logits == layer.output);
    Ok(layers.anatomy.layers.into_iter().filter(is_one).map(|layer| layer.name).collect())
}

/// Appends named layers to a graph.
pub struct Layers {
    /// The graph under construction.
    pub builder: Builder,
    /// Statistics that batch norms use.
    pub statistics: Statistics,
    /// Weights that stand in for those of the store (perturbed ones).
    pub substitutes: HashMap<String, TensorId>,
    /// Weights used so far, with their names, in order.
    pub weights: Vec<(String, TensorId)>,
    /// Which batch norms are there.
    pub norms: Norms,
    /// Whether what is appended now keeps its batch norms in a [`Norms::Bare`] network; models set it.
    pub keeps_norms: bool,
    /// Whether branches that only help training are wanted.
    pub auxiliary: bool,
    /// Whether paths are dropped for some images; see [`Layers::path`].
    pub drop_path: bool,
    /// How many paths may be dropped, so far.
    pub paths: u32,
    /// Which of several paths through a supernet is appended now; see [`Layers::begin_route`].
    route: usize,
    /// The choices of each, by their names.
    routes: Vec<HashMap<String, u16>>,
    /// The stage of what is appended now; models set it. Measures compare what stage `n` leaves in the `n`-th
    /// [`feature`](Layers::feature).
    pub stage: usize,
    /// What the network is made of, for measures that look inside.
    pub anatomy: Anatomy,
    hyper: TensorId,
}

/// Which batch norms a network has: some measures are defined on networks without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Norms {
    /// All.
    #[default]
    All,
    /// Those alone that the model keeps: a network that its authors' measures hold for one without norms may have some.
    Bare,
}

/// The inner tensors of a network, in the order in which they come.
#[derive(Clone, Debug, Default)]
pub struct Anatomy {
    /// Convolutions and linear layers.
    pub layers: Vec<LayerInfo>,
    /// Inputs of rectifiers; one that feeds several is there several times.
    pub rectified: Vec<Rectified>,
    /// Names of batch norms.
    pub norms: Vec<String>,
    /// What the stages leave, by their number: feature maps, and the pooled vector as the last one.
    pub features: Vec<Feature>,
    /// The last feature map, before its rectifier and the global average.
    pub last_map: Option<TensorId>,
}

/// A convolution or linear layer.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// Its name; its weights are `name.weight`.
    pub name: String,
    /// Its weights.
    pub weight: TensorId,
    /// What it writes.
    pub output: TensorId,
    /// Its stage, as the model counts them.
    pub stage: usize,
}

/// The input of a rectifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectified {
    /// The input.
    pub tensor: TensorId,
    /// How often the authors' measures count it: a hook on a block and one on the rectifier in it see it twice.
    pub counted: f64,
}

/// What a stage leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The feature map, or a vector.
    pub tensor: TensorId,
    /// Whether measures see it rectified: the authors' rectifier works in place.
    pub rectified: bool,
}

impl Layers {
    /// An empty network whose batch norms use `statistics`.
    ///
    /// # Errors
    /// Never for a new graph.
    pub fn new(statistics: Statistics) -> Result<Self> {
        let mut builder = Builder::new();
        let hyper = builder.persistent(Role::Hyper, "hyper", hyper::SHAPE, Init::Constant(0.0), &[12])?;
        Ok(Layers {
            builder,
            statistics,
            substitutes: HashMap::new(),
            weights: vec![],
            norms: Norms::All,
            keeps_norms: false,
            auxiliary: false,
            drop_path: false,
            paths: 0,
            route: 0,
            routes: vec![HashMap::new()],
            stage: 0,
            anatomy: Anatomy::default(),
            hyper,
        })
    }

    /// The tensor of the host's numbers for a step; see [`hyper`].
    pub fn hyper(&self) -> TensorId {
        self.hyper
    }

    /// What is appended from here on is the `route`-th path through the same supernet, with choices of its own.
    pub fn begin_route(&mut self, route: usize) {
        self.route = route;
        self.routes.resize_with(self.routes.len().max(route + 1), HashMap::new);
        self.builder.begin_path();
    }

    /// The number of a supernet's choice among `options` operations, as many whenever it is named. The same name gives the same choice
    /// until another route begins. A supernet that asks [`Builder::choice`] itself has one path in a step, and one pass.
    pub fn choice(&mut self, name: &str, options: usize) -> u16 {
        let Layers { builder, routes, route, .. } = self;
        *routes[*route].entry(name.to_owned()).or_insert_with(|| builder.choice(options as u8))
    }

    /// How many choices the first route has, as any other one.
    pub fn choices_per_route(&self) -> usize {
        self.routes[0].len()
    }

    /// Everything that `body` appends runs only under `guard`.
    pub fn within<T>(&mut self, guard: Guard, body: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.builder.enter(Some(guard));
        let result = body(self);
        self.builder.enter(outer);
        result
    }

    /// What one of several paths to a sum yields: nothing for the images that it is dropped for, and more for the others, where
    /// [`Layers::drop_path`] asks for that; see [`Op::DropPath`]. Paths are numbered as they come, and the number decides for which images.
    pub fn path(&mut self, value: Value) -> Value {
        if !self.drop_path {
            return value;
        }
        let [images, ..] = self.builder.seen_shape(value).nhwc();
        let factors = self.builder.temporary(Shape::map(images, 1, 1, 1));
        self.builder.push(Op::DropPath { hyper: self.hyper, factors, path: self.paths });
        self.paths += 1;
        self.builder.scaled(value, factors)
    }

    /// The images and labels of a batch of `n`.
    ///
    /// # Errors
    /// If they are already there with another shape.
    pub fn batch(&mut self, n: usize, input: [usize; 3]) -> Result<(TensorId, TensorId)> {
        let [h, w, c] = input;
        let zero = Init::Constant(0.0);
        let x = self.builder.persistent(Role::Batch, "x", Shape::map(n, h, w, c), zero, &[n, c, h, w])?;
        let y = self.builder.persistent(Role::Batch, "y", Shape::map(n, 1, 1, 1), zero, &[n])?;
        Ok((x, y))
    }

    /// The same images at the size at which another path sees them; those of [`Layers::batch`] where it is theirs.
    ///
    /// # Errors
    /// As [`Layers::batch`].
    pub fn batch_at(&mut self, n: usize, input: [usize; 3], own: [usize; 3]) -> Result<TensorId> {
        let [h, w, c] = own;
        let (name, zero) = (at_size("x", input, own), Init::Constant(0.0));
        self.builder.persistent(Role::Batch, &name, Shape::map(n, h, w, c), zero, &[n, c, h, w])
    }

    /// A weight tensor, or its substitute.
    ///
    /// # Errors
    /// If the name is taken by another shape.
    pub fn weight(&mut self, name: &str, shape: Shape, init: Init, dims: &[usize]) -> Result<TensorId> {
        let tensor = match self.substitutes.get(name) {
            Some(&tensor) => tensor,
            None => self.builder.persistent(Role::Weights, name, shape, init, dims)?,
        };
        if !self.weights.iter().any(|(_, t)| *t == tensor) {
            self.weights.push((name.to_owned(), tensor));
        }
        Ok(tensor)
    }

    /// Weights of a convolution from `c` to `k` channels, called `name.weight`.
    ///
    /// # Errors
    /// If the name is taken by another shape.
    pub fn filter(&mut self, name: &str, c: usize, k: usize, geometry: Geometry) -> Result<TensorId> {
        let Geometry { r, s, groups, .. } = geometry;
        let shape = Shape::Filter { r, s, c: c / groups, k, groups };
        let init = Init::Uniform { fan_in: c / groups * r * s };
        self.weight(&format!("{name}.weight"), shape, init, &[k, c / groups, r, s])
    }

    /// A convolution without bias to `k` channels.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn conv(&mut self, name: &str, x: impl Into<Value>, k: usize, geometry: Geometry) -> Result<TensorId> {
        self.conv_with(name, x.into(), k, geometry, false)
    }

    /// A convolution to `k` channels, with or without bias.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn conv_with(&mut self, name: &str, x: Value, k: usize, geometry: Geometry, bias: bool) -> Result<TensorId> {
        let c = self.builder.seen_shape(x).channels();
        let w = self.filter(name, c, k, geometry)?;
        let init = Init::Uniform { fan_in: c / geometry.groups * geometry.r * geometry.s };
        let bias = match bias {
            true => Some(self.weight(&format!("{name}.bias"), Shape::vector(k), init, &[k])?),
            false => None,
        };
        let y = self.builder.conv(name, x, w, bias, geometry)?;
        self.layer(name, w, y);
        Ok(y)
    }

    /// A 1x1 convolution by the first places of a larger one; `channels` are those that come in and go out, its own and the larger
    /// one's.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn part_of_conv(&mut self, name: &str, x: Value, channels: [[usize; 2]; 2], bias: bool) -> Result<TensorId> {
        let ([[_, own], [all_in, all]], geometry) = (channels, Geometry::square(1, 1, 0));
        let w = self.filter(name, all_in, all, geometry)?;
        let init = Init::Uniform { fan_in: all_in };
        let bias = match bias {
            true => Some(self.weight(&format!("{name}.bias"), Shape::vector(all), init, &[all])?),
            false => None,
        };
        let y = self.builder.part_of_conv(name, x, w, bias, (own, geometry))?;
        self.layer(name, w, y);
        Ok(y)
    }

    fn layer(&mut self, name: &str, weight: TensorId, output: TensorId) {
        self.anatomy.layers.push(LayerInfo { name: name.to_owned(), weight, output, stage: self.stage });
    }

    /// What a stage leaves; stages are counted in the order of these calls.
    pub fn feature(&mut self, tensor: TensorId, rectified: bool) {
        self.anatomy.features.push(Feature { tensor, rectified });
    }

    /// Rectifies.
    pub fn relu(&mut self, x: Value) -> Value {
        self.relu_counted(x, 1.0)
    }

    /// Rectifies; `counted` is [`Rectified::counted`].
    pub fn relu_counted(&mut self, x: Value, counted: f64) -> Value {
        let seen = self.builder.relu(x);
        self.anatomy.rectified.push(Rectified { tensor: seen.tensor, counted });
        seen
    }

    /// A fully connected layer with bias from the channels of `x`, which has one position per image.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn linear(&mut self, name: &str, x: impl Into<Value>, outputs: usize) -> Result<TensorId> {
        let x = x.into();
        let c = self.builder.seen_shape(x).channels();
        let init = Init::Uniform { fan_in: c };
        let shape = Shape::Filter { r: 1, s: 1, c, k: outputs, groups: 1 };
        let w = self.weight(&format!("{name}.weight"), shape, init, &[outputs, c])?;
        let b = self.weight(&format!("{name}.bias"), Shape::vector(outputs), init, &[outputs])?;
        let y = self.builder.conv(name, x, w, Some(b), Geometry::square(1, 1, 0))?;
        self.layer(name, w, y);
        Ok(y)
    }

    /// A batch norm called `name`, with or without scale and shift.
    ///
    /// # Errors
    /// If the name is taken by another shape.
    pub fn batch_norm(&mut self, name: &str, x: TensorId, affine: bool) -> Result<Value> {
        self.batch_norm_of(name, x, affine, self.builder.shape(x).channels())
    }

    /// The same by the first places of a norm of `whole` channels.
    ///
    /// # Errors
    /// If the name is taken by another shape.
    pub fn batch_norm_of(&mut self, name: &str, x: TensorId, affine: bool, whole: usize) -> Result<Value> {
        if self.norms == Norms::Bare && !self.keeps_norms {
            return Ok(x.into());
        }
        self.anatomy.norms.push(name.to_owned());
        let shape = Shape::vector(whole);
        let mut vector = |suffix: &str, value| {
            self.weight(&format!("{name}.{suffix}"), shape, Init::Constant(value), &[whole]).map(Some)
        };
        let (gamma, beta) = if affine { (vector("weight", 1.0)?, vector("bias", 0.0)?) } else { (None, None) };
        let mut state = |suffix: &str, value| {
            self.builder.persistent(Role::Running, &format!("{name}.{suffix}"), shape, Init::Constant(value), &[whole])
        };
        // Statistics that are neither used nor moved need no place.
        let running = match self.statistics {
            Statistics::Batch { update: false } => None,
            _ => Some((state("running_mean", 0.0)?, state("running_var", 1.0)?)),
        };
        let norm =
            BatchNorm { gamma, beta, running, hyper: Some(self.hyper), epsilon: EPSILON, statistics: self.statistics };
        Ok(self.builder.batch_norm(x, norm))
    }

    /// ReLU, convolution, batch norm: the block that most spaces are made of. Its parts are `name.op.1` and `name.op.2`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn relu_conv_norm(&mut self, name: &str, x: Value, k: usize, geometry: Geometry) -> Result<Value> {
        self.relu_conv_norm_with(name, x, k, geometry, true)
    }

    /// The same with a scale and shift after the norm and no bias before it (`affine`), or the other way round.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn relu_conv_norm_with(
        &mut self,
        name: &str,
        x: Value,
        k: usize,
        geometry: Geometry,
        affine: bool,
    ) -> Result<Value> {
        let x = self.relu_counted(x, 2.0);
        let y = self.conv_with(&format!("{name}.op.1"), x, k, geometry, !affine)?;
        self.batch_norm(&format!("{name}.op.2"), y, affine)
    }
}
