//! Genotypes: vectors of small integers, and how to draw, cross and mutate them.
//!
//! Gene `i` takes the values `0..options[i]`. Crossover and mutation are those with which MSuNAS and CNAS
//! run NSGA-II.

use crate::error::{Error, Result};
use crate::space::{Arch, Draw, Space};

/// What the genotypes of a search stand for.
pub trait Genotypes {
    /// How many values each gene has.
    fn options(&self) -> &[u32];

    /// Equal exactly for genotypes that count as the same candidate, of which only one is evaluated.
    fn key(&self, genes: &[u32]) -> String;

    /// The genotype to take in place of this one: itself, or the one that represents its class; `None` when
    /// it must not be evaluated. What it returns is only given to [`Genotypes::key`] and to the evaluation.
    fn admit(&self, genes: Vec<u32>) -> Option<Vec<u32>> {
        Some(genes)
    }

    /// Draws one, uniformly over the genotypes unless it is known better.
    fn sample(&self, draw: &mut dyn Draw) -> Vec<u32> {
        sample(self.options(), draw)
    }

    /// How many different keys there are, if that is known: a search ends when it has met them all.
    fn size(&self) -> Option<u64> {
        None
    }
}

/// Genotypes of which each stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain(pub Vec<u32>);

impl Genotypes for Plain {
    fn options(&self) -> &[u32] {
        &self.0
    }

    fn key(&self, genes: &[u32]) -> String {
        format!("{genes:?}")
    }

    fn size(&self) -> Option<u64> {
        self.0.iter().try_fold(1u64, |size, options| size.checked_mul(u64::from(*options)))
    }
}

/// Checks that there are genes and that each has a value.
pub fn check_options(options: &[u32]) -> Result<()> {
    if options.is_empty() {
        return Err(Error::invalid("genes", "there are none to search over"));
    }
    // Up to 2^24 values are exact in `f32` and far from overflow everywhere.
    match options.iter().position(|options| *options == 0 || *options > 1 << 24) {
        Some(gene) => {
            let why = format!("has {} options, expected 1 to {}", options[gene], 1 << 24);
            Err(Error::invalid(format!("gene {gene}"), why))
        }
        None => Ok(()),
    }
}

/// Checks that a genotype has as many genes as there are options, and each of them within its own.
pub fn check(options: &[u32], genes: &[u32]) -> Result<()> {
    if genes.len() != options.len() {
        return Err(Error::invalid("genotype", format!("has {} genes, expected {}", genes.len(), options.len())));
    }
    match genes.iter().zip(options).position(|(gene, options)| gene >= options) {
        Some(gene) => {
            let why = format!("gene {gene} is {}, expected less than {}", genes[gene], options[gene]);
            Err(Error::invalid("genotype", why))
        }
        None => Ok(()),
    }
}

/// The genes of an architecture.
pub fn of(arch: &Arch) -> Vec<u32> {
    arch.iter().copied().map(u32::from).collect()
}

/// The architecture of genes.
///
/// # Errors
/// If there are more or fewer than the space has, or one is beyond its values.
pub fn arch(space: &dyn Space, genes: &[u32]) -> Result<Arch> {
    let arch = genes.iter().map(|&gene| u8::try_from(gene).unwrap_or(u8::MAX)).collect();
    space.check_vector(&arch)?;
    Ok(arch)
}

/// How many values each gene of a space has.
pub fn options(space: &dyn Space) -> Vec<u32> {
    space.genes().iter().map(|gene| gene.options.into()).collect()
}

/// The genes as the numbers that a surrogate learns from.
pub fn features(genes: &[u32]) -> Vec<f64> {
    genes.iter().copied().map(f64::from).collect()
}

/// Draws uniformly.
pub fn sample(options: &[u32], draw: &mut dyn Draw) -> Vec<u32> {
    options.iter().map(|options| below(draw, *options)).collect()
}

/// Exchanges the genes between two different places, drawn uniformly from those between two genes. With two
/// genes there is one such place, and the last gene is exchanged; with one gene there is none.
pub fn two_point_crossover(a: &mut [u32], b: &mut [u32], draw: &mut dyn Draw) {
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
pub fn polynomial_mutation(genes: &mut [u32], options: &[u32], probability: f64, eta: f64, draw: &mut dyn Draw) {
    for (gene, options) in genes.iter_mut().zip(options) {
        if draw.uniform() < probability {
            *gene = mutated(*gene, *options, eta, draw.uniform());
        }
    }
}

/// The value that `u` in `[0, 1)` makes of a gene.
///
/// `delta` is the step as a part of the range: of density proportional to `(1 - |delta|)^eta`, half of it to
/// either side, cut off at the bounds.
fn mutated(gene: u32, options: u32, eta: f64, u: f64) -> u32 {
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
    let moved = (place + delta * range).floor() as u32;
    moved.min(options.saturating_sub(1))
}

/// Below `n`, also if the source breaks its contract.
pub(crate) fn below(draw: &mut dyn Draw, n: u32) -> u32 {
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
        let options = [1, 2, 3, 25];
        let mut seen = vec![std::collections::BTreeSet::new(); 4];
        let mut touched = 0;
        for _ in 0..20_000 {
            let mut genes = vec![0, 1, 1, 12];
            polynomial_mutation(&mut genes, &options, 0.25, 1.0, &mut draw);
            check(&options, &genes).unwrap();
            touched += usize::from(genes[3] != 12);
            for (seen, gene) in seen.iter_mut().zip(&genes) {
                seen.insert(*gene);
            }
        }
        assert_eq!(seen.iter().map(|seen| seen.len() as u32).collect::<Vec<_>>(), options);
        // A quarter, less those that round back to where they were.
        assert!((4_000..5_000).contains(&touched), "{touched}");
        let mut genes = vec![0, 1, 1, 12];
        polynomial_mutation(&mut genes, &options, 0.0, 1.0, &mut draw);
        assert_eq!(genes, [0, 1, 1, 12]);
    }

    #[test]
    fn bad_genes_are_refused() {
        assert!(check_options(&[]).unwrap_err().to_string().contains("none"));
        assert!(check_options(&[2, 0]).unwrap_err().to_string().contains("gene 1: has 0 options"));
        check_options(&[1, 25]).unwrap();
        assert!(check(&[2, 2], &[0]).unwrap_err().to_string().contains("has 1 genes, expected 2"));
        assert!(check(&[2, 2], &[0, 2]).unwrap_err().to_string().contains("gene 1 is 2"));
        assert_eq!(Plain(vec![2, 3]).size(), Some(6));
        assert_eq!(Plain(vec![1 << 20; 4]).size(), None);
        assert_eq!(features(&[0, 3]), [0.0, 3.0]);
    }
}
