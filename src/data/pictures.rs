//! Pictures in files that are images of one shape, decoded whenever they are asked for: sets of more pixels than memory may hold.
//!
//! When a set is read, each picture is decoded once, which shows whether it can be; a checksum tells later if a
//! file was changed meanwhile. What was decoded stays in memory as long as there is room, whichever came first; pixels are the same
//! either way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::decode::Headed;
use super::histogram::Histograms;
use super::reading::Fit;
use super::resize::{Filter, Window, resize_window};
use super::{RandomCrop, picture};
use crate::error::{Error, Result};

/// Bytes of decoded pictures that may still be kept, over all parts of a set.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<AtomicU64>);

impl Room {
    /// For so many bytes.
    pub fn new(bytes: u64) -> Self {
        Room(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes some of it, if there is as much.
    fn take(&self, bytes: usize) -> bool {
        let less = |room: u64| room.checked_sub(bytes as u64);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A picture of the set.
struct Picture {
    file: Headed,
    /// XXH3 of its file.
    sum: u64,
    kept: OnceLock<Box<[u8]>>,
}

/// What was found of a picture when it was decoded first.
pub(super) struct Seen {
    sum: u64,
    kept: Option<Box<[u8]>>,
}

/// How pictures become images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making {
    /// Rows, columns and channels.
    pub shape: [usize; 3],
    /// How they are brought to one size, if they are.
    pub fit: Option<Fit>,
    /// Which parts of them training sees instead of the middle.
    pub random: Option<RandomCrop>,
}

impl Making {
    /// The image of a picture, or of a part of it, with the XXH3 of its file.
    ///
    /// # Errors
    /// If it cannot be decoded, or is not what it was when its head was read.
    pub fn image(&self, headed: &Headed, part: Option<Window>) -> Result<(Vec<u8>, u64)> {
        let path = headed.path();
        let (decoded, sum) = picture::decode(path, &super::decode::CAPS)?;
        let sides = headed.sides();
        if [decoded.height() as usize, decoded.width() as usize] != sides {
            return Err(changed(headed));
        }
        let [rows, columns, channels] = self.shape;
        let bytes = if channels == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
        let shape = [sides[0], sides[1], channels];
        if let Some(part) = part {
            let bytes = cut_out(&bytes, shape, part)
                .ok_or_else(|| Error::shape("part", format!("within {sides:?}"), format!("{part:?}")))?;
            let (to, [height, width]) = ([rows, columns], part.sides);
            let whole = Window { at: [0, 0], sides: to };
            return Ok((resize_window(&bytes, [height, width, channels], to, whole, Filter::Bilinear)?, sum));
        }
        match self.fit.map(|fit| fit.of(sides)) {
            None => Ok((bytes, sum)),
            Some((to, window)) => Ok((resize_window(&bytes, shape, to, window, Filter::Bilinear)?, sum)),
        }
    }

    /// Decodes a picture for the first time; its pixels go to `count`, and are kept where there is `room` for them.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn look(&self, headed: &Headed, room: Option<&Room>, count: impl FnOnce(&Histograms)) -> Result<Seen> {
        let (pixels, sum) = self.image(headed, None)?;
        count(&Histograms::of(self.shape[2], &pixels));
        let kept = room.is_some_and(|room| room.take(pixels.len())).then(|| pixels.into_boxed_slice());
        Ok(Seen { sum, kept })
    }
}

fn changed(headed: &Headed) -> Error {
    Error::file(headed.path(), None, "changed since the data were read; put it back, or begin again")
}

/// The pixels of a part; none if it reaches beyond the picture.
fn cut_out(bytes: &[u8], [height, width, channels]: [usize; 3], part: Window) -> Option<Vec<u8>> {
    let ([top, left], [rows, columns]) = (part.at, part.sides);
    if top + rows > height || left + columns > width {
        return None;
    }
    let row = |row: usize| &bytes[(row * width + left) * channels..][..columns * channels];
    Some((top..top + rows).flat_map(row).copied().collect())
}

/// Pictures in the order of the set.
pub(super) struct Pictures {
    making: Making,
    list: Vec<Picture>,
    room: Room,
    histograms: Histograms,
}

impl Pictures {
    /// Of pictures that were decoded once.
    pub fn new(making: Making, list: Vec<(Headed, Seen)>, room: Room, histograms: Histograms) -> Self {
        let picture = |(file, seen): (Headed, Seen)| {
            let kept = seen.kept.map_or_else(OnceLock::new, OnceLock::from);
            Picture { file, sum: seen.sum, kept }
        };
        Pictures { making, list: list.into_iter().map(picture).collect(), room, histograms }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// What values all of them have.
    pub fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    /// Where they lie, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.list.iter().map(|picture| picture.file.path().to_owned()).collect()
    }

    /// The pixels of one, HWC, if they are in memory.
    pub fn kept(&self, index: usize) -> Option<&[u8]> {
        self.list[index].kept.get().map(|pixels| &**pixels)
    }

    /// Decodes one. As with a slice, `index` must be below [`len`](Self::len).
    ///
    /// # Errors
    /// If it cannot be decoded any more, or is another one now.
    pub fn decode(&self, index: usize) -> Result<Vec<u8>> {
        let (picture, pixels) = (&self.list[index], self.checked(index, None)?);
        if picture.kept.get().is_none() && self.room.take(pixels.len()) {
            // Another thread may have been faster, with the same.
            let _ = picture.kept.set(pixels.clone().into_boxed_slice());
        }
        Ok(pixels)
    }

    /// Decodes a part of one.
    ///
    /// # Errors
    /// As [`Pictures::decode`], or if the picture has no such part.
    pub fn decode_part(&self, index: usize, part: Window) -> Result<Vec<u8>> {
        self.checked(index, Some(part))
    }

    fn checked(&self, index: usize, part: Option<Window>) -> Result<Vec<u8>> {
        let picture = &self.list[index];
        let (pixels, sum) = self.making.image(&picture.file, part)?;
        if sum == picture.sum { Ok(pixels) } else { Err(changed(&picture.file)) }
    }

    /// The part that training sees of one, if it is not the middle.
    pub fn random_part(&self, index: usize, seed: u64, key: u64) -> Option<Window> {
        self.making.random.map(|random| random.draw(self.list[index].file.sides(), seed, key))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::{Rgb, RgbImage};

    use super::super::resize::tests::{digest, picture};
    use super::super::{Dataset, Handling, Images, Reading, load_with};
    use super::*;

    /// Forty pictures of many sizes in two classes, one of which is damaged behind its head.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..40u32 {
            let ending = if i % 3 == 0 { "jpg" } else { "png" };
            let path = dir.path().join(format!("{}/{i}.{ending}", ["cats", "dogs"][i as usize % 2]));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let pixel = |x: u32, y: u32| Rgb([(7 * x + i) as u8, (5 * y) as u8, (x * y + 3 * i) as u8]);
            RgbImage::from_fn(20 + i, 50 - i, pixel).save(&path).unwrap();
            if i == 10 {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes.truncate(bytes.len() / 2);
                std::fs::write(&path, bytes).unwrap();
            }
        }
        dir
    }

    fn read(root: &Path, memory: Option<u64>, random_crop: Option<f64>) -> Dataset {
        let handling = Handling { memory, ..Handling::default() };
        let reading = Reading { crop: Some(13), random_crop, handling, ..Reading::default() };
        load_with(root.to_str().unwrap(), &reading).unwrap()
    }

    fn bytes(images: &Images) -> Vec<u8> {
        (0..images.len()).flat_map(|i| images.image(i).unwrap().into_owned()).collect()
    }

    #[test]
    fn sets_in_files_are_those_in_memory() {
        let dir = folder();
        let held = read(dir.path(), None, None);
        assert!(held.train.held().is_some() && held.unreadable.len() == 1);
        // Nothing is kept, some pictures are, all but one byte fits, and parts are random.
        let all = 39 * 13 * 13 * 3;
        for (memory, random, kept) in [(0, None, 0), (8 * 507, None, 4), (all - 1, None, 19), (1 << 20, Some(0.5), 0)] {
            // Half of the memory is for what is kept; where parts are random, it is test images alone.
            let filed = read(dir.path(), Some(memory), random);
            let kept = if random.is_some() { filed.test.len() } else { kept };
            let parts = [&held, &filed].map(|set| [set.train.clone(), set.test.reveal_for_final_evaluation().clone()]);
            let at_hand = parts[1].iter().map(|part| (0..part.len()).filter(|&i| part.at_hand(i).is_some()).count());
            let at_hand: usize = at_hand.sum();
            // Test images are seen as they are.
            for ((held, filed), random) in parts[0].iter().zip(&parts[1]).zip([random, None]) {
                assert!(filed.held().is_none() && filed.labels == held.labels);
                assert_eq!(bytes(filed), held.held().unwrap());
                assert_eq!(filed.channel_statistics().unwrap(), held.channel_statistics().unwrap());
                let some = [5, 0, 3, 3];
                let (held, filed) = (held.select(&some), filed.select(&some));
                assert_eq!(filed.channel_statistics().unwrap(), held.channel_statistics().unwrap());
                assert_eq!((filed.random_part(0, 1, 2).is_some(), held.random_part(0, 1, 2)), (random.is_some(), None));
                assert_eq!(filed.into_held().unwrap(), held);
            }
            assert_eq!(at_hand, kept, "{memory}");
            assert_eq!((&filed.unreadable, &filed.files, &filed.notes), (&held.unreadable, &held.files, &held.notes));
            assert_eq!(filed.identity().unwrap(), held.identity().unwrap());
        }
    }

    #[test]
    fn pictures_that_change_are_refused() {
        let dir = folder();
        let set = read(dir.path(), Some(0), None);
        let image = (0..set.train.len()).find(|&i| set.train.labels[i] == 0).unwrap();
        let whole = |path: &&PathBuf| !path.ends_with("10.png");
        let path =
            set.files.iter().filter(whole).find(|path| read_of(path) == *set.train.image(image).unwrap()).unwrap();
        let whole = std::fs::read(path).unwrap();
        let (width, height) = image::image_dimensions(path).unwrap();
        let other = |width: u32, height: u32| {
            RgbImage::from_pixel(width, height, Rgb([9, 8, 7])).save(path).unwrap();
            set.train.image(image).unwrap_err().to_string()
        };
        assert!(other(width, height).contains("changed since the data were read"));
        assert!(other(width + 1, height).contains("changed since the data were read"));
        other(width, height);
        let part = Window { at: [0, 0], sides: [3, 3] };
        assert!(set.train.part(image, part).unwrap_err().to_string().contains("changed since the data were read"));
        std::fs::remove_file(path).unwrap();
        assert!(set.train.image(image).unwrap_err().to_string().contains("cannot read"));
        assert!(set.train.clone().into_held().is_err() && set.train.walk(&mut |_| ()).is_err());
        std::fs::write(path, whole).unwrap();
        assert!(set.train.image(image).is_ok());
    }

    /// The image that a set makes of a file.
    fn read_of(path: &Path) -> Vec<u8> {
        let making = Making {
            shape: [13, 13, 3],
            fit: Reading { crop: Some(13), ..Reading::default() }.fit().unwrap(),
            random: None,
        };
        let kind = picture::kind_of(path, &super::super::decode::CAPS).unwrap();
        making.image(&Headed::new((path.to_owned(), 0), kind), None).unwrap().0
    }

    #[test]
    fn parts_are_pillow_s() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/pictures/pictures.json")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cases = golden["parts"].as_array().unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let source = [0, 1, 2].map(|axis| number(&case["source"][axis]));
            let [top, left, rows, columns] = [0, 1, 2, 3].map(|place| number(&case["part"][place]));
            let path = dir.path().join("a.png");
            let colour = if source[2] == 1 { image::ColorType::L8 } else { image::ColorType::Rgb8 };
            image::save_buffer(&path, &picture(source), source[1] as u32, source[0] as u32, colour).unwrap();
            let side = number(&case["side"]);
            let making = Making { shape: [side, side, source[2]], fit: None, random: None };
            let kind = picture::kind_of(&path, &super::super::decode::CAPS).unwrap();
            let headed = Headed::new((path, 0), kind);
            let made = making.image(&headed, Some(Window { at: [top, left], sides: [rows, columns] })).unwrap().0;
            let first: Vec<usize> = made.iter().take(12).map(|&byte| byte.into()).collect();
            let want: Vec<usize> = case["first"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(first, want, "{case}");
            assert_eq!(format!("{:016x}", digest(&made)), case["digest"].as_str().unwrap(), "{case}");
            let beyond = Window { at: [top, left], sides: [source[0] - top + 1, columns] };
            assert!(making.image(&headed, Some(beyond)).is_err());
        }
    }
}
