//! Searches: from outside, interrupted and resumed, in tables, and with a surrogate that learns on the device.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "cli")]
#[path = "../common/program.rs"]
mod program;

#[cfg(feature = "cli")]
mod compare;
#[cfg(feature = "cli")]
mod elastic;
#[cfg(feature = "cli")]
mod fitness;
#[cfg(feature = "cli")]
mod flatnas;
#[cfg(feature = "cli")]
mod goes_on;
#[cfg(feature = "cli")]
mod kept;
#[cfg(feature = "cli")]
mod killed;
#[cfg(feature = "cli")]
mod latency;
#[cfg(feature = "cli")]
mod memory;
#[cfg(feature = "cli")]
mod own_space;
#[cfg(feature = "cli")]
mod proxy;
#[cfg(feature = "cli")]
mod report;
mod resume;
mod surrogate_mlp;
#[cfg(feature = "cli")]
mod truth;
#[cfg(feature = "cli")]
mod watch;

/// A search of seconds, whose sizes are in `small.toml`; without arms and epochs.
#[cfg(feature = "cli")]
const SMALL_CROZE: [&str; 16] = [
    "search",
    "--quiet",
    "--data",
    "digits",
    "--config",
    "small.toml",
    "--method",
    "croze",
    "--channels",
    "4",
    "--pool",
    "4",
    "--attacks",
    "",
    "--evaluations",
    "6",
];
