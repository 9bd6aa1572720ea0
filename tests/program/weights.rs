//! Weights that come from elsewhere: what is taken, what is said of it, and what is refused.

use std::collections::BTreeMap;

use altiplano::nn::tensors::{Named, Values, load, to_bytes};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::program::{ARCH, Scratch, short};

/// A trained network in `first/`, with its metadata.
fn trained(scratch: &Scratch) -> (Named, BTreeMap<String, String>) {
    scratch.good(&short("first", &["--quiet"]));
    load(&scratch.path("first/best.safetensors")).unwrap()
}

#[test]
fn what_fits_is_inherited_and_counted() {
    let scratch = Scratch::new();
    let (named, metadata) = trained(&scratch);
    let all = named.len();
    let go_on = |file: &str, out: &str| scratch.run(&short(out, &["--from", file]));
    let whole = go_on("first/best.safetensors", "whole");
    assert!(
        whole.code == 0 && whole.stderr.contains(&format!("{all} of {all} tensors inherited\n")),
        "{}",
        whole.stderr
    );
    // From scratch it would be something else.
    assert_ne!(scratch.read("whole/best.safetensors"), scratch.read("first/best.safetensors"));

    for prefix in ["module.", "_orig_mod.module."] {
        let wrapped = named.iter().map(|(name, values)| (format!("{prefix}{name}"), values.clone())).collect();
        scratch.write("wrapped.safetensors", to_bytes(&wrapped, metadata.clone()).unwrap());
        let out = prefix.trim_end_matches('.');
        let output = go_on("wrapped.safetensors", out);
        assert!(output.code == 0 && output.stderr.contains("the prefix `module.` of a wrapper"), "{}", output.stderr);
        assert_eq!(scratch.read(&format!("{out}/best.safetensors")), scratch.read("whole/best.safetensors"));
    }

    let mut part = named.clone();
    part.remove("stem.0.weight").unwrap();
    part.insert("more".into(), Values { dims: vec![1], data: vec![0.0] });
    scratch.write("part.safetensors", to_bytes(&part, metadata.clone()).unwrap());
    let output = go_on("part.safetensors", "part");
    let line = format!("{} of {all} tensors inherited, missing: stem.0.weight; the file has 1 more", all - 1);
    assert!(output.code == 0 && output.stderr.contains(&line), "{}", output.stderr);

    let other: Named = named.into_iter().map(|(name, values)| (format!("net.{name}"), values)).collect();
    scratch.write("other.safetensors", to_bytes(&other, metadata).unwrap());
    scratch.bad(2, &short("none", &["--from", "other.safetensors"]), &["other.safetensors", "none of its", "net."]);
}

#[test]
fn other_types_are_converted_and_other_files_named() {
    let scratch = Scratch::new();
    let (named, metadata) = trained(&scratch);
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = named
        .iter()
        .map(|(name, v)| {
            let bytes = v.data.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
            (name.clone(), v.dims.clone(), bytes)
        })
        .collect();
    let views = halves.iter().map(|(n, dims, b)| (n.as_str(), TensorView::new(Dtype::BF16, dims.clone(), b).unwrap()));
    let bytes = safetensors::serialize(views, Some(metadata.into_iter().collect())).unwrap();
    scratch.write("half.safetensors", bytes);
    let judge = |file: &str, options: &[&str]| {
        scratch.run(
            &[&["evaluate", "--json", "--data", "digits", "--corruptions", "none", "--model", file], options].concat(),
        )
    };
    let clean = |output: &crate::program::Output| -> Value {
        assert_eq!(output.code, 0, "{}", output.stderr);
        serde_json::from_str::<Value>(&output.stdout).unwrap()["clean"].clone()
    };
    let whole = judge("first/best.safetensors", &[]);
    let half = judge("half.safetensors", &[]);
    let note = format!("{} tensors of type BF16 were converted to F32", named.len());
    assert!(half.stderr.contains(&note), "{}", half.stderr);
    let (a, b) = (clean(&whole)["loss"].as_f64().unwrap(), clean(&half)["loss"].as_f64().unwrap());
    assert!(a != b && (a / b - 1.0).abs() < 0.05, "{a} {b}");

    // The same numbers without a word about what they are.
    scratch.write("bare.safetensors", to_bytes(&named, BTreeMap::new()).unwrap());
    let described = judge("bare.safetensors", &["--space", "nas-bench-201", "--arch", ARCH]);
    assert_eq!(clean(&described), clean(&whole));
    let flatness = ["flatness", "--data", "digits", "--model", "bare.safetensors", "--draws", "1", "--images", "50"];
    scratch.good(&[&flatness[..], &["--arch", ARCH]].concat());
    scratch.bad(2, &flatness, &["bare.safetensors", "give --arch"]);
    let twice = ["evaluate", "--data", "digits", "--model", "first/best.safetensors", "--arch", ARCH];
    scratch.bad(2, &twice, &["--arch", "the model says that itself"]);
    let wrong = [
        "evaluate",
        "--data",
        "digits",
        "--model",
        "bare.safetensors",
        "--arch",
        &ARCH.replace("skip_connect~0", "nor_conv_3x3~0"),
    ];
    scratch.bad(2, &wrong, &["bare.safetensors", "missing: ", "is it the right architecture?"]);

    for (name, bytes) in [("a.pt", &b"PK\x03\x04 and more"[..]), ("b.pth", b"\x80\x02}q\x00.")] {
        scratch.write(name, bytes);
        scratch.bad(
            2,
            &short("out", &["--from", name]),
            &[name, "torch.load(", "safetensors.torch.save_file(", ".safetensors')"],
        );
    }
}

#[test]
fn classes_go_by_their_names() {
    let scratch = Scratch::new();
    scratch.image_folder("abc", &["a", "b", "c"], 12);
    scratch.image_folder("bcd", &["b", "c", "d"], 12);
    let train = |data: &'static str, out: &'static str| short(out, &["--data", data, "--batch", "8"]);
    scratch.good(&train("abc", "model"));
    let parts = ["only the model has a", "only the data has d"];
    for command in ["evaluate", "flatness"] {
        let args = [command, "--model", "model/best.safetensors", "--data"];
        scratch.good(&[&args[..], &["abc"]].concat());
        scratch.bad(2, &[&args[..], &["bcd"]].concat(), &parts);
    }
    let output = scratch.run(&[&train("bcd", "next")[..], &["--from", "model/best.safetensors"]].concat());
    assert!(output.code == 0 && output.stderr.contains("its classifier is not inherited"), "{}", output.stderr);
    assert!(output.stderr.contains("missing: classifier.bias, classifier.weight"), "{}", output.stderr);

    // The same classes in another order, as arrays can have them: the rows of the classifier follow.
    let (named, mut metadata) = load(&scratch.path("model/best.safetensors")).unwrap();
    let mut other = named.clone();
    for name in ["classifier.weight", "classifier.bias"] {
        let values = other.get_mut(name).unwrap();
        let row = values.data.len() / 3;
        values.data.rotate_right(row);
    }
    let card = metadata.get_mut("altiplano.card").unwrap();
    *card = card.replace(r#"["a","b","c"]"#, r#"["c","a","b"]"#);
    assert!(card.contains(r#""c","a""#), "{card}");
    scratch.write("turned.safetensors", to_bytes(&other, metadata).unwrap());
    let clean = |model: &str| {
        scratch.json(&["evaluate", "--json", "--quiet", "--corruptions", "none", "--data", "abc", "--model", model])["clean"].clone()
    };
    assert_eq!(clean("turned.safetensors"), clean("model/best.safetensors"));
}

#[test]
fn a_network_whose_loss_is_no_number_is_refused() {
    let scratch = Scratch::new();
    let (mut named, metadata) = trained(&scratch);
    let weights = &mut named.get_mut("classifier.weight").unwrap().data;
    weights.iter_mut().enumerate().for_each(|(i, v)| *v = if i % 2 == 0 { 3e38 } else { -3e38 });
    named.get_mut("lastact.0.bias").unwrap().data.fill(10.0);
    scratch.write("broken.safetensors", to_bytes(&named, metadata).unwrap());
    for command in [&["flatness"][..], &["evaluate", "--corruptions", "none"]] {
        let args = [command, &["--data", "digits", "--model", "broken.safetensors"]].concat();
        scratch.bad(2, &args, &["--model", "NaN"]);
    }
}
