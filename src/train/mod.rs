//! Training.
pub mod adversarial;
pub mod feed;
pub mod job;
pub mod recipe;
pub mod schedule;
pub mod single;
pub mod step;
pub mod stores;
mod stream;
pub mod supernet;
pub mod supply;
pub mod trainer;
