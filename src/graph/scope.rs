//! On which paths a tensor holds something.
//!
//! Tensors of options that exclude each other may lie at the same place, whenever they live: on no path are both written. So a supernet
//! whose options have maps of different sizes needs the memory of its largest path.

use super::ir::{Graph, Guard, Op, TensorId};

impl Graph {
    /// A guard of all options of its choice is none.
    pub(super) fn normal(&self, guard: Guard) -> Guard {
        let options = self.choices.get(usize::from(guard.choice)).copied().unwrap_or(0);
        let all = 1u32.checked_shl(options.into()).map_or(u32::MAX, |bit| bit - 1);
        if options > 0 && guard.options & all == all { Guard::ALWAYS } else { guard }
    }
}

/// The guard under which each of `tensors` tensors is written or read; `None` of what nothing touches. The graph does not know those of
/// the kernels' own, which `others` has.
pub(super) fn scopes(
    graph: &Graph,
    others: impl Iterator<Item = (TensorId, Guard)>,
    tensors: usize,
) -> Vec<Option<Guard>> {
    let mut scopes: Vec<Option<Guard>> = vec![None; tensors];
    let mut touch = |tensor: TensorId, guard: Guard| {
        let scope = &mut scopes[tensor.0 as usize];
        *scope = Some(scope.map_or(guard, |scope| scope.or(guard)));
    };
    for node in &graph.nodes {
        // What a sum or a norm reads under a guard of its own it does not touch on other paths.
        let own = |guard: Guard| if node.guard == Guard::ALWAYS { guard } else { node.guard };
        let (reads, writes) = node.op.operands();
        match &node.op {
            Op::Combine { terms, .. } => {
                terms.iter().for_each(|term| term.reads().into_iter().for_each(|t| touch(t, own(term.guard))));
            }
            Op::GlobalNorm { gradients, .. } => {
                for &(guard, g, w) in gradients {
                    [Some(g), w].into_iter().flatten().for_each(|t| touch(t, own(guard)));
                }
            }
            _ => reads.into_iter().for_each(|t| touch(t, node.guard)),
        }
        writes.into_iter().for_each(|t| touch(t, node.guard));
    }
    others.filter(|(t, _)| t.0 as usize >= graph.tensors.len()).for_each(|(t, guard)| touch(t, guard));
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Shape, Term, TermKind};

    #[test]
    fn scopes_are_those_of_all_uses() {
        let mut b = Builder::new();
        let choice = b.choice(3);
        let shape = Shape::map(1, 2, 2, 4);
        let guard = |options| Guard::new(choice, options);
        let [x, unused] = [(); 2].map(|()| b.temporary(shape));
        let make =
            |b: &mut Builder, options| b.guarded(guard(options), |b| b.sum(shape, vec![Term::new(x, TermKind::Relu)]));
        let (one, other) = (make(&mut b, 0b001), make(&mut b, 0b110));
        let term = |a, options| Term { guard: guard(options), a, kind: TermKind::Plain };
        let sum = b.sum(shape, vec![term(one, 0b001), term(other, 0b010)]);
        let everywhere = make(&mut b, 0b001);
        b.sum(shape, vec![Term::new(everywhere, TermKind::Plain)]);
        let graph = b.finish();
        let of = scopes(&graph, std::iter::empty(), graph.tensors.len());
        let at = |t: TensorId| of[t.0 as usize];
        assert_eq!([at(one), at(other)], [0b001, 0b110].map(|options| Some(guard(options))));
        assert_eq!(
            [at(x), at(sum), at(everywhere), at(unused)],
            [Some(guard(0b111)), Some(Guard::ALWAYS), Some(Guard::ALWAYS), None]
        );
    }
}
