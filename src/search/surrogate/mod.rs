//! Surrogates: cheap models of an objective, learnt from the architectures that were evaluated.
//!
//! Those of MSuNAS (Lu et al., "NSGANetV2", ECCV 2020), which CNAS and FlatNAS use too. A row of inputs holds
//! the features of one architecture, usually its genes as numbers. An evaluation that failed has a target that
//! is not finite, and is left out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown};

pub mod adaptive;
pub mod gp;
pub mod mlp;
pub mod rbf;
pub mod trees;

/// A model that was fitted.
pub trait Surrogate {
    /// The name of its kind.
    fn name(&self) -> &'static str;
    /// One prediction for each row. NaN for a row of another length than those it was fitted to.
    fn predict(&self, x: &[Vec<f64>]) -> Vec<f64>;
}

/// Fits a model to rows of inputs and their targets.
pub type Fit<'a> = dyn Fn(&[Vec<f64>], &[f64]) -> Result<Box<dyn Surrogate>> + 'a;

/// Which surrogate a search uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// None: every candidate is evaluated.
    None,
    /// [`rbf`].
    Rbf,
    /// [`gp`].
    Gp,
    /// [`trees`].
    Trees,
    /// [`mlp`], which needs a device.
    Mlp,
    /// The one of the others that ranks best in cross-validation: [`adaptive`].
    #[default]
    Adaptive,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [Kind::None, Kind::Rbf, Kind::Gp, Kind::Trees, Kind::Mlp, Kind::Adaptive];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Rbf => "rbf",
            Kind::Gp => "gp",
            Kind::Trees => "trees",
            Kind::Mlp => "mlp",
            Kind::Adaptive => "adaptive",
        }
    }

    /// How many samples it needs at least when a row has this many features.
    pub fn needs(self, features: usize) -> usize {
        match self {
            Kind::None => 0,
            Kind::Rbf => features + 1,
            // One more than the trend has coefficients, to have something to estimate the variance from.
            Kind::Gp => features + 2,
            Kind::Trees => 2,
            Kind::Mlp => 4,
            // Two in each of five folds, as one alone has no rank.
            Kind::Adaptive => 10,
        }
    }

    /// Checks that there are enough samples.
    ///
    /// # Errors
    /// Says how many there are and how many it needs.
    pub fn check_samples(self, samples: usize, features: usize) -> Result<()> {
        let needed = self.needs(features);
        if samples < needed {
            let why =
                format!("needs at least {needed} evaluated samples with {features} features, there are {samples}");
            return Err(Error::invalid(format!("surrogate {self}"), why));
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| unknown("--surrogate", text, &Kind::ALL.map(Kind::name)))
    }
}

/// Samples that a model can learn from.
struct Samples<'a> {
    x: Vec<&'a [f64]>,
    y: Vec<f64>,
    features: usize,
}

impl<'a> Samples<'a> {
    /// Those with a finite target.
    ///
    /// # Errors
    /// As many rows as targets, all as long and finite, and at least as many with a finite target as `kind`
    /// needs: whatever of this is not so.
    fn new(kind: Kind, x: &'a [Vec<f64>], y: &[f64]) -> Result<Self> {
        let wrong = |why: String| Err(Error::invalid(format!("surrogate {kind}"), why));
        if x.len() != y.len() {
            return wrong(format!("{} rows and {} targets, expected as many", x.len(), y.len()));
        }
        let features = x.first().map_or(0, Vec::len);
        if let Some(row) = x.iter().position(|row| row.len() != features) {
            return wrong(format!("row {row} has {} features, the first one {features}", x[row].len()));
        }
        if let Some(row) = x.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            return wrong(format!("row {row} has a feature that is not finite"));
        }
        let finite = x.iter().zip(y).filter(|(_, y)| y.is_finite());
        let (x, y): (Vec<&[f64]>, Vec<f64>) = finite.map(|(x, y)| (x.as_slice(), *y)).unzip();
        kind.check_samples(y.len(), features)?;
        Ok(Samples { x, y, features })
    }

    /// The values of one feature.
    fn column(&self, feature: usize) -> Vec<f64> {
        self.x.iter().map(|row| row[feature]).collect()
    }
}

/// The columns that are no linear combination of those before them, to a part in 10^8 of their length.
/// Gram and Schmidt's method, done twice for accuracy.
fn independent(columns: &[Vec<f64>]) -> Vec<usize> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut kept = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let mut rest = column.clone();
        for unit in basis.iter().chain(&basis) {
            let part = dot(unit, &rest);
            rest.iter_mut().zip(unit).for_each(|(value, unit)| *value -= part * unit);
        }
        let length = dot(&rest, &rest).sqrt();
        if length > 1e-8 * dot(column, column).sqrt() {
            rest.iter_mut().for_each(|value| *value /= length);
            basis.push(rest);
            kept.push(place);
        }
    }
    kept
}

#[cfg(test)]
pub(crate) mod testing {
    //! Samples to learn from.

    use crate::philox::Stream;

    /// `n` rows of `features` genes from 0 to 2.
    pub(crate) fn rows(n: usize, features: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut draw = Stream::new(seed, 0, 0);
        (0..n).map(|_| (0..features).map(|_| draw.below(3) as f64).collect()).collect()
    }

    /// A target with a linear part, a curved one and an interaction.
    pub(crate) fn target(row: &[f64]) -> f64 {
        3.0 + row.iter().enumerate().map(|(i, v)| v / (1.0 + i as f64)).sum::<f64>() + 0.5 * row[0] * row[1]
            - 0.4 * (row[2] - 1.0) * (row[2] - 1.0)
    }

    /// The targets of rows.
    pub(crate) fn targets(rows: &[Vec<f64>]) -> Vec<f64> {
        rows.iter().map(|row| target(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("tree".parse::<Kind>().unwrap_err().to_string().contains("did you mean `trees`?"));
    }

    #[test]
    fn says_how_many_samples_are_missing() {
        let error = Kind::Gp.check_samples(7, 6).unwrap_err().to_string();
        assert_eq!(error, "surrogate gp: needs at least 8 evaluated samples with 6 features, there are 7");
        Kind::Rbf.check_samples(7, 6).unwrap();
        Kind::None.check_samples(0, 6).unwrap();
    }

    #[test]
    fn bad_samples_are_refused_and_failures_left_out() {
        let rows = vec![vec![0.0, 1.0], vec![1.0, 1.0], vec![2.0, 0.0]];
        let error = |x: &[Vec<f64>], y: &[f64]| Samples::new(Kind::Trees, x, y).map(|_| ()).unwrap_err().to_string();
        assert!(error(&rows, &[1.0]).contains("3 rows and 1 targets"));
        assert!(error(&[vec![0.0], vec![]], &[1.0, 1.0]).contains("row 1 has 0 features"));
        assert!(error(&[vec![0.0], vec![f64::NAN]], &[1.0, 1.0]).contains("row 1 has a feature"));
        assert!(error(&rows, &[1.0, f64::NAN, f64::INFINITY]).contains("there are 1"));
        let samples = Samples::new(Kind::Trees, &rows, &[1.0, f64::NAN, 5.0]).unwrap();
        assert_eq!((samples.y.as_slice(), samples.column(0).as_slice()), (&[1.0, 5.0][..], &[0.0, 2.0][..]));
    }

    #[test]
    fn finds_what_depends_on_earlier_columns() {
        let columns = [vec![1.0; 3], vec![0.0; 3], vec![1.0, 2.0, 3.0], vec![5.0, 3.0, 1.0], vec![0.0, 1.0, 0.0]];
        // The fourth is 7 - 2 times the third.
        assert_eq!(independent(&columns), [0, 2, 4]);
    }
}
