//! Charts: points, curves and bands over two axes, in SVG.

use std::fmt::Write;

use super::svg::{Place, begin, escape, short};

/// Width and height of a chart, in pixels.
const SIZE: [f64; 2] = [560.0, 380.0];
/// Room on the left, on the right and below.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const BELOW: f64 = 48.0;
/// Height of a line of the title or of the key.
const LINE: f64 = 19.0;
/// Width of a letter of the key, on the generous side.
const LETTER: f64 = 7.2;

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Whether equal ratios have equal lengths; only values above 0 are shown then.
    pub is_log: bool,
    /// Which way is better, if one is.
    pub better: Option<Better>,
}

/// Which way of an axis is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Towards smaller values.
    Less,
    /// Towards larger values.
    More,
}

/// A point.
#[derive(Clone, Debug)]
pub struct Point {
    /// Where it is.
    pub at: [f64; 2],
    /// What is said of it to who asks.
    pub tip: String,
    /// The part of the page that tells more.
    pub link: Option<String>,
    /// Whether it stands out.
    pub is_large: bool,
}

/// What a series is drawn as; x ascends.
#[derive(Clone, Debug)]
pub enum Marks {
    /// Points.
    Points(Vec<Point>),
    /// A curve through points.
    Line(Vec<[f64; 2]>),
    /// A value that holds until the next point.
    Steps(Vec<[f64; 2]>),
    /// A curve in a band: x, lower edge, value, upper edge.
    Band(Vec<[f64; 4]>),
}

/// Marks of one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the key; not in the key if empty.
    pub name: String,
    /// Number of its colour.
    pub ink: usize,
    /// What is drawn.
    pub marks: Marks,
    /// Classes of a style sheet that the whole of it has besides.
    pub class: &'static str,
}

impl Series {
    /// A series without further classes.
    pub fn new(name: impl Into<String>, ink: usize, marks: Marks) -> Self {
        Series { name: name.into(), ink, marks, class: "" }
    }
}

/// A chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Above it; in a page only for those who cannot see it.
    pub title: String,
    /// The axis from left to right.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// What is drawn, the first below the others.
    pub series: Vec<Series>,
}

/// An axis with what it shows and where that is on paper.
struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// Shows all of these values between two places on paper.
    fn of(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let shown = values.filter(|value| is_shown(*value, axis.is_log));
        let (mut low, mut high) =
            shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = if axis.is_log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        let paper = |value: f64| if axis.is_log { value.log10() } else { value };
        // One value alone stands in the middle.
        if paper(high) - paper(low) <= 1e-9 * paper(high).abs().max(1e-9) {
            (low, high) = match axis.is_log {
                true => (low / 2.0, high * 2.0),
                false => (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0)),
            };
        }
        let ticks = if axis.is_log { decades(low, high) } else { round_numbers(low, high) };
        Scale { is_log: axis.is_log, low, high, from, to, ticks }
    }

    fn at(&self, value: f64) -> f64 {
        let paper = |value: f64| if self.is_log { value.log10() } else { value };
        self.from + (paper(value) - paper(self.low)) / (paper(self.high) - paper(self.low)) * (self.to - self.from)
    }

    fn shows(&self, value: f64) -> bool {
        is_shown(value, self.is_log)
    }
}

/// Whether a value has a place on paper. Beyond what is said here, differences would overflow.
fn is_shown(value: f64, is_log: bool) -> bool {
    value.abs() < 1e300 && (!is_log || value > 1e-300)
}

/// Four to eight round numbers between two.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 20.0) as usize;
    (0..=count).map(|n| (first + n as f64) * step).collect()
}

/// Powers of ten between two numbers, with 2 and 5 times these where there are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let times: &[f64] = match high / low {
        ratio if ratio < 30.0 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        ratio if ratio < 1e4 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let all = powers.flat_map(|power| times.iter().map(move |n| n * 10f64.powi(power)));
    all.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect()
}

impl Marks {
    /// What has to be seen: x, and all values there.
    fn extent(&self) -> Vec<(f64, Vec<f64>)> {
        match self {
            Marks::Points(points) => points.iter().map(|point| (point.at[0], vec![point.at[1]])).collect(),
            Marks::Line(points) | Marks::Steps(points) => points.iter().map(|[x, y]| (*x, vec![*y])).collect(),
            Marks::Band(points) => points.iter().map(|[x, rest @ ..]| (*x, rest.to_vec())).collect(),
        }
    }
}

impl Chart {
    /// The chart as a picture.
    pub fn svg(&self, place: Place) -> String {
        let [width, height] = SIZE;
        let title = if place == Place::File && !self.title.is_empty() { LINE + 8.0 } else { 4.0 };
        let (key, lines) = self.key(title);
        let top = title + LINE * lines as f64 + 14.0;
        let (right, bottom) = (width - RIGHT, height - BELOW);
        let extent: Vec<(f64, Vec<f64>)> = self.series.iter().flat_map(|series| series.marks.extent()).collect();
        let x = Scale::of(&self.x, extent.iter().map(|(x, _)| *x), LEFT + 8.0, right - 8.0);
        let y = Scale::of(&self.y, extent.iter().flat_map(|(_, y)| y.iter().copied()), bottom - 8.0, top + 8.0);
        let mut svg = begin(width, height, &self.title, place);
        if place == Place::File {
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>", escape(&self.title));
        }
        for tick in &y.ticks {
            let at = y.at(*tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"t\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(*tick)
            );
        }
        for tick in &x.ticks {
            let at = x.at(*tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {bottom}v5\"/><text class=\"t\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                short(*tick)
            );
        }
        let (across, up) = ((LEFT + right) / 2.0, (top + bottom) / 2.0);
        let arrow = |axis: &Axis, less: &str, more: &str| match axis.better {
            Some(Better::Less) => format!("{less} better · {}", escape(&axis.label)),
            Some(Better::More) => format!("{} · better {more}", escape(&axis.label)),
            None => escape(&axis.label),
        };
        let _ = writeln!(
            svg,
            "<text class=\"t\" x=\"{across}\" y=\"{}\" text-anchor=\"middle\">{}</text><text class=\"t\" x=\"14\" y=\"{up}\" \
             text-anchor=\"middle\" transform=\"rotate(-90 14 {up})\">{}</text>",
            height - 10.0,
            arrow(&self.x, "←", "→"),
            arrow(&self.y, "←", "→"),
        );
        svg += &key;
        self.series.iter().for_each(|series| svg += &series.svg(&x, &y));
        svg + "</svg>\n"
    }

    /// Names of the series with their colours, in lines below `top`; how many lines these are.
    fn key(&self, top: f64) -> (String, usize) {
        let (mut at, mut line, mut key) = (LEFT, 0, String::new());
        for series in self.series.iter().filter(|series| !series.name.is_empty()) {
            let width = 34.0 + LETTER * series.name.chars().count() as f64;
            if at + width > SIZE[0] && at > LEFT {
                (at, line) = (LEFT, line + 1);
            }
            let (y, ink) = (top + LINE * (line as f64 + 0.6), series.ink % 8);
            let mark = match series.marks {
                Marks::Points(_) => {
                    format!("<circle class=\"f{ink}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>", at + 9.0)
                }
                _ => format!("<path class=\"s{ink}\" stroke-width=\"2.5\" d=\"M{at:.1} {y:.1}h18\"/>"),
            };
            let name = escape(&series.name);
            let own = format!("{mark}<text class=\"t\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>", at + 24.0, y + 4.0);
            key += &series.classed(own);
            at += width;
        }
        (key, if at > LEFT { line + 1 } else { 0 })
    }
}

impl Series {
    fn svg(&self, x: &Scale, y: &Scale) -> String {
        let ink = self.ink % 8;
        let path = |points: &[[f64; 2]]| -> String {
            let shown = points.iter().filter(|[a, b]| x.shows(*a) && y.shows(*b));
            shown.map(|[a, b]| format!("{:.1} {:.1}", x.at(*a), y.at(*b))).collect::<Vec<_>>().join("L")
        };
        let curve = |d: String| match d.is_empty() {
            true => String::new(),
            false => format!("<path class=\"s{ink}\" stroke-width=\"2\" d=\"M{d}\"/>"),
        };
        let inner = match &self.marks {
            Marks::Points(points) => {
                let shown = points.iter().filter(|point| x.shows(point.at[0]) && y.shows(point.at[1]));
                shown.map(|point| point.svg(ink, [x.at(point.at[0]), y.at(point.at[1])])).collect()
            }
            Marks::Line(points) => curve(path(points)),
            Marks::Steps(points) => {
                let corner = |pair: &[[f64; 2]]| [pair[0], [pair[1][0], pair[0][1]]];
                let all = points.windows(2).flat_map(corner).chain(points.last().copied());
                curve(path(&all.collect::<Vec<_>>()))
            }
            Marks::Band(points) => {
                let edge = |which: usize| points.iter().map(move |point| [point[0], point[which]]);
                let around: Vec<[f64; 2]> = edge(1).chain(edge(3).collect::<Vec<_>>().into_iter().rev()).collect();
                let band = match path(&around) {
                    none if none.is_empty() => none,
                    d => format!("<path class=\"band f{ink}\" d=\"M{d}Z\"/>"),
                };
                band + &curve(path(&edge(2).collect::<Vec<_>>()))
            }
        };
        self.classed(inner)
    }

    /// With the further classes of the series.
    fn classed(&self, inner: String) -> String {
        match self.class {
            "" => inner + "\n",
            class => format!("<g class=\"{class}\">{inner}</g>\n"),
        }
    }
}

impl Point {
    fn svg(&self, ink: usize, [x, y]: [f64; 2]) -> String {
        let radius = if self.is_large { 6.5 } else { 4.0 };
        let tip = if self.tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(&self.tip)) };
        let circle = format!("<circle class=\"f{ink}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">{tip}</circle>");
        match &self.link {
            Some(link) => format!("<a href=\"#{}\">{circle}</a>", escape(link)),
            None => circle,
        }
    }
}

/// Curves in bands over their number of values, from `first` on: lower edge, value and upper edge at x = 1, 2, ...
pub fn bands(title: &str, x: &str, y: &str, lines: &[(String, Vec<[f64; 3]>)], first: usize) -> Chart {
    let series = |(ink, (name, values)): (usize, &(String, Vec<[f64; 3]>))| {
        let all = values.iter().enumerate().skip(first.saturating_sub(1));
        let all = all.map(|(n, [low, value, high])| [(n + 1) as f64, *low, *value, *high]);
        Series::new(name, ink, Marks::Band(all.collect()))
    };
    let axis = |label: &str| Axis { label: label.to_owned(), ..Axis::default() };
    Chart { title: title.to_owned(), x: axis(x), y: axis(y), series: lines.iter().enumerate().map(series).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sound(svg: &str) {
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn every_curve_has_a_band_and_a_name() {
        let line = |name: &str, up: f64| {
            (name.to_owned(), (0..9).map(|i| f64::from(i) * up).map(|v| [v - 1.0, v, v + 1.0]).collect())
        };
        let svg = bands("a & b", "x", "y", &[line("one", 1.0), line("<two>", 2.0)], 3).svg(Place::File);
        assert_eq!((svg.matches("class=\"band").count(), svg.matches("stroke-width=\"2\"").count()), (2, 2));
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;two&gt;"));
        is_sound(&svg);
        is_sound(&bands("none", "x", "y", &[], 1).svg(Place::File));
    }

    #[test]
    fn points_say_what_they_are_and_where_more_is_told() {
        let point = |at: [f64; 2]| Point { at, tip: "a <b>".into(), link: Some("c1".into()), is_large: false };
        let all = [[1e3, 1.0], [1e5, 2.0], [f64::NAN, 1.0], [-1.0, 1.0], [1e4, 1e308], [1e4, -1e308]].map(point).into();
        let axis = Axis { label: "x".into(), is_log: true, better: Some(Better::Less) };
        let series = Series { class: "dominated", ..Series::new("p", 9, Marks::Points(all)) };
        let svg = Chart { x: axis, series: vec![series], ..Chart::default() }.svg(Place::Page);
        // What no logarithm has is not shown; nine colours are eight.
        assert_eq!(svg.matches("<title>a &lt;b&gt;</title>").count(), 2);
        assert!(svg.contains("<a href=\"#c1\"><circle class=\"f1\"") && svg.contains("<g class=\"dominated\">"));
        assert!(svg.contains("← better · x") && !svg.contains("<style>") && svg.contains(">10k<"));
        is_sound(&svg);
    }

    #[test]
    fn steps_hold_their_value_until_the_next() {
        let series = Series::new("", 0, Marks::Steps(vec![[0.0, 1.0], [1.0, 3.0]]));
        let svg = Chart { series: vec![series], ..Chart::default() }.svg(Place::Page);
        let d = svg.split("stroke-width=\"2\" d=\"M").nth(1).unwrap().split('"').next().unwrap();
        let at: Vec<Vec<f64>> =
            d.split('L').map(|pair| pair.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
        assert!(at.len() == 3 && at[1] == [at[2][0], at[0][1]] && at[0] != at[2]);
        // A series without a name takes no room for a key, and one value stands in the middle.
        let one = Series::new("", 0, Marks::Line(vec![[5.0, 5.0]]));
        is_sound(&Chart { series: vec![one], ..Chart::default() }.svg(Place::File));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(round_numbers(0.0, 1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(round_numbers(12.0, 47.0), [20.0, 30.0, 40.0]);
        assert_eq!(decades(1e3, 1e5), [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]);
        for (low, high) in [(-3.0, 900.0), (0.001, 0.0011), (5e6, 5.5e6), (-2e-7, 3e-7)] {
            let ticks = round_numbers(low, high);
            assert!((3..=8).contains(&ticks.len()), "{low} to {high}");
            assert!(ticks.iter().all(|tick| (low..=high).contains(tick) || tick.abs() < 1e-12));
        }
    }
}
