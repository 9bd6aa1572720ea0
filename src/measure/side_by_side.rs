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

#[cfg(test)]
mod tests {
    use super::*;

    fn no_room(needed: u64) -> Error {
        Error::Memory { what: "networks".into(), needed, limit: 2, advice: String::new() }
    }

    /// Each thing once and in order, in pieces that fit, whatever fits.
    #[test]
    fn work_is_halved_until_it_fits() {
        for (all, room) in [(1, 1), (7, 1), (7, 2), (7, 3), (8, 8), (0, 1)] {
            let mut most = 0;
            let done = halving(0..all, &mut |range| {
                if range.len() > room {
                    return Err(no_room(range.len() as u64));
                }
                most = most.max(range.len());
                Ok(range.collect())
            });
            assert_eq!(done.unwrap(), (0..all).collect::<Vec<usize>>(), "{all} where {room} fit");
            assert!(most <= room);
        }
    }

    #[test]
    fn other_errors_and_a_single_one_too_many_are_told() {
        let mut calls = 0;
        let error = halving::<()>(0..8, &mut |_| {
            calls += 1;
            Err(Error::Cancelled)
        });
        assert!(matches!(error, Err(Error::Cancelled)) && calls == 1);
        assert!(matches!(halving::<()>(0..3, &mut |_| Err(no_room(9))), Err(Error::Memory { needed: 9, .. })));
        assert_eq!((limited(9, 0), limited(9, 4), limited(9, 12)), (9, 4, 9));
    }
}
