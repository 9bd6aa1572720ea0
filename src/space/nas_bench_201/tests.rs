//! Tests of the encoding, its isomorphisms and its operators.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::MutationScope;
use super::super::testing::Philox;
use super::*;

fn arch(codes: &str) -> Cell {
    codes.parse().unwrap()
}

fn message(text: &str) -> String {
    text.parse::<Cell>().unwrap_err().to_string()
}

#[test]
fn names_indices_and_serde_agree_on_all() {
    let mut previous = None;
    for (index, a) in Cell::all().enumerate() {
        assert_eq!(a.index(), index);
        assert_eq!(a.to_string().parse::<Cell>().unwrap(), a);
        assert_eq!(arch(&a.codes()), a);
        assert!(previous < Some(a), "the order is that of the index");
        previous = Some(a);
    }
    assert_eq!(previous.map(|a| a.index()), Some(SIZE - 1));
    assert_eq!(Cell::from_index(SIZE), None);
    assert_eq!(Cell::from_index(usize::MAX), None);
    let resnet = arch("303101");
    let text = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|";
    assert_eq!(resnet.to_string(), text);
    assert_eq!(serde_json::to_string(&resnet).unwrap(), format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Cell>(&format!("\"{text}\"")).unwrap(), resnet);
    assert!(serde_json::from_str::<Cell>("\"|none~0|\"").is_err());
    assert_eq!("avg_pool_3x3".parse::<Op>().unwrap(), Op::AvgPool3x3);
}

#[test]
fn errors_say_what_and_where() {
    let missing = message("|none~0|+|none~0|+|none~0|none~1|none~2|");
    assert!(missing.contains("edge 1->2 is missing"), "{missing}");
    let name = message("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_conect~0|none~1|none~2|");
    assert!(name.contains("edge 0->3") && name.contains("did you mean `skip_connect`?"), "{name}");
    let source = message("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|");
    assert!(source.contains("edge 1->2 names source node `0`, expected 1"), "{source}");
    assert!(message("|none~0|+|none~0|none|+|none~0|none~1|none~2|").contains("expected `op~1`"));
    assert!(message("|none~0|+none~0|none~1|+|none~0|none~1|none~2|").contains("begin and end with `|`"));
    assert!(message("|none~0|+|none~0|none~1|").contains("has 2 node(s)"));
    assert!(message("|none~0|none~1|+|none~0|none~1|+|none~0|none~1|none~2|").contains("node 1 has 2 edges"));
    assert!(message("").contains("has 0 node(s)"));
    assert!(message("30310").contains("5 digits"));
    assert!(message("303501").contains("digit 4 of `303501` is 5"));
    assert!(message(&"x".repeat(1 << 20)).len() < 300);
}

#[test]
fn there_are_6466_classes() {
    let mut members: BTreeMap<usize, Vec<Cell>> = BTreeMap::new();
    for a in Cell::all() {
        members.entry(a.class()).or_default().push(a);
    }
    assert_eq!(members.len(), CLASSES);
    assert_eq!(members.values().map(Vec::len).max(), Some(275));
    assert_eq!(members.values().filter(|m| m.len() == 1).count(), 5_116);
    for class in members.values() {
        let first = class.iter().min().unwrap();
        assert!(class.iter().all(|a| a.representative() == *first && a.canonical() == first.canonical()));
    }
}

#[test]
fn canonical_by_hand() {
    assert_eq!(arch("000000").canonical(), "#+#+#");
    assert_eq!(arch("111111").canonical(), "0+0+0+0");
    assert_eq!(arch("303101").canonical(), "#+#+((0)@nor_conv_3x3)@nor_conv_3x3+0");
    // Node 1 is cut off, so what leaves it does not matter.
    assert_eq!(arch("013302").canonical(), arch("010342").canonical());
}

#[test]
fn dead_architectures() {
    let dead: Vec<Cell> = Cell::all().filter(|a| !a.has_path()).collect();
    assert_eq!(dead.len(), 341);
    assert_eq!(dead.iter().map(Cell::class).collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(arch("303101").live_edges(), [true, false, true, true, false, true]);
    // 0->1 leads to a node that nothing leaves, 2->3 comes from one that nothing enters.
    assert_eq!(arch("300202").live_edges(), [false, false, false, true, false, false]);
}

#[test]
fn operators_draw_as_they_say() {
    let space: &dyn Space = &NasBench201;
    let mut draw = Philox::new(7, 0, 0);
    let [a, b] = [[0u8; 6], [4; 6]].map(|genes| Arch::from(genes.to_vec()));
    let (mut mutated, mut changed, mut crossed) = (0, 0, 0);
    let mut ops = [0usize; 5];
    for _ in 0..20_000 {
        space.sample(&mut draw).unwrap().iter().for_each(|op| ops[usize::from(*op)] += 1);
        let mut mutate = || space.mutate(&a, 0.1, MutationScope::Whole, &mut draw).unwrap();
        mutated += usize::from(mutate() != a);
        changed += mutate().iter().filter(|op| **op != 0).count();
        let child = space.cross(&a, &b, &mut draw).unwrap();
        assert!(child.iter().all(|op| [0, 4].contains(op)));
        crossed += child.iter().filter(|op| **op == 4).count();
        let near = space.neighbour(&b, &mut draw).unwrap();
        assert_eq!(near.iter().filter(|op| **op != 4).count(), 1);
    }
    // Four standard deviations around 24,000; 1 - .92^6 = .3936; .08 of 120,000; half of 120,000.
    assert!(ops.iter().all(|n| n.abs_diff(24_000) < 560), "{ops:?}");
    assert!(mutated.abs_diff(7_872) < 280, "{mutated}");
    assert!(changed.abs_diff(9_600) < 380, "{changed}");
    assert!(crossed.abs_diff(60_000) < 700, "{crossed}");
    assert_eq!(space.mutate(&b, 0.0, MutationScope::Whole, &mut draw).unwrap(), b);
}

proptest! {
    #[test]
    fn no_text_panics(text in "[|+~a-z_0-9 ]{0,80}") {
        if let Ok(a) = text.parse::<Cell>() {
            prop_assert!(a.to_string() == text.trim() || a.codes() == text.trim());
        }
    }

    #[test]
    fn broken_names_are_refused(index in 0..SIZE, at in 0usize..200, byte in any::<u8>()) {
        let whole = Cell::from_index(index).unwrap();
        let mut text = whole.to_string().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Ok(a) = text.parse::<Cell>() {
            prop_assert_eq!(a.to_string(), text.trim());
        }
    }
}

#[test]
fn genes_and_features() {
    let space: &dyn Space = &NasBench201;
    assert_eq!((space.vectors(), space.count_classes()), (Some(SIZE as u64), Some(CLASSES as u64)));
    for (index, cell) in Cell::all().enumerate().step_by(7) {
        let arch = Arch::from(cell);
        assert_eq!((Cell::try_from(&arch).unwrap(), space.number(&arch)), (cell, index as u64));
        assert_eq!(space.parse(&space.show(&arch)).unwrap(), arch);
        let canonical = space.canonical(&arch);
        assert_eq!(canonical, Arch::from(cell.representative()));
        assert_eq!(space.features(&arch), space.features(&canonical));
        assert_eq!(space.distance(&arch, &canonical), 0);
    }
    for bad in [&[0, 1, 2, 3, 4][..], &[0, 1, 2, 3, 4, 5], &[0; 7]] {
        let arch = Arch::from(bad.to_vec());
        assert!(
            space.check_vector(&arch).is_err() && Cell::try_from(&arch).unwrap_err().to_string().contains("six codes")
        );
    }
    // Three convolutions in a row, one 3x3 and two 1x1, and a skip beside them.
    let row = space.features(&space.parse("302102").unwrap());
    assert_eq!(row.len(), 30);
    assert_eq!(row[24..], [1.0, 2.0, 1.0, 0.0, 3.0, 2.0]);
    assert_eq!(row[..24].iter().sum::<f64>(), 4.0);
    assert!(space.features(&space.parse("000000").unwrap())[..28].iter().all(|v| *v == 0.0));
}

/// A gene counts exactly if some value of it makes another network than some other value.
#[test]
fn genes_that_count() {
    for cell in Cell::all().step_by(53) {
        let expressed = NasBench201.expressed(&cell.into());
        for (edge, counts) in expressed.into_iter().enumerate() {
            let with = |op: &Op| {
                let mut other = cell;
                other.0[edge] = *op;
                other.live_edges().into_iter().zip(other.0).map(|(live, op)| live.then_some(op)).collect::<Vec<_>>()
            };
            let networks: BTreeSet<_> = Op::ALL.iter().map(with).collect();
            assert_eq!(counts, networks.len() > 1, "edge {edge} of {cell}");
        }
    }
}
