use super::*;
use crate::graph::Statistics;
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::space::darts::fourteen::MOST_JOINED;
use std::sync::Arc;

/// What CRoZe's authors found on CIFAR-10, CIFAR-100 and ImageNet16-120, with the parameters of their networks of 36 channels and 20
/// cells for 10 classes, as PyTorch counts them.
const FOUND: [(&str, u64); 3] = [
    ("17872413758436.4534-15955967776974.3255", 5_524_894),
    ("26162177564343.2245-48411675172181.3455", 4_671_046),
    ("81341734147436.2534-61573725639271.3345", 4_603_654),
];

fn family(form: &str, side: usize, (channels, cells): (i64, i64)) -> Family {
    let images = ImageInfo { height: side, width: side, channels: 3, classes: 10 };
    let mut build = Build { form: form.into(), ..Darts14.defaults(Purpose::Published, &images) };
    build.options.insert("channels".into(), channels.into());
    build.options.insert("cells".into(), cells.into());
    Family::new(Arc::new(Darts14), build).unwrap()
}

#[test]
fn parameters_are_those_of_the_authors_networks() {
    for (name, params) in FOUND {
        let family = family(FORMS[0], 32, (36, 20));
        let Cost { params: own, macs } = family.cost(&family.parse(name).unwrap()).unwrap();
        assert_eq!(own, params, "{name}");
        assert!(own <= 6_000_000 && macs > 100_000_000, "{name}: {macs}");
    }
}

#[test]
fn nodes_are_read_by_the_output_or_by_others() {
    let family = family(FORMS[0], 32, (4, 3));
    let read_in = |joined: &str| {
        let name = format!("17872413758436.{joined}-15955967776974.3255");
        read(&Genotype::try_from(&family.parse(&name).unwrap()).unwrap().normal).map(u8::from)
    };
    assert_eq!(read_in("2"), [1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read_in("4"), [1, 0, 1, 0, 0, 0, 0]);
    assert_eq!(read_in("5"), [1, 0, 0, 1, 0, 0, 0]);
    assert_eq!(read_in("4534"), [1, 1, 1, 1, 0, 0, 0]);
}

/// Weights and statistics of all nodes are there, and none of a node that nobody reads is in what measures look at.
#[test]
fn idle_nodes_keep_their_tensors() {
    for form in FORMS {
        let family = family(form, 64, (4, 3));
        let arch = family.parse("17872413758436.2-15955967776974.4").unwrap();
        let model = family.network(&arch).unwrap();
        let mut layers = Layers::new(Statistics::Running).unwrap();
        let (x, _) = layers.batch(2, model.input()).unwrap();
        model.forward(&mut layers, x).unwrap();
        let seen: Vec<String> = layers.anatomy.layers.iter().map(|layer| layer.name.clone()).collect();
        let graph = layers.builder.finish();
        let has = |role: Role, name: &str| graph.persistent(role).any(|(_, own)| own.name == name);
        // The last input of a normal and of the first reduction cell, and the only inputs that the output reads.
        for (name, is_seen) in [("cells.0._ops.13", false), ("cells.1._ops.13", false), ("cells.1._ops.4", true)] {
            assert!(has(Role::Weights, &format!("{name}.op.1.weight")), "{name}");
            assert!(has(Role::Running, &format!("{name}.op.3.running_var")), "{name}");
            assert_eq!(seen.contains(&format!("{name}.op.1")), is_seen, "{name}");
        }
        assert!(has(Role::Weights, "cells.1._ops.11.1.weight") && has(Role::Weights, "cells.1._ops.11.3.bias"));
        let dims =
            |name: &str| graph.persistent(Role::Weights).find(|(_, own)| own.name == name).unwrap().1.dims.clone();
        assert_eq!(dims("cells.1._ops.11.1.weight"), [8, 8, 1, 7]);
        assert_eq!(dims("cells.1._ops.11.2.weight"), [8, 8, 7, 1]);
        assert_eq!(dims("classifier.weight"), [10, 16]);
    }
}

#[test]
fn the_smallest_costs_least() {
    let family = family(FORMS[0], 32, (4, 3));
    let least = family.cost(&family.smallest()).unwrap();
    let mut draw = crate::philox::Stream::new(9, 1, 0);
    for _ in 0..20 {
        let other = family.cost(&family.sample(&mut draw).unwrap()).unwrap();
        assert!(other.params >= least.params && other.macs >= least.macs, "{other:?} {least:?}");
    }
    assert_eq!(Genotype::try_from(&family.smallest()).unwrap().reduce.joined.len(), 1);
    assert_eq!(MOST_JOINED, 4);
}
