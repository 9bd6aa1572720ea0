//! Terms: what a sum ([`Op::Combine`](super::Op::Combine)) is made of.

use super::ir::{Guard, TensorId, Window};

/// One summand of [`Op::Combine`](super::Op::Combine): a function of one or two tensors at, or around, the output's position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// When it counts.
    pub guard: Guard,
    /// Its first tensor.
    pub a: TensorId,
    /// What is made of it.
    pub kind: TermKind,
}

/// What a [`Term`] makes of its tensors; `a` is the term's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TermKind {
    /// `a`
    Plain,
    /// `max(a, 0)`
    Relu,
    /// `scale * (a - mean) + beta`, with the coefficients of [`Op::BatchNorm`](super::Op::BatchNorm). Subtracting first keeps the rounding small
    /// where the result is: near a rectifier's kink it decides on which side a value falls.
    Affine {
        /// `scale, beta, mean, 1/deviation` per channel.
        coefficients: TensorId,
    },
    /// `p * a + q * (x - mean) + t`: the gradient that [`Op::BatchNormGrad`](super::Op::BatchNormGrad) prepared; `a` is the gradient above.
    AffineGrad {
        /// The normalised tensor.
        x: TensorId,
        /// `p, q, t, mean` per channel.
        coefficients: TensorId,
    },
    /// `a` where `x > 0`, else zero: the gradient of a rectifier.
    Masked {
        /// What was rectified.
        x: TensorId,
    },
    /// Average over a window of `a`.
    AvgPool(Window),
    /// Gradient of [`TermKind::AvgPool`]; `a` is the gradient of the pool's output.
    AvgPoolGrad(Window),
    /// `factor * a`, where `a` has one position per image: the gradient of a global average.
    Spread {
        /// `1 / (H * W)`
        factor: f32,
    },
    /// `factors[n] * a`: a path that is dropped for some images; and its gradient.
    Scaled {
        /// A factor for each image ([`Op::DropPath`](super::Op::DropPath)).
        factors: TensorId,
    },
    /// `h(a)`, or `h` of [`TermKind::Affine`], with the hard swish `h(z) = z min(max(z + 3, 0), 6) / 6` (Howard et al. 2019,
    /// section 5.2).
    HardSwish {
        /// Those of the norm before it.
        coefficients: Option<TensorId>,
    },
    /// `h'(z) * a`: the gradient of [`TermKind::HardSwish`], where `z` is `x`, or what a norm makes of it; `h'` is 0 up to -3, 1 from 3 on, and
    /// `(2 z + 3) / 6` between.
    HardSwishGrad {
        /// What was seen.
        x: TensorId,
        /// Those of the norm before it.
        coefficients: Option<TensorId>,
    },
    /// `s(gates[n, c]) * a`, with the hard sigmoid `s(z) = min(max(z + 3, 0), 6) / 6`: what squeeze and excitation makes of a map; and
    /// its gradient.
    Gated {
        /// A number for each image and channel.
        gates: TensorId,
    },
    /// `a / 6` where `gates` lies between -3 and 3, else zero: the gradient of [`TermKind::Gated`] with respect to its gates, where
    /// `a` is the dot product of map and gradient.
    GateGrad {
        /// The gates, of the shape of `a`.
        gates: TensorId,
    },
    /// `h''(z) * a`, in the words of [`TermKind::HardSwishGrad`]; `h''` is 1/3 between -3 and 3, and zero beyond.
    HardSwishBend {
        /// What was seen.
        x: TensorId,
        /// Those of the norm before it.
        coefficients: Option<TensorId>,
    },
    /// `b * a`
    Product {
        /// The other factor.
        b: TensorId,
    },
    /// `factors[n, c] * a`: the gradient of a dot product for each image and channel.
    Weighted {
        /// A number for each image and channel.
        factors: TensorId,
    },
    /// `a` at another place: so many rows down, columns to the right and channels on; zero beyond its edges. Sums of these put
    /// maps side by side, take channels out of one, and shift images.
    Moved {
        /// Rows, columns, channels.
        by: [i32; 3],
    },
}

impl Term {
    /// A term that always counts.
    pub const fn new(a: TensorId, kind: TermKind) -> Self {
        Term { guard: Guard::ALWAYS, a, kind }
    }

    /// All tensors that this term reads.
    pub fn reads(&self) -> Vec<TensorId> {
        match self.kind {
            TermKind::Affine { coefficients } => vec![self.a, coefficients],
            TermKind::AffineGrad { x, coefficients } => vec![self.a, x, coefficients],
            TermKind::Masked { x } => vec![self.a, x],
            TermKind::Scaled { factors } => vec![self.a, factors],
            TermKind::HardSwish { coefficients } => [Some(self.a), coefficients].into_iter().flatten().collect(),
            TermKind::HardSwishGrad { x, coefficients } | TermKind::HardSwishBend { x, coefficients } => {
                [Some(self.a), Some(x), coefficients].into_iter().flatten().collect()
            }
            TermKind::Gated { gates } | TermKind::GateGrad { gates } => vec![self.a, gates],
            TermKind::Product { b } => vec![self.a, b],
            TermKind::Weighted { factors } => vec![self.a, factors],
            TermKind::Plain
            | TermKind::Relu
            | TermKind::AvgPool(_)
            | TermKind::AvgPoolGrad(_)
            | TermKind::Spread { .. }
            | TermKind::Moved { .. } => vec![self.a],
        }
    }
}
