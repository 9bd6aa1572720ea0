//! Search: what to evaluate, how, what is made of it, and what comes of the best.
//!
//! A [`study::Study`] holds a [`strategy`] over a [`domain`] with [`objectives`]; it is asked for candidates and told what was measured.
//! [`evaluate`] measures, [`run::search`] runs whole arms of it in a folder and ends with [`finals`]. A method is a file of
//! [`methods`]: sizes, protocols, and what it is held against.

pub mod archive;
pub mod budget;
mod checks;
pub mod config;
pub mod domain;
pub mod evaluate;
pub mod finals;
pub mod front;
pub mod methods;
pub mod objectives;
pub mod result;
pub mod run;
pub mod simulated;
pub mod strategy;
pub mod study;
pub mod surrogate;
