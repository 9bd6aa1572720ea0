//! Every shader on every platform's compiler, without a GPU: parsed, validated, written as SPIR-V, MSL and HLSL, and
//! within the limits that any adapter has.

use std::collections::BTreeSet;

use altiplano::bench::tune::candidates;
use altiplano::graph::{Builder, Geometry, Graph, Op, Shape, Statistics};
use altiplano::kernels::{KERNELS, Kernel, Lowering, Preset, permutations};
use altiplano::nn::nas_bench_201::{Network, Supernet};
use altiplano::nn::{Model, darts};
use altiplano::shader::{Record, Variant, names, validate};
use altiplano::space::Space;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::Macro;
use altiplano::train::step::{Optimizer, StepOptions, Update, build};
use naga::back::{hlsl, msl, spv};
use naga::{AddressSpace, Module, valid::ModuleInfo};

/// Storage bindings that every adapter has.
const STORAGE_BINDINGS: usize = 8;
/// Bytes of workgroup memory that every adapter has.
const WORKGROUP_BYTES: u32 = 16_384;
/// Invocations of a workgroup that every adapter has.
const INVOCATIONS: u32 = 256;
/// Slabs that a pool may offer.
const POOLS: [i64; 2] = [1, 4];
/// Shaders whose last bindings are a pool.
const POOLED: [&str; 3] = ["combine", "gather", "global_norm"];

/// All presets with all tiles that tuning may choose, with and without shared loads of weights.
fn presets() -> Vec<Preset> {
    let both = |preset: Preset| [preset, Preset { broadcast: !preset.broadcast, ..preset }];
    [Preset::CPU, Preset::GPU].into_iter().flat_map(candidates).flat_map(both).collect()
}

fn sizes(channels: usize, cells: usize) -> Macro {
    Macro { channels, cells, in_channels: 3, height: 32, width: 32, classes: 10 }
}

/// A training step with an optimiser, or an evaluation.
fn graph(model: &dyn Model, optimizer: Option<Optimizer>) -> Graph {
    let statistics = if optimizer.is_some() { Statistics::Batch { update: true } } else { Statistics::Running };
    let update = optimizer.map(|optimizer| Update { optimizer, clip: true, ..Update::default() });
    let options = StepOptions { batch: 32, statistics, smoothing: 0.0, update, gradients: update.is_some() };
    build(model, &options).unwrap().graph
}

fn networks() -> Vec<Graph> {
    let arch = |codes: &str| Network::new(codes.parse().unwrap(), sizes(16, 1));
    let (a, b, supernet) = (arch("303141"), arch("234321"), Supernet { sizes: sizes(16, 1) });
    // Channels that are no multiple of four begin amid a block where they are put side by side.
    let sizes = darts::Sizes {
        channels: 6,
        cells: 3,
        norms_behind_pools: true,
        imagenet: false,
        auxiliary: 0.0,
        input: [32, 32, 3],
        classes: 10,
    };
    let codes = Darts.parse("3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,1,0,0,5,0,7").unwrap();
    let cells = darts::Network { genotype: (&codes).try_into().unwrap(), sizes };
    let models: [&dyn Model; 4] = [&a, &b, &supernet, &cells];
    let optimizers = [None, Some(Optimizer::Sgd), Some(Optimizer::Sam), Some(Optimizer::Asam)];
    models.into_iter().flat_map(|model| optimizers.map(|optimizer| graph(model, optimizer))).collect()
}

/// Convolutions of other spaces, with both gradients.
fn convolutions() -> Graph {
    let mut builder = Builder::new();
    let square = Geometry::square;
    for (geometry, [c, k]) in [
        (square(5, 1, 2), [6, 9]),
        (square(7, 2, 3), [3, 24]),
        (Geometry { dilation: 2, ..square(5, 1, 4) }, [16, 16]),
        (Geometry { r: 1, s: 7, ..square(1, 1, 3) }, [8, 8]),
        (Geometry { r: 7, s: 1, ..square(1, 2, 0) }, [8, 8]),
        (Geometry { groups: 16, ..square(7, 1, 3) }, [16, 16]),
        (Geometry { groups: 3, ..square(3, 2, 1) }, [9, 6]),
    ] {
        let Geometry { r, s, groups, .. } = geometry;
        let x = builder.temporary(Shape::map(4, 41, 41, c));
        let (p, q) = geometry.output(41, 41).unwrap();
        let y = builder.temporary(Shape::map(4, p, q, k));
        let w = builder.temporary(Shape::Filter { r, s, c: c / groups, k, groups });
        builder.push(Op::Conv { x, w, bias: None, y, geometry, relu: true });
        builder.push(Op::ConvInput { dy: y, w, dx: x, geometry });
        builder.push(Op::ConvFilter { x, dy: y, dw: w, geometry, relu: true });
    }
    builder.finish()
}

/// Variants of a graph, those with a pool once for each of its sizes.
fn lowered(graph: &Graph, preset: Preset) -> BTreeSet<Variant> {
    let calls = Lowering::of(graph, preset).calls.into_iter();
    calls
        .flat_map(|call| match call.pool.is_empty() {
            true => vec![call.variant],
            false => POOLS.map(|size| call.variant.clone().with("POOL", size)).into(),
        })
        .collect()
}

fn all_variants() -> BTreeSet<Variant> {
    let mut all: BTreeSet<Variant> = permutations().unwrap().into_iter().collect();
    for preset in presets() {
        networks().iter().for_each(|graph| all.extend(lowered(graph, preset)));
        all.extend(lowered(&convolutions(), preset));
    }
    all
}

/// Writes a module for one platform; none may refuse it or write nothing.
fn write(variant: &Variant, module: &Module, info: &ModuleInfo) {
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let words = spv::write_vec(module, info, &options, None).unwrap_or_else(|e| panic!("{variant}: SPIR-V: {e}"));
    assert!(words.len() > 100, "{variant}: SPIR-V");

    let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
    let text = msl::write_string(module, info, &options, &msl::PipelineOptions::default());
    let (text, _) = text.unwrap_or_else(|e| panic!("{variant}: MSL: {e}"));
    assert!(text.contains("kernel void"), "{variant}: MSL");

    let number = hlsl::BindTarget { register: 100, ..hlsl::BindTarget::default() };
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        special_constants_binding: Some(number),
        immediates_target: Some(hlsl::BindTarget { register: 101, ..hlsl::BindTarget::default() }),
        ..hlsl::Options::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
    written.unwrap_or_else(|e| panic!("{variant}: HLSL: {e}"));
    assert!(text.contains("numthreads"), "{variant}: HLSL");
}

#[test]
fn every_variant_compiles_for_every_platform() {
    let all = all_variants();
    for variant in &all {
        let (module, info) = validate(variant).unwrap_or_else(|e| panic!("{e}"));
        write(variant, &module, &info);
    }
    println!("{} variants of {} shaders", all.len(), names().count());
    assert!(all.len() > 100);
}

/// Storage bindings, bytes of workgroup memory, invocations.
fn needs(variant: &Variant) -> (usize, u32, u32) {
    let (module, _) = validate(variant).unwrap();
    let of = |space: AddressSpace| {
        let same = move |s: AddressSpace| std::mem::discriminant(&s) == std::mem::discriminant(&space);
        module.global_variables.iter().filter(move |(_, v)| same(v.space)).map(|(_, v)| v)
    };
    let storage = of(AddressSpace::Storage { access: naga::StorageAccess::empty() }).count();
    let workgroup = of(AddressSpace::WorkGroup).map(|v| module.types[v.ty].inner.size(module.to_ctx())).sum();
    let invocations = module.entry_points.iter().map(|e| e.workgroup_size.iter().product()).max().unwrap();
    (storage, workgroup, invocations)
}

/// With one slab in the pool; more slabs take more bindings, which a table beyond the smallest limits needs.
#[test]
fn every_variant_keeps_the_smallest_limits() {
    let mut beyond = vec![];
    for variant in all_variants() {
        let (storage, workgroup, invocations) = needs(&variant);
        assert!(storage >= 2, "{variant}: {storage} storage bindings");
        if storage > STORAGE_BINDINGS && variant.def("POOL") > 1 {
            println!("{variant} takes {storage} storage bindings");
        } else if storage > STORAGE_BINDINGS {
            beyond.push(format!("{variant}: {storage} storage bindings"));
        }
        if workgroup > WORKGROUP_BYTES {
            beyond.push(format!("{variant}: {workgroup} bytes of workgroup memory"));
        }
        if invocations > INVOCATIONS {
            beyond.push(format!("{variant}: {invocations} invocations"));
        }
    }
    assert!(
        beyond.is_empty(),
        "beyond {STORAGE_BINDINGS} bindings, {WORKGROUP_BYTES} bytes, {INVOCATIONS} invocations: {beyond:#?}"
    );
}

/// Some compilers round a number beyond the largest `f32` to it; Chrome's refuses it, as WGSL says.
#[test]
fn every_number_fits_its_type() {
    let largest = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let numbers = words.filter_map(|word| word.trim_end_matches(['f', 'u', 'i']).parse::<f64>().ok());
        numbers.filter(|number| number.is_finite()).fold(0.0, f64::max)
    };
    assert_eq!(largest("x1e9 = max(-3.4028235e38, f(4u))"), 3.4028235e38);
    for variant in all_variants() {
        let found = largest(&variant.wgsl().unwrap());
        assert!(found <= f64::from(f32::MAX), "{variant}: {found:e}");
    }
}

#[test]
fn every_shader_is_listed() {
    let listed: BTreeSet<&str> = permutations().unwrap().iter().map(|variant| variant.shader).collect();
    let missing: Vec<&str> = names().filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty(), "not in shaders/permutations: {missing:?}");
    for variant in permutations().unwrap() {
        assert_eq!(variant.def("POOL") > 0, POOLED.contains(&variant.shader), "{variant}");
    }
}

/// A listed variant must name the constants that its kernel gives: none may be missing or forgotten.
#[test]
fn listed_constants_are_those_of_the_kernels() {
    let known: Vec<Variant> = presets()
        .into_iter()
        .flat_map(|preset| networks().into_iter().chain([convolutions()]).flat_map(move |g| lowered(&g, preset)))
        .collect();
    for variant in permutations().unwrap() {
        let of_shader: BTreeSet<&str> =
            known.iter().filter(|v| v.shader == variant.shader).flat_map(|v| v.defs.keys().copied()).collect();
        let unknown: Vec<&&str> = variant.defs.keys().filter(|name| !of_shader.contains(*name)).collect();
        assert!(of_shader.is_empty() || unknown.is_empty(), "{variant}: no kernel sets {unknown:?}");
    }
}

/// Each shader has one kernel; what it says of constants is of constants that there are, and a chosen one leaves bits alone or is
/// written down as one that does not.
#[test]
fn every_shader_has_one_kernel() {
    for name in names() {
        let own: Vec<&Kernel> = KERNELS.iter().copied().flatten().filter(|kernel| kernel.shader == name).collect();
        assert_eq!(own.len(), 1, "{name}");
        assert_eq!(own[0].records[0].name, Record::ROW, "{name}");
        let listed: Vec<Variant> = permutations().unwrap().into_iter().filter(|v| v.shader == name).collect();
        for free in own[0].free {
            assert!(listed.iter().any(|variant| variant.defs.contains_key(free)), "{name} has no constant {free}");
        }
        // Fields that no accessor is used for would be words for nothing.
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shaders/{name}.wgsl"));
        let text = std::fs::read_to_string(path).unwrap();
        for (field, _) in own[0].records[0].fields {
            let stem = field.trim_end_matches(|c: char| c.is_ascii_digit());
            assert!(
                text.contains(&format!("row.{field}")) || text.contains(&format!("row.{stem}${{")),
                "{name}: {field}"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_computes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut seen = BTreeSet::new();
    for path in [folder.clone(), folder.join("shared")].iter().flat_map(|f| std::fs::read_dir(f).unwrap()) {
        let path = path.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wgsl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display();
        assert!(text.starts_with("// "), "{name} has no header");
        assert!(text.lines().all(|line| line.len() <= 160), "{name} has a line of more than 160 characters");
        // Sums by float atomics come in any order; nothing here needs another kind either.
        assert!(!text.contains("atomic"), "{name} uses atomics");
        if path.parent() == Some(&folder) {
            let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
            for part in ["task row:", "grid:"] {
                assert!(header.iter().any(|line| line.contains(part)), "{name} does not say `{part}` in its header");
            }
            seen.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    let known: BTreeSet<String> = names().map(str::to_owned).collect();
    assert_eq!(seen, known, "files in shaders/ and shaders known to the crate");
}

/// Pipelines of a step are few: constants are shapes, and shapes repeat, so five cells need no more than one.
#[test]
fn pipelines_are_few() {
    let network = Network::new("333333".parse().unwrap(), sizes(16, 5));
    let mixed = Network::new("324113".parse().unwrap(), sizes(16, 5));
    let supernet = Supernet { sizes: sizes(16, 5) };
    let models: [(&str, &dyn Model, [usize; 3]); 3] = CAPS.map(|(name, caps)| {
        let model: &dyn Model = match name {
            "all 3x3" => &network,
            "mixed" => &mixed,
            _ => &supernet,
        };
        (name, model, caps)
    });
    for preset in [Preset::CPU, Preset::GPU] {
        for (name, model, caps) in models {
            for (optimizer, cap) in [None, Some(Optimizer::Sgd), Some(Optimizer::Sam)].into_iter().zip(caps) {
                let graph = graph(model, optimizer);
                let variants: BTreeSet<Variant> =
                    Lowering::of(&graph, preset).calls.into_iter().map(|call| call.variant).collect();
                println!("{name}, {}, {optimizer:?}: {} pipelines", preset.name, variants.len());
                assert!(variants.len() <= cap, "{name}, {}, {optimizer:?}: {}", preset.name, variants.len());
            }
        }
    }
}

/// Caps for an evaluation, a step of SGD, a step of SAM: a tenth above 23, 63, 64 and 30, 82, 83 and 29, 77, 81. Sums are
/// specialised by the classes of their terms and by channels, which costs pipelines and saves branches.
const CAPS: [(&str, [usize; 3]); 3] = [("all 3x3", [25, 69, 70]), ("mixed", [33, 90, 91]), ("supernet", [32, 85, 89])];
