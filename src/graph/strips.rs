//! Tensors that lie side by side in memory.
//!
//! What is done alike to every value of several tensors (a norm, a step of an optimiser) is one task over one long tensor
//! where they lie side by side. Tensors that outlive a plan do so in their store, in the order of the graph; temporaries
//! do so in *strips*.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::build::Builder;
use super::ir::{Graph, Role, TensorId};

impl Builder {
    /// Has temporaries lie side by side in memory, in this order; they take it together, from the first use of one to the
    /// last use of any. One that outlives the plan or is in a strip already stays where it is, and parts this one in two.
    pub fn side_by_side(&mut self, tensors: &[TensorId]) {
        let mut taken: HashSet<TensorId> = self.graph.strips.iter().flatten().copied().collect();
        let stays = |t: &TensorId| self.graph.tensor(*t).persistent.is_some() || !taken.insert(*t);
        let strips: Vec<_> = tensors.split(stays).filter(|strip| strip.len() > 1).map(<[_]>::to_vec).collect();
        self.graph.strips.extend(strips);
    }
}

impl Graph {
    /// The tensor directly behind each one, as far as the graph decides that: in its strip, or in the store of its role
    /// if that was made for this graph.
    pub fn neighbours(&self) -> HashMap<TensorId, TensorId> {
        let mut roles: BTreeMap<Role, Vec<TensorId>> = BTreeMap::new();
        for id in self.ids() {
            if let Some(info) = &self.tensor(id).persistent {
                roles.entry(info.role).or_default().push(id);
            }
        }
        let lists = roles.values().chain(&self.strips);
        lists.flat_map(|list| list.iter().copied().zip(list.iter().copied().skip(1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Init, Shape};

    #[test]
    fn strips_end_at_what_lies_elsewhere() {
        let mut b = Builder::new();
        let mut tensors: Vec<TensorId> = (1..8).map(|c| b.temporary(Shape::vector(c))).collect();
        let mut stored =
            |name: &str, role| b.persistent(role, name, Shape::vector(3), Init::Constant(0.0), &[3]).unwrap();
        let [one, other, two] =
            [("one", Role::Weights), ("other", Role::Momentum), ("two", Role::Weights)].map(|(n, g)| stored(n, g));
        tensors.insert(3, other);
        b.side_by_side(&tensors);
        // Of these all but the first are taken, and a tensor alone is no strip.
        let fresh = b.temporary(Shape::vector(1));
        b.side_by_side(&[fresh, tensors[0], tensors[1]]);
        b.side_by_side(&[fresh, fresh]);
        let graph = b.finish();
        assert_eq!(graph.strips, [tensors[..3].to_vec(), tensors[4..].to_vec()]);
        let mut neighbours: Vec<_> = graph.neighbours().into_iter().collect();
        neighbours.sort_unstable();
        let mut wanted: Vec<_> = graph.strips.iter().flat_map(|s| s.windows(2).map(|w| (w[0], w[1]))).collect();
        wanted.push((one, two));
        wanted.sort_unstable();
        assert_eq!(neighbours, wanted);
    }
}
