//! From operations to shader calls.
//!
//! Each file is the twin of a shader family: it declares its kernels with their rows, and knows the constants that a shader
//! wants baked in, its grid, and what it costs. [`Lowering::of`] turns operations into [`Call`]s; the planner merges equal
//! ones of many networks into dispatches.

mod attack;
mod batch_norm;
mod ceiling;
mod combine;
mod conv2d;
mod drop_path;
mod kernel;
mod loss;
mod optimizer;
mod pool;
mod preset;
mod probe;

use std::collections::HashMap;

pub use ceiling::{CEILING, ceiling_row};
pub use kernel::Kernel;
pub use preset::{Preset, Tile};

use kernel::{Access, Fields, Value, words};

use crate::error::Result;
use crate::graph::{Custom, Graph, Guard, Node, Op, Shape, TensorId};
use crate::shader::{self, Variant};

/// Every kernel, by file.
pub const KERNELS: &[&[Kernel]] = &[
    attack::KERNELS,
    batch_norm::KERNELS,
    ceiling::KERNELS,
    combine::KERNELS,
    conv2d::KERNELS,
    drop_path::KERNELS,
    loss::KERNELS,
    optimizer::KERNELS,
    pool::KERNELS,
    probe::KERNELS,
];

/// The kernel of a shader.
pub fn kernel(shader: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().flatten().find(|kernel| kernel.shader == shader)
}

/// The variants of `shaders/permutations`.
///
/// # Errors
/// The line that is not of the form `shader NAME=VALUE ...`.
pub fn permutations() -> Result<Vec<Variant>> {
    let variant = |(name, defs)| {
        let records = kernel(name).map_or(&[][..], |kernel| kernel.records);
        Variant { records, defs, ..Variant::new(name, []) }
    };
    Ok(shader::permutations()?.into_iter().map(variant).collect())
}

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
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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
    pub workgroups: usize,
    /// Steps of a lane that wait for each other, in the longest chain: loads, or multiply-adds into one sum. What a lane must
    /// do one after the other takes its time however many lanes there are.
    pub depth: usize,
    /// When it runs.
    pub guard: Guard,
    /// Tensors that are read.
    pub reads: Vec<TensorId>,
    /// Tensors that are written.
    pub writes: Vec<TensorId>,
    /// Tensors that it takes for one: each list lies side by side in memory, its first tensor is a slot.
    pub spans: Vec<Vec<TensorId>>,
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

/// The size of a call.
struct Work {
    /// Workgroups.
    workgroups: usize,
    /// Arithmetic operations.
    flops: usize,
    /// Steps that wait for each other; see [`Call::depth`].
    depth: usize,
}

/// Collects the calls of a graph; temporary tensors that kernels need are numbered after the graph's own.
pub struct Lowering<'a> {
    graph: &'a Graph,
    preset: Preset,
    guard: Guard,
    /// The tensor directly behind each one.
    behind: HashMap<TensorId, TensorId>,
    /// Calls in an order in which they may run.
    pub calls: Vec<Call>,
    /// Shapes of the kernels' own temporaries.
    pub scratch: Vec<Shape>,
}

impl<'a> Lowering<'a> {
    /// Lowers a whole graph.
    pub fn of(graph: &'a Graph, preset: Preset) -> Self {
        let behind = graph.neighbours();
        let mut lowering = Lowering { graph, preset, guard: Guard::ALWAYS, behind, calls: vec![], scratch: vec![] };
        let runs: Vec<&[Node]> = graph.nodes.chunk_by(|a, b| optimizer::goes_on(&lowering, a, b)).collect();
        runs.into_iter().for_each(|run| lowering.run(run));
        lowering
    }

    /// Lowers one node, or several that one call can do.
    fn run(&mut self, nodes: &[Node]) {
        let Some(node) = nodes.first() else { return };
        self.guard = node.guard;
        match &node.op {
            Op::Conv { .. } | Op::ConvInput { .. } | Op::ConvFilter { .. } => conv2d::lower(self, &node.op),
            Op::BatchNorm { .. }
            | Op::BatchNormGrad { .. }
            | Op::BatchNormDoubleGrad { .. }
            | Op::ChannelSum { .. } => batch_norm::lower(self, &node.op),
            Op::Combine { .. } => combine::lower(self, &node.op),
            Op::MaxPool { .. }
            | Op::MaxPoolGrad { .. }
            | Op::MaxPoolPick { .. }
            | Op::GlobalAvgPool { .. }
            | Op::Gather { .. } => {
                pool::lower(self, &node.op);
            }
            Op::CrossEntropy { .. } | Op::CrossEntropyHessian { .. } | Op::Tally { .. } => loss::lower(self, &node.op),
            Op::GlobalNorm { .. } | Op::Ascend { .. } | Op::Sgd { .. } | Op::Perturb { .. } => {
                optimizer::lower(self, nodes);
            }
            Op::DropPath { .. } => drop_path::lower(self, &node.op),
            Op::AttackStart { .. } | Op::AttackJudge { .. } | Op::AttackStep { .. } => attack::lower(self, &node.op),
            Op::ImageDot { .. } | Op::SignCodes { .. } | Op::NoisyCodes { .. } => probe::lower(self, &node.op),
            Op::Custom(custom) => self.custom(custom),
        }
    }

    /// An operation from outside: its row is what [`CustomOp`](crate::graph::CustomOp) says.
    fn custom(&mut self, custom: &Custom) {
        let (variant, call) = custom.lower(|t| self.shape(t));
        let slots: Vec<TensorId> = custom.inputs.iter().chain(&custom.outputs).copied().collect();
        let mut head: Vec<Word> = slots.iter().map(|&t| t.into()).collect();
        head.extend(call.words.into_iter().map(Word::Value));
        head.resize(head.len().next_multiple_of(4), Word::Value(0));
        let mut operands = slots.clone();
        operands.sort_unstable();
        operands.dedup();
        self.push(Call {
            variant,
            slots,
            pool: vec![],
            head,
            terms: vec![],
            workgroups: call.workgroups,
            depth: 1,
            guard: self.guard,
            reads: custom.inputs.iter().copied().filter(|t| !custom.outputs.contains(t)).collect(),
            writes: custom.outputs.clone(),
            spans: vec![],
            cost: Cost { flops: call.flops, bytes: operands.into_iter().map(|t| self.bytes_of(t)).sum() },
        });
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

    /// A call of a kernel with its row.
    fn call(&mut self, variant: Variant, row: impl Fields, work: Work) {
        let call = self.prepare(variant, row, work);
        self.push(call);
    }

    /// The same, still to be pushed: for calls that list records or see a pool.
    fn prepare(&self, variant: Variant, row: impl Fields, work: Work) -> Call {
        let values = row.values();
        let (mut operands, mut reads, mut writes, mut bytes) = (vec![], vec![], vec![], 0);
        for value in &values {
            match *value {
                Value::Word(_) => {}
                Value::Beside(tensor) => reads.extend(tensor),
                Value::Operand { tensor, access, always } => {
                    if tensor.is_some() || always {
                        operands.push(tensor);
                    }
                    match access {
                        Access::Read => reads.extend(tensor),
                        Access::Write => writes.extend(tensor),
                        Access::Update => {
                            writes.extend(tensor);
                            bytes += tensor.map_or(0, |t| self.bytes_of(t));
                        }
                    }
                }
            }
        }
        reads.retain(|t| !writes.contains(t));
        // What is an operand twice is read once.
        let mut once: Vec<TensorId> = reads.iter().chain(&writes).copied().collect();
        once.sort_unstable();
        once.dedup();
        bytes += once.into_iter().map(|t| self.bytes_of(t)).sum::<u64>();
        // An absent operand's binding shows the one before: what often lies in one slab with it, so that calls with and without
        // share dispatches.
        let mut shown = operands.iter().copied().flatten().next();
        let slots = operands.into_iter().filter_map(|tensor| {
            shown = tensor.or(shown);
            shown
        });
        let slots = slots.collect();
        let Work { workgroups, flops, depth } = work;
        let (head, cost) = (words(&values), Cost { flops: flops as u64, bytes });
        let (guard, pool, terms, spans) = (self.guard, vec![], vec![], vec![]);
        Call { variant, slots, pool, head, terms, workgroups, depth, guard, reads, writes, spans, cost }
    }

    /// Whether `b` lies directly behind `a`.
    fn is_behind(&self, a: TensorId, b: TensorId) -> bool {
        self.behind.get(&a) == Some(&b)
    }

    /// Has a call take the tensors of each list for one, in the way in which it takes the first of each.
    fn span(&self, call: &mut Call, spans: Vec<Vec<TensorId>>) {
        for span in &spans {
            let Some((first, rest)) = span.split_first() else { continue };
            let written = call.writes.contains(first);
            if written { &mut call.writes } else { &mut call.reads }.extend(rest);
            call.cost.bytes += rest.iter().map(|&t| self.bytes_of(t)).sum::<u64>();
        }
        call.spans = spans;
    }

    /// Bytes of a tensor.
    fn bytes_of(&self, tensor: TensorId) -> u64 {
        self.shape(tensor).vec4s() as u64 * 16
    }

    fn push(&mut self, call: Call) {
        self.calls.push(call);
    }
}
