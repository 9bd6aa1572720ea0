//! The intermediate representation: tensors, operations, guards.
//!
//! A [`Graph`] is a list of operations in an order in which they may run. Everything is there on purpose:
//! backward passes and optimiser steps are operations like any other, so one planner serves them all.
//!
//! *Shapes.* Activations are channel-last (`N, H, W, C`), filters `R, S, C, K` (kernel row, kernel column, input
//! channels of a group, output channels). In memory the last axis is padded with zeros to a multiple of four, and so
//! are the input channels of an ungrouped filter, so that every access is a whole `vec4<f32>`.
//!
//! *Guards.* A supernet offers several operations per edge. Each such choice has a number, and what belongs to one
//! option carries a [`Guard`]: it runs only if the path of its instance takes that option. Options of one choice may
//! write the same tensor, because at most one of them runs. A graph may have several paths through one supernet, each with choices
//! of its own: what belongs to weights that they share then runs if any of them takes the option.

use super::custom::Custom;
use super::term::Term;

/// Number of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// The shape of a tensor, which also says how it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Images or feature maps: `n` images of `h` x `w` positions with `c` channels.
    Map {
        /// Images in the batch.
        n: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
        /// Channels.
        c: usize,
    },
    /// A convolution's weights: kernel `r` x `s`, `c` input channels per group, `k` output channels.
    Filter {
        /// Kernel rows.
        r: usize,
        /// Kernel columns.
        s: usize,
        /// Input channels of one group.
        c: usize,
        /// Output channels.
        k: usize,
        /// Number of groups; with more than one, `c` is not padded.
        groups: usize,
    },
    /// `rows` vectors of `c` channels each (batch-norm coefficients, biases, scalars).
    Vectors {
        /// Vectors.
        rows: usize,
        /// Channels.
        c: usize,
    },
}

/// Channels counted in groups of four.
pub const fn blocks(channels: usize) -> usize {
    channels.div_ceil(4)
}

impl Shape {
    /// A map.
    pub const fn map(n: usize, h: usize, w: usize, c: usize) -> Self {
        Shape::Map { n, h, w, c }
    }

    /// One vector of `c` values.
    pub const fn vector(c: usize) -> Self {
        Shape::Vectors { rows: 1, c }
    }

    /// Input channels per group as stored.
    pub const fn stored_inputs(c: usize, groups: usize) -> usize {
        if groups == 1 { blocks(c) * 4 } else { c }
    }

    /// Length in memory, in units of `vec4<f32>` (16 bytes).
    pub const fn vec4s(&self) -> usize {
        match *self {
            Shape::Map { n, h, w, c } => n * h * w * blocks(c),
            Shape::Filter { r, s, c, k, groups } => r * s * Self::stored_inputs(c, groups) * blocks(k),
            Shape::Vectors { rows, c } => rows * blocks(c),
        }
    }

    /// Number of values without padding.
    pub const fn len(&self) -> usize {
        match *self {
            Shape::Map { n, h, w, c } => n * h * w * c,
            Shape::Filter { r, s, c, k, .. } => r * s * c * k,
            Shape::Vectors { rows, c } => rows * c,
        }
    }

    /// Whether there is no value at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels: the padded axis.
    pub const fn channels(&self) -> usize {
        match *self {
            Shape::Map { c, .. } | Shape::Vectors { c, .. } => c,
            Shape::Filter { k, .. } => k,
        }
    }

    /// `n, h, w, c` of a map; vectors count as `rows` images of one position.
    pub const fn nhwc(&self) -> [usize; 4] {
        match *self {
            Shape::Map { n, h, w, c } => [n, h, w, c],
            Shape::Vectors { rows, c } => [rows, 1, 1, c],
            Shape::Filter { r, s, c, k, groups } => [r, s, Self::stored_inputs(c, groups), k],
        }
    }

    /// Indices into memory (in values) of the values in row-major order of the logical axes.
    pub fn storage_indices(&self) -> impl Iterator<Item = usize> {
        let (outer, inner, stored_inner, last) = match *self {
            Shape::Map { n, h, w, c } => (n * h * w, 1, 1, c),
            Shape::Vectors { rows, c } => (rows, 1, 1, c),
            Shape::Filter { r, s, c, k, groups } => (r * s, c, Self::stored_inputs(c, groups), k),
        };
        let stride = blocks(last) * 4;
        (0..outer).flat_map(move |o| {
            (0..inner).flat_map(move |i| (0..last).map(move |k| (o * stored_inner + i) * stride + k))
        })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Shape::Map { n, h, w, c } => write!(f, "{n} images of {h}x{w} with {c} channels"),
            Shape::Filter { r, s, c, k, groups } => write!(f, "filter {r}x{s}, {c} to {k} channels, {groups} groups"),
            Shape::Vectors { rows, c } => write!(f, "{rows} x {c} values"),
        }
    }
}

/// Where a tensor outlives the plan: its values are in a store that the caller binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Weights, biases, batch-norm scales and shifts.
    Weights,
    /// The unperturbed weights that noise is added to.
    Source,
    /// Running means and variances.
    Running,
    /// Momentum buffers, one per weight tensor.
    Momentum,
    /// Images and labels of the current batch.
    Batch,
    /// What the host writes between steps, and nobody else: learning rate and its like, an attack's settings, which images a
    /// batch is made of. Lies in memory of the host's own.
    Hyper,
    /// Sums of losses and counts, read back now and then.
    Metrics,
    /// Images of the data set (packed bytes).
    Data,
    /// What an attack keeps between its steps.
    Attack,
}

/// How a fresh weight tensor is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `-b..b`, `b = 1 / sqrt(fan_in)`: PyTorch's default for convolutions, linear layers and their biases.
    Uniform {
        /// Inputs that one output sums.
        fan_in: usize,
    },
    /// Normal with deviation `sqrt(2 / fan_out)`.
    KaimingNormal {
        /// Outputs times kernel area.
        fan_out: usize,
    },
    /// One value everywhere.
    Constant(f32),
    /// The unit matrix.
    Identity,
}

/// A tensor that outlives the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Persistent {
    /// The store that it lives in.
    pub role: Role,
    /// Its name there: for weights and running statistics the official one.
    pub name: String,
    /// Its first value.
    pub init: Init,
    /// The axes as PyTorch has them (`OIHW`, or fewer).
    pub dims: Vec<usize>,
}

/// One tensor of a graph.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Shape and memory layout.
    pub shape: Shape,
    /// Set if it outlives the plan; otherwise the planner finds memory for it.
    pub persistent: Option<Persistent>,
    /// Set if its values are wanted after the run: its memory is then not used again.
    pub probe: Option<String>,
}

/// When something runs: always, or only if a choice, or any of several, took one of some options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    /// Number of the choice; [`Guard::ALWAYS`] has none.
    pub choice: u16,
    /// Bit `i` is set if option `i` runs this.
    pub options: u32,
    /// How many choices more there are of which any will do.
    others: u16,
    /// How far each of these stands behind the one before.
    stride: u16,
}

impl Guard {
    /// Runs on every path.
    pub const ALWAYS: Guard = Guard::new(u16::MAX, u32::MAX);

    /// Runs if `choice` took one of the options in the bit set.
    pub const fn new(choice: u16, options: u32) -> Self {
        Guard { choice, options, others: 0, stride: 0 }
    }

    /// Runs if any of `paths` paths would run this, of which each has `stride` choices, and the first this guard's.
    pub fn of_any(self, paths: usize, stride: usize) -> Self {
        match self == Guard::ALWAYS || paths <= 1 {
            true => self,
            false => Guard { others: paths.saturating_sub(1) as u16, stride: stride as u16, ..self },
        }
    }

    /// Runs wherever this or the other one does, and where more choices than one guard can name decide that, always.
    pub fn or(self, other: Guard) -> Self {
        let options = self.options | other.options;
        if self == (Guard { options: self.options, ..other }) { Guard { options, ..self } } else { Guard::ALWAYS }
    }

    /// Whether no path runs both.
    pub fn excludes(&self, other: &Guard) -> bool {
        self.choice == other.choice && self.others == 0 && other.others == 0 && self.options & other.options == 0
    }

    /// Whether this runs on `path`, the option taken by each choice.
    pub fn active(&self, path: &[u8]) -> bool {
        let takes = |choice: usize| path.get(choice).is_none_or(|&option| self.options >> option & 1 == 1);
        (0..=usize::from(self.others)).any(|i| takes(usize::from(self.choice) + i * usize::from(self.stride)))
    }
}

/// Kernel, stride, padding, dilation and groups of a convolution (equal in both directions but for the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Kernel rows.
    pub r: usize,
    /// Kernel columns.
    pub s: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Step between kernel taps.
    pub dilation: usize,
    /// Channel groups.
    pub groups: usize,
}

impl Geometry {
    /// A square kernel.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Geometry { r: kernel, s: kernel, stride, padding, dilation: 1, groups: 1 }
    }

    /// Output rows and columns; `None` if nothing is left.
    pub fn output(&self, h: usize, w: usize) -> Option<(usize, usize)> {
        let side = |input: usize, kernel: usize| {
            let reach = self.dilation * (kernel - 1) + 1;
            (input + 2 * self.padding).checked_sub(reach).map(|room| room / self.stride + 1)
        };
        Some((side(h, self.r)?, side(w, self.s)?))
    }
}

/// A pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Side of the window.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Positions added on each side.
    pub padding: usize,
    /// Whether padded positions count in an average's divisor.
    pub count_include_pad: bool,
}

impl Window {
    /// The same window as a convolution's geometry.
    pub const fn geometry(&self) -> Geometry {
        Geometry::square(self.kernel, self.stride, self.padding)
    }
}

/// Which statistics a batch norm uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// The batch's own; running ones are updated if `update`.
    Batch {
        /// Whether running statistics move.
        update: bool,
    },
    /// The running ones.
    Running,
}

/// How weights are disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noise {
    /// `w + sigma z`
    Additive,
    /// `w + sigma w z`
    Multiplicative,
}

/// An operation. Field names say what is read; outputs are named `y`, `d..` or said to be written.
#[allow(missing_docs, reason = "each variant's formula names its fields")]
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `y = conv(x, w) + bias`, with `max(x, 0)` in place of `x` if `relu`. Cross-correlation, as everywhere. `w` and `bias` may be those of more
    /// channels than `x` and `y` have (in multiples of four): the first ones are used, where they are.
    Conv { x: TensorId, w: TensorId, bias: Option<TensorId>, y: TensorId, geometry: Geometry, relu: bool },
    /// Gradient of a convolution with respect to its input (before the rectifier). Of a larger `w` the first channels are used.
    ConvInput { dy: TensorId, w: TensorId, dx: TensorId, geometry: Geometry },
    /// Gradient of a convolution with respect to its weights.
    ConvFilter { x: TensorId, dy: TensorId, dw: TensorId, geometry: Geometry, relu: bool },
    /// `y[c] = sum over n, h, w of x`: the gradient of a bias.
    ChannelSum { x: TensorId, y: TensorId },
    /// Writes `coefficients` (`scale, beta, mean, 1/deviation` per channel) from the batch's or the running
    /// statistics. Vectors may be those of more channels than `x` has: the first ones are used and moved. `running` is mean and variance; they move by [`hyper::STATISTICS_MOMENTUM`](super::hyper::STATISTICS_MOMENTUM), the variance towards
    /// the unbiased one, while the normalisation uses the biased one.
    BatchNorm {
        x: TensorId,
        gamma: Option<TensorId>,
        beta: Option<TensorId>,
        running: Option<(TensorId, TensorId)>,
        hyper: Option<TensorId>,
        coefficients: TensorId,
        epsilon: f32,
        statistics: Statistics,
    },
    /// Writes the coefficients of [`TermKind::AffineGrad`](super::TermKind::AffineGrad), and the gradients of scale and shift.
    BatchNormGrad {
        dy: TensorId,
        x: TensorId,
        coefficients: TensorId,
        dgamma: Option<TensorId>,
        dbeta: Option<TensorId>,
        grad_coefficients: TensorId,
        statistics: Statistics,
    },
    /// Gradient of `sum of v * dx` with respect to `x`, where `dx` is the gradient that [`Op::BatchNormGrad`] prepared of
    /// `dy`: writes the coefficients of two [`TermKind::AffineGrad`](super::TermKind::AffineGrad)s, of `v` (`by_v`) and of `dy` (`by_dy`), that add up to
    /// it. `first` and `second` are what [`Op::BatchNormGrad`] wrote for `dy` and for `v`, `dot` is the sum over `n, h, w` of
    /// `v * dy`; of `x` only the shape counts. The norm used the batch's statistics.
    BatchNormDoubleGrad {
        x: TensorId,
        coefficients: TensorId,
        first: TensorId,
        second: TensorId,
        dot: TensorId,
        by_v: TensorId,
        by_dy: TensorId,
    },
    /// `y = sum of terms`, in their order; zero if there is none.
    Combine { terms: Vec<Term>, y: TensorId },
    /// Maximum over a window; padding never wins.
    MaxPool { x: TensorId, y: TensorId, window: Window },
    /// Gradient of [`Op::MaxPool`]: to the first maximum of each window, in row-major order.
    MaxPoolGrad { x: TensorId, dy: TensorId, dx: TensorId, window: Window },
    /// Of each window the value of `v` where `x` has its first maximum: gradient of [`Op::MaxPoolGrad`] with respect to `dy`.
    MaxPoolPick { x: TensorId, v: TensorId, y: TensorId, window: Window },
    /// `y[n, c] = mean over h, w of x`
    GlobalAvgPool { x: TensorId, y: TensorId },
    /// `y[n, c] = sum over h, w of a * b`
    ImageDot { a: TensorId, b: TensorId, y: TensorId },
    /// Which values are positive, as whole numbers of 16 bits: bit `4 q + l` of word `k` of image `n` is set if component
    /// `l` of the image's `vec4` number `4 k + q` is above zero. Padding is not.
    SignCodes { x: TensorId, y: TensorId },
    /// The same of `x + sigma r z`: `r` is the root mean square of `x`, by its [`Op::GlobalNorm`]; `z` is drawn as by [`Op::Perturb`], `sigma` is that of `hyper`.
    NoisyCodes { x: TensorId, norm: TensorId, hyper: TensorId, table: TensorId, y: TensorId, stream: u32 },
    /// Softmax cross-entropy per image: `labels` holds class numbers (one channel), `loss` (two channels) has `loss, 1 if the top class is right` per image; `dlogits` is the
    /// gradient of the mean loss. An image whose label is no class counts nothing. Label smoothing `a`: target `1 - a + a/C` for the label and `a/C` elsewhere.
    /// With `scale` (one value) it is that of `scale * logits`, and so is the gradient: for logits that were brought into the range of `f32`, with a scale that may leave it.
    /// With `teacher` (logits of the same shape, to which nothing flows back) the target is its softmax (Hinton et al. 2015, at temperature 1) in place of the label's.
    CrossEntropy {
        logits: TensorId,
        labels: TensorId,
        scale: Option<TensorId>,
        teacher: Option<TensorId>,
        loss: TensorId,
        dlogits: Option<TensorId>,
        smoothing: f32,
    },
    /// The mean cross-entropy's Hessian with respect to the logits times `v`: `y = s * (v - sum over c of s v) / N`, `s` the
    /// softmax; zero for an image whose label is no class. Smoothing does not change it.
    CrossEntropyHessian { logits: TensorId, labels: TensorId, v: TensorId, y: TensorId },
    /// Adds the sums over images of `loss` to `metrics`: `sum of losses, right answers, images, batches that were not
    /// finite`; `mean` (written) has this batch's mean loss and accuracy.
    Tally { loss: TensorId, metrics: TensorId, mean: TensorId },
    /// Writes `norm`: `|g|` over all listed gradients, or `| |w| g |` where the weights stand beside them.
    GlobalNorm { gradients: Vec<(Guard, TensorId, Option<TensorId>)>, norm: TensorId },
    /// SAM's ascent (Foret et al. 2021, eq. 2): `y = w + rho g / |g|`; adaptive (Kwon et al. 2021, eq. 9, element-wise)
    /// `y = w + rho w^2 g / | |w| g |`.
    Ascend { w: TensorId, g: TensorId, norm: TensorId, hyper: TensorId, y: TensorId, adaptive: bool },
    /// One step of SGD in PyTorch's order: `g += decay w; m = momentum m + g; w -= lr m` (Nesterov: `lr (g + momentum
    /// m)`); the gradient is first scaled by `min(1, clip / norm)` if a norm is given.
    Sgd { w: TensorId, g: TensorId, m: TensorId, norm: Option<TensorId>, hyper: TensorId, nesterov: bool },
    /// Disturbs weights by normal numbers `z`: Philox 4x32-10 with key (seed low, seed high) and counter (index of the
    /// `vec4`, `stream`, draw, [`NOISE_PURPOSE`](super::NOISE_PURPOSE)) gives four words, and [`normal`](crate::philox::normal()) a number of each. `table`
    /// holds the bits of [`NORMAL_TABLE`](crate::philox::NORMAL_TABLE). Padding stays zero.
    Perturb { w: TensorId, y: TensorId, hyper: TensorId, table: TensorId, stream: u32, noise: Noise },
    /// Drop path (Larsson et al. 2017): writes `factors`, one for each image (`n` maps of one value): 0 for those that the path is dropped for, else
    /// [`hyper::DROP_SCALE`](super::hyper::DROP_SCALE). An image is dropped if its first word of Philox 4x32-10, with key (seed low, seed high) and counter
    /// (number of the image, `path`, draw, [`DROP_PURPOSE`](super::DROP_PURPOSE)), is below [`hyper::DROP_BELOW`](super::hyper::DROP_BELOW).
    DropPath { hyper: TensorId, factors: TensorId, path: u32 },
    /// Start of an attack in the L-infinity ball around `x`, at `x` or at a random point of it: writes `adv`, and a clean
    /// record of each image (`state`, eight values: worst loss, whether right at every point so far, loss before, rises;
    /// scale of the step, whether reduced, worst loss at the last check, flags). `settings` are those of [`attack`](super::attack).
    AttackStart { x: TensorId, settings: TensorId, adv: TensorId, state: TensorId },
    /// Enters the losses at `adv` into `state`; decides for APGD (Croce and Hein 2020, section 3) whether to halve the step
    /// and to go back to the best point.
    AttackJudge { loss: TensorId, settings: TensorId, state: TensorId },
    /// Moves `adv` by a step of PGD along the gradient `g`, or with `memory` (three maps: best point, its gradient, point
    /// before) by one of APGD.
    AttackStep {
        x: TensorId,
        adv: TensorId,
        g: TensorId,
        settings: TensorId,
        state: TensorId,
        memory: Option<TensorId>,
    },
    /// An operation of the caller's.
    Custom(Custom),
    /// Crops, flips, averages down and normalises images of the data set into a batch; with `taps` in place of averaging it takes
    /// them from pictures of the batch's size ([`resize`](crate::data::resize)).
    Gather {
        data: TensorId,
        batch: TensorId,
        taps: Option<TensorId>,
        statistics: TensorId,
        x: TensorId,
        labels: TensorId,
        source: [usize; 3],
    },
}

/// An operation and when it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// On which paths.
    pub guard: Guard,
}

/// Tensors and operations, in an order in which they may run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// All operations.
    pub nodes: Vec<Node>,
    /// Number of options of each choice.
    pub choices: Vec<u8>,
    /// Temporaries that lie side by side in memory; see [`Builder::side_by_side`](super::Builder::side_by_side).
    pub strips: Vec<Vec<TensorId>>,
}

impl Graph {
    /// The tensor with this number.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    /// The shape of the tensor with this number.
    pub fn shape(&self, id: TensorId) -> Shape {
        self.tensor(id).shape
    }

    /// Numbers of all tensors.
    pub fn ids(&self) -> impl Iterator<Item = TensorId> + use<> {
        (0..self.tensors.len() as u32).map(TensorId)
    }

    /// Persistent tensors of one role, in order.
    pub fn persistent(&self, role: Role) -> impl Iterator<Item = (TensorId, &Persistent)> {
        self.ids().filter_map(move |id| match &self.tensor(id).persistent {
            Some(info) if info.role == role => Some((id, info)),
            _ => None,
        })
    }

    /// The tensor that carries this probe.
    pub fn probe(&self, name: &str) -> Option<TensorId> {
        self.ids().find(|&id| self.tensor(id).probe.as_deref() == Some(name))
    }
}

impl Op {
    /// Tensors that are read, the guarded ones with their guard, and tensors that are written.
    pub fn operands(&self) -> (Vec<TensorId>, Vec<TensorId>) {
        let some = |list: &[Option<TensorId>]| list.iter().flatten().copied().collect::<Vec<_>>();
        match self {
            Op::Conv { x, w, bias, y, .. } => (some(&[Some(*x), Some(*w), *bias]), vec![*y]),
            Op::ConvInput { dy, w, dx, .. } => (vec![*dy, *w], vec![*dx]),
            Op::ConvFilter { x, dy, dw, .. } => (vec![*x, *dy], vec![*dw]),
            Op::ChannelSum { x, y }
            | Op::GlobalAvgPool { x, y }
            | Op::SignCodes { x, y }
            | Op::MaxPool { x, y, .. } => (vec![*x], vec![*y]),
            Op::ImageDot { a, b, y } => (vec![*a, *b], vec![*y]),
            Op::NoisyCodes { x, norm, hyper, table, y, .. } => (vec![*x, *norm, *hyper, *table], vec![*y]),
            Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, statistics, .. } => {
                let (mean, var) = (running.map(|r| r.0), running.map(|r| r.1));
                let mut writes = vec![*coefficients];
                if let Statistics::Batch { update: true } = statistics {
                    writes.extend(some(&[mean, var]));
                }
                let x = (*statistics != Statistics::Running).then_some(*x);
                (some(&[x, *gamma, *beta, mean, var, *hyper]), writes)
            }
            Op::BatchNormGrad { dy, x, coefficients, dgamma, dbeta, grad_coefficients, .. } => {
                (vec![*dy, *x, *coefficients], some(&[*dgamma, *dbeta, Some(*grad_coefficients)]))
            }
            Op::BatchNormDoubleGrad { x: _, coefficients, first, second, dot, by_v, by_dy } => {
                (vec![*coefficients, *first, *second, *dot], vec![*by_v, *by_dy])
            }
            Op::Combine { terms, y } => (terms.iter().flat_map(|t| t.reads()).collect(), vec![*y]),
            Op::MaxPoolGrad { x, dy, dx, .. } => (vec![*x, *dy], vec![*dx]),
            Op::MaxPoolPick { x, v, y, .. } => (vec![*x, *v], vec![*y]),
            Op::CrossEntropy { logits, labels, scale, teacher, loss, dlogits, .. } => {
                (some(&[Some(*logits), Some(*labels), *scale, *teacher]), some(&[Some(*loss), *dlogits]))
            }
            Op::CrossEntropyHessian { logits, labels, v, y } => (vec![*logits, *labels, *v], vec![*y]),
            Op::Tally { loss, metrics, mean } => (vec![*loss, *metrics], vec![*metrics, *mean]),
            Op::GlobalNorm { gradients, norm } => {
                (gradients.iter().flat_map(|(_, g, w)| some(&[Some(*g), *w])).collect(), vec![*norm])
            }
            Op::Ascend { w, g, norm, hyper, y, .. } => (vec![*w, *g, *norm, *hyper], vec![*y]),
            Op::Sgd { w, g, m, norm, hyper, .. } => {
                (some(&[Some(*w), Some(*g), Some(*m), *norm, Some(*hyper)]), vec![*w, *m])
            }
            Op::Perturb { w, y, hyper, table, .. } => (vec![*w, *hyper, *table], vec![*y]),
            Op::DropPath { hyper, factors, .. } => (vec![*hyper], vec![*factors]),
            Op::AttackStart { x, settings, adv, state } => (vec![*x, *settings], vec![*adv, *state]),
            Op::AttackJudge { loss, settings, state } => (vec![*loss, *settings, *state], vec![*state]),
            Op::AttackStep { x, adv, g, settings, state, memory } => (
                some(&[Some(*x), Some(*adv), Some(*g), Some(*settings), Some(*state), *memory]),
                some(&[Some(*adv), *memory]),
            ),
            Op::Custom(custom) => (custom.inputs.clone(), custom.outputs.clone()),
            Op::Gather { data, batch, taps, statistics, x, labels, .. } => {
                let reads = [Some(*data), Some(*batch), *taps, Some(*statistics)];
                (reads.into_iter().flatten().collect(), vec![*x, *labels])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_of_one_path_and_of_several() {
        let (one, other) = (Guard::new(1, 0b0110), Guard::new(1, 0b1000));
        assert!(one.active(&[0, 2, 0]) && !one.active(&[2, 3, 2]) && Guard::ALWAYS.active(&[]));
        assert!(one.excludes(&other) && !one.excludes(&Guard::new(2, 0b1000)) && !one.excludes(&Guard::new(1, 0b0010)));
        assert_eq!((one.or(other), one.or(Guard::new(2, 1))), (Guard::new(1, 0b1110), Guard::ALWAYS));
        // Two paths of three choices: the second's choice 1 is number 4.
        let (both, others) = (one.of_any(2, 3), other.of_any(2, 3));
        for (path, runs) in [([0, 1, 0, 0, 3, 0], true), ([0, 3, 0, 0, 2, 0], true), ([1, 3, 1, 1, 0, 1], false)] {
            assert_eq!(both.active(&path), runs, "{path:?}");
        }
        // Either may be taken by another path.
        assert!(!both.excludes(&others) && !both.excludes(&other) && !other.excludes(&both));
        assert_eq!((both.or(others), both.or(one)), (one.or(other).of_any(2, 3), Guard::ALWAYS));
        assert_eq!((one.of_any(1, 3), Guard::ALWAYS.of_any(5, 3)), (one, Guard::ALWAYS));
    }
}
