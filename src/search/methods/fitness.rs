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

/// What a supernet's candidates are compared by: a measure, or the sum of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitness {
    name: &'static str,
    /// A measure, and its weight in a sum.
    first: (&'static str, f64),
    /// What is added, and its weight where none is given: the authors' 16 for flatness; for accuracy they give none.
    second: Option<(&'static str, f64)>,
}

impl Fitness {
    /// All: how much training turned the weights, right answers on validation images, the loss under weight noise, and sums of two.
    pub const ALL: [Fitness; 6] = {
        let (angle, flatness) = (("angle", 1.0 / PI), Some(("scaled_flatness", 16.0)));
        [
            Fitness { name: "angle", first: ("angle", 1.0), second: None },
            Fitness { name: "accuracy", first: ("accuracy", 1.0), second: None },
            Fitness { name: "flatness", first: ("flatness", 1.0), second: None },
            Fitness { name: "angle+flatness", first: angle, second: flatness },
            Fitness { name: "accuracy+flatness", first: ("accuracy", 1.0), second: flatness },
            Fitness { name: "angle+accuracy", first: angle, second: Some(("accuracy", 1.0)) },
        ]
    };

    /// Its name; that of an arm has `-` in place of `+`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The name of an arm.
    pub fn arm(self) -> String {
        self.name.replace('+', "-")
    }

    /// The one that an arm's name stands for.
    pub fn of_arm(name: &str) -> Option<Self> {
        Fitness::ALL.into_iter().find(|fitness| fitness.arm() == name)
    }

    /// What is maximised; `gamma` is the weight of the second measure.
    ///
    /// # Errors
    /// If there is a weight and no second measure, or it is no weight.
    pub fn objectives(self, gamma: Option<f64>) -> Result<ObjectivesConfig> {
        let Some((second, usual)) = self.second else {
            return match gamma {
                None => Ok(ObjectivesConfig::Single { maximize: self.first.0.to_owned() }),
                Some(_) => {
                    let why = format!("is the weight of the second measure of a sum; --fitness {} has one", self.name);
                    Err(Error::invalid("--gamma", why))
                }
            };
        };
        let gamma = gamma.unwrap_or(usual);
        if !gamma.is_finite() || gamma <= 0.0 {
            return Err(Error::invalid("--gamma", format!("is {gamma}, expected a number above 0")));
        }
        let weights = [self.first, (second, gamma)].map(|(name, weight)| (name.to_owned(), weight));
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
        let found = Fitness::ALL.into_iter().find(|fitness| fitness.name == text || fitness.arm() == text);
        found.ok_or_else(|| unknown("--fitness", text, &Fitness::ALL.map(Fitness::name)))
    }
}

#[cfg(test)]
#[path = "fitness_tests.rs"]
mod tests;
