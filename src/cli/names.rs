//! Names of architectures in tables: numbers for what compares rows, and the architectures behind the numbers.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::error::Result;
use crate::report::score_table::Identity;
use crate::space::{Arch, Space};

/// The architectures of a space that tables have named.
pub(super) struct Names<'a> {
    space: &'a dyn Space,
    known: RefCell<HashMap<u64, Arch>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(space: &'a dyn Space) -> Self {
        Names { space, known: RefCell::default() }
    }

    /// The architecture of a name, and its class.
    ///
    /// # Errors
    /// If it is no name.
    pub(super) fn identify(&self, name: &str) -> Result<Identity> {
        let arch = self.space.parse(name)?;
        self.space.check_vector(&arch)?;
        let canonical = self.space.canonical(&arch);
        let [own, class] = [&arch, &canonical].map(|arch| self.space.number(arch));
        let identity = Identity { own, class, representative: canonical == arch };
        self.known.borrow_mut().insert(own, arch);
        Ok(identity)
    }

    /// The architecture of a number that [`Names::identify`] gave.
    pub(super) fn arch(&self, own: u64) -> Option<Arch> {
        self.known.borrow().get(&own).cloned()
    }
}
