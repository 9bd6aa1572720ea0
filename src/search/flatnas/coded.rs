//! The architectures of a space as genotypes within limits, and the objectives that need no evaluation.

use super::super::genes::Genotypes;
use super::super::objectives::{RELEASED_PENALTY, penalised, violation};
use super::super::pareto::Point;
use super::config::FlatnasConfig;
use crate::error::{Error, Result};
use crate::space::{Draw, Space};

/// How often a random candidate is drawn anew when it is beyond a limit, before one beyond it is taken.
const TRIES: usize = 1_000;

/// Genotypes of a space within limits.
pub(super) struct Coded<'a, S: Space> {
    space: &'a S,
    options: Vec<u32>,
    config: &'a FlatnasConfig,
}

impl<'a, S: Space> Coded<'a, S> {
    pub(super) fn new(space: &'a S, config: &'a FlatnasConfig) -> Self {
        Coded { space, options: space.options(), config }
    }

    fn violation(&self, arch: &S::Arch) -> f64 {
        let limit = |most: u64| (most > 0).then_some(most as f64);
        violation(self.space.params(arch) as f64, limit(self.config.max_params))
            + violation(self.space.macs(arch) as f64, limit(self.config.max_macs))
    }

    /// Objectives that need no evaluation.
    pub(super) fn known(&self, arch: &S::Arch) -> Point {
        let (params, macs) = (self.space.params(arch) as f64, self.space.macs(arch) as f64);
        let limit = self.config.max_params as f64 / 1e6;
        let mut point = match self.config.compat && self.config.max_params > 0 {
            // Hundredths of millions, and a penalty in place of a constraint, as released.
            true => Point::feasible([penalised((params / 1e4).round() / 1e2, limit, RELEASED_PENALTY)]),
            false => Point { objectives: vec![params], violation: self.violation(arch) },
        };
        point.objectives.extend(self.config.minimize_macs.then_some(macs));
        point
    }
}

impl<S: Space> Genotypes for Coded<'_, S> {
    fn options(&self) -> &[u32] {
        &self.options
    }

    fn key(&self, genes: &[u32]) -> String {
        self.space.decode(genes).map_or_else(|_| format!("{genes:?}"), |arch| self.space.canonical(&arch))
    }

    fn sample(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let mut arch = self.space.sample(draw);
        for _ in 0..TRIES {
            if self.violation(&arch) <= 0.0 {
                break;
            }
            arch = self.space.sample(draw);
        }
        self.space.encode(&arch)
    }
}

/// Checks the limits against the smallest network of the space.
pub fn check_limits<S: Space>(space: &S, config: &FlatnasConfig) -> Result<()> {
    let smallest = space.smallest();
    for (what, most, least) in [
        ("--max-params", config.max_params, space.params(&smallest)),
        ("--max-macs", config.max_macs, space.macs(&smallest)),
    ] {
        if most > 0 && most < least {
            return Err(Error::invalid(what, format!("is {most}; the smallest network has {least}")));
        }
    }
    Ok(())
}
