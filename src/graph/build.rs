//! Building graphs.
//!
//! Element-wise operations are lazy: a [`Value`] is a tensor seen through a [`View`] (rectified, normalised, averaged).
//! A consumer that can apply the view while loading does so (a convolution rectifies, a sum takes any view); only for
//! others it is written out by [`Builder::materialise`]. That is all the fusion there is, and it cannot go wrong later.

use std::collections::HashMap;

use super::ir::*;
use super::term::{Term, TermKind};
use crate::error::{Error, Result};

/// How a tensor is to be seen by its consumer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// As it is.
    Plain,
    /// Rectified.
    Relu,
    /// Scaled and shifted per channel.
    Affine {
        /// Coefficients from a batch norm.
        coefficients: TensorId,
    },
    /// Averaged over windows.
    AvgPool(Window),
    /// Times a factor for each image.
    Scaled {
        /// The factors.
        factors: TensorId,
    },
    /// Through a hard swish, behind a norm or not.
    HardSwish {
        /// Coefficients from the norm.
        coefficients: Option<TensorId>,
    },
    /// Times the hard sigmoid of a gate for each image and channel.
    Gated {
        /// The gates.
        gates: TensorId,
    },
}

/// A tensor and how to see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The tensor.
    pub tensor: TensorId,
    /// The view.
    pub view: View,
}

impl From<TensorId> for Value {
    fn from(tensor: TensorId) -> Self {
        Value { tensor, view: View::Plain }
    }
}

/// Appends operations to a graph.
///
/// Shapes are checked as the graph grows; every error names the layer.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(super) graph: Graph,
    pub(super) guard: Option<Guard>,
    /// Tensors that outlive the plan, by role and name.
    named: HashMap<(Role, String), TensorId>,
    /// For each tensor that an operation has used, on which paths it matters; see [`Builder::scope_of`].
    scopes: HashMap<TensorId, Guard>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph as it stands.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ends building.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        self.graph.shape(tensor)
    }

    /// The shape that a consumer of `value` sees.
    pub fn seen_shape(&self, value: Value) -> Shape {
        match (value.view, self.shape(value.tensor)) {
            (View::AvgPool(window), Shape::Map { n, h, w, c }) => {
                let (h, w) = window.geometry().output(h, w).unwrap_or((0, 0));
                Shape::map(n, h, w, c)
            }
            (_, shape) => shape,
        }
    }

    /// A tensor whose memory the planner finds.
    pub fn temporary(&mut self, shape: Shape) -> TensorId {
        self.add(Tensor { shape, persistent: None, probe: None })
    }

    /// A tensor that outlives the plan. The same name in the same role gives the same tensor.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn persistent(&mut self, role: Role, name: &str, shape: Shape, init: Init, dims: &[usize]) -> Result<TensorId> {
        let key = (role, name.to_owned());
        if let Some(&id) = self.named.get(&key) {
            let have = self.shape(id);
            return if have == shape { Ok(id) } else { Err(Error::shape(format!("tensor {name}"), have, shape)) };
        }
        let persistent = Some(Persistent { role, name: name.into(), init, dims: dims.to_vec() });
        let id = self.add(Tensor { shape, persistent, probe: None });
        self.named.insert(key, id);
        Ok(id)
    }

    /// Marks a tensor whose values are wanted after the run.
    pub fn probe(&mut self, tensor: TensorId, name: &str) {
        self.graph.tensors[tensor.0 as usize].probe = Some(name.into());
    }

    /// Announces a choice among `options` operations and returns its number.
    pub fn choice(&mut self, options: u8) -> u16 {
        self.graph.choices.push(options);
        (self.graph.choices.len() - 1) as u16
    }

    /// Everything that `body` appends runs only under `guard`.
    pub fn guarded<T>(&mut self, guard: Guard, body: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.enter(Some(guard));
        let result = body(self);
        self.enter(outer);
        result
    }

    /// Sets the guard of what follows and returns the one before.
    pub(crate) fn enter(&mut self, guard: Option<Guard>) -> Option<Guard> {
        std::mem::replace(&mut self.guard, guard)
    }

    /// Appends an operation whose tensors exist.
    pub fn push(&mut self, op: Op) {
        let guard = self.guard.unwrap_or(Guard::ALWAYS);
        let (reads, writes) = op.operands();
        let outlives = |t: &TensorId| self.graph.tensor(*t).persistent.is_some();
        let weights = reads.into_iter().filter(outlives);
        for tensor in weights.chain(writes.into_iter().filter(|t| !outlives(t))) {
            let scope = self.scopes.entry(tensor).or_insert(guard);
            *scope = self.graph.normal(scope.or(guard));
        }
        self.graph.nodes.push(Node { op, guard });
    }

    /// The paths on which a tensor matters: those on which it is written or, if it outlives the plan, read.
    pub fn scope_of(&self, tensor: TensorId) -> Guard {
        self.scopes.get(&tensor).copied().unwrap_or(Guard::ALWAYS)
    }

    /// Says that a tensor matters on these paths.
    pub(super) fn widen_scope(&mut self, tensor: TensorId, scope: Guard) {
        self.scopes.insert(tensor, scope);
    }

    /// Forgets on which paths tensors that outlive the plan matter: what follows is another path through the same weights, and
    /// [`Builder::scope_of`] tells its own.
    pub fn begin_path(&mut self) {
        let graph = &self.graph;
        self.scopes.retain(|tensor, _| graph.tensor(*tensor).persistent.is_none());
    }

    /// `conv(x, w)`, written to a new tensor. `name` is the layer's, for errors.
    ///
    /// # Errors
    /// If channels do not fit or nothing is left of the image.
    pub fn conv(
        &mut self,
        name: &str,
        x: Value,
        w: TensorId,
        bias: Option<TensorId>,
        geometry: Geometry,
    ) -> Result<TensorId> {
        let shape = self.conv_shape(name, x, w, geometry)?;
        let y = self.temporary(shape);
        self.conv_into(x, w, bias, geometry, y);
        Ok(y)
    }

    /// The same, ungrouped, to `k` channels by the first places of a filter that may have more, of inputs and outputs.
    ///
    /// # Errors
    /// As [`Builder::conv`], or if channels of a larger filter are not taken in multiples of four.
    pub fn part_of_conv(
        &mut self,
        name: &str,
        x: Value,
        w: TensorId,
        bias: Option<TensorId>,
        (k, geometry): (usize, Geometry),
    ) -> Result<TensorId> {
        let (channels, have) = (self.seen_shape(x).channels(), self.shape(w));
        let (inputs, outputs) = match have {
            Shape::Filter { r, s, c, k, groups: 1 } if (r, s, 1) == (geometry.r, geometry.s, geometry.groups) => (c, k),
            _ => return Err(Error::shape(name, format!("a filter for {geometry:?}"), have)),
        };
        if channels > inputs || k > outputs {
            return Err(Error::shape(name, format!("a filter of {channels} to {k} channels or more"), have));
        }
        if (channels, k) != (inputs, outputs) && !(channels.is_multiple_of(4) && k.is_multiple_of(4)) {
            let taken = format!("{channels} to {k}");
            return Err(Error::shape(name, "multiples of four channels of a larger filter", taken));
        }
        let shape = self.map_behind(name, x, k, geometry)?;
        let y = self.temporary(shape);
        self.conv_into(x, w, bias, geometry, y);
        Ok(y)
    }

    /// The output shape of a convolution.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn conv_shape(&self, name: &str, x: Value, w: TensorId, geometry: Geometry) -> Result<Shape> {
        let channels = self.seen_shape(x).channels();
        let Shape::Filter { r, s, c, k, groups } = self.shape(w) else {
            return Err(Error::shape(name, "a filter", self.shape(w)));
        };
        if (r, s, groups) != (geometry.r, geometry.s, geometry.groups) || k % groups != 0 {
            return Err(Error::shape(name, format!("a filter for {geometry:?}"), self.shape(w)));
        }
        if c * groups != channels {
            return Err(Error::shape(name, format!("{} input channels", c * groups), channels));
        }
        self.map_behind(name, x, k, geometry)
    }

    /// What a window of this geometry leaves of `x`, with `k` channels.
    fn map_behind(&self, name: &str, x: Value, k: usize, geometry: Geometry) -> Result<Shape> {
        let ([n, h, wide, _], Geometry { r, s, .. }) = (self.seen_shape(x).nhwc(), geometry);
        // Kernels tell the positions of a window by the bits of a word.
        let reach = (s.max(1) - 1) * geometry.dilation;
        if reach + geometry.stride > 60 {
            let have = format!("{} columns at stride {}", reach + 1, geometry.stride);
            return Err(Error::shape(name, "a window and a stride of at most 60 columns together", have));
        }
        let (p, q) = geometry.output(h, wide).ok_or_else(|| {
            Error::shape(name, format!("an image of at least the kernel, {r}x{s}"), format!("{h}x{wide}"))
        })?;
        Ok(Shape::map(n, p, q, k))
    }

    /// `conv(x, w)` written to `y`, which the options of a choice may share.
    pub fn conv_into(&mut self, x: Value, w: TensorId, bias: Option<TensorId>, geometry: Geometry, y: TensorId) {
        let (x, relu) = match x.view {
            View::Relu => (x.tensor, true),
            _ => (self.materialise(x), false),
        };
        self.push(Op::Conv { x, w, bias, y, geometry, relu });
    }

    /// Rectifies.
    pub fn relu(&mut self, x: Value) -> Value {
        match x.view {
            View::Plain => Value { tensor: x.tensor, view: View::Relu },
            View::Relu => x,
            _ => Value { tensor: self.materialise(x), view: View::Relu },
        }
    }

    /// Applies a hard swish; see [`TermKind::HardSwish`].
    pub fn hard_swish(&mut self, x: Value) -> Value {
        let (tensor, coefficients) = match x.view {
            View::Affine { coefficients } => (x.tensor, Some(coefficients)),
            _ => (self.materialise(x), None),
        };
        Value { tensor, view: View::HardSwish { coefficients } }
    }

    /// Multiplies each image and channel by the hard sigmoid of its gate; see [`TermKind::Gated`].
    ///
    /// # Errors
    /// If there is not a gate for each. `name` is for the error.
    pub fn gated_by(&mut self, name: &str, x: Value, gates: TensorId) -> Result<Value> {
        let ([n, _, _, c], have) = (self.seen_shape(x).nhwc(), self.shape(gates));
        if have != Shape::map(n, 1, 1, c) {
            return Err(Error::shape(name, Shape::map(n, 1, 1, c), have));
        }
        Ok(Value { tensor: self.materialise(x), view: View::Gated { gates } })
    }

    /// Multiplies each image by its factor; see [`TermKind::Scaled`].
    pub fn scaled(&mut self, x: Value, factors: TensorId) -> Value {
        Value { tensor: self.materialise(x), view: View::Scaled { factors } }
    }

    /// Averages over windows.
    ///
    /// # Errors
    /// If nothing is left of the image.
    pub fn avg_pool(&mut self, name: &str, x: Value, window: Window) -> Result<Value> {
        let [_, h, w, _] = self.seen_shape(x).nhwc();
        if window.geometry().output(h, w).is_none() || window.padding * 2 > window.kernel {
            return Err(Error::shape(name, format!("an image for a window of {}", window.kernel), format!("{h}x{w}")));
        }
        Ok(Value { tensor: self.materialise(x), view: View::AvgPool(window) })
    }

    /// Maximum over windows.
    ///
    /// # Errors
    /// If nothing is left of the image, or a window could lie wholly in the padding.
    pub fn max_pool(&mut self, name: &str, x: Value, window: Window) -> Result<TensorId> {
        let [n, h, w, c] = self.seen_shape(x).nhwc();
        let (p, q) =
            window.geometry().output(h, w).filter(|_| window.padding * 2 <= window.kernel).ok_or_else(|| {
                Error::shape(name, format!("an image for a window of {}", window.kernel), format!("{h}x{w}"))
            })?;
        let (x, y) = (self.materialise(x), self.temporary(Shape::map(n, p, q, c)));
        self.push(Op::MaxPool { x, y, window });
        Ok(y)
    }

    /// Mean over all positions of each image.
    pub fn global_avg_pool(&mut self, x: Value) -> TensorId {
        let [n, _, _, c] = self.seen_shape(x).nhwc();
        let (x, y) = (self.materialise(x), self.temporary(Shape::map(n, 1, 1, c)));
        self.push(Op::GlobalAvgPool { x, y });
        y
    }

    /// Batch norm of `x`; see [`Op::BatchNorm`].
    pub fn batch_norm(&mut self, x: TensorId, norm: BatchNorm) -> Value {
        let coefficients = self.temporary(Shape::Vectors { rows: 4, c: self.shape(x).channels() });
        let BatchNorm { gamma, beta, running, hyper, epsilon, statistics } = norm;
        self.push(Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon, statistics });
        Value { tensor: x, view: View::Affine { coefficients } }
    }

    /// The term that a value is in a sum.
    pub fn term(&self, value: Value) -> Term {
        let kind = match value.view {
            View::Plain => TermKind::Plain,
            View::Relu => TermKind::Relu,
            View::Affine { coefficients } => TermKind::Affine { coefficients },
            View::AvgPool(window) => TermKind::AvgPool(window),
            View::Scaled { factors } => TermKind::Scaled { factors },
            View::HardSwish { coefficients } => TermKind::HardSwish { coefficients },
            View::Gated { gates } => TermKind::Gated { gates },
        };
        Term { guard: self.guard.unwrap_or(Guard::ALWAYS), a: value.tensor, kind }
    }

    /// `x` on the paths of `guard`, zeros elsewhere.
    pub fn gated(&mut self, x: TensorId, guard: Guard) -> TensorId {
        self.sum(self.shape(x), vec![Term { guard, a: x, kind: TermKind::Plain }])
    }

    /// Sum of terms of one shape; zeros of that shape if there is none.
    pub fn sum(&mut self, shape: Shape, terms: Vec<Term>) -> TensorId {
        let y = self.temporary(shape);
        self.push(Op::Combine { terms, y });
        y
    }

    /// Maps with their channels one after another.
    ///
    /// # Errors
    /// If there is none, or their images differ. `name` is for the error.
    pub fn concatenate(&mut self, name: &str, parts: &[Value]) -> Result<TensorId> {
        let Some(&first) = parts.first() else {
            return Err(Error::shape(name, "maps to put side by side", "none"));
        };
        let [n, h, w, _] = self.seen_shape(first).nhwc();
        let (mut terms, mut c) = (vec![], 0);
        for &part in parts {
            let shape = self.seen_shape(part);
            let channels = shape.channels();
            if shape != Shape::map(n, h, w, channels) {
                return Err(Error::shape(name, self.seen_shape(first), shape));
            }
            let a = self.materialise(part);
            terms.push(Term::new(a, TermKind::Moved { by: [0, 0, -(c as i32)] }));
            c += channels;
        }
        Ok(self.sum(Shape::map(n, h, w, c), terms))
    }

    /// Images without their first `rows` and `columns`, with zeros behind what is left.
    pub fn shifted(&mut self, x: Value, rows: usize, columns: usize) -> TensorId {
        let x = self.materialise(x);
        self.sum(self.shape(x), vec![Term::new(x, TermKind::Moved { by: [rows as i32, columns as i32, 0] })])
    }

    /// The same values in the same order under another shape.
    ///
    /// # Errors
    /// If it has not as many, in memory too. `name` is for the error.
    pub fn reshaped(&mut self, name: &str, tensor: TensorId, shape: Shape) -> Result<TensorId> {
        let have = self.shape(tensor);
        if (have.len(), have.channels(), have.vec4s()) != (shape.len(), shape.channels(), shape.vec4s()) {
            return Err(Error::shape(name, have, shape));
        }
        Ok(self.sum(shape, vec![Term::new(tensor, TermKind::Plain)]))
    }

    /// The first places along each axis: what a smaller layer has of a larger one. All of it is the tensor itself.
    pub fn first(&mut self, whole: TensorId, part: Shape) -> TensorId {
        if self.shape(whole) == part {
            return whole;
        }
        self.sum(part, vec![Term::new(whole, TermKind::Moved { by: [0; 3] })])
    }

    /// A tensor that holds what the view shows.
    pub fn materialise(&mut self, value: Value) -> TensorId {
        if value.view == View::Plain {
            return value.tensor;
        }
        let (shape, term) = (self.seen_shape(value), Term { guard: Guard::ALWAYS, ..self.term(value) });
        self.sum(shape, vec![term])
    }

    /// The dot product of two maps, per image and channel.
    ///
    /// # Errors
    /// If their shapes differ. `name` is for the error.
    pub fn image_dot(&mut self, name: &str, a: TensorId, b: TensorId) -> Result<TensorId> {
        let (shape, other) = (self.shape(a), self.shape(b));
        if shape != other {
            return Err(Error::shape(name, shape, other));
        }
        let [n, _, _, c] = shape.nhwc();
        let y = self.temporary(Shape::map(n, 1, 1, c));
        self.push(Op::ImageDot { a, b, y });
        Ok(y)
    }

    /// Which values are positive, packed; see [`Op::SignCodes`].
    pub fn sign_codes(&mut self, x: TensorId) -> TensorId {
        let [n, h, w, c] = self.shape(x).nhwc();
        let y = self.temporary(Shape::Vectors { rows: n, c: (h * w * blocks(c)).div_ceil(4) });
        self.push(Op::SignCodes { x, y });
        y
    }

    /// Which values are positive after noise, packed; see [`Op::NoisyCodes`].
    pub fn noisy_codes(&mut self, x: TensorId, hyper: TensorId, table: TensorId, stream: u32) -> TensorId {
        let [n, h, w, c] = self.shape(x).nhwc();
        let norm = self.temporary(Shape::vector(1));
        self.push(Op::GlobalNorm { gradients: vec![(Guard::ALWAYS, x, None)], norm });
        let y = self.temporary(Shape::Vectors { rows: n, c: (h * w * blocks(c)).div_ceil(4) });
        self.push(Op::NoisyCodes { x, norm, hyper, table, y, stream });
        y
    }

    /// Softmax cross-entropy; with `tally` it is added to the metrics; with `gradient` the gradient of the mean loss is
    /// there for [`Builder::backward`].
    ///
    /// # Errors
    /// If the metrics are already there with another shape.
    pub fn cross_entropy(
        &mut self,
        logits: TensorId,
        labels: TensorId,
        smoothing: f32,
        gradient: bool,
        tally: bool,
    ) -> Result<Loss> {
        self.cross_entropy_of(logits, labels, Compared { smoothing, ..Compared::default() }, gradient, tally)
    }

    /// The same with more to say of what is compared; see [`Op::CrossEntropy`].
    ///
    /// # Errors
    /// As [`Builder::cross_entropy`].
    pub fn cross_entropy_of(
        &mut self,
        logits: TensorId,
        labels: TensorId,
        compared: Compared,
        gradient: bool,
        tally: bool,
    ) -> Result<Loss> {
        let Compared { scale, teacher, smoothing } = compared;
        if let Some(other) = teacher.map(|teacher| self.shape(teacher)).filter(|other| *other != self.shape(logits)) {
            return Err(Error::shape("a teacher's logits", self.shape(logits), other));
        }
        let [n, ..] = self.shape(logits).nhwc();
        let loss = self.temporary(Shape::map(n, 1, 1, 2));
        let mean = self.temporary(Shape::vector(2));
        let dlogits = gradient.then(|| self.temporary(self.shape(logits)));
        self.push(Op::CrossEntropy { logits, labels, scale, teacher, loss, dlogits, smoothing });
        if tally {
            let zero = Init::Constant(0.0);
            let metrics = self.persistent(Role::Metrics, "metrics", Shape::vector(4), zero, &[4])?;
            self.push(Op::Tally { loss, metrics, mean });
        }
        Ok(Loss { mean, per_image: loss, dlogits })
    }

    fn add(&mut self, tensor: Tensor) -> TensorId {
        self.graph.tensors.push(tensor);
        TensorId((self.graph.tensors.len() - 1) as u32)
    }
}

/// What a batch norm is made of; see [`Op::BatchNorm`].
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// Scale per channel, or none for 1. This and the others may have more channels, of which the first are used and moved.
    pub gamma: Option<TensorId>,
    /// Shift per channel, or none for 0.
    pub beta: Option<TensorId>,
    /// Running mean and variance.
    pub running: Option<(TensorId, TensorId)>,
    /// Holds the momentum of the running statistics.
    pub hyper: Option<TensorId>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Which statistics normalise.
    pub statistics: Statistics,
}

/// What a cross-entropy compares besides logits and labels; see [`Op::CrossEntropy`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compared {
    /// A factor of the logits.
    pub scale: Option<TensorId>,
    /// Logits of another network, whose softmax is what is compared with, in place of labels.
    pub teacher: Option<TensorId>,
    /// Label smoothing.
    pub smoothing: f32,
}

/// What [`Builder::cross_entropy`] leaves.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Mean loss and accuracy of the batch.
    pub mean: TensorId,
    /// Loss and hit of each image.
    pub per_image: TensorId,
    /// Gradient of the mean loss with respect to the logits.
    pub dlogits: Option<TensorId>,
}
