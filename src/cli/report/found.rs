//! What was found, how sure that is, and what can be done with it, in words.

use std::path::{Path, PathBuf};

use maud::{Markup, PreEscaped, html};

use super::super::progress::duration;
use super::super::run::quoted;
use super::super::search::text::choice;
use super::super::train::program;
use super::page::{card, command};
use crate::measure::judged::{Judged, Spread};
use crate::nn::space::Family;
use crate::report::diagram::Sheet;
use crate::report::svg::short;
use crate::search::result::SearchResult;

/// The network that was kept, in figures.
pub(super) fn figures(result: &SearchResult, kept: &Judged) -> Markup {
    let right = |error: &Spread| format!("{:.1} %", 100.0 - error.mean);
    let between = |error: &Spread, images: usize| {
        let (low, high) = wilson(100.0 - error.mean, images);
        format!("; 95 % interval {low:.1} to {high:.1}")
    };
    html! {
        div.cards {
            (card(&right(&kept.clean_error),
                &format!("of {} test images right{}", kept.test_images, between(&kept.clean_error, kept.test_images))))
            @if let Some(error) = &kept.mean_corrupted_error {
                (card(&right(error),
                    &format!("right under 15 corruptions, {} images{}", kept.judged_images, between(error, kept.judged_images))))
            }
            (card(&short(kept.params as f64), "trainable parameters"))
            (card(&short(kept.macs as f64), "multiply-adds for one image"))
            @if let Some(latency) = kept.latency { (card(&format!("{latency:.2} ms"), "for one image on this adapter")) }
            (card(&format!("{:.2}", kept.robustness.mean), "points of accuracy that weight noise changes (R)"))
            (card(&duration(result.seconds), "for everything"))
        }
    }
}

/// Between what a share in percent points that was seen on so many images lies with a confidence of 95 % (Wilson, JASA 1927). Of images that
/// were seen several times, under corruptions, it is the widest that it can be.
fn wilson(percent: f64, images: usize) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let (n, share) = (images.max(1) as f64, (percent / 100.0).clamp(0.0, 1.0));
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let bound = |value: f64| (100.0 * value / (1.0 + Z * Z / n)).clamp(0.0, 100.0);
    (bound(middle - half), bound(middle + half))
}

/// The story in a few sentences.
pub(super) fn story(result: &SearchResult, kept: &Judged) -> Markup {
    let own = &result.arms[..result.arms.len().min(1)];
    let strategy = own.first().map_or("", |arm| arm.strategy.as_str());
    let why = choice(result, kept);
    html! {
        p { b { (conclusion(result, kept)) } }
        p {
            "The search evaluated " b { (result.evaluated) } " candidates of the space " (result.space) " on " (result.dataset)
            " (strategy " (strategy) ") and picked " code.arch { (result.best.arch) } ". "
            "Then " (different(result)) " networks were trained under the same rules for " (result.trained.epochs)
            " epochs on " (result.trained.training_images) " images, and tested on images that nothing before had seen."
        }
        p {
            "Kept is " b { (result.label(kept)) } ", " (meaning(result, &kept.role)) ", trained with " (kept.optimizer) ": "
            code.arch { (kept.arch) }
        }
        @if !why.is_empty() { p.soft { (why.trim_end()) } }
        @if let Some(short) = &result.short { p.fault { "Fewer candidates than asked for: " (short) } }
        @for suspicion in &result.trained.suspicions { p.fault { (suspicion) } }
    }
}

/// Whether the search was of use, in a sentence.
fn conclusion(result: &SearchResult, kept: &Judged) -> String {
    let picked = result.finalists.first();
    let is_own = picked.is_some_and(|own| own.arch == kept.arch);
    match kept.role.as_str() {
        _ if result.config.finals.kept_back == 0 => "What the search picked is kept, whatever it is held against below: no images were kept back to \
                                                     choose by."
            .to_owned(),
        _ if is_own && kept.role != "largest" => "The search's own pick is the network that is kept.".to_owned(),
        "largest" if is_own => "The search picked the largest network, which no search is needed to find.".to_owned(),
        "largest" => "Here the search did not pay: what is kept is the largest network, which no search is needed to find. No other one errs less \
                      by more than a standard error on the images by which that is decided."
            .to_owned(),
        role => format!("Here the search's own pick is not what is kept, but {}.", meaning(result, role)),
    }
}

/// Contestants that are the same network with the same optimiser are trained once.
fn different(result: &SearchResult) -> usize {
    let all = result.finalists.iter().map(|own| (own.arch.as_str(), own.optimizer.to_string()));
    all.collect::<std::collections::BTreeSet<_>>().len()
}

/// By how much a network errs more than another on so many images, with the standard error of the difference as if their images were
/// different ones: for the same images it is smaller, so that what is told apart here is. That of a mean over seeds is no smaller than
/// what so many images leave open, since few seeds may agree by chance.
fn difference(one: &Spread, other: &Spread, images: usize) -> (f64, f64) {
    let of_images = |error: &Spread| {
        let share = (error.mean / 100.0).clamp(0.0, 1.0);
        100.0 * (share * (1.0 - share) / images.max(1) as f64).sqrt()
    };
    let error = |spread: &Spread| spread.standard_error.unwrap_or(0.0).max(of_images(spread));
    (one.mean - other.mean, error(one).hypot(error(other)))
}

fn verdict((difference, error): (f64, f64)) -> &'static str {
    match difference {
        more if more > 2.0 * error => "errs more",
        less if less < -2.0 * error => "errs less",
        _ => "not told apart",
    }
}

/// The kept network against each of the others.
pub(super) fn sure(result: &SearchResult, kept: &Judged) -> Markup {
    let against = |other: &&Judged| (&other.arch, other.optimizer) != (&kept.arch, kept.optimizer);
    let cell = |value: Option<(f64, f64)>| {
        html! {
            td { @if let Some((gap, error)) = value { (format!("{gap:+.2} ± {error:.2}")) br; span.soft { (verdict((gap, error))) } } @else { "-" } }
        }
    };
    let row = |other: &Judged| {
        let clean = Some(difference(&other.clean_error, &kept.clean_error, kept.test_images));
        let corrupted = other.mean_corrupted_error.as_ref().zip(kept.mean_corrupted_error.as_ref());
        let corrupted = corrupted.map(|(one, other)| difference(one, other, kept.judged_images));
        let ratio = other.params as f64 / (kept.params as f64).max(1.0);
        html! { tr { td.l { (result.label(other)) } (cell(clean)) (cell(corrupted)) td { (format!("{ratio:.2}")) } } }
    };
    let rows: Vec<Markup> = result.finalists.iter().filter(against).map(row).collect();
    html! {
        @if rows.is_empty() {
            p { "No other network was trained: there is nothing to hold it against." }
        } @else {
            p {
                "By how many percent points the others err more than the kept network (below zero: less), with the standard error of the \
                 difference as if each had been tested on images of its own. They were tested on the same ones, for which it is usually smaller: \
                 some that is not told apart here may be."
                @if kept.seeds < 2 { " Each network was trained once: the error is that of the test images, and another training may differ by more." }
            }
            div.wide { table {
                thead { tr { th.l { "network" } th { "clean error" } th { "corrupted error" } th { "parameters," br; "times the kept one's" } } }
                tbody { @for row in &rows { (row) } }
            } }
            (who(result))
        }
    }
}

/// What each of the networks is, in words.
fn who(result: &SearchResult) -> Markup {
    let mut roles: Vec<&str> = result.finalists.iter().map(|own| own.role.as_str()).collect();
    roles.dedup();
    html! { dl { @for role in roles { dt { (role) } dd { (meaning(result, role)) } } } }
}

/// All networks that were trained at the end, in a row each; errors at each severity are in a chart.
pub(super) fn networks(result: &SearchResult, kept: &Judged, family: &Family, sheet: &mut Sheet) -> Markup {
    let error = |error: Option<Spread>| error.map_or("-".to_owned(), |error| error.to_string());
    let timed = result.finalists.iter().any(|judged| judged.latency.is_some());
    let attacks: Vec<&String> =
        result.finalists.first().into_iter().flat_map(|own| own.attacked_error.keys()).collect();
    let mut rows = vec![];
    for judged in &result.finalists {
        let picture = family.parse(&judged.arch).map(|arch| sheet.small(&family.diagram(&arch))).unwrap_or_default();
        rows.push(html! {
            tr.kept[std::ptr::eq(judged, kept)] {
                td.l { (result.label(judged)) }
                td { (judged.clean_error) } td { (error(judged.mean_corrupted_error)) } td { (judged.robustness) }
                @for attack in &attacks { td { (error(judged.attacked_error.get(*attack).copied())) } }
                td { (error(judged.validation_error)) } td.l { (judged.optimizer) } td { (judged.params) } td { (judged.macs) }
                @if timed { td { (judged.latency.map_or("-".to_owned(), |ms| format!("{ms:.3}"))) } }
                td { (PreEscaped(picture)) } td.arch { (judged.arch) }
            }
        });
    }
    html! {
        p { "Errors and R in percent points; R and errors under corruption on the first " (kept.judged_images) " test images." }
        div.wide { table {
            thead { tr {
                th.l { "network" } th { "clean error" } th { "corrupted error" } th { "R" }
                @for attack in &attacks { th { "error under " (attack) } }
                th { "error on images kept back" } th.l { "trained with" } th { "parameters" } th { "multiply-adds" }
                @if timed { th { "latency (ms)" } }
                th.l {} th.l { "architecture" }
            } }
            tbody { @for row in &rows { (row) } }
        } }
    }
}

/// What a contestant is, for who has not read of it.
fn meaning(result: &SearchResult, role: &str) -> String {
    match role {
        own if result.arms.first().is_some_and(|arm| arm.arm == own) => "what the search itself picked".to_owned(),
        "largest" => "the largest network of the space within the limits, which no search is needed to find".to_owned(),
        any if any == "any" || any.starts_with("any-") => {
            "a network drawn at random, which nothing has measured".to_owned()
        }
        "random" => {
            "what the same measure picked among networks drawn at random, as many as the search evaluated".to_owned()
        }
        "random-by-accuracy" => "the most accurate of the same networks drawn at random".to_owned(),
        "accuracy" => "what the same search picked that looks for accuracy alone".to_owned(),
        "params" => "what the same search picked that looks for parameters alone".to_owned(),
        "baseline" => "what the same search picked among candidates trained by SGD, by their errors alone".to_owned(),
        arm => format!("what the arm {arm} picked"),
    }
}

/// Words of the page.
pub(super) fn words() -> Markup {
    let all = [
        (
            "candidate",
            "A network that a search looked at, cheaply: with weights that it shares with others, after a short training, or untrained.",
        ),
        (
            "arm",
            "A search among several with the same number of candidates: the first is the search itself, the others are what it is held against, \
                 such as chance.",
        ),
        ("front", "Candidates that no other beats in all that is looked for and in all costs that are kept small."),
        ("fitness, searched for", "What the search maximises or minimises; the axis of the charts says which."),
        (
            "R",
            "By how many percent points accuracy changes, on average, when all weights are disturbed a little (FlatNAS). A network in a flat place \
               of its loss has a small one. One that has learned nothing has a small one too.",
        ),
        ("flatness", "How little the loss rises when weights are disturbed (GeNAS); more is flatter."),
        (
            "corrupted error",
            "The mean error under 15 kinds of corruption (noise, blur, weather, digital) at five severities (Hendrycks and \
                             Dietterich 2019). Not mCE, which is relative to another network.",
        ),
        (
            "images kept back",
            "Training images that trained no network at the end: by them, under four other corruptions where images can be corrupted, it is decided \
                               which network is kept.",
        ),
        (
            "kept",
            "The network whose weights the run leaves: of least error on the images kept back, unless the largest is as good within a standard error; \
                  without such images the one that the search picked.",
        ),
    ];
    html! { dl { @for (word, what) in all { dt { (word) } dd { (what) } } } }
}

/// A run's folder as commands name it.
struct Place(PathBuf);

impl Place {
    /// Of a folder such as `.` its whole path, so that it has a name beside it.
    fn of(folder: &Path) -> Self {
        Place(std::path::absolute(folder).ok().filter(|_| folder.file_name().is_none()).unwrap_or(folder.to_owned()))
    }

    fn own(&self) -> String {
        quoted(&self.0)
    }

    fn file(&self, name: &str) -> String {
        quoted(&self.0.join(name))
    }

    /// A name beside it.
    fn beside(&self, ending: &str) -> String {
        let mut name = self.0.clone().into_os_string();
        name.push(ending);
        quoted(Path::new(&name))
    }
}

/// What can be done with the network that a run kept.
pub(super) fn usage(folder: &Path, data: &str) -> Markup {
    let (program, place) = (program(), Place::of(folder));
    let model = place.file("best.safetensors");
    html! {
        p {
            "Its weights are in " code { (model) } ", for PyTorch and others too; the file says which network it is, what its classes are called and how \
             images are normalised. Where " code { (program) } " is not found, write where the program lies, such as target/release/altiplano."
        }
        h3 { "Ask it about a picture" }
        (command(&format!("{program} classify picture.png --model {model}")))
        h3 { "Test it: clean, under corruptions, under an attack" }
        (command(&format!("{program} evaluate --model {model} --data {} --attacks pgd:8/255:10", quoted(Path::new(data)))))
        h3 { "Take it into another program: as ONNX, and a card with the lines that load it" }
        (command(&format!("{program} export {model} --onnx {} --card {}", place.beside(".onnx"), place.beside(".md"))))
    }
}

/// Commands that repeat or go on with the run in a folder.
pub(super) fn commands(folder: &Path, is_done: bool) -> Markup {
    let (program, place) = (program(), Place::of(folder));
    html! {
        @if !is_done {
            h3 { "Go on with it" }
            (command(&format!("{program} search --resume --out {}", place.own())))
        }
        h3 { "Search again, with the same settings and seed" }
        (command(&format!("{program} search --config {} --out {}", place.file("config.toml"), place.beside("-searched"))))
        @if folder.join("best.safetensors").exists() {
            h3 { "Train the kept network again" }
            (command(&format!("{program} train --config {} --out {}", place.file("train.toml"), place.beside("-again"))))
        }
        h3 { "This report, from the files of the run" }
        (command(&format!("{program} report {}", place.own())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17's `binomtest(k, n).proportion_ci(0.95, method='wilson')`, and the ends.
    #[test]
    fn shares_lie_between_wilsons_bounds() {
        let (low, high) = wilson(100.0 * 351.0 / 355.0, 355);
        assert!((low - 97.139).abs() < 2e-3 && (high - 99.561).abs() < 2e-3, "{low} {high}");
        let (low, high) = wilson(100.0, 10);
        assert!((low - 72.2467).abs() < 1e-3 && high > 99.999 && wilson(0.0, 10).0 < 1e-9, "{low} {high}");
    }

    #[test]
    fn seeds_that_agree_by_chance_tell_nothing_apart() {
        let spread = |mean: f64, standard_error: f64| Spread {
            mean,
            deviation: Some(0.0),
            standard_error: Some(standard_error),
        };
        // Two trainings each, of the same error to the image.
        let (gap, error) = difference(&spread(3.0, 0.0), &spread(2.0, 0.0), 400);
        let of_images = |share: f64| (share * (1.0 - share) / 400.0).sqrt() * 100.0;
        assert!((gap - 1.0).abs() < 1e-12 && (error - of_images(0.03).hypot(of_images(0.02))).abs() < 1e-12);
        assert_eq!(verdict((gap, error)), "not told apart");
        // Seeds that differ by more than images leave open count.
        assert!(difference(&spread(3.0, 5.0), &spread(2.0, 0.0), 400).1 > 5.0);
        assert_eq!((verdict((3.0, 1.0)), verdict((-3.0, 1.0))), ("errs more", "errs less"));
    }
}
