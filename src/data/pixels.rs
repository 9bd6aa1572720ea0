//! The pixels of a set's images: in memory, or in picture files.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use super::histogram::Histograms;
use super::packed_pictures::Unpacked;
use super::pictures::Pictures;
use super::resize::Window;
use crate::error::Result;

/// Bytes of images that are walked through at a time where they are in files.
const PORTION: usize = 64 << 20;

/// Pixels of N images, in their order.
#[derive(Clone)]
pub(super) enum Pixels {
    /// N x height x width x channels bytes (NHWC).
    Held(Vec<u8>),
    /// Decoded whenever they are asked for.
    Filed(Filed),
}

/// Some of a set's pictures.
#[derive(Clone)]
pub(super) struct Filed {
    pictures: Arc<Pictures>,
    /// Which of them, by their numbers.
    chosen: Arc<[u32]>,
    /// What they were unpacked into, which goes with the last of them.
    _unpacked: Option<Arc<Unpacked>>,
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pixels::Held(bytes) => write!(f, "{} bytes", bytes.len()),
            Pixels::Filed(filed) => write!(f, "{} pictures in files", filed.chosen.len()),
        }
    }
}

impl PartialEq for Pixels {
    /// Of those in files it is the same pictures of one reading that are equal.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Pixels::Held(a), Pixels::Held(b)) => a == b,
            (Pixels::Filed(a), Pixels::Filed(b)) => Arc::ptr_eq(&a.pictures, &b.pictures) && a.chosen == b.chosen,
            _ => false,
        }
    }
}

impl Eq for Pixels {}

impl Pixels {
    /// All of these pictures.
    pub fn filed(pictures: Pictures) -> Self {
        let chosen = (0..pictures.len() as u32).collect();
        Pixels::Filed(Filed { pictures: Arc::new(pictures), chosen, _unpacked: None })
    }

    /// The same, which keep a folder as long as they need it.
    pub fn keeping(self, unpacked: &Arc<Unpacked>) -> Self {
        match self {
            Pixels::Held(bytes) => Pixels::Held(bytes),
            Pixels::Filed(filed) => Pixels::Filed(Filed { _unpacked: Some(unpacked.clone()), ..filed }),
        }
    }

    /// Those of one image, if they are in memory. As with a slice, `index` must be below the number of images.
    pub fn at_hand(&self, index: usize, size: usize) -> Option<&[u8]> {
        match self {
            Pixels::Held(bytes) => Some(&bytes[index * size..(index + 1) * size]),
            Pixels::Filed(filed) => filed.pictures.kept(filed.chosen[index] as usize),
        }
    }

    /// Those of one image.
    pub fn one(&self, index: usize, size: usize) -> Result<Cow<'_, [u8]>> {
        match (self.at_hand(index, size), self) {
            (Some(pixels), _) => Ok(Cow::Borrowed(pixels)),
            (None, Pixels::Filed(filed)) => filed.pictures.decode(filed.chosen[index] as usize).map(Cow::Owned),
            (None, Pixels::Held(_)) => Ok(Cow::Borrowed(&[])),
        }
    }

    /// A part of the picture of one image, at the size of all; none for images that are no pictures in files.
    pub fn part(&self, index: usize, part: Window) -> Option<Result<Vec<u8>>> {
        match self {
            Pixels::Held(_) => None,
            Pixels::Filed(filed) => Some(filed.pictures.decode_part(filed.chosen[index] as usize, part)),
        }
    }

    /// The part of a picture that training sees, if it is not the middle.
    pub fn random_part(&self, index: usize, seed: u64, key: u64) -> Option<Window> {
        match self {
            Pixels::Held(_) => None,
            Pixels::Filed(filed) => filed.pictures.random_part(filed.chosen[index] as usize, seed, key),
        }
    }

    /// Those of some images; an index may repeat.
    pub fn select(&self, indices: &[usize], size: usize) -> Self {
        match self {
            Pixels::Held(bytes) => {
                let mut chosen = Vec::with_capacity(indices.len() * size);
                indices.iter().for_each(|&i| chosen.extend_from_slice(&bytes[i * size..(i + 1) * size]));
                Pixels::Held(chosen)
            }
            Pixels::Filed(filed) => {
                let chosen = indices.iter().map(|&i| filed.chosen[i]).collect();
                Pixels::Filed(Filed { chosen, ..filed.clone() })
            }
        }
    }

    /// Hands all of them to `f`, some images at a time, in their order.
    pub fn walk(&self, size: usize, f: &mut dyn FnMut(&[u8])) -> Result<()> {
        let filed = match self {
            Pixels::Held(bytes) => {
                f(bytes);
                return Ok(());
            }
            Pixels::Filed(filed) => filed,
        };
        for portion in filed.chosen.chunks((PORTION / size.max(1)).clamp(1, 1024)) {
            portion.par_iter().map(|&i| filed.one(i)).collect::<Result<Vec<_>>>()?.iter().for_each(|pixels| f(pixels));
        }
        Ok(())
    }

    /// Some of the values that they have, ascending: all if there are fewer than three.
    pub fn some_values(&self) -> Vec<u8> {
        let bytes = match self {
            Pixels::Held(bytes) => bytes,
            Pixels::Filed(filed) => return filed.pictures.histograms().values(),
        };
        let mut values = vec![];
        for byte in bytes {
            if !values.contains(byte) {
                values.push(*byte);
            }
            if values.len() == 3 {
                break;
            }
        }
        values.sort_unstable();
        values
    }

    /// What values they have.
    pub fn histograms(&self, channels: usize, size: usize) -> Result<Histograms> {
        match self {
            Pixels::Filed(filed) if filed.is_all() => Ok(filed.pictures.histograms().clone()),
            _ => {
                let mut all = Histograms::new(channels);
                self.walk(size, &mut |pixels| all.add(&Histograms::of(channels, pixels)))?;
                Ok(all)
            }
        }
    }
}

impl Filed {
    fn one(&self, picture: u32) -> Result<Cow<'_, [u8]>> {
        match self.pictures.kept(picture as usize) {
            Some(pixels) => Ok(Cow::Borrowed(pixels)),
            None => self.pictures.decode(picture as usize).map(Cow::Owned),
        }
    }

    /// Whether it is all pictures in their order.
    fn is_all(&self) -> bool {
        self.chosen.len() == self.pictures.len() && self.chosen.iter().copied().eq(0..self.chosen.len() as u32)
    }
}
