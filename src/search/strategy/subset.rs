//! Which of many candidates to evaluate: those that spread evenly along one objective beside a front.
//!
//! MSuNAS and CNAS choose by a genetic algorithm over subsets of fixed size with operators of its own; this
//! is that algorithm.

use std::collections::HashSet;

use super::genes::below;
use crate::space::Draw;

/// Subsets in a generation.
const POPULATION: usize = 100;
/// Generations.
const GENERATIONS: usize = 60;

/// A subset, increasing, and how uneven it is.
type Scored = (f64, Vec<usize>);

/// Chooses `count` of the candidates: indices, increasing; all of them when there are not more.
///
/// `front` and `candidates` are values of the objective along which to spread, usually the second one, of the
/// archive's front and of the candidates. It minimises [`unevenness`] of both together.
pub fn spread(front: &[f64], candidates: &[f64], count: usize, draw: &mut dyn Draw) -> Vec<usize> {
    let n = candidates.len();
    if count >= n {
        return (0..n).collect();
    }
    if count == 0 {
        return Vec::new();
    }
    let score = |subset: Vec<usize>| -> Scored {
        let values = front.iter().chain(subset.iter().map(|i| &candidates[*i])).copied().collect();
        (unevenness(values), subset)
    };
    let all: Vec<usize> = (0..n).collect();
    let mut seen = HashSet::new();
    let mut population: Vec<Scored> = Vec::new();
    for _ in 0..POPULATION {
        let subset = drawn(Vec::new(), all.clone(), count, draw);
        if seen.insert(subset.clone()) {
            population.push(score(subset));
        }
    }
    for _ in 0..GENERATIONS {
        let parents = population.len() as u32;
        let tournament = |draw: &mut dyn Draw| {
            let (a, b) = (&population[below(draw, parents) as usize], &population[below(draw, parents) as usize]);
            if b.0 < a.0 { b.1.clone() } else { a.1.clone() }
        };
        let mut children = Vec::new();
        for _ in 0..POPULATION {
            let (a, b) = (tournament(draw), tournament(draw));
            let mut child = cross(&a, &b, draw);
            exchange(&mut child, n, draw);
            if seen.insert(child.clone()) {
                children.push(score(child));
            }
        }
        population.append(&mut children);
        // Stable: the earlier of equals stays.
        population.sort_by(|a, b| a.0.total_cmp(&b.0));
        population.truncate(POPULATION);
    }
    population.into_iter().next().map_or_else(Vec::new, |best| best.1)
}

/// The (population) standard deviation of the gaps between neighbours once the values are sorted; 0 with
/// fewer than three, infinite when a value is not finite.
pub fn unevenness(mut values: Vec<f64>) -> f64 {
    if values.iter().any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    values.sort_by(f64::total_cmp);
    let gaps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if gaps.is_empty() {
        return 0.0;
    }
    let n = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / n;
    (gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / n).sqrt()
}

/// `kept` and as many more from `pool` as make up `count`, drawn without replacement.
fn drawn(mut kept: Vec<usize>, mut pool: Vec<usize>, count: usize, draw: &mut dyn Draw) -> Vec<usize> {
    while kept.len() < count && !pool.is_empty() {
        kept.push(pool.swap_remove(below(draw, pool.len() as u32) as usize));
    }
    kept.sort_unstable();
    kept
}

/// What both parents hold, filled up from what one of them holds.
fn cross(a: &[usize], b: &[usize], draw: &mut dyn Draw) -> Vec<usize> {
    let (common, own): (Vec<usize>, Vec<usize>) = a.iter().copied().partition(|i| b.contains(i));
    let others = b.iter().copied().filter(|i| !a.contains(i));
    drawn(common, own.into_iter().chain(others).collect(), a.len(), draw)
}

/// Puts one that is not in the subset in place of one that is.
fn exchange(subset: &mut [usize], n: usize, draw: &mut dyn Draw) {
    let outside: Vec<usize> = (0..n).filter(|i| !subset.contains(i)).collect();
    if outside.is_empty() || subset.is_empty() {
        return;
    }
    let place = below(draw, subset.len() as u32) as usize;
    subset[place] = outside[below(draw, outside.len() as u32) as usize];
    subset.sort_unstable();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::philox::Stream;

    fn chosen(front: &[f64], candidates: &[f64], count: usize, seed: u64) -> Vec<usize> {
        spread(front, candidates, count, &mut Stream::new(seed, 0, 0))
    }

    fn score(front: &[f64], candidates: &[f64], subset: &[usize]) -> f64 {
        unevenness(front.iter().copied().chain(subset.iter().map(|i| candidates[*i])).collect())
    }

    #[test]
    fn fills_the_gaps_of_the_front() {
        let candidates = [0.1, 1.0, 1.1, 2.9, 3.0, 5.0, 5.05];
        assert_eq!(chosen(&[0.0, 2.0, 4.0, 6.0], &candidates, 3, 1), [1, 4, 5]);
        assert_eq!(unevenness(vec![3.0, 0.0, 1.0]), 0.5);
        assert_eq!((unevenness(vec![]), unevenness(vec![1.0, 7.0])), (0.0, 0.0));
    }

    #[test]
    fn all_none_and_failures() {
        assert_eq!(chosen(&[], &[1.0, 2.0], 2, 1), [0, 1]);
        assert_eq!(chosen(&[], &[1.0, 2.0], 9, 1), [0, 1]);
        assert!(chosen(&[], &[1.0, 2.0], 0, 1).is_empty() && chosen(&[1.0], &[], 3, 1).is_empty());
        // One that is not finite is taken only when nothing else is left.
        assert_eq!(chosen(&[0.0], &[1.0, f64::NAN, 2.0, f64::INFINITY], 2, 1), [0, 2]);
        assert_eq!(chosen(&[0.0], &[1.0, f64::NAN, f64::NAN], 2, 1).len(), 2);
    }

    /// 40 candidates as NSGA-II leaves them, 8 of them chosen.
    #[test]
    fn much_more_even_than_chance_and_the_same_again() {
        let mut draw = Stream::new(3, 0, 0);
        let front: Vec<f64> = (0..12).map(|_| draw.uniform()).collect();
        let candidates: Vec<f64> = (0..40).map(|_| draw.uniform()).collect();
        let found = chosen(&front, &candidates, 8, 5);
        assert_eq!(found, chosen(&front, &candidates, 8, 5));
        assert!(found.len() == 8 && found.windows(2).all(|pair| pair[0] < pair[1]));
        let random = (0..POPULATION)
            .map(|_| score(&front, &candidates, &drawn(vec![], (0..40).collect(), 8, &mut draw)))
            .fold(f64::INFINITY, f64::min);
        assert!(score(&front, &candidates, &found) < random);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn as_good_as_trying_all(
            front in prop::collection::vec(0.0f64..10.0, 0..4),
            candidates in prop::collection::vec(0.0f64..10.0, 1..10),
            count in 1usize..5,
            seed in any::<u64>(),
        ) {
            let found = chosen(&front, &candidates, count, seed);
            prop_assert_eq!(found.len(), count.min(candidates.len()));
            let best = (0u32..1 << candidates.len())
                .filter(|mask| mask.count_ones() as usize == found.len())
                .map(|mask| (0..candidates.len()).filter(|i| mask >> i & 1 == 1).collect::<Vec<_>>())
                .map(|subset| score(&front, &candidates, &subset))
                .fold(f64::INFINITY, f64::min);
            prop_assert!(score(&front, &candidates, &found) <= best + 1e-9);
        }
    }
}
