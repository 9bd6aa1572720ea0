//! altiplano

pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod error;
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
