//! Random parts of pictures for training, as torchvision's `RandomResizedCrop` draws them (Szegedy et al. 2015, section 6): a share of the
//! area between some and all of it, sides in a proportion between 3 to 4 and 4 to 3, both as likely as any other.

use super::resize::Window;
use crate::philox::Stream;

/// Purpose word of the draws.
const PURPOSE: u32 = 0x5243_524F;
/// Narrowest and widest proportion, width to height.
const PROPORTIONS: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Draws until the middle is taken instead.
const ATTEMPTS: usize = 10;

/// How parts are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RandomCrop {
    /// Least share of the area.
    pub least: f64,
}

impl RandomCrop {
    /// The part of a picture of these rows and columns, by seed and key alone.
    pub fn draw(self, sides: [usize; 2], seed: u64, key: u64) -> Window {
        let mut draw = Stream::new(seed, PURPOSE, key);
        for _ in 0..ATTEMPTS {
            let area = self.least + (1.0 - self.least) * draw.uniform();
            let [narrow, wide] = PROPORTIONS.map(f64::ln);
            let proportion = narrow + (wide - narrow) * draw.uniform();
            if let Some(sides) = part_of(sides, area, proportion.exp()) {
                let [rows, columns] = sides.own;
                let top = draw.below((sides.all[0] - rows + 1) as u64) as usize;
                let left = draw.below((sides.all[1] - columns + 1) as u64) as usize;
                return Window { at: [top, left], sides: sides.own };
            }
        }
        middle(sides)
    }
}

/// Rows and columns of a part beside those of the picture.
struct Sides {
    own: [usize; 2],
    all: [usize; 2],
}

/// Sides of a part with a share of the area and a proportion; none if a picture of these rows and columns is too short for it.
fn part_of(all: [usize; 2], share: f64, proportion: f64) -> Option<Sides> {
    let area = all[0] as f64 * all[1] as f64 * share;
    let own = [(area / proportion).sqrt(), (area * proportion).sqrt()].map(|side| side.round_ties_even() as usize);
    let fits = |axis: usize| (1..=all[axis]).contains(&own[axis]);
    (fits(0) && fits(1)).then_some(Sides { own, all })
}

/// The largest part from the middle whose proportion is allowed.
fn middle([height, width]: [usize; 2]) -> Window {
    let proportion = width as f64 / height.max(1) as f64;
    let [narrow, wide] = PROPORTIONS;
    let whole = |side: f64, most: usize| (side.round_ties_even() as usize).clamp(1, most.max(1));
    let sides = if proportion < narrow {
        [whole(width as f64 / narrow, height), width]
    } else if proportion > wide {
        [height, whole(height as f64 * wide, width)]
    } else {
        [height, width]
    };
    Window { at: [(height - sides[0]) / 2, (width - sides[1]) / 2], sides }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_and_are_spread_as_they_should_be() {
        let crop = RandomCrop { least: 0.08 };
        for sides in [[375, 500], [33, 20], [1, 1], [3, 900], [900, 3]] {
            let mut shares = vec![];
            for key in 0..4_000 {
                let part = crop.draw(sides, 7, key);
                assert!((0..2).all(|axis| part.sides[axis] >= 1 && part.at[axis] + part.sides[axis] <= sides[axis]));
                shares.push((part.sides[0] * part.sides[1]) as f64 / (sides[0] * sides[1]) as f64);
            }
            if sides[0] == 375 {
                // Of shares and proportions that are spread evenly, those that fit.
                let steps =
                    |from: f64, to: f64| (0..400).map(move |i| from + (to - from) * (f64::from(i) + 0.5) / 400.0);
                let all = steps(0.08, 1.0).flat_map(|share| {
                    steps(PROPORTIONS[0].ln(), PROPORTIONS[1].ln()).map(move |proportion| (share, proportion.exp()))
                });
                let fit: Vec<f64> = all
                    .filter(|(share, proportion)| part_of(sides, *share, *proportion).is_some())
                    .map(|own| own.0)
                    .collect();
                let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
                let below =
                    |shares: &[f64]| shares.iter().filter(|&&own| own < 0.2).count() as f64 / shares.len() as f64;
                assert!((mean(&shares) - mean(&fit)).abs() < 0.012, "{} {}", mean(&shares), mean(&fit));
                assert!((below(&shares) - below(&fit)).abs() < 0.02 && shares.iter().all(|&share| share > 0.079));
            }
        }
    }

    #[test]
    fn what_never_fits_is_the_middle() {
        let crop = RandomCrop { least: 1.0 };
        assert_eq!(crop.draw([30, 300], 1, 2), Window { at: [0, 130], sides: [30, 40] });
        assert_eq!(crop.draw([300, 30], 1, 2), Window { at: [130, 0], sides: [40, 30] });
        assert_eq!(middle([30, 36]), Window { at: [0, 0], sides: [30, 36] });
    }

    #[test]
    fn seeds_and_keys_alone_decide() {
        let crop = RandomCrop { least: 0.08 };
        let draw = |seed: u64, key: u64| crop.draw([200, 300], seed, key);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert!(draw(1, 2) != draw(1, 3) && draw(1, 2) != draw(2, 2));
    }

    /// Torchvision's own arithmetic with shares and proportions from a list, `peers/pictures_pillow.py`.
    #[test]
    fn sides_are_torchvision_s() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/pictures/pictures.json")).unwrap();
        let cases = golden["random_crops"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let all = [0, 1].map(|axis| number(&case["source"][axis]));
            let found = part_of(all, case["share"].as_f64().unwrap(), case["proportion"].as_f64().unwrap());
            let want = case["sides"].as_array().map(|sides| [number(&sides[0]), number(&sides[1])]);
            assert_eq!(found.map(|sides| sides.own), want, "{case}");
        }
        for case in golden["middles"].as_array().unwrap() {
            let number = |key: &str, axis: usize| case[key][axis].as_u64().unwrap() as usize;
            let pair = |key: &str| [number(key, 0), number(key, 1)];
            assert_eq!(middle(pair("source")), Window { at: pair("at"), sides: pair("sides") }, "{case}");
        }
    }
}
