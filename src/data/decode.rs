//! Labelled files become images of one shape: first their heads, which say how much memory all of them take, then their pixels, in
//! parallel: each picture is decoded, turned, brought to its size, and only then kept, or counted and forgotten where a set is too large
//! (`pictures.rs`). One that cannot be read is left out, or refused where a reader is strict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::Images;
use super::histogram::Histograms;
use super::left_out::LeftOut;
use super::picture::{Caps, Kind, kind_of};
use super::pictures::{Making, Pictures, Room, Seen};
use super::reading::{Fit, Reading};
use super::resize::{Filter, resize};
use crate::error::{Error, Result, path_text};

/// How much one picture may take.
pub(super) const CAPS: Caps = Caps { side: 16_384, file_bytes: 256 << 20, decoder_bytes: 512 << 20 };

/// A file and its label.
pub(super) type Labelled = (PathBuf, u16);

/// A file whose head was read.
pub(super) struct Headed {
    file: Labelled,
    kind: Kind,
}

impl Headed {
    #[cfg(test)]
    pub fn new(file: Labelled, kind: Kind) -> Self {
        Headed { file, kind }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Rows and columns.
    pub fn sides(&self) -> [usize; 2] {
        [self.kind.1 as usize, self.kind.0 as usize]
    }
}

/// The pixels of one picture for a network that sees images of so many rows, columns and channels: brought to its size as `reading` brings the
/// pictures of a set, or else, unless it has that size, by a shorter side as long as the network's and the middle of it.
///
/// # Errors
/// If it cannot be read, has other sides than a network that sees no square, or the network sees neither grey nor RGB.
pub fn picture_for(path: &Path, reading: &Reading, [height, width, channels]: [usize; 3]) -> Result<Vec<u8>> {
    if !matches!(channels, 1 | 3) {
        return Err(Error::invalid("model", format!("sees images of {channels} channels, and pictures have 1 or 3")));
    }
    let headed = Headed { file: (path.to_owned(), 0), kind: kind_of(path, &CAPS)? };
    let seen = [height, width];
    let fit = match reading.fit()? {
        Some(fit) => Some(fit),
        None if headed.sides() == seen => None,
        None if height == width => Some(Fit::square(height)),
        None => {
            let [rows, columns] = headed.sides();
            let why = format!("has {rows} rows and {columns} columns, and the network sees {height} and {width}");
            return Err(Error::file(path, None, why));
        }
    };
    let sides = fit.map_or(seen, |fit| [fit.crop; 2]);
    let shape = [sides[0], sides[1], channels];
    let (pixels, _) = Making { shape, fit, random: None }.image(&headed, None)?;
    if sides == seen { Ok(pixels) } else { resize(&pixels, shape, seen, Filter::default()) }
}

/// Images, and the files that they were read from.
pub(super) struct Decoded {
    pub images: Images,
    pub files: Vec<PathBuf>,
}

/// Reads pictures below `root`.
pub(super) struct Decoder<'a> {
    root: &'a Path,
    reading: &'a Reading,
    /// How pictures are brought to one size; otherwise they must have one.
    fit: Option<Fit>,
    left_out: &'a mut LeftOut,
    /// Of each label the first file that could not be read, and why.
    lost: BTreeMap<u16, String>,
}

impl<'a> Decoder<'a> {
    /// One that has read nothing yet.
    ///
    /// # Errors
    /// If pictures cannot be read in this way.
    pub fn new(root: &'a Path, reading: &'a Reading, left_out: &'a mut LeftOut) -> Result<Self> {
        Ok(Decoder { root, reading, fit: reading.fit()?, left_out, lost: BTreeMap::new() })
    }

    /// Leaves out a file that cannot be read.
    ///
    /// # Errors
    /// The reason, where nothing is to be left out.
    fn leave(&mut self, (path, label): &Labelled, error: Error) -> Result<()> {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        self.lost.entry(*label).or_insert_with(|| format!("; {}: {}", path_text(below), error.reason()));
        self.left_out.add_unreadable(self.root, path, error)
    }

    /// The first file of a label that could not be read, as the end of a sentence.
    pub fn first_lost(&self, label: usize) -> &str {
        u16::try_from(label).ok().and_then(|label| self.lost.get(&label)).map_or("", String::as_str)
    }

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
                Err(error) => self.leave(&file, error)?,
            }
        }
        Ok(headed)
    }

    /// How these files become images: grey if every one of them is. Beside it stands where decoded pictures are kept, if not all of them
    /// are in memory.
    ///
    /// # Errors
    /// If their sizes differ.
    pub fn making(&self, parts: &[&[Headed]]) -> Result<(Making, Option<Room>)> {
        let all = || parts.iter().copied().flatten();
        let Some(first) = all().next() else {
            let first = self.lost.values().next().map_or("", String::as_str);
            return Err(Error::file(self.root, None, format!("no picture in it can be read{first}")));
        };
        let [height, width] = match self.fit {
            Some(fit) => [fit.crop; 2],
            None if all().all(|other| other.sides() == first.sides()) => first.sides(),
            None => return Err(Error::file(self.root, None, differing(self.root, all()))),
        };
        let channels = if all().any(|headed| headed.kind.2) { 3 } else { 1 };
        let shape = [height, width, channels];
        let total = shape.iter().map(|&side| side as u64).product::<u64>().saturating_mul(all().count() as u64);
        let random = self.reading.random()?;
        let room = (random.is_some() || !self.reading.holds(total)).then(|| Room::new(self.reading.memory() / 2));
        Ok((Making { shape, fit: self.fit, random }, room))
    }

    /// Decodes files, in their order.
    ///
    /// # Errors
    /// If one cannot be decoded, and nothing is to be left out.
    pub fn images(
        &mut self,
        making: Making,
        room: Option<&Room>,
        files: Vec<Headed>,
        classes: &[String],
    ) -> Result<Decoded> {
        match room {
            Some(room) => self.filed(making, room, files, classes),
            None => self.held(making, files, classes),
        }
    }

    /// With all pixels in memory.
    fn held(&mut self, making: Making, files: Vec<Headed>, classes: &[String]) -> Result<Decoded> {
        let size: usize = making.shape.iter().product();
        let mut pixels = vec![0; size * files.len()];
        let outcomes: Vec<Result<()>> = pixels
            .par_chunks_exact_mut(size)
            .zip(&files)
            .map(|(pixels, headed)| making.image(headed, None).map(|(own, _)| pixels.copy_from_slice(&own)))
            .collect();
        let (mut labels, mut read) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for (place, (Headed { file, .. }, outcome)) in files.into_iter().zip(outcomes).enumerate() {
            if let Err(error) = outcome {
                self.leave(&file, error)?;
                continue;
            }
            // What is left moves up, so that no second set of pixels is needed.
            let kept = read.len();
            if kept < place {
                pixels.copy_within(place * size..(place + 1) * size, kept * size);
            }
            labels.push(file.1);
            read.push(file.0);
        }
        pixels.truncate(size * read.len());
        Ok(Decoded { images: Images::new(making.shape, classes.to_vec(), pixels, labels)?, files: read })
    }

    /// As pictures in files.
    fn filed(&mut self, making: Making, room: &Room, files: Vec<Headed>, classes: &[String]) -> Result<Decoded> {
        let (begin, count) = (Instant::now(), files.len());
        // Of random parts nobody sees the middle often.
        let kept = making.random.is_none().then_some(room);
        let histograms = Mutex::new(Histograms::new(making.shape[2]));
        let counted = |own: &Histograms| histograms.lock().unwrap_or_else(PoisonError::into_inner).add(own);
        let outcomes: Vec<Result<Seen>> = files.par_iter().map(|headed| making.look(headed, kept, counted)).collect();
        let seconds = begin.elapsed().as_secs_f64();
        log::info!("{count} pictures decoded once in {seconds:.1} s, {:.0} a second", count as f64 / seconds.max(1e-9));
        let (mut labels, mut list) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for (headed, outcome) in files.into_iter().zip(outcomes) {
            match outcome {
                Err(error) => self.leave(&headed.file, error)?,
                Ok(seen) => {
                    labels.push(headed.file.1);
                    list.push((headed, seen));
                }
            }
        }
        let histograms = histograms.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pictures = Pictures::new(making, list, room.clone(), histograms);
        let files = pictures.files();
        Ok(Decoded { images: Images::filed(making.shape, classes.to_vec(), pictures, labels)?, files })
    }
}

/// Labels of files, in their order.
pub(super) fn labels(files: &[Headed]) -> Vec<u16> {
    files.iter().map(|headed| headed.file.1).collect()
}

/// Says which sizes there are, the most frequent first, and what to do.
fn differing<'a>(root: &Path, all: impl Iterator<Item = &'a Headed>) -> String {
    const NAMED: usize = 5;
    // Of each size how many there are, and the first file.
    let mut sizes: BTreeMap<[usize; 2], (usize, &Path)> = BTreeMap::new();
    for headed in all {
        sizes.entry(headed.sides()).or_insert((0, &headed.file.0)).0 += 1;
    }
    let mut sizes: Vec<([usize; 2], (usize, &Path))> = sizes.into_iter().collect();
    sizes.sort_by_key(|(sides, (count, _))| (std::cmp::Reverse(*count), *sides));
    let named = sizes.iter().take(NAMED).map(|([height, width], (count, first))| {
        format!("{width}x{height} ({count}, first {})", first.strip_prefix(root).unwrap_or(first).display())
    });
    let named: Vec<String> = named.collect();
    let more = if sizes.len() > NAMED { ", ..." } else { "" };
    format!(
        "pictures of {} sizes: {}{more}; a set has images of one size: --crop SIDE takes a square of so many pixels from the middle \
         of each, --resize SIDE says how large the shorter side is before (by default 8/7 of it)",
        sizes.len(),
        named.join(", ")
    )
}
