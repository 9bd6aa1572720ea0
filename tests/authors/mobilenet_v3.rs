//! Networks of the elastic MobileNetV3: against PyTorch written from its description (`peers/mobilenet_v3_torch.py`), and subnets against
//! the supernet of its authors' code.

use std::path::Path;

use altiplano::graph::Statistics;
use altiplano::nn::space::{Build, Family, Options, Registry};
use altiplano::nn::tensors::{Named, Values};
use altiplano::train::single::run;
use altiplano::train::step::{Rates, StepOptions};
use safetensors::{Dtype, SafeTensors};

use crate::case::{json, tensors};
use crate::common;
use crate::hashed::{number, prepared, same_head, same_training};

fn family(side: usize, classes: usize, width: f64) -> Family {
    let mut options = Options::new();
    options.insert("smallest".into(), (side as i64).into());
    options.insert("step".into(), 4.into());
    options.insert("width".into(), width.into());
    let build = Build { form: "ofa".into(), image: [side; 2], in_channels: 3, classes, options };
    Registry::default().open("mobilenet-v3", build).unwrap()
}

#[test]
fn networks_equal_pytorch() {
    let cases: Vec<_> = common::golden_cases("mobilenet_v3");
    assert!(cases.len() >= 2);
    for case in cases {
        println!("{}", case.display());
        let info = json(&Path::join(&case, "case.json"));
        let family = family(number(&info, "side"), number(&info, "classes"), info["width"].as_f64().unwrap());
        let network = family.network(&family.parse(info["arch"].as_str().unwrap()).unwrap()).unwrap();
        let training = prepared(&*network, &info, Statistics::Batch { update: true });
        // The momentum of running statistics, 0.1, is rounded to f32.
        same_training(&training.in_f64(), &info, [1e-8, 1e-8]);
        same_training(&training.on_device(), &info, [1e-4, 1e-3]);
        let evaluation = prepared(&*network, &info, Statistics::Running);
        for (found, tolerance) in [(evaluation.in_f64(), 1e-9), (evaluation.on_device(), 1e-4)] {
            let [own] = &found.heads[..] else { panic!("{} heads", found.heads.len()) };
            same_head(own, &info["eval"], "", tolerance);
        }
    }
}

/// A file in which large tensors are bytes, times a number beside them.
fn unpacked(path: &Path) -> Named {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let wide = |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data()) };
    let mut named = Named::new();
    for (name, view) in file.iter() {
        let data = match view.dtype() {
            Dtype::F32 if !name.ends_with("#scale") => wide(name),
            Dtype::I8 => {
                let scale = wide(&format!("{name}#scale"))[0];
                view.data().iter().map(|&byte| f32::from(byte as i8) * scale).collect()
            }
            _ => continue,
        };
        named.insert(name.to_owned(), Values { dims: view.shape().to_vec(), data });
    }
    named
}

#[test]
fn subnets_equal_the_authors_supernet() {
    let cases: Vec<_> = common::golden_cases("ofa");
    if cases.is_empty() {
        println!("skipped: there is no folder `ofa` with reference cases");
    }
    cases.iter().for_each(|folder| subnets_equal(folder));
}

fn subnets_equal(folder: &Path) {
    let (info, scalars) = (json(&folder.join("case.json")), json(&folder.join("scalars.json")));
    let theirs = unpacked(&folder.join("weights.safetensors"));
    let (batch, want) = (tensors(folder, "batch"), tensors(folder, "logits"));
    for (subnet, counts) in info["subnets"].as_array().unwrap().iter().zip(scalars["subnets"].as_array().unwrap()) {
        let name = subnet["name"].as_str().unwrap();
        for side in [64, 96] {
            let family = family(side, 10, 1.0);
            let list = |key: &str| subnet[key].clone();
            let text = serde_json::json!({"ks": list("ks"), "e": list("e"), "d": list("d")}).to_string();
            let arch = family.parse(&text).unwrap();
            let cost = family.cost(&arch).unwrap();
            let macs = &counts["per_resolution"][side.to_string()]["macs_conv_linear"];
            assert_eq!((Some(cost.params), Some(cost.macs)), (counts["params"].as_u64(), macs.as_u64()), "{name}");
            let own = family.cut(&theirs, &arch).unwrap().unwrap();
            for block in [1, 2] {
                let filter = &own[&format!("blocks.{block}.conv.depth_conv.conv.weight")];
                let want = &want[&format!("active_dw_filter.{name}.block{block}")];
                assert_eq!(filter.dims, want.dims);
                let far = filter.data.iter().zip(&want.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far <= 1e-6, "{name}, block {block}: {far:e}");
            }
            let images = &batch[&format!("x{side}")];
            let labels = Values { dims: vec![images.dims[0]], data: vec![0.0; images.dims[0]] };
            let given = Named::from([("x".to_owned(), images.clone()), ("y".to_owned(), labels)]);
            let statistics = Statistics::Running;
            let options =
                StepOptions { batch: images.dims[0], statistics, smoothing: 0.0, update: None, gradients: false };
            let network = family.network(&arch).unwrap();
            let (gpu, preset) = (common::gpu(), common::preset());
            let found = run(gpu, preset, &*network, &options, &Rates::default(), &own, &given).unwrap();
            let want = &want[&format!("logits.{name}.r{side}")];
            for (got, want) in found.tensors["logits"].data.iter().zip(&want.data) {
                assert!((got - want).abs() <= 1e-4 * 0.3, "{name} at {side}: {got} is not {want}");
            }
        }
    }
}
