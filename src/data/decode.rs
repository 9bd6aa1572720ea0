//! Labelled files become images of one shape: first their heads, which say how much memory all of them take, then their pixels, in
//! parallel. A picture that cannot be read is left out, or refused where a reader is strict.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Images;
use super::images::MAX_PIXEL_BYTES;
use super::left_out::LeftOut;
use super::picture::{Caps, Kind, decode, kind_of};
use crate::error::{Error, Result};

/// How much one picture may take.
const CAPS: Caps = Caps { side: 16_384, file_bytes: 256 << 20, decoder_bytes: 512 << 20 };

/// A file and its label.
pub(super) type Labelled = (PathBuf, u16);

/// A file whose head was read.
pub(super) struct Headed {
    file: Labelled,
    kind: Kind,
}

/// Images, and the files that they were read from.
pub(super) struct Decoded {
    pub images: Images,
    pub files: Vec<PathBuf>,
}

/// Reads pictures below `root`.
pub(super) struct Decoder<'a> {
    pub root: &'a Path,
    pub left_out: &'a mut LeftOut,
}

impl Decoder<'_> {
    /// Files whose heads say what they are, in their order.
    ///
    /// # Errors
    /// If one does not, and nothing is to be left out.
    pub fn heads(&mut self, files: Vec<Labelled>) -> Result<Vec<Headed>> {
        let kinds: Vec<Result<Kind>> = files.par_iter().map(|(path, _)| kind_of(path, &CAPS)).collect();
        let mut headed = Vec::with_capacity(files.len());
        for (file, kind) in files.into_iter().zip(kinds) {
            match kind {
                Ok(kind) => headed.push(Headed { file, kind }),
                Err(error) => self.left_out.add_unreadable(self.root, &file.0, error)?,
            }
        }
        Ok(headed)
    }

    /// Height, width and channels of the images that these files become: grey if every one of them is.
    ///
    /// # Errors
    /// If their sizes differ, or if they take more memory than a set may.
    pub fn shape(&self, parts: &[&[Headed]]) -> Result<[usize; 3]> {
        let all = || parts.iter().copied().flatten();
        let Some(first) = all().next() else {
            return Err(Error::file(self.root, None, "no picture in it can be read"));
        };
        let (width, height, _) = first.kind;
        if let Some(other) = all().find(|other| (other.kind.0, other.kind.1) != (width, height)) {
            let why = format!(
                "{}x{} pixels, but {} has {width}x{height}; all images must have one size",
                other.kind.0,
                other.kind.1,
                first.file.0.display()
            );
            return Err(Error::file(&other.file.0, None, why));
        }
        let channels = if all().any(|headed| headed.kind.2) { 3 } else { 1 };
        let shape = [height as usize, width as usize, channels];
        let count = all().count();
        let total = shape.iter().map(|&side| side as u64).product::<u64>().saturating_mul(count as u64);
        if total > MAX_PIXEL_BYTES {
            let why = format!("{count} images of {shape:?} take {total} bytes; at most {MAX_PIXEL_BYTES} are read");
            return Err(Error::file(self.root, None, why));
        }
        Ok(shape)
    }

    /// Decodes files of one shape, in their order.
    ///
    /// # Errors
    /// If one cannot be decoded, and nothing is to be left out.
    pub fn pixels(&mut self, shape: [usize; 3], files: Vec<Headed>, classes: &[String]) -> Result<Decoded> {
        let size: usize = shape.iter().product();
        let mut pixels = vec![0; size * files.len()];
        let outcomes: Vec<Result<()>> = pixels
            .par_chunks_exact_mut(size)
            .zip(&files)
            .map(|(pixels, headed)| fill(pixels, shape, &headed.file.0))
            .collect();
        let (mut labels, mut read) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for (place, (Headed { file: (path, label), .. }, outcome)) in files.into_iter().zip(outcomes).enumerate() {
            if let Err(error) = outcome {
                self.left_out.add_unreadable(self.root, &path, error)?;
                continue;
            }
            // What is left moves up, so that no second set of pixels is needed.
            let kept = read.len();
            if kept < place {
                pixels.copy_within(place * size..(place + 1) * size, kept * size);
            }
            labels.push(label);
            read.push(path);
        }
        pixels.truncate(size * read.len());
        Ok(Decoded { images: Images::new(shape, classes.to_vec(), pixels, labels)?, files: read })
    }
}

/// Labels of files, in their order.
pub(super) fn labels(files: &[Headed]) -> Vec<u16> {
    files.iter().map(|headed| headed.file.1).collect()
}

/// Decodes one file into its place.
fn fill(pixels: &mut [u8], shape: [usize; 3], path: &Path) -> Result<()> {
    let decoded = decode(path, &CAPS)?;
    if [decoded.height() as usize, decoded.width() as usize] != shape[..2] {
        return Err(Error::file(path, None, "changed while it was read"));
    }
    let bytes = if shape[2] == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
    pixels.copy_from_slice(&bytes);
    Ok(())
}
