//! Crossover and mutation of vectors of small integers, as MSuNAS and CNAS run NSGA-II with them.

use crate::space::{Draw, Gene, GeneKind};

/// Exchanges the genes between two different places, drawn uniformly from those between two genes. With two
/// genes there is one such place, and the last gene is exchanged; with one gene there is none.
pub fn two_point_crossover(a: &mut [u8], b: &mut [u8], draw: &mut dyn Draw) {
    let places = a.len().min(b.len()).saturating_sub(1) as u32;
    let (start, end) = match places {
        0 => return,
        1 => (1, 2),
        _ => {
            let first = below(draw, places);
            let second = below(draw, places - 1);
            let second = second + u32::from(second >= first);
            (first.min(second) + 1, first.max(second) + 1)
        }
    };
    let segment = start as usize..end as usize;
    a[segment.clone()].swap_with_slice(&mut b[segment]);
}

/// Polynomial mutation (Deb and Goyal, "A combined genetic adaptive search (GeneAS) for engineering design",
/// 1996, in the form that heeds bounds) of each gene with `probability`.
///
/// A gene of `n` values is a real number from -0.5 to n - 0.5, and is rounded afterwards, so that its end
/// values are as likely as the others. A larger `eta` keeps children nearer.
pub fn polynomial_mutation(values: &mut [u8], genes: &[Gene], probability: f64, eta: f64, draw: &mut dyn Draw) {
    for (value, gene) in values.iter_mut().zip(genes).filter(|(_, gene)| gene.kind != GeneKind::Notation) {
        if draw.uniform() < probability {
            *value = mutated(*value, gene.options, eta, draw.uniform());
        }
    }
}

/// The value that `u` in `[0, 1)` makes of a gene.
///
/// `delta` is the step as a part of the range: of density proportional to `(1 - |delta|)^eta`, half of it to
/// either side, cut off at the bounds.
fn mutated(gene: u8, options: u8, eta: f64, u: f64) -> u8 {
    let range = f64::from(options);
    let place = f64::from(gene) + 0.5;
    let exponent = eta + 1.0;
    let delta = if u < 0.5 {
        let cut = (1.0 - place / range).powf(exponent);
        (2.0 * u + (1.0 - 2.0 * u) * cut).powf(1.0 / exponent) - 1.0
    } else {
        let cut = (place / range).powf(exponent);
        1.0 - (2.0 * (1.0 - u) + (2.0 * u - 1.0) * cut).powf(1.0 / exponent)
    };
    // Shifted by the half already: flooring rounds. The cast saturates at 0.
    let moved = (place + delta * range).floor() as u8;
    moved.min(options.saturating_sub(1))
}

/// Below `n`, also if the source breaks its contract.
pub(in crate::search) fn below(draw: &mut dyn Draw, n: u32) -> u32 {
    draw.below(n) % n.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    #[test]
    fn crossover_exchanges_one_inner_segment() {
        let mut draw = Stream::new(1, 0, 0);
        let mut segments = std::collections::BTreeSet::new();
        for _ in 0..2_000 {
            let (mut a, mut b) = (vec![0; 6], vec![1; 6]);
            two_point_crossover(&mut a, &mut b, &mut draw);
            assert!(a.iter().zip(&b).all(|(a, b)| a + b == 1));
            // The first and last gene keep their place, and what moved is one run.
            assert_eq!((a[0], a[5]), (0, 0));
            assert_eq!(a.windows(2).filter(|w| w[0] != w[1]).count(), 2);
            segments.insert(a);
        }
        assert_eq!(segments.len(), 10);
        let (mut a, mut b) = (vec![0; 2], vec![1; 2]);
        two_point_crossover(&mut a, &mut b, &mut draw);
        assert_eq!((a, b), (vec![0, 1], vec![1, 0]));
        let (mut a, mut b) = (vec![0], vec![1]);
        two_point_crossover(&mut a, &mut b, &mut draw);
        assert_eq!((a, b), (vec![0], vec![1]));
    }

    /// The real number before rounding follows the published distribution: its quantiles by hand.
    #[test]
    fn mutation_by_hand() {
        // Five values, the middle one: place 2.5 of 5, cut .25. u = 0 leads to -.5 + 0 of the range.
        assert_eq!(mutated(2, 5, 1.0, 0.0), 0);
        assert_eq!(mutated(2, 5, 1.0, 0.499_999), 2);
        assert_eq!(mutated(2, 5, 1.0, 0.5), 2);
        assert_eq!(mutated(2, 5, 1.0, 1.0 - 1e-12), 4);
        // sqrt(.5 + .5 * .25) = .790569: a step of -.209431 of 5 leads from 2.5 to 1.452847.
        assert_eq!(mutated(2, 5, 1.0, 0.25), 1);
        assert_eq!(mutated(2, 5, 1.0, 0.75), 3);
        // A gene with one value keeps it.
        for u in [0.0, 0.3, 0.5, 0.999] {
            assert_eq!(mutated(0, 1, 1.0, u), 0);
        }
    }

    #[test]
    fn mutation_stays_within_and_reaches_every_value() {
        let mut draw = Stream::new(2, 0, 0);
        let genes = [1, 2, 3, 25].map(Gene::category);
        let mut seen = vec![std::collections::BTreeSet::new(); 4];
        let mut touched = 0;
        for _ in 0..20_000 {
            let mut values = vec![0, 1, 1, 12];
            polynomial_mutation(&mut values, &genes, 0.25, 1.0, &mut draw);
            assert!(values.iter().zip(&genes).all(|(value, gene)| *value < gene.options));
            touched += usize::from(values[3] != 12);
            for (seen, value) in seen.iter_mut().zip(&values) {
                seen.insert(*value);
            }
        }
        assert!(seen.iter().zip(&genes).all(|(seen, gene)| seen.len() == usize::from(gene.options)));
        // A quarter, less those that round back to where they were.
        assert!((4_000..5_000).contains(&touched), "{touched}");
        let mut values = vec![0, 1, 1, 12];
        polynomial_mutation(&mut values, &genes, 0.0, 1.0, &mut draw);
        assert_eq!(values, [0, 1, 1, 12]);
    }
}
