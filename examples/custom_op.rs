//! An operation of one's own: SiLU, `y = x / (1 + exp(-x))`, with its WGSL and its gradient, in a network that trains.
//!
//! ```text
//! cargo run --release --example custom_op
//! ```

use std::sync::Arc;

use altiplano::data::load;
use altiplano::gpu::{Gpu, Options};
use altiplano::graph::{Builder, CustomCall, CustomOp, Geometry, Shape, TensorId, Value};
use altiplano::kernels::Preset;
use altiplano::nn::{Heads, Layers, Model};
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

/// Lanes of a workgroup, and the row's layout: where `x` and `y` start, then how many `vec4<f32>` there are.
const FORWARD: &str = "
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = rows[task_number(group_id) * ${ROWS}u];
    let i = linear_group(group_id, grid) * 64u + lane;
    if i >= row.z {
        return;
    }
    let x = xs[row.x + i];
    ys[row.y + i] = x / (1.0 + exp(-x));
}
";

/// With `s = 1 / (1 + exp(-x))` the slope is `s (1 + x (1 - s))`. Operands: `x, dy, dx`.
const GRADIENT: &str = "
#import task
@group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dxs: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = rows[task_number(group_id) * ${ROWS}u];
    let i = linear_group(group_id, grid) * 64u + lane;
    if i >= row.w {
        return;
    }
    let x = xs[row.x + i];
    let s = 1.0 / (1.0 + exp(-x));
    dxs[row.z + i] = dys[row.y + i] * s * (1.0 + x * (1.0 - s));
}
";

/// A run over all values of a tensor.
fn over(shape: Shape, flops_per_value: usize) -> CustomCall {
    let count = shape.vec4s();
    let flops = (flops_per_value * shape.len()) as u64;
    CustomCall { words: vec![count as u32], workgroups: count.div_ceil(64), flops, ..CustomCall::default() }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[derive(Debug)]
struct Silu;

impl CustomOp for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn wgsl(&self) -> &'static str {
        FORWARD
    }

    fn outputs(&self, inputs: &[Shape]) -> altiplano::Result<Vec<Shape>> {
        Ok(inputs.to_vec())
    }

    fn call(&self, inputs: &[Shape], _outputs: &[Shape]) -> CustomCall {
        over(inputs[0], 4)
    }

    fn backward(
        &self,
        builder: &mut Builder,
        inputs: &[TensorId],
        _outputs: &[TensorId],
        gradients: &[TensorId],
    ) -> altiplano::Result<Vec<Option<TensorId>>> {
        let dx = builder.custom(Arc::new(SiluGradient), &[inputs[0], gradients[0]])?;
        Ok(vec![Some(dx[0])])
    }

    fn reference(&self, inputs: &[(Shape, &[f64])]) -> altiplano::Result<Vec<Vec<f64>>> {
        Ok(vec![inputs[0].1.iter().map(|&x| x * sigmoid(x)).collect()])
    }
}

/// A gradient is an operation like any other; this one has none of its own.
#[derive(Debug)]
struct SiluGradient;

impl CustomOp for SiluGradient {
    fn name(&self) -> &'static str {
        "silu_gradient"
    }

    fn wgsl(&self) -> &'static str {
        GRADIENT
    }

    fn outputs(&self, inputs: &[Shape]) -> altiplano::Result<Vec<Shape>> {
        Ok(vec![inputs[0]])
    }

    fn call(&self, inputs: &[Shape], _outputs: &[Shape]) -> CustomCall {
        over(inputs[0], 8)
    }

    fn reference(&self, inputs: &[(Shape, &[f64])]) -> altiplano::Result<Vec<Vec<f64>>> {
        let slope = |x: f64| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
        Ok(vec![inputs[0].1.iter().zip(inputs[1].1).map(|(&x, &dy)| dy * slope(x)).collect()])
    }
}

/// Two convolutions with SiLU after each.
struct Small {
    input: [usize; 3],
    classes: usize,
    silu: Arc<Silu>,
}

impl Small {
    fn block(&self, layers: &mut Layers, name: &str, x: TensorId, channels: usize) -> altiplano::Result<TensorId> {
        let y = layers.conv(&format!("{name}.conv"), x, channels, Geometry::square(3, 1, 1))?;
        let y = layers.batch_norm(&format!("{name}.norm"), y, true)?;
        // A custom operation reads tensors as they are, so the norm is written out first.
        let y = layers.builder.materialise(y);
        Ok(layers.builder.custom(self.silu.clone(), &[y])?[0])
    }
}

impl Model for Small {
    fn input(&self) -> [usize; 3] {
        self.input
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
        let x = self.block(layers, "one", x, 8)?;
        let x = self.block(layers, "two", x, 16)?;
        let pooled = layers.builder.global_avg_pool(Value::from(x));
        Ok(layers.linear("classifier", pooled, self.classes)?.into())
    }
}

fn main() -> altiplano::Result<()> {
    let gpu = Gpu::open_wait(&Options::default())?;
    let preset = Preset::for_adapter(gpu.report());
    let data = load("digits")?;
    let images = &data.train;
    let input = [images.height, images.width, images.channels];
    let model = Small { input, classes: images.classes, silu: Arc::new(Silu) };
    let statistics = images.channel_statistics()?;
    let supply = Supply::new(&gpu, images)?;
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 32, ..Recipe::usual(Optimizer::Sgd, 5, images.height) };
    let indices: Vec<usize> = (0..images.len()).collect();
    let mut trainer = Trainer::new(setting, &model, &recipe, &indices, &[1], &[])?;
    while !trainer.is_done() {
        trainer.submit_step()?;
        if trainer.step().is_multiple_of(trainer.steps_per_epoch()) {
            for p in trainer.progress_wait()? {
                println!("epoch {}: loss {:.3}, accuracy {:.1} %", p.epoch, p.loss, 100.0 * p.accuracy);
            }
        }
    }
    Ok(())
}
