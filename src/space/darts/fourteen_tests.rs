use super::*;
use crate::philox::Stream;
use crate::space::MutationScope;

fn space() -> &'static dyn Space {
    &Darts14
}

/// What CRoZe's authors found on CIFAR-10, as their `train.py` has it.
const FOUND: &str = "{'normal': [('avg_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_5x5', 0), ('dil_conv_3x3', 1), \
    ('max_pool_3x3', 2), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('skip_connect', 2), ('dil_conv_3x3', 3), \
    ('sep_conv_5x5', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 2), ('skip_connect', 3), ('sep_conv_7x7', 4)], \
    'reduction': [('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('conv_7x1_1x7', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), \
    ('conv_7x1_1x7', 0), ('sep_conv_7x7', 1), ('dil_conv_3x3', 2), ('dil_conv_3x3', 3), ('dil_conv_3x3', 0), \
    ('sep_conv_7x7', 1), ('conv_7x1_1x7', 2), ('dil_conv_3x3', 3), ('sep_conv_3x3', 4)], \
    'normal_concat': [4, 5, 3, 4], 'reduction_concat': [3, 2, 5, 5]}";
const SHORT: &str = "17872413758436.4534-15955967776974.3255";

#[test]
fn notations_say_the_same() {
    let arch = space().parse(FOUND).unwrap();
    let genotype = Genotype::try_from(&arch).unwrap();
    assert_eq!(space().abbreviate(&arch), SHORT);
    assert_eq!(genotype.normal.joined, [4, 5, 3, 4]);
    assert_eq!(genotype.reduce.nodes()[1], [(Op::Conv7x1And1x7, 0), (Op::SepConv5x5, 1)]);
    for text in [genotype.to_string(), SHORT.into(), space().show(&arch), space().abbreviate(&arch)] {
        assert_eq!(space().parse(&text).unwrap(), arch, "{text}");
    }
    assert!(space().notation().ends_with(SHORT));
}

/// Nodes that the output joins count as often as they are there, in whichever order.
#[test]
fn the_order_of_joined_nodes_is_none_of_architectures() {
    let of = |joined: &str| space().parse(&SHORT.replace("4534", joined)).unwrap();
    let sorted = Darts14.canonical(&of("4534"));
    assert_eq!(space().abbreviate(&sorted), SHORT.replace("4534", "3445").replace("3255", "2355"));
    assert_eq!(Darts14.canonical(&of("4354")), sorted);
    assert_ne!(Darts14.canonical(&of("345")), sorted);
    assert_eq!((space().distance(&of("4534"), &of("3445")), space().distance(&of("4"), &of("44"))), (0, 2));
    // Fourteen times nine dummies, one number, and four times five dummies of each cell.
    assert_eq!(Darts14.features(&of("4534")).len(), 2 * (14 * 9 + 1 + 20));
    assert_eq!(Darts14.expressed(&of("45")).iter().filter(|counts| !**counts).count(), 2);
}

/// Places beyond as many nodes as are joined are empty, so that names say everything; one that is opened gets any node.
#[test]
fn repair_fills_places() {
    let mut draw = Stream::new(5, 1, 0);
    let mut nodes = [0; 4];
    for _ in 0..400 {
        let mut arch = space().parse(SHORT).unwrap();
        (arch[INPUTS], arch[INPUTS + 4]) = (2, 1);
        arch[INPUTS + 2] = 0;
        assert!(Genotype::try_from(&arch).is_err());
        let arch = space().repaired(arch, &mut draw).unwrap();
        let joined = Genotype::try_from(&arch).unwrap().normal.joined;
        assert_eq!((joined.len(), joined[0], joined[2], arch[INPUTS + 4]), (3, 4, 3, 0));
        nodes[joined[1] - 2] += 1;
    }
    assert!(nodes.iter().all(|count| (70..130).contains(count)), "{nodes:?}");
}

#[test]
fn every_vector_is_an_architecture() {
    let mut draw = Stream::new(3, 1, 0);
    let mut lengths = [0; MOST_JOINED];
    let parent = space().parse(FOUND).unwrap();
    for _ in 0..400 {
        let arch = space().sample(&mut draw).unwrap();
        let genotype = Genotype::try_from(&arch).unwrap();
        assert!(!genotype.normal.ops.contains(&Op::None));
        assert_eq!(space().parse(&genotype.to_string()).unwrap(), arch);
        lengths[genotype.reduce.joined.len() - 1] += 1;
        let child = space().mutate(&parent, 0.1, MutationScope::FirstCell, &mut draw).unwrap();
        assert_eq!(child[CELL..], parent[CELL..]);
    }
    assert!(lengths.iter().all(|count| (70..130).contains(count)), "{lengths:?}");
    assert_eq!((Darts14.count(), space().vectors()), (None, None));
}

#[test]
fn what_is_no_architecture_says_why() {
    let good = Genotype::try_from(&space().parse(FOUND).unwrap()).unwrap().to_string();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (text, part) in [
        (String::new(), "`` is none"),
        (SHORT.replace('-', ""), "a hyphen between"),
        (SHORT.replacen('7', "0", 1), "codes 1 to 9"),
        (SHORT.replace("4534", "45345"), "one to four nodes"),
        (SHORT.replace("4534", "6"), "one to four nodes"),
        (SHORT.replace("4534", ""), "one to four nodes"),
        (replaced("[4, 5, 3, 4]", "[4, 6]"), "normal_concat is [4, 6], expected one to four of the nodes 2 to 5"),
        (replaced("[3, 2, 5, 5]", "[]"), "reduce_concat is []"),
        (replaced(", normal_concat=[4, 5, 3, 4]", ""), "has no `normal_concat`"),
        (replaced("'max_pool_3x3', 2", "'max_pool_3x3', 1"), "input 5 of the normal cell is of node 1, and of node 2"),
        (replaced("'max_pool_3x3', 2", "'max_pool_3x3', 4"), "nodes 0 to 3"),
        (replaced("'max_pool_3x3', 2", "'none', 2"), "other than none"),
        (replaced("'max_pool_3x3', 2", "'max_pool_5x5', 2"), "did you mean `max_pool_3x3`?"),
        (replaced("('avg_pool_3x3', 0), ", ""), "expected 14: two of each of its 7 nodes"),
    ] {
        let message = space().parse(&text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}
