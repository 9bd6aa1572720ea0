//! Time stamps around dispatches.

use super::{Gpu, ReadBack, read_back};
use crate::error::Result;

/// Most dispatches of one profile: two stamps each, 4,096 stamps per query set.
const MOST: u32 = 2048;

/// Time of one dispatch.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The shader.
    pub label: &'static str,
    /// Seconds on the device.
    pub seconds: f64,
}

pub(super) struct Profile {
    queries: wgpu::QuerySet,
    labels: Vec<&'static str>,
}

impl Profile {
    /// `None` if the device has no time stamps.
    pub(super) fn new(device: &wgpu::Device) -> Option<Self> {
        device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| Profile {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * MOST,
            }),
            labels: vec![],
        })
    }

    /// Stamps for the next dispatch; none when the set is full.
    pub(super) fn next(&mut self, label: &'static str) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let index = self.labels.len() as u32;
        (index < MOST).then(|| {
            self.labels.push(label);
            wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(2 * index),
                end_of_pass_write_index: Some(2 * index + 1),
            }
        })
    }

    pub(super) fn resolve(self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) -> Resolved {
        let count = 2 * self.labels.len() as u32;
        let bytes = u64::from(count.max(1)) * 8;
        let resolved = gpu.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("time stamps"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&self.queries, 0..count, &resolved, 0);
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
