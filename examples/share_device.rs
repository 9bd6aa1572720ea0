//! The engine on a device that a program already has: the program's own shader and the training take turns on one queue.
//!
//! ```text
//! cargo run --release --example share_device
//! ```

use altiplano::data::load;
use altiplano::error::{Error, Result};
use altiplano::gpu::{Gpu, wgpu};
use altiplano::kernels::Preset;
use altiplano::nn::nas_bench_201::Network;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Recipe, Setting, Trainer};

const NUMBERS: u32 = 1024;
/// The program's own work: a counter in each place.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read_write> numbers: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    numbers[id.x] += id.x;
}
";

fn failed(doing: &str) -> impl Fn(&dyn std::fmt::Display) -> Error + '_ {
    move |why| Error::Gpu { doing: doing.into(), adapter: "the program's own".into(), why: why.to_string() }
}

/// A device as a program opens one, with what the engine needs besides: immediates.
fn open() -> Result<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .map_err(|error| failed("looking for an adapter")(&error))?;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: wgpu::Features::IMMEDIATES,
        required_limits: wgpu::Limits { max_immediate_size: 8, ..wgpu::Limits::default() },
        ..wgpu::DeviceDescriptor::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| failed("opening the device")(&error))
}

/// The program's own pipeline, its memory, and what binds them.
struct Own {
    pipeline: wgpu::ComputePipeline,
    numbers: wgpu::Buffer,
    bindings: wgpu::BindGroup,
}

impl Own {
    fn new(device: &wgpu::Device) -> Result<Self> {
        // A program whose own `wgpu` has the feature `wgsl` takes the text as it is.
        let module = naga::front::wgsl::parse_str(SHADER).map_err(|error| failed("reading the shader")(&error))?;
        let source = wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let numbers = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * u64::from(NUMBERS),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: numbers.as_entire_binding() }],
        });
        Ok(Own { pipeline, numbers, bindings })
    }

    /// Counts once.
    fn submit(&self, device: &wgpu::Device, queue: &wgpu::Queue) {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(NUMBERS / 64, 1, 1);
        drop(pass);
        queue.submit([encoder.finish()]);
    }

    /// What it has counted, waiting for all that was submitted.
    fn read_wait(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<u32>> {
        let copy = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: self.numbers.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.numbers, 0, &copy, 0, self.numbers.size());
        queue.submit([encoder.finish()]);
        copy.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| failed("waiting")(&error))?;
        let view = copy.slice(..).get_mapped_range().map_err(|error| failed("reading")(&error))?;
        Ok(bytemuck::cast_slice(&view).to_vec())
    }
}

fn main() -> Result<()> {
    let (device, queue) = open()?;
    let own = Own::new(&device)?;
    // Cheap clones of the same device: the engine opens none of its own.
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone(), false)?;
    println!("adapter: {} ({})", gpu.report().name, gpu.report().driver);

    let data = load("digits")?;
    let images = &data.train;
    let sizes = Macro { channels: 8, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
    let model = Network::new("303101".parse()?, sizes);
    let statistics = images.channel_statistics()?;
    let supply = Supply::new(&gpu, images)?;
    let setting =
        Setting { gpu: &gpu, preset: Preset::for_adapter(gpu.report()), data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 32, ..Recipe::usual(Optimizer::Sgd, 2, images.height) };
    let indices: Vec<usize> = (0..images.len()).collect();
    let mut trainer = Trainer::new(setting, &model, &recipe, &indices, &[1], &[])?;
    let mut counted = 0;
    while !trainer.is_done() {
        trainer.submit_step()?;
        own.submit(&device, &queue);
        counted += 1;
    }
    let progress = trainer.progress_wait()?[0];
    let numbers = own.read_wait(&device, &queue)?;
    let right = numbers.iter().zip(0..).all(|(number, place)| *number == counted * place);
    println!("{counted} steps: loss {:.3}, accuracy {:.1} %", progress.loss, 100.0 * progress.accuracy);
    println!("the program's own shader ran between them: {}", if right { "all right" } else { "wrong" });
    match right {
        true => Ok(()),
        false => Err(failed("counting")(&"the shader's numbers are wrong")),
    }
}
