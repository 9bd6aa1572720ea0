use super::super::darts::{Darts, fourteen::Darts14};
use super::super::mobilenet_v3::MobileNetV3;
use super::super::nas_bench_201::NasBench201;
use super::*;
use crate::error::Result;
use crate::philox::Stream;
use crate::space::Space;

/// Edges of a cell as text, `0-2 conv`.
fn edges(cell: &Cell) -> Vec<String> {
    cell.edges
        .iter()
        .map(|edge| format!("{}-{} {}", edge.from, edge.to, edge.operation).trim_end().to_owned())
        .collect()
}

fn labels(cell: &Cell) -> Vec<&str> {
    cell.nodes.iter().map(|node| &node.label[..]).collect()
}

/// A space that says nothing of its graphs.
struct Bare([Gene; 3]);

impl Space for Bare {
    fn name(&self) -> &str {
        "bare"
    }

    fn genes(&self) -> &[Gene] {
        &self.0
    }

    fn parse(&self, _text: &str) -> Result<Arch> {
        Ok(vec![0; 3].into())
    }

    fn show(&self, arch: &Arch) -> String {
        format!("{:?}", &arch[..])
    }
}

fn bare() -> Bare {
    let level = Gene { options: 4, kind: GeneKind::Level, part: 0 };
    Bare([Gene::category(3), level, Gene { options: 2, kind: GeneKind::Notation, part: 0 }])
}

#[test]
fn edges_lead_to_later_nodes_and_other_networks_look_different() {
    let elastic = MobileNetV3::default();
    let bare = bare();
    let spaces: [&dyn Space; 5] = [&NasBench201, &Darts, &Darts14, &elastic, &bare];
    for space in spaces {
        let mut draw = Stream::new(7, 0, 0);
        let archs: Vec<Arch> = (0..200).map(|_| space.sample(&mut draw).unwrap()).collect();
        // Neighbours differ in as little as can be.
        let near: Vec<Arch> = archs.iter().map(|arch| space.neighbour(arch, &mut draw).unwrap()).collect();
        let drawn: Vec<(Arch, Diagram)> =
            archs.into_iter().chain(near).map(|arch| (space.canonical(&arch), space.diagram(&arch))).collect();
        for (arch, diagram) in &drawn {
            assert!(!diagram.cells.is_empty());
            for cell in &diagram.cells {
                let ordered = |edge: &Edge| edge.from < edge.to && edge.to < cell.nodes.len();
                assert!(cell.edges.iter().all(ordered), "{}: {cell:?}", space.name());
                assert!(cell.nodes.len() <= cell.places);
            }
            for (other, its) in &drawn {
                assert!(arch == other || diagram != its, "{}: {arch:?} {other:?}", space.name());
            }
        }
    }
}

#[test]
fn a_cell_of_six_edges_has_them_all() {
    let text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|";
    let arch = NasBench201.parse(text).unwrap();
    let diagram = NasBench201.diagram(&arch);
    let [cell] = &diagram.cells[..] else { panic!("{diagram:?}") };
    assert_eq!(labels(cell), ["input", "1", "2", "output"]);
    let expected =
        ["0-1 nor_conv_3x3", "0-2 none", "1-2 skip_connect", "0-3 avg_pool_3x3", "1-3 nor_conv_1x1", "2-3 none"];
    assert_eq!(edges(cell), expected);
}

#[test]
fn cells_of_two_inputs_join_their_nodes() {
    let text = "Genotype(normal=[('skip_connect', 1), ('dil_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2), \
        ('dil_conv_3x3', 1), ('dil_conv_3x3', 2), ('sep_conv_3x3', 3), ('skip_connect', 4)], normal_concat=[2, 3, 4, 5], \
        reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 2), ('skip_connect', 2), \
        ('skip_connect', 3), ('avg_pool_3x3', 0), ('dil_conv_5x5', 4)], reduce_concat=[2, 3, 4, 5])";
    let [normal, reduce] = Darts.diagram(&Darts.parse(text).unwrap()).cells.try_into().unwrap();
    assert_eq!((&normal.name[..], &reduce.name[..]), ("normal cell", "reduction cell"));
    assert_eq!(labels(&normal), ["c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "output"]);
    let joins = ["2-6", "3-6", "4-6", "5-6"];
    let operations = [
        "0-2 dil_conv_3x3",
        "1-2 skip_connect",
        "1-3 sep_conv_3x3",
        "2-3 sep_conv_3x3",
        "1-4 dil_conv_3x3",
        "2-4 dil_conv_3x3",
        "3-5 sep_conv_3x3",
        "4-5 skip_connect",
    ];
    assert_eq!(edges(&normal), [&operations[..], &joins].concat());
    assert_eq!(edges(&reduce)[2..4], ["0-3 sep_conv_5x5", "2-3 skip_connect"]);
    assert_eq!(edges(&reduce)[6..8], ["0-5 avg_pool_3x3", "4-5 dil_conv_5x5"]);
}

#[test]
fn cells_of_fourteen_inputs_join_what_they_say_as_often_as_they_do() {
    let of = |text: &str| Darts14.diagram(&Darts14.parse(text).unwrap());
    let diagram = of("17872413758436.4534-15955967776974.3255");
    let normal = &diagram.cells[0];
    assert_eq!((normal.nodes.len(), normal.edges.len()), (10, 14 + 4));
    assert_eq!(edges(normal)[14..], ["3-9", "4-9", "4-9", "5-9"]);
    assert_eq!(diagram, of("17872413758436.3445-15955967776974.5532"));
}

#[test]
fn stages_are_boxes_by_kernel_and_expansion() {
    let space = MobileNetV3::default();
    let arch = space.parse("r=192;d=2,2,2,2,3;k=3,3,5,7,3,3,3,3,3,3,3;e=3,4,6,3,3,3,3,3,3,3,6").unwrap();
    let cells = space.diagram(&arch).cells;
    assert_eq!((cells.len(), &cells[0].nodes[0].label[..], cells[0].nodes[0].height), (6, "r=192", Some(85)));
    assert_eq!(labels(&cells[2]), ["5x5 e6", "7x7 e3"]);
    let [first, second] = &cells[2].nodes[..] else { panic!("{cells:?}") };
    assert_eq!((first.kind.as_deref(), first.height, second.height), (Some("5x5"), Some(100), Some(50)));
    assert_eq!(edges(&cells[5]), ["0-1", "1-2"]);
}

#[test]
fn genes_are_nodes_where_nothing_else_is_said() {
    let diagram = bare().diagram(&vec![2, 3, 1].into());
    let [cell] = &diagram.cells[..] else { panic!("{diagram:?}") };
    assert_eq!((&cell.name[..], labels(cell)), ("bare", vec!["2", "3"]));
    assert_eq!((cell.nodes[0].height, cell.nodes[1].height), (None, Some(100)));
    // What is no architecture yet is drawn all the same.
    assert_eq!(Darts.diagram(&vec![0; 36].into()).cells[0].nodes.len(), 28);
}
