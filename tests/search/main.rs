//! Searches: from outside, interrupted and resumed, in tables, and with a surrogate that learns on the device.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "cli")]
#[path = "../common/program.rs"]
mod program;

#[cfg(feature = "cli")]
mod compare;
#[cfg(feature = "cli")]
mod flatnas;
#[cfg(feature = "cli")]
mod goes_on;
#[cfg(feature = "cli")]
mod kept;
#[cfg(feature = "cli")]
mod killed;
#[cfg(feature = "cli")]
mod own_space;
#[cfg(feature = "cli")]
mod proxy;
mod resume;
mod surrogate_mlp;
#[cfg(feature = "cli")]
mod truth;
