use super::*;
use crate::philox::Stream;
use crate::space::MutationScope;

fn space() -> &'static dyn Space {
    &Darts
}

const FLAT: &str = "3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7";

#[test]
fn there_are_as_many_cells_as_ways_to_choose_two_inputs() {
    // Pairs of j + 2 edges, and seven operations on either.
    let pairs = (0..NODES as u64).map(|node| (node + 2) * (node + 1) / 2);
    assert_eq!(pairs.map(|pairs| pairs * 49).product::<u64>(), CELLS);
    assert_eq!(Darts.count(), Some(1_076_746_950_455_072_400));
    assert_eq!((space().vectors(), space().count_classes()), (None, None));
}

#[test]
fn codes_and_genotypes_say_the_same() {
    let arch = space().parse(FLAT).unwrap();
    let genotype = Genotype::try_from(&arch).unwrap();
    let inputs = [
        [(Op::SkipConnect, 0), (Op::DilConv3x3, 1)],
        [(Op::SepConv3x3, 1), (Op::SepConv3x3, 2)],
        [(Op::DilConv3x3, 1), (Op::DilConv3x3, 2)],
        [(Op::SepConv3x3, 3), (Op::SkipConnect, 4)],
    ];
    assert_eq!(genotype.normal, Cell(inputs));
    assert_eq!(genotype.reduce.0[3], [(Op::SepConv5x5, 2), (Op::DilConv5x5, 4)]);
    assert_eq!(space().show(&arch), FLAT);
    assert_eq!(space().abbreviate(&arch), "36044066000043-52064030600507");
    for text in [genotype.to_string(), FLAT.replace(',', ""), space().abbreviate(&arch), format!("({FLAT})")] {
        assert_eq!(space().parse(&text).unwrap(), arch, "{text}");
    }
    let json = genotype.to_string().replace("Genotype(", "{\"").replace("5])", "5]}").replace('\'', "\"");
    let json = json.replace("=[", "\": [").replace(", normal_", ", \"normal_").replace(", reduce", ", \"reduce");
    assert_eq!(space().parse(&json).unwrap(), arch, "{json}");
}

/// The order of a node's inputs is kept, and makes no other architecture.
#[test]
fn the_order_of_inputs_is_notation() {
    let usual = Genotype::try_from(&space().parse(FLAT).unwrap()).unwrap();
    let mut turned = usual;
    turned.normal.0[2].reverse();
    turned.reduce.0[3].reverse();
    let arch = Arch::from(&turned);
    assert_eq!(Genotype::try_from(&arch).unwrap(), turned);
    assert_eq!(space().show(&arch), turned.to_string());
    assert_eq!(space().parse(&turned.to_string()).unwrap(), arch);
    assert_ne!(arch, Arch::from(&usual));
    assert_eq!(Darts.canonical(&arch), Arch::from(&usual));
    assert_eq!(Darts.features(&arch), Darts.features(&Arch::from(&usual)));
    assert_eq!((space().distance(&arch, &Arch::from(&usual)), Darts.features(&arch).len()), (0, 28 * 8));
    // What a search makes of it is in the usual order.
    let mut draw = Stream::new(1, 2, 3);
    for _ in 0..200 {
        for child in [
            space().mutate(&arch, 0.1, MutationScope::Whole, &mut draw).unwrap(),
            space().cross(&arch, &arch, &mut draw).unwrap(),
            space().neighbour(&arch, &mut draw).unwrap(),
        ] {
            assert!(Genotype::try_from(&child).unwrap().is_usual());
        }
        assert_ne!(space().neighbour(&arch, &mut draw).unwrap(), Darts.canonical(&arch));
    }
}

#[test]
fn repair_leaves_what_is_valid_and_makes_the_rest_uniform() {
    let mut draw = Stream::new(7, 1, 0);
    let arch = space().parse(FLAT).unwrap();
    assert_eq!(space().repaired(arch.clone(), &mut draw).unwrap(), arch);
    // Ways of the first, second and third node's edges, of uniform vectors: 49, 147, 294 of equal chance.
    let draws = 60_000;
    let mut counts: [std::collections::HashMap<Vec<u8>, f64>; 3] = Default::default();
    for _ in 0..draws {
        let arch = space().sample(&mut draw).unwrap();
        Genotype::try_from(&arch).unwrap();
        for (node, counts) in counts.iter_mut().enumerate() {
            let at = first_edge(node);
            *counts.entry(arch[at..at + node + 2].to_vec()).or_default() += 1.0;
        }
    }
    for (counts, ways) in counts.iter().zip([49, 147, 294]) {
        let expected = f64::from(draws) / f64::from(ways);
        assert_eq!(counts.len(), ways as usize);
        let chi: f64 = counts.values().map(|count| (count - expected).powi(2) / expected).sum();
        // Mean ways - 1, deviation the root of twice as much.
        let (mean, deviation) = (f64::from(ways - 1), (2.0 * f64::from(ways - 1)).sqrt());
        assert!((chi - mean).abs() < 4.0 * deviation, "{ways} ways: {chi}");
    }
}

#[test]
fn released_mutation_touches_the_normal_cell_alone() {
    let mut draw = Stream::new(3, 1, 0);
    let parent = space().parse(FLAT).unwrap();
    let mut changed = 0;
    for _ in 0..300 {
        let child = space().mutate(&parent, 0.1, MutationScope::FirstCell, &mut draw).unwrap();
        assert_eq!(child[EDGES..], parent[EDGES..]);
        changed += usize::from(child != parent);
    }
    assert!(changed > 100, "{changed}");
}

#[test]
fn the_smallest_has_no_convolutions() {
    let genotype = Genotype::try_from(&Darts.smallest()).unwrap();
    let all = genotype.cells().map(|cell| cell.0).concat().concat();
    assert!(all.iter().all(|(op, _)| [Op::MaxPool3x3, Op::SkipConnect].contains(op)));
    assert!(genotype.reduce.0.iter().flatten().all(|&(op, source)| op == Op::MaxPool3x3 || source >= 2));
}

#[test]
fn what_is_no_architecture_says_why() {
    let good = Genotype::try_from(&space().parse(FLAT).unwrap()).unwrap().to_string();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (text, part) in [
        (String::new(), "0 numbers, expected 28"),
        ("3,6,0".into(), "3 numbers, expected 28"),
        (format!("{FLAT},1"), "29 numbers"),
        (FLAT.replacen('6', "8", 1), "number 2 is `8`"),
        (FLAT.replacen('6', "x", 1), "number 2 is `x`"),
        (FLAT.replacen('6', "-6", 1), "number 2 is `-6`"),
        (FLAT.replacen('6', "+6", 1), "number 2 is `+6`"),
        (FLAT.replacen("3,6", "36", 1), "27 numbers"),
        (replaced("reduce=", "normal="), "has `normal` twice"),
        (replaced("[2, 3, 4, 5]", "range(18446744073709551615, 3)"), "normal_concat is []"),
        (FLAT.replacen('6', "0", 1), "node 2 of the normal cell has 1 inputs"),
        (FLAT.replacen("3,6,0,4", "3,6,1,4", 1), "node 3 of the normal cell has 3 inputs"),
        (replaced("sep_conv_3x3", "sep_conv_7x7"), "sep_conv_7x7"),
        (replaced("'sep_conv_3x3', 1", "'none', 1"), "operations other than none"),
        (replaced("('dil_conv_3x3', 1)", "('dil_conv_3x3', 5)"), "node 5"),
        (replaced("('dil_conv_3x3', 1)", "('dil_conv_3x3', 0)"), "takes node 0 twice"),
        (replaced("('dil_conv_3x3', 1), ", ""), "7 inputs, expected 8"),
        (replaced("[2, 3, 4, 5]", "[3, 4, 5]"), "normal_concat is [3, 4, 5]"),
        (replaced("[2, 3, 4, 5]", "range(2, 99999999)"), "normal_concat is"),
        (replaced("normal_concat", "normal_concats"), "did you mean `normal_concat`?"),
        (replaced("Genotype(normal", "Genotype(normal normal"), "expected `=`"),
        ("Genotype(normal=".into(), "expected `[`"),
        ("Genotype(normal=[('skip_connect', 99999999999999999999)])".into(), "expected a number"),
        ("Genotype(normal_concat=[2, 3, 4, 5])".into(), "has no `normal`"),
        (format!("{good} and more"), "expected nothing more"),
        (format!("Genotype(normal={}", "[".repeat(5_000)), "expected at most 4096"),
    ] {
        let message = space().parse(&text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}
