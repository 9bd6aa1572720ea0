//! Surfaces over a square, by colours and contours, on one scale for all that are shown together; in SVG and as pixels.

use std::fmt::Write;

use super::svg::{Place, begin, colour, escape, short};

/// Side of a surface in pixels.
const SIDE: f64 = 320.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 58.0;
const BELOW: f64 = 44.0;
/// Between surfaces.
const GAP: f64 = 28.0;
/// Contours.
const LEVELS: usize = 12;
/// Pixels of a cell's side in a picture of pixels.
const CELL: usize = 16;

/// Heights over places that are the same from left to right and upwards.
#[derive(Clone, Debug)]
pub struct Surface {
    /// What it is.
    pub name: String,
    /// Row by row from below, as many rows as places.
    pub heights: Vec<Vec<f64>>,
}

/// A scale of heights, by ratios where all are above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// Of all heights that are numbers.
    pub fn of(surfaces: &[Surface]) -> Self {
        let all = surfaces.iter().flat_map(|surface| surface.heights.iter().flatten().copied());
        let (low, high) = all
            .filter(|height| height.abs() < 1e150)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match low <= high {
            true => Scale { low, high, is_log: low > 1e-150 },
            false => Scale { low: 0.0, high: 1.0, is_log: false },
        }
    }

    /// Lowest and highest.
    pub fn ends(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// Where a height stands from 0 to 1; what is no number stands above all.
    fn share(&self, height: f64) -> f64 {
        if !height.is_finite() {
            return 1.0;
        }
        let paper = |v: f64| if self.is_log { v.ln() } else { v };
        let span = paper(self.high) - paper(self.low);
        if span > 0.0 { ((paper(height) - paper(self.low)) / span).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The height at a share.
    fn height(&self, share: f64) -> f64 {
        match self.is_log {
            true => self.low * (self.high / self.low).powf(share),
            false => self.low + share * (self.high - self.low),
        }
    }
}

/// Surfaces beside each other over the same places on both axes.
pub fn surfaces(title: &str, axes: [&str; 2], places: &[f64], all: &[Surface], place: Place) -> String {
    let scale = Scale::of(all);
    let width = LEFT + all.len() as f64 * (SIDE + GAP) + 70.0;
    let height = TOP + SIDE + BELOW;
    let mut svg = begin(width, height, title, place);
    if place == Place::File {
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>", escape(title));
    }
    for (number, surface) in all.iter().enumerate() {
        let left = LEFT + number as f64 * (SIDE + GAP);
        svg += &cells(surface, places, &scale, left);
        for level in (1..LEVELS).map(|n| scale.height(n as f64 / LEVELS as f64)) {
            let d = contour(&surface.heights, level, [left, TOP + SIDE]);
            if !d.is_empty() {
                let _ = writeln!(
                    svg,
                    "<path stroke=\"#000\" stroke-opacity=\".45\" stroke-width=\".8\" fill=\"none\" d=\"{d}\"/>"
                );
            }
        }
        let middle = left + SIDE / 2.0;
        let (bottom, ends) = (TOP + SIDE, [places.first(), places.last()].map(|at| at.map_or(0.0, |at| *at)));
        let _ = writeln!(
            svg,
            "<text class=\"t\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text class=\"t\" x=\"{left}\" y=\"{}\">{}</text><text class=\"t\" x=\"{}\" y=\"{2}\" text-anchor=\"end\">{}</text>\
             <text class=\"t\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            TOP - 10.0,
            escape(&surface.name),
            bottom + 16.0,
            short(ends[0]),
            left + SIDE,
            short(ends[1]),
            bottom + 32.0,
            escape(axes[0]),
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"t\" x=\"16\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {0})\">{1}</text>",
        TOP + SIDE / 2.0,
        escape(axes[1])
    );
    svg + &bar(&scale, width - 62.0) + "</svg>\n"
}

/// The cells of a surface, each of which says its height.
fn cells(surface: &Surface, places: &[f64], scale: &Scale, left: f64) -> String {
    let rows = surface.heights.len().max(1);
    let side = SIDE / rows as f64;
    let mut svg = String::new();
    for (row, heights) in surface.heights.iter().enumerate() {
        for (column, height) in heights.iter().enumerate() {
            let [red, green, blue] = colour(scale.share(*height));
            let (x, y) = (left + column as f64 * side, TOP + SIDE - (row + 1) as f64 * side);
            let at = [places.get(column), places.get(row)].map(|at| at.map_or("?".to_owned(), |at| short(*at)));
            let told = if height.is_finite() { short(*height) } else { "no number".to_owned() };
            // A little wider than a cell, so that no paper shows between them.
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{0:.1}\" height=\"{0:.1}\" fill=\"#{red:02x}{green:02x}{blue:02x}\">\
                 <title>{told} at {1}, {2}</title></rect>",
                side + 0.3,
                at[0],
                at[1]
            );
        }
    }
    svg
}

/// The colours with their heights.
fn bar(scale: &Scale, left: f64) -> String {
    let mut svg = String::new();
    let step = SIDE / 32.0;
    for n in 0..32 {
        let [red, green, blue] = colour((f64::from(n) + 0.5) / 32.0);
        let y = TOP + SIDE - f64::from(n + 1) * step;
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{y:.1}\" width=\"12\" height=\"{:.1}\" fill=\"#{red:02x}{green:02x}{blue:02x}\"/>",
            step + 0.3
        );
    }
    for n in 0..=4 {
        let share = f64::from(n) / 4.0;
        let y = TOP + SIDE * (1.0 - share) + 4.0;
        let _ =
            writeln!(svg, "<text class=\"t\" x=\"{}\" y=\"{y:.1}\">{}</text>", left + 16.0, short(scale.height(share)));
    }
    svg
}

/// Where the surface has a height, as pieces of lines between the middles of its cells (marching squares); `corner` is below on the left.
fn contour(heights: &[Vec<f64>], level: f64, [left, bottom]: [f64; 2]) -> String {
    let side = SIDE / heights.len().max(1) as f64;
    let mut d = String::new();
    for row in 0..heights.len().saturating_sub(1) {
        for column in 0..heights[row].len().min(heights[row + 1].len()).saturating_sub(1) {
            let corners = [(0, 0), (0, 1), (1, 1), (1, 0)].map(|(r, c)| (row + r, column + c));
            let at = |n: usize| heights[corners[n % 4].0][corners[n % 4].1];
            if (0..4).any(|n| !at(n).is_finite()) {
                continue;
            }
            // Where it crosses an edge between two neighbouring corners.
            let cross = |n: usize| {
                let (a, b) = (at(n), at(n + 1));
                ((a < level) != (b < level)).then(|| {
                    let t = (level - a) / (b - a);
                    let place = |(r, c): (usize, usize)| [c as f64 + 0.5, r as f64 + 0.5];
                    let (from, to) = (place(corners[n % 4]), place(corners[(n + 1) % 4]));
                    let [x, y] = [0, 1].map(|i| from[i] + t * (to[i] - from[i]));
                    (left + x * side, bottom - y * side)
                })
            };
            let crossings: Vec<(f64, f64)> = (0..4).filter_map(cross).collect();
            for pair in crossings.chunks_exact(2) {
                let _ = write!(d, "M{:.1} {:.1}L{:.1} {:.1}", pair[0].0, pair[0].1, pair[1].0, pair[1].1);
            }
        }
    }
    d
}

/// Surfaces beside each other as RGB pixels, rows from above: width, height, bytes.
pub fn pixels(all: &[Surface]) -> (usize, usize, Vec<u8>) {
    let scale = Scale::of(all);
    let rows = all.iter().map(|surface| surface.heights.len()).max().unwrap_or(0);
    let columns: usize = all.iter().map(|surface| surface.heights.first().map_or(0, Vec::len)).sum();
    let mut bytes = Vec::with_capacity(3 * rows * columns * CELL * CELL);
    for y in 0..rows * CELL {
        for surface in all {
            let row = surface.heights.len().checked_sub(1 + y / CELL).and_then(|row| surface.heights.get(row));
            let colours = row.into_iter().flatten().map(|height| colour(scale.share(*height)));
            colours.for_each(|own| (0..CELL).for_each(|_| bytes.extend(own)));
        }
    }
    (columns * CELL, rows * CELL, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bowl(size: usize, top: f64) -> Surface {
        let at = |i: usize| 2.0 * i as f64 / (size - 1) as f64 - 1.0;
        let row = |y: usize| (0..size).map(|x| 0.1 + top * (at(x).powi(2) + at(y).powi(2))).collect();
        Surface { name: "a <bowl>".into(), heights: (0..size).map(row).collect() }
    }

    #[test]
    fn contours_of_a_bowl_are_circles() {
        let surface = bowl(41, 1.0);
        let d = contour(&surface.heights, 0.1 + 0.25, [0.0, SIDE]);
        let numbers: Vec<f64> = d.split(['M', 'L', ' ']).filter_map(|n| n.parse().ok()).collect();
        assert!(numbers.len() > 200 && numbers.len().is_multiple_of(4));
        // From the middles of the first to the last cells it is 2 wide.
        let unit = SIDE * 40.0 / 41.0 / 2.0;
        for at in numbers.chunks(2) {
            let r = ((at[0] - SIDE / 2.0).powi(2) + (at[1] - SIDE / 2.0).powi(2)).sqrt() / unit;
            assert!((r - 0.5).abs() < 0.01, "{r}");
        }
        assert!(contour(&surface.heights, 5.0, [0.0, SIDE]).is_empty());
    }

    #[test]
    fn surfaces_share_a_scale_and_say_their_heights() {
        let mut broken = bowl(5, 9.0);
        broken.heights[4][4] = f64::NAN;
        broken.heights[0][0] = f64::INFINITY;
        let all = [bowl(5, 1.0), broken];
        let scale = Scale::of(&all);
        assert!(scale.is_log && scale.ends() == [0.1, 0.1 + 18.0]);
        assert!((scale.share(0.1) - 0.0).abs() < 1e-12 && scale.share(f64::NAN) == 1.0 && scale.share(99.0) == 1.0);
        assert!((scale.height(scale.share(2.0)) - 2.0).abs() < 1e-9);
        let places = [-1.0, -0.5, 0.0, 0.5, 1.0];
        let svg = surfaces("t & u", ["x", "y"], &places, &all, Place::File);
        assert_eq!((svg.matches("<title>").count(), svg.matches("a &lt;bowl&gt;").count()), (50, 2));
        assert!(
            svg.contains("<title>0.1 at 0, 0</title>") && svg.contains("no number at 1, 1") && !svg.contains("NaN")
        );
        assert!(svg.contains("t &amp; u") && !surfaces("", ["x", "y"], &[], &[], Place::Page).contains("inf"));
        let (width, height, bytes) = pixels(&all);
        assert_eq!((width, height, bytes.len()), (10 * CELL, 5 * CELL, 3 * 50 * CELL * CELL));
        // Above on the right of all stands what is no number.
        assert!(bytes[3 * (width - 1)..3 * width] == colour(1.0) && bytes[..3] == colour(scale.share(2.1)));
        let flat = Surface { name: String::new(), heights: vec![vec![3.0; 2]; 2] };
        assert!(Scale::of(&[flat]).share(3.0) == 0.0);
    }
}
