//! Training.
pub mod adversarial;
pub mod feed;
pub mod job;
pub mod recipe;
pub mod schedule;
pub mod single;
pub mod step;
pub mod stores;
pub mod supernet;
pub mod trainer;
