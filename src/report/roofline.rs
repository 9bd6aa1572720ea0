//! Rooflines (Williams, Waterman and Patterson 2009): rates of arithmetic over operations per byte, under what memory and
//! arithmetic allow; in SVG.

use std::fmt::Write;

use super::svg::escape;

/// A kernel: its name, operations per byte, and billions of operations a second.
pub type Point = (String, f64, f64);

/// Width of a letter of the list, on the generous side.
const LETTER: f64 = 7.0;
/// Width of the plot itself; the list of names is on its right.
const PLOT: f64 = 560.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const SIDE: f64 = 380.0;
const BELOW: f64 = 50.0;

/// Points under the roof of `gflops` and `gbs`. Points without arithmetic, or without a time, are left out.
pub fn roofline(title: &str, gflops: f64, gbs: f64, points: &[Point]) -> String {
    let real = |v: f64| v.is_finite() && v > 0.0;
    let points: Vec<&Point> = points.iter().filter(|p| real(p.1) && real(p.2)).collect();
    let ridge = gflops / gbs;
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0))
    };
    let (x0, x1) = decades(&mut points.iter().map(|p| p.1).chain([ridge / 3.0, ridge * 30.0]));
    let (y0, y1) = decades(&mut points.iter().map(|p| p.2).chain([gflops, gflops / 300.0]));
    let x = |v: f64| LEFT + (v.log10() - x0) / (x1 - x0) * (PLOT - LEFT);
    let y = |v: f64| TOP + SIDE - (v.log10() - y0) / (y1 - y0) * SIDE;
    let longest = points.iter().map(|p| p.0.chars().count()).max().unwrap_or(0);
    // The number before a name and the share behind it take a dozen letters.
    let width = PLOT + 32.0 + LETTER * (longest + 12) as f64;
    let height = (TOP + SIDE + BELOW).max(TOP + 16.0 * points.len() as f64 + 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    let bottom = TOP + SIDE;
    for decade in x0 as i32..=x1 as i32 {
        let at = x(10f64.powi(decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            10f64.powi(decade)
        );
    }
    for decade in y0 as i32..=y1 as i32 {
        let at = y(10f64.powi(decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{PLOT}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            10f64.powi(decade)
        );
    }
    // Memory's slope from the left edge, or from where it enters the picture, up to the ridge; then arithmetic's roof.
    let enters = 10f64.powf(x0).max(10f64.powf(y0) / gbs);
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}H{PLOT}\" fill=\"none\" stroke=\"black\" stroke-width=\"2\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{gflops:.0} GFLOP/s, {gbs:.0} GB/s</text>",
        x(enters),
        y(enters * gbs),
        x(ridge),
        y(gflops),
        PLOT - 4.0,
        y(gflops) - 6.0
    );
    for (number, (name, intensity, rate)) in points.iter().map(|p| (p.0.as_str(), p.1, p.2)).enumerate() {
        let (px, py, row) = (x(intensity), y(rate), TOP + 16.0 * number as f64 + 10.0);
        let share = 100.0 * rate / gflops.min(intensity * gbs);
        let _ = writeln!(
            svg,
            "<g><title>{0}: {intensity:.2} operations a byte, {rate:.1} GFLOP/s</title><circle cx=\"{px:.1}\" cy=\"{py:.1}\" \
             r=\"4\" fill=\"#0072b2\"/><text x=\"{1:.1}\" y=\"{2:.1}\" font-size=\"9\">{3}</text><text x=\"{4}\" y=\"{row}\">\
             {3}. {0}, {share:.0} %</text></g>",
            escape(name),
            px + 5.0,
            py - 3.0,
            number + 1,
            PLOT + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">operations per byte that must cross memory</text>\
         <text x=\"16\" y=\"{2}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {2})\">GFLOP/s</text>\n</svg>",
        (LEFT + PLOT) / 2.0,
        bottom + 36.0,
        TOP + SIDE / 2.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_under_their_roof() {
        let point = |name: &str, intensity, rate| (name.to_owned(), intensity, rate);
        let points =
            [point("a <b>", 0.5, 50.0), point("c", 100.0, 900.0), point("none", 0.0, 3.0), point("x", 1.0, f64::NAN)];
        let svg = roofline("one & two", 1000.0, 200.0, &points);
        assert_eq!(svg.matches("<circle").count(), 2);
        // Half of what 200 GB/s allow at half an operation a byte, and nine tenths of the arithmetic.
        assert!(svg.contains("1. a &lt;b&gt;, 50 %") && svg.contains("2. c, 90 %"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("one &amp; two"));
        assert!(!roofline("none", 10.0, 10.0, &[]).contains("NaN"));
    }
}
