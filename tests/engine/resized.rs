//! Networks that see images larger than they are, each at its own size.

use altiplano::corrupt::{Constants, Kind, Severity};
use altiplano::data::resize::{Filter, resize};
use altiplano::data::{ChannelStatistics, Images, load};
use altiplano::graph::{Role, Statistics};
use altiplano::measure::corruption::{Origin, evaluate_wait, grid};
use altiplano::measure::forward::{Forward, Subject, by_chunk, graph};
use altiplano::measure::judge::{Network as Trained, WeightNoise, noisy_scores_wait};
use altiplano::nn::Model;
use altiplano::nn::space::{Build, Family, Options, Registry};
use altiplano::nn::tensors::download_wait;
use altiplano::philox::Stream;
use altiplano::train::feed::{Augmentation, Feed, Hole, Pick};
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

/// Random pictures.
fn pictures([height, width, channels]: [usize; 3], count: usize) -> Images {
    let mut stream = Stream::new(5, 1, 0);
    let pixels = (0..count * height * width * channels).map(|_| stream.below(256) as u8).collect();
    let class_names = vec!["a".to_owned(), "b".to_owned()];
    Images::new([height, width, channels], class_names, pixels, vec![1; count]).unwrap()
}

fn one_each(inputs: &[[usize; 3]]) -> Vec<Vec<[usize; 3]>> {
    inputs.iter().map(|input| vec![*input]).collect()
}

/// The byte that a network sees of a picture at its size, through shift, flip and hole; none in the hole.
fn seen(picture: &[u8], [h, w, c]: [usize; 3], pick: &Pick, [row, column, channel]: [usize; 3]) -> Option<u8> {
    let Hole { row: hole_row, column: hole_column, side } = pick.hole;
    let side = usize::from(side);
    let within = |at: usize, centre: u16| at + side / 2 >= centre.into() && at + side / 2 < usize::from(centre) + side;
    if within(row, hole_row) && within(column, hole_column) {
        return None;
    }
    let across = if pick.flip { w - 1 - column } else { column };
    let place = |at: usize, shift: i8, side: usize| at.checked_add_signed(-isize::from(shift)).filter(|&at| at < side);
    let source = place(row, pick.dy, h).zip(place(across, pick.dx, w));
    Some(source.map_or(0, |(row, column)| picture[(row * w + column) * c + channel]))
}

#[test]
fn devices_make_pictures_larger_as_the_host_does() {
    let gpu = common::gpu();
    for (source, inputs, filter) in [
        ([32, 32, 3], vec![[44, 44, 3], [32, 32, 3], [36, 60, 3]], Filter::Bilinear),
        ([13, 41, 1], vec![[30, 17, 1], [16, 43, 1]], Filter::Bicubic),
        ([8, 6, 5], vec![[8, 7, 5]], Filter::Bilinear),
    ] {
        let images = pictures(source, 4);
        let supply = Supply::new(gpu, &images).unwrap().with_filter(filter);
        let statistics = ChannelStatistics { mean: vec![0.25; source[2]], std: vec![0.5; source[2]] };
        let setting = Setting { gpu, preset: common::preset(), data: &supply, statistics: &statistics };
        let (feed, _) = Feed::beside(&setting, &one_each(&inputs), 3, vec![]).unwrap();
        let hole = Hole { row: 3, column: 5, side: 4 };
        let picks = [
            Pick::plain(2),
            Pick { dx: 3, dy: -2, flip: true, ..Pick::plain(0) },
            Pick { dx: -1, dy: 4, hole, ..Pick::plain(3) },
        ];
        (0..inputs.len()).for_each(|copy| feed.set(copy, &picks).unwrap());
        let mut recorder = gpu.record();
        feed.record(&mut recorder);
        recorder.submit();
        for (copy, &[h, w, c]) in inputs.iter().enumerate() {
            let x = &download_wait(gpu, feed.store(copy).unwrap(), 0).unwrap()["x"];
            assert_eq!(x.dims, [3, c, h, w]);
            for (number, pick) in picks.iter().enumerate() {
                let image = pick.image.unwrap();
                let length = source.iter().product::<usize>();
                let picture =
                    resize(&images.held().unwrap()[image * length..][..length], source, [h, w], filter).unwrap();
                for place in 0..c * h * w {
                    let (channel, row, column) = (place / (h * w), place / w % h, place % w);
                    let value = f64::from(x.data[number * c * h * w + place]);
                    let byte = seen(&picture, [h, w, c], pick, [row, column, channel]);
                    // In the hole is the mean. Bytes are equal, and their normalisation rounds.
                    let want = byte.map_or(0.0, |byte| (f64::from(byte) / 255.0 - 0.25) / 0.5);
                    assert!(
                        (value - want).abs() < 1e-6,
                        "{h}x{w}, image {number}, {row}, {column}: {value} is not {want}"
                    );
                }
            }
        }
    }
}

/// A network whose paths see images at several sizes has what networks of one size each have.
#[test]
fn a_batch_may_have_several_sizes() {
    let gpu = common::gpu();
    let images = pictures([12, 12, 3], 5);
    let supply = Supply::new(gpu, &images).unwrap();
    let statistics = ChannelStatistics { mean: vec![0.25; 3], std: vec![0.5; 3] };
    let setting = Setting { gpu, preset: common::preset(), data: &supply, statistics: &statistics };
    let sizes = [[20, 20, 3], [12, 12, 3], [16, 16, 3]];
    let (together, _) = Feed::beside(&setting, &[sizes.to_vec()], 3, vec![]).unwrap();
    let (alone, _) = Feed::beside(&setting, &one_each(&sizes), 3, vec![]).unwrap();
    for (place, shift) in [3, 1, 2].into_iter().enumerate() {
        let picks = [Pick { dx: shift, flip: true, ..Pick::plain(4) }, Pick { dy: -shift, ..Pick::plain(1) }];
        together.set_at(0, place, &picks).unwrap();
        alone.set(place, &picks).unwrap();
    }
    for feed in [&together, &alone] {
        let mut recorder = gpu.record();
        feed.record(&mut recorder);
        recorder.submit();
    }
    let all = download_wait(gpu, together.store(0).unwrap(), 0).unwrap();
    for (place, name) in ["x", "x.12x12", "x.16x16"].into_iter().enumerate() {
        let own = download_wait(gpu, alone.store(place).unwrap(), 0).unwrap();
        assert_eq!(all[name], own["x"], "{name}");
        assert_eq!(all["y"], own["y"]);
    }
    assert!(together.set_at(0, 3, &[]).unwrap_err().to_string().contains("3 of 3"));
}

/// Each size of a supernet's step is cropped as for a network of that size.
#[test]
fn a_supernet_sees_each_size_as_others_do() {
    let data = load("digits").unwrap();
    let (gpu, preset) = (common::gpu(), common::preset());
    let (supply, statistics) = (Supply::new(gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let usual = Recipe::usual(Optimizer::Sgd, 1, 8);
    let augmentation = Some(Augmentation { padding: 2, flip: true, cutout: 3 });
    let images = |family: &Family, paths: usize| {
        let model = family.supernet().unwrap().unwrap();
        let recipe = Recipe { batch: 8, paths, augmentation, ..usual.clone() };
        let mut trainer =
            Trainer::new(setting.clone(), &*model, &recipe, &[3, 1, 4, 5, 9, 2, 6, 7], &[3], &[]).unwrap();
        trainer.submit_step().unwrap();
        download_wait(gpu, trainer.stores(0).of(Role::Batch).unwrap(), 0).unwrap()
    };
    let several = images(&elastic(8, 20, 4), 3);
    for (name, side) in [("x", 20), ("x.8x8", 8), ("x.12x12", 12)] {
        let alone = images(&elastic(side, side as usize, 4), 1);
        assert!(several[name] == alone["x"], "{side}");
        assert!(several["y"] == alone["y"], "{side}");
    }
}

/// Crops of what a network sees are as many of its pixels as those of images are of theirs.
#[test]
fn crops_grow_with_what_is_seen() {
    let usual = Augmentation { cutout: 8, ..Augmentation::usual(32) };
    assert_eq!(usual.seen([32, 32], [32, 32]), (usual, [32, 32]));
    assert_eq!(usual.seen([32, 32], [16, 16]), (usual, [32, 32]));
    let (larger, sides) = usual.seen([32, 32], [224, 224]);
    assert_eq!((larger.padding, larger.cutout, larger.flip, sides), (28, 56, true, [224, 224]));
    // As the axis that grows less.
    let (wide, _) = usual.seen([32, 64], [64, 64]);
    assert_eq!((wide.padding, wide.cutout), (4, 8));
    assert!(usual.check([32, 32], [1024, 1024]).is_err());
}

/// Networks of grey digits of these sizes, a tenth as wide as published.
fn elastic(smallest: i64, largest: usize, step: i64) -> Family {
    let mut options = Options::new();
    options.insert("smallest".into(), smallest.into());
    options.insert("step".into(), step.into());
    options.insert("width".into(), 0.1.into());
    let build = Build { form: "ofa".into(), image: [largest; 2], in_channels: 1, classes: 10, options };
    Registry::default().open("mobilenet-v3", build).unwrap()
}

/// Networks that see large images are evaluated on fewer at once; each has the scores that it has alone.
#[test]
fn large_images_are_evaluated_a_few_at_a_time() {
    let family = elastic(64, 160, 96);
    let rest = "d=2,2,2,2,2;k=3,3,3,3,3,3,3,3,3,3;e=3,3,3,3,3,3,3,3,3,3";
    let models: Vec<Box<dyn Model>> =
        [64, 160].map(|side| family.network(&family.parse(&format!("r={side};{rest}")).unwrap()).unwrap()).into();
    let all: Vec<&dyn Model> = models.iter().map(|model| &**model).collect();
    let groups: Vec<(usize, Vec<usize>)> = by_chunk(128, &all).into_iter().collect();
    assert_eq!(groups, [(128 * 64 * 64 / (160 * 160), vec![1]), (128, vec![0])]);
    let data = load("digits").unwrap();
    let (gpu, preset) = (common::gpu(), common::preset());
    let (supply, statistics) = (Supply::new(gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 4, ..Recipe::usual(Optimizer::Sgd, 1, 8) };
    let members: Vec<Member> = all.iter().map(|&model| Member { model, seed: 3, path: vec![] }).collect();
    let trainer = Trainer::of(setting.clone(), &members, &recipe, &[0, 1, 2, 3]).unwrap();
    let network = |number: usize| Trained { model: all[number], stores: trainer.stores(number).clone() };
    let noise = Some(WeightNoise { sigma: 0.05, draws: 1, batch: 16 });
    let images: Vec<usize> = (0..9).collect();
    let together = noisy_scores_wait(&setting, noise, &[network(0), network(1)], &images, 1).unwrap();
    for (number, together) in together.iter().enumerate() {
        let alone = noisy_scores_wait(&setting, noise, &[network(number)], &images, 1).unwrap();
        assert_eq!(alone[0], *together);
        assert!(together.0.loss > 0.0 && together.1[0].loss != together.0.loss);
    }
    let (test, mut silent) = (data.train.select(&images), |_: usize, _: usize| Ok(()));
    let corruptions = grid(&[Kind::Brightness], &[Severity::ALL[2]], Constants::Cifar, None);
    let mut corrupted = |numbers: &[usize]| {
        let subjects: Vec<_> = numbers.iter().map(|&n| (all[n], network(n).subject().unwrap())).collect();
        evaluate_wait(&setting, &subjects, &test, &corruptions, &Origin::Made { seed: 2 }, &mut silent).unwrap()
    };
    let together = corrupted(&[0, 1]);
    for number in 0..2 {
        let alone = corrupted(&[number]);
        assert_eq!((alone.clean[0], alone.corrupted[0][0]), (together.clean[number], together.corrupted[0][number]));
    }
}

/// Corrupting at a network's size is corrupting pictures that were that large from the beginning.
#[test]
fn images_may_be_made_larger_before_they_are_corrupted() {
    let family = elastic(8, 20, 4);
    let rest = "d=2,2,2,2,2;k=3,3,3,3,3,3,3,3,3,3;e=3,3,3,3,3,3,3,3,3,3";
    let models: Vec<Box<dyn Model>> =
        [8, 20, 12].map(|side| family.network(&family.parse(&format!("r={side};{rest}")).unwrap()).unwrap()).into();
    let data = load("digits").unwrap();
    let (gpu, preset) = (common::gpu(), common::preset());
    let (supply, statistics) = (Supply::new(gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let (recipe, indices) = (Recipe { batch: 16, ..Recipe::usual(Optimizer::Sgd, 10, 8) }, (0..64).collect::<Vec<_>>());
    let members: Vec<Member> = models.iter().map(|model| Member { model: &**model, seed: 3, path: vec![] }).collect();
    let mut trainer = Trainer::of(setting.clone(), &members, &recipe, &indices).unwrap();
    // Before their statistics have settled they give the same answer to all.
    (0..40).for_each(|_| trainer.submit_step().unwrap());
    let network = |n: usize| {
        let network = Trained { model: &*models[n], stores: trainer.stores(n).clone() };
        (network.model, network.subject().unwrap())
    };
    let few = data.train.select(&(0..9).collect::<Vec<_>>());
    let corruptions = grid(&[Kind::GaussianNoise, Kind::Fog], &[Severity::ALL[4]], Constants::Cifar, None);
    let scores = |numbers: &[usize], images: &Images, origin: Origin| {
        let networks: Vec<_> = numbers.iter().map(|&n| network(n)).collect();
        evaluate_wait(&setting, &networks, images, &corruptions, &origin, &mut |_, _| Ok(())).unwrap()
    };
    let found = scores(&[0, 1, 2], &few, Origin::Resized { seed: 2 });
    let official = scores(&[0, 1, 2], &few, Origin::Made { seed: 2 });
    for (number, side) in [8, 20, 12].into_iter().enumerate() {
        let grown: Vec<u8> = (0..few.len())
            .flat_map(|i| resize(few.at_hand(i).unwrap(), [8, 8, 1], [side, side], Filter::Bilinear).unwrap())
            .collect();
        let large = Images::new([side, side, 1], few.class_names.clone(), grown, few.labels.clone()).unwrap();
        let want = scores(&[number], &large, Origin::Made { seed: 2 });
        assert_eq!(found.clean[number], want.clean[0]);
        for kind in 0..2 {
            assert_eq!(found.corrupted[kind][number], want.corrupted[kind][0], "{side}, {kind}");
            // At their own size both are the same, and elsewhere they are not.
            let same = found.corrupted[kind][number] == official.corrupted[kind][number];
            assert_eq!(same, side == 8, "{side}, {kind}");
        }
    }
}

#[test]
fn networks_of_several_sizes_train_side_by_side_as_alone() {
    let data = load("digits").unwrap();
    let family = elastic(8, 16, 4);
    let rest = "d=2,2,2,2,2;k=3,5,3,3,7,3,3,3,5,3;e=3,3,4,3,3,3,3,6,3,3";
    let models: Vec<Box<dyn Model>> = [8, 16, 12, 8]
        .into_iter()
        .map(|side| family.network(&family.parse(&format!("r={side};{rest}")).unwrap()).unwrap())
        .collect();
    let (gpu, preset) = (common::gpu(), common::preset());
    let (supply, statistics) = (Supply::new(gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 16, ..Recipe::usual(Optimizer::Sam, 1, 8) };
    let indices: Vec<usize> = (0..64).collect();
    let trained = |numbers: std::ops::Range<usize>| {
        let member = |number: usize| Member { model: &*models[number], seed: 3, path: vec![] };
        let members: Vec<Member> = numbers.map(member).collect();
        let mut trainer = Trainer::of(setting.clone(), &members, &recipe, &indices).unwrap();
        (0..3).for_each(|_| trainer.submit_step().unwrap());
        trainer
    };
    let all = trained(0..4);
    let passes: Vec<_> = models.iter().map(|model| graph(&**model, 10, Statistics::Running).unwrap()).collect();
    let subject = |trainer: &Trainer, number: usize| {
        let group = |role| (trainer.stores(number).of(role).unwrap().clone(), 0);
        Subject { weights: group(Role::Weights), running: group(Role::Running), path: vec![] }
    };
    let subjects: Vec<Subject> = (0..4).map(|number| subject(&all, number)).collect();
    let images: Vec<usize> = (0..25).collect();
    let scores = Forward::of(&setting, 10, &passes, &subjects).unwrap().evaluate_wait(&images).unwrap();
    for number in 0..4 {
        let alone = trained(number..number + 1);
        assert!(alone.weights_wait(0).unwrap() == all.weights_wait(number).unwrap(), "network {number}");
        let own = Forward::new(&setting, 10, &passes[number], &[subject(&alone, 0)]).unwrap();
        assert_eq!(own.evaluate_wait(&images).unwrap()[0], scores[number], "network {number}");
    }
    // The sizes make a difference.
    assert!(scores[0] == scores[3] && scores[0].loss != scores[1].loss);
}
