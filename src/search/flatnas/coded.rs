//! The architectures of a space as genotypes within limits, and the objectives that need no evaluation.

use super::super::genes::{self, Genotypes};
use super::super::objectives::{RELEASED_PENALTY, penalised, violation};
use super::super::pareto::Point;
use super::config::FlatnasConfig;
use crate::error::{Error, Result};
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::space::{Arch, Draw};

/// Purpose word of repairs.
const REPAIR_PURPOSE: u32 = 0x5245_5041;
/// How often a random candidate is drawn anew when it is beyond a limit, before one beyond it is taken.
const TRIES: usize = 1_000;

/// Genotypes of a space within limits.
pub(super) struct Coded<'a> {
    space: &'a Family,
    options: Vec<u32>,
    config: &'a FlatnasConfig,
}

impl<'a> Coded<'a> {
    pub(super) fn new(space: &'a Family, config: &'a FlatnasConfig) -> Self {
        Coded { space, options: genes::options(&**space), config }
    }

    fn violation(&self, cost: Cost) -> f64 {
        let limit = |most: u64| (most > 0).then_some(most as f64);
        violation(cost.params as f64, limit(self.config.max_params))
            + violation(cost.macs as f64, limit(self.config.max_macs))
    }

    /// Objectives that need no evaluation.
    ///
    /// # Errors
    /// If its network cannot be built.
    pub(super) fn known(&self, arch: &Arch) -> Result<Point> {
        let cost = self.space.cost(arch)?;
        let (params, macs) = (cost.params as f64, cost.macs as f64);
        let limit = self.config.max_params as f64 / 1e6;
        let mut point = match self.config.compat && self.config.max_params > 0 {
            // Hundredths of millions, and a penalty in place of a constraint, as released.
            true => Point::feasible([penalised((params / 1e4).round() / 1e2, limit, RELEASED_PENALTY)]),
            false => Point { objectives: vec![params], violation: self.violation(cost) },
        };
        point.objectives.extend(self.config.minimize_macs.then_some(macs));
        Ok(point)
    }
}

impl Genotypes for Coded<'_> {
    fn options(&self) -> &[u32] {
        &self.options
    }

    /// Bred vectors are repaired; chance in that depends on the vector alone.
    fn admit(&self, genes: Vec<u32>) -> Option<Vec<u32>> {
        let arch = genes::arch(&**self.space, &genes).ok()?;
        let mut draw = Stream::new(self.space.number(&arch), REPAIR_PURPOSE, 0);
        Some(genes::of(&self.space.repaired(arch, &mut draw).ok()?))
    }

    fn key(&self, genes: &[u32]) -> String {
        genes::arch(&**self.space, genes)
            .map_or_else(|_| format!("{genes:?}"), |arch| format!("{:?}", self.space.canonical(&arch)))
    }

    fn sample(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let mut drawn = None;
        for _ in 0..=TRIES {
            // Nothing is drawn from a space that does not manage to repair it.
            let Ok(arch) = self.space.sample(draw) else { break };
            let fits = self.space.cost(&arch).is_ok_and(|cost| self.violation(cost) <= 0.0);
            drawn = Some(arch);
            if fits {
                break;
            }
        }
        genes::of(&drawn.unwrap_or_else(|| self.space.smallest()))
    }
}

/// Checks the limits against the smallest network of the space.
pub fn check_limits(space: &Family, config: &FlatnasConfig) -> Result<()> {
    let smallest = space.cost(&space.smallest())?;
    for (what, most, least) in
        [("--max-params", config.max_params, smallest.params), ("--max-macs", config.max_macs, smallest.macs)]
    {
        if most > 0 && most < least {
            return Err(Error::invalid(what, format!("is {most}; the smallest network has {least}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::nn::Model;
    use crate::nn::space::{Build, ImageInfo, Networks, Options, Purpose};
    use crate::search::config::Preset;
    use crate::search::nsga2::{Nsga2, Nsga2Settings};
    use crate::search::pareto::Point;
    use crate::space::testing::streams;
    use crate::space::{Gene, Space};

    /// Architectures are vectors that do not fall; `never` finds none.
    struct Rising {
        never: bool,
    }

    const GENES: [Gene; 4] = [Gene::category(5); 4];

    impl Space for Rising {
        fn name(&self) -> &str {
            "rising"
        }

        fn genes(&self) -> &[Gene] {
            &GENES
        }

        fn parse(&self, text: &str) -> Result<Arch> {
            Ok(text.bytes().map(|byte| byte.wrapping_sub(b'0')).collect())
        }

        fn show(&self, arch: &Arch) -> String {
            arch.iter().map(|value| char::from(b'0' + value)).collect()
        }

        fn repair(&self, arch: &mut Arch, draw: &mut dyn Draw) -> bool {
            if let Some(at) = (1..arch.len()).find(|&at| arch[at] < arch[at - 1]) {
                // Either of the two may give way.
                let (from, to) = if draw.below(2) == 0 { (at, at - 1) } else { (at - 1, at) };
                arch[to] = arch[from];
            }
            !self.never && arch.is_sorted()
        }
    }

    impl Networks for Rising {
        fn forms(&self) -> &[&str] {
            &["none"]
        }

        fn defaults(&self, _: Purpose, info: &ImageInfo) -> Build {
            let ImageInfo { height, width, channels, classes } = *info;
            let (image, in_channels) = ([height, width], channels);
            Build { form: "none".into(), image, in_channels, classes, options: Options::new() }
        }

        fn network(&self, _: &Arch, _: &Build) -> Result<Box<dyn Model>> {
            Err(Error::invalid("rising", "has no networks"))
        }

        fn cost(&self, arch: &Arch, _: &Build) -> Result<Cost> {
            assert!(arch.is_sorted(), "{arch:?} is no architecture");
            Ok(Cost { params: arch.iter().map(|v| u64::from(*v)).sum(), macs: 1 })
        }
    }

    fn family(never: bool) -> (Family, FlatnasConfig) {
        let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
        let space = Rising { never };
        let config = FlatnasConfig::preset(Preset::Quick, &space, "digits", &info, false);
        let build = space.defaults(Purpose::Quick, &info);
        (Family::new(Arc::new(space), build).unwrap(), config)
    }

    #[test]
    fn what_is_bred_is_repaired() {
        let (space, config) = family(false);
        let (coded, streams) = (Coded::new(&space, &config), streams(3));
        let nsga2 = Nsga2::new(&coded, Nsga2Settings { generations: 4, ..Nsga2Settings::default() }, &streams).unwrap();
        let mut met = 0;
        nsga2
            .run(&[], &mut |all| {
                met += all.len();
                let point = |genes: &Vec<u32>| coded.known(&genes::arch(&*space, genes)?);
                all.iter().map(point).collect::<Result<Vec<Point>>>()
            })
            .unwrap();
        assert!(met > 50, "{met}");
        // The same vector is repaired to the same architecture.
        let bred = vec![4, 0, 3, 1];
        assert_eq!(coded.admit(bred.clone()), coded.admit(bred));
    }

    #[test]
    fn a_space_that_repairs_for_ever_is_named() {
        let (space, config) = family(true);
        let error = space.sample(streams(3)(0, 0).as_mut()).unwrap_err().to_string();
        assert!(error.contains("space rising") && error.contains("1000 times"), "{error}");
        assert_eq!(Coded::new(&space, &config).admit(vec![0; 4]), None);
    }
}
