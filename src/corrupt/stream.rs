//! Corrupting many images with all cores, a few in memory at a time.

use super::Corruption;
use crate::error::Result;
use image::RgbImage;
use rayon::prelude::*;

/// Jobs per thread that run between two rounds of handing over.
const PER_THREAD: usize = 4;

impl Corruption {
    /// Corrupts `count` images on all of rayon's threads: `load(i)` gives image number `i`, `sink(i, image)` takes the
    /// corrupted ones in order. The draws are those of [`seeded`](Self::seeded) with index `i`, whatever the threads.
    ///
    /// An image that can't be loaded or corrupted doesn't stop the others: its error goes to `sink`. At most eight
    /// images per thread are held at a time.
    ///
    /// # Errors
    /// The first error that `sink` returns; it ends the run.
    pub fn each(
        &self,
        seed: u64,
        count: usize,
        load: impl Fn(usize) -> Result<RgbImage> + Sync,
        sink: impl FnMut(usize, Result<RgbImage>) -> Result<()>,
    ) -> Result<()> {
        in_order(count, |i| self.seeded(&load(i)?, seed, i as u64), sink)
    }
}

/// Runs `job(i)` for `i` from 0 to `count - 1` on rayon's threads and hands the results to `sink` in order, on the
/// calling thread, while the next jobs run. At most eight results per thread are held at a time.
///
/// # Errors
/// The first error that `sink` returns; it ends the run.
pub fn in_order<T: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<T> + Sync,
    mut sink: impl FnMut(usize, Result<T>) -> Result<()>,
) -> Result<()> {
    let block = PER_THREAD * rayon::current_num_threads().max(1);
    let mut ready: Vec<Result<T>> = vec![];
    let mut next = vec![];
    let mut first = 0;
    // One round more than there are blocks: the last only hands over.
    for start in (0..count + block).step_by(block) {
        rayon::in_place_scope(|scope| {
            let range = start.min(count)..(start + block).min(count);
            scope.spawn(|_| range.into_par_iter().with_max_len(1).map(&job).collect_into_vec(&mut next));
            ready.drain(..).enumerate().try_for_each(|(i, result)| sink(first + i, result))
        })?;
        std::mem::swap(&mut ready, &mut next);
        first = start;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_errors_go_to_the_sink() {
        for count in [0, 1, 7, 8, 9, 16, 203] {
            let mut seen = vec![];
            let job = |i| if i % 50 == 7 { Err(Error::invalid("job", "seven")) } else { Ok(i) };
            in_order(count, job, |i, result| {
                seen.push(i);
                assert_eq!(result.ok(), (i % 50 != 7).then_some(i));
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn few_results_are_held() {
        let block = PER_THREAD * rayon::current_num_threads();
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let job = |i| {
            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Ok(i)
        };
        in_order(500, job, |_, _| {
            held.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert!(most.load(Ordering::SeqCst) <= 2 * block);
    }

    #[test]
    fn the_sink_can_stop_the_run() {
        let (mut seen, started) = (0, AtomicUsize::new(0));
        let job = |i| {
            started.fetch_add(1, Ordering::SeqCst);
            Ok(i)
        };
        let stopped = in_order(100_000, job, |i, _| {
            seen += 1;
            if i == 3 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(Error::Cancelled)) && seen == 4);
        assert!(started.load(Ordering::SeqCst) <= 2 * PER_THREAD * rayon::current_num_threads());
    }
}
