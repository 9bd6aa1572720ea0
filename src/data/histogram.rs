//! How often each value stands in each channel: what is said of all pixels of a set follows from it, whether they lie in memory or not.

use serde::Serialize;

/// Mean and population standard deviation of each channel, in units of pixel / 255.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelStatistics {
    /// One mean per channel.
    pub mean: Vec<f64>,
    /// One standard deviation per channel.
    pub std: Vec<f64>,
}

impl ChannelStatistics {
    /// The pixels of one image, channel behind channel in the last axis, as a network sees them: from 0 to 1, less the mean, divided by the
    /// deviation, one channel after the other.
    pub fn normalised(&self, pixels: &[u8]) -> Vec<f32> {
        let channel = |(channel, (mean, std)): (usize, (&f64, &f64))| {
            let own = pixels.iter().skip(channel).step_by(self.mean.len());
            own.map(|byte| ((f64::from(*byte) / 255.0 - mean) / std) as f32).collect::<Vec<_>>()
        };
        self.mean.iter().zip(&self.std).enumerate().flat_map(channel).collect()
    }
}

/// Counts of the 256 values, one list per channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Histograms(Vec<[u64; 256]>);

impl Histograms {
    /// Of no pixels.
    pub fn new(channels: usize) -> Self {
        Histograms(vec![[0; 256]; channels])
    }

    /// Of pixels whose channels lie side by side.
    pub fn of(channels: usize, pixels: &[u8]) -> Self {
        let mut all = Self::new(channels);
        for pixel in pixels.chunks_exact(channels.max(1)) {
            for (histogram, &value) in all.0.iter_mut().zip(pixel) {
                histogram[usize::from(value)] += 1;
            }
        }
        all
    }

    /// Adds those of other pixels with as many channels.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        pairs.for_each(|(own, more)| *own += more);
    }

    /// The values that there are, over all channels, ascending.
    pub fn values(&self) -> Vec<u8> {
        (0..=255).filter(|&value| self.0.iter().any(|histogram| histogram[usize::from(value)] > 0)).collect()
    }

    /// Mean and standard deviation of each channel; zeros when there are no pixels.
    pub fn statistics(&self) -> ChannelStatistics {
        let moments = |histogram: &[u64; 256]| {
            let count: u64 = histogram.iter().sum();
            if count == 0 {
                return (0.0, 0.0);
            }
            let average = |f: &dyn Fn(f64) -> f64| {
                let sum: f64 = histogram.iter().enumerate().map(|(v, &n)| f(v as f64 / 255.0) * n as f64).sum();
                sum / count as f64
            };
            let mean = average(&|v| v);
            (mean, average(&|v| (v - mean) * (v - mean)).sqrt())
        };
        let (mean, std) = self.0.iter().map(moments).unzip();
        ChannelStatistics { mean, std }
    }
}
