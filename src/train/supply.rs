//! A data set as batches draw from it: all of it on the device, or pictures that are decoded and uploaded as they are needed.

use std::sync::Arc;

use super::feed::Pick;
use super::stream::{Rates, Stream};
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

    /// Says what will be needed soon, so that it is decoded meanwhile.
    pub(super) fn expect(&self, picks: &[Pick]) {
        if let Where::Streamed(stream) = &self.pixels {
            stream.expect(picks.iter().filter_map(Pick::look));
        }
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
        let Where::Streamed(_) = &self.pixels else { return Ok(Room { slabs: vec![], per_slab: 1, batch: 0 }) };
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
        Ok(Room { slabs, per_slab: fit, batch })
    }

    /// The slabs in which shaders find the images of such batches.
    pub(super) fn slabs<'a>(&'a self, room: &'a Room) -> &'a [Slab] {
        match &self.pixels {
            Where::Resident { slabs, .. } => slabs,
            Where::Streamed(_) => &room.slabs,
        }
    }

    /// Sees to it that the images of a batch, by its number, are on the device before the next submission. Returns slab and place within of
    /// each.
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
        let pixels = padded(stream.fetch(&looks)?);
        let first = batch * room.batch;
        let (mut place, mut rest) = (first, &pixels[..]);
        stream.uploading(rest.len(), || {
            // A batch may lie over the border of two slabs, each of which holds a multiple of four images.
            while !rest.is_empty() {
                let [slab, at] = within(place, room.per_slab);
                let (own, later) = rest.split_at(rest.len().min((room.per_slab - at as usize) * length));
                gpu.write(&room.slabs[slab as usize], (at as usize * length) as u64, own)?;
                (place, rest) = (place + own.len() / length, later);
            }
            Ok(())
        })?;
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
}

/// Bytes filled up to a multiple of four, as uploads want it.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
