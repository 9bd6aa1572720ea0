//! From operations to shader calls.
//!
//! Each file is the twin of a shader family: it knows the constants that the shader wants baked in, the layout of its
//! task row, its grid, and what it costs. [`Lowering::of`] turns operations into [`Call`]s; the planner merges equal ones of
//! many networks into dispatches.

mod attack;
mod batch_norm;
mod combine;
mod conv2d;
mod loss;
mod optimizer;
mod pool;
mod preset;
mod probe;

pub use preset::{Preset, Tile};

use crate::graph::{Custom, Graph, Guard, Node, Op, Shape, TensorId};
use crate::shader::Variant;

/// What a word of a task row holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// A number.
    Value(u32),
    /// Where a tensor starts in its slab, in `vec4<f32>`.
    At(TensorId),
    /// Which of the pool's slabs a tensor lies in.
    Slab(TensorId),
    /// Index of the task's first listed term, in rows of the table.
    FirstTerm,
    /// Number of the task's active terms of a class.
    Terms(u32),
    /// No such operand.
    None,
}

impl From<usize> for Word {
    fn from(value: usize) -> Self {
        Word::Value(value as u32)
    }
}

impl From<f32> for Word {
    fn from(value: f32) -> Self {
        Word::Value(value.to_bits())
    }
}

impl From<TensorId> for Word {
    fn from(tensor: TensorId) -> Self {
        Word::At(tensor)
    }
}

impl From<Option<TensorId>> for Word {
    fn from(tensor: Option<TensorId>) -> Self {
        tensor.map_or(Word::None, Word::At)
    }
}

/// What work comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Arithmetic operations of convolutions, products and sums, a multiply-add counting two.
    pub flops: u64,
    /// Bytes that cross memory if each operand is read once and each result written once. What caches save or tiles read
    /// again is the difference between this and what an adapter moves.
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        let mut sum = Cost::default();
        costs.for_each(|cost| sum += cost);
        sum
    }
}

/// A term that is listed behind the rows, if its guard is active.
#[derive(Clone, Debug)]
pub struct Listed {
    /// When it is there.
    pub guard: Guard,
    /// Its class among those of the call.
    pub class: u32,
    /// Its words.
    pub words: Vec<Word>,
    /// What it adds to the call's cost.
    pub cost: Cost,
}

/// One task: a shader with constants, its operands, its row.
#[derive(Clone, Debug)]
pub struct Call {
    /// The shader; tasks of one variant may share a dispatch.
    pub variant: Variant,
    /// Operand of each storage binding from 1 on.
    pub slots: Vec<TensorId>,
    /// Tensors that the bindings after the slots offer through [`Word::Slab`]; empty if the shader has no pool.
    pub pool: Vec<TensorId>,
    /// The row's words.
    pub head: Vec<Word>,
    /// Listed terms; those with an inactive guard are left out.
    pub terms: Vec<Listed>,
    /// Workgroups.
    pub groups: usize,
    /// When it runs.
    pub guard: Guard,
    /// Tensors that are read.
    pub reads: Vec<TensorId>,
    /// Tensors that are written.
    pub writes: Vec<TensorId>,
    /// Its cost without the terms'.
    pub cost: Cost,
}

impl Call {
    /// Its cost on a path.
    pub fn cost_on(&self, path: &[u8]) -> Cost {
        let terms = self.terms.iter().filter(|term| term.guard.active(path));
        terms.map(|term| term.cost).chain([self.cost]).sum()
    }
}

/// Collects the calls of a graph; temporary tensors that kernels need are numbered after the graph's own.
pub struct Lowering<'a> {
    graph: &'a Graph,
    preset: Preset,
    guard: Guard,
    /// Calls in an order in which they may run.
    pub calls: Vec<Call>,
    /// Shapes of the kernels' own temporaries.
    pub scratch: Vec<Shape>,
}

impl<'a> Lowering<'a> {
    /// Lowers a whole graph.
    pub fn of(graph: &'a Graph, preset: Preset) -> Self {
        let mut lowering = Lowering { graph, preset, guard: Guard::ALWAYS, calls: vec![], scratch: vec![] };
        for node in &graph.nodes {
            lowering.node(node);
        }
        lowering
    }

    fn node(&mut self, node: &Node) {
        self.guard = node.guard;
        match &node.op {
            Op::Conv { .. } | Op::ConvInput { .. } | Op::ConvFilter { .. } => conv2d::lower(self, &node.op),
            Op::BatchNorm { .. }
            | Op::BatchNormGrad { .. }
            | Op::BatchNormDoubleGrad { .. }
            | Op::ChannelSum { .. } => batch_norm::lower(self, &node.op),
            Op::Combine { .. } => combine::lower(self, &node.op),
            Op::MaxPool { .. } | Op::MaxPoolGrad { .. } | Op::GlobalAvgPool { .. } | Op::Gather { .. } => {
                pool::lower(self, &node.op);
            }
            Op::CrossEntropy { .. } | Op::CrossEntropyHessian { .. } | Op::Tally { .. } => loss::lower(self, &node.op),
            Op::GlobalNorm { .. } | Op::Ascend { .. } | Op::Sgd { .. } | Op::Perturb { .. } => {
                optimizer::lower(self, &node.op);
            }
            Op::AttackStart { .. } | Op::AttackJudge { .. } | Op::AttackStep { .. } => attack::lower(self, &node.op),
            Op::ImageDot { .. } | Op::SignCodes { .. } => probe::lower(self, &node.op),
            Op::Custom(custom) => self.custom(custom),
        }
    }

    fn custom(&mut self, custom: &Custom) {
        let (variant, call) = custom.lower(|t| self.shape(t));
        let slots: Vec<TensorId> = custom.inputs.iter().chain(&custom.outputs).copied().collect();
        let mut head: Vec<Word> = slots.iter().map(|&t| t.into()).collect();
        head.extend(call.words.into_iter().map(Word::Value));
        head.resize(head.len().next_multiple_of(4), Word::Value(0));
        self.call(variant, slots, &custom.outputs, head, call.groups);
        self.flops(call.flops as usize);
    }

    fn shape(&self, tensor: TensorId) -> Shape {
        let own = self.graph.tensors.len();
        match self.graph.tensors.get(tensor.0 as usize) {
            Some(tensor) => tensor.shape,
            None => self.scratch[tensor.0 as usize - own],
        }
    }

    fn temporary(&mut self, vec4s: usize) -> TensorId {
        self.scratch.push(Shape::Vectors { rows: vec4s, c: 4 });
        TensorId((self.graph.tensors.len() + self.scratch.len() - 1) as u32)
    }

    /// A call with slots only; what is written is listed, the other slots are read.
    fn call(&mut self, variant: Variant, slots: Vec<TensorId>, writes: &[TensorId], head: Vec<Word>, groups: usize) {
        let reads: Vec<TensorId> = slots.iter().copied().filter(|t| !writes.contains(t)).collect();
        // An operand that stands in for one that is not there is no second one.
        let mut operands: Vec<TensorId> = reads.iter().chain(writes).copied().collect();
        operands.sort_unstable();
        operands.dedup();
        let bytes = operands.into_iter().map(|t| self.bytes_of(t)).sum();
        self.push(Call {
            variant,
            slots,
            pool: vec![],
            head,
            terms: vec![],
            groups,
            guard: self.guard,
            reads,
            writes: writes.to_vec(),
            cost: Cost { flops: 0, bytes },
        });
    }

    /// Bytes of a tensor.
    fn bytes_of(&self, tensor: TensorId) -> u64 {
        self.shape(tensor).vec4s() as u64 * 16
    }

    fn push(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Notes the arithmetic of the call made last.
    fn flops(&mut self, flops: usize) {
        if let Some(call) = self.calls.last_mut() {
            call.cost.flops = flops as u64;
        }
    }

    /// Notes that the call made last also reads these tensors, which it writes.
    fn in_place(&mut self, tensors: &[TensorId]) {
        let bytes: u64 = tensors.iter().map(|&t| self.bytes_of(t)).sum();
        if let Some(call) = self.calls.last_mut() {
            call.cost.bytes += bytes;
        }
    }
}
