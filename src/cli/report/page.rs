//! The page around a report: one file that opens without network, and has no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::visible;
use crate::report::chart::Chart;
use crate::report::diagram;
use crate::report::svg::Place;
use crate::report::table::Table;

const STYLE: &str = include_str!("style.css");

/// A part of a page, with a heading that can be gone to.
pub(super) struct Section {
    /// Its address in the page.
    pub id: &'static str,
    pub title: &'static str,
    pub body: Markup,
}

/// The whole page.
pub(super) fn page(title: &str, head: &Markup, sections: &[Section]) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched, whatever a name in the page would have fetched.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { (title) }
                style { (PreEscaped(diagram::STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                header {
                    (head)
                    nav { @for section in sections { a href={ "#" (section.id) } { (section.title) } } }
                }
                main {
                    @for section in sections {
                        section id=(section.id) { h2 { (section.title) } (section.body) }
                    }
                }
                footer { p { "Written by altiplano " (env!("CARGO_PKG_VERSION")) ". Every figure is in the files beside it." } }
            }
        }
    };
    visible::lines(&markup.into_string())
}

/// A picture with words below it.
pub(super) fn figure(chart: &Chart, caption: &str) -> Markup {
    html! { figure { (PreEscaped(chart.svg(Place::Page))) figcaption { (caption) } } }
}

/// A table; the row of this number is marked.
pub(super) fn table(table: &Table, marked: Option<usize>) -> Markup {
    let class = |column: usize, name: &str| match (name == "architecture", table.is_text(column)) {
        (true, _) => "arch",
        (_, true) => "l",
        _ => "",
    };
    html! {
        div.wide { table {
            thead { tr { @for (column, name) in table.header.iter().enumerate() { th class=(class(column, name)) { (name) } } } }
            tbody {
                @for (number, row) in table.rows.iter().enumerate() {
                    tr.kept[marked == Some(number)] {
                        @for (column, cell) in row.iter().enumerate() {
                            td class=(class(column, table.header.get(column).map_or("", String::as_str))) { (cell) }
                        }
                    }
                }
            }
        } }
    }
}

/// A command that one click selects as a whole.
pub(super) fn command(text: &str) -> Markup {
    html! { pre.copy title="one click selects it" { (text) } }
}

/// A figure with what it is.
pub(super) fn card(value: &str, what: &str) -> Markup {
    html! { div.card { b { (value) } span { (what) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_nothing_else() {
        let name = "<script>alert('\u{202e}x')</script>\u{0}\"";
        let head = html! { h1 title=(name) { (name) } };
        let body =
            table(&Table { title: String::new(), header: vec![name.into()], rows: vec![vec![name.into()]] }, None);
        let page = page(name, &head, &[Section { id: "a", title: "A", body }]);
        assert!(!page.contains("<script") && !page.contains(['\u{202e}', '\u{0}']));
        assert_eq!(page.matches("&lt;script&gt;").count(), 5);
        assert!(page.contains("\\u{202e}x") && page.contains("\\u{0000}&quot;"));
        assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("www.w3.org").count());
    }
}
