//! Deterministic, stratified splits.

use super::Images;
use crate::error::{Error, Result};
use crate::philox::Stream;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// Purpose word of the streams that shuffle each class; the index is the class.
const SPLIT_PURPOSE: u32 = 0x0073_706C;

/// How large the parts of a split are.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitSize {
    /// Fractions of all images, each in 0..=1 and together at most 1; what is left over is not used.
    Fractions(Vec<f64>),
    /// Numbers of images, together at most as many as there are; what is left over is not used.
    Counts(Vec<usize>),
}

/// A random order of `0..n`: a function of `seed` and `purpose` alone.
pub fn permutation(n: usize, seed: u64, purpose: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(seed, purpose, 0).shuffle(&mut order);
    order
}

/// Splits `images` into disjoint parts, each with the classes in the proportion of the whole (to within about
/// one image per class), and with exactly the asked-for total. Returns the indices of each part, ascending.
/// The same images, sizes and seed give the same parts on every machine.
///
/// Each class is shuffled; image number r of n in its class sits at (r + 1/2) / n, and the parts are cut from
/// the images in the order of that position.
///
/// # Errors
/// [`Error::Invalid`] when the sizes are not numbers in range or exceed the number of images.
pub fn split(images: &Images, size: &SplitSize, seed: u64) -> Result<Vec<Vec<usize>>> {
    split_labels(&images.labels, images.classes, size, seed)
}

/// [`split`] of images that are known by their labels alone, each of which is below `classes`.
pub(super) fn split_labels(labels: &[u16], classes: usize, size: &SplitSize, seed: u64) -> Result<Vec<Vec<usize>>> {
    let counts = counts(labels.len(), size)?;
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        by_class[usize::from(label)].push(i);
    }
    // (rank in class, class size, class, index)
    let mut order = Vec::with_capacity(labels.len());
    for (class, members) in by_class.iter_mut().enumerate() {
        Stream::new(seed, SPLIT_PURPOSE, class as u64).shuffle(members);
        let n = members.len();
        order.extend(members.iter().enumerate().map(|(rank, &index)| (rank, n, class, index)));
    }
    order.sort_unstable_by(|a, b| position_order((a.0, a.1), (b.0, b.1)).then(a.2.cmp(&b.2)));
    let mut rest = order.as_slice();
    let mut parts = Vec::with_capacity(counts.len());
    for count in counts {
        let (part, after) = rest.split_at(count);
        let mut indices: Vec<usize> = part.iter().map(|entry| entry.3).collect();
        indices.sort_unstable();
        parts.push(indices);
        rest = after;
    }
    Ok(parts)
}

/// Which images a test part takes: of each class a share of those whose names have the smallest hashes, to the nearest whole number, but
/// neither all of a class nor none of it where it has several. An image stays where it is when others come and go, but for those at
/// the border. Indices, ascending.
pub(super) fn held_out_by_name(names: &[Vec<u8>], labels: &[u16], classes: usize, share: f64) -> Vec<usize> {
    let mut by_class: Vec<Vec<(u64, usize)>> = vec![Vec::new(); classes];
    for (i, (name, &label)) in names.iter().zip(labels).enumerate() {
        by_class[usize::from(label)].push((xxh3_64(name), i));
    }
    let mut held_out = vec![];
    for mut members in by_class {
        members.sort_unstable_by_key(|&(hash, i)| (hash, &names[i]));
        let most = members.len().saturating_sub(1);
        let count = ((share * members.len() as f64).round() as usize).max(1).min(most);
        held_out.extend(members[..count].iter().map(|&(_, i)| i));
    }
    held_out.sort_unstable();
    held_out
}

/// Compares (rank + 1/2) / size of two entries without rounding.
fn position_order(a: (usize, usize), b: (usize, usize)) -> Ordering {
    let cross = |x: usize, size: usize| (2 * x as u128 + 1) * size as u128;
    cross(a.0, b.1).cmp(&cross(b.0, a.1))
}

/// The size of each part in images.
fn counts(n: usize, size: &SplitSize) -> Result<Vec<usize>> {
    match size {
        SplitSize::Counts(counts) => {
            let total = counts.iter().try_fold(0usize, |sum, &c| sum.checked_add(c));
            match total {
                Some(total) if total <= n => Ok(counts.clone()),
                _ => Err(Error::invalid("split", format!("parts of {counts:?} images do not fit into {n} images"))),
            }
        }
        SplitSize::Fractions(fractions) => {
            let mut sum = 0.0;
            let mut taken = 0;
            let mut counts = Vec::with_capacity(fractions.len());
            for &fraction in fractions {
                // Written so that NaN fails too.
                if !(0.0..=1.0).contains(&fraction) || sum + fraction > 1.0 + 1e-9 {
                    let why = format!("fractions {fractions:?} must each be in 0..=1 and together at most 1");
                    return Err(Error::invalid("split", why));
                }
                sum += fraction;
                let end = ((sum * n as f64).round() as usize).clamp(taken, n);
                counts.push(end - taken);
                taken = end;
            }
            Ok(counts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn images(labels: Vec<u16>, classes: usize) -> Images {
        let names = (0..classes).map(|i| i.to_string()).collect();
        Images::new([1, 1, 1], names, vec![0; labels.len()], labels).unwrap()
    }

    #[test]
    fn counts_are_exact_and_classes_balanced() {
        let all = images((0..1000).map(|i| i % 10).collect(), 10);
        let parts = split(&all, &SplitSize::Counts(vec![700, 200]), 5).unwrap();
        assert_eq!((parts[0].len(), parts[1].len()), (700, 200));
        assert_eq!(all.select(&parts[0]).per_class(), [70; 10]);
        assert_eq!(all.select(&parts[1]).per_class(), [20; 10]);
        assert_eq!(parts, split(&all, &SplitSize::Counts(vec![700, 200]), 5).unwrap());
        assert_ne!(parts, split(&all, &SplitSize::Counts(vec![700, 200]), 6).unwrap());
        assert_eq!(parts, split(&all, &SplitSize::Fractions(vec![0.7, 0.2]), 5).unwrap());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let all = images(vec![0; 10], 1);
        for size in [
            SplitSize::Counts(vec![8, 3]),
            SplitSize::Counts(vec![usize::MAX, 2]),
            SplitSize::Fractions(vec![0.7, 0.4]),
            SplitSize::Fractions(vec![f64::NAN]),
            SplitSize::Fractions(vec![-0.1]),
        ] {
            assert!(split(&all, &size, 0).is_err(), "{size:?}");
        }
    }

    #[test]
    fn names_decide_who_is_held_out_and_others_hardly() {
        let name = |i: usize| format!("class/{i}.png").into_bytes();
        let names: Vec<Vec<u8>> = (0..1000).map(name).collect();
        let labels: Vec<u16> = (0..1000).map(|i| (i % 10) as u16).collect();
        let held = held_out_by_name(&names, &labels, 10, 0.2);
        assert!(held.len() == 200 && held.is_sorted());
        assert!((0..10).all(|class| held.iter().filter(|&&i| i % 10 == class).count() == 20));
        // In another order it is the same names.
        let backwards: Vec<Vec<u8>> = names.iter().rev().cloned().collect();
        let back: Vec<u16> = labels.iter().rev().copied().collect();
        let mut same: Vec<usize> = held_out_by_name(&backwards, &back, 10, 0.2).into_iter().map(|i| 999 - i).collect();
        same.sort_unstable();
        assert_eq!(same, held);
        // Fifty fewer move at most as many.
        let fewer = held_out_by_name(&names[..950], &labels[..950], 10, 0.2);
        assert!(fewer.len() == 190 && fewer.iter().filter(|i| !held.contains(i)).count() <= 10);
        for (count, share, want) in [(1, 0.9, 0), (2, 0.1, 1), (3, 0.99, 2), (0, 0.5, 0)] {
            assert_eq!(held_out_by_name(&names[..count], &vec![0; count], 1, share).len(), want, "{count} {share}");
        }
    }

    #[test]
    fn permutations_depend_on_seed_and_purpose() {
        assert_eq!(permutation(50, 1, 2), permutation(50, 1, 2));
        assert_ne!(permutation(50, 1, 2), permutation(50, 2, 2));
        assert_ne!(permutation(50, 1, 2), permutation(50, 1, 3));
        assert!(permutation(0, 1, 2).is_empty());
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_and_proportional(labels in prop::collection::vec(0u16..5, 1..300),
                                               a in 0.0..0.5f64, b in 0.0..0.5f64, seed: u64) {
            let all = images(labels, 5);
            let parts = split(&all, &SplitSize::Fractions(vec![a, b]), seed).unwrap();
            let mut joined = parts.concat();
            let total = joined.len();
            joined.sort_unstable();
            joined.dedup();
            prop_assert_eq!(joined.len(), total);
            let whole = all.per_class();
            for part in parts {
                for (got, of) in all.select(&part).per_class().into_iter().zip(&whole) {
                    let want = *of as f64 * part.len() as f64 / all.len() as f64;
                    prop_assert!((got as f64 - want).abs() <= 3.0, "{} of {}: {}", got, of, want);
                }
            }
        }
    }
}
