//! Batch norms put into the convolutions before them: `s (w x + b - mean) + beta` is a convolution by `s w` with the bias
//! `s (b - mean) + beta`, where `s` is the norm's scale over the deviation.

use std::collections::HashMap;
use std::ops::Range;

use super::program::{Constant, Node, Numbers, Program};

/// What a norm does to a channel: times `scale`, and `shift` more.
#[derive(Clone, Copy)]
struct Affine {
    scale: f64,
    shift: f64,
}

/// A convolution with the channels of a norm that it gives.
struct Carrier {
    node: usize,
    channels: Range<usize>,
}

/// Folds the norms whose input comes from convolutions alone that nothing else reads; others stay.
pub(super) fn fold(program: &mut Program) {
    let norms: Vec<String> =
        program.nodes.iter().filter(|node| is_norm(node)).map(|node| node.output.clone()).collect();
    for norm in norms {
        let Some((node, affine)) = find(program, &norm) else { continue };
        let Some(carriers) = carriers(program, &node.inputs[0], affine.len()) else { continue };
        for carrier in carriers {
            apply(program, carrier.node, &affine[carrier.channels]);
        }
        program.redirect(&norm, &node.inputs[0]);
    }
    program.prune();
}

fn is_norm(node: &Node) -> bool {
    node.operator == "BatchNormalization"
}

/// The norm of this output, and what it does, if that stands in the file.
fn find(program: &Program, norm: &str) -> Option<(Node, Vec<Affine>)> {
    let node = program.nodes.iter().find(|node| node.output == norm)?;
    let epsilon = node.attributes.iter().find_map(|(name, value)| match value {
        super::program::Attribute::Float(value) if *name == "epsilon" => Some(f64::from(*value)),
        _ => None,
    })?;
    let vector = |input: usize| floats(program.constants.get(node.inputs.get(input)?)?);
    let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let channel = |c: usize| {
        let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + epsilon).sqrt();
        Affine { scale, shift: f64::from(beta[c]) - scale * f64::from(mean[c]) }
    };
    Some((node.clone(), (0..gamma.len()).map(channel).collect()))
}

fn floats(constant: &Constant) -> Option<&[f32]> {
    match &constant.numbers {
        Numbers::Floats(values) => Some(values),
        Numbers::Integers(_) => None,
    }
}

/// The convolutions that give `name`, one alone or several side by side, if all can take a norm of so many channels.
fn carriers(program: &Program, name: &str, channels: usize) -> Option<Vec<Carrier>> {
    let uses = program.uses();
    let producer = |name: &str| {
        let node = program.nodes.iter().position(|node| node.output == name)?;
        (uses.get(name) == Some(&1)).then_some(node)
    };
    let node = producer(name)?;
    let parts = match program.nodes[node].operator {
        "Concat" => program.nodes[node].inputs.iter().map(|input| producer(input)).collect::<Option<Vec<_>>>()?,
        _ => vec![node],
    };
    let (mut carriers, mut next) = (vec![], 0);
    for node in parts {
        let own = outputs(program, &program.nodes[node], &uses)?;
        carriers.push(Carrier { node, channels: next..next + own });
        next += own;
    }
    (next == channels).then_some(carriers)
}

/// Output channels of a convolution whose weights are its own and stand in the file.
fn outputs(program: &Program, node: &Node, uses: &HashMap<String, usize>) -> Option<usize> {
    let own = |name: &String| program.constants.contains_key(name) && uses.get(name) == Some(&1);
    let is_own = node.operator == "Conv" && node.inputs.iter().skip(1).all(own);
    program.constants.get(node.inputs.get(1)?).filter(|_| is_own)?.dims.first().copied()
}

/// Has a convolution do what a norm behind it does.
fn apply(program: &mut Program, node: usize, affine: &[Affine]) {
    let weight = program.nodes[node].inputs[1].clone();
    if let Some(Constant { numbers: Numbers::Floats(values), .. }) = program.constants.get_mut(&weight) {
        let row = values.len() / affine.len().max(1);
        for (row, channel) in values.chunks_mut(row.max(1)).zip(affine) {
            row.iter_mut().for_each(|value| *value = (f64::from(*value) * channel.scale) as f32);
        }
    }
    let before =
        program.nodes[node].inputs.get(2).and_then(|bias| floats(program.constants.get(bias)?)).map(<[f32]>::to_vec);
    let bias = affine.iter().enumerate().map(|(k, channel)| {
        let own = before.as_ref().map_or(0.0, |bias| f64::from(bias[k]));
        (channel.scale * own + channel.shift) as f32
    });
    let constant = Constant { dims: vec![affine.len()], numbers: Numbers::Floats(bias.collect()) };
    let name = match program.nodes[node].inputs.get(2) {
        Some(bias) => bias.clone(),
        None => {
            let base = weight.strip_suffix(".weight").unwrap_or(&weight).to_owned();
            let name = program.fresh(&format!("{base}.bias"));
            program.nodes[node].inputs.push(name.clone());
            name
        }
    };
    program.constants.insert(name, constant);
}
