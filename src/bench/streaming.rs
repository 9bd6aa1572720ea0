//! An epoch whose pictures are decoded ahead of the device, against one of the same images on the device and decoding alone. Weights after
//! an epoch are compared in the same run.

use std::path::Path;

use image::{Rgb, RgbImage};

use super::Spread;
use super::suites::{Line, Sink, Suites};
use crate::data::{Handling, Images, Reading, TemporaryFolder, load_with};
use crate::error::{Error, Result};
use crate::nn::nas_bench_201::Network;
use crate::report::statistics::median;
use crate::space::nas_bench_201::Macro;
use crate::train::step::Optimizer;
use crate::train::supply::Supply;
use crate::train::trainer::{Recipe, Setting, Trainer};

/// Pictures in a class.
const EACH: usize = 128;
const BATCH: usize = 32;
/// Side of the images that they become.
const SIDE: usize = 32;
const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

/// JPEGs of mixed sizes, as the web has them, in two classes.
fn write_pictures() -> Result<TemporaryFolder> {
    let folder = TemporaryFolder::new("streaming")?;
    for number in 0..2 * EACH {
        let class = folder.path().join(["a", "b"][number % 2]);
        std::fs::create_dir_all(&class).map_err(Error::io("create", &class))?;
        let (width, height) = (480 + 7 * (number % 23) as u32, 400 + 9 * (number % 19) as u32);
        let pixel = |x: u32, y: u32| Rgb([(x / 2 + number as u32) as u8, (y + x * y / 99) as u8, (3 * y / 4) as u8]);
        let path = class.join(format!("{number}.jpg"));
        let saved = RgbImage::from_fn(width, height, pixel).save(&path);
        saved.map_err(|error| Error::file(&path, None, format!("cannot write: {error}")))?;
    }
    Ok(folder)
}

/// The training images, in memory or as files of which nothing is kept.
fn images(folder: &Path, memory: Option<u64>) -> Result<Images> {
    let handling = Handling { strict: true, memory, ..Handling::default() };
    let reading = Reading { crop: Some(SIDE), test_share: Some(0.01), handling, ..Reading::default() };
    Ok(load_with(&folder.to_string_lossy(), &reading)?.train)
}

impl Suites<'_> {
    /// Decoding alone, and epochs with and without it.
    ///
    /// # Errors
    /// If the disk or the device fails, or weights differ.
    pub fn streaming(&self, sink: &mut Sink) -> Result<bool> {
        let folder = write_pictures()?;
        let parts = [images(folder.path(), None)?, images(folder.path(), Some(0))?];
        let (statistics, indices) = (parts[0].channel_statistics()?, (0..parts[0].len()).collect::<Vec<_>>());
        let sizes = Macro { channels: 4, cells: 1, in_channels: 3, height: SIDE, width: SIDE, classes: 2 };
        let model = Network::new(ARCH.parse()?, sizes);
        let recipe = Recipe { batch: BATCH, ..Recipe::usual(Optimizer::Sgd, 100_000, SIDE) };
        let supplies = [Supply::new(self.gpu, &parts[0])?, Supply::new(self.gpu, &parts[1])?];
        let mut trainers = vec![];
        for data in &supplies {
            let setting = Setting { gpu: self.gpu, preset: self.preset, data, statistics: &statistics };
            trainers.push(Trainer::new(setting, &model, &recipe, &indices, &[7], &[])?);
        }
        let epoch = |trainer: &mut Trainer| (0..trainer.steps_per_epoch()).try_for_each(|_| trainer.submit_step());
        trainers.iter_mut().try_for_each(epoch)?;
        if trainers[0].weights_wait(0)? != trainers[1].weights_wait(0)? {
            return Err(self.differ("streamed images with those on the device"));
        }
        let times = self.turns(3, &mut |which| match which.checked_sub(1) {
            None => parts[1].walk(&mut |_| ()),
            Some(place) => epoch(&mut trainers[place]),
        })?;
        let together: Vec<f64> =
            times[0].iter().zip(&times[1]).map(|(decoding, resident)| decoding + resident).collect();
        let ratio = median(&times[2].iter().zip(&together).map(|(streamed, both)| streamed / both).collect::<Vec<_>>());
        let names = ["decoding", "epoch of images on the device", "epoch of streamed images / of both together"];
        let mut go = true;
        for ((name, times), ratio) in names.into_iter().zip(times).zip([None, None, ratio]) {
            let shape = format!("{} JPEGs of mixed sizes, {SIDE}x{SIDE}, 4 channels, batch {BATCH}", indices.len());
            let time = Spread::of(times);
            go = sink(Line { suite: "streaming", name: name.into(), shape, time, device: None, check: vec![], ratio })?;
        }
        Ok(go)
    }
}
