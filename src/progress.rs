//! What long jobs tell their caller, and how the caller stops them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage {
        /// What it does.
        name: &'a str,
        /// Units of work in it.
        units: u64,
        /// Share of the whole job's work that stages before it had, from 0 to 1.
        from: f64,
        /// Share that is done when it ends.
        to: f64,
    },
    /// A candidate of a search was evaluated. Those that were evaluated together are all in the history before the first of them is told;
    /// whoever stops the search amid them is not told of the rest.
    Evaluated {
        /// The part of the search that asked for it.
        arm: &'a str,
        /// Its architecture.
        arch: &'a str,
        /// Trainable parameters.
        params: u64,
        /// What the search maximises.
        fitness: f64,
        /// Everything that was measured of it, by name.
        measures: &'a BTreeMap<String, f64>,
        /// The architecture that its part of the search would pick so far, with all that were evaluated together.
        best: Option<&'a str>,
    },
    /// So many units of the stage are done.
    Advance {
        /// Units done.
        done: u64,
        /// A figure worth showing: the latest loss, the best so far.
        note: String,
    },
}

/// A stage's place in the whole job, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// What stages before it had.
    pub from: f64,
    /// What is done when it ends.
    pub to: f64,
}

/// Receives events; [`ControlFlow::Break`] asks the job to stop at the next save.
pub type Observer<'a> = dyn FnMut(&Event) -> ControlFlow<()> + 'a;

/// Sends an event.
///
/// # Errors
/// [`Error::Cancelled`] if the observer asks to stop.
pub fn tell(observer: &mut Observer, event: Event) -> Result<()> {
    match observer(&event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// An observer that shows nothing.
pub fn silent() -> impl FnMut(&Event) -> ControlFlow<()> {
    |_| ControlFlow::Continue(())
}
