//! What is measured on networks: loss and accuracy, batch-norm recalibration, weight noise and flatness, attacks.

pub mod attack;
pub mod corruption;
pub mod flatness;
pub mod forward;
pub mod noise;

pub use forward::{Forward, Score, Subject};
