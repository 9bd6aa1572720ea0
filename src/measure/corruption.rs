//! Accuracy on corrupted images: corrupted on the fly, or read from a folder laid out as CIFAR-10-C is.
//!
//! Images go to the device in chunks; of each chunk one corrupted copy is made at a time, while the device works on the copy
//! before. So the memory is that of two chunks, however large the set is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use super::forward::{Forward, Score, Subject, by_chunk, graphs};
use crate::corrupt::{Constants, Corruption, Kind, Severity};
use crate::data::resize::{Filter, is_larger, resize};
use crate::data::{Images, NpyImages, read_npy_labels};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::Statistics;
use crate::nn::Model;
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

/// Images that are corrupted and evaluated at a time.
pub(super) const CHUNK: usize = 512;
/// Images in a batch of the device.
pub(super) const BATCH: usize = 64;

/// An image of 1 or 3 channels, corrupted. Grey images are corrupted as colour images of three equal channels, of which
/// the green one is kept: a mean of the three would weaken noise.
///
/// # Errors
/// If the channels are neither 1 nor 3, or the corruption refuses the size.
pub fn corrupt_pixels(
    corruption: &Corruption,
    pixels: &[u8],
    [height, width, channels]: [usize; 3],
    seed: u64,
    index: u64,
) -> Result<Vec<u8>> {
    let colour = match channels {
        1 => pixels.iter().flat_map(|&v| [v; 3]).collect(),
        3 => pixels.to_vec(),
        _ => return Err(Error::shape("corruptions", "images of 1 or 3 channels", channels)),
    };
    let image = RgbImage::from_raw(width as u32, height as u32, colour)
        .ok_or_else(|| Error::shape("corruptions", height * width * channels, pixels.len()))?;
    let out = corruption.seeded(&image, seed, index)?.into_raw();
    Ok(if channels == 1 { out.into_iter().skip(1).step_by(3).collect() } else { out })
}

/// A folder with `labels.npy` and a file per kind, each with its severities one after another.
pub struct CorruptedSet {
    folder: PathBuf,
    /// Labels of one severity.
    labels: Vec<u16>,
    shape: [usize; 3],
}

impl CorruptedSet {
    /// Opens a folder; the kinds' files are looked at when they are read.
    ///
    /// # Errors
    /// If the labels are missing, are not five equal blocks, or name no class.
    pub fn open(folder: &Path, shape: [usize; 3], classes: usize) -> Result<Self> {
        let path = folder.join("labels.npy");
        let labels = read_npy_labels(&path, classes)?;
        let count = labels.len() / 5;
        let blocks = labels.len() == 5 * count && labels.chunks_exact(count.max(1)).all(|b| b == &labels[..count]);
        if count == 0 || !blocks {
            let why = format!("{} labels are not five equal blocks, one for each severity", labels.len());
            return Err(Error::file(&path, None, why));
        }
        Ok(CorruptedSet { folder: folder.to_owned(), labels: labels[..count].to_vec(), shape })
    }

    /// Refuses a folder that lacks one of the kinds, or has one of another shape.
    ///
    /// # Errors
    /// Which file is missing or wrong.
    pub fn check(&self, kinds: &[Kind]) -> Result<()> {
        kinds.iter().try_for_each(|&kind| self.file(kind).map(|_| ()))
    }

    fn file(&self, kind: Kind) -> Result<NpyImages> {
        let path = self.folder.join(format!("{kind}.npy"));
        if !path.exists() {
            let [h, w, c] = self.shape;
            let count = 5 * self.labels.len();
            let why = format!(
                "is missing; expected uint8 of shape ({count}, {h}, {w}, {c}), the severities one after another. \
                 Leave {kind} out, or add the file"
            );
            return Err(Error::file(&path, None, why));
        }
        let file = NpyImages::open(&path)?;
        if (file.len(), file.shape()) != (5 * self.labels.len(), self.shape) {
            let why = format!("{} images of {:?}", file.len(), file.shape());
            let want = format!("; expected {} of {:?}", 5 * self.labels.len(), self.shape);
            return Err(Error::file(&path, Some(0), why + &want));
        }
        Ok(file)
    }

    /// Labels of the images of one severity.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Images `first..first + count` of a kind and severity.
    ///
    /// # Errors
    /// If the file is missing, is no such array, or ends early.
    pub fn images(&self, kind: Kind, severity: Severity, first: usize, count: usize) -> Result<Vec<u8>> {
        let file = self.file(kind)?;
        file.read(usize::from(severity.get() - 1) * self.labels.len() + first, count)
    }
}

/// Where corrupted images come from.
pub enum Origin<'a> {
    /// Made of clean ones, with draws keyed by this seed.
    Made {
        /// The corruptions, one per kind and severity.
        seed: u64,
    },
    /// Made of clean ones that were made larger before, to the size at which a network sees them, with the same constants: the protocol of
    /// FlatNAS's authors, under which blurs are milder and noise is finer than in published sets. Networks that see images at their own size, or
    /// smaller, see the same as under [`Origin::Made`].
    Resized {
        /// The seed of the draws.
        seed: u64,
    },
    /// Read from a folder.
    Folder(&'a CorruptedSet),
}

impl Origin<'_> {
    /// The size at which images are corrupted that a network sees at `input`, where it is not their own.
    pub(super) fn corrupted_at(&self, images: &Images, [rows, columns, _]: [usize; 3]) -> Option<[usize; 2]> {
        let larger = is_larger([rows, columns], [images.height, images.width]);
        (matches!(self, Origin::Resized { .. }) && larger).then_some([rows, columns])
    }
}

/// Scores of some subjects on clean images and under each corruption.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// On the images as they are.
    pub clean: Vec<Score>,
    /// Under each corruption, in the order asked for; one score per subject.
    pub corrupted: Vec<Vec<Score>>,
}

/// Evaluates networks on `images` and on their corrupted copies.
///
/// `report` is called with the number of evaluated chunks and their total; an error that it returns ends the run.
///
/// # Errors
/// If images cannot be made or read, or the device fails.
pub fn evaluate_wait(
    setting: &Setting,
    networks: &[(&dyn Model, Subject)],
    images: &Images,
    corruptions: &[Corruption],
    origin: &Origin<'_>,
    report: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Scores> {
    if images.is_empty() {
        return Err(Error::invalid("images", "there are none to evaluate on"));
    }
    let models: Vec<&dyn Model> = networks.iter().map(|(model, _)| *model).collect();
    let mut groups = vec![];
    for (batch, places) in by_chunk(BATCH, &models) {
        let mut sizes: BTreeMap<Option<[usize; 2]>, Vec<usize>> = BTreeMap::new();
        for place in places {
            sizes.entry(origin.corrupted_at(images, models[place].input())).or_default().push(place);
        }
        groups.extend(sizes.into_iter().map(|(size, places)| Group { batch, size, places }));
    }
    let none = || vec![Score::default(); networks.len()];
    let mut all = Scores { clean: none(), corrupted: vec![none(); corruptions.len()] };
    for (number, group) in groups.iter().enumerate() {
        let own: Vec<_> = group.places.iter().map(|&place| networks[place].clone()).collect();
        let mut report = |done: usize, total: usize| report(number * total + done, groups.len() * total);
        let scores = evaluate_group_wait(setting, &own, group, images, corruptions, origin, &mut report)?;
        for (list, own) in all.corrupted.iter_mut().zip(scores.corrupted).chain([(&mut all.clean, scores.clean)]) {
            group.places.iter().zip(own).for_each(|(&place, score)| list[place] = score);
        }
    }
    Ok(all)
}

/// Networks that are evaluated on as many images at once.
struct Group {
    batch: usize,
    /// The size at which images are corrupted, where it is not their own.
    size: Option<[usize; 2]>,
    /// Numbers of the networks.
    places: Vec<usize>,
}

/// The same of the networks of a group.
fn evaluate_group_wait(
    setting: &Setting,
    networks: &[(&dyn Model, Subject)],
    &Group { batch, size, .. }: &Group,
    images: &Images,
    corruptions: &[Corruption],
    origin: &Origin<'_>,
    report: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Scores> {
    let gpu: &Gpu = setting.gpu;
    let [height, width] = size.unwrap_or([images.height, images.width]);
    let shape = [height, width, images.channels];
    let (models, subjects): (Vec<&dyn Model>, Vec<Subject>) = networks.iter().cloned().unzip();
    let batch = batch.min(images.len());
    let passes = graphs(&models, batch, Statistics::Running)?;
    let mut sums = vec![vec![[0.0f64; 2]; subjects.len()]; corruptions.len() + 1];
    let total = images.len().div_ceil(CHUNK) * (corruptions.len() + 1);
    let mut done = 0;
    for first in (0..images.len()).step_by(CHUNK) {
        let indices: Vec<usize> = (first..images.len().min(first + CHUNK)).collect();
        let chunk = images.select(&indices).into_held()?;
        let chunk = match size {
            Some(size) => resized(chunk, size)?,
            None => chunk,
        };
        let resident = Supply::new(gpu, &chunk)?;
        let setting = Setting { data: &resident, ..setting.clone() };
        let forward = Forward::of(&setting, batch, &passes, &subjects)?;
        let all: Vec<usize> = (0..chunk.len()).collect();
        let make = |job: usize| -> Result<Option<Vec<u8>>> {
            let Some(corruption) = job.checked_sub(1).and_then(|j| corruptions.get(j)) else { return Ok(None) };
            match origin {
                Origin::Folder(set) => {
                    set.images(corruption.kind(), corruption.severity(), first, chunk.len()).map(Some)
                }
                Origin::Made { seed } | Origin::Resized { seed } => {
                    let one =
                        |i: &usize| corrupt_pixels(corruption, &chunk.image(*i)?, shape, *seed, (first + i) as u64);
                    let parts: Vec<Vec<u8>> = all.par_iter().map(one).collect::<Result<_>>()?;
                    Ok(Some(parts.concat()))
                }
            }
        };
        let mut next: Result<Option<Vec<u8>>> = Ok(None);
        for (job, sums) in sums.iter_mut().enumerate() {
            if let Some(pixels) = std::mem::replace(&mut next, Ok(None))? {
                resident.replace(gpu, &pixels)?;
            }
            // The device works on this copy while the next one is made.
            let (scores, made) = rayon::join(|| forward.evaluate_wait(&all), || make(job + 1));
            next = made;
            for (sum, score) in sums.iter_mut().zip(scores?) {
                sum[0] += score.loss * chunk.len() as f64;
                sum[1] += score.accuracy * chunk.len() as f64;
            }
            done += 1;
            report(done, total)?;
        }
    }
    let count = images.len() as f64;
    let mut scores = sums.into_iter().map(|list| {
        list.into_iter().map(|[loss, accuracy]| Score { loss: loss / count, accuracy: accuracy / count }).collect()
    });
    Ok(Scores { clean: scores.next().unwrap_or_default(), corrupted: scores.collect() })
}

/// Images at another size, as networks see them.
fn resized(images: Images, [height, width]: [usize; 2]) -> Result<Images> {
    let own = [images.height, images.width, images.channels];
    let one = |number: usize| resize(&images.image(number)?, own, [height, width], Filter::default());
    let parts: Vec<Vec<u8>> = (0..images.len()).into_par_iter().map(one).collect::<Result<_>>()?;
    Images::new([height, width, images.channels], images.class_names, parts.concat(), images.labels)
}

/// Corruption error of a kind over that of a baseline: `sum_s E / sum_s E_base`, and with clean errors the relative one,
/// `sum_s (E - E_clean) / sum_s (E_base - E_base,clean)`; the mean over kinds is mCE (Hendrycks and Dietterich 2019,
/// section 4.2). Errors are shares.
pub fn corruption_error(errors: &[f64], baseline: &[f64], clean: Option<(f64, f64)>) -> f64 {
    let (own, base) = clean.unwrap_or((0.0, 0.0));
    errors.iter().map(|e| e - own).sum::<f64>() / baseline.iter().map(|e| e - base).sum::<f64>()
}

/// The constants for images of a set: those of photographs for sides of more than 64 pixels.
pub(super) fn constants_for(images: &Images) -> Constants {
    if images.height.max(images.width) <= 64 { Constants::Cifar } else { Constants::ImageNet }
}

/// All corruptions of the kinds and severities, kind by kind.
pub fn grid(
    kinds: &[Kind],
    severities: &[Severity],
    constants: Constants,
    frost: Option<&Arc<crate::corrupt::Frost>>,
) -> Vec<Corruption> {
    let one = |kind: Kind, severity: Severity| {
        let corruption = Corruption::new(kind, severity, constants);
        match frost {
            Some(frost) => corruption.with_frost(frost.clone()),
            None => corruption,
        }
    };
    kinds.iter().flat_map(|&kind| severities.iter().map(move |&severity| one(kind, severity))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_images_keep_the_green_channel() {
        let pixels: Vec<u8> = (0..48).map(|i| (5 * i) as u8).collect();
        let colour = RgbImage::from_fn(8, 6, |x, y| image::Rgb([pixels[(8 * y + x) as usize]; 3]));
        for kind in [Kind::GaussianNoise, Kind::Spatter, Kind::Frost] {
            let corruption = Corruption::new(kind, Severity::ALL[4], Constants::Cifar);
            let want: Vec<u8> = corruption.seeded(&colour, 3, 9).unwrap().pixels().map(|p| p.0[1]).collect();
            assert_eq!(corrupt_pixels(&corruption, &pixels, [6, 8, 1], 3, 9).unwrap(), want, "{kind}");
        }
        let fog = Corruption::new(Kind::Fog, Severity::ALL[0], Constants::Cifar);
        assert!(corrupt_pixels(&fog, &[0; 96], [6, 8, 2], 3, 9).is_err());
        assert!(corrupt_pixels(&fog, &[0; 47], [6, 8, 1], 3, 9).is_err());
    }

    #[test]
    fn corruption_errors_by_hand() {
        let (own, base) = ([0.2, 0.4], [0.5, 0.7]);
        assert!((corruption_error(&own, &base, None) - 0.6 / 1.2).abs() < 1e-12);
        // (0.1 + 0.3) / (0.3 + 0.5)
        assert!((corruption_error(&own, &base, Some((0.1, 0.2))) - 0.5).abs() < 1e-12);
    }
}
