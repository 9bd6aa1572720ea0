//! GeNAS's fitness functions (Jeong et al. 2023, section 3.3; `--metric` of the released search): angle, accuracy and flatness with a
//! supernet's weights, alone or two of them in a sum.
//!
//! | fitness | sum |
//! |---|---|
//! | `angle`, `accuracy`, `flatness` | the measure itself |
//! | `angle+flatness` | `theta / pi + gamma F / s_1` |
//! | `accuracy+flatness` | `accuracy + gamma F / s_1` |
//! | `angle+accuracy` | `theta / pi + gamma accuracy` |
//!
//! `s_1` is the least deviation of the noise: by it flatness is about the inverse of a loss, whatever the deviations.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use crate::error::{Error, Result, unknown};
use crate::search::objectives::ObjectivesConfig;

/// What a supernet's candidates are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// By how much training turned their weights.
    Angle,
    /// On validation images.
    Accuracy,
    /// Under weight noise.
    Flatness,
    /// Their sum, flatness with the weight gamma.
    AngleAndFlatness,
    /// The same with accuracy in place of angle.
    AccuracyAndFlatness,
    /// Their sum, accuracy with the weight gamma.
    AngleAndAccuracy,
}

impl Fitness {
    /// All.
    pub const ALL: [Fitness; 6] = [
        Fitness::Angle,
        Fitness::Accuracy,
        Fitness::Flatness,
        Fitness::AngleAndFlatness,
        Fitness::AccuracyAndFlatness,
        Fitness::AngleAndAccuracy,
    ];

    /// Its name; that of an arm has `-` in place of `+`.
    pub fn name(self) -> &'static str {
        match self {
            Fitness::Angle => "angle",
            Fitness::Accuracy => "accuracy",
            Fitness::Flatness => "flatness",
            Fitness::AngleAndFlatness => "angle+flatness",
            Fitness::AccuracyAndFlatness => "accuracy+flatness",
            Fitness::AngleAndAccuracy => "angle+accuracy",
        }
    }

    /// The name of an arm.
    pub fn arm(self) -> String {
        self.name().replace('+', "-")
    }

    /// The one that an arm's name stands for.
    pub fn of_arm(name: &str) -> Option<Self> {
        Fitness::ALL.into_iter().find(|fitness| fitness.arm() == name)
    }

    /// The weight of the second measure in a sum, where none is given: the authors' 16 for flatness; of accuracy they give none.
    fn usual_gamma(self) -> Option<f64> {
        match self {
            Fitness::AngleAndFlatness | Fitness::AccuracyAndFlatness => Some(16.0),
            Fitness::AngleAndAccuracy => Some(1.0),
            _ => None,
        }
    }

    /// What is maximised; `gamma` is the weight of the second measure.
    ///
    /// # Errors
    /// If there is a weight and no second measure, or it is no weight.
    pub fn objectives(self, gamma: Option<f64>) -> Result<ObjectivesConfig> {
        let single = |name: &str| ObjectivesConfig::Single { maximize: name.to_owned() };
        let (first, second) = match self {
            Fitness::AngleAndFlatness => (("angle", 1.0 / PI), "scaled_flatness"),
            Fitness::AccuracyAndFlatness => (("accuracy", 1.0), "scaled_flatness"),
            Fitness::AngleAndAccuracy => (("angle", 1.0 / PI), "accuracy"),
            alone if gamma.is_none() => return Ok(single(alone.name())),
            alone => {
                let why = format!("is the weight of the second measure of a sum; --fitness {} has one", alone.name());
                return Err(Error::invalid("--gamma", why));
            }
        };
        let gamma = gamma.or(self.usual_gamma()).unwrap_or(1.0);
        if !gamma.is_finite() || gamma <= 0.0 {
            return Err(Error::invalid("--gamma", format!("is {gamma}, expected a number above 0")));
        }
        let weights = [first, (second, gamma)].map(|(name, weight)| (name.to_owned(), weight));
        Ok(ObjectivesConfig::Weighted { weights: BTreeMap::from(weights) })
    }

    /// Whether objectives are this one's, with any weights.
    pub(super) fn has(self, objectives: &ObjectivesConfig) -> bool {
        self.objectives(None).is_ok_and(|own| own.measures() == objectives.measures())
    }
}

impl std::str::FromStr for Fitness {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Fitness::ALL.into_iter().find(|fitness| fitness.name() == text || fitness.arm() == text);
        found.ok_or_else(|| unknown("--fitness", text, &Fitness::ALL.map(Fitness::name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::objectives::Measures;

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
            let objectives = text.parse::<Fitness>().unwrap().objectives(gamma).unwrap();
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
        let sum = Fitness::AngleAndAccuracy.objectives(None).unwrap();
        assert!(sum.open(50.0).first(&none, 1.0).is_nan(), "a part that was not measured");
        assert!(sum.open(50.0).is_barred(&none) && !sum.open(51.0).is_barred(&none), "has learned nothing");
    }

    #[test]
    fn bad_input_is_refused() {
        let refused = |result: Result<ObjectivesConfig>, what: &str| {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(what), "{text}");
        };
        refused(Fitness::Angle.objectives(Some(2.0)), "second measure");
        refused(Fitness::AngleAndFlatness.objectives(Some(0.0)), "above 0");
        refused(Fitness::AngleAndFlatness.objectives(Some(f64::NAN)), "above 0");
        refused("angel".parse::<Fitness>().and_then(|f| f.objectives(None)), "angle");
        for fitness in Fitness::ALL {
            let own = fitness.objectives(None).unwrap();
            assert_eq!(Fitness::of_arm(&fitness.arm()), Some(fitness));
            assert_eq!(Fitness::ALL.map(|other| other.has(&own)).iter().filter(|has| **has).count(), 1);
        }
    }
}
