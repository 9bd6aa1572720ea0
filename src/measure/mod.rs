//! What is measured on networks: loss and accuracy, batch-norm recalibration, weight noise and flatness, attacks,
//! scores of untrained ones; and what trained ones are worth on test images.

pub mod angle;
pub mod attack;
pub mod best_epoch;
pub mod corruption;
pub mod flatness;
pub mod forward;
pub mod inheritance;
pub mod judge;
pub mod judged;
pub mod landscape;
pub mod latency;
pub mod mistakes;
pub mod noise;
pub mod population;
pub mod side_by_side;
pub mod trial;
pub mod zero_cost;

pub use forward::{Forward, Score, Subject};
