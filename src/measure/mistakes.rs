//! Where corruptions lead a network astray: of each kind the picture that it takes for something else with most confidence, though without
//! the corruption it knows it; and a sheet of these pictures.

use std::io::Cursor;

use image::ExtendedColorType::{L8, Rgb8};
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::corruption::{BATCH, CHUNK, constants_for, corrupt_pixels, grid};
use super::forward::{Forward, by_chunk};
use super::judge::{Judging, Network};
use super::side_by_side::limited;
use crate::corrupt::{Corruption, Kind, Severity};
use crate::data::{Images, TestImages};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{Shape, Statistics, TensorId};
use crate::nn::tensors::to_torch;
use crate::report::folder::{MISTAKES, RunFolder};
use crate::train::feed::Pick;
use crate::train::step::{StepOptions, build};
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

/// The severity at which pictures are looked for: heavy enough to mislead, light enough that one still sees what it is.
const SEVERITY: Severity = Severity::ALL[2];

/// A picture that a network gets wrong under a corruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The kind of corruption.
    pub kind: String,
    /// Its severity.
    pub severity: u8,
    /// Number of the picture among the test images.
    pub image: usize,
    /// The class that it is of.
    pub label: String,
    /// The class that the network takes it for.
    pub answer: String,
    /// How sure it is of that.
    pub probability: f64,
}

/// Under each of the 15 main kinds the picture that the network takes for another class with most confidence, of those judged test images
/// that it knows without corruption (of all, if it knows none); kinds that mislead it nowhere are left out. The pictures are those that it
/// was judged by. Waits for the device; `report` is called with the share of the work that is done.
///
/// # Errors
/// If the device has no room, and what `report` returns.
pub fn mistakes_wait(
    setting: &Setting,
    test: &TestImages,
    network: &Network,
    judging: &Judging,
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Mistake>> {
    let images = test.reveal_for_final_evaluation();
    if images.is_empty() || !matches!(images.channels, 1 | 3) {
        return Ok(vec![]);
    }
    let all: Vec<usize> = (0..limited(images.len(), judging.images)).collect();
    let asked = Asked::open(setting, network, images, all.len())?;
    let clean = asked.answers_wait(&all, &|image| Ok(images.image(image)?.into_owned()))?;
    let is_right =
        |image: &usize| clean[*image].is_some_and(|answer| answer.class == usize::from(images.labels[*image]));
    let mut among: Vec<usize> = all.iter().copied().filter(is_right).collect();
    if among.is_empty() {
        among = all;
    }
    let mut mistakes = vec![];
    let corruptions = corruptions(images);
    for (place, corruption) in corruptions.iter().enumerate() {
        let answers = asked.answers_wait(&among, &|image| corrupted(images, corruption, judging.seed, image))?;
        mistakes.extend(worst(images, &among, &answers).map(|(image, answer)| Mistake {
            kind: corruption.kind().to_string(),
            severity: corruption.severity().get(),
            image,
            label: images.class_names[usize::from(images.labels[image])].clone(),
            answer: images.class_names[answer.class].clone(),
            probability: answer.probability,
        }));
        report((place + 1) as f64 / corruptions.len() as f64)?;
    }
    Ok(mistakes)
}

/// Writes the sheet of such pictures into a run's folder, or takes away an earlier one where there are none.
///
/// # Errors
/// If a mistake is of other images, or the disk refuses.
pub fn keep_sheet(folder: &RunFolder, test: &TestImages, mistakes: &[Mistake], seed: u64) -> Result<()> {
    match sheet(test.reveal_for_final_evaluation(), mistakes, seed)? {
        Some(png) => folder.write(MISTAKES, &png),
        None => folder.remove(MISTAKES),
    }
}

/// A PNG of all of them at their own size, without margins: a column each, above as it is, below as it was corrupted. None for no pictures.
fn sheet(images: &Images, mistakes: &[Mistake], seed: u64) -> Result<Option<Vec<u8>>> {
    let corruptions = corruptions(images);
    let mut columns = vec![];
    for mistake in mistakes {
        let unknown =
            || Error::invalid(MISTAKES, format!("there is no image {} under {}", mistake.image, mistake.kind));
        let corruption = corruptions.iter().find(|own| own.kind().name() == mistake.kind).ok_or_else(unknown)?;
        if mistake.image >= images.len() {
            return Err(unknown());
        }
        let clean = images.image(mistake.image)?.into_owned();
        columns.push([clean, corrupted(images, corruption, seed, mistake.image)?]);
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let line = images.width * images.channels;
    let rows = (0..2 * images.height).map(|row| (row / images.height, row % images.height));
    let pixels = rows.flat_map(|(part, row)| columns.iter().flat_map(move |own| &own[part][row * line..][..line]));
    let pixels: Vec<u8> = pixels.copied().collect();
    let (width, height) = ((columns.len() * images.width) as u32, 2 * images.height as u32);
    let mut png = Cursor::new(vec![]);
    let colour = if images.channels == 1 { L8 } else { Rgb8 };
    let written = PngEncoder::new(&mut png).write_image(&pixels, width, height, colour);
    written.map_err(|error| Error::invalid(MISTAKES, error.to_string()))?;
    Ok(Some(png.into_inner()))
}

/// The corruptions under which pictures are looked for.
fn corruptions(images: &Images) -> Vec<Corruption> {
    grid(&Kind::MAIN, &[SEVERITY], constants_for(images), None)
}

/// A test image as it was judged.
fn corrupted(images: &Images, corruption: &Corruption, seed: u64, image: usize) -> Result<Vec<u8>> {
    let shape = [images.height, images.width, images.channels];
    corrupt_pixels(corruption, &images.image(image)?, shape, seed, image as u64)
}

/// What a network takes a picture for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    class: usize,
    probability: f64,
}

impl Answer {
    /// The first of the largest logits, with its softmax; none if one is no number.
    fn of(logits: &[f32]) -> Option<Self> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return None;
        }
        let first = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
        let class = (0..logits.len()).reduce(first)?;
        let shares = logits.iter().map(|logit| (f64::from(*logit) - f64::from(logits[class])).exp());
        Some(Answer { class, probability: 1.0 / shares.sum::<f64>() })
    }
}

/// Of these images the one whose wrong answer is the surest, the first of several.
fn worst(images: &Images, among: &[usize], answers: &[Option<Answer>]) -> Option<(usize, Answer)> {
    let given = among.iter().zip(answers).filter_map(|(&image, answer)| Some((image, (*answer)?)));
    let wrong = given.filter(|(image, answer)| answer.class != usize::from(images.labels[*image]));
    wrong.reduce(|best, own| if own.1.probability > best.1.probability { own } else { best })
}

/// A network that is asked about some pictures at a time, which are put where the data set lies.
struct Asked {
    gpu: Gpu,
    resident: Supply,
    forward: Forward,
    logits: TensorId,
    shape: Shape,
    batch: usize,
    classes: usize,
}

impl Asked {
    /// Compiles it once, for so many of `images` and any others of their size.
    fn open(setting: &Setting, network: &Network, images: &Images, most: usize) -> Result<Self> {
        let room: Vec<usize> = (0..most.min(CHUNK)).collect();
        let resident = Supply::new(setting.gpu, &images.select(&room).into_held()?)?;
        let model = network.model;
        let batch = by_chunk(BATCH, &[model]).into_keys().next().unwrap_or(1).min(room.len());
        let statistics = Statistics::Running;
        let mut step =
            build(model, &StepOptions { batch, statistics, smoothing: 0.0, update: None, gradients: false })?;
        step.probe_all();
        let own = Setting { data: &resident, ..setting.clone() };
        let (logits, shape) = (step.logits, step.graph.shape(step.logits));
        let forward = Forward::new(&own, batch, &step.graph.into(), &[network.subject()?])?;
        Ok(Asked { gpu: setting.gpu.clone(), resident, forward, logits, shape, batch, classes: model.classes() })
    }

    /// What it takes each of these images for, as `make` makes them.
    fn answers_wait(
        &self,
        images: &[usize],
        make: &(dyn Fn(usize) -> Result<Vec<u8>> + Sync),
    ) -> Result<Vec<Option<Answer>>> {
        let mut answers = vec![];
        for chunk in images.chunks(self.resident.len()) {
            let mut made: Vec<Vec<u8>> = chunk.par_iter().map(|&image| make(image)).collect::<Result<_>>()?;
            // Nobody looks at what fills the rest.
            made.resize(self.resident.len(), made.first().cloned().unwrap_or_default());
            self.resident.replace(&self.gpu, &made.concat())?;
            let places: Vec<usize> = (0..chunk.len()).collect();
            for batch in places.chunks(self.batch) {
                self.forward.submit(&batch.iter().map(|&place| Pick::plain(place)).collect::<Vec<_>>())?;
                let stored = self.forward.plan().read_all_wait(&[(0, self.logits)])?.concat();
                let logits = to_torch(self.shape, &stored);
                answers.extend(logits.chunks(self.classes).take(batch.len()).map(Answer::of));
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(channels: usize) -> Images {
        let pixels = (0..4 * 6 * 5 * channels).map(|i| (37 * i % 251) as u8).collect();
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        Images::new([6, 5, channels], names, pixels, vec![0, 1, 2, 0]).unwrap()
    }

    #[test]
    fn answers_are_shares_of_logits() {
        let answer = Answer::of(&[0.0, f32::ln(3.0), f32::ln(3.0)]).unwrap();
        assert!(answer.class == 1 && (answer.probability - 3.0 / 7.0).abs() < 1e-7, "{answer:?}");
        // Beyond the range of an exponential.
        let sure = Answer::of(&[-3e38, 3e38]).unwrap();
        assert_eq!((sure.class, sure.probability), (1, 1.0));
        assert_eq!(
            (Answer::of(&[1.0, f32::NAN]), Answer::of(&[f32::INFINITY, 0.0]), Answer::of(&[])),
            (None, None, None)
        );
    }

    #[test]
    fn the_surest_wrong_answer_is_the_worst() {
        let images = pictures(1);
        let answer = |class: usize, probability: f64| Some(Answer { class, probability });
        // What is right does not count, however sure, nor what is no answer; of two alike it is the first.
        let answers = [answer(0, 0.99), answer(2, 0.6), None, answer(1, 0.6)];
        assert_eq!(worst(&images, &[0, 1, 2, 3], &answers), Some((1, Answer { class: 2, probability: 0.6 })));
        assert_eq!(worst(&images, &[3], &[answer(2, 0.1)]), Some((3, Answer { class: 2, probability: 0.1 })));
        assert_eq!(worst(&images, &[0, 2], &[answer(0, 0.9), answer(2, 0.5)]), None);
    }

    /// Two rows of pictures side by side, at their own size and in their own colours.
    #[test]
    fn sheets_have_the_pictures_themselves() {
        let mistake = |kind: &str, image: usize| {
            let (label, answer) = ("a".to_owned(), "b".to_owned());
            Mistake { kind: kind.to_owned(), severity: 3, image, label, answer, probability: 0.5 }
        };
        let mistakes = [mistake("gaussian_noise", 2), mistake("fog", 0), mistake("contrast", 2)];
        for channels in [1, 3] {
            let images = pictures(channels);
            let png = sheet(&images, &mistakes, 7).unwrap().unwrap();
            let read = image::load_from_memory(&png).unwrap();
            assert_eq!((read.width(), read.height(), usize::from(read.color().channel_count())), (15, 12, channels));
            let corruptions = corruptions(&images);
            for (column, own) in mistakes.iter().enumerate() {
                let corruption = corruptions.iter().find(|other| other.kind().name() == own.kind).unwrap();
                assert_eq!(corruption.severity().get(), own.severity);
                let below = corrupted(&images, corruption, 7, own.image).unwrap();
                assert_ne!(below, *images.image(own.image).unwrap());
                for (row, want) in [(0, &*images.image(own.image).unwrap()), (1, &below)] {
                    let part = read.crop_imm(5 * column as u32, 6 * row, 5, 6);
                    assert_eq!(part.into_bytes(), want, "{}, {row}", own.kind);
                }
            }
            assert_eq!(sheet(&images, &[], 7).unwrap(), None);
            assert!(sheet(&images, &[mistake("fog", 4)], 7).unwrap_err().to_string().contains("no image 4 under fog"));
            assert!(sheet(&images, &[mistake("rain", 0)], 7).is_err());
        }
        assert_eq!(sheet(&pictures(2), &[], 7).unwrap(), None);
    }
}
