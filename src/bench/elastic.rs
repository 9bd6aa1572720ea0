//! Paths of the elastic space's supernet against the same networks by themselves: what it costs to read the first channels of larger
//! layers where they are, and to make smaller kernels of larger ones. The losses of a step are compared in the same run; what is learnt
//! differs, since a path's smaller kernels learn by way of their matrices.

use std::sync::Arc;

use super::populations::{Scene, Sides};
use super::suites::{Line, Sink, Suites};
use crate::error::Result;
use crate::nn::Model;
use crate::nn::space::{Family, ImageInfo, Networks, Purpose};
use crate::nn::tensors::Named;
use crate::space::mobilenet_v3::MobileNetV3;
use crate::train::step::Optimizer;
use crate::train::trainer::{Inheritance, Recipe, Trainer};

/// Side of the images that networks see.
const SIDE: usize = 64;
const BATCH: usize = 32;
/// By how much losses may differ, relative: sums of two graphs are rounded in other orders.
const TOLERANCE: f64 = 1e-5;

/// Layers of all widths with the largest kernel, as deep as can be; the same with kernels of all sizes; and stages of all depths.
fn networks() -> [(&'static str, String); 3] {
    let list = |values: &[usize], count: usize| {
        let all = values.iter().cycle().take(count);
        all.map(usize::to_string).collect::<Vec<_>>().join(",")
    };
    let arch = |depths: [usize; 5], kernels: &[usize]| {
        let layers = depths.iter().sum();
        format!("r={SIDE};d={};k={};e={}", list(&depths, 5), list(kernels, layers), list(&[3, 4, 6], layers))
    };
    [
        ("widths", arch([4; 5], &[7])),
        ("widths and kernels", arch([4; 5], &[3, 5, 7, 7])),
        ("widths, kernels and depths", arch([2, 3, 4, 3, 2], &[3, 5, 7, 7])),
    ]
}

impl Suites<'_> {
    /// Training steps of paths beside those of the same networks.
    ///
    /// # Errors
    /// If the device fails, or the losses differ.
    pub fn paths(&self, sink: &mut Sink) -> Result<bool> {
        let scene = Scene::pictures(self)?;
        let info = ImageInfo { height: SIDE, width: SIDE, channels: 3, classes: 10 };
        let build = MobileNetV3::default().defaults(Purpose::Training, &info);
        let family = Family::new(Arc::new(MobileNetV3::default()), build)?;
        let supernet = family.needs_supernet()?;
        let recipe = Recipe {
            batch: BATCH,
            lr: 0.01,
            clip: None,
            augmentation: None,
            ..Recipe::usual(Optimizer::Sgd, 10_000, SIDE)
        };
        let indices: Vec<usize> = (0..BATCH).collect();
        let mut go = true;
        for (what, name) in networks() {
            if !go {
                return Ok(false);
            }
            let arch = family.parse(&name)?;
            let network = family.network(&arch)?;
            let trainer = |model: &dyn Model, path: Vec<u8>| {
                Trainer::new(scene.setting(self), model, &recipe, &indices, &[7], &[path])
            };
            let path = supernet.path(&arch).ok_or_else(|| self.differ("a path with its network"))?;
            let (mut alone, mut part) = (trainer(&*network, vec![])?, trainer(&*supernet, path)?);
            let own: Option<Named> = family.cut(&part.weights_wait(0)?, &arch)?;
            let own = own.ok_or_else(|| self.differ("a supernet's weights with those that a network is cut out of"))?;
            alone.inherit(0, Inheritance { from: &own, name: &|_| None })?;
            let learnt = |trainer: &mut Trainer| -> Result<f64> {
                trainer.submit_step()?;
                Ok(trainer.progress_wait()?[0].loss)
            };
            let losses = [learnt(&mut alone)?, learnt(&mut part)?];
            if (losses[0] - losses[1]).abs() > TOLERANCE * losses[0].abs() {
                return Err(self.differ("a path of a supernet with its network"));
            }
            let work = |trainer: &Trainer| (trainer.plan().cost(), trainer.plan().dispatches());
            let sides = Sides {
                scene: &scene,
                names: [
                    format!("training step of a MobileNetV3, {what}"),
                    format!("training step of a path of its supernet, {what} / of the network"),
                ],
                work: [work(&alone), work(&part)],
            };
            let lines =
                self.sides(&sides, |which| if which == 0 { alone.submit_step() } else { part.submit_step() })?;
            for line in lines {
                let shape = format!("pictures of {SIDE}x{SIDE}, width 1, batch {BATCH}");
                go = sink(Line { suite: "elastic", shape, check: losses.to_vec(), ..line })?;
            }
        }
        Ok(go)
    }
}
