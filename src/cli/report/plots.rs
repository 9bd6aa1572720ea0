//! Charts of a search: its front, its arms over evaluations, its trainings, its networks under noise.

use std::collections::BTreeSet;

use crate::measure::judged::Judged;
use crate::report::chart::{Axis, Better, Chart, Marks, Point, Series};
use crate::report::svg::short;
use crate::search::archive::Entry;
use crate::search::config::SearchConfig;
use crate::search::domain::{LATENCY, Quantity};
use crate::search::objectives::{Objectives, ObjectivesConfig};
use crate::search::result::SearchResult;
use crate::train::trainer::Progress;

/// What the candidates of a run are worth, by the objective of the search itself.
pub(in crate::cli) struct Worth {
    objectives: Box<dyn Objectives>,
    scale: f64,
    /// Its name, and which way is better.
    label: String,
    better: Better,
}

impl Worth {
    /// Of a search; one that has not ended has the scale of what is there.
    pub fn of(config: &SearchConfig, entries: &[Entry], result: Option<&SearchResult>) -> Self {
        let constant = result.and_then(|result| result.constant_error).unwrap_or(f64::INFINITY);
        let objectives = config.objectives.open(constant);
        let own: Vec<&Entry> = entries.iter().filter(|entry| Some(&entry.arm) == config.arms.first()).collect();
        let scale = result.and_then(|result| result.arms.first()).map(|arm| arm.scale);
        let scale = scale.unwrap_or_else(|| objectives.scale(&own));
        let (label, better) = match &config.objectives {
            ObjectivesConfig::Single { maximize } => (maximize.clone(), Better::More),
            ObjectivesConfig::Weighted { weights } => {
                let terms: Vec<String> = weights.iter().map(|(name, weight)| format!("{weight} {name}")).collect();
                (terms.join(" + "), Better::More)
            }
            ObjectivesConfig::ErrorAndRobustness { alpha } => {
                (format!("{alpha} error + {:.3} R", (1.0 - alpha) * scale), Better::Less)
            }
        };
        Worth { objectives, scale, label, better }
    }

    /// Of one candidate, as the axis has it.
    pub fn value(&self, entry: &Entry) -> f64 {
        let first = self.objectives.first(&entry.measures, self.scale);
        if self.better == Better::More { -first } else { first }
    }

    /// All objectives of one candidate, which are minimised.
    fn objectives(&self, config: &SearchConfig, entry: &Entry) -> Vec<f64> {
        let first = self.objectives.first(&entry.measures, self.scale);
        std::iter::once(first).chain(config.minimize.iter().map(|quantity| costs(entry, *quantity))).collect()
    }

    /// The candidate of the front that the search would pick.
    pub fn pick<'a, 'b>(&self, config: &SearchConfig, candidates: &'b [Candidate<'a>]) -> Option<&'b Candidate<'a>> {
        let front: Vec<&Candidate> = candidates.iter().filter(|own| own.is_on_front).collect();
        let rows: Vec<Vec<f64>> = front.iter().map(|own| self.objectives(config, own.entry)).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        self.objectives.pick(&rows).and_then(|place| front.get(place).copied())
    }

    /// What it is called.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it learned nothing.
    pub fn is_barred(&self, entry: &Entry) -> bool {
        self.objectives.is_barred(&entry.measures)
    }

    /// The number that all candidates share, if the objective has one.
    pub fn scale(&self) -> Option<(&'static str, f64)> {
        Some((self.objectives.scale_name()?, self.scale))
    }

    fn axis(&self) -> Axis {
        Axis { label: self.label.clone(), is_log: false, better: Some(self.better) }
    }

    fn is_better(&self, one: f64, other: f64) -> bool {
        if self.better == Better::More { one > other } else { one < other }
    }
}

/// A candidate of a history.
pub(in crate::cli) struct Candidate<'a> {
    pub entry: &'a Entry,
    /// What the search looks for, as the axis has it.
    pub worth: f64,
    pub learned_nothing: bool,
    /// Whether no other of the search itself is better in all that it looks at.
    pub is_on_front: bool,
}

/// The candidates in their order.
pub(in crate::cli) fn candidates<'a>(
    config: &SearchConfig,
    entries: &'a [Entry],
    worth: &Worth,
    result: Option<&SearchResult>,
) -> Vec<Candidate<'a>> {
    let own = |entry: &Entry| config.arms.first() == Some(&entry.arm);
    let front: BTreeSet<&str> = match result {
        Some(result) => result.front.iter().map(|found| found.arch.as_str()).collect(),
        None => front_so_far(config, &entries.iter().filter(|entry| own(entry)).collect::<Vec<_>>(), worth),
    };
    let candidate = |entry: &'a Entry| Candidate {
        entry,
        worth: worth.value(entry),
        learned_nothing: worth.is_barred(entry),
        is_on_front: own(entry) && front.contains(entry.arch.as_str()),
    };
    entries.iter().map(candidate).collect()
}

/// What none beats so far, of a search that has not ended.
fn front_so_far<'a>(config: &SearchConfig, entries: &[&'a Entry], worth: &Worth) -> BTreeSet<&'a str> {
    use crate::search::front::pareto::{Point, front};
    let point = |entry: &&Entry| {
        let violation = config.limits().violation(entry.cost(), entry.measure(LATENCY));
        let barred = f64::from(u8::from(worth.is_barred(entry)));
        Point { objectives: worth.objectives(config, entry), violation: violation + barred }
    };
    let points: Vec<Point> = entries.iter().map(point).collect();
    front(&points).into_iter().map(|place| entries[place].arch.as_str()).collect()
}

/// What a candidate costs.
pub(in crate::cli) fn costs(entry: &Entry, quantity: Quantity) -> f64 {
    quantity.of(entry.cost(), entry.measure(LATENCY))
}

/// What candidates are drawn over: each cost that the search minimises, or else parameters.
pub(in crate::cli) fn quantities(config: &SearchConfig) -> Vec<Quantity> {
    if config.minimize.is_empty() { vec![Quantity::Params] } else { config.minimize.clone() }
}

/// The axes of candidates over a cost.
pub(in crate::cli) fn axes(config: &SearchConfig, quantity: Quantity, worth: &Worth) -> (Axis, Axis) {
    let label = match quantity {
        Quantity::Params => "trainable parameters",
        Quantity::Macs => "multiply-adds for one image",
        Quantity::Latency => "milliseconds for one image",
    };
    let better = config.minimize.contains(&quantity).then_some(Better::Less);
    (Axis { label: label.to_owned(), is_log: true, better }, worth.axis())
}

/// A candidate over a cost, with what it is.
pub(super) fn point(candidate: &Candidate, quantity: Quantity) -> Point {
    let at = [costs(candidate.entry, quantity), candidate.worth];
    Point { at, tip: tip(candidate), link: None, is_large: false }
}

/// All candidates over each cost; each leads to its row.
pub(super) fn fronts(config: &SearchConfig, candidates: &[Candidate], worth: &Worth, kept: Option<&str>) -> Vec<Chart> {
    quantities(config).into_iter().map(|quantity| front(config, candidates, worth, quantity, kept)).collect()
}

fn front(
    config: &SearchConfig,
    candidates: &[Candidate],
    worth: &Worth,
    quantity: Quantity,
    kept: Option<&str>,
) -> Chart {
    let own_point = |(number, candidate): (usize, &Candidate)| Point {
        link: Some(format!("c{}", number + 1)),
        is_large: kept == Some(candidate.entry.arch.as_str()),
        ..point(candidate, quantity)
    };
    let points = |arm: &str, is_front: bool| -> Marks {
        let own = |(_, own): &(usize, &Candidate)| own.entry.arm == arm && own.is_on_front == is_front;
        Marks::Points(candidates.iter().enumerate().filter(own).map(own_point).collect())
    };
    // The search's own lie above the others, and its front above all.
    let arms = config.arms.iter().enumerate().rev();
    let named = |(ink, arm): (usize, &String)| {
        let name = if ink == 0 { format!("{arm}, beaten") } else { arm.clone() };
        Series { class: "dominated", ..Series::new(name, ink, points(arm, false)) }
    };
    let mut series: Vec<Series> = arms.map(named).collect();
    series.extend(config.arms.first().map(|arm| Series::new(format!("{arm}, front"), 0, points(arm, true))));
    let (x, y) = axes(config, quantity, worth);
    Chart { title: format!("{} over {}", worth.label, x.label), x, y, series }
}

fn tip(candidate: &Candidate) -> String {
    let entry = candidate.entry;
    let measures: Vec<String> =
        entry.measures.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    let standing = if candidate.is_on_front { ", on the front" } else { "" };
    format!(
        "arm {}, generation {}{standing}\n{}\n{} parameters, {} multiply-adds\n{}",
        entry.arm,
        entry.generation,
        entry.arch,
        short(entry.params as f64),
        short(entry.macs as f64),
        measures.join(", ")
    )
}

/// Where the best so far changes, over candidates evaluated here; nothing if none counts.
pub(super) fn best_so_far<'a>(own: impl Iterator<Item = &'a Candidate<'a>>, worth: &Worth) -> Option<Vec<[f64; 2]>> {
    let (mut steps, mut count): (Vec<[f64; 2]>, f64) = (vec![], 0.0);
    for candidate in own.filter(|candidate| !candidate.entry.given) {
        count += 1.0;
        let counts = candidate.worth.is_finite() && !candidate.learned_nothing;
        if counts && steps.last().is_none_or(|[_, best]| worth.is_better(candidate.worth, *best)) {
            steps.push([count, candidate.worth]);
        }
    }
    let best = steps.last()?[1];
    steps.push([count, best]);
    Some(steps)
}

/// Curves of the best so far.
pub(super) fn best_chart(worth: &Worth, series: Vec<Series>) -> Chart {
    let x = Axis { label: "candidates evaluated".to_owned(), ..Axis::default() };
    let label = format!("best so far: {}", worth.label);
    Chart { title: label.clone(), x, y: Axis { label, ..worth.axis() }, series }
}

/// The best so far of each arm over its evaluations.
pub(super) fn anytime(config: &SearchConfig, candidates: &[Candidate], worth: &Worth) -> Chart {
    let curve = |(ink, arm): (usize, &String)| {
        let own = candidates.iter().filter(|candidate| candidate.entry.arm == *arm);
        Some(Series::new(arm.clone(), ink, Marks::Steps(best_so_far(own, worth)?)))
    };
    // The search's own lies above the others.
    best_chart(worth, config.arms.iter().enumerate().rev().filter_map(curve).collect())
}

/// Loss over epochs.
pub(super) fn training(curves: &[(String, &[Progress])]) -> Chart {
    let line = |(ink, (name, curve)): (usize, &(String, &[Progress]))| {
        let points = curve.iter().map(|progress| [progress.epoch as f64, progress.loss]);
        Series::new(name.clone(), ink, Marks::Line(points.collect()))
    };
    let axis = |label: &str| Axis { label: label.to_owned(), ..Axis::default() };
    let y = Axis { better: Some(Better::Less), ..axis("training loss") };
    let series = curves.iter().enumerate().map(line).collect();
    Chart { title: "training loss over epochs".to_owned(), x: axis("epochs"), y, series }
}

/// Loss over the deviation of weight noise.
pub(super) fn noise(networks: &[(String, &Judged)]) -> Chart {
    let line = |(ink, (name, judged)): (usize, &(String, &Judged))| {
        let points = judged.under_noise.iter().map(|noise| [noise.sigma, noise.loss]);
        Series::new(name.clone(), ink, Marks::Line(points.collect()))
    };
    let axis = |label: &str| Axis { label: label.to_owned(), ..Axis::default() };
    let y = Axis { better: Some(Better::Less), ..axis("loss on test images") };
    let x = axis("deviation of the noise, as a part of each weight");
    Chart { title: "loss under weight noise".to_owned(), x, y, series: networks.iter().enumerate().map(line).collect() }
}

/// Error over the severity of corruptions; 0 is without.
pub(super) fn severities(networks: &[(String, &Judged)]) -> Chart {
    let line = |(ink, (name, judged)): (usize, &(String, &Judged))| {
        let all = std::iter::once(&judged.uncorrupted_error).chain(&judged.corrupted_error);
        let points = all.enumerate().map(|(severity, error)| [severity as f64, error.mean]);
        Series::new(name.clone(), ink, Marks::Line(points.collect()))
    };
    let axis = |label: &str| Axis { label: label.to_owned(), ..Axis::default() };
    let y = Axis { better: Some(Better::Less), ..axis("error, percent points") };
    let series = networks.iter().enumerate().map(line).collect();
    Chart { title: "error over severity".to_owned(), x: axis("severity of corruption, 0 is none"), y, series }
}
