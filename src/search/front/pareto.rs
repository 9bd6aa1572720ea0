//! Pareto dominance: who beats whom when several objectives are minimised at once.
//!
//! Constraints enter as in Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic
//! algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002: a point within the limits beats one outside,
//! and of two outside the one that violates them less. The crowding distance is that article's too.

use std::borrow::Borrow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// What was found of one candidate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// All minimised. One that is not finite marks a failed evaluation, which is worse than every other
    /// point.
    pub objectives: Vec<f64>,
    /// By how much limits are exceeded, summed over the limits; 0 or less within them, NaN or infinite
    /// for a failed evaluation.
    pub violation: f64,
}

impl Point {
    /// A point within all limits.
    pub fn feasible(objectives: impl Into<Vec<f64>>) -> Self {
        Point { objectives: objectives.into(), violation: 0.0 }
    }

    /// The point of an evaluation that failed.
    pub fn failed(objectives: usize) -> Self {
        Point { objectives: vec![f64::INFINITY; objectives], violation: 0.0 }
    }

    /// Whether the evaluation failed.
    pub fn is_failed(&self) -> bool {
        self.standing().is_infinite()
    }

    /// Whether the point is within all limits, and no failure.
    pub fn is_feasible(&self) -> bool {
        self.standing() == 0.0
    }

    /// Whether this point beats the other: by its limits, or, both within them, by being at most equal in
    /// each objective and less in one.
    pub fn dominates(&self, other: &Point) -> bool {
        let (own, others) = (self.standing(), other.standing());
        own < others || (own == 0.0 && others == 0.0 && dominates(&self.objectives, &other.objectives))
    }

    /// 0 within the limits, the violation outside, infinite for a failure: less is better, whatever the
    /// objectives.
    fn standing(&self) -> f64 {
        let finite = self.objectives.iter().all(|value| value.is_finite()) && self.violation.is_finite();
        match finite {
            true if self.violation > 0.0 => self.violation,
            true => 0.0,
            false => f64::INFINITY,
        }
    }

    /// A total order in which a point comes before all that it dominates.
    fn presort(&self, other: &Point) -> Ordering {
        // Objectives count only within the limits, and only there is it known that none is NaN.
        let (own, others) = (self.standing(), other.standing());
        match own.total_cmp(&others) {
            Ordering::Equal if own == 0.0 => lexicographic(&self.objectives, &other.objectives),
            order => order,
        }
    }
}

/// Whether row `a` is at most equal to `b` everywhere and less somewhere. A NaN is never at most equal.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

/// By the first column in which they differ; both zeros are equal. Without NaN.
fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    let mut columns = a.iter().zip(b).map(|(a, b)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    columns.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The fronts, best first: what no point dominates, what then no remaining one dominates, and so on.
/// Indices into `points`, increasing within a front. Equal points share a front; failures share the last one.
///
/// Points are sorted so that none comes before its dominators, and each then goes to the first front that
/// holds none of them (Zhang, Tian, Cheng and Jin, "An efficient approach to nondominated sorting for
/// evolutionary multiobjective optimization", IEEE Trans. Evol. Comput. 19(2), 2015).
pub fn fronts<P: Borrow<Point>>(points: &[P]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*a].borrow().presort(points[*b].borrow()));
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for point in order {
        // From the back: what was placed last is nearest in the order and the likeliest to dominate.
        let beaten = |front: &Vec<usize>| {
            front.iter().rev().any(|other| points[*other].borrow().dominates(points[point].borrow()))
        };
        match fronts.iter().position(|front| !beaten(front)) {
            Some(place) => fronts[place].push(point),
            None => fronts.push(vec![point]),
        }
    }
    for front in &mut fronts {
        front.sort_unstable();
    }
    fronts
}

/// The feasible points that no other one dominates: indices, increasing. Equal points all stay.
pub fn front<P: Borrow<Point>>(points: &[P]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).filter(|i| points[*i].borrow().is_feasible()).collect();
    order.sort_by(|a, b| points[*a].borrow().presort(points[*b].borrow()));
    let mut front: Vec<usize> = Vec::new();
    for point in order {
        if !front.iter().rev().any(|other| points[*other].borrow().dominates(points[point].borrow())) {
            front.push(point);
        }
    }
    front.sort_unstable();
    front
}

/// The rows of finite values that no other one dominates: indices, increasing. Equal rows all stay.
pub fn front_of_rows<R: AsRef<[f64]>>(rows: &[R]) -> Vec<usize> {
    let points: Vec<Point> = rows.iter().map(|row| Point::feasible(row.as_ref())).collect();
    front(&points)
}

/// The place of the front of each point, 0 for the best; see [`fronts`].
pub fn ranks<P: Borrow<Point>>(points: &[P]) -> Vec<usize> {
    let mut ranks = vec![0; points.len()];
    for (rank, front) in fronts(points).iter().enumerate() {
        for point in front {
            ranks[*point] = rank;
        }
    }
    ranks
}

/// Crowding distances of the rows of one front (one column for each objective).
///
/// For each objective the gap between the two neighbours in its order, divided by the front's range in it;
/// the sum of these divided by the number of objectives. The ends of an order are infinitely far. An
/// objective in which all are equal adds nothing, not even at the ends, so that copies of one point have
/// distance 0. A single row is infinitely far from everything.
pub fn crowding<R: AsRef<[f64]>>(rows: &[R]) -> Vec<f64> {
    let objectives = rows.iter().map(|row| row.as_ref().len()).min().unwrap_or(0);
    if rows.len() < 2 {
        return vec![f64::INFINITY; rows.len()];
    }
    let mut sums = vec![0.0; rows.len()];
    for objective in 0..objectives {
        let value = |row: usize| rows[row].as_ref()[objective];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        // Stable: of equals the first one counts as the end.
        order.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
        let (low, high) = (order[0], order[rows.len() - 1]);
        let range = value(high) - value(low);
        // Also false for NaN.
        if !(range > 0.0 && range.is_finite()) {
            continue;
        }
        for places in order.windows(3) {
            sums[places[1]] += (value(places[2]) - value(places[0])) / range;
        }
        sums[low] = f64::INFINITY;
        sums[high] = f64::INFINITY;
    }
    sums.iter().map(|sum| sum / objectives.max(1) as f64).collect()
}

/// What NSGA-II compares individuals by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merit {
    /// See [`ranks`].
    pub rank: usize,
    /// See [`crowding`], within the point's front; 0 for failures.
    pub crowding: f64,
}

impl Merit {
    /// The crowded comparison: the lower rank first, then the larger distance.
    pub fn compare(&self, other: &Merit) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| other.crowding.total_cmp(&self.crowding))
    }
}

/// Rank and crowding distance of each point.
pub fn merits<P: Borrow<Point>>(points: &[P]) -> Vec<Merit> {
    let mut merits = vec![Merit { rank: 0, crowding: 0.0 }; points.len()];
    for (rank, front) in fronts(points).iter().enumerate() {
        let rows: Vec<&[f64]> = front.iter().map(|point| points[*point].borrow().objectives.as_slice()).collect();
        for (point, crowding) in front.iter().zip(crowding(&rows)) {
            let crowding = if points[*point].borrow().is_failed() { 0.0 } else { crowding };
            merits[*point] = Merit { rank, crowding };
        }
    }
    merits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(rows: &[(f64, f64, f64)]) -> Vec<Point> {
        rows.iter().map(|(a, b, violation)| Point { objectives: vec![*a, *b], violation: *violation }).collect()
    }

    /// Ranks by the definition: takes off front after front.
    fn peeled(points: &[Point]) -> Vec<usize> {
        let mut ranks = vec![usize::MAX; points.len()];
        for rank in 0.. {
            let left: Vec<usize> = (0..points.len()).filter(|i| ranks[*i] == usize::MAX).collect();
            if left.is_empty() {
                break;
            }
            for i in &left {
                if !left.iter().any(|j| points[*j].dominates(&points[*i])) {
                    ranks[*i] = rank;
                }
            }
        }
        ranks
    }

    #[test]
    fn limits_come_before_objectives_and_failures_last() {
        let all = points(&[
            (9.0, 9.0, 0.0),
            (0.0, 0.0, 0.5),
            (f64::NAN, 0.0, 0.0),
            (0.0, 0.0, 0.2),
            (1.0, 9.0, -1.0),
            (0.0, f64::NEG_INFINITY, 0.0),
            (0.0, 9.0, 0.2),
            (0.0, 0.0, f64::NAN),
        ]);
        assert_eq!(ranks(&all), [1, 3, 4, 2, 0, 4, 2, 4]);
        assert_eq!(front(&all), [4]);
        assert_eq!(front(&all[1..4]), [] as [usize; 0]);
        assert_eq!(front_of_rows(&[[1.0, 1.0], [f64::NAN, 0.0], [1.0, 1.0], [2.0, 1.0]]), [0, 2]);
        assert!(Point::failed(2).is_failed() && !all[1].is_failed() && !all[1].is_feasible());
        // Two outside by the same amount: neither beats the other, whatever the objectives.
        assert!(!all[3].dominates(&all[6]));
        assert!(merits(&all).iter().zip(&all).all(|(merit, point)| !point.is_failed() || merit.crowding == 0.0));
        assert!(ranks::<Point>(&[]).is_empty() && front::<Point>(&[]).is_empty());
    }

    #[test]
    fn crowding_by_hand() {
        let inf = f64::INFINITY;
        // Around the second 3 of 4 and 4 of 4. The third is an end, as the first of two equals.
        assert_eq!(crowding(&[[0.0, 4.0], [1.0, 3.0], [3.0, 0.0], [4.0, 0.0]]), [inf, (0.75 + 1.0) / 2.0, inf, inf]);
        assert_eq!(crowding(&[[1.0, 1.0], [1.0, 1.0]]), [0.0, 0.0]);
        assert_eq!(crowding(&[[1.0, 2.0], [2.0, 1.0]]), [inf, inf]);
        assert_eq!(crowding(&[[1.0, 2.0]]), [inf]);
        assert!(crowding::<[f64; 2]>(&[]).is_empty());
        // The second objective says nothing.
        assert_eq!(crowding(&[[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]]), [inf, 0.5, inf]);
    }

    #[test]
    fn the_less_crowded_of_a_front_is_better() {
        let (a, b) = (Merit { rank: 0, crowding: 0.1 }, Merit { rank: 0, crowding: f64::INFINITY });
        assert_eq!(b.compare(&a), Ordering::Less);
        assert_eq!(a.compare(&Merit { rank: 1, crowding: f64::INFINITY }), Ordering::Less);
        assert_eq!(a.compare(&a), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_the_definition(
            rows in prop::collection::vec((prop::collection::vec(0u8..6, 3), 0u8..6), 0..40),
        ) {
            let points: Vec<Point> = rows.iter().map(|(row, violation)| Point {
                // 5 stands for a failure, a violation of up to 3 for none.
                objectives: row.iter().map(|v| if *v == 5 { f64::NAN } else { f64::from(*v) }).collect(),
                violation: f64::from(*violation) - 3.0,
            }).collect();
            let ranks = ranks(&points);
            prop_assert_eq!(&ranks, &peeled(&points));
            let feasible = front(&points);
            let first: Vec<usize> = (0..points.len()).filter(|i| ranks[*i] == 0 && points[*i].is_feasible()).collect();
            prop_assert_eq!(feasible, first);
        }

        #[test]
        fn crowding_ignores_scale_and_order(rows in prop::collection::vec((0u16..900, 0u16..900), 3..20)) {
            let rows: std::collections::BTreeSet<(u16, u16)> = rows.into_iter().collect();
            let line: Vec<[f64; 2]> = rows.iter().map(|(a, b)| [f64::from(*a), f64::from(*b)]).collect();
            let front: Vec<[f64; 2]> = front_of_rows(&line).iter().map(|i| line[*i]).collect();
            let scaled: Vec<[f64; 2]> = front.iter().rev().map(|[a, b]| [a * 8.0 - 3.0, b * 0.5]).collect();
            let mut again = crowding(&scaled);
            again.reverse();
            for (a, b) in crowding(&front).iter().zip(&again) {
                prop_assert!(a == b || (a - b).abs() < 1e-9, "{} {}", a, b);
            }
        }
    }
}
