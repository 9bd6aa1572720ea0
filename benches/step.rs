//! Criterion's view of the items of `altiplano bench`: the device is awaited once per sample, inside the timed part.

use std::time::Duration;

use altiplano::bench::items::{Item, names};
use altiplano::gpu::{Gpu, Options};
use altiplano::kernels::Preset;
use criterion::{Criterion, criterion_group, criterion_main};

fn items(criterion: &mut Criterion) {
    let gpu = match Gpu::open_wait(&Options::default()) {
        Ok(gpu) => gpu,
        Err(error) => {
            eprintln!("nothing can be timed: {error}");
            return;
        }
    };
    let preset = Preset::for_adapter(gpu.report());
    let mut group = criterion.benchmark_group(gpu.report().name.clone());
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    // What fills a GPU takes seconds a step on a software adapter.
    let software = gpu.report().is_software();
    let long = |name: &str| ["_n5", "_b128", "resnet50"].iter().any(|part| name.contains(part));
    for name in names().iter().filter(|name| !software || !long(name)) {
        match Item::build(&gpu, preset, name) {
            Ok(item) => {
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|repetitions| {
                        Duration::from_secs_f64(item.time(repetitions as usize).expect("the device runs"))
                    });
                });
            }
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    group.finish();
}

criterion_group!(benches, items);
criterion_main!(benches);
