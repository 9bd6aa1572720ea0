//! An ensemble of regression trees (CART: Breiman, Friedman, Olshen and Stone, 1984), as MSuNAS has it: each
//! tree sees all samples and a random subset of the features, of a size drawn uniformly from one to all of
//! them; the prediction is the mean over all trees.

use rayon::prelude::*;

use super::{Kind, Samples, Surrogate};
use crate::error::{Error, Result};
use crate::search::strategy::genes::below;
use crate::space::Draw;

/// How many trees an ensemble has unless told otherwise. MSuNAS grows 5,000, at ten times the cost; the mean of
/// 500 lies within about 4.5 % (1 / sqrt(500)) of the trees' own spread of the mean of infinitely many.
pub const DEFAULT_TREES: usize = 500;

/// A grown ensemble.
#[derive(Clone, Debug)]
pub struct Trees {
    features: usize,
    trees: Vec<Tree>,
}

/// One tree; its root comes first.
#[derive(Clone, Debug)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Leaf {
        value: f64,
    },
    /// Rows of at most `threshold` in the feature go to the next node, others to `right`.
    Split {
        feature: usize,
        threshold: f64,
        right: usize,
    },
}

impl Trees {
    /// Grows `trees` trees until each leaf holds equal targets, or rows that none of the tree's features
    /// tells apart.
    ///
    /// # Errors
    /// No trees, fewer than two samples, or rows without features.
    pub fn fit(x: &[Vec<f64>], y: &[f64], trees: usize, draw: &mut dyn Draw) -> Result<Self> {
        let samples = Samples::new(Kind::Trees, x, y)?;
        let features = samples.features;
        if trees == 0 || features == 0 {
            let why = format!("{trees} trees on {features} features, expected at least one of each");
            return Err(Error::invalid("surrogate trees", why));
        }
        let levels: Vec<Levels> = (0..features).map(|feature| Levels::of(&samples.column(feature))).collect();
        // Drawn one after the other, grown on all cores.
        let subsets: Vec<Vec<usize>> = (0..trees).map(|_| subset(features, draw)).collect();
        let grower = || Grower::new(&levels, &samples.y);
        let trees = subsets.par_iter().map_init(grower, |grower, subset| grower.grow(subset)).collect();
        Ok(Trees { features, trees })
    }

    fn value(&self, row: &[f64]) -> f64 {
        if row.len() != self.features {
            return f64::NAN;
        }
        self.trees.iter().map(|tree| tree.value(row)).sum::<f64>() / self.trees.len() as f64
    }
}

/// Some features in random order. Of equally good splits the first feature wins: let it not be the same one in every tree.
fn subset(features: usize, draw: &mut dyn Draw) -> Vec<usize> {
    let mut subset: Vec<usize> = (0..features).collect();
    // The first places of a random order.
    let size = below(draw, features as u32) as usize + 1;
    for place in 0..size {
        let other = place + below(draw, (features - place) as u32) as usize;
        subset.swap(place, other);
    }
    subset.truncate(size);
    subset
}

impl Surrogate for Trees {
    fn name(&self) -> &'static str {
        Kind::Trees.name()
    }

    fn predict(&self, x: &[Vec<f64>]) -> Vec<f64> {
        x.par_iter().map(|row| self.value(row)).collect()
    }
}

impl Tree {
    fn value(&self, row: &[f64]) -> f64 {
        let mut place = 0;
        loop {
            match self.nodes[place] {
                Node::Leaf { value } => return value,
                Node::Split { feature, threshold, right } => {
                    place = if row[feature] <= threshold { place + 1 } else { right };
                }
            }
        }
    }
}

/// The different values of a feature, rising, and the place of each sample's among them: genes have few, so
/// that counting replaces sorting.
struct Levels {
    values: Vec<f64>,
    of_sample: Vec<u32>,
}

impl Levels {
    fn of(column: &[f64]) -> Self {
        let mut values = column.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let of_sample = column.iter().map(|value| values.partition_point(|other| other < value) as u32).collect();
        Levels { values, of_sample }
    }
}

/// Number and sum of some targets.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    n: usize,
    sum: f64,
}

impl Sum {
    /// What a part takes off the sum of squares when its mean is subtracted: the larger, the better a split.
    fn gain(self) -> f64 {
        self.sum * self.sum / self.n as f64
    }
}

/// Grows trees, one after the other; what it keeps spares allocations.
struct Grower<'a> {
    levels: &'a [Levels],
    y: &'a [f64],
    /// For each sample and feature of the subset the place of its level's bin.
    places: Vec<u32>,
    /// The first bin of each feature of the subset, and the end.
    starts: Vec<u32>,
    /// Sums of the levels of all features of the subset.
    bins: Vec<Sum>,
    /// Samples, each part in one piece and in their order.
    samples: Vec<u32>,
    /// Those that go right, while a part is split.
    right: Vec<u32>,
}

/// A split: rows up to this level of the feature go left.
struct Split {
    gain: f64,
    /// Its number in the subset.
    feature: usize,
    level: usize,
    threshold: f64,
}

impl<'a> Grower<'a> {
    fn new(levels: &'a [Levels], y: &'a [f64]) -> Self {
        let (places, starts, bins, samples, right) = (vec![], vec![], vec![], vec![], vec![]);
        Grower { levels, y, places, starts, bins, samples, right }
    }

    fn grow(&mut self, subset: &[usize]) -> Tree {
        self.begin(subset);
        let mut nodes = Vec::new();
        // Parts to grow with the node that waits for its right child; a stack puts left children next.
        let mut open: Vec<(std::ops::Range<usize>, Option<usize>)> = vec![(0..self.y.len(), None)];
        while let Some((part, parent)) = open.pop() {
            let own = nodes.len();
            if let Some(Node::Split { right, .. }) = parent.and_then(|parent| nodes.get_mut(parent)) {
                *right = own;
            }
            let mean = self.samples[part.clone()].iter().map(|i| self.y[*i as usize]).sum::<f64>() / part.len() as f64;
            match self.best_split(part.clone(), mean, subset) {
                Some(Split { feature, level, threshold, .. }) => {
                    let middle = self.split(part.clone(), subset[feature], level);
                    nodes.push(Node::Split { feature: subset[feature], threshold, right: 0 });
                    open.push((middle..part.end, Some(own)));
                    open.push((part.start..middle, None));
                }
                None => nodes.push(Node::Leaf { value: mean }),
            }
        }
        Tree { nodes }
    }

    /// Lays out bins for a subset of the features, and all samples as one part.
    fn begin(&mut self, subset: &[usize]) {
        self.starts.clear();
        self.starts.push(0);
        for feature in subset {
            let start = self.starts[self.starts.len() - 1];
            self.starts.push(start + self.levels[*feature].values.len() as u32);
        }
        self.places.clear();
        for sample in 0..self.y.len() {
            let own = subset.iter().zip(&self.starts);
            self.places.extend(own.map(|(feature, start)| start + self.levels[*feature].of_sample[sample]));
        }
        self.samples.clear();
        self.samples.extend(0..self.y.len() as u32);
    }

    /// Puts samples of a part up to a level of a feature before the others, in their order; where the others begin.
    fn split(&mut self, part: std::ops::Range<usize>, feature: usize, level: usize) -> usize {
        let of_sample = &self.levels[feature].of_sample;
        self.right.clear();
        let mut middle = part.start;
        for place in part.clone() {
            let sample = self.samples[place];
            if of_sample[sample as usize] as usize <= level {
                self.samples[middle] = sample;
                middle += 1;
            } else {
                self.right.push(sample);
            }
        }
        self.samples[middle..part.end].copy_from_slice(&self.right);
        middle
    }

    /// [`Grower::best_split`] of two samples, which most parts have in the end: features that tell them apart differ in which of
    /// them goes left, and with it in rounding alone.
    fn best_of_two(&self, samples: [usize; 2], mean: f64, subset: &[usize]) -> Option<Split> {
        let [a, b] = samples.map(|sample| self.y[sample] - mean);
        // As the sums of bins are made.
        let all = Sum { n: 2, sum: 0.0 + a + b };
        let gain = |left: f64| {
            let left = Sum { n: 1, sum: 0.0 + left };
            left.gain() + Sum { n: 1, sum: all.sum - left.sum }.gain()
        };
        let gains = [gain(a), gain(b)];
        let mut best: Option<Split> = None;
        for (feature, own) in subset.iter().enumerate() {
            let Levels { values, of_sample } = &self.levels[*own];
            let [a, b] = samples.map(|sample| of_sample[sample] as usize);
            if a == b {
                continue;
            }
            let gain = gains[usize::from(b < a)];
            if best.as_ref().is_none_or(|best| gain > best.gain) {
                let level = a.min(b);
                let threshold = f64::midpoint(values[level], values[a.max(b)]);
                best = Some(Split { gain, feature, level, threshold });
            }
        }
        best
    }

    /// The split that leaves the least squared error, the first of equals, also if it takes nothing off:
    /// later ones may (as for an exclusive or). `None` when all targets or all rows are equal.
    fn best_split(&mut self, part: std::ops::Range<usize>, mean: f64, subset: &[usize]) -> Option<Split> {
        let samples = &self.samples[part];
        let first = self.y[samples[0] as usize];
        if samples.iter().all(|i| self.y[*i as usize] == first) {
            return None;
        }
        if let [a, b] = *samples {
            return self.best_of_two([a as usize, b as usize], mean, subset);
        }
        // Sample by sample over all features, whose sums are independent: a processor adds several at a time.
        self.bins.clear();
        self.bins.resize(self.starts[subset.len()] as usize, Sum::default());
        let mut all = Sum::default();
        for sample in samples.iter().map(|i| *i as usize) {
            // Around the mean, so that little cancels.
            let value = self.y[sample] - mean;
            all = Sum { n: all.n + 1, sum: all.sum + value };
            for place in &self.places[sample * subset.len()..(sample + 1) * subset.len()] {
                let bin = &mut self.bins[*place as usize];
                *bin = Sum { n: bin.n + 1, sum: bin.sum + value };
            }
        }
        let mut best: Option<Split> = None;
        for (feature, ends) in self.starts.windows(2).enumerate() {
            let values = &self.levels[subset[feature]].values;
            let bins = &self.bins[ends[0] as usize..ends[1] as usize];
            let mut left = Sum::default();
            let mut last: Option<usize> = None;
            for (level, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.n > 0) {
                if let Some(last) = last {
                    let right = Sum { n: all.n - left.n, sum: all.sum - left.sum };
                    let gain = left.gain() + right.gain();
                    if best.as_ref().is_none_or(|best| gain > best.gain) {
                        let threshold = f64::midpoint(values[last], values[level]);
                        best = Some(Split { gain, feature, level: last, threshold });
                    }
                }
                left = Sum { n: left.n + bin.n, sum: left.sum + bin.sum };
                last = Some(level);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{rows, target, targets};
    use super::*;
    use crate::philox::Stream;

    fn fit(x: &[Vec<f64>], y: &[f64], trees: usize) -> Trees {
        Trees::fit(x, y, trees, &mut Stream::new(1, 0, 0)).unwrap()
    }

    /// A tree on all features.
    fn tree(x: &[Vec<f64>], y: &[f64]) -> Trees {
        let samples = Samples::new(Kind::Trees, x, y).unwrap();
        let levels: Vec<Levels> = (0..samples.features).map(|i| Levels::of(&samples.column(i))).collect();
        let all: Vec<usize> = (0..samples.features).collect();
        let tree = Grower::new(&levels, &samples.y).grow(&all);
        Trees { features: samples.features, trees: vec![tree] }
    }

    #[test]
    fn one_tree_by_hand() {
        let x: Vec<Vec<f64>> = [[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 1.0]].map(|row| row.to_vec()).to_vec();
        let grown = tree(&x, &[1.0, 2.0, 11.0, 12.0]);
        // First by the first feature at 1, then twice by the second at .5.
        assert!(matches!(grown.trees[0].nodes[0], Node::Split { feature: 0, threshold: 1.0, right: 4 }));
        assert!(matches!(grown.trees[0].nodes[1], Node::Split { feature: 1, threshold: 0.5, right: 3 }));
        assert_eq!(grown.predict(&x), [1.0, 2.0, 11.0, 12.0]);
        assert_eq!(grown.predict(&[vec![0.9, 9.0], vec![1.1, -3.0]]), [2.0, 11.0]);
        // No first split helps an exclusive or, and still it is learnt.
        assert_eq!(tree(&x, &[0.0, 1.0, 1.0, 0.0]).predict(&x), [0.0, 1.0, 1.0, 0.0]);
        // Equal rows cannot be told apart.
        let same = vec![vec![1.0], vec![1.0], vec![1.0]];
        assert_eq!(tree(&same, &[1.0, 2.0, 6.0]).predict(&same[..1]), [3.0]);
        assert!(grown.predict(&[vec![0.0]])[0].is_nan());
    }

    #[test]
    fn learns_more_than_the_mean() {
        let (x, test) = (rows(150, 6, 1), rows(60, 6, 2));
        let y = targets(&x);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let fitted = fit(&x, &y, 200);
        let error = |predicted: &[f64]| {
            test.iter().zip(predicted).map(|(row, got)| (got - target(row)).powi(2)).sum::<f64>() / test.len() as f64
        };
        let (own, means) = (error(&fitted.predict(&test)), error(&[mean; 60]));
        assert!(own < 0.3 * means, "{own} {means}");
    }

    #[test]
    fn the_same_draws_give_the_same_trees() {
        let x = rows(40, 6, 1);
        let y = targets(&x);
        assert_eq!(fit(&x, &y, 50).predict(&x), fit(&x, &y, 50).predict(&x));
        let other = Trees::fit(&x, &y, 50, &mut Stream::new(2, 0, 0)).unwrap();
        assert_ne!(fit(&x, &y, 50).predict(&x), other.predict(&x));
    }

    #[test]
    fn bad_input_is_refused() {
        let fit = |x: &[Vec<f64>], y: &[f64], trees| {
            Trees::fit(x, y, trees, &mut Stream::new(1, 0, 0)).unwrap_err().to_string()
        };
        assert!(fit(&[vec![1.0]], &[1.0], 5).contains("needs at least 2"));
        assert!(fit(&[vec![1.0], vec![2.0]], &[1.0, 2.0], 0).contains("0 trees"));
        assert!(fit(&[vec![], vec![]], &[1.0, 2.0], 5).contains("0 features"));
        assert_eq!(super::tests::fit(&[vec![1.0], vec![2.0]], &[3.0, 3.0], 5).predict(&[vec![9.0]]), [3.0]);
    }

    proptest! {
        /// A full tree reproduces the mean target of every distinct row.
        #[test]
        fn a_full_tree_remembers(rows in prop::collection::vec((0u8..4, 0u8..4, 0u8..50), 2..40)) {
            let x: Vec<Vec<f64>> = rows.iter().map(|row| vec![f64::from(row.0), f64::from(row.1)]).collect();
            let y: Vec<f64> = rows.iter().map(|row| f64::from(row.2)).collect();
            for (row, got) in x.iter().zip(tree(&x, &y).predict(&x)) {
                let same: Vec<f64> = x.iter().zip(&y).filter(|(other, _)| *other == row).map(|(_, y)| *y).collect();
                prop_assert!((got - same.iter().sum::<f64>() / same.len() as f64).abs() < 1e-9);
            }
        }

        /// The first split leaves the least squared error of all splits.
        #[test]
        fn the_first_split_is_the_best(rows in prop::collection::vec((0u8..5, 0u8..5, 0u8..50), 2..20)) {
            let x: Vec<Vec<f64>> = rows.iter().map(|row| vec![f64::from(row.0), f64::from(row.1)]).collect();
            let y: Vec<f64> = rows.iter().map(|row| f64::from(row.2)).collect();
            let squares = |keep: &dyn Fn(&[f64]) -> bool| {
                let part: Vec<f64> = x.iter().zip(&y).filter(|(row, _)| keep(row)).map(|(_, y)| *y).collect();
                let mean = part.iter().sum::<f64>() / part.len().max(1) as f64;
                part.iter().map(|y| (y - mean).powi(2)).sum::<f64>()
            };
            let left = |feature: usize, at: f64| {
                squares(&|row| row[feature] <= at) + squares(&|row| row[feature] > at)
            };
            if let Node::Split { feature, threshold, .. } = tree(&x, &y).trees[0].nodes[0] {
                for (other, at) in (0..2).flat_map(|f| (0..5).map(move |at| (f, f64::from(at) + 0.5))) {
                    prop_assert!(left(feature, threshold) <= left(other, at) + 1e-9);
                }
            }
        }
    }
}
