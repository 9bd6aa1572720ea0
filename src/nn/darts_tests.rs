use super::*;
use crate::graph::store::Contents;
use crate::graph::{Role, Statistics};
use crate::nn::count::{Cost, cost};
use crate::nn::tensors::fresh;

/// Code; parameters of the network for CIFAR (36 channels, 20 cells) with 10 and 100 classes, and its multiply-adds with 10; parameters
/// and multiply-adds of a path of the search (16 channels, 8 cells, 100 classes) without norms behind pools.
type Known = (&'static str, [u64; 3], [u64; 2]);

const KNOWN: [Known; 4] = [
    (
        "3,6,0,4,4,0,6,6,0,0,0,0,4,3, 5,2,0,6,4,0,3,0,6,0,0,5,0,7",
        [3_287_782, 3_339_712, 504_609_408],
        [311_380, 46_511_104],
    ),
    (
        "5,4,4,4,0,4,5,0,0,4,0,0,0,4, 7,7,2,3,0,4,1,0,0,0,0,0,5,6",
        [4_583_998, 4_635_928, 714_734_208],
        [404_340, 63_337_472],
    ),
    (
        "3,5,0,4,4,0,0,4,5,0,4,0,0,7, 6,3,2,0,5,0,5,0,7,0,1,1,0,0",
        [4_043_566, 4_095_496, 636_352_128],
        [363_636, 57_549_824],
    ),
    (
        "3,5,1,4,0,0,4,0,4,0,4,0,0,5, 6,4,0,7,2,1,3,0,0,0,4,0,0,7",
        [3_857_374, 3_909_304, 604_363_392],
        [348_404, 54_588_416],
    ),
];

const V1: &str = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), \
    ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], \
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), \
    ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])";
const V2: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), \
    ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), \
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), \
    ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))";

fn of(text: &str, channels: i64, cells: i64, classes: usize) -> Cost {
    let images = ImageInfo { height: 32, width: 32, channels: 3, classes };
    let mut build = Darts.defaults(Purpose::Published, &images);
    build.options.insert("channels".into(), channels.into());
    build.options.insert("cells".into(), cells.into());
    let family = family(build).unwrap();
    let arch = family.parse(text).unwrap();
    assert_eq!(family.cost(&arch).unwrap(), cost(&*family.network(&arch).unwrap()).unwrap());
    family.cost(&arch).unwrap()
}

/// Of the authors' networks: parameters without auxiliary head, multiply-adds of convolutions and the classifier.
#[test]
fn counts_are_those_of_the_authors_networks() {
    for (code, [ten, hundred, macs], path) in KNOWN {
        assert_eq!(of(code, 36, 20, 10), Cost { params: ten, macs }, "{code}");
        assert_eq!(of(code, 36, 20, 100).params, hundred, "{code}");
        assert_eq!(of(code, 16, 8, 100), Cost { params: path[0], macs: path[1] }, "{code}");
    }
    assert_eq!(of(V1, 36, 20, 10), Cost { params: 3_169_414, macs: 500_987_520 });
    assert_eq!(of(V2, 36, 20, 10), Cost { params: 3_349_342, macs: 528_359_040 });
    assert_eq!((of(V1, 36, 20, 100).params, of(V2, 36, 20, 100).params), (3_221_344, 3_401_272));
}

/// Parameters and multiply-adds of the authors' `NetworkImageNet` with 14 cells for images of 224 pixels and 1000 classes, and the
/// parameters of its auxiliary head.
#[test]
fn counts_for_imagenet_are_those_of_the_authors_networks() {
    let codes = |number: usize| KNOWN[number].0;
    for (text, channels, params, macs, auxiliary) in [
        (codes(0), 52, 5_564_090, 610_058_800, 1_268_968),
        (codes(1), 44, 5_344_118, 592_905_456, 1_252_584),
        (codes(2), 46, 5_195_205, 579_473_040, 1_256_680),
        (codes(3), 48, 5_413_696, 602_400_192, 1_260_776),
        ("5,5,2,5,0,4,4,0,0,0,4,0,0,4, 3,3,0,3,2,3,7,0,0,3,0,0,0,4", 46, 5_425_481, 606_548_088, 1_256_680),
        ("5,4,6,0,5,4,0,0,7,0,7,6,0,0, 5,6,4,0,5,0,6,0,4,0,1,5,0,0", 46, 5_257_581, 579_815_648, 1_256_680),
        (V1, 48, 4_510_432, 505_864_704, 1_260_776),
        (V2, 48, 4_718_752, 529_911_552, 1_260_776),
    ] {
        let images = ImageInfo { height: 224, width: 224, channels: 3, classes: 1000 };
        let build = with_head(IMAGENET, (channels, 14), &images);
        let family = family(build).unwrap();
        let arch = family.parse(text).unwrap();
        assert_eq!(family.cost(&arch).unwrap(), Cost { params, macs }, "{text}");
        assert_eq!(of_head(&*family.network(&arch).unwrap()), auxiliary, "{text}");
    }
}

#[test]
fn counts_of_the_auxiliary_head_are_those_of_the_authors() {
    for (classes, params) in [(10, 476_426), (100, 545_636)] {
        let images = ImageInfo { height: 32, width: 32, channels: 3, classes };
        let own = family(with_head(FORMS[0], (36, 20), &images)).unwrap();
        for (code, [ten, hundred, _], _) in KNOWN {
            let arch = own.parse(code).unwrap();
            assert_eq!(of_head(&*own.network(&arch).unwrap()), params);
            // A network without it is the same but for the head, and so is what a network costs.
            assert_eq!(own.cost(&arch).unwrap().params, if classes == 10 { ten } else { hundred });
        }
    }
}

/// A build with an auxiliary head; `sizes` are channels and cells.
fn with_head(form: &str, sizes: (i64, i64), images: &ImageInfo) -> Build {
    let mut build = Build { form: form.into(), ..Darts.defaults(Purpose::Published, images) };
    build.options.insert("channels".into(), sizes.0.into());
    build.options.insert("cells".into(), sizes.1.into());
    build.options.insert("auxiliary".into(), 0.4.into());
    build
}

/// Parameters of the auxiliary head.
fn of_head(model: &dyn Model) -> usize {
    let mut layers = Layers::new(Statistics::Running).unwrap();
    layers.auxiliary = true;
    let (x, _) = layers.batch(1, model.input()).unwrap();
    let heads = model.forward(&mut layers, x).unwrap();
    assert_eq!(heads.auxiliary.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [0.4]);
    let graph = layers.builder.finish();
    assert_eq!(graph.shape(heads.auxiliary[0].0), graph.shape(heads.logits));
    let head = graph.persistent(Role::Weights).filter(|(_, own)| own.name.starts_with("auxiliary_head."));
    head.map(|(id, _)| graph.shape(id).len()).sum()
}

/// The head has a place where its pool leaves two positions a side.
#[test]
fn auxiliary_heads_say_which_images_they_need() {
    for (form, step, good, sides) in
        [(FORMS[0], 4, [32, 36, 40].as_slice(), "32 to 40"), (IMAGENET, 32, &[224, 256], "224 or 256")]
    {
        for side in (step..=300).step_by(step) {
            let images = ImageInfo { height: side, width: good[0], channels: 3, classes: 10 };
            let result = family(with_head(form, (4, 3), &images));
            let message = result.map(|_| String::new()).unwrap_or_else(|error| error.to_string());
            let expected = if good.contains(&side) { "" } else { sides };
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{side}: {message}");
        }
    }
    let images = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    for (value, part) in
        [(toml::Value::from(-0.4), "a weight of 0"), (f64::NAN.into(), "NaN"), ("on".into(), "a number")]
    {
        let mut build = with_head(FORMS[0], (4, 3), &images);
        build.options.insert("auxiliary".into(), value);
        let message = family(build).unwrap_err().to_string();
        assert!(message.contains("build.auxiliary") && message.contains(part), "{message}");
    }
    // As earlier versions wrote builds.
    let mut build = with_head(FORMS[0], (4, 3), &images);
    build.options.remove("auxiliary");
    assert_eq!(Sizes::of(&family(build).unwrap().build).unwrap().auxiliary, 0.0);
}

#[test]
fn builds_that_make_no_network_are_refused() {
    let images = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    let refused = |option: &str, value: i64, image: [usize; 2]| {
        let mut build = Build { image, ..Darts.defaults(Purpose::Training, &images) };
        build.options.insert(option.into(), value.into());
        family(build).unwrap_err().to_string()
    };
    for (option, value, image, part) in [
        ("channels", 7, [32, 32], "even number"),
        ("channels", 0, [32, 32], "build.channels"),
        ("cells", 2, [32, 32], "build.cells"),
        ("cells", 8, [30, 32], "30x32"),
        ("channel", 8, [32, 32], "did you mean `channels`?"),
    ] {
        let message = refused(option, value, image);
        assert!(message.contains(part), "{message}");
    }
    let imagenet = Build { form: IMAGENET.into(), image: [224, 100], ..Darts.defaults(Purpose::Training, &images) };
    let message = family(imagenet).unwrap_err().to_string();
    assert!(message.contains("224x100, expected multiples of 32"), "{message}");
}

#[test]
fn a_file_tells_its_build() {
    let images = ImageInfo { height: 32, width: 32, channels: 1, classes: 7 };
    for form in FORMS {
        let mut build = Build { form: form.into(), ..Darts.defaults(Purpose::Training, &images) };
        build.options.insert("channels".into(), 6.into());
        let own = family(build.clone()).unwrap();
        let network = own.network(&own.smallest()).unwrap();
        let mut layers = Layers::new(Statistics::Running).unwrap();
        let (x, _) = layers.batch(1, network.input()).unwrap();
        network.forward(&mut layers, x).unwrap();
        let contents = Contents::of(&layers.builder.finish(), &[Role::Weights, Role::Running]).unwrap();
        let named: Named = fresh(&contents, 1);
        let mut told = Darts.defaults(Purpose::Published, &ImageInfo { channels: 3, classes: 10, ..images });
        Darts.recognise(&named, &mut told);
        assert_eq!(told, build);
    }
}

/// All inputs of nodes may be dropped but connections that do nothing; of the first code there are 2 of those in a normal cell and, since
/// those from a cell's inputs halve the sides, none in a reduction.
#[test]
fn inputs_of_nodes_are_dropped_in_training() {
    let images = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    for form in FORMS {
        let mut build = Build { form: form.into(), ..Darts.defaults(Purpose::Training, &images) };
        build.options.insert("cells".into(), 5.into());
        let family = family(build).unwrap();
        let genotype = Genotype::try_from(&family.parse(KNOWN[0].0).unwrap()).unwrap();
        let dropped = |cell: &Cell, is_reduction: bool| {
            let inputs = cell.0.iter().flatten();
            inputs.filter(|(op, source)| *op != Op::SkipConnect || (is_reduction && *source < 2)).count() as u32
        };
        let want = 3 * dropped(&genotype.normal, false) + 2 * dropped(&genotype.reduce, true);
        let network = family.network(&family.parse(KNOWN[0].0).unwrap()).unwrap();
        let mut layers = Layers::new(Statistics::Batch { update: true }).unwrap();
        layers.drop_path = true;
        let (x, _) = layers.batch(2, network.input()).unwrap();
        network.forward(&mut layers, x).unwrap();
        assert!(layers.paths == want && want < 40, "{} paths, expected {want}", layers.paths);
    }
}
