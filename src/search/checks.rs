//! Why a run cannot begin, or has found nothing.

use super::config::{Arm, SearchConfig};
use super::domain::Limits;
use super::methods::arms;
use super::result::Explored;
use super::strategy::{StrategyConfig, random};
use crate::error::{Error, Result};
use crate::measure::latency::Latencies;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::space::Draw;
use crate::train::supernet::Heritage;

/// Purpose word of what is drawn to see whether there is anything within the limits.
const LIMITS_PURPOSE: u32 = 0x4C49_4D54;

/// The options that limit networks.
const LIMITS: &str = "--max-params, --max-macs, --max-latency";

/// Fails, before a supernet is trained for them, if chance meets no candidate within the limits where a search begins with chance alone.
pub(super) fn check_limits(config: &SearchConfig, family: &Family, latencies: Option<&Latencies>) -> Result<()> {
    let by_chance = matches!(config.strategy, StrategyConfig::Random(_) | StrategyConfig::Evolution(_));
    if !by_chance || config.limits() == Limits::default() || config.supernet().is_none() {
        return Ok(());
    }
    let domain = config.domain(family, &arms(config)?[0], latencies)?;
    let streams = |_, slot| -> Box<dyn Draw> { Box::new(Stream::new(config.seed, LIMITS_PURPOSE, slot)) };
    let found = random::distinct(&domain, 1, &streams)?;
    latencies.map_or(Ok(()), Latencies::check)?;
    match found.is_empty() {
        true => {
            let tries = random::TRIES;
            let why = format!("none of {tries} architectures at random is within the limits; widen {LIMITS}");
            Err(Error::invalid("search", why))
        }
        false => Ok(()),
    }
}

/// Fails if an arm needs the weights with which the supernet's training began, and these are not known.
pub(super) fn check_angle(arms: &[Arm], heritage: Option<&Heritage>) -> Result<()> {
    let needed = arms.iter().any(|arm| arm.objectives.measures().contains(&"angle"));
    match needed && heritage.is_some_and(|heritage| heritage.before().is_none()) {
        true => {
            let why = "the file does not say with which seed its training began, and an angle is by how much training turned the \
                       weights; train the supernet here, or take the supernet.safetensors of another run";
            Err(Error::invalid("--supernet", why))
        }
        false => Ok(()),
    }
}

/// Why nothing can be chosen.
pub(super) fn nobody(found: &Explored, constant: f64) -> Error {
    let all = found.evaluated + found.given;
    if all == 0 {
        let why = format!("no candidate was found: thousands of draws met none within the limits; widen {LIMITS}");
        return Error::invalid("search", why);
    }
    let rule = match constant.is_finite() {
        true => format!(" (an error of {constant:.1} % or more is that of a constant answer)"),
        false => String::new(),
    };
    let why = format!(
        "none of {all} candidates can be chosen: {} could not be evaluated, {} learned nothing{rule}, {} are beyond the limits; train \
         for longer (--supernet-epochs, --candidate-epochs, --lr) or widen the limits",
        found.failed,
        found.learned_nothing,
        all - found.failed.min(all) - found.learned_nothing.min(all - found.failed.min(all)),
    );
    Error::invalid("search", why)
}
