//! Training.
pub mod schedule;
pub mod step;
pub mod single;
pub mod stores;
pub mod feed;
pub mod trainer;
pub mod job;
