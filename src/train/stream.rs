//! Pictures that are decoded by all cores ahead of the device.
//!
//! Whoever feeds networks says which images will be needed soon; they are decoded meanwhile, and wait here until they are fetched. What
//! nobody announced, or what has not begun yet, is decoded when it is fetched. So what is announced, and when, decides the speed and
//! nothing else: the same pixels come either way.
//!
//! Whoever fetches may wait for another thread that decodes. That thread never waits itself, since decoding one picture
//! uses no other threads, so that nobody waits in a circle.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::data::Images;
use crate::data::resize::Window;
use crate::error::Result;

/// Bytes of announced pictures that wait at most; what is announced beyond is decoded when it is fetched.
const AHEAD: usize = 256 << 20;

/// An image, or a part of the picture that it is made of.
pub(super) type Look = (usize, Option<Window>);

/// Images of files, and what was decoded of them ahead.
pub(super) struct Stream {
    shared: Arc<Shared>,
}

/// What threads that decode have in common.
struct Shared {
    images: Images,
    ahead: Mutex<HashMap<Look, Wanted>>,
    decoded: AtomicU64,
    decoding_ns: AtomicU64,
    waited_ns: AtomicU64,
    uploaded: AtomicU64,
    uploading_ns: AtomicU64,
}

/// A picture that was announced, and how often.
struct Wanted {
    job: Arc<Job>,
    times: usize,
}

/// The decoding of one picture.
struct Job {
    state: Mutex<State>,
    done: Condvar,
}

enum State {
    /// Nobody has begun.
    Waiting,
    Running,
    /// Its pixels; none if it failed, so that whoever fetches it finds out why.
    Done(Option<Arc<Vec<u8>>>),
}

/// What streaming did in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Pictures that were decoded.
    pub decoded: u64,
    /// How long that took, over all threads.
    pub decoding: Duration,
    /// How long the networks' feed waited for pictures.
    pub waited: Duration,
    /// Bytes that were handed to the device.
    pub uploaded: u64,
    /// How long that took.
    pub uploading: Duration,
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = |count: f64, time: Duration| count / time.as_secs_f64().max(1e-9);
        write!(
            f,
            "{} pictures decoded, {:.0} a second on each core; {:.0} MB handed to the device, {:.0} a second; waited {:.1} s for pictures",
            self.decoded,
            over(self.decoded as f64, self.decoding),
            self.uploaded as f64 / 1e6,
            over(self.uploaded as f64 / 1e6, self.uploading),
            self.waited.as_secs_f64()
        )
    }
}

/// Locks; what a thread that panicked left behind is whole, since nothing is half-written under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    /// Nothing is decoded yet.
    pub fn new(images: Images) -> Self {
        let zero = || AtomicU64::new(0);
        let shared = Shared {
            images,
            ahead: Mutex::default(),
            decoded: zero(),
            decoding_ns: zero(),
            waited_ns: zero(),
            uploaded: zero(),
            uploading_ns: zero(),
        };
        Stream { shared: Arc::new(shared) }
    }

    /// The images themselves.
    pub fn images(&self) -> &Images {
        &self.shared.images
    }

    /// Begins to decode what will be fetched, in this order; a look that stands there twice will be fetched twice. Does nothing, and
    /// returns false, if more would wait then than may.
    pub fn announce(&self, looks: &[Look]) -> bool {
        let size = self.shared.images.image_len().max(1);
        let mut ahead = lock(&self.shared.ahead);
        if (ahead.len() + looks.len()).saturating_mul(size) > AHEAD {
            return false;
        }
        for &look in looks.iter().filter(|look| self.shared.at_hand(**look).is_none()) {
            if let Some(wanted) = ahead.get_mut(&look) {
                wanted.times += 1;
                continue;
            }
            let job = Arc::new(Job { state: Mutex::new(State::Waiting), done: Condvar::new() });
            ahead.insert(look, Wanted { job: job.clone(), times: 1 });
            let shared = self.shared.clone();
            rayon::spawn(move || job.run(&shared, look));
        }
        true
    }

    /// The pixels of images side by side, for those that are none zeros.
    ///
    /// # Errors
    /// If a picture cannot be decoded any more, or was changed.
    pub fn fetch(&self, looks: &[Option<Look>]) -> Result<Vec<u8>> {
        let begin = Instant::now();
        let size = self.shared.images.image_len().max(1);
        let mut pixels = vec![0; looks.len() * size];
        // What nobody announced, with its place; the cores share it.
        let mut unknown = vec![];
        for (place, look) in pixels.chunks_exact_mut(size).zip(looks) {
            let Some(look) = *look else { continue };
            let announced = self.shared.announced(look).and_then(|job| job.wait(&self.shared, look));
            match (announced, self.shared.at_hand(look)) {
                (Some(own), _) => place.copy_from_slice(&own),
                (None, Some(own)) => place.copy_from_slice(own),
                (None, None) => unknown.push((place, look)),
            }
        }
        let decode = |(place, look): (&mut [u8], Look)| self.shared.decode(look).map(|own| place.copy_from_slice(&own));
        unknown.into_par_iter().try_for_each(decode)?;
        self.shared.waited_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(pixels)
    }

    /// Takes back that looks will be fetched, once each.
    pub fn forget(&self, looks: &[Option<Look>]) {
        looks.iter().flatten().for_each(|look| drop(self.shared.announced(*look)));
    }

    /// Runs an upload of so many bytes, and remembers how long it took.
    pub fn uploading(&self, bytes: usize, upload: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        upload()?;
        self.shared.uploaded.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared.uploading_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What was done since this was last asked.
    pub fn take_rates(&self) -> Rates {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let time = |count: &AtomicU64| Duration::from_nanos(take(count));
        let Shared { decoded, decoding_ns, waited_ns, uploaded, uploading_ns, .. } = &*self.shared;
        Rates {
            decoded: take(decoded),
            decoding: time(decoding_ns),
            waited: time(waited_ns),
            uploaded: take(uploaded),
            uploading: time(uploading_ns),
        }
    }
}

impl Shared {
    /// The pixels of what needs no decoding.
    fn at_hand(&self, (image, part): Look) -> Option<&[u8]> {
        if part.is_some() { None } else { self.images.at_hand(image) }
    }

    /// The decoding of a picture that was announced; it is forgotten when it was fetched as often.
    fn announced(&self, look: Look) -> Option<Arc<Job>> {
        let mut ahead = lock(&self.ahead);
        let wanted = ahead.get_mut(&look)?;
        wanted.times -= 1;
        let job = wanted.job.clone();
        if wanted.times == 0 {
            ahead.remove(&look);
        }
        Some(job)
    }

    fn decode(&self, (image, part): Look) -> Result<Vec<u8>> {
        let begin = Instant::now();
        let pixels = match part {
            Some(part) => self.images.part(image, part)?,
            None => self.images.image(image)?.into_owned(),
        };
        self.decoded.fetch_add(1, Ordering::Relaxed);
        self.decoding_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(pixels)
    }
}

impl Job {
    /// Decodes, unless somebody has begun.
    fn run(&self, shared: &Shared, look: Look) {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Waiting) {
            return;
        }
        *state = State::Running;
        drop(state);
        // A decoder that panics on a damaged file must not leave anybody waiting.
        let decode = std::panic::AssertUnwindSafe(|| shared.decode(look).ok().map(Arc::new));
        let found = std::panic::catch_unwind(decode).unwrap_or(None);
        *lock(&self.state) = State::Done(found);
        self.done.notify_all();
    }

    /// Its pixels; who waits for what nobody has begun does it.
    fn wait(&self, shared: &Shared, look: Look) -> Option<Arc<Vec<u8>>> {
        self.run(shared, look);
        let mut state = lock(&self.state);
        loop {
            match &*state {
                State::Done(found) => return found.clone(),
                _ => state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{Handling, Reading, load_with};

    /// Twelve grey pictures in files, each of one value, and the stream of the eight that are trained on.
    fn stream(dir: &Path, random_crop: Option<f64>) -> Stream {
        for i in 0..12u8 {
            let path = dir.join(format!("{}/{i}.png", ["a", "b"][usize::from(i) % 2]));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_fn(9, 7, |x, _| image::Luma([20 * i + x as u8])).save(path).unwrap();
        }
        let handling = Handling { strict: true, memory: Some(0), ..Handling::default() };
        let reading = Reading { crop: Some(5), test_share: Some(0.34), random_crop, handling, ..Reading::default() };
        Stream::new(load_with(dir.to_str().unwrap(), &reading).unwrap().train)
    }

    #[test]
    fn what_is_announced_is_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let stream = stream(dir.path(), Some(0.3));
        let images = stream.images().clone();
        assert_eq!(images.len(), 8);
        let part = |image: usize| (image, images.random_part(image, 3, image as u64));
        let looks =
            [Some((4, None)), None, Some(part(1)), Some((4, None)), Some((7, None)), Some(part(4)), Some((0, None))];
        let want: Vec<u8> = looks
            .iter()
            .flat_map(|look| match look {
                None => vec![0; 25],
                Some((image, None)) => images.image(*image).unwrap().into_owned(),
                Some((image, Some(part))) => images.part(*image, *part).unwrap(),
            })
            .collect();
        // Nothing was announced, all was, twice as much, and other things.
        for times in 0..3 {
            let known: Vec<Look> = looks.iter().flatten().copied().collect();
            assert!((0..times).all(|_| stream.announce(&known)) && stream.announce(&[(2, None), part(6)]));
            for _ in 0..times.max(1) {
                assert_eq!(stream.fetch(&looks).unwrap(), want);
            }
            stream.fetch(&[Some((2, None))]).unwrap();
            stream.forget(&[Some(part(6)), None]);
            assert!(lock(&stream.shared.ahead).is_empty(), "{times}");
        }
        stream.uploading(50, || Ok(())).unwrap();
        let rates = stream.take_rates();
        assert!(rates.decoded >= 6 && rates.uploaded == 50 && rates.decoding > Duration::ZERO, "{rates}");
        assert_eq!(stream.take_rates(), Rates::default());
    }

    #[test]
    fn pictures_that_are_lost_meanwhile_are_told_when_they_are_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let stream = stream(dir.path(), None);
        for class in ["a", "b"] {
            std::fs::remove_dir_all(dir.path().join(class)).unwrap();
        }
        assert!(stream.announce(&[(1, None), (2, None)]));
        let why = stream.fetch(&[Some((1, None))]).unwrap_err().to_string();
        assert!(why.contains("cannot read") && why.contains(".png"), "{why}");
    }
}
