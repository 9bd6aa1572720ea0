//! All kinds together: sizes, determinism, threads.

use super::*;
use proptest::prelude::*;

fn all(constants: Constants) -> impl Iterator<Item = Corruption> {
    let severities = move |kind| Severity::ALL.map(move |severity| Corruption::new(kind, severity, constants));
    Kind::ALL.into_iter().flat_map(severities)
}

fn picture(width: u32, height: u32, step: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * step) as u8, (y * 11 + step) as u8, ((x ^ y) * 31 % 251) as u8])
    })
}

#[test]
fn any_size_works() {
    for constants in [Constants::Cifar, Constants::ImageNet] {
        for corruption in all(constants) {
            for (width, height) in [(0, 0), (0, 4), (1, 1), (3, 5), (1, 40), (2, 2), (33, 17)] {
                let image = picture(width, height, 7);
                let out = corruption.seeded(&image, 1, 2).unwrap();
                assert_eq!(out.dimensions(), (width, height), "{corruption:?}");
            }
        }
    }
}

#[test]
fn sides_are_limited() {
    let image = RgbImage::new(1, MAX_SIDE + 1);
    for corruption in all(Constants::Cifar) {
        let message = corruption.seeded(&image, 0, 0).unwrap_err().to_string();
        assert!(message.contains("1 x 8193"), "{message}");
    }
}

#[test]
fn every_kind_and_severity_changes_an_image() {
    let image = picture(40, 40, 5);
    for constants in [Constants::Cifar, Constants::ImageNet] {
        let mut seen: Vec<RgbImage> = vec![image.clone()];
        for corruption in all(constants) {
            let out = corruption.seeded(&image, 3, 0).unwrap();
            assert!(!seen.contains(&out), "{corruption:?}");
            seen.push(out);
        }
    }
}

#[test]
fn random_kinds_depend_on_seed_and_index_others_do_not() {
    let image = picture(40, 40, 5);
    for corruption in all(Constants::Cifar) {
        let base = corruption.seeded(&image, 0, 0).unwrap();
        assert_eq!(base, corruption.seeded(&image, 0, 0).unwrap());
        let differs = |seed, index| corruption.seeded(&image, seed, index).unwrap() != base;
        // Single draws may agree by chance: one of several must not.
        assert_eq!((1..6).any(|i| differs(i, 0)), corruption.kind().is_random(), "{corruption:?}");
        assert_eq!((1..6).any(|i| differs(0, i)), corruption.kind().is_random(), "{corruption:?}");
    }
}

#[test]
fn threads_and_order_change_nothing() {
    let corruption = Corruption::new(Kind::Snow, Severity::ALL[2], Constants::Cifar);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = vec![];
        let load = |i| Ok(picture(20, 16, i as u32));
        let sink = |_, image: Result<RgbImage>| {
            out.push(image?);
            Ok(())
        };
        pool.install(|| corruption.each(9, 30, load, sink)).unwrap();
        out
    };
    let one = run(1);
    assert_eq!(one, run(3));
    assert_eq!(one[17], corruption.seeded(&picture(20, 16, 17), 9, 17).unwrap());
}

#[test]
fn frost_says_where_it_comes_from() {
    let frost = Corruption::new(Kind::Frost, Severity::ALL[0], Constants::ImageNet);
    assert_eq!(frost.frost_source(), Some(FrostSource::Procedural));
    let photos = Arc::new(Frost::photos(vec![picture(60, 50, 3)], Constants::ImageNet).unwrap());
    assert!(matches!(frost.with_frost(photos.clone()).frost_source(), Some(FrostSource::Photos(_))));
    let fog = Corruption::new(Kind::Fog, Severity::ALL[0], Constants::ImageNet).with_frost(photos);
    assert_eq!(fog.frost_source(), None);
}

#[test]
fn missing_draws_are_an_error() {
    let image = picture(12, 12, 5);
    for corruption in all(Constants::Cifar).filter(|corruption| corruption.kind().is_random()) {
        let message = corruption.apply(&image, &mut Recorded::new(vec![]).unwrap()).unwrap_err().to_string();
        assert!(message.contains("recorded draws"), "{corruption:?}: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No image, size or seed makes a kind panic or change the size.
    #[test]
    fn nothing_panics(
        (width, height) in (1u32..24, 1u32..24),
        kind in 0usize..19,
        level in 1u8..6,
        net in any::<bool>(),
        seed in any::<u64>(),
        bytes in proptest::collection::vec(any::<u8>(), 24 * 24 * 3),
    ) {
        let constants = if net { Constants::ImageNet } else { Constants::Cifar };
        let image = RgbImage::from_raw(width, height, bytes[..(width * height * 3) as usize].to_vec()).unwrap();
        let corruption = Corruption::new(Kind::ALL[kind], Severity::new(level).unwrap(), constants);
        prop_assert_eq!(corruption.seeded(&image, seed, seed >> 3).unwrap().dimensions(), (width, height));
    }

    /// Finite draws of any size are used or refused, never a panic.
    #[test]
    fn wild_draws_do_not_panic(
        kind in 0usize..19,
        level in 1u8..6,
        scale in prop_oneof![Just(1.0), Just(1e3), Just(1e300)],
        numbers in proptest::collection::vec(-1.0f64..1.0, 600),
    ) {
        let image = picture(7, 6, 9);
        let corruption = Corruption::new(Kind::ALL[kind], Severity::new(level).unwrap(), Constants::ImageNet);
        let mut draws = Recorded::new(numbers.iter().map(|x| x * scale).collect()).unwrap();
        let _ = corruption.apply(&image, &mut draws);
    }
}
