//! Tests of pictures at several sizes of terminals.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::super::state::{Arm, Found, Kept, Stage, What};
use super::*;

const SIZES: [[u16; 2]; 3] = [[120, 40], [80, 24], [40, 12]];

fn picture(views: &[&View], place: usize, [width, height]: [u16; 2], inks: &Inks) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, views, place, false, inks)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows: Vec<String> =
        buffer.content.chunks(width).map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect();
    rows.join("\n")
}

fn view() -> View {
    let found = |value: f64, params: u64| Found {
        arch: "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|".into(),
        measure: "flatness".into(),
        value,
        params,
        macs: 10 * params,
    };
    let points = |count: usize| (0..count).map(|i| [1e4 * (1.0 + i as f64), (i as f64).sin()]).collect();
    let curve = |of: &str, k: f64| Losses {
        of: of.into(),
        losses: (1..20).map(|i| [f64::from(i), k / f64::from(i)]).collect(),
    };
    View {
        folder: "runs/demo".into(),
        status: Status::Running,
        what: Some(What {
            method: "genas".into(),
            space: "nas-bench-201".into(),
            data: "digits".into(),
            seed: 1,
            arch: None,
        }),
        stage: Some(Stage {
            name: "evaluating candidates of arm flatness".into(),
            done: 12,
            units: 50,
            per_minute: Some(31.0),
            note: "best 0.0148, 30802 parameters".into(),
        }),
        share: Some(0.42),
        seconds: Some(84.0),
        seconds_left: Some(116.0),
        arms: vec![Arm { name: "flatness".into(), evaluated: 12, evaluations: 50 }],
        best: Some(found(0.0148, 30_802)),
        front: vec![found(0.01, 18_594), found(0.0148, 30_802)],
        scatter: Scatter {
            axes: ["trainable parameters".into(), "flatness".into()],
            beaten: points(30),
            front: points(3),
        },
        losses: vec![curve("supernet", 2.5), curve("network 1", 2.0)],
        ..View::default()
    }
}

#[test]
fn a_run_that_goes_on_is_readable_at_every_size() {
    let inks = Inks::new(false);
    let view = view();
    for size in SIZES {
        let text = text(&picture(&[&view], 0, size, &inks));
        for part in [
            "> running",
            "genas on digits",
            "42 %",
            "1:24",
            "1:56 left",
            "stage",
            "12/50",
            "flatness 0.0148",
            "q quits",
        ] {
            assert!(text.contains(part), "{size:?}: {part} is not in\n{text}");
        }
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }
    // Candidates as dots of braille and points, and losses where there is room for both.
    let large = text(&picture(&[&view], 0, SIZES[0], &inks));
    let small = text(&picture(&[&view], 0, SIZES[1], &inks));
    let is_braille = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
    for (text, both) in [(&large, true), (&small, true)] {
        assert!(text.contains(is_braille) && text.contains('•'), "{text}");
        assert!(text.contains("flatness over trainable parameters"), "{text}");
        assert_eq!(text.contains("training loss over epochs"), both, "{text}");
        assert!(text.contains("best flatness 0.0148") && text.contains("30.8k parameters"), "{text}");
    }
}

#[test]
fn the_end_says_what_is_kept_and_a_failure_why() {
    let inks = Inks::new(false);
    let kept = Kept {
        role: "largest".into(),
        arch: "x".into(),
        params: 91_842,
        accuracy: 98.87,
        corrupted_accuracy: Some(76.85),
    };
    let done = View { status: Status::Done, kept: Some(kept), stage: None, share: Some(1.0), best: None, ..view() };
    let why = Some("cannot write runs/demo/history.jsonl: No space left on device".to_owned());
    let failed = View { status: Status::Failed, why, best: None, ..view() };
    for size in SIZES {
        let text = text(&picture(&[&done], 0, size, &inks));
        assert!(text.contains("+ done in 1:24") && text.contains("100 %") && text.contains("98.9 %"), "{text}");
        let text = self::text(&picture(&[&failed], 0, size, &inks));
        assert!(text.contains("! failed after 1:24"), "{text}");
        assert!(size[1] < 20 || text.replace('\n', " ").contains("No space"), "{text}");
    }
}

#[test]
fn of_many_runs_the_one_that_is_shown_is_in_the_list() {
    let inks = Inks::new(false);
    let views: Vec<View> = (0..60).map(|i| View { folder: format!("runs/seed-{i}."), ..view() }).collect();
    let views: Vec<&View> = views.iter().collect();
    for size in SIZES {
        for place in [0, 1, 30, 59] {
            let buffer = picture(&views, place, size, &inks);
            let text = text(&buffer);
            assert!(
                text.contains(&format!("runs/seed-{place}.")) && text.contains("Tab"),
                "{size:?}, {place}:\n{text}"
            );
            let turned = buffer.content.iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count();
            assert!(turned > 0 && turned <= usize::from(size[0]), "{turned}");
        }
    }
}

/// Whatever is in files, and however small the terminal is.
#[test]
fn nothing_panics() {
    let inks = Inks::new(false);
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -0.0, 1.0];
    let points: Vec<[f64; 2]> = strange.iter().flat_map(|x| strange.iter().map(|y| [*x, *y])).collect();
    let long = "界\u{301}".repeat(300);
    let mut odd = view();
    (odd.scatter.beaten, odd.scatter.front) = (points.clone(), points.clone());
    odd.losses = vec![Losses { of: long.clone(), losses: points }, Losses { of: String::new(), losses: vec![] }];
    (odd.folder, odd.why) = (long.clone(), Some(long.clone()));
    odd.faults = vec![long.clone(); 9];
    odd.stage.as_mut().unwrap().name = long;
    (odd.share, odd.seconds, odd.seconds_left) = (Some(f64::NAN), Some(f64::MAX), Some(f64::INFINITY));
    let empty = View::default();
    let one = View { scatter: Scatter { front: vec![[5.0, 5.0]], ..Scatter::default() }, ..View::default() };
    for size in [[120, 40], [80, 24], [40, 12], [30, 7], [9, 3], [1, 1], [200, 2], [2, 60]] {
        for views in [vec![&odd], vec![&empty], vec![&one], vec![&odd, &empty, &one], vec![]] {
            picture(&views, 0, size, &inks);
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let failed = View { status: Status::Failed, ..view() };
    let views = [&view(), &failed];
    let buffer = picture(&views, 1, SIZES[0], &Inks::new(true));
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let coloured = picture(&views, 1, SIZES[0], &Inks::new(false));
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Indexed(166)));
}
