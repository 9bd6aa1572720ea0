//! What all pictures share: how text becomes part of one, and how marks are coloured.
//!
//! Marks have classes and no colours of their own: `s0` to `s7` are strokes and `f0` to `f7` fills of a colour by number, `t` is text,
//! `grid` are lines that lead the eye. A picture that is a file brings [`style`]; a page that holds many has one style sheet for all, and
//! so may have a dark form.

/// Colours that most colour-blind readers tell apart (after Okabe and Ito 2008; orange and yellow darkened, to be seen on white).
pub const INKS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#56b4e9", "#8c8c00", "#444444"];

/// Where a picture stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file of its own, on white paper.
    File,
    /// In a page, whose style sheet colours it.
    Page,
}

/// Text that stands for itself in SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The style sheet of a picture in a file.
pub fn style() -> String {
    let inks = INKS.iter().enumerate().map(|(n, ink)| format!(".s{n}{{stroke:{ink}}}.f{n}{{fill:{ink}}}"));
    format!(
        "<style>text{{fill:#000}}path{{fill:none}}.grid{{stroke:#ddd}}.band{{opacity:.15}}.dominated{{opacity:.35}}{}</style>",
        inks.collect::<String>()
    )
}

/// The beginning of a picture.
pub fn begin(width: f64, height: f64, title: &str, place: Place) -> String {
    let (own, paper) = match place {
        Place::File => (
            format!(" width=\"{width:.0}\" height=\"{height:.0}\""),
            format!("{}\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n", style()),
        ),
        Place::Page => (format!(" style=\"max-width:{width:.0}px\" role=\"img\""), String::new()),
    };
    let label = if title.is_empty() { String::new() } else { format!(" aria-label=\"{}\"", escape(title)) };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\"{own} viewBox=\"0 0 {width:.0} {height:.0}\"{label} \
         font-family=\"sans-serif\" font-size=\"12.5\">\n{paper}"
    )
}

/// A colour for a share from 0 to 1: from dark blue over green to light yellow, so that the order survives in print and for most
/// colour-blind readers.
pub fn colour(share: f64) -> [u8; 3] {
    let share = share.clamp(0.0, 1.0);
    let mix = |[a, b, c]: [f64; 3]| {
        let value = if share < 0.5 { a + (b - a) * 2.0 * share } else { b + (c - b) * (2.0 * share - 1.0) };
        value.round() as u8
    };
    [[48.0, 38.0, 250.0], [20.0, 140.0, 230.0], [90.0, 125.0, 80.0]].map(mix)
}

/// A number in few characters: `1.25M`, `320k`, `0.05`.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        0.0 => return "0".to_owned(),
        size if size < 1e-3 => return format!("{value:.1e}"),
        size if size < 0.1 => 4,
        size if size < 1.0 => 3,
        size if size < 100.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.05, 0.125, 0.25, 1.0, 12.345, 120.0, 9_999.0, 12_345.0, 1_250_000.0, 2e9, -34.5, 2.5e-5];
        let shown: Vec<String> = all.iter().map(|value| short(*value)).collect();
        let want =
            ["0", "0.05", "0.125", "0.25", "1", "12.35", "120", "9999", "12.35k", "1.25M", "2G", "-34.5", "2.5e-5"];
        assert_eq!(shown, want);
    }

    #[test]
    fn nothing_of_a_text_is_read_as_markup() {
        assert_eq!(escape("<a b=\"c\" d='e'>&"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert!(begin(10.0, 20.0, "<x>", Place::Page).contains("aria-label=\"&lt;x&gt;\""));
        assert!(begin(10.0, 20.0, "", Place::File).contains("<style>"));
    }
}
