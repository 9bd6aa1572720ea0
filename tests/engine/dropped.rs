//! Drop path and cutout: the same bits in any company and after any stop, and nothing of them beside training.

use altiplano::data::{ChannelStatistics, load};
use altiplano::nn::Model;
use altiplano::nn::darts::family;
use altiplano::nn::space::{ImageInfo, Networks, Purpose};
use altiplano::space::darts::Darts;
use altiplano::train::feed::Augmentation;
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Member, Recipe, Setting, Trainer};

use crate::common;

const ARCHS: [&str; 3] = [
    "3,6,0,4,4,0,6,6,0,0,0,0,4,3, 5,2,0,6,4,0,3,0,6,0,0,5,0,7",
    "5,4,4,4,0,4,5,0,0,4,0,0,0,4, 7,7,2,3,0,4,1,0,0,0,0,0,5,6",
    "3,5,0,4,4,0,0,4,5,0,4,0,0,7, 6,3,2,0,5,0,5,0,7,0,1,1,0,0",
];
/// Two epochs: in the first one no path is dropped yet.
const STEPS: usize = 4;
const BATCH: usize = 8;

struct Digits {
    supply: Supply,
    statistics: ChannelStatistics,
    models: Vec<Box<dyn Model>>,
}

impl Digits {
    fn new() -> Self {
        let data = load("digits").unwrap();
        let images = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
        let family = family(Darts.defaults(Purpose::Quick, &images)).unwrap();
        let network = |text: &str| family.network(&family.parse(text).unwrap()).unwrap();
        Digits {
            supply: Supply::new(common::gpu(), &data.train).unwrap(),
            statistics: data.train.channel_statistics().unwrap(),
            models: ARCHS.map(network).into(),
        }
    }

    fn setting(&self) -> Setting<'_> {
        Setting { gpu: common::gpu(), preset: common::preset(), data: &self.supply, statistics: &self.statistics }
    }

    /// Some of the networks, each with a seed of its own.
    fn trainer(&self, numbers: &[usize], recipe: &Recipe) -> Trainer<'_> {
        let member = |&i: &usize| Member { model: &*self.models[i], seed: 5 + i as u64, path: vec![] };
        let members: Vec<Member> = numbers.iter().map(member).collect();
        let indices: Vec<usize> = (0..STEPS / 2 * BATCH).collect();
        Trainer::of(self.setting(), &members, recipe, &indices).unwrap()
    }

    /// Weights and statistics of the first of these networks after all steps.
    fn trained(&self, numbers: &[usize], recipe: &Recipe) -> altiplano::nn::tensors::Named {
        let mut trainer = self.trainer(numbers, recipe);
        assert_eq!(trainer.total_steps(), STEPS);
        (0..STEPS).for_each(|_| trainer.submit_step().unwrap());
        assert!(trainer.progress_wait().unwrap().iter().all(|p| p.loss.is_finite() && p.loss > 0.0));
        trainer.weights_wait(0).unwrap()
    }
}

fn recipe(optimizer: Optimizer, drop_path: f64, cutout: u8) -> Recipe {
    let augmentation = Some(Augmentation { cutout, ..Augmentation::usual(8) });
    Recipe { batch: BATCH, drop_path, augmentation, ..Recipe::usual(optimizer, 2, 8) }
}

#[test]
fn networks_learn_the_same_alone_and_side_by_side() {
    let digits = Digits::new();
    for optimizer in [Optimizer::Sgd, Optimizer::Sam] {
        let recipe = recipe(optimizer, 0.8, 4);
        let alone = digits.trained(&[1], &recipe);
        assert!(alone == digits.trained(&[1, 0, 2, 1], &recipe), "{optimizer}");
    }
}

#[test]
fn both_change_what_is_learnt_and_nothing_where_they_are_off() {
    let digits = Digits::new();
    let of = |drop_path, cutout| digits.trained(&[0], &recipe(Optimizer::Sgd, drop_path, cutout));
    let (plain, dropped, cut) = (of(0.0, 0), of(0.8, 0), of(0.0, 4));
    assert!(plain != dropped && plain != cut && dropped != cut);
    // A probability so small that nothing is dropped: factors of 1 leave bits alone.
    assert!(plain == of(1e-12, 0));
}

#[test]
fn a_training_goes_on_to_the_same_bits() {
    let digits = Digits::new();
    let recipe = recipe(Optimizer::Sam, 0.8, 4);
    let mut whole = digits.trainer(&[2, 0], &recipe);
    for stop in 1..STEPS {
        whole.submit_step().unwrap();
        let state = whole.state_wait().unwrap();
        let mut rest = digits.trainer(&[2, 0], &recipe);
        rest.restore(&state).unwrap();
        let mut same = digits.trainer(&[2, 0], &recipe);
        (0..stop).for_each(|_| same.submit_step().unwrap());
        assert!(same.state_wait().unwrap() == state, "{stop} steps");
        for _ in stop..STEPS {
            rest.submit_step().unwrap();
            same.submit_step().unwrap();
        }
        assert!(rest.state_wait().unwrap() == same.state_wait().unwrap(), "after {stop} steps");
    }
}

#[test]
fn holes_larger_than_the_images_are_refused() {
    let digits = Digits::new();
    let indices: Vec<usize> = (0..2 * BATCH).collect();
    let recipe = recipe(Optimizer::Sgd, 0.0, 9);
    let refused = Trainer::new(digits.setting(), &*digits.models[0], &recipe, &indices, &[1], &[]);
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("--cutout") && refused.contains("8x8"), "{refused}");
}
