//! A card for people: Markdown with a head in YAML, as Hugging Face's pages of models have it.

use std::fmt::Write;

use serde_json::Value;

use crate::nn::card::ModelCard;
use crate::nn::count::Cost;

/// What a card tells of a network.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the model's file says of itself.
    pub card: &'a ModelCard,
    /// Rows, columns and channels of its images.
    pub input: [usize; 3],
    /// Parameters and multiply-adds.
    pub cost: Cost,
    /// The PyTorch module of the space's authors whose tensor names the file has, if there is one.
    pub module: Option<&'a str>,
    /// The file of weights.
    pub weights: &'a str,
    /// Whether it has tensors that only help training.
    pub has_more: bool,
    /// The ONNX file, if there is one.
    pub onnx: Option<&'a str>,
    /// The run that trained it, as its `result.json` tells it; see [`tells_of`].
    pub result: Option<&'a Value>,
}

/// Whether a `result.json` is that of the run which kept the network `arch` of `space`; whether this is that run's file of weights, who
/// calls must know.
pub fn tells_of(result: &Value, space: &str, arch: &str) -> bool {
    let finalists = result["finalists"].as_array().into_iter().flatten();
    let kept = finalists.into_iter().find(|finalist| finalist["kept"] == true);
    result["space"] == space && kept.map_or(&result["arch"], |kept| &kept["arch"]) == arch
}

/// A figure that a run measured: its type, what it is called, and its value.
struct Metric {
    kind: &'static str,
    name: String,
    value: f64,
}

/// The card.
pub fn markdown(facts: &Facts) -> String {
    let metrics = facts.result.map(metrics).unwrap_or_default();
    [head(facts, &metrics), network(facts), training(facts, &metrics), use_of(facts), code(facts)].join("\n")
}

/// Text as YAML takes it whatever is in it: JSON's strings are YAML's too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn dataset<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    facts.result.and_then(|result| result["dataset"].as_str())
}

fn metrics(result: &Value) -> Vec<Metric> {
    let own = &result["final"];
    let of = |name: &str| own[name].as_f64();
    let images = |name: &str| own[name].as_u64().map_or(String::new(), |count| format!(", {count} images"));
    let clean = of("clean_accuracy").map(|value| Metric {
        kind: "accuracy",
        name: format!("accuracy on test images{}", images("test_images")),
        value,
    });
    let corrupted = of("corruption_accuracy").map(|value| Metric {
        kind: "corruption_accuracy",
        name: format!("mean accuracy under 15 corruptions at 5 severities{}", images("corruption_images")),
        value,
    });
    clean.into_iter().chain(corrupted).collect()
}

fn head(facts: &Facts, metrics: &[Metric]) -> String {
    let ModelCard { space, .. } = facts.card;
    let mut text = String::from("---\n# Whose the weights are is for whoever trained them to say.\nlicense: other\n");
    text += "pipeline_tag: image-classification\ntags:\n- image-classification\n- neural-architecture-search\n- altiplano\n";
    let _ = writeln!(text, "- {}", quoted(space));
    if facts.onnx.is_some() {
        text += "- onnx\n";
    }
    if let (Some(dataset), false) = (dataset(facts), metrics.is_empty()) {
        let (name, dataset) = (quoted(facts.weights), quoted(dataset));
        let _ = writeln!(text, "model-index:\n- name: {name}\n  results:\n  - task:\n      type: image-classification");
        let _ = writeln!(text, "    dataset:\n      name: {dataset}\n      type: {dataset}\n    metrics:");
        for Metric { kind, name, value } in metrics {
            let _ = writeln!(text, "    - type: {kind}\n      name: {}\n      value: {value:.4}", quoted(name));
        }
    }
    text + "---\n"
}

fn network(facts: &Facts) -> String {
    let (ModelCard { space, arch, build, classes, .. }, [height, width, channels]) = (facts.card, facts.input);
    let mut text = format!("# `{arch}`\n\nA network for images of {height}x{width} with {channels} ");
    text += if channels == 1 { "channel" } else { "channels" };
    let _ = write!(text, " and {} classes, of the search space `{space}`", classes.len());
    let _ = writeln!(text, ".\n\n| | |\n|---|---|\n| architecture | `{}` |", arch.replace('|', "\\|"));
    let _ = writeln!(text, "| built as | {}; {} |", build.form, build.words());
    let _ =
        writeln!(text, "| parameters | {} |\n| multiply-adds of an image | {} |", facts.cost.params, facts.cost.macs);
    let _ = writeln!(text, "| classes | {} |", named(classes));
    let version = &facts.card.version;
    text + &format!("| made by | altiplano {version} |\n")
}

/// The names of classes; of many the first.
fn named(classes: &[String]) -> String {
    const LISTED: usize = 20;
    let first: Vec<String> = classes.iter().take(LISTED).map(|class| class.replace('|', "\\|")).collect();
    match classes.len() > LISTED {
        true => format!("{} and {} more", first.join(", "), classes.len() - LISTED),
        false => first.join(", "),
    }
}

fn training(facts: &Facts, metrics: &[Metric]) -> String {
    let Some(result) = facts.result else {
        return "## Training\n\nNo `result.json` of this network lay beside it, so nothing is known here of how it was trained.\n".into();
    };
    let own = &result["final"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = format!("## Training\n\nTrained on `{}`", text(&result["dataset"]));
    for (name, before) in
        [("optimizer", ", with "), ("epochs", ", epochs: "), ("training_images", ", training images: ")]
    {
        if !own[name].is_null() {
            let _ = write!(words, "{before}{}", text(&own[name]));
        }
    }
    let how = match result["method"].as_str() {
        None | Some("train") => "; the architecture was given".to_owned(),
        Some(method) => format!("; the architecture comes from a search (`{method}`)"),
    };
    let _ = writeln!(words, "{how}. Seed {}.", text(&result["seed"]));
    if !metrics.is_empty() {
        words += "\n| measured by the run itself | |\n|---|---|\n";
        for Metric { name, value, .. } in metrics {
            let _ = writeln!(words, "| {name} | {:.2} % |", 100.0 * value);
        }
    }
    words
}

fn use_of(facts: &Facts) -> String {
    let ModelCard { mean, std, .. } = facts.card;
    let [height, width, _] = facts.input;
    let cut = match facts.card.reading.has_sides() {
        false => String::new(),
        true => format!("Pictures were brought to one size before: {}. ", facts.card.reading.sides()),
    };
    format!(
        "## Use\n\nIt tells which of its classes an image of the kind that it was trained on shows. It gives an answer for any other image too, \
         so do not ask it about other kinds, and test it on images of your own before anything depends on it.\n\n{cut}Images are {height}x{width}, \
         values between 0 and 1, from which the mean {mean:?} is taken for each channel, and which are then divided by {std:?}. The logits \
         are no probabilities; a softmax makes them such.\n",
    )
}

fn code(facts: &Facts) -> String {
    let ModelCard { mean, std, .. } = facts.card;
    let module = facts.module.map_or_else(|| "the module of this architecture".to_owned(), str::to_owned);
    let (strict, more) = match facts.has_more {
        true => (", strict=False", " Tensors that only helped training are in the file too."),
        false => ("", ""),
    };
    let mut text = format!(
        "## In PyTorch\n\n`{weights}` holds plain tensors with PyTorch's names, axes and order.{more} The network is {module}.\n\n```python\n\
         from safetensors.torch import load_file\n\
         network.load_state_dict(load_file({name}){strict})\n\
         logits = network.eval()(images)\n```\n",
        weights = facts.weights,
        name = quoted(facts.weights),
    );
    if let Some(file) = facts.onnx {
        let _ = write!(
            text,
            "\n## With ONNX Runtime\n\n`pixels` are N, C, H, W between 0 and 1.\n\n```python\n\
             import numpy as np, onnxruntime\n\
             mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in ({mean:?}, {std:?}))\n\
             session = onnxruntime.InferenceSession({name}, providers=[\"CPUExecutionProvider\"])\n\
             logits = session.run([\"{output}\"], {{\"{input}\": ((pixels - mean) / std).astype(np.float32)}})[0]\n```\n",
            name = quoted(file),
            input = super::program::INPUT,
            output = super::program::OUTPUT,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_the_network_that_was_kept() {
        let trained = serde_json::json!({ "space": "s", "arch": "a" });
        assert!(tells_of(&trained, "s", "a") && !tells_of(&trained, "s", "b") && !tells_of(&trained, "t", "a"));
        let finalists = [serde_json::json!({ "arch": "a" }), serde_json::json!({ "arch": "b", "kept": true })];
        let searched = serde_json::json!({ "space": "s", "best": { "arch": "a" }, "finalists": finalists });
        assert!(tells_of(&searched, "s", "b") && !tells_of(&searched, "s", "a"));
        assert!(!tells_of(&Value::Null, "s", "a"));
    }
}
