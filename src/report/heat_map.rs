//! Tables of shares as coloured cells, in SVG.

use std::fmt::Write;

use super::svg::{Place, begin, colour, escape};

/// Width and height of a cell, in pixels.
const CELL: (usize, usize) = (64, 22);
/// Most characters of a column's name that fit above its cells.
const WIDEST: usize = 9;
/// Room for the rows' names.
const MARGIN: usize = 170;

/// A table of values between `low` and `high`, dark for low ones (see [`colour`]); each cell shows its value in percent. Missing values leave
/// a cell empty. Columns' names that are wider than a cell stand upright.
///
/// In a page the title is for those who cannot see the map.
pub fn heat_map(
    title: &str,
    columns: &[String],
    rows: &[(String, Vec<Option<f64>>)],
    [low, high]: [f64; 2],
    place: Place,
) -> String {
    let (w, h) = CELL;
    let longest = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let upright = longest > WIDEST;
    let heading = if place == Place::File { 30 } else { 0 };
    let top = heading + if upright { 10 + 7 * longest } else { 20 };
    let (width, height) = (MARGIN + w * columns.len() + 10, top + 10 + h * rows.len());
    let mut svg = begin(width as f64, height as f64, title, place);
    if place == Place::File {
        let _ = writeln!(svg, "<text x=\"10\" y=\"20\" font-size=\"14\">{}</text>", escape(title));
    }
    let mut text = |x: usize, y: usize, anchor: &str, turn: &str, what: &str| {
        let _ = writeln!(
            svg,
            "<text class=\"t\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{turn}>{}</text>",
            escape(what)
        );
    };
    for (j, name) in columns.iter().enumerate() {
        let (x, y) = (MARGIN + w * j + w / 2, top - 6);
        if upright {
            text(x + 4, y, "start", &format!(" transform=\"rotate(-90 {} {y})\"", x + 4), name);
        } else {
            text(x, y, "middle", "", name);
        }
    }
    for (i, (name, _)) in rows.iter().enumerate() {
        text(MARGIN - 8, top + h * i + 16, "end", "", name);
    }
    for (i, (_, values)) in rows.iter().enumerate() {
        for (j, value) in values.iter().enumerate() {
            let Some(value) = value.filter(|v| v.is_finite()) else { continue };
            let share = ((value - low) / (high - low).max(1e-9)).clamp(0.0, 1.0);
            let [red, green, blue] = colour(share);
            let (x, y) = (MARGIN + w * j, top + h * i);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"rgb({red},{green},{blue})\"/>",
                w - 1,
                h - 1
            );
            let ink = if share < 0.6 { "white" } else { "black" };
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" style=\"fill:{ink}\">{:.1}</text>",
                x + w / 2,
                y + 16,
                100.0 * value
            );
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_missing_cells_stay_empty() {
        let rows = [("a<b".to_owned(), vec![Some(0.5), None, Some(f64::NAN)])];
        let svg = heat_map("x & y", &["1".into(), "2".into(), "3".into()], &rows, [0.0, 1.0], Place::File);
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y") && svg.contains(">50.0</text>"));
        assert_eq!(svg.matches("<rect x=").count(), 1);
        assert!(!svg.contains("rotate"));
        assert_eq!(
            heat_map("t", &["cifar10_fgsm_8".into()], &[], [0.0, 1.0], Place::Page).matches("rotate(-90").count(),
            1
        );
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}
