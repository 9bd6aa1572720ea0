//! `altiplano bench` from outside: what stands in its JSON, one's own kernel, the shaders as files, and bad input.

use serde_json::Value;

use crate::program::Scratch;

const KERNEL: &str = "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> scale: vec4<f32>;

@compute @workgroup_size(8, 4)
fn twice(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 32u + lane;
    y[i] = 2.0 * x[i] + 0.0 * scale;
}
";

/// Whether all of `names` are finite numbers above zero in an object.
#[track_caller]
fn positive(value: &Value, names: &[&str]) {
    for name in names {
        let number = value[*name].as_f64();
        assert!(number.is_some_and(|n| n.is_finite() && n > 0.0), "{name} in {value:#}");
    }
}

const RATES: [&str; 8] = ["median_ms", "min_ms", "max_ms", "gigabytes", "gbs", "copy_share", "dispatches", "encode_ms"];

#[test]
fn figures_stand_in_json() {
    let scratch = Scratch::new();
    let files = ["--out", "r.json", "--plot", "r.svg"];
    let items = ["bench", "--json", "--samples", "1", "--item", "fwd_c64_s8_k3,bwd_dw32_s16_k5"];
    let report = scratch.json(&[&items[..], &files].concat());
    let ceiling = &report["ceiling"];
    positive(ceiling, &["gflops", "gbs", "copied_bytes", "cached_gbs", "cached_bytes", "encode_us", "write_us"]);
    positive(ceiling, &["gap_us", "gap_alternating_us", "gap_reading_us"]);
    assert!(ceiling["stamps"].is_boolean() && ceiling["cached_bytes"].as_u64() < ceiling["copied_bytes"].as_u64());
    for key in ["version", "adapter", "driver", "backend", "preset"] {
        assert!(report[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
    assert_eq!(report["complete"], true);
    let lines = report["lines"].as_array().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fwd_c64_s8_k3", "bwd_dw32_s16_k5"]);
    for line in lines {
        positive(line, &RATES);
        positive(line, &["gflops", "share", "flops_per_byte", "compile_ms"]);
        assert_eq!((&line["suite"], &line["shape"], &line["writes"]), (&"items".into(), &"batch 32".into(), &0.into()));
        assert!(line["check"].as_array().is_some_and(|check| !check.is_empty()), "{line}");
        if ceiling["stamps"] == true {
            positive(line, &["device_ms"]);
        }
        let clock = if line["device_ms"].is_number() { "device_ms" } else { "median_ms" };
        // A rate is work over time, and a share is a rate over its ceiling.
        let number = |name: &str| line[name].as_f64().unwrap();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(near(number("gbs"), number("gigabytes") / number(clock) * 1e3), "{line}");
        assert!(near(number("copy_share"), number("gbs") / ceiling["gbs"].as_f64().unwrap()), "{line}");
        assert!(near(number("share"), number("gflops") / ceiling["gflops"].as_f64().unwrap()), "{line}");
    }
    // 32 images of 8x8 with 64 channels in and out, and the weights.
    let bytes = 4.0 * (2.0 * 32.0 * 64.0 * 64.0 + 9.0 * 64.0 * 64.0);
    assert!((lines[0]["gigabytes"].as_f64().unwrap() * 1e9 - bytes).abs() < 0.5);
    let written: Value = serde_json::from_slice(&std::fs::read(scratch.path("r.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let svg = std::fs::read_to_string(scratch.path("r.svg")).unwrap();
    assert!(svg.contains("fwd_c64_s8_k3") && svg.matches("<circle").count() == 2, "{svg}");
    // What is there is not replaced unless told so.
    scratch.bad(2, &[&items[..], &files].concat(), &["r.json", "--force"]);
}

#[test]
fn populations_stand_beside_single_networks() {
    let scratch = Scratch::new();
    let report = scratch.json(&["bench", "--json", "--samples", "1", "--suite", "population", "--budget", "30"]);
    let lines = report["lines"].as_array().unwrap();
    assert!(lines.len() >= 4, "{report:#}");
    for line in lines {
        positive(line, &["median_ms"]);
        if line["gflops"].is_number() {
            positive(line, &RATES);
            // A submission takes a write at most, and none if the host has set nothing new; each runs some dispatches.
            assert!(line["writes"].as_u64() < line["dispatches"].as_u64(), "{line}");
        }
    }
    let population = &lines[1];
    assert!(population["name"].as_str().unwrap().contains("noise draws as one population"), "{population}");
    positive(population, &["ratio"]);
    assert!(lines[0]["ratio"].is_null());
}

#[test]
fn a_kernel_of_ones_own_is_timed() {
    let scratch = Scratch::new();
    scratch.write("k.wgsl", KERNEL);
    let args =
        ["bench", "--json", "--samples", "1", "--wgsl", "k.wgsl", "--grid", "128", "--buffer", "64k", "64k", "16"];
    let report = scratch.json(&[&args[..], &["--flops", "32768", "--bytes", "131072"]].concat());
    let kernel = &report["kernel"];
    positive(kernel, &["median_ms", "gflops", "gbs", "share", "copy_share"]);
    assert_eq!(
        (kernel["grid"].to_string(), kernel["interface"]["workgroup"].to_string()),
        ("[128,1,1]".into(), "[8,4,1]".into())
    );
    assert_eq!(kernel["interface"]["bindings"][2]["kind"], "uniform");
    // Twice the values between -1 and 1.
    let written = kernel["written"][0].as_f64().unwrap();
    assert!((0.9..1.1).contains(&written), "{kernel}");
    let text = scratch.good(&args.iter().copied().filter(|a| *a != "--json").collect::<Vec<_>>());
    assert!(text.contains("workgroups of [8,4,1] lanes") && !text.contains("NaN"), "{text}");
}

#[test]
fn a_kernel_that_cannot_run_is_refused() {
    let scratch = Scratch::new();
    scratch.write("k.wgsl", KERNEL);
    scratch.write("torn.wgsl", KERNEL.replace("x[i]", "x[i"));
    scratch.write("wrong.wgsl", KERNEL.replace("2.0 * x[i]", "2u * x[i]"));
    scratch.write("none.wgsl", "fn f() {}");
    scratch.write("gap.wgsl", KERNEL.replace("binding(2)", "binding(7)"));
    let many: String = (0..400)
        .map(|i| format!("@group(0) @binding({i}) var<storage, read> b{i}: array<u32>;\n"))
        .chain(["@compute @workgroup_size(1) fn f() {}".to_owned()])
        .collect();
    scratch.write("many.wgsl", many);
    scratch.write("lanes.wgsl", KERNEL.replace("workgroup_size(8, 4)", "workgroup_size(4096, 64)"));
    let hungry = KERNEL.replace("@compute", "var<workgroup> w: array<vec4<f32>, 1000000>;\n@compute");
    scratch.write("hungry.wgsl", hungry.replace("y[i] =", "w[lane] = x[i]; y[i] = w[lane] +"));
    // A software adapter ends a loop by itself after 65,535 turns, but not that of so many workgroups in time.
    let turns = "loop { y[i] += x[i]; if x[0].x > 9.0 { break; } } y[i] =";
    scratch.write("endless.wgsl", KERNEL.replace("y[i] =", turns));
    let sizes = ["64k", "64k", "16"];
    let with = |file: &'static str, grid: &'static str, sizes: &[&'static str]| {
        [&["bench", "--samples", "1", "--wgsl", file, "--grid", grid, "--buffer"], sizes].concat()
    };
    scratch.bad(2, &with("torn.wgsl", "1", &sizes), &["torn.wgsl", "wgsl:8:", "expected"]);
    scratch.bad(2, &with("wrong.wgsl", "1", &sizes), &["wrong.wgsl", "wgsl:8:"]);
    scratch.bad(2, &with("none.wgsl", "1", &sizes), &["one entry point"]);
    scratch.bad(2, &with("gap.wgsl", "1", &sizes), &["binding 7", "without gaps"]);
    scratch.bad(2, &with("lanes.wgsl", "1", &sizes), &["262144 lanes", "the adapter allows"]);
    scratch.bad(2, &with("hungry.wgsl", "1", &sizes), &["16000000 bytes of workgroup memory", "the adapter has"]);
    let all = vec!["16"; 400];
    scratch.bad(2, &with("many.wgsl", "1", &all), &["400 storage buffers", "the adapter offers"]);
    scratch.bad(2, &with("k.wgsl", "0", &sizes), &["--grid", "0; the adapter takes 1 to"]);
    scratch.bad(2, &with("k.wgsl", "1,70000000", &sizes), &["--grid", "70000000"]);
    scratch.bad(2, &with("k.wgsl", "1", &sizes[..2]), &["declares 3 buffers", "sizes of 2"]);
    scratch.bad(2, &with("k.wgsl", "1", &["64k", "64k", "8"]), &["--buffer", "8 bytes for binding 2", "at least 16"]);
    scratch.bad(2, &with("k.wgsl", "1", &["64k", "64k", "1g"]), &["--buffer", "for binding 2", "binds at most"]);
    scratch.bad(2, &with("k.wgsl", "1", &["64k", "64x", "16"]), &["--buffer", "64x"]);
    scratch.bad(2, &with("nothing.wgsl", "1", &sizes), &["nothing.wgsl is no file"]);
    let limit = ["--limit", "3"];
    scratch.good(&[&with("k.wgsl", "1", &sizes)[..], &limit].concat());
    scratch.bad(2, &with("k.wgsl", "1,2,3,4", &sizes), &["--grid"]);
    let endless = [&with("endless.wgsl", "60000", &sizes)[..], &limit].concat();
    scratch.bad(1, &endless, &["endless.wgsl", "did not end within 3 s"]);
}

#[test]
fn shaders_are_written_with_an_index() {
    let scratch = Scratch::new();
    let done = scratch.json(&["bench", "--json", "--shaders", "out"]);
    let index: Value = serde_json::from_slice(&std::fs::read(scratch.path("out/index.json")).unwrap()).unwrap();
    let variants = index["variants"].as_array().unwrap();
    assert_eq!(
        (done["variants"].as_u64(), index["preset"]["name"].as_str()),
        (Some(variants.len() as u64), Some("gpu"))
    );
    assert!(variants.len() > 50);
    for variant in variants {
        let file = variant["file"].as_str().unwrap();
        let words = std::fs::read(scratch.path(&format!("out/{file}.spv"))).unwrap();
        assert!(
            words.len() > 400 && words.len().is_multiple_of(4) && words.starts_with(&0x0723_0203u32.to_le_bytes()),
            "{file}"
        );
        let text = std::fs::read_to_string(scratch.path(&format!("out/{file}.wgsl"))).unwrap();
        assert!(text.contains("@compute") && !text.contains("${"), "{file}");
        assert!(variant["constants"].is_object() && variant["interface"]["workgroup"].is_array(), "{variant}");
        for used in variant["uses"].as_array().unwrap() {
            positive(used, &["workgroups"]);
            assert!(used["item"].is_string() && used["flops"].is_u64(), "{used}");
        }
    }
    // The processor's preset has other tiles.
    scratch.good(&["bench", "--shaders", "cpu", "--preset", "cpu"]);
    assert!(std::fs::read_to_string(scratch.path("cpu/index.json")).unwrap().contains("conv2d_filter_subgroup"));
    scratch.bad(2, &["bench", "--shaders", "out"], &["out exists"]);
    scratch.bad(2, &["bench", "--shaders", "new", "--preset", "tpu"], &["--preset", "tpu"]);
}

#[test]
fn wrong_requests_are_refused() {
    let scratch = Scratch::new();
    scratch.bad(2, &["bench", "--suite", "kernel"], &["--suite", "kernels"]);
    scratch.bad(2, &["bench", "--budget", "0"], &["--budget"]);
    scratch.bad(2, &["bench", "--samples", "1", "--item", "train_conv3_n0"], &["train_conv3_n0"]);
    scratch.bad(2, &["bench", "--suite", "machine", "--plot", "a.png"], &["--plot", ".svg"]);
    scratch.bad(2, &["bench", "--suite", "machine", "--out", "none/a.json"], &["--out", "none"]);
}
