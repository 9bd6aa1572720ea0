use proptest::prelude::*;

use super::*;

#[track_caller]
fn close(got: Option<f64>, expected: f64) {
    assert!((got.unwrap() - expected).abs() < 1e-10, "{got:?} instead of {expected}");
}

/// Ranks by counting.
fn slow_ranks(values: &[f64]) -> Vec<f64> {
    let count = |test: &dyn Fn(f64) -> bool| values.iter().filter(|v| test(**v)).count() as f64;
    values.iter().map(|v| count(&|w| w < *v) + (count(&|w| w == *v) + 1.0) / 2.0).collect()
}

fn slow_pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(a, b)| f(a - mx, b - my)).sum::<f64>();
    let scale = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    (scale > 1e-9).then(|| sum(&|a, b| a * b) / scale)
}

fn slow_spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    slow_pearson(&slow_ranks(x), &slow_ranks(y))
}

fn slow_kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    let sign = |a: f64, b: f64| f64::from(u8::from(a > b)) - f64::from(u8::from(a < b));
    let (mut score, mut in_x, mut in_y) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (sign(x[i], x[j]), sign(y[i], y[j]));
            score += a * b;
            in_x += a * a;
            in_y += b * b;
        }
    }
    (in_x * in_y > 0.0).then(|| score / f64::sqrt(in_x * in_y))
}

/// The mean over all ways to choose `k` that a wish to have the highest scores allows.
fn slow_regret(scores: &[f64], truth: &[f64], k: usize) -> f64 {
    let best = |set: u32| (0..scores.len()).filter(|i| set >> i & 1 == 1).map(|i| truth[i]).fold(f64::MIN, f64::max);
    let n = scores.len();
    let (mut sum, mut ways) = (0.0, 0.0);
    for set in 0u32..1 << n {
        let outside = (0..n).filter(|i| set >> i & 1 == 0);
        let highest_outside = outside.map(|i| scores[i]).fold(f64::NEG_INFINITY, f64::max);
        let fits = (0..n).filter(|i| set >> i & 1 == 1).all(|i| scores[i] >= highest_outside);
        if set.count_ones() as usize == k && fits {
            sum += best((1 << n) - 1) - best(set);
            ways += 1.0;
        }
    }
    sum / ways
}

fn columns(points: &[(u8, u8, u8, u8)]) -> [Vec<f64>; 4] {
    let [mut x, mut y, mut a, mut b] = [const { vec![] }; 4];
    for point in points {
        x.push(f64::from(point.0));
        y.push(f64::from(point.1));
        a.push(f64::from(point.2));
        b.push(f64::from(point.3));
    }
    [x, y, a, b]
}

/// Of samples of one distribution, taus scatter as the error of each says.
#[test]
fn taus_scatter_as_their_error_says() {
    let mut draw = Stream::new(5, 1, 2);
    let mut sample = || {
        let x: Vec<f64> = (0..80).map(|_| draw.normal()).collect();
        let y: Vec<f64> = x.iter().map(|x| x + draw.normal()).collect();
        let figures = figures(&x, &y, &[]).unwrap();
        (figures.kendall.unwrap(), figures.kendall_error.unwrap())
    };
    let samples: Vec<(f64, f64)> = (0..300).map(|_| sample()).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / samples.len() as f64;
    let middle = mean(&mut samples.iter().map(|s| s.0));
    let scatter = mean(&mut samples.iter().map(|s| (s.0 - middle).powi(2))).sqrt();
    let told = mean(&mut samples.iter().map(|s| s.1));
    assert!((told / scatter - 1.0).abs() < 0.15, "{told} {scatter}");
}

proptest! {
    #[test]
    fn figures_are_what_brute_force_gives(points in prop::collection::vec((0u8..7, 0u8..9, 0u8..4, 0u8..5), 3..12)) {
        let [mut x, y, _, _] = columns(&points);
        // Sixes stand for failures.
        for (value, bad) in x.iter_mut().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().cycle()) {
            *value = if *value == 6.0 { bad } else { *value };
        }
        let plain: Vec<f64> = x.iter().map(|v| if v.is_finite() { *v } else { -1.0 }).collect();
        let got = figures(&x, &y, &[]).unwrap();
        let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-10,
            (a, b) => a == b,
        };
        prop_assert!(same(got.spearman, slow_spearman(&plain, &y)));
        prop_assert!(same(got.kendall, slow_kendall(&plain, &y)));
        let without = |i: usize| {
            let rest = |values: &[f64]| [&values[..i], &values[i + 1..]].concat();
            slow_kendall(&rest(&plain), &rest(&y))
        };
        let n = y.len() as f64;
        let error = (0..y.len()).map(without).collect::<Option<Vec<f64>>>().map(|values| {
            let middle = values.iter().sum::<f64>() / n;
            (values.iter().map(|v| (v - middle).powi(2)).sum::<f64>() * (n - 1.0) / n).sqrt()
        });
        prop_assert!(same(got.kendall_error, error));
        prop_assert!(same(got.partial, got.spearman));
        prop_assert_eq!(got.invalid, plain.iter().filter(|v| **v < 0.0).count());
        for k in 1..=y.len() {
            prop_assert!((regret(&worst_last(&x).0, &y, k).unwrap() - slow_regret(&plain, &y, k)).abs() < 1e-10);
        }
    }

    /// With two controls the recursion over first-order partial correlations gives the same.
    #[test]
    fn partial_is_the_textbook_recursion(points in prop::collection::vec((0u8..9, 0u8..9, 0u8..9, 0u8..9), 5..30)) {
        let [x, y, a, b] = columns(&points);
        let rho = |p: &[f64], q: &[f64]| slow_spearman(p, q).filter(|r| r.abs() < 0.999);
        let first = |p: &[f64], q: &[f64]| {
            let (pq, pa, qa) = (rho(p, q)?, rho(p, &a)?, rho(q, &a)?);
            Some((pq - pa * qa) / ((1.0 - pa * pa) * (1.0 - qa * qa)).sqrt()).filter(|r| r.abs() < 0.999)
        };
        if let (Some(xy), Some(xb), Some(yb)) = (first(&x, &y), first(&x, &b), first(&y, &b)) {
            let expected = (xy - xb * yb) / ((1.0 - xb * xb) * (1.0 - yb * yb)).sqrt();
            let got = partial(&x, &y, &[a.clone(), b.clone()]).unwrap();
            prop_assert!((got.unwrap() - expected).abs() < 1e-8, "{got:?} {expected}");
            // Constants and copies add nothing.
            let more = [a.clone(), vec![1.0; x.len()], b.clone(), a.iter().map(|v| 3.0 * v - 1.0).collect(), b.clone()];
            prop_assert!((partial(&x, &y, &more).unwrap().unwrap() - expected).abs() < 1e-8);
            prop_assert_eq!(partial(&a, &y, &[a.clone(), b.clone()]).unwrap(), None);
        }
    }

    /// Percentiles over resamples that are written out and ranked.
    #[test]
    fn the_bootstrap_is_what_writing_out_gives(points in prop::collection::vec((0u8..5, 0u8..9, 0u8..9, 0u8..1), 8..20)) {
        let [x, y, base, _] = columns(&points);
        let n = x.len();
        let mut differences = vec![];
        for number in 0..60 {
            let mut draw = Stream::new(3, RESAMPLE_PURPOSE, number);
            let chosen: Vec<usize> = (0..n).map(|_| draw.below(n as u64) as usize).collect();
            let pick = |v: &[f64]| chosen.iter().map(|i| v[*i]).collect::<Vec<_>>();
            let (x, y, base) = (pick(&x), pick(&y), pick(&base));
            differences.extend(slow_spearman(&x, &y).zip(slow_spearman(&base, &y)).map(|(a, b)| a - b));
        }
        let got = bootstrap(&[x, base.clone()], &base, &y, 60, 3).unwrap();
        if differences.len() == 60 {
            let (low, high) = got[0].unwrap();
            prop_assert!((low - quantile(&differences, 0.025).unwrap()).abs() < 1e-10);
            prop_assert!((high - quantile(&differences, 0.975).unwrap()).abs() < 1e-10);
            prop_assert_eq!(got[1], Some((0.0, 0.0)));
        }
    }
}

#[test]
fn by_hand() {
    let truth = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
    // The best three (of eleven) are 9, 10, 11; the scores turn their order around.
    let mut scores = truth;
    scores[8..].reverse();
    let got = figures(&scores, &truth, &[truth.to_vec()]).unwrap();
    close(got.top, -1.0);
    assert_eq!((got.partial, got.n, got.invalid), (None, 11, 0));
    assert_eq!(got.regret, BTreeMap::from([(1, 2.0), (10, 0.0)]));
    // All equal: any one may be chosen, 5 on average.
    assert_eq!(regret(&[7.0; 11], &truth, 1), Some(5.0));
    // One sure (truth 2), one of three others (truths 1, 5, 6): 6 - mean(2, 5, 6).
    close(regret(&[9.0, 3.0, 3.0, 3.0, 1.0], &[2.0, 1.0, 5.0, 6.0, 0.0], 2), 6.0 - 13.0 / 3.0);
    assert_eq!((regret(&scores, &truth, 0), regret(&scores, &truth, 12)), (None, None));
    let constant = figures(&[f64::NAN; 4], &[1.0, 2.0, 3.0, 4.0], &[]).unwrap();
    assert_eq!((constant.spearman, constant.kendall, constant.invalid), (None, None, 4));
    assert!(figures(&[1.0], &[], &[]).is_err() && partial(&[1.0], &[1.0], &[vec![]]).is_err());
    assert_eq!(figures(&[], &[], &[]).unwrap().regret.len(), 0);
}

#[test]
fn intervals_depend_on_the_seed_and_not_on_threads() {
    let draw = |purpose| (0..300).map(|i| Stream::new(1, purpose, i).uniform()).collect::<Vec<_>>();
    let (truth, noise) = (draw(1), draw(2));
    let score: Vec<f64> = truth.iter().zip(&noise).map(|(t, n)| t + 0.5 * n).collect();
    let with = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap(&[score.clone(), noise.clone()], &noise, &truth, 300, seed).unwrap())
    };
    assert_eq!(with(1, 5), with(4, 5));
    assert_ne!(with(1, 5), with(1, 6));
    let (low, high) = with(2, 5)[0].unwrap();
    let difference = slow_spearman(&score, &truth).unwrap() - slow_spearman(&noise, &truth).unwrap();
    assert!(0.0 < low && low < difference && difference < high, "{low} {difference} {high}");
    assert_eq!(bootstrap(&[vec![2.0; 300]], &noise, &truth, 50, 1).unwrap(), [None]);
    assert_eq!(bootstrap(std::slice::from_ref(&score), &noise, &truth, 0, 1).unwrap(), [None]);
    assert_eq!(bootstrap(&[vec![]], &[], &[], 9, 1).unwrap(), [None]);
}

#[test]
fn random_scores_belong_to_architectures() {
    assert_eq!(random_score(1, 7), random_score(1, 7));
    assert!(random_score(1, 7) != random_score(1, 8) && random_score(1, 7) != random_score(2, 7));
}
