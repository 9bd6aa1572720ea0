//! Packing tensors into memory by their life times.
//!
//! One tensor after the other, each at the lowest place where nothing that lives at the same time lies. Which comes first
//! matters: the largest, the one that takes most space and time, the one that lives longest; no rule is always best, so all
//! are tried. Bins are as large as one binding may be; a tensor never spans two.

use std::cmp::Reverse;

/// A tensor to be placed: alive from dispatch `first` to dispatch `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Length, in any unit.
    pub size: u64,
    /// First dispatch that touches it.
    pub first: usize,
    /// Last dispatch that touches it.
    pub last: usize,
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
                if o.first > item.last || item.first > o.last {
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
        let item = |size, first, last| Interval { size, first, last };
        let layout = pack(&[item(4, 0, 1), item(4, 1, 2), item(4, 2, 3)], 100).unwrap();
        assert_eq!(layout.bins, [8]);
        assert_eq!(pack(&[item(101, 0, 0)], 100), Err(101));
        assert_eq!(pack(&[item(60, 0, 1), item(60, 1, 2)], 100).unwrap().bins, [60, 60]);
    }

    proptest! {
        #[test]
        fn nothing_alive_overlaps(list in prop::collection::vec((1u64..50, 0usize..30, 0usize..10), 1..60), limit in 50u64..200) {
            let items: Vec<_> = list.iter().map(|&(size, first, more)| Interval { size, first, last: first + more }).collect();
            let layout = pack(&items, limit).unwrap();
            for (i, a) in items.iter().enumerate() {
                let (bin, at) = layout.places[i];
                prop_assert!(at + a.size <= layout.bins[bin] && layout.bins[bin] <= limit);
                for (j, b) in items.iter().enumerate().skip(i + 1) {
                    let (other, start) = layout.places[j];
                    let together = a.first <= b.last && b.first <= a.last;
                    prop_assert!(!(together && bin == other && at < start + b.size && start < at + a.size));
                }
            }
            // At least what is alive at the busiest moment, at most everything side by side.
            let busiest = (0..40).map(|t| items.iter().filter(|i| i.first <= t && t <= i.last).map(|i| i.size).sum::<u64>()).max().unwrap();
            let total: u64 = layout.bins.iter().sum();
            prop_assert!(total >= busiest && total <= items.iter().map(|i| i.size).sum());
        }
    }
}
