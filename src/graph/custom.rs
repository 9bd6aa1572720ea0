//! Operations from outside: a shader of the caller's, with its shapes, its gradient and its definition in `f64`.
//!
//! A [`CustomOp`] takes part in everything that the built-in operations do: its tasks share dispatches with equal ones of
//! other networks, the planner finds its memory, [`Builder::backward`] runs through it, and the reference interpreter
//! checks it. Its WGSL is always compiled with bounds checks.
//!
//! # The shader's side
//! A task table stands at binding 0 (`#import task` declares it as `rows`), and operand `i` (inputs, then outputs) at
//! binding `i + 1` as `var<storage, read_write> name: array<vec4<f32>>`; name all of them, also those that are only
//! read. The entry point is `main`. Each task has [`CustomCall::workgroups`] workgroups. Which of them one is, and of which task, say
//! `linear_group(workgroup_id, num_workgroups)` and `task_number(workgroup_id)` of `task`: grids are folded to two dimensions, and
//! long dispatches are cut between workgroups, and between tasks, where a shader asks for the one and the other. A task's row
//! starts at `rows[task_number(workgroup_id) * ${ROWS}u]`: first where each operand starts, counted in `vec4<f32>`, then
//! [`CustomCall::words`].
//!
//! Maps are channel-last in blocks of four channels: `((n H + h) W + w) C4 + c / 4`. The last block is padded, and padding
//! must be written as zero. Tasks of one dispatch may differ in size: lanes beyond a task's own must return.

use std::fmt;
use std::sync::Arc;

use super::build::Builder;
use super::ir::*;
use crate::error::{Error, Result};
use crate::shader::{self, Variant};

/// Most inputs and outputs: with the task table they are the storage buffers that every adapter offers.
const MOST_OPERANDS: usize = 7;

/// What one run of a [`CustomOp`] is.
#[derive(Clone, Debug, Default)]
pub struct CustomCall {
    /// Constants for the shader's `${NAME}`, `#if` and `#for`. `ROWS` is added.
    pub constants: Vec<(&'static str, i64)>,
    /// The task's own numbers, after the operands' places in its row.
    pub words: Vec<u32>,
    /// Workgroups.
    pub workgroups: usize,
    /// Arithmetic operations, for reports.
    pub flops: u64,
}

/// An operation of the caller's. See the module's documentation for what its shader sees.
pub trait CustomOp: fmt::Debug + Send + Sync {
    /// Name for messages and profiles.
    fn name(&self) -> &'static str;

    /// The WGSL text, with the preprocessor's directives.
    fn wgsl(&self) -> &'static str;

    /// Shapes of the outputs for inputs of these shapes.
    ///
    /// # Errors
    /// If the inputs do not fit.
    fn outputs(&self, inputs: &[Shape]) -> Result<Vec<Shape>>;

    /// Constants, words and size of a run.
    fn call(&self, inputs: &[Shape], outputs: &[Shape]) -> CustomCall;

    /// Appends the gradient: given those of the outputs, returns one per input (`None` for an input without one).
    ///
    /// # Errors
    /// If there is none, which is what the default says.
    fn backward(
        &self,
        _builder: &mut Builder,
        _inputs: &[TensorId],
        _outputs: &[TensorId],
        _gradients: &[TensorId],
    ) -> Result<Vec<Option<TensorId>>> {
        Err(Error::invalid("backward", format!("{} has no gradient here", self.name())))
    }

    /// The outputs' values from the definition, in row-major order of the shapes, for [`crate::reference`].
    ///
    /// # Errors
    /// If the values do not fit.
    fn reference(&self, inputs: &[(Shape, &[f64])]) -> Result<Vec<Vec<f64>>>;
}

/// A [`CustomOp`] with its tensors, as a graph holds it.
#[derive(Clone, Debug)]
pub struct Custom {
    /// The operation.
    pub op: Arc<dyn CustomOp>,
    /// What it reads.
    pub inputs: Vec<TensorId>,
    /// What it writes.
    pub outputs: Vec<TensorId>,
}

impl PartialEq for Custom {
    /// The same operation object on the same tensors.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.op, &other.op) && (&self.inputs, &self.outputs) == (&other.inputs, &other.outputs)
    }
}

impl Custom {
    /// The shader with its constants, and the run.
    pub(crate) fn lower(&self, shape: impl Fn(TensorId) -> Shape) -> (Variant, CustomCall) {
        let of = |list: &[TensorId]| list.iter().map(|&t| shape(t)).collect::<Vec<_>>();
        let call = self.op.call(&of(&self.inputs), &of(&self.outputs));
        let rows = (self.inputs.len() + self.outputs.len() + call.words.len()).div_ceil(4);
        let mut variant = Variant::own(self.op.name(), self.op.wgsl()).with("ROWS", rows as i64);
        for (name, value) in &call.constants {
            variant = variant.with(name, *value);
        }
        (variant, call)
    }
}

impl Builder {
    /// Appends an operation of the caller's and returns its outputs.
    ///
    /// # Errors
    /// If the operation refuses the shapes, has too many operands, or its shader does not validate.
    pub fn custom(&mut self, op: Arc<dyn CustomOp>, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        let shapes: Vec<Shape> = inputs.iter().map(|&t| self.shape(t)).collect();
        let outputs: Vec<TensorId> = op.outputs(&shapes)?.into_iter().map(|shape| self.temporary(shape)).collect();
        let count = inputs.len() + outputs.len();
        if outputs.is_empty() || count > MOST_OPERANDS {
            let expected = format!("an output, and at most {MOST_OPERANDS} inputs and outputs");
            return Err(Error::shape(op.name(), expected, count));
        }
        let custom = Custom { op, inputs: inputs.to_vec(), outputs: outputs.clone() };
        shader::validate(&custom.lower(|t| self.shape(t)).0)?;
        self.push(Op::Custom(custom));
        Ok(outputs)
    }

    /// Gradients of a [`Custom`]'s inputs, with zeros for outputs on which the loss does not depend.
    pub(super) fn custom_gradients(
        &mut self,
        custom: &Custom,
        gradients: Vec<Option<TensorId>>,
    ) -> Result<Vec<Option<TensorId>>> {
        let gradients: Vec<TensorId> = gradients
            .into_iter()
            .zip(&custom.outputs)
            .map(|(gradient, &y)| gradient.unwrap_or_else(|| self.sum(self.shape(y), vec![])))
            .collect();
        let given = custom.op.backward(self, &custom.inputs, &custom.outputs, &gradients)?;
        if given.len() != custom.inputs.len() {
            let expected = format!("{} gradients, one per input", custom.inputs.len());
            return Err(Error::shape(custom.op.name(), expected, given.len()));
        }
        for (gradient, &x) in given.iter().zip(&custom.inputs) {
            if let Some(gradient) = gradient.filter(|&g| self.shape(g) != self.shape(x)) {
                return Err(Error::shape(custom.op.name(), self.shape(x), self.shape(gradient)));
            }
        }
        Ok(given)
    }
}
