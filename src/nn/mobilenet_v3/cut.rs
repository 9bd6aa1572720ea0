//! A subnet's weights out of those of its supernet (`OFAMobileNetV3`): the first channels of each layer, and kernels as the supernet makes
//! smaller ones of larger (Cai et al. 2020, section 3.2): the centre of 7x7 times a matrix is 5x5, and the centre of that times another
//! one is 3x3.

use std::collections::HashMap;

use super::Network;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::nn::tensors::{Named, Values};
use crate::nn::trained_graph;

/// What the supernet's convolutions of elastic kernels, and nothing else, are called.
const ELASTIC: &str = ".depth_conv.conv.conv.weight";
const CLASSIFIER: &str = "classifier.linear.weight";
/// The layer behind the average, by whose channels a width is known.
const MIX: &str = "feature_mix_layer.conv.weight";
/// Sides of the kernels that it stores and makes, each of the one before.
const SIDES: [usize; 3] = [7, 5, 3];

/// Whether tensors are those of a supernet.
pub(super) fn is_supernet(theirs: &Named) -> bool {
    theirs.keys().any(|name| name.ends_with(ELASTIC))
}

/// The weights and statistics of a network.
///
/// # Errors
/// If a tensor is missing in the supernet or is too small, with its name.
pub(super) fn cut(theirs: &Named, network: &Network) -> Result<Named> {
    let [_, mixed] = network.widths.last;
    if let Some(&theirs) = theirs.get(MIX).and_then(|mix| mix.dims.first()).filter(|theirs| **theirs != mixed) {
        let width = theirs as f64 / super::LAST_WIDTHS[1] as f64;
        let why = format!("its layers are those of width {width}, and the network's are not: --build width={width}");
        return Err(Error::invalid("supernet", why));
    }
    let sources = sources(network);
    let graph = trained_graph(network)?;
    let own = [Role::Weights, Role::Running].into_iter().flat_map(|role| graph.persistent(role));
    let one = |name: &str, dims: &[usize]| -> Result<Values> {
        match parts(&sources, name) {
            Some((block, ".depth_conv.conv.weight")) => kernel(theirs, block, dims),
            Some((block, rest)) => first(theirs, &format!("{block}{}", dynamic(rest)), dims, elastic(rest)),
            None => first(theirs, name, dims, [name.starts_with("classifier."), false]),
        }
    };
    // A classifier of fewer classes has nothing for those of the network; of more, the first ones are taken.
    let too_few = theirs.get(CLASSIFIER).and_then(|rows| rows.dims.first()).is_some_and(|have| *have < network.classes);
    let own = own.filter(|(_, tensor)| !too_few || !tensor.name.starts_with("classifier."));
    own.map(|(_, tensor)| Ok((tensor.name.clone(), one(&tensor.name, &tensor.dims)?))).collect()
}

/// The supernet's name of each elastic block.
fn sources(network: &Network) -> HashMap<String, String> {
    let blocks = super::blocks(&network.widths, &network.subnet).into_iter();
    blocks.filter_map(|block| Some((block.name, block.source?))).collect()
}

/// The supernet's name of a tensor's block, and the rest: `blocks.5.conv` and `.point_linear.bn.weight` of
/// `blocks.3.conv.point_linear.bn.weight`. None of what is no elastic block's.
fn parts<'a>(sources: &'a HashMap<String, String>, name: &'a str) -> Option<(&'a str, &'a str)> {
    let (end, _) = name.match_indices('.').nth(2)?;
    let (block, rest) = name.split_at(end);
    Some((sources.get(block)?.as_str(), rest))
}

/// What the supernet calls a tensor of a network, if it has it as it is.
#[cfg(test)]
pub(super) fn source_of(network: &Network, name: &str) -> String {
    parts(&sources(network), name).map_or(name.to_owned(), |(block, rest)| format!("{block}{}", dynamic(rest)))
}

/// What the supernet calls a part of a block: its convolutions and norms are wrapped once more, those of excitations are not.
fn dynamic(rest: &str) -> String {
    for part in [".conv.", ".bn."] {
        if let Some((before, after)) = rest.split_once(part).filter(|_| !rest.contains(".se.")) {
            return format!("{before}{part}{}{after}", &part[1..]);
        }
    }
    rest.to_owned()
}

/// Of which of the first two axes of a block's part a network takes the first places: of channels between, not of those that come in or go out.
fn elastic(rest: &str) -> [bool; 2] {
    let between = rest.starts_with(".inverted_bottleneck.") || rest.starts_with(".depth_conv.");
    [between, rest.contains(".se.") || rest.starts_with(".point_linear.conv.")]
}

/// A tensor of the supernet, also under the names that its authors had before and their code still reads.
fn find<'a>(theirs: &'a Named, name: &str) -> Result<&'a Values> {
    let earlier = [(".conv.", ".mobile_inverted_conv."), (".linear.", ".linear.linear.")];
    let earlier = earlier.into_iter().filter_map(|(own, earlier)| theirs.get(&name.replacen(own, earlier, 1)));
    let missing = || Error::invalid("supernet", format!("the tensor {name} is missing"));
    theirs.get(name).or_else(|| { earlier }.next()).ok_or_else(missing)
}

/// The first values along elastic axes, and all along the others.
fn first(theirs: &Named, name: &str, dims: &[usize], elastic: [bool; 2]) -> Result<Values> {
    let source = find(theirs, name)?;
    let elastic = |axis: usize| elastic.get(axis).copied().unwrap_or(false);
    let fits =
        |(axis, (have, want)): (usize, (&usize, &usize))| if elastic(axis) { have >= want } else { have == want };
    if source.dims.len() != dims.len() || !source.dims.iter().zip(dims).enumerate().all(fits) {
        let free = (0..dims.len())
            .map(|axis| if elastic(axis) { format!("{} or more", dims[axis]) } else { dims[axis].to_string() });
        let want = free.collect::<Vec<_>>().join(", ");
        return Err(Error::shape(format!("tensor {name} of the supernet"), want, format!("{:?}", source.dims)));
    }
    let count = dims.iter().product();
    let place = |mut index: usize| {
        let (mut place, mut step) = (0, 1);
        for (&want, &have) in dims.iter().zip(&source.dims).rev() {
            place += index % want * step;
            (index, step) = (index / want, step * have);
        }
        place
    };
    let data = (0..count).map(|index| source.data.get(place(index)).copied().unwrap_or_default()).collect();
    Ok(Values { dims: dims.to_vec(), data })
}

/// The depthwise filter of a block's first channels, from its 7x7 one.
fn kernel(theirs: &Named, block: &str, dims: &[usize]) -> Result<Values> {
    let conv = format!("{block}.depth_conv.conv");
    let [channels, want] = [dims[0], dims[2]];
    let mut filter = first(theirs, &format!("{conv}.conv.weight"), &[channels, 1, SIDES[0], SIDES[0]], [true, false])?;
    for pair in SIDES.windows(2).take_while(|pair| pair[0] > want) {
        let (from, to) = (pair[0], pair[1]);
        let name = format!("{conv}.{from}to{to}_matrix");
        let (matrix, area) = (find(theirs, &name)?, to * to);
        if matrix.dims != [area, area] {
            return Err(Error::shape(
                format!("tensor {name} of the supernet"),
                format!("[{area}, {area}]"),
                format!("{:?}", matrix.dims),
            ));
        }
        let edge = (from - to) / 2;
        let mut data = Vec::with_capacity(channels * area);
        for kernel in filter.data.chunks_exact(from * from) {
            let centre = |place: usize| f64::from(kernel[(place / to + edge) * from + place % to + edge]);
            let row = |weights: &[f32]| {
                weights.iter().enumerate().map(|(place, weight)| f64::from(*weight) * centre(place)).sum::<f64>() as f32
            };
            data.extend(matrix.data.chunks_exact(area).map(row));
        }
        filter = Values { dims: vec![channels, 1, to, to], data };
    }
    Ok(filter)
}
