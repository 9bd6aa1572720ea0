//! The work itself: pictures to a tree of files, arrays and data sets to the layout of CIFAR-10-C.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};

use super::super::pictures::usual_constants;
use super::input::Input;
use crate::corrupt::{Constants, Corruption, in_order, jpeg_round_trip};
use crate::data::{NpyWriter, Unusable};
use crate::error::{Error, Result};
use crate::measure::corruption::corrupt_pixels;

/// Bytes of images that a thread corrupts before it hands them over.
const BATCH_BYTES: usize = 48 << 10;
/// The labels of all images of a kind.
pub(super) const LABELS: &str = "labels.npy";

/// Everything that decides the results.
pub(super) struct Job<'a> {
    pub input: &'a Input,
    pub corruptions: &'a [Corruption],
    pub jpeg85: bool,
    pub seed: u64,
    /// The table that the first image's size decided, if it did.
    pub by_size: Option<Constants>,
}

/// An image as a file's bytes: JPEG of this quality if the name says so, else PNG.
pub(super) fn encode(image: &RgbImage, path: &Path, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(vec![]);
    let done = match ImageFormat::from_path(path) {
        Ok(ImageFormat::Jpeg) => {
            image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality))
        }
        _ => image.write_to(&mut bytes, ImageFormat::Png),
    };
    done.map_err(|e| Error::file(path, None, e.to_string()))?;
    Ok(bytes.into_inner())
}

/// The result of a thread that flushes a file.
fn flushed(thread: std::thread::ScopedJoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether the system refused a name, rather than all that is written to this disk.
fn of_name(error: &Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory};
    let kinds = [AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory];
    matches!(error, Error::Io { source, .. } if kinds.contains(&source.kind()))
}

impl Job<'_> {
    pub fn one(&self, image: &RgbImage, number: usize, corruption: usize) -> Result<RgbImage> {
        let out = self.corruptions[corruption].seeded(image, self.seed, number as u64)?;
        Ok(if self.jpeg85 { jpeg_round_trip(&out, 85) } else { out })
    }

    /// Folders of a tree, one for each kind and severity.
    pub fn folders(&self) -> Vec<String> {
        self.corruptions.iter().map(|c| format!("{}/{}", c.kind(), c.severity())).collect()
    }

    /// Writes `kind/severity/name.png` below `into` for each image, and goes on past those that cannot be used: the
    /// names that were written, and the others.
    pub fn tree(
        &self,
        into: &Path,
        advance: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<String>, Vec<Unusable>)> {
        let folders: Vec<PathBuf> = self.folders().iter().map(|folder| into.join(folder)).collect();
        let job = |i: usize| {
            let ready = self.input.result(i).and_then(|name| Ok((name, self.input.image(i)?)));
            let (name, image) = match ready.and_then(|(name, image)| self.right_size(&image).map(|()| (name, image))) {
                Ok(ready) => ready,
                Err(error) => return Ok(Err(self.input.unusable(i, &error))),
            };
            for (number, folder) in folders.iter().enumerate() {
                let path = folder.join(&name);
                let bytes = encode(&self.one(&image, i, number)?, &path, 95)?;
                match write(&path, &bytes) {
                    Err(error) if of_name(&error) => {
                        // A picture has all of its results or none.
                        folders[..number].iter().for_each(|folder| drop(std::fs::remove_file(folder.join(&name))));
                        return Ok(Err(self.input.unusable(i, &error)));
                    }
                    other => other?,
                }
            }
            Ok(Ok(name))
        };
        let (mut names, mut bad) = (vec![], vec![]);
        in_order(self.input.len(), job, |i, done| {
            match done? {
                Ok(name) => names.push(name),
                Err(unusable) => bad.push(unusable),
            }
            advance((i + 1) * self.corruptions.len())
        })?;
        Ok((names, bad))
    }

    /// Refuses a picture to whose size another table belongs than the one that the first picture decided for all.
    fn right_size(&self, image: &RgbImage) -> Result<()> {
        let (width, height) = image.dimensions();
        let usual = usual_constants(width.max(height) as usize);
        match self.by_size.filter(|&table| table != usual && matches!(self.input, Input::Tree(..))) {
            None => Ok(()),
            Some(table) => Err(Error::file(
                "",
                None,
                format!(
                    "its {width}x{height} pixels ask for the constants {usual}, the first image's size for {table}; give --constants"
                ),
            )),
        }
    }

    /// Files of the layout of CIFAR-10-C, one for each kind and one for labels.
    pub fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.corruptions.iter().map(|c| format!("{}.npy", c.kind())).collect();
        files.dedup();
        files.extend(self.input.labels().map(|_| LABELS.to_owned()));
        files
    }

    /// Writes `kind.npy` with the severities one after another, and `labels.npy` where there are labels.
    pub fn arrays(&self, into: &Path, kinds: usize, advance: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        let (count, levels) = (self.input.len(), self.corruptions.len() / kinds.max(1));
        let [h, w, c] = self.input.shape().unwrap_or_default();
        // A finished file is flushed to the disk while the next one is computed.
        std::thread::scope(|threads| {
            let mut flushing: Option<std::thread::ScopedJoinHandle<Result<()>>> = None;
            for (number, list) in self.corruptions.chunks(levels).enumerate() {
                let path = into.join(format!("{}.npy", list[0].kind()));
                let mut writer = NpyWriter::new(&path, &[levels * count, h, w, c])?;
                for (level, corruption) in list.iter().enumerate() {
                    let one = |i: usize| {
                        let bytes = match self.input {
                            Input::Set(s) => s.image(i)?.into_owned(),
                            Input::Array(array, _) => array.read(i, 1)?,
                            _ => vec![],
                        };
                        if self.jpeg85 {
                            let out = self.one(&self.input.image(i)?, i, number * levels + level)?.into_raw();
                            return Ok(if c == 1 { out.into_iter().skip(1).step_by(3).collect() } else { out });
                        }
                        corrupt_pixels(corruption, &bytes, [h, w, c], self.seed, i as u64)
                    };
                    // Small images go by the dozen, so that handing them over costs nothing beside corrupting them.
                    let batch = (BATCH_BYTES / (h * w * c).max(1)).clamp(1, 64);
                    let job = |b: usize| {
                        let mut all = vec![];
                        for i in b * batch..count.min((b + 1) * batch) {
                            all.extend(one(i)?);
                        }
                        Ok(all)
                    };
                    in_order(count.div_ceil(batch), job, |_, bytes| writer.write(&bytes?))?;
                    advance((number * levels + level + 1) * count)?;
                }
                let before = flushing.replace(threads.spawn(|| writer.finish()));
                before.map_or(Ok(()), flushed)?;
            }
            flushing.map_or(Ok(()), flushed)
        })?;
        let Some(labels) = self.input.labels() else { return Ok(()) };
        let bytes: Option<Vec<u8>> = labels.iter().map(|&l| u8::try_from(l).ok()).collect();
        let bytes = bytes.ok_or_else(|| Error::invalid("--input", "labels above 255 do not fit the layout"))?;
        let mut writer = NpyWriter::new(&into.join(LABELS), &[levels * count])?;
        (0..levels).try_for_each(|_| writer.write(&bytes))?;
        writer.finish()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}
