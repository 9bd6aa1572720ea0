//! ConJS: how alike a network and CRoZe's perturbed copy of it stay, by divergences in place of cosines and gradients (TRNAS, ICCV
//! 2025, released code).
//!
//! Network, copy and moved images are those of the released CRoZe: weights by their magnitudes, batch norms left out as there, the
//! copy's weights moved by twice their norm towards more loss, its images by 0.01 towards less and cut to 0 to 1. A layer with a
//! gradient adds `w f`: `w = 1 / (1 + JS)` of its weights in both, `f` the same of its feature in both.
//!
//! `JS` is as released: `(KL(m|p) + KL(m|q)) / 2`, `m = (p + q) / 2`, `p` and `q` the softmax over all values of either tensor, plus
//! 1e-8. Weights are small numbers, whose softmax is nearly uniform in both: `w` is nearly 1. Features grow from cell to cell, and a
//! softmax of large numbers is its largest value alone: `f` is nearly 1 if that stands at the same place in both, and nearly 0.105
//! if not. So the score is nearly the number of layers in stages of the first kind and a tenth of those of the other.

use rayon::prelude::*;

use super::croze::{Pair, Term};
use super::passes::Look;

/// Added to each share of a softmax.
const EPSILON: f64 = 1e-8;

/// A tensor's values, divided by two to a power.
#[derive(Clone, Copy)]
struct Divided<'a> {
    values: &'a [f32],
    power: i32,
    /// Whether they count rectified.
    rectified: bool,
}

/// Each layer's terms, of all networks. There is no share of gradients in them.
pub(super) fn terms(pair: &Pair) -> Vec<Vec<Term>> {
    pair.looks.par_iter().enumerate().map(|(n, look)| of_network(pair, n, look)).collect()
}

fn of_network(pair: &Pair, n: usize, look: &Look) -> Vec<Term> {
    let feature = |stage: usize| -> f64 {
        let of = |which: usize| {
            let left = [&pair.at_clean[n], &pair.at_moved[n]][which];
            let values = left.get(&format!("feature.{stage}")).map(Vec::as_slice).unwrap_or_default();
            Divided { values, power: pair.scales[which][n].of_feature(stage), rectified: look.rectified[stage] }
        };
        likeness(of(0), of(1))
    };
    let features: Vec<f64> = (0..look.rectified.len()).map(feature).collect();
    let mut terms = vec![];
    for (layer, &stage) in look.layers.iter().zip(&look.stages) {
        if pair.at_clean[n].get(&format!("grad.{layer}")).is_none() {
            continue;
        }
        let of = |which: usize| {
            let values = &[&pair.clean, &pair.moved][which][n][&format!("{layer}.weight")].data;
            Divided { values, power: pair.scales[which][n].of_layer(layer), rectified: false }
        };
        let (parameters, features) = (likeness(of(0), of(1)), features[stage]);
        let term = parameters * features;
        terms.push(Term { layer: layer.clone(), feature: Some(stage), parameters, gradients: 1.0, features, term });
    }
    terms
}

/// `1 / (1 + JS)`
fn likeness(a: Divided, b: Divided) -> f64 {
    1.0 / (1.0 + divergence(&shares(a), &shares(b)))
}

/// The softmax over all values, plus [`EPSILON`].
fn shares(Divided { values, power, rectified }: Divided) -> Vec<f64> {
    let seen = |v: f32| if rectified && v < 0.0 { 0.0 } else { v };
    let most = values.iter().fold(f32::NEG_INFINITY, |most, &v| most.max(seen(v)));
    let factor = 2f64.powi(power);
    let weight = |&v: &f32| {
        let below = f64::from(seen(v)) - f64::from(most);
        // However large the factor is, nothing lies between the largest value and itself.
        if below == 0.0 { 1.0 } else { (below * factor).exp() }
    };
    let mut shares: Vec<f64> = values.iter().map(weight).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share = *share / sum + EPSILON);
    shares
}

/// `(KL(m|p) + KL(m|q)) / 2`
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let term = |(&p, &q): (&f64, &f64)| {
        let m = (p + q) / 2.0;
        m * (m.ln() - (p.ln() + q.ln()) / 2.0)
    };
    p.iter().zip(q).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(values: &[f32]) -> Divided<'_> {
        Divided { values, power: 0, rectified: false }
    }

    #[test]
    fn by_hand() {
        let a = [1.0, 2.0, -0.5];
        assert!((likeness(plain(&a), plain(&a)) - 1.0).abs() < 1e-12);
        // Shares 1/4, 3/4 and 3/4, 1/4: m = 1/2, and each divergence is 1/2 ln(4/3).
        let (p, q) = ([0.0, 3f32.ln()], [3f32.ln(), 0.0]);
        let js = (4.0f64 / 3.0).ln() / 2.0;
        assert!((divergence(&shares(plain(&p)), &shares(plain(&q))) - js).abs() < 1e-6);
        // Divided by four, and rectified.
        let quarters = Divided { values: &[0.25, 0.5, -0.125], power: 2, rectified: false };
        assert_eq!(shares(quarters), shares(plain(&a)));
        let rectified = Divided { rectified: true, ..plain(&a) };
        assert_eq!(shares(rectified), shares(plain(&[1.0, 2.0, 0.0])));
    }

    #[test]
    fn beyond_all_range() {
        let (a, b) = ([1.0, 0.5], [0.5, 1.0]);
        let huge = |values| Divided { values, power: 2000, rectified: false };
        assert_eq!(shares(huge(&a)), [1.0 + EPSILON, EPSILON]);
        // One share each, at different places: m is a half at both.
        let js = divergence(&shares(huge(&a)), &shares(huge(&b)));
        let want = 0.5f64.ln() - EPSILON.ln() / 2.0;
        assert!((js - want).abs() < 1e-6, "{js} {want}");
    }
}
