//! Networks for other programs: an exported file, run in `f64`, says what the network says in the reference interpreter.

use std::collections::BTreeMap;

use altiplano::data::ChannelStatistics;
use altiplano::export::{Exported, onnx};
use altiplano::graph::store::Contents;
use altiplano::graph::{
    CustomCall, CustomOp, Geometry, Graph, Init, Role, Shape, Statistics, TensorId, Term, TermKind, Value, Window,
};
use altiplano::nn::card::ModelCard;
use altiplano::nn::space::{Family, ImageInfo, Purpose, Registry};
use altiplano::nn::tensors::{Named, Values, load, to_bytes, to_logical};
use altiplano::nn::{Heads, Layers, Model};
use altiplano::philox::Stream;
use altiplano::reference::{self, Memory};
use altiplano::space::Arch;

use crate::onnx::{File, Tensor};
use crate::program::{Scratch, short};

/// A network's graph for so many images, and where its images and logits are.
fn graph(model: &dyn Model, images: usize) -> (Graph, [TensorId; 2]) {
    let mut layers = Layers::new(Statistics::Running).unwrap();
    let (x, _) = layers.batch(images, model.input()).unwrap();
    let logits = model.forward(&mut layers, x).unwrap().logits;
    (layers.builder.finish(), [x, logits])
}

/// Weights as large as keeps values in range, and norms that do something.
fn filled(graph: &Graph, seed: u64) -> Named {
    let contents = Contents::of(graph, &[Role::Weights, Role::Running]).unwrap();
    let mut stream = Stream::new(seed, 7, 0);
    let mut tensor = |name: &str, dims: &[usize]| {
        let fan_in = dims[1..].iter().product::<usize>() as f64;
        let mut value = || {
            let u = 2.0 * stream.uniform() - 1.0;
            match name {
                _ if dims.len() > 1 => (6.0 / fan_in).sqrt() * u,
                _ if name.ends_with("running_var") => 1.0 + 0.7 * u,
                _ if name.ends_with("bias") || name.ends_with("running_mean") => 0.3 * u,
                _ => 1.0 + 0.5 * u,
            }
        };
        Values { dims: dims.to_vec(), data: (0..dims.iter().product()).map(|_| value() as f32).collect() }
    };
    contents.entries.iter().map(|(name, entry)| (name.clone(), tensor(name, &entry.info.dims))).collect()
}

fn images(count: usize, [h, w, c]: [usize; 3], seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 8, 0);
    (0..count * h * w * c).map(|_| (3.0 * stream.uniform() - 1.5) as f32).collect()
}

/// What the reference interpreter says.
fn expected(model: &dyn Model, named: &Named, count: usize, images: &[f32]) -> Vec<f64> {
    let (graph, [x, logits]) = graph(model, count);
    let mut memory = Memory::new(&graph);
    let wide = |shape: Shape, values: &[f32]| to_logical(shape, values).into_iter().map(f64::from).collect();
    for role in [Role::Weights, Role::Running] {
        for (id, info) in graph.persistent(role) {
            memory.set(id, wide(graph.shape(id), &named[&info.name].data)).unwrap();
        }
    }
    memory.set(x, wide(graph.shape(x), images)).unwrap();
    reference::run(&graph, &[], &mut memory).unwrap();
    memory.get(logits).to_vec()
}

#[track_caller]
fn same(found: &[f64], expected: &[f64]) {
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    assert!(largest > 1e-3 && found.len() == expected.len(), "{expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * largest, "{found} in place of {expected}, largest {largest}");
    }
}

/// Exports a network and holds the file against the interpreter, for one image and for three; the file with its norms kept.
#[track_caller]
fn checked(model: &dyn Model, card: &ModelCard, seed: u64) -> [(Exported, File); 2] {
    let named = filled(&graph(model, 1).0, seed);
    [false, true].map(|fold| {
        let exported = onnx(model, &named, card, fold).unwrap();
        let file = File::read(exported.bytes.clone());
        for count in [1, 3] {
            let pixels = images(count, model.input(), seed + count as u64);
            let [h, w, c] = model.input();
            let wide = Tensor::new(&[count, c, h, w], pixels.iter().copied().map(f64::from).collect());
            same(&file.run(&wide).data, &expected(model, &named, count, &pixels));
        }
        assert_eq!(exported.operators, file.operators.values().sum::<usize>());
        assert_eq!(exported.norms, file.operators.get("BatchNormalization").copied().unwrap_or(0));
        if !fold {
            // Every tensor of the network that is read stands in the file as it is in the network's own.
            let own = named.iter().filter_map(|(name, values)| Some((values, file.constants.get(name)?)));
            let own: Vec<_> = own.collect();
            assert!(own.len() >= 2);
            assert!(own.iter().all(|(values, own)| {
                values.dims == own.dims && values.data.iter().zip(&own.data).all(|(a, b)| f64::from(*a) == *b)
            }));
        }
        (exported, file)
    })
}

fn build(space: &str, form: &str, side: usize, options: &[(&str, toml::Value)]) -> Family {
    let registry = Registry::default();
    let info = ImageInfo { height: side, width: side, channels: 3, classes: 5 };
    let mut build = registry.get(space).unwrap().defaults(Purpose::Training, &info);
    build.form = form.into();
    for (name, value) in options {
        build.options.insert((*name).into(), value.clone()).unwrap();
    }
    registry.open(space, build).unwrap()
}

fn card(family: &Family, arch: &Arch) -> ModelCard {
    let classes: Vec<String> = (0..family.build.classes).map(|class| format!("class {class}")).collect();
    let channels = family.build.in_channels;
    let statistics = ChannelStatistics { mean: vec![0.25; channels], std: vec![0.5; channels] };
    ModelCard::of(family, arch, &classes, &statistics)
}

/// So many networks of a family at random.
#[track_caller]
fn random(family: &Family, count: u64) -> Vec<[(Exported, File); 2]> {
    let mut stream = Stream::new(11, 9, 0);
    let one = |seed| {
        let arch = family.sample(&mut stream).unwrap();
        println!("{}", family.show(&arch));
        checked(&*family.network(&arch).unwrap(), &card(family, &arch), seed)
    };
    (0..count).map(one).collect()
}

fn sizes(channels: i64, cells: i64) -> Vec<(&'static str, toml::Value)> {
    vec![("channels", channels.into()), ("cells", cells.into())]
}

#[test]
fn nas_bench_201() {
    for form in ["tiny", "zero-cost-nas"] {
        let family = build("nas-bench-201", form, 8, &sizes(6, 1));
        random(&family, 6);
        for arch in ["000000", "111111", "444444", "303132", "100003"] {
            let Ok(arch) = family.parse(arch) else { continue };
            let [_, (folded, _)] = checked(&*family.network(&arch).unwrap(), &card(&family, &arch), 3);
            // What is in front of the last norm is a sum.
            assert_eq!(folded.norms, 1, "{}", family.show(&arch));
        }
    }
}

#[test]
fn darts() {
    for (form, side) in [("cifar", 12), ("search", 8), ("imagenet", 32)] {
        random(&build("darts", form, side, &sizes(4, 3)), 3);
    }
    // The auxiliary head is none of the network's.
    let mut options = sizes(4, 3);
    options.push(("auxiliary", 0.4.into()));
    let files = random(&build("darts", "cifar", 32, &options), 1);
    assert!(files[0][0].1.constants.keys().all(|name| !name.contains("auxiliary")));
}

#[test]
fn cells_of_14_inputs() {
    for (form, side) in [("cifar", 12), ("imagenet", 32)] {
        for [(kept, _), (folded, _)] in random(&build("darts-14", form, side, &sizes(4, 3)), 3) {
            assert!(folded.norms < kept.norms);
        }
    }
}

#[test]
fn mobilenet_v3() {
    for form in ["ofa", "unpadded"] {
        let family = build("mobilenet-v3", form, 32, &[("width", 0.25.into()), ("smallest", 16.into())]);
        for [(kept, file), (folded, _)] in random(&family, 2) {
            assert!(file.operators["HardSwish"] > 10 && file.operators["HardSigmoid"] > 3);
            // Each norm stands behind a convolution that nothing else reads.
            assert!(kept.norms > 30 && folded.norms == 0);
        }
    }
}

/// What networks of the spaces have not: a layer on a row, windows that count zeros, maps moved and taken apart, layers of larger tensors.
struct Odd;

impl Model for Odd {
    fn input(&self) -> [usize; 3] {
        [7, 5, 3]
    }

    fn classes(&self) -> usize {
        4
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
        let wide = Geometry { r: 3, s: 1, dilation: 2, ..Geometry::square(3, 2, 2) };
        let a = layers.conv_with("a", x.into(), 8, wide, true)?;
        let a = layers.batch_norm_of("norm", a, false, 12)?;
        let a = layers.relu(a);
        let b = layers.part_of_conv("b", a, [[8, 4], [8, 12]], true)?;
        let b = layers.relu(b.into());
        let b = layers.builder.materialise(b);
        let counted = Window { kernel: 3, stride: 1, padding: 1, count_include_pad: true };
        let averages = layers.builder.avg_pool("averages", b.into(), counted)?;
        let shape = layers.builder.shape(b);
        let moved = |by| Term::new(b, TermKind::Moved { by });
        let mut terms = vec![moved([-1, 1, 0]), moved([1, -1, 2]), moved([0, 0, -3]), moved([9, 0, 0])];
        terms.push(layers.builder.term(averages));
        let b = layers.builder.sum(shape, terms);
        let product = layers.builder.sum(shape, vec![Term::new(b, TermKind::Product { b })]);
        let pooled = layers.builder.global_avg_pool(product.into());
        let row = layers.linear("row", pooled, 4)?;
        let gated = layers.builder.gated_by("gates", product.into(), row)?;
        let gated = layers.builder.materialise(gated);
        let swished = layers.builder.hard_swish(gated.into());
        let pooled = layers.builder.global_avg_pool(swished);
        let hidden = layers.linear("hidden", pooled, 6)?;
        let hidden = layers.relu(hidden.into());
        Ok(layers.linear("last", Value { tensor: hidden.tensor, ..hidden }, 4)?.into())
    }
}

fn any_card() -> ModelCard {
    let family = build("nas-bench-201", "tiny", 8, &sizes(4, 1));
    card(&family, &family.smallest())
}

#[test]
fn networks_of_ones_own() {
    checked(&Odd, &any_card(), 5);
    // One whose logits are a map, and one that answers with what it is asked.
    struct Plain(bool);
    impl Model for Plain {
        fn input(&self) -> [usize; 3] {
            [1, 1, 4]
        }
        fn classes(&self) -> usize {
            4
        }
        fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
            let y = layers.relu(x.into());
            Ok(if self.0 { layers.builder.materialise(y) } else { x }.into())
        }
    }
    for rectified in [true, false] {
        let exported = onnx(&Plain(rectified), &Named::new(), &any_card(), true).unwrap();
        let pixels = [1.0, -2.0, 3.0, -4.0];
        let found = File::read(exported.bytes).run(&Tensor::new(&[1, 4, 1, 1], pixels.to_vec()));
        assert_eq!(found.data, pixels.map(|value| if rectified { value.max(0.0) } else { value }));
    }
}

/// An operation of one's own.
#[derive(Debug)]
struct Sine;

impl CustomOp for Sine {
    fn name(&self) -> &'static str {
        "sine"
    }

    fn wgsl(&self) -> &'static str {
        "#import task
        @group(0) @binding(1) var<storage, read_write> xs: array<vec4<f32>>;
        @group(0) @binding(2) var<storage, read_write> ys: array<vec4<f32>>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let row = rows[0]; ys[row.y + id.x] = sin(xs[row.x + id.x]);
        }"
    }

    fn outputs(&self, inputs: &[Shape]) -> altiplano::Result<Vec<Shape>> {
        Ok(inputs.to_vec())
    }

    fn call(&self, inputs: &[Shape], _outputs: &[Shape]) -> CustomCall {
        CustomCall { workgroups: inputs[0].vec4s().div_ceil(64), ..CustomCall::default() }
    }

    fn reference(&self, inputs: &[(Shape, &[f64])]) -> altiplano::Result<Vec<Vec<f64>>> {
        Ok(vec![inputs[0].1.iter().map(|x| x.sin()).collect()])
    }
}

/// Networks that cannot be exported.
enum Bad {
    Custom,
    Codes,
    Choice,
    Batch,
    Computed,
}

impl Model for Bad {
    fn input(&self) -> [usize; 3] {
        [4, 4, 4]
    }

    fn classes(&self) -> usize {
        4
    }

    fn forward(&self, layers: &mut Layers, x: TensorId) -> altiplano::Result<Heads> {
        let y = match self {
            Bad::Custom => layers.builder.custom(std::sync::Arc::new(Sine), &[x])?[0],
            Bad::Codes => {
                layers.builder.sign_codes(x);
                x
            }
            Bad::Choice => {
                let choice = layers.choice("one", 2);
                layers.builder.gated(x, altiplano::graph::Guard::new(choice, 1))
            }
            Bad::Batch => {
                layers.statistics = Statistics::Batch { update: false };
                let y = layers.batch_norm("norm", x, false)?;
                layers.builder.materialise(y)
            }
            Bad::Computed => {
                let shape = Shape::Filter { r: 1, s: 1, c: 4, k: 4, groups: 1 };
                let w = layers.weight("w", shape, Init::Identity, &[4, 4, 1, 1])?;
                let doubled = layers.builder.sum(shape, vec![Term::new(w, TermKind::Plain); 2]);
                layers.builder.conv("twice", x.into(), doubled, None, Geometry::square(1, 1, 0))?
            }
        };
        Ok(layers.builder.global_avg_pool(y.into()).into())
    }
}

#[test]
fn what_cannot_be_exported_is_named() {
    let named = |model: &dyn Model| filled(&graph(model, 1).0, 1);
    for (model, why) in [
        (Bad::Custom, "sine"),
        (Bad::Codes, "SignCodes"),
        (Bad::Choice, "choices"),
        (Bad::Batch, "without running statistics"),
        (Bad::Computed, "cannot be exported"),
    ] {
        let error = onnx(&model, &named(&model), &any_card(), false).unwrap_err().to_string();
        assert!(error.contains(why) && error.lines().count() == 1, "{why}: {error}");
    }
    let whole = named(&Odd);
    for (edit, why) in [
        (&(|named: &mut Named| drop(named.remove("row.bias"))) as &dyn Fn(&mut Named), "row.bias"),
        (&|named| named.get_mut("a.weight").unwrap().dims = vec![8, 9], "a.weight"),
        (&|named| named.get_mut("a.weight").unwrap().data[2] = f32::NAN, "must be finite"),
    ] {
        let mut part = whole.clone();
        edit(&mut part);
        let error = onnx(&Odd, &part, &any_card(), false).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

/// A file that a training wrote: what the program makes of it.
#[test]
fn a_trained_model_becomes_files() {
    let scratch = Scratch::new();
    scratch.good(&short("run", &["--quiet"]));
    let export = ["export", "run/best.safetensors", "--onnx", "net.onnx"];
    let answer = scratch.json(&[&export[..], &["--card", "card.md", "--json"]].concat());
    assert_eq!((&answer["opset"], &answer["classes"], &answer["file"]), (&17.into(), &10.into(), &"net.onnx".into()));
    let file = File::read(scratch.read("net.onnx"));
    assert_eq!((file.opset, file.producer.as_str()), (17, "altiplano"));
    let weights = altiplano::nn::weights::Weights::read(&scratch.path("run/best.safetensors")).unwrap();
    let card = ModelCard::read(&weights).unwrap();
    let list = |key: &str| -> Vec<f64> { serde_json::from_str(&file.metadata[key]).unwrap() };
    assert_eq!((list("mean"), list("std")), (card.mean.clone(), card.std.clone()));
    assert_eq!(list("input_size"), [1.0, 8.0, 8.0]);
    assert_eq!(serde_json::from_str::<Vec<String>>(&file.metadata["classes"]).unwrap(), card.classes);
    assert_eq!((&file.metadata["space"], &file.metadata["architecture"]), (&card.space, &card.arch));
    assert_eq!(file.metadata["producer"], format!("altiplano {}", env!("CARGO_PKG_VERSION")));

    // As `step` has it on the adapter, in f32.
    let pixels = images(3, [8, 8, 1], 4);
    let batch = Named::from([
        ("x".to_owned(), Values { dims: vec![3, 1, 8, 8], data: pixels.clone() }),
        ("y".to_owned(), Values { dims: vec![3], data: vec![0.0; 3] }),
    ]);
    scratch.write("batch.safetensors", to_bytes(&batch, BTreeMap::new()).unwrap());
    let step = ["step", "--arch", &card.arch, "--weights", "run/best.safetensors", "--batch", "batch.safetensors"];
    scratch.good(&[&step[..], &["--out", "step.safetensors"]].concat());
    let logits = &load(&scratch.path("step.safetensors")).unwrap().0["logits"];
    let wide = Tensor::new(&[3, 1, 8, 8], pixels.into_iter().map(f64::from).collect());
    let own: Vec<f64> = logits.data.iter().copied().map(f64::from).collect();
    same(&file.run(&wide).data, &own);

    let folded = scratch.json(&[&export[..], &["--fold", "--force", "--json"]].concat());
    assert!(folded["norms"].as_u64() < answer["norms"].as_u64());
    same(&File::read(scratch.read("net.onnx")).run(&wide).data, &own);

    let card = String::from_utf8(scratch.read("card.md")).unwrap();
    let accuracy = serde_json::from_slice::<serde_json::Value>(&scratch.read("run/result.json")).unwrap();
    let accuracy = format!("{:.4}", accuracy["final"]["clean_accuracy"].as_f64().unwrap());
    for part in [
        "---\n",
        "license: other",
        "nas-bench-201",
        &accuracy,
        "load_file(\"best.safetensors\")",
        "net.onnx",
        "TinyNetwork",
    ] {
        assert!(card.contains(part), "{part} is not in:\n{card}");
    }
    // The result of another network says nothing of this one.
    // Another file beside it, of the same architecture, may be of another training.
    scratch.write("run/other.safetensors", scratch.read("run/best.safetensors"));
    scratch.good(&["export", "run/other.safetensors", "--card", "other.md"]);
    assert!(!String::from_utf8(scratch.read("other.md")).unwrap().contains("model-index"));
    scratch.write("run/result.json", "{ \"arch\": \"other\" }");
    scratch.good(&["export", "run/best.safetensors", "--card", "bare.md"]);
    let bare = String::from_utf8(scratch.read("bare.md")).unwrap();
    assert!(!bare.contains("model-index") && !bare.contains("onnx"), "{bare}");
}

#[test]
fn bad_input_leaves_nothing() {
    let scratch = Scratch::new();
    let family = build("nas-bench-201", "tiny", 8, &sizes(4, 1));
    let arch = family.smallest();
    let named = filled(&graph(&*family.network(&arch).unwrap(), 1).0, 1);
    let metadata = card(&family, &arch).metadata().unwrap();
    scratch.write("model.safetensors", to_bytes(&named, metadata.clone()).unwrap());
    scratch.write("bare.safetensors", to_bytes(&named, BTreeMap::new()).unwrap());
    let mut part = named.clone();
    part.remove("stem.0.weight");
    scratch.write("part.safetensors", to_bytes(&part, metadata.clone()).unwrap());
    let alien: BTreeMap<String, String> =
        metadata.iter().map(|(k, v)| (k.clone(), v.replace("nas-bench-201", "nas-bench-202"))).collect();
    scratch.write("alien.safetensors", to_bytes(&named, alien).unwrap());
    scratch.write("text.safetensors", "no tensors");
    scratch.write("there.onnx", "old");
    scratch.write("there.md", "old");
    let both = ["--onnx", "new.onnx", "--card", "new.md"];
    for (model, options, parts) in [
        ("none.safetensors", &both[..], &["none.safetensors"][..]),
        ("text.safetensors", &both, &["text.safetensors", "not a usable safetensors file"]),
        ("bare.safetensors", &both, &["bare.safetensors", "which network it is"]),
        ("part.safetensors", &both, &["part.safetensors", "missing: stem.0.weight"]),
        ("alien.safetensors", &both, &["alien.safetensors", "nas-bench-201", "does not suit"]),
        ("model.safetensors", &[], &["--onnx", "--card"]),
        ("model.safetensors", &["--onnx", "new.pb"], &["--onnx", "new.pb", ".onnx"]),
        ("model.safetensors", &["--onnx", "new.onnx", "--card", "new.txt"], &["--card", "new.txt", ".md"]),
        ("model.safetensors", &["--onnx", "there.onnx"], &["--onnx", "there.onnx exists", "--force"]),
        ("model.safetensors", &["--onnx", "new.onnx", "--card", "there.md"], &["--card", "there.md exists", "--force"]),
        ("model.safetensors", &["--onnx", "no/new.onnx"], &["--onnx", "does not exist"]),
    ] {
        scratch.bad(2, &[&["export", model][..], options].concat(), parts);
    }
    assert_eq!(scratch.read("there.onnx"), b"old");
    scratch.good(&["export", "model.safetensors", "--onnx", "there.onnx", "--card", "there.md", "--force"]);
    assert_ne!(scratch.read("there.onnx"), b"old");
    let first = scratch.read("there.onnx");
    scratch.good(&["export", "model.safetensors", "--onnx", "again.onnx"]);
    assert_eq!(scratch.read("again.onnx"), first);
}
