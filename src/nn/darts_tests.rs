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
    let v1 = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), \
              ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], \
              reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), \
              ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])";
    let v2 = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), \
              ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), \
              reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), \
              ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))";
    assert_eq!(of(v1, 36, 20, 10), Cost { params: 3_169_414, macs: 500_987_520 });
    assert_eq!(of(v2, 36, 20, 10), Cost { params: 3_349_342, macs: 528_359_040 });
    assert_eq!((of(v1, 36, 20, 100).params, of(v2, 36, 20, 100).params), (3_221_344, 3_401_272));
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
}

#[test]
fn a_file_tells_its_build() {
    let images = ImageInfo { height: 8, width: 8, channels: 1, classes: 7 };
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
