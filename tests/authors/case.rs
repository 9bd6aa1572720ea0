//! Golden cases as they lie on the disk.

use std::path::Path;

use altiplano::nn::tensors::{Named, load};
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

pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}
