//! What a reader may ask of a search, and whether it was done: after the checklist of Lindauer and Hutter (2020).

use maud::{Markup, html};

use super::super::told::Told;
use crate::data::Hashed;
use crate::report::statistics::mean;
use crate::search::archive::Entry;
use crate::search::config::{Arm, SearchConfig};
use crate::search::methods::arms;
use crate::search::result::SearchResult;
use crate::search::strategy::StrategyConfig;

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Done,
    Partly,
    Not,
}

/// A question, and the answer.
pub(super) struct Check {
    pub state: State,
    pub what: &'static str,
    pub why: String,
}

fn check(state: State, what: &'static str, why: impl Into<String>) -> Check {
    Check { state, what, why: why.into() }
}

fn done_if(is_done: bool, what: &'static str, done: String, not: &str) -> Check {
    if is_done { check(State::Done, what, done) } else { check(State::Not, what, not) }
}

/// All of a search, finished or not; what is not done comes first.
pub(super) fn of_search(
    told: &Told,
    config: &SearchConfig,
    entries: &[Entry],
    result: Option<&SearchResult>,
) -> Vec<Check> {
    let mut all = comparisons(config, entries, result);
    all.extend(seeds(config, result));
    all.extend(images(config, result));
    all.extend(repetition(told, result));
    all.extend(result.map(learned));
    all.sort_by_key(|check| match check.state {
        State::Not => 0,
        State::Partly => 1,
        State::Done => 2,
    });
    all
}

/// What the search is held against.
fn comparisons(config: &SearchConfig, entries: &[Entry], result: Option<&SearchResult>) -> Vec<Check> {
    let arms = arms(config).unwrap_or_default();
    let count = |arm: &Arm| entries.iter().filter(|entry| entry.arm == arm.name).count();
    let told =
        |arm: &Arm| format!("arm {}: {} candidates, the search itself {}", arm.name, count(arm), count(&arms[0]));
    let others = || arms.iter().skip(1);
    let chance = others().find(|arm| matches!(arm.strategy, StrategyConfig::Random(_)));
    let is_chance = arms.first().is_some_and(|arm| matches!(arm.strategy, StrategyConfig::Random(_)));
    let without = others().find(|arm| arm.objectives != arms[0].objectives || arm.evaluator != arms[0].evaluator);
    // An arm that has fewer candidates is no match, be it that the run has not ended.
    let whole = |arm: &Arm| if count(arm) >= count(&arms[0]) { State::Done } else { State::Partly };
    let chance = match (chance, is_chance) {
        (Some(arm), _) => check(whole(arm), "chance with the same budget", told(arm)),
        (None, true) => check(State::Done, "chance with the same budget", "this search is chance itself"),
        (None, false) => {
            let why = "no arm draws at random: what is found may be what chance finds (--arms ...,random)";
            check(State::Not, "chance with the same budget", why)
        }
    };
    vec![
        chance,
        match without {
            Some(arm) => check(whole(arm), "the search without its own measure", told(arm)),
            None => {
                let why = "no arm looks for something else, so nobody knows what the measure itself is worth";
                check(State::Not, "the search without its own measure", why)
            }
        },
        largest(config, result),
    ]
}

/// Whether the network that no search is needed to find is among those at the end.
fn largest(config: &SearchConfig, result: Option<&SearchResult>) -> Check {
    let what = "the largest network within the limits";
    let is_asked = config.finals.contestants.iter().any(|name| name.split(':').next() == Some("largest"));
    match (is_asked, result) {
        (true, None) => check(State::Partly, what, "it will be trained and tested beside the others"),
        (true, Some(result)) if result.finalists.iter().any(|judged| judged.role == "largest") => {
            check(State::Done, what, "it was trained and tested beside the others")
        }
        _ => check(State::Not, what, "the largest network is not among those trained at the end, and often it is best"),
    }
}

fn seeds(config: &SearchConfig, result: Option<&SearchResult>) -> Vec<Check> {
    let again = "one search, seed ".to_owned()
        + &config.seed.to_string()
        + ": another seed may find something else; `--search-seeds 5` runs several, and `altiplano report` takes all their folders";
    let training = match config.finals.seeds {
        0 | 1 => check(
            State::Not,
            "several trainings of each network",
            "each network was trained once: differences of the size of a retraining's are chance (--seeds 3)",
        ),
        many if result.is_none() => {
            check(State::Partly, "several trainings of each network", format!("{many} seeds each will be trained"))
        }
        many => check(State::Done, "several trainings of each network", format!("{many} seeds each")),
    };
    vec![check(State::Not, "several searches", again), training]
}

/// Which images were seen by what.
fn images(config: &SearchConfig, result: Option<&SearchResult>) -> Vec<Check> {
    let unseen =
        "test images are opened when nothing is left to be chosen; candidates are judged by training images alone";
    let mut all = vec![check(State::Done, "test images that no choice has seen", unseen)];
    let Some(judged) = result.and_then(|result| result.finalists.first()) else { return all };
    all.push(match (judged.mean_corrupted_error, judged.judged_images < judged.test_images) {
        (None, _) => {
            check(State::Not, "errors under corruption", "images of this form cannot be corrupted as pictures are")
        }
        (_, true) => check(
            State::Partly,
            "errors under corruption",
            format!(
                "15 corruptions at 5 severities on the first {} of {} test images (`finals.judged_images = 0` in a file for --config takes all)",
                judged.judged_images, judged.test_images
            ),
        ),
        _ => {
            let why = format!("15 corruptions at 5 severities on all {} test images", judged.test_images);
            check(State::Done, "errors under corruption", why)
        }
    });
    let attacks: Vec<&str> = judged.attacked_error.keys().map(String::as_str).collect();
    all.push(done_if(
        !attacks.is_empty(),
        "errors under attack",
        attacks.join(", "),
        "no attack was run: nothing here says how the networks bear images that are meant to mislead (--attacks pgd:8/255:10)",
    ));
    let trained = result.map_or((0, 0), |result| (result.trained.training_images, result.trained.epochs));
    let why = format!("{} images, {} epochs with {}", trained.0, trained.1, config.training.optimizer);
    all.push(match (config.finals.images > 0, config.finals.kept_back) {
        (true, _) => check(State::Partly, "training on all images", why + "; other training images were left out"),
        (_, 0) => check(State::Done, "training on all images", why),
        (_, kept) => {
            let why = format!("{why}; {kept} were kept back to choose by, and trained none of the networks at the end");
            check(State::Partly, "training on all images", why)
        }
    });
    all
}

/// Whether it can be had again.
fn repetition(told: &Told, result: Option<&SearchResult>) -> Vec<Check> {
    let record = told.record.as_ref();
    let device = record.map(|record| format!("altiplano {}, {}, {}", record.version, record.adapter, record.driver));
    let inputs = record.is_some_and(|record| record.inputs.contains_key("data"));
    let is_sample = record.is_some_and(|record| record.inputs.values().any(|input| input.hashed == Hashed::Sample));
    let contents = "data known by their contents";
    let mut all = vec![
        done_if(
            device.is_some(),
            "what it ran on",
            device.unwrap_or_default(),
            "the run does not say with which version, adapter and driver it was made",
        ),
        match (inputs, is_sample) {
            (true, false) => check(State::Done, contents, "the run holds a checksum of all that it read"),
            (true, true) => {
                let why = "the run holds a checksum of names, sizes and a sample of files: what it read is large";
                check(State::Partly, contents, why)
            }
            (false, _) => check(State::Not, contents, "the run holds no checksum of its data"),
        },
    ];
    all.extend(result.map(|result| {
        let why: Vec<&str> = result.varies.iter().chain(&result.changes).map(String::as_str).collect();
        match why.is_empty() {
            true => check(State::Done, "the same seed gives the same bits", "on the same adapter and driver"),
            false => check(State::Not, "the same seed gives the same bits", why.join("; ")),
        }
    }));
    all
}

/// Whether there is anything to compare.
fn learned(result: &SearchResult) -> Check {
    let what = "candidates that learned something";
    let own = &result.arms[..result.arms.len().min(1)];
    let poor = own.iter().map(|arm| arm.failed + arm.learned_nothing).sum::<usize>();
    let all = own.iter().map(|arm| arm.evaluated + arm.given).sum::<usize>();
    let errors: Vec<f64> = result.finalists.iter().map(|judged| judged.clean_error.mean).collect();
    let constant = |error: f64| result.constant_error.is_some_and(|least| error >= least);
    if mean(&errors).is_some_and(constant) {
        let why = "the networks at the end err as often as one that always gives the same answer: train for longer";
        return check(State::Not, what, why);
    }
    match poor {
        0 => check(State::Done, what, format!("all {all} of the search itself")),
        poor => {
            let why = format!("{poor} of {all} failed, or erred as often as one that always gives the same answer");
            check(State::Partly, what, why)
        }
    }
}

/// The answers as boxes.
pub(super) fn markup(checks: &[Check]) -> Markup {
    html! {
        ul.checks {
            @for check in checks {
                @let class = match check.state { State::Done => "", State::Partly => "partly", State::Not => "not" };
                li class=(class) { b { (check.what) } br; (check.why) }
            }
        }
    }
}
