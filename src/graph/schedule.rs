//! The part of planning that needs no device: calls, merged dispatches, life times, memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::ir::{Graph, Guard, Shape};
use super::memory::{Interval, pack};
use super::merge::{Order, merge, waits_of};
use super::plan::POOL;
use super::scope::scopes;
use super::settle::settle;
use crate::error::{Error, Result};
use crate::gpu::Limits;
use crate::kernels::{Call, Lowering, Preset, Word};

/// Calls of one graph and where its temporaries lie.
pub(super) struct GraphLayout {
    pub calls: Vec<Arc<Call>>,
    /// Shape of each tensor, the kernels' own included.
    pub shapes: Vec<Shape>,
    /// Bin and offset in `vec4` of each temporary.
    pub places: Vec<(usize, u64)>,
    pub bins: Vec<u64>,
}

impl GraphLayout {
    /// Size in `vec4` of each tensor that lives for a part of the plan, 0 for the others.
    fn sizes(&self, graph: &Graph) -> Vec<u64> {
        let lives = |t: usize| graph.tensors.get(t).is_none_or(|t| t.persistent.is_none() && t.probe.is_none());
        let sizes = self.shapes.iter().enumerate().map(|(t, shape)| if lives(t) { shape.vec4s() as u64 } else { 0 });
        sizes.collect()
    }
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
    /// Schedules one instance of each of `graphs`; equal graphs are shared `Arc`s. Slabs are of the usual size, unless a tensor needs a
    /// larger one, or a sum would see more of them than its shader can.
    pub fn new(graphs: &[Arc<Graph>], preset: Preset, limits: &Limits) -> Result<Self> {
        let (layouts, graph_of) = lower_graphs(graphs, preset);
        let merged = dispatches(graphs, &layouts, &graph_of);
        let mut schedule = Schedule { layouts, graph_of, merged, homes: vec![], slabs: vec![] };
        let most = limits.slab_bytes / 16;
        let usual = (limits.usual_slab() / 16).max(1);
        // Whole multiples leave room beside a large tensor for small ones.
        let usual = schedule.largest(graphs).max(1).next_multiple_of(usual).min(most);
        schedule.lay_out(graphs, usual)?;
        if usual < most && schedule.check_pools(usual).is_err() {
            schedule.lay_out(graphs, most)?;
        }
        schedule.check_pools(most)?;
        Ok(schedule)
    }

    /// Length in `vec4` of the largest temporary, or of those that lie side by side.
    fn largest(&self, graphs: &[Arc<Graph>]) -> u64 {
        let of = |(graph, &layout): (&Arc<Graph>, &usize)| {
            let shapes = &self.layouts[layout].shapes;
            let length = |whole: Vec<usize>| whole.into_iter().map(|t| shapes[t].vec4s() as u64).sum();
            wholes(graph, shapes.len()).into_iter().map(length).max().unwrap_or(0)
        };
        graphs.iter().zip(&self.graph_of).map(of).max().unwrap_or(0)
    }

    /// Finds memory for everything in slabs of at most `limit` `vec4`.
    fn lay_out(&mut self, graphs: &[Arc<Graph>], limit: u64) -> Result<()> {
        let Schedule { layouts, graph_of, merged, .. } = self;
        for (index, layout) in layouts.iter_mut().enumerate() {
            let own = |instance: usize| graph_of[instance] == index;
            if let Some(graph) = graphs.iter().zip(&*graph_of).find(|(_, g)| **g == index).map(|(graph, _)| graph) {
                place(layout, graph, &own, merged, limit)?;
            }
        }
        // As few slabs as fit, in order.
        let mut slabs: Vec<u64> = vec![];
        let mut homes: Vec<Vec<(usize, u64)>> = vec![];
        for &graph in &*graph_of {
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
        (self.slabs, self.homes) = (slabs, homes);
        Ok(())
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
fn dispatches(graphs: &[Arc<Graph>], layouts: &[GraphLayout], graph_of: &[usize]) -> Vec<Merged> {
    let mut instances: Vec<Vec<usize>> = vec![vec![]; layouts.len()];
    graph_of.iter().enumerate().for_each(|(instance, &graph)| instances[graph].push(instance));
    // Sizes of the tensors that are placed by their life times.
    let sizes: Vec<Vec<u64>> =
        layouts.iter().zip(&instances).map(|(layout, own)| layout.sizes(&graphs[own[0]])).collect();
    let mut numbers = BTreeMap::new();
    let orders: Vec<Order> =
        layouts.iter().zip(&sizes).map(|(layout, sizes)| Order::of(&layout.calls, sizes, &mut numbers)).collect();
    let merged = merge(&orders, numbers.len());
    // Tensors of each dispatch, by graph and number, with the size that they have in all instances.
    let (sizes, instances) = (&sizes, &instances);
    let touched = |&(graph, call): &(usize, usize)| {
        let call = &layouts[graph].calls[call];
        let tensors = call.reads.iter().chain(&call.writes).map(|t| t.0 as usize);
        let all = tensors.map(move |t| ((graph, t), sizes[graph][t] * instances[graph].len() as u64));
        all.filter(|(_, size)| *size > 0)
    };
    let touched: Vec<Vec<_>> = merged.iter().map(|calls| calls.iter().flat_map(touched).collect()).collect();
    let order = settle(&waits_of(&orders, &merged), &touched);
    let expand = |at: usize| {
        let calls = merged[at].iter();
        let tasks = calls.flat_map(|&(graph, call)| instances[graph].iter().map(move |&own| (own, call)));
        let mut tasks: Vec<_> = tasks.collect();
        tasks.sort_unstable();
        Merged { tasks }
    };
    order.into_iter().map(expand).collect()
}

/// What a dispatch of these calls does, whatever it does it with and wherever that lies: equal ones take the same time. Of several tasks in one
/// dispatch it is their number and their workgroups: a network's norms, all in one, would be another mixture in every network.
pub(super) fn block<'a>(calls: impl Iterator<Item = &'a Call>) -> u64 {
    let value = |word: &Word| match word {
        Word::Value(value) => u64::from(*value),
        Word::Terms(class) => u64::from(*class) | 1 << 32,
        _ => 1 << 33,
    };
    let words = |words: &[Word]| words.iter().map(value).collect::<Vec<_>>();
    let calls: Vec<&Call> = calls.collect();
    let text = match &calls[..] {
        [] => String::new(),
        [call] => {
            let terms: Vec<_> = call.terms.iter().map(|term| (term.class, words(&term.words))).collect();
            format!("{:?} {} {:?} {terms:?}", call.variant, call.workgroups, words(&call.head))
        }
        [first, ..] => {
            let workgroups = || calls.iter().map(|call| call.workgroups);
            let (all, most) = (workgroups().sum::<usize>(), workgroups().max());
            format!("{:?} {} {all} {most:?}", first.variant, calls.len())
        }
    };
    xxh3_64(text.as_bytes())
}

/// What the dispatches of a graph that runs by itself do, in their order; for graphs without choices.
pub(super) fn blocks(graph: &Arc<Graph>, preset: Preset) -> Vec<u64> {
    let graphs = [graph.clone()];
    let (layouts, graph_of) = lower_graphs(&graphs, preset);
    let calls = &layouts[0].calls;
    let merged = dispatches(&graphs, &layouts, &graph_of);
    merged.iter().map(|merged| block(merged.tasks.iter().map(|&(_, call)| &*calls[call]))).collect()
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
    let size = |t: usize| layout.shapes[t].vec4s() as u64;
    let touched = |call: &Arc<Call>| {
        let guard = call.guard;
        call.reads.iter().chain(&call.writes).map(move |t| (*t, guard)).collect::<Vec<_>>()
    };
    let scopes = scopes(graph, layout.calls.iter().flat_map(touched), layout.shapes.len());
    let mut placed = vec![];
    let mut intervals = vec![];
    for whole in wholes(graph, layout.shapes.len()) {
        let probed = whole.iter().any(|&t| graph.tensors.get(t).is_some_and(|tensor| tensor.probe.is_some()));
        let used = whole.iter().filter(|&&t| first[t] != usize::MAX);
        let used = used.map(|&t| (first[t], last[t])).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
        // A probe that nothing reads or writes is an input that the caller fills: it must live from the start.
        let Some((from, to)) = (if probed { Some((0, usize::MAX)) } else { used }) else { continue };
        // What lies side by side, or is looked at after the run, is kept on all paths.
        let scope = if let ([t], false) = (&whole[..], probed) { scopes[*t] } else { None };
        let scope = scope.unwrap_or(Guard::ALWAYS);
        intervals.push(Interval { size: whole.iter().map(|&t| size(t)).sum(), first: from, last: to, scope });
        placed.push(whole);
    }
    let packed = pack(&intervals, limit).map_err(|size| Error::Memory {
        what: "one tensor".into(),
        needed: (size * 16) >> 20,
        limit: (limit * 16) >> 20,
        advice: "use a smaller --batch or fewer channels".into(),
    })?;
    let mut places = vec![(usize::MAX, 0); layout.shapes.len()];
    for (whole, (bin, mut at)) in placed.into_iter().zip(packed.places) {
        for t in whole {
            places[t] = (bin, at);
            at += size(t);
        }
    }
    layout.places = places;
    layout.bins = packed.bins;
    Ok(())
}

/// What is placed as a whole, of `tensors` tensors without those that outlive the plan: a strip, at the number of its first
/// tensor, or a tensor alone.
fn wholes(graph: &Graph, tensors: usize) -> Vec<Vec<usize>> {
    let mut wholes: Vec<Vec<usize>> = (0..tensors).map(|t| vec![t]).collect();
    for (t, _) in graph.tensors.iter().enumerate().filter(|(_, tensor)| tensor.persistent.is_some()) {
        wholes[t].clear();
    }
    for strip in &graph.strips {
        let strip: Vec<usize> = strip.iter().map(|t| t.0 as usize).collect();
        strip.iter().for_each(|&t| wholes[t].clear());
        if let Some(&t) = strip.first() {
            wholes[t] = strip;
        }
    }
    wholes.retain(|whole| !whole.is_empty());
    wholes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Geometry, Op, Statistics};
    use crate::nn::Model;
    use crate::nn::nas_bench_201::{Network, Supernet};
    use crate::space::nas_bench_201::{Cell, Macro};
    use crate::train::step::{Optimizer, StepOptions, Update, build};

    /// What the norm and the optimiser of a step take on a path: dispatches, workgroups, those with something to do.
    fn tail(schedule: &Schedule, path: &[u8]) -> [usize; 3] {
        let mut sums = [0; 3];
        for group in &schedule.merged {
            let calls = group.tasks.iter().map(|&(_, call)| &schedule.layouts[0].calls[call]);
            let calls = calls.filter(|c| ["square_sum", "global_norm", "sgd", "ascend"].contains(&c.variant.shader));
            let groups: Vec<usize> = calls.filter(|c| c.guard.active(path)).map(|c| c.workgroups).collect();
            if let Some(most) = groups.iter().max() {
                sums = [sums[0] + 1, sums[1] + most * groups.len(), sums[2] + groups.iter().sum::<usize>()];
            }
        }
        sums
    }

    /// Before and after: gradients anywhere, and side by side.
    #[test]
    fn norms_and_updates_are_few_full_workgroups() {
        let sizes = Macro { channels: 16, cells: 5, in_channels: 3, height: 32, width: 32, classes: 10 };
        let arch: Cell = "333333".parse().unwrap();
        let network = Network::new(arch, sizes);
        let supernet = Supernet { sizes };
        let models: [(&str, &dyn Model, Vec<u8>); 2] =
            [("all 3x3", &network, vec![]), ("supernet", &supernet, Supernet::path(&arch))];
        for (name, model, path) in models {
            for (optimizer, clip, batch) in [
                (Optimizer::Sgd, true, 128),
                (Optimizer::Sgd, false, 128),
                (Optimizer::Sgd, false, 16),
                (Optimizer::Sam, true, 128),
            ] {
                let update = Some(Update { optimizer, clip, ..Update::default() });
                let statistics = Statistics::Batch { update: true };
                let options = StepOptions { batch, statistics, smoothing: 0.0, update, gradients: true };
                let graph = build(model, &options).unwrap().graph;
                let mut apart = graph.clone();
                apart.strips.clear();
                let [before, after] = [apart, graph].map(|graph| {
                    let schedule = Schedule::new(&[Arc::new(graph)], Preset::GPU, &limits()).unwrap();
                    (tail(&schedule, &path), schedule.merged.len(), schedule.bytes())
                });
                println!("{name}, {optimizer}, clip {clip}, batch {batch}: {before:?}, side by side {after:?}");
                assert!(after.2 as f64 <= 1.15 * before.2 as f64, "temporaries");
                let [dispatches, workgroups, useful] = after.0;
                let norms = usize::from(clip) + usize::from(optimizer == Optimizer::Sam);
                let steps = 1 + usize::from(optimizer == Optimizer::Sam);
                assert_eq!(dispatches, 2 * norms + steps);
                if name == "all 3x3" {
                    assert_eq!(workgroups, useful);
                }
            }
        }
    }

    /// Convolutions of `images` images of 1 MiB, one after the other, whose results are all kept.
    fn chain(images: usize, length: usize) -> Arc<Graph> {
        let mut builder = Builder::new();
        let w = builder.temporary(Shape::Filter { r: 1, s: 1, c: 16, k: 16, groups: 1 });
        let mut x = builder.temporary(Shape::map(images, 128, 128, 16));
        for _ in 0..length {
            let y = builder.temporary(Shape::map(images, 128, 128, 16));
            let geometry = Geometry::square(1, 1, 0);
            builder.push(Op::Conv { x, w, bias: None, y, geometry, relu: false });
            builder.probe(y, "kept");
            x = y;
        }
        Arc::new(builder.finish())
    }

    fn slabs(graph: &Arc<Graph>, count: usize, limits: &Limits) -> Vec<u64> {
        let schedule = Schedule::new(&vec![graph.clone(); count], Preset::GPU, limits).unwrap();
        schedule.slabs.iter().map(|vec4s| (vec4s * 16) >> 20).collect()
    }

    /// A card with bindings of 4 GiB.
    fn limits() -> Limits {
        Limits {
            slab_bytes: (4 << 30) - 16,
            storage_buffers: 8,
            workgroup_bytes: 16 << 10,
            uniform_bytes: 1 << 16,
            uniform_buffers: 12,
            invocations: 256,
            workgroup_sides: [256, 256, 64],
            workgroups: 65_535,
            alignment: 32,
            subgroup: (32, 32),
        }
    }

    #[test]
    fn slabs_are_small_unless_a_tensor_is_large() {
        let limits = limits();
        // Four tensors of 300 MiB: three fit into a slab.
        let list = slabs(&chain(300, 3), 1, &limits);
        assert!(list.len() == 2 && list.iter().all(|mib| *mib <= 1024), "{list:?}");
        // Four instances with 400 MiB each.
        let list = slabs(&chain(200, 1), 4, &limits);
        assert!(list.len() == 2 && list.iter().all(|mib| *mib <= 1024), "{list:?}");
        // Tensors of 1.5 GiB: a slab for each.
        let list = slabs(&chain(1536, 1), 1, &limits);
        assert!(list.len() == 2 && list.iter().all(|mib| (1536..2048).contains(mib)), "{list:?}");
        // Three of 400 MiB that lie side by side.
        let mut together = Graph::clone(&chain(400, 2));
        together.strips = vec![together.ids().filter(|&t| together.shape(t).vec4s() > 1 << 20).collect()];
        let list = slabs(&Arc::new(together), 1, &limits);
        assert!(list.len() == 1 && list[0] >= 1200, "{list:?}");
        let small = Limits { slab_bytes: 1 << 28, ..limits };
        assert!(matches!(Schedule::new(&[chain(300, 1)], Preset::GPU, &small), Err(Error::Memory { .. })));
    }
}
