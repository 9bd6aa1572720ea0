//! Reverse-mode differentiation: appends the gradients of a graph as operations of the same kind.
//!
//! Every consumer of a tensor contributes [`Term`]s to its gradient; they are summed by one [`Op::Combine`] when all
//! consumers have been seen. So a rectifier's mask, a pool's spreading and a batch norm's correction never cost a pass
//! of their own: they are views of the terms.
//!
//! Gradients of convolutions, sums, rectifiers, pools, batch norms and the cross-entropy have gradients themselves:
//! a second call of [`Builder::backward`], with first gradients as outputs, gives products with the Hessian.

use std::collections::HashMap;

use super::build::Builder;
use super::ir::*;
use super::term::{Term, TermKind};
use crate::error::{Error, Result};

/// Gradient tensors by the tensor that they belong to.
#[derive(Clone, Debug, Default)]
pub struct Gradients(HashMap<TensorId, TensorId>);

impl Gradients {
    /// The gradient with respect to `tensor`, if the loss depends on it.
    pub fn get(&self, tensor: TensorId) -> Option<TensorId> {
        self.0.get(&tensor).copied()
    }
}

/// Contributions collected so far, and the gradients already summed.
struct Tape {
    terms: HashMap<TensorId, Vec<Term>>,
    done: Gradients,
    wanted: Vec<TensorId>,
}

impl Builder {
    /// Appends the gradients of a loss, given pairs of an output and the loss's gradient (a seed) with respect to it. Seeds
    /// are constants: with the gradients `g` of an earlier call as outputs and seeds, the result is the Hessian times `g`
    /// (Pearlmutter 1994).
    ///
    /// Weights and batch inputs that the loss does not depend on get a gradient of zeros if they are listed in `wanted`;
    /// `wanted` tensors are those whose gradient is asked for (weights, or an input for an attack).
    ///
    /// # Errors
    /// If an operation on the way has no gradient here.
    pub fn backward(&mut self, outputs: &[(TensorId, TensorId)], wanted: &[TensorId]) -> Result<Gradients> {
        let mut tape = Tape { terms: HashMap::new(), done: Gradients::default(), wanted: wanted.to_vec() };
        for &(output, seed) in outputs {
            tape.terms.entry(output).or_default().push(Term::new(seed, TermKind::Plain));
        }
        let needs = self.depends_on(wanted);
        let outer = self.guard;
        for node in self.graph.nodes.clone().iter().rev() {
            self.guard = Some(node.guard);
            self.node_gradient(&node.op, &needs, &mut tape)?;
        }
        self.guard = outer;
        for &tensor in wanted {
            if self.gradient_of(tensor, &mut tape).is_none() {
                let zeros = self.sum(self.shape(tensor), vec![]);
                tape.done.0.insert(tensor, zeros);
            }
        }
        Ok(tape.done)
    }

    /// Tensors that depend on one of `sources`.
    fn depends_on(&self, sources: &[TensorId]) -> Vec<bool> {
        let mut needs = vec![false; self.graph.tensors.len()];
        sources.iter().for_each(|t| needs[t.0 as usize] = true);
        for node in &self.graph.nodes {
            // Images that an attack has moved are constants to who learns from them.
            if let Op::AttackStart { .. } | Op::AttackJudge { .. } | Op::AttackStep { .. } = node.op {
                continue;
            }
            let (reads, writes) = node.op.operands();
            if reads.iter().any(|t| needs[t.0 as usize]) {
                writes.iter().for_each(|t| needs[t.0 as usize] = true);
            }
        }
        needs
    }

    /// Sums what has been contributed to the gradient of `tensor`; `None` if nothing was.
    fn gradient_of(&mut self, tensor: TensorId, tape: &mut Tape) -> Option<TensorId> {
        if let Some(gradient) = tape.done.get(tensor) {
            return Some(gradient);
        }
        let terms = tape.terms.remove(&tensor)?;
        let scope = self.scope_of(tensor);
        let gradient = match terms[..] {
            // One plain term that counts wherever the tensor lives is the gradient itself.
            [Term { guard, a, kind: TermKind::Plain }] if guard == scope || guard == Guard::ALWAYS => a,
            _ if let Some(whole) = self.shared(&terms, scope, tape) => whole,
            _ => self.guarded(scope, |b| b.sum(b.shape(tensor), terms)),
        };
        tape.done.0.insert(tensor, gradient);
        Some(gradient)
    }

    /// Where the terms of a gradient exclude each other, one of them counts wherever the tensor lives, and one is a convolution's gradient as
    /// it is, that one's tensor: the others write it too, each on its paths, and nothing is copied on its own.
    fn shared(&mut self, terms: &[Term], scope: Guard, tape: &Tape) -> Option<TensorId> {
        let all = terms.iter().map(|term| term.guard).reduce(Guard::or).map(|all| self.graph.normal(all));
        let part = |(i, one): (usize, &Term)| terms[..i].iter().all(|other| one.guard.excludes(&other.guard));
        if all != Some(scope) || !terms.iter().enumerate().all(part) {
            return None;
        }
        let writers: Vec<Option<usize>> = terms.iter().map(|term| self.convolution_of(term, tape)).collect();
        let whole = terms.iter().zip(&writers).find_map(|(term, writer)| writer.map(|_| term.a))?;
        for (term, writer) in terms.iter().zip(writers).filter(|(term, _)| term.a != whole) {
            match writer.map(|writer| &mut self.graph.nodes[writer].op) {
                Some(Op::ConvFilter { dw: own, .. } | Op::ConvInput { dx: own, .. }) => *own = whole,
                _ => {
                    let terms = vec![Term { guard: Guard::ALWAYS, ..*term }];
                    self.guarded(term.guard, |b| b.push(Op::Combine { terms, y: whole }));
                }
            }
        }
        // Now it matters wherever any of them does.
        self.widen_scope(whole, scope);
        Some(whole)
    }

    /// The convolution's gradient that a term is as it is, if nothing else has to do with what that wrote: what a sum hands on to several
    /// summands is one tensor.
    fn convolution_of(&self, term: &Term, tape: &Tape) -> Option<usize> {
        let writes = |node: &Node| match node.op {
            Op::ConvFilter { dw: own, .. } | Op::ConvInput { dx: own, .. } => own == term.a && node.guard == term.guard,
            _ => false,
        };
        let nodes = &self.graph.nodes;
        let writer = nodes.iter().rposition(writes).filter(|_| term.kind == TermKind::Plain)?;
        let read = nodes[writer + 1..].iter().any(|node| node.op.operands().0.contains(&term.a));
        let handed_on = tape.done.0.values().any(|gradient| *gradient == term.a)
            || tape.terms.values().flatten().any(|other| other.reads().contains(&term.a));
        (!read && !handed_on).then_some(writer)
    }

    fn node_gradient(&mut self, op: &Op, needs: &[bool], tape: &mut Tape) -> Result<()> {
        let needed = |t: TensorId| needs[t.0 as usize];
        let guard = self.guard.unwrap_or(Guard::ALWAYS);
        let give = |tape: &mut Tape, to: TensorId, a: TensorId, kind: TermKind| {
            tape.terms.entry(to).or_default().push(Term { guard, a, kind });
        };
        match op {
            Op::Conv { x, w, bias, y, geometry, relu } => {
                let Some(dy) = self.gradient_of(*y, tape) else { return Ok(()) };
                if needed(*w) {
                    let (dw, kind) = self.part(*w, self.filter_shape(*geometry, *x, dy));
                    self.push(Op::ConvFilter { x: *x, dy, dw, geometry: *geometry, relu: *relu });
                    give(tape, *w, dw, kind);
                }
                if let Some(bias) = bias.filter(|&b| needed(b)) {
                    let (db, kind) = self.part(bias, Shape::vector(self.shape(dy).channels()));
                    self.push(Op::ChannelSum { x: dy, y: db });
                    give(tape, bias, db, kind);
                }
                if needed(*x) {
                    let dx = self.temporary(self.shape(*x));
                    self.push(Op::ConvInput { dy, w: *w, dx, geometry: *geometry });
                    let kind = if *relu { TermKind::Masked { x: *x } } else { TermKind::Plain };
                    give(tape, *x, dx, kind);
                }
            }
            Op::ConvInput { dy, w, dx, geometry } => {
                let Some(above) = self.gradient_of(*dx, tape) else { return Ok(()) };
                if needed(*dy) {
                    let y = self.temporary(self.shape(*dy));
                    self.push(Op::Conv { x: above, w: *w, bias: None, y, geometry: *geometry, relu: false });
                    give(tape, *dy, y, TermKind::Plain);
                }
                if needed(*w) {
                    let (dw, kind) = self.part(*w, self.filter_shape(*geometry, above, *dy));
                    self.push(Op::ConvFilter { x: above, dy: *dy, dw, geometry: *geometry, relu: false });
                    give(tape, *w, dw, kind);
                }
            }
            Op::ConvFilter { x, dy, dw, geometry, relu } => {
                let Some(above) = self.gradient_of(*dw, tape) else { return Ok(()) };
                if needed(*dy) {
                    let y = self.temporary(self.shape(*dy));
                    self.push(Op::Conv { x: *x, w: above, bias: None, y, geometry: *geometry, relu: *relu });
                    give(tape, *dy, y, TermKind::Plain);
                }
                if needed(*x) {
                    let dx = self.temporary(self.shape(*x));
                    self.push(Op::ConvInput { dy: *dy, w: above, dx, geometry: *geometry });
                    let kind = if *relu { TermKind::Masked { x: *x } } else { TermKind::Plain };
                    give(tape, *x, dx, kind);
                }
            }
            Op::CrossEntropy { logits, labels, scale: None, dlogits: Some(dlogits), .. } => {
                if let Some(v) = self.gradient_of(*dlogits, tape).filter(|_| needed(*logits)) {
                    let y = self.temporary(self.shape(*logits));
                    self.push(Op::CrossEntropyHessian { logits: *logits, labels: *labels, v, y });
                    give(tape, *logits, y, TermKind::Plain);
                }
            }
            Op::Combine { terms, y } => {
                if !terms.iter().any(|t| t.reads().into_iter().any(needed)) {
                    return Ok(());
                }
                let Some(dy) = self.gradient_of(*y, tape) else { return Ok(()) };
                for term in terms {
                    // On paths where the sum is not made, its gradient is not either.
                    let own = [guard, term.guard].map(|guard| guard != Guard::ALWAYS);
                    if own == [true, true] && guard.choice != term.guard.choice {
                        let why = "a sum that one choice decides has a term that another one does: no gradient here";
                        return Err(Error::invalid("backward", why));
                    }
                    let guard = if own[1] { term.guard } else { guard };
                    self.term_gradient(&Term { guard, ..*term }, dy, needs, tape)?;
                }
            }
            Op::MaxPool { x, y, window } => {
                if let Some(dy) = self.gradient_of(*y, tape).filter(|_| needed(*x)) {
                    let dx = self.temporary(self.shape(*x));
                    self.push(Op::MaxPoolGrad { x: *x, dy, dx, window: *window });
                    give(tape, *x, dx, TermKind::Plain);
                }
            }
            // Where a maximum is does not change.
            Op::MaxPoolGrad { x, dy, dx, window } => {
                if let Some(v) = self.gradient_of(*dx, tape).filter(|_| needed(*dy)) {
                    let y = self.temporary(self.shape(*dy));
                    self.push(Op::MaxPoolPick { x: *x, v, y, window: *window });
                    give(tape, *dy, y, TermKind::Plain);
                }
            }
            Op::MaxPoolPick { x, v, y, window } => {
                if let Some(dy) = self.gradient_of(*y, tape).filter(|_| needed(*v)) {
                    let dx = self.temporary(self.shape(*v));
                    self.push(Op::MaxPoolGrad { x: *x, dy, dx, window: *window });
                    give(tape, *v, dx, TermKind::Plain);
                }
            }
            Op::ImageDot { a, b, y } => {
                if let Some(factors) = self.gradient_of(*y, tape).filter(|_| needed(*a) || needed(*b)) {
                    for (to, other) in [(*a, *b), (*b, *a)].into_iter().filter(|(to, _)| needed(*to)) {
                        give(tape, to, other, TermKind::Weighted { factors });
                    }
                }
            }
            Op::GlobalAvgPool { x, y } => {
                if let Some(dy) = self.gradient_of(*y, tape).filter(|_| needed(*x)) {
                    let [_, h, w, _] = self.shape(*x).nhwc();
                    give(tape, *x, dy, TermKind::Spread { factor: 1.0 / (h * w) as f32 });
                }
            }
            Op::Custom(custom) => {
                if !custom.inputs.iter().any(|&t| needed(t)) {
                    return Ok(());
                }
                let above: Vec<_> = custom.outputs.iter().map(|&y| self.gradient_of(y, tape)).collect();
                if above.iter().all(Option::is_none) {
                    return Ok(());
                }
                let gradients = self.custom_gradients(custom, above)?;
                for (gradient, &x) in gradients.into_iter().zip(&custom.inputs) {
                    if let Some(gradient) = gradient.filter(|_| needed(x)) {
                        give(tape, x, gradient, TermKind::Plain);
                    }
                }
            }
            Op::CrossEntropy { scale: Some(_), dlogits: Some(dlogits), .. } if tape.terms.contains_key(dlogits) => {
                return Err(Error::invalid("backward", "the gradient of a scaled cross-entropy has no gradient"));
            }
            // Gradients of scale and shift have none themselves.
            Op::BatchNormGrad { dgamma, dbeta, .. }
                if [dgamma, dbeta].into_iter().flatten().any(|t| tape.terms.contains_key(t)) =>
            {
                return Err(Error::invalid(
                    "backward",
                    "the gradient of a batch norm's scale or shift has no gradient",
                ));
            }
            // The coefficients' part of the gradient is taken with the term that uses them; losses start from a seed.
            Op::BatchNorm { .. }
            | Op::BatchNormGrad { .. }
            | Op::CrossEntropy { .. }
            | Op::Tally { .. }
            | Op::Gather { .. } => {}
            other => {
                let (_, writes) = other.operands();
                // What writes a wanted tensor lies before the differentiated part.
                let reached = |t: &TensorId| tape.terms.contains_key(t) || tape.done.get(*t).is_some();
                if writes.iter().any(|t| reached(t) && !tape.wanted.contains(t)) {
                    let name = format!("{other:?}");
                    let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
                    return Err(Error::invalid("backward", format!("{name} has no gradient here")));
                }
            }
        }
        Ok(())
    }

    /// Contributions of one summand of a [`Op::Combine`].
    fn term_gradient(&mut self, term: &Term, dy: TensorId, needs: &[bool], tape: &mut Tape) -> Result<()> {
        let needed = |t: TensorId| needs[t.0 as usize];
        if !term.reads().into_iter().any(needed) {
            return Ok(());
        }
        let kind = match term.kind {
            TermKind::Plain if self.shape(term.a).nhwc() != self.shape(dy).nhwc() => {
                return self.reshaped_gradient(term, dy, needs, tape);
            }
            TermKind::Plain => TermKind::Plain,
            TermKind::Relu => TermKind::Masked { x: term.a },
            TermKind::AvgPool(window) => TermKind::AvgPoolGrad(window),
            // Masks do not move.
            TermKind::Masked { x } => TermKind::Masked { x },
            TermKind::AvgPoolGrad(window) => TermKind::AvgPool(window),
            TermKind::Scaled { factors } => TermKind::Scaled { factors },
            TermKind::Moved { by } => TermKind::Moved { by: by.map(|step| -step) },
            TermKind::HardSwish { coefficients: None } => TermKind::HardSwishGrad { x: term.a, coefficients: None },
            TermKind::HardSwish { coefficients: Some(coefficients) } => {
                return self.swished_norm_gradient(term, coefficients, dy, needs, tape);
            }
            TermKind::HardSwishGrad { x, coefficients } => {
                if needed(x) {
                    self.swish_second_gradient(term, (x, coefficients), dy, needs, tape)?;
                }
                TermKind::HardSwishGrad { x, coefficients }
            }
            TermKind::HardSwishBend { .. } | TermKind::Product { .. } | TermKind::Weighted { .. } => {
                return Err(Error::invalid(
                    "backward",
                    "a second gradient of a hard swish or a gate has no gradient here",
                ));
            }
            TermKind::Gated { gates } => {
                self.gate_gradient(term, gates, dy, needs, tape);
                TermKind::Gated { gates }
            }
            // Slopes do not change.
            TermKind::GateGrad { gates } => TermKind::GateGrad { gates },
            TermKind::Spread { factor } => return self.spread_gradient(term, factor, dy, tape),
            TermKind::Affine { coefficients } => self.norm_gradient(term, coefficients, dy, needs, tape)?,
            TermKind::AffineGrad { coefficients, .. } => {
                return self.norm_second_gradient(term, coefficients, dy, needs, tape);
            }
        };
        if needed(term.a) {
            tape.terms.entry(term.a).or_default().push(Term { guard: term.guard, a: dy, kind });
        }
        Ok(())
    }

    /// The shape of the weights that a convolution uses.
    fn filter_shape(&self, Geometry { r, s, groups, .. }: Geometry, x: TensorId, y: TensorId) -> Shape {
        let [c, k] = [x, y].map(|map| self.shape(map).channels());
        Shape::Filter { r, s, c: c / groups, k, groups }
    }

    /// A tensor for the gradient of the first places of `whole`, which have this shape, and what it is to the whole's gradient.
    fn part(&mut self, whole: TensorId, shape: Shape) -> (TensorId, TermKind) {
        let kind = if self.shape(whole) == shape { TermKind::Plain } else { TermKind::Moved { by: [0; 3] } };
        (self.temporary(shape), kind)
    }

    /// Values that were seen under another shape get theirs back.
    fn reshaped_gradient(&mut self, term: &Term, dy: TensorId, needs: &[bool], tape: &mut Tape) -> Result<()> {
        if needs[term.a.0 as usize] {
            let guard = term.guard;
            let a = self.guarded(guard, |b| b.sum(b.shape(term.a), vec![Term::new(dy, TermKind::Plain)]));
            tape.terms.entry(term.a).or_default().push(Term { guard, a, kind: TermKind::Plain });
        }
        Ok(())
    }

    /// Through the hard swish to what the norm before it made, which is nowhere, and from there on as any norm's gradient.
    fn swished_norm_gradient(
        &mut self,
        term: &Term,
        coefficients: TensorId,
        dy: TensorId,
        needs: &[bool],
        tape: &mut Tape,
    ) -> Result<()> {
        let kind = TermKind::HardSwishGrad { x: term.a, coefficients: Some(coefficients) };
        let above = self.guarded(term.guard, |b| b.sum(b.shape(dy), vec![Term::new(dy, kind)]));
        let kind = self.norm_gradient(term, coefficients, above, needs, tape)?;
        if needs[term.a.0 as usize] {
            tape.terms.entry(term.a).or_default().push(Term { guard: term.guard, a: above, kind });
        }
        Ok(())
    }

    /// What the gradient of a hard swish gives to what the swish saw: the products of both gradients where it bends.
    fn swish_second_gradient(
        &mut self,
        term: &Term,
        (x, coefficients): (TensorId, Option<TensorId>),
        dy: TensorId,
        needs: &[bool],
        tape: &mut Tape,
    ) -> Result<()> {
        let guard = term.guard;
        let bend = |b: &mut Builder| {
            let product = b.sum(b.shape(dy), vec![Term::new(dy, TermKind::Product { b: term.a })]);
            (product, TermKind::HardSwishBend { x, coefficients })
        };
        let (mut a, mut kind) = self.guarded(guard, bend);
        if let Some(coefficients) = coefficients {
            a = self.guarded(guard, |b| b.sum(b.shape(dy), vec![Term::new(a, kind)]));
            kind = self.norm_gradient(&Term { guard, a: x, kind }, coefficients, a, needs, tape)?;
        }
        tape.terms.entry(x).or_default().push(Term { guard, a, kind });
        Ok(())
    }

    /// What the gates of a map get.
    fn gate_gradient(&mut self, term: &Term, gates: TensorId, dy: TensorId, needs: &[bool], tape: &mut Tape) {
        if needs[gates.0 as usize] {
            let y = self.temporary(self.shape(gates));
            self.guarded(term.guard, |b| b.push(Op::ImageDot { a: dy, b: term.a, y }));
            let kind = TermKind::GateGrad { gates };
            tape.terms.entry(gates).or_default().push(Term { guard: term.guard, a: y, kind });
        }
    }

    /// `factor` times the sum over positions.
    fn spread_gradient(&mut self, term: &Term, factor: f32, dy: TensorId, tape: &mut Tape) -> Result<()> {
        let [n, h, w, c] = self.shape(dy).nhwc();
        let mean = self.temporary(Shape::map(n, 1, 1, c));
        self.guarded(term.guard, |b| b.push(Op::GlobalAvgPool { x: dy, y: mean }));
        let factor = factor * (h * w) as f32;
        let kind = if factor == 1.0 { TermKind::Plain } else { TermKind::Spread { factor } };
        tape.terms.entry(term.a).or_default().push(Term { guard: term.guard, a: mean, kind });
        Ok(())
    }

    /// The gradient of batch norm's gradient `p dy + q (x - mean) + t`, given what is above it, `v`: with respect to `dy`,
    /// of which it is a symmetric function, and with respect to `x`.
    fn norm_second_gradient(
        &mut self,
        term: &Term,
        grad_coefficients: TensorId,
        v: TensorId,
        needs: &[bool],
        tape: &mut Tape,
    ) -> Result<()> {
        let norm = self.graph.nodes.iter().find_map(|node| match node.op {
            Op::BatchNormGrad { x, coefficients, grad_coefficients: own, statistics, .. }
                if own == grad_coefficients =>
            {
                Some((x, coefficients, statistics))
            }
            _ => None,
        });
        let Some((x, coefficients, statistics)) = norm else {
            return Err(Error::invalid("backward", "a batch norm's second gradient has no gradient here"));
        };
        let scale = self.graph.nodes.iter().find_map(|node| match node.op {
            Op::BatchNorm { gamma, coefficients: own, .. } if own == coefficients => gamma,
            _ => None,
        });
        if scale.is_some_and(|gamma| needs[gamma.0 as usize]) {
            return Err(Error::invalid("backward", "a batch norm's scale has no second gradient here"));
        }
        let (dy, guard, shape) = (term.a, term.guard, self.shape(grad_coefficients));
        let mut give = |to: TensorId, a: TensorId, coefficients: TensorId| {
            tape.terms.entry(to).or_default().push(Term { guard, a, kind: TermKind::AffineGrad { x, coefficients } });
        };
        let second = self.temporary(shape);
        let (dgamma, dbeta) = (None, None);
        let op = Op::BatchNormGrad { dy: v, x, coefficients, dgamma, dbeta, grad_coefficients: second, statistics };
        self.guarded(guard, |b| b.push(op));
        if needs[dy.0 as usize] {
            give(dy, v, second);
        }
        // Running statistics do not depend on what is normalised.
        if !needs[x.0 as usize] || statistics == Statistics::Running {
            return Ok(());
        }
        let [n, _, _, c] = self.shape(x).nhwc();
        let products = self.temporary(Shape::map(n, 1, 1, c));
        let dot = self.temporary(Shape::vector(c));
        let (by_v, by_dy) = (self.temporary(shape), self.temporary(shape));
        self.guarded(guard, |b| {
            b.push(Op::ImageDot { a: v, b: dy, y: products });
            b.push(Op::ChannelSum { x: products, y: dot });
            b.push(Op::BatchNormDoubleGrad { x, coefficients, first: grad_coefficients, second, dot, by_v, by_dy });
        });
        give(x, v, by_v);
        give(x, dy, by_dy);
        Ok(())
    }

    /// Batch norm seen through its coefficients: gradients of scale and shift, and the term for its input.
    fn norm_gradient(
        &mut self,
        term: &Term,
        coefficients: TensorId,
        dy: TensorId,
        needs: &[bool],
        tape: &mut Tape,
    ) -> Result<TermKind> {
        let norm = self.graph.nodes.iter().find_map(|node| match node.op {
            Op::BatchNorm { x, gamma, beta, coefficients: own, statistics, .. } if own == coefficients => {
                Some((x, gamma, beta, statistics))
            }
            _ => None,
        });
        let Some((x, gamma, beta, statistics)) = norm else {
            return Err(Error::invalid("backward", "coefficients that no batch norm wrote"));
        };
        let own = Shape::vector(self.shape(x).channels());
        let mut part = |whole: Option<TensorId>| {
            whole.filter(|whole| needs[whole.0 as usize]).map(|whole| (whole, self.part(whole, own)))
        };
        let (dgamma, dbeta) = (part(gamma), part(beta));
        let grad_coefficients = self.temporary(Shape::Vectors { rows: 4, c: self.shape(x).channels() });
        let op = Op::BatchNormGrad {
            dy,
            x,
            coefficients,
            dgamma: dgamma.map(|(_, (d, _))| d),
            dbeta: dbeta.map(|(_, (d, _))| d),
            grad_coefficients,
            statistics,
        };
        self.guarded(term.guard, |b| b.push(op));
        for (tensor, (gradient, kind)) in dgamma.into_iter().chain(dbeta) {
            let term = Term { guard: term.guard, a: gradient, kind };
            tape.terms.entry(tensor).or_default().push(term);
        }
        Ok(TermKind::AffineGrad { x, coefficients: grad_coefficients })
    }
}
