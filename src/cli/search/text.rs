//! What a search found, in lines: one printer for all methods.

use super::super::progress::duration;
use crate::measure::judged::{Judged, table};
use crate::report::folder::{HISTORY, MISTAKES, REPORT, RESULT, RunFolder};
use crate::search::result::{Explored, Found, SearchResult};

/// What the user reads at the end.
pub(super) fn found((result, kept): (&SearchResult, &Judged), folder: &RunFolder, again: &str) -> String {
    let best = &result.best;
    let arms: String = result.arms.iter().map(arm).collect();
    let front = if result.front.len() > 1 { front(result) } else { String::new() };
    let short = result.short.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let trained = &result.trained;
    let adversarial = match result.config.training.adversarial {
        Some(a) => format!(", on images moved by PGD-{} of {:.3}/255", a.steps, 255.0 * a.eps),
        None => String::new(),
    };
    format!(
        "found {}\n    fitness {}, {} parameters, {} multiply-adds, best of {} candidates{short}\n    {}\n{arms}{}{front}{} ({}) trained {} epochs \
         with {}{adversarial}: {:.2} % of {} test images right (loss {:.4})\n{}trained side by side, tested on images that the search \
         never saw (errors and R in percent points):\n{}{}{}files:\n{}train it again:\n    {again}\n{} in all",
        best.arch,
        number(best.fitness),
        best.params,
        best.macs,
        result.evaluated,
        measures(best),
        correlations(result),
        result.label(kept),
        kept.arch,
        trained.epochs,
        trained.optimizer,
        100.0 * trained.clean_accuracy,
        trained.test_images,
        trained.clean_loss,
        trained.lines(),
        table("", &result.finalists).text(),
        choice(result, kept),
        warnings(result),
        files(folder),
        duration(result.seconds),
    )
}

/// A number with as many digits as tell it apart.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 || (size < 1e-3 && size > 0.0) => format!("{value:.4e}"),
        size if size >= 100.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn measures(found: &Found) -> String {
    found.measures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect::<Vec<_>>().join(", ")
}

/// A search, or what it is held against, in a line or two.
fn arm(arm: &Explored) -> String {
    let left_out = [(arm.failed, "could not be evaluated"), (arm.learned_nothing, "learned nothing")];
    let left_out: String = left_out.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!(" ({n} {why})")).collect();
    let given = if arm.given > 0 { format!(" after {} of another run", arm.given) } else { String::new() };
    let mut surrogates: Vec<&str> = arm.steps.iter().map(|step| step.surrogate.as_str()).collect();
    surrogates.retain(|name| !name.is_empty());
    let by = if surrogates.is_empty() { String::new() } else { format!(", proposed by {}", surrogates.join(", ")) };
    let volumes: Vec<f64> = arm.steps.iter().filter_map(|step| step.hypervolume).collect();
    let volume = match (volumes.first(), volumes.last()) {
        (Some(first), Some(last)) => format!("; hypervolume of the front from {first:.4} to {last:.4}"),
        _ => String::new(),
    };
    let best = match &arm.best {
        Some(best) => format!("fitness {}, {} parameters, {}", number(best.fitness), best.params, best.arch),
        None => "nothing that can be chosen".to_owned(),
    };
    format!(
        "arm {} ({}): {} candidates{given}{left_out} in {}{by}{volume}\n    {best}\n",
        arm.arm,
        arm.strategy,
        arm.evaluated,
        duration(arm.seconds)
    )
}

fn front(result: &SearchResult) -> String {
    let line = |found: &Found| {
        let objectives: Vec<String> = found.objectives.iter().map(|value| number(*value)).collect();
        format!("    {:>10}  {:>12}  {}  {}\n", found.params, found.macs, objectives.join("  "), found.arch)
    };
    let lines: String = result.front.iter().map(line).collect();
    format!("front (parameters, multiply-adds, objectives):\n{lines}")
}

fn correlations(result: &SearchResult) -> String {
    let known = result.correlations.iter().filter_map(|(name, value)| Some(format!("{name} {:.2}", (*value)?)));
    let known: Vec<String> = known.collect();
    if known.is_empty() {
        return String::new();
    }
    format!("rank correlation of the fitness with {}\n", known.join(", "))
}

fn warnings(result: &SearchResult) -> String {
    let constant = |error: f64| result.constant_error.is_some_and(|least| error >= least);
    let poor = result.finalists.iter().filter(|judged| constant(judged.clean_error.mean));
    let line = |role: &str| {
        format!("note: {role} errs as often as a network that always gives the same answer; its R says nothing\n")
    };
    let limit = result.config.max_latency;
    let slow = result.finalists.iter().filter(|judged| limit > 0.0 && judged.latency.is_some_and(|own| own > limit));
    let slow = slow.map(|judged| {
        let own = judged.latency.unwrap_or_default();
        format!(
            "note: {} took {own:.3} ms when it was measured, which the table foretold as {limit} or less\n",
            result.label(judged)
        )
    });
    let varies = result.varies.iter().map(|why| format!("note: {why}\n"));
    poor.map(|judged| line(&result.label(judged))).chain(slow).chain(varies).collect()
}

/// Why a network is kept, where it was chosen among several.
pub(in crate::cli) fn choice(result: &SearchResult, kept: &Judged) -> String {
    let error = |judged: &Judged| judged.validation_error.map_or(f64::NAN, |error| error.mean);
    let name = |judged: &Judged| result.label(judged);
    let least = result.finalists.iter().min_by(|a, b| error(a).total_cmp(&error(b)));
    let (Some(own), Some(least), true) = (result.finalists.first(), least, kept.validation_error.is_some()) else {
        return String::new();
    };
    let why = match error(kept) <= error(least) {
        true => "it errs least".to_owned(),
        false => format!("{} errs less, but by no more than a standard error,", name(least)),
    };
    let mut figures = format!("{:.2} %", error(kept));
    if error(least) < error(kept) {
        figures += &format!("; {} {:.2} %", name(least), error(least));
    }
    if !own.kept && name(own) != name(least) {
        figures += &format!("; {}, which the search picked, {:.2} %", name(own), error(own));
    }
    let (role, count) = (name(kept), result.config.finals.kept_back);
    let corrupted = if kept.mean_corrupted_error.is_some() { ", under corruptions for validation" } else { "" };
    format!("kept {role}: {why} on {count} images kept back{corrupted} ({figures})\n")
}

/// Names of the files that a run leaves for its user.
fn files(folder: &RunFolder) -> String {
    let names = [REPORT, RESULT, "best.safetensors", "table.csv", "table.svg", MISTAKES, HISTORY, "config.toml"];
    let paths = names.map(|name| folder.path().join(name)).into_iter().filter(|path| path.exists());
    paths.map(|path| format!("    {}\n", path.display())).collect()
}
