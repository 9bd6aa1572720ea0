//! What a search may propose, and what is known of it without an evaluation.

use serde::{Deserialize, Serialize};

use super::front::pareto::Point;
use super::objectives::{Measures, RELEASED_PENALTY, penalised, violation};
use crate::error::{Error, Result, unknown};
use crate::measure::latency::Latencies;
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::space::{Arch, Draw, Space};

/// What measures call a network's latency, in milliseconds.
pub const LATENCY: &str = "latency";
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

    /// The same once it was evaluated, and what was measured may say more.
    fn told(&self, arch: &Arch, _measures: &Measures) -> Point {
        self.known(arch)
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
    largest_by(domain, &|cost| (cost.params, cost.macs))
}

/// The same by another size.
fn largest_by(domain: &dyn Domain, size: &dyn Fn(Cost) -> (u64, u64)) -> Result<Arch> {
    let size = |arch: &Arch| domain.cost(arch).map(size);
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

/// What may be minimised beside what a search maximises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Trainable parameters.
    Params,
    /// Multiply-adds for one image.
    Macs,
    /// Milliseconds for one image on the adapter at hand.
    Latency,
}

impl Quantity {
    /// All, in the order of their limits.
    pub const ALL: [Quantity; 3] = [Quantity::Params, Quantity::Macs, Quantity::Latency];

    /// What it is of a network that takes so long.
    pub fn of(self, cost: Cost, latency: f64) -> f64 {
        match self {
            Quantity::Params => cost.params as f64,
            Quantity::Macs => cost.macs as f64,
            Quantity::Latency => latency,
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "params" => Quantity::Params,
            "macs" => Quantity::Macs,
            "latency" => Quantity::Latency,
            _ => return Err(unknown("--minimize", text, &["params", "macs", "latency"])),
        })
    }
}

/// Limits of networks; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Most parameters.
    pub params: u64,
    /// Most multiply-adds for one image.
    pub macs: u64,
    /// Most milliseconds for one image.
    pub latency: f64,
}

impl Limits {
    /// By how much a network of this latency exceeds them, as a part of them.
    pub fn violation(&self, cost: Cost, latency: f64) -> f64 {
        let most = Cost { params: self.params, macs: self.macs };
        let limit = |quantity: Quantity| Some(quantity.of(most, self.latency)).filter(|most| *most > 0.0);
        Quantity::ALL.iter().map(|quantity| violation(quantity.of(cost, latency), limit(*quantity))).sum()
    }

    /// Checks that the smallest network of a space is within those of counts.
    ///
    /// # Errors
    /// Names the limit, and what the smallest network has.
    pub fn check(&self, family: &Family) -> Result<()> {
        let smallest = family.smallest();
        let least = family.cost(&smallest)?;
        for (option, most, least, what) in [
            ("--max-params", self.params, least.params, "parameters"),
            ("--max-macs", self.macs, least.macs, "multiply-adds"),
        ] {
            if most > 0 && most < least {
                return Err(below(option, &most.to_string(), family, &format!("has {least} {what}")));
            }
        }
        Ok(())
    }

    /// What is to be said of limits that no network of a space exceeds.
    ///
    /// # Errors
    /// If a network cannot be built.
    pub fn idle(&self, family: &Family) -> Result<Vec<String>> {
        let mut notes = vec![];
        let all = Bounded::unlimited(family);
        let params: &dyn Fn(Cost) -> (u64, u64) = &|cost| (cost.params, cost.macs);
        let macs: &dyn Fn(Cost) -> (u64, u64) = &|cost| (cost.macs, cost.params);
        for (option, most, size, what) in
            [("--max-params", self.params, params, "parameters"), ("--max-macs", self.macs, macs, "multiply-adds")]
        {
            let largest = if most > 0 { size(family.cost(&largest_by(&all, size)?)?).0 } else { u64::MAX };
            if largest <= most {
                notes.push(format!("{option} {most} excludes nothing: the largest network has {largest} {what}"));
            }
        }
        Ok(notes)
    }

    /// Checks that the smallest network takes no longer than the limit.
    ///
    /// # Errors
    /// Says what it takes; what the device has to say.
    pub fn check_latency(&self, family: &Family, latencies: &Latencies) -> Result<()> {
        if self.latency == 0.0 {
            return Ok(());
        }
        let least = latencies.of(&family.smallest())?;
        match least <= self.latency {
            true => Ok(()),
            false => Err(below(
                "--max-latency",
                &format!("{} ms", self.latency),
                family,
                &format!("takes {least:.3} ms here"),
            )),
        }
    }
}

/// Why a limit is too low.
fn below(option: &str, most: &str, family: &Family, least: &str) -> Error {
    let smallest = family.show(&family.smallest());
    Error::invalid(option, format!("is {most}; the smallest network, {smallest}, {least}"))
}

/// A space's networks within limits; what is minimised beside what the search maximises are the objectives from the second on.
pub struct Bounded<'a> {
    /// The space, and how its networks are built.
    pub family: &'a Family,
    /// How networks are built at the end, where they are trained: limits are theirs.
    pub trained: Family,
    /// What counts as the same.
    pub dedupe: Dedupe,
    /// The limits.
    pub limits: Limits,
    /// What is minimised besides.
    pub minimize: Vec<Quantity>,
    /// Whether parameters are counted in hundredths of millions, with a penalty on those above the limit in place of a constraint,
    /// as FlatNAS's released code has it.
    pub penalised: bool,
    /// How long networks take as they are built at the end, where that is limited or minimised.
    pub latencies: Option<&'a Latencies>,
    /// Whether limits are held against latencies as they count, which may have to be measured, and not as they are foretold.
    pub is_final: bool,
}

impl<'a> Bounded<'a> {
    /// All networks of a space, with their parameters minimised.
    pub fn unlimited(family: &'a Family) -> Self {
        Bounded {
            family,
            trained: family.clone(),
            dedupe: Dedupe::Canonical,
            limits: Limits::default(),
            minimize: vec![Quantity::Params],
            penalised: false,
            latencies: None,
            is_final: false,
        }
    }

    /// The point of an architecture whose network takes so long.
    fn point(&self, arch: &Arch, latency: f64) -> Result<Point> {
        let cost = self.family.cost(arch)?;
        let mut trained = if self.trained.build == self.family.build { cost } else { self.trained.cost(arch)? };
        let mut params = cost.params as f64;
        if self.penalised && self.limits.params > 0 && self.minimize.contains(&Quantity::Params) {
            let millions = (params / 1e4).round() / 1e2;
            params = penalised(millions, self.limits.params as f64 / 1e6, RELEASED_PENALTY);
            trained.params = 0;
        }
        let objective = |quantity: &Quantity| match quantity {
            Quantity::Params => params,
            other => other.of(cost, latency),
        };
        let objectives = self.minimize.iter().map(objective).collect();
        Ok(Point { objectives, violation: self.limits.violation(trained, latency) })
    }

    /// What limits are held against.
    fn latency(&self, arch: &Arch) -> Result<f64> {
        let foretold = self.foretold(arch)?;
        // No line is so far off that what it foretells to be twice as slow need be measured.
        match self.latencies.filter(|_| self.is_final && foretold <= 2.0 * self.limits.latency) {
            Some(latencies) => latencies.of(arch),
            None => Ok(foretold),
        }
    }

    fn foretold(&self, arch: &Arch) -> Result<f64> {
        self.latencies.map_or(Ok(f64::NAN), |latencies| latencies.foretold(arch))
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
        // Counting costs time, and so does what latencies ask for.
        let counts = Limits { latency: 0.0, ..self.limits };
        let within = |limits: Limits, latency: f64| {
            limits == Limits::default()
                || self.trained.cost(arch).is_ok_and(|cost| limits.violation(cost, latency) <= 0.0)
        };
        within(counts, 0.0)
            && (counts == self.limits || self.latency(arch).is_ok_and(|latency| within(self.limits, latency)))
    }

    fn cost(&self, arch: &Arch) -> Result<Cost> {
        self.family.cost(arch)
    }

    fn known(&self, arch: &Arch) -> Point {
        let point = self.foretold(arch).and_then(|latency| self.point(arch, latency));
        point.unwrap_or_else(|_| Point::failed(self.minimize.len()))
    }

    fn told(&self, arch: &Arch, measures: &Measures) -> Point {
        match measures.get(LATENCY) {
            Some(&latency) => self.point(arch, latency).unwrap_or_else(|_| Point::failed(self.minimize.len())),
            None => self.known(arch),
        }
    }
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
