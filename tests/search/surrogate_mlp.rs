//! The surrogate that learns on the device.

use crate::common::{gpu, preset};
use altiplano::philox::Stream;
use altiplano::report::statistics::kendall;
use altiplano::search::surrogate::Surrogate;
use altiplano::search::surrogate::mlp::Mlp;

/// `n` rows of five genes from 0 to 2.
fn rows(n: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut draw = Stream::new(seed, 0, 0);
    (0..n).map(|_| (0..5).map(|_| draw.below(3) as f64).collect()).collect()
}

/// A linear part, a curved one and an interaction, far from mean 0 and deviation 1.
fn targets(rows: &[Vec<f64>]) -> Vec<f64> {
    let one = |row: &Vec<f64>| {
        let line: f64 = row.iter().enumerate().map(|(i, v)| v / (1.0 + i as f64)).sum();
        900.0 + 40.0 * (line + 0.5 * row[0] * row[1] - 0.4 * (row[2] - 1.0).powi(2))
    };
    rows.iter().map(one).collect()
}

fn fit(x: &[Vec<f64>], y: &[f64], seed: u64) -> altiplano::Result<Mlp> {
    Mlp::fit(gpu(), preset(), x, y, seed)
}

fn why(x: &[Vec<f64>], y: &[f64]) -> String {
    fit(x, y, 1).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn learns_a_smooth_function() {
    let (x, test) = (rows(100, 1), rows(300, 2));
    let fitted = fit(&x, &targets(&x), 1).unwrap();
    // More rows than one pass takes, the last one not full.
    let (predicted, wanted) = (fitted.predict(&test), targets(&test));
    assert!(predicted.len() == 300 && predicted.iter().all(|value| value.is_finite()));
    let tau = kendall(&predicted, &wanted).unwrap().value.unwrap();
    assert!(tau > 0.8, "{tau}");
    // In the targets' own units.
    let error = predicted.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).sum::<f64>() / 300.0;
    assert!(error < 12.0, "{error}");
    // A row's prediction does not depend on the rows beside it.
    for place in [0, 127, 128, 299] {
        assert_eq!(fitted.predict(&test[place..=place]), [predicted[place]]);
    }
    assert!(fitted.predict(&[]).is_empty());
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let (x, test) = (rows(40, 1), rows(50, 2));
    let y = targets(&x);
    let bits = |seed| fit(&x, &y, seed).unwrap().predict(&test).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(3), bits(3));
    assert_ne!(bits(3), bits(4));
}

#[test]
fn failures_and_constant_features_are_left_out() {
    let (mut x, test) = (rows(40, 1), rows(10, 2));
    let mut y = targets(&x);
    let plain = fit(&x, &y, 1).unwrap().predict(&test);
    x.push(vec![2.0; 5]);
    y.push(f64::NAN);
    x.iter_mut().for_each(|row| row.insert(2, 7.0));
    let fitted = fit(&x, &y, 1).unwrap();
    let mut wide = test.clone();
    wide.iter_mut().for_each(|row| row.insert(2, 9.0));
    assert_eq!(fitted.predict(&wide), plain);
    let odd = fitted.predict(&[vec![1.0; 5], wide[0].clone(), vec![f64::NAN; 6]]);
    assert!(odd[0].is_nan() && odd[1] == plain[0] && odd[2].is_nan());
}

#[test]
fn equal_targets_are_predicted_as_they_are() {
    let x = rows(10, 1);
    assert_eq!(fit(&x, &[5.5; 10], 1).unwrap().predict(&rows(3, 2)), [5.5; 3]);
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let x = rows(10, 1);
    let y = targets(&x);
    assert!(why(&x[..3], &y[..3]).contains("needs at least 4"));
    assert!(why(&x, &[f64::NAN; 10]).contains("there are 0"));
    assert!(why(&vec![vec![1.0; 5]; 10], &y).contains("the same features"));
    assert!(why(&vec![vec![]; 10], &y).contains("the same features"));
    let large: Vec<Vec<f64>> = x.iter().map(|row| row.iter().map(|v| v * 1e300).collect()).collect();
    assert!(why(&large, &y).contains("too large"));
    let large: Vec<f64> = y.iter().map(|v| v * 1e300).collect();
    assert!(why(&x, &large).contains("too large"));
}
