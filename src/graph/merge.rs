//! Which calls of which networks share a dispatch.
//!
//! Any calls of one variant may, unless one waits for the other. Which to run when is found in three steps:
//!
//! 1. Each distinct graph gets an order of variants by itself: of all variants that have a call whose turn has come, the
//!    next is the one with the call that has the longest chain of calls behind it, and all its calls that are ready run
//!    with it. The longest chain is a bound on the number of dispatches; whoever works along it meets the rest on the way,
//!    and calls that nothing waits for (updates, sums of parts) gather until they are all there. This is list scheduling by
//!    critical path (Hu, "Parallel sequencing and assembly line problems", 1961). Calls that hold much memory (weight
//!    gradients) lose patience: in deep networks they would hold all maps at once.
//! 2. The orders become one that contains each of them, as short as can be (a shortest common supersequence, pair by
//!    pair, the longest order first). Networks that differ in depth and width meet wherever they do the same.
//! 3. All graphs walk along this one order; at each place, every call of its variant that is ready runs. That is never
//!    later than the graph's own order had it, so all calls run; places that nobody needs are dropped.
//!
//! Instances of one graph go in step, for they share a layout of memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kernels::Call;
use crate::shader::Variant;

/// What must run before what in one graph, with variants by number.
#[derive(Clone)]
pub(super) struct Order {
    variants: Vec<usize>,
    /// Number of calls that each call waits for.
    waits: Vec<usize>,
    /// The calls that wait for each call.
    followers: Vec<Vec<usize>>,
    /// Length of the longest chain of calls behind each call, that wait for it and for each other.
    heights: Vec<usize>,
    /// Whether a call holds much memory while it waits for its turn.
    holds: Vec<bool>,
}

/// Dispatches after which a call that holds much memory has waited long enough for others of its variant.
const PATIENCE: usize = 40;

impl Order {
    /// The order that the reads and writes of `calls` ask for; `sizes` are those of temporaries, 0 for other tensors; `numbers`
    /// names variants.
    pub fn of<'a>(calls: &'a [Arc<Call>], sizes: &[u64], numbers: &mut BTreeMap<&'a Variant, usize>) -> Self {
        let (mut own, mut before) = (vec![], vec![]);
        for (call, waits) in calls.iter().zip(waits(calls, sizes.len())) {
            let next = numbers.len();
            own.push(*numbers.entry(&call.variant).or_insert(next));
            before.push(waits);
        }
        // Much is three quarters of the largest tensor.
        let largest = sizes.iter().max().copied().unwrap_or(0);
        let holds = |call: &Arc<Call>| 4 * call.reads.iter().map(|t| sizes[t.0 as usize]).sum::<u64>() >= 3 * largest;
        Order::from(own, &before, calls.iter().map(holds).collect())
    }

    /// The order of calls of these variants, each of which waits for those of `before`, which stand before it.
    fn from(variants: Vec<usize>, before: &[Vec<usize>], holds: Vec<bool>) -> Self {
        let mut followers = vec![vec![]; variants.len()];
        for (call, waits) in before.iter().enumerate() {
            waits.iter().for_each(|&b| followers[b].push(call));
        }
        let mut heights = vec![0; variants.len()];
        for call in (0..variants.len()).rev() {
            heights[call] = followers[call].iter().map(|&f| heights[f] + 1).max().unwrap_or(0);
        }
        Order { variants, waits: before.iter().map(Vec::len).collect(), followers, heights, holds }
    }

    /// Variants in the order in which this graph alone would run them.
    fn alone(&self, variants: usize) -> Vec<usize> {
        let mut walk = Walk::new(self, variants);
        let mut sequence = vec![];
        // When the turn of each call came.
        let mut since: Vec<Option<usize>> = vec![None; self.variants.len()];
        loop {
            for &call in walk.ready.iter().flatten() {
                since[call].get_or_insert(sequence.len());
            }
            let waited = |call: usize| since[call].is_some_and(|since| sequence.len() - since >= PATIENCE);
            let urgency = |variant: usize| {
                let ready = &walk.ready[variant];
                let height = ready.iter().map(|&call| self.heights[call]).max()?;
                Some((ready.iter().any(|&call| self.holds[call] && waited(call)), height, Reverse(variant)))
            };
            // Of equal ones the variant that the graph names first.
            let Some((_, _, Reverse(variant))) = (0..variants).filter_map(urgency).max() else { return sequence };
            sequence.push(variant);
            walk.run(variant);
        }
    }
}

/// For each dispatch those that it waits for.
pub(super) fn waits_of(orders: &[Order], dispatches: &[Vec<(usize, usize)>]) -> Vec<Vec<usize>> {
    let mut place: Vec<Vec<usize>> = orders.iter().map(|order| vec![0; order.variants.len()]).collect();
    for (at, tasks) in dispatches.iter().enumerate() {
        tasks.iter().for_each(|&(graph, call)| place[graph][call] = at);
    }
    let mut waits = vec![vec![]; dispatches.len()];
    for (at, tasks) in dispatches.iter().enumerate() {
        let followers =
            tasks.iter().flat_map(|&(graph, call)| orders[graph].followers[call].iter().map(move |&f| (graph, f)));
        followers.for_each(|(graph, follower)| waits[place[graph][follower]].push(at));
    }
    waits.iter_mut().for_each(|before| before.dedup());
    waits
}

/// How far a graph has run.
struct Walk<'a> {
    order: &'a Order,
    missing: Vec<usize>,
    /// Calls of each variant whose turn has come.
    ready: Vec<Vec<usize>>,
}

impl<'a> Walk<'a> {
    fn new(order: &'a Order, variants: usize) -> Self {
        let mut ready = vec![vec![]; variants];
        let first = order.waits.iter().enumerate().filter(|(_, waits)| **waits == 0);
        first.for_each(|(call, _)| ready[order.variants[call]].push(call));
        Walk { order, missing: order.waits.clone(), ready }
    }

    /// Runs all calls of a variant that are ready; returns them.
    fn run(&mut self, variant: usize) -> Vec<usize> {
        let calls = std::mem::take(&mut self.ready[variant]);
        for &call in &calls {
            for &follower in &self.order.followers[call] {
                self.missing[follower] -= 1;
                if self.missing[follower] == 0 {
                    self.ready[self.order.variants[follower]].push(follower);
                }
            }
        }
        calls
    }
}

/// Dispatches for all `orders` together: of each, the graphs' calls in it as (graph, call).
pub(super) fn merge(orders: &[Order], variants: usize) -> Vec<Vec<(usize, usize)>> {
    let mut alone: Vec<Vec<usize>> = orders.iter().map(|order| order.alone(variants)).collect();
    alone.sort_by_key(|sequence| Reverse(sequence.len()));
    let sequence = alone.into_iter().reduce(|all, own| supersequence(&all, &own)).unwrap_or_default();
    let mut walks: Vec<Walk> = orders.iter().map(|order| Walk::new(order, variants)).collect();
    let dispatches = sequence.into_iter().map(|variant| {
        let calls = walks.iter_mut().enumerate().map(|(graph, walk)| (graph, walk.run(variant)));
        calls.flat_map(|(graph, calls)| calls.into_iter().map(move |call| (graph, call))).collect::<Vec<_>>()
    });
    dispatches.filter(|tasks| !tasks.is_empty()).collect()
}

/// A shortest sequence that has both `a` and `b` as subsequences, by the longest common subsequence of their ends.
fn supersequence(a: &[usize], b: &[usize]) -> Vec<usize> {
    #[derive(Clone, Copy)]
    enum Take {
        Both,
        FromA,
        FromB,
    }
    let width = b.len();
    let mut takes = vec![Take::Both; a.len() * width];
    // Length of the longest common subsequence of a[i + 1..] and b[j..], then of a[i..] and b[j..].
    let mut below = vec![0u32; width + 1];
    let mut row = vec![0u32; width + 1];
    for (i, x) in a.iter().enumerate().rev() {
        for (j, y) in b.iter().enumerate().rev() {
            (row[j], takes[i * width + j]) = if x == y {
                (below[j + 1] + 1, Take::Both)
            } else if below[j] >= row[j + 1] {
                (below[j], Take::FromA)
            } else {
                (row[j + 1], Take::FromB)
            };
        }
        std::mem::swap(&mut row, &mut below);
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::with_capacity(a.len() + width);
    while i < a.len() && j < width {
        let take = takes[i * width + j];
        all.push(if matches!(take, Take::FromB) { b[j] } else { a[i] });
        i += usize::from(!matches!(take, Take::FromB));
        j += usize::from(!matches!(take, Take::FromA));
    }
    all.extend_from_slice(&a[i..]);
    all.extend_from_slice(&b[j..]);
    all
}

/// For each call the earlier ones that it must come after: writers of what it reads, readers and writers of what it writes.
fn waits(calls: &[Arc<Call>], tensors: usize) -> Vec<Vec<usize>> {
    let mut readers: Vec<Vec<usize>> = vec![vec![]; tensors];
    // Those that wrote a tensor last; several if they are options of one choice, of which at most one runs.
    let mut writers: Vec<Vec<usize>> = vec![vec![]; tensors];
    let mut all = Vec::with_capacity(calls.len());
    for (index, call) in calls.iter().enumerate() {
        let sibling = |other: &usize| calls[*other].guard.excludes(&call.guard);
        let mut own: Vec<usize> = call.reads.iter().flat_map(|t| &writers[t.0 as usize]).copied().collect();
        for t in &call.writes {
            let t = t.0 as usize;
            own.extend(readers[t].iter().chain(writers[t].iter().filter(|w| !sibling(w))));
        }
        own.sort_unstable();
        own.dedup();
        call.reads.iter().for_each(|t| readers[t.0 as usize].push(index));
        for t in &call.writes {
            let t = t.0 as usize;
            writers[t].retain(sibling);
            if writers[t].is_empty() {
                // Whoever comes later waits for this call, and through it for all before.
                readers[t].clear();
            }
            writers[t].push(index);
        }
        all.push(own);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    const VARIANTS: usize = 6;

    /// A graph of `calls` calls in which each waits for up to three before it.
    fn random(stream: &mut Stream, calls: usize) -> (Order, Vec<Vec<usize>>) {
        let (mut variants, mut all) = (vec![], vec![]);
        for call in 0..calls {
            let mut before: Vec<usize> =
                (0..stream.below(4)).filter(|_| call > 0).map(|_| stream.below(call as u64) as usize).collect();
            before.sort_unstable();
            before.dedup();
            variants.push(stream.below(VARIANTS as u64) as usize);
            all.push(before);
        }
        let holds = (0..calls).map(|_| stream.below(3) == 0).collect();
        (Order::from(variants, &all, holds), all)
    }

    #[test]
    fn every_call_runs_once_and_after_what_it_waits_for() {
        let mut stream = Stream::new(3, 1, 4);
        for round in 0..50 {
            let (orders, before): (Vec<_>, Vec<_>) =
                (0..1 + round % 5).map(|_| random(&mut stream, 1 + round * 3)).unzip();
            let dispatches = merge(&orders, VARIANTS);
            let mut place: Vec<Vec<Option<usize>>> = before.iter().map(|calls| vec![None; calls.len()]).collect();
            for (at, tasks) in dispatches.iter().enumerate() {
                let variant = orders[tasks[0].0].variants[tasks[0].1];
                for &(graph, call) in tasks {
                    assert_eq!(orders[graph].variants[call], variant);
                    assert_eq!(place[graph][call].replace(at), None);
                }
            }
            for (place, before) in place.iter().zip(&before) {
                for (call, before) in before.iter().enumerate() {
                    assert!(before.iter().all(|&b| place[b].unwrap() < place[call].unwrap()), "{round}");
                }
            }
        }
    }

    /// A chain, and calls of another variant beside it that only the first waits for: they run together, at the end.
    #[test]
    fn what_nothing_waits_for_gathers() {
        let before: Vec<Vec<usize>> = vec![vec![], vec![0], vec![0], vec![2], vec![2], vec![4], vec![4]];
        let order = Order::from(vec![0, 1, 0, 1, 0, 1, 0], &before, vec![true; 7]);
        assert_eq!(order.heights, [3, 0, 2, 0, 1, 0, 0]);
        let dispatches = merge(&[order], 2);
        let calls: Vec<Vec<usize>> = dispatches.iter().map(|d| d.iter().map(|&(_, call)| call).collect()).collect();
        assert_eq!(calls, [vec![0], vec![2], vec![4], vec![6], vec![1, 3, 5]]);
    }

    /// The same with a long chain: what holds memory does not wait for its end.
    #[test]
    fn what_holds_memory_loses_patience() {
        let length = 3 * PATIENCE;
        // Two calls for each step of the chain: the next step, and one beside it.
        let before: Vec<Vec<usize>> =
            (0..2 * length).map(|call| if call < 2 { vec![] } else { vec![(call - 2) / 2 * 2] }).collect();
        let variants: Vec<usize> = (0..2 * length).map(|call| call % 2).collect();
        for (holds, most) in [(false, length), (true, PATIENCE)] {
            let order = Order::from(variants.clone(), &before, vec![holds; 2 * length]);
            let longest = merge(&[order], 2).iter().map(Vec::len).max().unwrap();
            // The one that comes while the dispatch waits joins it.
            assert!(longest <= most + 1 && longest >= most / 2, "{longest}");
        }
    }

    #[test]
    fn equal_graphs_need_no_more_dispatches_than_one() {
        let mut stream = Stream::new(4, 1, 4);
        for calls in [1, 10, 100] {
            let (order, _) = random(&mut stream, calls);
            let three = vec![order.clone(); 3];
            assert_eq!(merge(&three, VARIANTS).len(), merge(&[order], VARIANTS).len());
        }
    }

    #[test]
    fn supersequences_are_shortest() {
        let text = |letters: &str| letters.bytes().map(usize::from).collect::<Vec<_>>();
        for (a, b, length) in
            [("", "", 0), ("abc", "", 3), ("abcbdab", "bdcaba", 9), ("aaaa", "aa", 4), ("ab", "ba", 3)]
        {
            let all = supersequence(&text(a), &text(b));
            assert_eq!(all.len(), length, "{a} {b}");
            for part in [a, b] {
                let mut rest = all.iter();
                assert!(text(part).iter().all(|letter| rest.any(|other| other == letter)), "{a} {b}");
            }
        }
    }
}
