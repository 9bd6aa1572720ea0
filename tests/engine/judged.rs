//! What a judgement keeps for whoever reads it: errors by corruption, losses under several deviations of noise, pictures that mislead.

use altiplano::corrupt::{Constants, Corruption, Kind, Severity};
use altiplano::data::resize::{Filter, resize};
use altiplano::data::{ChannelStatistics, Dataset, Images, TestImages, load};
use altiplano::graph::Statistics;
use altiplano::measure::corruption::{Origin, corrupt_pixels, evaluate_wait};
use altiplano::measure::judge::{Judging, Network as Trained, WeightNoise, judge_wait, noisy_scores_wait};
use altiplano::measure::mistakes::{Mistake, mistakes_wait};
use altiplano::nn::Model;
use altiplano::nn::space::{Build, Family, Options, Registry};
use altiplano::nn::tensors::{Named, Values};
use altiplano::train::single;
use altiplano::train::step::{Optimizer, Rates, StepOptions};
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

/// Networks of grey digits of 8 to 16 pixels, a tenth as wide as published.
fn family() -> Family {
    let mut options = Options::new();
    options.insert("smallest".into(), 8.into());
    options.insert("step".into(), 4.into());
    options.insert("width".into(), 0.1.into());
    let build = Build { form: "ofa".into(), image: [16; 2], in_channels: 1, classes: 10, options };
    Registry::default().open("mobilenet-v3", build).unwrap()
}

/// Digits, of which so many are test images that train no network here.
fn digits(count: usize) -> Dataset {
    let data = load("digits").unwrap();
    let test = data.train.select(&(400..400 + count).collect::<Vec<_>>());
    Dataset { test: TestImages::new(test), ..data }
}

const NOISE: WeightNoise = WeightNoise { sigma: 0.05, draws: 3, batch: 16 };
const SEED: u64 = 11;

fn judging(noise: Option<WeightNoise>, images: usize) -> Judging<'static> {
    Judging { noise, attacks: &[], images, resized_first: false, seed: SEED }
}

/// Two networks, of other sizes, after some steps of training.
fn with_networks(data: &Dataset, test: &mut dyn FnMut(&Setting, &[Trained], &Trainer)) {
    let family = family();
    let rest = "d=2,2,2,2,2;k=3,3,3,3,3,3,3,3,3,3;e=3,3,3,3,3,3,3,3,3,3";
    let models: Vec<Box<dyn Model>> =
        [8, 16].map(|side| family.network(&family.parse(&format!("r={side};{rest}")).unwrap()).unwrap()).into();
    let (gpu, preset) = (common::gpu(), common::preset());
    let (supply, statistics) = (Supply::new(gpu, &data.train).unwrap(), data.train.channel_statistics().unwrap());
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let recipe = Recipe { batch: 32, augmentation: None, ..Recipe::usual(Optimizer::Sgd, 20, 8) };
    let members: Vec<Member> = models.iter().map(|model| Member { model: &**model, seed: 3, path: vec![] }).collect();
    let mut trainer = Trainer::of(setting.clone(), &members, &recipe, &(0..320).collect::<Vec<_>>()).unwrap();
    (0..200).for_each(|_| trainer.submit_step().unwrap());
    let network = |n: usize| Trained { model: &*models[n], stores: trainer.stores(n).clone() };
    test(&setting, &[network(0), network(1)], &trainer);
}

/// Every corruption by itself is what the judgement has of it, and every deviation is what it is by itself, to the bit; the noise that was
/// asked for is measured as if there were no others.
#[test]
fn judgements_have_their_parts() {
    let (data, count) = (digits(40), 24);
    with_networks(&data, &mut |setting, networks, _| {
        let judge = |noise| judge_wait(setting, &data.test, networks, &judging(noise, count), &mut |_| Ok(())).unwrap();
        let tested = judge(Some(NOISE));
        let images = data.test.reveal_for_final_evaluation();
        let (first, some) = (images.select(&(0..count).collect::<Vec<_>>()), (0..count).collect::<Vec<_>>());
        let supply = Supply::new(setting.gpu, images).unwrap();
        let own = Setting { data: &supply, ..setting.clone() };
        for (times, level) in [(0.5, 1), (1.0, 2), (2.0, 3), (4.0, 4)] {
            let noise = Some(WeightNoise { sigma: times * NOISE.sigma, ..NOISE });
            let alone = noisy_scores_wait(&own, noise, networks, &some, SEED).unwrap();
            for (tested, (calm, draws)) in tested.iter().zip(alone) {
                let mean = draws.iter().map(|draw| draw.loss).sum::<f64>() / 3.0;
                let right = draws.iter().map(|draw| draw.accuracy).sum::<f64>() / 3.0;
                let (sigma, score) = tested.under_noise[level];
                assert_eq!((sigma, score.loss, score.accuracy), (times * NOISE.sigma, mean, right), "{times}");
                assert_eq!(tested.under_noise[0], (0.0, calm));
                assert_eq!(tested.uncorrupted, calm);
                if times == 1.0 {
                    assert_eq!(tested.rise, Some(mean - calm.loss));
                    let change = draws.iter().map(|draw| 100.0 * (calm.accuracy - draw.accuracy).abs()).sum::<f64>();
                    assert_eq!(tested.robustness, Some(change / 3.0));
                }
            }
        }
        assert!(tested.iter().all(|own| own.under_noise.len() == 5));
        assert!(tested[0].under_noise[4].1.loss != tested[0].under_noise[3].1.loss);

        let kinds = [Kind::Contrast, Kind::GaussianNoise];
        for kind in kinds {
            let corruption = [Corruption::new(kind, Severity::ALL[3], Constants::Cifar)];
            let subjects: Vec<_> = networks.iter().map(|own| (own.model, own.subject().unwrap())).collect();
            let origin = Origin::Made { seed: SEED };
            let alone = evaluate_wait(&own, &subjects, &first, &corruption, &origin, &mut |_, _| Ok(())).unwrap();
            for (tested, score) in tested.iter().zip(&alone.corrupted[0]) {
                let (_, levels) = tested.by_corruption.iter().find(|(own, _)| *own == kind).unwrap();
                assert_eq!((levels.len(), levels[3]), (5, score.accuracy), "{kind}");
            }
        }
        for tested in &tested {
            assert!(tested.by_corruption.iter().map(|(kind, _)| *kind).eq(Kind::MAIN));
            for (level, mean) in tested.corrupted.iter().enumerate() {
                let sum = tested.by_corruption.iter().map(|(_, levels)| levels[level]).sum::<f64>();
                assert!((sum / 15.0 - mean).abs() < 1e-12, "{level}");
            }
            let levels = |place: usize| &tested.by_corruption[place].1;
            assert!((0..15).any(|place| levels(place) != levels(0)), "all kinds are alike");
        }
        // Noise of no size is none, and where none is asked for none is told.
        for (noise, levels) in [(Some(WeightNoise { sigma: 0.0, ..NOISE }), 1), (None, 0)] {
            for (tested, before) in judge(noise).iter().zip(&tested) {
                assert_eq!(tested.under_noise, before.under_noise[..levels]);
                assert_eq!(tested.corrupted, before.corrupted);
            }
        }
    });
}

/// Class and probability of each picture by the network on its own, as `altiplano step` runs it.
fn asked(network: &Trained, weights: &Named, of: &ChannelStatistics, pictures: &[Vec<u8>]) -> Vec<(usize, f64)> {
    let [height, width, channels] = network.model.input();
    let seen = |pixels: &Vec<u8>| resize(pixels, [8, 8, 1], [height, width], Filter::Bilinear).unwrap();
    let normalised = |byte: u8| ((f64::from(byte) / 255.0 - of.mean[0]) / of.std[0]) as f32;
    let data: Vec<f32> = pictures.iter().flat_map(seen).map(normalised).collect();
    let count = pictures.len();
    let x = Values { dims: vec![count, channels, height, width], data };
    let y = Values { dims: vec![count], data: vec![0.0; count] };
    let batch = Named::from([("x".to_owned(), x), ("y".to_owned(), y)]);
    let statistics = Statistics::Running;
    let options = StepOptions { batch: count, statistics, smoothing: 0.0, update: None, gradients: false };
    let (gpu, preset, rates) = (common::gpu(), common::preset(), Rates::default());
    let outcome = single::run(gpu, preset, network.model, &options, &rates, weights, &batch).unwrap();
    let answer = |logits: &[f32]| {
        let class = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        let gap = |logit: &f32| f64::from(*logit) - f64::from(logits[class]);
        (class, 1.0 / logits.iter().map(|logit| gap(logit).exp()).sum::<f64>())
    };
    outcome.tensors["logits"].data.chunks(network.model.classes()).map(answer).collect()
}

/// What the mistakes must be by such answers.
fn expected(images: &Images, count: usize, ask: impl Fn(&[Vec<u8>]) -> Vec<(usize, f64)>) -> Vec<Mistake> {
    let label = |image: usize| usize::from(images.labels[image]);
    let clean = ask(&(0..count).map(|image| images.at_hand(image).unwrap().to_vec()).collect::<Vec<_>>());
    let known: Vec<usize> = (0..count).filter(|&image| clean[image].0 == label(image)).collect();
    let among = if known.is_empty() { (0..count).collect() } else { known };
    let mut mistakes = vec![];
    for kind in Kind::MAIN {
        let corruption = Corruption::new(kind, Severity::ALL[2], Constants::Cifar);
        let make =
            |&image: &usize| corrupt_pixels(&corruption, images.at_hand(image).unwrap(), [8, 8, 1], SEED, image as u64);
        let answers = ask(&among.iter().map(|image| make(image).unwrap()).collect::<Vec<_>>());
        let mut wrong: Vec<(usize, (usize, f64))> = among.iter().copied().zip(answers).collect();
        wrong.retain(|(image, (class, _))| *class != label(*image));
        wrong.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        mistakes.extend(wrong.first().map(|&(image, (class, probability))| Mistake {
            kind: kind.name().to_owned(),
            severity: 3,
            image,
            label: images.class_names[label(image)].clone(),
            answer: images.class_names[class].clone(),
            probability,
        }));
    }
    mistakes
}

#[test]
fn mistakes_are_the_surest_wrong_answers_to_what_was_known() {
    // More than are put on the device at a time.
    let (data, count) = (digits(560), 530);
    with_networks(&data, &mut |setting, networks, trainer| {
        let images = data.test.reveal_for_final_evaluation();
        for (number, network) in networks.iter().enumerate() {
            let found = |images: &Images| {
                let (test, judging) = (TestImages::new(images.clone()), judging(None, count));
                mistakes_wait(setting, &test, network, &judging, &mut |_| Ok(())).unwrap()
            };
            let weights = trainer.weights_wait(number).unwrap();
            let ask = |pictures: &[Vec<u8>]| asked(network, &weights, setting.statistics, pictures);
            let clean = ask(&(0..count).map(|image| images.at_hand(image).unwrap().to_vec()).collect::<Vec<_>>());
            let right = clean.iter().zip(&images.labels).filter(|(own, label)| own.0 == usize::from(**label)).count();
            assert!(right > count / 2, "{right} of {count} are right");
            let labelled = |label: &dyn Fn(usize) -> usize| {
                let labels = (0..images.len()).map(|image| (label(image) % 10) as u16).collect();
                let shape = [images.height, images.width, images.channels];
                Images::new(shape, images.class_names.clone(), images.held().unwrap().to_vec(), labels).unwrap()
            };
            let own = |image: usize| usize::from(images.labels[image]);
            // As they are; where some are taken for another from the beginning, and are not to be shown; where all are.
            let some = labelled(&|image| own(image) + usize::from(image % 4 == 0));
            let all = labelled(&|image| clean.get(image).map_or(0, |answer| answer.0 + 1));
            for (images, least) in [(images.clone(), 4), (some, 4), (all, 15)] {
                let (got, want) = (found(&images), expected(&images, count, ask));
                let close = got.iter().zip(&want).all(|(a, b)| (a.probability - b.probability).abs() < 1e-5);
                assert!(close && got.len() >= least, "{got:?} {want:?}");
                // But for the last digits of how sure it is.
                let same = |(a, b): (&Mistake, &Mistake)| *a == Mistake { probability: a.probability, ..b.clone() };
                assert!(got.len() == want.len() && got.iter().zip(&want).all(same), "{got:?} {want:?}");
            }
        }
        // Images that cannot be corrupted mislead nobody.
        let (names, pixels) = (images.class_names.clone(), images.held().unwrap().to_vec());
        let two = TestImages::new(Images::new([8, 4, 2], names, pixels, images.labels.clone()).unwrap());
        let none = mistakes_wait(setting, &two, &networks[0], &judging(None, 9), &mut |_| Ok(())).unwrap();
        assert_eq!(none, vec![]);
    });
}
