//! Angle: by how much training turned an architecture's weights in a supernet (Hu et al., ECCV 2020; as GeNAS's authors use it, Jeong et
//! al. 2023, section 3).
//!
//! ```text
//! theta(a) = arccos( V(W_0, a) . V(W_T, a) / (|V(W_0, a)| |V(W_T, a)|) )
//! ```
//!
//! `V` puts the weights of an architecture's operations one after another, as often as there are ways through them
//! ([`Supernet::direction`]). The order does not matter, so three sums of each tensor are all that is needed, and they are made once for
//! all architectures.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nn::space::{Piece, Supernet};
use crate::nn::tensors::Named;
use crate::space::Arch;

/// Products of a tensor before and after training.
#[derive(Clone, Copy, Debug, Default)]
struct Products {
    across: f64,
    before: f64,
    after: f64,
    length: usize,
}

/// What is known of all tensors.
pub struct Angle(BTreeMap<String, Products>);

impl Angle {
    /// Of a supernet's weights before and after its training.
    ///
    /// # Errors
    /// If they are not of one supernet.
    pub fn new(before: &Named, after: &Named) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (name, a) in before {
            let b = after.get(name).filter(|b| b.data.len() == a.data.len());
            let b =
                b.ok_or_else(|| Error::invalid(format!("tensor {name}"), "is not the same before and after training"))?;
            let pairs = || a.data.iter().zip(&b.data).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let products = Products {
                across: pairs().map(|(a, b)| a * b).sum(),
                before: pairs().map(|(a, _)| a * a).sum(),
                after: pairs().map(|(_, b)| b * b).sum(),
                length: a.data.len(),
            };
            all.insert(name.clone(), products);
        }
        Ok(Angle(all))
    }

    /// The angle of an architecture in radians, 0 to pi, and the length of its vector; `None` if it is not defined for the supernet.
    /// A network without a way from its input to its answer has the angle 0.
    ///
    /// # Errors
    /// If the weights are another supernet's.
    pub fn of(&self, supernet: &dyn Supernet, arch: &Arch, released: bool) -> Result<Option<(f64, usize)>> {
        let Some(pieces) = supernet.direction(arch, released) else { return Ok(None) };
        if pieces.is_empty() {
            return Ok(Some((0.0, 0)));
        }
        let mut sum = Products::default();
        for (piece, times) in pieces {
            let own = match piece {
                Piece::Tensor(name) => {
                    *self.0.get(&name).ok_or_else(|| Error::invalid(format!("tensor {name}"), "is missing"))?
                }
                Piece::Constant { value, count } => same(value * value * count as f64, count),
                Piece::Ones(rows) => same(rows as f64, rows * rows),
            };
            let times = (times as f64, times);
            sum.across += times.0 * own.across;
            sum.before += times.0 * own.before;
            sum.after += times.0 * own.after;
            sum.length += times.1 * own.length;
        }
        // Rounding may leave the range of a cosine.
        let cosine = sum.across / (sum.before.sqrt() * sum.after.sqrt());
        Ok(Some((cosine.clamp(-1.0, 1.0).acos(), sum.length)))
    }
}

/// What training does not change.
fn same(square: f64, length: usize) -> Products {
    Products { across: square, before: square, after: square, length }
}
