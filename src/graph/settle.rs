//! Where in the order of dispatches each one runs, as far as that is free.
//!
//! [`merge`](super::merge) says which calls run together and in which order; that order is one of many that are as short. A
//! weight gradient, for instance, holds a map and its gradient until it runs, and nothing waits for it but the update. So each
//! dispatch moves, between those that it waits for and those that wait for it, to where the tensors that it touches are alive
//! for the shortest time, weighted by their size. Of the orders after each of a few rounds the one is taken that needs least
//! memory at its busiest moment; memory is packed after it.

use std::collections::HashMap;

/// Most rounds in which all dispatches are moved.
const ROUNDS: usize = 8;

/// What tells tensors apart: the graph and the number in it.
type Name = (usize, usize);

/// What one dispatch needs to know of the others.
#[derive(Default)]
struct Node {
    /// Dispatches that it waits for, and those that wait for it.
    before: Vec<usize>,
    after: Vec<usize>,
    /// Tensors that it touches.
    tensors: Vec<usize>,
}

/// A tensor that is placed by its life time.
struct Tensor {
    size: u64,
    /// Dispatches that touch it.
    users: Vec<usize>,
}

/// A new order of dispatches, as indices into the old one. `waits` lists for each dispatch those that it waits for; `touched`
/// for each dispatch the tensors that it touches, and their sizes.
pub(super) fn settle(waits: &[Vec<usize>], touched: &[Vec<(Name, u64)>]) -> Vec<usize> {
    let mut nodes: Vec<Node> = waits.iter().map(|before| Node { before: before.clone(), ..Node::default() }).collect();
    for (index, before) in waits.iter().enumerate() {
        before.iter().for_each(|&b| nodes[b].after.push(index));
    }
    let mut numbers: HashMap<Name, usize> = HashMap::new();
    let mut tensors: Vec<Tensor> = vec![];
    for (index, list) in touched.iter().enumerate() {
        for &(name, size) in list {
            let number = *numbers.entry(name).or_insert_with(|| {
                tensors.push(Tensor { size, users: vec![] });
                tensors.len() - 1
            });
            if tensors[number].users.last() != Some(&index) {
                tensors[number].users.push(index);
                nodes[index].tensors.push(number);
            }
        }
    }
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    let mut place = order.clone();
    let mut best = (busiest(&tensors, &place), order.clone());
    for _ in 0..ROUNDS {
        let mut moved = false;
        for index in order.clone() {
            let from = place[index];
            let to = best_place(&nodes[index], index, &tensors, &place);
            if to != from {
                moved = true;
                if to < from {
                    order[to..=from].rotate_right(1)
                } else {
                    order[from..=to].rotate_left(1)
                }
                (from.min(to)..=from.max(to)).for_each(|at| place[order[at]] = at);
            }
        }
        if !moved {
            break;
        }
        let most = busiest(&tensors, &place);
        if most < best.0 {
            best = (most, order.clone());
        }
    }
    best.1
}

/// What is alive at the busiest moment.
fn busiest(tensors: &[Tensor], place: &[usize]) -> u64 {
    // What begins at each place, and what ended before it.
    let (mut begins, mut ended) = (vec![0; place.len() + 1], vec![0; place.len() + 1]);
    for Tensor { size, users } in tensors {
        let places = users.iter().map(|&user| place[user]);
        let (first, last) = places.fold((usize::MAX, 0), |(first, last), at| (first.min(at), last.max(at)));
        begins[first] += size;
        ended[last + 1] += size;
    }
    let alive = begins.iter().zip(&ended).scan(0u64, |alive, (begins, ended)| {
        *alive = *alive + begins - ended;
        Some(*alive)
    });
    alive.max().unwrap_or(0)
}

/// Where a dispatch costs least. The cost is the sum over its tensors of size times life time: with the first and the last
/// place of a tensor's other users that is `max(last, at) - min(first, at)` times its size, which is convex in `at`. So its
/// slope, which changes at those places, is followed to where it changes sign, and bounds do no harm.
fn best_place(node: &Node, index: usize, tensors: &[Tensor], place: &[usize]) -> usize {
    let own = place[index];
    let low = node.before.iter().map(|&b| place[b] + 1).max().unwrap_or(0);
    let high = node.after.iter().map(|&a| place[a] - 1).min().unwrap_or(place.len() - 1);
    if low == high {
        return own;
    }
    let (mut turns, mut slope) = (vec![], 0i128);
    for Tensor { size, users } in node.tensors.iter().map(|&t| &tensors[t]) {
        let others = users.iter().filter(|&&user| user != index).map(|&user| place[user]);
        let (first, last) = others.fold((usize::MAX, 0), |(first, last), at| (first.min(at), last.max(at)));
        if first != usize::MAX {
            turns.extend([(first, *size), (last, *size)]);
            slope -= i128::from(*size);
        }
    }
    turns.sort_unstable();
    // It stays where it is unless another place is better.
    let (mut from, mut to) = (None, None);
    for (at, size) in turns {
        if from.is_some() && slope > 0 {
            break;
        }
        slope += i128::from(size);
        if slope >= 0 {
            from.get_or_insert(at);
            to = Some(at);
        }
    }
    let (from, to) = (from.unwrap_or(own), to.unwrap_or(own));
    own.clamp(from, to.max(from)).clamp(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    /// What is alive at the busiest moment, moment by moment.
    fn most(order: &[usize], touched: &[Vec<(Name, u64)>]) -> u64 {
        let mut lives: HashMap<Name, (u64, usize, usize)> = HashMap::new();
        for (at, &index) in order.iter().enumerate() {
            for &(name, size) in &touched[index] {
                lives.entry(name).or_insert((size, at, at)).2 = at;
            }
        }
        let alive = |at| lives.values().filter(|life| (life.1..=life.2).contains(&at)).map(|life| life.0).sum();
        (0..order.len()).map(alive).max().unwrap_or(0)
    }

    #[test]
    fn what_frees_memory_runs_early_and_what_takes_it_late() {
        // 0 makes a, 1 to 4 go on with tensors of their own, 5 frees a; 6 makes what only 7 reads, the last of all.
        let waits = vec![vec![], vec![0], vec![1], vec![2], vec![3], vec![0], vec![], vec![4, 6]];
        let mut touched: Vec<Vec<(Name, u64)>> = (0..8).map(|index| vec![((0, 10 + index), 5)]).collect();
        touched[0] = vec![((0, 0), 10)];
        touched[5] = vec![((0, 0), 10), ((0, 1), 1)];
        touched[6] = vec![((0, 2), 10)];
        touched[7] = vec![((0, 2), 10)];
        let order = settle(&waits, &touched);
        let place = |index: usize| order.iter().position(|&i| i == index).unwrap();
        assert_eq!(place(5), place(0) + 1, "{order:?}");
        assert_eq!(place(7), place(6) + 1, "{order:?}");
    }

    #[test]
    fn orders_stay_right_and_hold_no_more() {
        let mut stream = Stream::new(6, 1, 4);
        for count in [1usize, 2, 10, 80, 200] {
            let (mut waits, mut touched) = (vec![], vec![]);
            for index in 0..count {
                let mut before: Vec<usize> =
                    (0..stream.below(3)).filter(|_| index > 0).map(|_| stream.below(index as u64) as usize).collect();
                before.sort_unstable();
                before.dedup();
                let size = |index: usize| ((0, index), 1 + index as u64 * 7 % 13);
                let list = before.iter().copied().chain([index]).map(size);
                touched.push(list.collect::<Vec<_>>());
                waits.push(before);
            }
            let order = settle(&waits, &touched);
            let mut place = vec![usize::MAX; count];
            order.iter().enumerate().for_each(|(at, &index)| place[index] = at);
            assert!(waits.iter().enumerate().all(|(i, before)| before.iter().all(|&b| place[b] < place[i])));
            let plain: Vec<usize> = (0..count).collect();
            assert!(most(&order, &touched) <= most(&plain, &touched), "{count}");
        }
    }
}
