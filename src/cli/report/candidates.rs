//! All candidates of a search: a row each, with their networks drawn.

use std::collections::BTreeSet;

use maud::{Markup, PreEscaped, html};

use super::plots::Candidate;
use crate::nn::space::Family;
use crate::report::diagram::{Sheet, class};
use crate::report::svg::short;

/// The key of the drawings' colours.
pub(super) fn key(sheet: &Sheet) -> Markup {
    html! {
        div.key {
            @for (word, ink) in sheet.legend() {
                span { svg viewBox="0 0 22 10" { path class=(class('s', ink)) d="M0 5h22" {} } (word) }
            }
        }
    }
}

/// A network drawn large; nothing of an architecture that the space does not know.
pub(super) fn drawn(family: &Family, arch: &str, sheet: &mut Sheet) -> Option<Markup> {
    let arch = family.parse(arch).ok()?;
    let picture = sheet.large(&family.diagram(&arch));
    Some(html! { figure.wide { (PreEscaped(picture)) } })
}

/// The table of all.
pub(super) fn table(family: &Family, candidates: &[Candidate], sheet: &mut Sheet, kept: Option<&str>) -> Markup {
    let names: BTreeSet<&str> =
        candidates.iter().flat_map(|own| own.entry.measures.keys()).map(String::as_str).collect();
    let mut rows = vec![];
    for (number, candidate) in candidates.iter().enumerate() {
        let entry = candidate.entry;
        let picture = family.parse(&entry.arch).map(|arch| sheet.small(&family.diagram(&arch))).unwrap_or_default();
        let standing = match candidate {
            own if own.entry.fitness.is_nan() => "failed",
            own if !own.worth.is_finite() => "not measured by this",
            own if own.learned_nothing => "learned nothing",
            own if own.is_on_front => "front",
            _ => "",
        };
        let measure = |name: &&str| entry.measures.get(*name).map_or("-".to_owned(), |value| short(*value));
        rows.push(html! {
            tr.kept[kept == Some(entry.arch.as_str())] id={ "c" (number + 1) } {
                td { (number + 1) } td.l { (entry.arm) } td { (entry.generation) } td { (PreEscaped(picture)) }
                td.l { (standing) } td { (short(candidate.worth)) } td { (entry.params) } td { (entry.macs) }
                @for name in &names { td { (measure(name)) } }
                td.arch { (entry.arch) }
            }
        });
    }
    html! {
        details open[candidates.len() <= 60] {
            summary { "All " (candidates.len()) " candidates" }
            div.wide { table {
                thead { tr {
                    th { "number" } th.l { "arm" } th { "generation" } th.l { "network" } th.l { "" } th { "searched for" }
                    th { "parameters" } th { "multiply-adds" }
                    @for name in &names { th { (name) } }
                    th.l { "architecture" }
                } }
                tbody { @for row in &rows { (row) } }
            } }
        }
    }
}
