//! Curves with bands, in SVG.

use std::fmt::Write;

use super::heat_map::escape;

/// A curve: its name, and lower edge of the band, value, upper edge at x = 1, 2, ...
pub type Line = (String, Vec<[f64; 3]>);

/// Colours that most colour-blind readers tell apart (Okabe and Ito 2008).
const INKS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000"];
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
/// Room on the left, right, top and below.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 36.0;
const BELOW: f64 = 48.0;

/// Curves over their number of values, from `first` on.
pub fn line_plot(title: &str, x_axis: &str, y_axis: &str, lines: &[Line], first: usize) -> String {
    let longest = lines.iter().map(|(_, values)| values.len()).max().unwrap_or(0).max(first);
    let shown = lines.iter().flat_map(|(_, values)| values.iter().skip(first.saturating_sub(1))).flatten();
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in shown.filter(|value| value.is_finite()) {
        (low, high) = (low.min(*value), high.max(*value));
    }
    if low >= high {
        (low, high) = (low.min(0.0), high.max(0.0) + 1.0);
    }
    let x = |n: f64| LEFT + (n - first as f64) / (longest as f64 - first as f64).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BELOW - (v - low) / (high - low) * (HEIGHT - TOP - BELOW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    for step in 0..=4 {
        let value = low + (high - low) * f64::from(step) / 4.0;
        let n = first as f64 + (longest as f64 - first as f64) * f64::from(step) / 4.0;
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BELOW);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.3}</text>\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\">{n:.0}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            x(n),
            bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text x=\"14\" y=\"{}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 14 {3})\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        escape(x_axis),
        (TOP + HEIGHT - BELOW) / 2.0,
        escape(y_axis)
    );
    for (number, (name, values)) in lines.iter().enumerate() {
        let ink = INKS[number % INKS.len()];
        let points: Vec<(f64, &[f64; 3])> = values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, v)).collect();
        let points = &points[first.saturating_sub(1).min(points.len())..];
        let path = |which: usize| points.iter().map(move |(n, v)| format!("{:.1} {:.1}", x(*n), y(v[which])));
        let band: Vec<String> = path(0).chain(path(2).collect::<Vec<_>>().into_iter().rev()).collect();
        let curve: Vec<String> = path(1).collect();
        let key = TOP + 16.0 + 18.0 * number as f64;
        let _ = writeln!(
            svg,
            "<path d=\"M{}Z\" fill=\"{ink}\" opacity=\"0.15\"/><path d=\"M{}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\"/>\
             <path d=\"M{LEFT} {key}h20\" transform=\"translate(10 0)\" stroke=\"{ink}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>",
            band.join("L"),
            curve.join("L"),
            LEFT + 36.0,
            key + 4.0,
            escape(name)
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_has_a_band_and_a_name() {
        let line = |name: &str, up: f64| {
            (name.to_owned(), (0..9).map(|i| f64::from(i) * up).map(|v| [v - 1.0, v, v + 1.0]).collect())
        };
        let svg = line_plot("a & b", "x", "y", &[line("one", 1.0), line("<two>", 2.0)], 3);
        assert_eq!((svg.matches("opacity").count(), svg.matches("stroke-width=\"2\"").count()), (2, 4));
        assert!(
            svg.contains("a &amp; b") && svg.contains("&lt;two&gt;") && !svg.contains("NaN") && !svg.contains("inf")
        );
        assert!(!line_plot("none", "x", "y", &[], 1).contains("NaN"));
    }
}
