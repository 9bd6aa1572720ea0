//! A GPU compute engine on `wgpu` with shaders of its own, and robust neural-architecture search on it.
//!
//! The program `altiplano` is a thin command line over this library. It runs on any adapter with Vulkan, Metal or DX12,
//! a software adapter included.
//!
//! # Concepts
//!
//! - A [`gpu::Gpu`] is an open device. [`gpu::Gpu::from_wgpu`] takes the one that a program already has.
//! - A [`nn::Model`] says how layers follow each other. It appends them to a [`graph::Graph`], to which the backward pass
//!   and the optimiser's update are appended as operations of the same kind.
//! - A [`graph::plan::Plan`] compiles any number of instances of graphs into one list of dispatches. Equal work of many
//!   networks, noise draws or edges shares a dispatch. A path through a supernet is data: choosing another one compiles
//!   nothing.
//! - [`data::load`] reads a data set, [`train::supply::Supply`] keeps it on the device or streams it there, [`train::trainer::Trainer`] trains
//!   one network, several side by side, or a supernet.
//! - [`measure`] evaluates many networks over the same images and disturbs their weights; [`search::run::search`] is a
//!   search from end to end. [`progress::Observer`] shows its progress and can stop it.
//!
//! The same seed on the same adapter with the same build gives the same bits, whatever runs side by side and however
//! often a run was interrupted.
//!
//! # Example
//!
//! One architecture of NAS-Bench-201, trained for one epoch on the bundled digits:
//!
//! ```no_run
//! use altiplano::data::load;
//! use altiplano::gpu::{Gpu, Options};
//! use altiplano::kernels::Preset;
//! use altiplano::nn::nas_bench_201::Network;
//! use altiplano::space::nas_bench_201::Macro;
//! use altiplano::train::supply::Supply;
//! use altiplano::train::step::Optimizer;
//! use altiplano::train::trainer::{Recipe, Setting, Trainer};
//!
//! # fn main() -> altiplano::Result<()> {
//! let gpu = Gpu::open_wait(&Options::default())?;
//! let data = load("digits")?;
//! let sizes = Macro { channels: 8, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
//! let arch = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|";
//! let model = Network::new(arch.parse()?, sizes);
//!
//! let statistics = data.train.channel_statistics()?;
//! let supply = Supply::new(&gpu, &data.train)?;
//! let preset = Preset::for_adapter(gpu.report());
//! let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };
//! let recipe = Recipe::usual(Optimizer::Sam, 1, 8);
//! let images: Vec<usize> = (0..data.train.len()).collect();
//! let mut trainer = Trainer::new(setting, &model, &recipe, &images, &[1], &[])?;
//! while !trainer.is_done() {
//!     trainer.submit_step()?;
//! }
//! println!("training accuracy {:.1} %", 100.0 * trainer.progress_wait()?[0].accuracy);
//! # Ok(())
//! # }
//! ```
//!
//! The repository's `examples` train a network of one's own and run a search inside a program.
//!
//! # Failure modes
//!
//! Every fallible function returns [`Error`]. What to expect:
//!
//! - [`Error::Adapter`]: there is no adapter, or none of that name. The text says which package brings one.
//! - [`Error::Memory`]: a tensor or a plan does not fit. Training never splits a batch; take a smaller one.
//! - [`Error::NotFinite`]: the loss left the finite numbers. It is noticed at the end of an epoch.
//! - [`Error::Gpu`]: the driver failed. Faults arrive after the call that caused them; [`gpu::Gpu::check`] hands them out. A device
//!   that was reset because work took too long is lost for good; [`gpu::Options::max_submit`] makes submissions shorter.
//! - [`Error::Cancelled`]: the observer asked to stop. What was finished is saved, and the same folder resumes.
//! - [`Error::Invalid`], [`Error::Shape`], [`Error::File`]: wrong arguments or input, with what would be right.
//!
//! The engine blocks only in functions whose name has `wait` in it; the loops around them, [`train::job::run`] and
//! [`search::run::search`], block too. Shaders run without bounds checks, which [`gpu::Options::checked`] turns back on;
//! offsets are checked when a plan is compiled.

pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod corrupt;
pub mod data;
pub mod error;
#[cfg(feature = "onnx")]
pub mod export;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod measure;
pub mod nn;
pub mod philox;
pub mod progress;
pub mod reference;
pub mod report;
pub mod search;
pub mod selftest;
pub mod shader;
pub mod space;
pub mod train;

pub use error::{Error, Result};
