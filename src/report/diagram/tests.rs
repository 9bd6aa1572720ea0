use std::collections::HashSet;

use super::*;
use crate::philox::Stream;
use crate::space::Space;
use crate::space::darts::{Darts, fourteen::Darts14};
use crate::space::mobilenet_v3::MobileNetV3;
use crate::space::nas_bench_201::NasBench201;

fn spaces() -> [Box<dyn Space>; 4] {
    [Box::new(NasBench201), Box::new(Darts), Box::new(Darts14), Box::new(MobileNetV3::default())]
}

/// Diagrams of random architectures.
fn drawn(space: &dyn Space, count: usize) -> Vec<Diagram> {
    let mut draw = Stream::new(3, 0, 0);
    (0..count).map(|_| space.diagram(&space.sample(&mut draw).unwrap())).collect()
}

/// What stands between `before` and the next `after`, wherever it does.
fn all<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split_once(after)).map(|(inner, _)| inner)
}

#[test]
fn a_thousand_small_drawings_are_small_and_made_of_what_is_defined() {
    for space in spaces() {
        let mut sheet = Sheet::default();
        let small: Vec<String> = drawn(&*space, 1_000).iter().map(|diagram| sheet.small(diagram)).collect();
        let (bytes, definitions) = (small.iter().map(String::len).sum::<usize>() / 1_000, sheet.definitions());
        assert!(bytes <= 500, "{}: {bytes} bytes each", space.name());
        assert!(definitions.len() <= 60_000, "{}: {} bytes of definitions", space.name(), definitions.len());
        let ids: Vec<&str> = all(&definitions, "id=\"", "\"").collect();
        let known: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(known.len(), ids.len());
        for text in small.iter().chain([&definitions]) {
            assert!(all(text, "href=\"#", "\"").all(|id| known.contains(id)));
        }
        assert!(small.iter().all(|text| !text.contains(" id=") && text.contains("role=\"img\"")));
        // The same architectures again define nothing new, and are drawn the same.
        let again: Vec<String> = drawn(&*space, 50).iter().map(|diagram| sheet.small(diagram)).collect();
        assert_eq!((&small[..50], definitions), (&again[..], sheet.definitions()));
    }
}

#[test]
fn small_drawings_of_different_networks_differ() {
    for space in spaces() {
        let mut sheet = Sheet::default();
        let mut draw = Stream::new(5, 0, 0);
        for _ in 0..200 {
            let one = space.sample(&mut draw).unwrap();
            let other = space.neighbour(&one, &mut draw).unwrap();
            let [a, b] = [&one, &other].map(|arch| sheet.small(&space.diagram(arch)));
            assert!(a != b || space.canonical(&one) == space.canonical(&other), "{}: {one:?} {other:?}", space.name());
        }
    }
}

fn attribute(element: &str, name: &str) -> f64 {
    all(element, &format!(" {name}=\""), "\"").next().unwrap().parse().unwrap()
}

/// Left, right, upper and lower edge of each text of a large drawing.
fn boxes(svg: &str) -> Vec<(String, [f64; 4])> {
    let one = |text: &str| {
        let bold = text.contains(" name\"");
        let content = text.split_once('>').unwrap().1;
        let content: String = content.split('<').map(|part| part.rsplit('>').next().unwrap()).collect();
        let width = 0.6 * 13.0 * content.chars().count() as f64;
        let left = attribute(text, "x") - if bold { 0.0 } else { width / 2.0 };
        (content, [left, left + width, attribute(text, "y") - 10.0, attribute(text, "y") + 4.0])
    };
    all(svg, "<text", "</text>").map(one).collect()
}

#[test]
fn names_in_large_drawings_stand_apart_and_inside() {
    for space in spaces() {
        for diagram in drawn(&*space, 200) {
            let svg = Sheet::default().large(&diagram);
            let size: Vec<f64> =
                all(&svg, "viewBox=\"0 0 ", "\"").next().unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
            let texts = boxes(&svg);
            let labels: usize = diagram.cells.iter().map(|cell| cell.nodes.len() + operations(cell).count()).sum();
            assert!(texts.len() >= labels);
            for (at, (name, a)) in texts.iter().enumerate() {
                // Names of edges are beside nodes, and labels in their boxes or below.
                for node in all(&svg, "<rect class=\"n\"", "/>").filter(|_| name.contains("_conv_")) {
                    let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| attribute(node, name));
                    let apart = a[1] <= x || x + width <= a[0] || a[3] <= y || y + height <= a[2];
                    assert!(apart, "{}: {name} {a:?} and {node}", space.name());
                }
                assert!(a[0] >= 0.0 && a[1] <= size[0] && a[2] >= 0.0 && a[3] <= size[1], "{name} in {svg}");
                for (other, b) in &texts[..at] {
                    let apart = a[1] <= b[0] || b[1] <= a[0] || a[3] <= b[2] || b[3] <= a[2];
                    assert!(apart, "{}: {name} {a:?} and {other} {b:?}", space.name());
                }
            }
            assert!(!svg.contains(" id=") && !svg.contains('#'), "{svg}");
        }
    }
}

/// A cell with an edge of each operation between its two nodes.
fn parallel(operations: &[&str], label: &str) -> Diagram {
    let nodes = vec![Node::plain(label), Node { kind: Some(label.into()), ..Node::plain(label) }];
    let edges = operations.iter().map(|operation| Edge::new(0, 1, *operation)).collect();
    Diagram { cells: vec![Cell { name: label.into(), nodes, edges, places: 2 }] }
}

#[test]
fn names_are_escaped() {
    let hostile = "<script>\"'&</script>";
    let diagram = parallel(&[hostile], hostile);
    let mut sheet = Sheet::default();
    for svg in [sheet.small(&diagram), sheet.large(&diagram), sheet.definitions()] {
        assert!(!svg.contains("<script") && !svg.contains("\"\"") && !svg.contains("&<"), "{svg}");
        assert!(!svg.contains("<title>") || svg.contains("&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;"), "{svg}");
    }
    assert_eq!(sheet.legend(), [(hostile.to_owned(), 0)]);
}

#[test]
fn words_beyond_the_colours_have_dashes() {
    let names: Vec<String> = (0..10).map(|n| format!("op{n}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &name[..]).chain(["none", ""]).collect();
    let mut sheet = Sheet::default();
    sheet.small(&parallel(&names, "x"));
    let definitions = sheet.definitions();
    assert!(definitions.contains("\"s1\"") && definitions.contains("\"s1 dash\"") && definitions.contains("\"faint\""));
    let legend = sheet.legend();
    assert_eq!((legend.len(), &legend[9].0[..], &legend[10].0[..]), (11, "op9", "x"));
    assert_eq!(class('f', legend[9].1), "f1 dash");
}

#[test]
fn no_two_edges_lie_on_each_other() {
    let pairs = (0..6).flat_map(|to| (0..to).map(move |from| (from, to)));
    let edges: Vec<Edge> =
        pairs.flat_map(|(from, to)| ["a", "", "a"].map(|operation| Edge::new(from, to, operation))).collect();
    let nodes: Vec<Node> = (0..6).map(|n| Node::plain(n.to_string())).collect();
    let cell = Cell { name: "cell".into(), nodes, edges, places: 6 };
    let row = rows(&Diagram { cells: vec![cell.clone()] }).remove(0);
    let paths: HashSet<String> = sound(&cell).map(|(edge, copy)| row.path(edge, copy)).collect();
    assert_eq!(paths.len(), cell.edges.len());
}

#[test]
fn what_is_no_graph_is_drawn_as_far_as_it_is_one() {
    let mut diagram = parallel(&["a"], "x");
    diagram.cells[0].edges.extend([Edge::new(0, 9, "b"), Edge::new(1, 1, "c"), Edge::new(1, 0, "d")]);
    diagram.cells.push(Cell::default());
    let mut sheet = Sheet::default();
    for (svg, edges) in [(sheet.small(&diagram), 2), (sheet.large(&diagram), 2)] {
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(all(&svg, "<path", ">").count() + all(&svg, "<use", ">").count() / 2, edges, "{svg}");
    }
    for svg in [sheet.small(&Diagram::default()), sheet.large(&Diagram::default())] {
        assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
