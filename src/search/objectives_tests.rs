use proptest::prelude::*;

use super::*;

/// Spec 7.8.
#[test]
fn first_objective_as_specified() {
    assert!((first(0.5, 1.0, 9.34, 2.11) - 5.725).abs() < 1e-12);
    assert_eq!(first(1.0, 3.0, 9.34, 2.11), 9.34);
    assert_eq!(first(1.0, 3.0, 9.34, f64::NAN), 9.34);
    assert_eq!(first(0.0, 3.0, f64::NAN, 2.0), 6.0);
    assert!(first(0.5, 1.0, f64::NAN, 2.0).is_nan());
}

/// Spec 7.10.
#[test]
fn penalty_as_released() {
    assert_eq!(penalised(4.34, 5.0, RELEASED_PENALTY), 4.34);
    let over = penalised(5.63, 5.0, RELEASED_PENALTY);
    assert!((over - (6.3e9 + 5.63)).abs() < 1e-3, "{over}");
}

#[test]
fn no_noise_and_no_candidates() {
    assert_eq!(alpha_norm(&[10.0, 20.0], &[0.0, 0.0]), 1.0);
    assert_eq!(alpha_norm(&[0.0], &[2.0]), 1.0);
    assert_eq!(alpha_norm(&[], &[]), 1.0);
    // A failure is left out in both.
    assert_eq!(alpha_norm(&[10.0, f64::NAN, 90.0, 30.0], &[2.0, 9.0, f64::INFINITY, 6.0]), 5.0);
    assert_eq!(alpha_norm(&[10.0, f64::NAN, 30.0], &[2.0, 9.0, 6.0]), 5.0);
}

#[test]
fn constant_answers() {
    let labels: Vec<usize> = (0..100).map(|i| i % 10).collect();
    assert!((constant_error(&labels) - 81.0).abs() < 1e-9);
    assert_eq!(constant_error(&[3; 20]), 0.0);
    assert!((constant_error(&[0, 0, 0, 1]) - (25.0 - 300.0 * (0.1875f64 / 4.0).sqrt())).abs() < 1e-9);
}

#[test]
fn bad_input_is_refused() {
    for alpha in [-0.1, 1.1, f64::NAN] {
        assert!(check_alpha(alpha).unwrap_err().to_string().contains("expected 0"));
    }
}

#[test]
fn violations_are_parts_of_the_limit() {
    assert_eq!((violation(6.0, Some(5.0)), violation(5.0, Some(5.0)), violation(9.0, None)), (0.2, 0.0, 0.0));
    assert_eq!(violation(2.0, Some(0.0)), 2.0);
    assert!(violation(f64::INFINITY, Some(1.0)).is_infinite() && violation(f64::NAN, Some(1.0)).is_nan());
}

proptest! {
    /// Spec 7.8: the scale of R does not matter, and the mean of the objective is that of E for any alpha.
    #[test]
    fn scale_of_robustness_does_not_matter(
        pairs in prop::collection::vec((0.1f64..90.0, 0.01f64..30.0), 1..30),
        alpha in 0.0f64..=1.0,
        factor in 0.01f64..100.0,
    ) {
        let (errors, robustness): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let scaled: Vec<f64> = robustness.iter().map(|r| r * factor).collect();
        let rescored = |robustness: &[f64]| {
            let norm = alpha_norm(&errors, robustness);
            (norm, errors.iter().zip(robustness).map(|(e, r)| first(alpha, norm, *e, *r)).collect::<Vec<f64>>())
        };
        let ((norm, values), (_, again)) = (rescored(&robustness), rescored(&scaled));
        for (a, b) in values.iter().zip(&again) {
            prop_assert!((a - b).abs() <= 1e-9 * a.abs());
        }
        let n = errors.len() as f64;
        let mean_error = errors.iter().sum::<f64>() / n;
        prop_assert!((robustness.iter().sum::<f64>() / n * norm - mean_error).abs() < 1e-9 * mean_error);
        prop_assert!((values.iter().sum::<f64>() / n - mean_error).abs() < 1e-9 * mean_error);
    }
}
