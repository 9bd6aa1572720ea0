//! Against the authors' own code, and against their formulas written out again: networks, measures, attacks, corruptions,
//! multi-objective selection.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod case;
mod corruptions;
mod croze_f64;
mod darts;
mod flatness;
mod hashed;
mod mobilenet_v3;
mod moo;
mod networks;
mod newer_proxies;
mod proxies;
