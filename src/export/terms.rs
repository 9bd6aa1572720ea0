//! Sums of terms as ONNX's operators: what is seen of each tensor, and what is added, put side by side or moved.

use super::lower::{Lowering, refused};
use super::program::{Attribute, INPUT};
use crate::error::Result;
use crate::graph::{TensorId, Term, TermKind};

/// Slope and middle of the hard sigmoid `min(max(z + 3, 0), 6) / 6`; ONNX's own slope is another, but in its hard swish.
const HARD_SIGMOID: [(&str, Attribute); 2] = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
/// Where the axes rows, columns and channels stand in ONNX.
const AXES: [i64; 3] = [2, 3, 1];

/// What of a tensor is seen along an axis, and how many zeros stand before and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    begin: usize,
    end: usize,
    before: usize,
    behind: usize,
}

impl Part {
    /// A sum's axis of `to` places, of which place `i` shows place `i + by` of a tensor's axis of `from`; `None` if that shows nothing.
    fn of(from: usize, to: usize, by: i32) -> Option<Self> {
        let shift = by.unsigned_abs() as usize;
        let (begin, before) = if by > 0 { (shift, 0) } else { (0, shift) };
        let end = from.min(to.checked_sub(before)? + begin);
        let seen = end.checked_sub(begin).filter(|seen| *seen > 0)?;
        Some(Part { begin, end, before, behind: to - before - seen })
    }

    fn is_cut(&self, from: usize) -> bool {
        self.begin > 0 || self.end < from
    }
}

/// Rows, columns and channels of `images, rows, columns, channels`.
fn sides([_, rows, columns, channels]: [usize; 4]) -> [usize; 3] {
    [rows, columns, channels]
}

impl Lowering<'_> {
    /// The sum of terms, which is what `y` holds.
    pub fn sum(&mut self, terms: &[Term], y: TensorId) -> Result<String> {
        terms.iter().try_for_each(|term| self.check_guard(term.guard))?;
        if let Some(parts) = self.side_by_side(terms, y) {
            let parts = parts.into_iter().map(|part| self.map(part)).collect::<Result<_>>()?;
            return Ok(self.program.push("joined", "Concat", parts, vec![("axis", Attribute::Integer(1))]));
        }
        let mut sum = None;
        for term in terms {
            let value = self.term(term, y)?;
            sum = Some(match sum {
                None => value,
                Some(sum) => self.program.push("sum", "Add", vec![sum, value], vec![]),
            });
        }
        sum.map_or_else(|| Ok(self.zeros(sides(self.axes(y)))), Ok)
    }

    /// The tensors whose channels a sum holds one after another, if it is made of several such.
    fn side_by_side(&self, terms: &[Term], y: TensorId) -> Option<Vec<TensorId>> {
        let [images, rows, columns, channels] = self.axes(y);
        let (mut next, mut parts) = (0, vec![]);
        for term in terms {
            let own = self.axes(term.a);
            let follows = term.kind == TermKind::Moved { by: [0, 0, -(next as i32)] };
            if !follows || own != [images, rows, columns, own[3]] {
                return None;
            }
            next += own[3];
            parts.push(term.a);
        }
        (parts.len() > 1 && next == channels).then_some(parts)
    }

    /// The value of one term.
    fn term(&mut self, term: &Term, y: TensorId) -> Result<String> {
        if let TermKind::Moved { by } = term.kind {
            return self.moved(term.a, y, by);
        }
        let is_window = matches!(term.kind, TermKind::AvgPool(_));
        if !is_window && self.axes(term.a) != self.axes(y) {
            return Err(refused("a sum that sees values under another shape"));
        }
        self.view(term.a, term.kind)
    }

    /// How a tensor is seen, which is computed once for all that see it so.
    pub fn view(&mut self, a: TensorId, kind: TermKind) -> Result<String> {
        let known = self.views.get(&a).and_then(|views| views.iter().find(|(own, _)| *own == kind));
        if let Some((_, name)) = known {
            return Ok(name.clone());
        }
        let name = self.seen(a, kind)?;
        self.views.entry(a).or_default().push((kind, name.clone()));
        Ok(name)
    }

    fn seen(&mut self, a: TensorId, kind: TermKind) -> Result<String> {
        let x = self.map(a)?;
        match kind {
            TermKind::Plain => Ok(x),
            TermKind::Relu => Ok(self.program.push(&format!("{x}.relu"), "Relu", vec![x], vec![])),
            TermKind::Affine { coefficients } => self.normalised(x, coefficients),
            TermKind::AvgPool(window) => Ok(self.averaged(x, window)),
            TermKind::HardSwish { coefficients } => {
                let x = match coefficients {
                    Some(coefficients) => self.view(a, TermKind::Affine { coefficients })?,
                    None => x,
                };
                Ok(self.program.push(&format!("{x}.hard_swish"), "HardSwish", vec![x], vec![]))
            }
            TermKind::Gated { gates } => {
                let gates = self.map(gates)?;
                let share = self.program.push(
                    &format!("{gates}.hard_sigmoid"),
                    "HardSigmoid",
                    vec![gates],
                    HARD_SIGMOID.to_vec(),
                );
                Ok(self.program.push(&format!("{x}.gated"), "Mul", vec![x, share], vec![]))
            }
            TermKind::Product { b } | TermKind::Weighted { factors: b } | TermKind::Scaled { factors: b } => {
                let b = self.map(b)?;
                Ok(self.program.push(&format!("{x}.times"), "Mul", vec![x, b], vec![]))
            }
            other => {
                let text = format!("{other:?}");
                let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                Err(refused(&format!("a sum with the term {name}")))
            }
        }
    }

    /// A map as it is seen from `by` rows, columns and channels away.
    fn moved(&mut self, a: TensorId, y: TensorId, by: [i32; 3]) -> Result<String> {
        let (x, from, to) = (self.map(a)?, sides(self.axes(a)), sides(self.axes(y)));
        let part = |axis: usize| Part::of(from[axis], to[axis], by[axis]);
        let (Some(rows), Some(columns), Some(channels)) = (part(0), part(1), part(2)) else {
            return Ok(self.zeros(to));
        };
        let parts = [rows, columns, channels];
        let cut: Vec<usize> = (0..3).filter(|&axis| parts[axis].is_cut(from[axis])).collect();
        let mut name = x;
        if !cut.is_empty() {
            let mut list = |value: &dyn Fn(usize) -> i64| {
                let values: Vec<i64> = cut.iter().map(|&axis| value(axis)).collect();
                self.program.integers(&values)
            };
            let starts = list(&|axis| parts[axis].begin as i64);
            let ends = list(&|axis| parts[axis].end as i64);
            let axes = list(&|axis| AXES[axis]);
            name = self.program.push(&format!("{name}.part"), "Slice", vec![name, starts, ends, axes], vec![]);
        }
        if parts.iter().any(|part| part.before + part.behind > 0) {
            let before = [0, channels.before, rows.before, columns.before];
            let behind = [0, channels.behind, rows.behind, columns.behind];
            let pads: Vec<i64> = before.into_iter().chain(behind).map(|count| count as i64).collect();
            let pads = self.program.integers(&pads);
            name = self.program.push(&format!("{name}.bordered"), "Pad", vec![name, pads], vec![]);
        }
        Ok(name)
    }

    /// Zeros for each image.
    fn zeros(&mut self, [rows, columns, channels]: [usize; 3]) -> String {
        let first = vec![("start", Attribute::Integer(0)), ("end", Attribute::Integer(1))];
        let images = self.program.push("count", "Shape", vec![INPUT.to_owned()], first);
        let rest = self.program.integers(&[channels, rows, columns].map(|side| side as i64));
        let axis = vec![("axis", Attribute::Integer(0))];
        let shape = self.program.push("count.shape", "Concat", vec![images, rest], axis);
        let zero = self.program.filled("zeros", 0.0, 1);
        self.program.push("zeros", "Expand", vec![zero, shape], vec![])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_show_what_the_interpreter_shows() {
        for (from, to) in [(1, 1), (3, 5), (5, 3), (4, 4), (2, 7)] {
            for by in -8..=8 {
                let seen: Vec<Option<usize>> = (0..to)
                    .map(|place: usize| place.checked_add_signed(by as isize).filter(|place| *place < from))
                    .collect();
                let Some(part) = Part::of(from, to, by) else {
                    assert!(seen.iter().all(Option::is_none), "{from} {to} {by}");
                    continue;
                };
                let zeros = |count: usize| std::iter::repeat_n(None, count);
                let own: Vec<Option<usize>> =
                    zeros(part.before).chain((part.begin..part.end).map(Some)).chain(zeros(part.behind)).collect();
                assert_eq!(own, seen, "{from} {to} {by}");
            }
        }
    }
}
