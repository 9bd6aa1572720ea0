//! What a search may propose, and what is known of it without an evaluation.

use serde::{Deserialize, Serialize};

use super::front::pareto::Point;
use super::objectives::{RELEASED_PENALTY, penalised, violation};
use crate::error::{Error, Result};
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::space::{Arch, Draw, Space};

/// Purpose word of repairs.
const REPAIR_PURPOSE: u32 = 0x5245_5041;
/// How often a random candidate is drawn anew when it is beyond a limit, before one beyond it is taken.
const TRIES: usize = 1_000;

/// What counts as the same architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dedupe {
    /// The same name.
    Exact,
    /// The same canonical form: isomorphic architectures are evaluated once.
    #[default]
    Canonical,
}

/// The architectures that a search is about.
///
/// What is not given has the plainest meaning: all of the space, of which isomorphic ones count as one, at no cost.
pub trait Domain: Sync {
    /// The space.
    fn space(&self) -> &dyn Space;

    /// Equal for architectures of which only one is evaluated.
    fn key(&self, arch: &Arch) -> Arch {
        self.space().canonical(arch)
    }

    /// The architecture to take in place of this vector: itself, or what repairs it, or the one that represents its class; `None`
    /// when it must not be evaluated. Chance in a repair depends on the vector alone.
    fn admit(&self, arch: Arch) -> Option<Arch> {
        let mut draw = Stream::new(self.space().number(&arch), REPAIR_PURPOSE, 0);
        self.space().repaired(arch, &mut draw).ok()
    }

    /// Whether it is within the limits.
    fn is_within(&self, _arch: &Arch) -> bool {
        true
    }

    /// Draws one, within the limits or not.
    ///
    /// # Errors
    /// If the space does not manage to draw one.
    fn sample(&self, draw: &mut dyn Draw) -> Result<Arch> {
        self.space().sample(draw)
    }

    /// All of them, if they are few enough to be listed.
    fn list(&self) -> Option<&[Arch]> {
        None
    }

    /// A number that no search meets more different ones than.
    fn size(&self) -> Option<u64> {
        self.space().vectors()
    }

    /// Parameters and multiply-adds.
    ///
    /// # Errors
    /// If its network cannot be built.
    fn cost(&self, _arch: &Arch) -> Result<Cost> {
        Ok(Cost { params: 0, macs: 0 })
    }

    /// All objectives but the first, and by how much limits are exceeded: known without an evaluation.
    fn known(&self, _arch: &Arch) -> Point {
        Point::feasible([])
    }

    /// What a surrogate learns from.
    fn features(&self, arch: &Arch) -> Vec<f64> {
        self.space().features(arch)
    }
}

/// Draws one within the limits, or, if a thousand draws find none, one beyond; the smallest of the space if nothing can be drawn.
pub fn draw_within(domain: &dyn Domain, draw: &mut dyn Draw) -> Arch {
    let mut drawn = None;
    for _ in 0..=TRIES {
        let Ok(arch) = domain.sample(draw) else { break };
        let fits = domain.is_within(&arch);
        drawn = Some(arch);
        if fits {
            break;
        }
    }
    drawn.unwrap_or_else(|| domain.space().smallest())
}

/// The one with the most parameters within the limits, and of those the one with the most multiply-adds: what a count alone would
/// choose. Where the space cannot be listed, the one that no change of a single gene makes larger, from the smallest on.
///
/// # Errors
/// If a network cannot be built.
pub fn largest(domain: &dyn Domain) -> Result<Arch> {
    let size = |arch: &Arch| domain.cost(arch).map(|cost| (cost.params, cost.macs));
    let space = domain.space();
    let mut best = space.smallest();
    let mut most = size(&best)?;
    let mut take = |arch: Arch, best: &mut Arch| -> Result<bool> {
        let own = size(&arch)?;
        let is_larger = own > most && domain.is_within(&arch);
        if is_larger {
            (most, *best) = (own, arch);
        }
        Ok(is_larger)
    };
    if let Some(classes) = space.classes() {
        for arch in classes {
            take(arch, &mut best)?;
        }
        return Ok(best);
    }
    loop {
        let mut grown = false;
        for (place, gene) in space.genes().iter().enumerate() {
            for value in 0..gene.options {
                let mut arch = best.clone();
                arch[place] = value;
                if let Some(arch) = domain.admit(arch) {
                    grown |= take(arch, &mut best)?;
                }
            }
        }
        if !grown {
            return Ok(best);
        }
    }
}

/// A whole space, of which nothing else is known.
#[derive(Clone, Copy)]
pub struct Whole<'a>(pub &'a dyn Space);

impl Domain for Whole<'_> {
    fn space(&self) -> &dyn Space {
        self.0
    }
}

/// Limits of networks; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most parameters.
    pub params: u64,
    /// Most multiply-adds for one image.
    pub macs: u64,
}

impl Limits {
    /// By how much a network exceeds them, as a part of them.
    pub fn violation(&self, cost: Cost) -> f64 {
        let limit = |most: u64| (most > 0).then_some(most as f64);
        violation(cost.params as f64, limit(self.params)) + violation(cost.macs as f64, limit(self.macs))
    }

    /// Checks that the smallest network of a space is within them.
    ///
    /// # Errors
    /// Names the limit, and what the smallest network has.
    pub fn check(&self, family: &Family) -> Result<()> {
        let least = family.cost(&family.smallest())?;
        for (option, most, least, what) in [
            ("--max-params", self.params, least.params, "parameters"),
            ("--max-macs", self.macs, least.macs, "multiply-adds"),
        ] {
            if most > 0 && most < least {
                return Err(Error::invalid(option, format!("is {most}; the smallest network has {least} {what}")));
            }
        }
        Ok(())
    }
}

/// A space's networks within limits; parameters are the second objective, and multiply-adds a third where they are asked for.
pub struct Bounded<'a> {
    /// The space, and how its networks are built.
    pub family: &'a Family,
    /// How networks are built at the end, where they are trained: limits are theirs.
    pub trained: Family,
    /// What counts as the same.
    pub dedupe: Dedupe,
    /// The limits.
    pub limits: Limits,
    /// Whether multiply-adds are an objective too.
    pub minimize_macs: bool,
    /// Whether parameters are counted in hundredths of millions, with a penalty on those above the limit in place of a constraint,
    /// as FlatNAS's released code has it.
    pub penalised: bool,
}

impl Bounded<'_> {
    fn try_known(&self, arch: &Arch) -> Result<Point> {
        let cost = self.family.cost(arch)?;
        let trained = if self.trained.build == self.family.build { cost } else { self.trained.cost(arch)? };
        let params = cost.params as f64;
        let mut point = Point { objectives: vec![params], violation: self.limits.violation(trained) };
        if self.penalised && self.limits.params > 0 {
            let millions = (params / 1e4).round() / 1e2;
            point.objectives = vec![penalised(millions, self.limits.params as f64 / 1e6, RELEASED_PENALTY)];
            point.violation = Limits { params: 0, ..self.limits }.violation(trained);
        }
        point.objectives.extend(self.minimize_macs.then_some(cost.macs as f64));
        Ok(point)
    }
}

impl Domain for Bounded<'_> {
    fn space(&self) -> &dyn Space {
        &**self.family
    }

    fn key(&self, arch: &Arch) -> Arch {
        match self.dedupe {
            Dedupe::Exact => arch.clone(),
            Dedupe::Canonical => self.family.canonical(arch),
        }
    }

    fn is_within(&self, arch: &Arch) -> bool {
        // Counting costs time.
        self.limits == Limits::default() || self.trained.cost(arch).is_ok_and(|cost| self.limits.violation(cost) <= 0.0)
    }

    fn cost(&self, arch: &Arch) -> Result<Cost> {
        self.family.cost(arch)
    }

    fn known(&self, arch: &Arch) -> Point {
        self.try_known(arch).unwrap_or_else(|_| Point::failed(1 + usize::from(self.minimize_macs)))
    }
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
