use super::*;
use crate::space::Draw;
use crate::space::testing::Philox;

fn digits(arch: &Arch) -> String {
    arch.chunks(9).map(|stage| stage.iter().map(u8::to_string).collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// Architectures of CNAS's repository and the genes that an encoder of its authors gives them.
const KNOWN: [(&str, &str); 4] = [
    (
        "r=128;d=4,4,4,4,4;k=3,7,7,7,3,3,3,3,7,7,7,7,5,5,3,7,7,3,7,3;e=4,4,6,6,4,3,4,3,6,6,6,6,6,4,6,3,4,6,3,3",
        "202221122 200001010 222222222 211022120 220201200 0",
    ),
    (
        "r=132;d=2,2,2,3,4;k=5,3,7,7,3,7,3,5,3,7,7,7,5;e=4,3,4,4,3,3,6,4,4,3,3,6,3",
        "010001000 022001100 002000000 101002110 222210020 1",
    ),
    (
        "r=180;d=4,3,4,3,3;k=7,3,7,3,5,7,5,3,7,3,5,5,5,5,3,5,7;e=3,3,4,3,4,4,4,6,4,3,4,4,6,6,6,3,4",
        "220200010 112101110 202012101 111101220 101202010 13",
    ),
    (
        "r=224;d=3,2,2,3,3;k=3,3,5,3,5,3,7,5,7,3,7,5,7;e=3,3,6,3,4,6,6,3,4,4,6,3,6",
        "100100020 001000100 002002200 112000110 121202020 24",
    ),
];

#[test]
fn names_are_the_published_genes() {
    let space = MobileNetV3::default();
    for (name, genes) in KNOWN {
        let arch = space.parse(name).unwrap();
        assert_eq!(digits(&arch), genes);
        assert_eq!(space.show(&arch), name);
        assert_eq!(space.canonical(&arch), arch);
    }
    let smallest = space.parse("r=128;d=2,2,2,2,2;k=3,3,3,3,3,3,3,3,3,3;e=3,3,3,3,3,3,3,3,3,3").unwrap();
    assert_eq!(smallest, space.smallest());
    assert_eq!(smallest[..], [0; 46]);
    let largest = Arch::from([vec![2; 45], vec![24]].concat());
    let twenty = |number: &str| vec![number; 20].join(",");
    assert_eq!(space.show(&largest), format!("r=224;d=4,4,4,4,4;k={};e={}", twenty("7"), twenty("6")));
}

#[test]
fn the_authors_notation_is_read() {
    let space = MobileNetV3::default();
    // Of lists for all layers, entries beyond a stage's depth count for nothing.
    let whole = r#"{"ks": [7,3,5,3, 5,7,7,5, 3,7,7,7, 5,5,3,3, 7,7,3,7], "e": [3,6,6,6, 4,6,6,6, 4,4,4,6, 6,4,4,3, 6,4,4,3], "d": [4,3,4,3,2], "r": 192}"#;
    let short = r#"{"ks": [7,3,5,3,5,7,7,3,7,7,7,5,5,3,7,7], "e": [3,6,6,6,4,6,6,4,4,4,6,6,4,4,6,4], "d": [4,3,4,3,2], "r": [192]}"#;
    let name = "r=192;d=4,3,4,3,2;k=7,3,5,3,5,7,7,3,7,7,7,5,5,3,7,7;e=3,6,6,6,4,6,6,4,4,4,6,6,4,4,6,4";
    let arch = space.parse(name).unwrap();
    assert_eq!([space.parse(whole).unwrap(), space.parse(short).unwrap()], [arch.clone(), arch.clone()]);
    // With one resolution it goes without saying.
    let one = MobileNetV3::with_resolutions(64, 64, 4).unwrap();
    let without = name.split_once(';').unwrap().1;
    assert_eq!(one.show(&one.parse(without).unwrap()), name.replace("192", "64"));
}

#[test]
fn what_is_no_architecture_is_said() {
    let space = MobileNetV3::default();
    let good = "r=192;d=2,2,2,2,2;k=3,3,3,3,3,3,3,3,3,3;e=3,3,3,3,3,3,3,3,3,3";
    assert!(space.parse(good).is_ok());
    for (text, why) in [
        (good.replace("192", "190"), "r is 190, expected one of 128, 132, ... 224"),
        (good.replace("d=2,", "d=1,"), "d has 1, expected one of 2, 3, 4"),
        (good.replace("d=2,", "d="), "d has 4 numbers, expected 5"),
        (good.replace("d=2,", "d=3,"), "k has 10 numbers, expected 11"),
        (good.replace("k=3", "k=9"), "k has 9, expected one of 3, 5, 7"),
        (good.replace("e=3", "e=5"), "e has 5, expected one of 3, 4, 6"),
        (good.replace("k=3", "k=-3"), "k has `-3`, expected a number"),
        (good.replace("k=3", "q=3"), "`q=3,3,3,3,3,3,3,3,3,3`, expected r="),
        (good.replace("r=192;", ""), "it says no resolution"),
        (good.replace("r=192", "r=192,192"), "r has 2 numbers"),
        (good.replace("r=192", "r=192;r=192"), "r is there twice"),
        ("d=2,2,2,2,2;r=128".into(), "there is no k="),
        ("{\"ks\": 3}".into(), "invalid type"),
        ("{\"ks\": [], \"e\": [], \"d\": [18446744073709551615, 2, 2, 2, 2], \"r\": 128}".into(), "d has 1844"),
        (String::new(), "it says no resolution"),
    ] {
        let error = space.parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for (most, least, step, why) in [
        (226, 128, 4, "is 226, and sides in this space are multiples of 4, such as 224"),
        (224, 128, 6, "build.step: is 6"),
        (224, 128, 0, "build.step: is 0"),
        (224, 0, 4, "build.smallest: is 0"),
        (4096, 4, 4, "at most 100 steps"),
    ] {
        let error = MobileNetV3::with_resolutions(most, least, step).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn as_many_networks_as_published() {
    let space = MobileNetV3::default();
    assert_eq!(space.networks(), 21_758_655_492_572_485_851 * 25);
    assert_eq!(MobileNetV3::with_resolutions(256, 192, 4).unwrap().resolutions().len(), 17);
    assert_eq!(MobileNetV3::with_resolutions(32, 128, 4).unwrap().resolutions(), [32]);
    // From the largest down, so that it is always there.
    assert_eq!(MobileNetV3::with_resolutions(64, 36, 12).unwrap().resolutions(), [40, 52, 64]);
    assert_eq!((space.genes().len(), space.count()), (46, None));
}

/// Genes of layers that are not there change nothing, and canonical forms are what names say.
#[test]
fn genes_of_layers_that_are_not_there_do_not_count() {
    let space = MobileNetV3::default();
    let plain: &dyn Space = &space;
    let mut draw = Philox::new(7, 1, 2);
    let mut folded = 0;
    for _ in 0..200 {
        let arch: Arch = space.genes().iter().map(|gene| draw.below(gene.options.into()) as u8).collect();
        let canonical = space.canonical(&arch);
        // What is drawn is one of these: names tell all of it.
        let drawn = plain.sample(&mut draw).unwrap();
        assert_eq!(space.parse(&space.show(&drawn)).unwrap(), drawn);
        let next = plain.neighbour(&drawn, &mut draw).unwrap();
        assert!(next != drawn && space.canonical(&next) == next);
        assert_eq!(space.decode(&arch).unwrap(), space.decode(&canonical).unwrap());
        assert_eq!(space.parse(&space.show(&arch)).unwrap(), canonical);
        assert_eq!(space.features(&arch), space.features(&canonical));
        assert_eq!(plain.distance(&arch, &canonical), 0);
        let counted = space.expressed(&arch).iter().filter(|counts| **counts).count();
        let layers: usize = space.decode(&arch).unwrap().stages.iter().map(Vec::len).sum();
        assert_eq!(counted, STAGES + 2 * layers + 1);
        folded += usize::from(arch != canonical);
    }
    assert!(folded > 150, "{folded}");
}

/// Depths are uniform over stages, and the resolution over its values.
#[test]
fn draws_are_uniform() {
    let space = MobileNetV3::default();
    let plain: &dyn Space = &space;
    let mut draw = Philox::new(3, 0, 0);
    let (mut depths, mut resolutions) = ([0usize; 3], [0usize; 25]);
    for _ in 0..5_000 {
        let arch = plain.sample(&mut draw).unwrap();
        arch[..45].iter().step_by(9).for_each(|&gene| depths[usize::from(gene)] += 1);
        resolutions[usize::from(arch[45])] += 1;
    }
    // Five deviations of a binomial count.
    assert!(depths.iter().all(|&count| count.abs_diff(25_000 / 3) < 373), "{depths:?}");
    assert!(resolutions.iter().all(|&count| count.abs_diff(200) < 70), "{resolutions:?}");
}
