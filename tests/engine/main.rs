//! The engine on an adapter: every operation against the f64 reference, the planner, what a training step is for, and what it
//! costs the host.

#[path = "../common/mod.rs"]
mod common;

mod adversarial;
mod best_epoch;
mod dropped;
mod elastic;
mod host;
mod judged;
mod kernels;
mod latency;
mod paths;
mod planner;
mod resized;
mod sharpness;
mod streamed;
