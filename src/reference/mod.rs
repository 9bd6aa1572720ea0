//! The reference interpreter: every operation of the graph in `f64`, straight from its definition.
//!
//! It exists to test the GPU kernels against, so it shares nothing with them: it has its own index arithmetic and
//! knows neither padding nor tiles. It is written to be read, not to be fast.
//!
//! *Values.* A tensor is a `Vec<f64>` of its logical values in row-major order: maps `n, h, w, c`, filters
//! `r, s, c, k`, vectors `rows, c`. With axes `(A, B, C, D)` the value at `(a, b, c, d)` has the index
//! `((a B + b) C + c) D + d`. Hyper words are `f64` too: rates as they are, seed words as non-negative integers.
//!
//! *Families.* `conv`: convolutions and their gradients; `norm`: batch normalisation; `combine`: sums of terms;
//! `pool`: windows and global averages; `loss`: cross-entropy and its sums; `probe`: what measures look at; `optimiser`: norms, SAM, SGD, noise,
//! dropped paths.

mod attack;
mod combine;
mod conv;
mod loss;
mod norm;
mod optimiser;
mod philox;
mod pool;
mod probe;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_gradients;

use crate::error::{Error, Result};
use crate::graph::{Graph, Noise, Op, Shape, Statistics, TensorId, hyper};

/// The values of all tensors of one graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    values: Vec<Vec<f64>>,
}

impl Memory {
    /// Zeros for every tensor of `graph`.
    pub fn new(graph: &Graph) -> Self {
        Memory { values: graph.tensors.iter().map(|tensor| vec![0.0; tensor.shape.len()]).collect() }
    }

    /// The logical values of a tensor in row-major order; none for a tensor that the graph does not have.
    pub fn get(&self, id: TensorId) -> &[f64] {
        self.values.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Replaces the values of a tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the graph has no such tensor, [`Error::Shape`] if the number of values is not the
    /// tensor's.
    pub fn set(&mut self, id: TensorId, values: Vec<f64>) -> Result<()> {
        let Some(place) = self.values.get_mut(id.0 as usize) else {
            return Err(Error::invalid(format!("tensor {}", id.0), "the graph has no tensor of this number"));
        };
        if place.len() != values.len() {
            let expected = format!("{} values", place.len());
            return Err(Error::shape(format!("tensor {}", id.0), expected, values.len()));
        }
        *place = values;
        Ok(())
    }
}

/// Runs all operations of `graph` in order, without those that `path` (the option taken by each choice) excludes.
///
/// # Errors
///
/// [`Error::Shape`] if the tensors of an operation do not fit together; [`Error::Invalid`] if an operation names a
/// tensor that does not exist, lacks an operand that it needs or cannot be interpreted ([`Op::Gather`]), and if
/// `path` or `memory` does not belong to the graph.
pub fn run(graph: &Graph, path: &[u8], memory: &mut Memory) -> Result<()> {
    if let Some(option) = path.iter().find(|&&option| option >= 32) {
        return Err(Error::invalid("path", format!("option {option} is not below 32")));
    }
    let sizes = graph.tensors.iter().map(|tensor| tensor.shape.len());
    if !sizes.eq(memory.values.iter().map(Vec::len)) {
        return Err(Error::invalid("memory", "its tensors are not the graph's; make it with `Memory::new`"));
    }
    for node in graph.nodes.iter().filter(|node| node.guard.active(path)) {
        let (reads, writes) = node.op.operands();
        if let Some(id) = reads.iter().chain(&writes).find(|id| id.0 as usize >= graph.tensors.len()) {
            return Err(Error::invalid(format!("tensor {}", id.0), "the graph has no tensor of this number"));
        }
        let written = evaluate(&Context { graph, path, memory }, &node.op)?;
        for (id, values) in written {
            memory.set(id, values)?;
        }
    }
    Ok(())
}

/// What an operation may look at.
struct Context<'a> {
    graph: &'a Graph,
    path: &'a [u8],
    memory: &'a Memory,
}

/// The values of one tensor and its four logical axes; the last one is the channels.
#[derive(Clone, Copy)]
struct View<'a> {
    axes: [usize; 4],
    values: &'a [f64],
}

impl View<'_> {
    /// The first channels of a vector.
    fn first(mut self, channels: usize) -> Self {
        self.values = &self.values[..channels.min(self.values.len())];
        self.axes[3] = self.values.len();
        self
    }
}

/// What an operation has written.
type Writes = Vec<(TensorId, Vec<f64>)>;

impl<'a> Context<'a> {
    /// Logical axes of a tensor: `n, h, w, c` or `r, s, c, k`; vectors are images of one position.
    fn axes(&self, id: TensorId) -> [usize; 4] {
        match self.graph.shape(id) {
            Shape::Map { n, h, w, c } => [n, h, w, c],
            Shape::Filter { r, s, c, k, .. } => [r, s, c, k],
            Shape::Vectors { rows, c } => [rows, 1, 1, c],
        }
    }

    fn view(&self, id: TensorId) -> View<'a> {
        View { axes: self.axes(id), values: self.memory.get(id) }
    }

    /// One of the host's numbers.
    fn word(&self, tensor: TensorId, index: usize) -> Result<f64> {
        let word = self.memory.get(tensor).get(index).copied();
        word.ok_or_else(|| Error::shape("hyper", hyper::SHAPE, self.graph.shape(tensor)))
    }

    /// One of the host's numbers that is a 32-bit integer.
    fn integer(&self, tensor: TensorId, index: usize) -> Result<u32> {
        Ok(self.word(tensor, index)? as u32)
    }

    /// Where the random numbers of a stream come from.
    fn source(&self, hyper: TensorId, stream: u32) -> Result<optimiser::NoiseSource> {
        let key = [self.integer(hyper, hyper::SEED_LOW)?, self.integer(hyper, hyper::SEED_HIGH)?];
        Ok(optimiser::NoiseSource { key, stream, draw: self.integer(hyper, hyper::DRAW)? })
    }
}

/// Fails unless two extents agree.
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, got: T) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::shape(what, format!("{expected:?}"), format!("{got:?}")))
}

/// Index of `(a, b, c, d)` in row-major order.
fn index(axes: [usize; 4], at: [usize; 4]) -> usize {
    ((at[0] * axes[1] + at[1]) * axes[2] + at[2]) * axes[3] + at[3]
}

/// Outputs along one axis: `floor((input + 2 padding - dilation (kernel - 1) - 1) / stride) + 1`.
fn outputs(what: &str, input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Result<usize> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err(Error::invalid(what, "kernel, stride and dilation must be at least 1"));
    }
    let reach = dilation * (kernel - 1) + 1;
    let Some(room) = (input + 2 * padding).checked_sub(reach) else {
        return Err(Error::shape(what, format!("at least {reach} padded positions"), input + 2 * padding));
    };
    Ok(room / stride + 1)
}

/// The position `start + step - padding` if it is one of the `side` positions of the input.
fn inside(start: usize, step: usize, padding: usize, side: usize) -> Option<usize> {
    (start + step).checked_sub(padding).filter(|&position| position < side)
}

/// What `op` writes.
fn evaluate(cx: &Context<'_>, op: &Op) -> Result<Writes> {
    let view = |id: &TensorId| cx.view(*id);
    let one = |id: &TensorId, values: Vec<f64>| Ok(vec![(*id, values)]);
    match op {
        Op::Conv { x, w, bias, y, geometry, relu } => {
            let own = conv::part(view(w), geometry, cx.axes(*x)[3], cx.axes(*y)[3])?;
            let bias = bias.as_ref().map(|bias| view(bias).first(cx.axes(*y)[3]));
            one(y, conv::conv(view(x), own.view(), bias, cx.axes(*y), geometry, *relu)?)
        }
        Op::ConvInput { dy, w, dx, geometry } => {
            let own = conv::part(view(w), geometry, cx.axes(*dx)[3], cx.axes(*dy)[3])?;
            one(dx, conv::conv_input(view(dy), own.view(), cx.axes(*dx), geometry)?)
        }
        Op::ConvFilter { x, dy, dw, geometry, relu } => {
            one(dw, conv::conv_filter(view(x), view(dy), cx.axes(*dw), geometry, *relu)?)
        }
        Op::ChannelSum { x, y } => one(y, conv::channel_sum(view(x))),
        Op::BatchNorm { x, gamma, beta, running, hyper, coefficients, epsilon, statistics } => {
            // Vectors may be those of more channels, of which these are the first.
            let channels = cx.axes(*coefficients)[3];
            let norm = norm::BatchNorm {
                gamma: gamma.as_ref().map(|gamma| view(gamma).first(channels)),
                beta: beta.as_ref().map(|beta| view(beta).first(channels)),
                running: running
                    .map(|(mean, variance)| (cx.view(mean).first(channels), cx.view(variance).first(channels))),
                epsilon: f64::from(*epsilon),
            };
            let mut writes = Vec::new();
            let rows = match *statistics {
                Statistics::Running => norm.of_running()?,
                Statistics::Batch { update } => {
                    if let (true, Some((mean, variance))) = (update, running) {
                        let Some(hyper) = hyper else {
                            return Err(Error::invalid("batch norm", "moving the running statistics needs `hyper`"));
                        };
                        let moved = norm.moved(view(x), cx.word(*hyper, hyper::STATISTICS_MOMENTUM)?)?;
                        for (id, mut first) in [(*mean, moved.0), (*variance, moved.1)] {
                            first.extend_from_slice(&cx.view(id).values[channels..]);
                            writes.push((id, first));
                        }
                    }
                    norm.of_batch(view(x))?
                }
            };
            writes.push((*coefficients, rows));
            Ok(writes)
        }
        Op::BatchNormGrad { dy, x, coefficients, dgamma, dbeta, grad_coefficients, statistics } => {
            let through_statistics = *statistics != Statistics::Running;
            let grad = norm::batch_norm_grad(view(dy), view(x), view(coefficients), through_statistics)?;
            let mut writes = vec![(*grad_coefficients, grad.coefficients)];
            writes.extend(dgamma.map(|id| (id, grad.dgamma)));
            writes.extend(dbeta.map(|id| (id, grad.dbeta)));
            Ok(writes)
        }
        Op::BatchNormDoubleGrad { x, coefficients, first, second, dot, by_v, by_dy } => {
            let [n, h, w, _] = cx.axes(*x);
            let operands = [coefficients, first, second].map(view);
            let (v, dy) = norm::batch_norm_double_grad(operands, view(dot), (n * h * w) as f64)?;
            Ok(vec![(*by_v, v), (*by_dy, dy)])
        }
        Op::Combine { terms, y } => one(y, combine::combine(cx, terms, cx.axes(*y))?),
        Op::MaxPool { x, y, window } => one(y, pool::max_pool(view(x), cx.axes(*y), window)?),
        Op::MaxPoolPick { x, v, y, window } => one(y, pool::max_pool_pick(view(x), view(v), cx.axes(*y), window)?),
        Op::MaxPoolGrad { x, dy, dx, window } => {
            agree("max pool's gradient", cx.axes(*x), cx.axes(*dx))?;
            one(dx, pool::max_pool_grad(view(x), view(dy), window)?)
        }
        Op::GlobalAvgPool { x, y } => one(y, pool::global_average(view(x))),
        Op::ImageDot { a, b, y } => one(y, probe::image_dot(view(a), view(b))?),
        Op::SignCodes { x, y } => one(y, probe::sign_codes(view(x), cx.axes(*y)[3])),
        Op::NoisyCodes { x, norm, hyper, y, stream, .. } => {
            let shape = cx.graph.shape(*x);
            let size = cx.word(*norm, 0)? / (shape.len() as f64).sqrt();
            let sigma = cx.word(*hyper, hyper::SIGMA)? * size;
            let source = cx.source(*hyper, *stream)?;
            let values = optimiser::perturb(view(x).values, shape, &source, sigma, Noise::Additive);
            one(y, probe::sign_codes(View { axes: cx.axes(*x), values: &values }, cx.axes(*y)[3]))
        }
        Op::CrossEntropy { logits, labels, scale, teacher, loss, dlogits, smoothing } => {
            let scale = scale.map_or(Ok(1.0), |scale| cx.word(scale, 0))?;
            let scaled: Vec<f64> = view(logits).values.iter().map(|z| scale * z).collect();
            let logits = View { axes: cx.axes(*logits), values: &scaled };
            let teacher = teacher.as_ref().map(view);
            let result = loss::cross_entropy(logits, cx.memory.get(*labels), teacher, f64::from(*smoothing))?;
            let mut writes = vec![(*loss, result.loss)];
            writes.extend(dlogits.map(|id| (id, result.dlogits)));
            Ok(writes)
        }
        Op::CrossEntropyHessian { logits, labels, v, y } => {
            one(y, loss::cross_entropy_hessian(view(logits), cx.memory.get(*labels), view(v))?)
        }
        Op::Tally { loss, metrics, mean } => {
            let (sums, means) = loss::tally(view(loss), cx.memory.get(*metrics))?;
            Ok(vec![(*metrics, sums), (*mean, means)])
        }
        Op::GlobalNorm { gradients, norm } => one(norm, vec![optimiser::global_norm(cx, gradients)?]),
        Op::Ascend { w, g, norm, hyper, y, adaptive } => {
            let (norm, rho) = (cx.word(*norm, 0)?, cx.word(*hyper, hyper::RHO)?);
            one(y, optimiser::ascend(view(w), view(g), norm, rho, *adaptive)?)
        }
        Op::Sgd { w, g, m, norm, hyper, nesterov } => {
            let rule = optimiser::Sgd {
                rate: cx.word(*hyper, hyper::RATE)?,
                momentum: cx.word(*hyper, hyper::MOMENTUM)?,
                decay: cx.word(*hyper, hyper::DECAY)?,
                clip: match norm {
                    Some(norm) => Some((cx.word(*hyper, hyper::CLIP)?, cx.word(*norm, 0)?)),
                    None => None,
                },
                nesterov: *nesterov,
            };
            let (weights, momenta) = rule.step(view(w), view(g), view(m))?;
            Ok(vec![(*w, weights), (*m, momenta)])
        }
        Op::Perturb { w, y, hyper, stream, noise, .. } => {
            let source = cx.source(*hyper, *stream)?;
            let sigma = cx.word(*hyper, hyper::SIGMA)?;
            one(y, optimiser::perturb(view(w).values, cx.graph.shape(*w), &source, sigma, *noise))
        }
        Op::DropPath { hyper, factors, path } => {
            let (source, [images, ..]) = (cx.source(*hyper, *path)?, cx.axes(*factors));
            let (below, scale) = (cx.integer(*hyper, hyper::DROP_BELOW)?, cx.word(*hyper, hyper::DROP_SCALE)?);
            one(factors, optimiser::drop_path(images, &source, below, scale))
        }
        Op::AttackStart { x, settings, adv, state } => {
            let (point, records) = attack::start(view(x), &attack::Settings::of(cx, *settings));
            Ok(vec![(*adv, point), (*state, records)])
        }
        Op::AttackJudge { loss, settings, state } => {
            one(state, attack::judge(view(loss), &attack::Settings::of(cx, *settings), cx.memory.get(*state)))
        }
        Op::AttackStep { x, adv, g, settings, state, memory } => {
            let apgd = memory.map(|memory| (cx.memory.get(*state), cx.memory.get(memory)));
            let (point, kept) = attack::step(view(x), view(adv), view(g), &attack::Settings::of(cx, *settings), apgd)?;
            let mut writes = vec![(*adv, point)];
            writes.extend(memory.map(|memory| (memory, kept)));
            Ok(writes)
        }
        Op::Custom(custom) => {
            let inputs: Vec<_> = custom.inputs.iter().map(|&id| (cx.graph.shape(id), cx.memory.get(id))).collect();
            let outputs = custom.op.reference(&inputs)?;
            agree(custom.op.name(), custom.outputs.len(), outputs.len())?;
            Ok(custom.outputs.iter().copied().zip(outputs).collect())
        }
        Op::Gather { .. } => Err(Error::invalid(
            "gather",
            "its operands are packed bytes, which the reference interpreter does not have; set the batch's images and \
             labels instead",
        )),
    }
}
