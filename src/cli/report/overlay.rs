//! Several runs on one page, laid over each other.

use std::path::PathBuf;

use maud::{Markup, html};

use super::super::compare;
use super::super::told::{Job, Told};
use super::faults;
use super::page::{Section, command, figure, page, table};
use super::plots::{self, Candidate, Worth};
use crate::error::{Error, Result};
use crate::report::chart::{Chart, Marks, Point, Series};
use crate::report::svg::short;
use crate::report::table::Table;
use crate::search::archive::Entry;
use crate::search::config::SearchConfig;
use crate::search::result::SearchResult;

/// A search among several.
struct Run<'a> {
    /// What it is called here: what tells it from the others.
    name: String,
    told: &'a Told,
    config: &'a SearchConfig,
    entries: &'a [Entry],
    result: Option<&'a SearchResult>,
}

pub(super) fn of(told: &[Told]) -> Result<String> {
    let mut runs = told.iter().map(run).collect::<Result<Vec<_>>>()?;
    tell_apart(&mut runs);
    let finished: Vec<PathBuf> =
        runs.iter().filter(|run| run.result.is_some()).map(|run| run.told.folder.clone()).collect();
    let answer = if finished.is_empty() { None } else { Some(compare::answer(&finished)?) };
    let mut sections = vec![Section { id: "runs", title: "The runs", body: list(&runs) }];
    let mut add = |id, title, body| sections.push(Section { id, title, body });
    if let Some(answer) = &answer {
        add(
            "networks",
            "What they found, seed by seed",
            html! {
                (table(&compare::table(&answer.groups), None))
                @for line in compare::remarks(answer).lines() { p.soft { (line) } }
            },
        );
    }
    add("front", "Over each other", charts(&runs));
    let folders: Vec<String> = told.iter().map(|told| super::super::run::quoted(&told.folder)).collect();
    let program = super::program();
    add(
        "again",
        "Do it again",
        html! {
            (command(&format!("{program} report {} --out report.html", folders.join(" "))))
            (command(&format!("{program} compare {}", folders.join(" "))))
        },
    );
    let title = format!("{} runs beside each other", told.len());
    let head = html! { h1 { (title) } @for told in told { (faults(told)) } };
    Ok(page(&title, &head, &sections))
}

fn run(told: &Told) -> Result<Run<'_>> {
    match &told.job {
        Job::Search { config, history, result } => {
            let name = format!("{} seed {}", config.method, config.seed);
            Ok(Run { name, told, config, entries: &history.entries, result: result.as_deref() })
        }
        Job::Training { .. } => {
            let why =
                "is a training; only searches are laid over each other. A report of it alone: altiplano report FOLDER";
            Err(Error::file(&told.folder, None, why))
        }
    }
}

/// Adds folders to names that would be the same.
fn tell_apart(runs: &mut [Run]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for run in runs.iter_mut().filter(|run| names.iter().filter(|name| **name == run.name).count() > 1) {
        run.name += &format!(" ({})", run.told.folder.display());
    }
}

/// What each run is, and how far it has come.
fn list(runs: &[Run]) -> Markup {
    let row = |run: &Run| {
        let own = run.entries.iter().filter(|entry| Some(&entry.arm) == run.config.arms.first()).count();
        let kept = run.result.and_then(|result| Some((result, result.kept().ok()?)));
        let error = |value: Option<f64>| value.map_or("-".to_owned(), |error| format!("{error:.2}"));
        vec![
            run.name.clone(),
            run.told.folder.display().to_string(),
            run.config.space.clone(),
            run.config.data.clone(),
            if run.result.is_some() { "ended" } else { "not ended" }.to_owned(),
            format!("{own} of {}", run.config.evaluations),
            kept.map_or("-".to_owned(), |(result, kept)| result.label(kept)),
            error(kept.map(|(_, kept)| kept.clean_error.mean)),
            error(kept.and_then(|(_, kept)| kept.mean_corrupted_error).map(|error| error.mean)),
            kept.map_or("-".to_owned(), |(_, kept)| kept.params.to_string()),
        ]
    };
    let header = [
        "search",
        "folder",
        "space",
        "data",
        "state",
        "candidates",
        "kept",
        "clean error",
        "corrupted error",
        "parameters",
    ];
    let header = header.map(str::to_owned).to_vec();
    table(&Table { title: String::new(), header, rows: runs.iter().map(row).collect() }, None)
}

/// Fronts and curves of the searches themselves, together where they look for the same.
fn charts(runs: &[Run]) -> Markup {
    let mut kinds: Vec<Vec<&Run>> = vec![];
    for run in runs {
        let same = |kind: &&mut Vec<&Run>| same_measure(kind[0], run);
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(run),
            None => kinds.push(vec![run]),
        }
    }
    html! {
        @if kinds.len() > 1 {
            p { "Searches that look for different things, or on other data or networks, stand in charts of their own." }
        }
        @for kind in &kinds { (together(kind)) }
    }
}

/// Whether what two searches look for can stand on one axis: measured in the same way of the same networks on the same data.
fn same_measure(one: &Run, other: &Run) -> bool {
    let data = |run: &Run| {
        let input = run.told.record.as_ref().and_then(|record| record.inputs.get("data"));
        input.map(|input| (input.checksum.clone(), input.bytes))
    };
    let (a, b) = (one.config, other.config);
    (&a.space, &a.build, &a.evaluator) == (&b.space, &b.build, &b.evaluator)
        && (&a.objectives, &a.minimize) == (&b.objectives, &b.minimize)
        && data(one) == data(other)
}

/// Searches that look for the same, each under the scale of the first.
fn together(runs: &[&Run]) -> Markup {
    let Some(first) = runs.first() else { return html! {} };
    let worth = Worth::of(first.config, first.entries, first.result);
    let mut all: Vec<(&Run, Vec<Candidate>)> = vec![];
    for run in runs {
        all.push((run, plots::candidates(run.config, run.entries, &worth, run.result)));
    }
    let scale = worth.scale().filter(|_| runs.len() > 1);
    let quantities = plots::quantities(first.config);
    let fronts = quantities.into_iter().map(|quantity| {
        let (x, y) = plots::axes(first.config, quantity, &worth);
        let series = all.iter().enumerate().map(|(ink, (run, candidates))| {
            let mut points: Vec<Point> =
                candidates.iter().filter(|own| own.is_on_front).map(|own| plots::point(own, quantity)).collect();
            points.sort_by(|a, b| a.at[0].total_cmp(&b.at[0]));
            Series::new(run.name.as_str(), ink, Marks::Points(points))
        });
        Chart { title: format!("fronts: {} over {}", y.label, x.label), x, y, series: series.collect() }
    });
    let curves = all.iter().enumerate().filter_map(|(ink, (run, candidates))| {
        let own = candidates.iter().filter(|own| Some(&own.entry.arm) == run.config.arms.first());
        Some(Series::new(run.name.as_str(), ink, Marks::Steps(plots::best_so_far(own, &worth)?)))
    });
    let anytime = plots::best_chart(&worth, curves.collect());
    html! {
        div.figures {
            @for chart in fronts { (figure(&chart, "The fronts of the searches themselves; rest on a point to read what it is.")) }
            (figure(&anytime, "The best so far, over candidates evaluated."))
        }
        @if let Some((name, scale)) = scale {
            p.soft { "What is searched for depends on what else a search met: all are shown with the first one's " (name) ", " (short(scale)) "." }
        }
    }
}
