use super::*;
use crate::search::objectives::Measures;

fn named(name: &str) -> Fitness {
    name.parse().unwrap()
}

/// The sums as the authors' `cand_evaluator.py` makes them, for a loss of 2 that noise of .001, .003, .006 raises to 2.2 and 2.8:
/// `16 F / s_1` is 6.95652 there (specified).
#[test]
fn sums_as_released() {
    let flatness = 4.347_826_068_052_9e-4;
    let measures = Measures::from(
        [("angle", 0.7), ("accuracy", 0.55), ("flatness", flatness), ("scaled_flatness", flatness / 0.001)]
            .map(|(name, value)| (name.to_owned(), value)),
    );
    let value = |text: &str, gamma| {
        let objectives = named(text).objectives(gamma).unwrap();
        -objectives.open(f64::INFINITY).first(&measures, 1.0)
    };
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-5, "{got} {want}");
    close(value("angle", None), 0.7);
    close(value("accuracy", None), 0.55);
    close(value("flatness", None), flatness);
    close(value("angle+flatness", None), 0.7 / PI + 6.95652);
    close(value("accuracy+flatness", Some(2.0)), 0.55 + 6.95652 / 8.0);
    close(value("angle+accuracy", Some(3.0)), 0.7 / PI + 1.65);
    close(value("angle-accuracy", None), 0.7 / PI + 0.55);
    let none = Measures::from([("accuracy".to_owned(), 0.5)]);
    let sum = named("angle+accuracy").objectives(None).unwrap();
    assert!(sum.open(50.0).first(&none, 1.0).is_nan(), "a part that was not measured");
    assert!(sum.open(50.0).is_barred(&none) && !sum.open(51.0).is_barred(&none), "has learned nothing");
}

#[test]
fn bad_input_is_refused() {
    let refused = |result: Result<ObjectivesConfig>, what: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    };
    refused(named("angle").objectives(Some(2.0)), "second measure");
    refused(named("angle+flatness").objectives(Some(0.0)), "above 0");
    refused(named("angle+flatness").objectives(Some(f64::NAN)), "above 0");
    refused("angel".parse::<Fitness>().and_then(|f| f.objectives(None)), "angle");
    for fitness in Fitness::ALL {
        let own = fitness.objectives(None).unwrap();
        assert_eq!(Fitness::of_arm(&fitness.arm()), Some(fitness));
        assert_eq!(Fitness::ALL.map(|other| other.has(&own)).iter().filter(|has| **has).count(), 1);
    }
}
