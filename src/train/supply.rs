//! A data set as batches draw from it: all of it on the device, or pictures that are decoded and uploaded as they are needed.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::feed::Pick;
use super::stream::{Look, Rates, Stream};
use crate::data::Images;
use crate::data::resize::Filter;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Slab};

/// A data set on the device, or on its way there.
#[derive(Clone)]
pub struct Supply {
    pixels: Where,
    labels: Arc<Vec<u16>>,
    /// Rows, columns, channels.
    source: [usize; 3],
    classes: usize,
    /// How images are made larger for networks that see more.
    filter: Filter,
}

/// Where pixels come from.
#[derive(Clone)]
enum Where {
    /// All lie on the device, so many images to a slab.
    Resident { slabs: Vec<Slab>, per_slab: usize },
    /// They are brought there for each batch.
    Streamed(Arc<Stream>),
}

impl Supply {
    /// Uploads all images that lie in memory; pictures in files stay there until a batch needs them.
    ///
    /// # Errors
    /// If a label is not a class, or the device has no room.
    pub fn new(gpu: &Gpu, images: &Images) -> Result<Self> {
        if let Some(i) = images.labels.iter().position(|&l| usize::from(l) >= images.classes) {
            let why = format!("label {} of image {i} is not one of the {} classes", images.labels[i], images.classes);
            return Err(Error::invalid("data", why));
        }
        let source = [images.height, images.width, images.channels];
        let length = images.image_len();
        let pixels = match images.held() {
            None => Where::Streamed(Arc::new(Stream::new(images.clone()))),
            Some(held) => {
                let limit = gpu.report().limits.slab_bytes as usize;
                let per_slab = (limit / length.max(1)).clamp(1, images.len().max(1));
                let mut slabs = vec![];
                for chunk in held.chunks(per_slab * length) {
                    let slab = gpu.slab(chunk.len() as u64, "data set")?;
                    gpu.write(&slab, 0, &padded(chunk.to_vec()))?;
                    slabs.push(slab);
                }
                Where::Resident { slabs, per_slab }
            }
        };
        let (labels, classes) = (Arc::new(images.labels.clone()), images.classes);
        Ok(Supply { pixels, labels, source, classes, filter: Filter::default() })
    }

    /// The same images, made larger by another filter.
    pub fn with_filter(self, filter: Filter) -> Self {
        Supply { filter, ..self }
    }

    /// Puts other pixels in place of these; labels stay.
    ///
    /// # Errors
    /// If there are more or fewer, or these do not lie on the device.
    pub fn replace(&self, gpu: &Gpu, pixels: &[u8]) -> Result<()> {
        let Where::Resident { slabs, per_slab } = &self.pixels else {
            return Err(Error::invalid("data set", "is streamed from files, whose pixels cannot be replaced"));
        };
        let length = self.source.iter().product::<usize>();
        if pixels.len() != length * self.len() {
            return Err(Error::shape("data set", format!("{} bytes", length * self.len()), pixels.len()));
        }
        for (slab, chunk) in slabs.iter().zip(pixels.chunks(per_slab * length)) {
            gpu.write(slab, 0, &padded(chunk.to_vec()))?;
        }
        Ok(())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Rows and columns of the images.
    pub fn sides(&self) -> [usize; 2] {
        let [rows, columns, _] = self.source;
        [rows, columns]
    }

    /// Rows, columns and channels of the images.
    pub(super) fn source(&self) -> [usize; 3] {
        self.source
    }

    /// How images are made larger.
    pub(super) fn filter(&self) -> Filter {
        self.filter
    }

    /// The label of an image, if there is such an image.
    pub(super) fn label(&self, image: usize) -> Option<u16> {
        self.labels.get(image).copied()
    }

    /// Puts the parts of pictures that training sees into picks of an epoch, where they are not the middles. They are not shifted
    /// besides.
    pub(super) fn choose_parts(&self, picks: &mut [Pick], seed: u64, epoch: u64) {
        let Where::Streamed(stream) = &self.pixels else { return };
        for pick in picks {
            let part = |image: usize| stream.images().random_part(image, seed, epoch << 32 | image as u64);
            pick.part = pick.image.and_then(part);
            if pick.part.is_some() {
                (pick.dx, pick.dy) = (0, 0);
            }
        }
    }

    /// Says what will be needed soon, so that it is decoded meanwhile, as often as it stands there. All of it is taken, or nothing where
    /// too much waits already, and false is returned.
    pub(super) fn announce<'p>(&self, picks: impl Iterator<Item = &'p Pick>) -> bool {
        match &self.pixels {
            Where::Resident { .. } => true,
            Where::Streamed(stream) => stream.announce(&picks.filter_map(Pick::look).collect::<Vec<_>>()),
        }
    }

    /// How many images are announced ahead of a batch of so many: enough for all cores.
    pub(super) fn window(&self, batch: usize) -> usize {
        (2 * batch).max(4 * rayon::current_num_threads())
    }

    /// Whether pictures are decoded as they are needed.
    pub fn is_streamed(&self) -> bool {
        matches!(self.pixels, Where::Streamed(_))
    }

    /// What was decoded, waited for and uploaded since this was last asked, where something is.
    pub fn take_rates(&self) -> Option<Rates> {
        match &self.pixels {
            Where::Resident { .. } => None,
            Where::Streamed(stream) => Some(stream.take_rates()),
        }
    }

    /// Room on the device for batches of so many images, where these are not there anyway.
    pub(super) fn room(&self, gpu: &Gpu, batches: usize, batch: usize) -> Result<Room> {
        let Where::Streamed(_) = &self.pixels else {
            return Ok(Room { slabs: vec![], per_slab: 1, batch: 0, there: Mutex::default() });
        };
        let length = self.source.iter().product::<usize>().max(1);
        // Every batch begins at a multiple of four bytes, whatever the length of an image.
        let batch = batch.next_multiple_of(4);
        let fit = gpu.report().limits.slab_bytes as usize / length / 4 * 4;
        if fit == 0 {
            let why = format!("four images of {length} bytes are more than one binding of this adapter holds");
            return Err(Error::invalid("data set", why));
        }
        let (images, mut slabs) = (batches * batch, vec![]);
        for first in (0..images).step_by(fit) {
            slabs.push(gpu.slab(((images - first).min(fit) * length) as u64, "batches of the data set")?);
        }
        Ok(Room { slabs, per_slab: fit, batch, there: Mutex::new(vec![vec![]; batches]) })
    }

    /// The slabs in which shaders find the images of such batches.
    pub(super) fn slabs<'a>(&'a self, room: &'a Room) -> &'a [Slab] {
        match &self.pixels {
            Where::Resident { slabs, .. } => slabs,
            Where::Streamed(_) => &room.slabs,
        }
    }

    /// Sees to it that the images of a batch, by its number, are on the device before the next submission; those of the last one that
    /// are asked for again are there. Returns slab and place within of each.
    pub(super) fn place(&self, gpu: &Gpu, room: &Room, batch: usize, picks: &[Pick]) -> Result<Vec<[u32; 2]>> {
        let within = |place: usize, per_slab: usize| [(place / per_slab) as u32, (place % per_slab) as u32];
        let stream = match &self.pixels {
            Where::Resident { per_slab, .. } => {
                return Ok(picks.iter().map(|pick| within(pick.image.unwrap_or(0), *per_slab)).collect());
            }
            Where::Streamed(stream) => stream,
        };
        let length = self.source.iter().product::<usize>();
        let looks: Vec<_> = picks.iter().map(Pick::look).collect();
        let first = batch * room.batch;
        let mut there = room.there.lock().unwrap_or_else(PoisonError::into_inner);
        if there[batch] != looks {
            // Whatever fails from here on, the old ones may not be there any more.
            there[batch].clear();
            let pixels = padded(stream.fetch(&looks)?);
            stream.uploading(pixels.len(), || {
                writes(first, room.per_slab, length, pixels.len())
                    .try_for_each(|(slab, at, bytes)| gpu.write(&room.slabs[slab], at, &pixels[bytes]))
            })?;
            there[batch] = looks;
        } else {
            stream.forget(&looks);
        }
        Ok((first..first + picks.len()).map(|place| within(place, room.per_slab)).collect())
    }
}

/// Where streamed batches lie on the device.
pub(super) struct Room {
    slabs: Vec<Slab>,
    /// Images in a slab, a multiple of four.
    per_slab: usize,
    /// Images for which each batch has room.
    batch: usize,
    /// What lies there of each.
    there: Mutex<Vec<Vec<Option<Look>>>>,
}

/// The writes of so many bytes from the image with number `first` on: slab, first byte in it, and which bytes. They may lie over the border of
/// two slabs, each of which holds a multiple of four images, so that every write is one of four bytes.
fn writes(
    first: usize,
    per_slab: usize,
    length: usize,
    bytes: usize,
) -> impl Iterator<Item = (usize, u64, Range<usize>)> {
    let (mut done, length) = (0, length.max(1));
    std::iter::from_fn(move || {
        let place = first + done / length;
        let (slab, at) = (place / per_slab, place % per_slab);
        let own = done..bytes.min(done + (per_slab - at) * length);
        done = own.end;
        (!own.is_empty()).then_some((slab, (at * length) as u64, own))
    })
}

/// Bytes filled up to a multiple of four, as uploads want it.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Handling, Reading, load_with};

    #[test]
    fn random_parts_are_others_in_each_epoch_and_are_not_shifted() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..8u8 {
            let path = dir.path().join(format!("{}/{i}.png", i % 2));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_pixel(40, 30, image::Luma([i])).save(path).unwrap();
        }
        let read = |random_crop: Option<f64>| {
            let handling = Handling { memory: Some(0), ..Handling::default() };
            let reading = Reading { crop: Some(8), random_crop, handling, ..Reading::default() };
            load_with(dir.path().to_str().unwrap(), &reading).unwrap().train
        };
        let chosen = |images: &Images, seed: u64, epoch: u64| {
            let supply = Supply {
                pixels: Where::Streamed(Arc::new(Stream::new(images.clone()))),
                labels: Arc::new(images.labels.clone()),
                source: [8, 8, 1],
                classes: 2,
                filter: Filter::default(),
            };
            let shifted = |image: usize| Pick { dx: 1, dy: -1, flip: true, ..Pick::plain(image) };
            let mut picks: Vec<Pick> = (0..images.len()).map(shifted).chain([Pick::default()]).collect();
            supply.choose_parts(&mut picks, seed, epoch);
            picks
        };
        let images = read(Some(0.2));
        let (first, next, other) = (chosen(&images, 3, 0), chosen(&images, 3, 1), chosen(&images, 4, 0));
        assert_eq!(first, chosen(&images, 3, 0));
        for (pick, image) in first.iter().zip(0..images.len()) {
            assert!(pick.part.is_some() && (pick.dx, pick.dy, pick.flip, pick.image) == (0, 0, true, Some(image)));
            assert!(pick.part != next[image].part && pick.part != other[image].part);
        }
        assert_eq!(first.last(), Some(&Pick::default()));
        assert!(first[..images.len()].windows(2).all(|pair| pair[0].part != pair[1].part));
        // Middles are shifted as ever.
        let middles = chosen(&read(None), 3, 0);
        assert!(middles[..6].iter().all(|pick| pick.part.is_none() && (pick.dx, pick.dy) == (1, -1)));
    }

    #[test]
    fn writes_go_on_in_the_next_slab() {
        let all = |first: usize, images: usize| {
            // Images of seven bytes, eight to a slab; the rest is filled up.
            let bytes = (7 * images).next_multiple_of(4);
            writes(first, 8, 7, bytes).map(|(slab, at, bytes)| (slab, at, bytes.start, bytes.end)).collect::<Vec<_>>()
        };
        assert_eq!(all(0, 8), [(0, 0, 0, 56)]);
        assert_eq!(all(4, 3), [(0, 28, 0, 24)]);
        assert_eq!(all(4, 8), [(0, 28, 0, 28), (1, 0, 28, 56)]);
        assert_eq!(all(12, 13), [(1, 28, 0, 28), (2, 0, 28, 84), (3, 0, 84, 92)]);
        assert_eq!(all(4, 0), []);
        for (_, at, begin, end) in all(12, 13) {
            assert!(at % 4 == 0 && (end - begin) % 4 == 0);
        }
    }
}
