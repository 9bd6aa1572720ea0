//! Every shader variant that networks and layers of the spaces need, with what it is used for: for people who study kernels, and
//! for tests that ask a GPU's compiler about each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::work::{Work, representative};
use crate::error::Result;
use crate::kernels::{Lowering, Preset, kernel};
use crate::shader::{Interface, Variant, parse};

/// Slabs that a pool may offer.
const POOLS: [i64; 2] = [1, 3];

/// What a variant does in a piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The work, an item of the benchmark.
    pub item: String,
    /// Calls in one run; equal ones share dispatches. 0 if the item's path takes another option.
    pub calls: usize,
    /// Workgroups of the largest call; a call's grid is one-dimensional and folded where it is longer than the adapter's.
    pub workgroups: usize,
    /// Steps of a lane that wait for each other, in the longest chain of any of them.
    pub depth: usize,
    /// Arithmetic operations of all calls.
    pub flops: u64,
    /// Bytes of operands and results of all calls.
    pub bytes: u64,
}

/// A variant of a shader.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Name of its files, without ending.
    pub file: String,
    /// The shader.
    pub shader: &'static str,
    /// Constants that are baked in.
    pub constants: BTreeMap<&'static str, i64>,
    /// Those of them that leave results as they are to the bit, whatever their value.
    pub leave_bits: &'static [&'static str],
    /// Words of a task's row, in order.
    pub row: Vec<&'static str>,
    /// What it asks of an adapter.
    pub interface: Interface,
    /// Where it is used.
    pub uses: Vec<Use>,
    /// The variant itself.
    #[serde(skip)]
    pub variant: Variant,
}

/// All variants of a preset, sorted by shader and constants. Those with a pool of slabs are there for one slab, and for
/// three.
///
/// # Errors
/// If a shader does not parse.
pub fn catalogue(preset: Preset) -> Result<Vec<Entry>> {
    let mut uses: BTreeMap<Variant, Vec<Use>> = BTreeMap::new();
    for item in representative() {
        let work = Work::named(&item)?;
        for call in Lowering::of(&work.graph, preset).calls {
            let variants = match call.pool.is_empty() {
                true => vec![call.variant.clone()],
                false => POOLS.map(|size| call.variant.clone().with("POOL", size)).into(),
            };
            // Options off the path have their variants, and do nothing.
            let active = call.guard.active(&work.path);
            let cost = if active { call.cost_on(&work.path) } else { Default::default() };
            for variant in variants {
                let list = uses.entry(variant).or_default();
                if list.last().is_none_or(|last| last.item != item) {
                    list.push(Use { item: item.clone(), calls: 0, workgroups: 0, depth: 0, flops: 0, bytes: 0 });
                }
                if let Some(own) = list.last_mut() {
                    own.calls += usize::from(active);
                    own.workgroups = own.workgroups.max(call.workgroups);
                    own.depth = own.depth.max(call.depth);
                    own.flops += cost.flops;
                    own.bytes += cost.bytes;
                }
            }
        }
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let entry = |(variant, uses): (Variant, Vec<Use>)| {
        let number = numbers.entry(variant.shader).or_default();
        *number += 1;
        let name = variant.to_string();
        Ok(Entry {
            file: format!("{}-{number:02}", variant.shader),
            shader: variant.shader,
            constants: variant.defs.clone(),
            leave_bits: kernel(variant.shader).map_or(&[], |kernel| kernel.free),
            row: variant.records.iter().take(1).flat_map(|record| record.fields).map(|field| field.0).collect(),
            interface: Interface::of(&name, &parse(&name, &variant.wgsl()?)?)?,
            uses,
            variant,
        })
    };
    uses.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Op, Statistics, blocks};

    /// A norm's statistics take a workgroup for each run of each lane, and their merging one for each block of four channels.
    #[test]
    fn norms_have_workgroups_for_all_that_they_sum() {
        let mut norms = 0;
        for item in representative() {
            let graph = Work::named(&item).unwrap().graph;
            let (mut merged, mut summed) = (0, 0);
            for node in &graph.nodes {
                let (Op::BatchNorm { x, statistics: Statistics::Batch { .. }, .. } | Op::BatchNormGrad { x, .. }) =
                    node.op
                else {
                    continue;
                };
                norms += 1;
                merged += blocks(graph.shape(x).channels());
                summed += graph.shape(x).vec4s();
            }
            let calls = Lowering::of(&graph, Preset::GPU).calls;
            let workgroups = |shaders: &[&str]| -> usize {
                let of = |call: &&crate::kernels::Call| {
                    let merges = call.variant.shader != "batch_norm" || call.variant.def("RUNNING") == 0;
                    merges && shaders.contains(&call.variant.shader)
                };
                calls.iter().filter(of).map(|call| call.workgroups).sum()
            };
            assert!(workgroups(&["batch_norm", "batch_norm_grad"]) >= merged, "{item}");
            assert!(workgroups(&["moments"]) * 16 * Preset::GPU.reduce_lanes >= summed, "{item}");
        }
        assert!(norms > 100, "{norms}");
    }

    #[test]
    fn costs_are_those_of_shapes() {
        let entries = catalogue(Preset::GPU).unwrap();
        let forward = |item: &str| {
            let of = |entry: &&Entry| entry.shader == "conv2d" && entry.uses.iter().any(|u| u.item == item);
            let entry = entries.iter().find(of).unwrap();
            entry.uses.iter().find(|u| u.item == item).unwrap().clone()
        };
        // 128 images of 8x8 with 64 channels, 3x3: twice 64 * 9 multiply-adds each; images in, images out, weights.
        let own = forward("fwd_c64_s8_k3_b128");
        assert_eq!((own.calls, own.flops), (1, 2 * 128 * 64 * 64 * 64 * 9));
        assert_eq!(own.bytes, 4 * (2 * 128 * 64 * 64 + 64 * 64 * 9));
        let files: std::collections::BTreeSet<&String> = entries.iter().map(|e| &e.file).collect();
        assert_eq!(files.len(), entries.len());
        // Each pool is there with one slab and with three.
        let pools = |size| entries.iter().filter(|e| e.constants.get("POOL") == Some(&size)).count();
        assert!(pools(1) > 10 && pools(1) == pools(3));
    }

    /// Workgroups of weight gradients fill waves, and those of a layer at batch 128 a GPU: 512 waves of 32 lanes.
    #[test]
    fn weight_gradients_fill_a_gpu() {
        let entries = catalogue(Preset::GPU).unwrap();
        let mut seen = 0;
        for entry in entries.iter().filter(|e| ["conv2d_filter", "grouped_filter"].contains(&e.shader)) {
            let lanes = entry.interface.workgroup[0] as usize;
            assert!(lanes >= 32, "{}: {lanes} lanes", entry.variant);
            assert!(entry.interface.workgroup_bytes <= 16 << 10, "{}", entry.variant);
            for own in entry.uses.iter().filter(|own| own.item.starts_with("bwd_")) {
                let waves = own.workgroups * lanes.div_ceil(32);
                assert!(waves >= 512, "{}, {}: {waves} waves", own.item, entry.variant);
                seen += 1;
            }
        }
        assert_eq!(seen, 17);
    }
}
