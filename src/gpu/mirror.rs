//! Memory that the host alone writes: whatever it sets between two submissions goes to the device in one write.
//!
//! Each write costs a staging buffer, a copy and its barrier, and a step of fifty networks sets a hundred small tensors. So
//! those lie side by side in a slab with a copy on the host; what has changed of it is sent by the next submission.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{Gpu, Slab, lock};

/// What the device will have after the next submission.
pub(super) struct Mirror {
    bytes: Vec<u8>,
    /// What the device does not have yet.
    behind: Range<usize>,
}

impl Mirror {
    /// Zeros, which the device has as well.
    pub(super) fn new(bytes: u64) -> Mutex<Self> {
        Mutex::new(Mirror { bytes: vec![0; bytes as usize], behind: 0..0 })
    }

    /// Takes `data`, which fit; says whether the device now is behind and was not before.
    fn set(&mut self, at: usize, data: &[u8]) -> bool {
        let Some(own) = self.bytes.get_mut(at..at + data.len()).filter(|own| *own != data) else { return false };
        own.copy_from_slice(data);
        let first = self.behind.is_empty();
        self.behind = match first {
            true => at..at + data.len(),
            false => self.behind.start.min(at)..self.behind.end.max(at + data.len()),
        };
        first
    }
}

impl Gpu {
    /// Keeps `data` for the next submission; the caller has checked that they fit.
    pub(super) fn defer(&self, slab: &Slab, mirror: &Mutex<Mirror>, offset: u64, data: &[u8]) {
        // Always this lock before the mirror's: whoever flushes takes both.
        let mut behind = lock(&self.0.behind);
        if lock(mirror).set(offset as usize, data) {
            behind.push(Arc::downgrade(&slab.0));
        }
    }

    /// Sends what was kept, one write for each slab. Another thread that submits meanwhile waits, so that no submission
    /// overtakes what was set before it.
    pub(super) fn flush(&self) {
        let mut behind = lock(&self.0.behind);
        for slab in behind.drain(..).filter_map(|slab| slab.upgrade()).map(Slab) {
            let Some(mirror) = &slab.0.mirror else { continue };
            let mut mirror = lock(mirror);
            let range = std::mem::take(&mut mirror.behind);
            self.send(&slab, range.start as u64, mirror.bytes.get(range).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_one_range() {
        let mirror = Mirror::new(32);
        let mut mirror = lock(&mirror);
        assert!(!mirror.set(0, &[0; 8]), "equal bytes are there already");
        assert!(mirror.set(20, &[1; 4]));
        assert!(!mirror.set(8, &[2; 4]));
        assert_eq!(
            (mirror.behind.clone(), &mirror.bytes[8..24]),
            (8..24, &[2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1][..])
        );
        assert!(!mirror.set(8, &[3; 4]) && mirror.behind == (8..24), "what comes last counts");
        assert_eq!(std::mem::take(&mut mirror.behind), 8..24);
        assert!(mirror.set(28, &[4; 4]) && mirror.behind == (28..32));
    }
}
