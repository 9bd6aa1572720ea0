//! What is measured on networks: loss and accuracy, batch-norm recalibration, weight noise and flatness.

pub mod flatness;
pub mod forward;
pub mod noise;

pub use forward::{Forward, Score, Subject};
