//! Which calls of which networks share a dispatch.
//!
//! Any calls of one variant may, unless one waits for the other. Which to run when is found in three steps:
//!
//! 1. Each distinct graph gets an order of variants by itself: of all variants that have a call whose turn has come, the
//!    next is the one whose calls still to come lie earliest on average (Neubig, Goldberg and Dyer, "On-the-fly operation
//!    batching in dynamic computation graphs", 2017, section 3.2), with all its calls that are ready.
//! 2. The orders become one that contains each of them, as short as can be (a shortest common supersequence, pair by
//!    pair, the longest order first). Networks that differ in depth and width meet wherever they do the same.
//! 3. All graphs walk along this one order; at each place, every call of its variant that is ready runs. That is never
//!    later than the graph's own order had it, so all calls run; places that nobody needs are dropped.
//!
//! Instances of one graph go in step, for they share a layout of memory.

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
    /// Length of the longest chain of calls before each call.
    levels: Vec<usize>,
}

impl Order {
    /// The order that the reads and writes of `calls` ask for; `numbers` names variants.
    pub fn of<'a>(calls: &'a [Arc<Call>], tensors: usize, numbers: &mut BTreeMap<&'a Variant, usize>) -> Self {
        let mut order = Order { variants: vec![], waits: vec![], followers: vec![vec![]; calls.len()], levels: vec![] };
        for (index, before) in waits(calls, tensors).into_iter().enumerate() {
            let next = numbers.len();
            order.variants.push(*numbers.entry(&calls[index].variant).or_insert(next));
            order.waits.push(before.len());
            order.levels.push(before.iter().map(|&b| order.levels[b] + 1).max().unwrap_or(0));
            before.into_iter().for_each(|b| order.followers[b].push(index));
        }
        order
    }

    /// Variants in the order in which this graph alone would run them.
    fn alone(&self, variants: usize) -> Vec<usize> {
        // Calls to come of each variant, and the sum of their levels.
        let mut to_come = vec![(0, 0); variants];
        for (&variant, &level) in self.variants.iter().zip(&self.levels) {
            to_come[variant].0 += 1;
            to_come[variant].1 += level;
        }
        let mut walk = Walk::new(self, variants);
        let mut sequence = vec![];
        loop {
            let ready = (0..variants).filter(|&v| !walk.ready[v].is_empty());
            // Means are compared as products, which are exact.
            let next = ready.min_by(|&a, &b| {
                let ((calls_a, levels_a), (calls_b, levels_b)) = (to_come[a], to_come[b]);
                (levels_a * calls_b).cmp(&(levels_b * calls_a))
            });
            let Some(variant) = next else { return sequence };
            sequence.push(variant);
            for call in walk.run(variant) {
                to_come[variant].0 -= 1;
                to_come[variant].1 -= self.levels[call];
            }
        }
    }
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
    alone.sort_by_key(|sequence| std::cmp::Reverse(sequence.len()));
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
        let sibling = |other: &usize| {
            let guard = calls[*other].guard;
            guard.choice == call.guard.choice && guard.options & call.guard.options == 0
        };
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
        let mut order = Order { variants: vec![], waits: vec![], followers: vec![vec![]; calls], levels: vec![] };
        let mut all = vec![];
        for call in 0..calls {
            let mut before: Vec<usize> =
                (0..stream.below(4)).filter(|_| call > 0).map(|_| stream.below(call as u64) as usize).collect();
            before.sort_unstable();
            before.dedup();
            order.variants.push(stream.below(VARIANTS as u64) as usize);
            order.waits.push(before.len());
            order.levels.push(before.iter().map(|&b| order.levels[b] + 1).max().unwrap_or(0));
            before.iter().for_each(|&b| order.followers[b].push(call));
            all.push(before);
        }
        (order, all)
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
