//! Packing tensors into memory by their life times.
//!
//! One tensor after the other, each at the lowest place where nothing that lives at the same time, on any path, lies. Which comes first
//! matters: the largest, the one that takes most space and time, the one that lives longest; no rule is always best, so all
//! are tried. Bins are as large as one binding may be; a tensor never spans two.

use std::cmp::Reverse;

use super::ir::Guard;

/// A tensor to be placed: alive from dispatch `first` to dispatch `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Length, in any unit.
    pub size: u64,
    /// First dispatch that touches it.
    pub first: usize,
    /// Last dispatch that touches it.
    pub last: usize,
    /// On which paths any does.
    pub scope: Guard,
}

impl Interval {
    /// Whether both may lie at the same place.
    fn parts_from(&self, other: &Interval) -> bool {
        self.first > other.last || other.first > self.last || self.scope.excludes(&other.scope)
    }
}

/// Where tensors lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bin and offset of each interval, in the order given.
    pub places: Vec<(usize, u64)>,
    /// Used length of each bin.
    pub bins: Vec<u64>,
}

/// Places all intervals in bins of at most `limit`; `Err` has the size of an interval that is larger than a bin.
pub fn pack(intervals: &[Interval], limit: u64) -> Result<Layout, u64> {
    // Powers of size and time; a probe lives for ever, which is long enough if it is longer than all else.
    let rules = [(1, 0), (2, 1), (1, 1), (0, 1)];
    let time = |i: &Interval| (i.last - i.first).min(1 << 20) as u128 + 1;
    let layouts = rules.iter().map(|&(space, long)| {
        let mut order: Vec<usize> = (0..intervals.len()).collect();
        let weight = |i: &Interval| u128::from(i.size).pow(space) * time(i).pow(long);
        order.sort_by_key(|&i| (Reverse(weight(&intervals[i])), Reverse(intervals[i].size), i));
        place(intervals, &order, limit)
    });
    let layouts = layouts.collect::<Result<Vec<_>, u64>>()?;
    // Fewer bins first: tensors of one dispatch should lie in one.
    let best = layouts.into_iter().min_by_key(|layout| (layout.bins.len(), layout.bins.iter().sum::<u64>()));
    Ok(best.unwrap_or(Layout { places: vec![], bins: vec![] }))
}

/// Places intervals in this order.
fn place(intervals: &[Interval], order: &[usize], limit: u64) -> Result<Layout, u64> {
    let mut places = vec![(0, 0); intervals.len()];
    let mut bins: Vec<u64> = vec![];
    // Placed intervals of each bin, by offset.
    let mut placed: Vec<Vec<usize>> = vec![];
    for &i in order {
        let item = intervals[i];
        if item.size > limit {
            return Err(item.size);
        }
        let mut chosen = None;
        for (bin, list) in placed.iter().enumerate() {
            let mut at = 0;
            for &other in list {
                let o = intervals[other];
                if o.parts_from(&item) {
                    continue;
                }
                let start = places[other].1;
                if start >= at + item.size {
                    break;
                }
                at = at.max(start + o.size);
            }
            if at + item.size <= limit {
                chosen = Some((bin, at));
                break;
            }
        }
        let (bin, at) = chosen.unwrap_or_else(|| {
            bins.push(0);
            placed.push(vec![]);
            (bins.len() - 1, 0)
        });
        places[i] = (bin, at);
        bins[bin] = bins[bin].max(at + item.size);
        let position = placed[bin].partition_point(|&o| places[o].1 <= at);
        placed[bin].insert(position, i);
    }
    Ok(Layout { places, bins })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reuses_what_is_dead() {
        let item = |size, first, last| Interval { size, first, last, scope: Guard::ALWAYS };
        let layout = pack(&[item(4, 0, 1), item(4, 1, 2), item(4, 2, 3)], 100).unwrap();
        assert_eq!(layout.bins, [8]);
        assert_eq!(pack(&[item(101, 0, 0)], 100), Err(101));
        assert_eq!(pack(&[item(60, 0, 1), item(60, 1, 2)], 100).unwrap().bins, [60, 60]);
        // Of options that exclude each other the largest counts, beside what is on all paths.
        let option = |size, option: u32| Interval { scope: Guard::new(3, 1 << option), ..item(size, 0, 9) };
        let layout = pack(&[option(20, 0), item(7, 2, 3), option(50, 1), option(30, 2)], 100).unwrap();
        assert_eq!(layout.bins, [57]);
        assert_eq!(pack(&[option(20, 0), option(50, 0)], 100).unwrap().bins, [70]);
    }

    proptest! {
        #[test]
        fn nothing_alive_overlaps(list in prop::collection::vec((1u64..50, 0usize..30, 0usize..10, 0u32..4), 1..60), limit in 50u64..200) {
            // The last of four options is none: a tensor of all paths.
            let scope = |option| if option == 3 { Guard::ALWAYS } else { Guard::new(0, 1u32 << option) };
            let item = |&(size, first, more, option)| Interval { size, first, last: first + more, scope: scope(option) };
            let items: Vec<_> = list.iter().map(item).collect();
            let layout = pack(&items, limit).unwrap();
            for (i, a) in items.iter().enumerate() {
                let (bin, at) = layout.places[i];
                prop_assert!(at + a.size <= layout.bins[bin] && layout.bins[bin] <= limit);
                for (j, b) in items.iter().enumerate().skip(i + 1) {
                    let (other, start) = layout.places[j];
                    let together = a.first <= b.last && b.first <= a.last && !a.scope.excludes(&b.scope);
                    prop_assert!(!(together && bin == other && at < start + b.size && start < at + a.size));
                }
            }
            // At least what is alive on a path at the busiest moment, at most everything side by side.
            let alive = |t: usize, option: u8| {
                let own = items.iter().filter(|i| i.first <= t && t <= i.last && i.scope.active(&[option]));
                own.map(|i| i.size).sum::<u64>()
            };
            let busiest = (0..40).flat_map(|t| (0..3).map(move |option| (t, option))).map(|(t, option)| alive(t, option)).max().unwrap();
            let total: u64 = layout.bins.iter().sum();
            prop_assert!(total >= busiest && total <= items.iter().map(|i| i.size).sum());
        }
    }
}
