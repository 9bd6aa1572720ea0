//! Reading device memory as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::{Gpu, Part, lock};
use crate::error::{Error, Result};

/// Bytes on their way back. Await it after the recording was submitted, or call [`ReadBack::wait`].
#[derive(Clone)]
pub struct ReadBack {
    gpu: Gpu,
    buffer: wgpu::Buffer,
    bytes: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    result: Option<std::result::Result<(), String>>,
    waker: Option<Waker>,
}

pub(super) fn staging(gpu: &Gpu, bytes: u64) -> ReadBack {
    let descriptor = wgpu::BufferDescriptor {
        label: Some("read-back"),
        size: bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    };
    ReadBack { gpu: gpu.clone(), buffer: gpu.0.device.create_buffer(&descriptor), bytes, state: Arc::default() }
}

/// Most bytes that come back in one piece, unless a part alone is longer: more would save nothing, and the host has them twice
/// for a moment.
const PIECE: u64 = 64 << 20;

impl Gpu {
    /// The values of many parts (slab, first byte, bytes), waiting for them: one read-back, or as many as it takes.
    ///
    /// # Errors
    /// If a slab is not that long or the device fails.
    pub fn read_wait(&self, parts: &[Part]) -> Result<Vec<Vec<f32>>> {
        let mut values = Vec::with_capacity(parts.len());
        while let Some(rest) = parts.get(values.len()..).filter(|rest| !rest.is_empty()) {
            let ends = rest.iter().scan(0, |sum, part| {
                *sum += part.2;
                Some(*sum)
            });
            let piece = &rest[..ends.take_while(|end| *end <= PIECE).count().max(1)];
            let mut recorder = self.record();
            let read = recorder.read_all(piece)?;
            recorder.submit();
            let all = read.wait_mapped()?;
            let mut left = all.as_ref();
            for (_, _, bytes) in piece {
                let (own, more) = left.split_at((*bytes / 4) as usize);
                values.push(own.to_vec());
                left = more;
            }
        }
        Ok(values)
    }
}

impl ReadBack {
    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    pub(super) fn map(&self) {
        let state = self.state.clone();
        self.buffer.map_async(wgpu::MapMode::Read, .., move |result| {
            let mut state = lock(&state);
            state.result = Some(result.map_err(|e| e.to_string()));
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
    }

    /// Waits for the bytes.
    ///
    /// # Errors
    /// If the device fails.
    pub fn wait(self) -> Result<Vec<u8>> {
        self.gpu.wait()?;
        pollster::block_on(self)
    }

    /// Waits for the values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn wait_f32(self) -> Result<Vec<f32>> {
        Ok(self.wait_mapped()?.as_ref().to_vec())
    }

    /// Waits for the values, which stay where the driver put them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn wait_mapped(self) -> Result<Mapped> {
        self.gpu.wait()?;
        pollster::block_on(std::future::poll_fn(|context| self.poll_mapped(context)))?;
        let view = self.buffer.get_mapped_range(..).map_err(|e| self.failed(e.to_string()))?;
        let apart = bytemuck::try_cast_slice::<u8, f32>(&view).err().map(|_| bytemuck::pod_collect_to_vec(&view));
        Ok(Mapped { view, apart })
    }

    /// Whether the bytes are there.
    fn poll_mapped(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        // Callbacks run inside poll; there is no thread of ours that could do it.
        if let Err(why) = self.gpu.poll(wgpu::PollType::Poll) {
            return Poll::Ready(Err(self.failed(why)));
        }
        let mut state = lock(&self.state);
        match state.result.take() {
            Some(Ok(())) => Poll::Ready(self.gpu.check("reading back")),
            Some(Err(why)) => Poll::Ready(Err(self.failed(why))),
            None => {
                state.waker = Some(context.waker().clone());
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn take(&self) -> Result<Vec<u8>> {
        let bytes = self.buffer.get_mapped_range(..).map_err(|e| self.failed(e.to_string()))?.to_vec();
        self.buffer.unmap();
        Ok(bytes)
    }

    fn failed(&self, why: String) -> Error {
        self.gpu.fault(&format!("reading {} bytes back", self.bytes), why)
    }
}

impl Future for ReadBack {
    type Output = Result<Vec<u8>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_mapped(context).map(|mapped| mapped.and_then(|()| self.take()))
    }
}

/// Values that came back, in the driver's memory.
pub struct Mapped {
    view: wgpu::BufferView,
    /// A copy, where the driver's memory does not begin at a multiple of four.
    apart: Option<Vec<f32>>,
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        match &self.apart {
            Some(values) => values,
            None => bytemuck::cast_slice(&self.view),
        }
    }
}
