//! The part of planning that needs no device: calls, merged dispatches, life times, memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;

use super::ir::{Graph, Shape};
use super::memory::{Interval, pack};
use super::merge::{Order, merge};
use super::plan::POOL;
use crate::error::{Error, Result};
use crate::kernels::{Call, Lowering, Preset};

/// Calls of one graph and where its temporaries lie.
pub(super) struct GraphLayout {
    pub calls: Vec<Arc<Call>>,
    /// Shape of each tensor, the kernels' own included.
    pub shapes: Vec<Shape>,
    /// Bin and offset in `vec4` of each temporary.
    pub places: Vec<(usize, u64)>,
    pub bins: Vec<u64>,
}

/// A schedule of instances, before any device memory is taken.
pub(super) struct Schedule {
    /// Distinct graphs.
    pub layouts: Vec<GraphLayout>,
    /// Which of them each instance has.
    pub graph_of: Vec<usize>,
    /// Dispatches in order.
    pub merged: Vec<Merged>,
    /// Slab and offset in `vec4` of each bin of each instance.
    pub homes: Vec<Vec<(usize, u64)>>,
    /// Length of each slab in `vec4`.
    pub slabs: Vec<u64>,
}

impl Schedule {
    /// Schedules one instance of each of `graphs`; equal graphs are shared `Arc`s. No slab is longer than `limit` bytes.
    pub fn new(graphs: &[Arc<Graph>], preset: Preset, limit: u64) -> Result<Self> {
        let limit = limit / 16;
        let (mut layouts, graph_of) = lower_graphs(graphs, preset);
        let merged = dispatches(&layouts, &graph_of);
        for (index, layout) in layouts.iter_mut().enumerate() {
            let own = |instance: usize| graph_of[instance] == index;
            if let Some(graph) = graphs.iter().zip(&graph_of).find(|(_, g)| **g == index).map(|(graph, _)| graph) {
                place(layout, graph, &own, &merged, limit)?;
            }
        }
        // As few slabs as fit, in order.
        let mut slabs: Vec<u64> = vec![];
        let mut homes: Vec<Vec<(usize, u64)>> = vec![];
        for &graph in &graph_of {
            let bins = layouts[graph].bins.iter().map(|&size| {
                if slabs.last().is_none_or(|used| used + size > limit) {
                    slabs.push(0);
                }
                let slab = slabs.len() - 1;
                let at = slabs[slab];
                slabs[slab] += size;
                (slab, at)
            });
            homes.push(bins.collect());
        }
        let schedule = Schedule { layouts, graph_of, merged, homes, slabs };
        schedule.check_pools(limit)?;
        Ok(schedule)
    }

    /// Bytes of temporaries.
    pub fn bytes(&self) -> u64 {
        self.slabs.iter().sum::<u64>() * 16
    }

    /// A sum whose terms are spread over more slabs than a shader can see cannot be dispatched.
    fn check_pools(&self, limit: u64) -> Result<()> {
        for layout in &self.layouts {
            for call in &layout.calls {
                let mut bins: Vec<usize> = call.pool.iter().map(|t| layout.places[t.0 as usize].0).collect();
                bins.sort_unstable();
                bins.dedup();
                bins.retain(|&bin| bin != usize::MAX);
                if bins.len() > POOL {
                    return Err(Error::Memory {
                        what: format!("{} over {} bindings", call.variant.shader, bins.len()),
                        needed: (bins.len() as u64 * limit * 16) >> 20,
                        limit: (POOL as u64 * limit * 16) >> 20,
                        advice: "use a smaller --batch".into(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Lowers each distinct graph once, on all cores; returns the layouts and which one each instance has.
fn lower_graphs(graphs: &[Arc<Graph>], preset: Preset) -> (Vec<GraphLayout>, Vec<usize>) {
    let mut numbers: HashMap<*const Graph, usize> = HashMap::new();
    let mut distinct = vec![];
    let number = |graph: &Arc<Graph>| {
        *numbers.entry(Arc::as_ptr(graph)).or_insert_with(|| {
            distinct.push(graph.clone());
            distinct.len() - 1
        })
    };
    let graph_of = graphs.iter().map(number).collect();
    let layout = |graph: &Arc<Graph>| {
        let lowering = Lowering::of(graph, preset);
        let mut shapes: Vec<Shape> = graph.tensors.iter().map(|t| t.shape).collect();
        shapes.extend(&lowering.scratch);
        let calls = lowering.calls.into_iter().map(Arc::new).collect();
        GraphLayout { calls, shapes, places: vec![], bins: vec![] }
    };
    (distinct.par_iter().map(layout).collect(), graph_of)
}

/// Calls of one variant that run at once, from all instances: number of the instance and of the call.
pub(super) struct Merged {
    pub tasks: Vec<(usize, usize)>,
}

/// The dispatches of all instances.
fn dispatches(layouts: &[GraphLayout], graph_of: &[usize]) -> Vec<Merged> {
    let mut numbers = BTreeMap::new();
    let orders: Vec<Order> =
        layouts.iter().map(|layout| Order::of(&layout.calls, layout.shapes.len(), &mut numbers)).collect();
    let mut instances: Vec<Vec<usize>> = vec![vec![]; layouts.len()];
    graph_of.iter().enumerate().for_each(|(instance, &graph)| instances[graph].push(instance));
    let expand = |calls: Vec<(usize, usize)>| {
        let tasks = calls.iter().flat_map(|&(graph, call)| instances[graph].iter().map(move |&own| (own, call)));
        let mut tasks: Vec<_> = tasks.collect();
        tasks.sort_unstable();
        Merged { tasks }
    };
    merge(&orders, numbers.len()).into_iter().map(expand).collect()
}

/// Finds memory for the temporaries of one graph.
fn place(
    layout: &mut GraphLayout,
    graph: &Graph,
    own: &dyn Fn(usize) -> bool,
    merged: &[Merged],
    limit: u64,
) -> Result<()> {
    let mut first = vec![usize::MAX; layout.shapes.len()];
    let mut last = vec![0; layout.shapes.len()];
    let mut dispatch_of = vec![0; layout.calls.len()];
    for (position, group) in merged.iter().enumerate() {
        for &(_, call) in group.tasks.iter().filter(|(instance, _)| own(*instance)) {
            dispatch_of[call] = position;
        }
    }
    for (call, &position) in layout.calls.iter().zip(&dispatch_of) {
        for t in call.reads.iter().chain(&call.writes) {
            let t = t.0 as usize;
            first[t] = first[t].min(position);
            last[t] = last[t].max(position);
        }
    }
    let mut tensors = vec![];
    let mut intervals = vec![];
    for (t, shape) in layout.shapes.iter().enumerate() {
        let tensor = graph.tensors.get(t);
        let probed = tensor.is_some_and(|t| t.probe.is_some());
        if tensor.is_some_and(|t| t.persistent.is_some()) || (first[t] == usize::MAX && !probed) {
            continue;
        }
        // A probe that nothing reads or writes is an input that the caller fills: it must live from the start.
        let (from, to) = if probed { (0, usize::MAX) } else { (first[t], last[t]) };
        tensors.push(t);
        intervals.push(Interval { size: shape.vec4s() as u64, first: from, last: to });
    }
    let packed = pack(&intervals, limit).map_err(|size| Error::Memory {
        what: "one tensor".into(),
        needed: (size * 16) >> 20,
        limit: (limit * 16) >> 20,
        advice: "use a smaller --batch or fewer channels".into(),
    })?;
    layout.places = vec![(usize::MAX, 0); layout.shapes.len()];
    for (t, place) in tensors.into_iter().zip(packed.places) {
        layout.places[t] = place;
    }
    layout.bins = packed.bins;
    Ok(())
}
