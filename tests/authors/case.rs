//! Golden cases as they lie on the disk.

use std::path::Path;

use altiplano::nn::nas_bench_201::Network;
use altiplano::nn::tensors::{Named, load};
use altiplano::nn::{Model, darts};
use altiplano::space::Space;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::{Cell, Macro};
use serde_json::Value;

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tensors of `NAME.safetensors` in a case's folder.
pub fn tensors(case: &Path, name: &str) -> Named {
    load(&case.join(format!("{name}.safetensors"))).unwrap().0
}

/// The architecture and sizes of a case whose images have these axes (N, C, H, W).
pub fn network(info: &Value, images: &[usize]) -> (Cell, Macro) {
    let size = |name: &str| info[name].as_u64().unwrap() as usize;
    let &[_, in_channels, height, width] = images else { panic!("{images:?}") };
    let (channels, cells, classes) = (size("C"), size("N"), size("num_classes"));
    let sizes = Macro { channels, cells, in_channels, height, width, classes };
    (info["arch"].as_str().unwrap().parse().unwrap(), sizes)
}

/// The network of a case, of whichever space.
pub fn model(info: &Value, images: &[usize]) -> Box<dyn Model> {
    if info["genotype"].is_null() {
        let (cell, sizes) = network(info, images);
        return Box::new(Network::new(cell, sizes));
    }
    let size = |name: &str| info[name].as_u64().unwrap() as usize;
    let genotype = Darts.parse(&info["genotype"].to_string()).unwrap();
    Box::new(darts::Network {
        genotype: (&genotype).try_into().unwrap(),
        sizes: darts::Sizes {
            channels: size("C"),
            cells: size("layers"),
            norms_behind_pools: false,
            imagenet: false,
            auxiliary: 0.0,
            input: [images[2], images[3], images[1]],
            classes: size("num_classes"),
        },
    })
}

pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}
