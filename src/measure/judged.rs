//! What was found of networks that were trained beside each other, over several seeds, and the table of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judge::Tested;
use super::trial::Contestant;
use crate::corrupt::{Kind, Severity};
use crate::report::number;
use crate::report::statistics::{mean, std};
use crate::report::table::Table;
use crate::train::step::Optimizer;
use crate::train::trainer::Progress;

/// Mean and sample deviation over seeds; the deviation of one seed is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    #[serde(deserialize_with = "number::one")]
    pub mean: f64,
    /// Deviation.
    pub deviation: Option<f64>,
    /// Standard error of the mean: over seeds, or with one seed, for errors, that of so many images by the binomial distribution.
    pub standard_error: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let deviation = std(values).filter(|_| values.len() > 1);
        let standard_error = deviation.map(|deviation| deviation / (values.len() as f64).sqrt());
        Spread { mean: mean(values).unwrap_or(f64::NAN), deviation, standard_error }
    }

    /// Of errors in percent points on so many images.
    fn of_errors(values: &[f64], images: usize) -> Self {
        let spread = Spread::of(values);
        let share = spread.mean / 100.0;
        let binomial = 100.0 * (share * (1.0 - share) / images.max(1) as f64).sqrt();
        Spread { standard_error: spread.standard_error.or(Some(binomial)), ..spread }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.deviation {
            Some(deviation) => write!(f, "{:.2} ± {deviation:.2}", self.mean),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

/// What a network is worth while its weights are disturbed: means over draws and seeds, on the judged images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderNoise {
    /// Deviation of the noise, as a part of each weight.
    pub sigma: f64,
    /// Mean cross-entropy.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// Error in percent points.
    pub error: f64,
}

/// What was found of one contestant; errors and `R` in percent points.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// What it is in the comparison.
    pub role: String,
    /// Its architecture.
    pub arch: String,
    /// What trained it.
    pub optimizer: Optimizer,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-adds for one image.
    pub macs: u64,
    /// Milliseconds for one image on the adapter at hand, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Seeds.
    pub seeds: usize,
    /// Test images, all of them.
    pub test_images: usize,
    /// Error on all of them.
    pub clean_error: Spread,
    /// How many of them, the first ones, all that follows was measured on.
    pub judged_images: usize,
    /// Error on these without corruption: what corrupted errors are to be compared with.
    pub uncorrupted_error: Spread,
    /// Mean change of accuracy under weight noise.
    pub robustness: Spread,
    /// Mean error over the 15 main corruptions at each severity; empty for images that cannot be corrupted.
    pub corrupted_error: Vec<Spread>,
    /// Mean over severities.
    pub mean_corrupted_error: Option<Spread>,
    /// The same two of images that were made larger, to what the network sees, before they were corrupted: the protocol of FlatNAS's authors; not
    /// comparable to published figures of corrupted sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resized_first_error: Vec<Spread>,
    /// Mean over severities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_resized_first_error: Option<Spread>,
    /// Error under each of the 15 corruptions, made at the images' own size, at each severity; means over seeds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_corruption: BTreeMap<String, Vec<f64>>,
    /// Loss and error at several deviations of weight noise, ascending from none; that of the robustness is among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_noise: Vec<UnderNoise>,
    /// Mean error on training images kept back, under corruptions that are not among those 15; where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_error: Option<Spread>,
    /// Whether this is the network that is kept: of least error on these images, or the largest if that errs no more than a standard
    /// error above it; without such images the first.
    #[serde(default)]
    pub kept: bool,
    /// Error under each attack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attacked_error: BTreeMap<String, Spread>,
    /// Training of the first seed, epoch by epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Progress>,
}

impl Judged {
    /// Of a contestant as it was tested with each seed; `validation` are its errors on so many images kept back, if there are any, and
    /// `curve` is the training of its first seed.
    pub(super) fn of(
        contestant: &Contestant,
        test_images: usize,
        tested: &[Tested],
        (validation, kept_back): (&[f64], usize),
        curve: &[Progress],
    ) -> Self {
        let values = |value: &dyn Fn(&Tested) -> f64| tested.iter().map(value).collect::<Vec<_>>();
        let images = tested.first().map_or(0, |tested| tested.images);
        let column = |value: &dyn Fn(&Tested) -> f64| Spread::of_errors(&values(value), images);
        let by_severity = |accuracies: fn(&Tested) -> &[f64]| {
            let count = tested.first().map_or(0, |tested| accuracies(tested).len());
            let all = (0..count).map(|s| column(&|t| error(accuracies(t)[s]))).collect::<Vec<_>>();
            let mean = (count > 0).then(|| column(&|t| mean(accuracies(t)).map_or(f64::NAN, error)));
            (all, mean)
        };
        let (corrupted_error, mean_corrupted_error) = by_severity(|tested| &tested.corrupted);
        let (resized_first_error, mean_resized_first_error) = by_severity(|tested| &tested.resized_first);
        let attacks = tested.first().map_or(0, |tested| tested.attacks.len());
        let attacked = |i: usize| (tested[0].attacks[i].0.to_string(), column(&|t| error(t.attacks[i].1.accuracy)));
        Judged {
            role: contestant.role.clone(),
            arch: contestant.arch.clone(),
            optimizer: contestant.optimizer,
            params: contestant.params,
            macs: contestant.macs,
            latency: contestant.latency,
            seeds: tested.len(),
            test_images,
            clean_error: Spread::of_errors(&values(&|t| error(t.clean.accuracy)), test_images),
            judged_images: images,
            uncorrupted_error: column(&|t| error(t.uncorrupted.accuracy)),
            robustness: Spread::of(&values(&|t| t.robustness.unwrap_or(f64::NAN))),
            corrupted_error,
            mean_corrupted_error,
            by_corruption: by_corruption(tested),
            under_noise: under_noise(tested),
            resized_first_error,
            mean_resized_first_error,
            validation_error: (!validation.is_empty()).then(|| Spread::of_errors(validation, kept_back)),
            kept: false,
            attacked_error: (0..attacks).map(attacked).collect(),
            curve: curve.to_vec(),
        }
    }
}

fn error(accuracy: f64) -> f64 {
    100.0 * (1.0 - accuracy)
}

/// Mean over seeds.
fn over_seeds(tested: &[Tested], value: &dyn Fn(&Tested) -> f64) -> f64 {
    mean(&tested.iter().map(value).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

/// Errors by kind of corruption, at each severity.
fn by_corruption(tested: &[Tested]) -> BTreeMap<String, Vec<f64>> {
    let kinds = tested.first().into_iter().flat_map(|first| first.by_corruption.iter().enumerate());
    let of_kind = |(place, (kind, levels)): (usize, &(Kind, Vec<f64>))| {
        let at = |level: usize| over_seeds(tested, &|own| error(own.by_corruption[place].1[level]));
        (kind.to_string(), (0..levels.len()).map(at).collect())
    };
    kinds.map(of_kind).collect()
}

/// Loss and error by deviation of the noise.
fn under_noise(tested: &[Tested]) -> Vec<UnderNoise> {
    let levels = tested.first().into_iter().flat_map(|first| first.under_noise.iter().enumerate());
    let at = |(level, (sigma, _)): (usize, &(f64, _))| UnderNoise {
        sigma: *sigma,
        loss: over_seeds(tested, &|own| own.under_noise[level].1.loss),
        error: over_seeds(tested, &|own| error(own.under_noise[level].1.accuracy)),
    };
    levels.map(at).collect()
}

/// The comparison as a table: errors and `R` in percent points. What was measured on the first test images alone says so in
/// its column's name.
pub fn table(title: &str, judged: &[Judged]) -> Table {
    let images = judged.first().map_or((0, 0), |j| (j.test_images, j.judged_images));
    let first = if images.0 == images.1 { String::new() } else { format!(" (first {})", images.1) };
    let mut header: Vec<String> = ["network", "optimizer", "parameters", "MACs"].map(str::to_owned).to_vec();
    let is_timed = judged.iter().any(|j| j.latency.is_some());
    header.extend(is_timed.then(|| "latency (ms)".to_owned()));
    header.push("clean error".to_owned());
    header.extend((!first.is_empty()).then(|| format!("clean error{first}")));
    header.push(format!("R{first}"));
    let severities = judged.iter().map(|j| j.corrupted_error.len()).max().unwrap_or(0);
    header.extend(Severity::ALL[..severities].iter().map(|severity| format!("severity {}", severity.get())));
    // With two protocols each has its name.
    let both = judged.iter().any(|j| j.mean_resized_first_error.is_some());
    let protocol = if both { ", official" } else { "" };
    header.extend((severities > 0).then(|| format!("corrupted error{protocol}{first}")));
    header.extend(both.then(|| format!("corrupted error, resize first{first}")));
    let attacks = judged.first().into_iter().flat_map(|judged| judged.attacked_error.keys());
    header.extend(attacks.map(|attack| format!("error under {attack}")));
    let is_chosen = judged.iter().any(|j| j.validation_error.is_some());
    header.extend(is_chosen.then(|| "error on images kept back".to_owned()));
    header.push("architecture".into());
    let row = |j: &Judged| {
        let mut row = vec![j.role.clone(), j.optimizer.to_string(), j.params.to_string(), j.macs.to_string()];
        row.extend(is_timed.then(|| j.latency.map_or_else(String::new, |ms| format!("{ms:.3}"))));
        row.push(j.clean_error.to_string());
        row.extend((!first.is_empty()).then(|| j.uncorrupted_error.to_string()));
        row.push(j.robustness.to_string());
        row.extend(j.corrupted_error.iter().chain(&j.mean_corrupted_error).map(Spread::to_string));
        row.extend(both.then(|| j.mean_resized_first_error.map_or_else(String::new, |error| error.to_string())));
        row.extend(j.attacked_error.values().map(Spread::to_string));
        row.extend(j.validation_error.iter().map(|error| format!("{error}{}", if j.kept { " (kept)" } else { "" })));
        row.push(j.arch.clone());
        row
    };
    Table { title: title.to_owned(), header, rows: judged.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::forward::Score;

    /// Two seeds, whose means by hand.
    #[test]
    fn errors_and_losses_are_means_over_seeds() {
        let seed = |shift: f64| Tested {
            by_corruption: vec![(Kind::Fog, vec![0.75 + shift, 0.5]), (Kind::Contrast, vec![0.25, 0.125 - shift])],
            corrupted: vec![0.5 + shift / 2.0, 0.3125 - shift / 2.0],
            under_noise: vec![
                (0.0, Score { loss: 0.5, accuracy: 0.75 + shift }),
                (0.1, Score { loss: 1.0 + shift, accuracy: 0.5 }),
            ],
            ..Tested::default()
        };
        let tested = [seed(0.0), seed(0.125)];
        let errors = by_corruption(&tested);
        assert_eq!(errors, BTreeMap::from([("fog".into(), vec![18.75, 50.0]), ("contrast".into(), vec![75.0, 93.75])]));
        let at = |sigma, loss, error| UnderNoise { sigma, loss, error };
        assert_eq!(under_noise(&tested), [at(0.0, 0.5, 18.75), at(0.1, 1.0625, 50.0)]);
        assert!(by_corruption(&[]).is_empty() && under_noise(&[]).is_empty());
    }
}
