//! The engine on an adapter: every operation against the f64 reference, the planner, and what a training step is for.

#[path = "../common/mod.rs"]
mod common;

mod adversarial;
mod kernels;
mod planner;
mod sharpness;
