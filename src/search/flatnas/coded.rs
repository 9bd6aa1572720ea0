//! The architectures of a space as genotypes within limits, and the objectives that need no evaluation.

use super::super::genes::{self, Genotypes};
use super::super::objectives::{RELEASED_PENALTY, penalised, violation};
use super::super::pareto::Point;
use super::config::FlatnasConfig;
use crate::error::{Error, Result};
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::space::{Arch, Draw};

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
