//! Corrupting many images with all cores, a few in memory at a time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, TryRecvError};

use image::RgbImage;

use super::Corruption;
use crate::error::{Error, Result};

/// Jobs per thread that are under way or whose results wait for their turn.
const PER_THREAD: usize = 8;

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
/// calling thread, while further jobs run. At most eight results per thread are held at a time.
///
/// # Errors
/// The first error that `sink` returns; it ends the run.
pub fn in_order<T: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<T> + Sync,
    mut sink: impl FnMut(usize, Result<T>) -> Result<()>,
) -> Result<()> {
    let window = PER_THREAD * rayon::current_num_threads().max(1);
    let (done, results) = mpsc::channel();
    let run = |i: usize| {
        // A panic travels to the caller, who would wait for its result for ever.
        let result = catch_unwind(AssertUnwindSafe(|| job(i)));
        // Nobody listens when the sink has ended the run.
        done.send((i, result)).ok();
    };
    rayon::in_place_scope(|scope| {
        let run = &run;
        let mut held = BTreeMap::new();
        for i in 0..window.min(count) {
            scope.spawn(move |_| run(i));
        }
        for i in 0..count {
            while !held.contains_key(&i) {
                let (number, result) = receive(&results)?;
                held.insert(number, result.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            if let Some(result) = held.remove(&i) {
                sink(i, result)?;
            }
            // The next job starts only now, so a slow sink slows the jobs instead of gathering their results.
            if i + window < count {
                scope.spawn(move |_| run(i + window));
            }
        }
        Ok(())
    })
}

/// The next message. A caller that is one of rayon's own threads works on jobs while it waits: there may be no other.
fn receive<T>(messages: &mpsc::Receiver<T>) -> Result<T> {
    let closed = || Error::invalid("jobs", "they ended without a result");
    loop {
        match messages.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(closed()),
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                None => return messages.recv().map_err(|_| closed()),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let window = PER_THREAD * rayon::current_num_threads();
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
        assert!(most.load(Ordering::SeqCst) <= window);
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
        assert!(started.load(Ordering::SeqCst) <= 4 + PER_THREAD * rayon::current_num_threads());
    }

    #[test]
    fn one_thread_is_enough() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut sum = 0;
        let sink = |_, result: Result<usize>| result.map(|i| sum += i);
        pool.install(|| in_order(1000, Ok, sink)).unwrap();
        assert_eq!(sum, 499_500);
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller() {
        let job = |i| if i == 20 { std::panic::resume_unwind(Box::new("twenty")) } else { Ok(i) };
        let caught = catch_unwind(AssertUnwindSafe(|| in_order(100, job, |_, _| Ok(()))));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"twenty"));
    }
}
