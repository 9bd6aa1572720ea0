//! How much is done at a time.

use std::ops::Range;

use crate::error::{Error, Result};

/// So many of `all`; 0 stands for all.
pub fn limited(all: usize, most: usize) -> usize {
    if most == 0 { all } else { all.min(most) }
}

/// Does work on a range of things as a whole, or, where the device has no room, on both halves of it in turn.
///
/// # Errors
/// Those of the work; that there is no room for a single one.
pub fn halving<T>(range: Range<usize>, work: &mut dyn FnMut(Range<usize>) -> Result<Vec<T>>) -> Result<Vec<T>> {
    match work(range.clone()) {
        Err(Error::Memory { .. }) if range.len() > 1 => {
            let middle = range.start + range.len().div_ceil(2);
            let mut all = halving(range.start..middle, work)?;
            all.extend(halving(middle..range.end, work)?);
            Ok(all)
        }
        other => other,
    }
}
