//! What is measured on networks: loss and accuracy, batch-norm recalibration, weight noise and flatness, attacks,
//! scores of untrained ones.

pub mod attack;
pub mod corruption;
pub mod flatness;
pub mod forward;
pub mod noise;
pub mod zero_cost;

pub use forward::{Forward, Score, Subject};
