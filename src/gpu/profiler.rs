//! Time stamps around dispatches.

use super::{Gpu, ReadBack, read_back};
use crate::error::Result;

/// Passes of one query set: two stamps each, and a set has at most 4,096.
const PASSES: usize = 2048;

/// Time of one dispatch.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The shader.
    pub label: &'static str,
    /// Seconds on the device.
    pub seconds: f64,
}

pub(super) struct Profile {
    device: wgpu::Device,
    /// As many sets as there have to be.
    queries: Vec<wgpu::QuerySet>,
    labels: Vec<&'static str>,
}

impl Profile {
    /// `None` if the device has no time stamps.
    pub(super) fn new(device: &wgpu::Device) -> Option<Self> {
        let has = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        has.then(|| Profile { device: device.clone(), queries: vec![], labels: vec![] })
    }

    /// Stamps for the next pass.
    pub(super) fn next(&mut self, label: &'static str) -> wgpu::ComputePassTimestampWrites<'_> {
        let number = self.labels.len();
        if number == self.queries.len() * PASSES {
            let count = 2 * PASSES as u32;
            let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
            self.queries.push(self.device.create_query_set(&descriptor));
        }
        self.labels.push(label);
        let index = 2 * (number % PASSES) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries[number / PASSES],
            beginning_of_pass_write_index: Some(index),
            end_of_pass_write_index: Some(index + 1),
        }
    }

    pub(super) fn resolve(self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) -> Resolved {
        let bytes = self.labels.len().max(1) as u64 * 16;
        let resolved = gpu.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("time stamps"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        for (number, set) in self.queries.iter().enumerate() {
            let passes = (self.labels.len() - number * PASSES).min(PASSES);
            encoder.resolve_query_set(set, 0..2 * passes as u32, &resolved, (number * PASSES) as u64 * 16);
        }
        let copy = read_back::staging(gpu, bytes);
        encoder.copy_buffer_to_buffer(&resolved, 0, copy.buffer(), 0, bytes);
        Resolved { labels: self.labels, copy }
    }
}

pub(super) struct Resolved {
    labels: Vec<&'static str>,
    copy: ReadBack,
}

impl Resolved {
    pub(super) fn read(self, gpu: &Gpu) -> Result<Vec<Timing>> {
        self.copy.map();
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&self.copy.wait()?);
        let period = f64::from(gpu.0.queue.get_timestamp_period()) * 1e-9;
        let times = self.labels.iter().zip(stamps.chunks(2));
        Ok(times.map(|(label, s)| Timing { label, seconds: s[1].saturating_sub(s[0]) as f64 * period }).collect())
    }
}
