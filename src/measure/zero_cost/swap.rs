//! SWAP: how many patterns over the images a network's rectified units show, with fresh normal weights (Peng et al. 2024,
//! "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-Fast NAS", section 3); and SNAP, the same with noise (TRNAS, ICCV 2025), as
//! released and as meant.
//!
//! A unit's pattern says on which images it is open. All units' patterns are the columns of one matrix, and the score is the number
//! of distinct columns, its mean over draws of weights from N(0, 1) with biases 0 and norms 1 and 0.
//!
//! SNAP as released multiplies what is rectified by `1 + 0.05 z`, `z` normal. The factor is negative with probability `1e-88`, so no
//! sign changes and the score is SWAP's: [`Proxy::SnapReleased`] is that number. [`Proxy::Snap`] takes the signs of
//! `x + 0.05 r z` in front of the rectifier, `r` the root mean square of the rectifier's input over images, positions and channels, so
//! that the noise is as large beside the values in every layer. The noise is not passed on, as in the released code.
//!
//! Draws are members of the population: their passes are tasks of the same dispatches, and only packed signs come back.

use rayon::prelude::*;

use super::Proxy;
use super::left::Left;
use super::passes::{Compiled, Look, Wanted};
use super::score::{Scorer, Scores};
use crate::error::{Error, Result};
use crate::nn::bank::Weights;
use crate::space::Arch;

/// Deviation of SNAP's noise, in the root mean square of what it is added to.
const SNAP_SIGMA: f64 = 0.05;
/// Networks side by side that are as many as any adapter gains from.
const SIDE_BY_SIDE: usize = 64;

/// The proxies that are had here.
pub(super) const FORMS: [Proxy; 3] = [Proxy::Swap, Proxy::Snap, Proxy::SnapReleased];

/// Enters the scores of those of them that are wanted. `most` networks are run side by side, at least one draw of each.
///
/// # Errors
/// If there are no draws, a weight is missing, or the device fails.
pub(super) fn score(
    scorer: &Scorer,
    archs: &[Arch],
    proxies: &[Proxy],
    scores: &mut [Scores],
    most: usize,
) -> Result<()> {
    let (images, draws) = (scorer.batch["y"].data.len(), scorer.draws.len());
    if draws == 0 {
        return Err(Error::invalid("--draws", "0; swap and snap need at least 1 draw of weights"));
    }
    let has = |list: &[Proxy]| proxies.iter().any(|p| list.contains(p));
    let wanted = Wanted {
        batch: images,
        codes: has(&[Proxy::Swap, Proxy::SnapReleased]),
        noisy_codes: has(&[Proxy::Snap]),
        ..Wanted::default()
    };
    let looks = scorer.looks(archs, wanted)?;
    let contents = looks.par_iter().map(Look::weights).collect::<Result<Vec<_>>>()?;
    // Draws at once, as many of each network.
    let side = (most.min(SIDE_BY_SIDE) / archs.len().max(1)).clamp(1, draws);
    let members: Vec<&Look> = (0..side).flat_map(|_| &looks).collect();
    let mut compiled: Option<Compiled> = None;
    let mut sums = vec![[0; 2]; archs.len()];
    for first in (0..draws).step_by(side) {
        // The last of all is there again where none is left.
        let now: Vec<usize> = (first..first + side).map(|draw| draw.min(draws - 1)).collect();
        let weights = now.iter().map(|&draw| scorer.draws[draw].weights(&contents)).collect::<Result<Vec<_>>>()?;
        let weights: Vec<&Weights> = weights.iter().flatten().collect();
        let plan = match compiled.take() {
            Some(plan) => {
                plan.set_weights(&weights)?;
                plan
            }
            None => Compiled::with_noise(&scorer.gpu, scorer.preset, &members, &weights)?,
        };
        if wanted.noisy_codes {
            let numbers: Vec<u32> = now.iter().flat_map(|&draw| vec![draw as u32; archs.len()]).collect();
            plan.set_noise(SNAP_SIGMA, scorer.seed, &numbers)?;
        }
        let mut left = plan.run_wait(&scorer.batch)?;
        left.truncate((draws - first) * archs.len());
        let counts: Vec<[usize; 2]> = left
            .par_iter()
            .zip(&members)
            .map(|(left, look)| ["codes", "noisy"].map(|signs| count(look, left, signs, images)))
            .collect();
        for (member, counts) in counts.into_iter().enumerate() {
            let sum = &mut sums[member % archs.len()];
            *sum = [sum[0] + counts[0], sum[1] + counts[1]];
        }
        compiled = Some(plan);
    }
    for (scores, sum) in scores.iter_mut().zip(sums) {
        let [plain, noisy] = sum.map(|sum| sum as f64 / draws as f64);
        scores.extend([(Proxy::Swap, plain), (Proxy::SnapReleased, plain), (Proxy::Snap, noisy)]);
    }
    Ok(())
}

/// Distinct patterns of one member's units; 0 if these signs were not taken.
fn count(look: &Look, left: &Left, signs: &str, images: usize) -> usize {
    let rectifiers = look.units.iter().enumerate();
    let codes = rectifiers.filter_map(|(n, units)| Some((left.stored(&format!("{signs}.{n}"))?, units.count)));
    distinct_columns(&codes.collect::<Vec<_>>(), images)
}

/// Signs of 32 units by up to 32 images at a time: a block of bits.
const BLOCK: usize = 32;

/// Number of distinct columns of the matrix of all these signs, with a row for each image. Signs are those of
/// [`Op::SignCodes`](crate::graph::Op::SignCodes), as they lie on the device, each with its units per image.
pub fn distinct_columns(codes: &[(&[f32], usize)], images: usize) -> usize {
    if images == 0 {
        return 0;
    }
    // What is stored beyond the units is never open, but is no column: whether any unit is never open is counted.
    let (mut padding, mut never) = (0, 0);
    for (codes, units) in codes {
        let words = codes.len() / images;
        padding += words * 16 - units;
        for word in 0..words {
            let open = (0..images).fold(0, |open, image| open | codes[image * words + word] as u32);
            never += 16 - open.count_ones() as usize;
        }
    }
    let all = if images <= 16 { few_images(codes, images) } else { many_images(codes, images) };
    all - usize::from(padding > 0 && padding == never)
}

/// Calls `then` with the columns of each block of these images' signs, in order.
fn blocks(codes: &[(&[f32], usize)], images: usize, some: std::ops::Range<usize>, mut then: impl FnMut(&[u32; BLOCK])) {
    for (codes, _) in codes {
        let words = codes.len() / images;
        for word in (0..words).step_by(2) {
            let mut bits = [0; BLOCK];
            for (bits, image) in bits.iter_mut().zip(some.clone()) {
                let at = image * words + word;
                // Words come in fours.
                *bits = codes[at] as u32 | (codes[at + 1] as u32) << 16;
            }
            transpose(&mut bits);
            then(&bits);
        }
    }
}

/// Swaps rows and columns of a block of bits, bit 0 being the first column (Warren, "Hacker's Delight", section 7-3).
fn transpose(bits: &mut [u32; BLOCK]) {
    let (mut half, mut mask) = (BLOCK / 2, 0x0000_ffff_u32);
    while half > 0 {
        for row in (0..BLOCK).filter(|row| row & half == 0) {
            let moved = (bits[row] >> half ^ bits[row + half]) & mask;
            bits[row + half] ^= moved;
            bits[row] ^= moved << half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// Patterns of 16 images are few enough to mark each.
fn few_images(codes: &[(&[f32], usize)], images: usize) -> usize {
    let mut seen = vec![0u64; 1 << 10];
    blocks(codes, images, 0..images, |columns| {
        columns.iter().for_each(|&column| seen[column as usize >> 6] |= 1 << (column & 63));
    });
    seen.iter().map(|seen| seen.count_ones() as usize).sum()
}

/// Columns are told apart by 32 images after the other: those alike so far have the same number.
fn many_images(codes: &[(&[f32], usize)], images: usize) -> usize {
    let mut numbers: Vec<u32> = vec![];
    let mut kinds = vec![];
    for first in (0..images).step_by(BLOCK) {
        let mut keys: Vec<u64> = vec![];
        blocks(codes, images, first..images.min(first + BLOCK), |columns| {
            for &column in columns {
                let before = numbers.get(keys.len()).copied().unwrap_or(0);
                keys.push(u64::from(before) << 32 | u64::from(column));
            }
        });
        kinds.clone_from(&keys);
        kinds.sort_unstable();
        kinds.dedup();
        if first + BLOCK < images {
            numbers = keys.iter().map(|key| kinds.partition_point(|kind| kind < key) as u32).collect();
        }
    }
    kinds.len()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::philox::Stream;

    /// Signs as they lie on the device, each rectifier's units side by side.
    fn packed(signs: &[Vec<Vec<bool>>]) -> Vec<(Vec<f32>, usize)> {
        let pack = |images: &Vec<Vec<bool>>| {
            let units = images[0].len();
            let words = units.div_ceil(64) * 4;
            let mut codes = vec![0u32; images.len() * words];
            for (image, signs) in images.iter().enumerate() {
                for (unit, _) in signs.iter().enumerate().filter(|(_, open)| **open) {
                    codes[image * words + unit / 16] |= 1 << (unit % 16);
                }
            }
            (codes.into_iter().map(|code| code as f32).collect(), units)
        };
        signs.iter().map(pack).collect()
    }

    fn counted(signs: &[Vec<Vec<bool>>]) -> usize {
        let packed = packed(signs);
        let codes: Vec<(&[f32], usize)> = packed.iter().map(|(codes, units)| (&codes[..], *units)).collect();
        distinct_columns(&codes, signs[0].len())
    }

    #[test]
    fn by_hand() {
        let (o, x) = (false, true);
        // Two images, three units: patterns 10, 11, 10.
        assert_eq!(counted(&[vec![vec![x, x, x], vec![o, x, o]]]), 2);
        // A unit that is never open is a pattern, padding is none.
        assert_eq!(counted(&[vec![vec![x, o], vec![o, o]]]), 2);
        assert_eq!(counted(&[vec![vec![o; 64], vec![o; 64]]]), 1);
        assert_eq!(counted(&[vec![vec![x; 64], vec![x; 64]]]), 1);
        // Two rectifiers share patterns.
        assert_eq!(counted(&[vec![vec![x], vec![o]], vec![vec![x, o], vec![o, x]]]), 2);
        assert_eq!(distinct_columns(&[], 4), 0);
    }

    #[test]
    fn as_sets_count() {
        let mut stream = Stream::new(3, 1, 0);
        for images in [1, 2, 7, 16, 17, 32, 33, 65] {
            for rare in [0.5, 0.02] {
                let mut draw = |units: usize| -> Vec<Vec<bool>> {
                    (0..images).map(|_| (0..units).map(|_| stream.uniform() < rare).collect()).collect()
                };
                let signs = [draw(5), draw(192), draw(333)];
                let column = |part: &Vec<Vec<bool>>, unit: usize| part.iter().map(|row| row[unit]).collect::<Vec<_>>();
                let columns = signs.iter().flat_map(|part| (0..part[0].len()).map(move |unit| column(part, unit)));
                let want: HashSet<Vec<bool>> = columns.collect();
                assert_eq!(counted(&signs), want.len(), "{images} images, {rare}");
            }
        }
    }
}
