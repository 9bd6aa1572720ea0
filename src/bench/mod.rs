//! Benchmarks that check what they time.
//!
//! [`work`] names pieces of work that other frameworks run too; [`items`] are these on a device, with check values to compare;
//! [`suites`] time them and hold them against the adapter's own [`ceiling`]; [`populations`] stand beside single networks.
//! [`tune`] looks for tiles that suit one adapter better than its preset's, and [`tuning`] keeps them in a file.

pub mod catalogue;
pub mod ceiling;
pub mod corruptions;
mod elastic;
pub mod items;
pub mod kernel;
pub mod populations;
mod streaming;
pub mod suites;
pub mod tune;
pub mod tuning;
pub mod work;

use std::time::Instant;

use crate::error::Result;
use crate::gpu::Gpu;

/// Seconds of `repetitions` runs, the device awaited once at the end.
pub(crate) fn timed(gpu: &Gpu, repetitions: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    gpu.wait()?;
    let start = Instant::now();
    for _ in 0..repetitions {
        run()?;
    }
    gpu.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Median, smallest and largest time of one run in milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Spread {
    /// Median.
    pub median_ms: f64,
    /// Smallest.
    pub min_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Spread {
    /// Of times in seconds.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN) * 1e3;
        Spread {
            median_ms: at(seconds.len() / 2),
            min_ms: at(0),
            max_ms: at(seconds.len().saturating_sub(1)),
            samples: seconds.len(),
        }
    }
}
