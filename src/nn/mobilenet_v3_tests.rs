use super::*;
use crate::graph::Statistics;
use crate::nn::space::{Family, Registry};
use crate::nn::{count, trained_graph};

/// A family that sees images of one side.
fn family(side: usize, classes: usize, form: &str) -> Family {
    let info = ImageInfo { height: side, width: side, channels: 3, classes };
    let mut build = MobileNetV3::default().defaults(Purpose::Training, &info);
    form.clone_into(&mut build.form);
    Registry::default().open("mobilenet-v3", build).unwrap()
}

/// All layers alike.
fn uniform(kernel: usize, expansion: usize, depth: usize) -> String {
    let list = |number: usize, count: usize| vec![number.to_string(); count].join(",");
    format!("d={};k={};e={}", list(depth, 5), list(kernel, 5 * depth), list(expansion, 5 * depth))
}

const UNIFORM: [(usize, usize, usize); 3] = [(3, 3, 2), (7, 6, 4), (5, 4, 3)];

/// What torchprofile counts more: values of products by a hard swish and by gates, and of means, along rows and then columns.
fn products_and_means(network: &Network) -> u64 {
    let halved = |side: usize| side.div_ceil(2);
    let mut side = halved(network.subnet.resolution);
    let mut more = network.widths.stages[0] * side * side;
    for block in blocks(&network.widths, &network.subnet) {
        let swishes = usize::from(block.swishes);
        more += swishes * usize::from(block.widens()) * block.middle * side * side;
        side = if block.stride == 2 { halved(side) } else { side };
        more += swishes * block.middle * side * side;
        more += usize::from(block.excites) * block.middle * (side * side + side + 1);
    }
    let [wide, mixed] = network.widths.last;
    (more + wide * side * side + wide * (side + 1) + mixed) as u64
}

#[test]
fn parameters_are_the_published_ones() {
    for (classes, want) in [
        (10, [2_142_602, 6_396_570, 3_283_602]),
        (100, [2_257_892, 6_511_860, 3_398_892]),
        (1000, [3_410_792, 7_664_760, 4_551_792]),
    ] {
        for ((kernel, expansion, depth), want) in UNIFORM.into_iter().zip(want) {
            let family = family(64, classes, "ofa");
            let arch = family.parse(&uniform(kernel, expansion, depth)).unwrap();
            assert_eq!(family.cost(&arch).unwrap().params, want);
        }
    }
}

#[test]
fn multiply_adds_are_the_published_ones() {
    for (side, want) in [
        (128, [(40_209_024, 40_592_688), (186_981_120, 188_287_296), (82_832_384, 83_523_552)]),
        (160, [(61_973_328, 62_566_032), (290_050_848, 292_070_400), (128_281_664, 129_349_984)]),
        (192, [(88_574_144, 89_421_520), (416_024_960, 418_913_536), (183_830_784, 185_358_560)]),
        (224, [(120_011_472, 121_159_152), (564_903_456, 568_816_704), (249_479_744, 251_549_280)]),
        (32, [(3_935_184, 3_965_520), (15_198_240, 15_298_176), (7_083_584, 7_137_120)]),
    ] {
        for ((kernel, expansion, depth), (macs, profiled)) in UNIFORM.into_iter().zip(want) {
            let family = family(side, 10, "ofa");
            let arch = family.parse(&uniform(kernel, expansion, depth)).unwrap();
            assert_eq!(family.cost(&arch).unwrap().macs, macs);
            let space = MobileNetV3::with_resolutions(side, side, 4).unwrap();
            let network = Network::new(space.decode(&arch).unwrap(), &family.build).unwrap();
            assert_eq!(macs + products_and_means(&network), profiled);
        }
    }
}

/// The nets of CNAS's repository: what it reports is of networks with other layers than their names say.
#[test]
fn released_networks_have_the_layers_of_others() {
    const KS: [&str; 4] = [
        "3,7,7,7,3,3,3,3,7,7,7,7,5,5,3,7,7,3,7,3",
        "5,3,7,7,3,7,3,5,3,7,7,7,5",
        "7,3,7,3,5,7,5,3,7,3,5,5,5,5,3,5,7",
        "3,3,5,3,5,3,7,5,7,3,7,5,7",
    ];
    const ES: [&str; 4] = [
        "4,4,6,6,4,3,4,3,6,6,6,6,6,4,6,3,4,6,3,3",
        "4,3,4,4,3,3,6,4,4,3,3,6,3",
        "3,3,4,3,4,4,4,6,4,3,4,4,6,6,6,3,4",
        "3,3,6,3,4,6,6,3,4,4,6,3,6",
    ];
    let other = [(44, "4,4,4,4,4"), (72, "2,2,2,3,4"), (44, "4,3,4,3,3"), (84, "3,2,2,3,3")];
    let smallest = uniform(3, 3, 2);
    let cases = other.iter().zip(KS).zip(ES).map(|((&(side, d), k), e)| (side, format!("d={d};k={k};e={e}")));
    let cases: Vec<(usize, String)> = cases.chain([(40, smallest)]).collect();
    let want: [[u64; 2]; 5] = [
        [4_443_122, 4_443_122],
        [5_329_570, 3_729_258],
        [4_583_338, 3_765_570],
        [4_712_522, 3_656_626],
        [3_403_514, 2_142_602],
    ];
    // Thousands of multiply-adds as torchprofile counted them, which left the classifier's 12,800 out; of one without its extras.
    let reported = [Some(21_669), Some(37_207), Some(18_142), None, Some(10_641)];
    for (((side, name), [released, padded]), reported) in cases.into_iter().zip(want).zip(reported) {
        for (form, want) in [("unpadded", released), ("ofa", padded)] {
            let family = family(side, 10, form);
            let arch = family.parse(&name).unwrap();
            let cost = family.cost(&arch).unwrap();
            assert_eq!(cost.params, want, "{form} {name}");
            let space = MobileNetV3::with_resolutions(side, side, 4).unwrap();
            let network = Network::new(space.decode(&arch).unwrap(), &family.build).unwrap();
            let profiled = cost.macs + products_and_means(&network) - 12_800;
            match (form, reported) {
                ("unpadded", Some(reported)) => assert_eq!((profiled + 500) / 1000, reported, "{name}"),
                ("unpadded", None) => assert_eq!(cost.macs, 49_883_256),
                (_, None) => assert_eq!(cost.macs, 41_091_632),
                _ => {}
            }
        }
    }
    // With padding the second and third of these need fewer.
    for (case, macs) in [(1, 29_134_840), (2, 16_517_504)] {
        let family = family(other[case].0, 10, "ofa");
        let arch = family.parse(&format!("d={};k={};e={}", other[case].1, KS[case], ES[case])).unwrap();
        assert_eq!(family.cost(&arch).unwrap().macs, macs);
    }
}

/// Counts by arithmetic are those of graphs, at any width and side.
#[test]
fn counts_are_those_of_graphs() {
    let mut stream = crate::philox::Stream::new(11, 5, 0);
    for (side, width, form) in [
        (32, 1.0, "ofa"),
        (180, 1.0, "ofa"),
        (44, 0.35, "unpadded"),
        (96, 1.2, "ofa"),
        (4, 0.1, "ofa"),
        (132, 0.75, "ofa"),
    ] {
        let mut build = family(side, 7, form).build;
        (build.in_channels, build.options["width"]) = (1, width.into());
        let family = Registry::default().open("mobilenet-v3", build).unwrap();
        for _ in 0..3 {
            let arch = family.sample(&mut stream).unwrap();
            assert_eq!(family.cost(&arch).unwrap(), count::cost(&*family.network(&arch).unwrap()).unwrap());
        }
    }
}

#[test]
fn sides_halve_rounded_up() {
    for (side, want) in [
        (224, [112, 56, 28, 14, 14, 7]),
        (180, [90, 45, 23, 12, 12, 6]),
        (128, [64, 32, 16, 8, 8, 4]),
        (32, [16, 8, 4, 2, 2, 1]),
    ] {
        for kernel in [3, 5, 7] {
            let family = family(side, 10, "ofa");
            let network = family.network(&family.parse(&uniform(kernel, 3, 2)).unwrap()).unwrap();
            let mut layers = Layers::new(Statistics::Running).unwrap();
            let (x, _) = layers.batch(1, network.input()).unwrap();
            network.forward(&mut layers, x).unwrap();
            let sides: Vec<usize> = layers.anatomy.features[..6]
                .iter()
                .map(|feature| layers.builder.shape(feature.tensor).nhwc()[1])
                .collect();
            assert_eq!(sides, want);
        }
    }
}

#[test]
fn channels_are_multiples_of_eight_and_not_much_less() {
    assert_eq!([16.0, 5.0, 11.0, 12.0, 91.9, 92.0, 336.0].map(divisible), [16, 8, 16, 16, 88, 96, 336]);
    // Nine tenths of 24.5 are more than 16, of 17.7 less.
    assert_eq!([17.7, 17.8, 19.9].map(divisible), [16, 24, 24]);
}

#[test]
fn builds_that_cannot_be_are_refused() {
    let good = family(32, 10, "ofa").build;
    let changed = |change: &dyn Fn(&mut Build)| {
        let mut build = good.clone();
        change(&mut build);
        Registry::default().open("mobilenet-v3", build).map(|_| ()).unwrap_err().to_string()
    };
    for (error, why) in [
        (changed(&|build| build.image = [32, 64]), "squares"),
        (changed(&|build| build.image = [30, 30]), "multiples of 4, such as 28"),
        (changed(&|build| build.options["width"] = 9.0.into()), "build.width"),
        (changed(&|build| build.options["step"] = 3.into()), "build.step"),
        (changed(&|build| build.form = "padded".into()), "unpadded"),
        (changed(&|build| _ = build.options.insert("cells".into(), 3.into())), "cells"),
    ] {
        assert!(error.contains(why), "{error}");
    }
}

/// Statistics and weights of a supernet with all matrices, larger than what is cut.
fn supernet(classes: usize, in_channels: usize, width: f64) -> Named {
    let mut build = family(32, classes, "ofa").build;
    (build.in_channels, build.options["width"]) = (in_channels, width.into());
    let space = MobileNetV3::with_resolutions(32, 32, 4).unwrap();
    let largest = Arch::from([vec![2; 45], vec![0]].concat());
    let network = Network::new(space.decode(&largest).unwrap(), &build).unwrap();
    let graph = trained_graph(&network).unwrap();
    let mut named = Named::new();
    let mut next = 0.0f32;
    let mut values = |dims: &[usize]| {
        let data = (0..dims.iter().product::<usize>()).map(|_| {
            next = (next + 0.618_034).fract();
            next - 0.5
        });
        super::super::tensors::Values { dims: dims.to_vec(), data: data.collect() }
    };
    for role in [crate::graph::Role::Weights, crate::graph::Role::Running] {
        for (_, own) in graph.persistent(role) {
            let name = cut::source_of(&network, &own.name);
            if let Some(conv) =
                name.strip_suffix(".conv.weight").filter(|_| name.ends_with(".depth_conv.conv.conv.weight"))
            {
                for (matrix, area) in [("7to5", 25), ("5to3", 9)] {
                    named.insert(format!("{conv}.{matrix}_matrix"), values(&[area, area]));
                }
            }
            named.insert(name, values(&own.dims));
        }
    }
    named
}

#[test]
fn a_subnet_has_the_first_channels_and_transformed_kernels() {
    let theirs = supernet(12, 3, 0.25);
    let mut build = family(32, 10, "ofa").build;
    build.options["width"] = 0.25.into();
    let family = Registry::default().open("mobilenet-v3", build).unwrap();
    let arch = family.parse("d=2,3,4,2,2;k=3,5,7,5,3,7,7,7,7,3,3,3,5;e=3,4,6,3,4,6,3,3,4,4,6,6,3").unwrap();
    let own = family.cut(&theirs, &arch).unwrap().unwrap();
    // The second stage's first block is the supernet's fifth, and this network's third.
    let (mine, its) = ("blocks.3.conv", "blocks.5.conv");
    let wide = &own[&format!("{mine}.inverted_bottleneck.conv.weight")];
    let source = &theirs[&format!("{its}.inverted_bottleneck.conv.conv.weight")];
    assert_eq!((wide.dims[0], source.dims[0]), (48, 48));
    assert_eq!(wide.data, source.data);
    // Expansion 3 in the block behind it: of 96 channels the first 48.
    let narrow = &own["blocks.4.conv.point_linear.conv.weight"];
    let source = &theirs["blocks.6.conv.point_linear.conv.conv.weight"];
    let (rows, from) = (narrow.dims[1], source.dims[1]);
    assert!(rows < from);
    for row in 0..narrow.dims[0] {
        assert_eq!(narrow.data[row * rows..][..rows], source.data[row * from..][..rows]);
    }
    // A 5x5 kernel: the 7x7 one's centre times the matrix, row by row.
    let filter = &own["blocks.4.conv.depth_conv.conv.weight"];
    let source = &theirs["blocks.6.conv.depth_conv.conv.conv.weight"];
    let matrix = &theirs["blocks.6.conv.depth_conv.conv.7to5_matrix"];
    assert_eq!(filter.dims[2], 5);
    for channel in 0..filter.dims[0] {
        for place in 0..25 {
            let centre = |j: usize| source.data[channel * 49 + (j / 5 + 1) * 7 + j % 5 + 1];
            let want: f32 = (0..25).map(|j| matrix.data[place * 25 + j] * centre(j)).sum();
            assert!((filter.data[channel * 25 + place] - want).abs() < 1e-6);
        }
    }
    assert_eq!(own["classifier.linear.weight"].data, theirs["classifier.linear.weight"].data[..10 * 320]);
    // It is all that the network has.
    let graph = trained_graph(&*family.network(&arch).unwrap()).unwrap();
    for role in [crate::graph::Role::Weights, crate::graph::Role::Running] {
        assert!(graph.persistent(role).all(|(_, tensor)| own[&tensor.name].dims == tensor.dims));
    }
}

#[test]
fn supernets_that_do_not_fit_are_named() {
    let space = family(32, 10, "ofa");
    let arch = space.parse(&uniform(3, 4, 3)).unwrap();
    let whole = supernet(10, 3, 1.0);
    assert!(space.cut(&whole, &arch).unwrap().is_some());
    let error = |change: &dyn Fn(&mut Named)| {
        let mut theirs = whole.clone();
        change(&mut theirs);
        space.cut(&theirs, &arch).unwrap_err().to_string()
    };
    let norm = "blocks.7.conv.point_linear.bn.bn.running_var";
    assert!(error(&|theirs| _ = theirs.remove(norm)).contains(norm));
    let matrix = "blocks.7.conv.depth_conv.conv.5to3_matrix";
    assert!(error(&|theirs| _ = theirs.remove(matrix)).contains(matrix));
    assert!(error(&|theirs| theirs.get_mut(matrix).unwrap().dims = vec![81]).contains("[9, 9]"));
    // Layers that are not elastic must be the network's own.
    for width in [0.75, 1.2] {
        let other = space.cut(&supernet(10, 3, width), &arch).unwrap_err().to_string();
        assert!(other.contains(&format!("--build width={width}")), "{other}");
    }
    let stem = space.cut(&supernet(10, 4, 1.0), &arch).unwrap_err().to_string();
    assert!(stem.contains("first_conv.conv.weight") && stem.contains("16, 3, 3, 3"), "{stem}");
    let short = "blocks.7.conv.point_linear.conv.conv.weight";
    let dims = whole[short].dims.clone();
    let error_of = error(&|theirs| theirs.get_mut(short).unwrap().dims = vec![dims[0], 8, dims[1] / 8, 1]);
    assert!(error_of.contains(short) && error_of.contains("or more"), "{error_of}");
    // Names of the authors' earlier code.
    let renamed =
        whole.iter().map(|(name, values)| (name.replacen(".conv.", ".mobile_inverted_conv.", 1), values.clone()));
    let renamed: Named = renamed
        .map(|(name, values)| {
            if name.starts_with("first") || name.starts_with("f") {
                (name.replace(".mobile_inverted_conv.", ".conv."), values)
            } else {
                (name, values)
            }
        })
        .collect();
    assert_eq!(space.cut(&renamed, &arch).unwrap(), space.cut(&whole, &arch).unwrap());
    // Not a supernet.
    let own = space.cut(&whole, &arch).unwrap().unwrap();
    assert!(space.cut(&own, &arch).unwrap().is_none());
    // With too few classes the classifier stays behind.
    let few = space.cut(&supernet(4, 3, 1.0), &arch).unwrap().unwrap();
    assert!(!few.contains_key("classifier.linear.weight") && few.contains_key("feature_mix_layer.conv.weight"));
}
