//! Latencies: what dispatches do is known without a device, and what they take says what networks do.

use altiplano::measure::latency::{Latencies, latencies_wait};
use altiplano::nn::Model;
use altiplano::nn::space::{Family, ImageInfo, Purpose, Registry};
use altiplano::philox::Stream;
use altiplano::report::folder::{Existing, RunFolder};
use altiplano::space::Arch;

use crate::common;

/// Small networks of a space.
fn family(space: &str) -> Family {
    let registry = Registry::default();
    let space = registry.get(space).unwrap();
    let info = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    let build = space.defaults(Purpose::Quick, &info);
    Family::new(space.clone(), build).unwrap()
}

/// How often latencies are measured anew until they fit: other work on the machine may take it away while one network is timed, for longer than
/// all turns of a measurement, but hardly each time. A table that lacks dispatches fits never.
const ATTEMPTS: usize = 4;

/// Latencies measured from nothing, if what the table says of some networks that it was not made of is what they take, within a factor of three.
fn foretelling(family: &Family, folder: &RunFolder, archs: &[Arch]) -> Result<Latencies, String> {
    let latencies = Latencies::open(common::gpu(), common::preset(), family, folder, 1).unwrap();
    println!("{}", latencies.summary());
    for arch in archs {
        // A dispatch that the table lacks is looked for in the network itself.
        let foretold = latencies.foretold(arch).unwrap();
        let measured = latencies.measured_wait(arch).unwrap();
        if !(foretold > measured / 3.0 && foretold < measured * 3.0) {
            return Err(format!("{}: {foretold} of {measured} ms", family.show(arch)));
        }
        assert_eq!(latencies.measured_wait(arch).unwrap(), measured, "measured again");
    }
    Ok(latencies)
}

#[test]
fn what_was_measured_foretells_what_was_not() {
    for space in ["mobilenet-v3", "nas-bench-201", "darts"] {
        let family = family(space);
        let mut draw = Stream::new(9, 1, 0);
        let archs: Vec<_> = (0..3).map(|_| family.sample(&mut draw).unwrap()).collect();
        let mut unfit = vec![];
        let (_held, folder, latencies) = loop {
            assert!(unfit.len() < ATTEMPTS, "{space}: {unfit:?}");
            let held = tempfile::tempdir().unwrap();
            let folder = RunFolder::create(held.path().join("run"), Existing::Refuse).unwrap();
            match foretelling(&family, &folder, &archs) {
                Ok(latencies) => break (held, folder, latencies),
                Err(why) => unfit.push(why),
            }
        };
        assert_eq!(latencies.summary()["checked_on"], 4);
        latencies.save(&folder).unwrap();
        let again = Latencies::open(common::gpu(), common::preset(), &family, &folder, 2).unwrap();
        assert_eq!(again.summary(), latencies.summary());
        for arch in &archs {
            assert_eq!(again.foretold(arch).unwrap(), latencies.foretold(arch).unwrap());
            assert_eq!(again.measured_wait(arch).unwrap(), latencies.measured_wait(arch).unwrap());
        }
        // What the history says counts, and is what others are held against.
        again.remember(&family.show(&archs[0]), 1234.5);
        assert_eq!([again.of(&archs[0]).unwrap(), again.foretold(&archs[0]).unwrap()], [1234.5; 2]);
    }
}

#[test]
fn more_work_takes_longer() {
    let family = family("mobilenet-v3");
    let largest: Vec<u8> = family.genes().iter().map(|gene| gene.options - 1).collect();
    let networks = [family.smallest(), largest.into()].map(|arch| family.network(&arch).unwrap());
    let models: Vec<&dyn Model> = networks.iter().map(|network| &**network).collect();
    let found = latencies_wait(common::gpu(), common::preset(), &models).unwrap();
    // Twelve times the multiply-adds, three times the layers.
    assert!(found.len() == 2 && found[1] > 1.2 * found[0], "{found:?}");
}
