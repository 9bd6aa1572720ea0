//! An operation from outside: two inputs, two outputs, gradients of both; and what is refused.

use std::sync::Arc;

use altiplano::error::{Error, Result};
use altiplano::graph::{Builder, CustomCall, CustomOp, Geometry, Shape, TensorId, Value};
use altiplano::nn::{Heads, Layers, Model};

/// `p = a b`, `q = a + 2 b`; as a gradient (`BACK`): `da = b dp + dq`, `db = a dp + 2 dq`.
const TEXT: &str = "
#import task
@group(0) @binding(1) var<storage, read_write> a_slab: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> b_slab: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c_slab: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d_slab: array<vec4<f32>>;
#if BACK
@group(0) @binding(5) var<storage, read_write> e_slab: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> f_slab: array<vec4<f32>>;
#end
@compute @workgroup_size(${LANES})
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = rows[task_number(group_id) * ${ROWS}u];
    let more = rows[task_number(group_id) * ${ROWS}u + 1u];
    let i = linear_group(group_id, grid) * ${LANES}u + lane;
#if BACK
    if i >= more.z {
        return;
    }
    let a = a_slab[row.x + i];
    let b = b_slab[row.y + i];
    let dp = c_slab[row.z + i];
    let dq = d_slab[row.w + i];
    e_slab[more.x + i] = b * dp + dq;
    f_slab[more.y + i] = a * dp + 2.0 * dq;
#else
    if i >= more.x {
        return;
    }
    let a = a_slab[row.x + i];
    let b = b_slab[row.y + i];
    c_slab[row.z + i] = a * b;
    d_slab[row.w + i] = a + 2.0 * b;
#end
}
";

/// What is wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flaw {
    None,
    Syntax,
    TooManyInputs,
    MissingGradient,
    ShapeOfGradient,
}

#[derive(Debug)]
struct Pair {
    back: bool,
    flaw: Flaw,
}

impl CustomOp for Pair {
    fn name(&self) -> &'static str {
        if self.back { "pair_gradient" } else { "pair" }
    }

    fn wgsl(&self) -> &'static str {
        if self.flaw == Flaw::Syntax { "fn main( {" } else { TEXT }
    }

    fn outputs(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        match inputs {
            [a, b, ..] if a == b => Ok(vec![*a, *a]),
            _ => Err(Error::shape("pair", "two inputs of one shape", inputs.len())),
        }
    }

    fn call(&self, inputs: &[Shape], _outputs: &[Shape]) -> CustomCall {
        let count = inputs[0].vec4s();
        CustomCall {
            constants: vec![("BACK", self.back.into()), ("LANES", 32)],
            words: vec![count as u32],
            workgroups: count.div_ceil(32),
            flops: 3 * inputs[0].len() as u64,
        }
    }

    fn backward(
        &self,
        builder: &mut Builder,
        inputs: &[TensorId],
        _outputs: &[TensorId],
        gradients: &[TensorId],
    ) -> Result<Vec<Option<TensorId>>> {
        let op = Arc::new(Pair { back: true, flaw: self.flaw });
        let given = builder.custom(op, &[inputs[0], inputs[1], gradients[0], gradients[1]])?;
        Ok(match self.flaw {
            Flaw::MissingGradient => vec![Some(given[0])],
            Flaw::ShapeOfGradient => vec![Some(given[0]), Some(builder.temporary(Shape::vector(4)))],
            _ => given.into_iter().map(Some).collect(),
        })
    }

    fn reference(&self, inputs: &[(Shape, &[f64])]) -> Result<Vec<Vec<f64>>> {
        let both = |f: &dyn Fn(usize) -> f64| (0..inputs[0].1.len()).map(f).collect::<Vec<f64>>();
        let value = |k: usize, i: usize| inputs[k].1[i];
        Ok(match self.back {
            false => vec![both(&|i| value(0, i) * value(1, i)), both(&|i| value(0, i) + 2.0 * value(1, i))],
            true => vec![
                both(&|i| value(1, i) * value(2, i) + value(3, i)),
                both(&|i| value(0, i) * value(2, i) + 2.0 * value(3, i)),
            ],
        })
    }
}

/// A network around it: both outputs are used, or only the first one.
pub struct Outside {
    pub both: bool,
    pub flaw: Flaw,
}

impl Model for Outside {
    fn input(&self) -> [usize; 3] {
        [5, 7, 3]
    }

    fn classes(&self) -> usize {
        4
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> Result<Heads> {
        let a = layers.conv("a", x, 6, Geometry::square(3, 1, 1))?;
        let b = layers.conv("b", x, 6, Geometry::square(1, 1, 0))?;
        let b = layers.batch_norm("norm", b, true)?;
        let b = layers.builder.materialise(b);
        let op = Arc::new(Pair { back: false, flaw: self.flaw });
        let inputs = if self.flaw == Flaw::TooManyInputs { vec![a; 6] } else { vec![a, b] };
        let made = layers.builder.custom(op, &inputs)?;
        let y = if self.both {
            let terms = made.iter().map(|&t| layers.builder.term(t.into())).collect();
            layers.builder.sum(layers.builder.shape(made[0]), terms)
        } else {
            made[0]
        };
        let y = layers.builder.global_avg_pool(Value::from(y));
        Ok(layers.linear("head", y, 4)?.into())
    }
}
