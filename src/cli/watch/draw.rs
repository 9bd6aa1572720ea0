//! A run as a picture of the terminal's size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LegendPosition, Paragraph, Wrap};

use super::super::visible::short;
use super::plain;
use super::state::{Losses, Scatter, Status, View};
use crate::report::svg::short as number;

/// Least size of a chart that says anything.
const CHART: [u16; 2] = [30, 7];
/// Width from which on charts stand beside the words.
const WIDE: u16 = 76;
/// Share of the width that words have then, in percent.
const WORDS: u16 = 45;
/// Most curves in one chart.
const CURVES: usize = 6;
/// Most runs that are listed above.
const RUNS: usize = 200;

/// Colours that people tell apart whatever they see of red and green (Okabe and Ito 2008), as near as 256 colours come; or none.
pub(super) struct Inks {
    colours: [Color; 6],
}

const GREY: usize = 5;

impl Inks {
    /// Of this terminal: none if its user wants none (<https://no-color.org>).
    pub fn of_terminal() -> Self {
        Inks::new(std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()))
    }

    pub fn new(is_plain: bool) -> Self {
        // Blue, orange, bluish green, vermilion, sky blue, grey.
        let colours = [32, 214, 36, 166, 74, 245].map(Color::Indexed);
        Inks { colours: if is_plain { [Color::Reset; 6] } else { colours } }
    }

    fn ink(&self, number: usize) -> Style {
        Style::new().fg(self.colours[number % self.colours.len()])
    }

    fn status(&self, status: Status) -> Style {
        let style = match status {
            Status::Running => self.ink(0),
            Status::Done => self.ink(2),
            Status::Waiting => self.ink(GREY),
            Status::Silent | Status::Stopped => self.ink(1),
            Status::Failed | Status::Killed | Status::Lost | Status::Gone => self.ink(3),
        };
        style.add_modifier(Modifier::BOLD)
    }
}

/// A sign for each status, which does without colours.
fn mark(status: Status) -> &'static str {
    match status {
        Status::Waiting => "·",
        Status::Running => ">",
        Status::Silent | Status::Lost => "?",
        Status::Done => "+",
        Status::Failed => "!",
        Status::Stopped => "=",
        Status::Killed | Status::Gone => "x",
    }
}

/// Draws the run at a place among all.
pub(super) fn draw(frame: &mut Frame, views: &[&View], place: usize, is_over: bool, inks: &Inks) {
    let area = frame.area();
    let Some(view) = views.get(place) else {
        frame.render_widget(Paragraph::new("no run"), area);
        return;
    };
    // Of several runs a line each, as long as there is room, the one that is shown among them.
    let lines = if views.len() > 1 { (views.len() as u16).min((area.height / 5).max(1)) } else { 0 };
    let rows = [
        Constraint::Length(lines),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [list, title, gauge, body, keys] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(self::list(views, place, list, inks)), list);
    frame.render_widget(Paragraph::new(self::title(view, title.width, inks)), title);
    frame.render_widget(Paragraph::new(self::gauge(view, gauge.width, inks)), gauge);
    self::body(frame, view, body, inks);
    let over = if is_over { "nothing more to expect; " } else { "" };
    let others = if views.len() > 1 { "Tab next run, " } else { "" };
    let words = format!("{over}{others}q quits");
    frame.render_widget(Paragraph::new(Span::styled(words, inks.ink(GREY))), keys);
}

/// All runs, or those around the one that is shown.
fn list<'a>(views: &[&View], place: usize, area: Rect, inks: &Inks) -> Vec<Line<'a>> {
    let height = usize::from(area.height);
    let first = (place + 1).saturating_sub(height.div_ceil(2)).min(views.len().saturating_sub(height));
    let one = |(number, view): (usize, &&View)| {
        let text = short(&plain::line(view), usize::from(area.width).saturating_sub(2));
        let style = if number == place { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Line::from(vec![
            Span::styled(format!("{} ", mark(view.status)), inks.status(view.status)),
            Span::styled(text, style),
        ])
    };
    views.iter().enumerate().skip(first).take(height.min(RUNS)).map(one).collect()
}

/// What runs, and how it stands.
fn title<'a>(view: &View, width: u16, inks: &Inks) -> Line<'a> {
    let status = plain::status(view, true);
    let left = usize::from(width).saturating_sub(status.chars().count() + 3);
    let what = format!("{}  {}", plain::heading(view), view.folder);
    let mark = Span::styled(format!("{} {status} ", mark(view.status)), inks.status(view.status));
    Line::from(vec![mark, Span::styled(short(&what, left), Style::new().add_modifier(Modifier::BOLD))])
}

/// The share of all that is done, as a bar with its time.
fn gauge<'a>(view: &View, width: u16, inks: &Inks) -> Line<'a> {
    let Some(share) = view.share else { return Line::default() };
    let times = plain::times(view).map_or(String::new(), |times| format!(" {times}"));
    let text = format!(" {:3.0} %{times}", 100.0 * share);
    let cells = usize::from(width).saturating_sub(text.chars().count());
    let full = ((cells as f64 * share).round() as usize).min(cells);
    let bar = Span::styled("█".repeat(full), inks.ink(if view.status == Status::Done { 2 } else { 0 }));
    Line::from(vec![bar, Span::styled("░".repeat(cells - full), inks.ink(GREY)), Span::raw(text)])
}

/// Words, and the charts for which there is room.
fn body(frame: &mut Frame, view: &View, area: Rect, inks: &Inks) {
    let has_scatter = !view.scatter.beaten.is_empty() || !view.scatter.front.is_empty();
    let has_losses = view.losses.iter().any(|curve| !curve.losses.is_empty());
    let charts = usize::from(has_scatter) + usize::from(has_losses);
    let (words, rest) = match (charts, area.width >= WIDE) {
        (0, _) => (area, None),
        (_, true) => {
            let parts = [Constraint::Percentage(WORDS), Constraint::Min(0)];
            let [words, rest] = Layout::horizontal(parts).areas(area);
            (words, Some(rest))
        }
        (_, false) => {
            // Words first: what they leave is for one chart.
            let lines = self::words(view, area.width, inks).len() as u16;
            let parts = [Constraint::Length(lines.min(area.height)), Constraint::Min(0)];
            let [words, rest] = Layout::vertical(parts).areas(area);
            (words, Some(rest))
        }
    };
    let text = self::words(view, words.width.saturating_sub(1), inks);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), words);
    let Some(rest) = rest.filter(|rest| rest.width >= CHART[0] && rest.height >= CHART[1]) else { return };
    // What is new comes where there is room for one: the curves of a training that goes on.
    let both = charts == 2 && rest.height >= 2 * CHART[1];
    let (scatter, losses) = match (both, has_scatter, has_losses) {
        (true, ..) => {
            let [above, below] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(rest);
            (Some(above), Some(below))
        }
        (_, true, false) => (Some(rest), None),
        (_, false, _) => (None, Some(rest)),
        (false, true, true) if view.arms.iter().any(|arm| arm.evaluated > 0) => (Some(rest), None),
        (false, true, true) => (None, Some(rest)),
    };
    if let Some(area) = scatter {
        self::scatter(frame, &view.scatter, area, inks);
    }
    if let Some(area) = losses {
        self::losses(frame, &view.losses, area, inks);
    }
}

/// Everything in words.
fn words<'a>(view: &View, width: u16, inks: &Inks) -> Vec<Line<'a>> {
    let width = usize::from(width);
    let mut lines: Vec<Line> = vec![];
    let mut say = |label: &str, text: String| {
        lines.push(Line::from(vec![Span::styled(format!("{label} "), inks.ink(GREY)), Span::raw(text)]));
    };
    // What is left out where there is little room comes last.
    if let Some(stage) = plain::stage(view, true) {
        say("stage", stage);
    }
    if let Some(why) = &view.why {
        say("why", short(why, 4 * width.max(1)));
    }
    if let Some(kept) = &view.kept {
        say("kept", format!("{}, {} parameters", kept.role, number(kept.params as f64)));
        say(" ", short(&kept.arch, width.saturating_sub(2)));
        say(" ", format!("{:.1} % of test images right", kept.accuracy));
        if let Some(right) = kept.corrupted_accuracy {
            say(" ", format!("{right:.1} % under corruption"));
        }
    }
    if let Some(best) = &view.best {
        say("best", format!("{} {}", best.measure, number(best.value)));
        say(" ", short(&best.arch, width.saturating_sub(2)));
        let costs = format!("{} parameters, {} multiply-adds", number(best.params as f64), number(best.macs as f64));
        say(" ", costs);
    }
    if let Some(last) = view.losses.iter().rev().find_map(|curve| curve.losses.last()) {
        say("loss", format!("{} after {} epochs", number(last[1]), last[0]));
    }
    for arm in &view.arms {
        say("arm", format!("{}: {} of {} candidates", arm.name, arm.evaluated, arm.evaluations));
    }
    if !view.front.is_empty() {
        say("front", format!("{} candidates", view.front.len()));
    }
    if let Some(what) = &view.what {
        say("space", short(&what.space, width.saturating_sub(6)));
        if let Some(arch) = &what.arch {
            say("network", short(arch, width.saturating_sub(8)));
        }
    }
    for fault in view.faults.iter().take(3) {
        say("note", short(fault, 3 * width.max(1)));
    }
    lines
}

/// The least and the largest of finite values, apart; `None` if there is none.
fn bounds(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    // What is as large as this is shown nowhere, but must not spoil the axis.
    let finite = values.filter(|value| value.abs() < 1e30);
    let [low, high] = finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
    if low > high {
        return None;
    }
    let margin = 0.04 * (high - low);
    let margin = if margin > 0.0 { margin } else { (0.05 * low.abs()).max(1e-9) };
    Some([low - margin, high + margin])
}

/// An axis that says where it begins and ends.
fn axis<'a>(bounds: [f64; 2]) -> Axis<'a> {
    Axis::default().bounds(bounds).labels(bounds.map(number))
}

/// Candidates over what they cost, on a logarithmic axis.
fn scatter(frame: &mut Frame, scatter: &Scatter, area: Rect, inks: &Inks) {
    let place = |at: &[f64; 2]| (at[0].max(1e-12).log10(), at[1]);
    let [beaten, front] = [&scatter.beaten, &scatter.front].map(|all| all.iter().map(place).collect::<Vec<_>>());
    let all = || beaten.iter().chain(&front);
    let Some((x, y)) = bounds(all().map(|at| at.0)).zip(bounds(all().map(|at| at.1))) else { return };
    let points = |data, marker: Marker, ink: usize| {
        Dataset::default().data(data).marker(marker).graph_type(GraphType::Scatter).style(inks.ink(ink))
    };
    // What others beat lies below.
    let sets = vec![points(&beaten[..], Marker::Braille, GREY), points(&front[..], Marker::Dot, 1)];
    let key = Line::from(vec![Span::styled(" • front ", inks.ink(1)), Span::styled(" ⠂ beaten ", inks.ink(GREY))]);
    let [across, up] = &scatter.axes;
    let title = short(&format!(" {up} over {across} "), usize::from(area.width).saturating_sub(4));
    let chart = Chart::new(sets)
        .block(Block::bordered().title(title).title_bottom(key.right_aligned()).border_style(inks.ink(GREY)))
        .x_axis(axis(x).labels(x.map(|value| number(10f64.powf(value)))))
        .y_axis(axis(y));
    frame.render_widget(chart, area);
}

/// Losses over epochs.
fn losses(frame: &mut Frame, losses: &[Losses], area: Rect, inks: &Inks) {
    let is_shown = |at: &&[f64; 2]| at.iter().all(|value| value.abs() < 1e30);
    let points = |curve: &Losses| curve.losses.iter().filter(is_shown).map(|at| (at[0], at[1])).collect::<Vec<_>>();
    // The last ones are those that go on.
    let some: Vec<(String, Vec<(f64, f64)>)> =
        losses.iter().rev().take(CURVES).rev().map(|c| (short(&c.of, 16), points(c))).collect();
    let all = || some.iter().flat_map(|(_, points)| points);
    let Some((_, y)) = bounds(all().map(|at| at.0)).zip(bounds(all().map(|at| at.1))) else { return };
    let x = [0.0, all().fold(1.0, |last: f64, at| last.max(at.0))];
    // Where there are no colours, marks tell them apart.
    let markers = [Marker::Braille, Marker::Dot, Marker::HalfBlock];
    let mut sets = vec![];
    for (number, (name, data)) in some.iter().enumerate() {
        let line = Dataset::default().name(name.as_str()).data(data).marker(markers[number % markers.len()]);
        sets.push(line.graph_type(GraphType::Line).style(inks.ink(number)));
    }
    let chart = Chart::new(sets)
        .block(Block::bordered().title(" training loss over epochs ").border_style(inks.ink(GREY)))
        .x_axis(axis(x))
        .y_axis(axis(y))
        .hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(3, 4)))
        .legend_position(Some(LegendPosition::TopRight));
    frame.render_widget(chart, area);
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
