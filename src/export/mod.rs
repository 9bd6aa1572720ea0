//! Trained networks for other programs: as an ONNX file ([`onnx`]), and with a card that tells people what they are ([`card`]).
//!
//! The graph that answers in this program is walked operation by operation, and each is put into the words of ONNX's standard operators; so
//! the networks of any space are exported, those of one's own too. What ONNX has no operator for, an operation of one's own among it, is
//! refused by name.

pub mod card;
mod encode;
mod fold;
mod lower;
mod program;
mod terms;

use crate::error::{Error, Result};
use crate::graph::Statistics;
use crate::nn::card::ModelCard;
use crate::nn::tensors::Named;
use crate::nn::{Layers, Model};

/// The version of the operators' meaning.
pub const OPSET: i64 = 17;

/// A network as an ONNX file.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file.
    pub bytes: Vec<u8>,
    /// How many operators it has.
    pub operators: usize,
    /// How many of these are batch norms.
    pub norms: usize,
}

/// The ONNX file of a network with the weights and running statistics in `named`: it makes `logits` of `images`, any number of them, which
/// are normalised as the metadata say (`mean`, `std`). Tensors of weights have the names that they have in `named`. With `fold` batch norms
/// are put into the convolutions before them, where these are for them alone.
///
/// # Errors
/// If the network has an operation that ONNX has not, or a tensor is missing or has other axes.
pub fn onnx(model: &dyn Model, named: &Named, card: &ModelCard, fold: bool) -> Result<Exported> {
    let mut layers = Layers::new(Statistics::Running)?;
    let (images, _) = layers.batch(1, model.input())?;
    let logits = model.forward(&mut layers, images)?.logits;
    let graph = layers.builder.finish();
    let mut program = lower::lower(&graph, named, images, logits)?;
    program.prune();
    if fold {
        fold::fold(&mut program);
    }
    program.call_answer();
    let norms = program.nodes.iter().filter(|node| node.operator == "BatchNormalization").count();
    let bytes = encode::encode(&program, model.input(), model.classes(), &metadata(card, model.input())?);
    Ok(Exported { bytes, operators: program.nodes.len(), norms })
}

/// How pictures become images for the network, in words.
pub(crate) fn preparation(card: &ModelCard) -> String {
    match card.reading.has_sides() {
        false => "pictures of this size".to_owned(),
        true => card.reading.sides(),
    }
}

/// What the file says of the network; lists are JSON.
fn metadata(card: &ModelCard, [height, width, channels]: [usize; 3]) -> Result<Vec<(&'static str, String)>> {
    let json =
        |key: &str, text: serde_json::Result<String>| text.map_err(|error| Error::invalid(key, error.to_string()));
    Ok(vec![
        ("space", card.space.clone()),
        ("architecture", card.arch.clone()),
        ("classes", json("classes", serde_json::to_string(&card.classes))?),
        ("mean", json("mean", serde_json::to_string(&card.mean))?),
        ("std", json("std", serde_json::to_string(&card.std))?),
        ("input_size", json("input_size", serde_json::to_string(&[channels, height, width]))?),
        ("preparation", preparation(card)),
        ("producer", format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))),
    ])
}
