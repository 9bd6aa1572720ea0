//! Adaptive switching: of several surrogates the one that ranks architectures best in cross-validation, as
//! MSuNAS has it.

use serde::{Deserialize, Serialize};

use super::{Fit, Kind, Samples, Surrogate};
use crate::error::{Error, Result};
use crate::report::statistics::{kendall, mean};
use crate::search::strategy::genes::below;
use crate::space::Draw;

/// Below so many samples there are five folds, from them on ten.
const TEN_FOLDS_FROM: usize = 30;

/// How one surrogate did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Mean over the folds of Kendall's tau between predictions and targets.
    pub mean: f64,
    /// (Population) standard deviation of the same.
    pub deviation: f64,
}

impl Candidate {
    /// What the choice maximises.
    pub fn score(&self) -> f64 {
        self.mean - self.deviation
    }
}

/// What was chosen, and why.
pub struct Choice {
    /// The name of the winner.
    pub name: String,
    /// The winner, fitted to all samples.
    pub surrogate: Box<dyn Surrogate>,
    /// All candidates in the order of the pool.
    pub candidates: Vec<Candidate>,
    /// What went wrong on the way, for the user: folds or winners that could not be fitted.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Choice");
        out.field("name", &self.name).field("candidates", &self.candidates).field("notes", &self.notes);
        out.finish_non_exhaustive()
    }
}

/// Chooses from a pool of names and how to fit them.
///
/// The winner has the largest mean minus deviation of Kendall's tau over 10 folds (5 below 30 samples), the
/// earlier of equals. A fold counts 0 when its fit fails, or its tau is undefined because all predictions or
/// targets are equal. Should the winner fail on all samples, the next one takes its place.
///
/// # Errors
/// An empty pool, fewer than ten samples, bad samples, or every candidate failing on all of them.
pub fn choose(pool: &[(&str, &Fit)], x: &[Vec<f64>], y: &[f64], draw: &mut dyn Draw) -> Result<Choice> {
    let samples = Samples::new(Kind::Adaptive, x, y)?;
    let rows: Vec<Vec<f64>> = samples.x.iter().map(|row| row.to_vec()).collect();
    let folds = folds(rows.len(), draw);
    let mut notes = Vec::new();
    let candidates: Vec<Candidate> =
        pool.iter().map(|(name, fit)| validated(name, fit, &rows, &samples.y, &folds, &mut notes)).collect();
    let mut order: Vec<usize> = (0..pool.len()).collect();
    // Stable: of equals the earlier wins.
    order.sort_by(|a, b| candidates[*b].score().total_cmp(&candidates[*a].score()));
    for place in order {
        let (name, fit) = pool[place];
        match fit(&rows, &samples.y) {
            Ok(surrogate) => return Ok(Choice { name: name.into(), surrogate, candidates, notes }),
            // Who stops a search does not want the next surrogate.
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => notes.push(format!("{name} cannot be fitted to all {} samples: {error}", rows.len())),
        }
    }
    let why = if pool.is_empty() { "there is none to choose from".into() } else { notes.join("; ") };
    Err(Error::invalid("surrogate adaptive", why))
}

/// The fold of each sample: sizes differ by one at most.
fn folds(n: usize, draw: &mut dyn Draw) -> Vec<usize> {
    let count = if n < TEN_FOLDS_FROM { 5 } else { 10 };
    let mut folds: Vec<usize> = (0..n).map(|place| place % count).collect();
    for last in (1..n).rev() {
        folds.swap(last, below(draw, last as u32 + 1) as usize);
    }
    folds
}

/// Cross-validates one surrogate.
fn validated(
    name: &str,
    fit: &Fit,
    rows: &[Vec<f64>],
    y: &[f64],
    folds: &[usize],
    notes: &mut Vec<String>,
) -> Candidate {
    let count = folds.iter().max().map_or(0, |most| most + 1);
    let mut failures: Vec<String> = Vec::new();
    let taus: Vec<f64> = (0..count)
        .map(|fold| {
            tau(fit, rows, y, folds, fold).unwrap_or_else(|error| {
                failures.push(error.to_string());
                0.0
            })
        })
        .collect();
    if let Some(first) = failures.first() {
        notes.push(format!("{name} failed on {} of {count} folds, which count 0; the first: {first}", failures.len()));
    }
    let mean = mean(&taus).unwrap_or(0.0);
    let variance = taus.iter().map(|tau| (tau - mean) * (tau - mean)).sum::<f64>() / taus.len().max(1) as f64;
    Candidate { name: name.into(), mean, deviation: variance.sqrt() }
}

/// Kendall's tau on one fold of a fit to the others.
fn tau(fit: &Fit, rows: &[Vec<f64>], y: &[f64], folds: &[usize], fold: usize) -> Result<f64> {
    let part = |inside: bool| -> (Vec<Vec<f64>>, Vec<f64>) {
        let places = (0..rows.len()).filter(|place| (folds[*place] == fold) == inside);
        places.map(|place| (rows[place].clone(), y[place])).unzip()
    };
    let (train, targets) = part(false);
    let (test, expected) = part(true);
    let predicted = fit(&train, &targets)?.predict(&test);
    if predicted.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("prediction", "is not finite"));
    }
    Ok(kendall(&predicted, &expected)?.value.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::gp::Gp;
    use super::super::rbf::Rbf;
    use super::super::testing::{rows, target, targets};
    use super::super::trees::Trees;
    use super::*;
    use crate::philox::Stream;

    /// Predicts a function of the row.
    struct Known(fn(&[f64]) -> f64);

    impl Surrogate for Known {
        fn name(&self) -> &'static str {
            "known"
        }

        fn predict(&self, x: &[Vec<f64>]) -> Vec<f64> {
            x.iter().map(|row| (self.0)(row)).collect()
        }
    }

    fn known(f: fn(&[f64]) -> f64) -> impl Fn(&[Vec<f64>], &[f64]) -> Result<Box<dyn Surrogate>> {
        move |_, _| Ok(Box::new(Known(f)))
    }

    fn fails(_: &[Vec<f64>], _: &[f64]) -> Result<Box<dyn Surrogate>> {
        Err(Error::invalid("surrogate rbf", "the system is singular"))
    }

    fn chosen(pool: &[(&str, &Fit)], n: usize) -> Result<Choice> {
        let x = rows(n, 5, 1);
        choose(pool, &x, &targets(&x), &mut Stream::new(1, 0, 0))
    }

    #[test]
    fn the_best_ranking_wins_and_ties_go_to_the_earlier() {
        let (perfect, reversed) = (known(target), known(|row| -target(row)));
        let doubled = known(|row| 2.0 * target(row));
        let choice = chosen(&[("reversed", &reversed), ("a", &perfect), ("b", &doubled)], 60).unwrap();
        assert_eq!((choice.name.as_str(), choice.notes.len()), ("a", 0));
        let tau: Vec<f64> = choice.candidates.iter().map(|c| c.mean).collect();
        assert_eq!((tau[1], tau[2], choice.candidates[1].deviation), (1.0, 1.0, 0.0));
        assert_eq!(tau[0], -1.0);
    }

    #[test]
    fn an_even_performance_beats_an_uneven_one_of_equal_mean() {
        let (steady, shaky) = ([0.5, 0.5, 0.5], [0.9, 0.5, 0.1]);
        let of = |taus: [f64; 3]| {
            let variance = taus.iter().map(|t| (t - 0.5f64).powi(2)).sum::<f64>() / 3.0;
            Candidate { name: String::new(), mean: 0.5, deviation: variance.sqrt() }.score()
        };
        assert!(of(steady) > of(shaky));
    }

    #[test]
    fn folds_have_the_sizes_asked_for() {
        for (n, count) in [(10, 5), (29, 5), (30, 10), (104, 10)] {
            let folds = folds(n, &mut Stream::new(1, 0, 0));
            let sizes: Vec<usize> = (0..count).map(|fold| folds.iter().filter(|f| **f == fold).count()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), n);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    /// Each fit sees all but its fold, and the last one everything.
    #[test]
    fn nothing_learns_from_its_own_test() {
        let calls = Cell::new(0);
        let watched = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            calls.set(calls.get() + 1);
            assert_eq!((x.len(), y.len()), if calls.get() <= 5 { (16, 16) } else { (20, 20) });
            Ok(Box::new(Known(target)))
        };
        chosen(&[("watched", &watched)], 20).unwrap();
        assert_eq!(calls.get(), 6);
    }

    #[test]
    fn failures_count_zero_and_the_next_one_takes_over() {
        let constant = known(|_| 1.0);
        let choice = chosen(&[("rbf", &fails), ("constant", &constant)], 20).unwrap();
        // Both score 0: the earlier one wins, fails again and is replaced.
        assert_eq!(choice.name, "constant");
        assert_eq!(choice.notes.len(), 2, "{:?}", choice.notes);
        assert!(choice.notes[0].contains("rbf failed on 5 of 5 folds") && choice.notes[0].contains("singular"));
        assert!(choice.notes[1].contains("rbf cannot be fitted to all 20 samples"));
        let infinite = known(|_| f64::INFINITY);
        let choice = chosen(&[("infinite", &infinite), ("constant", &constant)], 20).unwrap();
        assert!(choice.notes[0].contains("prediction: is not finite"));
        let error = chosen(&[("rbf", &fails)], 20).unwrap_err().to_string();
        assert!(error.contains("cannot be fitted"), "{error}");
        let cancel = |_: &[Vec<f64>], _: &[f64]| -> Result<Box<dyn Surrogate>> { Err(Error::Cancelled) };
        assert!(matches!(chosen(&[("mlp", &cancel), ("constant", &constant)], 20), Err(Error::Cancelled)));
    }

    #[test]
    fn equal_targets_leave_the_first() {
        let (x, constant) = (rows(20, 5, 1), known(|_| 1.0));
        let good = known(target);
        let pool: [(&str, &Fit); 2] = [("constant", &constant), ("good", &good)];
        let choice = choose(&pool, &x, &[2.0; 20], &mut Stream::new(1, 0, 0)).unwrap();
        assert_eq!((choice.name.as_str(), choice.candidates[1].mean), ("constant", 0.0));
    }

    #[test]
    fn bad_input_is_refused() {
        let good = known(target);
        assert!(chosen(&[], 20).unwrap_err().to_string().contains("none to choose from"));
        assert!(chosen(&[("good", &good)], 9).unwrap_err().to_string().contains("needs at least 10"));
        let x = rows(20, 5, 1);
        let error = choose(&[("good", &good)], &x, &[f64::NAN; 20], &mut Stream::new(1, 0, 0)).unwrap_err();
        assert!(error.to_string().contains("there are 0"), "{error}");
    }

    #[test]
    fn the_whole_pool_is_deterministic_and_better_than_chance() {
        let rbf = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Rbf::fit(x, y)?)) };
        let gp = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> { Ok(Box::new(Gp::fit(x, y)?)) };
        let trees = |x: &[Vec<f64>], y: &[f64]| -> Result<Box<dyn Surrogate>> {
            Ok(Box::new(Trees::fit(x, y, 100, &mut Stream::new(7, 0, 0))?))
        };
        let pool: [(&str, &Fit); 3] = [("rbf", &rbf), ("gp", &gp), ("trees", &trees)];
        let (a, b) = (chosen(&pool, 60).unwrap(), chosen(&pool, 60).unwrap());
        assert_eq!((&a.name, &a.candidates), (&b.name, &b.candidates));
        let test = rows(30, 5, 2);
        assert_eq!(a.surrogate.predict(&test), b.surrogate.predict(&test));
        assert!(a.candidates.iter().all(|candidate| candidate.mean > 0.5), "{:?}", a.candidates);
        assert!(kendall(&a.surrogate.predict(&test), &targets(&test)).unwrap().value.unwrap() > 0.8);
    }
}
