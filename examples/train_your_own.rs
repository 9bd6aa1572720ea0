//! A network of one's own: two residual stages made of the library's blocks, trained on the bundled digits.
//!
//! ```text
//! cargo run --release --example train_your_own
//! ```

use altiplano::data::load;
use altiplano::gpu::{Gpu, Options};
use altiplano::graph::{Geometry, Role, TensorId};
use altiplano::kernels::Preset;
use altiplano::measure::forward::Subject;
use altiplano::measure::judge::test_wait;
use altiplano::nn::{Heads, Layers, Model};
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

/// A small residual network. `input` and `classes` say what it is for, `forward` says how layers follow each other.
struct Residual {
    input: [usize; 3],
    classes: usize,
    width: usize,
}

impl Residual {
    /// `x + norm(conv(relu(norm(conv(relu(x))))))`. Names are free, but each weight needs one of its own.
    fn block(&self, layers: &mut Layers, name: &str, x: TensorId) -> altiplano::Result<TensorId> {
        let shape = layers.builder.shape(x);
        let geometry = Geometry::square(3, 1, 1);
        let a = layers.relu_conv_norm(&format!("{name}.a"), x.into(), shape.channels(), geometry)?;
        let b = layers.relu_conv_norm(&format!("{name}.b"), a, shape.channels(), geometry)?;
        // A batch norm is no pass over memory of its own: the sum applies scale and shift as it loads.
        let terms = vec![layers.builder.term(x.into()), layers.builder.term(b)];
        Ok(layers.builder.sum(shape, terms))
    }
}

impl Model for Residual {
    fn input(&self) -> [usize; 3] {
        self.input
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
        let stem = layers.conv("stem.conv", x, self.width, Geometry::square(3, 1, 1))?;
        let stem = layers.batch_norm("stem.norm", stem, true)?;
        let x = layers.builder.materialise(stem);
        let x = self.block(layers, "one", x)?;
        // Half the side, twice the channels.
        let down = layers.relu_conv_norm("down", x.into(), 2 * self.width, Geometry::square(3, 2, 1))?;
        let x = layers.builder.materialise(down);
        let x = self.block(layers, "two", x)?;
        let active = layers.builder.relu(x.into());
        let pooled = layers.builder.global_avg_pool(active);
        Ok(layers.linear("classifier", pooled, self.classes)?.into())
    }
}

fn main() -> altiplano::Result<()> {
    let gpu = Gpu::open_wait(&Options::default())?;
    let preset = Preset::for_adapter(gpu.report());
    println!("adapter: {} ({})", gpu.report().name, gpu.report().driver);

    let data = load("digits")?;
    let images = &data.train;
    let model = Residual { input: [images.height, images.width, images.channels], classes: images.classes, width: 8 };

    // All images go to the device once, as bytes; batches are cropped and normalised there.
    let statistics = images.channel_statistics()?;
    let supply = Supply::new(&gpu, images)?;
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };

    let recipe = Recipe { batch: 32, ..Recipe::usual(Optimizer::Sgd, 5, images.height) };
    let indices: Vec<usize> = (0..images.len()).collect();
    let seed = 1;
    let mut trainer = Trainer::new(setting.clone(), &model, &recipe, &indices, &[seed], &[])?;
    println!("{} dispatches per step", trainer.plan().dispatches());
    while !trainer.is_done() {
        trainer.submit_step()?;
        if trainer.step().is_multiple_of(trainer.steps_per_epoch()) {
            for p in trainer.progress_wait()? {
                println!("epoch {}: loss {:.3}, accuracy {:.1} %", p.epoch, p.loss, 100.0 * p.accuracy);
            }
        }
    }

    // The test images are behind a type of their own, which only a final evaluation opens.
    let weights = trainer.stores(0).of(Role::Weights)?.clone();
    let running = trainer.stores(0).of(Role::Running)?.clone();
    let subject = Subject { weights: (weights, 0), running: (running, 0), path: vec![] };
    let score = test_wait(&setting, &model, &data.test, subject)?;
    println!("{} test images: loss {:.3}, accuracy {:.1} %", data.test.len(), score.loss, 100.0 * score.accuracy);
    Ok(())
}
